package pki

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reeve.dev/reeve/fleet"
)

func TestCA_IssueAgent_not_too_often(t *testing.T) {
	ca := newCA(t)
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := newCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var err error
		given := 0
		for ; err == nil && given < 1000; given++ {
			_, err = ca.IssueAgent(csr, "edge", time.Hour)
		}
		if !errors.Is(err, ErrTooOften) || given > 100 {
			t.Fatalf("after %d: %v", given, err)
		}
		if _, err := ca.IssueLocal(csr, "edge", time.Hour); !errors.Is(err, ErrTooOften) {
			t.Errorf("of the other kind: %v", err)
		}
		if _, err := ca.IssueAgent(csr, "core", time.Hour); err != nil {
			t.Errorf("another agent: %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := ca.IssueAgent(csr, "edge", time.Hour); err != nil {
			t.Errorf("a minute later: %v", err)
		}
	})
}

// Who asked long ago is forgotten, and who asked too often just now isn't.
func TestPace_forgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		for n := range 1000 {
			if err := p.check(fleet.AgentName(fmt.Sprint("old", n))); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(issueBurst * issueEvery)
		for range issueBurst {
			if err := p.check("often"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if err := p.check("often"); !errors.Is(err, ErrTooOften) || len(p.of) != 1 {
			t.Errorf("%v, and %d are known", err, len(p.of))
		}
	})
}

func TestCA_RenewHandler_refusesWhoAsksTooOften(t *testing.T) {
	ca := newCA(t)
	srv := tlsServer(t, ca, renewing(ca, time.Hour))
	e := expired(t, ca, t.TempDir())
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		err = e.Renew(t.Context(), e.Direct(strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)))
	}
	if !errors.Is(err, ErrTooOften) {
		t.Errorf("got %v", err)
	}
}

// tlsServer is a server with a certificate of ca, which asks for one too.
func tlsServer(t *testing.T, ca *CA, h http.Handler) *httptest.Server {
	t.Helper()
	conf, err := ca.ServerTLS(nil)
	if err != nil {
		t.Fatal(err)
	}
	conf.ClientAuth = tls.RequestClientCert
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = conf
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func TestJoinVerify(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	_, token, err := ca.NewJoinToken("edge", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		hub   *CA
		token string
		host  string
		want  error // of the token or of the connection
		good  bool
	}{
		"its hub":           {hub: ca, token: token, host: "localhost", good: true},
		"another name":      {hub: ca, token: token, host: "hub.example.com"},
		"another hub":       {hub: other, token: token, host: "localhost", want: ErrForeign},
		"what is no token":  {hub: ca, token: "reeve_join_x", host: "localhost", want: ErrMalformed},
		"a token cut short": {hub: ca, token: token[:len(token)-8], host: "localhost", want: ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			srv := tlsServer(t, tc.hub, nil)
			verify, err := JoinVerify(tc.token, tc.host)
			if err == nil {
				// As the agent has it: nothing else is verified.
				var conn *tls.Conn
				conn, err = tls.Dial("tcp", srv.Listener.Addr().String(), &tls.Config{ServerName: "localhost", InsecureSkipVerify: true, VerifyConnection: verify})
				if err == nil {
					conn.Close()
				}
			}
			if (err == nil) != tc.good || tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}
