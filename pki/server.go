package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"time"
)

// ServerTLS is the configuration of a hub's listener under the given DNS
// names and IP addresses, to which localhost and the loopback addresses are
// added: TLS 1.3 or newer, with a certificate that is issued now and again
// while the hub runs. A caller may show a certificate of this CA; one of
// another CA, or an expired one, is refused in the handshake. The caller sets
// NextProtos.
func (ca *CA) ServerTLS(names []string) (*tls.Config, error) {
	s := &serverCert{ca: ca, names: append([]string{"localhost", "127.0.0.1", "::1"}, names...)}
	if _, err := s.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: s.get,
		ClientAuth:     tls.VerifyClientCertIfGiven,
		ClientCAs:      ca.Pool(),
	}, nil
}

type serverCert struct {
	ca    *CA
	names []string

	mu   sync.Mutex
	cert *tls.Certificate // guarded by mu
}

func (s *serverCert) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cert != nil && time.Now().Before(renewAt(s.cert.Leaf)) {
		return s.cert, nil
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	chain, err := s.ca.issue(key.Public(), Identity{Purpose: Hub, Name: "hub"}, hubLife, x509.ExtKeyUsageServerAuth, s.names)
	if err != nil {
		return nil, fmt.Errorf("hub's certificate: %w", err)
	}
	kp, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(chain, kp)
	if err != nil {
		return nil, fmt.Errorf("hub's certificate: %w", err)
	}
	s.cert = &cert
	return s.cert, nil
}

// renewAt is the end of two thirds of a certificate's life, counted from when
// it was made.
func renewAt(cert *x509.Certificate) time.Time {
	made := cert.NotBefore.Add(skew)
	return made.Add(cert.NotAfter.Sub(made) / 3 * 2)
}
