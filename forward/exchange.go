package forward

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"reeve.dev/reeve/fleet"
)

// statusCallerGone is recorded, never sent, when the caller left before the
// answer. The number is nginx's.
const statusCallerGone = 499

// Exchange is one request, forwarded or refused, for the audit log. Of its
// query and its header it holds only what the members below say: there may be
// secrets in the rest.
type Exchange struct {
	At         time.Time
	Caller     Caller
	RemoteAddr string
	Method     string
	Path       string
	// Status is what the caller got; 499 when it left before that.
	Status int
	// Received and Sent are bytes of the body from and to the caller; after
	// an Upgrade, of the connection.
	Received, Sent int64
	Duration       time.Duration
	// Upstream is how long the service took to begin its answer, as the agent
	// saw it; 0 where that isn't known.
	Upstream time.Duration
	// Rule is the hub's rule that decided; empty where none was for it.
	Rule string
	// Verb is Kubernetes', or the method in lower case. Namespace, Resource
	// (pods/exec, deployments.apps) and Name are those of a request to a
	// Kubernetes API.
	Verb, Namespace, Resource, Name string
	// Command is what is run in a container.
	Command []string
	// User and Groups are as whom a Kubernetes API takes the request, where a
	// rule of the hub or the caller says so.
	User   string
	Groups []string
	// Recording is the id of what the Recorder made of it.
	Recording string
	// Begins says that it has become a connection of its own, such as a command's
	// in a container, and goes on: another one tells its end, which may be days
	// away, or never told by a hub that is killed.
	Begins bool
	// Err says what refused the exchange or cut it short, if anything did.
	Err error
}

// Auditor gets each exchange when it has ended, and an Upgrade also when it
// begins. It must not block for long, since the caller waits for it.
type Auditor interface {
	Forwarded(context.Context, Exchange)
	// Ready fails while an exchange couldn't be recorded; then it doesn't take
	// place.
	Ready(context.Context) error
}

// AuditorFunc is an Auditor of one function.
type AuditorFunc func(context.Context, Exchange)

// Forwarded calls f.
func (f AuditorFunc) Forwarded(ctx context.Context, e Exchange) { f(ctx, e) }

// Ready is always so.
func (AuditorFunc) Ready(context.Context) error { return nil }

// AuditLog is an Auditor that writes each exchange as one record of log.
func AuditLog(log *slog.Logger) Auditor {
	return AuditorFunc(func(ctx context.Context, e Exchange) {
		attrs := []slog.Attr{
			slog.String("caller", e.Caller.Name), slog.String("credential", e.Caller.ID), slog.String("holder", e.Caller.Holder), slog.String("remote", e.RemoteAddr),
			slog.String("agent", string(e.Caller.Agent)), slog.String("service", target(e.Caller.Type, e.Caller.Service)),
			slog.String("method", e.Method), slog.String("path", e.Path), slog.Int("status", e.Status),
			slog.Int64("received", e.Received), slog.Int64("sent", e.Sent), slog.Duration("took", e.Duration),
		}
		if e.Rule != "" {
			attrs = append(attrs, slog.String("rule", e.Rule))
		}
		if e.Begins {
			attrs = append(attrs, slog.Bool("begins", true))
		}
		for _, a := range []struct{ key, value string }{
			{"verb", e.Verb}, {"namespace", e.Namespace}, {"resource", e.Resource}, {"name", e.Name}, {"user", e.User}, {"recording", e.Recording},
		} {
			if a.value != "" {
				attrs = append(attrs, slog.String(a.key, a.value))
			}
		}
		if e.Upstream > 0 {
			attrs = append(attrs, slog.Duration("upstream", e.Upstream))
		}
		if len(e.Command) > 0 {
			attrs = append(attrs, slog.Any("command", e.Command))
		}
		if e.Err != nil {
			attrs = append(attrs, slog.Any("error", e.Err))
		}
		log.LogAttrs(ctx, slog.LevelInfo, "forwarded", attrs...)
	})
}

// exchange watches one request pass: it is the ResponseWriter that the proxy
// gets.
type exchange struct {
	http.ResponseWriter
	began          time.Time
	first          time.Duration // from the beginning to the answer's head
	status         int
	length         int64        // of the answer's body; -1 when that isn't known
	upload         *countedBody // of a request by HTTP/1.1
	received, sent atomic.Int64
	reading        atomic.Bool // the request's body, for which the server says 100
	broken         atomic.Bool // the request's body didn't come whole
	err            error
	upgraded       atomic.Pointer[countedConn] // nil before an Upgrade
	// upstream is how long the service took to begin its answer, at the hub;
	// tells says that the answer's head tells that, at the agent.
	upstream time.Duration
	tells    bool
	tap      *tap // of a session that is recorded, else nil
	// begins is called at an Upgrade; nil: nothing.
	begins func()
}

var errCutShort = errors.New("the answer broke off")

// observe runs serve with an exchange in the place of w, and end when it is
// over, also when serve panics to break the connection.
func observe(w http.ResponseWriter, r *http.Request, serve func(*exchange, *http.Request), end func(*exchange)) {
	x := &exchange{ResponseWriter: w, began: time.Now()}
	if r.Body != nil && r.Body != http.NoBody {
		// In a copy: the server looks into its own request's body to see
		// whether it must wait before it closes the connection.
		r = r.WithContext(r.Context())
		body := &countedBody{ReadCloser: r.Body, x: x, trailer: r.Trailer}
		r.Body = body
		if r.ProtoMajor == 1 {
			x.upload = body
		}
		// Else net/http ends the upload when the answer begins. Where it can't
		// be had, as in HTTP/2, it is so already.
		http.NewResponseController(w).EnableFullDuplex()
	}
	defer func() {
		p := recover()
		if p != nil && x.err == nil {
			x.err = errCutShort
		}
		if x.status == 0 && r.Context().Err() != nil {
			x.status = statusCallerGone
		}
		end(x)
		if p != nil {
			panic(p)
		}
	}()
	serve(x, r)
}

func (x *exchange) WriteHeader(status int) {
	if status == http.StatusContinue && x.reading.Load() {
		return // the caller was told, or goes on without it
	}
	if status >= 200 {
		x.head(status)
	} else {
		private(x.Header()) // nobody else has seen what a hint holds
		ofItsOwn(x.Header())
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) head(status int) {
	if x.status != 0 {
		return
	}
	x.status, x.first, x.length = status, time.Since(x.began), -1
	if x.tells {
		noteUpstream(x.Header(), x.first)
	}
	if x.upload != nil && status >= 200 && !x.upload.ended.Load() {
		// Should the upload's end come after the answer's, net/http reads the
		// connection twice at a time, panics and breaks it, perhaps under the
		// next request (Go 1.26, with EnableFullDuplex).
		x.Header().Set("Connection", "close")
	}
	if n, err := strconv.ParseInt(x.Header().Get("Content-Length"), 10, 64); err == nil {
		x.length = n
	}
}

// Write passes p on at once while there is more to come. ReverseProxy does so
// only for answers of unknown length; with a FlushInterval it does so for all,
// but then it sends each small answer in two pieces.
func (x *exchange) Write(p []byte) (int, error) {
	x.head(http.StatusOK)
	n, err := x.ResponseWriter.Write(p)
	if sent := x.sent.Add(int64(n)); err == nil && sent < x.length {
		err = http.NewResponseController(x.ResponseWriter).Flush()
	}
	return n, err
}

// Unwrap lets http.ResponseController reach what exchange doesn't change.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// Hijack gives a proxy the connection for an Upgrade.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, brw, err := http.NewResponseController(x.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	x.head(http.StatusSwitchingProtocols)
	if x.begins != nil {
		x.begins()
	}
	c := &countedConn{conn, x}
	x.upgraded.Store(c)
	return c, brw, nil
}

// cut ends what is under way, whatever it waits for. The caller sees a broken
// connection or stream.
func (x *exchange) cut() {
	if c := x.upgraded.Load(); c != nil {
		c.Close()
		return
	}
	rc := http.NewResponseController(x.ResponseWriter)
	rc.SetReadDeadline(time.Unix(1, 0))
	rc.SetWriteDeadline(time.Unix(1, 0))
}

// countedBody counts a request's body.
type countedBody struct {
	io.ReadCloser
	x             *exchange
	trailer       http.Header // filled in at the end, also with what wasn't announced
	ended, closed atomic.Bool // read whole, or given up
}

func (b *countedBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	b.x.reading.Store(true)
	n, err := b.ReadCloser.Read(p)
	b.x.received.Add(int64(n))
	switch {
	case errors.Is(err, io.EOF):
		scrubTrailer(b.trailer)
		b.ended.Store(true)
	case err != nil:
		b.x.broken.Store(true)
	}
	return n, err
}

func (b *countedBody) Close() error {
	b.closed.Store(true)
	return b.ReadCloser.Close()
}

// countedConn counts what passes after an Upgrade.
type countedConn struct {
	net.Conn
	x *exchange
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.x.received.Add(int64(n))
	if t := c.x.tap; t != nil {
		if terr := t.fromCaller(p[:n]); terr != nil {
			return 0, terr
		}
	}
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	if t := c.x.tap; t != nil {
		if err := t.toCaller(p); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Write(p)
	c.x.sent.Add(int64(n))
	return n, err
}

// CloseWrite passes the end of one direction on, for protocols that go on in
// the other.
func (c *countedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Conn.Close()
}

// target is a service's full name, in the order that people say it.
func target(typ fleet.ServiceType, name fleet.ServiceName) string {
	return string(typ) + "/" + string(name)
}

// buffers are the copying buffers of all proxies.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

func newBuffers() httputil.BufferPool {
	return &buffers{sync.Pool{New: func() any { return new([bufferSize]byte) }}}
}

func (b *buffers) Get() []byte  { return b.pool.Get().(*[bufferSize]byte)[:] }
func (b *buffers) Put(p []byte) { b.pool.Put((*[bufferSize]byte)(p)) }
