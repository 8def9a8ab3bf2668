package ruby

import (
	"cmp"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

type regexpOptions uint8

// The values are those of Regexp::IGNORECASE and so on.
const (
	reIgnoreCase regexpOptions = 1
	reExtended   regexpOptions = 2
	reMultiline  regexpOptions = 4 // . matches newlines
)

type regexpKey struct {
	src  string
	opts regexpOptions
}

// Regexp is a Ruby regular expression. It is immutable.
type Regexp struct {
	src     string
	opts    regexpOptions
	names   []string       // of groups, in order; empty when they have none
	linear  *regexp.Regexp // nil when the pattern needs backtracking
	nullish bool           // may match the empty string
	kept    bool           // holds \K, which is the group keepGroup
	btSrc   string
	bt      *regexp2.Regexp
	cut     *Regexp // matches all that this does, and more; nil when this is exact
	in      *Interp

	// The last subject of some length, and where it first matched: profiles
	// ask the same of the same file again and again, once a control.
	lastSubject string
	lastLoc     []int
}

// Subjects that a Regexp remembers: shorter ones are matched as fast, longer
// ones are not to stay in memory.
const (
	minRemembered = 64
	maxRemembered = 256 << 10
)

// MatchData is the outcome of a match.
type MatchData struct {
	re  *Regexp
	s   string
	loc []int // byte offsets, in pairs; -1 for a group that took no part
}

const (
	maxPattern = 64 << 10
	keepGroup  = "keep"
)

// regexp returns the compiled expression.
func (in *Interp) regexp(src string, opts regexpOptions) (*Regexp, error) {
	key := regexpKey{src, opts}
	if re, ok := in.regexps[key]; ok {
		return re, nil
	}
	if len(src) > maxPattern {
		return nil, in.Raise(in.eRegexp, "too big regular expression")
	}
	if err := in.charge(2048 + 100*len(src)); err != nil {
		return nil, err
	}
	if !utf8.ValidString(src) {
		src = strings.ToValidUTF8(src, "\ufffd")
	}
	if re := in.patterns.get(key); re != nil {
		re.in = in
		return in.keep(key, re), nil
	}
	re := &Regexp{src: src, opts: opts, in: in}
	var t translator
	for _, depth := range recursionDepths {
		t = translator{src: src, opts: opts, named: hasNamedGroup(src), recursion: depth}
		if t.run() != tooLong {
			break
		}
	}
	if t.msg != "" {
		return nil, in.Raise(in.eRegexp, "%s", t.msg+": /"+src+"/")
	}
	re.names, re.btSrc, re.kept = t.names, t.bt.String(), t.kept
	if err := in.charge(32 * max(len(re.btSrc)-len(src), 0)); err != nil {
		return nil, err
	}
	if t.cut {
		t = translator{src: src, opts: opts, named: t.named, recursion: t.recursion, beyond: "(?s:.*)"}
		if msg := t.run(); msg != "" {
			return nil, in.Raise(in.eRegexp, "%s", msg+": /"+src+"/")
		}
		re.cut = &Regexp{src: src, opts: opts, in: in, btSrc: t.bt.String()}
	}
	if !t.backtrack {
		if parsed, err := syntax.Parse(t.re2.String(), syntax.Perl); err == nil {
			re.nullish = minLen(parsed) == 0
			re.linear, _ = regexp.Compile(t.re2.String())
		}
	}
	if re.linear == nil {
		if err := re.backtracking(); err != nil {
			return nil, err
		}
	}
	in.patterns.put(key, re)
	return in.keep(key, re), nil
}

// maxCompiled bounds how many expressions are kept, compiled.
const maxCompiled = 4096

func (in *Interp) keep(key regexpKey, re *Regexp) *Regexp {
	if len(in.regexps) >= maxCompiled {
		clear(in.regexps)
	}
	in.regexps[key] = re
	return re
}

// Patterns are regular expressions that interpreters share, so that each is
// compiled once. It may be used concurrently; the zero value is ready.
type Patterns struct {
	mu       sync.Mutex
	compiled map[regexpKey]Regexp // of no interpreter
}

// SharePatterns makes in use and fill p.
func (in *Interp) SharePatterns(p *Patterns) { in.patterns = p }

func (p *Patterns) get(key regexpKey) *Regexp {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if re, ok := p.compiled[key]; ok {
		return &re
	}
	return nil
}

// put keeps what is the same for all; an engine that backtracks has the time
// limit of its interpreter.
func (p *Patterns) put(key regexpKey, re *Regexp) {
	if p == nil || re.linear == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.compiled == nil || len(p.compiled) >= maxCompiled {
		p.compiled = map[regexpKey]Regexp{}
	}
	shared := *re
	shared.in, shared.bt = nil, nil
	p.compiled[key] = shared
}

func (re *Regexp) backtracking() error {
	if re.bt != nil {
		return nil
	}
	bt, err := regexp2.Compile(re.btSrc, regexp2.None)
	if err != nil {
		return re.in.Raise(re.in.eRegexp, "%s", strings.TrimPrefix(err.Error(), "error parsing regexp: ")+": /"+re.src+"/")
	}
	bt.MatchTimeout = re.in.limits.RegexTime
	re.bt = bt
	return nil
}

func minLen(re *syntax.Regexp) int {
	switch re.Op {
	case syntax.OpLiteral:
		return len(re.Rune)
	case syntax.OpCharClass, syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return 1
	case syntax.OpCapture, syntax.OpPlus:
		return minLen(re.Sub[0])
	case syntax.OpRepeat:
		return re.Min * minLen(re.Sub[0])
	case syntax.OpConcat:
		n := 0
		for _, s := range re.Sub {
			n += minLen(s)
		}
		return n
	case syntax.OpAlternate:
		n := minLen(re.Sub[0])
		for _, s := range re.Sub[1:] {
			n = min(n, minLen(s))
		}
		return n
	}
	return 0
}

// matcher finds matches in one string.
type matcher struct {
	re      *Regexp
	s       string
	runes   []rune
	offsets []int // of each rune and the end; nil when all are one byte
}

func (re *Regexp) on(s string) (*matcher, error) {
	if !utf8.ValidString(s) {
		return nil, re.in.Raise(re.in.eArgument, "invalid byte sequence in UTF-8")
	}
	return &matcher{re: re, s: s}, nil
}

// find returns the first match that begins at byte from or after it, nil when
// there is none.
func (m *matcher) find(from int) (*MatchData, error) {
	re := m.re
	if re.linear != nil && from == 0 {
		loc := re.first(m.s)
		if loc == nil || re.afterLastLine(m.s, loc) {
			return nil, nil
		}
		return re.data(m.s, loc, re.linear.SubexpIndex), nil
	}
	if err := re.backtracking(); err != nil {
		return nil, err
	}
	if m.runes == nil {
		if err := re.in.charge(4 * len(m.s)); err != nil {
			return nil, err
		}
		m.runes = []rune(m.s)
		if len(m.runes) != len(m.s) {
			m.offsets = make([]int, 0, len(m.runes)+1)
			for i := range m.s {
				m.offsets = append(m.offsets, i)
			}
			m.offsets = append(m.offsets, len(m.s))
		}
	}
	start := from
	if m.offsets != nil {
		for start = 0; start < len(m.runes) && m.offsets[start] < from; start++ {
		}
	}
	began := time.Now()
	got, err := re.bt.FindRunesMatchStartingAt(m.runes, start)
	if err != nil {
		return nil, &LimitError{Limit: "regexp time (" + time.Since(began).Round(time.Millisecond).String() + " for /" + re.src + "/)"}
	}
	if got == nil && re.cut != nil {
		beyond, err := re.cut.match(m.s, from)
		if beyond != nil && err == nil {
			err = &LimitError{Limit: "depth (of groups that call themselves, for /" + re.src + "/)"}
		}
		return nil, err
	}
	if got == nil {
		return nil, nil
	}
	offset := func(i int) int {
		if m.offsets != nil {
			return m.offsets[i]
		}
		return i
	}
	loc := make([]int, 0, 8)
	for _, g := range got.Groups() {
		if len(g.Captures) == 0 {
			loc = append(loc, -1, -1)
			continue
		}
		loc = append(loc, offset(g.Index), offset(g.Index+g.Length))
	}
	return re.data(m.s, loc, re.bt.GroupNumberFromName), nil
}

// first is where the linear expression matches first; the caller may change it.
func (re *Regexp) first(s string) []int {
	if len(s) < minRemembered || len(s) > maxRemembered {
		return re.linear.FindStringSubmatchIndex(s)
	}
	if s != re.lastSubject {
		re.lastSubject, re.lastLoc = s, re.linear.FindStringSubmatchIndex(s)
	}
	return slices.Clone(re.lastLoc)
}

// data is the match of the groups in loc: with \K it begins there.
func (re *Regexp) data(s string, loc []int, group func(name string) int) *MatchData {
	if re.kept {
		i := 2 * group(keepGroup)
		if loc[i] >= 0 {
			loc[0] = loc[i]
		}
		loc = slices.Delete(loc, i, i+2)
	}
	return &MatchData{re, s, loc}
}

// afterLastLine reports a match that begins with ^ behind the newline that
// ends s: to Ruby no line begins there.
func (re *Regexp) afterLastLine(s string, loc []int) bool {
	return loc[0] == len(s) && loc[0] > 0 && s[loc[0]-1] == '\n' && strings.Contains(re.src, "^")
}

// all calls fn for each match in turn, as scan and gsub see them.
func (re *Regexp) all(s string, fn func(*MatchData) error) error {
	m, err := re.on(s)
	if err != nil {
		return err
	}
	if re.linear != nil && !re.nullish {
		// Matched in batches, so that a caller that stops early doesn't pay
		// for all; a batch can't be resumed, so it begins anew and larger.
		done := 0
		for limit := 16; ; limit *= 16 {
			locs := re.linear.FindAllStringSubmatchIndex(s, limit)
			if err := re.in.charge(64 * (len(locs) - done)); err != nil {
				return err
			}
			for _, loc := range locs[done:] {
				if err := fn(re.data(s, loc, re.linear.SubexpIndex)); err != nil {
					return err
				}
			}
			done = len(locs)
			if len(locs) < limit {
				return nil
			}
		}
	}
	for from := 0; from <= len(s); {
		if err := re.in.step(); err != nil {
			return err
		}
		d, err := m.find(from)
		if d == nil || err != nil {
			return err
		}
		if err := fn(d); err != nil {
			return err
		}
		empty := d.loc[1] == d.loc[0] && !(re.kept && d.loc[1] > from)
		if from = d.loc[1]; empty {
			_, n := utf8.DecodeRuneInString(s[from:])
			from += max(n, 1)
		}
	}
	return nil
}

func (re *Regexp) match(s string, from int) (*MatchData, error) {
	m, err := re.on(s)
	if err != nil {
		return nil, err
	}
	return m.find(from)
}

// Source returns the expression's text without slashes and flags.
func (re *Regexp) Source() string { return re.src }

// MatchString reports whether re matches anywhere in s.
func (re *Regexp) MatchString(s string) (bool, error) {
	if re.linear != nil && !strings.Contains(re.src, "^") && utf8.ValidString(s) {
		return re.linear.MatchString(s), nil
	}
	m, err := re.match(s, 0)
	return m != nil, err
}

// NewRegexp compiles an expression; flags holds any of i, m and x.
func (in *Interp) NewRegexp(src, flags string) (*Regexp, error) {
	var opts regexpOptions
	for _, f := range flags {
		switch f {
		case 'i':
			opts |= reIgnoreCase
		case 'x':
			opts |= reExtended
		case 'm':
			opts |= reMultiline
		}
	}
	return in.regexp(src, opts)
}

func (re *Regexp) flags() string {
	s := ""
	if re.opts&reMultiline != 0 {
		s += "m"
	}
	if re.opts&reIgnoreCase != 0 {
		s += "i"
	}
	if re.opts&reExtended != 0 {
		s += "x"
	}
	return s
}

// embedded is re as part of another expression, which is also its to_s.
func (re *Regexp) embedded() string {
	on := re.flags()
	off := ""
	for _, f := range "mix" {
		if !strings.ContainsRune(on, f) {
			off += string(f)
		}
	}
	if off != "" {
		off = "-" + off
	}
	return "(?" + on + off + ":" + re.src + ")"
}

func (re *Regexp) inspect() string {
	var b strings.Builder
	b.WriteByte('/')
	for i := 0; i < len(re.src); i++ {
		switch c := re.src[i]; c {
		case '\\':
			b.WriteByte(c)
			if i+1 < len(re.src) {
				i++
				b.WriteByte(re.src[i])
			}
		case '/':
			b.WriteString(`\/`)
		case '\n':
			b.WriteString(`\n`)
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + "/" + re.flags()
}

// String returns the expression as Ruby's inspect shows it.
func (re *Regexp) String() string { return re.inspect() }

func (m *MatchData) groups() int { return len(m.loc) / 2 }

func (m *MatchData) text(i int) (string, bool) {
	if i < 0 || i >= m.groups() || m.loc[2*i] < 0 {
		return "", false
	}
	return m.s[m.loc[2*i]:m.loc[2*i+1]], true
}

func (m *MatchData) group(i int) Value {
	if s, ok := m.text(i); ok {
		return NewString(s)
	}
	return nil
}

// named returns the group called name; with several, the last that matched.
func (m *MatchData) named(name string) (v Value, ok bool) {
	for i, n := range m.re.names {
		if n == name {
			ok = true
			if g := m.group(i + 1); g != nil {
				v = g
			}
		}
	}
	return v, ok
}

// numberOf is the number of the group called name, as named chooses it; 0 when
// there is none.
func (m *MatchData) numberOf(name string) (number int) {
	for i, n := range m.re.names {
		if n == name && (number == 0 || m.loc[2*i+2] >= 0) {
			number = i + 1
		}
	}
	return number
}

func (m *MatchData) pre() string  { return m.s[:m.loc[0]] }
func (m *MatchData) post() string { return m.s[m.loc[1]:] }

func hasNamedGroup(src string) bool {
	for i := 0; i+3 < len(src); i++ {
		switch {
		case src[i] == '\\':
			i++
		case src[i] == '(' && src[i+1] == '?' && (src[i+2] == '<' && src[i+3] != '=' && src[i+3] != '!' || src[i+2] == '\''):
			return true
		}
	}
	return false
}

// translator rewrites a Ruby pattern for Go's engine and for regexp2.
type translator struct {
	src       string
	i         int
	opts      regexpOptions
	named     bool
	names     []string
	backtrack bool // Go's engine can't
	kept      bool // \K was there
	re2, bt   strings.Builder
	depth     int
	msg       string

	starts    []groupStart
	open      map[int]int // how often groups are being translated, by their place
	recursion int
	beyond    string // stands for what is nested deeper; empty: nothing, so that it doesn't match
	cut       bool   // beyond was used
	numbered  bool   // groups have numbers of their own: there was a \g
}

func (t *translator) run() string {
	if t.opts&reIgnoreCase != 0 {
		t.emit("(?i)")
	}
	t.alternatives(t.opts)
	if t.numbered && t.named {
		// The engine counts named groups by where it first meets them.
		var order strings.Builder
		for i := range t.names {
			order.WriteString("(?<g" + strconv.Itoa(i+1) + "n>(?!))|")
		}
		text := t.bt.String()
		t.bt.Reset()
		t.bt.WriteString("(?:" + order.String() + ")" + text)
	}
	if t.msg == "" && t.i < len(t.src) {
		return "unmatched close parenthesis"
	}
	return t.msg
}

func (t *translator) emit(s string) { t.re2.WriteString(s); t.bt.WriteString(s) }

func (t *translator) only(s string) { t.backtrack = true; t.bt.WriteString(s) }

// splice wraps what was written since the marks.
func (t *translator) splice(re2, bt int, before, after string) {
	a, b := t.re2.String(), t.bt.String()
	t.re2.Reset()
	t.bt.Reset()
	t.re2.WriteString(a[:re2] + before + a[re2:] + after)
	t.bt.WriteString(b[:bt] + before + b[bt:] + after)
}

func (t *translator) peek(s string) bool { return strings.HasPrefix(t.src[t.i:], s) }

func (t *translator) skipExtended() {
	for t.i < len(t.src) {
		switch c := t.src[t.i]; {
		case isSpace(c) || c == '\n':
			t.i++
		case c == '#':
			for t.i < len(t.src) && t.src[t.i] != '\n' {
				t.i++
			}
		default:
			return
		}
	}
}

// alternatives translates up to a closing parenthesis or the end. It returns
// the options in force there, which (?i) may have changed.
func (t *translator) alternatives(opts regexpOptions) {
	if t.depth++; t.depth > 200 {
		t.msg = "too deep nest level"
		return
	}
	defer func() { t.depth-- }()
	r0, b0 := -1, -1 // where the last atom begins; -1: none
	quantified := false
	for t.i < len(t.src) && t.msg == "" {
		if opts&reExtended != 0 {
			if t.skipExtended(); t.i >= len(t.src) {
				return
			}
		}
		c := t.src[t.i]
		if c == ')' {
			return
		}
		if q := t.quantifier(); q != "" {
			if r0 < 0 {
				t.msg = "target of repeat operator is not specified"
				return
			}
			if quantified {
				t.splice(r0, b0, "(?:", ")")
			}
			t.i += len(q)
			braces := q[0] == '{'
			if strings.HasPrefix(q, "{,") {
				q = "{0" + q[1:]
			}
			switch {
			case t.peek("?"):
				t.i++
				t.emit(q + "?")
			case t.peek("+") && !braces:
				t.i++
				t.emit(q)
				t.splice(r0, b0, "(?>", ")")
				t.backtrack = true
			default:
				t.emit(q)
			}
			quantified = true
			continue
		}
		r0, b0, quantified = t.re2.Len(), t.bt.Len(), false
		switch c {
		case '|':
			t.i++
			t.emit("|")
			r0, b0 = -1, -1
		case '^':
			t.i++
			t.re2.WriteString("(?m:^)")
			t.bt.WriteString(`(?:\A|(?<=\n)(?!\z))`)
		case '$':
			t.i++
			t.emit("(?m:$)")
		case '.':
			t.i++
			if opts&reMultiline != 0 {
				t.emit("(?s:.)")
			} else {
				t.emit(".")
			}
		case '[':
			t.i++
			t.class()
		case '(':
			t.i++
			if set, ok := t.inlineOptions(opts); ok {
				opts = set
				r0, b0 = -1, -1
				continue
			}
			t.group(opts)
		case '\\':
			t.escape(opts)
		default:
			r, n := utf8.DecodeRuneInString(t.src[t.i:])
			t.i += n
			t.emit(quoteRune(r))
		}
	}
}

func (t *translator) quantifier() string {
	switch c := t.src[t.i]; c {
	case '*', '+', '?':
		return string(c)
	case '{':
		j := t.i + 1
		digits := 0
		for j < len(t.src) && (isDigit(t.src[j]) || t.src[j] == ',') {
			if t.src[j] != ',' {
				digits++
			}
			j++
		}
		if j < len(t.src) && t.src[j] == '}' && digits > 0 && strings.Count(t.src[t.i:j], ",") <= 1 {
			return t.src[t.i : j+1]
		}
	}
	return ""
}

// inlineOptions reads (?i) and the like, which hold to the end of the group.
func (t *translator) inlineOptions(opts regexpOptions) (regexpOptions, bool) {
	set, end, ok := t.optionLetters(opts)
	if !ok || end >= len(t.src) || t.src[end] != ')' {
		return opts, false
	}
	t.i = end + 1
	t.emit(caseFlag(set))
	return set, true
}

func caseFlag(opts regexpOptions) string {
	if opts&reIgnoreCase != 0 {
		return "(?i)"
	}
	return "(?-i)"
}

func (t *translator) optionLetters(opts regexpOptions) (regexpOptions, int, bool) {
	if !t.peek("?") {
		return opts, 0, false
	}
	on := true
	j := t.i + 1
	for ; j < len(t.src); j++ {
		var o regexpOptions
		switch t.src[j] {
		case '-':
			on = false
			continue
		case 'i':
			o = reIgnoreCase
		case 'm':
			o = reMultiline
		case 'x':
			o = reExtended
		case 'a', 'u', 'd':
			continue
		default:
			return opts, j, j > t.i+1
		}
		if on {
			opts |= o
		} else {
			opts &^= o
		}
	}
	return opts, j, false
}

func (t *translator) group(opts regexpOptions) {
	at := t.i
	n := t.number(at)
	if t.open == nil {
		t.open = map[int]int{}
	}
	t.open[at]++
	defer func() { t.open[at]-- }()
	switch {
	case t.peek("?#"):
		for t.i < len(t.src) && t.src[t.i] != ')' {
			t.i++
		}
		t.emit("(?:")
	case t.peek("?:"):
		t.i += 2
		t.emit("(?:")
	case t.peek("?="), t.peek("?!"), t.peek("?>"):
		t.only("(" + t.src[t.i:t.i+2])
		t.i += 2
	case t.peek("?<="), t.peek("?<!"):
		t.only("(" + t.src[t.i:t.i+3])
		t.i += 3
	case t.peek("?<"), t.peek("?'"):
		closing := byte('>')
		if t.src[t.i+1] == '\'' {
			closing = '\''
		}
		j := strings.IndexByte(t.src[t.i+2:], closing)
		if j <= 0 || !isIdentStart(t.src[t.i+2]) {
			t.msg = "group name is empty"
			return
		}
		name := t.src[t.i+2 : t.i+2+j]
		for _, other := range t.names {
			if other == name && n == 0 {
				t.backtrack = true
			}
		}
		if n == 0 {
			t.names = append(t.names, name)
			n = len(t.names)
		}
		t.i += j + 3
		id := "g" + strconv.Itoa(n) + "n"
		t.re2.WriteString("(?P<" + id + ">")
		t.bt.WriteString("(?<" + id + ">")
	case t.peek("?"):
		set, end, ok := t.optionLetters(opts)
		if !ok || end >= len(t.src) || t.src[end] != ':' {
			t.msg = "undefined group option"
			return
		}
		opts = set
		t.i = end + 1
		t.emit("(?:" + caseFlag(opts))
	case t.named:
		t.emit("(?:")
	case n > 0:
		t.only("(?<" + strconv.Itoa(n) + ">")
	default:
		t.emit("(")
	}
	t.alternatives(opts)
	if t.msg != "" {
		return
	}
	if t.i >= len(t.src) {
		t.msg = "end pattern with unmatched parenthesis"
		return
	}
	t.i++
	t.emit(")")
}

func quoteRune(r rune) string {
	switch {
	case r < 0x20 || r == 0x7f:
		return `\x` + strconv.FormatInt(int64(r)+0x100, 16)[1:]
	case strings.ContainsRune(`\.+*?()|[]{}^$#`, r):
		return `\` + string(r)
	}
	return string(r)
}

// classes are the shorthands, as the inside of a bracket expression.
var classes = map[byte]string{
	'd': "0-9", 'w': "a-zA-Z0-9_", 's': `\t\n\v\f\r `, 'h': "0-9a-fA-F",
}

// charEscape reads an escape that stands for one character, behind its
// backslash.
func (t *translator) charEscape() (rune, bool) {
	c := t.src[t.i]
	switch c {
	case 'n':
		t.i++
		return '\n', true
	case 't':
		t.i++
		return '\t', true
	case 'r':
		t.i++
		return '\r', true
	case 'f':
		t.i++
		return '\f', true
	case 'v':
		t.i++
		return '\v', true
	case 'a':
		t.i++
		return '\a', true
	case 'e':
		t.i++
		return 0x1b, true
	case 'x', 'u', '0':
		digits, base := 2, 16
		j := t.i + 1
		if c == 'u' {
			digits = 4
		}
		if c == '0' {
			digits, base = 2, 8
		}
		if c == 'u' && j < len(t.src) && t.src[j] == '{' {
			end := strings.IndexByte(t.src[j:], '}')
			if end < 0 {
				t.msg = "invalid Unicode range"
				return 0, true
			}
			n, err := strconv.ParseUint(strings.TrimSpace(t.src[j+1:j+end]), 16, 32)
			if err != nil || n > unicode.MaxRune {
				t.msg = "invalid Unicode range"
				return 0, true
			}
			t.i = j + end + 1
			return rune(n), true
		}
		end := j
		for end < len(t.src) && end < j+digits {
			if _, err := strconv.ParseUint(t.src[end:end+1], base, 8); err != nil {
				break
			}
			end++
		}
		n, _ := strconv.ParseUint(t.src[j:end], base, 32)
		t.i = end
		return rune(n), true
	}
	if isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
		return 0, false
	}
	r, n := utf8.DecodeRuneInString(t.src[t.i:])
	t.i += n
	return r, true
}

// recursionDepths are how deep groups that call themselves are written out: as
// deep as there is room for. A text in which they may be nested deeper passes a
// limit.
var recursionDepths = []int{50, 12, 8, 5, 3}

const tooLong = "too long when its groups are written out"

// call translates \g<name>, or \g<1>: the group's pattern once more, which sets
// the group, too; \g<0> is all of the pattern.
func (t *translator) call(opts regexpOptions) {
	end := strings.IndexAny(t.src[t.i:], ">'")
	if t.i+1 >= len(t.src) || t.src[t.i+1] != '<' && t.src[t.i+1] != '\'' || end < 3 {
		t.msg = "invalid group name <>"
		return
	}
	name := t.src[t.i+2 : t.i+end]
	back := t.i + end + 1
	at := -1
	if name == "0" {
		at = 0
		if t.open == nil {
			t.open = map[int]int{}
		}
	}
	for _, g := range t.groupStarts() {
		if g.name == name || g.name == "" && strconv.Itoa(g.n) == name {
			at = g.at
		}
	}
	switch {
	case at < 0:
		t.msg = "undefined name <" + name + "> call"
		return
	case t.open[at] > t.recursion || t.open[at] > 0 && t.depth > 150:
		t.i = back
		t.cut = true
		t.only(cmp.Or(t.beyond, "(?!)"))
		return
	case t.bt.Len() > 1<<16:
		t.msg = tooLong
		return
	}
	if !t.numbered {
		// From here on groups may come in another order than they are written.
		t.numbered, t.names = true, nil
		for _, g := range t.groupStarts() {
			if g.name != "" {
				t.names = append(t.names, g.name)
			}
		}
	}
	t.i = at
	t.backtrack = true
	if name == "0" {
		t.open[0]++
		t.only("(?:")
		t.alternatives(t.opts)
		t.only(")")
		t.open[0]--
	} else {
		t.group(opts)
	}
	t.i = back
}

// groupStart is a group that captures: n counts from 1 in its kind, and at is
// behind its parenthesis.
type groupStart struct {
	name  string
	n, at int
}

// groupStarts finds the groups of the pattern, once.
func (t *translator) groupStarts() []groupStart {
	if t.starts != nil {
		return t.starts
	}
	t.starts = []groupStart{}
	named, inSet := 0, 0
	for i := 0; i < len(t.src); i++ {
		switch c := t.src[i]; {
		case c == '\\':
			i++
		case c == '[':
			inSet++
		case c == ']' && inSet > 0:
			inSet--
		case c != '(' || inSet > 0:
		case strings.HasPrefix(t.src[i:], "(?<") && i+3 < len(t.src) && isIdentStart(t.src[i+3]), strings.HasPrefix(t.src[i:], "(?'"):
			named++
			name := t.src[i+3:]
			if end := strings.IndexAny(name, ">'"); end >= 0 {
				name = name[:end]
			}
			t.starts = append(t.starts, groupStart{name, named, i + 1})
		case !t.named && !strings.HasPrefix(t.src[i:], "(?"):
			t.starts = append(t.starts, groupStart{n: len(t.starts) + 1, at: i + 1})
		}
	}
	return t.starts
}

// number is that of the group at the place, once there was a \g; 0 else.
func (t *translator) number(at int) int {
	if !t.numbered {
		return 0
	}
	for _, g := range t.groupStarts() {
		if g.at == at {
			return g.n
		}
	}
	return 0
}

func (t *translator) escape(opts regexpOptions) {
	t.i++
	if t.i >= len(t.src) {
		t.msg = "too short escape sequence"
		return
	}
	c := t.src[t.i]
	if set, ok := classes[c|0x20]; ok {
		t.i++
		if c < 'a' {
			t.emit("[^" + set + "]")
		} else {
			t.emit("[" + set + "]")
		}
		return
	}
	switch c {
	case 'A', 'z', 'b', 'B':
		t.i++
		t.emit(`\` + string(c))
		return
	case 'Z':
		t.i++
		t.only(`(?=\n?\z)`)
		return
	case 'G':
		t.i++
		t.only(`\G`)
		return
	case 'R':
		t.i++
		t.emit(`(?:\r\n|[\n\v\f\r\x85` + "\u2028\u2029" + `])`)
		return
	case 'K':
		if t.kept {
			t.msg = `a second \K is not supported`
			return
		}
		t.i++
		t.kept = true
		t.re2.WriteString("(?P<" + keepGroup + ">)")
		t.bt.WriteString("(?<" + keepGroup + ">)")
		return
	case 'X':
		t.i++
		t.only(grapheme)
		return
	case 'g':
		t.call(opts)
		return
	case 'p', 'P':
		if set := t.property(); set != "" {
			t.emit(set)
		}
		return
	case 'k':
		end := strings.IndexAny(t.src[t.i:], ">'")
		if end < 0 || end < 3 {
			t.msg = "invalid backref number/name"
			return
		}
		name := t.src[t.i+2 : t.i+end]
		t.i += end + 1
		for i := len(t.names) - 1; i >= 0; i-- {
			if t.names[i] == name {
				t.only(`\k<g` + strconv.Itoa(i+1) + `n>`)
				return
			}
		}
		if _, err := strconv.Atoi(name); err != nil {
			t.msg = "undefined name <" + name + "> reference"
			return
		}
		t.only(`(?:\` + name + `)`)
		return
	}
	if c >= '1' && c <= '9' {
		j := t.i
		for j < len(t.src) && isDigit(t.src[j]) {
			j++
		}
		t.only(`(?:\` + t.src[t.i:j] + `)`)
		t.i = j
		return
	}
	if r, ok := t.charEscape(); ok {
		t.emit(quoteRune(r))
		return
	}
	t.i++
	t.emit(quoteRune(rune(c)))
}

var posix = map[string]string{
	"alpha": `\p{L}\p{M}`, "digit": `\p{Nd}`, "alnum": `\p{L}\p{M}\p{Nd}`, "upper": `\p{Lu}`, "lower": `\p{Ll}`,
	"space": `\t\n\v\f\r \x85\p{Z}`, "punct": `\p{P}$+<=>\^` + "`" + `|~`, "word": `\p{L}\p{M}\p{Nd}_`, "cntrl": `\x00-\x1f\x7f`,
	"xdigit": `0-9a-fA-F`, "blank": ` \t`, "graph": `!-~\p{L}\p{M}\p{N}\p{P}\p{S}`, "print": ` -~\p{L}\p{M}\p{N}\p{P}\p{S}\p{Zs}`, "ascii": `\x00-\x7f`,
}

// grapheme is \X, by the rules of UAX #29 for what people write: a line's end,
// flags, syllables of Hangul, pictures joined or with their modifiers, and any
// character with its marks.
var grapheme = `(?>\r\n|` +
	"[\U0001F1E6-\U0001F1FF]{2}" + extend + `*|` +
	"[\u1100-\u115F]*(?:[\uAC00-\uD7A3]|[\u1160-\u11A7])[\u1160-\u11FF]*" + extend + `*|` +
	picture + `(?:` + extend + `*?` + "\u200D" + picture + `)*` + extend + `*|` +
	`(?s:.)` + extend + `*)`

const (
	extend  = `[\p{M}` + "\u200C\u200D\uFE00-\uFE0F\U0001F3FB-\U0001F3FF" + `]`
	picture = "[\u00A9\u00AE\u203C-\u3299\U0001F000-\U0001F1E5\U0001F200-\U0001F3FA\U0001F400-\U0001FAFF]"
)

// property reads p{Name} or P{Name} as a bracket expression.
func (t *translator) property() string {
	set, neg := t.propertySet()
	if set == "" {
		return ""
	}
	if neg {
		return "[^" + set + "]"
	}
	return "[" + set + "]"
}

func (t *translator) propertySet() (string, bool) {
	neg := t.src[t.i] == 'P'
	end := strings.IndexByte(t.src[t.i:], '}')
	if end < 3 || t.src[t.i+1] != '{' {
		t.msg = "invalid character property name {" + string(t.src[t.i]) + "}"
		return "", false
	}
	name := t.src[t.i+2 : t.i+end]
	t.i += end + 1
	if name[0] == '^' {
		neg, name = !neg, name[1:]
	}
	if s, ok := posix[strings.ToLower(name)]; ok {
		return s, neg
	}
	if _, ok := unicode.Categories[name]; !ok {
		if _, ok := unicode.Scripts[name]; !ok {
			t.msg = "invalid character property name {" + name + "}"
			return "", false
		}
	}
	return `\p{` + name + `}`, neg
}

// class translates a bracket expression behind its opening bracket.
func (t *translator) class() {
	set, neg, and := t.classSet()
	if t.msg != "" {
		return
	}
	open := "["
	if neg {
		open = "[^"
	}
	if and == nil {
		t.emit(open + set + "]")
		return
	}
	// a&&b: both must match the same character.
	t.only("(?:")
	for _, a := range and {
		if neg {
			t.msg = "negated intersection in a character class is not supported"
			return
		}
		t.only("(?=" + a + ")")
	}
	t.only(open + set + "])")
}

func (t *translator) classSet() (set string, neg bool, and []string) {
	if t.depth++; t.depth > 200 {
		t.msg = "too deep nest level"
		return
	}
	defer func() { t.depth-- }()
	var b strings.Builder
	if t.peek("^") {
		t.i++
		neg = true
	}
	for first := true; ; first = false {
		if t.i >= len(t.src) {
			t.msg = "premature end of char-class"
			return
		}
		c := t.src[t.i]
		switch {
		case c == ']' && !first:
			t.i++
			if b.Len() == 0 {
				t.msg = "empty char-class"
			}
			return b.String(), neg, and
		case t.peek("[:") && strings.Contains(t.src[t.i+2:], ":]"):
			end := 2 + strings.Index(t.src[t.i+2:], ":]")
			name := t.src[t.i+2 : t.i+end]
			s, ok := posix[strings.TrimPrefix(name, "^")]
			if !ok {
				t.i++
				b.WriteString(`\[`)
				continue
			}
			t.i += end + 2
			if name[0] == '^' {
				if s != posix["space"] && s != posix["digit"] {
					t.msg = "negated POSIX bracket is not supported"
					return
				}
				s = map[string]string{posix["space"]: `\S`, posix["digit"]: `\P{Nd}`}[s]
			}
			b.WriteString(s)
		case c == '[':
			t.i++
			s, n, a := t.classSet()
			if t.msg != "" {
				return
			}
			if n || a != nil {
				t.msg = "negated set inside a character class is not supported"
				return
			}
			b.WriteString(s)
		case t.peek("&&"):
			t.i += 2
			start := t.i
			if t.peek("[") {
				t.i++
			}
			s, n, a := t.classSet()
			if t.msg != "" {
				return
			}
			open := "["
			if n {
				open = "[^"
			}
			and = append(append(and, open+s+"]"), a...)
			if t.src[start] == '[' {
				continue
			}
			return b.String(), neg, and
		case c == '\\':
			t.i++
			if t.i >= len(t.src) {
				t.msg = "premature end of char-class"
				return
			}
			e := t.src[t.i]
			if s, ok := classes[e|0x20]; ok && (e >= 'a' || e >= 'A' && e <= 'Z') {
				t.i++
				if e < 'a' {
					s = map[byte]string{'D': `\D`, 'W': `\W`, 'S': `\S`, 'H': `\x00-/:-@G-` + "`" + `g-\x{10FFFF}`}[e]
					if e == 'H' {
						t.backtrack = true
						s = `\x00-/:-@G-` + "`" + `g-` + "\uFFFF"
					}
				}
				b.WriteString(s)
				continue
			}
			if e == 'p' || e == 'P' {
				s, n := t.propertySet()
				if n && strings.HasPrefix(s, `\p{`) && strings.Count(s, `\p`) == 1 {
					s = `\P` + s[2:]
				} else if n {
					t.msg = "negated property inside a character class is not supported"
				}
				b.WriteString(s)
				continue
			}
			if e == 'b' {
				t.i++
				b.WriteString(`\x08`)
				continue
			}
			if r, ok := t.charEscape(); ok {
				b.WriteString(quoteInClass(r))
			} else {
				t.i++
				b.WriteString(quoteInClass(rune(e)))
			}
		case c == '-':
			t.i++
			// A range's hyphen, unless it is first or last.
			if first || t.peek("]") || b.Len() == 0 {
				b.WriteString(`\-`)
			} else {
				b.WriteString("-")
				if t.peek("[") || t.peek(`\w`) || t.peek(`\d`) || t.peek(`\s`) || t.peek("&&") {
					s := b.String()
					b.Reset()
					b.WriteString(s[:len(s)-1] + `\-`)
				}
			}
			if s := b.String(); strings.HasSuffix(s, "-") && !strings.HasSuffix(s, `\-`) && afterShorthand(s[:len(s)-1]) {
				b.Reset()
				b.WriteString(s[:len(s)-1] + `\-`)
			}
		default:
			r, n := utf8.DecodeRuneInString(t.src[t.i:])
			t.i += n
			b.WriteString(quoteInClass(r))
		}
	}
}

// afterShorthand reports that a hyphen behind s can't be a range's: s ends with
// a class such as \w, or with a range.
func afterShorthand(s string) bool {
	for _, set := range classes {
		if strings.HasSuffix(s, set) {
			return true
		}
	}
	return strings.HasSuffix(s, "}")
}

func quoteInClass(r rune) string {
	if r < 0x20 || r == 0x7f {
		return quoteRune(r)
	}
	if strings.ContainsRune(`\[]^-&#`, r) {
		return `\` + string(r)
	}
	return string(r)
}
