package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"reeve.dev/reeve/e2e/cluster"
)

// pipelines runs the steps of examples/pipelines against the hub and pods
// that are there: one that meets the threshold moderate, and web-app, which
// doesn't.
func (w *world) pipelines(t *testing.T) {
	err := w.k.Load(w.ctx, cluster.Image{
		Name: "reeve.test/good:1", Cmd: []string{"/bin/sleep", "100000"},
		Files: []cluster.File{
			{Path: "etc/passwd", Body: "root:x:0:0:root:/root:/sbin/nologin\nweb:x:1000:1000:web:/:/sbin/nologin\n"},
			{Path: "etc/group", Body: "root:x:0:\nweb:x:1000:\n"},
			{Path: "etc/os-release", Body: "ID=debian\nVERSION_ID=\"13\"\nPRETTY_NAME=\"test\"\n"},
			{Path: "root/", Mode: 0o700},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.k.Apply(w.ctx, `
apiVersion: v1
kind: Pod
metadata: {name: good-app, namespace: shop}
spec:
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  containers:
  - name: web
    image: "reeve.test/good:1"
    imagePullPolicy: Never
    securityContext:
      runAsUser: 1000
      runAsGroup: 1000
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
      seccompProfile: {type: RuntimeDefault}
`); err != nil {
		t.Fatal(err)
	}
	if _, err := w.k.Kubectl(w.ctx, "", "wait", "-n", namespace, "--for=condition=Ready", "pod/good-app", "--timeout=60s"); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := os.ReadFile(w.k.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	target := func(pod string) map[string]string {
		return map[string]string{"TARGET_NAMESPACE": namespace, "TARGET_POD": pod, "TARGET_CONTAINER": "web"}
	}
	vars := target("good-app")
	vars["KUBECONFIG_CONTENT"] = strings.TrimSpace(string(kubeconfig))
	vars["REEVE_HUB"], vars["REEVE_CA"], vars["REEVE_AGENT"] = w.api, w.dir+"/ca/ca.pem", agentName
	vars["REEVE_TOKEN"] = strings.TrimSpace(w.must("token", "create", "--kind", "api", "--name", "pipelines", "--role", "scanner"))
	there, err := json.Marshal(map[string]any{"Reeve": w.bin, "Vars": vars, "Good": target("good-app"), "Bad": target("web-app")})
	if err != nil {
		t.Fatal(err)
	}
	// Most of the time a job waits for its scan.
	cmd := exec.CommandContext(w.ctx, "go", "test", "-count=1", "-parallel=6", "./examples/pipelines")
	cmd.Dir = ".."
	// What Go has built is where it was before the world moved the cache.
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "XDG_CACHE_HOME=") }), "REEVE_TEST_PIPELINES="+string(there))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out[max(0, len(out)-20_000):])
	}
	// The hub has told each of these outcomes to the agent's hook.
	for pod, want := range map[string]string{"good-app": "passed ", "web-app": "failed true"} {
		w.await(t, "the marks of "+pod, func() (bool, error) {
			got, err := w.k.Kubectl(w.ctx, "", "get", "pod", "-n", namespace, pod, "-o", `jsonpath={.metadata.annotations.reeve\.dev/compliance} {.metadata.labels.reeve\.dev/deny}`)
			return got == want, err
		})
	}
}
