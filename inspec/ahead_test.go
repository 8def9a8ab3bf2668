package inspec_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/target"
)

// TestRun_ahead holds a run with much asked ahead against one that asks in
// order: the same results, the same commands, once each.
func TestRun_ahead(t *testing.T) {
	dir := t.TempDir()
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, "control('c%02d') { describe(command(\"echo %[1]d; echo %[1]d >>#{DIR}/log\")) { its('stdout') { should eq \"%[1]d\\n\" } } }\n", i)
	}
	files := map[string]string{
		"inspec.yml":       "name: test\n",
		"libraries/dir.rb": fmt.Sprintf("DIR = '%s'\n", dir),
		"controls/a.rb": b.String() + `
names = command("ls #{DIR}/data").stdout.split
names.each { |n| control("file #{n}") { describe(file("#{DIR}/data/#{n}")) { it { should be_file }; its('content') { should match(/#{n}/) } } } }
control('chain') do
  first = command("echo one; echo chain >>#{DIR}/log").stdout.strip
  second = command("echo #{first} two; echo chain >>#{DIR}/log").stdout.strip
  describe(command("echo #{second} three; echo chain >>#{DIR}/log").stdout) { it { should eq "one two three\n" } }
end
control('gated') do
  only_if('no such file') { file("#{DIR}/none").exist? }
  describe(command("touch #{DIR}/gated")) { its('exit_status') { should eq 0 } }
end
control('otherwise') do
  if file("#{DIR}/data/x").exist?
    describe('there') { it { should eq 'there' } }
  else
    describe(command("touch #{DIR}/otherwise")) { its('exit_status') { should eq 0 } }
  end
end
control('loop') { %w[x y z].each { |n| describe(n) { it { should eq n } } if file("#{DIR}/data/#{n}").exist? } }
control('broken') { describe(command("false; echo broken >>#{DIR}/log").stdout.frobnicate) { it { should eq 1 } } }
`,
	}
	results := func(jobs int) (*hdf.Results, inspec.Stats, []string) {
		os.RemoveAll(dir)
		os.MkdirAll(filepath.Join(dir, "data"), 0o755)
		for _, n := range []string{"x", "y"} {
			os.WriteFile(filepath.Join(dir, "data", n), []byte(n), 0o644)
		}
		tgt, err := target.Open(t.Context(), "shell:/bin/sh")
		if err != nil {
			t.Fatal(err)
		}
		defer tgt.Close()
		p, err := inspec.Load(write(t, files))
		if err != nil {
			t.Fatal(err)
		}
		var stats inspec.Stats
		doc, err := inspec.Run(t.Context(), p, tgt, inspec.Options{Jobs: jobs, Stats: &stats})
		if err != nil {
			t.Fatal(err)
		}
		log, err := os.ReadFile(filepath.Join(dir, "log"))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{"gated", "otherwise"} {
			if _, err := os.Stat(filepath.Join(dir, n)); err == nil {
				t.Errorf("%d jobs: the command of %q was run, which no profile asked for", jobs, n)
			}
		}
		lines := strings.Fields(string(log))
		slices.Sort(lines)
		return doc, stats, lines
	}
	want, one, wantLog := results(1)
	got, many, gotLog := results(4)
	if diff := cmp.Diff(wantLog, gotLog); diff != "" {
		t.Errorf("commands (-one by one +side by side):\n%s", diff)
	}
	for _, doc := range []*hdf.Results{want, got} {
		doc.Statistics.Duration = 0
		for _, c := range doc.Profiles[0].Controls {
			for i := range c.Results {
				c.Results[i].RunTime, c.Results[i].StartTime = 0, ""
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results (-one by one +side by side):\n%s", diff)
	}
	if s := judged(got)["chain"]; s != hdf.Passed {
		t.Errorf("chain is %s", s)
	}
	if one.Commands != many.Commands || many.RoundTrips >= one.RoundTrips/2 {
		t.Errorf("side by side: %+v\none by one: %+v", many, one)
	}
	if many.Own+many.Waiting != many.Wall || many.Own <= 0 {
		t.Errorf("times don't add up: %+v", many)
	}
}

// TestRun_aheadEnds has a profile ask something else each time that it is
// evaluated, in a control and outside of any.
func TestRun_aheadEnds(t *testing.T) {
	for name, source := range map[string]string{
		"ids":     `$n = $n.to_i + 1; control("c#{$n if $n > 1}") { describe(command("ls /#{$n}").stdout + command("ls /#{$n}").stderr) { it { should_not eq '' } } }; control('slow') { describe(command("i=0; while test $i -lt 30; do i=$((i+1)); sleep 0.01; done")) { its('exit_status') { should eq 0 } } }`,
		"control": `control('c') { $n = $n.to_i + 1; describe(command("ls /#{$n}").stdout + command("ls /#{$n}").stderr) { it { should_not eq '' } } }`,
		"file":    `$n = $n.to_i + 1; text = command("ls /#{$n}").stderr; control('c') { describe(text) { it { should match(/1/) } } }`,
	} {
		t.Run(name, func(t *testing.T) {
			tgt, err := target.Open(t.Context(), "shell:/bin/sh")
			if err != nil {
				t.Fatal(err)
			}
			defer tgt.Close()
			p, err := inspec.Load(write(t, map[string]string{"inspec.yml": "name: test\n", "controls/a.rb": source}))
			if err != nil {
				t.Fatal(err)
			}
			var stats inspec.Stats
			doc, err := inspec.Run(t.Context(), p, tgt, inspec.Options{Stats: &stats})
			if err != nil {
				t.Fatal(err)
			}
			if got := judged(doc); got["c"] != hdf.Passed || len(got) != strings.Count(source, "control(") {
				t.Errorf("got %v", got)
			}
			if stats.Commands > 20 {
				t.Errorf("%d commands were run where the profile asks for one or two", stats.Commands)
			}
		})
	}
}
