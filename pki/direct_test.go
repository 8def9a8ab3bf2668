package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// expired is an agent whose certificate ended two minutes ago.
func expired(t *testing.T, ca *CA, dir string) *Enroller {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := newCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.IssueAgent(csr, "east", -2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := save(dir, key, chain, ca.Pin(), "east"); err != nil {
		t.Fatal(err)
	}
	e, err := Load(dir)
	if !errors.Is(err, ErrExpired) || e == nil {
		t.Fatalf("Load of an expired identity: %v, %v", e, err)
	}
	return e
}

func renewing(ca *CA, grace time.Duration) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(RenewPath, ca.RenewHandler(ca.Peers(), AgentLife, grace, slog.New(slog.DiscardHandler)))
	return mux
}

func TestEnroller_Direct(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	for name, tc := range map[string]struct {
		hub   *CA
		grace time.Duration
		want  error
		says  string
	}{
		"within the grace": {ca, time.Hour, nil, ""},
		"too late":         {ca, time.Minute, ErrExpired, "expired on"},
		"another hub":      {other, time.Hour, ErrForeign, "isn't from the CA"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			e := expired(t, ca, dir)
			err := e.Renew(t.Context(), e.Direct(serve(t, tc.hub, renewing(tc.hub, tc.grace))))
			if !errors.Is(err, tc.want) || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("%v; want %v, saying %q", err, tc.want, tc.says)
			}
			if _, err := Load(dir); (err == nil) != (tc.want == nil) {
				t.Errorf("Load afterwards: %v", err)
			}
		})
	}
}

func TestCA_RenewHandler_needsAnAgent(t *testing.T) {
	ca := newCA(t)
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := newCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	body := `{"csr":"` + strings.ReplaceAll(string(csr), "\n", `\n`) + `"}`
	control, _, err := ca.NewCredential(Identity{Purpose: Control, Name: "root"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, state := range map[string]*tls.ConnectionState{
		"nobody":  {},
		"control": {PeerCertificates: []*x509.Certificate{parse(t, control)}},
	} {
		rec := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodPost, RenewPath, strings.NewReader(body))
		req.TLS = state
		renewing(ca, time.Hour).ServeHTTP(rec, req)
		if rec.Code != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
}
