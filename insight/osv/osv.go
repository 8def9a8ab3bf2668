package osv

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/internal/zipdir"
)

// Store keeps entries and findings. Each method is one transaction.
type Store interface {
	// PutOSV writes those entries that aren't there in the same state yet, and
	// removes those that were withdrawn; it notes the packages of both for
	// MatchOSV and answers how many they are.
	PutOSV(ctx context.Context, entries []Entry, at time.Time) (changed int, err error)
	// MatchOSV takes up to limit of the noted packages and asks judge about each
	// of their components anew. It answers how many packages it took.
	MatchOSV(ctx context.Context, limit int, judge Judge, at time.Time) (packages int, err error)
	// OSVNoted is closed when packages are noted after the call.
	OSVNoted() <-chan struct{}
}

// Candidate is what an entry says of a component's package.
type Candidate struct {
	Entry string
	Affected
}

// Finding is that a component has an entry's vulnerability.
type Finding struct {
	Entry string
	// Fixed is the version in which it is fixed; empty where there is none.
	Fixed string
}

// Judge decides which of the candidates a component has, once each.
type Judge func(purl string, candidates []Candidate) []Finding

// Find is the Judge that this package's documentation describes.
func Find(purl string, candidates []Candidate) (found []Finding) {
	p := insight.PackageOf(purl)
	at := map[string]int{}
	for _, c := range candidates {
		fixed, affected := c.Match(p)
		if !affected {
			continue
		}
		if i, twice := at[c.Entry]; twice {
			if found[i].Fixed == "" {
				found[i].Fixed = fixed
			}
			continue
		}
		at[c.Entry] = len(found)
		found = append(found, Finding{c.Entry, fixed})
	}
	return found
}

// Limits of an import.
const (
	maxEntry    = 32 << 20 // bytes of one entry; the largest of osv.dev has some 10 MB
	maxEntries  = 5_000_000
	maxInflated = 64 << 30
	maxReasons  = 20
	// maxDirectory is for the names of the entries, which take some five times as
	// much memory; those of all of osv.dev have some 60 MB.
	maxDirectory = 160 << 20
	// putAtOnce are written together, unless they have more than putBytes.
	putAtOnce = 1000
	putBytes  = 32 << 20
)

// Imported says what an import did.
type Imported struct {
	// Entries is how many there were, Changed how many of them were new or other
	// than before, or withdrawn.
	Entries, Changed int
	// Invalid counts what couldn't be read, Reasons says why of the first few.
	Invalid int
	Reasons []string
}

// ErrNotZip is that of an import of something else.
var ErrNotZip = errors.New("isn't a zip file of OSV entries, such as https://osv-vulnerabilities.storage.googleapis.com/npm/all.zip")

// Import reads a zip file of entries. One that can't be read is counted and
// left out. What was imported before an error stays, and the next import does
// the rest.
func Import(ctx context.Context, store Store, file io.ReaderAt, size int64) (Imported, error) {
	z, err := zipdir.Open(file, size, maxDirectory)
	if err != nil {
		return Imported{}, fmt.Errorf("%w: %w", ErrNotZip, err)
	}
	if len(z.File) > maxEntries {
		return Imported{}, fmt.Errorf("%w: it has %d files, more than %d", ErrNotZip, len(z.File), maxEntries)
	}
	var out Imported
	batches := make(chan []Entry, 2)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(batches)
		return readAll(ctx, z, &out, batches)
	})
	changed := 0
	group.Go(func() error {
		for entries := range batches {
			n, err := store.PutOSV(ctx, entries, time.Now())
			if err != nil {
				return err
			}
			changed += n
		}
		return nil
	})
	err = group.Wait()
	out.Changed = changed
	if err == nil && out.Entries == 0 {
		err = fmt.Errorf("%w: it has no entry that can be read; %s", ErrNotZip, strings.Join(out.Reasons, "; "))
	}
	return out, err
}

func readAll(ctx context.Context, z *zip.Reader, out *Imported, batches chan<- []Entry) error {
	var entries []Entry
	inflated, held := int64(0), 0
	send := func() error {
		select {
		case batches <- entries:
			entries, held = nil, 0
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for _, f := range z.File {
		if !strings.HasSuffix(f.Name, ".json") {
			continue
		}
		text, err := read(f)
		if inflated += int64(len(text)); inflated > maxInflated {
			return fmt.Errorf("%w: it inflates to more than %d bytes", ErrNotZip, int64(maxInflated))
		}
		var e Entry
		if err == nil {
			e, err = Parse(text)
		}
		if err != nil {
			if out.Invalid++; out.Invalid <= maxReasons {
				out.Reasons = append(out.Reasons, fmt.Sprintf("%.200q: %v", f.Name, err))
			}
			continue
		}
		out.Entries++
		held += len(text)
		if entries = append(entries, e); len(entries) == putAtOnce || held > putBytes {
			if err := send(); err != nil {
				return err
			}
		}
	}
	return send()
}

func read(f *zip.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxEntry+1))
	if err == nil && len(text) > maxEntry {
		err = fmt.Errorf("has more than %d bytes", maxEntry)
	}
	return text, err
}

// Matcher finds anew what components of noted packages have.
type Matcher struct {
	Store  Store
	Logger *slog.Logger
}

const (
	// matchAtOnce is how many packages one transaction is about.
	matchAtOnce = 200
	// matchPoll is when the matcher looks for what it wasn't told of.
	matchPoll  = time.Minute
	matchRetry = 5 * time.Second
)

// Run matches until ctx ends. Several may run on one database.
func (m *Matcher) Run(ctx context.Context) {
	for {
		noted := m.Store.OSVNoted()
		wait := matchPoll
		if err := m.Match(ctx); err != nil {
			if ctx.Err() == nil {
				m.Logger.WarnContext(ctx, "vulnerabilities not matched, will retry", "error", err)
			}
			wait, noted = matchRetry, nil
		}
		select {
		case <-ctx.Done():
			return
		case <-noted:
		case <-time.After(wait):
		}
	}
}

// Match matches all packages that are noted now.
func (m *Matcher) Match(ctx context.Context) error {
	for {
		n, err := m.Store.MatchOSV(ctx, matchAtOnce, Find, time.Now())
		if err != nil || n == 0 {
			return err
		}
	}
}
