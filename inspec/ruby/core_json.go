package ruby

import (
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const jsonDepth = 100

// jsonParser reads JSON as Ruby's json 2.6 does, comments included, and says
// of what it can't read what that says: an object that isn't one is unexpected
// from its beginning on, in an array the element is.
type jsonParser struct {
	in  *Interp
	s   string
	sym bool // symbolize_names
	nan bool // allow_nan
}

// errJSON is where a text isn't JSON.
type errJSON struct{ at int }

func (e *errJSON) Error() string { return "unexpected token" }

// parseJSON reads one value that fills s.
func (in *Interp) parseJSON(s string, sym, nan bool) (Value, error) {
	if err := in.charge(8 * len(s)); err != nil {
		return nil, err
	}
	p := &jsonParser{in, s, sym, nan}
	at := p.space(0)
	v, end, err := p.value(at, 1)
	if err == nil && end < 0 {
		err = &errJSON{at}
	}
	if err == nil {
		if end = p.space(end); end < len(s) {
			err = &errJSON{end}
		}
	}
	if e, ok := err.(*errJSON); ok {
		return nil, in.Raise(in.Class("JSON::ParserError"), "unexpected token at '%s'", s[e.at:])
	}
	return v, err
}

func (p *jsonParser) space(i int) int {
	for i < len(p.s) {
		switch c := p.s[i]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			i++
		case strings.HasPrefix(p.s[i:], "/*"):
			end := strings.Index(p.s[i+2:], "*/")
			if end < 0 {
				return i
			}
			i += end + 4
		case strings.HasPrefix(p.s[i:], "//"):
			end := strings.IndexByte(p.s[i:], '\n')
			if end < 0 {
				return len(p.s)
			}
			i += end
		default:
			return i
		}
	}
	return i
}

// value reads the value at i and returns where it ends, -1 when there is none.
func (p *jsonParser) value(i, depth int) (Value, int, error) {
	if i >= len(p.s) {
		return nil, -1, nil
	}
	if err := p.in.step(); err != nil {
		return nil, -1, err
	}
	if err := p.in.charge(48); err != nil {
		return nil, -1, err
	}
	if c := p.s[i]; (c == '{' || c == '[') && depth > jsonDepth {
		return nil, -1, p.in.Raise(p.in.Class("JSON::NestingError"), "nesting of %d is too deep", depth)
	}
	rest := p.s[i:]
	switch c := p.s[i]; {
	case c == '{':
		return p.object(i+1, depth)
	case c == '[':
		return p.array(i+1, depth)
	case c == '"':
		s, end := p.text(i + 1)
		return NewString(s), end, nil
	case strings.HasPrefix(rest, "null"):
		return nil, i + 4, nil
	case strings.HasPrefix(rest, "true"):
		return true, i + 4, nil
	case strings.HasPrefix(rest, "false"):
		return false, i + 5, nil
	case strings.HasPrefix(rest, "NaN"), strings.HasPrefix(rest, "Infinity"), strings.HasPrefix(rest, "-Infinity"):
		if !p.nan {
			return nil, -1, &errJSON{i}
		}
		word := rest[:strings.IndexAny(rest, "Ny")+1]
		if c == 'N' {
			word = "NaN"
		}
		f, _ := strconv.ParseFloat(word, 64)
		return f, i + len(word), nil
	case c == '-' || isDigit(c):
		v, end := p.number(i)
		return v, end, nil
	}
	return nil, -1, nil
}

func (p *jsonParser) number(i int) (Value, int) {
	digits := func(j int) int {
		for j < len(p.s) && isDigit(p.s[j]) {
			j++
		}
		return j
	}
	j := i
	if p.s[j] == '-' {
		j++
	}
	end := digits(j)
	if end == j || p.s[j] == '0' && end > j+1 {
		return nil, -1
	}
	float := false
	if end+1 < len(p.s) && p.s[end] == '.' && isDigit(p.s[end+1]) {
		end, float = digits(end+1), true
	}
	if end < len(p.s) && p.s[end]|0x20 == 'e' {
		k := end + 1
		if k < len(p.s) && (p.s[k] == '+' || p.s[k] == '-') {
			k++
		}
		if n := digits(k); n > k {
			end, float = n, true
		}
	}
	text := p.s[i:end]
	if float {
		f, _ := strconv.ParseFloat(text, 64)
		return f, end
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, end
	}
	if b, ok := new(big.Int).SetString(text, 10); ok && len(text) < 10000 {
		return normBig(b), end
	}
	return nil, -1
}

// text reads a string behind its opening quote.
func (p *jsonParser) text(i int) (string, int) {
	end := i
	for end < len(p.s) && p.s[end] != '"' && p.s[end] != '\\' && p.s[end] >= 0x20 {
		end++
	}
	if end < len(p.s) && p.s[end] == '"' {
		return p.s[i:end], end + 1
	}
	var b strings.Builder
	b.WriteString(p.s[i:end])
	for i = end; i < len(p.s); {
		c := p.s[i]
		switch {
		case c == '"':
			return b.String(), i + 1
		case c < 0x20:
			return "", -1
		case c != '\\':
			b.WriteByte(c)
			i++
			continue
		case i+1 >= len(p.s):
			return "", -1
		}
		e := p.s[i+1]
		i += 2
		if at := strings.IndexByte("bfnrt", e); at >= 0 {
			b.WriteByte("\b\f\n\r\t"[at])
			continue
		}
		if e != 'u' {
			if e < 0x20 {
				return "", -1
			}
			b.WriteByte(e)
			continue
		}
		r, ok := p.hex(i)
		if !ok {
			return "", -1
		}
		i += 4
		if utf16.IsSurrogate(r) && strings.HasPrefix(p.s[i:], `\u`) {
			if low, ok := p.hex(i + 2); ok {
				if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
					r = pair
					i += 6
				}
			}
		}
		b.WriteRune(r)
	}
	return "", -1
}

func (p *jsonParser) hex(i int) (rune, bool) {
	if i+4 > len(p.s) {
		return 0, false
	}
	n, err := strconv.ParseUint(p.s[i:i+4], 16, 16)
	return rune(n), err == nil
}

func (p *jsonParser) array(i, depth int) (Value, int, error) {
	a := &Array{}
	if i = p.space(i); i < len(p.s) && p.s[i] == ']' {
		return a, i + 1, nil
	}
	for {
		v, end, err := p.value(i, depth+1)
		if err != nil {
			return nil, -1, err
		}
		if end < 0 {
			return nil, -1, &errJSON{i}
		}
		a.Elems = append(a.Elems, v)
		if i = p.space(end); i >= len(p.s) {
			return nil, -1, &errJSON{i}
		}
		switch p.s[i] {
		case ']':
			return a, i + 1, nil
		case ',':
			i = p.space(i + 1)
		default:
			return nil, -1, &errJSON{i}
		}
	}
}

func (p *jsonParser) object(i, depth int) (Value, int, error) {
	h := &Hash{}
	if i = p.space(i); i < len(p.s) && p.s[i] == '}' {
		return h, i + 1, nil
	}
	for {
		if i >= len(p.s) || p.s[i] != '"' {
			return nil, -1, nil
		}
		key, end := p.text(i + 1)
		if end < 0 {
			return nil, -1, nil
		}
		if i = p.space(end); i >= len(p.s) || p.s[i] != ':' {
			return nil, -1, nil
		}
		v, end, err := p.value(p.space(i+1), depth+1)
		if err != nil || end < 0 {
			return nil, -1, err
		}
		if err := p.in.charge(80); err != nil {
			return nil, -1, err
		}
		if p.sym {
			h.Set(Symbol(key), v)
		} else {
			h.Set(&String{s: key, frozen: true}, v)
		}
		if i = p.space(end); i >= len(p.s) {
			return nil, -1, nil
		}
		switch p.s[i] {
		case '}':
			return h, i + 1, nil
		case ',':
			i = p.space(i + 1)
		default:
			return nil, -1, nil
		}
	}
}
