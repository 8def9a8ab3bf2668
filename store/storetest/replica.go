package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/store"
)

func replicas(t *testing.T, s *store.Store) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	save := func(id string, expires time.Time, fresh bool) store.Replica {
		t.Helper()
		r := store.Replica{ID: id, Address: id + ":7443", Version: "1", Started: epoch, Expires: expires}
		got, err := s.SaveReplica(ctx, r)
		must(err)
		if got != fresh {
			t.Errorf("replica %s is fresh: %v", id, got)
		}
		return r
	}
	link := func(agent fleet.AgentName, instance fleet.InstanceID, session string) store.ReplicaLink {
		return store.ReplicaLink{Peer: fleet.Peer{Agent: agent, Instance: instance, Session: session}, Remote: "10.0.0.1:4711", Connected: epoch}
	}
	links := func(agent fleet.AgentName, now time.Time, joined bool) (out []string) {
		t.Helper()
		got, is, err := s.LinksOf(ctx, agent, now)
		must(err)
		if is != joined {
			t.Errorf("agent %q has joined: %v", agent, is)
		}
		for _, l := range got {
			out = append(out, l.Replica.ID+" "+string(l.Instance)+" "+l.Session)
		}
		return out
	}
	same := func(what string, got, want any) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}

	soon, later := epoch.Add(time.Minute), epoch.Add(time.Hour)
	a := save("a", soon, true)
	save("b", later, true)
	must(s.SaveAgent(ctx, fleet.Registration{Agent: "core", Instance: "i"}, epoch))
	must(s.ChangeLinks(ctx, "a", []store.ReplicaLink{link("edge", "i1", "s1"), link("edge", "i2", "s2"), link("far", "i", "s3")}, nil))
	must(s.ChangeLinks(ctx, "b", []store.ReplicaLink{link("edge", "i1", "s4")}, nil))
	got, joined, err := s.LinksOf(ctx, "far", epoch)
	must(err)
	same("far", got, []store.HeldLink{{ReplicaLink: link("far", "i", "s3"), Replica: a}})
	if !joined {
		t.Error("far has a link but hasn't joined")
	}
	same("an agent that is away", links("core", epoch, true), []string(nil))
	same("an agent that isn't known", links("none", epoch, false), []string(nil))
	same("all", len(links("", epoch, true)), 4)

	// A link that came in the place of another isn't taken for it.
	must(s.ChangeLinks(ctx, "a", []store.ReplicaLink{link("edge", "i2", "s5")}, []fleet.Peer{{Agent: "edge", Instance: "i1", Session: "s1"}}))
	must(s.ChangeLinks(ctx, "a", nil, []fleet.Peer{{Agent: "edge", Instance: "i2", Session: "s2"}}))
	same("changed", links("edge", epoch, true), []string{"b i1 s4", "a i2 s5"})

	there, err := s.Replicas(ctx, soon)
	must(err)
	same("there", len(there), 1)

	// A replica whose time has passed is back when it says so, until it is removed.
	same("a is gone", links("edge", soon, true), []string{"b i1 s4"})
	save("a", later, false)
	same("a is back", links("edge", soon, true), []string{"b i1 s4", "a i2 s5"})
	save("c", soon, true)
	must(s.RemoveReplicas(ctx, "a", later))
	same("a is removed", links("edge", soon, true), []string{"b i1 s4"})
	save("a", later, true)
	save("b", later, false)
	save("c", later, true)
	same("its links too", links("edge", soon, true), []string{"b i1 s4"})
}
