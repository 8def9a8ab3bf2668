package hub

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// one is a listener with one connection.
type one struct {
	net.Listener
	conn chan net.Conn
	done chan struct{}
}

func (l one) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l one) Addr() net.Addr { return &net.TCPAddr{} }
func (l one) Close() error {
	close(l.done)
	return nil
}

// A stranger who promises a body and never sends it is let go.
func TestHub_serve_endsTheWaitForABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Hub{log: quiet}
		l := one{conn: make(chan net.Conn, 1), done: make(chan struct{})}
		srv := h.serve("api", l, nil, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "who are you?", http.StatusUnauthorized)
		}))
		ours, theirs := net.Pipe()
		l.conn <- theirs
		go srv.Serve(l)
		defer srv.Close()
		began := time.Now()
		if _, err := io.WriteString(ours, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		br := bufio.NewReader(ours)
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Fatalf("%v, %v", resp, err)
		}
		io.Copy(io.Discard, br)
		if took := time.Since(began); took > bodyTime+time.Second {
			t.Errorf("the connection ended after %v", took)
		}
	})
}
