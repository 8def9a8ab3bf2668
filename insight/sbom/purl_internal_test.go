package sbom

import (
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/osv-scalibr/extractor"
	"github.com/google/osv-scalibr/purl"
)

func TestPackages(t *testing.T) {
	found := func(kind, name, version, path string) *extractor.Package {
		return &extractor.Package{PURLType: kind, Name: name, Version: version, Location: extractor.LocationFromPath(path)}
	}
	got := packages([]*extractor.Package{
		found(purl.TypeGolang, "golang.org/x/net", "0.61.0", "usr/bin/b"),
		found(purl.TypeGolang, "golang.org/x/net", "0.61.0", "usr/bin/a"),
		found(purl.TypeGolang, "golang.org/x/net", "0.61.0", "usr/bin/a"),
		found(purl.TypeGolang, "go", "1.26.3", "usr/bin/a"),
		found(purl.TypeGolang, "example.com/own", "(devel)", "usr/bin/a"),
		found(purl.TypeGolang, "./replaced", "", "usr/bin/a"),
		found(purl.TypePyPi, "Zope.Interface", "6.0", "x/METADATA"),
		found("", "nothing", "1", "x"),
	}, System{})
	want := []Package{
		{PURL: "pkg:golang/example.com/own", Name: "example.com/own", Paths: []string{"/usr/bin/a"}},
		{PURL: "pkg:golang/golang.org/x/net@v0.61.0", Name: "golang.org/x/net", Version: "v0.61.0", Paths: []string{"/usr/bin/a", "/usr/bin/b"}},
		{PURL: "pkg:golang/stdlib@1.26.3", Name: "stdlib", Version: "1.26.3", Paths: []string{"/usr/bin/a"}},
		{PURL: "pkg:pypi/zope-interface@6.0", Name: "zope-interface", Version: "6.0", Paths: []string{"/x/METADATA"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}

// FuzzParse has what a target says of a file never name what io/fs doesn't.
func FuzzParse(f *testing.F) {
	f.Add("81a4 12 /etc/os-release")
	f.Add("81a4 12 /../x")
	f.Add("81a4 -1 ")
	f.Fuzz(func(t *testing.T, line string) {
		if got := parse(line); got != nil && (!fs.ValidPath(got.path) || got.size < 0) {
			t.Errorf("%q is %+v", line, got)
		}
	})
}
