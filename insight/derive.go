package insight

import (
	"context"
	"io"
)

// Deriver makes facts of one document, whose parts it is shown one after the
// other.
type Deriver interface {
	// Component is shown each component of an SBOM that isn't part of another.
	Component(Attributes)
	Image(*ImageInspect)
	Facts() []Fact
}

// Attributes are those of a component as its document has them, by CycloneDX's
// names.
type Attributes struct {
	BOMRef, MIMEType, Type, Author, Publisher, Group, Name, Version, Description, Scope, Copyright, CPE, PackageURL string
}

// DeriveFacts has facts made of each document of a service, by what by gives. It
// is called before the first item comes.
func (s *Service) DeriveFacts(by func(kind Kind, service string) Deriver) { s.derive = by }

// Derivation is what a service's document comes to.
type Derivation struct {
	Document DocumentRecord
	// Facts are those that it comes to, Changes how they differ from those that
	// are stored.
	Facts   []Fact
	Changes []FactChange
}

// Rederive makes the facts of a current document anew, by by or, where that is
// nil, as of what comes now. They are stored if store says so and the document
// is still current.
func (s *Service) Rederive(ctx context.Context, d DocumentRecord, by func(kind Kind, service string) Deriver, store bool) (Derivation, error) {
	out := Derivation{Document: d}
	if by == nil {
		by = s.derive
	}
	if by != nil {
		r, err := s.store.Document(string(d.Digest))
		if err != nil {
			return out, err
		}
		defer r.Close()
		p, err := s.parse(r, d.Kind, by(d.Kind, d.Service))
		if err != nil {
			return out, err
		}
		out.Facts = p.Facts
	}
	before, err := s.store.DerivedFacts(ctx, d)
	if err != nil {
		return out, err
	}
	out.Changes = CompareFacts(before, out.Facts)
	if !store || len(out.Changes) == 0 {
		return out, nil
	}
	return out, s.store.PutDerivedFacts(ctx, d, out.Facts)
}

// parse reads a document and what by makes of it; nil makes nothing.
func (s *Service) parse(r io.Reader, kind Kind, by Deriver) (p *Parsed, err error) {
	p = &Parsed{}
	switch kind {
	case KindSBOM:
		var each func(Attributes)
		if by != nil {
			each = by.Component
		}
		p.SBOM, err = parseSBOM(r, s.limits.Components, true, each)
	case KindImage:
		if p.Image, err = ParseImageInspect(r); err == nil && by != nil {
			by.Image(p.Image)
		}
	default:
		err = Invalidf("document of kind %q: must be %s or %s", kind, KindSBOM, KindImage)
	}
	if err == nil && by != nil {
		p.Facts = storableFacts(by.Facts())
	}
	return p, err
}
