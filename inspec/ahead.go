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

// tries bounds how often a control is evaluated ahead, for each time may ask
// something else.
const tries = 16

// ahead evaluates the profile ahead of the run, in an interpreter of its own
// and on a target that never waits, so that the target is asked early, and
// much at once, what the run will ask in its order. Where an answer isn't there
// yet, the control goes on with a guess or is an error; it is evaluated again
// when more answers came, while the target works on others. Nothing of it
// reaches the results: a mistake costs time and nothing else.
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
		// Whatever fails here fails in the run as well, whose caller is told.
		defer func() { _ = recover() }()
		select {
		case <-session.Begun(): // until then the run has better use for the processors
		case <-ctx.Done():
			return
		}
		s := &scout{session: session, controls: map[string]*scouted{}, files: map[string]*scouted{}, grown: map[string]int{}}
		if s.begin(ctx, r, t) != nil {
			return
		}
		for ctx.Err() == nil {
			if again, err := s.pass(ctx); err != nil || !again {
				return
			}
			session.Next(ctx)
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// scout is an evaluation ahead. It has one interpreter: what resources and
// libraries remember there may come from a guess.
type scout struct {
	session  *target.Session
	run      *run
	passes   int
	controls map[string]*scouted // by id
	files    map[string]*scouted // whose code outside of controls is an error until more is known
	ready    map[string]bool     // files of which there are news
	grown    map[string]int      // files, and in how many passes they brought controls that weren't known
}

// scouted is what a scout knows of a control.
type scouted struct {
	file    string // where it is written
	pass    int    // the last one that it was evaluated in
	tries   int    // how many these were
	known   bool   // there is nothing more to ask
	guessed bool   // when it was evaluated last
	missing []*target.Stretch
}

// open reports whether there may be news of the control.
func (c *scouted) open() bool { return !c.known && c.tries < tries }

// news reports whether there are.
func (c *scouted) news() bool {
	return c.open() && slices.ContainsFunc(c.missing, (*target.Stretch).News)
}

// begin makes the run ahead of that of.
func (s *scout) begin(ctx context.Context, of *run, t target.Target) error {
	s.run = &run{p: of.p, opt: of.opt, given: of.given, tagged: of.tagged, waivers: of.waivers, around: s.around, suites: map[*Profile]*dsl.Suite{}}
	s.run.wanted = func(id string) bool {
		if of.wanted != nil && !of.wanted(id) {
			return false
		}
		c := s.controls[id]
		return c == nil || c.pass == s.passes || c.news()
	}
	s.run.skips = func(file string) bool { return s.passes > 1 && !s.ready[file] }
	if err := s.run.install(ctx, t); err != nil {
		return err
	}
	if !s.run.supports(s.run.p) {
		return errors.New("nothing to evaluate")
	}
	if of.tagged == nil {
		s.run.in.Skip("title", "desc", "tag", "ref", "impact") // nothing is asked by these
	}
	return s.run.libraries(ctx, s.run.p, map[*Profile]bool{})
}

// around is called around the evaluation of a control's block, and around that
// of its checks.
func (s *scout) around(id string) func() {
	c := s.controls[id]
	if c == nil {
		c = &scouted{}
		s.controls[id] = c
	}
	if c.pass != s.passes {
		c.pass, c.guessed, c.missing = s.passes, false, nil
		c.tries++
	}
	how := target.GuessLooks
	switch {
	case c.tries == 1:
		how = target.GuessFiles // ask first what every control asks
	case c.guessed:
		how = target.Guessed
	}
	stretch := s.session.Begin(how)
	return func() {
		if stretch.End() {
			c.guessed = true
			c.missing = append(c.missing, stretch)
		}
	}
}

// pass evaluates the controls of which there are news, and in the beginning
// all. It reports whether there may be any later.
func (s *scout) pass(ctx context.Context) (again bool, err error) {
	s.passes++
	s.ready = map[string]bool{}
	for file, f := range s.files {
		if f.open() {
			s.ready[file] = true
		}
	}
	for _, c := range s.controls {
		// A file whose controls are others each time has no end.
		if c.news() && s.grown[c.file] <= tries {
			s.ready[c.file] = true
		}
	}
	if s.passes == 1 || len(s.ready) > 0 {
		if err := s.evaluate(ctx); err != nil {
			return false, err
		}
	}
	for _, all := range []map[string]*scouted{s.controls, s.files} {
		for _, c := range all {
			again = again || c.open()
		}
	}
	return again, nil
}

func (s *scout) evaluate(ctx context.Context) error {
	for _, suite := range s.run.suites {
		suite.Forget()
	}
	suite := s.run.suite(s.run.p)
	if err := suite.Load(ctx); err != nil {
		return err
	}
	grew := map[string]bool{}
	defer func() {
		for file := range grew {
			s.grown[file]++
		}
	}()
	for _, of := range suite.Controls() {
		c := s.controls[of.ID]
		if c != nil && c.tries == 1 {
			grew[of.File] = true
		}
		done := func() {}
		switch {
		case c == nil: // what stands outside of controls is an error
			if c = s.files[of.File]; c == nil {
				c = &scouted{}
				s.files[of.File] = c
			}
			c.tries++
		case c.tries == 1 && c.guessed:
			c.file = of.File
			continue // perhaps it isn't to be judged at all
		default:
			c.file = of.File
			done = s.around(of.ID)
		}
		results, err := suite.Run(ctx, of)
		done()
		if err != nil && !errors.Is(err, target.ErrPending) {
			return err
		}
		c.known = !c.guessed && err == nil && !slices.ContainsFunc(results, pending)
	}
	return nil
}

func pending(r hdf.Result) bool { return strings.Contains(r.Message, target.ErrPending.Error()) }
