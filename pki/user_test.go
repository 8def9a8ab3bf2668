package pki

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCA_SealUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, other := newCA(t), newCA(t)
		sealed, err := ca.SealUser("alice@example.com")
		if err != nil {
			t.Fatal(err)
		}
		if name, err := ca.OpenUser(sealed); name != "alice@example.com" || err != nil {
			t.Errorf("%q, %v", name, err)
		}
		if _, err := other.OpenUser(sealed); !errors.Is(err, ErrForeign) {
			t.Errorf("another hub: %v", err)
		}
		if _, err := ca.VerifyServiceToken(sealed); err == nil {
			t.Error("a sealed name passes for a service token")
		}
		token, err := ca.IssueServiceToken("east", "fiat", "main", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"", "alice", token, strings.Repeat("a", 1<<20)} {
			if name, err := ca.OpenUser(bad); !errors.Is(err, ErrMalformed) || name != "" {
				t.Errorf("%.20q: %q, %v", bad, name, err)
			}
		}
		for _, bad := range []string{"", strings.Repeat("a", 2000)} {
			if _, err := ca.SealUser(bad); !errors.Is(err, ErrMalformed) {
				t.Errorf("%.20q: %v", bad, err)
			}
		}
		time.Sleep(UserLife)
		if _, err := ca.OpenUser(sealed); !errors.Is(err, ErrExpired) {
			t.Errorf("later: %v", err)
		}
	})
}
