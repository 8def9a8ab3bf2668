package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/api"
)

// posture is how many targets stood how at the end of each day. Each target
// counts once for each profile and threshold.
type posture struct {
	Days []api.PostureDay
	// Now is the last of them, Max the most targets of a day.
	Now api.PostureDay
	Max int
}

// newPosture is the sum of some, which are of the same days.
func newPosture(parts ...api.Posture) (p posture) {
	for _, part := range parts {
		if p.Days == nil {
			p.Days = make([]api.PostureDay, len(part.Days))
		}
		for i, d := range part.Days {
			all := &p.Days[i]
			all.Day, all.Passed, all.Failed = d.Day, all.Passed+d.Passed, all.Failed+d.Failed
			p.Max = max(p.Max, all.Passed+all.Failed)
			p.Now = *all
		}
	}
	return p
}

// dayText is a day of a posture for people.
func dayText(day string) string {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return day
	}
	return t.Format("2 Jan")
}

// worstOf are the targets with the least compliance, of those that don't pass.
func worstOf(failing []api.TargetState) []api.TargetState {
	slices.SortStableFunc(failing, func(a, b api.TargetState) int { return cmp.Compare(a.Last.Compliance, b.Last.Compliance) })
	return failing[:min(5, len(failing))]
}

// line is a chart of the compliance of one target: 0 to 100 upward, the oldest
// scan at the left.
type line struct {
	Points string
	Dots   []dot
}

type dot struct {
	X, Y  string
	Point api.Point
}

const chartWidth, chartHeight = 640.0, 100.0

// chart is of points, the newest first.
func chart(points []api.Point) line {
	var l line
	var path []string
	for i, p := range slices.Backward(points) {
		x := chartWidth / 2
		if len(points) > 1 {
			x = chartWidth * float64(len(points)-1-i) / float64(len(points)-1)
		}
		d := dot{fmt.Sprintf("%.1f", x), fmt.Sprintf("%.1f", chartHeight-chartHeight*float64(p.Compliance)/100), p}
		l.Dots = append(l.Dots, d)
		path = append(path, d.X+","+d.Y)
	}
	l.Points = strings.Join(path, " ")
	return l
}

type targetsView struct {
	Targets                 list[api.TargetState]
	Agents                  []api.Agent
	Agent, Outcome, Profile string
}

func (h *handler) targets(r *request) (*page, error) {
	query := r.chosen("agent", "outcome", "profile", "before")
	v := targetsView{Agent: query.Get("agent"), Outcome: query.Get("outcome"), Profile: query.Get("profile")}
	var err error
	if v.Targets, err = ask[api.TargetState](r, "/targets", query, nil); err != nil {
		return nil, err
	}
	agents, err := ask[api.Agent](r, "/agents", nil, nil)
	v.Agents = agents.Items
	return &page{View: "targets", Title: "Targets", Data: v}, err
}

type historyView struct {
	Target api.ScanTarget
	Points list[api.Point]
}

// history is how one target stood over time.
func (h *handler) history(r *request) (*page, error) {
	query := r.chosen("agent", "namespace", "pod", "container", "uri", "profile", "threshold", "before")
	v := historyView{Target: api.ScanTarget{
		Agent: query.Get("agent"), Namespace: query.Get("namespace"), Pod: query.Get("pod"), Container: query.Get("container"), URI: query.Get("uri"),
	}}
	if v.Target.URI == "" && v.Target.Pod == "" {
		return nil, &problem{Status: http.StatusNotFound, Title: "Not Found", Detail: "The address names no target."}
	}
	var err error
	v.Points, err = ask[api.Point](r, "/targets/history", query, nil)
	return &page{View: "history", Title: targetText(v.Target), Data: v}, err
}

// historyPath leads to how a target stood over time.
func historyPath(t api.ScanTarget, profile, threshold string) string {
	u := url.URL{Path: "/targets/history", RawQuery: targetQuery(t, profile, threshold).Encode()}
	return u.String()
}

func minus(n int, less ...int) int {
	for _, l := range less {
		n -= l
	}
	return n
}
