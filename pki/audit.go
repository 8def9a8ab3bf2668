package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
)

// What the CA's key signs beside certificates begins with a text that no
// certificate begins with.
const auditPrefix = "reeve audit"

// SignAudit signs an anchor of the audit log, whose message begins with
// "reeve audit", with the CA's key.
func (ca *CA) SignAudit(message []byte) ([]byte, error) {
	if len(message) < len(auditPrefix) || string(message[:len(auditPrefix)]) != auditPrefix {
		return nil, errors.New("sign: not an anchor of the audit log")
	}
	if _, ok := ca.key.(ed25519.PrivateKey); ok {
		return ca.key.Sign(rand.Reader, message, crypto.Hash(0))
	}
	sum := sha256.Sum256(message)
	return ca.key.Sign(rand.Reader, sum[:], crypto.SHA256)
}

// VerifyAudit checks a signature of SignAudit against the CA's certificate.
func VerifyAudit(ca *x509.Certificate, message, signature []byte) error {
	algorithm := x509.UnknownSignatureAlgorithm
	switch ca.PublicKey.(type) {
	case *ecdsa.PublicKey:
		algorithm = x509.ECDSAWithSHA256
	case ed25519.PublicKey:
		algorithm = x509.PureEd25519
	case *rsa.PublicKey:
		algorithm = x509.SHA256WithRSA
	}
	if err := ca.CheckSignature(algorithm, message, signature); err != nil {
		return fmt.Errorf("it isn't by the CA %q: %w", ca.Subject.CommonName, err)
	}
	return nil
}
