// Package html writes results as one page for people: to read in a browser,
// to filter by status and to print. It is a single file without scripts that
// asks nothing of any server, and says so to the browser with a content
// security policy, so that a hostile profile or target can't make it do
// anything either.
package html

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"

	"reeve.dev/reeve/hdf"
)

//go:embed page.html
var source string

var page = template.Must(template.New("page").Parse(source))

// view is what the page shows.
type view struct {
	Title      string
	Platform   string
	Target     string
	Time       string
	Duration   string
	Version    string
	Compliance int
	Tallies    []tally
	Bar        []tally // those that are not zero
	Severities []row
	Profiles   []profile
}

type tally struct {
	Status hdf.Status
	Name   string
	Count  int
	Width  string // of the bar, in per cent
}

type row struct {
	Severity hdf.Severity
	Counts   []int
}

type profile struct {
	Name, Version, Title, Summary, Message string
	Controls                               []control
}

type control struct {
	ID, Title, Desc, Code, Source string
	Status                        hdf.Status
	StatusName                    string
	Severity                      hdf.Severity
	Impact                        string
	Texts                         []hdf.Description
	Tags                          []string
	Waiver                        string
	Results                       []result
}

type result struct {
	Status   hdf.Status
	CodeDesc string
	Said     string
	Took     string
}

var names = map[hdf.Status]string{
	hdf.Passed: "Passed", hdf.Failed: "Failed", hdf.Skipped: "Not reviewed", hdf.Error: "Could not be judged", hdf.NotApplicable: "Not applicable",
}

// order has what needs attention first.
var order = []hdf.Status{hdf.Failed, hdf.Error, hdf.Skipped, hdf.Passed, hdf.NotApplicable}

// Write writes results.
func Write(w io.Writer, r *hdf.Results) error {
	var b bytes.Buffer
	if err := page.Execute(&b, newView(r)); err != nil {
		return err
	}
	_, err := w.Write(bytes.Map(text, b.Bytes()))
	return err
}

// text replaces what HTML doesn't take: control characters, and what is no
// UTF-8, which bytes.Map reads as U+FFFD.
func text(r rune) rune {
	if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
		return '\uFFFD'
	}
	return r
}

func newView(r *hdf.Results) view {
	findings := r.Findings()
	v := view{
		Platform: strings.TrimSpace(r.Platform.Name + " " + r.Platform.Release), Target: r.Platform.TargetID,
		Duration: fmt.Sprintf("%.2f s", r.Statistics.Duration), Version: r.Version,
		Compliance: hdf.Count(findings).Compliance(),
	}
	if start, _ := r.Span(); !start.IsZero() {
		v.Time = start.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	count := counts(findings)
	for i, s := range order {
		t := tally{Status: s, Name: names[s], Count: count[i]}
		if len(findings) > 0 {
			t.Width = fmt.Sprintf("%.3f", 100*float64(t.Count)/float64(len(findings)))
		}
		v.Tallies = append(v.Tallies, t)
		if t.Count > 0 {
			v.Bar = append(v.Bar, t)
		}
	}
	for _, severity := range []hdf.Severity{hdf.Critical, hdf.High, hdf.Medium, hdf.Low, hdf.None} {
		var some []hdf.Finding
		for _, f := range findings {
			if f.Severity == severity {
				some = append(some, f)
			}
		}
		if len(some) > 0 {
			v.Severities = append(v.Severities, row{severity, counts(some)})
		}
	}
	var titles []string
	for i := range r.Profiles {
		p := &r.Profiles[i]
		out := profile{Name: p.Name, Version: p.Version, Title: p.Title, Summary: p.Summary, Message: p.StatusMessage}
		for _, f := range findings {
			if f.Profile == p {
				out.Controls = append(out.Controls, newControl(f))
			}
		}
		if p.ParentProfile != "" && len(out.Controls) == 0 {
			continue
		}
		titles = append(titles, p.Name)
		v.Profiles = append(v.Profiles, out)
	}
	v.Title = strings.Join(titles, ", ")
	return v
}

func counts(findings []hdf.Finding) []int {
	out := make([]int, len(order))
	for _, f := range findings {
		for i, s := range order {
			if f.Status == s {
				out[i]++
			}
		}
	}
	return out
}

func newControl(f hdf.Finding) control {
	c := f.Control
	out := control{
		ID: c.ID, Title: c.Title, Desc: c.Desc, Code: c.Code, Status: f.Status, StatusName: names[f.Status],
		Severity: f.Severity, Impact: fmt.Sprint(c.Impact), Tags: append(c.TagList("nist"), c.TagList("cci")...),
	}
	if c.SourceLocation.Ref != "" {
		out.Source = fmt.Sprintf("%s:%d", c.SourceLocation.Ref, c.SourceLocation.Line)
	}
	for _, label := range []string{"rationale", "check", "fix", "caveat"} {
		if s := c.Text(label); s != "" {
			out.Texts = append(out.Texts, hdf.Description{Label: strings.ToUpper(label[:1]) + label[1:], Data: s})
		}
	}
	if why, ok := c.WaiverData["justification"].(string); ok {
		out.Waiver = why
	}
	for i := range c.Results {
		res := &c.Results[i]
		out.Results = append(out.Results, result{res.Verdict(), res.CodeDesc, res.Said(), fmt.Sprintf("%.1f ms", 1000*res.RunTime)})
	}
	return out
}
