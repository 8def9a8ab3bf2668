package event_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/event"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
)

var quiet = slog.New(slog.DiscardHandler)

// scanner makes scans named by their number, one for each key. Fail is asked
// first.
type scanner struct {
	mu      sync.Mutex
	asked   []event.Request
	ids     map[string]string
	version string
	fail    func(event.Request) error
}

func (s *scanner) Content(_ context.Context, profile, threshold string) (string, error) {
	if profile == "none" {
		return "", &event.RefusedError{Reason: "there is no such profile"}
	}
	return profile + threshold + s.version, nil
}

func (s *scanner) Scan(_ context.Context, r event.Request) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(r); err != nil {
			return "", err
		}
	}
	if id, ok := s.ids[r.Key]; ok {
		return id, nil
	}
	s.asked = append(s.asked, r)
	id := fmt.Sprint("scan-", len(s.asked))
	if s.ids == nil {
		s.ids = map[string]string{}
	}
	s.ids[r.Key] = id
	return id, nil
}

func (s *scanner) targets() (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.asked {
		out = append(out, strings.TrimSuffix(strings.Join([]string{r.Agent, r.Namespace, r.Pod, r.Container}, "/")+r.URI, "///")+" "+r.Scan.Profile)
	}
	return out
}

type world struct {
	*event.Service
	*scanner
	store *store.Store
	t     *testing.T
}

func newStore(t *testing.T) *store.Store {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "reeve.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func newWorld(t *testing.T, cfg event.Config) *world {
	t.Helper()
	w := &world{scanner: &scanner{}, store: newStore(t), t: t}
	cfg.Store, cfg.Scanner, cfg.Logger = w.store, w.scanner, quiet
	if cfg.MaxPending == 0 {
		cfg.MaxPending, cfg.KeepFor = 1000, time.Hour
	}
	w.Service = event.New(cfg)
	return w
}

// run runs the service until the test ends.
func (w *world) run() {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); <-done })
}

func (w *world) send(texts ...string) {
	w.t.Helper()
	events, err := event.Decode(event.Message{ContentType: event.BatchType, Body: []byte("[" + strings.Join(texts, ",") + "]")})
	if err == nil {
		_, err = w.Accept(w.t.Context(), "token:ci", events)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// settled waits until nothing is pending, and gives all events by their name.
func (w *world) settled() map[string]event.Event {
	w.t.Helper()
	for {
		list, err := w.Events(w.t.Context(), event.Filter{Limit: 1000})
		if err != nil {
			w.t.Fatal(err)
		}
		out, pending := map[string]event.Event{}, false
		for _, e := range list {
			out[e.Name] = e
			pending = pending || e.State == event.Pending
		}
		if !pending {
			return out
		}
		select {
		case <-w.t.Context().Done():
			w.t.Fatal("events stay pending")
		case <-time.After(time.Millisecond):
		}
	}
}

func (w *world) want(states map[string]event.State) map[string]event.Event {
	w.t.Helper()
	all := w.settled()
	got := map[string]event.State{}
	for name, e := range all {
		got[name] = e.State
	}
	if d := cmp.Diff(states, got); d != "" {
		w.t.Errorf("states (-want +got):\n%s", d)
	}
	return all
}

// deploy is a container.deployed of a pod, with a digest that ends in d.
func deploy(id, ns, pod, d string, more ...string) string {
	data := fmt.Sprintf(`"agent":"edge","namespace":%q,"pod":%q,"container":"app","image":"r.example/%s/web:1","imageDigest":%q`, ns, pod, ns, digest[:len(digest)-len(d)]+d)
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"//argo","type":"container.deployed","data":{%s}}`, id, strings.Join(append([]string{data}, more...), ","))
}

var shop = event.Route{Name: "shop", Match: event.Match{Namespaces: []string{"shop*"}}, Scan: event.Scan{Profile: "base", Threshold: "strict"}}

// An event leads to the scan of each of its routes; the same content isn't
// scanned twice, unless the profile has changed since.
func TestService(t *testing.T) {
	own := event.Route{Name: "own", Match: event.Match{Images: []string{"r.example/shop/*"}, Labels: "app in (web,api)"}, Scan: event.Scan{Profile: "own"}}
	w := newWorld(t, event.Config{Routes: []event.Route{shop, own}, DedupeFor: time.Hour})
	w.run()
	w.send(deploy("1", "shop", "web-1", "1", `"labels":{"app":"web"}`))
	w.want(map[string]event.State{"1": event.Scanned})
	w.send(
		deploy("2", "shop", "web-2", "1"),
		deploy("3", "shop", "web-2", "2"),
		deploy("4", "bank", "vault", "3"),
		deploy("5", "shop", "web-5", "5", `"annotations":{"scan-profile":"mine"}`),
		deploy("6", "shop", "web-6", "6", `"annotations":{"scan-profile":"none"}`),
		deploy("7", "shop-eu", "web-7", "1"),
		strings.Replace(deploy("8", "shop", "web-8", "8"), `"pod":"web-8",`, "", 1),
	)
	all := w.want(map[string]event.State{
		"1": event.Scanned, "2": event.Duplicate, "3": event.Scanned, "4": event.Unrouted,
		"5": event.Scanned, "6": event.Scanned, "7": event.Scanned, "8": event.Invalid,
	})
	if d := cmp.Diff([]string{
		"edge/shop/web-1/app base", "edge/shop/web-1/app own", "edge/shop/web-2/app base",
		"edge/shop/web-5/app base", "edge/shop/web-5/app mine", "edge/shop/web-6/app base", "edge/shop-eu/web-7/app base",
	}, w.targets()); d != "" {
		t.Errorf("scans (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]event.Decision{{Route: "shop", State: event.Duplicate, Scan: "scan-1", Reason: "image and profile are those of scan scan-1"}}, all["2"].Decisions); d != "" {
		t.Errorf("the duplicate (-want +got):\n%s", d)
	}
	for name, reason := range map[string]string{"4": "no route", "8": "data.pod: is missing"} {
		if got := all[name].Reason; !strings.HasPrefix(got, reason) {
			t.Errorf("event %s: %q, want %q", name, got, reason)
		}
	}
	if d := cmp.Diff([]event.Decision{{Route: "shop", State: event.Scanned, Scan: "scan-6"}, {Route: "shop", State: event.Failed, Reason: "there is no such profile"}}, all["6"].Decisions); d != "" {
		t.Errorf("a pod whose own profile isn't there (-want +got):\n%s", d)
	}
	w.version = "2"
	w.send(deploy("9", "shop", "web-9", "1"))
	if all := w.settled(); all["9"].State != event.Scanned {
		t.Errorf("with a new version of the profile: %+v", all["9"])
	}
}

// What a pod's annotation asks for is the route's to grant; and only a scan that
// the route chose is a standing one.
func TestService_override(t *testing.T) {
	for _, tc := range []struct {
		route event.Route
		data  string
		want  []string
	}{
		{event.Route{}, `"annotations":{"scan-profile":"mine"}`, []string{"base standing", "mine"}},
		{event.Route{Override: event.Add}, `"annotations":{"scan-profile":"base"}`, []string{"base standing"}},
		{event.Route{Override: event.Replace}, `"annotations":{"scan-profile":"mine"}`, []string{"mine"}},
		{event.Route{Override: event.Replace}, `"labels":{}`, []string{"base standing"}},
		{event.Route{Override: event.Never}, `"annotations":{"scan-profile":"mine"}`, []string{"base standing"}},
		{event.Route{Agent: "edge"}, `"annotations":{"scan-profile":"mine"}`, []string{"base standing", "mine"}},
	} {
		tc.route.Name, tc.route.Scan = "r", event.Scan{Profile: "base", Threshold: "strict"}
		cfg := event.Config{DedupeFor: time.Hour}
		if tc.route.Agent == "" {
			cfg.Routes = []event.Route{tc.route}
		}
		w := newWorld(t, cfg)
		if tc.route.Agent != "" {
			if _, err := w.SetRoutes(t.Context(), tc.route.Agent, []event.Route{tc.route}); err != nil {
				t.Fatal(err)
			}
		}
		w.run()
		w.send(deploy("1", "shop", "web-1", "1", tc.data))
		w.settled()
		var got []string
		for _, r := range w.asked {
			what := r.Scan.Profile
			if r.Standing {
				what += " standing"
			}
			got = append(got, what)
			if r.Scan.Threshold != "strict" {
				t.Errorf("%+v: %+v", tc.route, r)
			}
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%q with %s (-want +got):\n%s", tc.route.Override, tc.data, d)
		}
	}
}

// Whoever may send events says of an image only what counts for himself: what an
// agent sees is scanned all the same, each workload's by itself.
func TestService_claims(t *testing.T) {
	w := newWorld(t, event.Config{Routes: []event.Route{shop}, DedupeFor: time.Hour})
	w.run()
	sent := func(by, id, pod, workload string) event.State {
		t.Helper()
		events, err := event.Decode(event.Message{Body: []byte(deploy(id, "shop", pod, "1", `"workload":{"kind":"Deployment","name":"`+workload+`"}`))})
		if err == nil {
			_, err = w.Accept(t.Context(), by, events)
		}
		if err != nil {
			t.Fatal(err)
		}
		return w.settled()[id].State
	}
	for i, tc := range []struct {
		by, pod, workload string
		want              event.State
	}{
		{"token:mallory", "clean", "web", event.Scanned},
		{"token:mallory", "other", "web", event.Duplicate},
		{"token:ci", "web-1", "web", event.Scanned},
		{"agent:edge", "web-1", "web", event.Scanned},
		{"agent:edge", "web-2", "web", event.Duplicate},
		{"agent:edge", "api-1", "api", event.Scanned},
		{"agent:other", "web-1", "web", event.Scanned},
	} {
		if got := sent(tc.by, fmt.Sprint(i), tc.pod, tc.workload); got != tc.want {
			t.Errorf("%+v: %s", tc, got)
		}
	}
}

// TestService_imageClaims: who names an image by another's digest keeps nobody
// else's from being scanned.
func TestService_imageClaims(t *testing.T) {
	w := newWorld(t, event.Config{Routes: []event.Route{{Name: "images", Scan: event.Scan{Profile: "img", Agent: "puller"}}}, DedupeFor: time.Hour})
	w.run()
	for i, tc := range []struct {
		by, image string
		want      event.State
	}{
		{"token:mallory", "nowhere.example/x", event.Scanned},
		{"token:registry", "r.example/web:1", event.Scanned},
		{"token:registry", "r.example/web:latest", event.Duplicate},
	} {
		id := fmt.Sprint(i)
		events, err := event.Decode(event.Message{Body: []byte(fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"s","type":"image.published","data":{"image":%q,"imageDigest":%q}}`, id, tc.image, digest))})
		if err == nil {
			_, err = w.Accept(t.Context(), tc.by, events)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := w.settled()[id].State; got != tc.want {
			t.Errorf("%+v: %s", tc, got)
		}
	}
}

// TestService_sameContent: what asks for something else isn't a duplicate: a scan
// by inputs of a cluster's own policy doesn't stand for the hub's.
func TestService_sameContent(t *testing.T) {
	base := event.Scan{Profile: "base"}
	routes := func(more ...event.Scan) (out []event.Route) {
		for i, s := range append([]event.Scan{base}, more...) {
			out = append(out, event.Route{Name: fmt.Sprint("r", i), Scan: s})
		}
		return out
	}
	lax, sbom := base, base
	lax.Inputs, sbom.SBOM = map[string]any{"most": 9}, true
	w := newWorld(t, event.Config{Routes: routes(lax, lax, sbom), DedupeFor: time.Hour})
	if _, err := w.SetRoutes(t.Context(), "edge", []event.Route{{Name: "shop/own", Scan: base}, {Name: "shop/tells", Scan: event.Scan{Profile: "base", Actions: []string{"log"}}}}); err != nil {
		t.Fatal(err)
	}
	w.run()
	w.send(deploy("1", "shop", "web-1", "1"))
	got := map[string]event.State{}
	for _, d := range w.settled()["1"].Decisions {
		got[d.Route] = d.State
	}
	if d := cmp.Diff(map[string]event.State{
		"r0": event.Scanned, "r1": event.Scanned, "r2": event.Duplicate, "r3": event.Scanned, "shop/own": event.Scanned, "shop/tells": event.Scanned,
	}, got); d != "" {
		t.Errorf("decisions (-want +got):\n%s", d)
	}
}

// Of several events about the same, the last one counts; but none waits for
// ever.
func TestService_debounces(t *testing.T) {
	const web = `"workload":{"kind":"Deployment","name":"web"}`
	// due adds events that came at since and are due now.
	due := func(w *world, since time.Time, texts ...string) {
		t.Helper()
		events, err := event.Decode(event.Message{ContentType: event.BatchType, Body: []byte("[" + strings.Join(texts, ",") + "]")})
		if err != nil {
			t.Fatal(err)
		}
		for i := range events {
			events[i].ID, events[i].Since, events[i].Due = event.ID(fmt.Sprint("id-", i)), since, time.Now()
		}
		if added, err := w.store.AddEvents(t.Context(), [][]event.Event{events}, 10); err != nil || added[0].Full {
			t.Fatal(added, err)
		}
	}
	w := newWorld(t, event.Config{Routes: []event.Route{shop}, Debounce: time.Minute, DedupeFor: time.Hour})
	due(w, time.Now(), deploy("1", "shop", "web-1", "1", web), deploy("2", "shop", "web-2", "2", web), deploy("3", "shop", "web-3", "3", web), deploy("other", "shop", "api-1", "4"))
	w.run()
	all := w.want(map[string]event.State{"1": event.Superseded, "2": event.Superseded, "3": event.Scanned, "other": event.Scanned})
	if want := "event " + string(all["3"].ID); !strings.HasPrefix(all["1"].Reason, want) {
		t.Errorf("superseded: %q, want %q", all["1"].Reason, want)
	}

	// One that was held as long as may be is acted on though there is a later.
	w = newWorld(t, event.Config{Routes: []event.Route{shop}, Debounce: time.Minute, DedupeFor: time.Hour})
	due(w, time.Now().Add(-time.Hour), deploy("1", "shop", "web-1", "1", web), deploy("2", "shop", "web-2", "2", web))
	w.run()
	w.want(map[string]event.State{"1": event.Scanned, "2": event.Scanned})
}

// A scan.scheduled says itself what to run, and is never a duplicate; an image
// is scanned by the agent that its route names.
func TestService_otherTypes(t *testing.T) {
	routes := []event.Route{
		{Name: "calendar", Match: event.Match{Types: []string{"scan.scheduled"}}, Scan: event.Scan{Profile: "base"}},
		{Name: "images", Match: event.Match{Types: []string{"image.*", "com.example.*"}, Sources: []string{"//r.example"}}, Scan: event.Scan{Profile: "img", Agent: "puller"}},
	}
	w := newWorld(t, event.Config{Routes: routes, DedupeFor: time.Hour})
	w.run()
	one := func(id, source, typ, data string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":%q,"type":%q,"data":{%s}}`, id, source, typ, data)
	}
	w.send(
		one("1", "cal", "scan.scheduled", `"agent":"edge","uri":"dir:/","profile":"mine"`),
		one("2", "cal", "scan.scheduled", `"agent":"edge","uri":"dir:/","profile":"mine"`),
		one("3", "//r.example", "image.published", `"image":"r.example:5000/shop/web:1","imageDigest":"`+digest+`"`),
		one("4", "//r.example", "image.published", `"image":"r.example/tagged:1"`),
		one("5", "//r.example", "com.example.thing", `"image":"r.example/tagged:2","agent":"edge"`),
		one("6", "//r.example", "com.example.other", `"hello":"world"`),
		one("7", "//elsewhere", "image.published", `"image":"x"`),
	)
	all := w.want(map[string]event.State{
		"1": event.Scanned, "2": event.Scanned, "3": event.Scanned, "4": event.Scanned, "5": event.Scanned, "6": event.Failed, "7": event.Unrouted,
	})
	if d := cmp.Diff([]string{
		"edge///dir:/ mine", "edge///dir:/ mine", "puller///image:r.example:5000/shop/web@" + digest + " img",
		"puller///image:r.example/tagged:1 img", "edge///image:r.example/tagged:2 img",
	}, w.targets()); d != "" {
		t.Errorf("scans (-want +got):\n%s", d)
	}
	if got := all["6"].Reason; !strings.Contains(got, "names nothing to scan") {
		t.Errorf("reason %q", got)
	}
}

// A hub that dies between the scan and the event's end, and a replica that
// acts on the same content at the same time, lead to one scan.
func TestService_oneScan(t *testing.T) {
	w := newWorld(t, event.Config{Routes: []event.Route{shop}, DedupeFor: time.Hour})
	w.send(deploy("1", "shop", "web-1", "1"), deploy("2", "shop", "web-2", "1"))
	// Both are acted on by others, who see nothing of what the other does.
	for range 2 {
		lost, err := w.store.ClaimEvents(t.Context(), time.Now(), time.Now(), 1)
		if err != nil || len(lost.Events) != 1 {
			t.Fatalf("%+v, %v", lost, err)
		}
		other := event.New(event.Config{Store: forgetful{w.store, lost}, Scanner: w.scanner, Routes: []event.Route{shop}, DedupeFor: time.Hour, Logger: quiet})
		ctx, cancel := context.WithCancel(t.Context())
		w.fail = func(event.Request) error { cancel(); return nil }
		other.Run(ctx)
	}
	w.fail = nil
	w.run()
	w.settled()
	if got := w.targets(); len(got) != 1 {
		t.Errorf("scans: %v", got)
	}
}

// forgetful is a store whose settlements are lost.
type forgetful struct {
	*store.Store
	claimed event.Claimed
}

func (f forgetful) ClaimEvents(context.Context, time.Time, time.Time, int) (event.Claimed, error) {
	return f.claimed, nil
}

func (f forgetful) SettleEvents(context.Context, time.Time, []event.Settlement) error {
	return errors.New("the hub is gone")
}

// A fault of the hub's own isn't the event's end.
func TestService_triesAgain(t *testing.T) {
	w := newWorld(t, event.Config{Routes: []event.Route{shop}})
	w.send(deploy("1", "shop", "web-1", "1"))
	w.fail = func(event.Request) error { return errors.New("the disk is full") }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	var e event.Event
	for e.Reason == "" {
		list, err := w.Events(t.Context(), event.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		e = list[0]
	}
	cancel()
	<-done
	if e.State != event.Pending || !strings.Contains(e.Reason, "tried again") || !e.Due.After(time.Now()) || strings.Contains(e.Reason, "disk") {
		t.Errorf("after a fault: %+v", e)
	}
}

// A storm: senders that come together are written together, nothing that was
// acknowledged is lost, and what is too much is refused.
func TestService_storm(t *testing.T) {
	w := newWorld(t, event.Config{Routes: []event.Route{shop}, MaxPending: 600, KeepFor: time.Hour})
	var all sync.WaitGroup
	var mu sync.Mutex
	taken, refused := 0, 0
	for i := range 1000 {
		all.Go(func() {
			events, err := event.Decode(event.Message{Body: []byte(deploy(fmt.Sprint(i), "shop", fmt.Sprint("web-", i), "1"))})
			if err != nil {
				t.Error(err)
				return
			}
			_, err = w.Accept(t.Context(), "token:ci", events)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				taken++
			case errors.Is(err, event.ErrFull):
				refused++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	list, err := w.Events(t.Context(), event.Filter{Limit: 1000})
	if err != nil || len(list) != taken || taken > 600 || taken+refused != 1000 {
		t.Errorf("%d are kept, %d taken, %d refused, %v", len(list), taken, refused, err)
	}
	w.run()
	w.settled()
	w.send(deploy("after", "shop", "web", "2"))
	if w.settled()["after"].State != event.Scanned {
		t.Error("after the storm events don't lead to scans")
	}
}

// An agent's routes are for its own containers, and those that are wrong are
// named.
func TestService_SetRoutes(t *testing.T) {
	w := newWorld(t, event.Config{DedupeFor: time.Hour})
	w.run()
	all := event.Route{Name: "all", Scan: event.Scan{Profile: "base"}}
	refused, err := w.SetRoutes(t.Context(), "core", []event.Route{all, {Name: "bad"}, {Name: "first", Scan: event.Scan{Profile: "base", Priority: "high"}}})
	if err != nil || len(refused) != 2 || refused["first"] == nil || refused["bad"] == nil || !strings.HasPrefix(refused["bad"].Error(), "scan.profile") {
		t.Errorf("refused %v, %v", refused, err)
	}
	w.send(deploy("1", "shop", "web-1", "1"))
	w.want(map[string]event.State{"1": event.Unrouted})
	if _, err := w.SetRoutes(t.Context(), "edge", []event.Route{all}); err != nil {
		t.Fatal(err)
	}
	w.send(deploy("2", "shop", "web-1", "1"))
	w.want(map[string]event.State{"1": event.Unrouted, "2": event.Scanned})
	if routes, err := w.Routes(t.Context()); err != nil || len(routes) != 2 {
		t.Errorf("routes %+v, %v", routes, err)
	}
}

func TestRoute_Validate(t *testing.T) {
	ok := event.Route{Name: "r", Match: event.Match{Labels: "app=web,tier!=test"}, Scan: event.Scan{Profile: "p", Method: "auto", Priority: "low"}}
	if err := ok.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*event.Route){
		"name":          func(r *event.Route) { r.Name = "" },
		"scan.profile":  func(r *event.Route) { r.Scan.Profile = "" },
		"scan.method":   func(r *event.Route) { r.Scan.Method = "magic" },
		"scan.priority": func(r *event.Route) { r.Scan.Priority = "urgent" },
		"scan.timeout":  func(r *event.Route) { r.Scan.Timeout = -1 },
		"match.labels":  func(r *event.Route) { r.Match.Labels = "=(" },
		"override":      func(r *event.Route) { r.Override = "maybe" },
		"match.types":   func(r *event.Route) { r.Match.Types = []string{""} },
	} {
		r := ok
		change(&r)
		if err := r.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want an error of %s", err, want)
		}
	}
}

// BenchmarkAccept is a storm: 10,000 senders with an event each.
func BenchmarkAccept(b *testing.B) {
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		db, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "reeve.db"), quiet)
		if err != nil {
			b.Fatal(err)
		}
		s := event.New(event.Config{Store: db, MaxPending: event.DefaultMaxPending, KeepFor: time.Hour, Logger: quiet})
		b.StartTimer()
		var all sync.WaitGroup
		for i := range 10_000 {
			all.Go(func() {
				events, err := event.Decode(event.Message{Body: []byte(deploy(fmt.Sprint(i), "shop", fmt.Sprint("web-", i), "1"))})
				if err == nil {
					_, err = s.Accept(b.Context(), "token:ci", events)
				}
				if err != nil {
					b.Error(err)
				}
			})
		}
		all.Wait()
		b.StopTimer()
		db.Close()
		b.StartTimer()
	}
}
