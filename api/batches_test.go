package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
)

// A batch becomes the scans of what its agents find, those of an agent that
// is away once it is back.
func TestBatches(t *testing.T) {
	w := newWorld(t, "east", "west")
	at := w.url + "/api/v1/batches"
	const body = `{"selector":{"namespace":"shop","labels":"app=web","workload":{"kind":"Deployment","name":"web"}},"scan":{"profile":"p","threshold":"strict"},"options":{"priority":"low"}}`
	a := do(t, w.admin, "POST", at, body, "Idempotency-Key", "k")
	var b api.Batch
	if err := json.Unmarshal([]byte(a.text), &b); err != nil || a.status != http.StatusAccepted || b.Status != "selecting" || len(b.Selections) != 2 {
		t.Fatalf("created: %d %s", a.status, a.text)
	}
	if !strings.Contains(b.Selections[0].Reason, "isn't connected") {
		t.Errorf("what it waits for: %q", b.Selections[0].Reason)
	}
	if again := do(t, w.admin, "POST", at, body, "Idempotency-Key", "k"); again.header.Get("Location") != a.header.Get("Location") {
		t.Errorf("again: %d %s", again.status, again.text)
	}
	if other := do(t, w.admin, "POST", at, strings.Replace(body, "low", "high", 1), "Idempotency-Key", "k"); other.status != 422 || other.Errors[0].Location != "header.Idempotency-Key" {
		t.Errorf("another by the same key: %d %s", other.status, other.text)
	}
	peer := fleet.Peer{Agent: "east", Instance: "i"}
	job, err := w.queue.Lease(t.Context(), peer, []string{scan.KindContainer, scan.KindSelector}, nil)
	if err != nil || job.Selector == nil || job.Selector.Labels != "app=web" || job.Selector.Kind != "Deployment" {
		t.Fatalf("job %+v, %v", job, err)
	}
	if err := w.queue.Expand(t.Context(), peer, job.ID, job.Attempt, []scan.Target{{Namespace: "shop", Pod: "web-1", Container: "app"}, {Namespace: "shop", Pod: "web-2", Container: "app"}}); err != nil {
		t.Fatal(err)
	}
	self := w.url + a.header.Get("Location")
	a = do(t, w.admin, "GET", self, "")
	if err := json.Unmarshal([]byte(a.text), &b); err != nil || b.Scans.Queued != 2 || b.Selections[0].Status != scan.Completed {
		t.Errorf("expanded: %d %s", a.status, a.text)
	}
	if same := do(t, w.admin, "GET", self, "", "If-None-Match", a.header.Get("ETag")); same.status != http.StatusNotModified {
		t.Errorf("unchanged: %d", same.status)
	}
	if list := do(t, w.admin, "GET", w.url+b.Links.Scans, ""); strings.Count(list.text, `"pod":"web-`) != 2 || strings.Count(list.text, `"priority":"low"`) != 2 {
		t.Errorf("its scans: %s", list.text)
	}
	// The agent finds what wasn't asked for.
	if _, err := w.queue.Cancel(t.Context(), job.ID, "me"); err == nil {
		t.Error("a selection that has ended was cancelled")
	}
	peer = fleet.Peer{Agent: "west", Instance: "i"}
	if job, err = w.queue.Lease(t.Context(), peer, []string{scan.KindSelector}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.queue.Expand(t.Context(), peer, job.ID, job.Attempt, []scan.Target{{Namespace: "bank", Pod: "vault", Container: "app"}}); err != nil {
		t.Fatal(err)
	}
	a = do(t, w.admin, "POST", self+"/cancel", "")
	if err := json.Unmarshal([]byte(a.text), &b); err != nil || b.Status != "done" || b.Scans.Cancelled != 2 || b.Selections[1].Status != scan.Error {
		t.Errorf("cancelled: %d %s", a.status, a.text)
	}
}

// Each member of a request wrong in turn: the answer names it, and nothing is
// queued.
func TestBatches_badInput(t *testing.T) {
	w := newWorld(t, "east")
	for name, tc := range map[string]struct{ body, location string }{
		"no selector":          {`{"scan":{"profile":"p"}}`, "body.selector"},
		"unknown agent":        {`{"selector":{"agents":["north"]},"scan":{"profile":"p"}}`, "body.selector.agents[0]"},
		"namespace":            {`{"selector":{"namespace":"Shop"},"scan":{"profile":"p"}}`, "body.selector.namespace"},
		"labels":               {`{"selector":{"labels":"a;b"},"scan":{"profile":"p"}}`, "body.selector.labels"},
		"container":            {`{"selector":{"container":"A"},"scan":{"profile":"p"}}`, "body.selector.container"},
		"kind":                 {`{"selector":{"namespace":"n","workload":{"kind":"Node","name":"x"}},"scan":{"profile":"p"}}`, "body.selector.workload.kind"},
		"workload's name":      {`{"selector":{"namespace":"n","workload":{"kind":"Job","name":"X_"}},"scan":{"profile":"p"}}`, "body.selector.workload.name"},
		"workload of anywhere": {`{"selector":{"workload":{"kind":"Job","name":"x"}},"scan":{"profile":"p"}}`, "body.selector.namespace"},
		"profile":              {`{"selector":{},"scan":{"profile":"q"}}`, "body.scan.profile"},
		"threshold":            {`{"selector":{},"scan":{"profile":"p","threshold":"q"}}`, "body.scan.threshold"},
		"priority":             {`{"selector":{},"scan":{"profile":"p"},"options":{"priority":"now"}}`, "body.options.priority"},
		"unknown member":       {`{"selector":{"pods":"x"},"scan":{"profile":"p"}}`, "body.selector.pods"},
		"callback":             {`{"selector":{},"scan":{"profile":"p"},"callback":{"url":"http://169.254.169.254/"}}`, "body.callback.url"},
	} {
		t.Run(name, func(t *testing.T) {
			a := do(t, w.admin, "POST", w.url+"/api/v1/batches", tc.body)
			if a.status != http.StatusUnprocessableEntity || len(a.Errors) == 0 || a.Errors[0].Location != tc.location {
				t.Errorf("%d %s; want %s", a.status, a.text, tc.location)
			}
		})
	}
	c, scanner := w.client(t, nil), w.as(t, pki.Scanner)
	if a := do(t, c, "POST", w.url+"/api/v1/batches", `{"selector":{},"scan":{"profile":"p"},"options":{"priority":"high"}}`, scanner...); a.status != http.StatusForbidden {
		t.Errorf("high priority by a scanner: %d %s", a.status, a.text)
	}
	if job, err := w.queue.Lease(cancelled(t), fleet.Peer{Agent: "east", Instance: "i"}, []string{scan.KindSelector, scan.KindContainer}, nil); job != nil || err != nil {
		t.Errorf("queued: %+v, %v", job, err)
	}
}

// cancelled is a context for a look at the queue that doesn't wait.
func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	t.Cleanup(cancel)
	return ctx
}
