package api

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/osv"
	"reeve.dev/reeve/pki"
)

// Insights is what agents collected.
type Insights interface {
	Facts(ctx context.Context, q insight.Query) ([]insight.FactRecord, error)
	Problems(ctx context.Context, q insight.Query) ([]insight.ProblemRecord, error)
	Components(ctx context.Context, q insight.Query) ([]insight.ComponentRecord, error)
	InsightDocuments(ctx context.Context, q insight.Query) ([]insight.DocumentRecord, error)
	// InsightDocument answers insight.ErrNotFound for what it doesn't hold.
	InsightDocument(ctx context.Context, digest string) (io.ReadCloser, error)
	Quarantined(ctx context.Context, q insight.Query) ([]insight.QuarantineRecord, error)
	DocumentComponents(ctx context.Context, digests []insight.Digest) ([]insight.Component, []insight.Problem, error)
	Successions(ctx context.Context, q insight.Query) ([]insight.Succession, error)
	Workloads(ctx context.Context, q insight.Query, unknown bool) ([]insight.WorkloadRecord, error)
	Inventories(ctx context.Context, q insight.Query) ([]insight.InventoryRecord, error)
	// Reports are Inventories without Unknown.
	Reports(ctx context.Context, q insight.Query) ([]insight.InventoryRecord, error)
	WhoRuns(ctx context.Context, q insight.Query, choose func(insight.Component) bool) ([]insight.RunRecord, error)
	osv.Store
	Statements(ctx context.Context, q insight.Query) ([]insight.StatementRecord, error)
	PutStatements(ctx context.Context, document insight.Digest, statements []insight.Statement, at time.Time) error
	Exports(ctx context.Context, q insight.Query, state insight.ExportState) ([]insight.Export, error)
	// RemoveStatements answers insight.ErrNotFound where there are none.
	RemoveStatements(ctx context.Context, document insight.Digest) error
}

// Quarantine is where messages lie that couldn't be taken. Its methods answer
// insight.ErrNotFound for one that isn't there.
type Quarantine interface {
	// Requeue answers an *insight.InvalidError for what still can't be taken.
	Requeue(ctx context.Context, agent fleet.AgentName, item insight.ItemID) error
	Discard(ctx context.Context, agent fleet.AgentName, item insight.ItemID) error
}

// Place is where an insight holds; part of every record, and exported so that
// the description of the API has its members too.
type Place struct {
	Agent         fleet.AgentName `json:"agent"`
	Namespace     string          `json:"namespace,omitempty"`
	EnvironmentID int64           `json:"environmentId,omitempty"`
	Project       string          `json:"project,omitempty"`
	Environment   string          `json:"environment,omitempty"`
	Service       string          `json:"service,omitempty"`
}

func newPlace(agent fleet.AgentName, e insight.Environment, service string) Place {
	return Place{agent, e.Namespace, e.ID, e.Project, e.Name, service}
}

type (
	Fact struct {
		Place
		Source      string    `json:"source"`
		Name        string    `json:"name"`
		Value       string    `json:"value"`
		Description string    `json:"description,omitempty"`
		Type        string    `json:"type,omitempty"`
		Category    string    `json:"category,omitempty"`
		Build       string    `json:"build,omitempty" doc:"Of the document that it was derived from"`
		Since       time.Time `json:"since" doc:"When it became what it is"`
		Until       time.Time `json:"until,omitzero" doc:"When it ended; absent of what holds"`
		Received    time.Time `json:"received" doc:"When it was last said"`
	}
	Problem struct {
		Place
		Source            string    `json:"source"`
		Identifier        string    `json:"identifier"`
		Severity          string    `json:"severity,omitempty"`
		SeverityScore     float64   `json:"severityScore,omitempty"`
		AssociatedPackage string    `json:"associatedPackage,omitempty"`
		Version           string    `json:"version,omitempty"`
		FixedVersion      string    `json:"fixedVersion,omitempty"`
		Description       string    `json:"description,omitempty"`
		Links             string    `json:"links,omitempty"`
		Data              string    `json:"data,omitempty"`
		Since             time.Time `json:"since" doc:"When it became what it is"`
		Until             time.Time `json:"until,omitzero" doc:"When it ended; absent of what holds"`
		Received          time.Time `json:"received" doc:"When it was last said"`
		// Statement is VEX's.
		Statement *Statement `json:"statement,omitempty" doc:"The latest that was said of it (VEX)"`
	}
	Component struct {
		Place
		PURL     string         `json:"purl,omitempty"`
		Type     string         `json:"type,omitempty"`
		Group    string         `json:"group,omitempty"`
		Name     string         `json:"name"`
		Version  string         `json:"version,omitempty"`
		Build    string         `json:"build,omitempty"`
		SBOM     insight.Digest `json:"sbom" doc:"Digest of the document that lists it"`
		Received time.Time      `json:"received"`
	}
	Document struct {
		Place
		Kind       insight.Kind   `json:"kind" enum:"sbom,image"`
		Digest     insight.Digest `json:"digest"`
		Size       int64          `json:"size" doc:"Bytes of the document, inflated"`
		Build      string         `json:"build,omitempty"`
		Current    bool           `json:"current" doc:"No later document of the service has come"`
		Until      time.Time      `json:"until,omitzero" doc:"When one came"`
		Components int            `json:"components,omitempty"`
		Subject    string         `json:"subject,omitempty" doc:"What the document says that it is about"`
		Version    string         `json:"version,omitempty"`
		Received   time.Time      `json:"received"`
	}
	Quarantined struct {
		Agent    fleet.AgentName `json:"agent"`
		Item     insight.ItemID  `json:"item"`
		Reason   string          `json:"reason"`
		Size     int64           `json:"size"`
		Received time.Time       `json:"received"`
	}
)

func fromFact(f insight.FactRecord) Fact {
	return Fact{newPlace(f.Cluster, f.Environment, f.Service), f.Source, f.Name, f.Value, f.Description, f.Type, f.Category, f.Build, f.Since, f.Until, f.Received}
}

func fromProblem(p insight.ProblemRecord) Problem {
	out := Problem{
		Place: newPlace(p.Cluster, p.Environment, p.Service), Source: p.Source, Identifier: p.Identifier,
		Severity: p.Severity, SeverityScore: p.SeverityScore, AssociatedPackage: p.AssociatedPackage,
		Version: p.Version, FixedVersion: p.FixedVersion, Description: p.Description, Links: p.Links, Data: p.Data,
		Since: p.Since, Until: p.Until, Received: p.Received,
	}
	if p.Said != nil {
		said := fromStatement(*p.Said)
		out.Statement = &said
	}
	return out
}

func fromComponent(c insight.ComponentRecord) Component {
	return Component{
		Place: newPlace(c.Cluster, c.Environment, c.Service), PURL: c.PURL, Type: c.Type, Group: c.Group,
		Name: c.Name, Version: c.Version, Build: c.Build, SBOM: c.Digest, Received: c.Received,
	}
}

func fromDocument(d insight.DocumentRecord) Document {
	v := Document{
		Place: newPlace(d.Cluster, d.Environment, d.Service), Kind: d.Kind, Digest: d.Digest, Size: d.Size,
		Build: d.Build, Current: d.Current, Until: d.Until, Components: d.Components, Received: d.Received,
	}
	if d.SBOM != nil {
		v.Subject, v.Version = d.SBOM.SubjectName, d.SBOM.SubjectVersion
	}
	if d.Image != nil {
		v.Subject = d.Image.Name
	}
	return v
}

func fromQuarantine(q insight.QuarantineRecord) Quarantined {
	return Quarantined{q.Cluster, q.Item, q.Reason, q.Size, q.Received}
}

// InsightsPage are the parameters that all lists of insights take.
type InsightsPage struct {
	Agent       string `query:"agent"`
	Project     string `query:"project"`
	Environment string `query:"environment" doc:"Its name"`
	Service     string `query:"service"`
	Limit       int    `query:"limit" minimum:"1" maximum:"999" default:"100"`
	Before      string `query:"before" doc:"The last page's next"`
}

func (c InsightsPage) query() (insight.Query, error) {
	q := insight.Query{
		Cluster: fleet.AgentName(c.Agent), Project: c.Project, Environment: c.Environment, Service: c.Service, Limit: c.Limit + 1,
	}
	if c.Before != "" {
		n, err := strconv.Atoi(c.Before)
		if err != nil || n < 0 {
			return q, huma.Error422UnprocessableEntity("before isn't a cursor", &huma.ErrorDetail{Location: "query.before", Message: "must be the next of an answer"})
		}
		q.Offset = n
	}
	return q, nil
}

// NamespacedPage are those of lists of what is in a namespace.
type NamespacedPage struct {
	InsightsPage
	Namespace string `query:"namespace"`
}

// DocumentsPage are those of lists that can say how things stood at a time.
type DocumentsPage struct {
	NamespacedPage
	Build string    `query:"build" doc:"Of this build alone, current or not"`
	At    time.Time `query:"at" doc:"As it stood then"`
}

// DirectPage are those of facts and problems.
type DirectPage struct {
	DocumentsPage
	EnvironmentID int64     `query:"environmentId"`
	Source        string    `query:"source"`
	Since         time.Time `query:"since" doc:"Only what wasn't so before; with history also what ended since"`
	History       bool      `query:"history" doc:"Also what was told and doesn't hold any more"`
}

func (c DocumentsPage) narrow(q *insight.Query) {
	q.Namespace, q.Build, q.At = c.Namespace, c.Build, c.At
}

func (c DirectPage) narrow(q *insight.Query) {
	c.DocumentsPage.narrow(q)
	q.EnvironmentID, q.Source, q.Since, q.History = c.EnvironmentID, c.Source, c.Since, c.History
}

// listInsights answers a page of what list finds.
func listInsights[S, T any](a *API, ctx context.Context, c InsightsPage, narrow func(*insight.Query), list func(context.Context, insight.Query) ([]S, error), convert func(S) T) (*page[T], error) {
	q, err := c.query()
	if err != nil {
		return nil, err
	}
	narrow(&q)
	q.Within = visible(ctx)
	found, err := list(ctx, q)
	if err != nil {
		return nil, a.problem(ctx, "list insights", err)
	}
	next := strconv.Itoa(q.Offset + c.Limit)
	return newPage(found, c.Limit, convert, func(S) string { return next }), nil
}

func (a *API) insights() {
	type chooseFacts struct {
		DirectPage
		Name string `query:"name"`
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/insights/facts", "list-facts", "List facts")),
		func(ctx context.Context, in *chooseFacts) (*page[Fact], error) {
			return listInsights(a, ctx, in.InsightsPage, func(q *insight.Query) { in.narrow(q); q.Q = in.Name }, a.cfg.Insights.Facts, fromFact)
		})
	type chooseProblems struct {
		DirectPage
		Identifier string `query:"identifier" doc:"Such as CVE-2024-3094"`
		Cleared    bool   `query:"cleared" doc:"Also what a statement (VEX) says is no problem"`
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/insights/problems", "list-problems", "List problems")),
		func(ctx context.Context, in *chooseProblems) (*page[Problem], error) {
			return listInsights(a, ctx, in.InsightsPage, func(q *insight.Query) {
				in.narrow(q)
				q.Q, q.Cleared = in.Identifier, in.Cleared
			}, a.cfg.Insights.Problems, fromProblem)
		})
	type chooseSBOMs struct {
		DocumentsPage
		History bool `query:"history" doc:"Also those that a later one replaced"`
	}
	documents := func(path, id, summary string, kind insight.Kind) {
		huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, path, id, summary)),
			func(ctx context.Context, in *chooseSBOMs) (*page[Document], error) {
				return listInsights(a, ctx, in.InsightsPage, func(q *insight.Query) {
					in.narrow(q)
					q.History, q.Kind = in.History, kind
				}, a.cfg.Insights.InsightDocuments, fromDocument)
			})
	}
	documents("/insights/sboms", "list-sboms", "List SBOMs, the latest first", insight.KindSBOM)
	documents("/insights/images", "list-images", "List image inspects, the latest first", insight.KindImage)
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/insights/quarantine", "list-quarantine", "List what agents sent that couldn't be taken, and why")),
		func(ctx context.Context, in *struct{ InsightsPage }) (*page[Quarantined], error) {
			return listInsights(a, ctx, in.InsightsPage, func(*insight.Query) {}, a.cfg.Insights.Quarantined, fromQuarantine)
		})
	type chooseComponents struct {
		DocumentsPage
		Q    string `query:"q" doc:"How its name begins, or its purl (pkg:…)"`
		SBOM string `query:"sbom" doc:"Digest of one SBOM"`
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/components", "search-components", "Find packages in the current SBOMs")),
		func(ctx context.Context, in *chooseComponents) (*page[Component], error) {
			return listInsights(a, ctx, in.InsightsPage, func(q *insight.Query) {
				in.narrow(q)
				q.Q, q.Digest = in.Q, insight.Digest(in.SBOM)
			}, a.cfg.Insights.Components, fromComponent)
		})

	for path, kind := range map[string]string{"/insights/sboms/{digest}": "sbom", "/insights/images/{digest}": "image"} {
		op := within(operation(pki.Viewer, http.MethodGet, path, "get-"+kind, "The document as its maker wrote it, inflated", http.StatusNotFound))
		op.Responses = map[string]*huma.Response{"200": {
			Description: "The document",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{}}},
		}}
		huma.Register(a.huma, op, func(ctx context.Context, in *struct {
			Digest string `path:"digest" doc:"sha256: and 64 hex digits"`
		},
		) (*huma.StreamResponse, error) {
			err := a.documentSeen(ctx, in.Digest)
			var doc io.ReadCloser
			if err == nil {
				doc, err = a.cfg.Insights.InsightDocument(ctx, in.Digest)
			}
			if err != nil {
				return nil, a.problem(ctx, "get a document", err)
			}
			return a.document(doc, "application/json"), nil
		})
	}
}

// documentSeen answers insight.ErrNotFound for a document that isn't of what the
// caller may know of.
func (a *API) documentSeen(ctx context.Context, digest string) error {
	part := visible(ctx)
	if part == nil {
		return nil
	}
	found, err := a.cfg.Insights.InsightDocuments(ctx, insight.Query{Digest: insight.Digest(digest), History: true, Within: part, Limit: 1})
	if err == nil && len(found) == 0 {
		err = insight.ErrNotFound
	}
	return err
}
