package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ReplicaTLS is the configuration with which one replica of the hub calls
// another: it shows a certificate of the hub's own, made now and again, and
// takes only a server that is the hub too, at whatever address.
func (ca *CA) ReplicaTLS() (*tls.Config, error) {
	c := &replicaCert{ca: ca}
	if _, err := c.get(nil); err != nil {
		return nil, err
	}
	roots := ca.Pool()
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: c.get,
		// The address of a replica is in no certificate; VerifyConnection
		// looks at the rest, also where a session is resumed.
		InsecureSkipVerify: true,
		VerifyConnection:   func(state tls.ConnectionState) error { return verifyHub(roots, state) },
	}, nil
}

func verifyHub(roots *x509.CertPool, state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("replica: it showed no certificate")
	}
	cert := state.PeerCertificates[0]
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return fmt.Errorf("replica: %w: %w; all replicas need the same CA (caDir)", ErrForeign, err)
	}
	id, err := IdentityOf(cert)
	if err != nil {
		return fmt.Errorf("replica: %w", err)
	}
	if id.Purpose != Hub {
		return fmt.Errorf("replica: %w: the certificate is %s", ErrForeign, id)
	}
	return nil
}

type replicaCert struct {
	ca *CA

	mu   sync.Mutex
	cert *tls.Certificate // guarded by mu
}

func (c *replicaCert) get(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cert != nil && time.Now().Before(renewAt(c.cert.Leaf)) {
		return c.cert, nil
	}
	chain, key, err := c.ca.NewCredential(Identity{Purpose: Hub, Name: "hub"}, hubLife)
	if err != nil {
		return nil, fmt.Errorf("replica's certificate: %w", err)
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("replica's certificate: %w", err)
	}
	c.cert = &cert
	return c.cert, nil
}
