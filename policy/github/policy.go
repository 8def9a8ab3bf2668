package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"

	gh "github.com/google/go-github/v89/github"

	"reeve.dev/reeve/policy"
)

// rule is the settings of one policy, as they hold for one repository.
type rule interface {
	// judge checks the repository. An error means that it couldn't be judged.
	judge(ctx context.Context, r *repository) (verdict, error)
	// action is what the outcome leads to.
	action() string
}

// fixer is a rule that can mend what it found.
type fixer interface {
	// fix does so, and says what it did.
	fix(ctx context.Context, r *repository) ([]string, error)
}

// verdict is what a rule found, and the text for whoever must act.
type verdict struct {
	pass bool
	text string
}

func passed(text string) verdict { return verdict{true, text} }

func failed(format string, args ...any) verdict { return verdict{text: fmt.Sprintf(format, args...)} }

// policies are Allstar's, with the names that its issues and alerts have.
var policies = []struct {
	name, file string
	defaults   func() rule
}{
	{"Binary Artifacts", "binary_artifacts.yaml", func() rule { return &binaryArtifacts{acting: acting{"log"}} }},
	{"Branch Protection", "branch_protection.yaml", func() rule { return newBranchProtection() }},
	{"CODEOWNERS", "codeowners.yaml", func() rule { return &codeowners{acting: acting{"log"}} }},
	{"Outside Collaborators", "outside.yaml", func() rule { return &outside{acting: acting{"log"}, PushAllowed: true} }},
	{"OpenSSF Scorecard", "scorecard.yaml", func() rule { return &scorecard{acting: acting{"log"}, Threshold: maxScore} }},
	{"SECURITY.md", "security.yaml", func() rule { return &securityPolicy{acting: acting{"log"}} }},
	{"Dangerous Workflow", "dangerous_workflow.yaml", func() rule { return &dangerousWorkflow{acting: acting{"log"}} }},
	{"GitHub Actions", "actions.yaml", func() rule { return &actions{acting: acting{"log"}} }},
	{"Repository Administrators", "admin.yaml", func() rule {
		return &administrators{acting: acting{"log"}, UserAdminsAllowed: true, TeamAdminsAllowed: true}
	}},
}

// fileNames are all files of configuration.
func fileNames() []string {
	names := []string{botFile}
	for _, p := range policies {
		names = append(names, p.file)
	}
	return names
}

// defaultsOf are the settings of a file that says nothing.
func defaultsOf(file string) any {
	for _, p := range policies {
		if p.file == file {
			return p.defaults()
		}
	}
	return &botSettings{}
}

// acting is the key action, which all policies have.
type acting struct {
	Action string `key:"action"`
}

// The actions of Allstar's files; a sink's KIND/NAME, as in policy.Action, may
// be there, too.
const (
	actLog   = "log"
	actIssue = "issue"
	actFix   = "fix"
	actRPC   = "rpc"
)

func (a acting) action() string { return a.Action }

// validate puts log in the place of an action that there isn't.
func (a *acting) validate(report func(key, text string), fixes bool) {
	_, err := policy.ParseAction(a.Action)
	switch {
	case a.Action == actFix && fixes, err == nil && !strings.HasPrefix(a.Action, actFix+"/"):
		return
	case a.Action == actFix:
		report("action", "fix: Reeve can't mend what this policy finds; log is taken")
	default:
		report("action", fmt.Sprintf("%.100q: it must be log, issue, fix, rpc, or a sink of the hub's, such as webhook/NAME; log is taken", a.Action))
	}
	a.Action = actLog
}

// repository is one repository in one cycle. What is asked for more than once is
// kept; it is used by one goroutine.
type repository struct {
	*gh.Repository
	acct *account
	conn *connection
	bot  *botSettings
	// security answers for the SECURITY.md policy.
	security *securityLoader
	tags     *tagLoader
	scores   *scores

	branchesOnce sync.Once
	branchList   []*gh.Branch
	branchesErr  error
	trees        map[string]folder
	flows        map[string][]workflow
}

func (r *repository) owner() string { return r.acct.login }
func (r *repository) full() string  { return r.owner() + "/" + r.GetName() }

// url is a page of the repository for people.
func (r *repository) url(more ...string) string {
	return r.conn.web.String() + "/" + path.Join(append([]string{r.owner(), r.GetName()}, more...)...)
}

// branches lists all branches; none if the repository is empty.
func (r *repository) branches(ctx context.Context) ([]*gh.Branch, error) {
	r.branchesOnce.Do(func() {
		r.branchList, r.branchesErr = pages(func(page int) ([]*gh.Branch, *gh.Response, error) {
			return r.acct.client.Repositories.ListBranches(ctx, r.owner(), r.GetName(),
				&gh.BranchListOptions{ListOptions: gh.ListOptions{PerPage: perPage, Page: page}})
		})
		if status(r.branchesErr) == http.StatusConflict {
			r.branchList, r.branchesErr = nil, nil
		}
		r.branchesErr = plain(r.branchesErr)
	})
	return r.branchList, r.branchesErr
}

// branch finds one; nil if there is none.
func (r *repository) branch(ctx context.Context, name string) (*gh.Branch, error) {
	all, err := r.branches(ctx)
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(all, func(b *gh.Branch) bool { return b.GetName() == name }); i >= 0 {
		return all[i], nil
	}
	return nil, nil
}

// at is the commit that a branch is at; empty if it isn't known. It stands for
// all contents there.
func (r *repository) at(ctx context.Context, branch string) (string, error) {
	b, err := r.branch(ctx, branch)
	if err != nil || b == nil {
		return "", err
	}
	return b.GetCommit().GetSHA(), nil
}

// contents has the requests of ctx answered from what is known of the commit
// that a branch is at.
func (r *repository) contents(ctx context.Context, branch string) (context.Context, error) {
	sha, err := r.at(ctx, branch)
	return holds(ctx, sha, true), err
}

// folder is what a folder has: each entry's type by its name. Some may be
// missing unless it is whole.
type folder struct {
	entries map[string]string
	whole   bool
}

// list is a folder on a branch.
func (r *repository) list(ctx context.Context, branch, dir string) (folder, error) {
	key := branch + "\x00" + dir
	if e, ok := r.trees[key]; ok {
		return e, nil
	}
	ctx, err := r.contents(ctx, branch)
	if err != nil {
		return folder{}, err
	}
	var f folder
	if f.entries, f.whole, err = r.acct.list(ctx, r.owner(), r.GetName(), dir, r.ref(branch)); err != nil {
		return folder{}, err
	}
	if r.trees == nil {
		r.trees = map[string]folder{}
	}
	r.trees[key] = f
	return f, nil
}

// ref is how a branch is named in a request: not at all if it is the default, and
// otherwise so that no tag is taken for it.
func (r *repository) ref(branch string) string {
	if branch == r.GetDefaultBranch() {
		return ""
	}
	return "refs/heads/" + branch
}

// lines words a list for people, and no more than the first ones.
func lines(what string, list []string) string {
	const shown = 10
	var b strings.Builder
	for _, l := range list[:min(len(list), shown)] {
		fmt.Fprintf(&b, "- %s\n", l)
	}
	if more := len(list) - shown; more > 0 {
		fmt.Fprintf(&b, "- and %d more %s\n", more, what)
	}
	return b.String()
}

// errUnjudged begins the reasons why a rule can't be judged by what GitHub says.
var errUnjudged = errors.New("it can't be judged")

func unjudged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUnjudged, fmt.Sprintf(format, args...))
}
