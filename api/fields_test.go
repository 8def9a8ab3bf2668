package api_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"reeve.dev/reeve/api"
)

// Each member of the request is wrong in turn: the problem points at it, and
// nothing is queued. Members that the description has and this table hasn't are
// an error.
func TestScans_eachMemberWrong(t *testing.T) {
	w := newWorld(t, "east")
	// wrong are values by the member that is given one, a JSON pointer; and
	// whether another member is at fault then, after a space.
	wrong := map[string][]any{
		"/target":                           {7, nil, []any{}, map[string]any{"uri": "dir:/", "pod": "web #/target/uri"}},
		"/target/agent":                     {7, "north", "East", " "},
		"/target/namespace":                 {7, "", "Shop", "a b", strings.Repeat("a", 64), "../x"},
		"/target/pod":                       {7, "", "Web/App", strings.Repeat("a", 254), "a\x00"},
		"/target/container":                 {7, "", "a.b", strings.Repeat("a", 64)},
		"/target/uri":                       {7, "dir:/", "no scheme"},
		"/scan":                             {7, nil, []any{}},
		"/scan/profile":                     {7, "", "none", "p@9", "../p"},
		"/scan/threshold":                   {7, "lax", "../moderate"},
		"/scan/inputs":                      {7, "x", []any{1}},
		"/options":                          {7, "x", []any{}},
		"/options/timeout":                  {"300", 0, -1, 3601, 1.5, 1e30},
		"/options/priority":                 {7, "urgent", "HIGH"},
		"/options/method":                   {7, "ssh", "EXEC"},
		"/options/sbom":                     {7, "yes", []any{}},
		"/options/reportFormat":             {7, "yaml", "pdf"},
		"/callback":                         {7, "https://x.example/", []any{}},
		"/callback/url":                     {7, "", "ftp://x.example/", "x", "https://u:p@x.example/", "https://169.254.169.254/latest", "http://[::1]/", "https://" + strings.Repeat("a", 5000)},
		"/callback/secret":                  {7, "hush-hush", "whsec_!", "whsec_aHVzaA=="},
		"/callback/authentication":          {7, "bearer", []any{}},
		"/callback/authentication/type":     {7, "", "digest"},
		"/callback/authentication/token":    {7, []any{"hush-hush"}},
		"/callback/authentication/username": {7, []any{}},
		"/callback/authentication/password": {7, map[string]any{}},
	}
	for _, at := range requestMembers(t) {
		if wrong[at] == nil {
			t.Errorf("the description has %s, and nothing wrong is tried for it", at)
		}
	}
	for _, at := range slices.Sorted(maps.Keys(wrong)) {
		for _, value := range wrong[at] {
			var body map[string]any
			if err := json.Unmarshal([]byte(goodScan), &body); err != nil {
				t.Fatal(err)
			}
			path := strings.Split(at, "/")[1:]
			in := body
			for _, step := range path[:len(path)-1] {
				in = in[step].(map[string]any)
			}
			in[path[len(path)-1]] = value
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			a := w.do(t, "POST", "/api/v1/scans", string(text))
			if a.status != http.StatusUnprocessableEntity || len(a.Errors) == 0 || !strings.HasPrefix(a.Errors[0].Pointer, "#"+at) {
				t.Errorf("%s = %v: %d %s", at, value, a.status, a.text)
			}
			if strings.Contains(a.text, "hush-hush") {
				t.Errorf("%s = %v: the problem repeats a secret: %s", at, value, a.text)
			}
		}
	}
	if list := decode[page[api.Scan]](t, w.do(t, "GET", "/api/v1/scans", ""), http.StatusOK); len(list.Items) != 0 {
		t.Errorf("a bad request made %+v", list.Items)
	}
	decode[api.Scan](t, w.do(t, "POST", "/api/v1/scans", goodScan), http.StatusAccepted)
}

// requestMembers are all members of the request for a scan, as the description has
// them.
func requestMembers(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc description
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	var walk func(s *schema, at string)
	walk = func(s *schema, at string) {
		if s.Ref != "" {
			s = doc.Components.Schemas[s.Ref[strings.LastIndex(s.Ref, "/")+1:]]
		}
		for name, member := range s.Properties {
			all = append(all, at+"/"+name)
			walk(member, at+"/"+name)
		}
	}
	walk(doc.Paths["/api/v1/scans"]["post"].RequestBody.Content["application/json"].Schema, "")
	if len(all) < 15 {
		t.Fatalf("only %v", all)
	}
	return all
}
