package inspec_test

import (
	"encoding/json"
	"testing"
	"time"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/ruby"
)

// Values that hold themselves, that are nested very deep, or that hold the
// same value in very many places, cost at most the control that has them,
// whatever the engine does with them.
func TestRun_nestedWithoutEnd(t *testing.T) {
	limits := ruby.Limits{Steps: 200_000, Depth: 500, Memory: 1 << 24, Time: 20 * time.Second, RegexTime: 100 * time.Millisecond}
	makers := map[string]string{
		"array in itself": "a = []; a << a; b = []; b << b",
		"hash in itself":  "a = {}; a[:h] = a; b = {}; b[:h] = b",
		"deep array":      "a = []; b = []; 3000.times { a = [a]; b = [b] }",
		"deep hash":       "a = {}; b = {}; 3000.times { a = {k: a}; b = {k: b} }",
		"doubled array":   "a = []; b = []; 60.times { a = [a, a]; b = [b, b] }",
		"doubled hash":    "a = {}; b = {}; 60.times { a = {x: a, y: a}; b = {x: b, y: b} }",
	}
	uses := []string{
		"describe(a) { it { should eq b } }",
		"describe(a) { it { should cmp b } }",
		"describe([a]) { it { should include b } }",
		"describe([a]) { it { should match_array [b] } }",
		"describe([a]) { it { should all(eq b) } }",
		"describe(a) { it { should match b } }",
		"describe(a) { it { should be_in [b] } }",
		"describe('x') { it { should eq a } }",
		"describe('x') { it { should eq(1).or eq(a) } }",
		"describe(OpenStruct.new(z: a)) { it { should have_attributes(z: b) } }",
		"describe(passwd.where(user: a)) { it { should exist } }",
		"tag x: a", "tag a", "ref a", "title a", "desc 'l', a", "only_if(a) { false }", "input('q', value: a)", "describe('x') { skip a }",
		"h = {a => 1}; h[b]", "[a, b].uniq", "[a] - [b]", "a.hash", "a.eql?(b)", "[a] <=> [b]", "a == b", "Set.new([a]) == Set.new([b])",
		"a.to_json", "a.to_yaml", "[a].flatten", "a.inspect", "a.to_s", "[a].join(',')", "'%s %p' % [a, b]", "puts a; p a", "raise a.to_s",
		"Hashie::Mash.new(x: a)", "OpenStruct.new(x: a).to_s", "case a; in ^b then 1; else 2; end", "[a, b].sum([])", "a.dig(:x)", "Marshal.load(Marshal.dump(a))",
	}
	run := func(t *testing.T, body string) {
		t.Helper()
		doc := mustRun(t, map[string]string{"controls/a.rb": "control('bad') {\n" + body + "\n}\ncontrol('good') { describe(1) { it { should eq 1 } } }\n"}, inspec.Options{Limits: limits})
		if judged(doc)["good"] != hdf.Passed {
			t.Errorf("%s: another control isn't judged: %v", body, judged(doc))
		}
		if _, err := json.Marshal(doc); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
	for name, maker := range makers {
		t.Run(name, func(t *testing.T) {
			for _, use := range uses {
				run(t, maker+"\n"+use)
			}
			doc := mustRun(t, map[string]string{"controls/a.rb": "control('bad') { " + maker + "; describe(a) { it { should_not eq b } } }"}, inspec.Options{Limits: limits})
			if got := judged(doc)["bad"]; got != hdf.Error {
				t.Errorf("that two values differ was %s: nobody can tell", got)
			}
		})
	}
	for _, body := range []string{
		"m = eq(1); 60.times { m = m.and(m) }; describe(1) { it { should m } }",
		"m = eq(2); 60.times { m = m.or(m) }; describe(1) { it { should m } }",
		"m = eq(1); 5000.times { m = all(m) }; describe(1) { it { should m } }",
		"m = eq(1); 5000.times { m = include(m) }; describe([1]) { it { should m } }",
		"x = []; m = include(x); x << m; describe([1]) { it { should m } }",
		"f = ->(x) { x }; 5000.times { f = f.curry }; f.(1)",
		"f = ->(x) { x }; 5000.times { f = f >> f }; f.(1)",
		"e = [1].each; 5000.times { e = e.lazy.map { |z| z } }; e.first(1)",
		"r = /a/; 60.times { r = Regexp.union(r, r) }; r =~ 'a'",
		"class Range; def to_a; self; end; end; describe(1) { it { should be_in(1..2) } }",
		"S = Struct.new(:x); s = S.new(nil); s.x = s; s == S.new(s); s.hash; s.to_s; s.inspect; {s => 1}",
		"o = OpenStruct.new; o.x = o; o.to_s; o == o.dup; {o => 1}; o.to_h.to_json",
		"e = StandardError.new('x'); begin; raise e; rescue => f; raise f, cause: e; end",
		"REXML::Document.new('<a>' * 100_000)",
		"JSON.parse('[' * 100_000)",
		"YAML.load('[' * 100_000)",
		"x = 'a: &a [x,x,x,x,x,x,x,x,x]'; 9.times { |i| x += %(\\nb#{i}: &b#{i} [) + (['*' + (i == 0 ? 'a' : %(b#{i - 1}))] * 9).join(',') + ']' }; YAML.load(x)",
	} {
		run(t, body)
	}
}
