// Package forwardtest puts the whole way of a forwarded request together in
// one process, with real certificates, carriers and listeners on loopback,
// for tests and benchmarks.
package forwardtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/tunnel"
)

// AgentName is the rig's only agent.
const AgentName fleet.AgentName = "cluster-1"

// Options are what a rig is made of. The zero value has no services.
type Options struct {
	Upstreams []forward.Upstream
	Carrier   tunnel.Carrier // empty: WebSocket
	Session   tunnel.Config
	Audit     forward.Auditor
	// Access changes the hub, whose Directory is the agent's services and whose
	// Watch asks the CA's deny list; AgentRules are the agent's own.
	Access     func(*forward.HubConfig)
	AgentRules *forward.Rules
	// Kubeconfig is the agent's, for credentials in Secrets.
	Kubeconfig string
	Logger     *slog.Logger
	// Hub is where the hub's metrics go; nil: nowhere.
	Hub prometheus.Registerer
	// Services changes the server of the services port before it starts.
	Services func(*http.Server)
}

// Rig is a hub and an agent with a link between them.
type Rig struct {
	CA  *pki.CA
	URL string // of the services port

	domain  string
	agent   *forward.Agent
	dialer  *tunnel.Dialer
	logger  *slog.Logger
	servers []*http.Server
	wg      sync.WaitGroup

	mu     sync.Mutex // guards link
	link   *link
	joined chan struct{}
	down   chan struct{}
}

type link struct {
	session *tunnel.Session
	pool    tunnel.Pool
}

// Start builds a rig and returns when its link is up.
func Start(opt Options) (_ *Rig, err error) {
	if opt.Carrier == "" {
		opt.Carrier = tunnel.WebSocket
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Rig{logger: opt.Logger, joined: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if r.CA, err = pki.NewCA("test"); err != nil {
		return nil, err
	}
	if r.agent, err = forward.NewAgent(forward.AgentConfig{Upstreams: opt.Upstreams, Rules: opt.AgentRules, Kubeconfig: opt.Kubeconfig, Logger: opt.Logger}); err != nil {
		return nil, err
	}
	cfg := forward.HubConfig{
		Authenticate: r.authenticate(), Links: r, Audit: opt.Audit, Logger: opt.Logger, Registerer: opt.Hub,
		Directory: func(context.Context) (out []forward.Offer, err error) {
			for _, s := range r.agent.Services() {
				out = append(out, forward.Offer{Agent: AgentName, Type: s.Type, Name: s.Name})
			}
			return out, nil
		},
		Watch: func(c forward.Caller, cut func(error)) func() {
			held, _ := c.Credential.(pki.Credential)
			return r.CA.Revocations().Watch(held, cut)
		},
	}
	if opt.Access != nil {
		opt.Access(&cfg)
	}
	hub, err := forward.NewHub(cfg)
	if err != nil {
		return nil, err
	}
	carriers := &http.Server{
		Handler: tunnel.Handler(opt.Session, r.onSession),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
			tunnel.ALPN: tunnel.NextProto(opt.Session, r.onSession),
		},
	}
	hubURL, err := r.serve(carriers, tunnel.ALPN, "http/1.1")
	if err != nil {
		return nil, err
	}
	services := &http.Server{Handler: hub, ReadHeaderTimeout: 10 * time.Second}
	if opt.Services != nil {
		opt.Services(services)
	}
	r.domain = cfg.Domain
	if r.URL, err = r.serve(services, "h2", "http/1.1"); err != nil {
		return nil, err
	}
	cert, err := r.certificate(pki.Identity{Purpose: pki.Agent, Agent: AgentName})
	if err != nil {
		return nil, err
	}
	r.dialer = tunnel.NewDialer(tunnel.DialConfig{
		URL:      hubURL,
		TLS:      &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: r.CA.Pool(), Certificates: []tls.Certificate{cert}},
		Carriers: []tunnel.Carrier{opt.Carrier},
		Session:  opt.Session,
	})
	return r, r.Connect()
}

// Connect brings the agent's link up.
func (r *Rig) Connect() error {
	s, err := r.dialer.Dial(context.Background())
	if err != nil {
		return err
	}
	r.wg.Go(func() { tunnel.Serve(context.Background(), s, r.agent) })
	select {
	case <-r.joined:
		return nil
	case <-s.Done():
		return s.Err()
	}
}

// Disconnect cuts the link and returns when the hub knows.
func (r *Rig) Disconnect() {
	r.mu.Lock()
	l, down := r.link, r.down
	r.mu.Unlock()
	if l != nil {
		l.session.Close()
		<-down
	}
}

// Close ends everything.
func (r *Rig) Close() {
	r.Disconnect()
	for _, s := range r.servers {
		s.Close()
	}
	r.wg.Wait()
}

// Session is the hub's end of the link.
func (r *Rig) Session() *tunnel.Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.link.session
}

// Transport makes the rig the hub's way to its agents.
func (r *Rig) Transport(agent fleet.AgentName) (http.RoundTripper, error) {
	if agent != AgentName {
		return nil, forward.ErrUnknownAgent
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.link == nil {
		return nil, forward.ErrAgentAway
	}
	return &r.link.pool, nil
}

func (r *Rig) onSession(_ context.Context, s *tunnel.Session, state *tls.ConnectionState) {
	if len(state.PeerCertificates) == 0 {
		return
	}
	if id, err := pki.IdentityOf(state.PeerCertificates[0]); err != nil || id.Purpose != pki.Agent {
		return
	}
	l := &link{session: s}
	l.pool.Add(s, "agent")
	down := make(chan struct{})
	r.mu.Lock()
	r.link, r.down = l, down
	r.mu.Unlock()
	r.joined <- struct{}{}
	<-s.Done()
	r.mu.Lock()
	r.link = nil
	r.mu.Unlock()
	l.pool.Remove(s)
	close(down)
}

func (r *Rig) authenticate() forward.Authenticator {
	caller := func(c pki.Credential, err error) (forward.Caller, error) {
		if err != nil {
			return forward.Caller{}, fmt.Errorf("%w: %w", forward.ErrUnauthenticated, err)
		}
		out := forward.Caller{Name: c.String(), ID: c.Key(), Holder: c.Holder, Credential: c}
		switch c.Purpose {
		case pki.Service:
			out.Agent, out.Type, out.Service = c.Agent, c.Type, fleet.ServiceName(c.Name)
		case pki.Control:
		default:
			return out, fmt.Errorf("%w: the credential is of purpose %s", forward.ErrForbidden, c.Purpose)
		}
		return out, nil
	}
	peers := r.CA.Peers()
	return func(req *http.Request) (forward.Caller, error) {
		if req.TLS != nil && len(req.TLS.VerifiedChains) > 0 {
			return caller(peers.Credential(req.TLS))
		}
		if t, ok := forward.Token(req); ok {
			return caller(r.CA.VerifyServiceToken(t))
		}
		return forward.Caller{}, fmt.Errorf("%w: present a client certificate or a token", forward.ErrNoCredential)
	}
}

// Client calls the services port with a certificate for one service. It is
// the caller's to close its idle connections.
func (r *Rig) Client(id pki.Identity) (*http.Client, error) {
	cert, err := r.certificate(id)
	if err != nil {
		return nil, err
	}
	return r.client(cert), nil
}

// Anonymous calls the services port with no certificate.
func (r *Rig) Anonymous() *http.Client { return r.client() }

func (r *Rig) client(certs ...tls.Certificate) *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: r.CA.Pool(), Certificates: certs},
		MaxIdleConnsPerHost: 64,
		DisableCompression:  true,
	}}
}

func (r *Rig) certificate(id pki.Identity) (tls.Certificate, error) {
	cert, key, err := r.CA.NewCredential(id, time.Hour)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}

// serve starts a server with a certificate of the rig's CA.
func (r *Rig) serve(srv *http.Server, protos ...string) (address string, err error) {
	cfg, err := r.CA.ServerTLSBeneath(r.domain, nil)
	if err != nil {
		return "", err
	}
	cfg.NextProtos = protos
	srv.TLSConfig = cfg
	srv.ErrorLog = slog.NewLogLogger(r.logger.Handler(), slog.LevelDebug)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	r.servers = append(r.servers, srv)
	r.wg.Go(func() {
		if err := srv.ServeTLS(tunnel.Listener(ln), "", ""); !errors.Is(err, http.ErrServerClosed) {
			r.logger.Error("server ended", "error", err)
		}
	})
	return "https://" + ln.Addr().String(), nil
}
