package threshold

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/hdf"
)

// SAFPassed is what SAF prints when nothing is wrong.
const SAFPassed = "All validation tests passed"

// SAF is a threshold as version 1.5.3 of @mitre/saf understands it.
type SAF struct{ values map[string]any }

// ParseSAF reads a threshold as SAF does: anything that is a YAML mapping.
func ParseSAF(text []byte) (*SAF, error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("threshold has %d bytes; %d are allowed", len(text), MaxFile)
	}
	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		return nil, fmt.Errorf("threshold is not a YAML mapping: %w", err)
	}
	if values == nil {
		return nil, errors.New("threshold is an empty file")
	}
	for _, v := range values {
		if _, ok := number(v); !ok {
			return &SAF{values: values}, nil
		}
	}
	keys, err := keysInOrder(text)
	if err != nil {
		return nil, err
	}
	return &SAF{values: unflatten(keys, values)}, nil
}

// keysInOrder gives the top-level keys as they stand in the file.
func keysInOrder(text []byte) ([]string, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("threshold is not YAML: %w", err)
	}
	var keys []string
	if len(doc.Content) > 0 {
		for i := 0; i < len(doc.Content[0].Content); i += 2 {
			keys = append(keys, doc.Content[0].Content[i].Value)
		}
	}
	return keys, nil
}

// unflatten nests dotted keys as SAF does: a key of three parts takes the
// place of the one before it with the same first two.
func unflatten(keys []string, values map[string]any) map[string]any {
	out := map[string]any{}
	for _, key := range keys {
		parts := strings.SplitN(key+"..", ".", 4)
		inner, ok := out[parts[0]].(map[string]any)
		if !ok {
			inner = map[string]any{}
			out[parts[0]] = inner
		}
		if parts[2] != "" {
			inner[parts[1]] = map[string]any{parts[2]: values[key]}
		} else {
			inner[parts[1]] = values[key]
		}
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

// get is the value at a path; ok is false where JavaScript has undefined.
func (t *SAF) get(path string) (v any, ok bool) {
	v = t.values
	for _, part := range strings.Split(path, ".") {
		m, isMap := v.(map[string]any)
		if !isMap {
			return nil, false
		}
		if v, ok = m[part]; !ok {
			return nil, false
		}
	}
	return v, true
}

func (t *SAF) compliance(c counts) *Finding {
	actual := float64(c.compliance())
	if v, ok := t.get("compliance.min"); ok && truthy(v) && less(actual, v) {
		return &Finding{Path: "compliance.min", Message: "Overall compliance minimum was not satisfied"}
	}
	if v, ok := t.get("compliance.max"); ok && truthy(v) && more(actual, v) {
		return &Finding{Path: "compliance.max", Message: "Overall compliance maximum was not satisfied"}
	}
	return nil
}

func (t *SAF) exactTotals(c counts) *Finding {
	for _, st := range []Status{Passed, Failed, Skipped, NoImpact, Error} {
		path := string(st) + ".total"
		v, ok := t.get(path)
		switch v.(type) {
		case nil, map[string]any, []any:
			continue // JavaScript's objects, null too
		}
		n := len(c.ids[st]["total"])
		if f, isNumber := number(v); ok && (!isNumber || f != float64(n)) {
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
			listed, ok := v.([]any)
			if !ok {
				continue
			}
			actual := c.ids[st][sev]
			for _, id := range listed {
				if s, isString := id.(string); !isString || !slices.Contains(actual, s) {
					return &Finding{Path: path, Message: fmt.Sprintf(
						"Expected %s to contain %s controls but it only contained [%s]", path, text(id), orUndefined(actual, strings.Join(actual, ", ")))}
				}
			}
			if len(listed) != len(actual) || actual == nil {
				return &Finding{Path: path, Message: fmt.Sprintf(
					"Expected %s to contain %d controls but it contained %s", path, len(listed), orUndefined(actual, strconv.Itoa(len(actual))))}
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

// number is a value that YAML gave as a number.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// less and more compare as JavaScript does: what isn't a number is made one
// where it can be, and else compares as false.
func less(n float64, v any) bool { f, ok := coerce(v); return ok && n < f }
func more(n float64, v any) bool { f, ok := coerce(v); return ok && n > f }

func coerce(v any) (float64, bool) {
	switch v := v.(type) {
	case nil:
		return 0, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case string:
		s := strings.TrimSpace(v)
		if s == "" {
			return 0, true
		}
		f, err := strconv.ParseFloat(s, 64)
		return f, err == nil
	}
	return number(v)
}

// text is a value as JavaScript puts it into a string.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case map[string]any:
		return "[object Object]"
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = text(v[i])
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(v)
}
