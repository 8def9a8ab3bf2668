package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/scan"
)

// Asked is what an agent learns of a scan that it asked for.
type Asked struct {
	ID       scan.ID      `json:"id"`
	Status   scan.Status  `json:"status"`
	Outcome  scan.Outcome `json:"outcome,omitempty"`
	Reason   string       `json:"reason,omitempty"`
	Counts   hdf.Counts   `json:"counts"`
	Findings []string     `json:"findings,omitempty"`
	Entry    hdf.Entry    `json:"entry"`
	Started  time.Time    `json:"started,omitzero"`
	Finished time.Time    `json:"finished,omitzero"`
}

// askMessage is a request by somebody in the agent's cluster.
type askMessage struct {
	Key       string          `json:"key"`
	Digest    string          `json:"digest"` // of what is asked for
	By        string          `json:"by"`
	Target    targetMessage   `json:"target"`
	Profile   string          `json:"profile"`
	Threshold string          `json:"threshold,omitempty"`
	Inputs    json.RawMessage `json:"inputs,omitempty"`
	Method    scan.Method     `json:"method,omitempty"`
	TimeoutMS int64           `json:"timeoutMs,omitempty"`
}

type profileMessage struct {
	Ref string `json:"ref"`
}

func (h *handler) ask(w http.ResponseWriter, r *http.Request, peer fleet.Peer) error {
	var m askMessage
	if err := decode(w, r, &m); err != nil {
		return err
	}
	var inputs map[string]any
	if len(m.Inputs) > 0 {
		var err error
		if inputs, err = scan.DecodeInputs(m.Inputs); err != nil {
			return badRequest{err}
		}
	}
	s, err := h.q.Ask(r.Context(), peer, scan.Request{
		Target:  scan.Target{Namespace: m.Target.Namespace, Pod: m.Target.Pod, Container: m.Target.Container, URI: m.Target.URI},
		Profile: m.Profile, Threshold: m.Threshold, Inputs: inputs, Method: m.Method,
		Timeout: time.Duration(m.TimeoutMS) * time.Millisecond, RequestedBy: m.By, Key: scan.Key{Name: m.Key, Digest: m.Digest},
	})
	return h.tellAsked(w, s, err)
}

func (h *handler) asked(w http.ResponseWriter, r *http.Request, peer fleet.Peer) error {
	id, err := scan.ParseID(r.PathValue("id"))
	if err != nil {
		return badRequest{err}
	}
	s, err := h.q.Asked(r.Context(), peer, id)
	return h.tellAsked(w, s, err)
}

type openMessage struct {
	ID  scan.ID `json:"id"`
	Key string  `json:"key"`
}

func (h *handler) open(w http.ResponseWriter, r *http.Request, peer fleet.Peer) error {
	list, err := h.q.Open(r.Context(), peer, scan.ID(r.URL.Query().Get("after")))
	if err != nil {
		return err
	}
	out := make([]openMessage, len(list))
	for i, k := range list {
		out[i] = openMessage(k)
	}
	reply(w, http.StatusOK, out)
	return nil
}

func (h *handler) withdraw(w http.ResponseWriter, r *http.Request, peer fleet.Peer) error {
	id, err := scan.ParseID(r.PathValue("id"))
	if err != nil {
		return badRequest{err}
	}
	if err := h.q.Withdraw(r.Context(), peer, id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (h *handler) tellAsked(w http.ResponseWriter, s scan.Scan, err error) error {
	if err != nil {
		return err
	}
	reply(w, http.StatusOK, Asked{
		ID: s.ID, Status: s.Status, Outcome: s.Outcome, Reason: s.Reason, Counts: s.Counts,
		Findings: s.Findings, Entry: s.Entry, Started: s.Started, Finished: s.Finished,
	})
	return nil
}

func (h *handler) takeProfile(w http.ResponseWriter, r *http.Request, peer fleet.Peer) error {
	ref, err := h.q.TakeProfile(r.Context(), peer, http.MaxBytesReader(w, r.Body, scan.MaxAgentProfile+1))
	if err != nil {
		return err
	}
	reply(w, http.StatusOK, profileMessage{ref})
	return nil
}

// Ask asks for a scan of a container of the agent's own cluster. Again with the
// same key it is the same scan. What is wrong with the request is a *Refusal.
func (c *Client) Ask(ctx context.Context, r scan.Request) (Asked, error) {
	inputs, err := json.Marshal(r.Inputs)
	if err != nil {
		return Asked{}, fmt.Errorf("inputs: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.message(ctx, "/v1/scans", askMessage{
		Key: r.Key.Name, Digest: r.Key.Digest, By: r.RequestedBy,
		Target:  targetMessage{Namespace: r.Target.Namespace, Pod: r.Target.Pod, Container: r.Target.Container},
		Profile: r.Profile, Threshold: r.Threshold, Inputs: inputs, Method: r.Method, TimeoutMS: r.Timeout.Milliseconds(),
	})
	return decodeAsked(resp, err)
}

// Asked returns a scan of the agent's cluster as it stands.
func (c *Client) Asked(ctx context.Context, id scan.ID) (Asked, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, BaseURL+"/v1/scans/"+url.PathEscape(string(id)), nil)
	if err != nil {
		return Asked{}, err
	}
	resp, err := c.do(req)
	return decodeAsked(resp, err)
}

// Open lists all scans of the agent's asking that aren't finished, with the keys
// that it gave them.
func (c *Client) Open(ctx context.Context) (all []scan.Keyed, err error) {
	for {
		after := ""
		if len(all) > 0 {
			after = string(all[len(all)-1].ID)
		}
		page, err := c.open(ctx, after)
		if err != nil {
			return nil, fmt.Errorf("list the scans that were asked for: %w", err)
		}
		for _, m := range page {
			all = append(all, scan.Keyed(m))
		}
		if len(page) < scan.OpenPage {
			return all, nil
		}
	}
}

func (c *Client) open(ctx context.Context, after string) (page []openMessage, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, BaseURL+"/v1/scans?after="+url.QueryEscape(after), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxMessage)).Decode(&page); err != nil {
		return nil, fmt.Errorf("the hub's answer is malformed: %w", err)
	}
	return page, nil
}

// Withdraw cancels a scan of the agent's asking.
func (c *Client) Withdraw(ctx context.Context, id scan.ID) error {
	if err := c.tell(ctx, "/v1/scans/"+url.PathEscape(string(id))+"/withdraw", struct{}{}); err != nil {
		return fmt.Errorf("withdraw scan %s: %w", id, err)
	}
	return nil
}

func decodeAsked(resp *http.Response, err error) (a Asked, _ error) {
	if err != nil {
		return a, fmt.Errorf("ask for a scan: %w", err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxMessage)).Decode(&a); err != nil {
		return a, fmt.Errorf("ask for a scan: the hub's answer is malformed: %w", err)
	}
	return a, nil
}

// SendProfile has the hub keep the archive of a profile, whose name begins with
// scan.AgentProfiles, and returns by which name scans may have it. What is wrong
// with it is a *Refusal.
func (c *Client) SendProfile(ctx context.Context, archive io.Reader) (ref string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.post(ctx, "/v1/profiles", http.Header{"Content-Type": {"application/gzip"}}, archive)
	if err != nil {
		return "", fmt.Errorf("send a profile: %w", err)
	}
	defer resp.Body.Close()
	var m profileMessage
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxMessage)).Decode(&m); err != nil {
		return "", fmt.Errorf("send a profile: the hub's answer is malformed: %w", err)
	}
	return m.Ref, nil
}

// invalidRequest reports whether an error says what is wrong with what was
// asked for.
func invalidRequest(err error) bool {
	var bad *scan.InvalidError
	return errors.As(err, &bad) || errors.Is(err, scan.ErrKeyUsed) || errors.Is(err, scan.ErrVersionUsed) ||
		errors.Is(err, scan.ErrHubsOwn) || errors.Is(err, scan.ErrCatalogueFull)
}
