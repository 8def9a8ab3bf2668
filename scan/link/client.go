package link

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"reeve.dev/reeve/scan"
)

// BaseURL is where the hub is inside a link.
const BaseURL = "http://hub"

const callTimeout = 30 * time.Second

// Client is the hub's queue at the agent's end of a link.
type Client struct{ http *http.Client }

var _ scan.Source = (*Client)(nil)

// NewClient returns a client whose transport leads into the link, whichever
// is up at the time of the call. It has no timeout of its own.
func NewClient(transport http.RoundTripper) *Client {
	return &Client{http: &http.Client{Transport: transport}}
}

// Lease implements scan.Source.
func (c *Client) Lease(ctx context.Context, kinds []string, holding []scan.ID) (*scan.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseWait+callTimeout)
	defer cancel()
	resp, err := c.message(ctx, "/v1/scans/lease", leaseRequest{Kinds: kinds, Holding: holding})
	if err != nil {
		return nil, fmt.Errorf("lease a scan: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return nil, nil
	}
	var m jobMessage
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxMessage)).Decode(&m); err != nil {
		return nil, fmt.Errorf("lease a scan: the hub's answer is malformed: %w", err)
	}
	inputs, err := scan.DecodeInputs(m.Inputs)
	if err != nil {
		return nil, fmt.Errorf("lease a scan: the hub's answer is malformed: %w", err)
	}
	return &scan.Job{
		ID: m.ID, Attempt: m.Attempt,
		Target: scan.Target{Namespace: m.Target.Namespace, Pod: m.Target.Pod, Container: m.Target.Container, URI: m.Target.URI},
		Method: m.Method, SBOM: m.SBOM, Selector: m.Selector, Profile: m.Profile, ProfileDigest: m.ProfileDigest, Inputs: inputs,
		Timeout:  time.Duration(m.TimeoutMS) * time.Millisecond,
		LeaseFor: time.Duration(m.LeaseForMS) * time.Millisecond,
	}, nil
}

// Progress implements scan.Source.
func (c *Client) Progress(ctx context.Context, id scan.ID, attempt int, p scan.Progress) error {
	err := c.tell(ctx, "/v1/scans/"+url.PathEscape(string(id))+"/progress",
		progressMessage{Attempt: attempt, Done: p.Done, Total: p.Total, Control: p.Control})
	if err != nil {
		return fmt.Errorf("report progress: %w", err)
	}
	return nil
}

// SendFailure implements scan.Source.
func (c *Client) SendFailure(ctx context.Context, id scan.ID, attempt int, reason string, transient bool) error {
	err := c.tell(ctx, "/v1/scans/"+url.PathEscape(string(id))+"/failure", failureMessage{Attempt: attempt, Reason: reason, Transient: transient})
	if err != nil {
		return fmt.Errorf("send failure: %w", err)
	}
	return nil
}

// SendTargets implements scan.Source.
func (c *Client) SendTargets(ctx context.Context, id scan.ID, attempt int, found []scan.Target) error {
	m := targetsMessage{Attempt: attempt, Targets: make([]targetMessage, len(found))}
	for i, t := range found {
		m.Targets[i] = targetMessage{Namespace: t.Namespace, Pod: t.Pod, Container: t.Container}
	}
	if err := c.tell(ctx, "/v1/scans/"+url.PathEscape(string(id))+"/targets", m); err != nil {
		return fmt.Errorf("send targets: %w", err)
	}
	return nil
}

// SendResults implements scan.Source. How long it may take is ctx's to say.
func (c *Client) SendResults(ctx context.Context, id scan.ID, attempt int, results io.Reader) error {
	resp, err := c.post(ctx, "/v1/scans/"+url.PathEscape(string(id))+"/result?attempt="+strconv.Itoa(attempt),
		http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, results)
	if err != nil {
		return fmt.Errorf("send results: %w", err)
	}
	return resp.Body.Close()
}

// Profile implements scan.Source.
func (c *Client) Profile(ctx context.Context, digest string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, BaseURL+"/v1/profiles/"+url.PathEscape(digest), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", digest, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxArchive), resp.Body}, nil
}

func (c *Client) tell(ctx context.Context, path string, m any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.message(ctx, path, m)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (c *Client) message(ctx context.Context, path string, m any) (*http.Response, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return c.post(ctx, path, http.Header{"Content-Type": {"application/json"}}, bytes.NewReader(body))
}

func (c *Client) post(ctx context.Context, path string, header http.Header, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, BaseURL+path, body)
	if err != nil {
		return nil, err
	}
	req.Header = header
	return c.do(req)
}

// do returns the response of a call that the hub has granted.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	var r refusal
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxMessage)).Decode(&r); err != nil {
		return nil, fmt.Errorf("the hub answered %s", resp.Status)
	}
	for _, k := range codes {
		if k.code == r.Code && k.status == resp.StatusCode {
			return nil, &Refusal{Text: r.Error, kind: k.err}
		}
	}
	return nil, fmt.Errorf("the hub answered %s: %s", resp.Status, r.Error)
}

// Refusal is an answer that a retry won't change. It is one of scan's
// errors, and its text is the hub's.
type Refusal struct {
	Text string
	kind error
}

func (r *Refusal) Error() string { return r.Text }
func (r *Refusal) Unwrap() error { return r.kind }
