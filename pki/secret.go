package pki

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

// Names of the Secrets that Birger's make-ca wrote.
const (
	caSecret      = "ca-secret"
	controlSecret = "oes-control-secret"
)

// Secrets is the CA and a new control credential as two Kubernetes Secrets of
// type kubernetes.io/tls, in YAML. The CA's also holds jwt.key.
func (ca *CA) Secrets() ([]byte, error) {
	files, err := ca.files()
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	secret(&b, caSecret, []field{{"tls.crt", files[caFile]}, {"tls.key", files[caKeyFile]}, {"jwt.key", files[jwtKeyFile]}})
	b.WriteString("---\n")
	secret(&b, controlSecret, []field{{"tls.crt", files[controlFile]}, {"tls.key", files[controlKeyFile]}, {"ca.crt", files[caFile]}})
	return []byte(b.String()), nil
}

type field struct {
	name  string
	value []byte
}

// secret writes one manifest. All of it is fixed text and base64, so that it
// needs no YAML encoder.
func secret(w io.Writer, name string, data []field) {
	fmt.Fprintf(w, "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata:\n  name: %s\ndata:\n", name)
	for _, f := range data {
		fmt.Fprintf(w, "  %s: %s\n", f.name, base64.StdEncoding.EncodeToString(f.value))
	}
}
