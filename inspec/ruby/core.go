package ruby

import (
	"fmt"
	"math/big"
	"strings"
)

type native = func(c *Call) (Value, error)

func (in *Interp) bootstrap() {
	class := func(name string, super *Class) *Class { return &Class{in: in, Name: name, Super: super} }
	in.cBasicObject = class("BasicObject", nil)
	in.cObject = class("Object", in.cBasicObject)
	in.cModule = class("Module", in.cObject)
	in.cClass = class("Class", in.cModule)
	for _, k := range []*Class{in.cBasicObject, in.cObject, in.cModule, in.cClass} {
		in.cObject.SetConst(k.Name, k)
	}
	module := func(name string) *Class { return in.DefineModule(nil, name) }
	in.cKernel, in.cComparable, in.cEnumerable = module("Kernel"), module("Comparable"), module("Enumerable")
	in.cObject.Include(in.cKernel)
	top := func(name string) *Class { return in.DefineClass(nil, name, nil) }
	in.cNil, in.cTrue, in.cFalse = top("NilClass"), top("TrueClass"), top("FalseClass")
	in.cNumeric = top("Numeric")
	in.cNumeric.Include(in.cComparable)
	in.cInteger = in.DefineClass(nil, "Integer", in.cNumeric)
	in.cFloat = in.DefineClass(nil, "Float", in.cNumeric)
	in.cString, in.cSymbol = top("String"), top("Symbol")
	in.cString.Include(in.cComparable)
	in.cSymbol.Include(in.cComparable)
	in.cArray, in.cHash, in.cRange = top("Array"), top("Hash"), top("Range")
	in.cRegexp, in.cMatchData, in.cProc = top("Regexp"), top("MatchData"), top("Proc")
	in.cMethod, in.cUnbound = top("Method"), top("UnboundMethod")
	in.cEnumerator, in.cStruct, in.cSet = top("Enumerator"), top("Struct"), top("Set")
	for _, k := range []*Class{in.cArray, in.cHash, in.cRange, in.cEnumerator, in.cStruct, in.cSet} {
		k.Include(in.cEnumerable)
	}
	in.main = &Object{Class: in.cObject}
	in.bootExceptions()
	in.bootObject()
	in.bootModule()
	in.bootKernel()
	in.bootComparable()
	in.bootNumeric()
	in.bootRational()
	in.bootComplex()
	in.bootString()
	in.bootEnumerable()
	in.bootArray()
	in.bootHash()
	in.bootRange()
	in.bootRegexp()
	in.bootStruct()
	in.bootTime()
	in.bootLibrary()
	in.bootCore()
	for _, k := range []*Class{in.cNil, in.cTrue, in.cFalse, in.cInteger, in.cFloat, in.cRational, in.cSymbol, in.cMatchData} {
		in.singletonClass(k).Undef("new")
	}
	for _, k := range []*Class{
		in.cNil, in.cTrue, in.cFalse, in.cInteger, in.cFloat, in.cRational, in.cSymbol, in.cMatchData, in.cMethod, in.cUnbound, in.cEnumerator,
		in.cRange, in.cRegexp, in.cProc, in.cStruct, in.cTime, in.cDate, in.cDateTime, in.cClass, in.cModule,
	} {
		k.noAlloc = true
	}
	out := in.NewObject(in.DefineClass(nil, "IO", nil), nil)
	for _, n := range []string{"puts", "print", "write", "flush", "sync=", "printf", "<<"} {
		out.Class.Def(n, func(c *Call) (Value, error) { return nil, nil })
	}
	in.globals["$stdout"], in.globals["$stderr"] = out, out
	in.cObject.SetConst("STDOUT", out)
	in.cObject.SetConst("STDERR", out)
	in.globals["$PROGRAM_NAME"], in.globals["$0"] = NewString("inspec"), NewString("inspec")
	in.globals["$,"], in.globals["$/"] = nil, NewString("\n")
	in.cObject.SetConst("ENV", &Hash{frozen: true})
	in.cObject.SetConst("ARGV", NewArray())
	in.cObject.SetConst("RUBY_VERSION", &String{s: "3.1.6", frozen: true})
}

// alias makes more names for the method from.
func (c *Class) alias(from string, names ...string) {
	for _, n := range names {
		m := c.in.newMethod()
		*m = *c.methods[from]
		m.name = n
		c.define(m)
	}
}

func (c *Call) yield(args ...Value) (Value, error) { return c.In.Yield(c.Block, args...) }

// test is yield for a condition.
func (c *Call) test(args ...Value) (bool, error) {
	v, err := c.In.Yield(c.Block, args...)
	return Truthy(v), err
}

func (c *Call) strArg(i int) (string, error) { return c.In.str(c.Arg(i)) }

// intArg is argument i as an Integer, def when there is none.
func (c *Call) intArg(i int, def int64) (int64, error) {
	if i >= len(c.Args) {
		return def, nil
	}
	return c.In.num(c.Args[i])
}

func (c *Call) arity(least, most int) error {
	if len(c.Args) < least || most >= 0 && len(c.Args) > most {
		return c.In.arityError(len(c.Args), least, most)
	}
	return nil
}

// newString counts and returns a new String.
func (in *Interp) newString(s string) (Value, error) {
	if err := in.charge(40 + len(s)); err != nil {
		return nil, err
	}
	return NewString(s), nil
}

func (in *Interp) newArray(elems []Value) (Value, error) {
	if err := in.charge(48 + 16*len(elems)); err != nil {
		return nil, err
	}
	return &Array{Elems: elems}, nil
}

func (in *Interp) bootExceptions() {
	in.cException = in.DefineClass(nil, "Exception", nil)
	in.cException.isExcept = true
	e := func(name string, super *Class) *Class { return in.DefineClass(nil, name, super) }
	script := e("ScriptError", in.cException)
	in.eLoad = e("LoadError", script)
	in.eNotImplemented = e("NotImplementedError", script)
	e("SyntaxError", script)
	in.eSecurity = e("SecurityError", in.cException)
	e("NoMemoryError", in.cException)
	e("SystemExit", in.cException)
	e("SystemStackError", in.cException)
	e("Interrupt", e("SignalException", in.cException))
	in.eStandard = e("StandardError", in.cException)
	in.eArgument = e("ArgumentError", in.eStandard)
	in.eUncaught = e("UncaughtThrowError", in.eArgument)
	in.eType = e("TypeError", in.eStandard)
	in.eName = e("NameError", in.eStandard)
	in.eNoMethod = e("NoMethodError", in.eName)
	in.eZeroDiv = e("ZeroDivisionError", in.eStandard)
	in.eRange = e("RangeError", in.eStandard)
	in.eFloatDomain = e("FloatDomainError", in.eRange)
	in.eIndex = e("IndexError", in.eStandard)
	in.eKey = e("KeyError", in.eIndex)
	in.eNoMatch = e("NoMatchingPatternError", in.eStandard)
	in.eNoMatchKey = e("NoMatchingPatternKeyError", in.eNoMatch)
	in.eStopIteration = e("StopIteration", in.eIndex)
	in.eRuntime = e("RuntimeError", in.eStandard)
	in.eFrozen = e("FrozenError", in.eRuntime)
	in.eRegexp = e("RegexpError", in.eStandard)
	in.eLocalJump = e("LocalJumpError", in.eStandard)
	e("IOError", in.eStandard)
	e("EOFError", in.Class("IOError"))
	e("EncodingError", in.eStandard)
	sys := e("SystemCallError", in.eStandard)
	errno := in.DefineModule(nil, "Errno")
	for _, n := range []string{"ENOENT", "EACCES", "ECONNREFUSED", "EEXIST", "ENOTDIR", "EISDIR"} {
		in.DefineClass(errno, n, sys)
	}
	in.DefineClass(in.DefineModule(nil, "Timeout"), "Error", in.eRuntime)
	in.eDomain = in.DefineClass(in.DefineModule(nil, "Math"), "DomainError", in.eArgument)

	x := in.cException
	self := func(c *Call) *Exception { return c.Self.(*Exception) }
	in.singletonClass(x).Def("exception", func(c *Call) (Value, error) { return c.In.Call(c.Self, "new", c.Args, c.Block) })
	x.DefN("initialize", 0, -1, func(c *Call) (Value, error) {
		e := self(c)
		e.Message = c.In.className(e.Class)
		if len(c.Args) > 0 && c.Args[0] != nil {
			e.message = c.Args[0]
			s, err := c.In.toS(c.Args[0])
			if err != nil {
				return nil, err
			}
			e.Message = s
		}
		return nil, nil
	})
	x.methods["initialize"].vis = private
	x.DefN("message", 0, 0, func(c *Call) (Value, error) {
		s, err := c.In.toS(c.Self)
		return NewString(s), err
	})
	x.DefN("to_s", 0, 0, func(c *Call) (Value, error) { return NewString(self(c).Message), nil })
	x.DefN("detailed_message", 0, -1, func(c *Call) (Value, error) { return NewString(self(c).Message), nil })
	x.DefN("full_message", 0, -1, func(c *Call) (Value, error) { return NewString(self(c).Message), nil })
	x.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		e := self(c)
		s, err := c.In.toS(e)
		if s == "" {
			return NewString(c.In.className(e.Class)), err
		}
		return NewString("#<" + c.In.className(e.Class) + ": " + s + ">"), err
	})
	x.DefN("backtrace", 0, 0, func(c *Call) (Value, error) {
		if b := self(c).Backtrace; b != nil {
			return Strings(b), nil
		}
		return nil, nil
	})
	x.DefN("set_backtrace", 1, 1, func(c *Call) (Value, error) {
		var lines []string
		list, many := c.Args[0].(*Array)
		if !many && c.Args[0] != nil {
			list = NewArray(c.Args[0])
		}
		for i := 0; list != nil && i < len(list.Elems); i++ {
			s, ok := list.Elems[i].(*String)
			if !ok {
				return nil, c.In.Raise(c.In.eType, "backtrace must be Array of String")
			}
			lines = append(lines, s.s)
		}
		if self(c).Backtrace = lines; list == nil {
			return nil, nil
		}
		return list, nil
	})
	x.DefN("cause", 0, 0, func(c *Call) (Value, error) {
		if k := self(c).Cause; k != nil {
			return k, nil
		}
		return nil, nil
	})
	x.DefN("exception", 0, 1, func(c *Call) (Value, error) {
		if len(c.Args) == 0 {
			return c.Self, nil
		}
		d := *self(c)
		s, err := c.In.toS(c.Args[0])
		d.Message = s
		return &d, err
	})
	x.DefN("==", 1, 1, func(c *Call) (Value, error) {
		o, ok := c.Args[0].(*Exception)
		return ok && (o == c.Self || o.Class == self(c).Class && o.Message == self(c).Message), nil
	})
	in.eName.DefN("name", 0, 0, func(c *Call) (Value, error) { return Symbol(self(c).Name), nil })
	in.eName.DefN("receiver", 0, 0, func(c *Call) (Value, error) { return self(c).Receiver, nil })
	in.eKey.DefN("initialize", 0, 2, func(c *Call) (Value, error) {
		if h, ok := c.Arg(len(c.Args) - 1).(*Hash); ok && h.kw {
			e := self(c)
			e.key, _ = h.Get(Symbol("key"))
			e.Receiver, _ = h.Get(Symbol("receiver"))
			c.Args = c.Args[:len(c.Args)-1]
		}
		return x.methods["initialize"].native(c)
	})
	in.eKey.methods["initialize"].vis = private
	in.eKey.DefN("receiver", 0, 0, func(c *Call) (Value, error) { return self(c).Receiver, nil })
	in.eKey.DefN("key", 0, 0, func(c *Call) (Value, error) { return self(c).key, nil })
	in.eStopIteration.DefN("result", 0, 0, func(c *Call) (Value, error) { return nil, nil })
}

// allocate returns a new instance of k, not yet initialized.
func (in *Interp) allocate(k *Class) Value {
	switch {
	case k.isExcept:
		return &Exception{Class: k, Message: in.className(k)}
	case k == in.cString:
		return &String{}
	case k == in.cArray:
		return &Array{}
	case k == in.cHash:
		return &Hash{}
	case k.Inherits(in.cString):
		return &String{ext: &ext{class: k}}
	case k.Inherits(in.cArray):
		return &Array{ext: &ext{class: k}}
	case k.Inherits(in.cHash):
		return &Hash{ext: &ext{class: k}}
	case k.Inherits(in.cSet):
		return &Object{Class: k, Data: &Hash{}}
	}
	if m := in.structMembers(k); m != nil {
		return &Object{Class: k, Data: &structData{members: m, values: make([]Value, len(m))}}
	}
	return &Object{Class: k}
}

func (in *Interp) bootObject() {
	b := in.cBasicObject
	b.Def("initialize", func(c *Call) (Value, error) { return nil, nil })
	b.Def("method_missing", func(c *Call) (Value, error) {
		if err := c.arity(1, -1); err != nil {
			return nil, err
		}
		name, err := c.In.methodName(c.Args[0])
		if err != nil {
			return nil, err
		}
		what := "undefined method"
		if m := c.In.dispatchClass(c.Self).find(name); m != nil && m.vis != public {
			what = visibilityNames[m.vis] + " method"
		}
		return nil, c.In.noMethod(what, c.Self, name)
	})
	b.methods["initialize"].vis, b.methods["method_missing"].vis = private, private
	b.DefN("==", 1, 1, func(c *Call) (Value, error) { return c.Self == c.Args[0], nil })
	b.DefN("equal?", 1, 1, func(c *Call) (Value, error) {
		if x, ok := c.Self.(*big.Int); ok {
			return c.In.Equal(x, c.Args[0]), nil
		}
		return c.Self == c.Args[0], nil
	})
	b.DefN("!", 0, 0, func(c *Call) (Value, error) { return !Truthy(c.Self), nil })
	b.DefN("!=", 1, 1, func(c *Call) (Value, error) {
		eq, err := c.In.equal(c.fr, c.Self, c.Args[0])
		return !eq, err
	})
	exec := func(c *Call) (Value, error) {
		if c.Block == nil {
			return nil, c.In.Raise(c.In.eSecurity, "evaluating a string is not available to a profile")
		}
		args := c.Args
		if c.Name == "instance_eval" {
			args = []Value{c.Self}
		}
		return c.In.InstanceExec(c.Self, c.Block, args...)
	}
	b.Def("instance_eval", exec)
	b.Def("instance_exec", exec)
	send := func(c *Call) (Value, error) {
		if err := c.arity(1, -1); err != nil {
			return nil, err
		}
		name, err := c.In.methodName(c.Args[0])
		if err != nil {
			return nil, err
		}
		return c.In.send(c.fr, c.Self, name, c.Args[1:], c.Block, c.Name != "public_send")
	}
	b.Def("__send__", send)

	k := in.cKernel
	k.Def("send", send)
	k.Def("public_send", send)
	k.DefN("class", 0, 0, func(c *Call) (Value, error) { return c.In.ClassOf(c.Self), nil })
	k.DefN("singleton_class", 0, 0, func(c *Call) (Value, error) { return c.In.singleton(c.Self) })
	k.DefN("frozen?", 0, 0, func(c *Call) (Value, error) { return c.In.frozen(c.Self), nil })
	k.DefN("freeze", 0, 0, func(c *Call) (Value, error) {
		switch v := c.Self.(type) {
		case *String:
			v.frozen = true
		case *Array:
			v.frozen = true
		case *Hash:
			v.frozen = true
		case *Object:
			v.frozen = true
		}
		return c.Self, nil
	})
	k.DefN("nil?", 0, 0, func(c *Call) (Value, error) { return c.Self == nil, nil })
	k.DefN("===", 1, 1, func(c *Call) (Value, error) { return c.In.equal(c.fr, c.Self, c.Args[0]) })
	k.DefN("=~", 1, 1, func(c *Call) (Value, error) { return nil, nil })
	k.DefN("!~", 1, 1, func(c *Call) (Value, error) {
		v, err := c.In.Call(c.Self, "=~", c.Args, nil)
		return !Truthy(v), err
	})
	k.DefN("eql?", 1, 1, func(c *Call) (Value, error) { return c.In.Eql(c.Self, c.Args[0]), nil })
	k.DefN("<=>", 1, 1, func(c *Call) (Value, error) {
		eq, err := c.In.equal(c.fr, c.Self, c.Args[0])
		if eq {
			return int64(0), err
		}
		return nil, err
	})
	k.DefN("hash", 0, 0, func(c *Call) (Value, error) {
		var h int64 = 14695981039346656037 & (1<<62 - 1)
		for _, b := range fmt.Appendf(nil, "%T%[1]v", (&Hash{}).hashKey(c.Self)) {
			h = (h ^ int64(b)) * 1099511628211 & (1<<62 - 1)
		}
		return h, nil
	})
	k.DefN("object_id", 0, 0, func(c *Call) (Value, error) {
		switch v := c.Self.(type) {
		case int64:
			return 2*v + 1, nil
		case nil:
			return int64(8), nil
		case *Object:
			c.In.address(&v.addr)
			return int64(v.addr >> 3), nil
		}
		c.In.addrs += 8
		return int64(c.In.addrs), nil
	})
	k.alias("object_id", "__id__")
	k.DefN("to_s", 0, 0, func(c *Call) (Value, error) { return NewString(c.In.anyToS(c.Self)), nil })
	k.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		o, ok := c.Self.(*Object)
		if !ok {
			return NewString(c.In.anyToS(c.Self)), nil
		}
		if o == c.In.main {
			return NewString("main"), nil
		}
		s, err := c.In.inspectObject(o)
		return NewString(s), err
	})
	isA := func(c *Call) (Value, error) {
		class, ok := c.Args[0].(*Class)
		if !ok {
			return nil, c.In.Raise(c.In.eType, "class or module required")
		}
		return c.In.IsA(c.Self, class), nil
	}
	k.DefN("is_a?", 1, 1, isA)
	k.DefN("kind_of?", 1, 1, isA)
	k.DefN("instance_of?", 1, 1, func(c *Call) (Value, error) {
		if _, ok := c.Args[0].(*Class); !ok {
			return nil, c.In.Raise(c.In.eType, "class or module required")
		}
		return c.In.ClassOf(c.Self) == c.Args[0], nil
	})
	k.DefN("respond_to?", 1, 2, func(c *Call) (Value, error) {
		name, err := c.In.methodName(c.Args[0])
		return c.In.respondTo(c.Self, name, Truthy(c.Arg(1))), err
	})
	k.DefN("respond_to_missing?", 2, 2, func(c *Call) (Value, error) { return false, nil })
	k.DefN("instance_variable_get", 1, 1, func(c *Call) (Value, error) {
		name, err := c.In.methodName(c.Args[0])
		v, _ := c.In.ivarGet(c.Self, name)
		return v, err
	})
	k.DefN("instance_variable_set", 2, 2, func(c *Call) (Value, error) {
		name, err := c.In.methodName(c.Args[0])
		if err != nil {
			return nil, err
		}
		return c.Args[1], c.In.ivarSet(c.Self, name, c.Args[1])
	})
	k.DefN("instance_variable_defined?", 1, 1, func(c *Call) (Value, error) {
		name, err := c.In.methodName(c.Args[0])
		_, ok := c.In.ivarGet(c.Self, name)
		return ok, err
	})
	k.DefN("remove_instance_variable", 1, 1, func(c *Call) (Value, error) {
		name, err := c.In.methodName(c.Args[0])
		if iv := c.In.ivarsOf(c.Self, true); iv != nil {
			return iv.remove(name), err
		}
		return nil, err
	})
	k.DefN("instance_variables", 0, 0, func(c *Call) (Value, error) {
		a := &Array{}
		if iv := c.In.ivarsOf(c.Self, false); iv != nil {
			for _, v := range *iv {
				a.Elems = append(a.Elems, Symbol(v.name))
			}
		}
		return a, nil
	})
	methods := func(c *Call) (Value, error) {
		seen := map[string]bool{}
		a := &Array{}
		for _, k := range c.In.dispatchClass(c.Self).ancestors() {
			if k == c.In.cObject || c.Name == "singleton_methods" && k.attached == nil {
				break
			}
			for _, n := range k.Methods() {
				if !seen[n] {
					seen[n] = true
					a.Elems = append(a.Elems, Symbol(n))
				}
			}
		}
		return a, nil
	}
	for _, n := range []string{"methods", "public_methods", "singleton_methods"} {
		k.DefN(n, 0, 1, methods)
	}
	k.DefN("method", 1, 1, func(c *Call) (Value, error) {
		name, err := c.In.methodName(c.Args[0])
		if err != nil {
			return nil, err
		}
		if !c.In.respondTo(c.Self, name, true) {
			return nil, c.In.Raise(c.In.eName, "undefined method `%s' for %s", name, c.In.describeReceiver(c.Self))
		}
		return &Object{Class: c.In.cMethod, Data: &boundMethod{c.Self, name, c.In.dispatchClass(c.Self).find(name)}}, nil
	})
	k.DefN("define_singleton_method", 1, 2, func(c *Call) (Value, error) {
		s, err := c.In.singleton(c.Self)
		if err != nil {
			return nil, err
		}
		return c.In.defineMethod(c, s)
	})
	k.DefN("extend", 1, -1, func(c *Call) (Value, error) {
		s, err := c.In.singleton(c.Self)
		if err != nil {
			return nil, err
		}
		for _, a := range c.Args {
			m, ok := a.(*Class)
			if !ok || !m.module {
				return nil, c.In.Raise(c.In.eType, "wrong argument type %s (expected module)", c.In.className(c.In.ClassOf(a)))
			}
			s.Include(m)
			if h := c.In.dispatchClass(m).find("extended"); h != nil {
				if _, err := c.In.invoke(c.fr, h, m, "extended", []Value{c.Self}, nil); err != nil {
					return nil, err
				}
			}
		}
		return c.Self, nil
	})
	k.DefN("tap", 0, 0, func(c *Call) (Value, error) {
		_, err := c.yield(c.Self)
		return c.Self, err
	})
	k.DefN("then", 0, 0, func(c *Call) (Value, error) { return c.yield(c.Self) })
	k.alias("then", "yield_self")
	k.DefN("itself", 0, 0, func(c *Call) (Value, error) { return c.Self, nil })
	k.DefN("dup", 0, 0, func(c *Call) (Value, error) { return c.In.dup(c.Self) })
	k.DefN("clone", 0, 1, func(c *Call) (Value, error) {
		v, err := c.In.dup(c.Self)
		if err == nil && c.In.frozen(c.Self) && len(c.Args) == 0 {
			return c.In.Call(v, "freeze", nil, nil)
		}
		return v, err
	})
	k.Def("instance_variable_names", func(c *Call) (Value, error) { return c.In.Call(c.Self, "instance_variables", nil, nil) })
	k.DefN("display", 0, 1, func(c *Call) (Value, error) { return nil, nil })
	k.Def("enum_for", func(c *Call) (Value, error) {
		name := "each"
		if len(c.Args) > 0 {
			name = c.In.ToS(c.Args[0])
			c.Args = c.Args[1:]
		}
		return c.In.enumerator(c.Self, name, c.Args), nil
	})
	k.alias("enum_for", "to_enum")

	m := in.cMethod
	bound := func(c *Call) *boundMethod { return c.Self.(*Object).Data.(*boundMethod) }
	call := func(c *Call) (Value, error) {
		b := bound(c)
		if b.m != nil {
			return c.In.invoke(c.fr, b.m, b.recv, b.name, c.Args, c.Block)
		}
		return c.In.send(c.fr, b.recv, b.name, c.Args, c.Block, true)
	}
	for _, n := range []string{"call", "()", "[]", "==="} {
		m.Def(n, call)
	}
	m.DefN("to_proc", 0, 0, func(c *Call) (Value, error) {
		b := bound(c)
		return &Proc{lambda: true, arity: -1, native: func(d *Call) (Value, error) {
			return d.In.send(nil, b.recv, b.name, d.Args, d.Block, true)
		}}, nil
	})
	m.DefN("name", 0, 0, func(c *Call) (Value, error) { return Symbol(bound(c).name), nil })
	m.DefN("receiver", 0, 0, func(c *Call) (Value, error) { return bound(c).recv, nil })
	m.DefN("unbind", 0, 0, func(c *Call) (Value, error) {
		b := *bound(c)
		b.recv = nil
		return &Object{Class: c.In.cUnbound, Data: &b}, nil
	})
	// bind is the method for the receiver in the first argument.
	bind := func(c *Call) (*boundMethod, error) {
		b := *bound(c)
		b.recv = c.Args[0]
		if b.m != nil && !b.m.owner.module && !c.In.IsA(b.recv, b.m.owner) {
			return nil, c.In.Raise(c.In.eType, "bind argument must be an instance of %s", c.In.className(b.m.owner))
		}
		return &b, nil
	}
	u := in.cUnbound
	u.DefN("bind", 1, 1, func(c *Call) (Value, error) {
		b, err := bind(c)
		if err != nil {
			return nil, err
		}
		return &Object{Class: c.In.cMethod, Data: b}, nil
	})
	u.DefN("bind_call", 1, -1, func(c *Call) (Value, error) {
		b, err := bind(c)
		if err != nil {
			return nil, err
		}
		if b.m == nil {
			return c.In.send(c.fr, b.recv, b.name, c.Args[1:], c.Block, true)
		}
		return c.In.invoke(c.fr, b.m, b.recv, b.name, c.Args[1:], c.Block)
	})
	m.DefN("owner", 0, 0, func(c *Call) (Value, error) {
		if b := bound(c); b.m != nil {
			return b.m.owner, nil
		}
		return nil, nil
	})
	m.DefN("arity", 0, 0, func(c *Call) (Value, error) {
		switch b := bound(c); {
		case b.m == nil:
			return int64(-1), nil
		case b.m.def != nil:
			return int64(b.m.def.params.arity()), nil
		case b.m.native != nil && b.m.min == b.m.max:
			return int64(b.m.min), nil
		case b.m.native != nil:
			return int64(-b.m.min - 1), nil
		}
		return int64(0), nil
	})
	m.DefN("source_location", 0, 0, func(c *Call) (Value, error) {
		if b := bound(c); b.m != nil && b.m.def != nil {
			return NewArray(NewString(b.m.def.prog.File), int64(b.m.def.line)), nil
		}
		return nil, nil
	})
	for _, name := range []string{"name", "owner", "arity", "source_location"} {
		f := *m.methods[name]
		u.define(&f)
	}
	for _, k := range []*Class{m, u} {
		k.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
			b, of := bound(c), c.In.ClassOf(bound(c).recv)
			where := "(*)"
			if b.m != nil {
				of = b.m.owner
				if d := b.m.def; d != nil {
					where = fmt.Sprintf("(%s) %s:%d", strings.Repeat("_, ", d.params.required()), d.prog.File, d.line)
					where = strings.Replace(where, ", )", ")", 1)
				}
			}
			return NewString("#<" + c.Self.(*Object).Class.Name + ": " + c.In.className(of) + "#" + b.name + where + ">"), nil
		})
	}

	n := in.cNil
	n.DefN("to_s", 0, 0, func(c *Call) (Value, error) { return &String{frozen: true}, nil })
	n.DefN("to_a", 0, 0, func(c *Call) (Value, error) { return NewArray(), nil })
	n.DefN("to_h", 0, 0, func(c *Call) (Value, error) { return NewHash(), nil })
	n.DefN("to_i", 0, 0, func(c *Call) (Value, error) { return int64(0), nil })
	n.DefN("to_f", 0, 0, func(c *Call) (Value, error) { return 0.0, nil })
	n.DefN("inspect", 0, 0, func(c *Call) (Value, error) { return NewString("nil"), nil })
	for _, k := range []*Class{in.cTrue, in.cFalse} {
		k.DefN("to_s", 0, 0, func(c *Call) (Value, error) { return NewString(fmt.Sprint(c.Self)), nil })
		k.alias("to_s", "inspect")
	}
	for _, k := range []*Class{in.cNil, in.cTrue, in.cFalse} {
		k.DefN("&", 1, 1, func(c *Call) (Value, error) { return Truthy(c.Self) && Truthy(c.Args[0]), nil })
		k.DefN("|", 1, 1, func(c *Call) (Value, error) { return Truthy(c.Self) || Truthy(c.Args[0]), nil })
		k.DefN("^", 1, 1, func(c *Call) (Value, error) { return Truthy(c.Self) != Truthy(c.Args[0]), nil })
	}
}

type boundMethod struct {
	recv Value
	name string
	m    *method
}

func (in *Interp) methodName(v Value) (string, error) {
	switch v := v.(type) {
	case Symbol:
		return string(v), nil
	case *String:
		return v.s, nil
	}
	return "", in.Raise(in.eType, "%s", in.Inspect(v)+" is not a symbol nor a string")
}

func (in *Interp) dup(v Value) (Value, error) {
	cp := func(e *ext) *ext {
		if e == nil {
			return nil
		}
		return &ext{class: e.class, ivars: append(ivars(nil), e.ivars...)}
	}
	var out Value
	switch v := v.(type) {
	case *String:
		out = &String{s: v.s, ext: cp(v.ext)}
	case *Array:
		if err := in.charge(48 + 16*len(v.Elems)); err != nil {
			return nil, err
		}
		out = &Array{Elems: append([]Value(nil), v.Elems...), ext: cp(v.ext)}
	case *Hash:
		if err := in.charge(64 + 80*v.Len()); err != nil {
			return nil, err
		}
		h := &Hash{Default: v.Default, DefaultProc: v.DefaultProc, ext: cp(v.ext)}
		h.copyEntries(v)
		out = h
	case *Object:
		o := &Object{Class: v.Class, Data: v.Data, ivars: append(ivars(nil), v.ivars...)}
		switch d := v.Data.(type) {
		case *Hash:
			h := &Hash{}
			h.copyEntries(d)
			o.Data = h
		case *structData:
			o.Data = &structData{d.members, append([]Value(nil), d.values...)}
		}
		out = o
	case *Class:
		k := *v
		k.Name, k.mro, k.cache = "", nil, nil
		k.methods = map[string]*method{}
		for n, m := range v.methods {
			k.methods[n] = m
		}
		return &k, nil
	case *Exception:
		e := *v
		return &e, nil
	default:
		return v, nil
	}
	if m := in.dispatchClass(out).find("initialize_copy"); m != nil {
		if _, err := in.invoke(nil, m, out, "initialize_copy", []Value{v}, nil); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// defineMethod is define_method of class k.
func (in *Interp) defineMethod(c *Call, k *Class) (Value, error) {
	name, err := in.methodName(c.Args[0])
	if err != nil {
		return nil, err
	}
	m := &method{name: name, proc: c.Block}
	if len(c.Args) > 1 {
		switch b := c.Args[1].(type) {
		case *Proc:
			m.proc = b
		case *Object:
			bm, ok := b.Data.(*boundMethod)
			if !ok {
				return nil, in.Raise(in.eType, "wrong argument type %s (expected Proc/Method/UnboundMethod)", in.className(in.ClassOf(b)))
			}
			if bm.m != nil {
				if !bm.m.owner.module && !k.Inherits(bm.m.owner) {
					return nil, in.Raise(in.eType, "bind argument must be a subclass of %s", in.className(bm.m.owner))
				}
				cp := *bm.m
				cp.name = name
				k.define(&cp)
				return Symbol(name), nil
			}
		}
	}
	if m.proc == nil {
		return nil, in.Raise(in.eArgument, "tried to create Proc object without a block")
	}
	if c.fr != nil && c.fr.self == Value(k) {
		m.vis = c.fr.home.vis
	}
	k.define(m)
	return Symbol(name), nil
}

func (in *Interp) bootModule() {
	m := in.cModule
	// What classes may override to hear of their use.
	for _, n := range []string{"included", "extended", "prepended", "method_added", "inherited", "const_added"} {
		k := m
		if n == "inherited" {
			k = in.cClass
		}
		k.DefN(n, 1, 1, func(c *Call) (Value, error) { return nil, nil })
		k.methods[n].vis = private
	}
	self := func(c *Call) *Class { return c.Self.(*Class) }
	m.DefN("name", 0, 0, func(c *Call) (Value, error) {
		if k := self(c); k.Name != "" {
			return NewString(k.Name), nil
		}
		return nil, nil
	})
	m.DefN("to_s", 0, 0, func(c *Call) (Value, error) { return NewString(c.In.className(self(c))), nil })
	m.alias("to_s", "inspect")
	m.DefN("===", 1, 1, func(c *Call) (Value, error) { return c.In.IsA(c.Args[0], self(c)), nil })
	m.DefN("==", 1, 1, func(c *Call) (Value, error) { return c.Self == c.Args[0], nil })
	rel := func(test func(a, b *Class) Value) native {
		return func(c *Call) (Value, error) {
			b, ok := c.Args[0].(*Class)
			if !ok {
				return nil, c.In.Raise(c.In.eType, "compared with non class/module")
			}
			return test(self(c), b), nil
		}
	}
	m.DefN("<", 1, 1, rel(func(a, b *Class) Value {
		if a != b && a.Inherits(b) {
			return true
		}
		if b.Inherits(a) {
			return false
		}
		return nil
	}))
	m.DefN("<=", 1, 1, rel(func(a, b *Class) Value {
		if a.Inherits(b) {
			return true
		}
		if b.Inherits(a) {
			return false
		}
		return nil
	}))
	m.DefN(">", 1, 1, rel(func(a, b *Class) Value { return a != b && b.Inherits(a) }))
	m.DefN(">=", 1, 1, rel(func(a, b *Class) Value { return b.Inherits(a) }))
	m.DefN("ancestors", 0, 0, func(c *Call) (Value, error) {
		a := &Array{}
		for _, k := range self(c).ancestors() {
			a.Elems = append(a.Elems, k)
		}
		return a, nil
	})
	m.DefN("include?", 1, 1, rel(func(a, b *Class) Value { return a != b && b.module && a.Inherits(b) }))
	mix := func(c *Call) (Value, error) {
		for i := len(c.Args) - 1; i >= 0; i-- {
			mod, ok := c.Args[i].(*Class)
			if !ok || !mod.module {
				return nil, c.In.Raise(c.In.eType, "wrong argument type %s (expected module)", c.In.className(c.In.ClassOf(c.Args[i])))
			}
			hook := "included"
			if c.Name == "prepend" {
				hook = "prepended"
				self(c).prepends = append(self(c).prepends, mod)
				c.In.epoch++
			} else {
				self(c).Include(mod)
			}
			if h := c.In.dispatchClass(mod).find(hook); h != nil {
				if _, err := c.In.invoke(c.fr, h, mod, hook, []Value{c.Self}, nil); err != nil {
					return nil, err
				}
			}
		}
		return c.Self, nil
	}
	m.DefN("include", 1, -1, mix)
	m.DefN("prepend", 1, -1, mix)
	attr := func(c *Call) (Value, error) {
		out := &Array{}
		for _, a := range c.Args {
			name, err := c.In.methodName(a)
			if err != nil {
				return nil, err
			}
			vis := public
			if c.fr != nil && c.fr.self == c.Self {
				vis = c.fr.home.vis
			}
			if c.Name != "attr_writer" {
				self(c).define(&method{name: name, getter: "@" + name, vis: vis})
				out.Elems = append(out.Elems, Symbol(name))
			}
			if c.Name == "attr_writer" || c.Name == "attr_accessor" {
				self(c).define(&method{name: name + "=", setter: "@" + name, vis: vis})
				out.Elems = append(out.Elems, Symbol(name+"="))
			}
		}
		return out, nil
	}
	for _, n := range []string{"attr_reader", "attr_writer", "attr_accessor", "attr"} {
		m.Def(n, attr)
	}
	setVis := func(vis visibility) native {
		return func(c *Call) (Value, error) {
			k, ok := c.Self.(*Class)
			if !ok {
				k = c.In.cObject
			}
			if len(c.Args) == 0 {
				if c.fr != nil {
					c.fr.home.vis, c.fr.home.moduleFunc = vis, false
				}
				return nil, nil
			}
			names := c.Args
			if a, ok := names[0].(*Array); ok {
				names = a.Elems
			}
			for _, a := range names {
				name, err := c.In.methodName(a)
				if err != nil {
					return nil, err
				}
				found := k.find(name)
				if found == nil {
					return nil, c.In.Raise(c.In.eName, "undefined method `%s' for class `%s'", name, c.In.className(k))
				}
				cp := *found
				cp.vis = vis
				owner := cp.owner
				k.define(&cp)
				if owner != k && found.native == nil {
					cp.owner = k
				}
			}
			return c.Args[0], nil
		}
	}
	m.Def("public", setVis(public))
	m.Def("private", setVis(private))
	m.Def("protected", setVis(protected))
	ms, _ := in.singleton(in.main)
	ms.Def("public", setVis(public))
	ms.Def("private", setVis(private))
	ms.Def("include", func(c *Call) (Value, error) { return c.In.Call(c.In.cObject, "include", c.Args, nil) })
	ms.Def("define_method", func(c *Call) (Value, error) { return c.In.defineMethod(c, c.In.cObject) })
	m.Def("module_function", func(c *Call) (Value, error) {
		if len(c.Args) == 0 {
			if c.fr != nil {
				c.fr.home.moduleFunc = true
			}
			return nil, nil
		}
		for _, a := range c.Args {
			name, err := c.In.methodName(a)
			if err != nil {
				return nil, err
			}
			if f := self(c).find(name); f != nil {
				cp := *f
				cp.vis = public
				c.In.singletonClass(self(c)).define(&cp)
			}
		}
		return nil, nil
	})
	m.Def("private_class_method", func(c *Call) (Value, error) {
		for _, a := range c.Args {
			name, err := c.In.methodName(a)
			if err != nil {
				return nil, err
			}
			s := c.In.singletonClass(self(c))
			if f := s.find(name); f != nil {
				cp := *f
				cp.vis = private
				s.define(&cp)
			}
		}
		return nil, nil
	})
	for _, n := range []string{"public_class_method", "private_constant", "deprecate_constant", "public_constant", "using", "refine", "autoload"} {
		m.Def(n, func(c *Call) (Value, error) { return nil, nil })
	}
	m.DefN("define_method", 1, 2, func(c *Call) (Value, error) { return c.In.defineMethod(c, self(c)) })
	m.DefN("alias_method", 2, 2, func(c *Call) (Value, error) {
		to, err := c.In.methodName(c.Args[0])
		if err != nil {
			return nil, err
		}
		from, err := c.In.methodName(c.Args[1])
		if err != nil {
			return nil, err
		}
		return Symbol(to), c.In.alias(self(c), to, from)
	})
	undef := func(c *Call) (Value, error) {
		for _, a := range c.Args {
			name, err := c.In.methodName(a)
			if err != nil {
				return nil, err
			}
			if c.Name == "undef_method" {
				self(c).Undef(name)
			} else {
				delete(self(c).methods, name)
				c.In.epoch++
			}
		}
		return c.Self, nil
	}
	m.Def("undef_method", undef)
	m.Def("remove_method", undef)
	m.DefN("instance_methods", 0, 1, func(c *Call) (Value, error) {
		a := &Array{}
		seen := map[string]bool{}
		for _, k := range self(c).ancestors() {
			if k == c.In.cObject && k != self(c) {
				break
			}
			for _, n := range k.Methods() {
				if !seen[n] {
					seen[n] = true
					a.Elems = append(a.Elems, Symbol(n))
				}
			}
			if len(c.Args) > 0 && !Truthy(c.Args[0]) {
				break
			}
		}
		return a, nil
	})
	m.alias("instance_methods", "public_instance_methods")
	defined := func(c *Call) (Value, error) {
		name, err := c.In.methodName(c.Args[0])
		f := self(c).find(name)
		switch c.Name {
		case "private_method_defined?":
			return f != nil && f.vis == private, err
		}
		return f != nil && f.vis != private, err
	}
	for _, n := range []string{"method_defined?", "public_method_defined?", "private_method_defined?", "instance_methods_include?"} {
		m.DefN(n, 1, 2, defined)
	}
	m.DefN("instance_method", 1, 1, func(c *Call) (Value, error) {
		name, err := c.In.methodName(c.Args[0])
		if err != nil {
			return nil, err
		}
		f := self(c).find(name)
		if f == nil {
			return nil, c.In.Raise(c.In.eName, "undefined method `%s' for class `%s'", name, c.In.className(self(c)))
		}
		return &Object{Class: c.In.cUnbound, Data: &boundMethod{nil, name, f}}, nil
	})
	m.DefN("const_get", 1, 2, func(c *Call) (Value, error) {
		name, err := c.In.methodName(c.Args[0])
		if err != nil {
			return nil, err
		}
		k := self(c)
		for _, part := range strings.Split(name, "::") {
			if part == "" {
				k = c.In.cObject
				continue
			}
			v, ok := c.In.constIn(k, part)
			if !ok {
				if v, ok = c.In.cObject.consts[part]; !ok {
					if v, err = c.In.constMissing(k, part); err != nil {
						return nil, err
					}
				}
			}
			next, isClass := v.(*Class)
			if !isClass {
				return v, nil
			}
			k = next
		}
		return k, nil
	})
	m.DefN("const_set", 2, 2, func(c *Call) (Value, error) {
		name, err := c.In.methodName(c.Args[0])
		if err == nil {
			self(c).SetConst(name, c.Args[1])
		}
		return c.Args[1], err
	})
	m.DefN("const_defined?", 1, 2, func(c *Call) (Value, error) {
		name, err := c.In.methodName(c.Args[0])
		_, ok := c.In.constIn(self(c), name)
		if !ok {
			_, ok = c.In.cObject.consts[name]
		}
		return ok, err
	})
	m.DefN("remove_const", 1, 1, func(c *Call) (Value, error) {
		name, err := c.In.methodName(c.Args[0])
		v := self(c).consts[name]
		delete(self(c).consts, name)
		return v, err
	})
	m.DefN("constants", 0, 1, func(c *Call) (Value, error) {
		a := &Array{}
		for _, n := range self(c).constOrd {
			a.Elems = append(a.Elems, Symbol(n))
		}
		return a, nil
	})
	m.DefN("class_variable_get", 1, 1, func(c *Call) (Value, error) {
		name, err := c.In.methodName(c.Args[0])
		return self(c).cvars[name], err
	})
	m.DefN("class_variable_set", 2, 2, func(c *Call) (Value, error) {
		name, err := c.In.methodName(c.Args[0])
		if self(c).cvars == nil {
			self(c).cvars = map[string]Value{}
		}
		self(c).cvars[name] = c.Args[1]
		return c.Args[1], err
	})
	m.DefN("class_variable_defined?", 1, 1, func(c *Call) (Value, error) {
		name, err := c.In.methodName(c.Args[0])
		_, ok := self(c).cvars[name]
		return ok, err
	})
	eval := func(c *Call) (Value, error) {
		if c.Block == nil {
			return nil, c.In.Raise(c.In.eSecurity, "evaluating a string is not available to a profile")
		}
		args := c.Args
		if strings.HasSuffix(c.Name, "eval") {
			args = []Value{c.Self}
		}
		return c.In.ClassExec(self(c), c.Block, args...)
	}
	for _, n := range []string{"class_eval", "class_exec", "module_eval", "module_exec"} {
		m.Def(n, eval)
	}
	m.DefN("hash", 0, 0, in.cKernel.methods["hash"].native)
	m.DefN("module_parent_name", 0, 0, func(c *Call) (Value, error) { return nil, nil })

	k := in.cClass
	k.Def("new", func(c *Call) (Value, error) {
		class := self(c)
		if class.attached != nil {
			return nil, c.In.Raise(c.In.eType, "can't create instance of singleton class")
		}
		n := 64
		if class.isExcept {
			n = 320
		} else if class.Inherits(c.In.cSet) {
			n = 256
		}
		if err := c.In.charge(n); err != nil {
			return nil, err
		}
		if class.noAlloc && c.In.structMembers(class) == nil {
			return nil, c.In.Raise(c.In.eType, "allocator undefined for %s", c.In.className(class))
		}
		o := c.In.allocate(class)
		init := class.find("initialize")
		if init.owner == c.In.cBasicObject {
			if len(c.Args) > 0 {
				return nil, c.In.arityError(len(c.Args), 0, 0)
			}
			return o, nil
		}
		_, err := c.In.invoke(c.fr, init, o, "initialize", c.Args, c.Block)
		return o, err
	})
	k.DefN("allocate", 0, 0, func(c *Call) (Value, error) {
		if k := self(c); k.noAlloc && c.In.structMembers(k) == nil || k.attached != nil {
			return nil, c.In.Raise(c.In.eType, "allocator undefined for %s", c.In.className(k))
		}
		return c.In.allocate(self(c)), nil
	})
	k.DefN("superclass", 0, 0, func(c *Call) (Value, error) {
		if s := self(c).Super; s != nil {
			return s, nil
		}
		return nil, nil
	})
	in.singletonClass(in.cClass).DefN("new", 0, 1, func(c *Call) (Value, error) {
		super := c.In.cObject
		if len(c.Args) > 0 {
			ok := false
			if super, ok = c.Args[0].(*Class); !ok || super.module {
				return nil, c.In.Raise(c.In.eType, "superclass must be a Class (%s given)", c.In.className(c.In.ClassOf(c.Args[0])))
			}
		}
		if super == c.In.cClass {
			return nil, c.In.Raise(c.In.eType, "can't make subclass of Class")
		}
		n := c.In.newClass(super, false)
		if err := c.In.inherited(c.fr, n); err != nil {
			return nil, err
		}
		if c.Block != nil {
			if _, err := c.In.ClassExec(n, c.Block, n); err != nil {
				return nil, err
			}
		}
		return n, nil
	})
	in.singletonClass(in.cModule).DefN("new", 0, 0, func(c *Call) (Value, error) {
		n := c.In.newClass(nil, true)
		if c.Block != nil {
			if _, err := c.In.ClassExec(n, c.Block, n); err != nil {
				return nil, err
			}
		}
		return n, nil
	})
}

func (in *Interp) bootComparable() {
	k := in.cComparable
	op := func(test func(n int) bool) native {
		return func(c *Call) (Value, error) {
			n, err := c.In.compare(c.Self, c.Args[0])
			return test(n), err
		}
	}
	k.DefN("<", 1, 1, op(func(n int) bool { return n < 0 }))
	k.DefN("<=", 1, 1, op(func(n int) bool { return n <= 0 }))
	k.DefN(">", 1, 1, op(func(n int) bool { return n > 0 }))
	k.DefN(">=", 1, 1, op(func(n int) bool { return n >= 0 }))
	k.DefN("==", 1, 1, func(c *Call) (Value, error) {
		if c.Self == c.Args[0] {
			return true, nil
		}
		n, ok, err := c.In.Compare(c.Self, c.Args[0])
		return ok && n == 0, err
	})
	k.DefN("between?", 2, 2, func(c *Call) (Value, error) {
		n, err := c.In.compare(c.Self, c.Args[0])
		if err != nil || n < 0 {
			return false, err
		}
		n, err = c.In.compare(c.Self, c.Args[1])
		return n <= 0, err
	})
	k.DefN("clamp", 1, 2, func(c *Call) (Value, error) {
		lo, hi := c.Args[0], c.Arg(1)
		if r, ok := lo.(*Range); ok {
			lo, hi = r.Lo, r.Hi
		}
		if lo != nil {
			if n, err := c.In.compare(c.Self, lo); err != nil || n < 0 {
				return lo, err
			}
		}
		if hi != nil {
			if n, err := c.In.compare(c.Self, hi); err != nil || n > 0 {
				return hi, err
			}
		}
		return c.Self, nil
	})
}
