package tunnel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"
)

// ErrFull says that the other side has as many streams open as it takes. What was
// to go by this one has come to nobody.
var ErrFull error = fullError{}

type fullError struct{}

func (fullError) Error() string { return "tunnel: the other side has as many streams open as it takes" }

// Busy says so to whom knows nothing of tunnels.
func (fullError) Busy() bool { return true }

var (
	errGone      = errors.New("tunnel: the other side has closed the stream")
	errWriteEnd  = errors.New("tunnel: the stream's writing end is closed")
	errOverdrawn = errors.New("more data than was granted")
)

// segment holds what has arrived and wasn't read yet.
type segment struct {
	buf  [segmentSize]byte
	r, w int
}

const segmentSize = 32 << 10

var segments = sync.Pool{New: func() any { return new(segment) }}

// mostCredit is more than any window, and no danger to sums.
const mostCredit = 1 << 30

// stream is a net.Conn inside a session.
type stream struct {
	s      *Session
	id     uint32
	budget *Budget // of its window's growth

	mu       sync.Mutex
	readable sync.Cond // on mu: data, an end, a deadline or a close
	writable sync.Cond // on mu: credit, an end, a deadline or a close

	// All guarded by mu.
	segments []*segment
	filling  bool // the session's reader is writing into the last segment
	buffered int
	closed   bool // Close was called here
	ended    bool // CloseWrite was called here
	end      error
	refusal  error // what writes fail with, once set

	// The window that the other side may fill: what it may still send, what
	// was read and not granted again, and the whole.
	granted, consumed, window int
	// What was read since when, to see whether the window is too small.
	stretch int
	since   time.Time

	credit      int // what may be sent
	read, write deadline

	// hearsOut has writes that the other side's close has made useless wait
	// until what it said before was read, and endRead says that it was.
	hearsOut, endRead bool

	// gone is called, once, when the other side has closed both directions,
	// this side has closed, or the session is over. Nil: nothing.
	gone func()
}

func newStream(s *Session, id uint32) *stream {
	st := &stream{s: s, id: id, budget: s.budget.Load(), granted: initialWindow, window: initialWindow, credit: initialWindow}
	st.readable.L, st.writable.L = &st.mu, &st.mu
	return st
}

func (st *stream) Read(p []byte) (int, error) {
	st.mu.Lock()
	for st.buffered == 0 {
		var err error
		switch {
		case st.closed:
			err = net.ErrClosed
		case st.read.expired:
			err = os.ErrDeadlineExceeded
		case st.end != nil:
			err = st.end
			if st.hearsOut && !st.endRead {
				st.endRead = true
				st.writable.Broadcast()
			}
		case len(p) == 0:
			st.mu.Unlock()
			return 0, nil
		default:
			st.readable.Wait()
			continue
		}
		st.mu.Unlock()
		return 0, err
	}
	if st.closed || st.read.expired {
		defer st.mu.Unlock()
		if st.closed {
			return 0, net.ErrClosed
		}
		return 0, os.ErrDeadlineExceeded
	}
	n := 0
	for n < len(p) && st.buffered > 0 {
		seg := st.segments[0]
		k := copy(p[n:], seg.buf[seg.r:seg.w])
		seg.r += k
		n += k
		st.buffered -= k
		if seg.r == seg.w {
			st.drop(seg)
		}
	}
	grant := st.renew(n)
	st.mu.Unlock()
	if grant > 0 {
		st.s.out.credit(st.id, grant)
	}
	return n, nil
}

// drop gives the first segment back once all in it was read and nothing more
// can come into it.
func (st *stream) drop(seg *segment) {
	if len(st.segments) == 1 && st.filling {
		return
	}
	st.segments = slices.Delete(st.segments, 0, 1) // keeps its memory for the next
	seg.r, seg.w = 0, 0
	segments.Put(seg)
}

// renew answers how much to grant the other side after n bytes were read. It
// grants in pieces that are small beside the window, since what isn't granted
// yet lessens it, and large beside the frame that it takes.
func (st *stream) renew(n int) int {
	st.consumed += n
	st.stretch += n
	if st.end != nil {
		return 0
	}
	more := 0
	if st.stretch >= st.window/2 {
		more = st.grow()
	}
	if more == 0 && st.consumed < max(st.window/32, initialWindow/2) {
		return 0
	}
	grant := st.consumed + more
	st.consumed = 0
	st.granted += grant
	return grant
}

// grow doubles the window, where there is memory for it, if half of it was
// read faster than the round trip could renew it.
func (st *stream) grow() (more int) {
	now := time.Now()
	rtt := st.s.roundTrip()
	if rtt > 0 && st.window < st.s.cfg.Window && now.Sub(st.since) < 2*rtt {
		more = min(st.window, st.s.cfg.Window-st.window)
		if !st.budget.take(more) {
			more = 0
		}
	}
	st.window += more
	st.since, st.stretch = now, 0
	return more
}

// room answers where n bytes at most are to be written that have arrived, and
// how many fit. It is the session's reader's, which calls filled next.
func (st *stream) room(n int) []byte {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed || st.end != nil {
		return nil
	}
	last := len(st.segments) - 1
	if last < 0 || st.segments[last].w == segmentSize {
		st.segments = append(st.segments, segments.Get().(*segment))
		last++
	}
	st.filling = true
	seg := st.segments[last]
	return seg.buf[seg.w:min(seg.w+n, segmentSize)]
}

func (st *stream) filled(n int) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.filling = false
	if st.closed {
		return
	}
	st.segments[len(st.segments)-1].w += n
	st.buffered += n
	st.readable.Signal()
}

// take counts n bytes that arrive against what was granted.
func (st *stream) take(n int) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if n > st.granted {
		return errOverdrawn
	}
	st.granted -= n
	return nil
}

// grant lets this side send n bytes more.
func (st *stream) grant(n int) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if n > mostCredit-st.credit {
		return fmt.Errorf("%w: stream %d: too much credit", errProtocol, st.id)
	}
	st.credit += n
	st.writable.Broadcast()
	return nil
}

func (st *stream) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k, err := st.claim(len(p) - n)
		if err == nil {
			if err = st.s.out.data(st.id, p[n:n+k], st.writeExpired); err != nil {
				st.grant(k) // it may write again with another deadline
			}
		}
		if err != nil {
			return n, err
		}
		n += k
	}
	return n, nil
}

// claim waits for credit and takes up to n of it.
func (st *stream) claim(n int) (int, error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for {
		switch {
		case st.closed:
			return 0, net.ErrClosed
		case st.ended:
			return 0, errWriteEnd
		case st.write.expired:
			return 0, os.ErrDeadlineExceeded
		case st.refusal != nil:
			if st.hearsOut && !st.endRead && errors.Is(st.refusal, errGone) {
				break
			}
			return 0, st.refusal
		case st.credit > 0:
			n = min(n, st.credit, maxPayload)
			st.credit -= n
			return n, nil
		}
		st.writable.Wait()
	}
}

func (st *stream) writeExpired() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.closed || st.write.expired
}

// hearOut has writes wait, once the other side has closed the stream, until
// what it said before was read; then they fail. It is for who reads all the
// time in another goroutine, and so doesn't miss the answer to something that
// it hasn't said in full.
func (st *stream) hearOut() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.hearsOut = true
}

// CloseWrite tells the other side that no more data comes. This side can go
// on reading.
func (st *stream) CloseWrite() error {
	st.mu.Lock()
	if st.closed || st.ended {
		st.mu.Unlock()
		return nil
	}
	st.ended = true
	st.writable.Broadcast()
	st.mu.Unlock()
	st.s.out.control(frameEnd, st.id)
	return nil
}

// Close ends both directions. What was written still arrives, and an end
// after it; the other side's writes fail from then on. A second Close does
// nothing.
func (st *stream) Close() error { return st.close(frameClose) }

func (st *stream) close(kind byte) error {
	st.mu.Lock()
	if st.closed {
		st.mu.Unlock()
		return nil
	}
	st.closed = true
	st.read.stop()
	st.write.stop()
	st.discard()
	st.readable.Broadcast()
	st.writable.Broadcast()
	gone := st.gone
	st.gone = nil
	st.mu.Unlock()
	if gone != nil {
		gone()
	}
	st.s.out.control(kind, st.id)
	st.s.out.wake() // a Write of this stream that waits there
	st.s.forget(st)
	return nil
}

// discard gives up what wasn't read, and the memory of the window.
func (st *stream) discard() {
	for i, seg := range st.segments {
		if i == len(st.segments)-1 && st.filling {
			break // the reader still writes into it
		}
		seg.r, seg.w = 0, 0
		segments.Put(seg)
	}
	st.segments, st.buffered = nil, 0
	st.budget.giveBack(st.window - initialWindow)
	st.window = initialWindow
}

// finish notes that no more data comes, and with refusal that none is taken.
func (st *stream) finish(end, refusal error) {
	st.mu.Lock()
	if st.end == nil {
		st.end = end
	}
	var gone func()
	if refusal != nil && st.refusal == nil {
		st.refusal = refusal
		gone, st.gone = st.gone, nil
	}
	if !errors.Is(end, io.EOF) {
		st.buffered = 0 // a broken stream's rest is worth nothing
	}
	st.readable.Broadcast()
	st.writable.Broadcast()
	st.mu.Unlock()
	if gone != nil {
		gone()
	}
}

// lost ends the stream with its session. What arrived whole can be read.
func (st *stream) lost(err error) {
	st.mu.Lock()
	ended := st.end != nil
	st.mu.Unlock()
	if ended {
		st.finish(io.EOF, err)
	} else {
		st.finish(err, err)
	}
}

// onGone has f called, once, as soon as this stream can be of no use any
// more: closed by either side, or lost. A nil f takes the last one back.
func (st *stream) onGone(f func()) {
	st.mu.Lock()
	over := st.closed || st.refusal != nil
	if !over {
		st.gone = f
	}
	st.mu.Unlock()
	if over && f != nil {
		f()
	}
}

func (st *stream) LocalAddr() net.Addr  { return st.s.Addr() }
func (st *stream) RemoteAddr() net.Addr { return st.s.RemoteAddr() }

func (st *stream) SetDeadline(t time.Time) error {
	return errors.Join(st.SetReadDeadline(t), st.SetWriteDeadline(t))
}

func (st *stream) SetReadDeadline(t time.Time) error  { return st.set(&st.read, t) }
func (st *stream) SetWriteDeadline(t time.Time) error { return st.set(&st.write, t) }

// deadline is one direction's; the stream's mu guards it. Servers set it and
// take it back several times for each request, so its timer is left running
// and looks at what is due when it fires.
type deadline struct {
	at      time.Time // zero: none
	expired bool
	timer   *time.Timer
	fires   time.Time // when timer does; zero: not at all
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at, d.fires = time.Time{}, time.Time{}
}

func (st *stream) set(d *deadline, t time.Time) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed {
		return net.ErrClosed
	}
	d.at, d.expired = t, false
	if t.IsZero() || !d.fires.IsZero() && !t.Before(d.fires) {
		return nil
	}
	left := time.Until(t)
	if left <= 0 {
		st.expire(d)
		return nil
	}
	d.fires = t
	if d.timer == nil {
		d.timer = time.AfterFunc(left, func() { st.due(d) })
	} else {
		d.timer.Reset(left)
	}
	return nil
}

// due is called when a deadline's timer fires: it may be for one that was
// put off since, or taken back.
func (st *stream) due(d *deadline) {
	st.mu.Lock()
	defer st.mu.Unlock()
	d.fires = time.Time{}
	if d.at.IsZero() || d.expired {
		return
	}
	if left := time.Until(d.at); left > 0 {
		d.fires = d.at
		d.timer.Reset(left)
		return
	}
	st.expire(d)
}

// expire is called with mu held.
func (st *stream) expire(d *deadline) {
	d.expired = true
	if d == &st.read {
		st.readable.Broadcast()
		return
	}
	st.writable.Broadcast()
	go st.s.out.wake() // the writer's lock comes first
}
