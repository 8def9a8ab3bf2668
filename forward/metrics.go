package forward

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count exchanges by service and, at the hub, by caller. Labels hold
// only names that an authenticated caller or the configuration gave, and there
// are at most maxSeries callers of services together: those beyond are counted
// as manyCallers.
type metrics struct {
	requests *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	running  *prometheus.GaugeVec
	first    *prometheus.HistogramVec
	// tunnel and upstream are the parts of first; nil at the agent, whose
	// first is the service's.
	tunnel, upstream *prometheus.HistogramVec

	mu     sync.RWMutex
	series map[route4]*series // guarded by mu
}

const (
	// maxSeries bounds the callers of services that have series of their own.
	maxSeries = 1000
	// maxRoutes bounds them all, should somebody be given many services.
	maxRoutes   = 4 * maxSeries
	manyCallers = "(others)"
)

// route4 is whose requests to which service are counted. At the agent it has
// no agent and no caller.
type route4 struct{ agent, typ, service, caller string }

// series are the metrics of one route.
type series struct {
	requests                *prometheus.CounterVec // by status
	ok                      prometheus.Counter     // of requests, for 200
	received, sent          prometheus.Counter
	running                 prometheus.Gauge
	first, tunnel, upstream prometheus.Observer // the last two nil at the agent
}

// newMetrics registers the metrics of the hub or an agent where reg isn't nil.
func newMetrics(reg prometheus.Registerer, hub bool) (*metrics, error) {
	labels := []string{"type", "service"}
	if hub {
		labels = []string{"agent", "type", "service", "caller"}
	}
	seconds := func(name, help string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "reeve_forward_" + name + "_seconds", Help: help, Buckets: prometheus.ExponentialBuckets(0.0005, 3, 11),
		}, labels)
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reeve_forward_requests_total",
			Help: "Forwarded and refused requests that have ended, by status. 499: the caller left.",
		}, append(labels[:len(labels):len(labels)], "status")),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "reeve_forward_bytes_total",
			Help: "Bytes of bodies and upgraded connections, received from callers and sent to them.",
		}, append(labels[:len(labels):len(labels)], "direction")),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "reeve_forward_running",
			Help: "Forwarded requests that haven't ended.",
		}, labels),
		first:  seconds("answer", "Time from a request to the head of its answer."),
		series: map[route4]*series{},
	}
	all := []prometheus.Collector{m.requests, m.bytes, m.running, m.first}
	if hub {
		m.upstream = seconds("upstream", "The part of the time to an answer that the service took, as the agent saw it.")
		m.tunnel = seconds("tunnel", "The part of the time to an answer that hub, link and agent took.")
		all = append(all, m.upstream, m.tunnel)
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// of answers the series of a route.
func (m *metrics) of(r route4) *series {
	m.mu.RLock()
	s := m.series[r]
	m.mu.RUnlock()
	if s != nil {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.series) >= maxSeries && m.series[r] == nil && r.caller != "" {
		r.caller = manyCallers
	}
	if len(m.series) >= maxRoutes && m.series[r] == nil {
		r = route4{manyCallers, manyCallers, manyCallers, manyCallers}
	}
	if s := m.series[r]; s != nil {
		return s
	}
	values := []string{r.typ, r.service}
	if m.upstream != nil {
		values = []string{r.agent, r.typ, r.service, r.caller}
	}
	labels := prometheus.Labels{"type": r.typ, "service": r.service}
	if m.upstream != nil {
		labels["agent"], labels["caller"] = r.agent, r.caller
	}
	requests := m.requests.MustCurryWith(labels)
	s = &series{
		requests: requests,
		ok:       requests.WithLabelValues("200"),
		received: m.bytes.WithLabelValues(append(values[:len(values):len(values)], "received")...),
		sent:     m.bytes.WithLabelValues(append(values[:len(values):len(values)], "sent")...),
		running:  m.running.WithLabelValues(values...),
		first:    m.first.WithLabelValues(values...),
	}
	if m.upstream != nil {
		s.upstream, s.tunnel = m.upstream.WithLabelValues(values...), m.tunnel.WithLabelValues(values...)
	}
	m.series[r] = s
	return s
}

// end counts an exchange that began with running.Inc.
func (s *series) end(x *exchange) {
	s.running.Dec()
	if x.status == http.StatusOK {
		s.ok.Inc()
	} else {
		s.requests.WithLabelValues(strconv.Itoa(x.status)).Inc()
	}
	if n := x.received.Load(); n > 0 {
		s.received.Add(float64(n))
	}
	s.sent.Add(float64(x.sent.Load()))
	if x.first > 0 {
		s.first.Observe(x.first.Seconds())
	}
	if s.upstream != nil && x.upstream > 0 {
		s.upstream.Observe(x.upstream.Seconds())
		s.tunnel.Observe(max(0, x.first-x.upstream).Seconds())
	}
}

// upstreamHeader is on an answer from an agent, for the hub alone: how long
// the service took to begin it, in microseconds.
const upstreamHeader = "Reeve-Upstream"

// noteUpstream puts onto an answer how long its service took.
func noteUpstream(h http.Header, d time.Duration) {
	h[upstreamHeader] = []string{strconv.FormatInt(max(1, d.Microseconds()), 10)}
}

// takeUpstream takes that off again; 0 is an answer that doesn't say.
func takeUpstream(h http.Header) time.Duration {
	v := h[upstreamHeader]
	if len(v) == 0 {
		return 0
	}
	delete(h, upstreamHeader)
	us, err := strconv.ParseUint(v[0], 10, 40) // some days
	if err != nil {
		return 0
	}
	return time.Duration(us) * time.Microsecond
}
