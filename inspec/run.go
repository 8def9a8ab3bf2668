package inspec

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec/dsl"
	"reeve.dev/reeve/inspec/resource"
	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// Options say how a profile is run. The zero value runs all of it.
type Options struct {
	// Inputs go before the values that the profile gives itself. Values are
	// what JSON or YAML decode into.
	Inputs map[string]any
	// Controls limits the run to these ids; /…/ is a regular expression.
	Controls []string
	// Version is written into the results as the version of the engine.
	Version string
	// Progress is called after each control, in order, by the goroutine that
	// called Run.
	Progress func(Progress)
	// Limits bound each control by itself; Limits.Time counts waiting for the
	// target, too, and is 15 minutes where it is zero.
	Limits ruby.Limits
	Logger *slog.Logger
}

// Progress tells which control just ended, and how.
type Progress struct {
	Done, Total int
	Control     string
	Title       string
	Impact      float64
	Status      hdf.Status
}

// Run holds the target against the profile and returns the results, sealed.
// What goes wrong inside a control is an error on that control alone, so that
// a result comes back for every control. The error is for what concerns the
// whole: a library that can't be run, an input that doesn't fit, a target
// that is gone, or a context that ended. Run doesn't close the target.
//
// A profile that doesn't support the target's platform gives results without
// controls, whose profile has the status "skipped".
func Run(ctx context.Context, p *Profile, t target.Target, opt Options) (*hdf.Results, error) {
	start := time.Now()
	wanted, err := selection(opt.Controls)
	if err != nil {
		return nil, err
	}
	given, err := p.given(opt.Inputs)
	if err != nil {
		return nil, err
	}
	platform, err := t.Platform(ctx)
	if err != nil {
		return nil, fmt.Errorf("platform of %s: %w", t.URI(), err)
	}
	doc := &hdf.Results{Version: opt.Version, Platform: hdf.Platform{Name: platform.Name, Release: platform.Release}}
	if doc.Version == "" {
		doc.Version = buildVersion()
	}
	out := p.describe(given)
	r := &run{p: p, opt: opt, given: given, wanted: wanted}
	supported, err := r.install(ctx, t)
	if err != nil {
		return nil, err
	}
	if !supported {
		out.Status = "skipped"
		out.StatusMessage = fmt.Sprintf("Skipping profile: '%s' on unsupported platform: '%s/%s'.", p.meta.Name, platform.Name, platform.Release)
		out.SkipMessage = out.StatusMessage
	} else {
		out.Status = "loaded"
		if err := r.judge(ctx, &out); err != nil {
			return nil, err
		}
	}
	doc.Profiles = []hdf.Profile{out}
	doc.Statistics.Duration = time.Since(start).Seconds()
	doc.Seal()
	return doc, nil
}

// controlTime is how long one control may take where Options say nothing. It
// counts waiting for the target, whose commands have a limit of their own
// (target.CommandTimeout); what a profile computes is bounded by the steps.
const controlTime = 15 * time.Minute

// run is one run of one profile.
type run struct {
	p       *Profile
	opt     Options
	given   map[string]any
	wanted  func(id string) bool
	ungated bool
	in      *ruby.Interp
	set     *resource.Set
	lang    *dsl.Language
}

// install readies the interpreter: resources and the profile's libraries. It
// reports whether the profile supports the platform.
func (r *run) install(ctx context.Context, t target.Target) (bool, error) {
	limits := r.opt.Limits
	if limits.Time == 0 {
		limits.Time = controlTime
	}
	r.in = ruby.New(limits)
	if _, err := r.in.Run(ctx, empty, nil); err != nil {
		return false, err
	}
	var err error
	if r.set, err = resource.Install(r.in, t, resource.Options{Logger: r.opt.Logger}); err != nil {
		return false, fmt.Errorf("target %s: %w", t.URI(), err)
	}
	r.lang = dsl.Install(r.in, resources{r.set})
	return r.supported(), nil
}

// empty is run to give the interpreter its context.
var empty, _ = ruby.Parse("", nil)

func (r *run) supported() bool {
	return len(r.p.meta.Supports) == 0 || slices.ContainsFunc(r.p.meta.Supports, func(entry map[string]any) bool {
		criteria := &ruby.Hash{}
		for _, k := range slices.Sorted(maps.Keys(entry)) {
			criteria.Set(ruby.NewString(k), ruby.NewString(fmt.Sprint(entry[k])))
		}
		return r.set.Supports(criteria)
	})
}

// judge loads the controls and judges them one after another.
func (r *run) judge(ctx context.Context, out *hdf.Profile) error {
	suite, err := r.load(ctx)
	if err != nil {
		return err
	}
	controls := suite.Controls()
	for i, c := range controls {
		results, err := suite.Run(ctx, c)
		if err != nil {
			return fmt.Errorf("control %s: %w", c.ID, err)
		}
		h := c.HDF()
		h.Results = append(h.Results, results...)
		h.Status = hdf.StatusOf(h.Results)
		out.Controls = append(out.Controls, h)
		if r.opt.Progress != nil {
			r.opt.Progress(Progress{Done: i + 1, Total: len(controls), Control: c.ID, Title: c.Title, Impact: c.Impact, Status: h.Status})
		}
	}
	out.Groups = groups(controls, r.p.meta.Name+"/")
	return nil
}

func (r *run) load(ctx context.Context) (*dsl.Suite, error) {
	if err := r.libraries(ctx, r.p); err != nil {
		return nil, err
	}
	cfg, files := r.config(r.p)
	cfg.Wanted = r.wanted
	suite := dsl.New(r.lang, cfg)
	if err := suite.Load(ctx, files); err != nil {
		return nil, fmt.Errorf("profile %s: %w", r.p.meta.Name, err)
	}
	return suite, nil
}

func (r *run) config(p *Profile) (dsl.Config, []*ruby.Program) {
	cfg := dsl.Config{
		Profile: p.meta.Name, Version: p.meta.Version,
		Ungated: r.ungated,
		Given:   r.given, Inputs: map[string]dsl.Input{}, File: p.File,
		Dependency: func(name string) (dsl.Config, []*ruby.Program, error) {
			for i, d := range p.meta.Depends {
				if d.Name == name || p.deps[i].meta.Name == name {
					cfg, files := r.config(p.deps[i])
					return cfg, files, nil
				}
			}
			return dsl.Config{}, nil, fmt.Errorf("profile %s is not listed as a dependency of %s: add it to depends in inspec.yml", name, p.meta.Name)
		},
	}
	for _, in := range p.meta.Inputs {
		cfg.Inputs[in.Name] = dsl.Input{Value: in.Value, HasValue: in.HasValue, Required: in.Required, Check: in.Check}
	}
	var files []*ruby.Program
	for _, name := range p.sources("controls/") {
		files = append(files, p.programs[name])
	}
	return cfg, files
}

// libraries runs the libraries of p, those that it depends on first. Files
// in a folder below libraries/ are run when another one requires them.
func (r *run) libraries(ctx context.Context, p *Profile) error {
	for _, d := range p.deps {
		if err := r.libraries(ctx, d); err != nil {
			return err
		}
	}
	done := map[string]bool{}
	load := func(name string) error {
		if done[name] {
			return nil
		}
		done[name] = true
		r.in.Reset()
		_, err := r.in.Run(ctx, p.programs[name], nil)
		return err
	}
	r.in.DefKernel("require", func(c *ruby.Call) (ruby.Value, error) {
		want := strings.TrimSuffix(c.In.ToS(c.Arg(0)), ".rb") + ".rb"
		if name := path.Join("libraries", want); p.programs[name] != nil {
			return true, load(name)
		}
		return true, nil
	})
	r.in.DefKernel("require_relative", func(c *ruby.Call) (ruby.Value, error) {
		want := strings.TrimSuffix(c.In.ToS(c.Arg(0)), ".rb") + ".rb"
		here := strings.TrimPrefix(c.File, p.meta.Name+"/")
		if name := path.Join(path.Dir(here), want); p.programs[name] != nil {
			return true, load(name)
		}
		return true, nil
	})
	for _, name := range p.sources("libraries/") {
		if path.Dir(name) != "libraries" {
			continue
		}
		if err := load(name); err != nil {
			var e *ruby.Exception
			if errors.As(err, &e) && e.File != "" {
				return &ProfileError{Profile: p.meta.Name, File: strings.TrimPrefix(e.File, p.meta.Name+"/"), Line: e.Line, Msg: e.Class.Name + ": " + e.Message}
			}
			return &ProfileError{Profile: p.meta.Name, File: name, Msg: err.Error()}
		}
	}
	return nil
}

// resources joins the resource set to the language.
type resources struct{ *resource.Set }

func (resources) Skipped(v ruby.Value) (string, bool) { return resource.Skipped(v) }
func (resources) Failed(v ruby.Value) (string, bool)  { return resource.Failed(v) }
func (resources) ClassName(v ruby.Value) string       { return resource.ClassName(v) }

// selection reads --controls: ids and /regular expressions/.
func selection(controls []string) (func(id string) bool, error) {
	if len(controls) == 0 {
		return nil, nil
	}
	ids := map[string]bool{}
	var patterns []*regexp.Regexp
	for _, c := range controls {
		if len(c) > 1 && c[0] == '/' && c[len(c)-1] == '/' {
			re, err := regexp.Compile(c[1 : len(c)-1])
			if err != nil {
				return nil, fmt.Errorf("controls: %s is not a regular expression: %w", c, err)
			}
			patterns = append(patterns, re)
			continue
		}
		ids[c] = true
	}
	return func(id string) bool {
		return ids[id] || slices.ContainsFunc(patterns, func(re *regexp.Regexp) bool { return re.MatchString(id) })
	}, nil
}

// given checks the values from outside against what the profile declares.
func (p *Profile) given(inputs map[string]any) (map[string]any, error) {
	out := make(map[string]any, len(inputs))
	for name, v := range inputs {
		v = normalize(v)
		for _, in := range p.meta.Inputs {
			if in.Name == name {
				if err := in.Check(v); err != nil {
					return nil, err
				}
			}
		}
		out[name] = v
	}
	return out, nil
}

// describe is the profile as results hold it, without controls.
func (p *Profile) describe(given map[string]any) hdf.Profile {
	m := p.meta
	out := hdf.Profile{
		Name: m.Name, Version: m.Version, SHA256: p.digest, Title: m.Title, Maintainer: m.Maintainer, Summary: m.Summary,
		License: m.License, Copyright: m.Copyright, CopyrightEmail: m.CopyrightEmail,
		Supports: m.Supports, Attributes: []map[string]any{}, Groups: []hdf.Group{}, Controls: []hdf.Control{},
	}
	if out.Supports == nil {
		out.Supports = []map[string]any{}
	}
	for _, in := range m.Inputs {
		opts := map[string]any{"required": in.Required}
		for key, v := range map[string]string{"type": in.Type, "title": in.Title, "description": in.Description} {
			if v != "" {
				opts[key] = v
			}
		}
		v, ok := given[in.Name]
		if !ok {
			v, ok = in.Value, in.HasValue
		}
		switch {
		case in.Sensitive:
			opts["sensitive"] = true
		case ok:
			opts["value"] = v
		}
		out.Attributes = append(out.Attributes, map[string]any{"name": in.Name, "options": opts})
	}
	for _, d := range m.Depends {
		out.Depends = append(out.Depends, map[string]any{"name": d.Name, "path": d.Path})
	}
	return out
}

// groups lists the control files.
func groups(controls []*dsl.Control, prefix string) []hdf.Group {
	out := []hdf.Group{}
	for _, c := range controls {
		id := strings.TrimPrefix(c.File, prefix)
		i := slices.IndexFunc(out, func(g hdf.Group) bool { return g.ID == id })
		if i < 0 {
			out = append(out, hdf.Group{ID: id, Title: c.FileTitle})
			i = len(out) - 1
		}
		out[i].Controls = append(out[i].Controls, c.ID)
	}
	return out
}

// parseAll parses every Ruby file once, so that a malformed profile is
// refused when it is loaded.
func (p *Profile) parseAll() error {
	p.programs = map[string]*ruby.Program{}
	for _, name := range append(p.sources("controls/"), p.sources("libraries/")...) {
		prog, err := ruby.Parse(path.Join(p.meta.Name, name), p.files[name])
		var syntax *ruby.SyntaxError
		if errors.As(err, &syntax) {
			return &ProfileError{Profile: p.meta.Name, File: name, Line: syntax.Line, Msg: syntax.Msg}
		}
		if err != nil {
			return &ProfileError{Profile: p.meta.Name, File: name, Msg: err.Error()}
		}
		p.programs[name] = prog
	}
	return nil
}

// buildVersion is the version of the module that this is built from.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
