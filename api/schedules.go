package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/pki"
	"reeve.dev/reeve/scan"
)

// The wire's shapes of schedules.
type (
	ScheduleRequest struct {
		ScheduleTimes
		Target   *ScanTarget    `json:"target,omitempty" doc:"What is scanned; or a selector"`
		Selector *BatchSelector `json:"selector,omitempty" doc:"All running containers that meet each member, at each run; instead of a target"`
		ScanRun
	}
	ScheduleTimes struct {
		Cron      string `json:"cron" minLength:"1" maxLength:"200" doc:"Minute, hour, day of the month, month and day of the week, as crontab(5) has them; or @hourly, @daily, @weekly, @monthly, @yearly"`
		TimeZone  string `json:"timeZone,omitempty" doc:"A name of the IANA database, such as Europe/Berlin; UTC if left out"`
		Jitter    int    `json:"jitter,omitempty" minimum:"0" maximum:"86400" doc:"Seconds over which the agents' scans are spread: each agent begins at a moment of its own, which is the same at each run"`
		Missed    string `json:"missed,omitempty" enum:"once,skip" doc:"What becomes of runs whose time passed while no hub was up: once, the default, makes the last of them"`
		Suspended bool   `json:"suspended,omitempty" doc:"Whether it doesn't run for now"`
	}
	Schedule struct {
		Name  string `json:"name"`
		Agent string `json:"agent,omitempty" doc:"The agent whose own policy it is; none: it's the hub's"`
		ScheduleTimes
		Target    *ScanTarget    `json:"target,omitempty"`
		Selector  *BatchSelector `json:"selector,omitempty"`
		Profile   string         `json:"profile"`
		Threshold string         `json:"threshold,omitempty"`
		Inputs    map[string]any `json:"inputs,omitempty"`
		Timeout   int            `json:"timeout" doc:"Seconds"`
		Priority  scan.Priority  `json:"priority" enum:"high,normal,low"`
		Method    scan.Method    `json:"method,omitempty" enum:"auto,exec,ephemeral,sidecar"`
		SBOM      bool           `json:"sbom,omitempty" doc:"Whether agents hand in SBOMs, too"`
		Next      time.Time      `json:"next,omitzero" doc:"When it runs next"`
		Created   time.Time      `json:"created"`
		CreatedBy string         `json:"createdBy,omitempty"`
		Paused    string         `json:"paused,omitempty" doc:"Why it is suspended, where nobody wanted it so: its maker may not make it any more"`
	}
	ScheduleRun struct {
		At     time.Time     `json:"at" doc:"When it should have been"`
		Begun  time.Time     `json:"begun"`
		State  scan.RunState `json:"state" enum:"due,started,error,skipped"`
		Scan   scan.ID       `json:"scan,omitempty"`
		Batch  scan.BatchID  `json:"batch,omitempty"`
		Missed int           `json:"missed,omitempty" doc:"How many runs before it nobody made"`
		Reason string        `json:"reason,omitempty"`
	}
)

func (in *ScheduleRequest) schedule(ctx context.Context, name string) (scan.Schedule, error) {
	c := scan.Schedule{
		Name: name, Cron: in.Cron, TimeZone: in.TimeZone, Jitter: time.Duration(in.Jitter) * time.Second, Missed: scan.Missed(in.Missed),
		Suspended: in.Suspended, Request: in.ScanRun.request(ctx),
	}
	switch {
	case in.Target != nil && in.Selector != nil:
		return c, invalidMember("selector", "excludes target; give one or the other")
	case in.Selector != nil:
		b := (&BatchRequest{Selector: *in.Selector, ScanRun: in.ScanRun}).request(ctx)
		c.Selector, c.Agents = &b.Selector, b.Agents
	case in.Target != nil:
		c.Request.Target = in.Target.target()
	default:
		return c, invalidMember("target", "is missing; name a target or a selector")
	}
	c.Request.Permit = func(t scan.Target) error { return reach(ctx, pki.Operator, t.Agent, t.Namespace) }
	return c, makeSchedule(ctx, &c)
}

// makeSchedule has the caller be who made c.
func makeSchedule(ctx context.Context, c *scan.Schedule) (err error) {
	caller := callerOf(ctx)
	c.CreatedBy = caller.String()
	// Of a part of the fleet nobody but its owner says what counts there.
	c.Request.Standing = caller.Rights.In(pki.Operator, "", "")
	c.Maker, err = json.Marshal(scheduleMaker{caller.Name, caller.By, caller.Rights, caller.root()})
	return err
}

// scheduleVersion is the version of a schedule as it was saved, however often it
// has run since.
func scheduleVersion(c scan.Schedule) string {
	return fmt.Sprintf("%x-%t", c.Created.UnixMicro(), c.Suspended)
}

// scheduleMaker is who made a schedule, as it is kept with it.
type scheduleMaker struct {
	Name       string         `json:"name"`
	By         string         `json:"by"`
	Rights     pki.Rights     `json:"rights"`
	Credential pki.Credential `json:"credential"`
}

// MayStillMake judges whether whoever made a schedule could make it now: the
// credential must not have been taken back, nor have ended if it is a token, and
// give the rights. It is for [scan.Schedules.Judge].
func (a *API) MayStillMake(ctx context.Context, c scan.Schedule) (refused string, err error) {
	if len(c.Maker) == 0 { // from before makers were kept
		return "", nil
	}
	var m scheduleMaker
	if err := json.Unmarshal(c.Maker, &m); err != nil {
		return "", fmt.Errorf("maker of schedule %s: %w", c.Name, err)
	}
	err = pki.VerifySource(ctx, a.cfg.Tokens, a.cfg.CA.Revocations(), m.Credential)
	if errors.Is(err, pki.ErrForeign) || errors.Is(err, pki.ErrExpired) {
		return fmt.Sprintf("%s:%s made it: %v", m.By, m.Name, err), nil
	}
	if err != nil {
		return "", err
	}
	who := Caller{Name: m.Name, By: m.By, Role: m.Rights.Role(), Rights: m.Rights}
	if err := reachSchedule(context.WithValue(ctx, callerKey{}, who), pki.Operator, c); err != nil {
		return err.Error(), nil
	}
	return "", nil
}

func fromSchedule(c scan.Schedule) Schedule {
	r := c.Request
	out := Schedule{
		Name: c.Name, Agent: string(c.Owner), Profile: r.Profile, Threshold: r.Threshold, Inputs: r.Inputs,
		Timeout: int(r.Timeout.Seconds()), Priority: r.Priority, Method: r.Method, SBOM: r.SBOM, Next: c.Next, Created: c.Created, CreatedBy: c.CreatedBy, Paused: c.Paused,
		ScheduleTimes: ScheduleTimes{
			Cron: c.Cron, TimeZone: c.TimeZone, Jitter: int(c.Jitter.Seconds()), Missed: string(c.Missed), Suspended: c.Suspended,
		},
	}
	if s := c.Selector; s != nil {
		out.Selector = &BatchSelector{Namespace: s.Namespace, Labels: s.Labels, Container: s.Container}
		if s.Kind != "" {
			out.Selector.Workload = &BatchWorkload{Kind: s.Kind, Name: s.Name}
		}
		for _, a := range c.Agents {
			out.Selector.Agents = append(out.Selector.Agents, string(a))
		}
		return out
	}
	t := r.Target
	out.Target = &ScanTarget{Agent: string(t.Agent), Namespace: t.Namespace, Pod: t.Pod, Container: t.Container, URI: t.URI}
	return out
}

// reachSchedule refuses a caller who isn't in role wherever the schedule scans.
func reachSchedule(ctx context.Context, role pki.Role, c scan.Schedule) error {
	if c.Selector == nil {
		return reach(ctx, role, c.Request.Target.Agent, c.Request.Target.Namespace)
	}
	if len(c.Agents) == 0 {
		return reach(ctx, role, "", c.Selector.Namespace)
	}
	for _, a := range c.Agents {
		if err := reach(ctx, role, a, c.Selector.Namespace); err != nil {
			return err
		}
	}
	return nil
}

// schedules are scans that are asked for again and again.
func (a *API) schedules() {
	type named struct {
		Name  string `path:"name" maxLength:"128"`
		Agent string `query:"agent" doc:"The agent whose own policy it is; none: it's the hub's"`
	}
	get := func(ctx context.Context, in *named) (scan.Schedule, error) {
		c, err := a.cfg.Schedules.Get(ctx, fleet.AgentName(in.Agent), in.Name)
		if err == nil && reachSchedule(ctx, pki.Viewer, c) != nil {
			err = scan.ErrNoSchedule
		}
		if err != nil {
			return c, a.problem(ctx, "get a schedule", err)
		}
		return c, nil
	}
	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/schedules", "list-schedules", "List the schedules")),
		func(ctx context.Context, _ *struct{}) (*page[Schedule], error) {
			all, err := a.cfg.Schedules.List(ctx)
			if err != nil {
				return nil, a.problem(ctx, "list schedules", err)
			}
			mine := all[:0]
			for _, c := range all {
				if reachSchedule(ctx, pki.Viewer, c) == nil {
					mine = append(mine, c)
				}
			}
			return newPage(mine, 0, fromSchedule, nil), nil
		})

	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/schedules/{name}", "get-schedule", "Show a schedule", http.StatusNotFound)),
		func(ctx context.Context, in *named) (*tagged[Schedule], error) {
			c, err := get(ctx, in)
			return &tagged[Schedule]{quote(scheduleVersion(c)), fromSchedule(c)}, err
		})

	huma.Register(a.huma, within(operation(pki.Viewer, http.MethodGet, "/schedules/{name}/runs", "list-schedule-runs", "List the last runs of a schedule, newest first", http.StatusNotFound)),
		func(ctx context.Context, in *named) (*page[ScheduleRun], error) {
			c, err := get(ctx, in)
			if err != nil {
				return nil, err
			}
			runs, err := a.cfg.Schedules.Runs(ctx, c.Owner, c.Name)
			if err != nil {
				return nil, a.problem(ctx, "list the runs of a schedule", err)
			}
			return newPage(runs, 0, func(r scan.Run) ScheduleRun {
				return ScheduleRun{At: r.At, Begun: r.Begun, State: r.State, Scan: r.Scan, Batch: r.Batch, Missed: r.Missed, Reason: r.Reason}
			}, nil), nil
		})

	type putInput struct {
		Name string `path:"name" maxLength:"128"`
		Precondition
		Body ScheduleRequest
	}
	type put struct {
		Status   int
		Location string `header:"Location"`
		ETag     string `header:"ETag"`
		Body     Schedule
	}
	op := within(operation(pki.Operator, http.MethodPut, "/schedules/{name}", "put-schedule", "Store or replace a schedule", http.StatusConflict, http.StatusPreconditionFailed))
	op.Description += " Its scans are asked for by the rights that the caller has at each run."
	huma.Register(a.huma, op,
		func(ctx context.Context, in *putInput) (*put, error) {
			was, err := a.changeable(ctx, in.Name)
			if errors.Is(err, scan.ErrNoSchedule) {
				err = nil
			}
			if err == nil {
				err = in.check(!was.Created.IsZero(), scheduleVersion(was))
			}
			if err != nil {
				return nil, a.problem(ctx, "store a schedule", err)
			}
			c, err := in.Body.schedule(ctx, in.Name)
			if err == nil && c.Selector != nil { // runs ask nobody's leave
				err = reachSchedule(ctx, pki.Operator, c)
			}
			if err != nil {
				return nil, err
			}
			saved, created, err := a.cfg.Schedules.Save(ctx, c, &was)
			if err != nil {
				return nil, a.problem(ctx, "store a schedule", in.told(err))
			}
			out := &put{
				Status: http.StatusOK, Location: prefix + "/schedules/" + url.PathEscape(saved.Name),
				ETag: quote(scheduleVersion(saved)), Body: fromSchedule(saved),
			}
			if created {
				out.Status = http.StatusCreated
			}
			return out, nil
		})

	type byName struct {
		Name string `path:"name" maxLength:"128"`
	}
	suspend := func(verb string, suspended bool, summary string) {
		op := within(operation(pki.Operator, http.MethodPost, "/schedules/{name}/"+verb, verb+"-schedule", summary, http.StatusNotFound, http.StatusPreconditionFailed))
		huma.Register(a.huma, op, func(ctx context.Context, in *byName) (*tagged[Schedule], error) {
			c, err := a.changeable(ctx, in.Name)
			if err == nil && c.Paused != "" && !suspended {
				err = makeSchedule(ctx, &c)
			}
			if err == nil {
				c, err = a.cfg.Schedules.Suspend(ctx, c, suspended)
			}
			if err != nil {
				return nil, a.problem(ctx, verb+" a schedule", err)
			}
			a.cfg.Logger.InfoContext(ctx, "schedule "+verb, "schedule", c.Name, "by", callerOf(ctx).String())
			return &tagged[Schedule]{quote(scheduleVersion(c)), fromSchedule(c)}, nil
		})
	}
	suspend("pause", true, "Have a schedule not run until it is resumed; whoever made it stays its maker")
	suspend("resume", false, "Have a schedule run again; by the caller's rights if it is paused since its maker may not make it any more")

	op = within(operation(pki.Operator, http.MethodDelete, "/schedules/{name}", "delete-schedule", "Remove a schedule; what it led to stays", http.StatusNotFound))
	op.DefaultStatus = http.StatusNoContent
	huma.Register(a.huma, op, func(ctx context.Context, in *byName) (*struct{}, error) {
		_, err := a.changeable(ctx, in.Name)
		if err == nil {
			err = a.cfg.Schedules.Delete(ctx, in.Name)
		}
		if err != nil {
			return nil, a.problem(ctx, "delete a schedule", err)
		}
		return nil, nil
	})
}

// changeable is the hub's schedule of that name, if the caller may change it, or
// scan.ErrNoSchedule.
func (a *API) changeable(ctx context.Context, name string) (scan.Schedule, error) {
	c, err := a.cfg.Schedules.Get(ctx, "", name)
	if err == nil {
		err = reachSchedule(ctx, pki.Operator, c)
	}
	return c, err
}
