package scan_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/scan"
)

func schedule(name string) scan.Schedule {
	return scan.Schedule{Name: name, Cron: "* * * * *", Request: request(), CreatedBy: "token:ci"}
}

// runSchedules runs n replicas until the function that it returns is called.
func runSchedules(t *testing.T, q *scan.Queue, store scan.ScheduleStore, n int) func() {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range n {
		all.Go(func() { scan.NewSchedules(q, store, quiet).Run(ctx) })
	}
	return func() { cancel(); all.Wait() }
}

// A schedule leads to a scan each time, whatever the number of replicas;
// downtime costs no more than one run.
func TestSchedules(t *testing.T) {
	s := newStore(t)
	q := newQueue(t, s, nil)
	schedules := scan.NewSchedules(q, s, quiet)
	saved, created, err := schedules.Save(t.Context(), schedule("minutely"), nil)
	if err != nil || !created || saved.Missed != scan.RunOnce || saved.Request.RequestedBy != "schedule:minutely" {
		t.Fatalf("saved %+v, %v, %v", saved, created, err)
	}
	// Three runs are missed.
	back(t, s, saved, 3*time.Minute)
	stop := runSchedules(t, q, s, 3)
	defer stop()
	runs := waitRuns(t, schedules, "minutely")
	r := runs[0]
	if len(runs) != 1 || r.State != scan.RunStarted || r.Missed < 2 || r.Missed > 3 {
		t.Errorf("runs %+v", runs)
	}
	scans, err := q.List(t.Context(), scan.Filter{})
	if err != nil || len(scans) != 1 || scans[0].ID != r.Scan || scans[0].Request.RequestedBy != "schedule:minutely" {
		t.Errorf("scans %+v, %v", scans, err)
	}
}

// Only who may say what counts makes a schedule whose scans are standing ones.
func TestSchedules_standing(t *testing.T) {
	for _, standing := range []bool{false, true} {
		s := newStore(t)
		q := newQueue(t, s, nil)
		schedules := scan.NewSchedules(q, s, quiet)
		c := schedule("minutely")
		c.Request.Standing = standing
		c, _, err := schedules.Save(t.Context(), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		back(t, s, c, time.Minute)
		stop := runSchedules(t, q, s, 1)
		r := waitRuns(t, schedules, "minutely")[0]
		stop()
		if made, err := q.Get(t.Context(), r.Scan); err != nil || made.Request.Standing != standing {
			t.Errorf("of a schedule that is standing %v: %+v, %v", standing, made.Request, err)
		}
	}
}

// back sets a schedule's next time back.
func back(t *testing.T, s scan.ScheduleStore, c scan.Schedule, by time.Duration) {
	t.Helper()
	c.Next = c.Next.Add(-by)
	if _, err := s.SaveSchedule(t.Context(), c, nil); err != nil {
		t.Fatal(err)
	}
}

// waitRuns waits until a schedule has run and no run is due.
func waitRuns(t *testing.T, s *scan.Schedules, name string) []scan.Run {
	t.Helper()
	for {
		runs, err := s.Runs(t.Context(), "", name)
		if err != nil {
			t.Fatal(err)
		}
		due := len(runs) == 0
		for _, r := range runs {
			due = due || r.State == scan.RunDue
		}
		if !due {
			return runs
		}
		select {
		case <-t.Context().Done():
			t.Fatal("no run")
		case <-time.After(time.Millisecond):
		}
	}
}

// A selector is a batch, whose agents begin at moments of their own; what has
// become wrong since is told by the run.
func TestSchedules_batch(t *testing.T) {
	s := newStore(t)
	q := newQueue(t, s, nil)
	schedules := scan.NewSchedules(q, s, quiet)
	c := schedule("fleet")
	c.Selector, c.Jitter = &scan.Selector{Namespace: "shop"}, time.Hour
	c, _, err := schedules.Save(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	gone := schedule("gone")
	gone.Request.Profile = "mine"
	gone.Request.Profile = "base"
	if gone, _, err = schedules.Save(t.Context(), gone, nil); err != nil {
		t.Fatal(err)
	}
	gone.Request.Profile = "removed"
	back(t, s, c, 10*time.Minute)
	back(t, s, gone, 10*time.Minute)
	defer runSchedules(t, q, s, 1)()
	r := waitRuns(t, schedules, "fleet")[0]
	b, err := q.Batch(t.Context(), r.Batch)
	if err != nil || len(b.Selections) != 2 || b.RequestedBy != "schedule:fleet" {
		t.Fatalf("batch %+v, %v", b, err)
	}
	first, second := b.Selections[0], b.Selections[1]
	if first.NotBefore.Equal(second.NotBefore) || !first.NotBefore.After(first.Created) || !strings.Contains(first.Reason, "begins at") {
		t.Errorf("they begin at %v and %v: %s", first.NotBefore, second.NotBefore, first.Reason)
	}
	if wait := first.NotBefore.Sub(first.Created); wait > time.Hour || first.Expires.Sub(first.NotBefore) < scan.DefaultQueueFor {
		t.Errorf("it waits for %v and expires at %v", wait, first.Expires)
	}
	if r := waitRuns(t, schedules, "gone")[0]; r.State != scan.RunError || !strings.Contains(r.Reason, `no such profile: "removed"`) {
		t.Errorf("run %+v", r)
	}
}

// Whose maker may not scan any more is paused, and says why; what can't be judged
// now isn't.
func TestSchedules_judged(t *testing.T) {
	s := newStore(t)
	q := newQueue(t, s, nil)
	schedules := scan.NewSchedules(q, s, quiet)
	made := schedule("minutely")
	made.Maker = []byte(`"ann"`)
	c, _, err := schedules.Save(t.Context(), made, nil)
	if err != nil {
		t.Fatal(err)
	}
	back(t, s, c, time.Minute)
	fault := true
	schedules.Judge(func(_ context.Context, c scan.Schedule) (string, error) {
		switch {
		case string(c.Maker) != `"ann"`:
			return "", errors.New("who made it is lost")
		case fault:
			fault = false
			return "", errors.New("the database is away")
		}
		return "ann has left", nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); schedules.Run(ctx) }()
	for {
		runs, err := schedules.Runs(t.Context(), "", "minutely")
		if err != nil {
			t.Fatal(err)
		}
		if len(runs) == 1 && runs[0].Reason != "" {
			if runs[0].State != scan.RunDue || !strings.Contains(runs[0].Reason, "tried again") {
				t.Errorf("after a fault: %+v", runs[0])
			}
			break
		}
	}
	cancel()
	<-done
	if _, err := s.ClaimRuns(t.Context(), time.Now().Add(time.Hour), time.Now()); err != nil { // it is due at once
		t.Fatal(err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	done = make(chan struct{})
	go func() { defer close(done); schedules.Run(ctx) }()
	defer func() { cancel(); <-done }()
	if r := waitRuns(t, schedules, "minutely")[0]; r.State != scan.RunError || !strings.Contains(r.Reason, "ann has left") {
		t.Errorf("run %+v", r)
	}
	if c, err := schedules.Get(t.Context(), "", "minutely"); err != nil || !c.Suspended || !strings.Contains(c.Paused, "ann has left") || !c.Next.IsZero() {
		t.Errorf("paused: %+v, %v", c, err)
	}
	if scans, err := q.List(t.Context(), scan.Filter{}); err != nil || len(scans) != 0 {
		t.Errorf("scans %+v, %v", scans, err)
	}
}

// A hub that dies between a run's scan and its end makes one scan of it.
func TestSchedules_oneScan(t *testing.T) {
	s := newStore(t)
	q := newQueue(t, s, nil)
	c, _, err := scan.NewSchedules(q, s, quiet).Save(t.Context(), schedule("minutely"), nil)
	if err != nil {
		t.Fatal(err)
	}
	back(t, s, c, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	scan.NewSchedules(q, dying{s, cancel}, quiet).Run(ctx)
	if scans, err := q.List(t.Context(), scan.Filter{}); err != nil || len(scans) != 1 {
		t.Fatalf("%d scans before, %v", len(scans), err)
	}
	// Another replica takes the run over, once it may.
	runs, err := s.ClaimRuns(t.Context(), time.Now().Add(time.Hour), time.Now())
	if err != nil || len(runs) != 1 {
		t.Fatalf("runs %+v, %v", runs, err)
	}
	defer runSchedules(t, q, s, 1)()
	r := waitRuns(t, scan.NewSchedules(q, s, quiet), "minutely")[0]
	if scans, err := q.List(t.Context(), scan.Filter{}); err != nil || len(scans) != 1 || scans[0].ID != r.Scan {
		t.Errorf("scans %+v of run %+v, %v", scans, r, err)
	}
}

// dying is a store whose hub dies before a run's end is kept.
type dying struct {
	scan.ScheduleStore
	die func()
}

func (d dying) EndRun(context.Context, scan.Run, time.Time) error {
	d.die()
	return errors.New("the hub is gone")
}

// What is wrong with a schedule is named, and nothing is kept.
func TestSchedules_refuses(t *testing.T) {
	s := newStore(t)
	schedules := scan.NewSchedules(newQueue(t, s, nil), s, quiet)
	for field, change := range map[string]func(*scan.Schedule){
		"name":                   func(c *scan.Schedule) { c.Name = "a/b" },
		"cron":                   func(c *scan.Schedule) { c.Cron = "daily" },
		"timeZone":               func(c *scan.Schedule) { c.TimeZone = "Mars" },
		"jitter":                 func(c *scan.Schedule) { c.Jitter = 25 * time.Hour },
		"missed":                 func(c *scan.Schedule) { c.Missed = "twice" },
		"callback":               func(c *scan.Schedule) { c.Request.Callback = &scan.Callback{URL: "https://ci.example"} },
		"target.agent":           func(c *scan.Schedule) { c.Request.Target.Agent = "north" },
		"target.pod":             func(c *scan.Schedule) { c.Request.Target.Pod = "" },
		"scan.profile":           func(c *scan.Schedule) { c.Request.Profile = "none" },
		"scan.threshold":         func(c *scan.Schedule) { c.Request.Threshold = "none" },
		"options.timeout":        func(c *scan.Schedule) { c.Request.Timeout = time.Millisecond },
		"options.priority":       func(c *scan.Schedule) { c.Request.Priority = "urgent" },
		"selector.namespace":     func(c *scan.Schedule) { c.Selector = &scan.Selector{Namespace: "Shop"} },
		"selector.agents[0]":     func(c *scan.Schedule) { c.Selector, c.Agents = &scan.Selector{}, []fleet.AgentName{"north"} },
		"selector.workload.kind": func(c *scan.Schedule) { c.Selector = &scan.Selector{Namespace: "a", Kind: "Node", Name: "x"} },
	} {
		c := schedule("s")
		change(&c)
		_, _, err := schedules.Save(t.Context(), c, nil)
		var bad *scan.InvalidError
		if !errors.As(err, &bad) || bad.Field != field {
			t.Errorf("%v; want an error of %s", err, field)
		}
	}
	if list, err := schedules.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("kept: %+v, %v", list, err)
	}
}

// An agent's own schedules are for its containers, and it is told which of
// them can't be.
func TestSchedules_Set(t *testing.T) {
	s := newStore(t)
	schedules := scan.NewSchedules(newQueue(t, s, nil), s, quiet)
	good, bad := schedule("policy"), schedule("bad")
	good.Agents = []fleet.AgentName{"core"}
	bad.Cron = "?"
	first := schedule("first")
	first.Request.Priority = scan.High
	refused, err := schedules.Set(t.Context(), "edge", []scan.Schedule{good, bad, first})
	if err != nil || len(refused) != 2 || refused["bad"] == nil || refused["first"] == nil {
		t.Fatalf("refused %v, %v", refused, err)
	}
	list, err := schedules.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	c := list[0]
	if d := cmp.Diff([]fleet.AgentName{"edge"}, c.Agents); d != "" || c.Owner != "edge" || c.Request.RequestedBy != "agent:edge schedule policy" || c.Selector == nil {
		t.Errorf("%+v (-want +got):\n%s", c, d)
	}
	if err := schedules.Delete(t.Context(), "policy"); !errors.Is(err, scan.ErrNoSchedule) {
		t.Errorf("an agent's own was deleted: %v", err)
	}
}

// One that is suspended doesn't run.
func TestSchedules_suspended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		q := newQueue(t, s, nil)
		schedules := scan.NewSchedules(q, s, quiet)
		c := schedule("minutely")
		c.Suspended = true
		if c, _, err := schedules.Save(t.Context(), c, nil); err != nil || !c.Next.IsZero() {
			t.Fatalf("%+v, %v", c, err)
		}
		stop := runSchedules(t, q, s, 1)
		time.Sleep(10 * time.Minute)
		if runs, err := schedules.Runs(t.Context(), "", "minutely"); err != nil || len(runs) != 0 {
			t.Errorf("runs %+v, %v", runs, err)
		}
		c.Suspended = false
		if _, _, err := schedules.Save(t.Context(), c, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(150 * time.Second)
		synctest.Wait()
		runs, err := schedules.Runs(t.Context(), "", "minutely")
		if err != nil || len(runs) != 2 {
			t.Errorf("runs %+v, %v", runs, err)
		}
		stop()
	})
}
