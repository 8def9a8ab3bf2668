package insight_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/insight"
)

func TestParseSBOM_formats(t *testing.T) {
	const log4j = "pkg:maven/org.apache/log4j@2.17"
	component := insight.Component{PURL: log4j, Type: "library", Group: "org.apache", Name: "log4j", Version: "2.17"}
	groupless := component
	groupless.Group = ""
	for name, tc := range map[string]struct {
		doc  string
		want insight.SBOM
	}{
		"CycloneDX in XML": {
			`<?xml version="1.0" encoding="UTF-8"?>
<bom xmlns="http://cyclonedx.org/schema/bom/1.6" serialNumber="urn:uuid:1" version="1">
  <metadata><timestamp>2026-01-01T00:00:00Z</timestamp><component type="container"><name>shop</name><version>1</version></component></metadata>
  <components>
    <component type="library" bom-ref="a"><group>org.apache</group><name> log4j </name><version>2.17</version><licenses><license><id>Apache-2.0</id></license></licenses><purl>` + log4j + `</purl>
      <components><component type="file"><name>inner</name></component></components>
    </component>
  </components>
  <dependencies><dependency ref="a"/></dependencies>
  <vulnerabilities><vulnerability><id>CVE-1</id></vulnerability></vulnerabilities>
</bom>`,
			insight.SBOM{
				SpecVersion: "1.6", SerialNumber: "urn:uuid:1", SubjectName: "shop", SubjectVersion: "1", Analysed: true,
				Components: []insight.Component{component, {Type: "file", Name: "inner"}},
			},
		},
		"SPDX 2.3": {
			"\xef\xbb\xbf" + ` {"spdxVersion":"SPDX-2.3","name":"shop","documentNamespace":"https://x/1","creationInfo":{"creators":["Tool: x"]},
  "packages":[{"SPDXID":"a","name":"log4j","versionInfo":"2.17","primaryPackagePurpose":"LIBRARY","externalRefs":[
    {"referenceCategory":"SECURITY","referenceType":"cpe23Type","referenceLocator":"cpe:2.3:a"},
    {"referenceCategory":"PACKAGE-MANAGER","referenceType":"purl","referenceLocator":"` + log4j + `"}]},
    {"SPDXID":"b","name":"root","primaryPackagePurpose":"OPERATING_SYSTEM"}],
  "files":[{"fileName":"a"}],"relationships":[]}`,
			insight.SBOM{
				SpecVersion: "SPDX-2.3", SerialNumber: "https://x/1", SubjectName: "shop",
				Components: []insight.Component{groupless, {Type: "operating-system", Name: "root"}},
			},
		},
		"SPDX 3": {
			`{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[
  {"type":"CreationInfo","@id":"_:c","specVersion":"3.0.1","created":"2026-01-01T00:00:00Z"},
  {"type":"SpdxDocument","spdxId":"https://x/doc","creationInfo":"_:c","name":"shop","rootElement":["https://x/a"]},
  {"type":"software_Package","spdxId":"https://x/a","name":"log4j","software_packageVersion":"2.17","software_packageUrl":"` + log4j + `"},
  {"type":"software_Package","spdxId":"https://x/b","name":"curl","software_packageVersion":"8","software_primaryPurpose":"application",
   "externalIdentifier":[{"type":"ExternalIdentifier","externalIdentifierType":"packageUrl","identifier":"pkg:deb/debian/curl@8"}]},
  {"type":"Relationship","spdxId":"https://x/r","from":"https://x/a","to":["https://x/b"],"relationshipType":"contains"}]}`,
			insight.SBOM{
				SpecVersion: "SPDX-3.0.1", SerialNumber: "https://x/doc", SubjectName: "shop",
				Components: []insight.Component{groupless, {PURL: "pkg:deb/debian/curl@8", Type: "application", Name: "curl", Version: "8"}},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := insight.ParseSBOM(iotest.OneByteReader(strings.NewReader(tc.doc)), 100)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&tc.want, got); diff != "" {
				t.Error(diff)
			}
			if err := insight.CheckSBOM(strings.NewReader(tc.doc), 100); err != nil {
				t.Error(err)
			}
		})
	}
}

// Documents that nobody here wrote, in all formats.
func TestParseSBOM_data(t *testing.T) {
	data := filepath.Join("..", "..", "shared", "data")
	for name, want := range map[string]struct {
		spec       string
		components int
	}{
		"cyclonedx/valid-bom-1.4.json":            {"1.4", 2},
		"cyclonedx/valid-bom-1.5.json":            {"1.5", 2},
		"cyclonedx/valid-bom-1.5.xml":             {"1.5", 3},
		"cyclonedx/valid-bom-1.6.json":            {"1.6", 2},
		"cyclonedx/valid-bom-1.7.json":            {"1.7", 3},
		"cyclonedx/valid-bom-1.7.xml":             {"1.7", 3},
		"lagoon/testSbomPayload.json":             {"1.3", 2},
		"lagoon/testSbomPayloadNoComponents.json": {"1.3", 0},
		"spdx/kubectl-amd64.spdx.json":            {"SPDX-2.2", 88},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.Open(filepath.Join(data, name))
			if err != nil {
				t.Skipf("the test documents aren't beside the checkout: %v", err)
			}
			defer f.Close()
			got, err := insight.ParseSBOM(f, 1000)
			if err != nil {
				t.Fatal(err)
			}
			if got.SpecVersion != want.spec || len(got.Components) != want.components {
				t.Errorf("version %s with %d components, want %s with %d", got.SpecVersion, len(got.Components), want.spec, want.components)
			}
		})
	}
}

// large is a document of n components, made while it is read.
func large(n int, begin, component, end string) io.Reader {
	r, pipe := io.Pipe()
	go func() {
		w := bufio.NewWriterSize(pipe, 1<<16)
		io.WriteString(w, begin)
		for i := range n {
			if i > 0 && strings.HasPrefix(component, "{") {
				io.WriteString(w, ",")
			}
			fmt.Fprintf(w, component, i, i)
		}
		io.WriteString(w, end)
		w.Flush()
		pipe.Close()
	}()
	return r
}

func TestCheckSBOM_constantMemory(t *testing.T) {
	const components = 50_000
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for name, doc := range map[string]func() io.Reader{
		"JSON": func() io.Reader {
			return large(components, `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[`,
				`{"type":"library","name":"package-%d","version":"1.0","purl":"pkg:npm/package-%d@1.0"}`, `],"x":[[1,{"a":[]}]]}`)
		},
		"XML": func() io.Reader {
			return large(components, `<bom xmlns="http://cyclonedx.org/schema/bom/1.6"><components>`,
				`<component type="library"><name>package-%d</name><version>1.0</version><purl>pkg:npm/package-%d@1.0</purl></component>`, `</components></bom>`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			r := &peak{r: doc(), heap: heap}
			if err := insight.CheckSBOM(r, components); err != nil {
				t.Fatal(err)
			}
			if grown := int64(r.most) - int64(before); grown > 4<<20 {
				t.Errorf("%d bytes of a document of %d were in memory", grown, r.read)
			}
			if err := insight.CheckSBOM(doc(), components-1); err == nil || !strings.Contains(err.Error(), "more than 49999 components") {
				t.Errorf("one over the limit: %v", err)
			}
		})
	}
}

// peak looks now and then at how much memory is in use.
type peak struct {
	r    io.Reader
	heap func() uint64
	read int
	most uint64
	next int
}

func (p *peak) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if p.read += n; p.read >= p.next {
		p.most = max(p.most, p.heap())
		p.next += 1 << 20
	}
	return n, err
}
