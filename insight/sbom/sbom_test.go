package sbom_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/sbom"
	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/inspec/target/image"
)

// debian is a root file system by path; the contents of what isn't text are
// made.
var debian = map[string]string{
	"etc/os-release": "ID=debian\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n",
	"var/lib/dpkg/status": `Package: libssl3
Status: install ok installed
Architecture: amd64
Source: openssl (3.0.11-1~deb12u1)
Version: 3.0.11-1~deb12u2

Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2.15-2+b2

Package: python3-six
Status: install ok installed
Architecture: all
Source: six
Version: 1.16.0-4

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
`,
	"var/lib/dpkg/info/python3-six.list": "/.\n/usr\n/usr/lib/python3/dist-packages/six-1.16.0.egg-info/PKG-INFO\n",
	// The distribution's six isn't told twice; the other one is the user's own.
	"usr/lib/python3/dist-packages/six-1.16.0.egg-info/PKG-INFO":            "Metadata-Version: 2.1\nName: six\nVersion: 1.16.0\n",
	"usr/local/lib/python3.11/site-packages/Flask-3.0.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: Flask\nVersion: 3.0.0\n",
	"app/node_modules/lodash/package.json":                                  `{"name": "lodash", "version": "4.17.21"}`,
	"app/node_modules/@babel/core/package.json":                             `{"name": "@babel/core", "version": "7.23.0"}`,
	"srv/composer.lock": `{"packages": [{"name": "drupal/core", "version": "10.1.0"}], "packages-dev": []}`,
	"usr/lib/ruby/gems/3.1.0/specifications/rack-2.2.8.gemspec": "Gem::Specification.new do |s|\n  s.name = \"rack\".freeze\n  s.version = \"2.2.8\"\nend\n",
	// What other containers have isn't this one's.
	"var/lib/docker/overlay2/x/app/node_modules/other/package.json": `{"name": "other", "version": "1.0.0"}`,
}

const goBinary = "usr/bin/tool"

// theDebian is what is found of it, but for the Go binary's modules.
var theDebian = []string{
	"pkg:composer/drupal/core@10.1.0",
	"pkg:deb/debian/bash@5.2.15-2%2Bb2?arch=amd64&distro=debian-12",
	"pkg:deb/debian/libssl3@3.0.11-1~deb12u2?arch=amd64&distro=debian-12&upstream=openssl%403.0.11-1~deb12u1",
	"pkg:deb/debian/python3-six@1.16.0-4?arch=all&distro=debian-12&upstream=six",
	"pkg:gem/rack@2.2.8",
	"pkg:maven/com.example/inner@2.0.0",
	"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1",
	"pkg:npm/%40babel/core@7.23.0",
	"pkg:npm/lodash@4.17.21",
	"pkg:pypi/flask@3.0.0",
}

func pom(group, name, version string) map[string][]byte {
	return map[string][]byte{
		"META-INF/maven/" + group + "/" + name + "/pom.properties": []byte("groupId=" + group + "\nartifactId=" + name + "\nversion=" + version + "\n"),
	}
}

func zipped(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(content)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func write(t *testing.T, root, path string, content []byte, mode fs.FileMode) {
	t.Helper()
	at := filepath.Join(root, path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, content, mode)); err != nil {
		t.Fatal(err)
	}
}

// makeDebian makes the root file system, with a Go binary (this test's), a Java
// archive in another one, and an executable that is neither.
func makeDebian(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range debian {
		write(t, root, path, []byte(content), 0o644)
	}
	war := pom("org.apache.logging.log4j", "log4j-core", "2.14.1")
	war["WEB-INF/lib/inner.jar"] = zipped(t, pom("com.example", "inner", "2.0.0"))
	write(t, root, "opt/app.war", zipped(t, war), 0o644)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	write(t, root, goBinary, program, 0o755)
	write(t, root, "usr/bin/script", []byte("#!/bin/sh\n"), 0o755)
	return root
}

func read(t *testing.T, to target.Target) *sbom.Inventory {
	t.Helper()
	inv, err := sbom.Read(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func open(t *testing.T, uri string) target.Target {
	t.Helper()
	o := target.Open
	if image.Takes(uri) {
		o = image.Open
	}
	to, err := o(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { to.Close() })
	return to
}

// purls are those of an inventory; the Go binary's are checked by themselves.
func purls(t *testing.T, inv *sbom.Inventory) (out []string) {
	t.Helper()
	modules := map[string]string{}
	for _, p := range inv.Packages {
		if strings.HasPrefix(p.PURL, "pkg:golang/") {
			modules[p.Name] = p.Version
			if !slices.Contains(p.Paths, "/"+goBinary) {
				t.Errorf("%s is in %v", p.PURL, p.Paths)
			}
			continue
		}
		out = append(out, p.PURL)
	}
	if _, ok := modules["reeve.dev/reeve"]; !ok {
		t.Errorf("the Go binary has %v", modules)
	}
	if v := modules["stdlib"]; !strings.HasPrefix(v, "1.") {
		t.Errorf("Go's own version is %q", v)
	}
	return out
}

// asked is a target that can only be asked, as one at the end of a stream.
type asked struct{ target.Target }

func TestRead(t *testing.T) {
	root := makeDebian(t)
	archive := filepath.Join(t.TempDir(), "image.tar")
	packImage(t, root, archive)
	for name, to := range map[string]target.Target{
		"a directory":               open(t, "dir:"+root),
		"a directory at a distance": asked{open(t, "dir:"+root)},
		"an image":                  open(t, "archive:"+archive),
		"an image at a distance":    asked{open(t, "archive:"+archive)},
	} {
		t.Run(name, func(t *testing.T) {
			inv := read(t, to)
			if diff := cmp.Diff(theDebian, purls(t, inv)); diff != "" {
				t.Errorf("packages (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(sbom.System{ID: "debian", Name: "Debian GNU/Linux", Version: "12"}, inv.System); diff != "" {
				t.Errorf("system (-want +got):\n%s", diff)
			}
			if err := inv.Complete(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRead_ByItsOwnPrograms looks at a root that can run commands, with
// busybox's find, stat and grep.
func TestRead_ByItsOwnPrograms(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for chroot")
	}
	busybox, err := os.ReadFile("/usr/bin/busybox")
	if err != nil {
		t.Skip("busybox is not installed; apt-get install busybox-static")
	}
	root := makeDebian(t)
	write(t, root, "bin/sh", busybox, 0o755)
	for _, applet := range []string{"find", "stat", "grep", "head", "cat", "readlink", "dd", "tr"} {
		if err := os.Symlink("sh", filepath.Join(root, "bin", applet)); err != nil {
			t.Fatal(err)
		}
	}
	// busybox's grep sees nothing of a line after a NUL.
	const odd = "usr/libexec/odd"
	write(t, root, odd, []byte("\x7fELF\x00\xff Go buildinf:"), 0o755)
	to := &counted{Target: open(t, "chroot:"+root)} // at a distance, too
	if diff := cmp.Diff(theDebian, purls(t, read(t, to))); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	// Neither the script nor busybox itself, the other executables.
	for _, path := range to.read {
		if strings.HasPrefix(path, "/usr/bin/") || strings.HasPrefix(path, "/bin/") {
			t.Errorf("%s was sent for as a whole", path)
		}
	}
	if !slices.Contains(to.read, "/"+odd) {
		t.Errorf("%s wasn't sent for: %v", odd, to.read)
	}
	if size := sizeOf(t, filepath.Join(root, goBinary)); to.pieces == 0 || to.pieces > size/2 {
		t.Errorf("%d bytes of the Go binary's %d were sent for", to.pieces, size)
	}
}

func sizeOf(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// counted notes which files are read as a whole, and how many bytes of others.
type counted struct {
	target.Target

	mu     sync.Mutex
	read   []string // guarded by mu
	pieces int64    // guarded by mu
}

func (c *counted) Run(ctx context.Context, cmd string) (target.CommandResult, error) {
	got, err := c.Target.Run(ctx, cmd)
	if strings.HasPrefix(cmd, "dd ") {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pieces += int64(len(got.Stdout))
	}
	return got, err
}

func (c *counted) ReadFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	c.mu.Lock()
	c.read = append(c.read, path)
	c.mu.Unlock()
	return c.Target.ReadFile(ctx, path, limit)
}

// packImage makes an image of one layer of root, as docker save writes it.
func packImage(t *testing.T, root, to string) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.AddFS(os.DirFS(root)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err == nil {
		img, err = mutate.ConfigFile(img, withPlatform(t, img))
	}
	if err == nil {
		err = tarball.WriteToFile(to, name.MustParseReference("app:1"), img)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func withPlatform(t *testing.T, img v1.Image) *v1.ConfigFile {
	t.Helper()
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture = "linux", runtime.GOARCH
	return cfg
}

func TestRead_OtherDistributions(t *testing.T) {
	alpine := t.TempDir()
	write(t, alpine, "etc/os-release", []byte("ID=alpine\nNAME=Alpine\nVERSION_ID=3.18.4\n"), 0o644)
	write(t, alpine, "lib/apk/db/installed", []byte("P:libcrypto3\nV:3.1.4-r1\nA:x86_64\nL:Apache-2.0\no:openssl\n\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\no:musl\n\n"), 0o644)
	rocky := t.TempDir()
	write(t, rocky, "etc/os-release", []byte("ID=\"rocky\"\nNAME=\"Rocky Linux\"\nVERSION_ID=\"9.3\"\n"), 0o644)
	write(t, rocky, "var/lib/rpm/rpmdb.sqlite", rpmDatabase(t), 0o644)
	for root, want := range map[string][]string{
		alpine: {"pkg:apk/alpine/libcrypto3@3.1.4-r1?arch=x86_64&distro=alpine-3.18.4&upstream=openssl", "pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=alpine-3.18.4"},
		rocky:  {"pkg:rpm/rocky/bind@9.16-1.el9?arch=x86_64&distro=rocky-9.3&epoch=32&upstream=bind-9.16-1.el9.src.rpm"},
	} {
		for _, to := range []target.Target{open(t, "dir:"+root), asked{open(t, "dir:"+root)}} {
			var got []string
			inv := read(t, to)
			for _, p := range inv.Packages {
				got = append(got, p.PURL)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("packages (-want +got):\n%s", diff)
			}
			if err := inv.Complete(); err != nil {
				t.Error(err)
			}
		}
	}
}

// rpmDatabase is one with the package bind, in rpm's newer form: a table of
// headers.
func rpmDatabase(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rpmdb.sqlite")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("INSERT INTO Packages (blob) VALUES (?)", rpmHeader()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// rpmHeader is a package's header: how many entries and how much data, the
// entries (tag, type, offset, count), and the data.
func rpmHeader() []byte {
	const number, text = 4, 6
	var index, data bytes.Buffer
	for _, e := range []struct {
		tag   uint32
		value string
	}{
		{1000, "bind"}, {1001, "9.16"}, {1002, "1.el9"}, {1003, ""}, {1022, "x86_64"}, {1044, "bind-9.16-1.el9.src.rpm"},
	} {
		kind := uint32(text)
		if e.tag == 1003 { // the epoch
			kind = number
			data.Write(make([]byte, -data.Len()&3))
		}
		binary.Write(&index, binary.BigEndian, []uint32{e.tag, kind, uint32(data.Len()), 1})
		if kind == number {
			binary.Write(&data, binary.BigEndian, uint32(32))
		} else {
			data.WriteString(e.value + "\x00")
		}
	}
	var b bytes.Buffer
	binary.Write(&b, binary.BigEndian, []uint32{uint32(index.Len() / 16), uint32(data.Len())})
	b.Write(index.Bytes())
	b.Write(data.Bytes())
	return b.Bytes()
}

func TestRead_TellsWhatItCouldNotRead(t *testing.T) {
	root := t.TempDir()
	write(t, root, "opt/cut.jar", zipped(t, pom("com.example", "cut", "1.0.0"))[:60], 0o644)
	write(t, root, "app/package.json", []byte(`{"name": "app", "version": "1.0.0"}`), 0o644)
	inv := read(t, open(t, "dir:"+root))
	if err := inv.Complete(); !errors.Is(err, sbom.ErrIncomplete) || !strings.Contains(err.Error(), "/opt/cut.jar") {
		t.Errorf("the error is %v, wants one that names the archive", err)
	}
	if len(inv.Packages) != 1 {
		t.Errorf("packages are %v, wants the other one", inv.Packages)
	}
	var b bytes.Buffer
	if err := document(inv).Write(&b, "cyclonedx-json"); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); !strings.Contains(text, `"incomplete"`) || !strings.Contains(text, "/opt/cut.jar") {
		t.Errorf("the document doesn't say that it is incomplete: %s", text)
	}
}

// broken is a target whose disk is.
type broken struct{ target.Target }

func (broken) OpenFile(context.Context, string) (target.ReaderAtCloser, int64, error) {
	return brokenFile{}, 1 << 20, nil
}

type brokenFile struct{}

func (brokenFile) ReadAt([]byte, int64) (int, error) { return 0, errors.New("input/output error") }
func (brokenFile) Close() error                      { return nil }

// A program that can't be read isn't taken for one without packages.
func TestRead_unreadableProgram(t *testing.T) {
	inv := read(t, broken{open(t, "dir:"+makeDebian(t))})
	if err := inv.Complete(); !slices.ContainsFunc(inv.Unread, func(u sbom.Unread) bool { return u.Path == "/"+goBinary }) {
		t.Errorf("it doesn't tell of the program: %v", err)
	}
}

// closed is a target at a distance whose program can be executed, not read.
type closed struct{ asked }

func (closed) Run(_ context.Context, cmd string) (target.CommandResult, error) {
	switch {
	case strings.HasPrefix(cmd, "if printf"):
		return target.CommandResult{Stdout: []byte("files\n")}, nil
	case strings.HasPrefix(cmd, "LC_ALL=C grep"):
		return target.CommandResult{ExitStatus: 2, Stderr: []byte("grep: /" + goBinary + ": Permission denied\n")}, nil
	}
	return target.CommandResult{}, target.ErrNoCommands
}

func (c closed) ReadFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	if path == "/"+goBinary {
		return nil, fs.ErrPermission
	}
	return c.Target.ReadFile(ctx, path, limit)
}

func TestRead_programThatGrepCannotRead(t *testing.T) {
	inv := read(t, closed{asked{open(t, "dir:"+makeDebian(t))}})
	if err := inv.Complete(); !slices.ContainsFunc(inv.Unread, func(u sbom.Unread) bool { return u.Path == "/"+goBinary }) {
		t.Errorf("it doesn't tell of the program: %v", err)
	}
}

// killed is a target whose find is killed after the first file.
type killed struct{ asked }

func (killed) Run(_ context.Context, cmd string) (target.CommandResult, error) {
	if strings.HasPrefix(cmd, "LC_ALL=C find") {
		return target.CommandResult{ExitStatus: 137, Stdout: []byte("81a4 10 /srv/composer.lock\n")}, nil
	}
	return target.CommandResult{}, target.ErrNoCommands
}

func TestRead_cutList(t *testing.T) {
	inv := read(t, killed{asked{open(t, "dir:"+makeDebian(t))}})
	if err := inv.Complete(); err == nil || !strings.Contains(err.Error(), "status 137") {
		t.Errorf("it says of itself: %v", err)
	}
}

func TestRead_OfNothing(t *testing.T) {
	_, err := sbom.Read(t.Context(), open(t, "dir:"+t.TempDir()))
	if err == nil || !strings.Contains(err.Error(), "not one file") {
		t.Errorf("the error is %v", err)
	}
}

func TestRead_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	cancel(why)
	if _, err := sbom.Read(ctx, asked{open(t, "dir:"+makeDebian(t))}); !errors.Is(err, why) {
		t.Errorf("the error is %v, wants %v", err, why)
	}
}

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func document(inv *sbom.Inventory) sbom.Document {
	return sbom.Document{
		Subject: sbom.Subject{Name: "registry.example:5000/team/app:1.2", Digest: digest}, Inventory: inv,
		Version: "1.0", Made: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC),
	}
}

// What is written again of the same target, another time, has the same content by
// which the hub keeps it once; and of another target it hasn't.
func TestDocument_Write_again(t *testing.T) {
	root := makeDebian(t)
	contents := map[string]bool{}
	for n := range 4 {
		if n == 3 {
			write(t, root, "usr/lib/node_modules/more/package.json", []byte(`{"name": "more", "version": "1.0.0"}`), 0o644)
		}
		d := document(read(t, open(t, "dir:"+root)))
		d.Made = d.Made.Add(time.Duration(n) * time.Hour)
		var b bytes.Buffer
		if err := d.Write(&b, "cyclonedx-json"); err != nil {
			t.Fatal(err)
		}
		content, err := insight.ContentOf(&b)
		if err != nil {
			t.Fatal(err)
		}
		contents[content] = true
		if want := 1 + n/3; len(contents) != want {
			t.Errorf("write %d: %d contents, want %d", n, len(contents), want)
		}
	}
}

// TestDocument_Write holds the documents against their formats' definitions, and
// against what the hub reads in them.
func TestDocument_Write(t *testing.T) {
	inv := read(t, open(t, "dir:"+makeDebian(t)))
	inv.Packages[0].Licences = []string{"MIT"}
	var want []string
	for _, p := range inv.Packages {
		want = append(want, p.PURL)
	}
	for format, valid := range map[string]func(*testing.T, []byte){"cyclonedx-json": validCycloneDX, "spdx-json": validSPDX} {
		t.Run(format, func(t *testing.T) {
			var b bytes.Buffer
			if err := document(inv).Write(&b, format); err != nil {
				t.Fatal(err)
			}
			valid(t, b.Bytes())
			got, err := insight.ParseSBOM(bytes.NewReader(b.Bytes()), len(want)+2)
			if err != nil {
				t.Fatal(err)
			}
			var purls []string
			for _, c := range got.Components {
				if c.PURL != "" && !strings.HasPrefix(c.PURL, "pkg:oci/") {
					purls = append(purls, c.PURL)
				}
			}
			if diff := cmp.Diff(want, purls); diff != "" {
				t.Errorf("components (-want +got):\n%s", diff)
			}
			if got.ImageDigest != digest {
				t.Errorf("the image's digest is %q", got.ImageDigest)
			}
		})
	}
	if err := document(inv).Write(io.Discard, "xml"); err == nil || !strings.Contains(err.Error(), "spdx-json") {
		t.Errorf("the error for another format is %v", err)
	}
}

// validCycloneDX holds a document against the schema that comes with the
// library.
func validCycloneDX(t *testing.T, doc []byte) {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "schema")
	compiler := jsonschema.NewCompiler()
	for name, file := range map[string]string{"spdx.schema.json": "spdx.schema.json", "jsf-0.82.schema.json": "jsf-0.82.schemax.json"} {
		text, err := os.Open(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		defer text.Close()
		part, err := jsonschema.UnmarshalJSON(text)
		if err == nil {
			err = compiler.AddResource("http://cyclonedx.org/schema/"+name, part)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile(filepath.Join(dir, "bom-1.6.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		t.Error(err)
	}
}

// validSPDX has the library read it, and each relation lead somewhere.
func validSPDX(t *testing.T, doc []byte) {
	t.Helper()
	var d v2_3.Document
	if err := json.Unmarshal(doc, &d); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"DOCUMENT": true}
	for _, p := range d.Packages {
		if known[string(p.PackageSPDXIdentifier)] {
			t.Errorf("%s is there twice", p.PackageSPDXIdentifier)
		}
		known[string(p.PackageSPDXIdentifier)] = true
	}
	if len(d.Relationships) != len(d.Packages) {
		t.Errorf("%d relations of %d packages", len(d.Relationships), len(d.Packages))
	}
	for _, r := range d.Relationships {
		if !known[string(r.RefA.ElementRefID)] || !known[string(r.RefB.ElementRefID)] {
			t.Errorf("relation of %v to %v", r.RefA, r.RefB)
		}
	}
}
