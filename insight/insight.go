package insight

import (
	"errors"
	"fmt"
	"time"

	"reeve.dev/reeve/fleet"
)

// ErrNotFound is the answer for an SBOM or a document that isn't there.
var ErrNotFound = errors.New("insight not found")

// InvalidError says why an item can't be taken, now or later. Its text is
// for the person who made the item.
type InvalidError struct{ Reason string }

func (e *InvalidError) Error() string { return e.Reason }

// Invalidf makes an InvalidError.
func Invalidf(format string, args ...any) error {
	return &InvalidError{Reason: fmt.Sprintf(format, args...)}
}

// ItemID is the name that an agent gives to one item; unique per cluster.
type ItemID string

// maxID is the most bytes of an ItemID.
const maxID = 256

// ScannedPrefix begins the ids of what an agent makes itself, of the target of a
// scan. Agents choose their items' ids, and nobody else does.
const ScannedPrefix = "sbom/"

// SpoolKind is the kind under which agents spool the messages of
// insight/lagoon.
const SpoolKind = "insight"

// Digest names a document by its content: "sha256:" and 64 hex digits.
type Digest string

// Environment is what an item is about: an environment of a project, which is
// a namespace in a cluster. Not every item knows all of it: a deletion knows
// the id only, a document no id.
type Environment struct {
	// ID is the environment's number in Lagoon; 0 where it isn't known.
	ID        int64
	Project   string
	Name      string
	Namespace string
}

// Place names the environment among those of its cluster, as far as documents
// know it.
func (e Environment) Place() string {
	if e.Namespace != "" {
		return e.Namespace
	}
	return e.Project + "/" + e.Name
}

// Item is one thing that an agent collected.
type Item struct {
	ID          ItemID
	Cluster     fleet.AgentName
	Environment Environment
	// Scanned says that the agent made it itself, of the target of a scan; else
	// somebody in the environment handed it in.
	Scanned bool
	// Came is when it came, of one that was in quarantine since: it doesn't replace
	// what came later. Zero is now.
	Came    time.Time
	Content Content
}

// Content is one of Facts, Problems, Deletion and Document.
type Content interface{ content() }

// Facts replace the facts of their sources and services.
type Facts []Fact

// Problems replace the problems of their sources and services.
type Problems []Problem

// Fact is one named value, such as the version of a framework.
type Fact struct {
	Name, Value                 string
	Source, Service             string
	Description, Type, Category string
}

// Problem is one thing that is wrong, such as a vulnerable package.
type Problem struct {
	Identifier            string
	Version, FixedVersion string
	Source, Service       string
	Severity              string
	SeverityScore         float64
	AssociatedPackage     string
	Description           string
	Links                 string
	Data                  string
}

// SourceOSV is the source of the problems that the hub finds itself (package
// osv).
const SourceOSV = "osv"

// Deletion removes the facts or the problems of a source.
type Deletion struct {
	Of     Kind
	Source string
	// Service narrows the deletion to one service; empty means all.
	Service string
}

// Kind tells what something is.
type Kind string

// The kinds of what is kept.
const (
	KindFacts    Kind = "facts"
	KindProblems Kind = "problems"
	KindSBOM     Kind = "sbom"
	KindImage    Kind = "image"
)

// Document is an SBOM or an image inspect as it was made, plain or gzipped.
type Document struct {
	Kind    Kind
	Service string
	// Build names what made the document; empty where that isn't known.
	Build string
	Data  []byte
}

func (Facts) content()    {}
func (Problems) content() {}
func (Deletion) content() {}
func (Document) content() {}

// Component is one package in an SBOM.
type Component struct {
	// PURL is in canonical form; empty where the document gives none, or one
	// that isn't a purl.
	PURL    string
	Type    string
	Group   string
	Name    string
	Version string
}

// Key is what makes two components the same one, across documents.
func (c Component) Key() string {
	if c.PURL != "" {
		return c.PURL
	}
	return c.Type + "\x1f" + c.Group + "\x1f" + c.Name + "\x1f" + c.Version
}

// SBOM is what a CycloneDX document says of itself, and its components, each
// once.
type SBOM struct {
	SpecVersion    string
	SerialNumber   string
	SubjectName    string
	SubjectVersion string
	// ImageDigest is that of the image that the document is about; empty where
	// it doesn't say it.
	ImageDigest string
	// Analysed tells that it has vulnerabilities, and so may make statements on
	// them.
	Analysed   bool
	Components []Component
}

// ImageInspect is what an image's configuration says.
type ImageInspect struct {
	Name         string
	Digest       string
	Created      string
	Architecture string
	OS           string
	Labels       map[string]string
	// Env are the variables of its environment, NAME=VALUE. They aren't kept,
	// since there may be secrets.
	Env []string
}

// Query narrows a list. A zero member doesn't.
type Query struct {
	Cluster       fleet.AgentName
	Namespace     string
	EnvironmentID int64
	Project       string
	Environment   string
	Service       string
	// Source narrows facts and problems.
	Source string
	// Build narrows documents and what they list, to those of a build, current or
	// not.
	Build string
	// At asks how things stood at a time; zero means now.
	At time.Time
	// Kind and Digest narrow documents; Digest also components.
	Kind   Kind
	Digest Digest
	// History adds the documents that aren't current any more, and the facts and
	// problems that were told and don't hold any more.
	History bool
	// Cleared adds the problems that a statement says are none.
	Cleared bool
	// Since leaves out facts and problems that held before.
	Since time.Time
	// Q is the beginning of a component's name or purl, or a problem's
	// identifier.
	Q string
	// Within, unless it is nil, leaves out what is in none of it; quarantined
	// messages are in no namespace, nor is a fact or problem whose environment's
	// isn't known.
	Within []fleet.Scope
	// Limit is 100 where it is 0, and at most 1000.
	Limit, Offset int
}

// The records below are what the hub answers with.

// FactRecord is a fact and where it holds.
type FactRecord struct {
	Cluster     fleet.AgentName
	Environment Environment
	Fact
	// Build is that of the document that it was derived from; empty of what was
	// told.
	Build string
	// It holds Since a time, Until another; zero: still. Received is when it was
	// last said.
	Since, Until, Received time.Time
}

// ProblemRecord is a problem and where it is.
type ProblemRecord struct {
	Cluster     fleet.AgentName
	Environment Environment
	Problem
	// As those of a fact.
	Since, Until, Received time.Time
	// Said is the latest statement on it; nil where there is none.
	Said *StatementRecord
}

// StatementRecord is a statement and the document that makes it.
type StatementRecord struct {
	Statement
	Document Digest
}

// DocumentRecord is an SBOM or image inspect of one service as it was at one
// time.
type DocumentRecord struct {
	Item        ItemID
	Cluster     fleet.AgentName
	Environment Environment
	Kind        Kind
	Service     string
	Build       string
	Digest      Digest
	Size        int64
	Received    time.Time
	// Current tells that no later document of the service has come; one did at
	// Until.
	Current bool
	Until   time.Time
	// Components counts those of an SBOM.
	Components int
	// SBOM is without its components; nil for another kind.
	SBOM *SBOM
	// Image is nil for another kind.
	Image *ImageInspect
}

// ComponentRecord is a component and one place where it is now.
type ComponentRecord struct {
	Component
	Cluster     fleet.AgentName
	Environment Environment
	Service     string
	Build       string
	Digest      Digest
	Received    time.Time
}

// QuarantineRecord is an item that couldn't be taken.
type QuarantineRecord struct {
	Item     ItemID
	Cluster  fleet.AgentName
	Reason   string
	Digest   Digest
	Size     int64
	Received time.Time
}
