package sbom

import (
	"cmp"
	"slices"
	"strings"

	"github.com/google/osv-scalibr/extractor"
	dpkgmeta "github.com/google/osv-scalibr/extractor/filesystem/os/dpkg/metadata"
	"github.com/google/osv-scalibr/purl"
	"github.com/package-url/packageurl-go"
)

// maxPaths bounds the places that are told of one package.
const maxPaths = 10

// packages are those that were found, each once, with all its places.
func packages(found []*extractor.Package, system System) []Package {
	at := map[string]int{}
	var out []Package
	for _, f := range found {
		p, ok := convert(f, system)
		if !ok {
			continue
		}
		i, known := at[p.PURL]
		if !known {
			i = len(out)
			at[p.PURL] = i
			out = append(out, p)
		} else if path := p.Paths[0]; !slices.Contains(out[i].Paths, path) {
			out[i].Paths = append(out[i].Paths, path)
		}
	}
	for i := range out {
		slices.Sort(out[i].Paths)
		out[i].Paths = out[i].Paths[:min(len(out[i].Paths), maxPaths)]
	}
	slices.SortFunc(out, func(a, b Package) int { return cmp.Compare(a.PURL, b.PURL) })
	return out
}

// convert is a package as scalibr found it; not ok for one that has no purl.
func convert(f *extractor.Package, system System) (Package, bool) {
	from := f.PURL()
	if from == nil || from.Name == "" || removed(f) || from.Type == purl.TypeGolang && strings.HasPrefix(from.Namespace, ".") { // replaced by a folder
		return Package{}, false
	}
	p := packageurl.PackageURL{
		Type: from.Type, Namespace: from.Namespace, Name: from.Name, Version: from.Version,
		Qualifiers: packageurl.Qualifiers(from.Qualifiers), Subpath: from.Subpath,
	}
	switch from.Type {
	case purl.TypeDebian, purl.TypeApk, purl.TypeRPM, purl.TypePacman:
		p.Qualifiers = distribution(p, system)
	case purl.TypeGolang:
		p = golang(p)
	default: // where it may have come from, as far as the extractor guesses
		p.Qualifiers = nil
	}
	out := Package{PURL: p.ToString(), Name: p.Name, Version: p.Version, Paths: []string{"/" + f.Location.PathOrEmpty()}}
	switch {
	case from.Type == purl.TypeMaven || from.Type == purl.TypeNPM:
		out.Group = p.Namespace
	case from.Type == purl.TypeGolang && p.Namespace != "":
		out.Name = p.Namespace + "/" + p.Name
	}
	for _, licence := range f.Licenses {
		if licence != "" {
			out.Licences = append(out.Licences, licence)
		}
	}
	return out, true
}

// removed reports whether dpkg knows it but it isn't installed.
func removed(f *extractor.Package) bool {
	m, ok := f.Metadata.(*dpkgmeta.Metadata)
	return ok && m.Status != "" && !strings.HasSuffix(m.Status, " installed")
}

// distribution gives the qualifiers of a distribution's package the names that
// others give them.
func distribution(p packageurl.PackageURL, system System) packageurl.Qualifiers {
	from := p.Qualifiers.Map()
	to := map[string]string{}
	for _, same := range []string{purl.Arch, purl.Epoch} {
		if from[same] != "" {
			to[same] = from[same]
		}
	}
	if system.ID != "" {
		to["distro"] = strings.TrimSuffix(system.ID+"-"+system.Version, "-")
	}
	upstream := from[purl.SourceRPM]
	if source := cmp.Or(from[purl.Source], from[purl.Origin]); source != "" && (source != p.Name || from[purl.SourceVersion] != "") {
		upstream = source
		if v := from[purl.SourceVersion]; v != "" && v != p.Version {
			upstream += "@" + v
		}
	}
	if upstream != "" && upstream != p.Name {
		to["upstream"] = upstream
	}
	return packageurl.QualifiersFromMap(to)
}

// golang spells a Go module's version, and the standard library, as others do.
func golang(p packageurl.PackageURL) packageurl.PackageURL {
	switch {
	case p.Namespace == "" && p.Name == "go":
		p.Name = "stdlib"
	case p.Version == "(devel)":
		p.Version = ""
	case p.Version != "" && p.Version[0] >= '0' && p.Version[0] <= '9':
		p.Version = "v" + p.Version
	}
	return p
}
