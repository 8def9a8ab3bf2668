package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/store/postgres"
	"reeve.dev/reeve/store/postgres/postgrestest"
)

// process is a hub in a process of its own.
type process struct {
	*exec.Cmd
	id, api, services string
}

// startProcess starts reeve; it ends with the test.
func startProcess(t *testing.T, env []string, args ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.Command("reeve", args...)
	cmd.Env = append(os.Environ(), env...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGCONT)
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		r.Close()
	})
	return cmd, r
}

func startReplica(t *testing.T, dir, url string, n int) *process {
	t.Helper()
	data := filepath.Join(dir, fmt.Sprint("replica", n))
	cmd, log := startProcess(t, []string{
		"REEVE_HUB_DATA_DIR=" + data, "REEVE_HUB_CA_DIR=" + filepath.Join(dir, "ca"),
		"REEVE_HUB_DATABASE_URL=" + url, "REEVE_HUB_DATABASE_MAX_CONNECTIONS=10", "REEVE_HUB_DOCUMENTS_DIR=" + filepath.Join(dir, "documents"),
		"REEVE_HUB_LISTEN_API=127.0.0.1:0", "REEVE_HUB_LISTEN_SERVICES=127.0.0.1:0", "REEVE_HUB_LISTEN_METRICS=127.0.0.1:0",
		"REEVE_HUB_LISTEN_REPLICAS=127.0.0.1:0", "REEVE_HUB_LOG_FORMAT=json",
	}, "hub")
	p := &process{Cmd: cmd}
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var said struct{ Msg, API, Services string }
		if json.Unmarshal(lines.Bytes(), &said) == nil && said.Msg == "hub is up" {
			p.api, p.services = "https://"+said.API, "https://"+said.Services
			break
		}
		t.Log(lines.Text())
	}
	if p.api == "" {
		t.Fatal("the hub didn't come up")
	}
	go io.Copy(io.Discard, log)
	id, err := os.ReadFile(filepath.Join(data, "replica"))
	if err != nil {
		t.Fatal(err)
	}
	p.id = strings.TrimSpace(string(id))
	return p
}

// TestReplicas runs three replicas of a hub and an agent with two carriers, as
// processes, while callers ask each replica. One that holds a carrier is
// killed, and another frozen: no request to the others fails, and a stream
// that doesn't pass the killed one goes on.
func TestReplicas(t *testing.T) {
	server := postgrestest.Start(t)
	dir, url := t.TempDir(), server.URL(t)
	ca, err := pki.Init(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	db, err := postgres.Open(t.Context(), postgres.Config{URL: url, Documents: filepath.Join(dir, "documents")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	replicas := map[string]*process{}
	var urls []string
	for n := range 3 {
		p := startReplica(t, dir, url, n)
		replicas[p.id] = p
		urls = append(urls, p.api)
	}

	ticks := make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/watch" {
			io.WriteString(w, "here")
			return
		}
		for {
			http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-ticks:
				io.WriteString(w, "tick\n")
			}
		}
	}))
	t.Cleanup(service.Close)
	for key, value := range map[string]string{
		"REEVE_HUB": urls[0], "REEVE_CA": filepath.Join(dir, "ca", "ca.pem"),
		"REEVE_CERT": filepath.Join(dir, "ca", "control.pem"), "REEVE_KEY": filepath.Join(dir, "ca", "control-key.pem"),
	} {
		t.Setenv(key, value)
	}
	var token, errs bytes.Buffer
	if code := run(t.Context(), []string{"token", "create", "--agent", "east"}, nil, &token, &errs); code != 0 {
		t.Fatalf("token create: %s", errs.String())
	}
	config := filepath.Join(dir, "agent.yaml")
	text, err := json.Marshal(map[string]any{
		"dataDir": filepath.Join(dir, "agent"), "metrics": "",
		"hub":      map[string]any{"url": urls[0], "urls": urls[1:], "carrierCount": 2},
		"services": []any{map[string]any{"type": "x-web", "name": "web", "url": service.URL}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, log := startProcess(t, []string{"REEVE_JOIN_TOKEN=" + strings.TrimSpace(token.String())}, "agent", "--config", config)
	go io.Copy(io.Discard, log)

	credential, err := ca.IssueServiceToken("east", "x-web", "web", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}}
	t.Cleanup(client.CloseIdleConnections)
	ask := func(ctx context.Context, p *process, path string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.services+path, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+credential)
		resp, err := client.Do(req)
		if err == nil && resp.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			err = fmt.Errorf("%s %s", resp.Status, text)
		}
		return resp, err
	}

	// holders waits until the agent has carriers to two replicas that aren't
	// without, and the database knows it.
	holders := func(without ...*process) (held []*process) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			links, _, err := db.LinksOf(t.Context(), "east", time.Now())
			if err != nil {
				t.Fatal(err)
			}
			held = nil
			for _, l := range links {
				if !slices.Contains(without, replicas[l.Replica.ID]) {
					held = append(held, replicas[l.Replica.ID])
				}
			}
			if len(held) == 2 {
				return held
			}
			if time.Now().After(end) {
				t.Fatalf("the agent has %d links: %+v", len(held), links)
			}
		}
	}
	held := holders()
	for _, p := range replicas {
		for end := time.Now().Add(time.Minute); ; {
			resp, err := ask(t.Context(), p, "/")
			if err == nil {
				resp.Body.Close()
				break
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}

	// calling asks those that aren't without, from now until its end is called.
	calling := func(without ...*process) (end func()) {
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		counts := make(chan int, 2*len(replicas))
		for _, p := range replicas {
			if slices.Contains(without, p) {
				continue
			}
			for range 2 {
				all.Go(func() {
					n := 0
					for ctx.Err() == nil {
						// The last one may end in its own time.
						resp, err := ask(t.Context(), p, "/")
						if err != nil {
							t.Errorf("a request through a replica that is well, the %dth: %v", n, err)
							return
						}
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
						n++
						time.Sleep(time.Millisecond)
					}
					counts <- n
				})
			}
		}
		return func() {
			t.Helper()
			stop()
			all.Wait()
			close(counts)
			total := 0
			for n := range counts {
				total += n
			}
			t.Logf("%d requests", total)
		}
	}

	killed, well := held[0], held[1]
	watch, err := ask(t.Context(), well, "/watch")
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Body.Close()
	stream := bufio.NewReader(watch.Body)
	end := calling(killed)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	held = holders(killed)
	end()
	ticks <- struct{}{}
	if line, err := stream.ReadString('\n'); line != "tick\n" {
		t.Errorf("the stream past the killed replica: %q, %v", line, err)
	}

	frozen := held[0]
	end = calling(killed, frozen)
	if err := frozen.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	gone := func() bool {
		links, _, err := db.LinksOf(t.Context(), "east", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if l.Replica.ID == frozen.id {
				return false
			}
		}
		return true
	}
	for !gone() {
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("the frozen replica was given up after %v", time.Since(began).Round(time.Second))
	end()
	if err := frozen.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; {
		resp, err := ask(t.Context(), frozen, "/")
		if err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the replica that was frozen: %v", err)
		}
	}
}
