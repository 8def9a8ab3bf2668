// Package alert tells the world outside what a check found: it carries each
// outcome, passed or failed, to each configured sink, at least once and in
// order.
//
// The outbox is the database. An alert's row is written in the transaction
// that makes its outcome true (the store does that), so there is no outcome
// without its alerts and no alert of an outcome that was rolled back. The
// Worker delivers what is pending. DESIGN.md has the states, the order and
// what happens when something fails.
package alert

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
)

// ID names an alert: the same outcome for the same sink always has the same
// ID, so a receiver can tell a repeated delivery.
type ID string

// NewID derives the ID of an outcome's alert for one sink.
func NewID(o fleet.Outcome, sink string) ID {
	h := sha256.New()
	for _, s := range []string{o.Run, o.Subject.Owner, o.Subject.Repo, o.Policy, sink} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	return ID(hex.EncodeToString(h.Sum(nil)[:16]))
}

// State is where an alert stands.
type State string

// The states of an alert. A dead one was given up and may be replayed; a
// skipped one was given up by a person.
const (
	Pending   State = "pending"
	Delivered State = "delivered"
	Dead      State = "dead"
	Skipped   State = "skipped"
)

// CallbackSink is the reserved name of the sink that delivers callbacks. No
// configured sink may have it.
const CallbackSink = "callback"

// Alert is one outcome on its way to one sink.
type Alert struct {
	ID      ID
	Sink    string
	Outcome fleet.Outcome
	// Agent and Namespace are the emission's.
	Agent     fleet.AgentName
	Namespace string
	// Seq rises by the order of enqueueing within one owner, repo, policy
	// and sink; it begins at 1, and again once none of them is kept.
	Seq int64
	// Callback is set on the alerts of CallbackSink only.
	Callback *Callback

	State     State
	Attempts  int
	LastError string
	Created   time.Time
	// Since is when it became pending: when it was made, replayed, or held back
	// last.
	Since time.Time
	// Replayed says that a person asked for it again: people are told of it though
	// it is no news, and nothing newer takes its place.
	Replayed bool
	// Told is the outcome of the same key that the sink took last.
	Told Told
	// NextAt is when a pending alert at the head of its key is tried next.
	NextAt time.Time
	// Done is when the alert left the state pending.
	Done time.Time
}

// Told is what a sink was told last of an owner, repo and policy; At is zero if
// that was nothing, or is forgotten.
type Told struct {
	Pass, Gone bool
	At         time.Time
}

// Callback is what the asker of a scan wants to be told, and where, when the
// scan is over. It has no outcome when the scan could not be made.
type Callback struct {
	URL  string
	Auth Auth

	Scan     string
	Status   string
	Outcome  string
	Reason   string
	Counts   hdf.Counts
	Finished time.Time
}

// Auth is the credential for a callback. It is kept only until the callback
// is delivered or given up.
type Auth struct {
	Type     AuthType
	Token    string
	Username string
	Password string
	// Secret is what the callback is signed with, in place of the hub's.
	Secret string
}

// AuthType says how a callback is authenticated.
type AuthType string

// The kinds of authentication; the zero value is none.
const (
	NoAuth AuthType = "none"
	Bearer AuthType = "bearer"
	Basic  AuthType = "basic"
)

// Limits of what an alert carries. Receivers of gRPC refuse messages over
// 4 MiB by default; a text for a person is far below.
const (
	MaxDetails = 256 << 10
	MaxName    = 1 << 10
	maxError   = 1 << 10
)

// ErrUnnamed means that an outcome lacks its owner, repo or policy, so that
// no receiver could tell what it's about.
var ErrUnnamed = errors.New("outcome without owner, repo or policy")

// Clean makes an outcome fit to be sent: text that isn't UTF-8 is mended, NUL
// is taken out, and what is too long is cut, with a mark that says so. It
// returns ErrUnnamed if the outcome can't be told at all.
func Clean(o fleet.Outcome) (fleet.Outcome, error) {
	o.Subject.Owner = cleanText(o.Subject.Owner, MaxName)
	o.Subject.Repo = cleanText(o.Subject.Repo, MaxName)
	o.Policy = cleanText(o.Policy, MaxName)
	o.Details = cleanText(o.Details, MaxDetails)
	if o.Subject.Owner == "" || o.Subject.Repo == "" || o.Policy == "" {
		return o, fmt.Errorf("alert of run %q: %w", o.Run, ErrUnnamed)
	}
	return o, nil
}

// cleanText returns s as valid UTF-8 without NUL and of at most limit bytes.
func cleanText(s string, limit int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
	if len(s) <= limit {
		return s
	}
	mark := fmt.Sprintf(" … [cut: %d bytes in all]", len(s))
	cut := limit - len(mark)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + mark
}

// ValidateSink reports whether name can name a configured sink.
func ValidateSink(name string) error {
	switch {
	case !sinkName.MatchString(name):
		return fmt.Errorf("sink name %q: must be 1 to 63 lower-case letters, digits or '-', and begin and end with a letter or digit", name)
	case name == CallbackSink:
		return fmt.Errorf("sink name %q is reserved for the callbacks of scans; choose another", name)
	}
	return nil
}

var sinkName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Sink is one receiver of alerts.
type Sink interface {
	// Deliver hands a over and returns nil once the receiver has taken it.
	// An error is classed with Permanent or Paused; any other is tried
	// again. The context bounds the attempt.
	Deliver(ctx context.Context, a Alert) error
}

// Grouped is a Sink that takes several alerts, of different keys, as one
// message.
type Grouped interface {
	Sink
	// DeliverGroup is Deliver of all of them: they are taken or not together.
	DeliverGroup(ctx context.Context, as []Alert) error
}
