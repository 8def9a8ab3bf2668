package tunnel

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Backoff says how long to wait before the next dial. The zero value waits
// for up to 0.5 s after the first failure and doubles to at most 30 s.
type Backoff struct {
	Min, Max time.Duration
	// Stable is how long a session must have lived for the next wait to be
	// Min again; 0 is 10 s.
	Stable time.Duration
	// Logger is told of each failure and each session; nil discards it.
	Logger *slog.Logger
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
	if b.Logger == nil {
		b.Logger = slog.New(slog.DiscardHandler)
	}
	return b
}

// Maintain keeps a session up until ctx is done, and then returns ctx's
// cause. It dials, calls run with the session, closes the session when run
// returns, waits and dials again. The wait is drawn between half of the
// backoff and the whole, so that a fleet doesn't come back at one moment. run
// should return when its context or its session is done.
func Maintain(ctx context.Context, b Backoff, dial func(context.Context) (*Session, error), run func(context.Context, *Session) error) error {
	b = b.withDefaults()
	wait := b.Min
	for ctx.Err() == nil {
		s, err := dial(ctx)
		if err == nil {
			b.Logger.Info("link up", "remote", s.RemoteAddr().String())
			began := time.Now()
			err = run(ctx, s)
			s.Close()
			if time.Since(began) >= b.Stable {
				wait = b.Min
			}
		}
		if ctx.Err() != nil {
			break
		}
		pause := wait/2 + rand.N(wait/2+1)
		b.Logger.Warn("link down", "error", err, "retry_in", pause.Round(time.Millisecond))
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		wait = min(2*wait, b.Max)
	}
	return context.Cause(ctx)
}
