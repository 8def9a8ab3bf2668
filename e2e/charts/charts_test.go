package charts

import (
	"bufio"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the plain manifests anew")

const root = "../.."

// The plain manifests are those of the charts.
func TestManifests(t *testing.T) {
	for _, p := range Manifests(root) {
		want, err := p.Text()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, "deploy", p.File)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s is stale (make manifests): %s", p.File, diff)
		}
	}
}

// kinds are what the charts make, each decoded with no field that it hasn't.
func decode(kind string) runtime.Object {
	switch kind {
	case "ConfigMap":
		return &corev1.ConfigMap{}
	case "Secret":
		return &corev1.Secret{}
	case "Service":
		return &corev1.Service{}
	case "ServiceAccount":
		return &corev1.ServiceAccount{}
	case "StatefulSet":
		return &appsv1.StatefulSet{}
	case "NetworkPolicy":
		return &networkingv1.NetworkPolicy{}
	case "PodDisruptionBudget":
		return &policyv1.PodDisruptionBudget{}
	case "ClusterRole":
		return &rbacv1.ClusterRole{}
	case "ClusterRoleBinding":
		return &rbacv1.ClusterRoleBinding{}
	case "Role":
		return &rbacv1.Role{}
	case "RoleBinding":
		return &rbacv1.RoleBinding{}
	}
	return nil
}

// objects decodes manifests strictly: KIND/NAME → object. What isn't of
// Kubernetes itself is left as a map.
func objects(t *testing.T, manifests string) map[string]any {
	t.Helper()
	found := map[string]any{}
	reader := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifests)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		var about struct {
			metav1.TypeMeta   `json:",inline"`
			metav1.ObjectMeta `json:"metadata"`
		}
		if err := sigsyaml.Unmarshal(doc, &about); err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		if about.Kind == "" {
			continue // comments alone
		}
		key := about.Kind + "/" + about.Name
		if _, twice := found[key]; twice {
			t.Errorf("%s is there twice", key)
		}
		if o := decode(about.Kind); o != nil {
			if err := sigsyaml.UnmarshalStrict(doc, o); err != nil {
				t.Errorf("%s: %v", key, err)
			}
			found[key] = o
			continue
		}
		var o map[string]any
		if err := sigsyaml.UnmarshalStrict(doc, &o); err != nil {
			t.Errorf("%s: %v", key, err)
		}
		found[key] = o
	}
}

func render(t *testing.T, chart, values string) map[string]any {
	t.Helper()
	text, err := Release{Chart: filepath.Join(root, "deploy", "charts", chart), Name: chart, Namespace: "reeve", Values: values}.Render()
	if err != nil {
		t.Fatal(err)
	}
	return objects(t, text)
}

const everything = `
imagePullSecrets: [{name: pull}]
env: [{name: A, value: b}]
envFrom: [{secretRef: {name: more}}]
extraVolumes: [{name: more, secret: {secretName: more}}]
extraVolumeMounts: [{name: more, mountPath: /more}]
hostAliases: [{ip: 192.0.2.1, hostnames: [hub.example]}]
podAnnotations: {a: b}
nodeSelector: {disk: ssd}
tolerations: [{key: dedicated, operator: Exists}]
affinity: {podAntiAffinity: {}}
priorityClassName: high
`

// Every value leads to objects that Kubernetes knows.
func TestRender(t *testing.T) {
	for name, c := range map[string]struct {
		chart, values string
		want          []string
	}{
		"a hub": {"reeve-hub", ``, []string{
			"ConfigMap/reeve-hub", "NetworkPolicy/reeve-hub", "Service/reeve-hub", "Service/reeve-hub-pods", "ServiceAccount/reeve-hub", "StatefulSet/reeve-hub",
		}},
		"three hubs, with everything": {"reeve-hub", everything + `
replicas: 3
names: [reeve.example]
database: {url: "postgres://reeve@db/reeve", passwordSecret: {name: database}}
config: {documents: {url: "s3://reeve?region=eu-west-1"}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]
service: {type: LoadBalancer, annotations: {a: b}, apiPort: 443}
serviceAccount: {annotations: {a: b}}
networkPolicy: {from: [{ipBlock: {cidr: 192.0.2.0/24}}], metricsFrom: [{namespaceSelector: {}}], egress: [{}]}
monitoring: {serviceMonitor: {enabled: true, labels: {a: b}}, rules: {enabled: true, labels: {a: b}}, dashboard: {enabled: true}}
`, []string{
			"ConfigMap/reeve-hub", "ConfigMap/reeve-hub-dashboard", "NetworkPolicy/reeve-hub", "PodDisruptionBudget/reeve-hub", "PrometheusRule/reeve-hub",
			"Service/reeve-hub", "Service/reeve-hub-pods", "ServiceAccount/reeve-hub", "ServiceMonitor/reeve-hub", "StatefulSet/reeve-hub",
		}},
		"an agent that collects alone": {"reeve-agent", `
config: {scan: {targets: []}}
hub: {url: "https://hub:8443"}
rbac: {create: false}
podDisruptionBudget: {enabled: false}
networkPolicy: {enabled: false}
persistence: {enabled: false}
`, []string{"ConfigMap/reeve-agent", "Service/reeve-agent", "ServiceAccount/reeve-agent", "StatefulSet/reeve-agent"}},
		"an agent with everything": {"reeve-agent", everything + `
hub: {url: "https://hub:8443", joinToken: token}
kubectl: {clusterRoles: [view]}
insights: {listen: true, tokenSecret: {name: insights}}
config: {insights: {configMaps: true, tokens: true, leader: {lease: reeve}}, scan: {resources: true}, events: {deployed: true}}
serviceAccount: {annotations: {a: b}}
networkPolicy: {insightsFrom: [{podSelector: {}}], metricsFrom: [{namespaceSelector: {}}], ingress: [{ports: [{port: 8080}]}], egress: [{}]}
monitoring: {serviceMonitor: {enabled: true, labels: {a: b}}}
`, []string{
			"ClusterRole/reeve-agent-insights", "ClusterRole/reeve-agent-insights-write", "ClusterRole/reeve-agent-pods", "ClusterRole/reeve-agent-resources",
			"ClusterRole/reeve-agent-roles", "ClusterRole/reeve-agent-scan",
			"ClusterRoleBinding/reeve-agent-insights", "ClusterRoleBinding/reeve-agent-insights-write", "ClusterRoleBinding/reeve-agent-kubectl-view", "ClusterRoleBinding/reeve-agent-pods",
			"ClusterRoleBinding/reeve-agent-resources", "ClusterRoleBinding/reeve-agent-roles", "ClusterRoleBinding/reeve-agent-scan",
			"ConfigMap/reeve-agent", "NetworkPolicy/reeve-agent", "PodDisruptionBudget/reeve-agent", "Role/reeve-agent-accounts", "Role/reeve-agent-leader",
			"RoleBinding/reeve-agent-accounts", "RoleBinding/reeve-agent-leader", "Secret/reeve-agent-join", "Service/reeve-agent", "ServiceAccount/reeve-agent",
			"ServiceMonitor/reeve-agent", "StatefulSet/reeve-agent",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			found := render(t, c.chart, c.values)
			var got []string
			for key, o := range found {
				got = append(got, key)
				if set, ok := o.(*appsv1.StatefulSet); ok && strings.Contains(c.values, everything) {
					spec := set.Spec.Template.Spec
					if len(spec.ImagePullSecrets) != 1 || len(spec.HostAliases) != 1 || len(spec.Tolerations) != 1 || spec.Affinity == nil || spec.PriorityClassName != "high" ||
						spec.NodeSelector["disk"] != "ssd" || set.Spec.Template.Annotations["a"] != "b" || len(spec.Containers[0].EnvFrom) != 1 {
						t.Errorf("%+v", spec)
					}
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// The charts give an agent the rights that deploy's own files give, and no
// others.
func TestRights(t *testing.T) {
	rules := func(found map[string]any) map[string][]rbacv1.PolicyRule {
		out := map[string][]rbacv1.PolicyRule{}
		for key, o := range found {
			switch o := o.(type) {
			case *rbacv1.ClusterRole:
				out[key] = o.Rules
			case *rbacv1.Role:
				out[key] = o.Rules
			}
		}
		return out
	}
	var files []byte
	for _, f := range []string{"rbac.yaml", "rbac-insights.yaml"} {
		text, err := os.ReadFile(filepath.Join(root, "deploy", f))
		if err != nil {
			t.Fatal(err)
		}
		files = append(append(files, "\n---\n"...), text...)
	}
	want := rules(objects(t, string(files)))
	got := rules(render(t, "reeve-agent", `
hub: {url: "https://hub:8443"}
config: {insights: {configMaps: true, tokens: true, leader: {lease: reeve}}, scan: {resources: true}, events: {deployed: true}}
`))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("deploy/rbac*.yaml (-) and the chart (+): %s", diff)
	}
}

// What is wrong is told before anything is installed.
func TestRender_refuses(t *testing.T) {
	for name, c := range map[string]struct{ chart, values, says string }{
		"an unknown value":              {"reeve-hub", `replica: 2`, "replica"},
		"a number of replicas":          {"reeve-hub", `replicas: many`, "replicas"},
		"replicas with no PostgreSQL":   {"reeve-hub", `replicas: 2`, "database.url"},
		"replicas with no documents":    {"reeve-hub", `{replicas: 2, database: {url: "postgres://db/reeve"}}`, "config.documents.url"},
		"a password in the clear":       {"reeve-hub", `{database: {url: "postgres://reeve:s3cret@db/reeve"}}`, "database.passwordSecret"},
		"the same in config":            {"reeve-hub", `{config: {database: {url: "postgres://db/reeve?sslmode=disable&password=s3cret"}}}`, "database.passwordSecret"},
		"a password for no database":    {"reeve-hub", `{database: {passwordSecret: {name: database}}}`, "database.url"},
		"insights that nobody may send": {"reeve-agent", `{hub: {url: "https://hub:8443"}, insights: {listen: true}}`, "insights.tokenSecret"},
		"another database":              {"reeve-hub", `{database: {url: "mysql://db/reeve"}}`, "url"},
		"an agent with no hub":          {"reeve-agent", ``, "hub.url"},
		"a hub in clear text":           {"reeve-agent", `{hub: {url: "http://hub:8443"}}`, "url"},
		"an unknown key below a known":  {"reeve-agent", `{hub: {url: "https://hub:8443", token: x}}`, "token"},
		"a pull policy that isn't":      {"reeve-agent", `{hub: {url: "https://hub:8443"}, image: {pullPolicy: Sometimes}}`, "pullPolicy"},
		"an insights port out of range": {"reeve-agent", `{hub: {url: "https://hub:8443"}, insights: {service: {port: 70000}}}`, "port"},
	} {
		_, err := Release{Chart: filepath.Join(root, "deploy", "charts", c.chart), Name: "x", Namespace: "reeve", Values: c.values}.Render()
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
