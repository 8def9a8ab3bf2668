package sarif_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"reeve.dev/reeve/hdf/hdftest"
	"reeve.dev/reeve/hdf/sarif"
)

func TestWrite(t *testing.T) {
	var b bytes.Buffer
	if err := sarif.Write(&b, hdftest.Sample()); err != nil {
		t.Fatal(err)
	}
	hdftest.Golden(t, "sample.sarif", b.Bytes())
}

func TestWrite_hostileText(t *testing.T) {
	var b bytes.Buffer
	if err := sarif.Write(&b, hdftest.Hostile()); err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Runs []struct {
			Tool struct {
				Driver struct{ Rules []struct{ ID string } }
			}
			Results []struct {
				RuleID    string
				RuleIndex int
				Message   struct{ Text string }
				Locations []struct {
					PhysicalLocation struct{ ArtifactLocation struct{ URI string } }
				}
			}
		}
	}
	if err := json.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	run := doc.Runs[0]
	for _, r := range run.Results {
		if run.Tool.Driver.Rules[r.RuleIndex].ID != r.RuleID {
			t.Errorf("%q isn't rule %d", r.RuleID, r.RuleIndex)
		}
		if strings.Contains(r.Message.Text, "[x](http") {
			t.Errorf("a text became a link: %q", r.Message.Text)
		}
		if u, err := url.Parse(r.Locations[0].PhysicalLocation.ArtifactLocation.URI); err != nil || u.Scheme != "" || u.Host != "" || strings.HasPrefix(u.Path, "..") {
			t.Errorf("location %q: %v", u, err)
		}
	}
	if len(run.Results) == 0 {
		t.Error("no results")
	}
}
