package e2e

import (
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// sink is an AlertSink written from the proposal's text alone: it reads the
// five fields off the wire, under the path that a draft without a package has.
type sink struct {
	addr, ca string
	got      locked[received]
}

type received struct {
	owner, repo, policy, details string
	pass                         bool
	id                           string
	at                           time.Time
}

func newSink(t *testing.T, dir string) *sink {
	cert, ca := certificate(t, dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	s := &sink{addr: "localhost:" + port, ca: ca}
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)), grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(s.alert))
	go server.Serve(l)
	t.Cleanup(server.Stop)
	return s
}

func (s *sink) alert(_ any, stream grpc.ServerStream) error {
	if method, _ := grpc.MethodFromServerStream(stream); method != "/AlertSink/Alert" {
		return status.Errorf(codes.Unimplemented, "unknown method %s", method)
	}
	var message []byte
	if err := stream.RecvMsg(&message); err != nil {
		return err
	}
	var r received
	for b := message; len(b) > 0; {
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch typ {
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			if to := map[protowire.Number]*string{1: &r.owner, 2: &r.repo, 3: &r.policy, 4: &r.details}[number]; to != nil {
				*to = string(v)
			}
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			r.pass = number == 5 && v == 1
		default:
			return status.Errorf(codes.InvalidArgument, "field %d has wire type %d", number, typ)
		}
	}
	if md, ok := metadata.FromIncomingContext(stream.Context()); ok {
		r.id = fmt.Sprint(md.Get("reeve-alert-id"))
	}
	r.at = time.Now()
	s.got.add(r)
	return stream.SendMsg(&[]byte{})
}

// about are the alerts of a subject's repo and a policy, one an id.
func (s *sink) about(repo, policy string) []received {
	var list []received
	seen := map[string]bool{}
	for _, r := range s.got.all() {
		if r.repo == repo && r.policy == policy && !seen[r.id] {
			seen[r.id] = true
			list = append(list, r)
		}
	}
	return list
}

// raw passes messages as the bytes that they are on the wire.
type raw struct{}

var _ encoding.Codec = raw{}

func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (raw) Name() string { return "proto" }
