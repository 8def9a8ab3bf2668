// Package rpc delivers alerts to an AlertSink, the gRPC service of Allstar's
// proposed rpc action, and lets a program be such a sink.
//
// The proposal's draft named no package, so receivers answer under different
// paths; their messages are the same on the wire. A Sink tries the known
// paths until one is implemented and stays with it; Register serves them all.
package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/credential"
	"reeve.dev/reeve/alert/verify"
	"reeve.dev/reeve/internal/public"
	allstarv1 "reeve.dev/reeve/proto/allstar/v1"
)

// Metadata that goes with each call beside the frozen fields: the alert's ID,
// the same at each repetition; its place in the order of its owner, repo and
// policy; and through how many hubs it has come. Its signature is under
// verify.SignatureKey.
const (
	IDKey   = "reeve-alert-id"
	SeqKey  = "reeve-seq"
	HopsKey = "reeve-hops"
)

// paths are those that receivers of the proposal answer under.
var paths = []string{
	allstarv1.AlertSink_Alert_FullMethodName,
	"/AlertSink/Alert",
	"/allstar.AlertSink/Alert",
}

// A hostile receiver gets this much of us and no more: an AlertResponse has
// no field.
const (
	timeout     = 15 * time.Second
	maxResponse = 64 << 10
	maxHeaders  = 16 << 10
)

// Config says where an AlertSink is and how to trust it.
type Config struct {
	// Endpoint is host:port.
	Endpoint string
	// TLS is whom to trust, and who we are.
	TLS credential.TLS
	// Token gives the token that we show; nil: none.
	Token *credential.Source
	// Plaintext is for a sink on this machine that speaks no TLS.
	Plaintext bool
	// Path is tried before the known ones, such as /my.AlertSink/Alert.
	Path string
	// Sign makes the signature of a request; nil: none is sent. Audience is
	// whom it is for; empty: the Endpoint.
	Sign     func(ctx context.Context, s verify.Statement, request []byte) (string, error)
	Audience string
	// Untrusted says that somebody else has chosen the endpoint: it must have
	// a public address, judged at the connection. Resolver turns its name into
	// addresses; nil: the system's.
	Untrusted bool
	Resolver  *net.Resolver
}

// Validate reports the first thing that is wrong with c, without reading the
// files.
func (c Config) Validate() error {
	host, port, err := net.SplitHostPort(c.Endpoint)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("endpoint %q: must be host:port, such as sink.example.com:443", c.Endpoint)
	}
	if err := c.TLS.Validate(); err != nil {
		return err
	}
	if c.Path != "" && (!strings.HasPrefix(c.Path, "/") || strings.Count(c.Path, "/") != 2) {
		return fmt.Errorf("path %q: must be /SERVICE/METHOD, such as %s", c.Path, paths[0])
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case c.Plaintext && c.Token != nil:
		return errors.New("plaintext: a token is sent over TLS only")
	case c.Plaintext && c.TLS != credential.TLS{}:
		return errors.New("plaintext: there is no TLS then that caFile or certFile could be for")
	case c.Plaintext && (err != nil || !addr.IsLoopback()):
		return fmt.Errorf("plaintext: alerts go without TLS to a loopback address only, such as 127.0.0.1:%s", port)
	case c.Untrusted && (c.Token != nil || c.Plaintext || c.TLS != credential.TLS{}):
		return errors.New("an endpoint that somebody else has chosen gets no credential of ours")
	}
	return nil
}

// Sink is an alert.Sink that calls an AlertSink.
type Sink struct {
	cfg   Config
	conn  *grpc.ClientConn
	paths []string
	known atomic.Int32 // index in paths of the one that answered last
}

var _ alert.Sink = (*Sink)(nil)

// New returns a Sink, which connects when it has something to deliver. The
// caller closes it.
func New(cfg Config) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if _, err := cfg.TLS.Config(); err != nil {
		return nil, err
	}
	if cfg.Audience == "" {
		cfg.Audience = cfg.Endpoint
	}
	transport := credentials.TransportCredentials(reloading{credentials.NewTLS(&tls.Config{}), cfg.TLS})
	if cfg.Plaintext {
		transport = insecure.NewCredentials()
	}
	target := "dns:///" + cfg.Endpoint
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDisableServiceConfig(), // its DNS could say how we retry and balance
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse), grpc.ForceCodec(exact{})),
		grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithUserAgent("reeve"),
		// The outbox waits between attempts; a connection that waits much
		// longer would only make them fail.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 500 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: timeout,
		}),
	}
	if cfg.Untrusted {
		// The name goes to our own dialer, which judges the address; no proxy
		// connects in our stead.
		target = "passthrough:///" + cfg.Endpoint
		dialer := &net.Dialer{Timeout: timeout, Resolver: cfg.Resolver, Control: public.Control}
		options = append(options, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", addr)
		}))
	}
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", cfg.Endpoint, err)
	}
	s := &Sink{cfg: cfg, conn: conn, paths: paths}
	if cfg.Path != "" {
		s.paths = append([]string{cfg.Path}, slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return p == cfg.Path })...)
	}
	return s, nil
}

// Close ends the connection.
func (s *Sink) Close() error { return s.conn.Close() }

// exact sends a request's bytes as they are, since they are what is signed.
type exact struct{}

func (exact) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (exact) Unmarshal(data []byte, v any) error { return proto.Unmarshal(data, v.(proto.Message)) }
func (exact) Name() string                       { return "proto" }

// Deliver implements alert.Sink.
func (s *Sink) Deliver(ctx context.Context, a alert.Alert) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request, err := proto.MarshalOptions{Deterministic: true}.Marshal(&allstarv1.AlertRequest{
		OwnerName:  a.Outcome.Subject.Owner,
		RepoName:   a.Outcome.Subject.Repo,
		PolicyName: a.Outcome.Policy,
		Details:    a.Outcome.Details,
		Pass:       a.Outcome.Pass,
	})
	if err != nil {
		return &alert.Error{Class: alert.Permanent, Err: err}
	}
	about := []string{IDKey, string(a.ID), SeqKey, strconv.FormatInt(a.Seq, 10)}
	if hops := hopsOf(a.Outcome.Run); hops > 0 {
		about = append(about, HopsKey, strconv.Itoa(hops))
	}
	if s.cfg.Sign != nil {
		envelope, err := s.cfg.Sign(ctx, verify.Statement{ID: string(a.ID), Seq: a.Seq, Timestamp: time.Now().UTC().Truncate(time.Millisecond), Audience: s.cfg.Audience}, request)
		if err != nil {
			return fmt.Errorf("signature: %w", err)
		}
		about = append(about, verify.SignatureKey, envelope)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, about...)
	token, err := s.cfg.Token.Token(ctx)
	if err != nil {
		return err
	}
	err = s.call(ctx, request, token)
	if status.Code(err) == codes.Unauthenticated && token != "" {
		// It may have been replaced before its time.
		s.cfg.Token.Refused(token)
		fresh, tokenErr := s.cfg.Token.Token(ctx)
		if tokenErr == nil && fresh != token {
			err = s.call(ctx, request, fresh)
		}
	}
	if errors.Is(err, errNoPath) {
		return &alert.Error{Class: alert.Pause, Err: fmt.Errorf("%w of %s; if it has another path, set it as the sink's path", errNoPath, strings.Join(s.paths, ", "))}
	}
	return classify(err)
}

var errNoPath = errors.New("the sink implements none")

// call tries the paths, the one that answered last first.
func (s *Sink) call(ctx context.Context, request []byte, token string) error {
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	first := int(s.known.Load())
	for i := range s.paths {
		n := (first + i) % len(s.paths)
		err := s.conn.Invoke(ctx, s.paths[n], request, new(allstarv1.AlertResponse))
		if status.Code(err) == codes.Unimplemented {
			continue
		}
		s.known.Store(int32(n))
		return err
	}
	return errNoPath
}

// classify says what a call's status means for the alert.
func classify(err error) error {
	if err == nil {
		return nil
	}
	st := status.Convert(err)
	e := &alert.Error{Err: fmt.Errorf("%s: %s", st.Code(), st.Message())}
	switch st.Code() {
	case codes.AlreadyExists: // a sink that tells repetitions by their ID
		return nil
	case codes.InvalidArgument:
		e.Class = alert.Permanent
	case codes.Unauthenticated, codes.PermissionDenied:
		e.Class = alert.Pause
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			e.After = info.GetRetryDelay().AsDuration()
		}
	}
	return e
}

// reloading is TLS whose files are read for each connection.
type reloading struct {
	credentials.TransportCredentials
	tls credential.TLS
}

func (r reloading) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cfg, err := r.tls.Config()
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return credentials.NewTLS(cfg).ClientHandshake(ctx, authority, conn)
}

func (r reloading) Clone() credentials.TransportCredentials {
	return reloading{r.TransportCredentials.Clone(), r.tls}
}
