package sign_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/secure-systems-lab/go-securesystemslib/signerverifier"

	"reeve.dev/reeve/alert/sign"
	"reeve.dev/reeve/alert/verify"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
)

var quiet = slog.New(slog.DiscardHandler)

func open(t *testing.T) *store.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "reeve.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newCA(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func ring(t *testing.T, s *store.Store, ca *pki.CA) *sign.Ring {
	t.Helper()
	r, err := sign.Open(t.Context(), s, ca, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// published are the keys as a receiver gets them.
func published(t *testing.T, r *sign.Ring) verify.Keys {
	t.Helper()
	text, err := r.KeySet(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := verify.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

const audience = "sink.example.com:443"

func envelope(t *testing.T, r *sign.Ring, request string) string {
	t.Helper()
	text, err := r.Envelope(t.Context(), verify.Statement{ID: "3f2a", Seq: 7, Timestamp: time.Now(), Audience: audience}, []byte(request))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRing(t *testing.T) {
	s, ca := open(t), newCA(t)
	r := ring(t, s, ca)
	good := envelope(t, r, "request")
	v := verify.Verifier{Keys: published(t, r), Audience: audience}
	got, err := v.Alert(good, []byte("request"))
	if err != nil || got.ID != "3f2a" || got.Seq != 7 {
		t.Fatalf("%+v, %v", got, err)
	}
	if again := ring(t, s, ca); len(published(t, again)) != 1 {
		t.Error("another hub on the database made a key of its own")
	}

	changed := func(f func(*verify.Envelope)) string {
		var e verify.Envelope
		if err := json.Unmarshal([]byte(good), &e); err != nil {
			t.Fatal(err)
		}
		f(&e)
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	elsewhere, later := v, v
	elsewhere.Audience = "another:443"
	later.Now = func() time.Time { return time.Now().Add(verify.Tolerance + time.Minute) }
	other := v
	other.Keys = published(t, ring(t, open(t), newCA(t)))
	for name, tc := range map[string]struct {
		v                 verify.Verifier
		envelope, request string
		want              error
	}{
		"another request":  {v, good, "request!", verify.ErrOther},
		"another audience": {elsewhere, good, "request", verify.ErrOther},
		"too late":         {later, good, "request", verify.ErrTime},
		"another hub":      {other, good, "request", verify.ErrSignature},
		"no signature":     {v, "", "request", verify.ErrUnsigned},
		"no envelope":      {v, "{", "request", verify.ErrUnsigned},
		"endless":          {v, good + strings.Repeat(" ", 1<<20), "request", verify.ErrUnsigned},
		"unsigned":         {v, changed(func(e *verify.Envelope) { e.Signatures = nil }), "request", verify.ErrSignature},
		"changed payload": {v, changed(func(e *verify.Envelope) {
			e.Payload = []byte(strings.Replace(string(e.Payload), `"seq":7`, `"seq":8`, 1))
		}), "request", verify.ErrSignature},
		"changed signature": {v, changed(func(e *verify.Envelope) { e.Signatures[0].Sig[0] ^= 1 }), "request", verify.ErrSignature},
		"another type":      {v, changed(func(e *verify.Envelope) { e.PayloadType = "text/plain" }), "request", verify.ErrOther},
	} {
		if _, err := tc.v.Alert(tc.envelope, []byte(tc.request)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

// A verifier that isn't ours takes the envelope, too.
func TestRing_Envelope_isDSSE(t *testing.T) {
	r := ring(t, open(t), newCA(t))
	var e dsse.Envelope
	if err := json.Unmarshal([]byte(envelope(t, r, "request")), &e); err != nil {
		t.Fatal(err)
	}
	for id, key := range published(t, r) {
		foreign, err := signerverifier.NewED25519SignerVerifierFromSSLibKey(&signerverifier.SSLibKey{
			KeyType: "ed25519", Scheme: "ed25519", KeyID: id, KeyVal: signerverifier.KeyVal{Public: hexOf(key)},
		})
		if err != nil {
			t.Fatal(err)
		}
		v, err := dsse.NewEnvelopeVerifier(foreign)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(t.Context(), &e); err != nil {
			t.Error(err)
		}
	}
}

// While a key is replaced both sign: who knows either one is content.
func TestRing_Rotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ca := open(t), newCA(t)
		r, replica := ring(t, s, ca), ring(t, s, ca)
		known := verify.Verifier{Keys: published(t, r), Audience: audience}
		if err := r.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		both := published(t, r)
		if len(both) != 2 {
			t.Fatalf("%d keys", len(both))
		}
		if err := r.Rotate(t.Context()); !errors.Is(err, sign.ErrRotating) {
			t.Errorf("a third key: %v", err)
		}
		fresh := verify.Verifier{Keys: verify.Keys{}, Audience: audience}
		for id, key := range both {
			if known.Keys[id] == nil {
				fresh.Keys[id] = key
			}
		}
		check := func(name string, r *sign.Ring, v verify.Verifier, want error) {
			t.Helper()
			if _, err := v.Alert(envelope(t, r, "x"), []byte("x")); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		check("the old key", r, known, nil)
		check("the new key", r, fresh, nil)
		check("another replica, which doesn't know yet", replica, fresh, verify.ErrSignature)
		time.Sleep(2 * time.Minute)
		check("another replica, a while later", replica, fresh, nil)
		time.Sleep(sign.Overlap)
		check("the old key, once it has ended", r, known, verify.ErrSignature)
		check("the new key then", replica, fresh, nil)
		for id := range fresh.Keys {
			if err := r.End(t.Context(), id); !errors.Is(err, sign.ErrNoKey) {
				t.Errorf("end the only key: %v", err)
			}
			if err := r.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := r.End(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			check("a key that was ended", r, fresh, verify.ErrSignature)
		}
	})
}

func TestRing_Webhook(t *testing.T) {
	r := ring(t, open(t), newCA(t))
	at := "1795334400"
	const body = `{"a":1,"audience":"hook"}`
	text, err := r.Webhook(t.Context(), "3f2a", at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	v := verify.Verifier{Keys: published(t, r), Audience: "hook", Now: func() time.Time { return time.Unix(1795334400, 0) }}
	header := func(id, at, signature string) http.Header {
		return http.Header{"Webhook-Id": {id}, "Webhook-Timestamp": {at}, "Webhook-Signature": {signature}}
	}
	if got, err := v.Webhook(header("3f2a", at, "v1,aGk= "+text), []byte(body)); err != nil || got.ID != "3f2a" || got.Audience != "hook" {
		t.Errorf("%+v, %v", got, err)
	}
	for name, tc := range map[string]struct {
		header http.Header
		body   string
		want   error
	}{
		"another body": {header("3f2a", at, text), `{"a":2,"audience":"hook"}`, verify.ErrSignature},
		"another id":   {header("3f2b", at, text), body, verify.ErrSignature},
		"another time": {header("3f2a", "1795334401", text), body, verify.ErrSignature},
		"no signature": {header("3f2a", at, "v1,aGk="), body, verify.ErrUnsigned},
		"no time":      {header("3f2a", "now", text), body, verify.ErrUnsigned},
	} {
		if _, err := v.Webhook(tc.header, []byte(tc.body)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	v.Audience = "another"
	if got, err := v.Webhook(header("3f2a", at, text), []byte(body)); !errors.Is(err, verify.ErrOther) {
		t.Errorf("by another receiver: %+v, %v", got, err)
	}
	v.Audience, v.Now = "hook", func() time.Time { return time.Unix(1795334400, 0).Add(time.Hour) }
	if _, err := v.Webhook(header("3f2a", at, text), []byte(body)); !errors.Is(err, verify.ErrTime) {
		t.Errorf("an old one: %v", err)
	}
}

// A hub whose CA was replaced makes a key of its own, and doesn't end those
// that it can't open: it may be the one that has the wrong CA.
func TestOpen_ofAnotherCA(t *testing.T) {
	s, ca, replaced := open(t), newCA(t), newCA(t)
	r := ring(t, s, ca)
	before := verify.Verifier{Keys: published(t, r), Audience: audience}
	ours := ring(t, s, replaced)
	if n := len(published(t, ring(t, s, replaced))); n != 2 {
		t.Fatalf("%d keys", n)
	}
	after := verify.Verifier{Keys: published(t, ours), Audience: audience}
	text := envelope(t, ours, "x")
	if _, err := after.Alert(text, []byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := before.Alert(text, []byte("x")); !errors.Is(err, verify.ErrSignature) {
		t.Errorf("by the key of the CA before: %v", err)
	}
	if _, err := before.Alert(envelope(t, ring(t, s, ca), "x"), []byte("x")); err != nil {
		t.Errorf("a hub that has the CA before: %v", err)
	}
	for id := range before.Keys {
		if err := ours.End(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if err := ours.Rotate(t.Context()); err != nil {
		t.Error(err)
	}
}

func hexOf(b []byte) string { return fmt.Sprintf("%x", b) }
