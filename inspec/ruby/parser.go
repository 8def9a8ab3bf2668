package ruby

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds on a source, so that neither parsing nor evaluating it runs out of
// stack.
const (
	maxSource  = 8 << 20
	maxNesting = 400
	maxChain   = 4000 // links of one a.b.c… or a + b + c…
)

// scope is where local variables are declared: a method's body, or a block's,
// which also sees those around it.
type scope struct {
	names  map[string]int
	n      int
	outer  *scope // of a block
	maxNum int    // highest numbered parameter used, _1 …
	params bool
}

func (s *scope) declare(name string) int {
	if i, ok := s.names[name]; ok {
		return i
	}
	if s.names == nil {
		s.names = map[string]int{}
	}
	i := s.n
	s.names[name] = i
	s.n++
	return i
}

func (s *scope) temp() int {
	s.n++
	return s.n - 1
}

func (s *scope) lookup(name string) (slot, hops int, ok bool) {
	for k := s; k != nil; k = k.outer {
		if i, ok := k.names[name]; ok {
			return i, hops, true
		}
		hops++
	}
	return 0, 0, false
}

type parser struct {
	*lexer
	prog    *Program
	tok     token
	prevEnd int // end of the token before tok
	scope   *scope
	depth   int
	noDo    int // do belongs to a while or an outer command call
	noPipe  int // | ends a block's parameters, or an alternative of a pattern
	noIn    int // in belongs to an enclosing case
	inLoop  bool
	frozen  bool         // # frozen_string_literal: true
	masgns  map[int]bool // answers of masgnAhead, by offset
}

// Parse parses a source file. The error is a *SyntaxError. The program refers
// to src where that is a string.
func Parse[S string | []byte](file string, src S) (prog *Program, err error) {
	if len(src) > maxSource {
		return nil, &SyntaxError{file, 1, "file is larger than 8 MiB"}
	}
	text := strings.TrimPrefix(string(src), "\ufeff")
	if !utf8.ValidString(text) {
		return nil, &SyntaxError{file, 1 + strings.Count(text[:invalidUTF8(text)], "\n"), "invalid multibyte char (UTF-8)"}
	}
	p := &parser{lexer: newLexer(file, text), scope: &scope{}}
	p.prog = &Program{File: file, src: text, lines: p.lines}
	p.isLocal = func(name string) bool {
		_, _, ok := p.scope.lookup(name)
		return ok
	}
	p.frozen = frozenComment(text)
	defer func() {
		if r := recover(); r != nil {
			se, ok := r.(*SyntaxError)
			if !ok { // a profile must not end the process
				se = &SyntaxError{file, 1, fmt.Sprint("internal error: ", r)}
			}
			prog, err = nil, se
		}
	}()
	p.lineStart()
	p.advance()
	body := p.stmts()
	if p.tok.kind != tEOF {
		p.unexpected()
	}
	p.prog.body, p.prog.nvars = body, p.scope.n
	return p.prog, nil
}

func invalidUTF8(s string) int {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(s)
}

// frozenComment looks for the magic comment among the comments that begin the
// file.
func frozenComment(src string) bool {
	for line := range strings.Lines(src) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if line[0] != '#' {
			return false
		}
		if i := strings.Index(line, "frozen_string_literal:"); i >= 0 {
			return strings.HasPrefix(strings.TrimSpace(line[i+len("frozen_string_literal:"):]), "true")
		}
	}
	return false
}

func (p *parser) advance() {
	p.prevEnd = p.tok.end
	p.tok = p.next()
}

func (p *parser) op(s string) bool { return p.tok.kind == tOp && p.tok.s == s }
func (p *parser) kw(s string) bool { return p.tok.kind == tKeyword && p.tok.s == s }

func (p *parser) acceptOp(s string) bool {
	if p.op(s) {
		p.advance()
		return true
	}
	return false
}

func (p *parser) acceptKw(s string) bool {
	if p.kw(s) {
		p.advance()
		return true
	}
	return false
}

func (p *parser) expectOp(s string) {
	if !p.acceptOp(s) {
		p.unexpectedFor("'" + s + "'")
	}
}

func (p *parser) expectKw(s string) {
	if !p.acceptKw(s) {
		p.unexpectedFor("`" + s + "'")
	}
}

func (p *parser) skipNewlines() {
	for p.tok.kind == tNewline {
		p.advance()
	}
}

func (p *parser) describe() string {
	switch p.tok.kind {
	case tEOF:
		return "end-of-input"
	case tNewline:
		return "end of line"
	case tStrBeg, tHeredoc, tXStrBeg:
		return "string literal"
	case tRegBeg:
		return "regular expression"
	case tKeyword:
		return "`" + p.tok.s + "'"
	case tOp:
		return "'" + p.tok.s + "'"
	}
	return strconv.Quote(p.src[p.tok.pos:p.tok.end])
}

func (p *parser) unexpected() { p.fail(p.tok.pos, "syntax error, unexpected %s", p.describe()) }

func (p *parser) unexpectedFor(want string) {
	p.fail(p.tok.pos, "syntax error, unexpected %s, expecting %s", p.describe(), want)
}

// nest goes one level deeper, and unnest back.
func (p *parser) nest() {
	p.depth++
	if p.depth > maxNesting {
		p.fail(p.tok.pos, "nested too deeply")
	}
}

func (p *parser) unnest() { p.depth-- }

func (p *parser) here() int { return p.line(p.tok.pos) }

// fresh runs fn with the flags of an enclosed expression: in brackets, do and
// | have their usual meaning.
func (p *parser) fresh(fn func()) {
	noDo, noPipe, noIn, ternary := p.noDo, p.noPipe, p.noIn, p.ternary
	p.noDo, p.noPipe, p.noIn, p.ternary = 0, 0, 0, 0
	fn()
	p.noDo, p.noPipe, p.noIn, p.ternary = noDo, noPipe, noIn, ternary
}

type parserState struct {
	pos                                int
	state                              lexState
	tok                                token
	prevEnd                            int
	depth, noDo, noPipe, noIn, ternary int
}

func (p *parser) save() parserState {
	return parserState{p.pos, p.state, p.tok, p.prevEnd, p.depth, p.noDo, p.noPipe, p.noIn, p.ternary}
}

func (p *parser) restore(s parserState) {
	p.pos, p.state, p.tok, p.prevEnd = s.pos, s.state, s.tok, s.prevEnd
	p.depth, p.noDo, p.noPipe, p.noIn, p.ternary = s.depth, s.noDo, s.noPipe, s.noIn, s.ternary
}

// stmts parses statements up to a token that can't begin one.
func (p *parser) stmts() node {
	var list []node
	for {
		p.skipNewlines()
		if p.endsStmts() {
			break
		}
		list = append(list, p.stmt())
		if p.tok.kind != tNewline && !p.endsStmts() {
			p.unexpected()
		}
	}
	switch len(list) {
	case 0:
		return literal{nil}
	case 1:
		return list[0]
	}
	return &seqNode{list}
}

func (p *parser) endsStmts() bool {
	switch p.tok.kind {
	case tEOF:
		return true
	case tOp:
		return p.tok.s == "}" || p.tok.s == ")" || p.tok.s == "]"
	case tKeyword:
		switch p.tok.s {
		case "end", "else", "elsif", "when", "in", "rescue", "ensure":
			return true
		}
	}
	return false
}

func (p *parser) stmt() node {
	p.nest()
	defer p.unnest()
	n := p.exprStmt()
	for p.tok.kind == tKeyword {
		switch p.tok.s {
		case "if":
			p.advance()
			n = &ifNode{cond: p.expr(), then: n}
		case "unless":
			p.advance()
			n = &ifNode{cond: p.expr(), els: n}
		case "while", "until":
			until, line := p.tok.s == "until", p.here()
			p.advance()
			b, isBegin := n.(*beginNode)
			n = &whileNode{cond: p.expr(), body: n, until: until, doFirst: isBegin && b.rescues == nil && b.ensure == nil, line: line}
		case "rescue":
			p.advance()
			n = rescueModifier(n, p.exprStmt())
		default:
			return n
		}
	}
	return n
}

func rescueModifier(body, alt node) node {
	return &beginNode{body: body, rescues: []rescueClause{{body: alt}}}
}

// exprStmt is an expression, or a multiple assignment.
func (p *parser) exprStmt() node {
	if p.op("*") && p.tok.prefix || p.op("(") && p.mlhsAhead() {
		return p.masgn(nil)
	}
	n := p.expr()
	if p.op(",") && assignable(n) && p.masgnAhead() {
		return p.masgn(n)
	}
	return n
}

// mlhsAhead reports whether the parenthesis at tok is (a, b) of a multiple
// assignment.
func (p *parser) mlhsAhead() bool {
	depth, i := 0, p.tok.pos
	for ; i < len(p.src); i++ {
		switch c := p.src[i]; {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case !isIdent(c) && !isSpace(c) && c != ',' && c != '*' && c != '@':
			return false
		}
		if depth == 0 {
			break
		}
	}
	for i++; i < len(p.src) && isSpace(p.src[i]); i++ {
	}
	return p.at(i) == ',' || p.at(i) == '=' && p.at(i+1) != '=' && p.at(i+1) != '~'
}

// masgnAhead reports whether what follows a comma at tok, on this line, leads to
// an equals sign, as in a, b = 1, 2.
func (p *parser) masgnAhead() bool {
	if ok, known := p.masgns[p.tok.pos]; known {
		return ok
	}
	s := p.save()
	defer p.restore(s)
	ok := true
	// What is looked at twice holds blocks that hold such statements, so
	// without a memory nesting would double the work at each level.
	defer func() {
		if p.masgns == nil {
			p.masgns = map[int]bool{}
		}
		p.masgns[s.tok.pos] = ok
	}()
	func() {
		defer func() {
			if r := recover(); r != nil {
				if _, syntax := r.(*SyntaxError); !syntax {
					panic(r)
				}
				ok = false
			}
		}()
		for p.acceptOp(",") {
			if p.op("=") {
				break
			}
			p.mlhsItem()
		}
		ok = p.op("=")
	}()
	return ok
}

func assignable(n node) bool {
	switch n := n.(type) {
	case *lvar, *ivarNode, *gvarNode, *cvarNode, *constNode:
		return true
	case *callNode:
		return n.block == nil && n.blockArg == nil && (n.name == "[]" || n.vcall || n.recv != nil && len(n.args) == 0 && !n.paren && isIdentStart(n.name[0]) && !strings.HasSuffix(n.name, "?") && !strings.HasSuffix(n.name, "!"))
	}
	return false
}

// target turns an expression into what can be assigned to, declaring a local.
func (p *parser) target(n node) node {
	switch n := n.(type) {
	case *lvar, *ivarNode, *gvarNode, *cvarNode, *constNode, *mlhsNode:
		return n
	case *callNode:
		if n.vcall {
			return p.declare(n.name)
		}
		if assignable(n) {
			return n
		}
	}
	p.fail(p.tok.pos, "syntax error, the left side can't be assigned to")
	return nil
}

func (p *parser) declare(name string) *lvar {
	if slot, hops, ok := p.scope.lookup(name); ok {
		return &lvar{name, slot, hops}
	}
	return &lvar{name: name, slot: p.scope.declare(name)}
}

func (p *parser) mlhsItem() node {
	p.nest()
	defer p.unnest()
	if p.op("*") {
		p.advance()
		if p.op(",") || p.op("=") || p.op(")") || p.op("|") || p.kw("in") {
			return &splatNode{}
		}
		return &splatNode{p.target(p.primaryPostfix())}
	}
	if p.acceptOp("(") {
		m := p.mlhs(nil)
		p.expectOp(")")
		return m
	}
	return p.target(p.primaryPostfix())
}

func (p *parser) mlhs(first node) *mlhsNode {
	m := &mlhsNode{splat: -1}
	add := func(n node) {
		if _, ok := n.(*splatNode); ok {
			if m.splat >= 0 {
				p.fail(p.tok.pos, "syntax error, two splats in one assignment")
			}
			m.splat = len(m.targets)
		}
		m.targets = append(m.targets, n)
	}
	if first != nil {
		add(p.target(first))
	} else {
		add(p.mlhsItem())
	}
	for p.acceptOp(",") {
		if p.op("=") || p.op(")") || p.kw("in") {
			break
		}
		add(p.mlhsItem())
	}
	return m
}

func (p *parser) masgn(first node) node {
	m := p.mlhs(first)
	p.expectOp("=")
	v := p.rhsList()
	return &masgnNode{m, v}
}

// rhsList is the right side of a statement's assignment: one value, or several
// that make an array.
func (p *parser) rhsList() node {
	var elems []node
	for {
		if p.op("*") && p.tok.prefix {
			p.advance()
			elems = append(elems, &splatNode{p.arg()})
		} else {
			n := p.arg()
			if len(elems) == 0 && !p.op(",") {
				if p.kw("rescue") {
					p.advance()
					n = rescueModifier(n, p.arg())
				}
				return n
			}
			elems = append(elems, n)
		}
		if !p.acceptOp(",") {
			return &arrayNode{elems}
		}
	}
}

// expr is an expression with not, and, or.
func (p *parser) expr() node {
	p.nest()
	defer p.unnest()
	n := p.matchedExpr()
	for links := 0; p.tok.kind == tKeyword; links++ {
		p.checkChain(links)
		switch p.tok.s {
		case "and":
			p.advance()
			n = &andNode{n, p.matchedExpr()}
		case "or":
			p.advance()
			n = &orNode{n, p.matchedExpr()}
		default:
			return n
		}
	}
	return n
}

// matchedExpr is an expression, perhaps held against a pattern: x => y, x in y.
func (p *parser) matchedExpr() node {
	n := p.notExpr()
	if test := p.kw("in"); test && p.noIn == 0 || p.op("=>") {
		m := &matchPattern{value: n, test: test, line: p.here()}
		p.advance()
		m.pattern = p.topPattern()
		return m
	}
	return n
}

func (p *parser) checkChain(links int) {
	if links > maxChain {
		p.fail(p.tok.pos, "expression is too long")
	}
}

func (p *parser) notExpr() node {
	if p.kw("not") {
		p.nest()
		defer p.unnest()
		p.advance()
		return &notNode{p.notExpr()}
	}
	return p.argStmt()
}

// argStmt is arg, where an assignment may take several values.
func (p *parser) argStmt() node { return p.assignment(true) }

func (p *parser) arg() node { return p.assignment(false) }

var assignOps = map[string]string{
	"+=": "+", "-=": "-", "*=": "*", "/=": "/", "%=": "%", "**=": "**", "||=": "||", "&&=": "&&",
	"|=": "|", "&=": "&", "^=": "^", "<<=": "<<", ">>=": ">>",
}

func (p *parser) assignment(list bool) node {
	p.nest()
	defer p.unnest()
	n := p.ternaryExpr()
	if p.tok.kind != tOp {
		return n
	}
	line := p.here()
	if p.tok.s == "=" {
		if !assignable(n) {
			p.unexpected()
		}
		t := p.target(n)
		p.advance()
		var v node
		if list {
			v = p.rhsList()
		} else {
			v = p.arg()
			if p.kw("rescue") {
				p.advance()
				v = rescueModifier(v, p.arg())
			}
		}
		return &asgnNode{t, v}
	}
	if op, ok := assignOps[p.tok.s]; ok {
		if !assignable(n) {
			p.unexpected()
		}
		t := p.target(n)
		p.advance()
		v := p.arg()
		if p.kw("rescue") {
			p.advance()
			v = rescueModifier(v, p.arg())
		}
		return &opAsgnNode{t, op, v, line}
	}
	return n
}

func (p *parser) ternaryExpr() node {
	c := p.binary(20)
	if !p.op("?") {
		return c
	}
	p.advance()
	p.skipNewlines()
	p.ternary++
	noPipe := p.noPipe
	a := p.arg()
	p.ternary--
	p.noPipe = noPipe
	p.skipNewlines()
	if p.tok.kind == tLabel {
		p.unexpected()
	}
	p.expectOp(":")
	p.skipNewlines()
	b := p.arg()
	return &ifNode{c, a, b}
}

type binop struct {
	prec  int
	right bool
	none  bool // doesn't associate
}

var binops = map[string]binop{
	"..": {20, false, true}, "...": {20, false, true},
	"||": {prec: 30}, "&&": {prec: 40},
	"<=>": {60, false, true}, "==": {60, false, true}, "===": {60, false, true}, "!=": {60, false, true}, "=~": {60, false, true}, "!~": {60, false, true},
	"<": {prec: 70}, "<=": {prec: 70}, ">": {prec: 70}, ">=": {prec: 70},
	"|": {prec: 80}, "^": {prec: 80}, "&": {prec: 90}, "<<": {prec: 100}, ">>": {prec: 100},
	"+": {prec: 110}, "-": {prec: 110}, "*": {prec: 120}, "/": {prec: 120}, "%": {prec: 120},
	"**": {140, true, false},
}

// binary parses operators that bind at least as tightly as least.
func (p *parser) binary(least int) node {
	p.nest()
	defer p.unnest()
	var n node
	if (p.op("..") || p.op("...")) && p.tok.prefix {
		n = literal{nil}
	} else {
		n = p.unary()
	}
	for links := 0; p.tok.kind == tOp; links++ {
		p.checkChain(links)
		op, ok := binops[p.tok.s]
		if !ok || op.prec < least || p.tok.s == "|" && p.noPipe > 0 {
			return n
		}
		name, line := p.tok.s, p.here()
		p.advance()
		next := op.prec + 1
		if op.right {
			next = op.prec
		}
		switch name {
		case "..", "...":
			r := &rangeNode{lo: n, excl: name == "...", line: line}
			if !p.endsRange() {
				r.hi = p.binary(next)
			}
			n = r
			if lo, ok := r.lo.(literal); ok && r.hi != nil {
				if hi, ok := r.hi.(literal); ok {
					if _, isInt := lo.v.(int64); isInt {
						if _, isInt := hi.v.(int64); isInt {
							n = literal{&Range{Lo: lo.v, Hi: hi.v, Excl: r.excl}}
						}
					}
				}
			}
		case "&&":
			n = &andNode{n, p.operand(next)}
		case "||":
			n = &orNode{n, p.operand(next)}
		default:
			c := &callNode{recv: n, name: name, args: []node{p.binary(next)}, line: line}
			if re, ok := n.(*regexNode); ok && name == "=~" && re.parts == nil {
				n = p.namedCaptures(c, re)
			} else {
				n = c
			}
		}
	}
	return n
}

// namedCaptures makes locals of the named groups of a literal regexp on the
// left side of =~.
func (p *parser) namedCaptures(c *callNode, re *regexNode) node {
	m := &matchNode{call: c}
	for src := re.source; ; {
		i := strings.Index(src, "(?<")
		if i < 0 {
			break
		}
		src = src[i+3:]
		if j := strings.IndexByte(src, '>'); j > 0 && isIdentStart(src[0]) && (src[0] < 'A' || src[0] > 'Z') {
			m.locals = append(m.locals, p.declare(src[:j]))
		}
	}
	if m.locals == nil {
		return c
	}
	return m
}

// operand is the right side of && or ||, which may also be a jump or an
// assignment: x || raise('y'), a && b = c.
func (p *parser) operand(least int) node {
	n := p.binary(least)
	if p.op("=") && assignable(n) {
		t := p.target(n)
		p.advance()
		return &asgnNode{t, p.arg()}
	}
	if p.tok.kind == tOp && assignable(n) {
		if op, ok := assignOps[p.tok.s]; ok {
			line := p.here()
			t := p.target(n)
			p.advance()
			return &opAsgnNode{t, op, p.arg(), line}
		}
	}
	return n
}

// endsRange reports whether a range ends here without an upper end.
func (p *parser) endsRange() bool {
	switch p.tok.kind {
	case tEOF, tNewline:
		return true
	case tOp:
		return p.tok.s == ")" || p.tok.s == "]" || p.tok.s == "}" || p.tok.s == "," || p.tok.s == "=>"
	case tKeyword:
		return p.tok.s == "then" || p.tok.s == "do" || p.tok.s == "end" || p.tok.s == "if" || p.tok.s == "and" || p.tok.s == "or"
	}
	return false
}

func (p *parser) unary() node {
	if p.tok.kind == tKeyword && p.tok.s == "defined?" {
		p.advance()
		p.nest()
		defer p.unnest()
		if p.op("(") && !p.tok.space {
			p.advance()
			p.skipNewlines()
			n := p.expr()
			p.skipNewlines()
			p.expectOp(")")
			return p.postfix(&definedNode{n})
		}
		return &definedNode{p.unary()}
	}
	if p.tok.kind != tOp {
		return p.primaryPostfix()
	}
	line := p.here()
	switch p.tok.s {
	case "!":
		p.nest()
		defer p.unnest()
		p.advance()
		return &notNode{p.unary()}
	case "-":
		p.nest()
		defer p.unnest()
		adjacent := isDigit(p.at(p.tok.end))
		p.advance()
		if adjacent {
			n := p.number(true)
			n = p.postfix(n)
			if p.op("**") {
				if l, ok := n.(literal); ok {
					p.advance()
					pow := &callNode{recv: literal{negate(l.v)}, name: "**", args: []node{p.binary(140)}, line: line}
					return &callNode{recv: pow, name: "-@", line: line}
				}
			}
			return n
		}
		return &callNode{recv: p.binary(130), name: "-@", line: line}
	case "+":
		p.nest()
		defer p.unnest()
		p.advance()
		return &callNode{recv: p.binary(130), name: "+@", line: line}
	case "~":
		p.nest()
		defer p.unnest()
		p.advance()
		return &callNode{recv: p.unary(), name: "~", line: line}
	case "&":
		if p.tok.prefix {
			p.fail(p.tok.pos, "block argument should not be given here")
		}
	}
	return p.primaryPostfix()
}

func negate(v Value) Value {
	switch v := v.(type) {
	case int64:
		return -v
	case float64:
		return -v
	case *big.Int:
		return normBig(new(big.Int).Neg(v))
	case *big.Rat:
		return new(big.Rat).Neg(v)
	}
	return v
}

func (p *parser) number(neg bool) node {
	t := p.tok
	var v Value
	if t.kind == tFloat && strings.HasPrefix(t.suffix, "r") {
		r, rest := leadingRat(t.s)
		if r == nil || rest != "" {
			p.fail(t.pos, "invalid number %q", t.s)
		}
		v = r
	} else if t.kind == tFloat {
		f, err := strconv.ParseFloat(t.s, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			p.fail(t.pos, "invalid number %q", t.s)
		}
		v = f
	} else {
		if len(t.s) > 10000 {
			p.fail(t.pos, "number has too many digits")
		}
		s := t.s
		if len(s) > 1 && s[0] == '0' && isDigit(s[1]) {
			s = "0o" + s[1:]
		}
		b, ok := new(big.Int).SetString(s, 0)
		if !ok {
			p.fail(t.pos, "Invalid octal digit or number %q", t.s)
		}
		if v = normBig(b); strings.HasPrefix(t.suffix, "r") {
			v = new(big.Rat).SetInt(b)
		}
	}
	p.advance()
	if neg {
		v = negate(v)
	}
	if strings.HasSuffix(t.suffix, "i") {
		return p.imaginary(v, t)
	}
	return literal{v}
}

// imaginary is the literal vi.
func (p *parser) imaginary(v Value, t token) node {
	return &callNode{name: "Complex", args: []node{literal{int64(0)}, literal{v}}, line: p.line(t.pos)}
}

func (p *parser) primaryPostfix() node { return p.postfix(p.primary()) }

func (p *parser) postfix(n node) node {
	for links := 0; ; links++ {
		p.checkChain(links)
		if p.tok.kind == tOp {
			switch p.tok.s {
			case ".", "&.":
				n = p.dotCall(n)
				continue
			case "::":
				if p.tok.prefix && p.tok.space {
					return n
				}
				n = p.colonCall(n)
				continue
			case "[":
				if p.tok.prefix && p.tok.space || p.tok.space && isCommandName(n) {
					return n
				}
				line := p.here()
				p.advance()
				args, splat, blk := p.callArgs("]")
				n = &callNode{recv: n, name: "[]", args: args, splat: splat, blockArg: blk, line: line}
				continue
			case "{":
				if c := p.blockTaker(n); c != nil {
					*c = p.block()
					continue
				}
			}
		}
		if p.kw("do") && p.noDo == 0 {
			if c := p.blockTaker(n); c != nil {
				*c = p.block()
				continue
			}
		}
		return n
	}
}

func isCommandName(n node) bool {
	c, ok := n.(*callNode)
	return ok && c.vcall
}

// blockTaker returns where the block of call n goes, nil when n can't take one.
func (p *parser) blockTaker(n node) **blockNode {
	switch n := n.(type) {
	case *callNode:
		if n.block == nil && n.blockArg == nil && n.name != "[]" && (n.name == "!" || isIdentStart(n.name[0]) || n.paren) {
			n.vcall = false
			return &n.block
		}
	case *superNode:
		if n.block == nil && n.blockArg == nil {
			return &n.block
		}
	}
	return nil
}

func (p *parser) dotCall(recv node) node {
	safe := p.tok.s == "&."
	p.advance()
	c := &callNode{recv: recv, safe: safe, line: p.here()}
	switch {
	case p.op("("):
		c.name = "call"
	case p.tok.kind == tIdent || p.tok.kind == tConst:
		c.name = p.tok.s
		p.advance()
	default:
		p.unexpectedFor("a method's name")
	}
	return p.callRest(c)
}

func (p *parser) colonCall(recv node) node {
	p.advance()
	line := p.here()
	switch p.tok.kind {
	case tConst:
		name := p.tok.s
		p.advance()
		if p.op("(") && !p.tok.space || p.tok.kind == tStrBeg && p.tok.space {
			return p.callRest(&callNode{recv: recv, name: name, line: line})
		}
		return &constNode{scope: recv, name: name, line: line}
	case tIdent:
		c := &callNode{recv: recv, name: p.tok.s, line: line}
		p.advance()
		return p.callRest(c)
	}
	p.unexpectedFor("a constant's or method's name")
	return nil
}

// callRest parses the arguments of a call whose name has been read.
func (p *parser) callRest(c *callNode) node {
	if p.op("(") && !p.tok.space {
		p.advance()
		c.paren = true
		c.args, c.splat, c.blockArg = p.callArgs(")")
	} else if p.commandArgsAhead() {
		p.commandArgs(c)
	}
	return c
}

// commandArgsAhead reports whether an argument of a call without parentheses
// begins at tok.
func (p *parser) commandArgsAhead() bool {
	t := p.tok
	if !t.space {
		return t.kind == tStrBeg && (t.close == '"' || t.close == '\'') && t.pos > 0 && isIdent(p.src[t.pos-1])
	}
	switch t.kind {
	case tInt, tFloat, tIdent, tConst, tIVar, tCVar, tGVar, tLabel, tSymbol, tSymBeg, tStrBeg, tXStrBeg, tRegBeg, tWords, tSymbols, tHeredoc, tChar:
		return true
	case tKeyword:
		switch t.s {
		case "nil", "true", "false", "self", "not", "defined?", "case", "def", "yield", "super", "begin", "__FILE__", "__LINE__", "__method__", "__dir__":
			return true
		case "if", "unless", "while", "until":
			return false
		}
	case tOp:
		switch t.s {
		case "->", "!", "~":
			return true
		case "[", "*", "&", "**", "-", "+", "::":
			return t.prefix
		case "(":
			return true
		case "..", "...":
			return t.prefix && isDigit(p.at(t.end))
		}
	}
	return false
}

func (p *parser) commandArgs(c *callNode) {
	p.nest()
	defer p.unnest()
	c.vcall = false
	if p.op("(") {
		// name (…): parentheses around all arguments, unless it goes on.
		s := p.save()
		p.advance()
		if p.acceptOp(")") {
			c.paren = true
			return
		}
		p.restore(s)
	}
	p.noDo++
	ternary := p.ternary
	c.args, c.splat, c.blockArg = p.argList(func() bool { return false })
	p.noDo--
	p.ternary = ternary
	if p.op("{") && c.blockArg == nil {
		c.block = p.block()
	} else if p.kw("do") && p.noDo == 0 && c.blockArg == nil {
		c.block = p.block()
	}
}

// callArgs parses arguments up to the closing bracket, which it takes.
func (p *parser) callArgs(closing string) (args []node, splat bool, blk node) {
	p.fresh(func() {
		p.skipNewlines()
		if !p.op(closing) {
			args, splat, blk = p.argList(func() bool { p.skipNewlines(); return p.op(closing) })
			p.skipNewlines()
		}
	})
	p.expectOp(closing)
	return args, splat, blk
}

// argList parses arguments separated by commas; ended reports, after a comma,
// that there is no further one.
func (p *parser) argList(ended func() bool) (args []node, splat bool, blk node) {
	var h *hashNode
	for {
		if p.op("...") {
			// All that the method was given, block included.
			slot, hops, ok := p.scope.lookup("...")
			block, _, _ := p.scope.lookup("&...")
			was := p.save()
			if p.advance(); ok && p.op(")") {
				return append(args, &splatNode{&lvar{"...", slot, hops}}), true, &lvar{"&...", block, hops}
			}
			p.restore(was)
		}
		switch {
		case p.op("*") && p.tok.prefix:
			p.advance()
			args, splat = append(args, &splatNode{p.arg()}), true
		case p.op("**") && p.tok.prefix:
			p.advance()
			if h == nil {
				h = &hashNode{kw: true}
				args = append(args, h)
			}
			h.pairs = append(h.pairs, pairNode{nil, p.arg()})
		case p.op("&") && p.tok.prefix:
			p.advance()
			if p.op(")") {
				if slot, hops, ok := p.scope.lookup("&"); ok {
					blk = &lvar{"&", slot, hops}
				}
			} else {
				blk = p.arg()
			}
			return args, splat, blk
		default:
			if pair, ok := p.labelPair(); ok {
				if h == nil {
					h = &hashNode{kw: true}
					args = append(args, h)
				}
				h.pairs = append(h.pairs, pair)
				break
			}
			n := p.argOrCommand()
			if p.op("=>") {
				p.advance()
				p.skipNewlines()
				if h == nil {
					h = &hashNode{kw: true}
					args = append(args, h)
				}
				h.pairs = append(h.pairs, pairNode{n, p.argOrCommand()})
			} else if sym, ok := p.stringLabel(n); ok {
				if h == nil {
					h = &hashNode{kw: true}
					args = append(args, h)
				}
				h.pairs = append(h.pairs, pairNode{sym, p.argOrCommand()})
			} else {
				args = append(args, n)
			}
		}
		if !p.op(",") {
			return args, splat, blk
		}
		p.advance()
		p.skipNewlines()
		if ended() {
			return args, splat, blk
		}
	}
}

func (p *parser) argOrCommand() node {
	if p.kw("not") {
		return p.notExpr()
	}
	return p.arg()
}

// labelPair parses name: value, and name: alone, which is the value of name.
func (p *parser) labelPair() (pairNode, bool) {
	if p.tok.kind != tLabel {
		return pairNode{}, false
	}
	name := p.tok.s
	key := literal{Symbol(name)}
	line := p.here()
	// A newline after the label is white space only if a value follows; with
	// name: alone the lexer has run on to the next token.
	p.advance()
	if p.op(",") || p.op(")") || p.op("}") || p.op("]") || p.tok.kind == tEOF {
		if slot, hops, ok := p.scope.lookup(name); ok {
			return pairNode{key, &lvar{name, slot, hops}}, true
		}
		return pairNode{key, &callNode{name: name, vcall: true, line: line}}, true
	}
	return pairNode{key, p.argOrCommand()}, true
}

// stringLabel takes the colon of "name": value.
func (p *parser) stringLabel(n node) (node, bool) {
	if !p.op(":") || p.tok.space || p.ternary > 0 {
		return nil, false
	}
	switch n := n.(type) {
	case *strNode:
		p.advance()
		return literal{Symbol(n.s)}, true
	case *dstrNode:
		p.advance()
		return &dsymNode{n.parts}, true
	}
	return nil, false
}

func (p *parser) primary() node {
	p.nest()
	defer p.unnest()
	t := p.tok
	line := p.line(t.pos)
	switch t.kind {
	case tInt, tFloat:
		return p.number(false)
	case tStrBeg, tHeredoc, tChar:
		return p.strings()
	case tXStrBeg:
		p.stringBody()
		return &unsupported{"running a command with backticks", line}
	case tSymbol:
		p.advance()
		return literal{Symbol(t.s)}
	case tSymBeg:
		parts := p.stringBody()
		if s, ok := constantParts(parts); ok {
			return literal{Symbol(s)}
		}
		return &dsymNode{parts}
	case tRegBeg:
		return p.regexp()
	case tWords, tSymbols:
		return p.words()
	case tIVar:
		p.advance()
		return &ivarNode{t.s}
	case tCVar:
		p.advance()
		return &cvarNode{t.s, line}
	case tGVar:
		p.advance()
		return &gvarNode{t.s}
	case tConst:
		p.advance()
		if p.op("(") && !p.tok.space {
			return p.callRest(&callNode{name: t.s, line: line})
		}
		if p.tok.space && (p.tok.kind == tStrBeg || p.tok.kind == tHeredoc || p.tok.kind == tInt || p.tok.kind == tIdent || p.tok.kind == tIVar) {
			return p.callRest(&callNode{name: t.s, line: line})
		}
		return &constNode{name: t.s, line: line}
	case tIdent:
		return p.identifier()
	case tKeyword:
		return p.keyword()
	case tLabel:
		p.unexpected()
	case tOp:
		switch t.s {
		case "(":
			return p.paren()
		case "[":
			p.advance()
			args, _, blk := p.callArgs("]")
			if blk != nil {
				p.unexpected()
			}
			return &arrayNode{args}
		case "{":
			return p.hash()
		case "->":
			return p.lambda()
		case "::":
			p.advance()
			if p.tok.kind != tConst {
				p.unexpectedFor("a constant")
			}
			name := p.tok.s
			p.advance()
			return &constNode{top: true, name: name, line: line}
		case "..", "...":
			return p.binary(20)
		case "!", "-", "+", "~":
			return p.unary()
		}
	}
	p.unexpected()
	return nil
}

func (p *parser) paren() node {
	var n node
	p.advance()
	p.fresh(func() { n = p.stmts() })
	p.expectOp(")")
	return n
}

func (p *parser) hash() node {
	h := &hashNode{}
	p.advance()
	p.fresh(func() {
		for {
			p.skipNewlines()
			if p.op("}") {
				break
			}
			if p.op("**") {
				p.advance()
				h.pairs = append(h.pairs, pairNode{nil, p.arg()})
			} else if pair, ok := p.labelPair(); ok {
				h.pairs = append(h.pairs, pair)
			} else {
				k := p.arg()
				if sym, ok := p.stringLabel(k); ok {
					k = sym
				} else {
					p.skipNewlines()
					p.expectOp("=>")
				}
				p.skipNewlines()
				h.pairs = append(h.pairs, pairNode{k, p.argOrCommand()})
			}
			p.skipNewlines()
			if !p.acceptOp(",") {
				break
			}
		}
	})
	p.expectOp("}")
	return h
}

func (p *parser) identifier() node {
	t := p.tok
	line := p.line(t.pos)
	if slot, hops, ok := p.scope.lookup(t.s); ok && !(p.at(t.end) == '(') {
		p.advance()
		return &lvar{t.s, slot, hops}
	}
	if len(t.s) == 2 && t.s[0] == '_' && t.s[1] >= '1' && t.s[1] <= '9' && p.scope.outer != nil && !p.scope.params {
		n := int(t.s[1] - '0')
		for i := 1; i <= n; i++ {
			p.scope.declare("_" + strconv.Itoa(i))
		}
		p.scope.maxNum = max(p.scope.maxNum, n)
		p.advance()
		slot, hops, _ := p.scope.lookup(t.s)
		return &lvar{t.s, slot, hops}
	}
	p.advance()
	if t.s == "block_given?" {
		if p.op("(") && !p.tok.space {
			p.advance()
			p.expectOp(")")
		}
		return &blockGiven{}
	}
	c := &callNode{name: t.s, line: line, vcall: !strings.HasSuffix(t.s, "?") && !strings.HasSuffix(t.s, "!")}
	if p.op("(") && !p.tok.space {
		c.vcall = false
	}
	return p.callRest(c)
}

func (p *parser) lambda() node {
	start, line := p.tok.pos, p.here()
	p.advance()
	b := &blockNode{prog: p.prog, line: line, start: start}
	p.blockScope(b, func() {
		if p.op("(") {
			p.advance()
			b.params = p.params(")")
			p.expectOp(")")
		} else if !p.op("{") && !p.kw("do") {
			b.params = p.params("")
		}
		noDo := p.noDo
		p.noDo = 0
		p.blockBody(b)
		p.noDo = noDo
	})
	return &lambdaNode{b}
}

// blockScope runs fn in a scope of its own and completes b by it.
func (p *parser) blockScope(b *blockNode, fn func()) {
	p.nest()
	defer p.unnest()
	outer, inLoop := p.scope, p.inLoop
	p.scope, p.inLoop = &scope{outer: outer}, false
	fn()
	if n := p.scope.maxNum; n > 0 && b.params == nil {
		b.params = &params{rest: -1, kwrest: -1, block: -1}
		for i := 1; i <= n; i++ {
			name := "_" + strconv.Itoa(i)
			b.params.req = append(b.params.req, param{name: name, slot: p.scope.names[name]})
		}
	}
	b.nvars = p.scope.n
	b.simple = -1
	if q := b.params; q == nil {
		b.simple = 0
	} else if len(q.opt)+len(q.post)+len(q.kws) == 0 && !q.hasRest && !q.hasKwrest && q.block < 0 && !q.comma {
		b.simple = len(q.req)
		for i, r := range q.req {
			if r.sub != nil || r.slot != i {
				b.simple = -1
				break
			}
		}
	}
	p.scope, p.inLoop = outer, inLoop
}

// blockBody parses { … } or do … end at tok.
func (p *parser) blockBody(b *blockNode) {
	closing := "}"
	if p.kw("do") {
		closing = "end"
	} else if !p.op("{") {
		p.unexpectedFor("'{' or `do'")
	}
	if b.end == 0 && b.start == 0 {
		b.start = p.tok.pos
	}
	p.advance()
	p.fresh(func() {
		if b.params == nil {
			if p.op("||") {
				p.advance()
				b.params = &params{rest: -1, kwrest: -1, block: -1}
			} else if p.op("|") {
				p.advance()
				b.params = p.params("|")
				p.expectOp("|")
			}
		}
		p.scope.params = b.params != nil
		if closing == "end" {
			b.body = p.bodyWithRescue()
		} else {
			b.body = p.stmts()
		}
	})
	b.end = p.tok.end
	b.endLine = p.here()
	if closing == "end" {
		p.expectKw("end")
	} else {
		p.expectOp("}")
	}
}

func (p *parser) block() *blockNode {
	b := &blockNode{prog: p.prog, line: p.here(), start: p.tok.pos}
	p.blockScope(b, func() { p.blockBody(b) })
	return b
}

// params parses parameters up to closing (")", "|", or "" for a newline or the
// body's beginning), which it leaves.
func (p *parser) params(closing string) *params {
	q := &params{rest: -1, kwrest: -1, block: -1}
	noPipe := p.noPipe
	p.noPipe = 0
	if closing == "|" {
		p.noPipe = 1
	}
	defer func() { p.noPipe = noPipe }()
	ends := func() bool {
		switch {
		case closing != "":
			if p.op(closing) {
				return true
			}
		case p.tok.kind == tNewline, p.tok.kind == tEOF, p.op("{"), p.kw("do"), p.op("="):
			return true
		}
		return false
	}
	name := func() string {
		if p.tok.kind != tIdent {
			p.unexpectedFor("a parameter")
		}
		s := p.tok.s
		p.state = stEnd
		p.advance()
		return s
	}
	for {
		if closing != "" {
			p.skipParamSpace()
		}
		if ends() {
			return q
		}
		switch {
		case p.op("...") && closing == ")" && !q.hasRest:
			p.advance()
			q.hasRest = true
			q.rest, q.block = p.scope.declare("..."), p.scope.declare("&...")
		case p.op("*"):
			p.advance()
			if q.hasRest {
				p.unexpected()
			}
			q.hasRest = true
			if p.tok.kind == tIdent {
				q.rest = p.scope.declare(name())
			} else {
				q.rest = p.scope.declare("*")
			}
		case p.op("**"):
			p.advance()
			if p.acceptKw("nil") {
				break
			}
			q.hasKwrest = true
			if p.tok.kind == tIdent {
				q.kwrest = p.scope.declare(name())
			} else {
				q.kwrest = p.scope.declare("**")
			}
		case p.op("&"):
			p.advance()
			if p.tok.kind == tIdent {
				q.block = p.scope.declare(name())
			} else {
				q.block = p.scope.declare("&")
			}
		case p.op("("):
			// The slot comes before those of the names inside.
			slot := p.scope.temp()
			p.advance()
			sub := p.mlhsParams()
			p.expectOp(")")
			pr := param{slot: slot, sub: sub}
			if q.hasRest || len(q.opt) > 0 {
				q.post = append(q.post, pr)
			} else {
				q.req = append(q.req, pr)
			}
		case p.tok.kind == tLabel:
			k := kwParam{name: p.tok.s, slot: p.scope.declare(p.tok.s)}
			p.state = stMid // a newline after it ends the parameter
			p.advance()
			if p.op(",") || ends() || p.tok.kind == tNewline || p.op(";") {
				k.required = true
			} else {
				k.value = p.ternaryExpr()
			}
			q.kws = append(q.kws, k)
		default:
			s := name()
			slot := p.scope.declare(s)
			if p.op("=") {
				p.advance()
				q.opt = append(q.opt, optParam{s, slot, p.ternaryExpr()})
			} else if q.hasRest || len(q.opt) > 0 {
				q.post = append(q.post, param{name: s, slot: slot})
			} else {
				q.req = append(q.req, param{name: s, slot: slot})
			}
		}
		if closing != "" {
			p.skipParamSpace()
		}
		if p.tok.kind == tNewline && p.tok.s == ";" && closing != "" {
			// |a; b, c|: locals of the block.
			p.advance()
			for p.tok.kind == tIdent {
				p.scope.declare(name())
				if !p.acceptOp(",") {
					break
				}
			}
			return q
		}
		if !p.acceptOp(",") {
			return q
		}
		if closing == "|" && p.op("|") {
			q.comma = true
			return q
		}
	}
}

func (p *parser) skipParamSpace() {
	for p.tok.kind == tNewline && p.tok.s == "\n" {
		p.advance()
	}
}

// mlhsParams is the inside of a parameter (a, (b, *c)).
func (p *parser) mlhsParams() *mlhsNode {
	p.nest()
	defer p.unnest()
	m := &mlhsNode{splat: -1}
	for {
		switch {
		case p.acceptOp("*"):
			m.splat = len(m.targets)
			s := &splatNode{}
			if p.tok.kind == tIdent {
				s.v = &lvar{name: p.tok.s, slot: p.scope.declare(p.tok.s)}
				p.state = stEnd
				p.advance()
			}
			m.targets = append(m.targets, s)
		case p.acceptOp("("):
			sub := p.mlhsParams()
			p.expectOp(")")
			m.targets = append(m.targets, sub)
		case p.tok.kind == tIdent:
			m.targets = append(m.targets, &lvar{name: p.tok.s, slot: p.scope.declare(p.tok.s)})
			p.state = stEnd
			p.advance()
		default:
			p.unexpectedFor("a parameter")
		}
		if !p.acceptOp(",") {
			return m
		}
	}
}

// bodyWithRescue is the inside of def, begin, class or do, up to its end.
func (p *parser) bodyWithRescue() node {
	n := p.stmts()
	if !p.kw("rescue") && !p.kw("else") && !p.kw("ensure") {
		return n
	}
	b := &beginNode{body: n}
	for p.kw("rescue") {
		p.advance()
		var r rescueClause
		for p.tok.kind != tNewline && !p.kw("then") && !p.op("=>") {
			if p.op("*") {
				p.advance()
				r.classes = append(r.classes, &splatNode{p.ternaryExpr()})
			} else {
				r.classes = append(r.classes, p.ternaryExpr())
			}
			if !p.acceptOp(",") {
				break
			}
			p.skipNewlines()
		}
		if p.acceptOp("=>") {
			r.target = p.target(p.primaryPostfix())
		}
		p.acceptKw("then")
		r.body = p.stmts()
		b.rescues = append(b.rescues, r)
	}
	if p.acceptKw("else") {
		b.els = p.stmts()
	}
	if p.acceptKw("ensure") {
		b.ensure = p.stmts()
	}
	return b
}

func (p *parser) keyword() node {
	t := p.tok
	line := p.line(t.pos)
	switch t.s {
	case "nil":
		p.advance()
		return literal{nil}
	case "true":
		p.advance()
		return literal{true}
	case "false":
		p.advance()
		return literal{false}
	case "self":
		p.advance()
		return &selfNode{}
	case "__FILE__":
		p.advance()
		return &strNode{s: p.file}
	case "__dir__":
		p.advance()
		return &strNode{s: fileDirname(p.file)}
	case "__LINE__":
		p.advance()
		return literal{int64(line)}
	case "__method__":
		p.advance()
		return &methodName{}
	case "if", "unless":
		return p.ifExpr()
	case "while", "until":
		p.advance()
		w := &whileNode{until: t.s == "until", line: line}
		w.cond = p.loopHead()
		w.body = p.loopBody()
		return w
	case "for":
		return p.forExpr()
	case "case":
		return p.caseExpr()
	case "begin":
		p.advance()
		var n node
		p.fresh(func() { n = p.bodyWithRescue() })
		p.expectKw("end")
		if b, ok := n.(*beginNode); ok {
			return b
		}
		return &beginNode{body: n}
	case "def":
		return p.def()
	case "class":
		return p.class()
	case "module":
		p.advance()
		c := &classNode{module: true, line: line, path: p.constPath()}
		c.body, c.nvars = p.classBody()
		return c
	case "return":
		p.advance()
		return &returnNode{p.jumpValue()}
	case "break":
		inLoop := p.inLoop
		p.advance()
		return &breakNode{p.jumpValue(), inLoop}
	case "next":
		inLoop := p.inLoop
		p.advance()
		return &nextNode{p.jumpValue(), inLoop}
	case "retry":
		p.advance()
		return &retryNode{}
	case "redo":
		p.fail(t.pos, "redo is not supported")
	case "yield":
		p.advance()
		y := &yieldNode{line: line}
		var blk node
		if p.op("(") && !p.tok.space {
			p.advance()
			y.args, y.splat, blk = p.callArgs(")")
		} else if p.commandArgsAhead() {
			c := &callNode{}
			p.commandArgs(c)
			y.args, y.splat, blk = c.args, c.splat, c.blockArg
		}
		if blk != nil {
			p.fail(t.pos, "block argument should not be given")
		}
		return y
	case "super":
		p.advance()
		s := &superNode{line: line}
		if p.op("(") && !p.tok.space {
			p.advance()
			s.args, s.splat, s.blockArg = p.callArgs(")")
		} else if p.commandArgsAhead() {
			c := &callNode{}
			p.commandArgs(c)
			s.args, s.splat, s.blockArg, s.block = c.args, c.splat, c.blockArg, c.block
		} else {
			s.bare = true
		}
		return s
	case "alias":
		p.advance()
		to := p.methodRef()
		p.state = stFname
		p.advance()
		from := p.methodRef()
		p.state = stEnd
		p.advance()
		return &aliasNode{to, from, line}
	case "undef":
		var names []string
		for {
			p.state = stFname
			p.advance()
			names = append(names, p.methodRef())
			p.state = stEnd
			p.advance()
			if !p.op(",") {
				return &undefNode{names}
			}
		}
	case "defined?":
		return p.unary()
	case "not":
		p.advance()
		return &notNode{p.notExpr()}
	case "then", "do":
		p.unexpected()
	}
	p.unexpected()
	return nil
}

// methodRef is the name at tok, of alias or undef: a name or a symbol.
func (p *parser) methodRef() string {
	switch p.tok.kind {
	case tIdent, tConst, tKeyword, tSymbol, tGVar:
		return p.tok.s
	}
	p.unexpectedFor("a method's name")
	return ""
}

// jumpValue is the value of return, break or next; nil when there is none.
func (p *parser) jumpValue() node {
	switch p.tok.kind {
	case tEOF, tNewline:
		return nil
	case tKeyword:
		switch p.tok.s {
		case "if", "unless", "while", "until", "end", "rescue", "and", "or", "else", "elsif", "when", "ensure", "then", "do", "in":
			return nil
		}
	case tOp:
		switch p.tok.s {
		case "}", ")", "]", ":":
			return nil
		}
	}
	return p.rhsList()
}

func (p *parser) ifExpr() node {
	unless := p.tok.s == "unless"
	p.advance()
	var root ifNode
	cur := &root
	for links := 0; ; links++ {
		if links > maxNesting {
			p.fail(p.tok.pos, "too many elsif")
		}
		p.fresh(func() { cur.cond = p.expr() })
		p.skipThen()
		cur.then = p.stmts()
		if !p.kw("elsif") {
			break
		}
		p.advance()
		next := &ifNode{}
		cur.els = next
		cur = next
	}
	if p.acceptKw("else") {
		cur.els = p.stmts()
	}
	p.expectKw("end")
	if unless {
		root.then, root.els = root.els, root.then
	}
	return &root
}

func (p *parser) skipThen() {
	p.skipNewlines()
	p.acceptKw("then")
}

func (p *parser) loopHead() node {
	noDo := p.noDo
	p.noDo = 1
	n := p.expr()
	p.noDo = noDo
	return n
}

func (p *parser) loopBody() node {
	p.skipNewlines()
	p.acceptKw("do")
	inLoop := p.inLoop
	p.inLoop = true
	var n node
	p.fresh(func() { n = p.stmts() })
	p.inLoop = inLoop
	p.expectKw("end")
	return n
}

func (p *parser) forExpr() node {
	f := &forNode{line: p.here()}
	p.advance()
	m := p.mlhs(nil)
	if len(m.targets) == 1 && m.splat < 0 {
		f.target = m.targets[0]
	} else {
		f.target = m
	}
	p.expectKw("in")
	f.iter = p.loopHead()
	p.skipNewlines()
	p.acceptKw("do")
	inLoop := p.inLoop
	p.inLoop = true
	p.fresh(func() { f.body = p.stmts() })
	p.inLoop = inLoop
	p.expectKw("end")
	return f
}

func (p *parser) caseExpr() node {
	c := &caseNode{line: p.here()}
	p.advance()
	if p.tok.kind != tNewline && !p.kw("when") {
		p.fresh(func() {
			p.noIn++
			c.subject = p.expr()
			p.noIn--
		})
	}
	p.skipNewlines()
	if p.kw("in") {
		return p.caseIn(c.subject, c.line)
	}
	for p.kw("when") {
		p.advance()
		var w whenClause
		p.fresh(func() {
			w.conds, _, _ = p.argList(func() bool { return false })
		})
		p.skipThen()
		w.body = p.stmts()
		c.whens = append(c.whens, w)
	}
	if p.acceptKw("else") {
		c.els = p.stmts()
	}
	p.expectKw("end")
	return c
}

func (p *parser) def() node {
	d := &defNode{prog: p.prog, line: p.here()}
	p.advance()
	switch {
	case p.tok.kind == tKeyword && p.tok.s == "self" && p.at(p.pos) == '.':
		d.singleton = &selfNode{}
		p.advance()
	case (p.tok.kind == tIdent || p.tok.kind == tConst) && p.at(p.pos) == '.':
		if slot, hops, ok := p.scope.lookup(p.tok.s); ok {
			d.singleton = &lvar{p.tok.s, slot, hops}
		} else if p.tok.kind == tConst {
			d.singleton = &constNode{name: p.tok.s, line: d.line}
		} else {
			d.singleton = &callNode{name: p.tok.s, line: d.line}
		}
		p.advance()
	}
	if d.singleton != nil {
		p.state = stFname
		p.advance()
	}
	switch p.tok.kind {
	case tIdent, tConst, tKeyword:
		d.name = p.tok.s
	default:
		p.unexpectedFor("a method's name")
	}
	outer, inLoop := p.scope, p.inLoop
	p.scope, p.inLoop = &scope{}, false
	p.state = stEnd
	p.advance()
	p.fresh(func() {
		if p.acceptOp("(") {
			d.params = p.params(")")
			p.expectOp(")")
		} else if p.op("=") {
			d.params = &params{rest: -1, kwrest: -1, block: -1}
		} else {
			d.params = p.params("")
		}
		if p.op("=") {
			p.advance()
			p.skipNewlines()
			d.body = p.arg()
			if p.acceptKw("rescue") {
				d.body = rescueModifier(d.body, p.arg())
			}
		} else {
			d.body = p.bodyWithRescue()
			p.expectKw("end")
		}
	})
	d.nvars = p.scope.n
	p.scope, p.inLoop = outer, inLoop
	return d
}

func (p *parser) constPath() *constNode {
	n := p.primaryConst()
	for p.op("::") {
		p.advance()
		if p.tok.kind != tConst {
			p.unexpectedFor("a constant")
		}
		n = &constNode{scope: n, name: p.tok.s, line: p.here()}
		p.state = stEnd
		p.advance()
	}
	return n
}

func (p *parser) primaryConst() *constNode {
	top := p.acceptOp("::")
	if p.tok.kind != tConst {
		p.fail(p.tok.pos, "class/module name must be CONSTANT")
	}
	n := &constNode{top: top, name: p.tok.s, line: p.here()}
	p.state = stEnd
	p.advance()
	return n
}

func (p *parser) class() node {
	line := p.here()
	p.advance()
	if p.op("<<") {
		p.advance()
		s := &sclassNode{of: p.expr()}
		s.body, s.nvars = p.classBody()
		return s
	}
	c := &classNode{line: line, path: p.constPath()}
	if p.acceptOp("<") {
		c.super = p.expr()
	}
	c.body, c.nvars = p.classBody()
	return c
}

func (p *parser) classBody() (body node, nvars int) {
	outer, inLoop := p.scope, p.inLoop
	p.scope, p.inLoop = &scope{}, false
	p.fresh(func() { body = p.bodyWithRescue() })
	nvars = p.scope.n
	p.scope, p.inLoop = outer, inLoop
	p.expectKw("end")
	return body, nvars
}
