package main

import (
	"github.com/spf13/cobra"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/internal/memory"
	"reeve.dev/reeve/internal/telemetry"
	"reeve.dev/reeve/internal/version"
)

func newHub() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "hub",
		Short: "Run the hub",
		Long: `Runs the hub until it gets SIGTERM or SIGINT. Every key of the configuration
file is also in the environment, as REEVE_HUB_ and the key: scan.leaseFor is
REEVE_HUB_SCAN_LEASE_FOR. See docs/configuration.md.`,
		Example: "  reeve ca init --dir ca\n  reeve hub --config examples/hub.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := hub.LoadConfig(path)
			if err != nil {
				return err
			}
			end, err := telemetry.Traces(cmd.Context(), "reeve-hub", version.Text(), &cfg.Tracer)
			if err != nil {
				return err
			}
			defer end()
			defer memory.Bound(hub.Memory)()
			h, err := hub.New(cfg, version.Text(), telemetry.Logger(cmd.ErrOrStderr(), cfg.Log.Level, cfg.Log.Format))
			if err != nil {
				return err
			}
			return h.Run(cmd.Context())
		},
	}
	cmd.AddCommand(newHubMigrate())
	cmd.Flags().StringVar(&path, "config", "", "configuration `file` (YAML)")
	return cmd
}

func newAgent() *cobra.Command {
	var path, birger string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run the agent of a cluster",
		Long: `Runs an agent until it gets SIGTERM or SIGINT. The first time it joins with the
one-time token that hub.joinTokenEnv (REEVE_JOIN_TOKEN) or hub.joinTokenFile
names. Every key of the configuration file is also in the environment, as
REEVE_AGENT_ and the key: hub.url is REEVE_AGENT_HUB_URL. See
docs/configuration.md.`,
		Example: "  REEVE_JOIN_TOKEN=$(reeve token create --kind join --agent prod) reeve agent --config examples/agent.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := agent.LoadConfig(path)
			if err != nil {
				return err
			}
			if birger != "" {
				cfg.BirgerServices = birger
			}
			end, err := telemetry.Traces(cmd.Context(), "reeve-agent", version.Text(), &cfg.Tracer)
			if err != nil {
				return err
			}
			defer end()
			if makesSBOMs {
				cfg.SBOM = agentSBOM
			}
			a, err := agent.New(cfg, version.Text(), telemetry.Logger(cmd.ErrOrStderr(), cfg.Log.Level, cfg.Log.Format))
			if err != nil {
				return err
			}
			return a.Run(cmd.Context())
		},
	}
	cmd.AddCommand(newGenerateToken())
	cmd.Flags().StringVar(&birger, "birger-services", "", "services `file` of a Birger agent, taken as it is beside the configuration")
	cmd.Flags().StringVar(&path, "config", "", "configuration `file` (YAML)")
	return cmd
}
