package spool_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/internal/spool"
)

func open(t *testing.T, dir string, cfg spool.Config) *spool.Spool {
	t.Helper()
	s, err := spool.Open(dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s *spool.Spool, id, text string) {
	t.Helper()
	if err := s.Put(t.Context(), id, "test", strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, it spool.Item) string {
	t.Helper()
	r, err := it.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != it.Size {
		t.Errorf("item %s: read %d bytes, its size is %d", it.ID, len(b), it.Size)
	}
	return string(b)
}

func contents(t *testing.T, s *spool.Spool) (got []string) {
	t.Helper()
	for _, it := range s.List() {
		got = append(got, it.ID+"="+read(t, it))
	}
	return got
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "lock" && e.Name() != "rejected" {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestSpool_Put(t *testing.T) {
	t.Run("what waits is there after reopening, in order", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, spool.Config{})
		for i := range 12 {
			put(t, s, fmt.Sprint(i), fmt.Sprintf("line one\nof %d", i))
		}
		want := contents(t, s)
		before := s.Stats()
		s.Close()

		s = open(t, dir, spool.Config{})
		if diff := cmp.Diff(want, contents(t, s)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(before, s.Stats()); diff != "" {
			t.Error(diff)
		}
		put(t, s, "new", "")
		if got := s.List(); got[len(got)-1].ID != "new" {
			t.Errorf("a document put after reopening isn't the last: %v", got)
		}
	})
	t.Run("an id that waits is stored once", func(t *testing.T) {
		s := open(t, t.TempDir(), spool.Config{})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := s.Put(t.Context(), "same", "test", strings.NewReader("x")); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := s.Stats().Items; got != 1 {
			t.Errorf("%d documents wait, want 1", got)
		}
	})
	t.Run("full by count, then by bytes, and free again after delivery", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, spool.Config{MaxItems: 2, MaxBytes: 1000})
		put(t, s, "a", "1")
		put(t, s, "b", strings.Repeat("x", 500))
		if err := s.Put(t.Context(), "c", "test", strings.NewReader("")); !errors.Is(err, spool.ErrFull) {
			t.Errorf("third of two: %v, want ErrFull", err)
		}
		deliver(t, s, 1)
		if err := s.Put(t.Context(), "c", "test", strings.NewReader(strings.Repeat("x", 500))); !errors.Is(err, spool.ErrFull) {
			t.Errorf("over the bytes: %v, want ErrFull", err)
		}
		if err := s.Put(t.Context(), "c", "test", strings.NewReader(strings.Repeat("x", 1001))); !errors.Is(err, spool.ErrTooLarge) {
			t.Errorf("larger than the spool: %v, want ErrTooLarge", err)
		}
		deliver(t, s, 1)
		put(t, s, "c", strings.Repeat("x", 500))
		deliver(t, s, 1)
		if diff := cmp.Diff(spool.Stats{}, s.Stats()); diff != "" {
			t.Error(diff)
		}
		if got := files(t, dir); got != nil {
			t.Errorf("left in the folder: %v", got)
		}
	})
	t.Run("a reader that fails leaves nothing", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, spool.Config{})
		cut := errors.New("connection lost")
		err := s.Put(t.Context(), "a", "test", io.MultiReader(strings.NewReader("half"), failing{cut}))
		if !errors.Is(err, cut) {
			t.Errorf("got %v, want the reader's error", err)
		}
		if diff := cmp.Diff(spool.Stats{}, s.Stats()); diff != "" {
			t.Error(diff)
		}
		if got := files(t, dir); got != nil {
			t.Errorf("left in the folder: %v", got)
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// deliver drains until n documents are gone.
func deliver(t *testing.T, s *spool.Spool, n int) (got []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := s.Drain(ctx, func(_ context.Context, it spool.Item) error {
		got = append(got, it.ID)
		if len(got) == n {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("drain: %v", err)
	}
	return got
}

func TestSpool_Put_diskFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs the right to mount a small file system (run as root): %v", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	s := open(t, dir, spool.Config{})
	put(t, s, "kept", "before")
	err := s.Put(t.Context(), "large", "test", bytes.NewReader(make([]byte, 1<<20)))
	if !errors.Is(err, spool.ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ErrFull for a full disk", err)
	}
	put(t, s, "after", "there is room again")
	if diff := cmp.Diff([]string{"kept=before", "after=there is room again"}, contents(t, s)); diff != "" {
		t.Error(diff)
	}
	s.Close()
}

func TestSpool_Drain(t *testing.T) {
	t.Run("in order, and what comes later wakes it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := open(t, t.TempDir(), spool.Config{})
			put(t, s, "a", "")
			put(t, s, "b", "")
			ctx, cancel := context.WithCancel(t.Context())
			got := make(chan string, 3)
			done := make(chan error, 1)
			go func() {
				done <- s.Drain(ctx, func(_ context.Context, it spool.Item) error { got <- it.ID; return nil })
			}()
			synctest.Wait()
			put(t, s, "c", "")
			if ids := (<-got) + (<-got) + (<-got); ids != "abc" {
				t.Errorf("delivered %q, want abc", ids)
			}
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	})
	t.Run("a failed delivery is repeated with growing pauses and holds back the rest", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := open(t, t.TempDir(), spool.Config{})
			put(t, s, "a", "")
			put(t, s, "b", "")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var tries []string
			var at []time.Time
			s.Drain(ctx, func(_ context.Context, it spool.Item) error {
				tries, at = append(tries, it.ID), append(at, time.Now())
				switch {
				case len(tries) < 12:
					return errors.New("hub is away")
				case it.ID == "b":
					cancel()
				}
				return nil
			})
			want := strings.Split(strings.Repeat("a ", 12)+"b", " ")
			if diff := cmp.Diff(want, tries); diff != "" {
				t.Error(diff)
			}
			if first := at[1].Sub(at[0]); first > time.Second {
				t.Errorf("the first pause was %s", first)
			}
			if last := at[11].Sub(at[10]); last < 15*time.Second || last > 30*time.Second {
				t.Errorf("the last pause was %s, want it within the cap", last)
			}
		})
	})
	t.Run("a permanent refusal goes to rejected with its reason", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, spool.Config{})
		put(t, s, "bad", "poison")
		put(t, s, "good", "")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s.Drain(ctx, func(_ context.Context, it spool.Item) error {
			if it.ID == "bad" {
				return fmt.Errorf("send: %w", spool.Permanent(errors.New("409 second result")))
			}
			cancel()
			return nil
		})
		if got, want := s.Stats(), (spool.Stats{Rejected: 1}); got != want {
			t.Errorf("stats %+v, want %+v", got, want)
		}
		s.Close()
		s = open(t, dir, spool.Config{})
		if got := s.Stats().Rejected; got != 1 {
			t.Errorf("after reopening: %d rejected, want 1", got)
		}
		reasons, _ := filepath.Glob(filepath.Join(dir, "rejected", "*.reason"))
		if len(reasons) != 1 {
			t.Fatalf("reasons: %v", reasons)
		}
		b, err := os.ReadFile(reasons[0])
		if err != nil || string(b) != "send: 409 second result\n" {
			t.Errorf("reason %q, %v", b, err)
		}
	})
	t.Run("rejected documents keep within the limits", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, spool.Config{MaxItems: 2})
		for i := range 4 {
			put(t, s, fmt.Sprint(i), "")
			ctx, cancel := context.WithCancel(t.Context())
			s.Drain(ctx, func(context.Context, spool.Item) error {
				cancel()
				return spool.Permanent(errors.New("no"))
			})
		}
		if got := s.Stats().Rejected; got != 2 {
			t.Errorf("%d rejected are kept, want 2", got)
		}
		if got, _ := filepath.Glob(filepath.Join(dir, "rejected", "*")); len(got) != 4 {
			t.Errorf("rejected/ has %v, want two documents and two reasons", got)
		}
	})
	t.Run("ends when the spool is closed", func(t *testing.T) {
		s := open(t, t.TempDir(), spool.Config{})
		done := make(chan error)
		go func() { done <- s.Drain(t.Context(), func(context.Context, spool.Item) error { return nil }) }()
		s.Close()
		if err := <-done; !errors.Is(err, spool.ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
}

// Somebody removes a file by hand: what waits behind it is delivered.
func TestSpool_Drain_fileGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, spool.Config{})
		put(t, s, "a", "gone")
		put(t, s, "b", "here")
		if err := os.Remove(filepath.Join(dir, files(t, dir)[0])); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var got []string
		s.Drain(ctx, func(_ context.Context, it spool.Item) error {
			r, err := it.Open()
			if err != nil {
				return err
			}
			defer r.Close()
			got = append(got, it.ID)
			cancel()
			return nil
		})
		if diff := cmp.Diff([]string{"b"}, got); diff != "" {
			t.Errorf("delivered (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(spool.Stats{}, s.Stats()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestOpen(t *testing.T) {
	t.Run("what was being written is removed, what is damaged is rejected", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, spool.Config{})
		put(t, s, "a", "1")
		put(t, s, "b", "2")
		s.Close()
		if err := os.WriteFile(filepath.Join(dir, "tmp-123"), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(filepath.Join(dir, files(t, dir)[0]), 7); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, spool.Config{})
		if diff := cmp.Diff([]string{"b=2"}, contents(t, s)); diff != "" {
			t.Error(diff)
		}
		if got := s.Stats().Rejected; got != 1 {
			t.Errorf("%d rejected, want the damaged one", got)
		}
		if got := files(t, dir); len(got) != 1 {
			t.Errorf("left in the folder: %v", got)
		}
	})
	t.Run("a folder has one owner", func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, spool.Config{})
		if _, err := spool.Open(dir, spool.Config{}); !errors.Is(err, spool.ErrInUse) {
			t.Errorf("second owner: %v, want ErrInUse", err)
		}
		s.Close()
		open(t, dir, spool.Config{})
		if err := s.Put(t.Context(), "a", "test", strings.NewReader("")); !errors.Is(err, spool.ErrClosed) {
			t.Errorf("put after close: %v, want ErrClosed", err)
		}
	})
}

// TestKill kills a process that puts documents as fast as it can, several
// times on one folder, and looks for each one that Put acknowledged.
func TestKill(t *testing.T) {
	if dir := os.Getenv("SPOOL_KILL_DIR"); dir != "" {
		putForever(dir, os.Getenv("SPOOL_KILL_PREFIX"))
	}
	dir := t.TempDir()
	acked := map[string]bool{}
	for round := range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "SPOOL_KILL_DIR="+dir, fmt.Sprintf("SPOOL_KILL_PREFIX=%d", round))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			acked[lines.Text()] = true
			if n == 20+round*7 {
				cmd.Process.Kill() // what the pipe still holds was acknowledged too
			}
		}
		cmd.Wait()
		s := open(t, dir, spool.Config{})
		waiting := map[string]bool{}
		for _, it := range s.List() {
			if got := read(t, it); got != body(it.ID) {
				t.Fatalf("item %s has %d bytes, want %d", it.ID, len(got), len(body(it.ID)))
			}
			waiting[it.ID] = true
		}
		for id := range acked {
			if !waiting[id] {
				t.Errorf("round %d: %s was acknowledged and is gone", round, id)
			}
		}
		s.Close()
	}
	if len(acked) < 100 {
		t.Errorf("only %d documents were acknowledged", len(acked))
	}
}

func putForever(dir, prefix string) {
	s, err := spool.Open(dir, spool.Config{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var mu sync.Mutex
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%s-%d-%d", prefix, w, i)
				if err := s.Put(context.Background(), id, "test", strings.NewReader(body(id))); err != nil {
					continue
				}
				mu.Lock()
				fmt.Println(id)
				mu.Unlock()
			}
		}()
	}
	select {}
}

func body(id string) string { return strings.Repeat(id+"\n", 2000) }
