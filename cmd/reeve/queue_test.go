package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store/postgres/postgrestest"
)

// Two replicas of a hub share the queue on PostgreSQL, with agents and callers
// at both. One is killed while scans are asked for, leased, run and told: each
// that was asked for is there once, and is completed.
func TestReplicas_queue(t *testing.T) {
	server := postgrestest.Start(t)
	dir, database := t.TempDir(), server.URL(t)
	ca, err := pki.Init(filepath.Join(dir, "ca"), "test")
	if err != nil {
		t.Fatal(err)
	}
	hubs := []*process{startReplica(t, dir, database, 0), startReplica(t, dir, database, 1)}
	for key, value := range map[string]string{
		"REEVE_HUB": hubs[1].api, "REEVE_CA": filepath.Join(dir, "ca", "ca.pem"),
		"REEVE_CERT": filepath.Join(dir, "ca", "control.pem"), "REEVE_KEY": filepath.Join(dir, "ca", "control-key.pem"),
	} {
		t.Setenv(key, value)
	}
	target := filepath.Join(dir, "root")
	if err := root(target); err != nil {
		t.Fatal(err)
	}
	agents := []string{"east", "west"}
	for _, name := range agents {
		var token, errs bytes.Buffer
		if code := run(t.Context(), []string{"token", "create", "--agent", name}, nil, &token, &errs); code != 0 {
			t.Fatalf("token create: %s", errs.String())
		}
		config := filepath.Join(dir, name+".yaml")
		text, err := json.Marshal(map[string]any{
			"dataDir": filepath.Join(dir, name), "metrics": "", "scan": map[string]any{"targets": []string{"dir"}},
			"hub": map[string]any{"url": hubs[0].api, "urls": []string{hubs[1].api}, "carrierCount": 2},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(config, text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, log := startProcess(t, []string{"REEVE_JOIN_TOKEN=" + strings.TrimSpace(token.String())}, "agent", "--config", config)
		go io.Copy(io.Discard, log)
	}

	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca", "control.pem"), filepath.Join(dir, "ca", "control-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: 16, TLSClientConfig: &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{pair}},
	}}
	t.Cleanup(client.CloseIdleConnections)
	call := func(ctx context.Context, hub *process, method, path, key, body string, into any) error {
		req, err := http.NewRequestWithContext(ctx, method, hub.api+"/api/v1"+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		if key != "" {
			req.Header.Set("Idempotency-Key", key)
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode/100 != 2 {
			err = fmt.Errorf("%s: %s", resp.Status, text)
		}
		if err != nil {
			return err
		}
		return json.Unmarshal(text, into)
	}

	const scans = 120
	ids := make([]scan.ID, scans)
	var asking sync.WaitGroup
	room := make(chan struct{}, 8)
	for n := range scans {
		if n == scans/3 {
			if err := hubs[0].Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		room <- struct{}{}
		asking.Go(func() {
			defer func() { <-room }()
			body := fmt.Sprintf(`{"target":{"agent":%q,"uri":"dir:%s"},"scan":{"profile":"container-baseline","threshold":"moderate"}}`, agents[n%2], target)
			// Who gets no answer asks again, here or there, by the same key.
			for try := 0; ; try++ {
				var s api.Scan
				err := call(t.Context(), hubs[(n+try)%2], http.MethodPost, "/scans", fmt.Sprint("scan-", n), body, &s)
				if err == nil {
					ids[n] = s.ID
					return
				}
				if try == 300 || t.Context().Err() != nil {
					t.Errorf("scan %d: %v", n, err)
					return
				}
				time.Sleep(100 * time.Millisecond) // an agent that hasn't joined yet, or a hub that is gone
			}
		})
	}
	asking.Wait()
	if t.Failed() {
		return
	}
	want := map[scan.ID]bool{}
	for _, id := range ids {
		want[id] = true
	}
	if len(want) != scans {
		t.Errorf("%d requests led to %d scans", scans, len(want))
	}
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		kept, again := listScans(t, func(path string, into any) error {
			return call(t.Context(), hubs[1], http.MethodGet, path, "", "", into)
		})
		done := 0
		for id, s := range kept {
			if !want[id] {
				t.Fatalf("scan %s was asked for by nobody: %+v", id, s)
			}
			if s.Status == scan.Completed && s.Links.Results != "" {
				done++
			} else if s.Status.Final() {
				t.Fatalf("scan %s: %s: %s", id, s.Status, s.Reason)
			}
		}
		if len(kept) != scans {
			t.Fatalf("the hub has %d scans of %d", len(kept), scans)
		}
		if done == scans {
			t.Logf("%d scans were tried again", again)
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d scans are completed", done, scans)
		}
	}
}

// listScans are all scans that a hub has, and how many of them were tried more
// than once.
func listScans(t *testing.T, get func(path string, into any) error) (all map[scan.ID]api.Scan, again int) {
	t.Helper()
	all = map[scan.ID]api.Scan{}
	for before := ""; ; {
		var p struct {
			Items []api.Scan
			Next  string
		}
		if err := get("/scans?limit=500&before="+url.QueryEscape(before), &p); err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Items {
			if _, ok := all[s.ID]; ok {
				t.Fatalf("scan %s is listed twice", s.ID)
			}
			if all[s.ID] = s; s.Attempt > 1 {
				again++
			}
		}
		if before = p.Next; before == "" {
			return all, again
		}
	}
}
