package fetch_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/fetch"
)

func TestAddresses(t *testing.T) {
	sha := strings.Repeat("0123456789", 4)
	for _, c := range []struct {
		d      inspec.Dependency
		want   []string
		pinned bool
	}{
		{inspec.Dependency{URL: "https://x.test/a.tar.gz"}, []string{"https://x.test/a.tar.gz"}, false},
		{inspec.Dependency{URL: "https://github.com/o/r"}, []string{"https://github.com/o/r/archive/HEAD.tar.gz"}, false},
		{inspec.Dependency{URL: "https://github.com/o/r/tree/v1"}, []string{"https://github.com/o/r/archive/v1.tar.gz"}, false},
		{inspec.Dependency{URL: "https://github.com/o/r/archive/main.tar.gz"}, []string{"https://github.com/o/r/archive/main.tar.gz"}, false},
		{inspec.Dependency{Git: "https://github.com/o/r.git", Tag: "v1.2"}, []string{"https://github.com/o/r/archive/v1.2.tar.gz"}, false},
		{inspec.Dependency{Git: "git@github.com:o/r.git", Branch: "a/b"}, []string{"https://github.com/o/r/archive/a%2Fb.tar.gz"}, false},
		{inspec.Dependency{Git: "https://gitlab.com/g/s/r.git", Ref: sha}, []string{"https://gitlab.com/g/s/r/-/archive/" + sha + "/r.tar.gz"}, true},
		{inspec.Dependency{Git: "ssh://git@bitbucket.org/o/r"}, []string{"https://bitbucket.org/o/r/get/HEAD.tar.gz"}, false},
		{inspec.Dependency{Git: "https://git.test/o/r"}, []string{
			"https://git.test/o/r/-/archive/HEAD/r.tar.gz", "https://git.test/o/r/archive/HEAD.tar.gz", "https://git.test/o/r/get/HEAD.tar.gz",
		}, false},
	} {
		got, pinned, err := fetch.Addresses(c.d)
		if err != nil {
			t.Errorf("%+v: %v", c.d, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" || pinned != c.pinned {
			t.Errorf("%+v: pinned %v (-want +got):\n%s", c.d, pinned, diff)
		}
	}
}

func TestAddresses_refused(t *testing.T) {
	for _, d := range []inspec.Dependency{
		{URL: "http://x.test/a.tar.gz"}, {URL: "file:///etc/passwd"}, {URL: "a.tar.gz"}, {Git: "/srv/repo"}, {Git: "http://x.test/r.git"},
	} {
		if got, _, err := fetch.Addresses(d); err == nil {
			t.Errorf("%+v: got %v, want an error", d, got)
		}
	}
	_, _, err := fetch.Addresses(inspec.Dependency{URL: "https://user:hunter2@x.test/a"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v, want one without the password", err)
	}
}

// base is the archive of a profile, as a forge makes it: in a folder.
func base(t *testing.T, under string) []byte {
	t.Helper()
	p, err := inspec.LoadFS(fstest.MapFS{
		"inspec.yml":    &fstest.MapFile{Data: []byte("name: base\n")},
		"controls/a.rb": &fstest.MapFile{Data: []byte("control('a') { describe(1) { it { should eq 1 } } }\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := p.Archive(&b); err != nil {
		t.Fatal(err)
	}
	return repack(t, b.Bytes(), under)
}

// repack puts what an archive holds into a folder.
func repack(t *testing.T, archive []byte, under string) []byte {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tr, tw := tar.NewReader(zr), tar.NewWriter(zw)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			h.Name = under + "/" + h.Name
			err = tw.WriteHeader(h)
		}
		if err == nil {
			_, err = io.Copy(tw, tr)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// forge serves one archive at one path, and counts what it is asked.
type forge struct {
	*httptest.Server
	asked, sent int
}

func newForge(t *testing.T, path string, archive []byte) *forge {
	f := &forge{}
	f.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked++
		if r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		f.sent++
		_, _ = w.Write(archive)
	}))
	t.Cleanup(f.Close)
	return f
}

// overlay writes a profile that depends on another one.
func overlay(t *testing.T, depends, lock string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"inspec.yml":    "name: overlay\ndepends:\n  - name: base\n    " + depends + "\n",
		"controls/o.rb": "include_controls 'base'\n",
		"inspec.lock":   lock,
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFetcher_keepsWhatDidNotChange(t *testing.T) {
	f := newForge(t, "/o/base/archive/v1.tar.gz", base(t, "base-1"))
	fetcher := &fetch.Fetcher{Transport: f.Client().Transport, Cache: t.TempDir()}
	dir := overlay(t, "git: "+f.URL+"/o/base.git\n    tag: v1", "")
	var digest string
	for range 2 {
		p, err := inspec.LoadFetching(t.Context(), dir, fetcher.Fetch)
		if err != nil {
			t.Fatal(err)
		}
		digest = p.Digest()
		var packed bytes.Buffer
		if err := p.Archive(&packed); err != nil {
			t.Fatal(err)
		}
		whole, err := inspec.Read(&packed, "packed")
		if err != nil {
			t.Fatalf("its archive holds all that it needs: %v", err)
		}
		if whole.Digest() != digest {
			t.Errorf("the archive's digest is %s, want %s", whole.Digest(), digest)
		}
	}
	if f.sent != 1 {
		t.Errorf("sent %d times, want once", f.sent)
	}
	// A damaged file of the cache is none.
	files, err := filepath.Glob(filepath.Join(fetcher.Cache, "*.archive"))
	if err != nil || len(files) != 1 {
		t.Fatalf("the cache holds %v %v", files, err)
	}
	if err := os.Truncate(files[0], 100); err != nil {
		t.Fatal(err)
	}
	if _, err := inspec.LoadFetching(t.Context(), dir, fetcher.Fetch); err != nil || f.sent != 2 {
		t.Errorf("after damage: sent %d times, %v", f.sent, err)
	}
}

func TestFetcher_lock(t *testing.T) {
	archive := base(t, "base-1")
	f := newForge(t, "/locked.tar.gz", archive)
	fetcher := &fetch.Fetcher{Transport: f.Client().Transport}
	lock := func(sum string) string {
		return fmt.Sprintf("lockfile_version: 1\ndepends:\n- name: base\n  resolved_source:\n    url: %s/locked.tar.gz\n    sha256: %s\n", f.URL, sum)
	}
	good := fmt.Sprintf("%x", sha256.Sum256(archive))
	if _, err := inspec.LoadFetching(t.Context(), overlay(t, "url: "+f.URL+"/newest.tar.gz", lock(good)), fetcher.Fetch); err != nil {
		t.Errorf("as locked: %v", err)
	}
	_, err := inspec.LoadFetching(t.Context(), overlay(t, "url: "+f.URL+"/newest.tar.gz", lock(strings.Repeat("0", 64))), fetcher.Fetch)
	if err == nil || !strings.Contains(err.Error(), "inspec.lock") {
		t.Errorf("another archive than the locked one: error %v", err)
	}
}

func TestFetcher_relativePath(t *testing.T) {
	f := newForge(t, "/r.tar.gz", base(t, "mono-main/profiles/base"))
	fetcher := &fetch.Fetcher{Transport: f.Client().Transport}
	if _, err := inspec.LoadFetching(t.Context(), overlay(t, "url: "+f.URL+"/r.tar.gz\n    relative_path: profiles/base", ""), fetcher.Fetch); err != nil {
		t.Error(err)
	}
	_, err := inspec.LoadFetching(t.Context(), overlay(t, "url: "+f.URL+"/r.tar.gz\n    relative_path: ../other", ""), fetcher.Fetch)
	if err == nil || !strings.Contains(err.Error(), "relative_path") {
		t.Errorf("a path that isn't there: error %v", err)
	}
}

func TestFetcher_refuses(t *testing.T) {
	large := newForge(t, "/a.tar.gz", append([]byte{0x1f, 0x8b}, make([]byte, inspec.MaxBytes)...))
	page := newForge(t, "/a.tar.gz", []byte("<html>please log in</html>"))
	away := httptest.NewTLSServer(http.RedirectHandler("http://127.0.0.1:1/a.tar.gz", http.StatusFound))
	defer away.Close()
	gone := newForge(t, "/b.tar.gz", nil)
	for want, url := range map[string]string{
		"larger than 64 MiB": large.URL,
		"it is no archive":   page.URL,
		"only https":         away.URL,
		"404 Not Found":      gone.URL,
	} {
		fetcher := &fetch.Fetcher{Transport: large.Client().Transport}
		_, err := fetcher.Fetch(t.Context(), inspec.Dependency{URL: url + "/a.tar.gz"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// Without LoadFetching nothing is asked.
func TestLoad_fetchesNothing(t *testing.T) {
	f := newForge(t, "/a.tar.gz", base(t, "base"))
	_, err := inspec.Load(overlay(t, "url: "+f.URL+"/a.tar.gz", ""))
	if err == nil || !strings.Contains(err.Error(), "nothing is fetched here") || f.asked > 0 {
		t.Errorf("error %v, asked %d times", err, f.asked)
	}
}
