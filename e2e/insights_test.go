package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// insightsAccount has the agent collect with no more rights than
// deploy/rbac-insights.yaml gives it, use each of them, and ask for nothing else;
// and what a scan's SBOM says is found by what runs.
func (s *scanner) insightsAccount(t *testing.T) {
	w := s.w
	rbac, err := os.ReadFile("../deploy/rbac-insights.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// A token that isn't ours is replaced, and one that never ends renewed.
	secret := "REEVE_AGENT_INSIGHTS_TOKEN_SECRET_FILE=" + filepath.Join(w.dir, "insights-secret")
	made := w.reeveEnv([]string{secret}, "agent", "generate-token", "--namespace", namespace, "--environment-id", "7", "--project", "shop", "--environment", "main")
	if made.code != 0 {
		t.Fatalf("generate-token: exit code %d: %s", made.code, made.stderr)
	}
	token := strings.TrimSpace(made.out)
	err = w.k.Apply(w.ctx, string(rbac)+fmt.Sprintf(`
---
apiVersion: v1
kind: Namespace
metadata:
  name: collect
  labels: {lagoon.sh/environmentId: "9", lagoon.sh/project: shop, lagoon.sh/environment: collect}
  annotations: {reeve.dev/policies: "known: {optOut: true}"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: image-web, namespace: collect, labels: {lagoon.sh/insightsType: image-gz, lagoon.sh/service: web}}
data: {image-inspect.json: '{"Name": "web", "Os": "linux"}'}
---
apiVersion: v1
kind: Secret
metadata: {name: insights-token, namespace: collect, labels: {lagoon.sh/insights-token: "true"}}
stringData: {INSIGHTS_TOKEN: foreign}
---
apiVersion: v1
kind: Secret
metadata: {name: insights-token, namespace: shop, labels: {lagoon.sh/insights-token: "true"}}
stringData: {INSIGHTS_TOKEN: %s}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: collect}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: "reeve.test/web:1", imagePullPolicy: Never}
`, token))
	if err != nil {
		t.Fatal(err)
	}
	s.agent.kill(syscall.SIGTERM)
	s.start(t, "REEVE_AGENT_INSIGHTS_CONFIG_MAPS=true", "REEVE_AGENT_INSIGHTS_BURN_AFTER_READING=true", "REEVE_AGENT_INSIGHTS_TOKENS=true",
		"REEVE_AGENT_INSIGHTS_TOKEN_LIFE=1h", secret,
		"REEVE_AGENT_INSIGHTS_INVENTORY=true", "REEVE_AGENT_INSIGHTS_LEADER_LEASE=insights")
	w.await(t, "the ConfigMap is burned", func() (bool, error) {
		out, err := w.k.Kubectl(w.ctx, "", "get", "configmaps", "-n", "collect", "-o", "name")
		return !strings.Contains(out, "image-web"), err
	})
	for ns, old := range map[string]string{"collect": "foreign", namespace: token} {
		w.await(t, "a new token in "+ns, func() (bool, error) {
			var got struct{ Data map[string][]byte }
			err := w.k.JSON(w.ctx, &got, "get", "secret", "insights-token", "-n", ns)
			now := string(got.Data["INSIGHTS_TOKEN"])
			return err == nil && now != "" && now != old, nil // it is gone for a moment
		})
	}
	if _, err := w.k.Kubectl(w.ctx, "", "wait", "-n", "collect", "--for=condition=Ready", "pod/web", "--timeout=60s"); err != nil {
		t.Fatal(err)
	}

	made = w.reeve("sbom", "k8s-container://collect/web/web", "--kubeconfig", w.k.Kubeconfig)
	if made.code != 0 || !strings.Contains(made.out, `"pkg:npm/left-pad@1.3.0"`) || !strings.Contains(made.out, `"name":"reeve.test/web:1","version":"sha256:`) {
		t.Errorf("reeve sbom: exit code %d: %s%s", made.code, made.out, made.stderr)
	}

	// The image has no SBOM until a scan hands one in.
	missing := func(want bool) func() (bool, error) {
		return func() (bool, error) {
			var all, without struct{ Items []struct{ Name string } }
			_, err := w.call(http.MethodGet, "/workloads?namespace=collect", nil, &all)
			if err == nil {
				_, err = w.call(http.MethodGet, "/workloads?namespace=collect&sbom=missing", nil, &without)
			}
			return len(all.Items) == 1 && all.Items[0].Name == "web" && (len(without.Items) == 1) == want, err
		}
	}
	w.await(t, "what runs, without an SBOM", missing(true))
	w.await(t, "what a namespace says of policies", func() (bool, error) {
		var subjects, overrides struct {
			Items []struct{ Namespace, Repo, By string }
		}
		_, err := w.call(http.MethodGet, "/policy-subjects?policy=known&agent="+scannerAgent, nil, &subjects)
		if err == nil {
			_, err = w.call(http.MethodGet, "/policy-overrides", nil, &overrides)
		}
		in := map[string]bool{}
		for _, s := range subjects.Items {
			in[s.Namespace] = true
		}
		return in[namespace] && !in["collect"] && len(overrides.Items) == 1 && overrides.Items[0].Namespace == "collect", err
	})
	id := w.request(t, fmt.Sprintf(`{"target": {"agent": %q, "namespace": "collect", "pod": "web", "container": "web"},
		"scan": {"profile": %q}, "options": {"method": "exec", "sbom": true}}`, scannerAgent, baseline)).ID
	if e, _ := s.over(t, id); e.Status != "completed" {
		t.Errorf("%+v", e)
	}
	w.await(t, "what runs, with an SBOM", missing(false))
	// By the image's digest it is of all that run the image.
	type place struct{ Namespace, Workload, Container, Purl string }
	var runs struct{ Items []place }
	if _, err := w.call(http.MethodGet, "/who-runs?of="+url.QueryEscape("pkg:npm/left-pad"), nil, &runs); err != nil {
		t.Fatal(err)
	}
	for _, want := range []place{
		{"collect", "web", "web", "pkg:npm/left-pad@1.3.0"},
		{namespace, "plain", "web", "pkg:npm/left-pad@1.3.0"},
	} {
		if !slices.Contains(runs.Items, want) {
			t.Errorf("%+v doesn't run left-pad; what does: %+v", want, runs.Items)
		}
	}
	s.askedByInsights(t)
	s.agent.kill(syscall.SIGTERM)
	s.start(t)
}

// askedByInsights holds what the agent asked of the API server for insights
// against its rights: all was allowed, and all of them are needed.
func (s *scanner) askedByInsights(t *testing.T) {
	f, err := os.Open(filepath.Join(s.w.k.Dir, "log", "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	asked := map[string]bool{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			User           struct{ Username string }
			Verb           string
			ObjectRef      struct{ Resource string }
			ResponseStatus struct{ Code int }
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		what := e.Verb + " " + e.ObjectRef.Resource
		if e.User.Username != "system:serviceaccount:reeve:reeve-agent" || !slices.Contains([]string{"configmaps", "namespaces", "secrets", "leases", "cronjobs"}, e.ObjectRef.Resource) {
			continue
		}
		if e.ResponseStatus.Code == http.StatusForbidden {
			t.Errorf("%s is forbidden", what)
		}
		asked[what] = true
	}
	// Only an API server that doesn't send them by a watch is asked for these.
	delete(asked, "list configmaps")
	delete(asked, "list namespaces")
	want := map[string]bool{}
	for resource, verbs := range map[string]string{
		"configmaps": "get watch patch delete", "namespaces": "get watch", "secrets": "list create patch delete", "leases": "get create update", "cronjobs": "list",
	} {
		for verb := range strings.FieldsSeq(verbs) {
			want[verb+" "+resource] = true
		}
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("what may be asked (-) and was (+): %s", diff)
	}
}
