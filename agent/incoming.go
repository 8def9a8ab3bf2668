package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/pki"
)

// incoming is an open port that leads to a service beyond the hub.
type incoming struct {
	forward.Incoming
	listener net.Listener
}

// openIncoming opens the ports of incomingServices.
func (a *Agent) openIncoming() error {
	for i, in := range a.cfg.IncomingServices {
		l, err := a.listen(fmt.Sprintf("incomingServices[%d]", i), in.Listen())
		if err != nil {
			return err
		}
		a.incoming = append(a.incoming, incoming{in, l})
		if addr, ok := l.Addr().(*net.TCPAddr); ok && !addr.IP.IsLoopback() {
			a.component("forward").Warn("whoever reaches this port may call the service as this agent", "incoming", in.Name, "address", l.Addr().String(), "service", string(in.ServiceType)+"/"+string(in.DestinationService))
		}
	}
	return nil
}

// IncomingAddrs are where incomingServices are, in their order.
func (a *Agent) IncomingAddrs() []net.Addr {
	var out []net.Addr
	for _, in := range a.incoming {
		out = append(out, in.listener.Addr())
	}
	return out
}

// serveIncoming answers on one port until ctx is done. It has no limits of
// time but for headers: what passes may be a long answer, or an upgraded
// connection.
func (a *Agent) serveIncoming(ctx context.Context, in incoming) error {
	log := a.component("forward")
	server := &http.Server{
		Handler:           in.Handler(forward.LinkOnly(a.up, a.up.connected), log),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	run := func() error { return server.Serve(in.listener) }
	if !in.UseHTTP {
		server.TLSConfig = pki.LocalTLS(a.localCertificate)
		if in.CertFile != "" {
			server.TLSConfig = nil
		}
		run = func() error { return server.ServeTLS(in.listener, in.CertFile, in.KeyFile) }
	}
	stopped := make(chan struct{})
	defer context.AfterFunc(ctx, func() {
		defer close(stopped)
		// ctx is done, and requests that run may yet end.
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		if server.Shutdown(stop) != nil {
			server.Close()
		}
	})()
	if err := run(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("incomingServices %s: %w", in.Name, err)
	}
	<-stopped
	return nil
}

// localCertificate has the hub sign a certificate for localhost.
func (a *Agent) localCertificate(ctx context.Context, csr []byte) ([]byte, error) {
	return post(ctx, a.up, "/v1/certificates/local", "application/x-pem-file", csr)
}
