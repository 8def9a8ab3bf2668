package ruby

import (
	"errors"
	"runtime"
	"testing"
)

// TestLimits_heap fills the memory that an evaluation may have with values of
// each kind, and looks at what they really take.
func TestLimits_heap(t *testing.T) {
	const limit = 4 << 20
	for name, src := range map[string]string{
		"strings":             "loop { $a << 'x'.dup }",
		"literals":            "loop { $a << 'x' }",
		"interpolation":       "loop { $a << \"#{1}x\" }",
		"appended":            "loop { $a << ('' << 'x') }",
		"symbols":             "i = 0; loop { $a << \"s#{i += 1}\".to_sym }",
		"integers":            "i = 0; loop { $a << (i += 1000) }",
		"floats":              "i = 0.0; loop { $a << (i += 1.5) }",
		"big integers":        "i = 2**70; loop { $a << (i += 1) }",
		"rationals":           "loop { $a << 1r / 3 }",
		"arrays":              "loop { $a << [] }",
		"pairs":               "loop { $a << [1, 2] }",
		"grown arrays":        "loop { b = []; b << 1; b << 2; b << 3; $a << b }",
		"nested":              "loop { $a = [$a] }",
		"hashes":              "loop { $a << {} }",
		"small hashes":        "loop { $a << {a: 1} }",
		"grown hashes":        "loop { h = {}; h[:a] = 1; h[:b] = 2; $a << h }",
		"one hash":            "h = {}; $a << h; i = 0; loop { h[i += 1] = 1 }",
		"string keys":         "h = {}; $a << h; i = 0; loop { h[(i += 1).to_s] = 1 }",
		"array keys":          "h = {}; $a << h; i = 0; loop { h[[i += 1]] = 1 }",
		"ranges":              "i = 0; loop { $a << ((i += 1)..9) }",
		"objects":             "loop { $a << Object.new }",
		"objects with values": "class C; def initialize; @a = 1; end; end; loop { $a << C.new }",
		"structs":             "S = Struct.new(:a); loop { $a << S.new(1) }",
		"procs":               "def b = proc {}\nloop { $a << b }",
		"lambdas":             "def b(x) = ->(y) { x + y }\nloop { $a << b(1) }",
		"sets":                "loop { $a << Set[1] }",
		"times":               "loop { $a << Time.at(0) }",
		"dates":               "d = Date.new(2020, 1, 1); loop { $a << (d += 1) }",
		"classes":             "loop { $a << Class.new }",
		"singletons":          "loop { o = Object.new; def o.x; end; $a << o }",
		"matches":             "loop { $a << /(a)(b)/.match('xaby') }",
		"patterns":            "i = 0; loop { $a << /a#{i += 1}/ }",
		"exceptions":          "loop { $a << RuntimeError.new('x') }",
		"raised":              "loop { begin; raise 'x'; rescue => e; $a << e; end }",
		"methods":             "loop { $a << 1.method(:+) }",
		"enumerators":         "loop { $a << [1].each }",
		"splits":              "s = 'a,b,c,d,e,f'; loop { $a << s.split(',') }",
		"chars":               "s = 'abcdef' * 10; loop { $a << s.chars }",
		"bytes":               "s = 'abcdef' * 10; loop { $a << s.bytes }",
		"scans":               "s = 'abcdef' * 10; loop { $a << s.scan(/./) }",
		"groups":              "s = 'abcdef' * 10; loop { $a << s.scan(/(.)(.)/) }",
		"lines":               "s = \"a\\n\" * 10; loop { $a << s.lines }",
		"maps":                "b = (1..10).to_a; loop { $a << b.map { |x| x } }",
		"selects":             "b = (1..10).to_a; loop { $a << b.select { true } }",
		"slices":              "b = (1..10).to_a; loop { $a << b.each_slice(2).to_a }",
		"zips":                "b = (1..10).to_a; loop { $a << b.zip(b) }",
		"partitions":          "b = (1..10).to_a; loop { $a << b.partition { true } }",
		"sorts":               "b = (1..10).to_a; loop { $a << b.sort }",
		"group_by":            "b = (1..10).to_a; loop { $a << b.group_by { |x| x } }",
		"combinations":        "b = (1..10).to_a; loop { $a << b.combination(2).to_a }",
		"products":            "b = (1..10).to_a; loop { $a << b.product(b) }",
		"transposed":          "b = [[1, 2, 3]] * 3; loop { $a << b.transpose }",
		"flattened":           "b = [[1, 2, 3]] * 3; loop { $a << b.flatten }",
		"compacted":           "b = (1..10).to_a; loop { $a << b.compact << b.uniq << b.reverse << b.rotate << b.dup << b.take(9) << b.drop(1) }",
		"pairs of hashes":     "h = {a: 1, b: 2}; loop { $a << h.to_a }",
		"copied hashes":       "h = {a: 1, b: 2}; loop { $a << h.dup << h.merge(c: 1) << h.invert << h.select { true } << h.reject { false } << h.transform_values { 1 } << h.to_h }",
		"parts of hashes":     "h = {a: 1, b: 2}; loop { $a << h.keys << h.values << h.map { |k, v| v } << h.min_by { |k, v| v } << h.sort_by { |k, v| v } << h.partition { true } }",
		"parts of texts":      "s = 'abc def'; loop { $a << s.upcase << s[1, 3] << s.sub('a', 'b') << s.gsub('a', 'b') << s.tr('a', 'b') << s.strip << s.partition(' ') << s.reverse << s.center(9) }",
		"converted":           "loop { $a << 1.to_s << 1.5.to_s << :a.to_s << nil.to_s << [1].inspect << nil.to_a << {a: 1}.to_s << 'a'.inspect }",
		"JSON":                "loop { $a << JSON.parse('{\"a\":[1,2,{\"b\":null}]}') }",
		"YAML":                "loop { $a << YAML.load(\"a: [1, 2]\\nb: {c: d}\\n\") }",
		"versions":            "loop { $a << Gem::Version.new('1.2.3') }",
		"addresses":           "loop { $a << IPAddr.new('10.0.0.0/8') }",
		"paths":               "loop { $a << Pathname.new('/a/b') }",
		"records":             "loop { $a << OpenStruct.new(a: 1) }",
		"named trees":         "class LT < Parslet::Parser; root :a; rule(:a) { str('b').as(:x).repeat }; end; loop { $a << LT.new.parse('b' * 50) }",
		"XML":                 "loop { $a << REXML::Document.new('<a><b c=\"d\">e</b></a>') }",
		"instance variables":  "i = 0; o = Object.new; $a << o; loop { o.instance_variable_set(\"@v#{i += 1}\", 1); break if i > 1000 }; loop { $a << Object.new.tap { |x| x.instance_variable_set(:@a, 1) } }",
		"lazy":                "loop { $a << [1].lazy.map { |x| x } }",
		"complex":             "loop { $a << Complex(1, 2) }",
		"curried":             "f = ->(a, b) { a }; loop { $a << f.curry[1] }",
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Parse("t.rb", []byte("$a = []\n"+src))
			if err != nil {
				t.Fatal(err)
			}
			in := New(Limits{Memory: limit})
			before := live()
			_, err = in.Run(t.Context(), p, nil)
			var reached *LimitError
			if !errors.As(err, &reached) || reached.Limit != "memory" {
				t.Fatalf("error %v, want the limit of memory", err)
			}
			took := int64(live()) - int64(before)
			runtime.KeepAlive(in)
			t.Logf("%.2f of what was charged", float64(took)/limit)
			if took > limit*3/2 {
				t.Errorf("%d bytes are in use, of %d that were allowed", took, limit)
			}
		})
	}
}

func live() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestLimits_kept has globals keep what each of many controls allocates, and
// beside it controls that keep nothing.
func TestLimits_kept(t *testing.T) {
	run := func(source string) (int, error) {
		in := New(Limits{Memory: 128 << 20})
		prog, err := Parse("t", source)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			in.Reset()
			if _, err := in.Run(t.Context(), prog, nil); err != nil {
				return i, err
			}
		}
		return 40, nil
	}
	if n, err := run("x = 'x' * 16_000_000; x.size"); err != nil {
		t.Errorf("what is dropped: run %d: %v", n, err)
	}
	n, err := run("($kept ||= []) << 'x' * 16_000_000")
	var limit *LimitError
	if !errors.As(err, &limit) || limit.Limit != "memory" || n > 24 {
		t.Errorf("%d times 16 MB are kept where 128 MiB may be: %v", n, err)
	}
}
