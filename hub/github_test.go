package hub_test

import (
	std "cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert/credential"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/insight"
	insightlink "reeve.dev/reeve/insight/link"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/policy/github"
	"reeve.dev/reeve/policy/github/githubtest"
	"reeve.dev/reeve/tunnel"
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

// TestHub_policyIssues: a policy on workloads opens an issue in the repository of
// its sink, and closes it.
func TestHub_policyIssues(t *testing.T) {
	s := githubtest.New()
	tickets := s.Add("acme", "tickets")
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	cfg := config(t)
	token := filepath.Join(t.TempDir(), "token")
	write(t, token, "ghp_x\n")
	cfg.Sinks = []hub.SinkConfig{{Name: "tickets", Type: "issue", Endpoint: server.URL, Repository: "acme/tickets", TokenFile: token}}
	cfg.Policies = []policy.Policy{{Name: "own", Check: policy.Check{Image: &policy.ImageCheck{From: []string{"own/*"}}}, Actions: []policy.Action{{Kind: "issue", Name: "tickets"}}}}
	h := start(t, cfg)
	a := newAgent(t, h.dial(t, h.enrolled(t, "east"), tunnel.WebSocket), http.NotFoundHandler())
	a.register(t, "east", "i1", nil)
	reporter := &insightlink.Client{Base: "http://hub", HTTP: a.http, Logger: slog.New(slog.DiscardHandler)}
	w := insight.Workload{Namespace: "web", Kind: "Deployment", Name: "shop", Container: "app", Image: "reg/shop:1", Digest: "sha256:1"}
	report := func() {
		t.Helper()
		if err := reporter.SendInventory(t.Context(), insight.Inventory{Workloads: []insight.Workload{w}}); err != nil {
			t.Fatal(err)
		}
	}
	report()
	stands := func(state string) {
		t.Helper()
		until(t, "the issue is "+state, func() bool {
			s.Lock()
			defer s.Unlock()
			return len(tickets.Issues) == 1 && tickets.Issues[0].State == state
		})
	}
	stands("open")
	if i := tickets.Issues[0]; i.Title != "Policy violation: own on east/web Deployment/shop/app" || !slices.Equal(i.Labels, []string{"reeve"}) || !strings.Contains(i.Body, "image reg/shop:1 isn't from own/*") {
		t.Errorf("the issue: %+v", i)
	}
	w.Image, w.Digest = "own/shop:2", "sha256:2"
	report()
	stands("closed")
}

func TestConfig_issueSink(t *testing.T) {
	for want, c := range map[string]hub.SinkConfig{
		`repository "": it must`:           {TokenFile: "t"},
		`repository "acme": it must`:       {Repository: "acme", TokenFile: "t"},
		`repository "acme/a/b": it must`:   {Repository: "acme/a/b", TokenFile: "t"},
		`repository "acme/..": it must`:    {Repository: "acme/..", TokenFile: "t"},
		`endpoint "http://x": it must be`:  {Repository: "acme/a", TokenFile: "t", Endpoint: "http://x"},
		"label: GitHub takes 50":           {Repository: "acme/a", TokenFile: "t", Label: strings.Repeat("x", 51)},
		"appID or tokenFile":               {Repository: "acme/a"},
		"privateKeyFile: the App's":        {Repository: "acme/a", AppID: 1},
		"appID and a token are both":       {Repository: "acme/a", AppID: 1, PrivateKeyFile: "k", TokenEnv: "T"},
		"a file and a variable are":        {Repository: "acme/a", TokenFile: "t", TokenEnv: "T"},
		"credential: a sink of":            {Repository: "acme/a", Credential: credential.Config{Type: "token-file", File: "t"}},
		"group: a sink of the type issue":  {Repository: "acme/a", TokenFile: "t", Group: 1e9},
		"secretFile: a sink of the":        {Repository: "acme/a", TokenFile: "t", SecretFile: "s"},
		"label: a sink of the type slack":  {Type: "slack", Endpoint: "https://x", Label: "x"},
		"appID: a sink of the type rpc":    {Type: "rpc", Endpoint: "x:1", AppID: 1},
		"tokenEnv: a sink of the type rpc": {Type: "rpc", Endpoint: "x:1", TokenEnv: "T"},
	} {
		c.Name, c.Type = "x", std.Or(c.Type, "issue")
		cfg := hub.Defaults()
		cfg.Sinks = []hub.SinkConfig{c}
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in %v", want, err)
		}
	}
}
