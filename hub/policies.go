package hub

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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

// policyRunsKept is how long runs of policies can be seen, and subjects that
// nobody checks any more.
const policyRunsKept = 30 * 24 * time.Hour

var (
	policySubjectsDesc = prometheus.NewDesc("reeve_hub_policy_subjects", "Subjects of policies by how they stand: passed, failed, unknown.", []string{"policy", "verdict"}, nil)
	policyRunDesc      = prometheus.NewDesc("reeve_hub_policy_run_timestamp_seconds", "When a policy was last evaluated on all subjects, in seconds since 1970.", []string{"policy"}, nil)
	policyCutDesc      = prometheus.NewDesc("reeve_hub_policy_run_truncated", "1 if that evaluation has fewer results than it should.", []string{"policy"}, nil)
	policyFaultsDesc   = prometheus.NewDesc("reeve_hub_policy_faults", "Parts of namespaces' overrides that aren't applied since something is wrong with them.", nil, nil)
)

// policyStock tells of policies, as the whole database knows them.
type policyStock struct{ h *Hub }

func (s policyStock) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{policySubjectsDesc, policyRunDesc, policyCutDesc, policyFaultsDesc} {
		out <- d
	}
}

// Collect leaves out what the database doesn't tell.
func (s policyStock) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), stockTime)
	defer cancel()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(policyFaultsDesc, float64(len(s.h.policies.Faults())))
	tallies, err := s.h.store.PolicyTallies(ctx, policy.Query{Source: policy.Fleet})
	if err != nil {
		return
	}
	last, err := s.h.store.LastRuns(ctx, policy.Fleet)
	if err != nil {
		return
	}
	for _, p := range s.h.policies.Policies() {
		t := tallies[p.Name]
		gauge(policySubjectsDesc, float64(t.Passed), p.Name, string(policy.Passed))
		gauge(policySubjectsDesc, float64(t.Failed), p.Name, string(policy.Failed))
		gauge(policySubjectsDesc, float64(t.Unknown), p.Name, string(policy.Unknown))
		r, ran := last[p.Name]
		if !ran || !r.Whole {
			continue
		}
		cut := 0.0
		if r.State == policy.Truncated {
			cut = 1
		}
		gauge(policyRunDesc, float64(r.Began.Unix()), p.Name)
		gauge(policyCutDesc, cut, p.Name)
	}
}
