package pki

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
)

// Seal encrypts a secret that is kept in the database, so that only who has
// the CA's key can read it. Open needs the same purpose.
func (ca *CA) Seal(purpose string, secret []byte) ([]byte, error) {
	aead, err := ca.sealer(purpose)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, secret, nil), nil
}

// Open decrypts what Seal made of a secret; what another CA made is
// ErrForeign.
func (ca *CA) Open(purpose string, sealed []byte) ([]byte, error) {
	aead, err := ca.sealer(purpose)
	if err != nil {
		return nil, err
	}
	secret, err := aead.Open(nil, nil, sealed, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: it was sealed by another CA", ErrForeign)
	}
	return secret, nil
}

func (ca *CA) sealer(purpose string) (cipher.AEAD, error) {
	der, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return nil, err
	}
	key, err := hkdf.Key(sha256.New, der, nil, "reeve seal "+purpose, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
