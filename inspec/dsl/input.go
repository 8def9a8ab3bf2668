package dsl

import (
	"fmt"
	"maps"
	"math/big"
	"path"
	"slices"

	"reeve.dev/reeve/inspec/ruby"
)

// inputWords defines input and attribute.
func (k *Language) inputWords(class *ruby.Class) {
	for _, name := range []string{"input", "attribute"} {
		class.DefN(name, 1, 2, func(c *ruby.Call) (ruby.Value, error) {
			s := k.suiteOf(c)
			opts, _ := c.Arg(1).(*ruby.Hash)
			return s.input(c.In.ToS(c.Arg(0)), opts)
		})
	}
	class.DefN("input_object", 1, 1, func(c *ruby.Call) (ruby.Value, error) {
		return c.In.NewObject(k.input, &object{k.suiteOf(c), c.In.ToS(c.Arg(0))}), nil
	})
}

// object is an input that is asked about itself.
type object struct {
	s    *Suite
	name string
}

func (k *Language) inputClass(in *ruby.Interp) {
	k.input = in.DefineClass(in.DefineModule(nil, "Inspec"), "Input", nil)
	of := func(c *ruby.Call) *object { return c.Self.(*ruby.Object).Data.(*object) }
	name := func(c *ruby.Call) (ruby.Value, error) { return ruby.NewString(of(c).name), nil }
	k.input.DefN("name", 0, 0, name)
	k.input.DefN("to_s", 0, 0, name)
	k.input.DefN("value", 0, 0, func(c *ruby.Call) (ruby.Value, error) { return of(c).s.input(of(c).name, nil) })
	k.input.DefN("has_value?", 0, 0, func(c *ruby.Call) (ruby.Value, error) {
		o := of(c)
		_, given := o.s.cfg.Given[o.name]
		return given || o.s.inputs[o.name].HasValue, nil
	})
	k.input.DefN("required", 0, 0, func(c *ruby.Call) (ruby.Value, error) { return of(c).s.inputs[of(c).name].Required, nil })
}

// input is the value of an input: from outside, else what the profile
// declares, else what the control gives. An input that has none is an object
// that skips whatever asks it; one that must have a value raises.
func (s *Suite) input(name string, opts *ruby.Hash) (ruby.Value, error) {
	decl, declared := s.inputs[name]
	if v, ok := s.cfg.Given[name]; ok {
		if declared && decl.Check != nil {
			if err := decl.Check(v); err != nil {
				return nil, s.in.Raise(s.in.Class("ArgumentError"), "%s", err.Error())
			}
		}
		return s.indifferent(rubyValue(v, false)), nil
	}
	if declared && decl.HasValue {
		return s.indifferent(rubyValue(decl.Value, true)), nil
	}
	if opts != nil {
		for _, key := range []string{"value", "default"} {
			if v, ok := opts.GetSym(key); ok {
				return s.indifferent(v), nil
			}
		}
		if v, ok := opts.GetSym("required"); ok && ruby.Truthy(v) {
			decl.Required = true
		}
	}
	if decl.Required {
		return nil, s.in.Raise(nil, "Input '%s' is required and does not have a value.", name)
	}
	return s.in.NewObject(s.lang.noValue, name), nil
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
		for i, e := range v.Elems {
			out[i] = plainValue(in, e)
		}
		return out
	case *ruby.Hash:
		out := map[string]any{}
		_ = v.Each(func(key, e ruby.Value) error {
			out[in.ToS(key)] = plainValue(in, e)
			return nil
		})
		return out
	}
	return in.ToS(v)
}
