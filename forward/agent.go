package forward

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"reeve.dev/reeve/fleet"
)

// AgentConfig is what an Agent is made of.
type AgentConfig struct {
	Upstreams []Upstream
	// Rules are what the cluster's owner allows and denies; what none of them
	// is for, the hub decides. nil: none.
	Rules *Rules
	// Kubeconfig is the file for the cluster whose Secrets hold credentials;
	// empty finds it as kubectl does, or takes the pod's.
	Kubeconfig string
	Logger     *slog.Logger          // nil: discards
	Registerer prometheus.Registerer // nil: no metrics
	Tracer     trace.Tracer          // nil: no traces
}

// Agent answers the requests that the hub forwards, for the services of its
// configuration and no others.
type Agent struct {
	log       *slog.Logger
	metrics   *metrics
	tracer    tracer
	rules     *Rules
	upstreams map[string]*upstream // by target
	services  []fleet.Service
}

// NewAgent reads the files that the upstreams name and connects to nothing
// yet. The error says which service is wrong and why.
func NewAgent(cfg AgentConfig) (*Agent, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Registerer, false)
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	a := &Agent{log: cfg.Logger, metrics: m, tracer: tracer{cfg.Tracer}, rules: cfg.Rules, upstreams: map[string]*upstream{}}
	env := environment{pool: newBuffers()}
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
		if env.secrets == nil && u.needsSecrets() {
			if env.secrets, err = OpenSecrets(cfg.Kubeconfig); err != nil {
				return nil, fmt.Errorf("services[%d]: service %s: secretName: %w", i, key, err)
			}
		}
		up, err := newUpstream(u, cfg.Logger, env)
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
		problemWith(w, r, fleet.ServiceType(typ), http.StatusNotFound, fmt.Sprintf("this agent has no service %q; its owner must put it into the agent's configuration", key), http.Header{refusedHeader: {unknownService}})
		return
	}
	if err := a.rules.admit(r); err != nil {
		problem(w, r, up.Type, http.StatusForbidden, err.Error())
		return
	}
	rt, err := up.route()
	if err != nil {
		up.log.Error("no way to the service", "error", err)
		problem(w, r, up.Type, http.StatusBadGateway, fmt.Sprintf("service %s isn't set up right at the agent; its log has the details", key))
		return
	}
	if rt.base.Path != "" && climbs(r.URL.Path) {
		problem(w, r, up.Type, http.StatusBadRequest, "the path must not hold .. steps")
		return
	}
	counts := a.metrics.of(route4{typ: string(up.Type), service: string(up.Name)})
	counts.running.Inc()
	r, span := a.tracer.serve(r, up.Type, up.Name)
	observe(w, r, func(x *exchange, r *http.Request) {
		x.tells = true
		rt.proxy.ServeHTTP(x, r)
	}, func(x *exchange) {
		counts.end(x)
		span.end(x)
	})
}

// upstream is a service with the way to it.
type upstream struct {
	Upstream
	log *slog.Logger
	// route answers the way to the service as it is now.
	route func() (*route, error)
}

// environment is what upstreams have in common, and what a route needs of its
// upstream.
type environment struct {
	secrets Secrets
	pool    httputil.BufferPool
	up      *upstream
}

func newUpstream(u Upstream, log *slog.Logger, env environment) (*upstream, error) {
	up := &upstream{Upstream: u, log: log.With("service", target(u.Type, u.Name))}
	if u.Insecure {
		up.log.Warn("the service's certificate isn't checked: insecure is set")
	}
	env.up = up
	open := openHTTP
	if k, _ := kindOf(u.Type); k.open != nil {
		open = k.open
	}
	var err error
	up.route, err = open(u, env)
	return up, err
}

// route makes the proxy for base.
func (e environment) route(base *url.URL, transport http.RoundTripper) *route {
	r := &route{base: base}
	r.proxy = &httputil.ReverseProxy{
		Rewrite:        r.rewrite,
		Transport:      transport,
		BufferPool:     e.pool,
		ModifyResponse: r.answered,
		ErrorHandler:   e.up.failed,
		ErrorLog:       slog.NewLogLogger(e.up.log.Handler(), slog.LevelDebug),
	}
	return r
}

// answered takes off a service's answer what isn't for the caller: a service
// that echoes its request would hand out the agent's credential, and one that
// claims to be Reeve would be believed.
func (rt *route) answered(resp *http.Response) error {
	private(resp.Header)
	private(resp.Trailer)
	for _, name := range []string{"Location", "Content-Location"} {
		if v := resp.Header.Get(name); v != "" {
			resp.Header.Set(name, rt.fromOutside(v))
		}
	}
	if resp.StatusCode != http.StatusSwitchingProtocols && (resp.ContentLength < 0 || resp.ProtoMajor == 2) {
		resp.Body = &trailedBody{resp.Body, resp}
	}
	return nil
}

// fromOutside is an address of the service's own as its callers reach it, by the
// path alone: where the service is, is nothing to them, and leads nowhere. Any
// other address stays.
func (rt *route) fromOutside(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Opaque != "" || u.User != nil || u.Host == "" && !strings.HasPrefix(u.Path, "/") ||
		u.Host != "" && !strings.EqualFold(u.Host, rt.base.Host) || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" {
		return address
	}
	path, below := strings.CutPrefix(u.EscapedPath(), rt.base.EscapedPath())
	if !below || path != "" && path[0] != '/' || strings.HasPrefix(path, "//") {
		return address
	}
	_, rest, _ := strings.Cut(address, "//")
	if u.Host == "" {
		rest = address
	}
	after := ""
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		after = rest[i:]
	}
	return cmp.Or(path, "/") + after
}

func private(h http.Header) {
	for name := range h {
		if strings.HasPrefix(name, "Reeve-") || name == "Authorization" || name == "Proxy-Authorization" || name == tokenHeader {
			delete(h, name)
		}
	}
}

// trailedBody is the body of an answer that trailers may follow, also such as
// weren't announced.
type trailedBody struct {
	io.ReadCloser
	resp *http.Response
}

func (b *trailedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		private(b.resp.Trailer)
	}
	return n, err
}

// Close doesn't wait for the end of the upload, as HTTP/2 would. A gRPC client
// may go on sending until it has seen the end of the answer, and that follows
// only when this returns; then the upload ends.
func (b *trailedBody) Close() error {
	if b.resp.ProtoMajor == 2 {
		go b.ReadCloser.Close()
		return nil
	}
	return b.ReadCloser.Close()
}

// failed answers for a service that gave no answer. The service's address is
// for the agent's owner only, so it stays in the log.
func (u *upstream) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody is there to be told
	}
	switch {
	case errors.Is(err, ErrForbidden):
		problem(w, r, u.Type, http.StatusForbidden, err.Error())
		return
	case errors.Is(err, errBadRequest):
		problem(w, r, u.Type, http.StatusBadRequest, err.Error())
		return
	}
	u.log.Warn("service gave no answer", "error", err)
	problem(w, r, u.Type, http.StatusBadGateway, fmt.Sprintf("service %s %s; the agent's log has the details", target(u.Type, u.Name), explain(err)))
}

// errBadRequest says that a request isn't one that the service can be asked.
// What wraps it is shown to the caller.
var errBadRequest = errors.New("bad request")

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
