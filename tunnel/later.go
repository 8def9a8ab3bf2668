package tunnel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime/debug"
)

// streamKey finds the stream that a request of [Serve] came by.
type streamKey struct{}

// Later answers a request in f, which goes on after the handler has returned.
// It is for an answer that may be long in coming: a handler that waits holds
// two goroutines and its server's buffers, about 20 KiB, and f a goroutine.
//
// The handler must have read the body, written nothing and return at once.
// The context of f has no values; it is done when the answer is of no use any
// more, or the session drains. What f writes is sent when it returns, and the
// stream closed; the session's Close waits for that. Where the request came by
// no session, f is called at once with r's context.
func Later(w http.ResponseWriter, r *http.Request, f func(ctx context.Context, w http.ResponseWriter)) {
	st, _ := r.Context().Value(streamKey{}).(*stream)
	if st == nil {
		f(r.Context(), w)
		return
	}
	if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
		f(r.Context(), w)
		return
	}
	if !st.s.later(st, f) {
		st.Close()
	}
}

// later reports whether f will be called: not once the session is closed.
func (s *Session) later(st *stream, f func(context.Context, http.ResponseWriter)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	if s.drainHere {
		cancel(ErrDraining)
	}
	if s.answers == nil {
		s.answers = map[*stream]context.CancelCauseFunc{}
	}
	s.answers[st] = cancel
	s.running.Go(func() {
		defer func() {
			st.Close()
			cancel(nil)
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.answers, st)
		}()
		st.onGone(func() { cancel(errGone) })
		st.answer(ctx, f)
	})
	return true
}

// answer sends what f writes.
func (st *stream) answer(ctx context.Context, f func(context.Context, http.ResponseWriter)) {
	defer func() {
		p := recover()
		if err, ok := p.(error); p != nil && (!ok || !errors.Is(err, http.ErrAbortHandler)) {
			st.s.cfg.Logger.Error("panic in a handler", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	w := &lateWriter{header: http.Header{}}
	f(ctx, w)
	if err := w.send(st); err != nil && ctx.Err() == nil {
		st.s.cfg.Logger.Warn("answer not sent whole", "error", err)
	}
}

// lateWriter holds an answer until it is whole.
type lateWriter struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *lateWriter) Header() http.Header { return w.header }

func (w *lateWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *lateWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

func (w *lateWriter) send(to io.Writer) error {
	w.WriteHeader(http.StatusOK)
	resp := http.Response{
		StatusCode: w.status, ProtoMajor: 1, ProtoMinor: 1, Close: true,
		Header: w.header, ContentLength: int64(w.body.Len()), Body: io.NopCloser(&w.body),
	}
	out := bufio.NewWriter(to)
	return errors.Join(resp.Write(out), out.Flush())
}
