package hub

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
)

const (
	// stockFor is how long what was counted in the database is told again.
	stockFor  = 5 * time.Second
	stockTime = 3 * time.Second
)

// register adds what the hub tells of itself.
func (h *Hub) register(reg prometheus.Registerer, version string) {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "reeve_hub_" + name, Help: help}, value)
	}
	reg.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "reeve_hub_info", Help: "Always 1; the version is a label.", ConstLabels: prometheus.Labels{"version": version},
		}, func() float64 { return 1 }),
		gauge("links", "Registered links of agents.", func() float64 { return float64(len(h.links.all())) }),
		gauge("ready", "1 if this hub can store what it is given, as /readyz has it.", func() float64 {
			if h.ready.check(context.Background()) != nil {
				return 0
			}
			return 1
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "reeve_alert_refusals_total", Help: "How often outcomes weren't recorded as the outbox was full; who told them tries again.",
		}, func() float64 { return float64(h.store.AlertRefusals()) }),
		gauge("ca_end_timestamp_seconds", "When the CA's certificate ends, in seconds since 1970.", func() float64 { return float64(h.ca.NotAfter().Unix()) }),
		&stock{count: h.store.Unfinished}, policyStock{h},
	)
	if h.github != nil {
		reg.MustRegister(h.github)
	}
}

// stock tells of the scans that aren't over, in the whole database.
type stock struct {
	count func(context.Context) (map[scan.Status]store.Waiting, error)

	mu    sync.Mutex
	known map[scan.Status]store.Waiting // guarded by mu
	at    time.Time                     // guarded by mu
}

var (
	scansDesc  = prometheus.NewDesc("reeve_hub_scans", "Scans that aren't over, of all replicas.", []string{"status"}, nil)
	oldestDesc = prometheus.NewDesc("reeve_hub_scans_oldest_seconds", "Age of the oldest scan that isn't over, since it was asked for; 0: there is none.", []string{"status"}, nil)
)

func (s *stock) Describe(out chan<- *prometheus.Desc) {
	out <- scansDesc
	out <- oldestDesc
}

// Collect leaves out what the database doesn't tell.
func (s *stock) Collect(out chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.at) >= stockFor {
		ctx, cancel := context.WithTimeout(context.Background(), stockTime)
		defer cancel()
		known, err := s.count(ctx)
		if err != nil {
			return
		}
		s.known, s.at = known, time.Now()
	}
	for status, w := range s.known {
		age := 0.0
		if !w.Oldest.IsZero() {
			age = time.Since(w.Oldest).Seconds()
		}
		out <- prometheus.MustNewConstMetric(scansDesc, prometheus.GaugeValue, float64(w.Scans), string(status))
		out <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, age, string(status))
	}
}
