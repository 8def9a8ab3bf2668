package github_test

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/policy/github/githubtest"
)

type object = githubtest.Object

// verdict is one line of the table: what is in a repository, what its policy's
// file says, and what that must come to.
type verdict struct {
	name string
	// org and repo are the policy's file in the organisation's configuration, and
	// in the repository.
	org, repo string
	// orgRepo is the file for the repository in the organisation's.
	orgRepo string
	set     func(s *githubtest.Server, r *githubtest.Repo)
	want    policy.Verdict // "": it isn't checked
	// text must be in the details.
	text string
}

func protect(o object) func(*githubtest.Server, *githubtest.Repo) {
	return func(_ *githubtest.Server, r *githubtest.Repo) { r.Protection["main"] = o }
}

func reviews(n int, more ...string) object {
	o := object{"required_approving_review_count": n, "dismiss_stale_reviews": true, "require_code_owner_reviews": false}
	for _, m := range more {
		k, v, _ := strings.Cut(m, "=")
		o[k] = v == "true"
	}
	return object{"required_pull_request_reviews": o}
}

func with(o object, more object) object {
	out := object{}
	for k, v := range o {
		out[k] = v
	}
	for k, v := range more {
		out[k] = v
	}
	return out
}

func on(v bool) object { return object{"enabled": v} }

func checks(strict bool, list ...object) object {
	return object{"required_status_checks": object{"strict": strict, "checks": list}}
}

func rule(kind string, parameters object) object {
	o := object{"type": kind, "ruleset_source_type": "Repository", "ruleset_source": "x", "ruleset_id": 7}
	if parameters != nil {
		o["parameters"] = parameters
	}
	return o
}

func rules(list ...object) func(*githubtest.Server, *githubtest.Repo) {
	return func(_ *githubtest.Server, r *githubtest.Repo) { r.Rules["main"] = list }
}

var pullRequest = rule("pull_request", object{"required_approving_review_count": 1, "dismiss_stale_reviews_on_push": true, "require_code_owner_review": false})

func person(login string, rights ...string) object {
	p := object{"pull": true}
	for _, r := range rights {
		p[r] = true
	}
	return object{"login": login, "permissions": p}
}

func people(outside bool, list ...object) func(*githubtest.Server, *githubtest.Repo) {
	return func(_ *githubtest.Server, r *githubtest.Repo) {
		r.Collaborators = append(r.Collaborators, list...)
		for _, p := range list {
			r.Outside[p["login"].(string)] = outside
		}
	}
}

func teams(names ...string) func(*githubtest.Server, *githubtest.Repo) {
	return func(_ *githubtest.Server, r *githubtest.Repo) {
		for _, n := range names {
			r.Teams = append(r.Teams, object{"slug": n, "permissions": object{"admin": true}})
		}
	}
}

func bypass(actors ...object) func(*githubtest.Server, *githubtest.Repo) {
	return func(_ *githubtest.Server, r *githubtest.Repo) {
		r.Rulesets[7] = object{"id": 7, "name": "main", "bypass_actors": actors}
	}
}

// fault has a request about the repository answered by an error.
func fault(at string, status int, message string) func(*githubtest.Server, *githubtest.Repo) {
	return func(s *githubtest.Server, r *githubtest.Repo) {
		s.Faults["GET /repos/"+r.Owner+"/"+r.Name+at] = func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"message": %q}`, message)
			return true
		}
	}
}

// many puts so many files in a folder that others aren't listed any more.
func many(r *githubtest.Repo, dir string) {
	for i := range 1000 {
		r.Put(fmt.Sprintf("%s!%d", dir, i), "x")
	}
}

func put(at, text string) func(*githubtest.Server, *githubtest.Repo) {
	return func(_ *githubtest.Server, r *githubtest.Repo) { r.Put(at, text) }
}

func all(fs ...func(*githubtest.Server, *githubtest.Repo)) func(*githubtest.Server, *githubtest.Repo) {
	return func(s *githubtest.Server, r *githubtest.Repo) {
		for _, f := range fs {
			f(s, r)
		}
	}
}

const (
	pwn   = "on: pull_request_target\njobs:\n  a:\n    steps:\n    - uses: actions/checkout@v4\n      with: {ref: '${{ github.event.pull_request.head.sha }}'}\n"
	usesA = "name: CI\non: [push, pull_request]\njobs:\n  a:\n    steps:\n    - uses: acme/lint@v1.2.3\n    - run: make\n"
)

// elf begins a program of Linux.
var elf = "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 57)

// archived puts a file that archives have otherwise, or not at all.
func archived(at, text, archive string) func(*githubtest.Server, *githubtest.Repo) {
	return func(_ *githubtest.Server, r *githubtest.Repo) {
		r.Put(at, text)
		r.Archive = map[string]string{at: archive}
	}
}

// noBlobs has it fail to read a file by itself.
func noBlobs(s *githubtest.Server, r *githubtest.Repo) {
	for _, text := range r.Branches["main"] {
		sum := sha1.Sum(fmt.Appendf(nil, "blob %d\x00%s", len(text), text))
		fault("/git/blobs/"+hex.EncodeToString(sum[:]), http.StatusForbidden, "it isn't needed")(s, r)
	}
}

const largestTree = 30

// largeTree has GitHub cut off the repository's tree.
func largeTree(s *githubtest.Server, r *githubtest.Repo) {
	for i := range largestTree {
		r.Put(fmt.Sprintf("many/%d", i), "x")
	}
	s.MaxTree = largestTree
}

func leaveOut(r *githubtest.Repo, n int) {
	r.Archive = map[string]string{}
	for i := range n {
		at := fmt.Sprintf("tests/%d/%d.txt", i/20, i)
		r.Put(at, at)
		r.Archive[at] = ""
	}
}

// gradle puts the wrapper, and a workflow that checks it.
func gradle(conclusion string) func(*githubtest.Server, *githubtest.Repo) {
	return func(_ *githubtest.Server, r *githubtest.Repo) {
		r.Put("gradle/wrapper/gradle-wrapper.jar", "PK\x03\x04\x00\x00")
		r.Put(".github/workflows/wrapper.yml", "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n    - uses: gradle/actions/wrapper-validation@v4\n")
		r.Runs["wrapper.yml"] = []object{{"head_sha": r.SHA("main"), "status": "completed", "conclusion": conclusion}}
	}
}

const flow = ".github/workflows/ci.yml"

// verdicts are, by the policy's name and file, each of its fields with what it
// changes.
var verdicts = map[[2]string][]verdict{
	{"Branch Protection", "branch_protection.yaml"}: {
		{name: "nothing protects the branch", want: policy.Failed, text: "no protection"},
		{name: "the defaults are met", set: protect(reviews(1)), want: policy.Passed},
		{name: "an empty repository has nothing to protect", set: func(_ *githubtest.Server, r *githubtest.Repo) { r.Branches = nil }, want: policy.Passed, text: "no branches"},
		{name: "the plan has no protection", set: func(_ *githubtest.Server, r *githubtest.Repo) { r.Unavailable = true }, want: policy.Failed, text: "isn't available"},
		{name: "enforceDefault off leaves nothing", org: "enforceDefault: false\n", want: policy.Passed, text: "names no branch"},
		{name: "enforceBranches of the organisation", org: "enforceDefault: false\nenforceBranches: {shop: [release]}\n", want: policy.Failed, text: "release"},
		{name: "enforceBranches of another repository", org: "enforceDefault: false\nenforceBranches: {other: [release]}\n", want: policy.Passed},
		{name: "enforceBranches adds in the repository", org: "enforceBranches: {shop: [one]}\n", repo: "enforceBranches: [two]\n", set: func(_ *githubtest.Server, r *githubtest.Repo) {
			r.Branches["one"], r.Branches["two"] = r.Branches["main"], r.Branches["main"]
			r.Protection["main"], r.Protection["one"] = reviews(1), reviews(1)
		}, want: policy.Failed, text: "two: it has no protection"},
		{name: "enforceBranches adds even where overrides are off", org: "optConfig: {optOutStrategy: true, disableRepoOverride: true}\n", repo: "enforceBranches: [two]\nenforceDefault: false\n", set: protect(reviews(1)), want: policy.Failed, text: "two: "},
		{name: "requireApproval", set: protect(object{}), want: policy.Failed, text: "approval of pull requests isn't required"},
		{name: "requireApproval off", org: "requireApproval: false\n", set: protect(object{}), want: policy.Passed},
		{name: "approvalCount", org: "approvalCount: 2\n", set: protect(reviews(1)), want: policy.Failed, text: "1 approvals are required, 2 must be"},
		{name: "approvalCount without requireApproval", org: "approvalCount: 2\nrequireApproval: false\n", set: protect(reviews(1)), want: policy.Passed},
		{name: "dismissStale", set: protect(reviews(1, "dismiss_stale_reviews=false")), want: policy.Failed, text: "aren't dismissed"},
		{name: "dismissStale off", org: "dismissStale: false\n", set: protect(reviews(1, "dismiss_stale_reviews=false")), want: policy.Passed},
		{name: "blockForce", set: protect(with(reviews(1), object{"allow_force_pushes": on(true)})), want: policy.Failed, text: "force pushes"},
		{name: "blockForce off", org: "blockForce: false\n", set: protect(with(reviews(1), object{"allow_force_pushes": on(true)})), want: policy.Passed},
		{name: "enforceOnAdmins", org: "enforceOnAdmins: true\n", set: protect(with(reviews(1), object{"enforce_admins": on(false)})), want: policy.Failed, text: "administrators are exempt"},
		{name: "enforceOnAdmins met", org: "enforceOnAdmins: true\n", set: protect(with(reviews(1), object{"enforce_admins": on(true)})), want: policy.Passed},
		{name: "requireStatusChecks without any", org: "requireStatusChecks: [{context: build}]\n", set: protect(reviews(1)), want: policy.Failed, text: "no status checks"},
		{name: "requireStatusChecks by any app", org: "requireStatusChecks: [{context: build}]\n", set: protect(with(reviews(1), checks(true, object{"context": "build", "app_id": 4}))), want: policy.Passed},
		{name: "requireStatusChecks by one app", org: "requireStatusChecks: [{context: build, appID: 5}]\n", set: protect(with(reviews(1), checks(true, object{"context": "build", "app_id": 4}))), want: policy.Failed, text: `"build" of the app 5`},
		{name: "requireStatusChecks emptied by the repository", org: "requireStatusChecks: [{context: build}]\n", repo: "requireStatusChecks: []\n", set: protect(reviews(1)), want: policy.Passed},
		{name: "requireUpToDateBranch", org: "requireStatusChecks: [{context: build}]\n", set: protect(with(reviews(1), checks(false, object{"context": "build"}))), want: policy.Failed, text: "up to date"},
		{name: "requireUpToDateBranch off", org: "requireUpToDateBranch: false\nrequireStatusChecks: [{context: build}]\n", set: protect(with(reviews(1), checks(false, object{"context": "build"}))), want: policy.Passed},
		{name: "requireSignedCommits", org: "requireSignedCommits: true\n", set: protect(reviews(1)), want: policy.Failed, text: "signed commits"},
		{name: "requireSignedCommits met", org: "requireSignedCommits: true\n", set: func(_ *githubtest.Server, r *githubtest.Repo) {
			r.Protection["main"], r.Signatures["main"] = reviews(1), true
		}, want: policy.Passed},
		{name: "requireCodeOwnerReviews", org: "requireCodeOwnerReviews: true\n", set: protect(reviews(1)), want: policy.Failed, text: "code owners"},
		{name: "requireCodeOwnerReviews met", org: "requireCodeOwnerReviews: true\n", set: protect(reviews(1, "require_code_owner_reviews=true")), want: policy.Passed},
		{name: "a ruleset protects as well", set: rules(pullRequest, rule("non_fast_forward", nil)), want: policy.Passed},
		{name: "a ruleset that lacks something", set: rules(pullRequest), want: policy.Failed, text: "force pushes"},
		{name: "a ruleset and protection together", org: "requireSignedCommits: true\n", set: all(protect(reviews(1)), rules(rule("required_signatures", nil))), want: policy.Passed},
		{name: "a ruleset's status checks", org: "requireStatusChecks: [{context: build, appID: 4}]\n", set: rules(pullRequest, rule("non_fast_forward", nil), rule("required_status_checks", object{"strict_required_status_checks_policy": true, "required_status_checks": []object{{"context": "build", "integration_id": 4}}})), want: policy.Passed},
		{name: "a ruleset that administrators may bypass", org: "enforceOnAdmins: true\n", set: all(rules(pullRequest, rule("non_fast_forward", nil)), func(_ *githubtest.Server, r *githubtest.Repo) {
			r.Rulesets[7] = object{"id": 7, "name": "main", "bypass_actors": []object{{"actor_id": 5, "actor_type": "RepositoryRole", "bypass_mode": "always"}}}
		}), want: policy.Failed, text: "administrators are exempt"},
		{name: "a ruleset that administrators may bypass, beside a protection that binds them", org: "enforceOnAdmins: true\n", set: all(protect(object{"enforce_admins": on(true)}), rules(pullRequest), bypass(object{"actor_id": 1, "actor_type": "OrganizationAdmin"})), want: policy.Failed, text: "main: administrators are exempt"},
		{name: "a ruleset that administrators may bypass adds nothing", org: "enforceOnAdmins: true\n", set: all(protect(with(reviews(1), object{"enforce_admins": on(true)})), rules(pullRequest), bypass(object{"actor_id": 5, "actor_type": "RepositoryRole"})), want: policy.Passed},
		{name: "a ruleset that whoever writes may bypass", org: "enforceOnAdmins: true\n", set: all(rules(pullRequest, rule("non_fast_forward", nil)), bypass(object{"actor_id": 4, "actor_type": "RepositoryRole"})), want: policy.Failed, text: "administrators are exempt"},
		{name: "a ruleset whose bypass isn't shown", org: "enforceOnAdmins: true\n", set: all(rules(pullRequest, rule("non_fast_forward", nil)), func(_ *githubtest.Server, r *githubtest.Repo) { r.Rulesets[7] = object{"id": 7, "name": "main"} }), want: policy.Unknown, text: "Administration: write"},
		{name: "the App may not see protection", set: all(rules(pullRequest, rule("non_fast_forward", nil)), fault("/branches/main/protection", http.StatusForbidden, "Resource not accessible by integration")), want: policy.Unknown, text: "Administration: read"},
		{name: "the App may not see rules", set: fault("/rules/branches/main", http.StatusForbidden, "Resource not accessible by integration"), want: policy.Unknown, text: "403"},
		{name: "the branches aren't to be had", set: fault("/branches", http.StatusNotFound, "Not Found"), want: policy.Unknown, text: "404"},
		{name: "the organisation's file is a symbolic link", set: func(s *githubtest.Server, r *githubtest.Repo) {
			s.Repos[r.Owner+"/.allstar"].Links = map[string]bool{"branch_protection.yaml": true}
		}, want: policy.Failed, text: "no protection"},
		{name: "the organisation's folder is too long to be listed", set: func(s *githubtest.Server, r *githubtest.Repo) { many(s.Repos[r.Owner+"/.allstar"], "") }, want: policy.Failed, text: "no protection"},
		{name: "the repository's folder is too long to be listed", repo: "enforceBranches: [two]\n", set: all(protect(reviews(1)), func(_ *githubtest.Server, r *githubtest.Repo) { many(r, "") }), want: policy.Failed, text: "two: "},
		{name: "a ruleset that nobody may bypass", org: "enforceOnAdmins: true\n", set: all(rules(pullRequest, rule("non_fast_forward", nil)), func(_ *githubtest.Server, r *githubtest.Repo) {
			r.Rulesets[7] = object{"id": 7, "name": "main", "bypass_actors": []object{}}
		}), want: policy.Passed},
		{name: "a ruleset whose exceptions can't be seen", org: "enforceOnAdmins: true\n", set: all(rules(pullRequest, rule("non_fast_forward", nil)), func(_ *githubtest.Server, r *githubtest.Repo) {
			r.Rulesets[7] = object{"id": 7, "name": "main"}
		}), want: policy.Unknown, text: "can't be seen"},
	},
	{"Binary Artifacts", "binary_artifacts.yaml"}: {
		{name: "text only", set: put("a.sh", "#!/bin/sh\n"), want: policy.Passed},
		{name: "an ELF program without an extension", set: put("bin/tool", elf), want: policy.Failed, text: "`bin/tool`"},
		{name: "text that isn't UTF-8", set: put("notes.lib", "caf\xe9 au lait, caf\xe9 noir\n"), want: policy.Passed},
		{name: "a program that archives leave out", set: archived("bin/tool", elf, ""), want: policy.Failed, text: "`bin/tool`"},
		{name: "text that archives leave out", set: archived("notes.so", "so it is\n", ""), want: policy.Passed},
		{name: "a program that archives have otherwise", set: archived("tool", "\x00asm\x01\x00\x00\x00", "\x00\x00\x00a\x00s\x00m\x00\x01\x00\x00"), want: policy.Failed, text: "`tool`"},
		{name: "text that archives have with other line ends", set: all(archived("a.txt", "one\ntwo\n\rthree\n", "one\r\ntwo\r\n\rthree\r\n"), noBlobs), want: policy.Passed},
		{name: "a program that archives have with other line ends", set: all(archived("classes", "dex\n035\x00\n\x01", "dex\r\n035\x00\r\n\x01"), noBlobs), want: policy.Failed, text: "`classes`"},
		{name: "a program that archives leave out, in one of very many files", set: all(archived("a/b/tool", elf, ""), largeTree), want: policy.Failed, text: "`a/b/tool`"},
		{name: "too many files that archives leave out", set: func(_ *githubtest.Server, r *githubtest.Repo) { leaveOut(r, 301) }, want: policy.Unknown, text: "lacks 1 files of it"},
		{name: "too many files that archives leave out, and a program", set: func(_ *githubtest.Server, r *githubtest.Repo) { leaveOut(r, 301); r.Put("tool", elf) }, want: policy.Failed, text: "`tool`"},
		{name: "a folder that is too large to be listed", set: func(s *githubtest.Server, r *githubtest.Repo) {
			for i := range 2 * largestTree {
				r.Put(fmt.Sprintf("a/%d", i), "x")
			}
			largeTree(s, r)
		}, want: policy.Unknown, text: "more files than GitHub lists"},
		{name: "Gradle's wrapper", set: put("gradle/wrapper/gradle-wrapper.jar", "PK\x03\x04\x00\x00"), want: policy.Failed, text: "gradle-wrapper.jar"},
		{name: "Gradle's wrapper that is checked", set: gradle("success"), want: policy.Passed},
		{name: "Gradle's wrapper whose check failed", set: gradle("failure"), want: policy.Failed},
		{name: "a jar", set: put("lib/a.jar", "PK\x03\x04\x00\x00"), want: policy.Failed, text: "`lib/a.jar`"},
		{name: "text with a program's extension", set: put("notes.so", "so it is\n"), want: policy.Passed},
		{name: "a picture", set: put("logo.png", "\x89PNG\r\n\x1a\n\x00"), want: policy.Passed},
		{name: "ignoreFiles", org: "ignoreFiles: [a.jar]\n", set: put("lib/a.jar", "PK\x03\x04\x00\x00"), want: policy.Passed},
		{name: "ignoreFiles takes names, not paths", org: "ignoreFiles: [lib/a.jar]\n", set: put("lib/a.jar", "PK\x03\x04\x00\x00"), want: policy.Failed},
		{name: "ignorePaths", repo: "ignorePaths: [lib/a.jar]\n", set: put("lib/a.jar", "PK\x03\x04\x00\x00"), want: policy.Passed},
		{name: "ignorePaths of the organisation for the repository", orgRepo: "ignorePaths: [lib/a.jar]\n", set: put("lib/a.jar", "PK\x03\x04\x00\x00"), want: policy.Passed},
		{name: "ignorePaths takes whole paths", repo: "ignorePaths: [a.jar]\n", set: put("lib/a.jar", "PK\x03\x04\x00\x00"), want: policy.Failed},
		{name: "ignorePaths where overrides are off", org: "optConfig: {optOutStrategy: true, disableRepoOverride: true}\n", repo: "ignorePaths: [lib/a.jar]\n", set: put("lib/a.jar", "PK\x03\x04\x00\x00"), want: policy.Failed},
	},
	{"CODEOWNERS", "codeowners.yaml"}: {
		{name: "none, and none required", want: policy.Passed},
		{name: "requireCODEOWNERS", org: "requireCODEOWNERS: true\n", want: policy.Failed, text: "no CODEOWNERS file"},
		{name: "requireCODEOWNERS lifted by the repository", org: "requireCODEOWNERS: true\n", repo: "requireCODEOWNERS: false\n", want: policy.Passed},
		{name: "a good one", org: "requireCODEOWNERS: true\n", set: put(".github/CODEOWNERS", "* @acme/team"), want: policy.Passed},
		{name: "one with errors", set: all(put("CODEOWNERS", "* @nobody"), func(_ *githubtest.Server, r *githubtest.Repo) {
			r.CodeownersErrors = []object{{"line": 3, "kind": "Unknown owner", "path": "CODEOWNERS", "message": "Unknown owner: make sure @nobody exists"}}
		}), want: policy.Failed, text: "CODEOWNERS line 3: Unknown owner"},
	},
	{"Outside Collaborators", "outside.yaml"}: {
		{name: "a member may do anything", set: people(false, person("ann", "push", "admin")), want: policy.Passed},
		{name: "who may push from outside", set: people(true, person("bob", "push")), want: policy.Passed},
		{name: "who administers from outside", set: people(true, person("bob", "push", "admin")), want: policy.Failed, text: "1 outside collaborators have admin rights"},
		{name: "pushAllowed off", org: "pushAllowed: false\n", set: people(true, person("bob", "push")), want: policy.Failed, text: "can push"},
		{name: "adminAllowed", org: "adminAllowed: true\n", set: people(true, person("bob", "push", "admin")), want: policy.Passed},
		{name: "adminAllowed by the repository", repo: "adminAllowed: true\n", set: people(true, person("bob", "push", "admin")), want: policy.Passed},
		{name: "exempt from admin", org: "exemptions: [{user: Bob, repo: sh*, admin: true}]\n", set: people(true, person("bob", "push", "admin")), want: policy.Passed},
		{name: "exempt from push only", org: "pushAllowed: false\nexemptions: [{user: bob, repo: shop, push: true}]\n", set: people(true, person("bob", "push", "admin")), want: policy.Failed, text: "admin rights"},
		{name: "an exemption from admin is one from push", org: "pushAllowed: false\nexemptions: [{user: bob, repo: shop, admin: true}]\n", set: people(true, person("bob", "push", "admin")), want: policy.Passed},
		{name: "exempt in another repository", org: "exemptions: [{user: bob, repo: other, admin: true}]\n", set: people(true, person("bob", "push", "admin")), want: policy.Failed},
		{name: "an exemption that the repository gives itself", repo: "exemptions: [{user: bob, repo: shop, admin: true}]\n", set: people(true, person("bob", "push", "admin")), want: policy.Failed},
	},
	{"SECURITY.md", "security.yaml"}: {
		{name: "without one", want: policy.Failed, text: "no security policy"},
		{name: "with one", set: func(_ *githubtest.Server, r *githubtest.Repo) { r.SecurityPolicy = true }, want: policy.Passed},
	},
	{"Dangerous Workflow", "dangerous_workflow.yaml"}: {
		{name: "no workflows", want: policy.Passed},
		{name: "behind more files than GitHub lists", set: all(put(flow, pwn), func(_ *githubtest.Server, r *githubtest.Repo) { many(r, "") }), want: policy.Failed, text: "checks out code that others propose"},
		{name: "behind more workflows than GitHub lists", set: all(put(flow, pwn), func(_ *githubtest.Server, r *githubtest.Repo) { many(r, ".github/workflows/") }), want: policy.Unknown, text: "lists only some"},
		{name: "a symbolic link", set: all(put(flow, pwn), func(_ *githubtest.Server, r *githubtest.Repo) { r.Links = map[string]bool{flow: true} }), want: policy.Failed, text: "checks out code that others propose"},
		{name: "an ordinary one", set: put(flow, usesA), want: policy.Passed},
		{name: "checks out what others propose", set: put(flow, pwn), want: policy.Failed, text: "checks out code that others propose"},
		{name: "checks it out without rights", set: put(flow, strings.Replace(pwn, "pull_request_target", "pull_request", 1)), want: policy.Passed},
		{name: "a script from an issue's title", set: put(flow, "on: issues\njobs:\n  a:\n    steps:\n    - run: |\n        echo ${{ github.event.issue.title }}\n"), want: policy.Failed, text: "github.event.issue.title"},
		{name: "a script of github-script", set: put(flow, "on: issues\njobs:\n  a:\n    steps:\n    - uses: actions/github-script@v7\n      with:\n        script: console.log('${{ github.event.comment.body }}')\n"), want: policy.Failed},
		{name: "the title by env", set: put(flow, "on: issues\njobs:\n  a:\n    steps:\n    - env: {T: '${{ github.event.issue.title }}'}\n      run: echo \"$T\"\n"), want: policy.Passed},
		{name: "on a branch that a tag is called as", set: func(_ *githubtest.Server, r *githubtest.Repo) {
			r.Branches["old"] = map[string]string{flow: pwn}
			r.Tags = []object{{"name": "old", "commit": object{"sha": "abc"}}}
		}, want: policy.Failed, text: "On the branches: old."},
		{name: "on another branch", set: func(_ *githubtest.Server, r *githubtest.Repo) {
			r.Branches["old"] = map[string]string{flow: pwn}
		}, want: policy.Failed, text: "On the branches: old."},
		{name: "branchList", org: "branchList: default\n", set: func(_ *githubtest.Server, r *githubtest.Repo) {
			r.Branches["old"] = map[string]string{flow: pwn}
		}, want: policy.Passed},
		{name: "branchList adds in the repository", org: "branchList: default\n", repo: "branchList: refs/remotes/origin/old\n", set: func(_ *githubtest.Server, r *githubtest.Repo) {
			r.Branches["old"] = map[string]string{flow: pwn}
		}, want: policy.Failed},
	},
	{"GitHub Actions", "actions.yaml"}: {
		{name: "no groups", want: ""},
		{name: "deny all", org: "groups: [{name: g, rules: [{name: no, method: deny}]}]\n", set: put(flow, usesA), want: policy.Failed, text: `acme/lint@v1.2.3, used in ci.yml, is denied by the rule "no" of the group "g"`},
		{name: "allow before deny", org: "groups: [{rules: [{method: deny}, {method: allow, actions: [{name: 'acme/*'}]}]}]\n", set: put(flow, usesA), want: policy.Passed},
		{name: "priority before method", org: "groups: [{rules: [{method: deny, priority: high}, {method: allow, actions: [{name: 'acme/*'}]}]}]\n", set: put(flow, usesA), want: policy.Failed},
		{name: "deny a version", org: "groups: [{rules: [{method: deny, actions: [{name: acme/lint, version: '< 2'}]}]}]\n", set: put(flow, usesA), want: policy.Failed},
		{name: "deny a version, and a branch is used", org: "groups: [{rules: [{method: deny, actions: [{name: acme/lint, version: '< 2'}]}]}]\n", set: put(flow, strings.Replace(usesA, "v1.2.3", "main", 1)), want: policy.Unknown, text: "no version is known"},
		{name: "deny a version, or any of them", org: "groups: [{rules: [{method: deny, actions: [{name: acme/lint, version: '< 2'}, {name: 'acme/*'}]}]}]\n", set: put(flow, strings.Replace(usesA, "v1.2.3", "main", 1)), want: policy.Failed},
		{name: "allow a branch that no version is known of", org: "groups: [{rules: [{method: deny, actions: [{name: acme/lint, version: '< 2'}]}, {method: allow, actions: [{name: acme/lint, version: main}]}]}]\n", set: put(flow, strings.Replace(usesA, "v1.2.3", "main", 1)), want: policy.Passed},
		{name: "deny another version", org: "groups: [{rules: [{method: deny, actions: [{name: acme/lint, version: '>= 2'}]}]}]\n", set: put(flow, usesA), want: policy.Passed},
		{name: "a commit's version by its tag", org: "groups: [{rules: [{method: deny, actions: [{name: 'tools/*', version: '< 2'}]}]}]\n", set: all(put(flow, strings.Replace(usesA, "acme/lint@v1.2.3", "tools/lint@abc123", 1)), func(s *githubtest.Server, _ *githubtest.Repo) {
			s.Add("tools", "lint").Tags = []object{{"name": "v1", "commit": object{"sha": "abc123"}}, {"name": "v1.9.0", "commit": object{"sha": "abc123"}}}
		}), want: policy.Failed},
		{name: "repos by name", org: "groups: [{repos: [{name: other}], rules: [{method: deny}]}]\n", set: put(flow, usesA), want: policy.Passed},
		{name: "repos by language", org: "groups: [{repos: [{language: [go]}], rules: [{method: deny}]}]\n", set: all(put(flow, usesA), func(_ *githubtest.Server, r *githubtest.Repo) { r.Languages = map[string]int{"Go": 10, "C": 9} }), want: policy.Failed},
		{name: "repos by another language", org: "groups: [{repos: [{language: [c]}], rules: [{method: deny}]}]\n", set: all(put(flow, usesA), func(_ *githubtest.Server, r *githubtest.Repo) { r.Languages = map[string]int{"Go": 10, "C": 9} }), want: policy.Passed},
		{name: "repos excluded", org: "groups: [{repos: [{name: '*', exclude: [{name: shop}]}], rules: [{method: deny}]}]\n", set: put(flow, usesA), want: policy.Passed},
		{name: "require, and there", org: "groups: [{rules: [{method: require, actions: [{name: acme/lint}]}]}]\n", set: put(flow, usesA), want: policy.Passed},
		{name: "require, and not there", org: "groups: [{rules: [{name: r, method: require, actions: [{name: acme/scan, version: '>= 1'}]}]}]\n", set: put(flow, usesA), want: policy.Failed, text: "add acme/scan >= 1"},
		{name: "require a newer one", org: "groups: [{rules: [{method: require, actions: [{name: acme/lint, version: '>= 2'}]}]}]\n", set: put(flow, usesA), want: policy.Failed, text: "update acme/lint"},
		{name: "require where it runs", org: "groups: [{rules: [{method: require, actions: [{name: acme/lint}]}]}]\n", set: put(flow, strings.Replace(usesA, "[push, pull_request]", "push", 1)), want: policy.Failed, text: "run on pull_request and push"},
		{name: "require one of two", org: "groups: [{rules: [{method: require, actions: [{name: acme/lint}, {name: acme/scan}]}]}]\n", set: put(flow, usesA), want: policy.Passed},
		{name: "requireAll", org: "groups: [{rules: [{method: require, requireAll: true, actions: [{name: acme/lint}, {name: acme/scan}]}]}]\n", set: put(flow, usesA), want: policy.Failed},
		{name: "mustPass, and it didn't", org: "groups: [{rules: [{method: require, mustPass: true, actions: [{name: acme/lint}]}]}]\n", set: put(flow, usesA), want: policy.Failed, text: "didn't succeed"},
		{name: "mustPass, and it did", org: "groups: [{rules: [{method: require, mustPass: true, actions: [{name: acme/lint}]}]}]\n", set: func(s *githubtest.Server, r *githubtest.Repo) {
			r.Put(flow, usesA)
			r.Runs["ci.yml"] = []object{{"head_sha": "older", "conclusion": "failure"}, {"head_sha": r.SHA("main"), "status": "completed", "conclusion": "success"}}
		}, want: policy.Passed},
		{name: "mustPass, and it still runs", org: "groups: [{rules: [{method: require, mustPass: true, actions: [{name: acme/lint}]}]}]\n", set: func(s *githubtest.Server, r *githubtest.Repo) {
			r.Put(flow, usesA)
			r.Runs["ci.yml"] = []object{{"head_sha": r.SHA("main"), "status": "in_progress"}}
		}, want: policy.Passed},
	},
	{"Repository Administrators", "admin.yaml"}: {
		{name: "nobody", want: policy.Failed, text: "nobody administers"},
		{name: "ownerlessAllowed", org: "ownerlessAllowed: true\n", want: policy.Passed},
		{name: "ownerless, but exempt", org: "exemptions: [{repo: 'sh*', ownerlessAllowed: true}]\n", want: policy.Passed},
		{name: "a person", set: people(false, person("ann", "admin")), want: policy.Passed},
		{name: "userAdminsAllowed off", org: "userAdminsAllowed: false\n", set: people(false, person("ann", "admin")), want: policy.Failed, text: "people are administrators"},
		{name: "userAdmins exempt", org: "userAdminsAllowed: false\nexemptions: [{repo: shop, userAdmins: [ann]}]\n", set: people(false, person("ann", "admin")), want: policy.Passed},
		{name: "userAdmins exempts only who is named", org: "userAdminsAllowed: false\nexemptions: [{repo: shop, userAdmins: [ann]}]\n", set: people(false, person("ann", "admin"), person("bob", "admin")), want: policy.Failed},
		{name: "userAdminsAllowed by exemption", org: "userAdminsAllowed: false\nexemptions: [{repo: shop, userAdminsAllowed: true}]\n", set: people(false, person("ann", "admin")), want: policy.Passed},
		{name: "maxNumberUserAdmins", org: "maxNumberUserAdmins: 1\n", set: people(false, person("ann", "admin"), person("bob", "admin")), want: policy.Failed, text: "2 people are administrators, 1 may be"},
		{name: "maxNumberUserAdmins by exemption", org: "maxNumberUserAdmins: 1\nexemptions: [{repo: shop, maxNumberUserAdmins: 2}]\n", set: people(false, person("ann", "admin"), person("bob", "admin")), want: policy.Passed},
		{name: "an exemption's own maximum", org: "exemptions: [{repo: shop, maxNumberUserAdmins: 1}]\n", set: people(false, person("ann", "admin"), person("bob", "admin")), want: policy.Failed},
		{name: "a team", set: teams("core"), want: policy.Passed},
		{name: "teamAdminsAllowed off", org: "teamAdminsAllowed: false\n", set: teams("core"), want: policy.Failed, text: "teams are administrators"},
		{name: "teamAdmins exempt", org: "teamAdminsAllowed: false\nexemptions: [{repo: shop, teamAdmins: [core]}]\n", set: teams("core"), want: policy.Passed},
		{name: "maxNumberAdminTeams", org: "maxNumberAdminTeams: 1\n", set: teams("core", "ops"), want: policy.Failed, text: "2 teams are administrators, 1 may be"},
		{name: "maxNumberAdminTeams by the repository", org: "maxNumberAdminTeams: 1\n", repo: "maxNumberAdminTeams: 2\n", set: teams("core", "ops"), want: policy.Passed},
	},
}

// orgOf names the organisation of the i-th line about a file.
func orgOf(file string, i int) string {
	return fmt.Sprintf("%s-%d", strings.TrimSuffix(strings.ReplaceAll(file, "_", "-"), ".yaml"), i)
}

func TestVerdicts(t *testing.T) {
	got := map[string]policy.SubjectRecord{} // by organisation
	synctest.Test(t, func(t *testing.T) {
		var orgs []string
		for id, list := range verdicts {
			for i := range list {
				orgs = append(orgs, orgOf(id[1], i))
			}
		}
		h := newHub(t, orgs...)
		for id, list := range verdicts {
			for i, c := range list {
				text := c.org
				if !strings.Contains(text, "optConfig") && id[1] != "actions.yaml" {
					text = optOut + text
				}
				files := map[string]string{id[1]: text}
				if c.orgRepo != "" {
					files["shop/"+id[1]] = c.orgRepo
				}
				enable(h.Server, orgOf(id[1], i), files)
				r := h.Add(orgOf(id[1], i), "shop")
				if c.repo != "" {
					r.Put(".allstar/"+id[1], c.repo)
				}
				if c.set != nil {
					c.set(h.Server, r)
				}
			}
		}
		h.cycle(t)
		for id, list := range verdicts {
			for i := range list {
				org := orgOf(id[1], i)
				got[org] = h.subjects(t, org)[org+"/shop "+id[0]]
			}
		}
	})
	for id, list := range verdicts {
		for i, c := range list {
			t.Run(id[0]+"/"+c.name, func(t *testing.T) {
				if got := got[orgOf(id[1], i)]; got.Verdict != c.want || !strings.Contains(got.Details, c.text) {
					t.Errorf("%q, want %q with %q:\n%s", got.Verdict, c.want, c.text, got.Details)
				}
			})
		}
	}
}
