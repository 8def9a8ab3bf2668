package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/credential"
	"reeve.dev/reeve/alert/rpc"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/store/postgres/postgrestest"
)

var full = flag.Bool("full", false, "100,000 alerts over 1,000 keys, and 20 hubs killed")

// ledger is what a sink took.
type ledger struct {
	mu      sync.Mutex
	changed *sync.Cond
	last    map[string]int    // guarded by mu; by repo
	failed  map[string]int    // guarded by mu; by repo and number
	ids     map[string]string // guarded by mu; of repo and number
	ofIDs   map[string]string // guarded by mu; the other way round
	n       int               // guarded by mu; without repetitions
	again   int               // guarded by mu
	wrong   []string          // guarded by mu
}

func newLedger() *ledger {
	l := &ledger{last: map[string]int{}, failed: map[string]int{}, ids: map[string]string{}, ofIDs: map[string]string{}}
	l.changed = sync.NewCond(&l.mu)
	return l
}

func (l *ledger) take(r rpc.Received) {
	l.mu.Lock()
	defer l.mu.Unlock()
	repo := r.Outcome.Subject.Repo
	number, err := strconv.Atoi(r.Outcome.Details)
	key := repo + " " + r.Outcome.Details
	switch last := l.last[repo]; {
	case err != nil || number > last+1 || number < last:
		l.wrong = append(l.wrong, fmt.Sprintf("%s: %q came after %d", repo, r.Outcome.Details, last))
	case number == last && l.ids[key] != string(r.ID):
		l.wrong = append(l.wrong, fmt.Sprintf("%s: %d came again with another id", repo, number))
	case number == last:
		l.again++
	case l.ofIDs[string(r.ID)] != "":
		l.wrong = append(l.wrong, fmt.Sprintf("%s: %d has the id of %s", repo, number, l.ofIDs[string(r.ID)]))
	case r.Seq != int64(number):
		l.wrong = append(l.wrong, fmt.Sprintf("%s: %d has seq %d", repo, number, r.Seq))
	default:
		l.last[repo], l.ids[key], l.ofIDs[string(r.ID)] = number, string(r.ID), key
		l.n++
	}
	l.changed.Broadcast()
}

// mayFail reports whether an alert may fail once more: one that always did
// would be waited for for an hour.
func (l *ledger) mayFail(r rpc.Received) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := r.Outcome.Subject.Repo + " " + r.Outcome.Details
	l.failed[key]++
	return l.failed[key] < 5
}

// reach waits until the ledger has n alerts, or the test's end.
func (l *ledger) reach(ctx context.Context, n int) {
	stop := context.AfterFunc(ctx, func() { l.mu.Lock(); defer l.mu.Unlock(); l.changed.Broadcast() })
	defer stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.n < n && ctx.Err() == nil {
		l.changed.Wait()
	}
}

// serve is a sink that fails a third of the calls, some of them after it took
// the alert, and leaves some without an answer.
func (l *ledger) serve(t *testing.T, ca *pki.CA, addr string) (string, *grpc.Server) {
	t.Helper()
	conf, err := ca.ServerTLS(nil)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(conf)))
	rpc.Register(s, func(ctx context.Context, r rpc.Received) error {
		switch dice := rand.N(3000); {
		case dice == 0:
			<-ctx.Done()
			return ctx.Err()
		case dice < 500 && l.mayFail(r):
			return status.Error(codes.Unavailable, "not now")
		case dice < 1000 && l.mayFail(r):
			l.take(r)
			return status.Error(codes.Internal, "taken, but you don't learn of it")
		}
		l.take(r)
		return nil
	})
	go s.Serve(listener)
	t.Cleanup(s.Stop)
	return listener.Addr().String(), s
}

// startHub starts a hub as a process, and answers its API's address.
func startHub(t *testing.T, config string) (*process, string) {
	t.Helper()
	cmd, log := startProcess(t, nil, "hub", "--config", config)
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var said struct{ Msg, API string }
		if json.Unmarshal(lines.Bytes(), &said) == nil && said.Msg == "hub is up" {
			go io.Copy(io.Discard, log)
			return &process{Cmd: cmd}, said.API
		}
		t.Log(lines.Text())
	}
	t.Fatal("the hub didn't come up")
	return nil, ""
}

// Alerts are fed to a hub as to an AlertSink, and go on to a sink that fails,
// hangs, and is killed and restarted, while the hub is killed again and again:
// each arrives, in the order of its key, and repetitions have the same id.
func TestOutbox_losesNothing(t *testing.T) {
	for name, database := range map[string]func(t *testing.T) string{
		"sqlite":   func(*testing.T) string { return "" },
		"postgres": func(t *testing.T) string { return postgrestest.Start(t).URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			losesNothing(t, database(t))
		})
	}
}

func losesNothing(t *testing.T, database string) {
	keys, each, kills, feeders, most := 300, 10, 3, 16, 9*time.Minute
	if *full {
		keys, each, kills, feeders, most = 1000, 100, 20, 64, 25*time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	dir := t.TempDir()
	ca, err := pki.Init(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	got := newLedger()
	sinkAddr, sink := got.serve(t, ca, "127.0.0.1:0")
	config := filepath.Join(dir, "hub.yaml")
	configure := func(api string) {
		t.Helper()
		settings := map[string]any{
			"dataDir": filepath.Join(dir, "data"), "caDir": filepath.Join(dir, "ca"), "log": map[string]string{"format": "json"},
			"listen": map[string]string{"api": api, "services": "127.0.0.1:0", "metrics": "127.0.0.1:0", "replicas": "127.0.0.1:0"},
			"sinks":  []map[string]any{{"name": "grpc", "type": "rpc", "endpoint": sinkAddr, "caFile": filepath.Join(dir, "ca", "ca.pem"), "concurrency": 64}},
		}
		if database != "" {
			settings["database"], settings["documents"] = map[string]any{"url": database}, map[string]any{"dir": filepath.Join(dir, "documents")}
		}
		text, err := json.Marshal(settings)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(config, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure("127.0.0.1:0")
	hub, api := startHub(t, config)
	configure(api)

	feed, err := rpc.New(rpc.Config{Endpoint: api, TLS: credential.TLS{
		CAFile: filepath.Join(dir, "ca", "ca.pem"), CertFile: filepath.Join(dir, "ca", "control.pem"), KeyFile: filepath.Join(dir, "ca", "control-key.pem"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	var feeding sync.WaitGroup
	for f := range feeders {
		feeding.Go(func() {
			for n := 1; n <= each; n++ {
				for k := f; k < keys; k += feeders {
					repo := fmt.Sprint("repo-", k)
					a := alert.Alert{ID: alert.ID(fmt.Sprint(repo, "-", n)), Outcome: fleet.Outcome{
						Subject: fleet.Subject{Owner: "acme", Repo: repo}, Policy: "p", Details: strconv.Itoa(n),
					}}
					for tries := 0; ctx.Err() == nil; tries++ { // while no hub is up
						err := feed.Deliver(ctx, a)
						if err == nil {
							break
						}
						if tries == 0 && !strings.HasPrefix(err.Error(), "Unavailable") {
							t.Logf("fed again: %v", err)
						}
						select {
						case <-time.After(20 * time.Millisecond):
						case <-ctx.Done():
						}
					}
				}
			}
		})
	}
	total := keys * each
	steps := 2 * (kills + 1)
	for i := 1; i < steps; i++ {
		got.reach(ctx, total*i/steps)
		if i%2 == 0 {
			sink.Stop()
			_, sink = got.serve(t, ca, sinkAddr)
			continue
		}
		if err := hub.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		hub.Wait()
		hub, _ = startHub(t, config)
	}
	feeding.Wait()
	got.reach(ctx, total)
	got.mu.Lock()
	defer got.mu.Unlock()
	if got.n != total || len(got.wrong) > 0 {
		t.Errorf("%d of %d arrived; %d out of order: %.10q", got.n, total, len(got.wrong), got.wrong)
	}
	t.Logf("%d alerts over %d keys, %d of them repeated", got.n, keys, got.again)
}
