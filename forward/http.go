package forward

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"

	"reeve.dev/reeve/internal/upgrade"
)

// The values of [Upstream.Protocol].
const (
	protocolHTTP1 = "http1"
	protocolHTTP2 = "http2"
)

func validateHTTP(u Upstream) error {
	base, err := parseBase(u.URL)
	if err != nil {
		return err
	}
	if p := u.Protocol; p != "" && p != protocolHTTP1 && p != protocolHTTP2 {
		return fmt.Errorf("protocol %q: must be %s or %s", p, protocolHTTP1, protocolHTTP2)
	}
	if base.Scheme == "http" && (u.Insecure || u.CAFile != "" || u.Credentials.Type == "certificate") {
		return errors.New("insecure, caFile and a client certificate need a url with https")
	}
	return u.Credentials.Validate()
}

func parseBase(text string) (*url.URL, error) {
	base, err := url.Parse(text)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Hostname() == "" {
		return nil, errors.New("url must look like https://host:port/path")
	}
	if base.User != nil {
		return nil, errors.New("url must not hold a user or password; use credentials")
	}
	if base.RawQuery != "" || base.Fragment != "" || climbs(base.Path) {
		return nil, errors.New("url must have no query, no fragment and no .. in its path")
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	base.RawPath = strings.TrimSuffix(base.RawPath, "/")
	return base, nil
}

// openHTTP is the way to a service that speaks plain HTTP.
func openHTTP(u Upstream, env environment) (func() (*route, error), error) {
	base, err := parseBase(u.URL)
	if err != nil {
		return nil, err
	}
	rt, err := httpTransport(u, env.secrets)
	if err != nil {
		return nil, err
	}
	return fixed(env.route(base, rt)), nil
}

func fixed(r *route) func() (*route, error) { return func() (*route, error) { return r, nil } }

// httpTransport speaks HTTP/1.1, which has the Upgrade that HTTP/2 has not,
// and a connection of its own for each request that stalls; and HTTP/2 where
// the configuration asks for it.
func httpTransport(u Upstream, secrets Secrets) (http.RoundTripper, error) {
	cfg, err := clientTLS(u, secrets)
	if err != nil {
		return nil, err
	}
	h1 := newTransport(cfg)
	plain := h1
	if u.Protocol == protocolHTTP2 {
		h2 := newTransport(cfg.Clone())
		h2.Protocols = new(http.Protocols)
		h2.Protocols.SetHTTP2(true)
		h2.Protocols.SetUnencryptedHTTP2(true)
		// Without a question now and then a connection that died unseen
		// would take request after request.
		h2.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second}
		plain = h2
	}
	rt := upgradesBy(h1, plain)
	authorize, changed := u.Credentials.authorize(secrets)
	if authorize == nil {
		return rt, nil
	}
	return roundTripperFunc(func(r *http.Request) (*http.Response, error) {
		if err := authorize(r); err != nil {
			if r.Body != nil {
				r.Body.Close()
			}
			return nil, fmt.Errorf("%w: %w", errCredential, err)
		}
		resp, err := rt.RoundTrip(r)
		if err == nil && resp.StatusCode == http.StatusUnauthorized {
			changed()
		}
		return resp, err
	}), nil
}

// upgradesBy sends what asks for an Upgrade by one transport, once, and all else
// by the other.
func upgradesBy(by, plain http.RoundTripper) http.RoundTripper {
	return roundTripperFunc(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Upgrade") != "" {
			return by.RoundTrip(upgrade.Once(r))
		}
		return plain.RoundTrip(r)
	})
}

func newTransport(cfg *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       cfg,
		TLSHandshakeTimeout:   10 * time.Second,
		DisableCompression:    true, // bodies pass as they are
		MaxIdleConns:          128,
		MaxIdleConnsPerHost:   128,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		WriteBufferSize:       16 << 10,
	}
}

func clientTLS(u Upstream, secrets Secrets) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: u.Insecure}
	if u.CAFile != "" {
		pem, err := os.ReadFile(u.CAFile)
		if err != nil {
			return nil, fmt.Errorf("caFile: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("caFile %s holds no certificate in PEM", u.CAFile)
		}
	}
	if u.Credentials.Type == "certificate" {
		pair, err := u.Credentials.keyPair(secrets)
		if err != nil {
			return nil, err
		}
		cfg.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := pair(info.Context())
			if err != nil {
				return nil, fmt.Errorf("%w: %w", errCredential, err)
			}
			return c, nil
		}
	}
	return cfg, nil
}

// route is one way to a service: where it is, and the proxy that goes there.
type route struct {
	base  *url.URL
	proxy *httputil.ReverseProxy
}

// rewrite makes the request to the service.
func (rt *route) rewrite(pr *httputil.ProxyRequest) {
	scrub(pr.Out.Header)
	pr.SetURL(rt.base)
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	scrubTrailer(pr.In.Trailer)
	pr.Out.Trailer = pr.In.Trailer // filled in when the body has ended
	propagate(pr.Out)
	// What the hub says of the caller.
	for _, k := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := pr.In.Header[k]; ok {
			pr.Out.Header[k] = v
		}
	}
}
