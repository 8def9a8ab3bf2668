package matcher

import (
	"slices"

	"reeve.dev/reeve/inspec/ruby"
)

// customMatcher is a matcher that a profile defined:
//
//	RSpec::Matchers.define :be_bigger_than do |x|
//	  match { |actual| actual > x }
//	  chain(:by) { |y| @by = y }
//	end
//
// The definition's block runs once for each use, with the matcher's object as
// self; so do the blocks in it.
type customMatcher struct {
	kit      *Kit
	name     string
	decl     *ruby.Proc
	obj      *ruby.Object
	expected []ruby.Value
	block    *ruby.Proc
	defs     map[string]*ruby.Proc // match, description, …
	chains   map[string]*ruby.Proc
	attrs    map[string]bool // read by name
	calls    []chainCall
	diffable bool
	rescues  ruby.Value // of match_unless_raises
	err      error      // of a clone that could not be made
}

type chainCall struct {
	name string
	args []ruby.Value
}

// macros defines RSpec::Matchers.define and what its blocks are written with.
func (k *Kit) macros(matchers *ruby.Class) {
	define := func(c *ruby.Call) (ruby.Value, error) {
		if c.Block == nil {
			return nil, c.In.Raise(c.In.Class("ArgumentError"), "RSpec::Matchers.define takes a block")
		}
		k.defined[c.In.ToS(c.Arg(0))] = c.Block
		return nil, nil
	}
	matchers.DefSingleton("define", define)
	matchers.DefSingleton("matcher", define)

	self := func(c *ruby.Call) *customMatcher { return c.Self.(*ruby.Object).Data.(*customMatcher) }
	for _, name := range []string{"match", "match_when_negated"} {
		k.custom.Def(name, func(c *ruby.Call) (ruby.Value, error) {
			if c.Block == nil && name == "match" {
				return k.New(c)
			}
			self(c).defs[name] = c.Block
			return nil, nil
		})
	}
	k.custom.Def("match_unless_raises", func(c *ruby.Call) (ruby.Value, error) {
		m := self(c)
		m.defs["match"], m.rescues = c.Block, c.Arg(0)
		if m.rescues == nil {
			m.rescues = c.In.Class("Exception")
		}
		return nil, nil
	})
	k.custom.Def("chain", func(c *ruby.Call) (ruby.Value, error) {
		m, name := self(c), c.In.ToS(c.Arg(0))
		if m.chains[name] = c.Block; c.Block == nil {
			var attrs []string
			for _, a := range c.Args[min(1, len(c.Args)):] {
				attrs = append(attrs, c.In.ToS(a))
				m.attrs[c.In.ToS(a)] = true
			}
			m.chains[name] = c.In.NewProc(-1, func(c *ruby.Call) (ruby.Value, error) {
				for i, a := range attrs {
					m.obj.SetIVar("@"+a, c.Arg(i))
				}
				return nil, nil
			})
		}
		return nil, nil
	})
	k.custom.Def("attr_reader", func(c *ruby.Call) (ruby.Value, error) {
		for _, a := range c.Args {
			self(c).attrs[c.In.ToS(a)] = true
		}
		return nil, nil
	})
	k.custom.Def("define_method", func(c *ruby.Call) (ruby.Value, error) {
		m, body := self(c), c.Block
		single, err := c.In.Singleton(m.obj)
		if err != nil {
			return nil, err
		}
		single.Def(c.In.ToS(c.Arg(0)), func(c *ruby.Call) (ruby.Value, error) {
			return c.In.InstanceExec(m.obj, body, c.Args...)
		})
		return c.Arg(0), nil
	})
	k.custom.Def("diffable", func(c *ruby.Call) (ruby.Value, error) {
		self(c).diffable = true
		return nil, nil
	})
	k.custom.Def("supports_block_expectations", func(*ruby.Call) (ruby.Value, error) { return true, nil })
	for _, name := range []string{"private", "public", "protected"} {
		k.custom.Def(name, func(*ruby.Call) (ruby.Value, error) { return nil, nil })
	}
	k.custom.Def("actual", func(c *ruby.Call) (ruby.Value, error) { return self(c).actual(), nil })
	k.custom.Def("expected", func(c *ruby.Call) (ruby.Value, error) { return lone(self(c).expected), nil })
	k.custom.Def("expected_as_array", func(c *ruby.Call) (ruby.Value, error) {
		return ruby.NewArray(slices.Clone(self(c).expected)...), nil
	})
	k.custom.Def("name", func(c *ruby.Call) (ruby.Value, error) { return ruby.Symbol(self(c).name), nil })
	k.custom.Def("block_arg", func(c *ruby.Call) (ruby.Value, error) {
		if b := self(c).block; b != nil {
			return b, nil
		}
		return nil, nil
	})
	k.custom.DefMissing(func(c *ruby.Call, name string) (ruby.Value, error) {
		m := self(c)
		if blk := m.chains[name]; blk != nil {
			m.calls = append(m.calls, chainCall{name, slices.Clone(c.Args)})
			_, err := c.In.InstanceExec(m.obj, blk, c.Args...)
			return m.obj, err
		}
		if m.attrs[name] && len(c.Args) == 0 {
			return m.obj.IVar("@" + name), nil
		}
		if k.outside != nil {
			if v, known, err := k.outside(c); known || err != nil {
				return v, err
			}
		}
		if k.Has(name) {
			return k.New(c)
		}
		return nil, c.In.Raise(c.In.Class("NoMethodError"), "undefined method `%s' for matcher %s", name, m.name)
	}, func(v ruby.Value, name string) bool {
		m, ok := v.(*ruby.Object).Data.(*customMatcher)
		return ok && m.chains[name] != nil
	})
}

func (k *Kit) newCustom(c *ruby.Call, decl *ruby.Proc) (ruby.Value, error) {
	m, err := k.instance(c.Name, decl, slices.Clone(c.Args), c.Block)
	if err != nil {
		return nil, err
	}
	return m.obj, nil
}

func (k *Kit) instance(name string, decl *ruby.Proc, expected []ruby.Value, block *ruby.Proc) (*customMatcher, error) {
	m := &customMatcher{
		kit: k, name: name, decl: decl, expected: expected, block: block,
		defs: map[string]*ruby.Proc{}, chains: map[string]*ruby.Proc{}, attrs: map[string]bool{},
	}
	m.obj = k.in.NewObject(k.custom, m)
	_, err := k.in.InstanceExec(m.obj, decl, expected...)
	return m, err
}

// actual is what was judged, or what the matcher's code put in its place to be
// shown.
func (m *customMatcher) actual() ruby.Value { return m.obj.IVar("@actual") }

func (m *customMatcher) Clone() Matcher {
	n, err := m.kit.instance(m.name, m.decl, m.expected, m.block)
	for _, call := range m.calls {
		if err == nil {
			_, err = m.kit.in.Call(n.obj, call.name, call.args, nil)
		}
	}
	n.err = err
	return n
}

func (m *customMatcher) Matches(actual ruby.Value) (bool, error) {
	if m.err != nil {
		return false, m.err
	}
	m.obj.SetIVar("@actual", actual)
	if m.defs["match"] == nil {
		return false, m.kit.in.Raise(m.kit.in.Class("NoMethodError"), "matcher %s has no match block", m.name)
	}
	v, err := m.kit.in.InstanceExec(m.obj, m.defs["match"], actual)
	return m.verdict(v, err)
}

func (m *customMatcher) verdict(v ruby.Value, err error) (bool, error) {
	if e := exceptionOf(err); e != nil {
		if m.kit.in.IsA(e, m.kit.notMet) {
			return false, nil
		}
		if class, ok := m.rescues.(*ruby.Class); ok && m.kit.in.IsA(e, class) {
			return false, nil
		}
	}
	if m.rescues != nil && err == nil {
		return true, nil
	}
	return truthy(v), err
}

func (m *customMatcher) DoesNotMatch(actual ruby.Value) (bool, error) {
	blk := m.defs["match_when_negated"]
	if blk == nil {
		met, err := m.Matches(actual)
		return err == nil && !met, err
	}
	m.obj.SetIVar("@actual", actual)
	v, err := m.kit.in.InstanceExec(m.obj, blk, actual)
	return m.verdict(v, err)
}

// text runs the profile's own words, if it has some.
func (m *customMatcher) text(name string, usual func() (string, error)) (string, error) {
	blk := m.defs[name]
	if blk == nil {
		return usual()
	}
	v, err := m.kit.in.InstanceExec(m.obj, blk, m.actual())
	if err != nil {
		return "", err
	}
	return m.kit.in.ToS(v), nil
}

func (m *customMatcher) Description() (string, error) {
	return m.text("description", func() (string, error) { return words(m.name) + m.kit.list(lone(m.expected)), nil })
}

func (m *customMatcher) FailureMessage() (string, error) {
	return m.text("failure_message", func() (string, error) { return m.kit.expectedTo(m.actual(), m, "") })
}

func (m *customMatcher) NegatedFailureMessage() (string, error) {
	return m.text("failure_message_when_negated", func() (string, error) { return m.kit.expectedTo(m.actual(), m, "not ") })
}

func (m *customMatcher) Diff() (ruby.Value, ruby.Value, bool) {
	return lone(m.expected), m.actual(), m.diffable
}
