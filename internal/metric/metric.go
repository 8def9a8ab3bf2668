// Package metric is a registry of Prometheus metrics that can say what is in
// it, also of what nothing was counted yet.
package metric

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Registry is a Prometheus registry.
type Registry struct {
	*prometheus.Registry

	mu    sync.Mutex
	known map[string]Description // guarded by mu; by name
}

// Description is what is known of a metric.
type Description struct {
	Name, Help string
	// Type is counter, gauge or histogram; empty if the collector is one of
	// its own kind.
	Type   string
	Labels []string
}

// NewRegistry makes an empty one.
func NewRegistry() *Registry {
	return &Registry{Registry: prometheus.NewRegistry(), known: map[string]Description{}}
}

// Register implements prometheus.Registerer.
func (r *Registry) Register(c prometheus.Collector) error {
	if err := r.Registry.Register(c); err != nil {
		return err
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		c.Describe(descs)
		close(descs)
	}()
	r.mu.Lock()
	defer r.mu.Unlock()
	for d := range descs {
		if about, ok := parse(d.String()); ok {
			about.Type = typeOf(c)
			r.known[about.Name] = about
		}
	}
	return nil
}

// MustRegister implements prometheus.Registerer.
func (r *Registry) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// Descriptions are of all metrics, by name.
func (r *Registry) Descriptions() []Description {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Description, 0, len(r.known))
	for _, d := range r.known {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b Description) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func typeOf(c prometheus.Collector) string {
	switch c.(type) {
	case *prometheus.CounterVec:
		return "counter"
	case *prometheus.GaugeVec:
		return "gauge"
	case *prometheus.HistogramVec:
		return "histogram"
	}
	var value dto.Metric
	if m, ok := c.(prometheus.Metric); !ok || m.Write(&value) != nil {
		return ""
	}
	switch {
	case value.Counter != nil:
		return "counter"
	case value.Gauge != nil:
		return "gauge"
	case value.Histogram != nil:
		return "histogram"
	}
	return ""
}

// A Desc has no other way to tell what is in it.
var desc = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "(.*?)"(?:, unit: "[^"]*")?, constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

func parse(text string) (Description, bool) {
	m := desc.FindStringSubmatch(text)
	if m == nil {
		return Description{}, false
	}
	d := Description{Name: m[1], Help: strings.ReplaceAll(m[2], `\"`, `"`)}
	for l := range strings.SplitSeq(m[3], ",") {
		if name, _, ok := strings.Cut(l, "="); ok {
			d.Labels = append(d.Labels, name)
		}
	}
	for l := range strings.SplitSeq(m[4], ",") {
		if l != "" {
			d.Labels = append(d.Labels, l)
		}
	}
	return d, true
}
