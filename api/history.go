package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
)

// The wire's shapes of what scans came to, one after the other.
type (
	// Point is one completed scan of a target.
	Point struct {
		Scan           scan.ID      `json:"scan"`
		Profile        string       `json:"profile"`
		ProfileVersion string       `json:"profileVersion,omitempty"`
		Threshold      string       `json:"threshold,omitempty"`
		Outcome        scan.Outcome `json:"outcome" enum:"passed,failed"`
		Compliance     int          `json:"compliance" doc:"The percentage of the controls that apply which passed"`
		Counts         hdf.Counts   `json:"counts" doc:"Controls by status"`
		Finished       time.Time    `json:"finished"`
		Links          struct {
			Scan       string `json:"scan"`
			Results    string `json:"results"`
			Comparison string `json:"comparison" doc:"With the scan before it"`
		} `json:"links"`
	}
	// TargetState is how a target stood when it was last scanned.
	TargetState struct {
		Target ScanTarget `json:"target"`
		Last   Point      `json:"last"`
	}
	// Posture is how many targets stood how. Each counts once for each profile and
	// threshold that it is scanned by.
	Posture struct {
		Agent string       `json:"agent,omitempty" doc:"Whose targets; left out unless it is asked for by agents"`
		Days  []PostureDay `json:"days" nullable:"false" doc:"The oldest first; the last is today, so far"`
	}
	PostureDay struct {
		Day    string `json:"day" format:"date" doc:"In UTC"`
		Passed int    `json:"passed" doc:"At the day's end"`
		Failed int    `json:"failed"`
	}
	// Change is a control that isn't as it was, or that still fails.
	Change struct {
		ID       string       `json:"id"`
		Profile  string       `json:"profile"`
		Title    string       `json:"title,omitempty"`
		Severity hdf.Severity `json:"severity"`
		Before   string       `json:"before,omitempty" doc:"Its status; left out where the result doesn't have it"`
		After    string       `json:"after,omitempty"`
		Messages []string     `json:"messages,omitempty" doc:"What is wrong; of one that isn't bad any more, what was"`
		Differs  bool         `json:"differs,omitempty" doc:"Of one that still fails: it says something else"`
	}
	// Comparison is what became of a target's controls.
	Comparison struct {
		Baseline struct {
			Scan       scan.ID   `json:"scan,omitempty"`
			Compliance int       `json:"compliance"`
			Counts     hdf.Tally `json:"counts"`
		} `json:"baseline"`
		Current struct {
			Scan       scan.ID   `json:"scan,omitempty"`
			Compliance int       `json:"compliance"`
			Counts     hdf.Tally `json:"counts"`
		} `json:"current"`
		New          []Change `json:"new" nullable:"false" doc:"Fail, or can't be judged, and didn't before"`
		Fixed        []Change `json:"fixed" nullable:"false" doc:"Failed, and pass"`
		Changed      []Change `json:"changed" nullable:"false" doc:"Other changes: skipped now, not there any more, new and passed …"`
		StillFailing []Change `json:"stillFailing" nullable:"false"`
		Same         int      `json:"same" doc:"How many others are as they were"`
	}
)

// FromComparison is how c looks on the wire; the ids are empty of results that
// are no scan's.
func FromComparison(c scan.Comparison, baseline, current scan.ID) Comparison {
	out := Comparison{
		New: fromChanges(c.New), Fixed: fromChanges(c.Fixed), Changed: fromChanges(c.Changed),
		StillFailing: fromChanges(c.StillFailing), Same: c.Same,
	}
	out.Baseline.Scan, out.Baseline.Compliance, out.Baseline.Counts = baseline, c.Before.Compliance(), c.Before
	out.Current.Scan, out.Current.Compliance, out.Current.Counts = current, c.After.Compliance(), c.After
	return out
}

func fromChanges(list []scan.Change) []Change {
	out := make([]Change, len(list))
	for i, c := range list {
		out[i] = Change{
			ID: c.ID, Profile: c.Profile, Title: c.Title, Severity: c.Severity,
			Before: string(c.Before), After: string(c.After), Messages: c.Said, Differs: c.Differs,
		}
	}
	return out
}

func fromTarget(t scan.Target) ScanTarget {
	return ScanTarget{Agent: string(t.Agent), Namespace: t.Namespace, Pod: t.Pod, Container: t.Container, URI: t.URI}
}

func fromPosture(p scan.Posture) Posture {
	out := Posture{Agent: string(p.Agent), Days: make([]PostureDay, len(p.Days))}
	for i, d := range p.Days {
		out.Days[i] = PostureDay{d.At.Format(time.DateOnly), d.Passed, d.Failed}
	}
	return out
}

func pointOf(s scan.Scan) Point {
	p := Point{
		Scan: s.ID, Profile: s.Request.Profile, ProfileVersion: s.ProfileVersion, Threshold: s.Request.Threshold,
		Outcome: s.Outcome, Compliance: s.Compliance, Counts: s.Counts, Finished: s.Finished,
	}
	p.Links.Scan = prefix + "/scans/" + string(s.ID)
	p.Links.Results = p.Links.Scan + "/results"
	p.Links.Comparison = p.Links.Scan + "/comparison"
	return p
}

// history is what was scanned before: how targets stand, how they stood, and
// what has changed between two scans.
func (a *API) history() {
	type stateInput struct {
		Agent     string `query:"agent"`
		Namespace string `query:"namespace"`
		Profile   string `query:"profile" doc:"As it was asked for"`
		Outcome   string `query:"outcome" enum:"passed,failed"`
		Limit     int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Before    string `query:"before" doc:"The last page's next"`
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/targets", "list-targets", "How each target stood when it was last scanned, by profile and threshold, the last scan first")),
		func(ctx context.Context, in *stateInput) (*page[TargetState], error) {
			found, err := a.cfg.Scans.Latest(ctx, scan.LatestFilter{
				Agent: fleet.AgentName(in.Agent), Namespace: in.Namespace, Profile: in.Profile, Outcome: scan.Outcome(in.Outcome),
				Within: visible(ctx), Before: scan.ID(in.Before), Limit: in.Limit + 1,
			})
			if err != nil {
				return nil, a.problem(ctx, "list targets", err)
			}
			state := func(s scan.Scan) TargetState { return TargetState{fromTarget(s.Request.Target), pointOf(s)} }
			return newPage(found, in.Limit, state, func(s scan.Scan) string { return string(s.ID) }), nil
		})

	type postureInput struct {
		Agent     string `query:"agent"`
		Namespace string `query:"namespace"`
		Days      int    `query:"days" minimum:"1" maximum:"366" default:"14" doc:"Until today; at most 31 by agents"`
		By        string `query:"by" enum:"agent" doc:"agent: those of each agent for themselves"`
		MaxAge
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/posture", "get-posture", "How many targets passed and failed when they were last scanned, at the end of each day")),
		func(ctx context.Context, in *postureInput) (*page[Posture], error) {
			if in.By != "" && in.Days > 31 {
				return nil, huma.Error422UnprocessableEntity("days: by agents at most 31", &huma.ErrorDetail{Location: "query.days", Message: "is more than 31"})
			}
			found, err := a.postures.of(ctx, scan.PostureFilter{
				Agent: fleet.AgentName(in.Agent), Namespace: in.Namespace, Within: visible(ctx), Until: time.Now(), Days: in.Days, ByAgent: in.By != "",
			}, in.duration(), a.cfg.Scans.Posture)
			if err != nil {
				return nil, a.problem(ctx, "tell the posture", err)
			}
			return newPage(found, 0, fromPosture, nil), nil
		})

	type historyInput struct {
		Agent     string `query:"agent" doc:"May be left out: then of whichever agent"`
		Namespace string `query:"namespace"`
		Pod       string `query:"pod"`
		Container string `query:"container"`
		URI       string `query:"uri" doc:"Any target, such as k8s-container://NAMESPACE/POD/CONTAINER or dir:/; instead of namespace, pod and container"`
		Profile   string `query:"profile" doc:"Only scans by this profile, with this threshold or, if that is left out, without one"`
		Threshold string `query:"threshold"`
		Limit     int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Before    string `query:"before" doc:"The last page's next"`
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/targets/history", "target-history", "The completed scans of one target, newest first")),
		func(ctx context.Context, in *historyInput) (*page[Point], error) {
			if in.Threshold != "" && in.Profile == "" {
				return nil, huma.Error422UnprocessableEntity("threshold: needs a profile", &huma.ErrorDetail{Location: "query.profile", Message: "is missing"})
			}
			found, err := a.cfg.Scans.History(ctx, scan.Filter{
				Series: &scan.Series{
					Target:  scan.Target{Agent: fleet.AgentName(in.Agent), Namespace: in.Namespace, Pod: in.Pod, Container: in.Container, URI: in.URI},
					Profile: in.Profile, Threshold: in.Threshold,
				},
				Within: visible(ctx), Before: scan.ID(in.Before), Limit: in.Limit + 1,
			})
			if err != nil {
				return nil, a.queryProblem(ctx, "history of a target", err)
			}
			return newPage(found, in.Limit, pointOf, func(s scan.Scan) string { return string(s.ID) }), nil
		})

	type compareInput struct {
		ScanID
		Baseline string `query:"baseline" default:"previous" doc:"The scan that it is held against: an id, or previous for the one before it of the same target, profile and threshold"`
	}
	op := within(operation(pki.Viewer, http.MethodGet, "/scans/{id}/comparison", "compare-scans", "What has changed since another scan: controls that are new among the failed, fixed, changed, still failing", http.StatusNotFound, http.StatusConflict))
	huma.Register(a.huma, op, func(ctx context.Context, in *compareInput) (*struct{ Body Comparison }, error) {
		after, err := a.scan(ctx, &in.ScanID)
		if err != nil {
			return nil, err
		}
		before, err := a.baseline(ctx, after, in.Baseline)
		if err != nil {
			return nil, err
		}
		c, err := a.cfg.Scans.Compare(ctx, before, after)
		if err != nil {
			return nil, a.problem(ctx, "compare scans", err)
		}
		return &struct{ Body Comparison }{FromComparison(c, before.ID, after.ID)}, nil
	})
}

// baseline finds what s is to be held against.
func (a *API) baseline(ctx context.Context, s scan.Scan, name string) (scan.Scan, error) {
	if name != "previous" {
		return a.scan(ctx, &ScanID{ID: name})
	}
	before, err := a.cfg.Scans.Previous(ctx, s)
	if err != nil {
		return scan.Scan{}, a.problem(ctx, "find a baseline", err)
	}
	return before, nil
}

// queryProblem is problem for a request whose members are in its query.
func (a *API) queryProblem(ctx context.Context, op string, err error) error {
	if invalid := (*scan.InvalidError)(nil); errors.As(err, &invalid) {
		name := strings.TrimPrefix(invalid.Field, "target.")
		return huma.Error422UnprocessableEntity(fmt.Sprintf("%s: %s", name, invalid.Reason), &huma.ErrorDetail{Location: "query." + name, Message: invalid.Reason})
	}
	return a.problem(ctx, op, err)
}
