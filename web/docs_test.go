package web_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"reeve.dev/reeve/web"
)

// Each operation is on the page of the API, for who isn't logged in too.
func TestHandler_docs(t *testing.T) {
	w := newWorld(t, east())
	v := read(t, w.answer(t, "GET", "/docs"))
	if v.status != http.StatusOK {
		t.Fatalf("%d %s", v.status, v.text)
	}
	text, err := os.ReadFile("../api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct{ OperationID string }
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for n := range v.doc.Descendants() {
		if n.Type == html.ElementNode && n.Data == "details" {
			shown[attr(n, "id")] = true
		}
	}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if !shown[op.OperationID] {
				t.Errorf("%s %s isn't there", method, path)
			}
		}
	}
	for _, want := range []string{"POST /api/v1/scans", "target.container", "callback.authentication.type", "none | bearer | basic", "from 1; to 3600", "Idempotency-Key header", "scan.profile required", "items[].id"} {
		if !strings.Contains(v.text, want) {
			t.Errorf("the page doesn't say %q", want)
		}
	}
}

func TestHandler_loginByIssuer(t *testing.T) {
	w := newWorld(t, east())
	h := web.Handler(web.Config{API: w, LoginBy: "<Keycloak>", Version: "v1", Logger: slog.New(slog.DiscardHandler)})
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/scans?agent=east", nil))
	v := read(t, rec)
	link := ""
	for n := range v.doc.Descendants() {
		if n.Type == html.ElementNode && n.Data == "a" && strings.HasPrefix(attr(n, "href"), "/login/oidc") {
			link = attr(n, "href")
		}
	}
	if v.status != http.StatusUnauthorized || link != "/login/oidc?next=%2Fscans%3Fagent%3Deast" || !strings.Contains(v.text, "Log in with <Keycloak>") {
		t.Errorf("%d, link %q: %s", v.status, link, v.text)
	}
}
