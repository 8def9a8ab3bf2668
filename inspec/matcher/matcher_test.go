package matcher_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/inspec/matcher"
	"reeve.dev/reeve/inspec/ruby"
)

// bench is an interpreter in which matchers can be written down.
type bench struct {
	in   *ruby.Interp
	kit  *matcher.Kit
	self ruby.Value
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{in: ruby.New(ruby.Limits{})}
	b.kit = matcher.Install(b.in, matcher.Options{})
	class := b.in.NewClass(nil)
	b.self = b.in.NewObject(class, nil)
	for _, name := range b.kit.Names() {
		class.Def(name, b.kit.New)
	}
	class.Def("predicate", func(c *ruby.Call) (ruby.Value, error) {
		c.Name, c.Args = c.In.ToS(c.Args[0]), c.Args[1:]
		return b.kit.New(c)
	})
	return b
}

func (b *bench) eval(t *testing.T, src string) ruby.Value {
	t.Helper()
	prog, err := ruby.Parse("test.rb", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	v, err := b.in.Run(t.Context(), prog, b.self)
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return v
}

type judgement struct{ Description, Message string }

// The words are RSpec 3.13's and InSpec 5's; those that inspec/testdata/probe
// holds from the real InSpec aren't repeated here.
func TestKit_Judge(t *testing.T) {
	for _, tc := range []struct {
		actual, matcher string
		negate          bool
		want            judgement // an empty message: it is met
	}{
		{`5`, `be_within(1).of(5.5)`, false, judgement{"is expected to be within 1 of 5.5", ""}},
		{`90`, `be_within(10).percent_of(80)`, false, judgement{"is expected to be within 10% of 80", "expected 90 to be within 10% of 80"}},
		{`'x'`, `be_within(1).of(2)`, false, judgement{"is expected to be within 1 of 2", "expected \"x\" to be within 1 of 2, but it could not be treated as a numeric value"}},
		{`3`, `be_between(1, 3).exclusive`, false, judgement{"is expected to be between 1 and 3 (exclusive)", "expected 3 to be between 1 and 3 (exclusive)"}},
		{`nil`, `be_between(1, 3)`, false, judgement{"is expected to be between 1 and 3 (inclusive)", "expected nil to be between 1 and 3 (inclusive), but it does not respond to `<=` and `>=`"}},
		{`'text'`, `match(/x$/).or(eq('y'))`, false, judgement{
			"is expected to match /x$/ or eq \"y\"",
			"   expected \"text\" to match /x$/\n\n...or:\n\n   expected: \"y\"\n        got: \"text\"\n\n   (compared using ==)\n",
		}},
		{`'text'`, `match(/x/).and(match(/q/)).and(match(/t/))`, false, judgement{"is expected to match /x/ and match /q/ and match /t/", "expected \"text\" to match /q/"}},
		{`'text'`, `match(/x/) & match(/t/)`, false, judgement{"is expected to match /x/ and match /t/", ""}},
		{`%w(ab cd)`, `include(a_string_matching(/^c/))`, false, judgement{"is expected to include (a string matching /^c/)", ""}},
		{`%w(ab cd)`, `include(match(/x/), 'ab')`, false, judgement{"is expected to include (match /x/) and \"ab\"", "expected [\"ab\", \"cd\"] to include (match /x/)\nDiff:\n@@ -1 +1 @@\n-[(match /x/), \"ab\"]\n+[\"ab\", \"cd\"]\n"}},
		{`{ 'a' => 1 }`, `include('b')`, true, judgement{"is expected not to include \"b\"", ""}},
		{`'abc'`, `include('b', 'x')`, true, judgement{"is expected not to include \"b\" and \"x\"", "expected \"abc\" not to include \"b\""}},
		{`[1, 2, 2]`, `contain_exactly(2, 1)`, false, judgement{
			"is expected to contain exactly 2 and 1",
			"expected collection contained:  [1, 2]\nactual collection contained:    [1, 2, 2]\nthe extra elements were:        [2]\n",
		}},
		{`%w(a b)`, `contain_exactly(match(/./), 'a')`, false, judgement{"is expected to contain exactly (match /./) and \"a\"", ""}},
		{`'x'`, `contain_exactly('x')`, false, judgement{
			"is expected to contain exactly \"x\"",
			"expected a collection that can be converted to an array with `#to_ary` or `#to_a`, but got \"x\"",
		}},
		{`[1, 2]`, `match_array([2, 1])`, true, judgement{"is expected not to contain exactly 2 and 1", "expected [1, 2] not to contain exactly 2 and 1"}},
		{`nil`, `start_with('a')`, false, judgement{"is expected to start with \"a\"", "expected nil to start with \"a\", but it cannot be indexed using #[]"}},
		{`[1, 2, 3]`, `end_with(2, 3)`, false, judgement{"is expected to end with 2 and 3", ""}},
		{`5`, `all(be > 3)`, false, judgement{"is expected to all be > 3", "expected 5 to all be > 3, but was not iterable"}},
		{`false`, `be`, false, judgement{"is expected to be", "expected false to evaluate to true"}},
		{`nil`, `be_truthy`, false, judgement{"is expected to be truthy", "expected: truthy value\n     got: nil"}},
		{`1`, `be_falsey`, false, judgement{"is expected to be falsey", "expected: falsey value\n     got: 1"}},
		{`nil`, `be_nil`, true, judgement{"is expected not to be nil", "expected: not nil\n     got: nil"}},
		{`1`, `eql(1.0)`, true, judgement{"is expected not to eql 1.0", ""}},
		{`'a'`, `exist`, false, judgement{"is expected to exist", "expected \"a\" to exist but it does not respond to either `exist?` or `exists?`"}},
		{`'abc'`, `have_attributes(length: 3, size: 4)`, false, judgement{
			"is expected to have attributes {:length => 3, :size => 4}",
			"expected \"abc\" to have attributes {:length => 3, :size => 4} but had attributes {:length => 3, :size => 3}",
		}},
		{`'abc'`, `have_attributes(nope: 3)`, false, judgement{"is expected to have attributes {:nope => 3}", "expected \"abc\" to respond to :nope with 0 arguments"}},
		{`'abc'`, `respond_to(:length, :nope)`, false, judgement{"is expected to respond to [:length, :nope]", "expected \"abc\" to respond to :nope"}},
		{`5`, `satisfy { |n| n > 7 }`, false, judgement{"is expected to satisfy expression `n > 7`", "expected 5 to satisfy expression `n > 7`"}},
		{`5`, "satisfy { |n|\n n > 4 }", false, judgement{"is expected to satisfy block", ""}},
		{`[1, 1]`, `contain_duplicates`, true, judgement{"is expected not to contain duplicates", "expected [1, 1] not to contain duplicates"}},
		{`[]`, `predicate('be_empty')`, true, judgement{"is expected not to be empty", "expected `[].empty?` to be falsey, got true"}},
		{`'x'`, `predicate('be_true')`, false, judgement{"is expected to be true", "expected \"x\" to respond to `true?` or perhaps you meant `be true` or `be_truthy`"}},
		{`5`, `predicate('be_between', 6, 7)`, false, judgement{"is expected to be between 6 and 7 (inclusive)", "expected 5 to be between 6 and 7 (inclusive)"}},
		{`{ 'a' => 1 }`, `predicate('have_value', 1)`, false, judgement{"is expected to have value 1", ""}},
		{`1.5`, `cmp(1.5)`, false, judgement{"is expected to cmp == 1.5", ""}},
		{`'1.5'`, `cmp(1.5)`, false, judgement{"is expected to cmp == 1.5", ""}},
		{`'x'`, `cmp(1.5)`, false, judgement{"is expected to cmp == 1.5", "\nexpected: 1.5\n     got: x\n\n(compared using `cmp` matcher)\n"}},
		{`:Yes`, `cmp('yes')`, false, judgement{"is expected to cmp == \"yes\"", ""}},
		{`'true'`, `cmp(true)`, false, judgement{"is expected to cmp == true", ""}},
		{`'10'`, `(cmp < '9')`, false, judgement{"is expected to cmp < \"9\"", "\nexpected it to be < \"9\"\n     got: 10\n\n(compared using `cmp` matcher)\n"}},
		{`488`, `cmp('0750')`, true, judgement{"is expected not to cmp == \"0750\"", "\nexpected it not to be == \"0750\"\n     got: 0750\n\n(compared using `cmp` matcher)\n"}},
		{`nil`, `(cmp > 3)`, true, judgement{"is expected not to cmp > 3", ""}},
		{`['x']`, `be_in(nil)`, false, judgement{}},
	} {
		t.Run(tc.actual+" "+tc.matcher, func(t *testing.T) {
			b := newBench(t)
			j, err := b.kit.Judge(b.eval(t, tc.actual), b.eval(t, tc.matcher), tc.negate, nil)
			if tc.want == (judgement{}) {
				if err == nil {
					t.Errorf("no exception, but %+v", j)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, judgement{j.Description, j.Message}); diff != "" {
				t.Errorf("judgement (-want +got):\n%s", diff)
			}
			if j.Failed != (tc.want.Message != "") {
				t.Errorf("failed is %v", j.Failed)
			}
		})
	}
}

func TestKit_Judge_diff(t *testing.T) {
	b := newBench(t)
	j, err := b.kit.Judge(b.eval(t, `"one\ntwo\nthree\n"`), b.eval(t, `eq("one\n2\nthree\n")`), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "\nexpected: \"one\\n2\\nthree\\n\"\n     got: \"one\\ntwo\\nthree\\n\"\n\n(compared using ==)\n\nDiff:\n@@ -1,3 +1,3 @@\n one\n-2\n+two\n three\n"
	if diff := cmp.Diff(want, j.Message); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

func TestKit_Judge_longValuesAreCut(t *testing.T) {
	b := newBench(t)
	j, err := b.kit.Judge(b.eval(t, `'x' * 500`), b.eval(t, `be_nil`), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(j.Message); n > 300 {
		t.Errorf("the message has %d bytes", n)
	}
}

func TestKit_custom(t *testing.T) {
	b := newBench(t)
	b.eval(t, `
RSpec::Matchers.define :be_twice do |n|
  def double(x)
    x * 2
  end
  match { |actual| @seen = actual; (actual == double(n)) ^ @odd }
  match_when_negated { |actual| actual == 99 }
  chain(:plus_one) { @odd = true }
  chain :of_kind, :kind
  description { "be twice #{n}" + (@kind ? " (#{kind})" : '') }
  failure_message { |actual| "#{actual} isn't twice #{expected}, seen #{@seen}" }
end
RSpec::Matchers.define(:be_dull) { match { |a| expect(a).to eq 1 } }
`)
	for _, tc := range []struct {
		actual, matcher string
		negate          bool
		want            judgement
	}{
		{`4`, `predicate('be_twice', 2)`, false, judgement{"is expected to be twice 2", ""}},
		{`5`, `predicate('be_twice', 2)`, false, judgement{"is expected to be twice 2", "5 isn't twice 2, seen 5"}},
		{`5`, `predicate('be_twice', 2).plus_one.of_kind('x')`, false, judgement{"is expected to be twice 2 (x)", ""}},
		{`99`, `predicate('be_twice', 2)`, true, judgement{"is expected not to be twice 2", ""}},
		{`4`, `predicate('be_twice', 2)`, true, judgement{"is expected not to be twice 2", "expected 4 not to be twice 2"}},
		{`[4, 6]`, `all(predicate('be_twice', 2).of_kind('y'))`, false, judgement{
			"is expected to all be twice 2 (y)",
			"expected [4, 6] to all be twice 2 (y)\n\n   object at index 1 failed to match:\n      6 isn't twice 2, seen 6",
		}},
	} {
		t.Run(tc.actual+" "+tc.matcher, func(t *testing.T) {
			j, err := b.kit.Judge(b.eval(t, tc.actual), b.eval(t, tc.matcher), tc.negate, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, judgement{j.Description, j.Message}); diff != "" {
				t.Errorf("judgement (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := b.kit.Judge(int64(1), b.eval(t, `predicate('be_dull')`), false, nil); err == nil {
		t.Error("expect without a language around it was known")
	}
}
