package policy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/postgres"
	"reeve.dev/reeve/store/postgres/postgrestest"
	"reeve.dev/reeve/store/sqlite"
)

// world is a fleet as a hub's database knows it. It is in a bubble of synctest.
type world struct {
	*testing.T
	*store.Store
	items int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "hub.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{T: t, Store: s}
}

func workload(namespace, name string) insight.Workload {
	return insight.Workload{Namespace: namespace, Kind: "Deployment", Name: name, Container: "c", Image: "reg/" + name + ":1", Digest: "sha256:" + name}
}

func (w *world) runs(list ...insight.Workload) {
	w.Helper()
	if err := w.PutInventory(w.Context(), "edge", insight.Inventory{Workloads: list}, time.Now()); err != nil {
		w.Fatal(err)
	}
}

// stays has the agent report the same for a while, each hour.
func (w *world) stays(v insight.View, from time.Time, wait time.Duration) {
	w.Helper()
	v.Contents = nil
	for n := time.Hour; n < wait; n += time.Hour {
		if wanted, err := w.PutView(w.Context(), "edge", v, from.Add(n)); err != nil || len(wanted) > 0 {
			w.Fatalf("wanted %v, %v", wanted, err)
		}
	}
}

func (w *world) sbom(namespace, image string) {
	w.Helper()
	w.items++
	it := insight.Item{
		ID: insight.ItemID(fmt.Sprint(w.items)), Cluster: "edge", Environment: insight.Environment{Namespace: namespace},
		Content: insight.Document{Kind: insight.KindSBOM, Service: image},
	}
	parsed := &insight.Parsed{Digest: insight.Digest(fmt.Sprint("sha256:sbom", w.items)), SBOM: &insight.SBOM{ImageDigest: "sha256:" + image}}
	if _, err := w.ApplyInsight(w.Context(), it, parsed, time.Now()); err != nil {
		w.Fatal(err)
	}
}

// start runs an engine until the function that it returns is called.
func (w *world) start(cfg policy.Config) (e *policy.Engine, stop func()) {
	w.Helper()
	if err := policy.Validate(cfg.Policies, cfg.Sinks); err != nil {
		w.Fatal(err)
	}
	if cfg.Store == nil {
		cfg.Store = w.Store
	}
	if cfg.Evidence == nil {
		cfg.Evidence = w.Evidence()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	e = policy.New(cfg)
	done.Go(func() {
		if err := e.Run(ctx); err != nil {
			w.Error(err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	w.Cleanup(stop)
	return e, stop
}

func verdict(a alert.Alert) string {
	if a.Outcome.Gone {
		return "gone"
	}
	return fmt.Sprint(a.Outcome.Pass)
}

// told are the alerts since the last time, by sink, oldest first.
func (w *world) told(seen map[alert.ID]bool) (out []string) {
	w.Helper()
	found, err := w.Alerts(w.Context(), alert.Filter{Limit: 1000})
	if err != nil {
		w.Fatal(err)
	}
	for _, a := range slices.Backward(found) {
		if !seen[a.ID] {
			seen[a.ID] = true
			out = append(out, fmt.Sprintf("%s: %s %s %s", a.Sink, a.Outcome.Policy, a.Outcome.Subject.Repo, verdict(a)))
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) lastRuns() (out []string) {
	w.Helper()
	runs, err := w.PolicyRuns(w.Context(), policy.Query{})
	if err != nil {
		w.Fatal(err)
	}
	for _, r := range slices.Backward(runs) {
		out = append(out, fmt.Sprintf("%s %s %s: %d+%d+%d of %d", r.Policy, r.Cause, r.State, r.Passed, r.Failed, r.Unknown, r.Expected))
	}
	return out
}

func (w *world) expect(what string, want, got []string) {
	w.Helper()
	if d := cmp.Diff(want, got); d != "" {
		w.Errorf("%s (-want +got):\n%s", what, d)
	}
}

var (
	sinks  = policy.Sinks{"x": "rpc", "y": "webhook"}
	toRPC  = []policy.Action{{Kind: "rpc"}}
	toBoth = []policy.Action{{Kind: "rpc", Name: "x"}, {Kind: "webhook", Name: "y"}}
	sboms  = policy.Policy{Name: "sboms", Check: policy.Check{SBOM: &policy.SBOMCheck{}}, Actions: toRPC, Every: time.Hour}
)

func TestEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		seen := map[alert.ID]bool{}
		w.runs(workload("shop", "web"), workload("shop", "db"))
		_, stop := w.start(policy.Config{Policies: []policy.Policy{sboms}, Sinks: sinks, Holder: "a"})
		time.Sleep(time.Minute)
		w.expect("told of what has no SBOM", []string{"x: sboms Deployment/db/c false", "x: sboms Deployment/web/c false"}, w.told(seen))

		// An event has its place evaluated; nothing else is.
		w.sbom("shop", "web")
		time.Sleep(time.Minute)
		w.expect("told once one has", []string{"x: sboms Deployment/db/c false", "x: sboms Deployment/web/c true"}, w.told(seen))
		time.Sleep(30 * time.Minute)
		w.expect("told when nothing happens", nil, w.told(seen))

		// The clock has all of it evaluated.
		time.Sleep(30 * time.Minute)
		w.expect("told by the clock", []string{"x: sboms Deployment/db/c false", "x: sboms Deployment/web/c true"}, w.told(seen))
		w.expect("runs", []string{
			"sboms configuration complete: 0+2+0 of 2", " insight complete: 1+1+0 of 2", "sboms clock complete: 1+1+0 of 2",
		}, w.lastRuns())
		found, err := w.PolicySubjects(t.Context(), policy.Query{Verdict: policy.Passed})
		if err != nil || len(found) != 1 || found[0].Subject.Repo != "Deployment/web/c" {
			t.Errorf("what passes: %+v, %v", found, err)
		}

		// Another configuration is another policy.
		stop()
		changed := sboms
		changed.Actions = toBoth
		w.start(policy.Config{Policies: []policy.Policy{changed}, Sinks: sinks, Holder: "a"})
		time.Sleep(2 * time.Minute)
		w.expect("told by another configuration", []string{
			"x: sboms Deployment/db/c false", "x: sboms Deployment/web/c true", "y: sboms Deployment/db/c false", "y: sboms Deployment/web/c true",
		}, w.told(seen))
	})
}

// What comes and goes, such as a container that crashes and a job by the clock,
// stays a subject, and people hear nothing of it; what stays away isn't one any more,
// and what is started anew from another image is judged by that alone.
func TestEngine_comesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		nightly := workload("shop", "nightly")
		nightly.Kind = "CronJob"
		rare := nightly
		rare.Name = "rare"
		web, db := workload("shop", "web"), workload("shop", "db")
		version, at := 0, time.Now()
		// view is what the agent sees after a while, which passes only in its report.
		var v insight.View
		view := func(after time.Duration, list ...insight.Workload) {
			t.Helper()
			w.stays(v, at, after)
			version++
			at = at.Add(after)
			v = insight.View{
				Namespaces: map[string]string{"shop": fmt.Sprint(version)}, CronJobs: true,
				Contents: map[string]insight.Contents{"shop": {Workloads: list, CronJobs: []string{"nightly"}}},
			}
			if wanted, err := w.PutView(t.Context(), "edge", v, at); err != nil || len(wanted) > 0 {
				t.Fatalf("wanted %v, %v", wanted, err)
			}
			time.Sleep(30 * time.Second)
		}
		seen := map[alert.ID]bool{}
		view(0, web, db, nightly, rare)
		w.start(policy.Config{Policies: []policy.Policy{sboms}, Sinks: sinks, Holder: "a"})
		time.Sleep(30 * time.Second)
		w.expect("told at first", []string{
			"x: sboms CronJob/nightly/c false", "x: sboms CronJob/rare/c false", "x: sboms Deployment/db/c false", "x: sboms Deployment/web/c false",
		}, w.told(seen))
		for range 30 {
			view(time.Minute, web)
			view(23*time.Hour, web, db, nightly, rare)
			view(time.Minute, web, db)
		}
		w.expect("told of what comes and goes", nil, w.told(seen))
		view(time.Minute, web)
		view(24*time.Hour, web)
		w.expect("told of what stays away", []string{"x: sboms CronJob/nightly/c false", "x: sboms CronJob/rare/c gone", "x: sboms Deployment/db/c gone", "x: sboms Deployment/web/c false"}, w.told(seen))
		w.sbom("shop", "web2")
		time.Sleep(time.Minute)
		w.told(seen)
		web.Digest = "sha256:web2"
		view(time.Minute, web)
		w.expect("told of another image", []string{"x: sboms CronJob/nightly/c false", "x: sboms Deployment/web/c true", "x: sboms web2 true"}, w.told(seen))
	})
}

// A place that is marked with all of its cluster is evaluated once, and of two
// subjects of one name the first.
func TestEngine_once(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		tell := func(service string) {
			t.Helper()
			w.items++
			it := insight.Item{
				ID: insight.ItemID(fmt.Sprint(w.items)), Cluster: "edge", Environment: insight.Environment{Namespace: "shop"},
				Content: insight.Facts{{Name: "php", Value: "8", Source: "s", Service: service}},
			}
			if _, err := w.ApplyInsight(t.Context(), it, nil, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		tell("")
		tell("environment")
		w.start(policy.Config{Policies: []policy.Policy{{Name: "php", Check: policy.Check{Fact: &policy.FactCheck{Name: "php"}}}}, Sinks: sinks, Holder: "a"})
		time.Sleep(time.Minute)
		tell("cli")
		unknown := insight.Item{ID: "deletion", Cluster: "edge", Environment: insight.Environment{ID: 9}, Content: insight.Deletion{Of: insight.KindFacts, Source: "none"}}
		if _, err := w.ApplyInsight(t.Context(), unknown, nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.expect("runs", []string{"php configuration complete: 1+0+0 of 1", " insight complete: 2+0+0 of 2"}, w.lastRuns())
	})
}

// A pod that was scanned is a subject until it is gone for a day, whoever asked for
// the scan, and not again by a schedule that goes on with it.
func TestEngine_scannedPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		baseline := policy.Policy{Name: "baseline", Check: policy.Check{Scan: &policy.ScanCheck{Profile: "linux"}}, Actions: toRPC}
		e, _ := w.start(policy.Config{Policies: []policy.Policy{baseline}, Sinks: sinks, Holder: "a"})
		ended := func(c scan.Scan, failure string) []fleet.Result {
			target := c.Request.Target
			return e.OfScan(t.Context(), policy.EndedScan{
				Scan:  policy.Scan{ID: string(c.ID), Subject: target.Subject(), At: time.Now()},
				Place: policy.Place{Agent: target.Agent, Namespace: target.Namespace}, Profile: "linux", Failure: failure,
			})
		}
		w.JudgeErrors(func(c scan.Scan) []fleet.Result { return ended(c, c.Reason) })
		at := time.Now()
		scanned := func(pod, failure string) {
			t.Helper()
			c := scan.Scan{ID: scan.NewID(), Status: scan.Queued, Created: at, Expires: at.Add(time.Hour), Request: scan.Request{
				Profile: "linux", Target: scan.Target{Agent: "edge", Namespace: "shop", Pod: pod, Container: "c"},
			}}
			f := scan.Finish{ID: c.ID, Status: scan.Error, Reason: failure}
			if failure == "" {
				f = scan.Finish{ID: c.ID, Status: scan.Completed, Verdict: scan.Verdict{Outcome: scan.Failed}, Results: ended(c, "")}
			}
			if err := w.CreateScan(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if err := w.FinishScan(t.Context(), f, at); err != nil {
				t.Fatal(err)
			}
		}
		var v insight.View
		view := func(after time.Duration, pods ...string) {
			t.Helper()
			w.stays(v, at, after)
			at = at.Add(after)
			c := insight.Contents{Pods: map[string][]string{}}
			for _, p := range pods {
				c.Pods[p] = []string{"c"}
			}
			v = insight.View{Namespaces: map[string]string{"shop": fmt.Sprint(at)}, Contents: map[string]insight.Contents{"shop": c}}
			if wanted, err := w.PutView(t.Context(), "edge", v, at); err != nil || len(wanted) > 0 {
				t.Fatalf("wanted %v, %v", wanted, err)
			}
		}
		stand := func() (out []string) {
			t.Helper()
			found, err := w.PolicySubjects(t.Context(), policy.Query{})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range found {
				out = append(out, r.Subject.Repo+" "+string(r.Verdict))
			}
			return out
		}
		view(0, "web-1", "fixed")
		scanned("web-1", "")
		scanned("fixed", "")
		view(time.Hour, "web-2") // by a rollout
		for range 3 {
			view(8*time.Hour-time.Minute, "web-2")
			scanned("fixed", "there is no such pod")
		}
		w.expect("less than a day after they were gone", []string{"fixed/c unknown", "web-1/c failed"}, stand())
		view(time.Hour, "web-2")
		scanned("fixed", "there is no such pod")
		view(time.Minute, "web-2")
		w.expect("a day after that", nil, stand())
		view(time.Hour, "web-2", "fixed")
		scanned("fixed", "it has no shell")
		w.expect("once it is there again", []string{"fixed/c unknown"}, stand())
	})
}

// Of several hubs one evaluates, and another when that is gone.
func TestEngine_severalHubs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.runs(workload("shop", "web"))
		// One that was killed has left its run behind.
		left := policy.Run{ID: policy.NewRunID(), Source: policy.Fleet, Policy: "sboms", Whole: true, Cause: "clock", Holder: "killed", Began: time.Now(), Expected: 1}
		if err := w.BeginPolicyRun(t.Context(), left); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		_, stopA := w.start(policy.Config{Policies: []policy.Policy{sboms}, Sinks: sinks, Holder: "a"})
		_, stopB := w.start(policy.Config{Policies: []policy.Policy{sboms}, Sinks: sinks, Holder: "b"})
		time.Sleep(2 * time.Minute)
		want := []string{"sboms clock truncated: 0+0+0 of 1", "sboms configuration complete: 0+1+0 of 1"}
		w.expect("runs of two hubs", want, w.lastRuns())
		runs, err := w.PolicyRuns(t.Context(), policy.Query{})
		if err != nil {
			t.Fatal(err)
		}
		stop := map[string]func(){"a": stopA, "b": stopB}[runs[0].Holder]
		stop()
		w.sbom("shop", "web")
		time.Sleep(2 * time.Minute)
		w.expect("runs once one is gone", append(want, " insight complete: 1+0+0 of 1"), w.lastRuns())
		if after, err := w.PolicyRuns(t.Context(), policy.Query{Limit: 1}); err != nil || after[0].Holder == runs[0].Holder {
			t.Errorf("the last run was made by %v, %v", after, err)
		}
	})
}

// On PostgreSQL two hubs evaluate each thing once, and the other goes on when one
// is stopped.
func TestEngine_postgres(t *testing.T) {
	s, err := postgres.Open(t.Context(), postgres.Config{URL: postgrestest.Start(t).URL(t), Documents: t.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w := &world{T: t, Store: s}
	w.runs(workload("shop", "web"))
	stops := map[string]func(){}
	for _, holder := range []string{"a", "b"} {
		_, stops[holder] = w.start(policy.Config{Policies: []policy.Policy{sboms}, Sinks: sinks, Holder: holder})
	}
	await := func(want ...string) (holder string) {
		t.Helper()
		for {
			if got := w.lastRuns(); len(got) >= len(want) && !strings.Contains(got[len(got)-1], "running") {
				w.expect("runs", want, got)
				break
			}
			select {
			case <-t.Context().Done():
				t.Fatal("it takes too long")
			case <-time.After(20 * time.Millisecond):
			}
		}
		runs, err := w.PolicyRuns(t.Context(), policy.Query{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		return runs[0].Holder
	}
	first := await("sboms configuration complete: 0+1+0 of 1")
	stops[first]()
	w.sbom("shop", "web")
	if second := await("sboms configuration complete: 0+1+0 of 1", " insight complete: 1+0+0 of 1"); second == first {
		t.Errorf("%s goes on after its end", second)
	}
	w.expect("told", []string{"x: sboms Deployment/web/c false", "x: sboms Deployment/web/c true"}, w.told(map[alert.ID]bool{}))
}

// faulty is a store that fails for a while.
type faulty struct {
	*store.Store
	record func() error
}

func (f faulty) RecordResults(ctx context.Context, id policy.RunID, results []fleet.Result, now time.Time) error {
	if err := f.record(); err != nil {
		return err
	}
	return f.Store.RecordResults(ctx, id, results, now)
}

// What can't be recorded now is recorded later, unless somebody else took over.
func TestEngine_databaseAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.runs(workload("shop", "web"))
		began := time.Now()
		full := faulty{w.Store, func() error {
			if time.Since(began) < 3*time.Minute {
				return errors.New("the outbox is full")
			}
			return nil
		}}
		w.start(policy.Config{Policies: []policy.Policy{sboms}, Sinks: sinks, Holder: "a", Store: full})
		time.Sleep(2 * time.Minute)
		w.expect("runs while nothing is recorded", []string{"sboms configuration running: 0+0+0 of 1"}, w.lastRuns())
		time.Sleep(3 * time.Minute)
		w.expect("runs after that", []string{"sboms configuration complete: 0+1+0 of 1"}, w.lastRuns())
	})
}

// flaky is evidence that knows of an agent which it can't read until told.
type flaky struct {
	policy.Evidence
	mended *atomic.Bool
	tried  *atomic.Int32
}

func (f flaky) Agents(context.Context) ([]fleet.AgentName, error) {
	return []fleet.AgentName{"bad", "edge"}, nil
}

func (f flaky) Subjects(ctx context.Context, p policy.Place, need policy.Need) ([]policy.Subject, error) {
	if p.Agent != "bad" {
		return f.Evidence.Subjects(ctx, p, need)
	}
	f.tried.Add(1)
	if !f.mended.Load() {
		return nil, errors.New("its rows are broken")
	}
	return []policy.Subject{{Agent: "bad", Namespace: "shop", Kind: "Deployment", Name: "late", Container: "c", Images: []policy.Image{{Digest: "sha256:late"}}}}, nil
}

// TestEngine_unread: what can't be read of one cluster is said, keeps no other from
// being judged, and is tried again more and more rarely. The others aren't told
// again because of it, and in the end the run is whole.
func TestEngine_unread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.runs(workload("shop", "web"))
		evidence := flaky{w.Evidence(), new(atomic.Bool), new(atomic.Int32)}
		seen := map[alert.ID]bool{}
		weekly := sboms
		weekly.Every = 24 * time.Hour
		w.start(policy.Config{Policies: []policy.Policy{weekly}, Sinks: sinks, Holder: "a", Evidence: evidence})
		time.Sleep(20 * time.Second)
		w.expect("told of the other", []string{"x: sboms Deployment/web/c false"}, w.told(seen))
		runs, err := w.PolicyRuns(t.Context(), policy.Query{State: policy.Truncated})
		if err != nil || len(runs) != 1 || !strings.Contains(runs[0].Reason, "what is known of bad: its rows are broken") {
			t.Errorf("runs that were cut short: %+v, %v", runs, err)
		}
		time.Sleep(10 * time.Hour)
		if n := evidence.tried.Load(); n < 10 || n > 20 {
			t.Errorf("in ten hours it was tried %d times", n)
		}
		w.expect("told meanwhile", nil, w.told(seen))
		w.sbom("shop", "web")
		time.Sleep(time.Minute)
		w.expect("told by an event elsewhere", []string{"x: sboms Deployment/web/c true"}, w.told(seen))
		evidence.mended.Store(true)
		time.Sleep(2 * time.Hour)
		w.expect("told once it can be read", []string{"x: sboms Deployment/late/c false"}, w.told(seen))
		w.expect("runs", []string{"sboms configuration complete: 0+2+0 of 2", " insight complete: 1+0+0 of 1"}, w.lastRuns())
	})
}

// TestEngine_left: what the configuration leaves out has a last word, and only what
// had failed.
func TestEngine_left(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		seen := map[alert.ID]bool{}
		w.runs(workload("shop", "web"), workload("shop", "db"), workload("lab", "web"))
		w.sbom("shop", "db")
		scans := policy.Policy{Name: "scans", Check: policy.Check{Scan: &policy.ScanCheck{Profile: "p"}}, Actions: toRPC}
		_, stop := w.start(policy.Config{Policies: []policy.Policy{sboms, scans}, Sinks: sinks, Holder: "a"})
		time.Sleep(time.Minute)
		w.told(seen)
		scanned := policy.NewRunID()
		if err := w.BeginPolicyRun(t.Context(), policy.Run{ID: scanned, Source: policy.Fleet, Began: time.Now()}); err != nil {
			t.Fatal(err)
		}
		var results []fleet.Result
		for _, namespace := range []string{"shop", "lab"} {
			results = append(results, fleet.Result{
				Outcome: fleet.Outcome{Subject: fleet.Subject{Owner: "edge/" + namespace, Repo: namespace + "-1/c"}, Policy: "scans"},
				Agent:   "edge", Namespace: namespace, Sinks: []string{"x"},
			})
		}
		if err := w.RecordResults(t.Context(), scanned, results, time.Now()); err != nil {
			t.Fatal(err)
		}
		w.told(seen)
		time.Sleep(time.Second)
		layer := policy.Layer{Place: policy.Place{Agent: "edge", Namespace: "lab"}, Text: "scans: {optOut: true}\n", At: time.Now()}
		if _, err := w.PutPolicyLayer(t.Context(), layer, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.expect("told of the end, once a namespace has opted out of scans, besides its other policy",
			[]string{"x: sboms Deployment/web/c false", "x: scans lab-1/c gone"}, w.told(seen))
		stop()

		moved := sboms
		moved.Subjects.Namespaces = []string{"lab"}
		_, stop = w.start(policy.Config{Policies: []policy.Policy{moved, scans}, Sinks: sinks, Holder: "a"})
		time.Sleep(time.Minute)
		w.expect("told by a policy that is about less", []string{"x: sboms Deployment/web/c false", "x: sboms Deployment/web/c gone"}, w.told(seen))
		stop()
		_, stop = w.start(policy.Config{Sinks: sinks, Holder: "a"})
		time.Sleep(time.Minute)
		w.expect("told when there are no policies any more", []string{"x: sboms Deployment/web/c gone", "x: scans shop-1/c gone"}, w.told(seen))
		stop()
		w.start(policy.Config{Sinks: sinks, Holder: "b"})
		time.Sleep(time.Hour)
		w.expect("told later", nil, w.told(seen))
	})
}

func TestEngine_overrides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		seen := map[alert.ID]bool{}
		p := sboms
		p.Actions = toBoth
		p.Overrides = []policy.Override{{Scope: fleet.Scope{Namespaces: []string{"lab"}}, Change: policy.Change{OptOut: true}}}
		strict := sboms
		strict.Name, strict.DisableOverride = "strict", true
		var log bytes.Buffer
		w.runs(workload("shop", "web"), workload("web", "web"), workload("lab", "web"))
		put := func(namespace, text string) {
			t.Helper()
			l := policy.Layer{Place: policy.Place{Agent: "edge", Namespace: namespace}, Text: text, By: "anna", At: time.Now()}
			if _, err := w.PutPolicyLayer(t.Context(), l, nil); err != nil {
				t.Fatal(err)
			}
		}
		put("shop", "sboms: {actions: [rpc/x]}\nstrict: {optOut: true}\n")
		put("web", "sboms: {optOut: true, chek: {}}\nnone: {optOut: true}\nstrict: {}\n")
		e, stop := w.start(policy.Config{
			Policies: []policy.Policy{p, strict}, Sinks: sinks, Holder: "a", Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		time.Sleep(time.Second)
		w.expect("told", []string{
			"x: sboms Deployment/web/c false", "x: sboms Deployment/web/c false", // of shop and of web, whose own part is broken
			"x: strict Deployment/web/c false", "x: strict Deployment/web/c false", "x: strict Deployment/web/c false",
			"y: sboms Deployment/web/c false", // of web
		}, whole(w, seen))
		var faults []string
		for _, f := range e.Faults() {
			faults = append(faults, f.Policy+": "+f.Reason)
		}
		w.expect("faults", []string{
			"strict: of namespace edge/shop, policy strict: the policy can't be overridden (disableOverride); ask who runs the hub, or take this part out",
			`sboms: of namespace edge/web, policy sboms: line 1: unknown key "chek"; did you mean "check"?`,
			"none: of namespace edge/web, policy none: there is no policy of that name; there are: sboms, strict",
			"strict: of namespace edge/web, policy strict: the policy can't be overridden (disableOverride); ask who runs the hub, or take this part out",
		}, faults)
		time.Sleep(10 * time.Minute)
		stop()
		if n := strings.Count(log.String(), "an override isn't applied"); n != 4 {
			t.Errorf("said %d times in ten minutes, of 4:\n%s", n, log.String())
		}
		w.told(seen)

		// Mended, and at once in force.
		put("web", "sboms: {optOut: true}\n")
		w.start(policy.Config{Policies: []policy.Policy{p, strict}, Sinks: sinks, Holder: "a"})
		time.Sleep(time.Minute)
		w.expect("told of web once it is mended", []string{"x: sboms Deployment/web/c gone", "x: strict Deployment/web/c false", "y: sboms Deployment/web/c gone"}, w.told(seen))
	})
}

// TestEngine_annotations: a namespace's annotation is a layer below what was put for
// it; what is wrong in it is said, and turns nothing off.
func TestEngine_annotations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		seen := map[alert.ID]bool{}
		p, strict := sboms, sboms
		p.Actions = toBoth
		strict.Name, strict.DisableOverride = "strict", true
		running := []insight.Workload{workload("broken", "web"), workload("out", "web"), workload("put", "web")}
		say := func(texts map[string]string) {
			t.Helper()
			if err := w.PutInventory(t.Context(), "edge", insight.Inventory{Workloads: running, Policies: texts}, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		say(map[string]string{
			"broken": "sboms: {optOut: yes, chek: {}}", "out": "sboms: {optOut: true}\nstrict: {optOut: true}", "put": "sboms: {optOut: true, actions: [log]}",
		})
		l := policy.Layer{Place: policy.Place{Agent: "edge", Namespace: "put"}, Text: "sboms: {actions: [webhook/y]}", At: time.Now()}
		if _, err := w.PutPolicyLayer(t.Context(), l, nil); err != nil {
			t.Fatal(err)
		}
		e, _ := w.start(policy.Config{Policies: []policy.Policy{p, strict}, Sinks: sinks, Holder: "a"})
		time.Sleep(time.Minute)
		var told []string
		for _, a := range whole(w, seen) {
			if !strings.Contains(a, "strict") {
				told = append(told, a)
			}
		}
		w.expect("told", []string{"x: sboms Deployment/web/c false", "y: sboms Deployment/web/c false", "y: sboms Deployment/web/c false"}, told)
		var faults []string
		for _, f := range e.Faults() {
			faults = append(faults, f.Reason)
		}
		w.expect("faults", []string{
			`of the annotation of namespace edge/broken, policy sboms: line 1: unknown key "chek"; did you mean "check"?`,
			"of the annotation of namespace edge/out, policy strict: the policy can't be overridden (disableOverride); ask who runs the hub, or take this part out",
		}, faults)
		if n := len(standing(w, "strict")); n != 3 {
			t.Errorf("strict holds for %d subjects, of 3", n)
		}
		say(map[string]string{"broken": "sboms: {optOut: true}"})
		time.Sleep(time.Minute)
		w.expect("who is checked once that is mended", []string{"out", "put"}, standing(w, "sboms"))
	})
}

// standing are the namespaces of a policy's subjects.
func standing(w *world, name string) (out []string) {
	w.Helper()
	found, err := w.PolicySubjects(w.Context(), policy.Query{Policy: name})
	if err != nil {
		w.Fatal(err)
	}
	for _, s := range found {
		out = append(out, s.Namespace)
	}
	return out
}

// whole are alerts but those of runs because of an event.
func whole(w *world, seen map[alert.ID]bool) (out []string) {
	w.Helper()
	runs, err := w.PolicyRuns(w.Context(), policy.Query{})
	if err != nil {
		w.Fatal(err)
	}
	for _, r := range runs {
		found, err := w.Alerts(w.Context(), alert.Filter{Run: string(r.ID), Limit: 1000})
		if err != nil {
			w.Fatal(err)
		}
		for _, a := range found {
			if seen[a.ID] = true; r.Whole {
				out = append(out, fmt.Sprintf("%s: %s %s %s", a.Sink, a.Outcome.Policy, a.Outcome.Subject.Repo, verdict(a)))
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestEngine_OfScan(t *testing.T) {
	var log bytes.Buffer
	e := policy.New(policy.Config{
		Policies: []policy.Policy{
			{Name: "baseline", Check: policy.Check{Scan: &policy.ScanCheck{Profile: "linux"}}, Actions: toRPC},
			{Name: "strict", Check: policy.Check{Scan: &policy.ScanCheck{Profile: "linux", Threshold: "strict"}}, Actions: []policy.Action{{Kind: "fix", Name: "mark"}}},
			{Name: "ssh", Description: "Nobody logs in as root.", Check: policy.Check{Control: &policy.ControlCheck{ID: "/^ssh-/"}}},
			{Name: "one", Check: policy.Check{Control: &policy.ControlCheck{Profile: "linux", ID: "os-1"}}},
			{Name: "other", Subjects: policy.Selector{Scope: fleet.Scope{Namespaces: []string{"web"}}}, Check: policy.Check{Scan: &policy.ScanCheck{Profile: "linux"}}},
			sboms,
		},
		Sinks: sinks, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	ended := policy.EndedScan{
		Scan: policy.Scan{
			ID: "s1", Subject: fleet.Subject{Owner: "edge/shop", Repo: "web-1/c"}, Passed: true, At: time.Unix(1e9, 0),
			Bad: []policy.Control{{ID: "ssh-1", Title: "No root", Status: hdf.Failed}},
		},
		Place: policy.Place{Agent: "edge", Namespace: "shop"}, Profile: "linux", Threshold: "lax",
		Controls: []policy.Control{{ID: "ssh-1", Title: "No root", Status: hdf.Failed}, {ID: "ssh-2", Status: hdf.Passed}, {ID: "os-1", Status: hdf.Skipped}},
		Judge: func(threshold string) ([]string, error) {
			if threshold != "strict" {
				return nil, fmt.Errorf("no threshold %s", threshold)
			}
			return []string{"compliance 60 is below 80"}, nil
		},
	}
	told := func(s policy.EndedScan) (out []string) {
		for _, r := range e.OfScan(t.Context(), s) {
			line := r.Outcome.Details
			if r.Unknown != "" {
				line = r.Unknown
			}
			out = append(out, strings.Join(append(r.Sinks, strings.TrimSpace(line)), " "))
		}
		return out
	}
	for _, tc := range []struct {
		name   string
		change func(*policy.EndedScan)
		want   []string
	}{
		{"that passed", func(*policy.EndedScan) {}, []string{
			"x baseline passed on edge/shop web-1/c: scan s1 by linux passed.",
			"remedy:mark strict failed on edge/shop web-1/c.\nWhat is wrong:\n- compliance 60 is below 80",
			"ssh failed on edge/shop web-1/c.\nNobody logs in as root.\nWhat is wrong:\n- ssh-1: No root",
			"one could not be judged on edge/shop web-1/c: os-1 was skipped.",
		}},
		{"that failed", func(s *policy.EndedScan) { s.Passed, s.Threshold = false, "strict" }, []string{
			"x baseline failed on edge/shop web-1/c.\nWhat is wrong:\n- ssh-1: No root",
			"remedy:mark strict failed on edge/shop web-1/c.\nWhat is wrong:\n- ssh-1: No root",
			"ssh failed on edge/shop web-1/c.\nNobody logs in as root.\nWhat is wrong:\n- ssh-1: No root",
			"one could not be judged on edge/shop web-1/c: os-1 was skipped.",
		}},
		{"by another profile", func(s *policy.EndedScan) { s.Profile, s.Controls = "nginx", s.Controls[1:] }, []string{
			"ssh passed on edge/shop web-1/c: ssh-2 passed.",
		}},
		{"that came to nothing", func(s *policy.EndedScan) { s.Failure, s.Controls, s.Passed = "the pod is gone", nil, false }, []string{
			"baseline could not be judged on edge/shop web-1/c: scan s1 by linux came to no result: the pod is gone.",
			"strict could not be judged on edge/shop web-1/c: scan s1 by linux came to no result: the pod is gone.",
			"one could not be judged on edge/shop web-1/c: scan s1 by linux came to no result: the pod is gone.",
		}},
	} {
		got := told(func() policy.EndedScan { s := ended; tc.change(&s); return s }())
		for i := range got { // sinks of what isn't told are nobody's concern
			if strings.Contains(got[i], "could not") {
				got[i] = strings.TrimPrefix(strings.TrimPrefix(got[i], "x "), "remedy:mark ")
			}
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("a scan %s (-want +got):\n%s", tc.name, d)
		}
	}
	if n := strings.Count(log.String(), "policy=ssh"); n != 3 {
		t.Errorf("the hub's log tells of ssh %d times:\n%s", n, log.String())
	}
	if strings.Contains(log.String(), "policy=baseline") {
		t.Error("the hub's log tells of what goes to a sink")
	}
}
