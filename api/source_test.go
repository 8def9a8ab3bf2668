package api_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/pki"
)

// TestAPI_sessionSource: a session is good for as long as what it rests on.
func TestAPI_sessionSource(t *testing.T) {
	w := newWorld(t, "east")
	id, token := w.token(t, pki.Admin, time.Now().Add(2*time.Hour).Truncate(time.Second))
	link := func() string {
		t.Helper()
		made := do(t, w.client(t, nil), "POST", w.url+"/api/v1/login-links", `{"name":"ann","role":"viewer"}`, "Authorization", "Bearer "+token)
		return decode[api.LoginLink](t, made, http.StatusCreated).URL
	}
	login := func(c *http.Client, link string) answer {
		t.Helper()
		code := link[strings.Index(link, "code=")+len("code="):]
		return do(t, c, "POST", w.url+"/login", url.Values{"code": {code}}.Encode(), "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
	}
	browser := w.client(t, nil)
	var err error
	if browser.Jar, err = cookiejar.New(nil); err != nil {
		t.Fatal(err)
	}
	later := link()
	if a := login(browser, link()); a.status != http.StatusSeeOther {
		t.Fatalf("login: %d %s", a.status, a.text)
	}
	decode[api.Caller](t, do(t, browser, "GET", w.url+"/api/v1/whoami", ""), http.StatusOK)
	all, err := w.store.ListTokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, tok := range all {
		if tok.Kind == pki.Session && (tok.Source.ID != id || time.Until(tok.Expires) < 10*time.Hour) {
			t.Errorf("the session %+v", tok)
		}
	}
	if a := w.do(t, "DELETE", "/api/v1/tokens/"+id, ""); a.status != http.StatusNoContent {
		t.Fatal(a.text)
	}
	if a := do(t, browser, "GET", w.url+"/api/v1/whoami", ""); a.status != http.StatusUnauthorized || !strings.Contains(a.Detail, "rests on") {
		t.Errorf("the session of a link whose maker's token was revoked: %d %s", a.status, a.text)
	}
	if a := login(w.client(t, nil), later); a.status != http.StatusUnauthorized {
		t.Errorf("a link whose maker's token was revoked: %d %s", a.status, a.text)
	}
}
