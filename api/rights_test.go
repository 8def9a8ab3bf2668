package api_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
)

// limited is the right to a role in namespaces of the agent east.
func limited(role pki.Role, namespaces ...string) pki.Right {
	return pki.Right{Role: role, Scope: fleet.Scope{Agents: []string{"ea*"}, Namespaces: namespaces}}
}

// caller is a client with an API token.
func (w *world) caller(t *testing.T, rights ...pki.Right) func(method, path, body string) answer {
	t.Helper()
	tok, text, err := pki.NewToken(pki.API, "ci", rights, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.CreateToken(t.Context(), tok); err != nil {
		t.Fatal(err)
	}
	c := w.client(t, nil)
	return func(method, path, body string) answer {
		t.Helper()
		return do(t, c, method, w.url+"/api/v1"+path, body, "Authorization", "Bearer "+text)
	}
}

func scanOf(agent, namespace string) string {
	return `{"target":{"agent":"` + agent + `","namespace":"` + namespace + `","pod":"web","container":"app"},"scan":{"profile":"p"}}`
}

func (w *world) made(t *testing.T, agent, namespace string) api.Scan {
	t.Helper()
	return decode[api.Scan](t, w.do(t, "POST", "/api/v1/scans", scanOf(agent, namespace)), http.StatusAccepted)
}

// Who has a role in a part of the fleet reaches that part, and doesn't learn
// of anything beyond.
func TestRights_scans(t *testing.T) {
	w := newWorld(t, "east", "west")
	shop, other, west := w.made(t, "east", "shop"), w.made(t, "east", "other"), w.made(t, "west", "shop")
	ci := w.caller(t, limited(pki.Scanner, "shop", "team-*"))

	ids := func(a answer) (ids []scan.ID) {
		for _, s := range decode[page[api.Scan]](t, a, http.StatusOK).Items {
			ids = append(ids, s.ID)
		}
		return ids
	}
	if got := ids(ci("GET", "/scans", "")); len(got) != 1 || got[0] != shop.ID {
		t.Errorf("sees %v, want %v", got, shop.ID)
	}
	if got := ids(ci("GET", "/scans?agent=west", "")); len(got) != 0 {
		t.Errorf("sees %v of another agent", got)
	}
	for _, s := range []api.Scan{other, west} {
		for _, path := range []string{"", "/results", "/events"} {
			if a := ci("GET", "/scans/"+string(s.ID)+path, ""); a.status != http.StatusNotFound {
				t.Errorf("GET %s of %s/%s: %d %s", path, s.Target.Agent, s.Target.Namespace, a.status, a.text)
			}
		}
		if a := ci("POST", "/scans/"+string(s.ID)+"/cancel", ""); a.status != http.StatusNotFound {
			t.Errorf("cancel: %d %s", a.status, a.text)
		}
	}

	for name, c := range map[string]struct{ body, want string }{
		"another namespace":   {scanOf("east", "other"), "needs the role scanner for agent east, namespace other; token:ci is scanner (agents ea*; namespaces shop, team-*)"},
		"another agent":       {scanOf("west", "shop"), "for agent west, namespace shop"},
		"one that isn't":      {scanOf("north", "shop"), "for agent north, namespace shop"},
		"a node":              {`{"target":{"agent":"east","uri":"dir:/"},"scan":{"profile":"p"}}`, "for agent east in all namespaces"},
		"a container by URI":  {`{"target":{"agent":"east","uri":"k8s-container://other/web/app"},"scan":{"profile":"p"}}`, "for agent east, namespace other"},
		"first in the line":   {strings.Replace(scanOf("east", "shop"), `"scan"`, `"options":{"priority":"high"},"scan"`, 1), "the priority high needs the role operator"},
		"no agent, elsewhere": {strings.Replace(scanOf("", "other"), `"agent":"",`, "", 1), "namespace other"},
	} {
		a := ci("POST", "/scans", c.body)
		if a.status != http.StatusForbidden || !strings.Contains(a.Detail, c.want) {
			t.Errorf("%s: %d %s, want %q", name, a.status, a.text, c.want)
		}
	}
	if got := ids(w.do(t, "GET", "/api/v1/scans", "")); len(got) != 3 {
		t.Errorf("a refused request has queued something: %v", got)
	}

	// The agent is the only one that it may be.
	own := decode[api.Scan](t, ci("POST", "/scans", strings.Replace(scanOf("", "team-a"), `"agent":"",`, "", 1)), http.StatusAccepted)
	if own.Target.Agent != "east" {
		t.Errorf("made %+v", own.Target)
	}
	if a := ci("POST", "/scans/"+string(own.ID)+"/cancel", ""); a.status != http.StatusOK {
		t.Errorf("cancel of its own: %d %s", a.status, a.text)
	}

	reader := w.caller(t, limited(pki.Viewer), limited(pki.Scanner, "team-*"))
	if got := ids(reader("GET", "/scans", "")); len(got) != 3 {
		t.Errorf("who may read all of east sees %v", got)
	}
	if a := reader("POST", "/scans/"+string(shop.ID)+"/cancel", ""); a.status != http.StatusForbidden || !strings.Contains(a.Detail, "scanner for agent east, namespace shop") {
		t.Errorf("cancel of what it may only read: %d %s", a.status, a.text)
	}
}

func TestRights_batches(t *testing.T) {
	w := newWorld(t, "east", "west")
	ci := w.caller(t, limited(pki.Scanner, "shop"))
	all := decode[api.Batch](t, w.do(t, "POST", "/api/v1/batches", `{"selector":{"namespace":"shop"},"scan":{"profile":"p"}}`), http.StatusAccepted)
	for method, path := range map[string]string{"GET": "", "POST": "/cancel"} {
		if a := ci(method, "/batches/"+string(all.ID)+path, ""); a.status != http.StatusNotFound {
			t.Errorf("%s a batch of all: %d %s", method, a.status, a.text)
		}
	}
	for _, selector := range []string{`{}`, `{"namespace":"other"}`, `{"namespace":"shop","agents":["west"]}`, `{"namespace":"shop","agents":["east","west"]}`, `{"labels":"app=web"}`} {
		a := ci("POST", "/batches", `{"selector":`+selector+`,"scan":{"profile":"p"}}`)
		if a.status != http.StatusForbidden || !strings.Contains(a.Detail, "needs the role scanner for agent") {
			t.Errorf("%s: %d %s", selector, a.status, a.text)
		}
	}
	own := decode[api.Batch](t, ci("POST", "/batches", `{"selector":{"namespace":"shop"},"scan":{"profile":"p"}}`), http.StatusAccepted)
	if len(own.Selections) != 1 || own.Selections[0].Agent != "east" {
		t.Errorf("it searches %+v", own.Selections)
	}
	if a := ci("POST", "/batches/"+string(own.ID)+"/cancel", ""); a.status != http.StatusOK {
		t.Errorf("cancel of its own: %d %s", a.status, a.text)
	}
}

// What has no place in the fleet, or concerns all of it, is for those who have
// the role in all of it.
func TestRights_wholeFleet(t *testing.T) {
	w := newWorld(t, "east", "west")
	admin := w.caller(t, limited(pki.Admin))
	for _, c := range []struct{ method, path, body string }{
		{"GET", "/tokens", ""},
		{"POST", "/tokens", `{"kind":"api","name":"x","role":"admin"}`},
		{"GET", "/audit", ""},
		{"POST", "/profiles", `{"name":"mine","version":"1"}`},
		{"PUT", "/thresholds/mine", `{"text":"compliance: {min: 1}"}`},
		{"POST", "/login-links", `{}`},
	} {
		if a := admin(c.method, c.path, c.body); a.status != http.StatusForbidden || !strings.Contains(a.Detail, "in the whole fleet; token:ci is admin (agents ea*)") {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.status, a.text)
		}
	}
	if a := admin("GET", "/profiles", ""); a.status != http.StatusOK {
		t.Errorf("profiles are for all: %d %s", a.status, a.text)
	}
	user := w.client(t, &pki.Identity{Purpose: pki.User, Name: "x", Rights: pki.Rights{limited(pki.Admin)}.JSON()})
	resp, err := user.Get(w.url + "/api/v1/getAgentStatistics")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("Birger's calls: %s", resp.Status)
	}
}

func TestRights_fleet(t *testing.T) {
	w := newWorld(t, "west")
	err := w.store.SaveAgent(t.Context(), fleet.Registration{
		Agent: "east", Instance: "i", ScanTargets: []string{"k8s-container"},
		Services: []fleet.Service{{Type: "x-wiki", Name: "wiki"}, {Type: "kubernetes", Name: "shops", Namespaces: []string{"shop", "other"}}},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		rights   pki.Right
		agents   int
		services []fleet.ServiceName
	}{
		"one agent":              {limited(pki.Viewer), 1, []fleet.ServiceName{"shops", "wiki"}},
		"a namespace of it":      {limited(pki.Viewer, "shop"), 1, []fleet.ServiceName{"shops"}},
		"none of its namespaces": {limited(pki.Viewer, "team-a"), 1, nil},
		"another":                {pki.Right{Role: pki.Viewer, Scope: fleet.Scope{Agents: []string{"north"}}}, 0, nil},
		"all":                    {pki.Right{Role: pki.Viewer}, 2, []fleet.ServiceName{"shops", "wiki", "wiki"}},
	} {
		call := w.caller(t, c.rights)
		if got := decode[page[api.Agent]](t, call("GET", "/agents", ""), http.StatusOK); len(got.Items) != c.agents {
			t.Errorf("%s: agents %+v", name, got.Items)
		}
		var services []fleet.ServiceName
		for _, s := range decode[page[api.AgentService]](t, call("GET", "/services", ""), http.StatusOK).Items {
			services = append(services, s.Name)
		}
		slices.Sort(services)
		if diff := cmp.Diff(c.services, services); diff != "" {
			t.Errorf("%s: services: %s", name, diff)
		}
	}
}

func TestRights_insightsAndAlerts(t *testing.T) {
	w := newWorld(t, "east", "west")
	for _, agent := range []fleet.AgentName{"east", "west"} {
		w.collected(t, agent, "shop")
	}
	finished := w.finished(t, "east", "shop")
	w.finished(t, "west", "shop")
	count := func(a answer) int { return len(decode[page[any]](t, a, http.StatusOK).Items) }
	for name, c := range map[string]struct {
		rights                           pki.Right
		facts, sboms, components, alerts int
	}{
		"all":               {pki.Right{Role: pki.Operator}, 2, 2, 2, 2},
		"one agent":         {limited(pki.Operator), 1, 1, 1, 1},
		"its namespace":     {limited(pki.Operator, "shop"), 1, 1, 1, 1},
		"another namespace": {limited(pki.Operator, "other"), 0, 0, 0, 0},
	} {
		call := w.caller(t, c.rights)
		got := [...]int{count(call("GET", "/insights/facts", "")), count(call("GET", "/insights/sboms", "")), count(call("GET", "/components", "")), count(call("GET", "/alerts?sink=sink", ""))}
		if want := [...]int{c.facts, c.sboms, c.components, c.alerts}; got != want {
			t.Errorf("%s: facts, SBOMs, components, alerts: %v, want %v", name, got, want)
		}
	}
	sboms := decode[page[api.Document]](t, w.do(t, "GET", "/api/v1/insights/sboms?agent=east", ""), http.StatusOK)
	path := "/insights/sboms/" + string(sboms.Items[0].Digest)
	if a := w.caller(t, limited(pki.Viewer, "shop"))("GET", path, ""); a.status != http.StatusOK {
		t.Errorf("its SBOM: %d %s", a.status, a.text)
	}
	if a := w.caller(t, limited(pki.Viewer, "other"))("GET", path, ""); a.status != http.StatusNotFound {
		t.Errorf("another's SBOM: %d %s", a.status, a.text)
	}

	alerts := decode[page[api.Alert]](t, w.do(t, "GET", "/api/v1/alerts?sink=sink&run="+string(finished.ID), ""), http.StatusOK)
	skip := "/alerts/" + string(alerts.Items[0].ID) + "/skip"
	for _, c := range []struct {
		rights pki.Right
		want   int
	}{
		{limited(pki.Operator, "other"), http.StatusNotFound},
		{limited(pki.Scanner, "shop"), http.StatusForbidden},
		{limited(pki.Operator, "shop"), http.StatusOK},
	} {
		if a := w.caller(t, c.rights)("POST", skip, ""); a.status != c.want {
			t.Errorf("skip as %v: %d %s", c.rights, a.status, a.text)
		}
	}
}

// collected is what an agent sends: a fact, and an SBOM of one component.
func (w *world) collected(t *testing.T, agent fleet.AgentName, namespace string) {
	t.Helper()
	var sbom bytes.Buffer
	packed := gzip.NewWriter(&sbom)
	fmt.Fprintf(packed, `{"bomFormat":"CycloneDX","specVersion":"1.5","metadata":{"component":{"type":"application","name":%q}},"components":[{"type":"library","name":"left-pad","version":"1"}]}`, agent)
	packed.Close()
	s := insight.NewService(w.store, insight.Limits{}, slog.New(slog.DiscardHandler))
	for i, c := range []insight.Content{
		insight.Facts{{Name: "php", Value: "8.4", Source: "s"}},
		insight.Document{Kind: insight.KindSBOM, Service: "web", Data: sbom.Bytes()},
	} {
		err := s.Accept(t.Context(), insight.Item{
			ID: insight.ItemID(fmt.Sprint(i)), Cluster: agent, Environment: insight.Environment{Namespace: namespace, ID: 1, Project: "p", Name: "e"}, Content: c,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// finished is a scan that failed.
func (w *world) finished(t *testing.T, agent fleet.AgentName, namespace string) api.Scan {
	t.Helper()
	s := w.made(t, string(agent), namespace)
	peer := fleet.Peer{Agent: agent, Instance: "i"}
	job, err := w.queue.Lease(t.Context(), peer, []string{"k8s-container"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	doc := `{"platform":{"name":"x","release":"1"},"profiles":[{"name":"p","controls":[{"id":"one","impact":1,"results":[{"status":"failed","code_desc":"x"}]}]}],"version":"1","statistics":{}}`
	if err := w.queue.Complete(t.Context(), peer, job.ID, job.Attempt, strings.NewReader(doc)); err != nil {
		t.Fatal(err)
	}
	return s
}

// A certificate may carry rights, too.
func TestRights_certificates(t *testing.T) {
	w := newWorld(t, "east", "west")
	rights := pki.Rights{limited(pki.Scanner, "shop")}
	c := w.client(t, &pki.Identity{Purpose: pki.User, Name: "pipeline", Rights: rights.JSON()})
	who := decode[api.Caller](t, do(t, c, "GET", w.url+"/api/v1/whoami", ""), http.StatusOK)
	if diff := cmp.Diff(rights, who.Rights); diff != "" || who.Role != pki.Scanner || who.Name != "pipeline" || who.By != "certificate" {
		t.Errorf("it is %+v", who)
	}
	if a := do(t, c, "POST", w.url+"/api/v1/scans", scanOf("east", "shop")); a.status != http.StatusAccepted {
		t.Errorf("in its namespace: %d %s", a.status, a.text)
	}
	if a := do(t, c, "POST", w.url+"/api/v1/scans", scanOf("west", "shop")); a.status != http.StatusForbidden {
		t.Errorf("elsewhere: %d %s", a.status, a.text)
	}
}

func TestTokens_scope(t *testing.T) {
	w := newWorld(t, "east")
	made := decode[api.TokenCreated](t, w.do(t, "POST", "/api/v1/tokens", `{"kind":"api","name":"ci","role":"scanner","agents":["ea*"],"namespaces":["shop"],"expiresIn":"1h"}`), http.StatusCreated)
	if diff := cmp.Diff(pki.Rights{limited(pki.Scanner, "shop")}, made.Rights); diff != "" || made.Role != pki.Scanner || made.Expires.IsZero() {
		t.Errorf("made %+v: %s", made, diff)
	}
	listed := decode[page[api.Token]](t, w.do(t, "GET", "/api/v1/tokens", ""), http.StatusOK)
	if diff := cmp.Diff(made.Token, listed.Items[0]); diff != "" {
		t.Errorf("listed: %s", diff)
	}
	for body, want := range map[string]string{
		`{"kind":"api","name":"ci","role":"scanner","agents":["EAST"]}`:          "body.agents[0]",
		`{"kind":"api","name":"ci","role":"scanner","namespaces":["a","b%"]}`:    "body.namespaces[1]",
		`{"kind":"api","name":"ci","agents":["east"]}`:                           "body.role",
		`{"kind":"join","agent":"west","agents":["east"]}`:                       "body.role",
		`{"kind":"api","name":"ci","role":"scanner","agents":["a"],"agent":"b"}`: "body.agent",
	} {
		if a := w.do(t, "POST", "/api/v1/tokens", body); a.status != http.StatusUnprocessableEntity || len(a.Errors) == 0 || a.Errors[0].Location != want {
			t.Errorf("%s: %d %s", body, a.status, a.text)
		}
	}
	if a := w.do(t, "DELETE", "/api/v1/tokens/"+made.ID, ""); a.status != http.StatusNoContent {
		t.Fatal(a.text)
	}
	if a := do(t, w.client(t, nil), "GET", w.url+"/api/v1/whoami", "", "Authorization", "Bearer "+made.Secret); a.status != http.StatusUnauthorized {
		t.Errorf("a revoked token: %d", a.status)
	}
}
