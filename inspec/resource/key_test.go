package resource_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeys(t *testing.T) {
	dir := root(t)
	write := func(name, kind string, headers map[string]string, der []byte) {
		t.Helper()
		block := pem.EncodeToMemory(&pem.Block{Type: kind, Headers: headers, Bytes: der})
		if err := os.WriteFile(filepath.Join(dir, "etc", name), block, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	elliptic, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 old keys are what the resource is asked of
	old, err := x509.EncryptPEMBlock(rand.Reader, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), []byte("secret"), x509.PEMCipherAES256)
	if err != nil {
		t.Fatal(err)
	}
	write("key.pem", "PRIVATE KEY", nil, pkcs8)
	write("public.pem", "PUBLIC KEY", nil, public)
	write("elliptic.pem", "PRIVATE KEY", nil, elliptic)
	write("old.pem", old.Type, old.Headers, old.Bytes)
	write("new.pem", "ENCRYPTED PRIVATE KEY", nil, []byte{0x30, 0})
	dh := func(p, g int64) []byte {
		der, err := asn1.Marshal(struct{ P, G *big.Int }{big.NewInt(p), big.NewInt(g)})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	write("safe.pem", "DH PARAMETERS", nil, dh(2039, 7))     // 1019 is prime, too
	write("unsafe.pem", "DH PARAMETERS", nil, dh(2053, 2))   // 1026 isn't
	write("composed.pem", "DH PARAMETERS", nil, dh(2041, 2)) // 13 · 157

	w := newWorld(t, "dir:"+dir)
	for src, want := range map[string]string{
		"inspec.key_rsa('/etc/key.pem').private?":                                       "true",
		"inspec.key_rsa('/etc/key.pem').public?":                                        "true",
		"inspec.key_rsa('/etc/key.pem').key_length":                                     "2048",
		"inspec.key_rsa('/etc/key.pem').private_key.lines.first":                        `"-----BEGIN RSA PRIVATE KEY-----\n"`,
		"inspec.key_rsa('/etc/key.pem').public_key.lines.first":                         `"-----BEGIN PUBLIC KEY-----\n"`,
		"inspec.key_rsa('/etc/public.pem').private?":                                    "false",
		"inspec.key_rsa('/etc/public.pem').key_length":                                  "2048",
		"inspec.key_rsa('/etc/old.pem', 'secret').private?":                             "true",
		"inspec.key_rsa('/etc/old.pem', 'wrong').resource_exception_message":            `"passphrase error"`,
		"inspec.key_rsa('/etc/old.pem').resource_exception_message":                     `"passphrase error"`,
		"inspec.key_rsa('/etc/elliptic.pem').resource_exception_message":                `"this isn't an RSA key"`,
		"inspec.key_rsa('/etc/new.pem').resource_exception_message[0, 30]":              `"the key is encrypted as PKCS#8"`,
		"inspec.dh_params('/etc/safe.pem').valid?":                                      "true",
		"inspec.dh_params('/etc/safe.pem').generator":                                   "7",
		"inspec.dh_params('/etc/safe.pem').prime_length":                                "11",
		"inspec.dh_params('/etc/safe.pem').modulus":                                     `"00:07:f7"`,
		"inspec.dh_params('/etc/safe.pem').pem == inspec.file('/etc/safe.pem').content": "true",
		"inspec.dh_params('/etc/unsafe.pem').valid?":                                    "false",
		"inspec.dh_params('/etc/composed.pem').valid?":                                  "false",
		"inspec.dh_params('/etc/safe.pem').to_s":                                        `"dh_params /etc/safe.pem"`,
	} {
		if got := w.says(t, src); !strings.EqualFold(got, want) {
			t.Errorf("%s gives %s, want %s", src, got, want)
		}
	}
}
