package agent_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/store/sqlite"
)

const secret = "secret"

var quiet = slog.New(slog.DiscardHandler)

// newToken makes a CA and a join token of it.
func newToken(t *testing.T) (*pki.CA, pki.Token, string) {
	t.Helper()
	ca, err := pki.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	token, text, err := ca.NewJoinToken("edge", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca, token, text
}

func newAgent(t *testing.T, dir, hub, token string) *agent.Agent {
	t.Helper()
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cfg := agent.Defaults()
	cfg.Hub.URL, cfg.Hub.JoinTokenFile = hub, write("token", token)
	cfg.DataDir, cfg.Metrics = dir, "127.0.0.1:0"
	cfg.Insights.Listen, cfg.Insights.TokenSecretFile = "127.0.0.1:0", write("secret", secret)
	a, err := agent.New(cfg, "test", quiet)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// An agent that can't join yet says that it lives, takes what workloads hand
// in, and ends when it is told to, whatever the reason.
func TestAgent_Run_withoutAHub(t *testing.T) {
	dir := t.TempDir()
	_, _, token := newToken(t)
	a := newAgent(t, dir, "https://127.0.0.1:1", token)
	ctx, stop := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()

	client := &http.Client{Timeout: 5 * time.Second}
	for path, want := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusServiceUnavailable} {
		resp, err := client.Get("http://" + a.MetricsAddr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, resp.Status, want)
		}
	}
	jwt, err := lagoon.NewToken([]byte(secret), lagoon.Namespace{Name: "shop", EnvironmentID: "7", ProjectName: "shop", EnvironmentName: "main"}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+a.IngestAddr().String()+"/facts", strings.NewReader(`[{"name":"php","value":"8"}]`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", jwt)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Errorf("facts: %s %s", resp.Status, text)
	}
	if items, err := filepath.Glob(filepath.Join(dir, "spool", "insights", "*.item")); err != nil || len(items) != 1 {
		t.Errorf("on the disk: %q, %v", items, err)
	}
	stop(errors.New("terminated"))
	if err := <-done; err != nil {
		t.Errorf("an orderly end is %v", err)
	}
}

// An agent that was away for too long, and has the token that it joined with
// still in its environment, says what is wrong and what to do.
func TestAgent_Run_awayTooLong(t *testing.T) {
	ca, token, text := newToken(t)
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "reeve.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.CreateToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(pki.EnrollPath, ca.EnrollHandler(db, -time.Second, quiet))
	mux.Handle(pki.RenewPath, ca.RenewHandler(ca.Peers(), time.Hour, 0, quiet))
	conf, err := ca.ServerTLS([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	conf.ClientAuth = tls.RequestClientCert
	hub := httptest.NewUnstartedServer(mux)
	hub.Listener = tls.NewListener(hub.Listener, conf)
	hub.Start()
	defer hub.Close()
	url := "https://" + hub.Listener.Addr().String()

	dir := t.TempDir()
	if _, err := pki.Enroll(t.Context(), url, text, filepath.Join(dir, "identity"), ""); err != nil {
		t.Fatal(err)
	}
	err = newAgent(t, dir, url, text).Run(t.Context())
	if err == nil {
		t.Fatal("it runs")
	}
	for _, want := range []string{"certificate: expired on", "used already", "ask for a new one"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q doesn't say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), text) {
		t.Errorf("%q holds the token", err)
	}
}
