package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"

	"reeve.dev/reeve/fleet"
)

// judgement is what a check on a subject comes to.
type judgement struct {
	// left says that the check isn't about the subject.
	left    bool
	unknown string
	// wrong is what stands against the subject; none: it passes.
	wrong []string
	// good is what is to be said where nothing does.
	good string
}

func (c Check) judge(s *Subject, now time.Time) judgement {
	switch {
	case c.Problem != nil:
		return c.Problem.judge(s, now)
	case c.Fact != nil:
		return c.Fact.judge(s)
	case c.SBOM != nil:
		return c.SBOM.judge(s, now)
	case c.Image != nil:
		return c.Image.judge(s, now)
	}
	return judgement{left: true}
}

// about is the part of the sentence that says what of a subject is meant.
func (i Image) about() string {
	switch {
	case i.Name != "":
		return "image " + i.Name
	case i.Digest != "":
		return "image " + i.Digest
	}
	return "the service"
}

func (c *ProblemCheck) judge(s *Subject, now time.Time) (j judgement) {
	least := slices.Index(severities, strings.ToLower(c.Severity))
	unrated, foreign, seen := 0, 0, map[string]bool{}
	look := func(list []Problem) {
		for _, p := range list {
			if !c.means(p, now) {
				continue
			}
			switch rank := p.severity(); {
			case rank < 0 && least > 0 && c.Unrated == unratedIgnored:
				unrated++
				continue
			case rank >= 0 && rank < least:
				continue
			}
			if line := p.String(); !seen[line] {
				seen[line] = true
				j.wrong = append(j.wrong, line)
			}
		}
	}
	// What could be found has been looked for where there is an SBOM and a
	// database, or where he whom c is about told what he found. What another told
	// doesn't show that anybody has looked.
	var missing []string
	told := slices.ContainsFunc(s.Told, func(p Problem) bool { return matchesAny(c.Sources, p.Source) })
	for _, i := range s.Images {
		switch {
		case i.SBOM == nil:
			missing = append(missing, "there is no SBOM of "+i.about())
		case !i.SBOM.Matched:
			missing = append(missing, "no database of vulnerabilities was imported (reeve osv import), so the SBOM of "+i.about()+" says nothing")
		default:
			if i.SBOM.Empty {
				missing = append(missing, "the SBOM of "+i.about()+" names nothing that it has")
			}
			for _, name := range slices.Sorted(maps.Keys(i.SBOM.Unjudged)) {
				missing = append(missing, fmt.Sprintf("no vulnerabilities of %s were imported (reeve osv import), of which %d components of %s are", name, i.SBOM.Unjudged[name], i.about()))
			}
			foreign += i.SBOM.Foreign
			look(i.SBOM.Problems)
		}
	}
	look(s.Told)
	if len(j.wrong) == 0 && len(missing) > 0 && !told {
		j.unknown = strings.Join(missing[:min(len(missing), shown)], "; ")
		return j
	}
	j.good = "no such problem is known"
	if unrated > 0 {
		j.good += fmt.Sprintf("; %d that are have no severity", unrated)
	}
	if foreign > 0 {
		j.good += fmt.Sprintf("; %d components are of no ecosystem that vulnerabilities are told of, or without a version", foreign)
	}
	return j
}

// means reports whether c is about p, its severity apart.
func (c *ProblemCheck) means(p Problem, now time.Time) bool {
	return (c.Cleared || !p.Cleared) && (!c.Fixable || p.Fixed != "") && (c.OlderThan == 0 || now.Sub(p.Since) >= c.OlderThan) &&
		matchesAny(c.Identifiers, p.Identifier) && matchesAny(c.Sources, p.Source)
}

// String is a problem's line in the details.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Identifier)
	if p.Severity != "" {
		fmt.Fprintf(&b, " (%s)", strings.ToLower(p.Severity))
	} else {
		b.WriteString(" (of unknown severity)")
	}
	if p.Package != "" {
		fmt.Fprintf(&b, " in %s %s", p.Package, p.Version)
	}
	if p.Fixed != "" {
		fmt.Fprintf(&b, ", fixed in %s", p.Fixed)
	}
	fmt.Fprintf(&b, ", known since %s", p.Since.UTC().Format(time.DateOnly))
	return b.String()
}

func (c *FactCheck) judge(s *Subject) (j judgement) {
	is, _ := textOf("value", c.Value)
	found := false
	for _, f := range s.Facts {
		if f.Name != c.Name || c.Source != "" && f.Source != c.Source {
			continue
		}
		found = true
		switch {
		case c.Version != "":
			ok, err := versionIn(f.Value, c.Version)
			if err != nil {
				j.unknown = fmt.Sprintf("%s is %q, by %s, which is no version", f.Name, f.Value, f.Source)
			} else if !ok {
				j.wrong = append(j.wrong, fmt.Sprintf("%s is %s, by %s; it must be %s", f.Name, f.Value, f.Source, c.Version))
			}
		case c.Value != "" && !is(f.Value):
			j.wrong = append(j.wrong, fmt.Sprintf("%s is %q, by %s; it must be %s", f.Name, f.Value, f.Source, c.Value))
		}
		j.good = fmt.Sprintf("%s is %s", f.Name, f.Value)
	}
	switch {
	case len(j.wrong) > 0:
		j.unknown = ""
	case !found && c.Optional:
		j.left = true
	case !found:
		j.wrong = []string{fmt.Sprintf("nobody told the fact %s", c.Name)}
	}
	return j
}

func versionIn(text, constraint string) (bool, error) {
	v, err := semver.NewVersion(text)
	if err != nil {
		return false, err
	}
	in, err := semver.NewConstraint(constraint)
	if err != nil {
		return false, err
	}
	in.IncludePrerelease = true
	return in.Check(v), nil
}

func (c *SBOMCheck) judge(s *Subject, now time.Time) (j judgement) {
	for _, i := range s.Images {
		switch {
		case i.SBOM == nil:
			j.wrong = append(j.wrong, "there is no SBOM of "+i.about())
		case c.MaxAge > 0 && now.Sub(i.SBOM.Received) > c.MaxAge:
			j.wrong = append(j.wrong, fmt.Sprintf("the SBOM of %s came last on %s; it may be %s old", i.about(), i.SBOM.Received.UTC().Format(time.DateOnly), days(c.MaxAge)))
		}
	}
	j.good = "each image has an SBOM"
	return j
}

func (c *ImageCheck) judge(s *Subject, now time.Time) (j judgement) {
	if s.Kind == "" { // a service isn't known to run anything
		return judgement{left: true}
	}
	for _, i := range s.Images {
		if !matchesAny(c.From, i.Name) {
			j.wrong = append(j.wrong, fmt.Sprintf("image %s isn't from %s", i.Name, strings.Join(c.From, " or ")))
		}
		since, what := i.Made, "was made"
		if since.IsZero() {
			since, what = i.FirstSeen, "was first seen"
		}
		if c.MaxAge > 0 && now.Sub(since) > c.MaxAge {
			j.wrong = append(j.wrong, fmt.Sprintf("%s %s on %s; it may be %s old", i.about(), what, since.UTC().Format(time.DateOnly), days(c.MaxAge)))
		}
	}
	j.good = "each image is as it must be"
	return j
}

// days is how people say a long time.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	return d.String()
}

// result is what a policy comes to on a subject, with the sinks that it is told
// to; nothing where the policy isn't about the subject.
func (p Policy) result(s *Subject, sinks []string, now time.Time) (fleet.Result, bool) {
	if !p.Subjects.chooses(s) {
		return fleet.Result{}, false
	}
	j := p.Check.judge(s, now)
	if j.left {
		return fleet.Result{}, false
	}
	return p.outcome(s.Subject(), s.Agent, s.Namespace, j, sinks, now), true
}

func (p Policy) outcome(subject fleet.Subject, agent fleet.AgentName, namespace string, j judgement, sinks []string, now time.Time) fleet.Result {
	r := fleet.Result{
		Outcome: fleet.Outcome{Subject: subject, Policy: p.Name, Pass: len(j.wrong) == 0 && j.unknown == "", At: now},
		Agent:   agent, Namespace: namespace, Sinks: sinks,
	}
	if j.unknown != "" {
		r.Unknown = fmt.Sprintf("%s could not be judged on %s %s: %s.", p.Name, subject.Owner, subject.Repo, j.unknown)
		return r
	}
	var b strings.Builder
	if r.Outcome.Pass {
		fmt.Fprintf(&b, "%s passed on %s %s: %s.\n", p.Name, subject.Owner, subject.Repo, j.good)
	} else {
		fmt.Fprintf(&b, "%s failed on %s %s.\n", p.Name, subject.Owner, subject.Repo)
		if p.Description != "" {
			fmt.Fprintln(&b, p.Description)
		}
		list(&b, "What is wrong:", j.wrong)
	}
	r.Outcome.Details = b.String()
	return r
}
