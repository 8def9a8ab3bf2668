package forward

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
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
}

// NewHub makes a Hub. It fails only when its metrics are registered already.
func NewHub(cfg HubConfig) (*Hub, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(cfg.Registerer, "agent", "type", "service")
	if err != nil {
		return nil, fmt.Errorf("forward: %w", err)
	}
	h := &Hub{cfg: cfg, metrics: m}
	h.proxy = &httputil.ReverseProxy{
		Rewrite:    h.rewrite,
		Transport:  roundTripperFunc(func(r *http.Request) (*http.Response, error) { return carriedBy[*call](r).rt.RoundTrip(r) }),
		BufferPool: newBuffers(),
		ModifyResponse: func(resp *http.Response) error {
			if c := resp.Header["Set-Cookie"]; slices.ContainsFunc(c, setsHubCookie) {
				resp.Header["Set-Cookie"] = slices.DeleteFunc(c, setsHubCookie)
			}
			if s := carriedBy[*call](resp.Request).seals; s != nil {
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
	rt http.RoundTripper
	x  *exchange
	// seals is nil where no names of users are sealed or opened.
	seals *seals
}

type roundTripperFunc func(*http.Request) (*http.Response, error)

func (f roundTripperFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// ServeHTTP forwards r, or answers why it can't.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect || !strings.HasPrefix(r.URL.Path, "/") {
		problem(w, r, "", http.StatusBadRequest, "the request must name a path; this isn't a proxy for other hosts")
		return
	}
	caller, err := h.cfg.Authenticate(r)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	labels := []string{string(caller.Agent), string(caller.Type), string(caller.Service)}
	path := r.URL.EscapedPath()
	h.metrics.begin(labels...)
	observe(w, r, func(x *exchange, r *http.Request) { h.forward(x, r, caller) }, func(x *exchange) {
		h.metrics.end(x, labels...)
		if h.cfg.Audit == nil {
			return
		}
		h.cfg.Audit.Forwarded(r.Context(), Exchange{
			At: x.began, Caller: caller, RemoteAddr: r.RemoteAddr, Method: r.Method, Path: path,
			Status: x.status, Received: x.received.Load(), Sent: x.sent.Load(),
			Duration: time.Since(x.began), Err: x.err,
		})
	})
}

func (h *Hub) refuse(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, ErrUnauthenticated):
		problem(w, r, "", http.StatusUnauthorized, err.Error())
	case errors.Is(err, ErrForbidden):
		problem(w, r, "", http.StatusForbidden, err.Error())
	default:
		h.cfg.Logger.Error("caller can't be identified", "remote", r.RemoteAddr, "error", err)
		problem(w, r, "", http.StatusInternalServerError, "the hub can't check the credential at present")
	}
}

func (h *Hub) forward(x *exchange, r *http.Request, caller Caller) {
	rt, err := h.cfg.Links.Transport(caller.Agent)
	switch {
	case errors.Is(err, ErrUnknownAgent):
		x.err = err
		problem(x, r, caller.Type, http.StatusNotFound, fmt.Sprintf("no agent %q has joined this hub", caller.Agent))
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
	s := h.sealing(r, caller)
	if s != nil {
		turned, err := s.request(r, caller.Type)
		if err != nil {
			x.err = err
			h.refuse(x, r, err)
			return
		}
		r = turned
	}
	h.proxy.ServeHTTP(x, carry(r, &call{caller, rt, x, s}))
}

// rewrite makes the request on the link. The proxy has taken off what
// concerns one connection only before, and so also what the caller's
// Connection header names.
func (h *Hub) rewrite(pr *httputil.ProxyRequest) {
	c := carriedBy[*call](pr.In)
	scrub(pr.Out.Header)
	pr.Out.URL.Scheme, pr.Out.URL.Host, pr.Out.Host = "http", "agent", "agent"
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	scrub(pr.In.Trailer)
	pr.Out.Trailer = pr.In.Trailer // filled in when the body has ended
	pr.Out.Header.Set(ServiceHeader, target(c.Type, c.Service))
	if c.Type == AWS {
		forAWS(pr.Out.Header, pr.In.Header.Get("Authorization"))
	}
	pr.SetXForwarded()
}

// failed answers for a link that broke before there was an answer.
func (h *Hub) failed(w http.ResponseWriter, r *http.Request, err error) {
	c := carriedBy[*call](r)
	c.x.err = err
	if r.Context().Err() != nil {
		return // nobody is there to be told
	}
	h.cfg.Logger.Warn("request not forwarded", "agent", c.Agent, "service", target(c.Type, c.Service), "error", err)
	problem(w, r, c.Type, http.StatusBadGateway, fmt.Sprintf("the link to agent %q broke before the service answered; try again", c.Agent))
}
