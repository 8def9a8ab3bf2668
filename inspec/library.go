package inspec

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// libraries runs the libraries of p, those that it depends on first. Files
// in a folder below libraries/ are run when another one requires them.
//
// A library that can't be read or that raises doesn't end the run: what it
// would have defined is known by its text, and each control that uses one of
// these names is an error.
func (r *run) libraries(ctx context.Context, p *Profile, seen map[*Profile]bool) error {
	if seen[p] || !r.supports(p) {
		return nil
	}
	seen[p] = true
	for _, d := range p.deps {
		if err := r.libraries(ctx, d, seen); err != nil {
			return err
		}
	}
	// Libraries name the classes of InSpec's resources without their module.
	r.in.Class("Object").Include(r.in.Class("Inspec::Resources"))
	done := map[string]bool{}
	load := func(name string) error {
		if done[name] {
			return nil
		}
		done[name] = true
		if bad := p.code().badLibraries[name]; bad != nil {
			return bad
		}
		r.in.Reset()
		_, err := r.in.Run(ctx, p.code().programs[name], nil)
		return err
	}
	r.in.DefKernel("require", func(c *ruby.Call) (ruby.Value, error) {
		want := strings.TrimSuffix(c.In.ToS(c.Arg(0)), ".rb") + ".rb"
		if name := path.Join("libraries", want); p.isLibrary(name) {
			return true, r.required(c, load(name))
		}
		return true, nil
	})
	r.in.DefKernel("require_relative", func(c *ruby.Call) (ruby.Value, error) {
		want := strings.TrimSuffix(c.In.ToS(c.Arg(0)), ".rb") + ".rb"
		here := strings.TrimPrefix(c.File, p.meta.Name+"/")
		if name := path.Join(path.Dir(here), want); p.isLibrary(name) {
			return true, r.required(c, load(name))
		}
		return true, nil
	})
	for _, name := range p.sources("libraries/") {
		if path.Dir(name) != "libraries" {
			continue
		}
		if err := load(name); err != nil {
			var lost *target.LostError
			switch {
			case ctx.Err() != nil:
				return fmt.Errorf("the run was stopped: %w", context.Cause(ctx))
			case errors.As(err, &lost), errors.Is(err, target.ErrClosed):
				return fmt.Errorf("library %s: %w", name, err)
			}
			r.breaks(p.libraryError(name, err), []byte(p.files[name]))
		}
	}
	return nil
}

func (p *Profile) isLibrary(name string) bool {
	return p.code().programs[name] != nil || p.code().badLibraries[name] != nil
}

// required is the error of a library that another one requires, as Ruby
// raises it there.
func (r *run) required(c *ruby.Call, err error) error {
	var bad *ProfileError
	if errors.As(err, &bad) {
		return c.In.Raise(c.In.Class("LoadError"), "%s", bad.Error())
	}
	return err
}

func (p *Profile) libraryError(name string, err error) *ProfileError {
	var bad *ProfileError
	if errors.As(err, &bad) {
		return bad
	}
	var e *ruby.Exception
	if errors.As(err, &e) && e.File != "" {
		return &ProfileError{Profile: p.meta.Name, File: strings.TrimPrefix(e.File, p.meta.Name+"/"), Line: e.Line, Msg: e.Class.Name + ": " + e.Message}
	}
	return &ProfileError{Profile: p.meta.Name, File: name, Msg: err.Error()}
}

// brokenLibraries is what is known of the libraries that could not be run.
type brokenLibraries struct {
	names map[string]*ProfileError // what they would have defined
	errs  []*ProfileError
	all   error // set when what they would have defined may concern any control
}

// definitions finds what a library defines: resources, matchers, classes and
// modules, methods.
var (
	resourceNames = regexp.MustCompile(`(?m)^\s*name\s*\(?\s*['":]([A-Za-z_]\w*)`)
	matcherNames  = regexp.MustCompile(`(?m)^\s*(?:RSpec::Matchers\.)?(?:define|matcher|define_negated_matcher|alias_matcher)\s*\(?\s*['":]([A-Za-z_]\w*[?!]?)`)
	classNames    = regexp.MustCompile(`(?m)^[ \t]*(?:class|module)\s+(?:[A-Z]\w*::)*([A-Z]\w*)`)
	methodNames   = regexp.MustCompile(`(?m)^[ \t]*def\s+(?:self\.)?([A-Za-z_]\w*[?!=]?)`)
)

// breaks takes note of a library that could not be run. Its resources and
// matchers raise from now on, also where the engine has one of that name that
// the library would have replaced. Its classes and methods are unknown, which
// raises by itself; one that would have changed a class of Ruby's or the
// engine's own concerns every control.
func (r *run) breaks(bad *ProfileError, text []byte) {
	b := &r.broken
	if b.names == nil {
		b.names = map[string]*ProfileError{}
	}
	b.errs = append(b.errs, bad)
	found := 0
	each := func(re *regexp.Regexp, use func(name string)) {
		for _, m := range re.FindAllSubmatch(text, -1) {
			found++
			b.names[string(m[1])] = bad
			if use != nil {
				use(string(m[1]))
			}
		}
	}
	raise := func(c *ruby.Call) (ruby.Value, error) { return nil, c.In.Raise(nil, "%s", bad.Error()) }
	each(resourceNames, func(name string) {
		class := r.in.NewClass(r.in.Class("Inspec::Resource"))
		class.Def("initialize", raise)
		_, _ = r.in.Call(class, "name", []ruby.Value{ruby.NewString(name)}, nil)
	})
	each(matcherNames, func(name string) {
		_, _ = r.in.Call(r.in.Class("RSpec::Matchers"), "define", []ruby.Value{ruby.Symbol(name)}, r.in.NewProc(-1, raise))
	})
	each(methodNames, nil)
	var core *ruby.Interp
	each(classNames, func(name string) {
		// A library that raised may have made the class itself.
		if core == nil {
			core = ruby.New(ruby.Limits{})
		}
		if core.Class(name) != nil || r.in.Class("Inspec::Resources::"+name) != nil {
			b.all = bad
		}
	})
	if found == 0 {
		b.all = bad
	}
}

// explain is the reason behind an error that a library's absence may have
// caused: the name that isn't known is one that a broken library defines.
func (b *brokenLibraries) explain(err error) string {
	var e *ruby.Exception
	if len(b.errs) == 0 || !errors.As(err, &e) {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(b.names)) {
		if e.Name == name || unknownName(e.Message) == name {
			return b.names[name].Error()
		}
	}
	return ""
}

var unknown = regexp.MustCompile("^(?:undefined (?:local variable or )?(?:method|constant) [`']|uninitialized constant (?:\\S*::)?)([A-Za-z_]\\w*[?!=]?)")

func unknownName(msg string) string {
	if m := unknown.FindStringSubmatch(msg); m != nil {
		return m[1]
	}
	return ""
}
