package memory

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// Bound makes the collector run whenever the heap has grown to soft bytes, or
// to half more than what is alive if that is more. It concerns the whole
// process, and takes the place of GOGC until undo is called, once.
//
// By itself Go lets the heap grow to twice what is alive, from 4 MiB on: too
// often while there is little, and too much in the end. Its own memory limit
// counts what the heap has to spare, too, so that a low one makes the
// collector run all the time.
func Bound(soft int64) (undo func()) {
	b := &bound{soft: soft}
	percent := debug.SetGCPercent(int(100 * soft / smallest))
	b.follow()
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.undone = true
		debug.SetGCPercent(percent)
	}
}

const (
	smallest = 4 << 20 // the heap that Go doesn't collect where GOGC is 100
	leeway   = 50      // percent of what is alive that may be added to it at least
)

type bound struct {
	soft   int64
	mu     sync.Mutex // guards undone
	undone bool
}

// cycle is dropped at once, so that its finalizer runs after each collection.
type cycle struct{ _ *bound }

// follow says after each collection how much what is alive may grow.
func (b *bound) follow() {
	runtime.SetFinalizer(&cycle{b}, func(*cycle) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.undone {
			return
		}
		alive := alive()
		debug.SetGCPercent(int(max(leeway, 100*(b.soft-alive)/max(alive, smallest))))
		b.follow()
	})
}

// alive is how many bytes the last collection found in use.
func alive() int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}
