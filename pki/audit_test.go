package pki_test

import (
	"crypto/x509"
	"encoding/pem"
	"testing"

	"reeve.dev/reeve/pki"
)

func TestCA_SignAudit(t *testing.T) {
	certificate := func(ca *pki.CA) *x509.Certificate {
		block, _ := pem.Decode(ca.CertPEM())
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	ca, err := pki.NewCA("one")
	if err != nil {
		t.Fatal(err)
	}
	other, err := pki.NewCA("other")
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("reeve audit anchor 1\n…")
	signature, err := ca.SignAudit(message)
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.VerifyAudit(certificate(ca), message, signature); err != nil {
		t.Error(err)
	}
	if pki.VerifyAudit(certificate(other), message, signature) == nil {
		t.Error("another CA's is taken")
	}
	if pki.VerifyAudit(certificate(ca), append(message, 'x'), signature) == nil {
		t.Error("another message is taken")
	}
	if _, err := ca.SignAudit([]byte("0\x82")); err == nil {
		t.Error("it signs anything")
	}
}
