package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/pki"
)

type (
	// Difference is what differs between two SBOMs or environments.
	Difference struct {
		From       []Document        `json:"from" nullable:"false"`
		To         []Document        `json:"to" nullable:"false"`
		Components []ComponentChange `json:"components" nullable:"false"`
		Facts      []FactChange      `json:"facts" nullable:"false" doc:"Between environments, or builds; not between digests"`
		Problems   []ProblemChange   `json:"problems" nullable:"false"`
	}
	ComponentChange struct {
		Change insight.Change `json:"change" enum:"added,removed,updated"`
		PURL   string         `json:"purl,omitempty"`
		Name   string         `json:"name"`
		From   string         `json:"from,omitempty" doc:"The version that was there"`
		To     string         `json:"to,omitempty" doc:"The version that is there now"`
	}
	FactChange struct {
		Change  insight.Change `json:"change" enum:"added,removed,updated"`
		Source  string         `json:"source"`
		Service string         `json:"service,omitempty"`
		Name    string         `json:"name"`
		From    string         `json:"from,omitempty"`
		To      string         `json:"to,omitempty"`
	}
	ProblemChange struct {
		Change            insight.Change `json:"change" enum:"added,removed"`
		Source            string         `json:"source"`
		Service           string         `json:"service,omitempty"`
		Identifier        string         `json:"identifier"`
		Severity          string         `json:"severity,omitempty"`
		AssociatedPackage string         `json:"associatedPackage,omitempty"`
		Version           string         `json:"version,omitempty"`
	}
	// NewBuild is a service with a new SBOM.
	NewBuild struct {
		Place
		Build      string            `json:"build,omitempty"`
		Received   time.Time         `json:"received"`
		SBOM       insight.Digest    `json:"sbom"`
		Before     insight.Digest    `json:"before,omitempty" doc:"The SBOM that was current; empty where the service is new"`
		Components []ComponentChange `json:"components" nullable:"false"`
		Problems   []ProblemChange   `json:"problems" nullable:"false"`
	}
)

func fromComponentChange(c insight.ComponentChange) ComponentChange {
	out := ComponentChange{Change: c.Change, PURL: c.PURL, Name: c.Name, From: c.Before, To: c.Version}
	if c.Change == insight.Removed {
		out.To = ""
	}
	return out
}

func fromFactChange(c insight.FactChange) FactChange {
	out := FactChange{c.Change, c.Source, c.Service, c.Name, c.Before, c.Value}
	if c.Change == insight.Removed {
		out.To = ""
	}
	return out
}

func fromProblemChange(c insight.ProblemChange) ProblemChange {
	return ProblemChange{c.Change, c.Source, c.Service, c.Identifier, c.Severity, c.AssociatedPackage, c.Version}
}

func convertAll[S, T any](list []S, convert func(S) T) []T {
	out := make([]T, 0, len(list))
	for _, s := range list {
		out = append(out, convert(s))
	}
	return out
}

// side is one side of a comparison.
type side struct {
	documents  []insight.DocumentRecord
	components []insight.Component
	facts      []insight.Fact
	problems   []insight.Problem
}

var (
	errRef   = errors.New("must be sha256:DIGEST or AGENT/NAMESPACE[/SERVICE][@BUILD]")
	errRefAt = errors.New("a digest or a build is the same at all times: give AGENT/NAMESPACE[/SERVICE] with a time")
)

// parseRef says which SBOMs a reference means.
func parseRef(ref string) (q insight.Query, err error) {
	q = insight.Query{Kind: insight.KindSBOM, Limit: 1000}
	if strings.HasPrefix(ref, "sha256:") {
		q.Digest, q.History, q.Limit = insight.Digest(ref), true, 1
		return q, nil
	}
	place, build, _ := strings.Cut(ref, "@")
	parts := strings.Split(place, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return q, errRef
	}
	q.Cluster, q.Namespace, q.Build = fleet.AgentName(parts[0]), parts[1], build
	if len(parts) == 3 {
		q.Service = parts[2]
	}
	return q, nil
}

// side reads what a reference means as it stood at a time; zero means now.
func (a *API) side(ctx context.Context, name, ref string, at time.Time) (s side, err error) {
	q, err := parseRef(ref)
	if err == nil && !at.IsZero() && (q.Digest != "" || q.Build != "") {
		err = errRefAt
	}
	if err != nil {
		return s, huma.Error422UnprocessableEntity(name+": "+err.Error(), &huma.ErrorDetail{Location: "query." + name, Message: err.Error()})
	}
	q.Within, q.At = visible(ctx), at
	if s.documents, err = a.cfg.Insights.InsightDocuments(ctx, q); err != nil {
		return s, err
	}
	if q.Build != "" {
		s.documents = latestOfEach(s.documents)
	}
	var digests []insight.Digest
	for _, d := range s.documents {
		digests = append(digests, d.Digest)
		// A build stood until the first of its SBOMs was replaced.
		if end := d.Until; q.Build != "" && !end.IsZero() && (q.At.IsZero() || end.Before(q.At)) {
			q.At = end.Add(-time.Microsecond)
		}
	}
	if s.components, s.problems, err = a.cfg.Insights.DocumentComponents(ctx, digests); err != nil {
		return s, err
	}
	if q.Digest == "" {
		q.Build, q.Kind = "", ""
		if err := a.told(ctx, &s, q); err != nil {
			return s, err
		}
	}
	if at.IsZero() && len(s.documents)+len(s.facts)+len(s.problems) == 0 {
		return s, huma.Error404NotFound(fmt.Sprintf("%s: there is no SBOM %s, nor any fact or problem of such a place; GET %s/insights/sboms lists the SBOMs that there are", name, ref, prefix))
	}
	return s, nil
}

// latestOfEach leaves of each service's documents the latest, which comes first.
func latestOfEach(list []insight.DocumentRecord) []insight.DocumentRecord {
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(d insight.DocumentRecord) bool {
		known := seen[d.Service]
		seen[d.Service] = true
		return known
	})
}

// told adds the facts of what q asks about, and the problems that agents were
// told.
func (a *API) told(ctx context.Context, s *side, q insight.Query) error {
	for {
		found, err := a.cfg.Insights.Facts(ctx, q)
		if err != nil {
			return err
		}
		for _, f := range found {
			s.facts = append(s.facts, f.Fact)
		}
		if q.Offset += len(found); len(found) < q.Limit {
			break
		}
	}
	q.Offset = 0
	for {
		found, err := a.cfg.Insights.Problems(ctx, q)
		if err != nil {
			return err
		}
		for _, p := range found {
			if p.Source == insight.SourceOSV { // those come last, and are known by the SBOMs
				return nil
			}
			s.problems = append(s.problems, p.Problem)
		}
		if q.Offset += len(found); len(found) < q.Limit {
			return nil
		}
	}
}

func (a *API) differences() {
	type choose struct {
		From   string    `query:"from" required:"true" doc:"The digest of an SBOM (sha256:…), or AGENT/NAMESPACE[/SERVICE][@BUILD]: how that is now, or was at the end of a build"`
		To     string    `query:"to" required:"true" doc:"As from"`
		FromAt time.Time `query:"fromAt" doc:"How from was at this time"`
		ToAt   time.Time `query:"toAt" doc:"How to was at this time"`
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/insights/diff", "diff-insights", "Compare builds, environments or times: components, facts and problems", http.StatusNotFound)),
		func(ctx context.Context, in *choose) (*struct{ Body Difference }, error) {
			from, err := a.side(ctx, "from", in.From, in.FromAt)
			if err != nil {
				return nil, a.problem(ctx, "compare insights", err)
			}
			to, err := a.side(ctx, "to", in.To, in.ToAt)
			if err != nil {
				return nil, a.problem(ctx, "compare insights", err)
			}
			return &struct{ Body Difference }{Difference{
				From: convertAll(from.documents, fromDocument), To: convertAll(to.documents, fromDocument),
				Components: convertAll(insight.CompareComponents(from.components, to.components), fromComponentChange),
				Facts:      convertAll(insight.CompareFacts(from.facts, to.facts), fromFactChange),
				Problems:   convertAll(insight.CompareProblems(from.problems, to.problems), fromProblemChange),
			}}, nil
		})

	type chooseNew struct {
		NamespacedPage
		Since time.Time `query:"since" required:"true"`
	}
	op := within(operation(pki.Viewer, http.MethodGet, "/insights/new", "list-new", "List the services with a new SBOM since a time, and what changed in them"))
	op.Description += " A page has at most 100 of them."
	huma.Register(a.huma, op, func(ctx context.Context, in *chooseNew) (*page[NewBuild], error) {
		in.Limit = min(in.Limit, 100)
		list := func(ctx context.Context, q insight.Query) (out []NewBuild, err error) {
			found, err := a.cfg.Insights.Successions(ctx, q)
			for _, s := range found {
				if err != nil {
					return nil, err
				}
				var one NewBuild
				one, err = a.newBuild(ctx, s)
				out = append(out, one)
			}
			return out, err
		}
		return listInsights(a, ctx, in.InsightsPage, func(q *insight.Query) { q.Namespace, q.Since = in.Namespace, in.Since }, list, func(b NewBuild) NewBuild { return b })
	})
}

func (a *API) newBuild(ctx context.Context, s insight.Succession) (NewBuild, error) {
	d := s.Now
	out := NewBuild{
		Place: newPlace(d.Cluster, d.Environment, d.Service), Build: d.Build, Received: d.Received, SBOM: d.Digest, Before: s.Before,
		Components: []ComponentChange{}, Problems: []ProblemChange{},
	}
	if s.Before == "" || s.Before == d.Digest {
		return out, nil // all of it is new, or nothing
	}
	was, had, err := a.cfg.Insights.DocumentComponents(ctx, []insight.Digest{s.Before})
	if err != nil {
		return out, err
	}
	is, has, err := a.cfg.Insights.DocumentComponents(ctx, []insight.Digest{d.Digest})
	out.Components = convertAll(insight.CompareComponents(was, is), fromComponentChange)
	out.Problems = convertAll(insight.CompareProblems(had, has), fromProblemChange)
	return out, err
}

// quarantine lets messages out that couldn't be taken.
func (a *API) quarantine() {
	type item struct {
		Body struct {
			Agent string `json:"agent" minLength:"1"`
			Item  string `json:"item" minLength:"1" maxLength:"256"`
		}
	}
	for path, do := range map[string]struct {
		id, summary string
		act         func(context.Context, fleet.AgentName, insight.ItemID) error
	}{
		"/insights/quarantine/requeue": {"requeue-quarantined", "Take a message out of quarantine, as this version of the hub reads it", func(ctx context.Context, agent fleet.AgentName, id insight.ItemID) error {
			return a.cfg.Quarantine.Requeue(ctx, agent, id)
		}},
		"/insights/quarantine/discard": {"discard-quarantined", "Forget a message in quarantine", func(ctx context.Context, agent fleet.AgentName, id insight.ItemID) error {
			return a.cfg.Quarantine.Discard(ctx, agent, id)
		}},
	} {
		op := operation(pki.Operator, http.MethodPost, path, do.id, do.summary, http.StatusNotFound, http.StatusUnprocessableEntity)
		op.DefaultStatus = http.StatusNoContent
		huma.Register(a.huma, op, func(ctx context.Context, in *item) (*struct{}, error) {
			if err := do.act(ctx, fleet.AgentName(in.Body.Agent), insight.ItemID(in.Body.Item)); err != nil {
				return nil, a.problem(ctx, do.summary, err)
			}
			return nil, nil
		})
	}
}
