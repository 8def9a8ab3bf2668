// Package vex reads what people say of vulnerabilities: whether a product is
// affected (https://www.cisa.gov/sbom, "VEX"), in OpenVEX 0.2 or in CycloneDX,
// alone or inside an SBOM.
package vex

import (
	"encoding/json"
	"io"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/package-url/packageurl-go"

	"reeve.dev/reeve/insight"
)

// MaxDocument is the most bytes of a document of statements alone.
const MaxDocument = 32 << 20

// maxStatements is how many one document may make.
const maxStatements = 100_000

// Parse reads a document of statements. What isn't one is an
// *insight.InvalidError.
func Parse(r io.Reader) ([]insight.Statement, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(text) > MaxDocument {
		return nil, insight.Invalidf("vex: has more than %d bytes", MaxDocument)
	}
	var head struct {
		Context    json.RawMessage `json:"@context"`
		BOMFormat  string          `json:"bomFormat"`
		Statements json.RawMessage `json:"statements"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, insight.Invalidf("vex: isn't JSON: %v", err)
	}
	var out []insight.Statement
	switch {
	case head.BOMFormat == "CycloneDX":
		out, err = cycloneDX(text)
	case head.Statements != nil:
		out, err = openVEX(text)
	default:
		return nil, insight.Invalidf("vex: is neither OpenVEX (statements) nor CycloneDX (bomFormat)")
	}
	if err != nil {
		return nil, err
	}
	if len(out) > maxStatements {
		return nil, insight.Invalidf("vex: makes %d statements, more than %d", len(out), maxStatements)
	}
	return out, nil
}

type product struct {
	ID          string `json:"@id"`
	Identifiers struct {
		PURL string `json:"purl"`
	} `json:"identifiers"`
	Subcomponents []product `json:"subcomponents"`
}

func (p product) purl() string {
	if p.Identifiers.PURL != "" {
		return canonical(p.Identifiers.PURL)
	}
	return canonical(p.ID)
}

// vulnerability is a name in older documents, an object in newer ones.
type vulnerability struct {
	ID      string   `json:"@id"`
	Name    string   `json:"name"`
	Aliases []string `json:"aliases"`
}

func (v *vulnerability) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &v.Name)
	}
	type plain vulnerability
	return json.Unmarshal(b, (*plain)(v))
}

func openVEX(text []byte) (out []insight.Statement, err error) {
	var doc struct {
		Author     string    `json:"author"`
		Timestamp  time.Time `json:"timestamp"`
		Statements []struct {
			Vulnerability   vulnerability  `json:"vulnerability"`
			Products        []product      `json:"products"`
			Status          insight.Status `json:"status"`
			Justification   string         `json:"justification"`
			ImpactStatement string         `json:"impact_statement"`
			ActionStatement string         `json:"action_statement"`
			Timestamp       time.Time      `json:"timestamp"`
		} `json:"statements"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, insight.Invalidf("vex: %v", err)
	}
	for i, s := range doc.Statements {
		base := insight.Statement{
			Vulnerability: first(s.Vulnerability.Name, s.Vulnerability.ID), Status: s.Status, Justification: s.Justification,
			Detail: first(s.ImpactStatement, s.ActionStatement), Author: doc.Author, Made: s.Timestamp,
		}
		if base.Made.IsZero() {
			base.Made = doc.Timestamp
		}
		base.Names = append([]string{base.Vulnerability}, s.Vulnerability.Aliases...)
		switch {
		case base.Vulnerability == "":
			return nil, insight.Invalidf("vex: statements[%d].vulnerability.name: is missing", i)
		case !known(s.Status):
			return nil, insight.Invalidf("vex: statements[%d].status: is %q, must be one of %q", i, s.Status, []insight.Status{insight.NotAffected, insight.Affected, insight.Fixed, insight.UnderInvestigation})
		case len(s.Products) == 0:
			return nil, insight.Invalidf("vex: statements[%d].products: is missing", i)
		}
		for _, p := range s.Products {
			out = append(out, about(base, p)...)
		}
	}
	return out, nil
}

// about are the statements of one product: of each of its subcomponents or, if
// it is a package itself, of that in whatever it is.
func about(base insight.Statement, p product) (out []insight.Statement) {
	purl := p.purl()
	image := imageOf(first(purl, p.ID))
	switch {
	case image != "":
		base.Subject = insight.Subject(insight.SubjectImage + image)
	case len(p.Subcomponents) > 0, purl == "":
		base.Subject = insight.Subject(insight.SubjectName + nameOf(first(purl, p.ID)))
	default:
		base.Component = purl
	}
	if len(p.Subcomponents) == 0 {
		return []insight.Statement{base}
	}
	for _, sub := range p.Subcomponents {
		s := base
		if s.Component = sub.purl(); s.Component != "" {
			out = append(out, s)
		}
	}
	return out
}

var digest = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

func imageOf(id string) string {
	if plain, err := url.PathUnescape(id); err == nil {
		id = plain
	}
	return digest.FindString(id)
}

// nameOf is how an SBOM may name the product of a purl.
func nameOf(id string) string {
	p, err := packageurl.FromString(id)
	if err != nil {
		return id
	}
	if p.Version != "" {
		return p.Name + "@" + p.Version
	}
	return p.Name
}

func known(s insight.Status) bool {
	return s == insight.NotAffected || s == insight.Affected || s == insight.Fixed || s == insight.UnderInvestigation
}

// states are CycloneDX's, in OpenVEX's words.
var states = map[string]insight.Status{
	"resolved": insight.Fixed, "resolved_with_pedigree": insight.Fixed, "exploitable": insight.Affected,
	"in_triage": insight.UnderInvestigation, "false_positive": insight.NotAffected, "not_affected": insight.NotAffected,
}

// CycloneDX is a vulnerability in a CycloneDX document.
type CycloneDX struct {
	ID         string `json:"id"`
	References []struct {
		ID string `json:"id"`
	} `json:"references"`
	Analysis struct {
		State         string    `json:"state"`
		Justification string    `json:"justification"`
		Detail        string    `json:"detail"`
		FirstIssued   time.Time `json:"firstIssued"`
		LastUpdated   time.Time `json:"lastUpdated"`
	} `json:"analysis"`
	Affects []struct {
		Ref      string `json:"ref"`
		Versions []struct {
			Version string `json:"version"`
			Status  string `json:"status"`
		} `json:"versions"`
	} `json:"affects"`
}

func cycloneDX(text []byte) (out []insight.Statement, err error) {
	type component struct {
		Ref     string `json:"bom-ref"`
		Name    string `json:"name"`
		Version string `json:"version"`
		PURL    string `json:"purl"`
	}
	var doc struct {
		Metadata struct {
			Timestamp time.Time `json:"timestamp"`
			Component component `json:"component"`
		} `json:"metadata"`
		Components      []component `json:"components"`
		Vulnerabilities []CycloneDX `json:"vulnerabilities"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, insight.Invalidf("vex: %v", err)
	}
	purls := map[string]string{}
	for _, c := range doc.Components {
		purls[c.Ref] = c.PURL
	}
	main := doc.Metadata.Component
	for i, v := range doc.Vulnerabilities {
		if v.ID == "" {
			return nil, insight.Invalidf("vex: vulnerabilities[%d].id: is missing", i)
		}
		some, err := v.Statements(purls, doc.Metadata.Timestamp)
		if err != nil {
			return nil, insight.Invalidf("vex: vulnerabilities[%d].%v", i, err)
		}
		for _, s := range some {
			// The product that the document is about, by its name.
			if ref := strings.TrimPrefix(string(s.Subject), insight.SubjectSerial); main.Ref != "" && strings.HasSuffix(ref, "#"+main.Ref) || s.Subject == "" && s.Component == "" {
				name := main.Name
				if main.Version != "" {
					name += "@" + main.Version
				}
				s.Subject = insight.Subject(insight.SubjectName + name)
			}
			out = append(out, withoutRef(s))
		}
	}
	return out, nil
}

// withoutRef drops what a BOM-Link names inside of its document, unless it is a
// purl.
func withoutRef(s insight.Statement) insight.Statement {
	if serial, _, ok := strings.Cut(string(s.Subject), "#"); ok && strings.HasPrefix(serial, insight.SubjectSerial) {
		s.Subject = insight.Subject(serial)
	}
	return s
}

// Statements are those of a vulnerability, none without an analysis. purls are
// those of the references of the document's components.
func (v CycloneDX) Statements(purls map[string]string, made time.Time) (out []insight.Statement, err error) {
	if v.Analysis.State == "" {
		return nil, nil
	}
	status, ok := states[v.Analysis.State]
	if !ok {
		return nil, insight.Invalidf("analysis.state: is %q, which CycloneDX doesn't have", v.Analysis.State)
	}
	base := insight.Statement{
		Vulnerability: v.ID, Names: []string{v.ID}, Status: status,
		Justification: v.Analysis.Justification, Detail: v.Analysis.Detail, Made: made,
	}
	for _, at := range []time.Time{v.Analysis.FirstIssued, v.Analysis.LastUpdated} {
		if !at.IsZero() {
			base.Made = at
		}
	}
	for _, r := range v.References {
		if r.ID != "" {
			base.Names = append(base.Names, r.ID)
		}
	}
	for _, a := range v.Affects {
		s := base
		ref := a.Ref
		if link, ok := strings.CutPrefix(ref, "urn:cdx:"); ok { // BOM-Link: SERIAL/VERSION#REF
			serial, inside, _ := strings.Cut(link, "#")
			serial, _, _ = strings.Cut(serial, "/")
			inside, _ = url.QueryUnescape(inside)
			s.Subject, ref = insight.Subject(insight.SubjectSerial+"urn:uuid:"+serial+"#"+inside), inside
		}
		s.Component = canonical(first(purls[ref], ref))
		out = append(out, s)
	}
	return out, nil
}

func canonical(purl string) string {
	if !strings.HasPrefix(purl, "pkg:") {
		return ""
	}
	return insight.CanonicalPURL(purl)
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
