package forward_test

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/forward/forwardtest"
)

// spinnaker is a hub with fiat and front50, and an agent with clouddriver and
// a port of its own to each of them.
type spinnaker struct {
	*bench
	clouddriver, fiat            *http.Request // the last one that came
	answer                       string        // X-Spinnaker-User in the next answer
	toFiat, toFront50, toNowhere *httptest.Server
}

func startSpinnaker(t *testing.T) *spinnaker {
	t.Helper()
	s := &spinnaker{}
	serve := func(last **http.Request) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			*last = r
			if s.answer != "" {
				w.Header().Set("X-Spinnaker-User", s.answer)
			}
		}
	}
	hubSide := httptest.NewServer(serve(&s.fiat))
	t.Cleanup(hubSide.Close)
	own, err := forward.NewAgent(forward.AgentConfig{Upstreams: []forward.Upstream{
		{Type: "fiat", Name: "main", URL: hubSide.URL}, {Type: "front50", Name: "main", URL: hubSide.URL + "/front50"}, {Type: "x-secret", Name: "main", URL: hubSide.URL},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var hub *forward.Hub
	link := &linkFunc{} // from the agent to the hub
	s.bench = start(t, serve(&s.clouddriver), func(o *forwardtest.Options) {
		o.Upstreams[0].Type = "clouddriver"
		o.Access = func(h *forward.HubConfig) {
			local := forward.WithLocal(h.Links, own, slog.New(slog.DiscardHandler))
			t.Cleanup(func() { local.Close() })
			h.Links, h.Users = local, link
			h.Authenticate = forward.Linked([]forward.IncomingRule{
				{Agents: []string{"cluster-*"}, Services: []string{"f*/main"}},
				{Agents: []string{"cluster-1"}, Destination: "cluster-1", Services: []string{"clouddriver/*"}},
			}, func(a fleet.AgentName) string { return "agent " + string(a) }, h.Authenticate)
			var err error
			if hub, err = forward.NewHub(*h); err != nil {
				t.Fatal(err)
			}
		}
	})
	link.users = s.CA
	atHub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hub.ServeHTTP(w, r.WithContext(fleet.WithPeer(r.Context(), fleet.Peer{Agent: forwardtest.AgentName, Instance: "i"})))
	}))
	t.Cleanup(atHub.Close)
	link.host = strings.TrimPrefix(atHub.URL, "http://")
	open := func(i forward.Incoming) *httptest.Server {
		p := httptest.NewServer(i.Handler(link, slog.New(slog.DiscardHandler)))
		t.Cleanup(p.Close)
		return p
	}
	s.toFiat = open(forward.Incoming{ServiceType: "fiat", DestinationService: "main"})
	s.toFront50 = open(forward.Incoming{ServiceType: "front50", DestinationService: "main", Destination: fleet.HubAgent})
	s.toNowhere = open(forward.Incoming{ServiceType: "x-secret", DestinationService: "main"})
	return s
}

type linkFunc struct {
	host  string
	users forward.Users
}

func (l *linkFunc) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.host == "" {
		return nil, forward.ErrNoLink
	}
	r.URL.Host = l.host
	return http.DefaultTransport.RoundTrip(r)
}
func (l *linkFunc) SealUser(n string) (string, error) { return l.users.SealUser(n) }
func (l *linkFunc) OpenUser(n string) (string, error) { return l.users.OpenUser(n) }

func get(t *testing.T, c *http.Client, url, user string) (*http.Response, string) {
	t.Helper()
	r := request(t, "GET", url, nil)
	if user != "" {
		r.Header.Set("X-Spinnaker-User", user)
	}
	return do(t, c, r)
}

func TestForward_Spinnakers_users(t *testing.T) {
	s := startSpinnaker(t)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)

	// orca calls clouddriver in alice's name.
	if resp, body := get(t, s.as(t, "clouddriver", "main"), s.URL+"/ops", "alice/é"); resp.StatusCode != 200 {
		t.Fatal(resp.Status, body)
	}
	sealed := s.clouddriver.Header.Get("X-Spinnaker-User")
	if sealed == "" || strings.Contains(sealed, "alice") {
		t.Fatalf("clouddriver got %q", sealed)
	}

	// clouddriver asks fiat, and front50, with what it got.
	for _, tt := range []struct {
		url, user, path, name string
		status                int
	}{
		{s.toFiat.URL + "/authorize/" + sealed + "/accounts?x=/authorize/bob", sealed, "/authorize/" + url.PathEscape("alice/é") + "/accounts?x=/authorize/bob", "alice/é", 200},
		{s.toFiat.URL + "/health", "", "/health", "", 200},
		{s.toFront50.URL + "/v2/applications", sealed, "/front50/v2/applications", "alice/é", 200},
		{s.toFiat.URL + "/authorize/bob", sealed, "", "", 403},
		{s.toFiat.URL + "/authorize/" + sealed, "bob", "", "", 403},
		{s.toFiat.URL + "//authorize/bob", "", "", "", 403},
		{s.toFiat.URL + "/x/%2e%2e/authorize/bob", "", "", "", 400},
		{s.toFiat.URL + "/%61uthorize/bob", "", "", "", 403},
		{s.toFiat.URL + "/./authorize/bob", "", "", "", 403},
		{s.toFront50.URL + "/v2/applications", "bob", "", "", 403},
		{s.toNowhere.URL + "/", "", "", "", 403},
	} {
		s.fiat = nil
		resp, body := get(t, s.toFiat.Client(), tt.url, tt.user)
		if resp.StatusCode != tt.status || (s.fiat != nil) != (tt.status == 200) {
			t.Errorf("%s as %.10q: %s %s", tt.url, tt.user, resp.Status, body)
			continue
		}
		if s.fiat != nil && (s.fiat.RequestURI != tt.path || s.fiat.Header.Get("X-Spinnaker-User") != tt.name) {
			t.Errorf("%s: at the service %s as %q, want %s as %q", tt.url, s.fiat.RequestURI, s.fiat.Header.Get("X-Spinnaker-User"), tt.path, tt.name)
		}
	}

	// Names in answers are turned over on the way back.
	s.answer = "bob"
	resp, _ := get(t, s.toFiat.Client(), s.toFront50.URL, "")
	if name, err := s.CA.OpenUser(resp.Header.Get("X-Spinnaker-User")); name != "bob" || err != nil {
		t.Errorf("an answer of front50: %q, %v", name, err)
	}
	s.answer = sealed
	if resp, _ := get(t, s.as(t, "clouddriver", "main"), s.URL, ""); resp.Header.Get("X-Spinnaker-User") != "alice/é" {
		t.Errorf("an answer of clouddriver: %q", resp.Header.Get("X-Spinnaker-User"))
	}
	s.answer = "bob"
	if resp, _ := get(t, s.as(t, "clouddriver", "main"), s.URL, ""); resp.Header.Get("X-Spinnaker-User") != "" {
		t.Errorf("clouddriver names a user that it wasn't given: %q", resp.Header.Get("X-Spinnaker-User"))
	}
}

func TestIncoming_without_a_link(t *testing.T) {
	h := forward.Incoming{ServiceType: "fiat", DestinationService: "main"}.Handler(&linkFunc{}, slog.New(slog.DiscardHandler))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), "GET", "/", nil))
	if w.Code != http.StatusBadGateway || !strings.Contains(w.Body.String(), "isn't connected") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// Whoever reaches an incoming port is taken for the agent, and a browser beside
// it reaches it for whatever site is open there.
func TestIncoming_isnt_for_other_sites(t *testing.T) {
	asked := 0
	link := countingLink(func() { asked++ })
	h := forward.Incoming{ServiceType: "fiat", DestinationService: "main"}.Handler(link, slog.New(slog.DiscardHandler))
	for _, tt := range []struct {
		method string
		header http.Header
		status int
	}{
		{"POST", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		{"POST", http.Header{"Origin": {"https://evil.example"}}, 403},
		{"GET", http.Header{"Origin": {"https://evil.example"}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, 403},
		{"POST", nil, 200},
		{"GET", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 200},
	} {
		asked = 0
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), tt.method, "http://localhost:7003/roles", nil)
		maps.Copy(r.Header, tt.header)
		h.ServeHTTP(w, r)
		if w.Code != tt.status || (asked > 0) != (tt.status == 200) {
			t.Errorf("%s with %v: %d, sent %d times", tt.method, tt.header, w.Code, asked)
		}
	}
}

// A site whose name leads to the machine of the browser is no other site to it.
func TestIncoming_isnt_for_other_names(t *testing.T) {
	link := countingLink(func() {})
	for host, status := range map[string]int{
		"localhost:7003": 200, "127.0.0.1:7003": 200, "[::1]:7003": 200, "[::1]": 200, "fiat": 200, "localhost.:7003": 200, "": 200,
		"host.docker.internal:7003": 200, "evil.example:7003": 421, "127.0.0.1.evil.example": 421, "EVIL.example.": 421,
	} {
		for _, tt := range []struct {
			i      forward.Incoming
			status int
		}{
			{forward.Incoming{UseHTTP: true}, status},
			{forward.Incoming{UseHTTP: true, Address: "127.0.0.1"}, 200},
			{forward.Incoming{}, 200}, // the certificate has other names
		} {
			w, r := httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), "GET", "/roles", nil)
			r.Host = host
			tt.i.Handler(link, slog.New(slog.DiscardHandler)).ServeHTTP(w, r)
			if w.Code != tt.status {
				t.Errorf("%q at %+v: %d, want %d", host, tt.i, w.Code, tt.status)
			}
		}
	}
}

// countingLink answers 200 to everything.
type countingLink func()

func (f countingLink) RoundTrip(r *http.Request) (*http.Response, error) {
	f()
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}
