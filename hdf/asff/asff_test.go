package asff_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"reeve.dev/reeve/hdf/asff"
	"reeve.dev/reeve/hdf/hdftest"
)

var account = asff.Account{ID: "123456789012", Region: "eu-central-1"}

func TestWrite(t *testing.T) {
	var b bytes.Buffer
	if err := asff.Write(&b, hdftest.Sample(), account); err != nil {
		t.Fatal(err)
	}
	hdftest.Golden(t, "sample.json", b.Bytes())
}

func TestWrite_hostileAndLongText(t *testing.T) {
	r := hdftest.Hostile()
	for i := range r.Profiles {
		r.Profiles[i].Name += strings.Repeat("n", 600)
		for j := range r.Profiles[i].Controls {
			c := &r.Profiles[i].Controls[j]
			c.Title, c.Desc = strings.Repeat("ü", 300), strings.Repeat("ü", 2000)
		}
	}
	var b bytes.Buffer
	if err := asff.Write(&b, r, account); err != nil {
		t.Fatal(err)
	}
	var findings []struct {
		Id, GeneratorId, Title, Description string
		Resources                           []struct {
			Id      string
			Details struct{ Other map[string]string }
		}
	}
	if err := json.Unmarshal(b.Bytes(), &findings); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, f := range findings {
		ids[f.Id] = true
		for what, c := range map[string]struct {
			text string
			most int
		}{
			"Id": {f.Id, 512}, "GeneratorId": {f.GeneratorId, 512}, "Title": {f.Title, 256}, "Description": {f.Description, 1024},
			"resource": {f.Resources[0].Id, 512}, "Results": {f.Resources[0].Details.Other["Results"], 1023},
		} {
			if n := utf8.RuneCountInString(c.text); n == 0 || n > c.most || strings.ContainsAny(c.text, "\x00\x1b") {
				t.Errorf("%s has %d characters: %q", what, n, c.text)
			}
		}
	}
	if len(ids) != len(findings) || len(ids) == 0 {
		t.Errorf("%d ids for %d findings", len(ids), len(findings))
	}
}

func TestWrite_refusesWhatIsNoAccount(t *testing.T) {
	for _, a := range []asff.Account{{}, {ID: "12345678901", Region: "eu-central-1"}, {ID: "123456789012"}, {ID: "123456789012", Region: "eu/../x"}} {
		if err := asff.Write(io.Discard, hdftest.Sample(), a); !errors.Is(err, asff.ErrAccount) {
			t.Errorf("%+v: %v", a, err)
		}
	}
}
