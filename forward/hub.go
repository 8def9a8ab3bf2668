package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	Users      Users
	Audit      Auditor               // nil: no audit
	Logger     *slog.Logger          // nil: discards
	Registerer prometheus.Registerer // nil: no metrics
}

// Hub is the handler of the services port.
type Hub struct {
	cfg     HubConfig
	proxy   *httputil.ReverseProxy
	metrics *metrics

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
	m, err := newMetrics(cfg.Registerer, "agent", "type", "service")
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	h := &Hub{cfg: cfg, metrics: m, callers: newLimiter(cfg.Limits.Caller, "caller"), agents: newLimiter(cfg.Limits.Agent, "agent")}
	h.proxy = &httputil.ReverseProxy{
		Rewrite:    h.rewrite,
		Transport:  roundTripperFunc(func(r *http.Request) (*http.Response, error) { return callOf(r).rt.RoundTrip(r) }),
		BufferPool: newBuffers(),
		ModifyResponse: func(resp *http.Response) error {
			c := callOf(resp.Request)
			if err := c.leash.answered(); err != nil {
				return err
			}
			if resp.Header.Get(refusedHeader) == unknownService {
				return errUnknownService
			}
			if c := resp.Header["Set-Cookie"]; slices.ContainsFunc(c, setsHubCookie) {
				resp.Header["Set-Cookie"] = slices.DeleteFunc(c, setsHubCookie)
			}
			if s := c.seals; s != nil {
				return s.response(resp.Header)
			}
			return nil
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
	// seals is nil where no names of users are sealed or opened.
	seals *seals
}

// callKey is under which a request's context has its call.
type callKey struct{}

func callOf(r *http.Request) *call { return r.Context().Value(callKey{}).(*call) }

type roundTripperFunc func(*http.Request) (*http.Response, error)

func (f roundTripperFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// errUnknownService says that the agent has no such service.
var errUnknownService = errors.New("unknown service")

// ServeHTTP forwards r, or answers why it can't.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if detail := malformed(r); detail != "" {
		problem(w, r, "", http.StatusBadRequest, detail)
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
	labels := []string{string(c.Agent), string(c.Type), string(c.Service)}
	path := r.URL.EscapedPath()
	h.metrics.begin(labels...)
	observe(w, r, serve, func(x *exchange) {
		h.metrics.end(x, labels...)
		if h.cfg.Audit == nil {
			return
		}
		h.cfg.Audit.Forwarded(r.Context(), Exchange{
			At: x.began, Caller: c, RemoteAddr: r.RemoteAddr, Method: r.Method, Path: path, Rule: d.ruleName(),
			Status: x.status, Received: x.received.Load(), Sent: x.sent.Load(),
			Duration: time.Since(x.began), Err: x.err,
		})
	})
}

// refuse answers a request that isn't forwarded. Where the caller is known,
// that is audited.
func (h *Hub) refuse(w http.ResponseWriter, r *http.Request, c Caller, d decision, err error) {
	status, detail := h.status(r, err)
	if c.Name == "" || status == http.StatusUnauthorized {
		problem(w, r, c.Type, status, detail)
		return
	}
	h.observe(w, r, c, d, func(x *exchange, r *http.Request) {
		x.err = err
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
	var err error
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
	// A watch or a log outlasts any limit that the server has for requests.
	rc := http.NewResponseController(x)
	rc.SetReadDeadline(time.Time{})
	rc.SetWriteDeadline(time.Time{})
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

// rewrite makes the request on the link. The proxy has taken off what
// concerns one connection only before, and so also what the caller's
// Connection header names.
func (h *Hub) rewrite(pr *httputil.ProxyRequest) {
	c := callOf(pr.In)
	scrub(pr.Out.Header)
	pr.Out.URL.Scheme, pr.Out.URL.Host, pr.Out.Host = "http", "agent", "agent"
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	scrub(pr.In.Trailer)
	pr.Out.Trailer = pr.In.Trailer // filled in when the body has ended
	pr.Out.Header.Set(ServiceHeader, target(c.Type, c.Service))
	tell(pr.Out.Header, c.Caller, c.decision)
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
	}
	h.cfg.Logger.Warn("request not forwarded", "agent", c.Agent, "service", target(c.Type, c.Service), "error", err)
	problem(w, r, c.Type, http.StatusBadGateway, fmt.Sprintf("the link to agent %q broke before the service answered; try again", c.Agent))
}
