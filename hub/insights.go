package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/amqp"
	insightlink "reeve.dev/reeve/insight/link"
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

// openBroker makes the consumer of Lagoon's queue; nil where there is none.
func openBroker(cfg InsightConfig, to insightlink.Receiver, log *slog.Logger) *amqp.Consumer {
	if cfg.Broker.URL == "" {
		return nil
	}
	return &amqp.Consumer{
		Config: cfg.Broker, Logger: log,
		Handle: func(ctx context.Context, id string, message []byte) error {
			_, err := insightlink.Receive(ctx, to, cfg.BrokerCluster, insight.ItemID(id), message)
			var invalid *insight.InvalidError
			if errors.As(err, &invalid) {
				log.Error("message of the broker dropped: not even its id can be kept", "item", id, "reason", invalid.Reason)
				return nil
			}
			return err
		},
	}
}
