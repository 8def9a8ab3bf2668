package resource

import (
	"errors"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/inspec/ruby"
)

// documentRes is a parsed document of nested values.
type documentRes struct {
	title  string
	raw    string
	params ruby.Value
}

// defineDocuments makes json, yaml and ini, which read a file, a text or the
// output of a command, and the configurations that are such a file.
func defineDocuments(s *Set) {
	var base *ruby.Class
	ini := func(text string) (ruby.Value, error) { return simpleConfig{}.parse(s, text) }
	for _, r := range []struct {
		name, class, title string
		parse              func(text string) (ruby.Value, error)
		file               string // where the document is when none is named
		what               string // in errors, when not the title
	}{
		{"json", "JsonConfig", "JSON", s.parseJSON, "", ""},
		{"yaml", "YamlConfig", "YAML", s.parseYAML, "", ""},
		{"toml", "TomlConfig", "TOML", parseTOML, "", ""},
		{"ini", "IniConfig", "INI", ini, "", ""},
		{"mongodb_conf", "MongodbConf", "MongoDB Configuration", s.parseYAML, "/etc/mongod.conf", "`mongod.conf` or `mongod.cfg` file"},
		{"postfix_conf", "PostfixConf", "Postfix Config", ini, "/etc/postfix/main.cf", ""},
	} {
		what := r.what
		if what == "" {
			what = r.title
		}
		least := 1
		if r.file != "" {
			least = 0
		}
		k := s.define(r.name, r.class, base, func(c *ruby.Call) (any, error) {
			if err := s.arity(c, least, 1); err != nil {
				return nil, err
			}
			from := c.Arg(0)
			if from == nil && r.file != "" {
				from = str(r.file)
			}
			raw, title, err := s.rawDocument(from)
			// Also one that can't be read or parsed names its file.
			c.Self.(*ruby.Object).SetIVar("@resource_name_supplement", title)
			if err != nil {
				return nil, err
			}
			params, err := r.parse(raw)
			var raised *ruby.Exception
			if err != nil && !errors.As(err, &raised) {
				err = s.fail("Unable to parse %s: %s", what, err)
			} else if raised != nil {
				err = s.fail("Unable to parse %s: %s", what, raised.Message)
			}
			return &documentRes{r.title, raw, params}, err
		})
		if base == nil {
			base = k
		}
		k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) {
			if v := c.Self.(*ruby.Object).IVar("@resource_name_supplement"); v != nil {
				return str(r.title + " " + c.In.ToS(v)), nil
			}
			return str(r.title + " content"), nil
		})
		k.Def("resource_id", func(c *ruby.Call) (ruby.Value, error) {
			if v := c.Self.(*ruby.Object).IVar("@resource_name_supplement"); v != nil {
				return v, nil
			}
			return str(r.title + "'s content"), nil
		})
	}
	fixed(s.in.Class("Inspec::Resources::PostfixConf"), "Postfix Mail Transfer Agent")
	def(base, "params", func(c *ruby.Call, d *documentRes) (ruby.Value, error) { return d.params, nil })
	def(base, "raw_content", func(c *ruby.Call, d *documentRes) (ruby.Value, error) { return str(d.raw), nil })
	def(base, "[]", func(c *ruby.Call, d *documentRes) (ruby.Value, error) { return s.traverse(d.params, c.Args) })
	def(base, "value", func(c *ruby.Call, d *documentRes) (ruby.Value, error) {
		if keys, ok := c.Arg(0).(*ruby.Array); ok {
			return s.traverse(d.params, keys.Elems)
		}
		return s.traverse(d.params, c.Args)
	})
	missing(base, func(c *ruby.Call, d *documentRes, name string) (ruby.Value, error) {
		// What enumerates goes to the document itself, as in json(…).select.
		if _, isList := d.params.(*ruby.Array); (isList || c.Block != nil) && c.In.RespondTo(d.params, name) {
			return c.In.Call(d.params, name, c.Args, c.Block)
		}
		return s.traverse(d.params, append([]ruby.Value{ruby.Symbol(name)}, c.Args...))
	})
}

// rawDocument returns the text of a document and the words for its title, nil
// when it is given outright.
func (s *Set) rawDocument(arg ruby.Value) (string, ruby.Value, error) {
	opts, ok := arg.(*ruby.Hash)
	if !ok {
		raw, err := s.readFile(s.in.ToS(arg), false)
		return raw, arg, err
	}
	if v, ok := opts.Get(ruby.Symbol("command")); ok {
		title := str("from command: " + s.in.ToS(v))
		out, err := s.t.Run(s.in.Context(), s.in.ToS(v))
		switch {
		case err != nil:
			return "", title, s.problem(err)
		case len(out.Stdout) > 0:
			return string(out.Stdout), title, nil
		case len(out.Stderr) == 0:
			return "", title, s.fail("No JSON output, STDERR was empty")
		}
		return "", title, s.fail("No JSON output, STDERR:\n %s", out.Stderr)
	}
	if v, ok := opts.Get(ruby.Symbol("content")); ok {
		return s.in.ToS(v), nil, nil
	}
	return "", nil, s.fail("No JSON content; must specify a file, command, or raw JSON content")
}

// traverse goes one level down for each key: a hash's key, also as text, an
// array's index, or one of an array's own methods.
func (s *Set) traverse(v ruby.Value, keys []ruby.Value) (ruby.Value, error) {
	for _, key := range keys {
		if key == nil {
			return v, nil
		}
		switch in := v.(type) {
		case *ruby.Hash:
			next, ok := in.Get(key)
			if !ok {
				next, _ = in.Get(str(s.in.ToS(key)))
			}
			v = next
		case *ruby.Array:
			name := s.in.ToS(key)
			_, isIndex := key.(int64)
			var err error
			switch {
			case isIndex:
				v, err = s.in.Call(in, "[]", []ruby.Value{key}, nil)
			case s.in.RespondTo(in, name):
				v, err = s.in.Call(in, name, nil, nil)
			default:
				v = nil
			}
			if err != nil {
				return nil, err
			}
		default:
			return nil, nil
		}
	}
	return v, nil
}

func parseTOML(text string) (ruby.Value, error) {
	var doc map[string]any
	if err := toml.Unmarshal([]byte(text), &doc); err != nil {
		return nil, err
	}
	return tomlValue(doc), nil
}

// tomlValue is a decoded value as Ruby's; keys are sorted, since the decoder
// doesn't keep their order. Dates and times are their text.
func tomlValue(v any) ruby.Value {
	switch v := v.(type) {
	case map[string]any:
		h := ruby.NewHash()
		for _, k := range slices.Sorted(maps.Keys(v)) {
			h.Set(str(k), tomlValue(v[k]))
		}
		return h
	case []any:
		list := ruby.NewArray()
		for _, e := range v {
			list.Elems = append(list.Elems, tomlValue(e))
		}
		return list
	case nil, bool, int64, float64:
		return v
	}
	return str(fmt.Sprint(v))
}

func (s *Set) parseJSON(text string) (ruby.Value, error) {
	return s.in.Call(s.in.Class("JSON"), "parse", []ruby.Value{str(text)}, nil)
}

// parseYAML reads one document as Psych's safe load does: YAML 1.1's words for
// true and false, octal numbers, no aliases, no dates.
func (s *Set) parseYAML(text string) (ruby.Value, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return nil, psychError(yamlProblem(text, err.Error()))
	}
	if len(doc.Content) == 0 {
		return false, nil
	}
	return yamlValue(doc.Content[0], 0)
}

const maxDepth = 1000

// psychError is in the words of Ruby's YAML parser, which reports show.
type psychError string

func (e psychError) Error() string { return string(e) }

func yamlValue(n *yaml.Node, depth int) (ruby.Value, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("(<unknown>): nested more than %d levels deep at line %d", maxDepth, n.Line)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return nil, psychError("Unknown alias: " + n.Value)
	case yaml.SequenceNode:
		list := ruby.NewArray()
		for _, e := range n.Content {
			v, err := yamlValue(e, depth+1)
			if err != nil {
				return nil, err
			}
			list.Elems = append(list.Elems, v)
		}
		return list, nil
	case yaml.MappingNode:
		h := ruby.NewHash()
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, err := yamlValue(n.Content[i], depth+1)
			if err != nil {
				return nil, err
			}
			v, err := yamlValue(n.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			h.Set(k, v)
		}
		return h, nil
	}
	return yamlScalar(n)
}

var (
	yamlInt   = regexp.MustCompile(`^[-+]?(0|[1-9][0-9_,]*)$`)
	yamlOctal = regexp.MustCompile(`^[-+]?0[0-7_,]+$`)
	yamlHex   = regexp.MustCompile(`^[-+]?0x[0-9a-fA-F_,]+$`)
	yamlFloat = regexp.MustCompile(`^[-+]?([0-9][0-9_,]*)?\.[0-9]*([eE][-+][0-9]+)?$|^[-+]?[0-9][0-9_,]*[eE][-+]?[0-9]+$`)
	yamlDate  = regexp.MustCompile(`^\d{4}-(1[012]|0\d|\d)-(\d|[0-2]\d|3[01])$`)
	yamlTime  = regexp.MustCompile(`^-?\d{4}-\d{1,2}-\d{1,2}([Tt]|\s+)\d{1,2}:\d\d:\d\d(\.\d*)?(\s*(Z|[-+]\d{1,2}:?(\d\d)?))?$`)
)

// yamlScalar resolves a plain scalar by YAML 1.1's rules, as Psych does.
func yamlScalar(n *yaml.Node) (ruby.Value, error) {
	text := n.Value
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 || n.Tag == "!!str" && n.Style&yaml.TaggedStyle != 0 {
		return str(text), nil
	}
	switch strings.ToLower(text) {
	case "", "~", "null":
		return nil, nil
	case "yes", "true", "on":
		return true, nil
	case "no", "false", "off":
		return false, nil
	}
	digits := strings.NewReplacer("_", "", ",", "").Replace(text)
	switch {
	case yamlDate.MatchString(text):
		return nil, psychError("Tried to load unspecified class: Date")
	case yamlTime.MatchString(text):
		return nil, psychError("Tried to load unspecified class: Time")
	case yamlInt.MatchString(text):
		return bigOrInt(digits, 10), nil
	case yamlOctal.MatchString(text):
		return bigOrInt(digits, 8), nil
	case yamlHex.MatchString(text):
		return bigOrInt(strings.Replace(strings.ToLower(digits), "0x", "", 1), 16), nil
	case yamlFloat.MatchString(text) && text != ".":
		f, err := strconv.ParseFloat(digits, 64)
		if err == nil {
			return f, nil
		}
	case len(text) > 1 && text[0] == ':' && text[1] != ' ':
		return ruby.Symbol(strings.Trim(text[1:], `"'`)), nil
	}
	return str(text), nil
}

func bigOrInt(text string, base int) ruby.Value {
	n, ok := new(big.Int).SetString(text, base)
	switch {
	case !ok:
		return str(text)
	case n.IsInt64():
		return n.Int64()
	}
	return n
}
