package forward

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/moby/spdystream/spdy"
)

// bySPDY has t read the frames of SPDY/3.1, in which each channel is a stream
// that the caller opens; the header streamType says which.
func (t *tap) bySPDY() {
	s := &spdyStreams{kinds: map[uint32]string{}}
	var size sizes
	t.caller = s.direction(func(kind string, p []byte) error {
		if kind != "resize" {
			return nil
		}
		return size.read(p, t.tape.Resize)
	})
	t.server = s.direction(func(kind string, p []byte) error {
		if kind != "stdout" && kind != "stderr" {
			return nil
		}
		return t.tape.Output(p)
	})
}

// spdyStreams are the streams of a connection.
type spdyStreams struct {
	mu    sync.Mutex
	kinds map[uint32]string // guarded by mu
}

// maxSPDYStreams is far above the five that a session has.
const maxSPDYStreams = 64

func (s *spdyStreams) opened(id uint32, kind string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, twice := s.kinds[id]; twice {
		// A server lets the first stand, with another kind than it would have here.
		return fmt.Errorf("stream %d is opened twice", id)
	}
	if len(s.kinds) >= maxSPDYStreams {
		return errors.New("there are more streams than a session has")
	}
	s.kinds[id] = kind
	return nil
}

func (s *spdyStreams) kind(id uint32) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kinds[id]
}

// direction reads one direction; part takes what streams of a kind carry.
func (s *spdyStreams) direction(part func(kind string, p []byte) error) func([]byte) error {
	d := &spdyDirection{streams: s, part: part}
	framer, err := spdy.NewFramer(&d.sent, &d.control)
	if err != nil {
		return func([]byte) error { return err }
	}
	d.framer = framer
	return d.read
}

// spdyDirection reads frames: those with data as they come, control frames
// once they are whole, since their headers are compressed.
type spdyDirection struct {
	streams *spdyStreams
	part    func(kind string, p []byte) error
	framer  *spdy.Framer
	control bytes.Buffer // one frame
	sent    bytes.Buffer // nothing

	head  []byte
	left  int
	data  bool
	kind  string // of the stream that has the data
	whole []byte // of a control frame
}

const (
	spdyHead = 8
	// maxControl is far above the headers of a session's streams.
	maxControl = 64 << 10
)

func (d *spdyDirection) read(p []byte) error {
	for len(p) > 0 {
		if len(d.head) < spdyHead {
			n := min(spdyHead-len(d.head), len(p))
			d.head, p = append(d.head, p[:n]...), p[n:]
			if len(d.head) < spdyHead {
				return nil
			}
			if err := d.begin(); err != nil {
				return err
			}
		}
		n := min(d.left, len(p))
		now := p[:n]
		p = p[n:]
		d.left -= n
		if d.data {
			if n > 0 {
				if err := d.part(d.kind, now); err != nil {
					return err
				}
			}
		} else {
			d.whole = append(d.whole, now...)
		}
		if d.left > 0 {
			continue
		}
		if !d.data {
			if err := d.controlFrame(); err != nil {
				return err
			}
		}
		d.head = d.head[:0]
	}
	return nil
}

// begin reads the head of a frame.
func (d *spdyDirection) begin() error {
	first, second := binary.BigEndian.Uint32(d.head), binary.BigEndian.Uint32(d.head[4:])
	d.left = int(second & 0xffffff)
	if d.data = first&(1<<31) == 0; d.data {
		d.kind = d.streams.kind(first)
		return nil
	}
	if d.left > maxControl {
		return fmt.Errorf("a control frame of %d bytes", d.left)
	}
	d.whole = append(d.whole[:0], d.head...)
	return nil
}

func (d *spdyDirection) controlFrame() error {
	d.control.Reset()
	d.control.Write(d.whole)
	f, err := d.framer.ReadFrame()
	if err != nil {
		return fmt.Errorf("a control frame: %w", err)
	}
	if s, ok := f.(*spdy.SynStreamFrame); ok {
		return d.streams.opened(uint32(s.StreamId), s.Headers.Get("streamType"))
	}
	return nil
}
