package dsl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec/ruby"
)

// Run judges one control and returns its results in order. The error is what
// ends the whole run; no control after it can be judged.
func (s *Suite) Run(ctx context.Context, c *Control) ([]hdf.Result, error) {
	if ctx.Err() != nil {
		return nil, fatal(ctx, ctx.Err())
	}
	s.in.Reset()
	if c.skipped {
		kind := c.skipType
		if kind == "" {
			kind = "only_if"
		}
		text := condition("Skipped control due to "+kind+" condition", c.skipMsg, c.skipText)
		return []hdf.Result{{Status: hdf.Skipped, CodeDesc: "No-op", SkipMessage: text, StartTime: hdf.Time(time.Now())}}, nil
	}
	if c.na {
		// InSpec tells what isn't applicable as a resource that failed, at
		// impact 0.
		return []hdf.Result{{
			Status: hdf.Error, CodeDesc: "No-op ", StartTime: hdf.Time(time.Now()),
			Message:   condition("N/A control due to only_applicable_if condition", c.naMsg, c.naText),
			Exception: resourceFailed, Backtrace: []string{fmt.Sprintf("%s:%d", c.File, c.Line)},
		}}, nil
	}
	r := &runner{s: c.suite, control: c}
	s.lang.current = c.suite
	defer clear(s.lang.groups)
	for _, ch := range c.checks {
		if err := r.check(ch); err != nil {
			return r.results, err
		}
	}
	return r.results, nil
}

func condition(what string, given bool, text string) string {
	if given {
		return what + ": " + text
	}
	return what + "."
}

// resourceFailed is the name of the exception of a resource that failed.
const resourceFailed = "Inspec::Exceptions::ResourceFailed"

type runner struct {
	s       *Suite
	control *Control
	results []hdf.Result
}

// A judged example has its result and, for an error, what was raised.
type judged struct {
	hdf.Result
	err error
}

func resultsOf(all []judged) []hdf.Result {
	out := make([]hdf.Result, len(all))
	for i := range all {
		out[i] = all[i].Result
	}
	return out
}

// source is an error in the control's own source.
func (r *runner) source(file string, line int, err error) {
	res := hdf.Result{CodeDesc: fmt.Sprintf("Control Source Code Error %s:%d ", file, line), StartTime: hdf.Time(time.Now())}
	r.s.fail(&res, err, file, line)
	if res.Status != hdf.Error {
		// an expectation that isn't met where none can be judged
		res.Status, res.Backtrace = hdf.Error, []string{fmt.Sprintf("%s:%d", file, line)}
	}
	r.results = append(r.results, res)
}

func (r *runner) check(ch check) error {
	switch ch.kind {
	case broken:
		r.source(ch.file, ch.line, ch.err)
		return nil
	case describeOne:
		return r.one(ch)
	case expectation:
		return r.expect(ch)
	}
	if len(ch.args) == 0 {
		return nil // as InSpec: describe { … } checks nothing
	}
	if res, ok := r.unfit(ch); ok {
		r.results = append(r.results, res)
		return nil
	}
	all, err := r.describe(ch)
	r.results = append(r.results, resultsOf(all)...)
	return err
}

// unfit answers for a resource that was skipped or failed when it was made.
func (r *runner) unfit(ch check) (hdf.Result, bool) {
	res := hdf.Result{StartTime: hdf.Time(time.Now())}
	v := ch.args[0]
	if o, ok := v.(*ruby.Object); ok && o.Class == r.s.lang.noValue {
		res.Status, res.CodeDesc, res.SkipMessage = hdf.Skipped, noValueText(o), noValueText(o)
		return res, true
	}
	msg, skipped := r.s.lang.res.Skipped(v)
	if !skipped {
		var failed bool
		if msg, failed = r.s.lang.res.Failed(v); !failed {
			return res, false
		}
	}
	g := r.s.newGroup(r.control, nil, ch.args, nil)
	res.ResourceClass, res.ResourceID = r.s.lang.res.ClassName(v), r.s.lang.res.ID(v)
	if skipped {
		res.Status, res.CodeDesc, res.SkipMessage = hdf.Skipped, g.full, msg
		return res, true
	}
	res.Status, res.CodeDesc, res.Message = hdf.Error, g.full+" ", msg
	res.Exception, res.Backtrace = resourceFailed, []string{fmt.Sprintf("%s:%d", ch.file, ch.line)}
	return res, true
}

// describe opens a describe block and judges all in it.
func (r *runner) describe(ch check) ([]judged, error) {
	g := r.s.newGroup(r.control, nil, ch.args, nil)
	if err := r.s.open(g, ch.block); err != nil {
		if stop := fatal(r.s.in.Context(), err); stop != nil {
			return nil, stop
		}
		if !isJump(err) {
			sub := &runner{s: r.s, control: r.control}
			sub.source(ch.file, ch.line, err)
			return []judged{{sub.results[0], err}}, nil
		}
	}
	var all []judged
	err := r.group(g, &all)
	return all, err
}

func (r *runner) group(g *group, results *[]judged) error {
	for _, e := range g.examples {
		res, err := e.run(r.s)
		if err != nil {
			return err
		}
		*results = append(*results, res)
	}
	for _, child := range g.children {
		if err := r.group(child, results); err != nil {
			return err
		}
	}
	return nil
}

// one is describe.one: the alternatives that are met, or all when none is.
func (r *runner) one(ch check) error {
	var met, all []judged
	anyMet := false
	for _, alt := range ch.any {
		if len(alt.args) == 0 {
			alt.args = []ruby.Value{nil}
		}
		results, err := r.describe(alt)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(results, func(j judged) bool { return j.Status == hdf.Failed || j.Status == hdf.Error }) {
			met, anyMet = append(met, results...), true
		}
		all = append(all, results...)
	}
	if anyMet {
		r.results = append(r.results, resultsOf(met)...)
		return nil
	}
	for i := range all {
		// InSpec runs each alternative twice and keeps only the text of an
		// exception, so that it counts as failed.
		if all[i].Status == hdf.Error && !unknownHere(all[i].err) {
			all[i].Status, all[i].Backtrace = hdf.Failed, nil
		}
	}
	r.results = append(r.results, resultsOf(all)...)
	return nil
}

// unknownHere reports whether err may be a gap in this engine rather than the
// profile's own mistake: a limit, or a method that something other than nil
// doesn't have.
func unknownHere(err error) bool {
	e := exception(err)
	if e == nil {
		return true
	}
	named := e.Class.Name == "NoMethodError" || e.Class.Name == "NameError" || e.Class.Name == "NotImplementedError"
	return named && (e.Receiver != nil || e.Name == "")
}

// expect judges an expectation that stands directly in a control.
func (r *runner) expect(ch check) error {
	e := ch.expect
	if len(e.calls) == 0 {
		r.source(ch.file, ch.line, errors.New("expect(…) without `to` or `not_to` expects nothing"))
		return nil
	}
	args := []ruby.Value{e.value}
	if _, ok := e.value.(*ruby.Proc); ok {
		args = []ruby.Value{ruby.NewString("")}
	}
	g := r.s.newGroup(r.control, nil, args, nil)
	for _, call := range e.calls {
		ex := &example{group: g, file: call.file, line: call.line}
		ex.block = r.s.in.NewProc(-1, func(c *ruby.Call) (ruby.Value, error) {
			c.Args = []ruby.Value{call.matcher, call.message}
			return r.s.lang.judge(ex, e.value, c, call.negate)
		})
		res, err := ex.run(r.s)
		if err != nil {
			return err
		}
		r.results = append(r.results, res.Result)
	}
	return nil
}
