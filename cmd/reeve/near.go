package main

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strings"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec"
)

// tellUnknown says which of the ids in --controls the profile hasn't, and which
// of its own are like them. InSpec leaves such an id out without a word.
func (s *scanCommand) tellUnknown(ctx context.Context, profile *inspec.Profile, results *hdf.Results, errs io.Writer) {
	unknown := slices.DeleteFunc(slices.Clone(s.controls), func(id string) bool {
		return strings.HasPrefix(id, "/") || slices.ContainsFunc(results.Findings(), func(f hdf.Finding) bool { return f.Control.ID == id })
	})
	if len(unknown) == 0 || results.Profiles[0].Status == "skipped" {
		return
	}
	controls, err := profile.Controls(ctx)
	if err != nil {
		return // the run has said what is wrong
	}
	var ids []string
	for _, c := range controls {
		ids = append(ids, c.ID)
	}
	for _, id := range unknown {
		said := ""
		if like := near(id, ids); len(like) > 0 {
			said = "; near it: " + strings.Join(like, ", ")
		}
		tell(errs, "reeve: --controls %s: the profile has no such control%s", id, said)
	}
}

// near lists up to three of ids that are most like id: those that hold it or
// that it holds, and those that begin and end as it does for most of it.
func near(id string, ids []string) []string {
	id = strings.ToLower(id)
	alike := func(other string) int {
		other = strings.ToLower(other)
		if strings.Contains(other, id) || strings.Contains(id, other) {
			return len(id)
		}
		short := min(len(id), len(other))
		begin, end := 0, 0
		for begin < short && id[begin] == other[begin] {
			begin++
		}
		for end < short-begin && id[len(id)-1-end] == other[len(other)-1-end] {
			end++
		}
		return begin + end
	}
	out := slices.DeleteFunc(slices.Clone(ids), func(other string) bool { return other == "" || 3*alike(other) < 2*len(id) })
	slices.SortStableFunc(out, func(a, b string) int {
		return cmp.Or(cmp.Compare(alike(b), alike(a)), cmp.Compare(len(a), len(b)))
	})
	return out[:min(3, len(out))]
}
