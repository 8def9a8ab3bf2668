package threshold

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"reeve.dev/reeve/hdf"
)

// SAFPassed is what SAF prints when nothing is wrong.
const SAFPassed = "All validation tests passed"

// SAF is a threshold as version 1.5.3 of @mitre/saf understands it.
type SAF struct{ values map[string]any }

// ParseSAF reads a threshold as SAF does: any YAML 1.2, of which only a mapping
// bounds anything.
func ParseSAF(text []byte) (*SAF, error) {
	root, err := parseYAML12(text)
	if err != nil {
		return nil, err
	}
	if root == nil {
		return nil, errors.New("threshold is an empty file")
	}
	m, _ := root.(*mapping12)
	if m == nil {
		return &SAF{}, nil
	}
	for _, key := range m.keys {
		if _, ok := m.values[key].(float64); !ok {
			return &SAF{values: m.values}, nil
		}
	}
	return &SAF{values: unflatten(m).values}, nil
}

// unflatten nests dotted keys as SAF does: a key of three parts takes the
// place of the one before it with the same first two.
func unflatten(m *mapping12) *mapping12 {
	out := &mapping12{values: map[string]any{}}
	for _, key := range m.keys {
		parts := strings.SplitN(key+"..", ".", 4)
		inner, ok := out.values[parts[0]].(*mapping12)
		if !ok {
			inner = &mapping12{values: map[string]any{}}
			out.values[parts[0]] = inner
		}
		var value any = m.values[key]
		if parts[2] != "" {
			value = &mapping12{values: map[string]any{parts[2]: value}}
		}
		inner.values[parts[1]] = value
	}
	return out
}

// Check returns nil, or the first thing that SAF would find, with its
// message (which SAF prints after "Error: ").
func (t *SAF) Check(doc *hdf.Results) *Finding {
	c := tally(doc, true)
	checks := []func(counts) *Finding{
		t.compliance, t.exactTotals, t.totals("min"), t.totals("max"), t.severities, t.controls,
	}
	for _, check := range checks {
		if f := check(c); f != nil {
			return f
		}
	}
	return nil
}

// get is the value at a path, or under the path itself as a key, which comes
// first (lodash); ok is false where JavaScript has undefined.
func (t *SAF) get(path string) (v any, ok bool) {
	if v, ok = t.values[path]; ok {
		return v, true
	}
	return t.member(path)
}

// member is the value at a path.
func (t *SAF) member(path string) (v any, ok bool) {
	v = &mapping12{values: t.values}
	for part := range strings.SplitSeq(path, ".") {
		m, isMap := v.(*mapping12)
		if !isMap {
			return nil, false
		}
		if v, ok = m.values[part]; !ok {
			return nil, false
		}
	}
	return v, true
}

func (t *SAF) compliance(c counts) *Finding {
	actual := float64(c.compliance())
	if v, ok := t.member("compliance.min"); ok && truthy(v) && less(actual, v) {
		return &Finding{Path: "compliance.min", Message: "Overall compliance minimum was not satisfied"}
	}
	if v, ok := t.member("compliance.max"); ok && truthy(v) && more(actual, v) {
		return &Finding{Path: "compliance.max", Message: "Overall compliance maximum was not satisfied"}
	}
	return nil
}

func (t *SAF) exactTotals(c counts) *Finding {
	for _, st := range []Status{Passed, Failed, Skipped, NoImpact, Error} {
		path := string(st) + ".total"
		v, ok := t.get(path)
		switch v.(type) {
		case nil, *mapping12, []any:
			continue // JavaScript's objects, null too
		}
		n := len(c.ids[st]["total"])
		if f, isNumber := v.(float64); ok && (!isNumber || f != float64(n)) {
			return notMet(path, n, "not equal to", v)
		}
	}
	return nil
}

func (t *SAF) totals(last string) func(counts) *Finding {
	return func(c counts) *Finding {
		for _, st := range []Status{Passed, Failed, Skipped, Error} {
			if f := t.count(c, st, "total", last); f != nil {
				return f
			}
		}
		return nil
	}
}

func (t *SAF) severities(c counts) *Finding {
	for _, sev := range severities {
		for _, st := range statuses {
			if sev == None && st != NoImpact {
				continue
			}
			for _, last := range []string{"min", "max"} {
				if f := t.count(c, st, sev, last); f != nil {
					return f
				}
			}
		}
	}
	return nil
}

func (t *SAF) count(c counts, st Status, sev Severity, last string) *Finding {
	path := string(st) + "." + string(sev) + "." + last
	v, ok := t.get(path)
	n := len(c.ids[st][sev])
	switch {
	case ok && last == "min" && less(float64(n), v):
		return notMet(path, n, "less than", v)
	case ok && last == "max" && more(float64(n), v):
		return notMet(path, n, "greater than", v)
	}
	return nil
}

func notMet(path string, n int, is string, v any) *Finding {
	st, _, _ := strings.Cut(path, ".")
	return &Finding{Path: path, Message: fmt.Sprintf(
		"%s: Threshold not met. Number of received total %s controls (%d) is %s your set threshold for the number of %s controls (%s)",
		path, st, n, is, st, text(v))}
}

func (t *SAF) controls(c counts) *Finding {
	for _, sev := range severities {
		for _, st := range statuses {
			if sev == None && st != NoImpact {
				continue
			}
			path := string(st) + "." + string(sev) + ".controls"
			v, _ := t.get(path)
			if !truthy(v) {
				continue
			}
			listed, length, ok := iterate(v)
			if !ok {
				return &Finding{Path: path, Message: path + " can't be iterated: SAF ends with a TypeError"}
			}
			actual := c.ids[st][sev]
			for _, id := range listed {
				if s, isString := id.(string); !isString || !slices.Contains(actual, s) {
					return &Finding{Path: path, Message: fmt.Sprintf(
						"Expected %s to contain %s controls but it only contained [%s]", path, text(id), orUndefined(actual, strings.Join(actual, ", ")))}
				}
			}
			if length != len(actual) || actual == nil {
				return &Finding{Path: path, Message: fmt.Sprintf(
					"Expected %s to contain %d controls but it contained %s", path, length, orUndefined(actual, strconv.Itoa(len(actual))))}
			}
		}
	}
	return nil
}

func orUndefined(ids []string, otherwise string) string {
	if ids == nil {
		return "undefined"
	}
	return otherwise
}

// iterate gives what for … of gives of a value, and its length.
func iterate(v any) (elements []any, length int, ok bool) {
	switch v := v.(type) {
	case []any:
		return v, len(v), true
	case string:
		for _, r := range v {
			elements = append(elements, string(r))
			length += utf16.RuneLen(r)
		}
		return elements, length, true
	}
	return nil, 0, false
}

// less and more compare as JavaScript does: what isn't a number is made one
// where it can be, and else compares as false.
func less(n float64, v any) bool { return n < coerce(v) }
func more(n float64, v any) bool { return n > coerce(v) }

// coerce is JavaScript's Number(v): NaN for what is none.
func coerce(v any) float64 {
	switch v := v.(type) {
	case nil:
		return 0
	case bool:
		if v {
			return 1
		}
		return 0
	case float64:
		return v
	case string:
		s := strings.TrimSpace(v)
		switch {
		case s == "":
			return 0
		case strings.TrimLeft(s, "+-") == "Infinity" && len(s) <= len("+Infinity"):
			return math.Inf(1 - 2*strings.Count(s, "-"))
		case prefixed.MatchString(s):
			n, ok := new(big.Int).SetString(s, 0)
			if !ok {
				return math.NaN()
			}
			f, _ := new(big.Float).SetInt(n).Float64()
			return f
		case floating.MatchString(s):
			f, _ := strconv.ParseFloat(s, 64) // beyond its range: infinite, as in JavaScript
			return f
		}
	case []any:
		return coerce(text(v))
	}
	return math.NaN()
}

// text is a value as JavaScript puts it into a string.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case float64:
		return numberText(v)
	case *mapping12:
		return "[object Object]"
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			if v[i] != nil {
				parts[i] = text(v[i])
			}
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(v)
}

// numberText is JavaScript's Number.prototype.toString.
func numberText(f float64) string {
	switch abs := math.Abs(f); {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	case f == 0:
		return "0"
	case abs >= 1e21 || abs < 1e-6:
		mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
		return mantissa + "e" + exponent[:1] + strings.TrimLeft(exponent[1:], "0")
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}
