package event

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// Scanner asks for scans.
type Scanner interface {
	// Content names what a scan by that profile and threshold judges, as they
	// are now; it changes when they do. A *RefusedError says that there are
	// none of these names.
	Content(ctx context.Context, profile, threshold string) (string, error)
	// Scan asks for a scan and returns its id; for a key that it has seen
	// within a day that is the scan that there is. A *RefusedError says that
	// it can't be asked for.
	Scan(ctx context.Context, r Request) (id string, err error)
}

// RefusedError is an error that no other try heals.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// The settings that hold unless a Config says otherwise.
const (
	DefaultDebounce   = time.Second
	DefaultDedupeFor  = 24 * time.Hour
	DefaultMaxPending = 100_000
	DefaultKeepFor    = 7 * 24 * time.Hour
	// MaxKept is how many settled events are kept at most, and MaxKeptBytes how many
	// bytes of them.
	MaxKept      = 200_000
	MaxKeptBytes = 1 << 30
	// sweepBytes is after how many bytes that came it is swept anew.
	sweepBytes = MaxKeptBytes / 8

	// maxWaiting is how many events, and maxWaitingBytes how many bytes of
	// them, may wait in memory to be written.
	maxWaiting      = 20_000
	maxWaitingBytes = 64 << 20
	writeTime       = 20 * time.Second

	claimFor  = time.Minute
	claimSize = 200
	// holds is how many times Debounce an event waits for later ones at most.
	holds      = 10
	retryAfter = 10 * time.Second
	// pollEvery is how often a replica looks for what another one left.
	pollEvery  = 15 * time.Second
	sweepEvery = time.Hour
)

// Config is what a Service works with. Debounce, DedupeFor, MaxPending and
// KeepFor are as configured, so zero is zero.
type Config struct {
	Store   Store
	Scanner Scanner
	// Routes are the hub's.
	Routes     []Route
	Debounce   time.Duration
	DedupeFor  time.Duration
	MaxPending int
	KeepFor    time.Duration
	Logger     *slog.Logger
}

// Service takes events and acts on them. Its methods may be called
// concurrently, and by several hubs on one store.
type Service struct {
	cfg Config

	mu      sync.Mutex
	waiting []*write        // guarded by mu, as are the next four
	held    load            // in waiting, and in what is being written
	of      map[string]load // the same by sender
	writing bool
	came    int64 // bytes since the last sweep
}

// load is an amount of events.
type load struct{ events, bytes int }

func (l load) plus(o load) load { return load{l.events + o.events, l.bytes + o.bytes} }

func (l load) minus(o load) load { return load{l.events - o.events, l.bytes - o.bytes} }

// fits reports whether it is at most Share times the room that is left beside all.
func (l load) fits(all load) bool {
	return l.events <= Share*(maxWaiting-all.events) && l.bytes <= Share*(maxWaitingBytes-all.bytes)
}

// write is one call of Accept.
type write struct {
	by     string
	events []Event
	size   load
	added  Added
	err    error
	done   chan struct{}
}

// New returns a service on cfg's store.
func New(cfg Config) *Service { return &Service{cfg: cfg, of: map[string]load{}} }

// Accept keeps events that Decode or FromRegistry gave, as sent by by, and
// answers once that is durable which of them are new. Those that come together
// are written together. It is ErrFull where too many wait.
func (s *Service) Accept(ctx context.Context, by string, events []Event) (added []bool, err error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	w := &write{by: by, events: events, size: load{events: len(events)}, done: make(chan struct{})}
	for i := range events {
		e := &events[i]
		e.ID, e.By, e.Received, e.Since, e.Due = newID(), by, now, now, now.Add(s.cfg.Debounce)
		w.size.bytes += len(e.Body)
	}
	s.mu.Lock()
	all, mine := s.held.plus(w.size), s.of[by].plus(w.size)
	if !mine.fits(all) {
		s.mu.Unlock()
		return nil, ErrFull
	}
	s.waiting, s.held, s.of[by] = append(s.waiting, w), all, mine
	s.came += int64(w.size.bytes)
	if !s.writing {
		s.writing = true
		go s.write()
	}
	s.mu.Unlock()
	select {
	case <-w.done:
		if w.err == nil && w.added.Full {
			w.err = ErrFull
		}
		return w.added.New, w.err
	case <-ctx.Done():
		return nil, context.Cause(ctx) // it may be kept all the same
	}
}

// write writes what waits, until nothing does. It outlives the calls that
// wait for it, since it is for several.
func (s *Service) write() {
	for {
		s.mu.Lock()
		writes := s.waiting
		s.waiting = nil
		s.writing = len(writes) > 0
		s.mu.Unlock()
		if len(writes) == 0 {
			return
		}
		calls := make([][]Event, len(writes))
		for i, w := range writes {
			calls[i] = w.events
		}
		ctx, cancel := context.WithTimeout(context.Background(), writeTime)
		added, err := s.cfg.Store.AddEvents(ctx, calls, s.cfg.MaxPending)
		cancel()
		s.mu.Lock()
		for _, w := range writes {
			s.held = s.held.minus(w.size)
			if s.of[w.by] = s.of[w.by].minus(w.size); s.of[w.by] == (load{}) {
				delete(s.of, w.by)
			}
		}
		s.mu.Unlock()
		for i, w := range writes {
			if w.err = err; err == nil {
				w.added = added[i]
			}
			close(w.done)
		}
	}
}

// sweepDue reports whether it is time to sweep, and takes note that it is done.
func (s *Service) sweepDue(last time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(last) <= sweepEvery && s.came < sweepBytes {
		return false
	}
	s.came = 0
	return true
}

// SetRoutes replaces an agent's own routes. They match its own containers
// only, and come before nobody else's scans. It names those that it doesn't take; the others are taken.
func (s *Service) SetRoutes(ctx context.Context, agent string, routes []Route) (refused map[string]error, err error) {
	refused = map[string]error{}
	taken := routes[:0:0]
	for _, r := range routes {
		r.Agent, r.Scan.Agent = agent, agent
		err := r.Validate()
		if err == nil && r.Scan.Priority == "high" {
			err = errors.New("scan.priority: high is for the hub's operators")
		}
		if err != nil {
			refused[r.Name] = err
			continue
		}
		taken = append(taken, r)
	}
	if err := s.cfg.Store.SetEventRoutes(ctx, agent, taken); err != nil {
		return nil, fmt.Errorf("routes of agent %s: %w", agent, err)
	}
	return refused, nil
}

// Routes are all that hold, the hub's first.
func (s *Service) Routes(ctx context.Context) ([]Route, error) {
	theirs, err := s.cfg.Store.EventRoutes(ctx)
	if err != nil {
		return nil, fmt.Errorf("routes: %w", err)
	}
	return append(slices.Clone(s.cfg.Routes), theirs...), nil
}

// Event returns one event, or ErrNotFound.
func (s *Service) Event(ctx context.Context, id ID) (Event, error) { return s.cfg.Store.Event(ctx, id) }

// Events lists events.
func (s *Service) Events(ctx context.Context, f Filter) ([]Event, error) {
	return s.cfg.Store.Events(ctx, f)
}

// Run acts on events that are due, until ctx is done.
func (s *Service) Run(ctx context.Context) error {
	var swept time.Time
	for {
		due := s.cfg.Store.EventsDue()
		if s.sweepDue(swept) {
			swept = time.Now()
			if _, err := s.cfg.Store.SweepEvents(ctx, swept.Add(-s.cfg.KeepFor), MaxKept, MaxKeptBytes); err != nil && ctx.Err() == nil {
				s.cfg.Logger.WarnContext(ctx, "sweep events, will retry", "error", err)
			}
		}
		wait := pollEvery
		more, next, err := s.step(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			s.cfg.Logger.ErrorContext(ctx, "cannot act on events, will retry", "error", err)
			due, wait = nil, retryAfter
		case more:
			continue
		case !next.IsZero():
			wait = min(wait, max(time.Until(next), time.Millisecond))
		}
		timer := time.NewTimer(wait)
		select {
		case <-due:
			// They are due a while after they came, at the earliest.
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// step acts on some of the events that are due.
func (s *Service) step(ctx context.Context) (more bool, next time.Time, err error) {
	now := time.Now()
	claimed, err := s.cfg.Store.ClaimEvents(ctx, now, now.Add(claimFor), claimSize)
	if err != nil || len(claimed.Events) == 0 {
		return false, claimed.NextAt, err
	}
	routes, err := s.Routes(ctx)
	if err != nil {
		return false, claimed.NextAt, err
	}
	r := &round{s: s, routes: routes, now: now, made: map[string]string{}, contents: map[string]string{}}
	done := make([]Settlement, 0, len(claimed.Events))
	for i := range claimed.Events {
		if ctx.Err() != nil {
			break
		}
		done = append(done, r.act(ctx, &claimed.Events[i]))
	}
	// What was asked for is recorded even if the hub is to stop.
	err = s.cfg.Store.SettleEvents(context.WithoutCancel(ctx), time.Now(), done)
	return len(claimed.Events) == claimSize, claimed.NextAt, err
}

// round is what is known while some events are acted on.
type round struct {
	s        *Service
	routes   []Route
	now      time.Time
	made     map[string]string // scans that aren't settled yet, by content
	contents map[string]string // by profile and threshold
}

// act says how e ends.
func (r *round) act(ctx context.Context, e *Event) Settlement {
	done := Settlement{ID: e.ID, Scans: map[string]string{}}
	if e.Later != "" && r.now.Before(e.Since.Add(holds*r.s.cfg.Debounce)) {
		done.State, done.Later, done.Since = Superseded, e.Later, e.Since
		done.Reason = "event " + string(e.Later) + " is later and about the same"
		return done
	}
	for _, route := range r.routes {
		if !route.matches(e) {
			continue
		}
		requests, err := route.requests(e)
		if err != nil {
			done.Decisions = append(done.Decisions, Decision{Route: route.Name, State: Failed, Reason: err.Error()})
		}
		for _, q := range requests {
			d, err := r.decide(ctx, e, route, q, done.Scans)
			var refused *RefusedError
			switch {
			case errors.As(err, &refused):
				d.State, d.Reason = Failed, refused.Reason
			case err != nil:
				r.s.cfg.Logger.WarnContext(ctx, "cannot act on an event, will retry", "event", e.ID, "route", route.Name, "error", err)
				return Settlement{ID: e.ID, State: Pending, Reason: "is tried again: the hub couldn't ask for its scan; its log says why", RetryAt: time.Now().Add(retryAfter)}
			}
			done.Decisions = append(done.Decisions, d)
		}
	}
	done.State, done.Reason = sum(done.Decisions)
	r.s.cfg.Logger.DebugContext(ctx, "event", "event", e.ID, "type", e.Type, "state", done.State, "reason", done.Reason)
	return done
}

// sum is the state that decisions come to.
func sum(list []Decision) (State, string) {
	if len(list) == 0 {
		return Unrouted, "no route matches its type, source, agent, namespace, image and labels"
	}
	for _, state := range []State{Scanned, Failed, Duplicate} {
		var reasons []string
		for _, d := range list {
			if d.State == state && d.Reason != "" {
				reasons = append(reasons, "route "+d.Route+": "+d.Reason)
			}
		}
		if slices.ContainsFunc(list, func(d Decision) bool { return d.State == state }) {
			return state, strings.Join(reasons, "; ")
		}
	}
	return Failed, ""
}

// decide asks for a scan of a route, unless there is one of its content.
func (r *round) decide(ctx context.Context, e *Event, route Route, q Request, made map[string]string) (d Decision, err error) {
	d.Route = route.Name
	q.Key = hash(string(e.ID), route.Agent, route.Name)
	if q.Scan.Profile != route.Scan.Profile {
		q.Key = hash(q.Key, q.Scan.Profile)
	}
	content := ""
	if e.Type != ScanScheduled && e.Data.ImageDigest != "" {
		judged, err := r.content(ctx, q.Scan.Profile, q.Scan.Threshold)
		if err != nil {
			return d, err
		}
		how, err := json.Marshal([]any{q.Scan.Inputs, q.Scan.SBOM, q.Scan.Actions, q.Standing, route.Agent})
		if err != nil {
			return d, &RefusedError{Reason: "inputs: " + err.Error()}
		}
		content = hash(q.Agent, q.Namespace, e.about(), e.Data.ImageDigest, judged, string(how))
		valid, latest := true, r.made[content]
		if latest == "" {
			if valid, latest, err = r.s.cfg.Store.LastEventScan(ctx, content, r.now.Add(-r.s.cfg.DedupeFor)); err != nil {
				return d, err
			}
		}
		if valid {
			d.State, d.Scan = Duplicate, latest
			d.Reason = "image and profile are those of scan " + latest
			return d, nil
		}
		q.Key = hash(content, latest)
	}
	if d.Scan, err = r.s.cfg.Scanner.Scan(ctx, q); err != nil {
		return d, err
	}
	d.State = Scanned
	if content != "" {
		r.made[content], made[content] = d.Scan, d.Scan
	}
	return d, nil
}

func (r *round) content(ctx context.Context, profile, threshold string) (string, error) {
	key := profile + "\n" + threshold
	if c, ok := r.contents[key]; ok {
		return c, nil
	}
	c, err := r.s.cfg.Scanner.Content(ctx, profile, threshold)
	if err == nil {
		r.contents[key] = c
	}
	return c, err
}

func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:16])
}
