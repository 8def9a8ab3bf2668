// Package e2e tests Reeve as its users have it: the binary, in processes of
// its own, against a real Kubernetes, with the clients that people use. It
// imports nothing of Reeve.
//
// With -full the numbers are those that Reeve promises, and a watch lasts ten
// minutes: go test -timeout 30m -full.
package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestReeve walks the whole way once, each step on what the one before left.
func TestReeve(t *testing.T) {
	w := newWorld(t)
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"insights-remote", w.remote},
		{"identity", w.identity},
		{"link", w.link},
		{"forward to a web service", w.forwardWeb},
		{"traces", w.traces},
		{"forward to Kubernetes", w.forwardKubernetes},
		{"scan", w.scan},
		{"collect", w.collect},
		{"bad input", w.badInput},
		{"killed while a scan is queued", func(t *testing.T) { w.killed(t, "accepted") }},
		{"killed in the middle of a scan", func(t *testing.T) { w.killed(t, "running") }},
		{"killed before the result is delivered", func(t *testing.T) { w.killed(t, "spooled") }},
		{"kubectl works", w.kubectlWorks},
		{"kubectl reeve", w.kubectlReeve},
		{"informers go on", w.informersGoOn},
		{"a watch begins", w.watch},
		{"helm installs", w.helmInstalls},
		{"access by rule", w.accessByRule},
		{"revoked", w.revoked},
		{"scale", w.scale},
		{"the watch lasts", w.watchLasts},
		{"pipelines", w.pipelines},
		{"installed by charts", w.install},
		{"examples/local-deploy", w.localDeploy},
		{"no credential is in a log", w.logsKeepSecrets},
	} {
		if !t.Run(step.name, step.run) {
			t.Fatal("the next steps need this one")
		}
	}
}

func (w *world) identity(t *testing.T) {
	w.must("ca", "init", "--dir", "ca")
	if r := w.reeve("ca", "init", "--dir", "ca"); r.code != 2 || !strings.Contains(r.stderr, "ca") {
		t.Errorf("a second ca init: exit code %d: %s", r.code, r.stderr)
	}
	secrets := w.must("ca", "init", "--format", "secret")
	if out, err := w.k.Kubectl(w.ctx, secrets, "create", "--dry-run=server", "-f", "-", "-o", "name"); err != nil || out != "secret/ca-secret\nsecret/oes-control-secret\n" {
		t.Errorf("Secrets for Kubernetes: %q, %v", out, err)
	}
	w.startHub()
	w.client = w.controlClient()
	w.awaitHub(t)

	token := strings.TrimSpace(w.must("token", "create", "--kind", "join", "--agent", agentName))
	w.startAgent(token)
	w.awaitAgent(t, agentName)

	t.Run("a join token serves once", func(t *testing.T) {
		w.refused(t, token, "used")
	})
	t.Run("an expired join token is refused", func(t *testing.T) {
		short := strings.TrimSpace(w.must("token", "create", "--kind", "join", "--agent", "late", "--expires-in", "1s"))
		time.Sleep(1100 * time.Millisecond) // the hub's clock is what is under test
		w.refused(t, short, "expired")
	})
	t.Run("a foreign join token is refused", func(t *testing.T) {
		id, secret, pin := cut3(t, token)
		w.refused(t, "reeve-join_"+strings.Repeat("x", len(id))+"_"+secret+"_"+pin, "")
	})
	t.Run("no token is at rest", func(t *testing.T) {
		_, secret, _ := cut3(t, token)
		made := strings.TrimSpace(w.must("token", "create", "--kind", "api", "--name", "ci", "--role", "viewer"))
		for _, s := range []string{secret, made[strings.LastIndex(made, "_")+1:]} {
			if out, err := exec.Command("grep", "-rlaF", s, w.dir+"/hub", w.dir+"/hub.log").Output(); err == nil {
				t.Errorf("a token's secret is in %s", out)
			}
		}
	})
	t.Run("TLS 1.2 is refused", func(t *testing.T) {
		for _, url := range []string{w.api, w.serve} {
			conf := w.trust()
			conf.MaxVersion = tls.VersionTLS12
			if conn, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), conf); err == nil {
				conn.Close()
				t.Errorf("%s took TLS 1.2", url)
			}
		}
	})
}

// cut3 cuts a join token into its id, secret and pin.
func cut3(t *testing.T, token string) (id, secret, pin string) {
	t.Helper()
	parts := strings.Split(token, "_")
	if len(parts) != 4 {
		t.Fatalf("a join token of %d parts", len(parts))
	}
	return parts[1], parts[2], parts[3]
}

// refused starts an agent that has to end by itself, with exit code 2 and a
// word in its message.
func (w *world) refused(t *testing.T, token, word string) {
	t.Helper()
	r := w.reeveEnv([]string{
		"REEVE_JOIN_TOKEN=" + token, "REEVE_AGENT_DATA_DIR=" + t.TempDir(), "REEVE_AGENT_HUB_URL=" + w.api, "REEVE_AGENT_METRICS=",
	}, "agent")
	if r.code != 2 || !strings.Contains(r.stderr, word) || strings.Contains(r.stderr, token) {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
}

func (w *world) awaitHub(t *testing.T) {
	t.Helper()
	w.await(t, "the hub answers", func() (bool, error) {
		code, err := w.call(http.MethodGet, "/whoami", nil, nil)
		return code == http.StatusOK, err
	})
}

type agentInfo struct {
	Name        string
	Connected   bool
	Annotations map[string]string
	Services    []struct {
		Type, Name  string
		Annotations map[string]string
	}
}

func (w *world) awaitAgent(t *testing.T, name string) agentInfo {
	t.Helper()
	var found agentInfo
	w.await(t, "agent "+name+" is connected", func() (bool, error) {
		var page struct{ Items []agentInfo }
		_, err := w.call(http.MethodGet, "/agents", nil, &page)
		for _, a := range page.Items {
			if a.Name == name && a.Connected {
				found = a
				return true, err
			}
		}
		return false, err
	})
	return found
}

func (w *world) link(t *testing.T) {
	a := w.awaitAgent(t, agentName)
	if a.Annotations["description"] != "the test cluster" {
		t.Errorf("annotations %v", a.Annotations)
	}
	services := map[string]string{}
	for _, s := range a.Services {
		services[s.Type+"/"+s.Name] = s.Annotations["uiUrl"]
	}
	if diff := cmp.Diff(map[string]string{"kubernetes/cluster": "", "x-web/web": "https://web.example"}, services); diff != "" {
		t.Error(diff)
	}
	t.Run("by ALPN", func(t *testing.T) {
		token := strings.TrimSpace(w.must("token", "create", "--kind", "join", "--agent", "raw"))
		p := w.start("raw", []string{
			"REEVE_JOIN_TOKEN=" + token, "REEVE_AGENT_DATA_DIR=" + w.dir + "/raw", "REEVE_AGENT_HUB_URL=" + w.api,
			"REEVE_AGENT_METRICS=", "REEVE_AGENT_HUB_CARRIERS=alpn",
		}, "agent")
		defer p.kill(syscall.SIGTERM)
		w.awaitAgent(t, "raw")
	})
	t.Run("again after the hub was away", func(t *testing.T) {
		w.hub.kill(syscall.SIGKILL)
		w.startHub()
		w.awaitHub(t)
		w.awaitAgent(t, agentName)
	})
}

type credential struct{ URL, CA, Certificate, Key, Username, Token string }

func (w *world) credential(t *testing.T, typ, name, kind, life string) credential {
	t.Helper()
	var c credential
	body := map[string]any{"agent": w.name, "type": typ, "name": name, "kind": kind, "expiresIn": life, "force": true}
	if code, err := w.call(http.MethodPost, "/credentials/service", body, &c); err != nil || code != http.StatusCreated {
		t.Fatalf("credential for %s/%s: %d, %v", typ, name, code, err)
	}
	w.keep(c.Token, c.Key)
	return c
}

func (w *world) forwardWeb(t *testing.T) {
	token := w.credential(t, "x-web", "web", "token", "1h")
	cert := w.credential(t, "x-web", "web", "certificate", "1h")
	short := w.credential(t, "x-web", "web", "token", "1s")
	pair, err := tls.X509KeyPair([]byte(cert.Certificate), []byte(cert.Key))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(set func(*http.Request), certs ...tls.Certificate) (int, string) {
		t.Helper()
		conf := w.trust()
		conf.Certificates = certs
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}, Timeout: 10 * time.Second}
		defer client.CloseIdleConnections()
		req, err := http.NewRequest(http.MethodGet, w.serve+"/a%2Fb?c=d", nil)
		if err != nil {
			t.Fatal(err)
		}
		set(req)
		resp, err := client.Do(req)
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
	const want = `GET /a%2Fb?c=d []`
	for name, set := range map[string]func(*http.Request){
		"Bearer":        func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token.Token) },
		"Basic":         func(r *http.Request) { r.SetBasicAuth(token.Username, token.Token) },
		"X-Opsmx-Token": func(r *http.Request) { r.Header.Set("X-Opsmx-Token", token.Token) },
	} {
		if code, body := ask(set); code != http.StatusOK || body != want {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	if code, body := ask(func(*http.Request) {}, pair); code != http.StatusOK || body != want {
		t.Errorf("client certificate: %d %s", code, body)
	}
	time.Sleep(1100 * time.Millisecond) // for the short token to expire at the hub
	for name, c := range map[string]struct{ token, says string }{
		"no token":      {"", "credential"},
		"garbage":       {"x.y.z", "malformed"},
		"expired token": {short.Token, "expired"},
		"API token":     {strings.TrimSpace(w.must("token", "create", "--kind", "api", "--name", "x", "--role", "admin")), ""},
	} {
		code, body := ask(func(r *http.Request) {
			if c.token != "" {
				r.Header.Set("Authorization", "Bearer "+c.token)
			}
		})
		if code != http.StatusUnauthorized || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	body := map[string]any{"agent": w.name, "type": "x-web", "name": "nowhere", "kind": "token"}
	if code, _ := w.call(http.MethodPost, "/credentials/service", body, nil); code != http.StatusUnprocessableEntity {
		t.Errorf("a credential for a service that isn't there: %d", code)
	}
	elsewhere := w.credential(t, "x-web", "nowhere", "token", "1h")
	if code, body := ask(func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+elsewhere.Token) }); code != http.StatusNotFound {
		t.Errorf("a service that isn't there: %d %s", code, body)
	}
}

// kubectl runs kubectl through the hub.
func (w *world) kubectl(t *testing.T, kubeconfig, stdin string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.k.Bin("kubectl"), append([]string{"--kubeconfig", kubeconfig}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// kubeconfig writes one for the agent's cluster, with a credential of a kind.
func (w *world) kubeconfig(kind string) string {
	text := w.must("kubeconfig", "--agent", w.name, "--service", "cluster", "--kind", kind)
	if w.publicly != "" {
		text = strings.ReplaceAll(text, w.publicly, w.serve)
	}
	return w.write(kind+".kubeconfig", text)
}

func (w *world) forwardKubernetes(t *testing.T) {
	for _, kind := range []string{"certificate", "token"} {
		t.Run(kind, func(t *testing.T) {
			config := w.kubeconfig(kind)
			if out := w.kubectl(t, config, "", "get", "pods", "-n", namespace, "-o", "name", "--field-selector=metadata.name=web-app"); out != "pod/web-app\n" {
				t.Errorf("get pods: %q", out)
			}
			if out := w.kubectl(t, config, "", "exec", "-n", namespace, "web-app", "--", "sh", "-c", "echo out; echo $((6*7))"); out != "out\n42\n" {
				t.Errorf("exec: %q", out)
			}
			payload := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB through stdin and stdout of one exec
			if out := w.kubectl(t, config, payload, "exec", "-i", "-n", namespace, "web-app", "--", "cat"); out != payload {
				t.Errorf("exec -i: %d of %d bytes came back", len(out), len(payload))
			}
		})
	}
	t.Run("logs -f", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(w.ctx, 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, w.k.Bin("kubectl"), "--kubeconfig", w.dir+"/certificate.kubeconfig", "logs", "-f", "--tail=1", "-n", namespace, "web-app")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for i := range 3 {
			if !lines.Scan() {
				t.Fatalf("the log ended after %d lines", i)
			}
		}
		cancel()
		cmd.Wait()
	})
	t.Run("an error is Kubernetes'", func(t *testing.T) {
		cmd := exec.CommandContext(w.ctx, w.k.Bin("kubectl"), "--kubeconfig", w.dir+"/certificate.kubeconfig", "get", "pod", "nope", "-n", namespace)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), `pods "nope" not found`) {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// watch begins a watch that goes on while the other steps run.
func (w *world) watch(t *testing.T) {
	w.watching = begin(t, w.by(w.ctx, "exec", nil, "get", "configmaps", "-w", "-o", "name"))
}

type scanInfo struct {
	ID, Status, Outcome, Reason string
	Attempt                     int
	Progress                    struct{ Done, Total int }
	Counts                      struct{ Passed, Failed, Skipped, Error int }
	Findings                    []string
}

func (w *world) request(t *testing.T, body string) scanInfo {
	t.Helper()
	var s scanInfo
	if code, err := w.call(http.MethodPost, "/scans", body, &s); err != nil || code != http.StatusAccepted {
		t.Fatalf("POST /scans: %d, %v", code, err)
	}
	return s
}

func (w *world) finished(t *testing.T, id string) scanInfo {
	t.Helper()
	var s scanInfo
	w.await(t, "scan "+id+" is over", func() (bool, error) {
		_, err := w.call(http.MethodGet, "/scans/"+id, nil, &s)
		return s.Status == "completed" || s.Status == "error", err
	})
	return s
}

type document struct {
	Platform struct{ Name, Release string }
	Profiles []struct {
		Controls []struct {
			ID, Status string
			Results    []struct {
				Status  string
				Code    string `json:"code_desc"`
				Message string
			}
		}
	}
	FailureCount int `json:"failure_count"`
}

// verdicts are what a document says of each control, result by result.
func (d document) verdicts() map[string][]string {
	m := map[string][]string{}
	for _, p := range d.Profiles {
		for _, c := range p.Controls {
			m[c.ID] = []string{c.Status}
			for _, r := range c.Results {
				m[c.ID] = append(m[c.ID], r.Status+" "+r.Code)
			}
		}
	}
	return m
}

func (w *world) scan(t *testing.T) {
	s := w.request(t, `{
		"target": {"agent": "`+w.name+`", "namespace": "shop", "pod": "web-app", "container": "web"},
		"scan": {"profile": "container-baseline", "threshold": "moderate"},
		"options": {"timeout": 300, "reportFormat": "json"}}`)
	s = w.finished(t, s.ID)
	if s.Status != "completed" || s.Outcome != "failed" || len(s.Findings) == 0 || s.Counts.Passed == 0 || s.Counts.Failed == 0 {
		t.Fatalf("%+v", s)
	}
	var byHub document
	if code, err := w.call(http.MethodGet, "/scans/"+s.ID+"/results", nil, &byHub); err != nil || code != http.StatusOK {
		t.Fatalf("results: %d, %v", code, err)
	}
	if byHub.FailureCount != s.Counts.Failed+s.Counts.Error {
		t.Errorf("failure_count %d, counts %+v", byHub.FailureCount, s.Counts)
	}

	t.Run("the same verdicts with no hub", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "out.json")
		r := w.reeve("scan", "k8s-container://shop/web-app/web", "--kubeconfig", w.k.Kubeconfig, "--profile", "container-baseline", "--threshold", "moderate", "--reporter", "cli", "json:"+file)
		if r.code != 1 {
			t.Fatalf("exit code %d\n%s%s", r.code, r.out, r.stderr)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var byHand document
		if err := json.Unmarshal(text, &byHand); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(byHub.verdicts(), byHand.verdicts()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("the outcome is told", func(t *testing.T) {
		w.await(t, "an alert at the sink", func() (bool, error) {
			return len(w.told("web-app/web", "container-baseline/moderate")) == 1, nil
		})
		got := w.told("web-app/web", "container-baseline/moderate")[0]
		if got.pass || !strings.Contains(got.details, "failed") {
			t.Errorf("%+v", got)
		}
	})
}

// told are the alerts at the sink about the agent's namespace.
func (w *world) told(repo, policy string) []received {
	return slices.DeleteFunc(w.sink.about(repo, policy), func(r received) bool { return r.owner != w.name+"/"+namespace })
}

func (w *world) collect(t *testing.T) {
	var secret struct{ Data map[string]string }
	w.await(t, "the namespace's token", func() (bool, error) {
		err := w.k.JSON(w.ctx, &secret, "get", "secret", "insights-token", "-n", namespace)
		return err == nil, err
	})
	token, err := base64.StdEncoding.DecodeString(secret.Data["INSIGHTS_TOKEN"])
	if err != nil {
		t.Fatal(err)
	}
	w.keep(string(token))
	post := func(path, auth, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, w.ingest+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", auth)
		resp, err := http.DefaultClient.Do(req)
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
	if code, text := post("/facts", string(token), `[{"name": "php", "value": "8.3", "source": "e2e", "category": "Runtime"}]`); code != http.StatusOK {
		t.Errorf("facts: %d %s", code, text)
	}
	if code, text := post("/problems", string(token), `[{"identifier": "CVE-2026-1", "severity": "HIGH", "source": "e2e", "data": "{}"}]`); code != http.StatusOK {
		t.Errorf("problems: %d %s", code, text)
	}
	if code, text := post("/facts", "x."+string(token), `[]`); code != http.StatusUnauthorized {
		t.Errorf("a foreign token: %d %s", code, text)
	}

	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	io.WriteString(z, `{"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": [
		{"type": "library", "name": "log4j-core", "version": "2.14.1", "purl": "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1"},
		{"type": "library", "name": "busybox", "version": "1.35.0", "purl": "pkg:deb/debian/busybox@1.35.0"}]}`)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	err = w.k.Apply(w.ctx, fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata:
  name: lagoon-insights-sbom-web
  namespace: shop
  labels: {lagoon.sh/insightsType: sbom-gz, lagoon.sh/service: web, lagoon.sh/buildName: build-1}
binaryData: {web.cyclonedx.json.gz: %s}
`, base64.StdEncoding.EncodeToString(zipped.Bytes())))
	if err != nil {
		t.Fatal(err)
	}

	var facts struct {
		Items []struct{ Agent, Project, Environment, Name, Value, Source string }
	}
	w.await(t, "the fact at the hub", func() (bool, error) {
		_, err := w.call(http.MethodGet, "/insights/facts?project=shop", nil, &facts)
		return len(facts.Items) > 0, err
	})
	if f := facts.Items[0]; f.Agent != w.name || f.Environment != "main" || f.Name != "php" || f.Value != "8.3" || f.Source != "e2e" {
		t.Errorf("fact %+v", f)
	}
	var problems struct {
		Items []struct{ Identifier, Severity string }
	}
	w.await(t, "the problem at the hub", func() (bool, error) {
		_, err := w.call(http.MethodGet, "/insights/problems?project=shop", nil, &problems)
		return len(problems.Items) == 1 && problems.Items[0].Identifier == "CVE-2026-1", err
	})
	var components struct {
		Items []struct{ Purl, Agent, Namespace, Service string }
	}
	w.await(t, "the SBOM at the hub", func() (bool, error) {
		_, err := w.call(http.MethodGet, "/components?q=log4j-core", nil, &components)
		return len(components.Items) == 1, err
	})
	if c := components.Items[0]; c.Purl != "pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1" || c.Namespace != namespace || c.Service != "web" {
		t.Errorf("component %+v", c)
	}
	w.await(t, "the ConfigMap is marked as processed", func() (bool, error) {
		var m struct {
			Metadata struct{ Annotations map[string]string }
		}
		err := w.k.JSON(w.ctx, &m, "get", "configmap", "lagoon-insights-sbom-web", "-n", namespace)
		_, parseErr := time.Parse(time.RFC3339, m.Metadata.Annotations["lagoon.sh/insightsProcessed"])
		return err == nil && parseErr == nil, errors.Join(err, parseErr)
	})
}

// slowProfile takes three seconds in all, control by control. The commands
// differ, since the answer to one that was run already is known.
const slowProfile = `
6.times do |i|
  control "slow-#{i}" do
    title 'takes half a second'
    impact 0.5
    describe command("sleep 0.5; echo #{i}") do
      its('stdout') { should eq "#{i}\n" }
    end
  end
end
`

// killed kills the hub and then the agent at a moment of a scan, and checks
// that the scan is completed once, when they are back, and that facts which
// the agent took while the hub was away are delivered.
func (w *world) killed(t *testing.T, moment string) {
	profile := filepath.Join(w.dir, "own-profiles", "slow-"+moment)
	if err := os.MkdirAll(profile+"/controls", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"inspec.yml": "name: slow-" + moment + "\nversion: 1.0.0\ntitle: slow\n", "controls/slow.rb": slowProfile} {
		if err := os.WriteFile(filepath.Join(profile, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Profiles of the operator's are read at the start.
	w.hub.kill(syscall.SIGTERM)
	w.startHubWith("REEVE_HUB_PROFILES_DIR=" + filepath.Dir(profile))
	w.awaitHub(t)
	w.awaitAgent(t, agentName)

	s := w.request(t, `{"target": {"agent": "prod", "namespace": "shop", "pod": "web-app", "container": "web"}, "scan": {"profile": "slow-`+moment+`"}}`)
	if moment != "accepted" {
		w.await(t, "the scan runs", func() (bool, error) {
			_, err := w.call(http.MethodGet, "/scans/"+s.ID, nil, &s)
			return s.Progress.Done >= 1, err
		})
		if s.Status != "running" {
			t.Fatalf("too late to kill anything: %+v", s)
		}
	}
	w.hub.kill(syscall.SIGKILL)
	code := w.fact(t, moment)
	if code != http.StatusOK {
		t.Fatalf("the agent doesn't take facts while the hub is away: %d", code)
	}
	if moment == "spooled" {
		w.await(t, "the result on the agent's disk", func() (bool, error) {
			items, err := filepath.Glob(w.dir + "/agent/spool/scans/*.item")
			return len(items) == 1, err
		})
	}
	w.agent.kill(syscall.SIGKILL)
	w.startHubWith("REEVE_HUB_PROFILES_DIR=" + filepath.Dir(profile))
	w.startAgent("")
	w.awaitHub(t)

	s = w.finished(t, s.ID)
	if s.Status != "completed" || s.Outcome != "passed" || s.Counts.Passed != 6 {
		t.Errorf("%+v", s)
	}
	if moment == "spooled" && s.Attempt != 1 {
		t.Errorf("a finished scan was made again: attempt %d", s.Attempt)
	}
	w.await(t, "the alert", func() (bool, error) { return len(w.sink.about("web-app/web", "slow-"+moment)) > 0, nil })
	if got := w.sink.about("web-app/web", "slow-"+moment); len(got) != 1 || !got[0].pass {
		t.Errorf("alerts %+v", got)
	}
	var facts struct{ Items []struct{ Value string } }
	w.await(t, "the fact", func() (bool, error) {
		_, err := w.call(http.MethodGet, "/insights/facts?source=killed-"+moment, nil, &facts)
		return len(facts.Items) == 1 && facts.Items[0].Value == moment, err
	})
}

func (w *world) startHubWith(env ...string) {
	w.hub = w.start("hub", env, "hub", "--config", "hub.yaml")
}

// fact hands one fact to the agent and answers the status.
func (w *world) fact(t *testing.T, moment string) int {
	t.Helper()
	var secret struct{ Data map[string]string }
	if err := w.k.JSON(w.ctx, &secret, "get", "secret", "insights-token", "-n", namespace); err != nil {
		t.Fatal(err)
	}
	token, err := base64.StdEncoding.DecodeString(secret.Data["INSIGHTS_TOKEN"])
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, w.ingest+"/facts", strings.NewReader(`[{"name": "moment", "value": "`+moment+`", "source": "killed-`+moment+`"}]`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", string(token))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// watchLasts checks that a watch tells of a change when it is older than any
// limit that a server on its way has for a request: a minute, at the API
// server (--request-timeout).
func (w *world) watchLasts(t *testing.T) {
	age := 65 * time.Second
	if *full {
		age = 10 * time.Minute
	}
	select {
	case <-w.watching.ended:
		t.Fatalf("the watch ended: %v: %s", w.watching.err, &w.watching.stderr)
	case <-time.After(time.Until(w.watching.began.Add(age))): // the time itself is what is under test
	}
	if _, err := w.k.Kubectl(w.ctx, "", "create", "configmap", "late", "-n", clients); err != nil {
		t.Fatal(err)
	}
	w.await(t, "the change in a watch that is "+age.String()+" old", func() (bool, error) {
		return slices.Contains(w.watching.lines.all(), "configmap/late"), nil
	})
}
