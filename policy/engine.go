package policy

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"time"

	"reeve.dev/reeve/fleet"
)

// Mark says that something is known anew of a place.
type Mark struct {
	Place
	// Stamp tells this mark from later ones.
	Stamp int64
}

// Store keeps what an Engine works with.
type Store interface {
	Recorder
	// TakeDuty reports whether holder does until then what one hub does at a time.
	TakeDuty(ctx context.Context, name, holder string, now, until time.Time) (bool, error)
	// StandingPolicies are those of a source that subjects stand by.
	StandingPolicies(ctx context.Context, source string) ([]string, error)
	// LastRuns is the latest run of each policy of a source, of those that were
	// whole if there are any.
	LastRuns(ctx context.Context, source string) (map[string]Run, error)
	// PolicyMarks are the places to evaluate anew, and ClearPolicyMarks forgets
	// those that weren't marked again.
	PolicyMarks(ctx context.Context) ([]Mark, error)
	ClearPolicyMarks(ctx context.Context, marks []Mark) error
	// PoliciesMarked returns a channel that is closed at the next mark.
	PoliciesMarked() <-chan struct{}
	// PolicyLayers are those of all namespaces; of one namespace a later one goes
	// before.
	PolicyLayers(ctx context.Context) ([]Layer, error)
}

// Config is what an Engine works with.
type Config struct {
	// Policies are valid ones.
	Policies []Policy
	Sinks    Sinks
	Store    Store
	Evidence Evidence
	// Holder names this hub among those on the same database.
	Holder string
	Logger *slog.Logger
}

const (
	// tickEvery is how often it is looked whether something is due.
	tickEvery = 20 * time.Second
	// gather is how long more is waited for once something is known anew.
	gather = 2 * time.Second
	// dutyFor is how long a hub that is gone keeps others from its work.
	dutyFor = time.Minute
	duty    = "policies"
	// settle is how long the whole fleet isn't evaluated again because of what is
	// known of vulnerabilities, which comes in many parts.
	settle = time.Minute
	// recorded is how many results one transaction has.
	recorded = 1000
	// retryMost is the longest wait for a database that doesn't answer, and that
	// after a run that was cut short.
	retryMost = time.Minute
	// What is known of one agent and can't be read is tried again after unreadFirst,
	// then twice as long each time, up to unreadMost.
	unreadFirst = time.Minute
	unreadMost  = time.Hour
)

// Engine evaluates policies: all subjects at times, those of a place when
// something new is known of it, and what a scan was of when it ends. Of several
// hubs on one database one does it, but for scans.
type Engine struct {
	cfg Config
	set *Set

	mu     sync.Mutex
	layers layers  // guarded by mu
	faults []Fault // guarded by mu
	duty   time.Time
	// tidied says that what the configuration has left out is over.
	tidied bool
	// unread is of what agents nothing could be read, and gaps are the runs that
	// miss some of those.
	unread map[fleet.AgentName]*unread
	gaps   []*gap
}

// unread is when it is tried again to read what is known of an agent.
type unread struct {
	err  error
	wait time.Duration
	next time.Time
}

// gap is what whole runs miss.
type gap struct {
	runs   []*evaluation
	need   Need
	agents []fleet.AgentName
}

// New makes an engine.
func New(cfg Config) *Engine {
	return &Engine{cfg: cfg, set: NewSet(cfg.Policies, cfg.Sinks), unread: map[fleet.AgentName]*unread{}}
}

// Policies are those that there are, with what they leave out.
func (e *Engine) Policies() []Policy { return e.set.all }

// Check tells what is wrong with a namespace's layer.
func (e *Engine) Check(l Layer) []Fault { return e.set.Check(l) }

// Faults are those of all layers, as they were a moment ago.
func (e *Engine) Faults() []Fault {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.faults
}

// Run evaluates policies until ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	defer e.leaveDuty(ctx)
	for wait := gather; ; {
		marked := e.cfg.Store.PoliciesMarked()
		err := e.step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			wait = min(2*wait, retryMost)
			e.cfg.Logger.WarnContext(ctx, "policies couldn't be evaluated, will retry", "error", err, "wait", wait)
		} else {
			wait = gather
			select {
			case <-ctx.Done():
			case <-marked:
			case <-time.After(tickEvery):
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// step does what is due.
func (e *Engine) step(ctx context.Context) error {
	if err := e.readLayers(ctx); err != nil {
		return err
	}
	if len(e.set.all) == 0 && e.tidied {
		return nil
	}
	had := time.Now().Before(e.duty)
	if mine, err := e.keepDuty(ctx); err != nil || !mine {
		return err
	}
	if !had {
		e.gaps = nil
		if err := e.cfg.Store.AbandonPolicyRuns(ctx, Fleet, "", "the hub that made it ended, or was too slow", time.Now()); err != nil {
			return err
		}
	}
	if !had || !e.tidied {
		if err := e.tidy(ctx); err != nil {
			return err
		}
		e.tidied = true
	}
	if len(e.set.all) == 0 {
		return nil
	}
	// The marks are read first: what is known by now the whole runs will see.
	marks, err := e.cfg.Store.PolicyMarks(ctx)
	if err != nil {
		return err
	}
	last, err := e.cfg.Store.LastRuns(ctx, Fleet)
	if err != nil {
		return err
	}
	everywhere := slices.ContainsFunc(marks, func(m Mark) bool { return m.Place == Place{} })
	if everywhere && slices.ContainsFunc(e.set.all, func(p Policy) bool { return p.Check.Problem != nil && time.Since(last[p.Name].Ended) < settle }) {
		everywhere = false
		marks = slices.DeleteFunc(marks, func(m Mark) bool { return m.Place == Place{} })
	}
	var whole []Policy
	cause := map[string]string{}
	for _, p := range e.set.all {
		switch r, ran := last[p.Name]; {
		case p.Check.ofScans():
			continue
		case !ran || !r.Whole || r.Config != digest(p):
			cause[p.Name] = "configuration"
		case r.State == Truncated && time.Since(r.Ended) >= retryMost && !e.missed(r.ID):
			cause[p.Name] = "retry"
		case time.Since(r.Began) >= p.Every:
			cause[p.Name] = "clock"
		case everywhere && p.Check.Problem != nil:
			cause[p.Name] = "vulnerabilities"
		default:
			continue
		}
		whole = append(whole, p)
	}
	if err := e.evaluateAll(ctx, whole, cause); err != nil {
		return err
	}
	if err := e.fillGaps(ctx); err != nil {
		return err
	}
	if err := e.evaluateMarked(ctx, slices.DeleteFunc(slices.Clone(marks), func(m Mark) bool { return !e.readable(m.Agent) }), cause); err != nil {
		return err
	}
	// The marks of what couldn't be read stay.
	marks = slices.DeleteFunc(marks, func(m Mark) bool { return e.unread[m.Agent] != nil })
	return e.cfg.Store.ClearPolicyMarks(ctx, marks)
}

// missed reports whether a run misses only what is tried again.
func (e *Engine) missed(id RunID) bool {
	return slices.ContainsFunc(e.gaps, func(g *gap) bool {
		return slices.ContainsFunc(g.runs, func(v *evaluation) bool { return v.run == id })
	})
}

// readable reports whether it is time to read what is known of an agent.
func (e *Engine) readable(a fleet.AgentName) bool {
	u := e.unread[a]
	return u == nil || !time.Now().Before(u.next)
}

// fillGaps has runs made whole by what they miss, as far as that can be read
// now.
func (e *Engine) fillGaps(ctx context.Context) error {
	var left []*gap
	for i, g := range e.gaps {
		if !slices.ContainsFunc(g.agents, e.readable) {
			left = append(left, g)
			continue
		}
		var runs []*evaluation
		for _, v := range g.runs {
			switch err := e.cfg.Store.ReopenPolicyRun(ctx, v.run); {
			case err == nil:
				runs = append(runs, v)
			case !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrRunOver):
				e.gaps = append(left, e.gaps[i:]...)
				return err
			}
		}
		missing, err := e.evaluateAgents(ctx, g.agents, g.need, runs)
		if err != nil {
			e.gaps = append(left, e.gaps[i+1:]...)
			return err
		}
		if len(missing) > 0 && len(runs) > 0 {
			left = append(left, &gap{runs, g.need, missing})
		}
	}
	e.gaps = left
	return nil
}

// keepDuty takes the duty, or has it for longer.
func (e *Engine) keepDuty(ctx context.Context) (bool, error) {
	now := time.Now()
	if e.duty.Sub(now) > dutyFor/2 {
		return true, nil
	}
	mine, err := e.cfg.Store.TakeDuty(ctx, duty, e.cfg.Holder, now, now.Add(dutyFor))
	if err != nil || !mine {
		e.duty = time.Time{}
		return false, err
	}
	e.duty = now.Add(dutyFor)
	return true, nil
}

// leaveDuty lets another hub have the duty at once.
func (e *Engine) leaveDuty(ctx context.Context) {
	if now := time.Now(); now.Before(e.duty) {
		if _, err := e.cfg.Store.TakeDuty(context.WithoutCancel(ctx), duty, e.cfg.Holder, now, now); err != nil {
			e.cfg.Logger.WarnContext(ctx, "another hub evaluates policies only in a while", "error", err, "until", e.duty)
		}
	}
}

// tidy ends what the configuration has left out: the subjects of policies that
// there aren't any more, and those of checks of scans, which no run is about.
func (e *Engine) tidy(ctx context.Context) error {
	standing, err := e.cfg.Store.StandingPolicies(ctx, Fleet)
	if err != nil {
		return err
	}
	var over []string
	for _, name := range standing {
		if p, known := e.set.byName[name]; !known || p.Check.ofScans() {
			over = append(over, name)
		}
	}
	if len(over) == 0 {
		return nil
	}
	v, err := e.begin(ctx, Run{Cause: "configuration"}, nil)
	if err != nil {
		return err
	}
	places := e.places()
	for _, name := range over {
		if err == nil {
			err = e.end(ctx, v, Query{Policy: name}, places, nil)
		}
	}
	return e.finish(ctx, []*evaluation{v}, err, err)
}

// end ends the subjects of the query that aren't there, of which the policy isn't,
// or that it isn't about any more. there are those that there are; nil where that
// isn't known.
func (e *Engine) end(ctx context.Context, v *evaluation, of Query, places *places, there map[fleet.Subject]bool) error {
	why := func(r SubjectRecord) string {
		p, known := e.set.byName[r.Policy]
		if !known {
			return "there is no such policy any more"
		}
		l := places.at(p, Place{r.Agent, r.Namespace})
		switch {
		case !l.checked:
			return "the policy isn't checked in namespace " + r.Namespace + " of " + string(r.Agent)
		case p.Check.ofScans():
			if !l.Subjects.Has(r.Agent, r.Namespace) {
				return "the policy isn't about it any more"
			}
			return ""
		case there[r.Subject]:
			return "the policy isn't about it any more"
		}
		return "it isn't there any more"
	}
	return e.insist(ctx, func() error {
		ended, err := e.cfg.Store.EndSubjects(ctx, v.run, of, why, time.Now())
		for _, o := range ended {
			if p, known := e.set.byName[o.Policy]; known && err == nil && e.set.logs(p.Actions) {
				e.cfg.Logger.InfoContext(ctx, "policy isn't checked any more", "policy", o.Policy, "owner", o.Subject.Owner, "repo", o.Subject.Repo,
					"reason", o.Details, "run", v.run)
			}
		}
		return err
	})
}

// readLayers reads what namespaces say of themselves, and logs what is newly
// wrong with that.
func (e *Engine) readLayers(ctx context.Context) error {
	list, err := e.cfg.Store.PolicyLayers(ctx)
	if err != nil {
		return err
	}
	var faults []Fault
	for _, l := range list {
		faults = append(faults, e.set.Check(l)...)
	}
	read := readLayers(list)
	e.mu.Lock()
	before := e.faults
	e.tidied = e.tidied && reflect.DeepEqual(e.layers, read)
	e.layers, e.faults = read, faults
	e.mu.Unlock()
	for _, f := range faults {
		if !slices.Contains(before, f) {
			e.cfg.Logger.WarnContext(ctx, "an override isn't applied", "agent", f.Agent, "namespace", f.Namespace, "policy", f.Policy, "reason", f.Reason)
		}
	}
	return nil
}

// digest is of all that an operator can change of a policy.
func digest(p Policy) string {
	sum := sha256.Sum256([]byte(p.Definition()))
	return hex.EncodeToString(sum[:8])
}

// places holds what policies are where, while one evaluation lasts.
type places struct {
	set    *Set
	layers layers
	known  map[placed]local
}

type placed struct {
	Place
	policy string
}

// local is a policy as it holds at a place.
type local struct {
	Policy
	checked bool
	sinks   []string
	logged  bool
}

func (e *Engine) places() *places {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &places{set: e.set, layers: e.layers, known: map[placed]local{}}
}

func (pl *places) at(p Policy, at Place) local {
	key := placed{at, p.Name}
	l, known := pl.known[key]
	if !known {
		l.Policy, l.checked = pl.set.at(p, at, pl.layers[at])
		l.sinks = pl.set.sinks.Names(l.Actions)
		l.logged = pl.set.logs(l.Actions)
		pl.known[key] = l
	}
	return l
}

// logs reports whether one of actions is the hub's own log.
func (s *Set) logs(actions []Action) bool {
	return slices.ContainsFunc(actions, func(a Action) bool {
		sink, err := s.sinks.Resolve(a)
		return err == nil && sink == ""
	})
}

// evaluation is a run under way.
type evaluation struct {
	run      RunID
	policies []Policy
	expected int
}

// begin begins a run of policies.
func (e *Engine) begin(ctx context.Context, r Run, policies []Policy) (*evaluation, error) {
	r.ID, r.Source, r.Holder, r.Began = NewRunID(), Fleet, e.cfg.Holder, time.Now()
	return &evaluation{run: r.ID, policies: policies}, e.cfg.Store.BeginPolicyRun(ctx, r)
}

// evaluateAll makes a whole run of each policy.
func (e *Engine) evaluateAll(ctx context.Context, policies []Policy, cause map[string]string) error {
	if len(policies) == 0 {
		return nil
	}
	var runs []*evaluation
	var need Need
	for _, p := range policies {
		v, err := e.begin(ctx, Run{Policy: p.Name, Whole: true, Cause: cause[p.Name], Config: digest(p)}, []Policy{p})
		if err != nil {
			return err
		}
		runs, need = append(runs, v), need.and(p.Check.needs())
		// What an earlier run misses this one finds, or misses itself.
		for _, g := range e.gaps {
			g.runs = slices.DeleteFunc(g.runs, func(v *evaluation) bool { return v.policies[0].Name == p.Name })
		}
	}
	e.gaps = slices.DeleteFunc(e.gaps, func(g *gap) bool { return len(g.runs) == 0 })
	agents, err := e.cfg.Evidence.Agents(ctx)
	if err != nil {
		return e.finish(ctx, runs, err, err)
	}
	missing, err := e.evaluateAgents(ctx, agents, need, runs)
	if err == nil && len(missing) > 0 {
		e.gaps = append(e.gaps, &gap{runs, need, missing})
	}
	return err
}

// evaluateAgents evaluates all of some agents, and ends the runs. It answers of
// which agents it couldn't read what is known.
func (e *Engine) evaluateAgents(ctx context.Context, agents []fleet.AgentName, need Need, runs []*evaluation) ([]fleet.AgentName, error) {
	var each []Place
	for _, a := range agents {
		each = append(each, Place{Agent: a})
	}
	missing, why, err := e.evaluateEach(ctx, each, need, e.places(), runs)
	return missing, e.finish(ctx, runs, cmp.Or(err, why), err)
}

// evaluateMarked makes one run of policies at the places of marks: of all but
// those that were evaluated everywhere since the marks were read.
func (e *Engine) evaluateMarked(ctx context.Context, marks []Mark, everywhere map[string]string) error {
	var need Need
	var policies []Policy
	for _, p := range e.set.all {
		if _, done := everywhere[p.Name]; !done && !p.Check.ofScans() {
			policies, need = append(policies, p), need.and(p.Check.needs())
		}
	}
	agents := map[fleet.AgentName]bool{} // that are evaluated as a whole
	for _, m := range marks {
		agents[m.Agent] = agents[m.Agent] || m.Namespace == ""
	}
	marks = slices.DeleteFunc(slices.Clone(marks), func(m Mark) bool { return m.Agent == "" || m.Namespace != "" && agents[m.Agent] })
	if len(marks) == 0 || len(policies) == 0 {
		return nil
	}
	v, err := e.begin(ctx, Run{Cause: "insight"}, policies)
	if err != nil {
		return err
	}
	runs := []*evaluation{v}
	var each []Place
	for _, m := range marks {
		each = append(each, m.Place)
	}
	_, why, err := e.evaluateEach(ctx, each, need, e.places(), runs)
	return e.finish(ctx, runs, cmp.Or(err, why), err)
}

// evaluateEach evaluates places. What can't be read of an agent, or couldn't a
// while ago, doesn't keep the others from it: missing are those agents, and why
// says what is wrong. With err it is over.
func (e *Engine) evaluateEach(ctx context.Context, each []Place, need Need, places *places, runs []*evaluation) (missing []fleet.AgentName, why, err error) {
	var errs []error
	for _, p := range each {
		if slices.Contains(missing, p.Agent) {
			continue
		}
		if u := e.unread[p.Agent]; !e.readable(p.Agent) {
			missing, errs = append(missing, p.Agent), append(errs, u.err)
			continue
		}
		if mine, err := e.keepDuty(ctx); err != nil {
			return nil, nil, err
		} else if !mine {
			return nil, nil, ErrRunOver
		}
		subjects, err := e.subjects(ctx, p, need)
		if ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if err != nil {
			missing, errs = append(missing, p.Agent), append(errs, err)
			u := e.unread[p.Agent]
			if u == nil {
				u = &unread{wait: unreadFirst / 2}
				e.unread[p.Agent] = u
			}
			u.err, u.wait = err, min(2*u.wait, unreadMost)
			u.next = time.Now().Add(u.wait)
			e.cfg.Logger.WarnContext(ctx, "policies aren't evaluated for an agent, will retry", "agent", p.Agent, "error", err, "wait", u.wait)
			continue
		}
		delete(e.unread, p.Agent)
		if err := e.evaluate(ctx, p, subjects, places, runs); err != nil {
			return nil, nil, err
		}
	}
	return missing, errors.Join(errs...), nil
}

// subjects are those of a place.
func (e *Engine) subjects(ctx context.Context, at Place, need Need) ([]Subject, error) {
	subjects, err := e.cfg.Evidence.Subjects(ctx, at, need)
	if err != nil {
		return nil, fmt.Errorf("what is known of %s: %w", at.Agent, err)
	}
	return subjects, nil
}

// finish ends runs, cut short if there is a reason why. It adds to err.
func (e *Engine) finish(ctx context.Context, runs []*evaluation, why, err error) error {
	reason := ""
	if why != nil {
		reason = why.Error()
	}
	for _, v := range runs {
		end := func() error {
			return e.cfg.Store.EndPolicyRun(context.WithoutCancel(ctx), v.run, reason, time.Now())
		}
		// Also when the hub is stopped the run says that it is over.
		ended := end()
		if ended != nil && ctx.Err() == nil {
			ended = e.insist(ctx, end)
		}
		if ended != nil {
			err = errors.Join(err, ended)
		}
	}
	return err
}

// evaluate judges the subjects of a place and records that in runs.
func (e *Engine) evaluate(ctx context.Context, at Place, subjects []Subject, places *places, runs []*evaluation) error {
	// Of two that are called the same, such as a service that has the name of
	// another thing, outcomes are about the first.
	named := make(map[fleet.Subject]bool, len(subjects))
	subjects = slices.DeleteFunc(subjects, func(s Subject) bool {
		name := s.Subject()
		there := named[name]
		named[name] = true
		return there
	})
	now := time.Now()
	for _, v := range runs {
		var results []fleet.Result
		var logged []bool
		for i := range subjects {
			s := &subjects[i]
			for _, p := range v.policies {
				l := places.at(p, Place{s.Agent, s.Namespace})
				if !l.checked {
					continue
				}
				if r, is := l.result(s, l.sinks, now); is {
					results, logged = append(results, r), append(logged, l.logged)
				}
			}
		}
		if err := e.record(ctx, v, results, logged); err != nil {
			return err
		}
		for _, p := range v.policies {
			if err := e.end(ctx, v, Query{Policy: p.Name, Agent: at.Agent, Namespace: at.Namespace}, places, named); err != nil {
				return err
			}
		}
	}
	return nil
}

// record records results, however long the database, or a full outbox, doesn't
// take them.
func (e *Engine) record(ctx context.Context, v *evaluation, results []fleet.Result, logged []bool) error {
	if len(results) == 0 {
		return nil
	}
	v.expected += len(results)
	err := e.insist(ctx, func() error { return e.cfg.Store.ExpectResults(ctx, v.run, v.expected) })
	for i := 0; err == nil && i < len(results); i += recorded {
		part := results[i:min(i+recorded, len(results))]
		err = e.insist(ctx, func() error { return e.cfg.Store.RecordResults(ctx, v.run, part, time.Now()) })
		if err == nil {
			e.log(ctx, string(v.run), part, logged[i:])
		}
	}
	return err
}

// insist does f until it succeeds, or somebody else has taken over.
func (e *Engine) insist(ctx context.Context, f func() error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, retryMost) {
		mine, err := e.keepDuty(ctx)
		if err == nil && !mine {
			return ErrRunOver
		}
		if err == nil {
			err = f()
		}
		if err == nil || errors.Is(err, ErrRunOver) || errors.Is(err, ErrNotFound) {
			return err
		}
		e.cfg.Logger.WarnContext(ctx, "results of policies aren't recorded, will retry", "error", err, "wait", wait)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}

// log is the action log.
func (e *Engine) log(ctx context.Context, run string, results []fleet.Result, logged []bool) {
	for i, r := range results {
		if !logged[i] {
			continue
		}
		o := r.Outcome
		log := e.cfg.Logger.With("policy", o.Policy, "owner", o.Subject.Owner, "repo", o.Subject.Repo, "run", run)
		switch {
		case r.Unknown != "":
			log.WarnContext(ctx, "policy couldn't be judged", "reason", r.Unknown)
		case o.Pass:
			log.InfoContext(ctx, "policy passed")
		default:
			log.InfoContext(ctx, "policy failed", "details", o.Details)
		}
	}
}
