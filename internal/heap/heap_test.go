package heap_test

import (
	"runtime"
	"runtime/debug"
	"testing"

	"reeve.dev/reeve/internal/heap"
)

var garbage []byte

// churn allocates mib MiB that nobody keeps, and returns how often the
// collector ran meanwhile.
func churn(mib int) uint32 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range mib * 16 {
		garbage = make([]byte, 64<<10)
	}
	runtime.ReadMemStats(&after)
	return after.NumGC - before.NumGC
}

func TestBound(t *testing.T) {
	limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	runtime.GC()
	undo := heap.Bound(64 << 20)
	if n := churn(512); n < 4 || n > 16 {
		t.Errorf("512 MiB under a bound of 64 MiB were collected %d times, want about 9", n)
	}
	alive := make([]byte, 128<<20)
	runtime.GC()
	if n := churn(512); n > 16 {
		t.Errorf("with more alive than the bound, 512 MiB were collected %d times, want about 4", n)
	}
	runtime.KeepAlive(alive)
	undo()
	runtime.GC()
	if got := debug.SetMemoryLimit(-1); got != limit {
		t.Errorf("the limit is %d after the bound was taken back, want %d", got, limit)
	}
	if got := debug.SetGCPercent(percent); got != percent {
		t.Errorf("GOGC is %d after the bound was taken back, want %d", got, percent)
	}
}
