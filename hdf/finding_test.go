package hdf_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hdf"
)

type seen struct {
	Profile, ID string
	Results     int
	Status      hdf.Status
	Severity    hdf.Severity
}

func findings(r *hdf.Results) []seen {
	var out []seen
	for _, f := range r.Findings() {
		out = append(out, seen{f.Profile.Name, f.Control.ID, len(f.Control.Results), f.Status, f.Severity})
	}
	return out
}

func results(list ...hdf.Status) []hdf.Result {
	var out []hdf.Result
	for _, s := range list {
		out = append(out, hdf.Result{Status: s})
	}
	return out
}

func TestResults_Findings_overlays(t *testing.T) {
	r := &hdf.Results{Profiles: []hdf.Profile{
		{Name: "top", Controls: []hdf.Control{{ID: "a", Impact: 0.5}, {ID: "b", Impact: 0.5}}},
		{Name: "middle", ParentProfile: "top", Controls: []hdf.Control{{ID: "a", Impact: 0.5}}},
		{Name: "base", ParentProfile: "middle", Controls: []hdf.Control{
			{ID: "a", Impact: 0.7, Results: results(hdf.Failed)},
			{ID: "c", Impact: 0.7, Results: results(hdf.Passed)},
		}},
		{Name: "other", Controls: []hdf.Control{
			{ID: "a", Impact: 1, Results: results(hdf.Passed)},
			{ID: "a", Impact: 1, Results: results(hdf.Skipped)},
		}},
	}}
	r.Seal()
	want := []seen{
		{"top", "a", 1, hdf.Failed, hdf.High},
		{"top", "b", 0, hdf.Error, hdf.Medium},
		{"base", "c", 1, hdf.Passed, hdf.High},
		{"other", "a", 1, hdf.Passed, hdf.Critical},
		{"other", "a", 1, hdf.Skipped, hdf.Critical},
	}
	if diff := cmp.Diff(want, findings(r)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if got := r.Counts(); got != (hdf.Counts{Passed: 2, Failed: 1, Skipped: 1, Error: 1}) || r.FailureCount != 2 {
		t.Errorf("counts %+v, failure_count %d", got, r.FailureCount)
	}
	if s := r.Profiles[0].Controls[0].Status; s != hdf.Failed {
		t.Errorf("the overlay's control is %s, where its base's failed", s)
	}
}

func TestResults_Findings_circleOfOverlays(t *testing.T) {
	r := &hdf.Results{Profiles: []hdf.Profile{
		{Name: "a", ParentProfile: "b", Controls: []hdf.Control{{ID: "x", Impact: 1, Results: results(hdf.Passed)}}},
		{Name: "b", ParentProfile: "a", Controls: []hdf.Control{{ID: "y", Impact: 1, Results: results(hdf.Passed)}}},
	}}
	if got := len(r.Findings()); got != 2 {
		t.Errorf("%d findings, want 2", got)
	}
}

func TestJudge(t *testing.T) {
	waived := map[string]any{"skipped_due_to_waiver": true}
	for name, test := range map[string]struct {
		control hdf.Control
		want    hdf.Status
	}{
		"the worst result counts":        {hdf.Control{Impact: 1, Results: results(hdf.Passed, hdf.Failed, hdf.Skipped)}, hdf.Failed},
		"no results":                     {hdf.Control{Impact: 1}, hdf.Error},
		"failed without impact":          {hdf.Control{Results: results(hdf.Failed)}, hdf.NotApplicable},
		"an error without impact":        {hdf.Control{Results: []hdf.Result{{Status: hdf.Failed, Backtrace: []string{"x"}}}}, hdf.Error},
		"waived":                         {hdf.Control{Impact: 1, WaiverData: waived, Results: results(hdf.Skipped)}, hdf.NotApplicable},
		"waived, but run and failed":     {hdf.Control{Impact: 1, WaiverData: map[string]any{"skipped_due_to_waiver": false}, Results: results(hdf.Failed)}, hdf.Failed},
		"a waiver of an unexpected type": {hdf.Control{Impact: 1, WaiverData: map[string]any{"skipped_due_to_waiver": map[string]any{}}, Results: results(hdf.Failed)}, hdf.NotApplicable},
	} {
		t.Run(name, func(t *testing.T) {
			if got := hdf.Judge(&test.control); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestResults_Span(t *testing.T) {
	r := &hdf.Results{Profiles: []hdf.Profile{{Controls: []hdf.Control{{Results: []hdf.Result{
		{StartTime: "2026-01-02T03:04:06+01:00"}, {StartTime: "2026-01-02 02:04:05 +0000", RunTime: 2}, {StartTime: "yesterday"}, {},
	}}}}}}
	start, end := r.Span()
	want := time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC)
	if !start.Equal(want) || !end.Equal(want.Add(2*time.Second)) {
		t.Errorf("from %v to %v", start, end)
	}
}
