package github

import (
	"context"
	"fmt"
	"slices"
	"strings"

	gh "github.com/google/go-github/v89/github"
)

// collaborators are those who were let into the repository: all "direct" ones,
// or only those from "outside" the organisation.
func (r *repository) collaborators(ctx context.Context, affiliation string) ([]*gh.User, error) {
	all, err := pages(func(page int) ([]*gh.User, *gh.Response, error) {
		return r.acct.client.Repositories.ListCollaborators(ctx, r.owner(), r.GetName(),
			&gh.ListCollaboratorsOptions{Affiliation: affiliation, ListOptions: gh.ListOptions{PerPage: perPage, Page: page}})
	})
	return all, plain(err)
}

// adminTeams are the teams that administer the repository.
func (r *repository) adminTeams(ctx context.Context) ([]string, error) {
	all, err := pages(func(page int) ([]*gh.Team, *gh.Response, error) {
		return r.acct.client.Repositories.ListTeams(ctx, r.owner(), r.GetName(), &gh.ListOptions{PerPage: perPage, Page: page})
	})
	var out []string
	for _, t := range all {
		if t.GetPermissions()["admin"] {
			out = append(out, t.GetSlug())
		}
	}
	return out, plain(err)
}

// outside is the policy Outside Collaborators: which rights people may have who
// aren't members of the organisation.
type outside struct {
	acting
	PushAllowed  bool               `key:"pushAllowed"`
	AdminAllowed bool               `key:"adminAllowed"`
	Exemptions   []outsideExemption `key:"exemptions" layer:"org"`
}

type outsideExemption struct {
	User  string `key:"user"`
	Repo  string `key:"repo"`
	Push  bool   `key:"push"`
	Admin bool   `key:"admin"`
}

func (p *outside) validate(report func(key, text string)) {
	p.acting.validate(report, false)
	for i, e := range p.Exemptions {
		if e.User == "" {
			report(fmt.Sprintf("exemptions[%d].user", i), "whom it is for is missing")
		}
		checkGlob(report, fmt.Sprintf("exemptions[%d].repo", i), e.Repo)
	}
}

func checkGlob(report func(key, text string), key, pattern string) {
	if _, err := glob(pattern); err != nil {
		report(key, fmt.Sprintf("%.100q: %v; it is for nothing", pattern, err))
	}
}

// exempt reports whether somebody may have a right. Who may administer may push,
// too.
func (p *outside) exempt(repo, user string, admin bool) bool {
	return slices.ContainsFunc(p.Exemptions, func(e outsideExemption) bool {
		return (e.Admin || e.Push && !admin) && strings.EqualFold(e.User, user) && matches([]string{e.Repo}, repo)
	})
}

func (p *outside) judge(ctx context.Context, r *repository) (verdict, error) {
	people, err := r.collaborators(ctx, "outside")
	if err != nil {
		return verdict{}, err
	}
	var push, admin []string
	for _, u := range people {
		rights := u.GetPermissions()
		if rights.GetPush() && !p.exempt(r.GetName(), u.GetLogin(), false) {
			push = append(push, u.GetLogin())
		}
		if rights.GetAdmin() && !p.exempt(r.GetName(), u.GetLogin(), true) {
			admin = append(admin, u.GetLogin())
		}
	}
	var text strings.Builder
	if len(push) > 0 && !p.PushAllowed {
		fmt.Fprintf(&text, "%d outside collaborators can push:\n%s\n", len(push), lines("people", push))
	}
	if len(admin) > 0 && !p.AdminAllowed {
		fmt.Fprintf(&text, "%d outside collaborators have admin rights:\n%s\n", len(admin), lines("people", admin))
	}
	if text.Len() == 0 {
		return passed("No outside collaborator has rights that the organisation doesn't allow."), nil
	}
	fmt.Fprintf(&text, `Who isn't a member of the organisation isn't seen in its audit of access, doesn't fall under its rules for accounts, and keeps the right until somebody takes it from this repository. One of these helps:

- lower or remove the right at %s
- invite the person into the organisation: %s
- have an owner of the organisation add an exemption to outside.yaml in the organisation's configuration
`, r.url("settings", "access"), r.conn.web.String()+"/orgs/"+r.owner()+"/people")
	return failed("%s", text.String()), nil
}

// administrators is the policy Repository Administrators: who administers a
// repository, and that somebody does.
type administrators struct {
	acting
	OwnerlessAllowed    bool             `key:"ownerlessAllowed"`
	UserAdminsAllowed   bool             `key:"userAdminsAllowed"`
	MaxNumberUserAdmins int              `key:"maxNumberUserAdmins"`
	TeamAdminsAllowed   bool             `key:"teamAdminsAllowed"`
	MaxNumberAdminTeams int              `key:"maxNumberAdminTeams"`
	Exemptions          []adminExemption `key:"exemptions" layer:"org"`
}

// adminExemption is for the repositories of one name. A number in it comes in
// place of the policy's.
type adminExemption struct {
	Repo                string   `key:"repo"`
	OwnerlessAllowed    bool     `key:"ownerlessAllowed"`
	UserAdminsAllowed   bool     `key:"userAdminsAllowed"`
	UserAdmins          []string `key:"userAdmins"`
	MaxNumberUserAdmins int      `key:"maxNumberUserAdmins"`
	TeamAdminsAllowed   bool     `key:"teamAdminsAllowed"`
	TeamAdmins          []string `key:"teamAdmins"`
	MaxNumberAdminTeams int      `key:"maxNumberAdminTeams"`
}

func (p *administrators) validate(report func(key, text string)) {
	p.acting.validate(report, false)
	for _, n := range []struct {
		key string
		n   *int
	}{{"maxNumberUserAdmins", &p.MaxNumberUserAdmins}, {"maxNumberAdminTeams", &p.MaxNumberAdminTeams}} {
		if *n.n < 0 {
			report(n.key, fmt.Sprintf("%d: it must be a number of administrators, or 0 for any", *n.n))
			*n.n = 0
		}
	}
	for i, e := range p.Exemptions {
		checkGlob(report, fmt.Sprintf("exemptions[%d].repo", i), e.Repo)
	}
}

func (p *administrators) judge(ctx context.Context, r *repository) (verdict, error) {
	people, err := r.collaborators(ctx, "direct")
	if err != nil {
		return verdict{}, err
	}
	teams, err := r.adminTeams(ctx)
	if err != nil {
		return verdict{}, err
	}
	var users []string
	for _, u := range people {
		if u.GetPermissions().GetAdmin() {
			users = append(users, u.GetLogin())
		}
	}
	exempt := slices.DeleteFunc(slices.Clone(p.Exemptions), func(e adminExemption) bool { return !matches([]string{e.Repo}, r.GetName()) })
	some := func(is func(adminExemption) bool) bool { return slices.ContainsFunc(exempt, is) }
	var found []string
	lacks := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if len(users)+len(teams) == 0 && !p.OwnerlessAllowed && !some(func(e adminExemption) bool { return e.OwnerlessAllowed }) {
		lacks("nobody administers the repository. Somebody must answer for what is found in it: make a team or a person its administrator, or, if it isn't cared for any more, archive or delete it")
	}
	if len(users) > 0 && !p.UserAdminsAllowed && !some(func(e adminExemption) bool { return e.UserAdminsAllowed || within(users, e.UserAdmins) }) {
		lacks("people are administrators, where only teams may be: %s. Give the right to a team that they are in", strings.Join(users, ", "))
	}
	if n := limit(p.MaxNumberUserAdmins, exempt, func(e adminExemption) int { return e.MaxNumberUserAdmins }); n > 0 && len(users) > n {
		lacks("%d people are administrators, %d may be: %s", len(users), n, strings.Join(users, ", "))
	}
	if len(teams) > 0 && !p.TeamAdminsAllowed && !some(func(e adminExemption) bool { return e.TeamAdminsAllowed || within(teams, e.TeamAdmins) }) {
		lacks("teams are administrators, where only people may be: %s. Give the right to one of their members", strings.Join(teams, ", "))
	}
	if n := limit(p.MaxNumberAdminTeams, exempt, func(e adminExemption) int { return e.MaxNumberAdminTeams }); n > 0 && len(teams) > n {
		lacks("%d teams are administrators, %d may be: %s", len(teams), n, strings.Join(teams, ", "))
	}
	if len(found) == 0 {
		return passed(fmt.Sprintf("Administered by %d people and %d teams.", len(users), len(teams))), nil
	}
	return failed("The repository isn't administered as the organisation requires:\n\n- %s\n\nAn administrator, or an owner of the organisation, can change it at %s.\n"+
		"See https://docs.github.com/organizations/managing-user-access-to-your-organizations-repositories.",
		strings.Join(found, "\n- "), r.url("settings", "access")), nil
}

// limit is the number of the first exemption that has one, or else the policy's.
func limit(n int, exempt []adminExemption, of func(adminExemption) int) int {
	for _, e := range exempt {
		if of(e) > 0 {
			return of(e)
		}
	}
	return n
}

// within reports whether all of some are among others.
func within(some, others []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool {
		return !slices.ContainsFunc(others, func(o string) bool { return strings.EqualFold(s, o) })
	})
}
