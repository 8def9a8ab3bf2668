package matcher

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// Matcher judges one value and says so in words. The words are asked for
// after the judgement. An error is an exception in Ruby code that was called,
// or a limit that it passed.
type Matcher interface {
	Matches(actual ruby.Value) (bool, error)
	Description() (string, error)
	FailureMessage() (string, error)
	NegatedFailureMessage() (string, error)
	// Clone returns a matcher with the same expectation and no memory of what
	// was judged.
	Clone() Matcher
}

// A negator judges "not to" in a way of its own.
type negator interface {
	DoesNotMatch(actual ruby.Value) (bool, error)
}

// A differ may add a diff to its failure message.
type differ interface {
	Diff() (expected, actual ruby.Value, ok bool)
}

// A chainer takes further words: be_readable.by('others').
type chainer interface {
	Chain(c *ruby.Call) (known bool, err error)
}

// Kit makes the matchers of one interpreter.
type Kit struct {
	in         *ruby.Interp
	class      *ruby.Class
	custom     *ruby.Class
	defined    map[string]*ruby.Proc
	isResource func(ruby.Value) bool
	outside    func(c *ruby.Call) (ruby.Value, bool, error)
	notMet     *ruby.Class
}

// Options join a kit to its surroundings.
type Options struct {
	// IsResource tells InSpec's resources, which are shown by their to_s.
	IsResource func(ruby.Value) bool
	// Outside answers methods that a custom matcher doesn't know, such as
	// resources; it reports whether there was one.
	Outside func(c *ruby.Call) (ruby.Value, bool, error)
}

// Install defines RSpec::Matchers in the interpreter and returns the maker of
// its matchers.
func Install(in *ruby.Interp, opt Options) *Kit {
	k := &Kit{in: in, defined: map[string]*ruby.Proc{}, isResource: opt.IsResource, outside: opt.Outside}
	rspec := in.DefineModule(nil, "RSpec")
	matchers := in.DefineModule(rspec, "Matchers")
	expectations := in.DefineModule(rspec, "Expectations")
	k.notMet = in.DefineClass(expectations, "ExpectationNotMetError", in.Class("Exception"))
	k.class = in.DefineClass(in.DefineModule(matchers, "BuiltIn"), "BaseMatcher", nil)
	k.protocol(k.class)
	k.class.DefMissing(func(c *ruby.Call, name string) (ruby.Value, error) {
		if ch, ok := c.Self.(*ruby.Object).Data.(chainer); ok {
			if known, err := ch.Chain(c); known || err != nil {
				return c.Self, err
			}
		}
		return nil, c.In.Raise(c.In.Class("NoMethodError"), "undefined method `%s' for %s", name, k.Inspect(c.Self))
	}, func(v ruby.Value, name string) bool { return false })
	for _, op := range []string{"==", "!=", "<", "<=", ">", ">=", "=~"} {
		k.class.Def(op, k.operator)
	}
	k.custom = in.DefineClass(in.DefineModule(matchers, "DSL"), "Matcher", nil)
	k.protocol(k.custom)
	k.macros(matchers)
	return k
}

// protocol gives a class the methods that Ruby code may call on a matcher.
func (k *Kit) protocol(class *ruby.Class) {
	of := func(c *ruby.Call) Matcher { return c.Self.(*ruby.Object).Data.(Matcher) }
	matches := func(c *ruby.Call) (ruby.Value, error) {
		ok, err := of(c).Matches(c.Arg(0))
		return ok, err
	}
	class.Def("matches?", matches)
	class.Def("===", matches)
	class.Def("does_not_match?", func(c *ruby.Call) (ruby.Value, error) {
		ok, err := doesNotMatch(of(c), c.Arg(0))
		return ok, err
	})
	text := func(name string, fn func(Matcher) (string, error)) {
		class.Def(name, func(c *ruby.Call) (ruby.Value, error) {
			if m, ok := of(c).(*customMatcher); ok && c.Block != nil {
				m.defs[name] = c.Block
				return nil, nil
			}
			s, err := fn(of(c))
			return ruby.NewString(s), err
		})
	}
	text("description", Matcher.Description)
	text("failure_message", Matcher.FailureMessage)
	text("failure_message_when_negated", Matcher.NegatedFailureMessage)
	for _, conj := range []struct{ name, op, word string }{{"and", "&", "and"}, {"or", "|", "or"}} {
		join := func(c *ruby.Call) (ruby.Value, error) {
			other, ok := k.Of(c.Arg(0))
			if !ok {
				return nil, c.In.Raise(c.In.Class("ArgumentError"), "%s takes a matcher, got %s", conj.name, k.Format(c.Arg(0)))
			}
			return k.wrap(&compound{one: of(c), two: other, word: conj.word, weight: 1 + weight(of(c)) + weight(other)}), nil
		}
		class.Def(conj.name, join)
		class.Def(conj.op, join)
	}
}

// operator is `cmp >= 3` and `be > 3`. Other matchers keep Ruby's own ==.
func (k *Kit) operator(c *ruby.Call) (ruby.Value, error) {
	switch m := c.Self.(*ruby.Object).Data.(type) {
	case *cmp:
		m.op, m.expected = c.Name, c.Arg(0)
		return c.Self, nil
	case *be:
		return k.wrap(&beCompared{kit: k, op: c.Name, expected: c.Arg(0)}), nil
	}
	if c.Name == "==" || c.Name == "!=" {
		return (c.Self == c.Arg(0)) == (c.Name == "=="), nil
	}
	return nil, c.In.Raise(c.In.Class("NoMethodError"), "undefined method `%s' for %s", c.Name, k.Inspect(c.Self))
}

func (k *Kit) wrap(m Matcher) ruby.Value {
	if weight(m) > maxWeight {
		panic(&ruby.LimitError{Limit: "depth"}) // as ruby.Interp.Nested does
	}
	return &ruby.Object{Class: k.class, Data: m}
}

// maxWeight bounds how many matchers one is made of: m.and(m) doubles it.
const maxWeight = 1000

func weight(m Matcher) int {
	switch m := m.(type) {
	case *compound:
		return m.weight
	case *all:
		return m.weight
	case *renamed:
		return 1 + weight(m.Matcher)
	}
	return 1
}

// Of returns the matcher that v is.
func (k *Kit) Of(v ruby.Value) (Matcher, bool) {
	if o, ok := v.(*ruby.Object); ok {
		m, ok := o.Data.(Matcher)
		return m, ok
	}
	return nil, false
}

// Has reports whether New knows a matcher of that name, which includes every
// be_… and have_….
func (k *Kit) Has(name string) bool {
	if k.defined[name] != nil || builtin[name] != nil {
		return true
	}
	_, ok := k.AliasOf(name)
	return ok || predicateName(name) != ""
}

// Knows is Has without the predicates: be_x for any method x?, have_x for
// has_x?.
func (k *Kit) Knows(name string) bool {
	_, ok := k.AliasOf(name)
	return ok || k.defined[name] != nil || builtin[name] != nil
}

// New makes the matcher that the call names.
func (k *Kit) New(c *ruby.Call) (ruby.Value, error) {
	if decl := k.defined[c.Name]; decl != nil {
		return k.newCustom(c, decl)
	}
	name := c.Name
	if a, ok := k.AliasOf(name); ok {
		m, err := builtin[a](k, c)
		if err != nil {
			return nil, err
		}
		return k.wrap(&renamed{Matcher: m, old: words(a), new: words(name)}), nil
	}
	if fn := builtin[name]; fn != nil {
		m, err := fn(k, c)
		if err != nil {
			return nil, err
		}
		return k.wrap(m), nil
	}
	if p := predicateName(name); p != "" {
		return k.wrap(&predicate{kit: k, name: name, method: p, args: slices.Clone(c.Args), block: c.Block}), nil
	}
	return nil, fmt.Errorf("matcher: no matcher is called %s", name)
}

// predicateName is the method that a be_… or have_… matcher asks.
func predicateName(name string) string {
	if rest, ok := strings.CutPrefix(name, "be_"); ok && rest != "" {
		if r, ok := strings.CutPrefix(rest, "an_"); ok && r != "" {
			rest = r
		} else if r, ok := strings.CutPrefix(rest, "a_"); ok && r != "" {
			rest = r
		}
		return rest + "?"
	}
	if rest, ok := strings.CutPrefix(name, "have_"); ok && rest != "" {
		return "has_" + rest + "?"
	}
	return ""
}

// A Judgement is the outcome of one expectation.
type Judgement struct {
	Description string // "is expected to eq 1"
	Failed      bool
	Message     string
}

// Judge holds actual against a matcher. When Ruby code raises meanwhile, the
// error is returned and the judgement has its description only. A message
// that isn't nil replaces the matcher's own.
func (k *Kit) Judge(actual, matcher ruby.Value, negate bool, message ruby.Value) (Judgement, error) {
	m, ok := k.Of(matcher)
	if !ok {
		return Judgement{}, k.in.Raise(k.in.Class("ArgumentError"), "expected a matcher, got %s", k.Format(matcher))
	}
	var j Judgement
	var err error
	if negate {
		ok, err = doesNotMatch(m, actual)
	} else {
		ok, err = m.Matches(actual)
	}
	if err == nil && !ok {
		j.Failed = true
		j.Message, err = k.failure(m, negate, message)
	}
	verb := "is expected to "
	if negate {
		verb = "is expected not to "
	}
	desc, derr := m.Description()
	if derr == nil {
		j.Description = verb + desc
	}
	if err == nil {
		err = derr
	}
	return j, err
}

func (k *Kit) failure(m Matcher, negate bool, message ruby.Value) (string, error) {
	var msg string
	var err error
	switch given := message.(type) {
	case nil:
		if negate {
			msg, err = m.NegatedFailureMessage()
		} else {
			msg, err = m.FailureMessage()
		}
	case *ruby.Proc:
		var v ruby.Value
		if v, err = k.in.Yield(given); err == nil {
			msg = k.in.ToS(v)
		}
	default:
		msg = k.in.ToS(given)
	}
	if err != nil {
		return "", err
	}
	if d, ok := m.(differ); ok {
		if expected, actual, ok := d.Diff(); ok {
			if text := k.diff(actual, expected); strings.TrimSpace(text) != "" {
				msg += "\nDiff:" + text
			}
		}
	}
	return msg, nil
}

func doesNotMatch(m Matcher, actual ruby.Value) (bool, error) {
	if n, ok := m.(negator); ok {
		return n.DoesNotMatch(actual)
	}
	met, err := m.Matches(actual)
	return !met, err
}

// A literal prints as it is: a matcher's words among other values.
type literal string

// Inspect is the value's inspect, with matchers by their words and resources
// by their names.
func (k *Kit) Inspect(v ruby.Value) string {
	switch v := v.(type) {
	case literal:
		return string(v)
	case *ruby.Array:
		parts := make([]string, len(v.Elems))
		k.in.Nested(func() {
			for i, e := range v.Elems {
				parts[i] = k.Inspect(e)
			}
		})
		return k.text("[" + strings.Join(parts, ", ") + "]")
	case *ruby.Hash:
		return k.inspectHash(v)
	case *ruby.Object:
		if m, ok := v.Data.(Matcher); ok {
			if s, err := k.description(m); err == nil {
				return s
			}
		}
		if k.isResource != nil && k.isResource(v) {
			return k.in.ToS(v)
		}
	}
	return k.in.Inspect(v)
}

func (k *Kit) inspectHash(h *ruby.Hash) string {
	keys := h.Keys()
	text := func(v ruby.Value) (string, bool) {
		switch v := v.(type) {
		case *ruby.String:
			return v.String(), true
		case ruby.Symbol:
			return string(v), true
		}
		return "", false
	}
	if !slices.ContainsFunc(keys, func(v ruby.Value) bool { _, ok := text(v); return !ok }) {
		slices.SortStableFunc(keys, func(a, b ruby.Value) int {
			s, _ := text(a)
			t, _ := text(b)
			return strings.Compare(s, t)
		})
	}
	parts := make([]string, len(keys))
	k.in.Nested(func() {
		for i, key := range keys {
			value, _ := h.Get(key)
			parts[i] = k.Inspect(key) + "=>" + k.Inspect(value)
		}
	})
	return k.text("{" + strings.Join(parts, ", ") + "}")
}

// text counts a text of Inspect's as memory of the profile.
func (k *Kit) text(s string) string {
	if err := k.in.Charge(len(s)); err != nil {
		panic(err) // as ruby.Interp.Nested does
	}
	return s
}

// shown is the longest text of a value that stands in a message whole.
const shown = 200

// Format is how messages show a value: its inspect, cut in the middle when it
// is long.
func (k *Kit) Format(v ruby.Value) string {
	s := k.Inspect(v)
	if len(s) < shown {
		return s
	}
	r := []rune(s)
	if len(r) < shown {
		return s
	}
	return string(r[:shown/2+1]) + "..." + string(r[len(r)-shown/2:])
}

// list is RSpec's English list of values, with a blank before it.
func (k *Kit) list(v ruby.Value) string {
	switch v := v.(type) {
	case nil, bool, *ruby.Hash, literal:
		if v != true {
			return " " + k.Format(v)
		}
	case *ruby.Array:
		return k.listOf(v.Elems)
	case *ruby.Range:
		if a, err := k.in.Call(v, "to_a", nil, nil); err == nil {
			if a, ok := a.(*ruby.Array); ok {
				return k.listOf(a.Elems)
			}
		}
	}
	return k.listOf([]ruby.Value{v})
}

func (k *Kit) listOf(items []ruby.Value) string {
	parts := make([]string, len(items))
	for i, v := range items {
		parts[i] = k.Format(v)
	}
	switch n := len(parts); n {
	case 0:
		return ""
	case 1:
		return " " + parts[0]
	case 2:
		return " " + parts[0] + " and " + parts[1]
	default:
		return " " + strings.Join(parts[:n-1], ", ") + ", and " + parts[n-1]
	}
}

// surface puts the words of matchers in their places.
func (k *Kit) surface(v ruby.Value) ruby.Value {
	switch v := v.(type) {
	case *ruby.Array:
		out := make([]ruby.Value, len(v.Elems))
		k.in.Nested(func() {
			for i, e := range v.Elems {
				out[i] = k.surface(e)
			}
		})
		return ruby.NewArray(out...)
	case *ruby.Hash:
		out := &ruby.Hash{}
		k.in.Nested(func() {
			_ = v.Each(func(key, value ruby.Value) error {
				out.Set(key, k.surface(value))
				return nil
			})
		})
		return out
	}
	if m, ok := k.Of(v); ok {
		if s, err := k.description(m); err == nil {
			return literal("(" + s + ")")
		}
	}
	return v
}

// description is the words of a matcher that stands among values, and may hold
// others.
func (k *Kit) description(m Matcher) (s string, err error) {
	k.in.Nested(func() { s, err = m.Description() })
	return s, err
}

// valuesMatch is RSpec's idea of "is like": ==, ===, matchers, and the same
// through arrays and hashes.
func (k *Kit) valuesMatch(expected, actual ruby.Value) (met bool, err error) {
	if m, ok := k.Of(expected); ok {
		k.in.Nested(func() { met, err = m.Clone().Matches(actual) })
		return met, err
	}
	switch e := expected.(type) {
	case *ruby.Hash:
		if a, ok := actual.(*ruby.Hash); ok {
			k.in.Nested(func() { met, err = k.hashesMatch(e, a) })
			return met, err
		}
	case *ruby.Range:
		if _, ok := actual.(*ruby.Hash); !ok {
			return k.in.Equal(expected, actual), nil
		}
	case *ruby.Array:
		if a, ok := k.elements(actual); ok {
			k.in.Nested(func() { met, err = k.arraysMatch(e.Elems, a) })
			return met, err
		}
	}
	if k.in.Equal(expected, actual) {
		return true, nil
	}
	v, err := k.in.Call(expected, "===", []ruby.Value{actual}, nil)
	if k.isA(err, "ArgumentError") {
		return false, nil
	}
	return truthy(v), err
}

func (k *Kit) arraysMatch(expected, actual []ruby.Value) (bool, error) {
	if len(expected) != len(actual) {
		return false, nil
	}
	for i := range expected {
		if ok, err := k.valuesMatch(expected[i], actual[i]); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (k *Kit) hashesMatch(expected, actual *ruby.Hash) (bool, error) {
	if expected.Len() != actual.Len() {
		return false, nil
	}
	for _, key := range expected.Keys() {
		want, _ := expected.Get(key)
		got, ok := actual.Get(key)
		if !ok {
			return false, nil
		}
		if ok, err := k.valuesMatch(want, got); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// elements lists what an Enumerable holds.
func (k *Kit) elements(v ruby.Value) ([]ruby.Value, bool) {
	switch v := v.(type) {
	case *ruby.Array:
		return v.Elems, true
	case *ruby.Hash, *ruby.Range:
	case *ruby.Object:
		if !k.in.RespondTo(v, "each_with_index") || !k.in.RespondTo(v, "to_a") {
			return nil, false
		}
	default:
		return nil, false
	}
	a, err := k.in.Call(v, "to_a", nil, nil)
	if arr, ok := a.(*ruby.Array); ok && err == nil {
		return arr.Elems, true
	}
	return nil, false
}

// isA reports whether err is a Ruby exception of that class or one below it.
func (k *Kit) isA(err error, class string) bool {
	var e *ruby.Exception
	return errors.As(err, &e) && k.in.IsA(e, k.in.Class(class))
}

func truthy(v ruby.Value) bool { return v != nil && v != false }

func words(name string) string { return strings.ReplaceAll(name, "_", " ") }

var arrow = regexp.MustCompile(`(\S)=>(\S)`)

// airy is RSpec's rewriting of {"a"=>1} to {"a" => 1}.
func airy(s string) string { return arrow.ReplaceAllString(s, "$1 => $2") }
