package hub_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/alert/rpc"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/insight"
	insightlink "reeve.dev/reeve/insight/link"
	"reeve.dev/reeve/policy"
	"reeve.dev/reeve/policy/remedy"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/tunnel"
)

type policyList struct {
	Items []struct {
		Name     string
		Subjects struct{ Passed, Failed, Unknown int }
		LastRun  struct{ State string }
	}
}

// TestHub_ownPolicies: what an agent reports, and what a scan finds, leads to the
// outcomes of policies, and to their sinks and hooks.
func TestHub_ownPolicies(t *testing.T) {
	cfg := config(t)
	told := sink(t, &cfg)
	rpcAction := []policy.Action{{Kind: "rpc"}}
	cfg.Policies = []policy.Policy{
		{Name: "sboms", Check: policy.Check{SBOM: &policy.SBOMCheck{}}, Actions: append(rpcAction, policy.Action{Kind: policy.KindFix, Name: "mark"})},
		{Name: "host", Check: policy.Check{Control: &policy.ControlCheck{Profile: "p", ID: "one"}}, Actions: rpcAction},
	}
	h := start(t, cfg)
	marked := make(chan remedy.Event, 8)
	a := newAgent(t, h.dial(t, h.enrolled(t, "east"), tunnel.WebSocket), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e remedy.Event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil || r.URL.Path != remedy.Path+"mark" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		marked <- e
	}))
	a.register(t, "east", "i1", nil)
	shop := insight.Workload{Namespace: "web", Kind: "Deployment", Name: "shop", Container: "app", Image: "reg/shop:1", Digest: "sha256:1"}
	view := insight.View{Namespaces: map[string]string{"web": "1"}, Contents: map[string]insight.Contents{"web": {Workloads: []insight.Workload{shop}}}}
	reporter := &insightlink.Client{Base: "http://hub", HTTP: a.http, Logger: slog.New(slog.DiscardHandler)}
	if wanted, err := reporter.SendView(t.Context(), view); err != nil || len(wanted) > 0 {
		t.Fatalf("wanted %v, %v", wanted, err)
	}
	next := func(policy string) rpc.Received {
		t.Helper()
		for {
			got := <-told
			if got.Outcome.Policy == policy {
				return got
			}
		}
	}
	if got := next("sboms"); got.Outcome.Pass || got.Outcome.Subject.Owner != "east/web" || got.Outcome.Subject.Repo != "Deployment/shop/app" || !strings.Contains(got.Outcome.Details, "no SBOM") {
		t.Errorf("told %v", got)
	}
	if e := <-marked; e.Workload != "Deployment/shop" || e.Pod != "" || e.Namespace != "web" || e.Policy != "sboms" || e.Passed || !e.Standing || e.Group != "policy sboms" {
		t.Errorf("the hook hears %+v", e)
	}
	for _, status := range []hdf.Status{hdf.Failed, hdf.Passed} {
		var s scanAnswer
		h.call(t, "POST", "/api/v1/scans", scanRequest(), http.StatusAccepted, &s)
		job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.scans.SendResults(t.Context(), job.ID, job.Attempt, results(t, status)); err != nil {
			t.Fatal(err)
		}
		if got := next("host"); got.Outcome.Pass != (status == hdf.Passed) || got.Outcome.Subject.Repo != "main/app" {
			t.Errorf("of a control that %s: told %v", status, got)
		}
	}
	// A scan that can't be made leaves nothing known.
	var s scanAnswer
	h.call(t, "POST", "/api/v1/scans", scanRequest(), http.StatusAccepted, &s)
	job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil)
	if err == nil {
		err = a.scans.SendFailure(t.Context(), job.ID, job.Attempt, "the container has no shell", false)
	}
	if err != nil {
		t.Fatal(err)
	}
	until(t, "policies stand so", func() bool {
		var list policyList
		h.call(t, "GET", "/api/v1/policies", nil, http.StatusOK, &list)
		return len(list.Items) == 2 && list.Items[0].Subjects.Failed == 1 && list.Items[0].LastRun.State != "" && list.Items[1].Subjects.Unknown == 1
	})
	var subjects struct {
		Items []struct{ Repo, Verdict, Details, Run string }
	}
	h.call(t, "GET", "/api/v1/policy-subjects?policy=host", nil, http.StatusOK, &subjects)
	if len(subjects.Items) != 1 || subjects.Items[0].Run != s.ID || !strings.Contains(subjects.Items[0].Details, "the container has no shell") {
		t.Errorf("subjects %+v", subjects)
	}
}

// TestConfig_policies: each key that is wrong is named.
func TestConfig_policies(t *testing.T) {
	const base = "policies:\n- name: p\n  check: {sbom: {}}\n"
	for name, tc := range map[string]struct{ text, says string }{
		"unknown key":          {base + "  acions: [log]\n", `hub.yaml: line 4: unknown key "acions"; did you mean "actions"?`},
		"unknown check":        {"policies:\n- name: p\n  check: {sboms: {}}\n", `hub.yaml: line 3: unknown key "sboms"; did you mean "sbom"?`},
		"unknown key of check": {"policies:\n- name: p\n  check: {problem: {severty: high}}\n", `unknown key "severty"; did you mean "severity"?`},
		"no name":              {"policies:\n- check: {sbom: {}}\n", `policies[0].name ""`},
		"twice":                {base + "- name: p\n  check: {sbom: {}}\n", `policies[1].name: "p" is there twice`},
		"no check":             {"policies:\n- name: p\n", "policies[0].check: it has 0 members; give one of scan, control, problem, fact, sbom, image"},
		"two checks":           {"policies:\n- name: p\n  check: {sbom: {}, image: {maxAge: 1h}}\n", "policies[0].check: it has 2 members"},
		"an action":            {base + "  actions: [RPC]\n", `action "RPC": it must be KIND or KIND/NAME`},
		"an unknown action":    {base + "  actions: [tell]\n", "policies[0].actions[0]: action tell: there is no sink of that type; sinks has none"},
		"an unknown sink":      {base + "  actions: [log, rpc/x]\n", `policies[0].actions[1]: action rpc/x: there is no sink "x"; sinks has none`},
		"an agent":             {base + "  subjects: {agents: [A]}\n", "policies[0].subjects.agents[0]"},
		"an environment":       {base + "  subjects: {environments: [main]}\n", `policies[0].subjects.environments[0] "main": it must be PROJECT/NAME`},
		"an image":             {base + "  subjects: {images: ['']}\n", "policies[0].subjects.images[0]: it must have 1 to 512 bytes"},
		"a schedule":           {base + "  schedule: {hours: all}\n", `policies[0].schedule.hours "all"`},
		"a time zone":          {base + "  schedule: {timeZone: CET-1}\n", `policies[0].schedule.timeZone "CET-1"`},
		"every":                {base + "  every: 1s\n", "policies[0].every 1s: it must be between 1m0s and 168h0m0s"},
		"every what":           {base + "  every: daily\n", "hub.yaml: line 4"},
		"severity":             {"policies:\n- name: p\n  check: {problem: {severity: bad}}\n", `policies[0].check.problem.severity "bad": it must be low, medium, high or critical`},
		"unrated":              {"policies:\n- name: p\n  check: {problem: {unrated: pass}}\n", `policies[0].check.problem.unrated "pass": it must be count or ignore`},
		"olderThan":            {"policies:\n- name: p\n  check: {problem: {olderThan: -1h}}\n", "policies[0].check.problem.olderThan -1h0m0s: it must not be negative"},
		"profile":              {"policies:\n- name: p\n  check: {scan: {profile: p@1}}\n", `policies[0].check.scan.profile "p@1": it must be the name of a profile, without a version`},
		"control":              {"policies:\n- name: p\n  check: {control: {profile: p}}\n", "policies[0].check.control.id: it is missing"},
		"control's regexp":     {"policies:\n- name: p\n  check: {control: {id: '/(/'}}\n", `policies[0].check.control.id "/(/": error parsing regexp`},
		"labels of scans":      {"policies:\n- name: p\n  subjects: {labels: {a: b}}\n  check: {scan: {profile: p}}\n", "policies[0].subjects: a check of scans chooses by agents and namespaces alone"},
		"fact":                 {"policies:\n- name: p\n  check: {fact: {value: x}}\n", "policies[0].check.fact.name: it is missing"},
		"fact's version":       {"policies:\n- name: p\n  check: {fact: {name: php, version: new}}\n", `policies[0].check.fact.version "new": it must be a range of versions`},
		"fact's value":         {"policies:\n- name: p\n  check: {fact: {name: php, version: '>=8', value: x}}\n", "policies[0].check.fact.version: there is a value, too"},
		"image's nothing":      {"policies:\n- name: p\n  check: {image: {}}\n", "policies[0].check.image.maxAge: it is missing"},
		"maxAge":               {"policies:\n- name: p\n  check: {sbom: {maxAge: -1h}}\n", "policies[0].check.sbom.maxAge -1h0m0s: it must not be negative"},
		"whose SBOMs count":    {"insights:\n  sbomsFrom: [{namespaces: [build]}]\n", "insights.sbomsFrom[0].agents: it is missing; name the agents"},
		"where they come from": {"insights:\n  sbomsFrom: [{agents: [ci]}, {agents: [ci], namespaces: [A]}]\n", "insights.sbomsFrom[1].namespaces[0]"},
		"an override's key":    {base + "  overrides: [{namespace: [a]}]\n", `unknown key "namespace"; did you mean "namespaces"?`},
		"an override's place":  {base + "  overrides: [{namespaces: [A]}]\n", "policies[0].overrides[0].namespaces[0]"},
		"an override's check":  {base + "  overrides: [{check: {image: {maxAge: 1h}}}]\n", "policies[0].overrides[0].check.image: the policy's check is sbom"},
		"an override's action": {base + "  overrides: [{actions: [rpc]}]\n", "policies[0].overrides[0].actions[0]: action rpc: there is no sink of that type"},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir() + "/hub.yaml"
			write(t, path, tc.text)
			if _, err := hub.LoadConfig(path); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v; want %q", err, tc.says)
			}
		})
	}
}

// TestHub_policyCounts: what somebody chose so that it passes is no policy's.
func TestHub_policyCounts(t *testing.T) {
	cfg := config(t)
	cfg.Policies = []policy.Policy{{Name: "baseline", Check: policy.Check{Scan: &policy.ScanCheck{Profile: "p"}}}}
	h := start(t, cfg)
	a := newAgent(t, h.dial(t, h.enrolled(t, "east"), tunnel.WebSocket), nil)
	a.register(t, "east", "i1", nil)
	judged := func(change func(map[string]any)) int {
		t.Helper()
		var s scanAnswer
		request := scanRequest()
		change(request)
		h.call(t, "POST", "/api/v1/scans", request, http.StatusAccepted, &s)
		job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.scans.SendResults(t.Context(), job.ID, job.Attempt, results(t, hdf.Passed)); err != nil {
			t.Fatal(err)
		}
		var subjects struct{ Items []struct{ Run string } }
		h.call(t, "GET", "/api/v1/policy-subjects", nil, http.StatusOK, &subjects)
		return len(slices.DeleteFunc(subjects.Items, func(i struct{ Run string }) bool { return i.Run != s.ID }))
	}
	scanned := func(change func(map[string]any)) func(map[string]any) {
		return func(r map[string]any) { change(r["scan"].(map[string]any)) }
	}
	got := map[string]int{
		"a threshold": judged(func(map[string]any) {}),
		"inputs":      judged(scanned(func(s map[string]any) { delete(s, "threshold"); s["inputs"] = map[string]any{"a": 1} })),
		"nothing":     judged(scanned(func(s map[string]any) { delete(s, "threshold") })),
	}
	if d := cmp.Diff(map[string]int{"a threshold": 0, "inputs": 0, "nothing": 1}, got); d != "" {
		t.Errorf("results by scans that somebody chose … for (-want +got):\n%s", d)
	}
	asked, err := a.scans.Ask(t.Context(), scan.Request{
		Target: scan.Target{Namespace: "web", Pod: "main", Container: "app"}, Profile: "p", RequestedBy: "scans.reeve.dev web/mine", Key: scan.Key{Name: "uid"},
	})
	if err != nil {
		t.Fatal(err)
	}
	job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil)
	if err == nil {
		err = a.scans.SendResults(t.Context(), job.ID, job.Attempt, results(t, hdf.Passed))
	}
	if err != nil {
		t.Fatal(err)
	}
	var subjects struct{ Items []struct{ Run string } }
	h.call(t, "GET", "/api/v1/policy-subjects", nil, http.StatusOK, &subjects)
	if len(subjects.Items) != 1 || subjects.Items[0].Run == string(asked.ID) {
		t.Errorf("subjects after a scan of the cluster's own: %+v", subjects)
	}
}
