package forward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reeve.dev/reeve/fleet"
)

// AgentConfig is what an Agent is made of.
type AgentConfig struct {
	Upstreams  []Upstream
	Logger     *slog.Logger          // nil: discards
	Registerer prometheus.Registerer // nil: no metrics
}

// Agent answers the requests that the hub forwards, for the services of its
// configuration and no others.
type Agent struct {
	log       *slog.Logger
	metrics   *metrics
	upstreams map[string]*upstream // by target
	services  []fleet.Service
}

// NewAgent reads the files that the upstreams name and connects to nothing
// yet. The error says which service is wrong and why.
func NewAgent(cfg AgentConfig) (*Agent, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Registerer, "type", "service")
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	a := &Agent{log: cfg.Logger, metrics: m, upstreams: map[string]*upstream{}}
	pool := newBuffers()
	for i, u := range cfg.Upstreams {
		if err := u.Validate(); err != nil {
			return nil, fmt.Errorf("services[%d]: %w", i, err)
		}
		if !u.On() {
			continue
		}
		key := target(u.Type, u.Name)
		if a.upstreams[key] != nil {
			return nil, fmt.Errorf("services[%d]: service %s is there twice", i, key)
		}
		up, err := newUpstream(u, cfg.Logger, pool)
		if err != nil {
			return nil, fmt.Errorf("services[%d]: service %s: %w", i, key, err)
		}
		a.upstreams[key] = up
		a.services = append(a.services, u.Service())
	}
	return a, nil
}

// Services is what the agent tells the hub when it registers.
func (a *Agent) Services() []fleet.Service { return a.services }

// ServeHTTP forwards one request of the hub.
func (a *Agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get(ServiceHeader)
	up := a.upstreams[key]
	typ, _, _ := strings.Cut(key, "/")
	switch {
	case key == "":
		problem(w, r, "", http.StatusBadRequest, "the request doesn't name a service in "+ServiceHeader)
		return
	case up == nil:
		problem(w, r, fleet.ServiceType(typ), http.StatusNotFound, fmt.Sprintf("this agent has no service %q; its owner must put it into the agent's configuration", key))
		return
	case up.base.Path != "" && climbs(r.URL.Path):
		problem(w, r, up.Type, http.StatusBadRequest, "the path must not hold .. steps")
		return
	}
	labels := []string{string(up.Type), string(up.Name)}
	a.metrics.begin(labels...)
	observe(w, r, func(x *exchange, r *http.Request) { up.proxy.ServeHTTP(x, r) },
		func(x *exchange) { a.metrics.end(x, labels...) })
}

// upstream is a service with the way to it.
type upstream struct {
	Upstream
	log   *slog.Logger
	base  *url.URL
	proxy *httputil.ReverseProxy
}

func newUpstream(u Upstream, log *slog.Logger, pool httputil.BufferPool) (*upstream, error) {
	var base *url.URL
	var rt http.RoundTripper
	var err error
	if u.Type == fleet.Kubernetes {
		base, rt, err = kubernetes(u.KubeConfig)
	} else {
		base, rt, err = plainHTTP(u)
	}
	if err != nil {
		return nil, err
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	base.RawPath = strings.TrimSuffix(base.RawPath, "/")
	log = log.With("service", target(u.Type, u.Name))
	if u.Insecure {
		log.Warn("the service's certificate isn't checked: insecure is set")
	}
	up := &upstream{Upstream: u, log: log, base: base}
	up.proxy = &httputil.ReverseProxy{
		Rewrite:      up.rewrite,
		Transport:    rt,
		BufferPool:   pool,
		ErrorHandler: up.failed,
		ErrorLog:     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return up, nil
}

// plainHTTP speaks HTTP/1.1, which has the Upgrade that HTTP/2 has not, and a
// connection of its own for each request that stalls.
func plainHTTP(u Upstream) (*url.URL, http.RoundTripper, error) {
	base, err := url.Parse(u.URL)
	if err != nil {
		return nil, nil, err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: u.Insecure}
	if u.CAFile != "" {
		pem, err := os.ReadFile(u.CAFile)
		if err != nil {
			return nil, nil, fmt.Errorf("caFile: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("caFile %s holds no certificate in PEM", u.CAFile)
		}
	}
	if u.Credentials.Type == "certificate" {
		pair := u.Credentials.keyPair()
		if _, err := pair(); err != nil {
			return nil, nil, err
		}
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c, err := pair()
			if err != nil {
				return nil, fmt.Errorf("%w: %w", errCredential, err)
			}
			return c, nil
		}
	}
	var rt http.RoundTripper = &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       cfg,
		TLSHandshakeTimeout:   10 * time.Second,
		DisableCompression:    true, // bodies pass as they are
		MaxIdleConns:          128,
		MaxIdleConnsPerHost:   128,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		WriteBufferSize:       16 << 10,
		ReadBufferSize:        16 << 10,
	}
	if authorize := u.Credentials.authorize(); authorize != nil {
		next := rt
		rt = roundTripperFunc(func(r *http.Request) (*http.Response, error) {
			if err := authorize(r); err != nil {
				return nil, fmt.Errorf("%w: %w", errCredential, err)
			}
			return next.RoundTrip(r)
		})
	}
	return base, rt, nil
}

// rewrite makes the request to the service.
func (u *upstream) rewrite(pr *httputil.ProxyRequest) {
	scrub(pr.Out.Header)
	pr.SetURL(u.base)
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	scrub(pr.In.Trailer)
	pr.Out.Trailer = pr.In.Trailer // filled in when the body has ended
	// What the hub says of the caller.
	for _, k := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := pr.In.Header[k]; ok {
			pr.Out.Header[k] = v
		}
	}
}

// failed answers for a service that gave no answer. The service's address is
// for the agent's owner only, so it stays in the log.
func (u *upstream) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody is there to be told
	}
	if errors.Is(err, ErrForbidden) {
		problem(w, r, u.Type, http.StatusForbidden, err.Error())
		return
	}
	u.log.Warn("service gave no answer", "error", err)
	problem(w, r, u.Type, http.StatusBadGateway, fmt.Sprintf("service %s %s; the agent's log has the details", target(u.Type, u.Name), explain(err)))
}

// explain says what is wrong with a service, without its address.
func explain(err error) string {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var timeout net.Error
	switch {
	case errors.Is(err, errCredential):
		return "needs a credential that the agent can't read"
	case errors.As(err, &dns):
		return "has an address that the agent can't resolve"
	case errors.As(err, &cert):
		return "has a certificate that the agent doesn't trust (set caFile)"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refuses the agent's connection"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "doesn't answer the agent in time"
	default:
		return "gave no answer to the agent"
	}
}
