// Package sarif writes results as SARIF 2.1.0 (OASIS), for code scanning and
// editors.
//
// Every control is a rule, whose property status tells how it fared. Only what
// somebody has to look at is a result: a control that failed (kind fail) or
// that could not be judged (kind open, and a notification of the run), because
// viewers such as GitHub's ignore the kind and would show a passed control as
// an alert. A result points at the control's source, for viewers refuse one
// without a file, and names the target as its logical location.
package sarif

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/url"
	"path"
	"regexp"
	"strings"

	"reeve.dev/reeve/hdf"
)

const (
	schema  = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	home    = "https://reeve.dev"
	maxTags = 20    // of a rule; GitHub refuses more
	maxText = 16000 // bytes of a result's message
)

type document struct {
	Schema  string `json:"$schema"`
	Version string `json:"version"`
	Runs    []run  `json:"runs"`
}

type run struct {
	Tool        tool         `json:"tool"`
	Invocations []invocation `json:"invocations"`
	Results     []result     `json:"results"`
	ColumnKind  string       `json:"columnKind"`
	Properties  runProps     `json:"properties"`
}

type runProps struct {
	Engine   string       `json:"engineVersion,omitempty"` // which needn't be Reeve's
	Platform hdf.Platform `json:"platform"`
	Profiles []profile    `json:"profiles"`
}

type profile struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
}

type tool struct {
	Driver driver `json:"driver"`
}

type driver struct {
	Name           string `json:"name"`
	InformationURI string `json:"informationUri"`
	Rules          []rule `json:"rules"`
}

type rule struct {
	ID               string    `json:"id"`
	ShortDescription *text     `json:"shortDescription,omitempty"`
	FullDescription  *text     `json:"fullDescription,omitempty"`
	Help             *text     `json:"help,omitempty"`
	Configuration    config    `json:"defaultConfiguration"`
	Properties       ruleProps `json:"properties"`
}

type config struct {
	Level string `json:"level"`
}

type ruleProps struct {
	Tags             []string     `json:"tags"`
	SecuritySeverity string       `json:"security-severity"`
	Severity         hdf.Severity `json:"severity"`
	Impact           float64      `json:"impact"`
	Profile          string       `json:"profile"`
	Status           hdf.Status   `json:"status"`
	Precision        string       `json:"precision"`
}

type text struct {
	Text string `json:"text"`
}

type invocation struct {
	ExecutionSuccessful bool           `json:"executionSuccessful"`
	StartTimeUTC        string         `json:"startTimeUtc,omitempty"`
	EndTimeUTC          string         `json:"endTimeUtc,omitempty"`
	Notifications       []notification `json:"toolExecutionNotifications,omitempty"`
}

type notification struct {
	Level   string   `json:"level"`
	Message text     `json:"message"`
	Rule    *ruleRef `json:"associatedRule,omitempty"`
}

type ruleRef struct {
	ID    string `json:"id"`
	Index int    `json:"index"`
}

type result struct {
	RuleID       string            `json:"ruleId"`
	RuleIndex    int               `json:"ruleIndex"`
	Kind         string            `json:"kind"`
	Level        string            `json:"level"`
	Message      text              `json:"message"`
	Locations    []location        `json:"locations"`
	Fingerprints map[string]string `json:"partialFingerprints"`
}

type location struct {
	Physical physical  `json:"physicalLocation"`
	Logical  []logical `json:"logicalLocations,omitempty"`
}

type physical struct {
	Artifact artifact `json:"artifactLocation"`
	Region   *region  `json:"region,omitempty"`
}

type artifact struct {
	URI string `json:"uri"`
}

type region struct {
	StartLine int `json:"startLine"`
}

type logical struct {
	FullyQualifiedName string `json:"fullyQualifiedName"`
	Kind               string `json:"kind"`
}

// Write writes results.
func Write(w io.Writer, r *hdf.Results) error {
	out := run{
		Tool:       tool{driver{Name: "Reeve", InformationURI: home, Rules: []rule{}}},
		Results:    []result{},
		ColumnKind: "unicodeCodePoints",
		Properties: runProps{Engine: r.Version, Platform: r.Platform, Profiles: []profile{}},
	}
	inv := invocation{ExecutionSuccessful: true}
	if start, end := r.Span(); !start.IsZero() {
		inv.StartTimeUTC, inv.EndTimeUTC = start.UTC().Format("2006-01-02T15:04:05.000Z"), end.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	for _, p := range r.Profiles {
		out.Properties.Profiles = append(out.Properties.Profiles, profile{p.Name, p.Version, p.SHA256})
		if p.Status == "skipped" || p.Status == "failed" {
			inv.Notifications = append(inv.Notifications, notification{Level: "warning", Message: plain(cmp.Or(p.StatusMessage, p.SkipMessage, "profile "+p.Name+" was not run"))})
		}
	}
	ids := map[string]bool{}
	for i, f := range r.Findings() {
		id := f.Control.ID
		if ids[id] {
			id = f.Profile.Name + "/" + id
		}
		ids[id] = true
		out.Tool.Driver.Rules = append(out.Tool.Driver.Rules, newRule(id, f))
		if f.Status != hdf.Failed && f.Status != hdf.Error {
			continue
		}
		found := newResult(r, id, i, f)
		out.Results = append(out.Results, found)
		if f.Status == hdf.Error {
			inv.Notifications = append(inv.Notifications, notification{Level: "error", Message: found.Message, Rule: &ruleRef{id, i}})
		}
	}
	out.Invocations = []invocation{inv}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(document{Schema: schema, Version: "2.1.0", Runs: []run{out}})
}

func newRule(id string, f hdf.Finding) rule {
	c := f.Control
	out := rule{ID: id, Configuration: config{level(f.Severity)}, Properties: ruleProps{
		Tags: []string{"security"}, SecuritySeverity: score[f.Severity], Severity: f.Severity, Impact: c.Impact,
		Profile: f.Profile.Name, Status: f.Status, Precision: "very-high",
	}}
	seen := map[string]bool{}
	for _, t := range append(c.TagList("nist"), c.TagList("cci")...) {
		if t != "" && !seen[t] && len(out.Properties.Tags) < maxTags {
			seen[t] = true
			out.Properties.Tags = append(out.Properties.Tags, t)
		}
	}
	if c.Title != "" {
		out.ShortDescription = &text{plain(c.Title).Text}
	}
	if c.Desc != "" {
		out.FullDescription = &text{plain(c.Desc).Text}
	}
	var help []string
	for _, label := range []string{"check", "fix"} {
		if s := c.Text(label); s != "" {
			help = append(help, strings.ToUpper(label[:1])+label[1:]+": "+s)
		}
	}
	if len(help) > 0 {
		out.Help = &text{plain(strings.Join(help, "\n\n")).Text}
	}
	return out
}

func newResult(r *hdf.Results, id string, index int, f hdf.Finding) result {
	out := result{RuleID: id, RuleIndex: index, Kind: "fail", Level: level(f.Severity), Message: plain(message(f))}
	if f.Status == hdf.Error {
		out.Kind, out.Level = "open", "none" // SARIF 3.27.10: no other level goes with a kind that isn't fail
	}
	where := location{Physical: physical{Artifact: artifact{uri(f)}}}
	if n := f.Control.SourceLocation.Line; n > 0 {
		where.Physical.Region = &region{n}
	}
	if r.Platform.TargetID != "" {
		where.Logical = []logical{{r.Platform.TargetID, "resource"}}
	}
	out.Locations = []location{where}
	sum := sha256.Sum256([]byte(f.Profile.Name + "\x00" + f.Control.ID + "\x00" + r.Platform.TargetID))
	out.Fingerprints = map[string]string{"reeveControl/v1": hex.EncodeToString(sum[:])}
	return out
}

// message tells what failed: the control's title and the checks that didn't
// pass.
func message(f hdf.Finding) string {
	parts := []string{cmp.Or(f.Control.Title, f.Control.ID)}
	if len(f.Control.Results) == 0 {
		parts = append(parts, "No checks: the control says nothing that could be judged.")
	}
	size := 0
	for i := range f.Control.Results {
		res := &f.Control.Results[i]
		if s := res.Verdict(); s == hdf.Passed || s == hdf.Skipped {
			continue
		}
		part := strings.TrimSpace(res.CodeDesc + "\n" + res.Said())
		if size += len(part); size > maxText {
			parts = append(parts, "and more")
			break
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "\n\n")
}

var link = regexp.MustCompile(`\[([^\[\]]*)\]\(`)

// plain escapes what SARIF would read as a link in plain text (3.11.6).
func plain(s string) text { return text{link.ReplaceAllString(s, `\[$1\](`)} }

func uri(f hdf.Finding) string {
	ref := path.Clean(strings.ReplaceAll(f.Control.SourceLocation.Ref, `\`, "/"))
	switch {
	case ref == "." || strings.HasPrefix(ref, ".."):
		ref = f.Profile.Name
	case path.IsAbs(ref):
		return (&url.URL{Scheme: "file", Path: ref}).String()
	}
	return (&url.URL{Path: ref}).String()
}

func level(s hdf.Severity) string {
	switch s {
	case hdf.Critical, hdf.High:
		return "error"
	case hdf.Medium:
		return "warning"
	}
	return "note"
}

// score is a severity on the scale of CVSS, in the middle of its band.
var score = map[hdf.Severity]string{
	hdf.Critical: "9.5", hdf.High: "8.0", hdf.Medium: "5.5", hdf.Low: "2.0", hdf.None: "0.0",
}
