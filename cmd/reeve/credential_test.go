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
// can't be reached it is used to its end, but not when the hub refuses.
func TestCluster_cached(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	answer := func(w http.ResponseWriter) {
		json.NewEncoder(w).Encode(api.Credential{Token: "at " + now.Format("15:04"), Expires: now.Add(time.Hour)})
	}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
	defer srv.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("REEVE_TOKEN", "reeve_x")
	hub := &hubFlags{url: srv.URL, ca: ca}
	c := &cluster{agent: "prod", service: "cluster", life: "1h"}
	expect := func(what string, at time.Duration, token string, until time.Duration) {
		t.Helper()
		begin := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
		now = begin.Add(at)
		got, err := c.cached(t.Context(), hub, now)
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
	answer = func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }
	var refused *problem
	if _, err := c.cached(t.Context(), hub, now); !errors.As(err, &refused) || refused.Status != http.StatusForbidden {
		t.Errorf("the hub refuses: %v", err)
	}
	answer = func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }
	now = now.Add(time.Hour)
	if got, err := c.cached(t.Context(), hub, now); err == nil {
		t.Errorf("when it is over: %v", got)
	}

	// It is for the user's eyes only, and one for each holder.
	dir := filepath.Join(os.Getenv("XDG_CACHE_HOME"), "reeve", "kubeconfig")
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 || !strings.HasSuffix(info.Name(), ".json") {
		t.Errorf("%v, %v", info, err)
	}
	here, err := c.cacheFile(hub)
	if err != nil {
		t.Fatal(err)
	}
	other := *c
	other.holder = "alice"
	if there, _ := other.cacheFile(hub); there == here {
		t.Error("another holder has the same credential")
	}
}
