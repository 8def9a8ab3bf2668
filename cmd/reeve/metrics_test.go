package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/internal/metric"
	"reeve.dev/reeve/policy/github"
)

// metricsOf are those of a hub and an agent that have all that has metrics.
func metricsOf(t *testing.T) (ofHub, ofAgent []metric.Description) {
	t.Helper()
	dir := t.TempDir()
	if code := run(t.Context(), []string{"ca", "init", "--dir", filepath.Join(dir, "ca")}, nil, t.Output(), t.Output()); code != 0 {
		t.Fatalf("ca init: exit code %d", code)
	}
	hc := hub.Defaults()
	hc.DataDir, hc.CADir = filepath.Join(dir, "hub"), filepath.Join(dir, "ca")
	hc.Listen = hub.ListenConfig{API: "127.0.0.1:0", Services: "127.0.0.1:0", Metrics: "127.0.0.1:0"}
	t.Setenv("GITHUB_TOKEN", "not asked for")
	hc.GitHub = []github.Config{{Name: "test", TokenEnv: "GITHUB_TOKEN", Organisations: []string{"acme"}}}
	h, err := hub.New(hc, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	ac := agent.Defaults()
	ac.DataDir, ac.Metrics, ac.Hub.URL = filepath.Join(dir, "agent"), "", "https://127.0.0.1:1"
	ac.Insights.Broker.URL = "amqp://127.0.0.1:1"
	a, err := agent.New(ac, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ours := func(all []metric.Description) []metric.Description {
		return slices.DeleteFunc(all, func(d metric.Description) bool { return !strings.HasPrefix(d.Name, "reeve_") })
	}
	return ours(h.Metrics()), ours(a.Metrics())
}

// Every metric says what it counts, in base units.
func TestMetrics(t *testing.T) {
	ofHub, ofAgent := metricsOf(t)
	if len(ofHub) < 15 || len(ofAgent) < 8 {
		t.Fatalf("only %d and %d metrics", len(ofHub), len(ofAgent))
	}
	otherUnits := regexp.MustCompile(`_(milliseconds|ms|microseconds|us|ns|minutes|hours|days|kilobytes|kb|kib|megabytes|mb|mib|percent)(_|$)`)
	for _, d := range slices.Concat(ofHub, ofAgent) {
		if !strings.HasSuffix(d.Help, ".") || strings.Contains(d.Help, "|") {
			t.Errorf("%s: help %q", d.Name, d.Help)
		}
		if total := strings.HasSuffix(d.Name, "_total"); d.Type == "counter" && !total || (d.Type == "gauge" || d.Type == "histogram") && total {
			t.Errorf("%s is a %s: counters end in _total, and nothing else does", d.Name, d.Type)
		}
		if d.Type == "histogram" && !strings.HasSuffix(d.Name, "_seconds") && !strings.HasSuffix(d.Name, "_bytes") {
			t.Errorf("%s is a histogram without a unit", d.Name)
		}
		if otherUnits.MatchString(d.Name) {
			t.Errorf("%s isn't in seconds or bytes", d.Name)
		}
	}
}

// The dashboard and the alert rules name metrics, and labels of theirs, that
// there are.
func TestMonitoring(t *testing.T) {
	ofHub, ofAgent := metricsOf(t)
	known := map[string]metric.Description{}
	for _, d := range slices.Concat(ofAgent, ofHub) { // the hub's have more labels
		known[d.Name] = d
		if d.Type == "histogram" {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				known[d.Name+suffix] = d
			}
		}
	}
	files := filepath.Join("..", "..", "deploy", "charts", "reeve-hub", "files")
	var dashboard struct {
		UID    string
		Panels []struct {
			ID, Type, Title any
			Targets         []struct{ Expr string }
		}
		Templating struct{ List []struct{ Query string } }
	}
	text, err := os.ReadFile(filepath.Join(files, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	var exprs []string
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			exprs = append(exprs, target.Expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		exprs = append(exprs, v.Query)
	}
	rules, err := os.ReadFile(filepath.Join(files, "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	exprs = append(exprs, string(rules))
	names := regexp.MustCompile(`\breeve_[a-z0-9_]+\b(?:\{([^}]*)\})?`)
	labels := regexp.MustCompile(`([a-z_]+)(?:=|!=|=~|!~)"`)
	seen := 0
	for _, e := range exprs {
		if strings.Count(e, "(") != strings.Count(e, ")") {
			t.Errorf("%.200s: brackets", e)
		}
		for _, m := range names.FindAllStringSubmatch(e, -1) {
			seen++
			name, _, _ := strings.Cut(m[0], "{")
			d, ok := known[name]
			if !ok {
				t.Errorf("there is no metric %s", name)
				continue
			}
			for _, l := range labels.FindAllStringSubmatch(m[1], -1) {
				if !slices.Contains(d.Labels, l[1]) {
					t.Errorf("%s has no label %s: %v", name, l[1], d.Labels)
				}
			}
		}
	}
	if seen < 40 {
		t.Errorf("only %d metrics were found in dashboard and rules", seen)
	}
}
