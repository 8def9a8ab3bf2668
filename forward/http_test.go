package forward_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// What HTTP/1.1 has beside a request and its answer passes both proxies.
func TestForward_HTTP(t *testing.T) {
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/reads":
			body, err := io.ReadAll(r.Body)
			fmt.Fprint(w, string(body), r.Header.Get("Expect"), err)
		case "/late":
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusContinue)
		case "/trailers":
			io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, r.Trailer)
		case "/refuses":
			http.Error(w, "not for you", http.StatusForbidden)
		case "/hints":
			w.Header().Set("Link", "</style.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			w.WriteHeader(http.StatusProcessing)
			w.WriteHeader(http.StatusNotModified)
		case "/head":
			w.Header().Set("Content-Length", "12345678")
			w.Header().Set("ETag", `"x"`)
		}
	}))
	t.Run("100 comes from the service, before the body", func(t *testing.T) {
		conn := dialServices(t, b)
		io.WriteString(conn, "POST /reads HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
		br := bufio.NewReader(conn)
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != http.StatusContinue {
			t.Fatalf("%v, %v", resp, err)
		}
		io.WriteString(conn, "body")
		resp, err = http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%v, %v", resp, err)
		}
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); err != nil || !strings.HasPrefix(string(text), "body") {
			t.Errorf("%q, %v", text, err)
		}
	})
	t.Run("no 100 comes that says nothing", func(t *testing.T) {
		resp := raw(t, b, "POST /late HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
		if resp.Body.Close(); resp.StatusCode != http.StatusOK {
			t.Error(resp.Status)
		}
	})
	t.Run("a refusal comes in the place of 100", func(t *testing.T) {
		conn := dialServices(t, b)
		io.WriteString(conn, "POST /refuses HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
		br := bufio.NewReader(conn)
		resp, err := http.ReadResponse(br, nil)
		if err == nil && resp.StatusCode == http.StatusContinue {
			resp, err = http.ReadResponse(br, nil)
		}
		if err != nil || resp.StatusCode != http.StatusForbidden {
			t.Fatalf("%v, %v", resp, err)
		}
		resp.Body.Close()
	})
	t.Run("a trailer is no way round what is taken off the header", func(t *testing.T) {
		resp := raw(t, b, "POST /trailers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Authorization\r\n\r\n"+
			"1\r\nx\r\n0\r\nX-Sum: 1\r\nAuthorization: Bearer t\r\nReeve-Service: x-web/other\r\nX-Forwarded-User: admin\r\n\r\n")
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "map[X-Sum:[1]]" {
			t.Errorf("trailers at the service: %s, %v", text, err)
		}
	})
	t.Run("hints", func(t *testing.T) {
		var got []string
		r := request(t, "GET", b.URL+"/hints", nil)
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				got = append(got, fmt.Sprint(code, h.Get("Link")))
				return nil
			},
		}))
		resp, _ := do(t, b.client, r)
		if resp.StatusCode != http.StatusNotModified || resp.Header.Get("Link") != "" || fmt.Sprint(got) != "[103</style.css>; rel=preload 102]" {
			t.Errorf("%s %v after %q", resp.Status, resp.Header, got)
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		for range 2 { // the connection is good for another
			resp, body := do(t, b.client, request(t, "HEAD", b.URL+"/head", nil))
			if resp.StatusCode != 200 || resp.ContentLength != 12345678 || resp.Header.Get("ETag") != `"x"` || body != "" {
				t.Errorf("%s %v %q", resp.Status, resp.Header, body)
			}
		}
	})
	t.Run("requests in one go", func(t *testing.T) {
		conn := dialServices(t, b)
		conn.SetDeadline(time.Now().Add(time.Minute))
		io.WriteString(conn, strings.Repeat("POST /reads HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 3))
		br := bufio.NewReader(conn)
		for i := range 3 {
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatalf("answer %d: %v", i, err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !strings.HasPrefix(string(text), "x") {
				t.Errorf("answer %d: %q, %v", i, text, err)
			}
		}
	})
}
