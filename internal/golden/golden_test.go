package golden_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/internal/golden"
)

func TestCompare(t *testing.T) {
	var want []golden.Control
	err := json.Unmarshal([]byte(`[
		{"id": "same", "impact": 1, "status": "failed", "results": [
			["passed", "a", null, null], ["failed", "b", null, "at 0x0"]]},
		{"id": "moved", "impact": 1, "status": "passed", "results": [["passed", "a", null, null], ["passed", "b", null, null]]},
		{"id": "words", "impact": 1, "status": "skipped", "results": [["skipped", "a", "why", null]]},
		{"id": "false", "impact": 0.5, "status": "failed", "results": [["failed", "a", null, "no"]]},
		{"id": "lost", "impact": 0.5, "status": "passed", "results": [["passed", "a", null, null]]},
		{"id": "(generated from a.rb:1 *)", "impact": 0.5, "status": "no-result", "results": []}
	]`), &want)
	if err != nil {
		t.Fatal(err)
	}
	got := golden.Of(hdf.Profile{Controls: []hdf.Control{
		{ID: "same", Impact: 1, Status: hdf.Failed, Results: []hdf.Result{
			{Status: hdf.Passed, CodeDesc: "a"}, {Status: hdf.Failed, CodeDesc: "b", Message: "at 0x7f12"},
		}},
		{ID: "moved", Impact: 1, Status: hdf.Passed, Results: []hdf.Result{
			{Status: hdf.Passed, CodeDesc: "b"}, {Status: hdf.Passed, CodeDesc: "a"}, {Status: hdf.Passed, CodeDesc: "c"},
		}},
		{ID: "words", Impact: 0, Status: hdf.Skipped, Results: []hdf.Result{{Status: hdf.Skipped, CodeDesc: "a", SkipMessage: "because"}}},
		{ID: "false", Impact: 0.5, Status: hdf.Passed, Results: []hdf.Result{{Status: hdf.Passed, CodeDesc: "a"}}},
		{ID: "(generated from a.rb:1 0123456789abcdef0123456789abcdef)", Impact: 0.5},
		{ID: "more", Status: hdf.Passed, Results: []hdf.Result{{Status: hdf.Passed, CodeDesc: "a"}}},
	}})
	diff := cmp.Diff(golden.Comparison{
		Controls: 6, ControlsEqual: 4,
		Results: 7, ResultsEqual: 5, WordsEqual: 4,
		FalsePasses: []string{"false"},
		Differences: []golden.Difference{
			{Control: "moved", What: "result", Got: "passed | c"},
			{Control: "words", What: "impact", Want: "1", Got: "0"},
			{Control: "words", What: "words", Want: "a | why | ", Got: "because | "},
			{Control: "false", What: "status", Want: "failed", Got: "passed"},
			{Control: "false", What: "result", Want: "failed | a |  | no", Got: "passed | a"},
			{Control: "lost", What: "status", Want: "passed", Got: "missing"},
			{Control: "lost", What: "result", Want: "passed | a"},
			{Control: "more", What: "status", Want: "missing", Got: "passed"},
		},
	}, golden.Compare(want, got))
	if diff != "" {
		t.Errorf("comparison (-want +got):\n%s", diff)
	}
}
