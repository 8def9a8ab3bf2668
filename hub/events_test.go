package hub_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/event"
	eventlink "reeve.dev/reeve/event/link"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/internal/spool"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/tunnel"
)

// deployed is what an agent tells of a container.
func deployed(id, namespace string) []byte {
	e := event.Event{Source: "/somebody", Name: id, Type: event.ContainerDeployed, Data: event.Data{
		Agent: "another", Namespace: namespace, Pod: "main", Container: "app", Image: "r.example/web:1",
		ImageDigest: "sha256:" + strings.Repeat("a", 64),
	}}
	text, err := e.Marshal()
	if err != nil {
		panic(err)
	}
	return text
}

// linked is an agent named east at the end of a link, with its event client.
func (r *running) linked(t *testing.T) (*agent, *eventlink.Client) {
	t.Helper()
	a := newAgent(t, r.dial(t, r.enrolled(t, "east"), tunnel.DefaultCarriers[0]), http.NotFoundHandler())
	a.register(t, "east", "i1", nil)
	return a, &eventlink.Client{Base: "http://hub", HTTP: a.http}
}

// deliver sends messages as an agent does, from its spool, and answers how
// many the hub refused for good.
func deliver(t *testing.T, c *eventlink.Client, messages ...[]byte) int {
	t.Helper()
	s, err := spool.Open(filepath.Join(t.TempDir(), "spool"), spool.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, m := range messages {
		if err := s.Put(t.Context(), fmt.Sprint(i), "event", strings.NewReader(string(m))); err != nil {
			t.Fatal(err)
		}
	}
	refused := 0
	for _, item := range s.List() {
		if err := c.Send(t.Context(), item); spool.IsPermanent(err) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return refused
}

// What an agent saw leads, with nobody acting, to a scan by it, an outcome and
// an alert; and it speaks for itself alone.
func TestHub_events(t *testing.T) {
	cfg := config(t)
	alerts := sink(t, &cfg)
	cfg.Events.Routes = []event.Route{{Name: "web", Match: event.Match{Namespaces: []string{"web"}}, Scan: event.Scan{Profile: "p", Threshold: "strict", Method: "exec", Inputs: map[string]any{"n": 1}}}}
	cfg.Events.Debounce = 10 * time.Millisecond
	h := start(t, cfg)
	a, events := h.linked(t)
	if refused := deliver(t, events, deployed("1", "web"), deployed("1", "web"), []byte("{}"), deployed("2", "bank")); refused != 1 {
		t.Errorf("%d were refused; want the one that is no event", refused)
	}
	job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil)
	if err != nil || job == nil || job.Target != (scan.Target{Namespace: "web", Pod: "main", Container: "app"}) || job.Method != scan.Exec || job.Inputs["n"] != int64(1) {
		t.Fatalf("leased %+v, %v", job, err)
	}
	if err := a.scans.SendResults(t.Context(), job.ID, job.Attempt, results(t, hdf.Failed)); err != nil {
		t.Fatal(err)
	}
	if told := <-alerts; told.Outcome.Subject.Owner != "east/web" || told.Outcome.Pass {
		t.Errorf("told %+v", told.Outcome)
	}
	var list struct {
		Items []struct {
			Name, Source, Agent, By, State string
			Decisions                      []struct{ Scan string }
		}
	}
	h.call(t, "GET", "/api/v1/events", nil, http.StatusOK, &list)
	got := map[string]string{}
	for _, e := range list.Items {
		got[e.Name] = e.State + " " + e.Source + " " + e.Agent + " " + e.By
	}
	if d := cmp.Diff(map[string]string{"1": "scanned /agents/east east agent:east", "2": "unrouted /agents/east east agent:east"}, got); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}

// An agent's policies are routes and schedules for its own containers.
func TestHub_policies(t *testing.T) {
	cfg := config(t)
	cfg.Events.Debounce = 0
	h := start(t, cfg)
	a, events := h.linked(t)
	own := eventlink.Policies{
		Routes: []event.Route{{Name: "shop/web", Scan: event.Scan{Profile: "p"}}, {Name: "bad"}},
		Schedules: []eventlink.Schedule{
			{Name: "nightly", Cron: "0 3 * * *", Selector: eventlink.Selector{Namespace: "web"}, Scan: event.Scan{Profile: "p", Timeout: 60, Inputs: map[string]any{"n": 1}}},
			{Name: "never", Cron: "0 0 30 2 *", Scan: event.Scan{Profile: "p"}},
		},
	}
	problems, err := events.SetPolicies(t.Context(), own)
	if err != nil || len(problems) != 2 || problems[0].Name != "bad" || problems[1].Name != "never" || !strings.Contains(problems[1].Reason, "cron") {
		t.Fatalf("problems %+v, %v", problems, err)
	}
	var schedules struct {
		Items []struct {
			Name, Agent string
			Selector    struct{ Agents []string }
			Timeout     int
		}
	}
	h.call(t, "GET", "/api/v1/schedules", nil, http.StatusOK, &schedules)
	if len(schedules.Items) != 1 || schedules.Items[0].Agent != "east" || schedules.Items[0].Selector.Agents[0] != "east" || schedules.Items[0].Timeout != 60 {
		t.Errorf("schedules %+v", schedules)
	}
	h.call(t, "DELETE", "/api/v1/schedules/nightly", nil, http.StatusNotFound, nil)
	deliver(t, events, deployed("1", "web"))
	if job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil); err != nil || job == nil || job.Target.Namespace != "web" {
		t.Errorf("leased %+v, %v", job, err)
	}
	if problems, err := events.SetPolicies(t.Context(), eventlink.Policies{}); err != nil || len(problems) != 0 {
		t.Errorf("problems %+v, %v", problems, err)
	}
	h.call(t, "GET", "/api/v1/schedules", nil, http.StatusOK, &schedules)
	if len(schedules.Items) != 0 {
		t.Errorf("left %+v", schedules)
	}
}

func TestEventConfig(t *testing.T) {
	for want, change := range map[string]func(*hub.EventConfig){
		"events.routes[0].scan.profile": func(c *hub.EventConfig) { c.Routes = []event.Route{{Name: "a"}} },
		"events.routes[1].name": func(c *hub.EventConfig) {
			r := event.Route{Name: "a", Scan: event.Scan{Profile: "p"}}
			c.Routes = []event.Route{r, r}
		},
		"events.debounce":   func(c *hub.EventConfig) { c.Debounce = -1 },
		"events.dedupeFor":  func(c *hub.EventConfig) { c.DedupeFor = 8 * 24 * time.Hour },
		"events.maxPending": func(c *hub.EventConfig) { c.MaxPending = 0 },
		"events.keepFor":    func(c *hub.EventConfig) { c.KeepFor, c.DedupeFor = time.Minute, 0 },
	} {
		cfg := config(t)
		change(&cfg.Events)
		err := cfg.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v; want an error of %s", err, want)
		}
	}
}
