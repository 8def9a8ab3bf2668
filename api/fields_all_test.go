package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

// bounds are what a schema says beside its shape.
type bounds struct {
	Ref                  string `json:"$ref"`
	Type                 any
	Enum                 []any
	Format               string
	MinLength, MaxLength *int
	Minimum, Maximum     *float64
	Properties           map[string]*bounds
	Items                *bounds
}

// wrong are values that a member of that schema can't have.
func (b *bounds) wrong() (values []any) {
	kind := fmt.Sprint(b.Type)
	switch {
	case strings.Contains(kind, "string"):
		values = append(values, 7, []any{}, map[string]any{})
		if len(b.Enum) > 0 {
			values = append(values, "telepathy")
		}
		if b.Format == "date-time" {
			values = append(values, "yesterday")
		}
		if b.MinLength != nil && *b.MinLength > 0 {
			values = append(values, "")
		}
		if b.MaxLength != nil {
			values = append(values, strings.Repeat("a", *b.MaxLength+1))
		}
	case strings.Contains(kind, "integer"), strings.Contains(kind, "number"):
		values = append(values, "7", []any{}, true)
		if strings.Contains(kind, "integer") {
			values = append(values, 1.5)
		}
		if b.Minimum != nil {
			values = append(values, *b.Minimum-1)
		}
		if b.Maximum != nil {
			values = append(values, *b.Maximum+1)
		}
	case strings.Contains(kind, "boolean"):
		values = append(values, "true", 1)
	case strings.Contains(kind, "array"):
		values = append(values, 7, "x", map[string]any{}, []any{map[string]any{"odd": []any{}}})
	default:
		values = append(values, 7, "x", []any{7})
	}
	return values
}

// Each member of each request that makes something is wrong in turn: by its type,
// its bounds, and by values of its own that no schema tells. The problem points at
// it, and nothing is made. A member that the description has and no good body has
// is an error.
func TestAPI_eachMemberWrong(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]struct {
			RequestBody struct {
				Content map[string]struct{ Schema *bounds }
			}
		}
		Components struct{ Schemas map[string]*bounds }
	}
	text, err := os.ReadFile("openapi.json")
	if err == nil {
		err = json.Unmarshal(text, &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	const run = `"scan":{"profile":"p","threshold":"strict","inputs":{"a":1}},"options":{"timeout":60,"priority":"low","method":"exec","sbom":true,"reportFormat":"json"},
		"callback":{"url":"https://ci.example/1","secret":"","authentication":{"type":"none","token":"","username":"","password":""}}`
	const selector = `"selector":{"agents":["east"],"namespace":"shop","labels":"app=web","container":"app","workload":{"kind":"Deployment","name":"web"}}`
	for _, tc := range []struct {
		method, path, at string // as the description has it, and where it is asked
		body             string
		list             string // what must stay as it was
		// more are values that are wrong for what they mean, by the member.
		more map[string][]any
		// skip are members that the good body can't have beside others.
		skip []string
	}{
		{
			"post", "/batches", "/batches", `{` + selector + `,` + run + `}`, "/scans",
			map[string][]any{
				"/selector/agents": {[]any{"north"}}, "/selector/namespace": {"Shop"}, "/selector/labels": {"a=(b"}, "/selector/container": {"A"}, "/selector/workload/name": {"../x"},
				"/scan/profile": {"none"}, "/scan/threshold": {"none"}, "/callback/url": {"x", "https://169.254.169.254/"}, "/options/timeout": {0},
			},
			nil,
		},
		{
			"put", "/schedules/{name}", "/schedules/s", `{"cron":"0 3 * * *","timeZone":"Europe/Berlin","jitter":60,"missed":"skip","suspended":false,` + selector + `,` + run[:strings.Index(run, `"callback"`)] + `"end":0}`, "/schedules",
			map[string][]any{
				"/cron": {"at noon", "61 * * * *", "@every 1s", "TZ=UTC * * * * *"}, "/timeZone": {"Mars/Olympus", "Local"}, "/selector/agents": {[]any{"north"}},
				"/scan/profile": {"none"}, "/scan/threshold": {"none"}, "/callback": {map[string]any{"url": "https://ci.example/1"}},
			},
			[]string{"/target", "/callback/"},
		},
		{
			"post", "/tokens", "/tokens", `{"kind":"api","name":"ci","role":"scanner","agents":["east"],"namespaces":["shop"],"expiresIn":"1h"}`, "/tokens",
			map[string][]any{"/agents": {[]any{"East!"}}, "/namespaces": {[]any{"Shop!"}}, "/expiresIn": {"soon", "-1h"}},
			[]string{"/agent"},
		},
		{"post", "/login-links", "/login-links", `{"name":"ann","role":"viewer","agents":["east"],"namespaces":["shop"]}`, "/tokens", map[string][]any{"/agents": {[]any{"East!"}}}, nil},
		{"post", "/credentials/service", "/credentials/service", `{"agent":"east","type":"x-wiki","name":"wiki","kind":"token","holder":"ann","expiresIn":"1h","csr":"","force":true}`, "", map[string][]any{"/agent": {"East!"}, "/type": {"a b"}, "/name": {"a b"}, "/expiresIn": {"soon", "-1h"}, "/csr": {"no PEM"}}, nil},
		{"post", "/revocations", "/revocations", `{"kind":"certificate","id":"a1","reason":"lost"}`, "/revocations", map[string][]any{"/id": {"wiki"}}, nil},
		{"put", "/thresholds/{name}", "/thresholds/own", `{"text":"compliance: {min: 80}"}`, "", map[string][]any{"/text": {"{", "compliance: {min: lots}", "colour: red"}}, nil},
	} {
		t.Run(tc.method+" "+tc.path, func(t *testing.T) {
			w := newWorld(t, "east")
			var body map[string]any
			if err := json.Unmarshal([]byte(tc.body), &body); err != nil {
				t.Fatal(err)
			}
			delete(body, "end")
			before := w.do(t, "GET", "/api/v1"+tc.list, "").text
			tried := 0
			try := func(at string, value any) {
				t.Helper()
				tried++
				bad := clone(t, body)
				in := bad
				path := strings.Split(at, "/")[1:]
				for _, step := range path[:len(path)-1] {
					in = in[step].(map[string]any)
				}
				in[path[len(path)-1]] = value
				text, err := json.Marshal(bad)
				if err != nil {
					t.Fatal(err)
				}
				a := w.do(t, strings.ToUpper(tc.method), "/api/v1"+tc.at, string(text))
				if a.status != http.StatusUnprocessableEntity || len(a.Errors) == 0 || !slices.ContainsFunc(a.Errors, func(e struct{ Location, Message, Pointer string }) bool {
					return strings.HasPrefix(e.Pointer, "#"+at)
				}) {
					t.Errorf("%s = %.60v: %d %.500s", at, value, a.status, a.text)
				}
			}
			var walk func(s *bounds, at string)
			walk = func(s *bounds, at string) {
				if s.Ref != "" {
					s = doc.Components.Schemas[s.Ref[strings.LastIndex(s.Ref, "/")+1:]]
				}
				for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
					member, at := s.Properties[name], at+"/"+name
					if name == "$schema" || slices.ContainsFunc(tc.skip, func(p string) bool {
						return at == p || strings.HasSuffix(p, "/") && strings.HasPrefix(at, p) || strings.HasPrefix(at, p+"/")
					}) {
						continue
					}
					if !has(body, at) && at != "/callback" {
						t.Errorf("the description has %s, and no good body is tried with it", at)
						continue
					}
					for _, value := range append(member.wrong(), tc.more[at]...) {
						try(at, value)
					}
					walk(member, at)
				}
			}
			walk(doc.Paths["/api/v1"+tc.path][tc.method].RequestBody.Content["application/json"].Schema, "")
			if tried < 5 {
				t.Errorf("only %d bad requests were tried", tried)
			}
			body["colour"] = "red"
			odd, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			if a := w.do(t, strings.ToUpper(tc.method), "/api/v1"+tc.at, string(odd)); a.status != http.StatusUnprocessableEntity {
				t.Errorf("a member that there isn't: %d %s", a.status, a.text)
			}
			if after := w.do(t, "GET", "/api/v1"+tc.list, "").text; tc.list != "" && after != before {
				t.Errorf("bad requests made %s", after)
			}
			delete(body, "colour")
			fine, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			if a := w.do(t, strings.ToUpper(tc.method), "/api/v1"+tc.at, string(fine)); a.status >= 300 {
				t.Errorf("the good one: %d %s", a.status, a.text)
			}
		})
	}
}

// has reports whether a body has the member that a JSON pointer names.
func has(body map[string]any, at string) bool {
	path := strings.Split(at, "/")[1:]
	for i, step := range path {
		v, ok := body[step]
		if !ok || i == len(path)-1 {
			return ok
		}
		if body, ok = v.(map[string]any); !ok {
			return false
		}
	}
	return false
}

func clone(t *testing.T, body map[string]any) (out map[string]any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}
