package agent_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/doctor"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/store/sqlite"
	"reeve.dev/reeve/tunnel"
)

// doctored is a hub as far as a doctor asks, and a token of it.
func doctored(t *testing.T) (url, token string) {
	t.Helper()
	ca, join, text := newToken(t)
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "reeve.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.CreateToken(t.Context(), join); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/openapi.json", func(http.ResponseWriter, *http.Request) {})
	mux.Handle(tunnel.Path, tunnel.Handler(tunnel.Config{}, func(_ context.Context, s *tunnel.Session, _ *tls.ConnectionState) { <-s.Done() }))
	mux.Handle(pki.EnrollPath, ca.EnrollHandler(db, time.Hour, quiet))
	conf, err := ca.ServerTLS(nil)
	if err != nil {
		t.Fatal(err)
	}
	conf.ClientAuth, conf.NextProtos = tls.RequestClientCert, []string{"http/1.1"}
	srv := httptest.NewUnstartedServer(mux)
	srv.TLS = conf
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return strings.Replace(srv.URL, "127.0.0.1", "localhost", 1), text
}

// findings are what a doctor says, as "check level: what" with what to do.
func findings(t *testing.T, cfg agent.Config) string {
	t.Helper()
	got, err := agent.Doctor(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range got {
		if (f.Level == doctor.OK) != (f.Do == "") {
			t.Errorf("%s %s: to do: %q", f.Check, f.Level, f.Do)
		}
		b.WriteString(f.Check + " " + string(f.Level) + ": " + f.What + " → " + f.Do + "\n")
	}
	return b.String()
}

func TestDoctor(t *testing.T) {
	url, token := doctored(t)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/locked" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer service.Close()
	cfg := agent.Defaults()
	cfg.Hub.URL, cfg.Hub.JoinTokenEnv, cfg.DataDir = url, "DOCTOR_TOKEN", t.TempDir()
	cfg.Hub.Carriers = []tunnel.Carrier{tunnel.WebSocket}
	cfg.Services = []forward.Upstream{
		{Type: "x-web", Name: "open", URL: service.URL},
		{Type: "x-web", Name: "locked", URL: service.URL + "/locked"},
	}
	say := func(got string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("no %q in:\n%s", w, got)
			}
		}
		if strings.Contains(got, token) {
			t.Errorf("the token is in:\n%s", got)
		}
	}

	say(findings(t, cfg), "tls problem: this agent has no certificate yet, and no join token", "DOCTOR_TOKEN")

	t.Setenv("DOCTOR_TOKEN", token)
	say(findings(t, cfg), "tls ok", "clock ok",
		"service ok: service x-web/open answers 200", "service problem: service x-web/locked doesn't take the agent's credential (401)")

	_, _, other := newToken(t)
	t.Setenv("DOCTOR_TOKEN", other)
	say(findings(t, cfg), "tls problem", "the one that the join token names")

	if _, err := pki.Enroll(t.Context(), url, token, filepath.Join(cfg.DataDir, "identity"), ""); err != nil {
		t.Fatal(err)
	}
	joined := findings(t, cfg)
	say(joined, "tls ok", "carrier ok: websocket works")
	if strings.Contains(joined, "token") {
		t.Errorf("an agent that has joined needs no token:\n%s", joined)
	}

	identity, err := filepath.Glob(filepath.Join(cfg.DataDir, "identity", "*"))
	if err != nil || len(identity) == 0 {
		t.Fatal(identity, err)
	}
	for _, path := range identity {
		if err := os.WriteFile(path, []byte("not a key"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	say(findings(t, cfg), "tls problem", "needs a new join token")
}
