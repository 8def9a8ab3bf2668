package tunnel_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"reeve.dev/reeve/tunnel"
)

// serveLater answers by f, from both the handler's view and the caller's.
func serveLater(t *testing.T, s *tunnel.Session, f func(ctx context.Context, w http.ResponseWriter)) {
	serve(t, s, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		tunnel.Later(w, r, f)
	}))
}

func askLater(ctx context.Context, c *http.Client, url string) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("body"))
	if err != nil {
		return nil, "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func TestLater(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter)
		status int
		body   string
	}{
		"a document": {func(w http.ResponseWriter) {
			w.Header().Set("X-Kind", "late")
			w.WriteHeader(http.StatusCreated)
			io.WriteString(w, "it is ")
			io.WriteString(w, "done")
		}, 201, "it is done"},
		"no content": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }, 204, ""},
		"nothing":    {func(http.ResponseWriter) {}, 200, ""},
		"a long one": {func(w http.ResponseWriter) { io.WriteString(w, strings.Repeat("x", 1<<20)) }, 200, strings.Repeat("x", 1<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, tunnel.Config{})
			serveLater(t, b, func(_ context.Context, w http.ResponseWriter) { test.answer(w) })
			c := client(t, a)
			for range 3 { // whatever became of the stream before
				resp, body, err := askLater(t.Context(), c, "http://x/")
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode != test.status || body != test.body {
					t.Errorf("got %d with %d bytes, want %d with %d", resp.StatusCode, len(body), test.status, len(test.body))
				}
			}
		})
	}
}

// What waits for an answer ends as soon as nobody does, and doesn't outlive
// its session.
func TestLater_ends(t *testing.T) {
	for name, end := range map[string]struct {
		do   func(caller context.CancelFunc, near, far *tunnel.Session)
		want error
	}{
		"when the caller gives up":       {func(caller context.CancelFunc, _, _ *tunnel.Session) { caller() }, nil},
		"when the carrier is lost":       {func(_ context.CancelFunc, near, _ *tunnel.Session) { near.Close() }, nil},
		"when this side closes":          {func(_ context.CancelFunc, _, far *tunnel.Session) { far.Close() }, nil},
		"when the other side drains":     {func(_ context.CancelFunc, near, _ *tunnel.Session) { near.Drain() }, tunnel.ErrDraining},
		"when this side drains":          {func(_ context.CancelFunc, _, far *tunnel.Session) { far.Drain() }, tunnel.ErrDraining},
		"when this side drained already": {nil, tunnel.ErrDraining},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := sessions(t, tunnel.Config{})
				cause := make(chan error, 1)
				reached, on := make(chan struct{}), make(chan struct{})
				serve(t, far, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					close(reached)
					<-on
					tunnel.Later(w, r, func(ctx context.Context, w http.ResponseWriter) {
						<-ctx.Done()
						cause <- context.Cause(ctx)
						w.WriteHeader(http.StatusNoContent)
					})
				}))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				status := make(chan int, 1)
				go func() {
					resp, _, err := askLater(ctx, client(t, near), "http://x/")
					if err != nil {
						status <- 0
						return
					}
					status <- resp.StatusCode
				}()
				<-reached
				if end.do == nil {
					far.Drain()
				}
				close(on)
				synctest.Wait()
				if end.do != nil {
					end.do(cancel, near, far)
				}
				got, answered := <-cause, <-status
				if end.want == nil {
					if got == nil || answered != 0 {
						t.Errorf("ended by %v, caller got %d", got, answered)
					}
					return
				}
				if !errors.Is(got, end.want) || answered != http.StatusNoContent {
					t.Errorf("ended by %v, caller got %d; want %v and 204", got, answered, end.want)
				}
				<-near.Done() // the drain is over
				<-far.Done()
			})
		})
	}
}

func TestLater_panics(t *testing.T) {
	a, b := pair(t, tunnel.Config{})
	serveLater(t, b, func(context.Context, http.ResponseWriter) { panic("a bug") })
	if _, _, err := askLater(t.Context(), client(t, a), "http://x/"); err == nil {
		t.Error("answered")
	}
	if err := b.Err(); err != nil {
		t.Errorf("the session ended: %v", err)
	}
}

func TestLater_without_a_session(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tunnel.Later(w, r, func(_ context.Context, w http.ResponseWriter) { io.WriteString(w, "now") })
	}))
	defer srv.Close()
	if _, body, err := askLater(t.Context(), srv.Client(), srv.URL); err != nil || body != "now" {
		t.Errorf("got %q, %v", body, err)
	}
}
