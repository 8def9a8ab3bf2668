package inspec_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec"
)

func TestParseWaivers(t *testing.T) {
	yes, no := true, false
	for name, text := range map[string]string{
		"w.yaml": "a:\n  justification: because\n  run: false\n  expiration_date: 2077-06-01\nb:\n  justification: \"so\"\n  run: 'yes'\n",
		"w.json": `{"a": {"justification": "because", "run": false, "expiration_date": "2077-06-01"}, "b": {"justification": "so", "run": true}}`,
		"w.csv":  "\ufeffcontrol_id,justification,run,expiration_date,,\na,because,FALSE,2077-06-01,,\n,,,,,\nb,so,TRUE,,,\nc,,,,,\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := inspec.ParseWaivers(name, []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			want := inspec.Waivers{
				"a": {Justification: "because", Run: &no, Expires: time.Date(2077, 6, 1, 0, 0, 0, 0, time.Local)},
				"b": {Justification: "so", Run: &yes},
			}
			if diff := cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".expires" || p.Last().String() == ".more" }, cmp.Ignore())); diff != "" {
				t.Errorf("waivers (-want +got):\n%s", diff)
			}
		})
	}
	for name, tc := range map[string]struct{ file, text, want string }{
		"no justification": {"w.yml", "a:\n  run: true\n", "w.yml:1: control a: justification is missing"},
		"no date":          {"w.yml", "\na:\n  justification: x\n  expiration_date: soon\n", `w.yml:2: control a: expiration_date: "soon" is no date`},
		"no truth":         {"w.json", `{"a": {"justification": "x", "run": 3}}`, "run: 3 is neither true nor false"},
		"no column":        {"w.csv", "id,why\na,b\n", "no column control_id"},
		"a list":           {"w.yaml", "- a\n", "line 1: it must be a mapping"},
		"a kind of file":   {"w.xls", "", `".xls"`},
		"bad YAML":         {"w.yaml", "a: [\n", "not YAML"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := inspec.ParseWaivers(tc.file, []byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v doesn't say %q", err, tc.want)
			}
		})
	}
}

func TestRun_waivers(t *testing.T) {
	dir := t.TempDir()
	waivers, err := inspec.ParseWaivers("w.yaml", []byte(`
ran: {justification: j, run: true}
not ran: {justification: j, run: false}
future: {justification: j, run: false, expiration_date: 2077-06-01}
past: {justification: j, run: false, expiration_date: 1977-06-01}
default: {justification: j, ticket: T-1}
broken: {justification: j, run: false}
harmful: {justification: j, run: false}
`))
	if err != nil {
		t.Fatal(err)
	}
	doc := mustRun(t, map[string]string{"controls/a.rb": `
['none', 'ran', 'not ran', 'future', 'past', 'default'].each { |id| control(id) { title id; describe(1) { it { should eq 2 } } } }
control('broken') { frobnicate }
control('harmful') { title 'kept'; describe(command('touch ' + DIR + '/ran').stdout) { it { should eq '' } } }
`, "libraries/dir.rb": "DIR = '" + dir + "'\n"}, inspec.Options{Waivers: waivers})
	want := map[string]hdf.Status{
		"none": hdf.Failed, "ran": hdf.Failed, "not ran": hdf.Skipped, "future": hdf.Skipped, "past": hdf.Failed, "default": hdf.Failed, "broken": hdf.Skipped, "harmful": hdf.Skipped,
	}
	if diff := cmp.Diff(want, judged(doc)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	for id, want := range map[string]map[string]any{
		"none":    nil,
		"ran":     {"justification": "j", "run": true, "skipped_due_to_waiver": false, "message": ""},
		"not ran": {"justification": "j", "run": false, "skipped_due_to_waiver": true, "message": ""},
		"future":  {"justification": "j", "run": false, "skipped_due_to_waiver": true, "message": "", "expiration_date": "2077-06-01"},
		"past": {
			"justification": "j", "run": false, "skipped_due_to_waiver": false, "expiration_date": "1977-06-01",
			"message": "Waiver expired on " + time.Date(1977, 6, 1, 0, 0, 0, 0, time.Local).Format("2006-01-02 15:04:05 -0700") + ", evaluating control normally",
		},
		"default": {"justification": "j", "ticket": "T-1", "skipped_due_to_waiver": false, "message": ""},
	} {
		if diff := cmp.Diff(want, control(t, doc, id).WaiverData); diff != "" {
			t.Errorf("waiver_data of %s (-want +got):\n%s", id, diff)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil || control(t, doc, "harmful").Title != "kept" {
		t.Errorf("a control that must not run was run (%v), or what it says of itself is lost: %+v", err, control(t, doc, "harmful"))
	}
	c := control(t, doc, "not ran")
	if r := c.Results[0]; len(c.Results) != 1 || r.CodeDesc != "No-op" || r.SkipMessage != "Skipped control due to waiver condition: j" || c.Title != "not ran" {
		t.Errorf("a waived control: %+v", c)
	}
}

func TestRun_attestations(t *testing.T) {
	attestations, err := inspec.ParseAttestations("a.yaml", []byte(`
- {control_id: MANUAL, explanation: seen, frequency: 1y, status: passed, updated: 2077-01-01, updated_by: Ada}
- {control_id: old, explanation: seen, frequency: monthly, status: passed, updated: 2001-01-01, updated_by: Ada}
- {control_id: automatic, explanation: seen, frequency: 1.5y, status: passed, updated: 2077-01-01, updated_by: Ada}
`))
	if err != nil {
		t.Fatal(err)
	}
	doc := mustRun(t, map[string]string{"controls/a.rb": `
['manual', 'old'].each { |id| control(id) { describe('a person') { skip 'must look' } } }
control('automatic') { describe(1) { it { should eq 2 } } }
`}, inspec.Options{Attestations: attestations})
	want := map[string]hdf.Status{"manual": hdf.Passed, "old": hdf.Skipped, "automatic": hdf.Failed}
	if diff := cmp.Diff(want, judged(doc)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	c := control(t, doc, "manual")
	if diff := cmp.Diff(map[string]any{"control_id": "MANUAL", "explanation": "seen", "frequency": "1y", "status": "passed", "updated": "2077-01-01", "updated_by": "Ada"}, c.AttestationData); diff != "" {
		t.Errorf("attestation_data (-want +got):\n%s", diff)
	}
	if got, want := c.Results[1].Message, "Attestation:\nStatus: passed\nExplanation: seen\n\nUpdated: 2077-01-01\nUpdated By: Ada\nFrequency: 1y"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	if got := control(t, doc, "old").Results[1].CodeDesc; got != "Manual verification status provided through attestation has expired" {
		t.Errorf("code_desc %q", got)
	}
	for text, want := range map[string]string{
		"a: b": "must be a list",
		"- {control_id: a, explanation: b, frequency: 1d, status: n/a, updated: 2020-01-01, updated_by: c}":       "passed or failed",
		"- {control_id: a, explanation: b, frequency: often, status: passed, updated: 2020-01-01, updated_by: c}": "frequency",
		"- {control_id: a}": "is missing",
		"- 1":               "a.yaml:1: each entry",
	} {
		if _, err := inspec.ParseAttestations("a.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v doesn't say %q", text, err, want)
		}
	}
}

func TestRun_selectedTags(t *testing.T) {
	files := map[string]string{"controls/a.rb": `
control('a') { tag nist: ['AC-6', 'AC-7']; describe(1) { it { should eq 1 } } }
control('b') { tag 'bare'; describe(1) { it { should eq 1 } } }
control('c') { tag severity: 'high'; describe(1) { it { should eq 1 } } }
control('d') { describe(1) { it { should eq 1 } } }
`}
	for name, tc := range map[string]struct {
		opt  inspec.Options
		want []string
	}{
		"a value":         {inspec.Options{Tags: []string{"AC-7"}}, []string{"a"}},
		"a name":          {inspec.Options{Tags: []string{"bare", "severity"}}, []string{"b", "c"}},
		"an expression":   {inspec.Options{Tags: []string{"/^AC-/"}}, []string{"a"}},
		"and a control":   {inspec.Options{Tags: []string{"high"}, Controls: []string{"d"}}, []string{"c", "d"}},
		"none that there": {inspec.Options{Tags: []string{"low"}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, c := range mustRun(t, files, tc.opt).Profiles[0].Controls {
				got = append(got, c.ID)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("controls (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRun_onlyApplicableIf(t *testing.T) {
	doc := mustRun(t, map[string]string{"controls/a.rb": `
control('applies') { impact 0.7; only_applicable_if('x') { true }; describe(1) { it { should eq 1 } } }
control('does not') { only_applicable_if('no X here') { false }; impact 0.7; describe(1) { it { should eq 1 } } }
`}, inspec.Options{})
	if c := control(t, doc, "applies"); c.Status != hdf.Passed || c.Impact != 0.7 {
		t.Errorf("control %+v", c)
	}
	c := control(t, doc, "does not")
	r := c.Results[0]
	if c.Impact != 0 || r.Message != "N/A control due to only_applicable_if condition: no X here" || r.Exception != "Inspec::Exceptions::ResourceFailed" || len(c.Results) != 1 {
		t.Errorf("control %+v", c)
	}
}

func FuzzWaivers(f *testing.F) {
	f.Add("w.yaml", []byte("a:\n  justification: because\n  run: false\n  expiration_date: 2077-06-01\n"))
	f.Add("w.json", []byte(`{"a": {"justification": "x", "run": 3}}`))
	f.Add("w.csv", []byte("control_id,justification,run,expiration_date,,\na,because,FALSE,2077-06-01,,\n"))
	f.Fuzz(func(t *testing.T, name string, data []byte) { _, _ = inspec.ParseWaivers(name, data) })
}

func FuzzAttestations(f *testing.F) {
	f.Add([]byte("- {control_id: a, explanation: b, frequency: 1d, status: passed, updated: 2020-01-01, updated_by: c}"))
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = inspec.ParseAttestations("a.yaml", data) })
}

func TestReadWaivers_theLastFileCounts(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one.yaml"), filepath.Join(dir, "two.csv")
	for file, text := range map[string]string{one: "a: {justification: one}\nb: {justification: one}\n", two: "control_id,justification\na,two\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := inspec.ReadWaivers(one, two)
	if err != nil {
		t.Fatal(err)
	}
	if got["a"].Justification != "two" || got["b"].Justification != "one" {
		t.Errorf("waivers %+v", got)
	}
	if _, err := inspec.ReadWaivers(filepath.Join(dir, "none.yaml")); err == nil {
		t.Error("a file that isn't there was read")
	}
}
