package doctor_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"reeve.dev/reeve/doctor"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/tunnel"
)

// hub answers as a hub does, as far as the doctor asks. ahead is by how much
// its clock is.
func hub(t *testing.T, ca *pki.CA, ahead time.Duration) string {
	t.Helper()
	cfg, err := ca.ServerTLS(nil)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
	})
	mux.Handle(tunnel.Path, tunnel.Handler(tunnel.Config{}, func(ctx context.Context, s *tunnel.Session, _ *tls.ConnectionState) { <-s.Done() }))
	s := httptest.NewUnstartedServer(mux)
	s.TLS = cfg
	s.TLS.NextProtos = []string{"http/1.1"}
	s.StartTLS()
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
}

func authority(t *testing.T, name string) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA(name)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// proxy takes CONNECT. With intercept it ends TLS by certificates of that CA,
// as firewalls do that inspect TLS; password is what it wants.
func proxy(t *testing.T, intercept *pki.CA, password string) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(func() { stop(); l.Close(); all.Wait() })
	serve := func(conn net.Conn) {
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		if _, got, _ := (&http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}).BasicAuth(); got != password {
			io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
			return
		}
		up, err := net.Dial("tcp", r.Host)
		if err != nil {
			io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
			return
		}
		defer up.Close()
		defer context.AfterFunc(ctx, func() { up.Close() })()
		io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
		if intercept != nil {
			cfg, err := intercept.ServerTLS(nil)
			if err != nil {
				return
			}
			conn, up = tls.Server(conn, cfg), tls.Client(up, &tls.Config{InsecureSkipVerify: true}) // it inspects
		}
		all.Go(func() { io.Copy(up, conn); up.Close() })
		io.Copy(conn, up)
	}
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { serve(conn) })
		}
	})
	u := &url.URL{Scheme: "http", Host: l.Addr().String()}
	if password != "" {
		u.User = url.UserPassword("u", password)
	}
	return u
}

func through(u *url.URL) func(*http.Request) (*url.URL, error) {
	return func(*http.Request) (*url.URL, error) { return u, nil }
}

func client(t *testing.T, ca *pki.CA) *tls.Config {
	t.Helper()
	cert, key, err := ca.NewCredential(pki.Identity{Purpose: pki.Agent, Agent: "east"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: ca.Pool(), Certificates: []tls.Certificate{pair}}
}

func TestHub_Check(t *testing.T) {
	ca, other := authority(t, "ours"), authority(t, "Corp Inspection")
	at := hub(t, ca, 0)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	wrongPassword := proxy(t, nil, "secret")
	wrongPassword.User = url.UserPassword("u", "s3cret-but-wrong")
	for name, tc := range map[string]struct {
		hub   doctor.Hub
		check string
		level doctor.Level
		says  string // in what was found or what to do
	}{
		"all is well":           {doctor.Hub{URL: at}, "tls", doctor.OK, "ours"},
		"the clock agrees":      {doctor.Hub{URL: at}, "clock", doctor.OK, "agrees"},
		"by a proxy":            {doctor.Hub{URL: at, Proxy: through(proxy(t, nil, "secret"))}, "proxy", doctor.OK, "connects to"},
		"a bad password":        {doctor.Hub{URL: at, Proxy: through(wrongPassword)}, "proxy", doctor.Problem, "http://USER:PASSWORD@HOST:PORT"},
		"a proxy that is away":  {doctor.Hub{URL: at, Proxy: through(&url.URL{Scheme: "http", Host: closed.Addr().String()})}, "proxy", doctor.Problem, "NO_PROXY=localhost"},
		"TLS is intercepted":    {doctor.Hub{URL: at, CA: "ours", Proxy: through(proxy(t, other, ""))}, "tls", doctor.Problem, `Corp Inspection`},
		"an unknown name":       {doctor.Hub{URL: "https://nowhere.invalid:8443"}, "dns", doctor.Problem, "DNS"},
		"nobody listens":        {doctor.Hub{URL: "https://" + closed.Addr().String()}, "connect", doctor.Problem, "listen.api"},
		"no TLS":                {doctor.Hub{URL: strings.Replace(plain.URL, "http:", "https:", 1)}, "tls", doctor.Problem, "listen.api"},
		"not a URL":             {doctor.Hub{URL: "hub:8443"}, "config", doctor.Problem, "https://HOST:PORT"},
		"a clock that is ahead": {doctor.Hub{URL: hub(t, ca, time.Minute)}, "clock", doctor.Warning, "behind the hub's"},
		"a clock that is wrong": {doctor.Hub{URL: hub(t, ca, -time.Hour)}, "clock", doctor.Problem, "ahead of the hub's"},
		"a carrier works":       {doctor.Hub{URL: at, Client: client(t, ca), Carriers: tunnel.DefaultCarriers}, "carrier", doctor.OK, "websocket works"},
		"a carrier falls back":  {doctor.Hub{URL: at, Client: client(t, ca), Carriers: []tunnel.Carrier{tunnel.RawTLS, tunnel.WebSocket}}, "carrier", doctor.Warning, "falls back to websocket"},
		"no carrier works":      {doctor.Hub{URL: at, Client: client(t, ca), Carriers: []tunnel.Carrier{tunnel.RawTLS}}, "carrier", doctor.Problem, "alpn doesn't work"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.hub.Roots = ca.Pool()
			if tc.hub.Proxy == nil {
				tc.hub.Proxy = through(nil)
			}
			found := tc.hub.Check(t.Context())
			for _, f := range found {
				if f.Check == tc.check && f.Level == tc.level && strings.Contains(f.What+" "+f.Do, tc.says) {
					if (f.Do == "") != (f.Level == doctor.OK) {
						t.Errorf("what to do: %+v", f)
					}
					if strings.Contains(f.What+f.Do, "s3cret") {
						t.Errorf("it shows the password: %+v", f)
					}
					return
				}
			}
			t.Errorf("found %+v; want %s %s with %q", found, tc.check, tc.level, tc.says)
		})
	}
}

func TestHub_Check_wrong_name(t *testing.T) {
	ca := authority(t, "ours")
	at := strings.Replace(hub(t, ca, 0), "localhost", "127.0.0.2", 1)
	// The name of another machine, by a proxy that goes to the right one.
	u, _ := url.Parse(at)
	found := doctor.Hub{URL: "https://other.example:" + u.Port(), Roots: ca.Pool(), Proxy: through(redirecting(t, "127.0.0.1:"+u.Port()))}.Check(t.Context())
	last := found[len(found)-1]
	if last.Check != "tls" || last.Level != doctor.Problem || !strings.Contains(last.Do, "localhost") || !strings.Contains(last.Do, "names in the hub's configuration") {
		t.Errorf("%+v", found)
	}
}

// redirecting is a proxy that always connects to one address.
func redirecting(t *testing.T, to string) *url.URL {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		up, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer up.Close()
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		go io.Copy(up, conn)
		io.Copy(conn, up)
	}))
	t.Cleanup(s.Close)
	u, _ := url.Parse(s.URL)
	return u
}

// TestHub_Check_endlessHead has a proxy whose answer doesn't end: what is read of
// it is bounded.
func TestHub_Check_endlessHead(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-served })
	go func() {
		defer close(served)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 8<<20)+"\r\n\r\n")
		}
	}()
	found := doctor.Hub{URL: "https://hub.invalid:8443", Proxy: through(&url.URL{Scheme: "http", Host: l.Addr().String()})}.Check(t.Context())
	if last := found[len(found)-1]; last.Check != "proxy" || last.Level != doctor.Problem || !strings.Contains(last.What, "breaks off on CONNECT") {
		t.Errorf("%+v", found)
	}
}
