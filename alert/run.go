package alert

import (
	"context"
	"errors"
	"time"

	"reeve.dev/reeve/fleet"
)

// Emission is an outcome and the sinks that are told of it; none: it is only
// counted.
type Emission struct {
	Outcome fleet.Outcome
	Sinks   []string
	// Agent and Namespace are where the subject is, for callers who are limited to a
	// part of the fleet; empty for one in no cluster, and for what the hub hasn't
	// found out itself.
	Agent     fleet.AgentName
	Namespace string
}

// Emit is what one transaction records: outcomes of a run, with their alerts,
// and what is known of the run. A run may be emitted in several: the first
// names its Source.
type Emit struct {
	Run string
	// Source says what made the run, such as scan or policy:NAME.
	Source    string
	Emissions []Emission
	// Expected, unless it is 0, is how many outcomes the whole run should come
	// to; the last one said counts.
	Expected int
	// Done says that nothing more comes of the run, and Note, if it isn't
	// empty, why something is missing.
	Done bool
	Note string
	// Alone says that the outcome is all of the run: no record is kept of it.
	Alone bool
}

// Run is the record of what made outcomes. One that has ended with fewer
// outcomes than it should have, or hasn't ended, is not complete: what it
// doesn't tell of was not checked.
type Run struct {
	ID, Source, Note  string
	Expected, Emitted int
	Began             time.Time
	// Ended is zero while it goes on, and of one that was never ended.
	Ended time.Time
	// Alerts are how many of its alerts are in each state; nil in lists.
	Alerts map[State]int
}

// Complete reports whether all outcomes came that should have.
func (r Run) Complete() bool { return !r.Ended.IsZero() && r.Emitted >= r.Expected }

// RunFilter selects runs for a list, the newest first. Its zero value selects
// all.
type RunFilter struct {
	Source string
	// Incomplete selects those that aren't complete.
	Incomplete bool
	// Before is the last run of the page before.
	Before string
	// Limit is at most 1000; 0 means 100.
	Limit int
}

// Errors of runs, and of a full outbox.
var (
	ErrNoRun = errors.New("no such run")
	// ErrFull means that as much is waiting for delivery as may: nothing was
	// recorded, and it can be once something was delivered, skipped or given
	// up.
	ErrFull = errors.New("the outbox of alerts is full; `reeve get sinks` tells which sink takes nothing")
)

// Runs is where outcomes are recorded.
type Runs interface {
	// Emit records outcomes and their alerts in one transaction. An outcome
	// that is there already changes nothing, and isn't counted again if it has
	// sinks.
	Emit(ctx context.Context, e Emit) error
	OutcomeRun(ctx context.Context, id string) (Run, error)
	OutcomeRuns(ctx context.Context, f RunFilter) ([]Run, error)
}
