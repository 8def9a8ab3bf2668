package storetest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/event"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
)

var eventTests = map[string]func(*testing.T, *store.Store){
	"keeps each once":               keepsEventsOnce,
	"takes no more than may wait":   limitsEvents,
	"gives each to one":             claimsEvents,
	"gives each to one of many":     claimsTogether,
	"knows the later one":           knowsLater,
	"remembers the scan of content": remembersContent,
	"lists and sweeps":              sweepsEvents,
	"keeps agents' routes":          keepsRoutes,
}

func newEvent(name string, at time.Time) event.Event {
	return event.Event{
		ID: event.ID(scan.NewID()), Source: "//test", Name: name, Type: event.ContainerDeployed, Time: epoch,
		Data: event.Data{
			Agent: "edge", Namespace: "shop", Pod: "web-" + name, Container: "app", Image: "r.example/web:1",
			Workload: &event.Workload{Kind: "Deployment", Name: "web"}, Labels: map[string]string{"app": "web"},
		},
		Body: []byte(`{"id":"` + name + `"}`), Received: at, By: "token:ci", State: event.Pending, Since: at, Due: at,
	}
}

func addEvents(t *testing.T, s *store.Store, events ...event.Event) {
	t.Helper()
	if added, err := s.AddEvents(t.Context(), [][]event.Event{events}, 1000); err != nil || added[0].Full {
		t.Fatal(added, err)
	}
}

func claimEvents(t *testing.T, s *store.Store, at time.Time) []event.Event {
	t.Helper()
	c, err := s.ClaimEvents(t.Context(), at, at.Add(time.Minute), 100)
	if err != nil {
		t.Fatal(err)
	}
	return c.Events
}

func keepsEventsOnce(t *testing.T, s *store.Store) {
	e := newEvent("1", epoch)
	due := s.EventsDue()
	addEvents(t, s, e)
	select {
	case <-due:
	default:
		t.Error("nobody was woken")
	}
	again := e
	again.ID, again.By = event.ID(scan.NewID()), "somebody else"
	other := newEvent("2", epoch)
	other.State, other.Reason = event.Invalid, "data.pod: is missing"
	added, err := s.AddEvents(t.Context(), [][]event.Event{{again, other}}, 1000)
	if d := cmp.Diff([]event.Added{{New: []bool{false, true}}}, added); d != "" || err != nil {
		t.Errorf("added %v (-want +got):\n%s", err, d)
	}
	got, err := s.Event(t.Context(), e.ID)
	if d := cmp.Diff(e, got); d != "" || err != nil {
		t.Errorf("kept %v (-want +got):\n%s", err, d)
	}
	_, err = s.Event(t.Context(), again.ID)
	wantErr(t, "the repeated one", err, event.ErrNotFound)
	if list := claimEvents(t, s, epoch); len(list) != 1 || list[0].ID != e.ID {
		t.Errorf("claimed %+v", list)
	}
}

func limitsEvents(t *testing.T, s *store.Store) {
	of := func(by string, n int) (events []event.Event) {
		for i := range n {
			e := newEvent(by+fmt.Sprint(i), epoch)
			e.By = by
			events = append(events, e)
		}
		return events
	}
	full := func(name string, want []bool, calls ...[]event.Event) {
		t.Helper()
		added, err := s.AddEvents(t.Context(), calls, 50)
		var got []bool
		for _, a := range added {
			got = append(got, a.Full)
		}
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, d)
		}
	}
	full("four fifths are one sender's", []bool{true}, of("a", 41))
	if list, err := s.Events(t.Context(), event.Filter{}); len(list) != 0 || err != nil {
		t.Errorf("%d were kept, %v", len(list), err)
	}
	// Of 50: 40 of a leave 10, so b may have 8, and 2 are left for c's 1.
	full("each in its turn", []bool{false, true, false, true, true, false}, of("a", 40), of("a2", 41), of("b", 8), of("b2", 2), of("c", 2), of("c", 1))
	full("the same again", []bool{false}, of("a", 40))
	bad := newEvent("bad", epoch)
	bad.State = event.Invalid
	full("one that doesn't wait", []bool{false}, []event.Event{bad})
}

func claimsEvents(t *testing.T, s *store.Store) {
	soon := newEvent("soon", epoch)
	late := newEvent("late", epoch.Add(time.Hour))
	addEvents(t, s, late, soon)
	c, err := s.ClaimEvents(t.Context(), epoch.Add(-time.Second), epoch, 100)
	if err != nil || len(c.Events) != 0 || !c.NextAt.Equal(epoch) {
		t.Errorf("before any is due: %+v, %v", c, err)
	}
	if list := claimEvents(t, s, epoch); len(list) != 1 || list[0].Name != "soon" {
		t.Fatalf("claimed %+v", list)
	}
	if list := claimEvents(t, s, epoch.Add(59*time.Second)); len(list) != 0 {
		t.Errorf("claimed twice: %+v", list)
	}
	if list := claimEvents(t, s, epoch.Add(time.Minute)); len(list) != 1 {
		t.Errorf("nobody has the one whose claimer was lost: %+v", list)
	}
	retry := event.Settlement{ID: soon.ID, State: event.Pending, Reason: "again", RetryAt: epoch.Add(3 * time.Minute)}
	wantErr(t, "retry", s.SettleEvents(t.Context(), epoch, []event.Settlement{retry}), nil)
	if list := claimEvents(t, s, epoch.Add(3*time.Minute)); len(list) != 1 || list[0].Reason != "again" {
		t.Errorf("tried again: %+v", list)
	}
	end := event.Settlement{ID: soon.ID, State: event.Scanned, Decisions: []event.Decision{{Route: "r", State: event.Scanned, Scan: "s"}}}
	wantErr(t, "settle", s.SettleEvents(t.Context(), epoch, []event.Settlement{end}), nil)
	if list := claimEvents(t, s, epoch.Add(30*time.Minute)); len(list) != 0 {
		t.Errorf("claimed after its end: %+v", list)
	}
	got, err := s.Event(t.Context(), soon.ID)
	if d := cmp.Diff(end.Decisions, got.Decisions); d != "" || err != nil || got.State != event.Scanned {
		t.Errorf("settled %s, %v (-want +got):\n%s", got.State, err, d)
	}
}

// claimsTogether: however many claim at a time, each event goes to one.
func claimsTogether(t *testing.T, s *store.Store) {
	const events = 60
	for i := range events {
		addEvents(t, s, newEvent(fmt.Sprint(i), epoch))
	}
	var mu sync.Mutex
	got := map[event.ID]int{}
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			for range events {
				c, err := s.ClaimEvents(t.Context(), epoch, epoch.Add(time.Minute), 7)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, e := range c.Events {
					got[e.ID]++
				}
				done := len(got) == events
				mu.Unlock()
				if done {
					return
				}
			}
		})
	}
	all.Wait()
	for id, n := range got {
		if n != 1 {
			t.Errorf("event %s was given %d times", id, n)
		}
	}
	if len(got) != events {
		t.Errorf("%d of %d events were given", len(got), events)
	}
}

// knowsLater: a pending event knows the last one about the same, which waits
// as long as the first has waited.
func knowsLater(t *testing.T, s *store.Store) {
	one, two, three := newEvent("1", epoch), newEvent("2", epoch.Add(time.Second)), newEvent("3", epoch.Add(2*time.Second))
	other := newEvent("other", epoch)
	other.Data.Workload = nil
	addEvents(t, s, one, two, three, other)
	later := map[string]event.ID{}
	for _, e := range claimEvents(t, s, epoch) {
		later[e.Name] = e.Later
	}
	if d := cmp.Diff(map[string]event.ID{"1": three.ID, "other": ""}, later); d != "" {
		t.Errorf("later (-want +got):\n%s", d)
	}
	wantErr(t, "supersede", s.SettleEvents(t.Context(), epoch, []event.Settlement{
		{ID: one.ID, State: event.Superseded, Later: three.ID, Since: one.Since},
	}), nil)
	if got, err := s.Event(t.Context(), three.ID); err != nil || !got.Since.Equal(epoch) {
		t.Errorf("the later one waits since %v, %v", got.Since, err)
	}
}

func remembersContent(t *testing.T, s *store.Store) {
	latest := func(want bool, scan string, since time.Time) {
		t.Helper()
		valid, got, err := s.LastEventScan(t.Context(), "c", since)
		if err != nil || valid != want || got != scan {
			t.Errorf("latest %v %q, %v; want %v %q", valid, got, err, want, scan)
		}
	}
	latest(false, "", epoch)
	c := newScan("edge")
	create(t, s, c)
	e := newEvent("1", epoch)
	addEvents(t, s, e)
	wantErr(t, "settle", s.SettleEvents(t.Context(), epoch, []event.Settlement{
		{ID: e.ID, State: event.Scanned, Scans: map[string]string{"c": string(c.ID)}},
	}), nil)
	latest(true, string(c.ID), epoch.Add(-time.Hour))
	latest(false, string(c.ID), epoch)
	wantErr(t, "cancel", s.FinishScan(t.Context(), scan.Finish{ID: c.ID, Status: scan.Cancelled}, epoch), nil)
	latest(false, string(c.ID), epoch.Add(-time.Hour))
}

func sweepsEvents(t *testing.T, s *store.Store) {
	for i := range 6 {
		e := newEvent(fmt.Sprint(i), epoch.Add(time.Duration(i)*time.Hour))
		if i != 1 {
			e.State = event.Unrouted
		}
		if i == 5 {
			e.Data.Agent, e.Type = "core", event.ImagePublished
		}
		addEvents(t, s, e)
	}
	names := func(f event.Filter) (out []string) {
		t.Helper()
		list, err := s.Events(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			out = append(out, e.Name)
		}
		return out
	}
	for _, tc := range []struct {
		f    event.Filter
		want []string
	}{
		{event.Filter{}, []string{"5", "4", "3", "2", "1", "0"}},
		{event.Filter{Limit: 2}, []string{"5", "4"}},
		{event.Filter{State: event.Pending}, []string{"1"}},
		{event.Filter{Agent: "core"}, []string{"5"}},
		{event.Filter{Type: event.ImagePublished, Source: "//test"}, []string{"5"}},
		{event.Filter{Within: []fleet.Scope{{Agents: []string{"c*"}}}}, []string{"5"}},
		{event.Filter{Within: []fleet.Scope{}}, nil},
	} {
		if d := cmp.Diff(tc.want, names(tc.f)); d != "" {
			t.Errorf("%+v (-want +got):\n%s", tc.f, d)
		}
	}
	if n, err := s.SweepEvents(t.Context(), epoch.Add(2*time.Hour), 3, 1<<20); n != 2 || err != nil {
		t.Errorf("swept %d, %v; want 0 by age and 2 by number", n, err)
	}
	if d := cmp.Diff([]string{"5", "4", "3", "1"}, names(event.Filter{})); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
	big := newEvent("big", epoch.Add(9*time.Hour))
	big.State, big.Body = event.Invalid, []byte(`"`+strings.Repeat("x", 1000)+`"`)
	addEvents(t, s, big)
	if n, err := s.SweepEvents(t.Context(), epoch, 100, int64(len(big.Body)+len(`{"id":"5"}`))); n != 2 || err != nil {
		t.Errorf("swept %d, %v; want 2 by their bytes", n, err)
	}
	if d := cmp.Diff([]string{"big", "5", "1"}, names(event.Filter{})); d != "" {
		t.Errorf("left (-want +got):\n%s", d)
	}
}

func keepsRoutes(t *testing.T, s *store.Store) {
	route := func(agent, name string) event.Route {
		return event.Route{Agent: agent, Name: name, Match: event.Match{Namespaces: []string{"shop"}}, Scan: event.Scan{Profile: "p", Inputs: map[string]any{"n": "v"}, Timeout: 7}}
	}
	wantErr(t, "set", s.SetEventRoutes(t.Context(), "edge", []event.Route{route("edge", "b"), route("edge", "a")}), nil)
	wantErr(t, "set", s.SetEventRoutes(t.Context(), "core", []event.Route{route("core", "a")}), nil)
	wantErr(t, "set anew", s.SetEventRoutes(t.Context(), "edge", []event.Route{route("edge", "c")}), nil)
	got, err := s.EventRoutes(t.Context())
	if d := cmp.Diff([]event.Route{route("core", "a"), route("edge", "c")}, got); d != "" || err != nil {
		t.Errorf("routes %v (-want +got):\n%s", err, d)
	}
}
