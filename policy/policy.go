// Package policy turns a check into its outcome: which policy was checked on
// which subject, whether it passed, and what the person needs to know who
// must act. Every check has an outcome, so that a receiver also learns when a
// subject becomes compliant.
package policy

import (
	"fmt"
	"strings"
	"time"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
)

// Scan is what a completed scan came to.
type Scan struct {
	// ID is the scan's; the outcome's run.
	ID      string
	Subject fleet.Subject
	// Policy is the name of the profile, with the threshold's if there is
	// one: PROFILE/THRESHOLD.
	Policy string
	Passed bool
	Counts hdf.Counts
	// Findings are the threshold's bounds that weren't met.
	Findings []string
	// Bad are the controls that failed or couldn't be judged.
	Bad []Control
	At  time.Time
}

// Control is one control that failed or couldn't be judged.
type Control struct {
	ID     string
	Title  string
	Status hdf.Status
}

// shown is how many bounds and how many controls the details name; the
// result has them all.
const shown = 10

// ScanOutcome is the outcome of a completed scan.
func ScanOutcome(s Scan) fleet.Outcome {
	return fleet.Outcome{
		Subject: s.Subject,
		Policy:  s.Policy,
		Pass:    s.Passed,
		Details: details(s),
		Run:     s.ID,
		At:      s.At,
	}
}

// details is a sentence with the verdict, then what stands against it.
func details(s Scan) string {
	var b strings.Builder
	verdict := "passed"
	if !s.Passed {
		verdict = "failed"
	}
	n := s.Counts
	fmt.Fprintf(&b, "%s %s on %s %s: of %d controls %d passed, %d failed, %d were skipped and %d could not be judged.\n",
		s.Policy, verdict, s.Subject.Owner, s.Subject.Repo,
		n.Passed+n.Failed+n.Skipped+n.Error, n.Passed, n.Failed, n.Skipped, n.Error)
	list(&b, "Bounds that were not met:", s.Findings)
	bad := make([]string, len(s.Bad))
	for i, c := range s.Bad {
		bad[i] = c.String()
	}
	list(&b, "Controls that did not pass:", bad)
	fmt.Fprintf(&b, "Scan %s has the whole result.\n", s.ID)
	return b.String()
}

// String is the control's line in the details.
func (c Control) String() string {
	line := c.ID
	if title := strings.Join(strings.Fields(c.Title), " "); title != "" && title != c.ID {
		line += ": " + title
	}
	if c.Status == hdf.Error {
		line += " (could not be judged)"
	}
	return line
}

func list(b *strings.Builder, heading string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintln(b, heading)
	for _, l := range lines[:min(len(lines), shown)] {
		fmt.Fprintf(b, "- %s\n", l)
	}
	if more := len(lines) - shown; more > 0 {
		fmt.Fprintf(b, "- and %d more\n", more)
	}
}
