package forward

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits are what one caller, and all callers of one agent together, may use.
// A caller is whom its credential was made out to, or else the credential.
type Limits struct {
	Caller Limit `yaml:"caller"`
	Agent  Limit `yaml:"agent"`
}

// Limit is in each member unlimited where that is 0.
type Limit struct {
	// Concurrent is how many requests may be under way; a watch is one for as
	// long as it lasts.
	Concurrent int `yaml:"concurrent"`
	// RequestsPerSecond may be exceeded for a moment, up to Burst requests at
	// once; a Burst of 0 is that of one second.
	RequestsPerSecond float64 `yaml:"requestsPerSecond"`
	Burst             int     `yaml:"burst"`
	// BytesPerSecond counts bodies both ways together. What is under way is
	// slowed down to it; beyond that, nothing new is begun.
	BytesPerSecond int64 `yaml:"bytesPerSecond"`
}

// Validate names the first key that is wrong.
func (l Limits) Validate() error {
	for _, one := range []struct {
		key string
		Limit
	}{{"caller", l.Caller}, {"agent", l.Agent}} {
		switch {
		case one.Concurrent < 0:
			return fmt.Errorf("limits.%s.concurrent %d: it must not be negative", one.key, one.Concurrent)
		case one.RequestsPerSecond < 0 || math.IsNaN(one.RequestsPerSecond):
			return fmt.Errorf("limits.%s.requestsPerSecond %v: it must not be negative", one.key, one.RequestsPerSecond)
		case one.Burst < 0 || one.Burst > 0 && one.RequestsPerSecond == 0:
			return fmt.Errorf("limits.%s.burst %d: it must not be negative, and needs requestsPerSecond", one.key, one.Burst)
		case one.BytesPerSecond < 0:
			return fmt.Errorf("limits.%s.bytesPerSecond %d: it must not be negative", one.key, one.BytesPerSecond)
		}
	}
	return nil
}

// overLimit is a limit that a request would exceed.
type overLimit struct {
	what  string
	after time.Duration // when to try again
}

func (o *overLimit) Error() string { return "limit of " + o.what }

const (
	// retryConcurrent is when to try again after too many at once, of which
	// nobody knows when one ends.
	retryConcurrent = time.Second
	// minByteBurst is room for one buffer of each of a few streams.
	minByteBurst = 256 << 10
	// maxDebt is how far bytes under way may exceed their limit.
	maxDebt = time.Second
	// fewAccounts is how many are kept without looking for idle ones.
	fewAccounts = 1024
)

// limiter holds one account for each name. A nil limiter has no limits.
type limiter struct {
	limit Limit
	of    string // caller or agent, for messages

	mu       sync.Mutex
	accounts map[string]*account // guarded by mu
	sweepAt  int                 // guarded by mu; how many accounts are too many
}

// account is what one name uses.
type account struct {
	running  int           // guarded by limiter.mu
	requests *rate.Limiter // nil: unlimited
	bytes    *rate.Limiter // nil: unlimited
}

func newLimiter(l Limit, of string) *limiter {
	if l == (Limit{}) {
		return nil
	}
	return &limiter{limit: l, of: of, accounts: map[string]*account{}, sweepAt: fewAccounts}
}

// begin counts a request in, or answers which limit forbids it.
func (l *limiter) begin(name string, now time.Time) (*account, *overLimit) {
	if l == nil {
		return nil, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(name, now)
	if n := l.limit.Concurrent; n > 0 && a.running >= n {
		return nil, &overLimit{fmt.Sprintf("%d requests at once of one %s", n, l.of), retryConcurrent}
	}
	if a.bytes != nil {
		if debt := time.Duration(-a.bytes.TokensAt(now) / float64(a.bytes.Limit()) * float64(time.Second)); debt > maxDebt {
			return nil, &overLimit{fmt.Sprintf("%d bytes a second of one %s", l.limit.BytesPerSecond, l.of), debt}
		}
	}
	if a.requests != nil {
		r := a.requests.ReserveN(now, 1)
		if wait := r.DelayFrom(now); wait > 0 {
			r.CancelAt(now)
			return nil, &overLimit{fmt.Sprintf("%v requests a second of one %s", l.limit.RequestsPerSecond, l.of), wait}
		}
	}
	a.running++
	return a, nil
}

// end counts a request out.
func (l *limiter) end(a *account) {
	if a == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	a.running--
}

// account is called with mu held.
func (l *limiter) account(name string, now time.Time) *account {
	if a := l.accounts[name]; a != nil {
		return a
	}
	if len(l.accounts) >= l.sweepAt {
		for k, a := range l.accounts {
			if a.running == 0 && a.full(now) {
				delete(l.accounts, k)
			}
		}
		l.sweepAt = max(fewAccounts, 2*len(l.accounts))
	}
	a := &account{}
	if r := l.limit.RequestsPerSecond; r > 0 {
		a.requests = rate.NewLimiter(rate.Limit(r), cmp.Or(l.limit.Burst, int(math.Ceil(r))))
	}
	if b := l.limit.BytesPerSecond; b > 0 {
		a.bytes = rate.NewLimiter(rate.Limit(b), int(min(max(b, minByteBurst), math.MaxInt32)))
	}
	l.accounts[name] = a
	return a
}

// full reports whether a new account would be the same.
func (a *account) full(now time.Time) bool {
	return (a.requests == nil || a.requests.TokensAt(now) >= float64(a.requests.Burst())) &&
		(a.bytes == nil || a.bytes.TokensAt(now) >= float64(a.bytes.Burst()))
}

// admission is one request's place in the accounts.
type admission struct {
	callers, agents *limiter
	caller, agent   *account
}

// admit counts a request in; done counts it out.
func (h *Hub) admit(c Caller) (admission, *overLimit) {
	now := time.Now()
	in := admission{callers: h.callers, agents: h.agents}
	var over *overLimit
	if in.caller, over = h.callers.begin(c.key(), now); over != nil {
		return admission{}, over
	}
	if in.agent, over = h.agents.begin(string(c.Agent), now); over != nil {
		h.callers.end(in.caller)
		return admission{}, over
	}
	return in, nil
}

func (in admission) done() {
	in.callers.end(in.caller)
	in.agents.end(in.agent)
}

// paces reports whether bytes are limited.
func (in admission) paces() bool {
	return in.caller != nil && in.caller.bytes != nil || in.agent != nil && in.agent.bytes != nil
}

// wait returns when n more bytes may pass.
func (in admission) wait(ctx context.Context, n int) error {
	for _, a := range []*account{in.caller, in.agent} {
		if a == nil || a.bytes == nil {
			continue
		}
		for left := n; left > 0; left -= a.bytes.Burst() {
			if err := a.bytes.WaitN(ctx, min(left, a.bytes.Burst())); err != nil {
				return err
			}
		}
	}
	return nil
}

// pace slows a request and its answer down to the byte limits.
func (in admission) pace(w http.ResponseWriter, r *http.Request) (http.ResponseWriter, *http.Request) {
	if !in.paces() {
		return w, r
	}
	ctx := r.Context()
	if r.Body != nil && r.Body != http.NoBody {
		r = r.WithContext(ctx) // a copy: the server looks into its own request's body
		r.Body = &pacedBody{r.Body, ctx, in}
	}
	return &pacedWriter{w, ctx, in}, r
}

type pacedBody struct {
	io.ReadCloser
	ctx context.Context
	in  admission
}

func (b *pacedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if werr := b.in.wait(b.ctx, n); err == nil {
		err = werr
	}
	return n, err
}

type pacedWriter struct {
	http.ResponseWriter
	ctx context.Context
	in  admission
}

func (w *pacedWriter) Write(p []byte) (int, error) {
	if err := w.in.wait(w.ctx, len(p)); err != nil {
		return 0, err
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach what pacedWriter doesn't change.
func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *pacedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, brw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return &pacedConn{conn, w.ctx, w.in}, brw, nil
}

type pacedConn struct {
	net.Conn
	ctx context.Context
	in  admission
}

func (c *pacedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if werr := c.in.wait(c.ctx, n); err == nil {
		err = werr
	}
	return n, err
}

func (c *pacedConn) Write(p []byte) (int, error) {
	if err := c.in.wait(c.ctx, len(p)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// CloseWrite passes the end of one direction on.
func (c *pacedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// key names the caller's account.
func (c Caller) key() string { return cmp.Or(c.Holder, c.ID, c.Name) }

// who names the caller for people.
func (c Caller) who() string {
	if c.Holder != "" {
		return c.Holder + " (" + c.Name + ")"
	}
	return c.Name
}
