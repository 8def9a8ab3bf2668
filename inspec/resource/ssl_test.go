package resource_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
)

// TestSSL greets real servers from this machine.
func TestSSL(t *testing.T) {
	for _, need := range []string{"bash", "timeout", "od"} {
		if _, err := exec.LookPath(need); err != nil {
			t.Skipf("needs %s: apt-get install bash coreutils", need)
		}
	}
	serve := func(cfg *tls.Config) string {
		srv := httptest.NewUnstartedServer(http.NotFoundHandler())
		srv.TLS = cfg
		srv.Config.ErrorLog = nil
		srv.StartTLS()
		t.Cleanup(srv.Close)
		_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	modern := serve(&tls.Config{MinVersion: tls.VersionTLS12})
	old := serve(&tls.Config{
		MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
		CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA},
	})
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	_, plainPort, _ := net.SplitHostPort(plain.Listener.Addr().String())
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, nobody, _ := net.SplitHostPort(closed.Addr().String())
	closed.Close()

	w := newWorld(t, "local:")
	of := func(port string) string { return "inspec.ssl(host: '127.0.0.1', port: " + port + ")" }
	for _, c := range []struct{ src, want string }{
		{of(modern) + ".enabled?", "true"},
		{of(modern) + ".protocols('ssl2').enabled?", "false"},
		{of(modern) + ".protocols('ssl3').enabled?", "false"},
		{of(modern) + ".protocols('tls1.0').enabled?", "false"},
		{of(modern) + ".protocols('tls1.1').enabled?", "false"},
		{of(modern) + ".protocols('tls1.2').enabled?", "true"},
		{of(modern) + ".protocols('tls1.3').enabled?", "true"},
		{of(modern) + ".ciphers(/rc4/i).enabled?", "false"},
		{of(modern) + ".ciphers('TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256').enabled?", "true"},
		{of(old) + ".protocols('tls1.0').enabled?", "true"},
		{of(old) + ".protocols('tls1.1').enabled?", "true"},
		{of(old) + ".protocols('tls1.2').enabled?", "false"},
		{of(old) + ".protocols('tls1.3').enabled?", "false"},
		{of(old) + ".ciphers('TLS_RSA_WITH_AES_256_CBC_SHA').enabled?", "false"},
		{of(old) + ".protocols('tls1.0').handshake", `{"tls1.0"=>{"success"=>true}}`},
		{"inspec.ssl(host: '127.0.0.1', port: " + plainPort + ", timeout: 1).protocols('tls1.2').enabled?", "false"},
		{of(nobody) + ".enabled?", "!Connection error, can't connect to 127.0.0.1:" + nobody + "."},
		{of("8443") + ".to_s", `"SSL/TLS on 127.0.0.1:8443"`},
		{of("8443") + ".protocols.uniq", `["ssl2", "ssl3", "tls1.0", "tls1.1", "tls1.2", "tls1.3"]`},
		{of("8443") + ".ciphers.include?('TLS_RSA_WITH_RC4_128_MD5')", "true"},
	} {
		if got := w.says(t, c.src); got != c.want {
			t.Errorf("%s gives %s, want %s", strings.TrimPrefix(c.src, "inspec."), got, c.want)
		}
	}
}
