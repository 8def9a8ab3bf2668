package tunnel_test

import (
	"io"
	"sync"
	"testing"
	"time"

	"reeve.dev/reeve/tunnel"
)

// Many streams that write at once each get their turn, also when others that
// waited before them give up or are closed.
func TestSession_crowd_of_writers(t *testing.T) {
	const streams, size = 300, 128 << 10 // within the first window
	a, b := pair(t, tunnel.Config{})
	var running sync.WaitGroup
	running.Go(func() {
		for range streams {
			c, err := b.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			running.Go(func() {
				defer c.Close()
				// What was given up ends early, or is reset.
				if n, err := io.Copy(io.Discard, c); err == nil && n > size {
					t.Errorf("%d bytes", n)
				}
			})
		}
	})
	for i := range streams {
		c, err := a.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			defer c.Close()
			n, err := c.Write(make([]byte, size))
			if i%3 == 0 && (err != nil || n != size) {
				t.Errorf("stream %d: %d bytes, %v", i, n, err)
			}
		})
		switch i % 3 {
		case 1:
			running.Go(func() { c.SetWriteDeadline(time.Now().Add(time.Duration(i) * time.Microsecond)) })
		case 2:
			running.Go(func() { c.Close() })
		}
	}
	running.Wait()
}
