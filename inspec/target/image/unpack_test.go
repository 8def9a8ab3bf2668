package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"

	"reeve.dev/reeve/inspec/target"
)

func tarOf(t testing.TB, compress bool, headers ...*tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	var out io.WriteCloser = nopCloser{&buf}
	if compress {
		out = gzip.NewWriter(&buf)
	}
	w := tar.NewWriter(out)
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.CopyN(w, zeros{}, h.Size); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(w.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// layerOf is the layer with the digest that it has.
func layerOf(data []byte) layer {
	l := layer{name: "test", open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }}
	if plain, _, err := decompress(bytes.NewReader(data)); err == nil {
		sum := sha256.New()
		io.Copy(sum, io.LimitReader(plain, 1<<26))
		l.diffID = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	}
	return l
}

func regular(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644}
}

// TestUnpack_Limits shows that a bomb ends in an error before it takes what it
// asks for.
func TestUnpack_Limits(t *testing.T) {
	small := limits{bytes: 1 << 20, entries: 8, name: 100, file: 1 << 16, layers: 4}
	ok := layerOf(tarOf(t, true, regular("a", 100)))
	var many []*tar.Header
	for _, c := range "abcdefghi" {
		many = append(many, regular(string(c), 0))
	}
	for name, c := range map[string]struct {
		layers []layer
		want   string
	}{
		"one layer of too many bytes":     {[]layer{layerOf(tarOf(t, true, regular("a", 2<<20)))}, "more than the 1048576 bytes"},
		"two layers of too many together": {[]layer{layerOf(tarOf(t, true, regular("a", 600<<10))), layerOf(tarOf(t, true, regular("b", 600<<10)))}, "more than the 1048576 bytes"},
		"bytes behind the tar file":       {[]layer{layerOf(append(tarOf(t, false, regular("a", 1)), make([]byte, 2<<20)...))}, "more than the 1048576 bytes"},
		"too many files":                  {[]layer{layerOf(tarOf(t, true, many...))}, "more than the 8 files"},
		"too many layers":                 {[]layer{ok, ok, ok, ok, ok}, "more than the 4 layers"},
		"a long path":                     {[]layer{layerOf(tarOf(t, true, regular(strings.Repeat("x/", 60)+"x", 0)))}, "longer than 100 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			tree, err := unpack(t.Context(), c.layers, small)
			if err == nil {
				tree.Close()
				t.Fatal("unpacked")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Error(err)
			}
		})
	}
}

// TestUnpack_LargeFile shows that of a file that no target would give only the
// size is kept.
func TestUnpack_LargeFile(t *testing.T) {
	lim := defaultLimits()
	lim.file = 1 << 10
	tree, err := unpack(t.Context(), []layer{layerOf(tarOf(t, true, regular("large", 1<<20), regular("small", 10)))}, lim)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	info, err := tree.Stat(t.Context(), "/large", true)
	if err != nil || info.Size != 1<<20 {
		t.Errorf("%+v, %v", info, err)
	}
	var large *target.OutputError
	if _, err := tree.ReadFile(t.Context(), "/large", 1<<30); !errors.As(err, &large) {
		t.Errorf("read: %v", err)
	}
	if kept, err := tree.files[0].Stat(); err != nil || kept.Size() != 10 {
		t.Errorf("%v bytes are kept, %v", kept.Size(), err)
	}
}

func TestUnpack_Cancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if tree, err := unpack(ctx, []layer{layerOf(tarOf(t, true, regular("a", 1)))}, defaultLimits()); !errors.Is(err, context.Canceled) {
		if err == nil {
			tree.Close()
		}
		t.Errorf("%v", err)
	}
}

// FuzzUnpack reads any bytes as a layer, and then every file of it.
func FuzzUnpack(f *testing.F) {
	f.Add(tarOf(f, true, &tar.Header{Typeflag: tar.TypeDir, Name: "etc/"}, regular("etc/a", 10), &tar.Header{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../etc"}))
	f.Add(tarOf(f, false, regular("a", 1), &tar.Header{Typeflag: tar.TypeLink, Name: "b", Linkname: "a"}, regular(".wh.a", 0)))
	lim := limits{bytes: 1 << 22, entries: 100, name: 200, file: 1 << 20, layers: 4}
	f.Fuzz(func(t *testing.T, data []byte) {
		l := layerOf(data)
		tree, err := unpack(t.Context(), []layer{l, l}, lim)
		if err != nil {
			return
		}
		defer tree.Close()
		var walk func(dir string, depth int)
		walk = func(dir string, depth int) {
			names, err := tree.ReadDir(t.Context(), dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range names {
				path := strings.TrimSuffix(dir, "/") + "/" + n
				info, err := tree.Stat(t.Context(), path, false)
				if err != nil {
					t.Fatalf("%q is listed: %v", path, err)
				}
				if info.Type == target.Directory && depth < 200 {
					walk(path, depth+1)
				}
				tree.ReadFile(t.Context(), path, 1<<20)
			}
		}
		walk("/", 0)
	})
}

// FuzzArchive reads any bytes as an archive of an image.
func FuzzArchive(f *testing.F) {
	index := `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + strings.Repeat("0", 64) + `"}]}`
	manifest := `[{"Config":"c.json","RepoTags":["a:1"],"Layers":["l.tar"]}]`
	for name, text := range map[string]string{"index.json": index, "manifest.json": manifest} {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		if err := w.WriteHeader(regular(name, int64(len(text)))); err != nil {
			f.Fatal(err)
		}
		io.WriteString(w, text)
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(buf.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		a, err := openArchive(t.Context(), path)
		if err != nil {
			return
		}
		defer a.Close()
		a.layers(choice{})
	})
}
