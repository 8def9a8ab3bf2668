package tunnel

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrClosed says that this side closed the session.
	ErrClosed = errors.New("tunnel: session closed")
	// ErrPeerClosed says that the other side, or the network, closed the
	// carrier.
	ErrPeerClosed = errors.New("tunnel: carrier closed by the other side")
	// ErrFrozen says that the other side no longer answers although the
	// carrier looks open.
	ErrFrozen = errors.New("tunnel: the other side doesn't answer")
	// ErrDraining says that a session takes no new streams any more.
	ErrDraining = errors.New("tunnel: session takes no new streams, since one side is draining it")
	// ErrDrained says that a session ended after its last stream, as one side
	// had asked for.
	ErrDrained = errors.New("tunnel: session drained")
)

// headBuffer is what a session holds for reading while it is idle. Longer
// data is read into the stream's memory directly.
const headBuffer = 1 << 10

const (
	maxWindow     = 64 << 20
	defaultMemory = 64 << 20
)

// Config tunes a session. The zero value is what a hub and an agent want.
type Config struct {
	// Window is the most that one stream's reader may have outstanding;
	// 0 is 16 MiB. A stream starts with 256 KiB and grows while it is the
	// window that limits it, so throughput is at most Window per round trip.
	Window int
	// Memory bounds what all windows of the session may grow to beyond their
	// first 256 KiB; 0 is 64 MiB. When it is used up, windows stay as they are.
	Memory int
	// Budget is in the place of Memory where several sessions share it, such
	// as the carriers of a link; nil: the session is alone.
	Budget *Budget
	// Streams is how many streams the other side may have open; 0 is 2048.
	// Further ones are reset at once.
	Streams int
	// KeepAlive is the silence after which the other side is asked for a
	// sign of life; 0 is 8 s. No sign within WriteTimeout is the end.
	KeepAlive time.Duration
	// WriteTimeout bounds one write to the carrier and the wait for a ping's
	// answer; 0 is 10 s.
	WriteTimeout time.Duration
	// Logger gets what the HTTP server on the streams complains of; nil
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
		c.Window = 16 << 20
	}
	if c.Memory == 0 {
		c.Memory = defaultMemory
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
	conn   net.Conn
	cfg    Config
	agent  bool // this end opened the carrier
	out    *writer
	budget atomic.Pointer[Budget]
	heard  atomic.Int64 // frames that have arrived
	rtt    atomic.Int64 // nanoseconds; 0 until it was measured
	pinged atomic.Int64 // when the ping under way was sent, since epoch; 0: none
	silent atomic.Bool  // a ping has waited for longer than it should
	closed atomic.Bool  // it takes no new streams: closed, or draining
	epoch  time.Time

	running  sync.WaitGroup
	done     chan struct{}
	draining chan struct{} // closed once either side drains

	mu       sync.Mutex
	streams  map[uint32]*stream                  // guarded by mu
	next     uint32                              // guarded by mu; the next stream that this side opens
	last     uint32                              // guarded by mu; the last that the other side opened
	foreign  int                                 // guarded by mu; streams that the other side opened
	accepts  []*stream                           // guarded by mu
	accepted sync.Cond                           // on mu
	pings    map[uint64]chan struct{}            // guarded by mu; those of Ping
	nonce    uint64                              // guarded by mu
	err      error                               // guarded by mu; why it is closed
	drained  []func()                            // guarded by mu; called when a drain begins
	answers  map[*stream]context.CancelCauseFunc // guarded by mu; under way in Later
	alive    *time.Timer                         // guarded by mu; nil once closed
	// The steps of a drain, guarded by mu: said here, said there, and then
	// gone.
	drainHere, drainThere, goneHere, goneThere bool
}

// Client starts the agent's end of a session on conn, which it owns from
// then on, also when it fails.
func Client(conn net.Conn, cfg Config) (*Session, error) { return start(conn, cfg, true) }

// Server starts the hub's end of a session on conn, which it owns from then
// on, also when it fails.
func Server(conn net.Conn, cfg Config) (*Session, error) { return start(conn, cfg, false) }

func start(conn net.Conn, cfg Config, agent bool) (*Session, error) {
	if err := cfg.Validate(); err != nil {
		conn.Close()
		return nil, err
	}
	s := &Session{
		conn: conn, cfg: cfg.withDefaults(), agent: agent, next: 2, epoch: time.Now(),
		done: make(chan struct{}), draining: make(chan struct{}), streams: map[uint32]*stream{},
	}
	if agent {
		s.next = 1
	}
	s.accepted.L = &s.mu
	if s.Share(cfg.Budget); cfg.Budget == nil {
		s.Share(NewBudget(s.cfg.Memory))
	}
	s.out = newWriter(conn, s.cfg.WriteTimeout, &s.running, s.broken)
	s.mu.Lock()
	s.alive = time.AfterFunc(s.cfg.KeepAlive, s.keepAlive(-1))
	s.mu.Unlock()
	s.running.Go(s.read)
	s.ping()
	return s, nil
}

// Open opens a stream. It costs no round trip. It fails with the session's
// Err once that is closed, and with [ErrDraining] when it takes no new
// streams. One too many for the other side fails with [ErrFull] when it is used.
func (s *Session) Open(ctx context.Context) (net.Conn, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return nil, s.err
	case s.drainHere:
		return nil, ErrDraining
	case s.next >= 1<<32-2:
		return nil, fmt.Errorf("%w: it has no numbers for them left", ErrDraining)
	}
	st := newStream(s, s.next)
	s.next += 2
	s.streams[st.id] = st
	s.out.control(frameOpen, st.id) // with mu held, so that numbers keep their order
	return st, nil
}

// Accept answers the next stream that the other side opened; once the session
// is closed, its Err.
func (s *Session) Accept() (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.accepts) == 0 {
		if s.err != nil {
			return nil, s.err
		}
		s.accepted.Wait()
	}
	st := s.accepts[0]
	s.accepts = s.accepts[1:]
	return st, nil
}

// Addr is the carrier's local address.
func (s *Session) Addr() net.Addr { return s.conn.LocalAddr() }

// RemoteAddr is the address that the carrier comes from, or goes to.
func (s *Session) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// Streams counts the open streams, of both sides.
func (s *Session) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// Done is closed when the session is.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err says why the session is closed: [ErrClosed], [ErrPeerClosed],
// [ErrFrozen], [ErrDrained] or what broke the carrier. It is nil while the
// session is open.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Drain lets the session end in peace: neither side opens streams any more,
// those that are open go on, and after the last the session ends with
// [ErrDrained]. It returns at once; who can't wait for the end calls Close.
func (s *Session) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drain()
}

// drain is called with mu held.
func (s *Session) drain() {
	if s.drainHere || s.err != nil {
		return
	}
	s.drainHere = true
	s.closed.Store(true)
	s.out.control(frameDrain, 0)
	close(s.draining)
	for _, f := range s.drained {
		s.running.Go(f)
	}
	s.drained = nil
	for _, cancel := range s.answers {
		cancel(ErrDraining)
	}
	s.settle()
}

// settle says that all is over here, once it is. It is called with mu held.
func (s *Session) settle() {
	if s.err != nil {
		return
	}
	if s.drainHere && s.drainThere && !s.goneHere && len(s.streams) == 0 {
		s.goneHere = true
		s.out.control(frameGone, 0)
	}
	if s.goneHere && s.goneThere {
		s.running.Go(func() { s.close(ErrDrained) })
	}
}

// onDrain has f called when a drain begins.
func (s *Session) onDrain(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
	case s.drainHere:
		s.running.Go(f)
	default:
		s.drained = append(s.drained, f)
	}
}

// Draining is closed when either side has begun to drain the session.
func (s *Session) Draining() <-chan struct{} { return s.draining }

// takes reports whether new streams can be opened.
func (s *Session) takes() bool { return !s.closed.Load() }

// Close closes the carrier and breaks every stream. It returns when the
// session's goroutines are gone; a second call does nothing.
func (s *Session) Close() error {
	s.close(ErrClosed)
	s.running.Wait()
	return nil
}

func (s *Session) close(cause error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = cause
	s.closed.Store(true)
	s.alive.Stop()
	s.alive = nil
	streams := s.streams
	s.streams = nil
	s.accepts = nil
	s.accepted.Broadcast()
	s.mu.Unlock()
	close(s.done) // before a stream fails for it
	s.out.stop(cause)
	if !errors.Is(cause, ErrClosed) && !errors.Is(cause, ErrDrained) {
		// Nobody would hear TLS's goodbye, for which it waits.
		closeBeneath(s.conn)
	}
	s.conn.Close()
	for _, st := range streams {
		st.lost(cause)
	}
}

func closeBeneath(c net.Conn) {
	if w, ok := c.(*webSocket); ok {
		c = w.Conn
	}
	if t, ok := c.(*tls.Conn); ok {
		t.NetConn().Close()
	}
}

// broken ends the session for what reading or writing the carrier met.
func (s *Session) broken(err error) {
	s.mu.Lock()
	over := s.goneHere
	s.mu.Unlock()
	switch {
	case over:
		err = ErrDrained // the other side was quicker to close
	case errors.Is(err, io.EOF):
		err = ErrPeerClosed
	case !errors.Is(err, ErrFrozen):
		err = fmt.Errorf("%w: %w", ErrPeerClosed, err)
	}
	s.close(err)
}

// forget takes a stream out that was closed here.
func (s *Session) forget(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[st.id] != st {
		return
	}
	delete(s.streams, st.id)
	if !s.mine(st.id) {
		s.foreign--
	}
	s.settle()
}

// mine reports whether this side opens streams of such numbers.
func (s *Session) mine(id uint32) bool { return (id%2 == 1) == s.agent }

// read handles what arrives, until the session ends.
func (s *Session) read() {
	in := bufio.NewReaderSize(s.conn, headBuffer)
	for {
		if err := s.frame(in); err != nil {
			s.broken(err)
			return
		}
	}
}

// frame reads one frame. An error is the end of the session.
func (s *Session) frame(in *bufio.Reader) error {
	var b [headSize]byte
	if _, err := io.ReadFull(in, b[:]); err != nil {
		return err
	}
	h, err := parseHead(b)
	if err != nil {
		return err
	}
	s.heard.Add(1)
	switch h.kind {
	case frameOpen:
		return s.opened(h.stream)
	case frameData:
		return s.data(in, h)
	case framePing, framePong, frameCredit:
		if _, err := io.ReadFull(in, b[:h.length]); err != nil {
			return err
		}
	}
	switch h.kind {
	case framePing:
		s.out.control(framePong, 0, b[:]...)
	case framePong:
		s.pong(binary.BigEndian.Uint64(b[:]))
	case frameDrain, frameGone:
		s.mu.Lock()
		defer s.mu.Unlock()
		if h.kind == frameGone && !s.drainHere {
			return fmt.Errorf("%w: gone without a drain", errProtocol)
		}
		s.drainThere = true
		s.drain()
		s.goneThere = s.goneThere || h.kind == frameGone
		s.settle()
	default:
		return s.told(h, int(binary.BigEndian.Uint32(b[:])))
	}
	return nil
}

// told handles a frame of a stream other than data. One for a stream that is
// closed here was on its way already.
func (s *Session) told(h head, n int) error {
	st, err := s.stream(h.stream)
	if st == nil {
		return err
	}
	switch h.kind {
	case frameCredit:
		return st.grant(n)
	case frameEnd:
		st.finish(io.EOF, nil)
	case frameClose:
		st.finish(io.EOF, errGone)
	case frameReset:
		st.finish(ErrFull, ErrFull)
	}
	return nil
}

// stream is nil for one that was closed here, and an error for one that never
// was.
func (s *Session) stream(id uint32) (*stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.streams[id]; st != nil {
		return st, nil
	}
	if s.mine(id) && id < s.next || !s.mine(id) && id <= s.last {
		return nil, nil
	}
	return nil, fmt.Errorf("%w: stream %d was never opened", errProtocol, id)
}

func (s *Session) opened(id uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.mine(id) || id <= s.last:
		return fmt.Errorf("%w: it can't open stream %d after %d", errProtocol, id, s.last)
	}
	s.last = id
	if s.foreign >= s.cfg.Streams {
		s.out.control(frameReset, id)
		return nil
	}
	s.foreign++
	st := newStream(s, id)
	s.streams[id] = st
	s.accepts = append(s.accepts, st)
	s.accepted.Signal()
	return nil
}

func (s *Session) data(in *bufio.Reader, h head) error {
	st, err := s.stream(h.stream)
	if err != nil {
		return err
	}
	if st == nil {
		_, err = in.Discard(h.length)
		return err
	}
	if err := st.take(h.length); err != nil {
		return fmt.Errorf("%w: stream %d: %w", errProtocol, h.stream, err)
	}
	for left := h.length; left > 0; {
		to := st.room(left)
		if to == nil {
			_, err := in.Discard(left)
			return err
		}
		n, err := in.Read(to)
		st.filled(n)
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// Ping measures one round trip through the session.
func (s *Session) Ping(ctx context.Context) (time.Duration, error) {
	answered := make(chan struct{})
	s.mu.Lock()
	if s.err != nil {
		defer s.mu.Unlock()
		return 0, s.err
	}
	if s.pings == nil {
		s.pings = map[uint64]chan struct{}{}
	}
	s.nonce++
	nonce := s.nonce
	s.pings[nonce] = answered
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.pings, nonce)
	}()
	began := time.Now()
	s.out.control(framePing, 0, binary.BigEndian.AppendUint64(nil, nonce)...)
	select {
	case <-answered:
		return time.Since(began), nil
	case <-s.done:
		return 0, s.Err()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// ping asks for a sign of life, and measures the round trip by the answer. It
// does nothing while one is under way. Such pings have the number 0.
func (s *Session) ping() {
	if s.pinged.CompareAndSwap(0, max(1, int64(time.Since(s.epoch)))) {
		s.out.control(framePing, 0, make([]byte, 8)...)
	}
}

func (s *Session) pong(nonce uint64) {
	if nonce == 0 {
		if at := s.pinged.Swap(0); at != 0 {
			s.rtt.Store(max(1, int64(time.Since(s.epoch))-at))
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if answered := s.pings[nonce]; answered != nil {
		close(answered)
		delete(s.pings, nonce)
	}
}

// roundTrip is the last measured, 0 before the first.
func (s *Session) roundTrip() time.Duration { return time.Duration(s.rtt.Load()) }

// suspectAfter is how long a sign of life may take before new requests avoid
// the session.
const suspectAfter = 2 * time.Second

// keepAlive ends the session when the other side is frozen. Any frame from it
// counts as a sign of life, since a ping may wait behind a slow carrier's
// data for longer than a ping may take. It is a chain of timers: heard is
// what had been heard at the last, and 10,000 sessions need no goroutine.
func (s *Session) keepAlive(heard int64) func() {
	return func() {
		now := s.heard.Load()
		if now != heard {
			s.silent.Store(false)
			s.after(s.cfg.KeepAlive, s.keepAlive(now))
			return
		}
		s.ping()
		suspect := min(suspectAfter, s.cfg.WriteTimeout)
		s.after(suspect, func() {
			s.silent.Store(s.heard.Load() == now)
			s.after(s.cfg.WriteTimeout-suspect, func() {
				if s.heard.Load() == now {
					s.close(fmt.Errorf("%w for %v", ErrFrozen, s.cfg.KeepAlive+s.cfg.WriteTimeout))
					return
				}
				s.silent.Store(false)
				s.after(s.cfg.KeepAlive, s.keepAlive(s.heard.Load()))
			})
		})
	}
}

func (s *Session) after(d time.Duration, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alive != nil {
		s.alive = time.AfterFunc(d, f)
	}
}

// Share has the streams that are opened from now on take their memory from b.
func (s *Session) Share(b *Budget) { s.budget.Store(b) }

// Budget bounds the memory by which the windows of sessions grow.
type Budget struct {
	mu   sync.Mutex
	left int // guarded by mu
}

// NewBudget makes a Budget of that many bytes; 0 is 64 MiB.
func NewBudget(bytes int) *Budget {
	if bytes == 0 {
		bytes = defaultMemory
	}
	return &Budget{left: bytes}
}

func (b *Budget) take(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.left {
		return false
	}
	b.left -= n
	return true
}

func (b *Budget) giveBack(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
}
