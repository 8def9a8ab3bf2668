package fleet_test

import (
	"strings"
	"testing"

	"reeve.dev/reeve/fleet"
)

func TestRegistration_Validate(t *testing.T) {
	many := map[string]string{}
	for i := range 2000 {
		many[strings.Repeat("a", i%200)+string(rune('a'+i%26))] = ""
	}
	for name, tc := range map[string]struct {
		change func(*fleet.Registration)
		says   string // empty: good
	}{
		"good":                     {func(*fleet.Registration) {}, ""},
		"text of several lines":    {func(r *fleet.Registration) { r.Annotations = map[string]string{"description": "one\n\ttwo – drei"} }, ""},
		"no instance":              {func(r *fleet.Registration) { r.Instance = "" }, "instance is missing"},
		"a long instance":          {func(r *fleet.Registration) { r.Instance = fleet.InstanceID(strings.Repeat("i", 300)) }, "instance: 300 bytes"},
		"an escape in the host":    {func(r *fleet.Registration) { r.Hostname = "h\x1b[2J" }, "hostname: byte 1"},
		"an escape in a kind":      {func(r *fleet.Registration) { r.ScanTargets = []string{"\u009b2J"} }, "scanTargets[0]"},
		"an escape in a namespace": {func(r *fleet.Registration) { r.Services[0].Namespaces = []string{"a", "\r"} }, "services[0]: namespaces[1]"},
		"an escape in a name":      {func(r *fleet.Registration) { r.Annotations = map[string]string{"\x1b": ""} }, "annotation"},
		"a long annotation": {func(r *fleet.Registration) {
			r.Services[0].Annotations = map[string]string{"a": strings.Repeat("x", 5000)}
		}, "5000 bytes"},
		"many annotations": {func(r *fleet.Registration) { r.Annotations = many }, "annotations are more"},
		"many kinds":       {func(r *fleet.Registration) { r.ScanTargets = make([]string, 2000) }, "2000 services or kinds"},
		"a service twice":  {func(r *fleet.Registration) { r.Services = append(r.Services, r.Services[0]) }, "services[1]: x-web/a is there twice"},
	} {
		t.Run(name, func(t *testing.T) {
			r := fleet.Registration{Agent: "a", Instance: "i", Version: "1", Hostname: "h", Services: []fleet.Service{{Type: "x-web", Name: "a"}}}
			tc.change(&r)
			err := r.Validate()
			if (err == nil) != (tc.says == "") || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v; want %q", err, tc.says)
			}
		})
	}
}
