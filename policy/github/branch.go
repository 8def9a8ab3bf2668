package github

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	gh "github.com/google/go-github/v89/github"
)

// branchProtection is the policy Branch Protection: what changes of a branch
// must go through. Branch protection and rulesets count alike.
type branchProtection struct {
	acting
	EnforceDefault          bool                `key:"enforceDefault"`
	EnforceBranches         map[string][]string `key:"enforceBranches" layer:"org"`
	MoreBranches            []string            `key:"enforceBranches" layer:"repo,add,always"`
	RequireApproval         bool                `key:"requireApproval"`
	RequireCodeOwnerReviews bool                `key:"requireCodeOwnerReviews"`
	ApprovalCount           int                 `key:"approvalCount"`
	DismissStale            bool                `key:"dismissStale"`
	BlockForce              bool                `key:"blockForce"`
	EnforceOnAdmins         bool                `key:"enforceOnAdmins"`
	RequireUpToDateBranch   bool                `key:"requireUpToDateBranch"`
	RequireStatusChecks     []statusCheck       `key:"requireStatusChecks"`
	RequireSignedCommits    bool                `key:"requireSignedCommits"`
}

// statusCheck is a check that must succeed before a merge, by any app or one.
type statusCheck struct {
	Context string `key:"context"`
	AppID   *int64 `key:"appID"`
}

func (c statusCheck) String() string {
	if c.AppID != nil {
		return fmt.Sprintf("%q of the app %d", c.Context, *c.AppID)
	}
	return fmt.Sprintf("%q", c.Context)
}

func newBranchProtection() *branchProtection {
	return &branchProtection{
		acting: acting{actLog}, EnforceDefault: true, RequireApproval: true, ApprovalCount: 1,
		DismissStale: true, BlockForce: true, RequireUpToDateBranch: true,
	}
}

const maxApprovals = 6 // GitHub's

func (p *branchProtection) validate(report func(key, text string)) {
	p.acting.validate(report, true)
	if n := p.ApprovalCount; n < 0 || n > maxApprovals {
		p.ApprovalCount = max(0, min(n, maxApprovals))
		report("approvalCount", fmt.Sprintf("%d: GitHub can require 0 to %d; %d is taken", n, maxApprovals, p.ApprovalCount))
	}
	for i, c := range p.RequireStatusChecks {
		if c.Context == "" {
			report(fmt.Sprintf("requireStatusChecks[%d].context", i), "the name of the check is missing")
		}
	}
}

// approvals is how many are needed.
func (p *branchProtection) approvals() int {
	if !p.RequireApproval {
		return 0
	}
	return p.ApprovalCount
}

// targets are the branches that are checked, each once.
func (p *branchProtection) targets(r *repository) []string {
	all := slices.Concat(p.EnforceBranches[r.GetName()], p.MoreBranches)
	if p.EnforceDefault {
		all = append(all, r.GetDefaultBranch())
	}
	var out []string
	for _, b := range all {
		if b != "" && !slices.Contains(out, b) {
			out = append(out, b)
		}
	}
	return out
}

// guard is what protects a branch, by protection and rulesets together.
type guard struct {
	// classic is the branch's own protection; nil: none.
	classic *gh.Protection
	rules   *gh.BranchRules
	// unavailable says that the owner's plan has no protection for the
	// repository.
	unavailable bool

	reviews      bool
	approvals    int
	dismissStale bool
	codeOwners   bool
	blockForce   bool
	onAdmins     bool
	checks       []statusCheck
	hasChecks    bool
	upToDate     bool
	signed       bool
}

func (g *guard) protected() bool { return g.classic != nil || g.ruled() }

// ruled reports whether a ruleset has any of the rules that matter here.
func (g *guard) ruled() bool {
	r := g.rules
	return r != nil && len(r.PullRequest)+len(r.RequiredStatusChecks)+len(r.RequiredSignatures)+len(r.NonFastForward)+
		len(r.Deletion)+len(r.Creation)+len(r.Update)+len(r.RequiredLinearHistory)+len(r.MergeQueue)+len(r.RequiredDeployments)+len(r.Workflows)+len(r.CodeScanning) > 0
}

func (p *branchProtection) judge(ctx context.Context, r *repository) (verdict, error) {
	branches, err := r.branches(ctx)
	if err != nil {
		return verdict{}, err
	}
	if len(branches) == 0 {
		return passed("The repository has no branches to protect."), nil
	}
	targets := p.targets(r)
	if len(targets) == 0 {
		return passed("The policy names no branch to protect."), nil
	}
	var found []string
	for _, b := range targets {
		g, err := p.guard(ctx, r, b)
		if err != nil {
			return verdict{}, err
		}
		if g.unavailable && !g.protected() {
			return failed("Branch protection is required, but it isn't available for this repository: GitHub offers it for public repositories, and for private ones by a paid plan.\n\n" +
				"Make the repository public, change the plan (https://docs.github.com/repositories/configuring-branches-and-merges-in-your-repository/managing-protected-branches/about-protected-branches), or opt the repository out of this policy."), nil
		}
		if !g.protected() {
			what := "it has no protection"
			if there, err := r.branch(ctx, b); err == nil && there == nil {
				what = "there is no such branch, and nothing protects its name"
			}
			found = append(found, fmt.Sprintf("%s: %s", b, what))
			continue
		}
		for _, f := range p.missing(g) {
			found = append(found, b+": "+f)
		}
	}
	if len(found) == 0 {
		return passed(fmt.Sprintf("Protected as required: %s.", strings.Join(targets, ", "))), nil
	}
	return failed("Branches lack protection that the organisation requires:\n\n%s\nAn administrator of the repository can change it at %s (Settings → Branches, or Settings → Rules → Rulesets).\n"+
		"See https://docs.github.com/repositories/configuring-branches-and-merges-in-your-repository/managing-protected-branches/about-protected-branches.",
		"- "+strings.Join(found, "\n- ")+"\n", r.url("settings", "branches")), nil
}

// missing says what a branch lacks.
func (p *branchProtection) missing(g *guard) (out []string) {
	lacks := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	switch {
	case g.reviews:
		if p.DismissStale && !g.dismissStale {
			lacks("approvals aren't dismissed when new commits are pushed")
		}
		if g.approvals < p.approvals() {
			lacks("%d approvals are required, %d must be", g.approvals, p.approvals())
		}
		if p.RequireCodeOwnerReviews && !g.codeOwners {
			lacks("a review by code owners isn't required")
		}
	case p.RequireApproval || p.RequireCodeOwnerReviews:
		lacks("approval of pull requests isn't required")
	}
	if p.BlockForce && !g.blockForce {
		lacks("force pushes aren't blocked")
	}
	if p.EnforceOnAdmins && !g.onAdmins {
		lacks("administrators are exempt from the rules")
	}
	if len(p.RequireStatusChecks) > 0 {
		switch {
		case !g.hasChecks:
			lacks("no status checks are required")
		default:
			if p.RequireUpToDateBranch && !g.upToDate {
				lacks("branches needn't be up to date before they are merged")
			}
			for _, c := range p.RequireStatusChecks {
				if !hasCheck(g.checks, c) {
					lacks("the status check %s isn't required", c)
				}
			}
		}
	}
	if p.RequireSignedCommits && !g.signed {
		lacks("signed commits aren't required")
	}
	return out
}

// hasCheck reports whether a check is among those that are required: one that
// any app may give is satisfied by that of one.
func hasCheck(checks []statusCheck, c statusCheck) bool {
	return slices.ContainsFunc(checks, func(h statusCheck) bool {
		return h.Context == c.Context && (c.AppID == nil || h.AppID != nil && *h.AppID == *c.AppID)
	})
}

// guard finds out what protects a branch.
func (p *branchProtection) guard(ctx context.Context, r *repository, branch string) (*guard, error) {
	g := &guard{}
	if err := p.classic(ctx, r, branch, g); err != nil {
		return nil, err
	}
	rules, err := r.rules(ctx, branch)
	if err != nil {
		return nil, err
	}
	g.rules = rules
	if !g.ruled() {
		return g, nil
	}
	if p.EnforceOnAdmins && (g.classic == nil || g.onAdmins) {
		if g.onAdmins, err = p.bindsAdmins(ctx, r, g); err != nil {
			return nil, err
		}
	}
	g.rule(rules, nil)
	return g, nil
}

// rule adds what rulesets require, without those that are left out.
func (g *guard) rule(rules *gh.BranchRules, without map[int64]bool) {
	for _, pr := range rules.PullRequest {
		if without[pr.RulesetID] {
			continue
		}
		g.reviews = true
		g.approvals = max(g.approvals, pr.Parameters.RequiredApprovingReviewCount)
		g.dismissStale = g.dismissStale || pr.Parameters.DismissStaleReviewsOnPush
		g.codeOwners = g.codeOwners || pr.Parameters.RequireCodeOwnerReview
	}
	for _, c := range rules.RequiredStatusChecks {
		if without[c.RulesetID] {
			continue
		}
		g.hasChecks = true
		g.upToDate = g.upToDate || c.Parameters.StrictRequiredStatusChecksPolicy
		for _, s := range c.Parameters.RequiredStatusChecks {
			g.checks = append(g.checks, statusCheck{s.Context, s.IntegrationID})
		}
	}
	binding := func(m *gh.BranchRuleMetadata) bool { return !without[m.RulesetID] }
	g.blockForce = g.blockForce || slices.ContainsFunc(rules.NonFastForward, binding)
	g.signed = g.signed || slices.ContainsFunc(rules.RequiredSignatures, binding)
}

// classic reads a branch's own protection.
func (p *branchProtection) classic(ctx context.Context, r *repository, branch string, g *guard) error {
	b, err := r.branch(ctx, branch)
	if err != nil {
		return err
	}
	asOf := ""
	if b != nil && b.Protected != nil && !*b.Protected {
		asOf = b.GetCommit().GetSHA() + " unprotected"
	}
	got, _, err := r.acct.client.Repositories.GetBranchProtection(holds(ctx, asOf, false), r.owner(), r.GetName(), branch)
	switch status(err) {
	case http.StatusNotFound:
		return nil
	case http.StatusForbidden:
		if !strings.Contains(err.Error(), upgrade) {
			return unjudged("the protection of %s can't be seen; the App needs the permission Administration: read: %v", branch, plain(err))
		}
		g.unavailable = true
		return nil
	}
	if err != nil {
		return plain(err)
	}
	g.classic = got
	if rev := got.GetRequiredPullRequestReviews(); rev != nil {
		g.reviews, g.approvals = true, rev.RequiredApprovingReviewCount
		g.dismissStale, g.codeOwners = rev.DismissStaleReviews, rev.RequireCodeOwnerReviews
	}
	g.blockForce = got.AllowForcePushes == nil || !got.AllowForcePushes.Enabled
	g.onAdmins = got.EnforceAdmins != nil && got.EnforceAdmins.Enabled
	if c := got.GetRequiredStatusChecks(); c != nil {
		g.hasChecks, g.upToDate = true, c.Strict
		for _, s := range c.GetChecks() {
			id := s.AppID
			if id != nil && *id < 0 {
				id = nil // any app
			}
			g.checks = append(g.checks, statusCheck{s.Context, id})
		}
		for _, s := range c.GetContexts() {
			if !hasCheck(g.checks, statusCheck{Context: s}) {
				g.checks = append(g.checks, statusCheck{Context: s})
			}
		}
	}
	if got.RequiredSignatures != nil {
		g.signed = got.RequiredSignatures.GetEnabled()
	} else if p.RequireSignedCommits {
		s, _, err := r.acct.client.Repositories.GetSignaturesProtectedBranch(ctx, r.owner(), r.GetName(), branch)
		switch status(err) {
		case http.StatusNotFound:
			err = nil
		case http.StatusForbidden:
			err = unjudged("whether %s requires signed commits can't be seen; the App needs the permission Administration: read", branch)
		}
		if err != nil {
			return plain(err)
		}
		g.signed = s.GetEnabled()
	}
	return nil
}

// rules are those of all rulesets that are in force for a branch.
func (r *repository) rules(ctx context.Context, branch string) (*gh.BranchRules, error) {
	sha, err := r.at(ctx, branch)
	if err != nil {
		return nil, err
	}
	all := &gh.BranchRules{}
	for page, n := 1, 0; n < maxPages; n++ {
		some, resp, err := r.acct.client.Repositories.ListRulesForBranch(holds(ctx, sha, false), r.owner(), r.GetName(), url.PathEscape(branch), &gh.ListOptions{PerPage: perPage, Page: page})
		switch status(err) {
		case http.StatusNotFound: // an older server
			return all, nil
		case http.StatusForbidden:
			if strings.Contains(err.Error(), upgrade) {
				return all, nil
			}
		}
		if err != nil {
			return nil, plain(err)
		}
		add(all, some)
		if resp.NextPage == 0 {
			break
		}
		page = resp.NextPage
	}
	return all, nil
}

// upgrade begins what GitHub says where the owner's plan hasn't what is asked
// for.
const upgrade = "Upgrade to "

func add(to, more *gh.BranchRules) {
	to.PullRequest = append(to.PullRequest, more.PullRequest...)
	to.RequiredStatusChecks = append(to.RequiredStatusChecks, more.RequiredStatusChecks...)
	to.RequiredSignatures = append(to.RequiredSignatures, more.RequiredSignatures...)
	to.NonFastForward = append(to.NonFastForward, more.NonFastForward...)
	to.Deletion = append(to.Deletion, more.Deletion...)
	to.Creation = append(to.Creation, more.Creation...)
	to.Update = append(to.Update, more.Update...)
	to.RequiredLinearHistory = append(to.RequiredLinearHistory, more.RequiredLinearHistory...)
	to.MergeQueue = append(to.MergeQueue, more.MergeQueue...)
	to.RequiredDeployments = append(to.RequiredDeployments, more.RequiredDeployments...)
	to.Workflows = append(to.Workflows, more.Workflows...)
	to.CodeScanning = append(to.CodeScanning, more.CodeScanning...)
}

// adminRole is the number of the role Admin of repositories among those that a
// ruleset can be bypassed by; the roles below it have smaller ones.
const adminRole = 5

// bindsAdmins reports whether administrators are bound by all that the policy
// requires of the branch: what a ruleset adds to g, which is its own protection,
// counts only if the ruleset doesn't let them past.
func (p *branchProtection) bindsAdmins(ctx context.Context, r *repository, g *guard) (bool, error) {
	past := map[int64]bool{}
	binds, unseen := g.classic != nil, ""
	for _, id := range rulesets(g.rules) {
		set, _, err := r.acct.client.Repositories.GetRuleset(ctx, r.owner(), r.GetName(), id, true)
		if err != nil {
			return false, plain(err)
		}
		if set.BypassActors == nil {
			unseen = set.Name
		}
		past[id] = set.BypassActors == nil || slices.ContainsFunc(set.BypassActors, isAdmin)
		binds = binds || !past[id]
	}
	g.checks = slices.Clip(g.checks)
	whole, bound := *g, *g
	whole.rule(g.rules, nil)
	bound.rule(g.rules, past)
	whole.onAdmins, bound.onAdmins = true, true
	lacking := p.missing(&whole)
	binds = binds && !slices.ContainsFunc(p.missing(&bound), func(s string) bool { return !slices.Contains(lacking, s) })
	if !binds && unseen != "" {
		return false, unjudged("who may bypass the ruleset %q can't be seen; the App needs the permission Administration: write", unseen)
	}
	return binds, nil
}

// rulesets are those that have the rules that a policy can require.
func rulesets(rules *gh.BranchRules) (ids []int64) {
	for _, r := range rules.PullRequest {
		ids = append(ids, r.RulesetID)
	}
	for _, r := range rules.RequiredStatusChecks {
		ids = append(ids, r.RulesetID)
	}
	for _, r := range slices.Concat(rules.RequiredSignatures, rules.NonFastForward) {
		ids = append(ids, r.RulesetID)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// isAdmin reports whether an administrator of the repository is among those whom
// a ruleset lets past.
func isAdmin(a *gh.BypassActor) bool {
	switch {
	case a.ActorType == nil:
		return false
	case *a.ActorType == gh.BypassActorTypeRepositoryRole:
		return a.GetActorID() <= adminRole
	}
	return *a.ActorType == gh.BypassActorTypeOrganizationAdmin
}
