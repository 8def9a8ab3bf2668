package github_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reeve.dev/reeve/alert"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/policy/github"
	"reeve.dev/reeve/policy/github/githubtest"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
)

const web = "https://github.test"

// hub is a runner on a database, with a GitHub.
type hub struct {
	*githubtest.Server
	store  *store.Store
	cfg    github.Config
	dir    string
	log    slog.Handler
	runner *github.Runner
}

func newHub(t *testing.T, organisations ...string) *hub {
	t.Helper()
	h := &hub{Server: githubtest.New(), dir: t.TempDir(), log: slog.NewTextHandler(io.Discard, nil)}
	h.Limit, h.Remaining = 1_000_000, 1_000_000
	h.cfg = github.Config{Name: "main", URL: web, TokenFile: filepath.Join(h.dir, "token"), Organisations: organisations}
	if err := os.WriteFile(h.cfg.TokenFile, []byte("secret-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if h.store, err = sqlite.Open(t.Context(), filepath.Join(h.dir, "reeve.db"), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.store.Close() })
	return h
}

var errNotAllowed = errors.New("the operator doesn't allow it")

// start runs the checks until stop is called.
func (h *hub) start(t *testing.T) (stop func()) {
	t.Helper()
	if err := h.cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	r, err := github.NewRunner(github.RunnerConfig{
		Connections: []github.Config{h.cfg}, Store: h.store, Sinks: policy.Sinks{"ci": "webhook", "security": "rpc"},
		IssueSink: func(connection string) string { return "issue:" + connection },
		EndpointSink: func(endpoint string) (string, error) {
			if strings.HasPrefix(endpoint, "evil") {
				return "", errNotAllowed
			}
			return "endpoint:" + endpoint, nil
		},
		Holder: "hub", Logger: slog.New(h.log), Transport: h.Server,
	})
	if err != nil {
		t.Fatal(err)
	}
	h.runner = r
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		r.Close()
	}
}

// cycle makes one whole cycle of each organisation.
func (h *hub) cycle(t *testing.T) {
	t.Helper()
	stop := h.start(t)
	defer stop()
	h.await(t, len(h.cfg.Organisations), 0)
}

// await waits until so many organisations were checked since a time.
func (h *hub) await(t *testing.T, n int, since time.Duration) {
	t.Helper()
	from := time.Now().Add(-since)
	for range 100_000 {
		done := 0
		for _, s := range h.runner.Status() {
			if !s.Completed.IsZero() && !s.Completed.Before(from) {
				done++
			}
		}
		if done >= n {
			return
		}
		time.Sleep(time.Second) // of the bubble's time
	}
	t.Fatalf("not all of %d organisations were checked", n)
}

// subjects is how each repository stands: "ORG/REPO POLICY" → its record.
func (h *hub) subjects(t *testing.T, org string) map[string]policy.SubjectRecord {
	t.Helper()
	out := map[string]policy.SubjectRecord{}
	q := policy.Query{Source: github.Source(org), Limit: 1000}
	list, err := h.store.PolicySubjects(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		out[s.Subject.Owner+"/"+s.Subject.Repo+" "+s.Policy] = s
	}
	return out
}

func (h *hub) lastRun(t *testing.T, org string) policy.Run {
	t.Helper()
	runs, err := h.store.PolicyRuns(t.Context(), policy.Query{Source: github.Source(org)})
	if err != nil || len(runs) == 0 {
		t.Fatalf("no run of %s: %v", org, err)
	}
	return runs[0]
}

const optOut = "optConfig: {optOutStrategy: true}\n"

// enable has all repositories of an organisation checked by policies, by their
// files' names; text is what else the first of them says.
func enable(s *githubtest.Server, org string, files map[string]string) *githubtest.Repo {
	r := s.Add(org, ".allstar")
	r.Put("allstar.yaml", optOut)
	for name, text := range files {
		r.Put(name, text)
	}
	return r
}

func TestRunner_cycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		enable(h.Server, "acme", map[string]string{"security.yaml": optOut + "action: issue\n", "branch_protection.yaml": optOut})
		for i := range 250 {
			h.Add("acme", fmt.Sprintf("repo-%03d", i)).SecurityPolicy = i%2 == 0
		}
		h.Faults["GET /repos/acme/repo-007/branches"] = githubtest.Broken
		h.cycle(t)
		run := h.lastRun(t, "acme")
		// 251 repositories by two policies, the organisation's configuration, and
		// that of the one that couldn't be read.
		if run.State != policy.Complete || run.Expected != 2*251+2 || run.Unknown != 3 || run.Passed != 125+1 || !run.Whole {
			t.Errorf("run: %+v", run)
		}
		got := h.subjects(t, "acme")
		broken := got["acme/repo-007 Branch Protection"]
		if broken.Verdict != policy.Unknown || !strings.Contains(broken.Details, "500") {
			t.Errorf("the broken repository: %+v", broken)
		}
		alerts, err := h.store.Alerts(t.Context(), alertsOf("issue:main"))
		if err != nil || len(alerts) != 250 {
			t.Errorf("%d alerts for issues, want one for each repository that was judged; %v", len(alerts), err)
		}
	})
}

func alertsOf(sink string) alert.Filter { return alert.Filter{Sink: sink, Limit: 1000} }

// allPolicies turns every policy on that needs no program of its own.
var allPolicies = map[string]string{
	"binary_artifacts.yaml": optOut, "branch_protection.yaml": optOut, "codeowners.yaml": optOut, "outside.yaml": optOut, "security.yaml": optOut,
	"dangerous_workflow.yaml": optOut, "admin.yaml": optOut, "actions.yaml": "groups: [{rules: [{method: deny, actions: [{name: evil/*}]}]}]\n",
}

// The bar is that of 1000 repositories in a minute where each answer takes 50 ms,
// and of a second cycle that costs a tenth of the limit of 5000 requests an hour.
func TestRunner_thousand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		h.useApp(t, map[int64]string{7: "acme"})
		enable(h.Server, "acme", allPolicies)
		for i := range 999 {
			r := h.Add("acme", fmt.Sprintf("repo-%03d", i))
			r.Put(".github/workflows/ci.yml", usesA)
			if i%2 == 0 {
				r.Protection["main"] = reviews(1)
			}
			if i%3 == 0 {
				r.Rules["main"] = []object{pullRequest}
			}
			if i%5 == 0 {
				r.Put(".github/CODEOWNERS", "* @acme/team")
			}
		}
		h.Latency = 50 * time.Millisecond
		stop := h.start(t)
		defer stop()
		h.await(t, 1, 0)
		first := h.lastRun(t, "acme")
		took, cost := first.Ended.Sub(first.Began), h.cost()
		h.awaitRun(t, "acme", first.ID)
		second := h.lastRun(t, "acme")
		again := h.cost() - cost
		t.Logf("first cycle: %v, %d requests; second cycle: %v, %d requests of the limit", took, cost, second.Ended.Sub(second.Began), again)
		if first.State != policy.Complete || second.State != policy.Complete || first.Expected != 8*1000+1 || first.Passed != second.Passed || first.Unknown+second.Unknown > 0 {
			t.Errorf("runs: %+v, %+v", first, second)
		}
		if took >= time.Minute {
			t.Errorf("the first cycle took %v", took)
		}
		if again >= 500 {
			t.Errorf("the second cycle cost %d requests of 5000", again)
		}
	})
}

func (h *hub) cost() int {
	h.Lock()
	defer h.Unlock()
	return h.Cost
}

// awaitRun waits for a run of an organisation after one to end.
func (h *hub) awaitRun(t *testing.T, org string, after policy.RunID) {
	t.Helper()
	for range 100_000 {
		if r := h.lastRun(t, org); r.ID != after && r.State != policy.Running {
			return
		}
		time.Sleep(10 * time.Second)
	}
	t.Fatal("no run followed")
}

// useApp has the hub ask as a GitHub App that was installed.
func (h *hub) useApp(t *testing.T, installations map[int64]string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(h.dir, "app.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	h.Key, h.Installations = &key.PublicKey, installations
	h.cfg.TokenFile, h.cfg.AppID, h.cfg.PrivateKeyFile = "", 4711, file
}

// TestRunner_standing: each hub tells of what all check, also after a start.
func TestRunner_standing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, "acme")
		enable(h.Server, "acme", map[string]string{"security.yaml": optOut})
		h.cycle(t)
		sent := h.runner.Status()[0]
		for _, holder := range []string{"another", "hub"} {
			r, err := github.NewRunner(github.RunnerConfig{Connections: []github.Config{h.cfg}, Store: h.store, Holder: holder, Logger: slog.New(h.log), Transport: h.Server})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- r.Run(ctx) }()
			synctest.Wait() // it found who is to be checked, and that nothing is due
			got, err := r.Standing(t.Context())
			cancel()
			if err := errors.Join(err, <-done); err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || !got[0].Completed.Equal(sent.Completed.Truncate(time.Microsecond)) || len(r.Status()[0].Limits) > 0 {
				t.Errorf("%s: %+v, want %+v", holder, got, sent)
			}
			if holder == "another" && (len(got[0].Limits) == 0 || got[0].Requests != sent.Requests) {
				t.Errorf("%s: %+v, want %+v", holder, got, sent)
			}
		}
	})
}
