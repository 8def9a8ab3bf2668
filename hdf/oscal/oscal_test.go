package oscal_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"testing"

	"reeve.dev/reeve/hdf/hdftest"
	"reeve.dev/reeve/hdf/oscal"
)

func TestWrite(t *testing.T) {
	var b, again bytes.Buffer
	if err := oscal.Write(&b, hdftest.Sample()); err != nil {
		t.Fatal(err)
	}
	hdftest.Golden(t, "sample.json", b.Bytes())
	if err := oscal.Write(&again, hdftest.Sample()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), again.Bytes()) {
		t.Error("the same results make two documents")
	}
}

// The datatypes of the model: a property's value and a target's id.
var (
	value = regexp.MustCompile(`^\S(.*\S)?$`)
	token = regexp.MustCompile(`^(\p{L}|_)(\p{L}|\p{N}|[.\-_])*$`)
)

func TestWrite_hostileText(t *testing.T) {
	var b bytes.Buffer
	if err := oscal.Write(&b, hdftest.Hostile()); err != nil {
		t.Fatal(err)
	}
	type prop struct{ Value string }
	var doc struct {
		Results struct {
			Results []struct {
				Props    []prop
				Findings []struct {
					Props  []prop
					Target struct {
						ID string `json:"target-id"`
					}
				}
			}
		} `json:"assessment-results"`
	}
	if err := json.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	findings := 0
	for _, r := range doc.Results.Results {
		props := r.Props
		for _, f := range r.Findings {
			findings++
			props = append(props, f.Props...)
			if !token.MatchString(f.Target.ID) {
				t.Errorf("target-id %q", f.Target.ID)
			}
		}
		for _, p := range props {
			if !value.MatchString(p.Value) {
				t.Errorf("value %q", p.Value)
			}
		}
	}
	if findings == 0 {
		t.Error("no findings")
	}
}
