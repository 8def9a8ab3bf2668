package alert

import (
	"errors"
	"fmt"
	"time"
)

// Options are how a sink is served. The zero value is a program's: it is told
// of every outcome, in order, as fast as it takes them.
type Options struct {
	// Concurrency is how many deliveries run at once; 0: the Worker's.
	Concurrency int
	// Rate is how many deliveries are begun in a second; 0: no limit.
	Rate float64
	// Coalesce skips what a newer outcome of the same owner, repo and policy
	// has made old before it was delivered.
	Coalesce bool
	// Many says that it stands for many receivers, such as those of callbacks:
	// that one fails says nothing of the others, so failures don't pause it.
	Many bool
	// People says that people read it. They are told of changes alone, and
	// again of a failure that stands when Remind has passed (24 h); silences
	// and Config.Hold hold back what they would be told. Every outcome has the
	// sink told of each, for one that tells changes itself.
	People bool
	Every  bool
	Remind time.Duration
	// Group is how long outcomes are gathered for one message, if the sink is
	// Grouped.
	Group time.Duration
}

const (
	defaultRemind  = 24 * time.Hour
	maxConcurrency = 256
	maxGroup       = time.Hour
)

// Validate reports the first thing that is wrong with o.
func (o Options) Validate() error {
	switch {
	case o.Concurrency < 0 || o.Concurrency > maxConcurrency:
		return fmt.Errorf("concurrency %d: it must be between 1 and %d, or 0 for the default", o.Concurrency, maxConcurrency)
	case o.Rate < 0:
		return fmt.Errorf("rate %v: it must be a number of deliveries a second, or 0 for no limit", o.Rate)
	case o.Remind < 0 || o.Remind > 0 && o.Remind < time.Minute:
		return fmt.Errorf("remind %v: it must be at least 1m, or 0 for the default", o.Remind)
	case o.Group < 0 || o.Group > maxGroup:
		return fmt.Errorf("group %v: it must be between 0 and %v", o.Group, maxGroup)
	case !o.People && (o.Remind > 0 || o.Group > 0 || o.Every):
		return errors.New("remind, group and every are for channels that people read")
	}
	return nil
}

// news reports whether people are to be told of a, and if not, why.
func (o Options) news(a Alert, now time.Time) (why string, tell bool) {
	if !o.People || o.Every || a.Replayed {
		return "", true
	}
	remind := o.Remind
	if remind == 0 {
		remind = defaultRemind
	}
	pass, gone := a.Outcome.Pass, a.Outcome.Gone
	switch {
	case (pass || gone) && a.Told.At.IsZero(), gone && a.Told.Pass, pass && a.Told.Gone:
		return "no news: nothing was wrong before", false
	case a.Told.At.IsZero() || a.Told.Pass != pass || a.Told.Gone != gone:
		return "", true
	case !pass && !gone && now.Sub(a.Told.At) >= remind:
		return "", true
	}
	return "no news: the same was told at " + a.Told.At.UTC().Format(time.RFC3339), false
}
