package ruby

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// What File.fnmatch is told by its flags.
const (
	fnNoEscape = 1 << iota
	fnPathname
	fnDotMatch
	fnCaseFold
	fnExtGlob
)

// fnmatch is File.fnmatch.
func (in *Interp) fnmatch(pattern, name string, flags int64) (bool, error) {
	patterns := []string{pattern}
	if flags&fnExtGlob != 0 {
		var err error
		if patterns, err = in.braces(pattern); err != nil {
			return false, err
		}
	}
	for _, p := range patterns {
		var ok bool
		var err error
		if flags&fnPathname != 0 {
			ok, err = in.fnmatchPath(strings.Split(p, "/"), strings.Split(name, "/"), flags)
		} else {
			ok, err = in.fnmatchPart(p, name, flags)
		}
		if ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// braces writes out {a,b}.
func (in *Interp) braces(p string) ([]string, error) {
	if err := in.step(); err != nil {
		return nil, err
	}
	if err := in.charge(64 + 2*len(p)); err != nil {
		return nil, err
	}
	open := strings.IndexByte(p, '{')
	if open < 0 {
		return []string{p}, nil
	}
	depth, from := 0, open+1
	var parts []string
	for i := open; i < len(p); i++ {
		switch c := p[i]; {
		case c == '\\':
			i++
		case c == '{':
			depth++
		case c == ',' && depth == 1:
			parts, from = append(parts, p[from:i]), i+1
		case c == '}':
			if depth--; depth > 0 {
				continue
			}
			var out []string
			for _, part := range append(parts, p[from:i]) {
				all, err := in.braces(p[:open] + part + p[i+1:])
				if err != nil {
					return nil, err
				}
				out = append(out, all...)
			}
			return out, nil
		}
	}
	return []string{p}, nil
}

// fnmatchPath matches the parts between slashes; ** stands for any number of
// them.
func (in *Interp) fnmatchPath(pattern, name []string, flags int64) (bool, error) {
	for len(pattern) > 0 {
		if err := in.step(); err != nil {
			return false, err
		}
		if pattern[0] == "**" && len(pattern) > 1 {
			if ok, err := in.fnmatchPath(pattern[1:], name, flags); ok || err != nil {
				return ok, err
			}
			if len(name) == 0 || flags&fnDotMatch == 0 && strings.HasPrefix(name[0], ".") {
				return false, nil
			}
			name = name[1:]
			continue
		}
		if len(name) == 0 {
			return false, nil
		}
		if ok, err := in.fnmatchPart(pattern[0], name[0], flags); !ok || err != nil {
			return false, err
		}
		pattern, name = pattern[1:], name[1:]
	}
	return len(name) == 0, nil
}

func (in *Interp) fnmatchPart(p, s string, flags int64) (bool, error) {
	if strings.HasPrefix(s, ".") && flags&fnDotMatch == 0 && !strings.HasPrefix(p, ".") && !strings.HasPrefix(p, `\.`) {
		return false, nil
	}
	fold := func(r rune) rune {
		if flags&fnCaseFold != 0 {
			return unicode.ToLower(r)
		}
		return r
	}
	star, again := -1, 0 // behind the last *, and where it may end next
	i, j := 0, 0
	for j < len(s) {
		if err := in.step(); err != nil {
			return false, err
		}
		r, n := utf8.DecodeRuneInString(s[j:])
		ok, width := false, 0
		if i < len(p) {
			c, w := utf8.DecodeRuneInString(p[i:])
			width = w
			switch {
			case c == '*':
				i++
				star, again = i, j
				continue
			case c == '?':
				ok = true
			case c == '[':
				if ok, w = fnmatchSet(p[i:], fold(r), fold, flags); w > 0 {
					width = w
				}
			case c == '\\' && flags&fnNoEscape == 0 && i+1 < len(p):
				c, w = utf8.DecodeRuneInString(p[i+1:])
				ok, width = fold(c) == fold(r), 1+w
			default:
				ok = fold(c) == fold(r)
			}
		}
		switch {
		case ok:
			i, j = i+width, j+n
		case star < 0:
			return false, nil
		default:
			_, n := utf8.DecodeRuneInString(s[again:])
			again += n
			i, j = star, again
		}
	}
	return strings.Trim(p[i:], "*") == "", nil
}

// fnmatchSet matches a set in brackets; width is its length, 0 where it has no
// end.
func fnmatchSet(p string, r rune, fold func(rune) rune, flags int64) (ok bool, width int) {
	i, not := 1, false
	if i < len(p) && (p[i] == '!' || p[i] == '^') {
		not = true
		i++
	}
	next := func() rune {
		if p[i] == '\\' && flags&fnNoEscape == 0 && i+1 < len(p) {
			i++
		}
		c, n := utf8.DecodeRuneInString(p[i:])
		i += n
		return c
	}
	for i < len(p) && p[i] != ']' {
		lo := next()
		hi := lo
		if i+1 < len(p) && p[i] == '-' && p[i+1] != ']' {
			i++
			hi = next()
		}
		ok = ok || fold(lo) <= r && r <= fold(hi)
	}
	if i >= len(p) {
		return false, 0
	}
	return ok != not, i + 1
}
