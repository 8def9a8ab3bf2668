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
	return kube.Open(ctx, config, to.Namespace, to.Pod, to.Container, kube.Options{})
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
