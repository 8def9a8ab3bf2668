package inspec_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec"
)

// layersOf lists each profile's controls: id, impact, number of results,
// status, and the first line of the code.
func layersOf(doc *hdf.Results) map[string][]any {
	out := map[string][]any{}
	for _, p := range doc.Profiles {
		key := p.Name
		if p.ParentProfile != "" {
			key = p.ParentProfile + "/" + key
		}
		out[key] = nil
		for _, c := range p.Controls {
			code, _, _ := strings.Cut(strings.TrimSpace(c.Code), "\n")
			out[key] = append(out[key], []any{c.ID, c.Impact, len(c.Results), c.Status, code})
		}
	}
	return out
}

// The layers are those of InSpec: every profile lists the controls that it
// includes, the results stand at the one that they come from, and the code is
// what the profile itself says of the control.
func TestRun_overlaysAreLayers(t *testing.T) {
	files := map[string]string{
		"inspec.yml": "name: top\ndepends:\n  - {name: middle, path: middle}\n",
		"controls/a.rb": `
include_controls 'middle' do
  control 'b-1' do
    impact 1.0
  end
  skip_control 'b-3'
  control 'new' do
    describe(1) { it { should eq 1 } }
  end
end
control 'own' do
  describe(1) { it { should eq 3 } }
end
`,
		"middle/inspec.yml": "name: middle\ndepends:\n  - {name: base, path: base}\n  - {name: unused, path: unused}\n",
		"middle/controls/m.rb": `
include_controls 'base' do
  control 'b-2' do
    impact 0.1
    describe(2) { it { should eq 2 } }
  end
end
`,
		"middle/base/inspec.yml": "name: base\n",
		"middle/base/controls/b.rb": `
control 'b-1' do
  describe(1) { it { should eq 2 } }
end
control 'b-2' do
  describe(1) { it { should eq 2 } }
end
control 'b-3' do
  describe(1) { it { should eq 2 } }
end
`,
		"middle/unused/inspec.yml":    "name: unused\n",
		"middle/unused/controls/u.rb": "control('u') { describe(1) { it { should eq 2 } } }\n",
	}
	doc := mustRun(t, files, inspec.Options{})
	b2, n := "control 'b-2' do", "control 'new' do"
	b1 := "control 'b-1' do"
	want := map[string][]any{
		"top": {
			[]any{"own", 0.5, 1, hdf.Failed, "control 'own' do"},
			[]any{"new", 0.5, 0, hdf.Passed, n},
			[]any{"b-1", 1.0, 0, hdf.Failed, b1},
			[]any{"b-2", 0.1, 0, hdf.Passed, b2},
		},
		"top/middle": {
			[]any{"new", 0.5, 1, hdf.Passed, n},
			[]any{"b-1", 1.0, 0, hdf.Failed, ""},
			[]any{"b-2", 0.1, 0, hdf.Passed, b2},
		},
		"middle/base": {
			[]any{"b-1", 1.0, 1, hdf.Failed, b1},
			[]any{"b-2", 0.1, 1, hdf.Passed, b2},
		},
		"middle/unused": nil,
	}
	if diff := cmp.Diff(want, layersOf(doc)); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
	var names []string
	for _, p := range doc.Profiles {
		names = append(names, p.Name)
	}
	if diff := cmp.Diff([]string{"top", "middle", "base", "unused"}, names); diff != "" {
		t.Errorf("order of the profiles (-want +got):\n%s", diff)
	}
	if got := doc.Profiles[0].Controls[2].Code; !strings.Contains(got, "impact 1.0") {
		t.Errorf("the overlay's code of b-1 is %q", got)
	}
	if diff := cmp.Diff([]map[string]any{{"name": "middle", "path": "middle", "status": "loaded"}}, doc.Profiles[0].Depends); diff != "" {
		t.Errorf("depends (-want +got):\n%s", diff)
	}
}

func TestRun_requireControls(t *testing.T) {
	doc := mustRun(t, map[string]string{
		"inspec.yml":         "name: top\ndepends:\n  - path: base\n",
		"controls/a.rb":      "require_controls('base') { control 'b'; control('nowhere') { describe(1) { it { should eq 1 } } } }\n",
		"base/inspec.yml":    "name: base\n",
		"base/controls/b.rb": "%w(a b c).each { |id| control(id) { describe(1) { it { should eq 1 } } } }\n",
	}, inspec.Options{})
	var got []string
	for _, c := range doc.Profiles[1].Controls {
		got = append(got, c.ID)
	}
	if diff := cmp.Diff([]string{"b", "nowhere"}, got); diff != "" {
		t.Errorf("controls of base (-want +got):\n%s", diff)
	}
	if n := doc.Counts(); n != (hdf.Counts{Passed: 2}) {
		t.Errorf("counts %+v, want each control once", n)
	}
}

func TestRun_dependencyOfAnotherPlatform(t *testing.T) {
	doc := mustRun(t, map[string]string{
		"inspec.yml":          "name: top\ndepends:\n  - {name: base, path: base}\n",
		"controls/a.rb":       "include_controls 'base'\ncontrol('own') { describe(1) { it { should eq 1 } } }\n",
		"base/inspec.yml":     "name: base\nsupports:\n  - platform-name: windows\n",
		"base/controls/b.rb":  "control('b') { raise 'not evaluated' }\n",
		"base/libraries/b.rb": "raise 'not run'\n",
	}, inspec.Options{})
	if diff := cmp.Diff(map[string]hdf.Status{"own": hdf.Passed}, judged(doc)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	base := doc.Profiles[1]
	if base.Status != "skipped" || !strings.Contains(base.SkipMessage, "Skipping profile: 'base' on unsupported platform: 'debian/") || len(base.Controls) != 0 {
		t.Errorf("base: %+v", base)
	}
	if s := doc.Profiles[0].Depends[0]["status"]; s != "skipped" {
		t.Errorf("the dependency's status is %v", s)
	}
}

func TestRun_includesItself(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a/inspec.yml": "name: a\ndepends:\n  - {name: b, path: ../b}\n", "a/controls/a.rb": "include_controls 'b'\n",
		"b/inspec.yml": "name: b\ndepends:\n  - {name: a, path: ../a}\n", "b/controls/b.rb": "include_controls 'a'\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := inspec.Load(filepath.Join(dir, "a")); err == nil || !strings.Contains(err.Error(), "circle") {
		t.Errorf("error %v doesn't name the circle", err)
	}
}

// A profile is found at its path, be that a folder or an archive, or below
// vendor/ by its name; an archive carries it there.
func TestLoad_dependencies(t *testing.T) {
	base := write(t, map[string]string{"inspec.yml": "name: base\n", "controls/b.rb": "control('b') { describe(1) { it { should eq 1 } } }\n"})
	p, err := inspec.Load(base)
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	if err := p.Archive(&packed); err != nil {
		t.Fatal(err)
	}
	files := func(depends string, more map[string]string) string {
		more["inspec.yml"] = "name: top\ndepends:\n  - " + depends + "\n"
		more["controls/a.rb"] = "include_controls 'base'\n"
		return write(t, more)
	}
	inVendor := map[string]string{"vendor/0123abc/inspec.yml": "name: base\n", "vendor/0123abc/controls/b.rb": "control('b') { describe(1) { it { should eq 1 } } }\n"}
	for name, dir := range map[string]string{
		"a folder outside":           files("{name: base, path: "+base+"}", map[string]string{}),
		"a folder without a name":    files("{path: "+base+"}", map[string]string{}),
		"an archive inside":          files("{name: base, path: base.tar.gz}", map[string]string{"base.tar.gz": packed.String()}),
		"vendored for git":           files("{name: base, git: 'https://git.example/base'}", map[string]string{"vendor/base.tar.gz": packed.String()}),
		"vendored for url":           files("{name: base, url: 'https://git.example/base.tgz'}", inVendor),
		"vendored, path out of here": files("{name: base, path: ../nowhere}", map[string]string{"vendor/base/inspec.yml": "name: base\n", "vendor/base/controls/b.rb": inVendor["vendor/0123abc/controls/b.rb"]}),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := inspec.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := p.Archive(&b); err != nil {
				t.Fatal(err)
			}
			again, err := inspec.Read(&b, "top.tar.gz")
			if err != nil {
				t.Fatal(err)
			}
			if p.Digest() != again.Digest() {
				t.Error("the archive's digest is another than the folder's")
			}
			for _, p := range []*inspec.Profile{p, again} {
				doc, err := inspec.Run(t.Context(), p, smallTarget(t), inspec.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(map[string]hdf.Status{"b": hdf.Passed}, judged(doc)); diff != "" {
					t.Errorf("statuses (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// Each profile has inputs of its own; one that includes it may set them.
func TestRun_inputsOfDependencies(t *testing.T) {
	files := map[string]string{
		"inspec.yml": `
name: top
depends:
  - {name: base, path: base}
  - {name: other, path: aliased}
inputs:
  - {name: own, value: of top}
  - {name: set, profile: base, value: by top}
  - {name: aliased, profile: other, value: by top}
  - {name: weak, profile: base, value: by top, priority: 10}
`,
		"controls/a.rb": `
include_controls 'base'
include_controls 'other'
control('top') { describe(input('own')) { it { should eq 'of top' } }; describe(input('set', value: 'nothing')) { it { should eq 'nothing' } } }
`,
		"base/inspec.yml":       "name: base\ninputs:\n  - {name: own, value: of base}\n  - {name: set, value: of base}\n  - {name: weak, value: of base}\n",
		"base/controls/b.rb":    "control('base') { describe([input('own'), input('set'), input('weak')]) { it { should eq ['of base', 'by top', 'of base'] } } }\n",
		"aliased/inspec.yml":    "name: real-name\ninputs:\n  - {name: aliased, value: of itself}\n",
		"aliased/controls/c.rb": "control('aliased') { describe(input('aliased')) { it { should eq 'by top' } } }\n",
	}
	want := map[string]hdf.Status{"base": hdf.Passed, "aliased": hdf.Passed, "top": hdf.Passed}
	doc := mustRun(t, files, inspec.Options{})
	if diff := cmp.Diff(want, judged(doc)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	doc = mustRun(t, files, inspec.Options{Inputs: map[string]any{"own": "of the caller"}})
	if got := judged(doc); got["base"] != hdf.Failed || got["top"] != hdf.Failed {
		t.Errorf("statuses %v: what the caller gives counts in every profile", got)
	}
}

func TestRun_inputOptions(t *testing.T) {
	doc := mustRun(t, map[string]string{
		"inspec.yml": `
name: test
inputs:
  - {name: needed, required: true}
  - {name: order, value: {z: 1, a: 2, 3: x}}
  - {name: secret, value: hush, sensitive: true}
  - {name: strong, value: metadata}
  - {name: typed, type: numeric, value: 1}
`,
		"controls/a.rb": `
at_the_top = input('top', value: 'from the top')
control('first value stays') { input('stays', value: 1); describe(input('stays')) { it { should eq 1 } } }
control('the last of equals') { input('stays', value: 2); describe(input('stays')) { it { should eq 2 } } }
control('top') { describe(input('top')) { it { should eq at_the_top } } }
control('priority') { describe(input('strong', value: 'inline', priority: 90)) { it { should eq 'inline' } } }
control('type') { describe(input('t', type: 'numeric', value: 'many')) { it { should eq 'many' } } }
control('pattern') { describe(input('p', pattern: '^a', value: 'b')) { it { should eq 'b' } } }
control('no type') { describe(input('n', type: 'strang', value: 'b')) { it { should eq 'b' } } }
control('regexp') { describe(input('r', type: 'regex', value: '(')) { it { should eq '(' } } }
control('options make it optional') { describe(input('needed', description: 'x')) { it { should eq 1 } } }
control('order') { describe(input('order').map { |k, v| v }) { it { should eq [1, 2, 'x'] } } }
control('object') { describe(input_object('typed')) { its('type') { should eq 'Numeric' }; its('value') { should eq 1 } } }
`,
	}, inspec.Options{})
	want := map[string]hdf.Status{
		"first value stays": hdf.Passed, "the last of equals": hdf.Passed, "top": hdf.Passed, "priority": hdf.Passed, "type": hdf.Error, "pattern": hdf.Error,
		"no type": hdf.Error, "regexp": hdf.Error, "options make it optional": hdf.Skipped, "order": hdf.Passed, "object": hdf.Passed,
	}
	if diff := cmp.Diff(want, judged(doc)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	says(t, doc, "type", "Input 't' with value 'many' does not validate to type 'Numeric'.")
	says(t, doc, "pattern", "Input 'p' with value 'b' does not validate to pattern '^a'.")
	says(t, doc, "no type", "Type 'strang' is not a valid input type.")
	attributes := map[string]any{}
	for _, a := range doc.Profiles[0].Attributes {
		attributes[a["name"].(string)] = a["options"].(map[string]any)["value"]
	}
	if attributes["secret"] != nil || attributes["strong"] != "inline" || attributes["top"] != "from the top" {
		t.Errorf("attributes %v", attributes)
	}
}
