package hub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/amqp"
	"reeve.dev/reeve/insight/dtrack"
	"reeve.dev/reeve/insight/lagoon"
	insightlink "reeve.dev/reeve/insight/link"
	"reeve.dev/reeve/insight/osv"
	"reeve.dev/reeve/insight/transform"
	"reeve.dev/reeve/insight/vex"
	"reeve.dev/reeve/store"
)

// InsightConfig says where insights come from beside the agents.
type InsightConfig struct {
	// Broker is Lagoon's, whose queue the hub takes in place of an
	// insights-handler. No URL: none.
	Broker amqp.Config `yaml:"broker"`
	// BrokerCluster is the name under which is kept what comes from there.
	BrokerCluster fleet.AgentName `yaml:"brokerCluster"`
	// SBOMsFrom are places whose SBOMs and image inspects count for an image
	// wherever it runs, such as where images are built. Those of others count in
	// their own namespace alone.
	SBOMsFrom []fleet.Scope `yaml:"sbomsFrom"`
	// Transforms are files that say which key facts are made of SBOMs and image
	// inspects; none: the shipped ones.
	Transforms []string `yaml:"transforms"`
	// DependencyTrack gets the SBOMs, too. No URL: none does.
	DependencyTrack dtrack.Config `yaml:"dependencyTrack"`
}

func (c InsightConfig) validate() (errs []error) {
	for i, p := range c.SBOMsFrom {
		if len(p.Agents) == 0 {
			errs = append(errs, fmt.Errorf("sbomsFrom[%d].agents: it is missing; name the agents whose clusters are believed, since whoever has a namespace can hand in an SBOM", i))
		}
		if err := p.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("sbomsFrom[%d].%w", i, err))
		}
	}
	if c.DependencyTrack.URL != "" {
		if err := c.DependencyTrack.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("dependencyTrack.%w", err))
		}
	}
	if c.Broker.URL == "" {
		return errs
	}
	if err := c.Broker.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("broker.%w", err))
	}
	if err := c.BrokerCluster.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("brokerCluster: %w", err))
	}
	return errs
}

// insights makes the service of what agents collect.
func (h *Hub) insights(cfg InsightConfig, metrics prometheus.Registerer, log *slog.Logger) (*insight.Service, error) {
	transforms, err := transform.Load(cfg.Transforms)
	if err != nil {
		return nil, fmt.Errorf("insights.transforms: %w", err)
	}
	h.store.SBOMsFrom(cfg.SBOMsFrom)
	s := insight.NewService(h.store, insight.Limits{}, log)
	s.ReadStatements(vex.Parse)
	s.DeriveFacts(transforms.Of)
	metrics.MustRegister(backlogs{h.store, log})
	if cfg.DependencyTrack.URL == "" {
		return s, nil
	}
	track, err := dtrack.New(cfg.DependencyTrack)
	if err != nil {
		return nil, fmt.Errorf("insights.dependencyTrack.%w", err)
	}
	h.onClose(func() error { track.Close(); return nil })
	h.exporter = &insight.Exporter{Store: h.store, Send: track.Send, Holder: h.holder, Logger: h.log.With("component", "dependency-track")}
	h.exports = exports{h.store, track}
	s.ExportTo(func(it insight.Item, d insight.Document) (*insight.Destination, error) {
		return track.Destination(it.Cluster, it.Environment, d.Service, d.Build)
	})
	return s, nil
}

// exports sends what is stored already.
type exports struct {
	store *store.Store
	track *dtrack.Client // nil: there is nowhere to send it
}

// Export implements api.Exporter.
func (e exports) Export(ctx context.Context, latestFirst iter.Seq2[[]insight.DocumentRecord, error]) (int, error) {
	if e.track == nil {
		return 0, insight.Invalidf("this hub exports SBOMs nowhere: its configuration has no insights.dependencyTrack")
	}
	taken := map[insight.Destination]bool{}
	for list, err := range latestFirst {
		if err != nil {
			return 0, err
		}
		var out []insight.Export
		for _, d := range list {
			to, err := e.track.Destination(d.Cluster, d.Environment, d.Service, d.Build)
			if err != nil {
				return 0, err
			}
			if to != nil && !taken[*to] {
				taken[*to] = true
				out = append(out, insight.Export{Destination: *to, Cluster: d.Cluster, Environment: d.Environment, Service: d.Service, Build: d.Build, Digest: d.Digest})
			}
		}
		if err := e.store.QueueExports(ctx, out, time.Now()); err != nil {
			return 0, err
		}
	}
	return len(taken), nil
}

// fromAgents is what agents send of what they collect.
func (h *Hub) fromAgents(s *insight.Service, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(insightlink.Path, insightlink.Handler(s, log))
	inventory := insightlink.InventoryHandler(h.store, log)
	mux.Handle(insightlink.InventoryPath, inventory)
	mux.Handle(insightlink.ViewPath, inventory)
	return mux
}

// quarantine reads messages as agents send them.
type quarantine struct{ *insight.Service }

func (q quarantine) Requeue(ctx context.Context, agent fleet.AgentName, item insight.ItemID) error {
	return q.Service.Requeue(ctx, agent, item, lagoon.Decode)
}

// match finds vulnerabilities until ctx ends.
func (h *Hub) match(ctx context.Context) error {
	m := osv.Matcher{Store: h.store, Logger: h.log.With("component", "vulnerabilities")}
	m.Run(ctx)
	return nil
}

// openBroker makes the consumer of Lagoon's queue; nil where there is none.
func openBroker(cfg InsightConfig, to insightlink.Receiver, log *slog.Logger) *amqp.Consumer {
	if cfg.Broker.URL == "" {
		return nil
	}
	return &amqp.Consumer{
		Config: cfg.Broker, Logger: log,
		Handle: func(ctx context.Context, id string, message []byte) error {
			_, err := insightlink.Receive(ctx, to, insightlink.Message{Cluster: cfg.BrokerCluster, ID: insight.ItemID(id), Body: message})
			var invalid *insight.InvalidError
			if errors.As(err, &invalid) {
				log.Error("message of the broker dropped: not even its id can be kept", "item", id, "reason", invalid.Reason)
				return nil
			}
			return err
		},
	}
}
