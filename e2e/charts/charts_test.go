package charts

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
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
config: {insights: {configMaps: true, tokens: true, leader: {lease: reeve}, inventory: true}, scan: {resources: true}, events: {deployed: true}}
`))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("deploy/rbac*.yaml (-) and the chart (+): %s", diff)
	}
}

// What namespaces say of policies, and which CronJobs there are, is part of the
// inventory.
func TestRights_inventory(t *testing.T) {
	found := render(t, "reeve-agent", `{hub: {url: "https://hub:8443"}, config: {insights: {inventory: true}}}`)
	want := []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"list"}},
		{APIGroups: []string{"batch"}, Resources: []string{"cronjobs"}, Verbs: []string{"list"}},
	}
	if diff := cmp.Diff(want, found["ClusterRole/reeve-agent-inventory"].(*rbacv1.ClusterRole).Rules); diff != "" {
		t.Error(diff)
	}
	if _, ok := found["ClusterRoleBinding/reeve-agent-inventory"]; !ok {
		t.Error("nobody has it")
	}
}

// The agent's account gets what its hooks do, where they may: in the namespaces
// that they name, or in all where a name is a pattern. Hooks with an account of
// their own add nothing.
func TestRights_hooks(t *testing.T) {
	const values = `
hub: {url: "https://hub:8443"}
config:
  remediation:
    kubeconfig: %q
    hooks:
    - {name: note, namespaces: [shop, blog], object: pod, annotate: {a: b}}
    - {name: deny, namespaces: ["team-*", shop], label: {a: b}}
    - {name: fix, namespaces: [shop], job: /etc/reeve/fix/job.yaml}
`
	get := "get pods; get replicasets; "
	want := map[string]string{
		"Role/shop/reeve-agent-hook-note":    get + "patch pods",
		"Role/blog/reeve-agent-hook-note":    get + "patch pods",
		"ClusterRole//reeve-agent-hook-deny": get + "patch pods; patch deployments,statefulsets,daemonsets,replicasets; patch jobs",
		"Role/shop/reeve-agent-hook-fix":     get + "create jobs",
	}
	hooks := func(kubeconfig string) (roles, bindings map[string]string) {
		text, err := Release{Chart: filepath.Join(root, "deploy", "charts", "reeve-agent"), Name: "reeve-agent", Namespace: "reeve", Values: fmt.Sprintf(values, kubeconfig)}.Render()
		if err != nil {
			t.Fatal(err)
		}
		roles, bindings = map[string]string{}, map[string]string{}
		for doc := range strings.SplitSeq(text, "\n---\n") {
			var role rbacv1.ClusterRole // a Role has the same fields
			var binding rbacv1.RoleBinding
			if err := errors.Join(sigsyaml.Unmarshal([]byte(doc), &role), sigsyaml.Unmarshal([]byte(doc), &binding)); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(role.Name, "-hook-") {
				continue
			}
			if kind, ok := strings.CutSuffix(role.Kind, "Binding"); ok {
				bindings[kind+"/"+role.Namespace+"/"+binding.RoleRef.Name] = binding.RoleRef.Kind + " " + binding.Subjects[0].Namespace + "/" + binding.Subjects[0].Name
				continue
			}
			var rules []string
			for _, r := range role.Rules {
				rules = append(rules, strings.Join(r.Verbs, ",")+" "+strings.Join(r.Resources, ","))
			}
			roles[role.Kind+"/"+role.Namespace+"/"+role.Name] = strings.Join(rules, "; ")
		}
		return roles, bindings
	}
	roles, bindings := hooks("")
	if diff := cmp.Diff(want, roles); diff != "" {
		t.Error(diff)
	}
	for key := range want {
		kind, _, _ := strings.Cut(key, "/")
		if bindings[key] != kind+" reeve/reeve-agent" {
			t.Errorf("%s is bound to %q", key, bindings[key])
		}
	}
	if roles, bindings := hooks("/etc/reeve/secrets/remedies/kubeconfig"); len(roles)+len(bindings) > 0 {
		t.Errorf("%v %v", roles, bindings)
	}
}

// Three hubs are spread, by rules that fit no others' pods; who says how
// decides it himself.
func TestSpread(t *testing.T) {
	const three = "{replicas: 3, database: {url: \"postgres://reeve@db/reeve\"}, config: {documents: {url: \"s3://reeve\"}}"
	for values, want := range map[string][]string{
		"":          nil,
		three + "}": {"kubernetes.io/hostname", "topology.kubernetes.io/zone"},
		three + ", affinity: {podAntiAffinity: {}}}":                                                                nil,
		three + ", topologySpreadConstraints: [{maxSkew: 1, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]}": {"rack"},
	} {
		found := render(t, "reeve-hub", values)
		set := found["StatefulSet/reeve-hub"].(*appsv1.StatefulSet)
		var keys []string
		for _, c := range set.Spec.Template.Spec.TopologySpreadConstraints {
			keys = append(keys, c.TopologyKey)
			if c.TopologyKey != "rack" {
				if diff := cmp.Diff(set.Spec.Selector, c.LabelSelector); diff != "" {
					t.Error(diff)
				}
			}
		}
		if diff := cmp.Diff(want, keys); diff != "" {
			t.Errorf("%s: %s", values, diff)
		}
		if strings.HasPrefix(values, three) {
			if b := found["PodDisruptionBudget/reeve-hub"].(*policyv1.PodDisruptionBudget); b.Spec.MaxUnavailable.IntValue() != 1 {
				t.Errorf("%+v", b.Spec)
			}
			if set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement || len(set.Spec.VolumeClaimTemplates) != 0 {
				t.Errorf("%+v", set.Spec)
			}
		}
	}
}

// Ports of incomingServices that aren't the pod's alone are in the Service, and
// reached by those who may call as the agent.
func TestIncoming(t *testing.T) {
	const values = `
hub: {url: "https://hub:8443"}
networkPolicy: {incomingFrom: %s}
config:
  incomingServices:
  - {name: a, port: 8014, serviceType: x-a, destinationService: a}
  - {name: b, port: 8015, address: 0.0.0.0, serviceType: x-b, destinationService: b}
  - {name: c, port: 8016, address: "::", serviceType: x-c, destinationService: c}
`
	for from, want := range map[string][]networkingv1.NetworkPolicyPeer{
		"[]":                        {{PodSelector: &metav1.LabelSelector{}}},
		"[{namespaceSelector: {}}]": {{NamespaceSelector: &metav1.LabelSelector{}}},
	} {
		found := render(t, "reeve-agent", fmt.Sprintf(values, from))
		var ports []int32
		for _, p := range found["Service/reeve-agent"].(*corev1.Service).Spec.Ports {
			ports = append(ports, p.Port)
		}
		if diff := cmp.Diff([]int32{9090, 8015, 8016}, ports); diff != "" {
			t.Error(diff)
		}
		rules := found["NetworkPolicy/reeve-agent"].(*networkingv1.NetworkPolicy).Spec.Ingress
		last := rules[len(rules)-1]
		if diff := cmp.Diff(want, last.From); diff != "" || len(last.Ports) != 2 || last.Ports[0].Port.IntValue() != 8015 {
			t.Errorf("%s: %+v %s", from, last, diff)
		}
	}
	if rules := render(t, "reeve-agent", `hub: {url: "https://hub:8443"}`)["NetworkPolicy/reeve-agent"].(*networkingv1.NetworkPolicy).Spec.Ingress; len(rules) != 1 {
		t.Errorf("%+v", rules)
	}
}

// Whatever a configuration file says the charts take as config.
func TestConfig(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "examples", "*", "*", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"examples/*.yaml", "examples/*/config/*.yaml", "deploy/systemd/*.yaml"} {
		more, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(pattern)))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	seen := 0
	for _, path := range files {
		chart, ok := map[string]string{"hub.yaml": "reeve-hub", "agent.yaml": "reeve-agent"}[filepath.Base(path)]
		if !ok {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var values struct {
			Config map[string]any `json:"config"`
		}
		if err := sigsyaml.Unmarshal(text, &values.Config); err != nil {
			t.Fatal(err)
		}
		if chart == "reeve-agent" {
			hub, _ := values.Config["hub"].(map[string]any)
			if hub == nil {
				hub = map[string]any{}
			}
			if url, _ := hub["url"].(string); url == "" { // from a variable, or the reader's to fill in
				hub["url"] = "https://hub:8443"
			}
			values.Config["hub"] = hub
		}
		config, err := sigsyaml.Marshal(values)
		if err != nil {
			t.Fatal(err)
		}
		render(t, chart, string(config))
		seen++
	}
	if seen < 4 {
		t.Errorf("only %d files were found", seen)
	}
}

// Secrets are files that the configuration names, and never in a ConfigMap.
func TestSecrets(t *testing.T) {
	for chart, values := range map[string]string{
		"reeve-hub":   `{secrets: [slack, git.hub], config: {sinks: [{name: s, type: slack, endpointFile: /etc/reeve/secrets/slack/url}]}}`,
		"reeve-agent": `{secrets: [slack, git.hub], hub: {url: "https://hub:8443"}}`,
	} {
		spec := render(t, chart, values)["StatefulSet/"+chart].(*appsv1.StatefulSet).Spec.Template.Spec
		volumes := map[string]string{}
		for _, v := range spec.Volumes {
			if v.Secret != nil {
				volumes[v.Name] = v.Secret.SecretName
			}
		}
		got := map[string]string{}
		for _, m := range spec.Containers[0].VolumeMounts {
			if strings.HasPrefix(m.MountPath, "/etc/reeve/secrets/") && m.ReadOnly {
				got[m.MountPath] = volumes[m.Name]
			}
		}
		if diff := cmp.Diff(map[string]string{"/etc/reeve/secrets/slack": "slack", "/etc/reeve/secrets/git.hub": "git.hub"}, got); diff != "" {
			t.Errorf("%s: %s", chart, diff)
		}
	}
}

// Kubernetes refuses an upgrade that changes these of a StatefulSet, and with
// other claims a new pod would come without its data.
func TestUpgrade(t *testing.T) {
	for chart, c := range map[string]struct {
		values string
		claim  string
	}{
		"reeve-hub":   {"", "20Gi"},
		"reeve-agent": {`{hub: {url: "https://hub:8443"}}`, "2Gi"},
	} {
		set := render(t, chart, c.values)["StatefulSet/"+chart].(*appsv1.StatefulSet)
		service := map[string]string{"reeve-hub": "reeve-hub-pods", "reeve-agent": "reeve-agent"}[chart]
		if set.Spec.ServiceName != service || set.Spec.PodManagementPolicy != "" {
			t.Errorf("%s: of 0.1.0 it was %s, with no policy: %+v", chart, service, set.Spec)
		}
		labels := map[string]string{"app.kubernetes.io/name": chart, "app.kubernetes.io/instance": chart}
		if diff := cmp.Diff(&metav1.LabelSelector{MatchLabels: labels}, set.Spec.Selector); diff != "" {
			t.Error(diff)
		}
		want := []corev1.PersistentVolumeClaim{{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"},
			ObjectMeta: metav1.ObjectMeta{Name: "data", Labels: labels},
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(c.claim)}},
			},
		}}
		if diff := cmp.Diff(want, set.Spec.VolumeClaimTemplates); diff != "" {
			t.Errorf("%s: %s", chart, diff)
		}
	}
}

// helm finds nothing wrong with the charts.
func TestLint(t *testing.T) {
	for chart, values := range map[string]map[string]any{"reeve-hub": nil, "reeve-agent": {"hub": map[string]any{"url": "https://hub:8443"}}} {
		lint := action.NewLint()
		lint.Strict = true
		result := lint.Run([]string{filepath.Join(root, "deploy", "charts", chart)}, values)
		for _, m := range result.Messages {
			if m.Severity > support.InfoSev { // which wants an icon
				t.Errorf("%s: %v", chart, m)
			}
		}
		for _, err := range result.Errors {
			t.Errorf("%s: %v", chart, err)
		}
		if result.TotalChartsLinted != 1 {
			t.Errorf("%s wasn't looked at", chart)
		}
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
		"a key that the hub hasn't":     {"reeve-hub", `{config: {retention: {scan: 90d}}}`, "scan"},
		"the same of a sink":            {"reeve-hub", `{config: {sinks: [{name: x, kind: rpc}]}}`, "kind"},
		"a list where there is none":    {"reeve-hub", `{config: {log: [debug]}}`, "log"},
		"a key that the agent hasn't":   {"reeve-agent", `{hub: {url: "https://hub:8443"}, config: {remediation: {hook: []}}}`, "hook"},
		"a secret in values":            {"reeve-agent", `{hub: {url: "https://hub:8443"}, config: {insights: {tokenSecret: s3cret}}}`, "tokenSecret"},
		"a folder for a Secret":         {"reeve-hub", `{secrets: [../../ca]}`, "secrets"},
		"an insights port out of range": {"reeve-agent", `{hub: {url: "https://hub:8443"}, insights: {service: {port: 70000}}}`, "port"},
	} {
		_, err := Release{Chart: filepath.Join(root, "deploy", "charts", c.chart), Name: "x", Namespace: "reeve", Values: c.values}.Render()
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
