package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/store"
)

var policyTests = map[string]func(*testing.T, *store.Store){
	"a run": aRun, "a run that is cut short": cutRun, "subjects that are gone": goneSubjects,
	"lists": policyLists, "old runs": oldRuns,
}

// result is one of policy p on NAMESPACE/repo of the agent edge.
func result(p, namespace, repo string, pass bool, sinks ...string) fleet.Result {
	return fleet.Result{
		Outcome: fleet.Outcome{Subject: fleet.Subject{Owner: "edge/" + namespace, Repo: repo}, Policy: p, Pass: pass, Details: "so it is"},
		Agent:   "edge", Namespace: namespace, Sinks: sinks,
	}
}

func beginRun(t testing.TB, s *store.Store, r policy.Run) policy.RunID {
	t.Helper()
	r.ID = policy.NewRunID()
	if r.Source == "" {
		r.Source = policy.Fleet
	}
	if err := s.BeginPolicyRun(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return r.ID
}

func record(t testing.TB, s *store.Store, id policy.RunID, now time.Time, results ...fleet.Result) {
	t.Helper()
	if err := s.RecordResults(t.Context(), id, results, now); err != nil {
		t.Fatal(err)
	}
}

func endedRun(t testing.TB, s *store.Store, id policy.RunID, now time.Time) policy.Run {
	t.Helper()
	if err := s.EndPolicyRun(t.Context(), id, "", now); err != nil {
		t.Fatal(err)
	}
	runs, err := s.PolicyRuns(t.Context(), policy.Query{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		if r.ID == id {
			return r
		}
	}
	t.Fatalf("run %s isn't listed", id)
	return policy.Run{}
}

func standing(t testing.TB, s *store.Store, q policy.Query) map[string]policy.SubjectRecord {
	t.Helper()
	found, err := s.PolicySubjects(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]policy.SubjectRecord{}
	for _, r := range found {
		out[r.Policy+" "+r.Subject.Repo] = r
	}
	return out
}

func aRun(t *testing.T, s *store.Store) {
	t0 := time.UnixMicro(1_700_000_000_000_000).UTC()
	id := beginRun(t, s, policy.Run{Policy: "p", Cause: "clock", Holder: "hub", Began: t0})
	if err := s.ExpectResults(t.Context(), id, 3); err != nil {
		t.Fatal(err)
	}
	unknown := result("p", "shop", "c", false, "x")
	unknown.Unknown = "nobody answered"
	first := []fleet.Result{result("p", "shop", "a", true, "x"), result("p", "shop", "b", false, "x", "y"), unknown}
	record(t, s, id, t0, first...)
	// The answer was lost, so it is said again.
	record(t, s, id, t0.Add(time.Second), first...)

	got := endedRun(t, s, id, t0.Add(time.Minute))
	want := policy.Run{
		ID: id, Source: policy.Fleet, Policy: "p", Cause: "clock", Holder: "hub", Began: t0, Ended: t0.Add(time.Minute),
		Expected: 3, Passed: 1, Failed: 1, Unknown: 1, State: policy.Complete,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("run (-want +got):\n%s", d)
	}
	told, err := s.Alerts(t.Context(), alert.Filter{Run: string(id)})
	if err != nil {
		t.Fatal(err)
	}
	sinks := map[string]bool{}
	for _, a := range told {
		sinks[a.Sink+" "+a.Outcome.Subject.Repo+fmt.Sprint(a.Outcome.Pass)] = true
	}
	if d := cmp.Diff(map[string]bool{"x atrue": true, "x bfalse": true, "y bfalse": true}, sinks); d != "" || len(told) != 3 {
		t.Errorf("%d alerts (-want +got):\n%s", len(told), d)
	}

	// A later run: how long each has stood so is kept.
	t1 := t0.Add(time.Hour)
	again := beginRun(t, s, policy.Run{Policy: "p", Began: t1, Expected: 2})
	record(t, s, again, t1, result("p", "shop", "a", false), result("p", "shop", "b", false))
	endedRun(t, s, again, t1)
	now := standing(t, s, policy.Query{Policy: "p"})
	if a := now["p a"]; a.Verdict != policy.Failed || !a.Since.Equal(t1) || a.Run != string(again) {
		t.Errorf("a, which passed before: %+v", a)
	}
	if b := now["p b"]; !b.Since.Equal(t0) || !b.Checked.Equal(t1) {
		t.Errorf("b, which failed before: %+v", b)
	}
	if c := now["p c"]; c.Verdict != policy.Unknown || c.Details != "nobody answered" {
		t.Errorf("c, which couldn't be judged: %+v", c)
	}
}

func cutRun(t *testing.T, s *store.Store) {
	t0 := time.UnixMicro(1_700_000_000_000_000).UTC()
	short := beginRun(t, s, policy.Run{Policy: "p", Began: t0, Expected: 2})
	record(t, s, short, t0, result("p", "shop", "a", true))
	if r := endedRun(t, s, short, t0); r.State != policy.Truncated || r.Reason != "it has 1 of 2 results" {
		t.Errorf("a run that has too few results: %+v", r)
	}
	left := beginRun(t, s, policy.Run{Policy: "p", Began: t0, Expected: 2, Holder: "dead"})
	other := beginRun(t, s, policy.Run{Policy: "p", Began: t0, Holder: "alive"})
	if err := s.AbandonPolicyRuns(t.Context(), policy.Fleet, "dead", "the hub ended", t0); err != nil {
		t.Fatal(err)
	}
	// Its hub was only slow: nothing of it counts any more.
	for what, err := range map[string]error{
		"results":     s.RecordResults(t.Context(), left, []fleet.Result{result("p", "shop", "b", true, "x")}, t0),
		"expectation": s.ExpectResults(t.Context(), left, 7),
	} {
		if !errors.Is(err, policy.ErrRunOver) {
			t.Errorf("%s of an abandoned run: %v", what, err)
		}
	}
	if err := s.RecordResults(t.Context(), "none", nil, t0); !errors.Is(err, policy.ErrNotFound) {
		t.Errorf("results of no run: %v", err)
	}
	if r := endedRun(t, s, left, t0.Add(time.Hour)); r.State != policy.Truncated || r.Reason != "the hub ended" || !r.Ended.Equal(t0) {
		t.Errorf("an abandoned run, ended again: %+v", r)
	}
	if r := endedRun(t, s, other, t0); r.State != policy.Complete {
		t.Errorf("another hub's run: %+v", r)
	}
	if _, there := standing(t, s, policy.Query{})["p b"]; there {
		t.Error("the abandoned run's result was kept")
	}
}

func goneSubjects(t *testing.T, s *store.Store) {
	t0 := time.UnixMicro(1_700_000_000_000_000).UTC()
	id := beginRun(t, s, policy.Run{Policy: "p", Began: t0, Expected: 2})
	record(t, s, id, t0, result("p", "shop", "a", true), result("p", "shop", "gone", true), result("q", "shop", "a", true))

	t1 := t0.Add(time.Hour)
	whole := beginRun(t, s, policy.Run{Policy: "p", Began: t1, Expected: 1, Whole: true})
	record(t, s, whole, t1, result("p", "shop", "a", true))
	// Meanwhile a scan ends, of something that came after the run had looked.
	late := beginRun(t, s, policy.Run{Policy: "p", Began: t1, Expected: 1})
	record(t, s, late, t1.Add(time.Second), result("p", "shop", "new", true))
	if r := endedRun(t, s, whole, t1.Add(time.Minute)); r.State != policy.Complete {
		t.Fatalf("the run: %+v", r)
	}
	var names []string
	found, err := s.PolicySubjects(t.Context(), policy.Query{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range found {
		names = append(names, r.Policy+" "+r.Subject.Repo)
	}
	if d := cmp.Diff([]string{"p a", "p new", "q a"}, names); d != "" {
		t.Errorf("subjects (-want +got):\n%s", d)
	}
}

func policyLists(t *testing.T, s *store.Store) {
	t0 := time.UnixMicro(1_700_000_000_000_000).UTC()
	part := beginRun(t, s, policy.Run{Policy: "p", Began: t0})
	record(t, s, part, t0, result("p", "shop", "a", true), result("p", "shop", "b", false), result("p", "web", "a", false))
	whole := beginRun(t, s, policy.Run{Policy: "p", Whole: true, Began: t0})
	later := beginRun(t, s, policy.Run{Policy: "p", Began: t0})
	only := beginRun(t, s, policy.Run{Policy: "q", Began: t0})
	github := beginRun(t, s, policy.Run{Source: "github/acme", Began: t0})

	last, err := s.LastRuns(t.Context(), policy.Fleet)
	if err != nil || len(last) != 2 || last["p"].ID != whole || last["q"].ID != only {
		t.Errorf("last runs %v, %v", last, err)
	}
	runs, err := s.PolicyRuns(t.Context(), policy.Query{Source: policy.Fleet, Before: only, Limit: 2})
	if err != nil || len(runs) != 2 || runs[0].ID != later || runs[1].ID != whole {
		t.Errorf("a page of runs: %v, %v", runs, err)
	}
	if runs, err = s.PolicyRuns(t.Context(), policy.Query{Source: "github/acme"}); err != nil || len(runs) != 1 || runs[0].ID != github {
		t.Errorf("another source's runs: %v, %v", runs, err)
	}
	for name, q := range map[string]policy.Query{
		"by verdict":       {Policy: "p", Verdict: policy.Failed, Namespace: "web"},
		"by subject":       {Subject: fleet.Subject{Owner: "edge/web", Repo: "a"}},
		"by the last page": {Offset: 2},
		"by rights":        {Within: []fleet.Scope{{Namespaces: []string{"w*"}}}},
	} {
		found, err := s.PolicySubjects(t.Context(), q)
		if err != nil || len(found) != 1 || found[0].Namespace != "web" {
			t.Errorf("subjects %s: %v, %v", name, found, err)
		}
	}
	tallies, err := s.PolicyTallies(t.Context(), policy.Query{Source: policy.Fleet, Within: []fleet.Scope{{Namespaces: []string{"shop"}}}})
	if d := cmp.Diff(map[string]policy.Tally{"p": {Passed: 1, Failed: 1}}, tallies); err != nil || d != "" {
		t.Errorf("tallies %v (-want +got):\n%s", err, d)
	}
}

func oldRuns(t *testing.T, s *store.Store) {
	t0 := time.UnixMicro(1_700_000_000_000_000).UTC()
	old := beginRun(t, s, policy.Run{Policy: "p", Began: t0})
	record(t, s, old, t0, result("p", "shop", "a", true))
	endedRun(t, s, old, t0)
	running := beginRun(t, s, policy.Run{Policy: "p", Began: t0})
	record(t, s, running, t0.Add(2*time.Hour), result("p", "shop", "b", true))
	if err := s.RemovePolicyRuns(t.Context(), t0.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	runs, err := s.PolicyRuns(t.Context(), policy.Query{})
	if err != nil || len(runs) != 1 || runs[0].ID != running {
		t.Errorf("runs left: %v, %v", runs, err)
	}
	if left := standing(t, s, policy.Query{}); len(left) != 1 || left["p b"].Policy == "" {
		t.Errorf("subjects left: %v", left)
	}
}
