package event

import (
	"context"
	"time"

	"reeve.dev/reeve/fleet"
)

// Store keeps events. Each method is one transaction and returns nil only once
// its change is durable. Now is given by the caller.
type Store interface {
	// AddEvents keeps the events of calls that aren't there yet. At most limit are
	// pending, and of each sender at most [Share] times as many as there is room
	// for then; of a call for which there isn't, none is kept.
	AddEvents(ctx context.Context, calls [][]Event, limit int) ([]Added, error)
	// ClaimEvents gives up to limit pending events that are due, the one that
	// waits longest first; nobody else is given them before until.
	ClaimEvents(ctx context.Context, now, until time.Time, limit int) (Claimed, error)
	// SettleEvents records how events ended, all or none.
	SettleEvents(ctx context.Context, now time.Time, done []Settlement) error
	// LastEventScan gives the latest scan of a content, if one was settled
	// after since and isn't in error or cancelled; else latest is what the
	// content's last scan was, if any.
	LastEventScan(ctx context.Context, content string, since time.Time) (valid bool, latest string, err error)

	// Event returns ErrNotFound if there is none.
	Event(ctx context.Context, id ID) (Event, error)
	Events(ctx context.Context, f Filter) ([]Event, error)
	// SweepEvents removes settled events that came before a time, and the oldest
	// beyond so many events, or so many bytes; and what is known of contents
	// scanned before.
	SweepEvents(ctx context.Context, before time.Time, keep int, bytes int64) (int, error)

	// SetEventRoutes replaces the routes of an agent's own.
	SetEventRoutes(ctx context.Context, agent string, routes []Route) error
	// EventRoutes gives the routes of all agents, by agent and name.
	EventRoutes(ctx context.Context) ([]Route, error)

	// EventsDue returns a channel that is closed when events are added.
	EventsDue() <-chan struct{}
}

// Share is how many events of one sender may wait for each one that there is room
// for. So one alone has four fifths of the room, and nobody can take it all: for
// others there is always some left.
const Share = 4

// Added is what became of a call: Full if there was no room for it, and otherwise
// which of its events are New.
type Added struct {
	New  []bool
	Full bool
}

// Claimed is what ClaimEvents brought. NextAt is when the next event is due
// that isn't yet; zero if none waits.
type Claimed struct {
	Events []Event
	NextAt time.Time
}

// Settlement is how an event ended, or Pending where it is to be tried again
// at RetryAt.
type Settlement struct {
	ID        ID
	State     State
	Reason    string
	Decisions []Decision
	// Scans are those that were made, by what they are of.
	Scans map[string]string
	// Later is the event that supersedes this one: it waits since Since.
	Later   ID
	Since   time.Time
	RetryAt time.Time
}

// Filter chooses events; the zero value of a member chooses all. They come
// newest first; Before is the id at which the last page ended.
type Filter struct {
	State  State
	Type   string
	Source string
	Agent  string
	// Within are the parts of the fleet that the caller may know of; nil: all.
	Within []fleet.Scope
	Before ID
	Limit  int
}
