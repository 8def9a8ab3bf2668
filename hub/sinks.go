package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/cloudevent"
	"reeve.dev/reeve/alert/credential"
	"reeve.dev/reeve/alert/rpc"
	"reeve.dev/reeve/alert/sign"
	"reeve.dev/reeve/alert/slack"
	"reeve.dev/reeve/alert/webhook"
	"reeve.dev/reeve/api"
	"reeve.dev/reeve/event/broker"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/policy/github"
	"reeve.dev/reeve/scan"
)

// AlertConfig bounds the outbox, and says whom others may have told.
type AlertConfig struct {
	// MaxPending and MaxPendingBytes are how many alerts may wait for
	// delivery, and of how many bytes of text; 0: no limit. While as much
	// waits, no outcome is recorded: agents keep their results until there is
	// room.
	MaxPending      int   `yaml:"maxPending"`
	MaxPendingBytes int64 `yaml:"maxPendingBytes"`
	// MaxAge is how long an alert is tried before it is given up.
	MaxAge time.Duration `yaml:"maxAge"`
	// Endpoints are patterns of HOST:PORT, the AlertSinks that the files of
	// repositories and organisations may name.
	Endpoints rpc.Endpoints `yaml:"endpoints"`
}

func defaultAlerts() AlertConfig {
	return AlertConfig{MaxPending: 1_000_000, MaxPendingBytes: 4 << 30, MaxAge: 7 * 24 * time.Hour}
}

func (c AlertConfig) validate() error {
	switch {
	case c.MaxPending < 0:
		return fmt.Errorf("maxPending %d: it must not be negative; 0 is no limit", c.MaxPending)
	case c.MaxPendingBytes < 0:
		return fmt.Errorf("maxPendingBytes %d: it must not be negative; 0 is no limit", c.MaxPendingBytes)
	case c.MaxAge < time.Minute:
		return fmt.Errorf("maxAge %v: it must be at least 1m", c.MaxAge)
	}
	if err := c.Endpoints.Validate(); err != nil {
		return fmt.Errorf("endpoints: %w", err)
	}
	return nil
}

// SinkConfig is one receiver of alerts. Its type is rpc, an AlertSink; webhook;
// slack; issue, a repository of GitHub's; log; or cloudevents, to a URL or a broker, which the scheme of the
// endpoint says.
type SinkConfig struct {
	Name string `yaml:"name"`
	Type string `yaml:"type"`
	// Endpoint is where to: HOST:PORT of an rpc, else a URL. EndpointFile holds
	// the URL of a webhook or slack, where it is a secret as a whole.
	Endpoint     string `yaml:"endpoint"`
	EndpointFile string `yaml:"endpointFile"`
	CAFile       string `yaml:"caFile"`
	CertFile     string `yaml:"certFile"`
	KeyFile      string `yaml:"keyFile"`
	// Credential is the token that is shown; TokenFile is short for one of the
	// type token-file.
	Credential credential.Config `yaml:"credential"`
	TokenFile  string            `yaml:"tokenFile"`
	// Path and Plaintext are for an rpc: see rpc.Config. Audience is what the
	// receiver is called in what is signed for it: an rpc by its endpoint, a
	// webhook by the sink's name, unless this says otherwise.
	Path      string `yaml:"path"`
	Plaintext bool   `yaml:"plaintext"`
	Audience  string `yaml:"audience"`
	// SecretFile and SecretEnv name the secrets that a webhook is signed with,
	// besides the hub's keys.
	SecretFile string `yaml:"secretFile"`
	SecretEnv  string `yaml:"secretEnv"`
	// Topic, Username and PasswordFile are for a broker: see broker.Config.
	Topic        string `yaml:"topic"`
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"passwordFile"`
	// Repository, OWNER/NAME, is where an issue is made, and Label marks it
	// (reeve). The App's key, or the token, is as github has it.
	Repository     string `yaml:"repository"`
	Label          string `yaml:"label"`
	AppID          int64  `yaml:"appID"`
	PrivateKeyFile string `yaml:"privateKeyFile"`
	PrivateKeyEnv  string `yaml:"privateKeyEnv"`
	TokenEnv       string `yaml:"tokenEnv"`
	// ScanPolicies lets ScanPolicies of the clusters name the sink.
	ScanPolicies bool `yaml:"scanPolicies"`
	// Outcomes is all, or named: only those of policies and ScanPolicies that
	// name the sink. Empty: named for what people read, else all.
	Outcomes string `yaml:"outcomes"`
	// The rest is how it is served: see alert.Options.
	Concurrency int           `yaml:"concurrency"`
	Rate        float64       `yaml:"rate"`
	Coalesce    bool          `yaml:"coalesce"`
	Remind      time.Duration `yaml:"remind"`
	Group       time.Duration `yaml:"group"`
}

// The types of sinks.
const (
	rpcSink     = "rpc"
	webhookSink = "webhook"
	slackSink   = "slack"
	issuesSink  = "issue"
	logSink     = "log"
	eventsSink  = "cloudevents"
)

// The values of SinkConfig.Outcomes.
const (
	allOutcomes   = "all"
	namedOutcomes = "named"
)

// people reports whether people read what the sink is told.
func (c SinkConfig) people() bool { return c.Type == slackSink || c.Type == issuesSink }

// hearsAll reports whether the sink is told of every outcome.
func (c SinkConfig) hearsAll() bool {
	return c.Outcomes == allOutcomes || c.Outcomes == "" && !c.people()
}

// slackGroup is how long outcomes are gathered for one message, unless the
// configuration says otherwise.
const slackGroup = 30 * time.Second

func (c SinkConfig) options() alert.Options {
	o := alert.Options{Concurrency: c.Concurrency, Rate: c.Rate, Coalesce: c.Coalesce, People: c.people(), Remind: c.Remind, Group: c.Group}
	if o.People {
		o.Coalesce = true // nobody wants to read what isn't so any more
	}
	switch c.Type {
	case slackSink:
		o.Concurrency = cmp.Or(o.Concurrency, 1)
		o.Group = cmp.Or(o.Group, slackGroup)
	case issuesSink:
		o.Concurrency = cmp.Or(o.Concurrency, issuesAtOnce)
		o.Remind = cmp.Or(o.Remind, github.DefaultPing)
	}
	return o
}

func (c SinkConfig) tls() credential.TLS {
	return credential.TLS{CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile}
}

// token makes the source of the sink's token; nil if it has none.
func (c SinkConfig) token() (*credential.Source, error) {
	cfg := c.Credential
	if c.TokenFile != "" && c.Type != issuesSink {
		if cfg.Type != "" {
			return nil, errors.New("tokenFile: it is there beside a credential; keep one")
		}
		cfg = credential.Config{Type: "token-file", File: c.TokenFile}
	}
	return credential.Known().New(cfg)
}

func (c SinkConfig) rpc(token *credential.Source) rpc.Config {
	return rpc.Config{Endpoint: c.Endpoint, TLS: c.tls(), Token: token, Plaintext: c.Plaintext, Path: c.Path, Audience: c.Audience}
}

func (c SinkConfig) webhook(token *credential.Source) webhook.HookConfig {
	return webhook.HookConfig{URL: c.Endpoint, URLFile: c.EndpointFile, TLS: c.tls(), Token: token, Audience: cmp.Or(c.Audience, c.Name), Secrets: webhook.SecretsIn(c.SecretFile, c.SecretEnv)}
}

func (c SinkConfig) slack(hub string) slack.Config {
	return slack.Config{URL: c.Endpoint, URLFile: c.EndpointFile, TLS: c.tls(), Hub: hub}
}

func (c SinkConfig) tracker() github.TrackerConfig {
	return github.TrackerConfig{
		Repository: c.Repository, Label: c.Label, URL: c.Endpoint, CAFile: c.CAFile, AppID: c.AppID, PrivateKeyFile: c.PrivateKeyFile, PrivateKeyEnv: c.PrivateKeyEnv,
		TokenFile: c.TokenFile, TokenEnv: c.TokenEnv,
	}
}

func (c SinkConfig) http(token *credential.Source) cloudevent.HTTPConfig {
	return cloudevent.HTTPConfig{URL: c.Endpoint, URLFile: c.EndpointFile, TLS: c.tls(), Token: token}
}

func (c SinkConfig) toBroker() bool {
	return c.Type == eventsSink && c.EndpointFile == "" && !strings.HasPrefix(c.Endpoint, "http")
}

func (c SinkConfig) broker() broker.Config {
	return broker.Config{URL: c.Endpoint, Topic: c.Topic, Username: c.Username, PasswordFile: c.PasswordFile, CAFile: c.CAFile}
}

func (c SinkConfig) validate() error {
	token, err := c.token()
	if err == nil {
		err = c.fits()
	}
	if err != nil {
		return err
	}
	switch c.Type {
	case rpcSink:
		err = c.rpc(token).Validate()
	case webhookSink:
		err = c.webhook(token).Validate()
	case slackSink:
		err = c.slack("").Validate()
	case issuesSink:
		err = c.tracker().Validate()
	case eventsSink:
		if c.toBroker() {
			err = c.broker().Validate()
		} else {
			err = c.http(token).Validate()
		}
	case logSink:
	default:
		return fmt.Errorf("type %q: it must be %s, %s, %s, %s, %s or %s", c.Type, rpcSink, webhookSink, slackSink, issuesSink, logSink, eventsSink)
	}
	if err != nil {
		return err
	}
	if c.Outcomes != "" && c.Outcomes != allOutcomes && c.Outcomes != namedOutcomes {
		return fmt.Errorf("outcomes %q: it must be %s or %s", c.Outcomes, allOutcomes, namedOutcomes)
	}
	return c.options().Validate()
}

// fits reports a key that the sink's type has no use for, which would else be
// left out without a word.
func (c SinkConfig) fits() error {
	http := c.Type == webhookSink || c.Type == slackSink || c.Type == eventsSink && !c.toBroker()
	token := c.Type == rpcSink || http && c.Type != slackSink
	for _, k := range []struct {
		key      string
		set, fit bool
	}{
		{"endpoint", c.Endpoint != "", c.Type != logSink},
		{"endpointFile", c.EndpointFile != "", http},
		{"caFile", c.CAFile != "", c.Type != logSink},
		{"certFile", c.CertFile != "" || c.KeyFile != "", c.Type == rpcSink || http},
		{"credential", c.Credential.Type != "" || c.TokenFile != "" && c.Type != issuesSink, token},
		{"path", c.Path != "", c.Type == rpcSink},
		{"plaintext", c.Plaintext, c.Type == rpcSink},
		{"audience", c.Audience != "", c.Type == rpcSink || c.Type == webhookSink},
		{"secretFile", c.SecretFile != "" || c.SecretEnv != "", c.Type == webhookSink},
		{"repository", c.Repository != "", c.Type == issuesSink},
		{"label", c.Label != "", c.Type == issuesSink},
		{"appID", c.AppID != 0, c.Type == issuesSink},
		{"privateKeyFile", c.PrivateKeyFile != "" || c.PrivateKeyEnv != "", c.Type == issuesSink},
		{"tokenEnv", c.TokenEnv != "", c.Type == issuesSink},
		{"group", c.Group != 0, c.Type != issuesSink},
		{"topic", c.Topic != "" || c.Username != "" || c.PasswordFile != "", c.toBroker()},
	} {
		if k.set && !k.fit && c.Type != "" {
			return fmt.Errorf("%s: a sink of the type %s has none", k.key, c.Type)
		}
	}
	if c.Endpoint != "" && c.EndpointFile != "" {
		return errors.New("endpointFile: it is there beside an endpoint; keep one")
	}
	if c.SecretFile != "" && c.SecretEnv != "" {
		return errors.New("secretFile and secretEnv are both there; keep one")
	}
	return nil
}

// closingSink is a sink that has to be closed.
type closingSink interface {
	alert.Sink
	Close() error
}

// openSinks makes the worker that delivers alerts, and what it delivers to.
func (h *Hub) openSinks(cfg Config, callbacks webhook.Config, metrics prometheus.Registerer) (err error) {
	if h.alertKeys, err = sign.Open(context.Background(), h.store, h.ca, h.log.With("component", "alerts")); err != nil {
		return err
	}
	callback := webhook.New(callbacks)
	h.onClose(callback.Close)
	sinks := map[string]alert.Sink{alert.CallbackSink: callback}
	options := map[string]alert.Options{alert.CallbackSink: {Many: true}}
	for _, c := range cfg.Sinks {
		s, err := h.openSink(c)
		if err != nil {
			return fmt.Errorf("sink %s: %w", c.Name, err)
		}
		h.onClose(s.Close)
		sinks[c.Name], options[c.Name] = s, c.options()
	}
	h.store.TellAllEnds(eventSinks(cfg.Sinks))
	h.store.TellGone(cfg.tellsGone)
	h.store.LimitAlerts(cfg.Alerts.MaxPending, cfg.Alerts.MaxPendingBytes)
	for _, r := range cfg.Remediation {
		options[remedySink+r.Hook] = alert.Options{Many: true}
		sinks[remedySink+r.Hook] = remedies{hook: r.Hook, scans: h.store.Scan, agents: h.agents, audit: h.audit.add}
	}
	for _, hook := range cfg.fixes() {
		options[remedySink+hook] = alert.Options{Many: true}
		sinks[remedySink+hook] = remedies{hook: hook, scans: h.store.Scan, agents: h.agents, audit: h.audit.add}
	}
	if cfg.Database.URL != "" {
		if h.holder, err = replicaID(cfg.DataDir); err != nil {
			return err
		}
	}
	if err := h.openGitHub(cfg, sinks, options); err != nil {
		return err
	}
	h.silences = &silences{store: h.store, hold: h.hold}
	h.alert = alert.NewWorker(alert.Config{
		Store: h.store, Sinks: sinks, Options: options, Hold: h.silences.until, Holder: h.holder, MaxAge: cfg.Alerts.MaxAge,
		Families: map[string]alert.Family{rpc.EndpointSink: h.chosen(cfg.Alerts.Endpoints)},
		Logger:   h.log.With("component", "alerts"), Registerer: metrics,
	})
	return nil
}

func (h *Hub) openSink(c SinkConfig) (closingSink, error) {
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	switch c.Type {
	case rpcSink:
		r := c.rpc(token)
		r.Sign = h.alertKeys.Envelope
		return rpc.New(r)
	case webhookSink:
		w := c.webhook(token)
		w.Sign = h.alertKeys.Webhook
		return webhook.NewHook(w)
	case slackSink:
		return slack.New(c.slack(h.public))
	case issuesSink:
		return h.openTracker(c)
	case logSink:
		return alert.Log{Logger: h.log.With("component", "outcomes")}, nil
	}
	cfg := cloudevent.Config{Source: h.public, Describe: h.describe}
	if c.toBroker() {
		topic := broker.NewTopic(c.broker())
		cfg.Send, cfg.Close = topic.Send, topic.Close
		return cloudevent.New(cfg), nil
	}
	cfg.Send, cfg.Close, err = cloudevent.HTTP(c.http(token))
	return cloudevent.New(cfg), err
}

// chosen makes the sinks that others have chosen, where the operator lets
// them: they get no credential of ours, and lead to public addresses alone.
func (h *Hub) chosen(allowed rpc.Endpoints) alert.Family {
	return func(name string) (alert.Sink, alert.Options, error) {
		endpoint := strings.TrimPrefix(name, rpc.EndpointSink)
		if err := allowed.Permit(endpoint); err != nil {
			return nil, alert.Options{}, err
		}
		s, err := rpc.New(rpc.Config{Endpoint: endpoint, Untrusted: true, Sign: h.alertKeys.Envelope})
		if err != nil {
			return nil, alert.Options{}, err
		}
		return s, alert.Options{Concurrency: 4}, nil
	}
}

// describe tells events of the scan that a run was.
func (h *Hub) describe(ctx context.Context, run string) (*cloudevent.Scan, error) {
	s, err := h.store.Scan(ctx, scan.ID(run))
	if errors.Is(err, scan.ErrNotFound) {
		return nil, nil
	}
	return &cloudevent.Scan{Status: string(s.Status), Told: api.FromScan(s)}, err
}

// tellsGone reports whether a sink is told of subjects that aren't checked any
// more. The draft of AlertSink has no word for it but pass or fail, and a hook has
// nothing to act on.
func (c Config) tellsGone(sink string) bool {
	for _, s := range c.Sinks {
		if s.Name == sink {
			return s.Type != rpcSink
		}
	}
	return strings.HasPrefix(sink, issueSink)
}

// eventSinks are those that hear of every scan's end.
func eventSinks(cfgs []SinkConfig) (names []string) {
	for _, c := range cfgs {
		if c.Type == eventsSink && c.hearsAll() {
			names = append(names, c.Name)
		}
	}
	return names
}

// sinkNames are those that are told of every outcome.
func sinkNames(cfgs []SinkConfig) (names []string) {
	for _, c := range cfgs {
		if c.hearsAll() {
			names = append(names, c.Name)
		}
	}
	return names
}

// alerting is what the API needs besides the outbox.
func (h *Hub) alerting(cfgs []SinkConfig) api.Alerting {
	sinks := map[string]api.ConfiguredSink{}
	for _, c := range cfgs {
		sinks[c.Name] = api.ConfiguredSink{Type: c.Type, People: c.people()}
	}
	return api.Alerting{Runs: h.store, Silences: h.store, Silenced: h.silences.forget, Keys: h.alertKeys, Sinks: sinks}
}

// silences hold people's channels, and so do policies' schedules.
type silences struct {
	store alert.Silences
	hold  func(ctx context.Context, sink string, o fleet.Outcome) (time.Time, string)

	mu   sync.Mutex
	all  []alert.Silence // guarded by mu
	read time.Time       // guarded by mu
}

// silencesFor is how long another replica's silence may go unnoticed.
const silencesFor = 5 * time.Second

// until implements alert.Config's Hold.
func (s *silences) until(ctx context.Context, sink string, o fleet.Outcome) (time.Time, string) {
	now := time.Now()
	until, why := s.hold(ctx, sink, o)
	for _, v := range s.known(ctx, now) {
		if v.Covers(sink, o, now) && v.Until.After(until) {
			until, why = v.Until, fmt.Sprintf("silenced by %s: %s", v.CreatedBy, v.Comment)
		}
	}
	return until, why
}

func (s *silences) known(ctx context.Context, now time.Time) []alert.Silence {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.read) > silencesFor {
		if all, err := s.store.Silences(ctx, now); err == nil { // else those known before
			s.all, s.read = all, now
		}
	}
	return s.all
}

// forget has them read again at once.
func (s *silences) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = time.Time{}
}
