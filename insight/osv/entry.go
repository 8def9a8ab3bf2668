package osv

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/osv-scalibr/semantic"
	gocvss20 "github.com/pandatix/go-cvss/20"
	gocvss30 "github.com/pandatix/go-cvss/30"
	gocvss31 "github.com/pandatix/go-cvss/31"
	gocvss40 "github.com/pandatix/go-cvss/40"

	"reeve.dev/reeve/insight"
)

// Entry is one vulnerability, as far as we keep it.
type Entry struct {
	ID       string
	Modified time.Time
	// Withdrawn entries are kept by nobody.
	Withdrawn bool
	// Aliases are its other names, CVE the first of them that is one (or the ID).
	Aliases  []string
	CVE      string
	Summary  string
	Severity string  // none, low, medium, high or critical; empty where it isn't known
	Score    float64 // 0 to 10, by CVSS; 0 where it isn't known
	Affected []Affected
}

// Affected says which versions of a package have the vulnerability.
type Affected struct {
	// Ecosystem is OSV's name, with a release where it has one.
	Ecosystem string
	// Package is insight.Package's key.
	Package string
	Versions
}

// Versions are what is affected: those that are listed, and those in ranges.
type Versions struct {
	Listed []string `json:"l,omitempty"`
	Ranges []Range  `json:"r,omitempty"`
}

// Range are events in the life of a package, in their order.
type Range []Event

// Event has one member.
type Event struct {
	Introduced   string `json:"i,omitempty"`
	Fixed        string `json:"f,omitempty"`
	LastAffected string `json:"a,omitempty"`
	Limit        string `json:"m,omitempty"`
}

// document is the part of an entry's JSON that is read.
type document struct {
	ID        string    `json:"id"`
	Modified  time.Time `json:"modified"`
	Withdrawn time.Time `json:"withdrawn"`
	Aliases   []string  `json:"aliases"`
	Upstream  []string  `json:"upstream"`
	Summary   string    `json:"summary"`
	Details   string    `json:"details"`
	Severity  []rating  `json:"severity"`
	Database  database  `json:"database_specific"`
	Affected  []struct {
		Package struct {
			Ecosystem string `json:"ecosystem"`
			Name      string `json:"name"`
		} `json:"package"`
		Severity []rating `json:"severity"`
		Ranges   []struct {
			Type   string `json:"type"`
			Events []struct {
				Introduced   string `json:"introduced"`
				Fixed        string `json:"fixed"`
				LastAffected string `json:"last_affected"`
				Limit        string `json:"limit"`
			} `json:"events"`
		} `json:"ranges"`
		Versions []string `json:"versions"`
	} `json:"affected"`
}

type rating struct {
	Type  string `json:"type"`
	Score string `json:"score"`
}

// database reads what a database says of its own; each has another form.
type database struct{ severity string }

func (d *database) UnmarshalJSON(b []byte) error {
	var members struct {
		Severity json.RawMessage `json:"severity"`
	}
	if json.Unmarshal(b, &members) == nil {
		json.Unmarshal(members.Severity, &d.severity) // another type is none
	}
	return nil
}

const (
	// maxSummary is the most bytes of a summary that are kept.
	maxSummary = 500
	// maxAliases is the most other names of an entry; real ones have a few dozen.
	maxAliases = 1000
)

// Parse reads an entry in JSON. Its error is for the person who made it.
func Parse(text []byte) (Entry, error) {
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		return Entry{}, fmt.Errorf("isn't an OSV entry: %w", err)
	}
	switch {
	case d.ID == "" || len(d.ID) > 200:
		return Entry{}, fmt.Errorf("id: must have 1 to 200 bytes")
	case d.Modified.IsZero():
		return Entry{}, fmt.Errorf("modified: is missing")
	case len(d.Aliases)+len(d.Upstream) > maxAliases:
		return Entry{}, fmt.Errorf("aliases and upstream: must be at most %d", maxAliases)
	}
	e := Entry{
		ID: d.ID, Modified: d.Modified, Withdrawn: !d.Withdrawn.IsZero(),
		Summary: shortened(cmp.Or(d.Summary, d.Details)), CVE: d.ID,
	}
	for _, a := range append(d.Aliases, d.Upstream...) {
		if a != d.ID && !slices.Contains(e.Aliases, a) {
			e.Aliases = append(e.Aliases, a)
		}
	}
	if i := slices.IndexFunc(e.Aliases, func(a string) bool { return strings.HasPrefix(a, "CVE-") }); i >= 0 && !strings.HasPrefix(d.ID, "CVE-") {
		e.CVE = e.Aliases[i]
	}
	ratings := d.Severity
	for _, a := range d.Affected {
		ratings = append(ratings, a.Severity...)
		p := insight.NewPackage(a.Package.Ecosystem, a.Package.Name)
		if p.Ecosystem == "" || p.Name == "" {
			continue
		}
		v := Versions{Listed: a.Versions}
		for _, r := range a.Ranges {
			if r.Type != "ECOSYSTEM" && r.Type != "SEMVER" {
				continue
			}
			var events Range
			for _, ev := range r.Events {
				events = append(events, Event(ev))
			}
			v.Ranges = append(v.Ranges, events)
		}
		if len(v.Listed)+len(v.Ranges) > 0 {
			e.Affected = append(e.Affected, Affected{Ecosystem: a.Package.Ecosystem, Package: p.Key(), Versions: v})
		}
	}
	e.Score, e.Severity = gravest(ratings)
	if e.Severity == "" {
		e.Severity = severityWord(d.Database.severity)
	}
	return e, nil
}

func shortened(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	if len(s) > maxSummary {
		s = strings.ToValidUTF8(s[:maxSummary], "") + " …"
	}
	return s
}

func severityWord(s string) string {
	switch s = strings.ToLower(s); s {
	case "low", "medium", "high", "critical":
		return s
	case "moderate":
		return "medium"
	}
	return ""
}

// gravest is the highest of the scores that can be read, and its word.
func gravest(ratings []rating) (score float64, severity string) {
	for _, r := range ratings {
		s, word, err := cvss(r.Score)
		if err == nil && (severity == "" || s > score) {
			score, severity = s, strings.ToLower(word)
		}
	}
	return score, severity
}

func cvss(vector string) (float64, string, error) {
	switch {
	case strings.HasPrefix(vector, "CVSS:4.0/"):
		v, err := gocvss40.ParseVector(vector)
		if err != nil {
			return 0, "", err
		}
		word, err := gocvss40.Rating(v.Score())
		return v.Score(), word, err
	case strings.HasPrefix(vector, "CVSS:3.1/"):
		v, err := gocvss31.ParseVector(vector)
		if err != nil {
			return 0, "", err
		}
		word, err := gocvss31.Rating(v.BaseScore())
		return v.BaseScore(), word, err
	case strings.HasPrefix(vector, "CVSS:3.0/"):
		v, err := gocvss30.ParseVector(vector)
		if err != nil {
			return 0, "", err
		}
		word, err := gocvss30.Rating(v.BaseScore())
		return v.BaseScore(), word, err
	}
	v, err := gocvss20.ParseVector(vector)
	if err != nil {
		return 0, "", err
	}
	word, err := gocvss31.Rating(v.BaseScore()) // CVSS 2 has no words of its own
	return v.BaseScore(), word, err
}

// maxVersion is the most bytes of a version that is compared: the time that
// takes may grow with their square.
const maxVersion = 500

var errTooLong = errors.New("version is too long")

// Match reports whether a version of a package is affected, and the version in
// which that was fixed where there is one.
func (a Affected) Match(p insight.Package) (fixed string, affected bool) {
	if p.Key() != a.Package || p.Release != insight.NewPackage(a.Ecosystem, "").Release {
		return "", false
	}
	var v semantic.Version
	err := errTooLong
	if len(p.Version) <= maxVersion {
		v, err = semantic.Parse(p.Version, p.Ecosystem)
	}
	if err != nil {
		return "", slices.Contains(a.Listed, p.Version)
	}
	for _, r := range a.Ranges {
		if fixed, affected := r.sorted(p.Ecosystem).match(v); affected {
			return fixed, true
		}
	}
	return "", slices.Contains(a.Listed, p.Version)
}

// version is the one that the event is about.
func (e Event) version() string { return cmp.Or(e.Introduced, e.Fixed, e.LastAffected, e.Limit) }

// sorted are the events by their versions: an entry may have them in any order.
// Where one can't be compared they stay as they are.
func (r Range) sorted(ecosystem string) Range {
	if len(r) < 2 || len(r) == 2 && r[0].Introduced != "" && r[1].Introduced == "" {
		return r // as nearly all are
	}
	at := make([]semantic.Version, len(r))
	order := make([]int, len(r))
	for i, e := range r {
		order[i] = i
		if first(e) {
			continue
		}
		version := e.version()
		if len(version) > maxVersion {
			return r
		}
		var err error
		if at[i], err = semantic.Parse(version, ecosystem); err != nil {
			return r
		}
	}
	var failed error
	slices.SortStableFunc(order, func(a, b int) int {
		if first(r[a]) || first(r[b]) {
			return cmp.Compare(bit(first(r[b])), bit(first(r[a])))
		}
		n, err := at[a].CompareStr(r[b].version())
		failed = cmp.Or(failed, err)
		return n
	})
	if failed != nil {
		return r
	}
	out := make(Range, len(r))
	for i, from := range order {
		out[i] = r[from]
	}
	return out
}

// first reports whether an event is before any version.
func first(e Event) bool { return e.Introduced == "0" }

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// match follows the events, sorted, up to the version.
func (r Range) match(v semantic.Version) (fixed string, affected bool) {
	for _, e := range r {
		switch {
		case e.Introduced != "":
			if e.Introduced == "0" || atLeast(v, e.Introduced) {
				affected, fixed = true, ""
			}
		case e.Fixed != "":
			if atLeast(v, e.Fixed) {
				affected = false
			} else if affected && fixed == "" {
				fixed = e.Fixed
			}
		case e.LastAffected != "":
			if n, err := compare(v, e.LastAffected); err == nil && n > 0 {
				affected = false
			}
		case e.Limit != "" && e.Limit != "*":
			if atLeast(v, e.Limit) {
				affected = false
			}
		}
	}
	return fixed, affected
}

func atLeast(v semantic.Version, other string) bool {
	n, err := compare(v, other)
	return err == nil && n >= 0
}

func compare(v semantic.Version, other string) (int, error) {
	if len(other) > maxVersion {
		return 0, errTooLong
	}
	return v.CompareStr(other)
}

// Between reports whether a component's version is from or later, and before
// below, as its ecosystem orders them; an empty bound is none. A version that
// can't be compared is between nothing.
func Between(c insight.Component, from, below string) bool {
	if from == "" && below == "" {
		return true
	}
	p := insight.PackageOf(c.PURL)
	if p.Ecosystem == "" {
		p.Ecosystem, p.Version = "Debian", c.Version // whose order fits most others, too
	}
	if len(p.Version) > maxVersion {
		return false
	}
	v, err := semantic.Parse(p.Version, p.Ecosystem)
	if err != nil {
		return false
	}
	if from != "" && !atLeast(v, from) {
		return false
	}
	if below == "" {
		return true
	}
	n, err := compare(v, below)
	return err == nil && n < 0
}
