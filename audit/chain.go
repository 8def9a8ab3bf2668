package audit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Entry is a record in its chain.
type Entry struct {
	Chain string
	Seq   int64
	Body  string
	Hash  string // 64 hexadecimal digits
	Index Index
}

// Head is the end of a chain; the zero value is that of an empty one.
type Head struct {
	Seq  int64
	Hash string
	// Body is that of the newest record.
	Body string
}

// AnchorKind says what an anchor is for.
type AnchorKind string

const (
	// Checkpoint anchors a record that is there.
	Checkpoint AnchorKind = "checkpoint"
	// Trim says that everything up to its record was removed, since it was
	// old.
	Trim AnchorKind = "trim"
)

// Anchor is a signed statement of which hash a record has.
type Anchor struct {
	Chain     string
	Seq       int64
	Hash      string
	Kind      AnchorKind
	At        time.Time
	Signature []byte
}

// Message is what is signed.
func (a Anchor) Message() []byte {
	return fmt.Appendf(nil, "reeve audit anchor 1\n%s\n%s\n%d\n%s\n%d\n", a.Kind, a.Chain, a.Seq, a.Hash, a.At.UnixMicro())
}

// Filter says which records are asked for; what is empty lets all pass.
type Filter struct {
	Index
	// Since and Until are of the end of what is recorded.
	Since, Until time.Time
	Limit        int
	Before       Cursor
}

// Cursor is a place between records, which are listed with the newest first;
// the zero value is before all.
type Cursor struct {
	At    time.Time
	Chain string
	Seq   int64
}

// Store keeps chains. It is implemented in store.
type Store interface {
	// AppendAudit adds entries of one chain, all or none. That one of their
	// numbers is there already is an error.
	AppendAudit(ctx context.Context, entries []Entry) error
	// AuditHead is the end of a chain.
	AuditHead(ctx context.Context, chain string) (Head, error)
	// AuditChains lists the chains that have records or anchors.
	AuditChains(ctx context.Context) ([]string, error)
	// AuditEntries are up to limit of a chain, in its order, after a number.
	AuditEntries(ctx context.Context, chain string, after int64, limit int) ([]Entry, error)
	// AuditRecords are those that f asks for, the newest first.
	AuditRecords(ctx context.Context, f Filter) ([]Entry, error)
	// AddAnchor adds an anchor.
	AddAnchor(ctx context.Context, a Anchor) error
	// Anchors are a chain's, by number.
	Anchors(ctx context.Context, chain string) ([]Anchor, error)
	// TrimPoint is the last of at most limit records at a chain's beginning
	// that were over before a time and aren't its newest; the zero value if
	// there is none.
	TrimPoint(ctx context.Context, chain string, before time.Time, limit int) (Head, error)
	// TrimAudit puts a Trim anchor in the place of all that is up to it.
	TrimAudit(ctx context.Context, a Anchor) error
}

// hashOf is the hash of an entry after one whose hash is prev.
func hashOf(prev, chain string, seq int64, body string) string {
	h := sha256.New()
	h.Write([]byte("reeve audit 1\n" + prev + "\n" + chain + "\n" + strconv.FormatInt(seq, 10) + "\n"))
	h.Write([]byte(body))
	return hex.EncodeToString(h.Sum(nil))
}

// seal makes the next entry of a chain.
func seal(chain string, h Head, r Record) (Entry, error) {
	r = r.clean()
	body, err := r.body()
	if err != nil {
		return Entry{}, err
	}
	seq := h.Seq + 1
	return Entry{Chain: chain, Seq: seq, Body: body, Hash: hashOf(h.Hash, chain, seq, body), Index: r.Index()}, nil
}

func (e Entry) head() Head { return Head{Seq: e.Seq, Hash: e.Hash, Body: e.Body} }

// Broken is the first place where a chain isn't what was written.
type Broken struct {
	Chain string
	// Seq is the first record that is wrong or missing.
	Seq int64
	Why string
}

func (b *Broken) Error() string {
	return fmt.Sprintf("audit chain %s is broken at record %d: %s", b.Chain, b.Seq, b.Why)
}

// Verifier recomputes one chain, which it is given in order.
type Verifier struct {
	chain   string
	check   func(message, signature []byte) error
	trims   map[int64]Anchor
	anchors []Anchor // Checkpoints that aren't passed yet, by number
	began   bool
	last    Head
	counted Verified
}

// Verified is what a chain that holds consists of.
type Verified struct {
	Chain   string `json:"chain"`
	Records int64  `json:"records"`
	// First and Last are numbers; First isn't 1 where older ones were removed.
	First int64  `json:"first"`
	Last  int64  `json:"last"`
	Hash  string `json:"hash"` // of Last
	// Anchored is the newest record that a signature vouches for.
	Anchored int64 `json:"anchored"`
}

// NewVerifier makes a Verifier of a chain with these anchors. check says
// whether a signature is the hub's CA's.
func NewVerifier(chain string, anchors []Anchor, check func(message, signature []byte) error) *Verifier {
	v := &Verifier{chain: chain, check: check, trims: map[int64]Anchor{}, counted: Verified{Chain: chain}}
	for _, a := range anchors {
		if a.Kind == Trim {
			v.trims[a.Seq] = a
		} else {
			v.anchors = append(v.anchors, a)
		}
	}
	slices.SortFunc(v.anchors, func(a, b Anchor) int { return int(a.Seq - b.Seq) })
	return v
}

func (v *Verifier) broken(seq int64, format string, args ...any) error {
	return &Broken{Chain: v.chain, Seq: seq, Why: fmt.Sprintf(format, args...)}
}

// Next takes the next entry. Its error is a *[Broken].
func (v *Verifier) Next(e Entry) error {
	if !v.began {
		if err := v.begin(e.Seq); err != nil {
			return err
		}
	}
	want := v.last.Seq + 1
	switch {
	case e.Seq > want:
		return v.broken(want, "it is missing; the next that is there is %d", e.Seq)
	case e.Seq < want:
		return v.broken(e.Seq, "its number was there before")
	case e.Hash != hashOf(v.last.Hash, v.chain, e.Seq, e.Body):
		return v.broken(e.Seq, "its content or its hash was changed, or a record before it")
	}
	r, err := ParseRecord(e.Body)
	if err != nil {
		return v.broken(e.Seq, "%v", err)
	}
	if !r.Index().equal(e.Index) {
		return v.broken(e.Seq, "it is found by other members than it has")
	}
	v.last = e.head()
	for len(v.anchors) > 0 && v.anchors[0].Seq <= e.Seq {
		a := v.anchors[0]
		v.anchors = v.anchors[1:]
		if a.Seq < e.Seq { // of what was trimmed
			continue
		}
		if a.Hash != e.Hash {
			return v.broken(e.Seq, "it isn't the record that was anchored on %s", a.At.UTC().Format(time.RFC3339))
		}
		if err := v.check(a.Message(), a.Signature); err != nil {
			return v.broken(e.Seq, "the signature of its anchor is wrong: %v", err)
		}
		v.counted.Anchored = a.Seq
	}
	v.counted.Records++
	return nil
}

func (v *Verifier) begin(first int64) error {
	v.began, v.counted.First = true, first
	if first == 1 {
		return nil
	}
	a, ok := v.trims[first-1]
	if !ok {
		return v.broken(first-1, "the records up to it are missing, and no anchor says that they were removed because of their age")
	}
	if err := v.check(a.Message(), a.Signature); err != nil {
		return v.broken(first-1, "the signature of the anchor that stands for the records up to it is wrong: %v", err)
	}
	v.last, v.counted.Anchored = Head{Seq: a.Seq, Hash: a.Hash}, a.Seq
	return nil
}

// End says that the chain has no more entries. Its error is a *[Broken].
func (v *Verifier) End() (Verified, error) {
	for _, a := range v.anchors {
		if a.Seq > v.last.Seq {
			return v.counted, v.broken(v.last.Seq+1, "it is missing, as all up to %d are, of which an anchor is there", a.Seq)
		}
	}
	if !v.began && len(v.trims) > 0 {
		return v.counted, v.broken(1, "the chain has no records, though its newest always stays")
	}
	v.counted.Last, v.counted.Hash = v.last.Seq, v.last.Hash
	return v.counted, nil
}

// Note is a place of a chain that was noted elsewhere, as in the hub's log.
type Note struct {
	Chain string
	Seq   int64
	Hash  string
}

// ErrNote: a text isn't CHAIN:NUMBER:HASH.
var ErrNote = errors.New("it must be CHAIN:NUMBER:HASH, as the hub's log has it")

func (n Note) String() string { return fmt.Sprintf("%s:%d:%s", n.Chain, n.Seq, n.Hash) }

// ParseNote reads what String writes. The error wraps ErrNote.
func ParseNote(text string) (Note, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return Note{}, fmt.Errorf("%q: %w", text, ErrNote)
	}
	seq, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || seq < 1 {
		return Note{}, fmt.Errorf("%q: %w", text, ErrNote)
	}
	return Note{parts[0], seq, parts[2]}, nil
}

// Holds reports whether e is what was noted, if it is the record at all.
func (n Note) Holds(e Entry) error {
	if e.Chain == n.Chain && e.Seq == n.Seq && e.Hash != n.Hash {
		return &Broken{Chain: n.Chain, Seq: n.Seq, Why: "it isn't the record that was noted: the hash was " + n.Hash}
	}
	return nil
}
