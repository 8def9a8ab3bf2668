package alert

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

// lane delivers the alerts of one sink, so that a slow or dead sink costs no
// other anything.
type lane struct {
	Config
	name    string
	sink    Sink
	opt     Options
	log     *slog.Logger
	metrics laneMetrics
	limiter *rate.Limiter // nil: no limit
	idle    time.Duration // after which the lane ends; 0: never

	work    chan job      // leased, to be attempted
	results chan []result // attempted; both hold all that may be out
	paused  atomic.Int64  // until when, as the lane knows, to the microsecond as the store does; 0: it isn't

	// The rest belongs to run.
	limit  int       // of alerts that are out
	out    int       // leased and not yet settled
	done   []result  // attempted and not yet settled
	active time.Time // when there was something to do last
	failed int       // attempts in a row
	broken int       // pauses in a row for that
}

// job is what is delivered at once: one alert or, to a Grouped sink, several.
// After until their keys may be another's.
type job struct {
	alerts []Alert
	token  string
	until  time.Time
}

// result is how an attempt ended. Failed says that the sink, and not the
// alert, is to blame.
type result struct {
	Settlement
	failed bool
}

// lane makes the lane of a sink; label is what metrics call it.
func (w *Worker) lane(name, label string, sink Sink, opt Options) *lane {
	if opt.Concurrency <= 0 {
		opt.Concurrency = w.cfg.Concurrency
	}
	n := opt.Concurrency * prefetch
	if _, ok := sink.(Grouped); ok {
		n = max(n, grouped)
	}
	l := &lane{
		Config: w.cfg, name: name, sink: sink, opt: opt, limit: n,
		log: w.cfg.Logger.With("sink", name), metrics: w.metrics.of(label),
		work: make(chan job, n), results: make(chan []result, n),
	}
	if opt.Rate > 0 {
		l.limiter = rate.NewLimiter(rate.Limit(opt.Rate), max(1, int(opt.Rate)))
	}
	return l
}

func (l *lane) run(ctx context.Context) {
	attempts, stop := l.graceful(ctx)
	defer stop()
	var couriers sync.WaitGroup
	defer couriers.Wait()
	defer close(l.work)
	for range l.opt.Concurrency {
		couriers.Go(func() {
			for j := range l.work {
				l.results <- l.attempt(ctx, attempts, j)
			}
		})
	}
	l.active = time.Now()
	for {
		due := l.Store.AlertsDue() // before looking, so that none is missed
		timer := time.NewTimer(l.turn(ctx))
		if l.idle > 0 && l.out == 0 && time.Since(l.active) > l.idle {
			timer.Stop()
			return
		}
		select {
		case <-ctx.Done():
			timer.Stop()
			l.finish(ctx)
			return
		case rs := <-l.results:
			l.done = append(l.done, rs...)
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
	forget := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(l.Grace):
			cancel()
		case <-attempts.Done():
		}
	})
	return attempts, func() { forget(); cancel() }
}

// turn settles what was attempted, leases what is due, and returns how long
// to wait for more if nothing else happens.
func (l *lane) turn(ctx context.Context) time.Duration {
	if err := l.settle(ctx); err != nil {
		if ctx.Err() == nil {
			l.log.ErrorContext(ctx, "deliveries could not be recorded; trying again", "error", err)
		}
		return time.Second
	}
	if l.out > l.limit/2 {
		return l.Poll // results will wake the lane earlier
	}
	now := time.Now()
	lease := LeaseRequest{
		Sink: l.name, Holder: l.Holder, Token: uuid.NewString(),
		Limit: l.limit - l.out, Wait: l.opt.Group, Latest: l.opt.Coalesce,
		Now: now, Until: now.Add((prefetch + 2) * l.Timeout),
	}
	leased, err := l.Store.LeaseAlerts(ctx, lease)
	if err != nil {
		if ctx.Err() == nil {
			l.log.ErrorContext(ctx, "alerts could not be leased; trying again", "error", err)
		}
		return time.Second
	}
	if len(leased.Alerts) > 0 {
		l.paused.Store(0) // or somebody else has ended the pause, and what is leased would be given back again and again
	}
	l.hand(leased.Alerts, lease)
	if wait := leased.NextAt.Sub(now); !leased.NextAt.IsZero() && wait < l.Poll {
		return max(wait, 0)
	}
	return l.Poll
}

// hand gives leased alerts to the couriers.
func (l *lane) hand(alerts []Alert, lease LeaseRequest) {
	if len(alerts) == 0 {
		return
	}
	l.active = lease.Now
	l.out += len(alerts)
	if _, ok := l.sink.(Grouped); ok {
		l.work <- job{alerts, lease.Token, lease.Until}
		return
	}
	for i := range alerts {
		l.work <- job{alerts[i : i+1], lease.Token, lease.Until}
	}
}

// settle records the attempts that have ended. What it could not record it
// keeps.
func (l *lane) settle(ctx context.Context) error {
	for len(l.results) > 0 {
		l.done = append(l.done, <-l.results...)
	}
	if len(l.done) == 0 {
		return nil
	}
	now := time.Now()
	settlements := make([]Settlement, len(l.done))
	for i := range l.done {
		l.judgeSink(ctx, &l.done[i], now)
		settlements[i] = l.done[i].Settlement
	}
	if err := l.Store.SettleAlerts(ctx, now, settlements); err != nil {
		return err
	}
	l.out -= len(l.done)
	l.done = l.done[:0]
	return nil
}

// judgeSink is the breaker: a sink that takes nothing any more rests, rather
// than be tried with each alert that waits for it.
func (l *lane) judgeSink(ctx context.Context, r *result, now time.Time) {
	switch {
	case r.State == Delivered:
		l.failed, l.broken = 0, 0
		l.paused.Store(0)
	case !r.PauseUntil.IsZero():
		l.paused.Store(r.PauseUntil.UnixMicro())
	case r.failed && !l.opt.Many:
		r.failed = false // it is counted once, however often it takes to record it
		if l.failed++; l.failed < l.BreakAfter || l.resting(now) {
			return
		}
		limit := l.MaxBreak
		if l.broken < 30 && l.MinBreak<<l.broken < limit {
			limit = l.MinBreak << l.broken
		}
		l.broken++
		r.PauseUntil = now.Add(limit/2 + rand.N(limit/2+1))
		r.Reason = cleanText(fmt.Sprintf("%d deliveries in a row failed; the last: %s", l.failed, r.Error), maxError)
		l.paused.Store(r.PauseUntil.UnixMicro())
		l.log.WarnContext(ctx, "sink paused: deliveries to it fail", "until", r.PauseUntil, "error", r.Error)
	}
}

func (l *lane) resting(now time.Time) bool { return now.UnixMicro() < l.paused.Load() }

// finish waits for what is out and records it. If it can't, the leases are
// freed at the next start and the alerts delivered again.
func (l *lane) finish(ctx context.Context) {
	for len(l.done) < l.out {
		l.done = append(l.done, <-l.results...)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if err := l.settle(ctx); err != nil {
		l.log.ErrorContext(ctx, "the last deliveries could not be recorded; they will be repeated", "error", err)
	}
}

// attempt delivers alerts once and says what becomes of each. stopping is the
// lane's context; attempts that of what is under way.
func (l *lane) attempt(stopping, attempts context.Context, j job) []result {
	results := make([]result, len(j.alerts))
	var send []int // of j.alerts
	for i, a := range j.alerts {
		r := &results[i]
		r.Settlement = Settlement{ID: a.ID, Sink: l.name, Token: j.token, State: Pending, Error: a.LastError}
		if !l.holdBack(attempts, r, a) {
			send = append(send, i)
		}
	}
	if len(send) == 0 {
		return results
	}
	if wait, ok := l.mayBegin(stopping, j); !ok {
		for _, i := range send {
			results[i].Uncounted, results[i].RetryAt = true, time.Now().Add(wait)
		}
		return results
	}
	ctx, cancel := context.WithTimeout(attempts, l.Timeout)
	defer cancel()
	began := time.Now()
	err := l.deliver(ctx, j, send)
	l.metrics.attempted(err, time.Since(began))
	for n, i := range send {
		results[i].Error = ""
		l.ended(ctx, &results[i], j.alerts[i], err)
		results[i].failed = results[i].failed && n == 0 // a message is one failure, of however many alerts
	}
	return results
}

func (l *lane) deliver(ctx context.Context, j job, send []int) error {
	g, ok := l.sink.(Grouped)
	if !ok {
		return l.sink.Deliver(ctx, j.alerts[0])
	}
	group := make([]Alert, len(send))
	for n, i := range send {
		group[n] = j.alerts[i]
	}
	return g.DeliverGroup(ctx, group)
}

// holdBack reports whether people aren't to be told of a, or not yet.
func (l *lane) holdBack(ctx context.Context, r *result, a Alert) bool {
	if !l.opt.People {
		return false
	}
	now := time.Now()
	if why, tell := l.opt.news(a, now); !tell {
		r.State, r.Uncounted, r.Error = Skipped, true, why
		return true
	}
	if l.Hold == nil {
		return false
	}
	until, why := l.Hold(ctx, l.name, a.Outcome)
	if !until.After(now) {
		return false
	}
	if again := now.Add(holdAgain); until.After(again) {
		until = again
	}
	r.Uncounted, r.Held, r.RetryAt, r.Error = true, true, until, cleanText("held back: "+why, maxError)
	return true
}

// mayBegin waits for the sink's rate. If nothing is to be sent now, it says
// after what time.
func (l *lane) mayBegin(stopping context.Context, j job) (after time.Duration, ok bool) {
	now := time.Now()
	if l.resting(now) {
		return 0, false // the pause keeps it from being leased at once
	}
	if l.limiter != nil {
		turn := l.limiter.ReserveN(now, 1)
		wait := turn.DelayFrom(now)
		if now.Add(wait + l.Timeout).After(j.until) {
			turn.Cancel()
			return wait, false
		}
		if wait > 0 {
			select {
			case <-time.After(wait):
			case <-stopping.Done():
			}
		}
	}
	// Too late to be sure that nobody else has the key by the end?
	return 0, stopping.Err() == nil && !time.Now().Add(l.Timeout).After(j.until)
}

// ended says what becomes of an alert, and logs it.
func (l *lane) ended(ctx context.Context, r *result, a Alert, err error) {
	log := l.log.With("alert", a.ID, "run", a.Outcome.Run)
	if err == nil {
		r.State = Delivered
		log.DebugContext(ctx, "alert delivered", "seq", a.Seq, "attempt", a.Attempts+1)
		return
	}
	l.judge(r, a, err)
	switch {
	case r.State == Dead:
		log.WarnContext(ctx, "alert given up; to deliver it again: reeve alerts replay ID", "error", r.Error)
	case !r.PauseUntil.IsZero():
		log.WarnContext(ctx, "sink paused: it refuses every alert", "until", r.PauseUntil, "error", r.Error)
	case a.Attempts == 0:
		log.InfoContext(ctx, "alert not delivered; trying again", "at", r.RetryAt, "error", r.Error)
	default:
		log.DebugContext(ctx, "alert not delivered; trying again", "at", r.RetryAt, "error", r.Error)
	}
}

// judge turns a failure into what becomes of the alert.
func (l *lane) judge(r *result, a Alert, err error) {
	now := time.Now()
	r.Error = cleanText(err.Error(), maxError)
	class, after := classOf(err)
	switch {
	case class == Permanent:
		r.State = Dead
	case class == Pause:
		r.Uncounted, r.RetryAt, r.Reason, r.PauseUntil = true, now, r.Error, now.Add(max(l.Pause, min(after, l.MaxBackoff)))
	case now.Sub(a.Since) > l.MaxAge:
		r.State, r.failed = Dead, true
		r.Error = cleanText(fmt.Sprintf("given up after %s: %s", l.MaxAge, r.Error), maxError)
	default:
		r.failed = true
		r.RetryAt = now.Add(max(l.backoff(a.Attempts), min(after, l.MaxBackoff)))
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
