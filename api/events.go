package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/event"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
)

// The wire's shapes of events.
type (
	// Event is an event as the hub keeps it.
	Event struct {
		ID        event.ID        `json:"id" doc:"The hub's own"`
		Source    string          `json:"source"`
		Name      string          `json:"name" doc:"The event's attribute id"`
		Type      string          `json:"type"`
		Subject   string          `json:"subject,omitempty"`
		Time      time.Time       `json:"time,omitzero"`
		Agent     string          `json:"agent,omitempty"`
		Namespace string          `json:"namespace,omitempty"`
		Received  time.Time       `json:"received"`
		By        string          `json:"by" doc:"Who sent it"`
		State     event.State     `json:"state" enum:"pending,scanned,duplicate,superseded,unrouted,invalid,error"`
		Reason    string          `json:"reason,omitempty"`
		Decisions []EventDecision `json:"decisions" nullable:"false" doc:"What the routes that match it led to"`
		Event     json.RawMessage `json:"event,omitempty" doc:"The whole event, where one is asked for"`
	}
	EventDecision struct {
		Route  string      `json:"route"`
		State  event.State `json:"state" enum:"scanned,duplicate,error"`
		Scan   string      `json:"scan,omitempty"`
		Reason string      `json:"reason,omitempty"`
	}
	// AcceptedEvents is the answer to who sent events.
	AcceptedEvents struct {
		Events  []AcceptedEvent `json:"events" nullable:"false"`
		Skipped int             `json:"skipped,omitempty" doc:"Notifications of a registry that are about no image"`
	}
	AcceptedEvent struct {
		ID     string `json:"id" doc:"The event's own"`
		Source string `json:"source"`
		State  string `json:"state" enum:"pending,invalid,repeated" doc:"repeated: it has been sent before, and changes nothing"`
		Reason string `json:"reason,omitempty"`
	}
	EventRoute struct {
		Name  string     `json:"name"`
		Agent string     `json:"agent,omitempty" doc:"Whose it is; none: the hub's"`
		Match EventMatch `json:"match"`
		Scan  EventScan  `json:"scan"`
	}
	// EventMatch has lists of patterns, in which * stands for any text.
	EventMatch struct {
		Types      []string `json:"types,omitempty"`
		Sources    []string `json:"sources,omitempty"`
		Agents     []string `json:"agents,omitempty"`
		Namespaces []string `json:"namespaces,omitempty"`
		Images     []string `json:"images,omitempty" doc:"Of references without tag and digest"`
		Labels     string   `json:"labels,omitempty" doc:"A label selector of Kubernetes"`
	}
	EventScan struct {
		Profile   string         `json:"profile"`
		Threshold string         `json:"threshold,omitempty"`
		Inputs    map[string]any `json:"inputs,omitempty"`
		Method    string         `json:"method,omitempty" enum:"auto,exec,ephemeral,sidecar"`
		SBOM      bool           `json:"sbom,omitempty"`
		Priority  string         `json:"priority,omitempty" enum:"high,normal,low"`
		Timeout   int            `json:"timeout,omitempty" doc:"Seconds"`
		Agent     string         `json:"agent,omitempty" doc:"Which makes the scan where the event names none"`
		Actions   []string       `json:"actions,omitempty" doc:"What an agent's own policy wants its outcomes told to"`
	}
)

func fromEvent(e event.Event) Event {
	out := Event{
		ID: e.ID, Source: e.Source, Name: e.Name, Type: e.Type, Subject: e.Subject, Time: e.Time, Agent: e.Data.Agent, Namespace: e.Data.Namespace,
		Received: e.Received, By: e.By, State: e.State, Reason: e.Reason, Decisions: []EventDecision{},
	}
	for _, d := range e.Decisions {
		out.Decisions = append(out.Decisions, EventDecision(d))
	}
	return out
}

// messageInput is a body and the headers that say what is in it.
type messageInput struct {
	RawBody []byte
	message event.Message
}

// Resolve implements huma.Resolver.
func (in *messageInput) Resolve(ctx huma.Context) []error {
	in.message = event.Message{
		ContentType: ctx.Header("Content-Type"),
		Attributes: event.AttributesOf(func(yield func(string, string) bool) {
			more := true
			ctx.EachHeader(func(name, value string) { more = more && yield(name, value) })
		}),
		Body: in.RawBody,
	}
	return nil
}

// occurrences are events that are sent to lead to scans.
func (a *API) occurrences() {
	type accepted struct{ Body AcceptedEvents }
	op := within(operation(pki.Scanner, http.MethodPost, "/events", "send-events", "Send CloudEvents, which lead to scans by the hub's routes",
		http.StatusRequestEntityTooLarge, http.StatusTooManyRequests))
	op.Description += fmt.Sprintf(" CloudEvents 1.0, structured (%s), as a batch (%s, at most %d) or in binary mode (ce- headers). They are kept once this is answered; the same source and id again change nothing. 429 with Retry-After: too many wait.",
		event.StructuredType, event.BatchType, event.MaxEvents)
	op.DefaultStatus, op.MaxBodyBytes, op.SkipValidateBody = http.StatusAccepted, event.MaxBatch, true
	op.RequestBody = messageBody(event.StructuredType, event.BatchType, "application/json")
	huma.Register(a.huma, op, func(ctx context.Context, in *messageInput) (*accepted, error) {
		events, err := event.Decode(in.message)
		if err != nil {
			return nil, eventProblem(err)
		}
		out, err := a.accept(ctx, events)
		return &accepted{out}, err
	})

	op = within(operation(pki.Scanner, http.MethodPost, "/events/registry", "send-registry-events", "Send a registry's notifications, which lead to scans of images by the hub's routes",
		http.StatusRequestEntityTooLarge, http.StatusTooManyRequests))
	op.Description += " In the form of Docker's distribution, or Harbor's in either of its forms. Both can send an API token in the header Authorization."
	op.DefaultStatus, op.MaxBodyBytes, op.SkipValidateBody = http.StatusAccepted, event.MaxBatch, true
	op.RequestBody = messageBody("application/json", "application/vnd.docker.distribution.events.v1+json", "application/vnd.docker.distribution.events.v2+json", event.StructuredType)
	huma.Register(a.huma, op, func(ctx context.Context, in *messageInput) (*accepted, error) {
		events, skipped, err := event.FromRegistry(in.message)
		if err != nil {
			return nil, eventProblem(err)
		}
		out, err := a.accept(ctx, events)
		out.Skipped = skipped
		return &accepted{out}, err
	})

	type listInput struct {
		State  string `query:"state" enum:"pending,scanned,duplicate,superseded,unrouted,invalid,error"`
		Type   string `query:"type"`
		Source string `query:"source"`
		Agent  string `query:"agent"`
		Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Before string `query:"before" doc:"The last page's next"`
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/events", "list-events", "List events, newest first, and what they led to")),
		func(ctx context.Context, in *listInput) (*page[Event], error) {
			found, err := a.cfg.Events.Events(ctx, event.Filter{
				State: event.State(in.State), Type: in.Type, Source: in.Source, Agent: in.Agent,
				Before: event.ID(in.Before), Limit: in.Limit + 1, Within: visible(ctx),
			})
			if err != nil {
				return nil, a.problem(ctx, "list events", err)
			}
			return newPage(found, in.Limit, fromEvent, func(e event.Event) string { return string(e.ID) }), nil
		})

	type byID struct {
		ID string `path:"id" doc:"The hub's id of the event"`
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/events/{id}", "get-event", "Show an event", http.StatusNotFound)),
		func(ctx context.Context, in *byID) (*struct{ Body Event }, error) {
			e, err := a.cfg.Events.Event(ctx, event.ID(in.ID))
			if err == nil && !seen(ctx, fleet.AgentName(e.Data.Agent), e.Data.Namespace) {
				err = event.ErrNotFound
			}
			if err != nil {
				return nil, a.problem(ctx, "get an event", err)
			}
			out := fromEvent(e)
			out.Event = e.Body
			return &struct{ Body Event }{out}, nil
		})

	huma.Register(a.huma, operation(pki.Viewer, http.MethodGet, "/event-routes", "list-event-routes", "List the routes by which events lead to scans"),
		func(ctx context.Context, _ *struct{}) (*page[EventRoute], error) {
			routes, err := a.cfg.Events.Routes(ctx)
			if err != nil {
				return nil, a.problem(ctx, "list routes", err)
			}
			return newPage(routes, 0, func(r event.Route) EventRoute {
				return EventRoute{Name: r.Name, Agent: r.Agent, Match: EventMatch(r.Match), Scan: EventScan(r.Scan)}
			}, nil), nil
		})
}

// messageBody describes a body that is an event or several.
func messageBody(types ...string) *huma.RequestBody {
	b := &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
	for _, t := range types {
		typ := huma.TypeObject
		if t == event.BatchType {
			typ = huma.TypeArray
		}
		m := &huma.MediaType{Schema: &huma.Schema{Type: typ}}
		if typ == huma.TypeArray {
			m.Schema.Items = &huma.Schema{Type: huma.TypeObject}
		}
		b.Content[t] = m
	}
	return b
}

// accept keeps events, if the caller may ask for scans where all of them are.
func (a *API) accept(ctx context.Context, events []event.Event) (AcceptedEvents, error) {
	out := AcceptedEvents{Events: []AcceptedEvent{}}
	for _, e := range events {
		if strings.HasPrefix(e.Source, event.AgentSource) {
			return out, invalidMember("source", fmt.Sprintf("%q is for an agent's own events", e.Source))
		}
		if err := reach(ctx, pki.Scanner, fleet.AgentName(e.Data.Agent), e.Data.ScanNamespace()); err != nil {
			return out, err
		}
	}
	if len(events) == 0 {
		return out, nil
	}
	added, err := a.cfg.Events.Accept(ctx, callerOf(ctx).String(), events)
	if errors.Is(err, event.ErrFull) {
		return out, huma.ErrorWithHeaders(huma.Error429TooManyRequests(err.Error()), http.Header{"Retry-After": {"5"}})
	}
	if err != nil {
		return out, a.problem(ctx, "keep events", err)
	}
	bad := 0
	for i, e := range events {
		one := AcceptedEvent{ID: e.Name, Source: e.Source, State: string(e.State), Reason: e.Reason}
		if e.State == event.Invalid {
			bad++
		} else if !added[i] {
			one.State = "repeated"
		}
		out.Events = append(out.Events, one)
	}
	if bad == len(events) {
		field, reason, _ := strings.Cut(events[0].Reason, ": ")
		return out, invalidMember(field, reason)
	}
	return out, nil
}

// eventProblem words what is wrong with a message as a whole.
func eventProblem(err error) error {
	var bad *event.InvalidError
	if !errors.As(err, &bad) {
		return err
	}
	return invalidMember(bad.Field, bad.Reason)
}
