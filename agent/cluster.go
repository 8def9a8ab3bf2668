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
	group, ctx := errgroup.WithContext(ctx)
	if cfg.ConfigMaps {
		watcher := insightkube.NewWatcher(insightkube.Config{
			Client: client, Metadata: meta, Spool: a.insights, BurnAfterReading: cfg.BurnAfterReading, Logger: a.component("configmaps"),
		})
		group.Go(func() error { return watcher.Run(ctx) })
	}
	if cfg.Tokens {
		key, err := cfg.secret()
		if err != nil {
			return err
		}
		maker, err := insightkube.NewTokenMaker(insightkube.TokenConfig{Client: client, Metadata: meta, Secret: key, Logger: a.component("tokens")})
		if err != nil {
			return err
		}
		group.Go(func() error { return maker.Run(ctx) })
	}
	return group.Wait()
}
