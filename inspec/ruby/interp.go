package ruby

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"runtime/metrics"
	"strings"
	"time"
)

// Interp evaluates programs. It isn't safe for concurrent use.
type Interp struct {
	limits   Limits
	ctx      context.Context
	steps    int64
	memory   int64
	looked   int64 // memory when the clock was looked at last for its sake
	unkept   int64 // charged before Reset, since it was looked at last what of it is kept
	alive    int64 // heap of the process in the beginning
	full     bool  // too much is kept
	deadline time.Time

	epoch   uint64          // of method tables; caches of an older one are stale
	skipped map[string]bool // words, by Skip
	addrs   uint64
	stack   []stackEntry
	frames  []*frame // that were left
	calls   []*Call  // one for each depth of stack, of methods in Go
	file    string   // of the call being made
	line    int
	errors  []*Exception // $!, innermost rescue last

	autoloaded map[string]bool // preludes that were run
	pegCache   map[pegCacheKey]pegCached
	pegCached  int64   // what those in pegCache were charged
	guard      []Value // being inspected
	catches    []Value // tags of the catches under way

	spare    []method // for newMethod
	globals  map[string]Value
	main     *Object
	regexps  map[regexpKey]*Regexp
	patterns *Patterns // nil: shared with nobody

	cBasicObject, cObject, cModule, cClass, cKernel, cComparable, cEnumerable *Class
	cNil, cTrue, cFalse, cNumeric, cInteger, cFloat, cString, cSymbol         *Class
	cArray, cHash, cRange, cRegexp, cMatchData, cProc, cMethod, cEnumerator   *Class
	cException, cStruct, cSet, cTime, cDate, cDateTime, cIPAddr, cPathname    *Class
	cVersion, cMash, cUnbound, cRational                                      *Class

	eStandard, eArgument, eType, eName, eNoMethod, eZeroDiv, eRange, eIndex *Class
	eKey, eStopIteration, eRuntime, eFrozen, eRegexp, eLocalJump            *Class
	eNoMatch, eNoMatchKey                                                   *Class
	eFloatDomain, eUncaught, eNotImplemented, eSecurity, eLoad, eDomain     *Class
}

type stackEntry struct {
	file string
	line int
	name string
}

// New returns an interpreter that has the core classes.
func New(limits Limits) *Interp {
	in := &Interp{
		limits:  limits.withDefaults(),
		ctx:     context.Background(),
		epoch:   1,
		globals: map[string]Value{},
		regexps: map[regexpKey]*Regexp{},
	}
	in.Reset()
	in.bootstrap()
	in.memory, in.looked, in.alive = 0, 0, heapAlive()
	return in
}

// Reset starts the limits of steps, memory and time anew, as between two
// controls. What globals and the like keep isn't given back by that: where much
// was charged, the heap is looked at, and once it has grown by more than
// Limits.Memory since New, and by what other parts of the process may have
// besides, nothing may be allocated any more.
func (in *Interp) Reset() {
	if in.unkept += in.memory; in.unkept > in.limits.Memory/2 {
		in.unkept = 0
		runtime.GC()
		in.full = in.full || heapAlive()-in.alive > in.limits.Memory+besides
	}
	in.steps, in.memory, in.looked = 0, 0, 0
	if in.full {
		in.memory = in.limits.Memory
	}
	in.deadline = time.Now().Add(in.limits.Time)
}

// besides is by how much the heap may grow for other reasons.
const besides = 64 << 20

// heapAlive is what the last collection found in use, in bytes.
func heapAlive() int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// Run evaluates a program at its top level and returns the value of its last
// expression. With self nil that is Ruby's top level: def and class define for
// everyone. Any other self is as in instance_eval of the file's text: def and
// constants are self's own. Locals are the run's own. A return, also one from
// a block of the file that is still being called, ends the run without error.
//
// ctx governs also later calls, until the next Run.
func (in *Interp) Run(ctx context.Context, p *Program, self Value) (Value, error) {
	in.ctx = ctx
	fr := &frame{in: in, self: self, vars: make([]Value, p.nvars), prog: p}
	fr.home = fr
	if self == nil {
		fr.self = in.main
		fr.lex = &lexScope{class: in.cObject}
		fr.vis = public
	} else {
		fr.lex = &lexScope{class: in.cObject}
		if k, err := in.singleton(self); err == nil {
			fr.lex = &lexScope{class: k, outer: fr.lex}
		}
	}
	v, err := in.enter(p.File, 0, "<main>", func() (v Value, err error) {
		defer in.recovered(len(in.stack), &err)
		return p.body.eval(fr)
	})
	fr.done = true
	var ret *returnJump
	if errors.As(err, &ret) && ret.home == fr {
		return ret.value, nil
	}
	switch err.(type) {
	case *breakJump, *nextJump, *loopJump, *retryJump, *throwJump:
		return nil, in.Raise(in.eLocalJump, "%s", err.Error())
	}
	return v, err
}

// Call calls a method of recv, also a private one.
func (in *Interp) Call(recv Value, name string, args []Value, blk *Proc) (v Value, err error) {
	defer in.recovered(len(in.stack), &err)
	return in.send(nil, recv, name, args, blk, true)
}

// Yield calls blk as yield does: one array is spread over several parameters.
func (in *Interp) Yield(blk *Proc, args ...Value) (Value, error) {
	if blk == nil {
		return nil, in.Raise(in.eLocalJump, "no block given (yield)")
	}
	return in.callBlock(blk, blk.self, nil, args, nil)
}

// InstanceExec calls blk with self as its self; def in it defines methods of
// self alone.
func (in *Interp) InstanceExec(self Value, blk *Proc, args ...Value) (v Value, err error) {
	defer in.recovered(len(in.stack), &err)
	return in.callBlock(blk, self, &lexScope{of: self, transparent: true}, args, nil)
}

// ClassExec calls blk with k as its self; def in it defines methods of k's
// instances.
func (in *Interp) ClassExec(k *Class, blk *Proc, args ...Value) (Value, error) {
	return in.callBlock(blk, k, &lexScope{class: k, transparent: true}, args, nil)
}

// NewProc returns a lambda that runs fn. arity is what Proc#arity says.
func (in *Interp) NewProc(arity int, fn func(c *Call) (Value, error)) *Proc {
	return &Proc{native: fn, arity: arity, lambda: true}
}

// NewObject returns an instance of class with the payload data, without
// calling initialize.
func (in *Interp) NewObject(class *Class, data any) *Object {
	return &Object{Class: class, Data: data}
}

// RespondTo reports whether v has a public method name, or says so in
// respond_to_missing?.
func (in *Interp) RespondTo(v Value, name string) bool { return in.respondTo(v, name, false) }

func (in *Interp) respondTo(v Value, name string, all bool) bool {
	k := in.dispatchClass(v)
	if m := k.find(name); m != nil {
		return all || m.vis == public
	}
	for _, a := range k.ancestors() {
		if a.respond != nil && a.respond(v, name) {
			return true
		}
	}
	if m := k.find("respond_to_missing?"); m != nil && m.native == nil {
		r, err := in.invoke(nil, m, v, "respond_to_missing?", []Value{Symbol(name), all}, nil)
		return err == nil && Truthy(r)
	}
	return false
}

// Class returns the class or module with the full name "A::B", nil when there
// is none.
func (in *Interp) Class(name string) *Class {
	k := in.cObject
	for _, part := range strings.Split(name, "::") {
		v, ok := k.consts[part]
		if !ok {
			return nil
		}
		if k, ok = v.(*Class); !ok {
			return nil
		}
	}
	return k
}

// DefineClass returns the class name in outer (nil: top level), which it
// makes, below super (nil: Object), unless it is there.
func (in *Interp) DefineClass(outer *Class, name string, super *Class) *Class {
	return in.define(outer, name, super, false)
}

// DefineModule returns the module name in outer (nil: top level), which it
// makes unless it is there.
func (in *Interp) DefineModule(outer *Class, name string) *Class {
	return in.define(outer, name, nil, true)
}

func (in *Interp) define(outer *Class, name string, super *Class, module bool) *Class {
	if outer == nil {
		outer = in.cObject
	}
	if k, ok := outer.consts[name].(*Class); ok {
		return k
	}
	k := in.newClass(super, module)
	outer.SetConst(name, k)
	return k
}

func (in *Interp) newClass(super *Class, module bool) *Class {
	in.owe(1536)
	k := &Class{in: in, module: module}
	if !module {
		if super == nil {
			super = in.cObject
		}
		k.Super = super
		k.isExcept, k.noAlloc = super.isExcept, super.noAlloc
	}
	return k
}

// NewClass returns an anonymous class below super (nil: Object).
func (in *Interp) NewClass(super *Class) *Class { return in.newClass(super, false) }

// DefKernel defines a function that is callable with any self.
func (in *Interp) DefKernel(name string, fn func(c *Call) (Value, error)) {
	in.cKernel.define(&method{name: name, native: fn, max: -1, vis: private})
}

// SetGlobal sets a global variable, named with its $.
func (in *Interp) SetGlobal(name string, v Value) { in.globals[name] = v }

// Context is the context of the current Run.
func (in *Interp) Context() context.Context { return in.ctx }

// Truthy reports whether v counts as true: all but nil and false.
func Truthy(v Value) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	}
	return true
}

// Truthy reports whether v counts as true: all but nil and false.
func (in *Interp) Truthy(v Value) bool { return Truthy(v) }

// ClassOf returns the class of v, never a singleton class.
func (in *Interp) ClassOf(v Value) *Class {
	switch v := v.(type) {
	case nil:
		return in.cNil
	case bool:
		if v {
			return in.cTrue
		}
		return in.cFalse
	case int64, *big.Int:
		return in.cInteger
	case float64:
		return in.cFloat
	case *big.Rat:
		return in.cRational
	case Symbol:
		return in.cSymbol
	case *String:
		if v.ext != nil && v.class != nil {
			return v.class
		}
		return in.cString
	case *Array:
		if v.ext != nil && v.class != nil {
			return v.class
		}
		return in.cArray
	case *Hash:
		if v.ext != nil && v.class != nil {
			return v.class
		}
		return in.cHash
	case *Object:
		return v.Class
	case *Exception:
		return v.Class
	case *Range:
		return in.cRange
	case *Regexp:
		return in.cRegexp
	case *MatchData:
		return in.cMatchData
	case *Proc:
		return in.cProc
	case *Class:
		if v.module {
			return in.cModule
		}
		return in.cClass
	}
	panic(fmt.Sprintf("ruby: %T is not a Ruby value", v))
}

// dispatchClass is where v's methods are looked up: its singleton class if it
// has one.
func (in *Interp) dispatchClass(v Value) *Class {
	switch v := v.(type) {
	case *Object:
		if v.singleton != nil {
			return v.singleton
		}
		return v.Class
	case *Class:
		return in.metaOf(v)
	case *String:
		if v.ext != nil && v.singleton != nil {
			return v.singleton
		}
	case *Array:
		if v.ext != nil && v.singleton != nil {
			return v.singleton
		}
	case *Hash:
		if v.ext != nil && v.singleton != nil {
			return v.singleton
		}
	}
	return in.ClassOf(v)
}

// metaOf returns the nearest class in which methods of class k itself are
// looked up.
func (in *Interp) metaOf(k *Class) *Class {
	for c := k; c != nil; c = c.Super {
		if c.meta != nil {
			return c.meta
		}
	}
	if k.module {
		return in.cModule
	}
	return in.cClass
}

// singletonClass returns k's own singleton class, which inherits from that of
// k's superclass.
func (in *Interp) singletonClass(k *Class) *Class {
	if k.meta == nil {
		super := in.cClass
		if k.module {
			super = in.cModule
		} else if k.Super != nil {
			super = in.singletonClass(k.Super)
		}
		in.owe(1024)
		k.meta = &Class{in: in, Super: super, attached: k}
		in.epoch++
	}
	return k.meta
}

func (in *Interp) singleton(v Value) (*Class, error) {
	var e **ext
	switch v := v.(type) {
	case *Class:
		return in.singletonClass(v), nil
	case *Object:
		if v.singleton == nil {
			in.owe(1024)
			v.singleton = &Class{in: in, Super: v.Class, attached: v}
		}
		return v.singleton, nil
	case *String:
		e = &v.ext
	case *Array:
		e = &v.ext
	case *Hash:
		e = &v.ext
	default:
		return nil, in.Raise(in.eType, "can't define singleton")
	}
	if *e == nil {
		*e = &ext{}
	}
	if (*e).singleton == nil {
		(*e).singleton = &Class{in: in, Super: in.ClassOf(v), attached: v}
	}
	return (*e).singleton, nil
}

// Singleton returns the class of methods that v alone has. Numbers, symbols,
// nil, true and false can't have one.
func (in *Interp) Singleton(v Value) (*Class, error) { return in.singleton(v) }

// IsA reports whether v is an instance of k or of what descends from it.
func (in *Interp) IsA(v Value, k *Class) bool {
	c := in.ClassOf(v)
	if c.Inherits(k) {
		return true
	}
	d := in.dispatchClass(v)
	return d != c && d.Inherits(k)
}

// Raise returns an exception of class (nil: RuntimeError), raised at the
// current line.
func (in *Interp) Raise(class *Class, format string, args ...any) error {
	if class == nil {
		class = in.eRuntime
	}
	msg := format
	if len(args) > 0 {
		msg = fmt.Sprintf(format, args...)
	}
	return in.raise(&Exception{Class: class, Message: msg})
}

func (in *Interp) raise(e *Exception) error {
	e.File, e.Line = in.file, in.line
	if in.owe(256); e.Backtrace == nil {
		in.owe(96 * min(len(in.stack), 50))
		file, line := in.file, in.line
		for i := len(in.stack) - 1; i >= 0 && len(e.Backtrace) < 50; i-- {
			s := in.stack[i]
			e.Backtrace = append(e.Backtrace, fmt.Sprintf("%s:%d:in `%s'", file, line, s.name))
			file, line = s.file, s.line
		}
	}
	if n := len(in.errors); n > 0 && e.Cause == nil && in.errors[n-1] != e {
		e.Cause = in.errors[n-1]
	}
	return e
}

// step counts one unit of work and now and then looks at the clock.
func (in *Interp) step() error {
	in.steps++
	if in.steps&1023 == 0 || in.steps > in.limits.Steps {
		return in.check()
	}
	return nil
}

func (in *Interp) check() error {
	if in.steps > in.limits.Steps {
		return &LimitError{Limit: "steps"}
	}
	if err := in.ctx.Err(); err != nil {
		return &LimitError{Limit: "context", Err: context.Cause(in.ctx)}
	}
	if in.memory > in.limits.Memory {
		return &LimitError{Limit: "memory"}
	}
	if time.Now().After(in.deadline) {
		return &LimitError{Limit: "time"}
	}
	return nil
}

// Charge counts n bytes that Go code is about to allocate for Ruby values.
func (in *Interp) Charge(n int) error { return in.charge(n) }

// Step counts one step of what is done for the program outside of it.
func (in *Interp) Step() error { return in.step() }

// charge counts n bytes about to be allocated.
func (in *Interp) charge(n int) error { return in.chargeBig(int64(n)) }

// owe counts n bytes that have been allocated; what charges next fails if that
// was too much.
func (in *Interp) owe(n int) { in.memory += int64(n) }

// size is about what a value takes that a method in Go has returned, without
// its content but for numbers. It may be an old one, and is counted as if it
// were new.
func size(v Value) int {
	switch v := v.(type) {
	case int64:
		if v >= 0 && v < 256 {
			return 0
		}
		return 8
	case float64:
		return 8
	case Symbol:
		return 16
	case *String, *Range:
		return 48
	case *Array:
		return 48
	case *Hash:
		return 96
	case *big.Int:
		return 64 + v.BitLen()/8
	case *big.Rat:
		return 128 + (v.Num().BitLen()+v.Denom().BitLen())/8
	case *Object:
		return 144
	case *Proc:
		return 144
	case *MatchData:
		return 64 + 8*len(v.loc)
	}
	return 0
}

func (in *Interp) chargeBig(n int64) error {
	if n < 0 || n > in.limits.Memory-in.memory {
		return &LimitError{Limit: "memory"}
	}
	if in.memory += n; in.memory-in.looked > 1<<20 {
		// What takes much memory takes time, too.
		in.looked = in.memory
		return in.check()
	}
	return nil
}

// enter runs fn one call deeper.
func (in *Interp) enter(file string, line int, name string, fn func() (Value, error)) (Value, error) {
	if len(in.stack) >= in.limits.Depth {
		return nil, &LimitError{Limit: "depth"}
	}
	in.stack = append(in.stack, stackEntry{file, line, name})
	n := len(in.stack)
	v, err := fn()
	in.stack = in.stack[:n-1]
	return v, err
}

// recovered turns a Go panic, as of a method that is called on a value that it
// wasn't made for, into an exception: a profile must not end the process.
func (in *Interp) recovered(depth int, err *error) {
	r := recover()
	if limit, ok := r.(*LimitError); ok {
		in.stack = in.stack[:depth]
		*err = limit
		return
	}
	if r != nil {
		in.stack = in.stack[:depth]
		*err = in.Raise(in.eType, "%s", fmt.Sprint("internal error: ", r))
	}
}

// IsControlFlow reports whether err is a break, next, return or throw on its
// way to where it ends, or a *LimitError: what Go code between must pass on as
// it is. Anything else that evaluation returns is an *Exception.
func IsControlFlow(err error) bool {
	var e *Exception
	return err != nil && !errors.As(err, &e)
}
