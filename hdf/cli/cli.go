// Package cli prints results for a person at a terminal, in the manner that
// InSpec's users know: each profile's head, a line for each control and each
// result below it, and two lines of summary. Beyond InSpec it has a sign of
// its own, !, for what could not be judged.
package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"reeve.dev/reeve/hdf"
)

// looks are the sign and the colour of a status.
var looks = map[hdf.Status]struct{ sign, color string }{
	hdf.Passed:  {"✔", "\x1b[38;5;41m"},
	hdf.Failed:  {"×", "\x1b[38;5;9m"},
	hdf.Skipped: {"↺", "\x1b[38;5;247m"},
	hdf.Error:   {"!", "\x1b[38;5;214m"},
}

const reset = "\x1b[0m"

// generated begins the ids of checks that stand outside any control.
const generated = "(generated from "

// Write prints sealed results; color adds the escapes of a terminal. What
// came from a target is printed without its control characters, so that it
// can't drive the terminal.
func Write(w io.Writer, r *hdf.Results, color bool) error {
	p := printer{w: bufio.NewWriter(w), color: color}
	findings := r.Findings()
	for i := range r.Profiles {
		p.profile(r, &r.Profiles[i], findings)
	}
	p.summary(findings)
	return p.w.Flush()
}

type printer struct {
	w     *bufio.Writer
	color bool
}

func (p *printer) profile(r *hdf.Results, prof *hdf.Profile, findings []hdf.Finding) {
	var controls []*hdf.Control
	for _, f := range findings {
		if f.Profile == prof {
			controls = append(controls, f.Control)
		}
	}
	if len(controls) == 0 && prof.ParentProfile != "" && prof.Status != "skipped" {
		return // its overlay has shown its controls
	}
	name := prof.Name
	if prof.Title != "" {
		name = prof.Title + " (" + prof.Name + ")"
	}
	version := prof.Version
	if version == "" {
		version = "(not specified)"
	}
	fmt.Fprintf(p.w, "\nProfile:   %s\nVersion:   %s\n", clean(name), clean(version))
	if r.Platform.TargetID != "" {
		fmt.Fprintf(p.w, "Target ID: %s\n", clean(r.Platform.TargetID))
	}
	fmt.Fprintf(p.w, "Platform:  %s %s\n\n", clean(r.Platform.Name), clean(r.Platform.Release))
	if prof.Status == "skipped" {
		fmt.Fprintf(p.w, "     %s\n\n", clean(prof.StatusMessage))
		return
	}
	// Checks outside any control come last, as InSpec prints them.
	for _, anonymous := range []bool{false, true} {
		for _, c := range controls {
			if strings.HasPrefix(c.ID, generated) == anonymous {
				p.control(c)
			}
		}
	}
	if len(controls) == 0 {
		fmt.Fprintf(p.w, "     No tests executed.\n")
	}
}

func (p *printer) control(c *hdf.Control) {
	title := c.Title
	if title == "" && len(c.Results) > 0 && strings.HasPrefix(c.ID, generated) {
		title = c.Results[0].CodeDesc
	} else {
		title = c.ID + ": " + title
	}
	p.line(c.Status, 2, title)
	if len(c.Results) == 0 {
		p.line(hdf.Error, 5, "No checks: the control says nothing that could be judged.")
	}
	for _, res := range c.Results {
		msg := res.CodeDesc
		if res.Status == hdf.Skipped {
			msg = res.SkipMessage
		}
		if res.Message != "" {
			msg += "\n" + res.Message
		}
		p.line(res.Verdict(), 5, msg)
	}
}

func (p *printer) line(s hdf.Status, indent int, text string) {
	look, ok := looks[s]
	if !ok {
		look = looks[hdf.Error]
	}
	pad := strings.Repeat(" ", indent)
	body := pad + look.sign + "  " + strings.ReplaceAll(strings.TrimSpace(clean(text)), "\n", "\n"+pad)
	body = strings.ReplaceAll(body, "\n"+pad+"\n", "\n\n")
	if p.color {
		body = look.color + body + reset
	}
	fmt.Fprintln(p.w, body)
}

func (p *printer) summary(findings []hdf.Finding) {
	var controls, tests hdf.Counts
	for _, f := range findings {
		if !strings.HasPrefix(f.Control.ID, generated) {
			count(&controls, f.Control.Status)
		}
		for i := range f.Control.Results {
			count(&tests, f.Control.Results[i].Verdict())
		}
	}
	fmt.Fprintf(p.w, "\nProfile Summary: %s, %s, %s%s\n",
		p.part(hdf.Passed, controls.Passed, "successful control", "successful controls"),
		p.part(hdf.Failed, controls.Failed, "control failure", "control failures"),
		p.part(hdf.Skipped, controls.Skipped, "control skipped", "controls skipped"),
		p.errors(controls.Error, "control could not be judged", "controls could not be judged"))
	fmt.Fprintf(p.w, "Test Summary: %s, %s, %s%s\n",
		p.part(hdf.Passed, tests.Passed, "successful", "successful"),
		p.part(hdf.Failed, tests.Failed, "failure", "failures"),
		p.part(hdf.Skipped, tests.Skipped, "skipped", "skipped"),
		p.errors(tests.Error, "error", "errors"))
}

func count(n *hdf.Counts, s hdf.Status) {
	switch s {
	case hdf.Passed:
		n.Passed++
	case hdf.Failed:
		n.Failed++
	case hdf.Skipped:
		n.Skipped++
	default:
		n.Error++
	}
}

func (p *printer) part(s hdf.Status, n int, one, many string) string {
	words := many
	if n == 1 {
		words = one
	}
	text := fmt.Sprintf("%d %s", n, words)
	if p.color && n > 0 {
		text = looks[s].color + text + reset
	}
	return text
}

func (p *printer) errors(n int, one, many string) string {
	if n == 0 {
		return ""
	}
	return ", " + p.part(hdf.Error, n, one, many)
}

// clean drops what could drive a terminal; line ends and tabs stay.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}
