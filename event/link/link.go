// Package link carries an agent's events and policies to the hub, inside the
// link between them.
//
//	POST /v1/events      one CloudEvent, structured, or a batch
//	PUT  /v1/policies    {"routes": […], "schedules": […]}
//
// Events are answered with 200 once they are kept; the source and the agent
// that they name are the peer's, whatever they say. 400 and 413 are for good;
// after anything else the agent tries again. Policies are the cluster's own
// routes and schedules, all of them: they replace those that the hub has of
// the agent. The answer names those that it doesn't take.
package link

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"reeve.dev/reeve/event"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/internal/spool"
)

// Where the handler is mounted in the link.
const (
	EventsPath   = "/v1/events"
	PoliciesPath = "/v1/policies"
)

const (
	// MaxMessage is the most bytes of what is sent at once.
	MaxMessage = 4 << 20
	maxAnswer  = 1 << 20
	// MaxPolicies is how many routes, and how many schedules, one agent may
	// have.
	MaxPolicies = 1000
)

// Policies are an agent's own. A Schedule is as the API has it, but for a
// selector instead of a target, which is of its own cluster.
type Policies struct {
	Routes    []event.Route `json:"routes"`
	Schedules []Schedule    `json:"schedules"`
}

// Schedule asks for scans of what a selector chooses, when Cron says so in the
// time zone.
type Schedule struct {
	Name     string     `json:"name"`
	Cron     string     `json:"cron"`
	TimeZone string     `json:"timeZone,omitempty"`
	Selector Selector   `json:"selector"`
	Scan     event.Scan `json:"scan"`
	// Jitter is in seconds.
	Jitter int `json:"jitter,omitempty"`
	// Suspended says that it doesn't run for now.
	Suspended bool `json:"suspended,omitempty"`
}

// Selector chooses containers, as that of a batch.
type Selector struct {
	Namespace string `json:"namespace,omitempty"`
	Labels    string `json:"labels,omitempty"`
	Kind      string `json:"kind,omitempty"`
	Name      string `json:"name,omitempty"`
	Container string `json:"container,omitempty"`
}

// Problem says why a route or schedule isn't taken.
type Problem struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

type problems struct {
	Problems []Problem `json:"problems"`
}

// Client is the agent's side. HTTP's transport opens streams of the link.
type Client struct {
	// Base is the hub's address in the link, such as http://hub.
	Base string
	HTTP *http.Client
}

// Send delivers one spooled event; it is what Spool.Drain calls.
func (c *Client) Send(ctx context.Context, it spool.Item) error {
	body, err := it.Open()
	if err != nil {
		return err
	}
	defer body.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Base+EventsPath, body)
	if err != nil {
		return err
	}
	req.ContentLength = it.Size
	req.Header.Set("Content-Type", event.StructuredType)
	status, text, err := c.do(req)
	switch {
	case err != nil:
		return err
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge:
		return spool.Permanent(fmt.Errorf("hub refused event %s: %d: %.500s", it.ID, status, text))
	case status != http.StatusOK:
		return fmt.Errorf("hub didn't take event %s: %d: %.500s", it.ID, status, text)
	}
	return nil
}

// SetPolicies replaces the agent's policies, and answers which of them the
// hub doesn't take.
func (c *Client) SetPolicies(ctx context.Context, p Policies) ([]Problem, error) {
	body, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.Base+PoliciesPath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	status, text, err := c.do(req)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("hub didn't take the policies: %d: %.500s", status, text)
	}
	var answer problems
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("hub's answer to the policies: %w", err)
	}
	return answer.Problems, nil
}

func (c *Client) do(req *http.Request) (status int, text []byte, err error) {
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, text, err
}

// Receiver is the hub's side of what agents send.
type Receiver interface {
	// Accept keeps events; see event.Service.
	Accept(ctx context.Context, by string, events []event.Event) ([]bool, error)
	// SetPolicies replaces those of an agent.
	SetPolicies(ctx context.Context, agent fleet.AgentName, p Policies) ([]Problem, error)
}

// Handler is the hub's side. The request's context names the peer.
func Handler(to Receiver, logger *slog.Logger) http.Handler {
	h := &handler{to, logger}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+EventsPath, h.serve(h.events))
	mux.HandleFunc("PUT "+PoliciesPath, h.serve(h.policies))
	return mux
}

type handler struct {
	to  Receiver
	log *slog.Logger
}

func (h *handler) serve(f func(*http.Request, fleet.AgentName, []byte) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		peer, ok := fleet.PeerFrom(r.Context())
		if !ok {
			http.Error(w, "not inside a link", http.StatusForbidden)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxMessage))
		var answer any
		if err == nil {
			answer, err = f(r, peer.Agent, body)
		}
		var (
			large *http.MaxBytesError
			bad   *event.InvalidError
		)
		switch {
		case errors.As(err, &large):
			http.Error(w, fmt.Sprintf("message has more than %d bytes", large.Limit), http.StatusRequestEntityTooLarge)
		case errors.As(err, &bad):
			http.Error(w, bad.Error(), http.StatusBadRequest)
		case errors.Is(err, event.ErrFull):
			w.Header().Set("Retry-After", "5")
			http.Error(w, err.Error(), http.StatusTooManyRequests)
		case err != nil:
			h.log.ErrorContext(r.Context(), "cannot serve an agent", "agent", peer.Agent, "path", r.URL.Path, "error", err)
			http.Error(w, "the hub couldn't do this now; its log says why", http.StatusInternalServerError)
		default:
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(answer)
		}
	}
}

func (h *handler) events(r *http.Request, agent fleet.AgentName, body []byte) (any, error) {
	events, err := event.Decode(event.Message{ContentType: r.Header.Get("Content-Type"), Body: body})
	if err != nil {
		return nil, err
	}
	for i := range events {
		events[i].Source, events[i].Data.Agent = event.AgentSource+string(agent), string(agent)
	}
	_, err = h.to.Accept(r.Context(), "agent:"+string(agent), events)
	return struct{}{}, err
}

func (h *handler) policies(r *http.Request, agent fleet.AgentName, body []byte) (any, error) {
	var p Policies
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, &event.InvalidError{Reason: fmt.Sprintf("the policies aren't JSON as they must be: %v", err)}
	}
	if len(p.Routes) > MaxPolicies || len(p.Schedules) > MaxPolicies {
		return nil, &event.InvalidError{Reason: fmt.Sprintf("there are %d routes and %d schedules; at most %d of each", len(p.Routes), len(p.Schedules), MaxPolicies)}
	}
	refused, err := h.to.SetPolicies(r.Context(), agent, p)
	if refused == nil {
		refused = []Problem{}
	}
	return problems{refused}, err
}
