package agent

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/metadata"

	insightkube "reeve.dev/reeve/insight/kube"
	scankube "reeve.dev/reeve/scan/kube"
)

// watchCluster takes insights from ConfigMaps and keeps the namespaces'
// tokens, as far as the configuration asks for it.
func (a *Agent) watchCluster(ctx context.Context) error {
	cfg := a.cfg.Insights
	if !cfg.ConfigMaps && !cfg.Tokens {
		return nil
	}
	config, err := scankube.Config(a.cfg.Kubeconfig, "")
	if err != nil {
		return fmt.Errorf("insights: %w", err)
	}
	// client-go's default, five requests a second, is less than two
	// ConfigMaps a second.
	config.QPS, config.Burst = 50, 100
	client, err := insightkube.NewClient(config)
	if err != nil {
		return fmt.Errorf("insights: %w", err)
	}
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("insights: %w", err)
	}
	var work []func(context.Context) error
	if cfg.ConfigMaps {
		burnAt, err := cfg.burnAt()
		if err != nil {
			return err
		}
		work = append(work, insightkube.NewWatcher(insightkube.Config{
			Client: client, Metadata: meta, Spool: a.insights, BurnAfterReading: cfg.BurnAfterReading, BurnAt: burnAt,
			DeferFor: cfg.DeferFor, MaxRetries: cfg.MaxRetries, Concurrent: cfg.Concurrent,
			ToCore: insightkube.ToCore{All: cfg.BrokerAll, Only: a.cfg.hubless()}, Logger: a.component("configmaps"),
		}).Run)
	}
	if cfg.Tokens {
		key, err := cfg.secret()
		if err != nil {
			return err
		}
		maker, err := insightkube.NewTokenMaker(insightkube.TokenConfig{
			Client: client, Metadata: meta, Secret: key, TargetLabel: cfg.TokenLabel, Life: cfg.TokenLife, Logger: a.component("tokens"),
		})
		if err != nil {
			return err
		}
		work = append(work, maker.Run)
	}
	together := func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		for _, run := range work {
			group.Go(func() error { return run(ctx) })
		}
		return group.Wait()
	}
	if cfg.Leader.Lease == "" {
		return together(ctx)
	}
	leases, err := insightkube.NewLeases(config)
	if err != nil {
		return fmt.Errorf("insights.leader: %w", err)
	}
	namespace := cfg.Leader.Namespace
	if namespace == "" {
		if namespace, err = scankube.Home(a.cfg.Kubeconfig); err != nil {
			return fmt.Errorf("insights.leader: %w", err)
		}
	}
	leader := insightkube.Leader{
		Leases: leases, Namespace: namespace, Name: cfg.Leader.Lease, Identity: string(a.instance), Logger: a.component("leader"),
	}
	return leader.Run(ctx, together)
}
