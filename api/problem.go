package api

import (
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Refusal is an answer of RFC 9457 that says what is wrong.
type Refusal struct {
	Title  string      `json:"title"`
	Status int         `json:"status"`
	Detail string      `json:"detail"`
	Errors []RefusalAt `json:"errors,omitempty"`
}

// RefusalAt is what is wrong at one place.
type RefusalAt struct {
	Message  string `json:"message"`
	Location string `json:"location,omitempty"`
	// Pointer is the place in the body as a JSON pointer in a URI's fragment
	// (RFC 6901, section 6), as RFC 9457 has it in its example.
	Pointer string `json:"pointer,omitempty"`
}

// ContentType implements huma.ContentTypeFilter.
func (Refusal) ContentType(string) string { return "application/problem+json" }

// toProblem says of the errors that huma made what callers may know of them: no
// values, which may be secrets.
func toProblem(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	return problemOf(m), nil
}

func problemOf(m *huma.ErrorModel) Refusal {
	p := Refusal{Title: m.Title, Status: m.Status, Detail: m.Detail}
	for _, e := range m.Errors {
		at := RefusalAt{Message: e.Message, Location: e.Location}
		if missing := required.FindStringSubmatch(e.Message); missing != nil {
			at.Location += "." + missing[1]
		}
		at.Pointer = pointer(at.Location)
		p.Errors = append(p.Errors, at)
	}
	return p
}

// required is huma's message about a member that isn't there, which it places
// where the member should be in.
var required = regexp.MustCompile(`^expected required property (\S+) to be present$`)

var index = regexp.MustCompile(`\[(\d+)\]`)

// pointer is a location in the body, such as body.selector.agents[0], as a JSON
// pointer; empty for one that isn't in the body.
func pointer(location string) string {
	path, ok := strings.CutPrefix(location, "body")
	if !ok || path != "" && path[0] != '.' && path[0] != '[' {
		return ""
	}
	path = index.ReplaceAllString(path, ".$1")
	return "#" + strings.ReplaceAll(strings.NewReplacer("~", "~0", "/", "~1", "%", "%25").Replace(path), ".", "/")
}

// describeProblems has the schemas say what toProblem answers.
func describeProblems(schemas map[string]*huma.Schema) {
	at := schemas["ErrorDetail"].Properties
	delete(at, "value")
	at["pointer"] = &huma.Schema{Type: huma.TypeString, Description: "The place in the body as a JSON pointer, e.g. '#/items/3/tags'"}
}
