package ruby

import (
	"math"
	"math/big"
	"strings"
)

// maxDigits bounds how many decimal places are asked for.
const maxDigits = 10000

// ratOf is an Integer or Rational as the latter; nil for all else.
func ratOf(v Value) *big.Rat {
	if r, ok := v.(*big.Rat); ok {
		return r
	}
	if b := bigOf(v); b != nil {
		return new(big.Rat).SetInt(b)
	}
	return nil
}

// floorRat is the greatest integer that isn't above r.
func floorRat(r *big.Rat) *big.Int {
	q, m := new(big.Int).QuoRem(r.Num(), r.Denom(), new(big.Int))
	if m.Sign() < 0 {
		q.Sub(q, big.NewInt(1))
	}
	return q
}

// rounding is how a number becomes one with fewer digits; half tells the way
// of round with a number just between two: "up", "even" or "down".
type rounding struct{ how, half string }

func (m rounding) integer(r *big.Rat) *big.Int {
	if r.IsInt() {
		return new(big.Int).Set(r.Num())
	}
	if r.Sign() < 0 {
		opposite := rounding{map[string]string{"floor": "ceil", "ceil": "floor"}[m.how], m.half}
		if opposite.how == "" {
			opposite.how = m.how
		}
		n := opposite.integer(new(big.Rat).Neg(r))
		return n.Neg(n)
	}
	n := floorRat(r)
	up := m.how == "ceil"
	if m.how == "round" {
		rest := new(big.Rat).Sub(r, new(big.Rat).SetInt(n))
		switch rest.Cmp(big.NewRat(1, 2)) {
		case 1:
			up = true
		case 0:
			up = m.half == "up" || m.half == "even" && n.Bit(0) == 1
		}
	}
	if up {
		n.Add(n, big.NewInt(1))
	}
	return n
}

// digits rounds r to places behind the point, before it where they are
// negative.
func (m rounding) digits(r *big.Rat, places int) *big.Rat {
	scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(places, -places))), nil))
	if places < 0 {
		scale.Inv(scale)
	}
	n := new(big.Rat).SetInt(m.integer(new(big.Rat).Mul(r, scale)))
	return n.Quo(n, scale)
}

// float rounds f to places behind the point as MRI does, which works with
// doubles as long as their powers of ten are exact.
func (m rounding) float(f float64, places int) float64 {
	if f == 0 || math.IsInf(f, 0) || math.IsNaN(f) {
		return f
	}
	_, exp := math.Frexp(f)
	least, most := exp/4, exp/3+1
	if exp <= 0 {
		least, most = exp/3-1, exp/4
	}
	if places >= 17-least {
		return f
	}
	if places < -most && (m.how == "round" || (f < 0) == (m.how == "ceil")) {
		return 0
	}
	s := math.Pow(10, float64(places))
	switch {
	case places > 14 || m.how == "round" && m.half != "up":
		out, _ := m.digits(new(big.Rat).SetFloat64(f), places).Float64()
		return out
	case m.how == "round":
		return roundHalfUp(f, s)
	case m.how == "floor":
		n := math.Floor(f * s)
		if next := (n + 1) / s; next <= f {
			return next
		}
		return n / s
	}
	return math.Ceil(f*s) / s
}

// round is round, floor, ceil and truncate of every number.
func (c *Call) round() (Value, error) {
	m := rounding{c.Name, "up"}
	args := c.Args
	if h, ok := c.Arg(len(args) - 1).(*Hash); ok && c.Name == "round" {
		args = args[:len(args)-1]
		if v, _ := h.Get(Symbol("half")); v != nil {
			if m.half = c.In.ToS(v); m.half != "up" && m.half != "even" && m.half != "down" {
				return nil, c.In.Raise(c.In.eArgument, "%s", "invalid rounding mode: "+m.half)
			}
		}
	}
	places := 0
	if len(args) > 0 {
		n, err := c.In.num(args[0])
		if err != nil {
			return nil, err
		}
		places = int(max(min(n, maxDigits), -maxDigits))
	}
	if m.how == "truncate" {
		m.how = "floor"
		if n, ok := compareNumbers(c.Self, int64(0)); ok && n < 0 {
			m.how = "ceil"
		}
	}
	if f, ok := c.Self.(float64); ok {
		if places > 0 {
			return m.float(f, places), nil
		}
		if math.IsInf(f, 0) || math.IsNaN(f) {
			return c.In.floatToInt(f)
		}
		return normBig(m.digits(new(big.Rat).SetFloat64(f), places).Num()), nil
	}
	r, rational := c.Self.(*big.Rat)
	if !rational {
		if places >= 0 {
			return c.Self, nil
		}
		r = ratOf(c.Self)
	}
	if err := c.In.charge(max(places, -places) + r.Num().BitLen()/8); err != nil {
		return nil, err
	}
	if out := m.digits(r, places); rational && places > 0 {
		return out, nil
	} else {
		return normBig(out.Num()), nil
	}
}

// rational computes with two numbers of which one is a Rational, the other
// that or an Integer.
func (in *Interp) rational(op string, a, b Value) (Value, error) {
	x, y := ratOf(a), ratOf(b)
	bits := x.Num().BitLen() + x.Denom().BitLen() + y.Num().BitLen() + y.Denom().BitLen()
	if bits > maxBits {
		return nil, &LimitError{Limit: "memory"}
	}
	if err := in.charge(96 + bits/4); err != nil {
		return nil, err
	}
	if (op == "/" || op == "%") && y.Sign() == 0 {
		return nil, in.Raise(in.eZeroDiv, "divided by 0")
	}
	switch op {
	case "+":
		return new(big.Rat).Add(x, y), nil
	case "-":
		return new(big.Rat).Sub(x, y), nil
	case "*":
		return new(big.Rat).Mul(x, y), nil
	case "/":
		return new(big.Rat).Quo(x, y), nil
	case "%":
		n := new(big.Rat).SetInt(floorRat(new(big.Rat).Quo(x, y)))
		return n.Sub(x, n.Mul(n, y)), nil
	}
	if !y.IsInt() {
		return in.arithmetic("**", floatOf(a), floatOf(b))
	}
	return in.ratPower(x, y.Num())
}

// ratPower is x to the power of y, which may be negative.
func (in *Interp) ratPower(x *big.Rat, y *big.Int) (Value, error) {
	if y.Sign() < 0 {
		if x.Sign() == 0 {
			return nil, in.Raise(in.eZeroDiv, "divided by 0")
		}
		x, y = new(big.Rat).Inv(x), new(big.Int).Neg(y)
	}
	num, err := in.arithmetic("**", normBig(x.Num()), normBig(y))
	if err != nil {
		return nil, err
	}
	den, err := in.arithmetic("**", normBig(x.Denom()), normBig(y))
	if err != nil {
		return nil, err
	}
	return new(big.Rat).SetFrac(bigOf(num), bigOf(den)), nil
}

var ratText = late(`^\s*([-+]?)(\d+(?:_\d+)*(?:\.\d+(?:_\d+)*)?|\.\d+(?:_\d+)*)(?:[eE]([-+]?\d{1,4})(?:\d*))?(?:/(\d+(?:_\d+)*))?`)

// ratParts finds the parts of a Rational that s begins with.
func ratParts(s string) []string {
	return ratText().FindStringSubmatch(s[:min(len(s), maxDigits+1)])
}

// leadingRat is the Rational that s begins with, and what of s is behind it;
// nil when there is none.
func leadingRat(s string) (r *big.Rat, rest string) {
	m := ratParts(s)
	if m == nil || len(m[0]) > maxDigits {
		return nil, s
	}
	text := strings.ReplaceAll(m[1]+m[2], "_", "")
	if m[3] != "" {
		text += "e" + m[3]
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return nil, s
	}
	if m[4] != "" {
		den, ok := new(big.Rat).SetString(strings.ReplaceAll(m[4], "_", ""))
		if !ok || den.Sign() == 0 {
			return nil, s
		}
		r.Quo(r, den)
	}
	return r, s[len(m[0]):]
}

// toRat is v as Rational() and to_r make it.
func (in *Interp) toRat(v Value) (*big.Rat, error) {
	switch v := v.(type) {
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return nil, in.Raise(in.eFloatDomain, "%s", formatFloat(v))
		}
		return new(big.Rat).SetFloat64(v), nil
	case *String:
		if strings.HasSuffix(strings.TrimSpace(v.s), "/0") {
			return nil, in.Raise(in.eZeroDiv, "divided by 0")
		}
		if r, rest := leadingRat(v.s); r != nil && strings.TrimSpace(rest) == "" {
			return r, nil
		}
		return nil, in.Raise(in.eArgument, "%s", "invalid value for convert(): "+inspectString(v.s))
	case *Object:
		if in.respondTo(v, "to_r", false) {
			w, err := in.Call(v, "to_r", nil, nil)
			if r, ok := w.(*big.Rat); ok || err != nil {
				return r, err
			}
		}
	}
	if r := ratOf(v); r != nil {
		return r, nil
	}
	return nil, in.Raise(in.eType, "can't convert %s into Rational", in.kindName(v))
}

// simplest is the Rational with the least denominator from lo to hi, both
// positive.
func (in *Interp) simplest(lo, hi *big.Rat) (*big.Rat, error) {
	p0, p1, q0, q1 := big.NewInt(0), big.NewInt(1), big.NewInt(1), big.NewInt(0)
	lo, hi = new(big.Rat).Set(lo), new(big.Rat).Set(hi)
	for {
		if err := in.check(); err != nil { // at each turn: large numbers take their time
			return nil, err
		}
		n := rounding{how: "ceil"}.integer(lo)
		if new(big.Rat).SetInt(n).Cmp(hi) <= 0 {
			return new(big.Rat).SetFrac(new(big.Int).Add(new(big.Int).Mul(n, p1), p0), new(big.Int).Add(new(big.Int).Mul(n, q1), q0)), nil
		}
		k := n.Sub(n, big.NewInt(1))
		p0, p1 = p1, new(big.Int).Add(new(big.Int).Mul(k, p1), p0)
		q0, q1 = q1, new(big.Int).Add(new(big.Int).Mul(k, q1), q0)
		whole := new(big.Rat).SetInt(k)
		lo, hi = new(big.Rat).Inv(new(big.Rat).Sub(hi, whole)), new(big.Rat).Inv(new(big.Rat).Sub(lo, whole))
	}
}

func (c *Call) rationalize() (Value, error) {
	f, float := c.Self.(float64)
	if float && (f == 0 || math.IsInf(f, 0) || math.IsNaN(f)) || !float && len(c.Args) == 0 {
		r, err := c.In.toRat(c.Self)
		if r == nil {
			return nil, err
		}
		return r, nil
	}
	r, err := c.In.toRat(c.Self)
	if err != nil {
		return nil, err
	}
	abs, by := new(big.Rat).Abs(r), new(big.Rat)
	if len(c.Args) > 0 {
		if by, err = c.In.toRat(c.Args[0]); err != nil {
			return nil, err
		}
		by = new(big.Rat).Abs(by)
	} else {
		_, exp := math.Frexp(f)
		by.SetFloat64(math.Ldexp(1, exp-54))
	}
	lo, hi := new(big.Rat).Sub(abs, by), new(big.Rat).Add(abs, by)
	if lo.Sign() <= 0 {
		return new(big.Rat), nil
	}
	out, err := c.In.simplest(lo, hi)
	if err != nil {
		return nil, err
	}
	if r.Sign() < 0 {
		out.Neg(out)
	}
	return out, nil
}

// bootRational defines Rational, whose values are *big.Rat, and what all
// numbers have for its sake. Complex is written in Ruby.
func (in *Interp) bootRational() {
	in.cRational = in.DefineClass(nil, "Rational", in.cNumeric)
	n := in.cNumeric
	n.DefN("to_r", 0, 0, func(c *Call) (Value, error) {
		r, err := c.In.toRat(c.Self)
		if r == nil {
			return nil, err
		}
		return r, nil
	})
	n.DefN("rationalize", 0, 1, (*Call).rationalize)
	part := func(fn func(r *big.Rat) *big.Int) native {
		return func(c *Call) (Value, error) {
			if f, ok := c.Self.(float64); ok && (math.IsInf(f, 0) || math.IsNaN(f)) {
				if c.Name == "denominator" {
					return int64(1), nil
				}
				return f, nil
			}
			r, err := c.In.toRat(c.Self)
			if err != nil {
				return nil, err
			}
			return normBig(new(big.Int).Set(fn(r))), nil
		}
	}
	n.DefN("numerator", 0, 0, part((*big.Rat).Num))
	n.DefN("denominator", 0, 0, part((*big.Rat).Denom))
	n.DefN("quo", 1, 1, func(c *Call) (Value, error) {
		if x := ratOf(c.Self); x != nil && ratOf(c.Args[0]) != nil {
			return c.In.rational("/", x, c.Args[0])
		}
		return c.In.arithmetic("/", c.Self, c.Args[0])
	})
	r := in.cRational
	r.DefN("to_s", 0, 0, func(c *Call) (Value, error) { return c.In.newString(c.Self.(*big.Rat).String()) })
	r.DefN("inspect", 0, 0, func(c *Call) (Value, error) { return c.In.newString("(" + c.Self.(*big.Rat).String() + ")") })
	r.DefN("hash", 0, 0, in.cKernel.methods["hash"].native)
	r.DefN("coerce", 1, 1, func(c *Call) (Value, error) {
		switch v := c.Args[0].(type) {
		case float64:
			return NewArray(v, floatOf(c.Self)), nil
		default:
			if x := ratOf(v); x != nil {
				return NewArray(x, c.Self), nil
			}
		}
		return nil, c.In.Raise(c.In.eType, "%s can't be coerced into Rational", c.In.special(c.Args[0]))
	})
	in.cNil.DefN("to_r", 0, 0, func(c *Call) (Value, error) { return new(big.Rat), nil })
	in.cNil.DefN("rationalize", 0, 1, func(c *Call) (Value, error) { return new(big.Rat), nil })
	in.cString.DefN("to_r", 0, 0, func(c *Call) (Value, error) {
		s := c.Self.(*String).s
		if r, _ := leadingRat(s); r != nil {
			return r, nil
		}
		if m := ratParts(s); m != nil && m[4] != "" {
			return nil, c.In.Raise(c.In.eZeroDiv, "divided by 0")
		}
		return new(big.Rat), nil
	})
	in.DefKernel("Rational", func(c *Call) (Value, error) {
		args, raise := c.exceptionOption()
		if len(args) < 1 || len(args) > 2 {
			return nil, c.In.arityError(len(args), 1, 2)
		}
		var out Value
		var err error
		for i, a := range args {
			r, rerr := c.In.toRat(a)
			if rerr != nil {
				err = rerr
				break
			}
			if i == 0 {
				out = r
			} else if out, err = c.In.rational("/", out, r); err != nil {
				break
			}
		}
		if err != nil && (raise || IsControlFlow(err)) {
			return nil, err
		} else if err != nil {
			return nil, nil
		}
		return out, nil
	})
}

// complexClass is Complex, which is written in Ruby.
func (in *Interp) complexClass() (*Class, error) {
	v, ok := in.cObject.consts["Complex"]
	if !ok {
		var err error
		if v, _, err = in.autoload("Complex"); err != nil {
			return nil, err
		}
	}
	k, _ := v.(*Class)
	if k == nil {
		return nil, in.Raise(in.eName, "uninitialized constant Complex")
	}
	return k, nil
}

func (in *Interp) newComplex(re, im Value) (Value, error) {
	k, err := in.complexClass()
	if err != nil {
		return nil, err
	}
	return in.Call(k, "rect", []Value{re, im}, nil)
}

// complexPower is a negative number to the power of a fraction.
func (in *Interp) complexPower(a, b Value) (Value, error) {
	c, err := in.newComplex(a, int64(0))
	if err != nil {
		return nil, err
	}
	return in.Call(c, "**", []Value{b}, nil)
}

// bootComplex defines what real numbers are as complex ones.
func (in *Interp) bootComplex() {
	n := in.cNumeric
	for name, fn := range map[string]native{
		"real":      func(c *Call) (Value, error) { return c.Self, nil },
		"imaginary": func(c *Call) (Value, error) { return int64(0), nil },
		"real?":     func(c *Call) (Value, error) { return true, nil },
		"abs2":      func(c *Call) (Value, error) { return c.In.arithmetic("*", c.Self, c.Self) },
		"rect":      func(c *Call) (Value, error) { return NewArray(c.Self, int64(0)), nil },
		"i":         func(c *Call) (Value, error) { return c.In.newComplex(int64(0), c.Self) },
		"to_c":      func(c *Call) (Value, error) { return c.In.newComplex(c.Self, int64(0)) },
		"arg": func(c *Call) (Value, error) {
			switch f := floatOf(c.Self); {
			case math.IsNaN(f):
				return f, nil
			case math.Signbit(f):
				return math.Pi, nil
			}
			return int64(0), nil
		},
		"polar": func(c *Call) (Value, error) {
			abs, err := c.In.Call(c.Self, "abs", nil, nil)
			if err != nil {
				return nil, err
			}
			arg, err := c.In.Call(c.Self, "arg", nil, nil)
			return NewArray(abs, arg), err
		},
	} {
		n.DefN(name, 0, 0, fn)
	}
	n.DefN("conj", 0, 0, n.methods["real"].native)
	n.alias("conj", "conjugate")
	n.alias("imaginary", "imag")
	n.alias("rect", "rectangular")
	n.alias("arg", "angle", "phase")
	in.cNil.DefN("to_c", 0, 0, func(c *Call) (Value, error) { return c.In.newComplex(int64(0), int64(0)) })
	read := func(c *Call, s *String) (Value, bool, error) {
		k, err := c.In.complexClass()
		if err != nil {
			return nil, false, err
		}
		v, err := c.In.Call(k, "read", []Value{s}, nil)
		if a, ok := v.(*Array); ok && len(a.Elems) == 2 {
			return a.Elems[0], Truthy(a.Elems[1]), err
		}
		return nil, false, err
	}
	in.cString.DefN("to_c", 0, 0, func(c *Call) (Value, error) {
		v, _, err := read(c, c.Self.(*String))
		return v, err
	})
	in.DefKernel("Complex", func(c *Call) (Value, error) {
		args, raise := c.exceptionOption()
		if len(args) < 1 || len(args) > 2 {
			return nil, c.In.arityError(len(args), 1, 2)
		}
		parts := [2]Value{int64(0), int64(0)}
		var err error
		for i, a := range args {
			s, text := a.(*String)
			switch {
			case a == nil:
				err = c.In.Raise(c.In.eType, "can't convert nil into Complex")
			case text:
				var whole bool
				if parts[i], whole, err = read(c, s); err == nil && !whole {
					err = c.In.Raise(c.In.eArgument, "%s", "invalid value for convert(): "+inspectString(s.s))
				}
			default:
				if parts[i] = a; !c.In.IsA(a, c.In.cNumeric) {
					err = c.In.Raise(c.In.eType, "can't convert %s into Complex", c.In.kindName(a))
				}
			}
			if err != nil {
				if raise || IsControlFlow(err) {
					return nil, err
				}
				return nil, nil
			}
		}
		if !isNumber(parts[0]) && len(args) == 1 {
			return parts[0], nil
		}
		if isNumber(parts[0]) && isNumber(parts[1]) {
			return c.In.newComplex(parts[0], parts[1])
		}
		i, err := c.In.newComplex(int64(0), int64(1))
		if err != nil {
			return nil, err
		}
		im, err := c.In.Call(i, "*", []Value{parts[1]}, nil)
		if err != nil {
			return nil, err
		}
		return c.In.Call(im, "+", []Value{parts[0]}, nil)
	})
}

// exceptionOption takes the keyword exception: from the arguments.
func (c *Call) exceptionOption() (args []Value, raise bool) {
	n := len(c.Args) - 1
	if h, ok := c.Arg(n).(*Hash); ok {
		if v, ok := h.Get(Symbol("exception")); ok {
			return c.Args[:n], Truthy(v)
		}
	}
	return c.Args, true
}
