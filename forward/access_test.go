package forward_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/forward/forwardtest"
	"reeve.dev/reeve/pki"
)

const domain = "svc.example.com"

func newRules(t *testing.T, list ...forward.Rule) *forward.Rules {
	t.Helper()
	rs, err := forward.NewRules(list)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// held is the certificate's identity for x-web/main, made out to somebody.
func held(holder string) pki.Identity {
	return pki.Identity{Purpose: pki.Service, Agent: forwardtest.AgentName, Type: "x-web", Name: "main", Holder: holder}
}

// calling has a client call services by name.
func calling(c *http.Client, serverName string) *http.Client {
	tr := c.Transport.(*http.Transport).Clone()
	tr.TLSClientConfig.ServerName = serverName
	return &http.Client{Transport: tr}
}

// kubeAPI is a Kubernetes API as far as rules go, and the kubeconfig for it.
func kubeAPI(t *testing.T, h http.HandlerFunc) (kubeConfig string) {
	api := httptest.NewTLSServer(h)
	t.Cleanup(api.Close)
	t.Cleanup(api.CloseClientConnections)
	return write(t, "kubeconfig", fmt.Sprintf(`
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: u, user: {token: agents-token}}]
`, api.URL, caFile(t, api)))
}

func TestHub_rules(t *testing.T) {
	var asked atomic.Pointer[http.Request]
	audit := make(chan forward.Exchange, 100)
	config := kubeAPI(t, func(_ http.ResponseWriter, r *http.Request) { asked.Store(r) })
	b := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked.Store(r) }), func(o *forwardtest.Options) {
		o.Upstreams = append(o.Upstreams, forward.Upstream{Type: fleet.Kubernetes, Name: "main", KubeConfig: config})
		o.Audit = forward.AuditorFunc(func(_ context.Context, e forward.Exchange) { audit <- e })
		o.Access = func(c *forward.HubConfig) {
			c.Rules = newRules(t,
				forward.Rule{Name: "no secrets", Effect: "deny", Resources: []string{"secrets"}},
				forward.Rule{Effect: "allow", Who: forward.Who{Holders: []string{"alice"}}, Types: []string{"kubernetes"}, Impersonate: forward.Impersonation{User: "alice@corp", Groups: []string{"dev", "ops"}}},
				forward.Rule{Effect: "allow", Who: forward.Who{Holders: []string{"root"}}, MayImpersonate: true},
				forward.Rule{Effect: "deny", Paths: []string{"/admin/**"}},
			)
		}
		o.AgentRules = newRules(t,
			forward.Rule{Name: "owner", Effect: "deny", Namespaces: []string{"payroll"}},
			forward.Rule{Effect: "deny", Types: []string{"x-web"}, Who: forward.Who{Holders: []string{"mallory"}}},
		)
	})
	kube := func(holder string) pki.Identity {
		return pki.Identity{Purpose: pki.Service, Agent: forwardtest.AgentName, Type: fleet.Kubernetes, Name: "main", Holder: holder}
	}
	for _, tt := range []struct {
		name   string
		id     pki.Identity
		path   string
		header http.Header
		status int
		says   string // in a refusal
		rule   string // in the audit
		as     string // at the API
		groups []string
	}{
		{name: "the credential's service", id: held(""), path: "/x", status: 200},
		{name: "a path", id: held(""), path: "/admin", status: 403, says: "rule access.rules[3] of this hub denies it", rule: "access.rules[3]"},
		{name: "a path in disguise", id: held(""), path: "//%61dmin;x/", status: 403, says: "denies it", rule: "access.rules[3]"},
		{name: "a resource", id: kube(""), path: "/api/v1/namespaces/a/secrets", status: 403, says: "list secrets in namespace a on agent", rule: "no secrets"},
		{name: "impersonated", id: kube("alice"), path: "/api/v1/namespaces/a/pods", status: 200, rule: "access.rules[1]", as: "alice@corp", groups: []string{"dev", "ops"}},
		{name: "impersonated and wishing for more", id: kube("alice"), path: "/api/v1/namespaces/a/pods", header: http.Header{"Impersonate-Group": {"system:masters"}}, status: 403, says: "mayImpersonate", rule: "access.rules[1]"},
		{name: "impersonation without a rule", id: kube("bob"), path: "/api/v1/namespaces/a/pods", header: http.Header{"Impersonate-User": {"admin"}}, status: 403, says: "mayImpersonate"},
		{name: "impersonation by a rule", id: kube("root"), path: "/api/v1/namespaces/a/pods", header: http.Header{"Impersonate-User": {"admin"}}, status: 200, rule: "access.rules[2]", as: "admin"},
		{name: "the hub's word isn't the caller's", id: kube("bob"), path: "/api/v1/namespaces/a/pods", header: http.Header{"Reeve-Impersonate-User": {"admin"}, "Reeve-Holder": {"root"}}, status: 200},
		{name: "the cluster's owner", id: kube("alice"), path: "/api/v1/namespaces/payroll/pods", status: 403, says: "rule owner of the cluster's owner denies it", rule: "access.rules[1]"},
		{name: "the cluster's owner, by a list of all namespaces", id: kube("alice"), path: "/api/v1/pods", status: 403, says: "list pods on service kubernetes/main: rule owner of the cluster's owner denies it", rule: "access.rules[1]"},
		{name: "the cluster's owner knows the caller", id: held("mallory"), path: "/x", status: 403, says: "mallory (spiffe://reeve/service/cluster-1/x-web/main)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked.Store(nil)
			r := request(t, "GET", b.URL+tt.path, nil)
			if tt.header != nil {
				r.Header = tt.header
			}
			resp, body := do(t, b.with(t, tt.id), r)
			got := asked.Load()
			if resp.StatusCode != tt.status || (got != nil) != (tt.status == 200) || !strings.Contains(body, tt.says) {
				t.Errorf("%s %s, reached the service: %v; want %d with %q", resp.Status, body, got != nil, tt.status, tt.says)
			}
			if got != nil {
				if got.Header.Get("Impersonate-User") != tt.as || cmp.Diff(tt.groups, got.Header["Impersonate-Group"]) != "" {
					t.Errorf("at the API: %q", got.Header)
				}
				for name := range got.Header {
					if strings.HasPrefix(name, "Reeve-") {
						t.Errorf("the service is told %s", name)
					}
				}
			}
			e := <-audit
			if e.Status != tt.status || e.Rule != tt.rule || e.Caller.Holder != tt.id.Holder || e.Caller.ID == "" {
				t.Errorf("audit: %+v", e)
			}
			if tt.id.Type == fleet.Kubernetes && tt.status == 403 {
				var s metav1.Status
				if err := json.Unmarshal([]byte(body), &s); err != nil || s.Reason != metav1.StatusReasonForbidden {
					t.Errorf("to kubectl: %v in %s", err, body)
				}
			}
		})
	}
}

func TestHub_server_names(t *testing.T) {
	service := func(name string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) })
	}
	other := httptest.NewServer(service("other"))
	t.Cleanup(other.Close)
	b := start(t, service("main"), func(o *forwardtest.Options) {
		for _, u := range []forward.Upstream{{Type: "x-web", Name: "Other.v2"}, {Type: "x-web", Name: "open"}, {Type: "x-web", Name: "both"}, {Type: "x-api", Name: "both"}, {Type: "x-web", Name: "hidden"}} {
			u.URL = other.URL
			o.Upstreams = append(o.Upstreams, u)
		}
		o.Access = func(c *forward.HubConfig) {
			c.Domain = domain
			c.Rules = newRules(t,
				forward.Rule{Effect: "allow", Who: forward.Who{Holders: []string{"alice"}}, Services: []string{"Other.v2", "both"}},
				forward.Rule{Effect: "allow", Who: forward.Who{Names: []string{"spiffe://reeve/control/*"}}},
				forward.Rule{Effect: "allow", Who: forward.Who{Anonymous: true}, Services: []string{"open"}},
			)
		}
	})
	alice, bob, admin, anonymous := b.with(t, held("alice")), b.with(t, held("bob")), b.with(t, pki.Identity{Purpose: pki.Control, Name: "root"}), b.Anonymous()
	agent := "." + string(forwardtest.AgentName) + "." + domain
	for _, tt := range []struct {
		name   string
		client *http.Client
		sni    string // empty: an address
		host   string // empty: that of the URL
		status int
		says   string
	}{
		{"no name", alice, "", "", 200, "main"},
		{"by SNI", alice, "other.v2" + agent, "", 200, "other"},
		{"by Host", alice, "", "other.v2" + agent, 200, "other"},
		{"by Host with a port, in other letters", alice, "", "OTHER.v2" + strings.ToUpper(agent) + ":9443", 200, "other"},
		{"with the type", alice, "both.x-api" + agent, "", 200, "other"},
		{"of several types", alice, "both" + agent, "", 404, "service.type.agent"},
		{"the credential's own", bob, "main" + agent, "", 200, "main"},
		{"without a rule", bob, "other.v2" + agent, "", 403, "no rule of this hub allows it"},
		{"unknown", alice, "nothing" + agent, "", 404, "this credential reaches: cluster-1 x-api/both, cluster-1 x-web/Other.v2, cluster-1 x-web/both, cluster-1 x-web/main\""},
		{"unknown agent", bob, "main.nowhere." + domain, "", 404, "this credential reaches: cluster-1 x-web/main\""},
		{"Host and SNI differ", alice, "main" + agent, "other.v2" + agent, 421, "isn't the name that the connection was made to"},
		{"an administrator", admin, "hidden" + agent, "", 200, "other"},
		{"an administrator without a name", admin, "", "", 403, "names no service"},
		{"nobody", anonymous, "open" + agent, "", 200, "other"},
		{"nobody, elsewhere", anonymous, "hidden" + agent, "", 401, "present a client certificate"},
		{"nobody, to what isn't there", anonymous, "nothing" + agent, "", 401, "present a client certificate"},
		{"nobody, without a name", anonymous, "", "", 401, "present a client certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.client
			if tt.sni != "" {
				c = calling(c, tt.sni)
			}
			t.Cleanup(c.CloseIdleConnections)
			r := request(t, "GET", b.URL, nil)
			if r.Host = tt.host; tt.host == "" && tt.sni != "" {
				r.Host = tt.sni
			}
			resp, body := do(t, c, r)
			if resp.StatusCode != tt.status || !strings.Contains(body, tt.says) {
				t.Errorf("%s %s; want %d with %q", resp.Status, body, tt.status, tt.says)
			}
		})
	}
	t.Run("an unknown service of the credential's", func(t *testing.T) {
		resp, body := do(t, b.as(t, "x-web", "gone"), request(t, "GET", b.URL, nil))
		if resp.StatusCode != 404 || !strings.Contains(body, `no service \"x-web/gone\"`) || !strings.Contains(body, "this credential reaches nothing that is offered now") {
			t.Errorf("%s %s", resp.Status, body)
		}
	})
}

func TestHub_limits(t *testing.T) {
	release := make(chan struct{})
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		<-release
	}), func(o *forwardtest.Options) {
		o.Access = func(c *forward.HubConfig) {
			c.Limits = forward.Limits{Caller: forward.Limit{Concurrent: 2}, Agent: forward.Limit{Concurrent: 3}}
			c.Rules = newRules(t, forward.Rule{Effect: "deny", Paths: []string{"/denied"}})
		}
	})
	open := func(c *http.Client) {
		t.Helper()
		resp, err := c.Do(request(t, "GET", b.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
	}
	alice, bob := b.with(t, held("alice")), b.with(t, held("bob"))
	open(alice)
	open(b.with(t, held("alice"))) // another certificate of hers
	refused := func(c *http.Client, says string, path ...string) {
		t.Helper()
		resp, body := do(t, c, request(t, "GET", b.URL+strings.Join(path, ""), nil))
		if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "1" || !strings.Contains(body, says) {
			t.Errorf("%s %q %s", resp.Status, resp.Header.Get("Retry-After"), body)
		}
	}
	refused(alice, "one caller")
	refused(alice, "one caller", "/denied") // what a rule refuses costs the hub, too
	open(bob)
	refused(bob, "one agent")
	close(release)
}

func TestHub_paces_bytes(t *testing.T) {
	const size = 1 << 20
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Write(body)
	}), func(o *forwardtest.Options) {
		o.Access = func(c *forward.HubConfig) {
			c.Limits = forward.Limits{Caller: forward.Limit{BytesPerSecond: 4 * size}}
		}
	})
	begin := time.Now()
	for range 3 { // 2 MiB each, of which 4 MiB pass at once
		if _, got := do(t, b.client, request(t, "POST", b.URL, noise(size))); len(got) != size {
			t.Fatalf("%d bytes came back", len(got))
		}
	}
	if took := time.Since(begin); took < 450*time.Millisecond { // a limit can only make it longer
		t.Errorf("6 MiB at 4 MiB a second took %v", took)
	}
}

func TestHub_answerWithin(t *testing.T) {
	leave := make(chan struct{})
	defer close(leave)
	b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			select {
			case <-r.Context().Done():
			case <-leave:
			}
			return
		}
		io.WriteString(w, "first")
		http.NewResponseController(w).Flush()
		time.Sleep(300 * time.Millisecond) // longer than the limit, which is over: there is nothing to wait for
		io.WriteString(w, " second")
	}), func(o *forwardtest.Options) {
		o.Access = func(c *forward.HubConfig) {
			c.Rules = newRules(t, forward.Rule{Name: "quick", Effect: "allow", AnswerWithin: 200 * time.Millisecond})
		}
	})
	resp, body := do(t, b.client, request(t, "GET", b.URL+"/slow", nil))
	if resp.StatusCode != 504 || !strings.Contains(body, "within the 200ms that quick allows") {
		t.Errorf("%s %s", resp.Status, body)
	}
	resp, body = do(t, b.client, request(t, "GET", b.URL, nil))
	for range 20 {
		if resp.StatusCode != 504 { // which it may be on a machine that is busy
			break
		}
		resp, body = do(t, b.client, request(t, "GET", b.URL, nil))
	}
	if resp.StatusCode != 200 || body != "first second" {
		t.Errorf("%s %s", resp.Status, body)
	}
}

// A revoked credential's requests end, whatever they are doing.
func TestHub_revocation_cuts(t *testing.T) {
	ended := make(chan error, 100)
	byCarrier(t, func(t *testing.T, carrier func(*forwardtest.Options)) {
		b := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/upgrade":
				conn, brw, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
				for block := make([]byte, 64<<10); err == nil; { // to one that reads nothing
					_, err = conn.Write(block)
				}
				io.Copy(io.Discard, brw)
			case "/endless":
				for block := make([]byte, 64<<10); r.Context().Err() == nil; {
					if _, err := w.Write(block); err != nil {
						return
					}
				}
			default:
				io.WriteString(w, "x")
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}
		}), carrier, func(o *forwardtest.Options) {
			o.Audit = forward.AuditorFunc(func(_ context.Context, e forward.Exchange) {
				if !e.Begins {
					ended <- e.Err
				}
			})
		})
		cert := func(id pki.Identity) tls.Certificate {
			c, key, err := b.CA.NewCredential(id, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			pair, err := tls.X509KeyPair(c, key)
			if err != nil {
				t.Fatal(err)
			}
			return pair
		}
		lost, kept := cert(held("alice")), cert(held("alice"))
		client := func(pair tls.Certificate) *http.Client {
			c := calling(b.Anonymous(), "localhost")
			c.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{pair}
			t.Cleanup(c.CloseIdleConnections)
			return c
		}
		// A watch, one that doesn't read, and an Upgrade whose other end doesn't.
		var bodies []io.Reader
		for _, path := range []string{"/watch", "/endless"} {
			resp, err := client(lost).Do(request(t, "GET", b.URL+path, nil))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { resp.Body.Close() })
			bodies = append(bodies, resp.Body)
		}
		conn, err := tls.Dial("tcp", strings.TrimPrefix(b.URL, "https://"), &tls.Config{RootCAs: b.CA.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{lost}, NextProtos: []string{"http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET /upgrade HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		br := bufio.NewReader(conn)
		if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 {
			t.Fatal(resp, err)
		}
		other, err := client(kept).Do(request(t, "GET", b.URL+"/watch", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Body.Close()

		if _, err := b.CA.Revocations().Revoke(t.Context(), nothing{}, pki.Revocation{Kind: pki.ByCertificate, ID: serial(t, lost)}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := <-ended; !errors.Is(err, pki.ErrRevoked) {
				t.Errorf("audit: %v", err)
			}
		}
		for i, body := range append(bodies, br) {
			if _, err := io.Copy(io.Discard, body); i < 2 && err == nil {
				t.Errorf("%d: the answer looks whole", i)
			}
		}
		resp, body := do(t, client(lost), request(t, "GET", b.URL, nil))
		if resp.StatusCode != 401 || !strings.Contains(body, "revoked") {
			t.Errorf("afterwards: %s %s", resp.Status, body)
		}
		if err := <-ended; !errors.Is(err, forward.ErrUnauthenticated) {
			t.Errorf("audit of the refusal: %v", err)
		}
		select {
		case err := <-ended:
			t.Errorf("the other certificate's request ended, too: %v", err)
		default:
		}
		other.Body.Close()
		<-ended
	})
}

func serial(t *testing.T, pair tls.Certificate) string {
	t.Helper()
	return pair.Leaf.SerialNumber.Text(16)
}

// nothing is a pki.RevocationStore that keeps nothing.
type nothing struct{}

func (nothing) Revoke(context.Context, pki.Revocation) error { return nil }

func (nothing) Revocations(context.Context, time.Time) ([]pki.Revocation, error) { return nil, nil }
