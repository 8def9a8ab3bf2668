package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/pki"
)

// TestClient_errors has everything go wrong that can between a command and a
// hub: each error says what, and what to do next.
func TestClient_errors(t *testing.T) {
	dir := t.TempDir()
	answer := func(status int, header, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/openapi.json" {
				io.WriteString(w, `{"info":{"version":"0.9.0"}}`)
				return
			}
			kind := "application/problem+json"
			if strings.HasPrefix(body, "<") {
				kind = "text/html"
			}
			w.Header().Set("Content-Type", kind)
			if name, value, ok := strings.Cut(header, ": "); ok {
				w.Header().Set(name, value)
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	ca := func(s *httptest.Server) string { return certificate(t, s) }
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		args   []string
		says   []string
	}{
		"401":                  {answer(401, "", `{"status":401,"detail":"token x: it was revoked"}`), []string{"get", "agents"}, []string{"the hub answered 401: token x: it was revoked; ", "reeve token create"}},
		"403":                  {answer(403, "", `{"status":403,"detail":"this needs the role admin"}`), []string{"token", "list"}, []string{"answered 403: this needs the role admin; ", "--role ROLE"}},
		"404":                  {answer(404, "", `{"status":404,"detail":"no such scan"}`), []string{"get", "scans", "1"}, []string{"answered 404: no such scan; reeve get scans lists"}},
		"404 that lists":       {answer(404, "", `{"status":404,"detail":"no such threshold; there are: strict"}`), []string{"get", "thresholds", "1"}, []string{"there are: strict\n"}},
		"a path it hasn't":     {answer(404, "", `{"status":404,"detail":"there is nothing at this path; /openapi.json lists what there is"}`), []string{"get", "agents"}, []string{"of version 0.9.0, and this reeve of"}},
		"a member it hasn't":   {answer(422, "", `{"status":422,"detail":"validation failed","errors":[{"message":"unexpected property","location":"body.x"}]}`), []string{"login"}, []string{"x: unexpected property; ", "of version 0.9.0"}},
		"409":                  {answer(409, "", `{"status":409,"detail":"the alert was delivered"}`), []string{"alerts", "skip", "1"}, []string{"answered 409: the alert was delivered\n"}},
		"412":                  {answer(412, "", `{"status":412,"detail":"it changed"}`), []string{"alerts", "skip", "1"}, []string{"read it again, and repeat"}},
		"429":                  {answer(429, "Retry-After: 5", `{"status":429,"detail":"too many wait"}`), []string{"get", "agents"}, []string{"too many wait; try again in 5s"}},
		"503":                  {answer(503, "", `{"status":503,"detail":"not ready"}`), []string{"get", "agents"}, []string{"not ready; try again later; /readyz"}},
		"a hostile answer":     {answer(500, "", `{"status":500,"detail":"\u001b]0;x\u0007no","errors":[{"message":"\u001b[2J","location":"\u001b[1m"}]}`), []string{"get", "agents"}, []string{"the hub answered 500: "}},
		"a proxy's page":       {answer(502, "", "<html>\x1b[2J</html>"), []string{"get", "agents"}, []string{"isn't a hub's (502 Bad Gateway): a page for browsers; is https://", "reeve doctor --hub"}},
		"a page that is good":  {answer(200, "", "<html></html>"), []string{"get", "agents"}, []string{"isn't a hub's (200 OK)"}},
		"text":                 {answer(404, "", "404 page \x1bnot found"), []string{"get", "agents"}, []string{"isn't a hub's (404 Not Found): 404 page  not found; "}},
		"JSON of another kind": {answer(200, "", `[1]`), []string{"get", "agents"}, []string{"the hub's answer: json: "}},
		"it breaks off":        {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, []string{"alerts", "skip", "1"}, []string{"see whether it was done before you repeat it"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(tc.answer)
			s.StartTLS()
			t.Cleanup(s.Close)
			fails(t, append(tc.args, "--hub", s.URL, "--ca", ca(s)), tc.says)
		})
	}

	hub := httptest.NewTLSServer(answer(200, "", `{"items":[]}`))
	t.Cleanup(hub.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	quiet := log.New(io.Discard, "", 0)
	hub.Config.ErrorLog = quiet
	_, err = pki.Init(filepath.Join(dir, "ours"), "ours")
	if err != nil {
		t.Fatal(err)
	}
	demanding := httptest.NewUnstartedServer(answer(200, "", `{"items":[]}`))
	demanding.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS13}
	demanding.Config.ErrorLog = quiet
	demanding.StartTLS()
	t.Cleanup(demanding.Close)
	_, port, _ := net.SplitHostPort(hub.Listener.Addr().String())
	other := filepath.Join(dir, "ours", "ca.pem")
	for name, tc := range map[string]struct {
		args []string
		says []string
	}{
		"another CA":        {[]string{"--hub", hub.URL, "--ca", other}, []string{"unknown authority; give the hub's CA by --ca or REEVE_CA"}},
		"another name":      {[]string{"--hub", "https://localhost:" + port, "--ca", ca(hub)}, []string{"add localhost to names in the hub's configuration"}},
		"no TLS":            {[]string{"--hub", strings.Replace(plain.URL, "http:", "https:", 1), "--ca", ca(hub)}, []string{"speaks no TLS: is it the hub's API port"}},
		"nobody listens":    {[]string{"--hub", "https://" + closed.Addr().String(), "--ca", ca(hub)}, []string{"is the hub running"}},
		"a password":        {[]string{"--hub", "https://me:reeve_x_y@127.0.0.1:1", "--ca", ca(hub)}, []string{"without a user or a password"}},
		"no such name":      {[]string{"--hub", "https://nowhere.invalid:8443", "--ca", ca(hub)}, []string{"is the name right? reeve doctor --hub https://nowhere.invalid:8443"}},
		"the wrong control": {[]string{"--hub", demanding.URL, "--ca", ca(demanding), "--cert", filepath.Join(dir, "ours", "control.pem"), "--key", filepath.Join(dir, "ours", "control-key.pem")}, []string{"the hub refuses the certificate of --cert", "reeve ca issue --purpose control"}},
	} {
		t.Run(name, func(t *testing.T) { fails(t, append([]string{"get", "agents"}, tc.args...), tc.says) })
	}
	t.Run("a certificate that is over", func(t *testing.T) {
		old := httptest.NewUnstartedServer(answer(200, "", `{"items":[]}`))
		pair := overSince(t, time.Now().Add(-time.Hour))
		old.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
		old.Config.ErrorLog = log.New(io.Discard, "", 0)
		old.StartTLS()
		t.Cleanup(old.Close)
		fails(t, []string{"get", "agents", "--hub", old.URL, "--ca", ca(old)}, []string{"set this machine's clock; if it is right, restart the hub"})
	})
}

// certificate is a file with the one of a server.
func certificate(t *testing.T, s *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(path, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// overSince is a certificate of 127.0.0.1 that was good until then.
func overSince(t *testing.T, then time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: then.Add(-time.Hour), NotAfter: then, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, text, text, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// fails runs a command that can't be done.
func fails(t *testing.T, args, says []string) {
	t.Helper()
	t.Setenv("REEVE_TOKEN", "reeve_x_y")
	var out, errs strings.Builder
	if code := run(t.Context(), args, nil, &out, &errs); code != exitBroken {
		t.Errorf("exit code %d", code)
	}
	for _, text := range says {
		if !strings.Contains(errs.String(), text) {
			t.Errorf("it doesn't say %q: %s", text, errs.String())
		}
	}
	if strings.Contains(errs.String(), "\x1b") || strings.Contains(errs.String(), "reeve_x_y") {
		t.Errorf("it shows what it mustn't: %q", errs.String())
	}
}
