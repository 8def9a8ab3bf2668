package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
)

// Outcomes ends a scan with outcomes for sinks, and with a callback if cb
// isn't nil: as in a hub, that is how alerts come into the outbox.
func Outcomes(t testing.TB, s *store.Store, outcomes []fleet.Outcome, sinks []string, cb *scan.Callback) scan.ID {
	t.Helper()
	id := scan.NewID()
	now := time.Now()
	err := s.CreateScan(t.Context(), scan.Scan{
		ID: id, Status: scan.Queued, Created: now, Expires: now.Add(time.Hour),
		Request: scan.Request{Target: scan.Target{Agent: "edge", URI: "dir:/"}, Profile: "base", Callback: cb},
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.FinishScan(t.Context(), scan.Finish{
		ID: id, Status: scan.Completed, Verdict: scan.Verdict{Outcome: scan.Failed, Counts: hdf.Counts{Failed: 1}},
		Outcomes: outcomes, Sinks: sinks,
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// outcome is one of run's on the subject acme/repo.
func outcome(run, repo string) fleet.Outcome {
	return fleet.Outcome{
		Subject: fleet.Subject{Owner: "acme", Repo: repo}, Policy: "base", Run: run, Details: "what failed in " + run,
		At: time.UnixMicro(1_700_000_000_000_000).UTC(),
	}
}

func lease(t testing.TB, s *store.Store, sink, token string, limit int, now time.Time) alert.Leased {
	t.Helper()
	got, err := s.LeaseAlerts(t.Context(), alert.LeaseRequest{
		Sink: sink, Holder: "hub", Token: token, Limit: limit, Now: now, Until: now.Add(time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// runs names the leased alerts: run of the outcome, place in the order.
func runs(l alert.Leased) []string {
	var out []string
	for _, a := range l.Alerts {
		out = append(out, fmt.Sprintf("%s %s#%d", a.Outcome.Run, a.Outcome.Subject.Repo, a.Seq))
	}
	return out
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.SortSlices(func(a, b string) bool { return a < b })); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func settle(t testing.TB, s *store.Store, now time.Time, done ...alert.Settlement) {
	t.Helper()
	if err := s.SettleAlerts(t.Context(), now, done); err != nil {
		t.Fatal(err)
	}
}

func alertOf(t testing.TB, s *store.Store, id alert.ID) alert.Alert {
	t.Helper()
	a, err := s.Alert(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func testAlerts(t *testing.T, open func(*testing.T) *store.Store) {
	t.Run("keys go in order and don't wait for each other", func(t *testing.T) {
		s := open(t)
		Outcomes(t, s, []fleet.Outcome{outcome("r1", "a"), outcome("r2", "a"), outcome("r1", "b")}, []string{"x"}, nil)
		now := time.Now().Add(time.Second)

		l := lease(t, s, "x", "t1", 10, now)
		equal(t, "first", runs(l), []string{"r1 a#1", "r1 b#1"})
		equal(t, "while those are out", runs(lease(t, s, "x", "t2", 10, now)), []string{})
		for _, a := range l.Alerts {
			st := alert.Settlement{ID: a.ID, Sink: "x", Token: "t1", State: alert.Delivered}
			if a.Outcome.Subject.Repo == "b" {
				st.State, st.Error, st.RetryAt = alert.Pending, "busy", now.Add(10*time.Second)
			}
			settle(t, s, now, st)
		}
		l = lease(t, s, "x", "t3", 10, now)
		equal(t, "next", runs(l), []string{"r2 a#2"})
		if got, want := l.NextAt, now.Add(10*time.Second).Truncate(time.Microsecond); !got.Equal(want) {
			t.Errorf("next due at %v, want %v", got, want)
		}
		equal(t, "after the wait", runs(lease(t, s, "x", "t4", 10, now.Add(10*time.Second))), []string{"r1 b#1"})
	})

	t.Run("an outcome is enqueued once for each sink", func(t *testing.T) {
		s := open(t)
		Outcomes(t, s, []fleet.Outcome{outcome("r1", "a"), outcome("r1", "a")}, []string{"x", "y"}, nil)
		Outcomes(t, s, []fleet.Outcome{outcome("r1", "a")}, []string{"x"}, nil)
		all, err := s.Alerts(t.Context(), alert.Filter{Run: "r1"})
		if err != nil {
			t.Fatal(err)
		}
		var sinks []string
		for _, a := range all {
			sinks = append(sinks, fmt.Sprint(a.Sink, a.Seq))
		}
		equal(t, "sinks", sinks, []string{"x1", "y1"})
	})

	t.Run("what the outcome says comes out whole", func(t *testing.T) {
		s := open(t)
		o := outcome("r1", "a")
		o.Details = "\x00broken \xff and long " + strings.Repeat("é", alert.MaxDetails)
		Outcomes(t, s, []fleet.Outcome{o}, []string{"x"}, nil)
		got := lease(t, s, "x", "t1", 1, time.Now().Add(time.Second)).Alerts[0]
		if !strings.HasPrefix(got.Outcome.Details, "broken \uFFFD and long éé") || !strings.HasSuffix(got.Outcome.Details, "bytes in all]") ||
			len(got.Outcome.Details) > alert.MaxDetails {
			t.Errorf("details of %d bytes: %q … %q", len(got.Outcome.Details), got.Outcome.Details[:40], got.Outcome.Details[len(got.Outcome.Details)-40:])
		}
		got.Outcome.Details = o.Details
		equal(t, "outcome", got.Outcome, o)
	})

	t.Run("a lease that ran out passes on, and its holder's report is ignored", func(t *testing.T) {
		s := open(t)
		Outcomes(t, s, []fleet.Outcome{outcome("r1", "a")}, []string{"x"}, nil)
		now := time.Now().Add(time.Second)
		id := lease(t, s, "x", "t1", 1, now).Alerts[0].ID
		now = now.Add(2 * time.Minute)
		equal(t, "to another", runs(lease(t, s, "x", "t2", 1, now)), []string{"r1 a#1"})
		settle(t, s, now, alert.Settlement{ID: id, Sink: "x", Token: "t1", State: alert.Dead, Error: "late"})
		if a := alertOf(t, s, id); a.State != alert.Pending || a.Attempts != 0 {
			t.Errorf("after the late report: %s, %d attempts", a.State, a.Attempts)
		}
		settle(t, s, now, alert.Settlement{ID: id, Sink: "x", Token: "t2", State: alert.Delivered})
		if a := alertOf(t, s, id); a.State != alert.Delivered || a.Attempts != 1 {
			t.Errorf("at the end: %s, %d attempts", a.State, a.Attempts)
		}
	})

	t.Run("a restarted holder gets its own back at once", func(t *testing.T) {
		s := open(t)
		Outcomes(t, s, []fleet.Outcome{outcome("r1", "a")}, []string{"x"}, nil)
		now := time.Now().Add(time.Second)
		lease(t, s, "x", "t1", 1, now)
		if err := s.ReleaseAlerts(t.Context(), "another"); err != nil {
			t.Fatal(err)
		}
		equal(t, "another's restart", runs(lease(t, s, "x", "t2", 1, now)), []string{})
		if err := s.ReleaseAlerts(t.Context(), "hub"); err != nil {
			t.Fatal(err)
		}
		equal(t, "its own", runs(lease(t, s, "x", "t3", 1, now)), []string{"r1 a#1"})
	})

	t.Run("a paused sink rests, is tried with one, and goes on", func(t *testing.T) {
		s := open(t)
		Outcomes(t, s, []fleet.Outcome{outcome("r1", "a"), outcome("r1", "b"), outcome("r1", "c")}, []string{"x", "y"}, nil)
		now := time.Now().Add(time.Second)
		a := lease(t, s, "x", "t1", 1, now).Alerts[0]
		until := now.Add(time.Minute).Truncate(time.Microsecond)
		settle(t, s, now, alert.Settlement{
			ID: a.ID, Sink: "x", Token: "t1", State: alert.Pending, Uncounted: true, RetryAt: now, PauseUntil: until, Reason: "who are you?",
		})
		l := lease(t, s, "x", "t2", 10, now.Add(30*time.Second))
		if len(l.Alerts) != 0 || !l.NextAt.Equal(until) {
			t.Errorf("while it rests: %v, next at %v, want none until %v", runs(l), l.NextAt, until)
		}
		if n := len(lease(t, s, "y", "t3", 10, now).Alerts); n != 3 {
			t.Errorf("another sink got %d, want 3", n)
		}
		sinks, err := s.AlertSinks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range sinks {
			if sinks[i].OldestPending.IsZero() {
				t.Errorf("sink %s: no oldest", sinks[i].Sink)
			}
			sinks[i].OldestPending = time.Time{}
		}
		equal(t, "sinks", sinks, []alert.SinkStatus{
			{Sink: "x", Pending: 3, PausedUntil: until, Reason: "who are you?"},
			{Sink: "y", Pending: 3},
		})

		l = lease(t, s, "x", "t4", 10, until)
		if len(l.Alerts) != 1 || l.Alerts[0].Attempts != 0 {
			t.Fatalf("the first after the rest: %v", runs(l))
		}
		equal(t, "while one is tried", runs(lease(t, s, "x", "t5", 10, until)), []string{})
		settle(t, s, until, alert.Settlement{ID: l.Alerts[0].ID, Sink: "x", Token: "t4", State: alert.Delivered})
		if n := len(lease(t, s, "x", "t6", 10, until).Alerts); n != 2 {
			t.Errorf("afterwards %d, want 2", n)
		}
	})

	t.Run("a person replays and skips", func(t *testing.T) {
		s := open(t)
		Outcomes(t, s, []fleet.Outcome{outcome("r1", "a"), outcome("r2", "a")}, []string{"x"}, nil)
		now := time.Now().Add(time.Second)
		first := lease(t, s, "x", "t1", 1, now).Alerts[0].ID
		settle(t, s, now, alert.Settlement{ID: first, Sink: "x", Token: "t1", State: alert.Dead, Error: "never"})
		if a := alertOf(t, s, first); a.State != alert.Dead || a.LastError != "never" || a.Done.IsZero() {
			t.Errorf("dead letter: %+v", a)
		}
		second := lease(t, s, "x", "t2", 1, now).Alerts[0].ID
		settle(t, s, now, alert.Settlement{ID: second, Sink: "x", Token: "t2", State: alert.Delivered})

		due := s.AlertsDue()
		if err := s.ReplayAlert(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		select {
		case <-due:
		default:
			t.Error("a replay wakes nobody")
		}
		now = time.Now().Add(time.Second)
		equal(t, "replayed", runs(lease(t, s, "x", "t3", 1, now)), []string{"r1 a#1"})

		if err := s.SkipAlert(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		settle(t, s, now, alert.Settlement{ID: first, Sink: "x", Token: "t3", State: alert.Pending, RetryAt: now, Error: "no"})
		if a := alertOf(t, s, first); a.State != alert.Skipped {
			t.Errorf("skipped while it was out: %s", a.State)
		}
		equal(t, "nothing is left", runs(lease(t, s, "x", "t4", 1, now)), []string{})
		if err := s.SkipAlert(t.Context(), second); !errors.Is(err, alert.ErrDelivered) {
			t.Errorf("skip a delivered one: %v", err)
		}
		for _, f := range []func(context.Context, alert.ID) error{s.SkipAlert, s.ReplayAlert} {
			if err := f(t.Context(), "nonesuch"); !errors.Is(err, alert.ErrNotFound) {
				t.Errorf("unknown alert: %v", err)
			}
		}
	})

	t.Run("lists by page", func(t *testing.T) {
		s := open(t)
		var want []string
		for i := range 7 {
			run := fmt.Sprintf("r%d", i)
			Outcomes(t, s, []fleet.Outcome{outcome(run, "a")}, []string{"x", "y"}, nil)
			want = append(want, run)
		}
		var got []string
		f := alert.Filter{Sink: "x", State: alert.Pending, Limit: 3}
		for {
			page, err := s.Alerts(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range page {
				got = append(got, a.Outcome.Run)
			}
			if len(page) < f.Limit {
				break
			}
			f.Before = page[len(page)-1].ID
		}
		equal(t, "listed", got, want)
	})

	t.Run("a callback's credential is erased when it's done", func(t *testing.T) {
		for _, end := range []alert.State{alert.Delivered, alert.Dead, alert.Skipped} {
			s := open(t)
			id := Outcomes(t, s, nil, []string{"x"}, &scan.Callback{URL: "https://ci.test/done", Type: "bearer", Token: "hush", Secret: "whsec_1"})
			now := time.Now().Add(time.Second)
			a := lease(t, s, alert.CallbackSink, "t1", 1, now).Alerts[0]
			want := &alert.Callback{
				URL: "https://ci.test/done", Auth: alert.Auth{Type: alert.Bearer, Token: "hush", Secret: "whsec_1"},
				Scan: string(id), Status: "completed", Outcome: "failed", Counts: hdf.Counts{Failed: 1}, Finished: a.Callback.Finished,
			}
			equal(t, "callback", a.Callback, want)
			if got := alertOf(t, s, a.ID).Callback.Auth; got.Token+got.Secret != "" {
				t.Error("a person sees the credential")
			}
			if end == alert.Skipped {
				if err := s.SkipAlert(t.Context(), a.ID); err != nil {
					t.Fatal(err)
				}
			} else {
				settle(t, s, now, alert.Settlement{ID: a.ID, Sink: alert.CallbackSink, Token: "t1", State: end})
			}
			if err := s.ReplayAlert(t.Context(), a.ID); !errors.Is(err, alert.ErrSecretErased) {
				t.Errorf("replay of a %s callback: %v", end, err)
			}
		}
	})
}
