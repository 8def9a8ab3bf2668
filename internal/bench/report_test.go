package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReport_Print(t *testing.T) {
	var r Report
	r.Add(
		Row{Name: "requests", Value: 1200.4, Unit: "1/s", Peer: "floor", PeerValue: 1000, Bar: 0.8, More: true},
		Row{Name: "latency", Value: 12.345, Unit: "µs", Peer: "floor", PeerValue: 8, Bar: 1.5},
		Row{Name: "memory", Value: 0.5, Unit: "MiB"},
	)
	var out strings.Builder
	r.Print(&out)
	want := `WHAT      VALUE     BESIDE  VALUE     RATIO  BAR
requests  1200 1/s  floor   1000 1/s  1.20   ≥ 0.80 kept
latency   12.3 µs   floor   8 µs      1.54   ≤ 1.50 MISSED
memory    0.5 MiB   -       -         -      -
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}
