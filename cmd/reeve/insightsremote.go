package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/internal/telemetry"
	"reeve.dev/reeve/internal/version"
)

// remoteFlag is a flag of Lagoon's insights-remote with the variable that wins
// over it.
type remoteFlag struct {
	name, env, value, usage string
}

// The flags of insights-remote, as of v0.0.19. Those whose usage begins with
// "accepted" have no effect.
var remoteFlags = []remoteFlag{
	{"data-dir", "REEVE_AGENT_DATA_DIR", agent.Defaults().DataDir, "reeve's own: `folder` for what waits for the broker; a volume that survives the pod, or it is lost with it"},
	{"kubeconfig", "", "", "`file` for the cluster (default: the pod's account, or kubectl's)"},

	{"enable-configmap-reconciler", "ENABLE_CONFIGMAP_RECONCILER", "true", "take labelled ConfigMaps"},
	{"burn-after-reading", "BURN_AFTER_READING", "false", "delete a ConfigMap once it is safe"},
	{"clear-configmap-sched", "CLEAR_CONFIGMAP_SCHED", "* * * * *", "cron `line`: when ConfigMaps are deleted"},
	{"enable-insights-deferred", "ENABLE_INSIGHTS_DEFERRED", "false", "accepted: what was deferred is always tried again"},
	{"configmap-reconciler-max-retries", "CONFIGMAP_RECONCILER_MAX_RETRIES", "0", "give a ConfigMap up after so many retries (default: never; the broker's absence isn't one)"},
	{"configmap-reconciler-mins-between-retries", "CONFIGMAP_RECONCILER_MINS_BETWEEN_RETRIES", "3", "minutes between retries"},
	{"configmap-reconciler-max-concurrent", "CONFIGMAP_RECONCILER_MAX_CONCURRENT", "1", "ConfigMaps at once"},

	{"enable-namespace-reconciler", "ENABLE_NAMESPACE_RECONCILER", "true", "keep a token in each environment's namespace"},
	{"enable-webservice", "ENABLE_WEBSERVICE", "true", "take facts and problems by HTTP"},
	{"webservice-port", "WEBSERVICE_PORT", "8888", "`port` for them"},
	{"insights-token-secret", "INSIGHTS_TOKEN_SECRET", "", "`secret` that tokens are signed with; better in the variable"},
	{"token-target-label", "TOKEN_TARGET_LABEL", "", "only namespaces with this `label` get a token"},

	{"leader-elect", "", "false", "let one of several work at a time, insights-remotes among them"},
	{"metrics-bind-address", "", "0", "`address` of /metrics; 0 for none"},
	{"metrics-secure", "", "true", "accepted: metrics are plain HTTP"},
	{"enable-http2", "", "false", "accepted"},
	{"health-probe-bind-address", "", ":8081", "`address` of /healthz and /readyz"},

	{"rabbitmq-enabled", "RABBITMQ_ENABLED", "true", "send to the broker"},
	{"rabbitmq-username", "RABBITMQ_USERNAME", "guest", "`user` at the broker"},
	{"rabbitmq-password", "RABBITMQ_PASSWORD", "guest", "`password`; better in the variable"},
	{"rabbitmq-hostname", "RABBITMQ_ADDRESS", "localhost", "broker's `host` or host:port"},
	{"rabbitmq-port", "RABBITMQ_PORT", "", "broker's `port`, if the host has none"},
	{"rabbitmq-tls", "RABBITMQ_TLS", "false", "by TLS"},
	{"rabbitmq-verify", "RABBITMQ_VERIFY", "false", "verify the broker's certificate"},
	{"rabbitmq-cacert", "RABBITMQ_CACERT", "", "CA's `file`"},
	{"rabbitmq-clientcert", "RABBITMQ_CLIENTCERT", "", "client certificate's `file`"},
	{"rabbitmq-clientkey", "RABBITMQ_CLIENTKEY", "", "its key's `file`"},
	{"rabbitmq-reconnect-retry-interval", "", "30", "accepted: pauses grow to half a minute"},

	{"generate-token-only", "", "false", "print a token and end"},
	{"generate-token-only-namespace", "", "", "its `namespace`"},
	{"generate-token-only-environment-id", "", "", "its environment's `id`"},
	{"generate-token-only-project-name", "", "", "its `project`"},
	{"generate-token-only-environment-name", "", "", "its `environment`"},

	{"enable-build-scanner", "ENABLE_BUILD_SCANNING", "false", "refused: reeve has none"},
	{"build-scanner-image", "BUILD_SCANNER_IMAGE", "", "accepted"},
	{"build-scanner-extra-env", "BUILD_SCANNER_EXTRA_ENV_VARS", "", "accepted"},
	{"enable-dependency-track-integration", "ENABLE_DEPENDENCY_TRACK_INTEGRATION", "false", "refused: reeve has none"},
	{"dependency-track-api-endpoint", "DEPENDENCY_TRACK_API_ENDPOINT", "", "accepted"},
	{"dependency-track-api-key", "DEPENDENCY_TRACK_API_KEY", "", "accepted"},
	{"dependency-track-root-project-name-template", "", "", "accepted"},
	{"dependency-track-parent-project-name-template", "", "", "accepted"},
	{"dependency-track-project-name-template", "", "", "accepted"},
	{"dependency-track-version-template", "", "", "accepted"},
	{"dependency-track-push-prod-only", "", "true", "accepted"},

	{"zap-devel", "", "true", "accepted"},
	{"zap-encoder", "", "console", "`format` of the log: json or console"},
	{"zap-log-level", "", "info", "`level` of the log: debug, info or error"},
	{"zap-stacktrace-level", "", "", "accepted"},
	{"zap-time-encoding", "", "", "accepted"},
}

// remoteLease is insights-remote's own, so that the two exclude each other.
const remoteLease = "ac8a682b.lagoon.sh"

func newInsightsRemote() *cobra.Command {
	values := map[string]*string{}
	cmd := &cobra.Command{
		Use:   "insights-remote",
		Short: "Do what Lagoon's insights-remote does, without a hub",
		Long: `Takes the place of Lagoon's insights-remote, with its flags (one dash or two)
and its variables, which win over the flags: labelled ConfigMaps, tokens in the
environments' namespaces, facts and problems by HTTP, all to Lagoon's broker.
What the broker hasn't confirmed waits in --data-dir.

An agent with a hub does the same and more: see insights.broker in
docs/configuration.md.`,
		Example:            "  RABBITMQ_ADDRESS=broker:5672 RABBITMQ_USERNAME=lagoon RABBITMQ_PASSWORD=… INSIGHTS_TOKEN_SECRET=… reeve insights-remote --burn-after-reading",
		Args:               cobra.ArbitraryArgs, // flags, with one dash or two
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.DisableFlagParsing = false
			if err := cmd.ParseFlags(twoDashes(args)); err != nil {
				return err
			}
			if help, _ := cmd.Flags().GetBool("help"); help {
				return cmd.Help()
			}
			if rest := cmd.Flags().Args(); len(rest) > 0 {
				return fmt.Errorf("%q: there are no arguments, only flags", rest[0])
			}
			return runRemote(cmd, remote{cmd, values})
		},
	}
	for _, f := range remoteFlags {
		usage := f.usage
		if f.env != "" {
			usage += " (" + f.env + ")"
		}
		values[f.name] = cmd.Flags().String(f.name, f.value, usage)
		if _, err := strconv.ParseBool(f.value); err == nil && len(f.value) > 1 {
			cmd.Flags().Lookup(f.name).NoOptDefVal = "true"
		}
	}
	return cmd
}

// twoDashes gives long flags with one dash the second one.
func twoDashes(args []string) []string {
	args = slices.Clone(args)
	for i, a := range args {
		if len(a) > 2 && a[0] == '-' && a[1] != '-' {
			args[i] = "-" + a
		}
	}
	return args
}

// remote is what insights-remote was told, by flags and by variables.
type remote struct {
	cmd    *cobra.Command
	values map[string]*string
}

// text is a flag's value, or its variable's.
func (r remote) text(name string) string {
	i := slices.IndexFunc(remoteFlags, func(f remoteFlag) bool { return f.name == name })
	if env := remoteFlags[i].env; env != "" {
		if v, ok := os.LookupEnv(env); ok {
			return v
		}
	}
	return *r.values[name]
}

func (r remote) bool(name string) bool {
	on, _ := strconv.ParseBool(r.text(name)) // as insights-remote: what isn't one is false
	return on
}

func (r remote) number(name string) (int, error) {
	n, err := strconv.Atoi(r.text(name))
	if err != nil {
		return 0, fmt.Errorf("--%s %q: it must be a number", name, r.text(name))
	}
	return n, nil
}

// variable has a value that is a secret in a variable of the environment,
// where a configuration finds it, and answers its name.
func (r remote) variable(name, env string) string {
	if _, ok := os.LookupEnv(env); !ok {
		os.Setenv(env, r.text(name))
	}
	return env
}

func runRemote(cmd *cobra.Command, r remote) error {
	cfg, err := r.config()
	if err != nil {
		return err
	}
	if r.bool("generate-token-only") {
		return printToken(cmd, cfg, lagoon.Namespace{
			Name: r.text("generate-token-only-namespace"), EnvironmentID: r.text("generate-token-only-environment-id"),
			ProjectName: r.text("generate-token-only-project-name"), EnvironmentName: r.text("generate-token-only-environment-name"),
		})
	}
	a, err := agent.New(cfg, version.Text(), telemetry.Logger(cmd.ErrOrStderr(), cfg.Log.Level, cfg.Log.Format))
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	if addr := r.text("metrics-bind-address"); addr != "0" && addr != cfg.Metrics {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("--metrics-bind-address: %w", err)
		}
		server := &http.Server{Handler: a.Health(), ReadHeaderTimeout: 10 * time.Second}
		context.AfterFunc(ctx, func() { server.Close() })
		go server.Serve(l)
	}
	return a.Run(ctx)
}

// config is the agent's configuration that does the same.
func (r remote) config() (agent.Config, error) {
	cfg := agent.Defaults()
	switch {
	case r.bool("enable-build-scanner"):
		return cfg, errors.New("--enable-build-scanner: reeve starts no scans of builds; leave that to an insights-remote beside it, with ENABLE_CONFIGMAP_RECONCILER, ENABLE_NAMESPACE_RECONCILER and ENABLE_WEBSERVICE false")
	case r.bool("enable-dependency-track-integration"):
		return cfg, errors.New("--enable-dependency-track-integration: reeve doesn't write to Dependency-Track; leave that to an insights-remote beside it, with RABBITMQ_ENABLED, ENABLE_NAMESPACE_RECONCILER and ENABLE_WEBSERVICE false")
	}
	if r.text("insights-token-secret") != "" {
		cfg.Insights.TokenSecretEnv = r.variable("insights-token-secret", "INSIGHTS_TOKEN_SECRET")
	}
	if r.bool("generate-token-only") {
		return cfg, nil
	}
	if !r.bool("rabbitmq-enabled") {
		return cfg, errors.New("--rabbitmq-enabled=false leaves insights no way out; run `reeve agent` for a hub instead")
	}
	minutes, err := r.number("configmap-reconciler-mins-between-retries")
	retries, err2 := r.number("configmap-reconciler-max-retries")
	concurrent, err3 := r.number("configmap-reconciler-max-concurrent")
	if err := errors.Join(err, err2, err3); err != nil {
		return cfg, err
	}
	cfg.DataDir, cfg.Kubeconfig = r.text("data-dir"), r.text("kubeconfig")
	cfg.Metrics = r.text("health-probe-bind-address")
	if cfg.Metrics == "0" {
		cfg.Metrics = ""
	}
	cfg.Scan.Targets = nil
	in := &cfg.Insights
	in.ConfigMaps, in.Tokens = r.bool("enable-configmap-reconciler"), r.bool("enable-namespace-reconciler")
	in.BurnAfterReading, in.BurnSchedule = r.bool("burn-after-reading"), r.text("clear-configmap-sched")
	in.DeferFor, in.MaxRetries, in.Concurrent = time.Duration(minutes)*time.Minute, retries, concurrent
	in.TokenLabel = r.text("token-target-label")
	if r.bool("enable-webservice") {
		in.Listen = ":" + r.text("webservice-port")
	}
	if (in.Tokens || in.Listen != "") && in.TokenSecretEnv == "" {
		return cfg, errors.New("INSIGHTS_TOKEN_SECRET isn't set: insights-remote would take testsecret then, with which everybody can make tokens; set it to the secret that the namespaces' tokens were made with")
	}
	if r.bool("leader-elect") {
		in.Leader.Lease = remoteLease
	}
	r.broker(&cfg)
	return cfg, r.log(&cfg.Log)
}

func (r remote) broker(cfg *agent.Config) {
	b := &cfg.Insights.Broker
	host, _, _ := strings.Cut(r.text("rabbitmq-hostname"), "/")
	if port := r.text("rabbitmq-port"); port != "" && !strings.Contains(host, ":") {
		host = net.JoinHostPort(host, port)
	}
	b.URL = "amqp://" + host
	b.Username, b.PasswordEnv = r.text("rabbitmq-username"), r.variable("rabbitmq-password", "RABBITMQ_PASSWORD")
	if r.bool("rabbitmq-tls") {
		b.URL = "amqps://" + host
		b.Insecure = !r.bool("rabbitmq-verify")
		b.CAFile, b.CertFile, b.KeyFile = r.text("rabbitmq-cacert"), r.text("rabbitmq-clientcert"), r.text("rabbitmq-clientkey")
	}
}

func (r remote) log(cfg *agent.LogConfig) error {
	if r.text("zap-encoder") == "json" {
		cfg.Format = "json"
	}
	level := r.text("zap-log-level")
	if n, err := strconv.Atoi(level); err == nil && n > 0 { // zap's verbosity
		level = "debug"
	}
	if err := cfg.Level.UnmarshalText([]byte(cmp.Or(level, slog.LevelInfo.String()))); err != nil {
		return fmt.Errorf("--zap-log-level: %w", err)
	}
	return nil
}

func newGenerateToken() *cobra.Command {
	var path string
	var ns lagoon.Namespace
	cmd := &cobra.Command{
		Use:   "generate-token",
		Short: "Print the insights token of a namespace",
		Long: `Prints the token with which workloads of a namespace hand in insights, as the
agent with this configuration makes it: signed with the secret that
insights.tokenSecretFile or insights.tokenSecretEnv names.`,
		Example: "  REEVE_AGENT_INSIGHTS_TOKEN_SECRET_FILE=secret reeve agent generate-token --namespace shop-main --environment-id 7 --project shop --environment main",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := agent.ReadConfig(path)
			if err != nil {
				return err
			}
			return printToken(cmd, cfg, ns)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "the agent's configuration `file` (YAML)")
	cmd.Flags().StringVar(&ns.Name, "namespace", "", "`namespace`")
	cmd.Flags().StringVar(&ns.EnvironmentID, "environment-id", "", "Lagoon's `id` of the environment")
	cmd.Flags().StringVar(&ns.ProjectName, "project", "", "`project`")
	cmd.Flags().StringVar(&ns.EnvironmentName, "environment", "", "`environment`")
	return cmd
}

func printToken(cmd *cobra.Command, cfg agent.Config, ns lagoon.Namespace) error {
	if ns.Name == "" || ns.EnvironmentID == "" || ns.ProjectName == "" || ns.EnvironmentName == "" {
		return errors.New("a token needs all of the namespace, the environment's id, the project and the environment")
	}
	token, err := cfg.GenerateToken(ns)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
	return err
}
