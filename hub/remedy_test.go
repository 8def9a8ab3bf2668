package hub_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"reeve.dev/reeve/event"
	eventlink "reeve.dev/reeve/event/link"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/policy/remedy"
	"reeve.dev/reeve/scan"
	scanlink "reeve.dev/reeve/scan/link"
	"reeve.dev/reeve/tunnel"
)

// TestHub_remedies: each outcome of what a rule names reaches the agent's hook,
// in order; what the agent refuses is given up, what it can't do is tried again.
func TestHub_remedies(t *testing.T) {
	cfg := config(t)
	cfg.Remediation = []hub.RemedyRule{
		{Hook: "deny", Scope: fleet.Scope{Agents: []string{"ea*"}, Namespaces: []string{"web"}}, Profiles: []string{"p"}},
		{Hook: "note", Scope: fleet.Scope{Agents: []string{"east"}, Namespaces: []string{"bank"}}},
	}
	h := start(t, cfg)
	type told struct {
		Hook string
		remedy.Event
	}
	got := make(chan told, 8)
	ill := true
	a := newAgent(t, h.dial(t, h.enrolled(t, "east"), tunnel.WebSocket), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hook, ok := strings.CutPrefix(r.URL.Path, remedy.Path)
		e := told{Hook: hook}
		if err := json.NewDecoder(r.Body).Decode(&e.Event); !ok || r.Header.Get("Reeve-Service") != "" || err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		switch {
		case hook == "note":
			http.Error(w, "this agent has no hook note", http.StatusNotFound)
		case ill:
			ill = false
			http.Error(w, "the cluster is ill", http.StatusBadGateway)
			return
		default:
			w.Write([]byte(`{"did":["marked Pod/main"]}`))
		}
		got <- e
	}))
	a.register(t, "east", "i1", nil)

	scanned := func(namespace string, status hdf.Status) string {
		t.Helper()
		var s scanAnswer
		request := scanRequest()
		request["target"].(map[string]any)["namespace"] = namespace
		h.call(t, "POST", "/api/v1/scans", request, http.StatusAccepted, &s)
		job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.scans.SendResults(t.Context(), job.ID, job.Attempt, results(t, status)); err != nil {
			t.Fatal(err)
		}
		return s.ID
	}
	scanned("elsewhere", hdf.Failed)
	for _, status := range []hdf.Status{hdf.Failed, hdf.Passed} {
		id := scanned("web", status)
		want := told{Hook: "deny", Event: remedy.Event{
			Scan: id, Policy: "p/strict", Passed: status == hdf.Passed, Namespace: "web", Pod: "main", Container: "app", Group: "p/strict",
		}}
		if d := cmp.Diff(want, <-got, cmpopts.IgnoreFields(remedy.Event{}, "ID", "At", "Check")); d != "" {
			t.Errorf("told (-want +got):\n%s", d)
		}
	}
	refused := scanned("bank", hdf.Failed)
	if e := <-got; e.Hook != "note" || e.Scan != refused {
		t.Errorf("told %+v", e)
	}

	type alerts struct {
		Items []struct{ Sink, State, LastError string }
	}
	until(t, "the refused one is given up", func() bool {
		var list alerts
		h.call(t, "GET", "/api/v1/alerts?run="+refused, nil, http.StatusOK, &list)
		return len(list.Items) == 1 && list.Items[0].Sink == "remedy:note" && list.Items[0].State == "dead" && strings.Contains(list.Items[0].LastError, "no hook note")
	})
	until(t, "the others arrived", func() bool {
		var list alerts
		h.call(t, "GET", "/api/v1/alerts?sink=remedy:deny", nil, http.StatusOK, &list)
		return len(list.Items) == 2 && list.Items[0].State == "delivered" && list.Items[1].State == "delivered"
	})
	until(t, "all of it is in the audit log", func() bool {
		var records struct {
			Items []struct {
				Action, Agent, Error string
				Status               int
				Details              map[string]string
			}
		}
		h.call(t, "GET", "/api/v1/audit?action=remedy", nil, http.StatusOK, &records)
		seen := map[int]string{}
		for _, r := range records.Items {
			seen[r.Status] = r.Details["hook"] + r.Details["did"] + r.Error
		}
		return len(records.Items) == 4 && cmp.Equal(seen, map[int]string{
			200: `deny{"did":["marked Pod/main"]}`, 502: "denythe agent answered 502: the cluster is ill", 404: "notethis agent has no hook note",
		})
	})
}

// TestHub_remedies_ofCluster: who is marked can't take the mark off by a scan of
// his own.
func TestHub_remedies_ofCluster(t *testing.T) {
	cfg := config(t)
	cfg.Remediation = []hub.RemedyRule{{Hook: "deny"}}
	h := start(t, cfg)
	a := newAgent(t, h.dial(t, h.enrolled(t, "east"), tunnel.WebSocket), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s", r.Method, r.URL)
	}))
	a.register(t, "east", "i1", nil)
	asked, err := a.scans.Ask(t.Context(), scan.Request{
		Target: scan.Target{Namespace: "web", Pod: "main", Container: "app"}, Profile: "p", RequestedBy: "scans.reeve.dev web/mine", Key: scan.Key{Name: "uid"},
	})
	if err != nil {
		t.Fatal(err)
	}
	job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.scans.SendResults(t.Context(), job.ID, job.Attempt, results(t, hdf.Passed)); err != nil {
		t.Fatal(err)
	}
	var list struct{ Items []struct{ Sink string } }
	h.call(t, "GET", "/api/v1/alerts?run="+string(asked.ID), nil, http.StatusOK, &list)
	if len(list.Items) != 0 {
		t.Errorf("alerts %+v", list.Items)
	}
}

// TestHub_scanPolicyActions: a policy of a cluster names what the hub's owner has
// opened to it, and nothing else; its outcomes go there, as that policy's.
func TestHub_scanPolicyActions(t *testing.T) {
	cfg := config(t)
	cfg.Remediation = []hub.RemedyRule{
		{Hook: "deny", Scope: fleet.Scope{Namespaces: []string{"web"}}, ScanPolicies: true},
		{Hook: "own"},
	}
	h := start(t, cfg)
	got := make(chan remedy.Event, 8)
	a := newAgent(t, h.dial(t, h.enrolled(t, "east"), tunnel.WebSocket), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e remedy.Event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil || r.URL.Path != remedy.Path+"deny" {
			t.Errorf("%s, %v", r.URL, err)
		}
		w.Write([]byte(`{}`))
		got <- e
	}))
	a.register(t, "east", "i1", nil)
	events := &eventlink.Client{Base: scanlink.BaseURL, HTTP: a.http}
	route := func(name, ns string, actions ...string) event.Route {
		return event.Route{Name: name, Match: event.Match{Types: []string{event.ContainerDeployed}, Namespaces: []string{ns}}, Scan: event.Scan{Profile: "p", Actions: actions}}
	}
	problems, err := events.SetPolicies(t.Context(), eventlink.Policies{
		Routes: []event.Route{
			route("web/good", "web", "log", "fix/deny"), route("bank/elsewhere", "bank", "fix/deny"), route("web/closed", "web", "fix/own"),
			route("web/none", "web", "webhook/ci"), route("web/odd", "web", "rm -rf"),
		},
		Schedules: []eventlink.Schedule{{Name: "web_clock", Cron: "@daily", Selector: eventlink.Selector{Namespace: "web"}, Scan: event.Scan{Profile: "p", Actions: []string{"fix/own"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"bank/elsewhere": "lets no ScanPolicy name this hook", "web/closed": "lets no ScanPolicy name this hook",
		"web/none": "there is no sink", "web/odd": "it must be KIND", "web_clock": "lets no ScanPolicy name this hook",
	}
	for _, p := range problems {
		if !strings.Contains(p.Reason, want[p.Name]) || want[p.Name] == "" {
			t.Errorf("%s: %s", p.Name, p.Reason)
		}
		delete(want, p.Name)
	}
	if len(want) > 0 {
		t.Errorf("taken: %v", want)
	}
	const deployed = `{"specversion":"1.0","id":"1","source":"x","type":"container.deployed","data":{"namespace":"web","pod":"main","container":"app","image":"r.example/web","annotations":{"scan-profile":"p@1.0.0"}}}`
	resp, err := events.HTTP.Post(events.Base+eventlink.EventsPath, event.StructuredType, strings.NewReader(deployed))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	// What the pod's annotation names counts for itself, not for the policy.
	for range 2 {
		job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.scans.SendResults(t.Context(), job.ID, job.Attempt, results(t, hdf.Failed)); err != nil {
			t.Fatal(err)
		}
		e := <-got
		if e.Scan != string(job.ID) || e.Group != "ScanPolicy web/good" || e.Standing != (job.Profile == "p") || e.Passed {
			t.Errorf("by %s: told %+v", job.Profile, e)
		}
	}
}
