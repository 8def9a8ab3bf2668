package rpc

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/credential"
	"reeve.dev/reeve/alert/sign"
	"reeve.dev/reeve/alert/verify"
	"reeve.dev/reeve/pki"
	allstarv1 "reeve.dev/reeve/proto/allstar/v1"
	"reeve.dev/reeve/store/sqlite"
)

// whole are the metadata and bytes of a call, as a sink of any language sees
// them.
type whole struct {
	about   metadata.MD
	request []byte
}

// capture is a sink that keeps what it gets and answers as answer says.
func capture(t *testing.T, ca *pki.CA, answer func(n int) error) (string, chan whole) {
	t.Helper()
	got := make(chan whole, 8)
	n := 0
	addr, _ := serve(t, ca, "127.0.0.1:0", []grpc.ServerOption{grpc.ForceServerCodec(bytesCodec{}), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		var request []byte
		if err := s.RecvMsg(&request); err != nil {
			return err
		}
		about, _ := metadata.FromIncomingContext(s.Context())
		got <- whole{about, request}
		n++
		if err := answer(n); err != nil {
			return err
		}
		return s.SendMsg([]byte{})
	})}, func(*grpc.Server) {})
	return addr, got
}

type bytesCodec struct{}

func (bytesCodec) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (bytesCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (bytesCodec) Name() string { return "proto" }

func TestSink_Deliver_signs(t *testing.T) {
	ca := newCA(t)
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ring, err := sign.Open(t.Context(), s, ca, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	text, err := ring.KeySet(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := verify.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	addr, got := capture(t, ca, func(int) error { return nil })
	for _, audience := range []string{"", "the-sink"} {
		if err := dial(t, ca, Config{Endpoint: addr, Sign: ring.Envelope, Audience: audience}).Deliver(t.Context(), example()); err != nil {
			t.Fatal(err)
		}
		call := <-got
		if audience == "" {
			audience = addr
		}
		v := verify.Verifier{Keys: keys, Audience: audience}
		said, err := v.Alert(call.about.Get(verify.SignatureKey)[0], call.request)
		if err != nil || said.ID != "3f2a" || said.Seq != 7 {
			t.Errorf("%+v, %v", said, err)
		}
		// A sink that has only the decoded message can make its bytes again.
		var in allstarv1.AlertRequest
		if err := proto.Unmarshal(call.request, &in); err != nil {
			t.Fatal(err)
		}
		again, err := proto.MarshalOptions{Deterministic: true}.Marshal(&in)
		if err != nil || string(again) != string(call.request) {
			t.Errorf("encoded again: %q, %v; want %q", again, err, call.request)
		}
	}
}

func TestSink_Deliver_showsAToken(t *testing.T) {
	ca := newCA(t)
	file := write(t, filepath.Join(t.TempDir(), "token"), []byte("old"))
	addr, got := capture(t, ca, func(n int) error {
		if n == 2 {
			// It is replaced while we still show the old one.
			write(t, file, []byte("new"))
			return status.Error(codes.Unauthenticated, "not any more")
		}
		return nil
	})
	token, err := credential.Known().New(credential.Config{Type: "token-file", File: file})
	if err != nil {
		t.Fatal(err)
	}
	sink := dial(t, ca, Config{Endpoint: addr, Token: token})
	for range 2 {
		if err := sink.Deliver(t.Context(), example()); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []string{"Bearer old", "Bearer old", "Bearer new"} {
		if call := <-got; call.about.Get("authorization")[0] != want {
			t.Errorf("call %d showed %q", i, call.about.Get("authorization"))
		}
	}
	// A token isn't told by who refuses it, and not shown to whom nobody trusts.
	os.Remove(file)
	if err := sink.Deliver(t.Context(), example()); err == nil || !strings.Contains(err.Error(), "no token") {
		t.Errorf("without a token: %v", err)
	}
	write(t, file, []byte("hush"))
	err = dial(t, newCA(t), Config{Endpoint: addr, Token: token}).Deliver(t.Context(), example())
	if err == nil || strings.Contains(err.Error(), "hush") || len(got) > 0 {
		t.Errorf("a sink of another CA: %v, got %d", err, len(got))
	}
}

func TestConfig_Validate(t *testing.T) {
	token := new(credential.Source)
	for want, c := range map[string]Config{
		"":                               {Endpoint: "127.0.0.1:1", Plaintext: true},
		"plaintext: a token":             {Endpoint: "127.0.0.1:1", Plaintext: true, Token: token},
		"plaintext: there is no TLS":     {Endpoint: "127.0.0.1:1", Plaintext: true, TLS: credential.TLS{CAFile: "ca.pem"}},
		"plaintext: alerts go":           {Endpoint: "sink.example.com:1", Plaintext: true},
		"plaintext: alerts go without":   {Endpoint: "localhost:1", Plaintext: true}, // a name is what DNS makes of it
		"an endpoint that somebody else": {Endpoint: "sink.example.com:1", Untrusted: true, Token: token},
	} {
		if err := c.Validate(); (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestSink_Deliver_inPlaintextToLoopback(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	got := make(chan Received, 1)
	Register(s, func(_ context.Context, r Received) error { got <- r; return nil })
	go s.Serve(l)
	defer s.Stop()
	sink, err := New(Config{Endpoint: l.Addr().String(), Plaintext: true})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	if err := sink.Deliver(t.Context(), example()); err != nil || (<-got).ID != "3f2a" {
		t.Errorf("%v", err)
	}
}

// nameserver answers each query for sink.test with the next of addresses, and
// from then on with the last. It counts queries for addresses, and for texts.
func nameserver(t *testing.T, addresses ...[4]byte) (r *net.Resolver, asked, texts *atomic.Int32) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	asked, texts = new(atomic.Int32), new(atomic.Int32)
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var q dnsmessage.Message
			if err := q.Unpack(buf[:n]); err != nil {
				continue
			}
			a := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, Authoritative: true}, Questions: q.Questions}
			switch q.Questions[0].Type {
			case dnsmessage.TypeTXT:
				texts.Add(1)
			case dnsmessage.TypeA:
				i := min(int(asked.Add(1)), len(addresses)) - 1
				a.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: addresses[i]},
				}}
			}
			if text, err := a.Pack(); err == nil {
				conn.WriteTo(text, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}, asked, texts
}

// An endpoint that somebody else has chosen is connected to only at a public
// address, whatever its name has led to before.
func TestSink_Deliver_toPrivateAddresses(t *testing.T) {
	reached := make(chan struct{}, 8)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			reached <- struct{}{}
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	deliver := func(endpoint string, r *net.Resolver) error {
		t.Helper()
		sink, err := New(Config{Endpoint: endpoint, Untrusted: true, Resolver: r})
		if err != nil {
			t.Fatal(err)
		}
		defer sink.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return sink.Deliver(ctx, example())
	}
	loopback, metadataServer := [4]byte{127, 0, 0, 1}, [4]byte{169, 254, 169, 254}
	for name, addresses := range map[string][][4]byte{"loopback": {loopback}, "metadata": {metadataServer}, "one after the other": {metadataServer, loopback}} {
		resolver, asked, _ := nameserver(t, addresses...)
		err := deliver("sink.test:"+port, resolver)
		if c, _ := class(t, err); c != alert.Retry || !strings.Contains(err.Error(), "not allowed") || asked.Load() == 0 {
			t.Errorf("%s: class %v, %v, %d names", name, c, err, asked.Load())
		}
	}
	for _, host := range []string{"127.0.0.1", "[::1]", "169.254.169.254", "[::ffff:127.0.0.1]", "10.0.0.1"} {
		if err := deliver(host+":"+port, nil); err == nil || !strings.Contains(err.Error(), "not allowed") {
			t.Errorf("%s: %v", host, err)
		}
	}
	if len(reached) > 0 {
		t.Error("it was connected to")
	}
}

func TestEndpoints_Permit(t *testing.T) {
	e := Endpoints{"*.example.com:443", "sink.test:8443"}
	for endpoint, want := range map[string]string{
		"sink.example.com:443": "", "SINK.example.com:443": "", "sink.test:8443": "",
		"sink.test:443":                     "doesn't allow",
		"example.com.evil.test:443":         "doesn't allow",
		"evil.test/x.example.com:443":       "must be HOST:PORT",
		"u@evil.example.com:443":            "must be HOST:PORT",
		"sink.example.com":                  "must be HOST:PORT",
		"sink.example.com:https":            "must be HOST:PORT",
		"https://sink.example.com:443":      "must be HOST:PORT",
		"127.0.0.1:443":                     "not allowed",
		"[::1]:443":                         "not allowed",
		"169.254.169.254:443":               "not allowed",
		"unix:///tmp/x.example.com:443":     "must be HOST:PORT",
		"dns://127.0.0.1/a.example.com:443": "must be HOST:PORT",
	} {
		err := e.Permit(endpoint)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", endpoint, err, want)
		}
	}
	if err := (Endpoints{"*"}).Validate(); err == nil {
		t.Error("a pattern without a port was taken")
	}
}

// raw is a server of HTTP/2 by TLS that isn't one of gRPC.
func raw(t *testing.T, ca *pki.CA, h http.HandlerFunc) string {
	t.Helper()
	conf, err := ca.ServerTLS(nil)
	if err != nil {
		t.Fatal(err)
	}
	conf.NextProtos = []string{http2.NextProtoTLS}
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return l.Addr().String()
}

func TestSink_Deliver_toReceiversThatAreNone(t *testing.T) {
	ca := newCA(t)
	elsewhere := raw(t, ca, func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") })
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a redirect": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://"+elsewhere+"/AlertSink/Alert")
			w.WriteHeader(http.StatusTemporaryRedirect)
		}, "307"},
		"a page": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, "content-type"},
		"a message that says that it has a gigabyte": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Write([]byte{0, 0x40, 0, 0, 0})
			w.(http.Flusher).Flush()
			chunk := make([]byte, 64<<10)
			for {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, "larger than max"},
	} {
		addr := raw(t, ca, tc.answer)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		err := dial(t, ca, Config{Endpoint: addr}).Deliver(ctx, example())
		cancel()
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// One that takes the connection and then a byte now and then, or none, costs
// an attempt its time and no more.
func TestSink_Deliver_toASlowReceiver(t *testing.T) {
	ca := newCA(t)
	conf, err := ca.ServerTLS(nil)
	if err != nil {
		t.Fatal(err)
	}
	conf.NextProtos = []string{http2.NextProtoTLS}
	for name, handle := range map[string]func(net.Conn){
		"no handshake":         func(c net.Conn) { io.Copy(io.Discard, c) },
		"no settings":          func(c net.Conn) { io.Copy(io.Discard, tls.Server(c, conf)) },
		"half a frame of them": func(c net.Conn) { s := tls.Server(c, conf); s.Write([]byte{0, 0}); io.Copy(io.Discard, s) },
		"settings, and no more": func(c net.Conn) {
			s := tls.Server(c, conf)
			http2.NewFramer(s, s).WriteSettings()
			io.Copy(io.Discard, s)
		},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go handle(c)
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		err = dial(t, ca, Config{Endpoint: l.Addr().String()}).Deliver(ctx, example())
		cancel()
		if c, _ := class(t, err); c != alert.Retry {
			t.Errorf("%s: class %v, %v", name, c, err)
		}
	}
}

// DNS can't say how we call: the text that would hold a service config isn't
// asked for.
func TestSink_Deliver_asksForNoServiceConfig(t *testing.T) {
	ca := newCA(t)
	addr, _ := serve(t, ca, "127.0.0.1:0", nil, func(s *grpc.Server) {
		Register(s, func(context.Context, Received) error { return nil })
	})
	_, port, _ := net.SplitHostPort(addr)
	resolver, asked, texts := nameserver(t, [4]byte{127, 0, 0, 1})
	systems := net.DefaultResolver
	net.DefaultResolver = resolver
	defer func() { net.DefaultResolver = systems }()
	err := dial(t, ca, Config{Endpoint: "sink.test:" + port}).Deliver(t.Context(), example())
	if err == nil || !strings.Contains(err.Error(), "sink.test") { // its certificate is for localhost
		t.Errorf("%v", err)
	}
	if asked.Load() == 0 || texts.Load() > 0 {
		t.Errorf("asked for %d addresses and %d texts", asked.Load(), texts.Load())
	}
}

// A message of a hub that has come through too many is a circle's.
func TestReceived_Run(t *testing.T) {
	run := ""
	for hops := range 3 {
		run = Received{Hops: hopsOf(run)}.Run("x")
		if got := hopsOf(run); got != hops+1 {
			t.Errorf("%s: %d hops", run, got)
		}
	}
	if hopsOf("received:many:x") != 0 || hopsOf("0193") != 0 {
		t.Error("hops of a run that has none")
	}
}
