package insight_test

import (
	"testing"

	"reeve.dev/reeve/insight"
)

func TestPackageOf(t *testing.T) {
	for purl, want := range map[string]insight.Package{
		"pkg:npm/%40npmcli/arborist@2.6.2":                                            {Ecosystem: "npm", Name: "@npmcli/arborist", Version: "2.6.2"},
		"pkg:pypi/zope.interface@1.0":                                                 {Ecosystem: "PyPI", Name: "zope-interface", Version: "1.0"},
		"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1":                        {Ecosystem: "Maven", Name: "org.apache.logging.log4j:log4j-core", Version: "2.14.1"},
		"pkg:golang/golang.org/x/net@v0.1.0":                                          {Ecosystem: "Go", Name: "golang.org/x/net", Version: "0.1.0"},
		"pkg:deb/debian/libssl3@3.0.1-1?arch=amd64&upstream=openssl&distro=debian-12": {Ecosystem: "Debian", Release: "12", Name: "openssl", Version: "3.0.1-1"},
		"pkg:deb/debian/libgcc@1-2?upstream=gcc%4012.2.0-14&distro=debian-12.4":       {Ecosystem: "Debian", Release: "12", Name: "gcc", Version: "12.2.0-14"},
		"pkg:deb/ubuntu/bash@5.1?distro=ubuntu-22.04":                                 {Ecosystem: "Ubuntu", Release: "22.04", Name: "bash", Version: "5.1"},
		"pkg:apk/alpine/libcrypto3@3.1.4-r1?upstream=openssl&distro=alpine-3.18.4":    {Ecosystem: "Alpine", Release: "3.18", Name: "openssl", Version: "3.1.4-r1"},
		"pkg:apk/wolfi/bash@5.2-r1":                                                   {Ecosystem: "Wolfi", Name: "bash", Version: "5.2-r1"},
		"pkg:rpm/rocky/bind@9.16-1.el9?arch=x86_64&epoch=32&distro=rocky-9.3":         {Ecosystem: "Rocky Linux", Release: "9", Name: "bind", Version: "32:9.16-1.el9"},
		"pkg:generic/openssl@1":                                                       {},
		"pkg:npm/unversioned":                                                         {},
		"no purl":                                                                     {},
	} {
		if got := insight.PackageOf(purl); got != want {
			t.Errorf("%s: got %+v, want %+v", purl, got, want)
		}
	}
	for ecosystem, want := range map[string]string{
		"Debian:12": "12", "Alpine:v3.18": "3.18", "Ubuntu:22.04:LTS": "22.04", "Ubuntu:Pro:22.04:LTS": "Pro:22.04",
		"Red Hat:enterprise_linux:9::baseos": "9", "openSUSE:Leap 15.5": "leap-15.5", "npm": "",
	} {
		if got := insight.NewPackage(ecosystem, "a").Release; got != want {
			t.Errorf("%s: release %q, want %q", ecosystem, got, want)
		}
	}
}

func TestEcosystemOf(t *testing.T) {
	for purl, want := range map[string]string{
		"pkg:npm/a@1":                             "npm",
		"pkg:npm/a":                               "",
		"pkg:generic/a@1":                         "",
		"no purl":                                 "",
		"pkg:deb/debian/a@1?distro=debian-12":     "Debian:12",
		"pkg:deb/ubuntu/a@1?distro=ubuntu-22.04":  "Ubuntu:22.04",
		"pkg:deb/debian/a@1":                      "Debian",
		"pkg:apk/wolfi/a@1?distro=wolfi-20230201": "Wolfi",
		"pkg:apk/alpine/a@1?distro=alpine-3.18.4": "Alpine:3.18",
		"pkg:rpm/redhat/a@1?distro=rhel-9.4":      "Red Hat:9",
		"pkg:rpm/amzn/a@1?distro=amzn-2023":       "amzn",
		"pkg:rpm/a@1":                             "rpm",
		"pkg:golang/github.com/a/b@v1.2.3":        "Go",
		"pkg:github/actions/checkout@v4":          "",
	} {
		if got := insight.EcosystemOf(purl); got != want {
			t.Errorf("%s is of %q, want %q", purl, got, want)
		}
	}
	for osv, want := range map[string]string{"Ubuntu:22.04:LTS": "Ubuntu:22.04", "Alpine:v3.18": "Alpine:3.18", "Red Hat:enterprise_linux:9::baseos": "Red Hat:9", "npm": "npm"} {
		if got := insight.CanonicalEcosystem(osv); got != want {
			t.Errorf("%s is %q, want %q", osv, got, want)
		}
	}
}
