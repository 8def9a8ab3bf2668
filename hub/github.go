package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/alert/issue"
	"reeve.dev/reeve/alert/rpc"
	"reeve.dev/reeve/policy/github"
)

// issueSink begins the names of the sinks that make issues, one for each GitHub
// connection; no configured sink can be called so.
const issueSink = "issue:"

const (
	// responsesKept is how long GitHub's answers are kept about what nobody asks
	// for any more, and maxResponses how many bytes of them.
	responsesKept = 30 * 24 * time.Hour
	maxResponses  = 4 << 30
	// issuesAtOnce is how many issues are worked on at once; GitHub asks for few.
	issuesAtOnce = 4
)

func (c Config) validateGitHub() (errs []error) {
	seen := map[string]bool{}
	sinks := c.policySinks()
	for i, g := range c.GitHub {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("github[%d].%w", i, fmt.Errorf(format, args...)))
		}
		if err := g.Validate(); err != nil {
			bad("%w", err)
		}
		if seen[g.Name] {
			bad("name: %q is there twice", g.Name)
		}
		seen[g.Name] = true
		for j, name := range g.RPC {
			if sinks[name] != rpcSink {
				bad("rpc[%d]: there is no sink %q of the type rpc; sinks has %s", j, name, sinks)
			}
		}
	}
	return errs
}

// openGitHub prepares the checks of repositories, and adds the sinks that make
// issues.
func (h *Hub) openGitHub(cfg Config, sinks map[string]alert.Sink, options map[string]alert.Options) error {
	if len(cfg.GitHub) == 0 {
		return nil
	}
	for _, g := range cfg.GitHub {
		if err := g.CheckSecrets(); err != nil {
			return fmt.Errorf("github %s: %w", g.Name, err)
		}
	}
	var err error
	h.github, err = github.NewRunner(github.RunnerConfig{
		Connections: cfg.GitHub, Store: h.store, Sinks: cfg.policySinks(), Holder: h.holder, Logger: h.log.With("component", "github"),
		IssueSink: func(connection string) string { return issueSink + connection },
		EndpointSink: func(endpoint string) (string, error) {
			return rpc.EndpointSink + endpoint, cfg.Alerts.Endpoints.Permit(endpoint)
		},
	})
	if err != nil {
		return err
	}
	h.onClose(h.github.Close)
	for _, g := range cfg.GitHub {
		name := issueSink + g.Name
		sinks[name] = issue.New(h.issues(g.Name), h.log.With("component", "issues"))
		options[name] = alert.Options{People: true, Every: true, Coalesce: true, Concurrency: issuesAtOnce}
	}
	return nil
}

// issues says how issues about a repository are made.
func (h *Hub) issues(connection string) issue.Source {
	return func(ctx context.Context, owner, repo string) (issue.Settings, error) {
		s, err := h.github.Issues(ctx, connection, owner, repo)
		if errors.Is(err, github.ErrNoAccount) {
			err = fmt.Errorf("%w: %w", issue.ErrLeft, err)
		}
		return issue.Settings{
			Client: s.Client, Web: s.Web, Repo: s.Repo, Label: s.Label, Details: s.Details, Footer: s.Footer,
			Silent: !s.Schedule.HeldUntil(time.Now()).IsZero(), PingAfter: s.PingAfter, Remember: s.Remember,
		}, err
	}
}

// workloadLabel marks the issues about workloads, and workloadFooter ends them.
const (
	workloadLabel  = "reeve"
	workloadFooter = "This issue closes by itself once the policy is met. It was opened by Reeve; `reeve get policy-subjects` shows how things stand."
)

// tracker is a sink that makes the issues of a repository.
type tracker struct {
	*issue.Sink
	*github.Tracker
}

// openTracker makes the sink of a repository's issues.
func (h *Hub) openTracker(c SinkConfig) (closingSink, error) {
	log := h.log.With("component", "issues", "sink", c.Name)
	t, err := github.NewTracker(c.tracker(), log)
	if err != nil {
		return nil, err
	}
	settings := issue.Settings{
		Web: t.Web, Owner: t.Owner, Repo: t.Repo, Label: cmp.Or(c.Label, workloadLabel), Footer: workloadFooter,
		// Whoever is reminded is told again, unless somebody works on it.
		PingAfter: c.options().Remind / 2,
	}
	return tracker{issue.New(func(ctx context.Context, _, _ string) (issue.Settings, error) {
		client, err := t.Client(ctx)
		made := settings
		made.Client = client
		return made, err
	}, log), t}, nil
}
