package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/pki"
)

type (
	Alert struct {
		ID        alert.ID    `json:"id"`
		Sink      string      `json:"sink"`
		Owner     string      `json:"owner"`
		Repo      string      `json:"repo"`
		Policy    string      `json:"policy"`
		Pass      bool        `json:"pass"`
		Gone      bool        `json:"gone,omitempty" doc:"The subject isn't checked any more; pass says nothing then"`
		Details   string      `json:"details,omitempty"`
		Run       string      `json:"run" doc:"What made the outcome, such as a scan's id"`
		At        time.Time   `json:"at"`
		Seq       int64       `json:"seq" doc:"Its place in the order of its owner, repo, policy and sink"`
		State     alert.State `json:"state" enum:"pending,delivered,dead,skipped"`
		Attempts  int         `json:"attempts"`
		LastError string      `json:"lastError,omitempty"`
		Created   time.Time   `json:"created"`
		NextAt    time.Time   `json:"nextAt,omitzero" doc:"When a pending one is tried next"`
		Done      time.Time   `json:"done,omitzero" doc:"When it left the state pending"`
	}
	Sink struct {
		Name          string    `json:"name"`
		Type          string    `json:"type,omitempty" doc:"As configured; none: the configuration doesn't name it"`
		People        bool      `json:"people,omitempty" doc:"Whether people read it: then silences hold for it"`
		Pending       int       `json:"pending"`
		Delivered     int       `json:"delivered"`
		Dead          int       `json:"dead"`
		Skipped       int       `json:"skipped"`
		OldestPending time.Time `json:"oldestPending,omitzero"`
		PausedUntil   time.Time `json:"pausedUntil,omitzero"`
		Reason        string    `json:"reason,omitempty" doc:"Why it is paused"`
		PausedBy      string    `json:"pausedBy,omitempty" doc:"Who paused it until somebody resumes it"`
	}
	alertOutput struct{ Body Alert }
)

func fromAlert(al alert.Alert) Alert {
	v := Alert{
		ID: al.ID, Sink: al.Sink, Owner: al.Outcome.Subject.Owner, Repo: al.Outcome.Subject.Repo, Policy: al.Outcome.Policy,
		Pass: al.Outcome.Pass, Gone: al.Outcome.Gone, Details: al.Outcome.Details, Run: al.Outcome.Run, At: al.Outcome.At, Seq: al.Seq,
		State: al.State, Attempts: al.Attempts, LastError: al.LastError, Created: al.Created, Done: al.Done,
	}
	if al.State == alert.Pending {
		v.NextAt = al.NextAt
	}
	return v
}

func (a *API) fromSink(s alert.SinkStatus) Sink {
	c := a.cfg.Alerts.Sinks[s.Sink]
	return Sink{
		Name: s.Sink, Type: c.Type, People: c.People, Pending: s.Pending, Delivered: s.Delivered, Dead: s.Dead, Skipped: s.Skipped,
		OldestPending: s.OldestPending, PausedUntil: s.PausedUntil, Reason: s.Reason, PausedBy: s.HeldBy,
	}
}

func sortSinks(all []Sink) {
	slices.SortFunc(all, func(a, b Sink) int { return strings.Compare(a.Name, b.Name) })
}

func (a *API) alerts() {
	type listInput struct {
		State  string `query:"state" enum:"pending,delivered,dead,skipped"`
		Sink   string `query:"sink"`
		Run    string `query:"run" doc:"Those of one scan, or one run of policies"`
		Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Before string `query:"before" doc:"The last page's next"`
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/alerts", "list-alerts", "List alerts, newest first", http.StatusNotFound)),
		func(ctx context.Context, in *listInput) (*page[Alert], error) {
			found, err := a.cfg.Outbox.Alerts(ctx, alert.Filter{
				State: alert.State(in.State), Sink: in.Sink, Run: in.Run, Before: alert.ID(in.Before), Limit: in.Limit + 1, Within: visible(ctx),
			})
			if err != nil {
				return nil, a.problem(ctx, "list alerts", err)
			}
			return newPage(found, in.Limit, fromAlert, func(al alert.Alert) string { return string(al.ID) }), nil
		})

	type idInput struct {
		ID string `path:"id"`
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/alerts/{id}", "get-alert", "Get an alert", http.StatusNotFound)),
		func(ctx context.Context, in *idInput) (*alertOutput, error) {
			if err := a.reachAlert(ctx, pki.Viewer, alert.ID(in.ID)); err != nil {
				return nil, a.problem(ctx, "get an alert", err)
			}
			al, err := a.cfg.Outbox.Alert(ctx, alert.ID(in.ID))
			if err != nil {
				return nil, a.problem(ctx, "get an alert", err)
			}
			return &alertOutput{fromAlert(al)}, nil
		})
	act := func(verb, summary string, do func(alert.Outbox, context.Context, alert.ID) error) {
		op := within(operation(pki.Operator, http.MethodPost, "/alerts/{id}/"+verb, verb+"-alert", summary, http.StatusNotFound, http.StatusConflict))
		huma.Register(a.huma, op, func(ctx context.Context, in *idInput) (*alertOutput, error) {
			if err := a.reachAlert(ctx, pki.Operator, alert.ID(in.ID)); err != nil {
				return nil, a.problem(ctx, verb+" an alert", err)
			}
			if err := do(a.cfg.Outbox, ctx, alert.ID(in.ID)); err != nil {
				return nil, a.problem(ctx, verb+" an alert", err)
			}
			a.cfg.Logger.InfoContext(ctx, "alert "+verb, "alert", in.ID, "by", callerOf(ctx).String())
			al, err := a.cfg.Outbox.Alert(ctx, alert.ID(in.ID))
			if err != nil {
				return nil, a.problem(ctx, "get an alert", err)
			}
			return &alertOutput{fromAlert(al)}, nil
		})
	}
	act("replay", "Deliver an alert again", alert.Outbox.ReplayAlert)
	act("skip", "Give an alert up, so that those behind it go on", alert.Outbox.SkipAlert)

	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/sinks", "list-sinks", "How the outbox of each sink stands")),
		func(ctx context.Context, _ *struct{}) (*page[Sink], error) {
			all, err := a.sinks(ctx)
			if err != nil {
				return nil, err
			}
			return newPage(all, 0, func(s Sink) Sink { return s }, nil), nil
		})
}

// reachAlert refuses who isn't in role where the alert's scan was made, or the
// subject of its policy is, and doesn't tell of it who may not know of that.
func (a *API) reachAlert(ctx context.Context, role pki.Role, id alert.ID) error {
	if callerOf(ctx).Rights.Everywhere(role) {
		return nil
	}
	al, err := a.cfg.Outbox.Alert(ctx, id)
	if err != nil {
		return err
	}
	if al.Agent == "" || !seen(ctx, al.Agent, al.Namespace) {
		return alert.ErrNotFound
	}
	return reach(ctx, role, al.Agent, al.Namespace)
}
