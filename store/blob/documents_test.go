package blob_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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

// A document is put, or asked for, at every moment of its removal: who was told
// that it is there finds it there.
func TestBucket_Sweep_meanwhile(t *testing.T) {
	for name, use := range map[string]func(*blob.Bucket, blob.Digest) bool{
		"put": func(b *blob.Bucket, _ blob.Digest) bool { put(t, b, text); return true },
		"has": func(b *blob.Bucket, d blob.Digest) bool {
			there, err := b.Has(d)
			if err != nil {
				t.Error(err)
			}
			return there
		},
	} {
		for at, removes := 0, true; removes; at++ {
			t.Run(fmt.Sprint(name, " at request ", at), func(t *testing.T) {
				srv := blobtest.Start(t)
				var (
					mu       sync.Mutex
					sweeping bool
					n        int
					told     = make(chan bool, 1)
					waits    = make(chan struct{}, 1)
				)
				d := blob.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(text))))
				other, err := blob.OpenBucket(t.Context(), srv.URL, t.TempDir())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { other.Close() })
				srv.Before = func(r *http.Request) {
					if strings.Contains(r.URL.Query().Get("prefix"), "sweeping/"+strings.TrimPrefix(string(d), "sha256:")) {
						select {
						case waits <- struct{}{}:
						default:
						}
						return
					}
					mu.Lock()
					mine := sweeping && n == at
					if sweeping {
						n++
					}
					if mine {
						sweeping = false
					}
					mu.Unlock()
					if !mine {
						return
					}
					go func() { told <- use(other, d) }()
					// It is done, or waits for the sweep.
					select {
					case there := <-told:
						told <- there
					case <-waits:
					}
				}
				b, err := blob.OpenBucket(t.Context(), srv.URL, t.TempDir())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { b.Close() })
				put(t, b, text)
				srv.Clock.Advance(48 * time.Hour)
				<-waits
				mu.Lock()
				sweeping = true
				mu.Unlock()
				if _, err := b.Sweep(srv.Clock.Now().Add(-24*time.Hour), func(blob.Digest) (bool, error) { return false, nil }); err != nil {
					t.Fatal(err)
				}
				mu.Lock()
				removes = !sweeping
				mu.Unlock()
				if !removes {
					return // the sweep has fewer requests
				}
				there := <-told
				r, err := b.Get(d)
				if err == nil {
					r.Close()
				}
				if there && err != nil {
					t.Errorf("it was told to be there: %v", err)
				}
				if slices.ContainsFunc(srv.Keys(), func(key string) bool { return strings.Contains(key, "sweeping") }) {
					t.Errorf("left behind: %q", srv.Keys())
				}
			})
		}
	}
}

// As above, of a folder.
func TestFolder_Sweep_meanwhile(t *testing.T) {
	f, dir := open(t)
	for range 500 {
		d := put(t, f, text)
		past := time.Now().Add(-48 * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, files(t, dir)[0]), past, past); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := f.Sweep(time.Now().Add(-24*time.Hour), func(blob.Digest) (bool, error) { return false, nil }); err != nil {
				t.Error(err)
			}
		})
		there, err := f.Has(d)
		if err != nil {
			t.Fatal(err)
		}
		all.Wait()
		r, err := f.Get(d)
		if err == nil {
			r.Close()
		}
		if there && err != nil {
			t.Fatalf("it was told to be there: %v", err)
		}
	}
}

// A process that died between the two steps of a removal removed nothing.
func TestFolder_Sweep_puts_back(t *testing.T) {
	f, dir := open(t)
	d := put(t, f, text)
	name := files(t, dir)[0]
	if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, "swept-"+strings.TrimSuffix(name, ".gz"))); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Sweep(time.Now().Add(-24*time.Hour), func(blob.Digest) (bool, error) { return true, nil }); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	r, err := f.Get(d)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if left := files(t, dir); len(left) != 1 {
		t.Errorf("left behind: %q", left)
	}
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
