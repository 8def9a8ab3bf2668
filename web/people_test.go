package web_test

import (
	"testing"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
)

// Whoever looks at the tokens sees where each holds: one of an agent isn't one of
// the fleet.
func TestPeople(t *testing.T) {
	w := newWorld(t)
	rights := pki.Rights{{Role: pki.Scanner, Scope: fleet.Scope{Agents: []string{"prod"}, Namespaces: []string{"shop"}}}}
	api, _, err := pki.NewToken(pki.API, "ci", rights, 0)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	join, _, err := ca.NewJoinToken("east", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []pki.Token{api, join} {
		if err := w.store.CreateToken(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	w.view(t, pki.Admin, "/people").wants(t, 200, "ci api "+rights.String()+" ", " join east join ")
}
