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
const passes = 16

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
		sc := &scout{run: r, t: t, session: session, how: target.GuessFiles, known: map[string]bool{}, open: map[string][]*target.Stretch{}}
		for range passes {
			again, err := sc.pass(ctx)
			if err != nil || !session.Release() || !again {
				return
			}
			sc.how = target.GuessLooks // what every control asks is known by now
			session.Wait(ctx)
			session.Hold()
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// scout is what the passes know of the controls.
type scout struct {
	run     *run // that they are ahead of
	t       target.Target
	session *target.Session
	how     target.Guess
	known   map[string]bool // there is nothing more to ask
	open    map[string][]*target.Stretch
}

// pass evaluates the controls for which there are news, and reports whether
// any needs another pass. Each pass is a run of its own, for what resources
// and libraries remember may come from a guess.
func (s *scout) pass(ctx context.Context) (again bool, err error) {
	guessed := map[string]bool{}
	begun := map[string]bool{}
	around := func(id string) func() {
		if !begun[id] {
			begun[id] = true
			delete(s.open, id)
		}
		how := s.how
		if how == target.GuessLooks && guessed[id] {
			how = target.Guessed
		}
		stretch := s.session.Begin(how)
		return func() {
			if stretch.End() {
				guessed[id] = true
				s.open[id] = append(s.open[id], stretch)
			}
		}
	}
	of := s.run
	r := &run{p: of.p, opt: of.opt, given: of.given, tagged: of.tagged, waivers: of.waivers, around: around}
	r.wanted = func(id string) bool {
		if s.known[id] || of.wanted != nil && !of.wanted(id) {
			return false
		}
		waits := len(s.open[id]) > 0 && !begun[id] && !slices.ContainsFunc(s.open[id], (*target.Stretch).News)
		again = again || waits
		return !waits
	}
	if err := r.install(ctx, s.t); err != nil || !r.supports(r.p) {
		return false, err
	}
	suite, err := r.load(ctx)
	if err != nil {
		return false, err
	}
	for _, c := range suite.Controls() {
		if s.how == target.GuessFiles && guessed[c.ID] {
			again = true
			continue // perhaps it isn't to be judged at all
		}
		done := around(c.ID)
		results, err := suite.Run(ctx, c)
		done()
		switch {
		case guessed[c.ID], errors.Is(err, target.ErrPending), slices.ContainsFunc(results, pending):
			again = true
		case err != nil:
			return false, err
		default:
			s.known[c.ID] = true
		}
	}
	return again, nil
}

func pending(r hdf.Result) bool { return strings.Contains(r.Message, target.ErrPending.Error()) }
