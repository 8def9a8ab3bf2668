package matcher

import (
	"fmt"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// maxDiffLines is the most lines of either side that are compared: the work
// grows with their product.
const maxDiffLines = 1000

// diff is RSpec's unified diff of two values, or "" where it shows none:
// for numbers, procs and texts of one line.
func (k *Kit) diff(actual, expected ruby.Value) string {
	if actual == nil || expected == nil {
		return ""
	}
	flat := append(k.flatten(nil, actual), k.flatten(nil, expected)...)
	isString := func(v ruby.Value) bool { _, ok := v.(*ruby.String); return ok }
	var from, to string
	switch {
	case !slices.ContainsFunc(flat, func(v ruby.Value) bool { return !isString(v) }):
		if !slices.ContainsFunc(flat, func(v ruby.Value) bool { return strings.Contains(v.(*ruby.String).String(), "\n") }) {
			return ""
		}
		from, to = k.joined(expected), k.joined(actual)
	case slices.ContainsFunc(flat, func(v ruby.Value) bool {
		_, isProc := v.(*ruby.Proc)
		return isProc || k.in.IsA(v, k.in.Class("Numeric"))
	}):
		if !bothHashes(actual, expected) {
			return ""
		}
		fallthrough
	default:
		from, to = k.printed(expected), k.printed(actual)
	}
	return unified(strings.Split(strings.TrimSuffix(from, "\n"), "\n"), strings.Split(strings.TrimSuffix(to, "\n"), "\n"))
}

func bothHashes(a, b ruby.Value) bool {
	_, x := a.(*ruby.Hash)
	_, y := b.(*ruby.Hash)
	return x && y
}

func (k *Kit) flatten(out []ruby.Value, v ruby.Value) []ruby.Value {
	if a, ok := v.(*ruby.Array); ok && len(out) < 100_000 {
		k.in.Nested(func() {
			for _, e := range a.Elems {
				out = k.flatten(out, e)
			}
		})
		return out
	}
	return append(out, v)
}

// joined is a text as it is, or an array of texts one a line.
func (k *Kit) joined(v ruby.Value) string {
	a, ok := v.(*ruby.Array)
	if !ok {
		return k.in.ToS(v)
	}
	lines := make([]string, len(a.Elems))
	for i, e := range a.Elems {
		lines[i] = strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(k.in.ToS(e))
	}
	return strings.Join(lines, "\n")
}

// printed is a value as Ruby's pp prints it, roughly: arrays that don't fit
// in a line have one element a line.
func (k *Kit) printed(v ruby.Value) string {
	v = k.surface(v)
	switch v := v.(type) {
	case *ruby.Hash:
		var lines []string
		_ = v.Each(func(key, value ruby.Value) error {
			lines = append(lines, k.Inspect(key)+" => "+k.Inspect(value)+",")
			return nil
		})
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	case *ruby.String:
		if strings.Contains(v.String(), "\n") {
			return v.String()
		}
	case *ruby.Array:
		if s := k.Inspect(v); len(s) < 80 {
			return s
		}
		parts := make([]string, len(v.Elems))
		for i, e := range v.Elems {
			parts[i] = k.Inspect(e)
		}
		return "[" + strings.Join(parts, ",\n ") + "]"
	}
	return k.Inspect(v)
}

// unified is a unified diff with three lines of context.
func unified(from, to []string) string {
	if len(from) > maxDiffLines || len(to) > maxDiffLines {
		return ""
	}
	type line struct {
		op   byte
		text string
		i, j int // lines of from and to before it
	}
	// common[i][j] is the length of the longest common subsequence of
	// from[i:] and to[j:].
	common := make([][]int32, len(from)+1)
	for i := range common {
		common[i] = make([]int32, len(to)+1)
	}
	for i := len(from) - 1; i >= 0; i-- {
		for j := len(to) - 1; j >= 0; j-- {
			if from[i] == to[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var lines []line
	for i, j := 0, 0; i < len(from) || j < len(to); {
		switch {
		case i < len(from) && j < len(to) && from[i] == to[j]:
			lines = append(lines, line{' ', from[i], i, j})
			i, j = i+1, j+1
		case i < len(from) && (j == len(to) || common[i+1][j] >= common[i][j+1]):
			lines = append(lines, line{'-', from[i], i, j})
			i++
		default:
			lines = append(lines, line{'+', to[j], i, j})
			j++
		}
	}
	var out strings.Builder
	for n := 0; n < len(lines); {
		if lines[n].op == ' ' {
			n++
			continue
		}
		start, end := max(0, n-3), n
		for m := n; m < len(lines) && m <= end+6; m++ {
			if lines[m].op != ' ' {
				end = m
			}
		}
		stop := min(len(lines), end+4)
		hunk := lines[start:stop]
		var olds, news int
		for _, l := range hunk {
			if l.op != '+' {
				olds++
			}
			if l.op != '-' {
				news++
			}
		}
		fmt.Fprintf(&out, "\n@@ -%s +%s @@", span(hunk[0].i, olds), span(hunk[0].j, news))
		for _, l := range hunk {
			out.WriteString("\n" + string(l.op) + l.text)
		}
		n = stop
	}
	if out.Len() > 0 {
		out.WriteByte('\n')
	}
	return out.String()
}

func span(start, n int) string {
	if n == 1 {
		return fmt.Sprint(start + 1)
	}
	return fmt.Sprintf("%d,%d", start+1, n)
}
