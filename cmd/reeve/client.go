package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// maxAnswer bounds what the commands read of an answer that they decode.
const maxAnswer = 64 << 20

// hubFlags say which hub to talk to, and as whom.
type hubFlags struct{ url, ca, cert, key, token string }

func (f *hubFlags) flags(cmd *cobra.Command) {
	f.place(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.cert, "cert", os.Getenv("REEVE_CERT"), "`file` with a control certificate (REEVE_CERT)")
	flags.StringVar(&f.key, "key", os.Getenv("REEVE_KEY"), "`file` with its key (REEVE_KEY)")
	flags.StringVar(&f.token, "token-file", os.Getenv("REEVE_TOKEN_FILE"), "`file` with an API token (REEVE_TOKEN_FILE; the token itself may be in REEVE_TOKEN)")
}

// place are the flags that say where the hub is.
func (f *hubFlags) place(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.url, "hub", os.Getenv("REEVE_HUB"), "`URL` of the hub (REEVE_HUB)")
	cmd.Flags().StringVar(&f.ca, "ca", os.Getenv("REEVE_CA"), "`file` with the hub's CA (REEVE_CA)")
}

// client talks to a hub's REST API.
type client struct {
	base  *url.URL
	token string
	http  *http.Client
	// got is told how many items of a list have come; nil: nobody is.
	got func(int)
}

func (f *hubFlags) client() (*client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS13}
	c, err := f.anonymous(conf)
	if err != nil {
		return nil, err
	}
	c.token = os.Getenv("REEVE_TOKEN")
	if f.token != "" {
		text, err := os.ReadFile(f.token)
		if err != nil {
			return nil, fmt.Errorf("API token: %w", err)
		}
		c.token = strings.TrimSpace(string(text))
	}
	if (f.cert == "") != (f.key == "") {
		return nil, errors.New("a control certificate and its key belong together: give both --cert and --key, or REEVE_CERT and REEVE_KEY")
	}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("control certificate %s and key %s: %w", f.cert, f.key, err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	if c.token == "" && f.cert == "" {
		return nil, errors.New("no credential for the hub: give --cert and --key (from `reeve ca init`), or an API token in REEVE_TOKEN")
	}
	return c, nil
}

// anonymous is a client without a credential, by connections as conf says.
func (f *hubFlags) anonymous(conf *tls.Config) (*client, error) {
	if f.url == "" {
		return nil, errors.New("no hub is named: give --hub https://HOST:8443 or set REEVE_HUB")
	}
	base, err := url.Parse(f.url)
	switch {
	case err == nil && base.User != nil:
		return nil, errors.New("--hub: it must be https://HOST:PORT, without a user or a password; give an API token in REEVE_TOKEN")
	case err != nil || base.Scheme != "https" || base.Host == "":
		return nil, fmt.Errorf("--hub %q: it must be https://HOST:PORT", f.url)
	}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("the hub's CA: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("the hub's CA: %s holds no certificate in PEM", f.ca)
		}
	}
	transport := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment}
	// A hub sends nobody elsewhere. Whatever does so before it, such as a page to
	// log in at, perhaps without TLS, isn't to be shown the token.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{base: base, http: &http.Client{Transport: transport, CheckRedirect: stay}}, nil
}

// do sends a request with a JSON body (nil for none) and answers the body of
// a 2xx answer; any other is a *problem.
func (c *client) do(ctx context.Context, method, path string, body any) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
}

// doBody is do of a body as it is, of that type, for as long as it takes.
func (c *client) doBody(ctx context.Context, method, path, contentType string, body io.Reader) (json.RawMessage, error) {
	resp, err := c.sendBody(ctx, method, path, contentType, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
}

// send is do without reading the answer.
func (c *client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	if body == nil {
		return c.sendBody(ctx, method, path, "", nil)
	}
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return c.sendBody(ctx, method, path, "application/json", bytes.NewReader(data))
}

// sendBody is send of a body as it is, of that type.
func (c *client) sendBody(ctx context.Context, method, path, contentType string, body io.Reader) (*http.Response, error) {
	ref, err := url.Parse("/api/v1" + path)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.ResolveReference(ref).String(), body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, explain(err, c.base)
	}
	if resp.StatusCode/100 == 2 && !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.refused(ctx, ref.Path, resp)
}
