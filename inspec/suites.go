package inspec

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec/dsl"
)

// suite returns the suite of p, which is the profile that is run or one that
// it depends on. It is made once.
func (r *run) suite(p *Profile) *dsl.Suite {
	if s := r.suites[p]; s != nil {
		return s
	}
	cfg := dsl.Config{
		Profile: p.meta.Name, Version: p.meta.Version,
		Ungated: r.ungated, Wanted: r.wanted, Tagged: r.tagged, Waivers: r.waivers, Around: r.around,
		Inputs: r.inputs(p), File: p.File,
		Broken: p.code().unread, Spoiled: r.broken.all, Explain: r.broken.explain,
		Dependency: func(name string) (*dsl.Suite, error) {
			d := p.dependency(name)
			if d == nil {
				//lint:ignore ST1005 InSpec's own words, which reports show
				return nil, fmt.Errorf("Cannot load '%s' since it is not listed as a dependency of %s: add it to depends in inspec.yml", name, p.meta.Name)
			}
			if !r.supports(d) {
				return nil, nil
			}
			return r.suite(d), nil
		},
	}
	for _, name := range p.sources("controls/") {
		if prog := p.code().programs[name]; prog != nil {
			cfg.Files = append(cfg.Files, prog)
		}
	}
	if len(p.deps) == 0 { // or what a file includes would be left out
		cfg.Skips = r.skips
	}
	s := dsl.New(r.lang, cfg)
	r.suites[p] = s
	return s
}

// dependency finds a profile that p depends on, by the name in p's inspec.yml
// or its own, else one that these depend on.
func (p *Profile) dependency(name string) *Profile {
	for i, d := range p.meta.Depends {
		if d.Name == name || p.deps[i].meta.Name == name {
			return p.deps[i]
		}
	}
	for _, d := range p.deps {
		if found := d.dependency(name); found != nil {
			return found
		}
	}
	return nil
}

// all lists p and what it depends on, each profile before those beneath it
// and each once, with the name of the one above it.
func (p *Profile) all() []layer {
	var out []layer
	var walk func(p *Profile, parent string)
	walk = func(p *Profile, parent string) {
		if slices.ContainsFunc(out, func(l layer) bool { return l.profile == p }) {
			return
		}
		out = append(out, layer{p, parent})
		for _, d := range p.deps {
			walk(d, p.meta.Name)
		}
	}
	walk(p, "")
	return out
}

type layer struct {
	profile *Profile
	parent  string
}

// inputs are those that p declares, with their values: its own, those that
// profiles above it set in it, and what the caller gives, which counts in
// every profile.
func (r *run) inputs(p *Profile) []dsl.Input {
	var out []dsl.Input
	index := map[string]int{}
	input := func(name string) *dsl.Input {
		i, ok := index[name]
		if !ok {
			i = len(out)
			index[name] = i
			out = append(out, dsl.Input{Name: name})
		}
		return &out[i]
	}
	for _, in := range p.meta.Inputs {
		if in.Profile != "" && r.p.named(p, in.Profile) != p {
			continue
		}
		i := input(in.Name)
		i.Title, i.Description, i.Type, i.Pattern = in.Title, in.Description, in.Type, in.Pattern
		i.Required, i.Sensitive = in.Required, in.Sensitive
		if in.HasValue {
			i.Values = append(i.Values, dsl.InputValue{Value: in.written, Priority: in.priority(dsl.PriorityMetadata), Symbols: true})
		}
	}
	for _, l := range r.p.all() {
		for _, in := range l.profile.meta.Inputs {
			if in.Profile != "" && in.HasValue && l.profile != p && r.p.named(l.profile, in.Profile) == p {
				i := input(in.Name)
				i.Values = append(i.Values, dsl.InputValue{Value: in.written, Priority: in.priority(dsl.PriorityOverlay), Symbols: true})
			}
		}
	}
	for _, name := range sortedKeys(r.given) {
		i := input(name)
		i.Values = append(i.Values, dsl.InputValue{Value: r.given[name], Priority: dsl.PriorityCaller})
	}
	return out
}

// named finds the profile that an input of from names: one that from depends
// on, by either name, else any of that name.
func (p *Profile) named(from *Profile, name string) *Profile {
	if d := from.dependency(name); d != nil {
		return d
	}
	for _, l := range p.all() {
		if l.profile.meta.Name == name {
			return l.profile
		}
	}
	return nil
}

// profiles is what the results tell of each profile: the one that was run
// first, then those that it depends on. As in InSpec an overlay lists the
// controls that it includes as well, and their results stand at the profile
// that they come from.
func (r *run) profiles(platform hdf.Platform, results map[*dsl.Control][]hdf.Result) []hdf.Profile {
	var out []hdf.Profile
	for _, l := range r.p.all() {
		p := l.profile
		doc := p.describe()
		doc.ParentProfile = l.parent
		for i, d := range p.deps {
			if !r.supports(d) {
				doc.Depends[i]["status"], doc.Depends[i]["status_message"] = "skipped", skipMessage(d, platform)
			}
		}
		if !r.supports(p) {
			doc.Status = "skipped"
			doc.StatusMessage = skipMessage(p, platform)
			doc.SkipMessage = doc.StatusMessage
			out = append(out, doc)
			continue
		}
		suite := r.suite(p)
		controls := suite.Controls()
		for _, c := range controls {
			h := c.HDF()
			if c.Suite() == suite {
				h.Results = append(h.Results, results[c]...)
			} else {
				h.WaiverData = nil
				if code := c.CodeIn(suite); code != "" || l.parent != "" {
					h.Code = code
				}
			}
			doc.Controls = append(doc.Controls, h)
		}
		doc.Groups = groups(controls, p.meta.Name+"/")
		doc.Attributes = suite.Inputs()
		out = append(out, doc)
	}
	return out
}

func skipMessage(p *Profile, platform hdf.Platform) string {
	return fmt.Sprintf("Skipping profile: '%s' on unsupported platform: '%s/%s'.", p.meta.Name, platform.Name, platform.Release)
}

// describe is the profile as results hold it, without controls.
func (p *Profile) describe() hdf.Profile {
	m := p.meta
	out := hdf.Profile{
		Name: m.Name, Version: m.Version, SHA256: p.digest(), Title: m.Title, Maintainer: m.Maintainer, Summary: m.Summary,
		License: m.License, Copyright: m.Copyright, CopyrightEmail: m.CopyrightEmail,
		Supports: m.Supports, Attributes: []map[string]any{}, Groups: []hdf.Group{}, Controls: []hdf.Control{},
		Status: "loaded",
	}
	if out.Supports == nil {
		out.Supports = []map[string]any{}
	}
	for i, d := range m.Depends {
		entry := map[string]any{"name": d.Name, "status": "loaded"}
		if entry["name"] == "" {
			entry["name"] = p.deps[i].meta.Name
		}
		for key, v := range map[string]string{"path": d.Path, "url": d.URL, "git": d.Git} {
			if v != "" {
				entry[key] = v
			}
		}
		out.Depends = append(out.Depends, entry)
	}
	return out
}

// load evaluates the libraries and controls, those of the profiles beneath
// included as far as they are asked for.
func (r *run) load(ctx context.Context) (*dsl.Suite, error) {
	r.suites = map[*Profile]*dsl.Suite{}
	if err := r.libraries(ctx, r.p, map[*Profile]bool{}); err != nil {
		return nil, err
	}
	suite := r.suite(r.p)
	if err := suite.Load(ctx); err != nil {
		return nil, fmt.Errorf("profile %s: %w", r.p.meta.Name, err)
	}
	return suite, nil
}

// groups lists the control files.
func groups(controls []*dsl.Control, prefix string) []hdf.Group {
	out := []hdf.Group{}
	index := map[string]int{}
	for _, c := range controls {
		id := strings.TrimPrefix(c.File, prefix)
		i, ok := index[id]
		if !ok {
			i = len(out)
			index[id] = i
			out = append(out, hdf.Group{ID: id, Title: c.FileTitle})
		}
		out[i].Controls = append(out[i].Controls, c.ID)
	}
	return out
}
