package dsl

import (
	"errors"

	"reeve.dev/reeve/inspec/matcher"
	"reeve.dev/reeve/inspec/ruby"
)

// Language is the classes of the language in one interpreter. Their objects
// carry the suite that they belong to. Suites of profiles that depend on each
// other share it.
type Language struct {
	in        *ruby.Interp
	res       Resources
	resources *ruby.Class // the module with a method for each resource
	named     map[string]bool

	kit                                         *matcher.Kit
	context, rule, one, expect, example, target *ruby.Class
	operator, input, noValue, skip, notMet      *ruby.Class
	invalid, required                           *ruby.Class            // errors of inputs
	groups                                      map[*ruby.Class]*group // that are open
	current                                     *Suite                 // whose code runs
	including                                   []*Suite               // innermost last
	waiving                                     bool                   // a control that isn't to be run
}

// suiteOf finds the suite behind any receiver of the language's words.
func (k *Language) suiteOf(c *ruby.Call) *Suite {
	switch self := c.Self.(type) {
	case *ruby.Class:
		for class := self; class != nil; class = class.Super {
			if g := k.groups[class]; g != nil {
				return g.control.suite
			}
		}
	case *ruby.Object:
		switch d := self.Data.(type) {
		case *Suite:
			return d
		case *Control:
			return d.suite
		case *alternatives:
			return d.control.suite
		case *example:
			return d.group.control.suite
		}
	}
	return nil
}

// inspecVersion is the version of InSpec that profiles are told they run in:
// the one whose verdicts are compared with.
const inspecVersion = "5.24.24"

// Install defines the language. It goes before the profile's libraries, which
// define matchers; resources that they define are words from New on.
func Install(in *ruby.Interp, res Resources) *Language {
	module := in.DefineModule(nil, "Inspec")
	module.SetConst("VERSION", ruby.NewString(inspecVersion))
	in.DefineClass(module, "Error", in.Class("StandardError"))
	log := in.DefineModule(module, "Log")
	for _, name := range []string{"trace", "debug", "info", "warn", "error", "fatal"} {
		log.DefSingleton(name, func(*ruby.Call) (ruby.Value, error) { return nil, nil })
		log.DefSingleton(name+"?", func(*ruby.Call) (ruby.Value, error) { return false, nil })
	}
	k := &Language{
		in: in, res: res, named: map[string]bool{},
		context: in.DefineClass(module, "ControlEvalContext", nil),
		rule:    in.DefineClass(module, "Rule", nil),
		one:     in.DefineClass(module, "DescribeBase", nil),
		expect:  in.DefineClass(module, "Expect", nil),
		groups:  map[*ruby.Class]*group{},
	}
	k.kit = matcher.Install(in, matcher.Options{
		IsResource: res.Is,
		Outside:    k.outside(res),
	})
	core := in.DefineModule(in.DefineModule(nil, "RSpec"), "Core")
	k.example = in.DefineClass(core, "ExampleGroup", nil)
	expectations := in.DefineModule(in.Class("RSpec"), "Expectations")
	k.target = in.DefineClass(expectations, "ExpectationTarget", nil)
	k.notMet = in.DefineClass(expectations, "ExpectationNotMetError", in.Class("Exception"))
	k.operator = in.DefineClass(in.Class("RSpec::Matchers::BuiltIn"), "OperatorMatcher", nil)
	k.skip = in.DefineClass(in.DefineModule(core, "Pending"), "SkipDeclaredInExample", in.Class("StandardError"))

	k.resources = in.DefineModule(module, "ResourceDSL")
	k.profileClass(in)
	k.resources.Def("inspec", func(*ruby.Call) (ruby.Value, error) {
		if k.waiving {
			return nil, errWaived
		}
		return res.Backend(), nil
	})
	matchers := in.DefineModule(in.Class("RSpec"), "Matchers")
	for _, name := range k.kit.Names() {
		matchers.Def(name, k.kit.New)
	}
	meta, _ := in.Singleton(k.example) // a class always has one
	for _, class := range []*ruby.Class{k.context, k.rule, k.one, k.example, meta} {
		class.Include(k.resources)
		k.inputWords(class)
	}
	for _, class := range []*ruby.Class{k.rule, k.example} {
		class.Include(matchers)
		class.DefMissing(func(c *ruby.Call, name string) (ruby.Value, error) {
			if k.kit.Has(name) {
				return k.kit.New(c)
			}
			return nil, undefined(c, name)
		}, nil)
	}
	k.inputClass(in)
	k.noValueClass(in)
	k.contextClass(k.context)
	k.ruleClass(k.rule)
	k.oneClass(k.one)
	k.groupClass(meta)
	k.exampleClass(k.example)
	return k
}

// learn makes words of the resources that there are by now.
func (k *Language) learn() {
	for _, name := range k.res.Names() {
		if k.named[name] {
			continue
		}
		k.named[name] = true
		k.resources.Def(name, func(c *ruby.Call) (ruby.Value, error) { return k.resource(c, name) })
	}
}

// errWaived ends the evaluation of a control that a waiver keeps from being
// run, at the first resource that it asks for: what it says of itself usually
// comes before.
var errWaived = errors.New("waived")

func (k *Language) resource(c *ruby.Call, name string) (ruby.Value, error) {
	if k.waiving {
		return nil, errWaived
	}
	return k.res.New(c, name, c.Args)
}

// Knows reports whether name is a word of the language, a resource or a
// matcher, other than a predicate's.
func (k *Language) Knows(name string) bool {
	k.learn()
	return k.named[name] || k.kit.Knows(name)
}

// undefined is Ruby's error for a name that nobody knows. Without arguments
// it may have been meant as a variable, and Ruby says so.
func undefined(c *ruby.Call, name string) error {
	class, what := "NoMethodError", "method"
	if len(c.Args) == 0 && c.Block == nil {
		class, what = "NameError", "local variable or method"
	}
	err := c.In.Raise(c.In.Class(class), "undefined %s `%s' for %s", what, name, c.In.Inspect(c.Self))
	e := exception(err)
	e.Receiver, e.Name = c.Self, name
	return err
}

// outside lets the blocks of custom matchers use resources and expect.
func (k *Language) outside(res Resources) func(c *ruby.Call) (ruby.Value, bool, error) {
	return func(c *ruby.Call) (ruby.Value, bool, error) {
		if c.Name == "expect" {
			v, err := newTarget(k, nil, c)
			return v, true, err
		}
		if res.Has(c.Name) {
			v, err := res.New(c, c.Name, c.Args)
			return v, true, err
		}
		if c.Name == "inspec" {
			return res.Backend(), true, nil
		}
		return nil, false, nil
	}
}

// contextClass defines what may be said in a control file, outside controls.
func (k *Language) contextClass(context *ruby.Class) {
	of := func(c *ruby.Call) *Suite { return c.Self.(*ruby.Object).Data.(*Suite) }
	context.DefN("title", 1, 1, func(c *ruby.Call) (ruby.Value, error) {
		of(c).title = c.In.ToS(c.Arg(0))
		return nil, nil
	})
	control := func(c *ruby.Call) (ruby.Value, error) {
		s, id := of(c), c.In.ToS(c.Arg(0))
		if !s.wanted(id) {
			return nil, nil
		}
		if s.over != nil {
			s.named[id] = true
		}
		ctl, err := s.newControl(id, c, func(rule *ruby.Object) error {
			if c.Block == nil {
				return nil
			}
			_, err := c.In.InstanceExec(rule, c.Block)
			return err
		})
		if err == nil && (s.admitted(ctl) || s.existing(id) != nil) {
			s.register(ctl)
		}
		return nil, err
	}
	context.DefN("control", 1, 2, control)
	context.DefN("rule", 1, 2, control)
	context.Def("describe", func(c *ruby.Call) (ruby.Value, error) {
		s := of(c)
		line := c.Line
		if c.Block != nil {
			line = c.Block.Line()
		}
		id := s.generatedID(c.File, line)
		if s.cfg.Tagged == nil && !s.wanted(id) {
			return nil, nil
		}
		var out ruby.Value
		ctl, err := s.newControl(id, c, func(rule *ruby.Object) error {
			var err error
			out, err = c.In.Call(rule, "describe", c.Args, c.Block)
			return err
		})
		if err == nil {
			s.register(ctl)
		}
		return out, err
	})
	context.DefN("require_resource", 0, 1, func(c *ruby.Call) (ruby.Value, error) {
		name, ok := options(c).GetSym("resource")
		if !ok || name == nil {
			return nil, c.In.Raise(nil, "You must specify a specific resource name when calling require_resource()")
		}
		as, _ := options(c).GetSym("as")
		if as == nil {
			return nil, nil
		}
		k.resources.Def(c.In.ToS(as), func(call *ruby.Call) (ruby.Value, error) {
			return k.resource(call, call.In.ToS(name))
		})
		return nil, nil
	})
	context.DefN("only_if", 0, 1, func(c *ruby.Call) (ruby.Value, error) {
		s := of(c)
		if c.Block == nil || s.skipFile || s.cfg.Ungated {
			return nil, nil
		}
		v, err := c.In.Yield(c.Block)
		if err != nil || v == true {
			return nil, err
		}
		s.skipFile, s.skipMsg = true, ""
		if c.Arg(0) != nil {
			s.skipMsg = c.In.ToS(c.Arg(0))
		}
		for _, ctl := range s.order {
			if ctl.File == c.Block.File() {
				ctl.skip(s.skipMsg)
			}
		}
		return nil, nil
	})
	for _, name := range []string{"skip_control", "skip_rule"} {
		context.DefN(name, 1, 1, func(c *ruby.Call) (ruby.Value, error) {
			of(c).drop(c.In.ToS(c.Arg(0)))
			return nil, nil
		})
	}
	for _, name := range []string{"include_controls", "include_rules", "require_controls", "require_rules"} {
		context.DefN(name, 1, 2, func(c *ruby.Call) (ruby.Value, error) {
			return of(c).include(c, name[0] == 'i')
		})
	}
}

// options is the hash that a call ends with, or an empty one.
func options(c *ruby.Call) *ruby.Hash {
	if n := len(c.Args); n > 0 {
		if h, ok := c.Args[n-1].(*ruby.Hash); ok {
			return h
		}
	}
	return &ruby.Hash{}
}
