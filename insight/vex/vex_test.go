package vex_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/vex"
)

var ignore = cmpopts.IgnoreFields(insight.Statement{}, "Made", "Author", "Detail")

// Documents that nobody here wrote.
func TestParse_others(t *testing.T) {
	git := func(arch string) insight.Statement {
		return insight.Statement{
			Vulnerability: "CVE-2023-12345", Names: []string{"CVE-2023-12345"}, Status: insight.NotAffected, Justification: "inline_mitigations_already_exist",
			Subject: "image:sha256:23a264e6e429852221a963e9f17338ba3f5796dc7086e46439a6f4482cf6e0cb", Component: "pkg:apk/alpine/git@2.38.1-r0?arch=" + arch,
		}
	}
	for file, want := range map[string][]insight.Statement{
		"open-vex-affected.json": {{
			Vulnerability: "CVE-1234-5678", Names: []string{"CVE-1234-5678"}, Status: insight.Affected, Component: "pkg:apk/wolfi/bash@1.0.0",
		}},
		"open-vex-not-affected.json": {git("x86_64"), git("ppc64le")},
		"cyclonedx-vex-affected.json": {{
			Vulnerability: "CVE-2021-44228", Names: []string{"CVE-2021-44228"}, Status: insight.Affected, Subject: "product:ABC",
		}},
		"cyclonedx-vex-no-analysis.json": nil,
	} {
		t.Run(file, func(t *testing.T) {
			f, err := os.Open(filepath.Join("../../../shared/data/vex", file))
			if err != nil {
				t.Skipf("needs the test documents in ../shared/data beside the checkout: %v", err)
			}
			defer f.Close()
			got, err := vex.Parse(f)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, ignore); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParse_cycloneDX(t *testing.T) {
	got, err := vex.Parse(strings.NewReader(`{"bomFormat":"CycloneDX","specVersion":"1.6",
		"metadata":{"timestamp":"2024-01-01T00:00:00Z"},
		"components":[{"bom-ref":"a1","name":"a","purl":"pkg:npm/a@1"}],
		"vulnerabilities":[
			{"id":"CVE-1","references":[{"id":"GHSA-1"}],"analysis":{"state":"false_positive","justification":"code_not_reachable"},"affects":[{"ref":"a1"},{"ref":"pkg:npm/b"}]},
			{"id":"CVE-2","analysis":{"state":"resolved"},"affects":[{"ref":"urn:cdx:f08a6ccd-4dce-4759-bd84-c626675d60a7/1#pkg%3Anpm%2Fc%402"}]}
		]}`))
	if err != nil {
		t.Fatal(err)
	}
	one := insight.Statement{Vulnerability: "CVE-1", Names: []string{"CVE-1", "GHSA-1"}, Status: insight.NotAffected, Justification: "code_not_reachable"}
	two := one
	one.Component, two.Component = "pkg:npm/a@1", "pkg:npm/b"
	want := []insight.Statement{one, two, {
		Vulnerability: "CVE-2", Names: []string{"CVE-2"}, Status: insight.Fixed,
		Subject: "serial:urn:uuid:f08a6ccd-4dce-4759-bd84-c626675d60a7", Component: "pkg:npm/c@2",
	}}
	if diff := cmp.Diff(want, got, ignore); diff != "" {
		t.Error(diff)
	}
}

func TestParse_invalid(t *testing.T) {
	for text, want := range map[string]string{
		``:                    "isn't JSON",
		`{}`:                  "neither OpenVEX",
		`{"statements":[{}]}`: "statements[0].vulnerability.name: is missing",
		`{"statements":[{"vulnerability":"CVE-1","status":"fine","products":[{}]}]}`:                  `statements[0].status: is "fine"`,
		`{"statements":[{"vulnerability":{"name":"CVE-1"},"status":"fixed"}]}`:                        "statements[0].products: is missing",
		`{"bomFormat":"CycloneDX","vulnerabilities":[{"id":"CVE-1","analysis":{"state":"perhaps"}}]}`: `analysis.state: is "perhaps"`,
		`{"bomFormat":"CycloneDX","vulnerabilities":[{"id":1}]}`:                                      "vulnerabilities",
	} {
		_, err := vex.Parse(strings.NewReader(text))
		var invalid *insight.InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an InvalidError with %q", text, err, want)
		}
	}
}

func TestStatement_Covers(t *testing.T) {
	image := insight.Product{Document: "sha256:d", Image: "sha256:i", Serial: "urn:uuid:1", Name: "shop", Version: "2"}
	for name, tc := range map[string]struct {
		s    insight.Statement
		purl string
		want bool
	}{
		"the component":                     {insight.Statement{Component: "pkg:npm/a@1"}, "pkg:npm/a@1", true},
		"every version of it":               {insight.Statement{Component: "pkg:npm/a"}, "pkg:npm/a@1", true},
		"another version":                   {insight.Statement{Component: "pkg:npm/a@2"}, "pkg:npm/a@1", false},
		"whatever else is told of it":       {insight.Statement{Component: "pkg:deb/debian/a@1"}, "pkg:deb/debian/a@1?arch=amd64", true},
		"for another architecture":          {insight.Statement{Component: "pkg:deb/debian/a@1?arch=arm64"}, "pkg:deb/debian/a@1?arch=amd64", false},
		"all of the image":                  {insight.Statement{Subject: "image:sha256:i"}, "pkg:npm/a@1", true},
		"the component of the image":        {insight.Statement{Subject: "image:sha256:i", Component: "pkg:npm/a"}, "pkg:npm/a@1", true},
		"the component of another image":    {insight.Statement{Subject: "image:sha256:j", Component: "pkg:npm/a"}, "pkg:npm/a@1", false},
		"the product in any version":        {insight.Statement{Subject: "product:shop"}, "pkg:npm/a@1", true},
		"the product in another version":    {insight.Statement{Subject: "product:shop@1"}, "pkg:npm/a@1", false},
		"the document by its serial number": {insight.Statement{Subject: "serial:urn:uuid:1"}, "pkg:npm/a@1", true},
		"the document itself":               {insight.Statement{Subject: insight.InDocument("sha256:d"), Component: "pkg:npm/a@1"}, "pkg:npm/a@1", true},
		"nothing":                           {insight.Statement{}, "pkg:npm/a@1", false},
	} {
		if got := tc.s.Covers(image, tc.purl); got != tc.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`{"statements":[{"vulnerability":{"name":"CVE-1"},"status":"fixed","products":[{"@id":"pkg:oci/a@sha256%3A1","subcomponents":[{"@id":"pkg:npm/a"}]}]}]}`)
	f.Add(`{"bomFormat":"CycloneDX","vulnerabilities":[{"id":"CVE-1","analysis":{"state":"resolved"},"affects":[{"ref":"urn:cdx:1/1#a"}]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := vex.Parse(strings.NewReader(text))
		var invalid *insight.InvalidError
		if err != nil && !errors.As(err, &invalid) {
			t.Fatalf("error isn't an InvalidError: %v", err)
		}
		for _, s := range got {
			s.Covers(insight.Product{Name: "a"}, "pkg:npm/a@1")
		}
	})
}
