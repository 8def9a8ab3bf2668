package dsl

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec/ruby"
)

// Control is one control: what it says of itself, and its checks.
type Control struct {
	ID           string
	Title        string
	Impact       float64
	Descriptions []hdf.Description // the default one has the label "default"
	Refs         []any
	Tags         map[string]any
	Code         string
	File         string
	FileTitle    string
	Line         int

	suite     *Suite     // of the profile that it belongs to
	origin    *Suite     // of the profile that it is written in: an overlay, perhaps
	merged    []*Control // what was laid over it, first one first
	tagged    ruby.Hash  // Tags as tag returns them
	size      int        // checks so far
	impactSet bool
	checks    []check
	skipped   bool
	skipSet   bool // an only_if was there
	skipText  string
	skipMsg   bool           // skipText was given
	skipType  string         // empty: only_if
	waiver    map[string]any // what results tell of it
	na        bool           // not applicable: an only_applicable_if said so
	naText    string
	naMsg     bool // naText was given
}

type checkKind int

const (
	describe checkKind = iota
	expectation
	describeOne
	broken // the control's source is in error
)

// A check is one describe, expect or describe.one of a control.
type check struct {
	kind   checkKind
	args   []ruby.Value
	block  *ruby.Proc
	expect *expect
	any    []check // of describe.one
	file   string
	line   int
	err    error
}

// expect is an expectation that stands directly in a control.
type expect struct {
	value ruby.Value
	calls []expectCall
}

type expectCall struct {
	matcher, message ruby.Value
	negate           bool
	file             string
	line             int
}

// grow counts one more check.
func (c *Control) grow(in *ruby.Interp) error {
	if c.size++; c.size > maxChecks {
		return in.Raise(nil, "more than %d checks in control %s", maxChecks, c.ID)
	}
	return nil
}

func (c *Control) skip(msg string) {
	c.skipped, c.skipSet, c.skipText, c.skipMsg, c.skipType = true, true, msg, msg != "", ""
}

// Suite is that of the profile which the control belongs to.
func (c *Control) Suite() *Suite { return c.suite }

// CodeIn is the control's source as far as it is written in the profile of s:
// what an overlay says of a control of the profile beneath it.
func (c *Control) CodeIn(s *Suite) string {
	if c.origin == s {
		return c.Code
	}
	for _, m := range c.merged {
		if m.origin == s && m.Code != "" {
			return m.Code
		}
	}
	return ""
}

// merge lays a control of the same id over c, as InSpec does: checks replace
// checks, texts replace texts.
func (c *Control) merge(o *Control) {
	if o.impactSet && !c.na {
		c.Impact, c.impactSet = o.Impact, true
	}
	if o.Title != "" {
		c.Title = o.Title
	}
	for _, d := range o.Descriptions {
		c.describeAs(d.Label, d.Data)
	}
	for k, v := range o.Tags {
		c.Tags[k] = v
	}
	c.Refs = append(c.Refs, o.Refs...)
	if len(o.checks) > 0 {
		c.checks = o.checks
	}
	if o.skipSet {
		c.skipped, c.skipSet, c.skipText, c.skipMsg, c.skipType = o.skipped, true, o.skipText, o.skipMsg, o.skipType
	}
	c.merged = append(c.merged, o)
}

func (c *Control) describeAs(label, text string) {
	for i := range c.Descriptions {
		if c.Descriptions[i].Label == label {
			c.Descriptions[i].Data = text
			return
		}
	}
	d := hdf.Description{Label: label, Data: text}
	if label == "default" {
		c.Descriptions = append([]hdf.Description{d}, c.Descriptions...)
		return
	}
	c.Descriptions = append(c.Descriptions, d)
}

// Desc is the default description.
func (c *Control) Desc() string {
	for _, d := range c.Descriptions {
		if d.Label == "default" {
			return d.Data
		}
	}
	return ""
}

// HDF is the control as results hold it, without results.
func (c *Control) HDF() hdf.Control {
	out := hdf.Control{
		ID: c.ID, Title: c.Title, Desc: c.Desc(), Descriptions: c.Descriptions, Impact: min(max(c.Impact, 0), 1),
		WaiverData: c.waiver, Refs: c.Refs, Tags: c.Tags, Code: c.Code, Results: []hdf.Result{},
		SourceLocation: hdf.SourceLocation{Line: c.Line, Ref: c.File},
	}
	if out.Refs == nil {
		out.Refs = []any{}
	}
	if out.Tags == nil {
		out.Tags = map[string]any{}
	}
	return out
}

var impacts = map[string]float64{"none": 0, "low": 0.1, "medium": 0.4, "high": 0.7, "critical": 0.9}

func (c *Control) setImpact(in *ruby.Interp, v ruby.Value) error {
	if c.na {
		return nil
	}
	switch v := v.(type) {
	case nil:
		return nil
	case int64:
		c.Impact = float64(v)
	case float64:
		c.Impact = v
	case *ruby.String:
		f, err := strconv.ParseFloat(v.String(), 64)
		if err != nil {
			var ok bool
			if f, ok = impacts[strings.ToLower(v.String())]; !ok {
				return in.Raise(nil, "'%s' is not a valid impact name. Valid impact names: none, low, medium, high, critical.", v.String())
			}
		}
		c.Impact = f
	default:
		return in.Raise(in.Class("TypeError"), "impact must be a number or a word, got %s", in.Inspect(v))
	}
	c.impactSet = true
	return nil
}

// newControl evaluates a control's block. It returns nil with the error when
// the block ended by a jump, which takes the control with it.
func (s *Suite) newControl(id string, c *ruby.Call, body func(rule *ruby.Object) error) (*Control, error) {
	ctl := &Control{ID: id, Impact: 0.5, Tags: map[string]any{}, File: c.File, Line: c.Line, suite: s, origin: s}
	if s.over != nil {
		ctl.origin = s.over
	}
	if c.Block != nil {
		ctl.File, ctl.Line = c.Block.File(), c.Block.Line()
		if p := c.Block.Program(); p != nil {
			ctl.Code = p.Source(min(c.Line, ctl.Line), c.Block.EndLine())
		}
	}
	rule := s.in.NewObject(s.lang.rule, ctl)
	if s.begun++; s.begun > maxControls {
		return nil, s.in.Raise(nil, "more than %d controls", maxControls)
	}
	s.in.Reset()
	s.lang.waiving = s.cfg.Waivers[id].Skip
	err := func() (err error) {
		defer guard(&err)
		if s.cfg.Around != nil {
			defer s.cfg.Around(id)()
		}
		return body(rule)
	}()
	s.in.Reset() // what this control used isn't the file's
	s.lang.waiving = false
	if errors.Is(err, errWaived) {
		err = nil
	}
	if isJump(err) {
		return nil, err
	}
	if err != nil {
		if stop := fatal(s.in.Context(), err); stop != nil {
			return nil, err
		}
		var limit *ruby.LimitError
		if errors.As(err, &limit) {
			ctl.checks = nil // there may be very many
		}
		ctl.checks = append(ctl.checks, check{kind: broken, file: ctl.File, line: ctl.Line, err: err})
	}
	if s.cfg.Spoiled != nil {
		ctl.checks = append(ctl.checks, check{kind: broken, file: ctl.File, line: ctl.Line, err: s.cfg.Spoiled})
	}
	s.waive(ctl)
	return ctl, nil
}

// ruleClass defines what may be said in a control.
func (k *Language) ruleClass(rule *ruby.Class) {
	of := func(c *ruby.Call) *Control { return c.Self.(*ruby.Object).Data.(*Control) }
	optional := func(s string) ruby.Value {
		if s == "" {
			return nil
		}
		return ruby.NewString(s)
	}
	rule.DefN("impact", 0, 1, func(c *ruby.Call) (ruby.Value, error) {
		err := of(c).setImpact(c.In, c.Arg(0))
		return of(c).Impact, err
	})
	rule.DefN("title", 0, 1, func(c *ruby.Call) (ruby.Value, error) {
		if c.Arg(0) != nil {
			of(c).Title = c.In.ToS(c.Arg(0))
		}
		return optional(of(c).Title), nil
	})
	rule.DefN("desc", 0, 2, func(c *ruby.Call) (ruby.Value, error) {
		switch {
		case len(c.Args) == 0 || c.Args[0] == nil:
		case len(c.Args) == 1:
			of(c).describeAs("default", unindent(c.In.ToS(c.Args[0])))
		default:
			of(c).describeAs(c.In.ToS(c.Args[0]), unindent(c.In.ToS(c.Args[1])))
		}
		return optional(of(c).Desc()), nil
	})
	rule.DefN("descriptions", 0, 1, func(c *ruby.Call) (ruby.Value, error) {
		if h, ok := c.Arg(0).(*ruby.Hash); ok {
			return nil, h.Each(func(key, v ruby.Value) error {
				of(c).describeAs(c.In.ToS(key), c.In.ToS(v))
				return nil
			})
		}
		return nil, nil
	})
	rule.DefN("ref", 0, 2, func(c *ruby.Call) (ruby.Value, error) {
		opts := map[string]any{}
		first := c.Arg(0)
		h, ok := c.Arg(1).(*ruby.Hash)
		if !ok {
			if h, ok = first.(*ruby.Hash); ok {
				first = nil
			}
		}
		if ok {
			_ = h.Each(func(key, v ruby.Value) error {
				opts[c.In.ToS(key)] = plainValue(c.In, v)
				return nil
			})
		}
		if first != nil {
			opts["ref"] = plainValue(c.In, first)
		}
		if len(opts) > 0 {
			of(c).Refs = append(of(c).Refs, opts)
		}
		return nil, nil
	})
	rule.Def("tag", func(c *ruby.Call) (ruby.Value, error) {
		ctl := of(c)
		set := func(name string, v ruby.Value) {
			ctl.Tags[name] = plainValue(c.In, v)
			ctl.tagged.SetText(name, v)
		}
		for _, a := range c.Args {
			if h, ok := a.(*ruby.Hash); ok {
				_ = h.Each(func(key, v ruby.Value) error {
					set(c.In.ToS(key), v)
					return nil
				})
			} else if name := c.In.ToS(a); ctl.Tags[name] == nil {
				set(name, nil)
			}
		}
		return &ctl.tagged, nil
	})
	rule.DefN("id", 0, -1, func(c *ruby.Call) (ruby.Value, error) { return ruby.NewString(of(c).ID), nil })
	rule.Def("to_s", func(c *ruby.Call) (ruby.Value, error) { return ruby.NewString(of(c).ID), nil })
	rule.Def("inspect", func(c *ruby.Call) (ruby.Value, error) {
		return ruby.NewString(of(c).inspect(c.In)), nil
	})
	rule.DefN("only_if", 0, 2, func(c *ruby.Call) (ruby.Value, error) {
		ctl := of(c)
		if c.Block == nil || ctl.suite.cfg.Ungated {
			return nil, nil
		}
		var message, impact ruby.Value
		for _, a := range c.Args {
			if h, ok := a.(*ruby.Hash); ok {
				impact, _ = h.GetSym("impact")
			} else {
				message = a
			}
		}
		v, err := c.In.Yield(c.Block)
		if err != nil {
			return nil, err
		}
		if !ruby.Truthy(v) {
			ctl.skipped = true
			if err := ctl.setImpact(c.In, impact); err != nil {
				return nil, err
			}
		}
		ctl.skipSet, ctl.skipMsg, ctl.skipText = true, message != nil, ""
		if message != nil {
			ctl.skipText = c.In.ToS(message)
		}
		return nil, nil
	})
	rule.DefN("only_applicable_if", 0, 1, func(c *ruby.Call) (ruby.Value, error) {
		ctl := of(c)
		if c.Block == nil || ctl.suite.cfg.Ungated {
			return nil, nil
		}
		v, err := c.In.Yield(c.Block)
		if err != nil || ruby.Truthy(v) {
			return nil, err
		}
		ctl.Impact, ctl.impactSet, ctl.na = 0, true, true
		ctl.naMsg, ctl.naText = c.Arg(0) != nil, ""
		if ctl.naMsg {
			ctl.naText = c.In.ToS(c.Arg(0))
		}
		return nil, nil
	})
	rule.Def("describe", func(c *ruby.Call) (ruby.Value, error) {
		ctl := of(c)
		if len(c.Args) == 0 && c.Block == nil {
			return c.In.NewObject(k.one, &alternatives{control: ctl}), nil
		}
		ctl.checks = append(ctl.checks, newCheck(c))
		return nil, ctl.grow(c.In)
	})
	rule.DefN("expect", 0, 1, func(c *ruby.Call) (ruby.Value, error) {
		e := &expect{value: c.Arg(0)}
		if len(c.Args) == 0 {
			if c.Block == nil {
				return nil, c.In.Raise(c.In.Class("ArgumentError"), "wrong number of arguments (given 0, expected 1)")
			}
			e.value = c.Block
		}
		of(c).checks = append(of(c).checks, check{kind: expectation, expect: e, file: c.File, line: c.Line})
		return c.In.NewObject(k.expect, e), of(c).grow(c.In)
	})
	for name, negate := range map[string]bool{"to": false, "not_to": true} {
		k.expect.DefN(name, 1, 2, func(c *ruby.Call) (ruby.Value, error) {
			e := c.Self.(*ruby.Object).Data.(*expect)
			e.calls = append(e.calls, expectCall{c.Arg(0), c.Arg(1), negate, c.File, c.Line})
			return nil, nil
		})
	}
}

// inspect is what error messages show of a control.
func (c *Control) inspect(in *ruby.Interp) string {
	text := func(s string) string {
		if s == "" {
			return "nil"
		}
		return in.Inspect(ruby.NewString(s))
	}
	impact := "nil"
	if c.impactSet {
		impact = in.Inspect(c.Impact)
	}
	return fmt.Sprintf("#<Inspec::Rule %s @impact=%s, @title=%s>", c.ID, impact, text(c.Title))
}

func newCheck(c *ruby.Call) check {
	ch := check{kind: describe, args: append([]ruby.Value(nil), c.Args...), block: c.Block, file: c.File, line: c.Line}
	if c.Block != nil {
		ch.file, ch.line = c.Block.File(), c.Block.Line()
	}
	return ch
}

// alternatives is the receiver of describe.one's block.
type alternatives struct {
	control *Control
	checks  []check
}

func (k *Language) oneClass(one *ruby.Class) {
	of := func(c *ruby.Call) *alternatives { return c.Self.(*ruby.Object).Data.(*alternatives) }
	one.Def("one", func(c *ruby.Call) (ruby.Value, error) {
		if c.Block == nil {
			return nil, nil
		}
		_, err := c.In.InstanceExec(c.Self, c.Block)
		if err != nil {
			return nil, err
		}
		a := of(c)
		a.control.checks = append(a.control.checks, check{kind: describeOne, any: a.checks, file: c.File, line: c.Line})
		return nil, nil
	})
	one.Def("describe", func(c *ruby.Call) (ruby.Value, error) {
		of(c).checks = append(of(c).checks, newCheck(c))
		return nil, of(c).control.grow(c.In)
	})
}
