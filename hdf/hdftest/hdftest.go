// Package hdftest helps to test what writes results.
package hdftest

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hdf"
)

var update = flag.Bool("update", false, "write the golden files anew; read the diff")

// Sample is a sealed document with every status and severity, an overlay and
// its base, waivers, and a profile that doesn't support its target.
func Sample() *hdf.Results {
	at := func(s string) string { return "2026-03-04T05:06:" + s + "Z" }
	tags := map[string]any{"nist": []any{"AC-8 a", "AC-8 c 1"}, "cci": []any{"CCI-000048"}, "severity": "medium", "gid": "V-1", "rid": "SV-1r2_rule", "stig_id": "OS-01-000010", "gtitle": "SRG-OS-000023", "fix": "Write the banner to /etc/issue."}
	r := &hdf.Results{
		Platform: hdf.Platform{Name: "ubuntu", Release: "22.04", TargetID: "k8s-container://shop/web-0/nginx"}, Version: "1.2.3",
		Statistics: hdf.Statistics{Duration: 1.5},
		Profiles: []hdf.Profile{
			{
				Name: "our-overlay", Version: "1.0.0", Title: "Our overlay", SHA256: "ab12", Status: "loaded",
				Depends: []map[string]any{{"name": "os-baseline"}},
				Controls: []hdf.Control{
					{ID: "SV-1", Title: "A banner is shown", Impact: 0.5},
					{ID: "SV-2", Title: "No telnet", Impact: 0.7},
				},
			},
			{
				Name: "os-baseline", ParentProfile: "our-overlay", Version: "2.4.1", Title: "OS baseline", Summary: "What an OS needs.", SHA256: "cd34", License: "Apache-2.0", Status: "loaded",
				Controls: []hdf.Control{
					{
						ID: "SV-1", Title: "A banner is shown", Desc: "Users are warned\nbefore they log in.", Impact: 0.5, Tags: tags,
						Descriptions:   []hdf.Description{{Label: "default", Data: "Users are warned\nbefore they log in."}, {Label: "check", Data: "Read /etc/issue."}},
						Code:           "control 'SV-1' do\n  impact 0.5\nend\n",
						SourceLocation: hdf.SourceLocation{Line: 3, Ref: "os-baseline/controls/SV 1.rb"},
						Results: []hdf.Result{
							{Status: hdf.Passed, CodeDesc: "File /etc/issue is expected to exist", RunTime: 0.001, StartTime: at("07")},
							{Status: hdf.Failed, CodeDesc: "File /etc/issue content is expected to match /warned/", RunTime: 0.25, StartTime: at("08"), Message: "expected \"Welcome\" to match /warned/\nDiff:\n-/warned/\n+\"Welcome\"\n"},
						},
					},
					{
						ID: "SV-2", Title: "No telnet", Impact: 0.7, Tags: map[string]any{}, SourceLocation: hdf.SourceLocation{Line: 1, Ref: "os-baseline/controls/SV-2.rb"},
						Results: []hdf.Result{{Status: hdf.Passed, CodeDesc: "System Package telnetd is expected not to be installed", RunTime: 0.002, StartTime: at("09")}},
					},
				},
			},
			{
				Name: "site", Version: "0.1.0", SHA256: "ef56", Status: "loaded",
				Controls: []hdf.Control{
					{ID: "skipped", Impact: 0.3, Results: []hdf.Result{{Status: hdf.Skipped, CodeDesc: "No-op", SkipMessage: "A person has to look.", StartTime: at("10")}}},
					{ID: "broken", Title: "It breaks", Impact: 1, Results: []hdf.Result{{Status: hdf.Failed, CodeDesc: "Control Source Code Error site/controls/x.rb:9", Message: "undefined method `foo' for nil", Exception: "NoMethodError", Backtrace: []string{"site/controls/x.rb:9:in `block'"}, StartTime: at("11")}}},
					{ID: "no impact", Title: "Not here", Impact: 0, Results: []hdf.Result{{Status: hdf.Failed, CodeDesc: "a is expected to eq b", Message: "it doesn't", StartTime: at("12")}}},
					{
						ID: "waived", Title: "Waived", Impact: 0.9,
						WaiverData: map[string]any{"justification": "until Q3", "run": false, "skipped_due_to_waiver": true, "message": ""},
						Results:    []hdf.Result{{Status: hdf.Skipped, CodeDesc: "No-op", SkipMessage: "until Q3", StartTime: at("13")}},
					},
					{ID: "half", Title: "Half of it breaks", Impact: 0.5, Results: []hdf.Result{{Status: hdf.Failed, CodeDesc: "a", Message: "no", StartTime: at("14")}, {Status: hdf.Error, CodeDesc: "b", Message: "gone", StartTime: at("15")}}},
					{ID: "empty", Title: "Nothing in it", Impact: 0.5},
				},
			},
			{Name: "windows", Version: "1.0.0", SHA256: "0789", Status: "skipped", StatusMessage: "Skipping profile: 'windows' on unsupported platform: 'ubuntu/22.04'."},
		},
	}
	r.Seal()
	return r
}

// Hostile is Sample with each text that a profile, a target or a forged
// document fills in replaced by what could break out of a format.
func Hostile() *hdf.Results {
	r := Sample()
	hostile(reflect.ValueOf(r).Elem())
	return r
}

// Text is what Hostile is full of.
const Text = "=1+1</script><script>alert(1)</script>\"'`]]><!-- --> {{.}} ${x} %s {0} [x](https://evil.example) &amp;&#0;" +
	"\x00\x07\x1b[2J\u202e\xff\xfe\uffff\r\n,;\t../../etc"

func hostile(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "StartTime" {
				hostile(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			hostile(v.Index(i))
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			e := reflect.New(v.Type().Elem()).Elem()
			e.Set(v.MapIndex(k))
			hostile(e)
			v.SetMapIndex(k, e)
		}
	case reflect.Interface:
		if s, ok := v.Interface().(string); ok {
			v.Set(reflect.ValueOf(s + Text))
		} else if list, ok := v.Interface().([]any); ok {
			hostile(reflect.ValueOf(list))
		}
	case reflect.String:
		if v.Type() == reflect.TypeFor[string]() {
			v.SetString(v.String() + Text)
		}
	}
}

// Golden compares what a format made with a file below testdata, which go test
// -update writes.
func Golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s (-want +got):\n%s", path, cmp.Diff(string(want), string(got)))
	}
}
