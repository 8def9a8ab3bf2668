package compress_test

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/internal/compress"
)

var long = strings.Repeat("all work and no play\n", 1000)

// ask sends a request as it is given and shows the answer as it comes.
func ask(t *testing.T, h http.HandlerFunc, method string, header ...string) (*http.Response, string, error) {
	t.Helper()
	srv := httptest.NewServer(compress.Handler(h))
	defer srv.Close()
	r, err := http.NewRequestWithContext(t.Context(), method, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if resp.Header.Get("Content-Encoding") == "gzip" {
		z, zerr := gzip.NewReader(strings.NewReader(string(text)))
		if zerr != nil {
			return resp, "", errors.Join(err, zerr)
		}
		plain, zerr := io.ReadAll(z)
		return resp, string(plain), errors.Join(err, zerr)
	}
	return resp, string(text), err
}

func TestHandler(t *testing.T) {
	as := func(typ, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", typ)
			w.WriteHeader(http.StatusTeapot)
			for line := range strings.Lines(text) {
				io.WriteString(w, line)
			}
		}
	}
	for name, tc := range map[string]struct {
		method, typ, text, accept string
		zipped, varies            bool
	}{
		"page":          {"GET", "text/html; charset=utf-8", long, "gzip, deflate, br", true, true},
		"JSON":          {"GET", "application/json", long, "br;q=1, gzip;q=0.5", true, true},
		"problem":       {"GET", "application/problem+json", long, "gzip", true, true},
		"small":         {"GET", "text/html", "small\n", "gzip", false, true},
		"empty":         {"GET", "text/html", "", "gzip", false, true},
		"not taken":     {"GET", "text/html", long, "gzip;q=0, br", false, true},
		"not said":      {"GET", "text/html", long, "", false, true},
		"a picture":     {"GET", "image/png", long, "gzip", false, false},
		"events":        {"GET", "text/event-stream", long, "gzip", false, false},
		"of POST":       {"POST", "application/json", long, "gzip", false, false},
		"of HEAD":       {"HEAD", "text/html", long, "gzip", false, false},
		"unknown type":  {"GET", "", long, "gzip", false, false},
		"already coded": {"GET", "application/gzip", long, "gzip", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			resp, text, err := ask(t, as(tc.typ, tc.text), tc.method, "Accept-Encoding", tc.accept)
			want := tc.text
			if tc.method == "HEAD" {
				want = ""
			}
			if err != nil || resp.StatusCode != http.StatusTeapot || text != want {
				t.Errorf("%s, %d bytes, %v", resp.Status, len(text), err)
			}
			if got := resp.Header.Get("Content-Encoding") == "gzip"; got != tc.zipped {
				t.Errorf("compressed: %v, want %v", got, tc.zipped)
			}
			if got := resp.Header.Get("Vary") == "Accept-Encoding"; got != tc.varies {
				t.Errorf("Vary: %q", resp.Header.Get("Vary"))
			}
		})
	}
	t.Run("a part of a file", func(t *testing.T) {
		resp, text, err := ask(t, func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader(long))
		}, "GET", "Accept-Encoding", "gzip", "Range", "bytes=4-7")
		if err != nil || resp.StatusCode != http.StatusPartialContent || text != "work" {
			t.Errorf("%s %q %v", resp.Status, text, err)
		}
	})
	t.Run("a whole file loses its plain length", func(t *testing.T) {
		resp, text, err := ask(t, func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "a.txt", time.Time{}, strings.NewReader(long))
		}, "GET", "Accept-Encoding", "gzip")
		if err != nil || text != long || resp.ContentLength == int64(len(long)) {
			t.Errorf("%s %d bytes of %d, %v", resp.Status, len(text), resp.ContentLength, err)
		}
	})
	t.Run("nothing at all", func(t *testing.T) {
		for status, h := range map[int]http.HandlerFunc{
			200: func(http.ResponseWriter, *http.Request) {},
			204: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
		} {
			if resp, text, err := ask(t, h, "GET", "Accept-Encoding", "gzip"); err != nil || resp.StatusCode != status || text != "" {
				t.Errorf("%s %q %v, want %d", resp.Status, text, err, status)
			}
		}
	})
	t.Run("what breaks off looks broken", func(t *testing.T) {
		_, _, err := ask(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, long)
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, "GET", "Accept-Encoding", "gzip")
		if err == nil {
			t.Error("no error")
		}
	})
}

// What is flushed arrives, before the answer has ended.
func TestHandler_flush(t *testing.T) {
	for _, typ := range []string{"text/event-stream", "text/plain"} {
		for _, first := range []string{"one\n", long} {
			over := make(chan struct{})
			srv := httptest.NewServer(compress.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", typ)
				io.WriteString(w, first)
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
				<-over
			})))
			resp, err := srv.Client().Get(srv.URL) // asks for gzip by itself
			if err != nil {
				t.Fatal(err)
			}
			want, _, _ := strings.Cut(first, "\n")
			if line, err := bufio.NewReader(resp.Body).ReadString('\n'); line != want+"\n" {
				t.Errorf("%s: %q, %v", typ, line, err)
			}
			close(over)
			resp.Body.Close()
			srv.Close()
		}
	}
}
