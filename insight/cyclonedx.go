package insight

import (
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/package-url/packageurl-go"
)

// specVersions are the CycloneDX versions whose JSON has the members that
// ParseSBOM reads in the same place.
var specVersions = []string{"1.2", "1.3", "1.4", "1.5", "1.6", "1.7"}

// bomComponent has the members of CycloneDX's component that we keep.
type bomComponent struct {
	Type        string         `json:"type"`
	BOMRef      string         `json:"bom-ref"`
	MIMEType    string         `json:"mime-type"`
	Author      string         `json:"author"`
	Publisher   string         `json:"publisher"`
	Group       string         `json:"group"`
	Name        string         `json:"name"`
	Version     string         `json:"version"`
	Description string         `json:"description"`
	Scope       string         `json:"scope"`
	Copyright   string         `json:"copyright"`
	CPE         string         `json:"cpe"`
	PURL        string         `json:"purl"`
	Components  []bomComponent `json:"components"`
}

type bomParser struct {
	in     *valueReader
	dec    *json.Decoder
	limit  int
	format string // CycloneDX or SPDX
	sbom   SBOM
	count  int
	seen   map[string]bool  // by their keys; nil where none are to be kept
	each   func(Attributes) // nil: nobody is shown them
}

func (p *bomParser) document() error {
	if err := p.open('{', "the document"); err != nil {
		return err
	}
	for p.dec.More() {
		name, err := p.dec.Token()
		if err != nil {
			return err
		}
		if err := p.member(name.(string)); err != nil {
			return err
		}
	}
	if _, err := p.dec.Token(); err != nil {
		return err
	}
	switch _, err := p.dec.Token(); {
	case err == nil:
		return Invalidf("something follows the document's end")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

func (p *bomParser) member(name string) error {
	switch name {
	case "bomFormat":
		return p.value(name, &p.format)
	case "specVersion":
		return p.value(name, &p.sbom.SpecVersion)
	case "serialNumber":
		return p.value(name, &p.sbom.SerialNumber)
	case "metadata":
		var m struct {
			Component bomComponent `json:"component"`
		}
		err := p.value(name, &m)
		p.sbom.SubjectName, p.sbom.SubjectVersion = m.Component.Name, m.Component.Version
		p.sbom.ImageDigest = imageDigest(m.Component)
		return err
	case "components":
		return p.list(name, func(at string) error {
			var c bomComponent
			if err := p.value(at, &c); err != nil {
				return err
			}
			return p.top(at, c)
		})
	case "vulnerabilities":
		return p.list(name, func(string) error { p.sbom.Analysed = true; return p.skip() })
	default:
		return p.other(name)
	}
}

var digestText = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// imageDigest finds the digest where syft and trivy write it: as the version of
// the image or in its name, or in its purl.
func imageDigest(c bomComponent) string {
	for _, text := range []string{c.Version, c.Name, c.PURL} {
		if plain, err := url.PathUnescape(text); err == nil {
			text = plain
		}
		if d := digestText.FindString(text); d != "" {
			return d
		}
	}
	return ""
}

// top adds a component that isn't part of another.
func (p *bomParser) top(at string, c bomComponent) error {
	if p.each != nil {
		p.each(Attributes{
			BOMRef: c.BOMRef, MIMEType: c.MIMEType, Type: c.Type, Author: c.Author, Publisher: c.Publisher, Group: c.Group, Name: c.Name,
			Version: c.Version, Description: c.Description, Scope: c.Scope, Copyright: c.Copyright, CPE: c.CPE, PackageURL: c.PURL,
		})
	}
	return p.add(at, c)
}

func (p *bomParser) add(at string, c bomComponent) error {
	if c.Name == "" {
		return Invalidf("%s.name: is missing", at)
	}
	kept := Component{PURL: CanonicalPURL(c.PURL), Type: storable(c.Type), Group: storable(c.Group), Name: storable(c.Name), Version: storable(c.Version)}
	if key := kept.Key(); p.seen == nil || !p.seen[key] {
		if p.count == p.limit {
			return Invalidf("%s: more than %d components", at, p.limit)
		}
		p.count++
		if p.seen != nil {
			p.seen[key] = true
			p.sbom.Components = append(p.sbom.Components, kept)
		}
	}
	for i, nested := range c.Components {
		if err := p.add(at+".components["+strconv.Itoa(i)+"]", nested); err != nil {
			return err
		}
	}
	return nil
}

// storable is a text without the one character that not every database takes.
func storable(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }

func (p *bomParser) open(want json.Delim, what string) error {
	t, err := p.dec.Token()
	if err != nil {
		return err
	}
	if t != want {
		return Invalidf("%s: must begin with %q", what, rune(want))
	}
	return nil
}

// value decodes the next value; a wrong type in it is named with its place.
func (p *bomParser) value(at string, v any) error {
	p.in.reset()
	err := p.dec.Decode(v)
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		if typ.Field != "" {
			at += "." + typ.Field
		}
		return Invalidf("%s: is a %s, must be a %s", at, typ.Value, typ.Type.Kind())
	}
	return err
}

// CanonicalPURL gives a purl the spelling that all documents share, and ""
// for what isn't one.
func CanonicalPURL(s string) string {
	p, err := packageurl.FromString(slashes(s))
	if err != nil {
		return ""
	}
	return p.ToString()
}

// slashes makes pkg:npm/@scope/name of pkg:npm/@scope%2Fname, as older syfts
// and others write it: in front of the version an encoded slash is one.
func slashes(purl string) string {
	end := strings.IndexAny(purl, "?#")
	if end < 0 {
		end = len(purl)
	}
	if at := strings.LastIndexByte(purl[:end], '@'); at > 0 && purl[at-1] != '/' {
		end = at
	}
	return strings.NewReplacer("%2F", "/", "%2f", "/").Replace(purl[:end]) + purl[end:]
}

// PURLPrefix gives q, the beginning of a purl that a person typed, the
// spelling that stored purls have, as far as q can be read as one.
func PURLPrefix(q string) string {
	if c := CanonicalPURL(q); c != "" {
		return c
	}
	return q
}
