package ruby

import (
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tEOF tokenKind = iota
	tNewline
	tInt
	tFloat
	tIdent // also with ? or ! at its end
	tConst
	tIVar
	tCVar
	tGVar
	tKeyword
	tLabel  // name:
	tSymbol // :name
	tSymBeg // :" or %s(
	tStrBeg
	tXStrBeg
	tRegBeg
	tWords   // %w %W
	tSymbols // %i %I
	tHeredoc
	tChar // ?x
	tOp
)

type token struct {
	kind     tokenKind
	s        string
	pos, end int
	space    bool // white space before it
	prefix   bool // stands where an operand begins: -x, *x, [x] rather than a - x
	// of what begins a literal:
	open, close byte // open is 0 unless brackets nest
	raw         bool // no interpolation
	doc         *heredoc
	suffix      string // of a number: r, i or ri
}

type heredoc struct {
	start, end, resume int // of the body; resume is where the next line begins
	raw, squiggly      bool
}

// lexState is what the next character means, as MRI's lex_state.
type lexState uint8

const (
	stBeg   lexState = iota // an operand is expected; a newline is white space
	stMid                   // as stBeg, but a newline ends: after return, rescue
	stArg                   // after a name that may be a method: an operand may follow
	stEnd                   // after an operand
	stDot                   // after . or &.: a method's name
	stFname                 // after def, alias, or in a symbol
)

var keywords = map[string]lexState{
	"alias": stFname, "and": stBeg, "begin": stBeg, "break": stMid, "case": stBeg,
	"class": stBeg, "def": stFname, "defined?": stArg, "do": stBeg, "else": stBeg,
	"elsif": stBeg, "end": stEnd, "ensure": stBeg, "false": stEnd, "for": stBeg,
	"if": stBeg, "in": stBeg, "module": stBeg, "next": stMid, "nil": stEnd,
	"not": stArg, "or": stBeg, "redo": stEnd, "rescue": stMid, "retry": stEnd,
	"return": stMid, "self": stEnd, "super": stArg, "then": stBeg, "true": stEnd,
	"undef": stFname, "unless": stBeg, "until": stBeg, "when": stBeg,
	"while": stBeg, "yield": stArg, "__FILE__": stEnd, "__LINE__": stEnd,
	"__method__": stEnd, "__dir__": stEnd,
}

// operators, longest first within a first byte.
var operators = []string{
	"**=", "**", "*=", "*", "===", "=>", "==", "=~", "=", "<=>", "<<=", "<=", "<<", "<",
	">>=", ">=", ">>", ">", "!=", "!~", "!", "&&=", "&&", "&.", "&=", "&", "||=", "||", "|=", "|",
	"+=", "+", "->", "-=", "-", "...", "..", ".", "/=", "/", "%=", "%", "^=", "^", "~",
	",", "(", ")", "[", "]", "{", "}", "::", ":", "?",
}

var operatorsByByte = func() (t [128][]string) {
	for _, op := range operators {
		t[op[0]] = append(t[op[0]], op)
	}
	return t
}()

// methodOperators may follow def, a dot, or a symbol's colon; longest first.
var methodOperators = []string{
	"[]=", "[]", "<=>", "===", "==", "=~", "!=", "!~", "!", "**", "+@", "-@", "~@", "+", "-", "*", "/", "%",
	"<<", "<=", "<", ">>", ">=", ">", "&", "|", "^", "~", "`",
}

type lexer struct {
	file    string
	src     string
	pos     int
	state   lexState
	lines   []int // offsets at which lines begin
	skips   map[int]int
	docs    map[int]*heredoc
	isLocal func(name string) bool
	ternary int // ?: under way, where "name:" ends the middle
}

func newLexer(file, src string) *lexer {
	l := &lexer{file: file, src: src, lines: make([]int, 1, 1+strings.Count(src, "\n"))}
	for i := 0; i < len(src); i++ {
		if src[i] == '\n' {
			l.lines = append(l.lines, i+1)
		}
	}
	return l
}

func (l *lexer) line(pos int) int {
	return sort.Search(len(l.lines), func(i int) bool { return l.lines[i] > pos })
}

func (l *lexer) fail(pos int, format string, args ...any) {
	panic(&SyntaxError{File: l.file, Line: l.line(pos), Msg: fmt.Sprintf(format, args...)})
}

func (l *lexer) at(i int) byte {
	if i < len(l.src) {
		return l.src[i]
	}
	return 0
}

func isIdentStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isIdent(c byte) bool { return isIdentStart(c) || isDigit(c) }
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v' }

// skipSpace moves over white space and comments. It stops at a newline that
// ends a statement and reports whether it moved.
func (l *lexer) skipSpace() (moved bool) {
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		switch {
		case isSpace(c):
			l.pos++
		case c == '\\' && l.at(l.pos+1) == '\n':
			l.pos++
			l.newline()
		case c == '\\' && l.at(l.pos+1) == '\r' && l.at(l.pos+2) == '\n':
			l.pos += 2
			l.newline()
		case c == '#':
			for l.pos < len(l.src) && l.src[l.pos] != '\n' {
				l.pos++
			}
		case c == '\n' && (l.state == stBeg || l.state == stDot):
			l.newline()
		case c == '\n' && (l.state == stArg || l.state == stEnd) && l.continues():
			l.newline()
		default:
			return moved
		}
		moved = true
	}
	return moved
}

// newline moves from the end of a line to the next one, over the bodies of
// heredocs that began on it, =begin blocks and what follows __END__.
func (l *lexer) newline() {
	if to, ok := l.skips[l.pos]; ok {
		l.pos = to
	} else {
		l.pos++
	}
	l.lineStart()
}

func (l *lexer) lineStart() {
	rest := l.src[l.pos:]
	if strings.HasPrefix(rest, "=begin") && (len(rest) == 6 || isSpace(rest[6]) || rest[6] == '\n') {
		i := strings.Index(rest, "\n=end")
		if i < 0 {
			l.fail(l.pos, "embedded document meets end of file")
		}
		l.pos += i + 1
		for l.pos < len(l.src) && l.src[l.pos] != '\n' {
			l.pos++
		}
	} else if strings.HasPrefix(rest, "__END__") && (len(rest) == 7 || rest[7] == '\n' || rest[7] == '\r') {
		l.src = l.src[:l.pos]
	}
}

// continues reports whether the line after the newline at pos goes on with the
// expression: it begins with .name or &.
func (l *lexer) continues() bool {
	i := l.pos
	if to, ok := l.skips[i]; ok {
		i = to
	} else {
		i++
	}
	for i < len(l.src) {
		switch c := l.src[i]; {
		case isSpace(c) || c == '\n':
			i++
		case c == '#':
			for i < len(l.src) && l.src[i] != '\n' {
				i++
			}
		case c == '.':
			return l.at(i+1) != '.'
		case c == '&':
			return l.at(i+1) == '.'
		default:
			return false
		}
	}
	return false
}

func (l *lexer) next() token {
	space := l.skipSpace()
	t := token{pos: l.pos, space: space}
	if l.pos >= len(l.src) {
		t.kind, t.end = tEOF, l.pos
		return t
	}
	c := l.src[l.pos]
	beg := l.state == stBeg || l.state == stMid
	after := l.at(l.pos + 1)
	// An operator in stArg begins an operand if space is before but not after.
	t.prefix = beg || l.state == stArg && space && !isSpace(after) && after != '\n'
	switch {
	case c == '\n' || c == ';':
		t.kind, t.s = tNewline, "\n"
		if c == ';' {
			t.s = ";"
			l.pos++
		} else {
			l.newline()
		}
		l.state = stBeg
	case c == 0 || c == 4 || c == 26:
		l.src = l.src[:l.pos]
		t.kind = tEOF
	case isIdentStart(c):
		l.ident(&t)
	case isDigit(c):
		l.number(&t)
	case l.state == stFname && (c != ':' || after == ':') || l.state == stDot && c != '(':
		op := l.methodOperator()
		if op == "" {
			l.fail(l.pos, "unexpected %q where a method's name should be", rune(c))
		}
		t.kind, t.s = tIdent, op
		l.pos += len(op)
		l.state = stArg
	case c == '"' || c == '\'' || c == '`':
		t.kind, t.close, t.raw = tStrBeg, c, c == '\''
		if c == '`' {
			t.kind = tXStrBeg
		}
		l.pos++
	case c == '@':
		l.variable(&t)
	case c == '$':
		l.global(&t)
	case c == ':' && l.symbol(&t, beg):
	case c == '/' && (beg || t.prefix && after != '='):
		t.kind, t.close = tRegBeg, '/'
		l.pos++
	case c == '%' && (beg || t.prefix && after != '=') && l.percent(&t):
	case c == '?' && t.prefix && l.char(&t):
	case c == '<' && after == '<' && (beg || l.state == stArg && space) && l.heredoc(&t):
	default:
		l.operator(&t)
	}
	t.end = l.pos
	return t
}

func (l *lexer) identEnd(i int) int {
	for i < len(l.src) && isIdent(l.src[i]) {
		i++
	}
	return i
}

func (l *lexer) ident(t *token) {
	end := l.identEnd(l.pos)
	if c := l.at(end); (c == '?' || c == '!') && (l.at(end+1) != '=' || l.at(end+2) == '=' || l.at(end+2) == '~' || l.at(end+2) == '>') && !(c == '?' && l.at(end+1) == ':' && l.at(end+2) == ':') {
		if !(c == '?' && l.ternaryMark(end)) {
			end++
		}
	}
	word := l.src[l.pos:end]
	was := l.state
	if was == stFname && l.at(end) == '=' && l.at(end+1) != '~' && l.at(end+1) != '>' && l.at(end+1) != '=' {
		end++
		t.kind, t.s = tIdent, l.src[l.pos:end]
		l.pos, l.state = end, stEnd
		return
	}
	l.pos = end
	if l.at(end) == ':' && l.at(end+1) != ':' && was != stDot && was != stFname && l.ternary == 0 {
		t.kind, t.s = tLabel, word
		l.pos, l.state = end+1, stBeg
		return
	}
	t.s = word
	if st, ok := keywords[word]; ok && was != stDot && was != stFname {
		t.kind, l.state = tKeyword, st
		return
	}
	t.kind, l.state = tIdent, stArg
	if c := word[0]; c >= 'A' && c <= 'Z' {
		t.kind = tConst
	}
	switch {
	case was == stFname:
		l.state = stEnd
		if word == "self" {
			t.kind = tKeyword
		}
	case was != stDot && t.kind == tIdent && l.isLocal(word):
		l.state = stEnd
	}
}

// ternaryMark reports whether the ? at i is not part of a name but the
// operator: x ?1:2 without spaces is rare, so only before a space-less colon.
func (l *lexer) ternaryMark(i int) bool {
	c := l.at(i + 1)
	return c == '"' || c == '\'' || isDigit(c)
}

func (l *lexer) variable(t *token) {
	i := l.pos + 1
	t.kind = tIVar
	if l.at(i) == '@' {
		t.kind = tCVar
		i++
	}
	end := l.identEnd(i)
	if end == i || isDigit(l.src[i]) {
		l.fail(l.pos, "%q isn't the name of a variable", l.src[l.pos:min(end+1, len(l.src))])
	}
	t.s = l.src[l.pos:end]
	l.pos, l.state = end, stEnd
}

func (l *lexer) global(t *token) {
	i := l.pos + 1
	end := l.identEnd(i)
	if end == i {
		if l.at(i) == '-' {
			i++
		}
		if i >= len(l.src) || l.src[i] <= ' ' {
			l.fail(l.pos, "'$' without the name of a variable")
		}
		end = i + 1
	} else if isDigit(l.src[i]) {
		for end = i; isDigit(l.at(end)); end++ {
		}
	}
	t.kind, t.s = tGVar, l.src[l.pos:end]
	l.pos, l.state = end, stEnd
}

func (l *lexer) methodOperator() string {
	for _, op := range methodOperators {
		if strings.HasPrefix(l.src[l.pos:], op) {
			return op
		}
	}
	return ""
}

// symbol reads a symbol at a colon; false when it is an operator instead.
func (l *lexer) symbol(t *token, beg bool) bool {
	c := l.at(l.pos + 1)
	if c == ':' || l.state == stEnd || l.state == stDot || l.state == stArg && (!t.space || l.ternary > 0) {
		return false
	}
	start := l.pos + 1
	switch {
	case c == '"' || c == '\'':
		t.kind, t.close, t.raw = tSymBeg, c, c == '\''
		l.pos += 2
		return true
	case isIdentStart(c):
		end := l.identEnd(start)
		if d := l.at(end); (d == '?' || d == '!') && l.at(end+1) != '=' {
			end++
		} else if d == '=' && l.at(end+1) != '~' && l.at(end+1) != '>' && l.at(end+1) != '=' {
			end++
		}
		t.s = l.src[start:end]
	case c == '@' || c == '$':
		i := start + 1
		if l.at(i) == '@' {
			i++
		}
		end := l.identEnd(i)
		if end == i {
			return false
		}
		t.s = l.src[start:end]
	default:
		l.pos++
		op := l.methodOperator()
		l.pos--
		if op == "" {
			return false
		}
		t.s = op
	}
	t.kind = tSymbol
	l.pos, l.state = start+len(t.s), stEnd
	return true
}

func (l *lexer) percent(t *token) bool {
	i := l.pos + 1
	kind := byte('Q')
	if c := l.at(i); c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
		kind = c
		i++
	}
	open := l.at(i)
	if open == 0 || open >= 0x80 || isIdent(open) || (isSpace(open) || open == '\n') && kind == 'Q' {
		return false
	}
	t.close = open
	if j := strings.IndexByte("([{<", open); j >= 0 {
		t.open, t.close = open, ")]}>"[j]
	}
	switch kind {
	case 'Q', 'q':
		t.kind, t.raw = tStrBeg, kind == 'q'
	case 'W', 'w':
		t.kind, t.raw = tWords, kind == 'w'
	case 'I', 'i':
		t.kind, t.raw = tSymbols, kind == 'i'
	case 'r':
		t.kind = tRegBeg
	case 's':
		t.kind, t.raw = tSymBeg, true
	case 'x':
		t.kind = tXStrBeg
	default:
		return false
	}
	l.pos = i + 1
	return true
}

func (l *lexer) char(t *token) bool {
	i := l.pos + 1
	if i >= len(l.src) || isSpace(l.src[i]) || l.src[i] == '\n' {
		return false
	}
	if l.src[i] == '\\' {
		s, end := l.escape(i + 1)
		t.s, l.pos = s, end
	} else {
		_, n := utf8.DecodeRuneInString(l.src[i:])
		if isIdent(l.src[i]) && i+n < len(l.src) && isIdent(l.src[i+n]) {
			return false
		}
		t.s = l.src[i : i+n]
		l.pos = i + n
	}
	t.kind, l.state = tChar, stEnd
	return true
}

// heredoc reads the head of a heredoc and notes where its body stands.
func (l *lexer) heredoc(t *token) bool {
	i := l.pos + 2
	d := &heredoc{}
	indented := false
	switch l.at(i) {
	case '~':
		d.squiggly, indented = true, true
		i++
	case '-':
		indented = true
		i++
	}
	var id string
	switch q := l.at(i); {
	case q == '"' || q == '\'' || q == '`':
		n := strings.IndexByte(l.src[i+1:], q)
		if n < 0 || strings.ContainsRune(l.src[i+1:i+1+n], '\n') {
			return false
		}
		id, d.raw = l.src[i+1:i+1+n], q == '\''
		i += n + 2
	case isIdentStart(q):
		end := l.identEnd(i)
		id = l.src[i:end]
		i = end
	default:
		return false
	}
	start := l.pos
	t.kind = tHeredoc
	l.pos, l.state = i, stEnd
	if old := l.docs[start]; old != nil {
		t.doc = old
		return true
	}
	nl := strings.IndexByte(l.src[i:], '\n')
	if nl < 0 {
		l.fail(start, "can't find string %q anywhere before EOF", id)
	}
	nl += i
	d.start = nl + 1
	if to, ok := l.skips[nl]; ok {
		d.start = to
	}
	for at := d.start; ; {
		if at >= len(l.src) {
			l.fail(start, "can't find string %q anywhere before EOF", id)
		}
		end := strings.IndexByte(l.src[at:], '\n')
		resume := len(l.src)
		if end < 0 {
			end = len(l.src)
		} else {
			end += at
			resume = end + 1
		}
		text := strings.TrimSuffix(l.src[at:end], "\r")
		if indented {
			text = strings.TrimLeft(text, " \t")
		}
		if text == id {
			d.end, d.resume = at, resume
			break
		}
		at = resume
	}
	if l.skips == nil {
		l.skips, l.docs = map[int]int{}, map[int]*heredoc{}
	}
	l.skips[nl] = d.resume
	l.docs[start] = d
	t.doc = d
	return true
}

func (l *lexer) number(t *token) {
	start := l.pos
	i := start
	t.kind = tInt
	digits := func(ok func(c byte) bool) {
		for ok(l.at(i)) || l.at(i) == '_' && ok(l.at(i+1)) {
			i++
		}
	}
	base := byte(0)
	if l.src[i] == '0' {
		base = l.at(i+1) | 0x20
	}
	switch base {
	case 'x':
		i += 2
		digits(func(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' })
	case 'b':
		i += 2
		digits(func(c byte) bool { return c == '0' || c == '1' })
	case 'o':
		i += 2
		digits(func(c byte) bool { return c >= '0' && c <= '7' })
	default:
		digits(isDigit)
		if l.at(i) == '.' && isDigit(l.at(i+1)) {
			t.kind = tFloat
			i++
			digits(isDigit)
		}
		if e := l.at(i); (e == 'e' || e == 'E') && (isDigit(l.at(i+1)) || (l.at(i+1) == '-' || l.at(i+1) == '+') && isDigit(l.at(i+2))) {
			t.kind = tFloat
			i += 2
			digits(isDigit)
		}
	}
	end := i
	for _, suffix := range "ri" {
		if l.at(i) == byte(suffix) && !isIdent(l.at(i+1)) || suffix == 'r' && l.at(i) == 'r' && l.at(i+1) == 'i' && !isIdent(l.at(i+2)) {
			i++
		}
	}
	t.suffix = string(l.src[end:i])
	if isIdentStart(l.at(i)) {
		l.fail(start, "numeric literal followed by %q", rune(l.src[i]))
	}
	t.s = strings.ReplaceAll(l.src[start:end], "_", "")
	l.pos, l.state = i, stEnd
}

func (l *lexer) operator(t *token) {
	c := l.src[l.pos]
	if c < 128 {
		for _, op := range operatorsByByte[c] {
			if strings.HasPrefix(l.src[l.pos:], op) {
				t.kind, t.s = tOp, op
				l.pos += len(op)
				break
			}
		}
	}
	switch t.s {
	case "":
		r, _ := utf8.DecodeRuneInString(l.src[l.pos:])
		l.fail(l.pos, "unexpected character %q", r)
	case ")", "]", "}":
		l.state = stEnd
	case ".", "&.":
		l.state = stDot
	case "::":
		l.state = stDot
		if t.prefix {
			l.state = stBeg
		}
	default:
		l.state = stBeg
	}
}

// escape reads the escape behind a backslash at i-1 in a double-quoted string;
// it returns its text and the offset behind it.
func (l *lexer) escape(i int) (string, int) {
	c := l.at(i)
	simple := map[byte]string{'n': "\n", 't': "\t", 's': " ", 'r': "\r", 'e': "\x1b", 'a': "\a", 'b': "\b", 'v': "\v", 'f': "\f"}
	if s, ok := simple[c]; ok {
		return s, i + 1
	}
	switch {
	case c >= '0' && c <= '7':
		n, end := 0, i
		for end < i+3 && l.at(end) >= '0' && l.at(end) <= '7' {
			n = n*8 + int(l.src[end]-'0')
			end++
		}
		return string([]byte{byte(n)}), end
	case c == 'x':
		n, end := l.hex(i+1, 2)
		if end == i+1 {
			l.fail(i, "invalid hex escape")
		}
		return string([]byte{byte(n)}), end
	case c == 'u' && l.at(i+1) == '{':
		var b strings.Builder
		i += 2
		for {
			for isSpace(l.at(i)) {
				i++
			}
			if l.at(i) == '}' {
				return b.String(), i + 1
			}
			n, end := l.hex(i, 6)
			if end == i || n > 0x10ffff {
				l.fail(i, "invalid Unicode escape")
			}
			b.WriteRune(rune(n))
			i = end
		}
	case c == 'u':
		n, end := l.hex(i+1, 4)
		if end != i+5 {
			l.fail(i, "invalid Unicode escape")
		}
		return string(rune(n)), end
	case c == 'c' && l.at(i+1) != 0:
		return string([]byte{l.at(i+1) & 0x1f}), i + 2
	case c == 'C' && l.at(i+1) == '-' && l.at(i+2) != 0:
		return string([]byte{l.at(i+2) & 0x1f}), i + 3
	case c == '\n':
		return "", i + 1
	}
	if i >= len(l.src) {
		l.fail(i-1, "unterminated string meets end of file")
	}
	_, n := utf8.DecodeRuneInString(l.src[i:])
	return l.src[i : i+n], i + n
}

func (l *lexer) hex(i, digits int) (n, end int) {
	for end = i; end < i+digits; end++ {
		c := l.at(end)
		switch {
		case isDigit(c):
			n = n*16 + int(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			n = n*16 + int(c|0x20-'a') + 10
		default:
			return n, end
		}
	}
	return n, end
}
