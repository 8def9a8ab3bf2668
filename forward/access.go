package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"reeve.dev/reeve/fleet"
)

// Offer is one service that there is to be called.
type Offer struct {
	Agent fleet.AgentName
	Type  fleet.ServiceType
	Name  fleet.ServiceName
}

func (o Offer) String() string { return string(o.Agent) + " " + target(o.Type, o.Name) }

// Directory lists the services that agents offer.
type Directory func(context.Context) ([]Offer, error)

// malformed says what is wrong with a request that nobody could send to a
// service without meaning something else, and the status for that; empty if
// nothing is.
func malformed(r *http.Request) (status int, detail string) {
	if r.Method == http.MethodTrace || r.Method == "TRACK" {
		return http.StatusMethodNotAllowed, "the method " + r.Method + " isn't forwarded: its answer would hold what the agent puts onto the request, such as a credential"
	}
	return http.StatusBadRequest, malformedURL(r)
}

func malformedURL(r *http.Request) string {
	switch {
	case r.Method == http.MethodConnect || !strings.HasPrefix(r.URL.Path, "/"):
		return "the request must name a path; this isn't a proxy for other hosts"
	case r.URL.Host != "" && (r.TLS == nil || !strings.EqualFold(r.URL.Hostname(), r.TLS.ServerName)):
		return "the request names another host; this isn't a proxy for other hosts: send the path alone"
	case climbs(r.URL.Path):
		return "the path must not hold .. steps"
	case strings.Contains(r.URL.Path, "\x00"):
		return "the path must not hold NUL"
	case strings.ContainsFunc(r.Header.Get("Upgrade"), func(c rune) bool { return c < ' ' || c > '~' }):
		return "the Upgrade names no protocol"
	}
	return ""
}

// misplaced is why a request has no service, with the status to answer.
type misplaced struct {
	status int
	detail string
}

func (m *misplaced) Error() string { return m.detail }

// CrossSite reports whether another site had a browser ask for something that
// isn't only reading. Browsers show certificates and passwords by themselves,
// and reach what is open to their machine alone, for whatever site makes them
// call; and a WebSocket, by which a command runs in a container, begins with a
// GET.
func CrossSite(r *http.Request) bool {
	method := r.Method
	if r.Header.Get("Upgrade") != "" {
		method = http.MethodPost
	}
	return new(http.CrossOriginProtection).Check(&http.Request{Method: method, Header: r.Header, Host: r.Host, URL: r.URL}) != nil
}

// place answers who calls which service: the one that the server name chooses,
// or else the one that the credential is for. own says that the credential is
// for it. An error is a *misplaced or a fault of the hub.
func (h *Hub) place(r *http.Request, held Caller) (to Caller, own bool, err error) {
	name, err := h.serverName(r)
	if err != nil {
		return held, false, err
	}
	if name == "" {
		if held.Agent == "" {
			return held, false, &misplaced{http.StatusForbidden, "the credential is " + held.who() + ", which names no service; get one for a service with POST /api/v1/credentials/service, or call one by its name service.agent.DOMAIN (access.domain) if a rule lets you"}
		}
		return held, true, nil
	}
	offers, err := h.cfg.Directory(r.Context())
	if err != nil {
		return held, false, fmt.Errorf("list the services: %w", err)
	}
	var found []Caller
	service, agent := name[:strings.LastIndexByte(name, '.')], name[strings.LastIndexByte(name, '.')+1:]
	for _, o := range offers {
		if string(o.Agent) != agent || !o.named(service) {
			continue
		}
		to = held
		to.Agent, to.Type, to.Service = o.Agent, o.Type, o.Name
		if to == held {
			return held, true, nil
		}
		found = append(found, to)
	}
	switch len(found) {
	case 1:
		return found[0], false, nil
	case 0:
		return held, false, &misplaced{http.StatusNotFound, fmt.Sprintf("no service is called %q; %s", name, h.reachable(offers, held))}
	}
	return held, false, &misplaced{http.StatusNotFound, fmt.Sprintf("agent %q has services of several types with the name %q: call one as service.type.agent", agent, service)}
}

// named reports whether service, from a server name, is o's name, with its
// type behind it or not.
func (o Offer) named(service string) bool {
	return strings.EqualFold(string(o.Name), service) || strings.EqualFold(string(o.Name)+"."+string(o.Type), service)
}

// serverName is the part of the name by which the hub is called that is
// beneath its domain, of two or more labels; empty if it is called otherwise.
func (h *Hub) serverName(r *http.Request) (string, error) {
	if h.cfg.Domain == "" {
		return "", nil
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	beneath := func(name string) string {
		rest, ok := strings.CutSuffix(strings.ToLower(strings.TrimSuffix(name, ".")), "."+h.cfg.Domain)
		if i := strings.LastIndexByte(rest, '.'); !ok || i <= 0 || i == len(rest)-1 {
			return ""
		}
		return rest
	}
	byHost, bySNI := beneath(host), ""
	if r.TLS != nil {
		bySNI = beneath(r.TLS.ServerName)
	}
	if byHost != "" && bySNI != "" && byHost != bySNI {
		return "", &misplaced{http.StatusMisdirectedRequest, "the Host of the request isn't the name that the connection was made to"}
	}
	return cmp.Or(byHost, bySNI), nil
}

// mostListed bounds the services that an answer lists.
const mostListed = 50

// reachable says which of the offers the holder of a credential may call.
func (h *Hub) reachable(offers []Offer, held Caller) string {
	var names []string
	for _, o := range offers {
		c := held
		c.Agent, c.Type, c.Service = o.Agent, o.Type, o.Name
		if h.cfg.Rules.reaches(c, c == held) {
			names = append(names, o.String())
		}
	}
	if len(names) == 0 {
		return "this credential reaches nothing that is offered now"
	}
	slices.Sort(names)
	names = slices.Compact(names)
	more := ""
	if n := len(names) - mostListed; n > 0 {
		names, more = names[:mostListed], fmt.Sprintf(" and %d more", n)
	}
	return "this credential reaches: " + strings.Join(names, ", ") + more
}

// instead says what there is in the place of what isn't.
func (h *Hub) instead(ctx context.Context, held Caller) string {
	if h.cfg.Directory == nil {
		return ""
	}
	offers, err := h.cfg.Directory(ctx)
	if err != nil {
		h.cfg.Logger.Error("services can't be listed", "error", err)
		return ""
	}
	return "; " + h.reachable(offers, held)
}

// errSlow is why a request ends whose rule's answerWithin is over.
var errSlow = errors.New("the service didn't begin its answer in time")

// leash ends an exchange before its own end: when its credential is revoked,
// or its service is too slow.
type leash struct {
	x      *exchange
	cancel context.CancelCauseFunc
	slow   *time.Timer // nil: it may take any time
	stop   func()      // ends the watch of the credential; nil where there is none

	mu   sync.Mutex
	err  error // guarded by mu; why the credential was revoked
	over bool  // guarded by mu; x isn't ours any more
}

// tie answers r as c carries it, on a leash that the caller lets go.
func (h *Hub) tie(r *http.Request, c *call) *http.Request {
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), callKey{}, c))
	l := &leash{x: c.x, cancel: cancel}
	c.leash = l
	if h.cfg.Watch != nil {
		l.stop = h.cfg.Watch(c.held, l.revoked)
	}
	if d := c.decision; d.rule != nil && d.rule.AnswerWithin > 0 {
		l.slow = time.AfterFunc(d.rule.AnswerWithin, func() { cancel(errSlow) })
	}
	return r.WithContext(ctx)
}

func (l *leash) revoked(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel(err)
	if l.err = err; !l.over {
		l.x.cut()
	}
}

// answered is called when the answer begins. It fails if that was too late.
func (l *leash) answered() error {
	if l.slow != nil && !l.slow.Stop() {
		return errSlow
	}
	return nil
}

// letGo ends the leash. Nothing happens to the exchange afterwards.
func (l *leash) letGo() {
	if l.stop != nil {
		l.stop()
	}
	if l.slow != nil {
		l.slow.Stop()
	}
	l.cancel(nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.err != nil {
		l.x.err = l.err
	}
}
