package rpc

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/credential"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
	allstarv1 "reeve.dev/reeve/proto/allstar/v1"
)

func newCA(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve runs a gRPC server over TLS at addr and returns where it listens.
func serve(t *testing.T, ca *pki.CA, addr string, opts []grpc.ServerOption, register func(*grpc.Server)) (string, *grpc.Server) {
	t.Helper()
	cfg, err := ca.ServerTLS(nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(append(opts, grpc.Creds(credentials.NewTLS(cfg)))...)
	register(s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String(), s
}

func dial(t *testing.T, ca *pki.CA, cfg Config) *Sink {
	t.Helper()
	cfg.TLS.CAFile = write(t, filepath.Join(t.TempDir(), "ca.pem"), ca.CertPEM())
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func example() alert.Alert {
	return alert.Alert{
		ID: "3f2a", Seq: 7,
		Outcome: fleet.Outcome{
			Subject: fleet.Subject{Owner: "edge/shop", Repo: "web-0/nginx"},
			Policy:  "container-baseline/strict", Details: "3 controls failed", Pass: false,
		},
	}
}

// class is the decision in err.
func class(t *testing.T, err error) (alert.Class, *alert.Error) {
	t.Helper()
	var e *alert.Error
	if !errors.As(err, &e) {
		t.Fatalf("not classed: %v", err)
	}
	return e.Class, e
}

func TestSink_Deliver(t *testing.T) {
	ca := newCA(t)
	got := make(chan Received, 1)
	addr, _ := serve(t, ca, "127.0.0.1:0", nil, func(s *grpc.Server) {
		Register(s, func(_ context.Context, r Received) error { got <- r; return nil })
	})
	a := example()
	if err := dial(t, ca, Config{Endpoint: addr}).Deliver(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Received{Outcome: a.Outcome, ID: a.ID, Seq: a.Seq}, <-got); diff != "" {
		t.Errorf("received (-want +got):\n%s", diff)
	}
}

// draft are the messages and services as plain protoc makes them of a file:
// testdata/draft.proto has the proposal's text, which names no package.
func draft(t *testing.T, file string) (request, response protoreflect.MessageDescriptor, service string) {
	t.Helper()
	protoc, err := exec.LookPath("protoc")
	if err != nil {
		t.Skip("protoc isn't there; get it: apt-get install protobuf-compiler")
	}
	out := filepath.Join(t.TempDir(), "set")
	if text, err := exec.CommandContext(t.Context(), protoc, "-I", filepath.Dir(file), "--descriptor_set_out", out, filepath.Base(file)).CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v: %s", err, text)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(raw, &set); err != nil {
		t.Fatal(err)
	}
	d, err := protodesc.NewFile(set.GetFile()[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	method := d.Services().ByName("AlertSink").Methods().ByName("Alert")
	return method.Input(), method.Output(), string(method.Parent().FullName())
}

const (
	draftFile = "testdata/draft.proto"
	ownFile   = "../../proto/allstar/v1/alert_sink.proto"
)

func get(m *dynamicpb.Message, name protoreflect.Name) protoreflect.Value {
	return m.Get(m.Descriptor().Fields().ByName(name))
}

func TestSink_Deliver_toReceiverOfTheDraft(t *testing.T) {
	for _, tc := range []struct{ file, service string }{
		{draftFile, ""}, {ownFile, ""}, {draftFile, "allstar.AlertSink"}, {draftFile, "my.own.AlertSink"},
	} {
		t.Run(tc.file+tc.service, func(t *testing.T) {
			ca := newCA(t)
			request, response, service := draft(t, tc.file)
			if tc.service != "" {
				service = tc.service
			}
			got := make(chan *dynamicpb.Message, 2)
			addr, _ := serve(t, ca, "127.0.0.1:0", nil, func(s *grpc.Server) {
				s.RegisterService(&grpc.ServiceDesc{
					ServiceName: service, HandlerType: (*any)(nil),
					Methods: []grpc.MethodDesc{{MethodName: "Alert", Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
						in := dynamicpb.NewMessage(request)
						if err := dec(in); err != nil {
							return nil, err
						}
						got <- in
						return dynamicpb.NewMessage(response), nil
					}}},
				}, struct{}{})
			})
			cfg := Config{Endpoint: addr}
			if service == "my.own.AlertSink" {
				cfg.Path = "/my.own.AlertSink/Alert"
			}
			sink := dial(t, ca, cfg)
			a := example()
			a.Outcome.Pass = true
			for range 2 { // probes once, remembers
				if err := sink.Deliver(t.Context(), a); err != nil {
					t.Fatal(err)
				}
				in := <-got
				have := fleet.Outcome{
					Subject: fleet.Subject{Owner: get(in, "owner_name").String(), Repo: get(in, "repo_name").String()},
					Policy:  get(in, "policy_name").String(), Details: get(in, "details").String(), Pass: get(in, "pass").Bool(),
				}
				if diff := cmp.Diff(a.Outcome, have); diff != "" {
					t.Errorf("received (-want +got):\n%s", diff)
				}
			}
			if path := sink.paths[sink.known.Load()]; path != "/"+service+"/Alert" {
				t.Errorf("remembers %s", path)
			}
		})
	}
}

func TestRegister_servesSendersOfTheDraft(t *testing.T) {
	ca := newCA(t)
	request, response, _ := draft(t, draftFile)
	got := make(chan Received, 1)
	addr, _ := serve(t, ca, "127.0.0.1:0", nil, func(s *grpc.Server) {
		Register(s, func(_ context.Context, r Received) error { got <- r; return nil })
	})
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: ca.Pool()})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	send := func(path string, fields map[protoreflect.Name]any) error {
		m := dynamicpb.NewMessage(request)
		for name, v := range fields {
			m.Set(request.Fields().ByName(name), protoreflect.ValueOf(v))
		}
		return conn.Invoke(t.Context(), path, m, dynamicpb.NewMessage(response))
	}
	for _, path := range paths {
		err := send(path, map[protoreflect.Name]any{"owner_name": "acme", "repo_name": "site", "policy_name": "SECURITY.md", "pass": true})
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		want := Received{Outcome: fleet.Outcome{Subject: fleet.Subject{Owner: "acme", Repo: "site"}, Policy: "SECURITY.md", Pass: true}}
		if diff := cmp.Diff(want, <-got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	for name, fields := range map[string]map[protoreflect.Name]any{
		"owner_name":  {},
		"repo_name":   {"owner_name": "acme"},
		"policy_name": {"owner_name": "acme", "repo_name": "site"},
	} {
		err := send(paths[0], fields)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(status.Convert(err).Message(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

func TestRegister_hidesErrorsOfTheHandler(t *testing.T) {
	ca := newCA(t)
	addr, _ := serve(t, ca, "127.0.0.1:0", nil, func(s *grpc.Server) {
		Register(s, func(context.Context, Received) error { return errors.New("dsn with a password") })
	})
	err := dial(t, ca, Config{Endpoint: addr}).Deliver(t.Context(), example())
	if c, _ := class(t, err); c != alert.Retry || strings.Contains(err.Error(), "password") {
		t.Errorf("class %v, %v", c, err)
	}
}

func TestSink_Deliver_classesStatuses(t *testing.T) {
	ca := newCA(t)
	var answer atomic.Pointer[status.Status]
	addr, _ := serve(t, ca, "127.0.0.1:0", nil, func(s *grpc.Server) {
		Register(s, func(context.Context, Received) error { return answer.Load().Err() })
	})
	sink := dial(t, ca, Config{Endpoint: addr})
	busy, err := status.New(codes.ResourceExhausted, "busy").WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(40 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	for code, want := range map[codes.Code]alert.Class{
		codes.Unavailable: alert.Retry, codes.DeadlineExceeded: alert.Retry, codes.Aborted: alert.Retry,
		codes.Internal: alert.Retry, codes.Unknown: alert.Retry,
		codes.Unauthenticated: alert.Pause, codes.PermissionDenied: alert.Pause, codes.Unimplemented: alert.Pause,
		codes.InvalidArgument: alert.Permanent,
	} {
		answer.Store(status.New(code, "no"))
		if got, _ := class(t, sink.Deliver(t.Context(), example())); got != want {
			t.Errorf("%s: class %v, want %v", code, got, want)
		}
	}
	answer.Store(status.New(codes.AlreadyExists, "have it"))
	if err := sink.Deliver(t.Context(), example()); err != nil {
		t.Errorf("AlreadyExists: %v", err)
	}
	answer.Store(busy)
	if c, e := class(t, sink.Deliver(t.Context(), example())); c != alert.Retry || e.After != 40*time.Second {
		t.Errorf("busy: class %v, after %v", c, e.After)
	}
}

func TestSink_Deliver_whoIsTrusted(t *testing.T) {
	ca := newCA(t)
	callers := make(chan string, 1)
	register := func(s *grpc.Server) {
		Register(s, func(ctx context.Context, _ Received) error {
			p, _ := peer.FromContext(ctx)
			certs := p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates
			if len(certs) == 0 {
				callers <- "nobody"
				return nil
			}
			id, err := pki.IdentityOf(certs[0])
			callers <- id.Name
			return err
		})
	}
	addr, server := serve(t, ca, "127.0.0.1:0", nil, register)

	t.Run("a sink of another CA gets nothing", func(t *testing.T) {
		err := dial(t, newCA(t), Config{Endpoint: addr}).Deliver(t.Context(), example())
		if c, _ := class(t, err); c != alert.Retry || !strings.Contains(err.Error(), "x509") {
			t.Errorf("class %v, %v", c, err)
		}
	})
	t.Run("no client certificate unless configured", func(t *testing.T) {
		if err := dial(t, ca, Config{Endpoint: addr}).Deliver(t.Context(), example()); err != nil {
			t.Fatal(err)
		}
		if who := <-callers; who != "nobody" {
			t.Errorf("caller %q", who)
		}
	})
	t.Run("a renewed client certificate is shown at the next connection", func(t *testing.T) {
		dir := t.TempDir()
		cfg := Config{Endpoint: addr, TLS: credential.TLS{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}}
		renew := func(name string) {
			cert, key, err := ca.NewCredential(pki.Identity{Purpose: pki.Control, Name: name}, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			write(t, cfg.TLS.CertFile, cert)
			write(t, cfg.TLS.KeyFile, key)
		}
		renew("first")
		sink := dial(t, ca, cfg)
		if err := sink.Deliver(t.Context(), example()); err != nil {
			t.Fatal(err)
		}
		if who := <-callers; who != "first" {
			t.Errorf("caller %q", who)
		}
		renew("second")
		server.Stop()
		serve(t, ca, addr, nil, register)
		for {
			if err := sink.Deliver(t.Context(), example()); err == nil {
				break
			} else if c, _ := class(t, err); c != alert.Retry {
				t.Fatal(err)
			}
		}
		if who := <-callers; who != "second" {
			t.Errorf("caller %q", who)
		}
	})
}

// answering is a receiver that answers any call with f.
func answering(t *testing.T, ca *pki.CA, f func(grpc.ServerStream) error) string {
	addr, _ := serve(t, ca, "127.0.0.1:0", []grpc.ServerOption{
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error { return f(s) }),
	}, func(*grpc.Server) {})
	return addr
}

func TestSink_Deliver_toHostileReceivers(t *testing.T) {
	ca := newCA(t)
	big := &allstarv1.AlertRequest{Details: strings.Repeat("x", 2*maxResponse)}

	t.Run("a big answer is cut off", func(t *testing.T) {
		addr := answering(t, ca, func(s grpc.ServerStream) error { return s.SendMsg(big) })
		err := dial(t, ca, Config{Endpoint: addr}).Deliver(t.Context(), example())
		if c, _ := class(t, err); c != alert.Retry || !strings.Contains(err.Error(), "larger than max") {
			t.Errorf("class %v, %v", c, err)
		}
	})
	t.Run("an endless answer is left", func(t *testing.T) {
		left := make(chan struct{})
		addr := answering(t, ca, func(s grpc.ServerStream) error {
			defer close(left)
			for {
				if err := s.SendMsg(&allstarv1.AlertRequest{Details: "more"}); err != nil {
					return err
				}
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := dial(t, ca, Config{Endpoint: addr}).Deliver(ctx, example()); err == nil {
			t.Error("taken for an answer")
		}
		<-left
	})
	t.Run("long headers are refused", func(t *testing.T) {
		addr := answering(t, ca, func(s grpc.ServerStream) error {
			return status.Error(codes.Unavailable, strings.Repeat("x", 4*maxHeaders))
		})
		err := dial(t, ca, Config{Endpoint: addr}).Deliver(t.Context(), example())
		if c, _ := class(t, err); c != alert.Retry || len(err.Error()) > maxHeaders {
			t.Errorf("class %v, %d bytes", c, len(err.Error()))
		}
	})
	t.Run("silence ends with the context", func(t *testing.T) {
		addr := answering(t, ca, func(s grpc.ServerStream) error {
			<-s.Context().Done()
			return nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := dial(t, ca, Config{Endpoint: addr}).Deliver(ctx, example())
		if c, _ := class(t, err); c != alert.Retry || !strings.Contains(err.Error(), "DeadlineExceeded") {
			t.Errorf("class %v, %v", c, err)
		}
	})
}

func TestNew_namesWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	key := write(t, filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "X"}))
	for _, tc := range []struct {
		cfg  Config
		want string
	}{
		{Config{Endpoint: "sink.example.com"}, "endpoint"},
		{Config{Endpoint: "https://sink.example.com:1"}, "endpoint"},
		{Config{Endpoint: ":443"}, "endpoint"},
		{Config{Endpoint: "a:1", TLS: credential.TLS{CertFile: key}}, "keyFile"},
		{Config{Endpoint: "a:1", Path: "AlertSink/Alert"}, "path"},
		{Config{Endpoint: "a:1", TLS: credential.TLS{CAFile: filepath.Join(dir, "none")}}, "caFile"},
		{Config{Endpoint: "a:1", TLS: credential.TLS{CAFile: key}}, "caFile"},
		{Config{Endpoint: "a:1", TLS: credential.TLS{CertFile: key, KeyFile: key}}, "certFile"},
	} {
		s, err := New(tc.cfg)
		if err == nil {
			s.Close()
			t.Errorf("%+v: taken", tc.cfg)
		} else if !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %s named", tc.cfg, err, tc.want)
		}
	}
}
