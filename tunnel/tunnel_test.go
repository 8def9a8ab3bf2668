package tunnel_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reeve.dev/reeve/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub is a server that accepts both carriers, with a real certificate.
type hub struct {
	*httptest.Server
	client *tls.Config // what an agent needs: the CA and a certificate
	links  chan *tunnel.Session
}

// newHub hands each session to links and keeps it until it is done. Where
// serve isn't nil, it is asked first to refuse requests.
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
		if err := <-done; !errors.Is(err, context.Canceled) && !errors.Is(err, tunnel.ErrPeerClosed) && !errors.Is(err, tunnel.ErrClosed) {
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
