// Package heap bounds the memory of a process that does one thing and ends.
//
// Go's collector lets the heap grow to twice what is alive, from 4 MiB on. For
// work of a tenth of a second that is too often while there is little, and
// too much in the end. With a bound it runs when that much is in use, whatever
// is alive.
package heap

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// Bound makes the collector run whenever the process holds soft bytes, its
// code not counted, or twice what is alive if that is more. It concerns the
// whole process, and takes the place of GOGC and GOMEMLIMIT until undo is
// called, once.
func Bound(soft int64) (undo func()) {
	b := &bound{soft: soft, limit: soft}
	percent, limit := debug.SetGCPercent(-1), debug.SetMemoryLimit(soft)
	b.follow()
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.undone = true
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	}
}

type bound struct {
	soft int64

	mu     sync.Mutex // guards what follows
	limit  int64
	undone bool
}

// cycle is dropped at once, so that its finalizer runs after each collection.
type cycle struct{ _ *bound }

// follow moves the limit after each collection: one that is below what is
// alive would make the collector run all the time.
func (b *bound) follow() {
	runtime.SetFinalizer(&cycle{b}, func(*cycle) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.undone {
			return
		}
		if limit := max(b.soft, 2*alive()); limit != b.limit {
			b.limit = limit
			debug.SetMemoryLimit(limit)
		}
		b.follow()
	})
}

// alive is how many bytes the last collection found in use.
func alive() int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}
