package memory_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"reeve.dev/reeve/internal/memory"
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
	percent := debug.SetGCPercent(100)
	defer debug.SetGCPercent(percent)
	runtime.GC()
	undo := memory.Bound(64 << 20)
	if n := churn(512); n < 4 || n > 16 {
		t.Errorf("512 MiB under a bound of 64 MiB were collected %d times, want about 8", n)
	}
	alive := make([]byte, 128<<20)
	runtime.GC()
	if n := churn(512); n > 16 {
		t.Errorf("with more alive than the bound, 512 MiB were collected %d times, want about 8", n)
	}
	runtime.KeepAlive(alive)
	undo()
	runtime.GC()
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("GOGC is %d after the bound was taken back, want 100", got)
	}
}

// TestBound_late has what sets the bound anew wait, as it may where processors
// are short: the heap grows no further for it.
func TestBound_late(t *testing.T) {
	percent := debug.SetGCPercent(100)
	defer debug.SetGCPercent(percent)
	begun, end := make(chan struct{}), make(chan struct{})
	runtime.SetFinalizer(&struct{ _ [64]byte }{}, func(any) { close(begun); <-end })
	runtime.GC()
	<-begun // no finalizer runs from now on
	defer close(end)
	defer memory.Bound(64 << 20)()
	alive := make([]byte, 40<<20)
	if n := churn(512); n < 4 {
		t.Errorf("512 MiB beside 40 that are alive, under a bound of 64 MiB, were collected %d times, want about 8", n)
	}
	runtime.KeepAlive(alive)
}

func TestDropCode(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux, where /proc tells which pages of the program are in memory")
	}
	before := codeKiB(t)
	memory.DropCode()
	if after := codeKiB(t); after >= before {
		t.Errorf("%d KiB of the program in memory, %d before", after, before)
	}
}

// TestDropCode_anyAddress has a program go on that the loader has filled in
// addresses of.
func TestDropCode_anyAddress(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux, where code is dropped")
	}
	program := filepath.Join(t.TempDir(), "drop")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildmode=pie", "-o", program, "./testdata/drop")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), program).CombinedOutput()
	if got := string(out); err != nil || got != "still here\n" {
		t.Errorf("%v\n%s", err, got)
	}
}

func codeKiB(t *testing.T) (kib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if n, _ := fmt.Sscanf(line, "RssFile: %d kB", &kib); n == 1 {
			return kib
		}
	}
	t.Fatal("/proc/self/status tells nothing of RssFile")
	return 0
}
