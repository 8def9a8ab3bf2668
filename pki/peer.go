package pki

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrNoCertificate: the other end of a connection showed no certificate.
var ErrNoCertificate = errors.New("no client certificate")

// Peers tells who is at the other end of a TLS connection that asked for a
// certificate and didn't judge it (tls.RequestClientCert). The handshake has
// proved that the peer holds the certificate's key; Peers judges the rest,
// for each request anew, so that the answer to a bad certificate can say what
// is wrong with it, and a connection doesn't outlive one. It is safe for
// concurrent use.
type Peers struct {
	roots       *x509.CertPool
	revocations *Revocations

	mu sync.Mutex
	// known, guarded by mu, spares the signature's check for certificates
	// that were seen before. Their times are looked at each time.
	known map[[sha256.Size]byte]Credential
}

// maxKnown bounds Peers' memory; beyond it everything is forgotten.
const maxKnown = 4096

// Peers judges certificates of this CA.
func (ca *CA) Peers() *Peers {
	return &Peers{roots: ca.Pool(), revocations: ca.Revocations(), known: map[[sha256.Size]byte]Credential{}}
}

// Peer is the identity of the other end, and its certificate. The error wraps
// ErrNoCertificate, ErrExpired, ErrForeign, ErrRevoked or ErrMalformed.
func (p *Peers) Peer(state *tls.ConnectionState) (Identity, *x509.Certificate, error) {
	return p.PeerWithin(state, 0)
}

// PeerWithin is Peer that takes a certificate until grace after its end.
func (p *Peers) PeerWithin(state *tls.ConnectionState, grace time.Duration) (Identity, *x509.Certificate, error) {
	c, cert, err := p.within(state, grace)
	return c.Identity, cert, err
}

// Credential is Peer, with what tells the certificate from others.
func (p *Peers) Credential(state *tls.ConnectionState) (Credential, error) {
	c, _, err := p.within(state, 0)
	return c, err
}

func (p *Peers) within(state *tls.ConnectionState, grace time.Duration) (Credential, *x509.Certificate, error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return Credential{}, nil, ErrNoCertificate
	}
	cert := state.PeerCertificates[0]
	now := time.Now()
	c, err := p.credential(cert, now)
	switch {
	case err != nil:
		return Credential{}, nil, err
	case now.Before(cert.NotBefore):
		return Credential{}, nil, fmt.Errorf("client certificate: %w: it isn't valid before %s; check the clocks", ErrMalformed, cert.NotBefore.Format(time.RFC3339))
	case now.After(cert.NotAfter.Add(grace)):
		return Credential{}, nil, fmt.Errorf("client certificate: %w on %s; get a new one", ErrExpired, cert.NotAfter.Format(time.RFC3339))
	}
	if err := p.revocations.Check(c); err != nil {
		return Credential{}, nil, err
	}
	return c, cert, nil
}

func (p *Peers) credential(cert *x509.Certificate, now time.Time) (Credential, error) {
	key := sha256.Sum256(cert.Raw)
	p.mu.Lock()
	c, ok := p.known[key]
	p.mu.Unlock()
	if ok {
		return c, nil
	}
	// Whether it is still valid is not asked here.
	at := now
	if at.After(cert.NotAfter) {
		at = cert.NotAfter
	}
	if at.Before(cert.NotBefore) {
		at = cert.NotBefore
	}
	_, err := cert.Verify(x509.VerifyOptions{Roots: p.roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return Credential{}, fmt.Errorf("client certificate: %w: another CA made it, or it isn't for clients; get one from this hub", ErrForeign)
	}
	if c, err = CredentialOf(cert); err != nil {
		return Credential{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxKnown {
		clear(p.known)
	}
	p.known[key] = c
	return c, nil
}
