package agent_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/pki"
)

// A workload beside the agent reaches a service beside the hub, by a port of
// the agent's; and so does a caller with a credential for it.
func TestAgent_incomingServices(t *testing.T) {
	wiki := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.URL.Path+" "+r.Header.Get("Authorization"))
	}))
	t.Cleanup(wiki.Close)
	dir := t.TempDir()
	hc := hub.Defaults()
	hc.DataDir, hc.CADir = filepath.Join(dir, "hub"), filepath.Join(dir, "ca")
	hc.Listen = hub.ListenConfig{API: "127.0.0.1:0", Services: "127.0.0.1:0", Metrics: "127.0.0.1:0"}
	hc.Services = []forward.Upstream{{Type: "x-wiki", Name: "open", URL: wiki.URL}, {Type: "x-wiki", Name: "closed", URL: wiki.URL}}
	hc.IncomingServices = []forward.IncomingRule{{Agents: []string{"edge"}, Services: []string{"x-wiki/open"}}}
	if _, err := pki.Init(hc.CADir, "test"); err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(hc, "test", quiet)
	if err != nil {
		t.Fatal(err)
	}
	token, text, err := h.CA().NewJoinToken("edge", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Tokens().CreateToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	ac := agent.Defaults()
	ac.Hub.URL, ac.DataDir, ac.Metrics = "https://"+h.Addrs().API.String(), filepath.Join(dir, "agent"), ""
	ac.Hub.JoinTokenFile = filepath.Join(dir, "token")
	if err := os.WriteFile(ac.Hub.JoinTokenFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ac.IncomingServices = []forward.Incoming{
		{Name: "plain", UseHTTP: true, ServiceType: "x-wiki", DestinationService: "open"},
		{Name: "tls", ServiceType: "x-wiki", DestinationService: "open", Destination: fleet.HubAgent},
		{Name: "closed", UseHTTP: true, ServiceType: "x-wiki", DestinationService: "closed"},
		{Name: "nowhere", UseHTTP: true, ServiceType: "x-wiki", DestinationService: "open", Destination: "other"},
	}
	a, err := agent.New(ac, "test", quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- h.Run(ctx) }()
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.CA().Pool()}}}
	t.Cleanup(client.CloseIdleConnections)
	get := func(url, authorization string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", authorization)
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	addrs := a.IncomingAddrs()
	for {
		status, body := get("http://"+addrs[0].String(), "")
		if status == 200 {
			break
		}
		if status != http.StatusBadGateway || !strings.Contains(body, "isn't connected") {
			t.Fatal(status, body)
		}
	}
	// A path of the link's own is one of the service's here.
	if status, body := get("http://"+addrs[0].String()+"/v1/register", "Bearer mine"); status != 200 || body != "/v1/register " {
		t.Errorf("%d %q", status, body)
	}
	if status, body := get("https://"+addrs[1].String()+"/page", ""); status != 200 || body != "/page " {
		t.Errorf("by TLS: %d %q", status, body)
	}
	for i, says := range map[int]string{2: "x-wiki/closed", 3: `of \"other\"`} {
		if status, body := get("http://"+addrs[i].String(), ""); status != http.StatusForbidden || !strings.Contains(body, says) || !strings.Contains(body, "incomingServices") {
			t.Errorf("%s: %d %s", ac.IncomingServices[i].Name, status, body)
		}
	}
	jwt, err := h.CA().IssueServiceToken(fleet.HubAgent, "x-wiki", "closed", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := get("https://"+h.Addrs().Services.String()+"/page", "Bearer "+jwt); status != 200 || body != "/page " {
		t.Errorf("a caller: %d %q", status, body)
	}
}
