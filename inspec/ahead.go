package inspec

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec/dsl"
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
const passes = 8

// ahead evaluates the profile ahead of the run, in an interpreter of its own
// and on a target that never waits, so that the target is asked early, and
// much at once, what the run will ask in its order. A control that needs an
// answer which isn't there yet is an error here; it is evaluated again when
// more answers came. Nothing of it reaches the results: a mistake costs time
// and nothing else.
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
		scout := &run{p: r.p, opt: r.opt, given: r.given, wanted: r.wanted, tagged: r.tagged, waivers: r.waivers}
		if err := scout.install(ctx, t); err != nil || !scout.supports(r.p) {
			return
		}
		known := map[string]bool{}
		scout.wanted = func(id string) bool { return !known[id] && (r.wanted == nil || r.wanted(id)) }
		for pass := range passes {
			again, err := scout.pass(ctx, pass == 0, known)
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
// now. It reports whether any isn't.
func (r *run) pass(ctx context.Context, first bool, known map[string]bool) (again bool, err error) {
	var suite *dsl.Suite
	if first {
		suite, err = r.load(ctx)
	} else {
		r.suites = map[*Profile]*dsl.Suite{}
		suite = r.suite(r.p)
		err = suite.Load(ctx)
	}
	if err != nil {
		return false, err
	}
	for _, c := range suite.Controls() {
		results, err := suite.Run(ctx, c)
		switch {
		case errors.Is(err, target.ErrPending), slices.ContainsFunc(results, pending):
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
