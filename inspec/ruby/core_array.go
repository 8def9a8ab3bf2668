package ruby

import (
	"math"
	"strings"
)

func (c *Call) array() *Array { return c.Self.(*Array) }

func (c *Call) mutableArray() (*Array, error) {
	a := c.array()
	if a.frozen {
		return nil, c.In.frozenError(a)
	}
	return a, nil
}

func (in *Interp) flatten(vals []Value, depth int64, out *[]Value) error {
	for _, v := range vals {
		if a, ok := v.(*Array); ok && depth != 0 {
			if err := in.deeper(func() error { return in.flatten(a.Elems, depth-1, out) }); err != nil {
				return err
			}
			continue
		}
		*out = append(*out, v)
		if err := in.charge(16); err != nil {
			return err
		}
	}
	return nil
}

func (in *Interp) join(vals []Value, sep string, b *strings.Builder) error {
	for i, v := range vals {
		if i > 0 {
			b.WriteString(sep)
		}
		if a, ok := v.(*Array); ok {
			if err := in.deeper(func() error { return in.join(a.Elems, sep, b) }); err != nil {
				return err
			}
			continue
		}
		s, err := in.toS(v)
		if err != nil {
			return err
		}
		if err := in.charge(len(s) + len(sep)); err != nil {
			return err
		}
		b.WriteString(s)
	}
	return nil
}

func (in *Interp) setOf(vals []Value) *Hash {
	h := &Hash{}
	for _, v := range vals {
		h.Set(v, true)
	}
	return h
}

func (in *Interp) bootArray() {
	k := in.cArray
	elems := func(c *Call) []Value { return c.Self.(*Array).Elems }
	fresh := func(c *Call, vals []Value) (Value, error) {
		if err := c.In.charge(48 + 16*len(vals)); err != nil {
			return nil, err
		}
		return &Array{Elems: append([]Value(nil), vals...)}, nil
	}
	k.DefN("initialize", 0, 2, func(c *Call) (Value, error) {
		a := c.array()
		if src, ok := c.Arg(0).(*Array); ok {
			a.Elems = append([]Value(nil), src.Elems...)
			return nil, c.In.charge(16 * len(src.Elems))
		}
		n, err := c.intArg(0, 0)
		if err != nil {
			return nil, err
		}
		if n < 0 {
			return nil, c.In.Raise(c.In.eArgument, "negative array size")
		}
		if n > math.MaxInt32 {
			return nil, &LimitError{Limit: "memory"}
		}
		if err := c.In.charge(16 * int(n)); err != nil {
			return nil, err
		}
		a.Elems = make([]Value, n)
		for i := range a.Elems {
			a.Elems[i] = c.Arg(1)
			if c.Block != nil {
				if a.Elems[i], err = c.yield(int64(i)); err != nil {
					return nil, err
				}
			}
		}
		return nil, nil
	})
	in.singletonClass(k).Def("[]", func(c *Call) (Value, error) { return fresh(c, c.Args) })
	k.DefN("each", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		a := c.array()
		for i := 0; i < len(a.Elems); i++ {
			if _, err := c.yield(a.Elems[i]); err != nil {
				return nil, err
			}
		}
		return c.Self, nil
	})
	k.DefN("each_index", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		for i := range elems(c) {
			if _, err := c.yield(int64(i)); err != nil {
				return nil, err
			}
		}
		return c.Self, nil
	})
	k.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		s, err := c.In.inspectArray(c.array())
		return NewString(s), err
	})
	k.alias("inspect", "to_s")
	k.DefN("to_a", 0, 0, func(c *Call) (Value, error) {
		if c.array().ext != nil {
			return fresh(c, elems(c))
		}
		return c.Self, nil
	})
	k.alias("to_a", "entries")
	k.DefN("deconstruct", 0, 0, func(c *Call) (Value, error) { return c.Self, nil })
	k.DefN("to_ary", 0, 0, func(c *Call) (Value, error) { return c.Self, nil })
	k.DefN("hash", 0, 0, in.cKernel.methods["hash"].native)
	k.DefN("length", 0, 0, func(c *Call) (Value, error) { return int64(len(elems(c))), nil })
	k.alias("length", "size")
	k.DefN("empty?", 0, 0, func(c *Call) (Value, error) { return len(elems(c)) == 0, nil })
	k.DefN("==", 1, 1, func(c *Call) (Value, error) {
		o, ok := c.Args[0].(*Array)
		err := c.In.arraysEqual(c.fr, c.array(), o, &ok)
		return ok, err
	})
	k.DefN("<=>", 1, 1, func(c *Call) (Value, error) {
		o, ok := c.Args[0].(*Array)
		if !ok {
			return nil, nil
		}
		var res Value
		err := c.In.deeper(func() error {
			a := elems(c)
			for i := 0; i < len(a) && i < len(o.Elems); i++ {
				n, ok, err := c.In.Compare(a[i], o.Elems[i])
				if err != nil || !ok {
					return err
				}
				if n != 0 {
					res = int64(n)
					return nil
				}
			}
			res = int64(compareOrdered(len(a), len(o.Elems)))
			return nil
		})
		return res, err
	})
	index := func(c *Call) (Value, error) {
		a := elems(c)
		n := int64(len(a))
		if len(c.Args) == 2 {
			from, err := c.In.num(c.Args[0])
			if err != nil {
				return nil, err
			}
			count, err := c.In.num(c.Args[1])
			if err != nil {
				return nil, err
			}
			if from < 0 {
				from += n
			}
			if from < 0 || from > n || count < 0 {
				return nil, nil
			}
			return fresh(c, a[from:from+min(count, n-from)])
		}
		if r, ok := c.Args[0].(*Range); ok {
			from, count, ok, err := c.In.span(r, n)
			if err != nil || !ok {
				return nil, err
			}
			return fresh(c, a[from:from+count])
		}
		i, err := c.In.num(c.Args[0])
		if err != nil {
			return nil, err
		}
		if i < 0 {
			i += n
		}
		if i < 0 || i >= n {
			return nil, nil
		}
		return a[i], nil
	}
	k.DefN("[]", 1, 2, index)
	k.alias("[]", "slice")
	k.DefN("at", 1, 1, func(c *Call) (Value, error) {
		if _, err := c.In.num(c.Args[0]); err != nil {
			return nil, err
		}
		return index(c)
	})
	k.DefN("dig", 1, -1, dig)
	k.DefN("fetch", 1, 2, func(c *Call) (Value, error) {
		i, err := c.In.num(c.Args[0])
		if err != nil {
			return nil, err
		}
		n := int64(len(elems(c)))
		j := i
		if j < 0 {
			j += n
		}
		switch {
		case j >= 0 && j < n:
			return elems(c)[j], nil
		case c.Block != nil:
			return c.yield(i)
		case len(c.Args) > 1:
			return c.Args[1], nil
		}
		return nil, c.In.Raise(c.In.eIndex, "index %d outside of array bounds: %d...%d", i, -n, n)
	})
	k.DefN("values_at", 0, -1, func(c *Call) (Value, error) {
		out := &Array{}
		for _, x := range c.Args {
			if r, ok := x.(*Range); ok {
				from, count, ok, err := c.In.span(r, int64(len(elems(c))))
				if err != nil {
					return nil, err
				}
				if ok {
					if err := c.In.chargeBig(16 * count); err != nil {
						return nil, err
					}
				}
				for i := from; ok && i < from+count; i++ {
					var v Value
					if i < int64(len(elems(c))) {
						v = elems(c)[i]
					}
					out.Elems = append(out.Elems, v)
				}
				continue
			}
			d := *c
			d.Args = []Value{x}
			v, err := index(&d)
			if err != nil {
				return nil, err
			}
			out.Elems = append(out.Elems, v)
		}
		return out, nil
	})
	k.DefN("[]=", 2, 3, func(c *Call) (Value, error) {
		a, err := c.mutableArray()
		if err != nil {
			return nil, err
		}
		v := c.Args[len(c.Args)-1]
		n := int64(len(a.Elems))
		var from, count int64
		if r, ok := c.Args[0].(*Range); ok {
			if from, count, ok, err = c.In.span(r, n); err != nil {
				return nil, err
			}
			if !ok {
				if from, err = c.In.num(r.Lo); err != nil {
					return nil, err
				}
			}
		} else {
			if from, err = c.In.num(c.Args[0]); err != nil {
				return nil, err
			}
			if from < 0 {
				from += n
			}
			if from < 0 {
				return nil, c.In.Raise(c.In.eIndex, "index %d too small for array; minimum: -%d", from-n, n)
			}
			if len(c.Args) == 2 {
				if from < n {
					a.Elems[from] = v
					return v, nil
				}
			} else if count, err = c.In.num(c.Args[1]); err != nil {
				return nil, err
			}
		}
		if from > math.MaxInt32 {
			return nil, &LimitError{Limit: "memory"}
		}
		repl := []Value{v}
		if l, ok := v.(*Array); ok && (len(c.Args) == 3 || !isNumber(c.Args[0])) {
			repl = append([]Value(nil), l.Elems...)
		}
		if err := c.In.charge(16 * (max(int(from-n), 0) + len(repl) + len(a.Elems))); err != nil {
			return nil, err
		}
		for int64(len(a.Elems)) < from {
			a.Elems = append(a.Elems, nil)
		}
		end := min(from+max(count, 0), int64(len(a.Elems)))
		tail := append([]Value(nil), a.Elems[end:]...)
		a.Elems = append(append(a.Elems[:from], repl...), tail...)
		return v, nil
	})
	push := func(c *Call) (Value, error) {
		a, err := c.mutableArray()
		if err != nil {
			return nil, err
		}
		if err := c.In.charge(24 * len(c.Args)); err != nil {
			return nil, err
		}
		a.Elems = append(a.Elems, c.Args...)
		return a, nil
	}
	k.DefN("push", 0, -1, push)
	k.alias("push", "append")
	k.DefN("<<", 1, 1, push)
	k.DefN("concat", 0, -1, func(c *Call) (Value, error) {
		a, err := c.mutableArray()
		if err != nil {
			return nil, err
		}
		for _, x := range c.Args {
			b, err := c.In.arr(x)
			if err != nil {
				return nil, err
			}
			if err := c.In.charge(16 * len(b.Elems)); err != nil {
				return nil, err
			}
			a.Elems = append(a.Elems, b.Elems...)
		}
		return a, nil
	})
	ends := func(front bool) native {
		return func(c *Call) (Value, error) {
			a, err := c.mutableArray()
			if err != nil {
				return nil, err
			}
			n, err := c.intArg(0, 1)
			if err != nil {
				return nil, err
			}
			m := int(max(0, min(n, int64(len(a.Elems)))))
			var cut []Value
			if front {
				cut = append(cut, a.Elems[:m]...)
				a.Elems = a.Elems[m:]
			} else {
				cut = append(cut, a.Elems[len(a.Elems)-m:]...)
				a.Elems = a.Elems[:len(a.Elems)-m]
			}
			if len(c.Args) > 0 {
				return &Array{Elems: cut}, nil
			}
			if m == 0 {
				return nil, nil
			}
			return cut[0], nil
		}
	}
	k.DefN("pop", 0, 1, ends(false))
	k.DefN("shift", 0, 1, ends(true))
	k.DefN("unshift", 0, -1, func(c *Call) (Value, error) {
		a, err := c.mutableArray()
		if err != nil {
			return nil, err
		}
		if err := c.In.charge(16 * (len(c.Args) + len(a.Elems))); err != nil {
			return nil, err
		}
		a.Elems = append(append([]Value(nil), c.Args...), a.Elems...)
		return a, nil
	})
	k.alias("unshift", "prepend")
	k.DefN("insert", 1, -1, func(c *Call) (Value, error) {
		a, err := c.mutableArray()
		if err != nil {
			return nil, err
		}
		i, err := c.In.num(c.Args[0])
		if err != nil {
			return nil, err
		}
		if len(c.Args) == 1 {
			return a, nil
		}
		if i < 0 {
			i += int64(len(a.Elems)) + 1
		}
		if i < 0 {
			return nil, c.In.Raise(c.In.eIndex, "index %d too small for array; minimum: -%d", i-int64(len(a.Elems))-1, len(a.Elems)+1)
		}
		if err := c.In.chargeBig(16 * (int64(len(c.Args)+len(a.Elems)) + min(i, math.MaxInt64/32))); err != nil {
			return nil, err
		}
		for int64(len(a.Elems)) < i {
			a.Elems = append(a.Elems, nil)
		}
		tail := append([]Value(nil), a.Elems[i:]...)
		a.Elems = append(append(a.Elems[:i], c.Args[1:]...), tail...)
		return a, nil
	})
	k.DefN("first", 0, 1, func(c *Call) (Value, error) {
		a := elems(c)
		if len(c.Args) == 0 {
			if len(a) == 0 {
				return nil, nil
			}
			return a[0], nil
		}
		n, err := c.In.num(c.Args[0])
		if err != nil {
			return nil, err
		}
		if n < 0 {
			return nil, c.In.Raise(c.In.eArgument, "negative array size")
		}
		return fresh(c, a[:min(n, int64(len(a)))])
	})
	k.DefN("take", 1, 1, k.methods["first"].native)
	k.DefN("last", 0, 1, func(c *Call) (Value, error) {
		a := elems(c)
		if len(c.Args) == 0 {
			if len(a) == 0 {
				return nil, nil
			}
			return a[len(a)-1], nil
		}
		n, err := c.In.num(c.Args[0])
		if err != nil {
			return nil, err
		}
		return fresh(c, a[max(0, int64(len(a))-max(n, 0)):])
	})
	k.DefN("join", 0, 1, func(c *Call) (Value, error) {
		sep := ""
		if len(c.Args) > 0 && c.Args[0] != nil {
			var err error
			if sep, err = c.strArg(0); err != nil {
				return nil, err
			}
		}
		var b strings.Builder
		err := c.In.join(elems(c), sep, &b)
		return NewString(b.String()), err
	})
	k.DefN("+", 1, 1, func(c *Call) (Value, error) {
		o, err := c.In.arr(c.Args[0])
		if err != nil {
			return nil, err
		}
		if err := c.In.charge(48 + 16*(len(elems(c))+len(o.Elems))); err != nil {
			return nil, err
		}
		return &Array{Elems: append(append([]Value(nil), elems(c)...), o.Elems...)}, nil
	})
	without := func(c *Call) (Value, error) {
		drop := &Hash{}
		for _, x := range c.Args {
			o, err := c.In.arr(x)
			if err != nil {
				return nil, err
			}
			for _, v := range o.Elems {
				drop.Set(v, true)
			}
		}
		out := &Array{}
		for _, v := range elems(c) {
			if _, ok := drop.Get(v); !ok {
				out.Elems = append(out.Elems, v)
			}
		}
		return out, c.In.charge(16 * len(elems(c)))
	}
	k.DefN("-", 1, 1, without)
	k.DefN("difference", 0, -1, without)
	k.DefN("&", 1, 1, func(c *Call) (Value, error) {
		o, err := c.In.arr(c.Args[0])
		if err != nil {
			return nil, err
		}
		keep := c.In.setOf(o.Elems)
		out := &Array{}
		for _, v := range elems(c) {
			if _, ok := keep.Delete(v); ok {
				out.Elems = append(out.Elems, v)
			}
		}
		return out, nil
	})
	for name, op := range map[string]string{"intersection": "&", "union": "|"} {
		k.DefN(name, 0, -1, func(c *Call) (Value, error) {
			all := &Array{}
			var v Value = &Array{Elems: elems(c)}
			var err error
			for _, a := range append([]Value{all}, c.Args...) {
				if op == "&" && a == Value(all) {
					a = v
				}
				if v, err = c.In.Call(v, op, []Value{a}, nil); err != nil {
					return nil, err
				}
			}
			return v, nil
		})
	}
	k.DefN("intersect?", 1, 1, func(c *Call) (Value, error) {
		o, err := c.In.arr(c.Args[0])
		if err != nil {
			return nil, err
		}
		set := c.In.setOf(o.Elems)
		for _, v := range elems(c) {
			if _, ok := set.Get(v); ok {
				return true, nil
			}
		}
		return false, nil
	})
	k.DefN("|", 1, 1, func(c *Call) (Value, error) {
		o, err := c.In.arr(c.Args[0])
		if err != nil {
			return nil, err
		}
		all := append(append([]Value(nil), elems(c)...), o.Elems...)
		return &Array{Elems: c.In.setOf(all).Keys()}, c.In.charge(96 * len(all))
	})
	k.DefN("*", 1, 1, func(c *Call) (Value, error) {
		if s, ok := c.Args[0].(*String); ok {
			var b strings.Builder
			err := c.In.join(elems(c), s.s, &b)
			return NewString(b.String()), err
		}
		n, err := c.In.num(c.Args[0])
		if err != nil {
			return nil, err
		}
		if n < 0 {
			return nil, c.In.Raise(c.In.eArgument, "argument must be non-negative")
		}
		a := elems(c)
		if len(a) > 0 && n > c.In.limits.Memory/int64(16*len(a)) {
			return nil, &LimitError{Limit: "memory"}
		}
		if err := c.In.charge(16 * len(a) * int(n)); err != nil {
			return nil, err
		}
		out := &Array{}
		for ; n > 0 && len(a) > 0; n-- {
			out.Elems = append(out.Elems, a...)
		}
		return out, nil
	})
	k.DefN("flatten", 0, 1, func(c *Call) (Value, error) {
		depth, err := c.intArg(0, -1)
		if err != nil && c.Args[0] != nil {
			return nil, err
		}
		var out []Value
		err = c.In.flatten(elems(c), depth, &out)
		return &Array{Elems: out}, err
	})
	k.DefN("compact", 0, 0, func(c *Call) (Value, error) {
		out := &Array{}
		for _, v := range elems(c) {
			if v != nil {
				out.Elems = append(out.Elems, v)
			}
		}
		return out, c.In.charge(16 * len(out.Elems))
	})
	k.DefN("reverse", 0, 0, func(c *Call) (Value, error) {
		a := elems(c)
		out := make([]Value, len(a))
		for i, v := range a {
			out[len(a)-1-i] = v
		}
		return &Array{Elems: out}, c.In.charge(16 * len(out))
	})
	k.DefN("rotate", 0, 1, func(c *Call) (Value, error) {
		n, err := c.intArg(0, 1)
		a := elems(c)
		if len(a) == 0 || err != nil {
			return &Array{}, err
		}
		i := int((n%int64(len(a)) + int64(len(a))) % int64(len(a)))
		if err := c.In.charge(16 * len(a)); err != nil {
			return nil, err
		}
		return &Array{Elems: append(append([]Value(nil), a[i:]...), a[:i]...)}, nil
	})
	k.DefN("shuffle", 0, 1, func(c *Call) (Value, error) { return fresh(c, elems(c)) })
	k.DefN("sample", 0, 1, k.methods["first"].native)
	k.DefN("transpose", 0, 0, func(c *Call) (Value, error) {
		out := &Array{}
		for i, r := range elems(c) {
			row, err := c.In.arr(r)
			if err != nil {
				return nil, err
			}
			if err := c.In.charge(24 * len(row.Elems)); err != nil {
				return nil, err
			}
			if i == 0 {
				if err := c.In.charge(80 * len(row.Elems)); err != nil {
					return nil, err
				}
				for range row.Elems {
					out.Elems = append(out.Elems, &Array{})
				}
			}
			if len(row.Elems) != len(out.Elems) {
				return nil, c.In.Raise(c.In.eIndex, "element size differs (%d should be %d)", len(row.Elems), len(out.Elems))
			}
			for j, v := range row.Elems {
				o := out.Elems[j].(*Array)
				o.Elems = append(o.Elems, v)
			}
		}
		return out, nil
	})
	k.DefN("assoc", 1, 1, func(c *Call) (Value, error) {
		for _, v := range elems(c) {
			if p, ok := v.(*Array); ok && len(p.Elems) > 0 {
				if eq, err := c.In.equal(c.fr, p.Elems[0], c.Args[0]); eq || err != nil {
					return p, err
				}
			}
		}
		return nil, nil
	})
	k.DefN("rassoc", 1, 1, func(c *Call) (Value, error) {
		for _, v := range elems(c) {
			if p, ok := v.(*Array); ok && len(p.Elems) > 1 {
				if eq, err := c.In.equal(c.fr, p.Elems[1], c.Args[0]); eq || err != nil {
					return p, err
				}
			}
		}
		return nil, nil
	})
	k.DefN("rindex", 0, 1, func(c *Call) (Value, error) {
		if c.Block == nil && len(c.Args) == 0 {
			return c.enum()
		}
		a := elems(c)
		for i := len(a) - 1; i >= 0; i-- {
			var ok bool
			var err error
			if len(c.Args) > 0 {
				ok, err = c.In.equal(c.fr, a[i], c.Args[0])
			} else {
				ok, err = c.test(a[i])
			}
			if err != nil {
				return nil, err
			}
			if ok {
				return int64(i), nil
			}
		}
		return nil, nil
	})
	k.DefN("index", 0, 1, in.cEnumerable.methods["find_index"].native)
	k.DefN("delete", 1, 1, func(c *Call) (Value, error) {
		a, err := c.mutableArray()
		if err != nil {
			return nil, err
		}
		var found Value
		keep := a.Elems[:0:0]
		for _, v := range a.Elems {
			eq, err := c.In.equal(c.fr, v, c.Args[0])
			if err != nil {
				return nil, err
			}
			if eq {
				found = v
			} else {
				keep = append(keep, v)
			}
		}
		if len(keep) == len(a.Elems) {
			if c.Block != nil {
				return c.yield(c.Args[0])
			}
			return nil, nil
		}
		a.Elems = keep
		return found, nil
	})
	k.DefN("delete_at", 1, 1, func(c *Call) (Value, error) {
		a, err := c.mutableArray()
		if err != nil {
			return nil, err
		}
		i, err := c.In.num(c.Args[0])
		if i < 0 {
			i += int64(len(a.Elems))
		}
		if i < 0 || i >= int64(len(a.Elems)) || err != nil {
			return nil, err
		}
		v := a.Elems[i]
		a.Elems = append(a.Elems[:i:i], a.Elems[i+1:]...)
		return v, nil
	})
	k.DefN("slice!", 1, 2, func(c *Call) (Value, error) {
		a, err := c.mutableArray()
		if err != nil {
			return nil, err
		}
		v, err := index(c)
		if err != nil || v == nil {
			return nil, err
		}
		n := int64(len(a.Elems))
		from, count := int64(0), int64(1)
		if r, ok := c.Args[0].(*Range); ok {
			from, count, _, _ = c.In.span(r, n)
		} else {
			from, _ = c.In.num(c.Args[0])
			if from < 0 {
				from += n
			}
			if len(c.Args) == 2 {
				count = int64(len(v.(*Array).Elems))
			}
		}
		a.Elems = append(a.Elems[:from:from], a.Elems[from+count:]...)
		return v, nil
	})
	k.DefN("clear", 0, 0, func(c *Call) (Value, error) {
		a, err := c.mutableArray()
		if err == nil {
			a.Elems = nil
		}
		return a, err
	})
	k.DefN("replace", 1, 1, func(c *Call) (Value, error) {
		a, err := c.mutableArray()
		if err != nil {
			return nil, err
		}
		o, err := c.In.arr(c.Args[0])
		if err == nil {
			a.Elems = append([]Value(nil), o.Elems...)
		}
		return a, err
	})
	// bang defines name! by the copying method from; it answers nil when
	// nothing changed, unless always.
	bang := func(name, from string, always bool) {
		m := k.find(from)
		k.DefN(name, m.min, m.max, func(c *Call) (Value, error) {
			a, err := c.mutableArray()
			if err != nil {
				return nil, err
			}
			if c.Block == nil && (from == "map" || from == "select" || from == "reject" || from == "sort_by") {
				return c.enum()
			}
			v, err := m.native(c)
			if err != nil {
				return nil, err
			}
			n := len(a.Elems)
			a.Elems = append([]Value(nil), v.(*Array).Elems...)
			if !always && len(a.Elems) == n {
				return nil, nil
			}
			return a, nil
		})
	}
	bang("map!", "map", true)
	bang("collect!", "map", true)
	bang("select!", "select", false)
	bang("filter!", "select", false)
	bang("keep_if", "select", true)
	bang("reject!", "reject", false)
	bang("delete_if", "reject", true)
	bang("sort!", "sort", true)
	bang("sort_by!", "sort_by", true)
	bang("uniq!", "uniq", false)
	bang("compact!", "compact", false)
	bang("flatten!", "flatten", false)
	bang("reverse!", "reverse", true)
	bang("shuffle!", "shuffle", true)
	combos := func(c *Call) (Value, error) {
		a := elems(c)
		n, err := c.intArg(0, int64(len(a)))
		if err != nil {
			return nil, err
		}
		out := &Array{}
		used := make([]bool, len(a))
		var pick func(from int, cur []Value) error
		pick = func(from int, cur []Value) error {
			if int64(len(cur)) == n {
				out.Elems = append(out.Elems, &Array{Elems: append([]Value(nil), cur...)})
				if err := c.In.step(); err != nil {
					return err
				}
				return c.In.charge(64 + 16*len(cur))
			}
			for i := from; i < len(a); i++ {
				if used[i] {
					continue
				}
				used[i] = true
				next := i + 1
				if c.Name == "permutation" {
					next = 0
				}
				err := pick(next, append(cur, a[i]))
				used[i] = false
				if err != nil {
					return err
				}
			}
			return nil
		}
		if n >= 0 && n <= int64(len(a)) && n <= 1000 {
			if err := pick(0, nil); err != nil {
				return nil, err
			}
		}
		if c.Block == nil {
			return c.In.enumerator(out, "each", nil), nil
		}
		for _, v := range out.Elems {
			if _, err := c.yield(v); err != nil {
				return nil, err
			}
		}
		return c.Self, nil
	}
	k.DefN("combination", 1, 1, combos)
	k.DefN("permutation", 0, 1, combos)
	k.DefN("product", 0, -1, func(c *Call) (Value, error) {
		rows := [][]Value{{}}
		for _, list := range append([]Value{c.Self}, c.Args...) {
			l, err := c.In.arr(list)
			if err != nil {
				return nil, err
			}
			var next [][]Value
			for _, r := range rows {
				for _, v := range l.Elems {
					if err := c.In.charge(64 + 16*len(r)); err != nil {
						return nil, err
					}
					next = append(next, append(r[:len(r):len(r)], v))
				}
			}
			rows = next
		}
		out := &Array{}
		for _, r := range rows {
			out.Elems = append(out.Elems, &Array{Elems: r})
		}
		return c.eachOr(out)
	})
	k.DefN("pack", 1, 2, func(c *Call) (Value, error) {
		f, err := c.strArg(0)
		if err != nil {
			return nil, err
		}
		var b strings.Builder
		for _, v := range elems(c) {
			n, err := c.In.num(v)
			if err != nil {
				return nil, err
			}
			switch f {
			case "C*", "c*":
				b.WriteByte(byte(n))
			case "U*":
				b.WriteRune(rune(n))
			default:
				return nil, c.In.Raise(c.In.eArgument, "pack(%q) is not supported", f)
			}
		}
		return NewString(b.String()), nil
	})
}

// dig is Array#dig and Hash#dig.
func dig(c *Call) (Value, error) {
	v, err := c.In.Call(c.Self, "[]", c.Args[:1], nil)
	if err != nil || v == nil || len(c.Args) == 1 {
		return v, err
	}
	if !c.In.RespondTo(v, "dig") {
		return nil, c.In.Raise(c.In.eType, "%s does not have #dig method", c.In.className(c.In.ClassOf(v)))
	}
	return c.In.Call(v, "dig", c.Args[1:], nil)
}
