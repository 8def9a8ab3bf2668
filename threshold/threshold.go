// Package threshold decides whether results are good enough. It reads the
// threshold files of MITRE's SAF CLI (@mitre/saf, "validate threshold") and
// judges controls by SAF's rules: see StatusOf and SeverityOf.
//
// A file bounds the compliance and the number of controls of each status and
// severity, and may list the controls that must be among them:
//
//	compliance: {min: 80}
//	failed: {critical: {max: 0}, total: {max: 5}}
//	passed: {high: {controls: [SV-1, SV-2]}}
//
// or the same in dotted keys (compliance.min: 80). The statuses are passed,
// failed, skipped (not reviewed), error (could not be judged) and no_impact
// (not applicable or waived).
//
// Parse and Check are strict: a key that means nothing, a threshold that
// bounds nothing and a bound that can't be met are errors, all profiles of
// the document count, and every bound that isn't met is found. SAF itself
// ignores what it doesn't know, lets an empty threshold pass, skips a
// compliance bound of 0, looks at the first profile only and stops at the
// first failure; ParseSAF and SAF.Check do exactly that, with SAF's messages,
// for pipelines that must not change. Generate makes a threshold of what
// results are now, for either.
package threshold

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/hdf"
)

var (
	// ErrEmpty says that a threshold bounds nothing, so that anything would
	// pass it.
	ErrEmpty = errors.New("threshold is empty: it would let anything pass; give at least one bound, such as compliance.min")
	// ErrUnknown says that there is no threshold of that name.
	ErrUnknown = errors.New("no such threshold")
)

// MaxFile is the most bytes that a threshold file may have.
const MaxFile = 1 << 20

// The words of SAF, in the order in which it checks them.
var (
	statuses   = []Status{Passed, Failed, Skipped, Error, NoImpact}
	severities = []Severity{Critical, High, Medium, Low, None}
)

// A SyntaxError says what is wrong with a threshold file, and where.
type SyntaxError struct {
	Line int // from 1
	Key  string
	Text string
}

func (e *SyntaxError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("line %d: %s", e.Line, e.Text)
	}
	return fmt.Sprintf("line %d: %s: %s", e.Line, e.Key, e.Text)
}

// Threshold is what results must meet. It doesn't change.
type Threshold struct {
	numbers  map[string]float64  // by path, such as failed.high.max
	controls map[string][]string // by path, such as passed.high.controls
}

// Finding is a bound that results don't meet.
type Finding struct {
	// Path is the bound's key, such as failed.high.max.
	Path string
	// Message is a sentence for a person.
	Message string
}

// Parse reads a threshold strictly. Its errors are *SyntaxError, or ErrEmpty.
func Parse(text []byte) (*Threshold, error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("threshold has %d bytes; %d are allowed", len(text), MaxFile)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("threshold is not YAML: %w", err)
	}
	if len(doc.Content) == 0 {
		return nil, ErrEmpty
	}
	t := &Threshold{numbers: map[string]float64{}, controls: map[string][]string{}}
	if err := t.read("", doc.Content[0]); err != nil {
		return nil, err
	}
	if len(t.numbers)+len(t.controls) == 0 {
		return nil, ErrEmpty
	}
	return t, nil
}

// read takes the bounds below path. A dotted key is the same as nested ones.
func (t *Threshold) read(path string, n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		return &SyntaxError{Line: n.Line, Key: path, Text: "aliases aren't allowed here"}
	}
	if n.Kind != yaml.MappingNode {
		return t.leaf(path, n)
	}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		p := key.Value
		if path != "" {
			p = path + "." + p
		}
		if !known(p) {
			return &SyntaxError{Line: key.Line, Key: p, Text: "is no key of a threshold; " + hint(p)}
		}
		if err := t.read(p, value); err != nil {
			return err
		}
	}
	return nil
}

func (t *Threshold) leaf(path string, n *yaml.Node) error {
	bad := func(format string, args ...any) error {
		return &SyntaxError{Line: n.Line, Key: path, Text: fmt.Sprintf(format, args...)}
	}
	_, twice := t.numbers[path]
	if _, list := t.controls[path]; twice || list {
		return bad("is there twice")
	}
	parts := strings.Split(path, ".")
	switch last := parts[len(parts)-1]; {
	case path == "":
		return bad("must be a mapping of bounds, such as compliance: {min: 80}")
	case last == "controls":
		var ids []string
		if err := n.Decode(&ids); err != nil || len(ids) == 0 {
			return bad("must be a list of ids of controls")
		}
		t.controls[path] = ids
		return nil
	case last != "min" && last != "max" && (last != "total" || len(parts) != 2):
		return bad("must hold min, max or controls")
	}
	var v float64
	if err := n.Decode(&v); err != nil || n.ShortTag() != "!!int" && n.ShortTag() != "!!float" || math.IsNaN(v) {
		return bad("must be a number, not %q", n.Value)
	}
	percent := parts[0] == "compliance"
	switch {
	case v < 0:
		return bad("must not be negative")
	case percent && v > 100:
		return bad("must be at most 100, for it is a percentage")
	case !percent && v != math.Trunc(v):
		return bad("must be a whole number, for it counts controls")
	}
	t.numbers[path] = v
	return t.consistent(path, n)
}

// consistent refuses a bound that can't be met together with one before it.
func (t *Threshold) consistent(path string, n *yaml.Node) error {
	base, _ := cutLast(path)
	if base == "compliance" || strings.Count(path, ".") == 2 {
		lo, hasMin := t.numbers[base+".min"]
		hi, hasMax := t.numbers[base+".max"]
		if hasMin && hasMax && lo > hi {
			return &SyntaxError{Line: n.Line, Key: path, Text: fmt.Sprintf("min %v is more than max %v, so nothing can meet it", lo, hi)}
		}
	}
	return nil
}

func cutLast(path string) (base, last string) {
	i := strings.LastIndex(path, ".")
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// known reports whether path is a bound or leads to one.
func known(path string) bool {
	parts := strings.Split(path, ".")
	if parts[0] == "compliance" {
		return len(parts) == 1 || len(parts) == 2 && bound(parts[1])
	}
	if !slices.Contains(statuses, Status(parts[0])) {
		return false
	}
	if len(parts) == 1 {
		return true
	}
	total := parts[1] == "total"
	severity := Severity(parts[1])
	// Only what has no impact can be of severity none.
	if !total && (!slices.Contains(severities, severity) || severity == None && parts[0] != string(NoImpact)) {
		return false
	}
	return len(parts) == 2 || len(parts) == 3 && (bound(parts[2]) || !total && parts[2] == "controls")
}

func bound(s string) bool { return s == "min" || s == "max" }

// hint says what could stand in the place of an unknown key.
func hint(path string) string {
	base, _ := cutLast(path)
	switch {
	case base == "":
		return "there are compliance, passed, failed, skipped, error and no_impact"
	case !known(base):
		return "there are STATUS.SEVERITY.min, .max and .controls, STATUS.total and compliance.min and .max"
	case base == "compliance" || strings.HasSuffix(base, ".total"):
		return "there are min and max"
	case base == string(NoImpact):
		return "there are total, critical, high, medium, low and none"
	case !strings.Contains(base, "."):
		return "there are total, critical, high, medium and low"
	}
	return "there are min, max and controls"
}

// Check returns the bounds that doc doesn't meet, in the order in which SAF
// checks them.
func (t *Threshold) Check(doc *hdf.Results) []Finding {
	c := tally(doc, false)
	var out []Finding
	find := func(path, format string, args ...any) {
		out = append(out, Finding{Path: path, Message: fmt.Sprintf(format, args...) + " (" + path + ")"})
	}
	compliance := float64(c.compliance())
	if lo, ok := t.numbers["compliance.min"]; ok && compliance < lo {
		find("compliance.min", "compliance is %v %%, below the minimum of %v %%", compliance, lo)
	}
	if hi, ok := t.numbers["compliance.max"]; ok && compliance > hi {
		find("compliance.max", "compliance is %v %%, above the maximum of %v %%", compliance, hi)
	}
	for _, st := range statuses {
		path := string(st) + ".total"
		if n := len(c.ids[st]["total"]); n != want(t.numbers, path, n) {
			find(path, "%s %s, where there must be exactly %v", controls(n), st.did(), t.numbers[path])
		}
	}
	for _, last := range []string{"min", "max"} {
		for _, st := range statuses {
			t.checkCount(c, st, "total", last, find)
		}
	}
	for _, sev := range severities {
		for _, st := range statuses {
			t.checkCount(c, st, sev, "min", find)
			t.checkCount(c, st, sev, "max", find)
		}
	}
	for _, sev := range severities {
		for _, st := range statuses {
			t.checkControls(c, st, sev, find)
		}
	}
	return out
}

func want(numbers map[string]float64, path string, otherwise int) int {
	if v, ok := numbers[path]; ok {
		return int(v)
	}
	return otherwise
}

type findFunc func(path, format string, args ...any)

func (t *Threshold) checkCount(c counts, st Status, sev Severity, last string, find findFunc) {
	path := string(st) + "." + string(sev) + "." + last
	v, ok := t.numbers[path]
	if !ok {
		return
	}
	ids := c.ids[st][sev]
	of := ""
	if sev != "total" {
		of = " of severity " + string(sev)
	}
	switch n := len(ids); {
	case last == "min" && float64(n) < v:
		find(path, "%s%s %s, fewer than the %v required", controls(n), of, st.did(), v)
	case last == "max" && float64(n) > v:
		find(path, "%s%s %s, more than the %v allowed: %s", controls(n), of, st.did(), v, some(ids))
	}
}

// checkControls compares the listed controls with those there are: as in
// SAF, they must be the same.
func (t *Threshold) checkControls(c counts, st Status, sev Severity, find findFunc) {
	path := string(st) + "." + string(sev) + ".controls"
	listed, ok := t.controls[path]
	if !ok {
		return
	}
	var missing, extra []string
	for _, id := range listed {
		if !slices.Contains(c.ids[st][sev], id) {
			missing = append(missing, id+" "+c.whereIs(id))
		}
	}
	for _, id := range c.ids[st][sev] {
		if !slices.Contains(listed, id) {
			extra = append(extra, id)
		}
	}
	if len(missing) > 0 {
		find(path, "not among the controls of severity %s that %s, as listed: %s", sev, st.did(), some(missing))
	}
	if len(extra) > 0 {
		find(path, "among the controls of severity %s that %s, but not listed: %s", sev, st.did(), some(extra))
	}
}

func controls(n int) string {
	if n == 1 {
		return "1 control"
	}
	return fmt.Sprintf("%d controls", n)
}

// some names the first ten.
func some(ids []string) string {
	if len(ids) > 10 {
		return strings.Join(ids[:10], ", ") + fmt.Sprintf(" and %d more", len(ids)-10)
	}
	return strings.Join(ids, ", ")
}
