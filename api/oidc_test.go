package api_test

import (
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/pki/oidc"
	"reeve.dev/reeve/pki/oidc/oidctest"
)

func newWorldBy(t *testing.T, op *oidctest.Issuer, agents ...fleet.AgentName) *world {
	t.Helper()
	t.Setenv("OIDC_TEST_SECRET", oidctest.Secret)
	return newWorldWith(t, func(c *api.Config) {
		cfg := oidc.Defaults()
		cfg.Issuer, cfg.CAFile, cfg.ClientID, cfg.ClientSecretEnv, cfg.Audiences = op.URL, op.CAFile, oidctest.ClientID, "OIDC_TEST_SECRET", []string{"reeve-cli"}
		cfg.Roles = []oidc.Rule{
			{Groups: []string{"team-a"}, Role: pki.Scanner, Scope: fleet.Scope{Agents: []string{"ea*"}, Namespaces: []string{"shop"}}},
			{Groups: []string{"team-a"}, Role: pki.Viewer},
		}
		op.Register(c.PublicURL + api.LoginCallback)
		issuer, err := oidc.New(cfg, c.PublicURL+api.LoginCallback)
		if err != nil {
			t.Fatal(err)
		}
		c.Issuer = issuer
	}, agents...)
}

var ann = map[string]any{"email": "ann@example.com", "groups": []string{"team-a"}}

// A browser logs in at the issuer and is whom the issuer knows, with the rights
// of its groups.
func TestAPI_loginByIssuer(t *testing.T) {
	op := oidctest.New(t)
	w := newWorldBy(t, op, "east", "west")
	op.LogIn(ann)
	newBrowser := func() *http.Client {
		browser := w.client(t, nil)
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		browser.Jar = jar
		return browser
	}
	issuer := op.Client()
	issuer.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	// login answers where the issuer sends the browser back to.
	login := func(browser *http.Client, next string) string {
		t.Helper()
		away := do(t, browser, "GET", w.url+"/login/oidc?next="+next, "")
		if away.status != http.StatusSeeOther || !strings.HasPrefix(away.header.Get("Location"), op.URL+"/authorize?") {
			t.Fatalf("begin: %d %s", away.status, away.text)
		}
		for _, want := range []string{"__Host-", "Secure", "HttpOnly", "SameSite=Lax", "Path=/"} {
			if c := away.header.Get("Set-Cookie"); !strings.Contains(c, want) {
				t.Errorf("the cookie lacks %s: %s", want, c)
			}
		}
		return do(t, issuer, "GET", away.header.Get("Location"), "").header.Get("Location")
	}

	browser := newBrowser()
	back := login(browser, "/scans?agent=east")
	if a := do(t, newBrowser(), "GET", back, ""); a.status != http.StatusUnauthorized || strings.Contains(a.header.Get("Set-Cookie"), "session=r") {
		t.Errorf("another browser comes back: %d %s", a.status, a.text)
	}
	in := do(t, browser, "GET", back, "")
	if in.status != http.StatusSeeOther || in.header.Get("Location") != "/scans?agent=east" {
		t.Fatalf("back: %d %v %s", in.status, in.header, in.text)
	}
	who := decode[api.Caller](t, do(t, browser, "GET", w.url+"/api/v1/whoami", ""), http.StatusOK)
	want := pki.Rights{limited(pki.Scanner, "shop"), {Role: pki.Viewer}}
	if d := cmp.Diff(want, who.Rights); d != "" || who.Name != "ann@example.com" || who.By != "session" {
		t.Errorf("whoami %+v: %s", who, d)
	}
	if a := do(t, browser, "POST", w.url+"/api/v1/scans", scanOf("east", "shop"), "Sec-Fetch-Site", "same-origin"); a.status != http.StatusAccepted {
		t.Errorf("a scan: %d %s", a.status, a.text)
	}
	if a := do(t, browser, "POST", w.url+"/api/v1/scans", scanOf("west", "shop"), "Sec-Fetch-Site", "same-origin"); a.status != http.StatusForbidden {
		t.Errorf("a scan elsewhere: %d %s", a.status, a.text)
	}
	if a := do(t, browser, "GET", back, ""); a.status != http.StatusUnauthorized {
		t.Errorf("back again: %d %s", a.status, a.text)
	}

	sessions, err := w.store.ListTokens(t.Context())
	if err != nil || len(sessions) != 1 || sessions[0].Expires.Sub(sessions[0].Created) != time.Hour {
		t.Errorf("the issuer isn't asked again within the hour: %+v, %v", sessions, err)
	}
	// A link that is made with the session leads to none that outlives it.
	if s, source := sessions[0], sessions[0].Source; source.ID != "oidc:u-1" || !source.Expires.Equal(s.Expires) {
		t.Errorf("the session until %v rests on %+v", s.Expires, source)
	}
	if a := w.do(t, "POST", "/api/v1/revocations", `{"kind":"token","id":"oidc:u-1"}`); a.status != http.StatusCreated {
		t.Fatal(a.text)
	}
	if a := do(t, browser, "GET", w.url+"/api/v1/whoami", ""); a.status != http.StatusUnauthorized || !strings.Contains(a.Detail, "revoked") {
		t.Errorf("the session of somebody who was taken back: %d %s", a.status, a.text)
	}

	for _, next := range []string{"https://evil.example/", "//evil.example/", "/%5Cevil.example", "evil", ""} {
		b := newBrowser()
		if a := do(t, b, "GET", login(b, next), ""); a.status != http.StatusSeeOther || a.header.Get("Location") != "/" {
			t.Errorf("next %q: %d %s", next, a.status, a.header.Get("Location"))
		}
	}

	op.LogIn(map[string]any{"email": "eve@example.com", "groups": []string{"nobody"}})
	b := newBrowser()
	if a := do(t, b, "GET", login(b, "/"), ""); a.status != http.StatusForbidden || !strings.Contains(a.text, "eve@example.com") {
		t.Errorf("who has no rights: %d %s", a.status, a.text)
	}
	op.LogIn(nil)
	b = newBrowser()
	if a := do(t, b, "GET", login(b, "/"), ""); a.status != http.StatusUnauthorized || !strings.Contains(a.text, w.url) {
		t.Errorf("who gave up: %d %s", a.status, a.text)
	}
	op.Close()
	if a := do(t, newBrowser(), "GET", w.url+"/login/oidc", ""); a.status != http.StatusSeeOther { // it knows the issuer by now
		t.Errorf("begin while the issuer is away: %d %s", a.status, a.text)
	}
}

func TestAPI_idTokens(t *testing.T) {
	op := oidctest.New(t)
	w := newWorldBy(t, op, "east", "west")
	call := func(token, method, path, body string) answer {
		t.Helper()
		return do(t, w.client(t, nil), method, w.url+"/api/v1"+path, body, "Authorization", "Bearer "+token)
	}
	good := op.Token("reeve-cli", ann)
	s := decode[api.Scan](t, call(good, "POST", "/scans", scanOf("east", "shop")), http.StatusAccepted)
	if s.RequestedBy != "oidc:ann@example.com" {
		t.Errorf("requested by %s", s.RequestedBy)
	}
	if a := call(good, "POST", "/scans", scanOf("west", "shop")); a.status != http.StatusForbidden {
		t.Errorf("elsewhere: %d %s", a.status, a.text)
	}
	if a := call(op.Token(oidctest.ClientID, ann), "GET", "/whoami", ""); a.status != http.StatusUnauthorized || !strings.Contains(a.Detail, "reeve-cli") {
		t.Errorf("another audience: %d %s", a.status, a.text)
	}
	if a := call(op.Token("reeve-cli", map[string]any{"email": "eve@example.com"}), "GET", "/whoami", ""); a.status != http.StatusForbidden {
		t.Errorf("no rights: %d %s", a.status, a.text)
	}
	_, own := w.token(t, pki.Viewer, time.Time{})
	if a := call(own, "GET", "/whoami", ""); a.status != http.StatusOK {
		t.Errorf("an API token: %d %s", a.status, a.text)
	}
	if a := w.do(t, "POST", "/api/v1/revocations", `{"kind":"token","id":"oidc:u-1"}`); a.status != http.StatusCreated {
		t.Fatal(a.text)
	}
	if a := call(good, "GET", "/whoami", ""); a.status != http.StatusUnauthorized || !strings.Contains(a.Detail, "revoked") {
		t.Errorf("revoked by its subject: %d %s", a.status, a.text)
	}
	if a := w.do(t, "POST", "/api/v1/revocations", `{"kind":"token","id":"oidc:repo:shop/web.site:ref:main"}`); a.status != http.StatusCreated {
		t.Errorf("a subject with a dot: %d %s", a.status, a.text)
	}
	if strings.Contains(w.log.String(), strings.Split(good, ".")[2]) {
		t.Error("the log holds a token")
	}

	away := oidctest.New(t)
	w = newWorldBy(t, away)
	away.Close()
	if a := call(away.Token("reeve-cli", ann), "GET", "/whoami", ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("while the issuer is away: %d %s", a.status, a.text)
	}
	if a := w.do(t, "GET", "/api/v1/whoami", ""); a.status != http.StatusOK {
		t.Errorf("a certificate meanwhile: %d %s", a.status, a.text)
	}
}
