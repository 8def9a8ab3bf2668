package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/store"
)

var epoch = time.Date(2026, 11, 21, 12, 0, 0, 123000, time.UTC)

func agents(t *testing.T, s *store.Store) {
	ctx := t.Context()
	save := func(r fleet.Registration, at time.Time) {
		t.Helper()
		if err := s.SaveAgent(ctx, r, at); err != nil {
			t.Fatal(err)
		}
	}
	edge := fleet.Registration{
		Agent: "edge", Instance: "i1", Version: "1.0", Hostname: "node-1",
		Annotations: map[string]string{"team": "blue"},
		Services:    []fleet.Service{{Type: fleet.Kubernetes, Name: "api"}},
		ScanTargets: []string{"k8s-container"},
		Holding:     []string{"not kept"},
	}
	save(edge, epoch)
	second := fleet.Registration{Agent: "edge", Instance: "i2", Version: "1.1", ScanTargets: []string{"dir", "k8s-container"}}
	save(second, epoch.Add(time.Minute))
	save(fleet.Registration{Agent: "core", Instance: "i3", Version: "1.1"}, epoch)
	edge.Version = "1.2"
	save(edge, epoch.Add(2*time.Minute))
	many := []fleet.Peer{{Agent: "edge", Instance: "i2"}}
	for i := range 1000 {
		many = append(many, fleet.Peer{Agent: "none", Instance: fleet.InstanceID(strconv.Itoa(i))})
	}
	many = append(many, fleet.Peer{Agent: "core", Instance: "i3"})
	if err := s.SeeAgents(ctx, many, epoch.Add(3*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := s.SeeAgents(ctx, many, epoch); err != nil {
		t.Fatal(err)
	}

	edge.Holding = nil
	want := []store.Agent{
		{Registration: fleet.Registration{Agent: "core", Instance: "i3", Version: "1.1"}, FirstSeen: epoch, LastSeen: epoch.Add(3 * time.Minute)},
		{Registration: second, FirstSeen: epoch.Add(time.Minute), LastSeen: epoch.Add(3 * time.Minute)},
		{Registration: edge, FirstSeen: epoch, LastSeen: epoch.Add(2 * time.Minute)},
	}
	got, err := s.Agents(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("agents (-want +got):\n%s", d)
	}
	kinds, err := s.ScanTargets(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[fleet.AgentName][]string{"core": nil, "edge": {"dir", "k8s-container"}}, kinds); d != "" {
		t.Errorf("targets (-want +got):\n%s", d)
	}
	for name, want := range map[fleet.AgentName]map[fleet.AgentName][]string{"edge": {"edge": {"dir", "k8s-container"}}, "none": {}} {
		if kinds, err = s.ScanTargets(ctx, name); err != nil || !cmp.Equal(want, kinds) {
			t.Errorf("targets of %s: %v, %v", name, kinds, err)
		}
	}

	// A month later core is as it was, since nothing came in its place.
	third := fleet.Registration{Agent: "edge", Instance: "i4"}
	later := epoch.Add(3*time.Minute + 30*24*time.Hour)
	save(third, later)
	instances := func() (out []fleet.InstanceID) {
		got, err := s.Agents(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range got {
			out = append(out, a.Instance)
		}
		return out
	}
	if d := cmp.Diff([]fleet.InstanceID{"i3", "i4", "i2"}, instances()); d != "" {
		t.Errorf("a month later (-want +got):\n%s", d)
	}
	for i := range 200 {
		save(fleet.Registration{Agent: "edge", Instance: fleet.InstanceID(fmt.Sprintf("new-%03d", i))}, later.Add(time.Duration(i)*time.Second))
	}
	if got := instances(); len(got) != 101 || got[1] != "new-199" || got[100] != "new-100" {
		t.Errorf("after many: %d, %v", len(got), got)
	}
}

func tokens(t *testing.T, s *store.Store) {
	ctx := t.Context()
	join := pki.Token{ID: "one", Kind: pki.Join, Name: "join edge", Agent: "edge", Hash: []byte{0, 1, 254}, Created: epoch, Expires: epoch.Add(time.Hour)}
	rights := pki.Rights{{Role: pki.Scanner, Scope: fleet.Scope{Agents: []string{"prod-*"}, Namespaces: []string{"shop", "web"}}}, {Role: pki.Viewer}}
	api := pki.Token{ID: "two", Kind: pki.API, Name: "ci", Rights: rights, Hash: []byte{7}, Created: epoch.Add(time.Second)}
	api.RestOn(pki.Credential{Identity: pki.Identity{Purpose: pki.User, Name: "ann", Holder: "ann"}, Kind: pki.ByCertificate, ID: "a1", Issued: epoch})
	for _, tok := range []pki.Token{join, api} {
		if err := s.CreateToken(ctx, tok); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.ListTokens(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]pki.Token{api, join}, got); d != "" {
		t.Errorf("tokens (-want +got):\n%s", d)
	}

	// Of many that use it at once one succeeds.
	var used atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			switch err := s.UseToken(ctx, "one", fmt.Sprint("key ", i), epoch); {
			case err == nil:
				used.Add(1)
			case !errors.Is(err, pki.ErrUsed):
				t.Errorf("use: %v", err)
			}
		})
	}
	all.Wait()
	if used.Load() != 1 {
		t.Errorf("a one-time token was used %d times", used.Load())
	}
	join, err = s.TokenByID(ctx, "one")
	if err != nil || !join.UsedAt.Equal(epoch) {
		t.Errorf("used token: %+v, %v", join, err)
	}
	if err := s.UseToken(ctx, "one", join.UsedBy, epoch.Add(time.Minute)); err != nil {
		t.Errorf("the same key again: %v", err)
	}

	if err := s.RevokeToken(ctx, "two"); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"revoke":  s.RevokeToken(ctx, "two"),
		"use":     s.UseToken(ctx, "two", "k", epoch),
		"look up": func() error { _, err := s.TokenByID(ctx, "two"); return err }(),
	} {
		if !errors.Is(err, pki.ErrNoToken) {
			t.Errorf("%s a token that isn't there: got %v, want ErrNoToken", what, err)
		}
	}
}
