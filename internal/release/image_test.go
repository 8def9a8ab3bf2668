package release

import (
	"archive/tar"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// Two checkouts, in folders of different names, make the same image.
func TestImage_reproducible(t *testing.T) {
	dir := t.TempDir()
	copyModule(t, "./cmd/reeve-scanner", filepath.Join(dir, "elsewhere", "deeper"))
	var sums []string
	for i, from := range []string{filepath.Join("..", ".."), filepath.Join(dir, "elsewhere", "deeper")} {
		file := filepath.Join(dir, "program"+strconv.Itoa(i))
		b := Build{Program: "reeve-scanner", OS: "linux", Arch: runtime.GOARCH, Version: "1.2.3", Dir: from}
		if err := b.Make(t.Context(), file); err != nil {
			t.Fatal(err)
		}
		img := Image{Name: "reeve.test/reeve-scanner:1", Program: b.Program, Version: b.Version, Binaries: []Binary{{b.Arch, file}}}
		path := filepath.Join(dir, "image.tar")
		if err := img.Write(path); err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sum(t, path))
		about, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes", sums[i], about.Size())
	}
	if sums[0] != sums[1] {
		t.Errorf("the archives differ: %v", sums)
	}
}

func sum(t *testing.T, path string) string {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(body)
	return hex.EncodeToString(h[:])
}

// copyModule copies what of the module a program is made of.
func copyModule(t *testing.T, program, to string) {
	t.Helper()
	root := filepath.Join("..", "..")
	list := exec.Command("go", "list", "-deps", "-f", `{{with .Module}}{{if .Main}}{{$.Dir}}{{end}}{{end}}`, program)
	list.Dir = root
	list.Env = append(os.Environ(), "GOOS=linux")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	absolute, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	files := []string{filepath.Join(absolute, "go.mod"), filepath.Join(absolute, "go.sum")}
	for _, dir := range strings.Fields(string(out)) {
		found, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	for _, f := range files {
		name, err := filepath.Rel(absolute, f)
		if err != nil {
			t.Fatal(err)
		}
		body, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImage_content(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("a static program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"reeve-scanner": {"reeve-scanner 0755"},
		"reeve-agent": {
			"reeve-agent 0755", "etc 0755", "etc/passwd 0644", "etc/group 0644",
			"etc/ssl 0755", "etc/ssl/certs 0755", "etc/ssl/certs/ca-certificates.crt 0644", "tmp 1777",
		},
	} {
		path := filepath.Join(dir, name+".tar")
		err := Image{Name: "reeve.test/" + name + ":1", Program: name, Version: "1.2.3", Revision: "abc", Binaries: []Binary{{"arm64", program}}}.Write(path)
		if err != nil {
			t.Fatal(err)
		}
		img := read(t, path)
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Architecture != "arm64" || config.OS != "linux" || config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/" + name}) {
			t.Errorf("%s: %+v", name, config)
		}
		if l := config.Config.Labels; l["org.opencontainers.image.version"] != "1.2.3" || l["org.opencontainers.image.revision"] != "abc" {
			t.Errorf("%s: labels %v", name, l)
		}
		if !config.Created.IsZero() {
			t.Errorf("%s: created %v: it would differ each time", name, config.Created)
		}
		var got []string
		tr := tar.NewReader(mutate.Extract(img))
		for {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, h.Name+" "+octal(h.Mode))
			if strings.HasSuffix(h.Name, ".crt") {
				pem, err := io.ReadAll(tr)
				if err != nil {
					t.Fatal(err)
				}
				if !x509.NewCertPool().AppendCertsFromPEM(pem) || strings.Count(string(pem), "BEGIN") < 100 {
					t.Errorf("%d bytes of certificate authorities", len(pem))
				}
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func octal(mode int64) string {
	const digits = "01234567"
	return string([]byte{digits[mode>>9&7], digits[mode>>6&7], digits[mode>>3&7], digits[mode&7]})
}

// read opens an OCI archive of one image.
func read(t *testing.T, path string) v1.Image {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, h.Name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, h.Name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("%d manifests", len(manifest.Manifests))
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return img
}
