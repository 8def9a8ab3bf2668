package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"reeve.dev/reeve/policy/github"
	"reeve.dev/reeve/store"
)

var githubTests = map[string]func(*testing.T, *store.Store){
	"keeps how each hub sees it":              keepsStandings,
	"keeps answers within bounds":             keepsAnswers,
	"gives a task to one":                     leasesTasks,
	"does again what was marked meanwhile":    marksAgain,
	"leaves a task that is there as it is":    marksOnce,
	"a lease that ran out is anybody's again": leaseEnds,
}

func keepsAnswers(t *testing.T, s *store.Store) {
	for i, scope := range []string{"a", "b", "c"} {
		if err := s.SaveResponses(t.Context(), "main", scope, make([]byte, 100), epoch.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SaveResponses(t.Context(), "main", "b", []byte("newer"), epoch.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	kept := func() (out []string) {
		for _, scope := range []string{"a", "b", "c"} {
			data, err := s.LoadResponses(t.Context(), "main", scope)
			if err != nil {
				t.Fatal(err)
			}
			if data != nil {
				out = append(out, scope)
			}
		}
		return out
	}
	if data, err := s.LoadResponses(t.Context(), "main", "b"); string(data) != "newer" || err != nil {
		t.Errorf("got %q, %v", data, err)
	}
	if data, err := s.LoadResponses(t.Context(), "other", "b"); data != nil || err != nil {
		t.Errorf("of another connection: got %q, %v", data, err)
	}
	if err := s.SweepResponses(t.Context(), epoch.Add(time.Minute), 1000); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b", "c"}, kept()); diff != "" {
		t.Errorf("after the sweep by age (-want +got):\n%s", diff)
	}
	if err := s.SweepResponses(t.Context(), epoch, 50); err != nil {
		t.Fatal(err)
	}
	if got := kept(); len(got) != 0 {
		t.Errorf("after the sweep by size %v are kept", got)
	}
}

func markTask(t *testing.T, s *store.Store, task github.Task, anew bool) {
	t.Helper()
	if err := s.MarkGitHub(t.Context(), task, anew); err != nil {
		t.Fatal(err)
	}
}

func leaseTasks(t *testing.T, s *store.Store, lease string, now time.Time) ([]github.Task, time.Time) {
	t.Helper()
	tasks, next, err := s.LeaseGitHub(t.Context(), "main", lease, now, now.Add(time.Minute), 10)
	if err != nil {
		t.Fatal(err)
	}
	return tasks, next
}

func leasesTasks(t *testing.T, s *store.Store) {
	marked := s.GitHubMarked()
	markTask(t, s, github.Task{Connection: "main", Owner: "Acme", Cause: "clock", Due: epoch}, false)
	select {
	case <-marked:
	default:
		t.Error("nobody was woken")
	}
	markTask(t, s, github.Task{Connection: "main", Owner: "acme", Repo: "Shop", Cause: "push", Due: epoch.Add(time.Hour)}, true)
	markTask(t, s, github.Task{Connection: "other", Owner: "acme", Cause: "clock", Due: epoch}, true)
	got, next := leaseTasks(t, s, "one", epoch)
	want := []github.Task{{Connection: "main", Owner: "acme", Cause: "clock", Due: epoch}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(github.Task{}, "Stamp")); diff != "" {
		t.Errorf("leased (-want +got):\n%s", diff)
	}
	if !next.Equal(epoch.Add(time.Minute)) {
		t.Errorf("the next one is due at %v, want the lease's end", next)
	}
	if again, _ := leaseTasks(t, s, "two", epoch); len(again) > 0 {
		t.Errorf("another got %v", again)
	}
	if mine, err := s.ExtendGitHub(t.Context(), got[0], "two", epoch.Add(time.Hour)); mine || err != nil {
		t.Errorf("another's lease was extended: %v, %v", mine, err)
	}
	if mine, err := s.ExtendGitHub(t.Context(), got[0], "one", epoch.Add(2*time.Minute)); !mine || err != nil {
		t.Errorf("the lease wasn't extended: %v, %v", mine, err)
	}
	if err := s.SettleGitHub(t.Context(), got[0], "one", epoch.Add(30*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got, next := leaseTasks(t, s, "three", epoch.Add(time.Minute)); len(got) > 0 || !next.Equal(epoch.Add(30*time.Minute)) {
		t.Errorf("before it is due again: %v, next at %v", got, next)
	}
}

func marksAgain(t *testing.T, s *store.Store) {
	task := github.Task{Connection: "main", Owner: "acme", Repo: "shop", Cause: "push", Due: epoch}
	markTask(t, s, task, true)
	got, _ := leaseTasks(t, s, "one", epoch)
	if len(got) != 1 {
		t.Fatalf("leased %v", got)
	}
	markTask(t, s, task, true)
	if err := s.SettleGitHub(t.Context(), got[0], "one", time.Time{}); err != nil {
		t.Fatal(err)
	}
	got, _ = leaseTasks(t, s, "two", epoch)
	if len(got) != 1 {
		t.Fatalf("after a mark meanwhile: leased %v", got)
	}
	if err := s.SettleGitHub(t.Context(), got[0], "two", time.Time{}); err != nil {
		t.Fatal(err)
	}
	if got, next := leaseTasks(t, s, "three", epoch.Add(time.Hour)); len(got) > 0 || !next.IsZero() {
		t.Errorf("it isn't done with: %v, next at %v", got, next)
	}
}

func marksOnce(t *testing.T, s *store.Store) {
	markTask(t, s, github.Task{Connection: "main", Owner: "acme", Cause: "clock", Due: epoch.Add(time.Hour)}, false)
	markTask(t, s, github.Task{Connection: "main", Owner: "acme", Cause: "clock", Due: epoch}, false)
	if got, _ := leaseTasks(t, s, "one", epoch); len(got) > 0 {
		t.Errorf("leased %v", got)
	}
	markTask(t, s, github.Task{Connection: "main", Owner: "acme", Cause: "push", Due: epoch}, true)
	if got, _ := leaseTasks(t, s, "two", epoch); len(got) != 1 || got[0].Cause != "push" {
		t.Errorf("leased %v", got)
	}
}

func leaseEnds(t *testing.T, s *store.Store) {
	markTask(t, s, github.Task{Connection: "main", Owner: "acme", Cause: "clock", Due: epoch}, false)
	old, _ := leaseTasks(t, s, "one", epoch)
	got, _ := leaseTasks(t, s, "two", epoch.Add(time.Minute))
	if len(old) != 1 || len(got) != 1 {
		t.Fatalf("leased %v, then %v", old, got)
	}
	if err := s.SettleGitHub(t.Context(), old[0], "one", time.Time{}); err != nil {
		t.Fatal(err)
	}
	if mine, err := s.ExtendGitHub(t.Context(), got[0], "two", epoch.Add(time.Hour)); !mine || err != nil {
		t.Errorf("who has it now lost it: %v, %v", mine, err)
	}
}

func keepsStandings(t *testing.T, s *store.Store) {
	status := func(org string, completed time.Time, remaining int) github.Status {
		return github.Status{Connection: "main", Organisation: org, Completed: completed, LimitStatus: github.LimitStatus{
			Limits: []github.Limit{{Resource: "core", Limit: 5000, Remaining: remaining, Reset: epoch.Add(time.Hour)}},
			Until:  epoch.Add(time.Minute), Why: "GitHub asked to wait", Waits: 1, Requests: 2, Unchanged: 3,
		}}
	}
	save := func(holder string, now time.Time, all ...github.Status) {
		t.Helper()
		if err := s.SaveGitHubStandings(t.Context(), holder, all, now); err != nil {
			t.Fatal(err)
		}
	}
	later := epoch.Add(time.Minute)
	save("a", epoch, status("acme", epoch, 9), status("base", time.Time{}, 9))
	save("b", epoch, status("acme", time.Time{}, 7))
	save("a", later, status("acme", time.Time{}, 8)) // it was started again
	want := []github.Standing{
		{Status: status("acme", epoch, 8), Holder: "a", Saved: later},
		{Status: status("acme", time.Time{}, 7), Holder: "b", Saved: epoch},
		{Status: status("base", time.Time{}, 9), Holder: "a", Saved: epoch},
	}
	got, err := s.GitHubStandings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("standings (-want +got):\n%s", diff)
	}
	if err := s.SweepResponses(t.Context(), later, 1000); err != nil {
		t.Fatal(err)
	}
	if got, err = s.GitHubStandings(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("after the sweep: %+v, %v", got, err)
	}
}
