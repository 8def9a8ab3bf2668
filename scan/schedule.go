package scan

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"reeve.dev/reeve/fleet"
)

// ErrNoSchedule says that there is no schedule of that name.
var ErrNoSchedule = errors.New("there is no such schedule")

// ErrSchedulesFull says that MaxSchedules is reached.
var ErrSchedulesFull = errors.New("there are as many schedules as there may be")

const (
	// MaxSchedules is how many schedules there are at most, of the hub and of
	// each agent.
	MaxSchedules = 1000
	// MaxJitter is the longest time over which a run may be spread.
	MaxJitter = 24 * time.Hour
	// RunsKept is how many runs of a schedule can be seen.
	RunsKept = 100

	// late is how long after its time a run isn't missed yet.
	late = time.Minute
	// manyMissed is where missed runs aren't counted any further.
	manyMissed = 10_000
	runFor     = time.Minute
	runAgain   = 10 * time.Second
)

// Missed says what becomes of a run whose time passed while no hub was up.
type Missed string

// Of several missed runs at most the last is made.
const (
	RunOnce Missed = "once"
	Skip    Missed = "skip"
)

// Schedule asks for a scan, or for a batch, again and again.
type Schedule struct {
	// Owner is the agent whose own policy it is; empty: it's the hub's. The
	// two make the schedule's identity.
	Owner fleet.AgentName
	Name  string
	// Cron has five members, minute to day of the week, or is one of @hourly,
	// @daily, @weekly, @monthly and @yearly; TimeZone is of the IANA database,
	// UTC if it is empty. Where clocks are set back, an hour that Cron names
	// and that comes twice counts once; where they are set ahead, a time that
	// doesn't come is left out.
	Cron     string
	TimeZone string
	// Request is what is asked for; with a Selector, its Target is not used,
	// and Agents are those of the batch.
	Request  Request
	Selector *Selector
	Agents   []fleet.AgentName
	// Jitter is the time over which a run is spread: each agent begins at a
	// moment of its own within it, which is the same at each run.
	Jitter    time.Duration
	Missed    Missed
	Suspended bool

	Created   time.Time
	CreatedBy string
	// Maker is what Schedules.Judge knows whoever made it by.
	Maker []byte
	// Paused says why it is suspended, where not by somebody's wish: its maker may
	// not scan there any more.
	Paused string
	// Next is when it runs next; zero while it is suspended.
	Next time.Time
}

// id is the schedule's name for a person and for keys.
func (s Schedule) id() string {
	if s.Owner == "" {
		return s.Name
	}
	return string(s.Owner) + "/" + s.Name
}

// RunState is where a run of a schedule stands.
type RunState string

// The states of a run. Started and error and skipped are final.
const (
	RunDue     RunState = "due"
	RunStarted RunState = "started"
	RunError   RunState = "error"
	RunSkipped RunState = "skipped"
)

// Run is one run of a schedule. At is when it should have been.
type Run struct {
	Owner    fleet.AgentName
	Schedule string
	At       time.Time
	State    RunState
	// Scan or Batch is what it led to.
	Scan  ID
	Batch BatchID
	// Missed counts the runs before it that nobody made.
	Missed int
	Reason string
	Begun  time.Time
}

// ScheduleStore keeps schedules and their runs. Each method is one
// transaction.
type ScheduleStore interface {
	// SaveSchedule keeps or replaces a schedule; created says which. Unless was is
	// nil it is ErrChanged where that isn't what is there until now; the zero
	// Schedule is none. It is ErrSchedulesFull at MaxSchedules of one owner.
	SaveSchedule(ctx context.Context, s Schedule, was *Schedule) (created bool, err error)
	// SetSchedules replaces all of an owner's. One that is there and not
	// changed otherwise keeps its Next.
	SetSchedules(ctx context.Context, owner fleet.AgentName, list []Schedule) error
	// Schedule returns ErrNoSchedule if there is none, as does DeleteSchedule.
	Schedule(ctx context.Context, owner fleet.AgentName, name string) (Schedule, error)
	// Schedules lists all, by owner and name.
	Schedules(ctx context.Context) ([]Schedule, error)
	// PauseSchedule suspends a schedule that is still as it was saved.
	PauseSchedule(ctx context.Context, s Schedule, reason string) error
	// DeleteSchedule removes a schedule with its runs.
	DeleteSchedule(ctx context.Context, owner fleet.AgentName, name string) error

	// DueSchedules gives those whose time has come, and when the next one's
	// does; zero if there is none.
	DueSchedules(ctx context.Context, now time.Time) (due []Schedule, next time.Time, err error)
	// FireSchedule moves a schedule from its Next, which it must still have,
	// to next, and keeps the run; fired is false if another replica did.
	FireSchedule(ctx context.Context, s Schedule, next time.Time, r Run) (fired bool, err error)
	// ClaimRuns gives runs that are due; nobody else is given them before
	// until.
	ClaimRuns(ctx context.Context, now, until time.Time) ([]Run, error)
	// EndRun records what a run led to or, while it is RunDue, why it is
	// tried again at again. Of each schedule RunsKept stay.
	EndRun(ctx context.Context, r Run, again time.Time) error
	// Runs lists the runs of a schedule, newest first.
	Runs(ctx context.Context, owner fleet.AgentName, name string, limit int) ([]Run, error)

	// SchedulesChanged returns a channel that is closed when one is saved.
	SchedulesChanged() <-chan struct{}
}

// Schedules asks a Queue for scans when it is time. Its methods may be called
// concurrently, and by several hubs on one store: each run is made once.
type Schedules struct {
	queue *Queue
	store ScheduleStore
	log   *slog.Logger
	judge func(context.Context, Schedule) (refused string, err error)
}

// NewSchedules returns the schedules that are kept in store.
func NewSchedules(queue *Queue, store ScheduleStore, logger *slog.Logger) *Schedules {
	may := func(context.Context, Schedule) (string, error) { return "", nil }
	return &Schedules{queue: queue, store: store, log: logger, judge: may}
}

// Judge has may asked before each run of a schedule of the hub's, whether its
// Maker could make it today. With a refusal it is paused instead of run. Call it
// before Run.
func (s *Schedules) Judge(may func(context.Context, Schedule) (refused string, err error)) {
	s.judge = may
}

// cronParser takes what crontab(5) has.
var cronParser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// times are when s runs.
func (s Schedule) times() (*timetable, error) {
	zone, err := time.LoadLocation(s.TimeZone)
	if err != nil || s.TimeZone == "Local" {
		return nil, invalid("timeZone", "%q is unknown; use a name of the IANA database, such as Europe/Berlin", s.TimeZone)
	}
	// The parser's own prefix for a zone, and @every, which has no fixed times.
	if len(s.Cron) > 200 || strings.Contains(s.Cron, "=") || strings.HasPrefix(s.Cron, "@every") {
		return nil, invalid("cron", "%q must have five members, such as 30 3 * * 1-5, or be @hourly, @daily, @weekly, @monthly or @yearly", cut(s.Cron))
	}
	parsed, err := cronParser.Parse(s.Cron)
	if err != nil {
		return nil, invalid("cron", "%q: %v", s.Cron, err)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	t := &timetable{cron: parsed, zone: zone, hours: ok && spec.Hour&anyHour == 0}
	if t.after(time.Now()).IsZero() {
		return nil, invalid("cron", "%q: there is no such day", s.Cron)
	}
	return t, nil
}

// timetable tells the times of a cron expression in a time zone.
type timetable struct {
	cron cron.Schedule
	zone *time.Location
	// hours says that certain hours are named, and not each.
	hours bool
}

// anyHour is the bit that the parser sets for *.
const anyHour = 1 << 63

// after is the first time after t; zero if there is none in years.
func (t *timetable) after(at time.Time) time.Time {
	local := at.In(t.zone)
	next := t.cron.Next(local)
	for t.hours && !next.IsZero() && !wall(next).After(wall(local)) {
		next = t.cron.Next(next)
	}
	if next.IsZero() {
		return next
	}
	return next.UTC()
}

// wall is what clocks show at t.
func wall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// Save keeps or replaces a schedule of the hub's. What is wrong with it is an
// *InvalidError; its agents, profile and threshold must be there now. Unless was
// is nil, something else in its place until now is ErrChanged; the zero Schedule
// is nothing.
func (s *Schedules) Save(ctx context.Context, c Schedule, was *Schedule) (saved Schedule, created bool, err error) {
	if c, err = s.check(ctx, c); err != nil {
		return Schedule{}, false, err
	}
	if created, err = s.store.SaveSchedule(ctx, c, was); err != nil {
		return Schedule{}, false, fmt.Errorf("store schedule %s: %w", c.Name, err)
	}
	return c, created, nil
}

// Suspend has a schedule of the hub's not run, or run again, and changes nothing
// else of c, which is ErrChanged where it isn't so any more.
func (s *Schedules) Suspend(ctx context.Context, c Schedule, suspended bool) (Schedule, error) {
	if c.Suspended == suspended {
		return c, nil
	}
	was := c
	c.Suspended, c.Paused, c.Next = suspended, "", time.Time{}
	if !suspended {
		times, err := c.times()
		if err != nil {
			return Schedule{}, err
		}
		c.Next = times.after(storeTime())
	}
	if _, err := s.store.SaveSchedule(ctx, c, &was); err != nil {
		return Schedule{}, fmt.Errorf("suspend schedule %s: %w", c.Name, err)
	}
	return c, nil
}

// Set replaces the schedules of an agent's own; they are for its own
// containers, and before nobody else's scans. It names those that it doesn't take.
func (s *Schedules) Set(ctx context.Context, owner fleet.AgentName, list []Schedule) (refused map[string]error, err error) {
	refused = map[string]error{}
	taken := list[:0:0]
	for _, c := range list {
		c.Owner, c.Agents, c.Request.RequestedBy = owner, []fleet.AgentName{owner}, ""
		if c.Selector == nil {
			c.Selector = &Selector{}
		}
		name := c.Name
		c, err := s.check(ctx, c)
		if err == nil && c.Request.Priority == High {
			err = invalid("options.priority", "high is for the hub's operators")
		}
		var bad *InvalidError
		switch {
		case errors.As(err, &bad):
			refused[name] = err
		case err != nil:
			return nil, err
		default:
			taken = append(taken, c)
		}
	}
	if err := s.store.SetSchedules(ctx, owner, taken); err != nil {
		return nil, fmt.Errorf("schedules of agent %s: %w", owner, err)
	}
	return refused, nil
}

// check completes a schedule, or says what is wrong with it.
func (s *Schedules) check(ctx context.Context, c Schedule) (Schedule, error) {
	if !catalogueName.MatchString(c.Name) {
		return c, invalid("name", "%q must be of letters, digits, '.', '_' and '-', at most 128", cut(c.Name))
	}
	times, err := c.times()
	if err != nil {
		return c, err
	}
	switch {
	case c.Jitter < 0 || c.Jitter > MaxJitter:
		return c, invalid("jitter", "must be between 0 and %d seconds", int(MaxJitter.Seconds()))
	case c.Request.Callback != nil:
		return c, invalid("callback", "a schedule has none; sinks of the hub's configuration are told of its scans")
	case c.Missed == "":
		c.Missed = RunOnce
	case c.Missed != RunOnce && c.Missed != Skip:
		return c, invalid("missed", "%q is unknown; use once or skip", c.Missed)
	}
	c.Request.RequestedBy = "schedule:" + c.id()
	if c.Owner != "" {
		c.Request.RequestedBy = byAgent + string(c.Owner) + " schedule " + c.Name
	}
	if err := s.queue.check(ctx, &c.Request, c.Agents, c.Selector); err != nil {
		return c, err
	}
	c.Created, c.Paused, c.Request.Permit, c.Request.Key = storeTime(), "", nil, Key{}
	if c.Next = times.after(c.Created); c.Suspended {
		c.Next = time.Time{}
	}
	return c, nil
}

// check says what is wrong with a request for a scan or, with a selector, for
// a batch, and completes it.
func (q *Queue) check(ctx context.Context, r *Request, agents []fleet.AgentName, s *Selector) error {
	if s != nil {
		if err := s.validate(); err != nil {
			return err
		}
		if _, err := q.selected(ctx, BatchRequest{Request: *r, Agents: agents, Selector: *s}); err != nil {
			return err
		}
		r.Target = Target{}
	} else {
		r.Target = r.Target.plain()
		if err := r.Target.validate(); err != nil {
			return err
		}
		if err := q.fillAgent(ctx, r); err != nil {
			return err
		}
	}
	if err := q.validateRun(r); err != nil {
		return err
	}
	_, _, err := q.pin(ctx, *r)
	return err
}

// Get returns one schedule, or ErrNoSchedule.
func (s *Schedules) Get(ctx context.Context, owner fleet.AgentName, name string) (Schedule, error) {
	return s.store.Schedule(ctx, owner, name)
}

// List gives all schedules, by owner and name.
func (s *Schedules) List(ctx context.Context) ([]Schedule, error) { return s.store.Schedules(ctx) }

// Delete removes a schedule of the hub's; what it led to stays.
func (s *Schedules) Delete(ctx context.Context, name string) error {
	return s.store.DeleteSchedule(ctx, "", name)
}

// Runs lists the runs of a schedule, newest first.
func (s *Schedules) Runs(ctx context.Context, owner fleet.AgentName, name string) ([]Run, error) {
	if _, err := s.store.Schedule(ctx, owner, name); err != nil {
		return nil, err
	}
	return s.store.Runs(ctx, owner, name, RunsKept)
}

// Run fires schedules until ctx is done.
func (s *Schedules) Run(ctx context.Context) error {
	for {
		changed := s.store.SchedulesChanged()
		wait := pollEvery
		next, err := s.step(ctx, time.Now())
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			s.log.ErrorContext(ctx, "cannot look for schedules that are due, will retry", "error", err)
		case !next.IsZero():
			wait = min(wait, max(time.Until(next), 0))
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// step fires what is due, begins the runs that wait, and says when the next
// schedule is due.
func (s *Schedules) step(ctx context.Context, now time.Time) (time.Time, error) {
	due, _, err := s.store.DueSchedules(ctx, now)
	if err != nil {
		return time.Time{}, err
	}
	for _, c := range due {
		next, run := c.fire(now)
		if _, err := s.store.FireSchedule(ctx, c, next, run); err != nil {
			return time.Time{}, fmt.Errorf("fire schedule %s: %w", c.id(), err)
		}
	}
	runs, err := s.store.ClaimRuns(ctx, now, now.Add(runFor))
	if err != nil {
		return time.Time{}, err
	}
	for _, r := range runs {
		r = s.begin(ctx, r)
		if err := s.store.EndRun(context.WithoutCancel(ctx), r, now.Add(runAgain)); err != nil {
			return time.Time{}, fmt.Errorf("end a run of schedule %s: %w", r.Schedule, err)
		}
	}
	_, next, err := s.store.DueSchedules(ctx, now)
	return next, err
}

// fire is what becomes of a schedule that is due: its next time, and the run.
func (s Schedule) fire(now time.Time) (next time.Time, r Run) {
	r = Run{Owner: s.Owner, Schedule: s.Name, At: s.Next, State: RunDue, Begun: now.UTC().Truncate(time.Microsecond)}
	times, err := s.times()
	if err != nil { // a newer version's, or a zone that is no more
		r.State, r.Reason = RunError, err.Error()
		return time.Time{}, r
	}
	for next = times.after(r.At); !next.IsZero() && !next.After(now); next = times.after(r.At) {
		r.At = next
		if r.Missed++; r.Missed == manyMissed {
			r.At = now.Truncate(time.Minute).UTC()
			next = times.after(now)
			break
		}
	}
	if now.Sub(r.At) > late && s.Missed == Skip {
		r.State, r.Reason = RunSkipped, "no hub was up at its time"
	}
	return next, r
}

// begin asks for what a run is of. A run that is begun again has the same key,
// so it leads to one scan.
func (s *Schedules) begin(ctx context.Context, r Run) Run {
	c, err := s.store.Schedule(ctx, r.Owner, r.Schedule)
	if err == nil && c.Owner == "" {
		err = s.permit(ctx, c)
	}
	if err == nil {
		err = s.ask(ctx, c, &r)
	}
	var bad *InvalidError
	switch {
	case err == nil:
		r.State, r.Reason = RunStarted, ""
		s.log.InfoContext(ctx, "schedule ran", "schedule", c.id(), "at", r.At, "scan", r.Scan, "batch", r.Batch, "missed", r.Missed)
	case errors.As(err, &bad), errors.Is(err, ErrNoSchedule):
		r.State, r.Reason = RunError, err.Error()
		s.log.WarnContext(ctx, "schedule couldn't run", "schedule", c.id(), "at", r.At, "reason", err)
	default:
		r.Reason = "is tried again: the hub couldn't ask for its scans; its log says why"
		s.log.ErrorContext(ctx, "schedule couldn't run, will retry", "schedule", c.id(), "at", r.At, "error", err)
	}
	return r
}

// permit pauses a schedule whose maker may not make it any more, and says so by
// an *InvalidError.
func (s *Schedules) permit(ctx context.Context, c Schedule) error {
	refused, err := s.judge(ctx, c)
	if err != nil || refused == "" {
		return err
	}
	refused = "paused, until somebody saves it who may: " + refused
	if err := s.store.PauseSchedule(ctx, c, refused); err != nil {
		return err
	}
	return invalid("createdBy", "%s", refused)
}

func (s *Schedules) ask(ctx context.Context, c Schedule, r *Run) error {
	q := c.Request
	at := r.At.UTC().Format(time.RFC3339)
	q.Key = Key{Caller: "schedules", Name: c.id() + " " + at, Digest: at}
	q.Spread = Spread{Over: c.Jitter, Seed: c.id()}
	q.Standing = q.Standing || c.Owner != ""
	if c.Selector == nil {
		made, err := s.queue.Create(ctx, q)
		r.Scan = made.ID
		return err
	}
	made, err := s.queue.CreateBatch(ctx, BatchRequest{Request: q, Agents: c.Agents, Selector: *c.Selector})
	r.Batch = made.ID
	return err
}

// Spread has each agent's scans begin at a moment of its own, within Over. The
// moments are the same for the same Seed.
type Spread struct {
	Over time.Duration
	Seed string
}

// of is when an agent begins, after the request.
func (s Spread) of(agent fleet.AgentName) time.Duration {
	if s.Over < time.Microsecond {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(s.Seed + "\n" + string(agent)))
	// FNV's low bits are the best mixed.
	return time.Duration(h.Sum64() % uint64(s.Over.Microseconds()) * uint64(time.Microsecond))
}
