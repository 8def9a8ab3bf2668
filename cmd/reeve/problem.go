package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"reeve.dev/reeve/internal/version"
)

// problem is an error answer, RFC 9457 as the hub writes it.
type problem struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Message  string `json:"message"`
		Location string `json:"location"`
	} `json:"errors"`
	// next is what to do about it; empty where the detail says that.
	next string
}

func (p *problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	var members []string
	for _, e := range p.Errors {
		where := strings.TrimPrefix(strings.TrimPrefix(e.Location, "body."), "query.")
		members = append(members, where+": "+e.Message)
	}
	switch {
	case len(members) == 0 || p.Status == http.StatusNotFound: // the detail says what isn't there
	case text == "validation failed" || strings.HasSuffix(text, p.Errors[0].Message):
		text = strings.Join(members, "\n  ") // the detail says no more
	default:
		text += "\n  " + strings.Join(members, "\n  ")
	}
	if p.next != "" {
		text += "; " + p.next
	}
	return fmt.Sprintf("the hub answered %d: %s", p.Status, text)
}

// refused is the error of an answer that isn't what was asked for.
func (c *client) refused(ctx context.Context, path string, resp *http.Response) error {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	p := &problem{}
	if json.Unmarshal(data, p) != nil || p.Status == 0 {
		return c.foreign(resp, data)
	}
	switch {
	case p.Status == http.StatusUnauthorized:
		p.next = "an administrator of the hub makes another (reeve token create --kind api, reeve ca issue --purpose user); reeve doctor checks the one that you have"
	case p.Status == http.StatusForbidden:
		p.next = "an administrator of the hub can give you another role (reeve token create --kind api --role ROLE)"
	case p.Status == http.StatusNotFound && strings.HasPrefix(p.Detail, noPath), p.Status == http.StatusUnprocessableEntity && p.unexpected():
		p.next = c.apart(ctx)
	case p.Status == http.StatusNotFound:
		p.next = lists(path, p.Detail)
	case p.Status == http.StatusPreconditionFailed:
		p.next = "somebody changed it meanwhile: read it again, and repeat"
	case p.Status == http.StatusTooManyRequests:
		p.next = "try again " + after(resp)
	case p.Status >= http.StatusBadGateway:
		p.next = "try again " + after(resp) + "; /readyz at the hub's metrics port says what it waits for"
	}
	return p
}

// noPath begins what a hub says of a path that it doesn't have.
const noPath = "there is nothing at this path"

// unexpected reports whether the hub knows less than was sent to it.
func (p *problem) unexpected() bool {
	for _, e := range p.Errors {
		if strings.Contains(e.Message, "unexpected property") || strings.Contains(e.Message, "unknown query parameter") {
			return true
		}
	}
	return false
}

// after says when to try again.
func after(resp *http.Response) string {
	if wait, err := time.ParseDuration(resp.Header.Get("Retry-After") + "s"); err == nil {
		return "in " + wait.String()
	}
	return "later"
}

// foreign is the error of an answer that isn't a hub's.
func (c *client) foreign(resp *http.Response, body []byte) error {
	text, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	if strings.HasPrefix(text, "<") {
		text = "a page for browsers"
	}
	if most := 200; len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return fmt.Errorf("the answer isn't a hub's (%s): %s; is %s the hub's API port, and does something between answer in its place? reeve doctor --hub %[3]s looks",
		resp.Status, printable(text), c.base)
}

// apart says that hub and program are of different versions; empty if they
// aren't.
func (c *client) apart(ctx context.Context) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.JoinPath("openapi.json").String(), nil)
	if err != nil {
		return ""
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var api struct{ Info struct{ Version string } }
	if json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&api) != nil || api.Info.Version == "" || api.Info.Version == version.Text() {
		return ""
	}
	return fmt.Sprintf("the hub is of version %s, and this reeve of %s: use a reeve of the hub's version, or upgrade the hub", printable(api.Info.Version), version.Text())
}

// listedBy are the commands that list what paths lead to.
var listedBy = map[string]string{
	"alert-keys": "reeve alerts keys print", "alert-runs": "reeve alerts runs", "alerts": "reeve alerts list", "events": "reeve event list",
	"policies": "reeve get policies", "policy-overrides": "reeve get policy-overrides", "profiles": "reeve get profiles", "recordings": "reeve recordings list", "scans": "reeve get scans",
	"schedules": "reeve schedule list", "silences": "reeve alerts silences", "sinks": "reeve alerts sinks", "thresholds": "reeve get thresholds",
	"tokens": "reeve token list", "vex": "reeve get vex",
}

// lists says what lists the things that a path leads to, unless the hub has
// said so.
func lists(path, said string) string {
	kind, _, _ := strings.Cut(strings.TrimPrefix(path, "/api/v1/"), "/")
	command := listedBy[kind]
	if command == "" || strings.Contains(said, "there are") {
		return ""
	}
	return command + " lists those that there are"
}

// explain adds what to do to an error of a connection to the hub at base.
func explain(err error, base *url.URL) error {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		dns     *net.DNSError
		op      *net.OpError
		timeout net.Error
	)
	look := fmt.Sprintf("reeve doctor --hub %s looks into it", base)
	next := look
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &op) && op.Op == "proxyconnect":
		next = "correct HTTPS_PROXY, or except the hub with NO_PROXY=" + base.Hostname()
	case errors.As(err, &unknown):
		next = "give the hub's CA by --ca or REEVE_CA (ca.pem of `reeve ca init`)"
	case errors.As(err, &name):
		next = "reach the hub by a name that its certificate has, or add " + base.Hostname() + " to names in the hub's configuration"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		next = "set this machine's clock; if it is right, restart the hub, which renews its certificate"
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert
		next = "the hub refuses the certificate of --cert (REEVE_CERT): it is over, or another hub's; make another by reeve ca issue --purpose control"
	case errors.Is(err, http.ErrSchemeMismatch):
		next = fmt.Sprintf("port %s speaks no TLS: is it the hub's API port (listen.api)?", base.Port())
	case errors.As(err, &dns):
		next = "is the name right? " + look
	case errors.Is(err, syscall.ECONNREFUSED):
		next = fmt.Sprintf("is the hub running, and is %s its API port (listen.api)?", base.Port())
	case errors.As(err, &timeout) && timeout.Timeout():
		next = "the hub is busy, or a firewall drops it: " + look
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		next = "the connection broke off; see whether it was done before you repeat it"
	}
	var call *url.Error
	if errors.As(err, &call) {
		err = call.Err // what was called of it doesn't matter
	}
	return fmt.Errorf("the hub at %s: %w; %s", base.Host, err, next)
}
