package cloudevent_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
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
	"reeve.dev/reeve/alert/cloudevent"
	"reeve.dev/reeve/alert/credential"
	"reeve.dev/reeve/fleet"
)

func anAlert() alert.Alert {
	return alert.Alert{ID: "a1", Sink: "bus", Outcome: fleet.Outcome{
		Subject: fleet.Subject{Owner: "edge/shop", Repo: "web/app"}, Policy: "base/strict", Pass: false, Details: "one failed", Run: "s1",
		At: time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC),
	}}
}

// What is sent is a CloudEvent that says which kind of end it was.
func TestSink(t *testing.T) {
	for run, tc := range map[string]struct {
		scan *cloudevent.Scan
		typ  string
	}{
		"completed": {&cloudevent.Scan{Status: "completed", Told: map[string]any{"id": "s1"}}, cloudevent.ScanCompleted},
		"error":     {&cloudevent.Scan{Status: "error", Told: map[string]any{"id": "s1"}}, cloudevent.ScanError},
		"cancelled": {&cloudevent.Scan{Status: "cancelled", Told: map[string]any{"id": "s1"}}, cloudevent.ScanCancelled},
		"no scan":   {nil, cloudevent.CheckCompleted},
	} {
		var sent []byte
		s := cloudevent.New(cloudevent.Config{
			Source:   "https://hub.example",
			Describe: func(context.Context, string) (*cloudevent.Scan, error) { return tc.scan, nil },
			Send:     func(_ context.Context, body []byte) error { sent = body; return nil },
		})
		if err := s.Deliver(t.Context(), anAlert()); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"specversion": "1.0", "id": "a1", "source": "https://hub.example", "type": tc.typ, "subject": "edge/shop/web/app",
			"time": "2026-11-22T05:00:00Z", "datacontenttype": "application/json",
			"data": map[string]any{"subject": map[string]any{"owner": "edge/shop", "repo": "web/app"}, "policy": "base/strict", "passed": false, "details": "one failed"},
		}
		if tc.scan != nil {
			want["data"].(map[string]any)["scan"] = tc.scan.Told
		}
		var got map[string]any
		if err := json.Unmarshal(sent, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", run, d)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestHTTP(t *testing.T) {
	status, after := http.StatusAccepted, ""
	var got *http.Request
	var body string
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got, body = r, string(text)
		w.Header().Set("Retry-After", after)
		w.Header().Set("Location", "https://elsewhere.example")
		w.WriteHeader(status)
	}))
	defer srv.Close()
	dir := t.TempDir()
	token, ca := filepath.Join(dir, "token"), filepath.Join(dir, "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := errors.Join(os.WriteFile(token, []byte("hunter2\n"), 0o600), os.WriteFile(ca, cert, 0o600)); err != nil {
		t.Fatal(err)
	}
	source, err := credential.Known().New(credential.Config{Type: "token-file", File: token})
	if err != nil {
		t.Fatal(err)
	}
	send, done, err := cloudevent.HTTP(cloudevent.HTTPConfig{URL: srv.URL + "/secret-path", Token: source, TLS: credential.TLS{CAFile: ca}})
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	if err := send(t.Context(), []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if got.Header.Get("Authorization") != "Bearer hunter2" || !strings.HasPrefix(got.Header.Get("Content-Type"), "application/cloudevents+json") || body != "{}" {
		t.Errorf("sent %v %q", got.Header, body)
	}
	for code, class := range map[int]alert.Class{
		301: alert.Pause, 400: alert.Permanent, 401: alert.Pause, 404: alert.Pause, 413: alert.Permanent, 429: alert.Retry, 500: alert.Retry, 503: alert.Retry,
	} {
		status, after = code, "7"
		err := send(t.Context(), []byte(`{}`))
		var e *alert.Error
		if !errors.As(err, &e) || e.Class != class {
			t.Errorf("%d: %v", code, err)
			continue
		}
		if class == alert.Retry && e.After != 7*time.Second {
			t.Errorf("%d: again after %v", code, e.After)
		}
	}
	srv.Close()
	if err := send(t.Context(), []byte(`{}`)); err == nil || strings.Contains(err.Error(), "secret-path") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestHTTPConfig_Validate(t *testing.T) {
	for want, c := range map[string]cloudevent.HTTPConfig{
		"endpoint":               {URL: "http://"},
		"endpoint: it must not":  {URL: "https://u:p@h"},
		"endpoint: a token":      {URL: "http://h", Token: new(credential.Source)},
		"endpoint: it must be h": {URL: "ftp://h"},
	} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v; want an error of %s", err, want)
		}
	}
}
