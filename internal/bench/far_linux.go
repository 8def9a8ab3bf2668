package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"reeve.dev/reeve/internal/farnet"
)

// farBuffers is what TCP has to hold on a far path, twice: the kernel's own
// limit for a sender is 4 MiB (net.ipv4.tcp_wmem).
const farBuffers = 32 << 20

// far measures one stream on a far path, in a process with a network of its
// own; up is from hub to agent.
// floor is TCP's own. Both are in bytes per second.
func far(ctx context.Context, up bool) (got, floor float64, err error) {
	cmd, err := farnet.Command(ctx, "-far", strconv.FormatBool(up))
	if err != nil {
		return 0, 0, err
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, 0, fmt.Errorf("one stream on a far path, which needs network namespaces and /dev/net/tun: %w", err)
	}
	_, err = fmt.Sscan(string(out), &got, &floor)
	return got, floor, err
}

// beFar is the process of far: it prints what it measured.
func beFar(ctx context.Context, up bool) error {
	path, err := farnet.Open(farnet.Config{RTT: farRTT, Rate: farRate, Buffers: farBuffers})
	if err != nil {
		return err
	}
	defer path.Close()
	l, err := net.Listen("tcp", farnet.Near+":0")
	if err != nil {
		return err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return err
	}
	for _, measure := range []func(ctx context.Context, near, far net.Conn, up bool) (float64, error){farPath, plainPath} {
		near, err := net.Dial("tcp", net.JoinHostPort(farnet.Far, port))
		if err != nil {
			return err
		}
		defer near.Close()
		hub, err := l.Accept()
		if err != nil {
			return err
		}
		defer hub.Close()
		got, err := measure(ctx, near, hub, up)
		if err != nil {
			return fmt.Errorf("%d packets were dropped: %w", path.Lost(), err)
		}
		fmt.Println(got)
	}
	return nil
}

// plainPath is farPath for TCP with nothing in it.
func plainPath(_ context.Context, from, to net.Conn, up bool) (float64, error) {
	if up {
		from, to = to, from
	}
	began := time.Now()
	go func() {
		block := make([]byte, 32<<10)
		for n := 0; n < farSize; n += len(block) {
			if _, err := from.Write(block); err != nil {
				return
			}
		}
		from.Close()
	}()
	n, err := io.Copy(io.Discard, struct{ io.Reader }{to})
	return float64(n) / time.Since(began).Seconds(), err
}
