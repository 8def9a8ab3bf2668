package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"reeve.dev/reeve/api"
)

// description is what the page shows of an OpenAPI document.
type description struct {
	Info struct {
		Title, Version, Description string
	}
	Paths      map[string]map[string]described
	Components struct {
		Schemas         map[string]*schema
		SecuritySchemes map[string]struct{ Type, Scheme, In, Name, Description string }
	}
}

type described struct {
	OperationID, Summary, Description string
	Tags                              []string
	Parameters                        []struct {
		Name, In, Description string
		Required              bool
		Schema                *schema
	}
	RequestBody *struct {
		Required bool
		Content  map[string]struct{ Schema *schema }
	}
	Responses map[string]struct {
		Description string
		Content     map[string]struct{ Schema *schema }
	}
}

type schema struct {
	Ref                  string `json:"$ref"`
	Type                 any
	Format, Description  string
	Enum                 []any
	Default              any
	Minimum, Maximum     *float64
	MaxLength            int
	Properties           map[string]*schema
	Required             []string
	Items                *schema
	AdditionalProperties any
}

// The page's own shapes.
type (
	docsGroup struct {
		Name       string
		Operations []docsOperation
	}
	docsOperation struct {
		ID, Method, Path, Summary, Description string
		Parameters                             []docsMember
		Body                                   *docsContent
		Responses                              []docsContent
	}
	// docsContent is a request's body, or an answer of a status.
	docsContent struct {
		Status, Description string
		Types               []string
		Members             []docsMember
	}
	docsMember struct {
		Name, In, Type, Note, Description string
		Required                          bool
	}
)

// docs shows the API's description to people. The description is for everybody,
// and so is the page.
func (h *handler) docs() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req := &request{Request: r, api: h.cfg.API}
		var caller *api.Caller
		req.get("/whoami", nil, &caller) // nobody, if it fails
		var doc description
		p := &page{View: "docs", Title: "API"}
		if err := req.readAt("/openapi.json", nil, func(body io.Reader) error { return json.NewDecoder(body).Decode(&doc) }); err != nil {
			p = h.failed(req, err)
		} else {
			p.Data = map[string]any{"Doc": doc, "Groups": doc.groups()}
		}
		h.show(w, r, p, caller)
	})
}

// groups are the operations by their first tag.
func (d description) groups() (groups []docsGroup) {
	byTag := map[string][]docsOperation{}
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		for method, op := range d.Paths[path] {
			tag := "other"
			if len(op.Tags) > 0 {
				tag = op.Tags[0]
			}
			byTag[tag] = append(byTag[tag], d.operation(path, method, op))
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(byTag)) {
		ops := byTag[tag]
		slices.SortStableFunc(ops, func(a, b docsOperation) int {
			return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Method, b.Method))
		})
		groups = append(groups, docsGroup{tag, ops})
	}
	return groups
}

func (d description) operation(path, method string, op described) docsOperation {
	out := docsOperation{ID: op.OperationID, Method: strings.ToUpper(method), Path: path, Summary: op.Summary, Description: op.Description}
	for _, p := range op.Parameters {
		m := d.member(p.Name, p.Schema)
		m.In, m.Required, m.Description = p.In, p.Required, cmp.Or(p.Description, m.Description)
		out.Parameters = append(out.Parameters, m)
	}
	if b := op.RequestBody; b != nil {
		out.Body = &docsContent{}
		d.content(out.Body, b.Content)
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		r := op.Responses[status]
		c := docsContent{Status: status, Description: r.Description}
		if status < "400" { // problems are all alike
			d.content(&c, r.Content)
		}
		out.Responses = append(out.Responses, c)
	}
	return out
}

func (d description) content(c *docsContent, types map[string]struct{ Schema *schema }) {
	c.Types = slices.Sorted(maps.Keys(types))
	for _, t := range c.Types {
		if len(c.Members) == 0 {
			d.members(&c.Members, "", types[t].Schema, nil)
		}
	}
}

// members lists what is in an object, whatever its depth, but for objects that
// are in themselves.
func (d description) members(to *[]docsMember, at string, s *schema, above []*schema) {
	s = d.resolve(s)
	if s == nil || slices.Contains(above, s) {
		return
	}
	above = append(above, s)
	if s.Items != nil {
		d.members(to, at+"[]", s.Items, above)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		path := name
		if at != "" {
			path = at + "." + name
		}
		m := d.member(path, s.Properties[name])
		m.Required = slices.Contains(s.Required, name)
		*to = append(*to, m)
		d.members(to, path, s.Properties[name], above)
	}
}

func (d description) resolve(s *schema) *schema {
	for range 10 {
		if s == nil || s.Ref == "" {
			return s
		}
		s = d.Components.Schemas[s.Ref[strings.LastIndex(s.Ref, "/")+1:]]
	}
	return nil
}

func (d description) member(name string, s *schema) docsMember {
	m := docsMember{Name: name}
	if s != nil {
		m.Description = s.Description
	}
	if s = d.resolve(s); s == nil {
		return m
	}
	m.Description = cmp.Or(m.Description, s.Description)
	m.Type = typeText(s.Type)
	if item := d.resolve(s.Items); item != nil {
		m.Type = "list of " + cmp.Or(typeText(item.Type), "anything")
	}
	if s.Format != "" {
		m.Type += ", " + s.Format
	}
	var notes []string
	if len(s.Enum) > 0 {
		var values []string
		for _, v := range s.Enum {
			values = append(values, fmt.Sprint(v))
		}
		notes = append(notes, strings.Join(values, " | "))
	}
	if s.Minimum != nil {
		notes = append(notes, fmt.Sprintf("from %v", *s.Minimum))
	}
	if s.Maximum != nil {
		notes = append(notes, fmt.Sprintf("to %v", *s.Maximum))
	}
	if s.MaxLength > 0 {
		notes = append(notes, fmt.Sprintf("at most %d characters", s.MaxLength))
	}
	if s.Default != nil {
		notes = append(notes, fmt.Sprintf("%v if left out", s.Default))
	}
	m.Note = strings.Join(notes, "; ")
	return m
}

// typeText is a type of JSON Schema, which may be several.
func typeText(t any) string {
	switch t := t.(type) {
	case string:
		return t
	case []any:
		var names []string
		for _, n := range t {
			if n != "null" {
				names = append(names, fmt.Sprint(n))
			}
		}
		return strings.Join(names, " or ")
	}
	return ""
}
