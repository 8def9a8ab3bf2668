package e2e

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"reeve.dev/reeve/e2e/charts"
)

const (
	// reeveNamespace takes nothing but pods of the standard "restricted".
	reeveNamespace = "reeve-system"
	restricted     = `{apiVersion: v1, kind: Namespace, metadata: {name: ` + reeveNamespace + `, labels: {pod-security.kubernetes.io/enforce: restricted}}}`

	// volumes are what a cluster with a provisioner would make.
	volume = `
apiVersion: v1
kind: PersistentVolume
metadata: {name: %[2]s}
spec:
  capacity: {storage: 20Gi}
  accessModes: [ReadWriteOnce]
  hostPath: {path: %[3]q}
  claimRef: {namespace: %[1]s, name: data-%[2]s-0}
---
`
)

// install has hub and agent installed by their charts, in pods made of their
// images, and walks the main way on them: an agent joins, kubectl goes through
// the hub, a container is scanned, and the sink is told.
func (w *world) install(t *testing.T) {
	in := *w
	in.t, in.dir = t, filepath.Join(w.dir, "charts")
	if err := os.MkdirAll(filepath.Join(in.dir, "ca"), 0o755); err != nil {
		t.Fatal(err)
	}
	in.packImages(t)
	in.apply(t, restricted)
	for _, name := range []string{"reeve-hub", "reeve-agent"} {
		dir := filepath.Join(in.dir, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, 65532, 65532); err != nil { // as fsGroup does for other volumes
			t.Fatal(err)
		}
		in.apply(t, fmt.Sprintf(volume, reeveNamespace, name, dir))
	}
	in.secrets(t)
	in.apply(t, in.sinkTrust(t))
	in.chart(t, "reeve-hub", fmt.Sprintf(`
image: {repository: reeve.test/reeve, tag: "1", pullPolicy: Never}
hostAliases: [{ip: %[1]s, hostnames: [localhost.e2e]}]
extraVolumes: [{name: sink, configMap: {name: sink}}]
extraVolumeMounts: [{name: sink, mountPath: /etc/reeve/sink}]
config:
  sinks: [{name: e2e, type: rpc, endpoint: "localhost.e2e:%[2]s", caFile: /etc/reeve/sink/ca.pem}]
`, w.k.Gateway(), in.relay(t, w.sink.addr)))
	in.ready(t, "reeve-hub")

	ports := in.portForward(t, "service/reeve-hub", "8443", "9443")
	in.api, in.serve = "https://localhost:"+ports[0], "https://localhost:"+ports[1]
	in.client = in.controlClient()
	in.awaitHub(t)

	hub := in.field(t, "pod/reeve-hub-0", "{.status.podIP}")
	in.chart(t, "reeve-agent", fmt.Sprintf(`
image: {repository: reeve.test/reeve-agent, tag: "1", pullPolicy: Never}
hub: {url: "https://reeve-hub.%[1]s.svc:8443", joinToken: %[2]q}
kubectl: {clusterRoles: [view]}
scan: {scanner: {enabled: false}}
hostAliases:
- {ip: %[3]s, hostnames: [reeve-hub.%[1]s.svc]}
- {ip: %[4]s, hostnames: [kubernetes.default.svc]}
env: # this cluster has no kube-proxy, so its Service leads nowhere
- {name: KUBERNETES_SERVICE_HOST, value: kubernetes.default.svc}
- {name: KUBERNETES_SERVICE_PORT, value: %[5]q}
config: {annotations: {description: by chart}}
`, reeveNamespace, strings.TrimSpace(in.must("token", "create", "--kind", "join", "--agent", "charted")), hub, w.k.Gateway(), in.relay(t, strings.TrimPrefix(w.k.Server, "https://"))))
	in.ready(t, "reeve-agent")
	if a := in.awaitAgent(t, "charted"); a.Annotations["description"] != "by chart" {
		t.Errorf("%+v", a)
	}

	t.Run("kubectl", func(t *testing.T) {
		text := in.must("kubeconfig", "--agent", "charted", "--service", "cluster")
		config := in.write("charted.kubeconfig", strings.Replace(text, "https://reeve-hub."+reeveNamespace+".svc:9443", in.serve, 1))
		if out := in.kubectl(t, config, "", "get", "pods", "-n", namespace, "-o", "name", "--field-selector=metadata.name=web-app"); out != "pod/web-app\n" {
			t.Errorf("get pods: %q", out)
		}
		if out := in.kubectl(t, config, "", "auth", "can-i", "--list"); strings.Contains(out, "*.*") {
			t.Errorf("the agent may do everything:\n%s", out)
		}
	})
	t.Run("scan", func(t *testing.T) { in.scansCharted(t) })
	t.Run("the agent comes back", func(t *testing.T) {
		if _, err := w.k.Kubectl(w.ctx, "", "delete", "pod", "reeve-agent-0", "-n", reeveNamespace, "--wait"); err != nil {
			t.Fatal(err)
		}
		in.ready(t, "reeve-agent") // by the certificate on its volume: the token is used up
		in.awaitAgent(t, "charted")
		in.scansCharted(t)
	})
}

// scansCharted scans a container and waits until the sink has been told of it.
func (w *world) scansCharted(t *testing.T) {
	before := len(w.toldOfCharted())
	s := w.request(t, `{"target": {"agent": "charted", "namespace": "shop", "pod": "web-app", "container": "web"}, "scan": {"profile": "container-baseline", "threshold": "moderate"}}`)
	if s = w.finished(t, s.ID); s.Status != "completed" || s.Outcome != "failed" || s.Counts.Passed == 0 {
		t.Fatalf("%+v", s)
	}
	w.await(t, "the alert", func() (bool, error) { return len(w.toldOfCharted()) == before+1, nil })
}

func (w *world) toldOfCharted() (told []received) {
	for _, r := range w.sink.about("web-app/web", "container-baseline/moderate") {
		if r.owner == "charted/shop" {
			told = append(told, r)
		}
	}
	return told
}

// packImages makes the images of hub and agent known to the node.
func (w *world) packImages(t *testing.T) {
	agent := filepath.Join(w.dir, "agent-program")
	programs := []struct{ name, binary string }{{"reeve", w.bin}, {"reeve-agent", agent}}
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(w.ctx, "go", args...)
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run("build", "-o", agent, "./cmd/reeve-agent")
	pack := filepath.Join(w.dir, "image")
	run("build", "-o", pack, "./deploy/image")
	for _, p := range programs {
		archive := filepath.Join(w.dir, p.name+".tar")
		cmd := exec.CommandContext(w.ctx, pack, "-program", p.name, "-binary", p.binary, "-name", "reeve.test/"+p.name+":1", "-o", archive)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("image of %s: %v\n%s", p.name, err, out)
		}
		if err := w.k.Import(archive); err != nil {
			t.Fatal(err)
		}
	}
}

// secrets makes a CA for the hub, in the cluster, and has the administrator's
// credential from there.
func (w *world) secrets(t *testing.T) {
	if _, err := w.k.Kubectl(w.ctx, w.must("ca", "init", "--format", "secret"), "apply", "--server-side", "-n", reeveNamespace, "-f", "-"); err != nil {
		t.Fatal(err)
	}
	for key, file := range map[string]string{"ca\\.crt": "ca.pem", "tls\\.crt": "control.pem", "tls\\.key": "control-key.pem"} {
		text, err := base64.StdEncoding.DecodeString(w.field(t, "secret/oes-control-secret", "{.data."+key+"}"))
		if err != nil {
			t.Fatal(err)
		}
		w.write("ca/"+file, string(text))
	}
}

// sinkTrust is the sink's CA as the hub's pod has it.
func (w *world) sinkTrust(t *testing.T) string {
	ca, err := os.ReadFile(w.sink.ca)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: sink, namespace: %s}, data: {ca.pem: %q}}", reeveNamespace, ca)
}

func (w *world) apply(t *testing.T, manifest string) {
	t.Helper()
	if _, err := w.k.Kubectl(w.ctx, manifest, "apply", "--server-side", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

func (w *world) chart(t *testing.T, name, values string) {
	t.Helper()
	text, err := charts.Release{Chart: filepath.Join("..", "deploy", "charts", name), Name: name, Namespace: reeveNamespace, Values: values}.Render()
	if err != nil {
		t.Fatal(err)
	}
	w.apply(t, text)
}

// ready waits for a StatefulSet's pod.
func (w *world) ready(t *testing.T, name string) {
	t.Helper()
	if _, err := w.k.Kubectl(w.ctx, "", "rollout", "status", "-n", reeveNamespace, "statefulset/"+name, "--timeout=60s"); err != nil {
		logs, _ := w.k.Kubectl(w.ctx, "", "logs", "-n", reeveNamespace, name+"-0", "--tail=30")
		about, _ := w.k.Kubectl(w.ctx, "", "describe", "-n", reeveNamespace, "pod/"+name+"-0", "statefulset/"+name)
		t.Fatalf("%v\n%s\n%s", err, logs, about)
	}
}

func (w *world) field(t *testing.T, object, path string) string {
	t.Helper()
	text, err := w.k.Kubectl(w.ctx, "", "get", "-n", reeveNamespace, object, "-o", "jsonpath="+path)
	if err != nil || text == "" {
		t.Fatalf("%s of %s: %q, %v", path, object, text, err)
	}
	return text
}

// portForward leads ports of this machine to those of a pod, as an
// administrator without a load balancer does, and answers which.
func (w *world) portForward(t *testing.T, object string, ports ...string) (local []string) {
	t.Helper()
	args := []string{"--kubeconfig", w.k.Kubeconfig, "port-forward", "-n", reeveNamespace, object}
	for _, p := range ports {
		args = append(args, ":"+p)
	}
	cmd := exec.CommandContext(w.ctx, w.k.Bin("kubectl"), args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for len(local) < len(ports) && lines.Scan() {
		// Forwarding from 127.0.0.1:40001 -> 8443
		if at, _, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "Forwarding from 127.0.0.1:"), " -> "); ok && !strings.Contains(at, "[") {
			local = append(local, at)
		}
	}
	if len(local) < len(ports) {
		t.Fatalf("kubectl port-forward ended: %v", lines.Err())
	}
	go io.Copy(io.Discard, out)
	return local
}

// relay leads a port of the address by which pods reach this machine to a
// server on its loopback, and answers which.
func (w *world) relay(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(w.k.Gateway(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer from.Close()
				there, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer there.Close()
				go func() {
					io.Copy(there, from)
					there.(*net.TCPConn).CloseWrite()
				}()
				io.Copy(from, there)
			}()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}
