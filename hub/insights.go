package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/amqp"
	"reeve.dev/reeve/insight/lagoon"
	insightlink "reeve.dev/reeve/insight/link"
	"reeve.dev/reeve/insight/osv"
	"reeve.dev/reeve/insight/vex"
)

// InsightConfig says where insights come from beside the agents.
type InsightConfig struct {
	// Broker is Lagoon's, whose queue the hub takes in place of an
	// insights-handler. No URL: none.
	Broker amqp.Config `yaml:"broker"`
	// BrokerCluster is the name under which is kept what comes from there.
	BrokerCluster fleet.AgentName `yaml:"brokerCluster"`
}

func (c InsightConfig) validate() (errs []error) {
	if c.Broker.URL == "" {
		return nil
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
func (h *Hub) insights(log *slog.Logger) *insight.Service {
	s := insight.NewService(h.store, insight.Limits{}, log)
	s.ReadStatements(vex.Parse)
	return s
}

// fromAgents is what agents send of what they collect.
func (h *Hub) fromAgents(s *insight.Service, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(insightlink.Path, insightlink.Handler(s, log))
	mux.Handle(insightlink.InventoryPath, insightlink.InventoryHandler(h.store, log))
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
