package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/credential"
	"reeve.dev/reeve/alert/internal/post"
)

// HookConfig is a webhook of the operator's, which is told of outcomes.
type HookConfig struct {
	// URL is where to, or URLFile holds it.
	URL, URLFile string
	TLS          credential.TLS
	Token        *credential.Source
	// Audience is what the receiver is called in what is signed, so that it can't
	// pass a webhook on to another one as if it were for that.
	Audience string
	// Secrets gives the secrets of symmetric signatures (v1), and Sign the
	// asymmetric signatures (v1a); nil: none of that kind. See SecretsIn.
	Secrets func() ([][]byte, error)
	Sign    func(ctx context.Context, id, timestamp string, body []byte) (string, error)
}

func (c HookConfig) post() post.Config {
	return post.Config{URL: c.URL, URLFile: c.URLFile, TLS: c.TLS, Token: c.Token}
}

// Validate reports the first thing that is wrong with c, without reading the
// files.
func (c HookConfig) Validate() error { return c.post().Validate() }

// Hook is the alert.Sink of outcomes as webhooks, as Standard Webhooks 1.0.0
// has them:
//
//	{"type": "check.passed", "check.failed" or, of a subject that isn't checked any more, "check.ended", "timestamp": when it was checked,
//	 "audience": for whom it is, "data": {"owner", "repo", "policy", "pass", "details", "run", "seq"}}
//
// webhook-id is the alert's id, the same at each repetition.
type Hook struct {
	cfg    HookConfig
	client *post.Client
}

var _ alert.Sink = (*Hook)(nil)

// NewHook returns a Hook; the caller closes it.
func NewHook(c HookConfig) (*Hook, error) {
	client, err := post.New(c.post())
	if err != nil {
		return nil, err
	}
	if c.Secrets != nil {
		if _, err := c.Secrets(); err != nil {
			return nil, fmt.Errorf("secretFile: %w", err)
		}
	}
	return &Hook{c, client}, nil
}

// Close ends idle connections.
func (h *Hook) Close() error { return h.client.Close() }

type (
	hooked struct {
		Type      string     `json:"type"`
		Timestamp time.Time  `json:"timestamp"`
		Audience  string     `json:"audience,omitempty"`
		Data      hookedData `json:"data"`
	}
	hookedData struct {
		Owner   string `json:"owner"`
		Repo    string `json:"repo"`
		Policy  string `json:"policy"`
		Pass    bool   `json:"pass"`
		Details string `json:"details"`
		Run     string `json:"run"`
		Seq     int64  `json:"seq"`
	}
)

// Deliver implements alert.Sink.
func (h *Hook) Deliver(ctx context.Context, a alert.Alert) error {
	o := a.Outcome
	kind := "check.failed"
	switch {
	case o.Pass:
		kind = "check.passed"
	case o.Gone:
		kind = "check.ended"
	}
	body, err := json.Marshal(hooked{
		Type: kind, Timestamp: o.At, Audience: h.cfg.Audience,
		Data: hookedData{Owner: o.Subject.Owner, Repo: o.Subject.Repo, Policy: o.Policy, Pass: o.Pass, Details: o.Details, Run: o.Run, Seq: a.Seq},
	})
	if err != nil {
		return &alert.Error{Class: alert.Permanent, Err: err}
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	signatures, err := h.signatures(ctx, string(a.ID), now, body)
	if err != nil {
		return err
	}
	header := http.Header{"Webhook-Id": {string(a.ID)}, "Webhook-Timestamp": {now}}
	if signatures != "" {
		header.Set("Webhook-Signature", signatures)
	}
	return h.client.Post(ctx, "application/json", header, body)
}

// signatures are all of them; without one that should be there nothing is
// sent.
func (h *Hook) signatures(ctx context.Context, id, timestamp string, body []byte) (string, error) {
	var all []string
	if h.cfg.Secrets != nil {
		keys, err := h.cfg.Secrets()
		if err != nil {
			return "", fmt.Errorf("the secrets for signatures can't be read: %w", err)
		}
		all = append(all, sign(keys, id, timestamp, body))
	}
	if h.cfg.Sign != nil {
		text, err := h.cfg.Sign(ctx, id, timestamp, body)
		if err != nil {
			return "", errors.Join(errors.New("it can't be signed"), err)
		}
		all = append(all, text)
	}
	return strings.Join(all, " "), nil
}
