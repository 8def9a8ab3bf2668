package ruby

// UseKind tells what a program uses.
type UseKind uint8

// The kinds of uses.
const (
	UseWord        UseKind = iota // a call without receiver, or a name that is no variable
	UseMethod                     // a call with a receiver
	UseConstant                   // a constant; of A::B the first part
	UseDefinition                 // a method that is defined
	UseUnsupported                // syntax that this interpreter refuses when it comes to it
)

// Use is one thing that a program uses, and where.
type Use struct {
	Kind UseKind
	Name string
	// Arg is the first argument where that is a text or symbol written out.
	Arg string
	// Of is the receiver's name where that is a word itself: inspec.os.
	Of        string
	Line, End int // End is the last line of the call's block, else Line
}

// Uses calls yield for what the program uses, as far as its text tells,
// outer calls before those in their arguments and blocks.
func (p *Program) Uses(yield func(Use)) { (&user{yield}).node(p.body) }

type user struct{ yield func(Use) }

func (u *user) nodes(ns []node) {
	for _, n := range ns {
		u.node(n)
	}
}

func (u *user) block(b *blockNode) {
	if b != nil {
		u.params(b.params)
		u.node(b.body)
	}
}

func (u *user) params(p *params) {
	if p == nil {
		return
	}
	for _, o := range p.opt {
		u.node(o.value)
	}
	for _, k := range p.kws {
		u.node(k.value)
	}
}

func text(args []node) string {
	if len(args) == 0 {
		return ""
	}
	switch a := args[0].(type) {
	case *strNode:
		return a.s
	case literal:
		if s, ok := a.v.(Symbol); ok {
			return string(s)
		}
	}
	return ""
}

func (u *user) node(n node) {
	switch n := n.(type) {
	case nil:
	case *dstrNode:
		u.nodes(n.parts)
	case *dsymNode:
		u.nodes(n.parts)
	case *regexNode:
		u.nodes(n.parts)
	case *arrayNode:
		u.nodes(n.elems)
	case *splatNode:
		u.node(n.v)
	case *hashNode:
		for _, p := range n.pairs {
			u.node(p.key)
			u.node(p.value)
		}
	case *rangeNode:
		u.node(n.lo)
		u.node(n.hi)
	case *constNode:
		if n.scope != nil {
			u.node(n.scope)
			return
		}
		u.yield(Use{Kind: UseConstant, Name: n.name, Line: n.line, End: n.line})
	case *asgnNode:
		u.node(n.value)
		u.target(n.target)
	case *opAsgnNode:
		u.target(n.target)
		u.node(n.value)
	case *masgnNode:
		for _, t := range n.left.targets {
			u.target(t)
		}
		u.node(n.value)
	case *callNode:
		use := Use{Kind: UseWord, Name: n.name, Arg: text(n.args), Line: n.line, End: n.line}
		if n.recv != nil {
			use.Kind = UseMethod
			if of, ok := n.recv.(*callNode); ok && of.recv == nil {
				use.Of = of.name
			}
		}
		if n.block != nil {
			use.End = n.block.endLine
		}
		u.yield(use)
		u.node(n.recv)
		u.nodes(n.args)
		u.node(n.blockArg)
		u.block(n.block)
	case *matchNode:
		u.node(n.call)
	case *superNode:
		u.nodes(n.args)
		u.node(n.blockArg)
		u.block(n.block)
	case *yieldNode:
		u.nodes(n.args)
	case *lambdaNode:
		u.block(n.block)
	case *andNode:
		u.node(n.l)
		u.node(n.r)
	case *orNode:
		u.node(n.l)
		u.node(n.r)
	case *notNode:
		u.node(n.v)
	case *ifNode:
		u.node(n.cond)
		u.node(n.then)
		u.node(n.els)
	case *whileNode:
		u.node(n.cond)
		u.node(n.body)
	case *forNode:
		u.node(n.iter)
		u.node(n.body)
	case *caseNode:
		u.node(n.subject)
		for _, w := range n.whens {
			u.nodes(w.conds)
			u.node(w.body)
		}
		u.node(n.els)
	case *caseInNode:
		u.node(n.subject)
		for _, c := range n.ins {
			patternNodes(c.pattern, u.node)
			u.node(c.guard)
			u.node(c.body)
		}
		u.node(n.els)
	case *matchPattern:
		u.node(n.value)
		patternNodes(n.pattern, u.node)
	case *beginNode:
		u.node(n.body)
		for _, r := range n.rescues {
			u.nodes(r.classes)
			u.node(r.body)
		}
		u.node(n.els)
		u.node(n.ensure)
	case *seqNode:
		u.nodes(n.stmts)
	case *returnNode:
		u.node(n.v)
	case *breakNode:
		u.node(n.v)
	case *nextNode:
		u.node(n.v)
	case *defNode:
		u.yield(Use{Kind: UseDefinition, Name: n.name, Line: n.line, End: n.line})
		u.params(n.params)
		u.node(n.body)
	case *classNode:
		u.node(n.super)
		u.yield(Use{Kind: UseDefinition, Name: n.path.name, Line: n.line, End: n.line})
		u.node(n.body)
	case *sclassNode:
		u.node(n.body)
	case *aliasNode:
		u.yield(Use{Kind: UseDefinition, Name: n.to, Line: n.line, End: n.line})
	case *unsupported:
		u.yield(Use{Kind: UseUnsupported, Name: n.what, Line: n.line, End: n.line})
	}
}

// target walks what is assigned to: an index or an attribute is a call, a
// constant is defined.
func (u *user) target(n node) {
	switch n := n.(type) {
	case *constNode:
		u.yield(Use{Kind: UseDefinition, Name: n.name, Line: n.line, End: n.line})
	case *callNode:
		u.node(n.recv)
		u.nodes(n.args)
	case *mlhsNode:
		for _, t := range n.targets {
			u.target(t)
		}
	case *splatNode:
		u.target(n.v)
	}
}

// MethodNames calls yield for the name of each method that any class has by
// now, private ones and those of singletons included.
func (in *Interp) MethodNames(yield func(name string)) {
	seen := map[*Class]bool{}
	var walk func(k *Class)
	walk = func(k *Class) {
		if k == nil || seen[k] {
			return
		}
		seen[k] = true
		for _, name := range k.order {
			yield(name)
		}
		walk(k.meta)
		walk(k.Super)
		for _, m := range k.includes {
			walk(m)
		}
		for _, name := range k.constOrd {
			if c, ok := k.consts[name].(*Class); ok {
				walk(c)
			}
		}
	}
	walk(in.cObject)
}
