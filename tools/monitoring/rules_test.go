package monitoring

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/template"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"go.yaml.in/yaml/v3"
)

const files = "../../deploy/charts/reeve-hub/files/"

// cases are the file's: what of it is used here.
type cases struct {
	RuleFiles []string       `yaml:"rule_files"`
	Interval  model.Duration `yaml:"evaluation_interval"`
	Tests     []struct {
		Name     string
		Interval model.Duration
		Input    []struct{ Series, Values string } `yaml:"input_series"`
		Alerts   []struct {
			At    model.Duration `yaml:"eval_time"`
			Name  string         `yaml:"alertname"`
			Alert []alert        `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

type alert struct {
	Labels      map[string]string `yaml:"exp_labels"`
	Annotations map[string]string `yaml:"exp_annotations"`
}

func readRules(t *testing.T, path string) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(path, false, model.LegacyValidation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	var rules []rulefmt.Rule
	for _, g := range groups.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

func TestRules(t *testing.T) {
	text, err := os.ReadFile("testdata/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c cases
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	rules := map[string]rulefmt.Rule{}
	for _, path := range c.RuleFiles {
		for _, r := range readRules(t, filepath.Join("testdata", path)) {
			rules[r.Alert] = r
		}
	}
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, test := range c.Tests {
		t.Run(test.Name, func(t *testing.T) {
			e := newEvaluation(t, time.Duration(test.Interval))
			for _, in := range test.Input {
				e.load(in.Series, in.Values)
			}
			for _, a := range test.Alerts {
				r, ok := rules[a.Name]
				if !ok {
					t.Errorf("there is no alert %s", a.Name)
					continue
				}
				got := e.firing(r, time.Duration(c.Interval), time.Duration(a.At))
				want := a.Alert
				for i, w := range want { // what is left out may be anything
					if w.Annotations == nil && i < len(got) {
						got[i].Annotations = nil
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s after %s: %s", a.Name, a.At, diff)
				}
				fires[a.Name] = fires[a.Name] || len(want) > 0
				rests[a.Name] = rests[a.Name] || len(want) == 0
			}
		})
	}
	for name := range rules {
		if !fires[name] || !rests[name] {
			t.Errorf("%s: testdata/alerts.yaml needs a case in which it fires and one in which it doesn't", name)
		}
	}
}

// evaluation is a database of samples, and the engine that is asked of them.
type evaluation struct {
	*testing.T
	interval time.Duration
	engine   *promql.Engine
	series   []storage.Series
}

func newEvaluation(t *testing.T, interval time.Duration) *evaluation {
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{})})
	t.Cleanup(func() { engine.Close() })
	return &evaluation{T: t, interval: interval, engine: engine}
}

// point is a number at a time, in milliseconds.
type point struct {
	t int64
	f float64
}

func (p point) T() int64                    { return p.t }
func (point) ST() int64                     { return 0 }
func (p point) F() float64                  { return p.f }
func (point) H() *histogram.Histogram       { return nil }
func (point) FH() *histogram.FloatHistogram { return nil }
func (point) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (p point) Copy() chunks.Sample         { return p }

// load adds a series with values in promtool's notation.
func (e *evaluation) load(series, values string) {
	e.Helper()
	l, list, err := parser.NewParser(parser.Options{}).ParseSeriesDesc(series + " " + values)
	if err != nil {
		e.Fatal(err)
	}
	var samples []chunks.Sample
	for i, v := range list {
		if !v.Omitted {
			samples = append(samples, point{int64(i) * e.interval.Milliseconds(), v.Value})
		}
	}
	e.series = append(e.series, storage.NewListSeries(l, samples))
}

// query answers what expr is at a time after the beginning.
func (e *evaluation) query(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	q, err := e.engine.NewInstantQuery(ctx, e, nil, expr, at)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	r := q.Exec(ctx)
	if r.Err != nil {
		return nil, r.Err
	}
	if s, err := r.Scalar(); err == nil {
		return promql.Vector{{T: s.T, F: s.V}}, nil
	}
	v, err := r.Vector()
	return slices.Clone(v), err
}

// firing are the alerts of a rule that fire at a time, if it is evaluated
// each interval, as Prometheus does.
func (e *evaluation) firing(r rulefmt.Rule, interval, at time.Duration) []alert {
	e.Helper()
	since := map[string]time.Duration{}
	var firing []alert
	for now := time.Duration(0); now <= at; now += interval {
		ts := time.UnixMilli(now.Milliseconds())
		found, err := e.query(e.Context(), r.Expr, ts)
		if err != nil {
			e.Fatalf("%s: %v", r.Alert, err)
		}
		before := since
		since, firing = map[string]time.Duration{}, nil
		for _, s := range found {
			a := e.alert(r, s, ts)
			key := fmt.Sprint(a.Labels)
			if _, twice := since[key]; twice {
				e.Fatalf("%s: two alerts %s at once", r.Alert, key)
			}
			began, ok := before[key]
			if !ok {
				began = now
			}
			since[key] = began
			if now-began >= time.Duration(r.For) {
				firing = append(firing, a)
			}
		}
	}
	slices.SortFunc(firing, func(a, b alert) int { return strings.Compare(fmt.Sprint(a.Labels), fmt.Sprint(b.Labels)) })
	return firing
}

// alert is what Prometheus makes of one element of a rule's expression.
func (e *evaluation) alert(r rulefmt.Rule, s promql.Sample, at time.Time) alert {
	e.Helper()
	all := s.Metric.Map()
	data := template.AlertTemplateData(all, nil, "", s)
	expand := func(text string) string {
		e.Helper()
		out, err := template.NewTemplateExpander(e.Context(), "{{$labels := .Labels}}{{$value := .Value}}"+text, r.Alert, data, model.TimeFromUnixNano(at.UnixNano()), e.query, nil, []string{"missingkey=error"}).Expand()
		if err != nil {
			e.Errorf("%s: %q: %v", r.Alert, text, err)
		}
		return out
	}
	a := alert{Labels: maps.Clone(all), Annotations: map[string]string{}}
	if a.Labels == nil {
		a.Labels = map[string]string{}
	}
	delete(a.Labels, model.MetricNameLabel)
	for k, v := range r.Labels {
		a.Labels[k] = expand(v)
	}
	for k, v := range r.Annotations {
		a.Annotations[k] = expand(v)
	}
	return a
}

// Querier makes e a storage.Queryable.
func (e *evaluation) Querier(int64, int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
		var found []storage.Series
		for _, s := range e.series {
			if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.Labels().Get(m.Name)) }) {
				found = append(found, s)
			}
		}
		return &set{series: found, at: -1}
	}}, nil
}

type set struct {
	series []storage.Series
	at     int
}

func (s *set) Next() bool {
	s.at++
	return s.at < len(s.series)
}
func (s *set) At() storage.Series              { return s.series[s.at] }
func (*set) Err() error                        { return nil }
func (*set) Warnings() annotations.Annotations { return nil }

// Every query of the dashboard is one, with Grafana's variables put in.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile(files + "dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$__rate_interval", "4m", "$__interval", "1m", "$agent", "prod|.+")
	queries := 0
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			queries++
			if _, err := parser.NewParser(parser.Options{}).ParseExpr(variables.Replace(target.Expr)); err != nil {
				t.Errorf("%s: %s: %v", p.Title, target.Expr, err)
			}
		}
	}
	if queries < 25 {
		t.Errorf("only %d queries were found", queries)
	}
}
