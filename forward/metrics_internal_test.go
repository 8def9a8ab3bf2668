package forward

import (
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Whoever calls, under however many names, can't fill the hub's memory with
// series: those beyond the limit are counted together.
func TestMetrics_series_are_bounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := newMetrics(reg, true)
	if err != nil {
		t.Fatal(err)
	}
	count := func(agent, caller string) {
		s := m.of(route4{agent, "x-web", "main", caller})
		s.running.Inc()
		s.end(&exchange{status: 200})
	}
	const callers = 3 * maxSeries
	for i := range callers {
		count("edge", "caller-"+strconv.Itoa(i))
	}
	count("edge", "caller-0") // it has its own, and keeps it
	for i := range 2 * maxRoutes {
		count("agent-"+strconv.Itoa(i), "one")
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total, first, others, all := 0., 0., 0., 0
	for _, f := range families {
		if f.GetName() != "reeve_forward_requests_total" {
			continue
		}
		all = len(f.GetMetric())
		for _, s := range f.GetMetric() {
			n := s.GetCounter().GetValue()
			total += n
			for _, l := range s.GetLabel() {
				switch {
				case l.GetName() == "caller" && l.GetValue() == "caller-0":
					first += n
				case l.GetName() == "caller" && l.GetValue() == manyCallers:
					others += n
				}
			}
		}
	}
	if all > maxRoutes+1 {
		t.Errorf("%d series, want at most %d", all, maxRoutes+1)
	}
	if total != callers+1+2*maxRoutes || first != 2 || others != total-maxSeries-1 {
		t.Errorf("%v requests in all, %v of the first caller, %v of others", total, first, others)
	}
}
