package alert

import (
	"context"
	"errors"
	"fmt"
	"time"

	"reeve.dev/reeve/fleet"
)

// Silence holds back what a people's channel would be told, until a time. What
// is held back isn't lost: it is told afterwards, if it is still news.
type Silence struct {
	ID string
	// Sink, Owner, Repo and Policy are patterns, in which * stands for any
	// text; an empty one is for all.
	Sink, Owner, Repo, Policy string
	Until                     time.Time
	Comment                   string
	CreatedBy                 string
	Created                   time.Time
}

// ErrNoSilence means that there is no silence of that ID.
var ErrNoSilence = errors.New("no such silence")

const maxSilence = 366 * 24 * time.Hour

// Validate reports what is wrong with a silence that begins at now.
func (s Silence) Validate(now time.Time) error {
	switch {
	case s.Sink == "" && s.Owner == "" && s.Repo == "" && s.Policy == "":
		return errors.New("a silence needs a sink, owner, repo or policy; * stands for any text")
	case !s.Until.After(now):
		return errors.New("until: it must be in the future")
	case s.Until.Sub(now) > maxSilence:
		return errors.New("until: it must be within a year")
	case s.Comment == "":
		return errors.New("comment: say why, for those who wonder")
	}
	for _, f := range []struct{ name, text string }{
		{"sink", s.Sink}, {"owner", s.Owner}, {"repo", s.Repo}, {"policy", s.Policy}, {"comment", s.Comment},
	} {
		if len(f.text) > MaxName {
			return fmt.Errorf("%s: longer than %d bytes", f.name, MaxName)
		}
	}
	return nil
}

// Covers reports whether s holds o back from sink at a time.
func (s Silence) Covers(sink string, o fleet.Outcome, now time.Time) bool {
	is := func(pattern, text string) bool { return pattern == "" || fleet.Match(pattern, text) }
	return now.Before(s.Until) && is(s.Sink, sink) && is(s.Owner, o.Subject.Owner) && is(s.Repo, o.Subject.Repo) && is(s.Policy, o.Policy)
}

// Silences is where silences are kept.
type Silences interface {
	AddSilence(ctx context.Context, s Silence) error
	// Silences are those that end after now, the one that ends first first.
	Silences(ctx context.Context, now time.Time) ([]Silence, error)
	RemoveSilence(ctx context.Context, id string) error
}
