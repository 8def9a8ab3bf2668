package insight

import (
	"regexp"
	"strings"

	"github.com/package-url/packageurl-go"
)

// Package is what vulnerabilities are told of: a package of an ecosystem, both
// as OSV (https://ossf.github.io/osv-schema/) names them.
type Package struct {
	// Ecosystem is without a release: Debian, npm.
	Ecosystem string
	// Release is that of a distribution, such as 12 of Debian; empty for
	// others, and where it isn't known.
	Release string
	// Name is that of the source package where the ecosystem has those.
	Name string
	// Version is the package's, as the ecosystem writes it.
	Version string
}

// Key names the package in every release and version; empty where OSV knows no
// such ecosystem.
func (p Package) Key() string {
	if p.Ecosystem == "" {
		return ""
	}
	return p.Ecosystem + "/" + p.Name
}

// NewPackage is the package with this name in an ecosystem as OSV writes it,
// with or without a release.
func NewPackage(ecosystem, name string) Package {
	base, release, _ := strings.Cut(ecosystem, ":")
	return Package{Ecosystem: base, Release: osvRelease(base, release), Name: packageName(base, name)}
}

// ecosystems are those of purl types that have one.
var ecosystems = map[string]string{
	"npm": "npm", "pypi": "PyPI", "maven": "Maven", "golang": "Go", "cargo": "crates.io", "gem": "RubyGems", "nuget": "NuGet",
	"composer": "Packagist", "hex": "Hex", "pub": "Pub", "hackage": "Hackage", "cran": "CRAN", "swift": "SwiftURL",
	"conan": "ConanCenter", "bitnami": "Bitnami", "julia": "Julia",
}

// distributions are the ecosystems of apk, deb and rpm, by the purl's namespace.
var distributions = map[string]string{
	"alpine": "Alpine", "wolfi": "Wolfi", "chainguard": "Chainguard", "minimos": "MinimOS", "debian": "Debian", "ubuntu": "Ubuntu",
	"redhat": "Red Hat", "rhel": "Red Hat", "rocky": "Rocky Linux", "rockylinux": "Rocky Linux", "almalinux": "AlmaLinux", "alma": "AlmaLinux",
	"opensuse": "openSUSE", "openeuler": "openEuler", "mageia": "Mageia",
}

// PackageOf reads the package from a component's purl. Where OSV knows no such
// ecosystem, it is zero.
func PackageOf(purl string) Package {
	p, err := packageurl.FromString(purl)
	if err != nil || p.Version == "" {
		return Package{}
	}
	q := p.Qualifiers.Map()
	switch p.Type {
	case "apk", "deb", "rpm":
		return distributed(p, q)
	}
	eco := ecosystems[p.Type]
	if eco == "" {
		return Package{}
	}
	name, version := p.Name, p.Version
	switch {
	case p.Namespace == "":
	case p.Type == "maven":
		name = p.Namespace + ":" + name
	default:
		name = p.Namespace + "/" + name
	}
	if p.Type == "golang" {
		version = strings.TrimPrefix(version, "v")
	}
	return Package{Ecosystem: eco, Name: packageName(eco, name), Version: version}
}

// EcosystemOf names the ecosystem of a component, by its purl, with the release of a
// distribution: Debian:12, npm. It is empty where the purl has no version, or isn't
// of any ecosystem; a distribution that OSV doesn't know has the name that the purl
// gives it.
func EcosystemOf(purl string) string {
	if p := PackageOf(purl); p.Ecosystem != "" {
		return p.released()
	}
	p, err := packageurl.FromString(purl)
	if err != nil || p.Version == "" || p.Type != "apk" && p.Type != "deb" && p.Type != "rpm" {
		return ""
	}
	if p.Namespace == "" {
		return p.Type
	}
	return p.Namespace
}

// CanonicalEcosystem is OSV's name of one as EcosystemOf gives it.
func CanonicalEcosystem(osv string) string { return NewPackage(osv, "").released() }

func (p Package) released() string {
	if p.Release == "" {
		return p.Ecosystem
	}
	return p.Ecosystem + ":" + p.Release
}

func distributed(p packageurl.PackageURL, q map[string]string) Package {
	eco := distributions[strings.ToLower(p.Namespace)]
	if eco == "" {
		return Package{}
	}
	out := Package{Ecosystem: eco, Name: p.Name, Version: p.Version, Release: purlRelease(eco, q["distro"])}
	if p.Type == "rpm" {
		if e := q["epoch"]; e != "" && e != "0" {
			out.Version = e + ":" + out.Version
		}
		return out
	}
	// Syft and others name the source package, and its version where that is
	// another one.
	if source, version, other := strings.Cut(q["upstream"], "@"); source != "" {
		out.Name = source
		if other {
			out.Version = version
		}
	}
	return out
}

var pypiSeparators = regexp.MustCompile(`[-_.]+`)

// packageName is a name in the one spelling in which we keep it.
func packageName(ecosystem, name string) string {
	switch ecosystem {
	case "PyPI": // PEP 503
		return pypiSeparators.ReplaceAllString(strings.ToLower(name), "-")
	case "NuGet", "Packagist", "SwiftURL":
		return strings.ToLower(name)
	}
	return name
}

var enterpriseLinux = regexp.MustCompile(`enterprise_linux:(\d+)`)

// osvRelease is the release in OSV's name of an ecosystem, as purlRelease
// gives it.
func osvRelease(ecosystem, release string) string {
	switch ecosystem {
	case "Ubuntu": // 22.04:LTS; those of the extended support are told apart
		return strings.TrimSuffix(release, ":LTS")
	case "Alpine":
		return strings.TrimPrefix(release, "v")
	case "openSUSE":
		return strings.ToLower(strings.ReplaceAll(release, " ", "-"))
	case "Red Hat":
		if m := enterpriseLinux.FindStringSubmatch(release); m != nil {
			return m[1]
		}
	}
	return release
}

// codenames are what purls may write in place of a release's number.
var codenames = map[string]string{
	"buster": "10", "bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14",
	"bionic": "18.04", "focal": "20.04", "jammy": "22.04", "noble": "24.04",
}

// purlRelease is the release that the qualifier distro names, such as
// debian-12, alpine-3.18.4 or bookworm.
func purlRelease(ecosystem, distro string) string {
	distro = strings.ToLower(distro)
	if n := codenames[distro]; n != "" {
		return n
	}
	_, release, _ := strings.Cut(distro, "-")
	major, minor, _ := strings.Cut(release, ".")
	switch ecosystem {
	case "Debian", "Rocky Linux", "AlmaLinux", "Red Hat":
		return major
	case "Alpine":
		minor, _, _ = strings.Cut(minor, ".")
		return major + "." + minor
	case "Wolfi", "Chainguard", "MinimOS": // which have none
		return ""
	}
	return release
}
