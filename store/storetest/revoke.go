package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/store"
)

func revocations(t *testing.T, s *store.Store) {
	ctx := t.Context()
	revoke := func(kind pki.RevocationKind, id string, at time.Time) pki.Revocation {
		t.Helper()
		r := pki.Revocation{Kind: kind, ID: id, Reason: "lost", By: "certificate:admin", At: at}
		if err := s.Revoke(ctx, r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	revoke(pki.ByIdentity, "x", epoch)
	token := revoke(pki.ByToken, "x", epoch.Add(time.Minute))
	again := revoke(pki.ByIdentity, "x", epoch.Add(2*time.Minute))
	for _, tc := range []struct {
		since time.Time
		want  []pki.Revocation
	}{
		{time.Time{}, []pki.Revocation{again, token}},
		{epoch.Add(2 * time.Minute), []pki.Revocation{again}},
		{epoch.Add(time.Hour), nil},
	} {
		got, err := s.Revocations(ctx, tc.since)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("since %v (-want +got):\n%s", tc.since, d)
		}
	}
}
