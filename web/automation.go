package web

import (
	"cmp"
	"encoding/json"
	"net/url"
	"slices"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/event"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
)

type schedulesView struct {
	Schedules []api.Schedule
	Form      scheduleForm
}

// scheduleForm is the form of a schedule: of one that is changed, or of a new
// one, whose Schedule is empty.
type scheduleForm struct {
	choices
	Schedule   api.Schedule
	Target     api.ScanTarget
	Selector   api.BatchSelector
	Workload   api.BatchWorkload
	Kinds      []string
	Priorities []scan.Priority
	// Base is JSON: what of the schedule the form has no fields for.
	Base string
}

func (r *request) scheduleForm(of api.Schedule) (f scheduleForm, err error) {
	f = scheduleForm{Schedule: of, Kinds: scan.Workloads, Priorities: []scan.Priority{scan.Normal, scan.High, scan.Low}}
	if of.Target != nil {
		f.Target = *of.Target
	}
	if of.Selector != nil {
		f.Selector = *of.Selector
	}
	if of.Selector != nil && of.Selector.Workload != nil {
		f.Workload = *of.Selector.Workload
	}
	base, err := json.Marshal(map[string]any{
		"suspended": of.Suspended && of.Paused == "", // it has a maker again who may make it
		"scan":      map[string]any{"inputs": of.Inputs},
		"options":   map[string]any{"method": cmp.Or(of.Method, scan.Auto), "sbom": of.SBOM},
	})
	if err != nil {
		return f, err
	}
	f.Base = string(base)
	if f.choices, err = r.choices(); err != nil {
		return f, err
	}
	// What it has is a choice, be it a version of a profile, or gone.
	if p := of.Profile; p != "" && !slices.ContainsFunc(f.Profiles, func(o api.Profile) bool { return o.Name == p }) {
		f.Profiles = append(f.Profiles, api.Profile{Name: p})
	}
	if t := of.Threshold; t != "" && !slices.ContainsFunc(f.Thresholds, func(o api.Threshold) bool { return o.Name == t }) {
		f.Thresholds = append(f.Thresholds, api.Threshold{Name: t})
	}
	if a := f.Target.Agent; a != "" && !slices.ContainsFunc(f.Agents, func(o api.Agent) bool { return string(o.Name) == a }) {
		f.Agents = append(f.Agents, api.Agent{Name: fleet.AgentName(a)})
	}
	return f, nil
}

func (h *handler) schedules(r *request) (*page, error) {
	schedules, err := ask[api.Schedule](r, "/schedules", nil, nil)
	if err != nil {
		return nil, err
	}
	v := schedulesView{Schedules: schedules.Items}
	v.Form, err = r.scheduleForm(api.Schedule{})
	return &page{View: "schedules", Title: "Schedules", Data: v}, err
}

type scheduleView struct {
	api.Schedule
	Runs []api.ScheduleRun
	// Form changes the schedule that has the version Tag; nil: the caller can't.
	Form *scheduleForm
	Tag  string
}

// schedule shows the hub's schedule of a name, or an agent's.
func (h *handler) schedule(r *request) (*page, error) {
	path, query := "/schedules/"+url.PathEscape(r.PathValue("name")), r.chosen("agent")
	var v scheduleView
	if err := r.get(path, query, &v.Schedule); err != nil {
		return nil, err
	}
	v.Tag = r.tag
	if v.Agent == "" && r.caller.Role.Allows(pki.Operator) {
		form, err := r.scheduleForm(v.Schedule)
		if err != nil {
			return nil, err
		}
		v.Form = &form
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
