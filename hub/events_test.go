package hub_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"

	"reeve.dev/reeve/event"
	"reeve.dev/reeve/event/broker"
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
	got := map[string]string{}
	until(t, "every event is settled", func() bool {
		h.call(t, "GET", "/api/v1/events", nil, http.StatusOK, &list)
		settled := true
		for _, e := range list.Items {
			got[e.Name] = e.State + " " + e.Source + " " + e.Agent + " " + e.By
			settled = settled && e.State != string(event.Pending)
		}
		return settled
	})
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

// A sink of CloudEvents hears how each scan ended, also one without a verdict.
func TestHub_tellsEvents(t *testing.T) {
	type told struct {
		ID, Type, Source string
		Data             struct {
			Passed bool
			Scan   struct{ ID, Status, Outcome, Reason string }
		}
	}
	got := make(chan told, 8)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e told
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Error(err)
		}
		got <- e
	}))
	defer receiver.Close()
	cfg := config(t)
	alerts := sink(t, &cfg)
	cfg.Sinks = append(cfg.Sinks, hub.SinkConfig{Name: "bus", Type: "cloudevents", Endpoint: receiver.URL})
	h := start(t, cfg)
	a, _ := h.linked(t)
	var first, second scanAnswer
	h.call(t, "POST", "/api/v1/scans", scanRequest(), http.StatusAccepted, &first)
	job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil)
	if err != nil || job == nil {
		t.Fatalf("leased %+v, %v", job, err)
	}
	if err := a.scans.SendResults(t.Context(), job.ID, job.Attempt, results(t, hdf.Passed)); err != nil {
		t.Fatal(err)
	}
	if e := <-got; e.Type != "scan.completed" || !e.Data.Passed || e.Data.Scan.ID != first.ID || e.Data.Scan.Outcome != "passed" || e.Source != h.URL() || e.ID == "" {
		t.Errorf("told %+v", e)
	}
	<-alerts
	h.call(t, "POST", "/api/v1/scans", scanRequest(), http.StatusAccepted, &second)
	h.call(t, "POST", "/api/v1/scans/"+second.ID+"/cancel", nil, http.StatusOK, nil)
	if e := <-got; e.Type != "scan.cancelled" || e.Data.Passed || e.Data.Scan.ID != second.ID || !strings.Contains(e.Data.Scan.Reason, "cancelled by") {
		t.Errorf("told %+v", e)
	}
	var list struct{ Items []struct{ Sink string } }
	h.call(t, "GET", "/api/v1/alerts?run="+second.ID, nil, http.StatusOK, &list)
	if len(list.Items) != 1 || list.Items[0].Sink != "bus" {
		t.Errorf("alerts of a scan without a verdict: %+v", list)
	}
}

// What a broker has leads to a scan.
func TestHub_broker(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("NATS isn't ready")
	}
	cfg := config(t)
	cfg.Events.Debounce = 0
	cfg.Events.Routes = []event.Route{{Name: "all", Scan: event.Scan{Profile: "p"}}}
	cfg.Events.Brokers = []hub.BrokerConfig{{Name: "bus", Config: broker.Config{URL: s.ClientURL(), Topic: "reeve"}}}
	h := start(t, cfg)
	a, _ := h.linked(t)
	topic := broker.NewTopic(cfg.Events.Brokers[0].Config)
	defer topic.Close()
	text := []byte(strings.Replace(string(deployed("1", "web")), `"another"`, `"east"`, 1))
	// NATS keeps nothing for who isn't there yet; the same event is one.
	for {
		if err := topic.Send(t.Context(), text); err != nil {
			t.Fatal(err)
		}
		var list struct{ Items []struct{ By string } }
		h.call(t, "GET", "/api/v1/events", nil, http.StatusOK, &list)
		if len(list.Items) > 0 {
			if list.Items[0].By != "broker:bus" {
				t.Errorf("kept %+v", list)
			}
			break
		}
	}
	if job, err := a.scans.Lease(t.Context(), []string{"k8s-container"}, nil); err != nil || job == nil || job.Target.Namespace != "web" {
		t.Errorf("leased %+v, %v", job, err)
	}
}
