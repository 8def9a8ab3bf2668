package main

import (
	"context"
	"io"
	"slices"
	"strings"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/internal/near"
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
		if like := near.Names(id, ids); len(like) > 0 {
			said = "; near it: " + strings.Join(like, ", ")
		}
		tell(errs, "reeve: --controls %s: the profile has no such control%s", id, said)
	}
}
