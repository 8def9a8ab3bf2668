package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/insight/amqp"
	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/internal/config"
	"reeve.dev/reeve/internal/spool"
	scankube "reeve.dev/reeve/scan/kube"
	"reeve.dev/reeve/tunnel"
)

// Config is an agent's configuration file. Every key is also in the
// environment, as REEVE_AGENT_ and the key.
type Config struct {
	Hub HubConfig `yaml:"hub"`
	// DataDir holds the agent's key, its certificate and what it has yet to
	// deliver. It must survive a restart, or undelivered results are lost.
	DataDir string `yaml:"dataDir"`
	// Annotations are shown wherever the agent is.
	Annotations map[string]string `yaml:"annotations"`
	// Services are the upstreams that callers of the hub may reach.
	Services []forward.Upstream `yaml:"services"`
	// IncomingServices are ports of this machine that lead to services of the
	// hub or of another agent.
	IncomingServices []forward.Incoming `yaml:"incomingServices"`
	// Access is what the cluster's owner allows the hub's callers.
	Access AccessConfig `yaml:"access"`
	// BirgerServices is a services file of Birger's agent, whose services and
	// annotations are added.
	BirgerServices string        `yaml:"birgerServices"`
	Scan           ScanConfig    `yaml:"scan"`
	Insights       InsightConfig `yaml:"insights"`
	Events         EventConfig   `yaml:"events"`
	// Remediation is what may be done because of outcomes; nothing, unless it
	// has hooks.
	Remediation RemediationConfig `yaml:"remediation"`
	Log         LogConfig         `yaml:"log"`
	// Metrics is the address of /metrics, /healthz and /readyz; empty for none.
	Metrics string `yaml:"metrics"`
	// Kubeconfig is the file for the cluster that the agent scans and
	// collects from; empty for the pod's service account or kubectl's default.
	Kubeconfig string `yaml:"kubeconfig"`
	// Tracer makes traces of forwarded requests; nil: none are made.
	Tracer trace.Tracer `yaml:"-"`
	// SBOM writes the SBOM (CycloneDX, in JSON) of a target, which runs the image
	// of a name and a digest; nil: this build of the agent makes none.
	SBOM func(ctx context.Context, t target.Target, name, digest string, w io.Writer) error `yaml:"-"`
}

// AccessConfig says who may call what of this agent's services. What none of
// the rules is for, the hub decides.
type AccessConfig struct {
	Rules []forward.Rule `yaml:"rules"`
}

// HubConfig says where the hub is and how to join it the first time.
type HubConfig struct {
	URL string `yaml:"url"`
	// URLs are further addresses, those of the hub's replicas: each carrier
	// prefers another one, and takes any while that is away.
	URLs []string `yaml:"urls"`
	// CarrierCount is how many connections to the hub there are: two survive
	// the loss of one, and large bodies side by side get more of them.
	CarrierCount int `yaml:"carrierCount"`
	// JoinTokenFile and JoinTokenEnv name where the one-time token is; they
	// are read only while the agent has no certificate.
	JoinTokenFile string           `yaml:"joinTokenFile"`
	JoinTokenEnv  string           `yaml:"joinTokenEnv"`
	Carriers      []tunnel.Carrier `yaml:"carriers"`
}

const maxCarriers = 4

// all are the hub's addresses.
func (c HubConfig) all() []string {
	if c.URL == "" || slices.Contains(c.URLs, c.URL) {
		return c.URLs
	}
	return append([]string{c.URL}, c.URLs...)
}

// ScanConfig says what the cluster's owner allows the hub to scan.
type ScanConfig struct {
	// Targets are kinds: k8s-container, archive, image, dir, chroot, local,
	// shell. The last three let the hub's callers run commands as the agent.
	Targets []string `yaml:"targets"`
	// Jobs is how many scans run at once.
	Jobs int `yaml:"jobs"`
	// RBAC is perScan, for a service account of its own for each scan of a
	// container, or none: it is scanned with the agent's rights.
	RBAC string `yaml:"rbac"`
	// Resources has the objects of the group reeve.dev carried out.
	Resources bool `yaml:"resources"`
	// Ephemeral is what ephemeral containers are made of.
	Ephemeral EphemeralConfig `yaml:"ephemeral"`
}

// EphemeralConfig says what ephemeral containers are made of; without an image
// there are none.
type EphemeralConfig struct {
	Image      string `yaml:"image"`
	PullPolicy string `yaml:"pullPolicy"`
	// Capabilities are given beside the container runtime's own ones.
	Capabilities []string `yaml:"capabilities"`
}

// The values of ScanConfig.RBAC.
const (
	rbacPerScan = "perScan"
	rbacNone    = "none"
)

// EventConfig says what the hub is told of as it happens.
type EventConfig struct {
	// Deployed watches the cluster's pods for images that weren't run before.
	Deployed bool `yaml:"deployed"`
}

// InsightConfig says how workloads hand in facts, problems and SBOMs.
type InsightConfig struct {
	// Listen is the address for facts and problems; empty for none.
	Listen string `yaml:"listen"`
	// TokenSecretFile and TokenSecretEnv name where the secret is that the
	// namespaces' tokens are signed with.
	TokenSecretFile string `yaml:"tokenSecretFile"`
	TokenSecretEnv  string `yaml:"tokenSecretEnv"`
	// ConfigMaps turns the watch for labelled ConfigMaps on.
	ConfigMaps bool `yaml:"configMaps"`
	// Tokens gives each Lagoon namespace a Secret with its token.
	Tokens bool `yaml:"tokens"`
	// OldTokenSecretFile and OldTokenSecretEnv name a secret by which tokens are
	// still taken, but made no more.
	OldTokenSecretFile string `yaml:"oldTokenSecretFile"`
	OldTokenSecretEnv  string `yaml:"oldTokenSecretEnv"`
	// TokenLife is how long a token is good; it is renewed in its Secret when a
	// third of that is left. 0: for ever.
	TokenLife time.Duration `yaml:"tokenLife"`
	// TokenLabel narrows the namespaces that get a token to those that have it.
	TokenLabel string `yaml:"tokenLabel"`
	// Inventory reports what runs in the cluster, and how many insights wait.
	Inventory bool `yaml:"inventory"`
	// BurnAfterReading deletes a ConfigMap once it is safe on the disk: at once,
	// or at the next time of BurnSchedule, a cron line.
	BurnAfterReading bool   `yaml:"burnAfterReading"`
	BurnSchedule     string `yaml:"burnSchedule"`
	// DeferFor is how long a ConfigMap waits that couldn't be taken, MaxRetries
	// after how many tries it is given up (0: never), and Concurrent how many
	// are looked at at once.
	DeferFor   time.Duration `yaml:"deferFor"`
	MaxRetries int           `yaml:"maxRetries"`
	Concurrent int           `yaml:"concurrent"`
	// Leader lets one of several agents of a cluster take the ConfigMaps and
	// keep the tokens.
	Leader LeaderConfig `yaml:"leader"`
	// TLS is the certificate that listen has; none for plain HTTP.
	TLS TLSConfig `yaml:"tls"`
	// Broker is Lagoon's, to which everything goes as well as to the hub; or
	// instead of it where there is no hub.url.
	Broker amqp.Config `yaml:"broker"`
	// BrokerAll lets also those ConfigMaps go to the broker that aren't
	// annotated core.insights.lagoon.sh/enabled=true.
	BrokerAll bool `yaml:"brokerAll"`
	// Spool bounds what waits on the disk.
	Spool SpoolConfig `yaml:"spool"`
}

// LeaderConfig names the Lease by which a leader is elected; none without a
// name. Namespace is the pod's unless it is given.
type LeaderConfig struct {
	Lease     string `yaml:"lease"`
	Namespace string `yaml:"namespace"`
}

// TLSConfig names a certificate and its key, which are read again when they
// change.
type TLSConfig struct {
	CertFile string `yaml:"certFile"`
	KeyFile  string `yaml:"keyFile"`
}

// SpoolConfig bounds a spool; 0 is the default.
type SpoolConfig struct {
	MaxItems int   `yaml:"maxItems"`
	MaxBytes int64 `yaml:"maxBytes"`
}

// LogConfig is how the agent logs: Level debug, info, warn or error; Format
// text or json.
type LogConfig struct {
	Level  slog.Level `yaml:"level"`
	Format string     `yaml:"format"`
}

// Defaults of a Config.
func Defaults() Config {
	return Config{
		DataDir:  "/var/lib/reeve-agent",
		Scan:     ScanConfig{Targets: []string{"k8s-container"}, Jobs: 2, RBAC: rbacPerScan, Ephemeral: EphemeralConfig{Capabilities: scankube.DefaultCapabilities}},
		Hub:      HubConfig{JoinTokenEnv: "REEVE_JOIN_TOKEN", Carriers: tunnel.DefaultCarriers, CarrierCount: 2},
		Log:      LogConfig{Format: "text"},
		Metrics:  "127.0.0.1:9090",
		Insights: InsightConfig{Spool: SpoolConfig{MaxItems: spool.DefaultMaxItems, MaxBytes: spool.DefaultMaxBytes}},
	}
}

// LoadConfig reads the configuration file at path (none if it is empty) and
// the environment.
func LoadConfig(path string) (Config, error) {
	cfg, err := ReadConfig(path)
	if err != nil {
		return Config{}, err
	}
	return cfg, cfg.Validate()
}

// ReadConfig is LoadConfig for those who only look: it may lack what an agent
// needs.
func ReadConfig(path string) (Config, error) {
	cfg := Defaults()
	err := config.Load(path, "REEVE_AGENT", &cfg)
	return cfg, err
}

// withBirger adds what is in the services file of Birger's agent. notes are
// for the log. What this configuration says itself comes first.
func (c Config) withBirger() (_ Config, notes []string, err error) {
	if c.BirgerServices == "" {
		return c, nil, nil
	}
	b, err := forward.ReadBirger(c.BirgerServices)
	if err != nil {
		return c, nil, fmt.Errorf("birgerServices: %w", err)
	}
	c.Services = slices.Concat(c.Services, b.Upstreams)
	c.IncomingServices = slices.Concat(c.IncomingServices, b.Incoming)
	annotations := maps.Clone(b.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	maps.Copy(annotations, c.Annotations)
	c.Annotations, c.BirgerServices = annotations, ""
	return c, b.Notes, c.Validate()
}

// targetKinds are the kinds that scan.targets may name.
var targetKinds = []string{"k8s-container", "archive", "image", "dir", "chroot", "local", "shell"}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if !strings.HasPrefix(c.Hub.URL, "https://") && (c.Hub.URL != "" || len(c.Hub.URLs) == 0) && !c.hubless() {
		errs = append(errs, fmt.Errorf("hub.url %q: it must be https://HOST:PORT of the hub's API port", c.Hub.URL))
	}
	for i, u := range c.Hub.URLs {
		if !strings.HasPrefix(u, "https://") {
			errs = append(errs, fmt.Errorf("hub.urls[%d] %q: it must be https://HOST:PORT of the hub's API port", i, u))
		}
	}
	if n := c.Hub.CarrierCount; n < 1 || n > maxCarriers {
		errs = append(errs, fmt.Errorf("hub.carrierCount %d: it must be between 1 and %d", n, maxCarriers))
	}
	if c.DataDir == "" {
		errs = append(errs, errors.New("dataDir: it must name a folder that survives restarts"))
	}
	for i, carrier := range c.Hub.Carriers {
		if carrier != tunnel.WebSocket && carrier != tunnel.RawTLS {
			errs = append(errs, fmt.Errorf("hub.carriers[%d] %q: it must be %s or %s", i, carrier, tunnel.WebSocket, tunnel.RawTLS))
		}
	}
	seen := map[string]bool{}
	for i, s := range c.Services {
		if err := s.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("services[%d]: %w", i, err))
		}
		key := string(s.Type) + "/" + string(s.Name)
		if seen[key] {
			errs = append(errs, fmt.Errorf("services[%d]: %s is there twice", i, key))
		}
		seen[key] = true
	}
	ports := map[string]bool{}
	for i, s := range c.IncomingServices {
		if err := s.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("incomingServices[%d]: %w", i, err))
		}
		if s.Port != 0 && ports[s.Listen()] {
			errs = append(errs, fmt.Errorf("incomingServices[%d]: %s is there twice", i, s.Listen()))
		}
		ports[s.Listen()] = true
	}
	if _, err := forward.NewRules(c.Access.Rules); err != nil {
		errs = append(errs, fmt.Errorf("access.%w", err))
	}
	for i, r := range c.Access.Rules {
		if len(r.Agents) > 0 || r.Who.Anonymous || r.Record || r.AnswerWithin != 0 {
			errs = append(errs, fmt.Errorf("access.rules[%d]: agents, who.anonymous, record and answerWithin are for the hub's rules", i))
		}
	}
	for i, kind := range c.Scan.Targets {
		if !slices.Contains(targetKinds, kind) {
			errs = append(errs, fmt.Errorf("scan.targets[%d] %q: it must be one of %s", i, kind, strings.Join(targetKinds, ", ")))
		}
	}
	if c.Scan.Jobs < 1 {
		errs = append(errs, fmt.Errorf("scan.jobs %d: it must be at least 1", c.Scan.Jobs))
	}
	if r := c.Scan.RBAC; r != rbacPerScan && r != rbacNone {
		errs = append(errs, fmt.Errorf("scan.rbac %q: it must be %s or %s", r, rbacPerScan, rbacNone))
	}
	if p := c.Scan.Ephemeral.PullPolicy; p != "" && p != "Always" && p != "IfNotPresent" && p != "Never" {
		errs = append(errs, fmt.Errorf("scan.ephemeral.pullPolicy %q: it must be Always, IfNotPresent or Never", p))
	}
	for i, name := range c.Scan.Ephemeral.Capabilities {
		if name == "" || strings.HasPrefix(name, "CAP_") || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != "" {
			errs = append(errs, fmt.Errorf("scan.ephemeral.capabilities[%d] %q: it must be the name of a capability without CAP_, such as SYS_PTRACE", i, name))
		}
	}
	errs = append(errs, c.Insights.validate()...)
	if err := c.Remediation.validate(); err != nil {
		errs = append(errs, err)
	}
	if f := c.Log.Format; f != "text" && f != "json" {
		errs = append(errs, fmt.Errorf("log.format %q: it must be text or json", f))
	}
	return errors.Join(errs...)
}

// upstreams are the services; a cluster without a kubeconfig of its own has
// the agent's.
func (c Config) upstreams() []forward.Upstream {
	out := slices.Clone(c.Services)
	for i := range out {
		if out[i].Type == fleet.Kubernetes && out[i].KubeConfig == "" {
			out[i].KubeConfig = c.Kubeconfig
		}
	}
	return out
}

// secret reads a secret from the file or, without one, the environment
// variable that a configuration names. It answers "" when neither is set.
func secret(file, env string) (string, error) {
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		return strings.TrimSpace(string(text)), nil
	}
	if env != "" {
		return strings.TrimSpace(os.Getenv(env)), nil
	}
	return "", nil
}
