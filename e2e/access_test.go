package e2e

import (
	"bufio"
	"bytes"
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// accessRules are the hub's, for holders that only accessByRule has.
const accessRules = `
access:
  rules:
  - {name: looking only, effect: deny, who: {holders: [viewer]}, namespaces: [clients], verbs: [create, update, patch, delete, deletecollection]}
  - {name: nothing but clients, effect: allow, who: {holders: [viewer]}, namespaces: [clients]}
  - {name: nothing else, effect: deny, who: {holders: [viewer]}}
  - {name: developers, effect: allow, who: {holders: [dev]}, impersonate: {user: dev@example.com, groups: [developers]}}
  - {name: support, effect: allow, who: {holders: [support]}, mayImpersonate: true}
`

// accessByRule asks what rules allow and deny, and reads what kubectl makes
// of it.
func (w *world) accessByRule(t *testing.T) {
	for _, holder := range []string{"viewer", "dev", "support"} {
		w.kubeconfigFor(holder, "exec", holder)
	}
	if _, err := w.k.Kubectl(w.ctx, "", "create", "rolebinding", "developers", "-n", clients, "--clusterrole=view", "--group=developers"); err != nil {
		t.Fatal(err)
	}
	ws, spdy := ways[0].env, ways[1].env
	for _, c := range []struct {
		name, as string
		env      []string
		args     string
		out      string // what kubectl writes; empty where it is refused
		says     string // what it says then
	}{
		{"reads", "viewer", nil, "get pod box -o name", "pod/box\n", ""},
		{"reads a log", "viewer", nil, "logs box -c shell", "", ""},
		{"may not create", "viewer", nil, "create configmap x", "", "error: failed to create configmap: not allowed: viewer (spiffe://reeve/service/prod/kubernetes/cluster): create configmaps in namespace clients on agent \"prod\", service kubernetes/cluster: rule looking only of this hub denies it\n"},
		{"may not delete", "viewer", nil, "delete pod box", "", "Error from server (Forbidden): not allowed: viewer"},
		{"may not run a command", "viewer", ws, "exec box -c shell -- true", "", "Error from server (Forbidden): not allowed: viewer (spiffe://reeve/service/prod/kubernetes/cluster): create pods/exec in namespace clients"},
		{"may not run a command", "viewer", spdy, "exec box -c shell -- true", "", "Error from server (Forbidden): not allowed: viewer (spiffe://reeve/service/prod/kubernetes/cluster): create pods/exec in namespace clients"},
		{"may not attach", "viewer", ws, "attach box -c echo", "", "Error from server (Forbidden): not allowed: viewer"},
		{"may not forward a port", "viewer", ws, "port-forward pod/box :8080", "", "error: error upgrading connection: not allowed: viewer"},
		{"may not forward a port", "viewer", spdy, "port-forward pod/box :8080", "", "error: error upgrading connection: not allowed: viewer"},
		{"may not see another namespace", "viewer", nil, "get pods -n shop", "", "Error from server (Forbidden): not allowed: viewer (spiffe://reeve/service/prod/kubernetes/cluster): list pods in namespace shop on agent \"prod\", service kubernetes/cluster: rule nothing else of this hub denies it\n"},
		{"may not see all namespaces", "viewer", nil, "get pods -A", "", "Error from server (Forbidden): not allowed: viewer"},
		{"may not say who it is", "viewer", nil, "get pods --as admin", "", "needs a rule with mayImpersonate\n"},

		{"is somebody else", "dev", nil, `auth whoami -o jsonpath={.status.userInfo.username}{.status.userInfo.groups}`, `dev@example.com["developers","system:authenticated"]`, ""},
		{"reads as that user", "dev", nil, "get pod box -o name", "pod/box\n", ""},
		{"is refused by Kubernetes as that user", "dev", nil, "get pods -n shop", "", `Error from server (Forbidden): pods is forbidden: User "dev@example.com" cannot list resource "pods" in API group "" in the namespace "shop"` + "\n"},
		{"is refused a command by Kubernetes", "dev", ws, "exec box -c shell -- true", "", `User "dev@example.com" cannot create resource "pods/exec"`},
		{"may not be an administrator", "dev", nil, "get pods --as admin --as-group system:masters", "", "needs a rule with mayImpersonate\n"},
		{"may say who it is", "support", nil, "auth whoami --as eve -o jsonpath={.status.userInfo.username}", "eve", ""},
	} {
		t.Run(c.as+" "+c.name, func(t *testing.T) {
			r := w.ran(t, c.as, c.env, "", strings.Fields(c.args)...)
			if r.out != c.out || (r.code == 0) != (c.says == "") || !strings.Contains(r.stderr, c.says) {
				t.Errorf("kubectl %s: exit code %d\n%s%s\nwant %s%s", c.args, r.code, r.out, r.stderr, c.out, c.says)
			}
		})
	}
}

// revoked takes credentials back under a watch, a command and a log.
func (w *world) revoked(t *testing.T) {
	for _, kind := range []string{"certificate", "token", "exec"} {
		t.Run(kind, func(t *testing.T) {
			holder := "gone-" + kind
			w.kubeconfigFor(holder, kind, holder)
			revoke := []string{"ca", "revoke", "--holder", holder}
			if kind == "token" {
				token := w.ran(t, holder, nil, "", "config", "view", "--raw", "-o", "jsonpath={.users[0].user.token}").out
				revoke = []string{"token", "revoke", "--of", w.write("gone.token", token)}
			}
			ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
			defer cancel()
			var under []*underWay
			for _, args := range [][]string{
				{"get", "configmaps", "-w", "-o", "name"},
				{"exec", "-i", "box", "-c", "shell", "--", "sh", "-c", "echo begun; sleep 100000"},
				{"logs", "-f", "-n", namespace, "web-app"},
			} {
				under = append(under, begin(t, w.by(ctx, holder, nil, args...)))
			}
			at := time.Now()
			w.must(revoke...)
			for _, u := range under {
				<-u.ended
				took := u.at.Sub(at)
				t.Logf("%s ended %.2fs after the revocation was asked for", u.cmd.Args[5], took.Seconds())
				if took > 5*time.Second {
					t.Errorf("%v went on for %v", u.cmd.Args, took)
				}
			}
			r := w.ran(t, holder, nil, "", "get", "pods", "-o", "name")
			if r.code == 0 || !strings.Contains(r.stderr, "revoked") {
				t.Errorf("exit code %d: %s%s", r.code, r.out, r.stderr)
			}
		})
	}
}

// underWay is a command that has begun to write.
type underWay struct {
	cmd    *exec.Cmd
	began  time.Time
	lines  locked[string]
	stderr bytes.Buffer // to be read, like at and err, once ended is closed
	ended  chan struct{}
	at     time.Time
	err    error
}

// begin starts cmd and waits for its first line.
func begin(t *testing.T, cmd *exec.Cmd) *underWay {
	t.Helper()
	u := &underWay{cmd: cmd, began: time.Now(), ended: make(chan struct{})}
	cmd.Stderr = &u.stderr
	in, err := cmd.StdinPipe() // stays open
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatalf("%v: %v: %s", cmd.Args, cmd.Wait(), &u.stderr)
	}
	u.lines.add(lines.Text())
	go func() {
		defer close(u.ended)
		defer in.Close()
		for lines.Scan() {
			u.lines.add(lines.Text())
		}
		u.err, u.at = cmd.Wait(), time.Now()
	}()
	return u
}
