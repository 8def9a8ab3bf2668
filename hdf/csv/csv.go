// Package csv writes results as a table, a row for each control, with the
// columns of the SAF CLI's hdf2csv, whose readers spreadsheets and reports
// are. The status is Heimdall's: Passed, Failed, Not Reviewed, Not Applicable
// or Profile Error.
//
// A cell that a spreadsheet would take for a formula begins with an
// apostrophe, so that a profile or a target can't make it compute anything.
package csv

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"strconv"
	"strings"

	"reeve.dev/reeve/hdf"
)

var columns = []string{
	"Results Set", "Status", "ID", "Title", "Description", "Descriptions", "Impact", "Severity", "Code",
	"Check", "Fix", "800-53 Controls", "CCI IDs", "Results", "Waived", "Waiver Data",
}

// statuses are Heimdall's words.
var statuses = map[hdf.Status]string{
	hdf.Passed: "Passed", hdf.Failed: "Failed", hdf.Skipped: "Not Reviewed",
	hdf.NotApplicable: "Not Applicable", hdf.Error: "Profile Error",
}

// Write writes results (RFC 4180, but for the ends of lines, which are LF).
func Write(w io.Writer, r *hdf.Results) error {
	out := csv.NewWriter(w)
	if err := out.Write(columns); err != nil {
		return err
	}
	for _, f := range r.Findings() {
		row, err := cells(f)
		if err != nil {
			return err
		}
		if err := out.Write(row); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func cells(f hdf.Finding) ([]string, error) {
	c := f.Control
	var descriptions []string
	for _, d := range c.Descriptions {
		descriptions = append(descriptions, d.Label+": "+d.Data)
	}
	waived, waiver := "False", ""
	if len(c.WaiverData) > 0 {
		text, err := json.Marshal(c.WaiverData)
		if err != nil {
			return nil, err
		}
		waiver = string(text)
	}
	if c.Waived() {
		waived = "True"
	}
	row := []string{
		f.Profile.Name, statuses[f.Status], c.ID, c.Title, c.Desc, strings.Join(descriptions, "\n\n"),
		strconv.FormatFloat(c.Impact, 'f', -1, 64), string(f.Severity), c.Code, c.Text("check"), c.Text("fix"),
		strings.Join(c.TagList("nist"), ", "), strings.Join(c.TagList("cci"), ", "), results(c.Results), waived, waiver,
	}
	for i := range row {
		row[i] = inert(row[i])
	}
	return row, nil
}

func results(list []hdf.Result) string {
	var parts []string
	for i := range list {
		res := &list[i]
		text := strings.ToUpper(string(res.Verdict())) + " -- Test: " + res.CodeDesc
		if said := res.Said(); said != "" {
			text += "\nMessage: " + said
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "\n\n")
}

// inert keeps a spreadsheet from computing a cell, and drops what is no text.
func inert(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if s != "" && strings.ContainsRune("=+-@\t", rune(s[0])) {
		return "'" + s
	}
	return s
}
