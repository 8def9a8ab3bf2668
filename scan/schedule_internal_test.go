package scan

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return v.UTC()
}

// Times are those of the zone's clocks, also where these are changed.
func TestSchedule_times(t *testing.T) {
	for name, tc := range map[string]struct {
		cron, zone, from string
		want             []string
	}{
		"UTC":                         {"30 3 * * *", "", "2026-01-01T04:00:00Z", []string{"2026-01-02T03:30:00Z", "2026-01-03T03:30:00Z"}},
		"workdays":                    {"0 12 * * 1-5", "", "2026-01-02T12:00:00Z", []string{"2026-01-05T12:00:00Z", "2026-01-06T12:00:00Z"}},
		"a zone in winter":            {"0 3 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", []string{"2026-01-01T02:00:00Z"}},
		"a zone in summer":            {"0 3 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z", []string{"2026-07-01T01:00:00Z"}},
		"clocks are set forward":      {"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", []string{"2026-03-30T00:30:00Z", "2026-03-31T00:30:00Z"}},
		"clocks are set back":         {"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		"twice an hour, set back":     {"*/30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", []string{"2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:00:00Z"}},
		"each hour, when set back":    {"0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", []string{"2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"}},
		"each hour, when set ahead":   {"0 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"}},
		"a quarter of an hour's zone": {"0 0 * * *", "Asia/Kathmandu", "2026-01-01T00:00:00Z", []string{"2026-01-01T18:15:00Z"}},
		"a leap day":                  {"0 0 29 2 *", "", "2026-01-01T00:00:00Z", []string{"2028-02-29T00:00:00Z"}},
	} {
		times, err := Schedule{Cron: tc.cron, TimeZone: tc.zone}.times()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for next := at(t, tc.from); len(got) < len(tc.want); {
			next = times.after(next)
			got = append(got, next.Format(time.RFC3339))
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	for name, s := range map[string]Schedule{
		"no member":       {Cron: ""},
		"six members":     {Cron: "0 0 3 * * *"},
		"out of range":    {Cron: "60 * * * *"},
		"no such day":     {Cron: "0 0 30 2 *"},
		"every":           {Cron: "@every 1s"},
		"a zone in it":    {Cron: "TZ=Europe/Berlin"},
		"an unknown zone": {Cron: "@daily", TimeZone: "Europe/Atlantis"},
		"this host's":     {Cron: "@daily", TimeZone: "Local"},
		"a path":          {Cron: "@daily", TimeZone: "../../etc/passwd"},
	} {
		if _, err := s.times(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Of the times that passed while no hub was up the last is made up for, unless
// they are to be skipped.
func TestSchedule_fire(t *testing.T) {
	s := Schedule{Name: "s", Cron: "0 * * * *", Missed: RunOnce, Next: at(t, "2026-01-01T01:00:00Z")}
	skip := s
	skip.Missed = Skip
	minutely := s
	minutely.Cron = "* * * * *"
	broken := s
	broken.Cron = "?"
	for name, tc := range map[string]struct {
		s      Schedule
		now    string
		at     string
		missed int
		state  RunState
		next   string
	}{
		"in time":              {s, "2026-01-01T01:00:00Z", "2026-01-01T01:00:00Z", 0, RunDue, "2026-01-01T02:00:00Z"},
		"a little late":        {skip, "2026-01-01T01:00:59Z", "2026-01-01T01:00:00Z", 0, RunDue, "2026-01-01T02:00:00Z"},
		"late":                 {s, "2026-01-01T01:30:00Z", "2026-01-01T01:00:00Z", 0, RunDue, "2026-01-01T02:00:00Z"},
		"late, skipped":        {skip, "2026-01-01T01:30:00Z", "2026-01-01T01:00:00Z", 0, RunSkipped, "2026-01-01T02:00:00Z"},
		"several":              {s, "2026-01-01T04:30:00Z", "2026-01-01T04:00:00Z", 3, RunDue, "2026-01-01T05:00:00Z"},
		"several, and in time": {skip, "2026-01-01T04:00:30Z", "2026-01-01T04:00:00Z", 3, RunDue, "2026-01-01T05:00:00Z"},
		"a year":               {minutely, "2027-01-01T00:00:30Z", "2027-01-01T00:00:00Z", manyMissed, RunDue, "2027-01-01T00:01:00Z"},
		"not understood":       {broken, "2026-01-01T01:00:00Z", "2026-01-01T01:00:00Z", 0, RunError, "0001-01-01T00:00:00Z"},
	} {
		next, r := tc.s.fire(at(t, tc.now))
		if !r.At.Equal(at(t, tc.at)) || r.Missed != tc.missed || r.State != tc.state || !next.Equal(at(t, tc.next)) {
			t.Errorf("%s: next %v, run %+v", name, next, r)
		}
	}
}

// Agents begin at moments of their own, which stay the same.
func TestSpread(t *testing.T) {
	s := Spread{Over: time.Hour, Seed: "nightly"}
	seen := map[time.Duration]bool{}
	for _, agent := range []fleet.AgentName{"a", "b", "c", "prod-1", "prod-2", "prod-3"} {
		wait := s.of(agent)
		if wait < 0 || wait >= s.Over || wait != s.of(agent) {
			t.Errorf("agent %s: %v", agent, wait)
		}
		seen[wait/time.Minute] = true
	}
	if len(seen) < 4 {
		t.Errorf("agents begin together: %v", seen)
	}
	if wait := (Spread{Seed: "x"}).of("a"); wait != 0 {
		t.Errorf("no spread: %v", wait)
	}
}
