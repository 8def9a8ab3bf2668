package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/audit"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/policy/remedy"
	"reeve.dev/reeve/scan"
)

// RemedyRule says of which outcomes a hook of the agents is told. What the
// hook does, and whether, is the agent's configuration.
type RemedyRule struct {
	Hook        string `yaml:"hook"`
	fleet.Scope `yaml:",inline"`
	// Profiles are names of profiles, without a version; none: all.
	Profiles []string `yaml:"profiles"`
}

func (r RemedyRule) validate() error {
	if !remedy.HookName.MatchString(r.Hook) {
		return fmt.Errorf("hook %q: it must be 1 to 32 lower-case letters, digits or '-', as the agents' remediation.hooks have it", r.Hook)
	}
	return r.Scope.Validate()
}

// isFor doesn't take what was asked for in the cluster itself: whose workload
// was marked would choose a profile, or a threshold, that takes the mark off.
func (r RemedyRule) isFor(s scan.Scan) bool {
	if s.Request.ByAgent() {
		return false
	}
	profile, _, _ := strings.Cut(s.Request.Profile, "@")
	t := s.Request.Target
	return t.Kind() == scan.KindContainer && r.Has(t.Agent, t.Namespace) && (len(r.Profiles) == 0 || slices.Contains(r.Profiles, profile))
}

// remedySink begins the names of the sinks that tell hooks; no configured sink
// can be called so.
const remedySink = "remedy:"

// remedySinks are those that the outcome of s is told to.
func remedySinks(rules []RemedyRule, s scan.Scan) (names []string) {
	for _, r := range rules {
		if name := remedySink + r.Hook; r.isFor(s) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

const (
	remedyTime = 20 * time.Second
	// remedyAge is the age at which an outcome isn't acted on any more.
	remedyAge = time.Hour
	maxRemedy = 4 << 10 // of an answer
)

// remedies is the sink of one hook: it asks the agent beside the target.
type remedies struct {
	hook   string
	agents forward.Links
	audit  func(audit.Record)
}

// Deliver implements alert.Sink.
func (s remedies) Deliver(ctx context.Context, a alert.Alert) error {
	ctx, cancel := context.WithTimeout(ctx, remedyTime)
	defer cancel()
	began := time.Now()
	o := a.Outcome
	agent, namespace, _ := strings.Cut(o.Subject.Owner, "/")
	pod, container, _ := strings.Cut(o.Subject.Repo, "/")
	if age := time.Since(o.At); age > remedyAge {
		return permanent(fmt.Errorf("the outcome is %v old; after %v nothing is done because of it", age.Round(time.Second), remedyAge))
	}
	status, answer, err := s.ask(ctx, fleet.AgentName(agent), remedy.Event{
		ID: string(a.ID), Scan: o.Run, Policy: o.Policy, Passed: o.Pass, Namespace: namespace, Pod: pod, Container: container, At: o.At,
	})
	r := audit.Record{
		Kind: audit.Hub, Action: "remedy", At: time.Now(), Took: time.Since(began), Agent: agent, Namespace: namespace, Resource: "pods", Name: pod,
		Status: status, Details: map[string]string{"hook": s.hook, "scan": o.Run, "policy": o.Policy, "passed": fmt.Sprint(o.Pass)},
	}
	switch {
	case err != nil:
	case status == http.StatusOK:
		r.Details["did"] = answer
	case status == http.StatusNotFound, status == http.StatusForbidden, status == http.StatusBadRequest, status == http.StatusUnprocessableEntity:
		err = permanent(errors.New(answer))
	default:
		err = fmt.Errorf("the agent answered %d: %s", status, answer)
	}
	if err != nil {
		r.Error = err.Error()
	}
	s.audit(r)
	return err
}

func permanent(err error) error { return &alert.Error{Class: alert.Permanent, Err: err} }

func (s remedies) ask(ctx context.Context, agent fleet.AgentName, e remedy.Event) (status int, answer string, err error) {
	rt, err := s.agents.Transport(agent)
	if err != nil {
		return 0, "", err
	}
	body, err := json.Marshal(e)
	if err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+remedy.Path+s.hook, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxRemedy))
	if err != nil {
		return 0, "", err
	}
	return resp.StatusCode, strings.TrimSpace(string(text)), nil
}
