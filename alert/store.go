package alert

import (
	"context"
	"errors"
	"time"

	"reeve.dev/reeve/fleet"
)

// Errors of a Store's methods for people.
var (
	// ErrNotFound means that there is no alert of that ID.
	ErrNotFound = errors.New("no such alert")
	// ErrDelivered means that an alert can't be skipped: it has arrived.
	ErrDelivered = errors.New("the alert has been delivered already")
	// ErrSecretErased means that a callback can't be replayed: its
	// credential is gone.
	ErrSecretErased = errors.New("the callback's credential was erased when the callback was done; ask for the scan again")
)

// Store is the outbox. Its methods may be called concurrently, also by
// several hubs on one database.
type Store interface {
	// LeaseAlerts leases up to r.Limit keys of a sink whose oldest pending
	// alert is due, and returns those alerts. Nobody else gets a key until
	// its alert is settled or the lease has run out.
	LeaseAlerts(ctx context.Context, r LeaseRequest) (Leased, error)
	// SettleAlerts records how attempts ended and gives their keys back, in
	// one transaction. It ignores those whose lease was lost.
	SettleAlerts(ctx context.Context, now time.Time, done []Settlement) error
	// ReleaseAlerts ends the leases of holder: those of its earlier life.
	ReleaseAlerts(ctx context.Context, holder string) error
	// PendingSinks lists up to limit sinks whose names begin with prefix and
	// that have an alert that is due, the one that waits longest first.
	PendingSinks(ctx context.Context, prefix string, now time.Time, limit int) ([]string, error)
	// BuryAlerts gives up to limit alerts up that have been pending since
	// before a time and aren't leased.
	BuryAlerts(ctx context.Context, before, now time.Time, reason string, limit int) (int, error)
	// AlertBacklogs tells what waits for each sink, and what of it is dead.
	AlertBacklogs(ctx context.Context) ([]Backlog, error)
	// AlertsDue returns a channel that is closed when an alert becomes due
	// by something that this process did: one was enqueued, replayed, or
	// skipped out of the way of the next.
	AlertsDue() <-chan struct{}
}

// LeaseRequest asks for due alerts of one sink.
type LeaseRequest struct {
	Sink string
	// Holder names the hub that asks; Token this lease, and is never used
	// again.
	Holder, Token string
	Limit         int
	Now, Until    time.Time
	// Wait, if positive, leases nothing until the alert that has been due
	// longest has been so for that time: then others are due as well.
	Wait time.Duration
	// Latest skips what is pending of a key but its newest.
	Latest bool
}

// Backlog is what waits for a sink.
type Backlog struct {
	Sink          string
	Pending, Dead int
	Bytes         int64
	// Oldest is when the one became pending that waits longest.
	Oldest time.Time
	// Paused says that the sink is, or was when it was tried last.
	Paused bool
}

// Leased is what a lease brought.
type Leased struct {
	Alerts []Alert
	// NextAt is when the next alert becomes due that isn't yet, or when the
	// sink's pause ends; zero if nothing waits.
	NextAt time.Time
}

// Settlement is how an attempt to deliver an alert ended.
type Settlement struct {
	ID    ID
	Sink  string
	Token string
	// State is what the alert becomes; Pending to try it again.
	State State
	// Error says why the attempt failed.
	Error string
	// RetryAt is when a Pending alert is due again.
	RetryAt time.Time
	// Uncounted means that the alert itself wasn't judged: it wasn't sent,
	// or the sink refuses everything.
	Uncounted bool
	// Held means that people aren't to be told yet: its age is counted from now
	// on.
	Held bool
	// PauseUntil, if set, pauses the whole sink, for the Reason.
	PauseUntil time.Time
	Reason     string
}

// Filter selects alerts for a list. Its zero value selects all.
type Filter struct {
	State State
	Sink  string
	// Run selects the alerts of one scan, or one run of policies.
	Run string
	// Within, unless it is nil, leaves those out that aren't of a scan, or of a
	// subject of the hub's own policies, in one of it.
	Within []fleet.Scope
	// Before is the last alert of the page before; the list goes on with
	// older ones.
	Before ID
	// Limit is at most 1000; 0 means 100.
	Limit int
}

// SinkStatus is what is known of one sink's outbox.
type SinkStatus struct {
	Sink                              string
	Pending, Delivered, Dead, Skipped int
	// OldestPending is when the one became pending that waits longest.
	OldestPending time.Time
	// PausedUntil and Reason are set while the sink is paused by itself.
	PausedUntil time.Time
	Reason      string
	// HeldBy is the person who paused it.
	HeldBy string
}

// Outbox is the Store's side for people: to look, to replay, to skip.
type Outbox interface {
	// Alert returns one alert; its callback's credential is left out.
	Alert(ctx context.Context, id ID) (Alert, error)
	// Alerts lists alerts, the newest first, without credentials.
	Alerts(ctx context.Context, f Filter) ([]Alert, error)
	// ReplayAlert makes an alert of any state due now. It keeps its ID and
	// Seq, so that a receiver can tell that it is a repeat, or late.
	ReplayAlert(ctx context.Context, id ID) error
	// SkipAlert gives a pending or dead alert up, so that those behind it
	// go on.
	SkipAlert(ctx context.Context, id ID) error
	// AlertSinks tells how the outbox of each sink stands that ever had an
	// alert. Where counting takes long its counts may be some seconds old, never
	// its pause.
	AlertSinks(ctx context.Context) ([]SinkStatus, error)
	// HoldSink pauses a sink until ResumeSink, which ends any pause. Its
	// alerts wait.
	HoldSink(ctx context.Context, sink, by string) error
	ResumeSink(ctx context.Context, sink string) error
}
