// Package asff writes results in the AWS Security Finding Format, for Security
// Hub: a JSON array of findings, one for each control. BatchImportFindings
// takes at most 100 of them at a time.
//
// A finding's Id is the same for the same control, target and account, so that
// a later import updates it; a control that passed, didn't apply or was waived
// archives what an earlier import had found.
package asff

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"reeve.dev/reeve/hdf"
)

// Account is whose Security Hub the findings are for.
type Account struct {
	ID     string // twelve digits
	Region string // such as eu-central-1
}

// ErrAccount says that the account or the region is missing or malformed.
var ErrAccount = errors.New("findings for Security Hub need an account of twelve digits and a region such as eu-central-1")

var (
	accountID = regexp.MustCompile(`^\d{12}$`)
	regionID  = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-\d$`)
)

// Limits of the format, in characters.
const (
	maxTitle       = 256
	maxDescription = 1024
	maxRemediation = 512
	maxID          = 512
	maxNote        = 1024 // of a value in Details.Other and ProductFields
)

type finding struct {
	SchemaVersion string
	Id            string
	ProductArn    string
	GeneratorId   string
	AwsAccountId  string
	CreatedAt     string
	UpdatedAt     string
	provider
	FindingProviderFields provider
	Title                 string
	Description           string
	Remediation           *remediation `json:",omitempty"`
	ProductFields         map[string]string
	Resources             []resource
	Compliance            compliance
	RecordState           string
}

// provider is what later belongs to Security Hub's users at the top and stays
// the provider's below FindingProviderFields.
type provider struct {
	Types    []string
	Severity severity
}

type severity struct {
	Label    string
	Original string
}

type remediation struct {
	Recommendation recommendation
}

type recommendation struct {
	Text string
}

type resource struct {
	Type      string
	Id        string
	Partition string
	Region    string
	Details   details
}

type details struct {
	Other map[string]string
}

type compliance struct {
	Status              string
	RelatedRequirements []string `json:",omitempty"`
}

// Validate returns nil or ErrAccount.
func (a Account) Validate() error {
	if !accountID.MatchString(a.ID) || !regionID.MatchString(a.Region) {
		return ErrAccount
	}
	return nil
}

// Write writes results. The error is ErrAccount where a is not an account.
func Write(w io.Writer, r *hdf.Results, a Account) error {
	if err := a.Validate(); err != nil {
		return err
	}
	start, end := r.Span()
	if start.IsZero() {
		start = time.Now()
		end = start
	}
	out := []finding{}
	for _, f := range r.Findings() {
		out = append(out, newFinding(r, f, a, start, end))
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(out)
}

func newFinding(r *hdf.Results, f hdf.Finding, a Account, start, end time.Time) finding {
	c := f.Control
	where := cmp.Or(r.Platform.TargetID, strings.TrimSpace(r.Platform.Name+" "+r.Platform.Release), "target")
	sum := sha256.Sum256([]byte(where + "\x00" + f.Profile.Name + "\x00" + c.ID))
	out := finding{
		SchemaVersion: "2018-10-08",
		Id:            fit("reeve/"+f.Profile.Name+"/"+c.ID, maxID-65) + "/" + hex.EncodeToString(sum[:]),
		ProductArn:    fmt.Sprintf("arn:%s:securityhub:%s:%s:product/%s/default", a.partition(), a.Region, a.ID, a.ID),
		GeneratorId:   fit("reeve/"+f.Profile.Name+"/"+c.ID, maxID),
		AwsAccountId:  a.ID,
		CreatedAt:     stamp(start),
		UpdatedAt:     stamp(end),
		Title:         fit(c.ID+": "+cmp.Or(c.Title, c.ID), maxTitle),
		Description:   fit(cmp.Or(c.Desc, c.Title, c.ID), maxDescription),
		ProductFields: map[string]string{
			"Status": string(f.Status), "Profile": fit(f.Profile.Name, maxNote), "Control": fit(c.ID, maxNote),
		},
		Resources: []resource{{
			Type: "Other", Id: fit(where, maxID), Partition: a.partition(), Region: a.Region,
			Details: details{Other: map[string]string{"Results": fit(checks(f), maxNote-1)}},
		}},
		Compliance:  compliance{Status: statuses[f.Status]},
		RecordState: "ACTIVE",
	}
	if v := f.Profile.Version; v != "" {
		out.ProductFields["ProfileVersion"] = fit(v, maxNote)
	}
	if fix := c.Text("fix"); strings.TrimSpace(fix) != "" {
		out.Remediation = &remediation{recommendation{fit(fix, maxRemediation)}}
	}
	for _, t := range c.TagList("nist") {
		if strings.TrimSpace(t) != "" && len(out.Compliance.RelatedRequirements) < 32 {
			out.Compliance.RelatedRequirements = append(out.Compliance.RelatedRequirements, fit("NIST.800-53 "+t, 64))
		}
	}
	label := labels[f.Severity]
	if f.Status == hdf.Passed || f.Status == hdf.NotApplicable {
		label, out.RecordState = "INFORMATIONAL", "ARCHIVED"
	}
	out.provider = provider{[]string{"Software and Configuration Checks"}, severity{Label: label, Original: fmt.Sprint(c.Impact)}}
	out.FindingProviderFields = out.provider
	return out
}

var labels = map[hdf.Severity]string{
	hdf.Critical: "CRITICAL", hdf.High: "HIGH", hdf.Medium: "MEDIUM", hdf.Low: "LOW", hdf.None: "INFORMATIONAL",
}

var statuses = map[hdf.Status]string{
	hdf.Passed: "PASSED", hdf.Failed: "FAILED", hdf.Skipped: "WARNING", hdf.Error: "NOT_AVAILABLE", hdf.NotApplicable: "NOT_AVAILABLE",
}

func (a Account) partition() string {
	switch {
	case strings.HasPrefix(a.Region, "us-gov-"):
		return "aws-us-gov"
	case strings.HasPrefix(a.Region, "cn-"):
		return "aws-cn"
	}
	return "aws"
}

// checks tells each result, those that didn't pass first, for the text may be
// cut.
func checks(f hdf.Finding) string {
	if len(f.Control.Results) == 0 {
		return "No checks: the control says nothing that could be judged."
	}
	var bad, good []string
	for i := range f.Control.Results {
		res := &f.Control.Results[i]
		line := strings.TrimSpace(string(res.Verdict()) + ": " + res.CodeDesc + " " + res.Said())
		if res.Verdict() == hdf.Passed {
			good = append(good, line)
		} else {
			bad = append(bad, line)
		}
	}
	return strings.Join(append(bad, good...), "\n")
}

// fit cuts s to n characters. What Security Hub doesn't take, control
// characters, becomes white space, and an empty text a dash.
func fit(s string, n int) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD")))
	if s == "" {
		return "-"
	}
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
