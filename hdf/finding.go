package hdf

import (
	"cmp"
	"math"
	"strings"
	"time"
)

// NotApplicable is a control's state in a Finding: its impact is 0, or it was
// waived without being run. No Result has it.
const NotApplicable Status = "not_applicable"

// Severity is how grave a control is.
type Severity string

// The severities of a control.
const (
	Critical Severity = "critical"
	High     Severity = "high"
	Medium   Severity = "medium"
	Low      Severity = "low"
	None     Severity = "none"
)

// Finding is a control as reports show it: once, although an overlay and its
// base both list it, and judged as Heimdall judges it.
type Finding struct {
	Control  *Control
	Profile  *Profile // the first that lists it; of overlays the outermost
	Status   Status
	Severity Severity
}

// Findings lists the controls of a document in their order. The same id in
// profiles that are overlays of each other is one control: the one that has
// results, with the place of the first.
func (r *Results) Findings() []Finding {
	var out []Finding
	for _, l := range r.layers() {
		c := l.judged()
		out = append(out, Finding{Control: c, Profile: l.profile, Status: Judge(c), Severity: SeverityOf(c)})
	}
	return out
}

// layered is one control in all profiles that are overlays of each other.
type layered struct {
	profile  *Profile // the first
	controls []*Control
}

// judged is the first of the controls that has results.
func (l layered) judged() *Control {
	for _, c := range l.controls {
		if len(c.Results) > 0 {
			return c
		}
	}
	return l.controls[0]
}

func (r *Results) layers() []layered {
	type key struct{ outermost, id string }
	at := map[key]int{}
	parents := map[string]string{}
	for _, p := range r.Profiles {
		if _, seen := parents[p.Name]; !seen {
			parents[p.Name] = p.ParentProfile
		}
	}
	var out []layered
	for i := range r.Profiles {
		p := &r.Profiles[i]
		before := len(out)
		top := outermost(p.Name, parents)
		for j := range p.Controls {
			c := &p.Controls[j]
			k := key{top, c.ID}
			if first, seen := at[k]; seen && first < before {
				out[first].controls = append(out[first].controls, c)
				continue
			}
			// An id that is repeated within one profile is several controls.
			at[k] = len(out)
			out = append(out, layered{p, []*Control{c}})
		}
	}
	return out
}

// outermost follows parent_profile to the name of the outermost overlay.
func outermost(name string, parents map[string]string) string {
	for range parents { // a circle, which only a forged document has, ends
		over, ok := parents[name]
		if _, listed := parents[over]; !ok || over == "" || !listed {
			break
		}
		name = over
	}
	return name
}

// Judge is a control's status as Heimdall has it: StatusOf, except that a
// control without errors whose impact is 0, or that was skipped by a waiver,
// is NotApplicable.
func Judge(c *Control) Status {
	s := StatusOf(c.Results)
	if c.Waived() || c.Impact == 0 {
		for i := range c.Results {
			if c.Results[i].Verdict() == Error {
				return Error
			}
		}
		return NotApplicable
	}
	return s
}

// Waived reports whether a waiver kept the control from being run: whether
// skipped_due_to_waiver is true by JavaScript's rules, which Heimdall reads
// it by.
func (c *Control) Waived() bool {
	v := c.WaiverData["skipped_due_to_waiver"]
	return v != nil && v != false && v != "" && v != 0.0
}

// SeverityOf is the tag severityoverride or severity in lower case, where it
// is a severity, and else what the impact says.
func SeverityOf(c *Control) Severity {
	for _, tag := range []string{"severityoverride", "severity"} {
		s, _ := c.Tags[tag].(string)
		switch s := Severity(strings.ToLower(s)); s {
		case Critical, High, Medium, Low, None:
			return s
		}
	}
	switch {
	case c.Impact < 0.1:
		return None
	case c.Impact < 0.4:
		return Low
	case c.Impact < 0.7:
		return Medium
	case c.Impact < 0.9:
		return High
	}
	return Critical
}

// Text is the tag or the description with a label such as check or fix, or
// "".
func (c *Control) Text(label string) string {
	if s, ok := c.Tags[label].(string); ok && s != "" {
		return s
	}
	for _, d := range c.Descriptions {
		if d.Label == label {
			return d.Data
		}
	}
	return ""
}

// TagList is a tag that holds a text or a list of texts, such as nist or cci.
func (c *Control) TagList(name string) []string {
	switch v := c.Tags[name].(type) {
	case string:
		return []string{v}
	case []string:
		return v
	case []any:
		var out []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// Verdict is a result's status, with InSpec's way of writing an error: failed
// with a backtrace.
func (r *Result) Verdict() Status {
	if len(r.Backtrace) > 0 {
		return Error
	}
	return r.Status
}

// Said is what the result says beside its description: the message, or why it
// was skipped.
func (r *Result) Said() string {
	return strings.TrimSpace(cmp.Or(r.Message, r.SkipMessage, r.Exception))
}

// maxRunTime is the most seconds that a result is believed to have taken.
const maxRunTime = 1e6

// Span is when the first result began and the last one ended; both are zero
// where no result tells its time.
func (r *Results) Span() (start, end time.Time) {
	for i := range r.Profiles {
		for j := range r.Profiles[i].Controls {
			for _, res := range r.Profiles[i].Controls[j].Results {
				t, ok := res.Started()
				if !ok {
					continue
				}
				if start.IsZero() || t.Before(start) {
					start = t
				}
				if res.RunTime > 0 && res.RunTime < maxRunTime {
					t = t.Add(time.Duration(res.RunTime * float64(time.Second)))
				}
				if t.After(end) {
					end = t
				}
			}
		}
	}
	return start, end
}

// Started reads start_time, as InSpec, Heimdall and Reeve write it.
func (r *Result) Started() (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05 -0700", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, r.StartTime); err == nil && t.Year() >= 1 && t.Year() <= 9999 {
			return t, true
		}
	}
	return time.Time{}, false
}

// Tally counts findings by status.
type Tally struct {
	Passed        int `json:"passed"`
	Failed        int `json:"failed"`
	Skipped       int `json:"skipped"`
	Error         int `json:"error"`
	NotApplicable int `json:"not_applicable"`
}

// Count tallies findings.
func Count(findings []Finding) Tally {
	var n Tally
	for _, f := range findings {
		switch f.Status {
		case Passed:
			n.Passed++
		case Failed:
			n.Failed++
		case Skipped:
			n.Skipped++
		case NotApplicable:
			n.NotApplicable++
		default:
			n.Error++
		}
	}
	return n
}

// Compliance is the rounded percentage of controls that passed among those
// that apply, as SAF computes it; 0 where none does.
func (n Tally) Compliance() int {
	all := n.Passed + n.Failed + n.Skipped + n.Error
	if all == 0 {
		return 0
	}
	return int(math.Floor(100*float64(n.Passed)/float64(all) + 0.5))
}
