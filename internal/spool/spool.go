package spool

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

var (
	// ErrFull means that the folder's limits, or the disk's, leave no room now.
	ErrFull = errors.New("spool is full")
	// ErrTooLarge means that a document will never fit, however empty the
	// folder is.
	ErrTooLarge = errors.New("document is larger than the whole spool")
	// ErrInUse means that another process, or another Spool of this one, owns
	// the folder.
	ErrInUse = errors.New("spool folder is in use")
	// ErrClosed is the answer of a closed Spool.
	ErrClosed = errors.New("spool is closed")
)

// Permanent marks an error of a sender as one that no retry can heal: the
// document goes to rejected/ with the error's text. Permanent(nil) is nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// IsPermanent reports whether err, or what it wraps, was marked by Permanent.
func IsPermanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// Defaults of Config.
const (
	DefaultMaxItems = 10_000
	DefaultMaxBytes = 1 << 30
)

// The bounds of the pause after a failed delivery: it doubles from one to the
// other, and half of it is random.
const (
	minPause = 500 * time.Millisecond
	maxPause = 30 * time.Second
)

// The most bytes of a file's first line: an id, a kind and a time.
const maxHeader = 4096

// Config bounds a folder. The zero value has the defaults and logs nothing.
type Config struct {
	// MaxItems and MaxBytes bound what waits; bytes are those on the disk.
	MaxItems int
	MaxBytes int64
	// Ways name where each document goes, each served by a Deliver of its own;
	// nil is one way without a name.
	Ways   []string
	Logger *slog.Logger
}

// Stats says how far behind delivery is.
type Stats struct {
	Items int
	Bytes int64
	// Oldest is when the document at the head was put; zero when none waits.
	Oldest   time.Time
	Rejected int
}

// Item is one waiting document.
type Item struct {
	ID     string
	Kind   string
	Stored time.Time
	// Size is the document's length in bytes.
	Size int64

	seq    uint64
	path   string
	offset int64
}

// Open gives the document's bytes. The caller closes the reader.
func (it Item) Open() (io.ReadCloser, error) {
	f, err := os.Open(it.path)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(it.offset, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

type header struct {
	ID     string    `json:"id"`
	Kind   string    `json:"kind"`
	Stored time.Time `json:"stored"`
}

// Spool is a folder of waiting documents. Its methods may be called by many
// goroutines; Drain by one at a time.
type Spool struct {
	dir  string
	cfg  Config
	lock io.Closer
	ways []*way

	commit sync.Mutex // held from the choice of a sequence number until the folder is synced

	mu       sync.Mutex // guards what follows
	closed   bool
	next     uint64
	items    []Item                   // waiting, oldest first
	bytes    int64                    // waiting and being written
	writing  map[string]chan struct{} // ids being written; closed when that ended
	rejected []Item                   // oldest first
}

// Open makes dir where it is missing, recovers what waits in it and locks it
// until Close.
func Open(dir string, cfg Config) (*Spool, error) {
	if cfg.MaxItems <= 0 {
		cfg.MaxItems = DefaultMaxItems
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(filepath.Join(dir, "rejected"), 0o700); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open spool %s: %w", dir, err)
	}
	s := &Spool{
		dir: dir, cfg: cfg, lock: lock,
		writing: map[string]chan struct{}{},
	}
	if err := s.recover(); err != nil {
		s.Close()
		return nil, fmt.Errorf("open spool %s: %w", dir, err)
	}
	return s, nil
}

// Close gives the folder free. There is nothing to flush: what Put has
// acknowledged is on the disk already.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	for _, w := range s.ways {
		notify(w.put) // lets an idle Deliver see it
		if w.file != nil {
			w.file.Close()
		}
	}
	return s.lock.Close()
}

func (s *Spool) recover() error {
	s.next = 1
	if err := s.openWays(); err != nil {
		return err
	}
	var err error
	if s.rejected, err = s.readRejected(); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(s.dir, e.Name())
		if strings.HasPrefix(e.Name(), "tmp-") {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		seq, ok := sequence(e.Name())
		if !ok {
			continue
		}
		s.next = max(s.next, seq+1)
		it, err := readItem(path, seq)
		if err != nil {
			it = Item{seq: seq, path: path}
			if err := s.reject(it, err, os.Rename); err != nil {
				return err
			}
			continue
		}
		s.items = append(s.items, it)
		s.bytes += it.offset + it.Size
	}
	slices.SortFunc(s.items, bySequence)
	return s.forget()
}

func (s *Spool) readRejected() ([]Item, error) {
	dir := filepath.Join(s.dir, "rejected")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, e := range entries {
		seq, ok := sequence(e.Name())
		if !ok {
			continue
		}
		s.next = max(s.next, seq+1)
		path := filepath.Join(dir, e.Name())
		it, err := readItem(path, seq)
		if err != nil {
			it = Item{seq: seq, path: path}
			if fi, err := e.Info(); err == nil {
				it.Size = fi.Size()
			}
		}
		items = append(items, it)
	}
	slices.SortFunc(items, bySequence)
	return items, nil
}

// Put stores one document and returns nil once it would survive a crash. A
// document whose id is waiting already is that one: Put reads nothing and
// returns nil. The error is ErrFull where there is no room now (also on a
// full disk) and ErrTooLarge where there never will be. r's error is returned
// as it is, and nothing is stored.
func (s *Spool) Put(ctx context.Context, id, kind string, r io.Reader) error {
	done, err := s.begin(ctx, id)
	if err != nil || done == nil {
		return err
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.writing, id)
		close(done)
	}()

	tmp, err := os.CreateTemp(s.dir, "tmp-")
	if err != nil {
		return s.putError(id, err)
	}
	w := &limited{ctx: ctx, s: s, f: tmp}
	it, err := w.write(header{ID: id, Kind: kind, Stored: time.Now().UTC()}, r)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = s.publish(tmp.Name(), it)
	}
	if err != nil {
		os.Remove(tmp.Name())
		s.release(w.n)
		return s.putError(id, err)
	}
	for _, w := range s.ways {
		notify(w.put)
	}
	return nil
}

// begin claims id for the caller. A nil channel with a nil error says that
// the document is stored already.
func (s *Spool) begin(ctx context.Context, id string) (chan struct{}, error) {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, ErrClosed
		}
		if slices.ContainsFunc(s.items, func(it Item) bool { return it.ID == id }) {
			s.mu.Unlock()
			return nil, nil
		}
		other, busy := s.writing[id]
		if !busy {
			defer s.mu.Unlock()
			if len(s.items)+len(s.writing) >= s.cfg.MaxItems {
				return nil, fmt.Errorf("put %q: %w: %d documents wait for delivery", id, ErrFull, len(s.items))
			}
			done := make(chan struct{})
			s.writing[id] = done
			return done, nil
		}
		s.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// publish makes the written file a waiting one. The numbers are given and the
// names become durable in one order, which is the order of delivery.
func (s *Spool) publish(tmp string, it Item) error {
	s.commit.Lock()
	defer s.commit.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	it.seq = s.next
	s.next++
	s.mu.Unlock()
	it.path = filepath.Join(s.dir, fmt.Sprintf("%020d.item", it.seq))
	if err := os.Rename(tmp, it.path); err != nil {
		return err
	}
	if err := syncDir(s.dir); err != nil {
		os.Remove(it.path)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items = append(s.items, it)
	return nil
}

func (s *Spool) putError(id string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = fmt.Errorf("%w: %w", ErrFull, err)
	}
	return fmt.Errorf("put %q: %w", id, err)
}

func (s *Spool) reserve(n, already int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if already+n > s.cfg.MaxBytes {
		return fmt.Errorf("%w: the limit is %d bytes", ErrTooLarge, s.cfg.MaxBytes)
	}
	if s.bytes+n > s.cfg.MaxBytes {
		return fmt.Errorf("%w: %d bytes wait for delivery", ErrFull, s.bytes)
	}
	s.bytes += n
	return nil
}

func (s *Spool) release(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= n
}

// limited writes a file within the folder's limit of bytes.
type limited struct {
	ctx context.Context
	s   *Spool
	f   *os.File
	n   int64
}

func (w *limited) Write(p []byte) (int, error) {
	if err := context.Cause(w.ctx); err != nil {
		return 0, err
	}
	if err := w.s.reserve(int64(len(p)), w.n); err != nil {
		return 0, err
	}
	w.n += int64(len(p))
	return w.f.Write(p)
}

func (w *limited) write(h header, r io.Reader) (Item, error) {
	line, err := json.Marshal(h)
	if err != nil {
		return Item{}, err
	}
	if len(line) >= maxHeader {
		return Item{}, fmt.Errorf("id and kind have more than %d bytes", maxHeader)
	}
	line = append(line, '\n')
	if _, err := w.Write(line); err != nil {
		return Item{}, err
	}
	n, err := io.Copy(w, r)
	if err != nil {
		return Item{}, err
	}
	if err := w.f.Sync(); err != nil {
		return Item{}, err
	}
	return Item{ID: h.ID, Kind: h.Kind, Stored: h.Stored, Size: n, offset: int64(len(line))}, nil
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// List gives the waiting documents, oldest first.
func (s *Spool) List() []Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.items)
}

// Stats says what waits now.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Items: len(s.items), Bytes: s.bytes, Rejected: len(s.rejected)}
	if len(s.items) > 0 {
		st.Oldest = s.items[0].Stored
	}
	return st
}

func gone(it Item) bool {
	_, err := os.Stat(it.path)
	return errors.Is(err, os.ErrNotExist)
}

// forget removes the documents that every way has delivered. The folder isn't
// synced: should a crash bring a file back, the document is delivered once
// more, which its id makes harmless.
func (s *Spool) forget() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	through := s.ways[0].done
	for _, w := range s.ways[1:] {
		through = min(through, w.done)
	}
	for len(s.items) > 0 && s.items[0].seq <= through {
		it := s.items[0]
		if err := os.Remove(it.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		s.items = s.items[1:]
		s.bytes -= it.offset + it.Size
	}
	return nil
}

// reject writes the reason before it moves the file, by rename or link, so
// that no rejected document is without one.
func (s *Spool) reject(it Item, why error, move func(from, to string) error) error {
	dir := filepath.Join(s.dir, "rejected")
	base := filepath.Join(dir, fmt.Sprintf("%020d", it.seq))
	reason, err := os.OpenFile(base+".reason", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(reason, why)
	if err := errors.Join(err, reason.Close()); err != nil {
		return err
	}
	if err := move(it.path, base+".item"); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	it.path = base + ".item"
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.rejected, func(x Item) bool { return x.seq == it.seq }) { // by another way
		s.rejected = append(s.rejected, it)
		s.trimRejected()
	}
	return nil
}

// trimRejected drops the oldest rejected documents beyond the limits. s.mu is
// held.
func (s *Spool) trimRejected() {
	var bytes int64
	for _, it := range s.rejected {
		bytes += it.offset + it.Size
	}
	for len(s.rejected) > s.cfg.MaxItems || bytes > s.cfg.MaxBytes {
		it := s.rejected[0]
		s.cfg.Logger.Error("rejected document dropped to keep within the limits", "id", it.ID, "kind", it.Kind)
		os.Remove(it.path)
		os.Remove(strings.TrimSuffix(it.path, ".item") + ".reason")
		s.rejected = s.rejected[1:]
		bytes -= it.offset + it.Size
	}
}

func readItem(path string, seq uint64) (Item, error) {
	f, err := os.Open(path)
	if err != nil {
		return Item{}, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return Item{}, err
	}
	line, err := bufio.NewReader(io.LimitReader(f, maxHeader)).ReadBytes('\n')
	if err != nil {
		return Item{}, fmt.Errorf("the file's first line is damaged: %w", err)
	}
	var h header
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&h); err != nil {
		return Item{}, fmt.Errorf("the file's first line is damaged: %w", err)
	}
	n := int64(len(line))
	return Item{ID: h.ID, Kind: h.Kind, Stored: h.Stored, Size: fi.Size() - n, seq: seq, path: path, offset: n}, nil
}

func sequence(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, ".item")
	if !ok {
		return 0, false
	}
	seq, err := strconv.ParseUint(digits, 10, 64)
	return seq, err == nil
}

func bySequence(a, b Item) int {
	if a.seq < b.seq {
		return -1
	}
	return 1
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
