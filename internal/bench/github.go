package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/policy/github"
	"reeve.dev/reeve/policy/github/githubtest"
	"reeve.dev/reeve/store/sqlite"
)

const (
	benchRepos   = 1000
	benchLatency = 50 * time.Millisecond
	benchLimit   = 5000 // requests an hour
)

// repositories has eight policies checked on a thousand repositories of a GitHub
// that takes 50 ms for each answer, over HTTP and with SQLite: a first cycle, and
// one in which nothing has changed.
func repositories(ctx context.Context, _ options, report *Report) error {
	dir, err := os.MkdirTemp("", "reeve-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := sqlite.Open(ctx, filepath.Join(dir, "reeve.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer s.Close()
	fake := githubtest.New()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(benchLatency)
		fake.ServeHTTP(w, r)
	}))
	defer server.Close()
	fake.Limit, fake.Archives = 0, server.URL
	const optOut = "optConfig: {optOutStrategy: true}\n"
	org := fake.Add("acme", ".allstar")
	for _, file := range []string{"allstar", "binary_artifacts", "branch_protection", "codeowners", "outside", "security", "dangerous_workflow", "admin"} {
		org.Put(file+".yaml", optOut)
	}
	org.Put("actions.yaml", "groups: [{rules: [{method: deny, actions: [{name: evil/*}]}]}]\n")
	for i := range benchRepos - 1 {
		fake.Add("acme", fmt.Sprintf("repo-%d", i)).Put(".github/workflows/ci.yml", "on: push\njobs: {a: {steps: [{uses: actions/checkout@v4}]}}\n")
	}
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("t"), 0o600); err != nil {
		return err
	}
	r, err := github.NewRunner(github.RunnerConfig{
		Connections: []github.Config{{Name: "bench", URL: server.URL, TokenFile: token, Organisations: []string{"acme"}}},
		Store:       s, Holder: "hub", Logger: slog.New(slog.DiscardHandler),
		IssueSink: func(string) string { return "issue" }, EndpointSink: func(string) (string, error) { return "", errors.New("none") },
	})
	if err != nil {
		return err
	}
	defer r.Close()
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	defer func() { stop(); <-ended }()
	before := cpuTime()
	first, err := wholeCycle(ctx, s, "")
	if err != nil {
		return err
	}
	cpu := cpuTime() - before
	asked := fake.Count("")
	free := fake.Unchanged()
	if err := s.MarkGitHub(ctx, github.Task{Connection: "bench", Owner: "acme", Cause: "bench", Due: time.Now()}, true); err != nil {
		return err
	}
	second, err := wholeCycle(ctx, s, first.ID)
	if err != nil {
		return err
	}
	cost := fake.Count("") - asked - (fake.Unchanged() - free)
	report.Add(
		Row{Name: fmt.Sprintf("8 policies on %d repositories, each answer of GitHub after %v", benchRepos, benchLatency), Value: first.Ended.Sub(first.Began).Seconds(), Unit: "s", Peer: "a minute", PeerValue: 60, Bar: 1},
		Row{Name: "CPU of that, GitHub's included", Value: cpu.Seconds(), Unit: "s"},
		Row{Name: "the same again, where nothing has changed", Value: second.Ended.Sub(second.Began).Seconds(), Unit: "s"},
		Row{Name: "requests of that which GitHub counts", Value: float64(cost), Unit: "", Peer: "a tenth of those of an hour", PeerValue: benchLimit / 10, Bar: 1},
	)
	return nil
}

// wholeCycle waits for the cycle after one to be complete.
func wholeCycle(ctx context.Context, s interface {
	PolicyRuns(context.Context, policy.Query) ([]policy.Run, error)
}, after policy.RunID,
) (policy.Run, error) {
	for {
		runs, err := s.PolicyRuns(ctx, policy.Query{Source: github.Source("acme"), Limit: 1})
		if err != nil {
			return policy.Run{}, err
		}
		if len(runs) > 0 && runs[0].ID != after && runs[0].State != policy.Running {
			if runs[0].State != policy.Complete || runs[0].Unknown > 0 {
				return runs[0], fmt.Errorf("the cycle: %+v", runs[0])
			}
			return runs[0], nil
		}
		select {
		case <-ctx.Done():
			return policy.Run{}, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
