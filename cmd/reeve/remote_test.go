package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
