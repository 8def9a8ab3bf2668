package ruby

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// deeper guards a recursion over Ruby values, which may be nested without end.
func (in *Interp) deeper(fn func() error) error {
	if err := in.step(); err != nil { // the same value may be there in many places
		return err
	}
	if len(in.stack) >= in.limits.Depth {
		return &LimitError{Limit: "depth"}
	}
	in.stack = append(in.stack, stackEntry{in.file, in.line, "nested"})
	defer func(n int) { in.stack = in.stack[:n] }(len(in.stack) - 1)
	return fn()
}

// Nested runs fn, a step of a recursion over Ruby values in Go code that
// returns no error: values may be nested without end, and one may be there in
// very many places. At a limit it panics with the *LimitError, as what which
// the evaluation around it ends.
func (in *Interp) Nested(fn func()) {
	if err := in.deeper(func() error { fn(); return nil }); err != nil {
		panic(err)
	}
}

// Inspect returns what v.inspect returns; a stand-in if that fails.
func (in *Interp) Inspect(v Value) string {
	s, err := in.inspect(v)
	if err != nil {
		return in.anyToS(v)
	}
	return s
}

func (in *Interp) inspect(v Value) (string, error) {
	switch v := v.(type) {
	case nil:
		return "nil", nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case *big.Int:
		return v.String(), nil
	case float64:
		return formatFloat(v), nil
	case Symbol:
		return inspectSymbol(string(v)), nil
	case *String:
		if v.ext == nil {
			return inspectString(v.s), nil
		}
	case *Regexp:
		return v.inspect(), nil
	}
	if err := in.step(); err != nil {
		return "", err
	}
	r, err := in.Call(v, "inspect", nil, nil)
	if err != nil {
		return "", err
	}
	if s, ok := r.(*String); ok {
		return s.s, nil
	}
	return in.anyToS(v), nil
}

// ToS returns what v.to_s returns; a stand-in if that fails.
func (in *Interp) ToS(v Value) string {
	s, err := in.toS(v)
	if err != nil {
		return in.anyToS(v)
	}
	return s
}

func (in *Interp) toS(v Value) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case Symbol:
		return string(v), nil
	case *String:
		if v.ext == nil {
			return v.s, nil
		}
	case bool, int64, *big.Int, float64:
		return in.inspect(v)
	}
	r, err := in.Call(v, "to_s", nil, nil)
	if err != nil {
		return "", err
	}
	if s, ok := r.(*String); ok {
		return s.s, nil
	}
	return in.anyToS(v), nil
}

func (in *Interp) address(p *uint64) string {
	if *p == 0 {
		in.addrs += 8
		*p = 0x7f0000000000 + in.addrs*5
	}
	return fmt.Sprintf("0x%016x", *p)
}

// anyToS is Object#to_s.
func (in *Interp) anyToS(v Value) string {
	name := in.className(in.ClassOf(v))
	if o, ok := v.(*Object); ok {
		if o == in.main {
			return "main"
		}
		return "#<" + name + ":" + in.address(&o.addr) + ">"
	}
	return "#<" + name + ">"
}

func (in *Interp) className(c *Class) string {
	switch {
	case c.Name != "":
		return c.Name
	case c.attached != nil:
		if k, ok := c.attached.(*Class); ok {
			return "#<Class:" + in.className(k) + ">"
		}
		return "#<Class:" + in.anyToS(c.attached) + ">"
	case c.module:
		return "#<Module:" + in.address(&c.addr) + ">"
	}
	return "#<Class:" + in.address(&c.addr) + ">"
}

// inspectObject is Object#inspect.
func (in *Interp) inspectObject(o *Object) (string, error) {
	s := in.anyToS(o)
	if len(o.ivars) == 0 {
		return s, nil
	}
	if in.inspecting(o) {
		return strings.TrimSuffix(s, ">") + " ...>", nil
	}
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(s, ">"))
	err := in.guarded(o, func() error {
		for i, iv := range o.ivars {
			if i > 0 {
				b.WriteByte(',')
			}
			x, err := in.inspect(iv.value)
			if err != nil {
				return err
			}
			if err := in.charge(len(x)); err != nil {
				return err
			}
			b.WriteString(" " + iv.name + "=" + x)
		}
		return nil
	})
	return b.String() + ">", err
}

func (in *Interp) inspectArray(a *Array) (string, error) {
	if in.inspecting(a) {
		return "[...]", nil
	}
	var b strings.Builder
	b.WriteByte('[')
	err := in.guarded(a, func() error {
		for i, e := range a.Elems {
			if i > 0 {
				b.WriteString(", ")
			}
			s, err := in.inspect(e)
			if err != nil {
				return err
			}
			if err := in.charge(len(s)); err != nil {
				return err
			}
			b.WriteString(s)
		}
		return nil
	})
	return b.String() + "]", err
}

func (in *Interp) inspectHash(h *Hash) (string, error) {
	if h.Len() == 0 {
		return "{}", nil
	}
	if in.inspecting(h) {
		return "{...}", nil
	}
	var b strings.Builder
	b.WriteByte('{')
	err := in.guarded(h, func() error {
		return h.Each(func(k, v Value) error {
			if b.Len() > 1 {
				b.WriteString(", ")
			}
			ks, err := in.inspect(k)
			if err != nil {
				return err
			}
			if sym, ok := k.(Symbol); ok {
				ks = inspectSymbol(string(sym))
			}
			vs, err := in.inspect(v)
			if err != nil {
				return err
			}
			if err := in.charge(len(ks) + len(vs)); err != nil {
				return err
			}
			b.WriteString(ks + "=>" + vs)
			return nil
		})
	})
	return b.String() + "}", err
}

func (in *Interp) inspecting(v Value) bool {
	for _, o := range in.guard {
		if o == v {
			return true
		}
	}
	return false
}

func (in *Interp) guarded(v Value, fn func() error) error {
	in.guard = append(in.guard, v)
	n := len(in.guard)
	err := in.deeper(fn)
	in.guard = in.guard[:n-1]
	return err
}

func inspectString(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			i++
			switch c {
			case '"', '\\':
				b.WriteByte('\\')
				b.WriteByte(c)
			case '\n':
				b.WriteString(`\n`)
			case '\t':
				b.WriteString(`\t`)
			case '\r':
				b.WriteString(`\r`)
			case '\a':
				b.WriteString(`\a`)
			case '\b':
				b.WriteString(`\b`)
			case '\v':
				b.WriteString(`\v`)
			case '\f':
				b.WriteString(`\f`)
			case 0x1b:
				b.WriteString(`\e`)
			case '#':
				if i < len(s) && (s[i] == '{' || s[i] == '$' || s[i] == '@') {
					b.WriteByte('\\')
				}
				b.WriteByte('#')
			default:
				switch {
				case c == 0x7f:
					b.WriteString(`\u007F`)
				case c < ' ':
					fmt.Fprintf(&b, `\u%04X`, c)
				default:
					b.WriteByte(c)
				}
			}
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02X`, c)
		case unicode.IsPrint(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zs, r):
			b.WriteString(s[i : i+n])
		case r > 0xffff:
			fmt.Fprintf(&b, `\u{%X}`, r)
		default:
			fmt.Fprintf(&b, `\u%04X`, r)
		}
		i += n
	}
	b.WriteByte('"')
	return b.String()
}

func inspectSymbol(s string) string {
	if plainSymbol(s) {
		return ":" + s
	}
	return ":" + inspectString(s)
}

func plainSymbol(s string) bool {
	for _, op := range methodOperators {
		if s == op {
			return true
		}
	}
	t := strings.TrimLeft(s, "@$")
	if len(s)-len(t) > 2 || t == "" || !isIdentStart(t[0]) {
		return false
	}
	for i := 1; i < len(t); i++ {
		if !isIdent(t[i]) {
			return i == len(t)-1 && len(t) == len(s) && (t[i] == '?' || t[i] == '!' || t[i] == '=')
		}
	}
	return utf8.ValidString(s)
}

func formatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e15) {
		s := strconv.FormatFloat(f, 'e', -1, 64)
		if !strings.Contains(s, ".") {
			s = strings.Replace(s, "e", ".0e", 1)
		}
		return s
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// Equal reports a == b.
func (in *Interp) Equal(a, b Value) bool {
	ok, err := in.equal(nil, a, b)
	if limit := (*LimitError)(nil); errors.As(err, &limit) {
		panic(limit) // false could make a should_not pass
	}
	return err == nil && ok
}

func (in *Interp) equal(fr *frame, a, b Value) (bool, error) {
	switch x := a.(type) {
	case nil, bool, Symbol:
		return a == b, nil
	case int64:
		switch y := b.(type) {
		case int64:
			return x == y, nil
		case float64:
			return float64(x) == y, nil
		}
		return in.numberEqual(fr, a, b)
	case float64:
		switch y := b.(type) {
		case int64:
			return x == float64(y), nil
		case float64:
			return x == y, nil
		}
		return in.numberEqual(fr, a, b)
	case *big.Int, *big.Rat:
		return in.numberEqual(fr, a, b)
	case *String:
		y, ok := b.(*String)
		return ok && x.s == y.s, nil
	case *Array:
		if x.ext == nil {
			y, ok := b.(*Array)
			err := in.arraysEqual(fr, x, y, &ok)
			return ok, err
		}
	case *Hash:
		if x.ext == nil {
			y, ok := b.(*Hash)
			if !ok || x.Len() != y.Len() {
				return false, nil
			}
			return in.hashesEqual(fr, x, y)
		}
	case *Range:
		y, ok := b.(*Range)
		if !ok || x.Excl != y.Excl {
			return false, nil
		}
		eq, err := in.equal(fr, x.Lo, y.Lo)
		if !eq || err != nil {
			return false, err
		}
		return in.equal(fr, x.Hi, y.Hi)
	case *Regexp:
		y, ok := b.(*Regexp)
		return ok && x.src == y.src && x.opts == y.opts, nil
	case *MatchData:
		return a == b, nil
	}
	v, err := in.send(fr, a, "==", []Value{b}, nil, true)
	return Truthy(v), err
}

// numberEqual is equal for a number a.
func (in *Interp) numberEqual(fr *frame, a, b Value) (bool, error) {
	if o, ok := b.(*Object); ok {
		return in.reverseEqual(fr, a, o)
	}
	if !isNumber(b) {
		return false, nil
	}
	n, ok := compareNumbers(a, b)
	return ok && n == 0, nil
}

func (in *Interp) reverseEqual(fr *frame, a Value, b *Object) (bool, error) {
	if m := in.dispatchClass(b).find("=="); m == nil || m.owner == in.cBasicObject {
		return false, nil
	}
	v, err := in.send(fr, b, "==", []Value{a}, nil, true)
	return Truthy(v), err
}

// arraysEqual clears ok unless x and y, an array if ok, hold the same.
func (in *Interp) arraysEqual(fr *frame, x, y *Array, ok *bool) error {
	if !*ok || x == y {
		return nil
	}
	if len(x.Elems) != len(y.Elems) {
		*ok = false
		return nil
	}
	return in.deeper(func() error {
		for i := range x.Elems {
			// An object is its own equal here, whatever its == says.
			if o, isObject := x.Elems[i].(*Object); isObject && y.Elems[i] == Value(o) {
				continue
			}
			eq, err := in.equal(fr, x.Elems[i], y.Elems[i])
			if !eq || err != nil {
				*ok = false
				return err
			}
		}
		return nil
	})
}

func (in *Interp) hashesEqual(fr *frame, x, y *Hash) (bool, error) {
	same := true
	err := in.deeper(func() error {
		return x.Each(func(k, v Value) error {
			w, ok := y.Get(k)
			if ok {
				var err error
				if ok, err = in.equal(fr, v, w); err != nil {
					return err
				}
			}
			same = same && ok
			return nil
		})
	})
	return same, err
}

// Eql reports a.eql?(b), by which hashes compare keys.
func (in *Interp) Eql(a, b Value) bool {
	var h Hash
	return h.hashKey(a) == h.hashKey(b)
}

type (
	strKey  string
	bigKey  string
	ratKey  string
	deepKey string
	nilKey  struct{}
	dataKey struct {
		class *Class
		s     string
	}
)

// hashKey returns a comparable value, the same for keys that are eql?.
func (h *Hash) hashKey(v Value) any {
	if h.byID {
		return v
	}
	switch v := v.(type) {
	case nil:
		return nilKey{}
	case *String:
		return strKey(v.s)
	case *big.Int:
		return bigKey(v.String())
	case *big.Rat:
		return ratKey(v.String())
	case *Array, *Hash, *Range:
		var b strings.Builder
		deepHashKey(&b, v, 0)
		return deepKey(b.String())
	case *Regexp:
		return regexpKey{v.src, v.opts}
	case *Object:
		switch d := v.Data.(type) {
		case time.Time:
			return dataKey{v.Class, strconv.FormatInt(d.UnixNano(), 10)}
		case *structData:
			var b strings.Builder
			deepHashKey(&b, v, 0)
			return deepKey(b.String())
		case hashKeyer:
			return dataKey{v.Class, d.hashKey()}
		case *Hash:
			var b strings.Builder
			deepHashKey(&b, d, 0)
			return dataKey{v.Class, b.String()}
		}
		if m := v.Class.find("hash"); m != nil && m.native == nil {
			if r, err := v.Class.in.Call(v, "hash", nil, nil); err == nil {
				return dataKey{v.Class, v.Class.in.Inspect(r)}
			}
		}
	}
	return v
}

// hashKeyer is a payload that makes equal objects equal keys.
type hashKeyer interface{ hashKey() string }

// maxHashKey is how much of a key is told by its value: one value may be in it
// in very many places.
const maxHashKey = 1 << 20

func deepHashKey(b *strings.Builder, v Value, depth int) {
	if depth > 100 || b.Len() > maxHashKey {
		fmt.Fprintf(b, "p%p", v) // by identity from here on
		return
	}
	switch v := v.(type) {
	case *Array:
		b.WriteByte('[')
		for _, e := range v.Elems {
			deepHashKey(b, e, depth+1)
		}
		b.WriteByte(']')
	case *Hash:
		b.WriteByte('{')
		_ = v.Each(func(k, x Value) error {
			deepHashKey(b, k, depth+1)
			deepHashKey(b, x, depth+1)
			return nil
		})
		b.WriteByte('}')
	case *Range:
		fmt.Fprintf(b, "r%v", v.Excl)
		deepHashKey(b, v.Lo, depth+1)
		deepHashKey(b, v.Hi, depth+1)
	case *Object:
		if d, ok := v.Data.(*structData); ok {
			fmt.Fprintf(b, "s%p", v.Class)
			for _, e := range d.values {
				deepHashKey(b, e, depth+1)
			}
			return
		}
		fmt.Fprintf(b, "o%v", (&Hash{}).hashKey(v))
	case *String:
		fmt.Fprintf(b, "%q", v.s)
	case Symbol:
		fmt.Fprintf(b, ":%q", string(v))
	case *big.Rat:
		fmt.Fprintf(b, "q%s,", v)
	case *Class, *Proc, *Exception, *MatchData:
		fmt.Fprintf(b, "p%p", v)
	default:
		fmt.Fprintf(b, "%T%v,", v, v)
	}
}

// CaseEq reports pattern === v.
func (in *Interp) CaseEq(pattern, v Value) (bool, error) { return in.caseEq(nil, pattern, v) }

func (in *Interp) caseEq(fr *frame, pattern, v Value) (bool, error) {
	switch p := pattern.(type) {
	case nil, bool, int64, float64, Symbol:
		return in.equal(fr, pattern, v)
	case *String:
		if p.ext == nil {
			return in.equal(fr, pattern, v)
		}
	}
	r, err := in.send(fr, pattern, "===", []Value{v}, nil, true)
	return Truthy(r), err
}

// Compare returns a <=> b as -1, 0 or 1; ok is false when they don't compare.
func (in *Interp) Compare(a, b Value) (n int, ok bool, err error) {
	switch x := a.(type) {
	case int64:
		if y, isInt := b.(int64); isInt {
			return compareOrdered(x, y), true, nil
		}
	case *String:
		if y, isStr := b.(*String); isStr {
			return strings.Compare(x.s, y.s), true, nil
		}
		if x.ext == nil {
			return 0, false, nil
		}
	case Symbol:
		if y, isSym := b.(Symbol); isSym {
			return strings.Compare(string(x), string(y)), true, nil
		}
		return 0, false, nil
	}
	if isNumber(a) {
		if isNumber(b) {
			n, ok := compareNumbers(a, b)
			return n, ok, nil
		}
		if _, obj := b.(*Object); !obj {
			return 0, false, nil
		}
	}
	v, err := in.send(nil, a, "<=>", []Value{b}, nil, true)
	if err != nil {
		return 0, false, err
	}
	switch v := v.(type) {
	case int64:
		return compareOrdered(v, 0), true, nil
	case float64:
		return compareOrdered(v, 0), true, nil
	}
	return 0, false, nil
}

func compareOrdered[T int64 | float64 | int](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// compare is Compare where not comparing is an error.
func (in *Interp) compare(a, b Value) (int, error) {
	n, ok, err := in.Compare(a, b)
	if err == nil && !ok {
		err = in.notComparable(a, b)
	}
	return n, err
}

func (in *Interp) notComparable(a, b Value) error {
	return in.Raise(in.eArgument, "%s", "comparison of "+in.className(in.ClassOf(a))+" with "+in.special(b)+" failed")
}

// special is how messages name a value: nil, true, numbers by themselves, all
// else by class.
func (in *Interp) special(v Value) string {
	switch v.(type) {
	case nil, bool, int64, float64:
		return in.Inspect(v)
	}
	return in.className(in.ClassOf(v))
}

func (in *Interp) kindName(v Value) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case bool:
		return strconv.FormatBool(v)
	}
	return in.className(in.ClassOf(v))
}

func (in *Interp) noConversion(v Value, to string) error {
	return in.Raise(in.eType, "no implicit conversion of %s into %s", in.kindName(v), to)
}

// str is v where Ruby wants a String.
func (in *Interp) str(v Value) (string, error) {
	switch v := v.(type) {
	case *String:
		return v.s, nil
	case *Object:
		if in.respondTo(v, "to_str", true) {
			r, err := in.Call(v, "to_str", nil, nil)
			if s, ok := r.(*String); ok {
				return s.s, nil
			}
			if err != nil {
				return "", err
			}
		}
		if p, ok := v.Data.(pathname); ok {
			return string(p), nil
		}
	}
	return "", in.noConversion(v, "String")
}

// num is v where Ruby wants an Integer.
func (in *Interp) num(v Value) (int64, error) {
	switch v := v.(type) {
	case int64:
		return v, nil
	case float64:
		if v != v || v > 1<<62 || v < -1<<62 {
			return 0, in.Raise(in.eRange, "float %s out of range of integer", formatFloat(v))
		}
		return int64(v), nil
	case *big.Int:
		return 0, in.Raise(in.eRange, "bignum too big to convert into `long'")
	case *big.Rat:
		return in.num(normBig(new(big.Int).Quo(v.Num(), v.Denom())))
	case nil:
		return 0, in.Raise(in.eType, "no implicit conversion from nil to integer")
	}
	return 0, in.noConversion(v, "Integer")
}

func (in *Interp) arr(v Value) (*Array, error) {
	switch v := v.(type) {
	case *Array:
		return v, nil
	case *Object:
		if in.respondTo(v, "to_ary", true) {
			r, err := in.Call(v, "to_ary", nil, nil)
			if a, ok := r.(*Array); ok || err != nil {
				return a, err
			}
		}
	}
	return nil, in.noConversion(v, "Array")
}

func (in *Interp) hsh(v Value) (*Hash, error) {
	if h, ok := v.(*Hash); ok {
		return h, nil
	}
	return nil, in.noConversion(v, "Hash")
}

func (in *Interp) frozen(v Value) bool {
	switch v := v.(type) {
	case *String:
		return v.frozen
	case *Array:
		return v.frozen
	case *Hash:
		return v.frozen
	case *Object:
		return v.frozen
	case *Class:
		return v.frozen
	case *Exception, *Proc, *MatchData:
		return false
	}
	return true
}

func (in *Interp) frozenError(v Value) error {
	return in.Raise(in.eFrozen, "%s", "can't modify frozen "+in.className(in.ClassOf(v))+": "+in.Inspect(v))
}

// iterate calls fn for each element of v: an Array, Hash (pairs), Range, or
// anything that has each. It stops at fn's first error.
func (in *Interp) iterate(v Value, fn func(Value) error) error {
	switch v := v.(type) {
	case *Array:
		for i := 0; i < len(v.Elems); i++ {
			if err := fn(v.Elems[i]); err != nil {
				return err
			}
		}
		return nil
	case *Hash:
		return v.Each(func(k, x Value) error { return fn(&Array{Elems: []Value{k, x}}) })
	case *Range:
		return in.rangeEach(v, fn)
	case *Object:
		switch d := v.Data.(type) {
		case *Hash:
			if v.Class.Inherits(in.cSet) {
				return d.Each(func(k, _ Value) error { return fn(k) })
			}
		case *structData:
			for _, x := range d.values {
				if err := fn(x); err != nil {
					return err
				}
			}
			return nil
		case *lazy:
			return d.walk(in, fn)
		}
	}
	blk := &Proc{arity: 1, native: func(c *Call) (Value, error) {
		var x Value
		if len(c.Args) == 1 {
			x = c.Args[0]
		} else if len(c.Args) > 1 {
			x = &Array{Elems: append([]Value(nil), c.Args...)}
		}
		return nil, fn(x)
	}}
	_, err := in.send(nil, v, "each", nil, blk, true)
	return err
}

// elements is v.to_a. The slice may be v's own.
func (in *Interp) elements(v Value) ([]Value, error) {
	switch v := v.(type) {
	case *Array:
		return v.Elems, nil
	case nil:
		return nil, nil
	case *Object:
		if m := in.dispatchClass(v).find("to_a"); m != nil && m.owner != in.cEnumerable && m.owner != in.cRange {
			r, err := in.send(nil, v, "to_a", nil, nil, true)
			if a, ok := r.(*Array); ok || err != nil {
				if err != nil {
					return nil, err
				}
				return a.Elems, nil
			}
		}
	case *Range:
		if v.Hi == nil {
			return nil, in.Raise(in.eRange, "cannot convert endless range to an array")
		}
	}
	var out []Value
	err := in.iterate(v, func(x Value) error {
		out = append(out, x)
		return in.charge(16)
	})
	return out, err
}

func (in *Interp) rangeEach(r *Range, fn func(Value) error) error {
	switch lo := r.Lo.(type) {
	case int64:
		hi := int64(math.MaxInt64)
		switch h := r.Hi.(type) {
		case nil:
		case int64:
			hi = h
		case float64:
			if h < math.MaxInt64 {
				hi = int64(math.Floor(h))
			}
		case *big.Int:
			if h.Sign() < 0 {
				return nil
			}
		case *big.Rat:
			if f := floorRat(h); f.IsInt64() {
				hi = f.Int64()
			}
		default:
			return in.Raise(in.eType, "can't iterate from Integer")
		}
		if r.Excl && r.Hi != nil {
			if n, ok := compareNumbers(hi, r.Hi); ok && n == 0 {
				hi--
			}
		}
		for i := lo; i <= hi; i++ {
			if err := in.step(); err != nil {
				return err
			}
			if err := fn(i); err != nil {
				return err
			}
		}
		return nil
	case *String:
		hi, ok := r.Hi.(*String)
		if !ok {
			return in.Raise(in.eType, "can't iterate from String")
		}
		for s := lo.s; len(s) <= len(hi.s); s = succ(s) {
			if r.Excl && s == hi.s {
				return nil
			}
			if err := in.step(); err != nil {
				return err
			}
			if err := in.charge(len(s) + 32); err != nil {
				return err
			}
			if err := fn(NewString(s)); err != nil {
				return err
			}
			if s == hi.s || len(lo.s) == len(hi.s) && len(s) == len(hi.s) && lo.s > hi.s {
				return nil
			}
		}
		return nil
	}
	if r.Lo == nil || !in.respondTo(r.Lo, "succ", true) {
		return in.Raise(in.eType, "can't iterate from %s", in.className(in.ClassOf(r.Lo)))
	}
	for v := r.Lo; ; {
		if err := in.step(); err != nil {
			return err
		}
		if r.Hi != nil {
			n, err := in.compare(v, r.Hi)
			if err != nil {
				return err
			}
			if n > 0 || n == 0 && r.Excl {
				return nil
			}
		}
		if err := fn(v); err != nil {
			return err
		}
		var err error
		if v, err = in.Call(v, "succ", nil, nil); err != nil {
			return err
		}
	}
}

// succ is String#succ.
func succ(s string) string {
	if s == "" {
		return ""
	}
	b := []byte(s)
	isAlnum := func(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
	last := -1
	for i := len(b) - 1; i >= 0; i-- {
		if isAlnum(b[i]) {
			last = i
			break
		}
	}
	if last < 0 {
		for i := len(b) - 1; i >= 0; i-- {
			b[i]++
			if b[i] != 0 {
				return string(b)
			}
		}
		return "\x01" + string(b)
	}
	for i := last; ; i-- {
		switch c := b[i]; c {
		case 'z':
			b[i] = 'a'
		case 'Z':
			b[i] = 'A'
		case '9':
			b[i] = '0'
		default:
			b[i]++
			return string(b)
		}
		if i == 0 || !isAlnum(b[i-1]) {
			first := map[byte]string{'a': "a", 'A': "A", '0': "1"}[b[i]]
			return string(b[:i]) + first + string(b[i:])
		}
	}
}
