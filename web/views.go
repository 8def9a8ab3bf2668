package web

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"time"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/scan"
)

// recent is how many scans the fleet's view has, overview how many of each
// kind of insight their view has, and lookedAt among how many targets that fail
// those are that stand worst.
const (
	recent   = "8"
	overview = "20"
	lookedAt = "500"
)

type fleetView struct {
	Agents    []api.Agent
	Connected int
	Sinks     []api.Sink
	Scans     list[api.Scan]
	Posture   posture
	// ByAgent are the postures of the agents whose targets were scanned.
	ByAgent map[string]posture
	Worst   []api.TargetState
}

func (h *handler) fleet(r *request) (*page, error) {
	v := fleetView{ByAgent: map[string]posture{}}
	agents, err := ask[api.Agent](r, "/agents", nil, nil)
	if err != nil {
		return nil, err
	}
	sinks, err := ask[api.Sink](r, "/sinks", nil, nil)
	if err != nil {
		return nil, err
	}
	if v.Scans, err = ask[api.Scan](r, "/scans", url.Values{"limit": {recent}}, nil); err != nil {
		return nil, err
	}
	stood, err := ask[api.Posture](r, "/posture", url.Values{"by": {"agent"}}, nil)
	if err != nil {
		return nil, err
	}
	failing, err := ask[api.TargetState](r, "/targets", url.Values{"limit": {lookedAt}, "outcome": {string(scan.Failed)}}, nil)
	if err != nil {
		return nil, err
	}
	for _, a := range agents.Items {
		if a.Connected {
			v.Connected++
		}
	}
	v.Agents, v.Sinks, v.Worst = agents.Items, sinks.Items, worstOf(failing.Items)
	for _, p := range stood.Items {
		v.ByAgent[p.Agent] = newPosture(p)
	}
	v.Posture = newPosture(stood.Items...)
	return &page{View: "fleet", Title: "Fleet", Data: v}, nil
}

type scansView struct {
	Scans                list[api.Scan]
	Status, Agent, Batch string
	Statuses             []scan.Status
	choices
	// New says that the form for a scan is open.
	New bool
}

func (h *handler) scans(r *request) (*page, error) {
	query := r.chosen("status", "agent", "batch", "before")
	v := scansView{
		Status: query.Get("status"), Agent: query.Get("agent"), Batch: query.Get("batch"), New: r.URL.Query().Has("new"),
		Statuses: []scan.Status{scan.Queued, scan.Running, scan.Completed, scan.Error, scan.Cancelled},
	}
	var err error
	if v.Scans, err = ask[api.Scan](r, "/scans", query, nil); err != nil {
		return nil, err
	}
	v.choices, err = r.choices()
	return &page{View: "scans", Title: "Scans", Data: v}, err
}

// choices are what a scan can be asked of and by.
type choices struct {
	Agents     []api.Agent
	Profiles   []api.Profile
	Thresholds []api.Threshold
}

func (r *request) choices() (c choices, err error) {
	agents, err := ask[api.Agent](r, "/agents", nil, nil)
	if err != nil {
		return c, err
	}
	c.Agents = agents.Items
	if c.Profiles, err = everything[api.Profile](r, "/profiles"); err != nil {
		return c, err
	}
	c.Thresholds, err = everything[api.Threshold](r, "/thresholds")
	return c, err
}

type insightsView struct {
	Agents []api.Agent
	// List names the one list that is shown; empty shows the beginning of
	// each.
	List, Agent, Q, SBOM string
	Components           list[api.Component]
	SBOMs                list[api.Document]
	Problems             list[api.Problem]
	Facts                list[api.Fact]
	Quarantine           list[api.Quarantined]
}

func (h *handler) insights(r *request) (*page, error) {
	query := r.chosen("agent", "before")
	only := r.chosen("list", "q", "sbom")
	v := insightsView{List: only.Get("list"), Agent: query.Get("agent"), Q: only.Get("q"), SBOM: only.Get("sbom")}
	agents, err := ask[api.Agent](r, "/agents", nil, nil)
	if err != nil {
		return nil, err
	}
	v.Agents = agents.Items
	switch {
	case v.Q != "" || v.SBOM != "":
		v.List = "components"
	case v.List == "":
		query.Set("limit", overview)
		query.Del("before")
	}
	// Each list is asked for alone, or with all others but the components.
	wanted := func(name string) bool { return v.List == name || v.List == "" && name != "components" }
	keep := url.Values{"list": {v.List}}
	if wanted("components") {
		for _, k := range []string{"q", "sbom"} {
			if s := only.Get(k); s != "" {
				query.Set(k, s)
			}
		}
		if v.Components, err = ask[api.Component](r, "/components", query, nil); err != nil {
			return nil, err
		}
	}
	if wanted("sboms") {
		if v.SBOMs, err = ask[api.Document](r, "/insights/sboms", query, keep); err != nil {
			return nil, err
		}
	}
	if wanted("problems") {
		if v.Problems, err = ask[api.Problem](r, "/insights/problems", query, keep); err != nil {
			return nil, err
		}
	}
	if wanted("facts") {
		if v.Facts, err = ask[api.Fact](r, "/insights/facts", query, keep); err != nil {
			return nil, err
		}
	}
	if wanted("quarantine") {
		if v.Quarantine, err = ask[api.Quarantined](r, "/insights/quarantine", query, keep); err != nil {
			return nil, err
		}
	}
	return &page{View: "insights", Title: "Insights", Data: v}, nil
}

type alertsView struct {
	Sinks            []api.Sink
	Alerts           list[api.Alert]
	Silences         []api.Silence
	Incomplete       []api.AlertRun
	States           []string
	State, Sink, Run string
}

func (h *handler) alerts(r *request) (*page, error) {
	query := r.chosen("state", "sink", "run", "before")
	v := alertsView{
		State: query.Get("state"), Sink: query.Get("sink"), Run: query.Get("run"),
		States: []string{"pending", "delivered", "dead", "skipped"},
	}
	sinks, err := ask[api.Sink](r, "/sinks", nil, nil)
	if err != nil {
		return nil, err
	}
	v.Sinks = sinks.Items
	if v.Alerts, err = ask[api.Alert](r, "/alerts", query, nil); err != nil {
		return nil, err
	}
	silences, err := optional(ask[api.Silence](r, "/silences", nil, nil))
	if err != nil {
		return nil, err
	}
	runs, err := optional(ask[api.AlertRun](r, "/alert-runs", url.Values{"incomplete": {"true"}, "limit": {recent}}, nil))
	v.Silences, v.Incomplete = silences.Items, runs.Items
	return &page{View: "alerts", Title: "Alerts", Data: v}, err
}

type alertRunsView struct {
	Runs       list[api.AlertRun]
	Source     string
	Incomplete bool
}

// alertRuns tells of what made outcomes whether all came that should have.
func (h *handler) alertRuns(r *request) (*page, error) {
	query := r.chosen("source", "incomplete", "before")
	v := alertRunsView{Source: query.Get("source"), Incomplete: query.Get("incomplete") != ""}
	var err error
	v.Runs, err = ask[api.AlertRun](r, "/alert-runs", query, nil)
	return &page{View: "alertruns", Title: "Runs", Data: v}, err
}

// targetText is a target in one line; the agent isn't part of it.
func targetText(t api.ScanTarget) string {
	return cmp.Or(t.URI, t.Namespace+"/"+t.Pod+"/"+t.Container)
}

// scanPath leads to the scan that made an outcome, if a scan did.
func scanPath(run string) string {
	if _, err := scan.ParseID(run); err != nil {
		return ""
	}
	return "/scans/" + run
}

// safeURL is s if it leads to a web page, or else empty.
func safeURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	return s
}

// without is m less the keys that are shown in another place.
func without(m map[string]string, keys ...string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		if !slices.Contains(keys, k) {
			out[k] = v
		}
	}
	return out
}

// ago tells how long ago t was, coarsely.
func ago(t time.Time) string {
	d := time.Since(t)
	switch {
	case d < 0:
		return "in " + span(-d)
	case d < 5*time.Second:
		return "just now"
	}
	return span(d) + " ago"
}

func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
