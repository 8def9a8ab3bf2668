package forward

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/internal/upgrade"
)

// WithLocal adds the services of the hub itself to links, under the name
// [fleet.HubAgent].
func WithLocal(links Links, services *Agent, log *slog.Logger) *Local {
	pipes := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	l := &Local{
		links:     links,
		server:    &http.Server{Handler: services, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)},
		transport: newTransport(nil),
	}
	l.transport.DialContext = pipes.dial
	go l.server.Serve(pipes)
	return l
}

// Local is Links with the hub's own services. These are asked by HTTP/1.1
// through a pipe, so that an Upgrade, a trailer and a broken answer are what
// they are on the link to an agent.
type Local struct {
	links     Links
	server    *http.Server
	transport *http.Transport
}

// Transport implements [Links].
func (l *Local) Transport(agent fleet.AgentName) (http.RoundTripper, error) {
	if agent == fleet.HubAgent {
		return roundTripperFunc(func(r *http.Request) (*http.Response, error) { return l.transport.RoundTrip(upgrade.Once(r)) }), nil
	}
	return l.links.Transport(agent)
}

// Close ends the requests that run to the hub's services; a second call does
// nothing.
func (l *Local) Close() error {
	err := l.server.Close()
	l.transport.CloseIdleConnections()
	return err
}

// pipeListener accepts what its own dial asks for.
type pipeListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (p *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "hub", Net: "pipe"} }

func (p *pipeListener) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}
