package forward

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count exchanges by service. Labels hold only names that an
// authenticated caller or the configuration gave.
type metrics struct {
	requests *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	first    *prometheus.HistogramVec
	running  *prometheus.GaugeVec
}

// newMetrics registers the metrics where reg isn't nil.
func newMetrics(reg prometheus.Registerer, labels ...string) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reeve_forward_requests_total",
			Help: "Forwarded requests that have ended, by status. 499: the caller left.",
		}, append(labels, "status")),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reeve_forward_bytes_total",
			Help: "Bytes of bodies and upgraded connections, received from callers and sent to them.",
		}, append(labels, "direction")),
		first: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "reeve_forward_answer_seconds",
			Help:    "Time from a request to the head of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 3, 11),
		}, labels),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "reeve_forward_running",
			Help: "Forwarded requests that haven't ended.",
		}, labels),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.bytes, m.first, m.running} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) begin(labels ...string) { m.running.WithLabelValues(labels...).Inc() }

func (m *metrics) end(x *exchange, labels ...string) {
	m.running.WithLabelValues(labels...).Dec()
	m.requests.WithLabelValues(append(labels, strconv.Itoa(x.status))...).Inc()
	m.bytes.WithLabelValues(append(labels, "received")...).Add(float64(x.received.Load()))
	m.bytes.WithLabelValues(append(labels, "sent")...).Add(float64(x.sent.Load()))
	if x.first > 0 {
		m.first.WithLabelValues(labels...).Observe(x.first.Seconds())
	}
}
