package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/event"
	"reeve.dev/reeve/pki"
)

const deployedEvent = `{"specversion":"1.0","id":"1","source":"//argo","type":"container.deployed","data":{"agent":"east","namespace":"shop","pod":"web-1","container":"app"}}`

// Events come in each mode, are seen with what became of them, and repeat
// without effect.
func TestEvents(t *testing.T) {
	w := newWorld(t, "east")
	at := w.url + "/api/v1/events"
	send := func(status int, body string, headers ...string) api.AcceptedEvents {
		t.Helper()
		a := do(t, w.admin, "POST", at, body, headers...)
		var out api.AcceptedEvents
		if err := json.Unmarshal([]byte(a.text), &out); err != nil || a.status != status {
			t.Fatalf("%d %s, want %d", a.status, a.text, status)
		}
		return out
	}
	structured := []string{"Content-Type", event.StructuredType}
	if got := send(202, deployedEvent, structured...); len(got.Events) != 1 || got.Events[0].State != "pending" {
		t.Errorf("structured: %+v", got)
	}
	if got := send(202, deployedEvent, structured...); got.Events[0].State != "repeated" {
		t.Errorf("again: %+v", got)
	}
	invalid := strings.NewReplacer(`"id":"1"`, `"id":"3"`, `"pod":"web-1",`, "").Replace(deployedEvent)
	batch := "[" + strings.Replace(deployedEvent, `"id":"1"`, `"id":"2"`, 1) + "," + invalid + "]"
	if got := send(202, batch, "Content-Type", event.BatchType); got.Events[0].State != "pending" || got.Events[1].State != "invalid" || !strings.HasPrefix(got.Events[1].Reason, "data.pod") {
		t.Errorf("batch: %+v", got)
	}
	if got := send(202, `{"agent":"east","namespace":"shop","pod":"web-4","container":"app"}`,
		"Content-Type", "application/json", "ce-specversion", "1.0", "ce-id", "4", "ce-source", "//argo", "ce-type", "container.deployed"); got.Events[0].ID != "4" {
		t.Errorf("binary: %+v", got)
	}
	push := `{"events":[{"id":"5","action":"push","target":{"digest":"sha256:` + strings.Repeat("a", 64) + `","repository":"web","tag":"1"},"request":{"host":"r.example"}},{"id":"6","action":"pull"}]}`
	a := do(t, w.admin, "POST", at+"/registry", push, "Content-Type", "application/vnd.docker.distribution.events.v2+json")
	if a.status != 202 || !strings.Contains(a.text, `"skipped":1`) {
		t.Errorf("registry: %d %s", a.status, a.text)
	}

	var list struct{ Items []api.Event }
	a = do(t, w.admin, "GET", at+"?agent=east&limit=10", "")
	if err := json.Unmarshal([]byte(a.text), &list); err != nil || len(list.Items) != 4 {
		t.Fatalf("list: %s", a.text)
	}
	a = do(t, w.admin, "GET", at+"?state=invalid", "")
	if err := json.Unmarshal([]byte(a.text), &list); err != nil || len(list.Items) != 1 || list.Items[0].Name != "3" || list.Items[0].By != "certificate:root" {
		t.Fatalf("list: %s", a.text)
	}
	if a := do(t, w.admin, "GET", at+"/"+string(list.Items[0].ID), ""); a.status != 200 || !strings.Contains(a.text, `"specversion":"1.0"`) {
		t.Errorf("get: %d %s", a.status, a.text)
	}
	if a := do(t, w.admin, "GET", at+"/none", ""); a.status != 404 {
		t.Errorf("get none: %d %s", a.status, a.text)
	}
	if a := do(t, w.admin, "GET", w.url+"/api/v1/event-routes", ""); a.status != 200 || !strings.Contains(a.text, `"shop"`) {
		t.Errorf("routes: %d %s", a.status, a.text)
	}
}

// otherEvent is one of an agent that says of itself that it is of the
// namespace shop.
func otherEvent(agent, what string) string {
	return `{"specversion":"1.0","id":"9","source":"//argo","type":"scan.scheduled","data":{"agent":"` + agent + `","namespace":"shop",` + what + `}}`
}

// Each thing wrong in turn: the answer names it.
func TestEvents_badInput(t *testing.T) {
	w := newWorld(t, "east")
	for name, tc := range map[string]struct {
		path, media, body string
		status            int
		location          string
	}{
		"no JSON":       {"", event.StructuredType, "{", 422, "body"},
		"no event":      {"", "application/json", "{}", 422, "body.specversion"},
		"no source":     {"", event.StructuredType, strings.Replace(deployedEvent, `"source":"//argo",`, "", 1), 422, "body.source"},
		"no pod":        {"", event.StructuredType, strings.Replace(deployedEvent, `"pod":"web-1",`, "", 1), 422, "body.data.pod"},
		"an agent's":    {"", event.StructuredType, strings.Replace(deployedEvent, `//argo`, `/agents/east`, 1), 422, "body.source"},
		"second of two": {"", event.BatchType, "[" + deployedEvent + ",{}]", 422, "body.[1]"},
		"too large":     {"", event.BatchType, "[" + strings.Repeat(" ", event.MaxBatch) + "]", 413, ""},
		"no registry":   {"/registry", "application/json", `{"hello":1}`, 422, "body"},
		"no body":       {"/registry", "application/json", "", 400, ""},
	} {
		a := do(t, w.admin, "POST", w.url+"/api/v1/events"+tc.path, tc.body, "Content-Type", tc.media)
		if a.status != tc.status || tc.location != "" && (len(a.Errors) != 1 || a.Errors[0].Location != tc.location) {
			t.Errorf("%s: %d %s; want %d at %s", name, a.status, a.text, tc.status, tc.location)
		}
	}
}

// More than may wait are refused, all of a batch or none, and the sender learns
// when to come again.
func TestEvents_full(t *testing.T) {
	w := newWorld(t, "east")
	var many []string
	for i := range 81 {
		many = append(many, strings.Replace(deployedEvent, `"id":"1"`, fmt.Sprintf(`"id":"%d"`, i), 1))
	}
	send := func(n int) answer {
		return do(t, w.admin, "POST", w.url+"/api/v1/events", "["+strings.Join(many[:n], ",")+"]", "Content-Type", event.BatchType)
	}
	if a := send(81); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
		t.Errorf("81 of 100: %d %s", a.status, a.text)
	}
	if a := send(80); a.status != http.StatusAccepted || strings.Count(a.text, `"pending"`) != 80 {
		t.Errorf("80 of 100, which are one sender's: %d %.200s", a.status, a.text)
	}
}

// Who may scan in a part of the fleet sends and sees events of that part.
func TestEvents_rights(t *testing.T) {
	w := newWorld(t, "east", "west")
	call := w.caller(t, limited(pki.Scanner, "shop"))
	if a := call("POST", "/events", deployedEvent); a.status != 202 {
		t.Errorf("its own: %d %s", a.status, a.text)
	}
	for name, body := range map[string]string{
		"another namespace": strings.Replace(deployedEvent, `"namespace":"shop"`, `"namespace":"bank"`, 1),
		"another agent":     strings.Replace(deployedEvent, `"agent":"east"`, `"agent":"west"`, 1),
		"no agent":          strings.Replace(deployedEvent, `"agent":"east",`, ``, 1),
		"a node":            otherEvent("east", `"uri":"dir:/"`),
		"a container's URI": otherEvent("east", `"uri":"k8s-container://bank/web-1/app"`),
		"an image":          otherEvent("east", `"image":"r.example/web:1"`),
	} {
		if a := call("POST", "/events", strings.Replace(body, `"id":"1"`, `"id":"`+name+`"`, 1)); a.status != http.StatusForbidden || !strings.Contains(a.text, "scanner") {
			t.Errorf("%s: %d %s", name, a.status, a.text)
		}
	}
	theirs := strings.NewReplacer(`"id":"1"`, `"id":"w"`, `"agent":"east"`, `"agent":"west"`).Replace(deployedEvent)
	if a := do(t, w.admin, "POST", w.url+"/api/v1/events", theirs, "Content-Type", event.StructuredType); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.text)
	}
	if a := call("GET", "/events", ""); strings.Count(a.text, `"source"`) != 1 || strings.Contains(a.text, "west") {
		t.Errorf("it sees %s", a.text)
	}
	var all struct{ Items []api.Event }
	if err := json.Unmarshal([]byte(do(t, w.admin, "GET", w.url+"/api/v1/events?agent=west", "").text), &all); err != nil || len(all.Items) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	if a := call("GET", "/events/"+string(all.Items[0].ID), ""); a.status != 404 {
		t.Errorf("another's event: %d %s", a.status, a.text)
	}
}
