package hub_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"reeve.dev/reeve/hub"
	insightlink "reeve.dev/reeve/insight/link"
	"reeve.dev/reeve/tunnel"
)

// What an agent sends is transformed by the hub's files, and goes on to
// Dependency-Track.
func TestHub_insights(t *testing.T) {
	arrived := make(chan string, 10)
	track := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Api-Key") != "key" || r.URL.Path != "/api/v1/bom" || r.ParseMultipartForm(1<<20) != nil {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		arrived <- r.FormValue("projectName") + "@" + r.FormValue("projectVersion")
		io.WriteString(w, `{"token":"1"}`)
	}))
	t.Cleanup(track.Close)
	cfg := config(t)
	dir := t.TempDir()
	key, transforms := filepath.Join(dir, "key"), filepath.Join(dir, "facts.yaml")
	write(t, key, "key\n")
	write(t, transforms, `transforms: [{type: Package, lookupvalue: [{name: Name, value: left-pad}], keyfact: true}]`)
	cfg.Insights.Transforms = []string{transforms}
	cfg.Insights.DependencyTrack.URL, cfg.Insights.DependencyTrack.APIKeyFile = track.URL, key
	h := start(t, cfg)
	a := newAgent(t, h.dial(t, h.enrolled(t, "east"), tunnel.WebSocket), http.NotFoundHandler())
	a.register(t, "east", "i1", nil)
	send := func(id, place string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, "http://hub"+insightlink.Path, strings.NewReader(
			`{"type":"sbom",`+place+`,"service":"web","payload":{"a":"{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"components\":[{\"name\":\"left-pad\",\"version\":\"`+id+`\"}]}"}}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Reeve-Item", id)
		resp, err := a.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	send("1", `"namespace":"shop"`)
	if got := <-arrived; got != "shop/web@east" {
		t.Errorf("Dependency-Track has %s", got)
	}
	var facts struct {
		Items []struct{ Name, Value, Namespace string }
	}
	h.call(t, "GET", "/api/v1/insights/facts", nil, http.StatusOK, &facts)
	if got := fmt.Sprint(facts.Items); got != "[{left-pad 1 shop}]" {
		t.Errorf("facts %s", got)
	}
	sent := func() {
		t.Helper()
		until(t, "the hub knows that it was taken", func() bool {
			var waiting struct{ Items []struct{} }
			h.call(t, "GET", "/api/v1/insights/exports?state=waiting", nil, http.StatusOK, &waiting)
			return len(waiting.Items) == 0
		})
	}
	sent()
	var exported struct{ Queued int }
	h.call(t, "POST", "/api/v1/insights/exports", struct{}{}, http.StatusAccepted, &exported)
	if <-arrived; exported.Queued != 1 {
		t.Errorf("again: %+v", exported)
	}
	// Of two that go to one project the later goes, then and when all go again.
	send("2", `"namespace":"shop2","project":"shop","environment":"east"`)
	<-arrived
	sent()
	h.call(t, "POST", "/api/v1/insights/exports", struct{}{}, http.StatusAccepted, &exported)
	if <-arrived; exported.Queued != 1 {
		t.Errorf("both again: %+v", exported)
	}
	var went struct{ Items []struct{ Namespace string } }
	h.call(t, "GET", "/api/v1/insights/exports", nil, http.StatusOK, &went)
	if got := fmt.Sprint(went.Items); got != "[{shop2}]" {
		t.Errorf("exported is the SBOM of %s", got)
	}
	until(t, "the metrics say that nothing waits", func() bool {
		resp, err := http.Get("http://" + h.Addrs().Metrics.String() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(text), "reeve_hub_exports_waiting_items 0")
	})
}

func TestConfig_insights(t *testing.T) {
	for says, change := range map[string]func(*hub.Config){
		"insights.transforms":                 func(c *hub.Config) { c.Insights.Transforms = []string{"/none"} },
		"insights.dependencyTrack.url":        func(c *hub.Config) { c.Insights.DependencyTrack.URL = "http://dtrack" },
		"insights.dependencyTrack.apiKeyFile": func(c *hub.Config) { c.Insights.DependencyTrack.URL = "https://dtrack" },
		"insights.dependencyTrack.apiKeyFile: open": func(c *hub.Config) {
			c.Insights.DependencyTrack.URL, c.Insights.DependencyTrack.APIKeyFile = "https://dtrack", "/none"
		},
		"retention.insights": func(c *hub.Config) { c.Retention.Insights = -1 },
	} {
		cfg := config(t)
		change(&cfg)
		h, err := hub.New(cfg, "test", slog.New(slog.DiscardHandler))
		if err == nil {
			h.Close()
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v; want it to say %q", err, says)
		}
	}
}
