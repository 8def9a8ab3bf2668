package remedy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"reeve.dev/reeve/policy/remedy"
)

const job = `
apiVersion: batch/v1
kind: Job
metadata: {labels: {team: security}}
spec:
  ttlSecondsAfterFinished: 600
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: fix, image: "reeve.test/web:1", imagePullPolicy: Never, command: [/bin/true, "{namespace}", "{workload}", "{policy}"]}
`

// manifest is a file with a Job.
func manifest(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "job.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newHooks(t *testing.T, cluster *rest.Config, hooks ...remedy.Hook) *remedy.Hooks {
	t.Helper()
	for _, h := range hooks {
		if err := h.Validate(); err != nil {
			t.Fatal(err)
		}
	}
	hs, err := remedy.New(remedy.Config{Hooks: hooks, Cluster: cluster, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return hs
}

func event(namespace, pod string, passed bool) remedy.Event {
	return remedy.Event{
		ID: "a1", Scan: "01a2", Policy: "base/strict", Passed: passed, Namespace: namespace, Pod: pod, Container: "app",
		At: time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC),
	}
}

// post is what the hub does.
func post(t *testing.T, hs http.Handler, hook string, e any) (status int, answer string) {
	t.Helper()
	body, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	hs.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, remedy.Path+hook, strings.NewReader(string(body))))
	return w.Code, strings.TrimSpace(w.Body.String())
}

// apiServer has one pod, of a ReplicaSet of a Deployment, whose metadata change as
// they are patched; it fails otherwise as fails says, and keeps what it was asked.
type apiServer struct {
	busy    int // patches that meet a change by others
	config  *rest.Config
	asked   []string
	fails   map[string]int // by METHOD resource
	objects map[string]*metav1.ObjectMeta
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{fails: map[string]int{}, objects: map[string]*metav1.ObjectMeta{
		"pods/web-7d9f-x": {
			Name: "web-7d9f-x", Namespace: "shop", UID: "p", Labels: map[string]string{"pod-template-hash": "7d9f"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-7d9f", UID: "r", Controller: new(true)}},
		},
		"pods/forged": {
			Name: "forged", Namespace: "shop", UID: "f",
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-7d9f", UID: "another", Controller: new(true)}},
		},
		"replicasets/web-7d9f": {UID: "r", OwnerReferences: []metav1.OwnerReference{{Kind: "Deployment", Name: "web", UID: "d", Controller: new(true)}}},
		"deployments/web":      {UID: "d"},
	}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.asked = append(s.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+string(body)))
		parts := strings.Split(r.URL.Path, "/")
		resource, name := parts[len(parts)-1], ""
		if r.Method != http.MethodPost {
			resource, name = parts[len(parts)-2], parts[len(parts)-1]
		}
		w.Header().Set("Content-Type", "application/json")
		code := s.fails[r.Method+" "+resource]
		o := s.objects[resource+"/"+name]
		if name != "" && o == nil {
			code = http.StatusNotFound
		}
		if code == 0 && r.Method == http.MethodPatch {
			code = change(t, o, body)
		}
		reasons := map[int]string{404: "NotFound", 403: "Forbidden", 409: "AlreadyExists", 422: "Invalid", 500: "InternalError"}
		if s.busy > 0 && r.Method == http.MethodPatch {
			s.busy--
			code, reasons[409] = http.StatusConflict, "Conflict"
		}
		if code != 0 {
			w.WriteHeader(code)
			fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d,"reason":%q,"message":"no"}`, code, reasons[code])
			return
		}
		if o == nil {
			o = &metav1.ObjectMeta{}
		}
		json.NewEncoder(w).Encode(metav1.PartialObjectMetadata{ObjectMeta: *o})
	}))
	t.Cleanup(srv.Close)
	s.config = &rest.Config{Host: srv.URL, QPS: -1}
	return s
}

// change is a merge patch of metadata, with what the API server holds it against.
func change(t *testing.T, o *metav1.ObjectMeta, body []byte) (code int) {
	t.Helper()
	var patch struct {
		Metadata struct {
			UID             types.UID
			ResourceVersion string
			Annotations     map[string]*string
			Labels          map[string]*string
		}
	}
	if err := json.Unmarshal(body, &patch); err != nil {
		t.Error(err)
	}
	if m := patch.Metadata; m.UID != "" && m.UID != o.UID || m.ResourceVersion != "" && m.ResourceVersion != o.ResourceVersion {
		return http.StatusConflict
	}
	o.ResourceVersion = fmt.Sprint(len(o.ResourceVersion), "x", o.ResourceVersion)
	for _, m := range []struct {
		into *map[string]string
		from map[string]*string
	}{{&o.Annotations, patch.Metadata.Annotations}, {&o.Labels, patch.Metadata.Labels}} {
		now := maps.Clone(*m.into)
		if now == nil {
			now = map[string]string{}
		}
		for k, v := range m.from {
			if v == nil {
				delete(now, k)
			} else {
				now[k] = *v
			}
		}
		*m.into = now
	}
	return 0
}

func TestHooks(t *testing.T) {
	s := newAPIServer(t)
	hs := newHooks(t, s.config,
		remedy.Hook{Name: "note", Namespaces: []string{"shop"}, Annotate: map[string]string{"reeve.dev/compliance": "{outcome} {policy} {scan} {at}"}},
		remedy.Hook{Name: "deny", Namespaces: []string{"*"}, Object: remedy.Pod, Label: map[string]string{"reeve.dev/deny": "true"}},
		remedy.Hook{Name: "fix", Namespaces: []string{"shop"}, Job: manifest(t, job)},
	)
	const (
		pod    = "web-7d9f-x"
		getPod = "GET /api/v1/namespaces/shop/pods/web-7d9f-x"
		getRS  = "GET /apis/apps/v1/namespaces/shop/replicasets/web-7d9f"
		mark   = `"remedy.reeve.dev/deny.96604c85b6ce.e3b0c44298fc"`
	)
	created := `POST /apis/batch/v1/namespaces/shop/jobs {"apiVersion":"batch/v1","kind":"Job","metadata":{"labels":{"app.kubernetes.io/managed-by":"reeve","team":"security"},"name":"fix-f55ff16f66f43360"},"spec":{"template":{"spec":{"containers":[{"command":["/bin/true","shop","Deployment/web","base/strict"],"image":"reeve.test/web:1","imagePullPolicy":"Never","name":"fix"}],"restartPolicy":"Never"}},"ttlSecondsAfterFinished":600}}`
	for _, tc := range []struct {
		name, hook string
		passed     bool
		asked      []string
	}{
		{"annotates the workload", "note", false, []string{getPod, getRS, `PATCH /apis/apps/v1/namespaces/shop/deployments/web {"metadata":{"annotations":{"reeve.dev/compliance":"failed base/strict 01a2 2026-11-22T05:00:00Z"},"labels":{},"uid":"d"}}`}},
		{"and says that it is good again", "note", true, []string{getPod, getRS, `PATCH /apis/apps/v1/namespaces/shop/deployments/web {"metadata":{"annotations":{"reeve.dev/compliance":"passed base/strict 01a2 2026-11-22T05:00:00Z"},"labels":{},"uid":"d"}}`}},
		{"labels the pod", "deny", false, []string{getPod, getRS, `PATCH /api/v1/namespaces/shop/pods/web-7d9f-x {"metadata":{"annotations":{` + mark + `:"01a2"},"labels":{"reeve.dev/deny":"true"},"uid":"p"}}`}},
		{"takes the label off", "deny", true, []string{
			getPod, getRS, `PATCH /api/v1/namespaces/shop/pods/web-7d9f-x {"metadata":{"annotations":{` + mark + `:null},"labels":{},"uid":"p"}}`,
			`PATCH /api/v1/namespaces/shop/pods/web-7d9f-x {"metadata":{"annotations":{},"labels":{"reeve.dev/deny":null},"resourceVersion":"2x0x","uid":"p"}}`,
		}},
		{"starts a Job", "fix", false, []string{getPod, getRS, created}},
		{"which the same event doesn't change", "fix", false, []string{getPod, getRS, created}},
		{"but not for what passed", "fix", true, []string{getPod, getRS}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.asked = nil
			if status, answer := post(t, hs, tc.hook, event("shop", pod, tc.passed)); status != http.StatusOK {
				t.Errorf("%d %s", status, answer)
			}
			if d := cmp.Diff(tc.asked, s.asked); d != "" {
				t.Errorf("asked (-want +got):\n%s", d)
			}
		})
	}

	for _, tc := range []struct {
		name, hook string
		fails      string
		code, want int
	}{
		{"the pod is gone", "note", "GET pods", 404, 404},
		{"the pod's owner isn't there", "note", "GET replicasets", 404, 422},
		{"no right to see it, yet", "note", "GET replicasets", 403, 502},
		{"no right to patch, yet", "note", "PATCH deployments", 403, 502},
		{"an API server that is ill", "note", "PATCH deployments", 500, 502},
		{"a Job that can't be", "fix", "POST jobs", 422, 422},
		{"a Job that is there", "fix", "POST jobs", 409, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.fails = map[string]int{tc.fails: tc.code}
			if status, answer := post(t, hs, tc.hook, event("shop", pod, false)); status != tc.want {
				t.Errorf("%d %s; want %d", status, answer, tc.want)
			}
		})
	}
	s.fails, s.busy = nil, 2
	if status, answer := post(t, hs, "note", event("shop", pod, false)); status != 200 || s.busy > 0 {
		t.Errorf("an object that others change meanwhile: %d %s", status, answer)
	}
	if status, answer := post(t, hs, "note", event("shop", "forged", false)); status != 422 || !strings.Contains(answer, "another one of that name") {
		t.Errorf("a pod that names another's owner: %d %s", status, answer)
	}

	s.asked = nil
	bad := func(change func(*remedy.Event)) remedy.Event {
		e := event("shop", pod, false)
		change(&e)
		return e
	}
	for name, tc := range map[string]struct {
		hook string
		e    any
		want int
	}{
		"no such hook":               {"drop", event("shop", pod, false), 404},
		"no hook":                    {"", event("shop", pod, false), 404},
		"another namespace":          {"note", event("bank", pod, false), 403},
		"a namespace that isn't":     {"deny", bad(func(e *remedy.Event) { e.Namespace = "../../nodes" }), 400},
		"a pod that isn't":           {"note", bad(func(e *remedy.Event) { e.Pod = "x/status" }), 400},
		"a container that isn't":     {"note", bad(func(e *remedy.Event) { e.Container = "$(id)" }), 400},
		"a policy that is an option": {"fix", bad(func(e *remedy.Event) { e.Policy = "--kubeconfig" }), 400},
		"a policy that is a script":  {"fix", bad(func(e *remedy.Event) { e.Policy = "x; rm -rf /" }), 400},
		"a scan that is a script":    {"fix", bad(func(e *remedy.Event) { e.Scan = "`id`" }), 400},
		"not an event":               {"note", "x", 400},
	} {
		if status, answer := post(t, hs, tc.hook, tc.e); status != tc.want {
			t.Errorf("%s: %d %s; want %d", name, status, answer, tc.want)
		}
	}
	if len(s.asked) > 0 {
		t.Errorf("what was refused led to %q", s.asked)
	}
}

// TestHooks_workload: what is known of a workload, and not of one of its pods.
func TestHooks_workload(t *testing.T) {
	s := newAPIServer(t)
	hs := newHooks(t, s.config,
		remedy.Hook{Name: "note", Namespaces: []string{"shop"}, Annotate: map[string]string{"reeve.dev/sbom": "{outcome} {workload} {pod}"}, Job: manifest(t, job)},
		remedy.Hook{Name: "deny", Namespaces: []string{"shop"}, Object: remedy.Pod, Label: map[string]string{"reeve.dev/deny": "true"}},
	)
	of := func(workload string, passed bool) remedy.Event {
		e := event("shop", "", passed)
		e.Policy, e.Workload = "sboms", workload
		return e
	}
	if status, answer := post(t, hs, "note", of("Deployment/web", false)); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	want := `PATCH /apis/apps/v1/namespaces/shop/deployments/web {"metadata":{"annotations":{"reeve.dev/sbom":"failed Deployment/web "},"labels":{}}}`
	if len(s.asked) != 2 || s.asked[0] != want || !strings.Contains(s.asked[1], `["/bin/true","shop","Deployment/web","sboms"]`) {
		t.Errorf("asked %q", s.asked)
	}
	s.asked = nil
	both := of("Deployment/web", false)
	both.Pod = "web-7d9f-x"
	for name, tc := range map[string]struct {
		hook string
		e    remedy.Event
		want int
	}{
		"a hook that marks pods":   {"deny", of("Deployment/web", false), 422},
		"a kind that isn't":        {"note", of("Secret/web", false), 400},
		"a name that isn't":        {"note", of("Deployment/web/scale", false), 400},
		"no name":                  {"note", of("Deployment", false), 400},
		"a pod, too":               {"note", both, 400},
		"neither":                  {"note", of("", false), 400},
		"a pod that is a workload": {"deny", of("Pod/web-7d9f-x", false), 200},
	} {
		if status, answer := post(t, hs, tc.hook, tc.e); status != tc.want {
			t.Errorf("%s: %d %s; want %d", name, status, answer, tc.want)
		}
	}
	if len(s.asked) != 1 || !strings.HasPrefix(s.asked[0], "PATCH /api/v1/namespaces/shop/pods/web-7d9f-x ") {
		t.Errorf("asked %q", s.asked)
	}
	if status, answer := post(t, hs, "note", of("Deployment/gone", false)); status != 404 {
		t.Errorf("a workload that is gone: %d %s", status, answer)
	}
}

// TestHooks_marks: a label goes when every check that failed has passed since; and
// nobody takes off what another check has found.
func TestHooks_marks(t *testing.T) {
	type step struct {
		group, check     string
		standing, passed bool
		labelled         bool
	}
	for name, steps := range map[string][]step{
		"another policy passes":         {{"strict", "1", true, false, true}, {"lax", "1", true, true, true}, {"strict", "1", true, true, false}},
		"with other inputs":             {{"strict", "1", true, false, true}, {"strict", "2", false, true, true}, {"strict", "1", false, true, false}},
		"a failure by inputs of my own": {{"strict", "1", true, false, true}, {"strict", "mine", false, false, true}, {"strict", "mine", false, true, true}, {"strict", "1", true, true, false}},
		"the rule has new inputs":       {{"strict", "1", true, false, true}, {"strict", "3", false, false, true}, {"strict", "2", true, true, false}},
		"both fail":                     {{"a", "1", true, false, true}, {"b", "1", true, false, true}, {"a", "1", true, true, true}, {"b", "1", true, true, false}},
		"said twice":                    {{"a", "1", true, false, true}, {"a", "1", true, false, true}, {"a", "1", true, true, false}, {"a", "1", true, true, false}},
		"nothing failed":                {{"a", "1", false, true, false}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newAPIServer(t)
			hs := newHooks(t, s.config, remedy.Hook{Name: "deny", Namespaces: []string{"*"}, Label: map[string]string{"reeve.dev/deny": "true"}})
			for i, st := range steps {
				e := event("shop", "web-7d9f-x", st.passed)
				e.Group, e.Check, e.Standing = st.group, st.check, st.standing
				if status, answer := post(t, hs, "deny", e); status != http.StatusOK {
					t.Fatalf("step %d: %d %s", i, status, answer)
				}
				if got := s.objects["deployments/web"].Labels["reeve.dev/deny"] == "true"; got != st.labelled {
					t.Errorf("after step %d labelled is %v", i, got)
				}
			}
			if left := s.objects["deployments/web"].Annotations; len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
	// Another container of the pod has marks of its own; and what changes between
	// the two patches is looked at again.
	s := newAPIServer(t)
	hs := newHooks(t, s.config, remedy.Hook{Name: "deny", Namespaces: []string{"*"}, Label: map[string]string{"reeve.dev/deny": "true"}})
	e := event("shop", "web-7d9f-x", false)
	post(t, hs, "deny", e)
	e.Container, e.Passed, e.Standing = "sidecar", true, true
	if status, answer := post(t, hs, "deny", e); status != http.StatusOK || !strings.Contains(answer, "stays labelled: 1 other") {
		t.Errorf("%d %s", status, answer)
	}
	// A label that two hooks put on goes with the last of their marks.
	s = newAPIServer(t)
	label := map[string]string{"reeve.dev/deny": "true"}
	hs = newHooks(t, s.config, remedy.Hook{Name: "deny", Namespaces: []string{"*"}, Label: label}, remedy.Hook{Name: "quarantine", Namespaces: []string{"*"}, Label: label})
	for i, st := range []struct {
		hook             string
		passed, labelled bool
	}{{"deny", false, true}, {"quarantine", false, true}, {"deny", true, true}, {"quarantine", true, false}} {
		if status, answer := post(t, hs, st.hook, event("shop", "web-7d9f-x", st.passed)); status != http.StatusOK {
			t.Errorf("%d %s", status, answer)
		}
		if got := s.objects["deployments/web"].Labels["reeve.dev/deny"] == "true"; got != st.labelled {
			t.Errorf("two hooks: after step %d labelled is %v", i, got)
		}
	}
	e.Group = strings.Repeat("x", 5000)
	if status, answer := post(t, hs, "deny", e); status != http.StatusBadRequest {
		t.Errorf("a group without end: %d %s", status, answer)
	}
}

func TestHook_Validate(t *testing.T) {
	good := remedy.Hook{Name: "note", Namespaces: []string{"shop"}, Annotate: map[string]string{"a/b": "c"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*remedy.Hook){
		"name":            func(h *remedy.Hook) { h.Name = "../x" },
		"is missing":      func(h *remedy.Hook) { h.Namespaces = nil },
		"namespaces[0]":   func(h *remedy.Hook) { h.Namespaces = []string{"Shop"} },
		"object":          func(h *remedy.Hook) { h.Object = "node" },
		"it does nothing": func(h *remedy.Hook) { h.Annotate = nil },
		"annotate":        func(h *remedy.Hook) { h.Annotate = map[string]string{"a b": "c"} },
		"label":           func(h *remedy.Hook) { h.Label = map[string]string{"a": "no value"} },
	} {
		h := good
		change(&h)
		if err := h.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

func TestNew_refusesManifests(t *testing.T) {
	for name, text := range map[string]string{"a Pod": "apiVersion: v1\nkind: Pod\n", "no YAML": "\tx", "twice the same": "kind: Job\nkind: Job\n", "nothing": ""} {
		h := remedy.Hook{Name: "fix", Namespaces: []string{"*"}, Job: manifest(t, text)}
		if _, err := remedy.New(remedy.Config{Hooks: []remedy.Hook{h}, Cluster: &rest.Config{}, Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "hook fix: job") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHooks_cluster acts on a pod of a real Kubernetes.
func TestHooks_cluster(t *testing.T) {
	path := os.Getenv("REEVE_TEST_KUBECONFIG")
	if path == "" {
		t.Skip("needs a Kubernetes that may be written to: set REEVE_TEST_KUBECONFIG to its kubeconfig (cd e2e && go run ./cmd/cluster starts one)")
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	c := kubernetes.NewForConfigOrDie(cfg)
	ns, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "remedy-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{}); err != nil {
			t.Log(err)
		}
	})
	_, err = c.CoreV1().Pods(ns.Name).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.PodSpec{AutomountServiceAccountToken: new(false), Containers: []corev1.Container{{Name: "app", Image: "reeve.test/web:1", ImagePullPolicy: corev1.PullNever}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	hs := newHooks(t, cfg, remedy.Hook{
		Name: "all", Namespaces: []string{"remedy-*"}, Annotate: map[string]string{"reeve.dev/compliance": "{outcome}"},
		Label: map[string]string{"reeve.dev/deny": "true"}, Job: manifest(t, job),
	})
	for range 2 { // the hub may say it again
		for _, passed := range []bool{false, true} {
			if status, answer := post(t, hs, "all", event(ns.Name, "web", passed)); status != http.StatusOK {
				t.Fatalf("%d %s", status, answer)
			}
			pod, err := c.CoreV1().Pods(ns.Name).Get(t.Context(), "web", metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			want := map[bool][2]string{false: {"failed", "true"}, true: {"passed", ""}}[passed]
			if got := [2]string{pod.Annotations["reeve.dev/compliance"], pod.Labels["reeve.dev/deny"]}; got != want {
				t.Errorf("passed %v: %q, want %q", passed, got, want)
			}
		}
	}
	jobs, err := c.BatchV1().Jobs(ns.Name).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/managed-by=reeve,team=security"})
	if err != nil {
		t.Fatal(err)
	}
	names := func(jobs []batchv1.Job) (out []string) {
		for _, j := range jobs {
			out = append(out, j.Spec.Template.Spec.Containers[0].Command[2])
		}
		return out
	}
	if d := cmp.Diff([]string{"Pod/web"}, names(jobs.Items)); d != "" {
		t.Errorf("Jobs (-want +got):\n%s", d)
	}
	if status, answer := post(t, hs, "all", event(ns.Name, "gone", false)); status != http.StatusNotFound {
		t.Errorf("a pod that is gone: %d %s", status, answer)
	}

	// A pod that calls another's workload its own.
	db, err := c.AppsV1().StatefulSets(ns.Name).Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: new(int32), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "db"}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "reeve.test/web:1"}}}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, uid := range map[string]types.UID{"own": db.UID, "forged": "00000000-0000-4000-8000-000000000001"} {
		_, err = c.CoreV1().Pods(ns.Name).Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", UID: uid, Controller: new(true)}}},
			Spec:       corev1.PodSpec{AutomountServiceAccountToken: new(false), Containers: []corev1.Container{{Name: "app", Image: "reeve.test/web:1", ImagePullPolicy: corev1.PullNever}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		status, answer := post(t, hs, "all", event(ns.Name, name, false))
		if (name == "own") != (status == http.StatusOK) {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
}
