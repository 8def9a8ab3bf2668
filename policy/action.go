package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Action says where the outcomes of a policy go: KIND or KIND/NAME, such as
// log, rpc/security or fix/quarantine. A kind is the type of a sink, and the
// kind alone means the only sink of that type; log alone is a line in the hub's
// log, and fix/HOOK a hook of the agent beside the subject (package remedy).
type Action struct{ Kind, Name string }

// The kinds that aren't types of sinks.
const (
	KindLog = "log"
	KindFix = "fix"
)

// FixSink begins the names of the sinks that tell hooks; no configured sink can
// be called so.
const FixSink = "remedy:"

var action = regexp.MustCompile(`^[a-z]{1,32}(/[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$`)

// ParseAction reads what String writes.
func ParseAction(s string) (Action, error) {
	if !action.MatchString(s) {
		return Action{}, fmt.Errorf("action %.80q: it must be KIND or KIND/NAME, such as log, rpc/security, fix/quarantine", s)
	}
	kind, name, _ := strings.Cut(s, "/")
	if kind == KindFix && name == "" {
		return Action{}, fmt.Errorf("action fix: it must name a hook of the agents' remediation.hooks: fix/HOOK")
	}
	return Action{kind, name}, nil
}

func (a Action) String() string {
	if a.Name == "" {
		return a.Kind
	}
	return a.Kind + "/" + a.Name
}

// MarshalText implements encoding.TextMarshaler.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Action) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAction(string(text))
	return err
}

// ForPeople reports whether a person reads what comes by the action, so that a
// schedule may hold it back.
func (a Action) ForPeople() bool { return a.Kind == "slack" || a.Kind == "issue" }

// Sinks are the configured ones: the type of each by its name.
type Sinks map[string]string

// Resolve finds the sink of an action; empty for the hub's own log. An action
// that there is no sink for is an error that says what there is.
func (s Sinks) Resolve(a Action) (string, error) {
	switch {
	case a.Kind == KindFix:
		return FixSink + a.Name, nil
	case a.Name != "":
		kind, known := s[a.Name]
		if !known {
			return "", fmt.Errorf("action %s: there is no sink %q; sinks has %s", a, a.Name, s)
		}
		if kind != a.Kind {
			return "", fmt.Errorf("action %s: the sink is of the type %s; write %s/%s", a, kind, kind, a.Name)
		}
		return a.Name, nil
	}
	var names []string
	for name, kind := range s {
		if kind == a.Kind {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	switch {
	case len(names) == 1:
		return names[0], nil
	case len(names) > 1:
		return "", fmt.Errorf("action %s: there are several sinks of that type; write %s/%s", a, a.Kind, strings.Join(names, " or "+a.Kind+"/"))
	case a.Kind == KindLog:
		return "", nil
	}
	return "", fmt.Errorf("action %s: there is no sink of that type; sinks has %s", a, s)
}

// String lists the sinks as actions name them.
func (s Sinks) String() string {
	if len(s) == 0 {
		return "none"
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(s)) {
		all = append(all, s[name]+"/"+name)
	}
	return strings.Join(all, ", ")
}

// Names are the sinks of actions that have one. Actions that there is no sink for are left out.
func (s Sinks) Names(actions []Action) (out []string) {
	for _, a := range actions {
		if name, err := s.Resolve(a); err == nil && name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}
