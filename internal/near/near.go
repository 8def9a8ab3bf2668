// Package near helps people who have mistyped a name: it finds those that are
// like it, and keeps what an error lists short.
package near

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// few is how many names an error lists; of more it tells the nearest.
const few = 5

// Names lists up to three of names that are most like name: those that hold it
// or that it holds, and those that begin and end as it does for most of it.
func Names[S ~string](name S, names []S) []S {
	wanted := strings.ToLower(string(name))
	alike := func(of S) int {
		other := strings.ToLower(string(of))
		if strings.Contains(other, wanted) || strings.Contains(wanted, other) {
			return len(wanted)
		}
		short := min(len(wanted), len(other))
		begin, end := 0, 0
		for begin < short && wanted[begin] == other[begin] {
			begin++
		}
		for end < short-begin && wanted[len(wanted)-1-end] == other[len(other)-1-end] {
			end++
		}
		return begin + end
	}
	out := slices.DeleteFunc(slices.Clone(names), func(other S) bool { return other == "" || 3*alike(other) < 2*len(wanted) })
	slices.SortStableFunc(out, func(a, b S) int {
		return cmp.Or(cmp.Compare(alike(b), alike(a)), cmp.Compare(len(a), len(b)))
	})
	return out[:min(3, len(out))]
}

// Instead says, for an error about a name that nothing has, what there is: all
// of a few names, or else those that are most like it.
func Instead[S ~string](name S, names []S) string {
	switch like := Names(name, names); {
	case len(names) == 0:
		return "there are none"
	case len(names) <= few:
		return "there are: " + join(names)
	case len(like) > 0:
		return "near it: " + join(like)
	}
	return "no name is like it"
}

// Some lists names, or the first of them and how many more there are.
func Some[S ~string](names []S) string {
	switch more := len(names) - few; {
	case len(names) == 0:
		return "none"
	case more > 1:
		return fmt.Sprintf("%s and %d more", join(names[:few]), more)
	}
	return join(names)
}

func join[S ~string](names []S) string {
	var b strings.Builder
	for i, n := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(n))
	}
	return b.String()
}
