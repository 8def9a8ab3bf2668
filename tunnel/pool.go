package tunnel

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"reeve.dev/reeve/internal/upgrade"
)

// ErrNoCarrier says that a pool has no session that takes requests.
var ErrNoCarrier = errors.New("tunnel: no carrier is up")

// Pool sends requests by several sessions: to one process by the carriers of
// its link, or to any of several processes of the same kind. It takes the
// process that has the fewest requests under way, and of its carriers the one
// that has; a session that is drained or silent gets none. It is an
// http.RoundTripper; all methods may be called by several goroutines. The
// zero value is an empty pool.
//
// A request whose session ends before the answer has begun is sent by
// another, if nothing of it can have been done (RFC 9110, section 9.2.2): its
// method is idempotent, it asks for no Upgrade and its body wasn't read yet;
// or it never left, or was refused with [ErrFull]. Others fail with a [LostError] at once, also while their
// body waits for its reader's source, and the caller decides.
type Pool struct {
	mu      sync.Mutex
	members []*member     // guarded by mu
	came    chan struct{} // guarded by mu; closed when a member comes
}

// member is a session in a pool.
type member struct {
	s         *Session
	process   *process
	transport *http.Transport
	load      atomic.Int64 // requests under way
}

type process struct {
	name string
	load atomic.Int64
}

// Add lets requests go by s, which leads to the process of that name. Remove
// it when it has ended.
func (p *Pool) Add(s *Session, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := &member{s: s, process: &process{name: name}, transport: Transport(s)}
	for _, other := range p.members {
		if other.process.name == name {
			m.process = other.process
		}
	}
	p.members = append(p.members, m)
	if p.came != nil {
		close(p.came)
		p.came = nil
	}
	// Streams that wait for a next request would keep a drain from its end.
	s.onDrain(m.transport.CloseIdleConnections)
}

// Remove takes s out; a second call does nothing.
func (p *Pool) Remove(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.members, func(m *member) bool { return m.s == s })
	if i < 0 {
		return
	}
	m := p.members[i]
	p.members = slices.Delete(p.members, i, i+1)
	m.transport.CloseIdleConnections()
}

// Ready reports whether a request would find a session.
func (p *Pool) Ready() bool { return p.pick(nil) != nil }

// Wait answers a channel that is closed when a session comes.
func (p *Pool) Wait() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.came == nil {
		p.came = make(chan struct{})
	}
	return p.came
}

// pick answers the least loaded member that wasn't tried; nil if there is
// none. One that is silent is better than none.
func (p *Pool) pick(tried []*member) *member {
	p.mu.Lock()
	defer p.mu.Unlock()
	var best *member
	for _, m := range p.members {
		if m.s.takes() && !slices.Contains(tried, m) && (best == nil || m.before(best)) {
			best = m
		}
	}
	return best
}

func (m *member) before(other *member) bool {
	if a, b := m.s.silent.Load(), other.s.silent.Load(); a != b {
		return b
	}
	if a, b := m.process.load.Load(), other.process.load.Load(); a != b {
		return a < b
	}
	return m.load.Load() < other.load.Load()
}

// RoundTrip implements http.RoundTripper. It fails with [ErrNoCarrier] when
// there is no session, with [ErrFull] when none has room, and else with why the
// last one failed.
func (p *Pool) RoundTrip(r *http.Request) (*http.Response, error) {
	r = upgrade.Once(r)
	var body *heldBody
	if r.Body != nil && r.Body != http.NoBody {
		body = &heldBody{ReadCloser: r.Body}
		with := *r
		with.Body = body
		r = &with
		defer body.release()
	}
	var tried []*member
	err := ErrNoCarrier
	for {
		m := p.pick(tried)
		if m == nil {
			body.Close()
			return nil, err
		}
		resp, failed := m.roundTrip(r, body)
		if failed == nil {
			return resp, nil
		}
		tried, err = append(tried, m), failed
		if r.Context().Err() != nil || !m.again(r, body, failed) {
			return nil, err
		}
		body.reopen()
	}
}

// again reports whether a request that failed may go by another session.
func (m *member) again(r *http.Request, body *heldBody, err error) bool {
	if body.touched() {
		return false
	}
	var unsent *openError
	if errors.As(err, &unsent) || errors.Is(err, ErrFull) {
		return true
	}
	var lost *LostError
	if !errors.As(err, &lost) {
		return false // it is the answer that was wrong
	}
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return r.Header.Get("Upgrade") == ""
	}
	return false
}

func (m *member) roundTrip(r *http.Request, body *heldBody) (*http.Response, error) {
	m.load.Add(1)
	m.process.load.Add(1)
	resp, err := m.send(r, body)
	if err != nil {
		m.over()
		return nil, err
	}
	a := &answer{ReadCloser: resp.Body, m: m}
	if rw, ok := resp.Body.(io.ReadWriteCloser); ok {
		resp.Body = &upgraded{a, rw}
	} else {
		resp.Body = a
	}
	return resp, nil
}

// over counts a request out.
func (m *member) over() {
	m.load.Add(-1)
	m.process.load.Add(-1)
	if !m.s.takes() {
		m.transport.CloseIdleConnections()
	}
}

// send asks the transport. That doesn't fail while it reads the request's
// body, which may take for ever after the carrier has died.
func (m *member) send(r *http.Request, body *heldBody) (*http.Response, error) {
	if body == nil {
		resp, err := m.transport.RoundTrip(r)
		return resp, m.lost(err)
	}
	type result struct {
		resp *http.Response
		err  error
	}
	sent := make(chan result, 1)
	go func() {
		resp, err := m.transport.RoundTrip(r)
		sent <- result{resp, err}
	}()
	select {
	case got := <-sent:
		return got.resp, m.lost(got.err)
	case <-m.s.Done():
	}
	if !body.giveUp() {
		got := <-sent // soon, since it can't begin to read any more
		return got.resp, m.lost(got.err)
	}
	go func() {
		if got := <-sent; got.err == nil {
			got.resp.Body.Close()
		}
	}()
	return nil, &LostError{m.s.Err()}
}

// lost answers why a request failed: the carrier, if that is closed.
func (m *member) lost(err error) error {
	if err == nil {
		return nil
	}
	cause := m.s.Err()
	if cause == nil {
		return err
	}
	var unsent *openError
	if errors.As(err, &unsent) {
		return &openError{&LostError{cause}}
	}
	return &LostError{cause}
}

// LostError is that of a request whose carrier was lost before the answer
// began. Cause is [Session.Err].
type LostError struct{ Cause error }

func (e *LostError) Error() string { return fmt.Sprintf("carrier lost: %v", e.Cause) }
func (e *LostError) Unwrap() error { return e.Cause }

// Reason says to whoever asked what became of the carrier, without the
// network's addresses.
func (e *LostError) Reason() string {
	for _, known := range []struct {
		err    error
		reason string
	}{
		{ErrFrozen, "its end, or the network between, didn't answer any more"},
		{errProtocol, "its end didn't keep to the protocol"},
		{ErrPeerClosed, "its end, or the network between, closed the connection"},
		{ErrDrained, "the connection was given up for another"},
	} {
		if errors.Is(e.Cause, known.err) {
			return known.reason
		}
	}
	return "this side closed the connection"
}

// answer is a response's body that tells when the request is over.
type answer struct {
	io.ReadCloser
	m     *member
	ended atomic.Bool
}

func (b *answer) end() {
	if b.ended.CompareAndSwap(false, true) {
		b.m.over()
	}
}

func (b *answer) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end()
	}
	return n, err
}

func (b *answer) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// upgraded is the connection that an Upgrade made of a response's body. It is
// over when it is closed.
type upgraded struct {
	*answer
	conn io.ReadWriteCloser
}

func (b *upgraded) Read(p []byte) (int, error)  { return b.conn.Read(p) }
func (b *upgraded) Write(p []byte) (int, error) { return b.conn.Write(p) }

// CloseWrite ends one direction, where that can be.
func (b *upgraded) CloseWrite() error {
	if half, ok := b.conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return b.Close()
}

// heldBody is a request's body that outlives a try in which it wasn't read: a
// transport closes it when it fails. A nil heldBody is that of a request
// without one.
type heldBody struct {
	io.ReadCloser
	mu               sync.Mutex
	read             bool // guarded by mu
	closed, released bool // guarded by mu
}

func (b *heldBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	closed := b.closed
	b.read = b.read || !closed
	b.mu.Unlock()
	if closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.ReadCloser.Read(p)
}

// Close closes the body once no other try can want it.
func (b *heldBody) Close() error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	b.closed = true
	released := b.released || b.read
	b.mu.Unlock()
	if !released {
		return nil
	}
	return b.ReadCloser.Close()
}

func (b *heldBody) touched() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read
}

// giveUp reports whether somebody reads, or has read, the body, and lets nobody
// begin.
func (b *heldBody) giveUp() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return b.read
}

func (b *heldBody) reopen() {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.closed = false
	}
}

// release says that there is no further try.
func (b *heldBody) release() {
	b.mu.Lock()
	b.released = true
	closed := b.closed && !b.read
	b.mu.Unlock()
	if closed {
		b.ReadCloser.Close()
	}
}

// openError is that of a stream that couldn't be opened, so that nothing of
// the request went out.
type openError struct{ err error }

func (e *openError) Error() string { return fmt.Sprintf("open a stream: %v", e.err) }
func (e *openError) Unwrap() error { return e.err }
