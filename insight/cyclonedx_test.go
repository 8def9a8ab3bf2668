package insight_test

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/lagoon"
)

const smallBOM = `{
  "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
  "bomFormat": "CycloneDX",
  "specVersion": "1.6",
  "serialNumber": "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79",
  "version": 1,
  "metadata": {"component": {"type": "container", "name": "nginx", "version": "sha256:1"}, "lifecycles": [{"phase": "build"}]},
  "components": [
    {"type": "library", "name": "openssl", "version": "3.0.1", "purl": "pkg:deb/debian/openssl@3.0.1?distro=debian-12&arch=amd64", "licenses": [{"expression": "Apache-2.0"}]},
    {"type": "library", "name": "openssl", "version": "3.0.1", "purl": "pkg:deb/debian/openssl@3.0.1?arch=amd64&distro=debian-12"},
    {"type": "application", "group": "org.acme", "name": "app", "version": "1", "components": [
      {"type": "library", "name": "inner", "version": "2", "purl": "no purl"}
    ]},
    {"type": "library", "name": "@npmcli/arborist", "version": "2.6.2", "purl": "pkg:npm/@npmcli%2Farborist@2.6.2"}
  ],
  "dependencies": [{"ref": "a", "dependsOn": ["b"]}]
}`

func TestParseSBOM(t *testing.T) {
	got, err := insight.ParseSBOM(iotest.OneByteReader(strings.NewReader(smallBOM)), 100)
	if err != nil {
		t.Fatal(err)
	}
	want := &insight.SBOM{
		SpecVersion: "1.6", SerialNumber: "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79",
		SubjectName: "nginx", SubjectVersion: "sha256:1",
		Components: []insight.Component{
			{PURL: "pkg:deb/debian/openssl@3.0.1?arch=amd64&distro=debian-12", Type: "library", Name: "openssl", Version: "3.0.1"},
			{Type: "application", Group: "org.acme", Name: "app", Version: "1"},
			{Type: "library", Name: "inner", Version: "2"},
			{PURL: "pkg:npm/%40npmcli/arborist@2.6.2", Type: "library", Name: "@npmcli/arborist", Version: "2.6.2"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseSBOM_invalid(t *testing.T) {
	bom := func(members string) string {
		return `{"bomFormat":"CycloneDX","specVersion":"1.5",` + members + `}`
	}
	for name, tc := range map[string]struct{ doc, want string }{
		"empty":                {"", "sbom: is cut off"},
		"cut in a component":   {smallBOM[:len(smallBOM)/2], "sbom: is cut off"},
		"cut before its end":   {strings.TrimSuffix(smallBOM, "}"), "sbom: is cut off"},
		"two documents":        {smallBOM + smallBOM, "something follows"},
		"a list":               {"[]", `must begin with '{'`},
		"HTML":                 {`<html></html>`, "must be one bom in"},
		"XML, cut":             {`<bom xmlns="http://cyclonedx.org/schema/bom/1.5"><components>`, "is cut off"},
		"XML, two documents":   {`<bom xmlns="http://cyclonedx.org/schema/bom/1.5"/><bom/>`, "must be one bom"},
		"XML, a name too few":  {`<bom xmlns="http://cyclonedx.org/schema/bom/1.5"><components><component/></components></bom>`, "components[0].name: is missing"},
		"XML, not at all":      {`<bom xmlns="http://cyclonedx.org/schema/bom/1.5"><a></b></bom>`, "isn't XML"},
		"XML of the far":       {`<bom xmlns="http://cyclonedx.org/schema/bom/3.0"/>`, `specVersion: is "3.0"`},
		"another format":       {`{"bomFormat":"Cheese"}`, `bomFormat: is "Cheese", must be "CycloneDX"`},
		"no format":            {`{"a":1}`, "neither CycloneDX (bomFormat) nor SPDX"},
		"SPDX of the past":     {`{"spdxVersion":"SPDX-1.2"}`, `version of SPDX: is "SPDX-1.2"`},
		"SPDX, a wrong name":   {`{"spdxVersion":"SPDX-2.3","packages":[{"name":"a"},{"name":7}]}`, "packages[1].name: is a number, must be a string"},
		"SPDX 3, without one":  {`{"@graph":[{"type":"CreationInfo","specVersion":"3.0.1"},{"type":"software_Package"}]}`, "@graph[1].name: is missing"},
		"a value of 33 MB":     {bom(`"x":"` + strings.Repeat("x", 33<<20) + `"`), "one value of it has more than"},
		"a version of the far": {`{"bomFormat":"CycloneDX","specVersion":"3.0"}`, `specVersion: is "3.0"`},
		"number for a name":    {bom(`"components":[{"name":"a"},{"name":1}]`), "components[1].name: is a number, must be a string"},
		"nested, wrong":        {bom(`"components":[{"name":"a","components":[{"version":"1"}]}]`), "components[0].components[0].name: is missing"},
		"components as object": {bom(`"components":{}`), `components: must begin with '['`},
		"version as number":    {`{"bomFormat":"CycloneDX","specVersion":1.5}`, "specVersion: is a number, must be a string"},
		"too many":             {bom(`"components":[{"name":"a"},{"name":"b"},{"name":"c"},{"name":"d"},{"name":"e"}]`), "components[4]: more than 4 components"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := insight.ParseSBOM(strings.NewReader(tc.doc), 4)
			var invalid *insight.InvalidError
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an InvalidError with %q", err, tc.want)
			}
		})
	}
	t.Run("a disk's error isn't the document's", func(t *testing.T) {
		disk := errors.New("input/output error")
		_, err := insight.ParseSBOM(io.MultiReader(strings.NewReader(smallBOM[:300]), iotest.ErrReader(disk)), 3)
		var invalid *insight.InvalidError
		if !errors.Is(err, disk) || errors.As(err, &invalid) {
			t.Errorf("got %v, want the reader's error", err)
		}
	})
}

func TestPURLPrefix(t *testing.T) {
	for q, want := range map[string]string{
		"pkg:npm/@npmcli%2Farborist@2.6.2":            "pkg:npm/%40npmcli/arborist@2.6.2",
		"pkg:npm/%40npmcli/arborist":                  "pkg:npm/%40npmcli/arborist",
		"pkg:npm/@npmcli%2farborist":                  "pkg:npm/%40npmcli/arborist",
		"pkg:golang/github.com%2Fspf13%2Fcobra@v1":    "pkg:golang/github.com/spf13/cobra@v1",
		"pkg:oci/app@sha256%3A1?repository_url=a%2Fb": "pkg:oci/app@sha256:1?repository_url=a%2Fb",
		"pkg:deb/debian/openssl":                      "pkg:deb/debian/openssl",
		"pkg:deb":                                     "pkg:deb",
	} {
		if got := insight.PURLPrefix(q); got != want {
			t.Errorf("%s: got %s, want %s", q, got, want)
		}
	}
}

// A message that nobody here wrote.
func TestParseSBOM_message(t *testing.T) {
	message, err := os.ReadFile("../../shared/data/lagoon/compressed.json")
	if err != nil {
		t.Skipf("needs the test documents in ../shared/data beside the checkout: %v", err)
	}
	it, err := lagoon.Decode(message)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(strings.NewReader(string(it.Content.(insight.Document).Data)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := insight.ParseSBOM(z, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Components) < 150 || len(got.Components) > 166 {
		t.Errorf("%d components, want about the 166 that the document lists", len(got.Components))
	}
}

func FuzzParseSBOM(f *testing.F) {
	f.Add(smallBOM)
	f.Add(`{"bomFormat":"CycloneDX","specVersion":"1.5","components":[{"name":"a","purl":"pkg:a/b@c"}]}`)
	f.Add(`<bom xmlns="http://cyclonedx.org/schema/bom/1.5"><components><component><name>a</name></component></components></bom>`)
	f.Add(`{"spdxVersion":"SPDX-2.3","packages":[{"name":"a","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:a/b@c"}]}]}`)
	f.Add(`{"@graph":[{"type":"CreationInfo","specVersion":"3.0.1"},{"type":"software_Package","name":"a"}]}`)
	f.Fuzz(func(t *testing.T, doc string) {
		got, err := insight.ParseSBOM(strings.NewReader(doc), 10)
		var invalid *insight.InvalidError
		if err != nil && !errors.As(err, &invalid) {
			t.Fatalf("error isn't an InvalidError: %v", err)
		}
		if check := insight.CheckSBOM(strings.NewReader(doc), 1000); err == nil && check != nil {
			t.Errorf("CheckSBOM refuses what ParseSBOM takes: %v", check)
		}
		if err == nil && len(got.Components) > 10 {
			t.Errorf("%d components are more than allowed", len(got.Components))
		}
	})
}
