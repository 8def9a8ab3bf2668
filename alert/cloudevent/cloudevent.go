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
	"context"
	"fmt"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/credential"
	"reeve.dev/reeve/alert/internal/post"
)

// The types of events.
const (
	ScanCompleted  = "scan.completed"
	ScanError      = "scan.error"
	ScanCancelled  = "scan.cancelled"
	CheckCompleted = "check.completed"
)

const timeout = 15 * time.Second

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
	// Gone says that the subject isn't checked any more; Passed says nothing then.
	Gone    bool   `json:"gone,omitempty"`
	Details string `json:"details,omitempty"`
	Scan    any    `json:"scan,omitempty"`
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
	d := data{Subject: subject(o.Subject), Policy: o.Policy, Passed: o.Pass, Gone: o.Gone, Details: o.Details}
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
	URL, URLFile string
	TLS          credential.TLS
	Token        *credential.Source
}

func (c HTTPConfig) post() post.Config {
	return post.Config{URL: c.URL, URLFile: c.URLFile, TLS: c.TLS, Token: c.Token}
}

// Validate reports the first thing that is wrong with c, without reading the
// files.
func (c HTTPConfig) Validate() error { return c.post().Validate() }

// HTTP returns a function for Config.Send that posts to c, and one for Close.
func HTTP(c HTTPConfig) (send func(context.Context, []byte) error, done func() error, err error) {
	client, err := post.New(c.post())
	if err != nil {
		return nil, nil, err
	}
	send = func(ctx context.Context, body []byte) error {
		return client.Post(ctx, "application/cloudevents+json; charset=utf-8", nil, body)
	}
	return send, client.Close, nil
}
