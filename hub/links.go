package hub

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/internal/version"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/tunnel"
)

// Memory is how large a hub's heap may grow before the collector runs, for
// memory.Bound. That is little for a hub; where many agents need more, a half
// may come to it.
const Memory = 32 << 20

// links are the agents that are here, and what is served to them.
//
//	carrier up ─► serve: certificate ─► POST /v1/register ─► in the table,
//	    requests flow both ways ─► carrier down: out of the table
//
// Until it has registered, a link can do nothing else.
type links struct {
	ca       *pki.CA
	peers    *pki.Peers
	life     time.Duration // of the certificates that are renewed
	store    *store.Store
	release  func(ctx context.Context, agent fleet.AgentName, instance fleet.InstanceID, holding []string) error
	services http.Handler // what a registered agent may ask for
	forward  http.Handler // what its callers ask of other services
	version  string
	audit    *auditing
	id       string // of this process
	changed  func() // called after each change of the table; it must not block
	log      *slog.Logger

	stopped context.Context    // done when no link may live any more
	stop    context.CancelFunc // called with mu held
	serving sync.WaitGroup

	mu    sync.Mutex
	open  map[fleet.AgentName]map[*link]bool // guarded by mu; registered or not
	here  map[fleet.AgentName]*presence      // guarded by mu
	known map[fleet.AgentName]bool           // guarded by mu; ever joined
	paces map[fleet.AgentName]*rate.Limiter  // guarded by mu; of registrations
	// leaving says that the hub stops: no link begins any more. Guarded by mu.
	leaving bool
}

// presence is an agent that is here: the way to its processes, and the
// carriers of each, the oldest first.
type presence struct {
	pool      tunnel.Pool
	processes map[fleet.InstanceID][]*link
	// budget is the memory of the carriers of all of them.
	budget *tunnel.Budget
}

// link is one carrier of an agent.
type link struct {
	agent     fleet.AgentName
	session   string
	remote    string
	connected time.Time
	carrier   *tunnel.Session
	// end closes the link when the agent's certificate ends, unless that is
	// renewed before.
	end *time.Timer
	// held is the certificate that it was opened with; cut ends the link.
	held pki.Credential
	cut  func(error)

	mu       sync.Mutex
	instance fleet.InstanceID // guarded by mu; empty until it has registered
	unfollow func()           // guarded by mu; see follow
	ended    bool             // guarded by mu; it follows nothing any more

	over bool // guarded by links.mu; it is never in the table again
}

func (l *link) peer() fleet.Peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fleet.Peer{Agent: l.agent, Instance: l.instance, Session: l.session}
}

// follow has l end when c is revoked, the newest certificate of its process: l
// lives as long as that does. Nothing but another certificate, or unfollowed,
// ends that.
func (l *link) follow(rs *pki.Revocations, c pki.Credential) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unfollow != nil {
		l.unfollow()
	}
	if !l.ended {
		l.unfollow = rs.Watch(c, l.cut)
	}
}

func (l *link) unfollowed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.unfollow != nil {
		l.unfollow()
	}
}

// load learns which agents ever joined, and makes ls ready.
func (ls *links) load(ctx context.Context) error {
	ls.id = rand.Text()
	ls.stopped, ls.stop = context.WithCancel(context.WithoutCancel(ctx))
	agents, err := ls.store.Agents(ctx)
	if err != nil {
		return err
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.open = map[fleet.AgentName]map[*link]bool{}
	ls.here = map[fleet.AgentName]*presence{}
	ls.known = map[fleet.AgentName]bool{}
	ls.paces = map[fleet.AgentName]*rate.Limiter{}
	ls.changed = func() {}
	for _, a := range agents {
		ls.known[a.Agent] = true
	}
	return nil
}

// Why the hub ends a link.
var (
	errCertificateOver = errors.New("the agent's certificate has expired")
	errStopping        = errors.New("the hub is stopping")
	errTooMany         = fmt.Errorf("the agent has %d links already", maxLinks)
)

// maxLinks is how many carriers an agent may have at a time: far more than
// its processes need, and few enough that one agent can't use up the hub.
const maxLinks = 128

// agentOf is the agent that a TLS connection is from.
func (ls *links) agentOf(state *tls.ConnectionState) (fleet.AgentName, *x509.Certificate, error) {
	id, cert, err := ls.peers.Peer(state)
	if err != nil {
		return "", nil, fmt.Errorf("%w; an agent enrols with a join token", err)
	}
	if id.Purpose != pki.Agent {
		return "", nil, fmt.Errorf("the certificate is %s: a carrier needs an agent's", id)
	}
	return id.Agent, cert, nil
}

// guard answers a WebSocket carrier without an agent's certificate, before it
// is upgraded.
func (ls *links) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := ls.agentOf(r.TLS); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		if ls.isLeaving() {
			http.Error(w, errStopping.Error(), http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// serve is a tunnel.OnSession: it runs a link until it ends.
func (ls *links) serve(ctx context.Context, s *tunnel.Session, state *tls.ConnectionState) {
	agent, cert, err := ls.agentOf(state)
	if err != nil {
		ls.log.WarnContext(ctx, "carrier refused", "remote", s.RemoteAddr().String(), "error", err)
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := &link{agent: agent, session: rand.Text(), remote: s.RemoteAddr().String(), connected: time.Now().UTC(), carrier: s, cut: cancel}
	if l.held, err = pki.CredentialOf(cert); err != nil {
		ls.log.WarnContext(ctx, "carrier refused", "agent", agent, "remote", l.remote, "error", err)
		return
	}
	if err := ls.begin(l); err != nil {
		ls.log.WarnContext(ctx, "carrier refused", "agent", agent, "remote", l.remote, "error", err)
		return
	}
	defer ls.done(l)
	defer context.AfterFunc(ls.stopped, func() { cancel(errStopping) })()
	l.end = time.AfterFunc(time.Until(cert.NotAfter), func() { cancel(errCertificateOver) })
	defer l.end.Stop()
	defer ls.ca.Revocations().Watch(l.held, cancel)()
	defer l.unfollowed()
	log := ls.log.With("agent", agent, "session", l.session)
	log.InfoContext(ctx, "link up", "remote", l.remote)
	err = tunnel.Serve(ctx, s, ls.handler(l))
	ls.drop(l)
	log.InfoContext(ctx, "link down", "reason", err)
	ls.see(context.WithoutCancel(ctx), []*link{l})
}

// handler is what the agent at the other end of l can ask for.
func (ls *links) handler(l *link) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer := l.peer()
		registered := peer.Instance != ""
		ctx := fleet.WithPeer(r.Context(), peer)
		switch to := r.Method + " " + r.URL.Path; {
		case registered && r.Header.Get(forward.ServiceHeader) != "":
			// The path is a service's, whatever it looks like.
			ls.forward.ServeHTTP(w, r.WithContext(ctx))
		case to == "POST /v1/register":
			ls.register(w, r, l)
		case to == "POST /v1/renew":
			ls.renew(w, r, l)
		case to == "POST /v1/certificates/local":
			ls.certify(w, r, l)
		case !registered:
			http.Error(w, "the link isn't registered: POST /v1/register comes first", http.StatusForbidden)
		default:
			ls.services.ServeHTTP(w, r.WithContext(ctx))
		}
	})
}

const (
	maxRegistration = 1 << 20
	// registerEvery is how often an agent may register for long: each time is
	// work, and a record where it says something new. For a while it may as often
	// as it may have links.
	registerEvery = 5 * time.Second
)

// inPace counts a registration of an agent, if it isn't one too many.
func (ls *links) inPace(agent fleet.AgentName) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	p := ls.paces[agent]
	if p == nil {
		p = rate.NewLimiter(rate.Every(registerEvery), maxLinks)
		ls.paces[agent] = p
	}
	return p.Allow()
}

func (ls *links) register(w http.ResponseWriter, r *http.Request, l *link) {
	ctx := r.Context()
	var reg fleet.Registration
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRegistration)).Decode(&reg); err != nil {
		http.Error(w, fmt.Sprintf("registration isn't what this hub expects: %v", err), http.StatusBadRequest)
		return
	}
	if err := reg.Validate(); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	if reg.Agent != l.agent {
		http.Error(w, fmt.Sprintf("the certificate is for agent %q, the registration for %q", l.agent, reg.Agent), http.StatusForbidden)
		return
	}
	if !ls.inPace(l.agent) {
		ls.log.WarnContext(ctx, "registration refused: the agent registers all the time", "agent", l.agent, "remote", l.remote)
		http.Error(w, fmt.Sprintf("agent %q registers all the time; once every %v is enough", l.agent, registerEvery), http.StatusTooManyRequests)
		return
	}
	err := ls.store.SaveAgent(ctx, reg, time.Now())
	if err == nil && !reg.More {
		err = ls.release(ctx, reg.Agent, reg.Instance, reg.Holding)
	}
	if err != nil {
		ls.log.ErrorContext(ctx, "register", "agent", l.agent, "error", err)
		http.Error(w, "the hub couldn't register the agent; its log says why", http.StatusInternalServerError)
		return
	}
	ls.add(l, reg.Instance, reg.More)
	ls.audit.registered(reg, l.remote)
	ls.log.InfoContext(ctx, "agent registered", "agent", l.agent, "instance", reg.Instance, "session", l.session,
		"version", reg.Version, "services", len(reg.Services), "holding", len(reg.Holding))
	if why := version.Apart(ls.version, reg.Version); why != "" && !reg.More {
		ls.log.WarnContext(ctx, why, "agent", l.agent, "version", reg.Version, "hubVersion", ls.version)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"session": l.session, "hubVersion": ls.version, "hub": ls.id})
}

const maxCSR = 64 << 10

func (ls *links) renew(w http.ResponseWriter, r *http.Request, l *link) {
	chain, ok := ls.sign(w, r, l, ls.ca.IssueAgent)
	if !ok {
		return
	}
	newest, err := pki.CredentialIn(chain)
	if err != nil {
		ls.log.ErrorContext(r.Context(), "sign a certificate", "agent", l.agent, "error", err)
		http.Error(w, "the hub couldn't sign the certificate; its log says why", http.StatusInternalServerError)
		return
	}
	ls.extend(l, newest)
	ls.log.InfoContext(r.Context(), "certificate renewed", "agent", l.agent)
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Write(chain)
}

// certify signs a certificate for the ports of the agent's own machine.
func (ls *links) certify(w http.ResponseWriter, r *http.Request, l *link) {
	if chain, ok := ls.sign(w, r, l, ls.ca.IssueLocal); ok {
		w.Header().Set("Content-Type", "application/x-pem-file")
		w.Write(chain)
	}
}

// sign answers the certificate that issue makes of the request; without ok it
// has answered w with what is wrong.
func (ls *links) sign(w http.ResponseWriter, r *http.Request, l *link, issue func([]byte, fleet.AgentName, time.Duration) ([]byte, error)) (chain []byte, ok bool) {
	csr, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCSR))
	if err != nil {
		http.Error(w, "the certificate request didn't arrive whole", http.StatusBadRequest)
		return nil, false
	}
	chain, err = issue(csr, l.agent, ls.life)
	if err == nil {
		err = ls.ca.Revocations().CheckNow(r.Context(), l.held)
	}
	if errors.Is(err, pki.ErrRevoked) {
		http.Error(w, err.Error(), http.StatusForbidden)
		return nil, false
	}
	if errors.Is(err, pki.ErrMalformed) {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return nil, false
	}
	if errors.Is(err, pki.ErrTooOften) {
		ls.log.WarnContext(r.Context(), "certificate refused", "agent", l.agent, "error", err)
		http.Error(w, err.Error(), http.StatusTooManyRequests)
		return nil, false
	}
	if err != nil {
		ls.log.ErrorContext(r.Context(), "sign a certificate", "agent", l.agent, "error", err)
		http.Error(w, "the hub couldn't sign the certificate; its log says why", http.StatusInternalServerError)
		return nil, false
	}
	return chain, true
}

// extend lets the carriers of l's process live for as long as its newest
// certificate, so that what is forwarded by them isn't cut once a day.
func (ls *links) extend(l *link, newest pki.Credential) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	carriers := []*link{l}
	if p := ls.here[l.agent]; p != nil {
		if of := p.processes[l.peer().Instance]; slices.Contains(of, l) {
			carriers = of
		}
	}
	for _, l := range carriers {
		l.end.Reset(ls.life)
		l.follow(ls.ca.Revocations(), newest)
	}
}

// add puts l into the table: beside the carriers of the same process, if it
// has more, else in their place, since they are dying.
func (ls *links) add(l *link, instance fleet.InstanceID, more bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.known[l.agent] = true
	if l.over { // it went down while it registered
		return
	}
	ls.takeOut(l) // it may have registered before, as another process
	l.mu.Lock()
	l.instance = instance
	l.mu.Unlock()
	p := ls.here[l.agent]
	if p == nil {
		p = &presence{processes: map[fleet.InstanceID][]*link{}, budget: tunnel.NewBudget(0)}
		ls.here[l.agent] = p
	}
	if !more {
		for _, dying := range p.processes[instance] {
			p.pool.Remove(dying.carrier)
		}
		delete(p.processes, instance)
	}
	l.carrier.Share(p.budget)
	p.processes[instance] = append(p.processes[instance], l)
	p.pool.Add(l.carrier, string(instance))
	ls.changed()
}

// drop takes a link out of the table for good.
func (ls *links) drop(l *link) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l.over = true
	ls.takeOut(l)
}

// takeOut is called with mu held.
func (ls *links) takeOut(l *link) {
	instance := l.peer().Instance
	p := ls.here[l.agent]
	if p == nil || !slices.Contains(p.processes[instance], l) {
		return
	}
	p.pool.Remove(l.carrier)
	p.processes[instance] = slices.DeleteFunc(p.processes[instance], func(other *link) bool { return other == l })
	if len(p.processes[instance]) == 0 {
		delete(p.processes, instance)
	}
	if len(p.processes) == 0 {
		delete(ls.here, l.agent)
	}
	ls.changed()
}

// Transport implements forward.Links: it asks the least loaded process of the
// agent, and where that can do no harm another when its carrier dies.
func (ls *links) Transport(agent fleet.AgentName) (http.RoundTripper, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	switch p := ls.here[agent]; {
	case !ls.known[agent]:
		return nil, fmt.Errorf("%q: %w", agent, forward.ErrUnknownAgent)
	case p == nil || !p.pool.Ready():
		return nil, fmt.Errorf("%q: %w", agent, forward.ErrAgentAway)
	default:
		return &p.pool, nil
	}
}

// connected reports whether an agent has a link.
func (ls *links) connected(agent fleet.AgentName) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.here[agent] != nil
}

// all lists the registered processes, each by the carrier that came first.
func (ls *links) all() []*link {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var out []*link
	for _, p := range ls.here {
		for _, carriers := range p.processes {
			out = append(out, carriers[0])
		}
	}
	return out
}

// Members implements api.Fleet.
func (ls *links) Members(ctx context.Context) ([]api.Member, error) {
	agents, err := ls.store.Agents(ctx)
	if err != nil {
		return nil, err
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	out := make([]api.Member, len(agents))
	for i, a := range agents {
		out[i] = api.Member{Registration: a.Registration, FirstSeen: a.FirstSeen, LastSeen: a.LastSeen}
		if p := ls.here[a.Agent]; p != nil && len(p.processes[a.Instance]) > 0 {
			l := p.processes[a.Instance][0]
			out[i].Session, out[i].Remote, out[i].Connected = l.session, l.remote, l.connected
		}
	}
	return out, nil
}

// begin counts a link in, unless no more may begin.
func (ls *links) begin(l *link) error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	switch {
	case ls.leaving || ls.stopped.Err() != nil:
		return errStopping
	case len(ls.open[l.agent]) >= maxLinks:
		return errTooMany
	}
	if ls.open[l.agent] == nil {
		ls.open[l.agent] = map[*link]bool{}
	}
	ls.open[l.agent][l] = true
	ls.serving.Add(1)
	return nil
}

// done counts a link out.
func (ls *links) done(l *link) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	delete(ls.open[l.agent], l)
	if len(ls.open[l.agent]) == 0 {
		delete(ls.open, l.agent)
	}
	ls.serving.Done()
}

func (ls *links) isLeaving() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.leaving
}

// leave sends the agents elsewhere: what is under way ends in peace, and they
// open other carriers before that. None begins here.
func (ls *links) leave() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.leaving = true
	for _, links := range ls.open {
		for l := range links {
			l.carrier.Drain()
		}
	}
}

// end ends every link and lets none begin.
func (ls *links) end() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.stop()
}

// wait returns when every link is gone, after end.
func (ls *links) wait() { ls.serving.Wait() }

const seeEvery = 30 * time.Second

// run notes now and then which agents are here, until ctx ends.
func (ls *links) run(ctx context.Context) {
	tick := time.NewTicker(seeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			ls.see(ctx, ls.all())
		}
	}
}

func (ls *links) see(ctx context.Context, seen []*link) {
	var peers []fleet.Peer
	for _, l := range seen {
		if peer := l.peer(); peer.Instance != "" {
			peers = append(peers, peer)
		}
	}
	if err := ls.store.SeeAgents(ctx, peers, time.Now()); err != nil && ctx.Err() == nil {
		ls.log.WarnContext(ctx, "note that agents are here", "agents", len(peers), "error", err)
	}
}
