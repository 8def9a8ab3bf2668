package hub

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"reeve.dev/reeve/pki"
)

// A link lives as long as the agent's newest certificate, so that what is
// forwarded by it isn't cut once a day.
func TestLinks_renew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, err := pki.NewCA("test")
		if err != nil {
			t.Fatal(err)
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		ended := false
		l := &link{agent: "a", end: time.AfterFunc(time.Hour, func() { ended = true })}
		ls := &links{ca: ca, life: 24 * time.Hour, log: slog.New(slog.DiscardHandler)}

		time.Sleep(50 * time.Minute)
		w := httptest.NewRecorder()
		body := bytes.NewReader(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
		ls.renew(w, httptest.NewRequest("POST", "/v1/renew", body), l)
		if w.Code != 200 {
			t.Fatalf("renew: %d %s", w.Code, w.Body)
		}
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		if ended {
			t.Error("the link ended with the certificate that was renewed")
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if !ended {
			t.Error("the link outlives the agent's newest certificate")
		}
	})
}
