package web

import (
	"encoding/json"
	"net/url"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/event"
)

type schedulesView struct {
	Schedules []api.Schedule
	choices
}

func (h *handler) schedules(r *request) (*page, error) {
	schedules, err := ask[api.Schedule](r, "/schedules", nil, nil)
	if err != nil {
		return nil, err
	}
	v := schedulesView{Schedules: schedules.Items}
	v.choices, err = r.choices()
	return &page{View: "schedules", Title: "Schedules", Data: v}, err
}

type scheduleView struct {
	api.Schedule
	Runs []api.ScheduleRun
}

// schedule shows the hub's schedule of a name, or an agent's.
func (h *handler) schedule(r *request) (*page, error) {
	path, query := "/schedules/"+url.PathEscape(r.PathValue("name")), r.chosen("agent")
	var v scheduleView
	if err := r.get(path, query, &v.Schedule); err != nil {
		return nil, err
	}
	runs, err := ask[api.ScheduleRun](r, path+"/runs", query, nil)
	v.Runs = runs.Items
	return &page{View: "schedule", Title: v.Name, Data: v}, err
}

// schedulePath leads to a schedule.
func schedulePath(s api.Schedule) string {
	u := url.URL{Path: "/schedules/" + s.Name}
	if s.Agent != "" {
		u.RawQuery = url.Values{"agent": {s.Agent}}.Encode()
	}
	return u.String()
}

type eventsView struct {
	Events                     list[api.Event]
	Routes                     []api.EventRoute
	States                     []event.State
	State, Type, Source, Agent string
}

func (h *handler) events(r *request) (*page, error) {
	query := r.chosen("state", "type", "source", "agent", "before")
	v := eventsView{
		State: query.Get("state"), Type: query.Get("type"), Source: query.Get("source"), Agent: query.Get("agent"),
		States: []event.State{event.Pending, event.Scanned, event.Duplicate, event.Superseded, event.Unrouted, event.Invalid, event.Failed},
	}
	var err error
	if v.Events, err = ask[api.Event](r, "/events", query, nil); err != nil {
		return nil, err
	}
	routes, err := optional(ask[api.EventRoute](r, "/event-routes", nil, nil))
	v.Routes = routes.Items
	return &page{View: "events", Title: "Events", Data: v}, err
}

type eventView struct {
	api.Event
	Body string
}

func (h *handler) event(r *request) (*page, error) {
	var v eventView
	if err := r.get("/events/"+url.PathEscape(r.PathValue("id")), nil, &v.Event); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(v.Event.Event, "", "  ")
	v.Body = string(text)
	return &page{View: "event", Title: v.Type, Data: v}, err
}
