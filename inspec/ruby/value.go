package ruby

import (
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Value is any Ruby value:
//
//	nil                nil
//	true, false        bool
//	Integer            int64, or *big.Int outside int64
//	Float              float64
//	Rational           *big.Rat
//	String             *String
//	Symbol             Symbol
//	Array, Hash        *Array, *Hash
//	Range              *Range
//	Regexp, MatchData  *Regexp, *MatchData
//	Proc               *Proc
//	Class, Module      *Class
//	exceptions         *Exception
//	everything else    *Object
type Value = any

// Symbol is a Ruby symbol; its text is without the colon.
type Symbol string

// ext holds what only few strings, arrays and hashes have: a class other than
// the built-in one (class Rules < Array), instance variables, own methods.
type ext struct {
	class     *Class
	singleton *Class
	ivars     ivars
	text      *strings.Builder // of a string that is appended to: its text, with room
}

type ivar struct {
	name  string // with the @
	value Value
}

type ivars []ivar

func (iv ivars) get(name string) (Value, bool) {
	for i := range iv {
		if iv[i].name == name {
			return iv[i].value, true
		}
	}
	return nil, false
}

func (iv *ivars) set(name string, v Value) {
	for i := range *iv {
		if (*iv)[i].name == name {
			(*iv)[i].value = v
			return
		}
	}
	if *iv == nil {
		*iv = make(ivars, 0, 4)
	}
	*iv = append(*iv, ivar{name, v})
}

func (iv *ivars) remove(name string) Value {
	for i := range *iv {
		if (*iv)[i].name == name {
			v := (*iv)[i].value
			*iv = append((*iv)[:i:i], (*iv)[i+1:]...)
			return v
		}
	}
	return nil
}

// String is a mutable Ruby string.
type String struct {
	s string
	*ext
	frozen bool
}

// NewString returns a String with the text s.
func NewString(s string) *String { return &String{s: s} }

// NewFrozen returns a String with the text s that can't be changed.
func NewFrozen(s string) *String { return &String{s: s, frozen: true} }

// String returns the current text.
func (s *String) String() string { return s.s }

// Set replaces the text.
func (s *String) Set(text string) {
	s.s = text
	if s.ext != nil {
		s.text = nil
	}
}

// Append adds text at the end, in amortized constant time per byte.
func (s *String) Append(text string) {
	if s.ext == nil {
		s.ext = &ext{}
	}
	if s.text == nil || s.text.Len() != len(s.s) {
		s.text = &strings.Builder{}
		s.text.Grow(2*len(s.s) + len(text))
		s.text.WriteString(s.s)
	}
	s.text.WriteString(text)
	s.s = s.text.String()
}

// Array is a Ruby array.
type Array struct {
	Elems  []Value
	frozen bool
	*ext
}

// NewArray returns an Array that owns elems.
func NewArray(elems ...Value) *Array { return &Array{Elems: elems} }

// Strings returns an Array with a String for each text.
func Strings(texts []string) *Array {
	a := &Array{Elems: make([]Value, len(texts))}
	for i, t := range texts {
		a.Elems[i] = NewString(t)
	}
	return a
}

// Range is lo..hi, or lo...hi when Excl; a nil end is open.
type Range struct {
	Lo, Hi Value
	Excl   bool
}

// Object is an instance of a class that isn't built in. Data is the payload of
// a class implemented in Go and belongs to that class.
type Object struct {
	Class     *Class
	Data      any
	singleton *Class
	ivars     ivars
	frozen    bool
	shared    bool // ivars are another object's, and copied before they change
	addr      uint64
}

// IVar returns an instance variable, named with its @; nil when it isn't set.
func (o *Object) IVar(name string) Value { v, _ := o.ivars.get(name); return v }

// SetIVar sets an instance variable, named with its @.
func (o *Object) SetIVar(name string, v Value) { o.own().set(name, v) }

// ShareIVars gives o, which has none, the instance variables of proto. Each has
// its own as soon as one of them is set.
func (o *Object) ShareIVars(proto *Object) {
	o.ivars, o.shared, proto.shared = proto.ivars, true, true
}

// own returns the instance variables, to be changed.
func (o *Object) own() *ivars {
	if o.shared {
		o.ivars, o.shared = append(make(ivars, 0, len(o.ivars)+2), o.ivars...), false
	}
	return &o.ivars
}

// IVars calls fn for each instance variable in the order of first assignment.
func (o *Object) IVars(fn func(name string, v Value)) {
	for _, iv := range o.ivars {
		fn(iv.name, iv.value)
	}
}

// Exception is a Ruby exception; as a Go error it is one that was raised.
type Exception struct {
	Class     *Class
	Message   string
	File      string   // where it was raised
	Line      int      // where it was raised
	Backtrace []string // innermost first, "FILE:LINE:in `NAME'"
	Cause     *Exception
	// Receiver and Name are set for a NoMethodError or NameError: what was
	// asked, and for what.
	Receiver Value
	Name     string

	ivars   ivars
	key     Value // of a KeyError
	message Value // as given to new, when it isn't a string
}

// Error returns the message, which is the class's name when there is none.
func (e *Exception) Error() string { return e.Message }

// LimitError says that an evaluation passed one of its Limits, or that its
// context ended. Ruby code can't rescue it.
type LimitError struct {
	Limit string // "steps", "depth", "memory", "time", or "context"
	Err   error  // the context's error
}

func (e *LimitError) Error() string {
	switch e.Limit {
	case "context":
		return "evaluation stopped: " + e.Err.Error()
	case "depth":
		return "stack level too deep"
	}
	return "evaluation passed its limit of " + e.Limit
}

func (e *LimitError) Unwrap() error { return e.Err }

// SyntaxError says where a source isn't Ruby, or uses syntax outside the
// subset.
type SyntaxError struct {
	File string
	Line int
	Msg  string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg) }

// Limits bound an evaluation. A zero field means the default.
type Limits struct {
	Steps     int64         // method calls, block calls and loop turns; 20 million
	Depth     int           // nested calls; 3000
	Memory    int64         // bytes allocated for Ruby values, freed or not; 512 MiB
	Time      time.Duration // from New or Reset; 60 s
	RegexTime time.Duration // of one match by the backtracking engine; 2 s
}

func (l Limits) withDefaults() Limits {
	if l.Steps <= 0 {
		l.Steps = 20_000_000
	}
	if l.Depth <= 0 {
		l.Depth = 3000
	}
	if l.Memory <= 0 {
		l.Memory = 512 << 20
	}
	if l.Time <= 0 {
		l.Time = time.Minute
	}
	if l.RegexTime <= 0 {
		l.RegexTime = 2 * time.Second
	}
	return l
}

// Proc is a block, proc or lambda.
type Proc struct {
	body   *blockNode
	fr     *frame // captured
	self   Value
	lambda bool
	native func(c *Call) (Value, error)
	arity  int    // of a native proc
	name   string // of the method that define_method made of it
}

// File is the file that the block stands in; empty for one made in Go.
func (p *Proc) File() string {
	if p.body == nil {
		return ""
	}
	return p.body.prog.File
}

// Line is the line of the block's opening brace or do.
func (p *Proc) Line() int {
	if p.body == nil {
		return 0
	}
	return p.body.line
}

// EndLine is the line of the block's closing brace or end.
func (p *Proc) EndLine() int {
	if p.body == nil {
		return 0
	}
	return p.body.endLine
}

// Source is the block's exact text, from its brace or do to its brace or end.
func (p *Proc) Source() string {
	if p.body == nil {
		return ""
	}
	return string(p.body.prog.src[p.body.start:p.body.end])
}

// Program is the program that the block belongs to; nil for one made in Go.
func (p *Proc) Program() *Program {
	if p.body == nil {
		return nil
	}
	return p.body.prog
}

// Self is the receiver that the block was made in.
func (p *Proc) Self() Value { return p.self }

// Call is one call of a method that is implemented in Go. It is the method's
// until that returns: what outlives it takes what it needs out of it.
type Call struct {
	In    *Interp
	Self  Value
	Args  []Value // keyword arguments are a trailing *Hash
	Block *Proc   // nil when none was given
	Name  string
	File  string // of the caller
	Line  int    // of the caller

	fr *frame // of the caller; nil when Go called
}

// Arg returns the i-th argument, nil when there are fewer.
func (c *Call) Arg(i int) Value {
	if i >= 0 && i < len(c.Args) {
		return c.Args[i]
	}
	return nil
}

func normBig(b *big.Int) Value {
	if b.IsInt64() {
		return b.Int64()
	}
	return b
}
