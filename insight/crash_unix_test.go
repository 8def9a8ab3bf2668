//go:build unix

package insight_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/link"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/postgres"
	"reeve.dev/reeve/store/postgres/postgrestest"
	"reeve.dev/reeve/store/sqlite"
)

// What the process of a hub is told by its environment.
const (
	crashDir = "REEVE_TEST_CRASH_DIR" // its data; set: this is such a process
	crashURL = "REEVE_TEST_CRASH_URL" // its PostgreSQL; empty: SQLite
	crashAt  = "REEVE_TEST_CRASH_AT"  // before or after, and how many messages
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Fprintln(os.Stderr, crashingHub(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// crashingHub takes messages until it is killed, or kills itself: before the
// transaction of a message, when its document is stored, or after it, when
// nobody was answered. Messages that others sent are anywhere then.
func crashingHub(dir string) error {
	db, err := openCrashed(context.Background(), dir, os.Getenv(crashURL))
	if err != nil {
		return err
	}
	to := &crashing{Store: db}
	if at := os.Getenv(crashAt); at != "" {
		if _, err := fmt.Sscanf(at, "%s %d", &to.point, &to.left); err != nil {
			return err
		}
	}
	srv := &http.Server{
		Handler: link.Handler(insight.NewService(to, insight.Limits{}, slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler)),
		BaseContext: func(net.Listener) context.Context {
			return fleet.WithPeer(context.Background(), fleet.Peer{Agent: "edge", Instance: "1"})
		},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	return srv.Serve(l)
}

func openCrashed(ctx context.Context, dir, url string) (*store.Store, error) {
	log := slog.New(slog.DiscardHandler)
	if url == "" {
		return sqlite.Open(ctx, filepath.Join(dir, "reeve.db"), log)
	}
	return postgres.Open(ctx, postgres.Config{URL: url, Documents: filepath.Join(dir, "documents")}, log)
}

// crashing is a store that ends its process.
type crashing struct {
	*store.Store
	point string
	left  atomic.Int64
}

func (c *crashing) ApplyInsight(ctx context.Context, it insight.Item, p *insight.Parsed, at time.Time) (bool, error) {
	now := c.left.Add(-1) == 0
	if now && c.point == "before" {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	fresh, err := c.Store.ApplyInsight(ctx, it, p, at)
	if now && c.point == "after" {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return fresh, err
}

// hubProcess is a hub that is started again whenever it is gone.
type hubProcess struct {
	mu   sync.Mutex
	cond *sync.Cond
	cmd  *exec.Cmd // guarded by mu
	url  string    // guarded by mu
	n    int       // guarded by mu; which process it is
	err  error     // guarded by mu; why there is none any more
}

// run starts a process for each of plan, and then one that stays.
func (h *hubProcess) run(env []string, plan []string) {
	for i := 0; ; i++ {
		at := ""
		if i < len(plan) {
			at = plan[i]
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(append(os.Environ(), env...), crashAt+"="+at)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			h.fail(err)
			return
		}
		line, _ := bufio.NewReader(out).ReadString('\n') // empty where it is gone
		h.mu.Lock()
		if h.err != nil {
			h.mu.Unlock()
			cmd.Process.Kill()
			cmd.Wait()
			return
		}
		h.cmd, h.url, h.n = cmd, strings.TrimSpace(line), i+1
		h.mu.Unlock()
		h.cond.Broadcast()
		cmd.Wait()
	}
}

func (h *hubProcess) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err = errors.Join(h.err, err); h.cmd != nil {
		h.cmd.Process.Kill()
	}
	h.cond.Broadcast()
}

// after waits for a process later than the nth.
func (h *hubProcess) after(n int) (url string, now int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.n <= n && h.err == nil {
		h.cond.Wait()
	}
	return h.url, h.n, h.err
}

func (h *hubProcess) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cmd.Process.Kill()
}

// An agent delivers while its hub is killed at each step, and sends again what
// it has no answer to: each message arrives, once.
func TestService_killed(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { deliverToKilled(t, "") })
	t.Run("PostgreSQL", func(t *testing.T) { deliverToKilled(t, postgrestest.Start(t).URL(t)) })
}

func deliverToKilled(t *testing.T, url string) {
	const messages, senders, killEvery = 160, 4, 25
	dir := t.TempDir()
	h := &hubProcess{}
	h.cond = sync.NewCond(&h.mu)
	over := make(chan struct{})
	go func() {
		defer close(over)
		h.run([]string{crashDir + "=" + dir, crashURL + "=" + url}, []string{"before 3", "after 3", "before 12", "after 12", "before 1", "after 1"})
	}()
	defer func() { h.fail(errors.New("the test is over")); <-over }()

	var next, answered atomic.Int64
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			process := 0
			for i := next.Add(1); i <= messages; i = next.Add(1) {
				url, now, err := h.after(max(0, process-1))
				for {
					if err != nil {
						t.Error(err)
						return
					}
					process = now
					if err = send(url, int(i)); err == nil {
						break
					}
					url, now, err = h.after(process)
				}
				if answered.Add(1)%killEvery == 0 {
					h.kill()
				}
			}
		})
	}
	sending.Wait()
	if _, n, _ := h.after(0); n < 10 {
		t.Errorf("only %d processes", n)
	}
	h.fail(errors.New("the test is over"))
	<-over

	db, err := openCrashed(t.Context(), dir, url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	q := insight.Query{History: true, Limit: 1000}
	documents, err := db.InsightDocuments(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range documents {
		r, err := db.InsightDocument(t.Context(), string(d.Digest))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error(err)
		}
		r.Close()
	}
	facts, err := db.Facts(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	problems, err := db.Problems(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	poison, err := db.Quarantined(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	got := [...]int{len(documents), len(facts), len(problems), len(poison)}
	if want := [...]int{messages / 4, messages / 4, messages / 4, messages / 4}; got != want {
		t.Errorf("documents, facts, problems, poison: %v, want %v", got, want)
	}
}

// send delivers the ith message. An error means that there was no answer, or
// another than that the hub has it.
func send(url string, i int) error {
	bom := fmt.Sprintf(`{"bomFormat":"CycloneDX","specVersion":"1.5","components":[{"type":"library","name":"n","version":"%d"}]}`, i)
	message, err := json.Marshal(map[string]any{"type": "sbom", "namespace": "shop", "service": fmt.Sprint("s", i/8), "payload": map[string]string{"a": bom}})
	switch i % 4 {
	case 1: // half of them replaces the other
		message = fmt.Appendf(nil, `{"type":"direct.facts","environment":%d,"facts":[{"name":"n","value":"%d"}]}`, i/8+1, i)
	case 2:
		message = fmt.Appendf(nil, `{"type":"direct.problems","environment":%d,"problems":[{"identifier":"CVE-%d"}]}`, i/8+1, i)
	case 3:
		message = message[:len(message)-5]
	}
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodPost, url+link.Path, bytes.NewReader(message))
	if err != nil {
		return err
	}
	req.Header.Set("Reeve-Item", fmt.Sprint("item-", i))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	return nil
}
