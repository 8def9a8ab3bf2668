// Package junit writes results as the XML that CI systems show as tests: a
// test suite for each profile and a test case for each result, named as
// InSpec's JUnit reporters name them.
//
// The format has no specification; this keeps to what the schemas of Jenkins
// and of Ant's JUnitReport share and to what GitLab and GitHub's viewers read.
// A control that could not be judged is an error, never a passed test, and so
// is a control without results.
package junit

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"reeve.dev/reeve/hdf"
)

type suites struct {
	XMLName xml.Name `xml:"testsuites"`
	Suites  []suite  `xml:"testsuite"`
}

type suite struct {
	Name       string     `xml:"name,attr"`
	Package    string     `xml:"package,attr"`
	ID         int        `xml:"id,attr"`
	Tests      int        `xml:"tests,attr"`
	Failures   int        `xml:"failures,attr"`
	Errors     int        `xml:"errors,attr"`
	Skipped    int        `xml:"skipped,attr"`
	Time       string     `xml:"time,attr"`
	Timestamp  string     `xml:"timestamp,attr,omitempty"`
	Hostname   string     `xml:"hostname,attr"`
	Properties []property `xml:"properties>property"`
	Cases      []testcase `xml:"testcase"`
	Out        string     `xml:"system-out"`
	Err        string     `xml:"system-err"`
}

type property struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type testcase struct {
	Name      string   `xml:"name,attr"`
	ClassName string   `xml:"classname,attr"`
	Time      string   `xml:"time,attr"`
	Skipped   *problem `xml:"skipped"`
	Error     *problem `xml:"error"`
	Failure   *problem `xml:"failure"`
}

type problem struct {
	Message string `xml:"message,attr,omitempty"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// Write writes results.
func Write(w io.Writer, r *hdf.Results) error {
	var all suites
	start, _ := r.Span()
	findings := r.Findings()
	for i := range r.Profiles {
		p := &r.Profiles[i]
		s := suite{
			Name: p.Name, Package: p.Name, ID: len(all.Suites),
			Hostname:   cmp.Or(r.Platform.TargetID, "localhost"),
			Properties: []property{{"platform", strings.TrimSpace(r.Platform.Name + " " + r.Platform.Release)}, {"profile.version", p.Version}},
		}
		if !start.IsZero() {
			s.Timestamp = start.UTC().Format("2006-01-02T15:04:05")
		}
		var time float64
		for _, f := range findings {
			if f.Profile == p {
				time += s.add(p, f)
			}
		}
		if len(s.Cases) == 0 && p.ParentProfile != "" {
			continue // the overlay's suite has its controls
		}
		if p.Status == "skipped" {
			s.Out = cmp.Or(p.SkipMessage, p.StatusMessage)
		}
		s.Time = seconds(time)
		all.Suites = append(all.Suites, s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// add makes the cases of one control and returns the seconds that it took.
func (s *suite) add(p *hdf.Profile, f hdf.Finding) float64 {
	class := p.Name + "." + f.Control.ID
	if len(f.Control.Results) == 0 {
		s.put(testcase{Name: cmp.Or(f.Control.Title, f.Control.ID), ClassName: class, Time: seconds(0)},
			f.Status, "", problem{Message: "No checks: the control says nothing that could be judged."})
		return 0
	}
	var time float64
	for i := range f.Control.Results {
		res := &f.Control.Results[i]
		time += res.RunTime
		said := res.Said()
		text := problem{Message: firstLine(said), Text: said}
		if text.Message == text.Text {
			text.Text = ""
		}
		if len(res.Backtrace) > 0 {
			text.Text = said + "\n" + strings.Join(res.Backtrace, "\n")
		}
		s.put(testcase{Name: res.CodeDesc, ClassName: class, Time: seconds(res.RunTime)}, res.Verdict(), res.Exception, text)
	}
	return time
}

func (s *suite) put(c testcase, status hdf.Status, exception string, text problem) {
	s.Tests++
	switch status {
	case hdf.Passed:
	case hdf.Failed:
		s.Failures++
		text.Type = cmp.Or(exception, "failed")
		c.Failure = &text
	case hdf.Skipped, hdf.NotApplicable:
		s.Skipped++
		c.Skipped = &text
	default:
		s.Errors++
		text.Type = cmp.Or(exception, "error")
		c.Error = &text
	}
	s.Cases = append(s.Cases, c)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func seconds(s float64) string { return fmt.Sprintf("%.3f", s) }
