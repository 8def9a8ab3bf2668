package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/osv"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
)

const (
	policyAgents  = 10
	policyImages  = 500
	policyEach    = 20 // policies
	policyPackage = 300
)

// policies has twenty policies evaluated on a fleet's workloads, in SQLite: each
// once, and then those of one namespace because of an event.
func policies(ctx context.Context, opt options, report *Report) error {
	dir, err := os.MkdirTemp("", "reeve-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	log := slog.New(slog.DiscardHandler)
	s, err := sqlite.Open(ctx, filepath.Join(dir, "reeve.db"), log)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := policyFleet(ctx, s, opt.workloads); err != nil {
		return err
	}
	list := make([]policy.Policy, policyEach)
	for i := range list {
		list[i] = policy.Policy{Name: fmt.Sprint("policy-", i), Check: []policy.Check{
			{Problem: &policy.ProblemCheck{Severity: "high"}},
			{SBOM: &policy.SBOMCheck{MaxAge: time.Hour}},
			{Image: &policy.ImageCheck{From: []string{"registry.example/*"}}},
			{Problem: &policy.ProblemCheck{Severity: "critical", OlderThan: time.Hour}},
		}[i%4]}
	}
	list[0].Actions = []policy.Action{{Kind: "rpc"}}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	before := cpuTime()
	began := time.Now()
	go func() {
		ended <- policy.New(policy.Config{
			Policies: list, Sinks: policy.Sinks{"sink": "rpc"}, Store: s, Evidence: s.Evidence(), Holder: "hub", Logger: log,
		}).Run(ctx)
	}()
	defer func() { stop(); <-ended }()
	most, err := policyRuns(ctx, s, policyEach)
	if err != nil {
		return err
	}
	took, cpu := time.Since(began), cpuTime()-before
	results := float64(policyEach * opt.workloads)
	report.Add(
		Row{Name: fmt.Sprintf("%d policies on %d workloads: results recorded, one policy of them told", policyEach, opt.workloads), Value: results / took.Seconds(), Unit: "1/s"},
		Row{Name: "all of that", Value: took.Seconds(), Unit: "s", Peer: "what a run by the hour may take", PeerValue: 60, Bar: 1},
		Row{Name: "CPU of that", Value: cpu.Seconds(), Unit: "s"},
		Row{Name: "heap of that, at most", Value: float64(most) / (1 << 20), Unit: "MiB"},
	)
	began = time.Now()
	workload := insight.Workload{Namespace: "ns-0", Kind: "Deployment", Name: "new", Container: "c", Image: "registry.example/new", Digest: "sha256:new"}
	if err := s.PutInventory(ctx, "agent-new", insight.Inventory{Workloads: []insight.Workload{workload}}, time.Now()); err != nil {
		return err
	}
	if _, err := policyRuns(ctx, s, policyEach+1); err != nil {
		return err
	}
	took = time.Since(began)
	looked := time.Now()
	const looks = 10
	for range looks {
		if _, err := s.PolicyTallies(ctx, policy.Query{Source: policy.Fleet}); err != nil {
			return err
		}
		if _, err := s.PolicySubjects(ctx, policy.Query{Source: policy.Fleet, Policy: "policy-0", Verdict: policy.Failed}); err != nil {
			return err
		}
	}
	report.Add(Row{Name: "how all of them stand, and a page of those that failed", Value: ms(time.Since(looked) / looks), Unit: "ms", Peer: "what a person waits for gladly", PeerValue: 200, Bar: 1})
	report.Add(Row{Name: "an event to its outcomes, with the 2 s in which more is gathered", Value: took.Seconds(), Unit: "s"})
	return nil
}

// policyFleet has workloads of as many agents and images as there are, each image
// with an SBOM, and vulnerabilities in those.
func policyFleet(ctx context.Context, s *store.Store, workloads int) error {
	now := time.Now()
	for i := range policyImages {
		bom := &insight.SBOM{ImageDigest: fmt.Sprint("sha256:image", i)}
		for n := range policyPackage {
			name := fmt.Sprint("package-", (i+n*7)%2000)
			bom.Components = append(bom.Components, insight.Component{PURL: "pkg:npm/" + name + "@1.0.0", Name: name, Version: "1.0.0"})
		}
		it := insight.Item{
			ID: insight.ItemID(fmt.Sprint(i)), Cluster: "builder", Environment: insight.Environment{Namespace: "ci"},
			Content: insight.Document{Kind: insight.KindSBOM, Service: fmt.Sprint("image-", i)},
		}
		if _, err := s.ApplyInsight(ctx, it, &insight.Parsed{Digest: insight.Digest(fmt.Sprint("sha256:sbom", i)), SBOM: bom}, now); err != nil {
			return err
		}
	}
	var entries []osv.Entry
	for i := range 2000 {
		if i%10 == 0 {
			entries = append(entries, osv.Entry{
				ID: fmt.Sprint("OSV-", i), CVE: fmt.Sprint("CVE-", i), Modified: now, Severity: []string{"low", "medium", "high", "critical"}[i/10%4],
				Affected: []osv.Affected{{Ecosystem: "npm", Package: fmt.Sprint("npm/package-", i), Versions: osv.Versions{Ranges: []osv.Range{{{Introduced: "0"}, {Fixed: "2.0.0"}}}}}},
			})
		}
	}
	if _, err := s.PutOSV(ctx, entries, now); err != nil {
		return err
	}
	matcher := osv.Matcher{Store: s, Logger: slog.New(slog.DiscardHandler)}
	if err := matcher.Match(ctx); err != nil {
		return err
	}
	for a := range policyAgents {
		var list []insight.Workload
		for i := a; i < workloads; i += policyAgents {
			list = append(list, insight.Workload{
				Namespace: fmt.Sprint("ns-", i/policyAgents%50), Kind: "Deployment", Name: fmt.Sprint("app-", i), Container: "c",
				Image: fmt.Sprint("registry.example/app:", i%policyImages), Digest: fmt.Sprint("sha256:image", i%policyImages), Pods: 1,
			})
		}
		if err := s.PutInventory(ctx, fleet.AgentName(fmt.Sprint("agent-", a)), insight.Inventory{Workloads: list}, now); err != nil {
			return err
		}
	}
	return nil
}

// policyRuns waits for as many complete runs, and answers the most heap that
// there was meanwhile.
func policyRuns(ctx context.Context, s *store.Store, n int) (most uint64, err error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-tick.C:
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
		runs, err := s.PolicyRuns(ctx, policy.Query{Limit: 1000})
		if err != nil {
			return 0, err
		}
		done := 0
		for _, r := range runs {
			if r.State == policy.Truncated {
				return 0, fmt.Errorf("run of %s is truncated: %s", r.Policy, r.Reason)
			}
			if r.State == policy.Complete {
				done++
			}
		}
		if done >= n {
			return most, nil
		}
	}
}
