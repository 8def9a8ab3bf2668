package spool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Batch bounds what one call of a sender gets: at least one document, and no
// more than Items documents and Bytes bytes. The zero value is one document.
type Batch struct {
	Items int
	Bytes int64
}

// wayPrefix begins the name of the file that remembers how far a way is.
const wayPrefix = "way-"

// way is one place where the documents go.
type way struct {
	name  string
	put   chan struct{} // has room for one: a document came
	drain sync.Mutex
	file  *os.File // holds done; nil for the way without a name

	done uint64 // guarded by Spool.mu: the last document that was delivered, as all before it
}

// openWays reads how far each way is. The numbers of new documents are above
// what any way has delivered, also one that isn't there any more.
func (s *Spool) openWays() error {
	if len(s.cfg.Ways) == 0 {
		s.ways = []*way{{put: make(chan struct{}, 1)}}
		return nil
	}
	files, err := filepath.Glob(filepath.Join(s.dir, wayPrefix+"*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		done, err := readWay(f)
		if err != nil {
			return err
		}
		s.next = max(s.next, done+1)
	}
	for _, name := range s.cfg.Ways {
		path := filepath.Join(s.dir, wayPrefix+name)
		done, err := readWay(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		s.ways = append(s.ways, &way{name: name, put: make(chan struct{}, 1), file: f, done: done})
	}
	return nil
}

// readWay reads a way's file. One that a crash of the machine left empty is
// that of a way that begins anew.
func readWay(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	done, _ := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return done, nil
}

// Drain is Deliver by the first way, one document at a time.
func (s *Spool) Drain(ctx context.Context, send func(context.Context, Item) error) error {
	return s.Deliver(ctx, s.ways[0].name, Batch{}, func(ctx context.Context, items []Item) (int, error) {
		if err := send(ctx, items[0]); err != nil {
			return 0, err
		}
		return 1, nil
	})
}

// Deliver hands the waiting documents to send, oldest first, until ctx is
// done, whose cause it returns, or the spool is closed. send answers how many
// of them, from the first on, were delivered, and an error if that isn't all:
// the next one's. A document is removed once every way has delivered it, and
// rejected after an error marked Permanent; after any other error Deliver
// pauses, longer each time up to half a minute, and hands over again what
// wasn't delivered. A second Deliver by the same way waits for the first.
func (s *Spool) Deliver(ctx context.Context, name string, most Batch, send func(context.Context, []Item) (int, error)) error {
	i := slices.IndexFunc(s.ways, func(w *way) bool { return w.name == name })
	if i < 0 {
		return fmt.Errorf("spool %s has no way %q", s.dir, name)
	}
	w := s.ways[i]
	w.drain.Lock()
	defer w.drain.Unlock()
	pause := minPause
	for ctx.Err() == nil {
		items, err := s.waiting(w, most)
		if err != nil {
			return err
		}
		if len(items) == 0 {
			select {
			case <-w.put:
			case <-ctx.Done():
			}
			continue
		}
		n, err := send(ctx, items)
		if n > 0 {
			pause = minPause
			err = errors.Join(s.delivered(w, items[n-1]), err)
		}
		if err == nil {
			continue
		}
		if n < len(items) && s.giveUp(w, items[n], err) {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		s.cfg.Logger.Warn("delivery failed, will retry", "way", w.name, "waiting", len(items)-n, "error", err)
		sleep(ctx, pause/2+rand.N(pause/2))
		pause = min(2*pause, maxPause)
	}
	return context.Cause(ctx)
}

// giveUp ends the delivery of a document that can't be delivered, and reports
// whether it could.
func (s *Spool) giveUp(w *way, it Item, why error) bool {
	switch {
	case IsPermanent(why):
		s.cfg.Logger.Error("document rejected", "way", w.name, "id", it.ID, "kind", it.Kind, "error", why)
		move := os.Rename
		if len(s.ways) > 1 { // another way may yet need it
			move = os.Link
		}
		if err := s.reject(it, why, move); err != nil && !gone(it) {
			s.cfg.Logger.Error("document can't be moved to the rejected ones", "id", it.ID, "error", err)
			return false
		}
	case gone(it):
		s.cfg.Logger.Error("document's file is gone; somebody removed it", "id", it.ID, "kind", it.Kind, "file", it.path)
	default:
		return false
	}
	return s.delivered(w, it) == nil
}

// waiting are the oldest documents that the way has yet to deliver.
func (s *Spool) waiting(w *way, most Batch) ([]Item, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	from := s.first(w)
	var bytes int64
	to := from
	for to < len(s.items) {
		bytes += s.items[to].Size
		if to > from && (to-from >= most.Items || bytes > most.Bytes) {
			break
		}
		to++
	}
	return slices.Clone(s.items[from:to]), nil
}

// first is the index of the first item that the way has yet to deliver. s.mu
// is held.
func (s *Spool) first(w *way) int {
	i, _ := slices.BinarySearchFunc(s.items, w.done+1, func(it Item, seq uint64) int {
		if it.seq < seq {
			return -1
		}
		return 1
	})
	return i
}

// delivered notes that the way has delivered everything up to it. A crash of
// the machine may forget the note, and the documents are delivered again.
func (s *Spool) delivered(w *way, it Item) error {
	s.mu.Lock()
	w.done = it.seq
	s.mu.Unlock()
	if w.file != nil {
		if _, err := w.file.WriteAt(fmt.Appendf(nil, "%020d\n", it.seq), 0); err != nil {
			return err
		}
	}
	return s.forget()
}

// Waiting says what a way has yet to deliver. Rejected documents aren't
// counted by way.
func (s *Spool) Waiting(name string) Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.ways {
		if w.name == name {
			return stats(s.items[s.first(w):])
		}
	}
	return Stats{}
}

func stats(items []Item) (st Stats) {
	st.Items = len(items)
	for _, it := range items {
		st.Bytes += it.offset + it.Size
	}
	if len(items) > 0 {
		st.Oldest = items[0].Stored
	}
	return st
}
