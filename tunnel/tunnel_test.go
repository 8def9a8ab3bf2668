package tunnel_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"reeve.dev/reeve/tunnel"
)

// hub is a server that accepts both carriers, with a real certificate.
type hub struct {
	*httptest.Server
	client     *tls.Config // what an agent needs: the CA and a certificate
	links      chan *tunnel.Session
	handshakes atomic.Int32 // that clients began
}

// newHub hands each session to links and keeps it until it is done.
func newHub(t testing.TB, cfg tunnel.Config) *hub {
	t.Helper()
	h := &hub{links: make(chan *tunnel.Session, 16)}
	on := func(ctx context.Context, s *tunnel.Session, state *tls.ConnectionState) {
		if len(state.PeerCertificates) == 0 {
			return
		}
		h.links <- s
		<-s.Done()
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+tunnel.Path, tunnel.Handler(cfg, on))
	h.Server = httptest.NewUnstartedServer(mux)
	cert, pool := identity(t)
	h.TLS = &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{cert},
		ClientCAs:    pool,
		ClientAuth:   tls.VerifyClientCertIfGiven,
		NextProtos:   []string{tunnel.ALPN, "http/1.1"},
	}
	h.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		h.handshakes.Add(1)
		return h.TLS, nil
	}
	h.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		tunnel.ALPN: tunnel.NextProto(cfg, on),
	}
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.StartTLS()
	t.Cleanup(h.Close)
	h.client = &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, Certificates: []tls.Certificate{cert}}
	return h
}

// identity makes a certificate that is its own authority, good for both ends
// on loopback.
func identity(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:              []string{"localhost"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// link dials h by carrier and answers both ends of the session.
func link(t testing.TB, h *hub, carrier tunnel.Carrier) (agent, far *tunnel.Session) {
	t.Helper()
	agent, err := tunnel.Dial(t.Context(), tunnel.DialConfig{
		URL: h.URL, TLS: h.client, Carriers: []tunnel.Carrier{carrier},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agent.Close() })
	far = <-h.links
	return agent, far
}

func eachCarrier(t *testing.T, f func(t *testing.T, carrier tunnel.Carrier)) {
	for _, c := range tunnel.DefaultCarriers {
		t.Run(string(c), func(t *testing.T) { f(t, c) })
	}
}

// serve answers requests that come by s until the test ends.
func serve(t *testing.T, s *tunnel.Session, h http.Handler) {
	t.Helper()
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- tunnel.Serve(ctx, s, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) && !errors.Is(err, tunnel.ErrPeerClosed) && !errors.Is(err, tunnel.ErrClosed) && !errors.Is(err, tunnel.ErrDrained) {
			t.Errorf("Serve ended with %v", err)
		}
	})
}

func client(t *testing.T, s *tunnel.Session) *http.Client {
	tr := tunnel.Transport(s)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestLink_carries_requests_both_ways(t *testing.T) {
	eachCarrier(t, func(t *testing.T, carrier tunnel.Carrier) {
		agent, far := link(t, newHub(t, tunnel.Config{}), carrier)
		greet := func(who string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, who, " ", r.URL.Path) })
		}
		serve(t, agent, greet("agent"))
		serve(t, far, greet("hub"))
		for _, tt := range []struct {
			from *tunnel.Session
			want string
		}{{agent, "hub /x"}, {far, "agent /x"}} {
			resp, err := client(t, tt.from).Get("http://there/x")
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(body) != tt.want {
				t.Errorf("got %q, %v; want %q", body, err, tt.want)
			}
		}
	})
}

func TestStream_close_reaches_the_other_end(t *testing.T) {
	a, b := pair(t, tunnel.Config{})
	t.Run("what was written arrives before the end", func(t *testing.T) {
		near, far := open(t, a, b)
		sent := make([]byte, 200<<10) // less than a window: nobody reads yet
		rand.Read(sent)
		if _, err := near.Write(sent); err != nil {
			t.Fatal(err)
		}
		near.Close()
		got, err := io.ReadAll(far)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes, %v; want %d", len(got), err, len(sent))
		}
	})
	t.Run("a writer that waits for a window fails", func(t *testing.T) {
		near, far := open(t, a, b)
		failed := make(chan error)
		go func() {
			for block := make([]byte, 64<<10); ; {
				if _, err := far.Write(block); err != nil {
					failed <- err
					return
				}
			}
		}()
		io.ReadFull(near, make([]byte, 1))
		near.Close()
		<-failed
	})
	t.Run("one direction only", func(t *testing.T) {
		near, far := open(t, a, b)
		io.WriteString(near, "question")
		near.(interface{ CloseWrite() error }).CloseWrite()
		if got, err := io.ReadAll(far); err != nil || string(got) != "question" {
			t.Fatalf("%q, %v", got, err)
		}
		io.WriteString(far, "answer")
		far.Close()
		if got, err := io.ReadAll(near); err != nil || string(got) != "answer" {
			t.Errorf("%q, %v", got, err)
		}
	})
	if n := a.Streams() + b.Streams(); n > 1 { // near of the last
		t.Errorf("%d streams are left", n)
	}
}

// A server that answers in the middle of an upload stops its reading by a
// deadline in the past. However that meets the data, the answer arrives.
func TestStream_deadline_in_the_middle_of_a_read_spares_the_answer(t *testing.T) {
	a, b := pair(t, tunnel.Config{})
	near, far := open(t, a, b)
	upload := make([]byte, 200<<10) // more than half of the first window
	if _, err := near.Write(upload); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(far, upload[:1]); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Ping(t.Context()); err != nil { // so the rest is there, too
		t.Fatal(err)
	}
	far.SetReadDeadline(time.Unix(1, 0))
	for {
		if _, err := far.Read(upload); err != nil {
			break
		}
	}
	far.SetReadDeadline(time.Time{})
	if _, err := io.WriteString(far, "too large"); err != nil {
		t.Fatal(err)
	}
	far.Close()
	if answer, err := io.ReadAll(near); err != nil || string(answer) != "too large" {
		t.Errorf("%q, %v", answer, err)
	}
}

func TestStream_is_bounded_by_its_reader(t *testing.T) {
	const window = 1 << 20
	a, b := pair(t, tunnel.Config{Window: window, Memory: window})
	for range 4 {
		near, far := open(t, a, b)
		var sent int
		near.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
		for {
			n, err := near.Write(make([]byte, 16<<10))
			sent += n
			if err != nil {
				break
			}
		}
		if sent > window {
			t.Errorf("%d bytes went to one that doesn't read", sent)
		}
		// It isn't lost: the reader gets it all.
		near.SetWriteDeadline(time.Time{})
		near.Close()
		if n, err := io.Copy(io.Discard, far); err != nil || n != int64(sent) {
			t.Errorf("read %d of %d, %v", n, sent, err)
		}
	}
}

func TestStream_window_grows_with_the_round_trip(t *testing.T) {
	const rtt = 100 * time.Millisecond
	for _, tt := range []struct{ window, read, trips int }{
		// In so many trips at best, and a tenth more, or where the piece that
		// isn't granted yet is an eighth of the window, an eighth; and as many
		// as it takes the window to grow, which doubles twice in a trip.
		{1 << 20, 64 << 10, 32*8/7 + 3},
		{4 << 20, 64 << 10, 32*11/10 + 3},
		{4 << 20, 1009, 32*11/10 + 3},
		{16 << 20, 64 << 10, 32*11/10 + 4},
		{16 << 20, 4099, 32*11/10 + 5},
	} {
		t.Run(fmt.Sprintf("window %d KiB, reads of %d", tt.window>>10, tt.read), func(t *testing.T) {
			size := 32 * tt.window
			synctest.Test(t, func(t *testing.T) {
				near, far := farApart(rtt)
				a, err := tunnel.Client(near, tunnel.Config{Window: tt.window})
				if err != nil {
					t.Fatal(err)
				}
				defer a.Close()
				b, err := tunnel.Server(far, tunnel.Config{Window: tt.window})
				if err != nil {
					t.Fatal(err)
				}
				defer b.Close()
				time.Sleep(time.Second) // the first pings have measured the way
				began := time.Now()
				st, err := a.Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					for block, n := make([]byte, 64<<10), 0; n < size; n += len(block) {
						st.Write(block)
					}
					st.Close()
				}()
				end, err := b.Accept()
				if err != nil {
					t.Fatal(err)
				}
				end.SetReadDeadline(began.Add(time.Hour))
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{end}, make([]byte, tt.read))
				if int(n) != size || err != nil {
					t.Fatalf("%d bytes, %v", n, err)
				}
				if trips := float64(time.Since(began)) / float64(rtt); trips > float64(tt.trips) {
					t.Errorf("%d MiB took %.1f round trips, want at most %d", size>>20, trips, tt.trips)
				}
			})
		})
	}
}

func TestBudget_is_shared_by_sessions(t *testing.T) {
	const rtt = 100 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		budget := tunnel.NewBudget(768 << 10) // lets one window grow to 1 MiB
		link := func() (agent, hub *tunnel.Session) {
			near, far := farApart(rtt)
			agent, err := tunnel.Client(near, tunnel.Config{})
			if err != nil {
				t.Fatal(err)
			}
			if hub, err = tunnel.Server(far, tunnel.Config{}); err != nil {
				t.Fatal(err)
			}
			hub.Share(budget)
			time.Sleep(time.Second) // the first pings have measured the way
			return agent, hub
		}
		// move sends 8 MiB by a stream that stays open, and answers how many
		// round trips that took.
		move := func(agent, hub *tunnel.Session) (trips float64, end net.Conn) {
			const size = 8 << 20
			began := time.Now()
			st, err := agent.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			go st.Write(make([]byte, size))
			if end, err = hub.Accept(); err != nil {
				t.Fatal(err)
			}
			if n, err := io.CopyN(io.Discard, end, size); err != nil {
				t.Fatalf("%d bytes, %v", n, err)
			}
			return float64(time.Since(began)) / float64(rtt), end
		}
		a1, h1 := link()
		defer h1.Close()
		defer a1.Close()
		a2, h2 := link()
		defer h2.Close()
		defer a2.Close()
		first, end := move(a1, h1)
		second, _ := move(a2, h2)
		end.Close()
		third, _ := move(a2, h2)
		if first > 16 || second < 24 || third > 16 {
			t.Errorf("%.1f round trips with the memory, %.1f while another session has it, %.1f once that gave it back", first, second, third)
		}
	})
}

// farApart answers two ends of a connection with no limit but its latency.
func farApart(rtt time.Duration) (a, b net.Conn) {
	there, back := make(chan parcel, 1<<16), make(chan parcel, 1<<16)
	closed := make(chan struct{})
	once := sync.OnceFunc(func() { close(closed) })
	return &farConn{in: back, out: there, rtt: rtt, closed: closed, close: once},
		&farConn{in: there, out: back, rtt: rtt, closed: closed, close: once}
}

type parcel struct {
	data []byte
	due  time.Time
}

type farConn struct {
	net.Conn
	in, out chan parcel
	rtt     time.Duration
	rest    []byte
	closed  chan struct{}
	close   func()
}

func (c *farConn) Write(p []byte) (int, error) {
	select {
	case c.out <- parcel{bytes.Clone(p), time.Now().Add(c.rtt / 2)}:
		return len(p), nil
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *farConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		select {
		case x := <-c.in:
			time.Sleep(time.Until(x.due))
			c.rest = x.data
		case <-c.closed:
			return 0, io.EOF
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *farConn) Close() error {
	c.close()
	return nil
}

func (c *farConn) SetWriteDeadline(time.Time) error { return nil }
func (c *farConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *farConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }

func TestSession_refuses_more_streams_than_allowed(t *testing.T) {
	a, b := pair(t, tunnel.Config{Streams: 3})
	for range 3 {
		open(t, a, b)
	}
	over, err := a.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := over.Read(make([]byte, 1)); err == nil {
		t.Error("the fourth stream wasn't reset")
	}
	if err := b.Err(); err != nil {
		t.Errorf("session ended: %v", err)
	}
}

func TestSession_Open_heeds_its_context(t *testing.T) {
	a, _ := pair(t, tunnel.Config{})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("enough"))
	defer cancel()
	for { // nobody accepts
		if _, err := a.Open(ctx); err != nil {
			if err.Error() != "enough" {
				t.Errorf("got %v, want the context's cause", err)
			}
			return
		}
	}
}

func TestSession_says_why_it_ended(t *testing.T) {
	t.Run("closed here, and there", func(t *testing.T) {
		a, b := pair(t, tunnel.Config{})
		if a.Err() != nil {
			t.Errorf("Err of an open session: %v", a.Err())
		}
		a.Close()
		a.Close()
		<-b.Done()
		if !errors.Is(a.Err(), tunnel.ErrClosed) || !errors.Is(b.Err(), tunnel.ErrPeerClosed) {
			t.Errorf("here %v, there %v", a.Err(), b.Err())
		}
		if _, err := b.Open(t.Context()); !errors.Is(err, tunnel.ErrPeerClosed) {
			t.Errorf("Open: %v", err)
		}
		if _, err := b.Accept(); !errors.Is(err, tunnel.ErrPeerClosed) {
			t.Errorf("Accept: %v", err)
		}
	})
	t.Run("frozen", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			go io.Copy(io.Discard, far) // takes everything and says nothing
			defer far.Close()
			began := time.Now()
			s, err := tunnel.Client(near, tunnel.Config{})
			if err != nil {
				t.Fatal(err)
			}
			<-s.Done()
			if !errors.Is(s.Err(), tunnel.ErrFrozen) {
				t.Errorf("got %v", s.Err())
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("noticed after %v", took)
			}
			s.Close()
		})
	})
	t.Run("idle isn't frozen", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			a, err := tunnel.Client(near, tunnel.Config{})
			if err != nil {
				t.Fatal(err)
			}
			b, err := tunnel.Server(far, tunnel.Config{})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(24 * time.Hour)
			if a.Err() != nil || b.Err() != nil {
				t.Errorf("%v, %v", a.Err(), b.Err())
			}
			a.Close()
			b.Close()
		})
	})
	t.Run("garbage", func(t *testing.T) {
		near, far := net.Pipe()
		s, err := tunnel.Server(near, tunnel.Config{})
		if err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, far)
		io.WriteString(far, "GET / HTTP/1.1\r\n\r\n")
		<-s.Done()
		if err := s.Err(); !errors.Is(err, tunnel.ErrPeerClosed) || !strings.Contains(err.Error(), "kind 71") {
			t.Errorf("got %v", err)
		}
		s.Close()
		far.Close()
	})
}

func TestDial_falls_back_and_remembers(t *testing.T) {
	h := newHub(t, tunnel.Config{})
	h.TLS.NextProtos = []string{"http/1.1"} // as behind a load balancer that ends TLS
	d := tunnel.NewDialer(tunnel.DialConfig{
		URL: h.URL, TLS: h.client, Carriers: []tunnel.Carrier{tunnel.RawTLS, tunnel.WebSocket},
	})
	before := h.handshakes.Load()
	for i, want := range []int32{2, 1} {
		s, err := d.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		<-h.links
		s.Close()
		now := h.handshakes.Load()
		if got := now - before; got != want {
			t.Errorf("dial %d took %d connections, want %d", i+1, got, want)
		}
		before = now
	}
}

func TestDial_errors_say_what_to_look_at(t *testing.T) {
	h := newHub(t, tunnel.Config{})
	_, strangers := identity(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	web := httptest.NewTLSServer(http.NotFoundHandler())
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer web.Close()
	webCA := x509.NewCertPool()
	webCA.AddCert(web.Certificate())
	for name, tt := range map[string]struct {
		cfg  tunnel.DialConfig
		says []string
	}{
		"no https":     {tunnel.DialConfig{URL: "http://hub"}, []string{"must look like https://hub.example.com:8443"}},
		"password":     {tunnel.DialConfig{URL: "https://u:s3cret@hub"}, []string{"must look like"}},
		"not a url":    {tunnel.DialConfig{URL: "https://hub:s3cret port/"}, []string{"can't be parsed"}},
		"carrier":      {tunnel.DialConfig{URL: h.URL, Carriers: []tunnel.Carrier{"pigeon"}}, []string{`carrier "pigeon"`}},
		"nobody there": {tunnel.DialConfig{URL: "https://" + closed.Addr().String()}, []string{"by websocket: ", "by alpn: ", "refused"}},
		"no answer":    {tunnel.DialConfig{URL: "https://" + silent.Addr().String(), Timeout: 50 * time.Millisecond}, []string{"no answer within 150ms on a connection"}},
		"foreign hub":  {tunnel.DialConfig{URL: h.URL, TLS: &tls.Config{RootCAs: strangers}}, []string{"certificate"}},
		"something else": {
			tunnel.DialConfig{URL: web.URL, TLS: &tls.Config{RootCAs: webCA, ServerName: "example.com"}},
			[]string{`answer "404 Not Found" instead of a WebSocket`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tunnel.Dial(t.Context(), tt.cfg)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v; want it to say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error holds a secret: %v", err)
			}
		})
	}
}

func TestDial_by_a_proxy(t *testing.T) {
	h := newHub(t, tunnel.Config{})
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Method != http.MethodConnect {
			http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
			return
		}
		if got := r.Header.Get("Proxy-Authorization"); got != "Basic "+base64.StdEncoding.EncodeToString([]byte("agent:s3cret")) {
			http.Error(w, "who are you?", http.StatusProxyAuthRequired)
			return
		}
		out, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer out.Close()
		w.WriteHeader(http.StatusOK)
		in, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer in.Close()
		go func() {
			io.Copy(out, in)
			out.Close()
		}()
		io.Copy(in, out)
	}))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tunnel.Dial(t.Context(), tunnel.DialConfig{URL: h.URL, TLS: h.client, Carriers: []tunnel.Carrier{tunnel.WebSocket}, Proxy: http.ProxyURL(at)}); err == nil || !strings.Contains(err.Error(), "Proxy Authentication Required") {
		t.Errorf("without a password: %v", err)
	}
	asked.Store(0)
	at.User = url.UserPassword("agent", "s3cret")
	s, err := tunnel.Dial(t.Context(), tunnel.DialConfig{URL: h.URL, TLS: h.client, Proxy: http.ProxyURL(at)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Ping(t.Context()); err != nil || asked.Load() != 1 {
		t.Errorf("ping: %v; the proxy was asked %d times", err, asked.Load())
	}
}

func TestHandler_refuses_what_is_no_carrier(t *testing.T) {
	h := newHub(t, tunnel.Config{})
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: h.client}}
	defer c.CloseIdleConnections()
	good := http.Header{
		"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="},
	}
	for name, tt := range map[string]struct {
		key, value string
		want       int
	}{
		"no Upgrade":  {"Upgrade", "", 426},
		"old version": {"Sec-Websocket-Version", "8", 426},
		"short key":   {"Sec-Websocket-Key", "AAAA", 400},
		"a web page":  {"Origin", "https://evil.example", 403},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := http.NewRequestWithContext(t.Context(), "GET", h.URL+tunnel.Path, nil)
			r.Header = good.Clone()
			r.Header.Set(tt.key, tt.value)
			resp, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.want {
				t.Errorf("got %s, want %d", resp.Status, tt.want)
			}
		})
	}
}

// Another implementation of WebSockets at the other end.
func TestWebSocket_carrier_is_one_to_others(t *testing.T) {
	check := func(t *testing.T, agent, far *tunnel.Session) {
		near, end := open(t, agent, far)
		sent := make([]byte, 1<<20)
		rand.Read(sent)
		go func() {
			near.Write(sent)
			near.Close()
		}()
		if got, err := io.ReadAll(end); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes, %v; want %d", len(got), err, len(sent))
		}
	}
	t.Run("as an agent", func(t *testing.T) {
		h := newHub(t, tunnel.Config{})
		tr := &http.Transport{TLSClientConfig: h.client}
		ws, _, err := websocket.Dial(t.Context(), h.URL+tunnel.Path, &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
		if err != nil {
			t.Fatal(err)
		}
		agent, err := tunnel.Client(websocket.NetConn(context.Background(), ws, websocket.MessageBinary), tunnel.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer agent.Close()
		check(t, agent, <-h.links)
		if err := ws.Ping(t.Context()); err != nil {
			t.Errorf("ping: %v", err)
		}
	})
	t.Run("as a hub", func(t *testing.T) {
		h := newHub(t, tunnel.Config{})
		h.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ws, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			s, err := tunnel.Server(websocket.NetConn(context.Background(), ws, websocket.MessageBinary), tunnel.Config{})
			if err != nil {
				return
			}
			defer s.Close()
			h.links <- s
			<-s.Done()
		})
		agent, far := link(t, h, tunnel.WebSocket)
		check(t, agent, far)
	})
}

func TestServe_ends_with_its_context(t *testing.T) {
	a, b := pair(t, tunnel.Config{})
	begun, ended := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	served := make(chan error)
	go func() {
		served <- tunnel.Serve(ctx, b, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(begun)
			<-r.Context().Done()
			close(ended)
		}))
	}()
	go client(t, a).Get("http://x/")
	<-begun
	why := errors.New("going down")
	cancel(why)
	<-ended
	if err := <-served; !errors.Is(err, why) {
		t.Errorf("Serve: %v", err)
	}
}

func TestLink_backs_off_and_recovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		var waits []time.Duration
		last := time.Now()
		n := 0
		why := errors.New("stop")
		err := tunnel.Link{
			Dial: func(context.Context, int) (*tunnel.Session, error) {
				waits = append(waits, time.Since(last))
				last = time.Now()
				if n++; n == 11 {
					cancel(why)
				}
				if n != 9 {
					return nil, errors.New("no route")
				}
				near, far := net.Pipe()
				go io.Copy(io.Discard, far)
				return tunnel.Client(near, tunnel.Config{})
			},
			Serve: func(_ context.Context, s *tunnel.Session, up func()) error {
				up()
				<-s.Done() // frozen after 18 s, which is long enough to count
				last = time.Now()
				return s.Err()
			},
		}.Run(ctx)
		if !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
		want := []time.Duration{
			0, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second,
			8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second, 500 * time.Millisecond, time.Second,
		}
		if len(waits) != len(want) {
			t.Fatalf("dialled %d times, want %d", len(waits), len(want))
		}
		for i, w := range want {
			if waits[i] < w/2 || waits[i] > w {
				t.Errorf("wait %d was %v, want between %v and %v", i, waits[i], w/2, w)
			}
		}
	})
}

// pair answers both ends of a session on a TCP connection.
func pair(t *testing.T, cfg tunnel.Config) (a, b *tunnel.Session) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = tunnel.Client(near, cfg); err != nil {
		t.Fatal(err)
	}
	if b, err = tunnel.Server(far, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	return a, b
}

// open answers both ends of a stream.
func open(t *testing.T, a, b *tunnel.Session) (near, far net.Conn) {
	t.Helper()
	near, err := a.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if far, err = b.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return near, far
}
