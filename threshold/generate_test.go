package threshold_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/threshold"
)

func TestGenerate(t *testing.T) {
	doc := &hdf.Results{Profiles: []hdf.Profile{{Name: "a", Controls: []hdf.Control{
		control("a-1", 1, hdf.Failed), control("a-2", 0.7, hdf.Passed), control("a-3", 0, hdf.Skipped),
	}}}}
	got, err := threshold.Generate(doc, threshold.GenerateOptions{Controls: true})
	if err != nil {
		t.Fatal(err)
	}
	want := `compliance:
  min: 50
passed:
  total:
    min: 1
  critical:
    min: 0
  high:
    min: 1
    controls:
      - a-2
  medium:
    min: 0
  low:
    min: 0
failed:
  total:
    max: 1
  critical:
    max: 1
    controls:
      - a-1
  high:
    max: 0
  medium:
    max: 0
  low:
    max: 0
skipped:
  total:
    max: 0
  critical:
    max: 0
  high:
    max: 0
  medium:
    max: 0
  low:
    max: 0
error:
  total:
    max: 0
  critical:
    max: 0
  high:
    max: 0
  medium:
    max: 0
  low:
    max: 0
no_impact:
  total:
    max: 1
  critical:
    max: 0
  high:
    max: 0
  medium:
    max: 0
  low:
    max: 0
  none:
    max: 1
    controls:
      - a-3
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("threshold (-want +got):\n%s", diff)
	}
}

// What is generated is met by the results that it was generated from, by
// Reeve's rules and by SAF's, and not by worse ones.
func TestGenerate_isMet(t *testing.T) {
	files, err := filepath.Glob("testdata/saf/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if filepath.Base(file) == "cases.json" {
			continue
		}
		for name, opt := range map[string]threshold.GenerateOptions{
			"loose": {}, "exact": {Exact: true}, "controls": {Controls: true}, "all": {Exact: true, Controls: true},
		} {
			t.Run(filepath.Base(file)+" "+name, func(t *testing.T) {
				doc := read(t, file)
				text, err := threshold.Generate(doc, opt)
				if err != nil {
					t.Fatal(err)
				}
				strict, err := threshold.Parse(text)
				if err != nil {
					t.Fatalf("%v in\n%s", err, text)
				}
				if found := strict.Check(doc); len(found) > 0 {
					t.Errorf("isn't met: %v", found)
				}
				opt.SAF = true
				if text, err = threshold.Generate(doc, opt); err != nil {
					t.Fatal(err)
				}
				saf, err := threshold.ParseSAF(text)
				if err != nil {
					t.Fatal(err)
				}
				if found := saf.Check(doc); found != nil {
					t.Errorf("SAF says: %s", found.Message)
				}
				doc.Profiles = append(doc.Profiles, hdf.Profile{Name: "worse", Controls: []hdf.Control{control("w", 1, hdf.Failed)}})
				if found := strict.Check(doc); len(found) == 0 {
					t.Error("one more failed control still meets it")
				}
			})
		}
	}
}

func read(t *testing.T, file string) *hdf.Results {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var doc hdf.Results
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	return &doc
}
