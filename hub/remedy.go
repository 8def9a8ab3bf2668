package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	"reeve.dev/reeve/policy"
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
	// ScanPolicies lets ScanPolicies of the clusters name the hook; its own
	// scans aren't told then but by those that do.
	ScanPolicies bool `yaml:"scanPolicies"`
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
	return !r.ScanPolicies && !s.Request.ByAgent() && r.covers(s.Request.Target, s.Request.Profile)
}

// covers reports whether the rule is for a target and a profile.
func (r RemedyRule) covers(t scan.Target, profile string) bool {
	profile, _, _ = strings.Cut(profile, "@")
	return t.Kind() == scan.KindContainer && r.Has(t.Agent, t.Namespace) && (len(r.Profiles) == 0 || slices.Contains(r.Profiles, profile))
}

// clusterActions are what policies of the clusters may name.
type clusterActions struct {
	sinks policy.Sinks // those that are open to them
	rules []RemedyRule
}

func newClusterActions(cfg Config) clusterActions {
	c := clusterActions{policy.Sinks{}, cfg.Remediation}
	for _, s := range cfg.Sinks {
		if s.ScanPolicies {
			c.sinks[s.Name] = s.Type
		}
	}
	return c
}

// resolve finds the sink of what a policy of a cluster names, for its scans of t
// by a profile; empty for the hub's own log.
func (c clusterActions) resolve(text string, t scan.Target, profile string) (sink string, err error) {
	a, err := policy.ParseAction(text)
	if err != nil {
		return "", err
	}
	if a.Kind == policy.KindFix && !slices.ContainsFunc(c.rules, func(r RemedyRule) bool {
		return r.ScanPolicies && r.Hook == a.Name && r.covers(t, profile)
	}) {
		return "", fmt.Errorf("action %s: the hub lets no ScanPolicy name this hook for its namespace and profile (its setting remediation, with scanPolicies: true)", a)
	}
	if sink, err = c.sinks.Resolve(a); err != nil {
		return "", fmt.Errorf("%w; ScanPolicies may name those with scanPolicies: true", err)
	}
	return sink, nil
}

// of are the sinks that the actions of s name. What isn't open any more isn't
// told.
func (c clusterActions) of(s scan.Scan) (sinks []string, log bool) {
	for _, text := range s.Request.Actions {
		sink, err := c.resolve(text, s.Request.Target, s.Request.Profile)
		switch {
		case err != nil:
		case sink == "":
			log = true
		default:
			sinks = append(sinks, sink)
		}
	}
	return sinks, log
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

// moreSinks are those that the outcome of a scan is told to besides all others'
// sinks.
func (h *Hub) moreSinks(cfg Config) func(scan.Scan) []string {
	actions := newClusterActions(cfg)
	return func(s scan.Scan) []string {
		named, log := actions.of(s)
		if log {
			h.log.Info("outcome", "component", "scans", "scan", s.ID, "target", s.Request.Target, "agent", s.Request.Target.Agent, "policy", s.Request.Policy(), "by", s.Request.RequestedBy, "outcome", s.Outcome)
		}
		return slices.Concat(remedySinks(cfg.Remediation, s), named)
	}
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
	scans  func(context.Context, scan.ID) (scan.Scan, error)
	agents forward.Links
	audit  func(audit.Record)
}

// checkOf says what a mark of a scan's outcome is of: the group is the policy's
// name or, of one in a cluster, that policy; and the check all that was asked for.
// The profile and the threshold count by their names, since what these mean is
// the operators' to say.
func checkOf(s scan.Scan) (group, check string, standing bool, err error) {
	r := s.Request
	inputs, err := json.Marshal(r.Inputs)
	if err != nil {
		return "", "", false, fmt.Errorf("inputs: %w", err)
	}
	check = r.Profile + "\n" + r.Threshold + "\n" + digest(inputs)
	if !r.ByAgent() {
		return r.Policy(), check, r.Standing, nil
	}
	// agent:NAME route NS/POLICY, or agent:NAME schedule NS_POLICY
	_, rule, _ := strings.Cut(r.RequestedBy, " ")
	_, name, _ := strings.Cut(rule, " ")
	return "ScanPolicy " + strings.Replace(name, "_", "/", 1), check, r.Standing, nil
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Deliver implements alert.Sink.
func (s remedies) Deliver(ctx context.Context, a alert.Alert) error {
	ctx, cancel := context.WithTimeout(ctx, remedyTime)
	defer cancel()
	began := time.Now()
	o := a.Outcome
	agent, namespace, _ := strings.Cut(o.Subject.Owner, "/")
	e := remedy.Event{ID: string(a.ID), Scan: o.Run, Policy: o.Policy, Passed: o.Pass, Namespace: namespace, At: o.At}
	resource, name := "pods", ""
	switch parts := strings.Split(o.Subject.Repo, "/"); len(parts) {
	case 2: // what a scan looked into
		e.Pod, e.Container, name = parts[0], parts[1], parts[0]
	case 3: // what is known of a workload
		e.Workload, e.Container = parts[0]+"/"+parts[1], parts[2]
		resource, name = strings.ToLower(parts[0])+"s", parts[1]
	default:
		return permanent(fmt.Errorf("%s %s is no container of a cluster, so that a hook could act on it", o.Subject.Owner, o.Subject.Repo))
	}
	if age := time.Since(o.At); age > remedyAge {
		return permanent(fmt.Errorf("the outcome is %v old; after %v nothing is done because of it", age.Round(time.Second), remedyAge))
	}
	// What isn't a scan's own outcome is that of a policy of the hub's.
	e.Group, e.Standing = "policy "+o.Policy, true
	scanned, err := s.scans(ctx, scan.ID(o.Run))
	if err == nil && o.Policy == scanned.Request.Policy() {
		e.Group, e.Check, e.Standing, err = checkOf(scanned)
	}
	if err != nil && !errors.Is(err, scan.ErrNotFound) {
		return err
	}
	status, answer, err := s.ask(ctx, fleet.AgentName(agent), e)
	r := audit.Record{
		Kind: audit.Hub, Action: "remedy", At: time.Now(), Took: time.Since(began), Agent: agent, Namespace: namespace, Resource: resource, Name: name,
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
