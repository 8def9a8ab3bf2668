package github

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Layer is where a file of configuration is; a later one comes before an
// earlier one.
type Layer string

// The layers.
const (
	// OrgLayer is the organisation's repository .allstar, or its repository
	// .github with the folder allstar.
	OrgLayer Layer = "organisation"
	// BaseLayer is what an organisation's file names as its baseConfig.
	BaseLayer Layer = "base"
	// OrgRepoLayer is the folder of a repository in the organisation's.
	OrgRepoLayer Layer = "organisation, for the repository"
	// RepoLayer is the folder .allstar of the repository itself.
	RepoLayer Layer = "repository"
)

func (l Layer) ofOrg() bool { return l == OrgLayer || l == BaseLayer }

// Problem is what is wrong with a file of configuration. It never turns a check
// off.
type Problem struct {
	Layer Layer
	// File is OWNER/REPO:PATH.
	File string
	// Line and Key say where in it, as far as that is known.
	Line int
	Key  string
	Text string
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		b.WriteString(":" + strconv.Itoa(p.Line))
	}
	b.WriteString(" (" + string(p.Layer) + ")")
	if p.Key != "" {
		b.WriteString(": " + p.Key)
	}
	return b.String() + ": " + p.Text
}

const (
	// maxNodes and maxDepth bound what aliases can make of a small file.
	maxNodes    = 100_000
	maxDepth    = 32
	maxProblems = 50 // of one file
)

// document is a file of configuration that was read.
type document struct {
	layer Layer
	file  string
	top   *yaml.Node // nil: the file is empty
	// reset, unless it is nil, are the settings that a null goes back to: those
	// before the file's base (RFC 7396).
	reset any
}

// reading applies documents to settings. What is wrong it reports, and leaves
// that key as it was.
type reading struct {
	doc      document
	problems []Problem
	nodes    int
	// brokenOpt says that the key optConfig couldn't be understood.
	brokenOpt bool
}

// parse reads a file's text; an error says why it can't be understood at all.
func parse(layer Layer, file, text string) (document, error) {
	d := document{layer: layer, file: file}
	dec := yaml.NewDecoder(strings.NewReader(text))
	var root yaml.Node
	if err := dec.Decode(&root); err != nil {
		if strings.TrimSpace(text) == "" || err.Error() == "EOF" {
			return d, nil
		}
		return d, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	top := root.Content[0]
	switch {
	case top.Kind == yaml.MappingNode:
		d.top = top
	case top.Kind == yaml.ScalarNode && top.Tag == "!!null":
	default:
		return d, fmt.Errorf("line %d: it must be a mapping of keys to values", top.Line)
	}
	return d, nil
}

// apply sets what the document says in opt, of the document's kind of layer,
// and in settings, pointers to structs both. With only it sets no more of the
// settings than what a repository may always say.
func (d document) apply(opt *optConfig, settings any, only bool) *reading {
	r := &reading{doc: d}
	if d.top == nil {
		return r
	}
	r.pairs(d.top, "", func(key string, name, value *yaml.Node) {
		switch {
		case strings.EqualFold(key, "optConfig"):
			before := len(r.problems)
			r.into(value, reflect.ValueOf(opt).Elem(), key, 1)
			opt.validate(func(key, text string) { r.report(name, key, text) })
			r.brokenOpt = r.brokenOpt || slices.ContainsFunc(r.problems[before:], func(p Problem) bool { return p.Text != unknownKey && !strings.HasPrefix(p.Text, elsewhere) })
		case strings.EqualFold(key, "baseConfig"):
			if d.layer != OrgLayer {
				r.report(name, key, "it is followed in the organisation's own files only")
			}
		default:
			r.field(name, value, reflect.ValueOf(settings).Elem(), key, key, 1, only)
		}
	})
	if v, ok := settings.(validator); ok {
		v.validate(func(key, text string) {
			if at := r.find(key); at != nil { // else an earlier document's, and said there
				r.report(at, key, text)
			}
		})
	}
	return r
}

// validator is settings whose values can be wrong though their types are right.
// It reports what is wrong, and puts what will do in its place.
type validator interface {
	validate(report func(key, text string))
}

// base is what the document names as its baseConfig.
func (d document) base() string {
	if d.top == nil {
		return ""
	}
	for i := 0; i+1 < len(d.top.Content); i += 2 {
		if strings.EqualFold(d.top.Content[i].Value, "baseConfig") {
			return resolved(d.top.Content[i+1]).Value
		}
	}
	return ""
}

func (r *reading) report(at *yaml.Node, key, text string) {
	if len(r.problems) >= maxProblems {
		return
	}
	p := Problem{Layer: r.doc.layer, File: r.doc.file, Key: key, Text: text}
	if at != nil {
		p.Line = at.Line
	}
	r.problems = append(r.problems, p)
}

// find is the node of a top-level key, so that what validate says has a line;
// nil where this document doesn't have it.
func (r *reading) find(key string) *yaml.Node {
	first, _, _ := strings.Cut(key, ".")
	first, _, _ = strings.Cut(first, "[")
	for i := 0; i+1 < len(r.doc.top.Content); i += 2 {
		if strings.EqualFold(r.doc.top.Content[i].Value, first) {
			return r.doc.top.Content[i]
		}
	}
	return nil
}

// pairs calls each for the keys of a mapping, once.
func (r *reading) pairs(n *yaml.Node, path string, each func(key string, name, value *yaml.Node)) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.Tag == "!!merge" {
			r.report(name, path, "keys must be plain text")
			continue
		}
		if seen[name.Value] {
			r.report(name, join(path, name.Value), "the key is there twice; the first one holds")
			continue
		}
		seen[name.Value] = true
		each(name.Value, name, value)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

const (
	unknownKey = "there is no such key"
	elsewhere  = "it has no meaning here: "
)

// field sets the member of a struct that is called name. Its tags are key, its
// name, and layer: "org" or "repo" for where it may stand, "add" for a list or text
// that comes on top of what earlier layers say, "always" for what a repository may
// say though the organisation disables overrides.
func (r *reading) field(at, value *yaml.Node, s reflect.Value, name, path string, depth int, only bool) {
	misplaced := false
	for i := range s.NumField() {
		f := s.Type().Field(i)
		if f.Anonymous {
			if embedded := s.Field(i); has(embedded.Type(), name) {
				r.field(at, value, embedded, name, path, depth, only)
				return
			}
			continue
		}
		tag, _, _ := strings.Cut(f.Tag.Get("key"), ",")
		if tag == "" || !strings.EqualFold(tag, name) {
			continue
		}
		traits := strings.Split(f.Tag.Get("layer"), ",")
		if slices.Contains(traits, "org") && !r.doc.layer.ofOrg() || slices.Contains(traits, "repo") && r.doc.layer.ofOrg() {
			misplaced = true
			continue
		}
		if only && !slices.Contains(traits, "always") {
			return
		}
		v := s.Field(i)
		if r.doc.reset != nil && value.Kind == yaml.ScalarNode && value.Tag == "!!null" {
			v.SetZero()
			if def := part(reflect.ValueOf(r.doc.reset).Elem(), s.Type()); def.IsValid() {
				v.Set(def.Field(i))
			}
			return
		}
		if !slices.Contains(traits, "add") {
			r.into(value, v, path, depth)
			return
		}
		more := reflect.New(v.Type()).Elem()
		if !r.into(value, more, path, depth) {
			return
		}
		switch {
		case v.Kind() == reflect.Slice:
			v.Set(reflect.AppendSlice(v.Slice3(0, v.Len(), v.Len()), more))
		case v.String() == "" || more.String() == "":
			v.SetString(v.String() + more.String())
		default:
			v.SetString(v.String() + "," + more.String())
		}
		return
	}
	if misplaced {
		where := "the organisation's own files"
		if r.doc.layer.ofOrg() {
			where = "the files for one repository"
		}
		r.report(at, path, elsewhere+"it belongs into "+where)
		return
	}
	r.report(at, path, unknownKey)
}

// part is v itself, or what it embeds, if that is of a type.
func part(v reflect.Value, t reflect.Type) reflect.Value {
	if v.Type() == t {
		return v
	}
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.Anonymous && f.Type == t {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

// has reports whether a struct has a member of that name.
func has(t reflect.Type, name string) bool {
	for i := range t.NumField() {
		if tag, _, _ := strings.Cut(t.Field(i).Tag.Get("key"), ","); strings.EqualFold(tag, name) {
			return true
		}
	}
	return false
}

// into sets v from a node and reports whether it could.
func (r *reading) into(n *yaml.Node, v reflect.Value, path string, depth int) bool {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if r.nodes++; r.nodes > maxNodes || depth > maxDepth {
		if r.nodes == maxNodes+1 || depth == maxDepth+1 {
			r.report(n, path, "the file holds too much")
		}
		return false
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return true // nothing is said
	}
	wrong := func(want string) bool {
		r.report(n, path, "it must be "+want)
		return false
	}
	switch v.Kind() {
	case reflect.Pointer:
		fresh := reflect.New(v.Type().Elem())
		if !r.into(n, fresh.Elem(), path, depth+1) {
			return false
		}
		v.Set(fresh)
		return true
	case reflect.Struct:
		if n.Kind != yaml.MappingNode {
			return wrong("a mapping of keys to values")
		}
		r.pairs(n, path, func(key string, name, value *yaml.Node) {
			r.field(name, value, v, key, join(path, key), depth+1, false)
		})
		return true
	case reflect.Map:
		if n.Kind != yaml.MappingNode {
			return wrong("a mapping of names to lists")
		}
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		r.pairs(n, path, func(key string, _, value *yaml.Node) {
			e := reflect.New(v.Type().Elem()).Elem()
			if r.into(value, e, join(path, key), depth+1) {
				v.SetMapIndex(reflect.ValueOf(key), e)
			}
		})
		return true
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			return wrong("a list")
		}
		out := reflect.MakeSlice(v.Type(), 0, min(len(n.Content), maxNodes))
		for i, c := range n.Content {
			e := reflect.New(v.Type().Elem()).Elem()
			if r.into(c, e, path+"["+strconv.Itoa(i)+"]", depth+1) {
				out = reflect.Append(out, e)
			}
		}
		v.Set(out)
		return true
	}
	if n.Kind != yaml.ScalarNode {
		return wrong(plainKind(v.Kind()))
	}
	// A fresh one, so that a value that can't be set changes nothing.
	fresh := reflect.New(v.Type())
	if v.Kind() == reflect.String && n.Tag != "!!str" || n.Decode(fresh.Interface()) != nil {
		return wrong(plainKind(v.Kind()))
	}
	v.Set(fresh.Elem())
	return true
}

func plainKind(k reflect.Kind) string {
	switch k {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text; quote it if it looks like a number or true"
	}
	return "a whole number"
}
