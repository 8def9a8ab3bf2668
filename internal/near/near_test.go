package near

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNames(t *testing.T) {
	ids := []string{"SV-257777", "SV-257778", "SV-258241", "os-01", "sysctl-10", "package-07", ""}
	for id, want := range map[string][]string{
		"sv-257777":    {"SV-257777", "SV-257778"},
		"SV-2577777":   {"SV-257777", "SV-257778"},
		"257778":       {"SV-257778"},
		"sysct-10":     {"sysctl-10"},
		"package-7":    {"package-07"},
		"wholly other": {},
	} {
		if diff := cmp.Diff(want, Names(id, ids)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", id, diff)
		}
	}
}

func TestInstead(t *testing.T) {
	many := []string{"nightly", "weekly", "hourly", "baseline", "strict", "moderate", "lax"}
	for _, tt := range []struct {
		name          string
		names         []string
		instead, some string
	}{
		{"nightli", nil, "there are none", "none"},
		{"nightli", many[:3], "there are: nightly, weekly, hourly", "nightly, weekly, hourly"},
		{"nightli", many, "near it: nightly", "nightly, weekly, hourly, baseline, strict and 2 more"},
		{"zebra", many, "no name is like it", "nightly, weekly, hourly, baseline, strict and 2 more"},
		{"zebra", many[:6], "no name is like it", "nightly, weekly, hourly, baseline, strict, moderate"},
	} {
		if diff := cmp.Diff([]string{tt.instead, tt.some}, []string{Instead(tt.name, tt.names), Some(tt.names)}); diff != "" {
			t.Errorf("%s of %d (-want +got):\n%s", tt.name, len(tt.names), diff)
		}
	}
}
