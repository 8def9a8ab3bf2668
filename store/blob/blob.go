// Package blob keeps large documents (results, SBOMs) as compressed files in
// a folder, or as objects in a bucket, each named by the SHA-256 of its
// content. A document that is put twice is kept once.
//
// A document is whole and synced to the disk, or taken by the object storage,
// before Put returns its digest, so a database row may name it from then on. A
// crash leaves at most a temporary file, removed by Open or Sweep once it is
// old enough to be nobody's, or a document that no row names, removed by
// Sweep.
package blob

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
)

var (
	// ErrNotFound is returned for the digest of a document that isn't kept.
	ErrNotFound = errors.New("document not found")
	// ErrTooLarge is returned by Put for a document over its limit.
	ErrTooLarge = errors.New("document is too large")
	// ErrCorrupt is returned on reading a document whose content isn't what
	// its digest names.
	ErrCorrupt = errors.New("document is corrupt")
)

const prefix = "sha256:"

// Digest names a document by its content: "sha256:" and 64 hex digits.
type Digest string

// Validate reports whether d is well formed; one that isn't can't name a
// file outside the folder.
func (d Digest) Validate() error {
	h, ok := strings.CutPrefix(string(d), prefix)
	if ok && len(h) == 2*sha256.Size && strings.Trim(h, "0123456789abcdef") == "" {
		return nil
	}
	return fmt.Errorf("digest %q: must be sha256: and 64 lower-case hex digits", string(d))
}

// Documents is where documents are kept: a [Folder] or a [Bucket]. The
// methods are described at Folder's.
type Documents interface {
	Put(r io.Reader, limit int64) (Digest, int64, error)
	Get(d Digest) (io.ReadCloser, error)
	Has(d Digest) (bool, error)
	Sweep(before time.Time, keep func(Digest) (bool, error)) (int, error)
	Close() error
}

// Folder is a folder of documents. Its methods may be called concurrently,
// also by several processes.
type Folder struct {
	dir     string
	syncing chan struct{} // has room for as many as may wait for the disk at a time
}

// syncs is enough for a disk; each more holds a thread that only waits.
const syncs = 4

// Open makes the folder if it isn't there and removes what an earlier
// process left half written.
func Open(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return At(dir), removeHalfWritten(dir, time.Now().Add(-time.Hour))
}

// At is the folder as it is, for who reads it.
func At(dir string) *Folder { return &Folder{dir: dir, syncing: make(chan struct{}, syncs)} }

// removeHalfWritten removes the temporary files that nobody has written to
// since before.
func removeHalfWritten(dir string, before time.Time) error {
	left, err := filepath.Glob(filepath.Join(dir, "tmp-*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		if info, err := os.Stat(path); err != nil || info.ModTime().After(before) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Put stores what r gives, at most limit bytes, and returns its digest and
// size, both of the content as it was given.
func (f *Folder) Put(r io.Reader, limit int64) (Digest, int64, error) {
	tmp, err := os.CreateTemp(f.dir, "tmp-*")
	if err != nil {
		return "", 0, err
	}
	defer os.Remove(tmp.Name()) // does nothing after the rename
	defer tmp.Close()

	d, n, err := pack(tmp, r, limit)
	if err != nil {
		return "", 0, err
	}
	f.syncing <- struct{}{}
	defer func() { <-f.syncing }()
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return "", 0, err
	}
	return d, n, f.place(tmp.Name(), d)
}

// packers are gzip.Writers, each of which takes much memory. Their level takes
// a fifteenth of the time of the default for a sixth more of space.
var packers = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, 3)
	if err != nil {
		panic(err) // there is such a level
	}
	return w
}}

// pack writes what r gives, compressed.
func pack(to io.Writer, r io.Reader, limit int64) (Digest, int64, error) {
	sum := sha256.New()
	zip := packers.Get().(*gzip.Writer)
	defer packers.Put(zip)
	zip.Reset(to)
	n, err := io.Copy(io.MultiWriter(zip, sum), io.LimitReader(r, limit+1))
	if err != nil {
		return "", 0, err
	}
	if n > limit {
		return "", 0, fmt.Errorf("%w: over %d bytes", ErrTooLarge, limit)
	}
	return Digest(prefix + hex.EncodeToString(sum.Sum(nil))), n, zip.Close()
}

// place gives the finished file its name. Renaming over a document that is
// there already also makes it young again, so that Sweep spares it.
func (f *Folder) place(tmp string, d Digest) error {
	if err := os.Rename(tmp, f.path(d)); err != nil {
		return err
	}
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Get reads a document. Read returns ErrCorrupt at the end of one that isn't
// what d names. The caller closes it.
func (f *Folder) Get(d Digest) (io.ReadCloser, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	file, err := os.Open(f.path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d, ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return unpack(file, d)
}

// unpack reads what pack wrote, and owns it.
func unpack(file io.ReadCloser, d Digest) (io.ReadCloser, error) {
	r := &reader{file: &source{ReadCloser: file}, sum: sha256.New(), want: d}
	var err error
	if r.zip, err = gzip.NewReader(r.file); err != nil {
		file.Close()
		return nil, r.fault(err)
	}
	return r, nil
}

// Has reports whether the folder holds a document. One that it does counts
// as put just now, so that Sweep spares it.
func (f *Folder) Has(d Digest) (bool, error) {
	if err := d.Validate(); err != nil {
		return false, err
	}
	now := time.Now()
	err := os.Chtimes(f.path(d), now, now)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Sweep removes the documents for which keep returns false and that were put
// before the given time, and returns how many it removed. The time must lie
// further back than any transaction takes that names a document just put.
// What was left half written before that time goes too. A document that is put or
// asked for meanwhile stays.
func (f *Folder) Sweep(before time.Time, keep func(Digest) (bool, error)) (int, error) {
	if err := removeHalfWritten(f.dir, before); err != nil {
		return 0, err
	}
	if err := f.putBack(); err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return 0, err
	}
	removed := 0
	for _, e := range entries {
		h, ok := strings.CutSuffix(e.Name(), ".gz")
		d := Digest(prefix + h)
		if !ok || d.Validate() != nil {
			continue
		}
		kept, err := keep(d)
		if err != nil {
			return removed, err
		}
		if kept {
			continue
		}
		gone, err := f.remove(d, before)
		if err != nil {
			return removed, err
		}
		if gone {
			removed++
		}
	}
	return removed, nil
}

// sweptPrefix begins the name of a document that is about to be removed.
const sweptPrefix = "swept-"

// remove removes a document unless it is young. It is taken away from its name
// first: who puts it or asks for it from then on finds none, and who did so before
// has made it young.
func (f *Folder) remove(d Digest, before time.Time) (bool, error) {
	if young, err := isYoung(f.path(d), before); young || err != nil {
		return false, err
	}
	swept := filepath.Join(f.dir, sweptPrefix+hexOf(d))
	if err := os.Rename(f.path(d), swept); err != nil {
		return false, ignore(err, fs.ErrNotExist) // another process swept too
	}
	young, err := isYoung(swept, before)
	if err == nil && young {
		err = ignore(os.Link(swept, f.path(d)), fs.ErrExist)
	}
	if err != nil {
		return false, err
	}
	return !young, ignore(os.Remove(swept), fs.ErrNotExist)
}

// putBack puts the documents back whose sweep ended in between.
func (f *Folder) putBack() error {
	left, err := filepath.Glob(filepath.Join(f.dir, sweptPrefix+"*"))
	if err != nil {
		return err
	}
	for _, path := range left {
		d := Digest(prefix + strings.TrimPrefix(filepath.Base(path), sweptPrefix))
		if d.Validate() != nil {
			continue
		}
		if err := ignore(os.Link(path, f.path(d)), fs.ErrExist); ignore(err, fs.ErrNotExist) != nil {
			return err
		}
		if err := ignore(os.Remove(path), fs.ErrNotExist); err != nil {
			return err
		}
	}
	return nil
}

func isYoung(path string, before time.Time) (bool, error) {
	info, err := os.Stat(path)
	return err == nil && info.ModTime().After(before), ignore(err, fs.ErrNotExist)
}

// ignore is err, or nil if it is that one.
func ignore(err, that error) error {
	if errors.Is(err, that) {
		return nil
	}
	return err
}

// Close is there for [Documents]: a Folder holds nothing open.
func (f *Folder) Close() error { return nil }

func (f *Folder) path(d Digest) string {
	return filepath.Join(f.dir, hexOf(d)+".gz")
}

// source keeps what kept it from being read, which isn't the document's fault.
type source struct {
	io.ReadCloser
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

type reader struct {
	file *source
	zip  *gzip.Reader
	sum  hash.Hash
	want Digest
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.zip.Read(p)
	r.sum.Write(p[:n])
	switch {
	case errors.Is(err, io.EOF):
		if got := prefix + hex.EncodeToString(r.sum.Sum(nil)); got != string(r.want) {
			return n, fmt.Errorf("%s: %w: its content is %s", r.want, ErrCorrupt, got)
		}
	case err != nil:
		return n, r.fault(err)
	}
	return n, err
}

func (r *reader) fault(err error) error {
	if r.file.err != nil {
		return fmt.Errorf("%s: %w", r.want, r.file.err)
	}
	return fmt.Errorf("%s: %w: %w", r.want, ErrCorrupt, err)
}

func (r *reader) Close() error { return r.file.Close() }
