package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, other := newCA(t), newCA(t)
		shown := func(ca *CA, id Identity, life time.Duration) *tls.ConnectionState {
			chain, _, err := ca.NewCredential(id, life)
			if err != nil {
				t.Fatal(err)
			}
			return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{parse(t, chain)}}
		}
		east := Identity{Purpose: Agent, Agent: "east"}
		good := shown(ca, east, time.Hour)
		hub, err := (&serverCert{ca: ca}).get(nil)
		if err != nil {
			t.Fatal(err)
		}
		peers := ca.Peers()
		for range 2 { // the second time from memory
			id, cert, err := peers.Peer(good)
			if err != nil || id != east || cert != good.PeerCertificates[0] {
				t.Errorf("good: %+v, %v", id, err)
			}
			for name, tc := range map[string]struct {
				state *tls.ConnectionState
				want  error
			}{
				"no TLS":                {nil, ErrNoCertificate},
				"no certificate":        {&tls.ConnectionState{}, ErrNoCertificate},
				"another CA's":          {shown(other, east, time.Hour), ErrForeign},
				"another CA's, expired": {shown(other, east, -time.Minute), ErrForeign},
				"expired":               {shown(ca, east, -time.Minute), ErrExpired},
				"the hub's own":         {&tls.ConnectionState{PeerCertificates: []*x509.Certificate{hub.Leaf}}, ErrForeign},
				"the CA":                {&tls.ConnectionState{PeerCertificates: []*x509.Certificate{ca.cert}}, ErrMalformed},
			} {
				if id, _, err := peers.Peer(tc.state); !errors.Is(err, tc.want) {
					t.Errorf("%s: %+v, %v; want %v", name, id, err, tc.want)
				}
			}
		}
		time.Sleep(2 * time.Hour)
		if _, _, err := peers.Peer(good); !errors.Is(err, ErrExpired) {
			t.Errorf("remembered, but expired since: %v", err)
		}
		if id, _, err := peers.PeerWithin(good, 90*time.Minute); err != nil || id != east {
			t.Errorf("within the grace: %+v, %v", id, err)
		}
		if _, _, err := peers.PeerWithin(good, 30*time.Minute); !errors.Is(err, ErrExpired) {
			t.Errorf("after the grace: %v", err)
		}
	})
}
