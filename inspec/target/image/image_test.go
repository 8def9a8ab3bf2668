package image_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/inspec/target/image"
)

// Headers of the files that the test images are made of.
func dir(name string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}
}

func symlink(name, to string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
}

func hardlink(name, to string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}
}

func file(name, content string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content)), PAXRecords: map[string]string{"REEVE.content": content}}
}

// layerTar is a layer of the files, in their order.
func layerTar(t *testing.T, files ...*tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range files {
		h := *h
		content := h.PAXRecords["REEVE.content"]
		h.PAXRecords = nil
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func gzipLayer(t *testing.T, files ...*tar.Header) v1.Layer {
	t.Helper()
	data := layerTar(t, files...)
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// storedLayer is a layer whose stored bytes aren't what the library would make.
type storedLayer struct {
	v1.Layer
	diffID v1.Hash
}

func (l storedLayer) DiffID() (v1.Hash, error) { return l.diffID, nil }

func stored(t *testing.T, data []byte, kind types.MediaType, plain []byte) v1.Layer {
	t.Helper()
	id, _, err := v1.SHA256(bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	return storedLayer{static.NewLayer(data, kind), id}
}

func zstdLayer(t *testing.T, files ...*tar.Header) v1.Layer {
	t.Helper()
	plain := layerTar(t, files...)
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return stored(t, buf.Bytes(), types.OCILayerZStd, plain)
}

func plainLayer(t *testing.T, files ...*tar.Header) v1.Layer {
	t.Helper()
	plain := layerTar(t, files...)
	return stored(t, plain, types.OCIUncompressedLayer, plain)
}

func imageOf(t *testing.T, arch string, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: arch})
	if err != nil {
		t.Fatal(err)
	}
	img = mutate.MediaType(mutate.ConfigMediaType(img, types.OCIConfigJSON), types.OCIManifestSchema1)
	if img, err = mutate.AppendLayers(img, layers...); err != nil {
		t.Fatal(err)
	}
	return img
}

// indexOf is an index of images for platforms.
func indexOf(t *testing.T, images map[string]v1.Image) v1.ImageIndex {
	t.Helper()
	index := v1.ImageIndex(empty.Index)
	for arch, img := range images {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
			MediaType: types.OCIManifestSchema1, Platform: &v1.Platform{OS: "linux", Architecture: arch},
		}})
	}
	return index
}

// ociDir writes a layout with what was appended under names.
func ociDir(t *testing.T, add func(p layout.Path) error) string {
	t.Helper()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = add(p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// ociTar packs a layout as buildx and skopeo do.
func ociTar(t *testing.T, dir string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

func ociArchive(t *testing.T, img v1.Image) string {
	t.Helper()
	return ociTar(t, ociDir(t, func(p layout.Path) error { return p.AppendImage(img) }))
}

func dockerArchive(t *testing.T, images map[string]v1.Image) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "docker.tar")
	tagged := map[name.Tag]v1.Image{}
	for tag, img := range images {
		n, err := name.NewTag(tag)
		if err != nil {
			t.Fatal(err)
		}
		tagged[n] = img
	}
	if err := tarball.MultiWriteToFile(out, tagged); err != nil {
		t.Fatal(err)
	}
	return out
}

func open(t *testing.T, uri string) target.Target {
	t.Helper()
	to, err := image.Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := to.Close(); err != nil {
			t.Error(err)
		}
	})
	return to
}

func refused(t *testing.T, uri string, words ...string) {
	t.Helper()
	to, err := image.Open(t.Context(), uri)
	if err == nil {
		to.Close()
		t.Fatalf("%s was opened", uri)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error lacks %q: %v", w, err)
		}
	}
}

// listing is the whole tree, a line for each file.
func listing(t *testing.T, to target.Target) []string {
	t.Helper()
	var out []string
	var walk func(dir string)
	walk = func(dir string) {
		names, err := to.ReadDir(t.Context(), dir+"/")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			path := dir + "/" + n
			info, err := to.Stat(t.Context(), path, false)
			if err != nil {
				t.Fatal(err)
			}
			switch info.Type {
			case target.Directory:
				out = append(out, path+"/")
				walk(path)
			case target.Symlink:
				text, err := to.Readlink(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, path+" -> "+text)
			case target.File:
				data, err := to.ReadFile(t.Context(), path, 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, path+": "+string(data))
			default:
				out = append(out, fmt.Sprint(path, " ", info.Type))
			}
		}
	}
	walk("")
	return out
}

// base is a lower layer for the tests of what lies above it.
func base(t *testing.T) v1.Layer {
	return gzipLayer(
		t, dir("./"), dir("etc/"), file("etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:7:8::/:/bin/false\n"), file("etc/group", "root:x:0:\nweb:x:8:\n"),
		file("etc/os-release", "ID=alpine\n"), file("etc/alpine-release", "3.20.1\n"),
		dir("app"), file("app/a", "one"), file("app/b", "two"), dir("app/sub"), file("app/sub/c", "three"), symlink("lib", "usr/lib"), dir("usr/lib"),
	)
}

const baseFiles = `/etc/
/etc/alpine-release: 3.20.1

/etc/group: root:x:0:
web:x:8:

/etc/os-release: ID=alpine

/etc/passwd: root:x:0:0::/root:/bin/sh
web:x:7:8::/:/bin/false

/lib -> usr/lib
/usr/
/usr/lib/`

func TestOpen_Layers(t *testing.T) {
	for _, c := range []struct {
		name  string
		above []*tar.Header
		want  string // beside baseFiles
	}{
		{"nothing above", nil, "/app/ /app/a: one /app/b: two /app/sub/ /app/sub/c: three"},
		{"whiteouts of a file and of a folder", []*tar.Header{file("app/.wh.a", ""), file("app/.wh.sub", "")}, "/app/ /app/b: two"},
		{"a whiteout of what isn't there", []*tar.Header{file("app/.wh.nothing", ""), file("nowhere/.wh.a", "")}, "/app/ /app/a: one /app/b: two /app/sub/ /app/sub/c: three"},
		{"an opaque folder, its mark last", []*tar.Header{dir("app/"), file("app/d", "four"), file("app/.wh..wh..opq", "")}, "/app/ /app/d: four"},
		{"a whiteout doesn't concern its own layer", []*tar.Header{file("app/a", "new"), file("app/.wh.a", "")}, "/app/ /app/a: new /app/b: two /app/sub/ /app/sub/c: three"},
		{"a folder stays what it holds", []*tar.Header{dir("app/sub")}, "/app/ /app/a: one /app/b: two /app/sub/ /app/sub/c: three"},
		{"a file for a folder", []*tar.Header{file("app", "flat")}, "/app: flat"},
		{"a folder for a file", []*tar.Header{dir("app/a"), file("app/a/x", "deep")}, "/app/ /app/a/ /app/a/x: deep /app/b: two /app/sub/ /app/sub/c: three"},
		{"hard links, of the layer below, too", []*tar.Header{file("app/.wh.sub", ""), hardlink("app/b2", "app/b"), file("app/n", "new"), hardlink("app/n2", "./app/n")}, "/app/ /app/a: one /app/b: two /app/b2: two /app/n: new /app/n2: new"},
		{"the other name of a replaced file", []*tar.Header{file("app/.wh.sub", ""), hardlink("app/z", "app/a"), file("app/a", "new")}, "/app/ /app/a: new /app/b: two /app/z: one"},
		{"aufs's own files", []*tar.Header{file(".wh..wh.aufs", ""), file("app/.wh..wh..opq", "")}, "/app/"},
		{"device files", []*tar.Header{file("app/.wh..wh..opq", ""), {Typeflag: tar.TypeChar, Name: "app/null"}, {Typeflag: tar.TypeBlock, Name: "app/sda"}, {Typeflag: tar.TypeFifo, Name: "app/pipe"}}, "/app/ /app/null character_device /app/pipe pipe /app/sda block_device"},
		{"above the root is the root", []*tar.Header{file("app/.wh..wh..opq", ""), file("../../app/x", "in"), file("/app/y", "in")}, "/app/ /app/x: in /app/y: in"},
	} {
		t.Run(c.name, func(t *testing.T) {
			layers := []v1.Layer{base(t)}
			if c.above != nil {
				layers = append(layers, gzipLayer(t, c.above...))
			}
			got := strings.Join(listing(t, open(t, "archive:"+ociArchive(t, imageOf(t, runtime.GOARCH, layers...)))), "\n")
			got = strings.ReplaceAll(strings.TrimSuffix(got, baseFiles), "\n", " ")
			if diff := cmp.Diff(c.want, strings.TrimSpace(got)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestOpen_Links shows that a layer's files go where links of a layer below
// lead, and never out of the image.
func TestOpen_Links(t *testing.T) {
	to := open(t, "archive:"+ociArchive(t, imageOf(
		t, runtime.GOARCH, base(t),
		gzipLayer(t, file("lib/libc.so", "elf"), symlink("out", "../../../../etc"), symlink("abs", "/etc/passwd"), symlink("round", "round"), symlink("gone", "/var/gone")),
		gzipLayer(t, file("out/made", "in the image"), file("gone/x", "deep")),
	)))
	for path, want := range map[string]string{
		"/usr/lib/libc.so": "elf", "/lib/libc.so": "elf", "/etc/made": "in the image", "/var/gone/x": "deep", "/out/../etc/made": "in the image",
		"/abs": "root:x:0:0::/root:/bin/sh\nweb:x:7:8::/:/bin/false\n",
	} {
		got, err := to.ReadFile(t.Context(), path, 1<<20)
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for _, path := range []string{"/round", "/nowhere", "/etc/passwd/x"} {
		if _, err := to.Stat(t.Context(), path, true); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestOpen_Target shows what the target says of files: owners by the image's
// own names, all bits of the mode, types, and the errors that others give.
func TestOpen_Target(t *testing.T) {
	when := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	su := file("bin/su", "x")
	su.Mode, su.Uid, su.Gid, su.ModTime = 0o6755, 7, 8, when
	uri := "archive:" + ociArchive(t, imageOf(t, runtime.GOARCH, base(t), gzipLayer(t, su, symlink("bin/link", "su"))))
	to := open(t, uri)
	got, err := to.Stat(t.Context(), "/bin/su", false)
	if err != nil {
		t.Fatal(err)
	}
	want := target.FileInfo{Type: target.File, Mode: 0o6755, Size: 1, UID: 7, GID: 8, Owner: "web", Group: "web", ModTime: when}
	got.ModTime = got.ModTime.UTC()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	p, err := to.Platform(t.Context())
	if err != nil || p.Name != "alpine" || p.Release != "3.20.1" {
		t.Errorf("platform %+v, %v", p, err)
	}
	if to.URI() != uri {
		t.Errorf("URI %s", to.URI())
	}
	if _, err := to.Run(t.Context(), "true"); !errors.Is(err, target.ErrNoCommands) {
		t.Errorf("Run: %v", err)
	}
	var large *target.OutputError
	if _, err := to.ReadFile(t.Context(), "/etc/passwd", 5); !errors.As(err, &large) {
		t.Errorf("more than the limit: %v", err)
	}
	var pathErr *fs.PathError
	for name, err := range map[string]error{
		"read of a folder":   second(to.ReadFile(t.Context(), "/etc", 1<<20)),
		"read of nothing":    second(to.ReadFile(t.Context(), "/nothing", 1<<20)),
		"list of a file":     second(to.ReadDir(t.Context(), "/etc/passwd")),
		"readlink of a file": second(to.Readlink(t.Context(), "/etc/passwd")),
		"relative path":      second(to.Stat(t.Context(), "etc", true)),
	} {
		if !errors.As(err, &pathErr) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestOpen_Forms opens one image as each tool stores it.
func TestOpen_Forms(t *testing.T) {
	img := imageOf(t, runtime.GOARCH, base(t), zstdLayer(t, file("app/z", "zstd")), plainLayer(t, file("app/p", "plain"), file("app/.wh.sub", ""), file("app/.wh.a", "")))
	oci := ociDir(t, func(p layout.Path) error { return p.AppendImage(img) })
	docker := dockerArchive(t, map[string]v1.Image{"web:1": img})
	compressed := filepath.Join(t.TempDir(), "image.tar.zst")
	data, err := os.ReadFile(ociTar(t, oci))
	if err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(compressed, enc.EncodeAll(data, nil), 0o644); err != nil {
		t.Fatal(err)
	}
	for form, path := range map[string]string{"OCI folder": oci, "OCI archive": ociTar(t, oci), "docker save": docker, "compressed archive": compressed} {
		t.Run(form, func(t *testing.T) {
			got := strings.Join(listing(t, open(t, "archive:"+path)), "\n")
			if diff := cmp.Diff("/app/\n/app/b: two\n/app/p: plain\n/app/z: zstd\n"+baseFiles, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// other is an architecture that this machine doesn't have.
func other() string {
	if runtime.GOARCH == "s390x" {
		return "amd64"
	}
	return "s390x"
}

func marked(t *testing.T, arch, mark string) v1.Image {
	return imageOf(t, arch, gzipLayer(t, file("mark", mark)))
}

func markOf(t *testing.T, uri string) string {
	t.Helper()
	data, err := open(t, uri).ReadFile(t.Context(), "/mark", 100)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestOpen_Platform(t *testing.T) {
	foreign := "archive:" + ociArchive(t, marked(t, other(), "foreign"))
	if got := markOf(t, foreign); got != "foreign" {
		t.Errorf("the only image: %s", got)
	}
	refused(t, foreign+"?platform=linux/m68k", "no image for linux/m68k", "linux/"+other())
	refused(t, foreign+"?platform=m68k", "write OS/ARCH")

	index := indexOf(t, map[string]v1.Image{runtime.GOARCH: marked(t, runtime.GOARCH, "here"), other(): marked(t, other(), "there")})
	both := "archive:" + ociTar(t, ociDir(t, func(p layout.Path) error { return p.AppendIndex(index) }))
	if got := markOf(t, both); got != "here" {
		t.Errorf("without a platform: %s", got)
	}
	if got := markOf(t, both+"?platform=linux/"+other()); got != "there" {
		t.Errorf("with a platform: %s", got)
	}
	refused(t, both+"?platform=linux/m68k", "choose with ?platform= one of linux/")
}

func TestOpen_Names(t *testing.T) {
	named := func(n string) layout.Option {
		return layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": n})
	}
	oci := "archive:" + ociTar(t, ociDir(t, func(p layout.Path) error {
		return errors.Join(p.AppendImage(marked(t, runtime.GOARCH, "a"), named("a:1")), p.AppendImage(marked(t, runtime.GOARCH, "b"), named("b:1")))
	}))
	docker := "archive:" + dockerArchive(t, map[string]v1.Image{"a:1": marked(t, runtime.GOARCH, "a"), "b:1": marked(t, runtime.GOARCH, "b")})
	for _, uri := range []string{oci, docker} {
		refused(t, uri, "choose with ?image= one of ", "a:1", "b:1")
		refused(t, uri+"?image=c:1", `no image "c:1"`, "b:1")
	}
	if got := markOf(t, oci+"?image=b:1"); got != "b" {
		t.Errorf("oci: %s", got)
	}
	if got := markOf(t, docker+"?image=a:1"); got != "a" {
		t.Errorf("docker: %s", got)
	}
}

// TestOpen_Damaged shows that half an image is never taken for an image.
func TestOpen_Damaged(t *testing.T) {
	good, err := os.ReadFile(ociArchive(t, imageOf(t, runtime.GOARCH, base(t))))
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte) string {
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return "archive:" + path
	}
	refused(t, write(good[:len(good)/2]), "cut short")
	refused(t, write([]byte("no tar file at all")), "no tar file")
	refused(t, write(nil), "docker save")
	refused(t, write(layerTar(t, file("etc/passwd", "root"))), "neither an OCI layout", "dir:PATH")
	refused(t, "archive:/nowhere.tar", "no such file")
	refused(t, "archive:", "the file is missing")

	plain := layerTar(t, file("etc/passwd", "root"))
	wrong := stored(t, plain, types.OCIUncompressedLayer, []byte("other"))
	refused(t, "archive:"+ociArchive(t, imageOf(t, runtime.GOARCH, wrong)), "the image is damaged", "sha256:")
	half := stored(t, plain[:600], types.OCIUncompressedLayer, plain)
	refused(t, "archive:"+ociArchive(t, imageOf(t, runtime.GOARCH, half)), "layer ")
	xz := stored(t, []byte("\xfd7zXZ\x00..."), types.OCIUncompressedLayer, plain)
	refused(t, "archive:"+ociArchive(t, imageOf(t, runtime.GOARCH, xz)), "gzip and zstd")

	for what, files := range map[string][]*tar.Header{
		"which is no file":     {hardlink("a", "etc/nothing")},
		"is no directory":      {file("a", "x"), file("a/b", "y")},
		"longer than 4096":     {file(strings.Repeat("x/", 3000)+"y", "y")},
		"the root of an image": {symlink("./.", "/etc")},
	} {
		refused(t, "archive:"+ociArchive(t, imageOf(t, runtime.GOARCH, gzipLayer(t, files...))), what)
	}

	// A blob that was changed after it was named.
	dir := ociDir(t, func(p layout.Path) error { return p.AppendImage(imageOf(t, runtime.GOARCH, base(t))) })
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	blob := filepath.Join(dir, "blobs", "sha256", m.Manifests[0].Digest.Hex)
	text, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, append(text, ' '), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, "archive:"+dir, "the archive is damaged")
}

// TestOpen_Registry pulls from a registry that wants a login, which is found
// where docker login leaves it.
func TestOpen_Registry(t *testing.T) {
	reg := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pass, ok := r.BasicAuth(); !ok || user != "me" || pass != "hush" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		reg.ServeHTTP(w, r)
	}))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	config := t.TempDir()
	t.Setenv("DOCKER_CONFIG", config)
	repo := host + "/team/web"
	refused(t, "image:"+repo+":1", "401")

	login := fmt.Sprintf(`{"auths": {%q: {"username": "me", "password": "hush"}}}`, host)
	if err := os.WriteFile(filepath.Join(config, "config.json"), []byte(login), 0o600); err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(repo + ":1")
	if err != nil {
		t.Fatal(err)
	}
	index := indexOf(t, map[string]v1.Image{
		runtime.GOARCH: imageOf(t, runtime.GOARCH, base(t), zstdLayer(t, file("mark", "here"))), other(): marked(t, other(), "there"),
	})
	auth := remote.WithAuth(&authn.Basic{Username: "me", Password: "hush"})
	if err := remote.WriteIndex(ref, index, auth); err != nil {
		t.Fatal(err)
	}
	if got := markOf(t, "image:"+repo+":1"); got != "here" {
		t.Errorf("without a platform: %s", got)
	}
	if got := markOf(t, "image:"+repo+":1?platform=linux/"+other()); got != "there" {
		t.Errorf("with a platform: %s", got)
	}
	digest, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got := markOf(t, "image:"+repo+"@"+digest.String()); got != "here" {
		t.Errorf("by digest: %s", got)
	}
	for uri, want := range map[string][2]string{
		"image:" + repo + ":1":                         {"image:" + repo + "@" + digest.String(), digest.String()},
		"image:" + repo + ":1?platform=linux/amd64":    {"image:" + repo + "@" + digest.String() + "?platform=linux/amd64", digest.String()},
		"image:" + repo + "@" + digest.String():        {"image:" + repo + "@" + digest.String(), digest.String()},
		"archive:web.tar":                              {"archive:web.tar", ""},
		"image:https://me:hush@registry.example/web:1": {"image:https://me:hush@registry.example/web:1", ""}, // Open's to refuse
	} {
		pinned, found, err := image.Resolve(t.Context(), uri)
		if got := [2]string{pinned, found}; err != nil || got != want {
			t.Errorf("%s is resolved to %v, %v; wants %v", uri, got, err, want)
		}
	}
	if _, _, err := image.Resolve(t.Context(), "image:"+repo+":2"); err == nil || !strings.Contains(err.Error(), "MANIFEST_UNKNOWN") {
		t.Errorf("the error for a missing tag is %v", err)
	}
	refused(t, "image:"+repo+":2", "MANIFEST_UNKNOWN")
	refused(t, "image:"+repo+":1?platform=linux/m68k", "platform", "?platform=OS/ARCH")
}

func TestOpen_NoPasswordInErrors(t *testing.T) {
	for _, uri := range []string{"image:me:hush@registry.example/web:1", "image:https://me:hush@registry.example/web:1", "image:http://me:hush@registry.example/web"} {
		_, err := image.Open(t.Context(), uri)
		if err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", uri, err)
		}
	}
}
