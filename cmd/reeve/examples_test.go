package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/api"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/policy"
)

// elsewhere are lines of examples that can't be run here, by what they hold, and
// what runs them.
var elsewhere = map[string]string{
	"reeve hub --config":          "it serves; TestReplicas runs one",
	"reeve hub migrate":           "a PostgreSQL; its own tests have one",
	"reeve agent --config":        "it serves; testdata/hub/agent.txtar runs one",
	"reeve insights-remote":       "it serves; testdata/alone/insightsremote.txtar runs one",
	"reeve demo\n":                "it stays up; testdata/alone/demo.txtar ends it",
	"reeve demo --target k8s":     "a cluster; the end-to-end tests have one",
	"reeve scan pod/":             "a cluster; the end-to-end tests have one",
	"https://hub:8443 pod/":       "a cluster; the end-to-end tests have one",
	"https://hub:8443 -l":         "a cluster; the end-to-end tests have one",
	"reeve sbom k8s-container:":   "a cluster; the end-to-end tests have one",
	"reeve sbom image:":           "a registry; internal/inspec's tests of images have one",
	"kubeconfig credential":       "a grant; testdata/hub/agent.txtar has one",
	"reeve alerts verify":         "a signed alert; testdata/hub/alerts.txtar has one",
	"reeve audit verify --expect": "a chain that was noted; testdata/hub/audit.txtar has one",
	"reeve recordings get":        "a terminal that was recorded; the end-to-end tests have one",
	"asciinema play":              "another program",
	"reeve insights requeue":      "a message that couldn't be taken; testdata/hub/vulnerabilities.txtar asks for none",
	"reeve insights discard":      "a message that couldn't be taken; testdata/hub/vulnerabilities.txtar asks for none",
	"reeve insights diff":         "places with insights; the end-to-end tests have some",
	"reeve insights export":       "a Dependency-Track; its own tests have one",
}

// before are what examples of a command build on.
var before = map[string]string{
	"reeve schedule list":    "reeve schedule create nightly --cron '0 3 * * *' --profile container-baseline --replace >/dev/null",
	"reeve schedule runs":    "reeve schedule create nightly --cron '0 3 * * *' --profile container-baseline --replace >/dev/null",
	"reeve schedule delete":  "reeve schedule create nightly --cron '0 3 * * *' --profile container-baseline --replace >/dev/null",
	"reeve schedule pause":   "reeve schedule create nightly --cron '0 3 * * *' --profile container-baseline --replace >/dev/null",
	"reeve schedule resume":  "reeve schedule create nightly --cron '0 3 * * *' --profile container-baseline --replace >/dev/null",
	"reeve schedule create":  "reeve schedule delete nightly 2>/dev/null || true",
	"reeve vex remove":       "reeve vex import shop.openvex.json >/dev/null",
	"reeve alerts skip":      "ID=$(reeve alerts list --sink ops -o name | tail -1)",
	"reeve alerts unsilence": "ID=$(reeve alerts silence --sink ops --for 1h --comment why 2>/dev/null)",
	"reeve alerts keys end":  "ID=$(reeve alerts keys rotate -o name | tail -1)",
	"reeve ca revoke":        "reeve ca issue --dir ../ca --purpose service --agent other --type kubernetes --name cluster --holder alice --out alice >/dev/null",
	"reeve ca issue":         "mkdir ca && cp ../ca/* ca; openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout edge.key -subj /CN=edge -out edge.csr 2>/dev/null",
	"reeve token revoke":     "reeve token create --kind api --name x --role viewer > token.txt; ID=$(reeve token create --kind api --name y --role viewer -o name)",
	"reeve policy override":  "reeve policy override edge shop --file shop.yaml >/dev/null",
	"reeve doctor":           "cp \"$REEVE_CA\" ca.pem",
	"reeve hub":              "rm -rf ca",
}

// TestExamples_run runs the examples of every command, each in a folder of its
// own, against a hub with an agent that has scanned something.
func TestExamples_run(t *testing.T) {
	dir := t.TempDir()
	scanned := startExamples(t, dir)
	bin := filepath.Join(dir, "bin")
	standIns(t, bin)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	t.Setenv("GOGC", "off") // what ends at once has nothing to collect
	used := map[string]bool{}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Example != "" {
			t.Run(strings.ReplaceAll(cmd.CommandPath(), " ", "_"), func(t *testing.T) { runExample(t, dir, cmd, scanned, used) })
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRoot())
	for what := range elsewhere {
		if !used[what] {
			t.Errorf("no example has %q", what)
		}
	}
}

var (
	anyHub  = regexp.MustCompile(`https://hub[a-z.]*:8443`)
	rootDir = regexp.MustCompile(`dir:/( |\n)`)
)

// prelude has what a check says, by its exit code, be no failure.
const prelude = `reeve() {
  local code=0
  command reeve "$@" || code=$?
  case $code in 1|100|101) return 0;; esac
  return $code
}
`

func runExample(t *testing.T, dir string, cmd *cobra.Command, scanned string, used map[string]bool) {
	at, err := os.MkdirTemp(dir, "example-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(at, os.DirFS(filepath.Join(dir, "given"))); err != nil {
		t.Fatal(err)
	}
	script := prelude + "ID=" + scanned + "\n" + before[cmd.CommandPath()] + "\n"
	for line := range strings.Lines(cmd.Example + "\n") {
		for what := range elsewhere {
			if strings.Contains(line, what) {
				used[what], line = true, ""
			}
		}
		script += line
	}
	script = anyHub.ReplaceAllString(script, os.Getenv("REEVE_HUB"))
	script = rootDir.ReplaceAllString(script, "dir:$$PWD/root$1")
	for _, id := range []string{"01a2008e-2017-7681-a3b9-64c9b5507265", "abcdefghij"} {
		script = strings.ReplaceAll(script, id, "$ID")
	}
	script = strings.ReplaceAll(script, "/srv/osv", "osv")
	script = strings.ReplaceAll(script, "/etc/reeve/agent.yaml", "agent.yaml")
	bash := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	bash.Dir = at
	if out, err := bash.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, strings.TrimPrefix(script, prelude), out)
	}
}

// standIns are programs that examples call beside reeve.
func standIns(t *testing.T, bin string) {
	t.Helper()
	find, err := exec.LookPath("find")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"docker": `[ "$*" = "exec -i web sh" ] && PATH=${0%/*}/web:$PATH && exec sh`,
		// It looks through the container: all of this machine takes its time.
		"web/find": `case "$1" in
/*) while [ "${1#/}" != "$1" ]; do shift; done; set -- root "$@";;
esac
exec ` + find + ` "$@"`,
		"kubectl": `case "$*" in "apply -n reeve -f -") grep -q "kind: Secret";; "--kubeconfig prod.kubeconfig get pods -A") grep -q "^kind: Config" prod.kubeconfig;; *) exit 1;; esac`,
		"curl":    `[ "$1 $2" = "--data-binary @-" ] && grep -q CycloneDX`,
		"inspec":  `[ "$*" = "exec profile --reporter json" ] && cat results.json`,
		"man":     `test -s "$1"`,
	} {
		path := filepath.Join(bin, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// startExamples runs a hub with an agent, named in the environment, has a scan
// made, and puts the files that examples name into dir/given.
func startExamples(t *testing.T, dir string) (scanned string) {
	t.Helper()
	here := filepath.Join(dir, "given")
	must := func(args ...string) string {
		t.Helper()
		var out, errs strings.Builder
		if code := run(t.Context(), args, strings.NewReader(""), &out, &errs); code == exitBroken {
			t.Fatalf("reeve %s: %s", strings.Join(args, " "), errs.String())
		}
		return strings.TrimSpace(out.String())
	}
	if err := root(filepath.Join(here, "root")); err != nil {
		t.Fatal(err)
	}
	const name = "name: my-profile\ntitle: Mine\nversion: 1.0.0\n"
	const control = "control 'motd' do\n  describe file('/etc/motd') do\n    it { should exist }\n  end\nend\n"
	const advisory = `{"id":"GHSA-1","modified":"2026-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"npm","name":"left-pad"},"versions":["1.0.0"]}]}`
	for path, text := range map[string]string{
		"my-profile/inspec.yml": name, "my-profile/controls/a.rb": control,
		"threshold.yaml": "compliance:\n  min: 1\n", "strict-shop.yaml": "compliance:\n  min: 90\n",
		"transforms.yaml": "transforms:\n- type: Package\n  lookupvalue: [{name: Name, value: php, exactMatch: true}]\n  keyfact: true\n",
		"shop.yaml":       "sboms:\n  optOut: true\n",
		"shop.openvex.json": `{"@context":"https://openvex.dev/ns/v0.2.0","@id":"urn:x:1","author":"us","timestamp":"2026-01-01T00:00:00Z","version":1,
			"statements":[{"vulnerability":{"name":"CVE-2024-3094"},"products":[{"@id":"pkg:npm/left-pad"}],"status":"not_affected","justification":"component_not_present"}]}`,
		"osv/GHSA-1.json": advisory,
		"secret":          "not so secret",
		"kubeconfig":      "apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: 'http://localhost:1'}}]\nusers: [{name: u, user: {token: t}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\ncurrent-context: c\n",
		"agent.yaml":      "hub: {url: https://localhost:1}\ndataDir: agent-data\n",
	} {
		path = filepath.Join(here, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"npm-all.zip", "debian-all.zip"} {
		f, err := os.Create(filepath.Join(here, file))
		if err != nil {
			t.Fatal(err)
		}
		in := pack(filepath.Join(here, "osv"))
		if _, err := f.ReadFrom(in); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	for _, file := range []string{"results.json", "release.json", "baseline.json", "out.json"} {
		must("scan", "dir:"+filepath.Join(here, "root"), "--profile", filepath.Join(here, "my-profile"), "--reporter", "json:"+filepath.Join(here, file))
	}

	caDir := filepath.Join(dir, "ca")
	if _, err := pki.Init(caDir, "test"); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	cfg := hub.Defaults()
	cfg.DataDir, cfg.CADir = filepath.Join(dir, "hub"), caDir
	cfg.Listen = hub.ListenConfig{API: "127.0.0.1:0", Services: "127.0.0.1:0", Metrics: "127.0.0.1:0"}
	cfg.Sinks = []hub.SinkConfig{{Name: "ops", Type: "rpc", Endpoint: "localhost:1"}}
	cfg.Policies = []policy.Policy{{Name: "sboms", Check: policy.Check{SBOM: &policy.SBOMCheck{}}, Actions: []policy.Action{{Kind: "rpc", Name: "ops"}}}}
	h, err := hub.New(cfg, "test", log)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, h.Run)
	for key, value := range map[string]string{
		"REEVE_HUB": h.URL(), "REEVE_CA": filepath.Join(caDir, "ca.pem"),
		"REEVE_CERT": filepath.Join(caDir, "control.pem"), "REEVE_KEY": filepath.Join(caDir, "control-key.pem"),
		"INSIGHTS_TOKEN": "x",
	} {
		t.Setenv(key, value)
	}
	ac := agent.Defaults()
	ac.DataDir, ac.Metrics, ac.Hub.URL = filepath.Join(dir, "agent"), "", h.URL()
	ac.Hub.JoinTokenFile = filepath.Join(dir, "join-token")
	ac.Scan.Targets = []string{"dir", "k8s-container"}
	ac.Kubeconfig = filepath.Join(here, "kubeconfig")
	ac.Services = []forward.Upstream{{Type: "kubernetes", Name: "cluster", KubeConfig: ac.Kubeconfig}}
	if err := os.WriteFile(ac.Hub.JoinTokenFile, []byte(must("token", "create", "--agent", "prod")), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(ac, "test", log)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, a.Run)
	for {
		var agents []api.Agent
		if err := json.Unmarshal([]byte(must("get", "agents", "-o", "json")), &agents); err != nil {
			t.Fatal(err)
		}
		if len(agents) == 1 && agents[0].Connected {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	for range 2 {
		must("scan", "dir:"+filepath.Join(here, "root"), "--agent", "prod", "--profile", "container-baseline", "--threshold", "moderate", "--reporter", "json:"+filepath.Join(dir, "scanned.json"))
	}
	var alerts []api.Alert
	for len(alerts) == 0 {
		if err := json.Unmarshal([]byte(must("alerts", "list", "-o", "json")), &alerts); err != nil {
			t.Fatal(err)
		}
	}
	if alerts[0].State != alert.Pending && alerts[0].State != alert.Dead {
		t.Fatalf("an alert to nobody is %s", alerts[0].State)
	}
	return strings.Fields(must("get", "scans", "-o", "name"))[0]
}

// serve runs what serves until the test ends.
func serve(t *testing.T, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(fmt.Errorf("it ended with: %w", err))
		}
	})
}
