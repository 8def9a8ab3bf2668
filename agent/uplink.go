package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"reeve.dev/reeve/fleet"
	scanlink "reeve.dev/reeve/scan/link"
)

const (
	callTimeout = 30 * time.Second
	maxAnswer   = 1 << 20
)

// uplink is an http.RoundTripper into the link that is up now. A request waits
// for a link while there is none, as long as its context lets it.
type uplink struct {
	mu        sync.Mutex
	transport *http.Transport // guarded by mu; nil while there is no link
	changed   chan struct{}   // guarded by mu; closed when transport is set
}

func newUplink() *uplink { return &uplink{changed: make(chan struct{})} }

// set tells of a new link, or with nil that there is none.
func (u *uplink) set(t *http.Transport) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.transport = t
	if t != nil {
		close(u.changed)
		u.changed = make(chan struct{})
	}
}

func (u *uplink) connected() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.transport != nil
}

// RoundTrip implements http.RoundTripper.
func (u *uplink) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		u.mu.Lock()
		transport, changed := u.transport, u.changed
		u.mu.Unlock()
		if transport != nil {
			return transport.RoundTrip(r)
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			if r.Body != nil {
				r.Body.Close()
			}
			return nil, fmt.Errorf("no link to the hub: %w", context.Cause(r.Context()))
		}
	}
}

// registered is the hub's answer to a registration.
type registered struct {
	Session    string `json:"session"`
	HubVersion string `json:"hubVersion"`
}

// register tells the hub who is at the other end of a new link.
func register(ctx context.Context, transport http.RoundTripper, r fleet.Registration) (registered, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return registered{}, err
	}
	data, err := post(ctx, transport, "/v1/register", "application/json", body)
	if err != nil {
		return registered{}, fmt.Errorf("register at the hub: %w", err)
	}
	var answer registered
	if err := json.Unmarshal(data, &answer); err != nil {
		return registered{}, fmt.Errorf("register at the hub: its answer: %w", err)
	}
	return answer, nil
}

// renew carries a certificate request to the hub by the link, or without one
// by the hub's API port: a certificate that ends while no link is up would let
// none come up again.
func (a *Agent) renew(ctx context.Context, csr []byte) ([]byte, error) {
	chain, err := post(ctx, a.up, "/v1/renew", "application/x-pem-file", csr)
	if err == nil {
		return chain, nil
	}
	chain, direct := a.identity.Direct(a.cfg.Hub.URL)(ctx, csr)
	if direct != nil {
		return nil, errors.Join(err, direct)
	}
	return chain, nil
}

func post(ctx context.Context, transport http.RoundTripper, path, contentType string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scanlink.BaseURL+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %.500s", resp.Status, data)
	}
	return data, nil
}
