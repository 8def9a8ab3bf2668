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
	mathrand "math/rand/v2"
	"net/http"
	"sync"
	"time"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/tunnel"
)

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
	changed  func() // called after each change of the table; it must not block
	log      *slog.Logger

	stopped context.Context    // done when no link may live any more
	stop    context.CancelFunc // called with mu held
	serving sync.WaitGroup

	mu    sync.Mutex
	open  map[fleet.AgentName]int                        // guarded by mu; links, registered or not
	here  map[fleet.AgentName]map[fleet.InstanceID]*link // guarded by mu
	known map[fleet.AgentName]bool                       // guarded by mu; ever joined
}

// link is one carrier of an agent.
type link struct {
	agent     fleet.AgentName
	session   string
	remote    string
	connected time.Time
	transport *http.Transport
	// end closes the link when the agent's certificate ends, unless that is
	// renewed before.
	end *time.Timer

	mu       sync.Mutex
	instance fleet.InstanceID // guarded by mu; empty until it has registered

	over bool // guarded by links.mu; it is never in the table again
}

func (l *link) peer() fleet.Peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fleet.Peer{Agent: l.agent, Instance: l.instance, Session: l.session}
}

// load learns which agents ever joined, and makes ls ready.
func (ls *links) load(ctx context.Context) error {
	ls.stopped, ls.stop = context.WithCancel(context.WithoutCancel(ctx))
	agents, err := ls.store.Agents(ctx)
	if err != nil {
		return err
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.open = map[fleet.AgentName]int{}
	ls.here = map[fleet.AgentName]map[fleet.InstanceID]*link{}
	ls.known = map[fleet.AgentName]bool{}
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

// maxLinks is how many links an agent may have at a time: far more than its
// processes need, and few enough that one agent can't use up the hub.
const maxLinks = 64

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
	if err := ls.begin(agent); err != nil {
		ls.log.WarnContext(ctx, "carrier refused", "agent", agent, "remote", s.RemoteAddr().String(), "error", err)
		return
	}
	defer ls.done(agent)
	defer context.AfterFunc(ls.stopped, func() { cancel(errStopping) })()
	l := &link{agent: agent, session: rand.Text(), remote: s.RemoteAddr().String(), connected: time.Now().UTC(), transport: tunnel.Transport(s)}
	l.end = time.AfterFunc(time.Until(cert.NotAfter), func() { cancel(errCertificateOver) })
	defer l.end.Stop()
	if c, err := pki.CredentialOf(cert); err == nil {
		defer ls.ca.Revocations().Watch(c, cancel)()
	}
	defer l.transport.CloseIdleConnections()
	log := ls.log.With("agent", agent, "session", l.session)
	log.InfoContext(ctx, "link up", "remote", l.remote)
	err = tunnel.Serve(ctx, s, ls.handler(l))
	ls.drop(l)
	log.InfoContext(ctx, "link down", "reason", err)
	ls.see(context.WithoutCancel(ctx), l)
}

// handler is what the agent at the other end of l can ask for.
func (ls *links) handler(l *link) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/register", func(w http.ResponseWriter, r *http.Request) { ls.register(w, r, l) })
	mux.HandleFunc("POST /v1/renew", func(w http.ResponseWriter, r *http.Request) { ls.renew(w, r, l) })
	mux.HandleFunc("POST /v1/certificates/local", func(w http.ResponseWriter, r *http.Request) { ls.certify(w, r, l) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		peer := l.peer()
		if peer.Instance == "" {
			http.Error(w, "the link isn't registered: POST /v1/register comes first", http.StatusForbidden)
			return
		}
		ls.services.ServeHTTP(w, r.WithContext(fleet.WithPeer(r.Context(), peer)))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer := l.peer()
		if r.Header.Get(forward.ServiceHeader) == "" || peer.Instance == "" {
			mux.ServeHTTP(w, r)
			return
		}
		// The path is a service's, whatever it looks like.
		ls.forward.ServeHTTP(w, r.WithContext(fleet.WithPeer(r.Context(), peer)))
	})
}

const maxRegistration = 1 << 20

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
	err := ls.store.SaveAgent(ctx, reg, time.Now())
	if err == nil {
		err = ls.release(ctx, reg.Agent, reg.Instance, reg.Holding)
	}
	if err != nil {
		ls.log.ErrorContext(ctx, "register", "agent", l.agent, "error", err)
		http.Error(w, "the hub couldn't register the agent; its log says why", http.StatusInternalServerError)
		return
	}
	ls.add(l, reg.Instance)
	ls.log.InfoContext(ctx, "agent registered", "agent", l.agent, "instance", reg.Instance, "session", l.session,
		"version", reg.Version, "services", len(reg.Services), "holding", len(reg.Holding))
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]string{"session": l.session, "hubVersion": ls.version})
}

const maxCSR = 64 << 10

func (ls *links) renew(w http.ResponseWriter, r *http.Request, l *link) {
	chain, ok := ls.sign(w, r, l, ls.ca.IssueAgent)
	if !ok {
		return
	}
	l.end.Reset(ls.life)
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
	if errors.Is(err, pki.ErrMalformed) {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return nil, false
	}
	if err != nil {
		ls.log.ErrorContext(r.Context(), "sign a certificate", "agent", l.agent, "error", err)
		http.Error(w, "the hub couldn't sign the certificate; its log says why", http.StatusInternalServerError)
		return nil, false
	}
	return chain, true
}

// add puts l into the table, in the place of an older link of the same
// process: that one is dying, and is left to it.
func (ls *links) add(l *link, instance fleet.InstanceID) {
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
	if ls.here[l.agent] == nil {
		ls.here[l.agent] = map[fleet.InstanceID]*link{}
	}
	ls.here[l.agent][instance] = l
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
	if instance := l.peer().Instance; ls.here[l.agent][instance] == l {
		delete(ls.here[l.agent], instance)
		ls.changed()
	}
}

// Transport implements forward.Links. Of several processes of an agent any
// may be asked.
func (ls *links) Transport(agent fleet.AgentName) (http.RoundTripper, error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	all := ls.here[agent]
	switch {
	case !ls.known[agent]:
		return nil, fmt.Errorf("%q: %w", agent, forward.ErrUnknownAgent)
	case len(all) == 0:
		return nil, fmt.Errorf("%q: %w", agent, forward.ErrAgentAway)
	}
	skip := mathrand.IntN(len(all))
	for _, l := range all {
		if skip == 0 {
			return l.transport, nil
		}
		skip--
	}
	panic("unreachable")
}

// connected reports whether an agent has a link.
func (ls *links) connected(agent fleet.AgentName) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return len(ls.here[agent]) > 0
}

// all lists the registered links.
func (ls *links) all() []*link {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	var out []*link
	for _, instances := range ls.here {
		for _, l := range instances {
			out = append(out, l)
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
		if l := ls.here[a.Agent][a.Instance]; l != nil {
			out[i].Session, out[i].Remote, out[i].Connected = l.session, l.remote, l.connected
		}
	}
	return out, nil
}

// begin counts a link in, unless no more may begin.
func (ls *links) begin(agent fleet.AgentName) error {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	switch {
	case ls.stopped.Err() != nil:
		return errStopping
	case ls.open[agent] >= maxLinks:
		return errTooMany
	}
	ls.open[agent]++
	ls.serving.Add(1)
	return nil
}

// done counts a link out.
func (ls *links) done(agent fleet.AgentName) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.open[agent]--; ls.open[agent] == 0 {
		delete(ls.open, agent)
	}
	ls.serving.Done()
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
			for _, l := range ls.all() {
				ls.see(ctx, l)
			}
		}
	}
}

func (ls *links) see(ctx context.Context, l *link) {
	peer := l.peer()
	if peer.Instance == "" {
		return
	}
	if err := ls.store.SeeAgent(ctx, peer.Agent, peer.Instance, time.Now()); err != nil && ctx.Err() == nil {
		ls.log.WarnContext(ctx, "note that an agent is here", "agent", peer.Agent, "error", err)
	}
}
