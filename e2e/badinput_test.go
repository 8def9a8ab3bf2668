package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// badInput gives each door something wrong and looks for an answer that names
// it, the right code, and nothing changed.
func (w *world) badInput(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.MkdirAll(broken+"/controls", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"inspec.yml": "name: broken\nversion: 1.0.0\n", "controls/a.rb": "control 'a' do\n  impact 0.5\n  describe('x') { it { should eq 'x' \nend\n"} {
		if err := os.WriteFile(filepath.Join(broken, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nothing := t.TempDir()
	if err := os.WriteFile(filepath.Join(nothing, "inspec.yml"), []byte("name: x\nsupports: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"unknown key of the hub":   {[]string{"hub", "--config", w.write("bad-hub.yaml", "dataDir: x\nlisten:\n  apii: \":1\"\n")}, 2, []string{"bad-hub.yaml", "line 3", `"apii"`, `"api"`}},
		"unknown key of the agent": {[]string{"agent", "--config", w.write("bad-agent.yaml", "hub: {url: https://x, jointoken: y}\n")}, 2, []string{"bad-agent.yaml", "line 1", `"jointoken"`}},
		"no such file":             {[]string{"hub", "--config", "/nope.yaml"}, 2, []string{"/nope.yaml"}},
		"a profile that isn't one": {[]string{"scan", "dir:/", "--profile", nothing}, 2, []string{"inspec.yml", "line 2"}},
		"a broken control":         {[]string{"scan", "dir:/", "--profile", broken}, 100, []string{"controls/a.rb:4", "syntax error"}},
		"a broken control, before": {[]string{"profile", "check", broken}, 1, []string{"controls/a.rb:4", "syntax error"}},
		"unknown profile":          {[]string{"scan", "dir:/", "--profile", "nope"}, 2, []string{`"nope"`, "container-baseline"}},
		"unknown threshold":        {[]string{"scan", "dir:/", "--profile", "container-baseline", "--threshold", "nope"}, 2, []string{`"nope"`, "moderate", "strict"}},
		"unknown target":           {[]string{"scan", "ftp://x", "--profile", "container-baseline"}, 2, []string{"ftp", "dir:"}},
		"target that isn't there":  {[]string{"scan", "dir:/nope", "--profile", "container-baseline"}, 2, []string{"/nope"}},
		"unknown pod":              {[]string{"scan", "k8s-container://shop/nope/web", "--kubeconfig", w.k.Kubeconfig, "--profile", "container-baseline"}, 2, []string{"nope", "shop"}},
		"unknown container":        {[]string{"scan", "k8s-container://shop/web-app/nope", "--kubeconfig", w.k.Kubeconfig, "--profile", "container-baseline"}, 2, []string{"nope", "web"}},
		"unknown command":          {[]string{"scann"}, 2, []string{"scann"}},
		"unknown flag":             {[]string{"scan", "dir:/", "--profil", "x"}, 2, []string{"--profil"}},
		"unknown reporter":         {[]string{"scan", "dir:/", "--profile", "container-baseline", "--reporter", "pdf"}, 2, []string{"pdf", "json"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.reeve(tc.args...)
			if r.code != tc.code {
				t.Errorf("exit code %d, want %d\n%s%s", r.code, tc.code, r.out, r.stderr)
			}
			for _, s := range tc.says {
				if !strings.Contains(r.out+r.stderr, s) {
					t.Errorf("%q isn't in %s%s", s, r.out, r.stderr)
				}
			}
		})
	}

	const target = `"target": {"agent": "prod", "namespace": "shop", "pod": "web-app", "container": "web"}`
	for name, tc := range map[string]struct {
		body     string
		code     int
		location string
		says     string
	}{
		"unknown profile":    {`{` + target + `, "scan": {"profile": "nope"}}`, http.StatusUnprocessableEntity, "body.scan.profile", "container-baseline"},
		"unknown threshold":  {`{` + target + `, "scan": {"profile": "container-baseline", "threshold": "nope"}}`, http.StatusUnprocessableEntity, "body.scan.threshold", "moderate"},
		"unknown agent":      {`{"target": {"agent": "nope", "namespace": "a", "pod": "b", "container": "c"}, "scan": {"profile": "container-baseline"}}`, http.StatusUnprocessableEntity, "body.target.agent", "prod"},
		"no pod":             {`{"target": {"agent": "prod", "namespace": "shop", "container": "c"}, "scan": {"profile": "container-baseline"}}`, http.StatusUnprocessableEntity, "body.target.pod", ""},
		"a kind not allowed": {`{"target": {"agent": "prod", "uri": "shell:sh"}, "scan": {"profile": "container-baseline"}}`, http.StatusUnprocessableEntity, "body.target.uri", "k8s-container"},
		"unknown member":     {`{` + target + `, "scan": {"profile": "container-baseline"}, "optoins": {}}`, http.StatusUnprocessableEntity, "body.optoins", ""},
		"wrong type":         {`{` + target + `, "scan": {"profile": 3}}`, http.StatusUnprocessableEntity, "body.scan.profile", ""},
		"wrong timeout":      {`{` + target + `, "scan": {"profile": "container-baseline"}, "options": {"timeout": -1}}`, http.StatusUnprocessableEntity, "body.options.timeout", ""},
		"not JSON":           {`{`, http.StatusBadRequest, "body", ""},
	} {
		t.Run("POST /scans: "+name, func(t *testing.T) {
			before := w.scans(t)
			var p struct {
				Status int
				Detail string
				Errors []struct{ Location, Message string }
			}
			code, err := w.call(http.MethodPost, "/scans", tc.body, &p)
			if err != nil || code != tc.code || p.Status != tc.code {
				t.Fatalf("%d, %v: %+v", code, err, p)
			}
			found := false
			for _, e := range p.Errors {
				found = found || (e.Location == tc.location && strings.Contains(e.Message, tc.says))
			}
			if !found {
				t.Errorf("no error at %s that says %q: %+v", tc.location, tc.says, p)
			}
			if after := w.scans(t); after != before {
				t.Errorf("%d scans became %d", before, after)
			}
		})
	}

	t.Run("a pod that isn't there is the scan's error", func(t *testing.T) {
		s := w.request(t, `{"target": {"agent": "prod", "namespace": "shop", "pod": "nope", "container": "web"}, "scan": {"profile": "container-baseline"}}`)
		s = w.finished(t, s.ID)
		if s.Status != "error" || !strings.Contains(s.Reason, "nope") || s.Outcome != "" {
			t.Errorf("%+v", s)
		}
	})
	t.Run("no credential", func(t *testing.T) {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: w.trust()}}
		defer client.CloseIdleConnections()
		for token, want := range map[string]int{"": 401, "reeve_x_y": 401, "garbage": 401} {
			req, err := http.NewRequest(http.MethodGet, w.api+"/api/v1/scans", nil)
			if err != nil {
				t.Fatal(err)
			}
			if token != "" {
				req.Header.Set("Authorization", "Bearer "+token)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") {
				t.Errorf("token %q: %s %s", token, resp.Status, resp.Header.Get("Content-Type"))
			}
		}
	})
}

// scans counts them.
func (w *world) scans(t *testing.T) int {
	t.Helper()
	var page struct{ Items []struct{ ID string } }
	if _, err := w.call(http.MethodGet, "/scans?limit=100", nil, &page); err != nil {
		t.Fatal(err)
	}
	return len(page.Items)
}
