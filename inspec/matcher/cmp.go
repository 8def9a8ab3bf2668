package matcher

import (
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// cmp is InSpec's forgiving comparison: texts without regard to case, and
// texts that look like numbers, octal modes, booleans or versions as such.
// https://docs.chef.io/inspec/matchers/#cmp
type cmp struct {
	kit      *Kit
	op       string
	expected ruby.Value
	actual   ruby.Value
}

var (
	integerText = regexp.MustCompile(`^(-?0+|-?[1-9][0-9]*)\n?$`)
	octalText   = regexp.MustCompile(`^0+[0-7]+\n?$`)
	versionText = regexp.MustCompile(`^\s*([0-9]+(\.[0-9a-zA-Z]+)*(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?)?\s*$`)
)

func (m *cmp) Clone() Matcher { return &cmp{kit: m.kit, op: m.op, expected: m.expected} }

func (m *cmp) Chain(c *ruby.Call) (bool, error) {
	if c.Name != "===" {
		return false, nil
	}
	m.op, m.expected = c.Name, c.Arg(0)
	return true, nil
}

func (m *cmp) Matches(actual ruby.Value) (bool, error) {
	m.actual = actual
	if a, ok := actual.(*ruby.Array); ok && len(a.Elems) == 1 {
		if _, both := m.expected.(*ruby.Array); !both {
			actual = a.Elems[0]
		}
	}
	ok, err := m.try(actual, m.expected)
	if m.kit.isA(err, "NameError") || m.kit.isA(err, "ArgumentError") {
		return false, nil
	}
	return ok, err
}

func (m *cmp) try(actual, expected ruby.Value) (bool, error) {
	es, eText := expected.(*ruby.String)
	as, aText := actual.(*ruby.String)
	if eText && aText {
		if m.op == "==" {
			return equalFold(as.String(), es.String()), nil
		}
		if versionText.MatchString(es.String()) && versionText.MatchString(as.String()) {
			a, err := m.version(as)
			if err != nil {
				return false, err
			}
			e, err := m.version(es)
			if err != nil {
				return false, err
			}
			return m.send(a, e)
		}
		return m.send(actual, expected)
	}
	_, aInt := actual.(int64)
	_, eInt := expected.(int64)
	_, eFloat := expected.(float64)
	_, aSym := actual.(ruby.Symbol)
	_, aBool := actual.(bool)
	re, eRegexp := expected.(*ruby.Regexp)
	switch {
	case eRegexp && (aText || aInt):
		v, err := m.kit.in.Call(ruby.NewString(m.kit.in.ToS(actual)), "match", []ruby.Value{re}, nil)
		return truthy(v), err
	case eText && integerText.MatchString(es.String()) && aInt:
		n, err := strconv.ParseInt(strings.TrimSuffix(es.String(), "\n"), 10, 64)
		if err != nil {
			return false, nil
		}
		return m.send(actual, n)
	case eText && isBoolean(expected) && aBool:
		return m.send(actual, equalFold(es.String(), "true"))
	case isBoolean(expected) && aText && (as.String() == "true" || as.String() == "false"):
		return m.send(actual, ruby.NewString(m.kit.in.ToS(expected)))
	case eInt && aText && integerText.MatchString(as.String()):
		n, err := strconv.ParseInt(strings.TrimSuffix(as.String(), "\n"), 10, 64)
		if err != nil {
			return false, nil
		}
		return m.send(n, expected)
	case eFloat && m.isFloat(actual):
		f, err := m.kit.in.Call(actual, "to_f", nil, nil)
		if err != nil {
			return false, err
		}
		return m.send(f, expected)
	case aSym && eText:
		return m.try(ruby.NewString(string(actual.(ruby.Symbol))), expected)
	case m.octal() && aInt:
		n, err := strconv.ParseInt(strings.TrimSuffix(es.String(), "\n"), 8, 64)
		if err != nil {
			return false, nil
		}
		return m.send(actual, n)
	}
	return m.send(actual, expected)
}

func (m *cmp) send(actual, expected ruby.Value) (bool, error) {
	v, err := m.kit.in.Call(actual, m.op, []ruby.Value{expected}, nil)
	return truthy(v), err
}

func (m *cmp) version(s *ruby.String) (ruby.Value, error) {
	return m.kit.in.Call(m.kit.in.Class("Gem::Version"), "new", []ruby.Value{s}, nil)
}

func (m *cmp) isFloat(v ruby.Value) bool {
	switch v := v.(type) {
	case int64, float64, *big.Int, *big.Rat:
		return true
	case *ruby.String:
		_, err := strconv.ParseFloat(strings.TrimSpace(strings.ReplaceAll(v.String(), "_", "")), 64)
		return err == nil
	}
	return false
}

func (m *cmp) octal() bool {
	s, ok := m.expected.(*ruby.String)
	return ok && octalText.MatchString(s.String())
}

func isBoolean(v ruby.Value) bool {
	switch v := v.(type) {
	case bool:
		return true
	case *ruby.String:
		return equalFold(v.String(), "true") || equalFold(v.String(), "false")
	}
	return false
}

// equalFold is Ruby's casecmp: only ASCII letters fold.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if 'A' <= x && x <= 'Z' {
			x += 'a' - 'A'
		}
		if 'A' <= y && y <= 'Z' {
			y += 'a' - 'A'
		}
		if x != y {
			return false
		}
	}
	return true
}

func (m *cmp) Description() (string, error) {
	return fmt.Sprintf("cmp %s %s", m.op, m.kit.in.Inspect(m.expected)), nil
}

func (m *cmp) FailureMessage() (string, error)        { return m.message(false) }
func (m *cmp) NegatedFailureMessage() (string, error) { return m.message(true) }

func (m *cmp) message(negate bool) (string, error) {
	got := m.kit.in.ToS(m.actual)
	if m.octal() && m.actual != nil {
		v, err := m.kit.in.Call(ruby.NewString("0%o"), "%", []ruby.Value{m.actual}, nil)
		if err != nil {
			return "", err
		}
		got = m.kit.in.ToS(v)
	}
	want := "expected: " + m.kit.in.ToS(m.expected)
	if m.op != "==" || negate {
		not := ""
		if negate {
			not = "not "
		}
		want = fmt.Sprintf("expected it %sto be %s %s", not, m.op, m.kit.in.Inspect(m.expected))
	}
	return fmt.Sprintf("\n%s\n     got: %s\n\n(compared using `cmp` matcher)\n", want, got), nil
}
