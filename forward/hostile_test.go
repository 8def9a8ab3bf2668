package forward_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/forward/forwardtest"
	"reeve.dev/reeve/pki"
)

// arrived is what reached a service whole: each request with its trailer.
type arrived struct {
	mu   sync.Mutex
	list []*http.Request // guarded by mu
}

func (a *arrived) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	a.mu.Lock()
	a.list = append(a.list, r)
	a.mu.Unlock()
	w.Header().Set("Service", "yes")
}

// take answers what has arrived since it was last called.
func (a *arrived) take() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.list
	a.list = nil
	return list
}

// exchangeRaw sends bytes by a connection of its own and answers every status that
// comes back, until the hub closes it.
func exchangeRaw(t *testing.T, b *bench, text string) (statuses []int) {
	t.Helper()
	conn := dialServices(t, b)
	go io.WriteString(conn, text)
	for br := bufio.NewReader(conn); ; {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			return statuses
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		statuses = append(statuses, resp.StatusCode)
		conn.CloseWrite() // not before: who leaves isn't answered
	}
}

// A request never becomes two on its way, nor loses its frame: whatever the
// bytes are, the service sees as many requests as the hub answered from it,
// and none of what they try to bring with them.
func TestForward_smuggling(t *testing.T) {
	service := &arrived{}
	b := start(t, service)
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	head := "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
	chunked := head + "Transfer-Encoding: chunked\r\n"
	for _, tt := range []struct {
		name, text string
		reaches    int // how many requests may reach the service
	}{
		{"chunks behind a length", head + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, 1},
		{"a length behind chunks", chunked + fmt.Sprintf("Content-Length: %d\r\n\r\n0\r\n\r\n", 5+len(smuggled)) + smuggled, 1},
		{"chunks, in another case", head + "Content-Length: 5\r\ntRANSFER-eNCODING: CHUNKED\r\n\r\n0\r\n\r\n" + smuggled, 1},
		{"chunks and something else", head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + smuggled, 0},
		{"chunks with a tab", head + "Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n" + smuggled, 1},
		{"chunks with a vertical tab", head + "Content-Length: 5\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + smuggled, 0},
		{"chunks on a folded line", head + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + smuggled, 1},
		{"chunks twice in a list", head + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + smuggled, 0},
		{"chunks by HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, 1},
		{"the same length twice", head + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na" + smuggled, 1},
		{"two lengths in one line", head + "Content-Length: 1, 2\r\n\r\nab" + smuggled, 0},
		{"a length with a sign", head + "Content-Length: +1\r\n\r\na" + smuggled, 0},
		{"a negative length", head + "Content-Length: -1\r\n\r\n" + smuggled, 0},
		{"a length in hexadecimal", head + "Content-Length: 0x1\r\n\r\na" + smuggled, 0},
		{"a length that overflows", head + "Content-Length: 18446744073709551617\r\n\r\na" + smuggled, 0},
		{"a length of another name", head + "Content_Length: 50\r\n\r\n" + smuggled, 1},
		{"a chunk's length that overflows", chunked + "\r\n10000000000000001\r\na\r\n0\r\n\r\n" + smuggled, 1},
		{"a chunk with an extension", chunked + "\r\n1;a=b\r\na\r\n0\r\n\r\n" + smuggled, 1},
		{"a chunk with a line in its extension", chunked + "\r\n1;a\n=b\r\na\r\n0\r\n\r\n" + smuggled, 1},
		{"a chunk that ends in a bare LF", chunked + "\r\n1\na\r\n0\r\n\r\n" + smuggled, 1},
		{"a chunk without its end", chunked + "\r\n1\r\nab\r\n0\r\n\r\n" + smuggled, 1},
		{"a chunk's length with a sign", chunked + "\r\n-1\r\na\r\n0\r\n\r\n" + smuggled, 1},
		{"extensions without an end", chunked + "\r\n1;" + strings.Repeat("a", 64<<10), 1},
		{"a folded line", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: a\r\n Reeve-Service: x-web/other\r\n\r\n" + smuggled, 1},
		{"a folded first line", "GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n" + smuggled, 0},
		{"a bare CR", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rReeve-Service: x\r\n\r\n" + smuggled, 0},
		{"NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n" + smuggled, 0},
		{"a header without a name", "GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n" + smuggled, 0},
		{"a line's end in the path", "GET /%0d%0aHost:%20b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" + smuggled, 1},
		{"a line's end in the Host", "GET / HTTP/1.1\r\nHost: a%0d%0ab\r\nConnection: close\r\n\r\n" + smuggled, 1},
		{"an empty Host", "GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n" + smuggled, 1},
		{"no Host", "GET / HTTP/1.1\r\n\r\n" + smuggled, 0},
		{"a Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n" + smuggled, 0},
		{"a Host of two names", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n" + smuggled, 0},
		{"spaces in the request line", "GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n" + smuggled, 0},
		{"another protocol", "GET / HTTP/1.2\r\nHost: a\r\nConnection: close\r\n\r\n" + smuggled, 1},
		{"a version that there isn't", "GET / HTTP/9.9\r\nHost: a\r\n\r\n" + smuggled, 0},
		{"a method that is none", "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n" + smuggled, 0},
		{"what announces a length as trailer", chunked + "Trailer: Content-Length\r\n\r\n0\r\nContent-Length: 9\r\n\r\n" + smuggled, 0},
		{"what announces chunks as trailer", chunked + "Trailer: Transfer-Encoding\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n" + smuggled, 0},
		{"a body where an Upgrade is", "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: " + fmt.Sprint(len(smuggled)) + "\r\n\r\n" + smuggled, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			statuses := exchangeRaw(t, b, tt.text)
			got := service.take()
			if len(got) > tt.reaches {
				t.Errorf("%d requests at the service", len(got))
			}
			for _, r := range got {
				if strings.Contains(r.URL.Path, "smuggled") || len(r.Header["Reeve-Service"]) > 0 || r.Host != strings.TrimPrefix(b.service.URL, "https://") {
					t.Errorf("%s %s at %q with %q", r.Method, r.URL, r.Host, r.Header)
				}
			}
			if len(statuses) != 1 {
				t.Errorf("answered %v", statuses)
			}
			for _, s := range statuses {
				if s == 200 && len(got) == 0 || s != 200 && s != 400 && s != 501 && s != 505 {
					t.Errorf("answered %d", s)
				}
			}
		})
	}
}

// What a caller says in headers and trailers of its own never takes the place
// of what the hub, the agent or HTTP itself says there.
func TestForward_names_that_arent_the_callers(t *testing.T) {
	service := &arrived{}
	token := write(t, "token", "agents-token")
	b := start(t, service, func(o *forwardtest.Options) {
		o.Upstreams[0].Credentials = forward.Credentials{Type: "bearer", TokenFile: token}
	})
	const secret = "from-the-caller"
	for _, tt := range []struct{ name, header, trailer string }{
		{name: "Connection names what the hub adds", header: "Connection: Reeve-Service, Reeve-Caller, Authorization, X-Forwarded-For, close\r\n"},
		{name: "Connection names the token", header: "Connection: X-Opsmx-Token, close\r\nX-Opsmx-Token: " + secret + "\r\n"},
		{name: "Connection with an Upgrade", header: "Connection: Upgrade, Reeve-Service, Authorization\r\nUpgrade: websocket\r\nReeve-Service: x-web/" + secret + "\r\n"},
		{name: "an Authorization of every kind", header: "Authorization: Bearer " + secret + "\r\nauthorization: Basic " + secret + "\r\nProxy-Authorization: " + secret + "\r\n"},
		{name: "Reeve's headers in disguise", header: "REEVE-caller: " + secret + "\r\nreeve_caller: " + secret + "\r\nReeve_Impersonate-User: " + secret + "\r\n"},
		{name: "where it comes from", header: "X-Forwarded-Host: " + secret + "\r\nX_Forwarded_For: " + secret + "\r\nForwarded: for=" + secret + "\r\nX-Real-IP: " + secret + "\r\n"},
		{name: "another path", header: "X-Original-URL: /" + secret + "\r\nX-Rewrite-URL: /" + secret + "\r\n"},
		{name: "trailers of HTTP's own", header: "Trailer: Authorization, Host, Cookie, Reeve-Caller, X-Opsmx-Token, Impersonate-User, Content-Type, X-Checksum\r\n", trailer: "Authorization: " + secret + "\r\nHost: " + secret + "\r\nCookie: a=" + secret + "\r\nReeve-Caller: " + secret + "\r\nX-Opsmx-Token: " + secret + "\r\nImpersonate-User: " + secret + "\r\nContent-Type: " + secret + "\r\n"},
		{name: "trailers that weren't announced", trailer: "Authorization: " + secret + "\r\nHost: " + secret + "\r\nTransfer-Encoding: " + secret + "\r\nContent-Length: 5\r\nReeve-Service: " + secret + "\r\nX-Forwarded-For: " + secret + "\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(tt.header, "Connection:") {
				tt.header += "Connection: close\r\n"
			}
			exchangeRaw(t, b, "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"+tt.header+"\r\n1\r\na\r\n0\r\n"+tt.trailer+"X-Checksum: good\r\n\r\n")
			got := service.take()
			if len(got) != 1 {
				t.Fatalf("%d requests at the service", len(got))
			}
			r := got[0]
			for _, h := range []http.Header{r.Header, r.Trailer} {
				for name, values := range h {
					if strings.Contains(fmt.Sprint(values), secret) || strings.HasPrefix(name, "Reeve") {
						t.Errorf("%s: %q", name, values)
					}
				}
			}
			if v := r.Header["Authorization"]; len(v) != 1 || v[0] != "Bearer agents-token" {
				t.Errorf("Authorization is %q", v)
			}
			if strings.Contains(tt.header, "Trailer:") && r.Trailer.Get("X-Checksum") != "good" {
				t.Errorf("the trailer is %q", r.Trailer)
			}
			if f := r.Header["X-Forwarded-For"]; len(f) != 1 || f[0] != "127.0.0.1" {
				t.Errorf("X-Forwarded-For is %q", f)
			}
		})
	}
}

// A service can be made to echo a request; TRACE is the way that many have
// without knowing it, and an early hint one that isn't an answer.
func TestForward_no_echo_of_the_agents_credential(t *testing.T) {
	token := write(t, "token", "agents-token")
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "TRACE" {
			r.Write(w)
			return
		}
		w.Header().Set("Authorization", r.Header.Get("Authorization"))
		w.Header().Set("Reeve-Refused", "service")
		w.Header().Set("Link", "</style.css>")
		w.Header().Set("Set-Cookie", "__Host-reeve-session=evil; Path=/; Secure")
		w.WriteHeader(http.StatusEarlyHints)
		clear(w.Header())
		io.WriteString(w, "done")
	}), func(o *forwardtest.Options) {
		o.Upstreams[0].Credentials = forward.Credentials{Type: "bearer", TokenFile: token}
	})
	if resp, body := do(t, b.client, request(t, "TRACE", b.URL, nil)); resp.StatusCode != http.StatusMethodNotAllowed || strings.Contains(body, "agents-token") {
		t.Errorf("TRACE: %s %s", resp.Status, body)
	}
	conn := dialServices(t, b)
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(all); !strings.HasPrefix(text, "HTTP/1.1 103") || !strings.Contains(text, "style.css") || !strings.HasSuffix(text, "done") || strings.Contains(text, "agents-token") || strings.Contains(strings.ToLower(text), "reeve-") {
		t.Errorf("an early hint:\n%s", text)
	}
}

// HTTP/2 has its own ways to say what HTTP/1.1 can't.
func TestForward_hostile_HTTP2(t *testing.T) {
	service := &arrived{}
	b := start(t, service)
	for _, tt := range []struct {
		name   string
		fields []string // name, value, …
		want   string   // of :status; reset where the stream is refused
	}{
		{"a good one", []string{":method", "GET", ":path", "/x", ":scheme", "https", ":authority", "a"}, "200"},
		{"CRLF in the path", []string{":method", "GET", ":path", "/x HTTP/1.1\r\nHost: b\r\n\r\n", ":scheme", "https", ":authority", "a"}, "refused"},
		{"CRLF in the authority", []string{":method", "GET", ":path", "/x", ":scheme", "https", ":authority", "a\r\nReeve-Service: x"}, "refused"},
		{"CRLF in the method", []string{":method", "GET / HTTP/1.1\r\nX: ", ":path", "/x", ":scheme", "https", ":authority", "a"}, "refused"},
		{"CRLF in a value", []string{":method", "GET", ":path", "/x", ":scheme", "https", ":authority", "a", "x", "a\r\nreeve-service: x"}, "refused"},
		{"a colon in a name", []string{":method", "GET", ":path", "/x", ":scheme", "https", ":authority", "a", "reeve-service: x\r\ny", "z"}, "refused"},
		{"upper case", []string{":method", "GET", ":path", "/x", ":scheme", "https", ":authority", "a", "Reeve-Service", "x-web/other"}, "refused"},
		{"chunks", []string{":method", "POST", ":path", "/x", ":scheme", "https", ":authority", "a", "transfer-encoding", "chunked"}, "refused"},
		{"a connection", []string{":method", "GET", ":path", "/x", ":scheme", "https", ":authority", "a", "connection", "reeve-service"}, "refused"},
		{"an Upgrade", []string{":method", "GET", ":path", "/x", ":scheme", "https", ":authority", "a", "upgrade", "websocket"}, "refused"},
		{"a length that isn't the body's", []string{":method", "POST", ":path", "/x", ":scheme", "https", ":authority", "a", "content-length", "5"}, "200"},
		{"a pseudo-header twice", []string{":method", "GET", ":path", "/x", ":path", "/y", ":scheme", "https", ":authority", "a"}, "refused"},
		{"a pseudo-header too late", []string{":method", "GET", "x", "y", ":path", "/x", ":scheme", "https", ":authority", "a"}, "refused"},
		{"no path", []string{":method", "GET", ":path", "x", ":scheme", "https", ":authority", "a"}, "refused"},
		{"absolute form", []string{":method", "GET", ":path", "https://evil.example/x", ":scheme", "https", ":authority", "a"}, "400"},
		{"steps upwards", []string{":method", "GET", ":path", "/a/%2e%2e/b", ":scheme", "https", ":authority", "a"}, "400"},
		{"CONNECT", []string{":method", "CONNECT", ":authority", "evil.example:443"}, "400"},
		{"extended CONNECT", []string{":method", "CONNECT", ":protocol", "websocket", ":path", "/x", ":scheme", "https", ":authority", "a"}, "refused"},
		{"an authority and another Host", []string{":method", "GET", ":path", "/x", ":scheme", "https", ":authority", "a", "host", "b"}, "200"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := http2Status(t, b, tt.fields); got != tt.want {
				t.Errorf("answered %q, want %q", got, tt.want)
			}
			got := service.take()
			if tt.want != "200" && len(got) > 0 {
				t.Fatalf("%s %s reached the service", got[0].Method, got[0].URL)
			}
			for _, r := range got {
				if r.Host != strings.TrimPrefix(b.service.URL, "https://") || len(r.Header["Host"]) > 0 || r.ContentLength != 0 {
					t.Errorf("Host is %q, %q; a body of %d bytes", r.Host, r.Header["Host"], r.ContentLength)
				}
			}
		})
	}
}

// http2Status sends one request as it is and answers its :status, or refused
// if the stream or the connection is ended instead, or the answer is a bare
// 400 of net/http's own.
func http2Status(t *testing.T, b *bench, fields []string) string {
	t.Helper()
	conn := dialServicesBy(t, b, "h2")
	io.WriteString(conn, http2.ClientPreface)
	fr := http2.NewFramer(conn, conn)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		if err := enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(fr.WriteSettings(), fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true})); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return "refused"
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return "refused"
		case *http2.MetaHeadersFrame:
			if s := f.PseudoValue("status"); s != "400" {
				return s
			}
			if slices.Contains(f.RegularFields(), hpack.HeaderField{Name: "content-type", Value: "application/problem+json"}) {
				return "400"
			}
			return "refused"
		}
	}
}

// What several servers take for the method or the path, though HTTP doesn't,
// counts for rules too.
func TestForward_rules_evasion(t *testing.T) {
	service := &arrived{}
	config := kubeAPI(t, service.ServeHTTP)
	b := start(t, service, func(o *forwardtest.Options) {
		o.Upstreams = append(o.Upstreams, forward.Upstream{Type: fleet.Kubernetes, Name: "main", KubeConfig: config})
		o.Access = func(c *forward.HubConfig) {
			c.Rules = newRules(t,
				forward.Rule{Effect: "deny", Types: []string{"x-web"}, Paths: []string{"/admin/**", "/keys/*"}},
				forward.Rule{Effect: "deny", Types: []string{"x-web"}, Verbs: []string{"delete"}},
				forward.Rule{Effect: "allow", Types: []string{"kubernetes"}, Verbs: []string{"get", "list", "watch"}, Resources: []string{"*"}},
				forward.Rule{Effect: "deny", Types: []string{"kubernetes"}},
			)
		}
	})
	web := b.client
	kube := b.as(t, fleet.Kubernetes, "main")
	const upgrade = "Connection: Upgrade|Upgrade: websocket"
	for _, tt := range []struct {
		client  *http.Client
		request string // METHOD PATH [header|header …]
		status  int
	}{
		{web, "GET /pub", 200},
		{web, "GET /pub/ad%2fmin", 200},
		{web, "GET /admin", 403},
		{web, "GET /admin/", 403},
		{web, "GET /keys/a/", 403},
		{web, "GET /keys/a%2fb", 403},
		{web, "GET /%2561dmin/x", 403},
		{web, "GET /pub/%252e%252e/admin", 400},
		{web, "GET /admin%00", 400},
		{web, "GET /Admin/x", 403},
		{web, "GET /%41DMIN", 403},
		{web, "DELETE /pub", 403},
		{web, "POST /pub X-HTTP-Method-Override: DELETE", 403},
		{web, "POST /pub X-Http-Method: delete", 403},
		{web, "GET /pub X-METHOD-OVERRIDE: DELETE", 403},
		{web, "POST /pub X-HTTP-Method-Override: PATCH", 200},
		{web, "POST /pub X_HTTP_Method_Override: DELETE", 403},
		{web, "POST /pub?_method=delete", 403},
		{web, "POST /pub?a=1&%5fmethod=DELETE", 403},
		{web, "POST /pub?a=1;_method=DELETE", 403},
		{web, "POST /pub?_METHOD=DELETE", 403},
		{web, "POST /pub?x-http-method-override=DELETE", 403},
		{web, "POST /pub?.method=DELETE", 403},
		{web, "POST /pub?+_method%00x=DELETE", 403},
		{web, "POST /pub X.HTTP.Method.Override: DELETE", 403},
		{web, "POST /pub?method=DELETE", 200},
		{kube, "GET /api/v1/pods", 200},
		{kube, "GET /api/v1/watch/pods", 200},
		{kube, "GET /api/v1/namespaces/a/pods/p/log?follow=true", 200},
		{kube, "GET /apis", 200},
		{kube, "DELETE /api/v1/watch/namespaces/a/pods/p", 403},
		{kube, "POST /api/v1/watch/pods", 403},
		{kube, "GET /api/v1/namespaces/a/pods/p/exec?command=id " + upgrade, 403},
		{kube, "GET /api/v1/namespaces/a/pods/p/exec?command=id", 403},
		{kube, "GET /api/v1/namespaces/a/pods/p/attach", 403},
		{kube, "GET /api/v1/namespaces/a/pods/p%2fexec?command=id", 403},
		{kube, "GET /api/v1/namespaces/a/pods/p/portforward " + upgrade, 403},
		{kube, "GET /api/v1/nodes/n/proxy/metrics", 200},
		{kube, "GET /api/v1/nodes/n/proxy/exec/a/p/c?command=id " + upgrade, 403},
		{kube, "GET /api/v1/namespaces/a/pods/p:80/proxy/ " + upgrade, 403},
		{kube, "GET /api/v1/proxy/nodes/n/exec/a/p/c", 403},
		{kube, "GET /api/v1/pods X-HTTP-Method-Override: DELETE", 200}, // Kubernetes knows none
		{kube, "DELETE /api/v1/namespaces/a/pods/p?dryRun=All", 403},
		{kube, "GET /metrics", 403},
		{kube, "GET /logs/", 403},
		{kube, "GET /api/v1//pods", 403},
		{kube, "GET //api/v1/pods", 200}, // Kubernetes reads it so, too
		{kube, "GET /api/v1/namespaces/a;x=y/pods", 403},
		{kube, "GET /api/v1/pods Impersonate-User: admin", 403},
		{kube, "GET /api/v1/pods impersonate-user: admin", 403},
		{kube, "GET /api/v1/pods IMPERSONATE-GROUP: system:masters", 403},
		{kube, "GET /api/v1/pods Impersonate-Uid: 0", 403},
		{kube, "GET /api/v1/pods Impersonate-Extra-Scopes: all", 403},
		{kube, "GET /api/v1/pods impersonate-extra-x%2fy: all", 403},
		{kube, "GET /api/v1/pods Connection: Impersonate-User, close|Impersonate-User: admin", 403},
	} {
		t.Run(tt.request, func(t *testing.T) {
			parts := strings.SplitN(tt.request, " ", 3)
			text := parts[0] + " " + parts[1] + " HTTP/1.1\r\nHost: a\r\n"
			if len(parts) == 3 {
				text += strings.ReplaceAll(parts[2], "|", "\r\n") + "\r\n"
			}
			as := *b
			as.client = tt.client
			resp := raw(t, &as, text+"\r\n")
			resp.Body.Close()
			got := service.take()
			if resp.StatusCode != tt.status || (len(got) > 0) != (tt.status == 200) {
				t.Errorf("%s, %d at the service; want %d", resp.Status, len(got), tt.status)
			}
		})
	}
}

// Birger's agent didn't look at the certificate of its cluster's API server:
// whoever was in between got its token.
func TestForward_Kubernetes_untrusted(t *testing.T) {
	service := &arrived{}
	api := httptest.NewTLSServer(service)
	t.Cleanup(api.Close)
	api.Config.ErrorLog = log.New(io.Discard, "", 0)
	config := write(t, "kubeconfig", fmt.Sprintf(`
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: %q}}]
users: [{name: u, user: {token: agents-token}}]
`, api.URL))
	b := start(t, http.NotFoundHandler(), func(o *forwardtest.Options) {
		o.Upstreams = append(o.Upstreams, forward.Upstream{Type: fleet.Kubernetes, Name: "main", KubeConfig: config})
	})
	resp, body := do(t, b.as(t, fleet.Kubernetes, "main"), request(t, "GET", b.URL+"/api", nil))
	if resp.StatusCode != 502 || !strings.Contains(body, "certificate that the agent doesn't trust") || len(service.take()) > 0 {
		t.Errorf("%s %s", resp.Status, body)
	}
}

// A credential that is revoked while its request becomes a connection of its
// own, or its stream begins, doesn't outlive that.
func TestHub_revocation_races(t *testing.T) {
	var ca *pki.CA
	ended := make(chan error, 100)
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		revoked := make(chan struct{})
		go func() {
			defer close(revoked)
			if _, err := ca.Revocations().Revoke(context.Background(), nothing{}, pki.Revocation{Kind: pki.ByToken, ID: r.Header.Get("Jti")}); err != nil {
				t.Error(err)
			}
		}()
		defer func() { <-revoked }()
		if r.Header.Get("Upgrade") == "" { // server-sent events
			w.Header().Set("Content-Type", "text/event-stream")
			for i := 0; r.Context().Err() == nil; i++ {
				if _, err := fmt.Fprintf(w, "data: %d\n\n", i); err != nil {
					return
				}
				http.NewResponseController(w).Flush()
			}
			return
		}
		conn, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(conn, brw)
	}), func(o *forwardtest.Options) {
		o.Audit = forward.AuditorFunc(func(_ context.Context, e forward.Exchange) {
			if !e.Begins {
				ended <- e.Err
			}
		})
	})
	ca = b.CA
	as := *b
	as.client = b.Anonymous()
	for i := range 60 {
		token, err := ca.NewServiceToken(held("alice"), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ca.VerifyServiceToken(token)
		if err != nil {
			t.Fatal(err)
		}
		upgrade := ""
		if i%2 == 0 {
			upgrade = "Connection: Upgrade\r\nUpgrade: echo\r\n"
		}
		conn := dialServices(t, &as)
		if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nJti: %s\r\n%s\r\n", token, c.ID, upgrade); err != nil {
			t.Fatal(err)
		}
		stuck := time.AfterFunc(within, func() { t.Errorf("%d goes on", i); conn.Close() })
		io.Copy(io.Discard, conn) // ends when the hub ends it
		if stuck.Stop() {
			if err := <-ended; !errors.Is(err, pki.ErrRevoked) {
				t.Errorf("%d ended by %v", i, err)
			}
		}
		conn.Close()
	}
}

// within is how soon what was revoked has to be over.
const within = 5 * time.Second
