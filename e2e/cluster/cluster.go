// Package cluster starts a real Kubernetes on this machine for tests: etcd,
// kube-apiserver, controller-manager, scheduler, kubelet, containerd and
// runc, all in one temporary folder, all traffic on loopback and in the
// pods' own network namespaces.
//
// The Kubernetes binaries are built from source as tools of the e2e module;
// containerd, runc, the CNI plugins and a static busybox are Debian
// packages. It needs root, because pods do.
package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Cluster is a running Kubernetes of one node. Close ends it.
type Cluster struct {
	// Dir holds everything that the cluster writes; its logs are in Dir/log.
	Dir string
	// Kubeconfig is the path of an administrator's kubeconfig.
	Kubeconfig string
	// Server is the API server's URL.
	Server string

	token    string
	pods     string // the pods' addresses, without the last number
	ports    ports
	bins     map[string]string
	client   *http.Client
	logf     func(string, ...any)
	teardown []func()
}

type ports struct{ etcd, etcdPeer, apiserver, controllers, scheduler, kubelet, kubeletHealth int }

// tools are the binaries that the e2e module builds, by their short names.
var tools = map[string]string{
	"etcd":                    "go.etcd.io/etcd/server/v3",
	"kube-apiserver":          "k8s.io/kubernetes/cmd/kube-apiserver",
	"kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
	"kube-scheduler":          "k8s.io/kubernetes/cmd/kube-scheduler",
	"kubectl":                 "k8s.io/kubernetes/cmd/kubectl",
	"kubelet":                 "k8s.io/kubernetes/cmd/kubelet",
}

// Missing names what this machine lacks to run pods and how to get it; it is
// empty where a cluster can be started.
func Missing() []string {
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root (the kubelet and containerd need it)")
	}
	for name, pkg := range map[string]string{
		"containerd": "containerd", "runc": "runc", "ctr": "containerd",
		"/usr/lib/cni/ptp": "containernetworking-plugins", "iptables": "iptables",
	} {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, fmt.Sprintf("%s (apt-get install %s)", name, pkg))
		}
	}
	if !static("/bin/busybox") {
		missing = append(missing, "a static /bin/busybox (apt-get install busybox-static)")
	}
	slices.Sort(missing)
	return missing
}

// static reports whether path is a program that needs no dynamic loader.
func static(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return !slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// Start builds what isn't built, starts everything below dir and returns
// when the node is ready. On an error everything that was started is ended.
func Start(ctx context.Context, dir string, logf func(string, ...any)) (_ *Cluster, err error) {
	if missing := Missing(); len(missing) > 0 {
		return nil, fmt.Errorf("no Kubernetes here: missing %s", strings.Join(missing, ", "))
	}
	c := &Cluster{Dir: dir, logf: logf, bins: map[string]string{}}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o755); err != nil {
		return nil, err
	}
	lock, err := c.network()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := c.guard(lock); err != nil {
		return nil, err
	}
	c.onClose(func() { unmountBelow(dir) })
	if err := c.build(ctx); err != nil {
		return nil, err
	}
	if err := c.prepare(); err != nil {
		return nil, err
	}
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"etcd", c.startEtcd},
		{"kube-apiserver", c.startAPIServer},
		{"controllers and scheduler", c.startControllers},
		{"containerd", c.startContainerd},
		{"images", c.loadImages},
		{"kubelet", c.startKubelet},
		{"default service account", c.awaitServiceAccount},
	}
	for _, s := range steps {
		begin := time.Now()
		if err := s.run(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		logf("%s up in %s", s.name, time.Since(begin).Round(10*time.Millisecond))
	}
	return c, nil
}

// Close ends the cluster: pods first, so that no shim stays behind, then the
// processes in reverse order. It may be called twice.
func (c *Cluster) Close() {
	for i := len(c.teardown) - 1; i >= 0; i-- {
		c.teardown[i]()
	}
	c.teardown = nil
}

// Bin is the path of one of the binaries that the cluster was built with,
// such as kubectl.
func (c *Cluster) Bin(name string) string { return c.bins[name] }

// Gateway is the address by which pods reach this machine, once there is one.
func (c *Cluster) Gateway() string { return c.pods + "1" }

// Kubectl runs kubectl as the administrator and returns what it wrote.
func (c *Cluster) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.bins["kubectl"], append([]string{"--kubeconfig", c.Kubeconfig}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// Apply creates or updates the objects of a manifest.
func (c *Cluster) Apply(ctx context.Context, manifest string) error {
	_, err := c.Kubectl(ctx, manifest, "apply", "-f", "-")
	return err
}

func (c *Cluster) build(ctx context.Context) error {
	for name, pkg := range tools {
		// go tool -n builds the tool into Go's cache and prints where it is.
		cmd := exec.CommandContext(ctx, "go", "tool", "-n", pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		cmd.Dir = moduleDir()
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("building %s: %w: %s", pkg, err, errs.String())
		}
		c.bins[name] = strings.TrimSpace(string(out))
	}
	return nil
}

// moduleDir is the folder of the e2e module, whose go.mod names the tools:
// the nearest one above the working directory that has a cluster folder.
func moduleDir() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "cluster", "cluster.go")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return "."
		}
		dir = filepath.Dir(dir)
	}
}

func (c *Cluster) prepare() error {
	if err := freePorts(&c.ports.etcd, &c.ports.etcdPeer, &c.ports.apiserver, &c.ports.controllers, &c.ports.scheduler, &c.ports.kubelet, &c.ports.kubeletHealth); err != nil {
		return err
	}
	raw := make([]byte, 16)
	rand.Read(raw)
	c.token = hex.EncodeToString(raw)
	c.Server = fmt.Sprintf("https://127.0.0.1:%d", c.ports.apiserver)
	c.Kubeconfig = filepath.Join(c.Dir, "kubeconfig")

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	pub, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	files := map[string]string{
		"sa.key":     string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"sa.pub":     string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub})),
		"tokens.csv": c.token + `,admin,admin,"system:masters"` + "\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) startEtcd(ctx context.Context) error {
	client := fmt.Sprintf("http://127.0.0.1:%d", c.ports.etcd)
	peer := fmt.Sprintf("http://127.0.0.1:%d", c.ports.etcdPeer)
	err := c.start("etcd", c.bins["etcd"], "--data-dir", filepath.Join(c.Dir, "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	if err != nil {
		return err
	}
	return await(ctx, "etcd", func() error { return get(http.DefaultClient, client+"/health", "") })
}

func (c *Cluster) startAPIServer(ctx context.Context) error {
	certs := filepath.Join(c.Dir, "apiserver")
	err := c.start("kube-apiserver", c.bins["kube-apiserver"],
		"--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1", "--secure-port", fmt.Sprint(c.ports.apiserver),
		"--endpoint-reconciler-type", "none",
		"--cert-dir", certs, "--etcd-servers", fmt.Sprintf("http://127.0.0.1:%d", c.ports.etcd),
		"--token-auth-file", filepath.Join(c.Dir, "tokens.csv"), "--authorization-mode", "RBAC,Node",
		"--allow-privileged", "--service-cluster-ip-range", "10.96.0.0/16",
		"--service-account-issuer", "https://kubernetes.default.svc", "--service-account-key-file", filepath.Join(c.Dir, "sa.pub"),
		"--service-account-signing-key-file", filepath.Join(c.Dir, "sa.key"),
		"--kubelet-preferred-address-types", "InternalIP",
		"--audit-log-path", filepath.Join(c.Dir, "log", "audit.log"), "--audit-policy-file", c.auditPolicy())
	if err != nil {
		return err
	}
	ca := filepath.Join(certs, "apiserver.crt")
	if err := await(ctx, "certificate of kube-apiserver", func() error { _, err := os.Stat(ca); return err }); err != nil {
		return err
	}
	pemBytes, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pemBytes)
	c.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}}, Timeout: 10 * time.Second}
	if err := c.writeKubeconfig(ca); err != nil {
		return err
	}
	return await(ctx, "kube-apiserver", func() error { return get(c.client, c.Server+"/readyz", c.token) })
}

func (c *Cluster) auditPolicy() string {
	path := filepath.Join(c.Dir, "audit.yaml")
	os.WriteFile(path, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n- level: Metadata\n"), 0o600)
	return path
}

func (c *Cluster) writeKubeconfig(ca string) error {
	return os.WriteFile(c.Kubeconfig, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: e2e
  cluster: {server: %q, certificate-authority: %q, tls-server-name: 127.0.0.1}
users:
- name: admin
  user: {token: %s}
contexts:
- name: e2e
  context: {cluster: e2e, user: admin}
current-context: e2e
`, c.Server, ca, c.token), 0o600)
}

func (c *Cluster) startControllers(context.Context) error {
	err := c.start("kube-controller-manager", c.bins["kube-controller-manager"],
		"--kubeconfig", c.Kubeconfig, "--bind-address", "127.0.0.1", "--secure-port", fmt.Sprint(c.ports.controllers),
		"--cert-dir", filepath.Join(c.Dir, "controllers"), "--use-service-account-credentials",
		"--service-account-private-key-file", filepath.Join(c.Dir, "sa.key"),
		"--root-ca-file", filepath.Join(c.Dir, "apiserver", "apiserver.crt"), "--leader-elect=false")
	if err != nil {
		return err
	}
	return c.start("kube-scheduler", c.bins["kube-scheduler"], "--kubeconfig", c.Kubeconfig, "--leader-elect=false",
		"--bind-address", "127.0.0.1", "--secure-port", fmt.Sprint(c.ports.scheduler), "--cert-dir", filepath.Join(c.Dir, "scheduler"))
}

func (c *Cluster) startContainerd(ctx context.Context) error {
	cni := filepath.Join(c.Dir, "cni")
	if err := os.MkdirAll(cni, 0o755); err != nil {
		return err
	}
	conflist := `{"cniVersion": "0.4.0", "name": "e2e", "plugins": [{"type": "ptp", "ipMasq": false,
 "ipam": {"type": "host-local", "dataDir": "` + filepath.Join(c.Dir, "cni-state") + `", "ranges": [[{"subnet": "` + c.pods + `0/24"}]]}}]}`
	if err := os.WriteFile(filepath.Join(cni, "10-e2e.conflist"), []byte(conflist), 0o600); err != nil {
		return err
	}
	config := filepath.Join(c.Dir, "containerd.toml")
	text := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = %q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "reeve.test/pause:1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = %q
`, filepath.Join(c.Dir, "containerd"), filepath.Join(c.Dir, "containerd-state"), c.socket(), cni)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	if err := c.start("containerd", "containerd", "--config", config); err != nil {
		return err
	}
	return await(ctx, "containerd", func() error { return c.ctr("version") })
}

func (c *Cluster) socket() string { return filepath.Join(c.Dir, "containerd.sock") }

func (c *Cluster) ctr(args ...string) error {
	out, err := exec.Command("ctr", append([]string{"--address", c.socket(), "-n", "k8s.io"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ctr %s: %w: %s", args[0], err, bytes.TrimSpace(out))
	}
	return nil
}

func (c *Cluster) startKubelet(ctx context.Context) error {
	config := filepath.Join(c.Dir, "kubelet.yaml")
	root := filepath.Join(c.Dir, "kubelet")
	text := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: %d
healthzPort: %d
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
resolvConf: ""
localStorageCapacityIsolation: false
containerRuntimeEndpoint: unix://%s
podLogsDir: %s
evictionHard: {memory.available: "0%%", nodefs.available: "0%%", imagefs.available: "0%%", nodefs.inodesFree: "0%%"}
imageGCHighThresholdPercent: 100
`, c.ports.kubelet, c.ports.kubeletHealth, c.socket(), filepath.Join(c.Dir, "pod-logs"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	err := c.start("kubelet", c.bins["kubelet"], "--config", config, "--kubeconfig", c.Kubeconfig,
		"--cloud-provider", "external", "--hostname-override", "node1", "--root-dir", root, "--cert-dir", filepath.Join(root, "pki"))
	if err != nil {
		return err
	}
	c.onClose(c.deletePods)
	if err := await(ctx, "node1", func() error { return get(c.client, c.Server+"/api/v1/nodes/node1", c.token) }); err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "", "patch", "node", "node1", "--subresource=status", "--type=merge",
		"-p", `{"status":{"addresses":[{"type":"InternalIP","address":"127.0.0.1"}]}}`); err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "", "taint", "node", "node1", "node.cloudprovider.kubernetes.io/uninitialized-"); err != nil {
		return err
	}
	_, err = c.Kubectl(ctx, "", "wait", "--for=condition=Ready", "node/node1", "--timeout=90s")
	return err
}

func (c *Cluster) awaitServiceAccount(ctx context.Context) error {
	return await(ctx, "service account default", func() error {
		return get(c.client, c.Server+"/api/v1/namespaces/default/serviceaccounts/default", c.token)
	})
}

func (c *Cluster) deletePods() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := c.Kubectl(ctx, "", "delete", "deployments,statefulsets,daemonsets,jobs", "--all", "-A", "--ignore-not-found"); err != nil {
		c.logf("deleting workloads: %v", err)
	}
	if _, err := c.Kubectl(ctx, "", "delete", "pods", "--all", "-A", "--grace-period=1", "--timeout=40s"); err != nil {
		c.logf("deleting pods: %v", err)
	}
}

// guarding waits for a line. If there comes none, because who has to write it
// was killed, it ends whatever names the folder $1 in its arguments and, for the
// shims, the containers below them, unmounts what is there, and takes away the
// pods' networks, whose gateway is $2.
const guarding = `read -r closed && exit
for _ in 1 2 3; do # one may have started another meanwhile
  for p in /proc/[0-9]*; do
    pid=${p#/proc/}
    [ "$pid" != $$ ] && tr '\0' ' ' <"$p/cmdline" | grep -qF -- "$1/" || continue
    kill -KILL $(cat "$p"/task/*/children) "$pid"
  done
done 2>/dev/null
awk '{print $2}' /proc/self/mounts | grep -F -- "$1/" | sort -r | xargs -r umount -l
for link in $(ip -o -4 address show to "$2" | awk '{print $2}'); do
  netns=$(ip -o link show "$link" | sed -n 's/.*link-netns \([^ ]*\).*/\1/p')
  ip link delete "$link"
  [ -z "$netns" ] || ip netns delete "$netns"
done
`

// guard sees to it that the cluster ends with this process, even when that is
// killed, or panics, and no Close comes. It holds the lock until then.
func (c *Cluster) guard(lock *os.File) error {
	cmd := exec.Command("sh", "-c", guarding, "guard", c.Dir, c.Gateway())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what ends the tests doesn't end it
	cmd.ExtraFiles = []*os.File{lock}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.onClose(func() {
		io.WriteString(stdin, "closed\n")
		cmd.Wait()
	})
	return nil
}

// network chooses the pods' addresses: those that no other cluster of this
// machine has, as long as its lock is held.
func (c *Cluster) network() (lock *os.File, err error) {
	for n := range 256 {
		lock, err := os.OpenFile(fmt.Sprintf("%s/reeve-e2e-network-%d.lock", os.TempDir(), n), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			lock.Close()
			continue
		}
		c.pods = fmt.Sprintf("10.244.%d.", n)
		return lock, nil
	}
	return nil, errors.New("each network of 10.244.0.0/16 is another cluster's")
}

// start runs one of the cluster's processes, its output in Dir/log, and
// registers its end.
func (c *Cluster) start(name, bin string, args ...string) error {
	log, err := os.Create(filepath.Join(c.Dir, "log", name+".log"))
	if err != nil {
		return err
	}
	cmd := exec.Command(bin, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		log.Close()
		return err
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		log.Close()
		close(exited)
	}()
	c.onClose(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
			<-exited
		}
	})
	return nil
}

func (c *Cluster) onClose(f func()) { c.teardown = append(c.teardown, f) }

// await tries until probe succeeds, for a minute at most.
func await(ctx context.Context, what string, probe func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("not ready within a minute"))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := probe()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (last: %w)", what, context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func get(client *http.Client, url, token string) error {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return nil
}

// freePorts chooses ports that nobody listens on, each another one, and below
// those that the kernel gives: what starts before they are bound takes none.
func freePorts(ports ...*int) error {
	for _, port := range ports {
		var l net.Listener
		err := errors.New("none was tried")
		for range 100 {
			*port = 20000 + mathrand.IntN(12000)
			if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", *port)); err == nil {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("a free port: %w", err)
		}
		defer l.Close() // until all are chosen
	}
	return nil
}

// unmountBelow unmounts what kubelet and containerd left mounted below dir,
// deepest first.
func unmountBelow(dir string) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return
	}
	var points []string
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			points = append(points, f[1])
		}
	}
	slices.Sort(points)
	for _, p := range slices.Backward(points) {
		syscall.Unmount(p, syscall.MNT_DETACH)
	}
}

// JSON decodes what kubectl -o json says of an object into out.
func (c *Cluster) JSON(ctx context.Context, out any, args ...string) error {
	text, err := c.Kubectl(ctx, "", append(args, "-o", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), out)
}
