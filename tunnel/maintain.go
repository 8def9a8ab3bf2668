package tunnel

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Backoff says how long to wait before the next dial. The zero value waits
// for up to 0.5 s after the first failure and doubles to at most 30 s.
type Backoff struct {
	Min, Max time.Duration
	// Stable is how long a session must have lived for the next wait to be
	// Min again; 0 is 10 s.
	Stable time.Duration
}

func (b Backoff) withDefaults() Backoff {
	if b.Min == 0 {
		b.Min = 500 * time.Millisecond
	}
	if b.Max == 0 {
		b.Max = 30 * time.Second
	}
	if b.Stable == 0 {
		b.Stable = 10 * time.Second
	}
	return b
}

// Link keeps the carriers of one process up. Dial and Serve are required.
type Link struct {
	// Carriers is how many to keep; 0 is 1.
	Carriers int
	// Hubs is how many addresses Dial knows; 0 is 1. Each carrier prefers
	// another one, beginning with First, and comes back to it when it can;
	// meanwhile it goes where no other carrier is, if there is such a place.
	Hubs, First int
	// Dial opens a carrier to the hub of that number.
	Dial func(ctx context.Context, hub int) (*Session, error)
	// Serve serves a session until that or ctx is done. It calls up once the
	// session does its work.
	Serve func(ctx context.Context, s *Session, up func()) error
	// Stale reports whether a session should be replaced, because a new one
	// would have a newer certificate. It is asked every Review. Nil: never.
	Stale func(*Session) bool
	// Review is how often a carrier is looked at; 0 is a minute.
	Review time.Duration
	// Grace is how long requests under way may take to end once the link is to
	// end; 0 is none.
	Grace   time.Duration
	Backoff Backoff
	// Logger is told of each failure and each session; nil discards it.
	Logger *slog.Logger
}

// Run keeps the carriers up until ctx is done, and then returns ctx's cause.
// Each is dialled, served and dialled again. The wait between is drawn between
// half of the backoff and the whole, so that a fleet doesn't come back at one
// moment. A session that the hub drains, or that is stale, goes on until its
// last request has ended; its successor is there before that (make before
// break).
func (l Link) Run(ctx context.Context) error {
	l.Carriers, l.Hubs = max(1, l.Carriers), max(1, l.Hubs)
	l.Backoff = l.Backoff.withDefaults()
	if l.Review == 0 {
		l.Review = time.Minute
	}
	if l.Logger == nil {
		l.Logger = slog.New(slog.DiscardHandler)
	}
	serving, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	var slots, sessions sync.WaitGroup
	at := &places{hubs: make([]int, l.Carriers)}
	for i := range l.Carriers {
		at.hubs[i] = (l.First + i) % l.Hubs
	}
	for i := range l.Carriers {
		k := &keeper{Link: l, serving: serving, sessions: &sessions, carrier: i, at: at, preferred: (l.First + i) % l.Hubs, log: l.Logger.With("carrier", i)}
		slots.Go(func() { k.run(ctx) })
	}
	slots.Wait()
	// Each keeper has drained its sessions, which end by themselves.
	defer time.AfterFunc(l.Grace, func() { end(context.Cause(ctx)) }).Stop()
	sessions.Wait()
	return context.Cause(ctx)
}

// keeper keeps one of a link's carriers up.
type keeper struct {
	Link
	serving   context.Context // of the sessions
	sessions  *sync.WaitGroup
	carrier   int
	at        *places // of all carriers
	preferred int     // hub
	log       *slog.Logger

	mu  sync.Mutex
	now *Session // guarded by mu; the last that is up
}

// places are the hubs where the carriers of a link are, or try to be.
type places struct {
	mu   sync.Mutex
	hubs []int // guarded by mu; by carrier
}

func (p *places) set(carrier, hub int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hubs[carrier] = hub
}

// next is the hub after one where a carrier can't be: where no other carrier
// is, unless all such were tried.
func (k *keeper) next(hub, failed int) int {
	k.at.mu.Lock()
	defer k.at.mu.Unlock()
	k.at.hubs[k.carrier] = -1
	next := (hub + 1) % k.Hubs
	for i := 1; i < k.Hubs && failed < k.Hubs; i++ {
		if h := (hub + i) % k.Hubs; !slices.Contains(k.at.hubs, h) {
			next = h
			break
		}
	}
	k.at.hubs[k.carrier] = next
	return next
}

// served is a session that is being served.
type served struct {
	s     *Session
	hub   int
	began time.Time
	up    chan struct{}
	ended chan error
}

var (
	errDraining = errors.New("the hub lets the carrier end; another takes its place")
	errStale    = errors.New("a newer certificate, or a nearer hub, is there; another carrier takes this one's place")
)

func (k *keeper) run(ctx context.Context) {
	hub, wait, failed := k.preferred, k.Backoff.Min, 0
	for ctx.Err() == nil {
		s, err := k.Dial(ctx, hub)
		failed++
		if err == nil {
			v := k.serve(s, hub)
			err = k.watch(ctx, v)
			if v.isUp() {
				failed = 0
			}
			long := time.Since(v.began) >= k.Backoff.Stable
			if long {
				wait = k.Backoff.Min
			}
			switch {
			case errors.Is(err, errStale):
				hub = k.preferred
				k.at.set(k.carrier, hub)
				continue
			case errors.Is(err, errDraining):
				// Soon, but not all agents of a hub at one moment.
				hub = k.next(hub, failed)
				if long {
					k.log.Info("carrier is drained", "hub", v.hub)
					k.pause(ctx, k.Backoff.Min)
					continue
				}
			case !v.isUp():
				hub = k.next(hub, failed)
			}
		} else {
			hub = k.next(hub, failed)
		}
		if ctx.Err() != nil {
			break
		}
		k.log.Warn("carrier down", "error", err, "retryWithin", wait)
		k.pause(ctx, wait)
		wait = min(2*wait, k.Backoff.Max)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now != nil {
		k.now.Drain()
	}
}

// serve begins to serve a session. When it is up, the one before is drained.
func (k *keeper) serve(s *Session, hub int) *served {
	v := &served{s: s, hub: hub, began: time.Now(), up: make(chan struct{}), ended: make(chan error, 1)}
	k.log.Info("carrier up", "remote", s.RemoteAddr().String())
	k.sessions.Go(func() {
		err := k.Serve(k.serving, s, sync.OnceFunc(func() { k.succeed(v) }))
		s.Close()
		v.ended <- err
	})
	return v
}

func (k *keeper) succeed(v *served) {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(v.up)
	if k.now != nil {
		k.now.Drain()
	}
	k.now = v.s
}

func (v *served) isUp() bool {
	select {
	case <-v.up:
		return true
	default:
		return false
	}
}

// watch returns when the session needs a successor, and says why. It may be
// open still.
func (k *keeper) watch(ctx context.Context, v *served) error {
	for {
		review := time.NewTimer(k.Review/2 + rand.N(k.Review))
		select {
		case err := <-v.ended:
			review.Stop()
			return err
		case <-v.s.Draining():
			review.Stop()
			return errDraining
		case <-ctx.Done():
			review.Stop()
			v.s.Drain()
			return context.Cause(ctx)
		case <-review.C:
			if k.Stale != nil && k.Stale(v.s) {
				return errStale
			}
			if v.hub == k.preferred {
				continue
			}
			if s, err := k.Dial(ctx, k.preferred); err == nil {
				v = k.serve(s, k.preferred)
				k.at.set(k.carrier, k.preferred)
			}
		}
	}
}

// pause waits for between half of d and the whole.
func (k *keeper) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d/2 + rand.N(d/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
