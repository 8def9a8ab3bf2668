package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/sign"
	"reeve.dev/reeve/pki"
)

// Alerting is what the API needs besides the outbox.
type Alerting struct {
	Runs     alert.Runs
	Silences alert.Silences
	// Silenced is told that silences have changed; nil: nobody is.
	Silenced func()
	Keys     AlertKeys
	// Sinks are the configured ones by name.
	Sinks map[string]ConfiguredSink
}

// ConfiguredSink is a sink of the configuration.
type ConfiguredSink struct {
	Type string
	// People read what it is told.
	People bool
}

// AlertKeys are the keys that alerts are signed by.
type AlertKeys interface {
	Keys(ctx context.Context) ([]sign.Key, error)
	KeySet(ctx context.Context) ([]byte, error)
	Rotate(ctx context.Context) error
	End(ctx context.Context, id string) error
}

// The wire's shapes.
type (
	AlertRun struct {
		ID       string              `json:"id"`
		Source   string              `json:"source" doc:"What made it, such as scan or policy:NAME"`
		Expected int                 `json:"expected" doc:"How many outcomes should have come of it"`
		Emitted  int                 `json:"emitted" doc:"How many did"`
		Complete bool                `json:"complete" doc:"Whether all did, and it has ended"`
		Began    time.Time           `json:"began"`
		Ended    time.Time           `json:"ended,omitzero"`
		Note     string              `json:"note,omitempty" doc:"Why something is missing"`
		Alerts   map[alert.State]int `json:"alerts,omitempty" doc:"Of one run: how many of its alerts are in each state"`
	}
	SilenceRequest struct {
		Sink    string    `json:"sink,omitempty" maxLength:"1024" doc:"Pattern, in which * stands for any text; left out: all"`
		Owner   string    `json:"owner,omitempty" maxLength:"1024" doc:"Pattern"`
		Repo    string    `json:"repo,omitempty" maxLength:"1024" doc:"Pattern"`
		Policy  string    `json:"policy,omitempty" maxLength:"1024" doc:"Pattern"`
		Until   time.Time `json:"until" doc:"At most a year from now"`
		Comment string    `json:"comment" minLength:"1" maxLength:"1024" doc:"Why, for those who wonder"`
	}
	Silence struct {
		ID string `json:"id"`
		SilenceRequest
		Created   time.Time `json:"created"`
		CreatedBy string    `json:"createdBy"`
	}
	AlertKey struct {
		ID      string    `json:"id"`
		Created time.Time `json:"created"`
		Ends    time.Time `json:"ends,omitzero" doc:"When it signs no more, as it has been replaced"`
	}
	KeySet struct {
		Keys []JSONWebKey `json:"keys" nullable:"false"`
	}
	JSONWebKey struct {
		Type  string `json:"kty"`
		Curve string `json:"crv"`
		ID    string `json:"kid"`
		Use   string `json:"use"`
		X     string `json:"x"`
	}
)

func fromAlertRun(r alert.Run) AlertRun {
	return AlertRun{ID: r.ID, Source: r.Source, Expected: r.Expected, Emitted: r.Emitted, Complete: r.Complete(), Began: r.Began, Ended: r.Ended, Note: r.Note, Alerts: r.Alerts}
}

func fromSilence(s alert.Silence) Silence {
	return Silence{
		ID:             s.ID,
		SilenceRequest: SilenceRequest{Sink: s.Sink, Owner: s.Owner, Repo: s.Repo, Policy: s.Policy, Until: s.Until, Comment: s.Comment},
		Created:        s.Created, CreatedBy: s.CreatedBy,
	}
}

// alerting are the operations about runs, silences, keys and sinks.
func (a *API) alerting() {
	a.alertRuns()
	a.silences()
	a.alertKeys()

	type sinkInput struct {
		Name string `path:"name" maxLength:"300"`
	}
	hold := func(verb, summary string, do func(ctx context.Context, name string) error) {
		huma.Register(a.huma, operation(pki.Operator, http.MethodPost, "/sinks/{name}/"+verb, verb+"-sink", summary, http.StatusNotFound),
			func(ctx context.Context, in *sinkInput) (*struct{ Body Sink }, error) {
				if _, err := a.sink(ctx, in.Name); err != nil {
					return nil, err
				}
				if err := do(ctx, in.Name); err != nil {
					return nil, a.problem(ctx, verb+" a sink", err)
				}
				a.cfg.Logger.InfoContext(ctx, "sink "+verb, "sink", in.Name, "by", callerOf(ctx).String())
				s, err := a.sink(ctx, in.Name)
				return &struct{ Body Sink }{s}, err
			})
	}
	hold("pause", "Deliver nothing to a sink until it is resumed; its alerts wait", func(ctx context.Context, name string) error {
		return a.cfg.Outbox.HoldSink(ctx, name, callerOf(ctx).String())
	})
	hold("resume", "End a sink's pause, whoever made it", func(ctx context.Context, name string) error {
		return a.cfg.Outbox.ResumeSink(ctx, name)
	})
}

// sinks are the configured ones and those that have alerts.
func (a *API) sinks(ctx context.Context) ([]Sink, error) {
	found, err := a.cfg.Outbox.AlertSinks(ctx)
	if err != nil {
		return nil, a.problem(ctx, "list sinks", err)
	}
	out := []Sink{}
	seen := map[string]bool{}
	for _, s := range found {
		seen[s.Sink] = true
		out = append(out, a.fromSink(s))
	}
	for name := range a.cfg.Alerts.Sinks {
		if !seen[name] {
			out = append(out, a.fromSink(alert.SinkStatus{Sink: name}))
		}
	}
	sortSinks(out)
	return out, nil
}

func (a *API) sink(ctx context.Context, name string) (Sink, error) {
	all, err := a.sinks(ctx)
	for _, s := range all {
		if s.Name == name {
			return s, nil
		}
	}
	if err != nil {
		return Sink{}, err
	}
	return Sink{}, huma.Error404NotFound("no such sink: it isn't configured and has no alerts")
}

func (a *API) alertRuns() {
	type listInput struct {
		Source     string `query:"source" doc:"Only those that this made, such as scan or policy:NAME"`
		Incomplete bool   `query:"incomplete" doc:"Only those that haven't ended, or of which outcomes are missing"`
		Limit      int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Before     string `query:"before" doc:"The last page's next"`
	}
	huma.Register(a.huma, operation(pki.Viewer, http.MethodGet, "/alert-runs", "list-alert-runs", "List what made outcomes, newest first: how many should have come, and how many did"),
		func(ctx context.Context, in *listInput) (*page[AlertRun], error) {
			found, err := a.cfg.Alerts.Runs.OutcomeRuns(ctx, alert.RunFilter{Source: in.Source, Incomplete: in.Incomplete, Before: in.Before, Limit: in.Limit + 1})
			if err != nil {
				return nil, a.problem(ctx, "list runs", err)
			}
			return newPage(found, in.Limit, fromAlertRun, func(r alert.Run) string { return r.ID }), nil
		})
	type idInput struct {
		ID string `path:"id" maxLength:"1024"`
	}
	huma.Register(a.huma, operation(pki.Viewer, http.MethodGet, "/alert-runs/{id}", "get-alert-run", "Get a run, with the states of its alerts", http.StatusNotFound),
		func(ctx context.Context, in *idInput) (*struct{ Body AlertRun }, error) {
			r, err := a.cfg.Alerts.Runs.OutcomeRun(ctx, in.ID)
			if err != nil {
				return nil, a.problem(ctx, "get a run", err)
			}
			return &struct{ Body AlertRun }{fromAlertRun(r)}, nil
		})
}

func (a *API) silences() {
	changed := func() {
		if a.cfg.Alerts.Silenced != nil {
			a.cfg.Alerts.Silenced()
		}
	}
	huma.Register(a.huma, operation(pki.Viewer, http.MethodGet, "/silences", "list-silences", "List the silences: what people's channels aren't told of now"),
		func(ctx context.Context, _ *struct{}) (*page[Silence], error) {
			found, err := a.cfg.Alerts.Silences.Silences(ctx, time.Now())
			if err != nil {
				return nil, a.problem(ctx, "list silences", err)
			}
			return newPage(found, 0, fromSilence, nil), nil
		})
	op := operation(pki.Operator, http.MethodPost, "/silences", "create-silence", "Hold back what people's channels would be told, until a time; programs are told all the same", http.StatusUnprocessableEntity)
	op.DefaultStatus = http.StatusCreated
	huma.Register(a.huma, op, func(ctx context.Context, in *struct{ Body SilenceRequest }) (*struct{ Body Silence }, error) {
		b := in.Body
		s := alert.Silence{
			ID: uuid.NewString(), Sink: b.Sink, Owner: b.Owner, Repo: b.Repo, Policy: b.Policy, Until: b.Until.UTC(), Comment: b.Comment,
			CreatedBy: callerOf(ctx).String(), Created: time.Now().UTC(),
		}
		if err := s.Validate(s.Created); err != nil {
			return nil, invalidMember("", err.Error())
		}
		if err := a.cfg.Alerts.Silences.AddSilence(ctx, s); err != nil {
			return nil, a.problem(ctx, "create a silence", err)
		}
		changed()
		return &struct{ Body Silence }{fromSilence(s)}, nil
	})
	type idInput struct {
		ID string `path:"id" maxLength:"64"`
	}
	op = operation(pki.Operator, http.MethodDelete, "/silences/{id}", "delete-silence", "End a silence; what it held back is told, if it is still news", http.StatusNotFound)
	op.DefaultStatus = http.StatusNoContent
	huma.Register(a.huma, op, func(ctx context.Context, in *idInput) (*struct{}, error) {
		if err := a.cfg.Alerts.Silences.RemoveSilence(ctx, in.ID); err != nil {
			return nil, a.problem(ctx, "delete a silence", err)
		}
		changed()
		return nil, nil
	})
}

func (a *API) alertKeys() {
	huma.Register(a.huma, huma.Operation{
		OperationID: "get-alert-keys", Method: http.MethodGet, Path: prefix + "/alert-keys", Tags: []string{"alert-keys"},
		Summary:     "The keys that alerts are signed by",
		Description: "A JSON Web Key Set of Ed25519 keys (RFC 8037), for everybody. While a key is replaced there are two, and alerts are signed by both.",
		Security:    []map[string][]string{{}},
	}, func(ctx context.Context, _ *struct{}) (*struct{ Body KeySet }, error) {
		text, err := a.cfg.Alerts.Keys.KeySet(ctx)
		out := &struct{ Body KeySet }{}
		if err == nil {
			err = json.Unmarshal(text, &out.Body)
		}
		if err != nil {
			return nil, a.problem(ctx, "get the keys of alerts", err)
		}
		return out, nil
	})
	list := func(ctx context.Context) (*page[AlertKey], error) {
		keys, err := a.cfg.Alerts.Keys.Keys(ctx)
		if err != nil {
			return nil, a.problem(ctx, "list the keys of alerts", err)
		}
		return newPage(keys, 0, func(k sign.Key) AlertKey { return AlertKey{ID: k.ID, Created: k.Created, Ends: k.Ends} }, nil), nil
	}
	huma.Register(a.huma, operation(pki.Admin, http.MethodPost, "/alert-keys/rotate", "rotate-alert-keys", "Make a new key that alerts are signed by; the old one signs beside it for a week", http.StatusConflict),
		func(ctx context.Context, _ *struct{}) (*page[AlertKey], error) {
			if err := a.cfg.Alerts.Keys.Rotate(ctx); err != nil {
				return nil, a.problem(ctx, "rotate the keys of alerts", err)
			}
			return list(ctx)
		})
	type idInput struct {
		ID string `path:"id" maxLength:"64"`
	}
	huma.Register(a.huma, operation(pki.Admin, http.MethodPost, "/alert-keys/{id}/end", "end-alert-key", "Sign by a key no more, at once, as when somebody else may have it", http.StatusNotFound),
		func(ctx context.Context, in *idInput) (*page[AlertKey], error) {
			if err := a.cfg.Alerts.Keys.End(ctx, in.ID); err != nil {
				return nil, a.problem(ctx, "end a key of alerts", err)
			}
			return list(ctx)
		})
}
