package dsl

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
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
	// Inputs are those that the profile declares, with the values that its own
	// metadata, profiles above it and the caller give.
	Inputs []Input
	// File returns a file of the profile, for inspec.profile.file.
	File func(name string) ([]byte, bool)
	// Wanted limits the controls that are evaluated; nil is all. Tagged admits
	// more of them, by the names and values of their tags; nil is none.
	Wanted func(id string) bool
	Tagged func(tag string) bool
	// Ungated evaluates no only_if, as when a profile's controls are listed.
	Ungated bool
	// Around is called when the block of a control begins, and what it returns
	// when the block ends; it may be nil.
	Around func(id string) func()
	// Waivers are by control.
	Waivers map[string]Waiver
	// Files are the control files, in order. Those that Skips names aren't
	// evaluated; it may be nil.
	Files []*ruby.Program
	Skips func(file string) bool
	// Broken are controls that could not be read.
	Broken []Broken
	// Spoiled is set when something went wrong that may concern any control,
	// which makes each of them an error.
	Spoiled error
	// Explain gives the reason behind an error, as when a name is unknown
	// because the library that defines it could not be read.
	Explain func(err error) string
	// Dependency returns the suite of a profile that this one depends on; nil
	// when that one doesn't support the target.
	Dependency func(name string) (*Suite, error)
}

// Broken is a control that could not be read.
type Broken struct {
	ID   string // empty: what is broken is no control
	File string
	Line int // of the control
	Err  error
}

// Waiver says that a control's findings are accepted.
type Waiver struct {
	// Skip keeps the control from being judged.
	Skip          bool
	Justification string
	// Data is what results tell of the waiver.
	Data map[string]any
}

// A Suite is one profile's controls, evaluated. Those that it includes from
// other profiles stay in their suites, so that two profiles may have controls
// of the same id.
type Suite struct {
	cfg      Config
	in       *ruby.Interp
	lang     *Language
	self     *ruby.Object // the control files' self
	order    []*Control
	byID     map[string]*Control
	included []*Suite
	over     *Suite // whose include block is being evaluated
	loaded   bool
	inputs   map[string]*Input
	asked    []*Input // in the order in which they were first named
	file     string   // being loaded
	title    string   // of that file
	skipFile bool
	skipMsg  string
	begun    int             // controls of the file
	unnamed  int             // of these, the ones whose id is generated
	named    map[string]bool // by the include block
}

// New makes the suite of a profile; its libraries must have been run in the
// interpreter before.
func New(k *Language, cfg Config) *Suite {
	k.learn()
	s := &Suite{cfg: cfg, in: k.in, lang: k, byID: map[string]*Control{}, inputs: map[string]*Input{}}
	for _, in := range cfg.Inputs {
		s.declare(in)
	}
	s.self = s.in.NewObject(s.lang.context, s)
	return s
}

// Forget drops the controls, so that Load evaluates the files again.
func (s *Suite) Forget() {
	s.order, s.included, s.loaded = nil, nil, false
	clear(s.byID)
}

// Load evaluates the control files. The second time it does nothing.
func (s *Suite) Load(ctx context.Context) error {
	if s.loaded {
		return nil
	}
	s.loaded = true
	for _, f := range s.cfg.Files {
		if s.cfg.Skips != nil && s.cfg.Skips(f.File) {
			continue
		}
		if err := s.load(ctx, f); err != nil {
			return err
		}
	}
	for _, b := range s.cfg.Broken {
		s.broken(b)
	}
	return nil
}

func (s *Suite) load(ctx context.Context, f *ruby.Program) error {
	s.file, s.title, s.skipFile, s.begun, s.unnamed = f.File, "", false, 0, 0
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
	s.broken(Broken{File: f.File, Line: line, Err: err})
	return nil
}

// broken registers a control that is an error and nothing else.
func (s *Suite) broken(b Broken) {
	id := b.ID
	if id == "" {
		id = s.generatedID(b.File, b.Line)
	}
	if id == b.ID && !s.wanted(id) {
		return
	}
	c := &Control{ID: id, File: b.File, Line: b.Line, FileTitle: s.title, Impact: 0.5, Tags: map[string]any{}, suite: s, origin: s}
	for _, f := range s.cfg.Files {
		if f.File == b.File {
			c.Code = f.Source(b.Line, b.Line)
		}
	}
	c.checks = []check{{kind: broken, file: b.File, line: b.Line, err: b.Err}}
	s.waive(c)
	s.register(c)
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

// guard turns a panic into an *engineError, or the limit that it is (see
// ruby.Interp.Nested) into its error.
func guard(err *error) {
	switch v := recover().(type) {
	case nil:
	case *ruby.LimitError:
		*err = v
	default:
		*err = &engineError{v, debug.Stack()}
	}
}

// generatedID names a describe that stands outside any control. InSpec takes
// a random number; this one is the same in each run, whatever else is run.
func (s *Suite) generatedID(file string, line int) string {
	s.unnamed++
	sum := sha256.Sum256([]byte(fmt.Sprintf("%s:%d:%d", file, line, s.unnamed)))
	return fmt.Sprintf("(generated from %s:%d %s)", path.Base(file), line, hex.EncodeToString(sum[:16]))
}

// register adds a control, or merges it into the one of that id.
func (s *Suite) register(c *Control) {
	if s.skipFile {
		c.skip(s.skipMsg)
	}
	if old := s.existing(c.ID); old != nil {
		old.merge(c)
		return
	}
	s.byID[c.ID] = c
	s.order = append(s.order, c)
}

// existing is the control of that id that a new one is laid over: one of this
// profile, or, in an include block, also one that this profile includes.
func (s *Suite) existing(id string) *Control {
	if c := s.byID[id]; c != nil || s.over == nil {
		return c
	}
	for _, c := range s.Controls() {
		if c.ID == id {
			return c
		}
	}
	return nil
}

// Controls lists the controls in the order of files and lines, then those of
// the profiles that it includes.
func (s *Suite) Controls() []*Control {
	all := slices.Clone(s.order)
	for _, sub := range s.included {
		all = append(all, sub.Controls()...)
	}
	return all
}

// wanted reports whether the control is to be evaluated at all.
func (s *Suite) wanted(id string) bool {
	return s.cfg.Wanted == nil || s.cfg.Tagged != nil || s.cfg.Wanted(id)
}

// admitted reports whether a control that was evaluated is to be judged.
func (s *Suite) admitted(c *Control) bool {
	if s.cfg.Tagged == nil || s.cfg.Wanted != nil && s.cfg.Wanted(c.ID) {
		return true
	}
	for name, v := range c.Tags {
		if s.cfg.Tagged(name) || slices.ContainsFunc(texts(v), s.cfg.Tagged) {
			return true
		}
	}
	return false
}

// texts are the values of a tag.
func texts(v any) []string {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		var out []string
		for _, e := range v {
			out = append(out, texts(e)...)
		}
		return out
	}
	return []string{fmt.Sprint(v)}
}

// include is include_controls and require_controls.
func (s *Suite) include(c *ruby.Call, all bool) (ruby.Value, error) {
	name := c.In.ToS(c.Arg(0))
	sub, err := s.cfg.Dependency(name)
	if err != nil {
		return nil, c.In.Raise(nil, "%s", err.Error())
	}
	if sub == nil {
		return nil, nil
	}
	if slices.Contains(s.lang.including, sub) {
		return nil, c.In.Raise(nil, "Profile %s includes itself.", name)
	}
	s.lang.including = append(s.lang.including, sub)
	file, title := sub.file, sub.title
	defer func() {
		s.lang.including = s.lang.including[:len(s.lang.including)-1]
		sub.file, sub.title, sub.over = file, title, nil
		s.lang.current = s
	}()
	if err := sub.Load(c.In.Context()); err != nil {
		return nil, err
	}
	// The block is evaluated as if it stood in the included profile: what it
	// defines is laid over the controls there.
	s.lang.current, sub.over, sub.named, sub.skipFile = sub, s, map[string]bool{}, false
	sub.file, sub.title = s.file, s.title
	if c.Block != nil {
		if _, err := c.In.InstanceExec(sub.self, c.Block); err != nil {
			return nil, err
		}
	}
	if !all {
		sub.keep(func(id string) bool { return sub.named[id] })
	}
	if !slices.Contains(s.included, sub) {
		s.included = append(s.included, sub)
	}
	return nil, nil
}

// keep drops the controls whose id isn't ok, here and in what is included.
func (s *Suite) keep(ok func(id string) bool) {
	s.order = slices.DeleteFunc(s.order, func(c *Control) bool {
		if ok(c.ID) {
			return false
		}
		delete(s.byID, c.ID)
		return true
	})
	for _, sub := range s.included {
		sub.keep(ok)
	}
}

// drop is skip_control: the control is as if it had not been written.
func (s *Suite) drop(id string) { s.keep(func(have string) bool { return have != id }) }

// waive applies the waiver for the control, if there is one.
func (s *Suite) waive(c *Control) {
	w, ok := s.cfg.Waivers[c.ID]
	if !ok {
		return
	}
	c.waiver = w.Data
	if w.Skip {
		c.skip(w.Justification)
		c.skipType = "waiver"
	}
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
