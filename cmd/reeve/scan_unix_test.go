//go:build unix

package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestScan_slowTarget has a shell that begins only once it was told that
// nothing has answered.
func TestScan_slowTarget(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "go")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Skipf("needs named pipes: %v", err)
	}
	defer func(d time.Duration) { slowTarget = d }(slowTarget)
	slowTarget = time.Millisecond
	r, w := io.Pipe()
	told := make(chan string)
	go func() {
		var all bytes.Buffer
		buf := make([]byte, 4096)
		for began := false; ; {
			n, err := r.Read(buf)
			all.Write(buf[:n])
			if !began && strings.Contains(all.String(), "hasn't answered yet") {
				began = true
				if err := os.WriteFile(fifo, []byte("go\n"), 0o600); err != nil {
					t.Error(err)
				}
			}
			if err != nil {
				told <- all.String()
				return
			}
		}
	}()
	code := run(t.Context(), []string{"scan", "shell:read x < " + fifo + "; exec sh", "--profile", "container-baseline", "--controls", "accounts-01", "--reporter", "json:" + filepath.Join(t.TempDir(), "out.json")}, nil, io.Discard, w)
	w.Close()
	if text := <-told; code == exitBroken || strings.Count(text, "hasn't answered yet") != 1 {
		t.Errorf("exit code %d\n%s", code, text)
	}
}
