package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"reeve.dev/reeve/event"
	eventlink "reeve.dev/reeve/event/link"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/scan/crd"
	scankube "reeve.dev/reeve/scan/kube"
	scanlink "reeve.dev/reeve/scan/link"
)

// controlResources brings the cluster's Scans and ScanPolicies to the hub.
func (a *Agent) controlResources(ctx context.Context, identity *pki.Enroller) error {
	if !a.cfg.Scan.Resources {
		return nil
	}
	config, err := scankube.Config(a.cfg.Kubeconfig, "")
	if err != nil {
		return fmt.Errorf("scan.resources: %w", err)
	}
	config.QPS, config.Burst = 50, 100
	controller, err := crd.New(config, crd.Config{
		Hub:     resources{scanlink.NewClient(a.up), a.hubEvents()},
		Refused: func(err error) bool { return errors.Is(err, scanlink.ErrInvalid) },
		Gone:    func(err error) bool { return errors.Is(err, scan.ErrNotFound) || errors.Is(err, scan.ErrFinished) },

		// Each may be a route and a schedule, and all of them are one message.
		MaxPolicies: eventlink.MaxPolicies, MaxBytes: eventlink.MaxMessage / 3,
		ProfilePrefix: scan.AgentProfiles(identity.Agent()), Logger: a.component("resources"),
	})
	if err != nil {
		return fmt.Errorf("scan.resources: %w", err)
	}
	if err := controller.Run(ctx); ctx.Err() == nil {
		return fmt.Errorf("scan.resources: %w", err)
	}
	return nil
}

// resources is the hub as the controller sees it.
type resources struct {
	scans  *scanlink.Client
	events *eventlink.Client
}

var _ crd.Hub = resources{}

// Ask implements crd.Hub.
func (h resources) Ask(ctx context.Context, r crd.Request) (crd.State, error) {
	inputs, err := inputsOf(r.Run)
	if err != nil {
		return crd.State{}, err
	}
	asked, err := h.scans.Ask(ctx, scan.Request{
		Target:  scan.Target{Namespace: r.Namespace, Pod: r.Pod, Container: r.Container},
		Profile: r.Profile.Name, Threshold: r.Threshold, Inputs: inputs, Method: scan.Method(r.Method),
		Timeout: time.Duration(r.TimeoutSeconds) * time.Second, RequestedBy: r.By, Key: scan.Key{Name: r.Key},
	})
	return stateOf(asked), err
}

// State implements crd.Hub.
func (h resources) State(ctx context.Context, id string) (crd.State, error) {
	asked, err := h.scans.Asked(ctx, scan.ID(id))
	return stateOf(asked), err
}

// Open implements crd.Hub.
func (h resources) Open(ctx context.Context) (map[string]string, error) {
	list, err := h.scans.Open(ctx)
	open := make(map[string]string, len(list))
	for _, k := range list {
		open[k.Key] = string(k.ID)
	}
	return open, err
}

// Withdraw implements crd.Hub.
func (h resources) Withdraw(ctx context.Context, id string) error {
	return h.scans.Withdraw(ctx, scan.ID(id))
}

// SendProfile implements crd.Hub.
func (h resources) SendProfile(ctx context.Context, archive io.Reader) (string, error) {
	return h.scans.SendProfile(ctx, archive)
}

// SetPolicies implements crd.Hub.
func (h resources) SetPolicies(ctx context.Context, all []crd.Policy) (map[string]string, error) {
	own := eventlink.Policies{Routes: []event.Route{}, Schedules: []eventlink.Schedule{}}
	problems := map[string]string{}
	for _, p := range all {
		inputs, err := inputsOf(p.Spec.Run)
		if err != nil {
			problems[p.Name] = err.Error()
			continue
		}
		s := p.Spec
		run := event.Scan{Profile: s.Profile.Name, Threshold: s.Threshold, Inputs: inputs, Method: s.Method, Timeout: s.TimeoutSeconds, Actions: s.Actions}
		if s.OnDeploy && !s.Suspend {
			own.Routes = append(own.Routes, event.Route{Name: p.Name, Scan: run, Match: event.Match{
				Types: []string{event.ContainerDeployed}, Namespaces: []string{p.Namespace}, Labels: p.Labels,
			}})
		}
		if s.Schedule != "" {
			own.Schedules = append(own.Schedules, eventlink.Schedule{
				Name: scheduleName(p.Name), Cron: s.Schedule, TimeZone: s.TimeZone, Jitter: s.JitterSeconds, Suspended: s.Suspend,
				Selector: eventlink.Selector{Namespace: p.Namespace, Labels: p.Labels}, Scan: run,
			})
		}
	}
	refused, err := h.events.SetPolicies(ctx, own)
	for _, r := range refused {
		problems[strings.Replace(r.Name, "_", "/", 1)] = r.Reason
	}
	return problems, err
}

// scheduleName is a policy's name with no slash; namespaces have no underscore.
func scheduleName(policy string) string { return strings.Replace(policy, "/", "_", 1) }

func inputsOf(r crd.Run) (map[string]any, error) {
	if len(r.Inputs) == 0 {
		return nil, nil
	}
	return scan.DecodeInputs(r.Inputs)
}

func stateOf(a scanlink.Asked) crd.State {
	return crd.State{
		ID: string(a.ID), Status: string(a.Status), Outcome: string(a.Outcome), Reason: a.Reason, Method: a.Entry.Method,
		Controls: crd.Controls(a.Counts), Findings: a.Findings, Started: a.Started, Finished: a.Finished, Final: a.Status.Final(),
	}
}
