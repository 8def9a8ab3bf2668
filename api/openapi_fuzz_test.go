package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/pki"
)

// description is what of openapi.json requests are made from.
type description struct {
	Paths      map[string]map[string]described
	Components struct{ Schemas map[string]*schema }
}

type described struct {
	OperationID string
	Parameters  []struct {
		Name, In string
		Schema   *schema
	}
	RequestBody *struct {
		Content map[string]struct{ Schema *schema }
	}
}

type schema struct {
	Ref                  string `json:"$ref"`
	Type                 any
	Enum                 []any
	Properties           map[string]*schema
	Items                *schema
	AdditionalProperties any
}

// odd are values that programs stumble over.
var odd = []any{
	nil, true, 0, -1, 1e300, 9223372036854775807, "", " ", "\x00", "../..", "%2e%2e%2f", "ü€😀", "' OR 1=1 --", "{{.}}", "\r\nX: y",
	strings.Repeat("a", 10_000), "2006-01-02T15:04:05Z", "http://169.254.169.254/", "file:///etc/passwd", "dir:/", "k8s-container://a/b/c", "own@1", "p", "east", "1h",
	"00000000-0000-7000-8000-000000000000",
	[]any{},
	map[string]any{},
	[]any{nil, []any{1}},
	map[string]any{"a": map[string]any{"b": nil}},
}

// good are values with which a request is met, by the member's name.
var good = map[string]any{
	"profile": "p", "threshold": "strict", "agent": "east", "namespace": "shop", "pod": "web", "container": "app", "text": "compliance: {min: 1}",
	"agents": []string{"east"}, "labels": "app=web", "inputs": map[string]any{"a": 1},
}

// requests makes values that fit a schema, and now and then ones that don't.
type requests struct {
	*rand.Rand
	doc description
}

func (r requests) odd() any { return odd[r.IntN(len(odd))] }

func (r requests) value(s *schema, depth int) any {
	if s == nil || depth > 6 || r.IntN(8) == 0 {
		return r.odd()
	}
	if s.Ref != "" {
		return r.value(r.doc.Components.Schemas[s.Ref[strings.LastIndex(s.Ref, "/")+1:]], depth+1)
	}
	if len(s.Enum) > 0 {
		return s.Enum[r.IntN(len(s.Enum))]
	}
	kind := fmt.Sprint(s.Type)
	switch {
	case strings.Contains(kind, "object"):
		out := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
			switch good, ok := good[name]; {
			case ok && r.IntN(8) > 0:
				out[name] = good
			case name != "uri" && r.IntN(3) > 0:
				out[name] = r.value(s.Properties[name], depth+1)
			}
		}
		if r.IntN(10) == 0 {
			out[fmt.Sprint(r.odd())] = r.odd()
		}
		return out
	case strings.Contains(kind, "array"):
		out := []any{}
		for range r.IntN(3) {
			out = append(out, r.value(s.Items, depth+1))
		}
		return out
	case strings.Contains(kind, "integer"), strings.Contains(kind, "number"):
		return r.IntN(600) - 2
	case strings.Contains(kind, "boolean"):
		return r.IntN(2) == 0
	}
	return r.odd()
}

func (r requests) text(s *schema) string { return fmt.Sprint(r.value(s, 5)) }

// request makes one of an operation.
func (r requests) request(t *testing.T, base, path, method string, op described) *http.Request {
	query := url.Values{}
	header := http.Header{}
	for _, p := range op.Parameters {
		switch {
		case p.In == "path":
			path = strings.Replace(path, "{"+p.Name+"}", url.PathEscape(r.text(p.Schema)), 1)
		case r.IntN(2) == 0:
		case p.In == "query":
			query.Set(p.Name, r.text(p.Schema))
		case p.In == "header":
			header.Set(p.Name, strings.Map(func(c rune) rune {
				if c < ' ' || c > '~' {
					return '?'
				}
				return c
			}, r.text(p.Schema)))
		}
	}
	var body string
	if op.RequestBody != nil {
		for kind, c := range op.RequestBody.Content {
			text, err := json.Marshal(r.value(c.Schema, 0))
			if err != nil {
				t.Fatal(err)
			}
			header.Set("Content-Type", kind)
			body = string(text)
			if r.IntN(20) == 0 {
				body = body[:r.IntN(len(body)+1)]
			}
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), strings.ToUpper(method), base+path+"?"+query.Encode(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	return req
}

// Whatever is asked in the form that the description gives, or nearly so, is
// never the hub's fault; and each refusal is a problem that says something.
func TestOpenAPI_noServerErrors(t *testing.T) {
	w := newWorld(t, "east")
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	r := requests{Rand: rand.New(rand.NewPCG(1, 2))}
	if err := json.Unmarshal(text, &r.doc); err != nil {
		t.Fatal(err)
	}
	if a := do(t, w.admin, "POST", w.url+"/api/v1/profiles", `{"name":"own","version":"1"}`); a.status != http.StatusCreated {
		t.Fatal(a.text)
	}
	_, admin := w.token(t, pki.Admin, time.Time{})
	part, limitedText, err := pki.NewToken(pki.API, "part", pki.Rights{limited(pki.Admin, "shop")}, 0)
	if err == nil {
		err = w.store.CreateToken(t.Context(), part)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := w.client(t, nil)
	answers := map[int]int{}
	for _, path := range slices.Sorted(maps.Keys(r.doc.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(r.doc.Paths[path])) {
			op := r.doc.Paths[path][method]
			for range 60 {
				req := r.request(t, w.url, path, method, op)
				req.Header.Set("Authorization", "Bearer "+admin)
				if r.IntN(4) == 0 {
					req.Header.Set("Authorization", "Bearer "+limitedText)
				}
				resp, err := c.Do(req)
				if err != nil {
					t.Fatalf("%s %s: %v", req.Method, req.URL, err)
				}
				// The stream of events of a scan that waits has no end.
				body, err := io.ReadAll(io.LimitReader(resp.Body, 1))
				if err == nil && !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
					rest, _ := io.ReadAll(resp.Body)
					body = append(body, rest...)
				}
				resp.Body.Close()
				answers[resp.StatusCode]++
				if resp.StatusCode >= 500 {
					t.Errorf("%s %s (%s): %d %s", req.Method, req.URL, op.OperationID, resp.StatusCode, body)
				}
				if resp.StatusCode >= 400 && !strings.Contains(string(body), `"detail"`) {
					t.Errorf("%s %s: %d isn't a problem: %s", req.Method, req.URL, resp.StatusCode, body)
				}
			}
		}
	}
	t.Logf("answers by status: %v", answers)
	if answers[http.StatusOK] == 0 || answers[http.StatusCreated] == 0 || answers[http.StatusAccepted] == 0 || answers[http.StatusUnprocessableEntity] == 0 || answers[http.StatusForbidden] == 0 {
		t.Errorf("too few kinds of answers to show anything: %v", answers)
	}
	if strings.Contains(w.log.String(), "level=ERROR") {
		t.Errorf("the hub logged errors:\n%.2000s", w.log)
	}
}
