package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	// idleStream is how long an unused stream is kept for the next request.
	// The serving end waits for longer, so that it doesn't close a stream at
	// the moment that it is used again.
	idleStream      = 90 * time.Second
	serveIdleStream = 3 * time.Minute
	// headerTime bounds the wait for a request's head once it has begun.
	headerTime = 30 * time.Second
	// headerBytes is above what servers that face callers accept, so that a
	// head too large is refused there.
	headerBytes = 2 << 20
)

// noTLS keeps each session's server from making an HTTP/2 server, too.
var noTLS = map[string]func(*http.Server, *tls.Conn, http.Handler){}

// Serve answers the requests that come by s until s is closed or ctx is done,
// and then breaks what is still running. It returns ctx's cause or the
// session's Err. Each request's context descends from ctx. There is no limit
// on a request's or an answer's time: a watch lasts for hours.
func Serve(ctx context.Context, s *Session, h http.Handler) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       serveIdleStream,
		MaxHeaderBytes:    headerBytes,
		TLSNextProto:      noTLS,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		// The server notices by itself that a stream was closed only while it
		// reads from it, and so not while an upload waits to be read.
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			ctx, cancel := context.WithCancelCause(ctx)
			c.(*stream).onGone(func() { cancel(errGone) })
			return context.WithValue(ctx, streamKey{}, c)
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateHijacked {
				// What the other side sent before it closed is still to be
				// passed on.
				c.(*stream).onGone(nil)
			}
		},
		ErrorLog: slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelWarn),
	}
	stop := context.AfterFunc(ctx, func() { s.close(fmt.Errorf("%w: %w", ErrClosed, context.Cause(ctx))) })
	defer stop()
	err := srv.Serve(s)
	srv.Close()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if cause := s.Err(); cause != nil {
		return cause
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Transport sends requests by s, whatever host they name. It pools streams,
// leaves bodies as they are and lets an Upgrade pass. Close its idle
// connections when s is closed.
func Transport(s *Session) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := s.Open(ctx)
			if err != nil {
				return nil, &openError{err}
			}
			// An answer may come, and the stream be closed, before the request
			// has ended. The answer counts, not the end of the upload.
			c.(*stream).hearOut()
			return c, nil
		},
		DisableCompression:     true,
		MaxIdleConns:           128,
		MaxIdleConnsPerHost:    128,
		IdleConnTimeout:        idleStream,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: headerBytes,
		WriteBufferSize:        16 << 10,
	}
}
