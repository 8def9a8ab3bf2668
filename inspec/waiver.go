package inspec

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec/dsl"
)

// maxDecisions bounds a file of waivers or attestations.
const maxDecisions = 8 << 20

// Waivers are by the id of the control that they accept.
type Waivers map[string]Waiver

// Waiver accepts what a control finds, until it expires. One whose Run is
// false keeps the control from being judged.
type Waiver struct {
	Justification string
	Run           *bool
	Expires       time.Time // zero: never
	expires       string    // as results show it
	more          map[string]any
}

// ReadWaivers reads files of waivers, as InSpec takes them: YAML, JSON or CSV,
// told by the file's name. Of two waivers for one control the last counts.
func ReadWaivers(files ...string) (Waivers, error) {
	out := Waivers{}
	for _, file := range files {
		data, err := readDecisions(file)
		if err != nil {
			return nil, fmt.Errorf("waivers: %w", err)
		}
		waivers, err := ParseWaivers(file, data)
		if err != nil {
			return nil, err
		}
		for id, w := range waivers {
			out[id] = w
		}
	}
	return out, nil
}

func readDecisions(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readLimited(f, maxDecisions)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return data, nil
}

// ParseWaivers reads one file of waivers. Name says what it is by how it
// ends: .yaml, .yml, .json or .csv.
func ParseWaivers(name string, data []byte) (Waivers, error) {
	var entries []decision
	var err error
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case ".yaml", ".yml", ".json":
		entries, err = decisionsByID(data)
	case ".csv":
		entries, err = decisionRows(data)
	default:
		err = fmt.Errorf("%q is no kind of file that waivers come in: .yaml, .yml, .json or .csv", ext)
	}
	if err != nil {
		return nil, fmt.Errorf("waivers %s: %w", name, err)
	}
	out := Waivers{}
	for _, e := range entries {
		w, err := e.waiver()
		if err != nil {
			return nil, fmt.Errorf("waivers %s:%d: control %s: %w", name, e.line, e.id, err)
		}
		out[e.id] = w
	}
	return out, nil
}

// A decision is what someone wrote about one control.
type decision struct {
	id     string
	line   int
	fields map[string]any
}

func decisionsByID(data []byte) ([]decision, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil, nil
	}
	if doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: it must be a mapping of control ids", doc.Content[0].Line)
	}
	var out []decision
	for key, v := range pairs(doc.Content[0]) {
		d, err := decisionOf(key.Value, v)
		if err != nil {
			return nil, err
		}
		d.line = key.Line
		out = append(out, d)
	}
	return out, nil
}

func decisionOf(id string, n *yaml.Node) (decision, error) {
	if n.Kind != yaml.MappingNode {
		return decision{}, fmt.Errorf("line %d: control %s must be a mapping with at least `justification: …`", n.Line, id)
	}
	d := decision{id: id, line: n.Line, fields: map[string]any{}}
	for k, v := range pairs(n) {
		value, err := yamlValue(v, 0)
		if err != nil {
			return decision{}, fmt.Errorf("line %d: %w", v.Line, err)
		}
		d.fields[k.Value] = plain(value)
	}
	return d, nil
}

func decisionRows(data []byte) ([]decision, error) {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))))
	r.FieldsPerRecord = -1
	header, err := r.Read()
	if err == io.EOF {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("not CSV: %w", err)
	}
	for i := range header {
		header[i] = strings.TrimSpace(header[i])
	}
	for _, need := range []string{"control_id", "justification"} {
		if !slices.Contains(header, need) {
			return nil, fmt.Errorf("the first line names no column %s: it must name control_id and justification, and may name run and expiration_date", need)
		}
	}
	var out []decision
	for {
		row, err := r.Read()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("not CSV: %w", err)
		}
		line, _ := r.FieldPos(0)
		d := decision{line: line, fields: map[string]any{}}
		for i, text := range row {
			switch {
			case i >= len(header) || header[i] == "" || text == "":
			case header[i] == "control_id":
				d.id = text
			default:
				d.fields[header[i]] = text
			}
		}
		if d.id != "" && len(d.fields) > 0 {
			out = append(out, d)
		}
	}
}

func (d decision) waiver() (Waiver, error) {
	var w Waiver
	text, ok := d.fields["justification"]
	if !ok {
		return w, errors.New("justification is missing: say why it is waived")
	}
	if text != nil {
		w.Justification = fmt.Sprint(text)
	}
	for key, v := range d.fields {
		switch key {
		case "justification":
		case "run":
			run, ok := truth(v)
			if !ok {
				return w, fmt.Errorf("run: %v is neither true nor false", v)
			}
			w.Run = &run
		case "expiration_date":
			if v == nil {
				continue
			}
			w.expires = fmt.Sprint(v)
			var err error
			if w.Expires, err = dateOf(w.expires); err != nil {
				return w, fmt.Errorf("expiration_date: %w", err)
			}
		default:
			if w.more == nil {
				w.more = map[string]any{}
			}
			w.more[key] = v
		}
	}
	return w, nil
}

// truth reads the words that InSpec takes for true and false.
func truth(v any) (value, ok bool) {
	switch fmt.Sprint(v) {
	case "true", "True", "TRUE", "yes", "y", "YES", "Y":
		return true, true
	case "false", "False", "FALSE", "no", "n", "NO", "N":
		return false, true
	}
	return false, false
}

// dateOf reads a day, which begins at midnight here, or a time.
func dateOf(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly, "2006-01-02 15:04:05 Z07:00", "2006-01-02 15:04:05 -0700", time.DateTime, "2006-01-02T15:04:05", "2006/01/02", "Jan 2 2006", "2 Jan 2006"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no date: write it as 2026-12-31", s)
}

// suite is the waivers as the language applies them, by now.
func (ws Waivers) suite() map[string]dsl.Waiver {
	out := make(map[string]dsl.Waiver, len(ws))
	now := time.Now()
	for id, w := range ws {
		expired := !w.Expires.IsZero() && w.Expires.Before(now)
		skip := w.Run != nil && !*w.Run && !expired
		data := map[string]any{"justification": w.Justification, "skipped_due_to_waiver": skip, "message": ""}
		for k, v := range w.more {
			data[k] = v
		}
		if w.Run != nil {
			data["run"] = *w.Run
		}
		if w.expires != "" {
			data["expiration_date"] = w.expires
		}
		if expired {
			data["message"] = fmt.Sprintf("Waiver expired on %s, evaluating control normally", w.Expires.Format("2006-01-02 15:04:05 -0700"))
		}
		out[id] = dsl.Waiver{Skip: skip, Justification: w.Justification, Data: data}
	}
	return out
}

// Attestations are statuses that people vouch for, of controls that can't be
// judged by looking at the target.
type Attestations []Attestation

// Attestation is one of them, in the form of the SAF tools.
type Attestation struct {
	ControlID   string `json:"control_id"`
	Explanation string `json:"explanation"`
	Frequency   string `json:"frequency"`
	Status      string `json:"status"`
	Updated     string `json:"updated"`
	UpdatedBy   string `json:"updated_by"`

	until time.Time
}

// ReadAttestations reads files of attestations: JSON or YAML, a list of what
// `saf attest create` writes.
func ReadAttestations(files ...string) (Attestations, error) {
	var out Attestations
	for _, file := range files {
		data, err := readDecisions(file)
		if err != nil {
			return nil, fmt.Errorf("attestations: %w", err)
		}
		list, err := ParseAttestations(file, data)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}

// ParseAttestations reads one file of attestations, JSON or YAML. Name stands
// for it in errors.
func ParseAttestations(name string, data []byte) (Attestations, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("attestations %s: neither JSON nor YAML: %s", name, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil, nil
	}
	list := doc.Content[0]
	if list.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("attestations %s:%d: it must be a list of attestations, as `saf attest create` writes", name, list.Line)
	}
	var out Attestations
	for _, n := range list.Content {
		fail := func(format string, args ...any) (Attestations, error) {
			return nil, fmt.Errorf("attestations %s:%d: %s", name, n.Line, fmt.Sprintf(format, args...))
		}
		d, err := decisionOf("", n)
		if err != nil {
			return fail("each entry must be a mapping with control_id, explanation, frequency, status, updated and updated_by")
		}
		var a Attestation
		for key, to := range map[string]*string{
			"control_id": &a.ControlID, "explanation": &a.Explanation, "frequency": &a.Frequency,
			"status": &a.Status, "updated": &a.Updated, "updated_by": &a.UpdatedBy,
		} {
			v, ok := d.fields[key]
			if !ok || v == nil {
				return fail("%s is missing", key)
			}
			*to = fmt.Sprint(v)
		}
		if a.Status != string(hdf.Passed) && a.Status != string(hdf.Failed) {
			return fail("control %s: status %q must be passed or failed; what does not apply is for a waiver", a.ControlID, a.Status)
		}
		if a.until, err = a.expiry(); err != nil {
			return fail("control %s: %v", a.ControlID, err)
		}
		out = append(out, a)
	}
	return out, nil
}

var frequencies = map[string][3]int{ // years, months, days
	"annually": {1, 0, 0}, "semiannually": {0, 6, 0}, "quarterly": {0, 3, 0}, "monthly": {0, 1, 0},
	"every2weeks": {0, 0, 14}, "fortnightly": {0, 0, 14}, "weekly": {0, 0, 7}, "every3days": {0, 0, 3}, "daily": {0, 0, 1},
}

// expiry is when the attestation must be made anew.
func (a Attestation) expiry() (time.Time, error) {
	from, err := dateOf(a.Updated)
	if err != nil {
		return from, fmt.Errorf("updated: %w", err)
	}
	if f, ok := frequencies[a.Frequency]; ok {
		return from.AddDate(f[0], f[1], f[2]), nil
	}
	var n float64
	var unit string
	if _, err := fmt.Sscanf(a.Frequency, "%g%1s", &n, &unit); err != nil || n < 0 || n > 1e5 {
		return from, fmt.Errorf("frequency %q must be a number and d, w, m or y, such as 6w or 1y", a.Frequency)
	}
	day := 24 * time.Hour
	switch unit {
	case "d":
		return from.Add(time.Duration(n * float64(day))), nil
	case "w":
		return from.Add(time.Duration(n * 7 * float64(day))), nil
	case "m":
		return from.AddDate(0, int(n+0.5), 0), nil
	case "y":
		return from.AddDate(0, int(n*12+0.5), 0), nil
	}
	return from, fmt.Errorf("frequency %q must be a number and d, w, m or y, such as 6w or 1y", a.Frequency)
}

// apply adds each attestation to the controls that it is for, as the SAF tools
// do: only to one whose first result was skipped, and as one that is skipped,
// too, once it has expired.
func (as Attestations) apply(doc *hdf.Results, now time.Time) {
	for _, a := range as {
		for i := range doc.Profiles {
			for j := range doc.Profiles[i].Controls {
				c := &doc.Profiles[i].Controls[j]
				if !strings.EqualFold(a.ControlID, c.ID) || len(c.Results) == 0 || c.Results[0].Status != hdf.Skipped {
					continue
				}
				c.AttestationData = a.data()
				c.Results = append(c.Results, a.result(now))
			}
		}
	}
}

func (a Attestation) data() map[string]any {
	var out map[string]any
	text, err := json.Marshal(a)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		panic(err) // it holds texts alone
	}
	return out
}

func (a Attestation) result(now time.Time) hdf.Result {
	r := hdf.Result{Status: hdf.Status(a.Status), CodeDesc: "Manually verified status provided through attestation", StartTime: hdf.Time(now)}
	head, label := "Attestation", ""
	if a.until.Before(now) {
		r.Status, r.CodeDesc = hdf.Skipped, "Manual verification status provided through attestation has expired"
		head, label = "Expired Attestation", "Expired "
	}
	text := fmt.Sprintf("%s:\n%sStatus: %s\n%sExplanation: %s\n\nUpdated: %s\nUpdated By: %s\nFrequency: %s",
		head, label, a.Status, label, a.Explanation, a.Updated, a.UpdatedBy, a.Frequency)
	r.Message = text
	if r.Status == hdf.Skipped {
		r.SkipMessage = text
	}
	return r
}
