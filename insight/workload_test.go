package insight_test

import (
	"fmt"
	"strings"
	"testing"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/policy"
)

// TestCutAnnotations: what is cut is too long to be applied, and what isn't too much
// is taken by the hub.
func TestCutAnnotations(t *testing.T) {
	said := map[string]string{"own": "sboms: {optOut: true}", "long": strings.Repeat("é", 100<<10), "longest": "x" + strings.Repeat("é", 100<<10)}
	if !insight.CutAnnotations(said) || said["own"] != "sboms: {optOut: true}" {
		t.Errorf("not taken: %.100q", said)
	}
	for _, name := range []string{"long", "longest"} {
		if n := len(said[name]); n <= policy.MaxLayer || n > policy.MaxLayer+4 {
			t.Errorf("%s has %d bytes", name, n)
		}
	}
	if err := (insight.Inventory{Policies: said}).Validate(); err != nil {
		t.Error(err)
	}
	for i := range 100 {
		said[fmt.Sprint("more-", i)] = said["long"]
	}
	if insight.CutAnnotations(said) {
		t.Error("more than the hub takes is told")
	}
	if err := (insight.Inventory{Policies: said}).Validate(); err == nil {
		t.Error("more than the hub takes was taken")
	}
}
