package ruby

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var address = regexp.MustCompile(`0x[0-9a-f]{6,}`)

// outcome runs src at top level and returns the inspect of its value, or the
// class and message of its exception.
func outcome(t *testing.T, in *Interp, src string) string {
	t.Helper()
	p, err := Parse("t.rb", []byte(src))
	if err != nil {
		return err.Error()
	}
	v, err := in.Run(t.Context(), p, nil)
	return address.ReplaceAllString(describe(in, v, err), "0x")
}

func describe(in *Interp, v Value, err error) string {
	var e *Exception
	switch {
	case errors.As(err, &e):
		return in.className(e.Class) + ": " + e.Message
	case err != nil:
		return err.Error()
	}
	return in.Inspect(v)
}

// TestExpressions compares with what Ruby itself says; see the file's head.
func TestExpressions(t *testing.T) {
	f, err := os.Open("testdata/expressions.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	expr := ""
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := sc.Text()
		want, isWant := strings.CutPrefix(line, "=> ")
		switch {
		case strings.HasPrefix(line, "# ") && n == 0:
		case !isWant:
			expr = line
		default:
			n++
			if diff := cmp.Diff(want, outcome(t, New(Limits{}), expr)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", expr, diff)
			}
		}
	}
	if n < 500 {
		t.Errorf("only %d expressions were read", n)
	}
}

// TestPrograms runs files that use every form of the language, and REXML; the
// values beside them were written by Ruby 3.1.
func TestPrograms(t *testing.T) {
	for _, name := range []string{"syntax", "rexml"} {
		t.Run(name, func(t *testing.T) {
			src, err := os.ReadFile("testdata/" + name + ".rb")
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile("testdata/" + name + ".out")
			if err != nil {
				t.Fatal(err)
			}
			p, err := Parse(name+".rb", src)
			if err != nil {
				t.Fatal(err)
			}
			in := New(Limits{})
			v, err := in.Run(t.Context(), p, nil)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			for _, e := range v.(*Array).Elems {
				got.WriteString(in.Inspect(e) + "\n")
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("values (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParse_errors(t *testing.T) {
	for src, want := range map[string]string{
		"x = (1 + ":                               "t.rb:1: syntax error, unexpected end-of-input",
		"a = 1\ndef f\n  1\n":                     "t.rb:4: syntax error, unexpected end-of-input, expecting `end'",
		"foo do\n  bar\n}\n":                      "t.rb:3: syntax error, unexpected '}', expecting `end'",
		"x = 'abc\n":                              "t.rb:1: unterminated string meets end of file",
		"\nx = <<~EOT\n a\n":                      "t.rb:2: can't find string \"EOT\" anywhere before EOF",
		"1 + * 2":                                 "t.rb:1: syntax error, unexpected '*'",
		"case 1\nin ^y\nend":                      "t.rb:2: y: no such local variable",
		"case 1\nin [*, *]\nend":                  "t.rb:2: syntax error, unexpected *",
		"case 1\nin {a: 1, 5}\nend":               "t.rb:2: syntax error, unexpected \"5\", expecting a key",
		"case 1\nin foo.bar\nend":                 "t.rb:2: syntax error, unexpected '.'",
		"case 1\nin " + strings.Repeat("[", 5000): "t.rb:2: nested too deeply",
		"x = 08":                                  "t.rb:1: Invalid octal digit or number \"08\"",
		"=begin\nnever ends":                      "t.rb:1: embedded document meets end of file",
		"a\n\n'\xff'":                             "t.rb:3: invalid multibyte char (UTF-8)",
		strings.Repeat("(", 5000):                 "t.rb:1: nested too deeply",
		strings.Repeat("[", 5000):                 "t.rb:1: nested too deeply",
		strings.Repeat("!", 5000):                 "t.rb:1: nested too deeply",
		"1" + strings.Repeat("+1", 5000):          "t.rb:1: expression is too long",
		"a" + strings.Repeat(".b", 5000):          "t.rb:1: expression is too long",
		strings.Repeat("\"#{", 5000):              "t.rb:1: nested too deeply",
		strings.Repeat("if 1\n", 5000):            "t.rb:100: nested too deeply",
		"x" + strings.Repeat(" = x", 5000):        "t.rb:1: nested too deeply",
		strings.Repeat("->{", 5000):               "t.rb:1: nested too deeply",
		strings.Repeat("def f;", 5000):            "t.rb:1: nested too deeply",
		"f " + strings.Repeat("f ", 5000) + "1":   "t.rb:1: nested too deeply",
	} {
		_, err := Parse("t.rb", []byte(src))
		var se *SyntaxError
		if !errors.As(err, &se) {
			t.Errorf("Parse(%.40q) = %v, want a *SyntaxError", src, err)
			continue
		}
		line := regexp.MustCompile(`^t\.rb:\d+`)
		if strings.Contains(want, "deeply") {
			want, err = line.ReplaceAllString(want, ""), errors.New(line.ReplaceAllString(err.Error(), ""))
		}
		if diff := cmp.Diff(want, err.Error()); diff != "" {
			t.Errorf("Parse(%.40q) (-want +got):\n%s", src, diff)
		}
	}
}

// TestParse_linear nests what the parser looks ahead over.
func TestParse_linear(t *testing.T) {
	for _, unit := range []string{"a, b { ", "a, b[", "(a, b { ", "x ? (a, b { ", "a, *b { "} {
		began := time.Now()
		_, err := Parse("t.rb", []byte(strings.Repeat(unit, 60)))
		if err == nil {
			t.Errorf("%q repeated is not Ruby, but parsed", unit)
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("%q repeated took %v", unit, d)
		}
	}
}

// TestLimits shows that each bound ends an evaluation, and that Ruby code can
// neither rescue it nor go on in an ensure.
func TestLimits(t *testing.T) {
	limits := Limits{Steps: 200_000, Depth: 500, Memory: 8 << 20, RegexTime: 50 * time.Millisecond}
	for name, c := range map[string]struct{ limit, src string }{
		"endless loop":         {"steps", "begin; loop {}; rescue Exception; 1; ensure; loop {}; end"},
		"endless while":        {"steps", "while true; end"},
		"endless retry":        {"memory", "begin; raise 'x'; rescue; retry; end"},
		"endless range":        {"steps", "(1..Float::INFINITY).each { }"},
		"recursion":            {"depth", "def f; f; end; f"},
		"recursive block":      {"depth", "f = proc { f.call }; f.call"},
		"recursive to_s":       {"depth", `class A; def to_s; "#{self}"; end; end; A.new.to_s`},
		"recursive default":    {"depth", "h = Hash.new { |_, k| h[k + 1] }; h[1]"},
		"recursive missing":    {"depth", "class A; def method_missing(n); foo; end; end; A.new.foo"},
		"nested arrays":        {"depth", "a = []; 9999.times { a = [a] }; a.inspect"},
		"array in itself":      {"depth", "a = []; a << a; a.flatten"},
		"repeated string":      {"memory", "'x' * 10**9"},
		"doubled string":       {"memory", "s = 'x'; loop { s << s }"},
		"padded string":        {"memory", "'x'.ljust(10**12)"},
		"formatted width":      {"memory", "'%1000000000d' % 1"},
		"repeated array":       {"memory", "[0] * 10**9"},
		"allocated array":      {"memory", "Array.new(10**12)"},
		"far index":            {"memory", "[][10**9] = 1"},
		"growing array":        {"memory", "a = [1]; loop { a += a }"},
		"growing hash":         {"memory", "h = {}; i = 0; loop { h[i += 1] = 'x' * 100 }"},
		"power":                {"memory", "10 ** 10**8"},
		"shift":                {"memory", "1 << 10**12"},
		"products":             {"memory", "a = (1..1000).to_a; a.product(a, a, a)"},
		"replacement":          {"memory", "'x'.gsub(/x/) { 'y' * 10**9 }"},
		"interpolation":        {"memory", `s = 'x' * 1000; loop { s = "#{s}#{s}" }`},
		"nested XPath":         {"steps", "d = REXML::Document.new('<a>' + '<b/>' * 500 + '</a>'); REXML::XPath.match(d, '//*[count(//*[count(//*) > 1]) > 1]')"},
		"large XML":            {"memory", "REXML::Document.new('<a>' + '<b/>' * 100_000 + '</a>')"},
		"left recursion":       {"depth", "class LR < Parslet::Parser; root :a; rule(:a) { a >> str('x') }; end; LR.new.parse('x')"},
		"long text of rules":   {"memory", "class LT < Parslet::Parser; root :a; rule(:a) { (str('a').absent? >> any).repeat }; end; LT.new.parse('b' * 200_000)"},
		"many variables":       {"memory", "def f(n)\nf(n + 1)\nreturn\n" + variables(4000) + "end\nf(0)"},
		"blocks that stay":     {"memory", "def b = proc {}\na = []\nloop { a << b }"},
		"multiples":            {"memory", "n = 3; loop { n = n.lcm(~n) }"},
		"shifted":              {"memory", "a = []; loop { a << (1 << 100_000) }"},
		"numbers as text":      {"memory", "n = 1 << 100_000; a = []; loop { a << n.to_s(2) }"},
		"flags of a format":    {"steps", "format('%' + '0' * 1_000_000 + 'd', 1); loop {}"},
		"format without any":   {"memory", "s = 'x' * 100_000; a = []; loop { a << s % 1 }"},
		"times as text":        {"memory", "a = []; loop { a << Time.at(0).strftime('%100A' * 1000) }"},
		"unpacked":             {"memory", "s = 'x' * 100_000; a = []; loop { a << s.unpack1('H*') }"},
		"encoded":              {"memory", "s = 'x' * 100_000; a = []; loop { a << Base64.encode64(s) }"},
		"cut off":              {"memory", "a = []; loop { a << ('x' * 50_000).slice!(1) }"},
		"rotated":              {"memory", "b = [1] * 10_000; a = []; loop { a << b.rotate }"},
		"dropped":              {"memory", "b = [1] * 10_000; a = []; loop { a << b.drop(1) }"},
		"nested groups":        {"depth", `'(' * 80 + ')' * 80 =~ /\A(\((?:\g<1>)*\))\z/`},
		"nested, unmatched":    {"depth", `('(' * 80 + ')' * 80) !~ /\A(\((?:\g<1>)*\))\z/`},
		"catastrophic pattern": {"regexp", `('a' * 40 + '!') =~ /^(a+)+$(?=x)/`},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Parse("t.rb", []byte(c.src))
			if err != nil {
				t.Fatal(err)
			}
			_, err = New(limits).Run(t.Context(), p, nil)
			var limit *LimitError
			if !errors.As(err, &limit) || !strings.HasPrefix(limit.Limit, c.limit) {
				t.Errorf("%s: error %v, want the limit of %s", c.src, err, c.limit)
			}
		})
	}
}

// variables is code that has n of them.
func variables(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "v%d = 1\n", i)
	}
	return b.String()
}

func TestLimits_time(t *testing.T) {
	p, err := Parse("t.rb", []byte("loop {}"))
	if err != nil {
		t.Fatal(err)
	}
	var limit *LimitError
	if _, err := New(Limits{Time: time.Millisecond, Steps: 1 << 40}).Run(t.Context(), p, nil); !errors.As(err, &limit) || limit.Limit != "time" {
		t.Errorf("error %v, want the limit of time", err)
	}
	// What is long in Go looks at the clock, too.
	for _, src := range []string{
		"x = 1r / 3**2000; y = 1r / 7**1000; x = x.rationalize(y / 11**1000)",
		"s = 'x' * 1_000_000; loop { s.count('y') }",
		"s = '1' * 1_000_000; loop { s.to_r }",
		"n = 1 << 100_000; loop { n.to_s }",
	} {
		p, err := Parse("t.rb", []byte(src))
		if err != nil {
			t.Fatal(err)
		}
		in := New(Limits{Time: time.Nanosecond})
		if _, err := in.Run(t.Context(), p, nil); !errors.As(err, &limit) || limit.Limit != "time" || in.steps > 100 {
			t.Errorf("%s: error %v after %d steps, want the limit of time", src, err, in.steps)
		}
	}
	asleep, err := Parse("t.rb", []byte("sleep 1000"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Limits{Time: time.Millisecond}).Run(t.Context(), asleep, nil); !errors.As(err, &limit) || limit.Limit != "time" {
		t.Errorf("asleep: error %v, want the limit of time", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the scan was cancelled")
	cancel(cause)
	if _, err := New(Limits{}).Run(ctx, p, nil); !errors.Is(err, cause) {
		t.Errorf("error %v, want the context's cause", err)
	}
}

func TestReset(t *testing.T) {
	in := New(Limits{Steps: 1000})
	if got := outcome(t, in, "loop {}"); got != "evaluation passed its limit of steps" {
		t.Fatalf("got %s", got)
	}
	in.Reset()
	if got := outcome(t, in, "1 + 1"); got != "2" {
		t.Errorf("after Reset got %s, want 2", got)
	}
}

// TestSandbox asks for the host in every way that Ruby has.
func TestSandbox(t *testing.T) {
	for src, want := range map[string]string{
		"`ls`":                         "SecurityError: running a command with backticks is not available to a profile",
		"%x(ls)":                       "SecurityError: running a command with backticks is not available to a profile",
		"system('ls')":                 "SecurityError: system is not available to a profile",
		"Kernel.exec('ls')":            "SecurityError: exec is not available to a profile",
		"Object.new.send(:spawn, 'x')": "SecurityError: spawn is not available to a profile",
		"eval('1')":                    "SecurityError: eval is not available to a profile",
		"File.read('/etc/passwd')":     "SecurityError: File.read is not available to a profile; use the file resource",
		"Dir.glob('/*')":               "SecurityError: Dir.glob is not available to a profile; use the file resource",
		"File.exist?('/etc/passwd')":   "false",
		"ENV['PATH']":                  "nil",
		"require 'open3'; Open3":       "SecurityError: Open3 is not available to a profile",
		"puts 'x'":                     "nil",
		"exit":                         "SecurityError: exit is not available to a profile",
		"begin; `ls`; rescue; 1; end":  "SecurityError: running a command with backticks is not available to a profile",
	} {
		if diff := cmp.Diff(want, outcome(t, New(Limits{}), src)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", src, diff)
		}
	}
}

// TestPreludes uses what is written in Ruby in place of gems.
func TestPreludes(t *testing.T) {
	parser := `class P < Parslet::Parser
  root :expr
  rule(:sp) { match('\s').repeat }
  rule(:int) { match('[0-9]').repeat(1).as(:int) >> sp }
  rule(:sum) { int.as(:l) >> str('+') >> sp >> expr.as(:r) }
  rule(:expr) { sum | int }
end
class T < Parslet::Transform
  rule(int: simple(:x)) { x.to_i }
  rule(l: simple(:a), r: simple(:b)) { a + b }
end
`
	for src, want := range map[string]string{
		parser + "P.new.parse('1 + 22')":                                      `{:l=>{:int=>"1"@0}, :r=>{:int=>"22"@4}}`,
		parser + "T.new.apply(P.new.parse('1 + 22 + 3'))":                     "26",
		parser + "P.new.parse('1 + x')":                                       `Parslet::ParseFailed: Don't know what to do with "+ x" at line 1 char 3.`,
		"Semverse::Version.new('1.29') < Semverse::Version.new('1.30.0-rc1')": "true",
		"Semverse::Constraint.new('~> 1.2').satisfies?('2.0.0')":              "false",
		"Semverse::Version.new('x')":                                          "Semverse::InvalidVersionFormat: 'x' did not contain a valid version string: 'x.y.z' or 'x.y'.",
		"DatabaseHelper::SQLRow.new(nil, { 'a' => 1 }).column('A').value":     "1",
		"Net::HTTP.get('x') rescue 1":                                         "SecurityError: Net is not available to a profile",
		"defined?(OpenSSL).inspect":                                           `"nil"`,
	} {
		if diff := cmp.Diff(want, outcome(t, New(Limits{}), src)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", src, diff)
		}
	}
}

// TestWrongReceivers calls methods on what they weren't made for: an
// exception, never a panic.
func TestWrongReceivers(t *testing.T) {
	for _, src := range []string{
		"Method.allocate.call", "Enumerator.allocate.next", "Range.allocate.to_a", "Class.new(Class).new",
		"String.instance_method(:upcase).bind(5).call", "Hash.instance_method(:keys).bind([]).call",
		"class << 5; end", "[1].each { |x| retry }", "5.tap", "[1].map(&5)", "Time.allocate.year",
		"REXML::Document.new('<a>' * 5000)", "REXML::XPath.match(REXML::Document.new('<a/>'), '((((')",
		"REXML::XPath.match(REXML::Document.new('<a/>'), '(' * 1999)", "REXML::XPath.match(REXML::Document.new('<a/>'), 'a[')",
		"REXML::XPath.match(5, 'a').fetch(0)", "REXML::Text.allocate.value",
		"class X; define_method(:f, String.instance_method(:upcase)); end; X.new.f",
	} {
		if got := outcome(t, New(Limits{}), src); !strings.Contains(got, "Error: ") && !strings.Contains(got, "Exception: ") || strings.Contains(got, "internal error") {
			t.Errorf("%s: got %s, want an exception of its own", src, got)
		}
	}
}

func TestException_position(t *testing.T) {
	p, err := Parse("controls/a.rb", []byte("def f\n  nil.strip\nend\n\n[1].each do\n  f\nend\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(Limits{}).Run(t.Context(), p, nil)
	var e *Exception
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want an *Exception", err)
	}
	want := []string{"controls/a.rb:2:in `f'", "controls/a.rb:6:in `block'", "controls/a.rb:5:in `each'", "controls/a.rb:5:in `<main>'"}
	if diff := cmp.Diff(want, e.Backtrace); diff != "" {
		t.Errorf("backtrace (-want +got):\n%s", diff)
	}
	if e.File != "controls/a.rb" || e.Line != 2 || e.Receiver != nil || e.Name != "strip" {
		t.Errorf("raised at %s:%d, receiver %v, name %q", e.File, e.Line, e.Receiver, e.Name)
	}
}

// TestRun_return shows that a return, in whatever block, ends the file that it
// stands in and nothing else.
func TestRun_return(t *testing.T) {
	in := New(Limits{})
	var ran []string
	in.DefKernel("control", func(c *Call) (Value, error) {
		ran = append(ran, in.ToS(c.Arg(0)))
		return in.InstanceExec(in.NewObject(in.Class("Object"), nil), c.Block)
	})
	if got := outcome(t, in, "control('a') { 1 }\ncontrol('b') { return if true; raise 'x' }\ncontrol('c') { }"); got != "nil" {
		t.Errorf("got %s, want nil", got)
	}
	if diff := cmp.Diff([]string{"a", "b"}, ran); diff != "" {
		t.Errorf("controls that ran (-want +got):\n%s", diff)
	}
}

// TestRun_self shows what a file sees that is evaluated for an object.
func TestRun_self(t *testing.T) {
	in := New(Limits{})
	k := in.DefineClass(in.DefineModule(nil, "Inspec"), "Context", nil)
	k.Def("hello", func(c *Call) (Value, error) { return NewString("hello"), nil })
	self := in.NewObject(k, nil)
	run := func(src string) string {
		p, err := Parse("t.rb", []byte(src))
		if err != nil {
			return err.Error()
		}
		v, err := in.Run(t.Context(), p, self)
		return address.ReplaceAllString(describe(in, v, err), "0x")
	}
	for src, want := range map[string]string{
		"hello":                  `"hello"`,
		"nope":                   "NameError: undefined local variable or method `nope' for #<Inspec::Context:0x>",
		"nope 1":                 "NoMethodError: undefined method `nope' for #<Inspec::Context:0x>",
		"Nope":                   "NameError: uninitialized constant #<Class:#<Inspec::Context:0x>>::Nope",
		"def mine; 1; end; mine": "1",
		"X1 = 5; X1":             "5",
		"[1].map { hello }":      `["hello"]`,
	} {
		if diff := cmp.Diff(want, run(src)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", src, diff)
		}
	}
	if got := run("X1"); got != "5" { // set by one of the files above
		t.Errorf("a constant of an earlier file: got %s, want 5", got)
	}
	if got := outcome(t, in, "mine"); !strings.HasPrefix(got, "NameError") {
		t.Errorf("a method of the object is seen at top level: %s", got)
	}
}

func TestClass_DefMissing(t *testing.T) {
	in := New(Limits{})
	k := in.DefineClass(nil, "Row", nil)
	k.DefMissing(func(c *Call, name string) (Value, error) {
		if name == "size" {
			return int64(len(c.Args)), nil
		}
		return nil, in.NoMethod(c.Self, name)
	}, func(_ Value, name string) bool { return name == "size" })
	want := "[0, 2, true, false, \"undefined method `nope' for #<Row:0x>\"]"
	got := outcome(t, in, "r = Row.new; [r.size, r.size(1, 2), r.respond_to?(:size), r.respond_to?(:nope), (begin; r.nope; rescue => e; e.message; end)]")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestProc_Source(t *testing.T) {
	in := New(Limits{})
	src := "x = 1\ncontrol 'a' do\n  it { should eq \"#{x}}\" }\nend\ny = 2\n"
	var blk *Proc
	in.DefKernel("control", func(c *Call) (Value, error) { blk = c.Block; return nil, nil })
	outcome(t, in, src)
	if got, want := blk.Source(), "do\n  it { should eq \"#{x}}\" }\nend"; got != want {
		t.Errorf("Source = %q, want %q", got, want)
	}
	if got, want := blk.Program().Source(blk.Line(), blk.EndLine()), "control 'a' do\n  it { should eq \"#{x}}\" }\nend\n"; got != want {
		t.Errorf("lines = %q, want %q", got, want)
	}
}

// TestFrames holds blocks that outlive the call that they were made in, while
// other calls take the frames of those that left none behind.
func TestFrames(t *testing.T) {
	const src = `
def counter(n)
  step = 2
  [lambda { n += step }, proc { [n, step] }]
end
def deep(n) = n == 0 ? 0 : 1 + deep(n - 1)
def nested(a)
  [1, 2].map { |b| [3].map { |c| -> { [a, b, c] } } }.flatten
end
def early(list) = list.each { |x| return x * 10 if x > 1 }
def late = proc { return 1 }
def caught(n)
  raise "no #{n}" if n == 0
  caught(n - 1)
rescue => e
  "#{n} #{e.message}"
end
up, all = counter(5)
others = (1..20).map { |i| counter(i) }
deep(40)
blocks = nested(7)
(1..9).each { |i| nested(i); deep(i) }
up.call
[all.call, up.call, others.last.last.call, blocks.map(&:call), early([1, 2, 3]), deep(70), caught(30),
 begin; late.call; rescue LocalJumpError => e; e.class; end, [up, up].map(&:call)]`
	want := `[[7, 2], 9, [20, 2], [[7, 1, 3], [7, 2, 3]], 20, 70, "0 no 0", LocalJumpError, [11, 13]]`
	if diff := cmp.Diff(want, outcome(t, New(Limits{}), src)); diff != "" {
		t.Errorf("value (-want +got):\n%s", diff)
	}
}

func TestObject_ShareIVars(t *testing.T) {
	in := New(Limits{})
	proto := in.NewObject(in.Class("Object"), nil)
	proto.SetIVar("@a", int64(1))
	proto.SetIVar("@b", int64(2))
	var objects []*Object
	for range 3 {
		o := in.NewObject(in.Class("Object"), nil)
		o.ShareIVars(proto)
		objects = append(objects, o)
	}
	objects[0].SetIVar("@a", int64(10))
	objects[1].SetIVar("@c", int64(3))
	if _, err := in.Call(objects[1], "remove_instance_variable", []Value{Symbol("@b")}, nil); err != nil {
		t.Fatal(err)
	}
	proto.SetIVar("@b", int64(20))
	var got []string
	for _, o := range append(objects, proto) {
		got = append(got, address.ReplaceAllString(in.Inspect(o), "0x"))
	}
	want := []string{"#<Object:0x @a=10, @b=2>", "#<Object:0x @a=1, @c=3>", "#<Object:0x @a=1, @b=2>", "#<Object:0x @a=1, @b=20>"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
}

// TestRegexp_engines runs patterns through both engines: they must agree.
func TestRegexp_engines(t *testing.T) {
	texts := []string{"", "a", "abc", "foo bar\nbaz\n", "x=1; y = 22", "ünïcode é", "aaa bbb\n\n", "[x]-{y}", "# comment\nkey value\n"}
	for _, pattern := range []string{
		`a`, `^`, `$`, `^\s*$`, `\A\w+`, `\w+\z`, `(\w)=(\d)`, `[^a]`, `a|b`, `b*`, `(?i)FOO`, `\bba`, `[[:alpha:]]+`, `.+`, `(?m:.+)`,
		`\h+`, `[\w-]+`, `x{0,2}`, `{`, `\[x\]`, `^\s*#`, `(a)|(b)`, `\S+\s*$`, `[\]x]`, `é`, `\p{L}+`, `(?<k>\w+) (?<v>\w+)`,
	} {
		in := New(Limits{})
		both, err := in.regexp(pattern, 0)
		if err != nil {
			t.Errorf("/%s/: %v", pattern, err)
			continue
		}
		if both.linear == nil {
			t.Errorf("/%s/ isn't matched in linear time", pattern)
		}
		slow := *both
		slow.linear = nil
		for _, s := range texts {
			find := func(re *Regexp) (all [][]int) {
				m, err := re.match(s, 0)
				if err != nil {
					t.Fatal(err)
				}
				if m != nil {
					all = append(all, m.loc)
				}
				if err := re.all(s, func(m *MatchData) error { all = append(all, m.loc); return nil }); err != nil {
					t.Fatal(err)
				}
				return all
			}
			if diff := cmp.Diff(find(&slow), find(both)); diff != "" {
				t.Errorf("/%s/ on %q (-backtracking +linear):\n%s", pattern, s, diff)
			}
		}
	}
}

// FuzzRegexp compiles any pattern, and holds both engines against each other
// where both can match it.
func FuzzRegexp(f *testing.F) {
	for _, pattern := range []string{`^\s*(\w+)`, `a|b*`, `[^a-z&&[b]]`, `(?<k>\w)=\g<k>`, `(a)\1`, `(?=a)a+?`, `(?:\g<o>\.){3}(?<o>\d+)`, `\g<1>(a|\g<1>b)`, `x\Ky`, `\p{Alpha}{2,3}`} {
		f.Add(pattern, "a=1\nab.1.2.3 xy\n")
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		re, err := New(Limits{RegexTime: 50 * time.Millisecond}).regexp(pattern, 0)
		if err != nil || !utf8.ValidString(s) {
			return
		}
		find := func(re *Regexp) (all [][]int, err error) {
			err = re.all(s, func(m *MatchData) error { all = append(all, slices.Clone(m.loc)); return nil })
			return all, err
		}
		got, err := find(re)
		if err != nil || re.linear == nil {
			return
		}
		slow := *re
		slow.linear = nil
		want, err := find(&slow)
		if err != nil {
			return // too slow, or a pattern that only RE2 can read
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("/%s/ on %q (-backtracking +linear):\n%s", pattern, s, diff)
		}
	})
}

// FuzzMatch holds values against patterns of case … in.
func FuzzMatch(f *testing.F) {
	for _, pattern := range []string{
		`{host: String => h, ports: [Integer => p, *]}`, `[_, 5] | [_, 6]`, `[*, 3 => x, *r]`, `{a: nil, **nil}`, `{a:, **r} if a`, `Array(1, *)`,
		`^v`, `^(1 + 1)`, `1.. | ..-1`, `/a(b)/ => x`, `->(x) { x > 1 }`, `Struct[a, b]`, `a, *b, c unless b.empty?`, `{"a": 1}`, `[[a, [b]], {c: {d:}}]`,
	} {
		f.Add(`{host: 'h', ports: [22, 80], a: nil, c: {d: 1}}`, pattern)
		f.Add(`[1, [2, 3], {c: {d: 'ab'}}]`, pattern)
	}
	f.Fuzz(func(t *testing.T, value, pattern string) {
		p, err := Parse("t.rb", []byte("v = 1\ncase ("+value+")\nin "+pattern+"\n binding.local_variables\nend"))
		if err != nil {
			return
		}
		_, err = New(Limits{Steps: 5000, Depth: 100, Memory: 1 << 20, Time: time.Second, RegexTime: 20 * time.Millisecond}).Run(t.Context(), p, nil)
		if e := (*Exception)(nil); errors.As(err, &e) && strings.HasPrefix(e.Message, "internal error") {
			t.Error(e.Message)
		}
	})
}

func FuzzParse(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, src []byte) {
		_, err := Parse("t.rb", src)
		if se := (*SyntaxError)(nil); err != nil && (!errors.As(err, &se) || strings.HasPrefix(se.Msg, "internal error")) {
			t.Errorf("error %v, want a *SyntaxError of its own", err)
		}
	})
}

func FuzzRun(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, src []byte) {
		p, err := Parse("t.rb", src)
		if err != nil {
			return
		}
		_, err = New(Limits{Steps: 5000, Depth: 100, Memory: 1 << 20, Time: time.Second, RegexTime: 20 * time.Millisecond}).Run(t.Context(), p, nil)
		if e := (*Exception)(nil); errors.As(err, &e) && strings.HasPrefix(e.Message, "internal error") {
			t.Error(e.Message)
		}
	})
}

// seed adds a part of the expressions, of which TestExpressions runs all: each
// seed costs the fuzzer as much as a try.
func seed(f *testing.F) {
	for _, name := range []string{"testdata/syntax.rb", "testdata/expressions.txt"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if strings.HasSuffix(name, ".rb") {
			f.Add(b)
			continue
		}
		for i, line := range bytes.Split(b, []byte("\n")) {
			if i%16 == 2 && !bytes.HasPrefix(line, []byte("=> ")) {
				f.Add(line)
			}
		}
	}
}
