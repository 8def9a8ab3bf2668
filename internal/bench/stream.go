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

// A far path is one of 100 ms and 1 Gbit/s, with the kernel's own TCP.
const (
	farRTT  = 100 * time.Millisecond
	farRate = 125e6   // bytes per second
	farSize = 1 << 30 // what is sent
)

// streaming measures what one body does: on a far path, and to the memory of
// hub and agent when it is huge.
func streaming(ctx context.Context, opt options, report *Report) error {
	for _, up := range []bool{false, true} {
		got, floor, err := far(ctx, up)
		if err != nil {
			return err
		}
		name := "from agent to hub"
		if up {
			name = "from hub to agent"
		}
		report.Add(Row{Name: "one stream over 100 ms, " + name, Value: got / 1e6, Unit: "MB/s", Peer: "1 Gbit/s", PeerValue: farRate / 1e6, Bar: 0.8, More: true},
			Row{Name: "the same beside TCP alone", Value: got / 1e6, Unit: "MB/s", Peer: "TCP", PeerValue: floor / 1e6})
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

// farPath answers the bytes per second of one stream between two sessions.
func farPath(ctx context.Context, near, far net.Conn, up bool) (float64, error) {
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
	go func() {
		block := make([]byte, 32<<10)
		for n := 0; n < farSize; n += len(block) {
			if _, err := out.Write(block); err != nil {
				return
			}
		}
		out.Close()
	}()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{in}, make([]byte, 32<<10))
	if err == nil && n != farSize {
		err = fmt.Errorf("%d bytes arrived of %d", n, farSize)
	}
	return float64(n) / time.Since(began).Seconds(), err
}
