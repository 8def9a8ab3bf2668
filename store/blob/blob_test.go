package blob_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"reeve.dev/reeve/store/blob"
)

const (
	text   = "a document, as long as it needs to be"
	digest = blob.Digest("sha256:d8ebfb6bbf3efc2fd08e4df75d1ec2b1c6dc1ea9fdb0df9c0a1fc05a2b6a9c5f")
)

func open(t *testing.T) (*blob.Folder, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "blobs")
	f, err := blob.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f, dir
}

func put(t *testing.T, f *blob.Folder, text string) blob.Digest {
	t.Helper()
	d, n, err := f.Put(strings.NewReader(text), 1<<20)
	if err != nil || n != int64(len(text)) {
		t.Fatalf("put: %d bytes, %v", n, err)
	}
	return d
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestFolder(t *testing.T) {
	f, dir := open(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, _, err := f.Put(strings.NewReader(text), int64(len(text))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	d := put(t, f, text)
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	if got := files(t, dir); len(got) != 1 {
		t.Errorf("one document is kept as %q", got)
	}
	r, err := f.Get(d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := iotest.TestReader(r, []byte(text)); err != nil {
		t.Error(err)
	}
}

func TestFolder_Get_refuses(t *testing.T) {
	f, dir := open(t)
	d := put(t, f, text)
	if _, err := f.Get(digest); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("unknown digest: %v", err)
	}
	for _, bad := range []blob.Digest{"", "sha256:", "sha256:../../etc/passwd", d[len("sha256:"):], blob.Digest(strings.ToUpper(string(d)))} {
		if _, err := f.Has(bad); err == nil {
			t.Errorf("malformed digest %q was looked for", bad)
		}
		if _, err := f.Get(bad); err == nil || errors.Is(err, blob.ErrNotFound) {
			t.Errorf("malformed digest %q: %v", bad, err)
		}
	}
	other := put(t, f, "another document")
	path := func(d blob.Digest) string { return filepath.Join(dir, strings.TrimPrefix(string(d), "sha256:")+".gz") }
	if err := os.Rename(path(other), path(d)); err != nil {
		t.Fatal(err)
	}
	r, err := f.Get(d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadAll(r); !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("another content: %v", err)
	}
	if err := os.Truncate(path(d), 5); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(d); !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("a cut file: %v", err)
	}
}

func TestFolder_Put_leavesNothingOnError(t *testing.T) {
	f, dir := open(t)
	if _, _, err := f.Put(strings.NewReader(text), int64(len(text))-1); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	cut := io.MultiReader(strings.NewReader(text), iotest.ErrReader(io.ErrUnexpectedEOF))
	if _, _, err := f.Put(cut, 1<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a reader that fails: %v", err)
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
}

func TestOpen_removesWhatACrashLeft(t *testing.T) {
	_, dir := open(t)
	old, young := filepath.Join(dir, "tmp-1"), filepath.Join(dir, "tmp-2")
	for _, path := range []string{old, young} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	if _, err := blob.Open(dir); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 1 || got[0] != "tmp-2" {
		t.Errorf("left: %q; want the young one, which another process may be writing", got)
	}
}

func TestFolder_Sweep(t *testing.T) {
	f, dir := open(t)
	named, orphan, young := put(t, f, "named"), put(t, f, "orphan"), put(t, f, "young")
	again := put(t, f, "again")
	asked := put(t, f, "asked for")
	past := time.Now().Add(-48 * time.Hour)
	for _, d := range []blob.Digest{named, orphan, again, asked} {
		if err := os.Chtimes(filepath.Join(dir, strings.TrimPrefix(string(d), "sha256:")+".gz"), past, past); err != nil {
			t.Fatal(err)
		}
	}
	for d, want := range map[blob.Digest]bool{asked: true, digest: false} {
		if got, err := f.Has(d); err != nil || got != want {
			t.Errorf("has %s: %v, %v", d, got, err)
		}
	}
	// A process that died was followed by one that opened the folder at once.
	left := filepath.Join(dir, "tmp-1")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(left, past, past); err != nil {
		t.Fatal(err)
	}
	n, err := f.Sweep(time.Now().Add(-24*time.Hour), func(d blob.Digest) (bool, error) {
		if d == again {
			put(t, f, "again") // while the question is under way
		}
		return d == named, nil
	})
	if err != nil || n != 1 {
		t.Errorf("removed %d, %v; want 1", n, err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a crash left half written: %v", err)
	}
	for d, want := range map[blob.Digest]error{named: nil, young: nil, again: nil, asked: nil, orphan: blob.ErrNotFound} {
		r, err := f.Get(d)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", d, err, want)
		}
		if err == nil {
			r.Close()
		}
	}
	failed := errors.New("database is gone")
	if _, err := f.Sweep(time.Now().Add(time.Hour), func(blob.Digest) (bool, error) { return false, failed }); !errors.Is(err, failed) {
		t.Errorf("got %v, want the question's own error", err)
	}
}
