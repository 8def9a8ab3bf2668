package alert_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/credential"
	"reeve.dev/reeve/alert/rpc"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
	"reeve.dev/reeve/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func open(t testing.TB, path string) *store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fresh(t testing.TB) *store.Store {
	t.Helper()
	s := open(t, filepath.Join(t.TempDir(), "reeve.db"))
	t.Cleanup(func() { s.Close() })
	return s
}

func outcome(run, repo string) fleet.Outcome {
	return fleet.Outcome{Subject: fleet.Subject{Owner: "acme", Repo: repo}, Policy: "base", Run: run, Details: run, At: time.Now()}
}

// enqueue puts n outcomes, r0 to rN, for each of the repos into the outbox.
func enqueue(t testing.TB, s *store.Store, n int, repos, sinks []string) {
	t.Helper()
	var all []fleet.Outcome
	for i := range n {
		for _, repo := range repos {
			all = append(all, outcome(fmt.Sprintf("r%d", i), repo))
		}
	}
	storetest.Outcomes(t, s, all, sinks, nil)
}

// start runs a worker and returns what stops it and waits for its end.
func start(t testing.TB, cfg alert.Config) (stop func()) {
	t.Helper()
	cfg.Holder, cfg.Logger = "hub", quiet
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := alert.NewWorker(cfg).Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	t.Cleanup(stop)
	return stop
}

// receiver is a real AlertSink on loopback.
type receiver struct {
	addr string
	stop func()
}

func listen(t testing.TB, ca *pki.CA, addr string, handle func(context.Context, rpc.Received) error) *receiver {
	t.Helper()
	cfg, err := ca.ServerTLS(nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(cfg)))
	rpc.Register(s, handle)
	var done sync.WaitGroup
	done.Go(func() { _ = s.Serve(l) })
	r := &receiver{addr: l.Addr().String(), stop: sync.OnceFunc(func() { s.Stop(); done.Wait() })}
	t.Cleanup(r.stop)
	return r
}

func newCA(t testing.TB) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func sinkAt(t testing.TB, ca *pki.CA, addr string) *rpc.Sink {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, ca.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := rpc.New(rpc.Config{Endpoint: addr, TLS: credential.TLS{CAFile: file}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// ledger is what a receiver took, by repo in the order of arrival.
type ledger struct {
	mu   sync.Mutex
	took map[string][]alert.ID // guarded by mu
	seqs map[string][]int64    // guarded by mu
	n    int                   // guarded by mu; without repetitions
	want int
	all  chan struct{} // closed when n is want
}

func newLedger(want int) *ledger {
	return &ledger{took: map[string][]alert.ID{}, seqs: map[string][]int64{}, want: want, all: make(chan struct{})}
}

func (l *ledger) take(r rpc.Received) {
	l.mu.Lock()
	defer l.mu.Unlock()
	repo := r.Outcome.Subject.Repo
	if n := len(l.took[repo]); n == 0 || l.took[repo][n-1] != r.ID {
		if l.n++; l.n == l.want {
			close(l.all)
		}
	}
	l.took[repo] = append(l.took[repo], r.ID)
	l.seqs[repo] = append(l.seqs[repo], r.Seq)
}

func wait(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: not within 30 s", what)
	}
}

func TestWorker_keepsTheOrderOfEachKey(t *testing.T) {
	const keys, each = 20, 15
	s := fresh(t)
	var repos []string
	for i := range keys {
		repos = append(repos, fmt.Sprintf("repo-%02d", i))
	}
	got := newLedger(keys * each)
	ca := newCA(t)
	recv := listen(t, ca, "127.0.0.1:0", func(_ context.Context, r rpc.Received) error {
		switch rand.N(6) {
		case 0:
			return status.Error(codes.Unavailable, "not now")
		case 1:
			got.take(r) // taken, but the sender doesn't learn of it
			return status.Error(codes.DeadlineExceeded, "too slow")
		}
		got.take(r)
		return nil
	})
	start(t, alert.Config{
		Store: s, Sinks: map[string]alert.Sink{"grpc": sinkAt(t, ca, recv.addr)},
		MinBackoff: time.Millisecond, MaxBackoff: 8 * time.Millisecond,
	})
	enqueue(t, s, each, repos, []string{"grpc"})
	wait(t, "all delivered", got.all)

	got.mu.Lock()
	defer got.mu.Unlock()
	for _, repo := range repos {
		last := int64(0)
		for i, seq := range got.seqs[repo] {
			if seq != last && seq != last+1 {
				t.Errorf("%s: seq %d after %d", repo, seq, last)
			}
			if want := alert.NewID(outcome(fmt.Sprintf("r%d", seq-1), repo), "grpc"); got.took[repo][i] != want {
				t.Errorf("%s: seq %d has the id %s, want %s", repo, seq, got.took[repo][i], want)
			}
			last = seq
		}
	}
}

func TestWorker_deliversOnceTheSinkIsUp(t *testing.T) {
	s := fresh(t)
	ca := newCA(t)
	reserved, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := reserved.Addr().String()
	reserved.Close()
	failed := make(chan struct{})
	once := sync.OnceFunc(func() { close(failed) })
	sink := sinkAt(t, ca, addr)
	start(t, alert.Config{
		Store: s, MinBackoff: 10 * time.Millisecond, MaxBackoff: 20 * time.Millisecond,
		Sinks: map[string]alert.Sink{"grpc": sinkFunc(func(ctx context.Context, a alert.Alert) error {
			err := sink.Deliver(ctx, a)
			if err != nil {
				once()
			}
			return err
		})},
	})
	enqueue(t, s, 3, []string{"a"}, []string{"grpc"})
	wait(t, "an attempt", failed)
	got := newLedger(3)
	listen(t, ca, addr, func(_ context.Context, r rpc.Received) error { got.take(r); return nil })
	wait(t, "all delivered", got.all)
}

// sinkFunc is a sink that does what a real one can't be made to.
type sinkFunc func(context.Context, alert.Alert) error

func (f sinkFunc) Deliver(ctx context.Context, a alert.Alert) error { return f(ctx, a) }

// crashing is a store whose hub dies before it can record a delivery.
type crashing struct {
	alert.Store
	settled func()
}

func (c crashing) SettleAlerts(context.Context, time.Time, []alert.Settlement) error {
	c.settled()
	return errors.New("the hub is dead")
}

func TestWorker_repeatsWhatItCouldNotRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reeve.db")
	s := open(t, path)
	enqueue(t, s, 2, []string{"a"}, []string{"grpc"})
	var mu sync.Mutex
	var seen []string
	arrived := make(chan struct{}, 16)
	ca := newCA(t)
	recv := listen(t, ca, "127.0.0.1:0", func(_ context.Context, r rpc.Received) error {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprintf("%s %s#%d", r.ID, r.Outcome.Details, r.Seq))
		arrived <- struct{}{}
		return nil
	})
	sinks := map[string]alert.Sink{"grpc": sinkAt(t, ca, recv.addr)}

	dead := make(chan struct{})
	stop := start(t, alert.Config{Store: crashing{s, sync.OnceFunc(func() { close(dead) })}, Sinks: sinks})
	wait(t, "the first delivery", arrived)
	wait(t, "the crash", dead)
	stop()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, path)
	defer s.Close()
	stop = start(t, alert.Config{Store: s, Sinks: sinks})
	wait(t, "the repetition", arrived)
	wait(t, "the second", arrived)
	stop()
	r0, r1 := alert.NewID(outcome("r0", "a"), "grpc"), alert.NewID(outcome("r1", "a"), "grpc")
	want := []string{string(r0) + " r0#1", string(r0) + " r0#1", string(r1) + " r1#2"}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("received (-want +got):\n%s", diff)
	}
	for _, id := range []alert.ID{r0, r1} {
		if a, err := s.Alert(t.Context(), id); err != nil || a.State != alert.Delivered {
			t.Errorf("alert %s: %s, %v", id, a.State, err)
		}
	}
}

func TestWorker_stopsWithoutLosingAnAcknowledgement(t *testing.T) {
	s := fresh(t)
	enqueue(t, s, 1, []string{"a"}, []string{"grpc"})
	arrived, answer := make(chan struct{}), make(chan struct{})
	ca := newCA(t)
	recv := listen(t, ca, "127.0.0.1:0", func(context.Context, rpc.Received) error {
		close(arrived)
		<-answer
		return nil
	})
	stop := start(t, alert.Config{Store: s, Sinks: map[string]alert.Sink{"grpc": sinkAt(t, ca, recv.addr)}, Grace: time.Minute})
	wait(t, "arrival", arrived)
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	close(answer)
	wait(t, "stop", stopped)
	if a, err := s.Alert(t.Context(), alert.NewID(outcome("r0", "a"), "grpc")); err != nil || a.State != alert.Delivered {
		t.Errorf("%s, %v", a.State, err)
	}
}

func TestWorker_buriesWhatIsRefusedAndReplaysIt(t *testing.T) {
	s := fresh(t)
	var mu sync.Mutex
	refuse := true
	got := make(chan string, 4)
	ca := newCA(t)
	recv := listen(t, ca, "127.0.0.1:0", func(_ context.Context, r rpc.Received) error {
		mu.Lock()
		defer mu.Unlock()
		if refuse && r.Outcome.Details == "r0" {
			return status.Error(codes.InvalidArgument, "I know no such repo")
		}
		got <- fmt.Sprintf("%s#%d", r.Outcome.Details, r.Seq)
		return nil
	})
	start(t, alert.Config{Store: s, Sinks: map[string]alert.Sink{"grpc": sinkAt(t, ca, recv.addr)}})
	enqueue(t, s, 2, []string{"a"}, []string{"grpc"})
	if g := <-got; g != "r1#2" {
		t.Errorf("behind the dead letter came %s", g)
	}
	dead, err := s.Alerts(t.Context(), alert.Filter{State: alert.Dead})
	if err != nil || len(dead) != 1 || dead[0].LastError != "InvalidArgument: I know no such repo" || dead[0].Attempts != 1 {
		t.Fatalf("dead letters: %+v, %v", dead, err)
	}
	mu.Lock()
	refuse = false
	mu.Unlock()
	if err := s.ReplayAlert(t.Context(), dead[0].ID); err != nil {
		t.Fatal(err)
	}
	if g := <-got; g != "r0#1" {
		t.Errorf("replayed: %s", g)
	}
}

// In a bubble of synctest an hour passes at once.
func TestWorker_waits(t *testing.T) {
	bubble := func(name string, f func(*testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
	}
	bubble("longer after each failure, and gives up at an age", func(t *testing.T) {
		s := fresh(t)
		begin := time.Now()
		var at []time.Duration
		enqueue(t, s, 1, []string{"a"}, []string{"x"})
		stop := start(t, alert.Config{
			Store: s, MaxAge: 24 * time.Hour, Poll: time.Hour,
			Sinks: map[string]alert.Sink{"x": sinkFunc(func(context.Context, alert.Alert) error {
				at = append(at, time.Since(begin))
				return errors.New("down")
			})},
		})
		time.Sleep(26 * time.Hour)
		stop()
		limit := time.Second
		for i := 1; i < len(at); i++ {
			if gap := at[i] - at[i-1]; gap > limit+time.Second {
				t.Errorf("attempt %d came after %v, more than %v", i+1, gap, limit)
			}
			limit = min(2*limit, time.Hour)
		}
		if n := len(at); n < 24+5 || n > 200 {
			t.Errorf("%d attempts in 24 h", n)
		}
		a, err := s.Alert(t.Context(), alert.NewID(outcome("r0", "a"), "x"))
		if err != nil || a.State != alert.Dead || a.LastError != "given up after 24h0m0s: down" || a.Attempts != len(at) {
			t.Errorf("at the end: %s, %d attempts of %d, %q, %v", a.State, a.Attempts, len(at), a.LastError, err)
		}
	})
	bubble("as long as the sink asks", func(t *testing.T) {
		s := fresh(t)
		var at []time.Time
		enqueue(t, s, 1, []string{"a"}, []string{"x"})
		stop := start(t, alert.Config{
			Store: s,
			Sinks: map[string]alert.Sink{"x": sinkFunc(func(context.Context, alert.Alert) error {
				if at = append(at, time.Now()); len(at) == 1 {
					return &alert.Error{After: 10 * time.Minute, Err: errors.New("busy")}
				}
				return nil
			})},
		})
		time.Sleep(time.Hour)
		stop()
		if len(at) != 2 || at[1].Sub(at[0]) < 10*time.Minute || at[1].Sub(at[0]) > 10*time.Minute+time.Second {
			t.Errorf("attempts at %v", at)
		}
	})
	bubble("with a whole sink that refuses everything, and no other", func(t *testing.T) {
		s := fresh(t)
		enqueue(t, s, 2, []string{"a", "b", "c"}, []string{"closed", "open"})
		begin := time.Now()
		var mu sync.Mutex
		refused, taken, other := 0, 0, 0
		stop := start(t, alert.Config{
			Store: s, Concurrency: 1,
			Sinks: map[string]alert.Sink{
				"closed": sinkFunc(func(context.Context, alert.Alert) error {
					mu.Lock()
					defer mu.Unlock()
					if time.Since(begin) < 90*time.Second {
						refused++
						return &alert.Error{Class: alert.Pause, Err: errors.New("who are you?")}
					}
					taken++
					return nil
				}),
				"open": sinkFunc(func(context.Context, alert.Alert) error {
					mu.Lock()
					defer mu.Unlock()
					other++
					return nil
				}),
			},
		})
		time.Sleep(30 * time.Second)
		synctest.Wait()
		sinks, err := s.AlertSinks(t.Context())
		if err != nil || len(sinks) != 2 || sinks[0].Reason != "who are you?" || !sinks[0].PausedUntil.After(time.Now()) {
			t.Errorf("while it rests: %+v, %v", sinks, err)
		}
		mu.Lock()
		if other != 6 || refused > 3 {
			t.Errorf("the other sink got %d of 6; this one was tried %d times", other, refused)
		}
		refused = 0
		mu.Unlock()
		time.Sleep(2 * time.Minute)
		stop()
		if taken != 6 || refused != 1 {
			t.Errorf("afterwards it took %d of 6; one probe refused: %d", taken, refused)
		}
		if sinks, err = s.AlertSinks(t.Context()); err != nil || sinks[0].Delivered != 6 || sinks[0].Reason != "" {
			t.Errorf("at the end: %+v, %v", sinks, err)
		}
		all, err := s.Alerts(t.Context(), alert.Filter{Sink: "closed"})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range all {
			if a.Attempts != 1 {
				t.Errorf("alert %s: %d attempts; the pause's count against none", a.Outcome.Run, a.Attempts)
			}
		}
	})
	bubble("at most as long as an attempt may take", func(t *testing.T) {
		s := fresh(t)
		enqueue(t, s, 1, []string{"a"}, []string{"x"})
		attempts := 0
		stop := start(t, alert.Config{
			Store: s, Timeout: 20 * time.Second,
			Sinks: map[string]alert.Sink{"x": sinkFunc(func(ctx context.Context, _ alert.Alert) error {
				if attempts++; attempts > 1 {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			})},
		})
		time.Sleep(22 * time.Second)
		stop()
		if attempts != 2 {
			t.Errorf("%d attempts", attempts)
		}
	})
}
