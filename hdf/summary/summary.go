// Package summary writes the figures of results as one small JSON document,
// for pipelines that gate on .failure_count and for dashboards.
package summary

import (
	"encoding/json"
	"io"

	"reeve.dev/reeve/hdf"
)

// Summary is the document.
type Summary struct {
	// FailureCount is that of the results: the controls that failed or could
	// not be judged, those without impact too.
	FailureCount int `json:"failure_count"`
	// Compliance is the percentage of controls that passed among those that
	// apply.
	Compliance int       `json:"compliance"`
	Controls   hdf.Tally `json:"controls"`
	// Severities counts the controls by severity and status.
	Severities map[hdf.Severity]hdf.Tally `json:"severities"`
	Profiles   []Profile                  `json:"profiles"`
	Platform   hdf.Platform               `json:"platform"`
	Duration   float64                    `json:"duration"`
}

// Profile names one of the profiles.
type Profile struct {
	Name          string `json:"name"`
	Version       string `json:"version,omitempty"`
	Title         string `json:"title,omitempty"`
	Status        string `json:"status,omitempty"`
	StatusMessage string `json:"status_message,omitempty"`
}

// Of sums up sealed results.
func Of(r *hdf.Results) Summary {
	findings := r.Findings()
	n := hdf.Count(findings)
	s := Summary{
		FailureCount: r.FailureCount, Compliance: n.Compliance(), Controls: n,
		Severities: map[hdf.Severity]hdf.Tally{}, Profiles: []Profile{}, Platform: r.Platform, Duration: r.Statistics.Duration,
	}
	by := map[hdf.Severity][]hdf.Finding{}
	for _, f := range findings {
		by[f.Severity] = append(by[f.Severity], f)
	}
	for _, severity := range []hdf.Severity{hdf.Critical, hdf.High, hdf.Medium, hdf.Low, hdf.None} {
		s.Severities[severity] = hdf.Count(by[severity])
	}
	for _, p := range r.Profiles {
		s.Profiles = append(s.Profiles, Profile{p.Name, p.Version, p.Title, p.Status, p.StatusMessage})
	}
	return s
}

// Write writes the summary of sealed results.
func Write(w io.Writer, r *hdf.Results) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(Of(r))
}
