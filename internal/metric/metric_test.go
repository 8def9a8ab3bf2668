package metric_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"reeve.dev/reeve/internal/metric"
)

func TestRegistry(t *testing.T) {
	r := metric.NewRegistry()
	r.MustRegister(
		prometheus.NewCounterVec(prometheus.CounterOpts{Name: "a_total", Help: `As "such".`}, []string{"x", "y"}),
		prometheus.NewCounter(prometheus.CounterOpts{Name: "b_total", Help: "Bs."}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "c_total", Help: "Cs."}, func() float64 { return 0 }),
		prometheus.NewGauge(prometheus.GaugeOpts{Name: "d", Help: "Ds.", ConstLabels: prometheus.Labels{"z": "1"}}),
		prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "e", Help: "Es."}, []string{"x"}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "f", Help: "Fs."}, func() float64 { return 0 }),
		prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "g_seconds", Help: "Gs."}, nil),
		prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h_seconds", Help: "Hs."}),
	)
	if err := r.Register(prometheus.NewCounter(prometheus.CounterOpts{Name: "b_total", Help: "Bs."})); err == nil {
		t.Error("a metric was taken twice")
	}
	want := []metric.Description{
		{Name: "a_total", Help: `As "such".`, Type: "counter", Labels: []string{"x", "y"}},
		{Name: "b_total", Help: "Bs.", Type: "counter"},
		{Name: "c_total", Help: "Cs.", Type: "counter"},
		{Name: "d", Help: "Ds.", Type: "gauge", Labels: []string{"z"}},
		{Name: "e", Help: "Es.", Type: "gauge", Labels: []string{"x"}},
		{Name: "f", Help: "Fs.", Type: "gauge"},
		{Name: "g_seconds", Help: "Gs.", Type: "histogram"},
		{Name: "h_seconds", Help: "Hs.", Type: "histogram"},
	}
	if diff := cmp.Diff(want, r.Descriptions()); diff != "" {
		t.Error(diff)
	}
}
