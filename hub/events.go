package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
	_ "time/tzdata" // schedules have time zones, and images may have none

	"reeve.dev/reeve/event"
	"reeve.dev/reeve/event/broker"
	eventlink "reeve.dev/reeve/event/link"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/scan"
)

// EventConfig says which events lead to which scans, and how many are kept.
type EventConfig struct {
	Routes []event.Route `yaml:"routes"`
	// Debounce is how long an event waits for a later one about the same.
	Debounce time.Duration `yaml:"debounce"`
	// DedupeFor is how long an image isn't scanned again by the same profile.
	DedupeFor time.Duration `yaml:"dedupeFor"`
	// MaxPending is how many events may wait to be acted on.
	MaxPending int `yaml:"maxPending"`
	// KeepFor is how long events can be seen.
	KeepFor time.Duration `yaml:"keepFor"`
	// Brokers are where events come from, besides the API and agents.
	Brokers []BrokerConfig `yaml:"brokers"`
}

func defaultEvents() EventConfig {
	return EventConfig{
		Debounce: event.DefaultDebounce, DedupeFor: event.DefaultDedupeFor,
		MaxPending: event.DefaultMaxPending, KeepFor: event.DefaultKeepFor,
	}
}

func (c EventConfig) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	names := map[string]bool{}
	for i, r := range c.Routes {
		if err := r.Validate(); err != nil {
			bad("events.routes[%d].%w", i, err)
		}
		if names[r.Name] {
			bad("events.routes[%d].name: %q is there twice", i, r.Name)
		}
		names[r.Name] = true
	}
	switch {
	case c.Debounce < 0 || c.Debounce > time.Hour:
		bad("events.debounce %v: it must be between 0 and 1h", c.Debounce)
	case c.DedupeFor < 0 || c.DedupeFor > c.KeepFor:
		bad("events.dedupeFor %v: it must be between 0 and events.keepFor, %v", c.DedupeFor, c.KeepFor)
	}
	if c.MaxPending < 1 {
		bad("events.maxPending %d: it must be at least 1", c.MaxPending)
	}
	if c.KeepFor < time.Hour {
		bad("events.keepFor %v: it must be at least 1h", c.KeepFor)
	}
	names = map[string]bool{}
	for i, b := range c.Brokers {
		if err := b.Validate(); err != nil {
			bad("events.brokers[%d].%w", i, err)
		}
		if b.Name == "" || names[b.Name] {
			bad("events.brokers[%d].name %q: each needs a name of its own", i, b.Name)
		}
		names[b.Name] = true
	}
	return errors.Join(errs...)
}

func (h *Hub) openEvents(cfg EventConfig, catalogue *scan.Catalogue) {
	h.brokers = cfg.Brokers
	h.events = event.New(event.Config{
		Store: h.store, Scanner: eventScanner{h.queue, catalogue}, Routes: cfg.Routes, Debounce: cfg.Debounce,
		DedupeFor: cfg.DedupeFor, MaxPending: cfg.MaxPending, KeepFor: cfg.KeepFor, Logger: h.log.With("component", "events"),
	})
	h.schedule = scan.NewSchedules(h.queue, h.store, h.log.With("component", "schedules"))
}

// BrokerConfig is a broker whose events are taken.
type BrokerConfig struct {
	Name          string `yaml:"name"`
	broker.Config `yaml:",inline"`
}

// takeEvents hands the events of the brokers to the service, until ctx is
// done.
func (h *Hub) takeEvents(ctx context.Context) error {
	var all sync.WaitGroup
	for _, b := range h.brokers {
		all.Go(func() { b.Run(ctx, "broker:"+b.Name, h.events, h.log.With("component", "events")) })
	}
	all.Wait()
	return nil
}

// policies takes what agents send of their own.
type policies struct {
	*event.Service
	schedules *scan.Schedules
	actions   clusterActions
}

// check says what is wrong with the actions of a policy for a namespace.
func (p policies) check(agent fleet.AgentName, namespaces []string, run event.Scan) error {
	if len(run.Actions) > maxActions {
		return fmt.Errorf("actions: there are %d; at most %d", len(run.Actions), maxActions)
	}
	for _, text := range run.Actions {
		for _, ns := range namespaces {
			if _, err := p.actions.resolve(text, scan.Target{Agent: agent, Namespace: ns}, run.Profile); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxActions is how many a policy of a cluster may have.
const maxActions = 8

// SetPolicies implements eventlink.Receiver.
func (p policies) SetPolicies(ctx context.Context, agent fleet.AgentName, own eventlink.Policies) ([]eventlink.Problem, error) {
	var problems []eventlink.Problem
	refuse := func(refused map[string]error) {
		for _, name := range slices.Sorted(maps.Keys(refused)) {
			problems = append(problems, eventlink.Problem{Name: name, Reason: refused[name].Error()})
		}
	}
	for _, r := range own.Routes {
		if err := p.check(agent, r.Match.Namespaces, r.Scan); err != nil {
			problems = append(problems, eventlink.Problem{Name: r.Name, Reason: err.Error()})
		}
	}
	for _, c := range own.Schedules {
		if err := p.check(agent, []string{c.Selector.Namespace}, c.Scan); err != nil {
			problems = append(problems, eventlink.Problem{Name: c.Name, Reason: err.Error()})
		}
	}
	bad := func(name string) bool {
		return slices.ContainsFunc(problems, func(b eventlink.Problem) bool { return b.Name == name })
	}
	own.Routes = slices.DeleteFunc(own.Routes, func(r event.Route) bool { return bad(r.Name) })
	own.Schedules = slices.DeleteFunc(own.Schedules, func(c eventlink.Schedule) bool { return bad(c.Name) })
	refused, err := p.SetRoutes(ctx, string(agent), own.Routes)
	if err != nil {
		return nil, err
	}
	refuse(refused)
	schedules := make([]scan.Schedule, len(own.Schedules))
	for i, c := range own.Schedules {
		inputs, err := exact(c.Scan.Inputs)
		if err != nil {
			return nil, err
		}
		selector := scan.Selector(c.Selector)
		schedules[i] = scan.Schedule{
			Name: c.Name, Cron: c.Cron, TimeZone: c.TimeZone, Jitter: time.Duration(c.Jitter) * time.Second, Suspended: c.Suspended,
			Selector: &selector, CreatedBy: "agent:" + string(agent),
			Request: scan.Request{
				Profile: c.Scan.Profile, Threshold: c.Scan.Threshold, Inputs: inputs, Method: scan.Method(c.Scan.Method), SBOM: c.Scan.SBOM,
				Priority: scan.Priority(c.Scan.Priority), Timeout: time.Duration(c.Scan.Timeout) * time.Second, Actions: c.Scan.Actions,
			},
		}
	}
	if refused, err = p.schedules.Set(ctx, agent, schedules); err != nil {
		return nil, err
	}
	refuse(refused)
	return problems, nil
}

// eventScanner asks the queue for what events want.
type eventScanner struct {
	queue     *scan.Queue
	catalogue *scan.Catalogue
}

// Content implements event.Scanner.
func (s eventScanner) Content(ctx context.Context, profile, threshold string) (string, error) {
	p, err := s.catalogue.Profile(ctx, profile)
	if err != nil || threshold == "" {
		return p.Digest, refused(err)
	}
	t, err := s.catalogue.Threshold(ctx, threshold)
	return p.Digest + " " + t.Digest, refused(err)
}

// Scan implements event.Scanner.
func (s eventScanner) Scan(ctx context.Context, r event.Request) (string, error) {
	inputs, err := exact(r.Scan.Inputs)
	if err != nil {
		return "", &event.RefusedError{Reason: err.Error()}
	}
	made, err := s.queue.Create(ctx, scan.Request{
		Target: scan.Target{
			Agent: fleet.AgentName(r.Agent), Namespace: r.Namespace, Pod: r.Pod, Container: r.Container, URI: r.URI,
		},
		Profile: r.Scan.Profile, Threshold: r.Scan.Threshold, Inputs: inputs, Priority: scan.Priority(r.Scan.Priority),
		Timeout: time.Duration(r.Scan.Timeout) * time.Second, Method: scan.Method(r.Scan.Method), SBOM: r.Scan.SBOM, RequestedBy: r.By,
		Standing: r.Standing, Actions: r.Scan.Actions,
		Key: scan.Key{Caller: "events", Name: r.Key, Digest: r.Key},
	})
	return string(made.ID), refused(err)
}

// exact is inputs as the queue has them, wherever they come from.
func exact(inputs map[string]any) (map[string]any, error) {
	if len(inputs) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(inputs)
	if err != nil {
		return nil, fmt.Errorf("inputs: %w", err)
	}
	return scan.DecodeInputs(text)
}

// refused marks the errors that another try doesn't heal.
func refused(err error) error {
	var invalid *scan.InvalidError
	if errors.As(err, &invalid) || errors.Is(err, scan.ErrNoProfile) || errors.Is(err, scan.ErrNoThreshold) {
		return &event.RefusedError{Reason: err.Error()}
	}
	return err
}
