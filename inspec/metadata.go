package inspec

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/inspec/dsl"
)

// parseMetadata reads inspec.yml. Keys that no engine needs are let pass, as
// InSpec does; what is there must have its right type.
func parseMetadata(name string, data []byte) (Metadata, error) {
	m := metaReader{profile: name}
	data, err := erb(data)
	if err != nil {
		return Metadata{}, erbError(name, err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return Metadata{}, m.fail(nil, "not YAML: %v", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return Metadata{}, m.fail(nil, "must be a mapping with at least `name: …`")
	}
	root := doc.Content[0]
	var out Metadata
	for key, node := range pairs(root) {
		switch strings.TrimPrefix(key.Value, ":") { // Ruby's symbols are keys as well
		case "name":
			out.Name = m.text(key, node)
		case "version":
			out.Version = m.text(key, node)
		case "title":
			out.Title = m.text(key, node)
		case "summary":
			out.Summary = m.text(key, node)
		case "maintainer":
			out.Maintainer = m.text(key, node)
		case "license":
			out.License = m.text(key, node)
		case "copyright":
			out.Copyright = m.text(key, node)
		case "copyright_email":
			out.CopyrightEmail = m.text(key, node)
		case "supports":
			out.Supports = m.supports(node)
		case "depends":
			out.Depends = m.depends(node)
		case "inputs", "attributes":
			out.Inputs = append(out.Inputs, m.inputs(node)...)
		}
	}
	if m.err == nil && out.Name == "" {
		m.err = m.fail(root, "name is missing: add `name: …`")
	}
	return out, m.err
}

type metaReader struct {
	profile string
	err     error
}

func (m *metaReader) fail(n *yaml.Node, format string, args ...any) error {
	e := &ProfileError{Profile: m.profile, File: "inspec.yml", Msg: fmt.Sprintf(format, args...)}
	if n != nil {
		e.Line = n.Line
	}
	return e
}

func (m *metaReader) bad(n *yaml.Node, format string, args ...any) {
	if m.err == nil {
		m.err = m.fail(n, format, args...)
	}
}

func pairs(n *yaml.Node) func(func(k, v *yaml.Node) bool) {
	return func(yield func(k, v *yaml.Node) bool) {
		if n.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

func (m *metaReader) text(key, n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		m.bad(n, "%s must be a text", key.Value)
		return ""
	}
	if n.Tag == "!!null" {
		return ""
	}
	return strings.TrimSpace(n.Value)
}

func (m *metaReader) supports(n *yaml.Node) []map[string]any {
	list := n.Content
	switch {
	case n.Kind == yaml.MappingNode:
		list = []*yaml.Node{n}
	case n.Tag == "!!null":
		return nil
	case n.Kind == yaml.ScalarNode:
		return []map[string]any{{"platform": n.Value}}
	}
	out := []map[string]any{}
	for _, e := range list {
		entry := map[string]any{}
		if e.Kind == yaml.ScalarNode {
			out = append(out, map[string]any{"platform": e.Value})
			continue
		}
		if err := e.Decode(&entry); err != nil || len(entry) == 0 {
			m.bad(e, "supports: each entry must be a mapping such as `platform-family: debian`")
			return nil
		}
		out = append(out, entry)
	}
	return out
}

func (m *metaReader) depends(n *yaml.Node) []Dependency {
	if n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		m.bad(n, "depends must be a list")
		return nil
	}
	var out []Dependency
	for _, e := range n.Content {
		d := Dependency{line: e.Line}
		for key, v := range pairs(e) {
			switch strings.TrimPrefix(key.Value, ":") {
			case "name":
				d.Name = m.text(key, v)
			case "path":
				d.Path = m.text(key, v)
			case "git":
				d.Git = m.text(key, v)
			case "url":
				d.URL = m.text(key, v)
			case "branch":
				d.Branch = m.text(key, v)
			case "tag":
				d.Tag = m.text(key, v)
			case "ref":
				d.Ref = m.text(key, v)
			case "relative_path":
				d.RelativePath = m.text(key, v)
			case "supermarket", "compliance", "gem":
				d.other = key.Value
			}
		}
		if d.Path == "" && d.Name == "" {
			m.bad(e, "depends: each entry needs `path:`, or the `name:` of a profile below vendor/")
		}
		out = append(out, d)
	}
	return out
}

func (m *metaReader) inputs(n *yaml.Node) []Input {
	if n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		m.bad(n, "inputs must be a list")
		return nil
	}
	var out []Input
	for _, e := range n.Content {
		in := Input{Line: e.Line}
		for key, v := range pairs(e) {
			switch strings.TrimPrefix(key.Value, ":") {
			case "name":
				in.Name = m.text(key, v)
			case "title":
				in.Title = m.text(key, v)
			case "description", "desc":
				in.Description = m.text(key, v)
			case "type":
				in.Type = m.inputType(v)
			case "required":
				in.Required = m.boolean(key, v)
			case "sensitive":
				in.Sensitive = m.boolean(key, v)
			case "pattern":
				in.Pattern = m.text(key, v)
			case "priority":
				if err := v.Decode(&in.Priority); err != nil {
					m.bad(v, "input %s: priority must be a number", in.Name)
				}
			case "profile":
				in.Profile = m.text(key, v)
			case "value", "default":
				if key.Value == "default" && in.HasValue {
					continue
				}
				value, err := yamlValue(v, 0)
				if err != nil {
					m.bad(v, "input %s: %v", in.Name, err)
				}
				in.Value, in.HasValue, in.written = plain(value), true, value
			}
		}
		if in.Name == "" {
			m.bad(e, "inputs: an entry has no `name:`")
		}
		if in.HasValue && m.err == nil {
			if err := in.Check(in.Value); err != nil {
				m.bad(e, "%v", err)
			}
		}
		out = append(out, in)
	}
	return out
}

func (m *metaReader) boolean(key, n *yaml.Node) bool {
	var b bool
	if n.Decode(&b) != nil {
		m.bad(n, "%s must be true or false", key.Value)
	}
	return b
}

func (m *metaReader) inputType(n *yaml.Node) string {
	t, ok := dsl.InputType(n.Value)
	if n.Kind != yaml.ScalarNode || !ok {
		m.bad(n, "input type %q is not known: it is one of %s", n.Value, dsl.InputTypes())
	}
	return t
}

// priority is that of the input's value, where kind is what it has unless
// inspec.yml says otherwise.
func (in Input) priority(kind int) int {
	if in.Priority != 0 {
		return in.Priority
	}
	return kind
}

// plain turns what yamlValue decodes into what JSON has.
func plain(v any) any {
	switch v := v.(type) {
	case dsl.Map:
		out := make(map[string]any, len(v))
		for _, e := range v {
			out[fmt.Sprint(e.Key)] = plain(e.Value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	}
	return v
}

// yamlValue decodes into nil, bool, int64, float64, string, []any and
// dsl.Map. Dates and anchors stay as they are written; the depth is
// limited, since aliases could make it endless.
func yamlValue(n *yaml.Node, depth int) (any, error) {
	if depth > 32 {
		return nil, errors.New("nested more than 32 deep")
	}
	switch n.Kind {
	case yaml.AliasNode:
		return nil, errors.New("aliases (*name) are not allowed here: write the value out")
	case yaml.SequenceNode:
		out := []any{}
		for _, e := range n.Content {
			v, err := yamlValue(e, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case yaml.MappingNode:
		out := dsl.Map{}
		for k, e := range pairs(n) {
			key, err := yamlValue(k, depth+1)
			if err != nil {
				return nil, err
			}
			v, err := yamlValue(e, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, dsl.Entry{Key: key, Value: v})
		}
		return out, nil
	}
	switch n.Tag {
	case "!!null":
		return nil, nil
	case "!!bool":
		var b bool
		err := n.Decode(&b)
		return b, err
	case "!!int":
		var i int64
		if n.Decode(&i) == nil {
			return i, nil
		}
	case "!!float":
		var f float64
		err := n.Decode(&f)
		return f, err
	}
	return n.Value, nil
}

// Check reports whether v may be a value of the input.
func (in Input) Check(v any) error {
	if v == nil {
		return nil
	}
	ok := true
	switch in.Type {
	case "String":
		_, ok = v.(string)
	case "Numeric":
		switch v := v.(type) {
		case int, int64, float64:
		case string:
			ok = numeric.MatchString(v)
		default:
			ok = false
		}
	case "Regexp":
		_, ok = v.(string)
	case "Boolean":
		_, ok = v.(bool)
	case "Array":
		_, ok = v.([]any)
	case "Hash":
		_, ok = v.(map[string]any)
	}
	if !ok {
		return fmt.Errorf("input %s: %s is not of type %s", in.Name, in.show(v), in.Type)
	}
	if in.Pattern != "" {
		re, err := regexp.Compile(in.Pattern)
		if err != nil {
			return fmt.Errorf("input %s: pattern: %w", in.Name, err)
		}
		if !re.MatchString(fmt.Sprint(v)) {
			return fmt.Errorf("input %s: %s does not match the pattern %s", in.Name, in.show(v), in.Pattern)
		}
	}
	return nil
}

func (in Input) show(v any) string {
	if in.Sensitive {
		return "the value"
	}
	return fmt.Sprintf("%#v", v)
}

var numeric = regexp.MustCompile(`^[-+]?\d+(\.\d+)?([eE][-+]?\d+)?$`)

// normalize turns what JSON and YAML decoders make into the few types that
// inputs have.
func normalize(v any) any {
	switch v := v.(type) {
	case int:
		return int64(v)
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v)
		}
		return v
	case []string:
		out := make([]any, len(v))
		for i := range v {
			out[i] = v[i]
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = normalize(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = normalize(e)
		}
		return out
	case map[any]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[fmt.Sprint(k)] = normalize(e)
		}
		return out
	case time.Time:
		if v.Equal(v.Truncate(24 * time.Hour)) {
			return v.Format(time.DateOnly)
		}
		return v.Format("2006-01-02 15:04:05 MST")
	}
	return v
}
