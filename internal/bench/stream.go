package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"reeve.dev/reeve/tunnel"
)

// streaming measures what one body does: on a far path, and to the memory of
// hub and agent when it is huge.
func streaming(ctx context.Context, opt options, report *Report) error {
	const rtt, rate = 100 * time.Millisecond, 125e6 // bytes per second, 1 Gbit/s
	for _, up := range []bool{false, true} {
		got, err := farPath(ctx, rtt, rate, up)
		if err != nil {
			return err
		}
		name := "from agent to hub"
		if up {
			name = "from hub to agent"
		}
		report.Add(Row{Name: "one stream over 100 ms, " + name, Value: got / 1e6, Unit: "MB/s", Peer: "1 Gbit/s", PeerValue: rate / 1e6, Bar: 0.8, More: true})
	}
	service := httptest.NewTLSServer(http.HandlerFunc(serveBody))
	defer service.Close()
	w, err := throughLink(service, tunnel.RawTLS)
	if err != nil {
		return err
	}
	defer w.close()
	for _, path := range []string{"/huge", "/upload"} {
		grown, err := w.huge(ctx, path)
		if err != nil {
			return err
		}
		report.Add(Row{Name: "10 GiB by " + path + ": memory of client, hub, agent and service grows by", Value: grown, Unit: "MiB", Peer: "bar", PeerValue: 128, Bar: 1})
	}
	return nil
}

// huge moves a huge body and answers by how many MiB the process's memory
// was larger meanwhile than before.
func (w way) huge(ctx context.Context, path string) (float64, error) {
	runtime.GC()
	before, err := resident(os.Getpid())
	if err != nil {
		return 0, err
	}
	var most atomic.Int64 // MiB
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for ctx.Err() == nil {
			if now, err := resident(os.Getpid()); err == nil {
				most.Store(max(most.Load(), int64(now)))
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	if path == "/huge" {
		err = w.get(ctx, path, make([]byte, 64<<10))
	} else {
		err = w.upload(ctx, path)
	}
	return float64(most.Load()) - before, err
}

func (w way) upload(ctx context.Context, path string) error {
	body := io.LimitReader(zeroes{}, hugeBody)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+path, body)
	if err != nil {
		return err
	}
	r.ContentLength = hugeBody
	resp, err := w.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err == nil && string(said) != fmt.Sprint(hugeBody) {
		err = fmt.Errorf("answer %s: %q of %d bytes arrived", resp.Status, said, hugeBody)
	}
	return err
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// farPath answers the bytes per second of one stream on a path that delays
// each byte and takes no more than rate, with buffers as large as one window
// of such a path.
func farPath(ctx context.Context, rtt time.Duration, rate float64, up bool) (float64, error) {
	near, far := newPath(rtt, rate)
	a, err := tunnel.Client(near, tunnel.Config{})
	if err != nil {
		return 0, err
	}
	defer a.Close()
	h, err := tunnel.Server(far, tunnel.Config{})
	if err != nil {
		return 0, err
	}
	defer h.Close()
	if _, err := a.Ping(ctx); err != nil {
		return 0, err
	}
	if _, err := h.Ping(ctx); err != nil {
		return 0, err
	}
	from, to := a, h
	if up {
		from, to = h, a
	}
	out, err := from.Open(ctx)
	if err != nil {
		return 0, err
	}
	in, err := to.Accept()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	const size = 1 << 30
	go func() {
		block := make([]byte, 32<<10)
		for n := 0; n < size; n += len(block) {
			if _, err := out.Write(block); err != nil {
				return
			}
		}
		out.Close()
	}()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{in}, make([]byte, 32<<10))
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes arrived of %d", n, size)
	}
	return float64(n) / time.Since(began).Seconds(), err
}

// newPath answers the two ends of a connection over a long way.
func newPath(rtt time.Duration, rate float64) (a, b net.Conn) {
	aIn, aOut := net.Pipe()
	bIn, bOut := net.Pipe()
	delay := func(from, to net.Conn) {
		type parcel struct {
			data []byte
			due  time.Time
		}
		way := make(chan parcel, 1<<14)
		go func() {
			defer close(way)
			free := time.Now() // when the path has sent what it was given
			for {
				buf := make([]byte, 16<<10)
				n, err := from.Read(buf)
				if err != nil {
					return
				}
				// The path's own queue has kept it busy while this goroutine
				// waited for a processor.
				if earliest := time.Now().Add(-rtt / 4); free.Before(earliest) {
					free = earliest
				}
				free = free.Add(time.Duration(float64(n) / rate * 1e9))
				time.Sleep(time.Until(free) - 2*time.Millisecond)
				way <- parcel{buf[:n], free.Add(rtt / 2)}
			}
		}()
		go func() {
			defer to.Close()
			for p := range way {
				time.Sleep(time.Until(p.due))
				if _, err := to.Write(p.data); err != nil {
					from.Close()
					return
				}
			}
		}()
	}
	delay(aOut, bOut)
	delay(bOut, aOut)
	return aIn, bIn
}
