package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	gh "github.com/google/go-github/v89/github"
)

// actions is the policy GitHub Actions: which actions workflows may use, and
// which they must. It is the organisation's alone.
type actions struct {
	acting
	Groups []ruleGroup `key:"groups" layer:"org"`
}

type ruleGroup struct {
	Name  string          `key:"name"`
	Repos []*repoSelector `key:"repos"` // nil: all
	Rules []actionRule    `key:"rules"`
}

type actionRule struct {
	Name     string           `key:"name"`
	Method   string           `key:"method"`
	Priority string           `key:"priority"`
	Actions  []actionSelector `key:"actions"` // nil: all
	// MustPass and RequireAll are for the method require: the workflow must have
	// succeeded on the newest commit, and all actions must be there, not one.
	MustPass   bool `key:"mustPass"`
	RequireAll bool `key:"requireAll"`

	group string
}

type repoSelector struct {
	Name     string          `key:"name"`
	Language []string        `key:"language"`
	Exclude  []*repoSelector `key:"exclude"`
}

type actionSelector struct {
	Name    string `key:"name"`
	Version string `key:"version"`
}

const (
	methodRequire = "require"
	methodAllow   = "allow"
	methodDeny    = "deny"
	// maxExclude is how deep exclusions of exclusions go.
	maxExclude = 3
	// significant is how many bytes of a language make it one of a repository's.
	significant = 3000
)

var priorities = []string{"critical", "high", "medium", "low"}

func (p *actions) validate(report func(key, text string)) {
	p.acting.validate(report, false)
	for i, g := range p.Groups {
		key := fmt.Sprintf("groups[%d]", i)
		for j, s := range g.Repos {
			s.validate(report, fmt.Sprintf("%s.repos[%d]", key, j))
		}
		for j, r := range g.Rules {
			at := fmt.Sprintf("%s.rules[%d]", key, j)
			if r.Method != methodRequire && r.Method != methodAllow && r.Method != methodDeny {
				report(at+".method", fmt.Sprintf("%.100q: it must be require, allow or deny; the rule isn't followed", r.Method))
			}
			if r.Priority != "" && !slices.Contains(priorities, r.Priority) {
				report(at+".priority", fmt.Sprintf("%.100q: it must be critical, high, medium or low; medium is taken", r.Priority))
			}
			for k, a := range r.Actions {
				checkGlob(report, fmt.Sprintf("%s.actions[%d].name", at, k), a.Name)
			}
		}
	}
}

func (s *repoSelector) validate(report func(key, text string), key string) {
	if s == nil {
		return
	}
	checkGlob(report, key+".name", s.Name)
	for i, e := range s.Exclude {
		e.validate(report, fmt.Sprintf("%s.exclude[%d]", key, i))
	}
}

// active reports whether the organisation has rules at all.
func (p *actions) active() bool { return p.Groups != nil }

func (r actionRule) String() string {
	name := "a rule without a name"
	if r.Name != "" {
		name = fmt.Sprintf("the rule %q", r.Name)
	}
	if r.group != "" {
		name += fmt.Sprintf(" of the group %q", r.group)
	}
	return name
}

func (s actionSelector) String() string {
	name := s.Name
	if name == "" {
		name = "any action"
	}
	if s.Version != "" {
		name += " " + s.Version
	}
	return name
}

func (r actionRule) priority() int {
	if i := slices.Index(priorities, r.Priority); i >= 0 {
		return i
	}
	return slices.Index(priorities, "medium")
}

// used is an action that a workflow uses.
type used struct {
	name, version string
	workflow      workflow
}

// rules are those for a repository: by priority, and what allows before what
// denies.
func (p *actions) rules(ctx context.Context, r *repository) ([]actionRule, error) {
	var out []actionRule
	for _, g := range p.Groups {
		is := g.Repos == nil
		for _, s := range g.Repos {
			match, err := s.match(ctx, r, maxExclude)
			if err != nil {
				return nil, err
			}
			is = is || match
		}
		if !is {
			continue
		}
		for _, rule := range g.Rules {
			rule.group = g.Name
			out = append(out, rule)
		}
	}
	slices.SortStableFunc(out, func(a, b actionRule) int {
		if d := a.priority() - b.priority(); d != 0 {
			return d
		}
		deny := func(r actionRule) int {
			if r.Method == methodDeny {
				return 1
			}
			return 0
		}
		return deny(a) - deny(b)
	})
	return out, nil
}

func (s *repoSelector) match(ctx context.Context, r *repository, depth int) (bool, error) {
	if s == nil {
		return true, nil
	}
	if s.Name != "" && !matches([]string{s.Name}, r.GetName()) {
		return false, nil
	}
	if s.Language != nil {
		sizes, _, err := r.acct.client.Repositories.ListLanguages(ctx, r.owner(), r.GetName())
		if err != nil {
			return false, plain(err)
		}
		if !speaks(sizes, s.Language) {
			return false, nil
		}
	}
	if depth > 0 {
		for _, e := range s.Exclude {
			if is, err := e.match(ctx, r, depth-1); is || err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// speaks reports whether one of the languages is the repository's first, or has
// a considerable part of it.
func speaks(sizes map[string]int, want []string) bool {
	top := 0
	for _, n := range sizes {
		top = max(top, n)
	}
	for name, n := range sizes {
		if (n > significant || n == top) && slices.ContainsFunc(want, func(w string) bool { return strings.EqualFold(w, name) }) {
			return true
		}
	}
	return false
}

func (p *actions) judge(ctx context.Context, r *repository) (verdict, error) {
	rules, err := p.rules(ctx, r)
	if err != nil {
		return verdict{}, err
	}
	flows, err := r.workflows(ctx, r.GetDefaultBranch())
	if err != nil {
		return verdict{}, err
	}
	var all []used
	for _, w := range flows {
		for _, s := range w.steps {
			if name, version, ok := strings.Cut(s.uses, "@"); ok && !s.workflow {
				all = append(all, used{name, version, w})
			}
		}
	}
	var found []string
	var unsure error
	for _, a := range all {
		text, err := denied(ctx, r, rules, a)
		if errors.Is(err, errUnjudged) {
			unsure = err // others may be denied for sure
			continue
		}
		if err != nil {
			return verdict{}, err
		}
		if text != "" && !slices.Contains(found, text) {
			found = append(found, text)
		}
	}
	for _, rule := range rules {
		if rule.Method != methodRequire {
			continue
		}
		text, err := missingActions(ctx, r, rule, all)
		if err != nil {
			return verdict{}, err
		}
		if text != "" {
			found = append(found, text)
		}
	}
	if len(found) == 0 && unsure != nil {
		return verdict{}, unsure
	}
	if len(found) == 0 {
		return passed(fmt.Sprintf("The %d actions that workflows use meet the organisation's %d rules.", len(all), len(rules))), nil
	}
	return failed("Workflows don't use actions as the organisation's rules (actions.yaml in its configuration) require:\n\n- %s\n", strings.Join(found, "\n- ")), nil
}

// denied says why an action may not be used; empty if it may.
func denied(ctx context.Context, r *repository, rules []actionRule, a used) (string, error) {
	for _, rule := range rules {
		is := rule.Actions == nil
		var unsure error
		for _, s := range rule.Actions {
			match, _, err := s.match(ctx, r, a)
			switch {
			case errors.Is(err, errVersion):
				unsure = unjudged("%s@%s, used in %s: %v, so whether %s denies it can't be told; name a version of it", a.name, a.version, a.workflow.file, err, rule)
			case err != nil:
				return "", err
			}
			is = is || match
		}
		switch {
		case !is && unsure != nil && rule.Method == methodDeny:
			return "", unsure
		case !is:
		case rule.Method == methodAllow, rule.Method == methodRequire:
			return "", nil
		case rule.Method == methodDeny:
			return fmt.Sprintf("%s@%s, used in %s, is denied by %s; use another action, or ask the organisation's owners to allow it", a.name, a.version, a.workflow.file, rule), nil
		}
	}
	return "", nil
}

// missingActions says what a rule requires that isn't there; empty if all is.
func missingActions(ctx context.Context, r *repository, rule actionRule, all []used) (string, error) {
	need := 1
	if rule.RequireAll {
		need = len(rule.Actions)
	}
	have := 0
	var todo []string
	for _, s := range rule.Actions {
		what := fmt.Sprintf("add %s to a workflow that runs on pull_request and push", s)
		satisfied := false
		for _, a := range all {
			ok, fix, err := required(ctx, r, rule, s, a)
			if err != nil {
				return "", err
			}
			if fix != "" {
				what = fix
			}
			if satisfied = ok; ok || fix != "" {
				break
			}
		}
		if satisfied {
			have++
		} else {
			todo = append(todo, what)
		}
	}
	if have >= need {
		return "", nil
	}
	return fmt.Sprintf("%s requires %d of its actions and has %d; %d of these will do:\n  - %s", rule, need, have, need-have, strings.Join(todo, "\n  - ")), nil
}

// required reports whether a used action is what a rule requires; if it is but
// for one thing, fix says which.
func required(ctx context.Context, r *repository, rule actionRule, s actionSelector, a used) (ok bool, fix string, err error) {
	match, named, err := s.match(ctx, r, a)
	switch {
	case err != nil && !errors.Is(err, errVersion):
		return false, "", err
	case !match && named:
		return false, fmt.Sprintf("update %s in %s from %s to a version that is %s", a.name, a.workflow.file, a.version, s.Version), nil
	case !match:
		return false, "", nil
	case !slices.Contains(a.workflow.on, "pull_request") || !slices.Contains(a.workflow.on, "push"):
		return false, fmt.Sprintf("have the workflow %q, which uses %s, run on pull_request and push", a.workflow.name, a.name), nil
	case !rule.MustPass:
		return true, "", nil
	}
	sha, err := r.at(ctx, r.GetDefaultBranch())
	if err != nil {
		return false, "", err
	}
	runs, _, err := r.acct.client.Actions.ListWorkflowRunsByFileName(ctx, r.owner(), r.GetName(), a.workflow.file,
		&gh.ListWorkflowRunsOptions{Event: "push", ListOptions: gh.ListOptions{PerPage: perPage}})
	if err != nil {
		return false, "", plain(err)
	}
	for _, run := range runs.WorkflowRuns {
		if run.GetHeadSHA() != sha {
			continue
		}
		if run.GetConclusion() == "success" || slices.Contains([]string{"in_progress", "queued", "waiting", "requested", "pending"}, run.GetStatus()) {
			return true, "", nil
		}
		break
	}
	return false, fmt.Sprintf("mend the workflow %q, which uses %s: it didn't succeed on the newest commit", a.workflow.name, a.name), nil
}

// errVersion means that an action is used by a reference that no version is known
// of, such as a branch.
var errVersion = errors.New("no version is known of this reference")

// match reports whether a selector is for a used action; named, whether it is
// but for the version. errVersion comes with the answer for one that isn't known.
func (s actionSelector) match(ctx context.Context, r *repository, a used) (match, named bool, err error) {
	if s.Name != "" && !matches([]string{s.Name}, a.name) {
		return false, false, nil
	}
	if s.Version == "" || s.Version == a.version {
		return true, true, nil
	}
	constraint, err := semver.NewConstraint(s.Version)
	if err != nil {
		return false, true, nil // a ref, and not this one
	}
	v, err := r.tags.version(ctx, r, a)
	if err == nil && v == nil {
		err = errVersion
	}
	if err != nil {
		return false, true, err
	}
	return constraint.Check(v), true, nil
}

// maxTags bounds the tags of one action that are kept.
const maxTags = 5000

// tagLoader knows the versions that commits of actions are, for all
// repositories of one cycle.
type tagLoader struct {
	m *memory

	turn  turn                         // guards byRef, and a request under way
	byRef map[string]map[string]string // repository → commit → tag
}

// version is what a used action's reference stands for; nil if that isn't known.
func (t *tagLoader) version(ctx context.Context, r *repository, a used) (*semver.Version, error) {
	if v, err := semver.NewVersion(a.version); err == nil {
		return v, nil
	}
	parts := strings.SplitN(a.name, "/", 3)
	if len(parts) < 2 || !login.MatchString(parts[0]) || !repoName(parts[1]) {
		return nil, nil
	}
	if err := t.turn.take(ctx); err != nil {
		return nil, err
	}
	defer t.turn.leave()
	key := strings.ToLower(parts[0] + "/" + parts[1])
	if _, ok := t.byRef[key]; !ok {
		tags := map[string]string{}
		ctx = remembering(ctx, t.m)
		for page := 1; page > 0 && len(tags) < maxTags; {
			some, resp, err := r.acct.client.Repositories.ListTags(ctx, parts[0], parts[1], &gh.ListOptions{PerPage: perPage, Page: page})
			if s := status(err); s == http.StatusNotFound || s == http.StatusForbidden {
				break
			}
			if err != nil {
				return nil, plain(err)
			}
			for _, tag := range some {
				// The longest name is the most exact one: v4.2.1 beside v4.
				if sha := tag.GetCommit().GetSHA(); len(tag.GetName()) > len(tags[sha]) {
					if _, err := semver.NewVersion(tag.GetName()); err == nil {
						tags[sha] = tag.GetName()
					}
				}
			}
			page = resp.NextPage
		}
		t.byRef[key] = tags
	}
	v, err := semver.NewVersion(t.byRef[key][a.version])
	if err != nil {
		return nil, nil
	}
	return v, nil
}
