package github_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/policy/github"
	"reeve.dev/reeve/policy/github/githubtest"
)

// took is how long the last run of acme took, by the bubble's clock.
func (h *hub) took(t *testing.T) time.Duration {
	t.Helper()
	r := h.lastRun(t, "acme")
	return r.Ended.Sub(r.Began)
}

func simple(h *hub) *githubtest.Repo {
	enable(h.Server, "acme", map[string]string{"branch_protection.yaml": optOut})
	r := h.Add("acme", "shop")
	r.Protection["main"] = reviews(1)
	return r
}

// TestRunner_limits: what GitHub says of its limits is kept to, and costs no
// verdict.
func TestRunner_limits(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(h *hub)
		least time.Duration
		most  time.Duration
	}{
		{"Retry-After", func(h *hub) {
			h.Faults["GET /repos/acme/shop/branches"] = githubtest.Times(1, githubtest.Secondary(90))
		}, 90 * time.Second, 2 * time.Minute},
		{"a secondary limit that says nothing", func(h *hub) {
			h.Faults["GET /repos/acme/shop/branches"] = githubtest.Times(2, githubtest.Secondary(0))
		}, 3 * time.Minute, 4 * time.Minute},
		{"429", func(h *hub) {
			h.Faults["GET /repos/acme/shop/branches"] = githubtest.Times(1, func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Retry-After", "30")
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			})
		}, 30 * time.Second, time.Minute},
		{"the primary limit", func(h *hub) { h.Limit, h.Remaining = 20, 4; h.Reset = time.Now().Add(40 * time.Minute) }, 39 * time.Minute, 41 * time.Minute},
		{"a fault that passes", func(h *hub) {
			h.Faults["GET /repos/acme/shop/branches"] = githubtest.Times(2, githubtest.Broken)
		}, time.Second, 10 * time.Second},
	} {
		var run policy.Run
		var status []github.Status
		var took time.Duration
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, "acme")
			simple(h)
			c.fault(h)
			h.cycle(t)
			run, status, took = h.lastRun(t, "acme"), h.runner.Status(), h.took(t)
			if got := h.subjects(t, "acme")["acme/shop Branch Protection"]; got.Verdict != policy.Passed {
				t.Errorf("%s: %+v", c.name, got)
			}
		})
		// What the cycle waited for before its run began isn't in it.
		if run.State != policy.Complete || run.Unknown > 0 || took > c.most || took < c.least && c.name != "the primary limit" {
			t.Errorf("%s: %+v took %v", c.name, run, took)
		}
		if len(status) != 1 || len(status[0].Limits) == 0 || status[0].Requests == 0 || (status[0].Waits == 0) != strings.HasPrefix(c.name, "a fault") {
			t.Errorf("%s: %+v", c.name, status)
		}
	}
}

// TestRunner_restart: a hub that starts again asks only for what has changed.
func TestRunner_restart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		enable(h.Server, "acme", allPolicies)
		for i := range 20 {
			h.Add("acme", fmt.Sprintf("repo-%d", i)).Put("a.jar", "PK\x03\x04\x00")
		}
		h.cycle(t)
		before := h.cost()
		if err := h.store.MarkGitHub(t.Context(), github.Task{Connection: "main", Owner: "acme", Cause: "test", Due: time.Now()}, true); err != nil {
			t.Fatal(err)
		}
		h.cycle(t)
		// The query of GraphQL, and a few that have no validator.
		if again := h.cost() - before; again > 5 {
			t.Errorf("the cycle after the restart cost %d requests", again)
		}
		if n := h.Count("GET /codeload/"); n != 21 {
			t.Errorf("%d archives were fetched, want one for each commit", n)
		}
		if r := h.lastRun(t, "acme"); r.State != policy.Complete || r.Failed == 0 {
			t.Errorf("%+v", r)
		}
	})
}

// TestRunner_layers: what each layer says, and what it doesn't when something is
// wrong with it.
func TestRunner_layers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		org := enable(h.Server, "acme", map[string]string{
			"security.yaml":          "baseConfig: base/config\naction: null\n",
			"branch_protection.yaml": optOut + "approvalCount: [\n",
			"codeowners.yaml":        "optConfig: {optOutStrategy: yes please}\n",
		})
		h.Add("base", "config").Put("security.yaml", optOut+"action: issue\nunknown: 1\n")
		shop := h.Add("acme", "shop")
		shop.Put(".allstar/security.yaml", "optConfig: {optOut: true")
		shop.Put(".allstar/allstar.yaml", "optConfig: {optOut: fale}\n")
		h.Add("acme", "out").Put(".allstar/security.yaml", "optConfig: {optOut: true}\n")
		h.cycle(t)
		got := h.subjects(t, "acme")
		for _, c := range []struct {
			subject string
			want    policy.Verdict
			text    []string
		}{
			{"acme/shop SECURITY.md", policy.Failed, nil},
			{"acme/out SECURITY.md", "", nil},
			{"acme/shop Branch Protection", policy.Failed, nil},
			{"acme/shop CODEOWNERS", policy.Passed, nil},
			{"acme/.allstar Organisation Configuration", policy.Failed, []string{
				"acme/.allstar:branch_protection.yaml (organisation): it can't be understood, and its checks stay on: ",
				"acme/.allstar:codeowners.yaml:1 (organisation): optConfig.optOutStrategy: it must be true or false",
				"base/config:security.yaml:3 (base): unknown: there is no such key",
			}},
			{"acme/shop Repository Configuration", policy.Failed, []string{
				"acme/shop:.allstar/security.yaml (repository): it can't be understood",
				"acme/shop:.allstar/allstar.yaml:1 (repository): optConfig.optOut: it must be true or false",
			}},
			{"acme/out Repository Configuration", policy.Passed, nil},
		} {
			s := got[c.subject]
			if s.Verdict != c.want {
				t.Errorf("%s: %q, want %q: %s", c.subject, s.Verdict, c.want, s.Details)
			}
			for _, text := range c.text {
				if !strings.Contains(s.Details, text) {
					t.Errorf("%s: no %q in:\n%s", c.subject, text, s.Details)
				}
			}
		}
		// The base's action was taken back, so nobody opened an issue.
		if alerts, err := h.store.Alerts(t.Context(), alert.Filter{}); err != nil || len(alerts) > 0 {
			t.Errorf("alerts %v, %v", alerts, err)
		}
		// A file that could be understood goes on as it was when it can't be any more.
		org.Put("branch_protection.yaml", optOut+"requireApproval: false\nblockForce: false\n")
		shop.Protection["main"] = object{}
		h.again(t)
		if s := h.subjects(t, "acme")["acme/shop Branch Protection"]; s.Verdict != policy.Passed {
			t.Errorf("with a good file: %+v", s)
		}
		org.Put("branch_protection.yaml", optOut+"requireApproval: [\n")
		h.again(t)
		got = h.subjects(t, "acme")
		if s := got["acme/shop Branch Protection"]; s.Verdict != policy.Passed {
			t.Errorf("with a file that broke: %+v", s)
		}
		if s := got["acme/.allstar Organisation Configuration"]; !strings.Contains(s.Details, "its last version that could holds on") {
			t.Errorf("with a file that broke: %+v", s)
		}
	})
}

// again makes another whole cycle.
func (h *hub) again(t *testing.T) {
	t.Helper()
	if err := h.store.MarkGitHub(t.Context(), github.Task{Connection: "main", Owner: "acme", Cause: "test", Due: time.Now()}, true); err != nil {
		t.Fatal(err)
	}
	h.cycle(t)
}

// TestRunner_actions: each action leads where it should.
func TestRunner_actions(t *testing.T) {
	for _, c := range []struct {
		name, bot, file, repo string
		rpc                   []string
		fail, pass            []string // sinks
		problem               string
	}{
		{name: "log"},
		{name: "issue", file: "action: issue\n", fail: []string{"issue:main"}, pass: []string{"issue:main"}},
		{name: "rpc to the operator's only sink", file: "action: rpc\n", fail: []string{"security"}, pass: []string{"security"}},
		{name: "rpc to those of the connection", file: "action: rpc\n", rpc: []string{"a", "b"}, fail: []string{"a", "b"}, pass: []string{"a", "b"}},
		{name: "rpc to the organisation's endpoint", bot: "rpcEndpoint: sink.acme.test:443\n", file: "action: rpc\n", fail: []string{"endpoint:sink.acme.test:443"}, pass: []string{"endpoint:sink.acme.test:443"}},
		{name: "rpc to the repository's endpoint", bot: "rpcEndpoint: sink.acme.test:443\n", repo: "rpcEndpoint: own.acme.test:443\n", file: "action: rpc\n", fail: []string{"endpoint:own.acme.test:443"}, pass: []string{"endpoint:sink.acme.test:443"}},
		{name: "the repository's endpoint where overrides are off", bot: "rpcEndpoint: sink.acme.test:443\n", repo: "rpcEndpoint: own.acme.test:443\n", file: "action: rpc\n# off", fail: []string{"endpoint:sink.acme.test:443"}, pass: []string{"endpoint:sink.acme.test:443"}},
		{name: "an endpoint that isn't allowed", bot: "rpcEndpoint: evil.test:443\n", file: "action: rpc\n", problem: errNotAllowed.Error()},
		{name: "a sink of the hub's", file: "action: webhook/ci\n", fail: []string{"ci"}, pass: []string{"ci"}},
		{name: "a sink that isn't there", file: "action: email\n", problem: "there is no sink of that type"},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, "acme")
			h.cfg.RPC = c.rpc
			org := enable(h.Server, "acme", map[string]string{"security.yaml": optOut + c.file})
			bot := optOut
			if strings.HasSuffix(c.file, "# off") {
				bot = "optConfig: {optOutStrategy: true, disableRepoOverride: true}\n"
			}
			org.Put("allstar.yaml", bot+c.bot)
			org.SecurityPolicy = true
			if shop := h.Add("acme", "shop"); c.repo != "" {
				shop.Put(".allstar/allstar.yaml", c.repo)
			}
			h.cycle(t)
			alerts, err := h.store.Alerts(t.Context(), alert.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			sinks := map[bool][]string{}
			for _, a := range alerts {
				sinks[a.Outcome.Pass] = append(sinks[a.Outcome.Pass], a.Sink)
			}
			slices.Sort(sinks[true])
			slices.Sort(sinks[false])
			if diff := cmp.Diff(map[bool][]string{true: c.pass, false: c.fail}, map[bool][]string{true: sinks[true], false: sinks[false]}); diff != "" {
				t.Errorf("%s: sinks by verdict (-want +got):\n%s", c.name, diff)
			}
			var said strings.Builder
			for _, s := range h.subjects(t, "acme") {
				said.WriteString(s.Details)
			}
			if !strings.Contains(said.String(), c.problem) {
				t.Errorf("%s: nothing says %q:\n%s", c.name, c.problem, said.String())
			}
		})
	}
}

// TestRunner_fix: a branch gets what it lacks, and keeps what it has.
func TestRunner_fix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		enable(h.Server, "acme", map[string]string{"branch_protection.yaml": optOut + "action: fix\nenforceOnAdmins: true\nrequireSignedCommits: true\nrequireStatusChecks: [{context: build, appID: 5}]\n"})
		fresh := h.Add("acme", "fresh")
		has := h.Add("acme", "has")
		has.Protection["main"] = object{
			"required_pull_request_reviews": object{
				"required_approving_review_count": 2, "require_last_push_approval": true,
				"dismissal_restrictions":         object{"users": []object{{"login": "ann"}}, "teams": []object{}, "apps": []object{}},
				"bypass_pull_request_allowances": object{"users": []object{}, "teams": []object{{"slug": "core"}}, "apps": []object{{"slug": "bot"}}},
			},
			"required_status_checks":  object{"strict": false, "contexts": []string{"lint"}, "checks": []object{{"context": "lint", "app_id": nil}}},
			"restrictions":            object{"users": []object{{"login": "ann"}}, "teams": []object{{"slug": "core"}}, "apps": []object{{"slug": "bot"}}},
			"required_linear_history": on(true), "allow_deletions": on(true), "lock_branch": on(false), "allow_force_pushes": on(true),
		}
		h.Add("acme", "closed").Unavailable = true
		h.cycle(t)
		want := object{
			"enforce_admins": true, "allow_force_pushes": false, "required_linear_history": true, "allow_deletions": true, "lock_branch": false,
			"restrictions": object{"users": []any{"ann"}, "teams": []any{"core"}, "apps": []any{"bot"}},
			"required_status_checks": object{"strict": true, "checks": []any{
				object{"context": "lint"}, object{"context": "build", "app_id": 5.0},
			}},
			"required_pull_request_reviews": object{
				"required_approving_review_count": 2.0, "require_last_push_approval": true, "dismiss_stale_reviews": true, "require_code_owner_reviews": false,
				"dismissal_restrictions":         object{"users": []any{"ann"}, "teams": []any{}, "apps": []any{}},
				"bypass_pull_request_allowances": object{"users": []any{}, "teams": []any{"core"}, "apps": []any{"bot"}},
			},
		}
		if diff := cmp.Diff(want, h.Puts["acme/has main"]); diff != "" {
			t.Errorf("what was asked for (-want +got):\n%s", diff)
		}
		if !fresh.Signatures["main"] || !has.Signatures["main"] {
			t.Error("signed commits aren't required")
		}
		got := h.subjects(t, "acme")
		if s := got["acme/fresh Branch Protection"]; s.Verdict != policy.Passed || !strings.Contains(s.Details, "It was mended") {
			t.Errorf("fresh: %+v", s)
		}
		if s := got["acme/closed Branch Protection"]; s.Verdict != policy.Failed || !strings.Contains(s.Details, "could not be mended") {
			t.Errorf("closed: %+v", s)
		}
		puts := h.Count("PUT ")
		h.again(t)
		if n := h.Count("PUT ") - puts; n != 0 {
			t.Errorf("the second cycle changed %d protections", n)
		}
	})
}

// TestRunner_scorecard: published scores, then the program's.
func TestRunner_scorecard(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "scorecard")
	script := "#!/bin/sh\n[ \"$GITHUB_AUTH_TOKEN\" = secret-token ] || exit 3\n[ -z \"$SECRET\" ] || exit 4\necho '{\"checks\":[{\"name\":\"SAST\",\"score\":4,\"reason\":\"no tool\",\"details\":[\"Warn: none\"]},{\"name\":\"License\",\"score\":-1}]}'\n"
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SECRET", "the hub's own")
	h := newHub(t, "acme")
	h.cfg.Scorecard = github.ScorecardConfig{URL: "none", Command: program}
	enable(h.Server, "acme", map[string]string{"scorecard.yaml": optOut + "checks: [SAST, License]\nthreshold: 5\n"})
	h.Add("acme", "none").Put(".allstar/scorecard.yaml", "checks: []\n")
	h.Add("acme", "lower").Put(".allstar/scorecard.yaml", "threshold: 4\n")
	h.Add("acme", "more").Put(".allstar/scorecard.yaml", "threshold: 4\nchecks: [SAST, Fuzzing]\n")
	h.cycle(t)
	got := h.subjects(t, "acme")
	for repo, want := range map[string]struct {
		verdict policy.Verdict
		text    string
	}{
		".allstar": {policy.Failed, "SAST: 4 of 10, at least 5 is required: no tool\n- Warn: none"},
		"none":     {policy.Passed, "names no check"},
		"lower":    {policy.Passed, "the program scorecard"},
		"more":     {policy.Unknown, "no score for Fuzzing"},
	} {
		if s := got["acme/"+repo+" OpenSSF Scorecard"]; s.Verdict != want.verdict || !strings.Contains(s.Details, want.text) {
			t.Errorf("%s: %+v", repo, s)
		}
	}
}

// TestRunner_secrets: neither token nor key is in a log line or a record, whatever
// goes wrong.
func TestRunner_secrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		var mu sync.Mutex
		var text bytes.Buffer
		h.log = slog.NewTextHandler(writer(func(p []byte) { mu.Lock(); text.Write(p); mu.Unlock() }), &slog.HandlerOptions{Level: slog.LevelDebug})
		enable(h.Server, "acme", allPolicies)
		h.Add("acme", "shop")
		for _, at := range []string{"branches", "tarball/main", "collaborators"} {
			h.Faults["GET /repos/acme/shop/"+at] = githubtest.Broken
		}
		h.Faults["GET /codeload/acme/.allstar/"+h.Repos["acme/.allstar"].SHA("main")] = githubtest.Broken
		h.cycle(t)
		for _, s := range h.subjects(t, "acme") {
			line, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			text.Write(line)
		}
		if !strings.Contains(text.String(), "500") {
			t.Error("nothing went wrong")
		}
		for _, secret := range []string{"secret-token", "token=secret"} {
			if strings.Contains(text.String(), secret) {
				t.Errorf("%q is told", secret)
			}
		}
	})
}

// slow notes until when a request may be read.
type slow struct {
	*httptest.ResponseRecorder
	until time.Time
}

func (s *slow) SetReadDeadline(t time.Time) error { s.until = t; return nil }

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

func TestRunner_webhooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		h.cfg.WebhookSecretFile = filepath.Join(h.dir, "hook")
		if err := os.WriteFile(h.cfg.WebhookSecretFile, []byte("hook\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := simple(h)
		stop := h.start(t)
		defer stop()
		h.await(t, 1, 0)
		handler := h.runner.Webhooks()
		send := func(event, body, signature string) int {
			req := httptest.NewRequest(http.MethodPost, github.WebhookPath+"main", strings.NewReader(body))
			req.Header.Set("X-GitHub-Event", event)
			if signature == "" {
				signature = github.Sign(body, "hook")
			}
			req.Header.Set("X-Hub-Signature-256", signature)
			w := &slow{ResponseRecorder: httptest.NewRecorder()}
			handler.ServeHTTP(w, req)
			if w.Code == http.StatusAccepted && !w.until.Equal(time.Now().Add(10*time.Second)) {
				t.Errorf("%s may take until %v", event, w.until)
			}
			return w.Code
		}
		const about = `{"repository":{"name":"shop","owner":{"login":"acme"}}}`
		for _, c := range []struct {
			event, body, signature string
			want                   int
		}{
			{"push", about, "sha256=00", http.StatusUnauthorized},
			{"push", about, github.Sign(about, "other"), http.StatusUnauthorized},
			{"push", `{"repository":`, "", http.StatusBadRequest},
			{"ping", `{"zen":"x"}`, "", http.StatusNoContent},
			{"star", about, "", http.StatusNoContent},
			{"push", `{"repository":{"name":"shop","owner":{"login":"other"}}}`, "", http.StatusNoContent},
			{"push", `{"repository":{"name":"../x","owner":{"login":"acme"}}}`, "", http.StatusNoContent},
			{"push", strings.Repeat(" ", 26<<20), "", http.StatusRequestEntityTooLarge},
		} {
			if got := send(c.event, c.body, c.signature); got != c.want {
				t.Errorf("%s %.60s: %d, want %d", c.event, c.body, got, c.want)
			}
		}
		first := h.lastRun(t, "acme")
		r.Protection["main"] = nil
		for range 5 { // a burst leads to one check
			if got := send("branch_protection_rule", about, ""); got != http.StatusAccepted {
				t.Fatalf("answered %d", got)
			}
		}
		h.awaitRun(t, "acme", first.ID)
		run := h.lastRun(t, "acme")
		if run.Whole || run.Cause != "branch_protection_rule" || run.Failed != 1 {
			t.Errorf("the run: %+v", run)
		}
		if s := h.subjects(t, "acme")["acme/shop Branch Protection"]; s.Verdict != policy.Failed {
			t.Errorf("after the webhook: %+v", s)
		}
		// The organisation's configuration is everybody's.
		if got := send("push", `{"repository":{"name":".allstar","owner":{"login":"acme"}}}`, ""); got != http.StatusAccepted {
			t.Fatalf("answered %d", got)
		}
		h.awaitRun(t, "acme", run.ID)
		if run := h.lastRun(t, "acme"); !run.Whole || run.Cause != "push" {
			t.Errorf("the run: %+v", run)
		}
	})
}

// TestRunner_takeover: what a hub leaves undone another one does.
func TestRunner_takeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		simple(h)
		gone := github.Task{Connection: "main", Owner: "acme", Cause: "clock", Due: time.Now()}
		if err := h.store.MarkGitHub(t.Context(), gone, false); err != nil {
			t.Fatal(err)
		}
		if _, _, err := h.store.LeaseGitHub(t.Context(), "main", "gone", time.Now(), time.Now().Add(2*time.Minute), 1); err != nil {
			t.Fatal(err)
		}
		left := policy.Run{ID: policy.NewRunID(), Source: github.Source("acme"), Cause: "clock", Whole: true, Holder: "gone", Began: time.Now(), Expected: 5}
		if err := h.store.BeginPolicyRun(t.Context(), left); err != nil {
			t.Fatal(err)
		}
		h.cycle(t)
		runs, err := h.store.PolicyRuns(t.Context(), policy.Query{Source: github.Source("acme")})
		if err != nil || len(runs) != 2 || runs[0].State != policy.Complete || runs[1].State != policy.Truncated {
			t.Errorf("runs %+v, %v", runs, err)
		}
	})
}

// TestRunner_cut: a cycle that can't go on shows as truncated.
func TestRunner_cut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		enable(h.Server, "acme", map[string]string{"codeowners.yaml": optOut})
		for i := range 200 {
			h.Add("acme", fmt.Sprintf("repo-%d", i))
		}
		h.Latency = time.Second
		stop := h.start(t)
		for range 1000 {
			if runs, err := h.store.PolicyRuns(t.Context(), policy.Query{Source: github.Source("acme")}); err != nil || len(runs) > 0 && runs[0].Passed > 10 {
				break
			}
			time.Sleep(time.Second)
		}
		stop()
		if r := h.lastRun(t, "acme"); r.State != policy.Truncated || r.Reason == "" || r.Expected != 202 {
			t.Errorf("the run: %+v", r)
		}
	})
}

// TestRunner_published: scores that OpenSSF publishes, which are asked for without
// our token; GitHub itself is at its usual place here.
func TestRunner_published(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		h.cfg.URL, h.cfg.Scorecard.Command = "", "none"
		enable(h.Server, "acme", map[string]string{"scorecard.yaml": optOut + "checks: [License]\nthreshold: 8\n"})
		h.Add("acme", "shop")
		h.Add("acme", "secret").Private = true
		h.Add("acme", "failing")
		scores := func(score int, reason string) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Authorization") != "" || r.URL.Host != "api.scorecard.dev" {
					t.Errorf("asked %s with %q", r.URL, r.Header.Get("Authorization"))
				}
				fmt.Fprintf(w, `{"date":"2026-11-16","checks":[{"name":"License","score":%d,"reason":%q}]}`, score, reason)
				return true
			}
		}
		h.Faults["GET /projects/github.com/acme/shop"] = scores(7, "so it is")
		h.Faults["GET /projects/github.com/acme/.allstar"] = scores(9, "so it is")
		h.Faults["GET /projects/github.com/acme/failing"] = scores(-1, "internal error: no answer")
		h.cycle(t)
		got := h.subjects(t, "acme")
		for repo, want := range map[string]policy.Verdict{"shop": policy.Failed, ".allstar": policy.Passed, "secret": policy.Unknown, "failing": policy.Unknown} {
			if s := got["acme/"+repo+" OpenSSF Scorecard"]; s.Verdict != want {
				t.Errorf("%s: %+v", repo, s)
			}
		}
	})
}

// TestRunner_graphQL: a server that answers about one repository only, one that is
// gone, and a limit that GraphQL tells of in its own way.
func TestRunner_graphQL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		enable(h.Server, "acme", map[string]string{"security.yaml": optOut})
		for i := range 60 {
			h.Add("acme", fmt.Sprintf("repo-%d", i)).SecurityPolicy = true
		}
		h.Flat = true
		began := time.Now()
		h.Faults["POST /graphql"] = githubtest.Times(1, func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("X-RateLimit-Remaining", "0")
			w.Header().Set("X-RateLimit-Reset", fmt.Sprint(time.Now().Add(10*time.Minute).Unix()))
			w.Write([]byte(`{"errors":[{"type":"RATE_LIMITED","message":"API rate limit exceeded"}]}`))
			return true
		})
		h.cycle(t)
		if r := h.lastRun(t, "acme"); r.Passed != 61 || r.Failed != 1 || r.Unknown != 0 {
			t.Errorf("%+v", r)
		}
		if took := time.Since(began); took < 10*time.Minute {
			t.Errorf("the limit's end wasn't waited for: %v", took)
		}
	})
}

// TestRunner_unreadable: a file that GitHub doesn't give out breaks its layer alone.
func TestRunner_unreadable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		simple(h)
		h.Repos["acme/.allstar"].Put("codeowners.yaml", "x")
		h.Faults["GET /repos/acme/.allstar/contents/codeowners.yaml"] = func(w http.ResponseWriter, _ *http.Request) bool {
			w.Write([]byte(`{"type":"file","name":"codeowners.yaml","encoding":"none","size":2000000,"content":""}`))
			return true
		}
		h.cycle(t)
		got := h.subjects(t, "acme")
		if s := got["acme/.allstar Organisation Configuration"]; s.Verdict != policy.Failed || !strings.Contains(s.Details, "at most a megabyte") {
			t.Errorf("%+v", s)
		}
		if s := got["acme/shop CODEOWNERS"]; s.Verdict != policy.Passed {
			t.Errorf("its checks: %+v", s)
		}
	})
}

// TestRunner_changes: what changed is seen though what it was listed by didn't.
func TestRunner_changes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		org := enable(h.Server, "acme", map[string]string{
			"branch_protection.yaml":  optOut,
			"outside.yaml":            optOut + "pushAllowed: false\n",
			"security.yaml":           "baseconfig: base/config\n",
			"shop/codeowners.yaml":    "requireCODEOWNERS: false\n",
			"codeowners.yaml":         optOut + "requireCODEOWNERS: true\n",
			"dangerous_workflow.yaml": optOut,
		})
		base := h.Add("base", "config")
		base.Put("security.yaml", optOut)
		shop := h.Add("acme", "shop")
		shop.Protection["main"] = reviews(1)
		for i := range 100 {
			people(true, person(fmt.Sprintf("reader-%d", i)))(h.Server, shop)
			if i > 0 {
				shop.Branches[fmt.Sprintf("b%d", i)] = map[string]string{"README.md": "x"}
			}
		}
		verdicts := func() (out []policy.Verdict) {
			got := h.subjects(t, "acme")
			for _, p := range []string{"CODEOWNERS", "Outside Collaborators", "Dangerous Workflow", "SECURITY.md"} {
				out = append(out, got["acme/shop "+p].Verdict)
			}
			return out
		}
		h.cycle(t)
		if diff := cmp.Diff([]policy.Verdict{policy.Passed, policy.Passed, policy.Passed, policy.Failed}, verdicts()); diff != "" {
			t.Fatal(diff)
		}
		// The organisation's file for the repository, which itself has no new commit;
		// a second page of two lists; and the base is gone.
		org.Put("shop/codeowners.yaml", "requireCODEOWNERS: true\n")
		people(true, person("writer", "push"))(h.Server, shop)
		shop.Branches["z"] = map[string]string{flow: pwn}
		delete(h.Repos, "base/config")
		h.again(t)
		if diff := cmp.Diff([]policy.Verdict{policy.Failed, policy.Failed, policy.Failed, policy.Failed}, verdicts()); diff != "" {
			t.Error(diff)
		}
		if s := h.subjects(t, "acme")["acme/.allstar Organisation Configuration"]; s.Verdict != policy.Failed || !strings.Contains(s.Details, "base/config has no security.yaml; its last version") {
			t.Errorf("%+v", s)
		}
	})
}

// TestRunner_twice: a repository that is listed twice is checked once.
func TestRunner_twice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		simple(h)
		h.Faults["GET /orgs/acme/repos"] = func(w http.ResponseWriter, _ *http.Request) bool {
			const shop = `{"name": "shop", "owner": {"login": "acme"}, "default_branch": "main"}`
			fmt.Fprintf(w, "[%s, %s]", shop, shop)
			return true
		}
		h.cycle(t)
		if r := h.lastRun(t, "acme"); r.State != policy.Complete || r.Expected != 2 || r.Passed != 2 {
			t.Errorf("%+v", r)
		}
	})
}

// TestRunner_renews: a token that GitHub refuses before its time is got anew, and
// what no token helps against isn't asked one for again and again.
func TestRunner_renews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		h.useApp(t, map[int64]string{7: "acme"})
		simple(h)
		stop := h.start(t)
		defer stop()
		h.await(t, 1, 0)
		const renewal = "POST /app/installations/7/access_tokens"
		asked := h.Count(renewal)
		turn := func() policy.Run {
			t.Helper()
			last := h.lastRun(t, "acme")
			if err := h.store.MarkGitHub(t.Context(), github.Task{Connection: "main", Owner: "acme", Cause: "test", Due: time.Now()}, true); err != nil {
				t.Fatal(err)
			}
			h.awaitRun(t, "acme", last.ID)
			return h.lastRun(t, "acme")
		}
		h.Lock()
		h.Expired, h.Tokens = map[string]bool{"ghs_7": true}, map[int64]string{7: "ghs_fresh"}
		h.Unlock()
		if r := turn(); r.State != policy.Complete || r.Unknown > 0 || h.Count(renewal) != asked+1 {
			t.Errorf("with a token that was revoked: %+v, %d tokens", r, h.Count(renewal)-asked)
		}
		time.Sleep(2 * time.Minute)
		h.Lock()
		h.Expired["ghs_fresh"] = true
		h.Unlock()
		asked = h.Count(renewal)
		if r := turn(); r.State == policy.Complete || h.Count(renewal) != asked+1 {
			t.Errorf("with an installation that was suspended: %+v, %d tokens", r, h.Count(renewal)-asked)
		}
	})
}

// TestRunner_left: what stands of an organisation ends once it has uninstalled the
// App, and not by an outage, nor while it is suspended or left out.
func TestRunner_left(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		h.useApp(t, map[int64]string{7: "Acme", 8: "other"})
		enable(h.Server, "Acme", map[string]string{"binary_artifacts.yaml": optOut + "action: issue\n"})
		h.Add("Acme", "shop").Put("tool", elf)
		enable(h.Server, "other", map[string]string{"security.yaml": optOut})
		stop := h.start(t)
		defer func() { stop() }()
		h.await(t, 2, 0)
		stands := func() int {
			t.Helper()
			time.Sleep(3 * time.Hour)
			return len(h.subjects(t, "Acme"))
		}
		all := len(h.subjects(t, "Acme"))
		change := func(f func()) {
			h.Lock()
			defer h.Unlock()
			f()
		}
		if all == 0 {
			t.Fatal("nothing stands")
		}
		for _, at := range []string{"GET /app/installations", "GET /orgs/acme/installation"} {
			change(func() {
				h.Faults[at] = githubtest.Broken
				delete(h.Installations, 7)
			})
			if n := stands(); n != all {
				t.Fatalf("%d of %d stand while GitHub doesn't answer %s", n, all, at)
			}
			change(func() {
				delete(h.Faults, at)
				h.Installations[7] = "Acme"
			})
			stands()
		}
		change(func() { h.Suspended = map[string]bool{"Acme": true} })
		if n := stands(); n != all {
			t.Fatalf("%d of %d stand while the App is suspended", n, all)
		}
		change(func() { h.Suspended = nil })
		stands()
		stop()
		h.cfg.Organisations = []string{"other"}
		stop = h.start(t)
		if n := stands(); n != all {
			t.Fatalf("%d of %d stand while the configuration leaves it out", n, all)
		}
		stop()
		h.cfg.Organisations = nil
		stop = h.start(t)
		stands()
		change(func() { delete(h.Installations, 7) })
		if n := stands(); n != 0 {
			t.Errorf("%d of %d stand after the App was uninstalled", n, all)
		}
		if n := len(h.subjects(t, "other")); n == 0 {
			t.Error("nor does anything of another organisation")
		}
		alerts, err := h.store.Alerts(t.Context(), alertsOf("issue:main"))
		if err != nil || len(alerts) == 0 || !alerts[0].Outcome.Gone || alerts[0].Outcome.Subject.Repo != "shop" {
			t.Errorf("told: %+v, %v", alerts, err)
		}
	})
}

// TestRunner_names: repositories that are renamed, moved and deleted, and names
// that another one has by now.
func TestRunner_names(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		h.cfg.WebhookSecretFile = filepath.Join(h.dir, "hook")
		if err := os.WriteFile(h.cfg.WebhookSecretFile, []byte("hook\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		enable(h.Server, "acme", map[string]string{"binary_artifacts.yaml": optOut + "action: issue\n"})
		for _, name := range []string{"renamed", "moved", "deleted", "replaced"} {
			h.Add("acme", name).Put("tool", elf)
		}
		stop := h.start(t)
		defer stop()
		h.await(t, 1, 0)
		verdicts := func() map[string]policy.Verdict {
			out := map[string]policy.Verdict{}
			for name, s := range h.subjects(t, "acme") {
				if repo, ok := strings.CutSuffix(name, " Binary Artifacts"); ok {
					out[repo] = s.Verdict
				}
			}
			return out
		}
		want := map[string]policy.Verdict{"acme/.allstar": policy.Passed, "acme/renamed": policy.Failed, "acme/moved": policy.Failed, "acme/deleted": policy.Failed, "acme/replaced": policy.Failed}
		if diff := cmp.Diff(want, verdicts()); diff != "" {
			t.Fatalf("at first (-want +got):\n%s", diff)
		}
		hear := func(action, repo string) policy.Run {
			t.Helper()
			last := h.lastRun(t, "acme")
			body := fmt.Sprintf(`{"action":%q,"repository":{"name":%q,"owner":{"login":"acme"}}}`, action, repo)
			req := httptest.NewRequest(http.MethodPost, github.WebhookPath+"main", strings.NewReader(body))
			req.Header.Set("X-GitHub-Event", "repository")
			req.Header.Set("X-Hub-Signature-256", github.Sign(body, "hook"))
			w := httptest.NewRecorder()
			h.runner.Webhooks().ServeHTTP(w, req)
			if w.Code != http.StatusAccepted {
				t.Fatalf("%s %s: %d", action, repo, w.Code)
			}
			h.awaitRun(t, "acme", last.ID)
			return h.lastRun(t, "acme")
		}
		h.Lock()
		h.Rename("acme/moved", "other", "moved")
		h.Rename("acme/renamed", "acme", "called")
		delete(h.Repos, "acme/replaced")
		h.Add("acme", "replaced")
		h.Unlock()
		// What one request about the former names leads to isn't taken for them.
		for _, name := range []string{"moved", "renamed"} {
			if r := hear("edited", name); r.Whole || r.State != policy.Complete {
				t.Errorf("%s: %+v", name, r)
			}
		}
		if got := verdicts(); got["acme/called"] != policy.Failed || len(got) != 6 {
			t.Errorf("after the events about the former names: %v", got)
		}
		h.Lock()
		delete(h.Repos, "acme/deleted")
		h.Unlock()
		if r := hear("deleted", "deleted"); !r.Whole || r.State != policy.Complete {
			t.Errorf("deleted: %+v", r)
		}
		want = map[string]policy.Verdict{"acme/.allstar": policy.Passed, "acme/called": policy.Failed, "acme/replaced": policy.Passed}
		if diff := cmp.Diff(want, verdicts()); diff != "" {
			t.Errorf("in the end (-want +got):\n%s", diff)
		}
		// Issues about one that is gone may be elsewhere, and a hub that has just been
		// started knows where.
		h.Lock()
		h.Repos["acme/.allstar"].Put("allstar.yaml", optOut+"issueRepo: .allstar\nissueLabel: audit\n")
		h.Unlock()
		fresh, err := github.NewRunner(github.RunnerConfig{Connections: []github.Config{h.cfg}, Store: h.store, Holder: "fresh", Logger: slog.New(h.log), Transport: h.Server})
		if err != nil {
			t.Fatal(err)
		}
		if s, err := fresh.Issues(t.Context(), "main", "acme", "deleted"); err != nil || s.Repo != ".allstar" || s.Label != "audit" {
			t.Errorf("issues about one that is gone: %+v, %v", s, err)
		}
		// The issues of those that aren't there any more end.
		alerts, err := h.store.Alerts(t.Context(), alertsOf("issue:main"))
		if err != nil {
			t.Fatal(err)
		}
		var gone []string
		for _, a := range alerts {
			if a.Outcome.Gone {
				gone = append(gone, a.Outcome.Subject.Repo+" "+a.Outcome.Policy)
			}
		}
		slices.Sort(gone)
		if diff := cmp.Diff([]string{"deleted Binary Artifacts", "moved Binary Artifacts", "renamed Binary Artifacts"}, gone); diff != "" {
			t.Errorf("closed (-want +got):\n%s", diff)
		}
	})
}
