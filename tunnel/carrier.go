package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// ALPN is the application protocol of a carrier that is raw TLS.
	ALPN = "reeve/1"
	// Path is where the hub accepts a carrier that is a WebSocket.
	Path = "/agent/v1/carrier"
)

// Carrier is a way to carry a session.
type Carrier string

const (
	// WebSocket passes HTTP proxies and load balancers.
	WebSocket Carrier = "websocket"
	// RawTLS is the fast path, where nothing in between ends TLS.
	RawTLS Carrier = "alpn"
)

// DefaultCarriers is the order in which carriers are tried.
var DefaultCarriers = []Carrier{WebSocket, RawTLS}

// DialConfig says where the hub is and how to get there.
type DialConfig struct {
	// URL is the hub's base address, https://host[:port]; a path before
	// [Path] is kept.
	URL string
	// TLS authenticates both ends; it is cloned. ServerName is URL's host
	// unless it is set.
	TLS *tls.Config
	// Carriers are tried in order; nil is [DefaultCarriers].
	Carriers []Carrier
	// Timeout bounds the wait for a connection; 0 is 10 s. The handshakes on it
	// may take three times as long, since a hub that has just come up has many
	// to answer, and who gives up comes again.
	Timeout time.Duration
	// Proxy chooses the HTTP proxy, as in http.Transport; nil reads
	// HTTPS_PROXY and NO_PROXY from the environment. Raw TLS takes none.
	Proxy func(*http.Request) (*url.URL, error)
	// Session tunes the session on the carrier.
	Session Config
}

// Validate reports the first thing that makes dialling pointless.
func (c DialConfig) Validate() error {
	_, err := c.hub()
	if err != nil {
		return err
	}
	for _, k := range c.Carriers {
		if k != WebSocket && k != RawTLS {
			return fmt.Errorf("carrier %q: must be %q or %q", k, WebSocket, RawTLS)
		}
	}
	return c.Session.Validate()
}

func (c DialConfig) hub() (*url.URL, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, errors.New("hub's URL can't be parsed: it must look like https://hub.example.com:8443")
	}
	if u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("hub's URL %q: must look like https://hub.example.com:8443", u.Redacted())
	}
	return u, nil
}

// Dial dials once; see [Dialer.Dial].
func Dial(ctx context.Context, cfg DialConfig) (*Session, error) { return NewDialer(cfg).Dial(ctx) }

// Dialer dials a hub and remembers which carrier got through. It may be used
// by several goroutines.
type Dialer struct {
	cfg  DialConfig
	last atomic.Int32 // index of the carrier that worked
}

// NewDialer makes a Dialer; what is wrong with cfg comes from Dial.
func NewDialer(cfg DialConfig) *Dialer {
	if len(cfg.Carriers) == 0 {
		cfg.Carriers = DefaultCarriers
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Proxy == nil {
		cfg.Proxy = http.ProxyFromEnvironment
	}
	return &Dialer{cfg: cfg}
}

// Dial tries the carriers, the one that worked last time first, and answers
// the agent's end of a session. The error says of each carrier why it failed.
func (d *Dialer) Dial(ctx context.Context) (*Session, error) {
	if err := d.cfg.Validate(); err != nil {
		return nil, fmt.Errorf("tunnel: %w", err)
	}
	first := int(d.last.Load())
	var failed []error
	for i := range d.cfg.Carriers {
		at := (first + i) % len(d.cfg.Carriers)
		carrier := d.cfg.Carriers[at]
		conn, err := d.dial(ctx, carrier)
		if err == nil {
			d.last.Store(int32(at))
			return Client(conn, d.cfg.Session)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		failed = append(failed, fmt.Errorf("by %s: %w", carrier, err))
	}
	return nil, fmt.Errorf("tunnel: hub %s: %w", d.cfg.URL, errors.Join(failed...))
}

func (d *Dialer) dial(ctx context.Context, carrier Carrier) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 3*d.cfg.Timeout,
		fmt.Errorf("no answer within %v on a connection that was taken; is it the hub that listens there, and can it keep up?", 3*d.cfg.Timeout))
	defer cancel()
	var conn net.Conn
	var err error
	if carrier == RawTLS {
		conn, err = d.dialTLS(ctx)
	} else {
		conn, err = d.dialWebSocket(ctx)
	}
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return conn, err
}

func (d *Dialer) tls(u *url.URL, proto string) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13}
	if d.cfg.TLS != nil {
		cfg = d.cfg.TLS.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = u.Hostname()
	}
	cfg.NextProtos = []string{proto}
	cfg.DynamicRecordSizingDisabled = true
	return cfg
}

func (d *Dialer) dialTCP(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.cfg.Timeout,
		fmt.Errorf("no answer within %v; is the address right and the port open?", d.cfg.Timeout))
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return &batchConn{Conn: conn}, nil
}

func (d *Dialer) dialTLS(ctx context.Context) (net.Conn, error) {
	u, err := d.cfg.hub()
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	below, err := d.dialTCP(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	conn := tls.Client(below, d.tls(u, ALPN))
	if err := conn.HandshakeContext(ctx); err != nil {
		below.Close()
		return nil, err
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != ALPN {
		conn.Close()
		return nil, fmt.Errorf("the server doesn't speak %s; something between ends TLS", ALPN)
	}
	return conn, nil
}

func (d *Dialer) dialWebSocket(ctx context.Context) (net.Conn, error) {
	u, err := d.cfg.hub()
	if err != nil {
		return nil, err
	}
	u.Path = strings.TrimSuffix(u.Path, "/") + Path
	tr := &http.Transport{
		Proxy:           d.cfg.Proxy,
		DialContext:     d.dialTCP,
		TLSClientConfig: d.tls(u, "http/1.1"),
		// One connection, which the WebSocket takes away.
		DisableKeepAlives: true,
	}
	return dialWebSocket(ctx, tr, u)
}

// OnSession gets each carrier that an agent opened, with the TLS state that
// says who the agent is. It owns the session, which is closed when it
// returns. ctx has the request's values; it isn't done before the session is
// over, nor when the server is: who stops a server closes its sessions.
type OnSession func(ctx context.Context, s *Session, state *tls.ConnectionState)

// Handler accepts WebSocket carriers, to be mounted at [Path] of an HTTP/1.1
// server with TLS. Whether a certificate was presented, and whose, is for on
// to check, or for a handler before this one.
func Handler(cfg Config, on OnSession) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil {
			http.Error(w, "a carrier needs TLS", http.StatusUpgradeRequired)
			return
		}
		if conn := acceptWebSocket(w, r); conn != nil {
			// In a goroutine of its own: this one's holds the server's buffers
			// and a stack that a handshake has stretched, for as long as the
			// carrier lives.
			go serve(context.WithoutCancel(r.Context()), conn, cfg, r.TLS, on)
		}
	})
}

// NextProto accepts carriers that are raw TLS: set it as
// http.Server.TLSNextProto[ALPN], and put ALPN into the TLS configuration's
// NextProtos. Since such a carrier counts as a busy connection, sessions must
// be closed before http.Server.Shutdown can end.
func NextProto(cfg Config, on OnSession) func(*http.Server, *tls.Conn, http.Handler) {
	return func(_ *http.Server, conn *tls.Conn, _ http.Handler) {
		state := conn.ConnectionState()
		serve(context.Background(), conn, cfg, &state, on)
	}
}

func serve(ctx context.Context, conn net.Conn, cfg Config, state *tls.ConnectionState, on OnSession) {
	s, err := Server(conn, cfg)
	if err != nil {
		return
	}
	defer s.Close()
	on(ctx, s, state)
}
