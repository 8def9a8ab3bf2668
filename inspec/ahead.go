package inspec

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec/target"
)

// Jobs is how many commands run side by side where Options say nothing.
const Jobs = 4

// Stats say what a run cost.
type Stats struct {
	target.Stats
	// Wall is the time from the beginning of Run to its end, Own that part of
	// it in which Run didn't wait for the target.
	Wall, Own time.Duration
}

// passes bounds how often the profile is evaluated ahead.
const passes = 10

// ahead evaluates the profile ahead of the run, in interpreters of their own
// and on a target that never waits, so that the target is asked early, and
// much at once, what the run will ask in its order. Where an answer isn't there
// yet, the control goes on with a guess or is an error; it is evaluated again
// when more answers came. Nothing of it reaches the results: a mistake costs
// time and nothing else.
//
// The function that it returns ends it and waits until it has ended.
func (r *run) ahead(ctx context.Context, session *target.Session) (stop func()) {
	t, useful := session.Ahead()
	if !useful {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	session.Hold()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer session.Release()
		known := map[string]bool{}
		how := target.GuessFiles // what every control asks comes first
		for range passes {
			again, err := r.pass(ctx, t, session, how, known)
			how = target.GuessLooks
			if err != nil || !session.Release() || !again {
				return
			}
			session.Wait(ctx)
			session.Hold()
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// pass evaluates all controls but the known ones, and notes which are known
// now. It reports whether any isn't. Each pass is a run of its own, for what
// resources and libraries remember may come from a guess.
func (r *run) pass(ctx context.Context, t target.Target, session *target.Session, how target.Guess, known map[string]bool) (again bool, err error) {
	guessed := map[string]bool{}
	note := func(id string) func() {
		way := how
		if how == target.GuessLooks && guessed[id] {
			way = target.Guessed
		}
		before := session.Guess(way)
		return func() {
			if session.Guess(target.NoGuess) > before {
				guessed[id] = true
			}
		}
	}
	scout := &run{p: r.p, opt: r.opt, given: r.given, tagged: r.tagged, waivers: r.waivers, around: note}
	scout.wanted = func(id string) bool { return !known[id] && (r.wanted == nil || r.wanted(id)) }
	if err := scout.install(ctx, t); err != nil || !scout.supports(r.p) {
		return false, err
	}
	suite, err := scout.load(ctx)
	if err != nil {
		return false, err
	}
	for _, c := range suite.Controls() {
		if how == target.GuessFiles && guessed[c.ID] {
			again = true
			continue // perhaps it isn't to be judged at all
		}
		done := note(c.ID)
		results, err := suite.Run(ctx, c)
		done()
		switch {
		case guessed[c.ID], errors.Is(err, target.ErrPending), slices.ContainsFunc(results, pending):
			again = true
		case err != nil:
			return false, err
		default:
			known[c.ID] = true
		}
	}
	return again, nil
}

func pending(r hdf.Result) bool { return strings.Contains(r.Message, target.ErrPending.Error()) }
