package alert_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/store"
)

// told is a sink that keeps what it was told, as "run repo pass", one message
// a line.
type told struct {
	mu       sync.Mutex
	messages []string // guarded by mu
	times    []time.Time
	err      error // guarded by mu; what it answers
}

func (s *told) Deliver(_ context.Context, a alert.Alert) error {
	return s.DeliverGroup(context.Background(), []alert.Alert{a})
}

func (s *told) DeliverGroup(_ context.Context, as []alert.Alert) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		s.times = append(s.times, time.Now())
		return s.err
	}
	var parts []string
	for _, a := range as {
		parts = append(parts, fmt.Sprint(a.Outcome.Run, " ", a.Outcome.Subject.Repo, " ", a.Outcome.Pass))
	}
	s.messages, s.times = append(s.messages, strings.Join(parts, ", ")), append(s.times, time.Now())
	return nil
}

func (s *told) answer(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// take is what was told since the last call.
func (s *told) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.messages
	s.messages = nil
	return out
}

// single is a sink that takes one alert at a time.
type single struct{ *told }

func (s single) Deliver(ctx context.Context, a alert.Alert) error { return s.told.Deliver(ctx, a) }

// DeliverGroup hides that of told.
func (single) DeliverGroup() {}

func emit(t testing.TB, s alert.Runs, sink, run string, pass bool, repos ...string) {
	t.Helper()
	e := alert.Emit{Run: run, Source: "test"}
	for _, repo := range repos {
		o := outcome(run, repo)
		o.Pass = pass
		e.Emissions = append(e.Emissions, alert.Emission{Outcome: o, Sinks: []string{sink}})
	}
	if err := s.Emit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

func bubble(t *testing.T, name string, f func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func expect(t testing.TB, what string, got, want []string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// gauges are the values of the gauges that there are.
func gauges(t testing.TB, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range all {
		if g := f.GetMetric()[0].GetGauge(); g != nil {
			out[f.GetName()] = g.GetValue()
		}
	}
	return out
}

func TestWorker_breaker(t *testing.T) {
	bubble(t, "a sink that takes nothing rests, longer and longer, and is tried with one", func(t *testing.T) {
		s := fresh(t)
		var repos []string
		for i := range 50 {
			repos = append(repos, fmt.Sprint("r", i))
		}
		sink := &told{err: errors.New("down")}
		reg := prometheus.NewRegistry()
		emit(t, s, "x", "r1", false, repos...)
		stop := start(t, alert.Config{Store: s, Sinks: map[string]alert.Sink{"x": single{sink}}, BreakAfter: 10, Concurrency: 4, Registerer: reg, Poll: time.Minute})
		time.Sleep(time.Minute)
		synctest.Wait()
		attempts := len(sink.times)
		if attempts > 50 {
			t.Errorf("%d attempts in a minute", attempts)
		}
		sinks, err := s.AlertSinks(t.Context())
		if err != nil || !strings.Contains(sinks[0].Reason, "deliveries in a row failed; the last: down") {
			t.Errorf("%+v, %v", sinks, err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if more := len(sink.times) - attempts; more > 40 {
			t.Errorf("%d attempts in the next hour", more)
		}
		if m := gauges(t, reg); m["reeve_alert_sink_paused"] != 1 || m["reeve_alert_pending_alerts"] != 50 || m["reeve_alert_oldest_pending_seconds"] < 3600 {
			t.Errorf("metrics %v", m)
		}
		sink.answer(nil)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := len(sink.take()); n != 50 {
			t.Errorf("%d of 50 once it takes them", n)
		}
		time.Sleep(time.Minute)
		stop()
		if m := gauges(t, reg); len(m) != 0 {
			t.Errorf("metrics of what doesn't wait: %v", m)
		}
	})
	bubble(t, "a pause that somebody has ended is over", func(t *testing.T) {
		s := fresh(t)
		sink := &told{err: errors.New("down")}
		emit(t, s, "x", "r1", false, "a", "b", "c")
		stop := start(t, alert.Config{
			Store: s, Sinks: map[string]alert.Sink{"x": single{sink}}, BreakAfter: 3, Concurrency: 1,
			MinBreak: 10 * time.Hour, MaxBreak: 20 * time.Hour, MaxBackoff: time.Second,
		})
		time.Sleep(time.Minute)
		sink.answer(nil)
		if err := s.ResumeSink(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		stop()
		if n := len(sink.take()); n != 3 {
			t.Errorf("%d of 3 in the minute after", n)
		}
	})
	bubble(t, "one receiver of many doesn't stop the others", func(t *testing.T) {
		s := fresh(t)
		var repos []string
		for i := range 30 {
			repos = append(repos, fmt.Sprint("dead", i))
		}
		emit(t, s, "x", "r1", false, append(repos, "alive")...)
		reached := 0
		stop := start(t, alert.Config{Store: s, BreakAfter: 10, Concurrency: 1, Options: map[string]alert.Options{"x": {Many: true}}, Sinks: map[string]alert.Sink{
			"x": sinkFunc(func(_ context.Context, a alert.Alert) error {
				if a.Outcome.Subject.Repo == "alive" {
					reached++
					return nil
				}
				return errors.New("down")
			}),
		}})
		time.Sleep(time.Second)
		stop()
		if sinks, err := s.AlertSinks(t.Context()); err != nil || !sinks[0].PausedUntil.IsZero() || reached != 1 {
			t.Errorf("%+v, %v, reached %d times", sinks, err, reached)
		}
	})
	bubble(t, "refusals of single alerts don't count", func(t *testing.T) {
		s := fresh(t)
		sink := &told{err: &alert.Error{Class: alert.Permanent, Err: errors.New("no such repo")}}
		for i := range 30 {
			emit(t, s, "x", fmt.Sprint("r", i), false, "a")
		}
		stop := start(t, alert.Config{Store: s, Sinks: map[string]alert.Sink{"x": single{sink}}, BreakAfter: 10})
		time.Sleep(time.Second)
		stop()
		if sinks, err := s.AlertSinks(t.Context()); err != nil || sinks[0].Dead != 30 || !sinks[0].PausedUntil.IsZero() {
			t.Errorf("%+v, %v", sinks, err)
		}
	})
}

func TestWorker_limits(t *testing.T) {
	bubble(t, "no more than the rate", func(t *testing.T) {
		s := fresh(t)
		sink := &told{}
		var repos []string
		for i := range 100 {
			repos = append(repos, fmt.Sprint("r", i))
		}
		emit(t, s, "x", "r1", false, repos...)
		stop := start(t, alert.Config{Store: s, Sinks: map[string]alert.Sink{"x": single{sink}}, Options: map[string]alert.Options{"x": {Rate: 2}}})
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if n := len(sink.take()); n < 58 || n > 63 {
			t.Errorf("%d in 30 s at 2 a second", n)
		}
		time.Sleep(time.Minute)
		stop()
		if n := len(sink.take()); n < 37 {
			t.Errorf("then %d of the rest", n)
		}
	})
	bubble(t, "no more at once than the concurrency", func(t *testing.T) {
		s := fresh(t)
		var mu sync.Mutex
		now, most := 0, 0
		emit(t, s, "x", "r1", false, "a", "b", "c", "d", "e", "f")
		stop := start(t, alert.Config{Store: s, Options: map[string]alert.Options{"x": {Concurrency: 2}}, Sinks: map[string]alert.Sink{
			"x": sinkFunc(func(context.Context, alert.Alert) error {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				now--
				mu.Unlock()
				return nil
			}),
		}})
		time.Sleep(10 * time.Second)
		stop()
		if most != 2 {
			t.Errorf("%d at once", most)
		}
	})
	bubble(t, "of what is old the newest alone", func(t *testing.T) {
		s := fresh(t)
		sink := &told{err: errors.New("down")}
		stop := start(t, alert.Config{Store: s, Sinks: map[string]alert.Sink{"x": single{sink}}, Options: map[string]alert.Options{"x": {Coalesce: true}}, Poll: time.Hour})
		for i := range 5 {
			emit(t, s, "x", fmt.Sprint("r", i), i%2 == 0, "a")
		}
		time.Sleep(time.Minute)
		sink.answer(nil)
		time.Sleep(time.Hour)
		stop()
		expect(t, "told", sink.take(), []string{"r4 a true"})
	})
	bubble(t, "what is too old is given up without an attempt", func(t *testing.T) {
		s := fresh(t)
		if err := s.HoldSink(t.Context(), "x", "ann"); err != nil {
			t.Fatal(err)
		}
		sink := &told{}
		emit(t, s, "x", "r1", false, "a")
		stop := start(t, alert.Config{Store: s, Sinks: map[string]alert.Sink{"x": single{sink}}, MaxAge: time.Hour, Poll: time.Minute})
		time.Sleep(2 * time.Hour)
		stop()
		dead, err := s.Alerts(t.Context(), alert.Filter{State: alert.Dead})
		if err != nil || len(dead) != 1 || dead[0].LastError != "given up after 1h0m0s" || len(sink.times) > 0 {
			t.Errorf("%+v, %v, %d attempts", dead, err, len(sink.times))
		}
	})
}

func TestWorker_people(t *testing.T) {
	bubble(t, "are told of changes, in groups, and reminded", func(t *testing.T) {
		s := fresh(t)
		sink := &told{}
		stop := start(t, alert.Config{Store: s, Sinks: map[string]alert.Sink{"x": sink}, Options: map[string]alert.Options{"x": {People: true, Coalesce: true, Concurrency: 1, Group: time.Minute, Remind: time.Hour}}})
		step := func(what string, wait time.Duration, want ...string) {
			t.Helper()
			time.Sleep(wait)
			synctest.Wait()
			expect(t, what, sink.take(), want)
		}
		emit(t, s, "x", "r1", true, "a", "b")
		step("nothing was wrong", 2*time.Minute)
		emit(t, s, "x", "r2", false, "a")
		step("gathering", 30*time.Second)
		emit(t, s, "x", "r3", false, "b")
		step("one message", time.Minute, "r2 a false, r3 b false")
		emit(t, s, "x", "r4", false, "a", "b")
		step("the same", 2*time.Minute)
		emit(t, s, "x", "r5", true, "a")
		step("passes again", 2*time.Minute, "r5 a true")
		emit(t, s, "x", "r6", true, "a")
		step("still", time.Hour)
		emit(t, s, "x", "r7", false, "b")
		step("reminded", 2*time.Minute, "r7 b false")
		passed, err := s.Alerts(t.Context(), alert.Filter{Run: "r6"})
		if err != nil || len(passed) != 1 || passed[0].State != alert.Skipped {
			t.Fatalf("%+v, %v", passed, err)
		}
		if err := s.ReplayAlert(t.Context(), passed[0].ID); err != nil {
			t.Fatal(err)
		}
		step("asked for", 2*time.Minute, "r6 a true")
		stop()
		skipped, err := s.Alerts(t.Context(), alert.Filter{State: alert.Skipped})
		if err != nil || len(skipped) != 4 || !strings.Contains(skipped[0].LastError, "no news") {
			t.Errorf("%+v, %v", skipped, err)
		}
	})
	bubble(t, "are told later what is held back, and programs at once", func(t *testing.T) {
		s := fresh(t)
		people, program, each := &told{}, &told{}, &told{}
		until := time.Now().Add(8 * time.Hour)
		stop := start(t, alert.Config{
			Poll: time.Hour, Store: s, Sinks: map[string]alert.Sink{"people": people, "program": single{program}, "each": single{each}},
			Options: map[string]alert.Options{"people": {People: true, Coalesce: true}, "each": {People: true, Every: true}},
			Hold: func(_ context.Context, sink string, o fleet.Outcome) (time.Time, string) {
				if sink == "program" {
					t.Error("a program was held back")
				}
				return until, "it's night"
			},
		})
		for i, pass := range []bool{false, true, false} {
			for _, sink := range []string{"people", "program", "each"} {
				emit(t, s, sink, fmt.Sprint("r", i), pass, "a")
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		expect(t, "program", program.take(), []string{"r0 a false", "r1 a true", "r2 a false"})
		expect(t, "people at night", people.take(), nil)
		held, err := s.Alerts(t.Context(), alert.Filter{State: alert.Pending, Sink: "people"})
		if err != nil || !slices.ContainsFunc(held, func(a alert.Alert) bool { return a.LastError == "held back: it's night" && a.Attempts == 0 }) {
			t.Errorf("%+v, %v", held, err)
		}
		time.Sleep(10 * time.Hour)
		stop()
		expect(t, "people in the morning", people.take(), []string{"r2 a false"})
		expect(t, "who is told each", each.take(), []string{"r0 a false", "r1 a true", "r2 a false"})
	})
}

func TestWorker_held(t *testing.T) {
	hold := func(until func() time.Time, s *store.Store, sink *told) alert.Config {
		return alert.Config{
			Poll: time.Hour, Store: s, MaxAge: time.Hour, Sinks: map[string]alert.Sink{"x": sink},
			Options: map[string]alert.Options{"x": {People: true, Coalesce: true, Group: time.Minute}},
			Hold:    func(context.Context, string, fleet.Outcome) (time.Time, string) { return until(), "moving" },
		}
	}
	bubble(t, "for longer than an alert is tried, it isn't lost", func(t *testing.T) {
		s, sink := fresh(t), &told{}
		until := time.Now().Add(5 * time.Hour)
		stop := start(t, hold(func() time.Time { return until }, s, sink))
		emit(t, s, "x", "r1", false, "a")
		time.Sleep(4 * time.Hour)
		expect(t, "while held", sink.take(), nil)
		if back, err := s.AlertBacklogs(t.Context()); err != nil || back[0].Pending != 1 || time.Since(back[0].Oldest) > 15*time.Minute {
			t.Errorf("%+v, %v", back, err) // nobody is to be alarmed that it waits
		}
		sink.answer(errors.New("busy"))
		time.Sleep(time.Hour + 5*time.Minute)
		sink.answer(nil)
		time.Sleep(time.Hour)
		stop()
		expect(t, "then", sink.take(), []string{"r1 a false"})
	})
	bubble(t, "by what another hub has ended, it is told soon", func(t *testing.T) {
		s, sink := fresh(t), &told{}
		var held atomic.Int64
		held.Store(time.Now().Add(1000 * time.Hour).Unix())
		stop := start(t, hold(func() time.Time { return time.Unix(held.Load(), 0) }, s, sink))
		emit(t, s, "x", "r1", false, "a")
		time.Sleep(2 * time.Minute)
		held.Store(0)
		time.Sleep(15 * time.Minute)
		stop()
		expect(t, "told", sink.take(), []string{"r1 a false"})
	})
}

func TestWorker_groups(t *testing.T) {
	bubble(t, "many that fail at once are one message", func(t *testing.T) {
		s, sink := fresh(t), &told{}
		var repos []string
		for i := range 50 {
			repos = append(repos, fmt.Sprint("r", i))
		}
		emit(t, s, "x", "r1", false, repos...)
		stop := start(t, alert.Config{Store: s, Sinks: map[string]alert.Sink{"x": sink}, Options: map[string]alert.Options{"x": {People: true, Coalesce: true, Concurrency: 1, Group: time.Minute}}})
		time.Sleep(5 * time.Minute)
		stop()
		if got := sink.take(); len(got) != 1 || strings.Count(got[0], ",") != 49 {
			t.Errorf("%d messages: %q", len(got), got)
		}
	})
	bubble(t, "a message that fails is one failure", func(t *testing.T) {
		s, sink := fresh(t), &told{err: errors.New("busy")}
		var repos []string
		for i := range 50 {
			repos = append(repos, fmt.Sprint("r", i))
		}
		emit(t, s, "x", "r1", false, repos...)
		stop := start(t, alert.Config{Store: s, Sinks: map[string]alert.Sink{"x": sink}, Options: map[string]alert.Options{"x": {People: true, Concurrency: 1, Group: time.Minute}}})
		time.Sleep(3 * time.Minute)
		stop()
		if sinks, err := s.AlertSinks(t.Context()); err != nil || !sinks[0].PausedUntil.IsZero() || len(sink.times) == 0 {
			t.Errorf("%+v, %v, %d messages", sinks, err, len(sink.times))
		}
	})
}

func TestWorker_families(t *testing.T) {
	bubble(t, "have a lane for each sink while there is something for it", func(t *testing.T) {
		s := fresh(t)
		var mu sync.Mutex
		made := map[string]int{}
		sinks := map[string]*told{}
		stop := start(t, alert.Config{Store: s, Families: map[string]alert.Family{"endpoint:": func(name string) (alert.Sink, alert.Options, error) {
			mu.Lock()
			defer mu.Unlock()
			made[name]++
			if name == "endpoint:evil:1" {
				return nil, alert.Options{}, errors.New("the operator doesn't allow it")
			}
			if sinks[name] == nil {
				sinks[name] = &told{}
			}
			return single{sinks[name]}, alert.Options{}, nil
		}}})
		emit(t, s, "endpoint:a:1", "r1", false, "x", "y")
		emit(t, s, "endpoint:b:1", "r1", false, "x")
		emit(t, s, "endpoint:evil:1", "r1", false, "x")
		time.Sleep(10 * time.Minute)
		emit(t, s, "endpoint:a:1", "r2", false, "x")
		time.Sleep(time.Minute)
		stop()
		if d := cmp.Diff(map[string]int{"endpoint:a:1": 2, "endpoint:b:1": 1, "endpoint:evil:1": 1}, made); d != "" {
			t.Errorf("lanes (-want +got):\n%s", d)
		}
		if n := len(sinks["endpoint:a:1"].take()); n != 3 {
			t.Errorf("a was told %d of 3", n)
		}
		dead, err := s.Alerts(t.Context(), alert.Filter{State: alert.Dead})
		if err != nil || len(dead) != 1 || dead[0].LastError != "the operator doesn't allow it" {
			t.Errorf("%+v, %v", dead, err)
		}
	})
	bubble(t, "that are many don't starve", func(t *testing.T) {
		s := fresh(t)
		sink := &told{}
		stop := start(t, alert.Config{Store: s, Families: map[string]alert.Family{"endpoint:": func(string) (alert.Sink, alert.Options, error) {
			return single{sink}, alert.Options{Concurrency: 1}, nil
		}}})
		e := alert.Emit{Run: "r1", Source: "test"}
		for i := range 100 {
			e.Emissions = append(e.Emissions, alert.Emission{Outcome: outcome("r1", "x"), Sinks: []string{fmt.Sprint("endpoint:h:", i)}})
		}
		if err := s.Emit(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		stop()
		if n := len(sink.take()); n != 100 {
			t.Errorf("%d of 100 were told", n)
		}
	})
	bubble(t, "are one in metrics, whatever others call them", func(t *testing.T) {
		s := fresh(t)
		reg := prometheus.NewRegistry()
		stop := start(t, alert.Config{Store: s, Registerer: reg, Families: map[string]alert.Family{"endpoint:": func(string) (alert.Sink, alert.Options, error) {
			return nil, alert.Options{}, errors.New("the operator doesn't allow it")
		}}})
		for i := range 3 {
			emit(t, s, fmt.Sprint("endpoint:h:", i), "r1", false, "a")
		}
		time.Sleep(time.Minute)
		stop()
		all, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			for _, m := range f.GetMetric() {
				if name := m.GetLabel()[len(m.GetLabel())-1].GetValue(); name != "endpoint" {
					t.Errorf("%s of %s", f.GetName(), name)
				}
			}
		}
		if m := gauges(t, reg); m["reeve_alert_dead_alerts"] != 3 {
			t.Errorf("%v", m)
		}
	})
}

func TestOptions_Validate(t *testing.T) {
	for want, o := range map[string]alert.Options{
		"":            {People: true, Remind: time.Hour, Group: time.Minute, Rate: 0.1, Concurrency: 4},
		"concurrency": {Concurrency: 1000},
		"rate":        {Rate: -1},
		"remind":      {People: true, Remind: time.Second},
		"group":       {People: true, Group: 2 * time.Hour},
		"remind, group and every are for channels": {Group: time.Minute},
	} {
		if err := o.Validate(); (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestSilence_Covers(t *testing.T) {
	now := time.Now()
	o := outcome("r1", "web/app")
	for name, tc := range map[string]struct {
		s    alert.Silence
		want bool
	}{
		"of the owner":    {alert.Silence{Owner: "ac*"}, true},
		"of all":          {alert.Silence{Owner: "acme", Repo: "web/*", Policy: "base", Sink: "team"}, true},
		"another repo":    {alert.Silence{Owner: "acme", Repo: "web"}, false},
		"another sink":    {alert.Silence{Owner: "acme", Sink: "ops"}, false},
		"another policy":  {alert.Silence{Policy: "b"}, false},
		"that has passed": {alert.Silence{Owner: "acme", Until: now}, false},
	} {
		if tc.s.Until.IsZero() {
			tc.s.Until = now.Add(time.Hour)
		}
		if got := tc.s.Covers("team", o, now); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
