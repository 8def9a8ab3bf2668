package ruby

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
)

// peg matches a text against atoms of Parslet's, which Ruby code has put
// together. What rules find is kept, so that the work is linear in the text.
type peg struct {
	in      *Interp
	text    []rune
	nodes   map[*Object]pegNode
	memo    map[pegKey]pegFound
	slice   *Class
	depth   int
	deepest int // the furthest place at which something was not as expected
}

type pegKey struct {
	rule *pegRule
	pos  int
}

type pegFound struct {
	v    any
	next int // -1: no match
}

// pegDepth bounds how deep rules go into each other.
const pegDepth = 5000

// pegNode is an atom. match gives what it found, and the place behind it; -1
// when it doesn't match. Found is nil, a pegText, a pegList, *Hash or *Array.
type pegNode interface {
	match(p *peg, pos int) (found any, next int, err error)
}

// pegText is a piece of the text; one that isn't slice is Ruby's empty string.
type pegText struct {
	s     string
	at    int
	slice bool
}

type pegList struct {
	kind  string // sequence, repetition or maybe
	items []any
}

type (
	pegStr struct{ want []rune }
	pegRe  struct {
		re    *Regexp
		known map[rune]bool
	}
	pegSequence    struct{ atoms []pegNode }
	pegAlternative struct{ atoms []pegNode }
	pegRepetition  struct {
		atom     pegNode
		min, max int // max -1: any number
		kind     string
	}
	pegLookahead struct {
		atom   pegNode
		wanted bool
	}
	pegIgnored struct{ atom pegNode }
	pegNamed   struct {
		atom pegNode
		name Value
	}
	pegRule struct {
		of   *Object
		atom pegNode
	}
)

func (p *peg) failed(pos int) (any, int, error) {
	p.deepest = max(p.deepest, pos)
	return nil, -1, nil
}

func (n *pegStr) match(p *peg, pos int) (any, int, error) {
	if pos+len(n.want) > len(p.text) {
		return p.failed(pos)
	}
	for i, c := range n.want {
		if p.text[pos+i] != c {
			return p.failed(pos)
		}
	}
	return pegText{string(n.want), pos, true}, pos + len(n.want), nil
}

func (n *pegRe) match(p *peg, pos int) (any, int, error) {
	if pos >= len(p.text) {
		return p.failed(pos)
	}
	c := p.text[pos]
	ok, known := n.known[c]
	if !known {
		m, err := n.re.match(string(c), 0)
		if err != nil {
			return nil, -1, err
		}
		ok = m != nil
		n.known[c] = ok
	}
	if !ok {
		return p.failed(pos)
	}
	return pegText{string(c), pos, true}, pos + 1, nil
}

func (n *pegSequence) match(p *peg, pos int) (any, int, error) {
	list := pegList{kind: "sequence", items: make([]any, 0, len(n.atoms))}
	for _, a := range n.atoms {
		v, next, err := p.match(a, pos)
		if next < 0 || err != nil {
			return nil, -1, err
		}
		list.items, pos = append(list.items, v), next
	}
	return list, pos, nil
}

func (n *pegAlternative) match(p *peg, pos int) (any, int, error) {
	for _, a := range n.atoms {
		if v, next, err := p.match(a, pos); next >= 0 || err != nil {
			return v, next, err
		}
	}
	return nil, -1, nil
}

func (n *pegRepetition) match(p *peg, pos int) (any, int, error) {
	list := pegList{kind: n.kind}
	for n.max < 0 || len(list.items) < n.max {
		v, next, err := p.match(n.atom, pos)
		if err != nil {
			return nil, -1, err
		}
		if next < 0 || next == pos && len(list.items) >= n.min {
			break
		}
		list.items, pos = append(list.items, v), next
	}
	if len(list.items) < n.min {
		return nil, -1, nil
	}
	return list, pos, nil
}

func (n *pegLookahead) match(p *peg, pos int) (any, int, error) {
	_, next, err := p.match(n.atom, pos)
	if err != nil || (next >= 0) != n.wanted {
		return nil, -1, err
	}
	return nil, pos, nil
}

func (n *pegIgnored) match(p *peg, pos int) (any, int, error) {
	_, next, err := p.match(n.atom, pos)
	return nil, next, err
}

func (n *pegNamed) match(p *peg, pos int) (any, int, error) {
	v, next, err := p.match(n.atom, pos)
	if next < 0 || err != nil {
		return nil, -1, err
	}
	if err := p.in.charge(512); err != nil {
		return nil, -1, err
	}
	return NewHash(n.name, p.value(p.flatten(v, true))), next, nil
}

func (n *pegRule) match(p *peg, pos int) (any, int, error) {
	key := pegKey{n, pos}
	if f, ok := p.memo[key]; ok {
		return f.v, f.next, nil
	}
	if n.atom == nil {
		of, err := p.in.Call(n.of, "atom", nil, nil)
		if err != nil {
			return nil, -1, err
		}
		if n.atom, err = p.node(of); err != nil {
			return nil, -1, err
		}
	}
	v, next, err := p.match(n.atom, pos)
	if err != nil {
		return nil, -1, err
	}
	if err := p.in.charge(128); err != nil {
		return nil, -1, err
	}
	p.memo[key] = pegFound{v, next}
	return v, next, nil
}

func (p *peg) match(n pegNode, pos int) (any, int, error) {
	if err := p.in.step(); err != nil {
		return nil, -1, err
	}
	if err := p.in.charge(64); err != nil {
		return nil, -1, err
	}
	if p.depth++; p.depth > pegDepth {
		return nil, -1, &LimitError{Limit: "depth"}
	}
	defer func() { p.depth-- }()
	return n.match(p, pos)
}

// flatten makes a tree of what atoms found, in which names and lists remain.
func (p *peg) flatten(v any, named bool) any {
	list, ok := v.(pegList)
	if !ok {
		return v
	}
	items := make([]any, 0, len(list.items))
	hashes, arrays := 0, 0
	for _, e := range list.items {
		e = p.flatten(e, false)
		switch e.(type) {
		case nil:
			if list.kind == "sequence" {
				continue
			}
		case *Hash:
			hashes++
		case *Array:
			arrays++
		}
		items = append(items, e)
	}
	switch list.kind {
	case "sequence":
		var out any = pegText{}
		for i, e := range items {
			if i == 0 {
				out = e
			} else {
				out = p.merge(out, e)
			}
		}
		return out
	case "maybe":
		if len(items) > 0 && items[0] != nil {
			return items[0]
		}
		if named {
			return nil
		}
		return pegText{}
	}
	out := &Array{}
	switch {
	case hashes > 0:
		for _, e := range items {
			if h, ok := e.(*Hash); ok {
				out.Elems = append(out.Elems, h)
			}
		}
		return out
	case arrays > 0:
		for _, e := range items {
			if a, ok := e.(*Array); ok {
				out.Elems = append(out.Elems, a.Elems...)
			}
		}
		return out
	case named && len(items) == 0:
		return out
	}
	var b strings.Builder
	text := pegText{}
	for _, e := range items {
		if t, ok := e.(pegText); ok {
			if t.slice && !text.slice {
				text.slice, text.at = true, t.at
			}
			b.WriteString(t.s)
		}
	}
	text.s = b.String()
	return text
}

// merge joins two neighbours in a sequence: texts give way to what has names.
func (p *peg) merge(l, r any) any {
	lt, leftText := l.(pegText)
	rt, rightText := r.(pegText)
	switch {
	case leftText && rightText:
		if lt.slice && rt.slice {
			return pegText{lt.s + rt.s, lt.at, true}
		}
		if rt.slice {
			return rt
		}
		return lt
	case rightText:
		return l
	case leftText:
		return r
	}
	lh, leftHash := l.(*Hash)
	rh, rightHash := r.(*Hash)
	if leftHash && rightHash {
		out := &Hash{}
		out.copyEntries(lh)
		_ = rh.Each(func(k, v Value) error { out.Set(k, v); return nil })
		return out
	}
	elems := func(v any) []Value {
		if a, ok := v.(*Array); ok {
			return a.Elems
		}
		return []Value{v}
	}
	return NewArray(append(append([]Value(nil), elems(l)...), elems(r)...)...)
}

// value is a tree as Ruby code sees it.
func (p *peg) value(v any) Value {
	t, ok := v.(pegText)
	if !ok {
		return v
	}
	if !t.slice {
		return NewString(t.s)
	}
	o := &Object{Class: p.slice}
	_ = p.in.ivarSet(o, "@str", NewString(t.s))
	_ = p.in.ivarSet(o, "@offset", int64(t.at))
	return o
}

// node is the atom that a Ruby object stands for.
func (p *peg) node(v Value) (n pegNode, err error) {
	in := p.in
	o, ok := v.(*Object)
	if !ok {
		return nil, in.Raise(in.eType, "%s is no atom", in.Inspect(v))
	}
	if n, ok := p.nodes[o]; ok {
		return n, nil
	}
	get := func(name string) Value { v, _ := in.ivarGet(o, name); return v }
	inner := func() pegNode {
		var a pegNode
		if err == nil {
			a, err = p.node(get("@atom"))
		}
		return a
	}
	several := func() []pegNode {
		list, _ := get("@atoms").(*Array)
		var out []pegNode
		for i := 0; list != nil && i < len(list.Elems) && err == nil; i++ {
			var a pegNode
			a, err = p.node(list.Elems[i])
			out = append(out, a)
		}
		return out
	}
	switch in.className(o.Class) {
	case "Parslet::Atoms::Str":
		n = &pegStr{[]rune(in.ToS(get("@str")))}
	case "Parslet::Atoms::Re":
		re, ok := get("@re").(*Regexp)
		if !ok {
			return nil, in.Raise(in.eType, "no regular expression")
		}
		n = &pegRe{re, map[rune]bool{}}
	case "Parslet::Atoms::Sequence":
		n = &pegSequence{several()}
	case "Parslet::Atoms::Alternative":
		n = &pegAlternative{several()}
	case "Parslet::Atoms::Repetition":
		r := &pegRepetition{atom: inner(), max: -1, kind: in.ToS(get("@tag"))}
		if least, ok := get("@min").(int64); ok {
			r.min = int(least)
		}
		if most, ok := get("@max").(int64); ok {
			r.max = int(most)
		}
		n = r
	case "Parslet::Atoms::Lookahead":
		n = &pegLookahead{inner(), Truthy(get("@wanted"))}
	case "Parslet::Atoms::Ignored":
		n = &pegIgnored{inner()}
	case "Parslet::Atoms::Named":
		n = &pegNamed{inner(), get("@name")}
	default: // a rule, or a parser: its root
		n = &pegRule{of: o}
	}
	if err != nil {
		return nil, err
	}
	p.nodes[o] = n
	return n, nil
}

// pegCached is what a parser found in a text, as often as it is asked: a
// resource that reads a file is made anew in each control.
type pegCached struct {
	tree          Value
	next, deepest int64
}

type pegCacheKey struct {
	parser  *Class
	methods uint64 // of the parser's class, which its rules are
	text    string
}

// cacheKey tells whether what atom finds is the same each time: it is a parser
// that has nothing but its rules.
func (in *Interp) cacheKey(atom Value, text string) (pegCacheKey, bool) {
	o, ok := atom.(*Object)
	base := in.Class("Parslet::Parser")
	if !ok || base == nil || !o.Class.Inherits(base) || o.singleton != nil {
		return pegCacheKey{}, false
	}
	for _, iv := range o.ivars {
		if iv.name != "@rules" {
			return pegCacheKey{}, false
		}
	}
	h := fnv.New64a()
	for _, k := range o.Class.ancestors() {
		if k == base {
			break
		}
		for _, name := range k.order {
			fmt.Fprintf(h, "%p", k.methods[name])
		}
	}
	return pegCacheKey{o.Class, h.Sum64(), text}, true
}

// copyTree copies what a parser found, so that each may change its own.
func (in *Interp) copyTree(v Value) (Value, error) {
	if err := in.charge(320); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case *String:
		return in.newString(v.s)
	case *Array:
		out := &Array{Elems: make([]Value, len(v.Elems))}
		for i, e := range v.Elems {
			var err error
			if out.Elems[i], err = in.copyTree(e); err != nil {
				return nil, err
			}
		}
		return out, nil
	case *Hash:
		out := &Hash{}
		return out, v.Each(func(k, e Value) error {
			c, err := in.copyTree(e)
			out.Set(k, c)
			return err
		})
	case *Object: // a slice
		out := &Object{Class: v.Class, ivars: append(make(ivars, 0, len(v.ivars)), v.ivars...)}
		for i, iv := range out.ivars {
			if s, ok := iv.value.(*String); ok {
				out.ivars[i].value = NewString(s.s)
			}
		}
		return out, nil
	}
	return v, nil
}

// pegTransform rewrites a tree by rules: patterns, and blocks that are called
// for what matches.
type pegTransform struct {
	in                        *Interp
	hashes, others            []pegTransformRule
	given                     *Hash // bound from the start
	simple, sequence, subtree *Class
	context                   *Class
}

type pegTransformRule struct {
	want  Value
	block *Proc
}

func (t *pegTransform) walk(v Value) (Value, error) {
	if err := t.in.step(); err != nil {
		return nil, err
	}
	if err := t.in.charge(64); err != nil {
		return nil, err
	}
	rules := t.others
	var err error
	switch tree := v.(type) {
	case *Hash:
		out := &Hash{}
		err = t.in.deeper(func() error {
			return tree.Each(func(k, e Value) error {
				e, err := t.walk(e)
				out.Set(k, e)
				return err
			})
		})
		v, rules = out, append(t.hashes[:len(t.hashes):len(t.hashes)], t.others...)
	case *Array:
		out := &Array{Elems: make([]Value, len(tree.Elems))}
		err = t.in.deeper(func() error {
			for i, e := range tree.Elems {
				if out.Elems[i], err = t.walk(e); err != nil {
					return err
				}
			}
			return nil
		})
		v = out
	}
	if err != nil {
		return nil, err
	}
	for _, r := range rules {
		bound := &Hash{}
		if t.given != nil {
			bound.copyEntries(t.given)
		}
		ok, err := t.match(v, r.want, bound)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if arity, _ := t.in.Call(r.block, "arity", nil, nil); arity == Value(int64(1)) {
			return t.in.Yield(r.block, bound)
		}
		ctx, err := t.in.Call(t.context, "new", []Value{bound}, nil)
		if err != nil {
			return nil, err
		}
		return t.in.InstanceExec(ctx, r.block, ctx)
	}
	return v, nil
}

func (t *pegTransform) match(tree, want Value, bound *Hash) (bool, error) {
	switch want := want.(type) {
	case *Object:
		list, isList := tree.(*Array)
		_, isHash := tree.(*Hash)
		nested := func(v Value) bool {
			switch v.(type) {
			case *Array, *Hash:
				return true
			}
			return false
		}
		switch {
		case want.Class == t.simple && (isList || isHash), want.Class == t.sequence && (!isList || slices.ContainsFunc(list.Elems, nested)):
			return false, nil
		case want.Class == t.simple, want.Class == t.sequence, want.Class == t.subtree:
			name := want.IVar("@symbol")
			if v, ok := bound.Get(name); ok {
				return t.in.equal(nil, v, tree)
			}
			bound.Set(name, tree)
			return true, nil
		}
	case *Hash:
		h, ok := tree.(*Hash)
		if !ok || h.Len() != want.Len() {
			return false, nil
		}
		all := true
		err := want.Each(func(k, w Value) error {
			v, ok := h.Get(k)
			if ok && all {
				var err error
				ok, err = t.match(v, w, bound)
				all = ok
				return err
			}
			all = false
			return nil
		})
		return all, err
	case *Array:
		list, ok := tree.(*Array)
		if !ok || len(list.Elems) != len(want.Elems) {
			return false, nil
		}
		for i, w := range want.Elems {
			if ok, err := t.match(list.Elems[i], w, bound); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	}
	return t.in.CaseEq(want, tree)
}

func (in *Interp) parsletTransform(c *Call) (Value, error) {
	t := &pegTransform{
		in: in, simple: in.Class("Parslet::Pattern::Simple"), sequence: in.Class("Parslet::Pattern::Sequence"),
		subtree: in.Class("Parslet::Pattern::Subtree"), context: in.Class("Parslet::Transform::Context"),
	}
	t.given, _ = c.Arg(2).(*Hash)
	rules, err := in.arr(c.Arg(1))
	if err != nil {
		return nil, err
	}
	for _, e := range rules.Elems {
		pair, ok := e.(*Array)
		if !ok || len(pair.Elems) != 2 {
			return nil, in.Raise(in.eType, "%s is no rule", in.Inspect(e))
		}
		block, ok := pair.Elems[1].(*Proc)
		if !ok {
			return nil, in.Raise(in.eArgument, "a rule of a transform needs a block")
		}
		if r := (pegTransformRule{pair.Elems[0], block}); in.ClassOf(r.want) == in.cHash {
			t.hashes = append(t.hashes, r)
		} else {
			t.others = append(t.others, r)
		}
	}
	return t.walk(c.Arg(0))
}

// bootParslet defines Parslet.run(atom, text): the tree or nil, the place
// behind it or nil, and the furthest place at which something was amiss; and
// Parslet.transform(tree, rules, bound).
func (in *Interp) bootParslet(m *Class) {
	m.DefSingleton("transform", func(c *Call) (Value, error) { return c.In.parsletTransform(c) })
	m.DefSingleton("run", func(c *Call) (Value, error) {
		in := c.In
		text := in.ToS(c.Arg(1))
		if err := in.charge(8 * len(text)); err != nil {
			return nil, err
		}
		key, cacheable := in.cacheKey(c.Arg(0), text)
		found, known := in.pegCache[key]
		if !known || !cacheable {
			var err error
			before := in.memory
			if found, err = in.parsletRun(c.Arg(0), text); err != nil {
				return nil, err
			}
			if cost := in.memory - before + int64(len(text)); cacheable && in.pegCached+cost <= in.limits.Memory/16 {
				if in.pegCache == nil {
					in.pegCache = map[pegCacheKey]pegCached{}
				}
				in.pegCache[key] = found
				in.pegCached += cost
			} else {
				cacheable = false
			}
		}
		if found.next < 0 {
			return NewArray(nil, nil, found.deepest), nil
		}
		if cacheable {
			var err error
			if found.tree, err = in.copyTree(found.tree); err != nil {
				return nil, err
			}
		}
		return NewArray(found.tree, found.next, found.deepest), nil
	})
}

// parsletRun matches text against an atom.
func (in *Interp) parsletRun(atom Value, text string) (pegCached, error) {
	p := &peg{in: in, text: []rune(text), nodes: map[*Object]pegNode{}, memo: map[pegKey]pegFound{}}
	if p.slice = in.Class("Parslet::Slice"); p.slice == nil {
		return pegCached{}, in.Raise(in.eName, "uninitialized constant Parslet::Slice")
	}
	n, err := p.node(atom)
	if err != nil {
		return pegCached{}, err
	}
	v, next, err := p.match(n, 0)
	if err != nil || next < 0 {
		return pegCached{next: -1, deepest: int64(p.deepest)}, err
	}
	return pegCached{p.value(p.flatten(v, false)), int64(next), int64(p.deepest)}, nil
}
