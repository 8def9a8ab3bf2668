package agent

import "github.com/prometheus/client_golang/prometheus"

var certificateDesc = prometheus.NewDesc("reeve_agent_certificate_end_timestamp_seconds", "When the agent's certificate ends, in seconds since 1970.", nil, nil)

// observe adds what the agent tells of itself.
func (a *Agent) observe() {
	a.metrics.MustRegister(
		//lint:ignore SA1019 the package collectors brings database/sql along
		prometheus.NewGoCollector(), prometheus.NewProcessCollector(prometheus.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "reeve_agent_info", Help: "Always 1; the version is a label.", ConstLabels: prometheus.Labels{"version": a.version},
		}, func() float64 { return 1 }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "reeve_agent_links", Help: "Connections to the hub."},
			func() float64 { return float64(a.up.registered.Load()) }),
		certificate{a},
	)
}

// certificate tells when that ends, once there is one.
type certificate struct{ a *Agent }

func (c certificate) Describe(out chan<- *prometheus.Desc) { out <- certificateDesc }

func (c certificate) Collect(out chan<- prometheus.Metric) {
	if identity := c.a.joined.Load(); identity != nil {
		out <- prometheus.MustNewConstMetric(certificateDesc, prometheus.GaugeValue, float64(identity.NotAfter().Unix()))
	}
}
