package ruby

import "errors"

// Program is a parsed source file. It may be run any number of times, by any
// Interp.
type Program struct {
	File  string
	src   []byte
	nvars int
	body  node
}

// Source returns the text of the lines from start to end, both included and
// counted from 1.
func (p *Program) Source(start, end int) string { return "" }

// Parse parses a source file. The error is a *SyntaxError.
func Parse(file string, src []byte) (*Program, error) { return nil, errors.New("not yet") }

// Inspect returns what v.inspect returns.
func (in *Interp) Inspect(v Value) string { return "" }

// ToS returns what v.to_s returns.
func (in *Interp) ToS(v Value) string { return "" }

// Equal reports a == b.
func (in *Interp) Equal(a, b Value) bool { return false }

// Eql reports a.eql?(b).
func (in *Interp) Eql(a, b Value) bool { return false }

// CaseEq reports pattern === v.
func (in *Interp) CaseEq(pattern, v Value) (bool, error) { return false, nil }

// Compare returns a <=> b as -1, 0 or 1; ok is false when they don't compare.
func (in *Interp) Compare(a, b Value) (n int, ok bool, err error) { return 0, false, nil }

// Regexp is a Ruby regular expression.
type Regexp struct{}

// MatchData is the outcome of a match.
type MatchData struct{}

type regexpKey struct{}
type node interface {
	eval(fr *frame) (Value, error)
}
type defNode struct{}
type blockNode struct {
	prog                      *Program
	line, endLine, start, end int
}
type frame struct {
	in   *Interp
	self Value
	vars []Value
	prog *Program
	home *frame
	lex  *lexScope
	vis  visibility
	done bool
}
type lexScope struct {
	class       *Class
	outer       *lexScope
	transparent bool
}
type returnJump struct {
	home  *frame
	value Value
}

func (*returnJump) Error() string            { return "unexpected return" }
func (h *Hash) hashKey(v Value) any          { return v }
func (in *Interp) bootstrap()                {}
func (in *Interp) className(c *Class) string { return c.Name }
func (in *Interp) send(fr *frame, recv Value, name string, args []Value, blk *Proc, all bool) (Value, error) {
	return nil, nil
}
func (in *Interp) invoke(fr *frame, m *method, recv Value, name string, args []Value, blk *Proc) (Value, error) {
	return nil, nil
}
func (in *Interp) callBlock(blk *Proc, self Value, lex *lexScope, args []Value, pass *Proc) (Value, error) {
	return nil, nil
}
