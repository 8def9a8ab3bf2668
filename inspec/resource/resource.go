// Package resource gives profiles the resources of InSpec: file, package,
// user and so on, as Ruby classes whose methods are Go and ask a target.
//
// A resource reads natively where that is exact (the package databases, the
// account files, configuration files) and by the target's own tools where that
// is what InSpec does. Words, coercions and nil are InSpec's, since profiles
// and reports depend on them. One thing differs on purpose: what cannot be
// found out — a file behind a closed directory, a command on a target that has
// none — raises ResourceFailed, where InSpec would answer "not there".
//
// Libraries of a profile define resources of their own (class X <
// Inspec.resource(1)), by the same registry; one may replace a native one.
package resource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// Options say how resources behave.
type Options struct {
	// Logger is told of deprecated uses; nil logs nothing.
	Logger *slog.Logger
}

// Set is the resources of one interpreter on one target. Like the interpreter
// it isn't safe for concurrent use.
type Set struct {
	in       *ruby.Interp
	t        target.Target
	log      *slog.Logger
	platform target.Platform
	base     *ruby.Class // Inspec::Resource
	spec     *ruby.Class // Inspec::Resources
	backend  *ruby.Object
	trained  *ruby.Object // what train makes
	registry map[string]*ruby.Class
	newborns map[string]*ruby.Object // what newborn makes
	names    map[*ruby.Class]string
	supports map[string][]*ruby.Hash
	table    tableClasses
	debs     []packageInfo            // dpkg's, once they were read
	rpms     map[string][]packageInfo // rpm's, by the folder of their database
	texts    map[*byte]string         // of what the target answered
	late     map[string]func()        // defines a resource of that name, which nobody has asked for yet

	skipped, failed *ruby.Class
}

// Install defines in in what profiles and their libraries expect of InSpec's
// resources, to look at t. It asks t for its platform.
func Install(in *ruby.Interp, t target.Target, opt Options) (*Set, error) {
	platform, err := t.Platform(in.Context())
	if err != nil {
		return nil, err
	}
	s := &Set{
		in: in, t: target.Cache(t), log: opt.Logger, platform: platform,
		registry: map[string]*ruby.Class{}, newborns: map[string]*ruby.Object{}, names: map[*ruby.Class]string{}, supports: map[string][]*ruby.Hash{}, texts: map[*byte]string{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	inspec := in.DefineModule(nil, "Inspec")
	exceptions := in.DefineModule(inspec, "Exceptions")
	standard := in.Class("StandardError")
	s.skipped = in.DefineClass(exceptions, "ResourceSkipped", standard)
	s.failed = in.DefineClass(exceptions, "ResourceFailed", standard)
	s.spec = in.DefineModule(inspec, "Resources")
	s.defineBase(inspec)
	s.defineBackend(inspec)
	s.defineFilterTable()
	for _, define := range []func(*Set){
		defineFile, defineCommand, defineSystem, defineAccounts, definePackage, defineProcess, defineMount,
		defineConfig, defineTables, defineService, defineTools, defineX509, defineXML, defineServers, defineDatabases, defineKeys, defineGrub, defineHTTP, defineSSL, defineRoutes, defineQuestions, defineDocker, defineNFTables, defineNginx, defineNetwork, defineSmall, defineAide, defineFirewalld, defineLibrary, defineForeign, defineSessions, definePodman, defineRest,
	} {
		define(s)
	}
	return s, nil
}

// Has reports whether there is a resource of that name.
func (s *Set) Has(name string) bool {
	_, ok := s.registry[name]
	_, late := s.late[name]
	return ok || late
}

// Names returns the names of all resources, sorted.
func (s *Set) Names() []string {
	names := make([]string, 0, len(s.registry))
	for n := range s.registry {
		names = append(names, n)
	}
	for n := range s.late {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Platform is the platform of the target.
func (s *Set) Platform() target.Platform { return s.platform }

// Backend is the object that profiles call inspec: each resource is a method
// of it.
func (s *Set) Backend() *ruby.Object { return s.backend }

// New makes a resource. As in InSpec, one that skips or fails while it is made
// is returned all the same and knows why (Skipped, Failed); any other error is
// the caller's.
func (s *Set) New(c *ruby.Call, name string, args []ruby.Value) (ruby.Value, error) {
	class := s.class(name)
	if class == nil {
		return nil, s.in.Raise(s.in.Class("NameError"), "there is no resource %q", name)
	}
	o := s.in.NewObject(class, nil)
	o.ShareIVars(s.newborn(name))
	if !s.supported(name) {
		return nil, s.in.Raise(s.in.Class("ArgumentError"), "Unsupported resource/backend combination: %s / %s. Exiting.", name, s.platform.Name)
	}
	_, err := s.in.Call(o, "initialize", args, nil)
	if err == nil {
		return o, nil
	}
	var raised *ruby.Exception
	switch {
	case !errors.As(err, &raised):
		return nil, err
	case raised.Class.Inherits(s.skipped), raised.Class.Inherits(s.in.Class("NoMethodError")) && !ruby.Truthy(o.IVar("@resource_failed")):
		setSkipped(o, raised.Message)
	case raised.Class.Inherits(s.failed), isNotImplemented(s.in, raised):
		setFailed(o, raised.Message)
	default:
		return nil, err
	}
	return o, nil
}

// newborn is an object with the instance variables that each resource of this
// name begins with.
func (s *Set) newborn(name string) *ruby.Object {
	o := s.newborns[name]
	if o == nil {
		o = s.in.NewObject(s.base, nil)
		o.SetIVar("@resource_skipped", false)
		o.SetIVar("@resource_failed", false)
		o.SetIVar("@resource_exception_message", nil)
		o.SetIVar("@__resource_name__", ruby.NewFrozen(name))
		s.newborns[name] = o
	}
	return o
}

func isNotImplemented(in *ruby.Interp, e *ruby.Exception) bool {
	k := in.Class("NotImplementedError")
	return k != nil && e.Class.Inherits(k)
}

// supported checks what the class declared with supports.
func (s *Set) supported(name string) bool {
	all := s.supports[name]
	if len(all) == 0 {
		return true
	}
	return slices.ContainsFunc(all, func(h *ruby.Hash) bool { return s.Supports(h) })
}

// Supports reports whether the target's platform is the one that criteria
// describe, as in supports of inspec.yml: platform (name or family),
// platform-family, platform-name, release; a * stands for anything.
func (s *Set) Supports(criteria *ruby.Hash) bool {
	p := s.platform
	ok := true
	criteria.Each(func(k, v ruby.Value) error {
		want := s.in.ToS(v)
		switch strings.ReplaceAll(s.in.ToS(k), "-", "_") {
		case "os_family", "platform_family":
			ok = ok && slices.Contains(p.Families, want)
		case "os", "platform":
			ok = ok && p.Is(want)
		case "os_name", "platform_name":
			ok = ok && wildcard(want, p.Name)
		case "release":
			ok = ok && wildcard(want, p.Release)
		case "inspec":
		default:
			ok = false
		}
		return nil
	})
	return ok
}

// wildcard reports whether s is pattern, where each * stands for any text.
func wildcard(pattern, s string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	for s = s[len(first):]; ; s = s[1:] {
		if wildcard(rest, s) {
			return true
		}
		if s == "" {
			return false
		}
	}
}

// Skipped returns why v, a resource, is to be skipped.
func Skipped(v ruby.Value) (string, bool) { return state(v, "@resource_skipped") }

// Failed returns why v, a resource, could not be made.
func Failed(v ruby.Value) (string, bool) { return state(v, "@resource_failed") }

func state(v ruby.Value, name string) (string, bool) {
	o, ok := v.(*ruby.Object)
	if !ok {
		return "", false
	}
	if c, ok := o.Data.(*caught); ok {
		return c.err.Message, c.skipped == (name == "@resource_skipped")
	}
	if !ruby.Truthy(o.IVar(name)) {
		return "", false
	}
	msg, _ := o.IVar("@resource_exception_message").(*ruby.String)
	if msg == nil {
		return "", true
	}
	return msg.String(), true
}

func setSkipped(o *ruby.Object, msg string) {
	o.SetIVar("@resource_skipped", true)
	o.SetIVar("@resource_exception_message", ruby.NewString(msg))
}

func setFailed(o *ruby.Object, msg string) {
	o.SetIVar("@resource_failed", true)
	o.SetIVar("@resource_exception_message", ruby.NewString(msg))
}

// Is reports whether v is a resource.
func (s *Set) Is(v ruby.Value) bool {
	o, ok := v.(*ruby.Object)
	return ok && o.Class.Inherits(s.base)
}

// ClassName is the name under which v's resource is called, for a result's
// resource_class; empty when v is no resource.
func ClassName(v ruby.Value) string {
	if o, ok := v.(*ruby.Object); ok {
		switch d := o.Data.(type) {
		case *rows:
			return ClassName(d.resource)
		}
		if name, ok := o.IVar("@__resource_name__").(*ruby.String); ok {
			return name.String()
		}
	}
	return ""
}

// ID is what tells v apart from others of its kind, for a result's
// resource_id: what its resource_id method says.
func (s *Set) ID(v ruby.Value) string {
	if o, ok := v.(*ruby.Object); !ok || !o.Class.Inherits(s.base) {
		return ""
	}
	id, err := s.in.Call(v, "resource_id", nil, nil)
	if err != nil || id == nil {
		return ""
	}
	return s.in.ToS(id)
}

// defineBase defines what Inspec.resource(1) returns.
func (s *Set) defineBase(inspec *ruby.Class) {
	k := s.in.DefineClass(inspec, "Resource", nil)
	s.base = k
	inspec.DefSingleton("resource", func(c *ruby.Call) (ruby.Value, error) {
		if n, ok := c.Arg(0).(int64); !ok || n != 1 {
			return nil, c.In.Raise(c.In.Class("RuntimeError"), "Only resource version 1 is supported!")
		}
		return k, nil
	})
	k.DefSingleton("name", func(c *ruby.Call) (ruby.Value, error) {
		class := c.Self.(*ruby.Class)
		if len(c.Args) == 0 || c.Args[0] == nil {
			if name, ok := s.names[class]; ok {
				return ruby.NewString(name), nil
			}
			return ruby.NewString(class.Name), nil
		}
		s.register(c.In.ToS(c.Args[0]), class)
		return nil, nil
	})
	k.DefSingleton("supports", func(c *ruby.Call) (ruby.Value, error) {
		if h, ok := c.Arg(0).(*ruby.Hash); ok {
			name := s.names[c.Self.(*ruby.Class)]
			s.supports[name] = append(s.supports[name], h)
		}
		return nil, nil
	})
	for _, text := range []string{"desc", "example", "attr_access"} {
		k.DefSingleton(text, func(c *ruby.Call) (ruby.Value, error) { return nil, nil })
	}
	k.Def("inspec", func(c *ruby.Call) (ruby.Value, error) { return s.backend, nil })
	k.Def("skip_resource", func(c *ruby.Call) (ruby.Value, error) {
		setSkipped(c.Self.(*ruby.Object), c.In.ToS(c.Arg(0)))
		return c.Arg(0), nil
	})
	k.Def("fail_resource", func(c *ruby.Call) (ruby.Value, error) {
		setFailed(c.Self.(*ruby.Object), c.In.ToS(c.Arg(0)))
		return c.Arg(0), nil
	})
	for name, ivar := range map[string]string{
		"resource_skipped?": "@resource_skipped", "resource_failed?": "@resource_failed",
		"resource_exception_message": "@resource_exception_message", "to_s": "@__resource_name__",
	} {
		k.Def(name, func(c *ruby.Call) (ruby.Value, error) { return c.Self.(*ruby.Object).IVar(ivar), nil })
	}
	k.Def("resource_id", func(c *ruby.Call) (ruby.Value, error) {
		if o := c.Self.(*ruby.Object); o.IVar("@resource_id") != nil {
			return o.IVar("@resource_id"), nil
		}
		return ruby.NewString(""), nil
	})
}

func (s *Set) register(name string, class *ruby.Class) {
	if s.Has(name) {
		delete(s.supports, name)
		delete(s.late, name)
	}
	s.registry[name] = class
	s.names[class] = name
}

// defineBackend defines the object behind the word inspec.
func (s *Set) defineBackend(inspec *ruby.Class) {
	k := s.in.DefineClass(inspec, "Backend", nil)
	s.backend = s.in.NewObject(k, nil)
	k.DefMissing(func(c *ruby.Call, name string) (ruby.Value, error) {
		if s.Has(name) {
			return s.New(c, name, c.Args)
		}
		return nil, c.In.Raise(c.In.Class("NoMethodError"), "undefined method `%s' for Inspec::Backend::Class", name)
	}, func(_ ruby.Value, name string) bool { return s.Has(name) })
	k.Def("backend", func(c *ruby.Call) (ruby.Value, error) { return s.backend, nil })
	k.Def("run_command", func(c *ruby.Call) (ruby.Value, error) { return s.New(c, "command", c.Args) })
	k.Def("local_transport?", func(c *ruby.Call) (ruby.Value, error) { return false, nil })
	k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) { return ruby.NewString("Inspec::Backend::Class"), nil })
	// Kernel has methods of these names, which would hide the resources.
	for _, name := range []string{"file", "command", "package", "os", "system", "test", "format", "http", "host"} {
		k.Def(name, func(c *ruby.Call) (ruby.Value, error) { return s.New(c, name, c.Args) })
	}
}

// define makes the native resource name. Its payload is what init returns;
// methods find it with def.
func (s *Set) define(name, class string, super *ruby.Class, init func(c *ruby.Call) (any, error)) *ruby.Class {
	if super == nil {
		super = s.base
	}
	k := s.in.DefineClass(s.spec, class, super)
	s.register(name, k)
	if init != nil {
		k.Def("initialize", func(c *ruby.Call) (ruby.Value, error) {
			d, err := init(c)
			if err != nil {
				return nil, err
			}
			c.Self.(*ruby.Object).Data = d
			return nil, nil
		})
	}
	return k
}

// def defines a method of a native resource with the payload T. On a resource
// that was skipped or failed, and so has none, it returns nil, as InSpec's do.
func def[T any](k *ruby.Class, name string, fn func(c *ruby.Call, d T) (ruby.Value, error)) {
	k.Def(name, func(c *ruby.Call) (ruby.Value, error) {
		if o, ok := c.Self.(*ruby.Object); ok {
			if d, ok := o.Data.(T); ok {
				return fn(c, d)
			}
		}
		return nil, nil
	})
}

// text defines to_s and, unless it is empty, resource_id.
func text[T any](k *ruby.Class, toS, id func(d T) string) {
	fn := func(f func(d T) string) func(c *ruby.Call) (ruby.Value, error) {
		return func(c *ruby.Call) (ruby.Value, error) {
			d, _ := c.Self.(*ruby.Object).Data.(T)
			return ruby.NewString(f(d)), nil
		}
	}
	k.Def("to_s", fn(toS))
	if id != nil {
		k.Def("resource_id", fn(id))
	}
}

// fixed defines to_s with a text that is always the same.
func fixed(k *ruby.Class, toS string) {
	k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) { return ruby.NewString(toS), nil })
}

func (s *Set) skip(format string, args ...any) error { return s.in.Raise(s.skipped, format, args...) }

func (s *Set) fail(format string, args ...any) error { return s.in.Raise(s.failed, format, args...) }

func (s *Set) argumentError(format string, args ...any) error {
	return s.in.Raise(s.in.Class("ArgumentError"), format, args...)
}

// arity raises as Ruby does when a method gets too few or too many arguments.
func (s *Set) arity(c *ruby.Call, low, high int) error {
	n := len(c.Args)
	if n >= low && (high < 0 || n <= high) {
		return nil
	}
	want := strconv.Itoa(low)
	switch {
	case high < 0:
		want += "+"
	case high != low:
		want += ".." + strconv.Itoa(high)
	}
	return s.argumentError("wrong number of arguments (given %d, expected %s)", n, want)
}

// problem turns a target's error into what the control is to see. A target
// that is gone, a run that was ended, or an answer that isn't there yet, is no
// matter of the profile's.
func (s *Set) problem(err error) error {
	var lost *target.LostError
	if errors.As(err, &lost) || errors.Is(err, target.ErrPending) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, target.ErrClosed) {
		return err
	}
	return s.fail("%s", err)
}

// run runs a command on the target.
func (s *Set) run(format string, args ...any) (target.CommandResult, error) {
	out, err := s.t.Run(s.in.Context(), fmt.Sprintf(format, args...))
	if err != nil {
		return out, s.problem(err)
	}
	return out, nil
}

// stdout runs a command and returns its output when its status is zero.
func (s *Set) stdout(format string, args ...any) (string, bool, error) {
	out, err := s.run(format, args...)
	return string(out.Stdout), err == nil && out.ExitStatus == 0, err
}

// argString returns the i-th argument as text; false when it is missing or
// nil.
func argString(c *ruby.Call, i int) (string, bool) {
	if c.Arg(i) == nil {
		return "", false
	}
	return c.In.ToS(c.Arg(i)), true
}

// options returns the trailing hash of a call, or an empty one.
func options(c *ruby.Call) *ruby.Hash {
	if len(c.Args) > 0 {
		if h, ok := c.Args[len(c.Args)-1].(*ruby.Hash); ok {
			return h
		}
	}
	return ruby.NewHash()
}

func str(s string) ruby.Value { return ruby.NewString(s) }

// strOrNil is for fields that a line may lack.
func strOrNil(fields []string, i int) ruby.Value {
	if i < len(fields) {
		return str(fields[i])
	}
	return nil
}

// intOrText is the number that text is when it has digits alone, or the text.
func intOrText(text string) ruby.Value {
	if text != "" && strings.Trim(text, "0123456789") == "" {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	}
	return str(text)
}
