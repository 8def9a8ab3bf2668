package ruby

import "strings"

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
	if err := p.in.charge(64); err != nil {
		return nil, -1, err
	}
	p.memo[key] = pegFound{v, next}
	return v, next, nil
}

func (p *peg) match(n pegNode, pos int) (any, int, error) {
	if err := p.in.step(); err != nil {
		return nil, -1, err
	}
	if err := p.in.charge(32); err != nil {
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

// bootParslet defines Parslet.run(atom, text): the tree or nil, the place
// behind it or nil, and the furthest place at which something was amiss.
func (in *Interp) bootParslet(m *Class) {
	m.DefSingleton("run", func(c *Call) (Value, error) {
		in := c.In
		text := in.ToS(c.Arg(1))
		if err := in.charge(8 * len(text)); err != nil {
			return nil, err
		}
		p := &peg{in: in, text: []rune(text), nodes: map[*Object]pegNode{}, memo: map[pegKey]pegFound{}}
		if p.slice = in.Class("Parslet::Slice"); p.slice == nil {
			return nil, in.Raise(in.eName, "uninitialized constant Parslet::Slice")
		}
		n, err := p.node(c.Arg(0))
		if err != nil {
			return nil, err
		}
		v, next, err := p.match(n, 0)
		if err != nil {
			return nil, err
		}
		if next < 0 {
			return NewArray(nil, nil, int64(p.deepest)), nil
		}
		return NewArray(p.value(p.flatten(v, false)), int64(next), int64(p.deepest)), nil
	})
}
