package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/scan"
)

// A pod's only container needs no name: its agent finds it, and the scan's
// results are reported as if it had been named. Of a pod with several the agent
// says which there are.
func TestRemoteScan_Pod(t *testing.T) {
	const id = "01a20394-4849-7c61-b221-ab5a55432d26"
	const results = `{"platform":{"name":"x"},"version":"6","statistics":{},"profiles":[{"name":"p","sha256":"","controls":[{"id":"c-1","title":"all is well","impact":0.5,"tags":{},"refs":[],"results":[{"status":"passed","code_desc":"it is","run_time":0,"start_time":"2026-01-31T12:00:00Z"}]}]}]}`
	for name, tc := range map[string]struct {
		selection, scans string
		code             int
		says             string
	}{
		"one":         {`{"agent":"prod","status":"completed"}`, `{"id":"` + id + `","status":"completed","outcome":"passed","counts":{"passed":1}}`, 0, "c-1"},
		"several":     {`{"agent":"prod","status":"error","reason":"pod shop/web has several containers: name one of app, proxy"}`, "", exitBroken, "agent prod: pod shop/web has several containers: name one of app, proxy\n"},
		"not running": {`{"agent":"prod","status":"completed"}`, "", exitBroken, "pod/web doesn't run in namespace shop of agent prod's cluster\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked map[string]any
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				switch r.Method + " " + r.URL.Path {
				case "POST /api/v1/batches":
					if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
						t.Error(err)
					}
					io.WriteString(w, `{"id":"b","status":"done","selections":[`+tc.selection+`]}`)
				case "GET /api/v1/scans":
					io.WriteString(w, `{"items":[`+tc.scans+`]}`)
				case "GET /api/v1/scans/" + id + "/results":
					io.WriteString(w, results)
				default:
					http.NotFound(w, r)
				}
			}))
			defer s.Close()
			t.Setenv("REEVE_TOKEN", "reeve-api_x")
			var out, errs bytes.Buffer
			code := run(t.Context(), []string{"scan", "pod/web", "-n", "shop", "--hub", s.URL, "--ca", certificate(t, s), "--profile", "p"}, nil, &out, &errs)
			if code != tc.code || !strings.Contains(out.String()+errs.String(), tc.says) {
				t.Errorf("exit code %d: %s%s", code, &out, &errs)
			}
			want := map[string]any{"namespace": "shop", "workload": map[string]any{"kind": "Pod", "name": "web"}}
			if diff := cmp.Diff(want, asked["selector"]); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
		})
	}
}

// What a scan waits for is news only if it waits: one whose turn comes at once
// isn't said to.
func TestFollowScan(t *testing.T) {
	for name, tc := range map[string]struct {
		wait time.Duration
		says string
	}{
		"its turn comes at once": {0, ""},
		"it waits":               {2 * askAgain, "scan 7 waits for its turn\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				events, hub := io.Pipe()
				go func() {
					for range 2 {
						io.WriteString(hub, "data: {\"id\":\"7\",\"status\":\"queued\",\"reason\":\"waits for its turn\"}\n\n")
						time.Sleep(tc.wait)
					}
					io.WriteString(hub, "data: {\"id\":\"7\",\"status\":\"completed\"}\n\n")
					hub.Close()
				}()
				c := &client{base: &url.URL{Scheme: "https", Host: "hub"}, http: &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: http.StatusOK, Body: events}, nil
				})}}
				var errs bytes.Buffer
				s := api.Scan{ID: "7", Status: scan.Queued}
				if err := followScan(t.Context(), c, &s, &errs); err != nil || s.Status != scan.Completed {
					t.Errorf("%v: %v", s.Status, err)
				}
				time.Sleep(2 * askAgain) // nothing is told afterwards, either
				if errs.String() != tc.says {
					t.Errorf("says %q", errs.String())
				}
			})
		})
	}
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }
