package dsl

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec/ruby"
)

// An example is one `it`, or the one of an its().
type example struct {
	group *group
	block *ruby.Proc
	desc  string
	named bool // a text was given
	flags flags
	file  string
	line  int

	obj     *ruby.Object
	memo    map[string]ruby.Value
	said    string // by the last expectation
	pending bool   // by the word in the example
	skipped bool
}

func (e *example) memoize(in *ruby.Interp, name string, fill func() (ruby.Value, error)) (ruby.Value, error) {
	if v, ok := e.memo[name]; ok {
		return v, nil
	}
	v, err := fill()
	if err == nil {
		if e.memo == nil {
			e.memo = map[string]ruby.Value{}
		}
		e.memo[name] = v
	}
	return v, err
}

// expectedValue is the object of expect(value).
type expectedValue struct {
	ex    *example // nil inside a custom matcher
	value ruby.Value
}

func newTarget(k *Language, ex *example, c *ruby.Call) (ruby.Value, error) {
	t := &expectedValue{ex: ex}
	switch {
	case len(c.Args) > 0:
		t.value = c.Args[0]
	case c.Block != nil:
		t.value = c.Block
	default:
		return nil, c.In.Raise(c.In.Class("ArgumentError"), "You must pass either an argument or a block to `expect`.")
	}
	return c.In.NewObject(k.target, t), nil
}

// judge holds actual against c's matcher and raises when it isn't met.
func (k *Language) judge(ex *example, actual ruby.Value, c *ruby.Call, negate bool) (ruby.Value, error) {
	j, err := k.kit.Judge(actual, c.Arg(0), negate, c.Arg(1))
	if ex != nil && j.Description != "" {
		ex.said = j.Description
	}
	if err != nil {
		return nil, err
	}
	if j.Failed {
		return nil, c.In.Raise(k.notMet, "%s", j.Message)
	}
	return true, nil
}

// exampleClass defines what may be said in an example.
func (k *Language) exampleClass(class *ruby.Class) {
	of := func(c *ruby.Call) *example { return c.Self.(*ruby.Object).Data.(*example) }
	for name, negate := range map[string]bool{"should": false, "should_not": true} {
		class.DefN(name, 0, 2, func(c *ruby.Call) (ruby.Value, error) {
			actual, err := of(c).actual(c.In)
			if err != nil {
				return nil, err
			}
			if len(c.Args) == 0 {
				return c.In.NewObject(k.operator, &operator{ex: of(c), actual: actual, negate: negate}), nil
			}
			return k.judge(of(c), actual, c, negate)
		})
	}
	for _, name := range []string{"is_expected", "are_expected"} {
		class.DefN(name, 0, 0, func(c *ruby.Call) (ruby.Value, error) {
			actual, err := of(c).actual(c.In)
			if err != nil {
				return nil, err
			}
			return c.In.NewObject(k.target, &expectedValue{of(c), actual}), nil
		})
	}
	class.DefN("expect", 0, 1, func(c *ruby.Call) (ruby.Value, error) { return newTarget(k, of(c), c) })
	class.DefN("subject", 0, 0, func(c *ruby.Call) (ruby.Value, error) { return of(c).subject(c.In) })
	class.DefN("described_class", 0, 0, func(c *ruby.Call) (ruby.Value, error) {
		return of(c).group.described(), nil
	})
	class.DefN("skip", 0, 1, func(c *ruby.Call) (ruby.Value, error) {
		of(c).skipped = true
		return nil, c.In.Raise(k.skip, "%s", c.In.ToS(c.Arg(0)))
	})
	class.DefN("pending", 0, 1, func(c *ruby.Call) (ruby.Value, error) {
		of(c).pending = true
		return nil, nil
	})
	class.Def("inspect", func(c *ruby.Call) (ruby.Value, error) {
		e := of(c)
		return ruby.NewString(fmt.Sprintf("#<%s %q>", e.group.constant(), fmt.Sprintf("example at %s:%d", e.file, e.line))), nil
	})
	for name, negate := range map[string]bool{"to": false, "not_to": true, "to_not": true} {
		k.target.DefN(name, 0, 2, func(c *ruby.Call) (ruby.Value, error) {
			t := c.Self.(*ruby.Object).Data.(*expectedValue)
			if len(c.Args) == 0 {
				return nil, c.In.Raise(c.In.Class("ArgumentError"), "The expect syntax does not support operator matchers, so you must pass a matcher to `#%s`.", c.Name)
			}
			return k.judge(t.ex, t.value, c, negate)
		})
	}
	for _, op := range []string{"==", "===", "=~", ">", ">=", "<", "<="} {
		k.operator.Def(op, k.operate)
	}
}

// operator is RSpec's oldest form: should == value.
type operator struct {
	ex     *example
	actual ruby.Value
	negate bool
}

func (k *Language) operate(c *ruby.Call) (ruby.Value, error) {
	o := c.Self.(*ruby.Object).Data.(*operator)
	verb, not := "is expected to", ""
	if o.negate {
		verb, not = "is expected not to", "not "
	}
	o.ex.said = fmt.Sprintf("%s %s %s", verb, c.Name, k.kit.Format(c.Arg(0)))
	v, err := c.In.Call(o.actual, c.Name, c.Args, nil)
	if err != nil {
		return nil, err
	}
	if ruby.Truthy(v) != o.negate {
		return true, nil
	}
	switch {
	case o.negate || c.Name != "==":
		return nil, c.In.Raise(k.notMet, "expected: %s%s %s\n     got: %s", not, c.Name, k.kit.Format(c.Arg(0)), strings.Repeat(" ", len(not)+len(c.Name)+1)+k.kit.Format(o.actual))
	}
	return nil, c.In.Raise(k.notMet, "expected: %s\n     got: %s (using ==)", k.kit.Format(c.Arg(0)), k.kit.Format(o.actual))
}

func (e *example) subject(in *ruby.Interp) (ruby.Value, error) {
	return e.memoize(in, "subject", func() (ruby.Value, error) {
		if blk := e.group.subjectBlock(); blk != nil {
			return in.InstanceExec(e.obj, blk)
		}
		return e.group.implicit(in)
	})
}

// actual is what the one-liners judge: the subject, or what its() asks of it.
func (e *example) actual(in *ruby.Interp) (ruby.Value, error) {
	its := e.group.its
	if its == nil {
		return e.subject(in)
	}
	return e.memoize(in, "its", func() (ruby.Value, error) {
		// not the method: `subject` may be overridden by a let
		v, err := in.Call(e.obj, "subject", nil, nil)
		if err != nil {
			return nil, err
		}
		if a, ok := its.attribute.(*ruby.Array); ok {
			if _, ok := v.(*ruby.Hash); !ok {
				return in.Call(v, "[]", a.Elems, nil)
			}
			for _, key := range a.Elems {
				if v, err = in.Call(v, "[]", []ruby.Value{key}, nil); err != nil {
					return nil, err
				}
			}
			return v, nil
		}
		for name := range strings.SplitSeq(strings.TrimRight(in.ToS(its.attribute), "."), ".") {
			if v, err = in.Call(v, "public_send", []ruby.Value{ruby.Symbol(name)}, nil); err != nil {
				return nil, err
			}
		}
		return v, nil
	})
}

// run judges the example.
func (e *example) run(s *Suite) (judged, error) {
	start := time.Now()
	res := judged{Result: hdf.Result{Status: hdf.Passed, StartTime: hdf.Time(start)}}
	if d := e.group.described(); d != nil {
		res.ResourceClass, res.ResourceID = s.lang.res.ClassName(d), s.lang.res.ID(d)
	}
	e.obj, e.memo, e.said = s.in.NewObject(e.group.class, e), nil, ""
	var err error
	if !e.flags.skip {
		err = e.execute(s.in)
	}
	res.RunTime = time.Since(start).Seconds()

	desc := e.desc
	if !e.named {
		desc = e.said
	}
	res.CodeDesc = desc
	if e.group.full != "" {
		res.CodeDesc = e.group.full + " " + desc
	}
	failed := err != nil && !e.skipped
	switch {
	case e.flags.skip || e.skipped:
		res.Status, res.SkipMessage = hdf.Skipped, desc
		if e.named {
			res.CodeDesc = e.group.desc
		}
		return res, nil
	case (e.pending || e.flags.pending) && failed:
		res.Status, res.SkipMessage = hdf.Skipped, desc
		return res, fatal(s.in.Context(), err)
	case e.pending || e.flags.pending:
		res.Status, res.Message = hdf.Failed, "Expected pending example to fail. No error was raised."
	case failed:
		if stop := fatal(s.in.Context(), err); stop != nil {
			return res, stop
		}
		res.err = err
		s.fail(&res.Result, err, e.file, e.line)
	}
	if e.flags.sensitive && res.Message != "" {
		res.Message = "*** sensitive output suppressed ***"
	}
	return res, nil
}

func (e *example) execute(in *ruby.Interp) (err error) {
	defer guard(&err)
	var chain []*group
	for g := e.group; g != nil; g = g.parent {
		chain = append(chain, g)
	}
	for i := len(chain) - 1; i >= 0; i-- {
		for _, blk := range chain[i].before {
			if _, err := in.InstanceExec(e.obj, blk); err != nil {
				return err
			}
		}
	}
	_, err = in.InstanceExec(e.obj, e.block)
	for _, g := range chain {
		for _, blk := range g.after {
			if _, aerr := in.InstanceExec(e.obj, blk); err == nil {
				err = aerr
			}
		}
	}
	return err
}

// engineExceptions are the names under which results tell what isn't a Ruby
// exception: a limit of the engine, or a mistake in it.
const (
	limitException  = "Reeve::LimitError"
	brokenException = "Reeve::BrokenProfile" // a file that can't be read or run
	engineException = "Reeve::EngineError"
)

// fail writes into res why it isn't passed: failed when an expectation was
// not met, error for all else.
func (s *Suite) fail(res *hdf.Result, err error, file string, line int) {
	at := fmt.Sprintf("%s:%d", file, line)
	defer func() {
		if s.cfg.Explain != nil && res.Status == hdf.Error {
			if why := s.cfg.Explain(err); why != "" {
				res.Message += "\n" + why
			}
		}
	}()
	e := exception(err)
	if e == nil {
		res.Status, res.Message, res.Backtrace = hdf.Error, err.Error(), []string{at}
		res.Exception = brokenException
		var limit *ruby.LimitError
		if errors.As(err, &limit) {
			res.Exception = limitException
		}
		var broken *engineError
		if errors.As(err, &broken) {
			res.Exception = engineException
			res.Backtrace = append(res.Backtrace, strings.Split(strings.TrimSpace(string(broken.stack)), "\n")...)
		}
		return
	}
	res.Message = e.Message
	if s.in.IsA(e, s.lang.notMet) {
		res.Status = hdf.Failed
		return
	}
	res.Status, res.Exception, res.Backtrace = hdf.Error, e.Class.Name, e.Backtrace
	if len(res.Backtrace) == 0 {
		res.Backtrace = []string{at}
	}
}
