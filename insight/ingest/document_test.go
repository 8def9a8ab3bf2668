package ingest_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/insight/ingest"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/insight/link"
	"reeve.dev/reeve/internal/spool"
)

const bom = `{"bomFormat":"CycloneDX","specVersion":"1.5","components":[]}`

func zipped(t *testing.T, doc string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, doc)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHandler_document(t *testing.T) {
	large := `{"a":"` + strings.Repeat("x", 90_000) + `"}`
	for name, tc := range map[string]struct {
		path, body, typ, label, file, doc string
		labels                            map[string]string
	}{
		"SBOM":          {"/sboms?service=cli", bom, lagoon.TypeSBOM, "sbom-gz", "cli.cyclonedx.json.gz", bom, nil},
		"SBOM, gzipped": {"/sboms?service=cli&build=b1", zipped(t, bom), lagoon.TypeSBOM, "sbom-gz", "cli.cyclonedx.json.gz", bom, map[string]string{lagoon.LabelBuildName: "b1"}},
		"image inspect": {"/images?service=cli", large, lagoon.TypeInspect, "image-gz", "cli.image-inspect.json.gz", large, nil},
	} {
		t.Run(name, func(t *testing.T) {
			srv, s := serve(t, spool.Config{})
			resp, text := call(t, srv, "POST", tc.path, token(t, secret, "777"), tc.body)
			if resp.StatusCode != http.StatusOK || text != `{"message":"okay"}` {
				t.Fatalf("%s %s", resp.Status, text)
			}
			items := s.List()
			if len(items) != 1 {
				t.Fatalf("spooled %d messages", len(items))
			}
			r, err := items[0].Open()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			var got lagoon.ConfigMap
			if err := json.NewDecoder(r).Decode(&got); err != nil {
				t.Fatal(err)
			}
			unzipped, err := gzip.NewReader(bytes.NewReader(got.BinaryPayload[tc.file]))
			if err != nil {
				t.Fatal(err)
			}
			if doc, err := io.ReadAll(unzipped); err != nil || string(doc) != tc.doc {
				t.Errorf("document of %d bytes, %v", len(doc), err)
			}
			want := lagoon.ConfigMap{
				BinaryPayload: got.BinaryPayload,
				Labels: map[string]string{
					lagoon.LabelInsightsType: tc.label, lagoon.LabelService: "cli", lagoon.LabelProject: "Test",
					lagoon.LabelEnvironment: "Dev", lagoon.LabelEnvironmentID: "777",
				},
				Namespace: "testNS", Environment: "Dev", Project: "Test", Service: "cli", Type: tc.typ,
			}
			maps.Copy(want.Labels, tc.labels)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHandler_documentRefused(t *testing.T) {
	noise := make([]byte, 100_001)
	rand.NewChaCha8([32]byte{}).Read(noise)
	for name, tc := range map[string]struct {
		cfg        spool.Config
		path, body string
		status     int
		says       string
	}{
		"no service":         {spool.Config{}, "/sboms", bom, 400, "service: is missing"},
		"no body":            {spool.Config{}, "/images?service=cli", "", 400, "empty"},
		"over the limit":     {spool.Config{}, "/sboms?service=cli", string(noise), 413, "100000 bytes allowed"},
		"over the spool":     {spool.Config{MaxBytes: 50_000}, "/sboms?service=cli", string(noise), 413, "whole spool"},
		"the spool has none": {spool.Config{MaxItems: 1}, "/sboms?service=cli", bom, 503, "is full"},
	} {
		t.Run(name, func(t *testing.T) {
			srv, s := serve(t, tc.cfg)
			if tc.cfg.MaxItems == 1 {
				if err := s.Put(t.Context(), "in the way", "test", strings.NewReader("")); err != nil {
					t.Fatal(err)
				}
			}
			before := s.Stats()
			resp, text := call(t, srv, "POST", tc.path, token(t, secret, "777"), tc.body)
			if resp.StatusCode != tc.status || !strings.Contains(text, tc.says) {
				t.Errorf("%s %s, want %d and %q", resp.Status, text, tc.status, tc.says)
			}
			if diff := cmp.Diff(before, s.Stats()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A caller who goes away in the middle has stored nothing.
func TestHandler_documentCut(t *testing.T) {
	srv, s := serve(t, spool.Config{})
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST /sboms?service=cli HTTP/1.1\r\nHost: agent\r\nAuthorization: "+token(t, secret, "777")+
		"\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n"+bom)
	conn.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(answer), "HTTP/1.1 400") {
		t.Errorf("answer %q", answer)
	}
	if diff := cmp.Diff(spool.Stats{}, s.Stats()); diff != "" {
		t.Error(diff)
	}
}

// A document passes the agent without ever being in its memory as a whole.
func TestHandler_documentInConstantMemory(t *testing.T) {
	const size = 20 << 20
	s, err := spool.Open(t.TempDir(), spool.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h, err := ingest.Handler(ingest.Config{Secret: []byte(secret), Spool: s, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || n < size*4/3 {
			t.Errorf("the hub got %d bytes, %v", n, err)
		}
		io.WriteString(w, `{"state":"stored"}`)
	}))
	defer hub.Close()
	body := io.MultiReader(strings.NewReader("\x1f\x8b"), io.LimitReader(rand.NewChaCha8([32]byte{}), size))
	req := httptest.NewRequest(http.MethodPost, "/sboms?service=cli", body)
	req.Header.Set("Authorization", token(t, secret, "777"))
	w := httptest.NewRecorder()

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	h.ServeHTTP(w, req)
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	client := &link.Client{Base: hub.URL, HTTP: hub.Client(), Logger: slog.New(slog.DiscardHandler)}
	if err := client.Send(t.Context(), s.List()[0]); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > size/8 {
		t.Errorf("%d bytes were allocated for a document of %d", got, size)
	}
}
