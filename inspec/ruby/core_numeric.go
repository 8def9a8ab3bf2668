package ruby

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

func isNumber(v Value) bool {
	switch v.(type) {
	case int64, float64, *big.Int, *big.Rat:
		return true
	}
	return false
}

func bigOf(v Value) *big.Int {
	switch v := v.(type) {
	case int64:
		return big.NewInt(v)
	case *big.Int:
		return v
	}
	return nil
}

func floatOf(v Value) float64 {
	switch v := v.(type) {
	case int64:
		return float64(v)
	case float64:
		return v
	case *big.Int:
		f, _ := new(big.Float).SetInt(v).Float64()
		return f
	case *big.Rat:
		f, _ := v.Float64()
		return f
	}
	return math.NaN()
}

func compareNumbers(a, b Value) (int, bool) {
	_, af := a.(float64)
	_, bf := b.(float64)
	if af || bf {
		x, y := floatOf(a), floatOf(b)
		if math.IsNaN(x) || math.IsNaN(y) {
			return 0, false
		}
		return compareOrdered(x, y), true
	}
	x, y := bigOf(a), bigOf(b)
	if x == nil || y == nil {
		return ratOf(a).Cmp(ratOf(b)), true
	}
	return x.Cmp(y), true
}

// maxBits bounds integers, so that one multiplication stays cheap.
const maxBits = 1 << 17

func (in *Interp) arithmetic(op string, a, b Value) (Value, error) {
	if !isNumber(b) {
		if o, ok := b.(*Object); ok && in.respondTo(o, "coerce", true) {
			r, err := in.Call(o, "coerce", []Value{a}, nil)
			if err != nil {
				return nil, err
			}
			if p, ok := r.(*Array); ok && len(p.Elems) == 2 {
				return in.Call(p.Elems[0], op, []Value{p.Elems[1]}, nil)
			}
		}
		return nil, in.Raise(in.eType, "%s can't be coerced into %s", in.special(b), in.className(in.ClassOf(a)))
	}
	_, af := a.(float64)
	_, bf := b.(float64)
	if af || bf {
		x, y := floatOf(a), floatOf(b)
		switch op {
		case "+":
			return x + y, nil
		case "-":
			return x - y, nil
		case "*":
			return x * y, nil
		case "/":
			return x / y, nil
		case "%":
			if y == 0 {
				return nil, in.Raise(in.eZeroDiv, "divided by 0")
			}
			m := math.Mod(x, y)
			if m != 0 && (m < 0) != (y < 0) {
				m += y
			}
			return m, nil
		case "**":
			if x < 0 && y != math.Floor(y) {
				return in.complexPower(a, b)
			}
			return math.Pow(x, y), nil
		}
	}
	x, y := bigOf(a), bigOf(b)
	if x == nil || y == nil {
		return in.rational(op, a, b)
	}
	if x.BitLen()+y.BitLen() > maxBits {
		return nil, &LimitError{Limit: "memory"}
	}
	if err := in.charge((x.BitLen() + y.BitLen()) / 8); err != nil {
		return nil, err
	}
	z := new(big.Int)
	switch op {
	case "+":
		z.Add(x, y)
	case "-":
		z.Sub(x, y)
	case "*":
		z.Mul(x, y)
	case "/", "%":
		if y.Sign() == 0 {
			return nil, in.Raise(in.eZeroDiv, "divided by 0")
		}
		m := new(big.Int)
		z.QuoRem(x, y, m)
		if m.Sign() != 0 && (m.Sign() < 0) != (y.Sign() < 0) {
			z.Sub(z, big.NewInt(1))
			m.Add(m, y)
		}
		if op == "%" {
			z = m
		}
	case "**":
		if y.Sign() < 0 {
			return in.ratPower(ratOf(a), y)
		}
		if !y.IsInt64() || int64(x.BitLen())*y.Int64() > maxBits {
			if x.BitLen() > 1 {
				return nil, &LimitError{Limit: "memory"}
			}
			y = new(big.Int).And(y, big.NewInt(3))
			y.Add(y, big.NewInt(4)) // -1, 0 and 1 only need its parity
		}
		z.Exp(x, y, nil)
	}
	return normBig(z), nil
}

func (in *Interp) bootNumeric() {
	n := in.cNumeric
	for _, op := range []string{"+", "-", "*", "/", "%", "**"} {
		n.DefN(op, 1, 1, func(c *Call) (Value, error) { return c.In.arithmetic(op, c.Self, c.Args[0]) })
	}
	n.alias("%", "modulo")
	n.DefN("pow", 1, 2, func(c *Call) (Value, error) {
		if len(c.Args) == 1 {
			return c.In.send(c.fr, c.Self, "**", c.Args, nil, false)
		}
		x, y, m := bigOf(c.Self), bigOf(c.Args[0]), bigOf(c.Args[1])
		if x == nil || y == nil || m == nil || y.Sign() < 0 {
			return nil, c.In.Raise(c.In.eType, "Integer#pow() 2nd argument not allowed unless all arguments are integers")
		}
		if m.Sign() == 0 {
			return nil, c.In.Raise(c.In.eZeroDiv, "divided by 0")
		}
		if y.BitLen() > 4096 || m.BitLen() > 4096 {
			return nil, &LimitError{Limit: "memory"}
		}
		return normBig(new(big.Int).Exp(x, y, m)), nil
	})
	for name, test := range map[string]func(int) bool{
		"<": func(n int) bool { return n < 0 }, "<=": func(n int) bool { return n <= 0 },
		">": func(n int) bool { return n > 0 }, ">=": func(n int) bool { return n >= 0 },
	} {
		n.DefN(name, 1, 1, func(c *Call) (Value, error) {
			if isNumber(c.Args[0]) {
				r, ok := compareNumbers(c.Self, c.Args[0])
				return ok && test(r), nil
			}
			if o, ok := c.Args[0].(*Object); ok && c.In.respondTo(o, "coerce", true) {
				return c.In.arithmetic(c.Name, c.Self, o)
			}
			return nil, c.In.notComparable(c.Self, c.Args[0])
		})
	}
	n.DefN("==", 1, 1, func(c *Call) (Value, error) { return c.In.equal(c.fr, c.Self, c.Args[0]) })
	n.alias("==", "===")
	n.DefN("<=>", 1, 1, func(c *Call) (Value, error) {
		if isNumber(c.Args[0]) {
			if r, ok := compareNumbers(c.Self, c.Args[0]); ok {
				return int64(r), nil
			}
		}
		return nil, nil
	})
	n.DefN("coerce", 1, 1, func(c *Call) (Value, error) {
		if bigOf(c.Self) != nil && bigOf(c.Args[0]) != nil {
			return NewArray(c.Args[0], c.Self), nil
		}
		f, err := c.In.toFloat(c.Args[0])
		return NewArray(f, floatOf(c.Self)), err
	})
	n.DefN("-@", 0, 0, func(c *Call) (Value, error) {
		if f, ok := c.Self.(float64); ok {
			return -f, nil
		}
		return c.In.arithmetic("-", int64(0), c.Self)
	})
	n.DefN("+@", 0, 0, func(c *Call) (Value, error) { return c.Self, nil })
	n.DefN("to_s", 0, 1, func(c *Call) (Value, error) {
		if len(c.Args) == 1 {
			base, err := c.In.num(c.Args[0])
			if err != nil {
				return nil, err
			}
			if base < 2 || base > 36 {
				return nil, c.In.Raise(c.In.eArgument, "invalid radix %d", base)
			}
			if b := bigOf(c.Self); b != nil {
				return c.In.newString(b.Text(int(base)))
			}
		}
		s, err := c.In.inspect(c.Self)
		if err != nil {
			return nil, err
		}
		return c.In.newString(s)
	})
	n.alias("to_s", "inspect")
	n.DefN("to_i", 0, 0, func(c *Call) (Value, error) {
		switch v := c.Self.(type) {
		case float64:
			return c.In.floatToInt(math.Trunc(v))
		case *big.Rat:
			return normBig(new(big.Int).Quo(v.Num(), v.Denom())), nil
		}
		return c.Self, nil
	})
	n.alias("to_i", "to_int")
	n.DefN("to_f", 0, 0, func(c *Call) (Value, error) { return floatOf(c.Self), nil })
	n.alias("to_f", "to_d")
	n.DefN("integer?", 0, 0, func(c *Call) (Value, error) { return bigOf(c.Self) != nil, nil })
	n.DefN("finite?", 0, 0, func(c *Call) (Value, error) {
		f := floatOf(c.Self)
		return !math.IsInf(f, 0) && !math.IsNaN(f), nil
	})
	in.cFloat.DefN("nan?", 0, 0, func(c *Call) (Value, error) { return math.IsNaN(floatOf(c.Self)), nil })
	n.DefN("infinite?", 0, 0, func(c *Call) (Value, error) {
		if f := floatOf(c.Self); math.IsInf(f, 1) {
			return int64(1), nil
		} else if math.IsInf(f, -1) {
			return int64(-1), nil
		}
		return nil, nil
	})
	sign := func(v Value) int {
		r, _ := compareNumbers(v, int64(0))
		return r
	}
	n.DefN("zero?", 0, 0, func(c *Call) (Value, error) { return sign(c.Self) == 0, nil })
	n.DefN("nonzero?", 0, 0, func(c *Call) (Value, error) {
		if f, ok := c.Self.(float64); sign(c.Self) == 0 && !(ok && math.IsNaN(f)) {
			return nil, nil
		}
		return c.Self, nil
	})
	n.DefN("positive?", 0, 0, func(c *Call) (Value, error) { return sign(c.Self) > 0, nil })
	n.DefN("negative?", 0, 0, func(c *Call) (Value, error) { return sign(c.Self) < 0, nil })
	n.DefN("abs", 0, 0, func(c *Call) (Value, error) {
		if f, ok := c.Self.(float64); ok {
			return math.Abs(f), nil
		}
		if sign(c.Self) < 0 {
			return c.In.arithmetic("-", int64(0), c.Self)
		}
		return c.Self, nil
	})
	n.alias("abs", "magnitude")
	n.DefN("fdiv", 1, 1, func(c *Call) (Value, error) {
		if !isNumber(c.Args[0]) {
			return c.In.arithmetic("/", floatOf(c.Self), c.Args[0])
		}
		return floatOf(c.Self) / floatOf(c.Args[0]), nil
	})
	n.DefN("div", 1, 1, func(c *Call) (Value, error) {
		if f, ok := c.Args[0].(float64); ok && f == 0 {
			return nil, c.In.Raise(c.In.eZeroDiv, "divided by 0")
		}
		v, err := c.In.arithmetic("/", c.Self, c.Args[0])
		if f, ok := v.(float64); ok {
			return c.In.floatToInt(math.Floor(f))
		} else if r, ok := v.(*big.Rat); ok {
			return normBig(floorRat(r)), nil
		}
		return v, err
	})
	n.DefN("divmod", 1, 1, func(c *Call) (Value, error) {
		q, err := c.In.Call(c.Self, "div", c.Args, nil)
		if err != nil {
			return nil, err
		}
		m, err := c.In.arithmetic("%", c.Self, c.Args[0])
		return NewArray(q, m), err
	})
	n.DefN("remainder", 1, 1, func(c *Call) (Value, error) {
		x, y := bigOf(c.Self), bigOf(c.Args[0])
		if x == nil || y == nil {
			m, err := c.In.arithmetic("%", c.Self, c.Args[0])
			if err != nil {
				return nil, err
			}
			if sign(m) != 0 && sign(m)*sign(c.Self) < 0 {
				return c.In.arithmetic("-", m, c.Args[0])
			}
			return m, nil
		}
		if y.Sign() == 0 {
			return nil, c.In.Raise(c.In.eZeroDiv, "divided by 0")
		}
		return normBig(new(big.Int).Rem(x, y)), nil
	})
	n.DefN("round", 0, 2, (*Call).round)
	for _, name := range []string{"floor", "ceil", "truncate"} {
		n.DefN(name, 0, 1, (*Call).round)
	}
	n.DefN("step", 0, 3, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		var limit, by Value = c.Arg(0), int64(1)
		if len(c.Args) > 1 {
			by = c.Args[1]
		}
		if h, ok := c.Arg(0).(*Hash); ok {
			limit, _ = h.Get(Symbol("to"))
			if v, ok := h.Get(Symbol("by")); ok {
				by = v
			}
		}
		down := sign(by) < 0
		if sign(by) == 0 {
			return nil, c.In.Raise(c.In.eArgument, "step can't be 0")
		}
		v := c.Self
		if _, ok := by.(float64); ok {
			v = floatOf(v)
		} else if _, ok := limit.(float64); ok {
			v = floatOf(v)
		}
		// Floats are counted, so that the last one isn't lost to rounding.
		if from, ok := v.(float64); ok && limit != nil {
			width := floatOf(by)
			n := (floatOf(limit) - from) / width
			n = math.Floor(n + math.Abs(n)*2.220446049250313e-16 + 1e-12)
			for i := 0.0; i <= n; i++ {
				if _, err := c.yield(from + i*width); err != nil {
					return nil, err
				}
			}
			return c.Self, nil
		}
		for {
			if limit != nil {
				r, ok := compareNumbers(v, limit)
				if !ok || !down && r > 0 || down && r < 0 {
					return c.Self, nil
				}
			}
			if _, err := c.yield(v); err != nil {
				return nil, err
			}
			var err error
			if v, err = c.In.arithmetic("+", v, by); err != nil {
				return nil, err
			}
		}
	})
	n.DefN("dup", 0, 0, func(c *Call) (Value, error) { return c.Self, nil })

	i := in.cInteger
	self := func(c *Call) int64 {
		v, _ := c.Self.(int64)
		return v
	}
	i.DefN("times", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		for k := int64(0); k < self(c); k++ {
			if _, err := c.yield(k); err != nil {
				return nil, err
			}
		}
		return c.Self, nil
	})
	updown := func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		to, err := c.In.num(c.Args[0])
		if err != nil {
			return nil, err
		}
		for k := self(c); c.Name == "upto" && k <= to || c.Name == "downto" && k >= to; {
			if _, err := c.yield(k); err != nil {
				return nil, err
			}
			if c.Name == "upto" {
				k++
			} else {
				k--
			}
		}
		return c.Self, nil
	}
	i.DefN("upto", 1, 1, updown)
	i.DefN("downto", 1, 1, updown)
	i.DefN("succ", 0, 0, func(c *Call) (Value, error) { return c.In.arithmetic("+", c.Self, int64(1)) })
	i.alias("succ", "next")
	i.DefN("pred", 0, 0, func(c *Call) (Value, error) { return c.In.arithmetic("-", c.Self, int64(1)) })
	i.DefN("even?", 0, 0, func(c *Call) (Value, error) { return bigOf(c.Self).Bit(0) == 0, nil })
	i.DefN("odd?", 0, 0, func(c *Call) (Value, error) { return bigOf(c.Self).Bit(0) == 1, nil })
	i.DefN("chr", 0, 1, func(c *Call) (Value, error) {
		v := self(c)
		if v < 0 || v > 0x10ffff || v > 255 && len(c.Args) == 0 {
			return nil, c.In.Raise(c.In.eRange, "%d out of char range", v)
		}
		if v > 127 && len(c.Args) == 0 {
			return NewString(string([]byte{byte(v)})), nil
		}
		return NewString(string(rune(v))), nil
	})
	i.DefN("ord", 0, 0, func(c *Call) (Value, error) { return c.Self, nil })
	i.DefN("digits", 0, 1, func(c *Call) (Value, error) {
		base := big.NewInt(10)
		if len(c.Args) > 0 {
			b, isBig := c.Args[0].(*big.Int)
			if !isBig {
				n, err := c.In.num(c.Args[0])
				if err != nil {
					return nil, err
				}
				b = big.NewInt(n)
			}
			if base = b; b.Sign() < 0 {
				return nil, c.In.Raise(c.In.eArgument, "negative radix")
			} else if b.Cmp(big.NewInt(2)) < 0 {
				return nil, c.In.Raise(c.In.eArgument, "%s", "invalid radix "+b.String())
			}
		}
		n := new(big.Int).Set(bigOf(c.Self))
		if n.Sign() < 0 {
			return nil, c.In.Raise(c.In.eDomain, "out of domain")
		}
		if err := c.In.charge(24 * n.BitLen()); err != nil {
			return nil, err
		}
		a := &Array{}
		for d := new(big.Int); len(a.Elems) == 0 || n.Sign() > 0; {
			if err := c.In.step(); err != nil {
				return nil, err
			}
			n.QuoRem(n, base, d)
			a.Elems = append(a.Elems, normBig(new(big.Int).Set(d)))
		}
		return a, nil
	})
	i.DefN("bit_length", 0, 0, func(c *Call) (Value, error) {
		n := bigOf(c.Self)
		if n.Sign() < 0 {
			n = new(big.Int).Not(n)
		}
		return int64(n.BitLen()), nil
	})
	i.DefN("gcd", 1, 1, func(c *Call) (Value, error) {
		b := bigOf(c.Args[0])
		if b == nil {
			return nil, c.In.Raise(c.In.eType, "not an integer")
		}
		return normBig(new(big.Int).GCD(nil, nil, new(big.Int).Abs(bigOf(c.Self)), new(big.Int).Abs(b))), nil
	})
	i.DefN("lcm", 1, 1, func(c *Call) (Value, error) {
		gcd, err := c.In.Call(c.Self, "gcd", c.Args, nil)
		if err != nil {
			return nil, err
		}
		if bigOf(gcd).Sign() == 0 {
			return int64(0), nil
		}
		n, err := c.In.arithmetic("*", c.Self, c.Args[0])
		if err != nil {
			return nil, err
		}
		out := new(big.Int).Abs(bigOf(n))
		return normBig(out.Quo(out, bigOf(gcd))), nil
	})
	bits := func(fn func(z, x, y *big.Int) *big.Int) native {
		return func(c *Call) (Value, error) {
			y := bigOf(c.Args[0])
			if y == nil {
				return nil, c.In.Raise(c.In.eType, "%s can't be coerced into Integer", c.In.special(c.Args[0]))
			}
			return normBig(fn(new(big.Int), bigOf(c.Self), y)), nil
		}
	}
	i.DefN("&", 1, 1, bits((*big.Int).And))
	i.DefN("|", 1, 1, bits((*big.Int).Or))
	i.DefN("^", 1, 1, bits((*big.Int).Xor))
	i.DefN("~", 0, 0, func(c *Call) (Value, error) { return normBig(new(big.Int).Not(bigOf(c.Self))), nil })
	shift := func(c *Call) (Value, error) {
		n, err := c.In.num(c.Args[0])
		if err != nil {
			return nil, err
		}
		if c.Name == ">>" {
			n = -n
		}
		x := bigOf(c.Self)
		if n <= 0 {
			return normBig(new(big.Int).Rsh(x, uint(min(-n, maxBits)))), nil
		}
		if n+int64(x.BitLen()) > maxBits {
			return nil, &LimitError{Limit: "memory"}
		}
		return normBig(new(big.Int).Lsh(x, uint(n))), nil
	}
	i.DefN("<<", 1, 1, shift)
	i.DefN(">>", 1, 1, shift)
	i.DefN("[]", 1, 1, func(c *Call) (Value, error) {
		n, err := c.In.num(c.Args[0])
		if err != nil || n < 0 || n > maxBits {
			return int64(0), err
		}
		return int64(bigOf(c.Self).Bit(int(n))), nil
	})
	i.DefN("size", 0, 0, func(c *Call) (Value, error) {
		return max(int64(8), int64(bigOf(c.Self).BitLen()+7)/8), nil
	})
	for name, v := range map[string]Value{"INFINITY": math.Inf(1), "NAN": math.NaN(), "MAX": math.MaxFloat64, "MIN": 2.2250738585072014e-308, "EPSILON": 2.220446049250313e-16} {
		in.cFloat.SetConst(name, v)
	}
	i.SetConst("MAX", int64(math.MaxInt64))

	m := in.DefineModule(nil, "Math")
	m.SetConst("PI", math.Pi)
	m.SetConst("E", math.E)
	in.bootMath(in.singletonClass(m))
}

// bootMath defines what Math has; m is its singleton class.
func (in *Interp) bootMath(m *Class) {
	float := func(c *Call, i int) (float64, error) {
		switch c.Arg(i).(type) {
		case *String, nil, bool:
			return 0, c.In.Raise(c.In.eType, "can't convert %s into Float", c.In.kindName(c.Arg(i)))
		}
		v, err := c.In.toFloat(c.Arg(i))
		f, _ := v.(float64)
		return f, err
	}
	type span struct{ lo, hi float64 } // where a function is defined
	all := span{math.Inf(-1), math.Inf(1)}
	for name, f := range map[string]struct {
		fn func(float64) float64
		in span
	}{
		"sqrt": {math.Sqrt, span{0, math.Inf(1)}}, "cbrt": {math.Cbrt, all}, "exp": {math.Exp, all},
		"log2": {math.Log2, span{0, math.Inf(1)}}, "log10": {math.Log10, span{0, math.Inf(1)}},
		"sin": {math.Sin, all}, "cos": {math.Cos, all}, "tan": {math.Tan, all},
		"asin": {math.Asin, span{-1, 1}}, "acos": {math.Acos, span{-1, 1}}, "atan": {math.Atan, all},
		"sinh": {math.Sinh, all}, "cosh": {math.Cosh, all}, "tanh": {math.Tanh, all},
		"asinh": {math.Asinh, all}, "acosh": {math.Acosh, span{1, math.Inf(1)}}, "atanh": {math.Atanh, span{-1, 1}},
		"erf": {math.Erf, all}, "erfc": {math.Erfc, all}, "gamma": {math.Gamma, all},
	} {
		m.DefN(name, 1, 1, func(c *Call) (Value, error) {
			x, err := float(c, 0)
			if err != nil {
				return nil, err
			}
			if x < f.in.lo || x > f.in.hi || name == "gamma" && (x < 0 && x == math.Floor(x)) {
				return nil, c.In.Raise(c.In.eDomain, "%s", "Numerical argument is out of domain - "+name)
			}
			return f.fn(x), nil
		})
	}
	m.DefN("log", 1, 2, func(c *Call) (Value, error) {
		logs := [2]float64{0, 1}
		for i := range c.Args {
			x, err := float(c, i)
			if err != nil {
				return nil, err
			}
			if x < 0 {
				return nil, c.In.Raise(c.In.eDomain, "%s", "Numerical argument is out of domain - log")
			}
			logs[i] = math.Log(x)
			// A large Integer is more than a Float holds.
			if b, ok := c.Args[i].(*big.Int); ok && math.IsInf(x, 1) {
				f := new(big.Float).SetInt(b)
				exp := f.MantExp(f)
				mant, _ := f.Float64()
				logs[i] = math.Log(mant) + float64(exp)*math.Ln2
			}
		}
		return logs[0] / logs[1], nil
	})
	for name, fn := range map[string]func(x, y float64) float64{"hypot": math.Hypot, "atan2": math.Atan2} {
		m.DefN(name, 2, 2, func(c *Call) (Value, error) {
			x, err := float(c, 0)
			if err != nil {
				return nil, err
			}
			y, err := float(c, 1)
			return fn(x, y), err
		})
	}
	m.DefN("ldexp", 2, 2, func(c *Call) (Value, error) {
		x, err := float(c, 0)
		if err != nil {
			return nil, err
		}
		n, err := c.In.num(c.Args[1])
		return math.Ldexp(x, int(max(min(n, 1<<20), -1<<20))), err
	})
	m.DefN("frexp", 1, 1, func(c *Call) (Value, error) {
		x, err := float(c, 0)
		f, exp := math.Frexp(x)
		return NewArray(f, int64(exp)), err
	})
	m.DefN("lgamma", 1, 1, func(c *Call) (Value, error) {
		x, err := float(c, 0)
		f, sign := math.Lgamma(x)
		return NewArray(f, int64(sign)), err
	})
}

// roundHalfUp rounds x to a multiple of 1/s as MRI does, which corrects for
// what multiplying loses.
func roundHalfUp(x, s float64) float64 {
	f := math.Round(x * s)
	if x > 0 && (f+0.5)/s <= x {
		f++
	} else if x < 0 && (f-0.5)/s >= x {
		f--
	}
	if math.IsInf(f, 0) {
		return x
	}
	return f / s
}

// format is Kernel#format.
func (in *Interp) format(f string, args []Value) (string, error) {
	if err := in.charge(len(f)); err != nil {
		return "", err
	}
	var b strings.Builder
	b.Grow(len(f))
	next := 0
	arg := func() (Value, error) {
		if next >= len(args) {
			return nil, in.Raise(in.eArgument, "too few arguments")
		}
		next++
		return args[next-1], nil
	}
	named := func(name string) (Value, error) {
		if len(args) != 1 {
			return nil, in.Raise(in.eArgument, "one hash required")
		}
		h, ok := args[0].(*Hash)
		if !ok {
			return nil, in.Raise(in.eArgument, "one hash required")
		}
		v, ok := h.Get(Symbol(name))
		if !ok {
			return nil, in.Raise(in.eKey, "key<%s> not found", name)
		}
		return v, nil
	}
	for i := 0; i < len(f); i++ {
		if f[i] != '%' {
			b.WriteByte(f[i])
			continue
		}
		i++
		flags, width, prec := "", -1, -1
		var v Value
		have := false
		for ; i < len(f); i++ {
			c := f[i]
			if strings.IndexByte("-+ 0#", c) >= 0 {
				if strings.IndexByte(flags, c) < 0 {
					flags += string(c)
				}
				continue
			}
			if c == '<' || c == '{' {
				closing := map[byte]byte{'<': '>', '{': '}'}[c]
				j := strings.IndexByte(f[i:], closing)
				if j < 0 {
					return "", in.Raise(in.eArgument, "malformed name - unmatched parenthesis")
				}
				var err error
				if v, err = named(f[i+1 : i+j]); err != nil {
					return "", err
				}
				have = true
				i += j
				if c == '{' {
					s, err := in.toS(v)
					if err != nil {
						return "", err
					}
					b.WriteString(pad(s, flags, width))
					goto next
				}
				continue
			}
			if isDigit(c) || c == '*' {
				n := 0
				if c == '*' {
					w, err := arg()
					if err != nil {
						return "", err
					}
					k, err := in.num(w)
					if err != nil {
						return "", err
					}
					n = int(max(min(k, 1<<31), -1<<31))
					if n < 0 {
						flags, n = flags+"-", -n
					}
				} else {
					for ; i < len(f) && isDigit(f[i]); i++ {
						n = min(n*10+int(f[i]-'0'), 1<<31)
					}
					if i < len(f) && f[i] == '$' {
						if n > len(args) || n == 0 {
							return "", in.Raise(in.eArgument, "too few arguments")
						}
						v, have = args[n-1], true
						continue
					}
					i--
				}
				width = n
				continue
			}
			if c == '.' {
				prec = 0
				for i+1 < len(f) && isDigit(f[i+1]) {
					i++
					prec = min(prec*10+int(f[i]-'0'), 1<<31)
				}
				continue
			}
			break
		}
		if i >= len(f) {
			return "", in.Raise(in.eArgument, "%s", "incomplete format specifier; use %% (double %) instead")
		}
		if err := in.charge(max(width, 0) + max(prec, 0)); err != nil {
			return "", err
		}
		if f[i] == '%' {
			b.WriteByte('%')
			continue
		}
		if !have {
			var err error
			if v, err = arg(); err != nil {
				return "", err
			}
		}
		{
			s, err := in.formatOne(f[i], flags, width, prec, v)
			if err != nil {
				return "", err
			}
			if err := in.charge(len(s)); err != nil {
				return "", err
			}
			b.WriteString(s)
		}
	next:
	}
	return b.String(), nil
}

func pad(s, flags string, width int) string {
	n := width - len([]rune(s))
	if n <= 0 {
		return s
	}
	if strings.Contains(flags, "-") {
		return s + strings.Repeat(" ", n)
	}
	return strings.Repeat(" ", n) + s
}

func (in *Interp) formatOne(verb byte, flags string, width, prec int, v Value) (string, error) {
	switch verb {
	case 's', 'p':
		s, err := in.toS(v)
		if verb == 'p' {
			s, err = in.inspect(v)
		}
		if err != nil {
			return "", err
		}
		if r := []rune(s); prec >= 0 && prec < len(r) {
			s = string(r[:prec])
		}
		return pad(s, flags, width), nil
	case 'c':
		if n, ok := v.(int64); ok {
			return pad(string(rune(n)), flags, width), nil
		}
		s, err := in.str(v)
		if err == nil && utf8.RuneCountInString(s) != 1 {
			err = in.Raise(in.eArgument, "%s", "%c requires a character")
		}
		return pad(s, flags, width), err
	case 'd', 'i', 'u', 'x', 'X', 'o', 'b', 'B':
		if f, ok := v.(float64); ok {
			v = math.Floor(f)
		}
		n, err := in.toInteger(v, 0)
		if err != nil {
			return "", err
		}
		b := bigOf(n)
		if b == nil {
			return "", in.Raise(in.eType, "can't convert %s into Integer", in.kindName(v))
		}
		base := map[byte]int{'x': 16, 'X': 16, 'o': 8, 'b': 2, 'B': 2}[verb]
		if base == 0 {
			base = 10
		}
		signed := strings.ContainsAny(flags, "+ ")
		if base != 10 && b.Sign() < 0 && !signed {
			return twosComplement(b, verb, base, flags, width, prec), nil
		}
		s := new(big.Int).Abs(b).Text(base)
		if prec > len(s) {
			s = strings.Repeat("0", prec-len(s)) + s
		}
		if verb == 'X' {
			s = strings.ToUpper(s)
		}
		prefix := ""
		if strings.Contains(flags, "#") {
			prefix = map[byte]string{'x': "0x", 'X': "0X", 'o': "0", 'b': "0b", 'B': "0B"}[verb]
		}
		return padNumber(prefix, s, b.Sign() < 0, flags, width, prec < 0), nil
	case 'f', 'e', 'E', 'g', 'G':
		x, err := in.toFloat(v)
		if err != nil {
			return "", err
		}
		f := x.(float64)
		if prec < 0 {
			prec = 6
		}
		if prec > 10000 {
			return "", &LimitError{Limit: "memory"}
		}
		abs := math.Abs(f)
		var s string
		switch {
		case math.IsInf(f, 0):
			s = "Inf"
		case math.IsNaN(f):
			s = "NaN"
		default:
			s = fmt.Sprintf("%."+strconv.Itoa(prec)+string(verb), abs)
		}
		return padNumber("", s, f < 0 || math.Signbit(f), flags, width, true), nil
	}
	return "", in.Raise(in.eArgument, "malformed format string - %%%c", verb)
}

// twosComplement writes a negative number as Ruby does without a sign: as if
// its leading digits, the highest of the base, went on for ever.
func twosComplement(b *big.Int, verb byte, base int, flags string, width, prec int) string {
	bits := map[int]uint{2: 1, 8: 3, 16: 4}[base]
	n := (uint(b.BitLen())/bits + 2) * bits
	s := new(big.Int).Add(b, new(big.Int).Lsh(big.NewInt(1), n)).Text(base)
	top := strconv.FormatInt(int64(base-1), base)
	s = top + strings.TrimLeft(s, top)
	prefix := ""
	if strings.Contains(flags, "#") {
		prefix = map[byte]string{'x': "0x", 'X': "0X", 'o': "0", 'b': "0b", 'B': "0B"}[verb]
	}
	fill := prec
	if prec < 0 && strings.Contains(flags, "0") && !strings.Contains(flags, "-") {
		fill = width - len(prefix)
	}
	if fill-2 > len(s) {
		s = strings.Repeat(top, fill-2-len(s)) + s
	}
	s = ".." + s
	if verb == 'X' {
		s = strings.ToUpper(s)
	}
	return pad(prefix+s, flags, width)
}

func padNumber(prefix, digits string, neg bool, flags string, width int, zeros bool) string {
	sign := ""
	switch {
	case neg:
		sign = "-"
	case strings.Contains(flags, "+"):
		sign = "+"
	case strings.Contains(flags, " "):
		sign = " "
	}
	n := width - len(sign) - len(prefix) - len(digits)
	if n > 0 && zeros && strings.Contains(flags, "0") && !strings.Contains(flags, "-") {
		return sign + prefix + strings.Repeat("0", n) + digits
	}
	return pad(sign+prefix+digits, flags, width)
}
