package pki

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"
)

// The cache keeps the tokens that are used, however many there are.
func TestTokenCache(t *testing.T) {
	var c tokenCache
	key := func(i int) [sha256.Size]byte { return sha256.Sum256(fmt.Append(nil, i)) }
	for i := range 3 * maxTokens {
		c.put(verifiedToken{key(i), Credential{ID: fmt.Sprint(i)}})
		c.put(verifiedToken{key(i), Credential{ID: "a race"}})
		if got, ok := c.get(key(0)); !ok || got.ID != "0" {
			t.Fatalf("after %d: the token in use: %+v, %v", i, got, ok)
		}
	}
	if len(c.byKey) != maxTokens || c.order.Len() != maxTokens {
		t.Errorf("%d and %d tokens, want %d", len(c.byKey), c.order.Len(), maxTokens)
	}
	if _, ok := c.get(key(1)); ok {
		t.Error("a token that wasn't used for long is still there")
	}
}

func BenchmarkVerifyServiceToken(b *testing.B) {
	ca, err := NewCA("test")
	if err != nil {
		b.Fatal(err)
	}
	token, err := ca.IssueServiceToken("a", "x-web", "s", time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	for name, verify := range map[string]func() error{
		"first": func() error { _, err := ca.verifyJWT(token, Service); return err },
		"again": func() error { _, err := ca.VerifyServiceToken(token); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := verify(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
