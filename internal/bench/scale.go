package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	_ "net/http/pprof" // for REEVE_BENCH_PPROF
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/internal/memory"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
	scanlink "reeve.dev/reeve/scan/link"
	"reeve.dev/reeve/tunnel"
)

// scaling joins many idle agents to one hub, which is a process of its own,
// and kills that hub. The agents are in this process and of real agents they
// have the link: its carriers, the registration and the wait for scans.
func scaling(ctx context.Context, opt options, report *Report) error {
	need := uint64(opt.agents*opt.links + 1000)
	files := syscall.Rlimit{Cur: need, Max: need}
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		return err
	}
	if now.Cur < need {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
			return fmt.Errorf("%d carriers need as many files open (ulimit -n): %w", opt.agents*opt.links, err)
		}
	}
	dir, err := os.MkdirTemp("", "reeve-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ca, err := pki.Init(filepath.Join(dir, "ca"), "bench")
	if err != nil {
		return err
	}
	h, err := startHub(ctx, dir, 0)
	if err != nil {
		return err
	}
	defer func() { h.kill() }()
	empty, err := resident(h.cmd.Process.Pid)
	if err != nil {
		return err
	}
	f := newFleet(ca, opt)
	if err := f.identities(); err != nil {
		return err
	}
	began := time.Now()
	ctx, stop := context.WithCancel(ctx)
	defer f.running.Wait()
	defer stop()
	f.start(ctx, h.url)
	joined, err := f.all(ctx, began, 5*time.Minute)
	if err != nil {
		return err
	}
	time.Sleep(2 * time.Minute) // idle: what joining took is given back by then
	full, err := resident(h.cmd.Process.Pid)
	if err != nil {
		return err
	}
	spent, err := h.cpu()
	if err != nil {
		return err
	}
	time.Sleep(30 * time.Second)
	later, err := h.cpu()
	if err != nil {
		return err
	}
	each := (full - empty) * 1024 / float64(opt.agents)
	report.Add(
		Row{Name: fmt.Sprintf("%d agents of %d carriers: hub's memory for each", opt.agents, opt.links), Value: each, Unit: "KiB", Peer: "bar", PeerValue: 100, Bar: 1},
		Row{Name: "idle: hub's CPU", Value: 100 * (later - spent).Seconds() / 30, Unit: "% of a core"},
		Row{Name: "all joined after", Value: joined.Seconds(), Unit: "s", Peer: "bar", PeerValue: 60, Bar: 1},
	)

	f.dials.Store(0)
	h.kill()
	f.none()
	began = time.Now()
	if h, err = startHub(ctx, dir, h.port); err != nil {
		return err
	}
	back, err := f.all(ctx, began, 5*time.Minute)
	if err != nil {
		return err
	}
	report.Add(
		Row{Name: "all back after the hub was killed and started", Value: back.Seconds(), Unit: "s", Peer: "bar", PeerValue: 60, Bar: 1},
		Row{Name: "dials for that", Value: float64(f.dials.Load()) / float64(opt.agents*opt.links), Unit: "of each carrier"},
	)
	return nil
}

// hubProcess is a hub in a process of its own.
type hubProcess struct {
	cmd  *exec.Cmd
	url  string
	port int
}

func startHub(ctx context.Context, dir string, port int) (*hubProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-hub", dir, "-port", strconv.Itoa(port))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h := &hubProcess{cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		h.kill()
		return nil, fmt.Errorf("the hub doesn't start: %w", err)
	}
	h.url = strings.TrimSpace(line)
	_, at, _ := strings.Cut(strings.TrimPrefix(h.url, "https://"), ":")
	h.port, err = strconv.Atoi(at)
	return h, err
}

func (h *hubProcess) kill() {
	h.cmd.Process.Kill()
	h.cmd.Wait()
}

func (h *hubProcess) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks time.Duration
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		ticks += time.Duration(n)
	}
	return ticks * 10 * time.Millisecond, nil
}

// beHub runs a hub and tells its address on standard output.
func beHub(ctx context.Context, dir string, port int) error {
	defer memory.Bound(hub.Memory)() // as cmd/reeve has it
	cfg := hub.Defaults()
	cfg.DataDir, cfg.CADir = filepath.Join(dir, "hub"), filepath.Join(dir, "ca")
	cfg.Listen.API, cfg.Listen.Services, cfg.Listen.Metrics = fmt.Sprintf("127.0.0.1:%d", port), "127.0.0.1:0", "127.0.0.1:0"
	h, err := hub.New(cfg, "bench", slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if at := os.Getenv("REEVE_BENCH_PPROF"); at != "" {
		go http.ListenAndServe(at, nil) // to look into it while it is measured
	}
	runtime.GC()
	fmt.Println("https://" + h.Addrs().API.String())
	return h.Run(ctx)
}

// manyAgents are the links of many agents.
type manyAgents struct {
	ca      *pki.CA
	opt     options
	certs   []tls.Certificate
	up      atomic.Int64 // registered carriers
	dials   atomic.Int64
	running sync.WaitGroup
	// job, unless it is nil, does what an agent was given.
	job func(context.Context, *scanlink.Client, *scan.Job)
}

func newFleet(ca *pki.CA, opt options) *manyAgents { return &manyAgents{ca: ca, opt: opt} }

func agentName(i int) fleet.AgentName { return fleet.AgentName(fmt.Sprintf("agent-%d", i)) }

func (f *manyAgents) identities() error {
	f.certs = make([]tls.Certificate, f.opt.agents)
	for i := range f.certs {
		cert, key, err := f.ca.NewCredential(pki.Identity{Purpose: pki.Agent, Agent: agentName(i)}, 24*time.Hour)
		if err != nil {
			return err
		}
		if f.certs[i], err = tls.X509KeyPair(cert, key); err != nil {
			return err
		}
		f.certs[i].Certificate = f.certs[i].Certificate[:1] // as agents do
	}
	return nil
}

func (f *manyAgents) start(ctx context.Context, url string) {
	pool := f.ca.Pool()
	for i := range f.opt.agents {
		d := tunnel.NewDialer(tunnel.DialConfig{URL: url, TLS: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool, Certificates: f.certs[i : i+1]}})
		var agentPool tunnel.Pool
		l := tunnel.Link{
			Carriers: f.opt.links,
			Dial: func(ctx context.Context, _ int) (*tunnel.Session, error) {
				f.dials.Add(1)
				return d.Dial(ctx)
			},
			Serve: func(ctx context.Context, s *tunnel.Session, up func()) error {
				served := make(chan error, 1)
				go func() { served <- tunnel.Serve(ctx, s, http.NotFoundHandler()) }()
				if err := register(ctx, s, agentName(i)); err != nil {
					s.Close()
					<-served
					return err
				}
				f.up.Add(1)
				defer f.up.Add(-1)
				agentPool.Add(s, "hub")
				defer agentPool.Remove(s)
				up()
				return <-served
			},
		}
		f.running.Go(func() { l.Run(ctx) })
		f.running.Go(func() { // as a worker does
			source := scanlink.NewClient(&agentPool)
			for ctx.Err() == nil {
				job, err := source.Lease(ctx, []string{scan.KindContainer}, nil)
				if err != nil {
					select {
					case <-agentPool.Wait():
					case <-ctx.Done():
					}
				} else if job != nil && f.job != nil {
					f.job(ctx, source, job)
				}
			}
		})
	}
}

func register(ctx context.Context, s *tunnel.Session, name fleet.AgentName) error {
	tr := tunnel.Transport(s)
	defer tr.CloseIdleConnections()
	body, err := json.Marshal(fleet.Registration{Agent: name, Instance: fleet.InstanceID(name) + "-0", Version: "bench", Services: []fleet.Service{}, ScanTargets: []string{scan.KindContainer}, More: true})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scanlink.BaseURL+"/v1/register", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("register: %s: %s", resp.Status, said)
	}
	return err
}

// all waits until all carriers are registered, and says how long since began.
func (f *manyAgents) all(ctx context.Context, began time.Time, atMost time.Duration) (time.Duration, error) {
	want := int64(f.opt.agents * f.opt.links)
	for {
		n := f.up.Load()
		took := time.Since(began)
		if n == want {
			return took, nil
		}
		if took > atMost {
			return 0, fmt.Errorf("only %d of %d carriers are up after %v", n, want, took.Round(time.Second))
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// none waits until no carrier is up.
func (f *manyAgents) none() {
	for f.up.Load() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
}
