package resource

import (
	"regexp"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// simpleConfig reads lines of settings as InSpec's SimpleConfig does. The zero
// value reads "name = value", sections in brackets, comments after #.
type simpleConfig struct {
	assign, group pattern
	groupless     bool // no sections
	multiple      bool // each setting is a list of its values
	single        bool // for a reader: a list of one is that one
	standalone    bool // comments only on lines of their own
	comment       string
	commentless   bool
	values        int        // groups that make a value; more than one give a list
	split         ruby.Value // what separates the values of one line
}

// pattern returns the groups of a match from the second place on, or nil.
type pattern func(line string) ([]ruby.Value, error)

// goPattern is for an expression that no empty line matches.
func goPattern(expr string) pattern {
	re := regexp.MustCompile(expr)
	return func(line string) ([]ruby.Value, error) {
		if strings.Trim(line, " \t\f\r") == "" {
			return nil, nil
		}
		m := re.FindStringSubmatch(line)
		if m == nil {
			return nil, nil
		}
		groups := make([]ruby.Value, len(m))
		for i := 1; i < len(m); i++ {
			groups[i] = str(m[i])
		}
		return groups, nil
	}
}

// rubyPattern is a profile's own regular expression.
func (s *Set) rubyPattern(re ruby.Value) pattern {
	if re == nil {
		return nil
	}
	return func(line string) ([]ruby.Value, error) {
		m, err := s.in.Call(re, "match", []ruby.Value{str(line)}, nil)
		if err != nil || m == nil {
			return nil, err
		}
		list, err := s.in.Call(m, "to_a", nil, nil)
		if a, ok := list.(*ruby.Array); ok {
			return a.Elems, err
		}
		return nil, err
	}
}

var (
	defaultGroup = goPattern(`\[([^\]]+)\]\s*$`)
	spaceAssign  = goPattern(`^\s*(\S+?)\s+(.*?)\s*$`)
	quotedAssign = goPattern(`^\s*([^=]*?)\s*=\s*[']?\s*(.*?)\s*[']?\s*$`)
)

// defaultAssign is /^\s*([^=]*?)\s*=\s*(.*?)\s*$/.
func defaultAssign(line string) ([]ruby.Value, error) {
	const space = " \t\n\f\r"
	name, value, ok := strings.Cut(line, "=")
	if !ok {
		return nil, nil
	}
	return []ruby.Value{nil, str(strings.Trim(name, space)), str(strings.Trim(value, space))}, nil
}

func (cfg simpleConfig) parse(s *Set, content string) (*ruby.Hash, error) {
	assign, group, comment := cfg.assign, cfg.group, cfg.comment
	if assign == nil {
		assign = defaultAssign
	}
	if group == nil && !cfg.groupless {
		group = defaultGroup
	}
	if comment == "" && !cfg.commentless {
		comment = "#"
	}
	params := ruby.NewHash()
	var section ruby.Value = params
	get := func(key ruby.Value) (ruby.Value, error) { return s.in.Call(section, "[]", []ruby.Value{key}, nil) }
	set := func(key, value ruby.Value) error {
		_, err := s.in.Call(section, "[]=", []ruby.Value{key, value}, nil)
		return err
	}
	list := func(key ruby.Value) (*ruby.Array, error) {
		v, err := get(key)
		if err != nil {
			return nil, err
		}
		if a, ok := v.(*ruby.Array); ok {
			return a, nil
		}
		if err := set(key, ruby.NewArray()); err != nil {
			return nil, err
		}
		v, err = get(key) // a Mash may have stored a copy
		a, _ := v.(*ruby.Array)
		return a, err
	}
	for line := range strings.SplitSeq(content, "\n") {
		line = uncomment(line, comment, cfg.standalone)
		m, err := assign(line)
		if err != nil {
			return nil, err
		}
		if len(m) > 1 {
			value := cfg.value(m)
			if !cfg.multiple {
				if err := set(m[1], value); err != nil {
					return nil, err
				}
				continue
			}
			a, err := list(m[1])
			if err != nil {
				return nil, err
			}
			if a == nil {
				continue
			}
			if cfg.split == nil {
				a.Elems = append(a.Elems, value)
				continue
			}
			parts, err := s.in.Call(value, "split", []ruby.Value{cfg.split}, nil)
			if err != nil {
				return nil, err
			}
			if p, ok := parts.(*ruby.Array); ok {
				a.Elems = append(a.Elems, p.Elems...)
			}
			continue
		}
		if group != nil {
			if m, err = group(line); err != nil {
				return nil, err
			}
			if len(m) > 1 {
				mash, err := s.in.Call(s.in.Class("Hashie::Mash"), "new", nil, nil)
				if err != nil {
					return nil, err
				}
				section = mash
				params.Set(m[1], mash)
				continue
			}
		}
		name := strings.TrimSpace(line)
		if name == "" {
			continue
		}
		if cfg.multiple {
			if _, err := list(str(name)); err != nil {
				return nil, err
			}
		} else if err := set(str(name), str("")); err != nil {
			return nil, err
		}
	}
	return params, nil
}

// value is the group after the name, or the list of several.
func (cfg simpleConfig) value(m []ruby.Value) ruby.Value {
	if cfg.values <= 1 {
		if len(m) > 2 {
			return m[2]
		}
		return nil
	}
	a := ruby.NewArray()
	for i := range cfg.values {
		var v ruby.Value
		if 2+i < len(m) {
			v = m[2+i]
		}
		a.Elems = append(a.Elems, v)
	}
	return a
}
