package ruby

import (
	"slices"
	"strings"
)

// structData is the payload of a Struct's instance.
type structData struct {
	members []string
	values  []Value
}

func (d *structData) index(name string) int {
	for i, m := range d.members {
		if m == name {
			return i
		}
	}
	return -1
}

type structClass struct {
	members []string
	keyword bool
}

func (in *Interp) structMembers(k *Class) []string {
	for ; k != nil; k = k.Super {
		if d, ok := k.data.(*structClass); ok {
			return d.members
		}
	}
	return nil
}

func (in *Interp) bootStruct() {
	s := in.cStruct
	self := func(c *Call) *structData { return c.Self.(*Object).Data.(*structData) }
	in.singletonClass(s).Def("new", func(c *Call) (Value, error) {
		if c.Self != Value(in.cStruct) {
			return c.In.cClass.methods["new"].native(c)
		}
		d := &structClass{}
		name := ""
		for _, a := range c.Args {
			switch a := a.(type) {
			case Symbol:
				d.members = append(d.members, string(a))
			case *String:
				name = a.s
			case *Hash:
				v, _ := a.Get(Symbol("keyword_init"))
				d.keyword = Truthy(v)
			default:
				return nil, c.In.Raise(c.In.eType, "%s", c.In.Inspect(a)+" is not a symbol nor a string")
			}
		}
		k := c.In.newClass(in.cStruct, false)
		k.data = d
		if name != "" {
			in.cStruct.SetConst(name, k)
		}
		for i, m := range d.members {
			k.DefN(m, 0, 0, func(c *Call) (Value, error) { return self(c).values[i], nil })
			k.DefN(m+"=", 1, 1, func(c *Call) (Value, error) {
				if c.Self.(*Object).frozen {
					return nil, c.In.frozenError(c.Self)
				}
				self(c).values[i] = c.Args[0]
				return c.Args[0], nil
			})
		}
		in.singletonClass(k).DefN("members", 0, 0, func(c *Call) (Value, error) { return symbols(d.members), nil })
		in.singletonClass(k).Def("[]", func(c *Call) (Value, error) { return c.In.Call(c.Self, "new", c.Args, nil) })
		if c.Block != nil {
			if _, err := c.In.ClassExec(k, c.Block, k); err != nil {
				return nil, err
			}
		}
		return k, nil
	})
	s.Def("initialize", func(c *Call) (Value, error) {
		d := self(c)
		keyword := false
		for k := c.Self.(*Object).Class; k != nil; k = k.Super {
			if sc, ok := k.data.(*structClass); ok {
				keyword = sc.keyword
			}
		}
		if h, ok := c.Arg(0).(*Hash); ok && keyword {
			return nil, h.Each(func(k, v Value) error {
				i := d.index(c.In.ToS(k))
				if i < 0 {
					return c.In.Raise(c.In.eArgument, "unknown keywords: %s", c.In.ToS(k))
				}
				d.values[i] = v
				return nil
			})
		}
		if len(c.Args) > len(d.values) {
			return nil, c.In.Raise(c.In.eArgument, "struct size differs")
		}
		copy(d.values, c.Args)
		return nil, nil
	})
	s.DefN("to_a", 0, 0, func(c *Call) (Value, error) { return &Array{Elems: append([]Value(nil), self(c).values...)}, nil })
	s.alias("to_a", "values", "deconstruct")
	s.DefN("to_h", 0, 0, func(c *Call) (Value, error) {
		h := &Hash{}
		for i, m := range self(c).members {
			h.Set(Symbol(m), self(c).values[i])
		}
		return h, nil
	})
	s.DefN("deconstruct_keys", 1, 1, func(c *Call) (Value, error) {
		h := &Hash{}
		keys, some := c.Args[0].(*Array)
		for i, m := range self(c).members {
			if !some || slices.Contains(keys.Elems, Value(Symbol(m))) {
				h.Set(Symbol(m), self(c).values[i])
			}
		}
		return h, nil
	})
	s.DefN("values_at", 0, -1, func(c *Call) (Value, error) {
		return c.In.send(c.fr, NewArray(self(c).values...), "values_at", c.Args, nil, false)
	})
	s.DefN("members", 0, 0, func(c *Call) (Value, error) { return symbols(self(c).members), nil })
	at := func(c *Call) (int, error) {
		if i, ok := c.Args[0].(int64); ok {
			if n := int64(len(self(c).values)); i < -n || i >= n {
				return 0, c.In.Raise(c.In.eIndex, "offset %d too large for struct(size:%d)", i, n)
			} else if i < 0 {
				i += n
				return int(i), nil
			}
			return int(i), nil
		}
		name, err := c.In.methodName(c.Args[0])
		if err != nil {
			return 0, err
		}
		if i := self(c).index(name); i >= 0 {
			return i, nil
		}
		return 0, c.In.Raise(c.In.eName, "no member '%s' in struct", name)
	}
	s.DefN("[]", 1, 1, func(c *Call) (Value, error) {
		i, err := at(c)
		if err != nil {
			return nil, err
		}
		return self(c).values[i], nil
	})
	s.DefN("[]=", 2, 2, func(c *Call) (Value, error) {
		i, err := at(c)
		if err == nil {
			self(c).values[i] = c.Args[1]
		}
		return c.Args[1], err
	})
	s.DefN("dig", 1, -1, dig)
	s.DefN("each", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		return c.Self, c.In.iterate(c.Self, func(v Value) error { _, err := c.yield(v); return err })
	})
	s.DefN("each_pair", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		for i, m := range self(c).members {
			if _, err := c.yield(Symbol(m), self(c).values[i]); err != nil {
				return nil, err
			}
		}
		return c.Self, nil
	})
	s.DefN("==", 1, 1, func(c *Call) (Value, error) {
		o, ok := c.Args[0].(*Object)
		if !ok || o.Class != c.Self.(*Object).Class {
			return false, nil
		}
		err := c.In.arraysEqual(c.fr, &Array{Elems: self(c).values}, &Array{Elems: o.Data.(*structData).values}, &ok)
		return ok, err
	})
	s.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		var b strings.Builder
		b.WriteString("#<struct ")
		if k := c.Self.(*Object).Class; k.Name != "" {
			b.WriteString(k.Name + " ")
		}
		if c.In.inspecting(c.Self) {
			return NewString(b.String() + ":...>"), nil
		}
		err := c.In.guarded(c.Self, func() error {
			for i, m := range self(c).members {
				if i > 0 {
					b.WriteString(", ")
				}
				v, err := c.In.inspect(self(c).values[i])
				if err != nil {
					return err
				}
				b.WriteString(m + "=" + v)
			}
			return nil
		})
		return NewString(b.String() + ">"), err
	})
	s.alias("inspect", "to_s")
	in.bootSet()
	in.bootOpenStruct()
}

func symbols(names []string) *Array {
	a := &Array{}
	for _, n := range names {
		a.Elems = append(a.Elems, Symbol(n))
	}
	return a
}

func (in *Interp) bootSet() {
	s := in.cSet
	self := func(c *Call) *Hash { return c.Self.(*Object).Data.(*Hash) }
	wrap := func(c *Call, h *Hash) Value { return &Object{Class: c.Self.(*Object).Class, Data: h} }
	s.DefN("initialize", 0, 1, func(c *Call) (Value, error) {
		if len(c.Args) == 0 || c.Args[0] == nil {
			return nil, nil
		}
		return nil, c.In.iterate(c.Args[0], func(v Value) error {
			if c.Block != nil {
				var err error
				if v, err = c.yield(v); err != nil {
					return err
				}
			}
			return c.In.hashSet(self(c), v, true)
		})
	})
	in.singletonClass(s).Def("[]", func(c *Call) (Value, error) {
		return c.In.Call(c.Self, "new", []Value{&Array{Elems: c.Args}}, nil)
	})
	s.DefN("each", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		return c.Self, self(c).Each(func(k, _ Value) error { _, err := c.yield(k); return err })
	})
	s.DefN("add", 1, 1, func(c *Call) (Value, error) { return c.Self, c.In.hashSet(self(c), c.Args[0], true) })
	s.alias("add", "<<")
	s.DefN("add?", 1, 1, func(c *Call) (Value, error) {
		if _, ok := self(c).Get(c.Args[0]); ok {
			return nil, nil
		}
		return c.Self, c.In.hashSet(self(c), c.Args[0], true)
	})
	s.DefN("delete", 1, 1, func(c *Call) (Value, error) { self(c).Delete(c.Args[0]); return c.Self, nil })
	s.DefN("merge", 0, -1, func(c *Call) (Value, error) {
		for _, a := range c.Args {
			if err := c.In.iterate(a, func(v Value) error { return c.In.hashSet(self(c), v, true) }); err != nil {
				return nil, err
			}
		}
		return c.Self, nil
	})
	s.DefN("include?", 1, 1, func(c *Call) (Value, error) { _, ok := self(c).Get(c.Args[0]); return ok, nil })
	s.alias("include?", "member?", "===", "contain?")
	s.DefN("size", 0, 0, func(c *Call) (Value, error) { return int64(self(c).Len()), nil })
	s.alias("size", "length")
	count := in.cEnumerable.methods["count"].native
	s.DefN("count", 0, 1, count)
	s.DefN("empty?", 0, 0, func(c *Call) (Value, error) { return self(c).Len() == 0, nil })
	s.DefN("to_a", 0, 0, func(c *Call) (Value, error) { return c.In.newArray(self(c).Keys()) })
	s.DefN("join", 0, 1, func(c *Call) (Value, error) {
		a, err := c.In.newArray(self(c).Keys())
		if err != nil {
			return nil, err
		}
		return c.In.Call(a, "join", c.Args, nil)
	})
	s.DefN("to_set", 0, 0, func(c *Call) (Value, error) { return c.Self, nil })
	combine := func(keep func(inA, inB bool) bool) native {
		return func(c *Call) (Value, error) {
			b := &Hash{}
			if err := c.In.iterate(c.Args[0], func(v Value) error { return c.In.hashSet(b, v, true) }); err != nil {
				return nil, err
			}
			out := &Hash{}
			order := []*Hash{self(c), b}
			if c.Name == "^" {
				order = []*Hash{b, self(c)}
			}
			for _, src := range order {
				for _, v := range src.Keys() {
					_, inA := self(c).Get(v)
					_, inB := b.Get(v)
					if keep(inA, inB) {
						out.Set(v, true)
					}
				}
			}
			return wrap(c, out), nil
		}
	}
	s.DefN("|", 1, 1, combine(func(a, b bool) bool { return true }))
	s.alias("|", "+", "union")
	s.DefN("&", 1, 1, combine(func(a, b bool) bool { return a && b }))
	s.alias("&", "intersection")
	s.DefN("-", 1, 1, combine(func(a, b bool) bool { return a && !b }))
	s.alias("-", "difference")
	s.DefN("^", 1, 1, combine(func(a, b bool) bool { return a != b }))
	compare := func(test func(a, b *Hash, all bool) bool) native {
		return func(c *Call) (Value, error) {
			o, ok := c.Args[0].(*Object)
			if !ok || !o.Class.Inherits(in.cSet) {
				return nil, c.In.Raise(c.In.eArgument, "value must be a set")
			}
			b := o.Data.(*Hash)
			all := true
			for _, v := range self(c).Keys() {
				if _, ok := b.Get(v); !ok {
					all = false
				}
			}
			return test(self(c), b, all), nil
		}
	}
	s.DefN("subset?", 1, 1, compare(func(a, b *Hash, all bool) bool { return all }))
	s.alias("subset?", "<=")
	s.DefN("proper_subset?", 1, 1, compare(func(a, b *Hash, all bool) bool { return all && a.Len() < b.Len() }))
	s.alias("proper_subset?", "<")
	flip := func(name string) native {
		return func(c *Call) (Value, error) { return c.In.Call(c.Args[0], name, []Value{c.Self}, nil) }
	}
	s.DefN("superset?", 1, 1, flip("subset?"))
	s.alias("superset?", ">=")
	s.DefN("proper_superset?", 1, 1, flip("proper_subset?"))
	s.alias("proper_superset?", ">")
	s.DefN("disjoint?", 1, 1, func(c *Call) (Value, error) {
		v, err := combine(func(a, b bool) bool { return a && b })(c)
		if err != nil {
			return nil, err
		}
		return (v.(*Object).Data.(*Hash).Len() == 0) == (c.Name == "disjoint?"), nil
	})
	s.alias("disjoint?", "intersect?")
	s.DefN("==", 1, 1, func(c *Call) (Value, error) {
		o, ok := c.Args[0].(*Object)
		if !ok || !o.Class.Inherits(in.cSet) || o.Data.(*Hash).Len() != self(c).Len() {
			return false, nil
		}
		return compare(func(a, b *Hash, all bool) bool { return all })(c)
	})
	s.DefN("hash", 0, 0, func(c *Call) (Value, error) {
		sum := int64(0)
		for _, k := range self(c).Keys() {
			sum += int64(self(c).sum(k))
		}
		return sum, nil
	})
	s.DefN("flatten", 0, 0, func(c *Call) (Value, error) {
		out := &Hash{}
		var add func(h *Hash) error
		add = func(h *Hash) error {
			return h.Each(func(k, _ Value) error {
				if o, ok := k.(*Object); ok && o.Class.Inherits(in.cSet) {
					return c.In.deeper(func() error { return add(o.Data.(*Hash)) })
				}
				return c.In.hashSet(out, k, true)
			})
		}
		return wrap(c, out), add(self(c))
	})
	s.DefN("delete_if", 0, 0, func(c *Call) (Value, error) {
		return c.Self, self(c).Each(func(k, _ Value) error {
			ok, err := c.test(k)
			if ok {
				self(c).Delete(k)
			}
			return err
		})
	})
	s.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		text, err := c.In.inspectArray(&Array{Elems: self(c).Keys()})
		return NewString("#<Set: {" + text[1:len(text)-1] + "}>"), err
	})
	s.alias("inspect", "to_s")
}

// bootOpenStruct defines OpenStruct, whose members are whatever is assigned.
func (in *Interp) bootOpenStruct() {
	k := in.DefineClass(nil, "OpenStruct", nil)
	self := func(c *Call) *Hash {
		o := c.Self.(*Object)
		h, ok := o.Data.(*Hash)
		if !ok {
			h = &Hash{}
			o.Data = h
		}
		return h
	}
	symbol := func(v Value) Value {
		if s, ok := v.(*String); ok {
			return Symbol(s.s)
		}
		return v
	}
	k.DefN("initialize", 0, 1, func(c *Call) (Value, error) {
		h, ok := c.Arg(0).(*Hash)
		if !ok {
			return nil, nil
		}
		return nil, h.Each(func(k, v Value) error { return c.In.hashSet(self(c), symbol(k), v) })
	})
	k.DefN("[]", 1, 1, func(c *Call) (Value, error) { v, _ := self(c).Get(symbol(c.Args[0])); return v, nil })
	k.DefN("[]=", 2, 2, func(c *Call) (Value, error) {
		return c.Args[1], c.In.hashSet(self(c), symbol(c.Args[0]), c.Args[1])
	})
	k.DefN("to_h", 0, 0, func(c *Call) (Value, error) {
		h := &Hash{}
		h.copyEntries(self(c))
		return h, c.In.charge(64 * h.Len())
	})
	k.DefN("each_pair", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		return c.Self, self(c).Each(func(k, v Value) error { _, err := c.yield(k, v); return err })
	})
	k.DefN("dig", 1, -1, func(c *Call) (Value, error) {
		args := append([]Value{symbol(c.Args[0])}, c.Args[1:]...)
		return c.In.send(c.fr, self(c), "dig", args, nil, false)
	})
	k.DefN("delete_field", 1, 1, func(c *Call) (Value, error) { v, _ := self(c).Delete(symbol(c.Args[0])); return v, nil })
	k.DefN("==", 1, 1, func(c *Call) (Value, error) {
		o, ok := c.Args[0].(*Object)
		if !ok || !o.Class.Inherits(k) {
			return false, nil
		}
		h, _ := o.Data.(*Hash)
		if h == nil {
			h = &Hash{}
		}
		return c.In.equal(c.fr, self(c), h)
	})
	k.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		text, sep := "#<"+c.In.className(c.Self.(*Object).Class), " "
		err := c.In.guarded(c.Self, func() error {
			return self(c).Each(func(k, v Value) error {
				s, err := c.In.inspect(v)
				text, sep = text+sep+c.In.ToS(k)+"="+s, ", "
				return err
			})
		})
		return NewString(text + ">"), err
	})
	k.alias("inspect", "to_s")
	k.DefMissing(func(c *Call, name string) (Value, error) {
		if set, ok := strings.CutSuffix(name, "="); ok && len(c.Args) == 1 {
			return c.Args[0], c.In.hashSet(self(c), Symbol(set), c.Args[0])
		}
		if len(c.Args) > 0 {
			return nil, c.In.NoMethod(c.Self, name)
		}
		v, _ := self(c).Get(Symbol(name))
		return v, nil
	}, func(v Value, name string) bool {
		h, _ := v.(*Object).Data.(*Hash)
		if h == nil {
			return false
		}
		_, ok := h.Get(Symbol(strings.TrimSuffix(name, "=")))
		return ok
	})
}
