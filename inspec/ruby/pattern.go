package ruby

import (
	"fmt"
	"strconv"
)

// A pattern is what stands after in, or on the right of =>.
type pattern interface {
	match(m *matching, v Value) (bool, error)
}

// matching is one value being held against patterns. Where the outcome may be
// an exception, why says what didn't match, in Ruby's words.
type matching struct {
	fr      *frame
	explain bool
	why     string
	missing bool // why names a key that isn't there
}

func (m *matching) no(format string, args ...any) (bool, error) {
	if m.explain {
		for i, a := range args {
			if s, ok := a.(shown); ok {
				args[i] = m.fr.in.Inspect(s.v)
			}
		}
		m.why, m.missing = fmt.Sprintf(format, args...), false
	}
	return false, nil
}

// shown is a value that a reason shows; it is inspected only if there is need.
type shown struct{ v Value }

type (
	valuePattern struct { // a literal, a constant, ^x: what === says
		v node
	}
	bindPattern struct { // x, or pattern => x
		of     pattern // nil: anything
		target *lvar
	}
	altPattern   struct{ alts []pattern }
	arrayPattern struct {
		of         node // Const(…); nil: none
		pre, post  []pattern
		rest       bool
		restTarget *lvar
	}
	findPattern struct { // [*, x, *]
		of            node
		before, after *lvar
		mid           []pattern
	}
	hashPattern struct {
		of         node
		keys       []Symbol
		values     []pattern
		rest       bool // **rest
		restTarget *lvar
		exact      bool // **nil
	}
)

func (p *valuePattern) match(m *matching, v Value) (bool, error) {
	want, err := p.v.eval(m.fr)
	if err != nil {
		return false, err
	}
	ok, err := m.fr.in.caseEq(m.fr, want, v)
	if err != nil || ok {
		return ok, err
	}
	return m.no("%s === %s does not return true", shown{want}, shown{v})
}

func (p *bindPattern) match(m *matching, v Value) (bool, error) {
	if p.of != nil {
		if ok, err := p.of.match(m, v); !ok || err != nil {
			return false, err
		}
	}
	p.target.set(m.fr, v)
	return true, nil
}

func (p *altPattern) match(m *matching, v Value) (bool, error) {
	for _, a := range p.alts {
		if ok, err := a.match(m, v); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// elements are what the value deconstructs into.
func (m *matching) elements(of node, v Value) (elems []Value, ok bool, err error) {
	in := m.fr.in
	if of != nil {
		if ok, err := (&valuePattern{of}).match(m, v); !ok || err != nil {
			return nil, false, err
		}
	}
	if a, ok := v.(*Array); ok {
		return a.Elems, true, nil
	}
	if !in.RespondTo(v, "deconstruct") {
		_, err := m.no("%s does not respond to #deconstruct", shown{v})
		return nil, false, err
	}
	d, err := in.Call(v, "deconstruct", nil, nil)
	if err != nil {
		return nil, false, err
	}
	a, ok := d.(*Array)
	if !ok {
		return nil, false, in.Raise(in.eType, "deconstruct must return Array")
	}
	return a.Elems, true, nil
}

func (p *arrayPattern) match(m *matching, v Value) (bool, error) {
	elems, ok, err := m.elements(p.of, v)
	if !ok || err != nil {
		return false, err
	}
	least := len(p.pre) + len(p.post)
	if len(elems) < least || len(elems) > least && !p.rest {
		more := ""
		if p.rest {
			more = "+"
		}
		return m.no("%s length mismatch (given %s, expected %s%s)", shown{&Array{Elems: elems}}, strconv.Itoa(len(elems)), strconv.Itoa(least), more)
	}
	for i, sub := range p.pre {
		if ok, err := sub.match(m, elems[i]); !ok || err != nil {
			return false, err
		}
	}
	end := len(elems) - len(p.post)
	if p.restTarget != nil {
		rest, err := m.fr.in.newArray(append([]Value(nil), elems[len(p.pre):end]...))
		if err != nil {
			return false, err
		}
		p.restTarget.set(m.fr, rest)
	}
	for i, sub := range p.post {
		if ok, err := sub.match(m, elems[end+i]); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (p *findPattern) match(m *matching, v Value) (bool, error) {
	elems, ok, err := m.elements(p.of, v)
	if !ok || err != nil {
		return false, err
	}
	set := func(t *lvar, part []Value) error {
		if t == nil {
			return nil
		}
		a, err := m.fr.in.newArray(append([]Value(nil), part...))
		if err == nil {
			t.set(m.fr, a)
		}
		return err
	}
next:
	for at := 0; at+len(p.mid) <= len(elems); at++ {
		if err := m.fr.in.step(); err != nil {
			return false, err
		}
		for i, sub := range p.mid {
			if ok, err := sub.match(m, elems[at+i]); err != nil {
				return false, err
			} else if !ok {
				continue next
			}
		}
		if err := set(p.before, elems[:at]); err != nil {
			return false, err
		}
		return true, set(p.after, elems[at+len(p.mid):])
	}
	return m.no("%s does not match to find pattern", shown{&Array{Elems: elems}})
}

func (p *hashPattern) match(m *matching, v Value) (bool, error) {
	in := m.fr.in
	if p.of != nil {
		if ok, err := (&valuePattern{p.of}).match(m, v); !ok || err != nil {
			return false, err
		}
	}
	h, ok := v.(*Hash)
	if !ok {
		if !in.RespondTo(v, "deconstruct_keys") {
			return m.no("%s does not respond to #deconstruct_keys", shown{v})
		}
		var wanted Value
		if !p.rest || p.exact {
			keys := &Array{}
			for _, k := range p.keys {
				keys.Elems = append(keys.Elems, k)
			}
			wanted = keys
		}
		d, err := in.Call(v, "deconstruct_keys", []Value{wanted}, nil)
		if err != nil {
			return false, err
		}
		if h, ok = d.(*Hash); !ok {
			return false, in.Raise(in.eType, "deconstruct_keys must return Hash")
		}
	}
	if len(p.keys) == 0 && !p.rest && !p.exact {
		if h.Len() > 0 {
			return m.no("%s is not empty", shown{h})
		}
		return true, nil
	}
	var rest *Hash
	if p.exact || p.restTarget != nil {
		if err := in.charge(h.Len() * 32); err != nil {
			return false, err
		}
		rest = NewHash()
		rest.copyEntries(h)
	}
	for i, k := range p.keys {
		e, ok := h.Get(k)
		if !ok {
			_, err := m.no("key not found: %s", shown{k})
			m.missing = true
			return false, err
		}
		if ok, err := p.values[i].match(m, e); !ok || err != nil {
			return false, err
		}
		if rest != nil {
			rest.Delete(k)
		}
	}
	if p.exact && rest.Len() > 0 {
		return m.no("rest of %s is not empty", shown{rest})
	}
	if p.restTarget != nil {
		p.restTarget.set(m.fr, rest)
	}
	return true, nil
}

type (
	inClause struct {
		pattern pattern
		guard   node // nil: none
		body    node
	}
	caseInNode struct {
		subject node
		ins     []inClause
		els     node
		hasElse bool
		line    int
	}
	// matchPattern is value => pattern, which raises, or value in pattern.
	matchPattern struct {
		value   node
		pattern pattern
		test    bool
		line    int
	}
)

func (n *caseInNode) eval(fr *frame) (Value, error) {
	v, err := n.subject.eval(fr)
	if err != nil {
		return nil, err
	}
	m := &matching{fr: fr, explain: len(n.ins) == 1 && !n.hasElse}
	for i := range n.ins {
		c := &n.ins[i]
		ok, err := c.pattern.match(m, v)
		if err != nil {
			return nil, err
		}
		if ok && c.guard != nil {
			g, err := c.guard.eval(fr)
			if err != nil {
				return nil, err
			}
			if ok = Truthy(g); !ok {
				_, _ = m.no("guard clause does not return true")
			}
		}
		if ok {
			return c.body.eval(fr)
		}
	}
	if n.hasElse {
		return n.els.eval(fr)
	}
	fr.at(n.line)
	return nil, m.fail(v)
}

// fail is the exception that no pattern matches v.
func (m *matching) fail(v Value) error {
	in := m.fr.in
	text, class := in.Inspect(v), in.eNoMatch
	if m.why != "" {
		text += ": " + m.why
	}
	if m.missing {
		class = in.eNoMatchKey
	}
	return in.Raise(class, "%s", text)
}

func (n *matchPattern) eval(fr *frame) (Value, error) {
	v, err := n.value.eval(fr)
	if err != nil {
		return nil, err
	}
	m := &matching{fr: fr, explain: !n.test}
	ok, err := n.pattern.match(m, v)
	switch {
	case err != nil:
		return nil, err
	case n.test:
		return ok, nil
	case ok:
		return nil, nil
	}
	fr.at(n.line)
	return nil, m.fail(v)
}

// caseIn parses the branches of case … in at tok.
func (p *parser) caseIn(subject node, line int) node {
	c := &caseInNode{subject: subject, line: line}
	if subject == nil {
		p.unexpected()
	}
	for p.kw("in") {
		p.advance()
		var b inClause
		b.pattern = p.topPattern()
		if p.kw("if") || p.kw("unless") {
			unless := p.kw("unless")
			p.advance()
			p.fresh(func() { b.guard = p.expr() })
			if unless {
				b.guard = &notNode{b.guard}
			}
		}
		if p.tok.kind != tNewline && !p.kw("then") {
			p.unexpected()
		}
		p.skipThen()
		b.body = p.stmts()
		c.ins = append(c.ins, b)
	}
	if p.acceptKw("else") {
		c.hasElse, c.els = true, p.stmts()
	}
	p.expectKw("end")
	return c
}

// topPattern is a pattern where the brackets of an array or hash may be left
// out.
func (p *parser) topPattern() pattern {
	var out pattern
	p.fresh(func() {
		p.noPipe++
		defer func() { p.noPipe-- }()
		if p.tok.kind == tLabel || p.op("**") || p.labelAhead() {
			out = p.hashPattern("")
			return
		}
		if !p.op("*") {
			first := p.pattern()
			if !p.op(",") {
				out = first
				return
			}
			p.advance()
			out = p.elementPatterns("", first)
			return
		}
		out = p.elementPatterns("", nil)
	})
	return out
}

// labelAhead reports whether tok begins "a text": of a hash pattern.
func (p *parser) labelAhead() bool {
	if p.tok.kind != tStrBeg || p.tok.close != '"' && p.tok.close != '\'' {
		return false
	}
	for i := p.tok.end; i < len(p.src) && p.src[i] != '\n'; i++ {
		if p.src[i] == p.tok.close {
			return p.at(i+1) == ':' && p.at(i+2) != ':'
		}
	}
	return false
}

// pattern is one pattern, with its alternatives and => name.
func (p *parser) pattern() pattern {
	p.nest()
	defer p.unnest()
	out := p.patternPrimary()
	if p.op("|") {
		alt := &altPattern{alts: []pattern{out}}
		for p.acceptOp("|") {
			p.checkChain(len(alt.alts))
			p.skipNewlines()
			alt.alts = append(alt.alts, p.patternPrimary())
		}
		out = alt
	}
	for links := 0; p.acceptOp("=>"); links++ {
		p.checkChain(links)
		out = &bindPattern{of: out, target: p.patternName()}
	}
	return out
}

// patternName declares the variable at tok.
func (p *parser) patternName() *lvar {
	if p.tok.kind != tIdent {
		p.unexpectedFor("a variable")
	}
	t := p.declare(p.tok.s)
	p.state = stEnd
	p.advance()
	return t
}

func (p *parser) patternPrimary() pattern {
	switch {
	case p.op("["):
		p.advance()
		out := p.enclosed("]", nil)
		return out
	case p.op("{"):
		p.advance()
		var out pattern
		p.fresh(func() {
			p.noPipe++
			p.skipNewlines()
			out = p.hashPattern("}")
			p.noPipe--
		})
		p.expectOp("}")
		return out
	case p.op("("):
		p.advance()
		var out pattern
		p.fresh(func() {
			p.noPipe++
			p.skipNewlines()
			out = p.pattern()
			p.skipNewlines()
			p.noPipe--
		})
		p.expectOp(")")
		return out
	case p.op("^"):
		p.advance()
		switch p.tok.kind {
		case tIdent:
			slot, hops, ok := p.scope.lookup(p.tok.s)
			if !ok {
				p.fail(p.tok.pos, "%s: no such local variable", p.tok.s)
			}
			v := &lvar{p.tok.s, slot, hops}
			p.state = stEnd
			p.advance()
			return &valuePattern{v}
		case tIVar, tGVar, tCVar:
			return &valuePattern{p.primary()}
		}
		if !p.op("(") {
			p.unexpectedFor("a variable or expression in parentheses")
		}
		return &valuePattern{p.paren()}
	case p.tok.kind == tIdent:
		return &bindPattern{target: p.patternName()}
	case p.tok.kind == tConst || p.op("::"):
		return p.constPattern()
	}
	return &valuePattern{p.patternValue()}
}

// constPattern is Const, Const(…), Const[…] or a range from Const.
func (p *parser) constPattern() pattern {
	of := p.constPath()
	switch {
	case p.op("(") && !p.tok.space:
		p.advance()
		return p.enclosed(")", of)
	case p.op("[") && !p.tok.space:
		p.advance()
		return p.enclosed("]", of)
	case p.op("..") || p.op("..."):
		return &valuePattern{p.patternRange(of)}
	}
	return &valuePattern{of}
}

// enclosed parses an array or hash pattern up to closing, which it takes.
func (p *parser) enclosed(closing string, of node) (out pattern) {
	p.fresh(func() {
		p.noPipe++
		p.skipNewlines()
		if of != nil && (p.tok.kind == tLabel || p.op("**") || p.labelAhead()) {
			h := p.hashPattern(closing)
			h.of, out = of, h
		} else {
			out = p.elementPatterns(closing, nil)
			switch a := out.(type) {
			case *arrayPattern:
				a.of = of
			case *findPattern:
				a.of = of
			}
		}
		p.skipNewlines()
		p.noPipe--
	})
	p.expectOp(closing)
	return out
}

// elementPatterns parses the elements of an array pattern up to closing, which
// it leaves; "" stands for the end of the clause. First is one that has been
// read.
func (p *parser) elementPatterns(closing string, first pattern) pattern {
	a := &arrayPattern{}
	var splats []*lvar
	if first != nil {
		a.pre = append(a.pre, first)
	}
	trailing := first != nil // a comma was the last
	for {
		if closing != "" {
			p.skipNewlines()
			if p.op(closing) {
				break
			}
		} else if p.tok.kind == tNewline || p.kw("then") || p.kw("if") || p.kw("unless") {
			break
		}
		trailing = false
		if p.op("*") {
			p.advance()
			var t *lvar
			if p.tok.kind == tIdent {
				t = p.patternName()
			}
			if splats = append(splats, t); len(splats) > 2 {
				p.fail(p.tok.pos, "syntax error, unexpected *")
			}
		} else {
			switch e := p.pattern(); len(splats) {
			case 0:
				a.pre = append(a.pre, e)
			case 1:
				a.post = append(a.post, e)
			default:
				p.fail(p.tok.pos, "syntax error, a find pattern ends with its second *")
			}
		}
		if closing != "" {
			p.skipNewlines()
		}
		if !p.acceptOp(",") {
			break
		}
		trailing = true
	}
	switch len(splats) {
	case 0:
		a.rest = trailing // in a, is in a, *
	case 1:
		a.rest, a.restTarget = true, splats[0]
	case 2:
		if len(a.pre) > 0 || len(a.post) == 0 {
			p.fail(p.tok.pos, "syntax error, unexpected *")
		}
		return &findPattern{before: splats[0], after: splats[1], mid: a.post}
	}
	return a
}

// hashPattern parses key: pattern, … up to closing, which it leaves; "" stands
// for the end of the clause.
func (p *parser) hashPattern(closing string) *hashPattern {
	h := &hashPattern{}
	ends := func() bool {
		if closing != "" {
			p.skipNewlines()
			return p.op(closing)
		}
		return p.tok.kind == tNewline || p.tok.kind == tEOF || p.kw("then") || p.kw("if") || p.kw("unless") || p.kw("and") || p.kw("or") || p.op(")") || p.op("}")
	}
	for !ends() {
		switch {
		case p.op("**"):
			p.advance()
			h.rest = true
			if p.acceptKw("nil") {
				h.exact = true
			} else {
				h.restTarget = p.patternName()
			}
			if !ends() {
				p.unexpected()
			}
			return h
		case p.tok.kind == tLabel:
			key := p.tok.s
			p.state = stMid // a newline ends the pattern
			p.advance()
			h.key(p, key, ends)
		case p.labelAhead():
			s, ok := constantParts(p.stringBody())
			if !ok {
				p.fail(p.tok.pos, "symbol literal with interpolation is not allowed")
			}
			p.expectOp(":")
			h.key(p, s, ends)
		default:
			p.unexpectedFor("a key")
		}
		if closing != "" {
			p.skipNewlines()
		}
		if !p.acceptOp(",") {
			break
		}
	}
	return h
}

// key adds a key whose pattern, if there is one, follows.
func (h *hashPattern) key(p *parser, key string, ends func() bool) {
	h.keys = append(h.keys, Symbol(key))
	if p.op(",") || ends() {
		if !isIdentStart(key[0]) || key[0] >= 'A' && key[0] <= 'Z' {
			p.fail(p.tok.pos, "key must be valid as local variables")
		}
		h.values = append(h.values, &bindPattern{target: p.declare(key)})
		return
	}
	h.values = append(h.values, p.pattern())
}

// patternValue is a literal, or a range of literals.
func (p *parser) patternValue() node {
	if p.op("..") || p.op("...") {
		return p.patternRange(literal{nil})
	}
	lo := p.patternLiteral()
	if p.op("..") || p.op("...") {
		return p.patternRange(lo)
	}
	return lo
}

func (p *parser) patternRange(lo node) node {
	r := &rangeNode{lo: lo, excl: p.op("..."), line: p.here()}
	p.advance()
	if !p.endsRange() && !p.op("|") && !p.kw("unless") && !p.kw("in") {
		r.hi = p.patternLiteral()
	}
	return r
}

func (p *parser) patternLiteral() node {
	switch p.tok.kind {
	case tInt, tFloat:
		return p.number(false)
	case tStrBeg, tHeredoc, tChar, tSymbol, tSymBeg, tRegBeg, tWords, tSymbols:
		return p.primary()
	case tConst:
		return p.constPath()
	case tKeyword:
		switch p.tok.s {
		case "nil", "true", "false", "self", "__FILE__", "__LINE__":
			return p.primary()
		}
	case tOp:
		switch {
		case p.op("->"):
			return p.lambda()
		case p.op("-") && isDigit(p.at(p.tok.end)):
			p.advance()
			return p.number(true)
		}
	}
	p.unexpectedFor("a pattern")
	return nil
}

// patternNodes calls yield for the expressions that stand in a pattern.
func patternNodes(p pattern, yield func(node)) {
	each := func(ps []pattern) {
		for _, q := range ps {
			patternNodes(q, yield)
		}
	}
	switch p := p.(type) {
	case *valuePattern:
		yield(p.v)
	case *bindPattern:
		if p.of != nil {
			patternNodes(p.of, yield)
		}
	case *altPattern:
		each(p.alts)
	case *arrayPattern:
		yield(p.of)
		each(p.pre)
		each(p.post)
	case *findPattern:
		yield(p.of)
		each(p.mid)
	case *hashPattern:
		yield(p.of)
		each(p.values)
	}
}
