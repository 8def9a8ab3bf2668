// Package transform makes key facts of SBOMs and image inspects, by files in
// the format of Lagoon's insights-handler ("filter transformers"), in YAML or
// JSON:
//
//	transforms:
//	  - type: Package            # of an SBOM; EnvironmentVariable, InspectLabel: of an image
//	    lookupvalue:             # all of them have to match
//	      - name: Name           # a field: see below
//	        value: drupal/core   # a regular expression, found anywhere in it
//	        exactMatch: true     # or the whole of it, as it is
//	    transformations:         # fields of the fact: Name, Value, Source, Description, Type, Category
//	      - name: Name
//	        value: Drupal
//	    keyfact: true            # without it the fact isn't kept
//
// Each package, variable and label is at first a fact by itself: a package's has
// its name, version and purl as name, value and description. All transforms are
// applied to it, in their order; each looks at what it was made of, not at what
// those before made of it. What is a key fact then is kept. Of packages, and of
// variables, with one name the first counts; of facts with one name the last.
//
// A package has the fields of CycloneDX's component: BOMRef, MIMEType, Type,
// Author, Publisher, Group, Name, Version, Description, Scope, Copyright, CPE and
// PackageURL. Variables and labels have Key and Value.
//
// Of one document 1000 facts are kept, and one more says how many were left out.
//
// Where insights-handler passes over what it doesn't understand, a file is
// refused: an unknown key, type or field, and a regular expression that isn't one.
// The type may also be written as its own files have it (cyclonedx.Component,
// handler.EnvironmentVariable). A variable's value may hold "=", and labels are
// read.
package transform

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/insight"
)

//go:embed default.yaml
var shipped []byte

// MaxFile is the most bytes of a file.
const MaxFile = 1 << 20

// maxFacts is how many facts of one document are kept: they are for people.
const maxFacts = 1000

// LeftOut is the name of the fact that says how many weren't kept.
const LeftOut = "facts left out"

// Set is transforms in their order. It may be used by many goroutines.
type Set struct {
	all []rule
	// byName are those that one name of a package chooses, others the rest; by
	// their index.
	byName map[string][]int
	others []int
}

// rule is one transform.
type rule struct {
	kind    string // one of the kinds; empty for all
	lookups []lookup
	sets    []func(*insight.Fact)
	key     bool
}

type lookup struct {
	field string
	exact bool
	value string
	expr  *regexp.Regexp // nil where exact
}

// The kinds of what facts are made of.
const (
	kindPackage  = "Package"
	kindVariable = "EnvironmentVariable"
	kindLabel    = "InspectLabel"
)

var kinds = map[string]string{
	"": "", kindPackage: kindPackage, kindVariable: kindVariable, kindLabel: kindLabel,
	"cyclonedx.Component": kindPackage, "handler.EnvironmentVariable": kindVariable, "handler.InsightsInspectLabel": kindLabel,
}

// fields are those that a lookup may name.
var fields = map[string][]string{
	kindPackage: {
		"BOMRef", "MIMEType", "Type", "Author", "Publisher", "Group", "Name", "Version", "Description", "Scope", "Copyright", "CPE", "PackageURL",
	},
	kindVariable: {"Key", "Value"},
	kindLabel:    {"Key", "Value"},
}

// targets are the fields of a fact that a transformation may set.
var targets = map[string]func(*insight.Fact) *string{
	"Name":        func(f *insight.Fact) *string { return &f.Name },
	"Value":       func(f *insight.Fact) *string { return &f.Value },
	"Source":      func(f *insight.Fact) *string { return &f.Source },
	"Description": func(f *insight.Fact) *string { return &f.Description },
	"Type":        func(f *insight.Fact) *string { return &f.Type },
	"Category":    func(f *insight.Fact) *string { return &f.Category },
}

// file is what is written.
type file struct {
	Transforms []entry `yaml:"transforms" json:"transforms"`
}

type entry struct {
	Type        string `yaml:"type" json:"type"`
	LookupValue []struct {
		Name       string `yaml:"name" json:"name"`
		Value      string `yaml:"value" json:"value"`
		ExactMatch bool   `yaml:"exactMatch" json:"exactMatch"`
	} `yaml:"lookupvalue" json:"lookupvalue"`
	Transformations []struct {
		Name  string `yaml:"name" json:"name"`
		Value string `yaml:"value" json:"value"`
	} `yaml:"transformations" json:"transformations"`
	KeyFact bool `yaml:"keyfact" json:"keyfact"`
}

// Default is the shipped set.
func Default() *Set {
	s, err := Parse(shipped)
	if err != nil {
		panic(err) // a test reads it
	}
	return s
}

// Load reads the transforms of files, one after the other. Without files it is
// the shipped set.
func Load(files []string) (*Set, error) {
	if len(files) == 0 {
		return Default(), nil
	}
	var all []*Set
	for _, name := range files {
		text, err := read(name)
		if err != nil {
			return nil, err
		}
		s, err := Parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, s)
	}
	return Join(all...), nil
}

// Join is the transforms of all sets, one after the other.
func Join(sets ...*Set) *Set {
	var all []rule
	for _, s := range sets {
		all = append(all, s.all...)
	}
	return newSet(all)
}

func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err == nil && len(text) > MaxFile {
		err = fmt.Errorf("%s: has more than %d bytes", name, MaxFile)
	}
	return text, err
}

// Parse reads a file's transforms. Its errors say where it is wrong.
func Parse(text []byte) (*Set, error) {
	var f file
	if err := decode(text, &f); err != nil {
		return nil, err
	}
	all := make([]rule, len(f.Transforms))
	for i, e := range f.Transforms {
		var err error
		if all[i], err = e.rule(); err != nil {
			return nil, fmt.Errorf("transforms[%d]%w", i, err)
		}
	}
	return newSet(all), nil
}

// decode reads JSON, which may be indented by tabs, as YAML may not, or YAML.
func decode(text []byte, f *file) error {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		return dec.Decode(f)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(f); !errors.Is(err, io.EOF) {
		return err
	}
	return errors.New("the file is empty: it must have transforms")
}

// rule checks an entry; an error begins with the place in it.
func (e entry) rule() (r rule, err error) {
	kind, known := kinds[e.Type]
	if !known {
		return r, fmt.Errorf(".type: is %q, must be %s, %s or %s", e.Type, kindPackage, kindVariable, kindLabel)
	}
	r = rule{kind: kind, key: e.KeyFact}
	for i, l := range e.LookupValue {
		if !hasField(kind, l.Name) {
			return r, fmt.Errorf(".lookupvalue[%d].name: is %q, must be one of %s", i, l.Name, strings.Join(fieldsOf(kind), ", "))
		}
		one := lookup{field: l.Name, exact: l.ExactMatch, value: l.Value}
		if !l.ExactMatch {
			if one.expr, err = regexp.Compile(l.Value); err != nil {
				return r, fmt.Errorf(".lookupvalue[%d].value: %w", i, err)
			}
		}
		r.lookups = append(r.lookups, one)
	}
	for i, t := range e.Transformations {
		field, known := targets[t.Name]
		if !known {
			return r, fmt.Errorf(".transformations[%d].name: is %q, must be Name, Value, Source, Description, Type or Category", i, t.Name)
		}
		r.sets = append(r.sets, func(f *insight.Fact) { *field(f) = t.Value })
	}
	return r, nil
}

func fieldsOf(kind string) []string {
	if kind != "" {
		return fields[kind]
	}
	return append(slices.Clone(fields[kindPackage]), fields[kindVariable]...)
}

func hasField(kind, name string) bool { return slices.Contains(fieldsOf(kind), name) }

func newSet(all []rule) *Set {
	s := &Set{all: all, byName: map[string][]int{}}
	for i, r := range all {
		named := slices.IndexFunc(r.lookups, func(l lookup) bool { return l.exact && l.field == "Name" })
		if named < 0 {
			s.others = append(s.others, i)
			continue
		}
		name := r.lookups[named].value
		s.byName[name] = append(s.byName[name], i)
	}
	return s
}

// apply makes f what the transforms say of a thing of a kind with these fields,
// and reports whether it is a key fact.
func (s *Set) apply(f *insight.Fact, kind string, field func(string) (string, bool)) (key bool) {
	named := s.byName[f.Name]
	others := s.others
	for len(named)+len(others) > 0 { // both ascend
		var i int
		if len(others) == 0 || len(named) > 0 && named[0] < others[0] {
			i, named = named[0], named[1:]
		} else {
			i, others = others[0], others[1:]
		}
		r := &s.all[i]
		if (r.kind == "" || r.kind == kind) && r.matches(field) {
			for _, set := range r.sets {
				set(f)
			}
			key = key || r.key
		}
	}
	return key
}

func (r *rule) matches(field func(string) (string, bool)) bool {
	for _, l := range r.lookups {
		value, has := field(l.field)
		if !has || l.exact && value != l.value || !l.exact && !l.expr.MatchString(value) {
			return false
		}
	}
	return true
}

// Of makes the facts of one document; it is for insight.Service.DeriveFacts.
func (s *Set) Of(kind insight.Kind, service string) insight.Deriver {
	source := "insights:" + string(kind) + ":" + service
	return &deriver{set: s, fact: insight.Fact{Source: source, Service: service, Type: "TEXT"}, seen: map[string]bool{}, at: map[name]int{}}
}

// deriver gathers the facts of one document.
type deriver struct {
	set  *Set
	fact insight.Fact    // what all of them begin as
	seen map[string]bool // names of packages, or of variables
	at   map[name]int    // where the fact of a name is; below 0: it was left out
	out  []insight.Fact
}

type name struct{ source, name string }

func (d *deriver) Facts() []insight.Fact {
	left := len(d.at) - len(d.out)
	if left == 0 {
		return d.out
	}
	f := d.fact
	f.Name, f.Value = LeftOut, strconv.Itoa(left)
	f.Description = fmt.Sprintf("The transforms make more than %d facts of it: let them choose less", maxFacts)
	return append(slices.Clip(d.out), f)
}

func (d *deriver) Component(a insight.Attributes) {
	if d.seen[a.Name] {
		return
	}
	d.seen[a.Name] = true
	f := d.fact
	f.Name, f.Value, f.Description = a.Name, a.Version, a.PackageURL
	d.take(f, kindPackage, func(field string) (string, bool) { return attribute(a, field) })
}

func attribute(a insight.Attributes, field string) (string, bool) {
	switch field {
	case "BOMRef":
		return a.BOMRef, true
	case "MIMEType":
		return a.MIMEType, true
	case "Type":
		return a.Type, true
	case "Author":
		return a.Author, true
	case "Publisher":
		return a.Publisher, true
	case "Group":
		return a.Group, true
	case "Name":
		return a.Name, true
	case "Version":
		return a.Version, true
	case "Description":
		return a.Description, true
	case "Scope":
		return a.Scope, true
	case "Copyright":
		return a.Copyright, true
	case "CPE":
		return a.CPE, true
	case "PackageURL":
		return a.PackageURL, true
	}
	return "", false
}

func (d *deriver) Image(i *insight.ImageInspect) {
	for _, v := range i.Env {
		key, value, _ := strings.Cut(v, "=")
		if !d.seen[key] {
			d.seen[key] = true
			d.pair(kindVariable, "Environment variable", key, value)
		}
	}
	keys := make([]string, 0, len(i.Labels))
	for key := range i.Labels {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		d.pair(kindLabel, "Label of the image", key, i.Labels[key])
	}
}

func (d *deriver) pair(kind, description, key, value string) {
	f := d.fact
	f.Name, f.Value, f.Description = key, value, description
	d.take(f, kind, func(field string) (string, bool) {
		switch field {
		case "Key":
			return key, true
		case "Value":
			return value, true
		}
		return "", false
	})
}

func (d *deriver) take(f insight.Fact, kind string, field func(string) (string, bool)) {
	if !d.set.apply(&f, kind, field) || f.Name == "" {
		return
	}
	n := name{f.Source, f.Name}
	switch at, known := d.at[n]; {
	case known && at >= 0:
		d.out[at] = f
	case known: // as before
	case len(d.out) == maxFacts:
		d.at[n] = -1
	default:
		d.at[n] = len(d.out)
		d.out = append(d.out, f)
	}
}
