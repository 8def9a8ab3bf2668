package policy

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/fleet"
)

// Subject is a container of a workload with all that is known of it, or, where
// no workload is known that it is of, a service that sends insights.
type Subject struct {
	Agent     fleet.AgentName
	Namespace string
	// Environment is PROJECT/NAME, as Lagoon has it; empty where it isn't known.
	Environment string
	// Kind, Name and Container are the workload's; a service has its name alone.
	Kind, Name, Container string
	Labels                map[string]string
	// Images are those that it runs: several while one replaces another. A
	// service has one without a name, with its SBOM.
	Images []Image
	// Told are the problems that were told of it, and Facts the facts.
	Told  []Problem
	Facts []Fact
}

// Image is an image that runs.
type Image struct {
	Name, Digest string
	// Made is when it was, and FirstSeen when it ran first; zero where that isn't
	// known.
	Made, FirstSeen time.Time
	// SBOM is nil where there is none.
	SBOM *SBOM
}

// SBOM is what an image's SBOM comes to.
type SBOM struct {
	Digest   string
	Received time.Time
	// Matched says that it was held against databases of vulnerabilities, which
	// found Problems.
	Matched  bool
	Problems []Problem
	// Unjudged counts its components by the ecosystems, with their releases, of which
	// there is no database. Foreign are of no ecosystem that could have one.
	Unjudged map[string]int
	Foreign  int
	// Empty says that it has no components, so that nothing could be found.
	Empty bool
}

// Problem is one thing that is wrong.
type Problem struct {
	Identifier string
	Source     string
	// Package and Version are what has it, Fixed is the version that hasn't.
	Package, Version, Fixed string
	// Severity is low, medium, high or critical; empty where nobody says it.
	Severity string
	Since    time.Time
	// Cleared says that by a statement (VEX) it is none.
	Cleared bool
}

// Fact is a named value.
type Fact struct{ Name, Value, Source string }

// Place is a namespace of an agent's cluster; all of them where Namespace is
// empty, and all clusters where both are.
type Place struct {
	Agent     fleet.AgentName
	Namespace string
}

// Evidence knows what is to be judged.
type Evidence interface {
	// Agents are those of which anything is known, in order.
	Agents(ctx context.Context) ([]fleet.AgentName, error)
	// Subjects are those of a place with an agent, in the order of Compare, with
	// what need says of each.
	Subjects(ctx context.Context, p Place, need Need) ([]Subject, error)
}

// Need says what is asked for besides the workloads and their images.
type Need struct{ SBOMs, Problems, Facts, Images bool }

// needs is what a check looks at.
func (c Check) needs() Need {
	return Need{
		SBOMs: c.SBOM != nil || c.Problem != nil, Problems: c.Problem != nil,
		Facts: c.Fact != nil, Images: c.Image != nil && c.Image.MaxAge > 0,
	}
}

func (n Need) and(m Need) Need {
	return Need{SBOMs: n.SBOMs || m.SBOMs, Problems: n.Problems || m.Problems, Facts: n.Facts || m.Facts, Images: n.Images || m.Images}
}

// Subject is what outcomes call s: AGENT/NAMESPACE and KIND/NAME/CONTAINER, or
// the service.
func (s *Subject) Subject() fleet.Subject {
	repo := s.Name
	if s.Kind != "" {
		repo = s.Kind + "/" + s.Name + "/" + s.Container
	}
	return fleet.Subject{Owner: string(s.Agent) + "/" + s.Namespace, Repo: repo}
}

// Compare orders subjects by place, then by name.
func (s *Subject) Compare(t *Subject) int {
	return cmp.Or(cmp.Compare(s.Agent, t.Agent), cmp.Compare(s.Namespace, t.Namespace), cmp.Compare(s.Kind, t.Kind),
		cmp.Compare(s.Name, t.Name), cmp.Compare(s.Container, t.Container))
}

// chooses reports whether the selector is for s.
func (sel Selector) chooses(s *Subject) bool {
	if !sel.Has(s.Agent, s.Namespace) || !matchesAny(sel.Environments, s.Environment) {
		return false
	}
	for k, v := range sel.Labels {
		if have, there := s.Labels[k]; !there || have != v {
			return false
		}
	}
	return len(sel.Images) == 0 || slices.ContainsFunc(s.Images, func(i Image) bool { return matchesAny(sel.Images, i.Name) })
}

// matchesAny reports whether name is one of patterns; any is if there are none.
func matchesAny(patterns []string, name string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return fleet.Match(p, name) })
}

// severity is the rank of a problem's; -1 where nobody says it.
func (p Problem) severity() int {
	if s := strings.ToLower(p.Severity); s != "" {
		return slices.Index(severities, s)
	}
	return -1
}
