package dsl

import (
	"fmt"
	"maps"
	"math/big"
	"path"
	"regexp"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// Input is a value that a profile asks for. Of several values the one of the
// highest priority counts, and of equals the last.
type Input struct {
	Name, Title, Description string
	Type                     string // normalized by InputType, or empty
	Pattern                  string
	Required, Sensitive      bool
	Values                   []InputValue

	// won is the value that counts, as Ruby has it.
	won      ruby.Value
	priority int
	has      bool
}

// InputValue is one value of an input. Symbols makes the keys of its hashes
// symbols, as those of inspec.yml are.
type InputValue struct {
	Value    any
	Priority int
	Symbols  bool
}

// The priorities of values, as InSpec has them.
const (
	PriorityInline   = 20 // given where a control asks
	PriorityMetadata = 30 // inspec.yml
	PriorityOverlay  = 35 // inspec.yml of a profile that depends on this one
	PriorityCaller   = 50
)

// Map is a hash in the order in which it is written.
type Map []Entry

// Entry is one pair of a Map.
type Entry struct{ Key, Value any }

var inputTypes = []string{"String", "Numeric", "Regexp", "Array", "Hash", "Boolean", "Any"}

// InputType gives a type's name as InSpec normalizes it; false when there is
// no such type.
func InputType(s string) (string, bool) {
	if s == "" {
		return "", true
	}
	t := strings.ToUpper(s[:1]) + strings.ToLower(s[1:])
	switch t {
	case "Num":
		t = "Numeric"
	case "Regex":
		t = "Regexp"
	}
	return t, slices.Contains(inputTypes, t)
}

// InputTypes lists the types that an input may have.
func InputTypes() string { return strings.Join(inputTypes, ", ") }

// declare adds an input with its values.
func (s *Suite) declare(in Input) {
	values := in.Values
	in.Values = nil
	have := s.find(in.Name)
	*have = in
	for _, v := range values {
		have.give(s.indifferent(rubyValue(v.Value, v.Symbols)), v.Priority)
	}
}

// find returns the input of that name, which from now on is one of the
// profile's.
func (s *Suite) find(name string) *Input {
	in := s.inputs[name]
	if in == nil {
		in = &Input{Name: name}
		s.inputs[name] = in
		s.asked = append(s.asked, in)
	}
	return in
}

func (in *Input) give(v ruby.Value, priority int) {
	if !in.has || priority >= in.priority {
		in.won, in.priority, in.has = v, priority, true
	}
}

// Inputs describes the inputs that the profile declares or has asked for, as
// results list them. Values of sensitive ones are left out.
func (s *Suite) Inputs() []map[string]any {
	out := []map[string]any{}
	for _, in := range s.asked {
		opts := map[string]any{"required": in.Required}
		for key, v := range map[string]string{"type": in.Type, "title": in.Title, "description": in.Description, "pattern": in.Pattern} {
			if v != "" {
				opts[key] = v
			}
		}
		switch {
		case in.Sensitive:
			opts["sensitive"] = true
		case in.has:
			if v, err := s.plain(in.won); err == nil { // else it is nested without end
				opts["value"] = v
			}
		}
		out = append(out, map[string]any{"name": in.Name, "options": opts})
	}
	return out
}

// plain is plainValue outside an evaluation.
func (s *Suite) plain(v ruby.Value) (out any, err error) {
	defer guard(&err)
	s.in.Reset()
	return plainValue(s.in, v), nil
}

// inputWords defines input and attribute.
func (k *Language) inputWords(class *ruby.Class) {
	for _, name := range []string{"input", "attribute"} {
		class.DefN(name, 1, 2, func(c *ruby.Call) (ruby.Value, error) {
			return k.suiteOf(c).input(c.In.ToS(c.Arg(0)), options(c), class != k.context)
		})
	}
	class.DefN("input_object", 1, 1, func(c *ruby.Call) (ruby.Value, error) {
		s := k.suiteOf(c)
		return c.In.NewObject(k.input, &object{s, s.find(c.In.ToS(c.Arg(0)))}), nil
	})
}

// object is an input that is asked about itself.
type object struct {
	s  *Suite
	in *Input
}

func (k *Language) inputClass(in *ruby.Interp) {
	k.input = in.DefineClass(in.DefineModule(nil, "Inspec"), "Input", nil)
	standard := in.Class("StandardError")
	k.invalid = in.DefineClass(k.input, "ValidationError", standard)
	k.required = in.DefineClass(k.input, "RequiredError", standard)
	of := func(c *ruby.Call) *object { return c.Self.(*ruby.Object).Data.(*object) }
	text := func(read func(in *Input) string) func(c *ruby.Call) (ruby.Value, error) {
		return func(c *ruby.Call) (ruby.Value, error) {
			if t := read(of(c).in); t != "" {
				return ruby.NewString(t), nil
			}
			return nil, nil
		}
	}
	k.input.DefN("name", 0, 0, text(func(in *Input) string { return in.Name }))
	k.input.DefN("to_s", 0, 0, text(func(in *Input) string { return in.Name }))
	k.input.DefN("type", 0, 0, text(func(in *Input) string { return in.Type }))
	k.input.DefN("title", 0, 0, text(func(in *Input) string { return in.Title }))
	k.input.DefN("description", 0, 0, text(func(in *Input) string { return in.Description }))
	k.input.DefN("pattern", 0, 0, text(func(in *Input) string { return in.Pattern }))
	k.input.DefN("value", 0, 0, func(c *ruby.Call) (ruby.Value, error) { return of(c).s.value(of(c).in) })
	k.input.DefN("has_value?", 0, 0, func(c *ruby.Call) (ruby.Value, error) { return of(c).in.has, nil })
	k.input.DefN("required", 0, 0, func(c *ruby.Call) (ruby.Value, error) { return of(c).in.Required, nil })
	k.input.DefN("sensitive", 0, 0, func(c *ruby.Call) (ruby.Value, error) { return of(c).in.Sensitive, nil })
}

// input is the value of an input. Options given where it is asked add a value
// of their own, which stays: a later input of that name without options has
// it, too. Inside a control they also replace what was declared, as InSpec
// does: input('x', value: 1) is neither required nor of a type.
func (s *Suite) input(name string, opts *ruby.Hash, inControl bool) (ruby.Value, error) {
	in := s.find(name)
	if opts.Len() == 0 {
		return s.value(in)
	}
	get := func(key string) ruby.Value {
		v, _ := opts.GetSym(key)
		return v
	}
	text := func(key string) string {
		switch v := get(key).(type) {
		case nil:
			return ""
		case *ruby.Regexp:
			return v.Source()
		default:
			return s.in.ToS(v)
		}
	}
	if inControl {
		typ, ok := InputType(text("type"))
		if !ok {
			return nil, s.in.Raise(s.lang.invalid, "Type '%s' is not a valid input type.", text("type"))
		}
		in.Type, in.Pattern, in.Required = typ, text("pattern"), ruby.Truthy(get("required"))
		if d := text("description"); d != "" {
			in.Description = d
		}
	}
	priority := int64(PriorityInline)
	if p, ok := get("priority").(int64); ok {
		priority = p
	}
	for _, key := range []string{"value", "default"} {
		if v, ok := opts.GetSym(key); ok {
			in.give(s.indifferent(v), int(priority))
			break
		}
	}
	if err := s.fits(in); err != nil {
		return nil, err
	}
	return s.value(in)
}

// value is what counts. An input that has none is an object that skips
// whatever asks it; one that must have a value raises.
func (s *Suite) value(in *Input) (ruby.Value, error) {
	if in.Required && in.won == nil {
		return nil, s.in.Raise(s.lang.required, "Input '%s' is required and does not have a value.", in.Name)
	}
	if !in.has {
		return s.in.NewObject(s.lang.noValue, in.Name), nil
	}
	return in.won, nil
}

// fits raises when the input's value isn't of its type or pattern.
func (s *Suite) fits(in *Input) error {
	if !in.has {
		return nil
	}
	shown := s.in.ToS(in.won)
	if in.Sensitive {
		shown = "***"
	}
	if !s.isA(in.won, in.Type) {
		return s.in.Raise(s.lang.invalid, "Input '%s' with value '%s' does not validate to type '%s'.", in.Name, shown, in.Type)
	}
	if in.Pattern == "" {
		return nil
	}
	re, err := regexp.Compile(in.Pattern)
	if err != nil {
		return s.in.Raise(s.lang.invalid, "Pattern '%s' is not a valid regex pattern.", in.Pattern)
	}
	if !re.MatchString(s.in.ToS(in.won)) {
		return s.in.Raise(s.lang.invalid, "Input '%s' with value '%s' does not validate to pattern '%s'.", in.Name, shown, in.Pattern)
	}
	return nil
}

var number = regexp.MustCompile(`^\s*[-+]?\d+(\.\d+)?([eE][-+]?\d+)?\s*$`)

func (s *Suite) isA(v ruby.Value, typ string) bool {
	switch typ {
	case "", "Any":
		return true
	case "Boolean":
		_, ok := v.(bool)
		return ok
	case "Numeric":
		switch v := v.(type) {
		case int64, float64, *big.Int:
			return true
		case *ruby.String:
			return number.MatchString(v.String())
		}
		return false
	case "Regexp":
		switch v := v.(type) {
		case *ruby.Regexp:
			return true
		case *ruby.String:
			_, err := s.in.Call(s.in.Class("Regexp"), "new", []ruby.Value{v}, nil)
			return err == nil
		}
		return false
	}
	return s.in.IsA(v, s.in.Class(typ))
}

// indifferent makes a hash answer to symbols and texts alike, at its first
// level, as InSpec does with the values of inputs. Further down keys are
// symbols when inspec.yml gives them, else texts.
func (s *Suite) indifferent(v ruby.Value) ruby.Value {
	h, ok := v.(*ruby.Hash)
	if !ok {
		return v
	}
	out := &ruby.Hash{}
	_ = h.Each(func(key, v ruby.Value) error {
		out.Set(ruby.NewString(s.in.ToS(key)), v)
		return nil
	})
	out.DefaultProc = s.in.NewProc(2, func(c *ruby.Call) (ruby.Value, error) {
		if sym, ok := c.Arg(1).(ruby.Symbol); ok {
			v, _ := out.Get(ruby.NewString(string(sym)))
			return v, nil
		}
		return nil, nil
	})
	return out
}

// noValueClass is what an input without a value gives: it answers everything
// with itself, and a describe of it is skipped.
func (k *Language) noValueClass(in *ruby.Interp) {
	k.noValue = in.DefineClass(k.input, "NO_VALUE_SET", nil)
	k.noValue.Def("to_s", func(c *ruby.Call) (ruby.Value, error) {
		return ruby.NewString(noValueText(c.Self.(*ruby.Object))), nil
	})
	k.noValue.DefMissing(func(c *ruby.Call, _ string) (ruby.Value, error) { return c.Self, nil },
		func(ruby.Value, string) bool { return true })
}

func noValueText(o *ruby.Object) string {
	return fmt.Sprintf("Input '%s' does not have a value. Skipping test.", o.Data)
}

// profileClass defines inspec.profile, which reads the profile's own files.
func (k *Language) profileClass(in *ruby.Interp) {
	class := in.DefineClass(in.DefineModule(nil, "Inspec"), "RuntimeProfile", nil)
	of := func(c *ruby.Call) *Suite { return c.Self.(*ruby.Object).Data.(*Suite) }
	class.DefN("name", 0, 0, func(c *ruby.Call) (ruby.Value, error) { return ruby.NewString(of(c).cfg.Profile), nil })
	class.DefN("version", 0, 0, func(c *ruby.Call) (ruby.Value, error) { return ruby.NewString(of(c).cfg.Version), nil })
	class.DefN("file", 1, 1, func(c *ruby.Call) (ruby.Value, error) {
		name := c.In.ToS(c.Arg(0))
		data, ok := of(c).cfg.File(path.Join("files", path.Join("/", name)))
		if !ok {
			return nil, c.In.Raise(nil, "File '%s' does not exist in profile's 'files' directory", name)
		}
		return ruby.NewString(string(data)), nil
	})
	in.Class("Inspec::Backend").DefN("profile", 0, 0, func(c *ruby.Call) (ruby.Value, error) {
		if k.current == nil {
			return nil, nil
		}
		return in.NewObject(class, k.current), nil
	})
}

// rubyValue turns what JSON and YAML decode into to Ruby's values; the keys of
// hashes are symbols or texts.
func rubyValue(v any, symbols bool) ruby.Value {
	switch v := v.(type) {
	case nil, bool, int64, float64:
		return v
	case int:
		return int64(v)
	case string:
		return ruby.NewString(v)
	case []any:
		out := make([]ruby.Value, len(v))
		for i, e := range v {
			out[i] = rubyValue(e, symbols)
		}
		return ruby.NewArray(out...)
	case Map:
		out := &ruby.Hash{}
		for _, e := range v {
			key := rubyValue(e.Key, symbols)
			if text, ok := key.(*ruby.String); ok && symbols {
				key = ruby.Symbol(text.String())
			}
			out.Set(key, rubyValue(e.Value, symbols))
		}
		return out
	case map[string]any:
		out := &ruby.Hash{}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if symbols {
				out.Set(ruby.Symbol(key), rubyValue(v[key], symbols))
			} else {
				out.Set(ruby.NewString(key), rubyValue(v[key], symbols))
			}
		}
		return out
	}
	return ruby.NewString(fmt.Sprint(v))
}

// plainValue turns a Ruby value into what encoding/json takes.
func plainValue(in *ruby.Interp, v ruby.Value) any {
	switch v := v.(type) {
	case nil, bool, int64, float64, *big.Int:
		return v
	case *ruby.String:
		return v.String()
	case ruby.Symbol:
		return string(v)
	case *ruby.Array:
		out := make([]any, len(v.Elems))
		in.Nested(func() {
			for i, e := range v.Elems {
				out[i] = plainValue(in, e)
			}
		})
		return out
	case *ruby.Hash:
		out := map[string]any{}
		in.Nested(func() {
			_ = v.Each(func(key, e ruby.Value) error {
				out[in.ToS(key)] = plainValue(in, e)
				return nil
			})
		})
		return out
	}
	return in.ToS(v)
}
