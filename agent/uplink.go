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
	"sync/atomic"
	"time"

	"reeve.dev/reeve/fleet"
	scanlink "reeve.dev/reeve/scan/link"
	"reeve.dev/reeve/tunnel"
)

const (
	callTimeout = 30 * time.Second
	maxAnswer   = 1 << 20
)

// uplink is an http.RoundTripper into the link: by any carrier that is up. A
// request waits for one while there is none, as long as its context lets it.
type uplink struct {
	pool tunnel.Pool
	// registered counts the carriers that the hub knows to be of this
	// process, drained ones among them.
	registered  atomic.Int32
	registering sync.Mutex
}

// connected reports whether a request would find a carrier.
func (u *uplink) connected() bool { return u.pool.Ready() }

// RoundTrip implements http.RoundTripper.
func (u *uplink) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		came := u.pool.Wait()
		if u.pool.Ready() {
			return u.pool.RoundTrip(r)
		}
		select {
		case <-came:
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
	Hub        string `json:"hub"` // which process of the hub it is
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
	chain, direct := a.identity.Direct(a.nextHub())(ctx, csr)
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
