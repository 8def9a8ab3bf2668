package e2e

import (
	"path/filepath"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"k8s.io/cli-runtime/pkg/genericclioptions"
)

// webChart is a chart with a deployment, and a hook that runs after it.
func webChart() *chart.Chart {
	return &chart.Chart{
		Metadata: &chart.Metadata{APIVersion: chart.APIVersionV2, Name: "web", Version: "1.0.0"},
		Values:   map[string]any{"greeting": "hello", "replicas": 1},
		Templates: []*chart.File{{Name: "templates/web.yaml", Data: []byte(`
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}}
data: {greeting: {{ .Values.greeting | quote }}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata: {labels: {app: {{ .Release.Name }}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: web, image: "reeve.test/web:1", imagePullPolicy: Never, command: [/bin/sleep, "100000"]}
`)}, {Name: "templates/hook.yaml", Data: []byte(`
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-after
  annotations: {"helm.sh/hook": "post-install", "helm.sh/hook-delete-policy": hook-succeeded}
spec:
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: after, image: "reeve.test/web:1", imagePullPolicy: Never, command: [/bin/true]}
`)}},
	}
}

// helmInstalls installs, upgrades, rolls back and uninstalls a chart, and
// waits each time as helm --wait does.
func (w *world) helmInstalls(t *testing.T) {
	flags := genericclioptions.NewConfigFlags(false)
	kubeconfig, ns := filepath.Join(w.dir, "exec.kubeconfig"), clients
	flags.KubeConfig, flags.Namespace = &kubeconfig, &ns
	var helm action.Configuration
	if err := helm.Init(flags, clients, "secrets", func(string, ...any) {}); err != nil {
		t.Fatal(err)
	}
	greets := func(want string) {
		t.Helper()
		if got := w.good(t, nil, "", "get", "configmap", "web", "-o", "jsonpath={.data.greeting}"); got != want {
			t.Errorf("greeting %q; want %q", got, want)
		}
	}
	install := action.NewInstall(&helm)
	install.ReleaseName, install.Namespace, install.Wait, install.WaitForJobs, install.Timeout = "web", clients, true, true, time.Minute
	rel, err := install.RunWithContext(w.ctx, webChart(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if rel.Info.Status != release.StatusDeployed {
		t.Errorf("status %s", rel.Info.Status)
	}
	greets("hello")
	if got := w.good(t, nil, "", "get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"); got != "1" {
		t.Errorf("%s replicas are ready", got)
	}

	upgrade := action.NewUpgrade(&helm)
	upgrade.Namespace, upgrade.Wait, upgrade.Timeout = clients, true, time.Minute
	if _, err := upgrade.RunWithContext(w.ctx, "web", webChart(), map[string]any{"greeting": "good day", "replicas": 2}); err != nil {
		t.Fatal(err)
	}
	greets("good day")

	rollback := action.NewRollback(&helm)
	rollback.Version, rollback.Wait, rollback.Timeout = 1, true, time.Minute
	if err := rollback.Run("web"); err != nil {
		t.Fatal(err)
	}
	greets("hello")
	if releases, err := action.NewHistory(&helm).Run("web"); err != nil || len(releases) != 3 {
		t.Errorf("%d revisions, %v", len(releases), err)
	}

	uninstall := action.NewUninstall(&helm)
	uninstall.Wait, uninstall.Timeout = true, time.Minute
	if _, err := uninstall.Run("web"); err != nil {
		t.Fatal(err)
	}
	if out := w.good(t, nil, "", "get", "deployments,configmaps", "-l", "app.kubernetes.io/managed-by=Helm", "-o", "name"); out != "" {
		t.Errorf("left behind: %q", out)
	}
}
