package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"time"
)

// highWater is how much may wait to be written before writers wait, too. It
// is what a keystroke may find before it, and what is written at once.
const highWater = 64 << 10

// mostPending ends the session of an other side that keeps on asking for
// answers and takes none.
const mostPending = 1 << 20

var outBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, highWater+maxPayload+1<<10)
	return &b
}}

func putOut(b *[]byte) {
	if cap(*b) <= 2*highWater {
		*b = (*b)[:0]
		outBuffers.Put(b)
	}
}

// writer puts the frames of all streams on the carrier. There is no goroutine
// for it while nothing is written: who finds nobody writing writes itself, its
// own frames and those that came meanwhile once; what comes after is left to a
// goroutine. So a lone request costs no switch, and under load each write to
// the carrier takes along what many streams have.
type writer struct {
	conn    net.Conn
	batch   *batchConn    // beneath conn; may be nil
	timeout time.Duration // of one write
	failed  func(error)   // called without mu; it calls stop
	running *sync.WaitGroup

	mu      sync.Mutex
	room    sync.Cond // on mu: pending has shrunk, for one; or the writer failed, or a deadline passed, for all
	pending *[]byte   // guarded by mu
	frames  int       // guarded by mu; of data in pending
	crowd   int       // guarded by mu; see write
	writing bool      // guarded by mu
	err     error     // guarded by mu

	bounded time.Time // when the write deadline was set; of who writes
}

// crowdLasts is for how many writes it is expected that several streams have
// something to write, once that was so.
const crowdLasts = 64

// oneRecord is what TLS writes at once.
const oneRecord = 16 << 10

func newWriter(conn net.Conn, timeout time.Duration, running *sync.WaitGroup, failed func(error)) *writer {
	w := &writer{conn: conn, batch: batchOf(conn), timeout: timeout, failed: failed, running: running}
	w.room.L = &w.mu
	return w
}

// data sends one frame of data, or fails once expired says so.
func (w *writer) data(stream uint32, p []byte, expired func() bool) error {
	w.mu.Lock()
	for w.err == nil && w.pending != nil && len(*w.pending) >= highWater {
		if expired() {
			w.room.Signal() // it may have been this one's turn
			w.mu.Unlock()
			return os.ErrDeadlineExceeded
		}
		w.room.Wait()
	}
	if w.err != nil {
		defer w.mu.Unlock()
		return w.err
	}
	b := w.buffer()
	*b = append(appendHead(*b, frameData, len(p), stream), p...)
	w.frames++
	if len(*b) < highWater {
		w.room.Signal()
	}
	if w.writing {
		w.mu.Unlock()
		return nil
	}
	w.writing = true
	if w.crowd > 0 {
		// Others are about to write, too: one system call, and one wake-up at
		// the other end, can do for all.
		w.mu.Unlock()
		runtime.Gosched()
		w.mu.Lock()
	}
	w.once() // unlocks
	return nil
}

// control sends a frame other than data. It never blocks and calls nothing, so
// the reader may call it, and who holds the session's lock.
func (w *writer) control(kind byte, stream uint32, payload ...byte) {
	w.mu.Lock()
	if w.err != nil {
		w.mu.Unlock()
		return
	}
	b := w.buffer()
	if len(*b) > mostPending {
		w.mu.Unlock()
		go w.failed(fmt.Errorf("%w: it takes none of the answers that it asks for", errProtocol))
		return
	}
	*b = append(appendHead(*b, kind, len(payload), stream), payload...)
	if !w.writing {
		w.writing = true
		w.running.Go(w.rest)
	}
	w.mu.Unlock()
}

func (w *writer) credit(stream uint32, n int) {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], uint32(n))
	w.control(frameCredit, stream, p[:]...)
}

// buffer is called with mu held.
func (w *writer) buffer() *[]byte {
	if w.pending == nil {
		w.pending = outBuffers.Get().(*[]byte)
	}
	return w.pending
}

// once writes what is pending, and leaves what came meanwhile to rest. It is
// called with mu held and writing set, and unlocks mu.
func (w *writer) once() {
	more := w.write()
	if more {
		w.running.Go(w.rest)
	}
	w.mu.Unlock()
}

// rest writes until nothing is pending.
func (w *writer) rest() {
	w.mu.Lock()
	for w.write() {
	}
	w.mu.Unlock()
}

// write sends what is pending and reports whether there is more. It is called
// with mu held and writing set; it gives mu up meanwhile.
func (w *writer) write() (more bool) {
	b := w.pending
	w.pending = nil
	w.crowd = max(0, w.crowd-1)
	if w.frames > 1 {
		w.crowd = crowdLasts
	}
	w.frames = 0
	if b != nil && w.err == nil {
		w.mu.Unlock()
		err := w.send(*b)
		putOut(b)
		if err != nil {
			w.failed(err)
		}
		w.mu.Lock()
		w.room.Signal() // who finds more room than it needs wakes the next
	}
	if w.pending != nil && w.err == nil {
		return true
	}
	w.writing = false
	return false
}

func (w *writer) send(b []byte) error {
	// Setting it costs as much as a short write does, so it isn't for each.
	if now := time.Now(); now.Sub(w.bounded) > w.timeout/16 {
		w.bounded = now
		w.conn.SetWriteDeadline(now.Add(w.timeout))
	}
	batch := w.batch
	if len(b) <= oneRecord {
		batch = nil
	}
	if batch != nil {
		batch.hold()
	}
	_, err := w.conn.Write(b)
	if batch != nil {
		err = errors.Join(err, batch.flush())
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("%w: it has taken nothing for %v", ErrFrozen, w.timeout)
	}
	return err
}

// stop makes every write fail.
func (w *writer) stop(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.room.Broadcast()
}

// wake lets writers see that a deadline has passed.
func (w *writer) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.room.Broadcast()
}
