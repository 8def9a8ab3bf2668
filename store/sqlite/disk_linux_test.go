package sqlite_test

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"

	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store/sqlite"
)

// The disk fills up: calls fail, what was acknowledged is there, and all goes
// on once there is room.
func TestStore_diskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("cannot mount a small disk (%v): run as root", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "reeve.db")
	s, err := sqlite.Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var kept []scan.ID
	for {
		c := newScan()
		if err := s.CreateScan(t.Context(), c); err != nil {
			break
		}
		kept = append(kept, c.ID)
		if len(kept) > 10_000 {
			t.Fatal("the disk doesn't fill up")
		}
	}
	if _, _, err := s.PutDocument(rand.NewChaCha8([32]byte{}), 4<<20); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a document on a full disk: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Logf("close on a full disk: %v", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	s, err = sqlite.Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, id := range kept {
		if _, err := s.Scan(t.Context(), id); err != nil {
			t.Fatalf("scan %s was acknowledged and is lost: %v", id, err)
		}
	}
	if err := s.CreateScan(t.Context(), newScan()); err != nil {
		t.Errorf("with room again: %v", err)
	}
}
