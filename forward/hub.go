package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"reeve.dev/reeve/fleet"
)

// Links is the hub's way to its agents.
type Links interface {
	// Transport answers what sends a request by a link of the agent, or an
	// error that wraps [ErrUnknownAgent] or [ErrAgentAway].
	Transport(agent fleet.AgentName) (http.RoundTripper, error)
}

// HubConfig is what a Hub is made of. Authenticate and Links are required.
type HubConfig struct {
	Authenticate Authenticator
	Links        Links
	// Rules are who may call what beside, or instead of, the service that the
	// credential is for. nil: nobody.
	Rules *Rules
	// Limits are what callers may use.
	Limits Limits
	// Domain is what the names end in by which services are called, as
	// SERVICE.AGENT.DOMAIN or SERVICE.TYPE.AGENT.DOMAIN; empty: services have
	// no names. It needs Directory.
	Domain string
	// Directory lists what there is; nil: an answer doesn't say.
	Directory Directory
	// Watch has cut called when the credential of a caller is revoked, until
	// stop is called. nil: nothing is ever revoked.
	Watch func(c Caller, cut func(error)) (stop func())
	// Users seals the names of Spinnaker's users; nil: they pass as they are.
	Users Users
	Audit Auditor // nil: no audit
	// Recorder records what rules say; nil: a request that they say it of is
	// refused.
	Recorder   Recorder
	Tracer     trace.Tracer          // nil: no traces
	Logger     *slog.Logger          // nil: discards
	Registerer prometheus.Registerer // nil: no metrics
}

// Hub is the handler of the services port.
type Hub struct {
	cfg     HubConfig
	proxy   *httputil.ReverseProxy
	metrics *metrics
	tracer  tracer

	callers, agents *limiter // nil: unlimited
}

// NewHub makes a Hub. It fails only when its metrics are registered already.
func NewHub(cfg HubConfig) (*Hub, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Domain != "" && cfg.Directory == nil {
		return nil, errors.New("forward: names of services need a Directory")
	}
	m, err := newMetrics(cfg.Registerer, true)
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	h := &Hub{cfg: cfg, metrics: m, tracer: tracer{cfg.Tracer}, callers: newLimiter(cfg.Limits.Caller, "caller"), agents: newLimiter(cfg.Limits.Agent, "agent")}
	h.proxy = &httputil.ReverseProxy{
		Rewrite:    h.rewrite,
		Transport:  roundTripperFunc(func(r *http.Request) (*http.Response, error) { return callOf(r).rt.RoundTrip(r) }),
		BufferPool: newBuffers(),
		ModifyResponse: func(resp *http.Response) error {
			c := callOf(resp.Request)
			c.x.upstream = takeUpstream(resp.Header)
			if err := c.leash.answered(); err != nil {
				return err
			}
			if resp.Header.Get(refusedHeader) == unknownService {
				return errUnknownService
			}
			ofItsOwn(resp.Header)
			if s := c.seals; s != nil {
				if err := s.response(resp.Header); err != nil {
					return err
				}
			}
			c.inPeace(resp)
			return h.record(c, resp)
		},
		ErrorHandler: h.failed,
		ErrorLog:     slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	return h, nil
}

// call is what the hub's proxy knows of a request.
type call struct {
	Caller
	held     Caller // as it was authenticated
	decision decision
	rt       http.RoundTripper
	x        *exchange
	leash    *leash
	// session is what is to be recorded; nil if nothing is.
	session *Session
	// seals is nil where no names of users are sealed or opened.
	seals *seals
}

// callKey is under which a request's context has its call.
type callKey struct{}

func callOf(r *http.Request) *call { return r.Context().Value(callKey{}).(*call) }

type roundTripperFunc func(*http.Request) (*http.Response, error)

func (f roundTripperFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// retryAudit is when to try again what the audit had no room for.
const retryAudit = 5 * time.Second

// errUnknownService says that the agent has no such service.
var errUnknownService = errors.New("unknown service")

// ServeHTTP forwards r, or answers why it can't.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if status, detail := malformed(r); detail != "" {
		problem(w, r, "", status, detail)
		return
	}
	held, noCredential := h.cfg.Authenticate(r)
	anonymous := errors.Is(noCredential, ErrNoCredential)
	if anonymous {
		held = Caller{Name: Anonymous}
	} else if noCredential != nil {
		h.refuse(w, r, held, decision{}, noCredential)
		return
	}
	to, own, err := h.place(r, held)
	var d decision
	if err == nil {
		d, err = h.cfg.Rules.judge(to, r, own, "this hub")
		if err == nil && to.Type == fleet.Kubernetes {
			err = d.impersonated(r.Header)
		}
		if err == nil {
			h.observe(w, r, to, d, func(x *exchange, r *http.Request) { h.forward(x, r, &call{Caller: to, held: held, decision: d, x: x}) })
			return
		}
	}
	if anonymous {
		err = noCredential // whoever has no credential needn't know what there is
	}
	h.refuse(w, r, to, d, err)
}

// observe runs serve, counts it and tells the audit.
func (h *Hub) observe(w http.ResponseWriter, r *http.Request, c Caller, d decision, serve func(*exchange, *http.Request)) {
	counts := h.metrics.of(route4{string(c.Agent), string(c.Type), string(c.Service), cmp.Or(c.Holder, c.Name)})
	counts.running.Inc()
	path := r.URL.EscapedPath()
	r, span := h.tracer.forward(r, c)
	tell := func(x *exchange, begins bool) {
		if h.cfg.Audit == nil {
			return
		}
		e := Exchange{
			At: x.began, Caller: c, RemoteAddr: r.RemoteAddr, Method: r.Method, Path: path, Rule: d.ruleName(),
			Status: x.status, Received: x.received.Load(), Sent: x.sent.Load(),
			Duration: time.Since(x.began), Upstream: min(x.upstream, x.first), Err: x.err, Begins: begins,
		}
		e.describe(r, d)
		if x.tap != nil {
			e.Recording = x.tap.tape.ID()
		}
		h.cfg.Audit.Forwarded(r.Context(), e)
	}
	observe(w, r, func(x *exchange, r *http.Request) {
		x.begins = func() { tell(x, true) }
		serve(x, r)
	}, func(x *exchange) {
		counts.end(x)
		span.end(x)
		tell(x, false)
	})
}

// describe says what r asks for.
func (e *Exchange) describe(r *http.Request, d decision) {
	e.Verb = strings.ToLower(r.Method)
	if e.Caller.Type != fleet.Kubernetes {
		return
	}
	k := kubeOf(r)
	e.Verb, e.Namespace, e.Name = k.verb, k.namespace, k.name
	if k.resource != "" {
		names := k.resources()
		e.Resource = names[len(names)-1]
	}
	if q := r.URL.Query(); k.subresource == "exec" {
		e.Command = q["command"]
	} else if k.resource == "nodes" && k.subresource == "proxy" {
		e.Command = slices.Concat(q["command"], q["cmd"]) // of its exec, and of its run
	}
	if d.rule != nil && d.rule.Impersonate.User != "" {
		e.User, e.Groups = d.rule.Impersonate.User, d.rule.Impersonate.Groups
	} else if impersonates(r.Header) {
		e.User, e.Groups = r.Header.Get("Impersonate-User"), r.Header["Impersonate-Group"]
	}
}

// refuse answers a request that isn't forwarded.
func (h *Hub) refuse(w http.ResponseWriter, r *http.Request, c Caller, d decision, err error) {
	status, detail := h.status(r, err)
	h.observe(w, r, c, d, func(x *exchange, r *http.Request) {
		x.err = err
		if c.ID != "" { // what is refused, and recorded, counts like what isn't
			a, over := h.callers.begin(c.key(), time.Now())
			if over != nil {
				x.err = over
				problemWith(x, r, c.Type, http.StatusTooManyRequests, over.Error()+"; try again later", retryAfter(over.after))
				return
			}
			defer h.callers.end(a)
		}
		problem(x, r, c.Type, status, detail)
	})
}

// status is the status of a refusal, and what the caller may know of it.
func (h *Hub) status(r *http.Request, err error) (status int, detail string) {
	var m *misplaced
	switch {
	case errors.As(err, &m):
		return m.status, m.detail
	case errors.Is(err, ErrUnauthenticated):
		return http.StatusUnauthorized, err.Error()
	case errors.Is(err, ErrForbidden):
		return http.StatusForbidden, err.Error()
	}
	h.cfg.Logger.Error("request can't be judged", "remote", r.RemoteAddr, "error", err)
	return http.StatusInternalServerError, "the hub can't check the credential at present"
}

// forward sends r by the link. c lacks only what is found on the way.
func (h *Hub) forward(x *exchange, r *http.Request, c *call) {
	caller := c.Caller
	in, over := h.admit(caller)
	if over != nil {
		x.err = over
		problemWith(x, r, caller.Type, http.StatusTooManyRequests, over.Error()+"; try again later", retryAfter(over.after))
		return
	}
	defer in.done()
	if h.cfg.Audit != nil {
		if err := h.cfg.Audit.Ready(r.Context()); err != nil {
			x.err = err
			problemWith(x, r, caller.Type, http.StatusServiceUnavailable, "nothing is forwarded at present: "+err.Error(), retryAfter(retryAudit))
			return
		}
	}
	r, err := h.toRecord(r, c)
	if err != nil {
		x.err = err
		problem(x, r, caller.Type, http.StatusForbidden, err.Error())
		return
	}
	defer func() { x.tap.close(x) }()
	c.rt, err = h.cfg.Links.Transport(caller.Agent)
	switch {
	case errors.Is(err, ErrUnknownAgent):
		x.err = err
		problem(x, r, caller.Type, http.StatusNotFound, fmt.Sprintf("no agent %q has joined this hub", caller.Agent)+h.instead(r.Context(), c.held))
		return
	case errors.Is(err, ErrAgentAway):
		x.err = err
		problem(x, r, caller.Type, http.StatusBadGateway, fmt.Sprintf("agent %q isn't connected; it reconnects by itself when its cluster can reach the hub", caller.Agent))
		return
	case err != nil:
		x.err = err
		h.cfg.Logger.Error("no way to the agent", "agent", caller.Agent, "error", err)
		problem(x, r, caller.Type, http.StatusInternalServerError, "the hub can't find the agent at present")
		return
	}
	outlast(x, r)
	if c.seals = h.sealing(r, caller); c.seals != nil {
		turned, err := c.seals.request(r, caller.Type)
		if err != nil {
			x.err = err
			status, detail := h.status(r, err)
			problem(x, r, caller.Type, status, detail)
			return
		}
		r = turned
	}
	r = h.tie(r, c)
	defer c.leash.letGo()
	w, r := in.pace(x, r)
	h.proxy.ServeHTTP(w, r)
}

// outlast lifts any limit that the server has for requests: a watch or a log
// takes longer. A handler before this one may have limited the body.
func outlast(w http.ResponseWriter, r *http.Request) {
	srv, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	if ok && srv.ReadTimeout == 0 && srv.WriteTimeout == 0 && r.ContentLength == 0 {
		return
	}
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Time{})
	rc.SetWriteDeadline(time.Time{})
}

// rewrite makes the request on the link. The proxy has taken off what
// concerns one connection only before, and so also what the caller's
// Connection header names.
func (h *Hub) rewrite(pr *httputil.ProxyRequest) {
	c := callOf(pr.In)
	scrub(pr.Out.Header)
	pr.Out.URL.Scheme, pr.Out.URL.Host, pr.Out.Host = "http", "agent", "agent"
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	scrubTrailer(pr.In.Trailer)
	pr.Out.Trailer = pr.In.Trailer // filled in when the body has ended
	pr.Out.Header.Set(ServiceHeader, target(c.Type, c.Service))
	tell(pr.Out.Header, c.Caller, c.decision)
	propagate(pr.Out)
	if c.Type == AWS {
		forAWS(pr.Out.Header, pr.In.Header.Get("Authorization"))
	}
	pr.SetXForwarded()
}

// failed answers for a link that broke before there was an answer.
func (h *Hub) failed(w http.ResponseWriter, r *http.Request, err error) {
	c := callOf(r)
	c.x.err = err
	switch {
	case errors.Is(err, errUnknownService):
		problem(w, r, c.Type, http.StatusNotFound, fmt.Sprintf("agent %q has no service %q; its owner must put it into the agent's configuration", c.Agent, target(c.Type, c.Service))+h.instead(r.Context(), c.held))
		return
	case errors.Is(err, errSlow), errors.Is(context.Cause(r.Context()), errSlow):
		c.x.err = errSlow
		problem(w, r, c.Type, http.StatusGatewayTimeout, fmt.Sprintf("service %s of agent %q didn't begin its answer within the %v that %s allows", target(c.Type, c.Service), c.Agent, c.decision.rule.AnswerWithin, c.decision.rule))
		return
	case r.Context().Err() != nil:
		return // nobody is there to be told
	case c.x.broken.Load():
		problem(w, r, c.Type, http.StatusBadRequest, "the request's body isn't what its header says: it breaks off, or its chunks or its hash are wrong")
		return
	case busy(err):
		problemWith(w, r, c.Type, http.StatusServiceUnavailable, fmt.Sprintf("agent %q has as many requests under way as it takes; try again later", c.Agent), retryAfter(retryConcurrent))
		return
	case errors.Is(err, errNotRecorded):
		h.cfg.Logger.Error("session can't be recorded, and so doesn't take place", "agent", c.Agent, "service", target(c.Type, c.Service), "error", err)
		problem(w, r, c.Type, http.StatusServiceUnavailable, fmt.Sprintf("%s has this session recorded, and that isn't possible at present; the hub's log says why", c.decision.rule))
		return
	}
	h.cfg.Logger.Warn("request not forwarded", "agent", c.Agent, "service", target(c.Type, c.Service), "error", err)
	problem(w, r, c.Type, http.StatusBadGateway, fmt.Sprintf("the link to agent %q broke before the service answered%s; try again", c.Agent, because(err)))
}

// busy reports whether the other end of a link refused a request since it has as
// many as it takes; nobody has seen it then.
func busy(err error) bool {
	var b interface{ Busy() bool }
	return errors.As(err, &b) && b.Busy()
}

// because says what became of the carrier, where a link's error tells.
func because(err error) string {
	var lost interface{ Reason() string }
	if errors.As(err, &lost) {
		return ": " + lost.Reason()
	}
	return ""
}
