package hub_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/policy/github"
	"reeve.dev/reeve/policy/github/githubtest"
)

const optOut = "optConfig: {optOutStrategy: true}\n"

// TestHub_repositories: a repository's policies are checked, lead to an rpc sink
// and to an issue, and are checked again when a webhook says that it changed.
func TestHub_repositories(t *testing.T) {
	s := githubtest.New()
	org := s.Add("acme", ".allstar")
	org.Put("allstar.yaml", optOut+"issueLabel: policies\n")
	org.Put("security.yaml", optOut+"action: issue\n")
	org.Put("branch_protection.yaml", optOut+"action: rpc\n")
	org.SecurityPolicy = true
	shop := s.Add("acme", "shop")
	changed := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.ServeHTTP(w, r)
		if r.Method == http.MethodPost || r.Method == http.MethodPatch {
			changed <- struct{}{}
		}
	}))
	t.Cleanup(server.Close)

	cfg := config(t)
	told := sink(t, &cfg)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "token"), "ghp_x\n")
	write(t, filepath.Join(dir, "hook"), "old-secret\nnew-secret\n")
	cfg.GitHub = []github.Config{{
		Name: "main", URL: server.URL, TokenFile: filepath.Join(dir, "token"), Organisations: []string{"acme"}, WebhookSecretFile: filepath.Join(dir, "hook"),
	}}
	h := start(t, cfg)

	var about []string
	for range 2 {
		o := (<-told).Outcome
		about = append(about, fmt.Sprintf("%s/%s %s %v", o.Subject.Owner, o.Subject.Repo, o.Policy, o.Pass))
	}
	if diff := cmp.Diff([]string{"acme/.allstar Branch Protection false", "acme/shop Branch Protection false"}, slices.Sorted(slices.Values(about))); diff != "" {
		t.Errorf("the rpc sink heard (-want +got):\n%s", diff)
	}
	issue := func(is func(*githubtest.Issue) bool) githubtest.Issue {
		t.Helper()
		for {
			s.Lock()
			for _, i := range shop.Issues {
				if is(i) {
					defer s.Unlock()
					return *i
				}
			}
			s.Unlock()
			select {
			case <-changed:
			case <-t.Context().Done():
				t.Fatal("no such issue was made")
			}
		}
	}
	got := issue(func(i *githubtest.Issue) bool { return i.State == "open" })
	if got.Title != "Security Policy violation SECURITY.md" || len(got.Labels) != 1 || got.Labels[0] != "policies" || !strings.Contains(got.Body, "There is no security policy") {
		t.Errorf("the issue: %+v", got)
	}

	s.Lock()
	shop.SecurityPolicy = true
	s.Unlock()
	body := `{"action":"edited","repository":{"name":"shop","owner":{"login":"acme"}}}`
	for _, c := range []struct {
		name, secret, path string
		status             int
	}{
		{"another's signature", "guess", "main", http.StatusUnauthorized},
		{"no signature", "", "main", http.StatusUnauthorized},
		{"another connection", "new-secret", "other", http.StatusNotFound},
		{"signed", "new-secret", "main", http.StatusAccepted},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+h.Addrs().API.String()+github.WebhookPath+c.path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-GitHub-Event", "repository")
		if c.secret != "" {
			mac := hmac.New(sha256.New, []byte(c.secret))
			mac.Write([]byte(body))
			req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
		}
		resp, err := h.client(t, nil).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: %d, want %d", c.name, resp.StatusCode, c.status)
		}
	}
	issue(func(i *githubtest.Issue) bool { return i.State == "closed" })
}

func TestConfig_github(t *testing.T) {
	for name, c := range map[string]github.Config{
		"github[0].name \"\"":      {TokenFile: "t", Organisations: []string{"a"}},
		"appID or tokenFile":       {Name: "a"},
		"organisations: with a t":  {Name: "a", TokenFile: "t"},
		"organisations[0] \"a/b\"": {Name: "a", TokenFile: "t", Organisations: []string{"a/b"}},
		"privateKeyFile: the App":  {Name: "a", AppID: 1},
		"appID and a token":        {Name: "a", AppID: 1, PrivateKeyFile: "k", TokenFile: "t"},
		"for the same secret":      {Name: "a", TokenFile: "t", TokenEnv: "T", Organisations: []string{"a"}},
		"url \"http://x\": it mus": {Name: "a", URL: "http://x", TokenFile: "t", Organisations: []string{"a"}},
		"interval 1s: it must":     {Name: "a", Interval: 1e9, TokenFile: "t", Organisations: []string{"a"}},
		"concurrency 101":          {Name: "a", Concurrency: 101, TokenFile: "t", Organisations: []string{"a"}},
		"rpc[0]: there is no sink": {Name: "a", RPC: []string{"x"}, TokenFile: "t", Organisations: []string{"a"}},
		"webhookSecretFile and":    {Name: "a", WebhookSecretFile: "f", WebhookSecretEnv: "E", TokenFile: "t", Organisations: []string{"a"}},
	} {
		cfg := hub.Defaults()
		cfg.GitHub = []github.Config{c}
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q in %v", name, err)
		}
	}
}
