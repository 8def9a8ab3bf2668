package api

import (
	"context"
	"iter"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/pki"
)

// Exporter sends stored SBOMs where the hub's configuration says.
type Exporter interface {
	// Export has them sent, again where they were already, and answers how many
	// go anywhere; of several for one destination the first goes. It answers an
	// *insight.InvalidError where there is nowhere.
	Export(ctx context.Context, latestFirst iter.Seq2[[]insight.DocumentRecord, error]) (int, error)
}

type (
	// Export is an SBOM on its way to a project of Dependency-Track.
	Export struct {
		Place
		ToProject string              `json:"toProject"`
		ToVersion string              `json:"toVersion,omitempty"`
		Build     string              `json:"build,omitempty"`
		SBOM      insight.Digest      `json:"sbom"`
		State     insight.ExportState `json:"state" enum:"waiting,sent,refused"`
		Queued    time.Time           `json:"queued"`
		Attempts  int                 `json:"attempts"`
		Next      time.Time           `json:"next,omitzero" doc:"When it is tried next"`
		Reason    string              `json:"reason,omitempty" doc:"Why it was refused, or not taken the last time"`
		Ended     time.Time           `json:"ended,omitzero" doc:"When it was sent or refused"`
	}
	// Exported counts what was asked for.
	Exported struct {
		Queued int `json:"queued" doc:"SBOMs that are sent"`
	}
)

func fromExport(e insight.Export) Export {
	return Export{
		Place: newPlace(e.Cluster, e.Environment, e.Service), ToProject: e.Project, ToVersion: e.Version, Build: e.Build, SBOM: e.Digest,
		State: e.State, Queued: e.Queued, Attempts: e.Attempts, Next: e.Next, Reason: e.Reason, Ended: e.Ended,
	}
}

func (a *API) exports() {
	type choose struct {
		NamespacedPage
		State string `query:"state" enum:"waiting,sent,refused"`
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/insights/exports", "list-exports", "List the SBOMs that go to Dependency-Track, the latest first")),
		func(ctx context.Context, in *choose) (*page[Export], error) {
			list := func(ctx context.Context, q insight.Query) ([]insight.Export, error) {
				return a.cfg.Insights.Exports(ctx, q, insight.ExportState(in.State))
			}
			return listInsights(a, ctx, in.InsightsPage, func(q *insight.Query) { q.Namespace = in.Namespace }, list, fromExport)
		})
	type which struct {
		Body struct {
			Agent       string `json:"agent,omitempty"`
			Namespace   string `json:"namespace,omitempty"`
			Project     string `json:"project,omitempty"`
			Environment string `json:"environment,omitempty"`
			Service     string `json:"service,omitempty"`
		}
	}
	op := operation(pki.Operator, http.MethodPost, "/insights/exports", "export-insights", "Send the current SBOMs to Dependency-Track, again where they were sent already", http.StatusUnprocessableEntity)
	op.DefaultStatus = http.StatusAccepted
	huma.Register(a.huma, op, func(ctx context.Context, in *which) (*struct{ Body Exported }, error) {
		b := in.Body
		c := InsightsPage{Agent: b.Agent, Project: b.Project, Environment: b.Environment, Service: b.Service, Limit: 999}
		q, err := c.query()
		if err != nil {
			return nil, err
		}
		q.Namespace, q.Kind = b.Namespace, insight.KindSBOM
		n, err := a.cfg.Exporter.Export(ctx, func(yield func([]insight.DocumentRecord, error) bool) {
			for {
				documents, err := a.cfg.Insights.InsightDocuments(ctx, q)
				if !yield(documents, err) || err != nil || len(documents) < q.Limit {
					return
				}
				q.Offset += len(documents)
			}
		})
		if err != nil {
			return nil, a.problem(ctx, "export insights", err)
		}
		return &struct{ Body Exported }{Exported{Queued: n}}, nil
	})
}
