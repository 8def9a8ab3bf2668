package release

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// Where what a release consists of comes from: https://in-toto.io/Statement/v1
// with the predicate https://slsa.dev/provenance/v1.
type (
	statement struct {
		Type          string    `json:"_type"`
		Subject       []subject `json:"subject"`
		PredicateType string    `json:"predicateType"`
		Predicate     predicate `json:"predicate"`
	}
	subject struct {
		Name   string            `json:"name,omitempty"`
		URI    string            `json:"uri,omitempty"`
		Digest map[string]string `json:"digest,omitempty"`
	}
	predicate struct {
		BuildDefinition struct {
			BuildType            string            `json:"buildType"`
			ExternalParameters   map[string]string `json:"externalParameters"`
			ResolvedDependencies []subject         `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
		RunDetails struct {
			Builder struct {
				ID string `json:"id"`
			} `json:"builder"`
		} `json:"runDetails"`
	}
)

const payloadType = "application/vnd.in-toto+json"

// provenance says that the files came of this source by `make release`. It
// leaves out when, so that it is the same each time.
func (r Release) provenance(files []subject, goVersion string, goSum []byte) ([]byte, error) {
	s := statement{Type: "https://in-toto.io/Statement/v1", Subject: files, PredicateType: "https://slsa.dev/provenance/v1"}
	b := &s.Predicate.BuildDefinition
	b.BuildType = "https://reeve.dev/release/v1"
	b.ExternalParameters = map[string]string{"version": r.Version, "registry": r.Registry}
	sum := sha256.Sum256(goSum)
	b.ResolvedDependencies = []subject{
		{URI: "pkg:golang/stdlib@" + goVersion},
		{Name: "go.sum", Digest: map[string]string{"sha256": hex.EncodeToString(sum[:])}},
	}
	if r.Revision != "" {
		b.ResolvedDependencies = append(b.ResolvedDependencies, subject{URI: "git+https://reeve.dev/reeve", Digest: map[string]string{"gitCommit": r.Revision}})
	}
	s.Predicate.RunDetails.Builder.ID = r.Builder
	return json.MarshalIndent(s, "", "  ")
}

// sign puts a statement into an envelope (https://github.com/secure-systems-lab/dsse)
// that is signed by the Ed25519 key in a PEM file.
func sign(ctx context.Context, payload []byte, keyFile string) ([]byte, error) {
	key, err := readKey(keyFile)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", keyFile, err)
	}
	signer, err := dsse.NewEnvelopeSigner(signer(key))
	if err != nil {
		return nil, err
	}
	e, err := signer.SignPayload(ctx, payloadType, payload)
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(e, "", "  ")
}

type signer ed25519.PrivateKey

func (s signer) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.PrivateKey(s).Sign(nil, data, crypto.Hash(0))
}

// KeyID is the hash of the public key, as DER has it.
func (s signer) KeyID() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(ed25519.PrivateKey(s).Public())
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

func readKey(path string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it has no PEM; openssl genpkey -algorithm ed25519 makes one")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it is a %T; it must be Ed25519", key)
	}
	return private, nil
}
