package scan

import (
	"strings"
	"testing"

	"reeve.dev/reeve/hdf"
)

func TestJudge(t *testing.T) {
	document := func(statuses ...hdf.Status) *hdf.Results {
		var controls []hdf.Control
		for _, s := range statuses {
			controls = append(controls, hdf.Control{Results: []hdf.Result{{Status: s}}})
		}
		doc := &hdf.Results{Profiles: []hdf.Profile{{Controls: controls}}}
		doc.Seal()
		return doc
	}
	for name, tc := range map[string]struct {
		doc       *hdf.Results
		threshold bool
		findings  []string
		want      Outcome
		says      string
	}{
		"all passed":                         {document(hdf.Passed, hdf.Passed), false, nil, Passed, ""},
		"one skipped":                        {document(hdf.Passed, hdf.Skipped), false, nil, Passed, ""},
		"one failed":                         {document(hdf.Passed, hdf.Failed), false, nil, Failed, ""},
		"one in error":                       {document(hdf.Passed, hdf.Error), false, nil, Failed, ""},
		"all skipped":                        {document(hdf.Skipped, hdf.Skipped), false, nil, Failed, "all 2 controls were skipped"},
		"no control":                         {document(), false, nil, Failed, "no control was run"},
		"no control, and a threshold is met": {document(), true, nil, Failed, "no control was run"},
		"a threshold that is met":            {document(hdf.Failed, hdf.Passed), true, nil, Passed, ""},
		"a threshold that isn't met":         {document(hdf.Passed), true, []string{"too few"}, Failed, "too few"},
	} {
		t.Run(name, func(t *testing.T) {
			v := judge(tc.doc, tc.threshold, tc.findings)
			if v.Outcome != tc.want || !strings.Contains(strings.Join(v.Findings, "\n"), tc.says) {
				t.Errorf("got %+v", v)
			}
		})
	}
}
