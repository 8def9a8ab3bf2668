package hub

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/store"
)

// backlogs are metrics of what hasn't arrived yet: insights at the agents, as
// these reported last, and SBOMs on their way out.
type backlogs struct {
	store *store.Store
	log   *slog.Logger
}

// scrapeTime is for the questions to the database that one scrape costs.
const scrapeTime = 5 * time.Second

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("reeve_hub_"+name, help, labels, nil)
}

var (
	agentReported = gauge("agent_inventory_timestamp_seconds", "When the agent last reported what runs, in Unix time.", "agent")
	agentItems    = gauge("agent_backlog_items", "Insights that waited at the agent when it last reported.", "agent")
	agentBytes    = gauge("agent_backlog_bytes", "Size of the insights that waited at the agent when it last reported.", "agent")
	agentBroker   = gauge("agent_broker_trouble", "1 if Lagoon's broker took nothing from the agent when it last reported.", "agent")
	agentOldest   = gauge("agent_backlog_oldest_timestamp_seconds", "When the oldest insight that waited at the agent came there, in Unix time; 0 where none did.", "agent")

	exportsWaiting = gauge("exports_waiting_items", "SBOMs that Dependency-Track hasn't taken yet.")
	exportsRefused = gauge("exports_refused_items", "SBOMs that Dependency-Track refused.")
	exportsOldest  = gauge("exports_oldest_timestamp_seconds", "When the oldest SBOM that Dependency-Track hasn't taken was queued, in Unix time; 0 where there is none.")
)

// Describe implements prometheus.Collector.
func (b backlogs) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{agentReported, agentItems, agentBytes, agentOldest, agentBroker, exportsWaiting, exportsRefused, exportsOldest} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (b backlogs) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	put := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	reports, err := b.reports(ctx)
	if err != nil {
		b.log.Warn("the agents' backlogs aren't known", "error", err)
	}
	for _, r := range reports {
		agent := string(r.Cluster)
		put(agentReported, inUnix(r.Reported), agent)
		put(agentItems, float64(r.Backlog.Items), agent)
		put(agentBytes, float64(r.Backlog.Bytes), agent)
		put(agentOldest, inUnix(r.Backlog.Since), agent)
		trouble := 0.0
		if r.Backlog.Broker != "" {
			trouble = 1
		}
		put(agentBroker, trouble, agent)
	}
	out, err := b.store.ExportBacklog(ctx)
	if err != nil {
		b.log.Warn("the backlog of exports isn't known", "error", err)
		return
	}
	put(exportsWaiting, float64(out.Waiting))
	put(exportsRefused, float64(out.Refused))
	put(exportsOldest, inUnix(out.Oldest))
}

// reports are all agents'.
func (b backlogs) reports(ctx context.Context) (all []insight.InventoryRecord, err error) {
	q := insight.Query{Limit: 1000}
	for {
		some, err := b.store.Reports(ctx, q)
		all = append(all, some...)
		if q.Offset += len(some); err != nil || len(some) < q.Limit {
			return all, err
		}
	}
}

func inUnix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMicro()) / 1e6
}
