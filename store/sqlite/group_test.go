package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
)

// TestUpdate_together has many write at the same time, of whom some fail and
// some have given up: each learns what became of its own.
func TestUpdate_together(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reeve.db")
	s := open(t, path)
	gaveUp, giveUp := context.WithCancel(t.Context())
	giveUp()
	var (
		writing sync.WaitGroup
		mu      sync.Mutex
		kept    = map[scan.ID]bool{}
	)
	for n := range 400 {
		c := newScan()
		// Every eighth has the same key as the one before it, and is refused.
		c.Request.Key = scan.Key{Caller: "ci", Name: fmt.Sprint(n - n%8/7)}
		ctx := t.Context()
		if n%16 == 3 {
			ctx = gaveUp
		}
		writing.Go(func() {
			err := s.CreateScan(ctx, c)
			if err != nil && ctx.Err() == nil && n%8 < 6 {
				t.Errorf("scan %d: %v", n, err)
			}
			mu.Lock()
			defer mu.Unlock()
			kept[c.ID] = err == nil
		})
	}
	writing.Wait()
	check := func(s *store.Store) {
		t.Helper()
		refused := 0
		for id, want := range kept {
			_, err := s.Scan(t.Context(), id)
			if err != nil && !errors.Is(err, scan.ErrNotFound) {
				t.Fatal(err)
			}
			if got := err == nil; got != want {
				t.Errorf("scan %s: kept %v, told %v", id, got, want)
			}
			if !want {
				refused++
			}
		}
		if want := 25 + 50; refused != want {
			t.Errorf("%d were refused or had given up, want %d", refused, want)
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(open(t, path))
}
