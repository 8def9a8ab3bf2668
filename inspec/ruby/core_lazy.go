package ruby

// lazy is the payload of an Enumerator::Lazy: a collection, or another lazy
// one, and what is done to each of its elements when it is walked.
type lazy struct {
	from Value
	name string // empty: nothing
	args []Value
	blk  *Proc
}

func (in *Interp) bootLazy() {
	k := in.DefineClass(in.cEnumerator, "Lazy", in.cEnumerator)
	wrap := func(l *lazy) Value { return &Object{Class: k, Data: l} }
	in.cEnumerable.DefN("lazy", 0, 0, func(c *Call) (Value, error) { return wrap(&lazy{from: c.Self}), nil })
	k.DefN("lazy", 0, 0, func(c *Call) (Value, error) { return c.Self, nil })
	k.DefN("each", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.Self, nil
		}
		return c.Self, c.In.iterate(c.Self, func(v Value) error {
			_, err := c.yield(v)
			return err
		})
	})
	k.DefN("eager", 0, 0, func(c *Call) (Value, error) { return c.In.enumerator(c.Self, "each", nil), nil })
	k.DefN("size", 0, 0, func(c *Call) (Value, error) { return nil, nil })
	k.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		l := c.Self.(*Object).Data.(*lazy)
		s, err := c.In.inspect(l.from)
		if l.name != "" {
			s += ":" + l.name
		}
		for i, a := range l.args {
			open := ", "
			if i == 0 {
				open = "("
			}
			s += open + c.In.Inspect(a)
		}
		if len(l.args) > 0 {
			s += ")"
		}
		return NewString("#<Enumerator::Lazy: " + s + ">"), err
	})
	k.alias("inspect", "to_s")
	stage := func(least, most int, block bool, names ...string) {
		for _, n := range names {
			k.DefN(n, least, most, func(c *Call) (Value, error) {
				if block && c.Block == nil {
					return nil, c.In.Raise(c.In.eArgument, "tried to call lazy %s without a block", c.Name)
				}
				return wrap(&lazy{c.Self, c.Name, c.Args, c.Block}), nil
			})
		}
	}
	stage(0, 0, true, "map", "collect", "flat_map", "collect_concat", "select", "filter", "find_all", "reject", "filter_map", "take_while", "drop_while")
	stage(1, 1, false, "take", "drop", "grep", "grep_v")
	stage(0, 1, false, "with_index")
	stage(0, 0, false, "each_with_index", "uniq", "compact")
	stage(0, -1, false, "zip")
}

// walk calls fn for each element of l as it comes.
func (l *lazy) walk(in *Interp, fn func(Value) error) error {
	n := int64(0)
	if l.name == "take" || l.name == "drop" || l.name == "with_index" && len(l.args) > 0 && l.args[0] != nil {
		var err error
		if n, err = in.num(l.args[0]); err != nil {
			return err
		}
		if n < 0 && l.name != "with_index" {
			return in.Raise(in.eArgument, "attempt to %s negative size", l.name)
		}
	}
	if l.name == "take" && n == 0 {
		return nil
	}
	var seen Hash
	dropping := true
	lists := make([][]Value, len(l.args))
	if l.name == "zip" {
		for i, a := range l.args {
			var err error
			if lists[i], err = in.elements(a); err != nil {
				return err
			}
		}
	}
	return unstop(in.iterate(l.from, func(v Value) error {
		if err := in.step(); err != nil {
			return err
		}
		var r Value
		if l.blk != nil && l.name != "with_index" && l.name != "each_with_index" && l.name != "grep" && l.name != "grep_v" && (l.name != "drop_while" || dropping) {
			var err error
			if r, err = in.Yield(l.blk, v); err != nil {
				return err
			}
		}
		pass := true
		switch l.name {
		case "map", "collect":
			v = r
		case "flat_map", "collect_concat":
			if a, ok := r.(*Array); ok {
				for _, e := range a.Elems {
					if err := fn(e); err != nil {
						return err
					}
				}
				return nil
			}
			v = r
		case "select", "filter", "find_all":
			pass = Truthy(r)
		case "reject":
			pass = !Truthy(r)
		case "filter_map":
			v, pass = r, Truthy(r)
		case "compact":
			pass = v != nil
		case "take_while":
			if !Truthy(r) {
				return errStop
			}
		case "drop_while":
			dropping = dropping && Truthy(r)
			pass = !dropping
		case "take":
			n--
			if err := fn(v); err != nil || n > 0 {
				return err
			}
			return errStop
		case "drop":
			n--
			pass = n < 0
		case "uniq":
			key := v
			if l.blk != nil {
				key = r
			}
			if _, pass = seen.Get(key); pass {
				return nil
			}
			if err := in.charge(80); err != nil {
				return err
			}
			seen.Set(key, true)
			pass = true
		case "grep", "grep_v":
			ok, err := in.caseEq(nil, l.args[0], v)
			if err != nil {
				return err
			}
			if pass = ok == (l.name == "grep"); pass && l.blk != nil {
				if v, err = in.Yield(l.blk, v); err != nil {
					return err
				}
			}
		case "with_index", "each_with_index":
			n++
			pair := NewArray(v, n-1)
			if l.blk == nil {
				v = pair
			} else if _, err := in.Yield(l.blk, pair.Elems...); err != nil {
				return err
			}
		case "zip":
			row := NewArray(v)
			for _, list := range lists {
				var e Value
				if n < int64(len(list)) {
					e = list[n]
				}
				row.Elems = append(row.Elems, e)
			}
			n++
			v = row
		}
		if !pass {
			return nil
		}
		return fn(v)
	}))
}
