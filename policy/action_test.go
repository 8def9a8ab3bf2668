package policy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSinks_Resolve(t *testing.T) {
	sinks := Sinks{"security": "rpc", "ci": "webhook", "ops": "slack", "dev": "slack"}
	for _, tc := range []struct{ action, sink, wrong string }{
		{action: "rpc/security", sink: "security"},
		{action: "rpc", sink: "security"},
		{action: "slack/dev", sink: "dev"},
		{action: "log"},
		{action: "fix/quarantine", sink: "remedy:quarantine"},
		{action: "slack", wrong: "action slack: there are several sinks of that type; write slack/dev or slack/ops"},
		{action: "rpc/ci", wrong: "action rpc/ci: the sink is of the type webhook; write webhook/ci"},
		{action: "rpc/none", wrong: `action rpc/none: there is no sink "none"; sinks has webhook/ci, slack/dev, slack/ops, rpc/security`},
		{action: "issue", wrong: "action issue: there is no sink of that type; sinks has webhook/ci, slack/dev, slack/ops, rpc/security"},
		{action: "fix", wrong: "action fix: it must name a hook of the agents' remediation.hooks: fix/HOOK"},
		{action: "Log me", wrong: `action "Log me": it must be KIND or KIND/NAME, such as log, rpc/security, fix/quarantine`},
	} {
		a, err := ParseAction(tc.action)
		var sink string
		if err == nil {
			sink, err = sinks.Resolve(a)
		}
		wrong := ""
		if err != nil {
			wrong = err.Error()
		}
		if d := cmp.Diff(tc.wrong, wrong); d != "" || sink != tc.sink {
			t.Errorf("%s: sink %q, error (-want +got):\n%s", tc.action, sink, d)
		}
	}
}

func TestSchedule_HeldUntil(t *testing.T) {
	week := Schedule{TimeZone: "Europe/Berlin", Days: []string{"Saturday", "sunday"}, Hours: "20:00-08:00"}
	lunch := Schedule{Hours: "12:00-13:30"}
	for _, tc := range []struct {
		name     string
		schedule Schedule
		now, til string
	}{
		{"no schedule", Schedule{}, "2026-11-21T03:00:00Z", ""},
		{"at work", week, "2026-11-23T09:30:00+01:00", ""},
		{"in the evening", week, "2026-11-23T20:00:00+01:00", "2026-11-24T08:00:00+01:00"},
		{"at night", week, "2026-11-24T02:11:12+01:00", "2026-11-24T08:00:00+01:00"},
		{"as the night ends", week, "2026-11-24T08:00:00+01:00", ""},
		{"on Friday evening", week, "2026-11-20T22:00:00+01:00", "2026-11-23T08:00:00+01:00"},
		{"on a Sunday elsewhere, where it is Monday", week, "2026-11-22T23:30:00-08:00", ""},
		{"over the change to winter time", week, "2026-10-24T12:00:00+02:00", "2026-10-26T08:00:00+01:00"},
		{"at noon", lunch, "2026-11-24T12:59:59Z", "2026-11-24T13:30:00Z"},
		{"after noon", lunch, "2026-11-24T13:30:00Z", ""},
	} {
		now, err := time.Parse(time.RFC3339, tc.now)
		if err != nil {
			t.Fatal(err)
		}
		var want time.Time
		if tc.til != "" {
			if want, err = time.Parse(time.RFC3339, tc.til); err != nil {
				t.Fatal(err)
			}
		}
		if got := tc.schedule.HeldUntil(now); !got.Equal(want) {
			t.Errorf("%s: until %v, want %v", tc.name, got, want)
		}
	}
}

func TestSchedule_Validate(t *testing.T) {
	for _, tc := range []struct {
		schedule Schedule
		wrong    string
	}{
		{Schedule{TimeZone: "Europe/Berlin", Days: []string{"monday"}, Hours: "00:00-06:30"}, ""},
		{Schedule{TimeZone: "Mars"}, `timeZone "Mars": it must be a name of the IANA database, such as Europe/Berlin`},
		{Schedule{Days: []string{"funday"}}, `days[0] "funday": it must be a day of the week, such as saturday`},
		{Schedule{Days: weekdays}, "days: nobody would ever be told; leave a day out"},
		{Schedule{Hours: "8-20"}, `hours "8-20": it must be from when to when, such as 20:00-08:00, and not the whole day`},
		{Schedule{Hours: "08:00-08:00"}, `hours "08:00-08:00": it must be from when to when, such as 20:00-08:00, and not the whole day`},
	} {
		wrong := ""
		if err := tc.schedule.Validate(); err != nil {
			wrong = err.Error()
		}
		if d := cmp.Diff(tc.wrong, wrong); d != "" {
			t.Errorf("%+v (-want +got):\n%s", tc.schedule, d)
		}
	}
}
