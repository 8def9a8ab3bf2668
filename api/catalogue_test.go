package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
)

// as is a header with a new token of that role.
func (w *world) as(t *testing.T, role pki.Role) []string {
	t.Helper()
	_, text := w.token(t, role, time.Time{})
	return []string{"Authorization", "Bearer " + text}
}

// A version of a profile is stored once and never changes; by its name the one
// stored last is meant.
func TestProfiles_stored(t *testing.T) {
	w := newWorld(t, "east")
	c, operator := w.client(t, nil), w.as(t, pki.Operator)
	at := w.url + "/api/v1/profiles"
	for _, step := range []struct {
		what, body string
		status     int
		says       string
	}{
		{"new", `{"name":"own","version":"1.0.0"}`, http.StatusCreated, `"version":"1.0.0"`},
		{"the same again", `{"name":"own","version":"1.0.0"}`, http.StatusOK, `"stored":true`},
		{"another content", `{"version":"1.0.0","name":"own"}`, http.StatusConflict, "already with another content"},
		{"another version", `{"name":"own","version":"2.0.0"}`, http.StatusCreated, `"version":"2.0.0"`},
		{"the hub's own name", `{"name":"p","version":"9"}`, http.StatusConflict, "is the hub's own"},
		{"no archive", `hello`, http.StatusUnprocessableEntity, "not an archive"},
		{"a name that leads elsewhere", `{"name":"../p","version":"9"}`, http.StatusUnprocessableEntity, "the name"},
		{"no version", `{"name":"own"}`, http.StatusUnprocessableEntity, "the version"},
		{"nothing", ``, http.StatusBadRequest, "body is required"},
		{"too much", strings.Repeat("x", scan.MaxUpload+1), http.StatusRequestEntityTooLarge, "too large"},
	} {
		a := do(t, c, "POST", at, step.body, append(operator, "Content-Type", "application/gzip")...)
		if a.status != step.status || !strings.Contains(a.text, step.says) {
			t.Errorf("%s: %d %s; want %d and %q", step.what, a.status, a.text, step.status, step.says)
		}
	}
	if a := do(t, c, "POST", at, `{"name":"x","version":"1"}`, w.as(t, pki.Scanner)...); a.status != http.StatusForbidden {
		t.Errorf("by a scanner: %d", a.status)
	}
	for ref, version := range map[string]string{"own": "2.0.0", "own@1.0.0": "1.0.0", "p": "1.0.0", "p@sha256:0eb3e36bfb24dcd9bb1d1bece1531216b59539a8fde17ee80224af0653c92aa3": "1.0.0"} {
		a := do(t, w.admin, "GET", at+"/"+ref, "")
		if a.status != http.StatusOK || !strings.Contains(a.text, `"version":"`+version+`"`) {
			t.Errorf("%s: %d %s", ref, a.status, a.text)
		}
		if again := do(t, w.admin, "GET", at+"/"+ref, "", "If-None-Match", a.header.Get("ETag")); again.status != http.StatusNotModified || again.text != "" {
			t.Errorf("%s again: %d %s", ref, again.status, again.text)
		}
	}
	if a := do(t, w.admin, "GET", at+"/own/versions", ""); strings.Index(a.text, "2.0.0") > strings.Index(a.text, "1.0.0") || strings.Count(a.text, `"digest"`) != 2 {
		t.Errorf("versions: %s", a.text)
	}
	if a := do(t, w.admin, "GET", at+"/own@1.0.0/archive", ""); a.text != `{"name":"own","version":"1.0.0"}` {
		t.Errorf("archive: %d %s", a.status, a.text)
	}
	body := func(profile string) string {
		return `{"target":{"namespace":"n","pod":"p","container":"c"},"scan":{"profile":"` + profile + `"}}`
	}
	if a := do(t, w.admin, "POST", w.url+"/api/v1/scans", body("own@1.0.0")); a.status != http.StatusAccepted || !strings.Contains(a.text, `"profileVersion":"1.0.0"`) {
		t.Errorf("scan with a version: %d %s", a.status, a.text)
	}
	for ref, status := range map[string]int{"own@3": 404, "own@1.0.0": 204, "own": 204, "p": 409, "none": 404} {
		if ref == "own" {
			continue // last
		}
		if a := do(t, c, "DELETE", at+"/"+ref, "", operator...); a.status != status {
			t.Errorf("delete %s: %d %s", ref, a.status, a.text)
		}
	}
	if a := do(t, c, "DELETE", at+"/own", "", operator...); a.status != http.StatusNoContent {
		t.Errorf("delete own: %d %s", a.status, a.text)
	}
	if a := do(t, w.admin, "POST", w.url+"/api/v1/scans", body("own")); a.status != http.StatusUnprocessableEntity || a.Errors[0].Location != "body.scan.profile" {
		t.Errorf("scan with what is gone: %d %s", a.status, a.text)
	}
}

func TestThresholds_stored(t *testing.T) {
	w := newWorld(t, "east")
	c, operator := w.client(t, nil), w.as(t, pki.Operator)
	at := w.url + "/api/v1/thresholds/"
	put := func(name, body string, header ...string) answer {
		return do(t, c, "PUT", at+name, body, append(header, operator...)...)
	}
	const text = `{"text":"compliance:\n  min: 80\n"}`
	first := put("mine", text)
	if first.status != http.StatusCreated || first.header.Get("ETag") == "" {
		t.Fatalf("new: %d %s", first.status, first.text)
	}
	if a := put("mine", `{"text":"compliance: {min: 90}"}`, "If-Match", first.header.Get("ETag")); a.status != http.StatusOK {
		t.Errorf("replaced: %d %s", a.status, a.text)
	}
	if a := put("mine", text, "If-Match", first.header.Get("ETag")); a.status != http.StatusPreconditionFailed {
		t.Errorf("replaced what another has replaced: %d %s", a.status, a.text)
	}
	if a := put("mine", text, "If-None-Match", "*"); a.status != http.StatusPreconditionFailed || !strings.Contains(a.text, "there is one already") {
		t.Errorf("made where there is one: %d %s", a.status, a.text)
	}
	if a := put("another", text, "If-None-Match", "*"); a.status != http.StatusCreated {
		t.Errorf("made where there is none: %d %s", a.status, a.text)
	}
	for name, tc := range map[string]struct {
		body, says string
		status     int
	}{
		"strict": {text, "is the hub's own", http.StatusConflict},
		"bad":    {`{"text":"complience: {min: 1}"}`, "complience", http.StatusUnprocessableEntity},
		"-":      {text, "must be of letters", http.StatusUnprocessableEntity},
		"empty":  {`{}`, "text", http.StatusUnprocessableEntity},
	} {
		if a := put(name, tc.body); a.status != tc.status || !strings.Contains(a.text, tc.says) {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	if a := do(t, w.admin, "GET", w.url+"/api/v1/thresholds", ""); !strings.Contains(a.text, `"name":"mine"`) || !strings.Contains(a.text, `"name":"strict"`) {
		t.Errorf("list: %s", a.text)
	}
	if a := do(t, c, "DELETE", at+"mine", "", operator...); a.status != http.StatusNoContent {
		t.Errorf("delete: %d %s", a.status, a.text)
	}
	if a := do(t, c, "DELETE", at+"strict", "", operator...); a.status != http.StatusConflict {
		t.Errorf("delete the hub's own: %d %s", a.status, a.text)
	}
}

// Lists come page by page, the hub's own in their places among the stored.
func TestCatalogue_pages(t *testing.T) {
	w := newWorld(t, "east")
	for _, name := range []string{"a", "c", "q", "z"} {
		if a := do(t, w.admin, "POST", w.url+"/api/v1/profiles", `{"name":"`+name+`","version":"1"}`, "Content-Type", "application/gzip"); a.status != http.StatusCreated {
			t.Fatal(a.text)
		}
		if a := w.do(t, "PUT", "/api/v1/thresholds/"+name, `{"text":"compliance: {min: 80}"}`); a.status != http.StatusCreated {
			t.Fatal(a.text)
		}
	}
	for path, want := range map[string]string{"profiles": "a c p q z", "thresholds": "a c moderate q strict z"} {
		for _, limit := range []int{1, 2, 3, 4, 5, 500} {
			var got []string
			for before := ""; ; {
				p := decode[page[struct{ Name string }]](t, w.do(t, "GET", fmt.Sprintf("/api/v1/%s?limit=%d&before=%s", path, limit, before), ""), http.StatusOK)
				for _, item := range p.Items {
					got = append(got, item.Name)
				}
				if before = p.Next; before == "" || len(p.Items) == 0 {
					break
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s by %d: %q, want %q", path, limit, got, want)
			}
		}
	}
}
