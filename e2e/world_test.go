package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reeve.dev/reeve/e2e/cluster"
)

// world is a real Kubernetes, the reeve binary, and a hub and agents as
// processes that know nothing of the test.
type world struct {
	t      *testing.T
	ctx    context.Context
	k      *cluster.Cluster
	dir    string
	bin    string
	name   string // the agent's
	api    string // the hub's URLs
	serve  string
	hub    *process
	agent  *process
	ingest string // the agent's address for facts
	sink   *sink
	client *http.Client // with the control certificate
	web    net.Listener // a service that only the agent is told of

	watching *underWay // what watch began

	// publicly is what the hub calls its services port where that isn't serve.
	publicly string
	secrets  *locked[string] // what no log may have

	collector    string // where hub and agent send traces …
	spans        *locked[collected]
	traceparents *locked[string] // … and what of them reached the service web
}

const (
	agentName = "prod"
	namespace = "shop"
)

// programDir is for reeve, which is built once for all tests.
var programDir string

func TestMain(m *testing.M) {
	var err error
	if programDir, err = os.MkdirTemp("", "reeve-e2e-program-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(programDir)
	os.Exit(code)
}

// program builds reeve, as it is released, and answers where it is.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programDir, "reeve")
	build := exec.Command("go", "build", "-o", path, "./cmd/reeve")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build reeve: %w\n%s", err, out)
	}
	return path, nil
})

func newWorld(t *testing.T) *world {
	if missing := cluster.Missing(); len(missing) > 0 {
		t.Skipf("no real Kubernetes here: missing %s", strings.Join(missing, "; "))
	}
	w := &world{t: t, ctx: t.Context(), dir: t.TempDir(), name: agentName, secrets: &locked[string]{}}
	go program() // while the cluster starts
	cache, err := exec.CommandContext(w.ctx, "go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	// Sockets have short names, so the cluster isn't below t.TempDir.
	clusterDir, err := os.MkdirTemp("", "reeve-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			os.RemoveAll(clusterDir)
			return
		}
		t.Logf("the cluster's logs are in %s/log", clusterDir)
	})
	if w.k, err = cluster.Start(w.ctx, clusterDir, t.Logf); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.k.Close)
	if w.bin, err = program(); err != nil {
		t.Fatal(err)
	}
	// Where reeve, kubectl and client-go keep credentials and what an API has;
	// what Go has built stays where it is.
	t.Setenv("GOCACHE", strings.TrimSpace(string(cache)))
	t.Setenv("XDG_CACHE_HOME", w.dir+"/cache")
	t.Setenv("KUBECACHEDIR", w.dir+"/cache/kube")
	w.sink = newSink(t, w.dir)
	w.collector, w.spans = newCollector(t)
	w.web, w.traceparents = newUpstream(t)
	w.configure()
	w.pods()
	return w
}

// configure writes the configuration files of hub and agent.
func (w *world) configure() {
	api, services := freePort(w.t), freePort(w.t)
	w.api, w.serve = "https://localhost:"+api, "https://localhost:"+services
	ingest := freePort(w.t)
	w.ingest = "http://127.0.0.1:" + ingest
	w.write("hub.yaml", fmt.Sprintf(`
dataDir: %[1]s/hub
caDir: %[1]s/ca
listen: {api: "127.0.0.1:%[2]s", services: "127.0.0.1:%[3]s", metrics: "127.0.0.1:0"}
sinks: [{name: e2e, type: rpc, endpoint: %[4]q, caFile: %[5]q}]
scan: {leaseFor: 3s}
remediation: [{hook: note, namespaces: [shop]}]
log: {level: debug}
%[6]s`, w.dir, api, services, w.sink.addr, w.sink.ca, accessRules))
	w.write("insights-secret", insightsSecret)
	w.keep(insightsSecret, upstreamToken)
	w.write("agent.yaml", fmt.Sprintf(`
dataDir: %[1]s/agent
hub: {url: %[2]q}
annotations: {description: the test cluster}
kubeconfig: %[3]s
services:
- {type: kubernetes, name: cluster, kubeConfig: %[3]s}
- {type: x-web, name: web, url: "http://%[4]s", annotations: {uiUrl: "https://web.example"}, credentials: {type: bearer, tokenEnv: WEB_TOKEN}}
insights: {listen: "127.0.0.1:%[5]s", tokenSecretFile: %[1]s/insights-secret, configMaps: true, tokens: true}
remediation: {hooks: [{name: note, namespaces: [shop], object: pod, annotate: {reeve.dev/compliance: "{outcome}"}, label: {reeve.dev/deny: "true"}}]}
metrics: ""
log: {level: debug}
`, w.dir, w.api, w.k.Kubeconfig, w.web.Addr(), ingest))
}

// pods starts what is scanned: a container with things wrong with it.
func (w *world) pods() {
	err := w.k.Load(w.ctx, cluster.Image{
		Name: "reeve.test/web:1", Cmd: []string{"/bin/sh", "-c", "while true; do date; sleep 1; done"},
		Files: []cluster.File{
			{Path: "etc/passwd", Body: "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0:second root:/root:/bin/sh\nweb:x:1000:1000:web:/:/bin/sh\n"},
			{Path: "etc/group", Body: "root:x:0:\nweb:x:1000:\n"},
			{Path: "etc/shadow", Body: "root:*:19000:0:99999:7:::\ntoor::19000:0:99999:7:::\n", Mode: 0o640},
			{Path: "etc/os-release", Body: "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"test\"\n"},
			{Path: "root/", Mode: 0o700},
			{Path: "etc/loose.conf", Body: "anyone may write here\n", Mode: 0o666},
			{Path: "srv/app/node_modules/left-pad/package.json", Body: `{"name": "left-pad", "version": "1.3.0"}`},
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	err = w.k.Apply(w.ctx, `
apiVersion: v1
kind: Namespace
metadata:
  name: shop
  labels: {lagoon.sh/environmentId: "7", lagoon.sh/project: shop, lagoon.sh/environment: main}
---
apiVersion: v1
kind: Pod
metadata: {name: web-app, namespace: shop}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: web, image: "reeve.test/web:1", imagePullPolicy: Never}
`)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.k.Kubectl(w.ctx, "", "wait", "-n", namespace, "--for=condition=Ready", "pod/web-app", "--timeout=60s"); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) write(name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// result is what a command came to.
type result struct {
	code        int
	out, stderr string
}

// reeve runs a command as the administrator.
func (w *world) reeve(args ...string) result { return w.reeveEnv(nil, args...) }

func (w *world) reeveEnv(env []string, args ...string) result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.bin, args...)
	cmd.Dir = w.dir
	cmd.Env = append(append(os.Environ(), "REEVE_HUB="+w.api, "REEVE_CA="+w.dir+"/ca/ca.pem",
		"REEVE_CERT="+w.dir+"/ca/control.pem", "REEVE_KEY="+w.dir+"/ca/control-key.pem"), env...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatalf("reeve %s: %v", strings.Join(args, " "), err)
	}
	w.keepMade(args, out.String())
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// must is reeve for a command that can't fail.
func (w *world) must(args ...string) string {
	w.t.Helper()
	r := w.reeve(args...)
	if r.code != 0 {
		w.t.Fatalf("reeve %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.stderr)
	}
	return r.out
}

// process is a hub or an agent that runs until it is killed.
type process struct {
	cmd    *exec.Cmd
	log    *os.File
	exited chan struct{}
}

func (w *world) start(name string, env []string, args ...string) *process {
	w.t.Helper()
	log, err := os.OpenFile(filepath.Join(w.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &process{cmd: exec.Command(w.bin, args...), log: log, exited: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = w.dir, log, log
	p.cmd.Env = append(append(os.Environ(), "OTEL_EXPORTER_OTLP_ENDPOINT="+w.collector, "OTEL_BSP_SCHEDULE_DELAY=100"), env...)
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		log.Close()
		close(p.exited)
	}()
	w.t.Cleanup(func() {
		p.kill(syscall.SIGKILL)
		if w.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			w.t.Logf("the end of %s:\n%s", log.Name(), text[max(0, len(text)-6000):])
		}
	})
	return p
}

// kill signals the process and waits for its end.
func (p *process) kill(signal syscall.Signal) {
	select {
	case <-p.exited:
		return
	default:
	}
	p.cmd.Process.Signal(signal)
	<-p.exited
}

func (w *world) startHub() {
	w.hub = w.start("hub", nil, "hub", "--config", "hub.yaml")
}

func (w *world) startAgent(joinToken string) {
	w.agent = w.start("agent", []string{"REEVE_JOIN_TOKEN=" + joinToken, "WEB_TOKEN=" + upstreamToken}, "agent", "--config", "agent.yaml")
}

// await looks until done answers true, for a minute at most.
func (w *world) await(t *testing.T, what string, done func() (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok && err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within a minute (last error: %v)", what, err)
		case <-tick.C:
		}
	}
}

// call is one call of the REST API; the answer is decoded into into.
func (w *world) call(method, path string, body, into any) (int, error) {
	var r io.Reader
	if text, ok := body.(string); ok {
		r = strings.NewReader(text)
	} else if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return 0, err
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(w.ctx, method, w.api+"/api/v1"+path, r)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, err
	}
	if into != nil {
		if err := json.Unmarshal(data, into); err != nil {
			return resp.StatusCode, fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, data)
		}
	}
	return resp.StatusCode, nil
}

// controlClient is an HTTP client with the control certificate.
func (w *world) controlClient() *http.Client {
	w.t.Helper()
	pair, err := tls.LoadX509KeyPair(w.dir+"/ca/control.pem", w.dir+"/ca/control-key.pem")
	if err != nil {
		w.t.Fatal(err)
	}
	conf := w.trust()
	conf.Certificates = []tls.Certificate{pair}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: conf}, Timeout: 30 * time.Second}
}

// trust is a TLS configuration that trusts the hub.
func (w *world) trust() *tls.Config {
	w.t.Helper()
	pemBytes, err := os.ReadFile(w.dir + "/ca/ca.pem")
	if err != nil {
		w.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pemBytes)
	return &tls.Config{RootCAs: pool}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

const (
	upstreamToken  = "the agent's own, qX7vT2"
	insightsSecret = "not so secret, mK9wB4"
)

// newUpstream is a web service that wants a credential which only the agent
// has, and tells which it got, and which traces its callers are in.
func newUpstream(t *testing.T) (net.Listener, *locked[string]) {
	seen := &locked[string]{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+upstreamToken {
			http.Error(w, "no credential", http.StatusUnauthorized)
			return
		}
		seen.add(r.Header.Get("Traceparent"))
		fmt.Fprintf(w, "%s %s %q", r.Method, r.URL, r.Header["X-Opsmx-Token"])
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l, seen
}

// certificate makes a self-signed certificate for localhost, and a file with
// it.
func certificate(t *testing.T, dir string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e2e sink"}, DNSNames: []string{"localhost", "localhost.e2e"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "sink.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

// locked guards what callbacks of servers write and tests read.
type locked[T any] struct {
	mu   sync.Mutex
	list []T // guarded by mu
}

func (l *locked[T]) add(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, v)
}

func (l *locked[T]) all() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]T(nil), l.list...)
}
