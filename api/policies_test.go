package api_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/policy"
)

var testPolicies = []policy.Policy{
	{Name: "sboms", Description: "Each image has one.", Check: policy.Check{SBOM: &policy.SBOMCheck{MaxAge: 720 * time.Hour}}, Actions: []policy.Action{{Kind: "rpc", Name: "sink"}}},
	{Name: "strict", Check: policy.Check{Scan: &policy.ScanCheck{Profile: "p"}}, DisableOverride: true},
}

// secretPolicies are about places that not everybody knows.
var secretPolicies = []policy.Policy{
	{
		Name: "some", Check: policy.Check{SBOM: &policy.SBOMCheck{}},
		Subjects: policy.Selector{Scope: fleet.Scope{Namespaces: []string{"web", "bank-*"}}, Environments: []string{"bank/main"}, Images: []string{"bank/*"}},
		Overrides: []policy.Override{
			{Scope: fleet.Scope{Namespaces: []string{"bank-1"}}, Change: policy.Change{OptOut: true}},
			{Scope: fleet.Scope{Namespaces: []string{"w*", "bank-2"}}, Change: policy.Change{Actions: []policy.Action{{Kind: "log"}}}},
		},
	},
	{Name: "bank", Subjects: policy.Selector{Scope: fleet.Scope{Namespaces: []string{"bank-*"}}}, Check: policy.Check{SBOM: &policy.SBOMCheck{}}},
}

// withPolicies is an API with policies that came to something.
func withPolicies(t *testing.T) *world {
	t.Helper()
	w := newWorldWith(t, func(cfg *api.Config) {
		cfg.Policies = policy.New(policy.Config{Policies: testPolicies, Sinks: policy.Sinks{"sink": "rpc"}, Logger: slog.New(slog.DiscardHandler)})
	}, "east")
	r := policy.Run{ID: policy.NewRunID(), Source: policy.Fleet, Policy: "sboms", Whole: true, Cause: "clock", Began: time.Now(), Expected: 3}
	if err := w.store.BeginPolicyRun(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	var results []fleet.Result
	for _, at := range []string{"shop", "shop", "web"} {
		results = append(results, fleet.Result{
			Outcome: fleet.Outcome{Subject: fleet.Subject{Owner: "east/" + at, Repo: fmt.Sprint("Deployment/", len(results), "/c")}, Policy: "sboms", Pass: len(results) == 0, Details: "so it is"},
			Agent:   "east", Namespace: at, Sinks: []string{"sink"},
		})
	}
	if err := w.store.RecordResults(t.Context(), r.ID, results, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := w.store.EndPolicyRun(t.Context(), r.ID, "", time.Now()); err != nil {
		t.Fatal(err)
	}
	return w
}

func items[T any](t *testing.T, a answer) (out []T, next string) {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.text)
	}
	var page struct {
		Items []T
		Next  string
	}
	if err := json.Unmarshal([]byte(a.text), &page); err != nil {
		t.Fatal(err)
	}
	return page.Items, page.Next
}

func TestPolicies(t *testing.T) {
	w := withPolicies(t)
	found, _ := items[api.Policy](t, w.do(t, "GET", "/api/v1/policies", ""))
	if len(found) != 2 || found[0].LastRun == nil || found[1].LastRun != nil {
		t.Fatalf("policies %+v", found)
	}
	if r := found[0].LastRun; r.State != policy.Complete || r.Expected != 3 || r.Results != (api.PolicyTally{Passed: 1, Failed: 2}) {
		t.Errorf("the last run: %+v", r)
	}
	found[0].LastRun = nil
	want := api.Policy{
		Name: "sboms", Description: "Each image has one.", Check: "sbom", Actions: []string{"rpc/sink"}, Subjects: api.PolicyTally{Passed: 1, Failed: 2},
		Definition: found[0].Definition,
	}
	if d := cmp.Diff(want, found[0]); d != "" {
		t.Errorf("policy (-want +got):\n%s", d)
	}
	for _, line := range []string{"name: sboms", "maxAge: 720h0m0s", "- rpc/sink", "every: 24h0m0s"} {
		if !strings.Contains(found[0].Definition, line) {
			t.Errorf("the definition lacks %q:\n%s", line, found[0].Definition)
		}
	}
	if a := w.do(t, "GET", "/api/v1/policies/none", ""); a.status != http.StatusNotFound {
		t.Errorf("no policy: %d %s", a.status, a.text)
	}
	runs, _ := items[api.PolicyRun](t, w.do(t, "GET", "/api/v1/policy-runs?policy=sboms&state=complete", ""))
	if len(runs) != 1 || runs[0].Source != policy.Fleet {
		t.Errorf("runs %+v", runs)
	}
	one, next := items[api.PolicySubject](t, w.do(t, "GET", "/api/v1/policy-subjects?verdict=failed&limit=1", ""))
	two, end := items[api.PolicySubject](t, w.do(t, "GET", "/api/v1/policy-subjects?verdict=failed&limit=1&before="+next, ""))
	if len(one) != 1 || len(two) != 1 || one[0].Namespace != "shop" || two[0].Namespace != "web" || end != "" {
		t.Errorf("subjects by page: %+v, %+v, then %q", one, two, end)
	}

	// Who may know of a part of the fleet sees that part.
	web := w.caller(t, pki.Right{Role: pki.Operator, Scope: fleet.Scope{Namespaces: []string{"web"}}})
	found, _ = items[api.Policy](t, web("GET", "/policies", ""))
	if found[0].Subjects != (api.PolicyTally{Failed: 1}) || found[0].LastRun != nil {
		t.Errorf("policies for web: %+v", found[0])
	}
	if seen, _ := items[api.PolicySubject](t, web("GET", "/policy-subjects", "")); len(seen) != 1 || seen[0].Namespace != "web" {
		t.Errorf("subjects for web: %+v", seen)
	}
	all, _ := items[api.Alert](t, w.do(t, "GET", "/api/v1/alerts", ""))
	mine, _ := items[api.Alert](t, web("GET", "/alerts", ""))
	if len(all) != 3 || len(mine) != 1 || mine[0].Owner != "east/web" {
		t.Fatalf("alerts %+v; for web %+v", all, mine)
	}
	for _, al := range all {
		want := http.StatusNotFound
		if al.ID == mine[0].ID {
			want = http.StatusOK
		}
		if a := web("GET", "/alerts/"+string(al.ID), ""); a.status != want {
			t.Errorf("the alert of %s for web: %d", al.Owner, a.status)
		}
		if a := web("POST", "/alerts/"+string(al.ID)+"/skip", ""); a.status != want {
			t.Errorf("skip the alert of %s for web: %d", al.Owner, a.status)
		}
	}
	if a := web("GET", "/policy-runs", ""); a.status != http.StatusForbidden {
		t.Errorf("runs for web: %d", a.status)
	}
}

// Who may know of a part of the fleet isn't told which other places there are.
func TestPolicies_within(t *testing.T) {
	w := newWorldWith(t, func(cfg *api.Config) {
		cfg.Policies = policy.New(policy.Config{Policies: secretPolicies, Logger: slog.New(slog.DiscardHandler)})
	}, "east")
	web := w.caller(t, pki.Right{Role: pki.Operator, Scope: fleet.Scope{Namespaces: []string{"web"}}})
	a := web("GET", "/policies", "")
	found, _ := items[api.Policy](t, a)
	if len(found) != 1 || strings.Contains(a.text, "bank") {
		t.Errorf("policies for web: %s", a.text)
	}
	for _, part := range []string{"# without what is about other places\n", "- web\n", "- w*\n", "- log\n"} {
		if !strings.Contains(found[0].Definition, part) {
			t.Errorf("the definition lacks %q:\n%s", part, found[0].Definition)
		}
	}
	if a := web("GET", "/policies/bank", ""); a.status != http.StatusNotFound {
		t.Errorf("the policy of others: %d %s", a.status, a.text)
	}
	all, _ := items[api.Policy](t, w.do(t, "GET", "/api/v1/policies", ""))
	if len(all) != 2 || strings.Contains(all[0].Definition, "#") || !strings.Contains(all[0].Definition, "bank-1") {
		t.Errorf("policies for all: %+v", all)
	}

	// Nobody fills the hub with overrides.
	const at, text = "/policy-overrides/east/web", `{"text": "some: {optOut: true}"}`
	by := decode[api.PolicyOverride](t, web("PUT", at, text), http.StatusCreated).By
	if a := web("DELETE", at, ""); a.status != http.StatusNoContent {
		t.Fatalf("%d %s", a.status, a.text)
	}
	for n := range policy.MaxLayers {
		l := policy.Layer{Place: policy.Place{Agent: "east", Namespace: fmt.Sprint("n", n)}, Text: "some: {}", By: by, At: time.Now()}
		if _, err := w.store.PutPolicyLayer(t.Context(), l, nil); err != nil {
			t.Fatal(err)
		}
	}
	if a := web("PUT", at, text); a.status != http.StatusConflict || !strings.Contains(a.text, "as many as one may") {
		t.Errorf("one override more: %d %s", a.status, a.text)
	}
}

func TestPolicies_overrides(t *testing.T) {
	w := withPolicies(t)
	const at = "/policy-overrides/east/web"
	web := w.caller(t, pki.Right{Role: pki.Operator, Scope: fleet.Scope{Namespaces: []string{"web"}}})
	body := func(text string) string {
		b, err := json.Marshal(map[string]string{"text": text})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, step := range []struct {
		what, text, says string
	}{
		{"no YAML", "a: [", "did not find"},
		{"a list", "- sboms", "cannot unmarshal"},
		{"an unknown policy", "sbom: {optOut: true}", "there is no policy of that name; there are: sboms, strict"},
		{"an unknown key", "sboms: {optout: true}", `unknown key \"optout\"; did you mean \"optOut\"?`},
		{"another check", "sboms: {check: {image: {maxAge: 1h}}}", "check.image: the policy's check is sbom"},
		{"an age that isn't one", "sboms: {check: {sbom: {maxAge: old}}}", "cannot unmarshal"},
		{"a negative age", "sboms: {check: {sbom: {maxAge: -1h}}}", "check.sbom.maxAge -1h0m0s: it must not be negative"},
		{"a sink of others", "sboms: {actions: [webhook/ci]}", "webhook/ci is none of the policy's own, rpc/sink"},
		{"no action", "sboms: {actions: [rpc/Sink]}", "it must be KIND or KIND/NAME"},
		{"a day that isn't one", "sboms: {schedule: {days: [funday]}}", `schedule.days[0] \"funday\": it must be a day of the week`},
		{"what can't be overridden", "strict: {optOut: true}", "disableOverride"},
		{"too much", strings.Repeat("#", policy.MaxLayer+1), "expected length <= 65536"},
		{"nothing", "", "expected length >= 1"},
	} {
		if a := web("PUT", at, body(step.text)); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.text, step.says) {
			t.Errorf("%s: %d %s; want %q", step.what, a.status, a.text, step.says)
		}
	}
	text := "sboms: {check: {sbom: {maxAge: 24h}}, actions: [log]}"
	if a := web("PUT", "/policy-overrides/east/shop", body(text)); a.status != http.StatusForbidden {
		t.Errorf("of another namespace: %d %s", a.status, a.text)
	}
	made := web("PUT", at, body(text))
	if made.status != http.StatusCreated {
		t.Fatalf("put: %d %s", made.status, made.text)
	}
	tag := made.header.Get("ETag")
	if a := do(t, w.admin, "GET", w.url+"/api/v1"+at, "", "If-None-Match", tag); a.status != http.StatusNotModified {
		t.Errorf("get it again: %d %s", a.status, a.text)
	}
	if a := do(t, w.admin, "PUT", w.url+"/api/v1"+at, body("sboms: {}"), "If-Match", `"other"`, "Content-Type", "application/json"); a.status != http.StatusPreconditionFailed {
		t.Errorf("put over another: %d %s", a.status, a.text)
	}
	if a := do(t, w.admin, "PUT", w.url+"/api/v1"+at, body("sboms: {}"), "If-None-Match", "*", "Content-Type", "application/json"); a.status != http.StatusPreconditionFailed || !strings.Contains(a.text, "there is one already") {
		t.Errorf("put where there is one: %d %s", a.status, a.text)
	}
	if a := do(t, w.admin, "PUT", w.url+"/api/v1"+at, body("sboms: {optOut: true}"), "If-Match", tag, "Content-Type", "application/json"); a.status != http.StatusOK {
		t.Errorf("put over it: %d %s", a.status, a.text)
	}
	if a := do(t, w.admin, "DELETE", w.url+"/api/v1"+at, "", "If-Match", tag); a.status != http.StatusPreconditionFailed {
		t.Errorf("delete what it was: %d %s", a.status, a.text)
	}

	// What was right once may not be any more: that is said, and it is still there.
	l := policy.Layer{Place: policy.Place{Agent: "east", Namespace: "shop"}, Text: "gone: {optOut: true}", By: "anna", At: time.Now()}
	if _, err := w.store.PutPolicyLayer(t.Context(), l, nil); err != nil {
		t.Fatal(err)
	}
	all, _ := items[api.PolicyOverride](t, w.do(t, "GET", "/api/v1/policy-overrides", ""))
	if len(all) != 2 || len(all[0].Faults) != 1 || all[0].Faults[0].Policy != "gone" || len(all[1].Faults) != 0 {
		t.Errorf("overrides %+v", all)
	}
	if mine, _ := items[api.PolicyOverride](t, web("GET", "/policy-overrides", "")); len(mine) != 1 || mine[0].Namespace != "web" {
		t.Errorf("overrides for web: %+v", mine)
	}
	if a := web("GET", "/policy-overrides/east/shop", ""); a.status != http.StatusNotFound {
		t.Errorf("get another's: %d", a.status)
	}
	if a := web("DELETE", at, ""); a.status != http.StatusNoContent {
		t.Errorf("delete: %d %s", a.status, a.text)
	}
	if a := web("DELETE", at, ""); a.status != http.StatusNotFound {
		t.Errorf("delete again: %d", a.status)
	}
}
