package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/internal/config"
	"reeve.dev/reeve/internal/near"
)

// MaxLayer is the most bytes that a Layer's text may have, and MaxLayers how many
// one caller may put.
const (
	MaxLayer  = 64 << 10
	MaxLayers = 500
)

// Layer is what a namespace says of itself: YAML, a Change by the name of each
// policy that it is about.
type Layer struct {
	Place
	Text string
	// By is who put it there; ByAnnotation where the namespace's own annotation says
	// it.
	By string
	At time.Time
}

// ByAnnotation is who put what a namespace's annotation says, as far as the hub
// knows. Nobody has that name.
const ByAnnotation = "the namespace's annotation"

// Fault is what is wrong with a part of the configuration that isn't the
// operator's own. What is faulty isn't applied, and the policies hold without
// it.
type Fault struct {
	Place
	// Policy is the one that it would have changed; empty: all of them.
	Policy string
	Reason string
}

// where is how faults say which layer they are of.
func (l Layer) where() string {
	where := "of namespace " + string(l.Agent) + "/" + l.Namespace
	if l.By == ByAnnotation {
		where = "of the annotation " + where
	}
	return where
}

// changes reads a layer's text. What is wrong with one policy's part doesn't
// touch the others.
func (l Layer) changes() (map[string]Change, []Fault) {
	where := l.where()
	fault := func(policy string, err error) Fault {
		return Fault{l.Place, policy, strings.TrimPrefix(err.Error(), "configuration ")}
	}
	if len(l.Text) > MaxLayer {
		return nil, []Fault{fault("", fmt.Errorf("%s: %d bytes are more than the %d allowed", where, len(l.Text), MaxLayer))}
	}
	var parts map[string]yaml.Node
	if err := config.Parse(where, []byte(l.Text), &parts); err != nil {
		return nil, []Fault{fault("", err)}
	}
	out := map[string]Change{}
	var faults []Fault
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		part := parts[name]
		text, err := yaml.Marshal(&part)
		var c Change
		if err == nil {
			err = config.Parse(where+", policy "+name, text, &c)
		}
		if err != nil {
			faults = append(faults, fault(name, err))
			continue
		}
		out[name] = c
	}
	return out, faults
}

// apply is p as a namespace's layer changes it. It sends outcomes nowhere that
// the policy itself doesn't send them to, by its own actions.
func (p Policy) apply(c Change, own []Action, sinks Sinks) (Policy, error) {
	if p.DisableOverride {
		return p, errors.New("the policy can't be overridden (disableOverride); ask who runs the hub, or take this part out")
	}
	for i, a := range c.Actions {
		if !slices.Contains(own, a) && a != (Action{Kind: KindLog}) {
			var may []string
			for _, b := range own {
				may = append(may, b.String())
			}
			return p, fmt.Errorf("actions[%d]: %s is none of the policy's own, %s", i, a, strings.Join(may, ", "))
		}
	}
	return p.with(c, sinks)
}

// Check tells what is wrong with a layer, as policies are now.
func (s *Set) Check(l Layer) []Fault {
	changes, faults := l.changes()
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		p, known := s.byName[name]
		err := fmt.Errorf("there is no policy of that name; %s", near.Instead(name, s.names()))
		if known {
			p, _ = s.organised(p, l.Place)
			_, err = p.apply(changes[name], p.Actions, s.sinks)
		}
		if err != nil {
			faults = append(faults, Fault{l.Place, name, fmt.Sprintf("%s, policy %s: %v", l.where(), name, err)})
		}
	}
	return faults
}

// Set is the policies of a hub.
type Set struct {
	all    []Policy
	byName map[string]Policy
	sinks  Sinks
}

// NewSet makes a set of valid policies.
func NewSet(policies []Policy, sinks Sinks) *Set {
	s := &Set{byName: map[string]Policy{}, sinks: sinks}
	for _, p := range policies {
		p = p.defaults()
		s.all = append(s.all, p)
		s.byName[p.Name] = p
	}
	return s
}

func (s *Set) names() (out []string) {
	for _, p := range s.all {
		out = append(out, p.Name)
	}
	return out
}

// organised is p with the organisation's overrides for a place; false: it isn't
// checked there.
func (s *Set) organised(p Policy, at Place) (_ Policy, checked bool) {
	checked = true
	for _, o := range p.Overrides {
		if !o.Has(at.Agent, at.Namespace) {
			continue
		}
		if changed, err := p.with(o.Change, s.sinks); err == nil { // Validate has seen to it
			p = changed
		}
		checked = !o.OptOut
	}
	return p, checked
}

// at is p as it holds at a place, where changes are what its layers say.
func (s *Set) at(p Policy, at Place, changes []map[string]Change) (_ Policy, checked bool) {
	p, checked = s.organised(p, at)
	if !checked {
		return p, false
	}
	own := p.Actions
	for _, layer := range changes {
		c, there := layer[p.Name]
		if !there {
			continue
		}
		if changed, err := p.apply(c, own, s.sinks); err == nil { // what is faulty is told elsewhere
			p, checked = changed, !c.OptOut
		}
	}
	return p, checked
}

// layers are those of all namespaces, read; of one namespace a later one goes
// before.
type layers map[Place][]map[string]Change

func readLayers(list []Layer) layers {
	out := layers{}
	for _, l := range list {
		changes, _ := l.changes()
		out[l.Place] = append(out[l.Place], changes)
	}
	return out
}

// Hold is until when people aren't told of a failing outcome, by the schedule of
// its policy where its subject is; the zero time: they are.
func (e *Engine) Hold(o fleet.Outcome, now time.Time) (until time.Time, why string) {
	p, known := e.set.byName[o.Policy]
	agent, namespace, inCluster := strings.Cut(o.Subject.Owner, "/")
	if !known || !inCluster || o.Pass || o.Gone {
		return time.Time{}, ""
	}
	l := e.places().at(p, Place{fleet.AgentName(agent), namespace})
	if until = l.Schedule.HeldUntil(now); until.IsZero() {
		return until, ""
	}
	return until, "held back by the schedule of policy " + p.Name
}
