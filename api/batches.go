package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
)

func fromBatch(b scan.Batch) Batch {
	out := Batch{ID: b.ID, Status: "done", RequestedBy: b.RequestedBy, Created: b.Created, Selections: []Selection{}}
	n := &out.Scans
	n.Queued, n.Running, n.Completed = b.Scans[scan.Queued], b.Scans[scan.Running], b.Scans[scan.Completed]
	n.Error, n.Cancelled = b.Scans[scan.Error], b.Scans[scan.Cancelled]
	n.Passed, n.Failed = b.Outcomes[scan.Passed], b.Outcomes[scan.Failed]
	if n.Queued+n.Running > 0 {
		out.Status = "running"
	}
	for _, s := range b.Selections {
		out.Selections = append(out.Selections, Selection{Agent: string(s.Request.Target.Agent), Status: s.Status, Reason: s.Reason})
		if !s.Status.Final() {
			out.Status = "selecting"
		}
	}
	out.Links.Self = prefix + "/batches/" + string(b.ID)
	out.Links.Scans = prefix + "/scans?batch=" + url.QueryEscape(string(b.ID))
	return out
}

func (b *BatchRequest) request(ctx context.Context) scan.BatchRequest {
	r := scan.BatchRequest{
		Request:  b.ScanRun.request(ctx),
		Selector: scan.Selector{Namespace: b.Selector.Namespace, Labels: b.Selector.Labels, Container: b.Selector.Container},
	}
	if w := b.Selector.Workload; w != nil {
		r.Selector.Kind, r.Selector.Name = w.Kind, w.Name
	}
	for _, agent := range b.Selector.Agents {
		r.Agents = append(r.Agents, fleet.AgentName(agent))
	}
	return r
}

// batches are scans of all that a selector chooses.
func (a *API) batches() {
	type created struct {
		Location string `header:"Location"`
		Body     Batch
	}
	type createInput struct {
		Key  string `header:"Idempotency-Key" maxLength:"255" doc:"As of a scan"`
		Body BatchRequest
	}
	op := within(operation(pki.Scanner, http.MethodPost, "/batches", "create-batch", "Ask for scans of all containers that a selector chooses", http.StatusRequestEntityTooLarge))
	op.Description += " The agents search their clusters, also those that are away now, once they are back; each container that they find becomes a scan."
	op.DefaultStatus = http.StatusAccepted
	huma.Register(a.huma, op, func(ctx context.Context, in *createInput) (*created, error) {
		r := in.Body.request(ctx)
		if err := a.prepare(ctx, &r.Request, in.Key, in.Body); err != nil {
			return nil, err
		}
		b, err := a.cfg.Scans.CreateBatch(ctx, r)
		if err != nil {
			return nil, a.problem(ctx, "create a batch", err)
		}
		out := fromBatch(b)
		return &created{Location: out.Links.Self, Body: out}, nil
	})

	type byID struct {
		ID string `path:"id" doc:"The batch's id"`
	}
	type getInput struct {
		ID string `path:"id" doc:"The batch's id"`
		IfNoneMatch
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/batches/{id}", "get-batch", "Show how the scans of a batch stand", http.StatusNotModified, http.StatusNotFound)),
		func(ctx context.Context, in *getInput) (*tagged[Batch], error) {
			b, err := a.batch(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return tag(in.IfNoneMatch, "", fromBatch(b))
		})

	huma.Register(a.huma, within(operation(pki.Scanner, http.MethodPost, "/batches/{id}/cancel", "cancel-batch", "Cancel what isn't finished of a batch", http.StatusNotFound)),
		func(ctx context.Context, in *byID) (*struct{ Body Batch }, error) {
			b, err := a.batch(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			for _, s := range b.Selections {
				if err := reach(ctx, pki.Scanner, s.Request.Target.Agent, s.Request.Target.Namespace); err != nil {
					return nil, err
				}
			}
			if b, err = a.cfg.Scans.CancelBatch(ctx, b.ID, callerOf(ctx).String()); err != nil {
				return nil, a.problem(ctx, "cancel a batch", err)
			}
			return &struct{ Body Batch }{fromBatch(b)}, nil
		})
}

// batch finds one that the caller may see the whole of.
func (a *API) batch(ctx context.Context, id string) (scan.Batch, error) {
	b, err := a.cfg.Scans.Batch(ctx, scan.BatchID(id))
	for _, s := range b.Selections {
		if err == nil && !seen(ctx, s.Request.Target.Agent, s.Request.Target.Namespace) {
			err = fmt.Errorf("batch %s: %w", id, scan.ErrNoBatch)
		}
	}
	if err != nil {
		return scan.Batch{}, a.problem(ctx, "get a batch", err)
	}
	return b, nil
}
