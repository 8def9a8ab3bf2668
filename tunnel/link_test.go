package tunnel_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reeve.dev/reeve/tunnel"
)

// sessions answers both ends of a session without a network, to be used in
// and out of a bubble.
func sessions(t testing.TB, cfg tunnel.Config) (agent, hub *tunnel.Session) {
	t.Helper()
	near, far := farApart(0)
	agent, err := tunnel.Client(near, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if hub, err = tunnel.Server(far, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		agent.Close()
		hub.Close()
	})
	return agent, hub
}

func TestSession_Drain(t *testing.T) {
	eachSide := map[string]func(a, b *tunnel.Session) *tunnel.Session{
		"by the agent": func(a, _ *tunnel.Session) *tunnel.Session { return a },
		"by the hub":   func(_, b *tunnel.Session) *tunnel.Session { return b },
	}
	for name, drainer := range eachSide {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, tunnel.Config{})
			near, far := open(t, a, b)
			drainer(a, b).Drain()
			<-a.Draining()
			<-b.Draining()
			for _, s := range []*tunnel.Session{a, b} {
				if _, err := s.Open(t.Context()); !errors.Is(err, tunnel.ErrDraining) {
					t.Errorf("Open: %v", err)
				}
			}
			// What was open goes on, and to its very end.
			const size = 1 << 20
			go func() {
				near.Write(make([]byte, size))
				near.Close()
			}()
			if n, err := io.Copy(io.Discard, far); n != size || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			if a.Err() != nil || b.Err() != nil {
				t.Errorf("ended with a stream open: %v, %v", a.Err(), b.Err())
			}
			far.Close()
			<-a.Done()
			<-b.Done()
			if !errors.Is(a.Err(), tunnel.ErrDrained) || !errors.Is(b.Err(), tunnel.ErrDrained) {
				t.Errorf("got %v and %v", a.Err(), b.Err())
			}
		})
	}
}

// echo answers each request with the name of the process, after it was let.
type echo struct {
	name  string
	asked atomic.Int32
	let   chan struct{} // nil: at once
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.asked.Add(1)
	if e.let != nil {
		select {
		case <-e.let:
		case <-r.Context().Done():
			return
		}
	}
	io.Copy(w, r.Body)
	io.WriteString(w, e.name)
}

// process adds a carrier to a process to pool, and answers the process's end.
func process(t *testing.T, pool *tunnel.Pool, e *echo) *tunnel.Session {
	t.Helper()
	agent, hub := sessions(t, tunnel.Config{})
	serve(t, agent, e)
	pool.Add(hub, e.name)
	t.Cleanup(func() { pool.Remove(hub) })
	return agent
}

func ask(ctx context.Context, pool *tunnel.Pool, method, body string) (string, error) {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://x/", r)
	if err != nil {
		return "", err
	}
	resp, err := pool.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return string(got), err
}

func TestPool_takes_the_least_loaded_process(t *testing.T) {
	var pool tunnel.Pool
	if _, err := ask(t.Context(), &pool, "GET", ""); !errors.Is(err, tunnel.ErrNoCarrier) {
		t.Errorf("an empty pool: %v", err)
	}
	a, b := &echo{name: "a", let: make(chan struct{})}, &echo{name: "b", let: make(chan struct{})}
	for range 3 { // more carriers are no more capacity
		process(t, &pool, a)
	}
	process(t, &pool, b)
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if _, err := ask(t.Context(), &pool, "GET", ""); err != nil {
				t.Error(err)
			}
		})
		waitFor(t, func() bool { return int(a.asked.Load()+b.asked.Load()) == i+1 })
	}
	if a, b := a.asked.Load(), b.asked.Load(); a != 5 || b != 5 {
		t.Errorf("a was asked %d times, b %d times", a, b)
	}
	close(a.let)
	close(b.let)
	wg.Wait()
}

// waitFor waits for what another goroutine does; the test's own time limit
// ends it.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-t.Context().Done():
			t.Fatal("it didn't come about")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestPool_tries_another_carrier(t *testing.T) {
	for _, tt := range []struct {
		method, body string
		upgrade      bool
		again        bool
	}{
		{method: "GET", again: true},
		{method: "DELETE", again: true},
		{method: "POST"},
		{method: "PUT", body: "read before the carrier died"},
		{method: "GET", upgrade: true},
	} {
		t.Run(fmt.Sprintf("%s %s upgrade=%v", tt.method, tt.body, tt.upgrade), func(t *testing.T) {
			var pool tunnel.Pool
			dies := &echo{name: "a", let: make(chan struct{})}
			carrier := process(t, &pool, dies)
			type result struct {
				said string
				err  error
			}
			done := make(chan result)
			go func() {
				var body io.Reader
				if tt.body != "" {
					body = strings.NewReader(tt.body)
				}
				req, _ := http.NewRequestWithContext(t.Context(), tt.method, "http://x/", body)
				if tt.upgrade {
					req.Header.Set("Connection", "Upgrade")
					req.Header.Set("Upgrade", "spdy/3.1")
				}
				resp, err := pool.RoundTrip(req)
				if err != nil {
					done <- result{err: err}
					return
				}
				said, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				done <- result{string(said), err}
			}()
			waitFor(t, func() bool { return dies.asked.Load() == 1 })
			lives := &echo{name: "b"}
			process(t, &pool, lives)
			carrier.Close()
			got := <-done
			if tt.again && (got.err != nil || got.said != "b") {
				t.Errorf("got %q, %v; want b's answer", got.said, got.err)
			}
			if !tt.again && (!errors.Is(got.err, tunnel.ErrPeerClosed) || lives.asked.Load() != 0) {
				t.Errorf("got %q, %v, and another was asked %d times; want only the carrier's end", got.said, got.err, lives.asked.Load())
			}
		})
	}
}

// A carrier that takes no more streams is passed over, also for a request that
// must not be repeated, since nobody has seen it.
func TestPool_passes_over_a_full_carrier(t *testing.T) {
	var pool tunnel.Pool
	held, let := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(let) })
	for _, streams := range []int{1, 2} {
		agent, hub := sessions(t, tunnel.Config{Streams: streams})
		serve(t, agent, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			held <- struct{}{}
			<-let
		}))
		pool.Add(hub, "a")
		t.Cleanup(func() { pool.Remove(hub) })
	}
	ask := func() error {
		req, _ := http.NewRequestWithContext(t.Context(), "POST", "http://x/", nil)
		resp, err := pool.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	for range 3 {
		go ask()
		<-held
	}
	if err := ask(); !errors.Is(err, tunnel.ErrFull) {
		t.Errorf("the fourth: %v", err)
	}
}

// While a session is drained, its requests end in peace, and new ones go by
// another.
func TestPool_fails_at_once_when_the_carrier_of_a_stalled_upload_dies(t *testing.T) {
	var pool tunnel.Pool
	started := make(chan struct{})
	agent, hub := sessions(t, tunnel.Config{})
	serve(t, agent, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.ReadFull(r.Body, make([]byte, 1))
		close(started)
		<-r.Context().Done()
	}))
	pool.Add(hub, "a")
	defer pool.Remove(hub)
	body, more := io.Pipe() // stalls after the first byte
	defer more.Close()
	req, err := http.NewRequestWithContext(t.Context(), "PUT", "http://x/", body)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		more.Write([]byte("1"))
		<-started
		agent.Close()
	}()
	_, err = pool.RoundTrip(req)
	var lost *tunnel.LostError
	if !errors.As(err, &lost) || !errors.Is(err, tunnel.ErrPeerClosed) || lost.Reason() == "" {
		t.Errorf("got %v", err)
	}
}

func TestTransport_hears_an_answer_that_comes_before_the_end_of_the_upload(t *testing.T) {
	var pool tunnel.Pool
	agent, hub := sessions(t, tunnel.Config{})
	pool.Add(hub, "a")
	defer pool.Remove(hub)
	go func() {
		for {
			c, err := agent.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!")
			}
			c.Close()
		}
	}()
	for range 200 { // the answer and the failure of the upload race
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://x/", io.LimitReader(endless{}, 8<<20))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := pool.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(said) != "no!" || err != nil {
			t.Fatalf("%q, %v", said, err)
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestPool_spares_a_drained_session(t *testing.T) {
	var pool tunnel.Pool
	old := &echo{name: "old", let: make(chan struct{})}
	s := process(t, &pool, old)
	done := make(chan string)
	go func() {
		said, err := ask(t.Context(), &pool, "POST", "question ")
		if err != nil {
			t.Error(err)
		}
		done <- said
	}()
	waitFor(t, func() bool { return old.asked.Load() == 1 })
	s.Drain()
	process(t, &pool, &echo{name: "new"})
	waitFor(t, func() bool {
		said, err := ask(t.Context(), &pool, "POST", "question ")
		return err == nil && said == "question new"
	})
	close(old.let)
	if said := <-done; said != "question old" {
		t.Errorf("got %q", said)
	}
	<-s.Done() // though its streams would have been kept for the next request
	if !errors.Is(s.Err(), tunnel.ErrDrained) {
		t.Errorf("ended with %v", s.Err())
	}
}

// hubs are the ends of a link that is being kept, without a network.
type hubs struct {
	t     *testing.T
	mu    sync.Mutex
	here  map[int][]*tunnel.Session // by hub, the hub's ends that are open
	shut  map[int]bool
	dials int
}

func (h *hubs) dial(_ context.Context, hub int) (*tunnel.Session, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dials++
	if h.shut[hub] {
		return nil, fmt.Errorf("hub %d is down", hub)
	}
	near, far := farApart(10 * time.Millisecond)
	agent, err := tunnel.Client(near, tunnel.Config{})
	if err != nil {
		return nil, err
	}
	end, err := tunnel.Server(far, tunnel.Config{})
	if err != nil {
		return nil, err
	}
	h.here[hub] = append(h.here[hub], end)
	go func() {
		<-end.Done()
		end.Close()
		h.mu.Lock()
		defer h.mu.Unlock()
		for i, s := range h.here[hub] {
			if s == end {
				h.here[hub] = append(h.here[hub][:i], h.here[hub][i+1:]...)
			}
		}
	}()
	return agent, nil
}

func (h *hubs) count(hub int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.here[hub])
}

func (h *hubs) each(hub int, f func(*tunnel.Session)) {
	h.mu.Lock()
	all := append([]*tunnel.Session(nil), h.here[hub]...)
	h.mu.Unlock()
	for _, s := range all {
		f(s)
	}
}

// A carrier whose hub is gone takes another one than its sibling has, as long
// as there is one.
func TestLink_spreads_its_carriers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hubs{t: t, here: map[int][]*tunnel.Session{}, shut: map[int]bool{}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			tunnel.Link{
				Carriers: 2, Hubs: 3, Dial: h.dial,
				Serve: func(ctx context.Context, s *tunnel.Session, isUp func()) error {
					stop := context.AfterFunc(ctx, func() { s.Close() })
					defer stop()
					isUp()
					<-s.Done()
					return s.Err()
				},
			}.Run(ctx)
		}()
		die := func(hub int) {
			h.mu.Lock()
			h.shut[hub] = true
			h.mu.Unlock()
			h.each(hub, func(s *tunnel.Session) { s.Close() })
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		settled := func(what string, want ...int) {
			t.Helper()
			for hub, n := range want {
				if got := h.count(hub); got != n {
					t.Errorf("%s: %d carriers to hub %d, want %d", what, got, hub, n)
				}
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		settled("at first", 1, 1, 0)
		die(0)
		settled("after a hub has died", 0, 1, 1)
		die(1)
		settled("when one is left", 0, 0, 2)
		cancel()
		<-ended
		time.Sleep(time.Minute) // for the hubs' ends
	})
}

func TestLink_keeps_its_carriers_on_several_hubs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hubs{t: t, here: map[int][]*tunnel.Session{}, shut: map[int]bool{}}
		ctx, cancel := context.WithCancel(t.Context())
		var stale atomic.Pointer[tunnel.Session]
		var up atomic.Int32
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			tunnel.Link{
				Carriers: 2, Hubs: 2, First: 1, Dial: h.dial,
				Serve: func(ctx context.Context, s *tunnel.Session, isUp func()) error {
					stop := context.AfterFunc(ctx, func() { s.Close() })
					defer stop()
					up.Add(1)
					defer up.Add(-1)
					isUp()
					<-s.Done()
					return s.Err()
				},
				Stale: func(s *tunnel.Session) bool { return stale.CompareAndSwap(s, nil) },
				Grace: time.Second,
			}.Run(ctx)
		}()
		settle := func(hub0, hub1 int, what string) {
			t.Helper()
			synctest.Wait()
			if a, b := h.count(0), h.count(1); a != hub0 || b != hub1 {
				t.Errorf("%s: %d carriers to hub 0 and %d to hub 1, want %d and %d", what, a, b, hub0, hub1)
			}
		}
		time.Sleep(time.Minute)
		settle(1, 1, "at first")

		// A hub that goes away says so: its carrier moves before it ends.
		h.mu.Lock()
		h.shut[0] = true
		far := h.here[0][0]
		h.mu.Unlock()
		st, err := far.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		far.Drain()
		time.Sleep(2 * time.Second)
		settle(1, 2, "while a request is under way on a drained carrier")
		st.Close()
		time.Sleep(time.Second)
		settle(1, 2, "while the agent's end of it is open")
		far.Close()
		settle(0, 2, "after the hub has gone")

		// And when it is there again, the carrier comes back.
		h.mu.Lock()
		h.shut[0] = false
		h.mu.Unlock()
		time.Sleep(3 * time.Minute)
		settle(1, 1, "after the hub came back")

		// The same when a hub dies without a word.
		h.mu.Lock()
		h.shut[1] = true
		h.mu.Unlock()
		h.each(1, func(s *tunnel.Session) { s.Close() })
		time.Sleep(2 * time.Second)
		settle(2, 0, "after a hub has died")
		h.mu.Lock()
		h.shut[1] = false
		dials := h.dials
		h.mu.Unlock()
		time.Sleep(3 * time.Minute)
		settle(1, 1, "after that")

		// No carrier is dialled again for nothing.
		time.Sleep(24 * time.Hour)
		settle(1, 1, "a day later")
		h.mu.Lock()
		if h.dials > dials+2 {
			t.Errorf("%d dials in a quiet day", h.dials-dials)
		}
		h.mu.Unlock()

		cancel()
		<-ended
		time.Sleep(time.Second)
		settle(0, 0, "at the end")
		if n := up.Load(); n != 0 {
			t.Errorf("%d sessions are served", n)
		}
	})
}

func TestLink_replaces_a_stale_carrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hubs{t: t, here: map[int][]*tunnel.Session{}, shut: map[int]bool{}}
		ctx, cancel := context.WithCancel(t.Context())
		var pool tunnel.Pool
		var renewed atomic.Bool
		gap := false
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			tunnel.Link{
				Dial: h.dial,
				Serve: func(ctx context.Context, s *tunnel.Session, up func()) error {
					stop := context.AfterFunc(ctx, func() { s.Close() })
					defer stop()
					pool.Add(s, "hub")
					defer func() {
						pool.Remove(s)
						gap = gap || ctx.Err() == nil && !pool.Ready()
					}()
					up()
					<-s.Done()
					return s.Err()
				},
				Stale: func(*tunnel.Session) bool { return renewed.CompareAndSwap(true, false) },
			}.Run(ctx)
		}()
		time.Sleep(time.Second)
		h.mu.Lock()
		first := h.here[0][0]
		h.mu.Unlock()
		renewed.Store(true)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if !errors.Is(first.Err(), tunnel.ErrDrained) {
			t.Errorf("the first carrier ended with %v", first.Err())
		}
		if n := h.count(0); n != 1 || gap {
			t.Errorf("%d carriers; a gap between them: %v", n, gap)
		}
		cancel()
		<-ended
		time.Sleep(time.Second) // the hub's ends hear of it
	})
}

func TestServe_tells_a_handler_that_its_caller_left(t *testing.T) {
	a, b := pair(t, tunnel.Config{})
	begun, left := make(chan struct{}), make(chan struct{})
	serve(t, b, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done() // doesn't read the upload
		close(left)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	upload, w := io.Pipe()
	go io.WriteString(w, "the first part")
	req := httptest.NewRequest("POST", "http://x/", upload).WithContext(ctx)
	req.RequestURI = ""
	asked := make(chan error)
	go func() {
		_, err := client(t, a).Do(req)
		asked <- err
	}()
	<-left
	w.Close()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
