// Package post is how alerts go out by HTTP to where the operator has said:
// no redirect is followed, of the answer little is read, and no error names
// the URL, whose path may be a secret.
package post

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/credential"
)

const (
	timeout   = 15 * time.Second
	maxAnswer = 64 << 10
	maxURL    = 4 << 10
)

// Config says where to, and who we are.
type Config struct {
	URL string
	// URLFile holds the URL, where it is a secret as a whole; it is read for
	// each message.
	URLFile string
	TLS     credential.TLS
	// Token gives the bearer token that is sent; nil: none.
	Token *credential.Source
}

// Validate reports the first thing that is wrong with c, without reading the
// files.
func (c Config) Validate() error {
	if (c.URL == "") == (c.URLFile == "") {
		return errors.New("endpoint: it must be https://HOST/PATH, or endpointFile must name the file that holds it")
	}
	if c.URL != "" {
		if err := c.check(c.URL); err != nil {
			return fmt.Errorf("endpoint: %w", err)
		}
	}
	return c.TLS.Validate()
}

// check says nothing of what is in text.
func (c Config) check(text string) error {
	u, err := url.Parse(text)
	switch {
	case len(text) > maxURL || err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("it must be https://HOST/PATH")
	case u.User != nil:
		return errors.New("it must not hold a user or password; use a credential")
	case u.Scheme == "http" && c.Token != nil:
		return errors.New("a token is sent over https only")
	}
	return nil
}

// Client posts messages.
type Client struct {
	cfg    Config
	client *http.Client
}

// New returns a client; the caller closes it.
func New(c Config) (*Client, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.TLS.MinVersion == 0 {
		c.TLS.MinVersion = tls.VersionTLS12
	}
	conf, err := c.TLS.Config()
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: timeout}
	return &Client{cfg: c, client: &http.Client{
		Transport: &http.Transport{
			// TLSClientConfig is for what goes through a proxy.
			Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSClientConfig: conf, ForceAttemptHTTP2: true,
			// For each connection, so that files can be renewed in place.
			DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conf, err := c.TLS.Config()
				if err != nil {
					return nil, err
				}
				conf.NextProtos = []string{"h2", "http/1.1"}
				return (&tls.Dialer{NetDialer: dialer, Config: conf}).DialContext(ctx, network, addr)
			},
			TLSHandshakeTimeout: timeout, MaxResponseHeaderBytes: maxAnswer, MaxIdleConnsPerHost: 32, IdleConnTimeout: 30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close ends idle connections.
func (c *Client) Close() error {
	c.client.CloseIdleConnections()
	return nil
}

// Post sends a body and says, as an alert.Sink does, what became of it. header
// is what is sent besides.
func (c *Client) Post(ctx context.Context, contentType string, header http.Header, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	to := c.cfg.URL
	if c.cfg.URLFile != "" {
		text, err := os.ReadFile(c.cfg.URLFile)
		if err != nil {
			return fmt.Errorf("endpointFile: %w", err)
		}
		to = strings.TrimSpace(string(text))
		if err := c.cfg.check(to); err != nil {
			return &alert.Error{Class: alert.Pause, Err: fmt.Errorf("endpointFile: what it holds: %w", err)}
		}
	}
	token, err := c.cfg.Token.Token(ctx)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return &alert.Error{Class: alert.Pause, Err: errors.New("endpoint: not a URL")}
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "reeve")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL
		}
		return err
	}
	defer resp.Body.Close()
	// Read what little a receiver says, so that the connection can be used
	// again; what it says means nothing.
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	if resp.StatusCode == http.StatusUnauthorized {
		c.cfg.Token.Refused(token)
	}
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
	case code/100 == 3:
		return &alert.Error{Class: alert.Pause, Err: fmt.Errorf("%w; redirects are not followed", err)}
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusNotFound, code == http.StatusMethodNotAllowed, code == http.StatusGone:
		return &alert.Error{Class: alert.Pause, Err: err}
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code/100 == 5:
		return &alert.Error{After: retryAfter(resp.Header.Get("Retry-After")), Err: err}
	}
	return &alert.Error{Class: alert.Permanent, Err: err}
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
