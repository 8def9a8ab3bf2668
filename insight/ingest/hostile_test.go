package ingest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/ingest"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/internal/spool"
)

// held is a spool in memory, of the last message.
type held struct{ message []byte }

func (h *held) Put(_ context.Context, _, _ string, r io.Reader) error {
	message, err := io.ReadAll(r)
	if err == nil {
		h.message = message
	}
	return err
}

// post answers the message that a body led to; nil where it was refused, as a
// mistake of the caller's.
func post(t *testing.T, path string, body []byte) []byte {
	t.Helper()
	s := &held{}
	h, err := ingest.Handler(ingest.Config{Secret: []byte(secret), Spool: s, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	r.Header.Set("Authorization", token(t, secret, "777"))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	switch {
	case w.Code == http.StatusOK && s.message != nil:
		return s.message
	case w.Code == http.StatusBadRequest && s.message == nil && strings.Contains(w.Body.String(), "Unable to parse incoming data"):
		return nil
	}
	t.Fatalf("%d %s, with %d bytes spooled", w.Code, w.Body, len(s.message))
	return nil
}

// A body of a great many values that are no facts isn't given room for them all.
func TestHandler_tooMany(t *testing.T) {
	values := strings.Repeat("{},", 3<<20) + "{}"
	for _, body := range []string{"[" + values + "]", `{"facts":[` + values + `]}`} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		taken := post(t, "/facts", []byte(body))
		runtime.ReadMemStats(&after)
		if taken != nil {
			t.Errorf("%.40s… was taken", body)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 12*uint64(len(body)) {
			t.Errorf("%.40s…: %d bytes were allocated for %d", body, n, len(body))
		}
	}
}

// FuzzDirect has the hub take whatever facts and problems the agent took.
func FuzzDirect(f *testing.F) {
	f.Add(true, []byte(`[{"name": "php", "value": "8", "service": "cli"}]`))
	f.Add(true, []byte(`{"facts": [{"name": "php", "source": null}]}`))
	f.Add(false, []byte(`[{"identifier": "CVE-1", "severityScore": 0.5, "data": "\ud800"}]`))
	f.Add(false, []byte(`[null]`))
	f.Fuzz(func(t *testing.T, facts bool, body []byte) {
		path := "/problems"
		if facts {
			path = "/facts"
		}
		message := post(t, path, body)
		if message == nil {
			return
		}
		it, err := lagoon.Decode(message)
		if err != nil {
			t.Fatalf("the hub can't read %s: %v", message, err)
		}
		if it.Environment.ID != 777 || it.Environment.Project != "Test" || it.Environment.Name != "Dev" {
			t.Errorf("%s is of another environment: %+v", message, it.Environment)
		}
	})
}

// FuzzDocument has the hub take whatever SBOM the agent took.
func FuzzDocument(f *testing.F) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	io.WriteString(z, bom)
	z.Close()
	f.Add([]byte(bom))
	f.Add(zipped.Bytes())
	f.Add([]byte(`<bom xmlns="http://cyclonedx.org/schema/bom/1.5"><components/></bom>`))
	f.Add([]byte(`{"spdxVersion": "SPDX-2.3", "packages": [{"name": "a"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		message := post(t, "/sboms?service=cli", body)
		if message == nil {
			return
		}
		it, err := lagoon.Decode(message)
		if err != nil {
			t.Fatalf("the hub can't read the message of %q: %v", body, err)
		}
		doc, ok := it.Content.(insight.Document)
		if !ok || doc.Kind != insight.KindSBOM || doc.Service != "cli" || it.Environment.Namespace != "testNS" {
			t.Fatalf("the message of %q is %+v", body, it)
		}
		plain, err := gzip.NewReader(bytes.NewReader(doc.Data))
		if err == nil {
			_, err = insight.ParseSBOM(plain, insight.DefaultLimits.Components)
		}
		if err != nil {
			t.Errorf("the hub can't read %q: %v", body, err)
		}
	})
}

// TestHandler_tokens looks at the tokens that say something else than ours.
func TestHandler_tokens(t *testing.T) {
	ns := lagoon.Namespace{Name: "testNS", EnvironmentID: "777", ProjectName: "Test", EnvironmentName: "Dev"}
	expired, err := lagoon.NewToken([]byte(secret), ns, time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	ns.Name, ns.EnvironmentID = "theirs", "5"
	theirs, err := lagoon.NewToken([]byte(secret), ns, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	old, err := lagoon.NewToken([]byte("the secret before"), ns, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		token, says string
		code        int
		environment int64
	}{
		"expired":                {expired, "has expired", http.StatusUnauthorized, 0},
		"by another key":         {token(t, "foreign", "777"), "wasn't signed", http.StatusUnauthorized, 0},
		"by the secret before":   {old, "", http.StatusOK, 5},
		"of another environment": {theirs, "", http.StatusOK, 5}, // whatever the facts say
	} {
		t.Run(name, func(t *testing.T) {
			s := &held{}
			h, err := ingest.Handler(ingest.Config{
				Secret: []byte(secret), OldSecrets: [][]byte{[]byte("the secret before")}, Spool: s, Logger: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodPost, "/facts", strings.NewReader(`[{"name": "a", "value": "b", "environment": 777}]`))
			r.Header.Set("Authorization", tc.token)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tc.code || !strings.Contains(w.Body.String(), tc.says) || strings.Contains(w.Body.String(), tc.token) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if tc.environment == 0 {
				if s.message != nil {
					t.Errorf("spooled %s", s.message)
				}
				return
			}
			it, err := lagoon.Decode(s.message)
			if err != nil || it.Environment.ID != tc.environment {
				t.Errorf("%+v, %v", it, err)
			}
		})
	}
}

// A disk that is full is told with 503, and costs nothing that was taken before
// or fits.
func TestHandler_diskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs the right to mount a small file system (run as root): %v", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	s, err := spool.Open(dir, spool.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	srv := start(t, s)
	var doc strings.Builder
	doc.WriteString(`{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":"`)
	for doc.Len() < 90_000 {
		doc.WriteString(rand.Text()) // gzip finds nothing in it
	}
	doc.WriteString(`"}]}`)
	for i, step := range []struct {
		path, body string
		code       int
	}{{"/facts", `[]`, 200}, {"/sboms?service=cli", doc.String(), 503}, {"/facts", `[]`, 200}} {
		resp, body := call(t, srv, "POST", step.path, token(t, secret, "777"), step.body)
		if resp.StatusCode != step.code || (resp.Header.Get("Retry-After") != "") != (step.code == 503) {
			t.Errorf("%d: %s %s, want %d", i, resp.Status, body, step.code)
		}
	}
	if n := s.Stats().Items; n != 2 {
		t.Errorf("%d messages wait, want the two that were taken", n)
	}
}
