package link_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/internal/spool"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/scan/link"
	"reeve.dev/reeve/scan/scantest"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
)

var quiet = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub is a queue on a real store, served inside a link of the agent edge.
type hub struct {
	*scan.Queue
	store  *store.Store
	server *httptest.Server
	down   atomic.Bool
	calls  sync.Map // path → *atomic.Int32
}

var peer = fleet.Peer{Agent: "edge", Instance: "i1"}

func newHub(t testing.TB) *hub {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "reeve.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.SaveAgent(t.Context(), fleet.Registration{Agent: "edge", Instance: "i1", ScanTargets: []string{"dir", "chroot"}}, time.Now()); err != nil {
		t.Fatal(err)
	}
	h := &hub{store: s}
	h.Queue = scan.NewQueue(scan.Config{
		Store: s, Catalogue: scantest.Catalogue(t, s, scantest.Profile("base", "archive of base")), Agents: s, Logger: quiet,
		Connected: func(fleet.AgentName) bool { return true },
		Outcome: func(s scan.Scan, v scan.Verdict) fleet.Outcome {
			return fleet.Outcome{Subject: s.Request.Target.Subject(), Policy: s.Request.Policy(), Run: string(s.ID), At: s.Finished}
		},
	})
	handler := link.Handler(h.Queue, quiet)
	h.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := h.calls.LoadOrStore(r.Method+" "+r.URL.Path, new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
		if h.down.Load() {
			panic(http.ErrAbortHandler)
		}
		handler.ServeHTTP(w, r.WithContext(fleet.WithPeer(r.Context(), peer)))
	}))
	t.Cleanup(h.server.Close)
	return h
}

// transport leads to the hub as a link does.
func (h *hub) transport(t testing.TB) http.RoundTripper {
	tr := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, h.server.Listener.Addr().String())
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func (h *hub) create(t testing.TB) scan.ID {
	t.Helper()
	s, err := h.Create(t.Context(), scan.Request{
		Target: scan.Target{URI: "dir:" + t.TempDir()}, Profile: "base", Inputs: map[string]any{"n": 1, "f": 0.5},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.ID
}

// until waits for the scan to be as ok wants it.
func (h *hub) until(t *testing.T, id scan.ID, ok func(scan.Scan) bool) scan.Scan {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		changed := h.Changed(id)
		s, err := h.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if ok(s) {
			return s
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("scan stays %+v", s)
		}
	}
}

func final(s scan.Scan) bool { return s.Status.Final() }

// agent is the disk of an agent, which outlives its processes.
type agent struct {
	dir    string
	engine scan.Engine
}

func newAgent(t *testing.T, engine scan.Engine) *agent {
	return &agent{dir: t.TempDir(), engine: engine}
}

// start starts a process of the agent, which joins as a real one does; stop
// ends it.
func (a *agent) start(t *testing.T, h *hub) (stop func()) {
	t.Helper()
	results, err := spool.Open(filepath.Join(a.dir, "spool"), spool.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := scan.NewWorker(scan.WorkerConfig{
		Source: link.NewClient(h.transport(t)), Spool: results, Engine: a.engine,
		OpenTarget: func(ctx context.Context, job *scan.Job) (scan.Opened, error) {
			t, err := target.Open(ctx, job.Target.URI)
			return scan.Opened{Target: t}, err
		},
		Kinds: []string{"dir"}, CacheDir: filepath.Join(a.dir, "profiles"), Logger: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	var holding []string
	for _, id := range w.Holding() {
		holding = append(holding, string(id))
	}
	if err := h.Release(t.Context(), peer.Agent, peer.Instance, holding); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("worker ended with %v", err)
		}
		results.Close()
	})
	t.Cleanup(stop)
	return stop
}

func results(status hdf.Status) *hdf.Results {
	doc := &hdf.Results{Version: "1", Profiles: []hdf.Profile{{Name: "base", Controls: []hdf.Control{
		{ID: "c-1", Impact: 1, Results: []hdf.Result{{Status: status}}},
	}}}}
	doc.Seal()
	return doc
}

func TestWorker_runsAScan(t *testing.T) {
	h := newHub(t)
	var got scan.EngineOptions
	a := newAgent(t, func(ctx context.Context, archive string, to target.Target, opt scan.EngineOptions) (*hdf.Results, error) {
		if b, err := os.ReadFile(archive); err != nil || string(b) != "archive of base" {
			t.Errorf("profile %q, %v", b, err)
		}
		got = opt
		opt.Progress(scan.Progress{Done: 1, Total: 2, Control: "c-1"})
		return results(hdf.Failed), nil
	})
	id := h.create(t)
	stop := a.start(t, h)
	s := h.until(t, id, final)
	if s.Status != scan.Completed || s.Outcome != scan.Failed || s.Attempt != 1 {
		t.Errorf("scan ended as %+v", s)
	}
	if d := cmp.Diff(map[string]any{"n": int64(1), "f": 0.5}, got.Inputs); d != "" {
		t.Errorf("inputs (-want +got):\n%s", d)
	}
	r, err := h.Results(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	doc, err := hdf.Decode(r)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(results(hdf.Failed), doc, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("results (-want +got):\n%s", d)
	}

	// The profile is fetched once, and once more when its copy is damaged.
	again := h.create(t)
	h.until(t, again, final)
	fetched := func() int32 {
		n, _ := h.calls.Load("GET /v1/profiles/" + s.ProfileDigest)
		return n.(*atomic.Int32).Load()
	}
	if n := fetched(); n != 1 {
		t.Errorf("the profile was fetched %d times for two scans", n)
	}
	stop()
	cached, err := filepath.Glob(filepath.Join(a.dir, "profiles", "*.tar.gz"))
	if err != nil || len(cached) != 1 {
		t.Fatalf("cached: %q, %v", cached, err)
	}
	if err := os.WriteFile(cached[0], []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.start(t, h)
	if s := h.until(t, h.create(t), final); s.Status != scan.Completed || fetched() != 2 {
		t.Errorf("with a damaged copy: %s (%s), fetched %d times", s.Status, s.Reason, fetched())
	}
}

func TestWorker_reportsProgress(t *testing.T) {
	h := newHub(t)
	seen := make(chan struct{})
	a := newAgent(t, func(ctx context.Context, _ string, _ target.Target, opt scan.EngineOptions) (*hdf.Results, error) {
		opt.Progress(scan.Progress{Done: 1, Total: 2, Control: "c-1"})
		select {
		case <-seen:
		case <-ctx.Done():
		}
		return results(hdf.Passed), nil
	})
	id := h.create(t)
	a.start(t, h)
	s := h.until(t, id, func(s scan.Scan) bool { return s.Progress.Done > 0 })
	if d := cmp.Diff(scan.Progress{Done: 1, Total: 2, Control: "c-1"}, s.Progress); d != "" || s.Status != scan.Running {
		t.Errorf("%s, progress (-want +got):\n%s", s.Status, d)
	}
	close(seen)
	if s := h.until(t, id, final); s.Outcome != scan.Passed {
		t.Errorf("scan ended as %+v", s)
	}
}

func TestWorker_saysWhyItCannot(t *testing.T) {
	for name, test := range map[string]struct {
		uri     string
		timeout time.Duration
		engine  scan.Engine
		want    string
	}{
		"no such target": {uri: "dir:/no/such/folder", want: "/no/such/folder"},
		"a broken profile": {
			engine: func(context.Context, string, target.Target, scan.EngineOptions) (*hdf.Results, error) {
				return nil, errors.New("controls/a.rb:3: unexpected end")
			},
			want: "controls/a.rb:3: unexpected end",
		},
		"a panic": {
			engine: func(context.Context, string, target.Target, scan.EngineOptions) (*hdf.Results, error) {
				panic("index out of range")
			},
			want: "the scan engine failed inside: index out of range",
		},
		"too long a run": {
			timeout: time.Second,
			engine: func(ctx context.Context, _ string, _ target.Target, _ scan.EngineOptions) (*hdf.Results, error) {
				<-ctx.Done()
				return results(hdf.Passed), nil
			},
			want: "timed out after 1s",
		},
		"results that aren't JSON": {
			engine: func(context.Context, string, target.Target, scan.EngineOptions) (*hdf.Results, error) {
				r := results(hdf.Passed)
				r.Profiles[0].Controls[0].Tags = map[string]any{"f": func() {}}
				return r, nil
			},
			want: "encode results: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			if test.uri == "" {
				test.uri = "dir:" + t.TempDir()
			}
			s, err := h.Create(t.Context(), scan.Request{Target: scan.Target{URI: test.uri}, Profile: "base", Timeout: test.timeout})
			if err != nil {
				t.Fatal(err)
			}
			newAgent(t, test.engine).start(t, h)
			s = h.until(t, s.ID, final)
			if s.Status != scan.Error || !strings.Contains(s.Reason, test.want) {
				t.Errorf("scan is %s: %q; want an error with %q", s.Status, s.Reason, test.want)
			}
		})
	}
}

// The process dies in the middle of a run, twice: the scan is made again.
func TestWorker_restartInTheMiddle(t *testing.T) {
	h := newHub(t)
	begun := make(chan struct{}, 1)
	var runs atomic.Int32
	a := newAgent(t, func(ctx context.Context, _ string, _ target.Target, _ scan.EngineOptions) (*hdf.Results, error) {
		if runs.Add(1) < 3 {
			begun <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return results(hdf.Passed), nil
	})
	id := h.create(t)
	for range 2 {
		stop := a.start(t, h)
		<-begun
		stop()
	}
	a.start(t, h)
	if s := h.until(t, id, final); s.Status != scan.Completed || s.Attempt != 3 {
		t.Errorf("scan ended as %s (%s) at attempt %d", s.Status, s.Reason, s.Attempt)
	}
}

// The run ends while the hub is away, and the process dies too: the result is
// delivered by the next one, and the scan isn't made again.
func TestWorker_restartWithAResult(t *testing.T) {
	h := newHub(t)
	var runs atomic.Int32
	a := newAgent(t, func(context.Context, string, target.Target, scan.EngineOptions) (*hdf.Results, error) {
		h.down.Store(true)
		runs.Add(1)
		return results(hdf.Passed), nil
	})
	id := h.create(t)
	stop := a.start(t, h)
	h.until(t, id, func(s scan.Scan) bool { return s.Status == scan.Running })
	for spooled := 0; spooled == 0; {
		items, err := filepath.Glob(filepath.Join(a.dir, "spool", "*.item"))
		if err != nil {
			t.Fatal(err)
		}
		spooled = len(items)
	}
	stop()
	h.down.Store(false)
	a.start(t, h)
	if s := h.until(t, id, final); s.Outcome != scan.Passed || s.Attempt != 1 || runs.Load() != 1 {
		t.Errorf("scan ended as %s (%s) at attempt %d after %d runs", s.Status, s.Reason, s.Attempt, runs.Load())
	}
}

func TestWorker_stopsWhatIsCancelled(t *testing.T) {
	h := newHub(t)
	stopped := make(chan error, 1)
	a := newAgent(t, func(ctx context.Context, _ string, _ target.Target, opt scan.EngineOptions) (*hdf.Results, error) {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-tick.C:
				opt.Progress(scan.Progress{Done: n, Total: 1000})
			case <-ctx.Done():
				stopped <- context.Cause(ctx)
				return nil, ctx.Err()
			}
		}
	})
	id := h.create(t)
	a.start(t, h)
	h.until(t, id, func(s scan.Scan) bool { return s.Progress.Total == 1000 })
	if _, err := h.Cancel(t.Context(), id, "ci"); err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; !errors.Is(err, scan.ErrFinished) {
		t.Errorf("stopped because of %v", err)
	}
	// The agent is free for the next.
	next := h.create(t)
	h.until(t, next, func(s scan.Scan) bool { return s.Status == scan.Running })
	if _, err := h.Cancel(t.Context(), next, ""); err != nil {
		t.Fatal(err)
	}
	<-stopped
}

// A hub may be mistaken, or another's: the owner's word is kept at the agent.
func TestWorker_keepsToWhatIsAllowed(t *testing.T) {
	queue := &queueFunc{job: &scan.Job{
		ID: scan.NewID(), Attempt: 1, Target: scan.Target{URI: "shell:id"}, Timeout: time.Minute, LeaseFor: time.Minute,
	}, failed: make(chan string, 1)}
	handler := link.Handler(queue, quiet)
	h := &hub{server: httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(w, r.WithContext(fleet.WithPeer(r.Context(), peer)))
	}))}
	t.Cleanup(h.server.Close)
	results, err := spool.Open(t.TempDir(), spool.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer results.Close()
	w, err := scan.NewWorker(scan.WorkerConfig{
		Source: link.NewClient(h.transport(t)), Spool: results, Kinds: []string{"dir"}, CacheDir: t.TempDir(), Logger: quiet,
		OpenTarget: func(context.Context, *scan.Job) (scan.Opened, error) {
			t.Error("a target that isn't allowed was opened")
			return scan.Opened{}, errors.New("no")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	if reason := <-queue.failed; !strings.Contains(reason, `"shell"`) {
		t.Errorf("reason %q", reason)
	}
	cancel()
	<-done
}

// queueFunc gives its job once.
type queueFunc struct {
	link.Queue
	once   sync.Once
	job    *scan.Job
	failed chan string
}

func (q *queueFunc) Lease(ctx context.Context, _ fleet.Peer, _ []string, _ []scan.ID) (job *scan.Job, err error) {
	q.once.Do(func() { job = q.job })
	if job == nil {
		<-ctx.Done()
	}
	return job, nil
}

func (q *queueFunc) Progress(context.Context, fleet.Peer, scan.ID, int, scan.Progress) error {
	return nil
}

func (q *queueFunc) Expand(context.Context, fleet.Peer, scan.ID, int, []scan.Target) error {
	return nil
}

func (q *queueFunc) Fail(_ context.Context, _ fleet.Peer, _ scan.ID, _ int, reason string, _ bool) error {
	q.failed <- reason
	return nil
}

// A scan that an agent hands back isn't for a lease that names it, so such a
// lease ends before long.
func TestHandler_lease_ends_sooner_for_an_agent_that_holds_scans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := link.Handler(&queueFunc{}, quiet)
		for body, most := range map[string]time.Duration{
			`{"kinds":["dir"]}`: 2 * time.Minute, `{"kinds":["dir"],"holding":["s1"]}`: 15 * time.Second,
		} {
			began := time.Now()
			w := httptest.NewRecorder()
			r := httptest.NewRequest("POST", "/v1/scans/lease", strings.NewReader(body))
			h.ServeHTTP(w, r.WithContext(fleet.WithPeer(t.Context(), peer)))
			if took := time.Since(began); took != most || w.Code != http.StatusNoContent {
				t.Errorf("%s: %d after %v, want 204 after %v", body, w.Code, took, most)
			}
		}
	})
}

func compressed(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	if _, err := io.WriteString(zip, text); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestClient_SendResults_refused(t *testing.T) {
	whole := compressed(t, `{"version":"1","profiles":[]}`)
	damaged := bytes.Clone(whole)
	damaged[len(damaged)-6] ^= 1
	for name, test := range map[string]struct {
		body []byte
		want error
	}{
		"not gzip":       {[]byte("plain text, and more of it"), scan.ErrBadResult},
		"nothing":        {nil, scan.ErrBadResult},
		"half a header":  {whole[:5], scan.ErrBadResult},
		"half of it":     {whole[:len(whole)/2], scan.ErrBadResult},
		"damaged":        {damaged, scan.ErrBadResult},
		"not HDF":        {compressed(t, "[]"), scan.ErrBadResult},
		"a bomb":         {compressed(t, strings.Repeat(" ", scan.MaxResults+1)), scan.ErrBadResult},
		"what it should": {whole, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			id := h.create(t)
			c := link.NewClient(h.transport(t))
			job, err := c.Lease(t.Context(), []string{"dir"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.SendResults(t.Context(), id, job.Attempt, bytes.NewReader(test.body)); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			want := scan.Error
			if test.want == nil {
				want = scan.Completed
			}
			if s, err := h.Get(t.Context(), id); err != nil || s.Status != want {
				t.Errorf("scan is %s (%s), want %s; %v", s.Status, s.Reason, want, err)
			}
			if err := c.SendResults(t.Context(), id, job.Attempt, bytes.NewReader(whole)); !errors.Is(err, scan.ErrFinished) {
				t.Errorf("after that: %v", err)
			}
		})
	}
}

func TestClient_SendResults_cutOff(t *testing.T) {
	h := newHub(t)
	id := h.create(t)
	c := link.NewClient(h.transport(t))
	job, err := c.Lease(t.Context(), []string{"dir"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	whole := compressed(t, `{"version":"1","profiles":[]}`)
	cut := io.MultiReader(bytes.NewReader(whole[:len(whole)/2]), iotest.ErrReader(errors.New("the disk failed")))
	if err := c.SendResults(t.Context(), id, job.Attempt, cut); err == nil || errors.Is(err, scan.ErrBadResult) {
		t.Errorf("cut off: %v", err)
	}
	if s, err := h.Get(t.Context(), id); err != nil || s.Status != scan.Running {
		t.Errorf("scan is %s, %v", s.Status, err)
	}
	if err := c.SendResults(t.Context(), id, job.Attempt, bytes.NewReader(whole)); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestClient_refusals(t *testing.T) {
	h := newHub(t)
	id := h.create(t)
	c := link.NewClient(h.transport(t))
	ctx := t.Context()
	for what, test := range map[string]struct{ err, want error }{
		"progress before the lease": {c.Progress(ctx, id, 1, scan.Progress{}), scan.ErrNotFound},
		"an unknown scan":           {c.SendFailure(ctx, scan.NewID(), 1, "no", false), scan.ErrNotFound},
		"an unknown profile":        {func() error { _, err := c.Profile(ctx, "sha256:1"); return err }(), scan.ErrNotFound},
		"no attempt":                {c.SendFailure(ctx, id, 0, "no", false), scan.ErrNotFound},
	} {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: got %v, want %v", what, test.err, test.want)
		}
	}
	if err := c.SendFailure(ctx, "../lease", 1, "no", false); err == nil || errors.Is(err, scan.ErrNotFound) {
		t.Errorf("an id that is none: %v", err)
	}
}

func TestHandler_refuses(t *testing.T) {
	h := newHub(t)
	id := string(h.create(t))
	handler := link.Handler(h.Queue, quiet)
	for name, test := range map[string]struct {
		path, body string
		peer       bool
		want       int
	}{
		"whoever isn't an agent": {"/v1/scans/lease", `{}`, false, 403},
		"what isn't JSON":        {"/v1/scans/lease", `{`, true, 400},
		"too long a message":     {"/v1/scans/lease", `{"kinds":["` + strings.Repeat("x", 2<<20), true, 400},
		"no id":                  {"/v1/scans/x/progress", `{}`, true, 400},
		"no attempt":             {"/v1/scans/" + id + "/result", `{}`, true, 400},
		"another path":           {"/v1/scans/" + id + "/nothing", `{}`, true, 404},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, test.path, strings.NewReader(test.body))
			if test.peer {
				r = r.WithContext(fleet.WithPeer(r.Context(), peer))
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != test.want {
				t.Errorf("got %d %s, want %d", w.Code, w.Body, test.want)
			}
		})
	}
}

// The store's errors are the hub's affair: an agent learns only that it is
// to try again.
func TestHandler_keepsItsErrors(t *testing.T) {
	h := newHub(t)
	id := h.create(t)
	h.store.Close()
	c := link.NewClient(h.transport(t))
	err := c.Progress(t.Context(), id, 1, scan.Progress{})
	if err == nil || strings.Contains(err.Error(), "sql") {
		t.Errorf("got %v", err)
	}
	var refused *link.Refusal
	if errors.As(err, &refused) {
		t.Errorf("%v is final", err)
	}
}

// BenchmarkScan is what a scan costs besides the engine and the link: from
// the request to the verdict, with everything durable that must be.
func BenchmarkScan(b *testing.B) {
	h := newHub(b)
	c := link.NewClient(h.transport(b))
	body := compressed(b, `{"version":"1","profiles":[]}`)
	for b.Loop() {
		id := h.create(b)
		job, err := c.Lease(b.Context(), []string{"dir"}, nil)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.SendResults(b.Context(), id, job.Attempt, bytes.NewReader(body)); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzHandler(f *testing.F) {
	handler := link.Handler(anyQueue{}, quiet)
	id := string(scan.NewID())
	f.Add("lease", []byte(`{"kinds":["dir"]}`))
	f.Add(id+"/progress", []byte(`{"attempt":1,"done":2}`))
	f.Add(id+"/failure", []byte(`{"attempt":1,"reason":"no"}`))
	f.Add(id+"/result?attempt=1", compressed(f, "{}"))
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		r, err := http.NewRequestWithContext(fleet.WithPeer(t.Context(), peer), http.MethodPost, "http://hub/v1/scans/"+path, bytes.NewReader(body))
		if err != nil {
			t.Skip()
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%s %q: %d %s", path, body, w.Code, w.Body)
		}
	})
}

// anyQueue takes anything that is well formed.
type anyQueue struct{ link.Queue }

func (anyQueue) Lease(context.Context, fleet.Peer, []string, []scan.ID) (*scan.Job, error) {
	return nil, nil
}

func (anyQueue) Ask(context.Context, fleet.Peer, scan.Request) (scan.Scan, error) {
	return scan.Scan{}, nil
}

func (anyQueue) Progress(context.Context, fleet.Peer, scan.ID, int, scan.Progress) error { return nil }

func (anyQueue) Fail(context.Context, fleet.Peer, scan.ID, int, string, bool) error { return nil }
func (anyQueue) Expand(context.Context, fleet.Peer, scan.ID, int, []scan.Target) error {
	return nil
}

func (anyQueue) Complete(_ context.Context, _ fleet.Peer, _ scan.ID, _ int, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}
