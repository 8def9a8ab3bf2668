package inspec_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// run loads a profile of the files and runs it on a small target.
func run(t *testing.T, files map[string]string, opt inspec.Options) (*hdf.Results, error) {
	t.Helper()
	if files["inspec.yml"] == "" {
		files["inspec.yml"] = "name: test\n"
	}
	p, err := inspec.Load(write(t, files))
	if err != nil {
		t.Fatal(err)
	}
	return inspec.Run(t.Context(), p, smallTarget(t), opt)
}

func mustRun(t *testing.T, files map[string]string, opt inspec.Options) *hdf.Results {
	t.Helper()
	doc, err := run(t, files, opt)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// judged lists each control's status.
func judged(doc *hdf.Results) map[string]hdf.Status {
	out := map[string]hdf.Status{}
	for _, c := range doc.Profiles[0].Controls {
		out[c.ID] = c.Status
	}
	return out
}

func control(t *testing.T, doc *hdf.Results, id string) hdf.Control {
	t.Helper()
	for _, c := range doc.Profiles[0].Controls {
		if c.ID == id {
			return c
		}
	}
	t.Fatalf("no control %s", id)
	return hdf.Control{}
}

func TestRun_oneControlsErrorIsItsOwn(t *testing.T) {
	doc := mustRun(t, map[string]string{"controls/a.rb": `
control('before') { describe(1) { it { should eq 1 } } }
control('no resource') { describe(frobnicator('x')) { it { should exist } } }
control('no matcher') { describe(1) { it { should frobnicate 2 } } }
control('group') { describe('x') { frobnicate } }
control('bare expect') { expect(1) }
control('after') { describe(1) { it { should eq 2 } } }
`}, inspec.Options{})
	want := map[string]hdf.Status{
		"before": hdf.Passed, "no resource": hdf.Error, "no matcher": hdf.Error, "group": hdf.Error, "bare expect": hdf.Error, "after": hdf.Failed,
	}
	if diff := cmp.Diff(want, judged(doc)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	if doc.FailureCount != 5 {
		t.Errorf("failure_count %d, want 5", doc.FailureCount)
	}
}

func TestRun_errorOutsideControls(t *testing.T) {
	doc := mustRun(t, map[string]string{
		"controls/a.rb": "control('a') { describe(1) { it { should eq 1 } } }\nfrobnicate\n",
		"controls/b.rb": "control('b') { describe(1) { it { should eq 1 } } }\n",
	}, inspec.Options{})
	got := judged(doc)
	if got["a"] != hdf.Passed || got["b"] != hdf.Passed {
		t.Errorf("statuses %v: the controls that are in order must be judged", got)
	}
	c := doc.Profiles[0].Controls[1]
	if c.Status != hdf.Error || c.SourceLocation.Line != 2 || !strings.Contains(c.Results[0].Message, "frobnicate") {
		t.Errorf("the error at line 2 isn't a control of its own: %+v", c)
	}
}

func TestRun_limitsEndOneControl(t *testing.T) {
	for name, body := range map[string]string{
		"endless loop":        `loop { }`,
		"endless loop in it":  `describe(1) { it { loop { } } }`,
		"deep recursion":      `def deeper(n) = deeper(n + 1); deeper(0)`,
		"gigabytes":           `describe('x' * 10_000_000_000) { it { should eq 1 } }`,
		"endless checks":      `describe(1) { loop { it { should eq 1 } } }`,
		"endless describes":   `loop { describe(1) { it { should eq 1 } } }`,
		"rescued":             `begin; loop { }; rescue Exception; end; describe(1) { it { should eq 1 } }`,
		"catastrophic regexp": `describe('a' * 40 + 'b') { it { should match(/\A(?=(a+)+\z)\1\z/) } }`,
	} {
		t.Run(name, func(t *testing.T) {
			doc := mustRun(t, map[string]string{"controls/a.rb": `
control('bad') { ` + body + ` }
control('good') { describe(1) { it { should eq 1 } } }
`}, inspec.Options{Limits: ruby.Limits{Steps: 200_000, Depth: 500, Memory: 1 << 24, Time: 5 * time.Second, RegexTime: 100 * time.Millisecond}})
			if diff := cmp.Diff(map[string]hdf.Status{"bad": hdf.Error, "good": hdf.Passed}, judged(doc)); diff != "" {
				t.Errorf("statuses (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRun_controlsWithoutEnd(t *testing.T) {
	doc := mustRun(t, map[string]string{
		"controls/a.rb": "loop { |i| control('same') { describe(1) { it { should eq 1 } } } }\n",
		"controls/b.rb": "control('good') { describe(1) { it { should eq 1 } } }\n",
	}, inspec.Options{})
	got := judged(doc)
	if doc.FailureCount != 1 || got["good"] != hdf.Passed {
		t.Errorf("statuses %v: the file without end must be one error, the other must be judged", got)
	}
}

func TestRun_inputs(t *testing.T) {
	files := map[string]string{
		"inspec.yml": `
name: test
inputs:
  - name: declared
    value: from inspec.yml
  - name: number
    type: Numeric
    value: 1
  - name: map
    value: {a: {b: [1]}}
  - name: needed
    type: String
    required: true
`,
		"controls/a.rb": `
control('declared') { describe(input('declared', value: 'inline')) { it { should eq 'from inspec.yml' } } }
control('inline') { describe(input('undeclared', value: 'inline')) { it { should eq 'inline' } } }
control('needed') { describe(input('needed')) { it { should eq 'x' } } }
control('hash') { describe(input('map')) { its(:size) { should eq 1 }; its(['a']) { should eq({ b: [1] }) }; it { expect(subject[:a][:b]).to eq input('map')['a'][:b] } } }
control('object') { describe(input_object('needed')) { its('name') { should eq 'needed' }; its("has_value?") { should eq false } } }
control('in an example') { describe(1) { it { should eq input('number') } } }
`,
	}
	t.Run("the profile's own", func(t *testing.T) {
		want := map[string]hdf.Status{"declared": hdf.Passed, "inline": hdf.Passed, "needed": hdf.Error, "in an example": hdf.Passed, "hash": hdf.Passed, "object": hdf.Passed}
		doc := mustRun(t, files, inspec.Options{})
		if diff := cmp.Diff(want, judged(doc)); diff != "" {
			t.Errorf("statuses (-want +got):\n%s", diff)
		}
		if msg := control(t, doc, "needed").Results[0].Message; msg != "Input 'needed' is required and does not have a value." {
			t.Errorf("message %q", msg)
		}
	})
	t.Run("from outside", func(t *testing.T) {
		want := map[string]hdf.Status{"declared": hdf.Failed, "inline": hdf.Failed, "needed": hdf.Passed, "in an example": hdf.Failed, "hash": hdf.Passed, "object": hdf.Failed}
		doc := mustRun(t, files, inspec.Options{Inputs: map[string]any{"declared": "other", "undeclared": "other", "needed": "x", "number": 2}})
		if diff := cmp.Diff(want, judged(doc)); diff != "" {
			t.Errorf("statuses (-want +got):\n%s", diff)
		}
	})
	t.Run("of the wrong type", func(t *testing.T) {
		_, err := run(t, files, inspec.Options{Inputs: map[string]any{"number": "many"}})
		if err == nil || !strings.Contains(err.Error(), "input number") || !strings.Contains(err.Error(), "Numeric") {
			t.Errorf("error %v", err)
		}
	})
}

func TestRun_selectedControls(t *testing.T) {
	files := map[string]string{"controls/a.rb": `
%w(a-1 a-2 b-1).each { |id| control(id) { describe(1) { it { should eq 1 } } } }
control('boom') { raise 'evaluated all the same' }
`}
	doc := mustRun(t, files, inspec.Options{Controls: []string{"b-1", "/^a-/"}})
	if diff := cmp.Diff(map[string]hdf.Status{"a-1": hdf.Passed, "a-2": hdf.Passed, "b-1": hdf.Passed}, judged(doc)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	if _, err := run(t, files, inspec.Options{Controls: []string{"/(/"}}); err == nil {
		t.Error("a bad regular expression was accepted")
	}
}

func TestRun_progress(t *testing.T) {
	var got []inspec.Progress
	mustRun(t, map[string]string{"controls/a.rb": `
control('a') { title 'first'; impact 0.7; describe(1) { it { should eq 1 } } }
control('b') { describe(1) { it { should eq 2 } } }
`}, inspec.Options{Progress: func(p inspec.Progress) { got = append(got, p) }})
	want := []inspec.Progress{
		{Done: 1, Total: 2, Control: "a", Title: "first", Impact: 0.7, Status: hdf.Passed},
		{Done: 2, Total: 2, Control: "b", Impact: 0.5, Status: hdf.Failed},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
}

func TestRun_contextEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("the agent stops")
	p, err := inspec.Load(write(t, map[string]string{
		"inspec.yml":    "name: test\n",
		"controls/a.rb": "3.times { |i| control(\"c#{i}\") { describe(1) { it { should eq 1 } } } }\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = inspec.Run(ctx, p, smallTarget(t), inspec.Options{Progress: func(p inspec.Progress) {
		if p.Done > 1 {
			t.Error("a control was judged after the context had ended")
		}
		cancel(stop)
	}})
	if !errors.Is(err, stop) {
		t.Errorf("error %v, want the context's cause", err)
	}
}

func TestRun_targetIsGone(t *testing.T) {
	p, err := inspec.Load(write(t, map[string]string{
		"inspec.yml":    "name: test\n",
		"controls/a.rb": "control('a') { describe(command('true')) { its('exit_status') { should eq 0 } } }\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	tgt := gone{smallTarget(t)}
	_, err = inspec.Run(t.Context(), p, tgt, inspec.Options{})
	var lost *target.LostError
	if !errors.As(err, &lost) {
		t.Errorf("error %v, want a *target.LostError", err)
	}
}

type gone struct{ target.Target }

func (gone) Run(context.Context, string) (target.CommandResult, error) {
	return target.CommandResult{}, &target.LostError{URI: "shell:x", Reason: "the container ended"}
}

func TestRun_unsupportedPlatform(t *testing.T) {
	doc := mustRun(t, map[string]string{
		"inspec.yml":    "name: test\nsupports:\n  - platform-name: windows\n",
		"controls/a.rb": "control('a') { describe(1) { it { should eq 1 } } }\n",
	}, inspec.Options{})
	p := doc.Profiles[0]
	if p.Status != "skipped" || len(p.Controls) != 0 || !strings.Contains(p.SkipMessage, "unsupported platform: 'debian/") {
		t.Errorf("status %q, %d controls, %q", p.Status, len(p.Controls), p.SkipMessage)
	}
}

func TestRun_whatAControlSaysOfItself(t *testing.T) {
	doc := mustRun(t, map[string]string{"controls/a.rb": `title 'The file'

control 'a' do
  impact 'critical'
  title 'A title'
  desc '
    Indented
      more
  '
  desc 'fix', 'do it'
  tag 'bare', nist: ['AC-6'], count: 2
  ref 'A book', url: 'https://book.example'
  describe file('/etc/passwd') do
    it { should exist }
  end
end
`}, inspec.Options{})
	got := control(t, doc, "a")
	res := got.Results[0]
	if res.ResourceClass != "file" || res.StartTime == "" || res.CodeDesc != "File /etc/passwd is expected to exist" {
		t.Errorf("result %+v", res)
	}
	got.Results = nil
	want := hdf.Control{
		ID: "a", Title: "A title", Desc: "Indented\n  more", Impact: 0.9, Status: hdf.Passed,
		Descriptions:   []hdf.Description{{Label: "default", Data: "Indented\n  more"}, {Label: "fix", Data: "do it"}},
		Tags:           map[string]any{"bare": nil, "nist": []any{"AC-6"}, "count": int64(2)},
		Refs:           []any{map[string]any{"ref": "A book", "url": "https://book.example"}},
		SourceLocation: hdf.SourceLocation{Line: 3, Ref: "test/controls/a.rb"},
	}
	code := got.Code
	got.Code = ""
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("control (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(code, "control 'a' do\n") || !strings.HasSuffix(strings.TrimSpace(code), "end") || strings.Contains(code, "The file") {
		t.Errorf("code:\n%s", code)
	}
	groups := []hdf.Group{{ID: "controls/a.rb", Title: "The file", Controls: []string{"a"}}}
	if diff := cmp.Diff(groups, doc.Profiles[0].Groups); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
}

func TestRun_gateOfAFile(t *testing.T) {
	doc := mustRun(t, map[string]string{
		"controls/a.rb": `
control('above') { describe(1) { it { should eq 1 } } }
only_if('not here') { false }
control('below') { describe(1) { it { should eq 1 } } }
`,
		"controls/b.rb": "control('elsewhere') { describe(1) { it { should eq 1 } } }\n",
	}, inspec.Options{})
	want := map[string]hdf.Status{"above": hdf.Skipped, "below": hdf.Skipped, "elsewhere": hdf.Passed}
	if diff := cmp.Diff(want, judged(doc)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
}

func TestRun_dependencies(t *testing.T) {
	files := map[string]string{
		"inspec.yml":    "name: over\ndepends:\n  - name: base\n    path: base\n",
		"controls/a.rb": "",
		"base/inspec.yml": `
name: base
inputs:
  - name: want
    value: 1
`,
		"base/controls/b.rb": `
control('b-1') { impact 0.9; describe(1) { it { should eq input('want') } } }
control('b-2') { describe(helper) { its('n') { should eq 7 } } }
control('b-3') { describe(1) { it { should eq 2 } } }
`,
		"base/libraries/helper.rb": "class Helper < Inspec.resource(1)\n  name 'helper'\n  def n = 7\nend\n",
	}
	for name, tc := range map[string]struct {
		text string
		want map[string]hdf.Status
	}{
		"all":      {"include_controls 'base'", map[string]hdf.Status{"b-1": hdf.Passed, "b-2": hdf.Passed, "b-3": hdf.Failed}},
		"less one": {"include_controls('base') { skip_control 'b-3' }", map[string]hdf.Status{"b-1": hdf.Passed, "b-2": hdf.Passed}},
		"some":     {"require_controls('base') { control 'b-1' }", map[string]hdf.Status{"b-1": hdf.Passed}},
		"overridden": {
			"include_controls('base') { control('b-3') { impact 0.1; describe(2) { it { should eq 2 } } } }",
			map[string]hdf.Status{"b-1": hdf.Passed, "b-2": hdf.Passed, "b-3": hdf.Passed},
		},
	} {
		t.Run(name, func(t *testing.T) {
			files["controls/a.rb"] = tc.text + "\n"
			doc := mustRun(t, files, inspec.Options{})
			if diff := cmp.Diff(tc.want, judged(doc)); diff != "" {
				t.Errorf("statuses (-want +got):\n%s", diff)
			}
			if name == "overridden" && control(t, doc, "b-3").Impact != 0.1 {
				t.Error("the impact isn't the overlay's")
			}
		})
	}
}

func TestRun_inspecProfile(t *testing.T) {
	doc := mustRun(t, map[string]string{
		"controls/a.rb":  "control('a') { describe(inspec.profile.file('list.txt').lines.map(&:strip)) { it { should eq %w(x y) } } }\n",
		"files/list.txt": "x\ny\n",
	}, inspec.Options{})
	if s := control(t, doc, "a").Status; s != hdf.Passed {
		t.Errorf("status %s", s)
	}
}

func TestRun_sameEachTime(t *testing.T) {
	files := map[string]string{"controls/a.rb": "describe(1) { it { should eq 1 } }\ndescribe(2) { it { should eq 2 } }\n"}
	ids := func() (out []string) {
		for _, c := range mustRun(t, files, inspec.Options{}).Profiles[0].Controls {
			out = append(out, c.ID)
		}
		return out
	}
	one, two := ids(), ids()
	if len(one) != 2 || one[0] == one[1] || !slices.Equal(one, two) {
		t.Errorf("ids %v, then %v", one, two)
	}
}

// A profile is shared by runs side by side, as in an agent with two scans.
func TestRun_sideBySide(t *testing.T) {
	p, err := inspec.Load("testdata/probe")
	if err != nil {
		t.Fatal(err)
	}
	tgt := smallTarget(t)
	var g errgroup.Group
	counts := make([]hdf.Counts, 4)
	for i := range counts {
		g.Go(func() error {
			doc, err := inspec.Run(t.Context(), p, tgt, inspec.Options{Controls: []string{"/^[mfi]-/"}})
			if err == nil {
				counts[i] = doc.Counts()
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, n := range counts {
		if n != counts[0] || n.Passed == 0 {
			t.Errorf("runs of one profile differ: %+v", counts)
		}
	}
}

func TestProfile_Controls(t *testing.T) {
	p, err := inspec.Load(write(t, map[string]string{
		"inspec.yml": "name: test\nsupports:\n  - platform-name: windows\n",
		"controls/a.rb": `
control('a') { impact 0.9; title 'first'; only_if { false }; tag level: 1; describe(command('true')) { its('stdout') { should eq '' } } }
control('b') { title 'second'; describe(command('x').stdout.strip) { it { should eq '' } } }
`,
	}))
	if err != nil {
		t.Fatal(err)
	}
	controls, err := p.Controls(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	type short struct {
		ID, Title string
		Impact    float64
		Results   int
	}
	var got []short
	for _, c := range controls {
		got = append(got, short{c.ID, c.Title, c.Impact, len(c.Results)})
	}
	if diff := cmp.Diff([]short{{"a", "first", 0.9, 0}, {"b", "second", 0.5, 0}}, got); diff != "" {
		t.Errorf("controls (-want +got):\n%s", diff)
	}
}

// The members that the schema of exec-json requires (heimdall2,
// libs/inspecjs/schemas/exec-json.json) are there and aren't null.
func TestRun_documentHasWhatHDFRequires(t *testing.T) {
	doc := mustRun(t, map[string]string{"controls/a.rb": `
control('a') { describe(1) { it { should eq 1 }; it { raise 'x' } } }
control('b') {}
`}, inspec.Options{Version: "1.2.3"})
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatal(err)
	}
	need := func(what string, v any, members ...string) {
		for _, m := range members {
			if v.(map[string]any)[m] == nil {
				t.Errorf("%s has no %s", what, m)
			}
		}
	}
	need("the document", root, "platform", "profiles", "statistics", "version", "failure_count")
	need("platform", root["platform"], "name", "release")
	for _, p := range root["profiles"].([]any) {
		need("profile", p, "name", "sha256", "supports", "attributes", "groups", "controls")
		for _, c := range p.(map[string]any)["controls"].([]any) {
			need("control", c, "id", "impact", "refs", "tags", "source_location", "results", "status")
			for _, r := range c.(map[string]any)["results"].([]any) {
				need("result", r, "status", "code_desc", "start_time")
			}
		}
	}
}
