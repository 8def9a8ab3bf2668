package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/rpc"
	"reeve.dev/reeve/alert/sign"
	"reeve.dev/reeve/api"
	"reeve.dev/reeve/event"
	eventlink "reeve.dev/reeve/event/link"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/amqp"
	insightlink "reeve.dev/reeve/insight/link"
	"reeve.dev/reeve/internal/metric"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/pki/oidc"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/policy/github"
	shipped "reeve.dev/reeve/profiles"
	"reeve.dev/reeve/scan"
	scanlink "reeve.dev/reeve/scan/link"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/threshold"
	"reeve.dev/reeve/tunnel"
	"reeve.dev/reeve/web"
)

// Hub is a hub that listens. Make it with New, then Run it or Close it.
type Hub struct {
	log   *slog.Logger
	store *store.Store
	ca    *pki.CA
	peers *pki.Peers
	links *links
	// agents is links or, where the hub has replicas, replicas.
	agents   agents
	replicas *replicas
	queue    *scan.Queue
	alert    *alert.Worker
	// alertKeys sign alerts, and silences hold them back from people.
	alertKeys *sign.Ring
	silences  *silences
	received  *receiver
	policies  *policy.Engine
	events    *event.Service
	github    *github.Runner // nil: no repositories are checked
	schedule  *scan.Schedules
	brokers   []BrokerConfig
	broker    *amqp.Consumer // nil: none
	api       *api.API
	audit     *auditing
	// exports sends SBOMs elsewhere, by exporter; nil: nowhere.
	exports  exports
	exporter *insight.Exporter
	// recordings is how long those are kept.
	recordings time.Duration
	retention  RetentionConfig
	holder     string        // names this hub among those on the same database
	grace      time.Duration // of what is forwarded, at the end
	ready      *readiness
	metrics    *metric.Registry

	addrs   Addrs
	public  string
	servers []*server
	// teardown is what New opened, in its order; unwound in reverse.
	teardown []func() error
	closing  sync.Once
	closed   error
}

// Addrs are the addresses that a hub listens on; Replicas is nil where it has
// none.
type Addrs struct{ API, Services, Metrics, Replicas net.Addr }

// server is one port: it serves until it is stopped.
type server struct {
	name string
	http *http.Server
	l    net.Listener
	stop context.CancelFunc // of the requests' base context
}

const (
	// requestGrace is for requests under way at a shutdown, other than those
	// to services.
	requestGrace = 2 * time.Second
	headerTime   = 10 * time.Second
	headerBytes  = 256 << 10
	idleTime     = 2 * time.Minute
	// bodyTime is for the body of a request, unless its handler knows better
	// once it knows the caller.
	bodyTime = 30 * time.Second
	// linkStreams is how many requests of its own an agent may have under way
	// on one link; it bounds what its unread bodies take.
	linkStreams = 256
)

// New opens everything that a hub needs and listens, so that whatever is
// wrong with the configuration is said at once. version is told to agents and
// callers.
func New(cfg Config, version string, logger *slog.Logger) (_ *Hub, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	h := &Hub{log: logger, recordings: cfg.Audit.Recordings.KeepFor, retention: cfg.Retention, holder: "hub", grace: cfg.Grace}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
		}
	}()
	ctx := context.Background()
	if h.ca, err = pki.LoadCA(cfg.CADir); err != nil {
		return nil, err
	}
	profiles, err := openProfiles(ctx, shipped.FS, cfg.Profiles.Dir)
	if err != nil {
		return nil, err
	}
	thresholds, err := threshold.Open(cfg.Thresholds.Dir)
	if err != nil {
		return nil, err
	}
	unlock, err := lock(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	h.onClose(unlock)
	if h.store, err = openStore(ctx, cfg, logger.With("component", "store")); err != nil {
		return nil, err
	}
	h.onClose(h.store.Close)
	h.openReady(cfg.DataDir)

	if err := h.ca.Revocations().Load(ctx, h.store); err != nil {
		return nil, err
	}
	metrics := metric.NewRegistry()
	h.metrics = metrics
	if err := h.openAudit(ctx, cfg, version, metrics); err != nil {
		return nil, err
	}

	tlsConfig, err := h.ca.ServerTLS(cfg.Names)
	if err != nil {
		return nil, err
	}
	servicesTLS, err := h.ca.ServerTLSBeneath(cfg.Access.Domain, cfg.Names)
	if err != nil {
		return nil, err
	}
	servicesTLS.ClientAuth = tls.RequestClientCert
	tlsConfig.ClientAuth = tls.RequestClientCert // peers judges
	h.peers = h.ca.Peers()
	apiListener, err := h.listen("api", cfg.Listen.API)
	if err != nil {
		return nil, err
	}
	servicesListener, err := h.listen("services", cfg.Listen.Services)
	if err != nil {
		return nil, err
	}
	metricsListener, err := h.listen("metrics", cfg.Listen.Metrics)
	if err != nil {
		return nil, err
	}
	h.addrs = Addrs{API: apiListener.Addr(), Services: servicesListener.Addr(), Metrics: metricsListener.Addr()}
	h.public = urlOr(cfg.PublicURL, cfg.Names, apiListener)
	servicesURL := urlOr(cfg.ServicesURL, cfg.Names, servicesListener)

	callbacks := cfg.Callbacks.webhook(h.public)
	h.links = &links{
		ca: h.ca, peers: h.peers, life: cfg.Certificates.AgentLife, store: h.store, version: version, log: logger.With("component", "links"),
		release: func(ctx context.Context, agent fleet.AgentName, instance fleet.InstanceID, holding []string) error {
			return h.queue.Release(ctx, agent, instance, holding)
		},
		audit: h.audit,
	}
	if err := h.links.load(ctx); err != nil {
		return nil, err
	}
	h.agents = h.links
	var replicasListener net.Listener
	if cfg.Database.URL != "" {
		if replicasListener, err = h.openReplicas(cfg, version); err != nil {
			return nil, err
		}
	}
	if err := h.openSinks(cfg, callbacks, metrics); err != nil {
		return nil, err
	}
	catalogue, err := newCatalogue(h.store, profiles, thresholds)
	if err != nil {
		return nil, err
	}
	h.openPolicies(cfg)
	h.queue = scan.NewQueue(scan.Config{
		Policies: h.judgePolicies,
		Store:    h.store, Catalogue: catalogue, Agents: h.store, Connected: h.agents.connected,
		Outcome: scanOutcome, Sinks: sinkNames(cfg.Sinks), MoreSinks: h.moreSinks(cfg), Logger: logger.With("component", "scans"),
		LeaseFor: cfg.Scan.LeaseFor, MaxAttempts: cfg.Scan.MaxAttempts, QueueFor: cfg.Scan.QueueFor,
	})
	h.openEvents(cfg.Events, catalogue)
	insights, err := h.insights(cfg.Insights, metrics, logger.With("component", "insights"))
	if err != nil {
		return nil, err
	}
	h.broker = openBroker(cfg.Insights, insights, logger.With("component", "broker"))
	h.links.services = linkMux(
		scanlink.Handler(h.queue, logger.With("component", "scans")),
		h.fromAgents(insights, logger.With("component", "insights")),
		eventlink.Handler(policies{h.events, h.schedule, newClusterActions(cfg)}, logger.With("component", "events")),
	)
	own, err := forward.NewAgent(forward.AgentConfig{Upstreams: cfg.Services, Logger: logger.With("component", "services"), Tracer: cfg.Tracer})
	if err != nil {
		return nil, err
	}
	issuer, loginBy, err := openIssuer(cfg.OIDC, h.public)
	if err != nil {
		return nil, err
	}
	h.api = api.New(api.Config{
		Issuer: issuer,
		Scans:  h.queue, Catalogue: catalogue, Events: h.events, Schedules: h.schedule, Fleet: h.agents, Tokens: h.store, Revocations: h.store, CA: h.ca, Peers: h.peers,
		Insights: h.store, Quarantine: quarantine{insights}, Deriver: insights, Exporter: h.exports, Outbox: h.store, Policies: h.policies, PolicyStore: h.store, GitHub: h.github.Standing, Callbacks: callbacks, Alerts: h.alerting(cfg.Sinks), PublicURL: h.public, ServicesURL: servicesURL,
		Services: own.Services(), Version: version, Logger: logger.With("component", "api"), Audit: h.audit.add, Records: h.store, Recordings: h.store,
	})

	h.schedule.Judge(h.api.MayStillMake)
	h.received = newReceiver(h.api.Authenticate, h.store, sinkNames(cfg.Sinks))
	h.register(metrics, version)
	ways := forward.WithLocal(h.agents, own, logger.With("component", "services"))
	h.onClose(ways.Close)
	rules, err := forward.NewRules(cfg.Access.Rules)
	if err != nil {
		return nil, err
	}
	forwarding, err := forward.NewHub(forward.HubConfig{
		Rules: rules, Limits: cfg.Limits, Domain: cfg.Access.Domain, Directory: newDirectory(h.store, own.Services()).offers, Watch: h.watch,
		Authenticate: forward.Linked(cfg.IncomingServices, agentCaller, h.caller), Links: ways, Users: h.ca,
		Audit: auditors(h.audit.forward), Recorder: recorder{h.audit.spool}, Tracer: cfg.Tracer,
		Logger: logger.With("component", "forward"), Registerer: metrics,
	})
	if err != nil {
		return nil, err
	}

	h.links.forward = forwarding
	h.serve("metrics", metricsListener, nil, h.metricsMux(metrics))
	page := web.Handler(web.Config{API: h.api, LoginBy: loginBy, Version: version, Logger: logger.With("component", "web")})
	session := tunnel.Config{Streams: linkStreams, Logger: logger.With("component", "tunnel")}
	apiServer := h.serve("api", tunnel.Listener(apiListener), tlsConfig, h.apiMux(page, session, cfg.Certificates))
	apiServer.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){tunnel.ALPN: tunnel.NextProto(session, h.links.serve)}
	apiServer.TLSConfig.NextProtos = []string{"h2", "http/1.1", tunnel.ALPN}
	// Beside an entry for ALPN, HTTP/2 has to be asked for.
	apiServer.Protocols = new(http.Protocols)
	apiServer.Protocols.SetHTTP1(true)
	apiServer.Protocols.SetHTTP2(true)
	apiServer.RegisterOnShutdown(h.links.end)
	h.serve("services", servicesListener, servicesTLS, forwarding)
	if h.replicas != nil {
		h.serve("replicas", replicasListener, tlsConfig, h.replicas.handler())
	}
	return h, nil
}

// openIssuer answers no issuer where none is configured, and else what people
// call it.
func openIssuer(cfg oidc.Config, public string) (api.Issuer, string, error) {
	if cfg.Issuer == "" {
		return nil, "", nil
	}
	i, err := oidc.New(cfg, public+api.LoginCallback)
	if err != nil {
		return nil, "", err
	}
	return i, i.Name(), nil
}

// Metrics describes what /metrics has.
func (h *Hub) Metrics() []metric.Description { return h.metrics.Descriptions() }

func (h *Hub) onClose(f func() error) { h.teardown = append(h.teardown, f) }

func (h *Hub) listen(key, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen.%s: %w", key, err)
	}
	h.onClose(func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return l, nil
}

// urlOr is the configured URL, or that of the first name and l's port.
func urlOr(configured string, names []string, l net.Listener) string {
	if configured != "" {
		return configured
	}
	host := "localhost"
	if len(names) > 0 {
		host = names[0]
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "https://" + net.JoinHostPort(host, port)
}

// scanOutcome words what a scan came to.
func scanOutcome(s scan.Scan, v scan.Verdict) fleet.Outcome {
	p := policy.Scan{
		ID: string(s.ID), Subject: s.Request.Target.Subject(), Policy: s.Request.Policy(),
		Passed: v.Outcome == scan.Passed, Counts: v.Counts, Findings: v.Findings, At: s.Finished,
	}
	for _, c := range v.Bad {
		p.Bad = append(p.Bad, policy.Control(c))
	}
	return policy.ScanOutcome(p)
}

// linkMux is what a registered agent may ask for.
func linkMux(scans, insights, events http.Handler) http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/v1/scans", "/v1/scans/", "/v1/profiles", "/v1/profiles/"} {
		mux.Handle(path, scans)
	}
	whole := http.NewServeMux()
	messages := newMessages(whole)
	for path, to := range map[string]http.Handler{
		insightlink.Path: insights, insightlink.InventoryPath: insights, insightlink.ViewPath: insights,
		eventlink.EventsPath: events, eventlink.PoliciesPath: events,
	} {
		whole.Handle(path, to)
		mux.Handle(path, messages)
	}
	return mux
}

func (h *Hub) apiMux(page http.Handler, session tunnel.Config, certs CertificateConfig) http.Handler {
	log := h.log.With("component", "enroll")
	mux := http.NewServeMux()
	mux.Handle("/", page)
	for _, path := range api.Paths {
		mux.Handle(path, h.api)
	}
	for _, service := range rpc.Services() {
		mux.Handle("POST /"+service+"/", h.received)
	}
	if h.github != nil {
		mux.Handle(github.WebhookPath, h.github.Webhooks())
	}
	mux.Handle("GET "+tunnel.Path, h.links.guard(tunnel.Handler(session, h.links.serve)))
	mux.Handle(pki.EnrollPath, h.ca.EnrollHandler(auditedTokens{h.store, h.audit.add}, certs.AgentLife, log))
	mux.Handle(pki.RenewPath, h.ca.RenewHandler(h.peers, certs.AgentLife, certs.AgentGrace, log))
	return mux
}

func (h *Hub) metricsMux(reg prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /readyz", h.ready)
	return mux
}

// serve prepares a server; Run starts it.
func (h *Hub) serve(name string, l net.Listener, tlsConfig *tls.Config, handler http.Handler) *http.Server {
	ctx, stop := context.WithCancel(context.Background())
	s := &http.Server{
		Handler:           h.recovered(name, inTime(handler)),
		ReadHeaderTimeout: headerTime,
		MaxHeaderBytes:    headerBytes,
		IdleTimeout:       idleTime,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(h.log.With("component", name).Handler(), slog.LevelDebug),
	}
	if tlsConfig != nil {
		s.TLSConfig = tlsConfig.Clone()
	}
	h.servers = append(h.servers, &server{name, s, l, stop})
	return s
}

// inTime bounds the wait for a request's body. Also who never got past the
// credential's check can promise a body and not send it, for which net/http
// would wait before it ends the request.
func inTime(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
		}
		next.ServeHTTP(w, r)
	})
}

// recovered logs a handler's panic, which net/http would only tell its
// ErrorLog, among the noise of port scanners, and breaks the connection.
func (h *Hub) recovered(name string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				h.log.ErrorContext(r.Context(), "panic in a handler", "component", name, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			}
			panic(http.ErrAbortHandler)
		}()
		next.ServeHTTP(w, r)
	})
}

// Addrs are the addresses that the hub listens on.
func (h *Hub) Addrs() Addrs { return h.addrs }

// URL is where callers reach the API.
func (h *Hub) URL() string { return h.public }

// API makes login links, for the command that starts a hub.
func (h *Hub) API() *api.API { return h.api }

// CA is the hub's, for the command that starts a hub and an agent together.
func (h *Hub) CA() *pki.CA { return h.ca }

// Tokens is where the hub keeps tokens.
func (h *Hub) Tokens() pki.TokenStore { return h.store }

// Run serves until ctx ends, shuts down within a bounded time, and closes the
// hub. Its error is the first that broke it; nil after an orderly end. It is
// called once.
func (h *Hub) Run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var workers, serving sync.WaitGroup
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	broken := errors.New("hub")
	worker := func(name string, run func(context.Context) error) {
		workers.Go(func() {
			if err := run(work); err != nil && work.Err() == nil {
				fail(fmt.Errorf("%w: %s: %w", broken, name, err))
			}
		})
	}
	var auditing sync.WaitGroup
	auditCtx, stopAudit := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAudit()
	if h.audit.log != nil {
		auditing.Go(func() { h.audit.log.Run(auditCtx) })
	}
	worker("scans", h.queue.Run)
	worker("alerts", h.alert.Run)
	worker("vulnerabilities", h.match)
	worker("events", h.events.Run)
	worker("brokers", h.takeEvents)
	worker("schedules", h.schedule.Run)
	worker("policies", h.policies.Run)
	if h.github != nil {
		worker("github", h.github.Run)
	}
	if h.broker != nil {
		worker("broker", h.broker.Run)
	}
	if h.exporter != nil {
		worker("exports", func(ctx context.Context) error { h.exporter.Run(ctx); return nil })
	}
	if h.replicas != nil {
		worker("replicas", func(ctx context.Context) error { h.replicas.run(ctx); return nil })
	}
	worker("links", func(ctx context.Context) error { h.links.run(ctx); return nil })
	worker("revocations", func(ctx context.Context) error {
		h.ca.Revocations().Run(ctx, h.store, h.log.With("component", "revocations"))
		return nil
	})
	worker("sweeper", func(ctx context.Context) error { h.sweep(ctx); return nil })
	for _, s := range h.servers {
		serving.Go(func() {
			err := s.serve()
			if !errors.Is(err, http.ErrServerClosed) {
				fail(fmt.Errorf("%w: %s: %w", broken, s.name, err))
			}
		})
	}
	h.log.InfoContext(ctx, "hub is up", "api", h.addrs.API.String(), "services", h.addrs.Services.String(), "metrics", h.addrs.Metrics.String(), "url", h.public)
	<-ctx.Done()
	h.log.Info("hub is stopping")
	h.ready.end()
	h.stopServers()
	serving.Wait()
	stopWork()
	workers.Wait()
	// The audit log ends last, with all that the others did in it.
	stopAudit()
	auditing.Wait()
	err := h.Close()
	if cause := context.Cause(ctx); errors.Is(cause, broken) {
		return errors.Join(cause, err)
	}
	return err
}

// Tokens that have expired can be seen for a week.
const (
	sweepEvery = time.Hour
	tokensKept = 7 * 24 * time.Hour
)

// sweep removes now and then what nothing names any more, until ctx ends.
func (h *Hub) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		h.sweepOld(ctx)
		h.sweepAudit(ctx, h.recordings, h.log)
		if err := h.store.RemoveReplicas(ctx, "", time.Now().Add(-replicaKept)); err != nil && ctx.Err() == nil {
			h.log.WarnContext(ctx, "sweep replicas, will retry", "error", err)
		}
		if err := pki.Sweep(ctx, h.store, time.Now().Add(-tokensKept)); err != nil && ctx.Err() == nil {
			h.log.WarnContext(ctx, "sweep tokens, will retry", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *server) serve() error {
	if s.http.TLSConfig != nil {
		return s.http.ServeTLS(s.l, "", "")
	}
	return s.http.Serve(s.l)
}

// stopServers ends the ports, those of what is forwarded first. Each takes no
// more requests, gives those under way a moment, and then ends them: a watch
// or a stream of events has no other end. Links go last.
func (h *Hub) stopServers() {
	h.links.leave()
	var forwarding sync.WaitGroup
	for _, s := range h.servers {
		if s.name == "services" || s.name == "replicas" {
			forwarding.Go(func() { s.shutdown(h.grace) })
		}
	}
	forwarding.Wait()
	for _, s := range slices.Backward(h.servers) {
		s.shutdown(requestGrace)
	}
	h.links.end()
	h.links.wait()
}

// shutdown ends a server, at once where it has ended before.
func (s *server) shutdown(grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err := s.http.Shutdown(ctx)
	s.stop()
	if err != nil {
		s.http.Close()
	}
}

// Close releases what New opened. Run does it too; a second call does
// nothing.
func (h *Hub) Close() error {
	h.closing.Do(func() {
		var errs []error
		for _, f := range slices.Backward(h.teardown) {
			errs = append(errs, f())
		}
		h.closed = errors.Join(errs...)
	})
	return h.closed
}
