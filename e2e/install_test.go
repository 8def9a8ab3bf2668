package e2e

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

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
// images, and walks the main way on them: an agent joins, callers reach what is
// beside it with credentials that stay there, a container is scanned, insights
// come in, the sink is told. Then both are upgraded.
func (w *world) install(t *testing.T) {
	w.agent.kill(syscall.SIGTERM) // those of the cluster are for the one installed
	w.hub.kill(syscall.SIGTERM)
	in := *w
	in.t, in.dir, in.name = t, filepath.Join(w.dir, "charts"), "charted"
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
	in.makeSecrets(t)
	hub := fmt.Sprintf(`
image: {repository: reeve.test/reeve, tag: "1", pullPolicy: Never}
hostAliases: [{ip: %[1]s, hostnames: [localhost.e2e]}]
secrets: [sink]
config:
  sinks: [{name: e2e, type: rpc, endpoint: "localhost.e2e:%[2]s", caFile: /etc/reeve/secrets/sink/ca.pem}]
  remediation: [{hook: charted, namespaces: [shop]}]
`, w.k.Gateway(), in.relay(t, w.sink.addr))
	in.chart(t, "reeve-hub", hub)
	in.ready(t, "reeve-hub")
	in.reach(t)

	in.publicly = "https://reeve-hub." + reeveNamespace + ".svc:9443"
	agent := fmt.Sprintf(`
image: {repository: reeve.test/reeve-agent, tag: "1", pullPolicy: Never}
hub: {url: "https://reeve-hub.%[1]s.svc:8443", joinToken: %[2]q}
kubectl: {clusterRoles: [view]}
scan: {scanner: {enabled: false}}
insights: {listen: true, tokenSecret: {name: insights}}
hostAliases:
- {ip: %[3]s, hostnames: [reeve-hub.%[1]s.svc]}
- {ip: %[4]s, hostnames: [kubernetes.default.svc]}
env: # this cluster has no kube-proxy, so its Service leads nowhere
- {name: KUBERNETES_SERVICE_HOST, value: kubernetes.default.svc}
- {name: KUBERNETES_SERVICE_PORT, value: %[5]q}
envFrom: [{secretRef: {name: web}}]
config:
  annotations: {description: by chart}
  services:
  - {type: kubernetes, name: cluster}
  - {type: x-web, name: web, url: "http://%[4]s:%[6]s", credentials: {type: bearer, tokenEnv: WEB_TOKEN}}
  insights: {configMaps: true, tokens: true}
  remediation: {hooks: [{name: charted, namespaces: [shop], object: pod, annotate: {reeve.dev/charted: "{outcome}"}}]}
`, reeveNamespace, strings.TrimSpace(in.must("token", "create", "--kind", "join", "--agent", in.name)), in.field(t, "pod/reeve-hub-0", "{.status.podIP}"),
		w.k.Gateway(), in.relay(t, strings.TrimPrefix(w.k.Server, "https://")), in.relay(t, w.web.Addr().String()))
	in.chart(t, "reeve-agent", agent)
	in.ready(t, "reeve-agent")
	if a := in.awaitAgent(t, in.name); a.Annotations["description"] != "by chart" || len(a.Services) != 2 {
		t.Errorf("%+v", a)
	}

	t.Run("forward to a web service", in.forwardWeb)
	t.Run("forward to Kubernetes", in.forwardKubernetes)
	t.Run("the agent may do what it was given", func(t *testing.T) {
		if out := in.kubectl(t, in.kubeconfig("token"), "", "auth", "can-i", "--list"); strings.Contains(out, "*.*") {
			t.Errorf("the agent may do everything:\n%s", out)
		}
	})
	t.Run("scan", in.scan)
	t.Run("a hook by the agent's account", func(t *testing.T) {
		w.await(t, "the mark", func() (bool, error) {
			got, err := w.k.Kubectl(w.ctx, "", "get", "pod", "web-app", "-n", namespace, "-o", `jsonpath={.metadata.annotations.reeve\.dev/charted}`)
			return got == "failed", err
		})
	})
	t.Run("collect", func(t *testing.T) {
		if _, err := w.k.Kubectl(w.ctx, "", "delete", "configmap", "lagoon-insights-sbom-web", "-n", namespace, "--ignore-not-found"); err != nil {
			t.Fatal(err) // it was taken by another agent
		}
		in := in
		in.ingest = "http://127.0.0.1:" + in.portForward(t, "pod/reeve-agent-0", "8888")[0]
		in.collect(t)
	})
	t.Run("an upgrade keeps what there is", func(t *testing.T) {
		var before, after struct{ Items []scanInfo }
		if _, err := in.call(http.MethodGet, "/scans", nil, &before); err != nil {
			t.Fatal(err)
		}
		told := len(in.told("web-app/web", "container-baseline/moderate"))
		in.chart(t, "reeve-hub", hub+"  log: {level: debug}\n")
		in.ready(t, "reeve-hub")
		// The certificate is on its volume: the join token is used up. It has the
		// hub's new address, which a Service would have kept from it.
		agent = strings.Replace(agent, "description: by chart", "description: by chart again", 1)
		aliases := regexp.MustCompile(`\{ip: \S+, hostnames: \[reeve-hub`)
		agent = aliases.ReplaceAllString(agent, "{ip: "+in.field(t, "pod/reeve-hub-0", "{.status.podIP}")+", hostnames: [reeve-hub")
		in.chart(t, "reeve-agent", agent+"  log: {level: debug}\n")
		in.ready(t, "reeve-agent")
		in.reach(t)
		w.await(t, "the agent's new configuration", func() (bool, error) {
			return in.awaitAgent(t, in.name).Annotations["description"] == "by chart again", nil
		})
		if _, err := in.call(http.MethodGet, "/scans", nil, &after); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, after); diff != "" || len(after.Items) == 0 {
			t.Errorf("scans before and after: %s", diff)
		}
		s := in.request(t, `{"target": {"agent": "charted", "namespace": "shop", "pod": "web-app", "container": "web"}, "scan": {"profile": "container-baseline", "threshold": "moderate"}}`)
		if s = in.finished(t, s.ID); s.Status != "completed" || s.Outcome != "failed" || s.Counts.Passed == 0 {
			t.Fatalf("%+v", s)
		}
		w.await(t, "the alert", func() (bool, error) {
			return len(in.told("web-app/web", "container-baseline/moderate")) == told+1, nil
		})
	})
}

// reach leads to the hub's ports and waits until it answers.
func (w *world) reach(t *testing.T) {
	ports := w.portForward(t, "service/reeve-hub", "8443", "9443")
	w.api, w.serve = "https://localhost:"+ports[0], "https://localhost:"+ports[1]
	w.client = w.controlClient()
	w.awaitHub(t)
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

// makeSecrets makes a CA for the hub, in the cluster, has the administrator's
// credential from there, and puts what else is secret beside it.
func (w *world) makeSecrets(t *testing.T) {
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
	ca, err := os.ReadFile(w.sink.ca)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"sink": fmt.Sprintf("ca.pem: %q", ca), "insights": fmt.Sprintf("secret: %q", insightsSecret), "web": fmt.Sprintf("WEB_TOKEN: %q", upstreamToken),
	} {
		w.apply(t, fmt.Sprintf("{apiVersion: v1, kind: Secret, metadata: {name: %s, namespace: %s}, stringData: {%s}}", name, reeveNamespace, data))
	}
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
