package storetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
)

var scheduleTests = map[string]func(*testing.T, *store.Store){
	"keeps a schedule whole":       keepsSchedule,
	"keeps no more than there may": limitsSchedules,
	"fires once":                   firesOnce,
	"gives a run to one":           claimsRuns,
	"keeps the last runs":          keepsRuns,
	"replaces an agent's own":      replacesSchedules,
}

func newSchedule(name string) scan.Schedule {
	return scan.Schedule{
		Name: name, Cron: "0 3 * * *", TimeZone: "Europe/Berlin", Jitter: time.Minute, Missed: scan.RunOnce,
		Request: scan.Request{
			Target:  scan.Target{Agent: "edge", Namespace: "shop", Pod: "web-1", Container: "app"},
			Profile: "base", Threshold: "strict", Inputs: map[string]any{"n": int64(1)}, Timeout: timeout,
			Priority: scan.Low, Method: scan.Exec, Standing: true, RequestedBy: "schedule:" + name,
		},
		Created: epoch, CreatedBy: "token:ci", Next: epoch.Add(time.Hour),
	}
}

func saveSchedule(t *testing.T, s *store.Store, c scan.Schedule) {
	t.Helper()
	if _, err := s.SaveSchedule(t.Context(), c, nil); err != nil {
		t.Fatal(err)
	}
}

func keepsSchedule(t *testing.T, s *store.Store) {
	one, two := newSchedule("one"), newSchedule("two")
	two.Selector, two.Agents, two.Request.Target = &scan.Selector{Namespace: "shop", Labels: "app=web"}, []fleet.AgentName{"edge"}, scan.Target{}
	two.Suspended, two.Next, two.Request.Inputs = true, time.Time{}, nil
	changed := s.SchedulesChanged()
	for _, c := range []scan.Schedule{two, one} {
		if created, err := s.SaveSchedule(t.Context(), c, nil); !created || err != nil {
			t.Errorf("%s: created %v, %v", c.Name, created, err)
		}
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was woken")
	}
	one.Cron, one.Next = "@daily", epoch.Add(2*time.Hour)
	if created, err := s.SaveSchedule(t.Context(), one, nil); created || err != nil {
		t.Errorf("again: created %v, %v", created, err)
	}
	for name, was := range map[string]scan.Schedule{
		"nothing": {}, "one saved before": {Created: epoch.Add(-1)}, "one that is suspended": {Created: epoch, Suspended: true},
	} {
		_, err := s.SaveSchedule(t.Context(), newSchedule("one"), &was)
		wantErr(t, "in place of "+name, err, scan.ErrChanged)
	}
	_, err := s.SaveSchedule(t.Context(), newSchedule("three"), &one)
	wantErr(t, "in place of what is gone", err, scan.ErrChanged)
	_, err = s.SaveSchedule(t.Context(), one, &one)
	wantErr(t, "in its own place", err, nil)
	list, err := s.Schedules(t.Context())
	if d := cmp.Diff([]scan.Schedule{one, two}, list); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	got, err := s.Schedule(t.Context(), "", "two")
	if d := cmp.Diff(two, got); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	_, err = s.Schedule(t.Context(), "edge", "two")
	wantErr(t, "another owner's", err, scan.ErrNoSchedule)
	wantErr(t, "delete", s.DeleteSchedule(t.Context(), "", "two"), nil)
	wantErr(t, "delete again", s.DeleteSchedule(t.Context(), "", "two"), scan.ErrNoSchedule)
}

func limitsSchedules(t *testing.T, s *store.Store) {
	var many []scan.Schedule
	for i := range scan.MaxSchedules {
		c := newSchedule(fmt.Sprint("s", i))
		c.Owner = "edge"
		many = append(many, c)
	}
	wantErr(t, "set", s.SetSchedules(t.Context(), "edge", many), nil)
	saveSchedule(t, s, newSchedule("the hub's"))
	more := newSchedule("more")
	more.Owner = "edge"
	_, err := s.SaveSchedule(t.Context(), more, nil)
	wantErr(t, "one more", err, scan.ErrSchedulesFull)
	_, err = s.SaveSchedule(t.Context(), many[0], nil)
	wantErr(t, "the same", err, nil)
}

// firesOnce: of many replicas that see it due, one moves it on.
func firesOnce(t *testing.T, s *store.Store) {
	c := newSchedule("one")
	saveSchedule(t, s, c)
	if due, next, err := s.DueSchedules(t.Context(), epoch); len(due) != 0 || !next.Equal(c.Next) || err != nil {
		t.Errorf("before: %v, %v, %v", due, next, err)
	}
	due, next, err := s.DueSchedules(t.Context(), c.Next)
	if len(due) != 1 || !next.IsZero() || err != nil {
		t.Fatalf("due: %v, %v, %v", due, next, err)
	}
	run := scan.Run{Schedule: "one", At: c.Next, State: scan.RunDue, Missed: 2, Begun: c.Next}
	var fired atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			ok, err := s.FireSchedule(t.Context(), due[0], c.Next.Add(time.Hour), run)
			if err != nil {
				t.Error(err)
			}
			if ok {
				fired.Add(1)
			}
		})
	}
	all.Wait()
	runs, err := s.Runs(t.Context(), "", "one", 10)
	if d := cmp.Diff([]scan.Run{run}, runs); d != "" || err != nil || fired.Load() != 1 {
		t.Errorf("fired %d times, %v (-want +got):\n%s", fired.Load(), err, d)
	}
	if due, next, err := s.DueSchedules(t.Context(), c.Next); len(due) != 0 || !next.Equal(c.Next.Add(time.Hour)) || err != nil {
		t.Errorf("afterwards: %v, %v, %v", due, next, err)
	}
}

func fire(t *testing.T, s *store.Store, c *scan.Schedule) scan.Run {
	t.Helper()
	r := scan.Run{Owner: c.Owner, Schedule: c.Name, At: c.Next, State: scan.RunDue, Begun: c.Next}
	next := c.Next.Add(time.Hour)
	if ok, err := s.FireSchedule(t.Context(), *c, next, r); !ok || err != nil {
		t.Fatalf("fire: %v, %v", ok, err)
	}
	c.Next = next
	return r
}

func claimRuns(t *testing.T, s *store.Store, at time.Time) []scan.Run {
	t.Helper()
	runs, err := s.ClaimRuns(t.Context(), at, at.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

func claimsRuns(t *testing.T, s *store.Store) {
	c := newSchedule("one")
	saveSchedule(t, s, c)
	r := fire(t, s, &c)
	at := r.Begun
	if got := claimRuns(t, s, at); len(got) != 1 {
		t.Fatalf("claimed %v", got)
	}
	if got := claimRuns(t, s, at.Add(59*time.Second)); len(got) != 0 {
		t.Errorf("claimed twice: %v", got)
	}
	if got := claimRuns(t, s, at.Add(time.Minute)); len(got) != 1 {
		t.Errorf("nobody has the run whose claimer was lost: %v", got)
	}
	r.Reason = "the disk is full"
	wantErr(t, "try again", s.EndRun(t.Context(), r, at.Add(5*time.Minute)), nil)
	if got := claimRuns(t, s, at.Add(5*time.Minute)); len(got) != 1 || got[0].Reason != r.Reason {
		t.Errorf("tried again: %v", got)
	}
	r.State, r.Scan, r.Reason = scan.RunStarted, "id", ""
	wantErr(t, "end", s.EndRun(t.Context(), r, at), nil)
	if got := claimRuns(t, s, at.Add(time.Hour)); len(got) != 0 {
		t.Errorf("claimed after its end: %v", got)
	}
	runs, err := s.Runs(t.Context(), "", "one", 10)
	if d := cmp.Diff([]scan.Run{r}, runs); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}

func keepsRuns(t *testing.T, s *store.Store) {
	c := newSchedule("one")
	saveSchedule(t, s, c)
	for range scan.RunsKept + 3 {
		r := fire(t, s, &c)
		r.State = scan.RunStarted
		wantErr(t, "end", s.EndRun(t.Context(), r, r.Begun), nil)
	}
	runs, err := s.Runs(t.Context(), "", "one", 1000)
	if err != nil || len(runs) != scan.RunsKept || !runs[0].At.Equal(c.Next.Add(-time.Hour)) {
		t.Errorf("%d runs, %v", len(runs), err)
	}
	wantErr(t, "delete", s.DeleteSchedule(t.Context(), "", "one"), nil)
	if runs, err := s.Runs(t.Context(), "", "one", 1000); err != nil || len(runs) != 0 {
		t.Errorf("%d runs of a schedule that is no more, %v", len(runs), err)
	}
}

// replacesSchedules: what isn't changed keeps its time, so that an agent that
// says the same again and again doesn't put it off.
func replacesSchedules(t *testing.T, s *store.Store) {
	own := func(name string, next time.Time) scan.Schedule {
		c := newSchedule(name)
		c.Owner, c.Next = "edge", next
		return c
	}
	hub := newSchedule("a")
	saveSchedule(t, s, hub)
	wantErr(t, "set", s.SetSchedules(t.Context(), "edge", []scan.Schedule{own("a", epoch), own("b", epoch), own("c", epoch)}), nil)
	later := epoch.Add(time.Hour)
	changed := own("b", later)
	changed.Cron = "@daily"
	other := own("a", later)
	other.Request.Profile = "other"
	wantErr(t, "set anew", s.SetSchedules(t.Context(), "edge", []scan.Schedule{other, changed}), nil)
	other.Next = epoch
	list, err := s.Schedules(t.Context())
	if d := cmp.Diff([]scan.Schedule{hub, other, changed}, list); d != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}
