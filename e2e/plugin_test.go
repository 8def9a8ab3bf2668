package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// kubectlReeve has kubectl run reeve as its plugin: scans by the user's own
// kubeconfig without a hub, questions to a hub, and completion.
func (w *world) kubectlReeve(t *testing.T) {
	bin := t.TempDir()
	for _, name := range []string{"kubectl-reeve", "kubectl_complete-reeve"} {
		if err := os.Symlink(w.bin, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	// A hub in the environment isn't asked, unless a command is for one.
	env := append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "KUBECONFIG="+w.k.Kubeconfig,
		"REEVE_HUB="+w.api, "REEVE_CA="+w.dir+"/ca/ca.pem", "REEVE_CERT="+w.dir+"/ca/control.pem", "REEVE_KEY="+w.dir+"/ca/control-key.pem")
	kubectl := func(args ...string) result {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), w.k.Bin("kubectl"), args...)
		cmd.Dir, cmd.Env = t.TempDir(), env
		var out, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &stderr
		err := cmd.Run()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
		}
		return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
	}
	before := w.scans(t)

	t.Run("a pod", func(t *testing.T) {
		r := kubectl("reeve", "scan", "pod/web-app", "-n", namespace, "-c", "web", "--profile", "container-baseline", "--reporter", "json")
		var byHand document
		if err := json.Unmarshal([]byte(r.out), &byHand); err != nil || r.code != 100 || len(byHand.verdicts()) == 0 {
			t.Fatalf("exit code %d, %v\n%s%s", r.code, err, r.out, r.stderr)
		}
		if r := kubectl("reeve", "scan", "po/web-app", "-n", namespace, "--profile", "container-baseline", "--threshold", "moderate"); r.code != 1 || !strings.Contains(r.stderr, "threshold: ") {
			t.Errorf("exit code %d\n%s%s", r.code, r.out, r.stderr)
		}
	})
	t.Run("a workload", func(t *testing.T) {
		err := w.k.Apply(w.ctx, `
apiVersion: apps/v1
kind: Deployment
metadata: {name: twice, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: twice}}
  template:
    metadata: {labels: {app: twice}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: "reeve.test/web:1", imagePullPolicy: Never}]
`)
		if err != nil {
			t.Fatal(err)
		}
		defer w.k.Kubectl(w.ctx, "", "delete", "-n", namespace, "deployment/twice", "--wait=false")
		if _, err := w.k.Kubectl(w.ctx, "", "rollout", "status", "-n", namespace, "deployment/twice", "--timeout=60s"); err != nil {
			t.Fatal(err)
		}
		for _, chosen := range [][]string{{"deployment/twice"}, {"-l", "app=twice"}} {
			r := kubectl(append([]string{"reeve", "scan", "-n", namespace, "--profile", "container-baseline", "-o", "json"}, chosen...)...)
			var list []struct {
				Target struct{ URI string }
				Status string
				Counts struct{ Passed, Failed int }
			}
			if err := json.Unmarshal([]byte(r.out), &list); err != nil || r.code != 100 || len(list) != 2 {
				t.Fatalf("%v: exit code %d, %v\n%s%s", chosen, r.code, err, r.out, r.stderr)
			}
			for _, s := range list {
				if !strings.HasPrefix(s.Target.URI, "k8s-container://shop/twice-") || s.Status != "completed" || s.Counts.Failed == 0 {
					t.Errorf("%v: %+v", chosen, s)
				}
			}
		}
	})
	t.Run("what isn't there", func(t *testing.T) {
		for _, tc := range []struct{ target, says string }{
			{"pod/nobody", "kubectl get pods --namespace shop"},
			{"deployment/nobody", "kubectl get pods --namespace shop"},
		} {
			if r := kubectl("reeve", "scan", tc.target, "-n", namespace, "--profile", "container-baseline"); r.code != 2 || !strings.Contains(r.stderr, tc.says) {
				t.Errorf("%s: exit code %d\n%s", tc.target, r.code, r.stderr)
			}
		}
		if r := kubectl("reeve", "scan", "pod/web-app", "--context", "nowhere", "--profile", "container-baseline"); r.code != 2 || !strings.Contains(r.stderr, "nowhere") {
			t.Errorf("another context: exit code %d\n%s", r.code, r.stderr)
		}
	})
	if after := w.scans(t); after != before {
		t.Errorf("the hub was asked for %d scans", after-before)
	}
	t.Run("a hub", func(t *testing.T) {
		if r := kubectl("reeve", "get", "agents", "-o", "name"); r.code != 0 || !slices.Contains(strings.Fields(r.out), agentName) {
			t.Errorf("exit code %d\n%s%s", r.code, r.out, r.stderr)
		}
		r := kubectl("reeve", "scan", "--hub", w.api, "pod/web-app", "-n", namespace, "-c", "web", "--agent", agentName, "--profile", "container-baseline")
		if r.code != 100 || w.scans(t) != before+1 {
			t.Errorf("exit code %d\n%s%s", r.code, r.out, r.stderr)
		}
	})
	t.Run("completion", func(t *testing.T) {
		for _, tc := range []struct {
			args []string
			want string
		}{
			{[]string{"sc"}, "scan"},
			{[]string{"scan", "-n", namespace, "pod/w"}, "pod/web-app"},
			{[]string{"scan", "pod/web-app", "--profile", "cont"}, "container-baseline"},
			{[]string{"get", "agents", ""}, agentName},
		} {
			r := kubectl(append([]string{"__complete", "reeve"}, tc.args...)...)
			if r.code != 0 || !slices.ContainsFunc(strings.Split(r.out, "\n"), func(line string) bool { return line == tc.want || strings.HasPrefix(line, tc.want+"\t") }) {
				t.Errorf("%v: exit code %d\n%s%s", tc.args, r.code, r.out, r.stderr)
			}
		}
	})
	if r := kubectl("reeve", "scna"); r.code != 2 || !strings.Contains(r.stderr, "kubectl reeve has no command") {
		t.Errorf("exit code %d\n%s", r.code, r.stderr)
	}
}
