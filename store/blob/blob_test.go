package blob_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"reeve.dev/reeve/store/blob"
	"reeve.dev/reeve/store/blob/blobtest"
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

func put(t *testing.T, f blob.Documents, text string) blob.Digest {
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

func TestFolder_Get_finds_what_is_corrupt(t *testing.T) {
	f, dir := open(t)
	d := put(t, f, text)
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
	if err := errors.Join(os.Remove(path(d)), os.Mkdir(path(d), 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(d); err == nil || errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("what can't be read: %v", err)
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
	t.Run("folder", func(t *testing.T) {
		removesWhatACrashLeft(t, func(dir string) {
			if _, err := blob.Open(dir); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("bucket", func(t *testing.T) {
		removesWhatACrashLeft(t, func(dir string) {
			b, err := blob.OpenBucket(t.Context(), blobtest.Start(t).URL, dir)
			if err != nil {
				t.Fatal(err)
			}
			b.Close()
		})
	})
}

func removesWhatACrashLeft(t *testing.T, open func(dir string)) {
	t.Helper()
	dir := t.TempDir()
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
	open(dir)
	if got := files(t, dir); len(got) != 1 || got[0] != "tmp-2" {
		t.Errorf("left: %q; want the young one, which another process may be writing", got)
	}
}
