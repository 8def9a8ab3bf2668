package forward

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"reeve.dev/reeve/fleet"
)

// DestinationHeader names whose service an agent asks for, beside
// [ServiceHeader], on the way from an agent to the hub.
const DestinationHeader = "Reeve-Destination"

// Incoming is a port of the agent's machine that leads by the link to a
// service of the hub, or of another agent.
//
//	clouddriver ── localhost:7002 ── agent ══ link ══ hub ── fiat
//
// Whoever reaches the port is taken for the agent, so it is on the loopback
// address unless Address says otherwise.
type Incoming struct {
	Name string `yaml:"name"`
	Port uint16 `yaml:"port"`
	// Address is what is listened on; empty means 127.0.0.1. Then what is called
	// by plain HTTP is so as localhost or the like, not as anybody's domain.
	Address string `yaml:"address"`
	// UseHTTP is for plain HTTP. Else the port has a certificate of the hub's
	// CA for localhost, or the one in CertFile and KeyFile.
	UseHTTP  bool   `yaml:"useHTTP"`
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
	// ServiceType and DestinationService name the service, Destination whose
	// it is; empty means the hub's.
	ServiceType        fleet.ServiceType `yaml:"serviceType"`
	DestinationService fleet.ServiceName `yaml:"destinationService"`
	Destination        fleet.AgentName   `yaml:"destination"`
}

// Validate reports the first thing that is wrong with i.
func (i Incoming) Validate() error {
	if err := (fleet.Service{Type: i.ServiceType, Name: i.DestinationService}).Validate(); err != nil {
		return err
	}
	if _, ok := kindOf(i.ServiceType); !ok {
		return fmt.Errorf("serviceType %q isn't supported", i.ServiceType)
	}
	if i.Destination != "" {
		if err := i.Destination.Validate(); err != nil {
			return fmt.Errorf("destination: %w", err)
		}
	}
	if (i.CertFile != "") != (i.KeyFile != "") {
		return errors.New("certFile and keyFile need each other")
	}
	if i.UseHTTP && i.CertFile != "" {
		return errors.New("certFile and keyFile aren't for useHTTP")
	}
	return nil
}

// Listen is the address of the port.
func (i Incoming) Listen() string {
	host := i.Address
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(int(i.Port)))
}

// ErrNoLink says that there is no link to the hub at present.
var ErrNoLink = errors.New("no link to the hub")

// Handler sends requests by the link. The error of link wraps [ErrNoLink]
// while there is none.
func (i Incoming) Handler(link http.RoundTripper, log *slog.Logger) http.Handler {
	log = log.With("incoming", i.Name)
	destination := i.Destination
	if destination == "" {
		destination = fleet.HubAgent
	}
	proxy := &httputil.ReverseProxy{
		Transport:  link,
		BufferPool: newBuffers(),
		ErrorLog:   slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Rewrite: func(pr *httputil.ProxyRequest) {
			scrub(pr.Out.Header)
			pr.Out.URL.Scheme, pr.Out.URL.Host, pr.Out.Host = "http", "hub", "hub"
			pr.Out.URL.RawQuery = pr.In.URL.RawQuery
			scrub(pr.In.Trailer)
			pr.Out.Trailer = pr.In.Trailer // filled in when the body has ended
			pr.Out.Header.Set(ServiceHeader, target(i.ServiceType, i.DestinationService))
			pr.Out.Header.Set(DestinationHeader, string(destination))
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				return // nobody is there to be told
			}
			log.Warn("request not forwarded", "error", err)
			if busy(err) {
				problemWith(w, r, i.ServiceType, http.StatusServiceUnavailable, "the hub has as many requests of this agent's under way as it takes; try again later", retryAfter(retryConcurrent))
				return
			}
			detail := "the link to the hub broke before there was an answer" + because(err) + "; try again"
			if errors.Is(err, ErrNoLink) {
				detail = "this agent isn't connected to its hub; it reconnects by itself"
			}
			problem(w, r, i.ServiceType, http.StatusBadGateway, detail)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect || !strings.HasPrefix(r.URL.Path, "/") {
			problem(w, r, i.ServiceType, http.StatusBadRequest, "the request must name a path; this isn't a proxy for other hosts")
			return
		}
		if CrossSite(r) {
			problem(w, r, i.ServiceType, http.StatusForbidden, "another site asked a browser for this call")
			return
		}
		if i.Address == "" && i.UseHTTP && !local(r.Host) {
			problem(w, r, i.ServiceType, http.StatusMisdirectedRequest, "this port is called as localhost; for another name set address in the agent's incomingServices")
			return
		}
		observe(w, r, func(x *exchange, r *http.Request) { proxy.ServeHTTP(x, r) }, func(*exchange) {})
	})
}

// local reports whether a Host is of this machine's own names: an address, a name
// without dots, or one below localhost or internal. Any other's owner can have a
// browser take this machine for a server of the name, and so its own pages for
// the service's (DNS rebinding); over TLS, the certificate is for another name.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return !strings.Contains(host, ".") || strings.HasSuffix(host, ".localhost") || strings.HasSuffix(host, ".internal")
}

// IncomingRule lets agents call services by ports of their own. Lists are
// patterns, in which * stands for any text without a slash.
type IncomingRule struct {
	// Agents are those who may call.
	Agents []string `yaml:"agents"`
	// Destination is whose services they may call; empty means the hub's.
	Destination fleet.AgentName `yaml:"destination"`
	// Services are type/name.
	Services []string `yaml:"services"`
}

// Validate reports the first thing that is wrong with r.
func (r IncomingRule) Validate() error {
	if len(r.Agents) == 0 || len(r.Services) == 0 {
		return errors.New("agents and services must both name something")
	}
	for _, p := range r.Agents {
		if _, err := path.Match(p, ""); err != nil {
			return fmt.Errorf("agents: %q isn't a pattern", p)
		}
	}
	for _, p := range r.Services {
		if _, err := path.Match(p, ""); err != nil || strings.Count(p, "/") != 1 {
			return fmt.Errorf("services: %q isn't TYPE/NAME, with * for any", p)
		}
	}
	if r.Destination != "" {
		return r.Destination.Validate()
	}
	return nil
}

// Linked tells requests that came by an agent's link from those of the
// services port, which other looks after. Such a request's caller is the
// agent, for the service that it names, as far as rules let it; name is how
// the agent is called in the audit log.
func Linked(rules []IncomingRule, name func(fleet.AgentName) string, other Authenticator) Authenticator {
	return func(r *http.Request) (Caller, error) {
		peer, ok := fleet.PeerFrom(r.Context())
		if !ok {
			return other(r)
		}
		typ, service, _ := strings.Cut(r.Header.Get(ServiceHeader), "/")
		c := Caller{
			Name: name(peer.Agent), Agent: fleet.AgentName(r.Header.Get(DestinationHeader)),
			Type: fleet.ServiceType(typ), Service: fleet.ServiceName(service),
		}
		if c.Agent == "" {
			c.Agent = fleet.HubAgent
		}
		for _, rule := range rules {
			if rule.allows(peer.Agent, c) {
				return c, nil
			}
		}
		return Caller{}, fmt.Errorf("%w: agent %q may not call %s of %q; the hub's incomingServices don't list it", ErrForbidden, peer.Agent, target(c.Type, c.Service), c.Agent)
	}
}

func (r IncomingRule) allows(agent fleet.AgentName, c Caller) bool {
	destination := r.Destination
	if destination == "" {
		destination = fleet.HubAgent
	}
	return destination == c.Agent && matchesAny(r.Agents, string(agent)) && matchesAny(r.Services, target(c.Type, c.Service))
}

func matchesAny(patterns []string, s string) bool {
	for _, p := range patterns {
		if ok, _ := path.Match(p, s); ok {
			return true
		}
	}
	return false
}

// LinkOnly refuses requests while up says that there is no link, instead of
// letting them wait for one.
func LinkOnly(link http.RoundTripper, up func() bool) http.RoundTripper {
	return roundTripperFunc(func(r *http.Request) (*http.Response, error) {
		if !up() {
			if r.Body != nil {
				r.Body.Close()
			}
			return nil, ErrNoLink
		}
		return link.RoundTrip(r)
	})
}
