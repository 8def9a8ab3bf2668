package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	"github.com/clipperhouse/displaywidth"
	"github.com/package-url/packageurl-go"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/alert/rpc"
	"reeve.dev/reeve/api"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/internal/telemetry"
	"reeve.dev/reeve/internal/version"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/scan/kube"
)

// demoTimeout bounds the demo's job; what it waits for takes milliseconds,
// but a large root file system takes its time.
const demoTimeout = 2 * time.Minute

const (
	demoAgent   = "demo"
	demoProfile = "container-baseline"
	demoProject = "reeve-demo"
)

func newDemo() *cobra.Command {
	d := &demo{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See Reeve do its job on this machine",
		Long: `Starts a hub, an agent and an alert sink on this machine, with real TLS and a
real link between them; forwards a call, scans this machine's own root file
system (it only reads), stores an SBOM and facts, delivers the outcome and
shows it all. It needs no root, no cluster and no network beyond loopback.`,
		Example: "  reeve demo\n  reeve demo --exit --data ./demo\n  reeve demo --target k8s-container://default/web-app/web",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.out = cmd.OutOrStdout()
			return d.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&d.exit, "exit", false, "end after the job instead of staying up")
	flags.StringVar(&d.dir, "data", "", "`folder` to keep the state in; a temporary one that is removed if left out")
	flags.StringVar(&d.target, "target", "dir:/", "`target` of the scan")
	flags.StringVar(&d.threshold, "threshold", "moderate", "`name` of the threshold")
	flags.BoolVar(&d.verbose, "verbose", false, "show what hub and agent log")
	return cmd
}

// demo is one run of the demo. Its steps are in the order of do.
type demo struct {
	exit, verbose          bool
	dir, target, threshold string
	out                    io.Writer

	hub    *hub.Hub
	agent  *agent.Agent
	client *client
	hello  net.Listener
	secret []byte
	alerts chan rpc.Received
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "reeve-demo-"); err != nil {
			return err
		}
		defer os.RemoveAll(d.dir)
	}
	begin := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if err := d.start(ctx, group); err != nil {
		stop()
		return errors.Join(err, group.Wait())
	}
	group.Go(func() error {
		if err := d.do(ctx, begin); err != nil {
			return err
		}
		if d.exit {
			stop()
		}
		return nil
	})
	return group.Wait()
}

// start brings sink, hub and agent up, each as a group of its own processes
// would: joined by certificates and sockets only.
func (d *demo) start(ctx context.Context, group *errgroup.Group) error {
	caDir := filepath.Join(d.dir, "ca")
	ca, err := pki.LoadCA(caDir)
	if errors.Is(err, fs.ErrNotExist) {
		ca, err = pki.Init(caDir, "demo")
	}
	if err != nil {
		return err
	}
	logger := slog.New(slog.DiscardHandler)
	if d.verbose {
		logger = telemetry.Logger(d.out, slog.LevelInfo, "text")
	}

	sink, err := d.startSink(ctx, group, ca)
	if err != nil {
		return err
	}
	cfg := hub.Defaults()
	cfg.DataDir, cfg.CADir = filepath.Join(d.dir, "hub"), caDir
	cfg.Listen = hub.ListenConfig{API: "127.0.0.1:0", Services: "127.0.0.1:0", Metrics: "127.0.0.1:0"}
	cfg.Sinks = []hub.SinkConfig{{Name: "demo", Type: "rpc", Endpoint: sink, CAFile: filepath.Join(caDir, "ca.pem")}}
	if d.hub, err = hub.New(cfg, version.Text(), logger.With("process", "hub")); err != nil {
		return err
	}
	group.Go(func() error { return d.hub.Run(ctx) })
	flags := hubFlags{url: d.hub.URL(), ca: filepath.Join(caDir, "ca.pem"), cert: filepath.Join(caDir, "control.pem"), key: filepath.Join(caDir, "control-key.pem")}
	if d.client, err = flags.client(); err != nil {
		return err
	}
	// A hub that stops gives callers that are still connected a second to go.
	group.Go(func() error { <-ctx.Done(); d.client.http.CloseIdleConnections(); return nil })
	if err := d.startHello(ctx, group); err != nil {
		return err
	}
	if err := d.configureAgent(ctx, logger.With("process", "agent")); err != nil {
		return err
	}
	group.Go(func() error { return d.agent.Run(ctx) })
	return nil
}

// startSink runs an alert sink as any program that speaks AlertSink would be,
// and answers its address.
func (d *demo) startSink(ctx context.Context, group *errgroup.Group, ca *pki.CA) (string, error) {
	conf, err := ca.ServerTLS(nil)
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	d.alerts = make(chan rpc.Received, 64)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(conf)))
	rpc.Register(server, func(ctx context.Context, a rpc.Received) error {
		select {
		case d.alerts <- a:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	group.Go(func() error { return server.Serve(l) })
	group.Go(func() error { <-ctx.Done(); server.Stop(); return nil })
	return "localhost:" + port(l.Addr()), nil
}

// startHello runs the service behind the firewall that a call is forwarded to.
func (d *demo) startHello(ctx context.Context, group *errgroup.Group) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	d.hello = l
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello from behind the firewall, you asked for %s\n", r.URL.Path)
	})}
	group.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go(func() error { <-ctx.Done(); return server.Close() })
	return nil
}

func (d *demo) configureAgent(ctx context.Context, logger *slog.Logger) error {
	d.secret = []byte(rand.Text())
	secretFile := filepath.Join(d.dir, "insights-secret")
	if err := os.WriteFile(secretFile, d.secret, 0o600); err != nil {
		return err
	}
	cfg := agent.Defaults()
	cfg.Hub.URL = d.hub.URL()
	cfg.DataDir = filepath.Join(d.dir, "agent")
	cfg.Annotations = map[string]string{"description": "the demo's own machine"}
	cfg.Services = []forward.Upstream{{Type: "x-hello", Name: "hello", URL: "http://" + d.hello.Addr().String(), Annotations: map[string]string{"description": "a service that only the agent reaches"}}}
	cfg.Metrics = "127.0.0.1:0"
	cfg.Insights = agent.InsightConfig{Listen: "127.0.0.1:0", TokenSecretFile: secretFile}
	kind, _, _ := strings.Cut(d.target, ":")
	cfg.Scan.Targets = []string{kind}
	if _, err := pki.Load(filepath.Join(cfg.DataDir, "identity")); err != nil {
		var made struct{ Token string }
		if err := d.call(ctx, http.MethodPost, "/tokens", map[string]string{"kind": "join", "agent": demoAgent}, &made); err != nil {
			return err
		}
		cfg.Hub.JoinTokenFile = filepath.Join(d.dir, "join-token")
		if err := os.WriteFile(cfg.Hub.JoinTokenFile, []byte(made.Token), 0o600); err != nil {
			return err
		}
	}
	var err error
	d.agent, err = agent.New(cfg, version.Text(), logger)
	return err
}

// do is the demo's job, step by step.
func (d *demo) do(ctx context.Context, begin time.Time) error {
	ctx, cancel := context.WithTimeoutCause(ctx, demoTimeout, fmt.Errorf("not done within %v", demoTimeout))
	defer cancel()
	fmt.Fprintf(d.out, "Reeve demo: a hub, an agent and an alert sink on this machine\n\n")
	d.say("hub", "%s, services on port %s", d.hub.URL(), port(d.hub.Addrs().Services))
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{{"join", d.join}, {"forward", d.forward}, {"collect", d.collect}, {"scan and tell", d.scan}} {
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	fmt.Fprintf(d.out, "\nDone in %.1f s; hub, agent and sink together hold %s in memory.\n", time.Since(begin).Seconds(), resident())
	if d.exit {
		return nil
	}
	var link struct{ URL string }
	if err := d.call(ctx, http.MethodPost, "/login-links", map[string]string{"name": "demo", "role": "admin"}, &link); err != nil {
		return err
	}
	env, err := d.writeEnv()
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, `
Web page    %s
Log in once %s
Try         . %s && %s get scans     (in another terminal)

The browser will warn: the demo's authority is its own. Ctrl-C ends the demo.
`, d.hub.URL(), link.URL, env, invocation())
	return nil
}

// writeEnv makes a file that a shell reads to talk to the demo's hub.
func (d *demo) writeEnv() (path string, err error) {
	dir, err := filepath.Abs(d.dir)
	if err != nil {
		return "", err
	}
	ca := filepath.Join(dir, "ca")
	text := fmt.Sprintf("export REEVE_HUB=%s\nexport REEVE_CA='%s'\nexport REEVE_CERT='%s'\nexport REEVE_KEY='%s'\n",
		d.hub.URL(), filepath.Join(ca, "ca.pem"), filepath.Join(ca, "control.pem"), filepath.Join(ca, "control-key.pem"))
	path = filepath.Join(dir, "env")
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// invocation is how this program can be called again: `go run` removes what
// it built.
func invocation() string {
	if self, err := os.Executable(); err != nil || strings.Contains(self, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/reeve"
	}
	return os.Args[0]
}

// join waits until the hub sees the agent.
func (d *demo) join(ctx context.Context) error {
	var agents struct{ Items []api.Agent }
	err := d.until(ctx, func() (bool, error) {
		err := d.call(ctx, http.MethodGet, "/agents", nil, &agents)
		return len(agents.Items) == 1 && agents.Items[0].Connected, err
	})
	if err != nil {
		return err
	}
	a := agents.Items[0]
	d.say("agent", "%q joined and offers %s; its key never left it", a.Name, count(len(a.Services), "service"))
	return nil
}

// forward calls the service behind the agent as somebody outside would.
func (d *demo) forward(ctx context.Context) error {
	var cred struct{ URL, Token string }
	request := map[string]string{"agent": demoAgent, "type": "x-hello", "name": "hello", "kind": "token", "expiresIn": "1h"}
	if err := d.call(ctx, http.MethodPost, "/credentials/service", request, &cred); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, cred.URL+"/status", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+cred.Token)
	pool := d.hub.CA().Pool()
	outsider := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}}}
	defer outsider.CloseIdleConnections()
	resp, err := outsider.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte("/status")) {
		return fmt.Errorf("x-hello/hello answered %s: %s", resp.Status, body)
	}
	d.say("forward", "GET /status at x-hello/hello through hub and agent: %s", bytes.TrimSpace(body))
	return nil
}

// collect hands facts and an SBOM to the agent, as a workload does, and waits
// until the hub has them.
func (d *demo) collect(ctx context.Context) error {
	token, err := lagoon.NewToken(d.secret, lagoon.Namespace{Name: "demo", EnvironmentID: "1", ProjectName: demoProject, EnvironmentName: "demo"}, time.Time{})
	if err != nil {
		return err
	}
	facts, err := json.Marshal(machineFacts())
	if err != nil {
		return err
	}
	bom, components, err := ownSBOM()
	if err != nil {
		return err
	}
	for path, body := range map[string][]byte{"/facts": facts, "/sboms?service=reeve": bom} {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.agent.IngestAddr().String()+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("POST %s at the agent: %s: %s", path, resp.Status, text)
		}
	}
	var stored struct{ Items []api.Fact }
	var sboms struct{ Items []api.Document }
	err = d.until(ctx, func() (bool, error) {
		err := errors.Join(
			d.call(ctx, http.MethodGet, "/insights/facts?project="+demoProject, nil, &stored),
			d.call(ctx, http.MethodGet, "/insights/sboms?project="+demoProject, nil, &sboms))
		return len(stored.Items) > 0 && len(sboms.Items) > 0, err
	})
	if err != nil {
		return err
	}
	if got := int(sboms.Items[0].Components); got != components {
		return fmt.Errorf("the hub has %d components of the SBOM's %d", got, components)
	}
	d.say("collect", "%s of an SBOM (this program's own) and %s stored, by the agent's spool", count(components, "component"), count(len(stored.Items), "fact"))
	return nil
}

// scan asks for a scan as the scanner's clients do, follows it, and checks
// what the sink was told.
func (d *demo) scan(ctx context.Context) error {
	target := map[string]string{"agent": demoAgent, "uri": d.target}
	if strings.HasPrefix(d.target, scan.KindContainer+":") {
		namespace, pod, container, err := kube.ParseURI(d.target)
		if err != nil {
			return err
		}
		target = map[string]string{"agent": demoAgent, "namespace": namespace, "pod": pod, "container": container}
	}
	var s api.Scan
	request := map[string]any{"target": target, "scan": map[string]string{"profile": demoProfile, "threshold": d.threshold}}
	if err := d.call(ctx, http.MethodPost, "/scans", request, &s); err != nil {
		return err
	}
	if err := d.follow(ctx, &s); err != nil {
		return err
	}
	if s.Status != scan.Completed {
		return fmt.Errorf("scan of %s: %s: %s", d.target, s.Status, s.Reason)
	}
	results := hdf.Results{}
	if err := d.call(ctx, http.MethodGet, "/scans/"+string(s.ID)+"/results", nil, &results); err != nil {
		return err
	}
	n := results.Counts()
	d.say("scan", "%s against %s: %s", d.target, demoProfile, count(total(n), "control"))
	for _, p := range results.Profiles {
		for _, c := range p.Controls {
			id := fmt.Sprintf("%-11s ", printable(c.ID))
			fmt.Fprintf(d.out, "%*s%s %s%s\n", demoColumn, "", d.paint(c.Status), id, d.fit(printable(c.Title), demoColumn+9+displaywidth.String(id)))
		}
	}
	d.say("outcome", "%s by threshold %s: %d passed, %d failed, %d skipped, %d errors", s.Outcome, d.threshold, n.Passed, n.Failed, n.Skipped, n.Error)
	for _, f := range s.Findings {
		fmt.Fprintf(d.out, "%*s%s\n", demoColumn, "", d.fit(printable(f), demoColumn))
	}
	return d.tell(ctx, s)
}

// tell checks that the sink was told this scan's outcome, and that the hub
// knows that it was.
func (d *demo) tell(ctx context.Context, s api.Scan) error {
	var got rpc.Received
	select {
	case got = <-d.alerts:
	case <-ctx.Done():
		return fmt.Errorf("no alert reached the sink: %w", context.Cause(ctx))
	}
	o := got.Outcome
	if want := demoProfile + "/" + d.threshold; o.Policy != want || o.Pass != (s.Outcome == scan.Passed) || o.Details == "" {
		return fmt.Errorf("the sink was told %+v of a scan that %s", o, s.Outcome)
	}
	var alerts struct{ Items []api.Alert }
	err := d.until(ctx, func() (bool, error) {
		err := d.call(ctx, http.MethodGet, "/alerts?run="+string(s.ID), nil, &alerts)
		return len(alerts.Items) == 1 && alerts.Items[0].State == "delivered", err
	})
	if err != nil {
		return err
	}
	d.say("tell", "the sink was told by gRPC: %s %s, policy %s, pass=%v (seq %d); checked there", o.Subject.Owner, o.Subject.Repo, o.Policy, o.Pass, got.Seq)
	return nil
}

// follow reads a scan's events until it is done, and leaves its last state in s.
func (d *demo) follow(ctx context.Context, s *api.Scan) error {
	resp, err := d.client.send(ctx, http.MethodGet, "/scans/"+string(s.ID)+"/events", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	bar := newProgress(d.out)
	defer bar.clear()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if err := json.Unmarshal([]byte(data), s); err != nil {
			return err
		}
		bar.show(s.Progress.Done, s.Progress.Total, s.Progress.Control)
	}
	if lines.Err() == nil && !s.Status.Final() {
		return io.ErrUnexpectedEOF
	}
	return lines.Err()
}

// call is one call of the hub's API, its answer decoded into into.
func (d *demo) call(ctx context.Context, method, path string, body, into any) error {
	data, err := d.client.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// until asks again, every few milliseconds, until done answers true.
func (d *demo) until(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (d *demo) say(what, format string, args ...any) {
	mark := "✔"
	if colour(d.out) {
		mark = "\x1b[32m✔\x1b[0m"
	}
	fmt.Fprintf(d.out, "  %s %-9s  %s\n", mark, what, d.fit(fmt.Sprintf(format, args...), demoColumn))
}

// demoColumn is where what a step says begins.
const demoColumn = 15

// fit breaks a text that begins at a column between words, if it is for a screen.
func (d *demo) fit(text string, column int) string {
	width := screenWidth(d.out)
	if width == 0 {
		return text
	}
	return strings.Join(fill(strings.Fields(text), column, width), "\n"+strings.Repeat(" ", column))
}

func (d *demo) paint(s hdf.Status) string {
	codes := map[hdf.Status]string{hdf.Passed: "32", hdf.Failed: "31", hdf.Error: "35", hdf.Skipped: "33"}
	text := fmt.Sprintf("%-8s", s)
	if !colour(d.out) {
		return text
	}
	return "\x1b[" + codes[s] + "m" + text + "\x1b[0m"
}

// machineFacts are facts of this machine.
func machineFacts() []lagoon.Fact {
	const source = "reeve-demo"
	var facts []lagoon.Fact
	add := func(name, value, description string) {
		if value != "" {
			facts = append(facts, lagoon.Fact{Name: name, Value: value, Source: source, Description: description, Category: "Platform"})
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	release, _ := os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(release)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			add("operating-system", strings.Trim(name, `"`), "the operating system's own name")
		}
	}
	add("kernel", strings.TrimSpace(string(kernel)), "the running kernel")
	add("reeve", version.Text(), "the version of Reeve")
	return facts
}

// ownSBOM is a CycloneDX document of the modules that this program was built
// from, and how many there are.
func ownSBOM() (document []byte, components int, err error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil, 0, errors.New("this program was built without module information")
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Component: &cyclonedx.Component{Type: cyclonedx.ComponentTypeApplication, Name: info.Main.Path, Version: info.Main.Version}}
	list := []cyclonedx.Component{}
	for _, m := range info.Deps {
		namespace, name := path.Split(m.Path)
		list = append(list, cyclonedx.Component{
			BOMRef: m.Path, Type: cyclonedx.ComponentTypeLibrary, Name: m.Path, Version: m.Version,
			PackageURL: packageurl.NewPackageURL(packageurl.TypeGolang, strings.TrimSuffix(namespace, "/"), name, m.Version, nil, "").ToString(),
		})
	}
	bom.Components = &list
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if err := cyclonedx.NewBOMEncoder(w, cyclonedx.BOMFileFormatJSON).Encode(bom); err != nil {
		return nil, 0, err
	}
	if err := w.Close(); err != nil {
		return nil, 0, err
	}
	return buf.Bytes(), len(list), nil
}

// resident is this process's memory in people's words.
func resident() string {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return fmt.Sprintf("%d MB", kib/1024)
		}
	}
	return "an unknown amount"
}

func port(a net.Addr) string {
	_, p, _ := net.SplitHostPort(a.String())
	return p
}
