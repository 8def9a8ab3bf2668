package pki

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
)

func TestRights(t *testing.T) {
	rs := Rights{
		{Role: Scanner, Scope: fleet.Scope{Agents: []string{"prod-*"}, Namespaces: []string{"shop"}}},
		{Role: Viewer, Scope: fleet.Scope{Agents: []string{"prod-*"}}},
	}
	for _, c := range []struct {
		role      Role
		agent     fleet.AgentName
		namespace string
		want      bool
	}{
		{Scanner, "prod-eu", "shop", true},
		{Viewer, "prod-eu", "shop", true},
		{Operator, "prod-eu", "shop", false},
		{Scanner, "prod-eu", "other", false},
		{Scanner, "prod-eu", "", false},
		{Viewer, "prod-eu", "", true},
		{Viewer, "stage", "shop", false},
		{"", "prod-eu", "shop", false},
	} {
		if got := rs.In(c.role, c.agent, c.namespace); got != c.want {
			t.Errorf("%q in %s/%s: %v", c.role, c.agent, c.namespace, got)
		}
	}
	if rs.Role() != Scanner || rs.Everywhere(Viewer) || !Admin.Everywhere().Everywhere(Operator) {
		t.Error("Role or Everywhere is wrong")
	}
	if got := rs.Scopes(Viewer); len(got) != 2 || len(rs.Scopes(Scanner)) != 1 || Rights(nil).Scopes(Viewer) == nil || Admin.Everywhere().Scopes(Viewer) != nil {
		t.Errorf("scopes %v", got)
	}
	if got, want := rs.String(), "scanner (agents prod-*; namespaces shop) and viewer (agents prod-*)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A user's certificate keeps its rights; one without, or with bad ones, is for
// nobody.
func TestIdentity_user(t *testing.T) {
	ca, err := NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	want := Rights{{Role: Scanner, Scope: fleet.Scope{Agents: []string{"prod-*"}, Namespaces: []string{"shop"}}}}
	cert, key, err := ca.NewCredential(Identity{Purpose: User, Name: "ci", Rights: want.JSON()}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	id, err := IdentityOf(leaf)
	if err != nil || id.String() != "spiffe://reeve/user/ci" {
		t.Fatalf("%v, %v", id, err)
	}
	got, err := ParseRights(id.Rights)
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%s %v", d, err)
	}
	leaf.Subject.OrganizationalUnit = nil
	if id, err := IdentityOf(leaf); err == nil {
		t.Errorf("without rights it is %+v", id)
	}
	for _, rights := range []string{"", "null", "[]", "{}", `[{"role":"root"}]`, `[{"role":"admin","agents":["A"]}]`} {
		if _, _, err := ca.NewCredential(Identity{Purpose: User, Name: "ci", Rights: rights}, time.Hour); err == nil {
			t.Errorf("a certificate was made with the rights %q", rights)
		}
	}
}
