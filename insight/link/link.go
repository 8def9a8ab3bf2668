// Package link carries insights from an agent's spool to the hub, inside the
// link between them.
//
//	POST /v1/insights
//	Reeve-Item: ID
//	Reeve-Namespace: NAME (of a message that doesn't say it; optional)
//	(a message of insight/lagoon, in JSON)
//
// The answer is 200 with {"state":"stored"} or, for a message that can't be
// understood, {"state":"quarantined","reason":"…"}; either way the hub has
// it. An error with status 400 or 413 is for good; the agent tries again
// after any other.
package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/internal/spool"
)

// Path is where the handler is mounted in the link.
const Path = "/v1/insights"

// MaxMessage is the most bytes of a message: a document of 100 MiB and its
// base64.
const MaxMessage = 140 << 20

const (
	itemHeader      = "Reeve-Item"
	namespaceHeader = "Reeve-Namespace"
)

// The answer's states.
const (
	stored      = "stored"
	quarantined = "quarantined"
)

type response struct {
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
}

// Client is the agent's side. HTTP's transport opens streams of the link.
type Client struct {
	// Base is the hub's address in the link, such as http://hub.
	Base   string
	HTTP   *http.Client
	Logger *slog.Logger
}

// Send delivers one document of the spool; it is what Spool.Drain calls.
func (c *Client) Send(ctx context.Context, it spool.Item) error {
	body, err := it.Open()
	if err != nil {
		return err
	}
	defer body.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Base+Path, body)
	if err != nil {
		return err
	}
	req.ContentLength = it.Size
	req.Header.Set(itemHeader, it.ID)
	if ns := lagoon.SpooledNamespace(it.Kind); ns != "" {
		req.Header.Set(namespaceHeader, ns)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		return spool.Permanent(fmt.Errorf("hub refused insight %s: %s: %.500s", it.ID, resp.Status, text))
	default:
		return fmt.Errorf("hub didn't take insight %s: %s: %.500s", it.ID, resp.Status, text)
	}
	var answer response
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("hub's answer to insight %s: %w", it.ID, err)
	}
	if answer.State == quarantined {
		c.Logger.Warn("hub quarantined insight", "item", it.ID, "reason", answer.Reason)
	}
	return nil
}

// Receiver is the hub's service.
type Receiver interface {
	Accept(ctx context.Context, it insight.Item) error
	Quarantine(ctx context.Context, p insight.Poison) error
}

// Handler is the hub's side. The request's context names the peer.
func Handler(to Receiver, logger *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+Path, func(w http.ResponseWriter, r *http.Request) {
		peer, ok := fleet.PeerFrom(r.Context())
		if !ok {
			http.Error(w, "not inside a link", http.StatusForbidden)
			return
		}
		message, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxMessage))
		var answer response
		if err == nil {
			answer.State = stored
			id := r.Header.Get(itemHeader)
			answer.Reason, err = Receive(r.Context(), to, Message{
				Cluster: peer.Agent, ID: insight.ItemID(id), Namespace: r.Header.Get(namespaceHeader),
				Scanned: strings.HasPrefix(id, insight.ScannedPrefix), Body: message,
			})
		}
		if answer.Reason != "" {
			answer.State = quarantined
		}
		var (
			invalid *insight.InvalidError
			large   *http.MaxBytesError
		)
		switch {
		case errors.As(err, &large):
			http.Error(w, fmt.Sprintf("message has more than %d bytes", large.Limit), http.StatusRequestEntityTooLarge)
		case errors.As(err, &invalid):
			http.Error(w, invalid.Reason, http.StatusBadRequest)
		case err != nil:
			logger.Error("insight not stored", "agent", peer.Agent, "error", err)
			http.Error(w, "the hub couldn't store it", http.StatusInternalServerError)
		default:
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(answer)
		}
	})
	return mux
}

// Message is a message of insight/lagoon on its way.
type Message struct {
	Cluster fleet.AgentName
	ID      insight.ItemID
	// Namespace is where it comes from, as far as Body doesn't say it; empty where
	// that isn't known.
	Namespace string
	// Scanned is the item's.
	Scanned bool
	Body    []byte
}

// Receive stores a message, or keeps it in quarantine for the reason that it
// answers. It returns an *insight.InvalidError for one that can't even be kept
// there.
func Receive(ctx context.Context, to Receiver, m Message) (reason string, err error) {
	err = accept(ctx, to, m)
	var invalid *insight.InvalidError
	if errors.As(err, &invalid) {
		reason = invalid.Reason
		err = to.Quarantine(ctx, insight.Poison{Item: m.ID, Cluster: m.Cluster, Reason: reason, Message: m.Body})
	}
	return reason, err
}

// accept stores a message. One that makes the hub panic is one that it can't
// read: it would come again for ever otherwise, and nothing after it.
func accept(ctx context.Context, to Receiver, m Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = insight.Invalidf("the hub failed inside when it read it: %v\n%.2000s", p, debug.Stack())
		}
	}()
	it, err := lagoon.Decode(m.Body)
	if err != nil {
		return err
	}
	it.ID, it.Cluster, it.Scanned = m.ID, m.Cluster, m.Scanned
	if it.Environment.Namespace == "" {
		it.Environment.Namespace = m.Namespace
	}
	return to.Accept(ctx, it)
}
