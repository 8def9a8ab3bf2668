package hub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/scan"
)

// RetentionConfig says how long things are kept that are done with.
type RetentionConfig struct {
	Scans  scan.Retention  `yaml:"scans"`
	Alerts alert.Retention `yaml:"alerts"`
	// Receipts is for how long an item that an agent delivered is known, so
	// that its repetition changes nothing.
	Receipts time.Duration `yaml:"receipts"`
	// Insights is how long the past of facts, problems and documents is known.
	Insights time.Duration `yaml:"insights"`
}

func defaultRetention() RetentionConfig {
	return RetentionConfig{Scans: scan.DefaultRetention(), Alerts: alert.DefaultRetention(), Receipts: 30 * 24 * time.Hour, Insights: 365 * 24 * time.Hour}
}

func (c RetentionConfig) validate() error {
	var errs []error
	if err := c.Scans.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("retention.scans.%w", err))
	}
	if err := c.Alerts.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("retention.alerts.%w", err))
	}
	if c.Receipts != 0 && c.Receipts < 24*time.Hour {
		errs = append(errs, fmt.Errorf("retention.receipts %v: it must be at least 24h, or 0 for ever", c.Receipts))
	}
	if c.Insights < 0 {
		errs = append(errs, fmt.Errorf("retention.insights %v: it must not be negative; 0 is for ever", c.Insights))
	}
	return errors.Join(errs...)
}

// sweepOld forgets what the configuration doesn't keep. Of several replicas one
// does it, each time.
func (h *Hub) sweepOld(ctx context.Context) {
	now := time.Now()
	log := h.log.With("component", "retention")
	mine, err := h.store.TakeDuty(ctx, "retention", h.holder, now, now.Add(sweepEvery-sweepEvery/10))
	if !mine || err != nil {
		if err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "can't tell whose turn it is to forget what is old, will retry", "error", err)
		}
		return
	}
	scans, err := h.retention.Scans.Apply(ctx, h.store, now)
	alerts, alertsErr := h.retention.Alerts.Apply(ctx, h.store, now)
	_, recountErr := h.store.RecountAlerts(ctx, now)
	err = errors.Join(err, alertsErr, recountErr)
	err = errors.Join(err, h.store.RemovePolicyRuns(ctx, now.Add(-policyRunsKept)))
	err = errors.Join(err, h.store.SweepResponses(ctx, now.Add(-responsesKept), maxResponses))
	if h.retention.Receipts > 0 {
		err = errors.Join(err, h.store.RemoveReceipts(ctx, now.Add(-h.retention.Receipts)))
	}
	if h.retention.Insights > 0 {
		err = errors.Join(err, h.store.RemovePastInsights(ctx, now.Add(-h.retention.Insights)))
	}
	_, documentsErr := h.store.SweepBlobs(ctx, now)
	if err = errors.Join(err, documentsErr); err != nil && ctx.Err() == nil {
		log.WarnContext(ctx, "not all that is old is forgotten, will retry", "error", err)
	}
	if scans+alerts > 0 {
		log.InfoContext(ctx, "forgot what is old", "scans", scans, "alerts", alerts)
	}
}
