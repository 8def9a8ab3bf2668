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
	"reeve.dev/reeve/scan"
)

// days is how far back the posture goes.
const days = 14

// posture is how many targets stood how at the end of each day, in as far as
// the scans that were looked at tell. Each target counts once for each profile
// and threshold.
type posture struct {
	Days []day
	Max  int
	// Scans is how many were looked at; Cut says that there are older ones.
	Scans int
	Cut   bool
}

type day struct {
	At             time.Time
	Passed, Failed int
}

// newPosture is of completed scans, the newest first.
func newPosture(scans []api.Scan, cut bool, now time.Time) posture {
	p := posture{Scans: len(scans), Cut: cut}
	stands := map[string]scan.Outcome{}
	today := now.UTC().Truncate(24 * time.Hour)
	next := len(scans) - 1
	for d := days - 1; d >= 0; d-- {
		begin := today.AddDate(0, 0, -d)
		for ; next >= 0 && scans[next].Finished.Before(begin.AddDate(0, 0, 1)); next-- {
			s := scans[next]
			stands[targetQuery(s.Target, s.Scan.Profile, s.Scan.Threshold).Encode()] = s.Outcome
		}
		one := day{At: begin}
		for _, o := range stands {
			if o == scan.Passed {
				one.Passed++
			} else {
				one.Failed++
			}
		}
		p.Days, p.Max = append(p.Days, one), max(p.Max, one.Passed+one.Failed)
	}
	return p
}

// standing is how targets stood when they were last scanned.
type standing struct {
	Passed, Failed int
	More           bool
	// Worst are the targets with the least compliance.
	Worst []api.TargetState
}

func newStanding(targets list[api.TargetState]) standing {
	s := standing{More: targets.Next != ""}
	for _, t := range targets.Items {
		if t.Last.Outcome == scan.Passed {
			s.Passed++
			continue
		}
		s.Failed++
		s.Worst = append(s.Worst, t)
	}
	slices.SortStableFunc(s.Worst, func(a, b api.TargetState) int { return cmp.Compare(a.Last.Compliance, b.Last.Compliance) })
	s.Worst = s.Worst[:min(5, len(s.Worst))]
	return s
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
