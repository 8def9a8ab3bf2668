package web

import (
	"cmp"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/threshold"
)

// recent is how many scans the fleet's view has, overview how many of each
// kind of insight their view has.
const (
	recent   = "8"
	overview = "20"
)

type fleetView struct {
	Agents []api.Agent
	Sinks  []api.Sink
	Scans  list[api.Scan]
}

func (h *handler) fleet(r *request) (*page, error) {
	var v fleetView
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
	v.Agents, v.Sinks = agents.Items, sinks.Items
	return &page{View: "fleet", Title: "Fleet", Data: v}, nil
}

type scansView struct {
	Scans         list[api.Scan]
	Status, Agent string
	Statuses      []scan.Status
	Agents        []api.Agent
	Profiles      []api.Profile
	Thresholds    []api.Threshold
	// New says that the form for a scan is open.
	New bool
}

func (h *handler) scans(r *request) (*page, error) {
	query := r.chosen("status", "agent", "before")
	v := scansView{
		Status: query.Get("status"), Agent: query.Get("agent"), New: r.URL.Query().Has("new"),
		Statuses: []scan.Status{scan.Queued, scan.Running, scan.Completed, scan.Error, scan.Cancelled},
	}
	var err error
	if v.Scans, err = ask[api.Scan](r, "/scans", query, nil); err != nil {
		return nil, err
	}
	agents, err := ask[api.Agent](r, "/agents", nil, nil)
	if err != nil {
		return nil, err
	}
	profiles, err := ask[api.Profile](r, "/profiles", nil, nil)
	if err != nil {
		return nil, err
	}
	thresholds, err := ask[api.Threshold](r, "/thresholds", nil, nil)
	if err != nil {
		return nil, err
	}
	v.Agents, v.Profiles, v.Thresholds = agents.Items, profiles.Items, thresholds.Items
	return &page{View: "scans", Title: "Scans", Data: v}, nil
}

type scanView struct {
	api.Scan
	Over     bool
	Results  *hdf.Results
	Profiles []profileView
	// Status and Text are the filter of the controls.
	Only, Text string
	Shown      int
	Tallies    []tally
}

type profileView struct {
	Title    string
	Controls []controlView
}

type controlView struct {
	hdf.Control
	Hidden bool
}

// tally is how many controls have a status; From is how many come before
// them, for a bar of all.
type tally struct {
	Status  hdf.Status
	N, From int
}

func (v scanView) Controls() int {
	last := v.Tallies[len(v.Tallies)-1]
	return last.From + last.N
}

// worst first: what someone has to act on is on top.
var worst = []hdf.Status{hdf.Failed, hdf.Error, hdf.Skipped, hdf.Passed}

func (h *handler) scan(r *request) (*page, error) {
	path := "/scans/" + url.PathEscape(r.PathValue("id"))
	query := r.chosen("status", "q")
	v := scanView{Only: query.Get("status"), Text: query.Get("q")}
	if err := r.get(path, nil, &v.Scan); err != nil {
		return nil, err
	}
	v.Over = v.Scan.Status.Final()
	if v.Links.Results != "" {
		err := r.read(path+"/results", nil, func(body io.Reader) (err error) {
			v.Results, err = hdf.Decode(body)
			return err
		})
		if err != nil {
			return nil, err
		}
		v.show()
	}
	return &page{View: "scan", Title: "Scan of " + targetText(v.Target), Data: v}, nil
}

// show prepares the controls of the results.
func (v *scanView) show() {
	v.Results.Seal() // whatever the agent's document says of itself
	counts, from := v.Results.Counts(), 0
	for _, s := range worst {
		n := map[hdf.Status]int{hdf.Passed: counts.Passed, hdf.Failed: counts.Failed, hdf.Skipped: counts.Skipped, hdf.Error: counts.Error}[s]
		v.Tallies = append(v.Tallies, tally{s, n, from})
		from += n
	}
	text := strings.ToLower(v.Text)
	findings := v.Results.Findings()
	for i := range v.Results.Profiles {
		p := &v.Results.Profiles[i]
		pv := profileView{Title: strings.TrimSpace(cmp.Or(p.Title, p.Name) + " " + p.Version)}
		for _, f := range findings {
			if f.Profile != p {
				continue
			}
			c := *f.Control
			hidden := v.Only != "" && v.Only != string(c.Status) || !strings.Contains(searched(c), text)
			if !hidden {
				v.Shown++
			}
			pv.Controls = append(pv.Controls, controlView{c, hidden})
		}
		if len(pv.Controls) == 0 && p.ParentProfile != "" {
			continue // its overlay shows its controls
		}
		slices.SortStableFunc(pv.Controls, func(a, b controlView) int {
			return cmp.Or(cmp.Compare(slices.Index(worst, a.Status), slices.Index(worst, b.Status)), cmp.Compare(b.Impact, a.Impact))
		})
		v.Profiles = append(v.Profiles, pv)
	}
}

// searched is the text of a control that a filter looks at: in the page what
// has the class "find", which the script looks at too.
func searched(c hdf.Control) string {
	parts := []string{c.ID, c.Title, c.Desc}
	for _, r := range c.Results {
		parts = append(parts, r.CodeDesc, r.Message)
	}
	return strings.ToLower(strings.Join(parts, "\n"))
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
	return &page{View: "alerts", Title: "Alerts", Data: v}, nil
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

// severity is what thresholds call an impact.
func severity(c controlView) threshold.Severity { return threshold.SeverityOf(c.Control) }

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
