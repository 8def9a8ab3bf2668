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
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
)

var inventoryTests = map[string]func(*testing.T, *store.Store){
	"views": views, "a namespace that is gone": goneNamespace, "a list that may be cut": cutInventory, "an older hub meanwhile": olderHub,
	"pods that are gone": goneContainers, "pods of which nothing is known": unknownPods,
}

// deployed is a workload of the namespace shop.
func deployed(kind, name, digest string) insight.Workload {
	return insight.Workload{Namespace: "shop", Kind: kind, Name: name, Container: "c", Image: name + ":1", Digest: digest, Pods: 1}
}

// contents are workloads and CronJobs of a namespace.
func contents(cronJobs []string, list ...insight.Workload) insight.Contents {
	return insight.Contents{Workloads: list, CronJobs: cronJobs}
}

func putView(t testing.TB, s *store.Store, at time.Time, v insight.View, wanted ...string) {
	t.Helper()
	got, err := s.PutView(t.Context(), "edge", v, at)
	if d := cmp.Diff(wanted, got); err != nil || d != "" {
		t.Fatalf("%v; wanted (-want +got):\n%s", err, d)
	}
}

// stays has the agent report the same until a time, each hour.
func stays(t testing.TB, s *store.Store, v insight.View, from, to time.Time) {
	t.Helper()
	v.Contents = nil
	for at := from.Add(time.Hour); at.Before(to); at = at.Add(time.Hour) {
		putView(t, s, at, v)
	}
}

// running is what runs and, with a star, what doesn't but is a policy's subject.
func running(t testing.TB, s *store.Store) (out []string) {
	t.Helper()
	subjects, err := s.Evidence().Subjects(t.Context(), policy.Place{Agent: "edge"}, policy.Need{})
	if err != nil {
		t.Fatal(err)
	}
	listed, err := s.Workloads(t.Context(), insight.Query{Cluster: "edge"}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range subjects {
		for _, i := range u.Images {
			name := u.Namespace + " " + u.Kind + "/" + u.Name + "@" + i.Digest
			if !slices.ContainsFunc(listed, func(w insight.WorkloadRecord) bool {
				return w.Namespace == u.Namespace && w.Kind == u.Kind && w.Name == u.Name && w.Digest == i.Digest
			}) {
				name += "*"
			}
			out = append(out, name)
		}
	}
	slices.Sort(out)
	if r, err := s.Inventories(t.Context(), insight.Query{Cluster: "edge"}); err != nil || len(r) != 1 || r[0].Workloads != len(listed) {
		t.Errorf("the report tells of %+v, %v; there are %d", r, err, len(listed))
	}
	return out
}

func views(t *testing.T, s *store.Store) {
	expect := func(what string, want ...string) {
		t.Helper()
		if d := cmp.Diff(want, running(t, s)); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	at := epoch
	blog := deployed("StatefulSet", "db", "1")
	blog.Namespace = "blog"
	// A page tells of some namespaces alone, and nothing of the others.
	known := map[string]string{"shop": "v1", "blog": "v1"}
	putView(t, s, at, insight.View{Namespaces: known}, "blog", "shop")
	putView(t, s, at, insight.View{Namespaces: known, Contents: map[string]insight.Contents{"blog": contents(nil, blog)}}, "shop")
	expect("after a page", "blog StatefulSet/db@1")
	web, cron := deployed("Deployment", "web", "1"), deployed("CronJob", "nightly", "1")
	job, alone := deployed("Job", "once", "1"), deployed("Pod", "alone", "1")
	putView(t, s, at, insight.View{Namespaces: known, CronJobs: true, Contents: map[string]insight.Contents{"shop": contents([]string{"nightly"}, web, cron, job, alone)}})
	all := []string{"blog StatefulSet/db@1", "shop CronJob/nightly@1", "shop Deployment/web@1", "shop Job/once@1", "shop Pod/alone@1"}
	expect("after the second page", all...)
	// What the hub has it doesn't ask for, and takes from nobody.
	putView(t, s, at, insight.View{Namespaces: known, CronJobs: true, Contents: map[string]insight.Contents{"blog": {}}})
	expect("once all is known", all...)

	// Nothing runs any more, but for the image that web's is replaced by.
	web.Digest = "2"
	at = at.Add(time.Minute)
	putView(t, s, at, insight.View{Namespaces: map[string]string{"shop": "v2"}, CronJobs: true, Contents: map[string]insight.Contents{"shop": contents([]string{"nightly"}, web)}})
	gone := []string{"blog StatefulSet/db@1*", "shop CronJob/nightly@1*", "shop Deployment/web@2", "shop Job/once@1*", "shop Pod/alone@1*"}
	expect("what may come back", gone...)
	at = at.Add(time.Hour)
	// A page ends nothing.
	putView(t, s, at, insight.View{Namespaces: map[string]string{"shop": "v2", "more": "v1"}, CronJobs: true}, "more")
	expect("after another page", gone...)
	putView(t, s, at, insight.View{Namespaces: map[string]string{"shop": "v2"}, CronJobs: true})
	expect("an hour later", "blog StatefulSet/db@1*", "shop CronJob/nightly@1*", "shop Deployment/web@2")
	putView(t, s, at, insight.View{Namespaces: map[string]string{"shop": "v2", "blog": "v3"}, CronJobs: true, Contents: map[string]insight.Contents{"blog": contents(nil, blog)}})
	v2 := insight.View{Namespaces: map[string]string{"shop": "v2"}, CronJobs: true}
	putView(t, s, at, v2)
	back := at
	at = at.Add(23*time.Hour + 59*time.Minute)
	stays(t, s, v2, back, at)
	putView(t, s, at, v2)
	expect("a day after it was away, less than one after it came back", "blog StatefulSet/db@1*", "shop CronJob/nightly@1*", "shop Deployment/web@2")
	at = at.Add(time.Minute)
	putView(t, s, at, insight.View{Namespaces: map[string]string{"shop": "v3"}, CronJobs: true, Contents: map[string]insight.Contents{"shop": contents(nil, web)}})
	expect("a day later, without the CronJob", "shop CronJob/nightly@1*", "shop Deployment/web@2")
	v3 := insight.View{Namespaces: map[string]string{"shop": "v3"}, CronJobs: true}
	stays(t, s, v3, at, at.Add(23*time.Hour))
	// The agent is away for a week, in which nobody knows what there is.
	at = at.Add(8 * 24 * time.Hour)
	putView(t, s, at, v3)
	expect("after 22 hours and a week", "shop CronJob/nightly@1*", "shop Deployment/web@2")
	stays(t, s, v3, at, at.Add(3*time.Hour))
	expect("two hours later", "shop Deployment/web@2")

	// A cluster has an end.
	pods := map[string][]string{"many": make([]string, insight.MaxContents)}
	for i := range pods["many"] {
		pods["many"][i] = "c"
	}
	var invalid *insight.InvalidError
	_, err := s.PutView(t.Context(), "edge", insight.View{Namespaces: map[string]string{"shop": "v3", "more": "v1"}, Contents: map[string]insight.Contents{"more": {Pods: pods}}}, at)
	if !errors.As(err, &invalid) {
		t.Errorf("more than there may be: %v", err)
	}
	expect("after what wasn't taken", "shop Deployment/web@2")

	// A CronJob has another container than it had, which shows at its next run.
	aside := cron
	aside.Container = "aside"
	ran := contents([]string{"nightly"}, cron, aside)
	putView(t, s, at, insight.View{Namespaces: map[string]string{"shop": "v3a"}, CronJobs: true, Contents: map[string]insight.Contents{"shop": ran}})
	next := contents([]string{"nightly"})
	for version, pods := range map[string]map[string][]string{"v3b": {"nightly-29384756-x7k2p": {"c", "aside"}}, "v3c": {"web-29384757-x7k2p": {"c"}}, "v3d": nil} {
		next.Pods = pods
		putView(t, s, at, insight.View{Namespaces: map[string]string{"shop": version}, CronJobs: true, Contents: map[string]insight.Contents{"shop": next}})
		expect("until then", "shop CronJob/nightly@1*", "shop CronJob/nightly@1*", "shop Deployment/web@2*")
	}
	next.Pods = map[string][]string{"nightly-29384757-x7k2p": {"c"}}
	putView(t, s, at, insight.View{Namespaces: map[string]string{"shop": "v3e"}, CronJobs: true, Contents: map[string]insight.Contents{"shop": next}})
	expect("without a container", "shop CronJob/nightly@1*", "shop Deployment/web@2*")

	// Where nobody knows of CronJobs, those of each week come back.
	at = at.Add(3 * time.Hour)
	v5 := insight.View{Namespaces: map[string]string{"shop": "v5"}, Contents: map[string]insight.Contents{"shop": {}}}
	putView(t, s, at, insight.View{Namespaces: map[string]string{"shop": "v4"}, Contents: map[string]insight.Contents{"shop": contents(nil, cron)}})
	putView(t, s, at, v5)
	stays(t, s, v5, at, at.Add(8*24*time.Hour))
	expect("more than a week later", "shop CronJob/nightly@1*")
	putView(t, s, at.Add(8*24*time.Hour), insight.View{})
	expect("when there is nothing at all")
}

// goneNamespace: what a namespace said of policies holds for what it ran as long as
// that is a subject.
func goneNamespace(t *testing.T, s *store.Store) {
	layers := func() (out []string) {
		t.Helper()
		found, err := s.PolicyLayers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range found {
			out = append(out, l.Namespace+" "+l.Text)
		}
		return out
	}
	here := insight.View{
		Namespaces: map[string]string{"shop": "v1"}, Policies: map[string]string{"shop": "p: {optOut: true}", "empty": "p: {}"},
		Contents: map[string]insight.Contents{"shop": contents(nil, deployed("Deployment", "web", "1"))},
	}
	putView(t, s, epoch, here)
	gone := insight.View{Policies: map[string]string{}}
	for _, after := range []time.Duration{time.Minute, 24 * time.Hour} {
		stays(t, s, gone, epoch, epoch.Add(after))
		putView(t, s, epoch.Add(after), gone)
		if d := cmp.Diff([]string{"shop p: {optOut: true}"}, layers()); d != "" {
			t.Errorf("after %s (-want +got):\n%s", after, d)
		}
	}
	putView(t, s, epoch.Add(25*time.Hour), gone)
	if left := layers(); left != nil {
		t.Errorf("a day later: %q", left)
	}
	// Where something runs it says what it likes at once.
	here.Namespaces["shop"] = "v2"
	putView(t, s, epoch.Add(26*time.Hour), here)
	here.Policies = map[string]string{}
	putView(t, s, epoch.Add(26*time.Hour), here)
	if left := layers(); left != nil {
		t.Errorf("once it says nothing: %q", left)
	}
	// So it does where a CronJob is between its runs.
	here = insight.View{
		Namespaces: map[string]string{"shop": "v3"}, CronJobs: true, Policies: map[string]string{"shop": "p: {optOut: true}"},
		Contents: map[string]insight.Contents{"shop": contents([]string{"nightly"}, deployed("CronJob", "nightly", "1"))},
	}
	putView(t, s, epoch.Add(27*time.Hour), here)
	here.Namespaces["shop"], here.Contents["shop"], here.Policies = "v4", contents([]string{"nightly"}), map[string]string{}
	putView(t, s, epoch.Add(27*time.Hour), here)
	if d := cmp.Diff([]string{"shop CronJob/nightly@1*", "shop Deployment/web@1*"}, running(t, s)); d != "" {
		t.Errorf("between its runs (-want +got):\n%s", d)
	}
	if left := layers(); left != nil {
		t.Errorf("between the runs of a CronJob: %q", left)
	}
}

// cutInventory: what a list doesn't tell of that may be cut stays, however long.
func cutInventory(t *testing.T, s *store.Store) {
	put := func(at time.Time, list []insight.Workload) {
		t.Helper()
		if err := s.PutInventory(t.Context(), "edge", insight.Inventory{Workloads: list}, at); err != nil {
			t.Fatal(err)
		}
	}
	there := func(name string) bool {
		t.Helper()
		found, err := s.Workloads(t.Context(), insight.Query{Cluster: "edge", Namespace: "shop", Limit: 1000}, false)
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(found, func(w insight.WorkloadRecord) bool { return w.Name == name })
	}
	last := deployed("Pod", "last", "1")
	put(epoch, []insight.Workload{last})
	full := make([]insight.Workload, insight.MaxWorkloads)
	for i := range full {
		full[i] = insight.Workload{Namespace: fmt.Sprint("ns-", i%100), Kind: "Pod", Name: fmt.Sprint("p-", i), Container: "c", Digest: "1", Pods: 1}
	}
	put(epoch.Add(time.Hour), full)
	put(epoch.Add(48*time.Hour), full)
	if !there("last") {
		t.Error("what a cut list doesn't tell of is gone")
	}
	put(epoch.Add(48*time.Hour), full[1:])
	if there("last") {
		t.Error("what a whole list doesn't tell of runs")
	}
}

// olderHub: what a hub of an older version was told between two views is forgotten.
func olderHub(t *testing.T, s *store.Store) {
	v := insight.View{Namespaces: map[string]string{"shop": "v1"}, Contents: map[string]insight.Contents{"shop": contents(nil, deployed("Deployment", "web", "1"))}}
	putView(t, s, epoch, v)
	if err := s.PutInventory(t.Context(), "edge", insight.Inventory{Workloads: []insight.Workload{deployed("Deployment", "web", "2"), deployed("Deployment", "more", "1")}}, epoch.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	at := epoch.Add(2 * time.Minute)
	putView(t, s, at, insight.View{Namespaces: map[string]string{"shop": "v1"}}, "shop")
	putView(t, s, at, v)
	if d := cmp.Diff([]string{"shop Deployment/more@1*", "shop Deployment/web@1"}, running(t, s)); d != "" {
		t.Errorf("after an older hub (-want +got):\n%s", d)
	}
	if err := s.PutInventory(t.Context(), "edge", insight.Inventory{Workloads: []insight.Workload{deployed("Deployment", "web", "3")}}, at); err != nil {
		t.Fatal(err)
	}
	putView(t, s, at.Add(time.Minute), insight.View{})
	if d := cmp.Diff([]string{"shop Deployment/more@1*", "shop Deployment/web@3*"}, running(t, s)); d != "" {
		t.Errorf("a namespace that is gone (-want +got):\n%s", d)
	}
}

// scans are those of containers in the namespace shop, as policies have them.
type scans struct {
	*testing.T
	*store.Store
}

func newScans(t *testing.T, s *store.Store) scans {
	s.JudgeErrors(func(c scan.Scan) []fleet.Result {
		r := result("p", c.Request.Target.Namespace, c.Request.Target.Subject().Repo, false)
		r.Unknown = c.Reason
		return []fleet.Result{r}
	})
	return scans{t, s}
}

// end ends a scan of a pod's container: with a result if there is no reason why not.
func (s scans) end(pod, reason string, at time.Time, change ...func(*fleet.Result)) {
	s.Helper()
	c := newScan("edge")
	c.Request.Target.Namespace, c.Request.Target.Pod = "shop", pod
	f := scan.Finish{ID: c.ID, Status: scan.Error, Reason: reason}
	if reason == "" {
		f.Status, f.Verdict = scan.Completed, scan.Verdict{Outcome: scan.Failed}
		f.Results = []fleet.Result{result("p", "shop", c.Request.Target.Subject().Repo, false, "issue")}
	}
	for _, change := range change {
		change(&f.Results[0])
	}
	if err := s.CreateScan(s.Context(), c); err != nil {
		s.Fatal(err)
	}
	if err := s.FinishScan(s.Context(), f, at); err != nil {
		s.Fatal(err)
	}
}

func (s scans) expect(what string, want ...string) {
	s.Helper()
	found, err := s.PolicySubjects(s.Context(), policy.Query{})
	if err != nil {
		s.Fatal(err)
	}
	var got []string
	for _, r := range found {
		got = append(got, r.Subject.Repo+" "+string(r.Verdict))
	}
	if d := cmp.Diff(want, got); d != "" {
		s.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// goneContainers: a container that was scanned, however that came about, isn't
// checked any more a day after its pod was there last; and it doesn't come back by
// being asked for.
func goneContainers(t *testing.T, store *store.Store) {
	s := newScans(t, store)
	var last insight.View
	seen, version := epoch, 0
	view := func(at time.Time, pods ...string) {
		t.Helper()
		stays(t, store, last, seen, at)
		version++
		c := insight.Contents{Pods: map[string][]string{}}
		for _, p := range pods {
			c.Pods[p] = []string{"init", "app"} // the container of a scan
		}
		last = insight.View{Namespaces: map[string]string{"shop": fmt.Sprint(version)}, Contents: map[string]insight.Contents{"shop": c}}
		seen = at
		putView(t, store, at, last)
	}
	at := epoch
	view(at, "db-0", "web-1", "fixed")
	for _, pod := range []string{"db-0", "web-1", "fixed"} {
		s.end(pod, "", at)
	}
	// A workload's is no pod's, whatever it is called.
	record(t, store, beginRun(t, store, policy.Run{Began: at}), at, result("facts", "shop", "web-9/app", false))
	// It is started anew, now and then.
	for range 3 {
		view(at.Add(time.Minute), "fixed")
		view(at.Add(23*time.Hour), "db-0", "fixed")
		at = at.Add(23 * time.Hour)
		view(at.Add(time.Hour), "db-0", "web-1", "fixed")
	}
	const facts = "web-9/app failed"
	s.expect("what comes and goes", facts, "db-0/app failed", "fixed/app failed", "web-1/app failed")
	at = at.Add(2 * time.Hour)
	view(at, "db-0")
	s.end("fixed", `there is no pod "fixed"`, at.Add(time.Minute))
	view(at.Add(23*time.Hour), "db-0")
	s.expect("less than a day later", facts, "db-0/app failed", "fixed/app unknown", "web-1/app failed")
	at = at.Add(24 * time.Hour)
	view(at, "db-0")
	s.expect("a day later", facts, "db-0/app failed")
	told, err := store.Alerts(t.Context(), alert.Filter{})
	var words []string
	for _, a := range told {
		if a.Outcome.Gone {
			words = append(words, a.Sink+" "+a.Outcome.Subject.Repo)
		}
	}
	slices.Sort(words)
	if d := cmp.Diff([]string{"issue fixed/app", "issue web-1/app"}, words); err != nil || d != "" {
		t.Errorf("told, %v (-want +got):\n%s", err, d)
	}
	// Its schedule goes on.
	s.end("fixed", `there is no pod "fixed"`, at.Add(14*time.Minute))
	putView(t, store, at.Add(14*time.Minute), last)
	s.expect("asked for again", facts, "db-0/app failed", "fixed/app unknown")
	putView(t, store, at.Add(15*time.Minute), last)
	s.expect("the next view", facts, "db-0/app failed")
	at = at.Add(time.Minute)
	// What nobody could look into is there as soon as an agent knows of it.
	s.end("young", "it has no shell", at.Add(14*time.Minute))
	s.expect("a pod that nothing is known of", facts, "db-0/app failed", "young/app unknown")
	view(at.Add(14*time.Minute), "db-0", "young")
	putView(t, store, at.Add(24*time.Minute), last)
	s.expect("once it is", facts, "db-0/app failed", "young/app unknown")
	view(at.Add(25*time.Minute), "db-0")
	at = at.Add(25 * time.Hour)
	view(at, "db-0")
	s.expect("a day after it is gone", facts, "db-0/app failed")
	s.end("db-0", "it has no shell", at.Add(14*time.Minute))
	s.expect("a pod that is there", facts, "db-0/app unknown")
	// What a result is of is there, whatever the last view says.
	s.end("new", "", at.Add(14*time.Minute))
	s.expect("a pod that is newer than the view", facts, "db-0/app unknown", "new/app failed")
	s.end("newer", "", at.Add(14*time.Minute), func(r *fleet.Result) { r.Unknown = "a control was skipped" })
	s.expect("another", facts, "db-0/app unknown", "new/app failed", "newer/app unknown")
	// An agent that has been away for long says nothing of now.
	s.end("fixed", "the agent was away", at.Add(16*time.Minute))
	s.expect("without a view of now", facts, "db-0/app unknown", "fixed/app unknown", "new/app failed", "newer/app unknown")
}

// unknownPods: an agent that tells of no pods ends none.
func unknownPods(t *testing.T, store *store.Store) {
	s := newScans(t, store)
	s.end("web-1", "", epoch)
	for day := range 3 {
		if err := store.PutInventory(t.Context(), "edge", insight.Inventory{}, epoch.Add(time.Duration(day)*24*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	s.end("web-2", "nobody answered", epoch.Add(48*time.Hour))
	s.expect("without views", "web-1/app failed", "web-2/app unknown")
}
