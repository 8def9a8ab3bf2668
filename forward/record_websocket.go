package forward

import (
	"encoding/binary"
	"errors"
)

// byWebSocket has t read the frames of RFC 6455, whose messages begin with the
// number of their channel.
func (t *tap) byWebSocket() {
	var s sizes
	t.caller = (&messages{part: func(channel byte, p []byte) error {
		if channel != channelResize {
			return nil
		}
		return s.read(p, t.tape.Resize)
	}}).read
	t.server = (&messages{part: func(channel byte, p []byte) error {
		if channel != channelOut && channel != channelErr {
			return nil
		}
		return t.tape.Output(p)
	}}).read
}

// messages reads the messages of one direction of a WebSocket.
type messages struct {
	// part takes a part of a message, as it comes.
	part func(channel byte, p []byte) error

	head    []byte // of a frame, as far as it is here
	left    uint64 // of the frame's payload
	inFrame bool
	control bool // the frame isn't part of a message
	last    bool // the frame ends its message
	masked  bool
	mask    [4]byte
	at      int // in the mask

	inside  bool // a message has begun
	named   bool // its channel is known
	channel byte
}

var (
	errFrame = errors.New("a frame isn't one of RFC 6455 without extensions")
	errText  = errors.New("a message isn't binary")
)

const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
)

func (m *messages) read(p []byte) error {
	for len(p) > 0 {
		if !m.inFrame {
			m.head = append(m.head, p[0])
			p = p[1:]
			if err := m.begin(); err != nil {
				return err
			}
			continue
		}
		n := int(min(uint64(len(p)), m.left))
		if err := m.payload(p[:n]); err != nil {
			return err
		}
		p = p[n:]
		m.left -= uint64(n)
		m.endFrame()
	}
	return nil
}

// begin reads the head, if it is whole.
func (m *messages) begin() error {
	h := m.head
	if len(h) < 2 {
		return nil
	}
	size, extended := uint64(h[1]&0x7f), 0
	switch size {
	case 126:
		extended = 2
	case 127:
		extended = 8
	}
	m.masked = h[1]&0x80 != 0
	want := 2 + extended
	if m.masked {
		want += 4
	}
	if len(h) < want {
		return nil
	}
	switch extended {
	case 2:
		size = uint64(binary.BigEndian.Uint16(h[2:]))
	case 8:
		size = binary.BigEndian.Uint64(h[2:])
	}
	if m.masked {
		copy(m.mask[:], h[want-4:])
	}
	op := h[0] & 0x0f
	m.last, m.control, m.at = h[0]&0x80 != 0, op >= opClose, 0
	switch {
	case h[0]&0x70 != 0 || size > 1<<62 || m.control && (size > 125 || !m.last):
		return errFrame
	case !m.control && (op == opContinuation) != m.inside:
		return errFrame
	case op == opText:
		return errText
	case !m.control && op != opContinuation && op != opBinary:
		return errFrame
	}
	if op == opBinary {
		m.inside, m.named = true, false
	}
	m.head, m.left, m.inFrame = m.head[:0], size, true
	m.endFrame()
	return nil
}

func (m *messages) endFrame() {
	if m.left > 0 {
		return
	}
	m.inFrame = false
	if m.last && !m.control {
		m.inside = false
	}
}

// payload takes some of a frame's payload. p isn't ours to change.
func (m *messages) payload(p []byte) error {
	if m.control {
		return nil
	}
	if m.masked {
		clear := make([]byte, len(p))
		for i, b := range p {
			clear[i] = b ^ m.mask[(m.at+i)%4]
		}
		m.at = (m.at + len(p)) % 4
		p = clear
	}
	if !m.named && len(p) > 0 {
		m.named, m.channel, p = true, p[0], p[1:]
	}
	if len(p) == 0 {
		return nil
	}
	return m.part(m.channel, p)
}
