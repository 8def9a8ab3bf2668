package resource

import "reeve.dev/reeve/inspec/ruby"

// later registers a resource that few profiles use: it is defined when it is
// first named, so that it costs no run anything that doesn't.
func (s *Set) later(name string, define func()) {
	if s.late == nil {
		s.late = map[string]func(){}
	}
	s.late[name] = define
}

// class is the class of the resource of that name, nil when there is none.
func (s *Set) class(name string) *ruby.Class {
	if define, ok := s.late[name]; ok {
		delete(s.late, name)
		define()
	}
	return s.registry[name]
}

// Methods lists what can be asked of a resource, sorted; open is true where it
// also answers to names that its target has, such as keys of a file.
func (s *Set) Methods(name string) (names []string, open bool) {
	return s.class(name).Beyond(s.base)
}

// given is what a resource was called with: the keys of a hash.
type given struct {
	s    *Set
	opts *ruby.Hash
}

func (s *Set) given(c *ruby.Call, i int) given {
	if h, ok := c.Arg(i).(*ruby.Hash); ok {
		return given{s, h}
	}
	return given{s, ruby.NewHash()}
}

// text is an option as text; false when it is missing or nil.
func (g given) text(name string) (string, bool) {
	v, _ := g.opts.GetSym(name)
	if v == nil {
		return "", false
	}
	return g.s.in.ToS(v), true
}

func (g given) or(name, otherwise string) string {
	if v, ok := g.text(name); ok {
		return v
	}
	return otherwise
}

func (g given) truthy(name string) bool {
	v, _ := g.opts.GetSym(name)
	return ruby.Truthy(v)
}

// value is an option as it was given.
func (g given) value(name string) ruby.Value {
	v, _ := g.opts.GetSym(name)
	return v
}

// mash makes a Hashie::Mash of h.
func (s *Set) mash(h *ruby.Hash) (ruby.Value, error) {
	return s.in.Call(s.in.Class("Hashie::Mash"), "new", []ruby.Value{h}, nil)
}

// both is a command's output as InSpec puts it in errors.
func both(stdout, stderr []byte) string { return string(stdout) + "\n" + string(stderr) }
