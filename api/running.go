package api

import (
	"cmp"
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/osv"
	"reeve.dev/reeve/pki"
)

type (
	// Workload is a container of something that runs.
	Workload struct {
		Agent     fleet.AgentName `json:"agent"`
		Namespace string          `json:"namespace"`
		Kind      string          `json:"kind"`
		Name      string          `json:"name"`
		Container string          `json:"container"`
		Image     string          `json:"image,omitempty"`
		Digest    string          `json:"digest,omitempty"`
		Service   string          `json:"service,omitempty"`
		Pods      int             `json:"pods"`
		FirstSeen time.Time       `json:"firstSeen" doc:"When it first ran this image"`
		SBOM      insight.Digest  `json:"sbom,omitempty" doc:"Of its image or, where none says that, of its service"`
	}
	// Inventory is how an agent reported last what runs.
	Inventory struct {
		Agent     fleet.AgentName `json:"agent"`
		Reported  time.Time       `json:"reported"`
		Workloads int             `json:"workloads"`
		Unknown   int             `json:"unknown" doc:"Workloads whose image has no SBOM"`
		Backlog   Backlog         `json:"backlog"`
	}
	// Backlog is what an agent had, when it reported, that hadn't reached the hub.
	Backlog struct {
		Items  int       `json:"items"`
		Bytes  int64     `json:"bytes"`
		Since  time.Time `json:"since,omitzero" doc:"When the oldest of it came"`
		Broker string    `json:"broker,omitempty" doc:"Why Lagoon's broker takes nothing from it; absent while it does"`
	}
	// Run is a component and one place where it runs.
	Run struct {
		Place
		PURL      string         `json:"purl,omitempty"`
		Name      string         `json:"name"`
		Version   string         `json:"version,omitempty"`
		Kind      string         `json:"kind,omitempty"`
		Workload  string         `json:"workload,omitempty" doc:"Empty where the agent reports no workload that the SBOM is of"`
		Container string         `json:"container,omitempty"`
		Image     string         `json:"image,omitempty"`
		Pods      int            `json:"pods,omitempty"`
		Build     string         `json:"build,omitempty"`
		SBOM      insight.Digest `json:"sbom"`
		Since     time.Time      `json:"since" doc:"When the SBOM came or, of a workload with an SBOM from elsewhere, when that first ran the image"`
	}
)

func fromWorkload(w insight.WorkloadRecord) Workload {
	return Workload{
		w.Cluster, w.Namespace, w.Kind, w.Name, w.Container, w.Image, w.Digest, w.Service, w.Pods, w.FirstSeen, w.SBOM,
	}
}

func fromInventory(r insight.InventoryRecord) Inventory {
	return Inventory{Agent: r.Cluster, Reported: r.Reported, Workloads: r.Workloads, Unknown: r.Unknown, Backlog: Backlog(r.Backlog)}
}

func fromRun(r insight.RunRecord) Run {
	out := Run{
		Place: newPlace(r.Cluster, r.Environment, r.Service), PURL: r.PURL, Name: r.Name, Version: r.Version,
		Build: r.Build, SBOM: r.Digest, Since: r.Received,
	}
	if w := r.Workload; w != nil {
		out.Kind, out.Workload, out.Container, out.Image, out.Pods = w.Kind, w.Name, w.Container, cmp.Or(w.Image, w.Digest), w.Pods
	}
	return out
}

// running is what runs, and which components are in it.
func (a *API) running() {
	type chooseWorkloads struct {
		Agent     string    `query:"agent"`
		Namespace string    `query:"namespace"`
		Service   string    `query:"service"`
		Since     time.Time `query:"since" doc:"Only what didn't run before"`
		SBOM      string    `query:"sbom" enum:"any,missing" default:"any" doc:"missing: only images without an SBOM"`
		Limit     int       `query:"limit" minimum:"1" maximum:"999" default:"100"`
		Before    string    `query:"before" doc:"The last page's next"`
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/workloads", "list-workloads", "List what runs in the clusters, and the SBOM of each image")),
		func(ctx context.Context, in *chooseWorkloads) (*page[Workload], error) {
			common := InsightsPage{Agent: in.Agent, Service: in.Service, Limit: in.Limit, Before: in.Before}
			list := func(ctx context.Context, q insight.Query) ([]insight.WorkloadRecord, error) {
				return a.cfg.Insights.Workloads(ctx, q, in.SBOM == "missing")
			}
			return listInsights(a, ctx, common, func(q *insight.Query) { q.Namespace, q.Since = in.Namespace, in.Since }, list, fromWorkload)
		})
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/inventories", "list-inventories", "List how each agent last reported what runs, and what waits at it")),
		func(ctx context.Context, in *struct {
			Agent  string `query:"agent"`
			Limit  int    `query:"limit" minimum:"1" maximum:"999" default:"100"`
			Before string `query:"before" doc:"The last page's next"`
		},
		) (*page[Inventory], error) {
			common := InsightsPage{Agent: in.Agent, Limit: in.Limit, Before: in.Before}
			return listInsights(a, ctx, common, func(*insight.Query) {}, a.cfg.Insights.Inventories, fromInventory)
		})
	type chooseRuns struct {
		NamespacedPage
		Of    string    `query:"of" required:"true" minLength:"1" doc:"A purl with or without a version (pkg:…), a component's name, or a vulnerability's identifier"`
		From  string    `query:"from" doc:"Only this version and later ones"`
		Below string    `query:"below" doc:"Only versions before this one"`
		Since time.Time `query:"since" doc:"Only places where it wasn't before"`
	}
	op := within(operation(pki.Viewer, http.MethodGet, "/who-runs", "who-runs", "Find the workloads that run a component"))
	op.Description += " Versions are compared as the component's ecosystem does."
	huma.Register(a.huma, op, func(ctx context.Context, in *chooseRuns) (*page[Run], error) {
		list := func(ctx context.Context, q insight.Query) ([]insight.RunRecord, error) {
			return a.cfg.Insights.WhoRuns(ctx, q, func(c insight.Component) bool { return osv.Between(c, in.From, in.Below) })
		}
		return listInsights(a, ctx, in.InsightsPage, func(q *insight.Query) { q.Namespace, q.Q, q.Since = in.Namespace, in.Of, in.Since }, list, fromRun)
	})
}
