package forward_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/forward/forwardtest"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/tunnel"
)

// net/http waits for half a second before it closes a connection whose request
// it didn't read to the end, also when the server is closed.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// bench is a rig with one service, x-web/main, that h serves.
type bench struct {
	*forwardtest.Rig
	service *httptest.Server
	client  *http.Client
}

func start(t *testing.T, h http.Handler, change ...func(*forwardtest.Options)) *bench {
	t.Helper()
	b := &bench{service: httptest.NewUnstartedServer(h)}
	b.service.Config.ErrorLog = log.New(io.Discard, "", 0)
	b.service.StartTLS()
	t.Cleanup(b.service.Close)
	opt := forwardtest.Options{Upstreams: []forward.Upstream{{
		Type: "x-web", Name: "main", URL: b.service.URL, CAFile: caFile(t, b.service),
	}}}
	for _, c := range change {
		c(&opt)
	}
	rig, err := forwardtest.Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rig.Close)
	b.Rig = rig
	b.client = b.as(t, "x-web", "main")
	return b
}

// as answers a client with the certificate of a service.
func (b *bench) as(t *testing.T, typ fleet.ServiceType, name string) *http.Client {
	t.Helper()
	return b.with(t, pki.Identity{Purpose: pki.Service, Agent: forwardtest.AgentName, Type: typ, Name: name})
}

func (b *bench) with(t *testing.T, id pki.Identity) *http.Client {
	t.Helper()
	c, err := b.Client(id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func caFile(t *testing.T, s *httptest.Server) string {
	t.Helper()
	return write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// do sends a request and answers its status and body.
func do(t *testing.T, c *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func byCarrier(t *testing.T, f func(*testing.T, func(*forwardtest.Options))) {
	for _, c := range tunnel.DefaultCarriers {
		t.Run(string(c), func(t *testing.T) {
			f(t, func(o *forwardtest.Options) { o.Carrier = c })
		})
	}
}

func TestForward_request_arrives_as_it_was_sent(t *testing.T) {
	type seen struct {
		Method, URI, Host, Body string
		Header                  http.Header
	}
	var got seen
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = seen{r.Method, r.RequestURI, r.Host, string(body), r.Header}
		w.Header().Set("X-Answer", "yes")
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, "short and stout")
	}))
	r := request(t, "PATCH", b.URL+"/a%2Fb/..c//d?q=1;2&&q=%zz", strings.NewReader("body"))
	r.Header = http.Header{
		"Authorization":     {"Bearer caller's-secret"},
		"X-Opsmx-Token":     {"caller's-secret"},
		"Reeve-Service":     {"x-web/other"},
		"Reeve-Anything":    {"1"},
		"X-Forwarded-For":   {"6.6.6.6"},
		"X-Forwarded-User":  {"admin"},
		"X_Forwarded_User":  {"admin"},
		"X-Real-Ip":         {"6.6.6.6"},
		"Forwarded":         {"for=6.6.6.6"},
		"Connection":        {"Reeve-Service, X-Forwarded-For, X-Hop"},
		"X-Hop":             {"for the first proxy only"},
		"Proxy-Connection":  {"keep-alive"},
		"Cookie":            {"a=b"},
		"Accept-Encoding":   {"br"},
		"User-Agent":        {"test"},
		"Content-Type":      {"application/json"},
		"If-None-Match":     {`"x"`},
		"Impersonate-Group": {"a", "b"},
	}
	resp, body := do(t, b.client, r)
	if resp.StatusCode != http.StatusTeapot || body != "short and stout" || resp.Header.Get("X-Answer") != "yes" {
		t.Errorf("answer: %s %q %v", resp.Status, body, resp.Header)
	}
	host := strings.TrimPrefix(b.service.URL, "https://")
	want := seen{"PATCH", "/a%2Fb/..c//d?q=1;2&&q=%zz", host, "body", http.Header{
		"X-Forwarded-For":   {"127.0.0.1"},
		"X-Forwarded-Host":  {strings.TrimPrefix(b.URL, "https://")},
		"X-Forwarded-Proto": {"https"},
		"Cookie":            {"a=b"},
		"Accept-Encoding":   {"br"},
		"User-Agent":        {"test"},
		"Content-Type":      {"application/json"},
		"Content-Length":    {"4"},
		"If-None-Match":     {`"x"`},
		"Impersonate-Group": {"a", "b"},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("request at the service (-want +got):\n%s", d)
	}
}

// Browsers send and take cookies for a host, whatever the port: the hub's own
// must not reach a service, and a service must not set them.
func TestForward_keeps_the_cookies_of_the_hub_to_itself(t *testing.T) {
	var got []string
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header["Cookie"]
		for _, c := range []string{"__Host-reeve-session=evil; Path=/; Secure", "=__Host-reeve-session=evil", "own=1; Path=/", "tossed=domain=a; DOMAIN=example.com;Path=/; domain ; HttpOnly"} {
			w.Header().Add("Set-Cookie", c)
		}
		w.Header().Set("Alt-Svc", `h3=":443"`)
		w.Header().Set("Clear-Site-Data", `"cookies"`)
		w.Header().Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	}))
	for cookie, want := range map[string][]string{
		"a=b; __Host-reeve-session=reeve-session_x_y; c=d": {"a=b; c=d"},
		"__Host-reeve-session=reeve-session_x_y":           nil,
		"a=b;c=__Host-reeved":                              {"a=b;c=__Host-reeved"},
	} {
		r := request(t, "GET", b.URL, nil)
		r.Header.Set("Cookie", cookie)
		resp, _ := do(t, b.client, r)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("cookies at the service (-want +got):\n%s", d)
		}
		if d := cmp.Diff([]string{"own=1; Path=/", "tossed=domain=a;Path=/; HttpOnly"}, resp.Header["Set-Cookie"]); d != "" {
			t.Errorf("cookies at the caller (-want +got):\n%s", d)
		}
		if h := resp.Header; h.Get("Alt-Svc")+h.Get("Clear-Site-Data")+h.Get("Strict-Transport-Security") != "" {
			t.Errorf("at the caller: %q", h)
		}
	}
}

// An Upgrade to clear-text HTTP/2 would be a tunnel past every check of paths.
func TestForward_passes_no_Upgrade_to_h2c(t *testing.T) {
	var got http.Header
	b := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	resp := raw(t, b, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: foo, h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n")
	resp.Body.Close()
	if resp.StatusCode != 200 || got == nil || got.Get("Upgrade") != "" || got.Get("Http2-Settings") != "" {
		t.Errorf("%s; at the service: %v", resp.Status, got)
	}
}

func TestForward_path_stays_below_the_configured_one(t *testing.T) {
	uri := ""
	b := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { uri = r.RequestURI }),
		func(o *forwardtest.Options) { o.Upstreams[0].URL += "/team/a" })
	for path, want := range map[string]string{
		"/x;v=1/y": "/team/a/x;v=1/y", "/..a": "/team/a/..a",
		"/../b": "", "/%2e%2e/b": "", "/x%2f..%2f..%2fb": "", `/..%5cb`: "", "/..;/b": "", "/..%3bx=1/b": "",
	} {
		uri = ""
		resp := raw(t, b, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
		resp.Body.Close()
		if refused := resp.StatusCode == http.StatusBadRequest; uri != want || refused != (want == "") {
			t.Errorf("%s: %s, at the service %q, want %q", path, resp.Status, uri, want)
		}
	}
}

// Where a service sends its callers on to itself is where they reach it, and no
// address of the inside.
func TestForward_redirects_lead_back_by_the_hub(t *testing.T) {
	for _, base := range []string{"", "/team/a"} {
		var host, location string
		b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host = r.Host
			w.Header().Set("Location", strings.NewReplacer("HOST", r.Host, "BASE", base).Replace(location))
			w.WriteHeader(http.StatusFound)
		}), func(o *forwardtest.Options) { o.Upstreams[0].URL += base })
		for sent, want := range map[string]string{
			"https://HOSTBASE/login?a=1&b=%2f#c": "/login?a=1&b=%2f#c",
			"http://HOSTBASE/":                   "/",
			"//HOSTBASE/x%2Fy":                   "/x%2Fy",
			"https://HOSTBASE?a":                 "/?a",
			"BASE/x":                             "/x",
			"next?a=//b":                         "next?a=//b",
			"?page=2":                            "?page=2",
			"https://elsewhere.example/x":        "https://elsewhere.example/x",
			"https://HOSTBASE//evil.example/":    "https://HOSTBASE//evil.example/",
			"ftp://HOST/x":                       "ftp://HOST/x",
		} {
			location = sent
			resp := raw(t, b, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
			resp.Body.Close()
			want = strings.NewReplacer("HOST", host, "BASE", base).Replace(want)
			if got := resp.Header.Get("Location"); got != want {
				t.Errorf("below %q, %s: %s, want %s", base, sent, got, want)
			}
		}
	}
}

func TestForward_puts_the_service_credentials_in(t *testing.T) {
	var got string
	service := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Authorization") })
	t.Setenv("REEVE_TEST_TOKEN", "from-environment")
	file := write(t, "secret", "s3cret\n")
	for _, tt := range []struct {
		name string
		cred forward.Credentials
		want string
	}{
		{"none", forward.Credentials{}, ""},
		{"basic", forward.Credentials{Type: "basic", Username: "user", PasswordFile: file}, "Basic dXNlcjpzM2NyZXQ="},
		{"bearer from the environment", forward.Credentials{Type: "bearer", TokenEnv: "REEVE_TEST_TOKEN"}, "Bearer from-environment"},
		{"token", forward.Credentials{Type: "token", TokenFile: file}, "token s3cret"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got = "unset"
			b := start(t, service, func(o *forwardtest.Options) { o.Upstreams[0].Credentials = tt.cred })
			r := request(t, "GET", b.URL, nil)
			r.SetBasicAuth("caller", "caller's")
			do(t, b.client, r)
			if got != tt.want {
				t.Errorf("Authorization is %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("a changed file is read again", func(t *testing.T) {
		b := start(t, service, func(o *forwardtest.Options) {
			o.Upstreams[0].Credentials = forward.Credentials{Type: "bearer", TokenFile: file}
		})
		do(t, b.client, request(t, "GET", b.URL, nil))
		if err := os.WriteFile(file, []byte("another one"), 0o600); err != nil {
			t.Fatal(err)
		}
		do(t, b.client, request(t, "GET", b.URL, nil))
		if want := "Bearer another one"; got != want {
			t.Errorf("Authorization is %q, want %q", got, want)
		}
		os.Remove(file)
		resp, body := do(t, b.client, request(t, "GET", b.URL, nil))
		if resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "needs a credential") || strings.Contains(body, file) {
			t.Errorf("without the file: %s %s", resp.Status, body)
		}
	})
}

func TestForward_tokens(t *testing.T) {
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "reached") }))
	token, err := b.CA.IssueServiceToken(forwardtest.AgentName, "x-web", "main", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	other, err := pki.NewCA("another")
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.IssueServiceToken(forwardtest.AgentName, "x-web", "main", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	anonymous := b.Anonymous()
	t.Cleanup(anonymous.CloseIdleConnections)
	bearer := func(s string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+s) }
	}
	for _, tt := range []struct {
		name string
		set  func(*http.Request)
		want int
	}{
		{"X-Opsmx-Token before all", func(r *http.Request) { r.Header.Set("X-Opsmx-Token", token); bearer("x")(r) }, 200},
		{"Bearer", bearer(token), 200},
		{"lower case bearer", func(r *http.Request) { r.Header.Set("Authorization", "bearer "+token) }, 200},
		{"password of Basic", func(r *http.Request) { r.SetBasicAuth("anybody", token) }, 200},
		{"none", func(*http.Request) {}, 401},
		{"empty Bearer", bearer(""), 401},
		{"foreign", bearer(foreign), 401},
		{"cut off", bearer(token[:len(token)-3]), 401},
		{"no token at all", bearer("x.y.z"), 401},
		{"huge", bearer(strings.Repeat("x.", 50_000)), 401},
		{"an unknown scheme", func(r *http.Request) { r.Header.Set("Authorization", "Digest "+token) }, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := request(t, "GET", b.URL, nil)
			tt.set(r)
			resp, body := do(t, anonymous, r)
			if resp.StatusCode != tt.want || (body == "reached") != (tt.want == 200) {
				t.Errorf("got %s %s", resp.Status, body)
			}
			if tt.want == 401 {
				if got := resp.Header.Values("WWW-Authenticate"); len(got) != 2 {
					t.Errorf("WWW-Authenticate: %q", got)
				}
				if strings.Contains(body, token[20:40]) || strings.Contains(body, foreign[20:40]) {
					t.Errorf("the answer quotes the token: %s", body)
				}
			}
		})
	}
}

func TestForward_problems(t *testing.T) {
	b := start(t, http.NotFoundHandler(), func(o *forwardtest.Options) {
		closed, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		closed.Close()
		off := false
		o.Upstreams = append(o.Upstreams,
			forward.Upstream{Type: "x-web", Name: "down", URL: "http://" + closed.Addr().String()},
			forward.Upstream{Type: "x-web", Name: "off", Enabled: &off, URL: "http://127.0.0.1:1"},
			forward.Upstream{Type: "x-web", Name: "untrusted", URL: o.Upstreams[0].URL},
			forward.Upstream{Type: "x-web", Name: "base", URL: o.Upstreams[0].URL + "/base", CAFile: o.Upstreams[0].CAFile},
		)
	})
	service := func(typ fleet.ServiceType, name string) pki.Identity {
		return pki.Identity{Purpose: pki.Service, Agent: forwardtest.AgentName, Type: typ, Name: name}
	}
	elsewhere := service("x-web", "main")
	elsewhere.Agent = "nobody"
	for _, tt := range []struct {
		name string
		id   pki.Identity
		path string
		want int
		says string
	}{
		{"unknown agent", elsewhere, "/", 404, `no agent "nobody"`},
		{"unknown service", service("x-web", "absent"), "/", 404, `no service "x-web/absent"`},
		{"switched off", service("x-web", "off"), "/", 404, `no service "x-web/off"`},
		{"certificate of an agent", pki.Identity{Purpose: pki.Agent, Agent: forwardtest.AgentName}, "/", 403, "purpose agent"},
		{"service down", service("x-web", "down"), "/", 502, "refuses the agent's connection"},
		{"service with a foreign certificate", service("x-web", "untrusted"), "/", 502, "set caFile"},
		{"path above the service's", service("x-web", "base"), "/x/../../admin", 400, ".."},
		{"the same, encoded", service("x-web", "base"), "/x/%2e%2E/%2e./admin", 400, ".."},
		{"the same with backslashes", service("x-web", "base"), `/..%5cadmin`, 400, ".."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := b.with(t, tt.id)
			resp, body := do(t, c, request(t, "GET", b.URL+tt.path, nil))
			var p struct {
				Title, Detail string
				Status        int
			}
			if err := json.Unmarshal([]byte(body), &p); err != nil {
				t.Fatalf("%v in %s", err, body)
			}
			if resp.StatusCode != tt.want || p.Status != tt.want || !strings.Contains(p.Detail, tt.says) {
				t.Errorf("got %s %s; want %d with %q", resp.Status, body, tt.want, tt.says)
			}
			if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("Content-Type %q", got)
			}
			if strings.Contains(body, "127.0.0.1") {
				t.Errorf("the answer tells the service's address: %s", body)
			}

			r := request(t, "GET", b.URL+tt.path, nil)
			r.Header.Set("User-Agent", "kubectl/v1.37.2 (linux/amd64) kubernetes/0123456")
			if tt.want == 403 {
				_, body = do(t, c, r)
				var s metav1.Status
				if err := json.Unmarshal([]byte(body), &s); err != nil {
					t.Fatal(err)
				}
				if s.Kind != "Status" || s.Code != 403 || s.Reason != metav1.StatusReasonForbidden || s.Message == "" {
					t.Errorf("to kubectl: %s", body)
				}
			}
		})
	}
	t.Run("agent away", func(t *testing.T) {
		b.Disconnect()
		resp, body := do(t, b.client, request(t, "GET", b.URL, nil))
		if resp.StatusCode != 502 || !strings.Contains(body, "isn't connected") {
			t.Errorf("got %s %s", resp.Status, body)
		}
		if err := b.Connect(); err != nil {
			t.Fatal(err)
		}
		if resp, body := do(t, b.client, request(t, "GET", b.URL, nil)); resp.StatusCode != 404 || !strings.Contains(body, "page not found") {
			t.Errorf("back again: %s %s", resp.Status, body)
		}
	})
}

// raw sends bytes to the services port and answers the status.
func raw(t *testing.T, b *bench, text string) *http.Response {
	t.Helper()
	conn := dialServices(t, b)
	go io.WriteString(conn, text)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// dialServices connects to the services port with b's certificate.
func dialServices(t *testing.T, b *bench) *tls.Conn {
	t.Helper()
	return dialServicesBy(t, b, "http/1.1")
}

func dialServicesBy(t *testing.T, b *bench, proto string) *tls.Conn {
	t.Helper()
	cfg := b.client.Transport.(*http.Transport).TLSClientConfig.Clone()
	cfg.NextProtos = []string{proto}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(b.URL, "https://"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestForward_odd_requests(t *testing.T) {
	var host, uri string
	b := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { host, uri = r.Host, r.RequestURI }))
	for _, tt := range []struct {
		name, text string
		want       int
		uri        string
	}{
		{"absolute form of another host", "GET http://evil.example/x HTTP/1.1\r\nHost: evil.example\r\n\r\n", 400, ""},
		{"absolute form of another host, with the hub's Host", "GET https://evil.example/x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400, ""},
		{"a step upwards", "GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""},
		{"the same, encoded", "GET /a/%2e%2E/b HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""},
		{"the same within a step", "GET /a%2f..%2fb HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""},
		{"the same with parameters", "GET /a/..;x=1/b HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""},
		{"no path", "GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""},
		{"a preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, ""},
		{"double slash isn't a host", "GET //evil.example/x HTTP/1.1\r\nHost: a\r\n\r\n", 200, "//evil.example/x"},
		{"CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", 400, ""},
		{"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200, ""}, // answered by net/http itself
		{"two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, ""},
		{"length and chunks", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, "/"},
		{"chunks in disguise", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, ""},
		{"chunks twice", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 501, ""},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, ""},
		{"a header's end in a header", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rReeve-Service: x-web/other\r\n\r\n", 400, ""},
		{"an Upgrade to no protocol", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: web\xc3\xa9\r\n\r\n", 400, ""},
		{"an Upgrade without a name", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n\r\n", 200, "/"},
		{"space before the colon", "GET / HTTP/1.1\r\nHost: a\r\nReeve-Service : x-web/other\r\n\r\n", 400, ""},
		{"a megabyte of header", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("a", 1<<20) + strings.Repeat("b", 8<<10) + "\r\n\r\n", 431, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host, uri = "", ""
			resp := raw(t, b, tt.text)
			resp.Body.Close()
			if resp.StatusCode != tt.want || uri != tt.uri {
				t.Errorf("got %s, and %q at the service; want %d, %q", resp.Status, uri, tt.want, tt.uri)
			}
			if uri != "" && host != strings.TrimPrefix(b.service.URL, "https://") {
				t.Errorf("Host at the service is %q", host)
			}
		})
	}
}

// noise is n bytes that are the same each time.
func noise(n int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{1}), n) }

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

func TestForward_large_bodies_in_constant_memory(t *testing.T) {
	const size = 100 << 20
	h := sha256.New()
	io.Copy(h, noise(size))
	want := sum(h)
	byCarrier(t, func(t *testing.T, carrier func(*forwardtest.Options)) {
		b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "GET" {
				io.Copy(w, noise(size))
				return
			}
			h := sha256.New()
			io.Copy(h, r.Body)
			io.WriteString(w, sum(h))
		}), carrier)
		peak := watchHeap(t)
		resp, err := b.client.Get(b.URL)
		if err != nil {
			t.Fatal(err)
		}
		down := sha256.New()
		n, err := io.Copy(down, resp.Body)
		resp.Body.Close()
		if err != nil || n != size || sum(down) != want {
			t.Errorf("download: %d bytes, %v", n, err)
		}
		if _, got := do(t, b.client, request(t, "POST", b.URL, noise(size))); got != want {
			t.Errorf("upload's sum is %s, want %s", got, want)
		}
		if got := peak(); got > 48<<20 {
			t.Errorf("heap grew by %d MiB", got>>20)
		}
	})
}

// watchHeap answers by how much the heap grew at most until it is called.
func watchHeap(t *testing.T) (peak func() uint64) {
	live := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	runtime.GC()
	before, most := live(), uint64(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				most = max(most, live())
			case <-stop:
				return
			}
		}
	}()
	return sync.OnceValue(func() uint64 {
		close(stop)
		<-done
		return max(most, before) - before
	})
}

func TestForward_stalled_callers_hold_up_nobody(t *testing.T) {
	byCarrier(t, func(t *testing.T, carrier func(*forwardtest.Options)) {
		release := make(chan struct{})
		defer close(release)
		b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).EnableFullDuplex()
			switch r.URL.Path {
			case "/endless":
				for block := make([]byte, 64<<10); ; {
					if _, err := w.Write(block); err != nil {
						return
					}
				}
			case "/deaf":
				w.WriteHeader(http.StatusOK)
				http.NewResponseController(w).Flush()
				<-release // a server that doesn't read doesn't see its client leave either
			default:
				io.Copy(w, r.Body)
			}
		}), carrier)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for range 8 { // read nothing of an endless answer
			r, _ := http.NewRequestWithContext(ctx, "GET", b.URL+"/endless", nil)
			resp, err := b.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
		}
		for range 3 { // upload without end to one that doesn't read
			r, _ := http.NewRequestWithContext(ctx, "POST", b.URL+"/deaf", zeros{})
			resp, err := b.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
		}
		text := strings.Repeat("x", 1<<20)
		for range 20 {
			if _, got := do(t, b.client, request(t, "POST", b.URL, strings.NewReader(text))); got != text {
				t.Fatalf("got %d bytes back, want %d", len(got), len(text))
			}
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestForward_cancel_reaches_the_service(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	audit := make(chan forward.Exchange, 1)
	for _, path := range []string{"/silent", "/answering"} {
		t.Run(path, func(t *testing.T) {
			b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/answering" {
					w.Write([]byte("x"))
					http.NewResponseController(w).Flush()
				} else {
					begun <- struct{}{}
				}
				<-r.Context().Done()
				ended <- struct{}{}
			}), func(o *forwardtest.Options) {
				o.Audit = forward.AuditorFunc(func(_ context.Context, e forward.Exchange) { audit <- e })
			})
			ctx, cancel := context.WithCancel(t.Context())
			r, _ := http.NewRequestWithContext(ctx, "GET", b.URL+path, nil)
			go func() {
				resp, err := b.client.Do(r)
				if err == nil {
					resp.Body.Read(make([]byte, 1))
					begun <- struct{}{}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}()
			<-begun
			cancel()
			<-ended
			e := <-audit
			want := map[string]int{"/silent": 499, "/answering": 200}[path]
			if e.Status != want || e.Err == nil {
				t.Errorf("audit: status %d, %v; want %d with an error", e.Status, e.Err, want)
			}
		})
	}
}

func TestForward_watch_outlasts_the_server_limits(t *testing.T) {
	next := make(chan string)
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for line := range next {
			io.WriteString(w, line+"\n")
			http.NewResponseController(w).Flush()
		}
	}), func(o *forwardtest.Options) {
		o.Services = func(s *http.Server) { s.WriteTimeout, s.ReadTimeout = 500*time.Millisecond, 500*time.Millisecond }
	})
	go func() { next <- "first" }()
	resp, err := b.client.Get(b.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Scan()
	time.Sleep(600 * time.Millisecond) // the limits pass: there is nothing to wait for
	next <- "second"
	close(next)
	if !lines.Scan() || lines.Text() != "second" {
		t.Errorf("second line: %q, %v", lines.Text(), lines.Err())
	}
}

func TestForward_trailers_pass_both_ways(t *testing.T) {
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.Copy(w, r.Body)
		w.Header().Set("X-Sum", "answer to "+r.Trailer.Get("X-Sum"))
	}))
	r := request(t, "POST", b.URL, nil)
	r.Trailer = http.Header{"X-Sum": nil}
	r.Body = io.NopCloser(&atEnd{Reader: strings.NewReader("text"), f: func() { r.Trailer.Set("X-Sum", "question") }})
	r.ContentLength = -1
	resp, body := do(t, b.client, r)
	if got := resp.Trailer.Get("X-Sum"); body != "text" || got != "answer to question" {
		t.Errorf("body %q, trailer %q", body, got)
	}
}

type atEnd struct {
	io.Reader
	f func()
}

func (a *atEnd) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if err == io.EOF {
		a.f()
	}
	return n, err
}

func TestForward_broken_answer_looks_broken(t *testing.T) {
	for _, length := range []string{"", "1000000"} {
		t.Run("length "+length, func(t *testing.T) {
			b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				w.Write(make([]byte, 1000))
				http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}))
			resp, err := b.client.Get(b.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if n, err := io.Copy(io.Discard, resp.Body); err == nil {
				t.Errorf("%d bytes and no error", n)
			}
		})
	}
	t.Run("link lost", func(t *testing.T) {
		b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Write(make([]byte, 1000))
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}))
		resp, err := b.client.Get(b.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b.Disconnect()
		if n, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Errorf("%d bytes and no error", n)
		}
	})
}

// Nothing of a stalled upload can be waited for once its carrier is gone.
func TestForward_link_lost_while_an_upload_stalls(t *testing.T) {
	got := make(chan struct{})
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.ReadFull(r.Body, make([]byte, 1))
		close(got)
		io.Copy(io.Discard, r.Body)
	}))
	stalls, more := io.Pipe()
	defer more.Close()
	go func() {
		more.Write([]byte("1"))
		<-got
		b.Disconnect()
	}()
	resp, body := do(t, b.client, request(t, "POST", b.URL, stalls))
	if resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "broke before the service answered: this side closed the connection") {
		t.Errorf("got %s %q", resp.Status, body)
	}
}

func TestForward_answer_before_the_end_of_the_upload(t *testing.T) {
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "too large for me", http.StatusRequestEntityTooLarge)
	}))
	stalls, more := io.Pipe()
	go io.Copy(more, noise(1<<20)) // and then nothing, but no end either
	t.Cleanup(func() { more.Close() })
	for name, upload := range map[string]io.Reader{"stalls": stalls, "goes on": noise(64 << 20)} {
		t.Run(name, func(t *testing.T) {
			resp, body := do(t, b.client, request(t, "POST", b.URL, upload))
			if resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(body, "too large for me") {
				t.Errorf("got %s %q", resp.Status, body)
			}
		})
	}
}

func TestForward_WebSocket(t *testing.T) {
	byCarrier(t, func(t *testing.T, carrier func(*forwardtest.Options)) {
		b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"v5.channel.k8s.io"}})
			if err != nil {
				return
			}
			defer ws.CloseNow()
			ws.SetReadLimit(-1)
			for {
				typ, data, err := ws.Read(r.Context())
				if err != nil {
					return
				}
				ws.Write(r.Context(), typ, data)
			}
		}), carrier)
		ws, _, err := websocket.Dial(t.Context(), b.URL+"/exec", &websocket.DialOptions{
			HTTPClient: b.client, Subprotocols: []string{"v5.channel.k8s.io"},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		ws.SetReadLimit(-1)
		if got := ws.Subprotocol(); got != "v5.channel.k8s.io" {
			t.Errorf("subprotocol %q", got)
		}
		for _, n := range []int{0, 1, 125, 126, 65535, 65536, 5 << 20} {
			sent := make([]byte, n)
			io.ReadFull(noise(int64(n)), sent)
			if err := ws.Write(t.Context(), websocket.MessageBinary, sent); err != nil {
				t.Fatal(err)
			}
			if _, got, err := ws.Read(t.Context()); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("%d bytes: got %d back, %v", n, len(got), err)
			}
		}
		if err := ws.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
	})
}

func TestForward_upgrade_with_half_closed_directions(t *testing.T) {
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "SPDY/3.1" {
			http.Error(w, "no Upgrade", http.StatusBadRequest)
			return
		}
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "SPDY/3.1")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		// Say something first, read to the end, and only then answer.
		io.WriteString(conn, "hello\n")
		h := sha256.New()
		io.Copy(h, brw)
		io.WriteString(conn, sum(h))
	}))
	cfg := b.client.Transport.(*http.Transport).TLSClientConfig.Clone()
	cfg.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(b.URL, "https://"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST /exec?command=sh HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != "SPDY/3.1" {
		t.Fatalf("%v %v", resp, err)
	}
	if line, err := br.ReadString('\n'); line != "hello\n" {
		t.Fatalf("%q, %v", line, err)
	}
	h := sha256.New()
	if _, err := io.Copy(conn, io.TeeReader(noise(10<<20), h)); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(br); err != nil || string(got) != sum(h) {
		t.Errorf("answer behind the end of input: %q, %v; want %q", got, err, sum(h))
	}
}

func TestForward_Kubernetes(t *testing.T) {
	type seen struct{ Proto, Auth, Path string }
	got := make(chan seen, 1)
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- seen{r.Proto, r.Header.Get("Authorization"), r.RequestURI}
		if r.Header.Get("Upgrade") != "" {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", r.Header.Get("Upgrade"))
			w.WriteHeader(http.StatusSwitchingProtocols)
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
		}
	}))
	api.EnableHTTP2 = true
	api.StartTLS()
	t.Cleanup(api.Close)
	kubeConfig := write(t, "kubeconfig", fmt.Sprintf(`
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: u, user: {token: agents-token}}]
`, api.URL+"/k8s/clusters/one", caFile(t, api)))
	b := start(t, http.NotFoundHandler(), func(o *forwardtest.Options) {
		o.Upstreams = append(o.Upstreams, forward.Upstream{Type: fleet.Kubernetes, Name: "main", KubeConfig: kubeConfig})
	})
	c := b.as(t, fleet.Kubernetes, "main")
	r := request(t, "GET", b.URL+"/api/v1/pods?watch=1", nil)
	r.Header.Set("Authorization", "Bearer callers-token")
	do(t, c, r)
	if d := cmp.Diff(seen{"HTTP/2.0", "Bearer agents-token", "/k8s/clusters/one/api/v1/pods?watch=1"}, <-got); d != "" {
		t.Error(d)
	}
	b.client = c
	resp := raw(t, b, "POST /api/v1/exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("upgrade: %s", resp.Status)
	}
	if d := cmp.Diff(seen{"HTTP/1.1", "Bearer agents-token", "/k8s/clusters/one/api/v1/exec"}, <-got); d != "" {
		t.Error(d)
	}
	b.Disconnect()
	_, body := do(t, c, request(t, "GET", b.URL+"/api", nil))
	var s metav1.Status
	if err := json.Unmarshal([]byte(body), &s); err != nil || s.Kind != "Status" || s.Code != 502 || !strings.Contains(s.Message, "isn't connected") {
		t.Errorf("agent away: %s", body)
	}
	api.CloseClientConnections()
}

// A watch whose link is lost ends as one that the API ends, so that informers
// go on from where they were; one in the middle of an event, and any other
// answer, breaks off.
func TestForward_Kubernetes_watch_without_a_link(t *testing.T) {
	for name, c := range map[string]struct {
		path, body, media string
		peace             bool
	}{
		"between two events":         {"/api/v1/pods?watch=true", "{}\n{}\n", "application/json", true},
		"in the middle of an event":  {"/api/v1/pods?watch=true", "{}\n{", "application/json", false},
		"lengths before events":      {"/api/v1/pods?watch=1", "\x00\x00\x00\x02ab", "application/vnd.kubernetes.protobuf;stream=watch", true},
		"a log":                      {"/api/v1/namespaces/a/pods/b/log?follow=true", "a\n", "application/json", false},
		"a list that isn't all here": {"/api/v1/pods", "{}\n", "application/json", false},
	} {
		t.Run(name, func(t *testing.T) {
			api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", c.media)
				io.WriteString(w, c.body)
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}))
			t.Cleanup(api.Close)
			kubeConfig := write(t, "kubeconfig", fmt.Sprintf(`
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c}}]
clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}]
`, api.URL, caFile(t, api)))
			b := start(t, http.NotFoundHandler(), func(o *forwardtest.Options) {
				o.Upstreams = append(o.Upstreams, forward.Upstream{Type: fleet.Kubernetes, Name: "main", KubeConfig: kubeConfig})
			})
			resp, err := b.as(t, fleet.Kubernetes, "main").Do(request(t, "GET", b.URL+c.path, nil))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if _, err := io.ReadFull(resp.Body, make([]byte, len(c.body))); err != nil {
				t.Fatal(err)
			}
			b.Disconnect()
			if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || (err == nil) != c.peace {
				t.Errorf("ended with %q, %v", rest, err)
			}
		})
	}
}

// A kubeconfig that acts as a user of few rights isn't a caller's to override.
func TestForward_Kubernetes_impersonation(t *testing.T) {
	var got http.Header
	api := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	t.Cleanup(api.Close)
	config := func(name, as string) string {
		return write(t, name, fmt.Sprintf(`
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: u, user: {token: agents-token%s}}]
`, api.URL, caFile(t, api), as))
	}
	b := start(t, http.NotFoundHandler(), func(o *forwardtest.Options) {
		o.Upstreams = append(o.Upstreams,
			forward.Upstream{Type: fleet.Kubernetes, Name: "fixed", KubeConfig: config("fixed", ", as: reader")},
			forward.Upstream{Type: fleet.Kubernetes, Name: "free", KubeConfig: config("free", "")})
	})
	for _, tt := range []struct {
		service, header string
		status          int
		user            string
	}{
		{"fixed", "", 200, "reader"},
		{"fixed", "Impersonate-User", 403, ""},
		{"fixed", "Impersonate-Group", 403, ""},
		{"fixed", "impersonate-extra-scopes", 403, ""},
		{"free", "Impersonate-User", 403, ""}, // no rule allows it
	} {
		got = nil
		r := request(t, "GET", b.URL+"/api/v1/pods", nil)
		if tt.header != "" {
			r.Header.Set(tt.header, "admin")
		}
		resp, body := do(t, b.as(t, fleet.Kubernetes, tt.service), r)
		if resp.StatusCode != tt.status || got.Get("Impersonate-User") != tt.user {
			t.Errorf("%s with %q: %s %s, at the API as %q, want %d, %q", tt.service, tt.header, resp.Status, body, got.Get("Impersonate-User"), tt.status, tt.user)
		}
	}
	api.CloseClientConnections()
}

func TestHub_audits_each_exchange(t *testing.T) {
	audit := make(chan forward.Exchange, 1)
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, "12345")
	}), func(o *forwardtest.Options) {
		o.Audit = forward.AuditorFunc(func(_ context.Context, e forward.Exchange) { audit <- e })
	})
	do(t, b.client, request(t, "PUT", b.URL+"/x?secret=1", strings.NewReader("1234")))
	e := <-audit
	if e.At.IsZero() || e.Duration <= 0 || e.Upstream <= 0 || e.Upstream > e.Duration || e.RemoteAddr == "" || e.Caller.ID == "" || e.Caller.Credential == nil {
		t.Errorf("times, address or the credential's id are missing: %+v", e)
	}
	e.At, e.Duration, e.Upstream, e.RemoteAddr, e.Caller.ID, e.Caller.Credential = time.Time{}, 0, 0, "", "", nil
	want := forward.Exchange{
		Caller: forward.Caller{Name: "spiffe://reeve/service/cluster-1/x-web/main", Agent: "cluster-1", Type: "x-web", Service: "main"},
		Method: "PUT", Path: "/x", Verb: "put", Status: 201, Received: 4, Sent: 5,
	}
	if d := cmp.Diff(want, e); d != "" {
		t.Error(d)
	}
}

func TestHub_counts_by_service(t *testing.T) {
	reg := prometheus.NewRegistry()
	var out bytes.Buffer
	ended := make(chan struct{}, 1)
	log := forward.AuditLog(slog.New(slog.NewTextHandler(&out, nil)))
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }), func(o *forwardtest.Options) {
		o.Hub = reg
		o.Audit = forward.AuditorFunc(func(ctx context.Context, e forward.Exchange) {
			log.Forwarded(ctx, e)
			ended <- struct{}{}
		})
	})
	do(t, b.client, request(t, "PUT", b.URL+"/x?secret=1", strings.NewReader("1234")))
	<-ended
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	const caller = "spiffe://reeve/service/cluster-1/x-web/main"
	want := map[string]float64{
		"reeve_forward_requests_total cluster-1 " + caller + " main 200 x-web":   1,
		"reeve_forward_bytes_total cluster-1 " + caller + " received main x-web": 4,
		"reeve_forward_bytes_total cluster-1 " + caller + " sent main x-web":     4,
		"reeve_forward_answer_seconds cluster-1 " + caller + " main x-web":       1,
		"reeve_forward_upstream_seconds cluster-1 " + caller + " main x-web":     1,
		"reeve_forward_tunnel_seconds cluster-1 " + caller + " main x-web":       1,
		"reeve_forward_running cluster-1 " + caller + " main x-web":              0,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, says := range []string{"service=x-web/main", "method=PUT", "path=/x", "status=200", "received=4"} {
		if !strings.Contains(out.String(), says) {
			t.Errorf("the audit log lacks %q: %s", says, out.String())
		}
	}
	if strings.Contains(out.String(), "secret") {
		t.Errorf("the audit log has the query: %s", out.String())
	}
}

func TestUpstream_Validate(t *testing.T) {
	good := forward.Upstream{Type: "x-web", Name: "main", URL: "https://web:8443/base"}
	for name, tt := range map[string]struct {
		change func(*forward.Upstream)
		says   string // empty: it is good
	}{
		"plain":                  {func(*forward.Upstream) {}, ""},
		"no name":                {func(u *forward.Upstream) { u.Name = "" }, "service name"},
		"type with capitals":     {func(u *forward.Upstream) { u.Type = "X-Web" }, "service type"},
		"type nobody handles":    {func(u *forward.Upstream) { u.Type = "ftp" }, "prefix x-"},
		"no url":                 {func(u *forward.Upstream) { u.URL = "" }, "url must look like"},
		"password in url":        {func(u *forward.Upstream) { u.URL = "https://a:s3cret@web" }, "use credentials"},
		"query in url":           {func(u *forward.Upstream) { u.URL += "?a=s3cret" }, "no query"},
		"climbing url":           {func(u *forward.Upstream) { u.URL += "/../x" }, ".."},
		"insecure without TLS":   {func(u *forward.Upstream) { u.URL, u.Insecure = "http://web", true }, "need a url with https"},
		"unknown credentials":    {func(u *forward.Upstream) { u.Credentials.Type = "digest" }, "must be none, basic"},
		"bearer without a token": {func(u *forward.Upstream) { u.Credentials.Type = "bearer" }, "credentials.tokenFile or tokenEnv: missing"},
		"token for none":         {func(u *forward.Upstream) { u.Credentials.TokenFile = "f" }, "not for type none"},
		"file and environment": {func(u *forward.Upstream) {
			u.Credentials = forward.Credentials{Type: "token", TokenFile: "f", TokenEnv: "E"}
		}, "exclude each other"},
		"environment without it":   {func(u *forward.Upstream) { u.Credentials = forward.Credentials{Type: "token", TokenEnv: "REEVE_NONE"} }, "no REEVE_NONE"},
		"certificate without key":  {func(u *forward.Upstream) { u.Credentials = forward.Credentials{Type: "certificate", CertFile: "f"} }, "certFile and keyFile: missing"},
		"kubernetes with a url":    {func(u *forward.Upstream) { u.Type = fleet.Kubernetes }, "put them into a kubeconfig"},
		"kubeconfig for the web":   {func(u *forward.Upstream) { u.KubeConfig = "f" }, "only for type"},
		"basic without a username": {func(u *forward.Upstream) { u.Credentials = forward.Credentials{Type: "basic", PasswordFile: "f"} }, "username: missing"},
	} {
		t.Run(name, func(t *testing.T) {
			u := good
			tt.change(&u)
			err := u.Validate()
			switch {
			case tt.says == "" && err != nil:
				t.Error(err)
			case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("got %v; want it to say %q", err, tt.says)
			case err != nil && strings.Contains(err.Error(), "s3cret"):
				t.Errorf("the error holds a secret: %v", err)
			}
		})
	}
}

func TestNewAgent_names_the_service_that_is_wrong(t *testing.T) {
	u := forward.Upstream{Type: "x-web", Name: "main", URL: "https://web"}
	missing := u
	missing.Name, missing.CAFile = "other", "/nowhere/ca.pem"
	for says, list := range map[string][]forward.Upstream{
		"services[1]: service x-web/main is there twice": {u, u},
		"services[1]: service x-web/other: caFile":       {u, missing},
		"services[0]: service kubernetes/k: this isn't":  {{Type: fleet.Kubernetes, Name: "k"}},
	} {
		_, err := forward.NewAgent(forward.AgentConfig{Upstreams: list})
		if err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("got %v; want %s…", err, says)
		}
	}
}

func TestNewAgent_warns_of_insecure(t *testing.T) {
	var out bytes.Buffer
	_, err := forward.NewAgent(forward.AgentConfig{
		Upstreams: []forward.Upstream{{Type: "x-web", Name: "main", URL: "https://web", Insecure: true}},
		Logger:    slog.New(slog.NewTextHandler(&out, nil)),
	})
	if err != nil || !strings.Contains(out.String(), "level=WARN") || !strings.Contains(out.String(), "x-web/main") {
		t.Errorf("%v, %s", err, out.String())
	}
}

func TestIdentify_tells_faults_from_refusals(t *testing.T) {
	var out bytes.Buffer
	h, err := forward.NewHub(forward.HubConfig{
		Authenticate: func(*http.Request) (forward.Caller, error) { return forward.Caller{}, errors.New("database is locked") },
		Logger:       slog.New(slog.NewTextHandler(&out, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 500 || strings.Contains(w.Body.String(), "database") || !strings.Contains(out.String(), "database is locked") {
		t.Errorf("%d %s; log: %s", w.Code, w.Body, out.String())
	}
}
