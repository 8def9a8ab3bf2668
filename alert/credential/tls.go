package credential

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLS says whom to trust as the receiver, and who we are to it. The files are
// read again for each connection, so that they can be renewed in place.
type TLS struct {
	// CAFile holds the PEM certificates that the receiver's is verified with;
	// empty means the system's.
	CAFile string
	// CertFile and KeyFile are the PEM client certificate and its key, if the
	// receiver wants one.
	CertFile, KeyFile string
	// MinVersion is that of TLS; 0 means 1.3.
	MinVersion uint16
}

// Validate reports what is wrong with t, without reading the files.
func (t TLS) Validate() error {
	if (t.CertFile == "") != (t.KeyFile == "") {
		return errors.New("certFile and keyFile: give both or neither")
	}
	return nil
}

// Config reads the files.
func (t TLS) Config() (*tls.Config, error) {
	out := &tls.Config{MinVersion: t.MinVersion}
	if out.MinVersion == 0 {
		out.MinVersion = tls.VersionTLS13
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("caFile: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("caFile: %s holds no PEM certificate", t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("certFile, keyFile: %w", err)
		}
		out.Certificates = []tls.Certificate{cert}
	}
	return out, nil
}
