package alert

import (
	"errors"
	"time"
)

// Error is a failed delivery and what to do about it.
type Error struct {
	// Class is the decision; the zero value is to try again.
	Class Class
	// After, if positive, is how long the receiver asked to be left alone.
	After time.Duration
	Err   error
}

// Class is what a failed delivery leads to.
type Class int

// The classes of failure.
const (
	// Retry: the same alert may succeed later.
	Retry Class = iota
	// Permanent: this alert never will; it goes to the dead letters.
	Permanent
	// Pause: no alert will until someone mends the sink's configuration or
	// the receiver; the sink rests and nothing is given up.
	Pause
)

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// classOf reads the decision out of a sink's error.
func classOf(err error) (Class, time.Duration) {
	var e *Error
	if errors.As(err, &e) {
		return e.Class, e.After
	}
	return Retry, 0
}
