package version_test

import (
	"strings"
	"testing"

	"reeve.dev/reeve/internal/version"
)

func TestApart(t *testing.T) {
	for _, c := range []struct{ hub, agent, says string }{
		{"1.2.3", "1.2.3", ""},
		{"1.2.3", "1.2.9", ""},
		{"1.2.3", "1.1.0", ""},
		{"1.2.3", "1.2.0-rc.1", ""},
		{"v1.2.3", "1.1.0", ""},
		{"1.2.3", "1.0.5", "upgrade the agent"},
		{"1.2.3", "1.3.0", "upgrade the hub"},
		{"1.2.3", "2.0.0", "upgrade the hub"},
		{"2.0.0", "1.9.0", "upgrade the agent"},
		{"devel", "0.1.0", ""},
		{"0.1.0", "devel abc", ""},
		{"0.1.0", "", ""},
	} {
		if got := version.Apart(c.hub, c.agent); c.says == "" && got != "" || !strings.HasSuffix(got, c.says) {
			t.Errorf("hub %s, agent %s: %q", c.hub, c.agent, got)
		}
	}
}
