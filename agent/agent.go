package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	eventlink "reeve.dev/reeve/event/link"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/internal/disk"
	"reeve.dev/reeve/internal/metric"
	"reeve.dev/reeve/internal/spool"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
	scanlink "reeve.dev/reeve/scan/link"
	"reeve.dev/reeve/tunnel"
)

// stopTimeout bounds the graceful end of the agent's own servers.
const stopTimeout = 5 * time.Second

// linkGrace is how long what is forwarded may go on once the agent is to stop.
const linkGrace = 20 * time.Second

// Agent is one agent process. New opens its files and sockets, Run does its
// work; Run is called once.
type Agent struct {
	cfg      Config
	version  string
	log      *slog.Logger
	metrics  *metric.Registry
	instance fleet.InstanceID
	identity *pki.Enroller                // set before the first link
	joined   atomic.Pointer[pki.Enroller] // identity, for those who ask at any time
	up       *uplink
	hub      atomic.Uint32 // counts the tries that have no carrier
	forward  *forward.Agent
	targets  *targets
	worker   *scan.Worker
	insights *spool.Spool
	events   *spool.Spool
	ways     map[string]sender // of insights
	// brokerTrouble is why Lagoon's broker takes nothing; empty while it does.
	brokerTrouble func() string
	// listeners are those of insights.listen and metrics; nil where off.
	ingest, health net.Listener
	incoming       []incoming
	collect        http.Handler // of ingest
	remedies       http.Handler // nil where there are no hooks
	closers        []func() error
}

// New makes an agent of a valid configuration. It opens the data directory and
// listens, but doesn't talk to the hub yet. version is what the agent
// registers as.
func New(cfg Config, version string, logger *slog.Logger) (_ *Agent, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg, notes, err := cfg.withBirger()
	if err != nil {
		return nil, err
	}
	for _, n := range notes {
		logger.Warn("Birger's services file", "note", n)
	}
	a := &Agent{cfg: cfg, version: version, log: logger, metrics: metric.NewRegistry(), up: &uplink{}}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("dataDir: %w", err)
	}
	a.observe()
	if a.instance, err = instanceID(filepath.Join(cfg.DataDir, "instance")); err != nil {
		return nil, fmt.Errorf("dataDir: %w", err)
	}
	rules, err := forward.NewRules(cfg.Access.Rules)
	if err != nil {
		return nil, err
	}
	if a.forward, err = forward.NewAgent(forward.AgentConfig{Upstreams: cfg.upstreams(), Rules: rules, Kubeconfig: cfg.Kubeconfig, Logger: a.component("forward"), Registerer: a.metrics, Tracer: cfg.Tracer}); err != nil {
		return nil, err
	}
	results, err := a.spool("scans", spool.Config{})
	if err != nil {
		return nil, err
	}
	if err = a.openInsights(); err != nil {
		return nil, err
	}
	if a.events, err = a.spool("events", spool.Config{}); err != nil {
		return nil, err
	}
	a.targets = &targets{kubeconfig: cfg.Kubeconfig, cfg: cfg.Scan, instance: a.instance, log: a.component("scan"), sbom: a.handIn}
	a.worker, err = scan.NewWorker(scan.WorkerConfig{
		Source: scanlink.NewClient(a.up), Spool: results,
		OpenTarget: a.targets.open, Select: a.targets.choose, Kinds: cfg.Scan.Targets,
		Engine:   engine{version: version, log: a.component("inspec")}.run,
		CacheDir: filepath.Join(cfg.DataDir, "profiles"), Concurrency: cfg.Scan.Jobs, Logger: a.component("scan"),
	})
	if err != nil {
		return nil, err
	}
	if err = a.openRemedies(); err != nil {
		return nil, err
	}
	if err = a.openIncoming(); err != nil {
		return nil, err
	}
	a.health, err = a.listen("metrics", cfg.Metrics)
	return a, err
}

// IngestAddr is where facts and problems are taken; nil when that is off.
func (a *Agent) IngestAddr() net.Addr { return address(a.ingest) }

// MetricsAddr is where /metrics, /healthz and /readyz are; nil when off.
func (a *Agent) MetricsAddr() net.Addr { return address(a.health) }

// Run joins the hub and works until ctx is done, and then returns nil. An
// error is one that trying again can't heal, such as a join token that was
// used before. Until it has joined, workloads can hand in already what they
// have.
func (a *Agent) Run(ctx context.Context) error {
	defer a.close()
	group, work := errgroup.WithContext(ctx)
	if a.ingest != nil {
		group.Go(func() error { return serve(work, a.ingest, a.collect) })
	}
	if a.health != nil {
		group.Go(func() error { return serve(work, a.health, a.Health()) })
	}
	for _, in := range a.incoming {
		group.Go(func() error { return a.serveIncoming(work, in) })
	}
	group.Go(func() error { return a.watchCluster(work) })
	for way, send := range a.ways {
		group.Go(func() error {
			if err := send.connect(work); err != nil {
				a.log.WarnContext(work, "insights wait in the spool", "way", way, "error", err)
			}
			return a.insights.Deliver(work, way, send.most, send.send)
		})
	}
	if a.cfg.hubless() {
		return wait(ctx, group)
	}
	group.Go(func() error {
		identity, err := a.enrol(work)
		if err != nil {
			return err
		}
		a.identity = identity
		a.joined.Store(identity)
		a.log.InfoContext(work, "agent starts", "agent", identity.Agent(), "instance", a.instance, "certificateUntil", identity.NotAfter())
		group.Go(func() error { return a.link(work) })
		group.Go(func() error { return a.worker.Run(work) })
		group.Go(func() error { a.targets.sweep(work); return nil })
		group.Go(func() error { return a.watchDeployments(work) })
		group.Go(func() error { return a.controlResources(work, identity) })
		group.Go(func() error { return a.events.Drain(work, a.hubEvents().Send) })
		group.Go(func() error { identity.RenewLoop(work, a.component("pki"), a.renew); return nil })
		return nil
	})
	return wait(ctx, group)
}

// wait ends with group, without an error if that is ctx's doing.
func wait(ctx context.Context, group *errgroup.Group) error {
	if err := group.Wait(); ctx.Err() == nil {
		return err
	}
	return nil
}

// enrol answers the identity in the data directory, or gets one with the join
// token. A certificate that expired while the agent was away is renewed, if
// the hub still takes it.
func (a *Agent) enrol(ctx context.Context) (*pki.Enroller, error) {
	dir := filepath.Join(a.cfg.DataDir, "identity")
	identity, err := pki.Load(dir)
	if errors.Is(err, pki.ErrExpired) {
		err = a.persist(ctx, func() error { return identity.Renew(ctx, identity.Direct(a.nextHub())) })
	}
	if err == nil || (!errors.Is(err, fs.ErrNotExist) && !errors.Is(err, pki.ErrExpired) && !errors.Is(err, pki.ErrForeign)) {
		return identity, err
	}
	token, secretErr := secret(a.cfg.Hub.JoinTokenFile, a.cfg.Hub.JoinTokenEnv)
	if secretErr != nil {
		return nil, fmt.Errorf("hub.joinTokenFile: %w", secretErr)
	}
	if token == "" {
		why := "this agent has no certificate yet"
		if !errors.Is(err, fs.ErrNotExist) {
			why = err.Error()
		}
		return nil, fmt.Errorf("%s: make a join token (reeve token create --kind join --agent NAME) and hand it over in %s or hub.joinTokenFile", why, a.cfg.Hub.JoinTokenEnv)
	}
	refused := err
	err = a.persist(ctx, func() (err error) {
		identity, err = pki.Enroll(ctx, a.nextHub(), token, dir, "")
		return err
	})
	if err != nil && !errors.Is(refused, fs.ErrNotExist) {
		// The token is likely the one that the agent joined with long ago.
		err = fmt.Errorf("%w; it needs a token since its certificate is of no use any more: %w", err, refused)
	}
	return identity, err
}

// persist tries until it succeeds, ctx ends or there is an error that no later
// try can heal.
func (a *Agent) persist(ctx context.Context, try func() error) error {
	for pause := time.Second; ; pause = min(2*pause, 30*time.Second) {
		err := try()
		if err == nil {
			return nil
		}
		for _, final := range []error{pki.ErrMalformed, pki.ErrForeign, pki.ErrExpired, pki.ErrUsed, pki.ErrWrongAgent} {
			if errors.Is(err, final) {
				return err
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		a.log.WarnContext(ctx, "can't join the hub yet", "hub", strings.Join(a.cfg.Hub.all(), " "), "again", pause, "error", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// nextHub is an address of the hub, another one at each call.
func (a *Agent) nextHub() string {
	urls := a.cfg.Hub.all()
	return urls[int(a.hub.Add(1)-1)%len(urls)]
}

// link keeps the carriers to the hub up.
func (a *Agent) link(ctx context.Context) error {
	log := a.component("tunnel")
	urls := a.cfg.Hub.all()
	session := tunnel.Config{Logger: log, Budget: tunnel.NewBudget(0)} // of all carriers together
	dialers := make([]*tunnel.Dialer, len(urls))
	for i, u := range urls {
		dialers[i] = tunnel.NewDialer(tunnel.DialConfig{
			URL: u, TLS: a.identity.TLSConfig(), Carriers: a.cfg.Hub.Carriers, Session: session,
		})
	}
	var until sync.Map // of each session, when the certificate ends that it was dialled with
	return tunnel.Link{
		Carriers: a.cfg.Hub.CarrierCount, Hubs: len(urls), First: rand.IntN(len(urls)),
		Dial: func(ctx context.Context, hub int) (*tunnel.Session, error) {
			end := a.identity.NotAfter()
			s, err := dialers[hub].Dial(ctx)
			if err == nil {
				until.Store(s, end)
			}
			return s, err
		},
		Serve: func(ctx context.Context, s *tunnel.Session, up func()) error {
			defer until.Delete(s)
			return a.session(ctx, s, up)
		},
		Stale: func(s *tunnel.Session) bool {
			end, ok := until.Load(s)
			return ok && !a.identity.NotAfter().Equal(end.(time.Time))
		},
		Grace: linkGrace, Logger: log,
	}.Run(ctx)
}

// session serves one carrier: it registers, and then the hub may forward.
func (a *Agent) session(ctx context.Context, s *tunnel.Session, up func()) error {
	served := make(chan error, 1)
	go func() { served <- tunnel.Serve(ctx, s, http.HandlerFunc(a.fromHub)) }()
	answer, err := a.register(ctx, s)
	if err != nil {
		s.Close()
		<-served
		return err
	}
	defer a.up.registered.Add(-1)
	log := a.log.With("session", answer.Session)
	log.InfoContext(ctx, "link to the hub is up", "hub", s.RemoteAddr().String(), "hubVersion", answer.HubVersion)
	a.up.pool.Add(s, answer.Hub)
	defer a.up.pool.Remove(s)
	up()
	err = <-served
	log.InfoContext(ctx, "link to the hub is down", "cause", err)
	return err
}

// register tells the hub who is at the other end of a carrier. One at a time,
// so that the hub learns which is the first of this process.
func (a *Agent) register(ctx context.Context, s *tunnel.Session) (registered, error) {
	a.up.registering.Lock()
	defer a.up.registering.Unlock()
	transport := tunnel.Transport(s)
	defer transport.CloseIdleConnections()
	r := a.registration()
	r.More = a.up.registered.Load() > 0
	answer, err := register(ctx, transport, r)
	if err == nil {
		a.up.registered.Add(1)
	}
	return answer, err
}

func (a *Agent) registration() fleet.Registration {
	host, _ := os.Hostname()
	r := fleet.Registration{
		Agent: a.identity.Agent(), Instance: a.instance, Version: a.version, Hostname: host,
		Annotations: a.cfg.Annotations, Services: a.forward.Services(), ScanTargets: a.cfg.Scan.Targets,
	}
	for _, id := range a.worker.Holding() {
		r.Holding = append(r.Holding, string(id))
	}
	return r
}

// hubEvents is where events and policies go.
func (a *Agent) hubEvents() *eventlink.Client {
	return &eventlink.Client{Base: scanlink.BaseURL, HTTP: &http.Client{Transport: a.up}}
}

// Metrics describes what /metrics has.
func (a *Agent) Metrics() []metric.Description { return a.metrics.Descriptions() }

// Health serves /metrics, /healthz and /readyz.
func (a *Agent) Health() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !a.up.connected() && !a.cfg.hubless() {
			http.Error(w, "no link to the hub", http.StatusServiceUnavailable)
			return
		}
		if err := disk.Writable(a.cfg.DataDir); err != nil {
			http.Error(w, "dataDir: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

func (a *Agent) spool(name string, cfg spool.Config) (*spool.Spool, error) {
	cfg.Logger = a.component("spool")
	s, err := spool.Open(filepath.Join(a.cfg.DataDir, "spool", name), cfg)
	if err != nil {
		return nil, fmt.Errorf("dataDir: %w", err)
	}
	a.closers = append(a.closers, s.Close)
	a.gauges(prometheus.Labels{"spool": name}, s.Stats)
	a.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "reeve_agent_spool_rejected", Help: "Documents that were refused for good.", ConstLabels: prometheus.Labels{"spool": name},
	}, func() float64 { return float64(s.Stats().Rejected) }))
	return s, nil
}

// gauges show what waits in a spool, or for one of its ways.
func (a *Agent) gauges(labels prometheus.Labels, stats func() spool.Stats) {
	name := "reeve_agent_spool_"
	if labels["way"] != "" {
		name += "way_"
	}
	gauge := func(what, help string, value func(spool.Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name + what, Help: help, ConstLabels: labels}, func() float64 { return value(stats()) })
	}
	a.metrics.MustRegister(
		gauge("items", "Documents that wait for delivery.", func(st spool.Stats) float64 { return float64(st.Items) }),
		gauge("bytes", "Bytes that wait for delivery, on the disk.", func(st spool.Stats) float64 { return float64(st.Bytes) }),
		gauge("age_seconds", "Age of the document that waits longest.", func(st spool.Stats) float64 {
			if st.Oldest.IsZero() {
				return 0
			}
			return time.Since(st.Oldest).Seconds()
		}),
	)
}

func (a *Agent) listen(key, addr string) (net.Listener, error) {
	if addr == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	a.closers = append(a.closers, l.Close)
	return l, nil
}

// close gives free what New opened. A listener that its server has closed is
// closed twice, which harms nothing.
func (a *Agent) close() {
	for i := len(a.closers) - 1; i >= 0; i-- {
		a.closers[i]()
	}
	a.closers = nil
}

func (a *Agent) component(name string) *slog.Logger { return a.log.With("component", name) }

func address(l net.Listener) net.Addr {
	if l == nil {
		return nil
	}
	return l.Addr()
}

// serve answers HTTP on l until ctx is done.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Minute, IdleTimeout: 2 * time.Minute}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		// ctx is done, and requests that run may yet end.
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		stopped <- server.Shutdown(stop)
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// instanceID reads the id in the file at path, and makes it the first time.
func instanceID(path string) (fleet.InstanceID, error) {
	text, err := os.ReadFile(path)
	if id, parseErr := uuid.Parse(strings.TrimSpace(string(text))); err == nil && parseErr == nil {
		return fleet.InstanceID(id.String()), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	id := uuid.NewString()
	return fleet.InstanceID(id), os.WriteFile(path, []byte(id+"\n"), 0o600)
}
