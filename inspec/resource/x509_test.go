package resource_test

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
	"strings"
	"testing"
	"time"
)

func TestX509Certificate(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := root(t)
	for name, end := range map[string]time.Duration{"good.pem": time.Hour, "old.pem": -time.Hour} {
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(4096), Subject: pkix.Name{CommonName: "a.example", Organization: []string{"Target"}},
			NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(end), DNSNames: []string{"a.example", "b.example"},
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, SerialNumber: big.NewInt(1)}, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if err := os.WriteFile(filepath.Join(dir, "etc", name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, "dir:"+dir)
	for src, want := range map[string]string{
		"inspec.x509_certificate('/etc/good.pem').valid?":                         "true",
		"inspec.x509_certificate('/etc/old.pem').valid?":                          "false",
		"inspec.x509_certificate('/etc/good.pem').subject.CN":                     `"a.example"`,
		"inspec.x509_certificate('/etc/good.pem').issuer.CN":                      `"ca"`,
		"inspec.x509_certificate('/etc/good.pem').serial":                         "4096",
		"inspec.x509_certificate('/etc/good.pem').key_length":                     "256",
		"inspec.x509_certificate('/etc/good.pem').signature_algorithm":            `"ecdsa-with-SHA256"`,
		"inspec.x509_certificate('/etc/good.pem').extensions.keyUsage":            `["critical", "Digital Signature", "Key Encipherment"]`,
		"inspec.x509_certificate('/etc/good.pem').extensions['extendedKeyUsage']": `["TLS Web Server Authentication"]`,
		"inspec.x509_certificate('/etc/good.pem').subject_alt_names":              `["DNS:a.example", "DNS:b.example"]`,
		"inspec.x509_certificate('/etc/good.pem').extensions.nsComment":           "[]",
		"inspec.x509_certificate('/etc/passwd')":                                  "!PEM_read_bio_X509: no start line",
		"inspec.x509_certificate('/nowhere').resource_exception_message":          `"Can't find file: /nowhere"`,
	} {
		if got := w.says(t, src); got != want {
			t.Errorf("%s:\n got %s\nwant %s", src, got, want)
		}
	}
	if dn := w.says(t, "inspec.x509_certificate('/etc/good.pem').subject_dn"); !strings.Contains(dn, "/CN=a.example") || !strings.Contains(dn, "/O=Target") {
		t.Errorf("subject_dn %s", dn)
	}
}
