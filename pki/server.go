package pki

import (
	"container/list"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
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
	return ca.ServerTLSBeneath("", names)
}

// ServerTLSBeneath is ServerTLS for a listener that also answers to every
// name of two or more labels beneath a domain, such as wiki.east.DOMAIN. No
// wildcard covers those, so each has a certificate of its own, made when a
// client asks for it by SNI. No more than maxServerNames are kept.
func (ca *CA) ServerTLSBeneath(domain string, names []string) (*tls.Config, error) {
	s := &serverCert{ca: ca, names: append([]string{"localhost", "127.0.0.1", "::1"}, names...), domain: domain}
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

// maxServerNames bounds the certificates that serverCert keeps for names
// beneath its domain: those that were asked for last.
const maxServerNames = 1024

type serverCert struct {
	ca     *CA
	names  []string
	domain string // empty: none

	mu      sync.Mutex
	cert    *tls.Certificate         // guarded by mu
	beneath map[string]*list.Element // guarded by mu
	order   list.List                // guarded by mu; of namedCert, the one used last in front
}

type namedCert struct {
	name string
	cert *tls.Certificate
}

func (s *serverCert) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if hello != nil {
		if name := strings.ToLower(hello.ServerName); s.owns(name) {
			return s.named(name)
		}
	}
	if s.cert == nil || !fresh(s.cert) {
		cert, err := s.issue(s.names)
		if err != nil {
			return nil, err
		}
		s.cert = cert
	}
	return s.cert, nil
}

// owns reports whether name is two or more labels beneath the domain.
func (s *serverCert) owns(name string) bool {
	rest, ok := strings.CutSuffix(name, "."+s.domain)
	if s.domain == "" || !ok || len(name) > 253 || !strings.Contains(rest, ".") {
		return false
	}
	for label := range strings.SplitSeq(rest, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// named is called with mu held.
func (s *serverCert) named(name string) (*tls.Certificate, error) {
	if e, ok := s.beneath[name]; ok {
		if c := e.Value.(namedCert).cert; fresh(c) {
			s.order.MoveToFront(e)
			return c, nil
		}
		s.order.Remove(e)
	}
	cert, err := s.issue([]string{name})
	if err != nil {
		return nil, err
	}
	if s.beneath == nil {
		s.beneath = map[string]*list.Element{}
	}
	s.beneath[name] = s.order.PushFront(namedCert{name, cert})
	if s.order.Len() > maxServerNames {
		delete(s.beneath, s.order.Remove(s.order.Back()).(namedCert).name)
	}
	return cert, nil
}

func fresh(c *tls.Certificate) bool { return time.Now().Before(renewAt(c.Leaf)) }

func (s *serverCert) issue(names []string) (*tls.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	chain, err := s.ca.issue(key.Public(), Identity{Purpose: Hub, Name: "hub"}, hubLife, x509.ExtKeyUsageServerAuth, names)
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
	return &cert, nil
}

// renewAt is the end of two thirds of a certificate's life, counted from when
// it was made.
func renewAt(cert *x509.Certificate) time.Time {
	made := cert.NotBefore.Add(skew)
	return made.Add(cert.NotAfter.Sub(made) / 3 * 2)
}
