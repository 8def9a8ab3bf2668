package ingest_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
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

	"reeve.dev/reeve/insight"
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
	large := `{"Name":"nginx","a":"` + strings.Repeat("x", 90_000) + `"}`
	xml := `<bom xmlns="http://cyclonedx.org/schema/bom/1.6"><components/></bom>`
	spdx := `{"spdxVersion":"SPDX-2.3","packages":[]}`
	for name, tc := range map[string]struct {
		path, body, typ, label, file, doc string
		labels                            map[string]string
		kind                              string
	}{
		"SBOM":          {"/sboms?service=cli", bom, lagoon.TypeSBOM, "sbom-gz", "cli.cyclonedx.json.gz", bom, nil, insight.SpoolKind},
		"SBOM, gzipped": {"/sboms?service=cli&build=b1", zipped(t, bom), lagoon.TypeSBOM, "sbom-gz", "cli.cyclonedx.json.gz", bom, map[string]string{lagoon.LabelBuildName: "b1"}, insight.SpoolKind},
		"SBOM in XML":   {"/sboms?service=cli", xml, lagoon.TypeSBOM, "sbom-gz", "cli.cyclonedx.xml.gz", xml, nil, lagoon.SpoolHub},
		"SPDX, gzipped": {"/sboms?service=cli", zipped(t, spdx), lagoon.TypeSBOM, "sbom-gz", "cli.spdx.json.gz", spdx, nil, lagoon.SpoolHub},
		"image inspect": {"/images?service=cli", large, lagoon.TypeInspect, "image-gz", "cli.image-inspect.json.gz", large, nil, insight.SpoolKind},
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
			if items[0].Kind != tc.kind {
				t.Errorf("spooled as %s, want %s", items[0].Kind, tc.kind)
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
	var noise strings.Builder
	writeBOM(&noise, 100_001)
	bomb := zipped(t, `{"bomFormat":"CycloneDX","x":["`+strings.Repeat("x", 40<<20)+`"]}`)
	short := zipped(t, bom)
	short = short[:len(short)-9]
	broken := []byte(zipped(t, noise.String()))
	broken[len(broken)/2] ^= 0xff
	for name, tc := range map[string]struct {
		cfg        spool.Config
		path, body string
		status     int
		says       string
	}{
		"no service":         {spool.Config{}, "/sboms", bom, 400, "service: is missing"},
		"no body":            {spool.Config{}, "/images?service=cli", "", 400, "empty"},
		"over the limit":     {spool.Config{}, "/sboms?service=cli", noise.String(), 413, "100000 bytes allowed"},
		"over the spool":     {spool.Config{MaxBytes: 50_000}, "/sboms?service=cli", noise.String(), 413, "whole spool"},
		"the spool has none": {spool.Config{MaxItems: 1}, "/sboms?service=cli", bom, 503, "is full"},
		"cut in the middle":  {spool.Config{}, "/sboms?service=cli", bom[:30], 400, "is cut off"},
		"gzip, cut":          {spool.Config{}, "/sboms?service=cli", short, 400, "is cut off"},
		"gzip, damaged":      {spool.Config{}, "/sboms?service=cli", string(broken), 400, "sbom: "},
		"gzip in name only":  {spool.Config{}, "/sboms?service=cli", "\x1f\x8bno", 400, "damaged gzip"},
		"a bomb":             {spool.Config{}, "/sboms?service=cli", bomb, 400, "one value of it has more than"},
		"not an SBOM":        {spool.Config{}, "/sboms?service=cli", `{"a":1}`, 400, "neither CycloneDX"},
		"wrong inside":       {spool.Config{}, "/sboms?service=cli", `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[{"name":1}]}`, 400, "components[0].name: is a number, must be a string"},
		"not an image":       {spool.Config{}, "/images?service=cli", `{}`, 400, "Name, Digest and Os are missing"},
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

// writeBOM writes an SBOM of at least n bytes, most of which don't compress.
func writeBOM(w io.Writer, n int) {
	random := rand.NewChaCha8([32]byte{})
	name := make([]byte, 300)
	for written := 0; written < n; written += 400 {
		begin := `,`
		if written == 0 {
			begin = `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[`
		}
		random.Read(name)
		fmt.Fprintf(w, `%s{"type":"library","name":%q}`, begin, base64.StdEncoding.EncodeToString(name))
	}
	io.WriteString(w, `]}`)
}

// A document passes the agent, from the caller to the hub, without ever being
// in its memory as a whole.
func TestHandler_documentInConstantMemory(t *testing.T) {
	const size = 20 << 20
	var before, most uint64
	inUse := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	watch := func(r io.Reader) io.Reader {
		return io.TeeReader(r, &every{bytes: 2 << 20, do: func() { most = max(most, inUse()) }})
	}
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
		if n, err := io.Copy(io.Discard, watch(r.Body)); err != nil || n < size {
			t.Errorf("the hub got %d bytes, %v", n, err)
		}
		io.WriteString(w, `{"state":"stored"}`)
	}))
	defer hub.Close()
	body, pipe := io.Pipe()
	go func() {
		z := gzip.NewWriter(pipe)
		writeBOM(z, size*4/3)
		z.Close()
		pipe.Close()
	}()
	before = inUse()
	req := httptest.NewRequest(http.MethodPost, "/sboms?service=cli", watch(body))
	req.Header.Set("Authorization", token(t, secret, "777"))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	client := &link.Client{Base: hub.URL, HTTP: hub.Client(), Logger: slog.New(slog.DiscardHandler)}
	if err := client.Send(t.Context(), s.List()[0]); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d KiB more in memory at most", (int64(most)-int64(before))>>10)
	if int64(most)-int64(before) > size/8 {
		t.Errorf("%d bytes were in memory of a document of %d", most-before, size)
	}
}

// every does something each time that so many bytes were written.
type every struct {
	bytes, n int
	do       func()
}

func (e *every) Write(p []byte) (int, error) {
	if e.n += len(p); e.n >= e.bytes {
		e.n = 0
		e.do()
	}
	return len(p), nil
}

// Lagoon's own services read CycloneDX in JSON alone.
func TestHandler_documentWithoutHub(t *testing.T) {
	s, err := spool.Open(t.TempDir(), spool.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h, err := ingest.Handler(ingest.Config{Secret: []byte(secret), Spool: s, NoHub: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for doc, status := range map[string]int{bom: http.StatusOK, `{"spdxVersion":"SPDX-2.3","packages":[]}`: http.StatusUnsupportedMediaType} {
		req := httptest.NewRequest(http.MethodPost, "/sboms?service=cli", strings.NewReader(doc))
		req.Header.Set("Authorization", token(t, secret, "777"))
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, req); w.Code != status {
			t.Errorf("%s: %d %s, want %d", doc, w.Code, w.Body, status)
		}
	}
}
