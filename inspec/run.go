package inspec

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
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
	// Controls limits the run to these ids; /…/ is a regular expression. Tags
	// are names and values of tags, likewise: of both, a control that either
	// names is run.
	Controls, Tags []string
	// Waivers and Attestations are what people decided about controls.
	Waivers      Waivers
	Attestations Attestations
	// Version is written into the results as the version of the engine.
	Version string
	// Progress is called after each control, in order, by the goroutine that
	// called Run.
	Progress func(Progress)
	// Limits bound each control by itself; Limits.Time counts waiting for the
	// target, too, and is 15 minutes where it is zero.
	Limits ruby.Limits
	Logger *slog.Logger
	// Jobs is how many commands run on the target side by side; zero means
	// Jobs, one that they run in the order of the profile.
	Jobs int
	// Stats, if there is one, is told what the run cost.
	Stats *Stats
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
		return nil, fmt.Errorf("controls: %w", err)
	}
	tagged, err := tagSelection(opt.Tags)
	if err != nil {
		return nil, err
	}
	given, err := p.given(opt.Inputs)
	if err != nil {
		return nil, err
	}
	asked := time.Now()
	platform, err := t.Platform(ctx)
	answered := time.Now()
	if err != nil {
		return nil, fmt.Errorf("platform of %s: %w", t.URI(), err)
	}
	doc := &hdf.Results{Version: opt.Version, Platform: hdf.Platform{Name: platform.Name, Release: platform.Release, TargetID: targetID(t.URI())}}
	if doc.Version == "" {
		doc.Version = buildVersion()
	}
	r := &run{p: p, opt: opt, given: given, wanted: wanted, tagged: tagged, waivers: opt.Waivers.suite()}
	jobs := opt.Jobs
	if jobs == 0 {
		jobs = Jobs
	}
	if strings.HasPrefix(t.URI(), "dir:") {
		jobs = 1 // files of this machine answer at once: nothing to ask ahead
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	session := target.NewSession(ctx, t, jobs)
	if jobs > 1 {
		defer r.ahead(ctx, session)()
	}
	if err := r.install(ctx, session.Target()); err != nil {
		return nil, err
	}
	results := map[*dsl.Control][]hdf.Result{}
	if r.supports(p) {
		if results, err = r.judge(ctx); err != nil {
			return nil, err
		}
	}
	doc.Profiles = r.profiles(doc.Platform, results)
	opt.Attestations.apply(doc, start)
	doc.Statistics.Duration = time.Since(start).Seconds()
	doc.Seal()
	if opt.Stats != nil {
		opt.Stats.Stats, opt.Stats.Wall = session.Stats(), time.Since(start)
		opt.Stats.Waiting += answered.Sub(asked)
		opt.Stats.Own = opt.Stats.Wall - opt.Stats.Waiting
	}
	return doc, nil
}

// targetID names the target in results. Results travel, so that the words of a
// shell: command, which may hold a secret, stay behind.
func targetID(uri string) string {
	if strings.HasPrefix(uri, "shell:") {
		return ""
	}
	return uri
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
	tagged  func(tag string) bool
	waivers map[string]dsl.Waiver
	ungated bool
	around  func(id string) func()
	skips   func(file string) bool // control files that aren't evaluated
	suites  map[*Profile]*dsl.Suite
	broken  brokenLibraries
	in      *ruby.Interp
	set     *resource.Set
	lang    *dsl.Language
}

// install readies the interpreter and the resources.
func (r *run) install(ctx context.Context, t target.Target) error {
	limits := r.opt.Limits
	if limits.Time == 0 {
		limits.Time = controlTime
	}
	r.in = ruby.New(limits)
	r.in.SharePatterns(&r.p.patterns)
	if _, err := r.in.Run(ctx, empty, nil); err != nil {
		return err
	}
	var err error
	if r.set, err = resource.Install(r.in, t, resource.Options{Logger: r.opt.Logger}); err != nil {
		return fmt.Errorf("target %s: %w", t.URI(), err)
	}
	r.lang = dsl.Install(r.in, resources{r.set})
	return nil
}

// empty is run to give the interpreter its context.
var empty, _ = ruby.Parse("", "")

// supports reports whether p is meant for the target's platform; to list its
// controls, each is.
func (r *run) supports(p *Profile) bool {
	return r.ungated || len(p.meta.Supports) == 0 || slices.ContainsFunc(p.meta.Supports, func(entry map[string]any) bool {
		criteria := &ruby.Hash{}
		for _, k := range sortedKeys(entry) {
			criteria.Set(ruby.NewString(k), ruby.NewString(fmt.Sprint(entry[k])))
		}
		return r.set.Supports(criteria)
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// judge loads the controls and judges them one after another.
func (r *run) judge(ctx context.Context) (map[*dsl.Control][]hdf.Result, error) {
	suite, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	controls := suite.Controls()
	out := make(map[*dsl.Control][]hdf.Result, len(controls))
	for i, c := range controls {
		results, err := suite.Run(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("control %s: %w", c.ID, err)
		}
		out[c] = results
		if r.opt.Progress != nil {
			r.opt.Progress(Progress{Done: i + 1, Total: len(controls), Control: c.ID, Title: c.Title, Impact: c.Impact, Status: hdf.StatusOf(results)})
		}
	}
	return out, nil
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
				return nil, fmt.Errorf("%s is not a regular expression: %w", c, err)
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

// tagSelection reads --tags: names and values of tags, and /regular
// expressions/ of them. Without any it is nil.
func tagSelection(tags []string) (func(tag string) bool, error) {
	pick, err := selection(tags)
	if err != nil {
		return nil, fmt.Errorf("tags: %w", err)
	}
	return pick, nil
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

// buildVersion is the version of the module that this is built from.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
