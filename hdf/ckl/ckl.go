// Package ckl writes results as a checklist of DISA's STIG Viewer 2 (schema
// version 2.5), one iSTIG for each profile, with the field mapping that
// Heimdall's converters have.
//
// Passed is NotAFinding, failed is Open, and so is what could not be judged
// where at least one of its checks failed. What else could not be judged is
// Not_Reviewed, as is what was skipped: a person has to look.
package ckl

import (
	"cmp"
	"encoding/xml"
	"io"
	"strings"

	"reeve.dev/reeve/hdf"
)

type checklist struct {
	XMLName xml.Name `xml:"CHECKLIST"`
	Asset   asset    `xml:"ASSET"`
	STIGs   []istig  `xml:"STIGS>iSTIG"`
}

// asset has the elements in the order of the schema.
type asset struct {
	Role          string `xml:"ROLE"`
	Type          string `xml:"ASSET_TYPE"`
	HostName      string `xml:"HOST_NAME"`
	HostIP        string `xml:"HOST_IP"`
	HostMAC       string `xml:"HOST_MAC"`
	HostFQDN      string `xml:"HOST_FQDN"`
	TargetComment string `xml:"TARGET_COMMENT"`
	TechArea      string `xml:"TECH_AREA"`
	TargetKey     string `xml:"TARGET_KEY"`
	WebOrDatabase bool   `xml:"WEB_OR_DATABASE"`
	WebDBSite     string `xml:"WEB_DB_SITE"`
	WebDBInstance string `xml:"WEB_DB_INSTANCE"`
}

type istig struct {
	Info  []info `xml:"STIG_INFO>SI_DATA"`
	Vulns []vuln `xml:"VULN"`
}

type info struct {
	Name string  `xml:"SID_NAME"`
	Data *string `xml:"SID_DATA"`
}

type vuln struct {
	Data          []datum `xml:"STIG_DATA"`
	Status        string  `xml:"STATUS"`
	Details       string  `xml:"FINDING_DETAILS"`
	Comments      string  `xml:"COMMENTS"`
	Override      string  `xml:"SEVERITY_OVERRIDE"`
	Justification string  `xml:"SEVERITY_JUSTIFICATION"`
}

type datum struct {
	Attribute string `xml:"VULN_ATTRIBUTE"`
	Data      string `xml:"ATTRIBUTE_DATA"`
}

var statuses = map[hdf.Status]string{
	hdf.Passed: "NotAFinding", hdf.Failed: "Open", hdf.NotApplicable: "Not_Applicable",
	hdf.Skipped: "Not_Reviewed", hdf.Error: "Not_Reviewed",
}

func status(f hdf.Finding) string {
	for i := range f.Control.Results {
		if f.Status == hdf.Error && f.Control.Results[i].Verdict() == hdf.Failed {
			return "Open"
		}
	}
	return statuses[f.Status]
}

// Write writes results. A profile without controls is left out, for a
// checklist has no place for it.
func Write(w io.Writer, r *hdf.Results) error {
	out := checklist{Asset: asset{
		Role: "None", Type: "Computing", HostName: r.Platform.TargetID,
		TargetComment: strings.TrimSpace(r.Platform.Name + " " + r.Platform.Release),
	}}
	findings := r.Findings()
	for i := range r.Profiles {
		p := &r.Profiles[i]
		s := istig{Info: header(p)}
		for _, f := range findings {
			if f.Profile == p {
				s.Vulns = append(s.Vulns, newVuln(p, f))
			}
		}
		if len(s.Vulns) > 0 {
			out.STIGs = append(out.STIGs, s)
		}
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "\t")
	if err := e.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func header(p *hdf.Profile) []info {
	version, release := versions(p)
	var out []info
	for _, f := range [][2]string{
		{"version", version},
		{"classification", "UNCLASSIFIED"},
		{"customname", ""},
		{"stigid", p.Name},
		{"description", p.Summary},
		{"filename", ""},
		{"releaseinfo", release},
		{"title", cmp.Or(p.Title, p.Name)},
		{"uuid", ""},
		{"notice", p.License},
		{"source", ""},
	} {
		i := info{Name: f[0]}
		if f[1] != "" {
			i.Data = &f[1]
		}
		out = append(out, i)
	}
	return out
}

// versions are the STIG's version and release: the major and the minor part
// of the profile's version.
func versions(p *hdf.Profile) (version, release string) {
	major, rest, _ := strings.Cut(p.Version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	return cmp.Or(major, "0"), "Release: " + cmp.Or(minor, "0")
}

func newVuln(p *hdf.Profile, f hdf.Finding) vuln {
	c := f.Control
	version, release := versions(p)
	v := vuln{
		Status: status(f), Details: details(f), Comments: comments(c),
		Justification: c.Text("severityjustification"),
	}
	if s := hdf.Severity(c.Text("severityoverride")); s == hdf.Low || s == hdf.Medium || s == hdf.High {
		v.Override = string(s)
	}
	v.Data = []datum{
		{"Vuln_Num", cmp.Or(c.Text("gid"), c.ID)},
		{"Severity", severity(f.Severity)},
		{"Group_Title", cmp.Or(c.Text("gtitle"), c.ID)},
		{"Rule_ID", cmp.Or(c.Text("rid"), c.ID)},
		{"Rule_Ver", cmp.Or(c.Text("stig_id"), c.ID)},
		{"Rule_Title", c.Title},
		{"Vuln_Discuss", c.Desc},
		{"IA_Controls", ""},
		{"Check_Content", c.Text("check")},
		{"Fix_Text", c.Text("fix")},
		{"False_Positives", ""},
		{"False_Negatives", ""},
		{"Documentable", "false"},
		{"Mitigations", c.Text("mitigations")},
		{"Potential_Impact", c.Text("potential_impacts")},
		{"Third_Party_Tools", ""},
		{"Mitigation_Control", ""},
		{"Responsibility", ""},
		{"Security_Override_Guidance", ""},
		{"Check_Content_Ref", "M"},
		{"Weight", cmp.Or(c.Text("weight"), "10.0")},
		{"Class", "Unclass"},
		{"STIGRef", cmp.Or(p.Title, p.Name) + " :: Version " + version + ", " + release},
		{"TargetKey", ""},
		{"STIG_UUID", ""},
	}
	for _, id := range c.TagList("legacy") {
		v.Data = append(v.Data, datum{"LEGACY_ID", id})
	}
	for _, id := range c.TagList("cci") {
		v.Data = append(v.Data, datum{"CCI_REF", id})
	}
	return v
}

// severity is one of the three that a checklist has.
func severity(s hdf.Severity) string {
	switch s {
	case hdf.Critical, hdf.High:
		return "high"
	case hdf.Medium:
		return "medium"
	}
	return "low"
}

func details(f hdf.Finding) string {
	if len(f.Control.Results) == 0 {
		return "No checks: the control says nothing that could be judged."
	}
	var parts []string
	for i := range f.Control.Results {
		res := &f.Control.Results[i]
		text := string(res.Verdict()) + " :: TEST " + res.CodeDesc
		switch {
		case res.Message != "":
			text += " :: MESSAGE " + res.Message
		case res.SkipMessage != "":
			text += " :: SKIP_MESSAGE " + res.SkipMessage
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "\n--------------------------------\n")
}

func comments(c *hdf.Control) string {
	var lines []string
	if why, ok := c.WaiverData["justification"].(string); ok && why != "" {
		lines = append(lines, "WAIVER :: "+why)
	}
	for _, label := range []string{"caveat", "justification", "rationale", "comments"} {
		if s := c.Text(label); s != "" {
			lines = append(lines, strings.ToUpper(label)+" :: "+s)
		}
	}
	return strings.Join(lines, "\n")
}
