package agent

import (
	"context"
	"log/slog"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/inspec/target/image"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/scan/kube"
)

// targets opens what scans look at.
type targets struct{ kubeconfig string }

func (t targets) open(ctx context.Context, to scan.Target) (target.Target, error) {
	if image.Takes(to.URI) {
		return image.Open(ctx, to.URI)
	}
	if to.URI != "" {
		return target.Open(ctx, to.URI)
	}
	config, err := kube.Config(t.kubeconfig, "")
	if err != nil {
		return nil, err
	}
	opened, err := kube.Open(ctx, config, to.Namespace, to.Pod, to.Container, kube.Options{})
	return opened, transient(err)
}

// choose lists what a batch's selector chooses.
func (t targets) choose(ctx context.Context, s scan.Selector) ([]scan.Target, error) {
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
