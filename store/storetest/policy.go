package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/osv"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
)

var policyTests = map[string]func(*testing.T, *store.Store){
	"a run": aRun, "a run that is cut short": cutRun, "subjects that are gone": goneSubjects, "the end of what failed": lastWords,
	"containers that aren't selected any more": unselected,
	"lists": policyLists, "old runs": oldRuns,
	"evidence": policyEvidence, "evidence of another image": otherEvidence, "evidence of another tenant": tenantsEvidence, "layers": policyLayers, "annotations": annotatedPolicies,
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
	// What it misses comes after all.
	for range 2 {
		if err := s.ReopenPolicyRun(t.Context(), short); err != nil {
			t.Fatal(err)
		}
	}
	record(t, s, short, t0, result("p", "shop", "a", true), result("p", "shop", "late", true))
	if r := endedRun(t, s, short, t0); r.State != policy.Complete || r.Passed != 2 || r.Reason != "" {
		t.Errorf("a run that went on: %+v", r)
	}
	if err := s.ReopenPolicyRun(t.Context(), short); !errors.Is(err, policy.ErrRunOver) {
		t.Errorf("a complete run went on: %v", err)
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

// unselected: a container that its agent has looked for in vain twice, a day between,
// isn't checked any more; what the agent wasn't asked for stays.
func unselected(t *testing.T, s *store.Store) {
	at := epoch
	end := func(c scan.Scan) {
		t.Helper()
		target := c.Request.Target
		r := result("p", target.Namespace, target.Pod+"/"+target.Container, false, "issue")
		err := s.FinishScan(t.Context(), scan.Finish{ID: c.ID, Status: scan.Completed, Verdict: scan.Verdict{Outcome: scan.Failed}, Results: []fleet.Result{r}}, at)
		if err != nil {
			t.Fatal(err)
		}
	}
	alone := func(namespace string) {
		t.Helper()
		c := newScan("edge")
		c.Request.Target.Namespace, c.Request.Target.Pod = namespace, "alone"
		if err := s.CreateScan(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		end(c)
	}
	choose := func(after time.Duration, status scan.Status, sel scan.Selector, pods ...string) {
		t.Helper()
		at = at.Add(after)
		b := newBatch("edge")
		b.Selections[0].Selector, b.Selections[0].Expires = &sel, at.Add(queueFor)
		if err := s.CreateBatch(t.Context(), b, scan.Key{}); err != nil {
			t.Fatal(err)
		}
		who := taker("edge", "i1")
		who.Kinds = append(who.Kinds, scan.KindSelector)
		selection, err := s.LeaseScan(t.Context(), who, at)
		if err != nil {
			t.Fatal(err)
		}
		var found []scan.Scan
		for _, pod := range pods {
			c := newScan("edge")
			c.Batch, c.Request.Target.Pod = b.ID, pod
			found = append(found, c)
		}
		if err := s.ExpandScan(t.Context(), scan.Finish{ID: selection.ID, Agent: "edge", Attempt: 1, Status: status}, found, at); err != nil {
			t.Fatal(err)
		}
		for _, c := range found {
			end(c)
		}
	}
	expect := func(what string, want ...string) {
		t.Helper()
		var got []string
		list, err := s.PolicySubjects(t.Context(), policy.Query{})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			got = append(got, r.Namespace+" "+r.Subject.Repo)
		}
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	record(t, s, beginRun(t, s, policy.Run{Began: at}), at, result("facts", "shop", "php/web", false))
	web, db := scan.Selector{Namespace: "shop", Labels: "app=web"}, scan.Selector{Namespace: "shop", Labels: "app=db"}
	alone("shop")
	alone("other")
	choose(0, scan.Completed, web, "web-1", "web-2")
	choose(48*time.Hour, scan.Completed, web, "web-2")
	choose(23*time.Hour, scan.Completed, web, "web-2")
	choose(time.Hour, scan.Completed, db)
	choose(0, scan.Error, web)
	all := []string{"other alone/app", "shop alone/app", "shop php/web", "shop web-1/app", "shop web-2/app"}
	expect("started anew a moment ago, not asked for, or not known", all...)
	choose(0, scan.Completed, web, "web-2", "web-3")
	expect("replaced", "other alone/app", "shop alone/app", "shop php/web", "shop web-2/app", "shop web-3/app")
	told, err := s.Alerts(t.Context(), alert.Filter{})
	told = slices.DeleteFunc(told, func(a alert.Alert) bool { return !a.Outcome.Gone })
	if err != nil || len(told) != 1 || told[0].Sink != "issue" || told[0].Outcome.Subject.Repo != "web-1/app" || told[0].Agent != "edge" {
		t.Errorf("told %+v, %v", told, err)
	}
	choose(48*time.Hour, scan.Completed, scan.Selector{Namespace: "shop", Container: "sidecar"})
	choose(48*time.Hour, scan.Completed, scan.Selector{Namespace: "shop", Container: "sidecar"})
	expect("containers of another name", "other alone/app", "shop alone/app", "shop php/web", "shop web-2/app", "shop web-3/app")
	choose(0, scan.Completed, scan.Selector{Namespace: "shop"}, "web-3")
	choose(0, scan.Completed, web, "web-2", "web-3")
	choose(24*time.Hour, scan.Completed, scan.Selector{Namespace: "shop"}, "web-3")
	expect("all of a namespace, of which one crashed the first and the last time", "other alone/app", "shop php/web", "shop web-2/app", "shop web-3/app")
}

// lastWords: whoever was told of a failure is told once when its subject isn't
// checked any more, and nobody else is; it is never told as passed.
func lastWords(t *testing.T, s *store.Store) {
	s.TellGone(func(sink string) bool { return sink != "rpc" })
	now := time.UnixMicro(1_700_000_000_000_000).UTC()
	seen := map[alert.ID]bool{}
	expect := func(what string, want ...string) {
		t.Helper()
		found, err := s.Alerts(t.Context(), alert.Filter{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range found {
			if o := a.Outcome; !seen[a.ID] && o.Gone {
				if o.Pass || a.Agent != "edge" || a.Namespace != "shop" {
					t.Errorf("%s: told %+v of %s/%s", what, o, a.Agent, a.Namespace)
				}
				got = append(got, fmt.Sprintf("%s: %s", a.Sink, o.Details))
			}
			seen[a.ID] = true
		}
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	run := func(r policy.Run, results ...fleet.Result) policy.RunID {
		t.Helper()
		now = now.Add(time.Hour)
		r.Began = now
		id := beginRun(t, s, r)
		record(t, s, id, now, results...)
		return id
	}
	words := func(p, repo, why string) string {
		return fmt.Sprintf("%s isn't checked on edge/shop %s any more: %s. Whether it would pass isn't known.\n", p, repo, why)
	}
	unknown := result("p", "shop", "open", false, "rpc", "issue")
	unknown.Unknown = "nobody answered"
	run(policy.Run{Policy: "p"}, result("p", "shop", "open", false, "rpc", "issue"), result("p", "shop", "mended", false, "issue"),
		result("p", "shop", "fine", true, "issue"), result("p", "shop", "moved", false, "issue", "chat"),
		result("q", "shop", "open", false, "issue"))
	expect("at first")
	run(policy.Run{Policy: "p"}, unknown, result("p", "shop", "mended", true, "issue"), result("p", "shop", "moved", false, "chat"))
	expect("to whom nothing is told of the policy any more", "issue: "+words("p", "moved", "the policy doesn't name this receiver any more"))

	// A run ends what it has looked for in vain, and nothing that it wasn't asked of.
	id := run(policy.Run{})
	end := func(q policy.Query, why string) {
		t.Helper()
		if _, err := s.EndSubjects(t.Context(), id, q, func(r policy.SubjectRecord) string {
			if r.Subject.Repo == "open" {
				return why
			}
			return ""
		}, now); err != nil {
			t.Fatal(err)
		}
	}
	end(policy.Query{Policy: "p", Agent: "edge", Namespace: "web"}, "elsewhere")
	end(policy.Query{Policy: "none"}, "elsewhere")
	expect("elsewhere")
	end(policy.Query{Policy: "p", Agent: "edge", Namespace: "shop"}, "it isn't there any more")
	end(policy.Query{Policy: "p", Agent: "edge", Namespace: "shop"}, "it isn't there any more")
	expect("what isn't there", "issue: "+words("p", "open", "it isn't there any more"))

	// So does a complete run of all subjects, and time.
	id = run(policy.Run{Policy: "p", Whole: true})
	endedRun(t, s, id, now)
	expect("what a whole run doesn't find", "chat: "+words("p", "moved", policy.Missing))
	if left := standing(t, s, policy.Query{}); len(left) != 1 || left["q open"].Verdict != policy.Failed {
		t.Errorf("subjects left: %v", left)
	}
	if names, err := s.StandingPolicies(t.Context(), policy.Fleet); err != nil || !slices.Equal(names, []string{"q"}) {
		t.Errorf("policies left: %v, %v", names, err)
	}
	if err := s.RemovePolicyRuns(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	expect("what nobody checks", "issue: "+words("q", "open", "nobody has checked it since "+now.Format(time.DateOnly)))
	if left := standing(t, s, policy.Query{}); len(left) > 0 {
		t.Errorf("subjects left: %v", left)
	}
	if _, err := s.EndSubjects(t.Context(), id, policy.Query{}, func(policy.SubjectRecord) string { return "late" }, now); !errors.Is(err, policy.ErrRunOver) {
		t.Errorf("in a run that has ended: %v", err)
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

func policyEvidence(t *testing.T, s *store.Store) {
	insights := func(id, namespace string, content insight.Content, parsed *insight.Parsed, at time.Time) {
		t.Helper()
		it := insight.Item{ID: insight.ItemID(id), Cluster: "edge", Environment: insight.Environment{ID: 7, Project: "acme", Name: "main", Namespace: namespace}, Content: content}
		if _, err := s.ApplyInsight(t.Context(), it, parsed, at); err != nil {
			t.Fatal(err)
		}
	}
	marked := func(want ...policy.Place) {
		t.Helper()
		marks, err := s.PolicyMarks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []policy.Place
		for _, m := range marks {
			got = append(got, m.Place)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("marked places (-want +got):\n%s", d)
		}
		if err := s.ClearPolicyMarks(t.Context(), marks); err != nil {
			t.Fatal(err)
		}
	}
	gather := func(p policy.Place, need policy.Need) []policy.Subject {
		t.Helper()
		got, err := s.Evidence().Subjects(t.Context(), p, need)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	web := insight.Workload{Namespace: "shop", Kind: "Deployment", Name: "web", Container: "c", Image: "reg/web:1", Digest: "sha256:web", Pods: 1, Labels: map[string]string{"app": "web"}}
	inventory := func(at time.Time, list ...insight.Workload) {
		t.Helper()
		if err := s.PutInventory(t.Context(), "edge", insight.Inventory{Workloads: list}, at); err != nil {
			t.Fatal(err)
		}
	}
	inventory(epoch, web, insight.Workload{Namespace: "shop", Kind: "Job", Name: "tidy", Container: "c", Image: "reg/tidy:1", Digest: "sha256:tidy", Pods: 1})
	marked(policy.Place{Agent: "edge", Namespace: "shop"})
	web.Pods = 3
	inventory(epoch.Add(time.Minute), web)
	marked() // the job may be tried again
	web.Pods = 4
	inventory(epoch.Add(time.Hour+time.Minute), web)
	marked(policy.Place{Agent: "edge", Namespace: "shop"}) // the job has ended
	web.Labels = map[string]string{"app": "web", "tier": "front"}
	inventory(epoch.Add(time.Hour+time.Minute), web)
	marked(policy.Place{Agent: "edge", Namespace: "shop"})

	// Its SBOM comes from where it was built, which the operator believes.
	s.SBOMsFrom([]fleet.Scope{{Agents: []string{"edge"}, Namespaces: []string{"build"}}})
	a := insight.Component{PURL: "pkg:npm/a@1.0.0", Name: "a", Version: "1.0.0"}
	b := insight.Component{PURL: "pkg:npm/b@1.0.0", Name: "b", Version: "1.0.0"}
	insights("1", "build", insight.Document{Kind: insight.KindSBOM, Service: "ci"},
		&insight.Parsed{Digest: "sha256:s1", SBOM: &insight.SBOM{ImageDigest: "sha256:web", Components: []insight.Component{
			a, b, {PURL: "pkg:pypi/c@1", Name: "c", Version: "1"}, {PURL: "pkg:generic/d@1", Name: "d", Version: "1"}, {Name: "e"},
		}}}, epoch)
	marked(policy.Place{Agent: "edge", Namespace: "build"}, policy.Place{Agent: "edge", Namespace: "shop"})
	insights("2", "shop", insight.Document{Kind: insight.KindImage, Service: "web"},
		&insight.Parsed{Digest: "sha256:i1", Image: &insight.ImageInspect{Name: "reg/web:1", Created: "2023-11-01T00:00:00Z"}}, epoch)
	insights("3", "shop", insight.Facts{{Name: "php", Value: "8.1", Source: "scanner", Service: "web"}, {Name: "owner", Value: "team-a", Source: "scanner"}}, nil, epoch)
	insights("4", "shop", insight.Problems{{Identifier: "CVE-1", Severity: "MODERATE", Source: "trivy", Service: "web", AssociatedPackage: "c", Version: "2"}}, nil, epoch)
	insights("5", "shop", insight.Facts{{Name: "drush", Value: "12", Source: "scanner", Service: "cli"}}, nil, epoch)
	marked(policy.Place{Agent: "edge", Namespace: "shop"})

	shop := policy.Place{Agent: "edge", Namespace: "shop"}
	all := policy.Need{SBOMs: true, Problems: true, Facts: true, Images: true}
	got := gather(shop, all)
	sbom := &policy.SBOM{Digest: "sha256:s1", Received: epoch}
	owner := policy.Fact{Name: "owner", Value: "team-a", Source: "scanner"}
	want := []policy.Subject{
		{
			Agent: "edge", Namespace: "shop", Environment: "acme/main", Name: "cli",
			Images: []policy.Image{{}}, Facts: []policy.Fact{{Name: "drush", Value: "12", Source: "scanner"}},
		},
		{
			Agent: "edge", Namespace: "shop", Environment: "acme/main", Kind: "Deployment", Name: "web", Container: "c", Labels: web.Labels,
			Images: []policy.Image{{Name: "reg/web:1", Digest: "sha256:web", FirstSeen: epoch, Made: time.Date(2023, 11, 1, 0, 0, 0, 0, time.UTC), SBOM: sbom}},
			Told:   []policy.Problem{{Identifier: "CVE-1", Source: "trivy", Package: "c", Version: "2", Severity: "medium", Since: epoch}},
			Facts:  []policy.Fact{owner, {Name: "php", Value: "8.1", Source: "scanner"}},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("subjects (-want +got):\n%s", d)
	}

	// Vulnerabilities come, and one of them is said to be none.
	entry := func(id, name, severity string) osv.Entry {
		return osv.Entry{
			ID: id, Modified: epoch, CVE: "CVE-" + id, Aliases: []string{"CVE-" + id}, Severity: severity,
			Affected: []osv.Affected{{Ecosystem: "npm", Package: "npm/" + name, Versions: osv.Versions{Ranges: []osv.Range{{{Introduced: "0"}, {Fixed: "2.0.0"}}}}}},
		}
	}
	if _, err := s.PutOSV(t.Context(), []osv.Entry{entry("1", "a", "high"), entry("2", "b", "critical")}, epoch); err != nil {
		t.Fatal(err)
	}
	if _, err := s.MatchOSV(t.Context(), 10, osv.Find, epoch.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	marked(policy.Place{})
	said := insight.Statement{Vulnerability: "CVE-2", Names: []string{"CVE-2"}, Subject: "image:sha256:web", Status: insight.NotAffected, Made: epoch}
	if err := s.PutStatements(t.Context(), "sha256:vex", []insight.Statement{said}, epoch); err != nil {
		t.Fatal(err)
	}
	marked(policy.Place{})
	sbom.Matched, sbom.Unjudged, sbom.Foreign = true, map[string]int{"PyPI": 1}, 2
	sbom.Problems = []policy.Problem{
		{Identifier: "CVE-2", Source: "osv", Package: "b", Version: "1.0.0", Fixed: "2.0.0", Severity: "critical", Since: epoch.Add(time.Hour), Cleared: true},
		{Identifier: "CVE-1", Source: "osv", Package: "a", Version: "1.0.0", Fixed: "2.0.0", Severity: "high", Since: epoch.Add(time.Hour)},
	}
	if d := cmp.Diff(want, gather(shop, all)); d != "" {
		t.Errorf("subjects with vulnerabilities (-want +got):\n%s", d)
	}
	// What there was no database of is judged once there is one, if it has nothing.
	python := entry("3", "other", "low")
	python.Affected[0].Ecosystem, python.Affected[0].Package = "PyPI", "PyPI/other"
	if _, err := s.PutOSV(t.Context(), []osv.Entry{python}, epoch); err != nil {
		t.Fatal(err)
	}
	marked(policy.Place{})
	sbom.Unjudged = map[string]int{}
	if d := cmp.Diff(want, gather(shop, all)); d != "" {
		t.Errorf("subjects with another database (-want +got):\n%s", d)
	}
	// Of the whole cluster, where the SBOM is a service's, too.
	var names []string
	for _, c := range gather(policy.Place{Agent: "edge"}, policy.Need{SBOMs: true}) {
		names = append(names, c.Subject().Owner+" "+c.Subject().Repo)
	}
	if d := cmp.Diff([]string{"edge/build ci", "edge/shop Deployment/web/c"}, names); d != "" {
		t.Errorf("subjects that may have an SBOM (-want +got):\n%s", d)
	}
	agents, err := s.Evidence().Agents(t.Context())
	if d := cmp.Diff([]fleet.AgentName{"edge"}, agents); d != "" || err != nil {
		t.Errorf("agents %v (-want +got):\n%s", err, d)
	}
	insights("6", "", insight.Deletion{Of: insight.KindFacts, Source: "scanner"}, nil, epoch)
	marked(shop) // known by its number
}

// otherEvidence: what is about the image that ran before says nothing of the one
// that runs now, and what is known by the environment alone counts for a
// namespace as it does for all.
func otherEvidence(t *testing.T, s *store.Store) {
	n := 0
	insights := func(env insight.Environment, service, image string, at time.Time) {
		t.Helper()
		n++
		it := insight.Item{ID: insight.ItemID(fmt.Sprint(n)), Cluster: "edge", Environment: env, Content: insight.Document{Kind: insight.KindSBOM, Service: service}}
		parsed := &insight.Parsed{Digest: insight.Digest(fmt.Sprint("sha256:s", n)), SBOM: &insight.SBOM{ImageDigest: image}}
		if _, err := s.ApplyInsight(t.Context(), it, parsed, at); err != nil {
			t.Fatal(err)
		}
	}
	runs := func(digest string, at time.Time) {
		t.Helper()
		w := insight.Workload{Namespace: "shop", Kind: "Deployment", Name: "web", Container: "c", Image: "reg/web", Digest: digest, Pods: 1}
		if err := s.PutInventory(t.Context(), "edge", insight.Inventory{Workloads: []insight.Workload{w}}, at); err != nil {
			t.Fatal(err)
		}
	}
	known := func(p policy.Place) (out []string) {
		t.Helper()
		got, err := s.Evidence().Subjects(t.Context(), p, policy.Need{SBOMs: true, Facts: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range got {
			if c.Kind == "" {
				continue
			}
			sbom := "none"
			if c.Images[0].SBOM != nil {
				sbom = string(c.Images[0].SBOM.Digest)
			}
			out = append(out, fmt.Sprint(c.Images[0].Digest, " ", sbom, " ", len(c.Facts)))
		}
		return out
	}
	expect := func(what, want string) {
		t.Helper()
		for _, p := range []policy.Place{{Agent: "edge"}, {Agent: "edge", Namespace: "shop"}} {
			if d := cmp.Diff([]string{want}, known(p)); d != "" {
				t.Errorf("%s, %+v (-want +got):\n%s", what, p, d)
			}
		}
	}
	shop := insight.Environment{Namespace: "shop"}
	day := func(n int) time.Time { return epoch.AddDate(0, 0, n) }
	runs("sha256:a", epoch)
	insights(shop, "web", "sha256:a", epoch)
	expect("with its own SBOM", "sha256:a sha256:s1 0")
	runs("sha256:b", day(1))
	expect("with the SBOM of the image before it", "sha256:b none 0")
	insights(shop, "web", "sha256:index", day(1).Add(-time.Minute))
	expect("with one of the index that it was built with", "sha256:b sha256:s2 0")
	runs("sha256:c", day(2))
	expect("with one of the index before it", "sha256:c none 0")
	insights(shop, "web", "", day(1))
	expect("with one that names no image", "sha256:c sha256:s3 0")

	// The last one received counts, which needn't be the last that was new.
	insights(shop, "web", "sha256:c", day(3))
	insights(shop, "other", "sha256:c", day(2))
	expect("with several", "sha256:c sha256:s4 0")

	// The environment's namespace is told only after its facts.
	main := insight.Environment{ID: 7, Project: "acme", Name: "main"}
	facts := func(id string, env insight.Environment) {
		t.Helper()
		it := insight.Item{ID: insight.ItemID(id), Cluster: "edge", Environment: env, Content: insight.Facts{{Name: id, Value: "v", Source: "s", Service: "web"}}}
		if _, err := s.ApplyInsight(t.Context(), it, nil, epoch); err != nil {
			t.Fatal(err)
		}
	}
	facts("early", main)
	main.Namespace = "shop"
	facts("late", main)
	got := known(policy.Place{Agent: "edge"})
	if d := cmp.Diff(got, known(policy.Place{Agent: "edge", Namespace: "shop"})); d != "" {
		t.Errorf("known of the whole cluster, and of its namespace (-all +namespace):\n%s", d)
	}
}

// tenantsEvidence: what one tenant hands in of an image says nothing of another's
// workload that runs it, whatever he claims; and what was found by somebody who is
// believed more isn't dropped by an emptier SBOM that came later.
func tenantsEvidence(t *testing.T, s *store.Store) {
	bad := insight.Component{PURL: "pkg:npm/bad@1.0.0", Name: "bad", Version: "1.0.0"}
	worse := insight.Component{PURL: "pkg:npm/worse@1.0.0", Name: "worse", Version: "1.0.0"}
	var entries []osv.Entry
	for _, name := range []string{"bad", "worse"} {
		entries = append(entries, osv.Entry{
			ID: name, Modified: epoch, Severity: "critical",
			Affected: []osv.Affected{{Ecosystem: "npm", Package: "npm/" + name, Versions: osv.Versions{Ranges: []osv.Range{{{Introduced: "0"}}}}}},
		})
	}
	if _, err := s.PutOSV(t.Context(), entries, epoch); err != nil {
		t.Fatal(err)
	}
	n := 0
	at := epoch
	hand := func(cluster fleet.AgentName, env insight.Environment, byAgent bool, components ...insight.Component) {
		t.Helper()
		n++
		at = at.Add(time.Hour)
		it := insight.Item{
			ID: insight.ItemID(fmt.Sprint(n)), Cluster: cluster, Environment: env, Scanned: byAgent,
			Content: insight.Document{Kind: insight.KindSBOM, Service: "web"},
		}
		parsed := &insight.Parsed{Digest: insight.Digest(fmt.Sprint("sha256:s", n)), SBOM: &insight.SBOM{ImageDigest: "sha256:shared", Components: components}}
		if _, err := s.ApplyInsight(t.Context(), it, parsed, at); err != nil {
			t.Fatal(err)
		}
		it.ID, it.Content = it.ID+"/image", insight.Document{Kind: insight.KindImage, Service: "web"}
		made := at.Format(time.RFC3339Nano)
		parsed = &insight.Parsed{Digest: parsed.Digest + "/image", Image: &insight.ImageInspect{Digest: "sha256:shared", Created: made}}
		if _, err := s.ApplyInsight(t.Context(), it, parsed, at); err != nil {
			t.Fatal(err)
		}
		if _, err := s.MatchOSV(t.Context(), 10, osv.Find, at); err != nil {
			t.Fatal(err)
		}
	}
	runs := insight.Workload{Namespace: "mine", Kind: "Deployment", Name: "w", Container: "c", Image: "reg/shared", Digest: "sha256:shared", Pods: 1}
	both := []insight.Workload{runs, runs}
	both[1].Namespace = "theirs"
	if err := s.PutInventory(t.Context(), "edge", insight.Inventory{Workloads: both}, epoch); err != nil {
		t.Fatal(err)
	}
	mine := policy.Place{Agent: "edge", Namespace: "mine"}
	// expect says what is known of my workload: the SBOM that came last, with the
	// problems of all that count, and when the image was made.
	expect := func(what, want string) {
		t.Helper()
		for _, p := range []policy.Place{mine, {Agent: "edge"}} {
			got, err := s.Evidence().Subjects(t.Context(), p, policy.Need{SBOMs: true, Problems: true, Images: true})
			if err != nil {
				t.Fatal(err)
			}
			is := "none"
			for _, w := range got {
				if w.Namespace != mine.Namespace || w.Kind == "" {
					continue
				}
				if sbom := w.Images[0].SBOM; sbom != nil {
					is = string(sbom.Digest)
					if sbom.Empty {
						is += " empty"
					}
					for _, p := range sbom.Problems {
						is += " " + p.Identifier
					}
				}
				if !w.Images[0].Made.IsZero() {
					is += fmt.Sprint(" of ", w.Images[0].Made.Sub(epoch))
				}
			}
			if is != want {
				t.Errorf("%s, of %v: known is %q, want %q", what, p, is, want)
			}
		}
		missing, err := s.Workloads(t.Context(), insight.Query{Cluster: "edge", Namespace: "mine"}, true)
		if err != nil || (len(missing) == 1) != (want == "none") {
			t.Errorf("%s: workloads without an SBOM: %v, %v", what, missing, err)
		}
		unknown := len(missing)
		if n == 0 {
			unknown++ // theirs
		}
		if reports, err := s.Inventories(t.Context(), insight.Query{Cluster: "edge"}); err != nil || len(reports) != 1 || reports[0].Unknown != unknown {
			t.Errorf("%s: inventories: %+v, %v; want %d without an SBOM", what, reports, err, unknown)
		}
	}
	their := insight.Environment{Namespace: "theirs", Project: "acme", Name: "main"}
	own := insight.Environment{Namespace: "mine"}
	expect("at first", "none")
	hand("edge", their, false)
	expect("when a tenant of the cluster has handed in an empty one", "none")
	hand("edge", their, true)
	expect("when its agent has looked at another tenant's container, who may have emptied it", "none")
	hand("other", own, false)
	expect("when the namespace of that name in another cluster has", "none")
	hand("edge", own, true, bad)
	expect("when the agent has looked", "sha256:s4 bad of 4h0m0s")
	hand("edge", own, false)
	expect("when the tenant has handed in an empty one since", "sha256:s5 bad of 4h0m0s")
	hand("edge", own, false, worse)
	expect("when he has found more", "sha256:s6 bad worse of 4h0m0s")
	hand("edge", own, true)
	expect("when the agent has looked again", "sha256:s7 empty of 7h0m0s")

	s.SBOMsFrom([]fleet.Scope{{Agents: []string{"ci"}}})
	hand("ci", their, false, bad)
	expect("when the builder has told", "sha256:s8 bad of 8h0m0s")
	hand("edge", own, true)
	hand("edge", their, false, worse)
	expect("when all others have", "sha256:s9 bad of 8h0m0s")
	s.SBOMsFrom(nil)
	expect("when the builder isn't believed any more", "sha256:s9 empty of 9h0m0s")
}

// annotatedPolicies: what namespaces' annotations say is as the agent reports it, and
// comes before what was put for them.
func annotatedPolicies(t *testing.T, s *store.Store) {
	report := func(agent fleet.AgentName, at time.Time, said map[string]string) {
		t.Helper()
		if err := s.PutInventory(t.Context(), agent, insight.Inventory{Policies: said}, at); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, want []policy.Layer, marked ...policy.Place) {
		t.Helper()
		got, err := s.PolicyLayers(t.Context())
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: layers %v (-want +got):\n%s", what, err, d)
		}
		marks, err := s.PolicyMarks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var places []policy.Place
		for _, m := range marks {
			places = append(places, m.Place)
		}
		if d := cmp.Diff(marked, places); d != "" {
			t.Errorf("%s: marked (-want +got):\n%s", what, d)
		}
		if err := s.ClearPolicyMarks(t.Context(), marks); err != nil {
			t.Fatal(err)
		}
	}
	shop, web := policy.Place{Agent: "edge", Namespace: "shop"}, policy.Place{Agent: "edge", Namespace: "web"}
	put := policy.Layer{Place: shop, Text: "p: {}", By: "anna", At: epoch}
	if _, err := s.PutPolicyLayer(t.Context(), put, nil); err != nil {
		t.Fatal(err)
	}
	report("far", epoch, map[string]string{})
	report("edge", epoch, map[string]string{"shop": "p: {optOut: true}", "web": "a\x00b"})
	ofShop := policy.Layer{Place: shop, Text: "p: {optOut: true}", By: policy.ByAnnotation, At: epoch}
	ofWeb := policy.Layer{Place: web, Text: "a\uFFFDb", By: policy.ByAnnotation, At: epoch}
	expect("at first", []policy.Layer{ofShop, put, ofWeb}, shop, web)
	later := epoch.Add(time.Hour)
	report("edge", later, map[string]string{"shop": "p: {optOut: true}", "web": "q: {}"})
	ofWeb.Text, ofWeb.At = "q: {}", later
	expect("when one says another thing", []policy.Layer{ofShop, put, ofWeb}, web)
	report("edge", later, nil)
	report("far", later, map[string]string{})
	expect("when the agent doesn't know", []policy.Layer{ofShop, put, ofWeb})
	report("edge", later, map[string]string{"web": "q: {}"})
	expect("when one says nothing any more", []policy.Layer{put, ofWeb}, shop)
}

func policyLayers(t *testing.T, s *store.Store) {
	shop := policy.Place{Agent: "edge", Namespace: "shop"}
	none, first := "", "p: {optOut: true}\n"
	l := policy.Layer{Place: shop, Text: first, By: "anna", At: epoch}
	if created, err := s.PutPolicyLayer(t.Context(), l, &none); err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	got, err := s.PolicyLayer(t.Context(), shop)
	if d := cmp.Diff(l, got); err != nil || d != "" {
		t.Errorf("layer %v (-want +got):\n%s", err, d)
	}
	l.Text = "p: {}\n"
	if _, err := s.PutPolicyLayer(t.Context(), l, &none); !errors.Is(err, policy.ErrChanged) {
		t.Errorf("put over what somebody else has put: %v", err)
	}
	if created, err := s.PutPolicyLayer(t.Context(), l, &first); err != nil || created {
		t.Errorf("put over what was read: created %v, %v", created, err)
	}
	if marks, err := s.PolicyMarks(t.Context()); err != nil || len(marks) != 1 || marks[0].Place != shop {
		t.Errorf("marks %v, %v", marks, err)
	}
	// It was marked again since the marks were read.
	stale := []policy.Mark{{Place: shop, Stamp: 1}}
	if err := s.ClearPolicyMarks(t.Context(), stale); err != nil {
		t.Fatal(err)
	}
	if marks, err := s.PolicyMarks(t.Context()); err != nil || len(marks) != 1 {
		t.Errorf("marks after clearing an earlier one: %v, %v", marks, err)
	}
	if err := s.DeletePolicyLayer(t.Context(), shop, &first); !errors.Is(err, policy.ErrChanged) {
		t.Errorf("delete what has changed: %v", err)
	}
	if err := s.DeletePolicyLayer(t.Context(), shop, nil); err != nil {
		t.Error(err)
	}
	if err := s.DeletePolicyLayer(t.Context(), shop, nil); !errors.Is(err, policy.ErrNotFound) {
		t.Errorf("delete what isn't there: %v", err)
	}
	put := func(by string, n int) error {
		l := policy.Layer{Place: policy.Place{Agent: "edge", Namespace: fmt.Sprint("n", n)}, Text: first, By: by, At: epoch}
		_, err := s.PutPolicyLayer(t.Context(), l, nil)
		return err
	}
	for n := range policy.MaxLayers {
		if err := put("anna", n); err != nil {
			t.Fatal(err)
		}
	}
	if err := put("anna", policy.MaxLayers); !errors.Is(err, policy.ErrTooManyLayers) {
		t.Errorf("put one more than anybody may: %v", err)
	}
	if err := errors.Join(put("anna", 0), put("ben", policy.MaxLayers)); err != nil {
		t.Errorf("put anew, and by somebody else: %v", err)
	}
	if _, err := s.PolicyLayer(t.Context(), shop); !errors.Is(err, policy.ErrNotFound) {
		t.Errorf("get what isn't there: %v", err)
	}
}
