package ingest_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/internal/spool"
)

func TestHandler_sbom(t *testing.T) {
	const bom = `{"bomFormat":"CycloneDX","specVersion":"1.5","components":[]}`
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	io.WriteString(w, bom)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{"plain": bom, "gzipped": zipped.String()} {
		t.Run(name, func(t *testing.T) {
			srv, s := serve(t, spool.Config{})
			resp, text := call(t, srv, "POST", "/sboms?service=cli", token(t, secret, "777"), body)
			if resp.StatusCode != http.StatusOK {
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
			var m lagoon.ConfigMap
			if err := json.NewDecoder(r).Decode(&m); err != nil {
				t.Fatal(err)
			}
			if m.Namespace != "testNS" || m.Project != "Test" || m.Environment != "Dev" || m.Service != "cli" || m.Type != lagoon.TypeSBOM {
				t.Errorf("message %+v", m)
			}
			unzipped, err := gzip.NewReader(bytes.NewReader(m.BinaryPayload["cli.cyclonedx.json.gz"]))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(unzipped); err != nil || string(got) != bom {
				t.Errorf("document %q, %v", got, err)
			}
		})
	}

	for name, tc := range map[string]struct {
		path, body string
		status     int
		says       string
	}{
		"no service": {"/sboms", bom, http.StatusBadRequest, "service=NAME"},
		"no body":    {"/sboms?service=cli", "", http.StatusBadRequest, "empty"},
		"too large":  {"/sboms?service=cli", strings.Repeat("x", 3000), http.StatusRequestEntityTooLarge, "gzipped"},
	} {
		t.Run(name, func(t *testing.T) {
			srv, s := serve(t, spool.Config{})
			resp, text := call(t, srv, "POST", tc.path, token(t, secret, "777"), tc.body)
			if resp.StatusCode != tc.status || !strings.Contains(text, tc.says) {
				t.Errorf("%s %s", resp.Status, text)
			}
			if n := len(s.List()); n != 0 {
				t.Errorf("%d messages spooled", n)
			}
		})
	}
}
