package github

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	gh "github.com/google/go-github/v89/github"
)

// fix gives each branch the protection that it lacks. What protects it already
// stays: the request that changes a protection replaces it whole, so all of the
// present one is said again. A ruleset isn't changed; a branch that one protects
// gets a protection of its own beside it.
func (p *branchProtection) fix(ctx context.Context, r *repository) ([]string, error) {
	branches, err := r.branches(ctx)
	if err != nil || len(branches) == 0 {
		return nil, err
	}
	var done []string
	for _, name := range p.targets(r) {
		if there, err := r.branch(ctx, name); err != nil || there == nil {
			if err != nil {
				return done, err
			}
			continue // a protection can be had by what exists only
		}
		g, err := p.guard(ctx, r, name)
		if err != nil {
			return done, err
		}
		if g.unavailable {
			return done, fmt.Errorf("branch protection isn't available for this repository")
		}
		if g.protected() && len(p.missing(g)) == 0 {
			continue
		}
		req := p.wanted(g)
		_, _, err = r.acct.client.Repositories.UpdateBranchProtection(ctx, r.owner(), r.GetName(), name, req)
		if err != nil {
			return done, fixError(err)
		}
		if p.RequireSignedCommits && !g.signed {
			if _, _, err := r.acct.client.Repositories.RequireSignaturesOnProtectedBranch(ctx, r.owner(), r.GetName(), name); err != nil {
				return done, fixError(err)
			}
		}
		done = append(done, "the branch "+name+" is protected as required now")
	}
	return done, nil
}

func fixError(err error) error {
	if status(err) == http.StatusForbidden {
		return fmt.Errorf("the App needs the permission Administration: write to protect branches: %w", plain(err))
	}
	return plain(err)
}

// wanted is the present protection of a branch with what the policy requires
// beside it.
func (p *branchProtection) wanted(g *guard) *gh.ProtectionRequest {
	req := present(g.classic)
	req.EnforceAdmins = req.EnforceAdmins || p.EnforceOnAdmins
	if p.BlockForce {
		req.AllowForcePushes = new(bool)
	}
	if p.RequireApproval || p.RequireCodeOwnerReviews {
		rev := req.RequiredPullRequestReviews
		if rev == nil {
			rev = &gh.PullRequestReviewsEnforcementRequest{}
			req.RequiredPullRequestReviews = rev
		}
		rev.DismissStaleReviews = rev.DismissStaleReviews || p.DismissStale
		rev.RequireCodeOwnerReviews = rev.RequireCodeOwnerReviews || p.RequireCodeOwnerReviews
		rev.RequiredApprovingReviewCount = max(rev.RequiredApprovingReviewCount, p.approvals())
	}
	if len(p.RequireStatusChecks) > 0 {
		if req.RequiredStatusChecks == nil {
			req.RequiredStatusChecks = &gh.RequiredStatusChecks{Checks: &[]*gh.RequiredStatusCheck{}}
		}
		c := req.RequiredStatusChecks
		c.Strict = c.Strict || p.RequireUpToDateBranch
		checks := slices.Clone(c.GetChecks())
		var have []statusCheck
		for _, h := range checks {
			have = append(have, statusCheck{h.Context, h.AppID})
		}
		for _, want := range p.RequireStatusChecks {
			if want.Context != "" && !hasCheck(have, want) {
				checks = append(checks, &gh.RequiredStatusCheck{Context: want.Context, AppID: want.AppID})
			}
		}
		c.Checks = &checks
	}
	return req
}

// present says a branch's protection again, as a request. Of the checks that are
// required GitHub takes one of its two lists.
func present(p *gh.Protection) *gh.ProtectionRequest {
	req := &gh.ProtectionRequest{}
	if p == nil {
		return req
	}
	if c := p.RequiredStatusChecks; c != nil {
		checks := slices.Clone(c.GetChecks())
		for _, name := range c.GetContexts() {
			if !slices.ContainsFunc(checks, func(h *gh.RequiredStatusCheck) bool { return h.Context == name }) {
				checks = append(checks, &gh.RequiredStatusCheck{Context: name})
			}
		}
		req.RequiredStatusChecks = &gh.RequiredStatusChecks{Strict: c.Strict, Checks: &checks}
	}
	req.EnforceAdmins = p.EnforceAdmins != nil && p.EnforceAdmins.Enabled
	if p.RequireLinearHistory != nil {
		req.RequireLinearHistory = &p.RequireLinearHistory.Enabled
	}
	if p.AllowForcePushes != nil {
		req.AllowForcePushes = &p.AllowForcePushes.Enabled
	}
	if p.AllowDeletions != nil {
		req.AllowDeletions = &p.AllowDeletions.Enabled
	}
	if p.RequiredConversationResolution != nil {
		req.RequiredConversationResolution = &p.RequiredConversationResolution.Enabled
	}
	if p.BlockCreations != nil {
		req.BlockCreations = p.BlockCreations.Enabled
	}
	if p.LockBranch != nil {
		req.LockBranch = p.LockBranch.Enabled
	}
	if p.AllowForkSyncing != nil {
		req.AllowForkSyncing = p.AllowForkSyncing.Enabled
	}
	if r := p.Restrictions; r != nil {
		req.Restrictions = &gh.BranchRestrictionsRequest{Users: logins(r.Users), Teams: slugs(r.Teams), Apps: appSlugs(r.Apps)}
	}
	if rev := p.RequiredPullRequestReviews; rev != nil {
		req.RequiredPullRequestReviews = &gh.PullRequestReviewsEnforcementRequest{
			DismissStaleReviews: rev.DismissStaleReviews, RequireCodeOwnerReviews: rev.RequireCodeOwnerReviews,
			RequiredApprovingReviewCount: rev.RequiredApprovingReviewCount, RequireLastPushApproval: &rev.RequireLastPushApproval,
		}
		if d := rev.DismissalRestrictions; d != nil {
			users, teams, apps := logins(d.Users), slugs(d.Teams), appSlugs(d.Apps)
			req.RequiredPullRequestReviews.DismissalRestrictionsRequest = &gh.DismissalRestrictionsRequest{Users: &users, Teams: &teams, Apps: &apps}
		}
		if b := rev.BypassPullRequestAllowances; b != nil {
			req.RequiredPullRequestReviews.BypassPullRequestAllowancesRequest = &gh.BypassPullRequestAllowancesRequest{Users: logins(b.Users), Teams: slugs(b.Teams), Apps: appSlugs(b.Apps)}
		}
	}
	return req
}

func logins(users []*gh.User) []string {
	out := []string{}
	for _, u := range users {
		out = append(out, u.GetLogin())
	}
	return out
}

func slugs(teams []*gh.Team) []string {
	out := []string{}
	for _, t := range teams {
		out = append(out, t.GetSlug())
	}
	return out
}

func appSlugs(apps []*gh.App) []string {
	out := []string{}
	for _, a := range apps {
		out = append(out, a.GetSlug())
	}
	return out
}
