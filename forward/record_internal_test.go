package forward

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/moby/spdystream/spdy"
)

// screen is a Tape that only keeps what is shown.
type screen struct{ bytes.Buffer }

func (*screen) ID() string              { return "" }
func (s *screen) Output(p []byte) error { s.Write(p); return nil }
func (*screen) Resize(int, int) error   { return nil }
func (*screen) Close(error) error       { return nil }

// A server that is told twice what a stream is for takes the first, and goes on
// to show the terminal by it. A recording that took the second would be empty.
func TestRecord_SPDY_stream_opened_twice(t *testing.T) {
	shown := &screen{}
	tp := &tap{tape: shown}
	tp.bySPDY()
	var wire bytes.Buffer
	framer, err := spdy.NewFramer(&wire, &wire)
	if err != nil {
		t.Fatal(err)
	}
	send := func(to func([]byte) error, f spdy.Frame) error {
		wire.Reset()
		if err := framer.WriteFrame(f); err != nil {
			t.Fatal(err)
		}
		return to(wire.Bytes())
	}
	open := func(kind string) error {
		return send(tp.fromCaller, &spdy.SynStreamFrame{StreamId: 3, Headers: http.Header{"Streamtype": {kind}}})
	}
	if err := open("stdout"); err != nil {
		t.Fatal(err)
	}
	if err := open("error"); !errors.Is(err, errNotRecorded) || !strings.Contains(err.Error(), "twice") {
		t.Errorf("the second opening: %v", err)
	}
	if err := send(tp.toCaller, &spdy.DataFrame{StreamId: 3, Data: []byte("secret")}); err != nil || shown.String() != "secret" {
		t.Errorf("recorded %q, %v", shown, err)
	}
}
