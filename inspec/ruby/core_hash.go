package ruby

import (
	"strings"
	"unicode/utf8"
)

// hashGet is h[key], with defaults.
func (in *Interp) hashGet(h *Hash, key Value) (Value, error) {
	if v, ok := h.Get(key); ok {
		return v, nil
	}
	if h.DefaultProc != nil {
		return in.Yield(h.DefaultProc, h, key)
	}
	return h.Default, nil
}

func (in *Interp) hashSet(h *Hash, k, v Value) error {
	if err := in.charge(80); err != nil {
		return err
	}
	h.Set(k, v)
	return nil
}

func (in *Interp) bootHash() {
	k := in.cHash
	self := func(c *Call) *Hash { return c.Self.(*Hash) }
	mutable := func(c *Call) (*Hash, error) {
		if h := self(c); h.frozen {
			return nil, c.In.frozenError(h)
		}
		return self(c), nil
	}
	iter := func(name string, least, most int, fn native, aliases ...string) {
		k.DefN(name, least, most, func(c *Call) (Value, error) {
			if c.Block == nil {
				return c.enum()
			}
			return fn(c)
		})
		k.alias(name, aliases...)
	}
	k.DefN("initialize", 0, 1, func(c *Call) (Value, error) {
		self(c).Default, self(c).DefaultProc = c.Arg(0), c.Block
		return nil, nil
	})
	in.singletonClass(k).Def("[]", func(c *Call) (Value, error) {
		h := &Hash{}
		if len(c.Args) == 1 {
			switch a := c.Args[0].(type) {
			case *Hash:
				h.copyEntries(a)
				return h, nil
			case *Array:
				return c.In.Call(a, "to_h", nil, nil)
			}
		}
		if len(c.Args)%2 != 0 {
			return nil, c.In.Raise(c.In.eArgument, "odd number of arguments for Hash")
		}
		return NewHash(c.Args...), nil
	})
	k.DefN("[]", 1, 1, func(c *Call) (Value, error) {
		h := self(c)
		if v, ok := h.Get(c.Args[0]); ok {
			return v, nil
		}
		if h.ext != nil {
			if m := c.In.dispatchClass(h).find("default"); m != nil && m.native == nil {
				return c.In.invoke(c.fr, m, h, "default", c.Args, nil)
			}
		}
		return c.In.hashGet(h, c.Args[0])
	})
	k.DefN("[]=", 2, 2, func(c *Call) (Value, error) {
		h, err := mutable(c)
		if err != nil {
			return nil, err
		}
		return c.Args[1], c.In.hashSet(h, c.Args[0], c.Args[1])
	})
	k.alias("[]=", "store")
	k.DefN("fetch", 1, 2, func(c *Call) (Value, error) {
		if v, ok := self(c).Get(c.Args[0]); ok {
			return v, nil
		}
		if c.Block != nil {
			return c.yield(c.Args[0])
		}
		if len(c.Args) > 1 {
			return c.Args[1], nil
		}
		e := c.In.Raise(c.In.eKey, "%s", "key not found: "+c.In.Inspect(c.Args[0])).(*Exception)
		e.key, e.Receiver = c.Args[0], c.Self
		return nil, e
	})
	k.DefN("dig", 1, -1, dig)
	k.DefN("key?", 1, 1, func(c *Call) (Value, error) { _, ok := self(c).Get(c.Args[0]); return ok, nil })
	k.alias("key?", "has_key?", "include?", "member?")
	k.DefN("assoc", 1, 1, func(c *Call) (Value, error) {
		if i := self(c).find(c.Args[0], self(c).sum(c.Args[0])); i >= 0 {
			return NewArray(self(c).entries[i].key, self(c).entries[i].value), nil
		}
		return nil, nil
	})
	k.DefN("value?", 1, 1, func(c *Call) (Value, error) {
		found := false
		err := self(c).Each(func(_, v Value) error {
			eq, err := c.In.equal(c.fr, v, c.Args[0])
			found = found || eq
			return err
		})
		return found, err
	})
	k.alias("value?", "has_value?")
	k.DefN("key", 1, 1, func(c *Call) (Value, error) {
		var found Value
		err := self(c).Each(func(k, v Value) error {
			eq, err := c.In.equal(c.fr, v, c.Args[0])
			if eq {
				found = k
				return errStop
			}
			return err
		})
		return found, unstop(err)
	})
	k.DefN("keys", 0, 0, func(c *Call) (Value, error) { return c.In.newArray(self(c).Keys()) })
	k.DefN("values", 0, 0, func(c *Call) (Value, error) { return c.In.newArray(self(c).Values()) })
	k.DefN("values_at", 0, -1, func(c *Call) (Value, error) {
		out := &Array{}
		for _, a := range c.Args {
			v, err := c.In.hashGet(self(c), a)
			if err != nil {
				return nil, err
			}
			out.Elems = append(out.Elems, v)
		}
		return out, nil
	})
	k.DefN("fetch_values", 0, -1, func(c *Call) (Value, error) {
		out := &Array{}
		for _, a := range c.Args {
			v, err := c.In.Call(c.Self, "fetch", []Value{a}, c.Block)
			if err != nil {
				return nil, err
			}
			out.Elems = append(out.Elems, v)
		}
		return out, nil
	})
	k.DefN("length", 0, 0, func(c *Call) (Value, error) { return int64(self(c).Len()), nil })
	k.alias("length", "size")
	k.DefN("empty?", 0, 0, func(c *Call) (Value, error) { return self(c).Len() == 0, nil })
	k.DefN("to_h", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			if self(c).ext == nil {
				return c.Self, nil
			}
			h := &Hash{}
			h.copyEntries(self(c))
			return h, nil
		}
		h := &Hash{}
		return h, self(c).Each(func(k, v Value) error {
			r, err := c.yield(k, v)
			if err != nil {
				return err
			}
			p, ok := r.(*Array)
			if !ok || len(p.Elems) != 2 {
				return c.In.Raise(c.In.eType, "wrong element type %s (expected array)", c.In.kindName(r))
			}
			return c.In.hashSet(h, p.Elems[0], p.Elems[1])
		})
	})
	k.DefN("to_hash", 0, 0, func(c *Call) (Value, error) { return c.Self, nil })
	k.DefN("deconstruct_keys", 1, 1, func(c *Call) (Value, error) { return c.Self, nil })
	k.DefN("to_a", 0, 0, func(c *Call) (Value, error) {
		out := &Array{}
		return out, self(c).Each(func(k, v Value) error {
			out.Elems = append(out.Elems, NewArray(k, v))
			return c.In.charge(96)
		})
	})
	k.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		s, err := c.In.inspectHash(self(c))
		return NewString(s), err
	})
	k.alias("inspect", "to_s")
	k.DefN("==", 1, 1, func(c *Call) (Value, error) {
		o, ok := c.Args[0].(*Hash)
		if !ok || o.Len() != self(c).Len() {
			return false, nil
		}
		return c.In.hashesEqual(c.fr, self(c), o)
	})
	k.DefN("hash", 0, 0, in.cKernel.methods["hash"].native)
	iter("each", 0, 0, func(c *Call) (Value, error) {
		return c.Self, self(c).Each(func(k, v Value) error {
			if c.Block.body != nil && c.Block.body.simple == 2 && !c.Block.lambda {
				_, err := c.yield(k, v)
				return err
			}
			_, err := c.yield(NewArray(k, v))
			return err
		})
	}, "each_pair")
	iter("each_key", 0, 0, func(c *Call) (Value, error) {
		return c.Self, self(c).Each(func(k, _ Value) error { _, err := c.yield(k); return err })
	})
	iter("each_value", 0, 0, func(c *Call) (Value, error) {
		return c.Self, self(c).Each(func(_, v Value) error { _, err := c.yield(v); return err })
	})
	filter := func(keep bool) native {
		return func(c *Call) (Value, error) {
			h := &Hash{}
			return h, self(c).Each(func(k, v Value) error {
				ok, err := c.test(k, v)
				if err == nil && ok == keep {
					return c.In.hashSet(h, k, v)
				}
				return err
			})
		}
	}
	iter("select", 0, 0, filter(true), "filter")
	iter("reject", 0, 0, filter(false))
	prune := func(keep, always bool) native {
		return func(c *Call) (Value, error) {
			h, err := mutable(c)
			if err != nil {
				return nil, err
			}
			n := h.Len()
			err = h.Each(func(k, v Value) error {
				ok, err := c.test(k, v)
				if err == nil && ok != keep {
					h.Delete(k)
				}
				return err
			})
			if !always && h.Len() == n {
				return nil, err
			}
			return h, err
		}
	}
	iter("select!", 0, 0, prune(true, false), "filter!")
	iter("keep_if", 0, 0, prune(true, true))
	iter("reject!", 0, 0, prune(false, false))
	iter("delete_if", 0, 0, prune(false, true))
	iter("partition", 0, 0, func(c *Call) (Value, error) {
		yes, no := &Array{}, &Array{}
		return NewArray(yes, no), self(c).Each(func(k, v Value) error {
			ok, err := c.test(k, v)
			if ok {
				yes.Elems = append(yes.Elems, NewArray(k, v))
			} else {
				no.Elems = append(no.Elems, NewArray(k, v))
			}
			return err
		})
	})
	iter("transform_values", 0, 0, func(c *Call) (Value, error) {
		h := &Hash{}
		return h, self(c).Each(func(k, v Value) error {
			r, err := c.yield(v)
			if err != nil {
				return err
			}
			return c.In.hashSet(h, k, r)
		})
	})
	iter("transform_values!", 0, 0, func(c *Call) (Value, error) {
		h, err := mutable(c)
		if err != nil {
			return nil, err
		}
		return h, h.Each(func(k, v Value) error {
			r, err := c.yield(v)
			if err == nil {
				h.Set(k, r)
			}
			return err
		})
	})
	transformKeys := func(c *Call) (Value, error) {
		h := &Hash{}
		var table *Hash
		if len(c.Args) > 0 {
			var err error
			if table, err = c.In.hsh(c.Args[0]); err != nil {
				return nil, err
			}
		} else if c.Block == nil {
			return c.enum()
		}
		err := self(c).Each(func(k, v Value) error {
			if table != nil {
				if r, ok := table.Get(k); ok {
					return c.In.hashSet(h, r, v)
				}
			}
			if c.Block == nil {
				return c.In.hashSet(h, k, v)
			}
			r, err := c.yield(k)
			if err != nil {
				return err
			}
			return c.In.hashSet(h, r, v)
		})
		if strings.HasSuffix(c.Name, "!") && err == nil {
			self(c).copyEntries(h)
			return c.Self, nil
		}
		return h, err
	}
	k.DefN("transform_keys", 0, 1, transformKeys)
	k.DefN("transform_keys!", 0, 1, transformKeys)
	merge := func(c *Call, h *Hash) (Value, error) {
		for _, a := range c.Args {
			o, err := c.In.hsh(a)
			if err != nil {
				return nil, err
			}
			if err := o.Each(func(k, v Value) error {
				if c.Block != nil {
					if old, ok := h.Get(k); ok {
						r, err := c.yield(k, old, v)
						if err != nil {
							return err
						}
						v = r
					}
				}
				return c.In.hashSet(h, k, v)
			}); err != nil {
				return nil, err
			}
		}
		return h, nil
	}
	k.DefN("merge", 0, -1, func(c *Call) (Value, error) {
		d, err := c.In.dup(c.Self)
		if err != nil {
			return nil, err
		}
		return merge(c, d.(*Hash))
	})
	k.DefN("merge!", 0, -1, func(c *Call) (Value, error) {
		h, err := mutable(c)
		if err != nil {
			return nil, err
		}
		return merge(c, h)
	})
	k.alias("merge!", "update")
	k.DefN("replace", 1, 1, func(c *Call) (Value, error) {
		h, err := mutable(c)
		if err != nil {
			return nil, err
		}
		o, err := c.In.hsh(c.Args[0])
		if err == nil {
			h.copyEntries(o)
		}
		return h, err
	})
	k.DefN("delete", 1, 1, func(c *Call) (Value, error) {
		h, err := mutable(c)
		if err != nil {
			return nil, err
		}
		v, ok := h.Delete(c.Args[0])
		if !ok && c.Block != nil {
			return c.yield(c.Args[0])
		}
		return v, nil
	})
	k.DefN("clear", 0, 0, func(c *Call) (Value, error) {
		h, err := mutable(c)
		if err == nil {
			h.clear()
		}
		return h, err
	})
	k.DefN("shift", 0, 0, func(c *Call) (Value, error) {
		h, err := mutable(c)
		if err != nil || h.Len() == 0 {
			return nil, err
		}
		var pair Value
		_ = h.Each(func(k, v Value) error { pair = NewArray(k, v); h.Delete(k); return errStop })
		return pair, nil
	})
	subset := func(keep bool) native {
		return func(c *Call) (Value, error) {
			set := c.In.setOf(c.Args)
			h := &Hash{}
			return h, self(c).Each(func(k, v Value) error {
				if _, in := set.Get(k); in == keep {
					return c.In.hashSet(h, k, v)
				}
				return nil
			})
		}
	}
	k.DefN("slice", 0, -1, func(c *Call) (Value, error) {
		h := &Hash{}
		for _, a := range c.Args {
			if v, ok := self(c).Get(a); ok {
				h.Set(a, v)
			}
		}
		return h, nil
	})
	k.DefN("except", 0, -1, subset(false))
	k.DefN("invert", 0, 0, func(c *Call) (Value, error) {
		h := &Hash{}
		return h, self(c).Each(func(k, v Value) error { return c.In.hashSet(h, v, k) })
	})
	k.DefN("compact", 0, 0, func(c *Call) (Value, error) {
		h := &Hash{}
		return h, self(c).Each(func(k, v Value) error {
			if v == nil {
				return nil
			}
			return c.In.hashSet(h, k, v)
		})
	})
	k.DefN("compact!", 0, 0, func(c *Call) (Value, error) {
		h, err := mutable(c)
		if err != nil {
			return nil, err
		}
		n := h.Len()
		_ = h.Each(func(k, v Value) error {
			if v == nil {
				h.Delete(k)
			}
			return nil
		})
		if h.Len() == n {
			return nil, nil
		}
		return h, nil
	})
	k.DefN("any?", 0, 1, func(c *Call) (Value, error) {
		if c.Block == nil && len(c.Args) == 0 {
			return self(c).Len() > 0, nil
		}
		return c.In.cEnumerable.methods["any?"].native(c)
	})
	k.DefN("default", 0, 1, func(c *Call) (Value, error) { return self(c).Default, nil })
	k.DefN("default=", 1, 1, func(c *Call) (Value, error) { self(c).Default = c.Args[0]; return c.Args[0], nil })
	k.DefN("default_proc", 0, 0, func(c *Call) (Value, error) {
		if p := self(c).DefaultProc; p != nil {
			return p, nil
		}
		return nil, nil
	})
	k.DefN("compare_by_identity", 0, 0, func(c *Call) (Value, error) { self(c).byID = true; return c.Self, nil })
	sub := func(a, b *Hash) bool {
		ok := true
		_ = a.Each(func(k, v Value) error {
			w, has := b.Get(k)
			ok = ok && has && in.Equal(v, w)
			return nil
		})
		return ok
	}
	for name, test := range map[string]func(a, b *Hash) bool{
		"<=": sub, ">=": func(a, b *Hash) bool { return sub(b, a) },
		"<": func(a, b *Hash) bool { return a.Len() < b.Len() && sub(a, b) },
		">": func(a, b *Hash) bool { return b.Len() < a.Len() && sub(b, a) },
	} {
		k.DefN(name, 1, 1, func(c *Call) (Value, error) {
			o, err := c.In.hsh(c.Args[0])
			if err != nil {
				return nil, err
			}
			return test(self(c), o), nil
		})
	}
	convertKeys := func(conv func(c *Call, k Value) Value) native {
		return func(c *Call) (Value, error) {
			h := &Hash{}
			return h, self(c).Each(func(k, v Value) error { return c.In.hashSet(h, conv(c, k), v) })
		}
	}
	k.DefN("symbolize_keys", 0, 0, convertKeys(func(c *Call, k Value) Value { return Symbol(c.In.ToS(k)) }))
	k.DefN("stringify_keys", 0, 0, convertKeys(func(c *Call, k Value) Value { return NewString(c.In.ToS(k)) }))
	k.DefN("to_proc", 0, 0, func(c *Call) (Value, error) {
		h := self(c)
		return c.In.NewProc(1, func(d *Call) (Value, error) { return d.In.hashGet(h, d.Arg(0)) }), nil
	})
}

func (in *Interp) bootRange() {
	k := in.cRange
	self := func(c *Call) *Range { return c.Self.(*Range) }
	in.singletonClass(k).DefN("new", 2, 3, func(c *Call) (Value, error) {
		return c.In.newRange(c.Args[0], c.Args[1], Truthy(c.Arg(2)))
	})
	k.DefN("each", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		return c.Self, c.In.rangeEach(self(c), func(v Value) error { _, err := c.yield(v); return err })
	})
	covers := func(c *Call, v Value) (bool, error) {
		r := self(c)
		if r.Lo != nil {
			n, ok, err := c.In.Compare(r.Lo, v)
			if err != nil || !ok || n > 0 {
				return false, err
			}
		}
		if r.Hi != nil {
			n, ok, err := c.In.Compare(v, r.Hi)
			if err != nil || !ok || n > 0 || n == 0 && r.Excl {
				return false, err
			}
		}
		return true, nil
	}
	include := func(c *Call) (Value, error) {
		if o, ok := c.Args[0].(*Range); ok && c.Name == "cover?" {
			a, err := covers(c, o.Lo)
			if err != nil || !a {
				return false, err
			}
			return covers(c, o.Hi)
		}
		// Between one-letter strings, include? asks for a member.
		lo, _ := self(c).Lo.(*String)
		hi, _ := self(c).Hi.(*String)
		if s, ok := c.Args[0].(*String); ok && lo != nil && hi != nil && c.Name != "cover?" && c.Name != "===" &&
			utf8.RuneCountInString(lo.s) == 1 && utf8.RuneCountInString(hi.s) == 1 && utf8.RuneCountInString(s.s) != 1 {
			return false, nil
		}
		return covers(c, c.Args[0])
	}
	for _, n := range []string{"include?", "member?", "cover?", "==="} {
		k.DefN(n, 1, 1, include)
	}
	k.DefN("==", 1, 1, func(c *Call) (Value, error) { return c.In.equal(c.fr, c.Self, c.Args[0]) })
	first := in.cEnumerable.methods["first"].native
	k.DefN("first", 0, 1, func(c *Call) (Value, error) {
		if len(c.Args) == 0 {
			return self(c).Lo, nil
		}
		return first(c)
	})
	k.DefN("begin", 0, 0, func(c *Call) (Value, error) { return self(c).Lo, nil })
	k.DefN("end", 0, 0, func(c *Call) (Value, error) { return self(c).Hi, nil })
	k.DefN("last", 0, 1, func(c *Call) (Value, error) {
		if len(c.Args) == 0 {
			return self(c).Hi, nil
		}
		vals, err := c.In.elements(c.Self)
		if err != nil {
			return nil, err
		}
		return c.In.Call(&Array{Elems: vals}, "last", c.Args, nil)
	})
	ends := func(name string) {
		generic := in.cEnumerable.methods[name].native
		k.DefN(name, 0, 1, func(c *Call) (Value, error) {
			r := self(c)
			lo, a := r.Lo.(int64)
			hi, b := r.Hi.(int64)
			if !a || !b || c.Block != nil || len(c.Args) > 0 {
				return generic(c)
			}
			if r.Excl {
				hi--
			}
			if hi < lo {
				return nil, nil
			}
			if name == "min" {
				return lo, nil
			}
			return hi, nil
		})
	}
	ends("min")
	ends("max")
	k.DefN("size", 0, 0, func(c *Call) (Value, error) {
		r := self(c)
		lo, a := r.Lo.(int64)
		hi, b := r.Hi.(int64)
		if !a || !b {
			if r.Hi == nil {
				return in.cFloat.consts["INFINITY"], nil
			}
			return nil, nil
		}
		if r.Excl {
			hi--
		}
		return max(hi-lo+1, 0), nil
	})
	count := in.cEnumerable.methods["count"].native
	k.DefN("count", 0, 1, func(c *Call) (Value, error) {
		if _, ok := self(c).Lo.(int64); ok && len(c.Args) == 0 && c.Block == nil {
			return c.In.Call(c.Self, "size", nil, nil)
		}
		return count(c)
	})
	k.DefN("to_a", 0, 0, func(c *Call) (Value, error) {
		vals, err := c.In.elements(c.Self)
		return &Array{Elems: vals}, err
	})
	k.alias("to_a", "entries")
	k.DefN("exclude_end?", 0, 0, func(c *Call) (Value, error) { return self(c).Excl, nil })
	text := func(conv func(Value) (string, error)) native {
		return func(c *Call) (Value, error) {
			r := self(c)
			lo, hi := "", ""
			var err error
			if r.Lo != nil {
				if lo, err = conv(r.Lo); err != nil {
					return nil, err
				}
			}
			if r.Hi != nil {
				if hi, err = conv(r.Hi); err != nil {
					return nil, err
				}
			}
			if r.Excl {
				return NewString(lo + "..." + hi), nil
			}
			return NewString(lo + ".." + hi), nil
		}
	}
	k.DefN("to_s", 0, 0, text(in.toS))
	k.DefN("inspect", 0, 0, text(in.inspect))
	k.DefN("step", 1, 1, func(c *Call) (Value, error) {
		_, a := self(c).Lo.(float64)
		_, b := c.Args[0].(float64)
		if isNumber(self(c).Lo) && (a || b) {
			if c.Block == nil {
				return c.enum()
			}
			return c.In.send(c.fr, self(c).Lo, "step", []Value{self(c).Hi, c.Args[0]}, c.Block, false)
		}
		n, err := c.In.num(c.Args[0])
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return nil, c.In.Raise(c.In.eArgument, "step can't be negative")
		}
		out := &Array{}
		i := int64(0)
		err = c.In.rangeEach(self(c), func(v Value) error {
			i++
			if (i-1)%n != 0 {
				return nil
			}
			if c.Block == nil {
				out.Elems = append(out.Elems, v)
				return c.In.charge(16)
			}
			_, err := c.yield(v)
			return err
		})
		if c.Block == nil {
			return out, err
		}
		return c.Self, err
	})
	k.alias("step", "%")
}

func regexpEscape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\n':
			b.WriteString(`\n`)
		case '\t':
			b.WriteString(`\t`)
		case '\r':
			b.WriteString(`\r`)
		case '\f':
			b.WriteString(`\f`)
		case '\v':
			b.WriteString(`\v`)
		case '.', '*', '?', '+', '^', '$', '|', '\\', '(', ')', '[', ']', '{', '}', '-', '#', ' ':
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// matchIndex is m[i], by number or name.
func (in *Interp) matchIndex(m *MatchData, i Value) (Value, error) {
	switch i := i.(type) {
	case *String, Symbol:
		name := in.ToS(i)
		if v, ok := m.named(name); ok {
			return v, nil
		}
		return nil, in.Raise(in.eIndex, "undefined group name reference: %s", name)
	}
	n, err := in.num(i)
	if n < 0 {
		n += int64(m.groups())
	}
	return m.group(int(n)), err
}

func (in *Interp) bootRegexp() {
	k := in.cRegexp
	self := func(c *Call) *Regexp { return c.Self.(*Regexp) }
	k.SetConst("IGNORECASE", int64(reIgnoreCase))
	k.SetConst("EXTENDED", int64(reExtended))
	k.SetConst("MULTILINE", int64(reMultiline))
	meta := in.singletonClass(k)
	meta.DefN("new", 1, 3, func(c *Call) (Value, error) {
		if re, ok := c.Args[0].(*Regexp); ok {
			return re, nil
		}
		s, err := c.strArg(0)
		if err != nil {
			return nil, err
		}
		opts := regexpOptions(0)
		switch o := c.Arg(1).(type) {
		case int64:
			opts = regexpOptions(o & 7)
		case nil, *Hash:
		case *String:
			return c.In.NewRegexp(s, o.s)
		default:
			if Truthy(o) {
				opts = reIgnoreCase
			}
		}
		return c.In.regexp(s, opts)
	})
	meta.alias("new", "compile")
	meta.DefN("escape", 1, 1, func(c *Call) (Value, error) {
		if s, ok := c.Args[0].(Symbol); ok {
			return NewString(regexpEscape(string(s))), nil
		}
		s, err := c.strArg(0)
		return NewString(regexpEscape(s)), err
	})
	meta.alias("escape", "quote")
	meta.DefN("union", 0, -1, func(c *Call) (Value, error) {
		list := c.Args
		if a, ok := c.Arg(0).(*Array); ok && len(list) == 1 {
			list = a.Elems
		}
		var parts []string
		for _, v := range list {
			if re, ok := v.(*Regexp); ok {
				if len(list) == 1 {
					return re, nil
				}
				parts = append(parts, re.embedded())
				continue
			}
			s, err := c.In.methodName(v)
			if err != nil {
				return nil, err
			}
			parts = append(parts, regexpEscape(s))
		}
		if len(parts) == 0 {
			return c.In.regexp("(?!)", 0)
		}
		return c.In.regexp(strings.Join(parts, "|"), 0)
	})
	meta.DefN("last_match", 0, 1, func(c *Call) (Value, error) {
		if c.fr == nil || c.fr.home.match == nil {
			return nil, nil
		}
		if len(c.Args) == 0 {
			return c.fr.home.match, nil
		}
		return c.In.matchIndex(c.fr.home.match, c.Args[0])
	})
	subject := func(c *Call) (string, bool, error) {
		switch v := c.Args[0].(type) {
		case nil:
			return "", false, nil
		case Symbol:
			return string(v), true, nil
		}
		s, err := c.strArg(0)
		return s, true, err
	}
	k.DefN("match", 1, 2, func(c *Call) (Value, error) {
		s, ok, err := subject(c)
		if err != nil || !ok {
			c.setMatch(nil)
			return nil, err
		}
		pos, err := c.intArg(1, 0)
		if err != nil {
			return nil, err
		}
		return c.match(self(c), s, pos)
	})
	k.DefN("match?", 1, 2, func(c *Call) (Value, error) {
		s, ok, err := subject(c)
		if err != nil || !ok {
			return false, err
		}
		return self(c).MatchString(s)
	})
	k.DefN("=~", 1, 1, func(c *Call) (Value, error) {
		s, ok, err := subject(c)
		if err != nil || !ok {
			c.setMatch(nil)
			return nil, err
		}
		m, err := self(c).match(s, 0)
		c.setMatch(m)
		if m == nil || err != nil {
			return nil, err
		}
		return int64(runeLen(s[:m.loc[0]])), nil
	})
	k.DefN("===", 1, 1, func(c *Call) (Value, error) {
		var s string
		switch v := c.Args[0].(type) {
		case *String:
			s = v.s
		case Symbol:
			s = string(v)
		default:
			return false, nil
		}
		m, err := self(c).match(s, 0)
		c.setMatch(m)
		return m != nil, err
	})
	k.DefN("==", 1, 1, func(c *Call) (Value, error) { return c.In.equal(c.fr, c.Self, c.Args[0]) })
	k.DefN("source", 0, 0, func(c *Call) (Value, error) { return NewString(self(c).src), nil })
	k.DefN("to_s", 0, 0, func(c *Call) (Value, error) { return NewString(self(c).embedded()), nil })
	k.DefN("inspect", 0, 0, func(c *Call) (Value, error) { return NewString(self(c).inspect()), nil })
	k.DefN("options", 0, 0, func(c *Call) (Value, error) { return int64(self(c).opts), nil })
	k.DefN("casefold?", 0, 0, func(c *Call) (Value, error) { return self(c).opts&reIgnoreCase != 0, nil })
	names := func(re *Regexp) *Array {
		h := &Hash{}
		for _, n := range re.names {
			h.Set(NewString(n), true)
		}
		return &Array{Elems: h.Keys()}
	}
	k.DefN("names", 0, 0, func(c *Call) (Value, error) { return names(self(c)), nil })

	m := in.cMatchData
	md := func(c *Call) *MatchData { return c.Self.(*MatchData) }
	m.DefN("[]", 1, 2, func(c *Call) (Value, error) {
		if _, ok := c.Args[0].(*Range); ok || len(c.Args) == 2 {
			a, err := c.In.Call(c.Self, "to_a", nil, nil)
			if err != nil {
				return nil, err
			}
			return c.In.Call(a, "[]", c.Args, nil)
		}
		return c.In.matchIndex(md(c), c.Args[0])
	})
	list := func(m *MatchData, from int) *Array {
		a := &Array{}
		for i := from; i < m.groups(); i++ {
			a.Elems = append(a.Elems, m.group(i))
		}
		return a
	}
	m.DefN("to_a", 0, 0, func(c *Call) (Value, error) { return list(md(c), 0), nil })
	m.DefN("captures", 0, 0, func(c *Call) (Value, error) { return list(md(c), 1), nil })
	m.DefN("named_captures", 0, 1, func(c *Call) (Value, error) {
		h := &Hash{}
		for _, n := range names(md(c).re).Elems {
			v, _ := md(c).named(n.(*String).s)
			h.Set(n, v)
		}
		return h, nil
	})
	m.DefN("names", 0, 0, func(c *Call) (Value, error) { return names(md(c).re), nil })
	m.DefN("pre_match", 0, 0, func(c *Call) (Value, error) { return NewString(md(c).pre()), nil })
	m.DefN("post_match", 0, 0, func(c *Call) (Value, error) { return NewString(md(c).post()), nil })
	m.DefN("to_s", 0, 0, func(c *Call) (Value, error) { return md(c).group(0), nil })
	m.DefN("string", 0, 0, func(c *Call) (Value, error) { return &String{s: md(c).s, frozen: true}, nil })
	m.DefN("regexp", 0, 0, func(c *Call) (Value, error) { return md(c).re, nil })
	m.DefN("size", 0, 0, func(c *Call) (Value, error) { return int64(md(c).groups()), nil })
	m.alias("size", "length")
	at := func(end int) native {
		return func(c *Call) (Value, error) {
			d := md(c)
			if name, ok := c.Args[0].(Symbol); ok {
				n := d.numberOf(string(name))
				if n == 0 {
					return nil, c.In.Raise(c.In.eIndex, "undefined group name reference: %s", string(name))
				}
				c.Args = []Value{int64(n)}
			}
			i, err := c.In.num(c.Args[0])
			if err != nil || i < 0 || int(i) >= md(c).groups() || md(c).loc[2*i] < 0 {
				return nil, err
			}
			return int64(runeLen(md(c).s[:md(c).loc[2*int(i)+end]])), nil
		}
	}
	m.DefN("begin", 1, 1, at(0))
	m.DefN("end", 1, 1, at(1))
	m.DefN("offset", 1, 1, func(c *Call) (Value, error) {
		from, err := at(0)(c)
		if err != nil {
			return nil, err
		}
		to, err := at(1)(c)
		return NewArray(from, to), err
	})
	m.DefN("values_at", 0, -1, func(c *Call) (Value, error) { return c.In.Call(list(md(c), 0), "values_at", c.Args, nil) })
	m.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		d := md(c)
		var b strings.Builder
		b.WriteString("#<MatchData " + c.In.Inspect(d.group(0)))
		for i := 1; i < d.groups(); i++ {
			name := c.In.Inspect(int64(i))
			if i-1 < len(d.re.names) {
				name = d.re.names[i-1]
			}
			b.WriteString(" " + name + ":" + c.In.Inspect(d.group(i)))
		}
		return NewString(b.String() + ">"), nil
	})
}
