package amqp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"reeve.dev/reeve/insight/amqp/amqptest"
)

// pems are the files of a CA, a server's certificate and a client's.
type pems struct {
	server    amqptest.TLS
	cert, key string
}

func certificates(t *testing.T) pems {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	issue := func(name string, use x509.ExtKeyUsage) (cert, key string) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{use},
			BasicConstraintsValid: true, IsCA: ca == nil,
		}
		if ca == nil {
			ca, caKey = template, private
			template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageCertSign, nil
		}
		der, err := x509.CreateCertificate(rand.Reader, template, ca, &private.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		return write(name+".pem", "CERTIFICATE", der), write(name+".key", "PRIVATE KEY", pkcs8)
	}
	var p pems
	p.server.CA, _ = issue("ca", 0)
	p.server.Cert, p.server.Key = issue("localhost", x509.ExtKeyUsageServerAuth)
	p.cert, p.key = issue("client", x509.ExtKeyUsageClientAuth)
	return p
}
