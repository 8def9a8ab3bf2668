package cli_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/hdf/cli"
)

func results() *hdf.Results {
	r := &hdf.Results{
		Platform: hdf.Platform{Name: "debian", Release: "12.15"},
		Version:  "1",
		Profiles: []hdf.Profile{{
			Name: "base", Title: "The base", Version: "1.0.0",
			Controls: []hdf.Control{
				{ID: "(generated from a.rb:9 00)", Results: []hdf.Result{{Status: hdf.Passed, CodeDesc: "outside is expected to eq 1"}}},
				{ID: "a-1", Title: "good", Results: []hdf.Result{{Status: hdf.Passed, CodeDesc: "x is expected to eq 1"}}},
				{ID: "a-2", Title: "bad", Results: []hdf.Result{
					{Status: hdf.Skipped, CodeDesc: "y", SkipMessage: "by hand"},
					{Status: hdf.Failed, CodeDesc: "x is expected to eq 2", Message: "\nexpected: 2\n     got: 1\n"},
				}},
				{ID: "a-3", Title: "broken\x1b[2J", Results: []hdf.Result{{Status: hdf.Error, CodeDesc: "Control Source Code Error a.rb:3 ", Message: "divided by 0", Backtrace: []string{"a.rb:3"}}}},
				{ID: "a-4", Title: "gate", Results: []hdf.Result{{Status: hdf.Skipped, CodeDesc: "No-op", SkipMessage: "Skipped control due to only_if condition."}}},
			},
		}},
	}
	r.Seal()
	return r
}

func TestWrite(t *testing.T) {
	var b strings.Builder
	if err := cli.Write(&b, results(), false); err != nil {
		t.Fatal(err)
	}
	want := `
Profile:   The base (base)
Version:   1.0.0
Platform:  debian 12.15

  ✔  a-1: good
     ✔  x is expected to eq 1
  ×  a-2: bad
     ↺  by hand
     ×  x is expected to eq 2

     expected: 2
          got: 1
  !  a-3: broken[2J
     !  Control Source Code Error a.rb:3 
     divided by 0
  ↺  a-4: gate
     ↺  Skipped control due to only_if condition.
  ✔  outside is expected to eq 1
     ✔  outside is expected to eq 1

Profile Summary: 1 successful control, 1 control failure, 1 control skipped, 1 control could not be judged
Test Summary: 2 successful, 1 failure, 2 skipped, 1 error
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("printed (-want +got):\n%s", diff)
	}
}

func TestWrite_colorsOnlyWhenAsked(t *testing.T) {
	var plain, colored strings.Builder
	if err := cli.Write(&plain, results(), false); err != nil {
		t.Fatal(err)
	}
	if err := cli.Write(&colored, results(), true); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(plain.String(), "\x1b") {
		t.Error("escapes without colour")
	}
	if !strings.Contains(colored.String(), "\x1b[38;5;9m  ×  a-2: bad\x1b[0m") {
		t.Errorf("a failed control isn't red:\n%q", colored.String())
	}
}

func TestWrite_unsupportedPlatform(t *testing.T) {
	r := &hdf.Results{Version: "1", Profiles: []hdf.Profile{{Name: "win", Status: "skipped", StatusMessage: "Skipping profile: 'win' on unsupported platform: 'debian/12'."}}}
	r.Seal()
	var b strings.Builder
	if err := cli.Write(&b, r, false); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "Skipping profile: 'win'") {
		t.Errorf("the reason is missing:\n%s", b.String())
	}
}

// An overlay and its base are one profile to a reader.
func TestWrite_overlay(t *testing.T) {
	r := &hdf.Results{Version: "1", Profiles: []hdf.Profile{
		{Name: "over", Controls: []hdf.Control{{ID: "a", Title: "good", Impact: 1}}},
		{Name: "base", ParentProfile: "over", Controls: []hdf.Control{{ID: "a", Title: "good", Impact: 1, Results: []hdf.Result{{Status: hdf.Passed, CodeDesc: "x"}}}}},
	}}
	r.Seal()
	var b strings.Builder
	if err := cli.Write(&b, r, false); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); strings.Contains(got, "base") || !strings.Contains(got, "  ✔  a: good\n     ✔  x\n") || !strings.Contains(got, "Profile Summary: 1 successful control, 0 ") {
		t.Errorf("printed\n%s", got)
	}
}
