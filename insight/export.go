package insight

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"reeve.dev/reeve/fleet"
)

// Destination is where an SBOM goes beside the hub: a project, in one version,
// of a system that analyses components. The latest SBOM that goes to it
// replaces those before it, there and on the way there.
type Destination struct{ Project, Version string }

// Export is an SBOM that goes to a destination.
type Export struct {
	Destination
	Cluster     fleet.AgentName
	Environment Environment
	Service     string
	Build       string
	Digest      Digest
	State       ExportState
	Queued      time.Time
	Attempts    int
	// Next is when it is tried next; zero unless it waits.
	Next time.Time
	// Reason is why it was refused, or not taken the last time.
	Reason string
	// Ended is when it was sent or refused.
	Ended time.Time
}

// ExportState is how far an export is.
type ExportState string

// The states. What waits is tried until the destination takes it or refuses it;
// what was refused waits again when it is asked for, or a later SBOM comes.
const (
	ExportWaiting ExportState = "waiting"
	ExportSent    ExportState = "sent"
	ExportRefused ExportState = "refused"
)

// ExportBacklog counts exports.
type ExportBacklog struct {
	Waiting, Refused int
	// Oldest is when the oldest of those that wait was queued; zero where none
	// does.
	Oldest time.Time
}

// ExportStore keeps exports. What is queued in the transaction that stores an
// SBOM waits until the destination has taken or refused it.
type ExportStore interface {
	// DueExports lists those that wait and are due, the oldest first.
	DueExports(ctx context.Context, now time.Time, limit int) ([]Export, error)
	// PutExport keeps how an attempt ended, unless another SBOM has taken the
	// export's place meanwhile.
	PutExport(ctx context.Context, e Export) error
	// ExportsQueued is closed when there is more to do.
	ExportsQueued() <-chan struct{}
	// TakeDuty reports whether this replica of the hub is the one that exports.
	TakeDuty(ctx context.Context, name, holder string, now, until time.Time) (bool, error)
	Document(digest string) (io.ReadCloser, error)
}

// RefusedError means that a destination won't ever take an SBOM.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// LaterError means that a destination takes nothing for a time.
type LaterError struct {
	Err   error
	After time.Duration // 0 where it doesn't say
}

func (e *LaterError) Error() string { return e.Err.Error() }
func (e *LaterError) Unwrap() error { return e.Err }

// ExportTo has SBOMs of services go to the destinations that to answers, too;
// nil for one that goes nowhere. It is called before the first item comes.
func (s *Service) ExportTo(to func(Item, Document) (*Destination, error)) { s.exportTo = to }

// Exporter sends what waits.
type Exporter struct {
	Store ExportStore
	// Send sends an SBOM. A *RefusedError is for good, and after a *LaterError
	// nothing is sent for a while.
	Send   func(ctx context.Context, e Export, sbom io.Reader) error
	Holder string // names this hub among those on the same database
	Logger *slog.Logger
}

const (
	exportDuty   = "export of SBOMs"
	exportsAtOne = 4  // at once
	exportBatch  = 64 // read at a time
	// exportLook is how often what is due is looked for, and how long the duty
	// lasts that is renewed at each look.
	exportLook = 10 * time.Second
	exportLife = time.Minute
	// exportTime is for one SBOM.
	exportTime = 5 * time.Minute
	// The bounds of the pause after a failure.
	exportPauseMin = 2 * time.Second
	exportPauseMax = 10 * time.Minute
)

// Run sends until ctx ends.
func (x *Exporter) Run(ctx context.Context) {
	failures := 0
	for {
		queued := x.Store.ExportsQueued()
		wait := exportLook
		more, err := x.round(ctx)
		var later *LaterError
		switch {
		case ctx.Err() != nil:
			return
		case errors.As(err, &later):
			failures++
			wait = max(later.After, exportPause(failures))
			queued = nil
			x.Logger.WarnContext(ctx, "SBOMs aren't exported, will retry", "error", err, "in", wait.Round(time.Second))
		case err != nil:
			x.Logger.WarnContext(ctx, "SBOMs aren't exported, will retry", "error", err)
		default:
			failures = 0
			if more {
				continue
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-queued:
		case <-time.After(wait):
		}
	}
}

func exportPause(failures int) time.Duration {
	pause := exportPauseMax
	if failures < 10 {
		pause = min(pause, exportPauseMin<<(failures-1))
	}
	return pause/2 + rand.N(pause/2)
}

// round sends what is due, up to a batch of it, and reports whether there may be
// more. It ends at a *LaterError, unless others were sent in spite of it.
func (x *Exporter) round(ctx context.Context) (more bool, err error) {
	now := time.Now()
	mine, err := x.Store.TakeDuty(ctx, exportDuty, x.Holder, now, now.Add(exportLife))
	if err != nil || !mine {
		return false, err
	}
	ctx, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	go x.keepDuty(ctx, lose)
	due, err := x.Store.DueExports(ctx, now, exportBatch)
	if err != nil {
		return false, err
	}
	var group errgroup.Group
	group.SetLimit(exportsAtOne)
	var mu sync.Mutex
	sent, later := 0, error(nil)
	for _, e := range due {
		mu.Lock()
		stop := later != nil && sent == 0
		mu.Unlock()
		if stop || ctx.Err() != nil || time.Since(now) > exportLife/2 {
			break // the rest is due still
		}
		group.Go(func() error {
			var paused *LaterError
			err := x.one(ctx, e)
			mu.Lock()
			defer mu.Unlock()
			if errors.As(err, &paused) {
				later = err
				return nil
			}
			if err == nil {
				sent++
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return false, err
	}
	if sent == 0 && later != nil {
		return false, later
	}
	return len(due) > 0, nil
}

// keepDuty renews the duty until ctx ends, for one SBOM may take longer than it
// lasts: another hub would send a later one meanwhile, which this one's would
// replace.
func (x *Exporter) keepDuty(ctx context.Context, lose context.CancelCauseFunc) {
	for ended := time.Now().Add(exportLife); ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(exportLife / 4):
		}
		now := time.Now()
		switch mine, err := x.Store.TakeDuty(ctx, exportDuty, x.Holder, now, now.Add(exportLife)); {
		case err == nil && mine:
			ended = now.Add(exportLife)
		case err == nil, now.Add(exportLife / 4).After(ended):
			lose(errors.New("another hub exports now, or the database can't be asked"))
			return
		}
	}
}

// one tries one export and keeps how it ended. A failure of the destination is a
// *LaterError.
func (x *Exporter) one(ctx context.Context, e Export) error {
	call, cancel := context.WithTimeout(ctx, exportTime)
	defer cancel()
	failed := x.send(call, e)
	if failed != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	e.Attempts++
	now := time.Now()
	var refused *RefusedError
	var later *LaterError
	switch {
	case failed == nil:
		e.State, e.Ended, e.Next, e.Reason = ExportSent, now, time.Time{}, ""
	case errors.As(failed, &refused):
		e.State, e.Ended, e.Next, e.Reason = ExportRefused, now, time.Time{}, refused.Reason
		x.Logger.WarnContext(ctx, "SBOM refused", "project", e.Project, "version", e.Version, "sbom", e.Digest, "reason", refused.Reason)
		failed = nil
	case errors.As(failed, &later):
		e.Next, e.Reason = now.Add(max(later.After, exportPause(e.Attempts))), failed.Error()
	default:
		e.Next, e.Reason = now.Add(exportPause(e.Attempts)), failed.Error()
	}
	return cmp.Or(x.Store.PutExport(context.WithoutCancel(ctx), e), failed)
}

func (x *Exporter) send(ctx context.Context, e Export) error {
	r, err := x.Store.Document(string(e.Digest))
	if err != nil {
		return fmt.Errorf("read SBOM %s: %w", e.Digest, err)
	}
	defer r.Close()
	return x.Send(ctx, e, r)
}
