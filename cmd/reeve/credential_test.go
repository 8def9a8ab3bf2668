package main

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/api"
)

// A token is used for two thirds of its life, then renewed; while the hub
// can't be reached, or isn't ready, it is used to its end, but not when it refuses.
func TestRenewer_cached(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	answer := func(w http.ResponseWriter) {
		json.NewEncoder(w).Encode(api.Credential{Token: "at " + now.Format("15:04"), Expires: now.Add(time.Hour)})
	}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" || r.URL.Path != "/api/v1/credentials/renew" || r.Header.Get("Authorization") != "Bearer grant" {
			t.Errorf("asked %s %s with %q", r.Method, r.URL, r.Header)
		}
		answer(w)
	}))
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REEVE_TOKEN", "reeve_x") // isn't for this
	c := &renewer{hub: &hubFlags{url: srv.URL, ca: ca}, grant: "grant"}
	expect := func(what string, at time.Duration, token string, until time.Duration) {
		t.Helper()
		begin := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
		now = begin.Add(at)
		got, err := c.cached(t.Context(), now)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if want := (execStatus{begin.Add(until), token}); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	expect("the first", 0, "at 12:00", 40*time.Minute)
	expect("while it is young", 39*time.Minute, "at 12:00", 40*time.Minute)
	expect("renewed", 41*time.Minute, "at 12:41", 81*time.Minute)
	answer = func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }
	expect("the hub is away", 90*time.Minute, "at 12:41", 101*time.Minute)
	answer = func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusServiceUnavailable)
		w.Write([]byte(`{"status":503,"detail":"not ready"}`))
	}
	expect("the hub isn't ready", 90*time.Minute, "at 12:41", 101*time.Minute)
	answer = func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusUnauthorized)
		w.Write([]byte(`{"status":401,"detail":"the grant was revoked"}`))
	}
	var refused *problem
	if _, err := c.cached(t.Context(), now); !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
		t.Errorf("the hub refuses: %v", err)
	}
	answer = func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }
	now = now.Add(time.Hour)
	if got, err := c.cached(t.Context(), now); err == nil {
		t.Errorf("when it is over: %v", got)
	}

	// It is for the user's eyes only, and one for each grant.
	dir := filepath.Join(os.Getenv("XDG_CACHE_HOME"), "reeve", "kubeconfig")
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 || !strings.HasSuffix(info.Name(), ".json") {
		t.Errorf("%v, %v", info, err)
	}
	here, err := c.cacheFile()
	if err != nil {
		t.Fatal(err)
	}
	other := renewer{hub: c.hub, grant: "alice's"}
	if there, _ := other.cacheFile(); there == here {
		t.Error("another grant has the same credential")
	}
}
