package github

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	gh "github.com/google/go-github/v89/github"
)

const (
	workflowDir   = ".github/workflows"
	maxWorkflows  = 200
	maxBranches   = 500
	maxWorkflow   = 1 << 20
	defaultBranch = "default" // in branchList
)

// workflow is what matters here of a file of GitHub Actions.
type workflow struct {
	file string
	name string
	// on are the events that it runs at.
	on    []string
	steps []step
}

// step is one of a job's steps, or a job that is another workflow.
type step struct {
	line int
	uses string
	// workflow says that uses names a workflow, not an action.
	workflow bool
	run      string
	with     map[string]string // what matters of it
}

// maxWork bounds what aliases can make of a small file, in bytes.
const maxWork = 16 << 20

var errWork = errors.New("its aliases make too much of it")

// parseWorkflow reads a workflow.
func parseWorkflow(file, text string) (workflow, error) {
	w := workflow{file: file, name: file}
	if len(text) > maxWorkflow {
		return w, fmt.Errorf("it is longer than %d bytes", maxWorkflow)
	}
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		return w, err
	}
	if len(root.Content) == 0 {
		return w, nil
	}
	top := resolved(root.Content[0])
	if top.Kind != yaml.MappingNode {
		return w, fmt.Errorf("it must be a mapping")
	}
	if n := member(top, "name"); n != nil && n.Value != "" {
		w.name = n.Value
	}
	if on := member(top, "on"); on != nil {
		switch on.Kind {
		case yaml.ScalarNode:
			w.on = []string{on.Value}
		case yaml.SequenceNode:
			for _, n := range on.Content {
				w.on = append(w.on, resolved(n).Value)
			}
		case yaml.MappingNode:
			for i := 0; i+1 < len(on.Content); i += 2 {
				w.on = append(w.on, on.Content[i].Value)
			}
		}
	}
	jobs := member(top, "jobs")
	if jobs == nil || jobs.Kind != yaml.MappingNode {
		return w, nil
	}
	left := maxWork
	for i := 0; i+1 < len(jobs.Content); i += 2 {
		if left < 0 {
			return w, errWork
		}
		job := resolved(jobs.Content[i+1])
		if n := member(job, "uses"); n != nil {
			w.steps = append(w.steps, step{line: n.Line, uses: n.Value, workflow: true, with: texts(member(job, "with"), &left)})
		}
		steps := member(job, "steps")
		if steps == nil || steps.Kind != yaml.SequenceNode {
			continue
		}
		for _, n := range steps.Content {
			if left < 0 {
				return w, errWork
			}
			n = resolved(n)
			s := step{line: n.Line, with: texts(member(n, "with"), &left)}
			if u := member(n, "uses"); u != nil {
				s.uses, s.line = u.Value, u.Line
			}
			if r := member(n, "run"); r != nil {
				s.run, s.line = r.Value, r.Line
			}
			left -= 64 + 32*len(n.Content) + len(s.run)
			w.steps = append(w.steps, s)
		}
	}
	return w, nil
}

func resolved(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// member is a mapping's; nil if there is none.
func member(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return resolved(n.Content[i+1])
		}
	}
	return nil
}

// texts are those of a mapping's members that matter; left is lessened by what it
// took.
func texts(n *yaml.Node, left *int) map[string]string {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	out := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key := strings.ToLower(n.Content[i].Value); key == "ref" || key == "repository" || key == "script" {
			out[key] = resolved(n.Content[i+1]).Value
			*left -= len(out[key])
		}
		*left -= 32
	}
	return out
}

// workflows are those of a branch, by their files' names. One that can't be
// understood is one without steps: GitHub doesn't run it either.
func (r *repository) workflows(ctx context.Context, branch string) ([]workflow, error) {
	if w, ok := r.flows[branch]; ok {
		return w, nil
	}
	at, err := r.list(ctx, branch, "")
	if err != nil {
		return nil, err
	}
	if kind := at.entries[path.Dir(workflowDir)]; kind == "dir" || kind == "" && !at.whole {
		if at, err = r.list(ctx, branch, workflowDir); err != nil {
			return nil, err
		}
		if !at.whole {
			return nil, unjudged("GitHub lists only some of the files of %s on %s", workflowDir, branch)
		}
	} else {
		at = folder{}
	}
	entries := at.entries
	if ctx, err = r.contents(ctx, branch); err != nil {
		return nil, err
	}
	var out []workflow
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if !hasFile(entries, true, name) || path.Ext(name) != ".yml" && path.Ext(name) != ".yaml" {
			continue
		}
		if len(out) == maxWorkflows {
			return nil, unjudged("there are more than %d workflows on %s", maxWorkflows, branch)
		}
		text, found, err := r.acct.file(ctx, r.owner(), r.GetName(), path.Join(workflowDir, name), r.ref(branch))
		if err != nil {
			return nil, err
		}
		w, err := parseWorkflow(name, text)
		if errors.Is(err, errWork) {
			return nil, unjudged("%s on %s can't be read: %v", path.Join(workflowDir, name), branch, err)
		}
		if found && err == nil {
			out = append(out, w)
		}
	}
	if r.flows == nil {
		r.flows = map[string][]workflow{}
	}
	r.flows[branch] = out
	return out, nil
}

// dangerousWorkflow is the policy Dangerous Workflow: workflows by which a
// stranger's pull request, issue or comment gets at the repository's secrets.
type dangerousWorkflow struct {
	acting
	BranchList string `key:"branchList" layer:"add,always"`
}

func (p *dangerousWorkflow) validate(report func(key, text string)) { p.acting.validate(report, false) }

// targets are the branches that are looked at: those that are named, or all,
// since a workflow of any branch can be made to run.
func (p *dangerousWorkflow) targets(ctx context.Context, r *repository) ([]string, error) {
	var out []string
	for name := range strings.SplitSeq(p.BranchList, ",") {
		name = strings.TrimSpace(name)
		for _, prefix := range []string{"refs/remotes/origin/", "refs/heads/"} {
			name = strings.TrimPrefix(name, prefix)
		}
		if strings.EqualFold(name, defaultBranch) {
			name = r.GetDefaultBranch()
		}
		if name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	all, err := r.branches(ctx)
	if len(all) > maxBranches {
		return nil, unjudged("there are %d branches; name those that matter in branchList", len(all))
	}
	// The default branch comes first: it is what the text shows.
	slices.SortStableFunc(all, func(a, b *gh.Branch) int {
		switch r.GetDefaultBranch() {
		case a.GetName():
			return -1
		case b.GetName():
			return 1
		}
		return 0
	})
	for _, b := range all {
		out = append(out, b.GetName())
	}
	return out, err
}

func (p *dangerousWorkflow) judge(ctx context.Context, r *repository) (verdict, error) {
	branches, err := p.targets(ctx, r)
	if err != nil {
		return verdict{}, err
	}
	var found, where []string
	for _, b := range branches {
		flows, err := r.workflows(ctx, b)
		if err != nil {
			return verdict{}, err
		}
		clean := true
		for _, w := range flows {
			for _, d := range dangers(w) {
				clean = false
				if d = "`" + path.Join(workflowDir, w.file) + "` " + d; !slices.Contains(found, d) {
					found = append(found, d)
				}
			}
		}
		if !clean {
			where = append(where, b)
		}
	}
	if len(found) == 0 {
		return passed("No workflow has a dangerous pattern that is known."), nil
	}
	return failed("Workflows of GitHub Actions let strangers run code with the repository's secrets and rights:\n\n%s\nOn the branches: %s. Each branch matters, since events can run its workflows.\n\n"+
		"- Don't check out a pull request's code in a workflow that runs on pull_request_target or workflow_run: https://securitylab.github.com/resources/github-actions-preventing-pwn-requests/\n"+
		"- Hand what others wrote (titles, bodies, branch names) to a script through env, never by ${{ }} in its text: https://docs.github.com/actions/security-for-github-actions/security-guides/security-hardening-for-github-actions#understanding-the-risk-of-script-injections\n",
		lines("patterns", found), strings.Join(where[:min(len(where), 20)], ", ")), nil
}

// Events that run with the base repository's secrets on what others propose.
var privileged = []string{"pull_request_target", "workflow_run"}

var (
	expression = regexp.MustCompile(`\$\{\{(.*?)\}\}`)
	// foreign are what others can write, as GitHub's guide to script injections
	// and OpenSSF Scorecard have them.
	foreign = regexp.MustCompile(`github\.head_ref|github\.event\.(issue\.(title|body)|pull_request\.(title|body|head\.(ref|label|repo\.default_branch))|` +
		`discussion\.(title|body)|comment\.body|review\.body|review_comment\.body|pages\b.*\.page_name|` +
		`commits\b.*\.(message|author\.(email|name))|head_commit\.(message|author\.(email|name))|` +
		`workflow_run\.(head_branch|head_commit\.(message|author\.(email|name))|display_title|pull_requests\b.*\.head\.ref)|inputs\.body)`)
	// proposed are references to the code that others propose.
	proposed = regexp.MustCompile(`github\.event\.(pull_request\b|workflow_run\b)|github\.head_ref|refs/pull/`)
)

// dangers are the dangerous patterns of a workflow.
func dangers(w workflow) (out []string) {
	runsProposals := slices.ContainsFunc(w.on, func(e string) bool { return slices.Contains(privileged, e) })
	for _, s := range w.steps {
		name, _, _ := strings.Cut(strings.ToLower(s.uses), "@")
		if runsProposals && name == "actions/checkout" && proposed.MatchString(s.with["ref"]+" "+s.with["repository"]) {
			out = append(out, fmt.Sprintf("line %d: checks out code that others propose, `%s`, with the rights of this repository", s.line, firstLine(s.with["ref"]+s.with["repository"])))
		}
		script := s.run
		if name == "actions/github-script" {
			script = s.with["script"]
		}
		for _, e := range expression.FindAllStringSubmatch(script, -1) {
			if foreign.MatchString(e[1]) {
				out = append(out, fmt.Sprintf("line %d: a script's text contains what others write, `${{ %s }}`", s.line, firstLine(e[1])))
			}
		}
	}
	return out
}
