package scan_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/scan/scantest"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
)

var quiet = slog.New(slog.DiscardHandler)

func openStore(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newStore(t *testing.T) *store.Store {
	s := openStore(t, filepath.Join(t.TempDir(), "reeve.db"))
	t.Cleanup(func() { s.Close() })
	return s
}

// newQueue has the agents edge (containers and dir) and core (containers).
func newQueue(t *testing.T, s *store.Store, change func(*scan.Config)) *scan.Queue {
	t.Helper()
	for agent, kinds := range map[fleet.AgentName][]string{"edge": {"dir", scan.KindContainer}, "core": {scan.KindContainer}} {
		r := fleet.Registration{Agent: agent, Instance: fleet.InstanceID(agent), ScanTargets: kinds}
		if err := s.SaveAgent(t.Context(), r, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	cfg := scan.Config{
		Store: s, Agents: s, Logger: quiet,
		Catalogue: scantest.Catalogue(t, s, scantest.Profile("base", "archive of base"), scantest.Profile("other", "archive of other")),
		Connected: func(fleet.AgentName) bool { return true },
		Outcome: func(s scan.Scan, v scan.Verdict) fleet.Outcome {
			return fleet.Outcome{
				Subject: s.Request.Target.Subject(), Policy: s.Request.Policy(), Run: string(s.ID), At: s.Finished,
				Pass: v.Outcome == scan.Passed, Details: fmt.Sprint(v.Bad, v.Findings),
			}
		},
		Sinks: []string{"soc"},
	}
	if change != nil {
		change(&cfg)
	}
	return scan.NewQueue(cfg)
}

var edge = fleet.Peer{Agent: "edge", Instance: "edge"}

func request() scan.Request {
	return scan.Request{
		Target:  scan.Target{Agent: "edge", Namespace: "shop", Pod: "web-1.x", Container: "app"},
		Profile: "base",
	}
}

func create(t *testing.T, q *scan.Queue, r scan.Request) scan.Scan {
	t.Helper()
	s, err := q.Create(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func lease(t *testing.T, q *scan.Queue) *scan.Job {
	t.Helper()
	job, err := q.Lease(t.Context(), edge, []string{scan.KindContainer, "dir"}, nil)
	if err != nil || job == nil {
		t.Fatalf("lease: %v, %v", job, err)
	}
	return job
}

func get(t *testing.T, q *scan.Queue, id scan.ID) scan.Scan {
	t.Helper()
	s, err := q.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// document is results with a control for each status.
func document(t *testing.T, statuses ...hdf.Status) io.Reader {
	t.Helper()
	p := hdf.Profile{Name: "base"}
	for i, st := range statuses {
		p.Controls = append(p.Controls, hdf.Control{
			ID: fmt.Sprint("c-", i), Title: "Control", Impact: 0.7, Results: []hdf.Result{{Status: st}},
			Status: hdf.Passed, // not to be believed
		})
	}
	b, err := json.Marshal(hdf.Results{Version: "1", Profiles: []hdf.Profile{p}})
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReader(string(b))
}

// A scan is judged by the threshold that was there when it was asked for.
func TestQueue_thresholdStays(t *testing.T) {
	s := newStore(t)
	c := scantest.Catalogue(t, s, scantest.Profile("base", "archive of base"))
	q := newQueue(t, s, func(cfg *scan.Config) { cfg.Catalogue = c })
	put := func(text string) {
		t.Helper()
		if _, _, err := c.SaveThreshold(t.Context(), "mine", []byte(text), "", "me"); err != nil {
			t.Fatal(err)
		}
	}
	put("compliance: {min: 10}")
	r := request()
	r.Threshold = "mine"
	before := create(t, q, r)
	put("compliance: {min: 90}")
	after := create(t, q, r)
	if err := c.DeleteThreshold(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		job := lease(t, q)
		if err := q.Complete(t.Context(), edge, job.ID, 1, document(t, hdf.Passed, hdf.Failed)); err != nil {
			t.Fatal(err)
		}
	}
	if b, a := get(t, q, before.ID), get(t, q, after.ID); b.Outcome != scan.Passed || a.Outcome != scan.Failed {
		t.Errorf("before %s %v, after %s %v", b.Outcome, b.Findings, a.Outcome, a.Findings)
	}
}

func TestQueue_Create(t *testing.T) {
	q := newQueue(t, newStore(t), nil)
	r := request()
	r.Threshold, r.Timeout = "strict", time.Minute
	s := create(t, q, r)
	if s.Status != scan.Queued || s.Request.Policy() != "base/strict" || s.ProfileVersion != "1.0.0" {
		t.Errorf("created %+v", s)
	}
	if d := cmp.Diff(s, get(t, q, s.ID)); d != "" {
		t.Errorf("created and kept differ:\n%s", d)
	}

	r.Target = scan.Target{Agent: "edge", URI: "k8s-container://shop/web-1.x/app"}
	if d := cmp.Diff(request().Target, create(t, q, r).Request.Target); d != "" {
		t.Errorf("a container by its URI (-want +got):\n%s", d)
	}
	if got := create(t, q, request()).Request.Timeout; got != scan.DefaultTimeout {
		t.Errorf("timeout %v", got)
	}
}

func TestQueue_Create_refuses(t *testing.T) {
	s := newStore(t)
	q := newQueue(t, s, nil)
	for name, test := range map[string]struct {
		change func(*scan.Request)
		field  string
		says   string
	}{
		"no agent among several":  {func(r *scan.Request) { r.Target.Agent = "" }, "target.agent", "core, edge"},
		"an unknown agent":        {func(r *scan.Request) { r.Target.Agent = "egde" }, "target.agent", "core, edge"},
		"a kind it doesn't allow": {func(r *scan.Request) { r.Target = scan.Target{Agent: "core", URI: "dir:/"} }, "target.uri", "k8s-container"},
		"no namespace":            {func(r *scan.Request) { r.Target.Namespace = "" }, "target.namespace", "missing"},
		"no pod":                  {func(r *scan.Request) { r.Target.Pod = "" }, "target.pod", "missing"},
		"no container":            {func(r *scan.Request) { r.Target.Container = "" }, "target.container", "missing"},
		"a bad namespace":         {func(r *scan.Request) { r.Target.Namespace = "a/b" }, "target.namespace", `"a/b"`},
		"a bad pod":               {func(r *scan.Request) { r.Target.Pod = "web..1" }, "target.pod", `"web..1"`},
		"a bad container":         {func(r *scan.Request) { r.Target.Container = "$(id)" }, "target.container", `"$(id)"`},
		"both kinds of target":    {func(r *scan.Request) { r.Target.URI = "dir:/" }, "target.uri", "one or the other"},
		"half a container's URI":  {func(r *scan.Request) { r.Target = scan.Target{Agent: "edge", URI: "k8s-container://a/b"} }, "target.uri", "NAMESPACE/POD/CONTAINER"},
		"an unknown profile":      {func(r *scan.Request) { r.Profile = "bsae" }, "scan.profile", "base, other"},
		"an unknown threshold":    {func(r *scan.Request) { r.Threshold = "lax" }, "scan.threshold", "moderate, strict"},
		"too short a time":        {func(r *scan.Request) { r.Timeout = time.Millisecond }, "options.timeout", "3600"},
		"too long a time":         {func(r *scan.Request) { r.Timeout = 2 * time.Hour }, "options.timeout", "3600"},
		"a callback elsewhere":    {func(r *scan.Request) { r.Callback = &scan.Callback{URL: "file:///etc/passwd"} }, "callback.url", "https"},
		"a password in its URL":   {func(r *scan.Request) { r.Callback = &scan.Callback{URL: "https://u:hush@h/"} }, "callback.url", "authentication"},
		"an unknown method":       {func(r *scan.Request) { r.Callback = &scan.Callback{URL: "https://h/", Type: "digest"} }, "callback.authentication.type", "basic"},
		"a bearer without token":  {func(r *scan.Request) { r.Callback = &scan.Callback{URL: "https://h/", Type: "bearer"} }, "callback.authentication.token", "missing"},
		"basic without user":      {func(r *scan.Request) { r.Callback = &scan.Callback{URL: "https://h/", Type: "basic"} }, "callback.authentication.username", "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			r := request()
			test.change(&r)
			_, err := q.Create(t.Context(), r)
			var invalid *scan.InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v, want an InvalidError", err)
			}
			if invalid.Field != test.field || !strings.Contains(invalid.Reason, test.says) || strings.Contains(err.Error(), "hush") {
				t.Errorf("got %v; want one on %s that says %q", err, test.field, test.says)
			}
		})
	}
	if scans, err := q.List(t.Context(), scan.Filter{}); err != nil || len(scans) != 0 {
		t.Errorf("refused requests left %d scans, %v", len(scans), err)
	}
}

func TestQueue_Create_withoutAgents(t *testing.T) {
	s := newStore(t)
	q := newQueue(t, s, func(c *scan.Config) { c.Agents = nobody{} })
	_, err := q.Create(t.Context(), request())
	if err == nil || !strings.Contains(err.Error(), "join token") {
		t.Errorf("got %v, want the next step", err)
	}
	q = newQueue(t, s, func(c *scan.Config) { c.Agents = onlyEdge{} })
	r := request()
	r.Target.Agent = ""
	if got := create(t, q, r).Request.Target.Agent; got != "edge" {
		t.Errorf("the only agent is edge, the scan went to %q", got)
	}
}

type nobody struct{}

func (nobody) ScanTargets(context.Context, fleet.AgentName) (map[fleet.AgentName][]string, error) {
	return nil, nil
}

type onlyEdge struct{}

func (onlyEdge) ScanTargets(context.Context, fleet.AgentName) (map[fleet.AgentName][]string, error) {
	return map[fleet.AgentName][]string{"edge": {scan.KindContainer}}, nil
}

func TestQueue_Complete(t *testing.T) {
	for name, test := range map[string]struct {
		threshold string
		statuses  []hdf.Status
		want      scan.Outcome
		counts    hdf.Counts
		findings  int
	}{
		"all passed":            {"", []hdf.Status{hdf.Passed, hdf.Passed, hdf.Skipped}, scan.Passed, hdf.Counts{Passed: 2, Skipped: 1}, 0},
		"one failed":            {"", []hdf.Status{hdf.Passed, hdf.Failed}, scan.Failed, hdf.Counts{Passed: 1, Failed: 1}, 0},
		"one not judged":        {"", []hdf.Status{hdf.Passed, hdf.Error}, scan.Failed, hdf.Counts{Passed: 1, Error: 1}, 0},
		"within the threshold":  {"strict", []hdf.Status{hdf.Passed}, scan.Passed, hdf.Counts{Passed: 1}, 0},
		"outside the threshold": {"strict", []hdf.Status{hdf.Passed, hdf.Failed}, scan.Failed, hdf.Counts{Passed: 1, Failed: 1}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			q := newQueue(t, s, nil)
			r := request()
			r.Threshold = test.threshold
			id := create(t, q, r).ID
			if _, err := q.Results(t.Context(), id); !errors.Is(err, scan.ErrNoResult) {
				t.Errorf("results before the run: %v", err)
			}
			job := lease(t, q)
			if err := q.Complete(t.Context(), edge, id, job.Attempt, document(t, test.statuses...)); err != nil {
				t.Fatal(err)
			}
			got := get(t, q, id)
			if got.Status != scan.Completed || got.Outcome != test.want || got.Counts != test.counts || len(got.Findings) != test.findings {
				t.Errorf("completed as %+v", got)
			}
			doc, err := q.Results(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			defer doc.Close()
			want, _ := io.ReadAll(document(t, test.statuses...))
			if b, err := io.ReadAll(doc); err != nil || string(b) != string(want) {
				t.Errorf("results are not what was sent: %v", err)
			}
			alerts, err := s.Alerts(t.Context(), alert.Filter{Run: string(id)})
			if err != nil || len(alerts) != 1 || alerts[0].Outcome.Pass != (test.want == scan.Passed) {
				t.Errorf("alerts: %+v, %v", alerts, err)
			}
			err = q.Complete(t.Context(), edge, id, job.Attempt, document(t))
			if !errors.Is(err, scan.ErrFinished) {
				t.Errorf("a second time: %v", err)
			}
		})
	}
}

func TestQueue_Complete_badResults(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":                       "<html>",
		"another JSON":                  `{"profiles": 1}`,
		"no profiles":                   `{"version": "1"}`,
		"nothing":                       "",
		"half of it":                    `{"version": "1", "profiles": [`,
		"too long text":                 `{"version": "` + strings.Repeat("x", scan.MaxResults),
		"more profiles than anyone has": `{"version": "1", "profiles": [` + strings.Repeat(`{},`, 2000) + `{}]}`,
		"more controls than anyone has": `{"version": "1", "profiles": [{"controls": [` + strings.Repeat(`{},`, 200_000) + `{}]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(t, newStore(t), nil)
			id := create(t, q, request()).ID
			job := lease(t, q)
			err := q.Complete(t.Context(), edge, id, job.Attempt, strings.NewReader(text))
			if !errors.Is(err, scan.ErrBadResult) {
				t.Errorf("got %v", err)
			}
			if got := get(t, q, id); got.Status != scan.Error || !strings.Contains(got.Reason, "results") {
				t.Errorf("scan is %s (%s), want an error that says why", got.Status, got.Reason)
			}
		})
	}
}

// A connection that breaks isn't the results' fault: the agent sends again.
func TestQueue_Complete_cutOff(t *testing.T) {
	q := newQueue(t, newStore(t), nil)
	id := create(t, q, request()).ID
	job := lease(t, q)
	cut := io.MultiReader(strings.NewReader(`{"version":`), iotest.ErrReader(io.ErrUnexpectedEOF))
	if err := q.Complete(t.Context(), edge, id, job.Attempt, cut); err == nil || errors.Is(err, scan.ErrBadResult) {
		t.Errorf("got %v", err)
	}
	if got := get(t, q, id); got.Status != scan.Running {
		t.Errorf("scan is %s", got.Status)
	}
	if err := q.Complete(t.Context(), edge, id, job.Attempt, document(t, hdf.Passed)); err != nil {
		t.Errorf("again: %v", err)
	}
}

// failingDisk keeps documents and can't read them.
type failingDisk struct{ *store.Store }

func (failingDisk) Document(string) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader(`{"version":`), iotest.ErrReader(errors.New("input/output error")))), nil
}

// The hub's disk isn't the results' fault either.
func TestQueue_Complete_failingDisk(t *testing.T) {
	s := newStore(t)
	q := newQueue(t, s, func(c *scan.Config) { c.Store = failingDisk{s} })
	id := create(t, q, request()).ID
	job := lease(t, q)
	if err := q.Complete(t.Context(), edge, id, job.Attempt, document(t, hdf.Passed)); err == nil || errors.Is(err, scan.ErrBadResult) {
		t.Errorf("got %v", err)
	}
	if got := get(t, q, id); got.Status != scan.Running {
		t.Errorf("scan is %s (%s)", got.Status, got.Reason)
	}
}

// What an agent says is kept and shown, so it has a length.
func TestQueue_longTexts(t *testing.T) {
	q := newQueue(t, newStore(t), nil)
	id := create(t, q, request()).ID
	job := lease(t, q)
	long := strings.Repeat("ä", 1<<19)
	if err := q.Progress(t.Context(), edge, id, job.Attempt, scan.Progress{Done: -1, Total: 5, Control: long}); err != nil {
		t.Fatal(err)
	}
	if p := get(t, q, id).Progress; len(p.Control) > 5000 || p.Done != 0 {
		t.Errorf("progress is at %d, its control has %d bytes", p.Done, len(p.Control))
	}
	if err := q.Fail(t.Context(), edge, id, job.Attempt, long, false); err != nil {
		t.Fatal(err)
	}
	if got := get(t, q, id).Reason; len(got) > 5000 || !strings.HasPrefix(got, "ää") || !strings.HasSuffix(got, "ä …") {
		t.Errorf("the reason has %d bytes", len(got))
	}
}

// The hub dies after it has kept the results and before it has committed.
func TestQueue_Complete_afterACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reeve.db")
	s := openStore(t, path)
	q := newQueue(t, s, nil)
	id := create(t, q, request()).ID
	job := lease(t, q)
	if _, _, err := s.PutDocument(document(t, hdf.Passed), 1<<20); err != nil {
		t.Fatal(err)
	}
	s.Close()

	s = openStore(t, path)
	defer s.Close()
	q = newQueue(t, s, nil)
	if got := get(t, q, id); got.Status != scan.Running {
		t.Errorf("scan is %s, want running", got.Status)
	}
	if err := q.Complete(t.Context(), edge, id, job.Attempt, document(t, hdf.Passed)); err != nil {
		t.Fatal(err)
	}
	if got := get(t, q, id); got.Outcome != scan.Passed {
		t.Errorf("outcome %q", got.Outcome)
	}
}

func TestQueue_Lease_waitsForWork(t *testing.T) {
	q := newQueue(t, newStore(t), nil)
	got := make(chan *scan.Job)
	go func() {
		job, err := q.Lease(t.Context(), edge, []string{scan.KindContainer}, nil)
		if err != nil {
			t.Error(err)
		}
		got <- job
	}()
	r := request()
	r.Inputs = map[string]any{"n": 1}
	id := create(t, q, r).ID
	job := <-got
	want := &scan.Job{
		ID: id, Attempt: 1, Target: r.Target, Profile: "base", ProfileDigest: job.ProfileDigest,
		Inputs: map[string]any{"n": int64(1)}, Timeout: scan.DefaultTimeout, LeaseFor: scan.DefaultLeaseFor,
	}
	if d := cmp.Diff(want, job); d != "" {
		t.Errorf("job (-want +got):\n%s", d)
	}
	archive, err := q.Profile(t.Context(), edge, job.ProfileDigest)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if b, err := io.ReadAll(archive); err != nil || string(b) != "archive of base" {
		t.Errorf("profile %q, %v", b, err)
	}
	if _, err := q.Profile(t.Context(), fleet.Peer{Agent: "core"}, job.ProfileDigest); !errors.Is(err, scan.ErrNotFound) {
		t.Errorf("another agent's profile: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if job, err := q.Lease(ctx, edge, []string{scan.KindContainer}, nil); job != nil || err != nil {
		t.Errorf("without work: %v, %v", job, err)
	}
}

// The link breaks while a lease is on its way to the agent.
func TestQueue_Lease_lostAnswer(t *testing.T) {
	q := newQueue(t, newStore(t), nil)
	id := create(t, q, request()).ID
	lease(t, q)
	if job := lease(t, q); job.ID != id || job.Attempt != 2 {
		t.Errorf("got %s at attempt %d, want the same scan again", job.ID, job.Attempt)
	}
	next := create(t, q, request()).ID
	job, err := q.Lease(t.Context(), edge, []string{scan.KindContainer}, []scan.ID{id})
	if err != nil || job.ID != next {
		t.Errorf("got %+v, %v; want the next scan", job, err)
	}
	if s := get(t, q, id); s.Status != scan.Running || s.Attempt != 2 {
		t.Errorf("what the agent holds is %s at attempt %d", s.Status, s.Attempt)
	}
}

func TestQueue_Get_saysWhatItWaitsFor(t *testing.T) {
	q := newQueue(t, newStore(t), func(c *scan.Config) { c.Connected = func(a fleet.AgentName) bool { return a != "edge" } })
	s := create(t, q, request())
	if !strings.Contains(s.Reason, "agent edge, which isn't connected") {
		t.Errorf("reason %q", s.Reason)
	}
}

func TestQueue_Cancel(t *testing.T) {
	q := newQueue(t, newStore(t), nil)
	id := create(t, q, request()).ID
	job := lease(t, q)
	s, err := q.Cancel(t.Context(), id, "ci")
	if err != nil || s.Status != scan.Cancelled || s.Reason != "cancelled by ci" {
		t.Errorf("cancelled: %+v, %v", s, err)
	}
	for what, err := range map[string]error{
		"progress": q.Progress(t.Context(), edge, id, job.Attempt, scan.Progress{}),
		"results":  q.Complete(t.Context(), edge, id, job.Attempt, document(t, hdf.Passed)),
		"failure":  q.Fail(t.Context(), edge, id, job.Attempt, "no", false),
		"cancel":   func() error { _, err := q.Cancel(t.Context(), id, ""); return err }(),
	} {
		if !errors.Is(err, scan.ErrFinished) {
			t.Errorf("%s after it: %v", what, err)
		}
	}
}

// A hub that was down leaves the agents the time of one lease to come back
// before it takes scans from them.
func TestQueue_Run(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, filepath.Join(dir, "reeve.db"))
		defer s.Close()
		q := newQueue(t, s, func(c *scan.Config) { c.LeaseFor, c.QueueFor = time.Minute, 10*time.Minute })
		id := create(t, q, request()).ID
		lease(t, q)
		time.Sleep(time.Hour) // the hub is down

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- q.Run(ctx) }()
		status := func(after time.Duration, want scan.Status) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := get(t, q, id); got.Status != want {
				t.Errorf("scan is %s (%s), want %s", got.Status, got.Reason, want)
			}
		}
		status(59*time.Second, scan.Running)
		status(2*time.Second, scan.Queued)
		status(9*time.Minute, scan.Queued)
		status(2*time.Minute, scan.Error)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestSecret(t *testing.T) {
	c := scan.Callback{URL: "https://h/", Token: "hush", Password: "hush"}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("callback", "callback", c, "token", c.Token)
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v %q", c, c, c.Token), string(b), log.String()} {
		if strings.Contains(text, "hush") {
			t.Errorf("the secret shows: %s", text)
		}
	}
}
