// Package golden reads what the real InSpec said of a profile on a known
// target and holds our results against it, control by control and word by
// word. Left out of the comparison is what differs between two runs of InSpec
// itself (addresses, random ids, counters of classes) and what isn't part of a
// verdict: diffs, Ruby's hints on its own source, the insides of InSpec's
// objects.
package golden

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"reeve.dev/reeve/hdf"
)

// Verdicts is one run of InSpec.
type Verdicts struct {
	Source        string // repository on GitHub
	Path          string // of the profile in it
	Ref           string // commit
	Target        string // "container" or "vm"
	As            string // system that the target posed as, e.g. "rhel-9.5"
	Inputs        map[string]any
	Status        string  // "skipped": the profile doesn't support the target
	StatusMessage string  `json:"status_message"`
	Wall          float64 `json:"wall_s"`
	Commands      int
	RSS           float64 `json:"peak_rss_mb"`
	Controls      []Control
}

// Control is a verdict: its status, impact and results.
type Control struct {
	ID      string
	Impact  float64
	Status  string // "no-result" where InSpec gave none
	Results []Result
}

// Result is one line of a control.
type Result struct{ Status, CodeDesc, SkipMessage, Message string }

// UnmarshalJSON reads [status, code_desc, skip_message, message], where null
// stands for none.
func (r *Result) UnmarshalJSON(data []byte) error {
	var row [4]*string
	if err := json.Unmarshal(data, &row); err != nil {
		return err
	}
	for i, to := range []*string{&r.Status, &r.CodeDesc, &r.SkipMessage, &r.Message} {
		if row[i] != nil {
			*to = *row[i]
		}
	}
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (r Result) MarshalJSON() ([]byte, error) {
	return json.Marshal([4]string{r.Status, r.CodeDesc, r.SkipMessage, r.Message})
}

// Read reads a file of verdicts.
func Read(file string) (*Verdicts, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	v := &Verdicts{}
	if err := json.Unmarshal(data, v); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return v, nil
}

// Of is our verdict in the form that golden files have.
func Of(p hdf.Profile) []Control {
	out := make([]Control, 0, len(p.Controls))
	for _, c := range p.Controls {
		v := Control{ID: generatedID.ReplaceAllString(c.ID, " *)"), Impact: c.Impact, Status: string(c.Status)}
		if len(c.Results) == 0 {
			v.Status = "no-result"
		}
		for _, r := range c.Results {
			row := Result{Status: string(r.Status), CodeDesc: r.CodeDesc, Message: r.Message}
			if r.Status == hdf.Skipped {
				row.SkipMessage = r.SkipMessage
			}
			v.Results = append(v.Results, row)
		}
		out = append(out, v)
	}
	return out
}

// Comparison is what Compare found.
type Comparison struct {
	Controls, ControlsEqual int // by status
	Results, ResultsEqual   int // by status and code_desc
	WordsEqual              int // of those, by skip message and message, too
	FalsePasses             []string
	Differences             []Difference
}

// Difference is one thing that InSpec said otherwise. Want or Got is empty
// where one side has nothing.
type Difference struct {
	Control   string
	What      string // "status", "impact", "result" or "words"
	Want, Got string
}

// Compare holds got against want. Results of a control are matched wherever
// they stand in it. A false pass is a control that we pass and InSpec doesn't.
func Compare(want, got []Control) Comparison {
	var out Comparison
	ours := map[string]Control{}
	for _, c := range got {
		ours[c.ID] = c
	}
	for _, w := range want {
		g, ok := ours[w.ID]
		delete(ours, w.ID)
		if !ok {
			g.Status = "missing"
		}
		out.control(w, g)
	}
	for _, c := range got {
		if _, ok := ours[c.ID]; ok {
			out.differ(c.ID, "status", "missing", c.Status)
		}
	}
	return out
}

func (out *Comparison) differ(id, what, want, got string) {
	out.Differences = append(out.Differences, Difference{id, what, want, got})
}

func (out *Comparison) control(w, g Control) {
	out.Controls++
	if w.Status == g.Status {
		out.ControlsEqual++
	} else {
		out.differ(w.ID, "status", w.Status, g.Status)
		if g.Status == string(hdf.Passed) {
			out.FalsePasses = append(out.FalsePasses, w.ID)
		}
	}
	if w.Impact != g.Impact && g.Status != "missing" {
		out.differ(w.ID, "impact", fmt.Sprint(w.Impact), fmt.Sprint(g.Impact))
	}
	rest := make([]Result, len(g.Results))
	for i, r := range g.Results {
		rest[i] = clean(r)
	}
	take := func(equal func(Result) bool) (Result, bool) {
		for i, r := range rest {
			if equal(r) {
				rest = append(rest[:i], rest[i+1:]...)
				return r, true
			}
		}
		return Result{}, false
	}
	var left []Result
	for _, r := range w.Results {
		r = clean(r)
		out.Results++
		if _, ok := take(func(o Result) bool { return o == r }); ok {
			out.ResultsEqual++
			out.WordsEqual++
			continue
		}
		left = append(left, r)
	}
	for _, r := range left {
		if o, ok := take(func(o Result) bool { return o.Status == r.Status && o.CodeDesc == r.CodeDesc }); ok {
			out.ResultsEqual++
			out.differ(w.ID, "words", r.CodeDesc+" | "+r.SkipMessage+" | "+r.Message, o.SkipMessage+" | "+o.Message)
			continue
		}
		got := ""
		if len(rest) > 0 {
			got = text(rest[0])
			rest = rest[1:]
		}
		out.differ(w.ID, "result", text(r), got)
	}
	for _, r := range rest {
		out.differ(w.ID, "result", "", text(r))
	}
}

func text(r Result) string {
	return strings.TrimRight(r.Status+" | "+r.CodeDesc+" | "+r.SkipMessage+" | "+r.Message, "| ")
}

// shown is how much of a message the golden files keep.
const shown = 200

func clean(r Result) Result {
	for _, s := range []*string{&r.CodeDesc, &r.SkipMessage, &r.Message} {
		for _, n := range noise {
			*s = n.re.ReplaceAllString(*s, n.with)
		}
	}
	r.Message = strings.TrimRight(strings.TrimSuffix(r.Message, "…"), "\n")
	if utf8.RuneCountInString(r.Message) >= shown {
		r.Message = string([]rune(r.Message)[:shown])
	}
	return r
}

var (
	generatedID = regexp.MustCompile(` [0-9a-f]{32}\)$`)
	noise       = []struct {
		re   *regexp.Regexp
		with string
	}{
		{regexp.MustCompile(`(?s)\n+Diff:.*`), ""},
		{regexp.MustCompile(`(?s)\n\n +inner_subject\.send\(attr\).*`), ""},
		{regexp.MustCompile(`(?s)\nDid you mean\?.*`), ""},
		{regexp.MustCompile(`0x[0-9a-f]+`), "0x0"},
		{regexp.MustCompile(`(last_change is expected to cmp <= )\d{5}`), "${1}DAY"}, // of the run
		{regexp.MustCompile(`(?s)(got: +#<Date: ).*`), "${1}DAY"},
		{regexp.MustCompile(`^Control Source Code Error [^/]+/`), "Control Source Code Error "}, // the profile's folder
		{regexp.MustCompile(`(?s)#<Inspec::Rule\b.*`), "#<Inspec::Rule>"},
		{regexp.MustCompile(`(?s)#<(#<Class:0x0>|Inspec::Resources::\w+):0x0 .*`), "#<resource>"},
		{regexp.MustCompile(`(RSpec::ExampleGroups::\w+?)_\d+ `), "$1 "},
	}
)
