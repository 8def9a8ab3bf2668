package ruby

import (
	"fmt"
	"math"
	"slices"
)

// enumeration is the payload of an Enumerator: a call still without its block.
type enumeration struct {
	recv Value
	name string
	args []Value
	buf  []Value // of next
	pos  int
}

func (in *Interp) enumerator(recv Value, name string, args []Value) Value {
	return &Object{Class: in.cEnumerator, Data: &enumeration{recv: recv, name: name, args: args}}
}

// enum is what an iterator answers when it is called without a block.
func (c *Call) enum() (Value, error) { return c.In.enumerator(c.Self, c.Name, c.Args), nil }

func (in *Interp) sortValues(vals []Value, cmp func(a, b Value) (int, error)) ([]Value, error) {
	out := append([]Value(nil), vals...)
	if err := in.charge(16 * len(out)); err != nil {
		return nil, err
	}
	var failed error
	slices.SortStableFunc(out, func(a, b Value) int {
		if failed != nil {
			return 0
		}
		if failed = in.step(); failed != nil {
			return 0
		}
		// The sort asks for (later, earlier); messages are to name the
		// earlier one first, as Ruby's do.
		n, err := cmp(b, a)
		if err != nil {
			failed = err
		}
		return -n
	})
	return out, failed
}

// order is the comparison of sort, min and max: the block's, or <=>.
func (c *Call) order() func(a, b Value) (int, error) {
	if c.Block == nil {
		return c.In.compare
	}
	return func(a, b Value) (int, error) {
		v, err := c.yield(a, b)
		if err != nil {
			return 0, err
		}
		if v == nil {
			return 0, c.In.notComparable(a, b)
		}
		return c.In.compare(v, int64(0))
	}
}

// eachOr answers with a list, or with the receiver once a block has had each of
// its elements.
func (c *Call) eachOr(a *Array) (Value, error) {
	if c.Block == nil {
		return a, nil
	}
	for _, v := range a.Elems {
		if _, err := c.yield(v); err != nil {
			return nil, err
		}
	}
	return c.Self, nil
}

// spread calls fn for each element, together with the values that were given
// at once where they were several: map, count and some others hand those on
// to their block one by one.
func (c *Call) spread(fn func(v Value, args []Value) error) error {
	o, ok := c.Self.(*Object)
	if ok {
		switch o.Data.(type) {
		case *Hash, *structData, *lazy:
			ok = false
		}
	}
	if !ok {
		return c.In.iterate(c.Self, func(v Value) error { return fn(v, []Value{v}) })
	}
	blk := &Proc{arity: -1, native: func(d *Call) (Value, error) {
		args := append([]Value(nil), d.Args...)
		if len(args) == 1 {
			return nil, fn(args[0], args)
		}
		return nil, fn(&Array{Elems: args}, args)
	}}
	_, err := c.In.send(nil, o, "each", nil, blk, true)
	return err
}

// by returns elements with the block's value of each.
func (c *Call) by() (elems, keys []Value, err error) {
	err = c.In.iterate(c.Self, func(v Value) error {
		k, err := c.yield(v)
		elems, keys = append(elems, v), append(keys, k)
		return err
	})
	return elems, keys, err
}

// pick is the condition of all?, any?, none?, one?, count and grep: a pattern,
// the block, or truth.
func (c *Call) pick(v Value, args []Value) (bool, error) {
	if len(c.Args) > 0 {
		return c.In.caseEq(c.fr, c.Args[0], v)
	}
	if c.Block != nil {
		return c.test(args...)
	}
	return Truthy(v), nil
}

func unstop(err error) error {
	if err == errStop {
		return nil
	}
	return err
}

func (in *Interp) bootEnumerable() {
	e := in.cEnumerable
	// iter defines a method that needs a block, and is an Enumerator without.
	iter := func(name string, least, most int, fn native, aliases ...string) {
		e.DefN(name, least, most, func(c *Call) (Value, error) {
			if c.Block == nil {
				return c.enum()
			}
			return fn(c)
		})
		e.alias(name, aliases...)
	}
	each := func(c *Call, fn func(v Value) error) error { return c.In.iterate(c.Self, fn) }

	toA := func(c *Call) (Value, error) {
		var out []Value
		err := each(c, func(v Value) error {
			out = append(out, v)
			return c.In.charge(16)
		})
		return &Array{Elems: out}, err
	}
	e.DefN("to_a", 0, 0, toA)
	e.alias("to_a", "entries", "force")
	iter("map", 0, 0, func(c *Call) (Value, error) {
		var out []Value
		err := c.spread(func(_ Value, args []Value) error {
			r, err := c.yield(args...)
			out = append(out, r)
			if err != nil {
				return err
			}
			return c.In.charge(16)
		})
		return &Array{Elems: out}, err
	}, "collect")
	iter("flat_map", 0, 0, func(c *Call) (Value, error) {
		var out []Value
		err := c.spread(func(_ Value, args []Value) error {
			r, err := c.yield(args...)
			if a, ok := r.(*Array); ok {
				out = append(out, a.Elems...)
				if err == nil {
					err = c.In.charge(16 * len(a.Elems))
				}
			} else {
				out = append(out, r)
			}
			return err
		})
		return &Array{Elems: out}, err
	}, "collect_concat")
	filter := func(keep bool) native {
		return func(c *Call) (Value, error) {
			var out []Value
			err := each(c, func(v Value) error {
				ok, err := c.test(v)
				if err == nil && ok == keep {
					out = append(out, v)
					return c.In.charge(16)
				}
				return err
			})
			return &Array{Elems: out}, err
		}
	}
	iter("select", 0, 0, filter(true), "filter", "find_all")
	iter("reject", 0, 0, filter(false))
	iter("filter_map", 0, 0, func(c *Call) (Value, error) {
		var out []Value
		err := c.spread(func(_ Value, args []Value) error {
			r, err := c.yield(args...)
			if err == nil && Truthy(r) {
				out = append(out, r)
				return c.In.charge(16)
			}
			return err
		})
		return &Array{Elems: out}, err
	})
	iter("find", 0, 1, func(c *Call) (Value, error) {
		var found Value
		err := each(c, func(v Value) error {
			ok, err := c.test(v)
			if err == nil && ok {
				found = v
				return errStop
			}
			return err
		})
		if err == nil && c.Arg(0) != nil {
			return c.In.send(c.fr, c.Args[0], "call", nil, nil, false)
		}
		return found, unstop(err)
	}, "detect")
	e.DefN("find_index", 0, 1, func(c *Call) (Value, error) {
		if c.Block == nil && len(c.Args) == 0 {
			return c.enum()
		}
		var found Value
		i := int64(0)
		err := c.spread(func(v Value, args []Value) error {
			var ok bool
			var err error
			if len(c.Args) > 0 {
				ok, err = c.In.equal(c.fr, v, c.Args[0])
			} else {
				ok, err = c.test(args...)
			}
			if err == nil && ok {
				found = i
				return errStop
			}
			i++
			return err
		})
		return found, unstop(err)
	})
	quantify := func(start bool, step func(ok bool) (decided, result bool)) native {
		return func(c *Call) (Value, error) {
			res := start
			err := c.spread(func(v Value, args []Value) error {
				ok, err := c.pick(v, args)
				if err != nil {
					return err
				}
				if d, r := step(ok); d {
					res = r
					return errStop
				}
				return nil
			})
			return res, unstop(err)
		}
	}
	e.DefN("all?", 0, 1, quantify(true, func(ok bool) (bool, bool) { return !ok, false }))
	e.DefN("any?", 0, 1, quantify(false, func(ok bool) (bool, bool) { return ok, true }))
	e.DefN("none?", 0, 1, quantify(true, func(ok bool) (bool, bool) { return ok, false }))
	e.DefN("one?", 0, 1, func(c *Call) (Value, error) {
		n := 0
		err := c.spread(func(v Value, args []Value) error {
			ok, err := c.pick(v, args)
			if ok {
				if n++; n > 1 {
					return errStop
				}
			}
			return err
		})
		return n == 1, unstop(err)
	})
	e.DefN("count", 0, 1, func(c *Call) (Value, error) {
		n := int64(0)
		err := c.spread(func(v Value, args []Value) error {
			ok := true
			var err error
			if len(c.Args) > 0 {
				ok, err = c.In.equal(c.fr, v, c.Args[0])
			} else if c.Block != nil {
				ok, err = c.test(args...)
			}
			if ok {
				n++
			}
			return err
		})
		return n, err
	})
	e.DefN("include?", 1, 1, func(c *Call) (Value, error) {
		found := false
		err := each(c, func(v Value) error {
			ok, err := c.In.equal(c.fr, v, c.Args[0])
			if ok && err == nil {
				found = true
				return errStop
			}
			return err
		})
		return found, unstop(err)
	})
	e.alias("include?", "member?")
	iter("each_with_index", 0, 0, func(c *Call) (Value, error) {
		i := int64(0)
		return c.Self, each(c, func(v Value) error {
			_, err := c.yield(v, i)
			i++
			return err
		})
	})
	iter("each_with_object", 1, 1, func(c *Call) (Value, error) {
		return c.Args[0], each(c, func(v Value) error {
			_, err := c.yield(v, c.Args[0])
			return err
		})
	})
	iter("each_entry", 0, 0, func(c *Call) (Value, error) {
		return c.Self, each(c, func(v Value) error { _, err := c.yield(v); return err })
	})
	iter("reverse_each", 0, 0, func(c *Call) (Value, error) {
		vals, err := c.In.elements(c.Self)
		for i := len(vals) - 1; err == nil && i >= 0; i-- {
			_, err = c.yield(vals[i])
		}
		return c.Self, err
	})
	e.DefN("inject", 0, 2, func(c *Call) (Value, error) {
		args := c.Args
		op := ""
		if n := len(args); n > 0 && (n == 2 || c.Block == nil) {
			var err error
			if op, err = c.In.methodName(args[n-1]); err != nil {
				return nil, err
			}
			args = args[:n-1]
		}
		var acc Value
		have := len(args) > 0
		if have {
			acc = args[0]
		}
		err := each(c, func(v Value) error {
			if !have {
				acc, have = v, true
				return nil
			}
			var err error
			if op != "" {
				acc, err = c.In.binop(c.fr, op, acc, v)
			} else {
				acc, err = c.yield(acc, v)
			}
			return err
		})
		return acc, err
	})
	e.alias("inject", "reduce")
	e.DefN("sum", 0, 1, func(c *Call) (Value, error) {
		var acc Value = int64(0)
		if len(c.Args) > 0 {
			acc = c.Args[0]
		}
		// Floats are summed as Ruby does, by Kahan and Babuska.
		compensation := 0.0
		err := each(c, func(v Value) error {
			var err error
			if c.Block != nil {
				if v, err = c.yield(v); err != nil {
					return err
				}
			}
			_, af := acc.(float64)
			_, vf := v.(float64)
			if (af || vf) && isNumber(acc) && isNumber(v) {
				a, x := floatOf(acc), floatOf(v)
				t := a + x
				switch {
				case math.IsInf(t, 0) || math.IsNaN(t):
				case math.Abs(a) >= math.Abs(x):
					compensation += (a - t) + x
				default:
					compensation += (x - t) + a
				}
				acc = t
				return nil
			}
			acc, err = c.In.binop(c.fr, "+", acc, v)
			return err
		})
		if f, ok := acc.(float64); ok {
			acc = f + compensation
		}
		return acc, err
	})
	e.DefN("first", 0, 1, func(c *Call) (Value, error) {
		n := int64(1)
		if len(c.Args) > 0 {
			var err error
			if n, err = c.In.num(c.Args[0]); err != nil {
				return nil, err
			}
			if n < 0 {
				return nil, c.In.Raise(c.In.eArgument, "attempt to take negative size")
			}
		}
		var out []Value
		if n > 0 {
			if err := unstop(each(c, func(v Value) error {
				out = append(out, v)
				if int64(len(out)) >= n {
					return errStop
				}
				return c.In.charge(16)
			})); err != nil {
				return nil, err
			}
		}
		if len(c.Args) > 0 {
			return &Array{Elems: out}, nil
		}
		if len(out) == 0 {
			return nil, nil
		}
		return out[0], nil
	})
	e.DefN("take", 1, 1, e.methods["first"].native)
	e.DefN("drop", 1, 1, func(c *Call) (Value, error) {
		vals, err := c.In.elements(c.Self)
		if err != nil {
			return nil, err
		}
		n, err := c.In.num(c.Args[0])
		if n < 0 {
			return nil, c.In.Raise(c.In.eArgument, "attempt to drop negative size")
		}
		if err != nil {
			return nil, err
		}
		vals = vals[min(n, int64(len(vals))):]
		return &Array{Elems: append([]Value(nil), vals...)}, c.In.charge(16 * len(vals))
	})
	iter("take_while", 0, 0, func(c *Call) (Value, error) {
		var out []Value
		err := c.spread(func(v Value, args []Value) error {
			ok, err := c.test(args...)
			if err == nil && !ok {
				return errStop
			}
			out = append(out, v)
			if err == nil {
				err = c.In.charge(16)
			}
			return err
		})
		return &Array{Elems: out}, unstop(err)
	})
	iter("drop_while", 0, 0, func(c *Call) (Value, error) {
		var out []Value
		dropping := true
		err := each(c, func(v Value) error {
			if dropping {
				ok, err := c.test(v)
				if err != nil || ok {
					return err
				}
				dropping = false
			}
			out = append(out, v)
			return c.In.charge(16)
		})
		return &Array{Elems: out}, err
	})
	e.DefN("sort", 0, 0, func(c *Call) (Value, error) {
		vals, err := c.In.elements(c.Self)
		if err != nil {
			return nil, err
		}
		out, err := c.In.sortValues(vals, c.order())
		return &Array{Elems: out}, err
	})
	iter("sort_by", 0, 0, func(c *Call) (Value, error) {
		elems, keys, err := c.by()
		if err != nil {
			return nil, err
		}
		idx := make([]Value, len(elems))
		for i := range idx {
			idx[i] = int64(i)
		}
		idx, err = c.In.sortValues(idx, func(a, b Value) (int, error) {
			return c.In.compare(keys[a.(int64)], keys[b.(int64)])
		})
		out := make([]Value, len(idx))
		for i := range idx {
			out[i] = elems[idx[i].(int64)]
		}
		return &Array{Elems: out}, err
	})
	extreme := func(c *Call, want int) (Value, error) {
		cmp := c.order()
		vals, err := c.In.elements(c.Self)
		if err != nil {
			return nil, err
		}
		if len(c.Args) > 0 && c.Args[0] != nil {
			n, err := c.In.num(c.Args[0])
			if err != nil {
				return nil, err
			}
			out, err := c.In.sortValues(vals, func(a, b Value) (int, error) {
				r, err := cmp(a, b)
				return -want * r, err
			})
			return &Array{Elems: out[:max(0, min(n, int64(len(out))))]}, err
		}
		var best Value
		for i, v := range vals {
			if i == 0 {
				best = v
				continue
			}
			l, r, sign := v, best, want
			if _, array := c.Self.(*Array); array && c.Block == nil {
				l, r, sign = best, v, -want // messages name them in this order
			}
			n, err := cmp(l, r)
			if err != nil {
				return nil, err
			}
			if n*sign > 0 {
				best = v
			}
		}
		return best, nil
	}
	e.DefN("max", 0, 1, func(c *Call) (Value, error) { return extreme(c, 1) })
	e.DefN("min", 0, 1, func(c *Call) (Value, error) { return extreme(c, -1) })
	e.DefN("minmax", 0, 0, func(c *Call) (Value, error) {
		lo, err := extreme(c, -1)
		if err != nil {
			return nil, err
		}
		hi, err := extreme(c, 1)
		return NewArray(lo, hi), err
	})
	e.DefN("minmax_by", 0, 0, func(c *Call) (Value, error) {
		lo, err := c.In.Call(c.Self, "min_by", nil, c.Block)
		if err != nil || c.Block == nil {
			return lo, err
		}
		hi, err := c.In.Call(c.Self, "max_by", nil, c.Block)
		return NewArray(lo, hi), err
	})
	extremeBy := func(want int) native {
		return func(c *Call) (Value, error) {
			elems, keys, err := c.by()
			if err != nil {
				return nil, err
			}
			if c.Arg(0) != nil {
				n, err := c.In.num(c.Args[0])
				if err != nil {
					return nil, err
				}
				if n < 0 {
					return nil, c.In.Raise(c.In.eArgument, "negative size (%d)", n)
				}
				idx := make([]Value, len(elems))
				for i := range idx {
					idx[i] = int64(i)
				}
				idx, err = c.In.sortValues(idx, func(a, b Value) (int, error) {
					r, err := c.In.compare(keys[a.(int64)], keys[b.(int64)])
					return -want * r, err
				})
				out := &Array{}
				for _, i := range idx[:min(n, int64(len(idx)))] {
					out.Elems = append(out.Elems, elems[i.(int64)])
				}
				return out, err
			}
			best := -1
			for i := range keys {
				if best < 0 {
					best = i
					continue
				}
				n, err := c.In.compare(keys[i], keys[best])
				if err != nil {
					return nil, err
				}
				if n*want > 0 {
					best = i
				}
			}
			if best < 0 {
				return nil, nil
			}
			return elems[best], nil
		}
	}
	iter("max_by", 0, 1, extremeBy(1))
	iter("min_by", 0, 1, extremeBy(-1))
	iter("group_by", 0, 0, func(c *Call) (Value, error) {
		h := &Hash{}
		return h, each(c, func(v Value) error {
			k, err := c.yield(v)
			if err != nil {
				return err
			}
			if g, ok := h.Get(k); ok {
				g.(*Array).Elems = append(g.(*Array).Elems, v)
			} else {
				h.Set(k, NewArray(v))
			}
			return c.In.charge(96)
		})
	})
	iter("partition", 0, 0, func(c *Call) (Value, error) {
		yes, no := &Array{}, &Array{}
		return NewArray(yes, no), each(c, func(v Value) error {
			ok, err := c.test(v)
			if ok {
				yes.Elems = append(yes.Elems, v)
			} else {
				no.Elems = append(no.Elems, v)
			}
			if err == nil {
				err = c.In.charge(24)
			}
			return err
		})
	})
	e.DefN("tally", 0, 1, func(c *Call) (Value, error) {
		h := &Hash{}
		if len(c.Args) > 0 {
			var err error
			if h, err = c.In.hsh(c.Args[0]); err != nil {
				return nil, err
			}
			if h.frozen {
				return nil, c.In.frozenError(h)
			}
		}
		return h, each(c, func(v Value) error {
			n, _ := h.Get(v)
			k, _ := n.(int64)
			h.Set(v, k+1)
			return c.In.charge(96)
		})
	})
	grep := func(want bool) native {
		return func(c *Call) (Value, error) {
			out := &Array{}
			return out, each(c, func(v Value) error {
				ok, err := c.In.caseEq(c.fr, c.Args[0], v)
				if err != nil || ok != want {
					return err
				}
				if c.Block != nil {
					if v, err = c.yield(v); err != nil {
						return err
					}
				}
				out.Elems = append(out.Elems, v)
				return c.In.charge(16)
			})
		}
	}
	e.DefN("grep", 1, 1, grep(true))
	e.DefN("grep_v", 1, 1, grep(false))
	e.DefN("uniq", 0, 0, func(c *Call) (Value, error) {
		seen := &Hash{}
		out := &Array{}
		return out, c.spread(func(v Value, args []Value) error {
			k := v
			if c.Block != nil {
				var err error
				if k, err = c.yield(args...); err != nil {
					return err
				}
			}
			if _, dup := seen.Get(k); !dup {
				seen.Set(k, true)
				out.Elems = append(out.Elems, v)
			}
			return c.In.charge(96)
		})
	})
	e.DefN("to_set", 0, 0, func(c *Call) (Value, error) {
		h := &Hash{}
		return &Object{Class: c.In.cSet, Data: h}, each(c, func(v Value) error {
			if c.Block != nil {
				var err error
				if v, err = c.yield(v); err != nil {
					return err
				}
			}
			h.Set(v, true)
			return c.In.charge(96)
		})
	})
	e.DefN("to_h", 0, 0, func(c *Call) (Value, error) {
		h := &Hash{}
		i := 0
		return h, c.spread(func(v Value, args []Value) error {
			if c.Block != nil {
				var err error
				if v, err = c.yield(args...); err != nil {
					return err
				}
			}
			p, ok := v.(*Array)
			if !ok {
				return c.In.Raise(c.In.eType, "wrong element type %s at %d (expected array)", c.In.kindName(v), i)
			}
			if len(p.Elems) != 2 {
				return c.In.Raise(c.In.eArgument, "wrong array length at %d (expected 2, was %d)", i, len(p.Elems))
			}
			h.Set(p.Elems[0], p.Elems[1])
			i++
			return c.In.charge(96)
		})
	})
	e.DefN("zip", 0, -1, func(c *Call) (Value, error) {
		var others [][]Value
		for _, a := range c.Args {
			if !c.In.respondTo(a, "each", true) {
				return nil, c.In.Raise(c.In.eType, "wrong argument type %s (must respond to :each)", c.In.className(c.In.ClassOf(a)))
			}
			vals, err := c.In.elements(a)
			if err != nil {
				return nil, err
			}
			others = append(others, vals)
		}
		out := &Array{}
		i := 0
		err := each(c, func(v Value) error {
			row := []Value{v}
			for _, o := range others {
				if i < len(o) {
					row = append(row, o[i])
				} else {
					row = append(row, nil)
				}
			}
			i++
			if c.Block != nil {
				_, err := c.yield(&Array{Elems: row})
				return err
			}
			out.Elems = append(out.Elems, &Array{Elems: row})
			return c.In.charge(64 + 16*len(row))
		})
		if c.Block != nil {
			return nil, err
		}
		return out, err
	})
	groups := func(window bool) native {
		return func(c *Call) (Value, error) {
			n, err := c.In.num(c.Args[0])
			if err != nil {
				return nil, err
			}
			if n <= 0 {
				return nil, c.In.Raise(c.In.eArgument, "invalid slice size")
			}
			var buf []Value
			emit := func() error {
				if err := c.In.charge(72 + 16*len(buf)); err != nil {
					return err
				}
				_, err := c.yield(&Array{Elems: append([]Value(nil), buf...)})
				return err
			}
			err = each(c, func(v Value) error {
				buf = append(buf, v)
				if int64(len(buf)) < n {
					return nil
				}
				err := emit()
				if window {
					buf = buf[1:]
				} else {
					buf = nil
				}
				return err
			})
			if err == nil && !window && len(buf) > 0 {
				err = emit()
			}
			return c.Self, err
		}
	}
	iter("each_slice", 1, 1, groups(false))
	iter("each_cons", 1, 1, groups(true))
	iter("cycle", 0, 1, func(c *Call) (Value, error) {
		vals, err := c.In.elements(c.Self)
		if err != nil || len(vals) == 0 {
			return nil, err
		}
		n, err := c.intArg(0, -1)
		for ; err == nil && n != 0; n-- {
			for _, v := range vals {
				if _, err = c.yield(v); err != nil {
					return nil, err
				}
			}
		}
		return nil, err
	})
	chunk := func(split bool) native {
		return func(c *Call) (Value, error) {
			if c.Block == nil {
				return nil, c.In.Raise(c.In.eArgument, "tried to create Proc object without a block")
			}
			out := &Array{}
			var cur *Array
			var last Value
			err := each(c, func(v Value) error {
				if cur == nil {
					cur = NewArray(v)
				} else {
					ok, err := c.test(last, v)
					if err != nil {
						return err
					}
					if ok == split {
						out.Elems = append(out.Elems, cur)
						cur = NewArray(v)
					} else {
						cur.Elems = append(cur.Elems, v)
					}
				}
				last = v
				return nil
			})
			if cur != nil {
				out.Elems = append(out.Elems, cur)
			}
			return c.In.enumerator(out, "each", nil), err
		}
	}
	e.DefN("chunk_while", 0, 0, chunk(false))
	e.DefN("slice_when", 0, 0, chunk(true))

	n := in.cEnumerator
	self := func(c *Call) *enumeration {
		if e, ok := c.Self.(*Object).Data.(*enumeration); ok {
			return e
		}
		return &enumeration{recv: c.Self, name: "each"} // of a lazy one
	}
	in.singletonClass(n).DefN("new", 0, 1, func(c *Call) (Value, error) {
		return c.In.enumerator(&Object{Class: c.In.Class("Enumerator::Yielder"), Data: c.Block}, "each", nil), nil
	})
	y := in.DefineClass(n, "Yielder", nil)
	y.DefN("each", 0, 0, func(c *Call) (Value, error) {
		gen := c.Self.(*Object).Data.(*Proc)
		return c.In.Yield(gen, &Object{Class: y, Data: c.Block})
	})
	feed := func(c *Call) (Value, error) {
		_, err := c.In.Yield(c.Self.(*Object).Data.(*Proc), c.Args...)
		return c.Self, err
	}
	y.Def("<<", feed)
	y.Def("yield", feed)
	n.DefN("each", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.Self, nil
		}
		e := self(c)
		return c.In.send(nil, e.recv, e.name, e.args, c.Block, true)
	})
	withIndex := func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		from, err := c.intArg(0, 0)
		if err != nil && c.Args[0] != nil {
			return nil, err
		}
		e := self(c)
		blk := &Proc{arity: -1, native: func(d *Call) (Value, error) {
			var v Value
			if len(d.Args) == 1 {
				v = d.Args[0]
			} else {
				v = &Array{Elems: append([]Value(nil), d.Args...)}
			}
			from++
			return c.yield(v, from-1)
		}}
		return c.In.send(nil, e.recv, e.name, e.args, blk, true)
	}
	n.DefN("with_index", 0, 1, withIndex)
	n.DefN("each_with_index", 0, 0, withIndex)
	n.DefN("with_object", 1, 1, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		e := self(c)
		blk := &Proc{arity: -1, native: func(d *Call) (Value, error) {
			return c.yield(append(d.Args[:len(d.Args):len(d.Args)], c.Args[0])...)
		}}
		_, err := c.In.send(nil, e.recv, e.name, e.args, blk, true)
		return c.Args[0], err
	})
	n.DefN("size", 0, 0, func(c *Call) (Value, error) {
		vals, err := c.In.elements(c.Self)
		return int64(len(vals)), err
	})
	next := func(c *Call) (Value, error) {
		e := self(c)
		if e.buf == nil {
			vals, err := c.In.elements(c.Self)
			if err != nil {
				return nil, err
			}
			e.buf = append([]Value{}, vals...)
		}
		if e.pos >= len(e.buf) {
			return nil, c.In.Raise(c.In.eStopIteration, "iteration reached an end")
		}
		v := e.buf[e.pos]
		if c.Name == "next" {
			e.pos++
		}
		return v, nil
	}
	n.DefN("next", 0, 0, next)
	n.DefN("peek", 0, 0, next)
	n.DefN("rewind", 0, 0, func(c *Call) (Value, error) { self(c).pos = 0; return c.Self, nil })
	n.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		e := self(c)
		args := ""
		for i, a := range e.args {
			if i > 0 {
				args += ", "
			}
			args += c.In.Inspect(a)
		}
		if args != "" {
			args = "(" + args + ")"
		}
		return NewString(fmt.Sprintf("#<Enumerator: %s:%s%s>", c.In.Inspect(e.recv), e.name, args)), nil
	})
	in.bootLazy()
}
