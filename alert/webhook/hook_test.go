package webhook

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/credential"
	"reeve.dev/reeve/fleet"
)

func TestHook_Deliver(t *testing.T) {
	type request struct {
		header http.Header
		body   []byte
	}
	got := make(chan request, 1)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- request{r.Header, body}
	}))
	defer srv.Close()
	dir := t.TempDir()
	ca, secrets := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "secrets")
	for path, text := range map[string]string{
		ca: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})), secrets: secretOf('a'),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h, err := NewHook(HookConfig{URL: srv.URL, TLS: credential.TLS{CAFile: ca}, Secrets: SecretsIn(secrets, "")})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	at := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	a := alert.Alert{ID: "3f2a", Seq: 7, Outcome: fleet.Outcome{
		Subject: fleet.Subject{Owner: "edge/shop", Repo: "web"}, Policy: "base", Run: "0193", Details: "3 failed", At: at,
	}}
	if err := h.Deliver(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	r := <-got
	key, err := ParseSecret(secretOf('a'))
	if err != nil {
		t.Fatal(err)
	}
	if want := sign([][]byte{key}, "3f2a", r.header.Get("webhook-timestamp"), r.body); r.header.Get("webhook-signature") != want || r.header.Get("webhook-id") != "3f2a" {
		t.Errorf("header %v", r.header)
	}
	var body map[string]any
	if err := json.Unmarshal(r.body, &body); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"type": "check.failed", "timestamp": "2026-11-22T09:00:00Z", "data": map[string]any{
		"owner": "edge/shop", "repo": "web", "policy": "base", "pass": false, "details": "3 failed", "run": "0193", "seq": 7.0,
	}}
	if d := cmp.Diff(want, body); d != "" {
		t.Errorf("body (-want +got):\n%s", d)
	}
	ended := a
	ended.Outcome.Gone = true
	if err := h.Deliver(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	if r := <-got; !strings.Contains(string(r.body), `"type":"check.ended"`) {
		t.Errorf("of what isn't checked any more: %s", r.body)
	}
	// Nothing goes unsigned because a secret is gone.
	os.Remove(secrets)
	if err := h.Deliver(t.Context(), a); err == nil || !strings.Contains(err.Error(), "secrets") || len(got) > 0 {
		t.Errorf("without its secret: %v", err)
	}
}
