package ruby

import (
	"embed"
	"fmt"
	"path"
	"strings"
	"sync"
)

// Classes of gems that InSpec carries and of Ruby's library which few profiles
// use are written in Ruby, and run when one of their names is first asked for.
//
//go:embed prelude/*.rb
var preludeFiles embed.FS

var preludes = map[string]string{"CSV": "csv.rb", "Complex": "complex.rb", "DatabaseHelper": "database_helper.rb", "Parslet": "parslet.rb", "Semverse": "semverse.rb"}

// preludePrograms holds what was parsed, by name: it is shared by all Interps.
var preludePrograms sync.Map

// Autoloads reports whether the constant is there once it is asked for.
func Autoloads(constant string) bool { return preludes[constant] != "" }

// autoload defines a constant that is written in Ruby.
func (in *Interp) autoload(name string) (v Value, ok bool, err error) {
	file := preludes[name]
	if file == "" || in.autoloaded[name] {
		return nil, false, nil
	}
	if in.autoloaded == nil {
		in.autoloaded = map[string]bool{}
	}
	in.autoloaded[name] = true
	prog, err := prelude(file)
	if err != nil {
		return nil, false, err
	}
	if name == "Parslet" {
		in.bootParslet(in.DefineModule(nil, name))
	}
	at, line := in.file, in.line
	if _, err := in.Run(in.ctx, prog, nil); err != nil {
		return nil, false, err
	}
	in.file, in.line = at, line
	v, ok = in.cObject.consts[name]
	return v, ok, nil
}

// bootPreludes defines the methods that CSV adds to other classes, which run
// it.
func (in *Interp) bootPreludes() {
	for k, name := range map[*Class]string{in.cArray: "to_csv", in.cString: "parse_csv"} {
		k.Def(name, func(c *Call) (Value, error) {
			if _, ok, err := c.In.autoload("CSV"); !ok || err != nil {
				return nil, err
			}
			return c.In.send(c.fr, c.Self, c.Name, c.Args, c.Block, false)
		})
	}
}

// coreStub is a method of core.rb: the class has a stand-in until one is
// called, which then runs the file.
type coreStub struct {
	class, name string
	singleton   bool
}

// coreStubs reads the names from the text, which is laid out for it: parsing it
// is for the few profiles that use one.
var coreStubs = sync.OnceValue(func() []coreStub {
	src, _ := preludeFiles.ReadFile("prelude/core.rb")
	var stubs []coreStub
	var nest []string // of classes and modules, by their indentation
	singleton, hidden := 0, false
	for line := range strings.Lines(string(src)) {
		depth := (len(line) - len(strings.TrimLeft(line, " "))) / 2
		words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" (\n", r) })
		if len(words) == 0 {
			continue
		}
		switch words[0] {
		case "class", "module":
			if nest, hidden = nest[:min(depth, len(nest))], false; words[1] == "<<" {
				singleton = depth + 1
			} else {
				nest, singleton = append(nest, words[1]), 0
			}
		case "private":
			hidden = true
		case "end":
			if depth < singleton {
				singleton, hidden = 0, false
			}
		case "def", "alias":
			inner := len(nest)
			if singleton > 0 {
				inner = singleton
			}
			if depth != inner || hidden {
				continue
			}
			name, own := strings.CutPrefix(words[1], "self.")
			stubs = append(stubs, coreStub{strings.Join(nest, "::"), name, own || singleton > 0})
		}
	}
	return stubs
})

// bootCore gives the core classes the methods that core.rb defines.
func (in *Interp) bootCore() {
	stubs := coreStubs()
	owner := func(s coreStub) *Class {
		k := in.Class(s.class)
		if s.singleton {
			return in.singletonClass(k)
		}
		return k
	}
	entries := make([]*method, len(stubs))
	var real []*method // what the file defines, once it was run
	load := func() error {
		prog, err := prelude("core.rb")
		if err != nil {
			return err
		}
		kept := map[int]*method{} // what the profile has defined since
		for i, s := range stubs {
			if m := owner(s).methods[s.name]; m != entries[i] {
				kept[i] = m
			}
		}
		at, line := in.file, in.line
		if _, err := in.Run(in.ctx, prog, nil); err != nil {
			return err
		}
		in.file, in.line = at, line
		real = make([]*method, len(stubs))
		for i, s := range stubs {
			real[i] = owner(s).methods[s.name]
		}
		for i, m := range kept {
			if k := owner(stubs[i]); m != nil {
				k.define(m)
			} else {
				delete(k.methods, stubs[i].name)
			}
		}
		return nil
	}
	for i, s := range stubs {
		k := owner(s)
		// A stand-in may be asked by another name, or by super: what it stands
		// for is called, not what has its name.
		k.DefN(s.name, 0, -1, func(c *Call) (Value, error) {
			if real == nil {
				if err := load(); err != nil {
					return nil, err
				}
			}
			return in.invoke(c.fr, real[i], c.Self, c.Name, c.Args, c.Block)
		})
		entries[i] = k.methods[s.name]
	}
}

func prelude(file string) (*Program, error) {
	if p, ok := preludePrograms.Load(file); ok {
		return p.(*Program), nil
	}
	src, err := preludeFiles.ReadFile(path.Join("prelude", file))
	if err != nil {
		return nil, fmt.Errorf("library of the engine: %w", err)
	}
	p, err := Parse(file, src)
	if err != nil {
		return nil, err
	}
	preludePrograms.Store(file, p)
	return p, nil
}

// hostly are Ruby's constants that reach the host: a profile that asks for one
// is told so, and can't rescue it as one rescues a name that isn't known.
var hostly = map[string]bool{
	"Net": true, "OpenSSL": true, "Socket": true, "TCPSocket": true, "UDPSocket": true, "TCPServer": true, "UNIXSocket": true, "Resolv": true,
	"Open3": true, "OpenURI": true, "FileUtils": true, "Tempfile": true, "Etc": true, "Thread": true, "Fiber": true, "Ractor": true,
	"ObjectSpace": true, "Faraday": true, "Train": true, "Mixlib": true, "PTY": true, "GC": true, "RubyVM": true,
	"TracePoint": true, "Find": true, "Zlib": true, "WIN32OLE": true, "Logger": true,
}
