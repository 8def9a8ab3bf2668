package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// clients is the namespace of what real clients work on.
const clients = "clients"

// box is a pod with a shell, a terminal, files by HTTP, and a container that
// answers what it reads.
const box = `
apiVersion: v1
kind: Pod
metadata: {name: box, namespace: clients, labels: {app: box}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: shell, image: "reeve.test/web:1", imagePullPolicy: Never, command: [/bin/sh, -c, "mkdir /www && httpd -p 8080 -h /www && exec sleep 100000"]}
  - {name: echo, image: "reeve.test/web:1", imagePullPolicy: Never, stdin: true, command: [/bin/sh, -c, "while read line; do echo \"got $line\"; done"]}
`

// ways are kubectl's two protocols for what isn't request and answer.
var ways = []struct {
	name string
	env  []string
}{
	{"WebSocket", []string{"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true", "KUBECTL_PORT_FORWARD_WEBSOCKETS=true"}},
	{"SPDY", []string{"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false", "KUBECTL_PORT_FORWARD_WEBSOCKETS=false"}},
}

// by is a kubectl through the hub, with a kubeconfig that the step before has
// written and in the namespace clients.
func (w *world) by(ctx context.Context, kubeconfig string, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.k.Bin("kubectl"), append([]string{"--kubeconfig", filepath.Join(w.dir, kubeconfig+".kubeconfig"), "-n", clients}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// ran runs kubectl to its end.
func (w *world) ran(t *testing.T, kubeconfig string, env []string, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	cmd := w.by(ctx, kubeconfig, env, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("kubectl %s: %v\n%s%s", strings.Join(args, " "), errors.Join(err, ctx.Err()), out.Bytes(), stderr.Bytes())
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// good is ran for what can't fail; it answers what kubectl wrote.
func (w *world) good(t *testing.T, env []string, stdin string, args ...string) string {
	t.Helper()
	r := w.ran(t, "exec", env, stdin, args...)
	if r.code != 0 {
		t.Fatalf("kubectl %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.stderr)
	}
	return r.out
}

// kubeconfigFor writes NAME.kubeconfig, with a credential of a kind made out
// to holder.
func (w *world) kubeconfigFor(name, kind, holder string) {
	w.t.Helper()
	w.write(name+".kubeconfig", w.must("kubeconfig", "--agent", agentName, "--service", "cluster", "--kind", kind, "--holder", holder))
}

func (w *world) kubectlWorks(t *testing.T) {
	w.kubeconfigFor("exec", "exec", "e2e")
	w.good(t, nil, "", "create", "namespace", clients)
	if out := w.good(t, nil, box, "apply", "-f", "-"); out != "pod/box created\n" {
		t.Errorf("apply: %q", out)
	}
	w.good(t, nil, "", "wait", "--for=condition=Ready", "pod/box", "--timeout=60s")
	if out := w.good(t, nil, strings.Replace(box, "app: box", "app: changed", 1), "apply", "-f", "-"); out != "pod/box configured\n" {
		t.Errorf("apply of a change: %q", out)
	}
	if out := w.good(t, nil, "", "get", "pods", "-l", "app=changed", "-o", "name"); out != "pod/box\n" {
		t.Errorf("get: %q", out)
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Run("exec -it", func(t *testing.T) { w.terminal(t, way.env) })
			t.Run("cp", func(t *testing.T) { w.copies(t, way.env) })
			t.Run("attach", func(t *testing.T) { w.attaches(t, way.env) })
			t.Run("port-forward", func(t *testing.T) { w.forwardsPorts(t, way.env) })
		})
	}
	t.Run("a service that isn't there has no objects to say of that they are gone", func(t *testing.T) {
		w.write("nowhere.kubeconfig", w.must("kubeconfig", "--agent", agentName, "--service", "nowhere", "--kind", "token", "--force"))
		r := w.ran(t, "nowhere", nil, "", "delete", "pod", "box", "--ignore-not-found")
		if r.code == 0 || !strings.Contains(r.stderr, `agent "prod" has no service "kubernetes/nowhere"`) {
			t.Errorf("exit code %d: %s%s", r.code, r.out, r.stderr)
		}
	})
}

// terminal works in a shell as a person does: the window has a size and
// changes it, Ctrl-C interrupts, the exit code comes back.
func (w *world) terminal(t *testing.T, env []string) {
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	cmd := w.by(ctx, "exec", env, "exec", "-it", "box", "-c", "shell", "--", "sh")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 101})
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	var seen bytes.Buffer
	lines := bufio.NewReader(io.TeeReader(tty, &seen))
	// ask types a line and waits for one that is the answer.
	ask := func(text, answer string) {
		t.Helper()
		if _, err := io.WriteString(tty, text); err != nil {
			t.Fatal(err)
		}
		want := regexp.MustCompile("^" + answer + "\r?\n$")
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("%q: no answer %q (%v); the terminal shows:\n%s", text, answer, err, &seen)
			}
			if want.MatchString(line) {
				return
			}
		}
	}
	ask("stty size\n", "33 101")
	ask("test -t 0 && echo a$((40+2))\n", "a42")
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 50, Cols: 132}); err != nil {
		t.Fatal(err)
	}
	// kubectl tells the new size by itself, a moment later.
	ask("until [ \"$(stty size)\" = '50 132' ]; do :; done; echo si''zed\n", "sized")
	// Who tells that it has begun is who is to be interrupted, not the shell, which
	// would go on to it.
	ask("(echo be''gun; exec sleep 100000) || echo inter''rupted $?\n", "begun")
	ask("\x03", `.*\^C.*`)
	ask("echo co''de $?\n", "code 130")
	if _, err := io.WriteString(tty, "exit 3\n"); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, lines) // ends with the terminal
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("exit code %d; the terminal shows:\n%s", code, &seen)
	}
}

// copies has a file of 100 MB copied in and back out.
func (w *world) copies(t *testing.T, env []string) {
	const size = 100 << 20
	dir := t.TempDir()
	sum := randomFile(t, dir+"/in", size)
	begin := time.Now()
	w.good(t, env, "", "cp", dir+"/in", "box:/tmp/file", "-c", "shell")
	in := time.Since(begin)
	if out := w.good(t, env, "", "exec", "box", "-c", "shell", "--", "sha256sum", "/tmp/file"); !strings.HasPrefix(out, sum+" ") {
		t.Errorf("in the container: %s; want %s", out, sum)
	}
	begin = time.Now()
	w.good(t, env, "", "cp", "box:/tmp/file", dir+"/out", "-c", "shell")
	t.Logf("100 MB: in %.1fs, out %.1fs", in.Seconds(), time.Since(begin).Seconds())
	f, err := os.Open(dir + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := sumOf(t, f); got != sum {
		t.Errorf("copied back: %s; want %s", got, sum)
	}
}

// randomFile writes a file and answers its checksum.
func randomFile(t *testing.T, path string, size int64) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	_, err = io.CopyN(io.MultiWriter(f, sum), rand.Reader, size)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func sumOf(t *testing.T, r io.Reader) string {
	t.Helper()
	sum := sha256.New()
	if _, err := io.Copy(sum, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func (w *world) attaches(t *testing.T, env []string) {
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	cmd := w.by(ctx, "exec", env, "attach", "-q", "-i", "box", "-c", "echo")
	in, err := cmd.StdinPipe()
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
	lines := bufio.NewReader(out)
	for i := range 3 {
		fmt.Fprintf(in, "line %d\n", i)
		if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("got line %d\n", i) {
			t.Fatalf("%q, %v", line, err)
		}
	}
	cancel()
	cmd.Wait()
}

// forwardsPorts fetches a file by several connections to a forwarded port at
// once, and finds out that nothing listens on another one.
func (w *world) forwardsPorts(t *testing.T, env []string) {
	const size = 8 << 20
	sum, _, _ := strings.Cut(w.good(t, nil, "", "exec", "box", "-c", "shell", "--", "sh", "-c",
		fmt.Sprintf("test -e /www/file || dd if=/dev/urandom of=/www/file bs=%d count=1 2>&-; sha256sum /www/file", size)), " ")
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	cmd := w.by(ctx, "exec", env, "port-forward", "pod/box", ":8080", ":8081")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addresses := map[string]string{} // by the pod's port
	lines := bufio.NewScanner(out)
	for len(addresses) < 2 && lines.Scan() {
		if m := regexp.MustCompile(`^Forwarding from (127\.0\.0\.1:\d+) -> (\d+)$`).FindStringSubmatch(lines.Text()); m != nil {
			addresses[m[2]] = m[1]
		}
	}
	if len(addresses) < 2 {
		t.Fatalf("%v: %s", addresses, &stderr)
	}
	go func() {
		for lines.Scan() { // kubectl tells of each connection
		}
	}()
	fetch := func(port string) (string, error) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
		resp, err := client.Get("http://" + addresses[port] + "/file")
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		h := sha256.New()
		_, err = io.Copy(h, resp.Body)
		return hex.EncodeToString(h.Sum(nil)), err
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if got, err := fetch("8080"); err != nil || got != sum {
				t.Errorf("%s, %v; want %s", got, err, sum)
			}
		})
	}
	group.Wait()
	if _, err := fetch("8081"); err == nil {
		t.Error("an answer from a port where nothing listens")
	}
	cancel()
	cmd.Wait()
}
