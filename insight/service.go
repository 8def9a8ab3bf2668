package insight

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/fleet"
)

// Store keeps insights. ApplyInsight and QuarantineInsight are each one
// transaction with the receipt of the item's id; for an id that has a receipt
// they change nothing and report false.
type Store interface {
	// InsightReceived reports whether the item has a receipt.
	InsightReceived(ctx context.Context, cluster fleet.AgentName, id ItemID) (bool, error)
	// PutDocument keeps what r gives, and returns its digest and size once it
	// is durable. r's error comes back as it is.
	PutDocument(r io.Reader, limit int64) (string, int64, error)
	Document(digest string) (io.ReadCloser, error)
	// HasDocument reports whether it is kept, which it is from then on for as long
	// as it takes to name it.
	HasDocument(digest string) (bool, error)
	// SameSBOM finds an SBOM of the same Content that an agent of the cluster made
	// itself; ErrNotFound where there is none.
	SameSBOM(ctx context.Context, cluster fleet.AgentName, content string) (digest Digest, size int64, err error)
	// ApplyInsight stores what an item says. parsed is nil unless the item's
	// content is a Document. It answers an *InvalidError for what the database
	// can't hold.
	ApplyInsight(ctx context.Context, it Item, parsed *Parsed, at time.Time) (bool, error)
	QuarantineInsight(ctx context.Context, q QuarantineRecord) (bool, error)
	// QuarantinedItem and Unquarantine answer ErrNotFound for one that isn't
	// there.
	QuarantinedItem(ctx context.Context, cluster fleet.AgentName, id ItemID) (QuarantineRecord, error)
	Unquarantine(ctx context.Context, cluster fleet.AgentName, id ItemID) error
	ForgetReceipt(ctx context.Context, cluster fleet.AgentName, id ItemID) error
	// DerivedFacts lists what was derived from a document, and PutDerivedFacts
	// replaces it if the document is still current.
	DerivedFacts(ctx context.Context, d DocumentRecord) ([]Fact, error)
	PutDerivedFacts(ctx context.Context, d DocumentRecord, facts []Fact) error
}

// Parsed is what a Document was found to be. One of SBOM and Image is set.
type Parsed struct {
	Digest Digest
	Size   int64
	// Content tells SBOMs that agents made themselves apart by what they say alone;
	// empty of others.
	Content string
	SBOM    *SBOM
	Image   *ImageInspect
	// Statements are those that an SBOM makes on its own components.
	Statements []Statement
	// Export is where an SBOM goes besides; nil: nowhere.
	Export *Destination
	// Facts are derived from the document. They replace those of the service's
	// document before it.
	Facts []Fact
}

// ImageDigest is that of the image that the document is about; empty where it
// doesn't say it.
func (p *Parsed) ImageDigest() string {
	switch {
	case p.SBOM != nil:
		return p.SBOM.ImageDigest
	case p.Image != nil:
		return p.Image.Digest
	}
	return ""
}

// Poison is a message that can't be taken.
type Poison struct {
	Item    ItemID
	Cluster fleet.AgentName
	Reason  string
	Message []byte
}

// Limits bound what one document may cost the hub.
type Limits struct {
	// Document is the most bytes of a document once it is inflated.
	Document int64
	// Components is the most components of one SBOM.
	Components int
}

// DefaultLimits are those of a zero Limits.
var DefaultLimits = Limits{Document: 512 << 20, Components: 500_000}

// Service is the hub's side: it judges items and stores them.
type Service struct {
	store  Store
	limits Limits
	log    *slog.Logger
	vex    func(io.Reader) ([]Statement, error)
	derive func(kind Kind, service string) Deriver

	exportTo func(Item, Document) (*Destination, error)
}

// ReadStatements has SBOMs that make statements read by parse, too. It is
// called before the first item comes.
func (s *Service) ReadStatements(parse func(io.Reader) ([]Statement, error)) { s.vex = parse }

// NewService makes a Service on store.
func NewService(store Store, limits Limits, logger *slog.Logger) *Service {
	if limits.Document <= 0 {
		limits.Document = DefaultLimits.Document
	}
	if limits.Components <= 0 {
		limits.Components = DefaultLimits.Components
	}
	return &Service{store: store, limits: limits, log: logger}
}

// Accept stores an item and returns nil once it is durable, also when it was
// before. It returns an *InvalidError for one that can't be taken, which the
// caller hands to Quarantine.
func (s *Service) Accept(ctx context.Context, it Item) error {
	if err := it.validate(); err != nil {
		return err
	}
	known, err := s.store.InsightReceived(ctx, it.Cluster, it.ID)
	if err != nil || known {
		return err
	}
	it.Content = storableContent(it.Content)
	var parsed *Parsed
	if doc, ok := it.Content.(Document); ok {
		if parsed, err = s.keep(ctx, it, doc); err != nil {
			return err
		}
		if s.exportTo != nil && doc.Kind == KindSBOM {
			if parsed.Export, err = s.exportTo(it, doc); err != nil {
				s.log.Error("an SBOM is kept, but not exported", "agent", it.Cluster, "item", it.ID, "error", err)
			}
		}
	}
	_, err = s.store.ApplyInsight(ctx, it, parsed, time.Now())
	return err
}

// Quarantine keeps a message that can't be taken, and returns nil once it is
// durable.
func (s *Service) Quarantine(ctx context.Context, p Poison) error {
	if err := validID(p.Item); err != nil {
		return err
	}
	d, size, err := s.store.PutDocument(bytes.NewReader(p.Message), int64(len(p.Message)))
	if err != nil {
		return err
	}
	fresh, err := s.store.QuarantineInsight(ctx, QuarantineRecord{
		Item: p.Item, Cluster: p.Cluster, Reason: p.Reason,
		Digest: Digest(d), Size: size, Received: time.Now(),
	})
	if fresh {
		s.log.Warn("insight quarantined", "agent", p.Cluster, "item", p.Item, "reason", p.Reason)
	}
	return err
}

// Requeue takes a message out of quarantine, as decode reads it now. It holds from
// when it came, unless something came later that replaces it. One that still can't
// be taken stays, and the answer is the *InvalidError; ErrNotFound where there is no
// such item.
func (s *Service) Requeue(ctx context.Context, cluster fleet.AgentName, id ItemID, decode func([]byte) (Item, error)) error {
	q, err := s.store.QuarantinedItem(ctx, cluster, id)
	if err != nil {
		return err
	}
	r, err := s.store.Document(string(q.Digest))
	if err != nil {
		return err
	}
	defer r.Close()
	message, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	it, err := decode(message)
	if err == nil {
		it.ID, it.Cluster, it.Came = id, cluster, q.Received
		err = it.validate()
	}
	// In this order nothing is lost if the hub dies in between: what was taken
	// already is taken again, with the same outcome.
	if forgot := s.store.ForgetReceipt(ctx, cluster, id); forgot != nil {
		return forgot
	}
	if err == nil {
		err = s.Accept(ctx, it)
	}
	var invalid *InvalidError
	if errors.As(err, &invalid) {
		q.Reason = invalid.Reason
		if _, kept := s.store.QuarantineInsight(ctx, q); kept != nil {
			return kept
		}
		return err
	}
	if err != nil {
		return err
	}
	s.log.Info("insight taken out of quarantine", "agent", cluster, "item", id)
	return s.store.Unquarantine(ctx, cluster, id)
}

// Discard forgets a message in quarantine; ErrNotFound where there is none.
func (s *Service) Discard(ctx context.Context, cluster fleet.AgentName, id ItemID) error {
	return s.store.Unquarantine(ctx, cluster, id)
}

// keep stores the document as it is inflated and reads it again from there,
// so that it is never in memory as a whole. One that an agent made anew and that
// says the same is that which is there.
func (s *Service) keep(ctx context.Context, it Item, doc Document) (*Parsed, error) {
	content, digest, size, err := s.same(ctx, it, doc)
	if err != nil {
		return nil, err
	}
	if digest == "" {
		plain, err := s.plain(doc)
		if err != nil {
			return nil, err
		}
		if digest, size, err = s.store.PutDocument(plain, s.limits.Document); err != nil {
			return nil, err
		}
	}
	r, err := s.store.Document(digest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var by Deriver
	if s.derive != nil {
		by = s.derive(doc.Kind, doc.Service)
	}
	p, err := s.parse(r, doc.Kind, by)
	if err != nil {
		return nil, err
	}
	p.Digest, p.Size, p.Content = Digest(digest), size, content
	if p.SBOM != nil && p.SBOM.Analysed && s.vex != nil {
		p.Statements, err = s.statements(p.Digest, p.SBOM.SerialNumber)
	}
	return p, err
}

// plain is the document inflated, within its limit.
func (s *Service) plain(doc Document) (io.Reader, error) {
	plain, err := inflate(doc.Data)
	if err != nil {
		return nil, err
	}
	return &bounded{r: plain, left: s.limits.Document, limit: s.limits.Document}, nil
}

// same finds the document that says what this one does; digest is empty where
// there is none, content where none is looked for.
func (s *Service) same(ctx context.Context, it Item, doc Document) (content, digest string, size int64, err error) {
	if !it.Scanned || doc.Kind != KindSBOM {
		return "", "", 0, nil
	}
	plain, err := s.plain(doc)
	if err != nil {
		return "", "", 0, err
	}
	if content, err = ContentOf(plain); err != nil {
		return "", "", 0, err
	}
	found, size, err := s.store.SameSBOM(ctx, it.Cluster, content)
	if errors.Is(err, ErrNotFound) {
		return content, "", 0, nil
	}
	if err != nil {
		return "", "", 0, err
	}
	if there, err := s.store.HasDocument(string(found)); err != nil || !there {
		return content, "", 0, err
	}
	return content, string(found), size, nil
}

// varies is what differs between two SBOMs that are made of the same.
var varies = regexp.MustCompile(`"(serialNumber|timestamp)"\s*:\s*"[^"]*"`)

// ContentOf is the digest of an SBOM without what varies: its number and its time,
// which an agent writes at its beginning.
func ContentOf(r io.Reader) (string, error) {
	const beginning = 4 << 10
	b := bufio.NewReaderSize(r, beginning)
	head, err := b.Peek(beginning)
	if err != nil && err != io.EOF {
		return "", err
	}
	sum := sha256.New()
	sum.Write(varies.ReplaceAll(head, []byte(`"$1":""`)))
	b.Discard(len(head))
	if _, err := io.Copy(sum, b); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// statements reads those of an SBOM. One whose statements can't be read is an
// SBOM all the same.
func (s *Service) statements(digest Digest, serial string) ([]Statement, error) {
	r, err := s.store.Document(string(digest))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	found, err := s.vex(r)
	var invalid *InvalidError
	if errors.As(err, &invalid) {
		s.log.Warn("the statements of an SBOM aren't heeded", "sbom", digest, "reason", invalid.Reason)
		return nil, nil
	}
	// Who hands in an SBOM speaks of what that lists: not of the components in
	// another's, by its serial number.
	found = slices.DeleteFunc(found, func(st Statement) bool {
		return strings.HasPrefix(string(st.Subject), SubjectSerial) && !strings.EqualFold(string(st.Subject), SubjectSerial+serial)
	})
	for i := range found {
		found[i].Subject = InDocument(digest)
	}
	return found, err
}

// inflate gives the plain document; what doesn't begin as gzip is plain.
func inflate(data []byte) (io.Reader, error) {
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return bytes.NewReader(data), nil
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, Invalidf("document isn't gzip: %v", err)
	}
	return z, nil
}

// bounded turns whatever goes wrong with a document in memory into an
// InvalidError, and so does more than limit bytes of it.
type bounded struct {
	r           io.Reader
	left, limit int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, Invalidf("document has more than %d bytes when inflated", b.limit)
	}
	if err != nil && err != io.EOF {
		return n, Invalidf("document is damaged gzip: %v", err)
	}
	return n, err
}

// storableContent is c with its texts as they are stored, so that what was said
// is compared with what is held, and one with another.
func storableContent(c Content) Content {
	switch c := c.(type) {
	case Facts:
		return Facts(storableFacts(c))
	case Problems:
		out := slices.Clone(c)
		for i := range out {
			p := &out[i]
			for _, text := range []*string{
				&p.Identifier, &p.Version, &p.FixedVersion, &p.Source, &p.Service, &p.Severity, &p.AssociatedPackage, &p.Description, &p.Links, &p.Data,
			} {
				*text = storable(*text)
			}
		}
		return out
	}
	return c
}

func storableFacts(facts []Fact) []Fact {
	out := slices.Clone(facts)
	for i := range out {
		f := &out[i]
		for _, text := range []*string{&f.Name, &f.Value, &f.Source, &f.Service, &f.Description, &f.Type, &f.Category} {
			*text = storable(*text)
		}
	}
	return out
}

func (it Item) validate() error {
	if err := validID(it.ID); err != nil {
		return err
	}
	if err := it.Cluster.Validate(); err != nil {
		return &InvalidError{Reason: err.Error()}
	}
	switch c := it.Content.(type) {
	case Facts:
		return c.validate(it.Environment)
	case Problems:
		return c.validate(it.Environment)
	case Deletion:
		return c.validate(it.Environment)
	case Document:
		if it.Environment.Namespace == "" && (it.Environment.Project == "" || it.Environment.Name == "") {
			return Invalidf("%s: needs a namespace, or a project and an environment", c.Kind)
		}
		if c.Service == "" {
			return Invalidf("%s: service is missing", c.Kind)
		}
		return nil
	default:
		return Invalidf("item has no content")
	}
}

func validID(id ItemID) error {
	if id == "" || len(id) > maxID {
		return Invalidf("item id: must have 1 to %d bytes, has %d", maxID, len(id))
	}
	return nil
}

func (fs Facts) validate(env Environment) error {
	if env.ID <= 0 {
		return Invalidf("facts: environment id %d: must be above 0", env.ID)
	}
	for i, f := range fs {
		switch {
		case f.Name == "":
			return Invalidf("facts[%d].name: is missing", i)
		case f.Source == "":
			return Invalidf("facts[%d].source: is missing", i)
		}
	}
	return nil
}

func (ps Problems) validate(env Environment) error {
	if env.ID <= 0 {
		return Invalidf("problems: environment id %d: must be above 0", env.ID)
	}
	for i, p := range ps {
		switch {
		case p.Identifier == "":
			return Invalidf("problems[%d].identifier: is missing", i)
		case p.Source == "":
			return Invalidf("problems[%d].source: is missing", i)
		}
	}
	return nil
}

func (d Deletion) validate(env Environment) error {
	switch {
	case env.ID <= 0:
		return Invalidf("deletion: environment id %d: must be above 0", env.ID)
	case d.Source == "":
		return Invalidf("deletion: source is missing")
	case d.Of != KindFacts && d.Of != KindProblems:
		return Invalidf("deletion of %q: must be of %s or %s", d.Of, KindFacts, KindProblems)
	}
	return nil
}

// ParseImageInspect reads an image's configuration as skopeo inspect prints
// it. A document that isn't one is an *InvalidError.
func ParseImageInspect(r io.Reader) (*ImageInspect, error) {
	var doc struct {
		Name, Digest, Created, Architecture, Os string
		Labels                                  map[string]string
		Env                                     []string
	}
	if err := decodeAll(json.NewDecoder(r), &doc); err != nil {
		return nil, documentError("image inspect", err)
	}
	if doc.Name == "" && doc.Digest == "" && doc.Os == "" {
		return nil, Invalidf("image inspect: Name, Digest and Os are missing")
	}
	return &ImageInspect{
		Name: doc.Name, Digest: doc.Digest, Created: doc.Created,
		Architecture: doc.Architecture, OS: doc.Os, Labels: doc.Labels, Env: doc.Env,
	}, nil
}

// decodeAll reads one JSON value and sees that nothing follows it.
func decodeAll(dec *json.Decoder, v any) error {
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return Invalidf("something follows the document's end")
	}
	return nil
}

// documentError makes an InvalidError of what the JSON decoder found wrong
// with the text; other errors are the store's.
func documentError(what string, err error) error {
	var (
		syntax  *json.SyntaxError
		typ     *json.UnmarshalTypeError
		invalid *InvalidError
	)
	switch {
	case errors.As(err, &invalid):
		return Invalidf("%s: %s", what, invalid.Reason)
	case errors.As(err, &syntax):
		return Invalidf("%s: isn't JSON: %v at byte %d", what, err, syntax.Offset)
	case errors.As(err, &typ):
		return Invalidf("%s: %s: is a %s, must be a %s", what, typ.Field, typ.Value, typ.Type)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Invalidf("%s: is cut off", what)
	}
	return fmt.Errorf("%s: %w", what, err)
}
