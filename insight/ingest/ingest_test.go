package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/ingest"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/internal/spool"
)

const secret = "secret"

func token(t *testing.T, secret, id string) string {
	t.Helper()
	s, err := lagoon.NewToken([]byte(secret), lagoon.Namespace{Name: "testNS", EnvironmentID: id, ProjectName: "Test", EnvironmentName: "Dev"}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve starts the handler on a spool in a folder.
func serve(t *testing.T, cfg spool.Config) (*httptest.Server, *spool.Spool) {
	t.Helper()
	s, err := spool.Open(t.TempDir(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return start(t, s), s
}

func start(t *testing.T, to ingest.Spool) *httptest.Server {
	t.Helper()
	h, err := ingest.Handler(ingest.Config{Secret: []byte(secret), Spool: to, MaxBody: 2000, MaxDocument: 100_000, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv
}

func call(t *testing.T, srv *httptest.Server, method, path, auth, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestHandler(t *testing.T) {
	const fact = `{"environment":"777","projectName":"Test","environmentName":"Dev","name":"php","value":"8","source":"InsightsRemoteWebService","description":"","type":"","category":"","service":"cli"}`
	const facts = `{"environment":777,"projectName":"Test","environmentName":"Dev","facts":[` + fact + `],"type":"direct.facts"}`
	for name, tc := range map[string]struct{ method, path, body, want string }{
		"facts": {
			"POST", "/facts", `[{"name":"php","value":"8","service":"cli"}]`, facts,
		},
		"facts in their whole form": {
			"POST", "/facts", ` {"facts":[{"name":"php","value":"8","service":"cli"}],"type":"x"}`, facts,
		},
		"facts of another environment": {
			"POST", "/facts", `[{"name":"php","value":"8","service":"cli","environment":5,"projectName":"theirs","environmentName":"prod"}]`, facts,
		},
		"no facts": {
			"POST", "/facts", `[]`, `{"environment":777,"projectName":"Test","environmentName":"Dev","facts":[],"type":"direct.facts"}`,
		},
		"problems": {
			"POST", "/problems", `[{"environment":5,"identifier":"CVE-1","severityScore":0.5,"source":"mine"},{"identifier":"CVE-2","data":"d"}]`,
			`{"environment":777,"projectName":"Test","environmentName":"Dev","problems":[` +
				`{"environment":777,"identifier":"CVE-1","source":"mine","data":"","severityScore":0.5},` +
				`{"environment":777,"identifier":"CVE-2","source":"InsightsRemoteWebService","data":"d"}],"type":"direct.problems"}`,
		},
		"delete facts": {
			"DELETE", "/facts/insights:facts:cli", "", `{"type":"direct.delete.facts","environment":777,"source":"insights:facts:cli","service":""}`,
		},
		"delete problems of a service": {
			"DELETE", "/problems/a%2Fb/cli", "", `{"type":"direct.delete.problems","environment":777,"source":"a/b","service":"cli"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv, s := serve(t, spool.Config{})
			resp, body := call(t, srv, tc.method, tc.path, token(t, secret, "777"), tc.body)
			if resp.StatusCode != http.StatusOK || body != `{"message":"okay"}` {
				t.Fatalf("%s %s", resp.Status, body)
			}
			if got := resp.Header.Get("Content-Type"); got != "application/json; charset=utf-8" {
				t.Errorf("Content-Type %q", got)
			}
			items := s.List()
			if len(items) != 1 || items[0].Kind != insight.SpoolKind+"@testNS" {
				t.Fatalf("spooled %+v", items)
			}
			r, err := items[0].Open()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			message, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(message)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHandler_refuses(t *testing.T) {
	good := token(t, secret, "777")
	const unparsable = "Unable to parse incoming data"
	for name, tc := range map[string]struct {
		method, path, auth, body string
		code                     int
		status, message          string
	}{
		"no token":               {"POST", "/facts", "", `[]`, 401, "unauthorized", "there is none"},
		"foreign token":          {"POST", "/facts", token(t, "other", "777"), `[]`, 401, "unauthorized", "wasn't signed with this agent's secret"},
		"no token to delete":     {"DELETE", "/facts/a", "", ``, 401, "unauthorized", "there is none"},
		"cut":                    {"POST", "/problems", good, `[{"identifier":`, 400, unparsable, "isn't JSON"},
		"empty":                  {"POST", "/facts", good, ``, 400, unparsable, "isn't JSON"},
		"number for text":        {"POST", "/facts", good, `[{"name":"a"},{"name":"b","value":8}]`, 400, unparsable, "facts[1].value: is a number, must be a string"},
		"text for a number":      {"POST", "/problems", good, `[{"identifier":"a","severityScore":"0.5"}]`, 400, unparsable, "problems[0].severityScore: is a string, must be a number"},
		"nameless":               {"POST", "/facts", good, `[{"value":"8"}]`, 400, unparsable, "facts[0].name: is missing"},
		"facts that are no list": {"POST", "/facts", good, `{"facts":3}`, 400, unparsable, "facts: is a number, must be an array"},
		"problems in an object":  {"POST", "/problems", good, `{"problems":[]}`, 400, unparsable, "is an object, must be an array"},
		"environment, no number": {"POST", "/facts", token(t, secret, "main"), `[]`, 400, "Unable to parse environment ID", "invalid syntax"},
		"the same, to delete":    {"DELETE", "/problems/a", token(t, secret, "main"), ``, 400, "BAD REQUEST", "invalid syntax"},
		"over the limit":         {"POST", "/facts", good, strings.Repeat(" ", 2001), 413, unparsable, "more than the 2000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			srv, s := serve(t, spool.Config{})
			resp, body := call(t, srv, tc.method, tc.path, tc.auth, tc.body)
			if resp.StatusCode != tc.code || !strings.Contains(body, `"status":"`+tc.status+`"`) || !strings.Contains(body, tc.message) {
				t.Errorf("%s %s\nwant %d, %q, %q", resp.Status, body, tc.code, tc.status, tc.message)
			}
			if tc.auth != "" && strings.Contains(body, tc.auth) {
				t.Errorf("the answer holds the token: %s", body)
			}
			if got := s.Stats().Items; got != 0 {
				t.Errorf("%d messages were spooled", got)
			}
		})
	}
}

func TestHandler_fullSpool(t *testing.T) {
	srv, s := serve(t, spool.Config{MaxItems: 1})
	for i, want := range []int{200, 503, 503} {
		resp, body := call(t, srv, "POST", "/facts", token(t, secret, "777"), `[{"name":"a"}]`)
		if resp.StatusCode != want {
			t.Fatalf("%d: %s %s, want %d", i, resp.Status, body, want)
		}
		if want == 503 && resp.Header.Get("Retry-After") == "" {
			t.Error("Retry-After is missing")
		}
	}
	if got := s.Stats().Items; got != 1 {
		t.Errorf("%d messages wait, want 1", got)
	}
}

type putFunc func() error

func (f putFunc) Put(context.Context, string, string, io.Reader) error { return f() }

func TestHandler_brokenDisk(t *testing.T) {
	srv := start(t, putFunc(func() error { return errors.New("input/output error on /var/lib/reeve") }))
	resp, body := call(t, srv, "POST", "/facts", token(t, secret, "777"), `[]`)
	if resp.StatusCode != 500 || strings.Contains(body, "/var/lib") || !strings.Contains(body, "status") {
		t.Errorf("%s %s", resp.Status, body)
	}
}

func TestHandler_needsASecret(t *testing.T) {
	if _, err := ingest.Handler(ingest.Config{}); err == nil {
		t.Error("a handler without a secret takes every token")
	}
}

func TestHandler_tooLargeForTheSpool(t *testing.T) {
	srv, _ := serve(t, spool.Config{MaxBytes: 300})
	resp, body := call(t, srv, "POST", "/facts", token(t, secret, "777"), fmt.Sprintf(`[{"name":"a","value":%q}]`, strings.Repeat("x", 500)))
	if resp.StatusCode != 413 {
		t.Errorf("%s %s, want 413", resp.Status, body)
	}
}
