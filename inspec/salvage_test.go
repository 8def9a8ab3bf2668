package inspec_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec"
)

// says checks that the first error of a control tells where and what.
func says(t *testing.T, doc *hdf.Results, id string, want ...string) {
	t.Helper()
	for _, r := range control(t, doc, id).Results {
		if r.Verdict() != hdf.Error {
			continue
		}
		for _, w := range want {
			if !strings.Contains(r.Message, w) {
				t.Errorf("control %s: message %q doesn't say %q", id, r.Message, w)
			}
		}
		return
	}
	t.Errorf("control %s has no error", id)
}

func TestRun_brokenLibrary(t *testing.T) {
	controls := `
control('plain') { describe(1) { it { should eq 1 } } }
control('resource') { describe(shelf('x')) { its('n') { should eq 7 } } }
control('matcher') { describe(1) { it { should be_on_the_shelf } } }
control('class') { describe(1) { it { should eq Shelf.size } } }
control('overridden') { describe(virtualization) { it { should exist } } }
control('other') { describe(frobnicator) { it { should exist } } }
`
	broken := `
require 'json'
class Shelf < Inspec.resource(1)
  name 'shelf'
  def n = 7
  def self.size = 1
end
class Virtual < Inspec.resource(1)
  name 'virtualization'
  def exist? = true
end
RSpec::Matchers.define :be_on_the_shelf do
  match { true }
end
`
	for name, tc := range map[string]struct {
		text, where string
	}{
		"that isn't Ruby":         {broken + "class Unfinished\n", "libraries/broken.rb:"},
		"that raises":             {broken + "raise 'no way'\n", "libraries/broken.rb:15: RuntimeError: no way"},
		"that raises at the top":  {"raise 'no way'\n" + broken, "libraries/broken.rb:1: RuntimeError: no way"},
		"that requires a bad one": {"require 'sub/bad'\n" + broken, "libraries/sub/bad.rb:1"},
	} {
		t.Run(name, func(t *testing.T) {
			doc := mustRun(t, map[string]string{"controls/a.rb": controls, "libraries/broken.rb": tc.text, "libraries/sub/bad.rb": "def ("}, inspec.Options{})
			want := map[string]hdf.Status{"plain": hdf.Passed}
			for _, id := range []string{"resource", "matcher", "class", "overridden", "other"} {
				want[id] = hdf.Error
			}
			got := judged(doc)
			if got["class"] == hdf.Passed && strings.HasPrefix(tc.text, "\n") {
				delete(want, "class") // the library had made it before it raised
				delete(got, "class")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("statuses (-want +got):\n%s", diff)
			}
			for _, id := range []string{"resource", "matcher", "overridden"} {
				says(t, doc, id, tc.where)
			}
			if msg := control(t, doc, "other").Results[0].Message; strings.Contains(msg, "libraries/") {
				t.Errorf("control other has nothing to do with the library: %q", msg)
			}
		})
	}
	for name, text := range map[string]string{
		"nothing that can be told": "raise 'no way'\n",
		"a core class":             "class String\n  def eql?(o) = true\nend\nclass\n",
	} {
		t.Run("of "+name+", every control is concerned", func(t *testing.T) {
			doc := mustRun(t, map[string]string{"controls/a.rb": controls, "libraries/broken.rb": text}, inspec.Options{})
			for id, status := range judged(doc) {
				if status != hdf.Error {
					t.Errorf("control %s is %s", id, status)
				}
			}
			says(t, doc, "plain", "libraries/broken.rb:")
		})
	}
}

func TestRun_controlFileThatIsNotRuby(t *testing.T) {
	files := map[string]string{
		"controls/a.rb": `limit = 2
control 'first' do
  describe(limit) { it { should eq 2 } }
end

control "second" do
  title 'it's misquoted'
  describe(1) { it { should eq 1 } }
end

control 'third' do
  describe(1) { it { should eq 2 } }
end

control 'cut off' do
  describe file('/etc/pass`,
		"controls/b.rb": "foo(\n",
		"controls/c.rb": "control('elsewhere') { describe(1) { it { should eq 1 } } }\n",
	}
	doc := mustRun(t, files, inspec.Options{})
	got := map[string]hdf.Status{}
	for id, status := range judged(doc) {
		got[generatedID.ReplaceAllString(id, " *)")] = status
	}
	want := map[string]hdf.Status{
		"first": hdf.Passed, "second": hdf.Error, "third": hdf.Failed, "cut off": hdf.Error, "elsewhere": hdf.Passed, "(generated from b.rb:2 *)": hdf.Error,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	says(t, doc, "second", "controls/a.rb:7")
	says(t, doc, "cut off", "controls/a.rb:1")
	if c := control(t, doc, "third"); c.SourceLocation.Line != 11 {
		t.Errorf("control third is at line %d, want 11", c.SourceLocation.Line)
	}
	p, err := inspec.Load(write(t, files))
	if err != nil {
		t.Fatal(err)
	}
	unsupported, err := p.Unsupported(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(unsupported) != 3 {
		t.Errorf("unsupported: %v, want what can't be read", unsupported)
	}
}

// Mistakes that real profiles hold are errors of exactly the controls
// concerned, and say where they are.
func TestRun_mistakes(t *testing.T) {
	files := map[string]string{
		"inspec.yml": "name: test\ninputs:\n  - name: needed\n    required: true\n",
		"controls/a.rb": `control('fine') { describe(1) { it { should eq 1 } } }
control('unknown resource') { describe(frobnicator('x')) { it { should exist } } }
control('shold_not') do
  describe(1) do
    it { shold_not eq 2 }
  end
end
control('descibe') { descibe(1) { it { should eq 1 } } }
control('no input') { describe(input('needed')) { it { should eq 1 } } }
control('expired') { describe(1) { it { should eq 2 } } }
control('waived') { describe(1) { it { should eq 2 } } }
control('last') { describe(1) { it { should eq 2 } } }
`,
		"controls/b.rb": "control('truncated') do\n  describe(1) do\n    it { should",
	}
	no := false
	doc := mustRun(t, files, inspec.Options{Waivers: inspec.Waivers{
		"expired": {Justification: "for now", Run: &no, Expires: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)},
		"waived":  {Justification: "for ever", Run: &no},
	}})
	want := map[string]hdf.Status{
		"fine": hdf.Passed, "unknown resource": hdf.Error, "shold_not": hdf.Error, "descibe": hdf.Error, "no input": hdf.Error,
		"expired": hdf.Failed, "waived": hdf.Skipped, "last": hdf.Failed, "truncated": hdf.Error,
	}
	if diff := cmp.Diff(want, judged(doc)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	for id, line := range map[string]string{
		"unknown resource": "controls/a.rb:2", "shold_not": "controls/a.rb:5", "descibe": "controls/a.rb:8", "no input": "controls/a.rb:9", "truncated": "controls/b.rb:",
	} {
		r := control(t, doc, id).Results[0]
		if !strings.Contains(strings.Join(append(r.Backtrace, r.Message), "\n"), line) {
			t.Errorf("control %s: neither %q nor %q says %s", id, r.Message, r.Backtrace, line)
		}
	}
	if r := control(t, doc, "truncated").Results[0]; r.Exception != "Reeve::BrokenProfile" {
		t.Errorf("control truncated: exception %s", r.Exception)
	}
}
