package threshold_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/threshold"
)

func TestParse_refuses(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"nothing":              {"", threshold.ErrEmpty.Error()},
		"only a comment":       {"# todo\n", threshold.ErrEmpty.Error()},
		"an empty mapping":     {"{}", threshold.ErrEmpty.Error()},
		"an empty status":      {"failed: {}\n", threshold.ErrEmpty.Error()},
		"a list":               {"- a\n", "line 1: must be a mapping of bounds, such as compliance: {min: 80}"},
		"no YAML":              {"a: b: c\n", "threshold is not YAML"},
		"an unknown key":       {"compliance: {min: 1}\nfailures: 0\n", "line 2: failures: is no key of a threshold; there are compliance, passed, failed, skipped, error and no_impact"},
		"an unknown severity":  {"failed:\n  High:\n    max: 0\n", "line 2: failed.High: is no key of a threshold; there are total, critical, high, medium and low"},
		"an unknown bound":     {"failed:\n  high:\n    maximum: 0\n", "line 3: failed.high.maximum: is no key of a threshold; there are min, max and controls"},
		"failed without grade": {"failed.none.max: 0\n", "line 1: failed.none.max: is no key"},
		"controls of a total":  {"failed: {total: {controls: [a]}}\n", "line 1: failed.total.controls: is no key of a threshold; there are min and max"},
		"a text":               {"compliance: {min: eighty}\n", `line 1: compliance.min: must be a number, not "eighty"`},
		"a quoted number":      {"compliance: {min: '80'}\n", `line 1: compliance.min: must be a number, not "80"`},
		"nothing as a bound":   {"failed: {high: {max: }}\n", `line 1: failed.high.max: must be a number, not ""`},
		"no bound":             {"failed: {high: 0}\n", "line 1: failed.high: must hold min, max or controls"},
		"half a control":       {"failed: {high: {max: 0.5}}\n", "line 1: failed.high.max: must be a whole number, for it counts controls"},
		"less than none":       {"failed: {high: {max: -1}}\n", "line 1: failed.high.max: must not be negative"},
		"more than all":        {"compliance: {min: 101}\n", "line 1: compliance.min: must be at most 100, for it is a percentage"},
		"what can't be met":    {"passed.high.max: 1\npassed.high.min: 2\n", "line 2: passed.high.min: min 2 is more than max 1, so nothing can meet it"},
		"a bound twice":        {"compliance: {min: 1}\ncompliance.min: 2\n", "line 2: compliance.min: is there twice"},
		"controls as text":     {"passed: {high: {controls: all}}\n", "line 1: passed.high.controls: must be a list of ids of controls"},
		"an alias":             {"passed: &a {high: {min: 1}}\nfailed: *a\n", "line 2: failed: aliases aren't allowed here"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := threshold.Parse([]byte(test.text))
			if err == nil {
				t.Fatal("was accepted")
			}
			if !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got  %s\nwant %s", err, test.want)
			}
		})
	}
}

func control(id string, impact float64, status hdf.Status) hdf.Control {
	return hdf.Control{ID: id, Impact: impact, Results: []hdf.Result{{Status: status}}}
}

func TestThreshold_Check(t *testing.T) {
	doc := &hdf.Results{Profiles: []hdf.Profile{
		{Name: "a", Controls: []hdf.Control{
			control("a-1", 1, hdf.Failed),
			control("a-2", 0.7, hdf.Passed),
			control("a-3", 0.7, hdf.Skipped),
			control("a-4", 0, hdf.Failed),
		}},
		{Name: "b", Controls: []hdf.Control{control("b-1", 0.9, hdf.Failed), control("b-2", 0.5, hdf.Error)}},
	}}
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"met": {"{compliance: {min: 20, max: 20}, failed: {total: 2}, no_impact: {none: {min: 1}}}", nil},
		"not met": {`
compliance: {min: 21}
skipped: {total: 0}
error: {total: {max: 0}}
no_impact: {total: {min: 2}}
failed: {critical: {max: 1}}
passed: {high: {controls: [a-1, a-9]}}`, []string{
			"compliance is 20 %, below the minimum of 21 % (compliance.min)",
			"1 control skipped, where there must be exactly 0 (skipped.total)",
			"1 control did not apply, fewer than the 2 required (no_impact.total.min)",
			"1 control could not be judged, more than the 0 allowed: b-2 (error.total.max)",
			"2 controls of severity critical failed, more than the 1 allowed: a-1, b-1 (failed.critical.max)",
			"not among the controls of severity high that passed, as listed: a-1 (failed, severity critical), a-9 (not in the results) (passed.high.controls)",
			"among the controls of severity high that passed, but not listed: a-2 (passed.high.controls)",
		}},
		"zero bounds hold": {"compliance.max: 0", []string{"compliance is 20 %, above the maximum of 0 % (compliance.max)"}},
		"dotted keys all count": {"{failed.critical.min: 3, failed.critical.max: 5}", []string{
			"2 controls of severity critical failed, fewer than the 3 required (failed.critical.min)",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			th, err := threshold.Parse([]byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range th.Check(doc) {
				got = append(got, f.Message)
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestThreshold_Check_nothingScanned(t *testing.T) {
	set, err := threshold.Open("")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range set.Names() {
		findings, err := set.Check(name, &hdf.Results{})
		if err != nil || len(findings) == 0 {
			t.Errorf("%s lets results without a control pass (%v)", name, err)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ours.yml", "failed.total.max: 3\n")
	write("strict.yaml", "failed.total.max: 0\n")
	write("notes.txt", "not a threshold")
	set, err := threshold.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"moderate", "ours", "strict"}, set.Names()); d != "" {
		t.Errorf("names (-want +got):\n%s", d)
	}
	if th, err := set.Get("strict"); err != nil || string(th.Text) != "failed.total.max: 0\n" {
		t.Errorf("the folder's own strict doesn't take precedence: %q, %v", th.Text, err)
	}
	_, err = set.Check("lax", &hdf.Results{})
	if !errors.Is(err, threshold.ErrUnknown) || !strings.Contains(err.Error(), "moderate, ours, strict") {
		t.Errorf("unknown name: %v", err)
	}
	write("bad.yaml", "failed:\n  worst: {max: 1}\n")
	_, err = threshold.Open(dir)
	var syntax *threshold.SyntaxError
	if !errors.As(err, &syntax) || syntax.Line != 2 || !strings.Contains(err.Error(), filepath.Join(dir, "bad.yaml")) {
		t.Errorf("a bad file: %v", err)
	}
	if _, err := threshold.Open(filepath.Join(dir, "none")); err == nil {
		t.Error("a folder that isn't there was read")
	}
}

func TestFind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "t.yaml")
	if err := os.WriteFile(file, []byte("passed.total.min: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, "strict"} {
		if th, err := threshold.Find(name); err != nil || len(th.Check(&hdf.Results{})) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, want := range map[string]error{"lax": threshold.ErrUnknown, "./strict": os.ErrNotExist} {
		if _, err := threshold.Find(name); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("compliance: {min: 80}\nfailed: {high: {max: 0, controls: [a]}}\n"))
	f.Add([]byte("compliance.min: 80\nfailed.high.max: 1\n"))
	f.Add([]byte("? [a]\n: b\n"))
	doc := &hdf.Results{Profiles: []hdf.Profile{{Controls: []hdf.Control{control("a", 1, hdf.Failed)}}}}
	f.Fuzz(func(t *testing.T, text []byte) {
		if th, err := threshold.Parse(text); err == nil {
			th.Check(doc)
		}
		if saf, err := threshold.ParseSAF(text); err == nil {
			saf.Check(doc)
		}
	})
}

// BenchmarkThreshold_Check judges an overlay on a profile as large as a hub
// takes them: the time must grow as the number of controls does.
func BenchmarkThreshold_Check(b *testing.B) {
	th, err := threshold.Parse([]byte("failed.total.max: 0"))
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{500, 5000, 50_000} {
		doc := &hdf.Results{Profiles: []hdf.Profile{{Name: "over"}, {Name: "base", ParentProfile: "over"}}}
		for i := range n {
			id := fmt.Sprintf("SV-%06d", i)
			doc.Profiles[0].Controls = append(doc.Profiles[0].Controls, hdf.Control{ID: id, Impact: 0.7})
			doc.Profiles[1].Controls = append(doc.Profiles[1].Controls, control(id, 0.7, hdf.Passed))
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if f := th.Check(doc); len(f) > 0 {
					b.Fatal(f)
				}
			}
		})
	}
}
