package policy

import (
	"context"
	"fmt"
	"strings"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/hdf"
)

// EndedScan is a scan that policies are judged by.
type EndedScan struct {
	Scan
	Place
	// Profile is its name, without a version, and Threshold the scan's own.
	Profile, Threshold string
	// AdHoc says that somebody chose the threshold who may choose any.
	AdHoc bool
	// Failure says why there is no result; empty: there is.
	Failure string
	// Controls are all that were run.
	Controls []Control
	// Judge holds the result against a threshold, and tells which of its bounds
	// aren't met.
	Judge func(threshold string) ([]string, error)
}

// OfScan is what the policies on scans come to by one that ended; that is the
// run of its results. What names the hub's own log is logged.
func (e *Engine) OfScan(ctx context.Context, s EndedScan) []fleet.Result {
	var out []fleet.Result
	var logged []bool
	places := e.places()
	for _, p := range e.set.all {
		if !p.Check.ofScans() {
			continue
		}
		l := places.at(p, s.Place)
		if !l.checked || !l.Subjects.Has(s.Agent, s.Namespace) {
			continue
		}
		j := l.Check.judgeScan(s)
		if j.left {
			continue
		}
		out = append(out, l.outcome(s.Subject, s.Agent, s.Namespace, j, l.sinks, s.At))
		logged = append(logged, l.logged)
	}
	e.log(ctx, s.ID, out, logged)
	return out
}

func (c Check) judgeScan(s EndedScan) judgement {
	if c.Scan != nil {
		return c.Scan.judge(s)
	}
	return c.Control.judge(s)
}

func (c *ScanCheck) judge(s EndedScan) (j judgement) {
	switch {
	case c.Profile != s.Profile, c.Threshold == "" && s.AdHoc && s.Threshold != "":
		j.left = true
	case s.Failure != "":
		j.unknown = fmt.Sprintf("scan %s by %s came to no result: %s", s.ID, s.Profile, s.Failure)
	case c.Threshold != "" && c.Threshold != s.Threshold:
		var err error
		if j.wrong, err = s.Judge(c.Threshold); err != nil {
			j.unknown = err.Error()
		}
		j.good = fmt.Sprintf("scan %s meets threshold %s", s.ID, c.Threshold)
	case s.Passed:
		j.good = fmt.Sprintf("scan %s by %s passed", s.ID, s.Profile)
	default:
		j.wrong = append(j.wrong, s.Findings...)
		for _, b := range s.Bad {
			j.wrong = append(j.wrong, b.String())
		}
		if len(j.wrong) == 0 { // a verdict that doesn't say why is no pass
			j.wrong = []string{fmt.Sprintf("scan %s by %s failed", s.ID, s.Profile)}
		}
	}
	return j
}

func (c *ControlCheck) judge(s EndedScan) (j judgement) {
	if c.Profile != "" && c.Profile != s.Profile {
		return judgement{left: true}
	}
	is, err := textOf("id", c.ID)
	if err != nil {
		return judgement{unknown: err.Error()}
	}
	var passed, open []string
	for _, control := range s.Controls {
		switch {
		case !is(control.ID):
		case control.Status == hdf.Passed:
			passed = append(passed, control.ID)
		case control.Status == hdf.Failed:
			j.wrong = append(j.wrong, control.String())
		case control.Status == hdf.Skipped:
			open = append(open, control.ID+" was skipped")
		default:
			open = append(open, control.String())
		}
	}
	switch {
	case len(j.wrong) > 0:
	case s.Failure != "" && c.Profile != "":
		j.unknown = fmt.Sprintf("scan %s by %s came to no result: %s", s.ID, s.Profile, s.Failure)
	case len(open) > 0:
		j.unknown = strings.Join(open[:min(len(open), shown)], "; ")
	case len(passed) > 0:
		j.good = strings.Join(passed[:min(len(passed), shown)], ", ") + " passed"
	case c.Profile == "": // a scan by a profile that has nothing to do with it
		j.left = true
	default:
		j.unknown = fmt.Sprintf("scan %s by %s has no control %s", s.ID, s.Profile, c.ID)
	}
	return j
}
