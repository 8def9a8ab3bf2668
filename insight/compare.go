package insight

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Change tells how something differs between two states.
type Change string

// The changes.
const (
	Added   Change = "added"
	Removed Change = "removed"
	Updated Change = "updated"
)

// ComponentChange is a component that differs between two SBOMs.
type ComponentChange struct {
	Change Change
	// Component is the later one; of what was removed, the earlier.
	Component
	// Before is the version that was there; empty of what was added.
	Before string
}

// FactChange is a fact that differs; Fact is the later one.
type FactChange struct {
	Change Change
	Fact
	Before string
}

// ProblemChange is a problem that came or went.
type ProblemChange struct {
	Change Change
	Problem
}

// unversioned is what a component is, in every version.
func (c Component) unversioned() string {
	if c.PURL == "" {
		c.Version = ""
		return c.Key()
	}
	purl := c.PURL
	if end := strings.IndexAny(purl, "?#"); end >= 0 {
		purl = purl[:end]
	}
	if at := strings.LastIndexByte(purl, '@'); at > 0 {
		purl = purl[:at]
	}
	return purl
}

// CompareComponents says what differs, by name. A component that is there in
// one other version was updated.
func CompareComponents(before, after []Component) (out []ComponentChange) {
	gone, came := without(before, after), without(after, before)
	for name, now := range came {
		was := gone[name]
		if len(now) == 1 && len(was) == 1 {
			out = append(out, ComponentChange{Updated, now[0], was[0].Version})
			delete(gone, name)
			continue
		}
		for _, c := range now {
			out = append(out, ComponentChange{Change: Added, Component: c})
		}
	}
	for _, was := range gone {
		for _, c := range was {
			out = append(out, ComponentChange{Removed, c, c.Version})
		}
	}
	slices.SortFunc(out, func(a, b ComponentChange) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key(), b.Key()), cmp.Compare(a.Change, b.Change))
	})
	return out
}

// without are the components of list that aren't among others, by what they
// are.
func without(list, others []Component) map[string][]Component {
	has := map[string]bool{}
	for _, c := range others {
		has[c.Key()] = true
	}
	out := map[string][]Component{}
	for _, c := range list {
		if !has[c.Key()] {
			has[c.Key()] = true // once
			out[c.unversioned()] = append(out[c.unversioned()], c)
		}
	}
	return out
}

// CompareFacts says what differs, by source, service and name.
func CompareFacts(before, after []Fact) (out []FactChange) {
	type key struct{ source, service, name string }
	gone := map[key]Fact{}
	for _, f := range before {
		gone[key{f.Source, f.Service, f.Name}] = f
	}
	for _, f := range after {
		k := key{f.Source, f.Service, f.Name}
		was, known := gone[k]
		delete(gone, k)
		switch {
		case !known:
			out = append(out, FactChange{Change: Added, Fact: f})
		case was.Value != f.Value:
			out = append(out, FactChange{Updated, f, was.Value})
		}
	}
	for f := range maps.Values(gone) {
		out = append(out, FactChange{Removed, f, f.Value})
	}
	slices.SortFunc(out, func(a, b FactChange) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// CompareProblems says which came and went, by identifier, package and
// service.
func CompareProblems(before, after []Problem) (out []ProblemChange) {
	type key struct{ identifier, associated, service string }
	keyOf := func(p Problem) key { return key{p.Identifier, p.AssociatedPackage, p.Service} }
	gone := map[key]Problem{}
	for _, p := range before {
		gone[keyOf(p)] = p
	}
	came := map[key]Problem{}
	for _, p := range after {
		if _, known := gone[keyOf(p)]; !known {
			came[keyOf(p)] = p
		}
	}
	for _, p := range after {
		delete(gone, keyOf(p))
	}
	for p := range maps.Values(came) {
		out = append(out, ProblemChange{Added, p})
	}
	for p := range maps.Values(gone) {
		out = append(out, ProblemChange{Removed, p})
	}
	slices.SortFunc(out, func(a, b ProblemChange) int {
		return cmp.Or(cmp.Compare(b.SeverityScore, a.SeverityScore), cmp.Compare(a.Identifier, b.Identifier), cmp.Compare(a.AssociatedPackage, b.AssociatedPackage), cmp.Compare(a.Service, b.Service))
	})
	return out
}

// Succession is the current SBOM of a service and the one that was before a
// time.
type Succession struct {
	Now DocumentRecord
	// Before is empty where the service had none then.
	Before Digest
}
