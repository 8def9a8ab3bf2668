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
	percent := debug.SetGCPercent(b.percent())
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

// follow sets the percentage anew after each collection.
func (b *bound) follow() {
	runtime.SetFinalizer(&cycle{b}, func(*cycle) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.undone {
			return
		}
		debug.SetGCPercent(b.percent())
		b.follow()
	})
}

// percent is the GOGC with which the heap may grow from what the last
// collection found in use to the bound. What Go takes the percentage of are
// the roots, too.
func (b *bound) percent() int {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/globals:bytes"}, {Name: "/gc/scan/stack:bytes"}}
	metrics.Read(sample)
	alive, globals, stacks := int64(sample[0].Value.Uint64()), int64(sample[1].Value.Uint64()), int64(sample[2].Value.Uint64())
	return int(max(leeway, 100*(b.soft-alive)/max(alive+globals+stacks, smallest)))
}
