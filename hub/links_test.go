package hub

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/store/sqlite"
)

var quiet = slog.New(slog.DiscardHandler)

// A link that goes down while it registers isn't in the table afterwards:
// nothing would ever take it out.
func TestLinks_register_of_a_link_that_went_down(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l := &link{agent: "a"}
	ls := &links{store: db, log: quiet}
	ls.release = func(context.Context, fleet.AgentName, fleet.InstanceID, []string) error {
		ls.drop(l)
		return nil
	}
	if err := ls.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	ls.register(w, httptest.NewRequest("POST", "/v1/register", strings.NewReader(`{"agent":"a","instance":"i"}`)), l)
	if w.Code != 200 {
		t.Fatalf("register: %d %s", w.Code, w.Body)
	}
	if ls.connected("a") {
		t.Error("the link is in the table although it is down")
	}
}

// Whoever has an agent's key can't fill the hub by registering under ever new
// names.
func TestLinks_register_all_the_time(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ls := &links{store: db, log: quiet, release: func(context.Context, fleet.AgentName, fleet.InstanceID, []string) error { return nil }}
	if err := ls.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	register := func(agent string, i int) int {
		w := httptest.NewRecorder()
		body := fmt.Sprintf(`{"agent":%q,"instance":"i%d"}`, agent, i)
		l := &link{agent: fleet.AgentName(agent), over: true}
		ls.register(w, httptest.NewRequest("POST", "/v1/register", strings.NewReader(body)), l)
		return w.Code
	}
	times := 0
	for status := 200; status == 200 && times < 10*maxLinks; times++ {
		if status = register("a", times); status != 200 && status != 429 {
			t.Fatalf("%d: %d", times, status)
		}
	}
	if times <= maxLinks || times == 10*maxLinks {
		t.Errorf("it could register %d times", times)
	}
	if status := register("b", 0); status != 200 {
		t.Errorf("another agent: %d", status)
	}
}

func TestLinks_begin(t *testing.T) {
	ls := &links{open: map[fleet.AgentName]map[*link]bool{}}
	ls.stopped, ls.stop = context.WithCancel(t.Context())
	begin := func(agent fleet.AgentName) error { return ls.begin(&link{agent: agent}) }
	first := &link{agent: "a"}
	if err := ls.begin(first); err != nil {
		t.Fatal(err)
	}
	for range maxLinks - 1 {
		if err := begin("a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := begin("a"); !errors.Is(err, errTooMany) {
		t.Errorf("one link too many: %v", err)
	}
	if err := begin("b"); err != nil {
		t.Errorf("another agent: %v", err)
	}
	ls.done(first)
	if err := begin("a"); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
	ls.end()
	if err := begin("c"); !errors.Is(err, errStopping) {
		t.Errorf("a hub that stops: %v", err)
	}
}

// noList is a list of revocations that are in memory alone.
type noList struct{}

func (noList) Revoke(context.Context, pki.Revocation) error { return nil }

func (noList) Revocations(context.Context, time.Time) ([]pki.Revocation, error) { return nil, nil }

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
		var ended, cut atomic.Bool
		l := &link{agent: "a", end: time.AfterFunc(time.Hour, func() { ended.Store(true) }), cut: func(error) { cut.Store(true) }}
		ls := &links{ca: ca, life: 24 * time.Hour, log: quiet}

		time.Sleep(50 * time.Minute)
		w := httptest.NewRecorder()
		request := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		ls.renew(w, httptest.NewRequest("POST", "/v1/renew", bytes.NewReader(request)), l)
		if w.Code != 200 {
			t.Fatalf("renew: %d %s", w.Code, w.Body)
		}
		newest, err := pki.CredentialIn(w.Body.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		if ended.Load() || cut.Load() {
			t.Error("the link ended with the certificate that was renewed")
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if !ended.Load() {
			t.Error("the link outlives the agent's newest certificate")
		}
		if _, err := ca.Revocations().Revoke(t.Context(), noList{}, pki.Revocation{Kind: newest.Kind, ID: newest.ID}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !cut.Load() {
			t.Error("the link goes on with a certificate that was revoked")
		}
		w = httptest.NewRecorder()
		l.held = newest
		ls.renew(w, httptest.NewRequest("POST", "/v1/renew", bytes.NewReader(request)), l)
		if w.Code != 403 {
			t.Errorf("another certificate: %d %s", w.Code, w.Body)
		}
	})
}
