package scan_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/scan"
)

// judged has a control for each id, all of impact 0.5 but those of impact 0
// by the status not_applicable.
func judged(profile string, controls ...[3]string) *hdf.Results {
	p := hdf.Profile{Name: profile}
	for _, c := range controls {
		control := hdf.Control{ID: c[0], Title: "T " + c[0], Impact: 0.5}
		if c[1] == string(hdf.NotApplicable) {
			control.Impact, c[1] = 0, string(hdf.Skipped)
		}
		control.Results = []hdf.Result{{Status: hdf.Status(c[1]), CodeDesc: "File /x", Message: c[2]}}
		if c[1] == string(hdf.Error) {
			control.Results[0].Status, control.Results[0].Backtrace = hdf.Failed, []string{"x"}
		}
		p.Controls = append(p.Controls, control)
	}
	r := &hdf.Results{Profiles: []hdf.Profile{p}}
	r.Seal()
	return r
}

func TestCompare(t *testing.T) {
	before := judged("base",
		[3]string{"same", "passed"}, [3]string{"broke", "passed"}, [3]string{"mended", "failed", "no such file"}, [3]string{"still", "failed", "a"},
		[3]string{"worse", "failed", "a"}, [3]string{"muted", "failed", "a"}, [3]string{"gone", "failed", "a"}, [3]string{"twice", "passed"}, [3]string{"twice", "failed", "a"},
		[3]string{"n/a", "not_applicable"})
	after := judged("base",
		[3]string{"same", "passed"}, [3]string{"broke", "failed", "b"}, [3]string{"mended", "passed"}, [3]string{"still", "failed", "a"},
		[3]string{"worse", "error", "b"}, [3]string{"muted", "skipped"}, [3]string{"twice", "passed"}, [3]string{"twice", "passed"},
		[3]string{"n/a", "failed", "c"}, [3]string{"added", "failed", "d"}, [3]string{"more", "passed"})
	change := func(id string, before, after hdf.Status, said ...string) scan.Change {
		for i := range said {
			said[i] = "File /x: " + said[i]
		}
		severity := hdf.Medium
		return scan.Change{ID: id, Profile: "base", Title: "T " + id, Severity: severity, Before: before, After: after, Said: said}
	}
	differs := func(c scan.Change) scan.Change { c.Differs = true; return c }
	want := scan.Comparison{
		Before: hdf.Tally{Passed: 3, Failed: 6, NotApplicable: 1},
		After:  hdf.Tally{Passed: 5, Failed: 4, Skipped: 1, Error: 1},
		New: []scan.Change{
			change("broke", hdf.Passed, hdf.Failed, "b"), change("n/a", hdf.NotApplicable, hdf.Failed, "c"), change("added", "", hdf.Failed, "d"),
		},
		Fixed:        []scan.Change{change("mended", hdf.Failed, hdf.Passed, "no such file"), change("twice", hdf.Failed, hdf.Passed, "a")},
		Changed:      []scan.Change{change("muted", hdf.Failed, hdf.Skipped, "a"), change("more", "", hdf.Passed), change("gone", hdf.Failed, "", "a")},
		StillFailing: []scan.Change{change("still", hdf.Failed, hdf.Failed, "a"), differs(change("worse", hdf.Failed, hdf.Error, "b"))},
		Same:         2,
	}
	if d := cmp.Diff(want, scan.Compare(before, after)); d != "" {
		t.Errorf("comparison (-want +got):\n%s", d)
	}
	if got := scan.Compare(after, after); len(got.New)+len(got.Fixed)+len(got.Changed) > 0 || len(got.StillFailing) != 5 || got.Same != 6 {
		t.Errorf("with itself: %+v", got)
	}
}

// Controls are told apart by their profile, so another profile has none in
// common.
func TestCompare_otherProfile(t *testing.T) {
	got := scan.Compare(judged("a", [3]string{"x", "failed", "m"}), judged("b", [3]string{"x", "failed", "m"}))
	if len(got.New) != 1 || len(got.Changed) != 1 || got.Changed[0].After != "" {
		t.Errorf("%+v", got)
	}
}
