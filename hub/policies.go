package hub

import (
	"context"
	"strings"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/scan"
)

// policySinks are those that policies' actions may name.
func (c Config) policySinks() policy.Sinks {
	sinks := policy.Sinks{}
	for _, s := range c.Sinks {
		sinks[s.Name] = s.Type
	}
	return sinks
}

// openPolicies makes the engine of policies.
func (h *Hub) openPolicies(cfg Config) {
	h.policies = policy.New(policy.Config{
		Policies: cfg.Policies, Sinks: cfg.policySinks(), Store: h.store, Evidence: h.store.Evidence(),
		Holder: h.holder, Logger: h.log.With("component", "policies"),
	})
	h.store.JudgeErrors(func(s scan.Scan) []fleet.Result {
		if !counts(s) {
			return nil
		}
		return h.policies.OfScan(context.Background(), endedScan(s))
	})
}

// hold implements alert.Config's Hold.
func (h *Hub) hold(_ context.Context, _ string, o fleet.Outcome) (time.Time, string) {
	return h.policies.Hold(o, time.Now())
}

// fixes are the hooks that policies name.
func (c Config) fixes() (hooks []string) {
	for _, p := range c.Policies {
		lists := [][]policy.Action{p.Actions}
		for _, o := range p.Overrides {
			lists = append(lists, o.Actions)
		}
		for _, list := range lists {
			for _, a := range list {
				if a.Kind == policy.KindFix {
					hooks = append(hooks, a.Name)
				}
			}
		}
	}
	return hooks
}

// judgePolicies implements scan.Config's Policies.
func (h *Hub) judgePolicies(ctx context.Context, j scan.Judged) []fleet.Result {
	if !counts(j.Scan) {
		return nil
	}
	e := endedScan(j.Scan)
	e.Failure = ""
	e.Passed, e.Counts, e.Findings = j.Verdict.Outcome == scan.Passed, j.Verdict.Counts, j.Verdict.Findings
	for _, c := range j.Verdict.Bad {
		e.Bad = append(e.Bad, policy.Control(c))
	}
	for _, f := range j.Results.Findings() {
		e.Controls = append(e.Controls, policy.Control{ID: f.Control.ID, Title: f.Control.Title, Status: f.Control.Status})
	}
	e.Judge = j.Threshold
	return h.policies.OfScan(ctx, e)
}

// counts reports whether policies are judged by a scan: not by one that chose
// its inputs, or an earlier version of the profile, but for those of the hub's
// own rules.
func counts(s scan.Scan) bool {
	r := s.Request
	return s.Selector == nil && !r.ByAgent() && (r.Standing || len(r.Inputs) == 0 && !strings.Contains(r.Profile, "@"))
}

// endedScan is a scan as policies have it, without its result.
func endedScan(s scan.Scan) policy.EndedScan {
	t := s.Request.Target
	profile, _, _ := strings.Cut(s.Request.Profile, "@")
	at := s.Finished
	if at.IsZero() {
		at = time.Now()
	}
	return policy.EndedScan{
		Scan:  policy.Scan{ID: string(s.ID), Subject: t.Subject(), Policy: s.Request.Policy(), At: at},
		Place: policy.Place{Agent: t.Agent, Namespace: t.Namespace}, Profile: profile, Threshold: s.Request.Threshold, AdHoc: !s.Request.Standing, Failure: s.Reason,
	}
}
