package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/e2e/cluster"
)

// TestScanner has containers scanned in each way by an agent that has no more
// rights in the cluster than deploy/rbac.yaml gives.
func TestScanner(t *testing.T) {
	w := newWorld(t)
	w.must("ca", "init", "--dir", "ca")
	w.startHubWith(`REEVE_HUB_EVENTS_ROUTES=[{name: new, match: {types: [container.deployed], namespaces: [fresh]}, scan: {profile: container-baseline, threshold: moderate}, override: replace}]`,
		`REEVE_HUB_POLICIES=[{name: known, check: {sbom: {}}}]`)
	w.client = w.controlClient()
	w.awaitHub(t)
	s := newScanner(t, w)
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"the ways in agree", s.waysAgree},
		{"no shell", s.noShell},
		{"mounts", s.mounts},
		{"a namespace that allows nothing", s.restricted},
		{"nothing is asked that needn't be", s.audited},
		{"with the agent's rights", s.agentsRights},
		{"a new image", s.newImage},
		{"objects of the cluster", s.objects},
		{"insights by the agent's account", s.insightsAccount},
		{"killed at each step", s.killed},
	} {
		if !t.Run(step.name, step.run) {
			t.Fatal("the next steps need this one")
		}
	}
}

const (
	scannerAgent = "scanner"
	scannerImage = "reeve.test/scanner:1"
)

// scanner is the agent that scans, and its way to the API server.
type scanner struct {
	w     *world
	gate  *gate
	agent *process
}

const scannerPods = `
apiVersion: v1
kind: Pod
metadata: {name: plain, namespace: shop}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: "reeve.test/web:1", imagePullPolicy: Never}
  - {name: user, image: "reeve.test/web:1", imagePullPolicy: Never, securityContext: {runAsUser: 1000, runAsGroup: 1000, capabilities: {drop: [CHOWN]}, allowPrivilegeEscalation: false}}
  - {name: bare, image: "reeve.test/bare:1", imagePullPolicy: Never}
---
apiVersion: v1
kind: Pod
metadata: {name: shared, namespace: shop}
spec:
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: "reeve.test/web:1", imagePullPolicy: Never}
  - {name: user, image: "reeve.test/web:1", imagePullPolicy: Never, securityContext: {runAsUser: 1000, runAsGroup: 1000}}
  - {name: bare, image: "reeve.test/bare:1", imagePullPolicy: Never}
  - {name: reeve-scanner, image: "reeve.test/scanner:1", imagePullPolicy: Never, securityContext: {runAsUser: 0, readOnlyRootFilesystem: true, capabilities: {add: [SYS_PTRACE]}}}
---
apiVersion: v1
kind: Namespace
metadata: {name: strict, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Pod
metadata: {name: bare, namespace: strict}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 1000, runAsGroup: 1000, runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - {name: bare, image: "reeve.test/bare:1", imagePullPolicy: Never, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
`

func newScanner(t *testing.T, w *world) *scanner {
	image := filepath.Join(w.dir, "scanner.tar")
	build := exec.CommandContext(w.ctx, "go", "run", "./deploy/image", "-o", image, "-name", scannerImage)
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("scanner's image: %v\n%s", err, out)
	}
	if err := w.k.Import(image); err != nil {
		t.Fatal(err)
	}
	if err := w.k.Load(w.ctx, cluster.Image{Name: "reeve.test/bare:1", Bare: true, Cmd: []string{"/busybox", "sleep", "100000"}, Files: []cluster.File{
		{Path: "etc/passwd", Body: "root:x:0:0:root:/root:/sbin/nologin\ntoor:x:0:0:second root:/root:/bin/sh\n"},
		{Path: "etc/group", Body: "root:x:0:\n"},
	}}); err != nil {
		t.Fatal(err)
	}
	rbac, err := os.ReadFile("../deploy/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.k.Apply(w.ctx, string(rbac)+"---"+scannerPods); err != nil {
		t.Fatal(err)
	}
	if _, err := w.k.Kubectl(w.ctx, "", "apply", "-f", "../deploy/crds"); err != nil {
		t.Fatal(err)
	}
	for _, pod := range []string{"shop/plain", "shop/shared", "strict/bare"} {
		ns, name, _ := strings.Cut(pod, "/")
		if _, err := w.k.Kubectl(w.ctx, "", "wait", "-n", ns, "--for=condition=Ready", "pod/"+name, "--timeout=60s"); err != nil {
			t.Fatal(err)
		}
	}
	token, err := w.k.Kubectl(w.ctx, "", "create", "token", "reeve-agent", "-n", "reeve", "--duration=1h")
	if err != nil {
		t.Fatal(err)
	}
	s := &scanner{w: w, gate: newGate(t, w.k)}
	w.write("scanner.kubeconfig", fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: e2e, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: agent, user: {token: %q}}]
contexts: [{name: e2e, context: {cluster: e2e, user: agent, namespace: reeve}}]
current-context: e2e
`, s.gate.url, s.gate.ca, strings.TrimSpace(token)))
	w.write("scanner.yaml", fmt.Sprintf(`
dataDir: %[1]s/scanner
hub: {url: %[2]q}
kubeconfig: %[1]s/scanner.kubeconfig
scan: {ephemeral: {image: %[3]q, pullPolicy: Never}, resources: true}
events: {deployed: true}
metrics: ""
`, w.dir, w.api, scannerImage))
	s.start(t, "REEVE_JOIN_TOKEN="+strings.TrimSpace(w.must("token", "create", "--kind", "join", "--agent", scannerAgent)))
	return s
}

func (s *scanner) start(t *testing.T, env ...string) {
	t.Helper()
	s.agent = s.w.start("scanner", env, "agent", "--config", "scanner.yaml")
	s.w.awaitAgent(t, scannerAgent)
}

// entered is a scan with the way that it took.
type entered struct {
	scanInfo
	Entry struct{ Method, Reason string }
}

func (s *scanner) ask(t *testing.T, target, method, profile string) string {
	t.Helper()
	words := strings.Split(target, "/")
	return s.w.request(t, fmt.Sprintf(`{"target": {"agent": %q, "namespace": %q, "pod": %q, "container": %q}, "scan": {"profile": %q}, "options": {"method": %q}}`,
		scannerAgent, words[0], words[1], words[2], profile, method)).ID
}

func (s *scanner) over(t *testing.T, id string) (entered, document) {
	t.Helper()
	var e entered
	s.w.await(t, "scan "+id+" is over", func() (bool, error) {
		_, err := s.w.call(http.MethodGet, "/scans/"+id, nil, &e)
		return e.Status == "completed" || e.Status == "error", err
	})
	var d document
	if e.Status == "completed" {
		if code, err := s.w.call(http.MethodGet, "/scans/"+id+"/results", nil, &d); err != nil || code != http.StatusOK {
			t.Fatalf("results: %d, %v", code, err)
		}
	}
	return e, d
}

func (s *scanner) scan(t *testing.T, target, method, profile string) (entered, document) {
	t.Helper()
	return s.over(t, s.ask(t, target, method, profile))
}

const baseline = "container-baseline"

// waysAgree: the verdicts on a container are the same, whichever way is taken.
func (s *scanner) waysAgree(t *testing.T) {
	for target, methods := range map[string][]string{
		"shop/plain/web":   {"ephemeral", "auto"},
		"shop/plain/user":  {"ephemeral", "auto"},
		"shop/shared/web":  {"ephemeral", "sidecar", "auto"},
		"shop/shared/user": {"ephemeral", "sidecar", "auto"},
	} {
		e, want := s.scan(t, target, "exec", baseline)
		if e.Status != "completed" || e.Entry.Method != "exec" || e.Counts.Passed == 0 || e.Counts.Failed == 0 {
			t.Fatalf("%s by exec: %+v", target, e)
		}
		for _, m := range methods {
			e, got := s.scan(t, target, m, baseline)
			took := m
			if m == "auto" {
				took = "exec"
			}
			if e.Status != "completed" || e.Entry.Method != took || e.Entry.Reason == "" {
				t.Errorf("%s by %s: %+v", target, m, e)
			}
			if diff := cmp.Diff(want.verdicts(), got.verdicts()); diff != "" {
				t.Errorf("%s by exec (-) and %s (+): %s", target, m, diff)
			}
		}
	}
}

// noShell: a container without a shell is scanned by what there is.
func (s *scanner) noShell(t *testing.T) {
	if e, _ := s.scan(t, "shop/plain/bare", "exec", baseline); e.Status != "error" || !strings.Contains(e.Reason, "no /bin/sh") {
		t.Errorf("by exec: %+v", e)
	}
	if e, _ := s.scan(t, "shop/plain/bare", "sidecar", baseline); e.Status != "error" || !strings.Contains(e.Reason, "no sidecar") {
		t.Errorf("by a sidecar that isn't there: %+v", e)
	}
	var verdicts []map[string][]string
	for target, took := range map[string]string{"shop/plain/bare": "ephemeral", "shop/shared/bare": "sidecar"} {
		e, d := s.scan(t, target, "auto", baseline)
		if e.Status != "completed" || e.Entry.Method != took || !strings.Contains(e.Entry.Reason, "no /bin/sh") || e.Counts.Passed == 0 || e.Counts.Failed == 0 || e.Counts.Error > 0 {
			t.Errorf("%s: %+v", target, e)
		}
		verdicts = append(verdicts, d.verdicts())
	}
	if diff := cmp.Diff(verdicts[0], verdicts[1]); diff != "" {
		t.Error(diff)
	}
	// It was the container's root, not the scanner's: that has no second root.
	if got := verdicts[0]["accounts-01"]; !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, "failed") }) {
		t.Errorf("accounts-01: %q", got)
	}
}

// mounts: what the scanner can't see it doesn't judge; with SYS_ADMIN it sees
// the container's own mounts.
func (s *scanner) mounts(t *testing.T) {
	dir := filepath.Join(s.w.dir, "mounts")
	if err := os.MkdirAll(dir+"/controls", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"inspec.yml": "name: mounts\nversion: 1.0.0\ntitle: mounts\n",
		"controls/mounts.rb": `
control 'mounts' do
  describe mount('/proc') do
    it { should be_mounted }
    its('type') { should cmp 'proc' }
  end
  describe command('cat /proc/mounts | grep -c /dev/termination-log') do
    its('stdout') { should match(/[1-9]/) }
  end
end
control 'self' do
  describe command('id -u; id -g; pwd; hostname; echo $KUBERNETES_SERVICE_HOST; cat /proc/self/status | grep -E "Cap|NoNew"; readlink /proc/1/exe') do
    its('stdout') { should eq 'nothing of the kind' }
  end
end
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	archive := filepath.Join(s.w.dir, "mounts.tar.gz")
	s.w.must("profile", "archive", dir, "--file", archive)
	body, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	if code, err := s.w.call(http.MethodPost, "/profiles", string(body), nil); err != nil || code/100 != 2 {
		t.Fatalf("upload: %d, %v", code, err)
	}
	messages := func(d document) (all []string) {
		for _, p := range d.Profiles {
			for _, c := range p.Controls {
				for _, r := range c.Results {
					all = append(all, c.ID+" "+r.Status+" "+r.Message)
				}
			}
		}
		return all
	}
	for _, target := range []string{"shop/plain/web", "shop/plain/user"} {
		_, want := s.scan(t, target, "exec", "mounts")
		if got := want.verdicts()["mounts"]; len(got) < 2 || got[0] != "passed" {
			t.Fatalf("%s: mounts by exec: %q", target, got)
		}
		e, got := s.scan(t, target, "ephemeral", "mounts")
		if e.Counts.Error != 1 || !strings.Contains(strings.Join(messages(got), " "), "SYS_ADMIN") {
			t.Errorf("%s: mounts by chroot: %+v %q", target, e, messages(got))
		}
		if diff := cmp.Diff(messages(want)[3:], messages(got)[len(messages(got))-1:]); diff != "" {
			t.Errorf("%s: by exec (-) and by chroot (+): %s", target, diff)
		}
	}
	s.agent.kill(syscall.SIGTERM)
	s.start(t, "REEVE_AGENT_SCAN_EPHEMERAL_CAPABILITIES=SYS_PTRACE,SYS_CHROOT,SYS_ADMIN")
	for _, target := range []string{"shop/plain/web", "shop/plain/user", "shop/shared/web"} {
		_, want := s.scan(t, target, "exec", "mounts")
		_, got := s.scan(t, target, "ephemeral", "mounts")
		if diff := cmp.Diff(messages(want), messages(got)); diff != "" {
			t.Errorf("%s: by exec (-) and in the mount namespace (+): %s", target, diff)
		}
	}
	s.agent.kill(syscall.SIGTERM)
	s.start(t)
}

// restricted: where admission allows no privileges, files are read without.
func (s *scanner) restricted(t *testing.T) {
	if e, _ := s.scan(t, "strict/bare/bare", "auto", baseline); e.Status != "completed" || e.Entry.Method != "ephemeral" || e.Counts.Passed == 0 || e.Counts.Failed == 0 {
		t.Errorf("%+v", e)
	}
}

// audited holds what the API server was asked against what scans need.
func (s *scanner) audited(t *testing.T) {
	s.nothingLeft(t)
	f, err := os.Open(filepath.Join(s.w.k.Dir, "log", "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	asked := map[string]map[string]bool{"agent": {}, "scan": {}}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			User      struct{ Username string }
			Verb      string
			URI       string `json:"requestURI"`
			ObjectRef struct{ Resource, Subresource, Namespace, Name string }
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		o := e.ObjectRef
		what := strings.TrimSuffix(e.Verb+" "+o.Resource+"/"+o.Subresource, "/")
		if o.Resource == "" {
			what = e.Verb + " " + e.URI
		}
		if o.Namespace == "" && slices.Contains([]string{"pods", "scans", "scanpolicies"}, o.Resource) && (e.Verb == "list" || e.Verb == "watch") {
			continue // events.deployed and scan.resources
		}
		switch user := strings.TrimPrefix(e.User.Username, "system:serviceaccount:"); {
		case user == "reeve:reeve-agent":
			if o.Resource == "serviceaccounts" && o.Namespace != "reeve" {
				what += " in " + o.Namespace
			}
			asked["agent"][what] = true
		case strings.HasPrefix(user, "reeve:reeve-scan-"):
			if o.Resource == "pods" {
				what += " of " + o.Namespace + "/" + o.Name
			}
			asked["scan"][what] = true
		}
	}
	want := map[string]map[string]bool{"agent": {}, "scan": {}}
	for _, kind := range []string{"serviceaccounts", "roles", "rolebindings"} {
		for _, verb := range []string{"create", "list", "delete"} {
			want["agent"][verb+" "+kind] = true
		}
	}
	want["agent"]["create serviceaccounts/token"] = true
	for _, pod := range []string{"shop/plain", "shop/shared", "strict/bare"} {
		for _, what := range []string{"get pods", "get pods/exec", "patch pods/ephemeralcontainers"} {
			want["scan"][what+" of "+pod] = true
		}
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("what may be asked (-) and was (+): %s", diff)
	}
}

// agentsRights: with scan.rbac none the agent makes nothing in the cluster.
func (s *scanner) agentsRights(t *testing.T) {
	s.agent.kill(syscall.SIGTERM)
	s.start(t, "REEVE_AGENT_SCAN_RBAC=none")
	made := s.gate.after("POST /serviceaccounts", func() {})
	for target, took := range map[string]string{"shop/plain/web": "exec", "shop/plain/bare": "ephemeral"} {
		if e, _ := s.scan(t, target, "auto", baseline); e.Status != "completed" || e.Entry.Method != took {
			t.Errorf("%s: %+v", target, e)
		}
	}
	select {
	case <-made:
		t.Error("a service account was made")
	default:
	}
	s.agent.kill(syscall.SIGTERM)
	s.start(t)
}

// noRightsLeft waits until no account of a scan is in the cluster.
func (s *scanner) noRightsLeft(t *testing.T) {
	t.Helper()
	s.w.await(t, "no rights are left of the scans", func() (bool, error) {
		out, err := s.w.k.Kubectl(s.w.ctx, "", "get", "serviceaccounts,roles,rolebindings", "-A", "-l", "reeve.dev/scan", "-o", "name")
		if err != nil || out != "" {
			return false, fmt.Errorf("%w: %s", err, out)
		}
		return true, nil
	})
}

// nothingLeft waits until nothing of a scan is in the cluster but the names of
// ephemeral containers that have ended.
func (s *scanner) nothingLeft(t *testing.T) {
	t.Helper()
	s.noRightsLeft(t)
	s.w.await(t, "no scanner runs any more", func() (bool, error) {
		var pods struct {
			Items []struct {
				Status struct {
					Ephemeral []struct {
						Name  string
						State struct{ Terminated *struct{ ExitCode int } }
					} `json:"ephemeralContainerStatuses"`
				}
			}
		}
		if err := s.w.k.JSON(s.w.ctx, &pods, "get", "pods", "-A"); err != nil {
			return false, err
		}
		for _, p := range pods.Items {
			for _, c := range p.Status.Ephemeral {
				if c.State.Terminated == nil {
					return false, fmt.Errorf("ephemeral container %s runs", c.Name)
				}
				if c.State.Terminated.ExitCode != 0 {
					t.Errorf("ephemeral container %s: exit code %d", c.Name, c.State.Terminated.ExitCode)
				}
			}
		}
		return true, nil
	})
}

// killed kills the agent right after the API server has done what it asked for,
// at each step of a scan: the scan is made by the next process, and nothing
// stays behind.
func (s *scanner) killed(t *testing.T) {
	for _, at := range []string{
		"POST /serviceaccounts", "POST /roles", "POST /rolebindings", "POST /token", "GET /pods/plain",
		"PATCH /ephemeralcontainers", "GET /exec", "DELETE /serviceaccounts/", "DELETE /rolebindings/", "DELETE /roles/",
	} {
		t.Run(at, func(t *testing.T) {
			agent := s.agent
			done := s.gate.after(at, func() { agent.kill(syscall.SIGKILL) })
			id := s.ask(t, "shop/plain/bare", "ephemeral", baseline)
			select {
			case <-done:
			case <-s.w.ctx.Done():
				t.Fatal("the step never came")
			}
			s.start(t)
			if e, _ := s.over(t, id); e.Status != "completed" || e.Attempt != 2 {
				t.Errorf("%+v", e)
			}
			s.noRightsLeft(t)
		})
	}
	s.nothingLeft(t) // once for all: a scanner that was left waits a while for somebody
}

const freshDeployment = `
apiVersion: v1
kind: Namespace
metadata: {name: fresh}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: front, namespace: fresh}
spec:
  replicas: 2
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}%s}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: web, image: %q, imagePullPolicy: Never}
`

// newImage: a deployment of a new image leads to a scan, an outcome and an alert
// with nobody acting; another pod of it does not, nor does the agent's restart.
func (s *scanner) newImage(t *testing.T) {
	deploy := func(annotations, image string) {
		t.Helper()
		if err := s.w.k.Apply(s.w.ctx, fmt.Sprintf(freshDeployment, annotations, image)); err != nil {
			t.Fatal(err)
		}
	}
	scans := func() (all []entered) {
		t.Helper()
		var page struct{ Items []entered }
		if _, err := s.w.call(http.MethodGet, "/scans?namespace=fresh", nil, &page); err != nil {
			t.Fatal(err)
		}
		return page.Items
	}
	over := func(n int) {
		t.Helper()
		s.w.await(t, fmt.Sprintf("%d scans of what is deployed", n), func() (bool, error) {
			all := scans()
			return len(all) >= n && !slices.ContainsFunc(all, func(e entered) bool { return e.Status != "completed" }), nil
		})
	}
	deploy("", "reeve.test/web:1")
	over(1)
	alerts := func(policy string) (all []received) {
		for _, a := range s.w.sink.got.all() {
			if a.owner == scannerAgent+"/fresh" && a.policy == policy {
				all = append(all, a)
			}
		}
		return all
	}
	s.w.await(t, "the alert", func() (bool, error) { return len(alerts("container-baseline/moderate")) == 1, nil })
	told := alerts("container-baseline/moderate")[0]
	var pods struct {
		Items []struct {
			Status struct {
				ContainerStatuses []struct {
					State struct{ Running struct{ StartedAt time.Time } }
				}
			}
		}
	}
	if err := s.w.k.JSON(s.w.ctx, &pods, "get", "pods", "-n", "fresh"); err != nil {
		t.Fatal(err)
	}
	first := told.at
	for _, p := range pods.Items {
		for _, c := range p.Status.ContainerStatuses {
			if at := c.State.Running.StartedAt; at.Before(first) {
				first = at
			}
		}
	}
	t.Logf("alert %v after the container ran (Kubernetes tells whole seconds)", told.at.Sub(first).Round(time.Millisecond))
	if told.pass {
		t.Errorf("%+v", told)
	}

	if _, err := s.w.k.Kubectl(s.w.ctx, "", "scale", "-n", "fresh", "deployment/front", "--replicas=3"); err != nil {
		t.Fatal(err)
	}
	s.agent.kill(syscall.SIGTERM)
	s.start(t)
	deploy(", annotations: {scan-profile: mounts}", "reeve.test/bare:1")
	over(2)
	if all := scans(); len(all) != 2 {
		t.Errorf("%d scans of two images: %+v", len(all), all)
	}
}

// objects: a Scan is carried out once and shows how it stands; a ScanPolicy
// leads to scans; what is wrong with either is refused, or said in its status.
func (s *scanner) objects(t *testing.T) {
	apply := func(manifest string) error { return s.w.k.Apply(s.w.ctx, manifest) }
	for name, bad := range map[string]string{
		"two profiles":     `{pod: plain, container: web}, profile: {name: a, configMap: b}}`,
		"no profile":       `{pod: plain, container: web}, profile: {}}`,
		"no container":     `{pod: plain}, profile: {name: a}}`,
		"another method":   `{pod: plain, container: web}, profile: {name: a}, method: telepathy}`,
		"too long a while": `{pod: plain, container: web}, profile: {name: a}, timeoutSeconds: 86400}`,
	} {
		if err := apply("{apiVersion: reeve.dev/v1alpha1, kind: Scan, metadata: {name: bad, namespace: shop}, spec: {target: " + bad + "}"); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	if err := apply("{apiVersion: reeve.dev/v1alpha1, kind: ScanPolicy, metadata: {name: bad, namespace: shop}, spec: {profile: {name: a}}}"); err == nil || !strings.Contains(err.Error(), "say when") {
		t.Errorf("a policy that says not when: %v", err)
	}
	for _, bad := range []string{"[fix]", "[telegram/x]", "[webhook/ci, webhook/ci]", `["log "]`, "[fix/Deny]"} {
		err := apply("{apiVersion: reeve.dev/v1alpha1, kind: ScanPolicy, metadata: {name: bad, namespace: shop}, spec: {profile: {name: a}, onDeploy: true, actions: " + bad + "}}")
		if err == nil || !strings.Contains(err.Error(), "actions") {
			t.Errorf("a policy with the actions %s: %v", bad, err)
		}
	}
	if err := apply(`
apiVersion: v1
kind: ConfigMap
metadata: {name: own, namespace: shop}
data:
  users.rb: |
    control 'users' do
      describe file('/etc/passwd') do
        its('content') { should match(/toor/) }
      end
    end
---
{apiVersion: reeve.dev/v1alpha1, kind: Scan, metadata: {name: by-name, namespace: shop}, spec: {target: {pod: plain, container: bare}, profile: {name: container-baseline}, threshold: moderate}}
---
{apiVersion: reeve.dev/v1alpha1, kind: Scan, metadata: {name: by-map, namespace: shop}, spec: {target: {pod: plain, container: web}, profile: {configMap: own}, method: exec}}
---
{apiVersion: reeve.dev/v1alpha1, kind: Scan, metadata: {name: unknown, namespace: shop}, spec: {target: {pod: plain, container: web}, profile: {name: nope}}}
---
{apiVersion: reeve.dev/v1alpha1, kind: Scan, metadata: {name: no-map, namespace: shop}, spec: {target: {pod: plain, container: web}, profile: {configMap: nope}}}
`); err != nil {
		t.Fatal(err)
	}
	type status struct {
		Phase, Outcome, Reason, Method, ScanID string
		Controls                               struct{ Passed, Failed int }
		Conditions                             []struct{ Type, Status, Message string }
	}
	shown := func(kind, name string) (st status, conditions string, err error) {
		var o struct{ Status status }
		err = s.w.k.JSON(s.w.ctx, &o, "get", kind, name, "-n", namespace)
		var words []string
		for _, c := range o.Status.Conditions {
			words = append(words, c.Type+"="+c.Status)
		}
		slices.Sort(words)
		return o.Status, strings.Join(words, " "), err
	}
	for name, want := range map[string]struct{ phase, outcome, method, conditions, reason string }{
		"by-name": {"Completed", "failed", "ephemeral", "Accepted=True Finished=True Passed=False", ""},
		"by-map":  {"Completed", "passed", "exec", "Accepted=True Finished=True Passed=True", ""},
		"unknown": {"Error", "", "", "Accepted=False Finished=True", "nope"},
		"no-map":  {"Error", "", "", "Accepted=False Finished=True", "nope"},
	} {
		s.w.await(t, "Scan "+name+" is over", func() (bool, error) {
			st, _, err := shown("scan", name)
			return st.Phase == "Completed" || st.Phase == "Error", err
		})
		st, conditions, err := shown("scan", name)
		if err != nil || st.Phase != want.phase || st.Outcome != want.outcome || st.Method != want.method || conditions != want.conditions || !strings.Contains(st.Reason, want.reason) {
			t.Errorf("%s: %+v %q, %v", name, st, conditions, err)
		}
	}
	if err := apply("{apiVersion: reeve.dev/v1alpha1, kind: Scan, metadata: {name: by-map, namespace: shop}, spec: {target: {pod: plain, container: web}, profile: {name: other}, method: exec}}"); err == nil || !strings.Contains(err.Error(), "can't be changed") {
		t.Errorf("a Scan was changed: %v", err)
	}
	out, err := s.w.k.Kubectl(s.w.ctx, "", "get", "scans.reeve.dev", "-n", namespace)
	if err != nil || !strings.Contains(out, "by-name   plain   Completed   failed") {
		t.Errorf("kubectl get scans: %v\n%s", err, out)
	}

	before := s.count(t, "")
	if err := apply(`
{apiVersion: reeve.dev/v1alpha1, kind: ScanPolicy, metadata: {name: new, namespace: shop}, spec: {selector: {matchLabels: {app: late}}, profile: {configMap: own}, onDeploy: true, actions: [log]}}
---
{apiVersion: reeve.dev/v1alpha1, kind: ScanPolicy, metadata: {name: closed, namespace: shop}, spec: {profile: {name: container-baseline}, onDeploy: true, actions: [fix/deny]}}
---
{apiVersion: reeve.dev/v1alpha1, kind: ScanPolicy, metadata: {name: nightly, namespace: shop}, spec: {profile: {name: container-baseline}, schedule: "0 3 * * *", timeZone: Europe/Vienna, jitterSeconds: 60}}
---
{apiVersion: reeve.dev/v1alpha1, kind: ScanPolicy, metadata: {name: wrong, namespace: shop}, spec: {profile: {name: container-baseline}, schedule: "never"}}
`); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"new": "Accepted=True", "nightly": "Accepted=True", "closed": "Accepted=False", "wrong": "Accepted=False"} {
		s.w.await(t, "ScanPolicy "+name+" is judged", func() (bool, error) {
			_, conditions, err := shown("scanpolicy", name)
			return conditions == want, err
		})
	}
	if err := apply(`
apiVersion: v1
kind: Pod
metadata: {name: late, namespace: shop, labels: {app: late}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: "reeve.test/web:1", imagePullPolicy: Never}
`); err != nil {
		t.Fatal(err)
	}
	s.w.await(t, "the scan of the policy", func() (bool, error) { return s.count(t, "late") == 1, nil })
	if n := s.count(t, ""); n != before+1 {
		t.Errorf("%d scans came of one pod", n-before)
	}
}

// count is how many scans of the namespace there are, or of one of its pods.
func (s *scanner) count(t *testing.T, pod string) (n int) {
	t.Helper()
	var page struct {
		Items []struct{ Target struct{ Pod string } }
	}
	if _, err := s.w.call(http.MethodGet, "/scans?limit=500&namespace="+namespace, nil, &page); err != nil {
		t.Fatal(err)
	}
	for _, item := range page.Items {
		if pod == "" || item.Target.Pod == pod {
			n++
		}
	}
	return n
}

// gate is a way to the API server on which something can be done at a moment.
type gate struct {
	url, ca string

	mu   sync.Mutex
	at   string // guarded by mu: a method, and what is in the path
	then func() // guarded by mu
}

func newGate(t *testing.T, k *cluster.Cluster) *gate {
	to, err := url.Parse(k.Server)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(k.Dir, "apiserver", "apiserver.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	g := &gate{}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}},
		FlushInterval: -1,
		ModifyResponse: func(resp *http.Response) error {
			g.pass(resp.Request)
			return nil
		},
	}
	server := httptest.NewUnstartedServer(proxy)
	server.StartTLS()
	t.Cleanup(server.Close)
	g.url = server.URL
	g.ca = base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	return g
}

// after has f called once, when the next request of that kind was answered.
func (g *gate) after(at string, f func()) <-chan struct{} {
	done := make(chan struct{})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at, g.then = at, func() {
		f()
		close(done)
	}
	return done
}

func (g *gate) pass(r *http.Request) {
	g.mu.Lock()
	method, part, _ := strings.Cut(g.at, " ")
	then := g.then
	if then == nil || r.Method != method || !strings.Contains(r.URL.Path, part) {
		then = nil
	} else {
		g.then = nil
	}
	g.mu.Unlock()
	if then != nil {
		then()
	}
}
