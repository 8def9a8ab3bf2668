package web

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/insight"
)

type runsView struct {
	Of, From, Below string
	Runs            list[api.Run]
	Asked           bool
}

// runs tells who runs a package.
func (h *handler) runs(r *request) (*page, error) {
	query := r.chosen("of", "from", "below", "agent", "namespace", "before")
	v := runsView{Of: query.Get("of"), From: query.Get("from"), Below: query.Get("below"), Asked: query.Has("of")}
	p := &page{View: "runs", Title: "Who runs what"}
	var err error
	if v.Asked {
		v.Runs, err = ask[api.Run](r, "/who-runs", query, nil)
	}
	p.Data = v
	return p, err
}

type diffView struct {
	From, To   string
	Places     []string
	Difference *api.Difference
}

// diff compares two SBOMs, builds or environments.
func (h *handler) diff(r *request) (*page, error) {
	query := r.chosen("from", "to")
	v := &diffView{From: query.Get("from"), To: query.Get("to")}
	p := &page{View: "diff", Title: "Comparison", Data: v}
	documents, err := ask[api.Document](r, "/insights/sboms", url.Values{"limit": {"200"}}, nil)
	if err != nil {
		return nil, err
	}
	for _, d := range documents.Items {
		if d.Namespace == "" {
			continue
		}
		place := string(d.Agent) + "/" + d.Namespace
		if d.Service != "" {
			place += "/" + d.Service
		}
		if !slices.Contains(v.Places, place) {
			v.Places = append(v.Places, place)
		}
	}
	if v.From != "" && v.To != "" {
		err = r.get("/insights/diff", query, &v.Difference)
	}
	return p, err
}

type freshView struct {
	Since  string
	Builds list[api.NewBuild]
}

// fresh tells what is new since a day; a week ago if none is given.
func (h *handler) fresh(r *request) (*page, error) {
	query := r.chosen("since", "agent", "before")
	v := freshView{Since: query.Get("since")}
	if v.Since == "" {
		v.Since = time.Now().AddDate(0, 0, -7).UTC().Format(time.DateOnly)
	}
	query.Set("since", v.Since)
	if _, err := time.Parse(time.DateOnly, v.Since); err == nil {
		query.Set("since", v.Since+"T00:00:00Z")
	}
	var err error
	v.Builds, err = ask[api.NewBuild](r, "/insights/new", query, nil)
	return &page{View: "fresh", Title: "What is new", Data: v}, err
}

type vexView struct {
	Statements    list[api.Statement]
	Vulnerability string
}

// vex shows what was said of vulnerabilities.
func (h *handler) vex(r *request) (*page, error) {
	query := r.chosen("vulnerability", "before")
	v := vexView{Vulnerability: query.Get("vulnerability")}
	var err error
	v.Statements, err = ask[api.Statement](r, "/vex", query, nil)
	return &page{View: "vex", Title: "VEX", Data: v}, err
}

type exportsView struct {
	Exports list[api.Export]
	States  []insight.ExportState
	State   string
}

// exports shows the SBOMs that go to Dependency-Track.
func (h *handler) exports(r *request) (*page, error) {
	query := r.chosen("state", "agent", "before")
	v := exportsView{State: query.Get("state"), States: []insight.ExportState{insight.ExportWaiting, insight.ExportSent, insight.ExportRefused}}
	var err error
	v.Exports, err = ask[api.Export](r, "/insights/exports", query, nil)
	return &page{View: "exports", Title: "Exports", Data: v}, err
}

// ages are those by which problems are counted.
var ages = []struct {
	Title string
	Above time.Duration
}{{"over 90 days", 90 * 24 * time.Hour}, {"30 to 90 days", 30 * 24 * time.Hour}, {"7 to 30 days", 7 * 24 * time.Hour}, {"under 7 days", -1}}

// problemCounts are the problems of one severity, by age.
type problemCounts struct {
	Severity string
	ByAge    []int
	All      int
}

// matrix counts problems by severity, the worst first, and by age.
func matrix(problems []api.Problem, now time.Time) (rows []problemCounts) {
	known := []string{"CRITICAL", "HIGH", "MEDIUM", "LOW", "NEGLIGIBLE", "UNKNOWN"}
	for _, s := range known {
		rows = append(rows, problemCounts{Severity: s, ByAge: make([]int, len(ages))})
	}
	for _, p := range problems {
		i := slices.Index(known, strings.ToUpper(p.Severity))
		if i < 0 {
			i = len(known) - 1
		}
		for k, a := range ages {
			if now.Sub(p.Since) > a.Above {
				rows[i].ByAge[k]++
				break
			}
		}
		rows[i].All++
	}
	return slices.DeleteFunc(rows, func(r problemCounts) bool { return r.All == 0 })
}

func ageTitles() (titles []string) {
	for _, a := range ages {
		titles = append(titles, a.Title)
	}
	return titles
}
