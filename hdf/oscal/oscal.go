// Package oscal writes results as OSCAL Assessment Results (NIST), model
// version 1.1.3, in JSON.
//
// Each profile is one result. Each of its controls is an observation, with its
// checks as evidence, and a finding whose target is the control as an
// objective: satisfied only if it passed, and with the reason other where it
// was not reviewed, did not apply or could not be judged. The controls of
// NIST SP 800-53 that a control's tag nist names are properties of the finding.
//
// Identifiers are derived from the results (UUID version 5), so that the same
// results make the same document.
package oscal

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"reeve.dev/reeve/hdf"
)

// Version is the version of the OSCAL models.
const Version = "1.1.3"

// ns is the namespace of the properties that OSCAL doesn't define.
const ns = "https://reeve.dev/ns/oscal"

type document struct {
	Results assessment `json:"assessment-results"`
}

type assessment struct {
	UUID       uuid.UUID  `json:"uuid"`
	Metadata   metadata   `json:"metadata"`
	ImportAP   href       `json:"import-ap"`
	Results    []result   `json:"results"`
	BackMatter backMatter `json:"back-matter"`
}

type metadata struct {
	Title        string `json:"title"`
	LastModified string `json:"last-modified"`
	Version      string `json:"version"`
	OSCALVersion string `json:"oscal-version"`
	Props        []prop `json:"props,omitempty"`
}

type href struct {
	Href    string `json:"href"`
	Remarks string `json:"remarks,omitempty"`
}

type backMatter struct {
	Resources []resource `json:"resources"`
}

type resource struct {
	UUID        uuid.UUID `json:"uuid"`
	Title       string    `json:"title"`
	Description string    `json:"description"`
	Props       []prop    `json:"props,omitempty"`
}

type prop struct {
	Name  string `json:"name"`
	NS    string `json:"ns,omitempty"`
	Value string `json:"value"`
}

type result struct {
	UUID         uuid.UUID     `json:"uuid"`
	Title        string        `json:"title"`
	Description  string        `json:"description"`
	Start        string        `json:"start"`
	End          string        `json:"end"`
	Props        []prop        `json:"props,omitempty"`
	Local        local         `json:"local-definitions"`
	Reviewed     reviewed      `json:"reviewed-controls"`
	Observations []observation `json:"observations,omitempty"`
	Findings     []finding     `json:"findings,omitempty"`
	Remarks      string        `json:"remarks,omitempty"`
}

type local struct {
	Inventory []inventory `json:"inventory-items"`
}

type inventory struct {
	UUID        uuid.UUID `json:"uuid"`
	Description string    `json:"description"`
	Props       []prop    `json:"props,omitempty"`
}

type reviewed struct {
	Description string      `json:"description"`
	Selections  []selection `json:"control-selections"`
}

type selection struct {
	All struct{} `json:"include-all"`
}

type observation struct {
	UUID        uuid.UUID  `json:"uuid"`
	Title       string     `json:"title"`
	Description string     `json:"description"`
	Props       []prop     `json:"props,omitempty"`
	Methods     []string   `json:"methods"`
	Types       []string   `json:"types"`
	Subjects    []subject  `json:"subjects"`
	Evidence    []evidence `json:"relevant-evidence,omitempty"`
	Collected   string     `json:"collected"`
}

type subject struct {
	UUID uuid.UUID `json:"subject-uuid"`
	Type string    `json:"type"`
}

type evidence struct {
	Description string `json:"description"`
	Props       []prop `json:"props,omitempty"`
	Remarks     string `json:"remarks,omitempty"`
}

type finding struct {
	UUID        uuid.UUID `json:"uuid"`
	Title       string    `json:"title"`
	Description string    `json:"description"`
	Props       []prop    `json:"props,omitempty"`
	Target      target    `json:"target"`
	Related     []related `json:"related-observations"`
}

type target struct {
	Type   string `json:"type"`
	ID     string `json:"target-id"`
	Title  string `json:"title,omitempty"`
	Status status `json:"status"`
}

type status struct {
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Remarks string `json:"remarks,omitempty"`
}

type related struct {
	UUID uuid.UUID `json:"observation-uuid"`
}

// writer holds what all parts of one document share.
type writer struct {
	r          *hdf.Results
	root       uuid.UUID
	start, end time.Time
}

// Write writes results.
func Write(w io.Writer, r *hdf.Results) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	d := writer{r: r, root: uuid.NewSHA1(uuid.NameSpaceURL, append([]byte(ns), sum[:]...))}
	if d.start, d.end = r.Span(); d.start.IsZero() {
		d.start = time.Now()
		d.end = d.start
	}
	plan := d.id("plan")
	doc := document{assessment{
		UUID: d.root,
		Metadata: metadata{
			Title:        "Assessment of " + d.subjectName(),
			LastModified: stamp(d.end), Version: stamp(d.end), OSCALVersion: Version,
			Props: props("engine-version", r.Version),
		},
		ImportAP: href{Href: "#" + plan.String(), Remarks: "The assessment was planned by nothing but the profiles that were run."},
		BackMatter: backMatter{[]resource{{
			UUID: plan, Title: "Profiles", Description: "The InSpec profiles that were run.", Props: profiles(r),
		}}},
	}}
	findings := r.Findings()
	for i := range r.Profiles {
		p := &r.Profiles[i]
		if res := d.result(p, findings); p.ParentProfile == "" || len(res.Findings) > 0 {
			doc.Results.Results = append(doc.Results.Results, res)
		}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(doc)
}

func (d *writer) id(parts ...string) uuid.UUID {
	return uuid.NewSHA1(d.root, []byte(strings.Join(parts, "\x00")))
}

func (d *writer) subjectName() string {
	return cmp.Or(d.r.Platform.TargetID, strings.TrimSpace(d.r.Platform.Name+" "+d.r.Platform.Release), "the target")
}

func (d *writer) result(p *hdf.Profile, findings []hdf.Finding) result {
	item := d.id("target", p.Name)
	out := result{
		UUID: d.id("result", p.Name), Title: cmp.Or(p.Title, p.Name), Description: cmp.Or(p.Summary, p.Title, p.Name),
		Start: stamp(d.start), End: stamp(d.end),
		Props: props("profile", p.Name, "profile-version", p.Version, "profile-sha256", p.SHA256),
		Local: local{[]inventory{{
			UUID: item, Description: d.subjectName(),
			Props: props("platform", d.r.Platform.Name, "platform-release", d.r.Platform.Release),
		}}},
		Reviewed: reviewed{"Every control of the profile " + p.Name + ".", []selection{{}}},
		Remarks:  cmp.Or(p.StatusMessage, p.SkipMessage),
	}
	for i, f := range findings {
		if f.Profile != p {
			continue
		}
		o := d.observation(i, f, item)
		out.Observations = append(out.Observations, o)
		out.Findings = append(out.Findings, d.finding(i, f, o.UUID))
	}
	return out
}

func (d *writer) observation(i int, f hdf.Finding, item uuid.UUID) observation {
	c := f.Control
	o := observation{
		UUID:  d.id("observation", f.Profile.Name, c.ID, fmt.Sprint(i)),
		Title: c.ID, Description: cmp.Or(c.Text("check"), c.Title, c.ID),
		Props:   props("control", c.ID, "status", string(f.Status)),
		Methods: []string{"TEST"}, Types: []string{"finding"},
		Subjects:  []subject{{item, "inventory-item"}},
		Collected: stamp(d.start),
	}
	for i := range c.Results {
		res := &c.Results[i]
		if t, ok := res.Started(); ok {
			o.Collected = stamp(t)
		}
		o.Evidence = append(o.Evidence, evidence{
			Description: cmp.Or(res.CodeDesc, c.ID), Props: props("status", string(res.Verdict())), Remarks: res.Said(),
		})
	}
	return o
}

func (d *writer) finding(i int, f hdf.Finding, seen uuid.UUID) finding {
	c := f.Control
	list := []string{"control", c.ID, "status", string(f.Status), "severity", string(f.Severity), "impact", fmt.Sprint(c.Impact)}
	for _, t := range c.TagList("nist") {
		list = append(list, "nist-800-53", t)
	}
	for _, t := range c.TagList("cci") {
		list = append(list, "cci", t)
	}
	out := finding{
		UUID:  d.id("finding", f.Profile.Name, c.ID, fmt.Sprint(i)),
		Title: cmp.Or(c.Title, c.ID), Description: cmp.Or(c.Desc, c.Title, c.ID), Props: props(list...),
		Target:  target{Type: "objective-id", ID: token(c.ID), Title: c.ID, Status: judged[f.Status]},
		Related: []related{{seen}},
	}
	if f.Status == hdf.NotApplicable && c.Waived() {
		out.Target.Status.Remarks = "Waived."
		if why, ok := c.WaiverData["justification"].(string); ok && why != "" {
			out.Target.Status.Remarks = "Waived: " + why
		}
	}
	return out
}

// judged is a status in OSCAL's words, which know no third state.
var judged = map[hdf.Status]status{
	hdf.Passed:        {State: "satisfied", Reason: "pass"},
	hdf.Failed:        {State: "not-satisfied", Reason: "fail"},
	hdf.Skipped:       {State: "not-satisfied", Reason: "other", Remarks: "Not reviewed: a person has to look."},
	hdf.Error:         {State: "not-satisfied", Reason: "other", Remarks: "Could not be judged."},
	hdf.NotApplicable: {State: "satisfied", Reason: "other", Remarks: "Not applicable."},
}

func profiles(r *hdf.Results) []prop {
	var list []string
	for _, p := range r.Profiles {
		list = append(list, "profile", strings.TrimSpace(p.Name+" "+p.Version))
	}
	return props(list...)
}

// props makes properties of names and values; those without a value are left
// out, and white space, which a value may not begin or end with or break lines
// by, becomes single spaces.
func props(pairs ...string) []prop {
	var out []prop
	for i := 0; i < len(pairs); i += 2 {
		if v := strings.Join(strings.Fields(strings.ToValidUTF8(pairs[i+1], "\uFFFD")), " "); v != "" {
			out = append(out, prop{Name: pairs[i], NS: ns, Value: v})
		}
	}
	return out
}

// token makes an id that OSCAL takes: an XML name without colons.
func token(id string) string {
	s := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsNumber(r) || strings.ContainsRune(".-_", r) {
			return r
		}
		return '_'
	}, id)
	if r := []rune(s); len(r) == 0 || !unicode.IsLetter(r[0]) && r[0] != '_' {
		s = "_" + s
	}
	return s
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
