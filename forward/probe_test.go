package forward_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
)

func TestAgent_Probe(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		switch {
		case r.URL.Path == "/sts":
			if !strings.Contains(r.Header.Get("Authorization"), "Credential=AKID/") || r.URL.Query().Get("Action") != "GetCallerIdentity" {
				http.Error(w, "who are you?", http.StatusForbidden)
			}
		case strings.HasPrefix(r.URL.Path, "/status/"):
			code := map[string]int{"401": 401, "403": 403, "404": 404, "503": 503}[strings.TrimPrefix(r.URL.Path, "/status/")]
			w.WriteHeader(code)
		case r.Header.Get("Authorization") != "Bearer good":
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer srv.Close()
	down := httptest.NewServer(nil)
	down.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("good"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PROBE_KEY", "AKID")
	t.Setenv("PROBE_SECRET", "secret")
	with := func(name fleet.ServiceName, url string, c forward.Credentials) forward.Upstream {
		return forward.Upstream{Type: "x-web", Name: name, URL: url, Credentials: c}
	}
	bearer := forward.Credentials{Type: "bearer", TokenFile: token}
	a, err := forward.NewAgent(forward.AgentConfig{Upstreams: []forward.Upstream{
		with("good", srv.URL, bearer),
		with("refused", srv.URL, forward.Credentials{}),
		with("forbidden", srv.URL+"/status/403", bearer),
		with("absent", srv.URL+"/status/404", bearer),
		with("ill", srv.URL+"/status/503", bearer),
		with("down", down.URL, bearer),
		with("unread", srv.URL, forward.Credentials{Type: "bearer", TokenFile: token + "-none"}),
		{Type: "aws", Name: "cloud", URL: srv.URL + "/sts", AWS: &forward.AWSConfig{AccessKeyEnv: "PROBE_KEY", SecretKeyEnv: "PROBE_SECRET"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		status   int
		what, do string // a part of each; "" as do: nothing is to be done
	}{
		"good":      {200, "answers 200", ""},
		"refused":   {401, "doesn't take the agent's credential", "may have expired"},
		"forbidden": {403, "doesn't let it read", "rights"},
		"absent":    {404, "answers 404", ""},
		"ill":       {503, "answers 503", "own log"},
		"down":      {0, "connection refused", "whether the service is up"},
		"unread":    {0, "its credential can't be read", "correct the files"},
		"cloud":     {200, "answers 200", ""},
	}
	got := a.Probe(t.Context())
	if len(got) != len(want) {
		t.Fatalf("%d answers, want %d", len(got), len(want))
	}
	for _, p := range got {
		w := want[string(p.Name)]
		what, do := p.Verdict()
		if p.Status != w.status || (p.Err == nil) != (w.status != 0) || !strings.Contains(what, w.what) || (do == "") != (w.do == "") || !strings.Contains(do, w.do) {
			t.Errorf("%s: %d, %v: %q, %q; want %+v", p.Name, p.Status, p.Err, what, do, w)
		}
	}
}
