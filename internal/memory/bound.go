package memory

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// Bound makes the collector run whenever the heap has grown to soft bytes, or
// to half more than what is alive if that is more, and has the program's code
// dropped after each collection, which reads much of it (see DropCode). It
// concerns the whole process, and takes the place of GOGC and GOMEMLIMIT until
// undo is called, once.
//
// By itself Go lets the heap grow to twice what is alive, from 4 MiB on: too
// often while there is little, and too much in the end. So the percentage is
// set anew after each collection. Until that has been done, which may take a
// while where processors are short, the memory limit holds: the percentage
// that fitted what was alive before may be far too much.
func Bound(soft int64) (undo func()) {
	b := &bound{soft: soft}
	percent, limit := debug.SetGCPercent(-1), debug.SetMemoryLimit(-1)
	b.set()
	b.follow()
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.undone = true
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	}
}

const (
	smallest = 4 << 20 // the heap that Go doesn't collect where GOGC is 100
	slack    = 8       // the part of the heap by which it may grow beyond the bound
)

type bound struct {
	soft   int64
	mu     sync.Mutex // guards undone
	undone bool
}

// cycle is dropped at once, so that its finalizer runs after each collection.
type cycle struct{ _ *bound }

// follow sets the bound anew after each collection.
func (b *bound) follow() {
	runtime.SetFinalizer(&cycle{b}, func(*cycle) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.undone {
			return
		}
		b.set()
		DropCode()
		b.follow()
	})
}

// set lets the heap grow from what the last collection found in use to the
// bound.
func (b *bound) set() {
	names := []string{
		"/gc/heap/live:bytes", "/gc/scan/globals:bytes", "/gc/scan/stack:bytes",
		"/memory/classes/total:bytes", "/memory/classes/heap/released:bytes", "/memory/classes/heap/free:bytes", "/memory/classes/heap/objects:bytes",
	}
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	is := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
	alive, roots := is(0), is(1)+is(2)
	besides := is(3) - is(4) - is(5) - is(6) // stacks, the runtime's own, gaps between objects
	goal := max(b.soft, alive+alive/2)
	debug.SetMemoryLimit(goal + goal/slack + besides)
	// What Go takes the percentage of are the roots, too.
	debug.SetGCPercent(int(100 * (goal - alive) / max(alive+roots, smallest)))
}
