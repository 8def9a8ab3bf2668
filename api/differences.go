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
		Facts      []FactChange      `json:"facts" nullable:"false" doc:"Between environments alone"`
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

var errRef = errors.New("must be sha256:DIGEST or AGENT/NAMESPACE[/SERVICE][@BUILD]")

// parseRef says which SBOMs a reference means; whole tells that it is all of an
// environment as it is now.
func parseRef(ref string) (q insight.Query, whole bool, err error) {
	q = insight.Query{Kind: insight.KindSBOM, Limit: 1000}
	if strings.HasPrefix(ref, "sha256:") {
		q.Digest, q.History, q.Limit = insight.Digest(ref), true, 1
		return q, false, nil
	}
	place, build, _ := strings.Cut(ref, "@")
	parts := strings.Split(place, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return q, false, errRef
	}
	q.Cluster, q.Namespace, q.Build, q.History = fleet.AgentName(parts[0]), parts[1], build, build != ""
	if len(parts) == 3 {
		q.Service = parts[2]
	}
	return q, build == "" && q.Service == "", nil
}

func (a *API) side(ctx context.Context, name, ref string) (s side, err error) {
	q, whole, err := parseRef(ref)
	if err != nil {
		return s, huma.Error422UnprocessableEntity(name+": "+err.Error(), &huma.ErrorDetail{Location: "query." + name, Message: err.Error()})
	}
	q.Within = visible(ctx)
	if s.documents, err = a.cfg.Insights.InsightDocuments(ctx, q); err != nil {
		return s, err
	}
	if len(s.documents) == 0 {
		return s, huma.Error404NotFound(fmt.Sprintf("%s: there is no SBOM %s; GET %s/insights/sboms lists those that there are", name, ref, prefix))
	}
	var digests []insight.Digest
	for _, d := range s.documents {
		digests = append(digests, d.Digest)
	}
	if s.components, s.problems, err = a.cfg.Insights.DocumentComponents(ctx, digests); err != nil || !whole {
		return s, err
	}
	env := s.documents[0].Environment
	if env.Project == "" || env.Name == "" {
		return s, nil
	}
	// What agents were told is known by project and environment.
	told := insight.Query{Cluster: q.Cluster, Project: env.Project, Environment: env.Name, Within: q.Within, Limit: 1000}
	facts, err := a.cfg.Insights.Facts(ctx, told)
	if err != nil {
		return s, err
	}
	for _, f := range facts {
		s.facts = append(s.facts, f.Fact)
	}
	problems, err := a.cfg.Insights.Problems(ctx, told)
	for _, p := range problems {
		if p.Source != insight.SourceOSV {
			s.problems = append(s.problems, p.Problem)
		}
	}
	return s, err
}

func (a *API) differences() {
	type choose struct {
		From string `query:"from" required:"true" doc:"The digest of an SBOM (sha256:…), or AGENT/NAMESPACE[/SERVICE][@BUILD]: its current SBOMs or those of a build"`
		To   string `query:"to" required:"true" doc:"As from"`
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/insights/diff", "diff-insights", "Compare builds or environments: components, facts and problems", http.StatusNotFound)),
		func(ctx context.Context, in *choose) (*struct{ Body Difference }, error) {
			from, err := a.side(ctx, "from", in.From)
			if err != nil {
				return nil, a.problem(ctx, "compare insights", err)
			}
			to, err := a.side(ctx, "to", in.To)
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
		DocumentsPage
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
