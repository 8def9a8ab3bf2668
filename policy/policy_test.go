package policy

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
)

func TestScanOutcome(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	subject := fleet.Subject{Owner: "edge/shop", Repo: "web-0/nginx"}
	var twelve []Control
	for i := range 12 {
		twelve = append(twelve, Control{ID: fmt.Sprintf("cb-%02d", i+1), Title: "Nothing  is\nleft open", Status: hdf.Failed})
	}
	twelve[1] = Control{ID: "cb-02", Title: "cb-02", Status: hdf.Error}

	for _, tc := range []struct {
		name string
		scan Scan
		want fleet.Outcome
	}{{
		name: "passed, in one sentence",
		scan: Scan{ID: "s1", Subject: subject, Policy: "base", Passed: true, Counts: hdf.Counts{Passed: 3, Skipped: 1}, At: at},
		want: fleet.Outcome{Subject: subject, Policy: "base", Pass: true, Run: "s1", At: at, Details: `base passed on edge/shop web-0/nginx: of 4 controls 3 passed, 0 failed, 1 were skipped and 0 could not be judged.
Scan s1 has the whole result.
`},
	}, {
		name: "failed, with bounds and the first ten controls",
		scan: Scan{
			ID: "s2", Subject: subject, Policy: "base/strict", Counts: hdf.Counts{Passed: 1, Failed: 11, Error: 1}, At: at,
			Findings: []string{"compliance is 8, must be at least 70"}, Bad: twelve,
		},
		want: fleet.Outcome{Subject: subject, Policy: "base/strict", Run: "s2", At: at, Details: `base/strict failed on edge/shop web-0/nginx: of 13 controls 1 passed, 11 failed, 0 were skipped and 1 could not be judged.
Bounds that were not met:
- compliance is 8, must be at least 70
Controls that did not pass:
- cb-01: Nothing is left open
- cb-02 (could not be judged)
- cb-03: Nothing is left open
- cb-04: Nothing is left open
- cb-05: Nothing is left open
- cb-06: Nothing is left open
- cb-07: Nothing is left open
- cb-08: Nothing is left open
- cb-09: Nothing is left open
- cb-10: Nothing is left open
- and 2 more
Scan s2 has the whole result.
`},
	}} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, ScanOutcome(tc.scan)); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
}
