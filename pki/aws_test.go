package pki_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reeve.dev/reeve/pki"
)

func TestCA_VerifyAWSKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, err := pki.NewCA("hub")
		if err != nil {
			t.Fatal(err)
		}
		other, err := pki.NewCA("other")
		if err != nil {
			t.Fatal(err)
		}
		key, secret, err := ca.NewAWSCredential("east", "s3.eu", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		c, again, err := ca.VerifyAWSKey(key)
		if err != nil {
			t.Fatal(err)
		}
		want := pki.Identity{Purpose: pki.Service, Agent: "east", Type: pki.AWS, Name: "s3.eu"}
		if c.Identity != want || again != secret || c.Expires.Sub(c.Issued) != time.Hour {
			t.Errorf("%s: got %+v and a secret that is the same: %v", key, c, again == secret)
		}

		// A key in which something is changed isn't taken, nor another hub's.
		if _, _, err := ca.VerifyAWSKey(strings.Replace(key, ".east.", ".west.", 1)); !errors.Is(err, pki.ErrForeign) {
			t.Errorf("forged: %v, want ErrForeign", err)
		}
		if _, _, err := other.VerifyAWSKey(key); !errors.Is(err, pki.ErrForeign) {
			t.Errorf("at another hub: %v, want ErrForeign", err)
		}
		for _, bad := range []string{"", "AKIAIOSFODNN7EXAMPLE", "a.b.c.d.e", strings.Repeat("a", 600) + key, key + ".x"} {
			if _, _, err := ca.VerifyAWSKey(bad); !errors.Is(err, pki.ErrMalformed) {
				t.Errorf("%.40q: %v, want ErrMalformed", bad, err)
			}
		}
		time.Sleep(time.Hour)
		if _, _, err := ca.VerifyAWSKey(key); !errors.Is(err, pki.ErrExpired) {
			t.Errorf("an hour later: %v, want ErrExpired", err)
		}
	})
}
