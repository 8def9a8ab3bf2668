// Package format names the formats that results can be written in.
package format

import (
	"encoding/json"
	"io"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/hdf/ckl"
	"reeve.dev/reeve/hdf/csv"
	"reeve.dev/reeve/hdf/html"
	"reeve.dev/reeve/hdf/junit"
	"reeve.dev/reeve/hdf/oscal"
	"reeve.dev/reeve/hdf/sarif"
	"reeve.dev/reeve/hdf/summary"
)

// Format is a way to write results.
type Format struct {
	Name        string
	ContentType string
	Extension   string // of a file, without the dot
	// Write writes sealed results.
	Write func(io.Writer, *hdf.Results) error
}

// All has every format that needs nothing but the results: not cli, which is
// for a terminal, and not asff, which needs an account.
var All = []Format{
	{"json", "application/json", "json", writeJSON},
	{"summary", "application/json", "json", summary.Write},
	{"sarif", "application/sarif+json", "sarif", sarif.Write},
	{"junit", "application/xml", "xml", junit.Write},
	{"csv", "text/csv; charset=utf-8", "csv", csv.Write},
	{"html", "text/html; charset=utf-8", "html", html.Write},
	{"oscal", "application/oscal+json", "json", oscal.Write},
	{"ckl", "application/xml", "ckl", ckl.Write},
}

// ByName finds a format.
func ByName(name string) (Format, bool) {
	for _, f := range All {
		if f.Name == name {
			return f, true
		}
	}
	return Format{}, false
}

func writeJSON(w io.Writer, r *hdf.Results) error { return json.NewEncoder(w).Encode(r) }
