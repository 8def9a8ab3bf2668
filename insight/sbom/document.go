package sbom

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/uuid"
	"github.com/package-url/packageurl-go"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// Subject is what an SBOM is of.
type Subject struct {
	// Name is an image as its user names it, or a target's.
	Name string
	// Digest is an image's, sha256:HEX; empty for what isn't one, or where it
	// isn't known.
	Digest string
}

// Document is a bill of materials.
type Document struct {
	Subject   Subject
	Inventory *Inventory
	// Version is that of the reeve that makes it, Made the time.
	Version string
	Made    time.Time
}

// Formats are the names of the formats, the default first.
var Formats = []string{"cyclonedx-json", "spdx-json"}

// Write writes the document in one of Formats.
func (d Document) Write(w io.Writer, format string) error {
	switch format {
	case Formats[0]:
		return d.cycloneDX(w)
	case Formats[1]:
		return d.spdx(w)
	}
	return fmt.Errorf("format %q: it must be one of %s", format, strings.Join(Formats, ", "))
}

// cycloneDX writes CycloneDX 1.6. The image's digest is where syft and trivy
// have it, so that whoever reads theirs finds it.
func (d Document) cycloneDX(w io.Writer) error {
	bom := cyclonedx.NewBOM()
	bom.SpecVersion = cyclonedx.SpecVersion1_6
	bom.JSONSchema = "http://cyclonedx.org/schema/bom-1.6.schema.json"
	bom.SerialNumber = "urn:uuid:" + uuid.NewString()
	subject := &cyclonedx.Component{BOMRef: "subject", Type: cyclonedx.ComponentTypeApplication, Name: d.Subject.Name}
	if d.Subject.Digest != "" {
		subject.Type, subject.Version, subject.PackageURL = cyclonedx.ComponentTypeContainer, d.Subject.Digest, d.Subject.purl()
	}
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: d.Made.UTC().Format(time.RFC3339),
		Tools:     &cyclonedx.ToolsChoice{Components: &[]cyclonedx.Component{{Type: cyclonedx.ComponentTypeApplication, Name: "reeve", Version: d.Version}}},
		Component: subject,
	}
	components := make([]cyclonedx.Component, 0, len(d.Inventory.Packages)+1)
	if s := d.Inventory.System; s.ID != "" {
		components = append(components, cyclonedx.Component{
			BOMRef: "system", Type: cyclonedx.ComponentTypeOS, Name: s.ID, Version: s.Version, Description: s.Name,
		})
	}
	for _, p := range d.Inventory.Packages {
		components = append(components, p.component())
	}
	bom.Components = &components
	complete := cyclonedx.Composition{Aggregate: cyclonedx.CompositionAggregateUnknown, Assemblies: &[]cyclonedx.BOMReference{"subject"}}
	if n := len(d.Inventory.Unread); n > 0 {
		complete.Aggregate = cyclonedx.CompositionAggregateIncomplete
		properties := make([]cyclonedx.Property, n)
		for i, u := range d.Inventory.Unread {
			properties[i] = cyclonedx.Property{Name: "reeve:unread", Value: u.Path + ": " + u.Why}
		}
		bom.Metadata.Properties = &properties
	}
	bom.Compositions = &[]cyclonedx.Composition{complete}
	return cyclonedx.NewBOMEncoder(w, cyclonedx.BOMFileFormatJSON).SetEscapeHTML(false).Encode(bom)
}

// purl is an image's (purl-spec's type oci); empty for a name that is no
// reference.
func (s Subject) purl() string {
	name, _, _ := strings.Cut(s.Name, "@")
	repository, tag := name, ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		repository, tag = name[:i], name[i+1:]
	}
	q := map[string]string{"repository_url": strings.ToLower(repository)}
	if tag != "" {
		q["tag"] = tag
	}
	short := strings.ToLower(repository[strings.LastIndexByte(repository, '/')+1:])
	if short == "" {
		return ""
	}
	return packageurl.NewPackageURL(packageurl.TypeOCI, "", short, s.Digest, packageurl.QualifiersFromMap(q), "").ToString()
}

func (p Package) component() cyclonedx.Component {
	c := cyclonedx.Component{
		BOMRef: p.PURL, Type: cyclonedx.ComponentTypeLibrary, Group: p.Group, Name: p.Name, Version: p.Version, PackageURL: p.PURL,
	}
	if len(p.Licences) > 0 {
		var licences cyclonedx.Licenses
		for _, l := range p.Licences {
			// The names are the packagers', not those of SPDX's list.
			licences = append(licences, cyclonedx.LicenseChoice{License: &cyclonedx.License{Name: l}})
		}
		c.Licenses = &licences
	}
	var places []cyclonedx.EvidenceOccurrence
	for _, path := range p.Paths {
		places = append(places, cyclonedx.EvidenceOccurrence{Location: path})
	}
	c.Evidence = &cyclonedx.Evidence{Occurrences: &places}
	return c
}

// spdx writes SPDX 2.3.
func (d Document) spdx(w io.Writer) error {
	const root = "Subject"
	name := d.Subject.Name
	if d.Subject.Digest != "" && !strings.Contains(name, "@") {
		name += "@" + d.Subject.Digest
	}
	doc := spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: name,
		DocumentNamespace: "https://reeve.dev/spdx/" + uuid.NewString(),
		CreationInfo: &spdx.CreationInfo{
			Created:  d.Made.UTC().Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "reeve-" + cmp.Or(strings.ReplaceAll(d.Version, " ", "-"), "devel")}},
		},
		Packages:      []*spdx.Package{d.spdxSubject(root)},
		Relationships: []*spdx.Relationship{related("DOCUMENT", common.TypeRelationshipDescribe, root)},
	}
	if n := len(d.Inventory.Unread); n > 0 {
		lines := make([]string, n)
		for i, u := range d.Inventory.Unread {
			lines[i] = u.Path + ": " + u.Why
		}
		doc.DocumentComment = "Incomplete. What couldn't be read: " + strings.Join(lines, "; ")
	}
	for _, p := range d.Inventory.Packages {
		pkg := p.spdx()
		doc.Packages = append(doc.Packages, pkg)
		doc.Relationships = append(doc.Relationships, related(root, common.TypeRelationshipContains, pkg.PackageSPDXIdentifier))
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(doc)
}

func related(a common.ElementID, how string, b common.ElementID) *spdx.Relationship {
	return &spdx.Relationship{RefA: common.MakeDocElementID("", string(a)), RefB: common.MakeDocElementID("", string(b)), Relationship: how}
}

const noAssertion = "NOASSERTION"

func (d Document) spdxSubject(id common.ElementID) *spdx.Package {
	p := &spdx.Package{
		PackageName: d.Subject.Name, PackageSPDXIdentifier: id, PackageDownloadLocation: noAssertion,
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion, PackageCopyrightText: noAssertion,
		PrimaryPackagePurpose: "APPLICATION",
	}
	if digest, ok := strings.CutPrefix(d.Subject.Digest, "sha256:"); ok {
		p.PackageVersion, p.PrimaryPackagePurpose = d.Subject.Digest, "CONTAINER"
		p.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: digest}}
		p.PackageExternalReferences = references(d.Subject.purl())
	}
	return p
}

func (p Package) spdx() *spdx.Package {
	name := p.Name
	if p.Group != "" {
		name = p.Group + "/" + name
	}
	out := &spdx.Package{
		PackageName: name, PackageVersion: p.Version, PackageSPDXIdentifier: common.ElementID(fmt.Sprintf("Package-%x", sha256.Sum256([]byte(p.PURL)))[:24]),
		PackageDownloadLocation: noAssertion, PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion,
		PackageCopyrightText: noAssertion, PackageSourceInfo: "found in " + strings.Join(p.Paths, ", "),
		PackageExternalReferences: references(p.PURL), PrimaryPackagePurpose: "LIBRARY",
	}
	if len(p.Licences) > 0 {
		out.PackageLicenseComments = "The packager says: " + strings.Join(p.Licences, ", ")
	}
	return out
}

func references(purl string) []*spdx.PackageExternalReference {
	if purl == "" {
		return nil
	}
	return []*spdx.PackageExternalReference{{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: purl}}
}

// ErrIncomplete is what Complete answers.
var ErrIncomplete = errors.New("the SBOM is incomplete")

// Complete tells what couldn't be read, in an error that is ErrIncomplete; nil
// if all could.
func (i *Inventory) Complete() error {
	if len(i.Unread) == 0 {
		return nil
	}
	shown := slices.Clone(i.Unread[:min(len(i.Unread), 3)])
	text := make([]string, len(shown))
	for n, u := range shown {
		text[n] = u.Path + ": " + u.Why
	}
	if more := len(i.Unread) - len(shown); more > 0 {
		text = append(text, fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("%w: %s", ErrIncomplete, strings.Join(text, "; "))
}
