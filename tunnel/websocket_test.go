package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wire is a connection that reads from one buffer and writes to another.
type wire struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (w *wire) Read(p []byte) (int, error)  { return w.in.Read(p) }
func (w *wire) Write(p []byte) (int, error) { return w.out.Write(p) }

func overPipe(t testing.TB, in io.Reader, client bool) (*webSocket, *wire) {
	near, far := net.Pipe() // for deadlines
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	w := &wire{Conn: near, in: in}
	return newWebSocket(w, w, nil, client), w
}

func TestWebSocket_frames(t *testing.T) {
	data := func(n int) []byte { return bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n] }
	for _, client := range []bool{true, false} {
		for _, n := range []int{0, 1, 7, 8, 125, 126, 127, 65535, 65536, 200_000} {
			from, sent := overPipe(t, nil, client)
			want := append(data(n), "and the next"...)
			if _, err := from.Write(want[:n]); err != nil {
				t.Fatal(err)
			}
			if _, err := from.Write(want[n:]); err != nil {
				t.Fatal(err)
			}
			if client && n >= 16 && bytes.Contains(sent.out.Bytes(), want[:16]) {
				t.Errorf("%d bytes of the client aren't masked", n)
			}
			to, _ := overPipe(t, &oddReader{r: &sent.out}, !client)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("client %v, %d bytes: differ, %v", client, n, err)
			}
		}
	}
}

// oddReader gives 1, 2, 3 … bytes at a time, so that masks are met at
// each of their four positions.
type oddReader struct {
	r io.Reader
	n int
}

func (o *oddReader) Read(p []byte) (int, error) {
	o.n++
	return o.r.Read(p[:min(len(p), o.n)])
}

func TestWebSocket_control_frames(t *testing.T) {
	// To a client, so without masks: a ping between two pieces of data, an
	// unasked pong, and the end.
	in := "\x02\x02he" + "\x89\x04ping" + "\x80\x03llo" + "\x8a\x00" + "\x88\x02\x03\xe8" + "\x82\x01x"
	ws, sent := overPipe(t, strings.NewReader(in), true)
	got, err := io.ReadAll(ws)
	if err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
	back, _ := overPipe(t, nil, false)
	back.br.Reset(&sent.out)
	op, n, key, err := readHeader(back.br, true)
	if err != nil || op != opPong || n != 4 {
		t.Fatalf("answer to ping: opcode %d, %d bytes, %v", op, n, err)
	}
	payload := make([]byte, n)
	io.ReadFull(back.br, payload)
	mask(payload, key)
	if d := cmp.Diff("ping", string(payload)); d != "" {
		t.Error(d)
	}
}

func TestWebSocket_bad_frames(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want error
	}{
		"compressed":            {"\xc2\x01x", errFrame},
		"text":                  {"\x81\x01x", errFrame},
		"unknown opcode":        {"\x8f\x00", errFrame},
		"masked by the server":  {"\x82\x81\x00\x00\x00\x00x", errFrame},
		"long ping":             {"\x89\x7e\x00\x7e" + strings.Repeat("x", 126), errFrame},
		"ping in pieces":        {"\x09\x00", errFrame},
		"negative length":       {"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", errFrame},
		"cut in the header":     {"\x82\x7e\x01", io.ErrUnexpectedEOF},
		"cut in the data":       {"\x82\x05abc", io.ErrUnexpectedEOF},
		"cut between two bytes": {"\x82", io.ErrUnexpectedEOF},
		"cut in a ping":         {"\x89\x04pi", io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			ws, _ := overPipe(t, strings.NewReader(tt.in), true)
			if got, err := io.ReadAll(ws); !errors.Is(err, tt.want) {
				t.Errorf("read %q, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func FuzzWebSocket_Read(f *testing.F) {
	f.Add([]byte("\x82\x02he\x89\x04ping\x80\x03llo\x88\x00"), true)
	f.Add([]byte("\x82\x85abcdhello\x82\xfe\x00\x05abcdhello"), false)
	f.Add([]byte("\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x01x"), true)
	f.Fuzz(func(t *testing.T, in []byte, client bool) {
		ws, sent := overPipe(t, bytes.NewReader(in), client)
		got, err := io.ReadAll(ws)
		if len(got) > len(in) {
			t.Errorf("%d bytes came out of %d", len(got), len(in))
		}
		if err == nil && len(in) == 0 && len(got) > 0 {
			t.Error("data out of nothing")
		}
		// Each answer costs the other side a frame at least as long.
		if sent.out.Len() > 3*len(in) {
			t.Errorf("%d bytes were answered to %d", sent.out.Len(), len(in))
		}
	})
}
