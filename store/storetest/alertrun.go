package storetest

import (
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/store"
)

func emit(t testing.TB, s *store.Store, e alert.Emit) {
	t.Helper()
	if err := s.Emit(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

func emissions(sinks []string, outcomes ...fleet.Outcome) (out []alert.Emission) {
	for _, o := range outcomes {
		out = append(out, alert.Emission{Outcome: o, Sinks: sinks})
	}
	return out
}

func testAlertRuns(t *testing.T, open func(*testing.T) *store.Store) {
	x := []string{"x"}
	t.Run("a run counts what came of it", func(t *testing.T) {
		s := open(t)
		emit(t, s, alert.Emit{Run: "r1", Source: "policy:p", Expected: 3, Emissions: emissions(x, outcome("r1", "a"), outcome("r1", "b"))})
		emit(t, s, alert.Emit{Run: "r1", Emissions: emissions(x, outcome("r1", "b"))}) // again
		emit(t, s, alert.Emit{Run: "r2", Source: "github:acme", Expected: 1, Emissions: emissions(nil, outcome("r2", "a")), Done: true})
		incomplete := func() (ids []string) {
			t.Helper()
			all, err := s.OutcomeRuns(t.Context(), alert.RunFilter{Incomplete: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range all {
				ids = append(ids, r.ID)
			}
			return ids
		}
		equal(t, "while one goes on", incomplete(), []string{"r1"})
		emit(t, s, alert.Emit{Run: "r1", Done: true, Note: "one repository couldn't be read"})
		equal(t, "cut short", incomplete(), []string{"r1"})
		r, err := s.OutcomeRun(t.Context(), "r1")
		if err != nil || r.Began.IsZero() || r.Ended.IsZero() || r.Complete() {
			t.Errorf("%+v, %v", r, err)
		}
		r.Began, r.Ended = time.Time{}, time.Time{}
		equal(t, "run", r, alert.Run{
			ID: "r1", Source: "policy:p", Expected: 3, Emitted: 2, Note: "one repository couldn't be read", Alerts: map[alert.State]int{alert.Pending: 2},
		})
		emit(t, s, alert.Emit{Run: "r1", Emissions: emissions(x, outcome("r1", "c"))})
		equal(t, "whole", incomplete(), []string{})
		if _, err := s.OutcomeRun(t.Context(), "none"); !errors.Is(err, alert.ErrNoRun) {
			t.Errorf("unknown: %v", err)
		}
		page, err := s.OutcomeRuns(t.Context(), alert.RunFilter{Before: "r2"})
		if err != nil || len(page) != 1 || page[0].ID != "r1" {
			t.Errorf("page behind r2: %+v, %v", page, err)
		}
		if err := s.RemoveOutcomeRuns(t.Context(), time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		equal(t, "forgotten", incomplete(), []string{})
	})
	t.Run("outcomes of another run are refused whole", func(t *testing.T) {
		s := open(t)
		if err := s.Emit(t.Context(), alert.Emit{Run: "r1", Source: "p", Emissions: emissions(x, outcome("r1", "a"), outcome("r2", "a"))}); err == nil {
			t.Error("taken")
		}
		if all, err := s.Alerts(t.Context(), alert.Filter{}); err != nil || len(all) != 0 {
			t.Errorf("left %+v, %v", all, err)
		}
	})
	t.Run("a full outbox takes nothing, and all that it took", func(t *testing.T) {
		s := open(t)
		s.LimitAlerts(3, 0)
		two := func(run string) error {
			return s.Emit(t.Context(), alert.Emit{Run: run, Source: "p", Expected: 2, Done: true, Emissions: emissions(x, outcome(run, "a"), outcome(run, "b"))})
		}
		if err := two("r1"); err != nil {
			t.Fatal(err)
		}
		if err := two("r2"); !errors.Is(err, alert.ErrFull) {
			t.Fatalf("two more than there is room for: %v", err)
		}
		if n := s.AlertRefusals(); n != 1 {
			t.Errorf("%d refusals", n)
		}
		all, err := s.Alerts(t.Context(), alert.Filter{})
		if err != nil || len(all) != 2 {
			t.Errorf("%d alerts, %v", len(all), err)
		}
		if _, err := s.OutcomeRun(t.Context(), "r2"); !errors.Is(err, alert.ErrNoRun) {
			t.Errorf("the refused run: %v", err)
		}
		if err := s.SkipAlert(t.Context(), all[0].ID); err != nil {
			t.Fatal(err)
		}
		if err := two("r2"); err != nil {
			t.Errorf("once there is room: %v", err)
		}
		s = open(t)
		s.LimitAlerts(0, 100)
		big := outcome("r1", "a")
		big.Details = strings.Repeat("x", 101)
		if err := s.Emit(t.Context(), alert.Emit{Run: "r1", Source: "p", Emissions: emissions(x, big)}); !errors.Is(err, alert.ErrFull) {
			t.Errorf("more bytes than may wait: %v", err)
		}
	})
	t.Run("the newest takes the place of what is older", func(t *testing.T) {
		s := open(t)
		Outcomes(t, s, []fleet.Outcome{outcome("r1", "a"), outcome("r2", "a"), outcome("r3", "a"), outcome("r1", "b")}, x, nil)
		now := time.Now().Add(time.Second)
		l, err := s.LeaseAlerts(t.Context(), alert.LeaseRequest{Sink: "x", Holder: "hub", Token: "t1", Limit: 10, Now: now, Until: now.Add(time.Minute), Latest: true})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "leased", runs(l), []string{"r3 a#3", "r1 b#1"})
		if a := alertOf(t, s, alert.NewID(outcome("r1", "a"), "x")); a.State != alert.Skipped || !strings.Contains(a.LastError, "newer") {
			t.Errorf("the oldest: %s, %q", a.State, a.LastError)
		}
	})
	t.Run("what is gathered waits for the first of it, and knows what was told", func(t *testing.T) {
		s := open(t)
		Outcomes(t, s, []fleet.Outcome{outcome("r1", "a"), outcome("r1", "b"), outcome("r2", "a")}, x, nil)
		now := time.Now().Add(time.Second)
		ask := func(token string, now time.Time) alert.Leased {
			t.Helper()
			l, err := s.LeaseAlerts(t.Context(), alert.LeaseRequest{Sink: "x", Holder: "hub", Token: token, Limit: 10, Now: now, Until: now.Add(time.Minute), Wait: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		early := ask("t1", now)
		if len(early.Alerts) > 0 || early.NextAt.Sub(now) <= 0 || early.NextAt.Sub(now) > time.Minute {
			t.Errorf("early: %v, next at %v", runs(early), early.NextAt)
		}
		now = now.Add(time.Minute)
		l := ask("t2", now)
		equal(t, "gathered", runs(l), []string{"r1 a#1", "r1 b#1"})
		if !l.Alerts[0].Told.At.IsZero() {
			t.Errorf("told before: %+v", l.Alerts[0].Told)
		}
		for _, a := range l.Alerts {
			settle(t, s, now, alert.Settlement{ID: a.ID, Sink: "x", Token: "t2", State: alert.Delivered})
		}
		l = ask("t3", now.Add(time.Minute))
		if len(l.Alerts) != 1 || l.Alerts[0].Told.Pass || !l.Alerts[0].Told.At.Equal(now.Truncate(time.Microsecond)) {
			t.Errorf("told: %+v", l.Alerts)
		}
	})
	t.Run("a person holds a sink", func(t *testing.T) {
		s := open(t)
		Outcomes(t, s, []fleet.Outcome{outcome("r1", "a"), outcome("r1", "b")}, []string{"x", "endpoint:h:1"}, nil)
		now := time.Now().Add(time.Second)
		pending := func() []string {
			t.Helper()
			names, err := s.PendingSinks(t.Context(), "endpoint:", now, 10)
			if err != nil {
				t.Fatal(err)
			}
			return names
		}
		equal(t, "of the prefix", pending(), []string{"endpoint:h:1"})
		for _, sink := range []string{"x", "endpoint:h:1"} {
			if err := s.HoldSink(t.Context(), sink, "token:ann"); err != nil {
				t.Fatal(err)
			}
		}
		equal(t, "held", runs(lease(t, s, "x", "t1", 10, now)), []string{})
		equal(t, "of the prefix, held", pending(), []string{})
		sinks, err := s.AlertSinks(t.Context())
		if err != nil || len(sinks) != 2 || sinks[1].HeldBy != "token:ann" || sinks[1].Pending != 2 {
			t.Errorf("sinks %+v, %v", sinks, err)
		}
		due := s.AlertsDue()
		if err := s.ResumeSink(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		select {
		case <-due:
		default:
			t.Error("it wakes nobody")
		}
		equal(t, "goes on", runs(lease(t, s, "x", "t2", 10, now)), []string{"r1 a#1", "r1 b#1"})
	})
	t.Run("what is too old is given up, but not what is out or was replayed", func(t *testing.T) {
		s := open(t)
		Outcomes(t, s, []fleet.Outcome{outcome("r1", "a"), outcome("r1", "b"), outcome("r1", "c"), outcome("r2", "b")}, x, nil)
		begin := time.Now().Add(time.Second)
		bury := func() int {
			t.Helper()
			n, err := s.BuryAlerts(t.Context(), begin, begin, "given up after 7 days", 100)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		out := lease(t, s, "x", "t1", 1, begin).Alerts[0]
		want := map[string]int{"a": 3, "b": 2, "c": 3}[out.Outcome.Subject.Repo] // b's key has two
		if n := bury(); n != want {
			t.Errorf("%d given up while one of %s is out, want %d", n, out.Outcome.Subject.Repo, want)
		}
		settle(t, s, begin, alert.Settlement{ID: out.ID, Sink: "x", Token: "t1", State: alert.Pending, Error: "busy", RetryAt: begin.Add(time.Hour)})
		bury()
		if a := alertOf(t, s, out.ID); a.State != alert.Dead || a.LastError != "given up after 7 days: busy" {
			t.Errorf("%s, %q", a.State, a.LastError)
		}
		if err := s.ReplayAlert(t.Context(), out.ID); err != nil {
			t.Fatal(err)
		}
		begin = alertOf(t, s, out.ID).Since
		if n := bury(); n != 0 {
			t.Errorf("%d given up that were replayed", n)
		}
		back, err := s.AlertBacklogs(t.Context())
		if err != nil || len(back) != 1 {
			t.Fatalf("%+v, %v", back, err)
		}
		equal(t, "backlog", back[0], alert.Backlog{Sink: "x", Pending: 1, Dead: 3, Bytes: int64(len(out.Outcome.Details)), Oldest: begin})
	})
	t.Run("what is counted is what there is, whatever becomes of it", func(t *testing.T) { counted(t, open(t)) })
	t.Run("what was replayed isn't superseded", func(t *testing.T) {
		s := open(t)
		for _, run := range []string{"r1", "r2", "r3"} {
			Outcomes(t, s, []fleet.Outcome{outcome(run, "a")}, x, nil)
		}
		now := time.Now().Add(time.Second)
		latest := func(token string) alert.Leased {
			t.Helper()
			l, err := s.LeaseAlerts(t.Context(), alert.LeaseRequest{Sink: "x", Holder: "hub", Token: token, Limit: 9, Now: now, Until: now.Add(time.Minute), Latest: true})
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		l := latest("t1")
		equal(t, "the newest", runs(l), []string{"r3 a#3"})
		settle(t, s, now, alert.Settlement{ID: l.Alerts[0].ID, Sink: "x", Token: "t1", State: alert.Pending, RetryAt: now})
		if err := s.ReplayAlert(t.Context(), alert.NewID(outcome("r1", "a"), "x")); err != nil {
			t.Fatal(err)
		}
		now = time.Now().Add(time.Second)
		l = latest("t2")
		if equal(t, "replayed", runs(l), []string{"r1 a#1"}); !l.Alerts[0].Replayed {
			t.Errorf("%+v", l.Alerts[0])
		}
		settle(t, s, now, alert.Settlement{ID: l.Alerts[0].ID, Sink: "x", Token: "t2", State: alert.Delivered})
		equal(t, "and then the newest", runs(latest("t3")), []string{"r3 a#3"})
	})
	t.Run("silences", func(t *testing.T) {
		s := open(t)
		now := time.UnixMicro(1_700_000_000_000_000).UTC()
		var want []alert.Silence
		for i := range 2 {
			v := alert.Silence{
				ID: fmt.Sprint("s", i), Sink: "x", Owner: "acme", Repo: "*", Until: now.Add(time.Duration(i+1) * time.Hour),
				Comment: "moving house", CreatedBy: "token:ann", Created: now,
			}
			want = append(want, v)
			if err := s.AddSilence(t.Context(), v); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.Silences(t.Context(), now)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "all", got, want)
		got, err = s.Silences(t.Context(), now.Add(90*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "later", got, want[1:])

		Outcomes(t, s, []fleet.Outcome{outcome("r1", "a")}, x, nil)
		at := time.Now().Add(time.Second)
		a := lease(t, s, "x", "t1", 1, at).Alerts[0]
		settle(t, s, at, alert.Settlement{ID: a.ID, Sink: "x", Token: "t1", State: alert.Pending, Uncounted: true, Error: "held back: moving house", RetryAt: at.Add(time.Hour)})
		if err := s.RemoveSilence(t.Context(), "s1"); err != nil {
			t.Fatal(err)
		}
		equal(t, "due once the silence is over", runs(lease(t, s, "x", "t2", 1, at.Add(time.Second))), []string{"r1 a#1"})
		if err := s.RemoveSilence(t.Context(), "s1"); !errors.Is(err, alert.ErrNoSilence) {
			t.Errorf("again: %v", err)
		}
	})
}

// counted does to alerts of two sinks whatever can be done to them, again and
// again, and compares what the sinks are said to have with what they have.
func counted(t *testing.T, s *store.Store) {
	ctx := t.Context()
	rng := rand.New(rand.NewPCG(7, 7))
	for round := range 60 {
		run := fmt.Sprintf("r%d", round)
		Outcomes(t, s, []fleet.Outcome{outcome(run, "a"), outcome(run, "b"), outcome(run, "c")}, []string{"x", "y"}, nil)
		now := time.Now().Add(time.Second)
		for _, sink := range []string{"x", "y"} {
			token := run + sink
			l, err := s.LeaseAlerts(ctx, alert.LeaseRequest{Sink: sink, Holder: "hub", Token: token, Limit: 2, Now: now, Until: now.Add(time.Minute), Latest: round%7 == 0})
			if err != nil {
				t.Fatal(err)
			}
			for i, a := range l.Alerts {
				done := alert.Settlement{ID: a.ID, Sink: sink, Token: token, State: []alert.State{alert.Pending, alert.Delivered, alert.Dead, alert.Skipped}[rng.IntN(4)], RetryAt: now}
				settle(t, s, now, done)
				if i == 0 {
					settle(t, s, now, done) // its lease is over
				}
			}
		}
		all, err := s.Alerts(ctx, alert.Filter{Limit: 1000})
		if err != nil || len(all) == 0 {
			t.Fatal(len(all), err)
		}
		some := func() alert.ID { return all[rng.IntN(len(all))].ID }
		if err := s.SkipAlert(ctx, some()); err != nil && !errors.Is(err, alert.ErrDelivered) {
			t.Fatal(err)
		}
		if err := s.ReplayAlert(ctx, some()); err != nil {
			t.Fatal(err)
		}
		if round%10 == 9 {
			if _, err := s.BuryAlerts(ctx, now, now, "old", 5); err != nil {
				t.Fatal(err)
			}
			if _, err := s.RemoveAlerts(ctx, now.Add(time.Minute), now.Add(time.Minute), 7); err != nil {
				t.Fatal(err)
			}
		}
		compareCounts(t, s)
	}
	if n, err := s.RecountAlerts(ctx, time.Now()); err != nil || n > 0 {
		t.Errorf("%d keys were counted wrong, %v", n, err)
	}
	later := time.Now().Add(time.Hour)
	for {
		if n, err := s.BuryAlerts(ctx, later, later, "old", 100); err != nil || n == 0 {
			break
		}
	}
	if _, err := s.RemoveAlerts(ctx, later.Add(time.Hour), later.Add(time.Hour), 1000); err != nil {
		t.Fatal(err)
	}
	if sinks, err := s.AlertSinks(ctx); err != nil || len(sinks) > 0 {
		t.Errorf("nothing is left: %+v, %v", sinks, err)
	}
}

// Miscount spoils by db what the store has counted of alerts, as a hub does that
// doesn't count, and has it counted anew.
func Miscount(t *testing.T, s *store.Store, db *sql.DB) {
	o, p := outcome("r1", "waits"), outcome("r1", "skipped")
	Outcomes(t, s, []fleet.Outcome{o, p}, []string{"miscounted"}, nil)
	if err := s.SkipAlert(t.Context(), alert.NewID(p, "miscounted")); err != nil {
		t.Fatal(err)
	}
	const spoil = `UPDATE alert_key SET pending = 7, pending_bytes = -1, oldest = 0, skipped = 0, dead = 1, next_at = CASE WHEN next_at > 0 THEN 0 ELSE 1 END`
	done, err := db.ExecContext(t.Context(), spoil)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := done.RowsAffected()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, want := range []int{int(keys), 0} {
		if n, err := s.RecountAlerts(t.Context(), now); err != nil || n != want {
			t.Errorf("%d keys mended, %v; want %d", n, err, want)
		}
	}
	compareCounts(t, s)
	equal(t, "what waits is due", runs(lease(t, s, "miscounted", "t", 10, now.Add(time.Second))), []string{"r1 waits#1"})
	var leased int
	if err := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM alert_key WHERE sink = 'miscounted' AND lease <> ''`).Scan(&leased); err != nil || leased != 1 {
		t.Errorf("%d keys are leased, %v; one has something to deliver", leased, err)
	}
}

func compareCounts(t *testing.T, s *store.Store) {
	t.Helper()
	all, err := s.Alerts(t.Context(), alert.Filter{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	want, waits := map[string]alert.SinkStatus{}, map[string]alert.Backlog{}
	for _, a := range all {
		st, b := want[a.Sink], waits[a.Sink]
		st.Sink, b.Sink = a.Sink, a.Sink
		switch a.State {
		case alert.Pending:
			st.Pending, b.Pending, b.Bytes = st.Pending+1, b.Pending+1, b.Bytes+int64(len(a.Outcome.Details))
		case alert.Delivered:
			st.Delivered++
		case alert.Skipped:
			st.Skipped++
		case alert.Dead:
			st.Dead, b.Dead = st.Dead+1, b.Dead+1
		}
		want[a.Sink], waits[a.Sink] = st, b
	}
	sinks, err := s.AlertSinks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	backlogs, err := s.AlertBacklogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, gotWaits := map[string]alert.SinkStatus{}, map[string]alert.Backlog{}
	for _, st := range sinks {
		if st.OldestPending.IsZero() != (st.Pending == 0) {
			t.Errorf("%s: %d wait since %v", st.Sink, st.Pending, st.OldestPending)
		}
		st.OldestPending = time.Time{}
		got[st.Sink] = st
	}
	for _, b := range backlogs {
		b.Oldest = time.Time{}
		gotWaits[b.Sink] = b
	}
	maps.DeleteFunc(waits, func(_ string, b alert.Backlog) bool { return b.Pending+b.Dead == 0 })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("sinks (-there +counted):\n%s", diff)
	}
	if diff := cmp.Diff(waits, gotWaits); diff != "" {
		t.Fatalf("backlogs (-there +counted):\n%s", diff)
	}
}
