package github

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reeve.dev/reeve/fleet"
)

// stats counts what a Runner does.
type stats struct {
	results *prometheus.CounterVec

	completed chan struct{} // a cycle was

	mu    sync.Mutex
	cycle map[[2]string]time.Time // guarded by mu; connection and organisation → the last whole cycle's end
}

func newStats() *stats {
	return &stats{
		results:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "reeve_github_results_total", Help: "Checks of policies on repositories, by what they came to."}, []string{"github", "verdict"}),
		completed: make(chan struct{}, 1),
		cycle:     map[[2]string]time.Time{},
	}
}

func (s *stats) count(connection string, r fleet.Result) {
	verdict := "failed"
	switch {
	case r.Unknown != "":
		verdict = "unknown"
	case r.Outcome.Pass:
		verdict = "passed"
	}
	s.results.WithLabelValues(connection, verdict).Inc()
}

func (s *stats) complete(connection, organisation string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cycle[[2]string{connection, organisation}] = time.Now()
	select {
	case s.completed <- struct{}{}:
	default:
	}
}

// Status is how the checks of one organisation stand, as far as this hub makes
// them.
type Status struct {
	Connection, Organisation string
	// Completed is when this hub last checked all repositories; zero: not yet.
	Completed time.Time
	LimitStatus
}

// Status tells how each organisation stands that this hub knows; none for a nil
// Runner.
func (r *Runner) Status() (out []Status) {
	if r == nil {
		return nil
	}
	for _, c := range r.conns {
		c.mu.Lock()
		for _, a := range c.current {
			out = append(out, Status{Connection: c.cfg.Name, Organisation: a.login, LimitStatus: a.limits.status()})
		}
		c.mu.Unlock()
	}
	r.stats.mu.Lock()
	defer r.stats.mu.Unlock()
	slices.SortFunc(out, func(a, b Status) int {
		return cmp.Or(strings.Compare(a.Connection, b.Connection), strings.Compare(a.Organisation, b.Organisation))
	})
	for i, s := range out {
		out[i].Completed = r.stats.cycle[[2]string{s.Connection, s.Organisation}]
	}
	return out
}

var (
	statusLabels  = []string{"github", "organisation"}
	remainingDesc = prometheus.NewDesc("reeve_github_rate_limit_remaining", "Requests that GitHub still allows until its limit begins anew.", append(statusLabels, "resource"), nil)
	limitDesc     = prometheus.NewDesc("reeve_github_rate_limit_limit", "Requests that GitHub allows in one period of its limit.", append(statusLabels, "resource"), nil)
	waitsDesc     = prometheus.NewDesc("reeve_github_rate_limit_waits_total", "How often requests had to wait because of GitHub's limits.", statusLabels, nil)
	requestsDesc  = prometheus.NewDesc("reeve_github_requests_total", "Requests that were sent to GitHub.", statusLabels, nil)
	unchangedDesc = prometheus.NewDesc("reeve_github_requests_unchanged_total", "Those of the requests that cost nothing, since the answer was the same as before.", statusLabels, nil)
	cycleDesc     = prometheus.NewDesc("reeve_github_cycle_end_timestamp_seconds", "When this hub last checked all repositories of an organisation.", statusLabels, nil)
)

// Describe implements prometheus.Collector.
func (r *Runner) Describe(ch chan<- *prometheus.Desc) {
	r.stats.results.Describe(ch)
	for _, d := range []*prometheus.Desc{remainingDesc, limitDesc, waitsDesc, requestsDesc, unchangedDesc, cycleDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (r *Runner) Collect(ch chan<- prometheus.Metric) {
	r.stats.results.Collect(ch)
	for _, s := range r.Status() {
		labels := []string{s.Connection, s.Organisation}
		value := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, more ...string) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, append(labels[:2:2], more...)...)
		}
		for _, l := range s.Limits {
			value(remainingDesc, prometheus.GaugeValue, float64(l.Remaining), l.Resource)
			value(limitDesc, prometheus.GaugeValue, float64(l.Limit), l.Resource)
		}
		value(waitsDesc, prometheus.CounterValue, float64(s.Waits))
		value(requestsDesc, prometheus.CounterValue, float64(s.Requests))
		value(unchangedDesc, prometheus.CounterValue, float64(s.Unchanged))
		if !s.Completed.IsZero() {
			value(cycleDesc, prometheus.GaugeValue, float64(s.Completed.UnixMilli())/1000)
		}
	}
}
