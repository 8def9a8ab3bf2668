package inspec

import (
	"bytes"
	"errors"
	"path"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"reeve.dev/reeve/inspec/dsl"
	"reeve.dev/reeve/inspec/ruby"
)

// parse parses every Ruby file once. One that isn't Ruby doesn't end the
// profile: of a control file those controls are lost that can't be read, of a
// library what uses it; each becomes an error when the profile is run.
func (p *Profile) parse() *code {
	c := &code{programs: map[string]*ruby.Program{}, badLibraries: map[string]*ProfileError{}}
	for _, name := range p.sources("libraries/") {
		prog, err := ruby.Parse(path.Join(p.meta.Name, name), p.files[name])
		if err != nil {
			c.badLibraries[name] = p.syntaxError(name, err)
			continue
		}
		c.programs[name] = prog
	}
	// Control files are many and don't know each other: each processor takes
	// the next one.
	names := p.sources("controls/")
	parsed := make([]struct {
		prog *ruby.Program
		err  error
	}, len(names))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(names)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(names); i = int(next.Add(1)) - 1 {
				parsed[i].prog, parsed[i].err = ruby.Parse(path.Join(p.meta.Name, names[i]), p.files[names[i]])
			}
		})
	}
	wg.Wait()
	for i, name := range names {
		prog, err := parsed[i].prog, parsed[i].err
		if err != nil {
			prog, c.unread = p.salvage(name, p.syntaxError(name, err), c.unread)
		}
		if prog != nil {
			c.programs[name] = prog
		}
	}
	return c
}

func (p *Profile) syntaxError(name string, err error) *ProfileError {
	var syntax *ruby.SyntaxError
	if errors.As(err, &syntax) {
		return &ProfileError{Profile: p.meta.Name, File: name, Line: syntax.Line, Msg: syntax.Msg}
	}
	return &ProfileError{Profile: p.meta.Name, File: name, Msg: err.Error()}
}

var (
	controlStart = regexp.MustCompile(`(?m)^[ \t]*(?:control|rule)[ \t(]+(?:'([^'\n]*)'|"([^"\n]*)")`)
	notNewline   = regexp.MustCompile(`[^\n]`)
)

// salvage parses what is in order of a control file that isn't: the controls
// that can't be read by themselves are blanked out, so that the lines of the
// others stay, and are added to unread.
func (p *Profile) salvage(name string, bad *ProfileError, unread []dsl.Broken) (*ruby.Program, []dsl.Broken) {
	text := []byte(p.files[name])
	file := path.Join(p.meta.Name, name)
	starts := controlStart.FindAllSubmatchIndex(text, -1)
	var all, broken []dsl.Broken
	for i, at := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		line := 1 + bytes.Count(text[:at[0]], []byte("\n"))
		b := dsl.Broken{File: file, Line: line, Err: bad}
		for _, group := range [][2]int{{at[2], at[3]}, {at[4], at[5]}} {
			if group[0] >= 0 {
				b.ID = string(text[group[0]:group[1]])
			}
		}
		all = append(all, b)
		own := text[at[0]:end]
		if _, err := ruby.Parse(file, append([]byte(strings.Repeat("\n", line-1)), own...)); err != nil {
			b.Err = p.syntaxError(name, err)
			broken = append(broken, b)
			copy(own, notNewline.ReplaceAll(own, []byte(" ")))
		}
	}
	prog, err := ruby.Parse(file, text)
	if err == nil && len(broken) > 0 {
		return prog, append(unread, broken...)
	}
	if len(all) == 0 {
		all = []dsl.Broken{{File: file, Line: max(bad.Line, 1), Err: bad}}
	}
	return nil, append(unread, all...)
}
