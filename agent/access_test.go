package agent

import (
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/forward"
)

func TestConfig_access(t *testing.T) {
	for name, tc := range map[string]struct {
		rule forward.Rule
		says string
	}{
		"good":               {forward.Rule{Effect: "deny", Namespaces: []string{"payroll"}}, ""},
		"no effect":          {forward.Rule{}, "access.rules[0].effect"},
		"about agents":       {forward.Rule{Effect: "deny", Agents: []string{"a"}}, "access.rules[0]: agents"},
		"about nobody":       {forward.Rule{Effect: "allow", Who: forward.Who{Anonymous: true}}, "access.rules[0]: agents"},
		"about slow answers": {forward.Rule{Effect: "allow", AnswerWithin: time.Second}, "access.rules[0]: agents"},
	} {
		cfg := Defaults()
		cfg.Hub.URL, cfg.Access.Rules = "https://hub:8443", []forward.Rule{tc.rule}
		err := cfg.Validate()
		if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v; want %q", name, err, tc.says)
		}
	}
}
