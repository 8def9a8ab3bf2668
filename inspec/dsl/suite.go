package dsl

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"runtime/debug"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// Resources makes and describes the resources that a profile asks about.
type Resources interface {
	Has(name string) bool
	Names() []string
	// New makes the resource name; a failure to look is kept on the resource
	// and told by Skipped and Failed.
	New(c *ruby.Call, name string, args []ruby.Value) (ruby.Value, error)
	Skipped(v ruby.Value) (msg string, ok bool)
	Failed(v ruby.Value) (msg string, ok bool)
	// Is tells resources from other values.
	Is(v ruby.Value) bool
	// ClassName is the resource's name, empty for anything else.
	ClassName(v ruby.Value) string
	ID(v ruby.Value) string
	// Backend is what `inspec` is in a profile.
	Backend() *ruby.Object
}

// What one profile may define. The limits of the interpreter start anew with
// each control, so that these bound what they can't: controls without end, and
// checks that fill the memory.
const (
	maxControls = 20_000
	maxChecks   = 100_000 // describe, it and its of one control
)

// Config is what a Suite needs.
type Config struct {
	Profile string // its name
	Version string
	// Inputs are those that the profile declares; Given are values from
	// outside, which win.
	Inputs map[string]Input
	Given  map[string]any
	// File returns a file of the profile, for inspec.profile.file.
	File func(name string) ([]byte, bool)
	// Wanted limits the controls that are evaluated; nil is all.
	Wanted func(id string) bool
	// Ungated evaluates no only_if, as when a profile's controls are listed.
	Ungated bool
	// Dependency returns the control files of a profile that this one depends
	// on, with its suite's configuration.
	Dependency func(name string) (Config, []*ruby.Program, error)
}

// Input is a declared input.
type Input struct {
	Value    any
	HasValue bool
	Required bool
	// Check reports why a value doesn't fit.
	Check func(v any) error
}

// A Suite is one profile's controls, evaluated.
type Suite struct {
	cfg      Config
	in       *ruby.Interp
	lang     *Language
	self     *ruby.Object // the control files' self
	order    []*Control
	byID     map[string]*Control
	inputs   map[string]Input
	file     string // being loaded
	title    string // of that file
	skipFile bool
	skipMsg  string
	begun    int // controls of the file
}

// New makes the suite of a profile; its libraries must have been run in the
// interpreter before.
func New(k *Language, cfg Config) *Suite {
	k.learn()
	s := &Suite{cfg: cfg, in: k.in, lang: k, byID: map[string]*Control{}, inputs: map[string]Input{}}
	maps.Copy(s.inputs, cfg.Inputs)
	s.self = s.in.NewObject(s.lang.context, s)
	return s
}

// Load evaluates control files in order.
func (s *Suite) Load(ctx context.Context, files []*ruby.Program) error {
	for _, f := range files {
		if err := s.load(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func (s *Suite) load(ctx context.Context, f *ruby.Program) error {
	s.file, s.title, s.skipFile, s.begun = f.File, "", false, 0
	s.in.Reset()
	s.lang.current = s
	err := func() (err error) {
		defer guard(&err)
		_, err = s.in.Run(ctx, f, s.self)
		return err
	}()
	for _, c := range s.order {
		if c.File == f.File && c.FileTitle == "" {
			c.FileTitle = s.title
		}
	}
	if err == nil {
		return nil
	}
	if stop := fatal(ctx, err); stop != nil {
		return stop
	}
	// The rest of the file is lost; a control of its own says so.
	line := 1
	if e := exception(err); e != nil && e.File == f.File {
		line = e.Line
	}
	c := &Control{ID: s.generatedID(f.File, line), File: f.File, Line: line, Code: f.Source(line, line), FileTitle: s.title, Impact: 0.5, suite: s}
	c.checks = []check{{kind: broken, file: f.File, line: line, err: err}}
	s.register(c)
	return nil
}

// fatal is the error that ends a run, if err is one.
func fatal(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("the run was stopped: %w", context.Cause(ctx))
	}
	var lost *target.LostError
	if errors.As(err, &lost) || errors.Is(err, target.ErrClosed) {
		return err
	}
	return nil
}

func exception(err error) *ruby.Exception {
	var e *ruby.Exception
	errors.As(err, &e)
	return e
}

// isJump reports whether err is a return or break on its way out.
func isJump(err error) bool {
	var limit *ruby.LimitError
	var broken *engineError
	return err != nil && ruby.IsControlFlow(err) && !errors.As(err, &limit) && !errors.As(err, &broken)
}

// An engineError is a mistake of this engine, met while it evaluated a
// profile. Profiles come from outside: one that finds such a mistake costs the
// control that did, not the process.
type engineError struct {
	value any
	stack []byte
}

func (e *engineError) Error() string {
	return fmt.Sprintf("the engine failed here, which is a mistake in it and not in the profile: %v", e.value)
}

// guard turns a panic into an *engineError.
func guard(err *error) {
	if v := recover(); v != nil {
		*err = &engineError{v, debug.Stack()}
	}
}

// generatedID names a describe that stands outside any control. InSpec takes
// a random number; this one is the same in each run.
func (s *Suite) generatedID(file string, line int) string {
	sum := sha256.Sum256([]byte(fmt.Sprintf("%s:%d:%d", file, line, len(s.order))))
	return fmt.Sprintf("(generated from %s:%d %s)", path.Base(file), line, hex.EncodeToString(sum[:16]))
}

// register adds a control, or merges it into the one of that id.
func (s *Suite) register(c *Control) {
	if s.skipFile {
		c.skip(s.skipMsg)
	}
	if old := s.byID[c.ID]; old != nil {
		old.merge(c)
		return
	}
	s.byID[c.ID] = c
	s.order = append(s.order, c)
}

// Controls lists the controls in the order of files and lines.
func (s *Suite) Controls() []*Control { return s.order }

// wanted reports whether the control is to be evaluated at all.
func (s *Suite) wanted(id string) bool { return s.cfg.Wanted == nil || s.cfg.Wanted(id) }

// include is include_controls and require_controls.
func (s *Suite) include(c *ruby.Call, all bool) (ruby.Value, error) {
	name := c.In.ToS(c.Arg(0))
	if s.cfg.Dependency == nil {
		return nil, c.In.Raise(nil, "Cannot load '%s' since it is not listed as a dependency of %s.", name, s.cfg.Profile)
	}
	cfg, files, err := s.cfg.Dependency(name)
	if err != nil {
		return nil, c.In.Raise(nil, "%s", err.Error())
	}
	cfg.Given, cfg.Wanted = s.cfg.Given, s.cfg.Wanted
	sub := New(s.lang, cfg)
	if err := sub.Load(c.In.Context(), files); err != nil {
		return nil, err
	}
	s.lang.current = s
	// What the block defines is laid over the controls of the same id.
	over := New(s.lang, cfg)
	if c.Block != nil {
		if _, err := c.In.InstanceExec(over.self, c.Block); err != nil {
			return nil, err
		}
	}
	for _, ctl := range sub.order {
		o := over.byID[ctl.ID]
		if (o == nil && !all) || slices.Contains(over.dropped(), ctl.ID) {
			continue
		}
		if o != nil {
			ctl.merge(o)
		}
		ctl.suite = sub
		s.register(ctl)
	}
	return nil, nil
}

func (s *Suite) dropped() []string {
	var ids []string
	for id, c := range s.byID {
		if c == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// drop is skip_control: the control is as if it had not been written.
func (s *Suite) drop(id string) {
	s.order = slices.DeleteFunc(s.order, func(c *Control) bool { return c.ID == id })
	s.byID[id] = nil
}

// unindent takes away the indentation that all lines share, as InSpec does
// with descriptions.
func unindent(text string) string {
	least := -1
	for line := range strings.SplitSeq(text, "\n") {
		if rest := strings.TrimLeft(line, " \t"); strings.TrimSpace(line) != "" {
			if n := len(line) - len(rest); least < 0 || n < least {
				least = n
			}
		}
	}
	if least <= 0 {
		return strings.TrimSpace(text)
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if rest := strings.TrimLeft(line, " \t"); len(line)-len(rest) >= least {
			lines[i] = line[least:]
		}
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}
