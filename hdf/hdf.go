// Package hdf holds compliance results in the Heimdall Data Format, version
// 1: the JSON that InSpec's exec-json reporter writes and that Heimdall and
// the SAF tools read (schema: heimdall2, libs/inspecjs/schemas/exec-json.json).
//
// Two members go beyond the schema, which allows it: a status on each
// control and a failure_count on the document, because the pipelines that
// the scanner's users have gate on them.
package hdf

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Status is the state of a result, or of a control as a whole.
type Status string

// The states of a result; of a control, also NotApplicable and NoResult.
const (
	Passed  Status = "passed"
	Failed  Status = "failed"
	Skipped Status = "skipped"
	Error   Status = "error"
)

// Results is one whole document: what one run found.
type Results struct {
	Platform     Platform   `json:"platform"`
	Profiles     []Profile  `json:"profiles"`
	Statistics   Statistics `json:"statistics"`
	Version      string     `json:"version"`
	FailureCount int        `json:"failure_count"`
	// Entry is there where the target is a container in a cluster.
	Entry *Entry `json:"entry,omitempty"`
}

// Entry says how a container was entered, and why so.
type Entry struct {
	Method string `json:"method"`
	Reason string `json:"reason,omitempty"`
}

// Platform is the operating system that was scanned.
type Platform struct {
	Name     string `json:"name"`
	Release  string `json:"release"`
	TargetID string `json:"target_id,omitempty"`
}

// Statistics are figures of the run. Duration is in seconds.
type Statistics struct {
	Duration float64 `json:"duration"`
}

// Profile is one profile and the controls that it holds.
type Profile struct {
	Name           string           `json:"name"`
	Version        string           `json:"version,omitempty"`
	SHA256         string           `json:"sha256"`
	Title          string           `json:"title,omitempty"`
	Maintainer     string           `json:"maintainer,omitempty"`
	Summary        string           `json:"summary,omitempty"`
	License        string           `json:"license,omitempty"`
	Copyright      string           `json:"copyright,omitempty"`
	CopyrightEmail string           `json:"copyright_email,omitempty"`
	Supports       []map[string]any `json:"supports"`
	Attributes     []map[string]any `json:"attributes"`
	ParentProfile  string           `json:"parent_profile,omitempty"`
	Depends        []map[string]any `json:"depends,omitempty"`
	Groups         []Group          `json:"groups"`
	Controls       []Control        `json:"controls"`
	Status         string           `json:"status,omitempty"`
	StatusMessage  string           `json:"status_message,omitempty"`
	SkipMessage    string           `json:"skip_message,omitempty"`
}

// Group is one control file and the ids of its controls.
type Group struct {
	ID       string   `json:"id"`
	Title    string   `json:"title,omitempty"`
	Controls []string `json:"controls"`
}

// Control is one control with its results, in the order that they were made.
type Control struct {
	ID             string         `json:"id"`
	Title          string         `json:"title,omitempty"`
	Desc           string         `json:"desc,omitempty"`
	Descriptions   []Description  `json:"descriptions,omitempty"`
	Impact         float64        `json:"impact"`
	Refs           []any          `json:"refs"`
	Tags           map[string]any `json:"tags"`
	Code           string         `json:"code,omitempty"`
	SourceLocation SourceLocation `json:"source_location"`
	WaiverData     map[string]any `json:"waiver_data,omitempty"`
	// AttestationData is what someone vouches for, as the SAF tools write it.
	AttestationData map[string]any `json:"attestation_data,omitempty"`
	Results         []Result       `json:"results"`
	Status          Status         `json:"status"`
}

// Description is one labelled text of a control, such as its fix.
type Description struct {
	Label string `json:"label"`
	Data  string `json:"data"`
}

// SourceLocation is where a control begins; Line counts from 1.
type SourceLocation struct {
	Line int    `json:"line"`
	Ref  string `json:"ref"`
}

// Result is the verdict of one expectation.
type Result struct {
	Status        Status   `json:"status"`
	CodeDesc      string   `json:"code_desc"`
	RunTime       float64  `json:"run_time"`
	StartTime     string   `json:"start_time"`
	Message       string   `json:"message,omitempty"`
	SkipMessage   string   `json:"skip_message,omitempty"`
	Exception     string   `json:"exception,omitempty"`
	Backtrace     []string `json:"backtrace,omitempty"`
	ResourceClass string   `json:"resource_class,omitempty"`
	ResourceID    string   `json:"resource_id,omitempty"`
}

// Time writes t as InSpec writes a result's start_time.
func Time(t time.Time) string { return t.Format(time.RFC3339) }

// StatusOf judges a control by its results, worst first: a result with a
// backtrace or the status error makes it an error, then failed, passed,
// skipped. A control without results is an error: nothing was checked.
func StatusOf(results []Result) Status {
	var failed, passed, skipped bool
	for _, r := range results {
		switch {
		case r.Status == Error || len(r.Backtrace) > 0:
			return Error
		case r.Status == Failed:
			failed = true
		case r.Status == Passed:
			passed = true
		case r.Status == Skipped:
			skipped = true
		}
	}
	switch {
	case failed:
		return Failed
	case passed:
		return Passed
	case skipped:
		return Skipped
	}
	return Error
}

// Seal sets what is derived from the results: each control's status, which is
// the same in an overlay and its base, and the document's count of controls
// that failed or could not be judged.
func (r *Results) Seal() {
	for _, l := range r.layers() {
		status := StatusOf(l.judged().Results)
		for _, c := range l.controls {
			c.Status = status
		}
	}
	n := r.Counts()
	r.FailureCount = n.Failed + n.Error
}

// Counts tallies controls by status over all profiles.
type Counts struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	Skipped int `json:"skipped"`
	Error   int `json:"error"`
}

// Counts tallies the controls of a sealed document, those that overlays share
// once.
func (r *Results) Counts() Counts {
	var n Counts
	for _, f := range r.Findings() {
		switch f.Control.Status {
		case Passed:
			n.Passed++
		case Failed:
			n.Failed++
		case Skipped:
			n.Skipped++
		default:
			n.Error++
		}
	}
	return n
}

// Decode reads one document and refuses one that lacks a required member.
// The caller bounds r.
func Decode(r io.Reader) (*Results, error) {
	var doc Results
	if err := json.NewDecoder(r).Decode(&doc); err != nil {
		return nil, fmt.Errorf("results are not HDF: %w", err)
	}
	if doc.Version == "" || doc.Profiles == nil {
		return nil, fmt.Errorf("results are not HDF: version or profiles is missing")
	}
	doc.fill()
	return &doc, nil
}

// fill makes empty what the schema requires and a document leaves out.
func (r *Results) fill() {
	for i := range r.Profiles {
		p := &r.Profiles[i]
		p.Supports, p.Attributes = orEmpty(p.Supports), orEmpty(p.Attributes)
		p.Groups, p.Controls = orEmpty(p.Groups), orEmpty(p.Controls)
		for j := range p.Controls {
			c := &p.Controls[j]
			c.Refs, c.Results = orEmpty(c.Refs), orEmpty(c.Results)
			if c.Tags == nil {
				c.Tags = map[string]any{}
			}
		}
	}
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
