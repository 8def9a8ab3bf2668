package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNear(t *testing.T) {
	ids := []string{"SV-257777", "SV-257778", "SV-258241", "os-01", "sysctl-10", "package-07", ""}
	for id, want := range map[string][]string{
		"sv-257777":    {"SV-257777", "SV-257778"},
		"SV-2577777":   {"SV-257777", "SV-257778"},
		"257778":       {"SV-257778"},
		"sysct-10":     {"sysctl-10"},
		"package-7":    {"package-07"},
		"wholly other": {},
	} {
		if diff := cmp.Diff(want, near(id, ids)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", id, diff)
		}
	}
}
