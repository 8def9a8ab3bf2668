package target_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"reeve.dev/reeve/inspec/target"
)

// counting is a target that counts what it is asked.
type counting struct {
	target.Target
	asked int
	err   error
}

func (c *counting) Run(ctx context.Context, cmd string) (target.CommandResult, error) {
	c.asked++
	return target.CommandResult{Stdout: []byte(cmd)}, c.err
}

func (c *counting) Stat(ctx context.Context, path string, follow bool) (target.FileInfo, error) {
	c.asked++
	return target.FileInfo{}, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
}

func TestCache_AsksOnce(t *testing.T) {
	c := &counting{}
	cached := target.Cache(c)
	if target.Cache(cached) != cached {
		t.Error("a cache was put on a cache")
	}
	for range 2 {
		if got, err := cached.Run(t.Context(), "a"); err != nil || string(got.Stdout) != "a" {
			t.Errorf("got %q, %v", got.Stdout, err)
		}
		if _, err := cached.Stat(t.Context(), "/x", true); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want fs.ErrNotExist", err)
		}
	}
	if c.asked != 2 {
		t.Errorf("asked %d times, want twice", c.asked)
	}
	cached.Stat(t.Context(), "/x", false)
	cached.Run(t.Context(), "b")
	if c.asked != 4 {
		t.Errorf("asked %d times, want four: another question has another answer", c.asked)
	}
}

func TestCache_ForgetsWhatWasCutShort(t *testing.T) {
	for _, err := range []error{context.Canceled, &target.TimeoutError{}, &target.OutputError{}, &target.LostError{}} {
		c := &counting{err: err}
		cached := target.Cache(c)
		cached.Run(t.Context(), "a")
		cached.Run(t.Context(), "a")
		if c.asked != 2 {
			t.Errorf("%T was kept", err)
		}
	}
}
