package scan

import (
	"slices"

	"reeve.dev/reeve/hdf"
)

// Comparison is what became of a target's controls from one result to a later
// one. Each control that isn't as it was, or that still fails, is in one of
// the lists, in the order of the later result.
type Comparison struct {
	// Before and After count the controls of each result.
	Before, After hdf.Tally
	// New are those that fail, or can't be judged, and didn't before.
	New []Change
	// Fixed are those that failed and pass.
	Fixed []Change
	// Changed are otherwise than they were, and neither new nor fixed: such as
	// one that is skipped now, or that isn't there any more.
	Changed []Change
	// StillFailing are those that were bad already.
	StillFailing []Change
	// Same is how many others are as they were.
	Same int
}

// Change is one control in both results.
type Change struct {
	ID       string
	Profile  string
	Title    string
	Severity hdf.Severity
	// Before and After are its statuses, hdf.NotApplicable among them; empty
	// where the result doesn't have it.
	Before, After hdf.Status
	// Said is what is wrong now, at most maxSaid sentences; of one that isn't
	// bad any more, what was.
	Said []string
	// Differs says of one that still fails that it says something else.
	Differs bool
}

const maxSaid = 20

// Compare holds a sealed result against an earlier one. A control is the same
// in both if its id is, and the name of its profile; of overlays that is the
// outermost.
func Compare(before, after *hdf.Results) Comparison {
	type name struct {
		profile, id string
		n           int // of several that are called the same
	}
	names := func(list []hdf.Finding) []name {
		seen := map[name]int{}
		out := make([]name, len(list))
		for i, f := range list {
			k := name{profile: f.Profile.Name, id: f.Control.ID}
			out[i] = name{k.profile, k.id, seen[k]}
			seen[k]++
		}
		return out
	}
	was, is := before.Findings(), after.Findings()
	c := Comparison{Before: hdf.Count(was), After: hdf.Count(is)}
	earlier := map[name]*hdf.Finding{}
	wasNames := names(was)
	for i, k := range wasNames {
		earlier[k] = &was[i]
	}
	for i, k := range names(is) {
		c.add(earlier[k], &is[i])
		delete(earlier, k)
	}
	for i, k := range wasNames {
		if earlier[k] != nil {
			c.add(&was[i], nil)
		}
	}
	return c
}

// add sorts one control in; nil is where there is none.
func (c *Comparison) add(before, after *hdf.Finding) {
	shown := after
	if after == nil {
		shown = before
	}
	change := Change{ID: shown.Control.ID, Profile: shown.Profile.Name, Title: shown.Control.Title, Severity: shown.Severity}
	var said []string
	if before != nil {
		change.Before, said = before.Status, complaints(before.Control)
	}
	if after != nil {
		change.After, change.Said = after.Status, complaints(after.Control)
	}
	switch was, is := bad(change.Before), bad(change.After); {
	case was && is:
		change.Differs = change.Before != change.After || !slices.Equal(said, change.Said)
		c.StillFailing = append(c.StillFailing, change.short())
	case is:
		c.New = append(c.New, change.short())
	case change.Before == change.After:
		c.Same++
	case was && change.After == hdf.Passed:
		change.Said = said
		c.Fixed = append(c.Fixed, change.short())
	default:
		change.Said = said
		c.Changed = append(c.Changed, change.short())
	}
}

func (c Change) short() Change {
	if len(c.Said) > maxSaid {
		c.Said = c.Said[:maxSaid:maxSaid]
	}
	return c
}

func bad(s hdf.Status) bool { return s == hdf.Failed || s == hdf.Error }

// complaints are what a control's bad results say.
func complaints(c *hdf.Control) (out []string) {
	for i := range c.Results {
		r := &c.Results[i]
		if !bad(r.Verdict()) {
			continue
		}
		text := r.CodeDesc
		if said := r.Said(); said != "" {
			text += ": " + said
		}
		out = append(out, cut(text))
	}
	return out
}
