package dsl

import (
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// A group is one describe block: a class whose instances are the examples, so
// that def and let in it define what examples can call. A group of its()
// shares its parent's class.
type group struct {
	control  *Control
	parent   *group
	class    *ruby.Class
	args     []ruby.Value // what is described
	flags    flags
	desc     string // of this group
	full     string // with those around it
	subject  *ruby.Proc
	its      *itsOf
	before   []*ruby.Proc
	after    []*ruby.Proc
	examples []*example
	children []*group
}

// itsOf is what its(attribute) asks of the subject.
type itsOf struct{ attribute ruby.Value }

// flags are RSpec's metadata that change how an example is run or told.
type flags struct {
	skip, pending, sensitive bool
}

func (f *flags) take(c *ruby.Interp, args []ruby.Value) []ruby.Value {
	set := func(name string, v ruby.Value) {
		on := ruby.Truthy(v)
		switch name {
		case "skip":
			f.skip = on
		case "pending":
			f.pending = on
		case "sensitive":
			f.sensitive = on
		}
	}
	if n := len(args); n > 0 {
		if h, ok := args[n-1].(*ruby.Hash); ok {
			_ = h.Each(func(key, v ruby.Value) error {
				set(c.ToS(key), v)
				return nil
			})
			args = args[:n-1]
		}
	}
	for n := len(args); n > 0; n = len(args) {
		sym, ok := args[n-1].(ruby.Symbol)
		if !ok {
			break
		}
		set(string(sym), true)
		args = args[:n-1]
	}
	return args
}

// newGroup makes the group of args inside parent, nil at the top, without
// opening its block.
func (s *Suite) newGroup(ctl *Control, parent *group, args []ruby.Value, its *itsOf) *group {
	g := &group{control: ctl, parent: parent, its: its}
	if parent != nil {
		g.flags = parent.flags
	}
	// The first argument is never a flag: describe(:name) describes a symbol.
	if len(args) > 0 {
		g.args = append(args[:1:1], g.flags.take(s.in, args[1:])...)
	}
	if len(g.args) > 0 {
		g.desc = s.in.ToS(g.args[0])
	}
	if len(g.args) > 1 && g.args[1] != nil {
		if g.desc == "" {
			g.desc = s.in.ToS(g.args[1])
		} else {
			g.desc += " " + s.in.ToS(g.args[1])
		}
	}
	g.full = g.desc
	if parent != nil {
		g.full = parent.full + " " + g.desc
	}
	if its != nil {
		g.class = parent.class
		return g
	}
	super := s.lang.example
	if parent != nil {
		super = parent.class
	}
	g.class = s.in.NewClass(super)
	s.lang.groups[g.class] = g
	return g
}

// open runs the group's block, which adds examples and children.
func (s *Suite) open(g *group, block *ruby.Proc) (err error) {
	if block == nil {
		return nil
	}
	defer guard(&err)
	_, err = s.in.ClassExec(g.class, block)
	return err
}

// described is RSpec's described_class: the first argument that isn't a text,
// here or around here.
func (g *group) described() ruby.Value {
	for ; g != nil; g = g.parent {
		if len(g.args) == 0 || g.args[0] == nil {
			continue
		}
		if _, ok := g.args[0].(*ruby.String); ok {
			continue
		}
		return g.args[0]
	}
	return nil
}

// implicit is the subject when none is given.
func (g *group) implicit(in *ruby.Interp) (ruby.Value, error) {
	v := g.described()
	if !ruby.Truthy(v) {
		v = nil
		if len(g.args) > 0 {
			v = g.args[0]
		}
	}
	if class, ok := v.(*ruby.Class); ok && !class.IsModule() {
		return in.Call(class, "new", nil, nil)
	}
	return v, nil
}

func (g *group) subjectBlock() *ruby.Proc {
	for ; g != nil; g = g.parent {
		if g.subject != nil {
			return g.subject
		}
	}
	return nil
}

// constant is the name that RSpec would give the group's class.
func (g *group) constant() string {
	var b strings.Builder
	up := true
	for _, r := range g.desc {
		isWord := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		switch {
		case !isWord:
			up = true
		case up:
			b.WriteString(strings.ToUpper(string(r)))
			up = false
		default:
			b.WriteRune(r)
		}
	}
	name := b.String()
	if name == "" {
		name = "Anonymous"
	}
	if name[0] >= '0' && name[0] <= '9' {
		name = "Nested" + name
	}
	if g.parent != nil {
		return g.parent.constant() + "::" + name
	}
	return "RSpec::ExampleGroups::" + name
}

// groupClass defines what may be said in a describe block. meta is the
// singleton class of all groups' common ancestor.
func (k *Language) groupClass(meta *ruby.Class) {
	of := func(c *ruby.Call) (*group, error) {
		class, _ := c.Self.(*ruby.Class)
		for ; class != nil; class = class.Super {
			if g := k.groups[class]; g != nil {
				return g, nil
			}
		}
		return nil, c.In.Raise(nil, "`%s` belongs into a describe block", c.Name)
	}
	def := func(names []string, fn func(c *ruby.Call, g *group) (ruby.Value, error)) {
		for _, name := range names {
			meta.Def(name, func(c *ruby.Call) (ruby.Value, error) {
				g, err := of(c)
				if err == nil {
					err = g.control.grow(c.In)
				}
				if err != nil {
					return nil, err
				}
				return fn(c, g)
			})
		}
	}
	add := func(c *ruby.Call, g *group, f flags) {
		ex := &example{group: g, block: c.Block, flags: f, file: c.File, line: c.Line}
		args := ex.flags.take(c.In, c.Args)
		if len(args) > 0 && args[0] != nil {
			ex.desc, ex.named = c.In.ToS(args[0]), true
		}
		if c.Block == nil {
			ex.flags.skip = true
		} else {
			ex.file, ex.line = c.Block.File(), c.Block.Line()
		}
		g.examples = append(g.examples, ex)
	}
	def([]string{"it", "specify", "example", "fit", "focus"}, func(c *ruby.Call, g *group) (ruby.Value, error) {
		add(c, g, g.flags)
		return nil, nil
	})
	def([]string{"xit", "xspecify", "xexample", "skip"}, func(c *ruby.Call, g *group) (ruby.Value, error) {
		f := g.flags
		f.skip = true
		add(c, g, f)
		return nil, nil
	})
	def([]string{"pending"}, func(c *ruby.Call, g *group) (ruby.Value, error) {
		f := g.flags
		f.pending = true
		add(c, g, f)
		return nil, nil
	})
	nested := func(c *ruby.Call, g *group, skip bool) (ruby.Value, error) {
		s := g.control.suite
		child := s.newGroup(g.control, g, c.Args, nil)
		child.flags.skip = child.flags.skip || skip
		g.children = append(g.children, child)
		return nil, s.open(child, c.Block)
	}
	def([]string{"describe", "context", "example_group", "fdescribe", "fcontext"}, func(c *ruby.Call, g *group) (ruby.Value, error) {
		return nested(c, g, false)
	})
	def([]string{"xdescribe", "xcontext"}, func(c *ruby.Call, g *group) (ruby.Value, error) {
		return nested(c, g, true)
	})
	def([]string{"its"}, func(c *ruby.Call, g *group) (ruby.Value, error) {
		attribute := c.Arg(0)
		child := g.control.suite.newGroup(g.control, g, []ruby.Value{ruby.NewString(c.In.ToS(attribute))}, &itsOf{attribute})
		ex := &example{group: child, block: c.Block, flags: child.flags, file: c.File, line: c.Line}
		ex.flags.take(c.In, c.Args[min(1, len(c.Args)):])
		if c.Block == nil {
			ex.flags.skip = true
		}
		child.examples = append(child.examples, ex)
		g.children = append(g.children, child)
		return nil, nil
	})
	let := func(c *ruby.Call, g *group, name string, block *ruby.Proc) {
		g.class.Def(name, func(c *ruby.Call) (ruby.Value, error) {
			return c.Self.(*ruby.Object).Data.(*example).memoize(c.In, name, func() (ruby.Value, error) {
				return c.In.InstanceExec(c.Self, block)
			})
		})
	}
	def([]string{"let", "let!"}, func(c *ruby.Call, g *group) (ruby.Value, error) {
		if c.Block == nil {
			return nil, c.In.Raise(c.In.Class("ArgumentError"), "#let or #subject called without a block")
		}
		name := c.In.ToS(c.Arg(0))
		let(c, g, name, c.Block)
		if c.Name == "let!" {
			g.before = append(g.before, c.In.NewProc(0, func(pc *ruby.Call) (ruby.Value, error) {
				return pc.In.Call(pc.Self, name, nil, nil)
			}))
		}
		return nil, nil
	})
	def([]string{"subject", "subject!"}, func(c *ruby.Call, g *group) (ruby.Value, error) {
		if c.Block == nil {
			// `subject` read in a describe block: what is described
			return g.implicit(c.In)
		}
		g.subject = c.Block
		if len(c.Args) > 0 {
			g.class.Def(c.In.ToS(c.Args[0]), func(c *ruby.Call) (ruby.Value, error) {
				return c.In.Call(c.Self, "subject", nil, nil)
			})
		}
		return nil, nil
	})
	def([]string{"before", "prepend_before"}, func(c *ruby.Call, g *group) (ruby.Value, error) {
		if c.Block != nil {
			g.before = append(g.before, c.Block)
		}
		return nil, nil
	})
	def([]string{"after", "append_after"}, func(c *ruby.Call, g *group) (ruby.Value, error) {
		if c.Block != nil {
			g.after = append([]*ruby.Proc{c.Block}, g.after...)
		}
		return nil, nil
	})
	def([]string{"described_class"}, func(c *ruby.Call, g *group) (ruby.Value, error) { return g.described(), nil })
}
