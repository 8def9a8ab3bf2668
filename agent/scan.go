package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/inspec/target/image"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/scan/kube"
)

// targets opens what scans look at.
type targets struct {
	kubeconfig string
	cfg        ScanConfig
	instance   fleet.InstanceID
	log        *slog.Logger
	// sbom answers what hands in the SBOM of a container; nil if this agent can't.
	sbom func(*scan.Job, target.Target, kube.Deployment) func(context.Context) error

	mu       sync.Mutex
	accounts *kube.Accounts // guarded by mu; made when it is needed first
}

func (t *targets) open(ctx context.Context, job *scan.Job) (scan.Opened, error) {
	to := job.Target
	if to.URI != "" {
		open := target.Open
		if image.Takes(to.URI) {
			open = image.Open
		}
		opened, err := open(ctx, to.URI)
		return scan.Opened{Target: opened}, err
	}
	opened, err := t.enter(ctx, job)
	if err != nil {
		return scan.Opened{}, transient(err)
	}
	return scan.Opened{
		Target: opened.Target, SBOM: t.sbom(job, opened.Target, opened.Entry.Container), Release: opened.Release,
		Entry: &hdf.Entry{Method: string(opened.Entry.Method), Reason: opened.Entry.Reason},
	}, nil
}

// enter enters a container, by an account of the scan's own if the owner has it
// so.
func (t *targets) enter(ctx context.Context, job *scan.Job) (kube.Opened, error) {
	to, e := job.Target, t.cfg.Ephemeral
	opt := kube.Options{
		Method: kube.Method(job.Method), Scanner: kube.Scanner{Image: e.Image, PullPolicy: e.PullPolicy, Capabilities: e.Capabilities},
		Name: fmt.Sprintf("reeve-%s-%d", job.ID, job.Attempt), Life: job.Timeout,
	}
	if t.cfg.RBAC == rbacNone {
		config, err := kube.Config(t.kubeconfig, "")
		if err != nil {
			return kube.Opened{}, err
		}
		opened, entry, err := kube.Open(ctx, config, to.Namespace, to.Pod, to.Container, opt)
		return kube.Opened{Target: opened, Entry: entry}, err
	}
	accounts, err := t.perScan()
	if err != nil {
		return kube.Opened{}, err
	}
	grant := kube.Grant{
		Scan: string(job.ID), Attempt: job.Attempt, Namespace: to.Namespace, Pod: to.Pod,
		Methods: []kube.Method{opt.Method}, Life: job.Timeout,
	}
	if opt.Method == kube.Auto || opt.Method == "" {
		grant.Methods = []kube.Method{kube.Exec}
		if e.Image != "" {
			grant.Methods = append(grant.Methods, kube.Ephemeral)
		}
	}
	return accounts.Open(ctx, grant, to.Container, opt)
}

func (t *targets) perScan() (*kube.Accounts, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.accounts != nil {
		return t.accounts, nil
	}
	config, err := kube.Config(t.kubeconfig, "")
	if err != nil {
		return nil, err
	}
	home, err := kube.Home(t.kubeconfig)
	if err != nil {
		return nil, err
	}
	// Five requests a second, client-go's default, are one scan's.
	config.QPS, config.Burst = 50, 100
	t.accounts, err = kube.NewAccounts(config, home, string(t.instance), t.log)
	return t.accounts, err
}

// sweep removes what scans have left in the cluster, if there is one.
func (t *targets) sweep(ctx context.Context) {
	if t.cfg.RBAC == rbacNone || !slices.Contains(t.cfg.Targets, scan.KindContainer) {
		return
	}
	accounts, err := t.perScan()
	if err != nil {
		t.log.DebugContext(ctx, "no cluster to sweep", "error", err)
		return
	}
	accounts.Run(ctx)
}

// choose lists what a batch's selector chooses.
func (t *targets) choose(ctx context.Context, s scan.Selector) ([]scan.Target, error) {
	config, err := kube.Config(t.kubeconfig, "")
	if err != nil {
		return nil, err
	}
	found, err := kube.Select(ctx, config, kube.Selection(s), scan.MaxSelected)
	if err != nil {
		return nil, transient(err)
	}
	out := make([]scan.Target, len(found))
	for i, c := range found {
		out[i] = scan.Target{Namespace: c.Namespace, Pod: c.Pod, Container: c.Name}
	}
	return out, nil
}

// transient marks the errors of the cluster that may pass.
func transient(err error) error {
	if err != nil && kube.Transient(err) {
		return scan.Transient(err)
	}
	return err
}

// engine runs profiles for the worker.
type engine struct {
	version string
	log     *slog.Logger
}

func (e engine) run(ctx context.Context, archive string, t target.Target, opt scan.EngineOptions) (*hdf.Results, error) {
	profile, err := inspec.Load(archive)
	if err != nil {
		return nil, err
	}
	return inspec.Run(ctx, profile, t, inspec.Options{
		Inputs: opt.Inputs, Version: e.version, Logger: e.log,
		Progress: func(p inspec.Progress) {
			opt.Progress(scan.Progress{Done: p.Done, Total: p.Total, Control: p.Control})
		},
	})
}
