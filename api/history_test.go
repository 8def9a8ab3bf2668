package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
)

// completes makes a scan and completes it with controls, as ID STATUS.
func (w *world) completes(t *testing.T, agent, namespace string, controls ...string) api.Scan {
	t.Helper()
	s := w.made(t, agent, namespace)
	peer := fleet.Peer{Agent: fleet.AgentName(agent), Instance: "i"}
	job, err := w.queue.Lease(t.Context(), peer, []string{"k8s-container"}, nil)
	if err != nil || job.ID != s.ID {
		t.Fatalf("leased %v, %v", job, err)
	}
	var list []string
	for _, c := range controls {
		id, status, _ := strings.Cut(c, " ")
		list = append(list, fmt.Sprintf(`{"id":%q,"impact":0.7,"results":[{"status":%q,"code_desc":"it","message":"is bad"}]}`, id, status))
	}
	doc := `{"platform":{"name":"x","release":"1"},"profiles":[{"name":"p","controls":[` + strings.Join(list, ",") + `]}],"version":"1","statistics":{}}`
	if err := w.queue.Complete(t.Context(), peer, job.ID, job.Attempt, strings.NewReader(doc)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHistory(t *testing.T) {
	w := newWorld(t, "east", "west")
	first := w.completes(t, "east", "shop", "a passed", "b failed", "c failed", "d passed")
	west := w.completes(t, "west", "shop", "a passed")
	second := w.completes(t, "east", "shop", "a failed", "b passed", "c failed", "d passed")
	waiting := w.made(t, "east", "shop")

	scans := func(points []api.Point) (ids []scan.ID) {
		for _, p := range points {
			ids = append(ids, p.Scan)
		}
		return ids
	}
	const target = "/api/v1/targets/history?namespace=shop&pod=web&container=app"
	for query, want := range map[string][]scan.ID{
		target: {second.ID, west.ID, first.ID},
		"/api/v1/targets/history?uri=k8s-container://shop/web/app&agent=east": {second.ID, first.ID},
		target + "&agent=east&profile=p&limit=1":                              {second.ID},
		target + "&agent=east&before=" + string(second.ID):                    {first.ID},
		target + "&profile=p&threshold=strict":                                nil,
	} {
		p := decode[page[api.Point]](t, w.do(t, "GET", query, ""), http.StatusOK)
		if d := cmp.Diff(want, scans(p.Items)); d != "" {
			t.Errorf("%s (-want +got):\n%s", query, d)
		}
	}
	state := decode[page[api.TargetState]](t, w.do(t, "GET", "/api/v1/targets", ""), http.StatusOK)
	want := api.TargetState{
		Target: api.ScanTarget{Agent: "east", Namespace: "shop", Pod: "web", Container: "app"},
		Last:   api.Point{Scan: second.ID, Profile: "p", ProfileVersion: "1.0.0", Outcome: scan.Failed, Compliance: 50, Counts: hdf.Counts{Passed: 2, Failed: 2}},
	}
	if d := cmp.Diff(want, state.Items[0], cmpopts.IgnoreFields(api.Point{}, "Finished", "Links")); d != "" || len(state.Items) != 2 {
		t.Errorf("%d targets; (-want +got):\n%s", len(state.Items), d)
	}
	failed := decode[page[api.TargetState]](t, w.do(t, "GET", "/api/v1/targets?outcome=passed", ""), http.StatusOK)
	if len(failed.Items) != 1 || failed.Items[0].Last.Scan != west.ID {
		t.Errorf("passed: %+v", failed.Items)
	}

	posture := func(query string) (out []string) {
		for _, p := range decode[page[api.Posture]](t, w.do(t, "GET", "/api/v1/posture"+query, ""), http.StatusOK).Items {
			last := p.Days[len(p.Days)-1]
			out = append(out, fmt.Sprintf("%s %d: %d/%d", p.Agent, len(p.Days), last.Passed, last.Failed))
		}
		return out
	}
	for query, want := range map[string][]string{
		"": {" 14: 1/1"}, "?days=1&agent=west": {" 1: 1/0"}, "?by=agent&days=31": {"east 31: 0/1", "west 31: 1/0"}, "?namespace=x": {" 14: 0/0"}, "?by=agent&namespace=x": nil,
	} {
		if d := cmp.Diff(want, posture(query)); d != "" {
			t.Errorf("posture %s (-want +got):\n%s", query, d)
		}
	}
	for _, query := range []string{"?days=0", "?days=367", "?by=day", "?by=agent&days=32"} {
		if a := w.do(t, "GET", "/api/v1/posture"+query, ""); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.text, "query.") {
			t.Errorf("%s: %d %s", query, a.status, a.text)
		}
	}

	link := state.Items[0].Last.Links.Comparison
	for _, path := range []string{link, link + "?baseline=previous", link + "?baseline=" + string(first.ID)} {
		c := decode[api.Comparison](t, w.do(t, "GET", path, ""), http.StatusOK)
		got := map[string]string{}
		for name, list := range map[string][]api.Change{"new": c.New, "fixed": c.Fixed, "changed": c.Changed, "still failing": c.StillFailing} {
			for _, ch := range list {
				got[name] += ch.ID + strings.Join(ch.Messages, "")
			}
		}
		if d := cmp.Diff(map[string]string{"new": "ait: is bad", "fixed": "bit: is bad", "still failing": "cit: is bad"}, got); d != "" || c.Same != 1 || c.Baseline.Scan != first.ID || c.Current.Compliance != 50 {
			t.Errorf("%s: %+v (-want +got):\n%s", path, c, d)
		}
	}

	for path, want := range map[string]int{
		first.Links.Self + "/comparison":                                   http.StatusNotFound, // nothing before it
		waiting.Links.Self + "/comparison":                                 http.StatusConflict,
		link + "?baseline=" + string(waiting.ID):                           http.StatusConflict,
		link + "?baseline=first":                                           http.StatusNotFound,
		"/api/v1/targets/history":                                          http.StatusUnprocessableEntity,
		"/api/v1/targets/history?uri=shop":                                 http.StatusUnprocessableEntity,
		"/api/v1/targets/history?namespace=shop&pod=web":                   http.StatusUnprocessableEntity,
		"/api/v1/targets/history?uri=dir:/&pod=web":                        http.StatusUnprocessableEntity,
		"/api/v1/targets/history?uri=dir:/&threshold=strict":               http.StatusUnprocessableEntity,
		"/api/v1/targets?outcome=maybe":                                    http.StatusUnprocessableEntity,
		"/api/v1/targets/history?uri=dir:/nothing&profile=none&agent=none": http.StatusOK,
	} {
		if a := w.do(t, "GET", path, ""); a.status != want {
			t.Errorf("%s: %d %s; want %d", path, a.status, a.text, want)
		}
	}

	// Who may see a part of the fleet learns nothing of the rest.
	eastern := w.caller(t, limited(pki.Viewer, "shop"))
	if p := decode[page[api.TargetState]](t, eastern("GET", "/targets", ""), http.StatusOK); len(p.Items) != 1 || p.Items[0].Target.Agent != "east" {
		t.Errorf("seen: %+v", p.Items)
	}
	if p := decode[page[api.Point]](t, eastern("GET", "/targets/history?uri=k8s-container://shop/web/app", ""), http.StatusOK); len(p.Items) != 2 {
		t.Errorf("seen: %+v", p.Items)
	}
	for _, path := range []string{"/scans/" + string(west.ID) + "/comparison", "/scans/" + string(second.ID) + "/comparison?baseline=" + string(west.ID)} {
		if a := eastern("GET", path, ""); a.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, a.status, a.text)
		}
	}
}
