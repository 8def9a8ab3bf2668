package insight

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
)

// maxValue is the most bytes of one component, or of another value that is
// read as a whole.
const maxValue = 32 << 20

// ParseSBOM reads a CycloneDX document (1.2 to 1.7, JSON or XML) or an SPDX
// document in JSON (2.2, 2.3 and 3.0), one component at a time, and returns what
// it says of itself and at most limit components, those nested in others beside
// them. A document that is neither is an *InvalidError that names the place.
func ParseSBOM(r io.Reader, limit int) (*SBOM, error) {
	return parseSBOM(r, limit, true, nil)
}

// CheckSBOM finds whether ParseSBOM would take a document, in constant memory.
// It counts a component as often as it is there.
func CheckSBOM(r io.Reader, limit int) error {
	_, err := parseSBOM(r, limit, false, nil)
	return err
}

// parseSBOM calls each, unless it is nil, with the components that aren't part
// of others.
func parseSBOM(r io.Reader, limit int, keep bool, each func(Attributes)) (*SBOM, error) {
	in := &valueReader{r: r, left: maxValue}
	buf := bufio.NewReader(in)
	p := &bomParser{in: in, limit: limit, each: each}
	if keep {
		p.seen = map[string]bool{}
	}
	first, err := firstByte(buf)
	switch {
	case err != nil:
		return nil, documentError("sbom", err)
	case first == '<':
		err = p.xml(xml.NewDecoder(buf))
	default:
		p.dec = json.NewDecoder(buf)
		err = p.document()
	}
	if err != nil {
		return nil, documentError("sbom", err)
	}
	if err := p.known(); err != nil {
		return nil, err
	}
	return &p.sbom, nil
}

// firstByte skips white space and a byte order mark.
func firstByte(buf *bufio.Reader) (byte, error) {
	if bom, _ := buf.Peek(3); bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		buf.Discard(3)
	}
	for {
		b, err := buf.ReadByte()
		if err != nil {
			return 0, err
		}
		if !bytes.ContainsRune([]byte(" \t\r\n"), rune(b)) {
			return b, buf.UnreadByte()
		}
	}
}

// The versions of SPDX whose JSON has the members that are read in the same
// place.
var spdxVersions = []string{"SPDX-2.2", "SPDX-2.3"}

const spdx3 = "SPDX-3.0"

// known sees whether the document said of itself what it is.
func (p *bomParser) known() error {
	version := p.sbom.SpecVersion
	switch {
	case p.format == "CycloneDX":
		if !slices.Contains(specVersions, version) {
			return Invalidf("sbom: specVersion: is %q, must be one of %q", version, specVersions)
		}
	case p.format == "SPDX":
		if !slices.Contains(spdxVersions, version) && !strings.HasPrefix(version, spdx3) {
			return Invalidf("sbom: version of SPDX: is %q, must be one of %q or %s", version, spdxVersions, spdx3)
		}
	case p.format != "":
		return Invalidf("sbom: bomFormat: is %q, must be \"CycloneDX\"", p.format)
	default:
		return Invalidf("sbom: it is neither CycloneDX (bomFormat) nor SPDX (spdxVersion, or @graph with a CreationInfo)")
	}
	return nil
}

// other reads the members that aren't CycloneDX's.
func (p *bomParser) other(name string) error {
	switch name {
	case "spdxVersion":
		p.format = "SPDX"
		return p.value(name, &p.sbom.SpecVersion)
	case "documentNamespace":
		return p.value(name, &p.sbom.SerialNumber)
	case "name":
		err := p.value(name, &p.sbom.SubjectName)
		p.sbom.ImageDigest = imageDigest(bomComponent{Name: p.sbom.SubjectName})
		return err
	case "packages":
		return p.list(name, p.spdxPackage)
	case "@graph":
		return p.list(name, p.spdxElement)
	}
	return p.skip()
}

// spdxPackage reads one of SPDX 2's packages.
func (p *bomParser) spdxPackage(at string) error {
	var pkg struct {
		Name         string `json:"name"`
		VersionInfo  string `json:"versionInfo"`
		Purpose      string `json:"primaryPackagePurpose"`
		ExternalRefs []struct {
			Type    string `json:"referenceType"`
			Locator string `json:"referenceLocator"`
		} `json:"externalRefs"`
	}
	if err := p.value(at, &pkg); err != nil {
		return err
	}
	c := bomComponent{Type: purpose(pkg.Purpose), Name: pkg.Name, Version: pkg.VersionInfo}
	for _, ref := range pkg.ExternalRefs {
		if ref.Type == "purl" {
			c.PURL = ref.Locator
			break
		}
	}
	return p.top(at, c)
}

// spdxElement reads one of the elements of SPDX 3's graph.
func (p *bomParser) spdxElement(at string) error {
	var e struct {
		Type        string `json:"type"`
		ID          string `json:"spdxId"`
		Name        string `json:"name"`
		SpecVersion string `json:"specVersion"`
		Version     string `json:"software_packageVersion"`
		URL         string `json:"software_packageUrl"`
		Purpose     string `json:"software_primaryPurpose"`
		Identifiers []struct {
			Type       string `json:"externalIdentifierType"`
			Identifier string `json:"identifier"`
		} `json:"externalIdentifier"`
	}
	if err := p.value(at, &e); err != nil {
		return err
	}
	switch e.Type {
	case "CreationInfo":
		if p.format == "" {
			p.format, p.sbom.SpecVersion = "SPDX", "SPDX-"+e.SpecVersion
		}
	case "SpdxDocument":
		p.sbom.SerialNumber, p.sbom.SubjectName = e.ID, e.Name
	case "software_Package":
		c := bomComponent{Type: purpose(e.Purpose), Name: e.Name, Version: e.Version, PURL: e.URL}
		for _, id := range e.Identifiers {
			if c.PURL == "" && id.Type == "packageUrl" {
				c.PURL = id.Identifier
			}
		}
		return p.top(at, c)
	}
	return nil
}

// purpose gives SPDX's primary purpose as CycloneDX's type, which has the same
// words for what matters.
func purpose(s string) string {
	if s == "" {
		return "library"
	}
	return strings.ToLower(strings.ReplaceAll(s, "_", "-"))
}

// xmlComponent has the elements of CycloneDX's component that we keep.
type xmlComponent struct {
	Type        string         `xml:"type,attr"`
	BOMRef      string         `xml:"bom-ref,attr"`
	MIMEType    string         `xml:"mime-type,attr"`
	Author      string         `xml:"author"`
	Publisher   string         `xml:"publisher"`
	Group       string         `xml:"group"`
	Name        string         `xml:"name"`
	Version     string         `xml:"version"`
	Description string         `xml:"description"`
	Scope       string         `xml:"scope"`
	Copyright   string         `xml:"copyright"`
	CPE         string         `xml:"cpe"`
	PURL        string         `xml:"purl"`
	Components  []xmlComponent `xml:"components>component"`
}

func (c xmlComponent) component() bomComponent {
	out := bomComponent{
		Type: c.Type, BOMRef: c.BOMRef, MIMEType: c.MIMEType, Author: text(c.Author), Publisher: text(c.Publisher),
		Group: text(c.Group), Name: text(c.Name), Version: text(c.Version), Description: text(c.Description),
		Scope: text(c.Scope), Copyright: text(c.Copyright), CPE: text(c.CPE), PURL: text(c.PURL),
	}
	for _, nested := range c.Components {
		out.Components = append(out.Components, nested.component())
	}
	return out
}

// text is an element's, which XML schema collapses.
func text(s string) string { return strings.Join(strings.Fields(s), " ") }

const cycloneNamespace = "http://cyclonedx.org/schema/bom/"

// xml reads a CycloneDX document in XML.
func (p *bomParser) xml(dec *xml.Decoder) error {
	var path []string
	components := 0
	for {
		p.in.reset()
		t, err := dec.Token()
		if errors.Is(err, io.EOF) && len(path) == 0 && p.format != "" {
			return nil
		}
		if err != nil {
			return xmlError(strings.Join(path, "."), err)
		}
		switch t := t.(type) {
		case xml.EndElement:
			path = path[:len(path)-1]
		case xml.StartElement:
			if len(path) == 0 {
				if err := p.xmlRoot(t); err != nil {
					return err
				}
			}
			path = append(path, t.Name.Local)
			at := strings.Join(path[1:], ".")
			var c xmlComponent
			switch at {
			case "", "metadata", "components":
				continue
			case "metadata.component":
				err = dec.DecodeElement(&c, &t)
				p.sbom.SubjectName, p.sbom.SubjectVersion = text(c.Name), text(c.Version)
				p.sbom.ImageDigest = imageDigest(c.component())
			case "components.component":
				at = "components[" + strconv.Itoa(components) + "]"
				components++
				if err = dec.DecodeElement(&c, &t); err == nil {
					if err := p.top(at, c.component()); err != nil {
						return err
					}
				}
			case "vulnerabilities.vulnerability":
				p.sbom.Analysed = true
				err = dec.Skip()
			case "vulnerabilities":
				continue
			default:
				err = dec.Skip()
			}
			if err != nil {
				return xmlError(at, err)
			}
			path = path[:len(path)-1]
		}
	}
}

func (p *bomParser) xmlRoot(t xml.StartElement) error {
	version, ok := strings.CutPrefix(t.Name.Space, cycloneNamespace)
	if p.format != "" || t.Name.Local != "bom" || !ok {
		return Invalidf("the document's element is %.100s in the namespace %q, must be one bom in %qVERSION", t.Name.Local, t.Name.Space, cycloneNamespace)
	}
	p.format, p.sbom.SpecVersion = "CycloneDX", version
	for _, a := range t.Attr {
		if a.Name.Local == "serialNumber" {
			p.sbom.SerialNumber = a.Value
		}
	}
	return nil
}

// xmlError makes an InvalidError of what is wrong with the text.
func xmlError(at string, err error) error {
	var syntax *xml.SyntaxError
	switch {
	case errors.As(err, &syntax) && syntax.Msg == "unexpected EOF":
		return io.ErrUnexpectedEOF
	case errors.As(err, &syntax):
		return Invalidf("isn't XML: %s in line %d", syntax.Msg, syntax.Line)
	case strings.HasPrefix(err.Error(), "xml: "): // of an encoding, or of an attribute
		return Invalidf("%s: %v", at, err)
	}
	return err
}

// list reads the elements of a list.
func (p *bomParser) list(name string, element func(at string) error) error {
	if err := p.open('[', name); err != nil {
		return err
	}
	for i := 0; p.dec.More(); i++ {
		if err := element(name + "[" + strconv.Itoa(i) + "]"); err != nil {
			return err
		}
	}
	_, err := p.dec.Token()
	return err
}

// skip passes the next value over.
func (p *bomParser) skip() error {
	for depth := 0; ; {
		p.in.reset()
		t, err := p.dec.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

// valueReader ends a document one of whose values is larger than maxValue.
type valueReader struct {
	r    io.Reader
	left int64 // until reset
}

func (v *valueReader) reset() { v.left = maxValue }

func (v *valueReader) Read(b []byte) (int, error) {
	n, err := v.r.Read(b)
	if v.left -= int64(n); v.left < 0 {
		return 0, Invalidf("one value of it has more than %d bytes", maxValue)
	}
	return n, err
}
