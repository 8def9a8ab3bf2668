package ruby

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/graphemes"
)

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func runeLen(s string) int {
	if isASCII(s) {
		return len(s)
	}
	return utf8.RuneCountInString(s)
}

// charOffset is the byte offset of character i, or -1 outside of s.
func charOffset(s string, i int) int {
	if i < 0 {
		return -1
	}
	if isASCII(s) {
		if i > len(s) {
			return -1
		}
		return i
	}
	for at := 0; ; i-- {
		if i == 0 {
			return at
		}
		if at >= len(s) {
			return -1
		}
		_, n := utf8.DecodeRuneInString(s[at:])
		at += n
	}
}

// substr is s[from, n] in characters.
func substr(s string, from, n int64) (string, bool) {
	length := int64(runeLen(s))
	if from < 0 {
		from += length
	}
	if from < 0 || from > length || n < 0 {
		return "", false
	}
	n = min(n, length-from)
	a := charOffset(s, int(from))
	b := a + charOffset(s[a:], int(n))
	return s[a:b], true
}

// span turns a Range into start and length in a sequence of n; ok is false when
// it begins outside.
func (in *Interp) span(r *Range, n int64) (from, count int64, ok bool, err error) {
	to := int64(-1)
	excl := r.Excl && r.Hi != nil
	if r.Lo != nil {
		if from, err = in.num(r.Lo); err != nil {
			return
		}
	}
	if r.Hi != nil {
		if to, err = in.num(r.Hi); err != nil {
			return
		}
	}
	if from < 0 {
		from += n
	}
	if to < 0 {
		to += n
	}
	if !excl {
		to++
	}
	if from < 0 || from > n {
		return 0, 0, false, nil
	}
	return from, max(min(to, n)-from, 0), true, nil
}

func (c *Call) mutable() (*String, error) {
	s := c.Self.(*String)
	if s.frozen {
		return nil, c.In.frozenError(s)
	}
	return s, nil
}

// isStripped reports what strip takes away: white space and, at the end, NUL.
func isStripped(r rune) bool { return r == 0 || r == ' ' || r >= '\t' && r <= '\r' }

func capitalize(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return string(unicode.ToUpper(r)) + strings.ToLower(s[n:])
}

func swapcase(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsUpper(r) {
			return unicode.ToLower(r)
		}
		return unicode.ToUpper(r)
	}, s)
}

func chomp(s string) string {
	if strings.HasSuffix(s, "\r\n") {
		return s[:len(s)-2]
	}
	if strings.HasSuffix(s, "\n") || strings.HasSuffix(s, "\r") {
		return s[:len(s)-1]
	}
	return s
}

func chop(s string) string {
	if strings.HasSuffix(s, "\r\n") {
		return s[:len(s)-2]
	}
	_, n := utf8.DecodeLastRuneInString(s)
	return s[:len(s)-n]
}

func squeeze(s string, in func(rune) bool) string {
	var b strings.Builder
	last := rune(-1)
	for _, r := range s {
		if r != last || !in(r) {
			b.WriteRune(r)
		}
		last = r
	}
	return b.String()
}

func reverse(s string) string {
	r := []rune(s)
	for i, j := 0, len(r)-1; i < j; i, j = i+1, j-1 {
		r[i], r[j] = r[j], r[i]
	}
	return string(r)
}

// charSet is a set as of tr, count and delete: a-z, ^ for all others.
func charSet(spec string) (list []rune, in func(rune) bool) {
	rs := []rune(spec)
	neg := len(rs) > 1 && rs[0] == '^'
	if neg {
		rs = rs[1:]
	}
	for i := 0; i < len(rs); i++ {
		switch {
		case rs[i] == '\\' && i+1 < len(rs):
			i++
			list = append(list, rs[i])
		case i+2 < len(rs) && rs[i+1] == '-' && rs[i] <= rs[i+2] && rs[i+2]-rs[i] < 0x10000:
			for r := rs[i]; r <= rs[i+2]; r++ {
				list = append(list, r)
			}
			i += 2
		default:
			list = append(list, rs[i])
		}
	}
	set := make(map[rune]bool, len(list))
	for _, r := range list {
		set[r] = true
	}
	return list, func(r rune) bool { return set[r] != neg }
}

func tr(s, from, to string, squeezed bool) string {
	list, in := charSet(from)
	dst, _ := charSet(to)
	if len(to) > 0 && to[0] == '^' && len([]rune(to)) > 1 {
		dst = append([]rune{'^'}, dst...)
	}
	neg := len(from) > 1 && from[0] == '^'
	at := map[rune]int{}
	for i, r := range list {
		if _, ok := at[r]; !ok {
			at[r] = i
		}
	}
	var b strings.Builder
	last := rune(-1)
	for _, r := range s {
		if !in(r) {
			b.WriteRune(r)
			last = -1
			continue
		}
		if len(dst) == 0 {
			continue
		}
		t := dst[len(dst)-1]
		if !neg {
			t = dst[min(at[r], len(dst)-1)]
		}
		if !squeezed || t != last {
			b.WriteRune(t)
		}
		last = t
	}
	return b.String()
}

func (c *Call) sets() (func(rune) bool, error) {
	var tests []func(rune) bool
	for i := range c.Args {
		s, err := c.strArg(i)
		if err != nil {
			return nil, err
		}
		_, in := charSet(s)
		tests = append(tests, in)
	}
	return func(r rune) bool {
		for _, t := range tests {
			if !t(r) {
				return false
			}
		}
		return true
	}, nil
}

// leadingInt is String#to_i.
func leadingInt(s string, base int) Value {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	end := 0
	if end < len(s) && (s[end] == '-' || s[end] == '+') {
		end++
	}
	start := end
	if p := strings.ToLower(s[start:min(start+2, len(s))]); base == 16 && p == "0x" || base == 8 && p == "0o" || base == 2 && p == "0b" {
		start, end = start+2, end+2
	}
	for end < len(s) && end < 10000 {
		c := s[end]
		d := 99
		switch {
		case isDigit(c):
			d = int(c - '0')
		case c|0x20 >= 'a' && c|0x20 <= 'z':
			d = int(c|0x20-'a') + 10
		case c == '_' && end > start && end+1 < len(s) && s[end+1] != '_':
			end++
			continue
		}
		if d >= base {
			break
		}
		end++
	}
	digits := strings.ReplaceAll(s[start:end], "_", "")
	if digits == "" {
		return int64(0)
	}
	if n, err := strconv.ParseInt(digits, base, 64); err == nil {
		if s[0] == '-' {
			n = -n
		}
		return n
	}
	b, ok := new(big.Int).SetString(digits, base)
	if !ok {
		return int64(0)
	}
	if s[0] == '-' {
		b.Neg(b)
	}
	return normBig(b)
}

// leadingFloat is String#to_f.
func leadingFloat(s string) float64 {
	s = strings.TrimLeft(s, " \t\n\v\f\r")
	end := 0
	if end < len(s) && (s[end] == '-' || s[end] == '+') {
		end++
	}
	digits := func() bool {
		from := end
		for end < len(s) && (isDigit(s[end]) || s[end] == '_' && end > from && end+1 < len(s) && isDigit(s[end+1])) {
			end++
		}
		return end > from
	}
	if !digits() && !(end+1 < len(s) && s[end] == '.' && isDigit(s[end+1])) {
		return 0
	}
	if end+1 < len(s) && s[end] == '.' && isDigit(s[end+1]) {
		end++
		digits()
	}
	if end+1 < len(s) && (s[end] == 'e' || s[end] == 'E') {
		save := end
		end++
		if end < len(s) && (s[end] == '-' || s[end] == '+') {
			end++
		}
		if !digits() {
			end = save
		}
	}
	f, _ := strconv.ParseFloat(strings.ReplaceAll(s[:end], "_", ""), 64)
	return f
}

func (in *Interp) bootString() {
	k := in.cString
	self := func(c *Call) string { return c.Self.(*String).s }
	// pure defines name, and name! which changes the receiver and answers nil
	// when nothing changed.
	pure := func(name string, least, most int, bang bool, fn func(c *Call, s string) (string, error)) {
		k.DefN(name, least, most, func(c *Call) (Value, error) {
			s, err := fn(c, self(c))
			if err != nil {
				return nil, err
			}
			return c.In.newString(s)
		})
		if bang {
			k.DefN(name+"!", least, most, func(c *Call) (Value, error) {
				m, err := c.mutable()
				if err != nil {
					return nil, err
				}
				s, err := fn(c, m.s)
				if err != nil || s == m.s {
					return nil, err
				}
				if err := c.In.charge(len(s)); err != nil {
					return nil, err
				}
				m.Set(s)
				return m, nil
			})
		}
	}
	plain := func(name string, bang bool, fn func(string) string) {
		pure(name, 0, 0, bang, func(c *Call, s string) (string, error) { return fn(s), nil })
	}
	k.DefN("initialize", 0, -1, func(c *Call) (Value, error) {
		if _, kw := c.Arg(0).(*Hash); len(c.Args) > 0 && !kw {
			if len(c.Args) > 2 {
				return nil, c.In.arityError(len(c.Args), 0, 1)
			}
			s, err := c.strArg(0)
			if err != nil {
				return nil, err
			}
			c.Self.(*String).Set(s)
		}
		return nil, nil
	})
	in.singletonClass(k).DefN("try_convert", 1, 1, func(c *Call) (Value, error) {
		if s, ok := c.Args[0].(*String); ok {
			return s, nil
		}
		return nil, nil
	})
	k.DefN("to_s", 0, 0, func(c *Call) (Value, error) { return c.Self, nil })
	k.alias("to_s", "to_str")
	k.DefN("inspect", 0, 0, func(c *Call) (Value, error) { return c.In.newString(inspectString(self(c))) })
	k.DefN("dump", 0, 0, func(c *Call) (Value, error) {
		var b strings.Builder
		for _, r := range inspectString(self(c)) {
			switch {
			case r < 128:
				b.WriteRune(r)
			case r > 0xffff:
				fmt.Fprintf(&b, "\\u{%X}", r)
			default:
				fmt.Fprintf(&b, "\\u%04X", r)
			}
		}
		return c.In.newString(b.String())
	})
	k.DefN("to_sym", 0, 0, func(c *Call) (Value, error) { return Symbol(self(c)), nil })
	k.alias("to_sym", "intern")
	k.DefN("to_i", 0, 1, func(c *Call) (Value, error) {
		base, err := c.intArg(0, 10)
		if err != nil {
			return nil, err
		}
		if base < 2 || base > 36 {
			return nil, c.In.Raise(c.In.eArgument, "invalid radix %d", base)
		}
		return leadingInt(self(c), int(base)), nil
	})
	k.DefN("to_f", 0, 0, func(c *Call) (Value, error) { return leadingFloat(self(c)), nil })
	k.DefN("hex", 0, 0, func(c *Call) (Value, error) { return leadingInt(self(c), 16), nil })
	k.DefN("oct", 0, 0, func(c *Call) (Value, error) {
		s := strings.ToLower(strings.TrimLeft(self(c), " +-"))
		base := 8
		if strings.HasPrefix(s, "0x") {
			base = 16
		} else if strings.HasPrefix(s, "0b") {
			base = 2
		}
		return leadingInt(self(c), base), nil
	})
	k.DefN("length", 0, 0, func(c *Call) (Value, error) { return int64(runeLen(self(c))), nil })
	k.alias("length", "size")
	k.DefN("bytesize", 0, 0, func(c *Call) (Value, error) { return int64(len(self(c))), nil })
	k.DefN("empty?", 0, 0, func(c *Call) (Value, error) { return self(c) == "", nil })
	k.DefN("hash", 0, 0, in.cKernel.methods["hash"].native)
	k.DefN("==", 1, 1, func(c *Call) (Value, error) {
		o, ok := c.Args[0].(*String)
		return ok && o.s == self(c), nil
	})
	k.alias("==", "===", "eql?")
	k.DefN("<=>", 1, 1, func(c *Call) (Value, error) {
		if o, ok := c.Args[0].(*String); ok {
			return int64(strings.Compare(self(c), o.s)), nil
		}
		return nil, nil
	})
	for name, test := range map[string]func(int) bool{
		"<": func(n int) bool { return n < 0 }, "<=": func(n int) bool { return n <= 0 },
		">": func(n int) bool { return n > 0 }, ">=": func(n int) bool { return n >= 0 },
	} {
		k.DefN(name, 1, 1, func(c *Call) (Value, error) {
			if o, ok := c.Args[0].(*String); ok {
				return test(strings.Compare(self(c), o.s)), nil
			}
			return nil, c.In.notComparable(c.Self, c.Args[0])
		})
	}
	k.DefN("casecmp", 1, 1, func(c *Call) (Value, error) {
		if c.Args[0] != nil && !c.In.respondTo(c.Args[0], "to_str", true) {
			return nil, nil
		}
		s, err := c.strArg(0)
		return int64(strings.Compare(strings.ToLower(self(c)), strings.ToLower(s))), err
	})
	k.DefN("casecmp?", 1, 1, func(c *Call) (Value, error) {
		if c.Args[0] != nil && !c.In.respondTo(c.Args[0], "to_str", true) {
			return nil, nil
		}
		s, err := c.strArg(0)
		return strings.EqualFold(self(c), s), err
	})
	k.DefN("+", 1, 1, func(c *Call) (Value, error) {
		s, err := c.strArg(0)
		if err != nil {
			return nil, err
		}
		if err := c.In.charge(40 + len(self(c)) + len(s)); err != nil {
			return nil, err
		}
		return NewString(self(c) + s), nil
	})
	k.DefN("*", 1, 1, func(c *Call) (Value, error) {
		n, err := c.In.num(c.Args[0])
		if err != nil {
			return nil, err
		}
		if n < 0 {
			return nil, c.In.Raise(c.In.eArgument, "negative argument")
		}
		s := self(c)
		if len(s) > 0 && n > int64(c.In.limits.Memory)/int64(len(s)) {
			return nil, &LimitError{Limit: "memory"}
		}
		if err := c.In.charge(len(s) * int(n)); err != nil {
			return nil, err
		}
		if s == "" {
			n = 0
		}
		return NewString(strings.Repeat(s, int(n))), nil
	})
	k.DefN("%", 1, 1, func(c *Call) (Value, error) {
		args := []Value{c.Args[0]}
		if a, ok := c.Args[0].(*Array); ok {
			args = a.Elems
		}
		s, err := c.In.format(self(c), args)
		return NewString(s), err
	})
	k.DefN("<<", 1, 1, func(c *Call) (Value, error) {
		m, err := c.mutable()
		if err != nil {
			return nil, err
		}
		s := ""
		if n, ok := c.Args[0].(int64); ok {
			s = string(rune(n))
		} else if s, err = c.strArg(0); err != nil {
			return nil, err
		}
		n := 2 * len(s)
		if m.ext == nil {
			n += 128
		}
		if err := c.In.charge(n); err != nil {
			return nil, err
		}
		m.Append(s)
		return m, nil
	})
	k.DefN("concat", 0, -1, func(c *Call) (Value, error) {
		m, err := c.mutable()
		for i := 0; err == nil && i < len(c.Args); i++ {
			if _, codepoint := c.Args[i].(int64); codepoint {
				if _, err = c.In.Call(m, "<<", c.Args[i:i+1], nil); err != nil {
					return nil, err
				}
				continue
			}
			var s string
			if s, err = c.strArg(i); err == nil {
				if err = c.In.charge(2 * len(s)); err == nil {
					m.Append(s)
				}
			}
		}
		return m, err
	})
	k.DefN("replace", 1, 1, func(c *Call) (Value, error) {
		m, err := c.mutable()
		if err != nil {
			return nil, err
		}
		s, err := c.strArg(0)
		m.Set(s)
		return m, err
	})
	k.DefN("clear", 0, 0, func(c *Call) (Value, error) {
		m, err := c.mutable()
		if err == nil {
			m.Set("")
		}
		return m, err
	})
	k.DefN("prepend", 0, -1, func(c *Call) (Value, error) {
		m, err := c.mutable()
		if err != nil {
			return nil, err
		}
		var b strings.Builder
		for i := range c.Args {
			s, err := c.strArg(i)
			if err != nil {
				return nil, err
			}
			b.WriteString(s)
		}
		if err := c.In.charge(b.Len() + len(m.s)); err != nil {
			return nil, err
		}
		m.Set(b.String() + m.s)
		return m, nil
	})
	k.DefN("insert", 2, 2, func(c *Call) (Value, error) {
		m, err := c.mutable()
		if err != nil {
			return nil, err
		}
		i, err := c.In.num(c.Args[0])
		if err != nil {
			return nil, err
		}
		s, err := c.strArg(1)
		if err != nil {
			return nil, err
		}
		if i < 0 {
			i += int64(runeLen(m.s)) + 1
		}
		at := charOffset(m.s, int(i))
		if at < 0 {
			return nil, c.In.Raise(c.In.eIndex, "index %d out of string", i)
		}
		if err := c.In.charge(len(m.s) + len(s)); err != nil {
			return nil, err
		}
		m.Set(m.s[:at] + s + m.s[at:])
		return m, nil
	})
	plain("strip", true, func(s string) string {
		return strings.TrimLeftFunc(strings.TrimRightFunc(s, isStripped), isStripped)
	})
	plain("lstrip", true, func(s string) string { return strings.TrimLeftFunc(s, isStripped) })
	plain("rstrip", true, func(s string) string { return strings.TrimRightFunc(s, isStripped) })
	for name, fn := range map[string]func(string) string{"upcase": strings.ToUpper, "downcase": strings.ToLower, "capitalize": capitalize, "swapcase": swapcase} {
		pure(name, 0, 2, true, func(c *Call, s string) (string, error) {
			for _, a := range c.Args {
				switch a {
				case Symbol("ascii"), Symbol("turkic"), Symbol("lithuanian"), Symbol("fold"):
				default:
					return "", c.In.Raise(c.In.eArgument, "invalid option")
				}
			}
			return fn(s), nil
		})
	}
	plain("chop", true, chop)
	plain("reverse", true, reverse)
	plain("succ", true, succ)
	k.alias("succ", "next")
	pure("chomp", 0, 1, true, func(c *Call, s string) (string, error) {
		if len(c.Args) == 0 {
			return chomp(s), nil
		}
		if c.Args[0] == nil {
			return s, nil
		}
		suffix, err := c.strArg(0)
		if suffix == "" {
			return strings.TrimRight(s, "\n"), err
		}
		return strings.TrimSuffix(s, suffix), err
	})
	pure("delete_prefix", 1, 1, true, func(c *Call, s string) (string, error) {
		p, err := c.strArg(0)
		return strings.TrimPrefix(s, p), err
	})
	pure("delete_suffix", 1, 1, true, func(c *Call, s string) (string, error) {
		p, err := c.strArg(0)
		return strings.TrimSuffix(s, p), err
	})
	pure("squeeze", 0, -1, true, func(c *Call, s string) (string, error) {
		in, err := c.sets()
		if err != nil {
			return "", err
		}
		return squeeze(s, in), nil
	})
	pure("delete", 1, -1, true, func(c *Call, s string) (string, error) {
		in, err := c.sets()
		if err != nil {
			return "", err
		}
		return strings.Map(func(r rune) rune {
			if in(r) {
				return -1
			}
			return r
		}, s), nil
	})
	k.DefN("count", 1, -1, func(c *Call) (Value, error) {
		in, err := c.sets()
		n := int64(0)
		if err == nil {
			for _, r := range self(c) {
				if in(r) {
					n++
				}
			}
		}
		return n, err
	})
	for _, name := range []string{"tr", "tr_s"} {
		pure(name, 2, 2, true, func(c *Call, s string) (string, error) {
			from, err := c.strArg(0)
			if err != nil {
				return "", err
			}
			to, err := c.strArg(1)
			if err != nil {
				return "", err
			}
			return tr(s, from, to, strings.HasPrefix(c.Name, "tr_s")), nil
		})
	}
	just := func(c *Call, s string) (string, error) {
		w, err := c.In.num(c.Args[0])
		if err != nil {
			return "", err
		}
		with := " "
		if len(c.Args) > 1 {
			if with, err = c.strArg(1); err != nil {
				return "", err
			}
			if with == "" {
				return "", c.In.Raise(c.In.eArgument, "zero width padding")
			}
		}
		n := w - int64(runeLen(s))
		if n <= 0 {
			return s, nil
		}
		if err := c.In.chargeBig(n * int64(utf8.UTFMax)); err != nil {
			return "", err
		}
		fill := func(n int) string {
			r := []rune(with)
			return strings.Repeat(with, n/len(r)) + string(r[:n%len(r)])
		}
		switch c.Name {
		case "ljust":
			return s + fill(int(n)), nil
		case "rjust":
			return fill(int(n)) + s, nil
		}
		return fill(int(n/2)) + s + fill(int(n-n/2)), nil
	}
	for _, name := range []string{"ljust", "rjust", "center"} {
		pure(name, 1, 2, false, just)
	}
	k.DefN("include?", 1, 1, func(c *Call) (Value, error) {
		s, err := c.strArg(0)
		return strings.Contains(self(c), s), err
	})
	affix := func(c *Call) (Value, error) {
		for _, a := range c.Args {
			if re, ok := a.(*Regexp); ok && c.Name == "start_with?" {
				m, err := re.match(self(c), 0)
				if err != nil {
					return nil, err
				}
				if m != nil && m.loc[0] == 0 {
					return true, nil
				}
				continue
			}
			s, err := c.In.str(a)
			if err != nil {
				return nil, err
			}
			if c.Name == "start_with?" && strings.HasPrefix(self(c), s) || c.Name == "end_with?" && strings.HasSuffix(self(c), s) {
				return true, nil
			}
		}
		return false, nil
	}
	k.Def("start_with?", affix)
	k.Def("end_with?", affix)
	k.DefN("index", 1, 2, func(c *Call) (Value, error) {
		from, err := c.intArg(1, 0)
		if err != nil {
			return nil, err
		}
		s := self(c)
		if from < 0 {
			from += int64(runeLen(s))
		}
		at := charOffset(s, int(from))
		if at < 0 {
			return nil, nil
		}
		if re, ok := c.Args[0].(*Regexp); ok {
			m, err := re.match(s, at)
			c.setMatch(m)
			if m == nil || err != nil {
				return nil, err
			}
			return int64(runeLen(s[:m.loc[0]])), nil
		}
		sub, err := c.strArg(0)
		if err != nil {
			return nil, err
		}
		if i := strings.Index(s[at:], sub); i >= 0 {
			return int64(runeLen(s[:at+i])), nil
		}
		return nil, nil
	})
	k.DefN("rindex", 1, 2, func(c *Call) (Value, error) {
		s := self(c)
		if re, ok := c.Args[0].(*Regexp); ok {
			last := -1
			err := re.all(s, func(m *MatchData) error { last = m.loc[0]; return nil })
			if last < 0 || err != nil {
				return nil, err
			}
			return int64(runeLen(s[:last])), nil
		}
		sub, err := c.strArg(0)
		if err != nil {
			return nil, err
		}
		if i := strings.LastIndex(s, sub); i >= 0 {
			return int64(runeLen(s[:i])), nil
		}
		return nil, nil
	})
	k.DefN("[]", 1, 2, func(c *Call) (Value, error) { return c.In.stringIndex(c) })
	k.alias("[]", "slice")
	k.DefN("[]=", 2, 3, func(c *Call) (Value, error) {
		m, err := c.mutable()
		if err != nil {
			return nil, err
		}
		repl, err := c.In.str(c.Args[len(c.Args)-1])
		if err != nil {
			return nil, err
		}
		a, b := -1, -1
		switch x := c.Args[0].(type) {
		case *String:
			if a = strings.Index(m.s, x.s); a >= 0 {
				b = a + len(x.s)
			}
		case *Regexp:
			d, err := x.match(m.s, 0)
			if err != nil {
				return nil, err
			}
			if d != nil {
				a, b = d.loc[0], d.loc[1]
			}
		case *Range:
			from, n, ok, err := c.In.span(x, int64(runeLen(m.s)))
			if err != nil {
				return nil, err
			}
			if ok {
				a = charOffset(m.s, int(from))
				b = a + charOffset(m.s[a:], int(n))
			}
		default:
			from, err := c.In.num(x)
			if err != nil {
				return nil, err
			}
			n := int64(1)
			if len(c.Args) == 3 {
				if n, err = c.In.num(c.Args[1]); err != nil {
					return nil, err
				}
			}
			if from < 0 {
				from += int64(runeLen(m.s))
			}
			if a = charOffset(m.s, int(from)); a >= 0 {
				if b = charOffset(m.s[a:], int(max(n, 0))); b < 0 {
					b = len(m.s) - a
				}
				b += a
			}
		}
		if a < 0 || b < 0 {
			return nil, c.In.Raise(c.In.eIndex, "string not matched")
		}
		if err := c.In.charge(len(m.s) + len(repl)); err != nil {
			return nil, err
		}
		m.Set(m.s[:a] + repl + m.s[b:])
		return c.Args[len(c.Args)-1], nil
	})
	k.DefN("slice!", 1, 2, func(c *Call) (Value, error) {
		m, err := c.mutable()
		if err != nil {
			return nil, err
		}
		v, err := c.In.stringIndex(c)
		if err != nil || v == nil {
			return nil, err
		}
		cut := v.(*String).s
		at := strings.Index(m.s, cut)
		switch x := c.Args[0].(type) {
		case int64:
			if x < 0 {
				x += int64(runeLen(m.s))
			}
			at = charOffset(m.s, int(x))
		case *Range:
			from, _, _, _ := c.In.span(x, int64(runeLen(m.s)))
			at = charOffset(m.s, int(from))
		}
		if err := c.In.charge(len(m.s)); err != nil {
			return nil, err
		}
		m.Set(m.s[:at] + m.s[at+len(cut):])
		return v, nil
	})
	k.DefN("lines", 0, 2, func(c *Call) (Value, error) {
		s := self(c)
		keep := true
		if h, ok := c.Arg(len(c.Args) - 1).(*Hash); ok {
			if v, ok := h.Get(Symbol("chomp")); ok {
				keep = !Truthy(v)
			}
		}
		if err := c.In.charge(len(s) + 56*strings.Count(s, "\n")); err != nil {
			return nil, err
		}
		a := &Array{}
		for line := range strings.Lines(s) {
			if !keep {
				line = chomp(line)
			}
			a.Elems = append(a.Elems, NewString(line))
		}
		return c.eachOr(a)
	})
	k.DefN("each_line", 0, 2, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		chomped := false
		if h, ok := c.Arg(len(c.Args) - 1).(*Hash); ok {
			v, _ := h.Get(Symbol("chomp"))
			chomped = Truthy(v)
		}
		for line := range strings.Lines(self(c)) {
			if chomped {
				line = chomp(line)
			}
			if _, err := c.yield(NewString(line)); err != nil {
				return nil, err
			}
		}
		return c.Self, nil
	})
	k.DefN("chars", 0, 0, func(c *Call) (Value, error) {
		s := self(c)
		if err := c.In.charge(72 * len(s)); err != nil {
			return nil, err
		}
		a := &Array{}
		for i := 0; i < len(s); {
			_, n := utf8.DecodeRuneInString(s[i:])
			a.Elems = append(a.Elems, NewString(s[i:i+n]))
			i += n
		}
		return c.eachOr(a)
	})
	k.DefN("each_char", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		for _, r := range self(c) {
			if _, err := c.yield(NewString(string(r))); err != nil {
				return nil, err
			}
		}
		return c.Self, nil
	})
	k.DefN("bytes", 0, 0, func(c *Call) (Value, error) {
		s := self(c)
		if err := c.In.charge(24 * len(s)); err != nil {
			return nil, err
		}
		a := &Array{}
		for i := 0; i < len(s); i++ {
			a.Elems = append(a.Elems, int64(s[i]))
		}
		return c.eachOr(a)
	})
	k.DefN("codepoints", 0, 0, func(c *Call) (Value, error) {
		s := self(c)
		if err := c.In.charge(24 * len(s)); err != nil {
			return nil, err
		}
		a := &Array{}
		for _, r := range s {
			a.Elems = append(a.Elems, int64(r))
		}
		return c.eachOr(a)
	})
	k.DefN("getbyte", 1, 1, func(c *Call) (Value, error) {
		i, err := c.In.num(c.Args[0])
		if s := self(c); i < int64(len(s)) && i >= -int64(len(s)) {
			if i < 0 {
				i += int64(len(s))
			}
			return int64(s[i]), err
		}
		return nil, err
	})
	k.DefN("chr", 0, 0, func(c *Call) (Value, error) {
		_, n := utf8.DecodeRuneInString(self(c))
		return NewString(self(c)[:n]), nil
	})
	k.DefN("ord", 0, 0, func(c *Call) (Value, error) {
		r, n := utf8.DecodeRuneInString(self(c))
		if n == 0 {
			return nil, c.In.Raise(c.In.eArgument, "empty string")
		}
		return int64(r), nil
	})
	k.DefN("sum", 0, 1, func(c *Call) (Value, error) {
		bits, err := c.intArg(0, 16)
		n := int64(0)
		for _, b := range []byte(self(c)) {
			n += int64(b)
		}
		if bits > 0 && bits < 63 {
			n &= 1<<bits - 1
		}
		return n, err
	})
	k.DefN("split", 0, 2, func(c *Call) (Value, error) {
		a, err := c.In.split(c, self(c))
		if err != nil {
			return nil, err
		}
		return c.eachOr(a)
	})
	k.DefN("partition", 1, 1, func(c *Call) (Value, error) {
		s := self(c)
		a, b := -1, -1
		if re, ok := c.Args[0].(*Regexp); ok {
			m, err := re.match(s, 0)
			c.setMatch(m)
			if err != nil {
				return nil, err
			}
			if m != nil {
				a, b = m.loc[0], m.loc[1]
			}
		} else {
			sep, err := c.strArg(0)
			if err != nil {
				return nil, err
			}
			if a = strings.Index(s, sep); a >= 0 {
				b = a + len(sep)
			}
		}
		if a < 0 {
			return NewArray(NewString(s), NewString(""), NewString("")), nil
		}
		return NewArray(NewString(s[:a]), NewString(s[a:b]), NewString(s[b:])), nil
	})
	k.DefN("rpartition", 1, 1, func(c *Call) (Value, error) {
		s := self(c)
		a, b := -1, -1
		if re, ok := c.Args[0].(*Regexp); ok {
			if err := re.all(s, func(m *MatchData) error { a, b = m.loc[0], m.loc[1]; return nil }); err != nil {
				return nil, err
			}
		} else {
			sep, err := c.strArg(0)
			if err != nil {
				return nil, err
			}
			if a = strings.LastIndex(s, sep); a >= 0 {
				b = a + len(sep)
			}
		}
		if a < 0 {
			return NewArray(NewString(""), NewString(""), NewString(s)), nil
		}
		return NewArray(NewString(s[:a]), NewString(s[a:b]), NewString(s[b:])), nil
	})
	for _, name := range []string{"sub", "gsub"} {
		once := name == "sub"
		k.DefN(name, 1, 2, func(c *Call) (Value, error) {
			if len(c.Args) == 1 && c.Block == nil {
				return c.enum()
			}
			s, _, err := c.In.substitute(c, self(c), once)
			return NewString(s), err
		})
		k.DefN(name+"!", 1, 2, func(c *Call) (Value, error) {
			m, err := c.mutable()
			if err != nil {
				return nil, err
			}
			s, changed, err := c.In.substitute(c, m.s, once)
			if err != nil || !changed {
				return nil, err
			}
			m.Set(s)
			return m, nil
		})
	}
	k.DefN("match", 1, 2, func(c *Call) (Value, error) {
		re, err := c.In.pattern(c.Args[0])
		if err != nil {
			return nil, err
		}
		pos, err := c.intArg(1, 0)
		if err != nil {
			return nil, err
		}
		return c.match(re, self(c), pos)
	})
	k.DefN("match?", 1, 2, func(c *Call) (Value, error) {
		re, err := c.In.pattern(c.Args[0])
		if err != nil {
			return nil, err
		}
		from, err := c.intArg(1, 0)
		if err != nil {
			return nil, err
		}
		s := self(c)
		if from != 0 {
			n := int64(runeLen(s))
			if from < 0 {
				from += n
			}
			if from < 0 || from > n {
				return false, nil
			}
			m, err := re.match(s, len(string([]rune(s)[:from])))
			return m != nil, err
		}
		return re.MatchString(s)
	})
	k.DefN("=~", 1, 1, func(c *Call) (Value, error) {
		switch p := c.Args[0].(type) {
		case *Regexp:
			m, err := p.match(self(c), 0)
			c.setMatch(m)
			if m == nil || err != nil {
				return nil, err
			}
			return int64(runeLen(m.s[:m.loc[0]])), nil
		case *String:
			return nil, c.In.Raise(c.In.eType, "type mismatch: String given")
		}
		return c.In.Call(c.Args[0], "=~", []Value{c.Self}, nil)
	})
	k.DefN("scan", 1, 1, func(c *Call) (Value, error) {
		re, err := c.In.literalPattern(c.Args[0])
		if err != nil {
			return nil, err
		}
		out := &Array{}
		var last *MatchData
		err = re.all(self(c), func(m *MatchData) error {
			last = m
			var v Value
			if m.groups() == 1 {
				v = m.group(0)
			} else {
				g := make([]Value, 0, m.groups()-1)
				for i := 1; i < m.groups(); i++ {
					g = append(g, m.group(i))
				}
				v = &Array{Elems: g}
			}
			if err := c.In.charge(80 + 40*m.groups()); err != nil {
				return err
			}
			if c.Block == nil {
				out.Elems = append(out.Elems, v)
				return nil
			}
			c.setMatch(m)
			_, err := c.yield(v)
			return err
		})
		c.setMatch(last)
		if c.Block != nil {
			return c.Self, err
		}
		return out, err
	})
	k.DefN("upto", 1, 2, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		if last, ok := c.Args[0].(*String); ok && (len(self(c)) > len(last.s) || self(c) == "") {
			if self(c) == "" && !(Truthy(c.Arg(1)) && last.s == "") {
				_, err := c.yield(c.Self)
				return c.Self, err
			}
			return c.Self, nil
		}
		return c.Self, c.In.rangeEach(&Range{c.Self, c.Args[0], Truthy(c.Arg(1))}, func(v Value) error {
			_, err := c.yield(v)
			return err
		})
	})
	k.DefN("between?", 2, 2, in.cComparable.methods["between?"].native)
	encode := func(c *Call) (Value, error) {
		s := self(c)
		if !utf8.ValidString(s) {
			repl := "\ufffd"
			for _, a := range c.Args {
				if h, ok := a.(*Hash); ok {
					if v, ok := h.Get(Symbol("replace")); ok {
						repl = c.In.ToS(v)
					}
				}
			}
			if r, ok := c.Arg(0).(*String); ok && c.Name == "scrub" {
				repl = r.s
			}
			s = strings.ToValidUTF8(s, repl)
		}
		if c.Name == "encode!" || c.Name == "scrub!" {
			c.Self.(*String).Set(s)
			return c.Self, nil
		}
		return NewString(s), nil
	}
	for _, n := range []string{"encode", "encode!", "scrub", "scrub!", "unicode_normalize"} {
		k.Def(n, encode)
	}
	k.DefN("force_encoding", 1, 1, func(c *Call) (Value, error) { return c.Self, nil })
	k.DefN("b", 0, 0, func(c *Call) (Value, error) { return NewString(self(c)), nil })
	k.DefN("encoding", 0, 0, func(c *Call) (Value, error) { return c.In.cObject.consts["Encoding"].(*Class).consts["UTF_8"], nil })
	k.DefN("valid_encoding?", 0, 0, func(c *Call) (Value, error) { return utf8.ValidString(self(c)), nil })
	k.DefN("ascii_only?", 0, 0, func(c *Call) (Value, error) { return isASCII(self(c)), nil })
	k.DefN("+@", 0, 0, func(c *Call) (Value, error) {
		if c.Self.(*String).frozen {
			return NewString(self(c)), nil
		}
		return c.Self, nil
	})
	k.DefN("-@", 0, 0, func(c *Call) (Value, error) { return &String{s: self(c), frozen: true}, nil })
	k.DefN("byteslice", 1, 2, func(c *Call) (Value, error) {
		s := self(c)
		r, ranged := c.Args[0].(*Range)
		if ranged {
			bytes := &Array{Elems: make([]Value, len(s))}
			for i := range s {
				bytes.Elems[i] = NewString(s[i : i+1])
			}
			if err := c.In.charge(64 * len(s)); err != nil {
				return nil, err
			}
			v, err := c.In.send(c.fr, bytes, "[]", []Value{r}, nil, false)
			if v == nil || err != nil {
				return nil, err
			}
			return c.In.send(c.fr, v, "join", nil, nil, false)
		}
		from, err := c.intArg(0, 0)
		if err != nil {
			return nil, err
		}
		n, err := c.intArg(1, 1)
		if err != nil {
			return nil, err
		}
		if from < 0 {
			from += int64(len(s))
		}
		if from < 0 || from > int64(len(s)) || n < 0 || len(c.Args) == 1 && from == int64(len(s)) {
			return nil, nil
		}
		return c.In.newString(s[from:min(from+min(n, int64(len(s))), int64(len(s)))])
	})
	k.DefN("grapheme_clusters", 0, 0, func(c *Call) (Value, error) {
		s := self(c)
		if err := c.In.charge(72 * len(s)); err != nil {
			return nil, err
		}
		a := &Array{}
		for it := graphemes.FromString(s); it.Next(); {
			a.Elems = append(a.Elems, NewString(it.Value()))
		}
		return c.eachOr(a)
	})
	k.alias("each_char", "each_grapheme_cluster")
	k.DefN("unpack", 1, 1, unpack)
	k.DefN("unpack1", 1, 1, func(c *Call) (Value, error) {
		v, err := unpack(c)
		if a, ok := v.(*Array); ok && len(a.Elems) > 0 {
			return a.Elems[0], err
		}
		return nil, err
	})
	enc := in.DefineClass(nil, "Encoding", nil)
	for id, name := range map[string]string{"UTF_8": "UTF-8", "ASCII_8BIT": "ASCII-8BIT", "BINARY": "ASCII-8BIT", "US_ASCII": "US-ASCII", "ISO_8859_1": "ISO-8859-1"} {
		o := in.NewObject(enc, name)
		enc.SetConst(id, o)
	}
	enc.DefN("to_s", 0, 0, func(c *Call) (Value, error) { return NewString(c.Self.(*Object).Data.(string)), nil })
	enc.alias("to_s", "name")
	enc.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		return NewString("#<Encoding:" + c.Self.(*Object).Data.(string) + ">"), nil
	})
	for _, n := range []string{"UndefinedConversionError", "InvalidByteSequenceError", "CompatibilityError"} {
		in.DefineClass(enc, n, in.Class("EncodingError"))
	}
	digest := in.DefineModule(nil, "Digest")
	for name, sum := range map[string]func(string) []byte{
		"SHA256": func(s string) []byte { d := sha256.Sum256([]byte(s)); return d[:] },
		"MD5":    func(s string) []byte { d := md5.Sum([]byte(s)); return d[:] },
	} {
		d := in.DefineClass(digest, name, nil)
		in.singletonClass(d).DefN("hexdigest", 1, 1, func(c *Call) (Value, error) {
			s, err := c.strArg(0)
			return NewString(hex.EncodeToString(sum(s))), err
		})
	}
	b64 := in.singletonClass(in.DefineModule(nil, "Base64"))
	encode64 := func(c *Call) (Value, error) {
		s, err := c.strArg(0)
		if err != nil {
			return nil, err
		}
		return c.In.newString(base64.StdEncoding.EncodeToString([]byte(s)))
	}
	b64.DefN("strict_encode64", 1, 1, encode64)
	b64.DefN("encode64", 1, 1, func(c *Call) (Value, error) {
		v, err := encode64(c)
		if err == nil {
			v.(*String).Append("\n")
		}
		return v, err
	})
	decode64 := func(c *Call) (Value, error) {
		s, err := c.strArg(0)
		if err != nil {
			return nil, err
		}
		d, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
		if err != nil {
			return nil, c.In.Raise(c.In.eArgument, "invalid base64")
		}
		return c.In.newString(string(d))
	}
	b64.DefN("decode64", 1, 1, decode64)
	b64.DefN("strict_decode64", 1, 1, decode64)

	y := in.cSymbol
	sym := func(c *Call) string { return string(c.Self.(Symbol)) }
	y.DefN("to_s", 0, 0, func(c *Call) (Value, error) { return NewString(sym(c)), nil })
	y.alias("to_s", "id2name", "name")
	y.DefN("to_sym", 0, 0, func(c *Call) (Value, error) { return c.Self, nil })
	y.DefN("to_proc", 0, 0, func(c *Call) (Value, error) { return c.In.toProc(c.Self) })
	y.DefN("inspect", 0, 0, func(c *Call) (Value, error) { return NewString(inspectSymbol(sym(c))), nil })
	y.DefN("<=>", 1, 1, func(c *Call) (Value, error) {
		if o, ok := c.Args[0].(Symbol); ok {
			return int64(strings.Compare(sym(c), string(o))), nil
		}
		return nil, nil
	})
	for _, n := range []string{"upcase", "downcase", "capitalize", "swapcase", "succ"} {
		y.DefN(n, 0, 0, func(c *Call) (Value, error) {
			v, err := c.In.Call(NewString(sym(c)), c.Name, nil, nil)
			if s, ok := v.(*String); ok {
				return Symbol(s.s), err
			}
			return nil, err
		})
	}
	for _, n := range []string{"length", "size", "empty?", "[]", "=~", "match", "match?", "start_with?", "end_with?"} {
		y.Def(n, func(c *Call) (Value, error) { return c.In.send(c.fr, NewString(sym(c)), c.Name, c.Args, nil, false) })
	}
}

func unpack(c *Call) (Value, error) {
	f, err := c.strArg(0)
	if err != nil {
		return nil, err
	}
	s := c.Self.(*String).s
	if err := c.In.charge(2 * len(s)); err != nil {
		return nil, err
	}
	switch f {
	case "H*":
		return NewArray(NewString(hex.EncodeToString([]byte(s)))), nil
	case "C*", "c*":
		return c.In.Call(c.Self, "bytes", nil, nil)
	case "U*":
		return c.In.Call(c.Self, "codepoints", nil, nil)
	case "m", "m0":
		d, _ := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
		return NewArray(NewString(string(d))), nil
	}
	return nil, c.In.Raise(c.In.eArgument, "unpack(%q) is not supported", f)
}

func (in *Interp) stringIndex(c *Call) (Value, error) {
	s := c.Self.(*String).s
	out := func(t string, ok bool) (Value, error) {
		if !ok {
			return nil, nil
		}
		return in.newString(t)
	}
	switch x := c.Args[0].(type) {
	case *String:
		return out(x.s, strings.Contains(s, x.s))
	case *Regexp:
		m, err := x.match(s, 0)
		c.setMatch(m)
		if m == nil || err != nil {
			return nil, err
		}
		if len(c.Args) == 2 {
			return in.matchIndex(m, c.Args[1])
		}
		return m.group(0), nil
	case *Range:
		from, n, ok, err := in.span(x, int64(runeLen(s)))
		if err != nil || !ok {
			return nil, err
		}
		return out(substr(s, from, n))
	}
	i, err := in.num(c.Args[0])
	if err != nil {
		return nil, err
	}
	if len(c.Args) == 2 {
		n, err := in.num(c.Args[1])
		if err != nil {
			return nil, err
		}
		return out(substr(s, i, n))
	}
	t, ok := substr(s, i, 1)
	return out(t, ok && t != "")
}

func (in *Interp) split(c *Call, s string) (*Array, error) {
	limit, err := c.intArg(1, 0)
	if err != nil {
		return nil, err
	}
	var parts []Value
	add := func(t string) error {
		parts = append(parts, NewString(t))
		return in.charge(56 + len(t))
	}
	sep := c.Arg(0)
	str, isStr := sep.(*String)
	switch {
	case !utf8.ValidString(s):
		return nil, in.Raise(in.eArgument, "invalid byte sequence in UTF-8")
	case s == "":
		return NewArray(), nil
	case limit == 1:
		return NewArray(NewString(s)), nil
	case sep == nil || isStr && str.s == " ":
		white := func(b byte) bool { return b == 0 || isSpace(b) || b == '\n' }
		i := 0
		for {
			for i < len(s) && white(s[i]) {
				i++
			}
			if i >= len(s) {
				break
			}
			if limit > 0 && int64(len(parts)) == limit-1 {
				if err := add(s[i:]); err != nil {
					return nil, err
				}
				i = -1
				break
			}
			from := i
			for i < len(s) && !white(s[i]) {
				i++
			}
			if err := add(s[from:i]); err != nil {
				return nil, err
			}
		}
		if limit < 0 && i > 0 && white(s[len(s)-1]) {
			parts = append(parts, NewString(""))
		}
		return &Array{Elems: parts}, nil
	case isStr && str.s != "":
		for limit <= 0 || int64(len(parts)) < limit-1 {
			i := strings.Index(s, str.s)
			if i < 0 {
				break
			}
			if err := add(s[:i]); err != nil {
				return nil, err
			}
			s = s[i+len(str.s):]
		}
		if err := add(s); err != nil {
			return nil, err
		}
	default:
		re, err := in.pattern(sep)
		if err != nil {
			return nil, err
		}
		from := 0
		err = re.all(s, func(m *MatchData) error {
			if limit > 0 && int64(len(parts)) >= limit-1 {
				return errStop
			}
			a, b := m.loc[0], m.loc[1]
			if a == b && (a == from || a >= len(s)) {
				return nil
			}
			if err := add(s[from:a]); err != nil {
				return err
			}
			for i := 1; i < m.groups(); i++ {
				if g, ok := m.text(i); ok {
					if err := add(g); err != nil {
						return err
					}
				}
			}
			from = b
			return nil
		})
		if err != nil && err != errStop {
			return nil, err
		}
		if err := add(s[from:]); err != nil {
			return nil, err
		}
	}
	if limit == 0 {
		for len(parts) > 0 && parts[len(parts)-1].(*String).s == "" {
			parts = parts[:len(parts)-1]
		}
	}
	return &Array{Elems: parts}, nil
}

// pattern is v as a Regexp: a String becomes one by its text.
func (in *Interp) pattern(v Value) (*Regexp, error) {
	switch v := v.(type) {
	case *Regexp:
		return v, nil
	case *String:
		return in.regexp(v.s, 0)
	}
	return nil, in.Raise(in.eType, "wrong argument type %s (expected Regexp)", in.special(v))
}

// literalPattern is v as a Regexp that matches a String literally.
func (in *Interp) literalPattern(v Value) (*Regexp, error) {
	if s, ok := v.(*String); ok {
		return in.regexp(regexpEscape(s.s), 0)
	}
	return in.pattern(v)
}

func (c *Call) setMatch(m *MatchData) {
	if c.fr != nil {
		c.fr.home.match = m
	}
}

func (c *Call) match(re *Regexp, s string, pos int64) (Value, error) {
	at := charOffset(s, int(pos))
	if at < 0 {
		return nil, nil
	}
	m, err := re.match(s, at)
	c.setMatch(m)
	if m == nil || err != nil {
		return nil, err
	}
	if c.Block != nil {
		return c.yield(m)
	}
	return m, nil
}

// substitute is sub and gsub.
func (in *Interp) substitute(c *Call, s string, once bool) (string, bool, error) {
	var repl string
	var table *Hash
	if len(c.Args) == 2 {
		if h, ok := c.Args[1].(*Hash); ok {
			table = h
		} else {
			var err error
			if repl, err = c.strArg(1); err != nil {
				return "", false, err
			}
		}
	}
	if lit, ok := c.Args[0].(*String); ok && len(c.Args) == 2 && table == nil && !strings.Contains(repl, `\`) && lit.s != "" {
		n := -1
		if once {
			n = 1
		}
		if err := in.charge(40 + len(s) + max(0, len(repl)-len(lit.s))*strings.Count(s, lit.s)); err != nil {
			return "", false, err
		}
		return strings.Replace(s, lit.s, repl, n), strings.Contains(s, lit.s), nil
	}
	re, err := in.literalPattern(c.Args[0])
	if err != nil {
		return "", false, err
	}
	var b strings.Builder
	from := 0
	changed := false
	err = re.all(s, func(m *MatchData) error {
		changed = true
		b.WriteString(s[from:m.loc[0]])
		from = m.loc[1]
		text, _ := m.text(0)
		var r string
		switch {
		case table != nil:
			v, err := in.hashGet(table, NewString(text))
			if err != nil {
				return err
			}
			if r, err = in.toS(v); err != nil {
				return err
			}
		case len(c.Args) == 2:
			r = expandReplacement(repl, m)
		default:
			c.setMatch(m)
			v, err := c.yield(NewString(text))
			if err != nil {
				return err
			}
			if r, err = in.toS(v); err != nil {
				return err
			}
		}
		if err := in.charge(len(r) + 16); err != nil {
			return err
		}
		c.setMatch(m)
		b.WriteString(r)
		if once {
			return errStop
		}
		return nil
	})
	if err != nil && err != errStop {
		return "", false, err
	}
	if !changed {
		c.setMatch(nil)
	}
	if err := in.charge(40 + len(s)); err != nil {
		return "", false, err
	}
	b.WriteString(s[from:])
	return b.String(), changed, nil
}

func expandReplacement(repl string, m *MatchData) string {
	if !strings.Contains(repl, `\`) {
		return repl
	}
	var b strings.Builder
	for i := 0; i < len(repl); i++ {
		if repl[i] != '\\' || i+1 >= len(repl) {
			b.WriteByte(repl[i])
			continue
		}
		i++
		switch c := repl[i]; {
		case isDigit(c):
			t, _ := m.text(int(c - '0'))
			b.WriteString(t)
		case c == '&':
			t, _ := m.text(0)
			b.WriteString(t)
		case c == '`':
			b.WriteString(m.pre())
		case c == '\'':
			b.WriteString(m.post())
		case c == '\\':
			b.WriteByte('\\')
		case c == 'k' && i+1 < len(repl) && repl[i+1] == '<' && strings.IndexByte(repl[i:], '>') > 0:
			end := i + strings.IndexByte(repl[i:], '>')
			if v, _ := m.named(repl[i+2 : end]); v != nil {
				b.WriteString(v.(*String).s)
			}
			i = end
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String()
}
