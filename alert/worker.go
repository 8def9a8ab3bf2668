package alert

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Config is what a Worker works with. Store, Sinks, Holder and Logger are
// needed; the zero value of the rest means the default.
type Config struct {
	Store Store
	// Sinks are the receivers by name. Alerts of other sinks stay pending.
	Sinks map[string]Sink
	// Holder names this hub among those on the same database. At its start a
	// Worker frees the leases of the same Holder, so no two may run at once.
	Holder string
	Logger *slog.Logger

	// Concurrency is how many deliveries to one sink run at once (16).
	Concurrency int
	// Timeout bounds one attempt (20 s).
	Timeout time.Duration
	// MinBackoff and MaxBackoff bound the wait after a failed attempt, which
	// is random below a limit that doubles (1 s to 1 h).
	MinBackoff, MaxBackoff time.Duration
	// Pause is how long a sink rests that refuses everything (1 min).
	Pause time.Duration
	// MaxAge is the age at which an alert that fails is given up (7 days).
	MaxAge time.Duration
	// Poll is how often the outbox is looked at for what other hubs put
	// there (5 s).
	Poll time.Duration
	// Grace is how long attempts may go on when the Worker stops (3 s).
	Grace time.Duration
}

// A lane leases prefetch times as many alerts as it delivers at once, so
// that the transactions of the outbox are few; a lease is long enough for the
// last of them to wait its turn behind attempts that all time out.
const prefetch = 8

// settleTimeout bounds the last transaction of a Worker that stops.
const settleTimeout = 5 * time.Second

// Worker delivers the alerts of the outbox. Make it with NewWorker.
type Worker struct{ cfg Config }

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
	def(&cfg.Timeout, 20*time.Second)
	def(&cfg.MinBackoff, time.Second)
	def(&cfg.MaxBackoff, time.Hour)
	def(&cfg.Pause, time.Minute)
	def(&cfg.MaxAge, 7*24*time.Hour)
	def(&cfg.Poll, 5*time.Second)
	def(&cfg.Grace, 3*time.Second)
	return &Worker{cfg: cfg}
}

// Run delivers until ctx ends; then it lets the attempts under way end,
// records them, and returns. It returns an error only if it can't start. It
// is called once.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.cfg.Store.ReleaseAlerts(ctx, w.cfg.Holder); err != nil {
		return fmt.Errorf("alert worker: %w", err)
	}
	var lanes sync.WaitGroup
	for name, sink := range w.cfg.Sinks {
		n := w.cfg.Concurrency * prefetch
		l := &lane{
			Config:  w.cfg,
			name:    name,
			sink:    sink,
			log:     w.cfg.Logger.With("sink", name),
			work:    make(chan job, n),
			results: make(chan Settlement, n),
		}
		lanes.Go(func() { l.run(ctx) })
	}
	lanes.Wait()
	return nil
}

// lane delivers the alerts of one sink, so that a slow or dead sink costs no
// other anything.
type lane struct {
	Config
	name string
	sink Sink
	log  *slog.Logger

	work    chan job        // leased, to be attempted
	results chan Settlement // attempted; both hold all that may be out

	// The rest belongs to run.
	out  int          // leased and not yet settled
	done []Settlement // attempted and not yet settled
}

// job is a leased alert. After until its key may be another's.
type job struct {
	alert Alert
	token string
	until time.Time
}

func (l *lane) run(ctx context.Context) {
	attempts, stop := l.graceful(ctx)
	defer stop()
	var couriers sync.WaitGroup
	defer couriers.Wait()
	defer close(l.work)
	for range l.Concurrency {
		couriers.Go(func() {
			for j := range l.work {
				l.results <- l.attempt(ctx, attempts, j)
			}
		})
	}
	for {
		due := l.Store.AlertsDue() // before looking, so that none is missed
		timer := time.NewTimer(l.turn(ctx))
		select {
		case <-ctx.Done():
			timer.Stop()
			l.finish(ctx)
			return
		case s := <-l.results:
			l.done = append(l.done, s)
		case <-due:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// graceful returns the context of attempts: it outlives ctx by the grace, so
// that what has been sent can still be acknowledged.
func (l *lane) graceful(ctx context.Context) (context.Context, context.CancelFunc) {
	attempts, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		select {
		case <-time.After(l.Grace):
			cancel()
		case <-attempts.Done():
		}
	})
	return attempts, cancel
}

// turn settles what was attempted, leases what is due, and returns how long
// to wait for more if nothing else happens.
func (l *lane) turn(ctx context.Context) time.Duration {
	if err := l.settle(ctx); err != nil {
		if ctx.Err() == nil {
			l.log.ErrorContext(ctx, "deliveries could not be recorded; trying again", "err", err)
		}
		return time.Second
	}
	if l.out > cap(l.work)/2 {
		return l.Poll // results will wake the lane earlier
	}
	now := time.Now()
	lease := LeaseRequest{
		Sink: l.name, Holder: l.Holder, Token: uuid.NewString(),
		Limit: cap(l.work) - l.out,
		Now:   now, Until: now.Add((prefetch + 2) * l.Timeout),
	}
	leased, err := l.Store.LeaseAlerts(ctx, lease)
	if err != nil {
		if ctx.Err() == nil {
			l.log.ErrorContext(ctx, "alerts could not be leased; trying again", "err", err)
		}
		return time.Second
	}
	for _, a := range leased.Alerts {
		l.out++
		l.work <- job{alert: a, token: lease.Token, until: lease.Until}
	}
	if wait := leased.NextAt.Sub(now); !leased.NextAt.IsZero() && wait < l.Poll {
		return max(wait, 0)
	}
	return l.Poll
}

// settle records the attempts that have ended. What it could not record it
// keeps.
func (l *lane) settle(ctx context.Context) error {
	for len(l.results) > 0 {
		l.done = append(l.done, <-l.results)
	}
	if len(l.done) == 0 {
		return nil
	}
	if err := l.Store.SettleAlerts(ctx, time.Now(), l.done); err != nil {
		return err
	}
	l.out -= len(l.done)
	l.done = l.done[:0]
	return nil
}

// finish waits for what is out and records it. If it can't, the leases are
// freed at the next start and the alerts delivered again.
func (l *lane) finish(ctx context.Context) {
	for len(l.done) < l.out {
		l.done = append(l.done, <-l.results)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if err := l.settle(ctx); err != nil {
		l.log.ErrorContext(ctx, "the last deliveries could not be recorded; they will be repeated", "err", err)
	}
}

// attempt delivers one alert once and says what becomes of it. stopping is
// the lane's context; attempts that of what is under way.
func (l *lane) attempt(stopping, attempts context.Context, j job) Settlement {
	s := Settlement{ID: j.alert.ID, Sink: l.name, Token: j.token, State: Pending}
	now := time.Now()
	if stopping.Err() != nil || now.Add(l.Timeout).After(j.until) {
		// Too late to be sure that nobody else has the key by the end.
		s.Uncounted, s.RetryAt, s.Error = true, now, j.alert.LastError
		return s
	}
	ctx, cancel := context.WithTimeout(attempts, l.Timeout)
	defer cancel()
	err := l.sink.Deliver(ctx, j.alert)
	log := l.log.With("alert", j.alert.ID, "run", j.alert.Outcome.Run)
	if err == nil {
		s.State = Delivered
		log.DebugContext(ctx, "alert delivered", "seq", j.alert.Seq, "attempt", j.alert.Attempts+1)
		return s
	}
	l.judge(&s, j.alert, err)
	switch {
	case s.State == Dead:
		log.WarnContext(ctx, "alert given up; to deliver it again: reeve alerts replay ID", "err", s.Error)
	case !s.PauseUntil.IsZero():
		log.WarnContext(ctx, "sink paused: it refuses every alert", "until", s.PauseUntil, "err", s.Error)
	case j.alert.Attempts == 0:
		log.InfoContext(ctx, "alert not delivered; trying again", "at", s.RetryAt, "err", s.Error)
	default:
		log.DebugContext(ctx, "alert not delivered; trying again", "at", s.RetryAt, "err", s.Error)
	}
	return s
}

// judge turns a failure into what becomes of the alert.
func (l *lane) judge(s *Settlement, a Alert, err error) {
	now := time.Now()
	s.Error = cleanText(err.Error(), maxError)
	class, after := classOf(err)
	switch {
	case class == Permanent:
		s.State = Dead
	case class == Pause:
		s.Uncounted, s.RetryAt, s.PauseUntil = true, now, now.Add(max(l.Pause, min(after, l.MaxBackoff)))
	case now.Sub(a.Created) > l.MaxAge:
		s.State = Dead
		s.Error = cleanText(fmt.Sprintf("given up after %s: %s", l.MaxAge, s.Error), maxError)
	default:
		s.RetryAt = now.Add(max(l.backoff(a.Attempts), min(after, l.MaxBackoff)))
	}
}

// backoff is a random wait below a limit that doubles with each attempt.
func (l *lane) backoff(attempts int) time.Duration {
	limit := l.MaxBackoff
	if attempts < 30 && l.MinBackoff<<attempts < limit {
		limit = l.MinBackoff << attempts
	}
	return rand.N(limit)
}
