package hub_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/tunnel"
)

// within is how soon what was revoked has to be over.
const within = 5 * time.Second

// TestHub_revokes takes back a caller's credential and an agent's certificate
// while they are in use, and starts the hub anew.
func TestHub_revokes(t *testing.T) {
	cfg := config(t)
	h := start(t, cfg)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "event\n")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer upstream.Close()
	fwd, err := forward.NewAgent(forward.AgentConfig{Upstreams: []forward.Upstream{{Name: "wiki", Type: "x-wiki", URL: upstream.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	e := h.enrolled(t, "east")
	a := newAgent(t, h.dial(t, e, tunnel.RawTLS), fwd)
	a.register(t, "east", "i1", fwd.Services())

	made := func() (cred struct{ ID, Token string }) {
		h.call(t, "POST", "/api/v1/credentials/service", map[string]any{"agent": "east", "type": "x-wiki", "name": "wiki", "kind": "token"}, http.StatusCreated, &cred)
		return cred
	}
	watch := func(token string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+h.Addrs().Services.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := h.client(t, nil).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	// ends fails unless the body breaks off soon.
	ends := func(body io.ReadCloser) {
		t.Helper()
		timeout := time.AfterFunc(within, func() { t.Error("it goes on"); body.Close() })
		defer timeout.Stop()
		if _, err := io.Copy(io.Discard, body); err == nil {
			t.Error("it looks whole")
		}
	}
	lost, kept := made(), made()
	cut, open := watch(lost.Token), watch(kept.Token)
	lines := bufio.NewReader(open.Body)
	if line, err := lines.ReadString('\n'); err != nil {
		t.Fatal(line, err)
	}
	h.call(t, "POST", "/api/v1/revocations", map[string]any{"kind": "token", "id": lost.ID}, http.StatusCreated, nil)
	ends(cut.Body)
	if resp := watch(lost.Token); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("afterwards: %s", resp.Status)
	}

	// The agent: its link ends, what goes by it too, and it can't come back.
	h.call(t, "POST", "/api/v1/revocations", map[string]any{"kind": "identity", "id": "spiffe://reeve/agent/east"}, http.StatusCreated, nil)
	select {
	case <-a.session.Done():
	case <-time.After(within):
		t.Error("the agent's link goes on")
	}
	ends(io.NopCloser(lines))
	refused := func(when string) {
		t.Helper()
		s, err := tunnel.Dial(t.Context(), tunnel.DialConfig{URL: "https://" + h.Addrs().API.String(), TLS: e.TLSConfig(), Carriers: []tunnel.Carrier{tunnel.WebSocket}})
		if err == nil {
			s.Close()
			t.Errorf("%s: the agent is let in", when)
		}
		if err := e.Renew(t.Context(), e.Direct("https://"+h.Addrs().API.String())); !errors.Is(err, pki.ErrForeign) || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("%s: its certificate is renewed: %v", when, err)
		}
		if resp := watch(lost.Token); resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s", when, resp.Status)
		}
	}
	refused("at once")
	h.stop()
	h = start(t, cfg)
	refused("after a restart")
}

// TestHub_namesOfServices calls services by name, as rules let it, those of
// the hub itself among them.
func TestHub_namesOfServices(t *testing.T) {
	says := func(text string) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }))
		t.Cleanup(s.Close)
		return s
	}
	cfg := config(t)
	cfg.Access = hub.AccessConfig{Domain: "svc.example.com", Rules: []forward.Rule{
		{Effect: "allow", Who: forward.Who{Holders: []string{"alice"}}, Types: []string{"x-*"}},
	}}
	cfg.Services = []forward.Upstream{{Name: "front", Type: "x-front", URL: says("the hub's").URL}}
	h := start(t, cfg)
	fwd, err := forward.NewAgent(forward.AgentConfig{Upstreams: []forward.Upstream{
		{Name: "wiki", Type: "x-wiki", URL: says("wiki").URL}, {Name: "blog", Type: "x-blog", URL: says("blog").URL},
	}})
	if err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, h.dial(t, h.enrolled(t, "east"), tunnel.RawTLS), fwd)
	a.register(t, "east", "i1", fwd.Services())

	// A credential for the hub's own is made as for any other, and its name is
	// no agent's.
	var own struct{ URL, Token string }
	h.call(t, "POST", "/api/v1/credentials/service", map[string]any{"agent": "hub", "type": "x-front", "name": "front", "kind": "token"}, http.StatusCreated, &own)
	req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+h.Addrs().Services.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+own.Token)
	resp, err := h.client(t, nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "the hub's" {
		t.Errorf("%s %s, %v", resp.Status, text, err)
	}
	var refused struct{ Detail string }
	h.call(t, "POST", "/api/v1/credentials/service", map[string]any{"agent": "hub", "type": "x-front", "name": "back", "kind": "token"}, http.StatusUnprocessableEntity, &refused)
	if !strings.Contains(refused.Detail, "it offers: x-front/front") {
		t.Error(refused.Detail)
	}
	h.call(t, "POST", "/api/v1/tokens", map[string]any{"kind": "join", "agent": "hub"}, http.StatusUnprocessableEntity, &refused)
	if !strings.Contains(refused.Detail, "hub's own services") {
		t.Error(refused.Detail)
	}
	var list struct {
		Items []struct{ Agent, Name string }
	}
	h.call(t, "GET", "/api/v1/services", nil, http.StatusOK, &list)
	if len(list.Items) != 3 || list.Items[0].Agent != "hub" || list.Items[0].Name != "front" {
		t.Errorf("services: %+v", list.Items)
	}

	for _, tc := range []struct {
		holder, name string
		status       int
		says         string
	}{
		{"alice", "blog.east", 200, "blog"},
		{"alice", "wiki.x-wiki.east", 200, "wiki"},
		{"alice", "front.hub", 200, "the hub's"},
		{"bob", "wiki.east", 200, "wiki"},
		{"bob", "blog.east", 403, "no rule of this hub allows it"},
		{"alice", "gone.east", 404, "reaches: east x-blog/blog, east x-wiki/wiki, hub x-front/front"},
		{"bob", "gone.east", 404, "reaches: east x-wiki/wiki\""},
	} {
		t.Run(tc.holder+" "+tc.name, func(t *testing.T) {
			token, err := h.CA().NewServiceToken(pki.Identity{Purpose: pki.Service, Agent: "east", Type: "x-wiki", Name: "wiki", Holder: tc.holder}, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			c := h.client(t, nil)
			// The name is the TLS server's too, whose certificate must be for it.
			c.Transport.(*http.Transport).TLSClientConfig.ServerName = tc.name + ".svc.example.com"
			req, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+h.Addrs().Services.String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			resp, err := c.Do(req)
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

func TestConfig_access(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*hub.Config)
		says   string
	}{
		"a bad domain":        {func(c *hub.Config) { c.Access.Domain = "*.example.com" }, "access.domain"},
		"the hub's own names": {func(c *hub.Config) { c.Access.Domain, c.Names = "example.com", []string{"hub.reeve.example.com"} }, `own name "hub.reeve.example.com"`},
		"a bad rule":          {func(c *hub.Config) { c.Access.Rules = []forward.Rule{{}} }, "access.rules[0].effect"},
		"a bad limit":         {func(c *hub.Config) { c.Limits.Agent.Burst = 1 }, "limits.agent.burst"},
	} {
		cfg := config(t)
		tc.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v; want %q", name, err, tc.says)
		}
	}
}
