package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestLocalTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t)
		asked, away := 0, errors.New("the hub is away")
		var fails error
		cfg := LocalTLS(func(_ context.Context, csr []byte) ([]byte, error) {
			asked++
			if fails != nil {
				return nil, fails
			}
			return ca.IssueLocal(csr, "east", 3*time.Hour)
		})
		call := func(name string) (*x509.Certificate, error) {
			near, far := net.Pipe()
			defer near.Close()
			server := tls.Server(far, cfg)
			go func() { server.Handshake(); server.Close() }()
			client := tls.Client(near, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ca.Pool(), ServerName: name})
			if err := client.Handshake(); err != nil {
				return nil, err
			}
			return client.ConnectionState().PeerCertificates[0], nil
		}
		fails = away
		if _, err := call("localhost"); err == nil {
			t.Error("a handshake without a certificate")
		}
		fails = nil
		cert, err := call("localhost")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := call("127.0.0.1"); err != nil || asked != 2 {
			t.Errorf("%v after asking %d times", err, asked)
		}
		if _, err := call("hub.example.com"); err == nil {
			t.Error("the certificate is good for another name")
		}
		if _, _, err := ca.Peers().Peer(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}); err == nil {
			t.Error("the certificate is good for a carrier")
		}
		time.Sleep(2*time.Hour + time.Minute)
		fails = away
		if _, err := call("localhost"); err != nil || asked != 3 {
			t.Errorf("not renewed, but not ended: %v after asking %d times", err, asked)
		}
		fails = nil
		if _, err := call("localhost"); err != nil || asked != 4 {
			t.Errorf("renewed: %v after asking %d times", err, asked)
		}
	})
}
