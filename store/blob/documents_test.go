package blob_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"reeve.dev/reeve/store/blob"
	"reeve.dev/reeve/store/blob/blobtest"
)

// kept is a place for documents, and its clock.
type kept struct {
	blob.Documents
	now func() time.Time
	// age makes what is there two days older.
	age func()
	// names lists the files or objects.
	names func() []string
}

func eachPlace(t *testing.T, test func(t *testing.T, k kept)) {
	t.Run("folder", func(t *testing.T) {
		f, dir := open(t)
		test(t, kept{f, time.Now, func() {
			for _, name := range files(t, dir) {
				past := time.Now().Add(-48 * time.Hour)
				if err := os.Chtimes(filepath.Join(dir, name), past, past); err != nil {
					t.Fatal(err)
				}
			}
		}, func() []string { return files(t, dir) }})
	})
	t.Run("bucket", func(t *testing.T) { test(t, bucket(t)) })
}

func bucket(t *testing.T) kept {
	srv := blobtest.Start(t)
	b, err := blob.OpenBucket(t.Context(), srv.URL, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return kept{b, srv.Clock.Now, func() { srv.Clock.Advance(48 * time.Hour) }, srv.Keys}
}

func TestDocuments(t *testing.T) {
	eachPlace(t, func(t *testing.T, k kept) {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if _, _, err := k.Put(strings.NewReader(text), int64(len(text))); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		d := put(t, k, text)
		if err := d.Validate(); err != nil {
			t.Error(err)
		}
		if got := k.names(); len(got) != 1 {
			t.Errorf("one document is kept as %q", got)
		}
		r, err := k.Get(d)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := iotest.TestReader(r, []byte(text)); err != nil {
			t.Error(err)
		}
	})
}

// A document that doesn't compress is more than what goes to object storage in
// one piece.
func TestDocuments_large(t *testing.T) {
	eachPlace(t, func(t *testing.T, k kept) {
		want := make([]byte, 12<<20)
		rand.NewChaCha8([32]byte{1}).Read(want)
		d, n, err := k.Put(bytes.NewReader(want), 16<<20)
		if err != nil || n != int64(len(want)) {
			t.Fatalf("put: %d, %v", n, err)
		}
		r, err := k.Get(d)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	})
}

func TestDocuments_refuse(t *testing.T) {
	eachPlace(t, func(t *testing.T, k kept) {
		d := put(t, k, text)
		if _, err := k.Get(digest); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("unknown digest: %v", err)
		}
		for _, bad := range []blob.Digest{"", "sha256:", "sha256:../../etc/passwd", d[len("sha256:"):], blob.Digest(strings.ToUpper(string(d)))} {
			if _, err := k.Has(bad); err == nil {
				t.Errorf("malformed digest %q was looked for", bad)
			}
			if _, err := k.Get(bad); err == nil || errors.Is(err, blob.ErrNotFound) {
				t.Errorf("malformed digest %q: %v", bad, err)
			}
		}
	})
}

func TestDocuments_Put_leaves_nothing_on_an_error(t *testing.T) {
	eachPlace(t, func(t *testing.T, k kept) {
		if _, _, err := k.Put(strings.NewReader(text), int64(len(text))-1); !errors.Is(err, blob.ErrTooLarge) {
			t.Errorf("over the limit: %v", err)
		}
		cut := io.MultiReader(strings.NewReader(text), iotest.ErrReader(io.ErrUnexpectedEOF))
		if _, _, err := k.Put(cut, 1<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a reader that fails: %v", err)
		}
		if got := k.names(); len(got) != 0 {
			t.Errorf("left behind: %q", got)
		}
	})
}

func TestDocuments_Sweep(t *testing.T) {
	eachPlace(t, func(t *testing.T, k kept) {
		named, orphan := put(t, k, "named"), put(t, k, "orphan")
		again, asked := put(t, k, "again"), put(t, k, "asked for")
		k.age()
		young := put(t, k, "young")
		for d, want := range map[blob.Digest]bool{asked: true, digest: false} {
			if got, err := k.Has(d); err != nil || got != want {
				t.Errorf("has %s: %v, %v", d, got, err)
			}
		}
		n, err := k.Sweep(k.now().Add(-24*time.Hour), func(d blob.Digest) (bool, error) {
			if d == again {
				put(t, k, "again") // while the question is under way
			}
			return d == named, nil
		})
		if err != nil || n != 1 {
			t.Errorf("removed %d, %v; want 1", n, err)
		}
		for d, want := range map[blob.Digest]error{named: nil, young: nil, again: nil, asked: nil, orphan: blob.ErrNotFound} {
			r, err := k.Get(d)
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", d, err, want)
			}
			if err == nil {
				r.Close()
			}
		}
		failed := errors.New("database is gone")
		if _, err := k.Sweep(k.now().Add(time.Hour), func(blob.Digest) (bool, error) { return false, failed }); !errors.Is(err, failed) {
			t.Errorf("got %v, want the question's own error", err)
		}
		k.age()
		if n, err := k.Sweep(k.now().Add(-24*time.Hour), func(blob.Digest) (bool, error) { return false, nil }); err != nil || n != 4 {
			t.Errorf("removed %d, %v; want 4", n, err)
		}
		if got := k.names(); len(got) != 0 {
			t.Errorf("left behind: %q", got)
		}
	})
}

func TestFolder_Sweep_removes_what_a_crash_left(t *testing.T) {
	f, dir := open(t)
	// A process that died was followed by one that opened the folder at once.
	left := filepath.Join(dir, "tmp-1")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(left, past, past); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Sweep(time.Now().Add(-24*time.Hour), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}

func TestOpenBucket_says_what_is_wrong(t *testing.T) {
	srv := blobtest.Start(t)
	for name, test := range map[string]struct{ url, want string }{
		"no bucket":          {strings.Replace(srv.URL, "results", "absent", 1), "no such bucket"},
		"another scheme":     {"file:///var/lib", "must be s3://BUCKET"},
		"credentials in it":  {"s3://key:hidden@results", "no credentials belong in it"},
		"an unknown setting": {"s3://results?region=eu-west-1&colour=red", "colour"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := blob.OpenBucket(t.Context(), test.url, t.TempDir())
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hidden") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
