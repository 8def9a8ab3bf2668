package agent_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/pki"
)

const secret = "secret"

// newAgent makes an agent with a join token for a hub that isn't there.
func newAgent(t *testing.T, dir string) *agent.Agent {
	t.Helper()
	ca, err := pki.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	_, token, err := ca.NewJoinToken("edge", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cfg := agent.Defaults()
	cfg.Hub.URL, cfg.Hub.JoinTokenFile = "https://127.0.0.1:1", write("token", token)
	cfg.DataDir, cfg.Metrics = dir, "127.0.0.1:0"
	cfg.Insights.Listen, cfg.Insights.TokenSecretFile = "127.0.0.1:0", write("secret", secret)
	a, err := agent.New(cfg, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// An agent that can't join yet says that it lives, takes what workloads hand
// in, and ends when it is told to, whatever the reason.
func TestAgent_Run_withoutAHub(t *testing.T) {
	dir := t.TempDir()
	a := newAgent(t, dir)
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
	token, err := lagoon.NewToken([]byte(secret), lagoon.Namespace{Name: "shop", EnvironmentID: "7", ProjectName: "shop", EnvironmentName: "main"})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+a.IngestAddr().String()+"/facts", strings.NewReader(`[{"name":"php","value":"8"}]`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", token)
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
