package insight

import (
	"strings"
	"time"

	"github.com/package-url/packageurl-go"
)

// Status is OpenVEX's.
type Status string

// The statuses.
const (
	NotAffected        Status = "not_affected"
	Affected           Status = "affected"
	Fixed              Status = "fixed"
	UnderInvestigation Status = "under_investigation"
)

// Clears reports whether a vulnerability isn't a problem any more.
func (s Status) Clears() bool { return s == NotAffected || s == Fixed }

// Statement says how a subject or component stands to a vulnerability.
type Statement struct {
	// Vulnerability is as the author names it, such as CVE-2021-44228; Names are
	// that and its aliases.
	Vulnerability string
	Names         []string
	// Subject is what the statement is about; empty where Component says all.
	Subject Subject
	// Component is a purl, of every version where it has none; empty for all
	// components of the subject.
	Component     string
	Status        Status
	Justification string
	Detail        string
	Author        string
	Made          time.Time
}

// Subject is a product, by the one thing that is known of it.
type Subject string

// What a subject begins with; the rest is the one thing that is known of it.
const (
	SubjectImage    = "image:"   // the digest of an image
	SubjectDocument = "sbom:"    // the digest of the SBOM that holds the statement
	SubjectSerial   = "serial:"  // the serial number of an SBOM
	SubjectName     = "product:" // NAME, or NAME@VERSION
)

// InDocument is the subject of an SBOM that holds statements.
func InDocument(d Digest) Subject { return Subject(SubjectDocument + string(d)) }

// Product is what an SBOM is about.
type Product struct {
	Document      Digest
	Image         string // its digest
	Serial        string
	Name, Version string
}

// Is reports whether the subject is the product.
func (s Subject) Is(p Product) bool {
	kind, value, _ := strings.Cut(string(s), ":")
	switch kind + ":" {
	case SubjectImage:
		return value == p.Image
	case SubjectDocument:
		return value == string(p.Document)
	case SubjectSerial:
		return value == p.Serial
	case SubjectName:
		return p.Name != "" && (value == p.Name || value == p.Name+"@"+p.Version)
	}
	return false
}

// Covers reports whether the statement is about a component, by its purl, of a
// product.
func (s Statement) Covers(p Product, purl string) bool {
	if s.Subject != "" && !s.Subject.Is(p) {
		return false
	}
	return s.Component == "" && s.Subject != "" || s.Component != "" && covers(s.Component, purl)
}

// covers reports whether the component is the one that pattern names, as far
// as that tells of it.
func covers(pattern, component string) bool {
	if pattern == component {
		return true
	}
	p, err := packageurl.FromString(pattern)
	if err != nil {
		return false
	}
	c, err := packageurl.FromString(component)
	if err != nil || p.Type != c.Type || p.Namespace != c.Namespace || p.Name != c.Name || p.Version != "" && p.Version != c.Version {
		return false
	}
	has := c.Qualifiers.Map()
	for _, q := range p.Qualifiers {
		if has[q.Key] != q.Value {
			return false
		}
	}
	return p.Subpath == "" || p.Subpath == c.Subpath
}
