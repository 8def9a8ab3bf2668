package alert

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"reeve.dev/reeve/fleet"
)

// Config is what a Worker works with. Store, Sinks, Holder and Logger are
// needed; the zero value of the rest means the default.
type Config struct {
	Store Store
	// Sinks are the receivers by name, and Options how they are served. Alerts
	// of other sinks stay pending until they are too old.
	Sinks   map[string]Sink
	Options map[string]Options
	// Families make the sinks whose names begin with a prefix, when there is
	// something for them. One that is to be closed has a method Close.
	Families map[string]Family
	// Hold says until when people aren't told of an outcome, and why; the zero
	// time: they are. It is asked for sinks of people alone; nil: nothing holds.
	Hold func(ctx context.Context, sink string, o fleet.Outcome) (until time.Time, why string)
	// Holder names this hub among those on the same database. At its start a
	// Worker frees the leases of the same Holder, so no two may run at once.
	Holder string
	Logger *slog.Logger
	// Registerer is where the metrics are; nil: nowhere.
	Registerer prometheus.Registerer

	// Concurrency is how many deliveries to one sink run at once (16).
	Concurrency int
	// Timeout bounds one attempt (20 s).
	Timeout time.Duration
	// MinBackoff and MaxBackoff bound the wait after a failed attempt, which
	// is random below a limit that doubles (1 s to 1 h).
	MinBackoff, MaxBackoff time.Duration
	// Pause is how long a sink rests that refuses everything (1 min).
	Pause time.Duration
	// BreakAfter is after how many failures in a row a sink rests, for a time
	// that doubles from MinBreak to MaxBreak (20; 5 s to 5 min).
	BreakAfter         int
	MinBreak, MaxBreak time.Duration
	// MaxAge is the age at which an alert that fails is given up (7 days).
	MaxAge time.Duration
	// Poll is how often the outbox is looked at for what other hubs put
	// there (5 s).
	Poll time.Duration
	// Grace is how long attempts may go on when the Worker stops (3 s).
	Grace time.Duration
}

// Family makes a sink of its prefix.
type Family func(name string) (Sink, Options, error)

// A lane leases prefetch times as many alerts as it delivers at once, so
// that the transactions of the outbox are few; a lease is long enough for the
// last of them to wait its turn behind attempts that all time out.
const prefetch = 8

const (
	// grouped is how many alerts a message to a Grouped sink may be of.
	grouped = 200
	// holdAgain is after how long it is asked again what holds an alert back:
	// another hub may have ended it.
	holdAgain = 10 * time.Minute
	// settleTimeout bounds the last transaction of a Worker that stops.
	settleTimeout = 5 * time.Second
	// maxLanes is how many sinks of one family are served at once.
	maxLanes = 64
	// laneIdle is after how long without work a family's lane ends: each that
	// there is asks the store whenever any alert becomes due.
	laneIdle = 5 * time.Second
	// watchEvery is how often the outbox is counted, for the metrics, unless it
	// is polled less often, and burying how many old alerts are given up in one
	// transaction.
	watchEvery = 15 * time.Second
	burying    = 500
)

// Worker delivers the alerts of the outbox. Make it with NewWorker.
type Worker struct {
	cfg     Config
	metrics *metrics
}

// NewWorker returns a Worker; Run starts it.
func NewWorker(cfg Config) *Worker {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = 16
	}
	if cfg.BreakAfter <= 0 {
		cfg.BreakAfter = 20
	}
	def(&cfg.Timeout, 20*time.Second)
	def(&cfg.MinBackoff, time.Second)
	def(&cfg.MaxBackoff, time.Hour)
	def(&cfg.Pause, time.Minute)
	def(&cfg.MinBreak, 5*time.Second)
	def(&cfg.MaxBreak, 5*time.Minute)
	def(&cfg.MaxAge, 7*24*time.Hour)
	def(&cfg.Poll, 5*time.Second)
	def(&cfg.Grace, 3*time.Second)
	return &Worker{cfg: cfg, metrics: newMetrics(cfg.Registerer)}
}

// Run delivers until ctx ends; then it lets the attempts under way end,
// records them, and returns. It returns an error only if it can't start. It
// is called once.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.cfg.Store.ReleaseAlerts(ctx, w.cfg.Holder); err != nil {
		return fmt.Errorf("alert worker: %w", err)
	}
	var all sync.WaitGroup
	for name, sink := range w.cfg.Sinks {
		l := w.lane(name, name, sink, w.cfg.Options[name])
		all.Go(func() { l.run(ctx) })
	}
	for prefix, family := range w.cfg.Families {
		all.Go(func() { w.serveFamily(ctx, prefix, family) })
	}
	all.Go(func() { w.watch(ctx) })
	all.Wait()
	return nil
}

// serveFamily has lanes for the sinks of a prefix that have something to
// deliver.
func (w *Worker) serveFamily(ctx context.Context, prefix string, family Family) {
	var lanes sync.WaitGroup
	defer lanes.Wait()
	ended := make(chan string, maxLanes)
	served := map[string]bool{}
	tick := time.NewTicker(w.cfg.Poll)
	defer tick.Stop()
	for {
		due := w.cfg.Store.AlertsDue() // before looking, so that none is missed
		if len(served) < maxLanes {
			names, err := w.cfg.Store.PendingSinks(ctx, prefix, time.Now(), maxLanes)
			if err != nil && ctx.Err() == nil {
				w.cfg.Logger.ErrorContext(ctx, "the sinks that have alerts could not be listed; trying again", "prefix", prefix, "error", err)
			}
			for _, name := range names {
				if served[name] || len(served) == maxLanes {
					continue
				}
				served[name] = true
				lanes.Go(func() {
					w.serveOne(ctx, prefix, name, family)
					ended <- name
				})
			}
		}
		select {
		case <-ctx.Done():
			return
		case name := <-ended:
			delete(served, name)
		case <-due:
		case <-tick.C:
		}
	}
}

func (w *Worker) serveOne(ctx context.Context, prefix, name string, family Family) {
	sink, opt, err := family(name)
	if err != nil {
		sink = refusing{err}
	}
	if c, ok := sink.(interface{ Close() error }); ok {
		defer c.Close()
	}
	l := w.lane(name, familyLabel(prefix), sink, opt)
	l.idle = laneIdle
	l.run(ctx)
}

// label is what metrics call a sink.
func (w *Worker) label(sink string) string {
	for prefix := range w.cfg.Families {
		if strings.HasPrefix(sink, prefix) {
			return familyLabel(prefix)
		}
	}
	return sink
}

func familyLabel(prefix string) string { return strings.TrimSuffix(prefix, ":") }

// refusing is the sink in the place of one that can't be made.
type refusing struct{ err error }

func (r refusing) Deliver(context.Context, Alert) error {
	return &Error{Class: Permanent, Err: r.err}
}

// watch counts what waits, and gives up what is too old.
func (w *Worker) watch(ctx context.Context) {
	tick := time.NewTicker(max(watchEvery, w.cfg.Poll))
	defer tick.Stop()
	for {
		if err := w.look(ctx, time.Now()); err != nil && ctx.Err() == nil {
			w.cfg.Logger.WarnContext(ctx, "the outbox could not be looked at; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *Worker) look(ctx context.Context, now time.Time) error {
	backlogs, err := w.cfg.Store.AlertBacklogs(ctx)
	if err != nil {
		return err
	}
	w.metrics.waiting(backlogs, w.label, now)
	before := now.Add(-w.cfg.MaxAge - watchEvery) // its own attempt says more, if it comes to one
	for _, b := range backlogs {
		if b.Pending == 0 || b.Oldest.After(before) {
			continue
		}
		for {
			n, err := w.cfg.Store.BuryAlerts(ctx, before, now, fmt.Sprintf("given up after %s", w.cfg.MaxAge), burying)
			if err != nil {
				return err
			}
			if n > 0 {
				w.cfg.Logger.WarnContext(ctx, "alerts given up that were too old; to deliver one again: reeve alerts replay ID", "alerts", n)
			}
			if n < burying {
				return nil
			}
		}
	}
	return nil
}
