package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/tunnel"
)

func TestLinks_endWithTheCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, err := pki.NewCA("test")
		if err != nil {
			t.Fatal(err)
		}
		cert, key, err := ca.NewCredential(pki.Identity{Purpose: pki.Agent, Agent: "east"}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		ls := &links{ca: ca, peers: ca.Peers(), log: slog.New(slog.DiscardHandler)}
		ls.stopped, ls.stop = context.WithCancel(t.Context())
		near, far := net.Pipe()
		agent, err := tunnel.Client(near, tunnel.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer agent.Close()
		session, err := tunnel.Server(far, tunnel.Config{})
		if err != nil {
			t.Fatal(err)
		}
		state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{pair.Leaf}}
		go func() {
			defer session.Close()
			ls.serve(t.Context(), session, state)
		}()
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		if agent.Err() != nil {
			t.Fatalf("the link ended early: %v", agent.Err())
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if agent.Err() == nil {
			t.Error("the link outlives its certificate")
		}
		ls.end()
		ls.wait()
		if ls.begin() {
			t.Error("a link begins after the end")
		}
	})
}

func TestLinks_Transport(t *testing.T) {
	ls := &links{here: map[fleet.AgentName]map[fleet.InstanceID]*link{}, known: map[fleet.AgentName]bool{}}
	newLink := func() *link { return &link{agent: "east", transport: &http.Transport{}} }
	if _, err := ls.Transport("east"); !errors.Is(err, forward.ErrUnknownAgent) {
		t.Errorf("before it ever joined: %v", err)
	}
	old, fresh, second := newLink(), newLink(), newLink()
	ls.add(old, "i1")
	ls.add(fresh, "i1")
	if rt, err := ls.Transport("east"); err != nil || rt != fresh.transport {
		t.Errorf("the old link is still used, or %v", err)
	}
	ls.remove(old) // it dies late
	if rt, err := ls.Transport("east"); err != nil || rt != fresh.transport {
		t.Errorf("the old link took the new one with it, or %v", err)
	}
	ls.add(second, "i2")
	seen := map[http.RoundTripper]bool{}
	for range 100 {
		rt, err := ls.Transport("east")
		if err != nil {
			t.Fatal(err)
		}
		seen[rt] = true
	}
	if len(seen) != 2 {
		t.Errorf("%d of two processes are asked", len(seen))
	}
	ls.add(second, "i3") // registers again, as another process
	if n := len(ls.all()); n != 2 {
		t.Errorf("%d links, want 2", n)
	}
	ls.remove(second)
	ls.remove(fresh)
	if _, err := ls.Transport("east"); !errors.Is(err, forward.ErrAgentAway) || ls.connected("east") {
		t.Errorf("after the last link: %v", err)
	}
}
