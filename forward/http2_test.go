package forward_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/forward/forwardtest"
)

// echo is a gRPC service of one method, which answers each message in turn.
var echo = grpc.ServiceDesc{
	ServiceName: "test.Echo", HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{{StreamName: "Talk", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(s.Context())
		s.SendHeader(metadata.Pairs("authorization-seen", strings.Join(md.Get("authorization"), ",")))
		s.SetTrailer(metadata.Pairs("said", "all", "authorization", "Bearer agents-token"))
		for {
			var m wrapperspb.BytesValue
			switch err := s.RecvMsg(&m); {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			case string(m.Value) == "fail":
				return status.Error(codes.FailedPrecondition, "as asked for")
			}
			if err := s.SendMsg(&m); err != nil {
				return err
			}
		}
	}}},
}

// grpcService serves echo on HTTP/2, in clear text or not.
func grpcService(t *testing.T, clear bool) *httptest.Server {
	t.Helper()
	g := grpc.NewServer()
	g.RegisterService(&echo, nil)
	s := httptest.NewUnstartedServer(g)
	if clear {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	} else {
		s.EnableHTTP2 = true
		s.StartTLS()
	}
	t.Cleanup(s.Close)
	return s
}

func TestForward_gRPC(t *testing.T) {
	for name, clear := range map[string]bool{"TLS": false, "clear text": true} {
		t.Run(name, func(t *testing.T) {
			service := grpcService(t, clear)
			token := write(t, "token", "agents-token")
			b := start(t, http.NotFoundHandler(), func(o *forwardtest.Options) {
				u := forward.Upstream{
					Type: "x-grpc", Name: "echo", URL: service.URL, Protocol: "http2",
					Credentials: forward.Credentials{Type: "bearer", TokenFile: token},
				}
				if !clear {
					u.CAFile = caFile(t, service)
				}
				o.Upstreams = append(o.Upstreams, u)
			})
			tlsConfig := b.as(t, "x-grpc", "echo").Transport.(*http.Transport).TLSClientConfig.Clone()
			conn, err := grpc.NewClient("dns:///"+strings.TrimPrefix(b.URL, "https://"), grpc.WithTransportCredentials(credentials.NewTLS(tlsConfig)))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			talk := func(ctx context.Context) grpc.ClientStream {
				t.Helper()
				s, err := conn.NewStream(ctx, &echo.Streams[0], "/test.Echo/Talk")
				if err != nil {
					t.Fatal(err)
				}
				return s
			}

			within, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()

			// Both directions go on side by side: each answer comes before the
			// next question.
			s := talk(within)
			var got wrapperspb.BytesValue
			for _, n := range []int{0, 1, 100_000, 3_000_000} {
				sent := make([]byte, n)
				io.ReadFull(noise(int64(n)), sent)
				if err := s.SendMsg(wrapperspb.Bytes(sent)); err != nil {
					t.Fatal(err)
				}
				if err := s.RecvMsg(&got); err != nil || !slices.Equal(got.Value, sent) {
					t.Fatalf("%d bytes: got %d back, %v", n, len(got.Value), err)
				}
			}
			if md, err := s.Header(); err != nil || md.Get("authorization-seen")[0] != "Bearer agents-token" {
				t.Errorf("header: %v, %v", md, err)
			}
			s.CloseSend()
			if err := s.RecvMsg(&got); !errors.Is(err, io.EOF) {
				t.Errorf("the end: %v", err)
			}
			if md := s.Trailer(); len(md.Get("said")) != 1 || len(md.Get("authorization")) != 0 {
				t.Errorf("trailer: %v", md)
			}

			// A status is in the trailer, where there is no body as well.
			s = talk(within)
			s.SendMsg(wrapperspb.Bytes([]byte("fail")))
			if err := s.RecvMsg(&got); status.Code(err) != codes.FailedPrecondition || status.Convert(err).Message() != "as asked for" {
				t.Errorf("a status: %v", err)
			}
			if err := conn.Invoke(within, "/test.Echo/Nothing", wrapperspb.Bytes(nil), &got); status.Code(err) != codes.Unimplemented {
				t.Errorf("an unknown method: %v", err)
			}

			ctx, leave := context.WithCancel(within)
			s = talk(ctx)
			s.SendMsg(wrapperspb.Bytes([]byte("x")))
			s.RecvMsg(&got)
			leave()
			if err := s.RecvMsg(&got); status.Code(err) != codes.Canceled {
				t.Errorf("cancelled: %v", err)
			}
		})
	}
}

// A service that speaks HTTP/2 is asked for an Upgrade by HTTP/1.1.
func TestForward_HTTP2_and_WebSocket(t *testing.T) {
	protos := make(chan string, 2)
	b := start(t, http.NotFoundHandler(), func(o *forwardtest.Options) {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			protos <- r.Proto
			if r.Header.Get("Upgrade") == "" {
				return
			}
			if ws, err := websocket.Accept(w, r, nil); err == nil {
				ws.Close(websocket.StatusNormalClosure, "")
			}
		}))
		s.EnableHTTP2 = true
		s.StartTLS()
		t.Cleanup(s.Close)
		o.Upstreams[0].URL, o.Upstreams[0].CAFile, o.Upstreams[0].Protocol = s.URL, caFile(t, s), "http2"
	})
	do(t, b.client, request(t, "GET", b.URL, nil))
	if p := <-protos; p != "HTTP/2.0" {
		t.Errorf("a request by %s", p)
	}
	h1 := b.client.Transport.(*http.Transport).Clone()
	h1.TLSClientConfig.NextProtos = []string{"http/1.1"}
	t.Cleanup(h1.CloseIdleConnections)
	ws, _, err := websocket.Dial(t.Context(), b.URL, &websocket.DialOptions{HTTPClient: &http.Client{Transport: h1}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if p := <-protos; p != "HTTP/1.1" {
		t.Errorf("an Upgrade by %s", p)
	}
}

// Defect of Birger's: a new connection, with its handshake, for each request.
func TestForward_keeps_connections_to_services(t *testing.T) {
	for _, protocol := range []string{"http1", "http2"} {
		t.Run(protocol, func(t *testing.T) {
			remotes := map[string]bool{}
			b := start(t, http.NotFoundHandler(), func(o *forwardtest.Options) {
				s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { remotes[r.RemoteAddr] = true }))
				s.EnableHTTP2 = true
				s.TLS = &tls.Config{}
				s.StartTLS()
				t.Cleanup(s.Close)
				o.Upstreams[0].URL, o.Upstreams[0].CAFile, o.Upstreams[0].Protocol = s.URL, caFile(t, s), protocol
			})
			for range 20 {
				do(t, b.client, request(t, "GET", b.URL, nil))
			}
			if len(remotes) != 1 {
				t.Errorf("%d connections for 20 requests in a row", len(remotes))
			}
		})
	}
}
