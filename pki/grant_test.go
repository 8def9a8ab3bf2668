package pki

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A grant's tokens are for what the grant is for, and end with it, however it
// ends.
func TestCA_Renew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, other := newCA(t), newCA(t)
		id := Identity{Purpose: Service, Agent: "east", Type: "kubernetes", Name: "main", Holder: "alice"}
		grant := func(ca *CA, life time.Duration) string {
			t.Helper()
			g, err := ca.NewGrant(id, life)
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		renew := func(g string) (string, Credential) {
			t.Helper()
			token, c, err := ca.Renew(g)
			if err != nil {
				t.Fatal(err)
			}
			return token, c
		}
		g := grant(ca, 90*time.Minute)
		token, c := renew(g)
		if got, err := ca.VerifyServiceToken(token); err != nil || got != c || got.Identity != id || time.Until(got.Expires) != RenewedLife {
			t.Fatalf("%+v, %v; Renew said %+v", got, err, c)
		}
		for name, f := range map[string]func() error{
			"a grant as a service token": func() error { _, err := ca.VerifyServiceToken(g); return err },
			"a service token as a grant": func() error { _, _, err := ca.Renew(token); return err },
			"no grant":                   func() error { _, _, err := ca.Renew("reeve_a_b"); return err },
			"endless":                    func() error { _, _, err := ca.Renew(strings.Repeat("a", 1<<20) + ".."); return err },
			"another hub's":              func() error { _, _, err := ca.Renew(grant(other, time.Hour)); return err },
		} {
			if err := f(); !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrForeign) {
				t.Errorf("%s: %v", name, err)
			}
		}

		time.Sleep(time.Hour)
		if _, err := ca.VerifyServiceToken(token); !errors.Is(err, ErrExpired) {
			t.Errorf("an hour later: %v", err)
		}
		last, c := renew(g)
		if left := time.Until(c.Expires); left > 30*time.Minute {
			t.Errorf("the last token outlives its grant: %v", left)
		}
		time.Sleep(30 * time.Minute)
		if _, err := ca.VerifyServiceToken(last); !errors.Is(err, ErrExpired) {
			t.Errorf("the last token: %v", err)
		}
		if _, _, err := ca.Renew(g); !errors.Is(err, ErrExpired) {
			t.Errorf("the grant: %v", err)
		}

		// A holder is taken everything from; a token that another replica,
		// which doesn't know of that yet, makes of the grant later is no
		// exception.
		for name, by := range map[string]func(Credential) Revocation{
			"the grant":   func(c Credential) Revocation { return Revocation{Kind: ByToken, ID: c.ID} },
			"its holder":  func(Credential) Revocation { return Revocation{Kind: ByHolder, ID: "alice"} },
			"its service": func(Credential) Revocation { return Revocation{Kind: ByIdentity, ID: id.String()} },
		} {
			time.Sleep(time.Minute)
			g := grant(ca, 24*time.Hour)
			early, c := renew(g)
			time.Sleep(time.Minute)
			r := by(c)
			r.At = time.Now()
			time.Sleep(time.Minute)
			late, _ := renew(g)
			cut := make(chan error, 1)
			defer ca.Revocations().Watch(c, func(err error) { cut <- err })()
			ca.Revocations().add([]Revocation{r})
			if err := <-cut; !errors.Is(err, ErrRevoked) {
				t.Errorf("%s: cut by %v", name, err)
			}
			for what, token := range map[string]string{"made before": early, "made after": late} {
				if _, err := ca.VerifyServiceToken(token); !errors.Is(err, ErrRevoked) {
					t.Errorf("%s, the token %s: %v", name, what, err)
				}
			}
			if _, _, err := ca.Renew(g); !errors.Is(err, ErrRevoked) {
				t.Errorf("%s, the grant itself: %v", name, err)
			}
		}
	})
}
