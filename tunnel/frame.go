package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The frames on a carrier. Each is a head of 8 bytes, big endian, and a
// payload:
//
//	| kind 1 | length 3 | stream 4 | payload … |
//
// There is no greeting: what either end may do at once is fixed here, so that
// a stream costs no round trip to open. The version is in [ALPN] and [Path].
// The agent's streams have odd numbers, the hub's even ones; each side counts
// upwards and never uses a number again.
//
//	opener                                    other side
//	open, data …            ───────────────►  may take initialWindow bytes
//	                        ◄───────────────  credit n: n bytes more
//	end                     ───────────────►  reads what is left, then io.EOF
//	close                   ───────────────►  and its writes fail, too
//	                        ◄───────────────  reset: refused, there are too many
//
//	either side             other side
//	ping  ────────────────► pong, with the same 8 bytes
//	drain ────────────────► opens no stream any more, and says drain
//	gone  ────────────────► (both have drained, and here no stream is left)
//	      ◄──────────────── gone: the carrier is closed
const (
	frameOpen = 1 + iota
	frameData
	frameCredit
	frameEnd
	frameClose
	frameReset
	framePing
	framePong
	frameDrain
	frameGone
)

const (
	headSize = 8
	// maxPayload is the most data in one frame, and so how long a keystroke
	// waits behind one of another stream.
	maxPayload = 32 << 10
	// initialWindow is what a stream may send before the first credit.
	initialWindow = 256 << 10
)

// errProtocol is the root of what the other side may not say.
var errProtocol = errors.New("not Reeve's protocol")

type head struct {
	kind   byte
	length int
	stream uint32
}

func appendHead(b []byte, kind byte, length int, stream uint32) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(kind)<<24|uint32(length))
	return binary.BigEndian.AppendUint32(b, stream)
}

// parseHead reads the head of a frame and bounds its length by its kind.
func parseHead(b [headSize]byte) (head, error) {
	first := binary.BigEndian.Uint32(b[:])
	h := head{kind: byte(first >> 24), length: int(first & 0xffffff), stream: binary.BigEndian.Uint32(b[4:])}
	ofStream, want := true, 0
	switch h.kind {
	case frameData:
		if h.length == 0 || h.length > maxPayload {
			return h, fmt.Errorf("%w: a frame with %d bytes of data", errProtocol, h.length)
		}
		want = h.length
	case frameCredit:
		want = 4
	case framePing, framePong:
		ofStream, want = false, 8
	case frameDrain, frameGone:
		ofStream = false
	case frameOpen, frameEnd, frameClose, frameReset:
	default:
		return h, fmt.Errorf("%w: a frame of kind %d", errProtocol, h.kind)
	}
	if h.length != want || (h.stream != 0) != ofStream {
		return h, fmt.Errorf("%w: a frame of kind %d with %d bytes on stream %d", errProtocol, h.kind, h.length, h.stream)
	}
	return h, nil
}
