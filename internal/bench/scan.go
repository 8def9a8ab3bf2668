package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/profiles"
)

const benchProfile = "container-baseline"

// jobs is how many scans run at once, by the agent and in the floor.
const jobs = 2

// scanning measures whole scans, from the request by REST to the stored
// result, beside the engine alone on the same root file system.
func scanning(ctx context.Context, opt options, report *Report) error {
	d, err := newDeployment(ctx)
	if err != nil {
		return err
	}
	defer d.close()
	root, err := smallRoot(d.dir)
	if err != nil {
		return err
	}
	if err := d.runAgent(ctx, "bench"); err != nil {
		return err
	}
	var whole, alone []float64
	for range opt.rounds {
		n, err := repeat(ctx, opt.each, func() error {
			_, err := engineAlone(ctx, root)
			return err
		})
		if err != nil {
			return fmt.Errorf("engine: %w", err)
		}
		alone = append(alone, n)
		if n, err = repeat(ctx, opt.each, func() error { return d.scan(ctx, "bench", root) }); err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		whole = append(whole, n)
	}
	report.Add(Row{Name: "scans of a small root by " + benchProfile + ", REST to stored result", Value: median(whole), Unit: "/s", Peer: "engine alone", PeerValue: median(alone), More: true})
	return nil
}

// starting measures an agent's process, from its start to its registration at
// the hub, beside the same binary doing nothing, and its memory then, beside
// an agent that finds no hub.
func starting(ctx context.Context, opt options, report *Report) error {
	d, err := newDeployment(ctx)
	if err != nil {
		return err
	}
	defer d.close()
	bin := filepath.Join(d.dir, "reeve")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", bin, "reeve.dev/reeve/cmd/reeve").CombinedOutput(); err != nil {
		return fmt.Errorf("build reeve: %w: %s", err, out)
	}
	var up, memory, nothing, nothingMemory []float64
	for i := range opt.rounds {
		begin := time.Now()
		idle := exec.CommandContext(ctx, bin, "version")
		if err := idle.Run(); err != nil {
			return err
		}
		nothing = append(nothing, time.Since(begin).Seconds()*1000)
		alone, err := d.lonelyAgent(ctx, bin, fmt.Sprintf("lonely-%d", i))
		if err != nil {
			return err
		}
		nothingMemory = append(nothingMemory, alone)
		took, mib, err := d.startAgent(ctx, bin, fmt.Sprintf("start-%d", i))
		if err != nil {
			return err
		}
		up, memory = append(up, took.Seconds()*1000), append(memory, mib)
	}
	report.Add(
		Row{Name: "agent: process start to registered, first join included", Value: median(up), Unit: "ms", Peer: "`reeve version`", PeerValue: median(nothing)},
		Row{Name: "agent: memory when registered", Value: median(memory), Unit: "MiB", Peer: "an agent without a hub", PeerValue: median(nothingMemory)},
	)
	return nil
}

// deployment is a hub in this process.
type deployment struct {
	dir    string
	hub    *hub.Hub
	client *http.Client
	ctx    context.Context // ends with the deployment
	stop   context.CancelFunc
	done   sync.WaitGroup
}

func newDeployment(ctx context.Context) (*deployment, error) {
	dir, err := os.MkdirTemp("", "reeve-bench-")
	if err != nil {
		return nil, err
	}
	d := &deployment{dir: dir}
	ca, err := pki.Init(filepath.Join(dir, "ca"), "bench")
	if err != nil {
		return nil, err
	}
	cfg := hub.Defaults()
	cfg.DataDir, cfg.CADir = filepath.Join(dir, "hub"), filepath.Join(dir, "ca")
	cfg.Listen = hub.ListenConfig{API: "127.0.0.1:0", Services: "127.0.0.1:0", Metrics: "127.0.0.1:0"}
	if d.hub, err = hub.New(cfg, "bench", slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca", "control.pem"), filepath.Join(dir, "ca", "control-key.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.CertPEM())
	d.client = &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{pair}}}}
	d.ctx, d.stop = context.WithCancel(ctx)
	d.done.Go(func() { d.hub.Run(d.ctx) })
	return d, nil
}

func (d *deployment) close() {
	d.client.CloseIdleConnections()
	d.stop()
	d.done.Wait()
	os.RemoveAll(d.dir)
}

// call is one call of the API.
func (d *deployment) call(ctx context.Context, method, path string, body, into any) error {
	var r io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, d.hub.URL()+"/api/v1"+path, r)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s: %w", method, path, resp.Status, data, err)
	}
	return json.Unmarshal(data, into)
}

func (d *deployment) joinToken(ctx context.Context, name string) (string, error) {
	var made struct{ Token string }
	err := d.call(ctx, http.MethodPost, "/tokens", map[string]string{"kind": "join", "agent": name}, &made)
	return made.Token, err
}

// connected waits until the hub has a link of the agent.
func (d *deployment) connected(ctx context.Context, name string) error {
	return await(ctx, func() (bool, error) {
		var page struct {
			Items []struct {
				Name      fleet.AgentName
				Connected bool
			}
		}
		err := d.call(ctx, http.MethodGet, "/agents", nil, &page)
		for _, a := range page.Items {
			if string(a.Name) == name && a.Connected {
				return true, err
			}
		}
		return false, err
	})
}

// runAgent runs an agent in this process.
func (d *deployment) runAgent(ctx context.Context, name string) error {
	token, err := d.joinToken(ctx, name)
	if err != nil {
		return err
	}
	cfg := agent.Defaults()
	cfg.Hub.URL, cfg.DataDir, cfg.Metrics = d.hub.URL(), filepath.Join(d.dir, name), ""
	cfg.Hub.JoinTokenFile = filepath.Join(d.dir, name+"-token")
	cfg.Scan.Targets, cfg.Scan.Jobs = []string{"dir"}, jobs
	if err := os.WriteFile(cfg.Hub.JoinTokenFile, []byte(token), 0o600); err != nil {
		return err
	}
	a, err := agent.New(cfg, "bench", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	d.done.Go(func() { a.Run(d.ctx) })
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return d.connected(ctx, name)
}

// scan asks for one scan and waits for its result.
func (d *deployment) scan(ctx context.Context, agent, root string) error {
	var s struct{ ID, Status, Reason string }
	body := map[string]any{"target": map[string]string{"agent": agent, "uri": "dir:" + root}, "scan": map[string]string{"profile": benchProfile}}
	if err := d.call(ctx, http.MethodPost, "/scans", body, &s); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.hub.URL()+"/api/v1/scans/"+s.ID+"/events", nil)
	if err != nil {
		return err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// The stream of events ends with the scan.
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	err = d.call(ctx, http.MethodGet, "/scans/"+s.ID, nil, &s)
	if err == nil && s.Status != "completed" {
		err = fmt.Errorf("scan %s: %s", s.Status, s.Reason)
	}
	return err
}

// startAgent runs an agent as a process of its own, and answers how long it
// took to register and how many MiB it holds then.
func (d *deployment) startAgent(ctx context.Context, bin, name string) (time.Duration, float64, error) {
	token, err := d.joinToken(ctx, name)
	if err != nil {
		return 0, 0, err
	}
	cmd := exec.CommandContext(ctx, bin, "agent")
	cmd.Env = append(os.Environ(), "REEVE_JOIN_TOKEN="+token, "REEVE_AGENT_HUB_URL="+d.hub.URL(), "REEVE_AGENT_DATA_DIR="+filepath.Join(d.dir, name), "REEVE_AGENT_METRICS=")
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	defer cmd.Wait()
	defer cmd.Process.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := d.connected(ctx, name); err != nil {
		return 0, 0, err
	}
	took := time.Since(begin)
	mib, err := resident(cmd.Process.Pid)
	return took, mib, err
}

// lonelyAgent runs an agent that can't reach its hub, and answers how many MiB
// it holds when it has said so.
func (d *deployment) lonelyAgent(ctx context.Context, bin, name string) (float64, error) {
	token, err := d.joinToken(ctx, name)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, bin, "agent")
	cmd.Env = append(os.Environ(), "REEVE_JOIN_TOKEN="+token, "REEVE_AGENT_HUB_URL=https://127.0.0.1:1", "REEVE_AGENT_DATA_DIR="+filepath.Join(d.dir, name), "REEVE_AGENT_METRICS=")
	log, err := cmd.StderrPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer cmd.Wait()
	defer cmd.Process.Signal(syscall.SIGTERM)
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if strings.Contains(lines.Text(), "can't join") {
			return resident(cmd.Process.Pid)
		}
	}
	return 0, errors.New("an agent without a hub ended by itself")
}

// resident is a process's memory in MiB.
func resident(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kib); n == 1 {
			return kib / 1024, nil
		}
	}
	return 0, errors.New("/proc doesn't tell a process's memory")
}

// engineAlone is one scan with nothing around it.
func engineAlone(ctx context.Context, root string) (*hdf.Results, error) {
	files, err := fs.Sub(profiles.FS, benchProfile)
	if err != nil {
		return nil, err
	}
	p, err := inspec.LoadFS(files)
	if err != nil {
		return nil, err
	}
	t, err := target.Open(ctx, "dir:"+root)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	return inspec.Run(ctx, p, t, inspec.Options{})
}

// smallRoot makes a root file system of a few hundred files.
func smallRoot(dir string) (string, error) {
	root := filepath.Join(dir, "root")
	files := map[string]string{
		"etc/passwd":     "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n",
		"etc/group":      "root:x:0:\nweb:x:1000:\n",
		"etc/shadow":     "root:*:19000:0:99999:7:::\n",
		"etc/os-release": "ID=debian\nVERSION_ID=\"12\"\n",
		"root/.profile":  "", "home/web/.profile": "", "tmp/.keep": "",
	}
	for i := range 300 {
		files[fmt.Sprintf("usr/bin/tool-%d", i)] = "#!/bin/sh\n"
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return root, nil
}

// repeat does work by jobs goroutines for a while and answers how often a
// second.
func repeat(ctx context.Context, each time.Duration, work func() error) (float64, error) {
	begin := time.Now()
	counts, errs := make([]int, jobs), make([]error, jobs)
	var all sync.WaitGroup
	for i := range jobs {
		all.Go(func() {
			for time.Since(begin) < each && ctx.Err() == nil && errs[i] == nil {
				errs[i] = work()
				counts[i]++
			}
		})
	}
	all.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / time.Since(begin).Seconds(), errors.Join(append(errs, ctx.Err())...)
}

// await looks every millisecond until done answers true.
func await(ctx context.Context, done func() (bool, error)) error {
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
