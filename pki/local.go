package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"reeve.dev/reeve/fleet"
)

// localNames are the names of a machine for itself. An agent gets a server's
// certificate for no others: with one for a name that it chose itself it could
// pass for the hub.
var localNames = []string{"localhost", "127.0.0.1", "::1"}

// IssueLocal is IssueAgent for the ports that the agent opens on its own
// machine: a server's certificate for localhost.
func (ca *CA) IssueLocal(csr []byte, agent fleet.AgentName, life time.Duration) ([]byte, error) {
	if err := ca.pace.check(agent); err != nil {
		return nil, err
	}
	pub, err := csrKey(csr)
	if err != nil {
		return nil, err
	}
	return ca.issue(pub, Identity{Purpose: Agent, Agent: agent}, life, x509.ExtKeyUsageServerAuth, localNames)
}

// LocalTLS is the configuration of a listener with a certificate of
// IssueLocal: TLS 1.2 or newer, for callers that aren't Reeve's. send carries
// a request to the hub, when the first caller comes and again before the
// certificate ends.
func LocalTLS(send func(ctx context.Context, csr []byte) ([]byte, error)) *tls.Config {
	l := &localCert{send: send}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: l.get}
}

type localCert struct {
	send func(ctx context.Context, csr []byte) ([]byte, error)

	mu   sync.Mutex
	cert *tls.Certificate // guarded by mu
}

func (l *localCert) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cert != nil && fresh(l.cert) {
		return l.cert, nil
	}
	next, err := l.ask(hello.Context())
	switch {
	case err == nil:
		l.cert = next
	case l.cert == nil || time.Now().After(l.cert.Leaf.NotAfter):
		return nil, err
	}
	return l.cert, nil
}

func (l *localCert) ask(ctx context.Context) (*tls.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	csr, err := newCSR(key)
	if err != nil {
		return nil, err
	}
	chain, err := l.send(ctx, csr)
	if err != nil {
		return nil, fmt.Errorf("certificate for localhost: %w", err)
	}
	pem, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(chain, pem)
	if err != nil {
		return nil, fmt.Errorf("certificate for localhost: %w", err)
	}
	return &cert, nil
}
