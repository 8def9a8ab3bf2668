package hub_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"reeve.dev/reeve/alert/rpc"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/pki/oidc"
	"reeve.dev/reeve/scan"
	scanlink "reeve.dev/reeve/scan/link"
	"reeve.dev/reeve/tunnel"
)

// running is a hub in this process.
type running struct {
	*hub.Hub
	cfg   hub.Config
	admin *http.Client
	stop  func()
}

// config is for a hub with everything in a folder of its own, its CA and one
// profile, p.
func config(t *testing.T) hub.Config {
	t.Helper()
	dir := t.TempDir()
	cfg := hub.Defaults()
	cfg.DataDir, cfg.CADir = filepath.Join(dir, "data"), filepath.Join(dir, "ca")
	cfg.Listen = hub.ListenConfig{API: "127.0.0.1:0", Services: "127.0.0.1:0", Metrics: "127.0.0.1:0"}
	cfg.Profiles.Dir = filepath.Join(dir, "profiles")
	if _, err := pki.Init(cfg.CADir, "test"); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(cfg.Profiles.Dir, "p", "inspec.yml"), "name: p\ntitle: A test\nversion: 1.0.0\n")
	write(t, filepath.Join(cfg.Profiles.Dir, "p", "controls", "one.rb"), "control 'one' do\n  impact 1.0\n  describe file('/etc/passwd') do\n    it { should exist }\n  end\nend\n")
	return cfg
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, cfg hub.Config) *running {
	t.Helper()
	h, err := hub.New(cfg, "test", slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	stopped := false
	r := &running{Hub: h, cfg: cfg, stop: func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the hub ended with %v", err)
		}
	}}
	t.Cleanup(r.stop)
	pair, err := tls.LoadX509KeyPair(filepath.Join(cfg.CADir, "control.pem"), filepath.Join(cfg.CADir, "control-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	r.admin = r.client(t, &pair)
	return r
}

// client trusts the hub and shows pair, if there is one.
func (r *running) client(t *testing.T, pair *tls.Certificate) *http.Client {
	conf := &tls.Config{RootCAs: r.CA().Pool()}
	if pair != nil {
		// Shown whatever CAs the server names.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
	}
	tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// call asks the API as the administrator, expects a status and decodes the
// answer's body.
func (r *running) call(t *testing.T, method, path string, body any, status int, into any) *http.Response {
	t.Helper()
	var b bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+r.Addrs().API.String()+path, &b)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.admin.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Fatalf("%s %s: %s, want %d: %s", method, path, resp.Status, status, text)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	return resp
}

// enrolled is an agent with a certificate from the hub.
func (r *running) enrolled(t *testing.T, name fleet.AgentName) *pki.Enroller {
	t.Helper()
	var token struct{ Token string }
	r.call(t, "POST", "/api/v1/tokens", map[string]any{"kind": "join", "agent": name}, http.StatusCreated, &token)
	e, err := pki.Enroll(t.Context(), "https://"+r.Addrs().API.String(), token.Token, t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (r *running) dial(t *testing.T, e *pki.Enroller, carrier tunnel.Carrier) *tunnel.Session {
	t.Helper()
	s, err := tunnel.Dial(t.Context(), tunnel.DialConfig{
		URL: "https://" + r.Addrs().API.String(), TLS: e.TLSConfig(), Carriers: []tunnel.Carrier{carrier},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// agent is the agent's end of a link, as far as the hub can tell.
type agent struct {
	session *tunnel.Session
	http    *http.Client
	scans   *scanlink.Client
}

func newAgent(t *testing.T, s *tunnel.Session, services http.Handler) *agent {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tunnel.Serve(context.Background(), s, services)
	}()
	tr := tunnel.Transport(s)
	t.Cleanup(func() { tr.CloseIdleConnections(); s.Close(); <-done })
	return &agent{session: s, http: &http.Client{Transport: tr}, scans: scanlink.NewClient(tr)}
}

// post sends JSON inside the link and answers status and body.
func (a *agent) post(t *testing.T, path string, body any) (int, string) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := a.http.Post("http://hub"+path, "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (a *agent) register(t *testing.T, name fleet.AgentName, instance fleet.InstanceID, services []fleet.Service, holding ...string) {
	t.Helper()
	status, text := a.post(t, "/v1/register", fleet.Registration{
		Agent: name, Instance: instance, Version: "1", Hostname: "host", Services: services,
		ScanTargets: []string{"k8s-container"}, Holding: holding,
	})
	if status != http.StatusOK || !strings.Contains(text, `"session"`) {
		t.Fatalf("register: %d %s", status, text)
	}
}

// results is a document of one control.
func results(t *testing.T, status hdf.Status) io.Reader {
	t.Helper()
	doc := &hdf.Results{
		Platform: hdf.Platform{Name: "debian", Release: "13"}, Version: "1",
		Profiles: []hdf.Profile{{
			Name: "p", SHA256: "x", Supports: []map[string]any{}, Attributes: []map[string]any{}, Groups: []hdf.Group{},
			Controls: []hdf.Control{{
				ID: "one", Title: "The first", Impact: 1, Refs: []any{}, Tags: map[string]any{},
				Results: []hdf.Result{{Status: status, CodeDesc: "x", StartTime: hdf.Time(time.Now())}},
			}},
		}},
	}
	doc.Seal()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := errors.Join(json.NewEncoder(z).Encode(doc), z.Close()); err != nil {
		t.Fatal(err)
	}
	return &b
}

// sink is a real AlertSink, whose certificate the hub's CA signed.
func sink(t *testing.T, cfg *hub.Config) <-chan rpc.Received {
	t.Helper()
	ca, err := pki.LoadCA(cfg.CADir)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := ca.ServerTLS(nil)
	if err != nil {
		t.Fatal(err)
	}
	conf.ClientAuth = tls.NoClientCert
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan rpc.Received, 16)
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(conf)))
	rpc.Register(srv, func(_ context.Context, r rpc.Received) error { got <- r; return nil })
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	cfg.Sinks = []hub.SinkConfig{{Name: "allstar", Type: "rpc", Endpoint: l.Addr().String(), CAFile: filepath.Join(cfg.CADir, "ca.pem")}}
	return got
}

var web = []string{"web", "main", "app"} // namespace, pod, container

func scanRequest() map[string]any {
	return map[string]any{
		"target": map[string]any{"namespace": web[0], "pod": web[1], "container": web[2]},
		"scan":   map[string]any{"profile": "p", "threshold": "strict"},
	}
}

type scanAnswer struct {
	ID, Status, Outcome, Reason string
	Counts                      hdf.Counts
	Attempt                     int
	Target                      struct{ Agent string }
}

// TestHub_wholePath walks a scan and a forwarded request through a hub with
// an agent at the end of a real link, once by each carrier.
func TestHub_wholePath(t *testing.T) {
	for _, carrier := range tunnel.DefaultCarriers {
		t.Run(string(carrier), func(t *testing.T) {
			cfg := config(t)
			alerts := sink(t, &cfg)
			h := start(t, cfg)

			upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s %s", r.Method, r.URL)
			}))
			defer upstream.Close()
			fwd, err := forward.NewAgent(forward.AgentConfig{Upstreams: []forward.Upstream{{Name: "wiki", Type: "x-wiki", URL: upstream.URL}}})
			if err != nil {
				t.Fatal(err)
			}
			a := newAgent(t, h.dial(t, h.enrolled(t, "east"), carrier), fwd)
			if status, text := a.post(t, "/v1/scans/lease", map[string]any{"kinds": []string{"k8s-container"}}); status != http.StatusForbidden {
				t.Errorf("a lease before registering: %d %s", status, text)
			}
			a.register(t, "east", "i1", fwd.Services())

			var agents struct {
				Items []struct {
					Name      string
					Connected bool
					Services  []fleet.Service
					Instances []struct{ ID, Version string }
				}
			}
			h.call(t, "GET", "/api/v1/agents", nil, http.StatusOK, &agents)
			if len(agents.Items) != 1 || !agents.Items[0].Connected || agents.Items[0].Instances[0].ID != "i1" || agents.Items[0].Services[0].Name != "wiki" {
				t.Errorf("agents: %+v", agents)
			}

			t.Run("forward", func(t *testing.T) { forwards(t, h) })

			insight := func() int {
				req, err := http.NewRequestWithContext(t.Context(), "POST", "http://hub/v1/insights",
					strings.NewReader(`{"type":"direct.facts","environment":3,"projectName":"shop","environmentName":"main","facts":[{"name":"php","value":"8.4","source":"s"}]}`))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Reeve-Item", "1")
				resp, err := a.http.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return resp.StatusCode
			}
			var facts struct {
				Items []struct{ Agent, Name string }
			}
			for range 2 { // the agent may say it again
				if status := insight(); status != http.StatusOK {
					t.Errorf("insight: %d", status)
				}
				h.call(t, "GET", "/api/v1/insights/facts", nil, http.StatusOK, &facts)
				if len(facts.Items) != 1 || facts.Items[0].Agent != "east" || facts.Items[0].Name != "php" {
					t.Errorf("facts: %+v", facts)
				}
			}

			var profile struct{ Controls []struct{ ID string } }
			h.call(t, "GET", "/api/v1/profiles/p", nil, http.StatusOK, &profile)
			if len(profile.Controls) != 1 || profile.Controls[0].ID != "one" {
				t.Errorf("profile: %+v", profile)
			}

			var s scanAnswer
			resp := h.call(t, "POST", "/api/v1/scans", scanRequest(), http.StatusAccepted, &s)
			if s.Status != "queued" || s.Target.Agent != "east" || resp.Header.Get("Location") != "/api/v1/scans/"+s.ID {
				t.Errorf("created %+v at %s", s, resp.Header.Get("Location"))
			}
			job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil)
			if err != nil || job == nil || string(job.ID) != s.ID || job.Target.Pod != "main" {
				t.Fatalf("leased %+v, %v", job, err)
			}
			archive, err := a.scans.Profile(t.Context(), job.ProfileDigest)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, archive); n == 0 || err != nil {
				t.Errorf("archive of %d bytes, %v", n, err)
			}
			archive.Close()
			if err := a.scans.Progress(t.Context(), job.ID, job.Attempt, scan.Progress{Done: 1, Total: 1, Control: "one"}); err != nil {
				t.Fatal(err)
			}
			if err := a.scans.SendResults(t.Context(), job.ID, job.Attempt, results(t, hdf.Failed)); err != nil {
				t.Fatal(err)
			}
			h.call(t, "GET", "/api/v1/scans/"+s.ID, nil, http.StatusOK, &s)
			if s.Status != "completed" || s.Outcome != "failed" || s.Counts != (hdf.Counts{Failed: 1}) {
				t.Errorf("scan %+v", s)
			}
			var doc hdf.Results
			h.call(t, "GET", "/api/v1/scans/"+s.ID+"/results", nil, http.StatusOK, &doc)
			if doc.FailureCount != 1 || doc.Profiles[0].Controls[0].Status != hdf.Failed {
				t.Errorf("results %+v", doc)
			}
			told := <-alerts
			want := fleet.Outcome{Subject: fleet.Subject{Owner: "east/web", Repo: "main/app"}, Policy: "p/strict", Details: told.Outcome.Details}
			if d := cmp.Diff(want, told.Outcome); d != "" || !strings.Contains(told.Outcome.Details, "The first") {
				t.Errorf("told %q; (-want +got)\n%s", told.Outcome.Details, d)
			}
		})
	}
}

// forwards calls the service wiki of the agent east with each kind of
// credential, and with none that is right.
func forwards(t *testing.T, h *running) {
	base := "https://" + h.Addrs().Services.String()
	service := map[string]any{"agent": "east", "type": "x-wiki", "name": "wiki", "kind": "token"}
	var cred struct{ Token, Certificate, Key, URL, CA string }
	h.call(t, "POST", "/api/v1/credentials/service", service, http.StatusCreated, &cred)
	token := cred.Token
	service["kind"] = "certificate"
	h.call(t, "POST", "/api/v1/credentials/service", service, http.StatusCreated, &cred)
	pair, err := tls.X509KeyPair([]byte(cred.Certificate), []byte(cred.Key))
	if err != nil {
		t.Fatal(err)
	}
	if want := string(h.CA().CertPEM()); cred.CA != want {
		t.Errorf("ca: %s", cred.CA)
	}
	other, err := h.CA().IssueServiceToken("east", "x-wiki", "gone", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	away, err := h.CA().IssueServiceToken("west", "x-wiki", "wiki", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	bearer := func(token string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	}
	for name, tc := range map[string]struct {
		client *http.Client
		auth   func(*http.Request)
		status int
		says   string
	}{
		"bearer":         {h.client(t, nil), bearer(token), 200, "GET /a/b?c=d"},
		"basic":          {h.client(t, nil), func(r *http.Request) { r.SetBasicAuth("x", token) }, 200, "GET /a/b?c=d"},
		"certificate":    {h.client(t, &pair), func(*http.Request) {}, 200, "GET /a/b?c=d"},
		"nothing":        {h.client(t, nil), func(*http.Request) {}, 401, "no credential"},
		"no token of us": {h.client(t, nil), bearer("a.b.c"), 401, "not a JWT"},
		"control":        {h.admin, func(*http.Request) {}, 403, "get one for a service"},
		"a page of another site by certificate": {h.client(t, &pair), func(r *http.Request) {
			r.Method = "POST"
			r.Header.Set("Origin", "https://evil.example")
		}, 403, "another site"},
		"a WebSocket of another site by Basic": {h.client(t, nil), func(r *http.Request) {
			r.SetBasicAuth("x", token)
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "websocket")
			r.Header.Set("Origin", "https://evil.example")
		}, 403, "another site"},
		"a neighbour port's page": {h.client(t, &pair), func(r *http.Request) {
			r.Method = "POST"
			r.Header.Set("Sec-Fetch-Site", "same-site")
		}, 403, "another site"},
		"the service's own page": {h.client(t, &pair), func(r *http.Request) {
			r.Method = "POST"
			r.Header.Set("Origin", base)
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		}, 200, "POST /a/b?c=d"},
		"a token that no browser adds": {h.client(t, nil), func(r *http.Request) {
			r.Method = "POST"
			bearer(token)(r)
			r.Header.Set("Origin", "https://another.example")
		}, 200, "POST /a/b?c=d"},
		"unknown service": {h.client(t, nil), bearer(other), 404, "gone"},
		"unknown agent":   {h.client(t, nil), bearer(away), 404, "west"},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), "GET", base+"/a/b?c=d", nil)
			if err != nil {
				t.Fatal(err)
			}
			tc.auth(req)
			resp, err := tc.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tc.status || !strings.Contains(string(text), tc.says) {
				t.Errorf("%s %s, %v; want %d, saying %q", resp.Status, text, err, tc.status, tc.says)
			}
		})
	}
}

// TestHub_restart stops the hub while an agent has a scan; the agent comes
// back to the next hub on the same data and the scan completes there, once.
func TestHub_restart(t *testing.T) {
	cfg := config(t)
	h := start(t, cfg)
	e := h.enrolled(t, "east")
	a := newAgent(t, h.dial(t, e, tunnel.RawTLS), http.NotFoundHandler())
	a.register(t, "east", "i1", nil)
	var s, lost scanAnswer
	h.call(t, "POST", "/api/v1/scans", scanRequest(), http.StatusAccepted, &s)
	h.call(t, "POST", "/api/v1/scans", scanRequest(), http.StatusAccepted, &lost)
	job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil)
	if err != nil || string(job.ID) != s.ID {
		t.Fatalf("leased %+v, %v", job, err)
	}
	if job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, []scan.ID{job.ID}); err != nil || string(job.ID) != lost.ID {
		t.Fatalf("leased %+v, %v", job, err)
	}

	h.stop()
	<-a.session.Done()
	h = start(t, cfg)

	// The agent kept the one and forgot the other.
	a = newAgent(t, h.dial(t, e, tunnel.WebSocket), http.NotFoundHandler())
	a.register(t, "east", "i1", nil, s.ID)
	if err := a.scans.SendResults(t.Context(), job.ID, job.Attempt, results(t, hdf.Passed)); err != nil {
		t.Fatal(err)
	}
	if err := a.scans.SendResults(t.Context(), job.ID, job.Attempt, results(t, hdf.Failed)); !errors.Is(err, scan.ErrFinished) {
		t.Errorf("results for the second time: %v", err)
	}
	h.call(t, "GET", "/api/v1/scans/"+s.ID, nil, http.StatusOK, &s)
	if s.Status != "completed" || s.Outcome != "passed" || s.Attempt != 1 {
		t.Errorf("the scan that was held: %+v", s)
	}
	again, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil)
	if err != nil || string(again.ID) != lost.ID || again.Attempt != 2 {
		t.Errorf("the scan that was lost: %+v, %v", again, err)
	}
}

func TestHub_refusesCarriers(t *testing.T) {
	h := start(t, config(t))
	control, err := tls.LoadX509KeyPair(filepath.Join(h.cfg.CADir, "control.pem"), filepath.Join(h.cfg.CADir, "control-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if _, err := pki.Init(filepath.Join(other, "ca"), "other"); err != nil {
		t.Fatal(err)
	}
	foreign, err := tls.LoadX509KeyPair(filepath.Join(other, "ca", "control.pem"), filepath.Join(other, "ca", "control-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		certs []tls.Certificate
		says  string
	}{
		"no certificate":        {nil, "401"},
		"a control certificate": {[]tls.Certificate{control}, "401"},
		"another CA's":          {[]tls.Certificate{foreign}, "401"},
	} {
		t.Run(name+" by websocket", func(t *testing.T) {
			_, err := tunnel.Dial(t.Context(), tunnel.DialConfig{
				URL: "https://" + h.Addrs().API.String(), Carriers: []tunnel.Carrier{tunnel.WebSocket},
				TLS: &tls.Config{RootCAs: h.CA().Pool(), Certificates: tc.certs},
			})
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("dial: %v", err)
			}
		})
		t.Run(name+" by ALPN", func(t *testing.T) {
			s, err := tunnel.Dial(t.Context(), tunnel.DialConfig{
				URL: "https://" + h.Addrs().API.String(), Carriers: []tunnel.Carrier{tunnel.RawTLS},
				TLS: &tls.Config{RootCAs: h.CA().Pool(), Certificates: tc.certs},
			})
			if err != nil {
				return
			}
			defer s.Close()
			<-s.Done()
		})
	}

	for _, addr := range []net.Addr{h.Addrs().API, h.Addrs().Services} {
		resp, err := h.client(t, &foreign).Get("https://" + addr.String() + "/api/v1/whoami")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusUnauthorized || !strings.Contains(string(text), "another CA made it") {
			t.Errorf("another CA's certificate at %s: %s %s", addr, resp.Status, text)
		}
	}

	a := newAgent(t, h.dial(t, h.enrolled(t, "east"), tunnel.RawTLS), http.NotFoundHandler())
	if status, text := a.post(t, "/v1/register", fleet.Registration{Agent: "west", Instance: "i"}); status != http.StatusForbidden || !strings.Contains(text, `"east"`) {
		t.Errorf("registration of another agent: %d %s", status, text)
	}
	if status, text := a.post(t, "/v1/register", map[string]any{"agent": "east"}); status != http.StatusUnprocessableEntity || !strings.Contains(text, "instance") {
		t.Errorf("registration without instance: %d %s", status, text)
	}
	if status, _ := a.post(t, "/v1/register", strings.Repeat("x", 2<<20)); status != http.StatusBadRequest {
		t.Errorf("endless registration: %d", status)
	}
}

func TestHub_renews(t *testing.T) {
	h := start(t, config(t))
	e := h.enrolled(t, "east")
	a := newAgent(t, h.dial(t, e, tunnel.RawTLS), http.NotFoundHandler())
	before := e.NotAfter()
	err := e.Renew(t.Context(), func(ctx context.Context, csr []byte) ([]byte, error) {
		resp, err := a.http.Post("http://hub/v1/renew", "application/x-pem-file", bytes.NewReader(csr))
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, errors.New(resp.Status)
		}
		return io.ReadAll(resp.Body)
	})
	if err != nil || e.NotAfter().Before(before) {
		t.Fatalf("renewed to %v from %v: %v", e.NotAfter(), before, err)
	}
	h.dial(t, e, tunnel.WebSocket)
	if status, _ := a.post(t, "/v1/renew", "not a request"); status != http.StatusUnprocessableEntity {
		t.Errorf("no request: %d", status)
	}
}

func TestHub_page(t *testing.T) {
	h := start(t, config(t))
	stranger := h.client(t, nil)
	for path, want := range map[string]string{
		"/": "401 text/html; charset=utf-8", "/scans": "401 text/html; charset=utf-8", "/api/v1/scans": "401 application/problem+json",
		"/api/nothing": "404 application/problem+json", "/openapi.json": "200 application/openapi+json", "/login": "401 text/plain; charset=utf-8",
	} {
		resp, err := stranger.Get(h.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Content-Type")); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	resp, err := h.admin.Get(h.URL() + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), "No agent has joined yet") {
		t.Errorf("%s %s, %v", resp.Status, text, err)
	}
}

func TestHub_metrics(t *testing.T) {
	h := start(t, config(t))
	for path, says := range map[string]string{"/healthz": "ok", "/readyz": "ok", "/metrics": "reeve_hub_links 0"} {
		resp, err := http.Get("http://" + h.Addrs().Metrics.String() + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), says) {
			t.Errorf("%s: %s, %v", path, resp.Status, err)
		}
	}
}

func TestNew_saysWhatIsWrong(t *testing.T) {
	running := start(t, config(t)).cfg
	for name, tc := range map[string]struct {
		change func(*hub.Config)
		says   string
	}{
		"no CA":       {func(c *hub.Config) { c.CADir = t.TempDir() }, "reeve ca init"},
		"data in use": {func(c *hub.Config) { c.DataDir = running.DataDir }, "another hub runs on"},
		"no address":  {func(c *hub.Config) { c.Listen.API = "8443" }, "listen.api"},
		"bad profile": {func(c *hub.Config) { write(t, filepath.Join(c.Profiles.Dir, "q", "readme"), "") }, "inspec.yml"},
		"bad threshold": {func(c *hub.Config) {
			c.Thresholds.Dir = c.CADir
			write(t, filepath.Join(c.CADir, "x.yaml"), "complianze: 1\n")
		}, "complianze"},
		"sink without CA": {func(c *hub.Config) {
			c.Sinks = []hub.SinkConfig{{Name: "s", Type: "rpc", Endpoint: "h:1", CAFile: "/none"}}
		}, "/none"},
		"retention of a minute": {func(c *hub.Config) { c.Retention.Scans.KeepFor = time.Minute }, "retention.scans.keepFor"},
		"no dead letters":       {func(c *hub.Config) { c.Retention.Alerts.DeadFor = -1 }, "retention.alerts.deadFor"},
		"an issuer for nobody":  {func(c *hub.Config) { c.OIDC.Issuer, c.OIDC.ClientID = "https://id.example", "reeve" }, "oidc.roles"},
		"no secret":             {func(c *hub.Config) { c.Callbacks.SecretFile = "/none" }, "callbacks.secretFile"},
		"unknown sink":          {func(c *hub.Config) { c.Sinks = []hub.SinkConfig{{Name: "s", Type: "pigeon", Endpoint: "h:1"}} }, "sinks[0].type"},
		"sink there twice": {func(c *hub.Config) {
			s := hub.SinkConfig{Name: "s", Type: "rpc", Endpoint: "h:1"}
			c.Sinks = []hub.SinkConfig{s, s}
		}, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			tc.change(&cfg)
			h, err := hub.New(cfg, "test", slog.New(slog.DiscardHandler))
			if err == nil {
				h.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v; want it to say %q", err, tc.says)
			}
		})
	}
}

func TestLoadConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.yaml")
	write(t, path, "dataDir: /d\nscan:\n  leaseFor: 90s\nsinks:\n- {name: a, type: rpc, endpoint: 'a:1'}\n"+
		"oidc:\n  issuer: https://id.example/realm\n  audiences: [cli]\n  roles:\n  - {groups: [team-a], role: scanner, agents: ['prod-*'], namespaces: [shop]}\n")
	t.Setenv("REEVE_HUB_SCAN_MAX_ATTEMPTS", "5")
	t.Setenv("REEVE_HUB_NAMES", "a.example, b.example")
	cfg, err := hub.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	want := hub.Defaults()
	want.DataDir, want.Scan.LeaseFor, want.Scan.MaxAttempts = "/d", 90*time.Second, 5
	want.Names = []string{"a.example", "b.example"}
	want.Sinks = []hub.SinkConfig{{Name: "a", Type: "rpc", Endpoint: "a:1"}}
	want.OIDC.Issuer, want.OIDC.Audiences = "https://id.example/realm", []string{"cli"}
	want.OIDC.Roles = []oidc.Rule{{Groups: []string{"team-a"}, Role: pki.Scanner, Scope: fleet.Scope{Agents: []string{"prod-*"}, Namespaces: []string{"shop"}}}}
	if d := cmp.Diff(want, cfg); d != "" {
		t.Error(d)
	}
	write(t, path, "dataDir: /d\nscan:\n  leasFor: 90s\n")
	if _, err := hub.LoadConfig(path); err == nil || !strings.Contains(err.Error(), `line 3: unknown key "leasFor"`) {
		t.Errorf("unknown key: %v", err)
	}
}
