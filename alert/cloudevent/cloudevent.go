// Package cloudevent delivers alerts as CloudEvents 1.0, structured in JSON:
// by HTTP, or by whatever else can take a body, such as a broker's topic.
//
//	type     scan.completed, scan.error, scan.cancelled; check.completed of
//	         what isn't a scan's
//	id       the alert's, the same at each repetition
//	source   the hub's URL
//	subject  what the outcome is about, such as prod/shop/web-1/app
//	data     {"subject": {"owner", "repo"}, "policy", "passed", "details",
//	         "scan": what the hub says of the scan}
//
// A sink of this kind hears of scans that came to no verdict, too, which the
// others aren't told of; passed is false then, and the type says so.
package cloudevent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"reeve.dev/reeve/alert"
)

// The types of events.
const (
	ScanCompleted  = "scan.completed"
	ScanError      = "scan.error"
	ScanCancelled  = "scan.cancelled"
	CheckCompleted = "check.completed"
)

const (
	timeout   = 15 * time.Second
	maxAnswer = 64 << 10
)

// Scan is what is told of a scan; Status says which type the event has.
type Scan struct {
	Status string
	// Told becomes the member scan of the data.
	Told any
}

// Config says what events say, and how they are sent.
type Config struct {
	// Source is the hub's URL.
	Source string
	// Describe tells of the scan that a run was; nil if it was none, or if it
	// is no more.
	Describe func(ctx context.Context, run string) (*Scan, error)
	// Send hands an event over. An *alert.Error says what to do about its
	// failure; after any other it is tried again.
	Send func(ctx context.Context, body []byte) error
	// Close ends what Send uses; nil: nothing.
	Close func() error
}

// Sink is an alert.Sink.
type Sink struct{ cfg Config }

var _ alert.Sink = (*Sink)(nil)

// New returns a sink.
func New(cfg Config) *Sink { return &Sink{cfg} }

// Close ends connections.
func (s *Sink) Close() error {
	if s.cfg.Close == nil {
		return nil
	}
	return s.cfg.Close()
}

type data struct {
	Subject subject `json:"subject"`
	Policy  string  `json:"policy"`
	Passed  bool    `json:"passed"`
	Details string  `json:"details,omitempty"`
	Scan    any     `json:"scan,omitempty"`
}

type subject struct {
	Owner string `json:"owner"`
	Repo  string `json:"repo"`
}

// Deliver implements alert.Sink.
func (s *Sink) Deliver(ctx context.Context, a alert.Alert) error {
	scan, err := s.cfg.Describe(ctx, a.Outcome.Run)
	if err != nil {
		return err
	}
	body, err := s.body(a, scan)
	if err != nil {
		return &alert.Error{Class: alert.Permanent, Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return s.cfg.Send(ctx, body)
}

func (s *Sink) body(a alert.Alert, scan *Scan) ([]byte, error) {
	o := a.Outcome
	e := cloudevents.New()
	e.SetID(string(a.ID))
	e.SetSource(s.cfg.Source)
	e.SetType(CheckCompleted)
	e.SetSubject(o.Subject.Owner + "/" + o.Subject.Repo)
	e.SetTime(o.At)
	d := data{Subject: subject(o.Subject), Policy: o.Policy, Passed: o.Pass, Details: o.Details}
	if scan != nil {
		e.SetType("scan." + scan.Status)
		d.Scan = scan.Told
	}
	if err := e.SetData("application/json", d); err != nil {
		return nil, err
	}
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	return e.MarshalJSON()
}

// HTTPConfig says where events are posted to.
type HTTPConfig struct {
	URL string
	// TokenFile holds a bearer token; it is read for each event, so that it
	// can be renewed in place.
	TokenFile string
	// CAFile holds the certificates that the receiver's is verified with;
	// empty: the system's.
	CAFile string
}

// Validate reports the first thing that is wrong with c, without reading the
// files.
func (c HTTPConfig) Validate() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("endpoint: it must be https://HOST/PATH")
	case u.User != nil:
		return errors.New("endpoint: it must not hold a user or password; use tokenFile")
	case u.Scheme == "http" && c.TokenFile != "":
		return errors.New("tokenFile: a token is sent over https only")
	}
	return nil
}

// HTTP returns a function for Config.Send that posts to c, and one for Close.
func HTTP(c HTTPConfig) (send func(context.Context, []byte) error, done func() error, err error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, nil, fmt.Errorf("caFile: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("caFile: %s holds no certificate in PEM", c.CAFile)
		}
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, TLSHandshakeTimeout: timeout,
		MaxResponseHeaderBytes: maxAnswer, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true,
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	send = func(ctx context.Context, body []byte) error { return post(ctx, client, c, body) }
	return send, func() error { transport.CloseIdleConnections(); return nil }, nil
}

func post(ctx context.Context, client *http.Client, c HTTPConfig, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return &alert.Error{Class: alert.Pause, Err: errors.New("endpoint: not a URL")}
	}
	req.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	req.Header.Set("User-Agent", "reeve")
	if c.TokenFile != "" {
		token, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return &alert.Error{Class: alert.Pause, Err: fmt.Errorf("tokenFile: %w", err)}
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL, whose path may be a secret
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	return classify(resp)
}

// classify says what an answer means: the receiver is of the operator's
// choice, so one that refuses the credential, or isn't there, needs mending.
func classify(resp *http.Response) error {
	code := resp.StatusCode
	err := fmt.Errorf("the receiver answered %d %s", code, http.StatusText(code))
	switch {
	case code/100 == 2:
		return nil
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusNotFound, code == http.StatusMethodNotAllowed, code/100 == 3:
		return &alert.Error{Class: alert.Pause, Err: err}
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code/100 == 5:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return &alert.Error{After: time.Duration(max(seconds, 0)) * time.Second, Err: err}
	}
	return &alert.Error{Class: alert.Permanent, Err: err}
}
