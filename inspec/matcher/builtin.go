package matcher

import (
	"fmt"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// builtin makes the matchers that have names of their own.
var builtin map[string]func(k *Kit, c *ruby.Call) (Matcher, error)

// aliases are RSpec's other names, for use inside other matchers; their
// descriptions say the other name.
var aliases = map[string]string{
	"a_truthy_value": "be_truthy", "a_falsey_value": "be_falsey", "a_nil_value": "be_nil",
	"a_value_between": "be_between", "a_value_within": "be_within", "within": "be_within",
	"an_instance_of": "be_an_instance_of", "a_kind_of": "be_a_kind_of",
	"a_collection_containing_exactly": "contain_exactly", "containing_exactly": "contain_exactly",
	"including": "include", "a_collection_including": "include", "a_string_including": "include",
	"a_hash_including": "include", "a_collection_starting_with": "start_with", "a_string_starting_with": "start_with",
	"starting_with": "start_with", "a_collection_ending_with": "end_with", "a_string_ending_with": "end_with",
	"ending_with": "end_with", "matching": "match", "match_regex": "match", "a_string_matching": "match",
	"an_object_matching": "match", "an_object_eq_to": "eq", "eq_to": "eq", "an_object_eql_to": "eql",
	"eql_to": "eql", "an_object_existing": "exist", "existing": "exist", "satisfying": "satisfy",
	"an_object_satisfying": "satisfy", "having_attributes": "have_attributes", "an_object_having_attributes": "have_attributes",
	"an_object_responding_to": "respond_to", "responding_to": "respond_to", "covering": "cover", "all_items": "all",
}

// AliasOf is the matcher that name is another name of, if it is one.
func (k *Kit) AliasOf(name string) (string, bool) {
	a, ok := aliases[name]
	return a, ok && k.defined[a] == nil
}

// Names lists the matchers that have names of their own.
func (k *Kit) Names() []string {
	var names []string
	for n := range builtin {
		names = append(names, n)
	}
	for n := range aliases {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func init() {
	one := func(fn func(k *Kit, v ruby.Value) Matcher) func(k *Kit, c *ruby.Call) (Matcher, error) {
		return func(k *Kit, c *ruby.Call) (Matcher, error) {
			if len(c.Args) != 1 {
				return nil, c.In.Raise(c.In.Class("ArgumentError"), "wrong number of arguments (given %d, expected 1)", len(c.Args))
			}
			return fn(k, c.Args[0]), nil
		}
	}
	many := func(fn func(k *Kit, args []ruby.Value) Matcher) func(k *Kit, c *ruby.Call) (Matcher, error) {
		return func(k *Kit, c *ruby.Call) (Matcher, error) { return fn(k, slices.Clone(c.Args)), nil }
	}
	eq := one(func(k *Kit, v ruby.Value) Matcher { return &equality{kit: k, name: "eq", by: "==", expected: v} })
	kindOf := one(func(k *Kit, v ruby.Value) Matcher { return &kind{kit: k, words: "be a kind of", expected: v} })
	instanceOf := one(func(k *Kit, v ruby.Value) Matcher {
		return &kind{kit: k, words: "be an instance of", exact: true, expected: v}
	})
	falsey := many(func(k *Kit, _ []ruby.Value) Matcher {
		return &plain{kit: k, desc: "be falsey", is: "falsey value", not: "truthy value", test: func(v ruby.Value) bool { return !truthy(v) }}
	})
	raise := func(k *Kit, c *ruby.Call) (Matcher, error) {
		return &raiseError{kit: k, expected: c.Arg(0), message: c.Arg(1), any: len(c.Args) == 0}, nil
	}
	flag := func(method, words string, backticks bool) func(k *Kit, c *ruby.Call) (Matcher, error) {
		return func(k *Kit, c *ruby.Call) (Matcher, error) {
			return &state{kit: k, name: c.Name, method: method, words: words, backticks: backticks}, nil
		}
	}
	access := func(k *Kit, c *ruby.Call) (Matcher, error) {
		return &access{kit: k, verb: strings.TrimPrefix(c.Name, "be_")}, nil
	}
	builtin = map[string]func(k *Kit, c *ruby.Call) (Matcher, error){
		"eq":  eq,
		"eql": one(func(k *Kit, v ruby.Value) Matcher { return &equality{kit: k, name: "eql", by: "eql?", expected: v} }),
		"equal": one(func(k *Kit, v ruby.Value) Matcher {
			return &identity{kit: k, expected: v}
		}),
		"be": func(k *Kit, c *ruby.Call) (Matcher, error) {
			if len(c.Args) == 0 {
				return &be{kit: k}, nil
			}
			return &identity{kit: k, expected: c.Args[0]}, nil
		},
		"be_truthy": many(func(k *Kit, _ []ruby.Value) Matcher {
			return &plain{kit: k, desc: "be truthy", is: "truthy value", not: "falsey value", test: truthy}
		}),
		"be_falsey": falsey,
		"be_falsy":  falsey,
		"be_nil": many(func(k *Kit, _ []ruby.Value) Matcher {
			return &plain{kit: k, desc: "be nil", is: "nil", not: "not nil", test: func(v ruby.Value) bool { return v == nil }}
		}),
		"be_a": kindOf, "be_an": kindOf, "be_kind_of": kindOf, "be_a_kind_of": kindOf,
		"be_instance_of": instanceOf, "be_an_instance_of": instanceOf,
		"be_between": func(k *Kit, c *ruby.Call) (Matcher, error) {
			return &between{kit: k, lo: c.Arg(0), hi: c.Arg(1)}, nil
		},
		"be_within": one(func(k *Kit, v ruby.Value) Matcher { return &within{kit: k, delta: v} }),
		"include": func(k *Kit, c *ruby.Call) (Matcher, error) {
			if len(c.Args) == 0 {
				return nil, c.In.Raise(c.In.Class("ArgumentError"), "include() is not supported, please supply an argument")
			}
			return &include{kit: k, expected: slices.Clone(c.Args)}, nil
		},
		"match": one(func(k *Kit, v ruby.Value) Matcher { return &match{kit: k, expected: v} }),
		"match_array": one(func(k *Kit, v ruby.Value) Matcher {
			if a, ok := v.(*ruby.Array); ok {
				return &exactly{kit: k, expected: slices.Clone(a.Elems)}
			}
			return &exactly{kit: k, expected: []ruby.Value{v}}
		}),
		"contain_exactly": many(func(k *Kit, args []ruby.Value) Matcher { return &exactly{kit: k, expected: args} }),
		"start_with":      many(func(k *Kit, args []ruby.Value) Matcher { return &edge{kit: k, expected: lone(args)} }),
		"end_with":        many(func(k *Kit, args []ruby.Value) Matcher { return &edge{kit: k, end: true, expected: lone(args)} }),
		"all": func(k *Kit, c *ruby.Call) (Matcher, error) {
			m, ok := k.Of(c.Arg(0))
			if !ok {
				return nil, c.In.Raise(c.In.Class("ArgumentError"), "all takes a matcher, got %s", k.Format(c.Arg(0)))
			}
			return &all{kit: k, inner: m, weight: 1 + weight(m)}, nil
		},
		"exist": many(func(k *Kit, args []ruby.Value) Matcher { return &exist{kit: k, args: args} }),
		"have_attributes": one(func(k *Kit, v ruby.Value) Matcher {
			h, _ := v.(*ruby.Hash)
			return &attributes{kit: k, expected: h}
		}),
		"respond_to": many(func(k *Kit, args []ruby.Value) Matcher { return &respondTo{kit: k, names: args} }),
		"satisfy": func(k *Kit, c *ruby.Call) (Matcher, error) {
			m := &satisfy{kit: k, desc: "satisfy " + snippet(c.Block), block: c.Block}
			if s, ok := c.Arg(0).(*ruby.String); ok {
				m.desc = s.String()
			}
			return m, nil
		},
		"cover":       many(func(k *Kit, args []ruby.Value) Matcher { return &cover{kit: k, expected: args} }),
		"raise_error": raise, "raise_exception": raise,

		"cmp": one(func(k *Kit, v ruby.Value) Matcher { return &cmp{kit: k, op: "==", expected: v} }),
		"be_in": one(func(k *Kit, v ruby.Value) Matcher {
			return &in{kit: k, list: v}
		}),
		"be_readable": access, "be_writable": access, "be_executable": access,
		"be_installed":  flag("installed?", "is installed", true),
		"be_enabled":    flag("enabled?", "is enabled", true),
		"be_running":    flag("running?", "is running", true),
		"be_reachable":  flag("reachable?", "is reachable", false),
		"be_resolvable": flag("resolvable?", "is resolvable", false),
		"have_rule": one(func(k *Kit, v ruby.Value) Matcher {
			return &asks{kit: k, desc: "have rule", method: "has_rule?", arg: v}
		}),
		"have_element": one(func(k *Kit, v ruby.Value) Matcher {
			return &asks{kit: k, desc: "have element", method: "has_element?", arg: v}
		}),
		"contain_duplicates": many(func(k *Kit, _ []ruby.Value) Matcher {
			return &duplicates{kit: k}
		}),
		"be_mounted": many(func(k *Kit, _ []ruby.Value) Matcher { return &mounted{kit: k} }),
	}
	// `cmp >= 3` is cmp without an argument, then an operator
	withArg := builtin["cmp"]
	builtin["cmp"] = func(k *Kit, c *ruby.Call) (Matcher, error) {
		if len(c.Args) == 0 {
			return &cmp{kit: k, op: "=="}, nil
		}
		return withArg(k, c)
	}
}

func lone(args []ruby.Value) ruby.Value {
	if len(args) == 1 {
		return args[0]
	}
	return ruby.NewArray(args...)
}

// expectedTo is RSpec's usual message.
func (k *Kit) expectedTo(actual ruby.Value, m Matcher, not string) (string, error) {
	desc, err := m.Description()
	return "expected " + k.Format(actual) + " " + not + "to " + desc, err
}

// renamed is a matcher under another of RSpec's names for it.
type renamed struct {
	Matcher
	old, new string
}

func (m *renamed) Clone() Matcher { return &renamed{m.Matcher.Clone(), m.old, m.new} }

func (m *renamed) Description() (string, error) {
	s, err := m.Matcher.Description()
	return strings.ReplaceAll(s, m.old, m.new), err
}

func (m *renamed) FailureMessage() (string, error) {
	s, err := m.Matcher.FailureMessage()
	return strings.ReplaceAll(s, m.old, m.new), err
}

func (m *renamed) NegatedFailureMessage() (string, error) {
	s, err := m.Matcher.NegatedFailureMessage()
	return strings.ReplaceAll(s, m.old, m.new), err
}

func (m *renamed) DoesNotMatch(actual ruby.Value) (bool, error) {
	return doesNotMatch(m.Matcher, actual)
}

func (m *renamed) Chain(c *ruby.Call) (bool, error) {
	if ch, ok := m.Matcher.(chainer); ok {
		return ch.Chain(c)
	}
	return false, nil
}

// equality is eq and eql.
type equality struct {
	kit              *Kit
	name, by         string
	expected, actual ruby.Value
}

func (m *equality) Clone() Matcher { n := *m; return &n }

func (m *equality) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	if m.by == "eql?" {
		return m.kit.in.Eql(actual, m.expected), nil
	}
	v, err := m.kit.in.Call(actual, "==", []ruby.Value{m.expected}, nil)
	return truthy(v), err
}

func (m *equality) Description() (string, error) {
	if m.by == "eql?" {
		return m.name + m.kit.list(m.expected), nil
	}
	return m.name + " " + m.kit.Format(m.expected), nil
}

func (m *equality) FailureMessage() (string, error) {
	return fmt.Sprintf("\nexpected: %s\n     got: %s\n\n(compared using %s)\n", m.kit.Format(m.expected), m.kit.Format(m.actual), m.by), nil
}

func (m *equality) NegatedFailureMessage() (string, error) {
	return fmt.Sprintf("\nexpected: value != %s\n     got: %s\n\n(compared using %s)\n", m.kit.Format(m.expected), m.kit.Format(m.actual), m.by), nil
}

func (m *equality) Diff() (ruby.Value, ruby.Value, bool) { return m.expected, m.actual, true }

// identity is equal and be(value).
type identity struct {
	kit              *Kit
	expected, actual ruby.Value
}

func (m *identity) Clone() Matcher { n := *m; return &n }

func (m *identity) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	v, err := m.kit.in.Call(actual, "equal?", []ruby.Value{m.expected}, nil)
	return truthy(v), err
}

func (m *identity) Description() (string, error) { return "equal" + m.kit.list(m.expected), nil }

func (m *identity) show(v ruby.Value) string {
	if isSingleton(v) {
		return m.kit.Format(v)
	}
	return m.object(v)
}

// object shows a value with its id, where that is the same in each run.
func (m *identity) object(v ruby.Value) string {
	if isSingleton(v) {
		ids := map[ruby.Value]int{nil: 8, true: 20, false: 0}
		return fmt.Sprintf("#<%s:%d> => %s", m.kit.in.ClassOf(v).Name, ids[v], m.kit.Format(v))
	}
	return fmt.Sprintf("#<%s> => %s", m.kit.in.ClassOf(v).Name, m.kit.Format(v))
}

func isSingleton(v ruby.Value) bool {
	_, b := v.(bool)
	return v == nil || b
}

func (m *identity) FailureMessage() (string, error) {
	if isSingleton(m.expected) {
		return fmt.Sprintf("\nexpected %s\n     got %s\n", m.kit.Format(m.expected), m.show(m.actual)), nil
	}
	return fmt.Sprintf("\nexpected %s\n     got %s\n\nCompared using equal?, which compares object identity,\nbut expected and actual are not the same object. Use\n`expect(actual).to eq(expected)` if you don't care about\nobject identity in this example.\n\n", m.show(m.expected), m.show(m.actual)), nil
}

func (m *identity) NegatedFailureMessage() (string, error) {
	return fmt.Sprintf("\nexpected not %s\n         got %s\n\nCompared using equal?, which compares object identity.\n\n", m.object(m.actual), m.object(m.expected)), nil
}

// plain is be_nil, be_truthy and be_falsey.
type plain struct {
	kit           *Kit
	desc, is, not string
	test          func(ruby.Value) bool
	actual        ruby.Value
}

func (m *plain) Clone() Matcher { n := *m; return &n }

func (m *plain) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	return m.test(actual), nil
}
func (m *plain) Description() (string, error) { return m.desc, nil }
func (m *plain) FailureMessage() (string, error) {
	return "expected: " + m.is + "\n     got: " + m.kit.Format(m.actual), nil
}

func (m *plain) NegatedFailureMessage() (string, error) {
	return "expected: " + m.not + "\n     got: " + m.kit.Format(m.actual), nil
}

// be is a bare `be`: anything but nil and false.
type be struct {
	kit    *Kit
	actual ruby.Value
}

func (m *be) Clone() Matcher { return &be{kit: m.kit} }

func (m *be) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	return truthy(actual), nil
}
func (m *be) Description() (string, error) { return "be", nil }
func (m *be) FailureMessage() (string, error) {
	return "expected " + m.kit.Format(m.actual) + " to evaluate to true", nil
}

func (m *be) NegatedFailureMessage() (string, error) {
	return "expected " + m.kit.Format(m.actual) + " to evaluate to false", nil
}

// beCompared is `be > 3`.
type beCompared struct {
	kit              *Kit
	op               string
	expected, actual ruby.Value
}

func (m *beCompared) Clone() Matcher { n := *m; return &n }

func (m *beCompared) compare(actual ruby.Value) (met, could bool, err error) {
	m.actual = actual
	v, err := m.kit.in.Call(actual, m.op, []ruby.Value{m.expected}, nil)
	if m.kit.isA(err, "ArgumentError") || m.kit.isA(err, "NoMethodError") {
		return false, false, nil
	}
	return truthy(v), true, err
}

func (m *beCompared) Matches(actual ruby.Value) (bool, error) {
	met, _, err := m.compare(actual)
	return met, err
}

func (m *beCompared) DoesNotMatch(actual ruby.Value) (bool, error) {
	met, could, err := m.compare(actual)
	return could && !met, err
}

func (m *beCompared) Description() (string, error) {
	return "be " + m.op + " " + words(m.kit.in.ToS(m.expected)), nil
}

func (m *beCompared) FailureMessage() (string, error) {
	return fmt.Sprintf("expected: %s %s\n     got: %s %s", m.op, m.kit.Format(m.expected), strings.Repeat(" ", len(m.op)), m.kit.Format(m.actual)), nil
}

func (m *beCompared) NegatedFailureMessage() (string, error) {
	s := fmt.Sprintf("`expect(%s).not_to be %s %s`", m.kit.Format(m.actual), m.op, m.kit.Format(m.expected))
	if m.op[0] == '<' || m.op[0] == '>' {
		s += " not only FAILED, it is a bit confusing."
	}
	return s, nil
}

// kind is be_a, be_kind_of and be_an_instance_of.
type kind struct {
	kit              *Kit
	words            string
	exact            bool
	expected, actual ruby.Value
}

func (m *kind) Clone() Matcher { n := *m; return &n }

func (m *kind) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	method := "kind_of?"
	if m.exact {
		method = "instance_of?"
	}
	v, err := m.kit.in.Call(actual, method, []ruby.Value{m.expected}, nil)
	return truthy(v), err
}
func (m *kind) Description() (string, error)    { return m.words + m.kit.list(m.expected), nil }
func (m *kind) FailureMessage() (string, error) { return m.kit.expectedTo(m.actual, m, "") }
func (m *kind) NegatedFailureMessage() (string, error) {
	return m.kit.expectedTo(m.actual, m, "not ")
}

// between is be_between.
type between struct {
	kit            *Kit
	lo, hi, actual ruby.Value
	exclusive      bool
}

func (m *between) Clone() Matcher { n := *m; return &n }

func (m *between) ops() (ge, le string) {
	if m.exclusive {
		return ">", "<"
	}
	return ">=", "<="
}

func (m *between) comparable() bool {
	ge, le := m.ops()
	return m.kit.in.RespondTo(m.actual, ge) && m.kit.in.RespondTo(m.actual, le)
}

func (m *between) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	if !m.comparable() {
		return false, nil
	}
	ge, le := m.ops()
	v, err := m.kit.in.Call(actual, ge, []ruby.Value{m.lo}, nil)
	if err == nil && truthy(v) {
		v, err = m.kit.in.Call(actual, le, []ruby.Value{m.hi}, nil)
	}
	if m.kit.isA(err, "ArgumentError") {
		return false, nil
	}
	return truthy(v), err
}

func (m *between) Chain(c *ruby.Call) (bool, error) {
	switch c.Name {
	case "inclusive", "exclusive":
		m.exclusive = c.Name == "exclusive"
		return true, nil
	}
	return false, nil
}

func (m *between) Description() (string, error) {
	mode := "inclusive"
	if m.exclusive {
		mode = "exclusive"
	}
	return fmt.Sprintf("be between %s and %s (%s)", m.kit.Format(m.lo), m.kit.Format(m.hi), mode), nil
}

func (m *between) FailureMessage() (string, error) {
	s, err := m.kit.expectedTo(m.actual, m, "")
	if !m.comparable() {
		ge, le := m.ops()
		s += fmt.Sprintf(", but it does not respond to `%s` and `%s`", le, ge)
	}
	return s, err
}

func (m *between) NegatedFailureMessage() (string, error) {
	return m.kit.expectedTo(m.actual, m, "not ")
}

// within is be_within(delta).of(value).
type within struct {
	kit                     *Kit
	delta, expected, actual ruby.Value
	percent, set            bool
}

func (m *within) Clone() Matcher { n := *m; return &n }

func (m *within) Chain(c *ruby.Call) (bool, error) {
	switch c.Name {
	case "of", "percent_of":
		m.expected, m.set, m.percent = c.Arg(0), true, c.Name == "percent_of"
		return true, nil
	}
	return false, nil
}

func (m *within) numeric() bool { return m.kit.in.RespondTo(m.actual, "-") }

func (m *within) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	if !m.set {
		return false, m.kit.in.Raise(m.kit.in.Class("ArgumentError"), "You must set an expected value using #of: be_within(%s).of(expected_value)", m.kit.in.ToS(m.delta))
	}
	if !m.numeric() {
		return false, nil
	}
	call := func(v ruby.Value, method string, args ...ruby.Value) (ruby.Value, error) {
		return m.kit.in.Call(v, method, args, nil)
	}
	tolerance := m.delta
	if m.percent {
		abs, err := call(m.expected, "abs")
		if err != nil {
			return false, err
		}
		if tolerance, err = call(abs, "*", m.delta); err != nil {
			return false, err
		}
		if tolerance, err = call(tolerance, "/", 100.0); err != nil {
			return false, err
		}
	}
	diff, err := call(actual, "-", m.expected)
	if err != nil {
		return false, err
	}
	if diff, err = call(diff, "abs"); err != nil {
		return false, err
	}
	v, err := call(diff, "<=", tolerance)
	return truthy(v), err
}

func (m *within) Description() (string, error) {
	unit := ""
	if m.percent {
		unit = "%"
	}
	return fmt.Sprintf("be within %s%s of %s", m.kit.in.ToS(m.delta), unit, m.kit.Format(m.expected)), nil
}

func (m *within) FailureMessage() (string, error) {
	s, err := m.kit.expectedTo(m.actual, m, "")
	if !m.numeric() {
		s += ", but it could not be treated as a numeric value"
	}
	return s, err
}

func (m *within) NegatedFailureMessage() (string, error) {
	return m.kit.expectedTo(m.actual, m, "not ")
}

// include is include(item, …).
type include struct {
	kit       *Kit
	expected  []ruby.Value
	actual    ruby.Value
	divergent []ruby.Value
	asked     bool
}

func (m *include) Clone() Matcher { return &include{kit: m.kit, expected: m.expected} }

func (m *include) Matches(actual ruby.Value) (bool, error)      { return m.judge(actual, true) }
func (m *include) DoesNotMatch(actual ruby.Value) (bool, error) { return m.judge(actual, false) }

func (m *include) judge(actual ruby.Value, want bool) (bool, error) {
	m.actual, m.divergent = actual, nil
	if m.asked = m.kit.in.RespondTo(actual, "include?"); !m.asked {
		return false, nil
	}
	hash, isHash := actual.(*ruby.Hash)
	for _, e := range m.expected {
		sub, isSub := e.(*ruby.Hash)
		switch {
		case isHash && isSub:
			for _, key := range sub.Keys() {
				value, _ := sub.Get(key)
				ok, err := m.hasPair(hash, key, value)
				if err != nil {
					return false, err
				}
				if ok != want {
					m.divergent = append(m.divergent, ruby.NewHash(key, value))
				}
			}
		default:
			var ok bool
			var err error
			if isHash {
				ok, err = m.hasKey(hash, e)
			} else {
				ok, err = m.holds(e)
			}
			if err != nil {
				return false, err
			}
			if ok != want {
				m.divergent = append(m.divergent, e)
			}
		}
	}
	return len(m.divergent) == 0, nil
}

func (m *include) hasPair(h *ruby.Hash, key, value ruby.Value) (bool, error) {
	if got, ok := h.Get(key); ok {
		return m.kit.valuesMatch(value, got)
	}
	for _, k := range h.Keys() {
		ok, err := m.kit.valuesMatch(key, k)
		if err != nil {
			return false, err
		}
		if ok {
			got, _ := h.Get(k)
			return m.kit.valuesMatch(value, got)
		}
	}
	return false, nil
}

func (m *include) hasKey(h *ruby.Hash, key ruby.Value) (bool, error) {
	if _, ok := h.Get(key); ok {
		return true, nil
	}
	for _, k := range h.Keys() {
		if ok, err := m.kit.valuesMatch(key, k); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (m *include) holds(e ruby.Value) (bool, error) {
	if re, ok := e.(*ruby.Regexp); ok {
		if s, ok := m.actual.(*ruby.String); ok {
			v, err := m.kit.in.Call(s, "match?", []ruby.Value{re}, nil)
			return truthy(v), err
		}
	}
	if _, ok := m.kit.Of(e); !ok {
		v, err := m.kit.in.Call(m.actual, "include?", []ruby.Value{e}, nil)
		if truthy(v) || err != nil {
			return truthy(v), err
		}
	}
	elems, ok := m.kit.elements(m.actual)
	if !ok {
		return false, nil
	}
	for _, v := range elems {
		if ok, err := m.kit.valuesMatch(e, v); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (m *include) readable(items []ruby.Value) string {
	merged := &ruby.Hash{}
	for _, it := range items {
		h, ok := it.(*ruby.Hash)
		if !ok {
			return m.kit.list(m.kit.surface(ruby.NewArray(items...)))
		}
		_ = m.kit.surface(h).(*ruby.Hash).Each(func(k, v ruby.Value) error { merged.Set(k, v); return nil })
	}
	if len(items) == 0 {
		return " nil"
	}
	return " " + m.kit.Inspect(merged)
}

func (m *include) Description() (string, error) { return airy("include" + m.readable(m.expected)), nil }

func (m *include) FailureMessage() (string, error)        { return m.message("") }
func (m *include) NegatedFailureMessage() (string, error) { return m.message("not ") }

func (m *include) message(not string) (string, error) {
	if !m.asked {
		s, err := m.kit.expectedTo(m.actual, m, not)
		return airy(s + ", but it does not respond to `include?`"), err
	}
	return airy("expected " + m.kit.Format(m.actual) + " " + not + "to include" + m.readable(m.divergent)), nil
}

func (m *include) Diff() (ruby.Value, ruby.Value, bool) {
	if s, ok := m.actual.(*ruby.String); ok {
		if _, re := m.expected[0].(*ruby.Regexp); !re {
			// a diff would show as missing what stands within a line
			for _, e := range m.expected {
				t, ok := e.(*ruby.String)
				if ok && strings.Contains(s.String(), t.String()) && !slices.Contains(strings.Split(s.String(), "\n"), t.String()) {
					return nil, nil, false
				}
			}
		}
	}
	if h, ok := m.expected[0].(*ruby.Hash); ok && len(m.expected) == 1 {
		return h, m.actual, true
	}
	return ruby.NewArray(m.expected...), m.actual, true
}

// match is match(regexp, text or structure).
type match struct {
	kit              *Kit
	expected, actual ruby.Value
}

func (m *match) Clone() Matcher { n := *m; return &n }

func (m *match) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	if ok, err := m.kit.valuesMatch(m.expected, actual); ok || err != nil {
		return ok, err
	}
	if _, ok := m.expected.(*ruby.Array); ok || !m.kit.in.RespondTo(actual, "match") {
		return false, nil
	}
	if _, ok := m.kit.Of(m.expected); ok {
		return false, nil
	}
	v, err := m.kit.in.Call(actual, "match", []ruby.Value{m.expected}, nil)
	return truthy(v), err
}

func (m *match) Description() (string, error) {
	return "match " + m.kit.Inspect(m.kit.surface(m.expected)), nil
}
func (m *match) FailureMessage() (string, error) { return m.kit.expectedTo(m.actual, m, "") }
func (m *match) NegatedFailureMessage() (string, error) {
	return m.kit.expectedTo(m.actual, m, "not ")
}
func (m *match) Diff() (ruby.Value, ruby.Value, bool) { return m.expected, m.actual, true }

// exactly is contain_exactly and match_array.
type exactly struct {
	kit              *Kit
	expected         []ruby.Value
	given            ruby.Value
	actual           []ruby.Value
	array            bool
	missing, surplus []ruby.Value
}

func (m *exactly) Clone() Matcher { return &exactly{kit: m.kit, expected: m.expected} }

func (m *exactly) Matches(actual ruby.Value) (bool, error) {
	m.given, m.missing, m.surplus = actual, nil, nil
	if m.actual, m.array = m.kit.elements(actual); !m.array {
		return false, nil
	}
	// pairs[e] is the actual element that stands for expected element e: the
	// largest pairing, by augmenting paths.
	like := make([][]bool, len(m.expected))
	for i, e := range m.expected {
		like[i] = make([]bool, len(m.actual))
		for j, a := range m.actual {
			ok, err := m.kit.valuesMatch(e, a)
			if err != nil {
				return false, err
			}
			like[i][j] = ok
		}
	}
	owner := make([]int, len(m.actual))
	for j := range owner {
		owner[j] = -1
	}
	var place func(i int, seen []bool) bool
	place = func(i int, seen []bool) bool {
		for j := range m.actual {
			if like[i][j] && !seen[j] {
				seen[j] = true
				if owner[j] < 0 || place(owner[j], seen) {
					owner[j] = i
					return true
				}
			}
		}
		return false
	}
	for i := range m.expected {
		if !place(i, make([]bool, len(m.actual))) {
			m.missing = append(m.missing, m.expected[i])
		}
	}
	for j, o := range owner {
		if o < 0 {
			m.surplus = append(m.surplus, m.actual[j])
		}
	}
	return len(m.missing) == 0 && len(m.surplus) == 0, nil
}

func (m *exactly) Description() (string, error) {
	return "contain exactly" + m.kit.list(m.kit.surface(ruby.NewArray(m.expected...))), nil
}

func (m *exactly) FailureMessage() (string, error) {
	if !m.array {
		return "expected a collection that can be converted to an array with `#to_ary` or `#to_a`, but got " + m.kit.Format(m.given), nil
	}
	line := func(prefix string, items []ruby.Value) string {
		return fmt.Sprintf("%-32s%s\n", prefix+":", m.kit.Format(m.kit.surface(ruby.NewArray(m.sorted(items)...))))
	}
	s := line("expected collection contained", m.expected) + line("actual collection contained", m.actual)
	if len(m.missing) > 0 {
		s += line("the missing elements were", m.missing)
	}
	if len(m.surplus) > 0 {
		s += line("the extra elements were", m.surplus)
	}
	return s, nil
}

// sorted sorts what compares and leaves the rest as it is.
func (m *exactly) sorted(items []ruby.Value) []ruby.Value {
	out := slices.Clone(items)
	ok := true
	slices.SortStableFunc(out, func(a, b ruby.Value) int {
		n, comparable, err := m.kit.in.Compare(a, b)
		ok = ok && comparable && err == nil
		return n
	})
	if !ok {
		return items
	}
	return out
}

func (m *exactly) NegatedFailureMessage() (string, error) {
	return m.kit.expectedTo(m.given, m, "not ")
}

// edge is start_with and end_with.
type edge struct {
	kit              *Kit
	end              bool
	expected, actual ruby.Value
	indexable        bool
}

func (m *edge) Clone() Matcher { n := *m; return &n }

func (m *edge) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	if m.indexable = m.kit.in.RespondTo(actual, "[]"); !m.indexable {
		return false, nil
	}
	at := func(args ...ruby.Value) (bool, error) {
		v, err := m.kit.in.Call(actual, "[]", args, nil)
		if m.kit.isA(err, "ArgumentError") {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return m.kit.valuesMatch(m.expected, v)
	}
	if m.kit.in.RespondTo(m.expected, "length") {
		n, err := m.kit.in.Call(m.expected, "length", nil, nil)
		if err != nil {
			return false, err
		}
		length, _ := n.(int64)
		from := int64(0)
		if m.end {
			from = -length
		}
		if ok, err := at(from, length); ok || err != nil {
			return ok, err
		}
	}
	if m.end {
		return at(int64(-1))
	}
	return at(int64(0))
}

func (m *edge) Description() (string, error) {
	name := "start with"
	if m.end {
		name = "end with"
	}
	return name + m.kit.list(m.kit.surface(m.expected)), nil
}

func (m *edge) FailureMessage() (string, error) {
	s, err := m.kit.expectedTo(m.actual, m, "")
	if !m.indexable {
		s += ", but it cannot be indexed using #[]"
	}
	return s, err
}

func (m *edge) NegatedFailureMessage() (string, error) { return m.kit.expectedTo(m.actual, m, "not ") }

// all is all(matcher).
type all struct {
	kit      *Kit
	inner    Matcher
	weight   int
	actual   ruby.Value
	iterable bool
	failed   []string
}

func (m *all) Clone() Matcher { return &all{kit: m.kit, inner: m.inner.Clone(), weight: m.weight} }

func (m *all) Matches(actual ruby.Value) (bool, error) {
	m.actual, m.failed = actual, nil
	var elems []ruby.Value
	if elems, m.iterable = m.kit.elements(actual); !m.iterable {
		return false, nil
	}
	for i, e := range elems {
		inner := m.inner.Clone()
		ok, err := inner.Matches(e)
		if err != nil {
			return false, err
		}
		if !ok {
			msg, err := inner.FailureMessage()
			if err != nil {
				return false, err
			}
			if !strings.HasPrefix(msg, "\n") {
				msg = "\n" + msg
			}
			m.failed = append(m.failed, indent(fmt.Sprintf("object at index %d failed to match:%s", i, indent(strings.TrimRight(msg, "\n")))))
		}
	}
	return len(m.failed) == 0, nil
}

func (m *all) DoesNotMatch(ruby.Value) (bool, error) {
	return false, m.kit.in.Raise(m.kit.in.Class("NotImplementedError"), "`expect().not_to all( matcher )` is not supported.")
}

func (m *all) Description() (string, error) {
	d, err := m.inner.Description()
	return airy("all " + d), err
}

func (m *all) FailureMessage() (string, error) {
	s, err := m.kit.expectedTo(m.actual, m, "")
	if !m.iterable {
		return airy(s) + ", but was not iterable", err
	}
	return strings.Join(append([]string{airy(s)}, m.failed...), "\n\n"), err
}

func (m *all) NegatedFailureMessage() (string, error) { return m.kit.expectedTo(m.actual, m, "not ") }

// indent sets each line that isn't blank in by three.
func indent(s string) string {
	lines := strings.SplitAfter(s, "\n")
	for i, l := range lines {
		if strings.TrimSpace(l) != "" {
			lines[i] = "   " + l
		}
	}
	return strings.Join(lines, "")
}

// compound is one.and(other) and one.or(other).
type compound struct {
	one, two     Matcher
	word         string
	weight       int
	first, other bool
}

func (m *compound) Clone() Matcher {
	return &compound{one: m.one.Clone(), two: m.two.Clone(), word: m.word, weight: m.weight}
}

func (m *compound) Matches(actual ruby.Value) (bool, error) {
	var err error
	if m.first, err = m.one.Matches(actual); err != nil {
		return false, err
	}
	if m.other, err = m.two.Matches(actual); err != nil {
		return false, err
	}
	if m.word == "and" {
		return m.first && m.other, nil
	}
	return m.first || m.other, nil
}

func (m *compound) Description() (string, error) {
	a, err := m.one.Description()
	if err != nil {
		return "", err
	}
	b, err := m.two.Description()
	return a + " " + m.word + " " + b, err
}

func (m *compound) FailureMessage() (string, error) {
	a, err := m.one.FailureMessage()
	if err != nil {
		return "", err
	}
	b, err := m.two.FailureMessage()
	switch {
	case err != nil:
		return "", err
	case m.word == "and" && m.first:
		return b, nil
	case m.word == "and" && m.other:
		return a, nil
	}
	return indent(strings.TrimRight(a, "\n")) + "\n\n..." + m.word + ":\n\n" + indent(strings.TrimLeft(b, "\n")), nil
}

func (m *compound) NegatedFailureMessage() (string, error) { return m.FailureMessage() }

// exist asks exist? and exists?.
type exist struct {
	kit     *Kit
	args    []ruby.Value
	actual  ruby.Value
	answers []bool
}

func (m *exist) Clone() Matcher { return &exist{kit: m.kit, args: m.args} }

func (m *exist) ask(actual ruby.Value) error {
	m.actual, m.answers = actual, nil
	for _, method := range []string{"exist?", "exists?"} {
		if !m.kit.in.RespondTo(actual, method) {
			continue
		}
		v, err := m.kit.in.Call(actual, method, m.args, nil)
		if err != nil {
			return err
		}
		m.answers = append(m.answers, truthy(v))
	}
	return nil
}

func (m *exist) agreed() bool {
	return len(m.answers) == 1 || len(m.answers) == 2 && m.answers[0] == m.answers[1]
}

func (m *exist) Matches(actual ruby.Value) (bool, error) {
	err := m.ask(actual)
	return err == nil && m.agreed() && m.answers[0], err
}

func (m *exist) DoesNotMatch(actual ruby.Value) (bool, error) {
	err := m.ask(actual)
	return err == nil && m.agreed() && !m.answers[0], err
}

func (m *exist) validity() string {
	switch {
	case len(m.answers) == 0:
		return " but it does not respond to either `exist?` or `exists?`"
	case !m.agreed():
		return fmt.Sprintf(" but `exist?` and `exists?` returned different values:\n\n exist?: %t\nexists?: %t", m.answers[0], m.answers[1])
	}
	return ""
}

func (m *exist) Description() (string, error) { return "exist" + m.kit.listOf(m.args), nil }
func (m *exist) FailureMessage() (string, error) {
	return "expected " + m.kit.Format(m.actual) + " to exist" + m.validity(), nil
}

func (m *exist) NegatedFailureMessage() (string, error) {
	return "expected " + m.kit.Format(m.actual) + " not to exist" + m.validity(), nil
}

// attributes is have_attributes.
type attributes struct {
	kit      *Kit
	expected *ruby.Hash
	actual   ruby.Value
	values   *ruby.Hash
	unknown  []ruby.Value
}

func (m *attributes) Clone() Matcher { return &attributes{kit: m.kit, expected: m.expected} }

func (m *attributes) Matches(actual ruby.Value) (bool, error) { return m.judge(actual, true) }

func (m *attributes) DoesNotMatch(actual ruby.Value) (bool, error) { return m.judge(actual, false) }

func (m *attributes) judge(actual ruby.Value, want bool) (bool, error) {
	m.actual, m.values, m.unknown = actual, &ruby.Hash{}, nil
	if m.expected == nil {
		return false, m.kit.in.Raise(m.kit.in.Class("ArgumentError"), "have_attributes takes a hash")
	}
	for _, key := range m.expected.Keys() {
		if !m.kit.in.RespondTo(actual, m.kit.in.ToS(key)) {
			m.unknown = append(m.unknown, key)
		}
	}
	if len(m.unknown) > 0 {
		return false, nil
	}
	met := true
	for _, key := range m.expected.Keys() {
		v, err := m.kit.in.Call(actual, m.kit.in.ToS(key), nil, nil)
		if err != nil {
			return false, err
		}
		m.values.Set(key, v)
		e, _ := m.expected.Get(key)
		ok, err := m.kit.valuesMatch(e, v)
		if err != nil {
			return false, err
		}
		met = met && ok == want
	}
	return met, nil
}

func (m *attributes) Description() (string, error) {
	return airy("have attributes " + m.kit.Format(m.kit.surface(m.expected))), nil
}

func (m *attributes) FailureMessage() (string, error) {
	if len(m.unknown) > 0 {
		return "expected " + m.kit.Format(m.actual) + " to respond to" + strings.ReplaceAll(m.kit.listOf(m.unknown), " and ", ", ") + " with 0 arguments", nil
	}
	s, err := m.kit.expectedTo(m.actual, m, "")
	return airy(s + " but had attributes " + m.kit.Format(m.values)), err
}

func (m *attributes) NegatedFailureMessage() (string, error) {
	s, err := m.kit.expectedTo(m.actual, m, "not ")
	return airy(s), err
}

// respondTo is respond_to(:name, …).
type respondTo struct {
	kit    *Kit
	names  []ruby.Value
	actual ruby.Value
	wrong  []ruby.Value
}

func (m *respondTo) Clone() Matcher { return &respondTo{kit: m.kit, names: m.names} }

func (m *respondTo) Matches(actual ruby.Value) (bool, error) { return m.judge(actual, true), nil }

func (m *respondTo) DoesNotMatch(actual ruby.Value) (bool, error) {
	return m.judge(actual, false), nil
}

func (m *respondTo) judge(actual ruby.Value, want bool) bool {
	m.actual, m.wrong = actual, nil
	for _, n := range m.names {
		if m.kit.in.RespondTo(actual, m.kit.in.ToS(n)) != want {
			m.wrong = append(m.wrong, n)
		}
	}
	return len(m.wrong) == 0
}

func (m *respondTo) Description() (string, error) {
	if len(m.names) == 1 {
		return "respond to #" + m.kit.in.ToS(m.names[0]), nil
	}
	return "respond to " + m.kit.Format(ruby.NewArray(m.names...)), nil
}
func (m *respondTo) FailureMessage() (string, error) { return m.message("to respond to"), nil }
func (m *respondTo) NegatedFailureMessage() (string, error) {
	return m.message("not to respond to"), nil
}

func (m *respondTo) message(verb string) string {
	parts := make([]string, len(m.wrong))
	for i, n := range m.wrong {
		parts[i] = m.kit.Format(n)
	}
	return "expected " + m.kit.Format(m.actual) + " " + verb + " " + strings.Join(parts, ", ")
}

// satisfy is satisfy('words') { |v| … }.
type satisfy struct {
	kit    *Kit
	desc   string
	block  *ruby.Proc
	actual ruby.Value
}

func (m *satisfy) Clone() Matcher { n := *m; return &n }

func (m *satisfy) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	if m.block == nil {
		return false, m.kit.in.Raise(m.kit.in.Class("ArgumentError"), "satisfy takes a block")
	}
	v, err := m.kit.in.Yield(m.block, actual)
	return truthy(v), err
}
func (m *satisfy) Description() (string, error)    { return m.desc, nil }
func (m *satisfy) FailureMessage() (string, error) { return m.kit.expectedTo(m.actual, m, "") }
func (m *satisfy) NegatedFailureMessage() (string, error) {
	return m.kit.expectedTo(m.actual, m, "not ")
}

// snippet is what RSpec shows of a block: its text, when it stands on one line
// with no other satisfy, whose block it could be.
func snippet(b *ruby.Proc) string {
	if b == nil || b.Program() == nil || b.Line() != b.EndLine() {
		return "block"
	}
	line, body := b.Program().Source(b.Line(), b.Line()), b.Source()
	if strings.Count(line, "satisfy") != 1 {
		return "block"
	}
	if rest, ok := strings.CutPrefix(body, "do"); ok {
		body = strings.TrimSuffix(rest, "end")
	} else {
		body = strings.TrimSuffix(strings.TrimPrefix(body, "{"), "}")
	}
	body = strings.TrimSpace(body)
	if rest, ok := strings.CutPrefix(body, "|"); ok {
		_, body, _ = strings.Cut(rest, "|")
	}
	return "expression `" + strings.TrimSpace(body) + "`"
}

// cover is cover(value, …) of ranges.
type cover struct {
	kit      *Kit
	expected []ruby.Value
	actual   ruby.Value
}

func (m *cover) Clone() Matcher { n := *m; return &n }

func (m *cover) judge(actual ruby.Value, want bool) (bool, error) {
	m.actual = actual
	for _, e := range m.expected {
		v, err := m.kit.in.Call(actual, "cover?", []ruby.Value{e}, nil)
		if err != nil || truthy(v) != want {
			return false, err
		}
	}
	return true, nil
}

func (m *cover) Matches(actual ruby.Value) (bool, error)      { return m.judge(actual, true) }
func (m *cover) DoesNotMatch(actual ruby.Value) (bool, error) { return m.judge(actual, false) }
func (m *cover) Description() (string, error)                 { return "cover" + m.kit.listOf(m.expected), nil }

func (m *cover) FailureMessage() (string, error) { return m.kit.expectedTo(m.actual, m, "") }

func (m *cover) NegatedFailureMessage() (string, error) {
	return m.kit.expectedTo(m.actual, m, "not ")
}

// raiseError is expect { … }.to raise_error(class or text or regexp, message).
type raiseError struct {
	kit               *Kit
	expected, message ruby.Value
	any               bool
	raised            *ruby.Exception
}

func (m *raiseError) Clone() Matcher { n := *m; return &n }

func (m *raiseError) Chain(c *ruby.Call) (bool, error) {
	if c.Name != "with_message" {
		return false, nil
	}
	m.message = c.Arg(0)
	return true, nil
}

func (m *raiseError) Matches(actual ruby.Value) (bool, error) {
	m.raised = nil
	blk, ok := actual.(*ruby.Proc)
	if !ok {
		return false, m.kit.in.Raise(m.kit.in.Class("ArgumentError"), "raise_error takes a block: expect { … }.to raise_error")
	}
	_, err := m.kit.in.Yield(blk)
	if err == nil {
		return false, nil
	}
	if ruby.IsControlFlow(err) {
		return false, err
	}
	m.raised = exceptionOf(err)
	msg := ruby.NewString(m.raised.Message)
	switch e := m.expected.(type) {
	case nil:
	case *ruby.String:
		return e.String() == m.raised.Message, nil
	default:
		ok, err := m.kit.valuesMatch(e, m.raised)
		if err == nil && !ok {
			ok, err = m.kit.valuesMatch(e, msg)
		}
		if !ok || err != nil {
			return false, err
		}
	}
	if m.message == nil {
		return true, nil
	}
	return m.kit.valuesMatch(m.message, msg)
}

func (m *raiseError) error() string {
	class, message := m.kit.Format(m.expected), m.message
	if m.any {
		class = "Exception"
	}
	if s, ok := m.expected.(*ruby.String); ok {
		class, message = "Exception", s
	}
	switch message.(type) {
	case nil:
		return class
	case *ruby.Regexp:
		return class + " with message matching " + m.kit.Format(message)
	}
	return class + " with " + m.kit.Format(message)
}

func (m *raiseError) given() string {
	if m.raised == nil {
		return " but nothing was raised"
	}
	return strings.Join(append([]string{", got " + m.kit.Format(m.raised) + " with backtrace:"}, m.raised.Backtrace...), "\n  # ")
}
func (m *raiseError) Description() (string, error) { return "raise " + m.error(), nil }
func (m *raiseError) FailureMessage() (string, error) {
	return "expected " + m.error() + m.given(), nil
}

func (m *raiseError) NegatedFailureMessage() (string, error) {
	return "expected no " + m.error() + m.given(), nil
}

// predicate is be_something and have_something: it asks something? and
// has_something?.
type predicate struct {
	kit          *Kit
	name, method string
	args         []ruby.Value
	block        *ruby.Proc
	actual       ruby.Value
	knows        bool
	result       ruby.Value
}

func (m *predicate) Clone() Matcher { n := *m; return &n }

func (m *predicate) judge(actual ruby.Value, want bool) (bool, error) {
	m.actual = actual
	if m.knows = m.kit.in.RespondTo(actual, m.method); !m.knows {
		return false, nil
	}
	var err error
	m.result, err = m.kit.in.Call(actual, m.method, m.args, m.block)
	return err == nil && truthy(m.result) == want, err
}

func (m *predicate) Matches(actual ruby.Value) (bool, error)      { return m.judge(actual, true) }
func (m *predicate) DoesNotMatch(actual ruby.Value) (bool, error) { return m.judge(actual, false) }

func (m *predicate) Description() (string, error) {
	return words(m.name) + m.kit.listOf(m.args), nil
}

func (m *predicate) FailureMessage() (string, error)        { return m.message("truthy"), nil }
func (m *predicate) NegatedFailureMessage() (string, error) { return m.message("falsey"), nil }

func (m *predicate) message(want string) string {
	if !m.knows {
		s := fmt.Sprintf("expected %s to respond to `%s`", m.kit.Format(m.actual), m.method)
		switch m.method {
		case "true?":
			s += " or perhaps you meant `be true` or `be_truthy`"
		case "false?":
			s += " or perhaps you meant `be false` or `be_falsey`"
		}
		return s
	}
	args := ""
	if len(m.args) > 0 {
		parts := make([]string, len(m.args))
		for i, a := range m.args {
			parts[i] = m.kit.Format(a)
		}
		args = "(" + strings.Join(parts, ", ") + ")"
	}
	return fmt.Sprintf("expected `%s.%s%s` to be %s, got %s", m.kit.Format(m.actual), m.method, args, want, m.kit.Format(m.result))
}
