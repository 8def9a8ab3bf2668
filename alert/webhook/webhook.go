// Package webhook tells the asker of a scan how it ended: it posts a
// scan's callback to the URL that came with the request.
//
// The URL is chosen by whoever may ask for a scan, so it is untrusted: it
// must lead to a public address (judged at the connection, after DNS), no
// redirect is followed, no proxy is used, a credential is sent over TLS only,
// and of the answer little is read.
//
// The headers webhook-id, webhook-timestamp and webhook-signature are those of
// Standard Webhooks (https://www.standardwebhooks.com, 1.0.0). The id is the
// same when a callback is repeated; the signature is by the secret that came
// with the request or, without one, by each of the hub's.
package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/internal/public"
)

// ErrPrivate means that a callback's URL leads to an address that isn't
// public.
var ErrPrivate = errors.New("callbacks to private, loopback and link-local addresses are not allowed; the hub's operator can allow them")

const (
	timeout   = 15 * time.Second
	maxAnswer = 64 << 10
	maxURL    = 2 << 10
)

// Config says how callbacks are made.
type Config struct {
	// PublicURL is where callers reach the hub, for the links in a callback;
	// empty leaves them out.
	PublicURL string
	// AllowPrivate permits addresses that aren't public, for a hub whose
	// callers are in its own network.
	AllowPrivate bool
	// Secrets gives the secrets that sign a callback which has none of its own;
	// nil: such a one isn't signed. See SecretsIn.
	Secrets func() ([][]byte, error)
	// RootCAs are who may vouch for the receiver; nil means the system's.
	RootCAs *x509.CertPool
}

// Validate reports what is wrong with a callback that someone asks for, so
// that it can be refused before the scan. The receiver's address is judged
// again at delivery.
func (c Config) Validate(rawURL string, auth alert.Auth) error {
	u, err := url.Parse(rawURL)
	switch {
	case len(rawURL) > maxURL:
		return fmt.Errorf("callback URL: longer than %d bytes", maxURL)
	case err != nil:
		return errors.New("callback URL: not a URL") // err repeats it, with what may be a password
	case u.Scheme != "https" && u.Scheme != "http", u.Hostname() == "":
		return errors.New("callback URL: must be https://HOST/PATH")
	case u.User != nil:
		return errors.New("callback URL: must hold no user or password; use callback.authentication")
	}
	switch auth.Type {
	case alert.NoAuth, "":
	case alert.Bearer:
		if auth.Token == "" {
			return errors.New("callback authentication: type bearer needs a token")
		}
	case alert.Basic:
		if auth.Username == "" {
			return errors.New("callback authentication: type basic needs a username and a password")
		}
	default:
		return fmt.Errorf("callback authentication: type %q is none of bearer, basic, none", string(auth.Type))
	}
	if auth.Secret != "" {
		if _, err := ParseSecret(auth.Secret); err != nil {
			return fmt.Errorf("callback secret: %w", err)
		}
	}
	if u.Scheme == "http" && auth.Type != alert.NoAuth && auth.Type != "" {
		return errors.New("callback URL: a credential is sent over https only")
	}
	if strings.ContainsFunc(auth.Token, control) || strings.ContainsFunc(auth.Username+auth.Password, control) || strings.Contains(auth.Username, ":") {
		return errors.New("callback authentication: holds characters that can't be sent")
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && !c.AllowPrivate && !public.Is(addr) {
		return fmt.Errorf("callback URL: %w", ErrPrivate)
	}
	return nil
}

func control(r rune) bool { return r < ' ' || r == 0x7f }

// Sink is the alert.Sink of callbacks.
type Sink struct {
	cfg    Config
	client *http.Client
}

var _ alert.Sink = (*Sink)(nil)

// New returns the sink of callbacks.
func New(cfg Config) *Sink {
	dialer := &net.Dialer{Timeout: timeout, Control: func(_, address string, _ syscall.RawConn) error {
		return cfg.permit(address)
	}}
	return &Sink{cfg: cfg, client: &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // it would connect in our stead, unjudged
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.RootCAs},
			TLSHandshakeTimeout:    timeout,
			MaxResponseHeaderBytes: maxAnswer,
			MaxIdleConns:           16,
			IdleConnTimeout:        30 * time.Second,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close ends idle connections.
func (s *Sink) Close() error {
	s.client.CloseIdleConnections()
	return nil
}

// permit judges the address that is about to be connected to, which DNS may
// have given and may have changed.
func (c Config) permit(address string) error {
	if c.AllowPrivate {
		return nil
	}
	if public.Control("", address, nil) != nil {
		return ErrPrivate
	}
	return nil
}

// callback is the body of a callback.
type callback struct {
	ID         string     `json:"id"`
	Status     string     `json:"status"`
	Outcome    string     `json:"outcome,omitempty"`
	Reason     string     `json:"reason,omitempty"`
	Counts     hdf.Counts `json:"counts"`
	FinishedAt time.Time  `json:"finishedAt"`
	Links      *links     `json:"links,omitempty"`
}

type links struct {
	Self    string `json:"self"`
	Results string `json:"results,omitempty"`
}

// Deliver implements alert.Sink.
func (s *Sink) Deliver(ctx context.Context, a alert.Alert) error {
	c := a.Callback
	if c == nil {
		return permanent(errors.New("not a callback"))
	}
	if err := s.cfg.Validate(c.URL, c.Auth); err != nil {
		return permanent(err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	keys, err := s.keys(c.Auth)
	if err != nil {
		return &alert.Error{Err: fmt.Errorf("the hub's secrets for signatures can't be read: %w", err)}
	}
	req, err := s.request(ctx, a, keys)
	if err != nil {
		return permanent(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return failed(err)
	}
	defer resp.Body.Close()
	// Read what little a receiver says, so that the connection can be used
	// again; the answer's content means nothing.
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	return classify(resp)
}

// keys are what a callback is signed with.
func (s *Sink) keys(auth alert.Auth) ([][]byte, error) {
	switch {
	case auth.Secret != "":
		key, err := ParseSecret(auth.Secret)
		return [][]byte{key}, err
	case s.cfg.Secrets != nil:
		return s.cfg.Secrets()
	}
	return nil, nil
}

func (s *Sink) request(ctx context.Context, a alert.Alert, keys [][]byte) (*http.Request, error) {
	c := a.Callback
	body := callback{ID: c.Scan, Status: c.Status, Outcome: c.Outcome, Reason: c.Reason, Counts: c.Counts, FinishedAt: c.Finished}
	if s.cfg.PublicURL != "" {
		self := strings.TrimRight(s.cfg.PublicURL, "/") + "/api/v1/scans/" + url.PathEscape(c.Scan)
		body.Links = &links{Self: self}
		if c.Outcome != "" {
			body.Links.Results = self + "/results"
		}
	}
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(data))
	if err != nil {
		return nil, errors.New("callback URL: not a URL")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "reeve")
	now := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Webhook-Id", string(a.ID))
	req.Header.Set("Webhook-Timestamp", now)
	if len(keys) > 0 {
		req.Header.Set("Webhook-Signature", sign(keys, string(a.ID), now, data))
	}
	switch c.Auth.Type {
	case alert.Bearer:
		req.Header.Set("Authorization", "Bearer "+c.Auth.Token)
	case alert.Basic:
		req.SetBasicAuth(c.Auth.Username, c.Auth.Password)
	}
	return req, nil
}

// classify says what an answer means. A credential belongs to one callback,
// so that a refused one doesn't pause the others.
func classify(resp *http.Response) error {
	code := resp.StatusCode
	err := fmt.Errorf("the receiver answered %d %s", code, http.StatusText(code))
	switch {
	case code/100 == 2:
		return nil
	case code/100 == 3:
		return permanent(fmt.Errorf("%w; redirects are not followed", err))
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code/100 == 5:
		return &alert.Error{Err: err, After: retryAfter(resp.Header.Get("Retry-After"))}
	}
	return permanent(err)
}

func retryAfter(v string) time.Duration {
	if s, err := strconv.Atoi(v); err == nil && s > 0 {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return time.Until(at)
	}
	return 0
}

// failed strips the URL, whose path or query may be a secret, from an error
// of the client.
func failed(err error) error {
	if errors.Is(err, ErrPrivate) {
		return permanent(ErrPrivate)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return &alert.Error{Err: err}
}

func permanent(err error) error { return &alert.Error{Class: alert.Permanent, Err: err} }
