package alert

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are told of every sink by its name; those of a family share one.
type metrics struct {
	attempts *prometheus.CounterVec
	took     *prometheus.HistogramVec
	pending  *prometheus.GaugeVec
	bytes    *prometheus.GaugeVec
	oldest   *prometheus.GaugeVec
	dead     *prometheus.GaugeVec
	paused   *prometheus.GaugeVec
}

// laneMetrics are those of one sink.
type laneMetrics struct {
	results map[string]prometheus.Counter
	took    prometheus.Observer
}

const (
	delivered = "delivered"
	failed    = "failed"
	refused   = "refused"
	turned    = "paused"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "reeve_alert_" + name, Help: help}, []string{"sink"})
	}
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reeve_alert_attempts_total",
			Help: "Attempts to deliver, by how they ended: delivered; failed, to be tried again; refused, for good; paused, as the sink takes nothing.",
		}, []string{"sink", "result"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "reeve_alert_attempt_seconds", Help: "How long attempts to deliver took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}, []string{"sink"}),
		pending: gauge("pending_alerts", "Alerts that wait for delivery."),
		bytes:   gauge("pending_bytes", "Bytes of the texts of alerts that wait for delivery."),
		oldest:  gauge("oldest_pending_seconds", "Age of the alert that waits longest; 0: none waits."),
		dead:    gauge("dead_alerts", "Alerts that were given up, and can be replayed."),
		paused:  gauge("sink_paused", "1 while the sink is paused, by itself or by a person."),
	}
	if reg != nil {
		reg.MustRegister(m.attempts, m.took, m.pending, m.bytes, m.oldest, m.dead, m.paused)
	}
	return m
}

func (m *metrics) of(sink string) laneMetrics {
	l := laneMetrics{results: map[string]prometheus.Counter{}, took: m.took.WithLabelValues(sink)}
	for _, r := range []string{delivered, failed, refused, turned} {
		l.results[r] = m.attempts.WithLabelValues(sink, r)
	}
	return l
}

func (l laneMetrics) attempted(err error, took time.Duration) {
	l.took.Observe(took.Seconds())
	how := delivered
	if err != nil {
		class, _ := classOf(err)
		how = map[Class]string{Retry: failed, Permanent: refused, Pause: turned}[class]
	}
	l.results[how].Inc()
}

// waiting sets what every hub on the database would say; label is what a sink
// is called.
func (m *metrics) waiting(all []Backlog, label func(sink string) string, now time.Time) {
	for _, g := range []*prometheus.GaugeVec{m.pending, m.bytes, m.oldest, m.dead, m.paused} {
		g.Reset() // a sink that nothing waits for has none
	}
	oldest, paused := map[string]float64{}, map[string]float64{}
	for _, b := range all {
		name := label(b.Sink)
		m.pending.WithLabelValues(name).Add(float64(b.Pending))
		m.bytes.WithLabelValues(name).Add(float64(b.Bytes))
		m.dead.WithLabelValues(name).Add(float64(b.Dead))
		age := 0.0
		if !b.Oldest.IsZero() {
			age = now.Sub(b.Oldest).Seconds()
		}
		oldest[name] = max(oldest[name], age)
		if b.Paused {
			paused[name] = 1
		}
	}
	for name, age := range oldest {
		m.oldest.WithLabelValues(name).Set(age)
		m.paused.WithLabelValues(name).Set(paused[name])
	}
}
