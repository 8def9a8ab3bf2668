package fleet

import (
	"fmt"
	"regexp"
	"strings"
)

// Scope is a part of the fleet: agents, and namespaces of their clusters, each
// by its name or by a pattern in which * stands for any text. A list that is
// empty is for all; so the zero value is the whole fleet. What is in no
// namespace, such as an agent's host, is only in a scope of all namespaces.
type Scope struct {
	Agents     []string `json:"agents,omitempty" yaml:"agents"`
	Namespaces []string `json:"namespaces,omitempty" yaml:"namespaces"`
}

// pattern has no characters that stand for something in SQL's LIKE.
var pattern = regexp.MustCompile(`^[a-z0-9*]([-a-z0-9.*]*[a-z0-9*])?$`)

// Validate reports the first pattern that can't be one; the error begins with
// its place, such as agents[1].
func (s Scope) Validate() error {
	for _, l := range []struct {
		name string
		list []string
	}{{"agents", s.Agents}, {"namespaces", s.Namespaces}} {
		if len(l.list) > maxItems {
			return fmt.Errorf("%s: %d patterns are more than the %d allowed", l.name, len(l.list), maxItems)
		}
		for i, p := range l.list {
			if len(p) > maxText || !pattern.MatchString(p) {
				return fmt.Errorf("%s[%d]: %q must be a name in lower case, in which * may stand for any text", l.name, i, p)
			}
		}
	}
	return nil
}

// Whole reports whether s is the whole fleet.
func (s Scope) Whole() bool { return all(s.Agents) && all(s.Namespaces) }

// AllNamespaces reports whether s has all that the agents of s have.
func (s Scope) AllNamespaces() bool { return all(s.Namespaces) }

// HasAgent reports whether something of that agent is in s.
func (s Scope) HasAgent(agent AgentName) bool { return matches(s.Agents, string(agent)) }

// Has reports whether a namespace of an agent's cluster is in s; the empty one
// stands for what is in none.
func (s Scope) Has(agent AgentName, namespace string) bool {
	return s.HasAgent(agent) && (all(s.Namespaces) || namespace != "" && matches(s.Namespaces, namespace))
}

// Meets reports whether something may be in both s and t.
func (s Scope) Meets(t Scope) bool {
	return meet(s.Agents, t.Agents) && meet(s.Namespaces, t.Namespaces)
}

// Within is s without the patterns that are about nothing in any of scopes; false
// if nothing of s is.
func (s Scope) Within(scopes []Scope) (_ Scope, any bool) {
	var out Scope
	for _, t := range scopes {
		if s.Meets(t) {
			out.Agents, out.Namespaces, any = append(out.Agents, t.Agents...), append(out.Namespaces, t.Namespaces...), true
			// An empty list is for all.
			if len(t.Agents) == 0 {
				out.Agents = append(out.Agents, "*")
			}
			if len(t.Namespaces) == 0 {
				out.Namespaces = append(out.Namespaces, "*")
			}
		}
	}
	in := func(patterns, of []string) (in []string) {
		for _, p := range patterns {
			if meet([]string{p}, of) {
				in = append(in, p)
			}
		}
		return in
	}
	return Scope{Agents: in(s.Agents, out.Agents), Namespaces: in(s.Namespaces, out.Namespaces)}, any
}

// meet reports whether a name may be what one of each list says.
func meet(ps, qs []string) bool {
	if len(ps) == 0 || len(qs) == 0 {
		return true
	}
	for _, p := range ps {
		for _, q := range qs {
			if meets(p, q) {
				return true
			}
		}
	}
	return false
}

// meets reports whether there is a name that both patterns match.
func meets(p, q string) bool {
	// can[j] says whether p's first i bytes meet q's first j.
	can := make([]bool, len(q)+1)
	for i := range len(p) + 1 {
		before := false // can[j-1] of the row before
		for j := range len(q) + 1 {
			was := can[j]
			star := i > 0 && p[i-1] == '*'
			can[j] = i == 0 && j == 0 ||
				star && (was || j > 0 && can[j-1]) ||
				j > 0 && q[j-1] == '*' && (can[j-1] || i > 0 && was) ||
				i > 0 && j > 0 && p[i-1] == q[j-1] && before
			before = was
		}
	}
	return can[len(q)]
}

// String is s for a person, such as "agents prod-*; namespaces shop, web".
func (s Scope) String() string {
	var parts []string
	if !all(s.Agents) {
		parts = append(parts, "agents "+strings.Join(s.Agents, ", "))
	}
	if !all(s.Namespaces) {
		parts = append(parts, "namespaces "+strings.Join(s.Namespaces, ", "))
	}
	if len(parts) == 0 {
		return "the whole fleet"
	}
	return strings.Join(parts, "; ")
}

func all(patterns []string) bool {
	for _, p := range patterns {
		if p == "*" {
			return true
		}
	}
	return len(patterns) == 0
}

func matches(patterns []string, name string) bool {
	if len(patterns) == 0 {
		return true
	}
	for _, p := range patterns {
		if Match(p, name) {
			return true
		}
	}
	return false
}

// Match reports whether name is what the pattern says, in which * stands for any
// text. It takes time that grows with the length of both, whatever they hold.
func Match(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(name) < len(first)+len(last) || !strings.HasPrefix(name, first) || !strings.HasSuffix(name, last) {
		return false
	}
	name = name[len(first) : len(name)-len(last)]
	for _, p := range parts[1 : len(parts)-1] {
		_, rest, found := strings.Cut(name, p)
		if !found {
			return false
		}
		name = rest
	}
	return true
}
