package resource

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"

	"reeve.dev/reeve/inspec/ruby"
)

// erlang reads the terms of an Erlang configuration file (application(5)): a
// list, and a full stop. A list of pairs becomes a hash, as in InSpec.
type erlang struct {
	text  string
	pos   int
	depth int
}

// tuple tells a tuple from a list until the whole is read.
type tuple []any

var errErlang = errors.New("not an Erlang term")

func parseErlang(text string) (ruby.Value, error) {
	p := &erlang{text: text}
	p.filler()
	var v any = ""
	if p.at("[") {
		var err error
		if v, err = p.list("[", "]"); err != nil {
			return nil, err
		}
	}
	if p.take(".") {
		p.filler()
	}
	if p.pos < len(p.text) {
		return nil, p.bad()
	}
	return erlangHash(v), nil
}

func (p *erlang) bad() error {
	return fmt.Errorf("%w at line %d", errErlang, 1+strings.Count(p.text[:min(p.pos, len(p.text))], "\n"))
}

func (p *erlang) at(s string) bool { return strings.HasPrefix(p.text[p.pos:], s) }

// take goes over s, and what fills the space after it.
func (p *erlang) take(s string) bool {
	if !p.at(s) {
		return false
	}
	p.pos += len(s)
	p.filler()
	return true
}

// filler goes over space and comments.
func (p *erlang) filler() {
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; {
		case strings.IndexByte(" \t\r\n\f\v", c) >= 0:
			p.pos++
		case c == '%':
			for p.pos < len(p.text) && p.text[p.pos] != '\n' && p.text[p.pos] != '\r' {
				p.pos++
			}
		default:
			return
		}
	}
}

// list reads terms between marks: a comma between two of them may be missing.
func (p *erlang) list(open, end string) ([]any, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("%w: nested more than %d levels deep", errErlang, maxDepth)
	}
	defer func() { p.depth-- }()
	p.take(open)
	all := []any{}
	for !p.take(end) {
		if len(all) > 0 {
			p.take(",")
		}
		v, err := p.term()
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func (p *erlang) term() (any, error) {
	switch {
	case p.at("{"):
		v, err := p.list("{", "}")
		return tuple(v), err
	case p.at("["):
		return p.list("[", "]")
	case p.at("<<"):
		return p.binary()
	case p.at("'"), p.at(`"`):
		return p.str()
	case p.take("true"):
		return true, nil
	case p.take("false"):
		return false, nil
	}
	start := p.pos
	letter := func(i int) bool { return p.text[i]|0x20 >= 'a' && p.text[i]|0x20 <= 'z' }
	digit := func(i int) bool { return p.text[i] >= '0' && p.text[i] <= '9' }
	if start < len(p.text) && letter(start) {
		for p.pos < len(p.text) && (letter(p.pos) || digit(p.pos) || p.text[p.pos] == '_') {
			p.pos++
		}
		word := p.text[start:p.pos]
		p.filler()
		return word, nil
	}
	if p.at("+") || p.at("-") {
		p.pos++
	}
	digits := func() bool {
		from := p.pos
		for p.pos < len(p.text) && digit(p.pos) {
			p.pos++
		}
		return p.pos > from
	}
	if !digits() {
		p.pos = start
		return nil, p.bad()
	}
	whole := p.pos
	if p.at(".") || p.at("e") {
		if p.pos++; digits() {
			f, err := strconv.ParseFloat(p.text[start:p.pos], 64)
			if err != nil {
				return nil, p.bad()
			}
			p.filler()
			return f, nil
		}
		p.pos = whole
	}
	text := p.text[start:p.pos]
	p.filler()
	return bigOrInt(text, 10), nil
}

// str reads a text in quotes. A backslash keeps the next character from
// ending it, and stays.
func (p *erlang) str() (string, error) {
	quote := p.text[p.pos]
	p.pos++
	start := p.pos
	for ; p.pos < len(p.text); p.pos++ {
		switch p.text[p.pos] {
		case quote:
			text := p.text[start:p.pos]
			p.pos++
			p.filler()
			return text, nil
		case '\\':
			p.pos++
		}
	}
	p.pos = len(p.text)
	return "", p.bad()
}

// bitSizes are how many bits a number of a type takes.
var bitSizes = map[string]int{"": 8, "integer": 8, "float": 64, "utf8": 8, "utf16": 16, "utf32": 32}

// maxBits bounds a binary, and one number in it.
const maxBits = 1 << 16

// binary reads <<1, "text":8, 3/utf16>> as the bytes that it stands for.
func (p *erlang) binary() (any, error) {
	p.take("<<")
	var bits strings.Builder
	for n := 0; !p.take(">>"); n++ {
		if n > 0 {
			p.take(",")
		}
		if bits.Len() > maxBits {
			return nil, p.bad()
		}
		var v any
		var err error
		switch {
		case p.at("'"), p.at(`"`):
			v, err = p.str()
		default:
			v, err = p.term()
		}
		if err != nil {
			return nil, err
		}
		var size any
		if p.at(":") {
			p.take(":")
			if size, err = p.term(); err != nil {
				return nil, err
			}
		}
		kind := ""
		if p.take("/") {
			word, err := p.term()
			text, ok := word.(string)
			if err != nil || !ok || size != nil {
				return nil, p.bad()
			}
			kind = text
		}
		n, known := bitSizes[kind]
		if given, ok := size.(int64); ok {
			n = int(max(0, min(given, maxBits)))
		}
		switch v := v.(type) {
		case string:
			data, ok := encode(v, kind)
			if !ok {
				return nil, p.bad()
			}
			for _, b := range data {
				fmt.Fprintf(&bits, "%08b", b)
			}
		case int64:
			if !known {
				return nil, p.bad()
			}
			low := new(big.Int).And(big.NewInt(v), new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(n)), big.NewInt(1)))
			fmt.Fprintf(&bits, "%0*b", n, low)
		default:
			return nil, p.bad()
		}
	}
	var out []byte
	for rest := bits.String(); rest != ""; {
		n := min(8, len(rest))
		b, err := strconv.ParseUint(rest[:n], 2, 8)
		if err != nil {
			return nil, p.bad()
		}
		out, rest = append(out, byte(b)), rest[n:]
	}
	return string(out), nil
}

func encode(text, kind string) ([]byte, bool) {
	var out []byte
	switch kind {
	case "utf8":
		return []byte(text), true
	case "utf16":
		for _, u := range utf16.Encode([]rune(text)) {
			out = append(out, byte(u>>8), byte(u))
		}
	case "utf32":
		for _, r := range text {
			out = append(out, byte(r>>24), byte(r>>16), byte(r>>8), byte(r))
		}
	case "":
		for _, r := range text {
			out = append(out, byte(r))
		}
	default:
		return nil, false
	}
	return out, true
}

// erlangHash turns a list of pairs into a hash, and the pairs' second parts.
func erlangHash(v any) ruby.Value {
	list, ok := v.([]any)
	if t, isTuple := v.(tuple); isTuple {
		list, ok = t, true
	}
	if !ok {
		return erlangValue(v)
	}
	h := ruby.NewHash()
	for _, e := range list {
		pair, ok := e.(tuple)
		if !ok || len(pair) != 2 {
			return erlangValue(v)
		}
		h.Set(erlangValue(pair[0]), erlangHash(pair[1]))
	}
	return h
}

// erlangValue is a term as it is.
func erlangValue(v any) ruby.Value {
	switch v := v.(type) {
	case string:
		return str(v)
	case tuple:
		return erlangValue([]any(v))
	case []any:
		list := ruby.NewArray()
		for _, e := range v {
			list.Elems = append(list.Elems, erlangValue(e))
		}
		return list
	}
	return v
}
