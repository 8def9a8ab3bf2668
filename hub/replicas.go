package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/internal/upgrade"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/tunnel"
)

// agents is the hub's way to all agents.
type agents interface {
	forward.Links
	api.Fleet
	connected(fleet.AgentName) bool
}

// replicas is the way to all agents where several replicas of the hub share a
// database: by this replica's links, or by one hop to a replica that has one.
//
//	caller ─► replica B: who holds the agent? ── mTLS, replica port ──► replica A ══ link ══► agent
//
// Each replica notes in the database that it is there, every third of
// replicaLife, and which links it holds. One that is silent for replicaLife
// counts as gone, and what went through it is broken off; one that can't be
// connected to is passed over before that. A replica answers only for links
// of its own, so that a request never takes a second hop.
//
// Only hubs can use the replica port: both ends show a certificate with that
// purpose.
type replicas struct {
	self  store.Replica
	store *store.Store
	links *links
	peers *pki.Peers
	log   *slog.Logger
	http  *http.Transport
	wake  chan struct{} // has room for one: links have changed

	// told, of run alone, is the sessions that the database knows.
	told map[process]fleet.Peer

	mu   sync.Mutex
	ways map[fleet.AgentName]ways // guarded by mu
	hops map[string]*hops         // guarded by mu; by replica
}

type process struct {
	agent    fleet.AgentName
	instance fleet.InstanceID
}

// ways is what the database last said of an agent.
type ways struct {
	to     []store.Replica
	joined bool
	at     time.Time
}

// hops is what goes through one replica, until that is gone.
type hops struct {
	ctx  context.Context
	gone context.CancelFunc
}

const (
	replicaLife = 15 * time.Second
	// replicaKept is for how long one that is gone can come back without
	// noting all its links anew.
	replicaKept = time.Hour
	// wayLife is how long an agent's replicas are known without asking, and
	// noWayLife how long that there are none.
	wayLife   = time.Second
	noWayLife = 200 * time.Millisecond
	askTime   = 5 * time.Second

	hopAgent = "Reeve-Replica-Agent"
	hopError = "Reeve-Replica-Error"
)

// openReplicas makes the way to all agents. It stands in the place of ls
// wherever an agent is asked.
func openReplicas(dataDir, address string, ca *pki.CA, ls *links, version string, log *slog.Logger) (*replicas, error) {
	id, err := replicaID(dataDir)
	if err != nil {
		return nil, err
	}
	conf, err := ca.ReplicaTLS()
	if err != nil {
		return nil, err
	}
	rs := &replicas{
		self:  store.Replica{ID: id, Address: address, Version: version, Started: time.Now().UTC()},
		store: ls.store, links: ls, peers: ls.peers, log: log, wake: make(chan struct{}, 1),
		// HTTP/1.1 alone, by which an Upgrade passes.
		http: &http.Transport{
			TLSClientConfig: conf, TLSHandshakeTimeout: 5 * time.Second, DisableCompression: true,
			DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 256, IdleConnTimeout: idleTime / 2,
			ReadBufferSize: hopBuffer, WriteBufferSize: hopBuffer,
		},
		told: map[process]fleet.Peer{}, ways: map[fleet.AgentName]ways{}, hops: map[string]*hops{},
	}
	ls.changed = func() {
		select {
		case rs.wake <- struct{}{}:
		default:
		}
	}
	return rs, nil
}

const hopBuffer = 32 << 10

// replicaID is this replica's name, made once for its folder.
func replicaID(dir string) (string, error) {
	path := filepath.Join(dir, "replica")
	text, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(text)); err == nil && id != "" {
		return id, nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("dataDir: %w", err)
	}
	id := rand.Text()
	if err := os.WriteFile(path, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("dataDir: %w", err)
	}
	return id, nil
}

// run notes this replica and its links in the database until ctx ends, and
// takes them out then.
func (rs *replicas) run(ctx context.Context) {
	defer rs.http.CloseIdleConnections()
	defer rs.leave(ctx)
	if err := rs.store.RemoveReplicas(ctx, rs.self.ID, time.Time{}); err != nil {
		rs.log.WarnContext(ctx, "what this replica left when it was last here stays until it changes", "error", err)
	}
	tick := time.NewTicker(replicaLife / 3)
	defer tick.Stop()
	for {
		rs.beat(ctx)
		for due := false; !due; {
			select {
			case <-ctx.Done():
				return
			case <-rs.wake:
				rs.report(ctx, rs.tell(ctx))
			case <-tick.C:
				due = true
			}
		}
	}
}

func (rs *replicas) report(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		rs.log.ErrorContext(ctx, "other replicas don't know which agents are here, will retry", "error", err)
	}
}

// beat says that this replica is there, and looks which others are.
func (rs *replicas) beat(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	now := time.Now()
	r := rs.self
	r.Expires = now.Add(replicaLife)
	fresh, err := rs.store.SaveReplica(ctx, r)
	if err == nil {
		if fresh {
			clear(rs.told)
		}
		err = rs.tell(ctx)
	}
	var there []store.Replica
	if err == nil {
		there, err = rs.store.Replicas(ctx, now)
	}
	if err != nil {
		rs.report(ctx, err)
		return
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	left := map[string]*hops{}
	for _, r := range there {
		if h := rs.hops[r.ID]; h != nil {
			left[r.ID] = h
			delete(rs.hops, r.ID)
		}
	}
	for _, h := range rs.hops {
		h.gone()
	}
	rs.hops = left
	for agent, w := range rs.ways {
		if now.Sub(w.at) > wayLife {
			delete(rs.ways, agent)
		}
	}
}

// tell notes in the database what has changed of this replica's links.
func (rs *replicas) tell(ctx context.Context) error {
	var up []store.ReplicaLink
	var down []fleet.Peer
	// Of a process that has several carriers here one is noted, as long as it
	// lasts.
	links, have := map[process]*link{}, map[process]fleet.Peer{}
	for _, l := range rs.links.all() {
		p := l.peer()
		at := process{p.Agent, p.Instance}
		if _, ok := have[at]; !ok || rs.told[at] == p {
			links[at], have[at] = l, p
		}
	}
	for at, p := range have {
		if rs.told[at] != p {
			up = append(up, store.ReplicaLink{Peer: p, Remote: links[at].remote, Connected: links[at].connected})
		}
	}
	for at, p := range rs.told {
		if _, ok := have[at]; !ok {
			down = append(down, p)
		}
	}
	if len(up)+len(down) == 0 {
		return nil
	}
	if err := rs.store.ChangeLinks(ctx, rs.self.ID, up, down); err != nil {
		return err
	}
	rs.told = have
	return nil
}

// leave takes this replica out of the database.
func (rs *replicas) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
	defer cancel()
	if err := rs.store.RemoveReplicas(ctx, rs.self.ID, time.Time{}); err != nil {
		rs.log.WarnContext(ctx, "this replica counts as there for a while", "error", err)
	}
}

// Transport implements forward.Links. A link of this replica comes first.
func (rs *replicas) Transport(agent fleet.AgentName) (http.RoundTripper, error) {
	rt, err := rs.links.Transport(agent)
	if err == nil || !errors.Is(err, forward.ErrAgentAway) && !errors.Is(err, forward.ErrUnknownAgent) {
		return rt, err
	}
	w, err := rs.waysTo(agent, wayLife)
	switch {
	case err != nil:
		return nil, err
	case len(w.to) > 0:
		return &hop{rs, agent}, nil
	case w.joined:
		return nil, fmt.Errorf("%q: %w", agent, forward.ErrAgentAway)
	}
	return nil, fmt.Errorf("%q: %w", agent, forward.ErrUnknownAgent)
}

func (rs *replicas) connected(agent fleet.AgentName) bool {
	if rs.links.connected(agent) {
		return true
	}
	w, err := rs.waysTo(agent, wayLife)
	return err == nil && len(w.to) > 0
}

// waysTo are the replicas that hold a link of an agent, as they were at most
// age ago.
func (rs *replicas) waysTo(agent fleet.AgentName, age time.Duration) (ways, error) {
	rs.mu.Lock()
	w, ok := rs.ways[agent]
	rs.mu.Unlock()
	if len(w.to) == 0 {
		age = min(age, noWayLife)
	}
	if ok && time.Since(w.at) < age {
		return w, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	now := time.Now()
	held, joined, err := rs.store.LinksOf(ctx, agent, now)
	if err != nil {
		return ways{}, err
	}
	w = ways{joined: joined, at: now}
	seen := map[string]bool{rs.self.ID: true}
	for _, l := range held {
		if !seen[l.Replica.ID] {
			seen[l.Replica.ID] = true
			w.to = append(w.to, l.Replica)
		}
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.ways[agent] = w
	return w, nil
}

// Members implements api.Fleet.
func (rs *replicas) Members(ctx context.Context) ([]api.Member, error) {
	members, err := rs.links.Members(ctx)
	if err != nil {
		return nil, err
	}
	held, _, err := rs.store.LinksOf(ctx, "", time.Now())
	if err != nil {
		return nil, err
	}
	at := map[process]store.HeldLink{}
	for _, l := range held {
		if l.Replica.ID != rs.self.ID {
			at[process{l.Agent, l.Instance}] = l
		}
	}
	for i, m := range members {
		if l, ok := at[process{m.Agent, m.Instance}]; ok && m.Session == "" {
			members[i].Session, members[i].Remote, members[i].Connected = l.Session, l.Remote, l.Connected
		}
	}
	return members, nil
}

// hop sends requests for an agent by other replicas.
type hop struct {
	*replicas
	agent fleet.AgentName
}

var (
	errReplicaGone = errors.New("the replica of the hub that held the link is gone")
	errMoved       = errors.New("the agent has just moved to another replica of the hub")
)

// RoundTrip asks the replicas that hold the agent, one after the other until
// one has got the request. After that it asks another only for a request that
// nobody has acted on, or that may be repeated.
func (h *hop) RoundTrip(r *http.Request) (*http.Response, error) {
	age, body := wayLife, r.Body != nil && r.Body != http.NoBody
	if body {
		// It can be sent only once, so to where the agent is now.
		age = 0
	}
	err := fmt.Errorf("%q: %w", h.agent, forward.ErrAgentAway)
	for tried := map[string]bool{}; len(tried) < maxHops; age = 0 {
		w, lookup := h.waysTo(h.agent, age)
		if lookup != nil {
			err = lookup
			break
		}
		to := slices.DeleteFunc(slices.Clone(w.to), func(r store.Replica) bool { return tried[r.ID] })
		if len(to) == 0 {
			break
		}
		next := to[mathrand.IntN(len(to))]
		tried[next.ID] = true
		var resp *http.Response
		var sent bool
		if resp, sent, err = h.ask(r, h.agent, next); err == nil {
			return resp, nil
		}
		h.log.DebugContext(r.Context(), "hop", "agent", h.agent, "replica", next.ID, "sent", sent, "error", err)
		repeatable := !sent || !body && (errors.Is(err, errMoved) || errors.Is(err, tunnel.ErrFull) || idempotent(r))
		if r.Context().Err() != nil || !repeatable {
			break
		}
	}
	if r.Body != nil {
		r.Body.Close()
	}
	return nil, err
}

// maxHops is how many replicas are tried for a request.
const maxHops = 3

// idempotent is what has a method of RFC 9110, 9.2.2, and isn't the beginning of
// something else, such as of a command in a container by WebSocket.
func idempotent(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return r.Header.Get("Upgrade") == ""
	}
	return false
}

// ask sends a request to one replica. sent says whether the replica may have
// got any of it. The request's body stays open until the answer is closed, or
// if there is none, for another replica.
func (rs *replicas) ask(r *http.Request, agent fleet.AgentName, to store.Replica) (_ *http.Response, sent bool, err error) {
	gone := rs.through(to.ID)
	ctx, cancel := context.WithCancelCause(r.Context())
	var got atomic.Bool
	var once bool // nothing goes by a connection that was used before
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
		if !once || !c.Reused {
			got.Store(true)
		}
	}})
	out := r.WithContext(ctx) // with the same trailer, which is filled in later
	out.URL = &url.URL{Scheme: "https", Host: to.Address, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery}
	out.Header = r.Header.Clone()
	out.Header.Set(hopAgent, string(agent))
	if r.Body != nil && r.Body != http.NoBody {
		out.Body = io.NopCloser(r.Body)
	}
	stop := context.AfterFunc(gone, func() { cancel(errReplicaGone) })
	send := upgrade.Once(out)
	once = send != out
	resp, err := rs.http.RoundTrip(send)
	if err == nil && resp.Header.Get(hopError) != "" {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxHopError))
		resp.Body.Close()
		err = errors.New(strings.TrimSpace(string(text)))
		switch resp.StatusCode {
		case http.StatusMisdirectedRequest:
			err = errMoved
		case http.StatusServiceUnavailable:
			err = tunnel.ErrFull
		}
	}
	if err != nil {
		if gone.Err() != nil {
			err = errReplicaGone
		}
		stop()
		cancel(nil)
		return nil, got.Load(), fmt.Errorf("replica %s: %w", to.Address, err)
	}
	end := func() {
		stop()
		cancel(nil)
		if r.Body != nil {
			r.Body.Close()
		}
	}
	if conn, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = &upgraded{conn, end, context.AfterFunc(gone, func() { conn.Close() })}
	} else {
		resp.Body = &passing{resp.Body, end}
	}
	return resp, true, nil
}

const maxHopError = 4 << 10

// through is done when a replica is gone.
func (rs *replicas) through(replica string) context.Context {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	h := rs.hops[replica]
	if h == nil {
		h = &hops{}
		h.ctx, h.gone = context.WithCancel(context.Background())
		rs.hops[replica] = h
	}
	return h.ctx
}

// passing is the body of an answer by another replica.
type passing struct {
	io.ReadCloser
	end func()
}

func (p *passing) Close() error {
	p.end()
	return p.ReadCloser.Close()
}

// upgraded is a connection through another replica.
type upgraded struct {
	io.ReadWriteCloser
	end  func()
	stop func() bool
}

func (u *upgraded) Close() error {
	u.stop()
	u.end()
	return u.ReadWriteCloser.Close()
}

// CloseWrite passes the end of one direction on.
func (u *upgraded) CloseWrite() error {
	if half, ok := u.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return u.Close()
}

// handler is the replica port: it sends what other replicas ask for by a link
// of this one.
func (rs *replicas) handler() http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host, pr.Out.Host = "http", "agent", "agent"
			pr.Out.URL.RawQuery = pr.In.URL.RawQuery
			pr.Out.Trailer = pr.In.Trailer // filled in when the body has ended
			pr.Out.Header.Del(hopAgent)
			for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if v, ok := pr.In.Header[name]; ok {
					pr.Out.Header[name] = v
				}
			}
			if _, ok := pr.In.Header["User-Agent"]; !ok {
				pr.Out.Header["User-Agent"] = nil
			}
		},
		Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			return r.Context().Value(hopKey{}).(http.RoundTripper).RoundTrip(r)
		}),
		FlushInterval: -1,
		ModifyResponse: func(resp *http.Response) error {
			resp.Header.Del(hopError)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			switch {
			case r.Context().Err() != nil:
			case errors.Is(err, tunnel.ErrFull):
				hopFail(w, http.StatusServiceUnavailable, err.Error())
			default:
				hopFail(w, http.StatusBadGateway, err.Error())
			}
		},
		ErrorLog: slog.NewLogLogger(rs.log.Handler(), slog.LevelDebug),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _, err := rs.peers.Peer(r.TLS)
		if err == nil && id.Purpose != pki.Hub {
			err = fmt.Errorf("the certificate is %s", id)
		}
		if err != nil {
			http.Error(w, "this port is for replicas of the hub: "+err.Error(), http.StatusForbidden)
			return
		}
		// A link of this replica's own, so that there is no second hop.
		rt, err := rs.links.Transport(fleet.AgentName(r.Header.Get(hopAgent)))
		if err != nil {
			hopFail(w, http.StatusMisdirectedRequest, err.Error())
			return
		}
		rc := http.NewResponseController(w)
		rc.SetReadDeadline(time.Time{})
		rc.EnableFullDuplex()
		proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), hopKey{}, rt)))
	})
}

type hopKey struct{}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func hopFail(w http.ResponseWriter, status int, text string) {
	clear(w.Header())
	w.Header().Set(hopError, http.StatusText(status))
	http.Error(w, text, status)
}
