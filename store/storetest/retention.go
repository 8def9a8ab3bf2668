package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
)

// ended makes a scan of pod that ends in status at a time.
func ended(t *testing.T, s *store.Store, pod string, status scan.Status, at time.Time) scan.ID {
	t.Helper()
	c := newScan("edge")
	c.Request.Target.Pod = pod
	c.Request.Key = scan.Key{Caller: "ci", Name: string(c.ID), Digest: "d"}
	create(t, s, c)
	f := scan.Finish{ID: c.ID, Status: status}
	if status == scan.Completed {
		leaseScan(t, s, epoch)
		f = completed(c.ID, 1)
		f.Verdict.Compliance = 75
	}
	if err := s.FinishScan(t.Context(), f, at); err != nil {
		t.Fatal(err)
	}
	return c.ID
}

func kept(t *testing.T, s *store.Store) (ids []scan.ID) {
	t.Helper()
	scans, err := s.Scans(t.Context(), scan.Filter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range scans {
		ids = append(ids, c.ID)
	}
	slices.Reverse(ids)
	return ids
}

// forgetsScans: by age, by how many of a target, by how many in all; never one
// that isn't finished.
func forgetsScans(t *testing.T, s *store.Store) {
	now := epoch.Add(1000 * time.Hour)
	apply := func(r scan.Retention, want int) {
		t.Helper()
		n, err := r.Apply(t.Context(), s, now)
		if err != nil || n != want {
			t.Errorf("%+v: %d scans, %v; want %d", r, n, err, want)
		}
	}
	old := ended(t, s, "web-1", scan.Completed, epoch)
	a1 := ended(t, s, "web-1", scan.Completed, now)
	aError := ended(t, s, "web-1", scan.Cancelled, now)
	b1 := ended(t, s, "web-2", scan.Completed, now)
	a2 := ended(t, s, "web-1", scan.Completed, now)
	a3 := ended(t, s, "web-1", scan.Completed, now)
	waiting := create(t, s, newScan("edge")).ID
	apply(scan.Retention{}, 0)
	apply(scan.Retention{KeepFor: 100 * time.Hour}, 1)
	equal(t, "after the age", kept(t, s), []scan.ID{a1, aError, b1, a2, a3, waiting})
	wantErr(t, "the one that is gone", func() error { _, err := s.Scan(t.Context(), old); return err }(), scan.ErrNotFound)
	// Its key is free again, rather than one that leads nowhere.
	again := newScan("edge")
	again.Request.Key = scan.Key{Caller: "ci", Name: string(old), Digest: "d"}
	if err := s.RemoveScans(t.Context(), []scan.ID{create(t, s, again).ID}, epoch); err != nil {
		t.Fatal(err)
	}
	equal(t, "one that isn't finished stays", len(kept(t, s)), 7)

	apply(scan.Retention{PerTarget: 2}, 1)
	equal(t, "after the number of a target", kept(t, s), []scan.ID{aError, b1, a2, a3, waiting, again.ID})
	apply(scan.Retention{Total: 4}, 2)
	equal(t, "after the number in all", kept(t, s), []scan.ID{a2, a3, waiting, again.ID})
	apply(scan.Retention{Total: 1}, 2)
	equal(t, "what isn't finished stays", kept(t, s), []scan.ID{waiting, again.ID})
}

func forgetsBatches(t *testing.T, s *store.Store) {
	b := newBatch("edge", "other")
	key := scan.Key{Caller: "ci", Name: "k", Digest: "d"}
	if err := s.CreateBatch(t.Context(), b, key); err != nil {
		t.Fatal(err)
	}
	for i, c := range b.Selections {
		if _, err := s.Batch(t.Context(), b.ID); err != nil {
			t.Errorf("with %d selections: %v", len(b.Selections)-i, err)
		}
		if err := s.FinishScan(t.Context(), scan.Finish{ID: c.ID, Status: scan.Cancelled}, epoch); err != nil {
			t.Fatal(err)
		}
		if n, err := (scan.Retention{KeepFor: time.Hour}).Apply(t.Context(), s, epoch.Add(2*time.Hour)); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if _, err := s.Batch(t.Context(), b.ID); !errors.Is(err, scan.ErrNoBatch) {
		t.Errorf("without any: %v", err)
	}
	wantErr(t, "its key is free again", s.CreateBatch(t.Context(), newBatch("edge"), key), nil)
}

// keepsYoungKeys: what is asked for again is the scan that there is, however many
// came since.
func keepsYoungKeys(t *testing.T, s *store.Store) {
	now := epoch.Add(time.Hour)
	key := scan.Key{Caller: "ci", Name: "mine", Digest: "d"}
	c := newScan("edge")
	c.Request.Key = key
	create(t, s, c)
	wantErr(t, "cancel", s.FinishScan(t.Context(), scan.Finish{ID: c.ID, Status: scan.Cancelled}, epoch), nil)
	for range 3 {
		other := newScan("edge")
		create(t, s, other)
		wantErr(t, "cancel", s.FinishScan(t.Context(), scan.Finish{ID: other.ID, Status: scan.Cancelled}, epoch), nil)
	}
	if n, err := (scan.Retention{PerTarget: 1, Total: 1}).Apply(t.Context(), s, now); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if got, err := s.ScanByKey(t.Context(), key, now); got.ID != c.ID || err != nil {
		t.Errorf("by its key %s, %v", got.ID, err)
	}
	if n, err := (scan.Retention{PerTarget: 1}).Apply(t.Context(), s, epoch.Add(scan.KeyLife)); n != 1 || err != nil {
		t.Errorf("once the key is old: %d, %v", n, err)
	}
}

// forgetsMany: more than fit in one transaction, or one look.
func forgetsMany(t *testing.T, s *store.Store) {
	for range 450 {
		ended(t, s, "web-1", scan.Cancelled, epoch)
	}
	n, err := scan.Retention{PerTarget: 3}.Apply(t.Context(), s, epoch.Add(scan.KeyLife))
	if n != 447 || err != nil || len(kept(t, s)) != 3 {
		t.Errorf("%d, %v; %d are left", n, err, len(kept(t, s)))
	}
}

func forgetsAlerts(t *testing.T, s *store.Store) {
	for i, repo := range []string{"delivered", "skipped", "dead", "pending"} {
		Outcomes(t, s, []fleet.Outcome{outcome(fmt.Sprint("run ", i), repo)}, []string{"x"}, nil)
	}
	now := time.Now().Add(time.Second)
	for _, a := range lease(t, s, "x", "t1", 10, now).Alerts {
		st := map[string]alert.State{"delivered": alert.Delivered, "dead": alert.Dead}[a.Outcome.Subject.Repo]
		if a.Outcome.Subject.Repo == "skipped" {
			if err := s.SkipAlert(t.Context(), a.ID); err != nil {
				t.Fatal(err)
			}
		} else if st != "" {
			settle(t, s, now, alert.Settlement{ID: a.ID, Sink: "x", Token: "t1", State: st})
		}
	}
	left := func() (repos []string) {
		t.Helper()
		list, err := s.Alerts(t.Context(), alert.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			repos = append(repos, a.Outcome.Subject.Repo)
		}
		slices.Sort(repos)
		return repos
	}
	for _, step := range []struct {
		keep alert.Retention
		at   time.Duration
		want []string
	}{
		{alert.Retention{}, 1000 * time.Hour, []string{"dead", "delivered", "pending", "skipped"}},
		{alert.Retention{KeepFor: 2 * time.Hour}, time.Hour, []string{"dead", "delivered", "pending", "skipped"}},
		{alert.Retention{KeepFor: 2 * time.Hour}, 3 * time.Hour, []string{"dead", "pending"}},
		{alert.Retention{DeadFor: 2 * time.Hour}, 3 * time.Hour, []string{"pending"}},
	} {
		if _, err := step.keep.Apply(t.Context(), s, now.Add(step.at)); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(step.want, left()); d != "" {
			t.Errorf("%+v (-want +got):\n%s", step.keep, d)
		}
	}
	// A key of which nothing was left begins anew; one that has alerts doesn't.
	for repo, want := range map[string]int64{"delivered": 1, "pending": 2} {
		Outcomes(t, s, []fleet.Outcome{outcome("again", repo)}, []string{"x"}, nil)
		list, err := s.Alerts(t.Context(), alert.Filter{Run: "again"})
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(list, func(a alert.Alert) bool { return a.Outcome.Subject.Repo == repo }); i < 0 || list[i].Seq != want {
			t.Errorf("%s: %+v, want seq %d", repo, list, want)
		}
	}
}

// forgetsPauses: others choose endpoints, so that their names would pile up.
func forgetsPauses(t *testing.T, s *store.Store) {
	now := time.Now().Add(time.Second)
	for _, sink := range []string{"endpoint:gone:1", "endpoint:there:1"} {
		Outcomes(t, s, []fleet.Outcome{outcome("r1", "a")}, []string{sink}, nil)
		a := lease(t, s, sink, sink, 1, now).Alerts[0]
		settle(t, s, now, alert.Settlement{ID: a.ID, Sink: sink, Token: sink, State: alert.Pending, RetryAt: now, PauseUntil: now.Add(time.Minute), Reason: "refused"})
		if sink == "endpoint:gone:1" {
			if err := s.SkipAlert(t.Context(), a.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.HoldSink(t.Context(), "held", "ann"); err != nil {
		t.Fatal(err)
	}
	names := func() (all []string) {
		t.Helper()
		sinks, err := s.AlertSinks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sinks {
			all = append(all, s.Sink)
		}
		return all
	}
	equal(t, "sinks", names(), []string{"endpoint:gone:1", "endpoint:there:1", "held"})
	if _, err := (alert.Retention{KeepFor: time.Hour}).Apply(t.Context(), s, now.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	equal(t, "sinks later", names(), []string{"endpoint:there:1", "held"})
}

func sharesDuties(t *testing.T, s *store.Store) {
	for i, step := range []struct {
		holder string
		after  time.Duration
		want   bool
	}{
		{"a", 0, true}, {"b", time.Minute, false}, {"a", 2 * time.Minute, true}, // until 1h2m
		{"b", time.Hour, false}, {"b", time.Hour + 2*time.Minute, true}, {"a", time.Hour + 3*time.Minute, false},
	} {
		now := epoch.Add(step.after)
		got, err := s.TakeDuty(t.Context(), "sweep", step.holder, now, now.Add(time.Hour))
		if err != nil || got != step.want {
			t.Errorf("%d: %s: %v, %v", i, step.holder, got, err)
		}
	}
	if got, err := s.TakeDuty(t.Context(), "other", "b", epoch, epoch.Add(time.Hour)); !got || err != nil {
		t.Errorf("another duty: %v, %v", got, err)
	}
}

// knowsHistory: what was completed last of each series, and what before.
func knowsHistory(t *testing.T, s *store.Store) {
	a1 := ended(t, s, "web-1", scan.Completed, epoch)
	ended(t, s, "web-1", scan.Cancelled, epoch)
	b1 := ended(t, s, "web-2", scan.Completed, epoch)
	a2 := ended(t, s, "web-1", scan.Completed, epoch)
	ended(t, s, "web-2", scan.Cancelled, epoch)
	latest := func(f scan.LatestFilter) (ids []scan.ID) {
		t.Helper()
		list, err := s.Latest(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			ids = append(ids, c.ID)
			if c.Compliance != 75 || c.Counts != (hdf.Counts{Passed: 3, Failed: 1}) {
				t.Errorf("%s: %d %%, %+v", c.ID, c.Compliance, c.Counts)
			}
		}
		return ids
	}
	equal(t, "all", latest(scan.LatestFilter{}), []scan.ID{a2, b1})
	equal(t, "the first", latest(scan.LatestFilter{Limit: 1}), []scan.ID{a2})
	equal(t, "the next", latest(scan.LatestFilter{Before: a2}), []scan.ID{b1})
	equal(t, "failed", latest(scan.LatestFilter{Agent: "edge", Namespace: "shop", Profile: "container-baseline", Outcome: scan.Failed}), []scan.ID{a2, b1})
	equal(t, "of another agent", latest(scan.LatestFilter{Agent: "x"}), []scan.ID(nil))
	equal(t, "passed", latest(scan.LatestFilter{Outcome: scan.Passed}), []scan.ID(nil))

	series := get(t, s, a1).Series()
	var got []scan.ID
	list, err := s.Scans(t.Context(), scan.Filter{Series: &series})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		got = append(got, c.ID)
	}
	equal(t, "the series", got, []scan.ID{a2, a1})

	// One that was asked for before isn't the last though it ended after.
	early, late := newScan("edge"), newScan("edge")
	for _, c := range []scan.Scan{early, late} {
		create(t, s, c)
		leaseScan(t, s, epoch)
	}
	passed := completed(late.ID, 1)
	passed.Verdict.Outcome, passed.Verdict.Compliance = scan.Passed, 75
	failed := completed(early.ID, 1)
	failed.Verdict.Compliance = 75
	for _, f := range []scan.Finish{passed, failed} {
		if err := s.FinishScan(t.Context(), f, epoch); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "all", latest(scan.LatestFilter{}), []scan.ID{late.ID, b1})
	equal(t, "passed now", latest(scan.LatestFilter{Outcome: scan.Passed}), []scan.ID{late.ID})
	// What is forgotten leaves its place to the one before, if there is one.
	if err := s.RemoveScans(t.Context(), []scan.ID{late.ID, b1}, epoch); err != nil {
		t.Fatal(err)
	}
	equal(t, "after those are forgotten", latest(scan.LatestFilter{}), []scan.ID{early.ID})
	equal(t, "failed again", latest(scan.LatestFilter{Outcome: scan.Failed}), []scan.ID{early.ID})
}

// knowsPosture: how many series stood how at the end of each day.
func knowsPosture(t *testing.T, s *store.Store) {
	day := 24 * time.Hour
	scanned := func(agent fleet.AgentName, namespace, pod string, outcome scan.Outcome, at time.Time) scan.ID {
		t.Helper()
		c := newScan(agent)
		c.Request.Target.Namespace, c.Request.Target.Pod = namespace, pod
		create(t, s, c)
		if err := s.FinishScan(t.Context(), scan.Finish{ID: c.ID, Status: scan.Completed, Verdict: scan.Verdict{Outcome: outcome}}, at); err != nil {
			t.Fatal(err)
		}
		return c.ID
	}
	last := scanned("edge", "shop", "web-1", scan.Failed, epoch) // day 0
	scanned("edge", "shop", "web-1", scan.Failed, epoch.Add(day))
	scanned("edge", "blog", "web-2", scan.Failed, epoch.Add(day))
	scanned("west", "shop", "web-1", scan.Passed, epoch.Add(day))
	mended := scanned("edge", "shop", "web-1", scan.Passed, epoch.Add(3*day))
	gone := scanned("west", "gone", "web-1", scan.Passed, epoch.Add(3*day))
	posture := func(f scan.PostureFilter) map[string]string {
		t.Helper()
		found, err := s.Posture(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, p := range found {
			text := p.Days[0].At.Format(time.DateOnly)
			for _, d := range p.Days {
				text += fmt.Sprintf(" %d/%d", d.Passed, d.Failed)
			}
			out[string(p.Agent)] = text
		}
		return out
	}
	from := func(days int) string { return epoch.Add(time.Duration(days) * day).Format(time.DateOnly) }
	until := epoch.Add(4 * day)
	equal(t, "all", posture(scan.PostureFilter{Until: until, Days: 6}), map[string]string{"": from(-1) + " 0/0 0/1 1/2 1/2 3/1 3/1"})
	equal(t, "one day", posture(scan.PostureFilter{Until: until, Days: 1}), map[string]string{"": from(4) + " 3/1"})
	equal(t, "a day that is over", posture(scan.PostureFilter{Until: epoch.Add(2 * day), Days: 2}), map[string]string{"": from(1) + " 1/2 1/2"})
	equal(t, "by agent", posture(scan.PostureFilter{Until: until, Days: 4, ByAgent: true}), map[string]string{
		"edge": from(1) + " 0/2 0/2 1/1 1/1", "west": from(1) + " 1/0 1/0 2/0 2/0",
	})
	equal(t, "of one agent", posture(scan.PostureFilter{Until: until, Days: 2, Agent: "west"}), map[string]string{"": from(3) + " 2/0 2/0"})
	equal(t, "of a namespace", posture(scan.PostureFilter{Until: until, Days: 4, Namespace: "shop"}), map[string]string{"": from(1) + " 1/1 1/1 2/0 2/0"})
	equal(t, "within a scope", posture(scan.PostureFilter{Until: until, Days: 4, ByAgent: true, Within: []fleet.Scope{{Agents: []string{"edge"}, Namespaces: []string{"bl*"}}}}),
		map[string]string{"edge": from(1) + " 0/1 0/1 0/1 0/1"})
	equal(t, "within nothing", posture(scan.PostureFilter{Until: until, Days: 1, Within: []fleet.Scope{}}), map[string]string{"": from(4) + " 0/0"})
	equal(t, "of nobody", posture(scan.PostureFilter{Until: until, Days: 1, Agent: "x", ByAgent: true}), map[string]string{})

	// What is forgotten counts until then: as the one before it, if there is one.
	for _, id := range []scan.ID{last, mended, gone} {
		if err := s.RemoveScans(t.Context(), []scan.ID{id}, until); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, "after some are forgotten", posture(scan.PostureFilter{Until: until, Days: 3}), map[string]string{"": from(2) + " 1/2 3/1 1/2"})

	// Series that are new to several at once count once.
	var all sync.WaitGroup
	for range 4 {
		c := newScan("east")
		create(t, s, c)
		all.Go(func() {
			if err := s.FinishScan(t.Context(), scan.Finish{ID: c.ID, Status: scan.Completed, Verdict: scan.Verdict{Outcome: scan.Failed}}, until); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	equal(t, "several at once", posture(scan.PostureFilter{Until: until, Days: 2, Agent: "east"}), map[string]string{"": from(3) + " 0/0 0/1"})
}
