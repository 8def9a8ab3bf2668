package ruby

import "strings"

// strings parses one or more adjacent string literals.
func (p *parser) strings() node {
	var parts []node
	for {
		switch p.tok.kind {
		case tStrBeg:
			parts = append(parts, p.stringBody()...)
		case tHeredoc:
			parts = append(parts, p.heredocBody(p.tok.doc)...)
		case tChar:
			parts = append(parts, &strNode{s: p.tok.s})
			p.advance()
		default:
			return p.stringOf(parts)
		}
		if p.tok.kind == tStrBeg && p.tok.close != '\'' && p.tok.close != '"' {
			return p.stringOf(parts)
		}
	}
}

func (p *parser) stringOf(parts []node) node {
	if s, ok := constantParts(parts); ok {
		return &strNode{s, p.frozen}
	}
	return &dstrNode{parts}
}

func constantParts(parts []node) (string, bool) {
	if len(parts) == 1 {
		s, ok := parts[0].(*strNode)
		if !ok {
			return "", false
		}
		return s.s, true
	}
	var b strings.Builder
	for _, n := range parts {
		s, ok := n.(*strNode)
		if !ok {
			return "", false
		}
		b.WriteString(s.s)
	}
	return b.String(), true
}

// stringBody parses the literal that tok opens, and moves on.
func (p *parser) stringBody() []node {
	t := p.tok
	parts := p.scan(t, false)
	p.state = stEnd
	p.advance()
	return parts
}

type textBuilder struct {
	parts []node
	b     strings.Builder
}

func (t *textBuilder) flush() {
	if t.b.Len() > 0 {
		t.parts = append(t.parts, &strNode{s: t.b.String()})
		t.b.Reset()
	}
}

// scan reads from pos up to the closing delimiter of t, which it takes.
// Escapes of a regexp stay as they are.
func (p *parser) scan(t token, regexp bool) []node {
	var out textBuilder
	nesting := 0
	for {
		if p.pos >= len(p.src) {
			what := "string"
			if regexp {
				what = "regexp"
			}
			p.fail(t.pos, "unterminated %s meets end of file", what)
		}
		c := p.src[p.pos]
		switch {
		case c == t.close && nesting == 0:
			p.pos++
			out.flush()
			return out.parts
		case c == t.close:
			nesting--
			out.b.WriteByte(c)
			p.pos++
		case t.open != 0 && c == t.open:
			nesting++
			out.b.WriteByte(c)
			p.pos++
		case c == '\\':
			p.pos++
			p.escaped(&out.b, t, regexp)
		case c == '#' && !t.raw && p.interpolation(&out):
		case c == '\n':
			out.b.WriteByte(c)
			if to, ok := p.skips[p.pos]; ok {
				p.pos = to
			} else {
				p.pos++
			}
		case c == '\r' && p.at(p.pos+1) == '\n':
			p.pos++
		default:
			end := p.pos + 1
			for end < len(p.src) {
				c := p.src[end]
				if c == t.close || c == t.open || c == '\\' || c == '#' || c == '\r' || c == '\n' && len(p.skips) > 0 {
					break
				}
				end++
			}
			// The common text without an escape is a part of the source.
			if end < len(p.src) && p.src[end] == t.close && nesting == 0 && out.b.Len() == 0 {
				out.parts = append(out.parts, &strNode{s: p.src[p.pos:end]})
			} else {
				out.b.WriteString(p.src[p.pos:end])
			}
			p.pos = end
		}
	}
}

func (p *parser) escaped(b *strings.Builder, t token, regexp bool) {
	c := p.at(p.pos)
	switch {
	case regexp:
		if c == '\n' {
			p.pos++
			return
		}
		if c != t.close || strings.IndexByte("()[]{}.*+?|^$", c) >= 0 {
			b.WriteByte('\\')
		}
		if p.pos < len(p.src) {
			b.WriteByte(c)
			p.pos++
		}
	case t.raw:
		if c == '\\' || c == t.close || t.open != 0 && c == t.open {
			b.WriteByte(c)
			p.pos++
		} else {
			b.WriteByte('\\')
		}
	case c == '\r' && p.at(p.pos+1) == '\n':
		p.pos += 2
	default:
		s, end := p.escape(p.pos)
		b.WriteString(s)
		p.pos = end
	}
}

// interpolation reads #{…}, #@x or #$x at pos; false when it is none.
func (p *parser) interpolation(out *textBuilder) bool {
	switch c := p.at(p.pos + 1); {
	case c == '{':
		out.flush()
		p.pos += 2
		out.parts = append(out.parts, p.embedded())
		return true
	case c == '@' && (isIdentStart(p.at(p.pos+2)) || p.at(p.pos+2) == '@' && isIdentStart(p.at(p.pos+3))),
		c == '$' && isIdentStart(p.at(p.pos+2)):
		out.flush()
		p.pos++
		var t token
		if c == '$' {
			p.global(&t)
			out.parts = append(out.parts, &gvarNode{t.s})
		} else {
			at := p.pos
			p.variable(&t)
			if t.kind == tCVar {
				out.parts = append(out.parts, &cvarNode{t.s, p.line(at)})
			} else {
				out.parts = append(out.parts, &ivarNode{t.s})
			}
		}
		return true
	}
	return false
}

// embedded parses the statements of an interpolation at pos, up to and with
// its closing brace.
func (p *parser) embedded() node {
	p.nest()
	defer p.unnest()
	tok, prevEnd, state := p.tok, p.prevEnd, p.state
	var n node
	p.fresh(func() {
		p.state = stBeg
		p.advance()
		n = p.stmts()
	})
	if !p.op("}") {
		p.unexpectedFor("'}'")
	}
	p.pos = p.tok.end
	p.tok, p.prevEnd, p.state = tok, prevEnd, state
	if _, ok := n.(*strNode); ok {
		return &dstrNode{[]node{n}} // keeps "#{'x'}" from being taken as constant
	}
	return n
}

func (p *parser) words() node {
	t := p.tok
	var elems []node
	var word textBuilder
	began := false
	end := func() {
		if !began {
			return
		}
		word.flush()
		s, constant := constantParts(word.parts)
		switch {
		case t.kind == tSymbols && constant:
			elems = append(elems, literal{Symbol(s)})
		case t.kind == tSymbols:
			elems = append(elems, &dsymNode{word.parts})
		case constant:
			elems = append(elems, &strNode{s, p.frozen})
		default:
			elems = append(elems, &dstrNode{word.parts})
		}
		word, began = textBuilder{}, false
	}
	nesting := 0
	for {
		if p.pos >= len(p.src) {
			p.fail(t.pos, "unterminated list meets end of file")
		}
		c := p.src[p.pos]
		switch {
		case c == t.close && nesting == 0:
			p.pos++
			end()
			p.state = stEnd
			p.advance()
			return &arrayNode{elems}
		case isSpace(c) || c == '\n':
			end()
			p.pos++
		case c == '\\' && (isSpace(p.at(p.pos+1)) || p.at(p.pos+1) == '\n'):
			began = true
			word.b.WriteByte(p.at(p.pos + 1))
			p.pos += 2
		case c == '\\':
			began = true
			p.pos++
			p.escaped(&word.b, t, false)
		case c == '#' && !t.raw && p.interpolation(&word):
			began = true
		default:
			if c == t.close {
				nesting--
			} else if t.open != 0 && c == t.open {
				nesting++
			}
			began = true
			word.b.WriteByte(c)
			p.pos++
		}
	}
}

func (p *parser) regexp() node {
	t := p.tok
	r := &regexNode{line: p.line(t.pos)}
	r.parts = p.scan(t, true)
	for {
		switch p.at(p.pos) {
		case 'i':
			r.opts |= reIgnoreCase
		case 'x':
			r.opts |= reExtended
		case 'm':
			r.opts |= reMultiline
		case 'o', 'u', 'n', 'e', 's':
		default:
			if isIdent(p.at(p.pos)) {
				p.fail(p.pos, "unknown regexp option - %c", p.at(p.pos))
			}
			p.state = stEnd
			p.advance()
			if s, ok := constantParts(r.parts); ok {
				r.source, r.parts = s, nil
			}
			return r
		}
		p.pos++
	}
}

// heredocBody parses the body of d, whose head is tok.
func (p *parser) heredocBody(d *heredoc) []node {
	indent := 0
	if d.squiggly {
		indent = heredocIndent(p.src[d.start:d.end])
	}
	resume := p.pos
	var out textBuilder
	t := token{pos: p.tok.pos, raw: d.raw}
	src := p.src
	for p.pos = d.start; p.pos < d.end; {
		p.pos = skipIndent(src, p.pos, d.end, indent)
		for p.pos < d.end {
			c := src[p.pos]
			if c == '\n' {
				out.b.WriteByte(c)
				p.pos++
				break
			}
			if c == '\\' && !d.raw {
				newline := p.at(p.pos+1) == '\n'
				p.pos++
				p.escaped(&out.b, t, false)
				if newline {
					break
				}
				continue
			}
			if c == '#' && !d.raw && p.interpolation(&out) {
				if p.pos > d.end {
					p.fail(p.tok.pos, "unterminated interpolation in heredoc")
				}
				continue
			}
			if c == '\r' && p.at(p.pos+1) == '\n' {
				p.pos++
				continue
			}
			end := p.pos + 1
			for end < d.end && src[end] != '\n' && src[end] != '\\' && src[end] != '#' && src[end] != '\r' {
				end++
			}
			out.b.WriteString(src[p.pos:end])
			p.pos = end
		}
	}
	out.flush()
	p.pos = resume
	p.state = stEnd
	p.advance()
	return out.parts
}

// heredocIndent is the least indentation of the lines that aren't blank, a tab
// counting up to the next multiple of 8.
func heredocIndent(body string) int {
	least := -1
	for line := range strings.Lines(body) {
		width, i := 0, 0
		for ; i < len(line) && (line[i] == ' ' || line[i] == '\t'); i++ {
			if line[i] == '\t' {
				width = (width/8 + 1) * 8
			} else {
				width++
			}
		}
		if i < len(line) && line[i] != '\n' && line[i] != '\r' && (least < 0 || width < least) {
			least = width
		}
	}
	return max(least, 0)
}

func skipIndent(src string, i, end, indent int) int {
	for width := 0; i < end && width < indent; i++ {
		switch src[i] {
		case ' ':
			width++
		case '\t':
			if width = (width/8 + 1) * 8; width > indent {
				return i
			}
		default:
			return i
		}
	}
	return i
}
