package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
)

func storedProfiles(t *testing.T, s *store.Store, name string) []scan.Profile {
	t.Helper()
	list, err := s.StoredProfiles(t.Context(), name)
	if name == "" {
		list, err = s.LastProfiles(t.Context(), "", "", 100)
	}
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// profiles: versions are kept whole, don't change, and come by age.
func profiles(t *testing.T, s *store.Store) {
	version := func(name, v string, minutes int) scan.Profile {
		return scan.Profile{
			Name: name, Version: v, Digest: "sha256:" + name + v, Title: "Ünser", Summary: "what\nfor",
			Controls:  []scan.ProfileControl{{ID: "a", Title: "A", Description: "why", Impact: 0.5}, {ID: "b"}},
			CreatedBy: "token:ci", Created: epoch.Add(time.Duration(minutes) * time.Minute),
		}
	}
	one, two, other := version("own", "1.0.0", 1), version("own", "0.9.0", 2), version("also", "1", 0)
	for _, p := range []scan.Profile{one, two, other} {
		if created, err := s.SaveProfile(t.Context(), p, 100); err != nil || !created {
			t.Fatalf("save %s %s: %v, %v", p.Name, p.Version, created, err)
		}
	}
	again := one
	again.Created, again.CreatedBy = epoch.Add(time.Hour), "token:other"
	if created, err := s.SaveProfile(t.Context(), again, 100); err != nil || created {
		t.Errorf("the same again: %v, %v", created, err)
	}
	again.Digest = "sha256:else"
	_, err := s.SaveProfile(t.Context(), again, 100)
	wantErr(t, "the same version of another content", err, scan.ErrVersionUsed)
	if d := cmp.Diff([]scan.Profile{two, one}, storedProfiles(t, s, "own")); d != "" {
		t.Errorf("versions (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]scan.Profile{other, two}, storedProfiles(t, s, "")); d != "" {
		t.Errorf("the last of each (-want +got):\n%s", d)
	}
	for _, tc := range []struct {
		prefix, after string
		limit         int
		want          []scan.Profile
	}{
		{"", "", 1, []scan.Profile{other}},
		{"", "also", 9, []scan.Profile{two}},
		{"ow", "", 9, []scan.Profile{two}},
		{"al", "also", 9, nil},
		{"own2", "", 9, nil},
	} {
		got, err := s.LastProfiles(t.Context(), tc.prefix, tc.after, tc.limit)
		if d := cmp.Diff(tc.want, got); d != "" || err != nil {
			t.Errorf("%+v: %v (-want +got):\n%s", tc, err, d)
		}
	}
	if got := storedProfiles(t, s, "none"); got != nil {
		t.Errorf("none: %v", got)
	}
	for _, step := range []struct {
		name, version string
		want          error
	}{{"own", "0.9.0", nil}, {"own", "0.9.0", scan.ErrNoProfile}, {"also", other.Digest, nil}, {"own", "", nil}, {"own", "", scan.ErrNoProfile}} {
		wantErr(t, "delete "+step.name+" "+step.version, s.DeleteProfile(t.Context(), step.name, step.version), step.want)
	}
	if got := storedProfiles(t, s, ""); got != nil {
		t.Errorf("after all are deleted: %v", got)
	}
}

// fullCatalogue: what an operator uploads is bounded.
func fullCatalogue(t *testing.T, s *store.Store) {
	for i := range 9 {
		if _, err := s.SaveProfile(t.Context(), scan.Profile{Name: "p", Version: fmt.Sprint(i), Digest: fmt.Sprint(i)}, 9); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.SaveProfile(t.Context(), scan.Profile{Name: "p", Version: "more", Digest: "more"}, 9)
	wantErr(t, "one more", err, scan.ErrCatalogueFull)
	if created, err := s.SaveProfile(t.Context(), scan.Profile{Name: "p", Version: "7", Digest: "7"}, 9); err != nil || created {
		t.Errorf("one that is there: %v, %v", created, err)
	}
}

func thresholds(t *testing.T, s *store.Store) {
	one := scan.Threshold{Name: "mine", Text: []byte("compliance:\n  min: 80\n"), Digest: "sha256:1", Created: epoch, CreatedBy: "token:ci"}
	save := func(th scan.Threshold, was string) (bool, error) { return s.SaveThreshold(t.Context(), th, was, 100) }
	if _, err := save(one, "sha256:0"); !errors.Is(err, scan.ErrChanged) {
		t.Errorf("instead of what isn't there: %v", err)
	}
	if created, err := save(one, ""); err != nil || !created {
		t.Fatalf("new: %v, %v", created, err)
	}
	two := one
	two.Text, two.Digest, two.Created = []byte("{}"), "sha256:2", epoch.Add(time.Minute)
	if created, err := save(two, one.Digest); err != nil || created {
		t.Errorf("instead of the first: %v, %v", created, err)
	}
	if _, err := save(one, one.Digest); !errors.Is(err, scan.ErrChanged) {
		t.Errorf("instead of what was: %v", err)
	}
	if got, err := s.StoredThreshold(t.Context(), "mine"); !cmp.Equal(two, got) || err != nil {
		t.Errorf("by its name %+v, %v", got, err)
	}
	_, err := s.StoredThreshold(t.Context(), "min")
	wantErr(t, "another name", err, scan.ErrNoThreshold)
	later := one
	later.Name = "nine"
	if _, err := save(later, ""); err != nil {
		t.Fatal(err)
	}
	for after, want := range map[string][]scan.Threshold{"": {two}, "mine": {later}, "nine": nil} {
		got, err := s.StoredThresholds(t.Context(), after, 1)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("after %q: %v (-want +got):\n%s", after, err, d)
		}
	}
	wantErr(t, "delete", s.DeleteThreshold(t.Context(), "mine"), nil)
	wantErr(t, "delete again", s.DeleteThreshold(t.Context(), "mine"), scan.ErrNoThreshold)
}
