package tunnel

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"testing/synctest"
)

// Whatever arrives, a session ends with it or goes on; it neither panics nor
// holds more than was granted.
func FuzzSession_read(f *testing.F) {
	frame := func(kind byte, stream uint32, payload ...byte) []byte {
		return append(appendHead(nil, kind, len(payload), stream), payload...)
	}
	f.Add(bytes.Join([][]byte{frame(frameOpen, 1), frame(frameData, 1, []byte("hello")...), frame(frameEnd, 1), frame(frameClose, 1)}, nil))
	f.Add(bytes.Join([][]byte{frame(frameOpen, 1), frame(frameOpen, 3), frame(frameOpen, 5), frame(frameReset, 3)}, nil))
	f.Add(bytes.Join([][]byte{frame(framePing, 0, make([]byte, 8)...), frame(frameDrain, 0), frame(frameGone, 0)}, nil))
	f.Add(frame(frameGone, 0))
	f.Add(frame(frameCredit, 2, binary.BigEndian.AppendUint32(nil, 1<<31)...))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			s, err := Server(near, Config{Streams: 2})
			if err != nil {
				t.Fatal(err)
			}
			go io.Copy(io.Discard, far)
			go func() {
				far.Write(in)
				far.Close()
			}()
			synctest.Wait()
			if s.Err() == nil {
				t.Error("the session outlives its carrier")
			}
			s.Close()
		})
	})
}

func TestSession_ends_with_what_is_not_its_protocol(t *testing.T) {
	credit := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	for name, in := range map[string][]byte{
		"a frame of an unknown kind":         appendHead(nil, 99, 0, 1),
		"data on a stream that never was":    append(appendHead(nil, frameData, 1, 7), 'x'),
		"a number of ours":                   appendHead(nil, frameOpen, 0, 2),
		"a number twice":                     append(appendHead(nil, frameOpen, 0, 1), appendHead(nil, frameOpen, 0, 1)...),
		"data too long for a frame":          appendHead(nil, frameData, maxPayload+1, 1),
		"a ping on a stream":                 appendHead(nil, framePing, 8, 1),
		"gone without a drain":               appendHead(nil, frameGone, 0, 0),
		"credit above all measure":           append(append(appendHead(nil, frameOpen, 0, 1), appendHead(nil, frameCredit, 4, 1)...), credit(1<<31)...),
		"data beyond what was granted":       overdrawn(),
		"an end of a stream that never was":  appendHead(nil, frameEnd, 0, 9),
		"a credit shorter than it has to be": appendHead(nil, frameCredit, 2, 1),
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			s, err := Server(near, Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			defer far.Close()
			go io.Copy(io.Discard, far)
			go far.Write(in)
			<-s.Done()
			if err := s.Err(); !bytes.Contains([]byte(err.Error()), []byte(errProtocol.Error())) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func overdrawn() []byte {
	b := appendHead(nil, frameOpen, 0, 1)
	for n := 0; n <= initialWindow; n += maxPayload {
		b = append(appendHead(b, frameData, maxPayload, 1), make([]byte, maxPayload)...)
	}
	return b
}
