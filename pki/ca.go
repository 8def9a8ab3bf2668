package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"reeve.dev/reeve/fleet"
)

// Lives of certificates where the caller has no other wish.
const (
	CALife      = 10 * 365 * 24 * time.Hour
	ControlLife = 365 * 24 * time.Hour
	ServiceLife = 90 * 24 * time.Hour
	// UserCertificateLife is that of a User's.
	UserCertificateLife = 90 * 24 * time.Hour
	AgentLife           = 24 * time.Hour
	// AgentGrace is how long an agent can renew after its certificate's end.
	AgentGrace = 7 * 24 * time.Hour
	hubLife    = 30 * 24 * time.Hour

	// skew is how far a certificate's beginning lies in the past, for peers
	// whose clock is behind.
	skew = 5 * time.Minute
)

// The files of a CA's directory.
const (
	caFile         = "ca.pem"
	caKeyFile      = "ca-key.pem"
	jwtKeyFile     = "jwt-key.pem"
	controlFile    = "control.pem"
	controlKeyFile = "control-key.pem"
)

// CA issues certificates and service tokens. It is safe for concurrent use.
type CA struct {
	cert   *x509.Certificate
	key    crypto.Signer
	jwtKey ed25519.PrivateKey
	tokens tokenCache

	revocations Revocations
	pace        pace
}

// NewCA makes a CA with new keys, in memory. name goes into its subject.
func NewCA(name string) (*CA, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: name, Organization: []string{"Reeve"}},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(CALife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("sign the CA: %w", err)
	}
	_, jwtKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return &CA{cert: cert, key: key, jwtKey: jwtKey}, nil
}

// Init makes a CA and a first control credential and saves them in dir, which
// must not hold a CA yet: ca.pem, ca-key.pem, jwt-key.pem, control.pem and
// control-key.pem, the keys with mode 0600.
func Init(dir, name string) (*CA, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if path := filepath.Join(dir, caKeyFile); exists(path) {
		return nil, fmt.Errorf("%s is there already: choose another directory; a new CA would lock out every agent of the old one", path)
	}
	if path := filepath.Join(dir, caFile); exists(path) {
		return nil, fmt.Errorf("%s is there already, without its key: if making a CA was cut off here, remove it and try again; if it is another hub's certificate, choose another directory", path)
	}
	ca, err := NewCA(name)
	if err != nil {
		return nil, err
	}
	files, err := ca.files()
	if err != nil {
		return nil, err
	}
	// The CA's key comes last: a directory that was cut off before it holds
	// no CA. Whether a certificate without its key is what that left, or
	// somebody else's, only a person knows.
	for _, f := range []string{controlFile, controlKeyFile, jwtKeyFile, caFile, caKeyFile} {
		if err := writeFile(filepath.Join(dir, f), files[f]); err != nil {
			return nil, err
		}
	}
	return ca, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (ca *CA) files() (map[string][]byte, error) {
	caKey, err := keyPEM(ca.key)
	if err != nil {
		return nil, err
	}
	jwtKey, err := keyPEM(ca.jwtKey)
	if err != nil {
		return nil, err
	}
	control, controlKey, err := ca.NewCredential(Identity{Purpose: Control, Name: "admin"}, ControlLife)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		caFile: ca.CertPEM(), caKeyFile: caKey, jwtKeyFile: jwtKey,
		controlFile: control, controlKeyFile: controlKey,
	}, nil
}

// LoadCA reads the CA that Init saved in dir. A missing CA is an error that
// wraps fs.ErrNotExist.
func LoadCA(dir string) (*CA, error) {
	read := func(name string) ([]byte, error) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%w: make a CA with `reeve ca init --dir %s`", err, dir)
		}
		return b, err
	}
	certPEM, err := read(caFile)
	if err != nil {
		return nil, err
	}
	caKey, err := read(caKeyFile)
	if err != nil {
		return nil, err
	}
	jwtKey, err := read(jwtKeyFile)
	if err != nil {
		return nil, err
	}
	ca, err := ParseCA(certPEM, caKey, jwtKey)
	if err != nil {
		return nil, fmt.Errorf("CA in %s: %w", dir, err)
	}
	return ca, nil
}

// ParseCA reads a CA from PEM: its certificate, its key and the key that
// signs service tokens (Ed25519).
func ParseCA(certPEM, caKey, jwtKey []byte) (*CA, error) {
	chain, err := parseChain(certPEM)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(caKey)
	if err != nil {
		return nil, fmt.Errorf("CA's key: %w", err)
	}
	jk, err := parseKey(jwtKey)
	if err != nil {
		return nil, fmt.Errorf("service tokens' key: %w", err)
	}
	ed, ok := jk.(ed25519.PrivateKey)
	switch {
	case !ok:
		return nil, fmt.Errorf("service tokens' key: %w: not an Ed25519 key", ErrMalformed)
	case !chain[0].IsCA:
		return nil, fmt.Errorf("%w: certificate %q is not a CA", ErrMalformed, chain[0].Subject.CommonName)
	case !samePublicKey(chain[0].PublicKey, key):
		return nil, fmt.Errorf("%w: the key is not the certificate's", ErrMalformed)
	case time.Now().After(chain[0].NotAfter):
		return nil, fmt.Errorf("CA certificate: %w on %s", ErrExpired, chain[0].NotAfter.Format(time.DateOnly))
	}
	return &CA{cert: chain[0], key: key, jwtKey: ed}, nil
}

// CertPEM is the CA's certificate.
func (ca *CA) CertPEM() []byte { return certPEM(ca.cert.Raw) }

// NotAfter is when the CA's certificate ends.
func (ca *CA) NotAfter() time.Time { return ca.cert.NotAfter }

// Pool holds the CA's certificate alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// Pin is the SHA-256 of the CA's public key, as join tokens carry it.
func (ca *CA) Pin() string { return pinOf(ca.cert) }

// IssueAgent signs an agent's request for a certificate. Of the request only
// the key counts. The answer is PEM: the certificate, then the CA. It is
// ErrTooOften for an agent that asks all the time.
func (ca *CA) IssueAgent(csr []byte, agent fleet.AgentName, life time.Duration) ([]byte, error) {
	if err := ca.pace.check(agent); err != nil {
		return nil, err
	}
	return ca.Issue(csr, Identity{Purpose: Agent, Agent: agent}, life)
}

// IssueControl is IssueAgent for an administrator of the REST API.
func (ca *CA) IssueControl(csr []byte, name string, life time.Duration) ([]byte, error) {
	return ca.Issue(csr, Identity{Purpose: Control, Name: name}, life)
}

// IssueService is IssueAgent for a caller of one service.
func (ca *CA) IssueService(csr []byte, agent fleet.AgentName, typ fleet.ServiceType, name fleet.ServiceName, life time.Duration) ([]byte, error) {
	return ca.Issue(csr, Identity{Purpose: Service, Agent: agent, Type: typ, Name: string(name)}, life)
}

// NewCredential makes a key and its certificate, both PEM, for somebody who
// can't make a request of their own.
func (ca *CA) NewCredential(id Identity, life time.Duration) (cert, key []byte, err error) {
	k, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	if key, err = keyPEM(k); err != nil {
		return nil, nil, err
	}
	cert, err = ca.issue(k.Public(), id, life, x509.ExtKeyUsageClientAuth, nil)
	return cert, key, err
}

// Issue is IssueAgent for any identity.
func (ca *CA) Issue(csr []byte, id Identity, life time.Duration) ([]byte, error) {
	pub, err := csrKey(csr)
	if err != nil {
		return nil, err
	}
	return ca.issue(pub, id, life, x509.ExtKeyUsageClientAuth, nil)
}

func (ca *CA) issue(pub crypto.PublicKey, id Identity, life time.Duration, use x509.ExtKeyUsage, names []string) ([]byte, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	ou, err := json.Marshal(id.endpoint())
	if err != nil {
		return nil, err
	}
	now := time.Now()
	cn := id.Name
	if cn == "" {
		cn = string(id.Agent)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: cn, Organization: []string{"Reeve"}, OrganizationalUnit: []string{string(ou)}},
		NotBefore:    now.Add(-skew),
		NotAfter:     now.Add(life),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{use},
		URIs:         []*url.URL{id.uri()},
	}
	if tmpl.NotAfter.After(ca.cert.NotAfter) {
		tmpl.NotAfter = ca.cert.NotAfter
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, pub, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", id, err)
	}
	return append(certPEM(der), ca.CertPEM()...), nil
}

// maxCSR is far above what a request with any sane key needs.
const maxCSR = 16 << 10

// csrKey verifies that the sender of a request holds its key.
func csrKey(csr []byte) (crypto.PublicKey, error) {
	if len(csr) > maxCSR {
		return nil, fmt.Errorf("certificate request: %w: %d bytes are more than the %d allowed", ErrMalformed, len(csr), maxCSR)
	}
	block, _ := pem.Decode(csr)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, fmt.Errorf("certificate request: %w: not a PEM block CERTIFICATE REQUEST", ErrMalformed)
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w: %w", ErrMalformed, err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w: its signature is wrong", ErrMalformed)
	}
	key, ok := req.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("certificate request: %w: the key must be ECDSA P-256", ErrMalformed)
	}
	return key, nil
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func newCSR(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f // RFC 5280: positive
	return new(big.Int).SetBytes(b[:])
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parseKey reads the first private key of data: PKCS #8, or SEC 1 as Birger's
// make-ca and openssl write it.
func parseKey(data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "PRIVATE KEY":
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if s, ok := key.(crypto.Signer); ok && err == nil {
				return s, nil
			}
		case "EC PRIVATE KEY":
			if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
				return key, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: no private key in PEM form", ErrMalformed)
}

// parseChain reads every certificate of data; there is at least one.
func parseChain(data []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w: %w", ErrMalformed, err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%w: no certificate in PEM form", ErrMalformed)
	}
	return chain, nil
}

func samePublicKey(pub crypto.PublicKey, key crypto.Signer) bool {
	k, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(pub)
}

var lower32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func pinOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return lower32.EncodeToString(sum[:])
}

func keyFingerprint(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("encode a public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return lower32.EncodeToString(sum[:]), nil
}

// writeFile puts data under path, mode 0600, so that a crash leaves either
// the old file or the new one.
func writeFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
