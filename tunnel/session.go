package tunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-yamux/v5"
)

var (
	// ErrClosed says that this side closed the session.
	ErrClosed = errors.New("tunnel: session closed")
	// ErrPeerClosed says that the other side, or the network, closed the
	// carrier.
	ErrPeerClosed = errors.New("tunnel: carrier closed by the other side")
	// ErrFrozen says that the other side no longer answers pings although
	// the carrier looks open.
	ErrFrozen = errors.New("tunnel: the other side doesn't answer")
)

// initialWindow is what each stream's reader grants at once. Yamux has it as
// a constant of the protocol.
const initialWindow = 256 << 10

// messageSize is the longest frame: as much data as one TLS record holds, and
// the header. What a proxy reads from a service comes in such pieces; were
// they cut, each hop after would handle twice as many.
const messageSize = 16<<10 + 12

// growthLoss makes up for what yamux forgets: each time that it doubles a
// window it sends the other side the growth, but not the half of the old
// window that was to be renewed. So the windows that it accounts for are in
// the end twice those that the other side has. With frames of messageSize and
// windows up to maxWindow the loss stays under the half at which a window is
// renewed; above that a stream could stall.
const growthLoss = 2

const maxWindow = 16 << 20

// readBuffer is how much is read from a carrier at once.
const readBuffer = 32 << 10

// Config tunes a session. The zero value is what a hub and an agent want.
type Config struct {
	// Window is the most that one stream's reader may have outstanding;
	// 0 is 4 MiB. A stream starts with 256 KiB and grows while it is the
	// window that limits it, so throughput is at most Window per round trip.
	Window int
	// Memory bounds what all windows of the session may grow to beyond their
	// first 256 KiB; 0 is 64 MiB. When it is used up, windows stay as they are.
	Memory int
	// Streams is how many streams the other side may have open; 0 is 2048.
	// Further ones are reset at once.
	Streams int
	// KeepAlive is the silence after which the other side is asked for a
	// sign of life; 0 is 8 s. No sign within WriteTimeout is the end.
	KeepAlive time.Duration
	// WriteTimeout bounds one write to the carrier and the wait for a ping's
	// answer; 0 is 10 s.
	WriteTimeout time.Duration
	// Logger gets what the multiplexer complains of, at level debug; nil
	// discards it.
	Logger *slog.Logger
}

// Validate reports the first value that a session can't run with.
func (c Config) Validate() error {
	c = c.withDefaults()
	switch {
	case c.Window < initialWindow || c.Window > maxWindow:
		return fmt.Errorf("tunnel: window %d: must be between %d and %d bytes", c.Window, initialWindow, maxWindow)
	case c.Memory < 0:
		return fmt.Errorf("tunnel: memory %d: must not be negative", c.Memory)
	case c.Streams < 0:
		return fmt.Errorf("tunnel: streams %d: must not be negative", c.Streams)
	case c.KeepAlive < 0 || c.WriteTimeout < 0:
		return errors.New("tunnel: keep-alive and write timeout must not be negative")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.Window == 0 {
		c.Window = 4 << 20
	}
	if c.Memory == 0 {
		c.Memory = 64 << 20
	}
	if c.Streams == 0 {
		c.Streams = 2048
	}
	if c.KeepAlive == 0 {
		c.KeepAlive = 8 * time.Second
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 10 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Session is one carrier's multiplexer. All methods may be called by several
// goroutines. It is a net.Listener for the streams that the other side opens.
type Session struct {
	mux  *yamux.Session
	in   *meter
	cfg  Config
	idle chan struct{} // closed when the keep-alive goroutine is gone

	closing sync.Once
	cause   error // why this side closed; written before the mux is closed
}

// Client starts the agent's end of a session on conn, which it owns from
// then on, also when it fails.
func Client(conn net.Conn, cfg Config) (*Session, error) { return start(conn, cfg, yamux.Client) }

// Server starts the hub's end of a session on conn, which it owns from then
// on, also when it fails.
func Server(conn net.Conn, cfg Config) (*Session, error) { return start(conn, cfg, yamux.Server) }

type starter func(net.Conn, *yamux.Config, func() (yamux.MemoryManager, error)) (*yamux.Session, error)

func start(conn net.Conn, cfg Config, begin starter) (*Session, error) {
	if err := cfg.Validate(); err != nil {
		conn.Close()
		return nil, err
	}
	cfg = cfg.withDefaults()
	m := &meter{Conn: conn}
	buffer := readBuffer
	if _, ok := conn.(*webSocket); ok {
		buffer = 0 // it has one
	}
	purse := &purse{limit: int64(cfg.Memory)}
	mux, err := begin(m, &yamux.Config{
		AcceptBacklog:           256,
		PingBacklog:             32,
		MeasureRTTInterval:      30 * time.Second,
		ConnectionWriteTimeout:  cfg.WriteTimeout,
		MaxIncomingStreams:      uint32(cfg.Streams),
		InitialStreamWindowSize: initialWindow,
		MaxStreamWindowSize:     growthLoss * uint32(cfg.Window),
		LogOutput:               lineLogger{cfg.Logger},
		ReadBufSize:             buffer,
		MaxMessageSize:          messageSize,
	}, purse.span)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("tunnel: %w", err)
	}
	s := &Session{mux: mux, in: m, cfg: cfg, idle: make(chan struct{})}
	go s.keepAlive()
	return s, nil
}

// Open opens a stream. It costs no round trip: what is written goes out
// directly behind the opening. It fails with the session's Err once that is
// closed, and with ctx's cause when the other side has too many streams
// unaccepted for as long as ctx lives.
func (s *Session) Open(ctx context.Context) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	type opened struct {
		st  *yamux.Stream
		err error
	}
	// Yamux forgets to take a stream back whose opening ctx cuts short, so it
	// isn't given ctx; an opening that comes too late is reset here.
	done := make(chan opened, 1)
	go func() {
		st, err := s.mux.OpenStream(context.WithoutCancel(ctx))
		done <- opened{st, err}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, s.reason(o.err)
		}
		return &stream{Stream: o.st}, nil
	case <-ctx.Done():
		go func() {
			if o := <-done; o.err == nil {
				o.st.Reset()
			}
		}()
		return nil, context.Cause(ctx)
	}
}

// Accept answers the next stream that the other side opened; once the session
// is closed, its Err.
func (s *Session) Accept() (net.Conn, error) {
	st, err := s.mux.AcceptStream()
	if err != nil {
		return nil, s.reason(err)
	}
	return &stream{Stream: st}, nil
}

// Addr is the carrier's local address.
func (s *Session) Addr() net.Addr { return s.mux.LocalAddr() }

// RemoteAddr is the address that the carrier comes from, or goes to.
func (s *Session) RemoteAddr() net.Addr { return s.mux.RemoteAddr() }

// Streams counts the open streams, of both sides.
func (s *Session) Streams() int { return s.mux.NumStreams() }

// Ping measures one round trip through the session.
func (s *Session) Ping(ctx context.Context) (time.Duration, error) {
	type pong struct {
		rtt time.Duration
		err error
	}
	done := make(chan pong, 1)
	go func() {
		rtt, err := s.mux.Ping()
		done <- pong{rtt, err}
	}()
	select {
	case p := <-done:
		if p.err != nil {
			return 0, s.reason(p.err)
		}
		return p.rtt, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// Done is closed when the session is.
func (s *Session) Done() <-chan struct{} { return s.mux.CloseChan() }

// Err says why the session is closed: [ErrClosed], [ErrPeerClosed],
// [ErrFrozen] or what broke the carrier. It is nil while the session is open.
func (s *Session) Err() error {
	if !s.mux.IsClosed() {
		return nil
	}
	_, err := s.mux.OpenStream(context.Background())
	return s.reason(err)
}

// Close closes the carrier and breaks every stream. It returns when the
// session's goroutines are gone; a second call does nothing.
func (s *Session) Close() error {
	s.close(ErrClosed)
	<-s.idle
	return nil
}

func (s *Session) close(cause error) {
	s.closing.Do(func() {
		s.cause = cause
		s.mux.Close()
	})
}

// reason turns an error of the multiplexer into one of the session's, where
// the session is the cause.
func (s *Session) reason(err error) error {
	var far *yamux.GoAwayError
	switch {
	case !s.mux.IsClosed():
		return fmt.Errorf("tunnel: %w", err)
	case errors.As(err, &far) && !far.Remote:
		// Only close makes this one, and it set the cause before.
		return s.cause
	case errors.Is(err, io.EOF), errors.As(err, &far):
		return ErrPeerClosed
	default:
		return fmt.Errorf("%w: %w", ErrPeerClosed, err)
	}
}

// keepAlive ends the session when the other side is frozen. Any byte from it
// counts as a sign of life, since a ping may wait behind a slow carrier's
// data for longer than a ping may take.
func (s *Session) keepAlive() {
	defer close(s.idle)
	tick := time.NewTicker(s.cfg.KeepAlive)
	defer tick.Stop()
	seen := s.in.read.Load()
	for {
		select {
		case <-s.Done():
			return
		case <-tick.C:
		}
		now := s.in.read.Load()
		if now != seen {
			seen = now
			continue
		}
		if _, err := s.mux.Ping(); err != nil && s.in.read.Load() == seen {
			s.close(fmt.Errorf("%w for %v", ErrFrozen, s.cfg.KeepAlive+s.cfg.WriteTimeout))
			return
		}
		seen = s.in.read.Load()
	}
}

// meter counts what arrives.
type meter struct {
	net.Conn
	read atomic.Int64
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.read.Add(int64(n))
	return n, err
}

// linger is how long the other side may go on writing to a closed stream. As
// after TCP's reset, a writer that fails may not come to reading the answer
// that was sent before; net/http waits as long on its connections.
const linger = 500 * time.Millisecond

// stream is a yamux stream whose Close the other side notices.
type stream struct {
	*yamux.Stream
	closed atomic.Bool
	lost   atomic.Bool // the window that the other side writes to
}

var errWindowLost = errors.New("tunnel: a deadline passed in the middle of a read; the stream can't be read any more")

// Close ends both directions. What was written still arrives, and an end
// after it; what the other side writes fails there soon. Yamux alone would
// leave its writer waiting for a window that never opens again.
func (st *stream) Close() error {
	if st.closed.Swap(true) {
		return nil
	}
	err := st.Stream.CloseWrite()
	st.Stream.SetReadDeadline(time.Unix(0, 0)) // wakes this side's reader
	// The reset travels behind the end of the data and takes nothing from the
	// other side's reader. It isn't sent when that side has closed by then.
	time.AfterFunc(linger, func() { st.Stream.Reset() })
	return err
}

func (st *stream) Read(p []byte) (int, error) {
	if st.lost.Load() {
		return 0, errWindowLost
	}
	n, err := st.Stream.Read(p)
	switch {
	case st.closed.Load():
		return 0, net.ErrClosed
	case err != nil && n > 0:
		// The bytes are good, but the window's renewal that they brought
		// about is lost, and with it this direction's future: an error at
		// the next read is better than a writer that waits for ever. The
		// other direction isn't touched, by which the answer goes that
		// made a server stop reading.
		st.lost.Store(true)
		return n, nil
	}
	return n, err
}

// SetReadDeadline leaves a closed stream's reader awake.
func (st *stream) SetReadDeadline(t time.Time) error {
	if st.closed.Load() {
		return net.ErrClosed
	}
	return st.Stream.SetReadDeadline(t)
}

// SetDeadline sets both deadlines.
func (st *stream) SetDeadline(t time.Time) error {
	return errors.Join(st.SetReadDeadline(t), st.Stream.SetWriteDeadline(t))
}

// purse bounds the memory by which a session's windows grow.
type purse struct {
	limit int64
	spent atomic.Int64
}

var errSpent = errors.New("tunnel: the session's memory is used up")

func (p *purse) span() (yamux.MemoryManager, error) { return &span{purse: p}, nil }

// span is one stream's share of a purse.
type span struct {
	purse *purse
	held  atomic.Int64
}

// ReserveMemory refuses only growth. The first window, which yamux asks for
// at the highest priority, is bounded by the number of streams, and refusing
// it would end the whole session.
func (s *span) ReserveMemory(size int, priority uint8) error {
	if priority == 255 {
		return nil
	}
	size /= growthLoss // as much as the other side is told of
	if s.purse.spent.Add(int64(size)) > s.purse.limit {
		s.purse.spent.Add(int64(-size))
		return errSpent
	}
	s.held.Add(int64(size))
	return nil
}

// ReleaseMemory is there for yamux's interface; it calls Done only.
func (s *span) ReleaseMemory(int) {}

func (s *span) Done() { s.purse.spent.Add(-s.held.Swap(0)) }

// lineLogger hands the multiplexer's log lines on.
type lineLogger struct{ log *slog.Logger }

func (l lineLogger) Write(p []byte) (int, error) {
	l.log.Debug("multiplexer", "message", string(bytes.TrimSpace(p)))
	return len(p), nil
}
