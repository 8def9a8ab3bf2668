package inspec

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/dsl"
	"reeve.dev/reeve/inspec/ruby"
)

// Unsupported is one thing in a profile that can't be done here, so that what
// needs it will be an error.
type Unsupported struct {
	Control string // empty when it stands outside of any
	File    string // with the profile's name before it
	Line    int
	What    string
}

func (u Unsupported) String() string {
	if u.Control == "" {
		return fmt.Sprintf("%s:%d: %s", u.File, u.Line, u.What)
	}
	return fmt.Sprintf("%s:%d: control %s: %s", u.File, u.Line, u.Control, u.What)
}

// What InSpec 5.24 and Ruby 3.1 have by name, to tell what is missing here
// from what is mistyped.
var (
	//go:embed known_resources.txt
	knownResources string
	//go:embed known_methods.txt
	knownMethods string
	// libraries of Ruby's whose classes are here without being required
	knownLibraries = []string{
		"bigdecimal", "cgi", "csv", "date", "English", "erb", "forwardable", "hashie", "hashie/mash", "inspec", "ipaddr", "json", "ostruct", "parslet", "pathname",
		"pp", "psych", "rexml/document", "rspec", "rspec/expectations", "rubygems", "semverse", "set", "shellwords", "singleton", "stringio", "strscan", "time", "uri", "yaml",
		"utils/convert", "utils/database_helpers", "utils/filter", "utils/find_files", "utils/file_reader", "utils/object_traversal", "utils/parser", "utils/simpleconfig",
	}
)

// Unsupported looks through the profile, and those that it depends on, for
// what can't be done here, without a target: files that can't be read,
// resources, matchers and functions that nothing defines, methods and syntax
// of Ruby's that are missing. It looks at names alone, so that a control which
// it doesn't list may still be an error when it is run.
func (p *Profile) Unsupported(ctx context.Context) ([]Unsupported, error) {
	r := &run{p: p, ungated: true, suites: map[*Profile]*dsl.Suite{}}
	if err := r.install(ctx, nowhere{}); err != nil {
		return nil, err
	}
	if err := r.libraries(ctx, p, map[*Profile]bool{}); err != nil {
		return nil, err
	}
	n := names{r: r, methods: map[string]bool{}, defined: map[string]bool{}}
	r.in.MethodNames(func(name string) { n.methods[name] = true })
	layers := p.all()
	for _, l := range layers {
		n.definitions(l.profile)
	}
	var out []Unsupported
	for _, l := range layers {
		for _, b := range l.profile.code().unread {
			u := Unsupported{Control: b.ID, File: b.File, Line: b.Line, What: b.Err.Error()}
			var bad *ProfileError
			if errors.As(b.Err, &bad) {
				u.Line, u.What = bad.Line, bad.Msg
			}
			out = append(out, u)
		}
	}
	for _, bad := range r.broken.errs {
		out = append(out, Unsupported{File: path.Join(bad.Profile, bad.File), Line: bad.Line, What: bad.Msg})
	}
	for _, l := range layers {
		for _, name := range l.profile.names {
			if prog := l.profile.code().programs[name]; prog != nil {
				out = append(out, n.missing(prog, strings.HasPrefix(name, "controls/"))...)
			}
		}
	}
	return out, nil
}

// names is what is known by name.
type names struct {
	r       *run
	methods map[string]bool // of any class
	defined map[string]bool // by the profile's own text
}

// definitions gathers what the profile's text defines, also where only a run
// would.
func (n *names) definitions(p *Profile) {
	for _, prog := range p.code().programs {
		prog.Uses(func(u ruby.Use) {
			switch {
			case u.Kind == ruby.UseDefinition:
				n.defined[u.Name] = true
			case u.Arg != "" && slices.Contains([]string{
				"let", "let!", "subject", "define_method", "attr_reader", "attr_accessor", "attr_writer", "alias_method", "define", "matcher",
				"chain", "name", "add", "add_accessor", "register_column", "register_custom_matcher", "require_resource", "define_singleton_method",
			}, u.Name):
				n.defined[u.Arg] = true
			}
		})
	}
}

// missing lists what a program uses that isn't there.
func (n *names) missing(prog *ruby.Program, controls bool) []Unsupported {
	type span struct {
		id         string
		start, end int
	}
	var within, rows []span // rows: blocks whose words are columns of a table
	var out []Unsupported
	seen := map[string]bool{}
	add := func(u ruby.Use, format string, args ...any) {
		m := Unsupported{File: prog.File, Line: u.Line, What: fmt.Sprintf(format, args...)}
		for _, s := range within {
			if u.Line >= s.start && u.Line <= s.end {
				m.Control = s.id
			}
		}
		if key := m.String(); !seen[key] {
			seen[key] = true
			out = append(out, m)
		}
	}
	prog.Uses(func(u ruby.Use) {
		switch u.Kind {
		case ruby.UseUnsupported:
			add(u, "%s is not supported", u.Name)
		case ruby.UseConstant:
			if _, ok := n.r.in.Class("Object").Const(u.Name); !ok && !ruby.Autoloads(u.Name) && !n.defined[u.Name] && n.r.in.Class("Inspec::Resources::"+u.Name) == nil {
				add(u, "there is no constant %s", u.Name)
			}
		case ruby.UseMethod:
			if !n.methods[u.Name] && !n.defined[u.Name] && listed(knownMethods, u.Name) {
				add(u, "Ruby's method %s is not supported", u.Name)
			}
			if u.Of == "inspec" && !n.methods[u.Name] && !n.defined[u.Name] && !n.r.lang.Knows(u.Name) {
				add(u, "the resource %s is not supported", u.Name)
			}
			if u.Name == "where" {
				rows = append(rows, span{"", u.Line, u.End})
			}
		case ruby.UseWord:
			switch {
			case (u.Name == "control" || u.Name == "rule") && controls && u.Arg != "":
				within = append(within, span{u.Arg, u.Line, u.End})
			case u.Name == "require" && u.Arg != "" && !slices.Contains(knownLibraries, u.Arg) && !strings.HasPrefix(u.Arg, "inspec/") && !n.own(prog, u.Arg):
				add(u, "the library %s is not there", u.Arg)
			case n.methods[u.Name] || n.defined[u.Name] || n.r.lang.Knows(u.Name):
			case listed(knownResources, u.Name):
				add(u, "the resource %s is not supported", u.Name)
			case listed(knownMethods, u.Name):
				add(u, "Ruby's method %s is not supported", u.Name)
			case slices.ContainsFunc(rows, func(s span) bool { return u.Line >= s.start && u.Line <= s.end }):
			case controls && !strings.HasPrefix(u.Name, "be_") && !strings.HasPrefix(u.Name, "have_"):
				add(u, "nothing is called %s: no resource, matcher or function", u.Name)
			}
		}
	})
	slices.SortStableFunc(out, func(a, b Unsupported) int { return cmp.Compare(a.Line, b.Line) })
	return out
}

// own reports whether the required library is the profile's.
func (n *names) own(prog *ruby.Program, library string) bool {
	for _, l := range n.r.p.all() {
		if strings.HasPrefix(prog.File, l.profile.meta.Name+"/") && l.profile.isLibrary(path.Join("libraries", strings.TrimSuffix(library, ".rb")+".rb")) {
			return true
		}
	}
	return false
}

// listed reports whether name is a word of the list.
func listed(list, name string) bool {
	for rest := list; ; {
		i := strings.Index(rest, name)
		if i < 0 {
			return false
		}
		before, after := i == 0 || rest[i-1] <= ' ', i+len(name) == len(rest) || rest[i+len(name)] <= ' '
		if before && after {
			return true
		}
		rest = rest[i+1:]
	}
}
