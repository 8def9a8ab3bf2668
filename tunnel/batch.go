package tunnel

import (
	"crypto/tls"
	"net"
	"sync"
)

// batchConn lies beneath a carrier's TLS. TLS makes a system call of each
// record that it writes, and at least one of each that it reads; where many
// are on their way at once, batchConn makes one of several. At other times it
// changes nothing and holds no buffer.
type batchConn struct {
	net.Conn

	mu  sync.Mutex // guards what is below, and the order of writes
	out *[]byte    // what was collected; nil while nothing is held

	// Of the reader:
	bulk bool   // the last read was full, so more has likely arrived
	buf  []byte // from readBuffers; nil while there is no bulk
	rest []byte // of buf, not read yet
}

const batchSize = 64 << 10

var readBuffers = sync.Pool{New: func() any { return new([batchSize]byte) }}

func (c *batchConn) Read(p []byte) (int, error) {
	if len(c.rest) > 0 {
		n := copy(p, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	if !c.bulk || len(p) >= batchSize {
		c.release()
		n, err := c.Conn.Read(p)
		c.bulk = n == len(p) && n >= 1<<10
		return n, err
	}
	if c.buf == nil {
		c.buf = readBuffers.Get().(*[batchSize]byte)[:]
	}
	got, err := c.Conn.Read(c.buf)
	n := copy(p, c.buf[:got])
	c.rest = c.buf[n:got]
	c.bulk = got > len(c.buf)/8
	return n, err
}

func (c *batchConn) release() {
	if c.buf != nil {
		readBuffers.Put((*[batchSize]byte)(c.buf))
		c.buf, c.rest = nil, nil
	}
}

// hold collects what is written until flush.
func (c *batchConn) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = outBuffers.Get().(*[]byte)
}

// flush sends what was collected.
func (c *batchConn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if len(*c.out) > 0 {
		_, err = c.Conn.Write(*c.out)
	}
	putOut(c.out)
	c.out = nil
	return err
}

func (c *batchConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out == nil {
		return c.Conn.Write(p)
	}
	if len(*c.out)+len(p) > batchSize {
		if _, err := c.Conn.Write(*c.out); err != nil {
			return 0, err
		}
		*c.out = (*c.out)[:0]
	}
	*c.out = append(*c.out, p...)
	return len(p), nil
}

// batchOf finds the batchConn beneath a carrier; nil if there is none.
func batchOf(c net.Conn) *batchConn {
	if w, ok := c.(*webSocket); ok {
		c = w.Conn
	}
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	b, _ := c.(*batchConn)
	return b
}

// Listener prepares a server's connections, below TLS, to become carriers:
// without it they work, at the cost of more system calls.
func Listener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &batchConn{Conn: c}, nil
}
