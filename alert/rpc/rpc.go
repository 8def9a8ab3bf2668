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
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
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
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"reeve.dev/reeve/alert"
	allstarv1 "reeve.dev/reeve/proto/allstar/v1"
)

// Metadata that goes with each call beside the frozen fields: the alert's ID,
// the same at each repetition, and its place in the order of its owner, repo
// and policy.
const (
	IDKey  = "reeve-alert-id"
	SeqKey = "reeve-seq"
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
	// CAFile holds the PEM certificates that the sink's is verified with;
	// empty means the system's.
	CAFile string
	// CertFile and KeyFile are the PEM client certificate and its key, if
	// the sink wants one. All three files are read again for each
	// connection, so that they can be renewed in place.
	CertFile, KeyFile string
	// Path is tried before the known ones, such as /my.AlertSink/Alert.
	Path string
}

// Validate reports the first thing that is wrong with c, without reading the
// files.
func (c Config) Validate() error {
	if host, port, err := net.SplitHostPort(c.Endpoint); err != nil || host == "" || port == "" {
		return fmt.Errorf("endpoint %q: must be host:port, such as sink.example.com:443", c.Endpoint)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return errors.New("certFile and keyFile: give both or neither")
	}
	if c.Path != "" && (!strings.HasPrefix(c.Path, "/") || strings.Count(c.Path, "/") != 2) {
		return fmt.Errorf("path %q: must be /SERVICE/METHOD, such as %s", c.Path, paths[0])
	}
	return nil
}

// Sink is an alert.Sink that calls an AlertSink.
type Sink struct {
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
	if _, err := cfg.tls(); err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("dns:///"+cfg.Endpoint,
		grpc.WithTransportCredentials(reloading{credentials.NewTLS(&tls.Config{}), cfg}),
		grpc.WithDisableServiceConfig(), // its DNS could say how we retry and balance
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)),
		grpc.WithMaxHeaderListSize(maxHeaders),
		grpc.WithUserAgent("reeve"),
		// The outbox waits between attempts; a connection that waits much
		// longer would only make them fail.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 500 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: timeout,
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", cfg.Endpoint, err)
	}
	s := &Sink{conn: conn, paths: paths}
	if cfg.Path != "" {
		s.paths = append([]string{cfg.Path}, slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return p == cfg.Path })...)
	}
	return s, nil
}

// Close ends the connection.
func (s *Sink) Close() error { return s.conn.Close() }

// Deliver implements alert.Sink.
func (s *Sink) Deliver(ctx context.Context, a alert.Alert) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, IDKey, string(a.ID), SeqKey, strconv.FormatInt(a.Seq, 10))
	req := &allstarv1.AlertRequest{
		OwnerName:  a.Outcome.Subject.Owner,
		RepoName:   a.Outcome.Subject.Repo,
		PolicyName: a.Outcome.Policy,
		Details:    a.Outcome.Details,
		Pass:       a.Outcome.Pass,
	}
	first := int(s.known.Load())
	for i := range s.paths {
		n := (first + i) % len(s.paths)
		err := s.conn.Invoke(ctx, s.paths[n], req, new(allstarv1.AlertResponse))
		if status.Code(err) == codes.Unimplemented {
			continue
		}
		s.known.Store(int32(n))
		return classify(err)
	}
	return &alert.Error{
		Class: alert.Pause,
		Err:   fmt.Errorf("the sink implements none of %s; if it has another path, set it as the sink's path", strings.Join(s.paths, ", ")),
	}
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

// tls reads the files.
func (c Config) tls() (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS13}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("caFile: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("caFile: %s holds no PEM certificate", c.CAFile)
		}
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("certFile, keyFile: %w", err)
		}
		out.Certificates = []tls.Certificate{cert}
	}
	return out, nil
}

// reloading is TLS whose files are read for each connection.
type reloading struct {
	credentials.TransportCredentials
	cfg Config
}

func (r reloading) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cfg, err := r.cfg.tls()
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return credentials.NewTLS(cfg).ClientHandshake(ctx, authority, conn)
}

func (r reloading) Clone() credentials.TransportCredentials {
	return reloading{r.TransportCredentials.Clone(), r.cfg}
}
