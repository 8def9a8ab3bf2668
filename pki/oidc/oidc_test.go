package oidc

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/pki/oidc/oidctest"
)

const callback = "https://hub.example/login/oidc/callback"

func config(op *oidctest.Issuer) Config {
	cfg := Defaults()
	cfg.Issuer, cfg.CAFile, cfg.ClientID, cfg.ClientSecretEnv, cfg.Audiences = op.URL, op.CAFile, oidctest.ClientID, "OIDC_TEST_SECRET", []string{"reeve-cli"}
	cfg.Roles = []Rule{
		{Groups: []string{"platform"}, Role: pki.Admin},
		{Groups: []string{"team-a", "team-b"}, Role: pki.Scanner, Scope: fleet.Scope{Agents: []string{"prod-*"}, Namespaces: []string{"shop"}}},
		{Users: []string{"eve@example.com"}, Role: pki.Viewer},
	}
	return cfg
}

func start(t *testing.T) (*Issuer, *oidctest.Issuer) {
	t.Helper()
	op := oidctest.New(t)
	op.Register(callback)
	t.Setenv("OIDC_TEST_SECRET", oidctest.Secret)
	cfg := config(op)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	i, err := New(cfg, callback)
	if err != nil {
		t.Fatal(err)
	}
	return i, op
}

// browse goes to the issuer as a browser does, and answers what it brings back.
func browse(t *testing.T, op *oidctest.Issuer, address string) url.Values {
	t.Helper()
	c := op.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	to, err := resp.Location()
	if err != nil {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("the issuer doesn't send back: %s %s", resp.Status, text)
	}
	return to.Query()
}

// TestIssuer_claims: what the issuers that people have put into their tokens.
func TestIssuer_claims(t *testing.T) {
	many := make([]string, maxGroups+1)
	for i := range many {
		many[i] = "g"
	}
	for name, tc := range map[string]struct {
		nameClaim, groupsClaim string
		claims                 map[string]any
		want                   string // somebody's name with a right, or what is wrong
	}{
		"Entra ID's groups by their ids": {"preferred_username", "groups", map[string]any{
			"preferred_username": "ann@example.com", "tid": "t", "oid": "o", "groups": []string{"1b1d1c1e-0000-4000-8000-000000000001"},
		}, "ann@example.com admin"},
		"Entra ID's application roles": {"preferred_username", "roles", map[string]any{"preferred_username": "ann@example.com", "roles": []string{"platform"}}, "ann@example.com admin"},
		"Entra ID with too many groups": {"preferred_username", "groups", map[string]any{
			"preferred_username": "ann@example.com", "_claim_names": map[string]any{"groups": "src1"},
			"_claim_sources": map[string]any{"src1": map[string]any{"endpoint": "https://graph.windows.net/t/users/o/getMemberObjects"}},
		}, "too many for a token"},
		"Entra ID with too many groups in the browser's flow": {"preferred_username", "groups", map[string]any{"preferred_username": "ann@example.com", "hasgroups": true}, "too many for a token"},
		"Entra ID with too many groups, of somebody who is named": {"preferred_username", "groups", map[string]any{
			"preferred_username": "eve@example.com", "_claim_names": map[string]any{"groups": "src1"},
			"_claim_sources": map[string]any{"src1": map[string]any{"endpoint": "https://graph.windows.net/t/users/o/getMemberObjects"}},
		}, "eve@example.com viewer"},
		"Google, who tells no groups":    {"email", "groups", map[string]any{"email": "eve@example.com", "email_verified": true, "hd": "example.com"}, "eve@example.com viewer"},
		"Google, somebody else":          {"email", "groups", map[string]any{"email": "mal@example.com", "email_verified": true, "hd": "example.com"}, "neither the name nor a group"},
		"an address that isn't verified": {"email", "groups", map[string]any{"email": "eve@example.com", "email_verified": false}, "hasn't verified"},
		"GitLab":                         {"preferred_username", "groups_direct", map[string]any{"preferred_username": "ann", "groups_direct": []string{"platform", "other/sub"}}, "ann admin"},
		"GitLab's owners, a claim's URL": {"preferred_username", "https://gitlab.org/claims/groups/owner", map[string]any{"preferred_username": "ann", "https://gitlab.org/claims/groups/owner": []string{"platform"}}, "ann admin"},
		"a job of GitLab's":              {"project_path", "namespace_path", map[string]any{"project_path": "platform/site", "namespace_path": "platform", "ref": "main"}, "platform/site admin"},
		"Keycloak's groups":              {"preferred_username", "groups", map[string]any{"preferred_username": "ann", "groups": []string{"/teams/platform"}}, "ann admin"},
		"Keycloak's roles of the realm":  {"preferred_username", "realm_access.roles", map[string]any{"preferred_username": "ann", "realm_access": map[string]any{"roles": []string{"platform"}}}, "ann admin"},
		"Keycloak's roles of the client": {"preferred_username", "resource_access.reeve.roles", map[string]any{"preferred_username": "ann", "resource_access": map[string]any{"reeve": map[string]any{"roles": []string{"platform"}}}}, "ann admin"},
		"Keycloak, another client's":     {"preferred_username", "resource_access.reeve.roles", map[string]any{"preferred_username": "ann", "resource_access": map[string]any{"account": map[string]any{"roles": []string{"platform"}}}}, "neither the name nor a group"},
		"a claim whose name has dots":    {"email", "example.com/groups", map[string]any{"email": "ann@example.com", "example.com/groups": "platform"}, "ann@example.com admin"},
		"Dex, by a connector for GitHub": {"email", "groups", map[string]any{"email": "ann@example.com", "email_verified": true, "groups": []string{"org:team", "platform"}}, "ann@example.com admin"},
		"groups that are no texts":       {"email", "groups", map[string]any{"email": "ann@example.com", "groups": []int{1}}, "isn't a list of groups"},
		"groups that are an object":      {"email", "groups", map[string]any{"email": "ann@example.com", "groups": map[string]any{"platform": true}}, "isn't a list of groups"},
		"a path that ends in an object":  {"email", "realm_access", map[string]any{"email": "ann@example.com", "realm_access": map[string]any{"roles": []string{"platform"}}}, "isn't a list of groups"},
		"a path through what isn't one":  {"email", "groups.roles", map[string]any{"email": "ann@example.com", "groups": []string{"platform"}}, "neither the name nor a group"},
		"more groups than anybody is in": {"email", "groups", map[string]any{"email": "ann@example.com", "groups": many}, "isn't a list of groups"},
		"no name":                        {"email", "groups", map[string]any{"groups": []string{"platform"}}, "holds no name"},
		"a name that isn't text":         {"email", "groups", map[string]any{"email": 7, "groups": []string{"platform"}}, "holds no name"},
		"a name that would forge a line": {"email", "groups", map[string]any{"email": "ann\nadmin", "groups": []string{"platform"}}, "holds no name"},
	} {
		t.Run(name, func(t *testing.T) {
			op := oidctest.New(t)
			cfg := config(op)
			cfg.NameClaim, cfg.GroupsClaim, cfg.ClientID, cfg.ClientSecretEnv = tc.nameClaim, tc.groupsClaim, "", ""
			cfg.Roles[0].Groups = append(cfg.Roles[0].Groups, "/teams/platform", "1b1d1c1e-0000-4000-8000-000000000001")
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			i, err := New(cfg, callback)
			if err != nil {
				t.Fatal(err)
			}
			p, err := i.Verify(t.Context(), op.Token("reeve-cli", tc.claims))
			got := fmt.Sprintf("%s %s", p.Name, p.Rights.Role())
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tc.want) {
				t.Errorf("%s; want %s", got, tc.want)
			}
		})
	}
}

func TestIssuer_login(t *testing.T) {
	i, op := start(t)
	op.LogIn(map[string]any{"email": "ann@example.com", "email_verified": true, "groups": []string{"team-b", "other"}})
	address, attempt, err := i.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	brought := browse(t, op, address)
	p, err := i.Finish(t.Context(), attempt, brought)
	if err != nil {
		t.Fatal(err)
	}
	want := pki.Rights{{Role: pki.Scanner, Scope: fleet.Scope{Agents: []string{"prod-*"}, Namespaces: []string{"shop"}}}}
	if d := cmp.Diff(want, p.Rights); d != "" || p.Name != "ann@example.com" || p.Subject != "u-1" || !p.Expires.After(time.Now()) {
		t.Errorf("%+v: %s", p, d)
	}
	if _, err := i.Finish(t.Context(), attempt, brought); !errors.Is(err, pki.ErrForeign) {
		t.Errorf("a code that was used: %v", err)
	}

	// Another's login must not become this browser's.
	mine, other := attempt, attempt
	if address, mine, err = i.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	brought = browse(t, op, address)
	if _, other, err = i.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Finish(t.Context(), other, brought); !errors.Is(err, pki.ErrForeign) {
		t.Errorf("another's state: %v", err)
	}
	forged := []byte(strings.Replace(string(mine), `"verifier":"`, `"verifier":"x`, 1))
	if _, err := i.Finish(t.Context(), forged, brought); !errors.Is(err, pki.ErrForeign) {
		t.Errorf("another's verifier: %v", err)
	}
	for _, bad := range []string{"", "{}", `{"state":""}`} {
		if _, err := i.Finish(t.Context(), []byte(bad), url.Values{"code": {"x"}}); !errors.Is(err, pki.ErrForeign) {
			t.Errorf("attempt %q: %v", bad, err)
		}
	}

	op.LogIn(nil)
	if address, attempt, err = i.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Finish(t.Context(), attempt, browse(t, op, address)); !errors.Is(err, pki.ErrForeign) || !strings.Contains(err.Error(), "access_denied") {
		t.Errorf("a refused login: %v", err)
	}
}

func TestIssuer_Verify(t *testing.T) {
	i, op := start(t)
	ann := map[string]any{"email": "ann@example.com", "groups": "platform"}
	with := func(name string, value any) map[string]any {
		out := map[string]any{}
		for k, v := range ann {
			out[k] = v
		}
		out[name] = value
		return out
	}
	good := op.Token("reeve-cli", ann)
	for range 50 {
		if p, err := i.Verify(t.Context(), good); err != nil || p.Rights.Role() != pki.Admin {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	if p, err := i.Verify(t.Context(), op.Token("reeve-cli", map[string]any{"email": "eve@example.com"})); err != nil || p.Rights.Role() != pki.Viewer {
		t.Errorf("by name: %+v, %v", p, err)
	}
	if n := op.KeysRead(); n != 1 {
		t.Errorf("the keys were asked for %d times", n)
	}
	other := oidctest.New(t)
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"another audience":  {op.Token(oidctest.ClientID, ann), pki.ErrForeign},
		"expired":           {op.Token("reeve-cli", with("exp", time.Now().Add(-time.Minute).Unix())), pki.ErrExpired},
		"another issuer":    {op.Token("reeve-cli", with("iss", "https://other.example")), pki.ErrForeign},
		"another's key":     {other.Token("reeve-cli", with("iss", op.URL)), pki.ErrForeign},
		"no algorithm":      {"eyJhbGciOiJub25lIn0." + strings.Split(good, ".")[1] + ".", pki.ErrForeign},
		"cut":               {good[:len(good)-5], pki.ErrForeign},
		"no JWT":            {"reeve_x_y", pki.ErrMalformed},
		"no name":           {op.Token("reeve-cli", map[string]any{"groups": "platform"}), pki.ErrMalformed},
		"a name of lines":   {op.Token("reeve-cli", with("email", "a\nb")), pki.ErrMalformed},
		"an address unseen": {op.Token("reeve-cli", with("email_verified", false)), pki.ErrForeign},
		"odd groups":        {op.Token("reeve-cli", with("groups", map[string]int{"a": 1})), pki.ErrMalformed},
		"no rights":         {op.Token("reeve-cli", with("groups", []string{"x"})), pki.ErrNoRights},
	} {
		p, err := i.Verify(t.Context(), c.token)
		if !errors.Is(err, c.want) || len(p.Rights) > 0 {
			t.Errorf("%s: %+v, %v; want %v", name, p, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), strings.Split(good, ".")[0]) {
			t.Errorf("%s: the error holds the token: %v", name, err)
		}
	}

	op.Rotate(t)
	if _, err := i.Verify(t.Context(), op.Token("reeve-cli", ann)); err != nil {
		t.Errorf("a new key: %v", err)
	}
}

// Tokens that nobody knows don't have the issuer asked for keys each time.
func TestIssuer_Verify_isBounded(t *testing.T) {
	i, op := start(t)
	other := oidctest.New(t)
	if _, err := i.Verify(t.Context(), op.Token("reeve-cli", map[string]any{"email": "eve@example.com"})); err != nil {
		t.Fatal(err)
	}
	for range 200 {
		other.Rotate(t)
		if _, err := i.Verify(t.Context(), other.Token("reeve-cli", map[string]any{"iss": op.URL})); err == nil {
			t.Fatal("taken")
		}
	}
	if n := op.KeysRead(); n > 50 {
		t.Errorf("the keys were asked for %d times", n)
	}
	if _, err := i.Verify(t.Context(), op.Token("reeve-cli", map[string]any{"email": "eve@example.com"})); err != nil {
		t.Errorf("a known key: %v", err)
	}
}

// A hub starts while its issuer is away.
func TestIssuer_away(t *testing.T) {
	i, op := start(t)
	token := op.Token("reeve-cli", map[string]any{"email": "eve@example.com"})
	op.Close()
	if _, _, err := i.Begin(t.Context()); !errors.Is(err, pki.ErrIssuerAway) {
		t.Errorf("begin: %v", err)
	}
	if _, err := i.Verify(t.Context(), token); !errors.Is(err, pki.ErrIssuerAway) {
		t.Errorf("verify: %v", err)
	}
}

func TestConfig_Validate(t *testing.T) {
	op := oidctest.New(t)
	if err := Defaults().Validate(); err != nil {
		t.Errorf("none: %v", err)
	}
	for want, change := range map[string]func(*Config){
		"oidc.issuer: it is missing": func(c *Config) { c.Issuer = "" },
		"it must be the URL":         func(c *Config) { c.Issuer = "http://x" },
		"for nothing":                func(c *Config) { c.ClientID, c.Audiences = "", nil },
		"keep one":                   func(c *Config) { c.ClientSecretFile = "f" },
		"nobody may do anything":     func(c *Config) { c.Roles = nil },
		"oidc.roles[1]: it is for":   func(c *Config) { c.Roles[1].Groups = nil },
		`oidc.roles[0].role "root"`:  func(c *Config) { c.Roles[0].Role = "root" },
		"oidc.roles[1].agents[0]":    func(c *Config) { c.Roles[1].Agents = []string{"A"} },
		"groupsClaim must not":       func(c *Config) { c.GroupsClaim = "" },
	} {
		cfg := config(op)
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	cfg := config(op)
	cfg.ClientSecretEnv = "OIDC_NONE"
	if _, err := New(cfg, callback); err == nil {
		t.Error("a secret that isn't there was taken")
	}
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// However many wait for an issuer that is away, it is asked only so often.
func TestIssuer_away_askedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		i, err := New(Config{Issuer: "https://id.example", ClientID: "hub"}, callback)
		if err != nil {
			t.Fatal(err)
		}
		i.client = &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
			asked++
			return nil, errors.New("no route")
		})}
		for _, want := range []int{1, 1, 2} {
			if want == 2 {
				time.Sleep(askAgain)
			}
			if _, _, err := i.Begin(t.Context()); !errors.Is(err, pki.ErrIssuerAway) || asked != want {
				t.Errorf("begin: %v; it was asked %d times, want %d", err, asked, want)
			}
		}
	})
}
