package ruby

import (
	"math"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

func (in *Interp) bootKernel() {
	k := in.cKernel
	def := func(name string, least, most int, fn native) {
		k.define(&method{name: name, native: fn, min: least, max: most, vis: private})
		in.singletonClass(k).DefN(name, least, most, fn)
	}
	for _, n := range []string{"puts", "print", "p", "pp", "warn", "printf", "srand", "at_exit", "trap", "set_trace_func"} {
		def(n, 0, -1, func(c *Call) (Value, error) { return nil, nil })
	}
	for _, n := range []string{"require", "require_relative", "load"} {
		def(n, 1, 2, func(c *Call) (Value, error) { return true, nil })
	}
	for _, n := range []string{"system", "exec", "spawn", "fork", "open", "eval", "binding", "gets", "exit", "exit!", "abort", "`", "syscall", "test", "select", "readline", "readlines"} {
		def(n, 0, -1, func(c *Call) (Value, error) {
			return nil, c.In.Raise(c.In.eSecurity, "%s is not available to a profile", c.Name)
		})
	}
	def("sleep", 0, 1, func(c *Call) (Value, error) {
		d := time.Until(c.In.deadline)
		if len(c.Args) > 0 {
			wanted, err := c.In.seconds(c.Args[0])
			if err != nil {
				return nil, err
			}
			if wanted < 0 {
				return nil, c.In.Raise(c.In.eArgument, "time interval must not be negative")
			}
			d = min(d, wanted)
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.In.ctx.Done():
		}
		return int64(math.Round(d.Seconds())), c.In.check()
	})
	process := in.DefineModule(nil, "Process")
	process.SetConst("CLOCK_MONOTONIC", int64(1))
	process.SetConst("CLOCK_REALTIME", int64(0))
	in.singletonClass(process).DefN("clock_gettime", 1, 2, func(c *Call) (Value, error) {
		return float64(time.Now().UnixNano()) / 1e9, nil
	})
	def("raise", 0, 3, kernelRaise)
	k.alias("raise", "fail")
	def("loop", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		for {
			if _, err := c.yield(); err != nil {
				if e, ok := err.(*Exception); ok && e.Class.Inherits(c.In.eStopIteration) {
					return nil, nil
				}
				return nil, err
			}
		}
	})
	def("catch", 0, 1, func(c *Call) (Value, error) {
		tag := c.Arg(0)
		if len(c.Args) == 0 {
			tag = &Object{Class: c.In.cObject}
		}
		key := tag
		if s, ok := tag.(*String); ok {
			key = s
		}
		c.In.catches = append(c.In.catches, key)
		v, err := c.yield(tag)
		c.In.catches = c.In.catches[:len(c.In.catches)-1]
		if t, ok := err.(*throwJump); ok && t.tag == key {
			return t.value, nil
		}
		return v, err
	})
	def("throw", 1, 2, func(c *Call) (Value, error) {
		for _, t := range c.In.catches {
			if t == c.Args[0] {
				return nil, &throwJump{c.Args[0], c.Arg(1)}
			}
		}
		return nil, c.In.Raise(c.In.eUncaught, "%s", "uncaught throw "+c.In.Inspect(c.Args[0]))
	})
	def("lambda", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return nil, c.In.Raise(c.In.eArgument, "tried to create Proc object without a block")
		}
		p := *c.Block
		p.lambda = true
		return &p, nil
	})
	def("proc", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return nil, c.In.Raise(c.In.eArgument, "tried to create Proc object without a block")
		}
		return c.Block, nil
	})
	def("format", 1, -1, func(c *Call) (Value, error) {
		f, err := c.strArg(0)
		if err != nil {
			return nil, err
		}
		s, err := c.In.format(f, c.Args[1:])
		if err != nil {
			return nil, err
		}
		return NewString(s), nil
	})
	k.alias("format", "sprintf")
	def("caller", 0, 2, func(c *Call) (Value, error) { return NewArray(), nil })
	def("caller_locations", 0, 2, func(c *Call) (Value, error) { return NewArray(), nil })
	def("rand", 0, 1, func(c *Call) (Value, error) {
		if n, ok := c.Arg(0).(int64); ok && n > 0 {
			return rand.Int64N(n), nil
		}
		return rand.Float64(), nil
	})
	def("block_given?", 0, 0, func(c *Call) (Value, error) {
		return c.fr != nil && c.fr.home.block != nil, nil
	})
	def("Array", 1, 1, func(c *Call) (Value, error) { return c.In.toArray(c.Args[0]) })
	def("String", 1, 1, func(c *Call) (Value, error) {
		s, err := c.In.toS(c.Args[0])
		return NewString(s), err
	})
	def("Hash", 1, 1, func(c *Call) (Value, error) {
		switch v := c.Args[0].(type) {
		case nil:
			return NewHash(), nil
		case *Hash:
			return v, nil
		case *Array:
			if len(v.Elems) == 0 {
				return NewHash(), nil
			}
		}
		return nil, c.In.Raise(c.In.eType, "can't convert %s into Hash", c.In.className(c.In.ClassOf(c.Args[0])))
	})
	def("Integer", 1, 3, func(c *Call) (Value, error) {
		args := c.Args
		raise := true
		if h, ok := args[len(args)-1].(*Hash); ok {
			if v, ok := h.Get(Symbol("exception")); ok {
				raise = Truthy(v)
			}
			args = args[:len(args)-1]
		}
		base := 0
		if len(args) > 1 {
			b, err := c.In.num(args[1])
			if err != nil {
				return nil, err
			}
			base = int(b)
		}
		v, err := c.In.toInteger(args[0], base)
		if err != nil && !raise {
			return nil, nil
		}
		return v, err
	})
	def("Float", 1, 2, func(c *Call) (Value, error) {
		raise := true
		if h, ok := c.Arg(1).(*Hash); ok {
			if v, ok := h.Get(Symbol("exception")); ok {
				raise = Truthy(v)
			}
		}
		v, err := c.In.toFloat(c.Args[0])
		if err != nil && !raise {
			return nil, nil
		}
		return v, err
	})
	p := in.cProc
	proc := func(c *Call) *Proc { return c.Self.(*Proc) }
	in.singletonClass(p).DefN("new", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return nil, c.In.Raise(c.In.eArgument, "tried to create Proc object without a block")
		}
		return c.Block, nil
	})
	call := func(c *Call) (Value, error) {
		return c.In.callBlock(proc(c), proc(c).self, nil, c.Args, c.Block)
	}
	for _, n := range []string{"call", "()", "[]", "yield", "==="} {
		p.Def(n, call)
	}
	p.DefN("to_proc", 0, 0, func(c *Call) (Value, error) { return c.Self, nil })
	p.DefN("lambda?", 0, 0, func(c *Call) (Value, error) { return proc(c).lambda, nil })
	p.DefN("arity", 0, 0, func(c *Call) (Value, error) { return int64(proc(c).Arity()), nil })
	p.DefN("parameters", 0, -1, func(c *Call) (Value, error) {
		a := &Array{}
		if b := proc(c).body; b != nil && b.params != nil {
			kind := Symbol("opt")
			if proc(c).lambda {
				kind = "req"
			}
			for _, r := range b.params.req {
				a.Elems = append(a.Elems, NewArray(kind, Symbol(r.name)))
			}
			for _, o := range b.params.opt {
				a.Elems = append(a.Elems, NewArray(Symbol("opt"), Symbol(o.name)))
			}
			for _, k := range b.params.kws {
				a.Elems = append(a.Elems, NewArray(Symbol("key"), Symbol(k.name)))
			}
		}
		return a, nil
	})
	p.DefN("source_location", 0, 0, func(c *Call) (Value, error) {
		if proc(c).body == nil {
			return nil, nil
		}
		return NewArray(NewString(proc(c).File()), int64(proc(c).Line())), nil
	})
	p.DefN("curry", 0, 1, func(c *Call) (Value, error) {
		n := proc(c).Arity()
		if len(c.Args) > 0 {
			m, err := c.In.num(c.Args[0])
			if err != nil {
				return nil, err
			}
			n = int(m)
		}
		return c.In.curry(proc(c), n, nil), nil
	})
	compose := func(c *Call) (Value, error) {
		first, second := c.Self, c.Args[0]
		if c.Name == "<<" {
			first, second = second, first
		}
		return &Proc{lambda: true, arity: -1, native: func(d *Call) (Value, error) {
			v, err := d.In.Call(first, "call", d.Args, nil)
			if err != nil {
				return nil, err
			}
			return d.In.Call(second, "call", []Value{v}, nil)
		}}, nil
	}
	p.DefN(">>", 1, 1, compose)
	p.DefN("<<", 1, 1, compose)
	in.cMethod.DefN(">>", 1, 1, compose)
	in.cMethod.DefN("<<", 1, 1, compose)
	p.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		s := "#<Proc:0x" + strings.Repeat("0", 16)
		if proc(c).body != nil {
			s += " " + proc(c).File() + ":" + strconv.Itoa(proc(c).Line())
		}
		if proc(c).lambda {
			s += " (lambda)"
		}
		return NewString(s + ">"), nil
	})
	p.alias("inspect", "to_s")
}

func (in *Interp) curry(p *Proc, n int, have []Value) Value {
	return &Proc{lambda: p.lambda, arity: n - len(have), native: func(c *Call) (Value, error) {
		args := append(have[:len(have):len(have)], c.Args...)
		if len(args) >= n {
			return in.callBlock(p, p.self, nil, args, nil)
		}
		return in.curry(p, n, args), nil
	}}
}

// Arity is what Proc#arity says.
func (p *Proc) Arity() int {
	switch {
	case p.body == nil:
		return p.arity
	case p.body.params == nil:
		return 0
	}
	q := p.body.params
	if !p.lambda && len(q.opt) > 0 && !q.hasRest && len(q.post) == 0 {
		return -q.required() - 1
	}
	return q.arity()
}

func kernelRaise(c *Call) (Value, error) {
	in := c.In
	args := c.Args
	var cause *Exception
	if h, ok := c.Arg(len(args) - 1).(*Hash); ok && len(args) > 1 {
		if v, ok := h.Get(Symbol("cause")); ok {
			cause, _ = v.(*Exception)
			args = args[:len(args)-1]
		}
	}
	if len(args) == 0 {
		if n := len(in.errors); n > 0 {
			return nil, in.errors[n-1]
		}
		return nil, in.Raise(in.eRuntime, "unhandled exception")
	}
	var e *Exception
	switch v := args[0].(type) {
	case *String:
		if len(args) > 1 {
			return nil, in.Raise(in.eType, "exception class/object expected")
		}
		e = &Exception{Class: in.eRuntime, Message: v.s}
	case *Class, *Exception:
		var rest []Value
		if len(args) > 1 {
			rest = args[1:2]
		}
		m := "exception"
		if k, ok := v.(*Class); ok {
			if !k.isExcept {
				return nil, in.Raise(in.eType, "exception class/object expected")
			}
			m = "new"
		}
		made, err := in.send(c.fr, v, m, rest, nil, true)
		if err != nil {
			return nil, err
		}
		var ok bool
		if e, ok = made.(*Exception); !ok {
			return nil, in.Raise(in.eType, "exception object expected")
		}
		// What message answers is what is reported.
		if m := e.Class.find("message"); m != nil && m.native == nil {
			if s, err := in.Call(e, "message", nil, nil); err == nil {
				e.Message = in.ToS(s)
			}
		} else if m := e.Class.find("to_s"); m != nil && m.native == nil {
			if s, err := in.toS(e); err == nil {
				e.Message = s
			}
		}
	default:
		return nil, in.Raise(in.eType, "exception class/object expected")
	}
	in.file, in.line = c.File, c.Line
	if cause != nil {
		e.Cause = cause
	}
	return nil, in.raise(e)
}

func (in *Interp) toArray(v Value) (Value, error) {
	switch v := v.(type) {
	case nil:
		return NewArray(), nil
	case *Array:
		return v, nil
	case *Hash, *Range:
		elems, err := in.elements(v)
		if err != nil {
			return nil, err
		}
		return in.newArray(append([]Value(nil), elems...))
	case *Object:
		for _, m := range []string{"to_ary", "to_a"} {
			if in.respondTo(v, m, true) {
				r, err := in.Call(v, m, nil, nil)
				if err != nil || r != nil {
					return r, err
				}
			}
		}
	}
	return NewArray(v), nil
}

// toInteger is Integer(v): strict, with prefixes when base is 0.
func (in *Interp) toInteger(v Value, base int) (Value, error) {
	switch v := v.(type) {
	case int64, *big.Int:
		return v, nil
	case float64:
		return in.floatToInt(math.Trunc(v))
	case *String:
		s := strings.TrimSpace(v.s)
		clean := strings.ReplaceAll(s, "_", "")
		if strings.Contains(s, "__") || strings.HasPrefix(s, "_") || strings.HasSuffix(s, "_") || len(clean) > 10000 || strings.HasPrefix(strings.TrimLeft(clean, "+-"), "+") {
			clean = ""
		}
		if base == 8 {
			clean = strings.Replace(clean, "0o", "", 1)
		} else if base == 16 {
			clean = strings.Replace(clean, "0x", "", 1)
		} else if base == 2 {
			clean = strings.Replace(clean, "0b", "", 1)
		}
		if clean != "" && base >= 0 && base != 1 && base <= 36 {
			if b, ok := new(big.Int).SetString(clean, base); ok {
				return normBig(b), nil
			}
		}
		return nil, in.Raise(in.eArgument, "%s", "invalid value for Integer(): "+inspectString(v.s))
	case nil:
		return nil, in.Raise(in.eType, "can't convert nil into Integer")
	}
	if in.respondTo(v, "to_i", true) {
		return in.Call(v, "to_i", nil, nil)
	}
	return nil, in.Raise(in.eType, "can't convert %s into Integer", in.kindName(v))
}

func (in *Interp) toFloat(v Value) (Value, error) {
	switch v := v.(type) {
	case float64:
		return v, nil
	case int64:
		return float64(v), nil
	case *big.Int, *big.Rat:
		return floatOf(v), nil
	case *String:
		s := strings.TrimSpace(v.s)
		if s != "" && !strings.ContainsAny(s[:1], "._iInN") && !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "_") && !strings.ContainsAny(s, "pPnNxX") {
			if f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64); err == nil {
				return f, nil
			}
		}
		return nil, in.Raise(in.eArgument, "%s", "invalid value for Float(): "+inspectString(v.s))
	}
	return nil, in.Raise(in.eType, "can't convert %s into Float", in.kindName(v))
}

func (in *Interp) floatToInt(f float64) (Value, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, in.Raise(in.eFloatDomain, "%s", formatFloat(f))
	}
	if f >= -(1<<62) && f <= 1<<62 {
		return int64(f), nil
	}
	b, _ := new(big.Float).SetFloat64(f).Int(nil)
	return normBig(b), nil
}
