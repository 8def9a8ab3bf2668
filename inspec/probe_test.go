package inspec_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/target"
)

// verdicts is what the real InSpec said, in the form of testdata/probe.
type verdicts struct {
	Controls []verdict `json:"controls"`
}

type verdict struct {
	ID      string
	Impact  float64
	Status  string
	Results [][4]*string
}

// TestProbe compares every control of the probe with what InSpec 5.24 says:
// status, code_desc, skip message and message of each result. The controls of
// d_resources.rb need the target that InSpec looked at; REEVE_PROBE_TARGET
// names one, made by make-target.sh, and REEVE_PROBE_FORM its form.
func TestProbe(t *testing.T) {
	uri, form := os.Getenv("REEVE_PROBE_TARGET"), os.Getenv("REEVE_PROBE_FORM")
	if form == "" {
		form = "container"
	}
	var tgt target.Target
	if uri != "" {
		var err error
		if tgt, err = target.Open(t.Context(), uri); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tgt.Close() })
	} else {
		tgt = smallTarget(t)
	}
	p, err := inspec.Load("testdata/probe")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := inspec.Run(t.Context(), p, tgt, inspec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]hdf.Control{}
	for _, c := range doc.Profiles[0].Controls {
		got[generatedID.ReplaceAllString(c.ID, " *)")] = c
	}
	for _, w := range readVerdicts(t, "testdata/probe/verdicts."+form+".json") {
		t.Run(w.ID, func(t *testing.T) {
			if strings.HasPrefix(w.ID, "r-") && uri == "" {
				t.Skip("needs the target that InSpec looked at: set REEVE_PROBE_TARGET")
			}
			c, ok := got[w.ID]
			if !ok {
				t.Fatal("the control is not in the results")
			}
			if diff := cmp.Diff(lines(w), lines(verdictOf(c))); diff != "" {
				t.Errorf("verdict (-InSpec +ours):\n%s", diff)
			}
		})
		delete(got, w.ID)
	}
	for id := range got {
		t.Errorf("control %s is in the results, but InSpec has none of that id", id)
	}
}

func readVerdicts(t *testing.T, file string) []verdict {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v verdicts
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v.Controls
}

func verdictOf(c hdf.Control) verdict {
	v := verdict{ID: generatedID.ReplaceAllString(c.ID, " *)"), Impact: c.Impact, Status: string(c.Status)}
	if len(c.Results) == 0 {
		v.Status = "no-result"
	}
	for _, r := range c.Results {
		status := string(r.Status)
		row := [4]*string{&status, &r.CodeDesc, nil, nil}
		if r.Status == hdf.Skipped {
			row[2] = &r.SkipMessage
		}
		if r.Message != "" {
			row[3] = &r.Message
		}
		v.Results = append(v.Results, row)
	}
	return v
}

// lines is a verdict as text, one line a result, without what differs between
// two runs of InSpec itself (addresses, counters of classes) and without what
// isn't a verdict: diffs (the golden files have none), Ruby's hints on where
// in its own source an error arose, and the insides of InSpec's objects.
func lines(v verdict) []string {
	out := []string{fmt.Sprintf("%s %s %v", v.ID, v.Status, v.Impact)}
	for _, r := range v.Results {
		parts := make([]string, len(r))
		for i, s := range r {
			if s == nil {
				continue
			}
			text := *s
			for _, n := range noise {
				text = n.re.ReplaceAllString(text, n.with)
			}
			if i == 3 {
				text = cut(text)
			}
			parts[i] = fmt.Sprintf("%q", text)
		}
		out = append(out, strings.Join(parts, " "))
	}
	return out
}

// shown is how much of a message the golden files keep.
const shown = 200

func cut(s string) string {
	s = strings.TrimRight(strings.TrimSuffix(s, "…"), "\n")
	if utf8.RuneCountInString(s) >= shown {
		s = string([]rune(s)[:shown])
	}
	return s
}

var (
	generatedID = regexp.MustCompile(` [0-9a-f]{32}\)$`)
	noise       = []struct {
		re   *regexp.Regexp
		with string
	}{
		{regexp.MustCompile(`(?s)\n+Diff:.*`), ""},
		{regexp.MustCompile(`(?s)\n\n +inner_subject\.send\(attr\).*`), ""},
		{regexp.MustCompile(`(?s)\nDid you mean\?.*`), ""},
		{regexp.MustCompile(`0x[0-9a-f]+`), "0x0"},
		{regexp.MustCompile(`(?s)#<Inspec::Rule\b.*`), "#<Inspec::Rule>"},
		{regexp.MustCompile(`(?s)#<(#<Class:0x0>|Inspec::Resources::\w+):0x0 .*`), "#<resource>"},
		{regexp.MustCompile(`(RSpec::ExampleGroups::\w+?)_\d+ `), "$1 "},
	}
)

// smallTarget is what the controls need that hardly look at their target: a
// few files, and this machine's shell.
func smallTarget(t *testing.T) target.Target {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/passwd":     "root:x:0:0:root:/root:/bin/bash\n",
		"etc/group":      "root:x:0:\n",
		"etc/hostname":   "target\n",
		"etc/os-release": "ID=debian\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/debian_version"), []byte("12.15\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	files, err := target.Open(t.Context(), "dir:"+root)
	if err != nil {
		t.Fatal(err)
	}
	shell, err := target.Open(t.Context(), "shell:env HOME=/root sh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close(); shell.Close() })
	return filesAndShell{files, shell}
}

// filesAndShell is a target with the files of one and the shell of another.
type filesAndShell struct {
	target.Target
	shell target.Target
}

func (f filesAndShell) Run(ctx context.Context, cmd string) (target.CommandResult, error) {
	return f.shell.Run(ctx, cmd)
}
