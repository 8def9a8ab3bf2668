package pki

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// denyList is a RevocationStore in memory.
type denyList struct {
	mu   sync.Mutex
	list []Revocation
}

func (d *denyList) Revoke(_ context.Context, r Revocation) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, r)
	return nil
}

func (d *denyList) Revocations(_ context.Context, since time.Time) ([]Revocation, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(d.list), func(r Revocation) bool { return r.At.Before(since) }), nil
}

// slowList is a denyList whose first entries take as long as delays says.
type slowList struct {
	denyList
	delays []time.Duration
}

func (s *slowList) Revoke(ctx context.Context, r Revocation) error {
	if len(s.delays) > 0 {
		time.Sleep(s.delays[0])
		s.delays = s.delays[1:]
	}
	return s.denyList.Revoke(ctx, r)
}

// What is issued while the store takes its time to revoke isn't good either.
func TestRevocations_of_a_slow_store(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, east := newCA(t), Identity{Purpose: Agent, Agent: "east"}
		store := &slowList{delays: []time.Duration{3 * time.Second, 2 * time.Second}}
		issued := func() Credential { return Credential{Identity: east, Kind: ByCertificate, ID: "1", Issued: time.Now()} }
		meanwhile := make(chan Credential, 1)
		time.AfterFunc(5*time.Second-time.Millisecond, func() { meanwhile <- issued() })
		r, err := ca.Revocations().Revoke(t.Context(), store, Revocation{Kind: ByIdentity, ID: east.String()})
		if err != nil {
			t.Fatal(err)
		}
		if err := ca.Revocations().Check(<-meanwhile); !errors.Is(err, ErrRevoked) {
			t.Errorf("issued meanwhile: %v", err)
		}
		if newest := store.list[len(store.list)-1]; !newest.At.Equal(r.At) {
			t.Errorf("stored as of %v, told as of %v", newest.At, r.At)
		}
		if err := ca.Revocations().Check(issued()); err != nil {
			t.Errorf("issued afterwards: %v", err)
		}
	})
}

func TestRevocations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, store, ctx := newCA(t), &denyList{}, t.Context()
		peers := ca.Peers()
		wiki := Identity{Purpose: Service, Agent: "east", Type: "x-wiki", Name: "wiki", Holder: "alice"}
		token := func() string {
			text, err := ca.NewServiceToken(wiki, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		shown := func(id Identity) *tls.ConnectionState {
			chain, _, err := ca.NewCredential(id, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{parse(t, chain)}}
		}
		revoke := func(kind RevocationKind, id string) {
			t.Helper()
			if _, err := ca.Revocations().Revoke(ctx, store, Revocation{Kind: kind, ID: id}); err != nil {
				t.Fatal(err)
			}
		}
		one, two := token(), token()
		cert, other := shown(wiki), shown(wiki)
		agent := shown(Identity{Purpose: Agent, Agent: "east"})
		// wants checks who is let in, in the order one, two, cert, other, agent.
		wants := func(when string, want ...bool) {
			t.Helper()
			var got []bool
			for _, text := range []string{one, two} {
				_, err := ca.VerifyServiceToken(text)
				if err != nil && !(errors.Is(err, ErrRevoked) && errors.Is(err, ErrForeign)) {
					t.Errorf("%s: %v", when, err)
				}
				got = append(got, err == nil)
			}
			for _, state := range []*tls.ConnectionState{cert, other, agent} {
				_, err := peers.Credential(state)
				if err != nil && !errors.Is(err, ErrRevoked) {
					t.Errorf("%s: %v", when, err)
				}
				got = append(got, err == nil)
			}
			if !slices.Equal(want, got) {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		wants("at first", true, true, true, true, true)
		c, err := ca.VerifyServiceToken(one)
		if err != nil {
			t.Fatal(err)
		}
		revoke(ByToken, c.ID)
		wants("one token", false, true, true, true, true)
		revoke(ByCertificate, "0x"+cert.PeerCertificates[0].SerialNumber.Text(16))
		wants("one certificate", false, true, false, true, true)
		revoke(ByIdentity, "spiffe://reeve/agent/east")
		wants("an agent", false, true, false, true, false)
		revoke(ByHolder, "alice")
		wants("a person", false, false, false, false, false)
		if _, err := ca.VerifyServiceToken(token()); err != nil {
			t.Errorf("issued afterwards: %v", err)
		}
		if _, _, err := peers.Peer(shown(Identity{Purpose: Agent, Agent: "east"})); err != nil {
			t.Errorf("enrolled afterwards: %v", err)
		}

		// A hub that starts later, or another replica, knows the same.
		ca.revocations = Revocations{}
		if err := ca.Revocations().Load(ctx, store); err != nil {
			t.Fatal(err)
		}
		wants("after a restart", false, false, false, false, false)
	})
}

func TestRevocations_Watch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &denyList{}
		var here, there Revocations // two replicas
		ctx, stop := context.WithCancel(t.Context())
		go there.Run(ctx, store, slog.New(slog.DiscardHandler))
		defer synctest.Wait()
		defer stop()
		a, b := Credential{Kind: ByToken, ID: "a"}, Credential{Kind: ByToken, ID: "b"}
		var cut []string
		var mu sync.Mutex
		watch := func(rs *Revocations, c Credential, name string) func() {
			return rs.Watch(c, func(err error) {
				if !errors.Is(err, ErrRevoked) {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				cut = append(cut, name)
			})
		}
		watch(&here, a, "here")
		watch(&there, a, "there")
		defer watch(&there, b, "another")()
		watch(&here, a, "over")()
		were := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(cut, want) {
				t.Errorf("%s: %v, want %v", when, cut, want)
			}
		}
		if _, err := here.Revoke(ctx, store, Revocation{Kind: ByToken, ID: "a"}); err != nil {
			t.Fatal(err)
		}
		were("at once", "here")
		time.Sleep(2 * time.Second)
		were("two seconds later", "here", "there")
		watch(&there, a, "late")
		were("a watch of what is revoked", "here", "there", "late")
		if len(here.watches)+len(there.watches) != 1 {
			t.Errorf("%d and %d watches are left, want the other one", len(here.watches), len(there.watches))
		}
	})
}

func TestRevocation_Normal(t *testing.T) {
	for _, tc := range []struct {
		kind     RevocationKind
		id, want string
	}{
		{ByCertificate, "00:AB:cd", "abcd"},
		{ByCertificate, "0x0F", "f"},
		{ByCertificate, "", ""},
		{ByCertificate, "-1", ""},
		{ByCertificate, "xyz", ""},
		{ByToken, "f3b0", "f3b0"},
		{ByToken, "ey.ey.ey", ""},
		{ByIdentity, "spiffe://reeve/agent/east", "spiffe://reeve/agent/east"},
		{ByIdentity, "spiffe://reeve/agent/East", ""},
		{ByIdentity, "east", ""},
		{ByHolder, "alice", "alice"},
		{ByHolder, "a b", ""},
		{"", "x", ""},
	} {
		got, err := Revocation{Kind: tc.kind, ID: tc.id}.Normal()
		if got.ID != tc.want || (err == nil) != (tc.want != "") || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s %q: %q, %v; want %q", tc.kind, tc.id, got.ID, err, tc.want)
		}
	}
}

func TestServerTLSBeneath(t *testing.T) {
	ca := newCA(t)
	conf, err := ca.ServerTLSBeneath("svc.example.com", []string{"hub.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"wiki.east.svc.example.com":      "wiki.east.svc.example.com",
		"Wiki.East.SVC.example.com":      "wiki.east.svc.example.com",
		"a.wiki.east.svc.example.com":    "a.wiki.east.svc.example.com",
		"hub.example.com":                "hub.example.com",
		"":                               "hub.example.com",
		"east.svc.example.com":           "hub.example.com",
		".east.svc.example.com":          "hub.example.com",
		"*.east.svc.example.com":         "hub.example.com",
		"wiki.east.svc.example.com.evil": "hub.example.com",
		"wiki.east.xsvc.example.com":     "hub.example.com",
	} {
		cert, err := conf.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
		if err != nil {
			t.Fatal(err)
		}
		if err := cert.Leaf.VerifyHostname(want); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	s := &serverCert{ca: ca, domain: "d"}
	first, err := s.named("a.b.d")
	if err != nil {
		t.Fatal(err)
	}
	s.beneath["old"] = s.order.PushBack(namedCert{"old", first})
	for i := s.order.Len(); i <= maxServerNames; i++ {
		s.order.PushFront(namedCert{"x", first})
	}
	if _, err := s.named("c.b.d"); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.beneath["old"]; ok {
		t.Error("more names are kept than the bound")
	}
}

// What was taken back doesn't come back by a token from before, not even where
// another replica did it a moment ago and the store alone knows.
func TestRevocations_hold_for_what_is_issued_by_what_was_revoked(t *testing.T) {
	for _, here := range []bool{true, false} {
		name := map[bool]string{true: "here", false: "at another replica"}[here]
		t.Run(name, func(t *testing.T) {
			ca, store, list := newCA(t), &tokens{}, &denyList{}
			if err := ca.Revocations().Load(t.Context(), list); err != nil {
				t.Fatal(err)
			}
			mux := http.NewServeMux()
			mux.Handle(EnrollPath, ca.EnrollHandler(store, AgentLife, slog.New(slog.DiscardHandler)))
			mux.Handle(RenewPath, ca.RenewHandler(ca.Peers(), AgentLife, time.Hour, slog.New(slog.DiscardHandler)))
			url := serve(t, ca, mux)
			used, unused, dir := joinToken(t, ca, store, "east"), joinToken(t, ca, store, "east"), t.TempDir()
			e, err := Enroll(t.Context(), url, used, dir, "")
			if err != nil {
				t.Fatal(err)
			}
			// The key that the token was used for is with whoever has the machine.
			key, err := keyPEM(e.current.Load().PrivateKey.(crypto.Signer))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, pendingFile), key, 0o600); err != nil {
				t.Fatal(err)
			}
			revoking := ca.Revocations()
			if !here {
				revoking = &Revocations{}
			}
			if _, err := revoking.Revoke(t.Context(), list, Revocation{Kind: ByIdentity, ID: "spiffe://reeve/agent/east"}); err != nil {
				t.Fatal(err)
			}
			if err := e.Renew(t.Context(), e.Direct(url)); !errors.Is(err, ErrForeign) {
				t.Errorf("a renewal: %v", err)
			}
			for name, token := range map[string]string{"used": used, "unused": unused} {
				if _, err := Enroll(t.Context(), url, token, dir, ""); !errors.Is(err, ErrForeign) {
					t.Errorf("the token that was %s: %v", name, err)
				}
			}
			if _, err := Enroll(t.Context(), url, joinToken(t, ca, store, "east"), t.TempDir(), ""); err != nil {
				t.Errorf("a new token: %v", err)
			}
		})
	}
}
