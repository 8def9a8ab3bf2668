package matcher

import (
	"errors"
	"fmt"

	"reeve.dev/reeve/inspec/ruby"
)

// in is be_in(list).
type in struct {
	kit    *Kit
	list   ruby.Value
	actual ruby.Value
}

func (m *in) Clone() Matcher { n := *m; return &n }

func (m *in) each(op string) (*ruby.Array, error) {
	v, err := m.kit.in.Call(m.actual, op, []ruby.Value{m.list}, nil)
	a, _ := v.(*ruby.Array)
	if a == nil {
		a = ruby.NewArray()
	}
	return a, err
}

func (m *in) has() (bool, error) {
	v, err := m.kit.in.Call(m.list, "include?", []ruby.Value{m.actual}, nil)
	return truthy(v), err
}

func (m *in) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	if _, ok := actual.(*ruby.Array); ok {
		rest, err := m.each("-")
		return err == nil && len(rest.Elems) == 0, err
	}
	return m.has()
}

func (m *in) DoesNotMatch(actual ruby.Value) (bool, error) {
	m.actual = actual
	if _, ok := actual.(*ruby.Array); ok {
		common, err := m.each("&")
		return err == nil && len(common.Elems) == 0, err
	}
	ok, err := m.has()
	return err == nil && !ok, err
}

func (m *in) Description() (string, error) { return "be in" + m.kit.list(m.list), nil }

func (m *in) FailureMessage() (string, error) { return m.message("", "\nDiff:\n ", "-") }

func (m *in) NegatedFailureMessage() (string, error) { return m.message("not ", "\nComm:\n ", "&") }

func (m *in) message(not, label, op string) (string, error) {
	s := fmt.Sprintf("expected `%s` %sto be in the list: `%s`", m.kit.in.ToS(m.actual), not, m.kit.in.ToS(m.list))
	if _, ok := m.actual.(*ruby.Array); ok {
		v, err := m.each(op)
		return s + " " + label + m.kit.in.ToS(v), err
	}
	return s, nil
}

// access is be_readable, be_writable and be_executable, by a class of users
// or by a user.
type access struct {
	kit      *Kit
	verb     string
	by, user ruby.Value
	actual   ruby.Value
}

func (m *access) Clone() Matcher { n := *m; return &n }

func (m *access) Chain(c *ruby.Call) (bool, error) {
	switch c.Name {
	case "by":
		m.by = c.Arg(0)
	case "by_user":
		m.user = c.Arg(0)
	default:
		return false, nil
	}
	return true, nil
}

func (m *access) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	v, err := m.kit.in.Call(actual, m.verb+"?", []ruby.Value{m.by, m.user}, nil)
	return truthy(v), err
}

func (m *access) Description() (string, error) {
	s := "be " + m.verb
	if m.by != nil {
		s += " by " + m.kit.in.ToS(m.by)
	}
	if m.user != nil {
		s += " by user " + m.kit.in.ToS(m.user)
	}
	return s, nil
}
func (m *access) FailureMessage() (string, error) { return m.kit.expectedTo(m.actual, m, "") }
func (m *access) NegatedFailureMessage() (string, error) {
	return m.kit.expectedTo(m.actual, m, "not ")
}

// state is be_installed, be_enabled, be_running, be_reachable and
// be_resolvable: the answer must be true itself.
type state struct {
	kit           *Kit
	name          string
	method, words string
	backticks     bool
	actual        ruby.Value
}

func (m *state) Clone() Matcher { n := *m; return &n }

func (m *state) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	v, err := m.kit.in.Call(actual, m.method, nil, nil)
	return v == true, err
}

func (m *state) Chain(c *ruby.Call) (bool, error) {
	switch c.Name {
	case "by", "with_level", "under", "with":
		return false, m.kit.in.Raise(m.kit.in.Class("RuntimeError"), "[UNSUPPORTED] `%s` is not supported in combination with `%s`", c.Name, m.name)
	}
	return false, nil
}

func (m *state) Description() (string, error) { return words(m.name), nil }

func (m *state) FailureMessage() (string, error) {
	subject := m.kit.in.ToS(m.actual)
	if m.backticks {
		return fmt.Sprintf("expected that `%s` %s", subject, m.words), nil
	}
	return fmt.Sprintf("expected that host %s %s", subject, m.words), nil
}

func (m *state) NegatedFailureMessage() (string, error) {
	return m.kit.expectedTo(m.actual, m, "not ")
}

// asks is have_rule and have_element.
type asks struct {
	kit          *Kit
	desc, method string
	arg, actual  ruby.Value
}

func (m *asks) Clone() Matcher { n := *m; return &n }

func (m *asks) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	v, err := m.kit.in.Call(actual, m.method, []ruby.Value{m.arg}, nil)
	return truthy(v), err
}
func (m *asks) Description() (string, error)    { return m.desc + m.kit.list(m.arg), nil }
func (m *asks) FailureMessage() (string, error) { return m.kit.expectedTo(m.actual, m, "") }
func (m *asks) NegatedFailureMessage() (string, error) {
	return m.kit.expectedTo(m.actual, m, "not ")
}

// duplicates is contain_duplicates.
type duplicates struct {
	kit    *Kit
	actual ruby.Value
}

func (m *duplicates) Clone() Matcher { n := *m; return &n }

func (m *duplicates) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	all, err := m.kit.in.Call(actual, "to_a", nil, nil)
	if err != nil {
		return false, err
	}
	unique, err := m.kit.in.Call(all, "uniq", nil, nil)
	if err != nil {
		return false, err
	}
	a, _ := all.(*ruby.Array)
	u, _ := unique.(*ruby.Array)
	return a != nil && u != nil && len(u.Elems) < len(a.Elems), nil
}
func (m *duplicates) Description() (string, error)    { return "contain duplicates", nil }
func (m *duplicates) FailureMessage() (string, error) { return m.kit.expectedTo(m.actual, m, "") }
func (m *duplicates) NegatedFailureMessage() (string, error) {
	return m.kit.expectedTo(m.actual, m, "not ")
}

// mounted is be_mounted, with or only_with options.
type mounted struct {
	kit       *Kit
	options   ruby.Value
	identical bool
	actual    ruby.Value
}

func (m *mounted) Clone() Matcher { n := *m; return &n }

func (m *mounted) Chain(c *ruby.Call) (bool, error) {
	switch c.Name {
	case "with", "only_with":
		m.options, m.identical = c.Arg(0), c.Name == "only_with"
		return true, nil
	}
	return false, nil
}

func (m *mounted) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	var args []ruby.Value
	if m.options != nil {
		args = []ruby.Value{m.options, m.identical}
	}
	v, err := m.kit.in.Call(actual, "mounted?", args, nil)
	return truthy(v), err
}
func (m *mounted) Description() (string, error) { return "be mounted", nil }
func (m *mounted) FailureMessage() (string, error) {
	if m.options == nil {
		return fmt.Sprintf("\n%s is not mounted\n", m.kit.in.ToS(m.actual)), nil
	}
	got, err := m.kit.in.Call(m.actual, "mount_options", nil, nil)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("\n%s is not mounted with the options\n     expected: %s\n     got: %s\n", m.kit.in.ToS(m.actual), m.kit.in.ToS(m.options), m.kit.in.ToS(got)), nil
}

func (m *mounted) NegatedFailureMessage() (string, error) {
	return m.kit.expectedTo(m.actual, m, "not ")
}

func exceptionOf(err error) *ruby.Exception {
	var e *ruby.Exception
	errors.As(err, &e)
	return e
}
