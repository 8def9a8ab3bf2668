package github

import (
	"errors"
	"regexp"
	"strings"
)

// glob compiles a pattern as Allstar's files have them: * and ** stand for any
// text, ? for one character, [a-z] and [!a-z] for one of some, {a,b} for one of
// several, and \ takes the meaning from what follows.
func glob(pattern string) (*regexp.Regexp, error) {
	const maxPattern = 1 << 10
	if len(pattern) > maxPattern {
		return nil, errors.New("the pattern is too long")
	}
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	depth := 0
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '*':
			for i+1 < len(pattern) && pattern[i+1] == '*' {
				i++
			}
			b.WriteString(".*")
		case c == '?':
			b.WriteByte('.')
		case c == '{':
			depth++
			b.WriteString("(?:")
		case c == '}' && depth > 0:
			depth--
			b.WriteByte(')')
		case c == ',' && depth > 0:
			b.WriteByte('|')
		case c == '[':
			end := strings.IndexByte(pattern[i:], ']')
			if end < 2 {
				return nil, errors.New("a [ without its ]")
			}
			set := pattern[i+1 : i+end]
			b.WriteByte('[')
			if set[0] == '!' || set[0] == '^' {
				b.WriteByte('^')
				set = set[1:]
			}
			b.WriteString(strings.NewReplacer(`\`, `\\`, `[`, `\[`, `^`, `\^`).Replace(set))
			b.WriteByte(']')
			i += end
		case c == '\\' && i+1 < len(pattern):
			i++
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		default:
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		}
	}
	if depth > 0 {
		return nil, errors.New("a { without its }")
	}
	b.WriteString(`\z`)
	re, err := regexp.Compile(b.String())
	if err != nil {
		return nil, errors.New("the pattern can't be understood")
	}
	return re, nil
}

// matches reports whether one of the patterns is for text. What can't be
// understood, which is reported where the file is read, is for none.
func matches(patterns []string, text string) bool {
	for _, p := range patterns {
		if p == text {
			return true
		}
		if re, err := glob(p); err == nil && re.MatchString(text) {
			return true
		}
	}
	return false
}
