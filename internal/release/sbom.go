package release

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/uuid"
	"github.com/package-url/packageurl-go"
)

// sbom says what is in programs, in CycloneDX: the modules that the linker
// wrote into them, and Go's own library.
func sbom(name, version string, at time.Time, programs []string) ([]byte, error) {
	bom := cdx.NewBOM()
	main := cdx.Component{BOMRef: name, Type: cdx.ComponentTypeApplication, Name: name, Version: version}
	bom.Metadata = &cdx.Metadata{Timestamp: at.UTC().Format(time.RFC3339), Component: &main}
	modules := map[string]cdx.Component{}
	depends := []cdx.Dependency{}
	ofMain := []string{}
	for _, path := range programs {
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return nil, err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		program := cdx.Component{
			BOMRef: name + "/" + filepath.Base(path), Type: cdx.ComponentTypeApplication, Name: filepath.Base(path), Version: version,
			Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: fmt.Sprintf("%x", sha256.Sum256(body))}},
		}
		modules[program.BOMRef] = program
		ofMain = append(ofMain, program.BOMRef)
		uses := []string{}
		add := func(path, version, sum string) {
			purl := packageurl.NewPackageURL(packageurl.TypeGolang, namespace(path), filepath.Base(path), version, nil, "").ToString()
			c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: purl}
			if sum != "" {
				c.Properties = &[]cdx.Property{{Name: "reeve:go.sum", Value: sum}}
			}
			modules[purl] = c
			uses = append(uses, purl)
		}
		add("stdlib", strings.TrimPrefix(info.GoVersion, "go"), "")
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			add(m.Path, m.Version, m.Sum)
		}
		slices.Sort(uses)
		depends = append(depends, cdx.Dependency{Ref: program.BOMRef, Dependencies: &uses})
	}
	components := []cdx.Component{}
	for _, c := range modules {
		components = append(components, c)
	}
	slices.SortFunc(components, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	bom.Components = &components
	depends = append(depends, cdx.Dependency{Ref: name, Dependencies: &ofMain})
	slices.SortFunc(depends, func(a, b cdx.Dependency) int { return strings.Compare(a.Ref, b.Ref) })
	bom.Dependencies = &depends
	encode := func() ([]byte, error) {
		var b bytes.Buffer
		err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
		return b.Bytes(), err
	}
	text, err := encode()
	if err != nil {
		return nil, err
	}
	// The same content has the same number.
	bom.SerialNumber = uuid.NewSHA1(uuid.NameSpaceURL, text).URN()
	return encode()
}

func namespace(module string) string {
	if dir := filepath.Dir(module); dir != "." {
		return dir
	}
	return ""
}
