package hub

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/webhook"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/internal/config"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/pki/oidc"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/policy/github"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store/postgres"
)

// Config is a hub's configuration file. Every key is also in the environment,
// as REEVE_HUB_ and the key.
type Config struct {
	// DataDir holds the database and the documents, unless Database and
	// Documents say otherwise. Each replica has one of its own.
	DataDir string `yaml:"dataDir"`
	// Database is one that several replicas of the hub share.
	Database DatabaseConfig `yaml:"database"`
	// Documents is the folder, or the bucket, that the replicas share.
	Documents DocumentsConfig `yaml:"documents"`
	// Replica says where the other replicas reach this one.
	Replica ReplicaConfig `yaml:"replica"`
	// CADir is what `reeve ca init` made.
	CADir  string       `yaml:"caDir"`
	Listen ListenConfig `yaml:"listen"`
	// Names are the DNS names and IP addresses under which agents and callers
	// reach the hub, for its certificate; localhost is always added.
	Names []string `yaml:"names"`
	// PublicURL is where callers reach the API, ServicesURL where they reach
	// services; empty takes the first name and the port that is listened on.
	PublicURL   string `yaml:"publicURL"`
	ServicesURL string `yaml:"servicesURL"`
	// Profiles and Thresholds name folders of the operator's own, which come
	// before the shipped ones of the same name.
	Profiles   DirConfig       `yaml:"profiles"`
	Thresholds DirConfig       `yaml:"thresholds"`
	Sinks      []SinkConfig    `yaml:"sinks"`
	Alerts     AlertConfig     `yaml:"alerts"`
	Scan       ScanConfig      `yaml:"scan"`
	Events     EventConfig     `yaml:"events"`
	Insights   InsightConfig   `yaml:"insights"`
	Callbacks  CallbackConfig  `yaml:"callbacks"`
	Retention  RetentionConfig `yaml:"retention"`
	// Policies are checks of what runs, and where their outcomes go.
	Policies []policy.Policy `yaml:"policies"`
	// GitHub are those whose repositories are checked.
	GitHub []github.Config `yaml:"github"`
	// Remediation says which outcomes agents' hooks are told of; none: nothing
	// is ever done because of one.
	Remediation  []RemedyRule      `yaml:"remediation"`
	Certificates CertificateConfig `yaml:"certificates"`
	Access       AccessConfig      `yaml:"access"`
	// OIDC is an issuer by which people log in, and programs call.
	OIDC   oidc.Config    `yaml:"oidc"`
	Limits forward.Limits `yaml:"limits"`
	// Grace is how long what is forwarded may go on once the hub is to stop.
	Grace time.Duration `yaml:"grace"`
	// Services are those of the hub itself: callers reach them as those of an
	// agent of the name hub, and agents as far as IncomingServices lets them.
	Services         []forward.Upstream     `yaml:"services"`
	IncomingServices []forward.IncomingRule `yaml:"incomingServices"`
	Audit            AuditConfig            `yaml:"audit"`
	Log              LogConfig              `yaml:"log"`
	// Tracer makes traces of forwarded requests; nil: none are made.
	Tracer trace.Tracer `yaml:"-"`
}

// ListenConfig has the addresses of the ports; port 0 takes any. Replicas is
// only for a hub with a database that is shared.
type ListenConfig struct {
	API      string `yaml:"api"`
	Services string `yaml:"services"`
	Metrics  string `yaml:"metrics"`
	Replicas string `yaml:"replicas"`
}

// DirConfig names a folder; empty means none.
type DirConfig struct {
	Dir string `yaml:"dir"`
}

// DatabaseConfig is a PostgreSQL database; none if URL is empty. The password
// is in the file or variable named, or in what libpq reads (~/.pgpass).
type DatabaseConfig struct {
	URL            string `yaml:"url"`
	PasswordFile   string `yaml:"passwordFile"`
	PasswordEnv    string `yaml:"passwordEnv"`
	MaxConnections int    `yaml:"maxConnections"`
}

// ReplicaConfig has the HOST:PORT where the other replicas reach this one, or
// its IP address alone for the port that is listened on; empty takes the host's
// name and that port.
type ReplicaConfig struct {
	Address string `yaml:"address"`
}

// ScanConfig tunes the queue of scans: how long an agent may be silent, how
// often a scan is tried, and how long it may wait for its agent.
type ScanConfig struct {
	LeaseFor    time.Duration `yaml:"leaseFor"`
	MaxAttempts int           `yaml:"maxAttempts"`
	QueueFor    time.Duration `yaml:"queueFor"`
}

// CallbackConfig says where callbacks may go.
type CallbackConfig struct {
	// AllowPrivate lets them go to private and loopback addresses.
	AllowPrivate bool `yaml:"allowPrivate"`
	// SecretFile and SecretEnv name where the secrets are that callbacks are
	// signed with which have none of their own; none: those aren't signed.
	SecretFile string `yaml:"secretFile"`
	SecretEnv  string `yaml:"secretEnv"`
}

// webhook is how callbacks are made for callers that reach the API at public.
func (c CallbackConfig) webhook(public string) webhook.Config {
	return webhook.Config{PublicURL: public, AllowPrivate: c.AllowPrivate, Secrets: webhook.SecretsIn(c.SecretFile, c.SecretEnv)}
}

func (c CallbackConfig) validate() error {
	if c.SecretFile != "" && c.SecretEnv != "" {
		return errors.New("callbacks: secretFile and secretEnv are both there; keep one")
	}
	if read := c.webhook("").Secrets; read != nil {
		if _, err := read(); err != nil {
			return fmt.Errorf("callbacks.secretFile or secretEnv: %w", err)
		}
	}
	return nil
}

// CertificateConfig has the life of agents' certificates, and for how long
// after it an agent that was away can still renew by itself; after that it
// needs a new join token.
type CertificateConfig struct {
	AgentLife  time.Duration `yaml:"agentLife"`
	AgentGrace time.Duration `yaml:"agentGrace"`
}

// LogConfig is how the hub logs: Level debug, info, warn or error; Format
// text or json.
type LogConfig struct {
	Level  slog.Level `yaml:"level"`
	Format string     `yaml:"format"`
}

// Defaults of a Config.
func Defaults() Config {
	return Config{
		DataDir:      "/var/lib/reeve-hub",
		CADir:        "/etc/reeve/ca",
		Database:     DatabaseConfig{MaxConnections: postgres.DefaultConnections},
		Listen:       ListenConfig{API: ":8443", Services: ":9443", Metrics: ":9090", Replicas: ":7443"},
		Scan:         ScanConfig{LeaseFor: scan.DefaultLeaseFor, MaxAttempts: scan.DefaultMaxAttempts, QueueFor: scan.DefaultQueueFor},
		Certificates: CertificateConfig{AgentLife: pki.AgentLife, AgentGrace: pki.AgentGrace},
		Events:       defaultEvents(),
		Alerts:       defaultAlerts(),
		Insights:     InsightConfig{BrokerCluster: "lagoon"},
		Grace:        20 * time.Second,
		Audit:        defaultAudit(),
		OIDC:         oidc.Defaults(),
		Retention:    defaultRetention(),
		Log:          LogConfig{Format: "text"},
	}
}

// LoadConfig reads the configuration file at path (none if it is empty) and
// the environment.
func LoadConfig(path string) (Config, error) {
	cfg := Defaults()
	if err := config.Load(path, "REEVE_HUB", &cfg); err != nil {
		return Config{}, err
	}
	return cfg, cfg.Validate()
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.DataDir == "" {
		bad("dataDir: it must name a folder that survives restarts")
	}
	for _, err := range c.Insights.validate() {
		bad("insights.%w", err)
	}
	if c.CADir == "" {
		bad("caDir: it must name the folder that `reeve ca init` made")
	}
	for _, l := range []struct{ key, addr string }{{"api", c.Listen.API}, {"services", c.Listen.Services}, {"metrics", c.Listen.Metrics}} {
		if _, _, err := net.SplitHostPort(l.addr); err != nil {
			bad("listen.%s %q: it must be HOST:PORT or :PORT", l.key, l.addr)
		}
	}
	for _, u := range []struct{ key, url string }{{"publicURL", c.PublicURL}, {"servicesURL", c.ServicesURL}} {
		if u.url != "" && (!strings.HasPrefix(u.url, "https://") || strings.HasSuffix(u.url, "/")) {
			bad("%s %q: it must be https://HOST:PORT, without a slash at the end", u.key, u.url)
		}
	}
	errs = append(errs, c.validateReplicas()...)
	seen := map[string]bool{}
	for i, s := range c.Sinks {
		if err := alert.ValidateSink(s.Name); err != nil {
			bad("sinks[%d].name: %w", i, err)
		}
		if seen[s.Name] {
			bad("sinks[%d].name: %q is there twice", i, s.Name)
		}
		seen[s.Name] = true
		if err := s.validate(); err != nil {
			bad("sinks[%d].%w", i, err)
		}
	}
	if err := c.Alerts.validate(); err != nil {
		bad("alerts.%w", err)
	}
	if err := c.Access.validate(c.Names); err != nil {
		errs = append(errs, err)
	}
	if err := c.Events.validate(); err != nil {
		errs = append(errs, err)
	}
	if err := c.OIDC.Validate(); err != nil {
		errs = append(errs, err)
	}
	if err := c.Audit.validate(); err != nil {
		errs = append(errs, err)
	}
	if err := c.Callbacks.validate(); err != nil {
		errs = append(errs, err)
	}
	for i, r := range c.Remediation {
		if err := r.validate(); err != nil {
			bad("remediation[%d].%w", i, err)
		}
	}
	errs = append(errs, c.validateGitHub()...)
	if err := policy.Validate(c.Policies, c.policySinks()); err != nil {
		errs = append(errs, err)
	}
	if err := c.Retention.validate(); err != nil {
		errs = append(errs, err)
	}
	if err := c.Limits.Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.Scan.LeaseFor < time.Second {
		bad("scan.leaseFor %v: it must be at least 1s", c.Scan.LeaseFor)
	}
	if c.Scan.MaxAttempts < 1 {
		bad("scan.maxAttempts %d: it must be at least 1", c.Scan.MaxAttempts)
	}
	if c.Scan.QueueFor < time.Second {
		bad("scan.queueFor %v: it must be at least 1s", c.Scan.QueueFor)
	}
	if c.Certificates.AgentLife < time.Minute {
		bad("certificates.agentLife %v: it must be at least 1m", c.Certificates.AgentLife)
	}
	if c.Certificates.AgentGrace < 0 {
		bad("certificates.agentGrace %v: it must not be negative", c.Certificates.AgentGrace)
	}
	if c.Grace < 0 {
		bad("grace %v: it must not be negative", c.Grace)
	}
	services := map[string]bool{}
	for i, s := range c.Services {
		if err := s.Validate(); err != nil {
			bad("services[%d]: %w", i, err)
		}
		key := string(s.Type) + "/" + string(s.Name)
		if services[key] {
			bad("services[%d]: %s is there twice", i, key)
		}
		services[key] = true
	}
	for i, r := range c.IncomingServices {
		if err := r.Validate(); err != nil {
			bad("incomingServices[%d]: %w", i, err)
		}
	}
	if f := c.Log.Format; f != "text" && f != "json" {
		bad("log.format %q: it must be text or json", f)
	}
	return errors.Join(errs...)
}
