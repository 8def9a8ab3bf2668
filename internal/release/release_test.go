package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"sigs.k8s.io/yaml"
)

// newRelease is a release whose programs are all the scanner, which is the
// smallest.
func newRelease(t *testing.T) Release {
	t.Helper()
	small := filepath.Join(t.TempDir(), "small")
	if err := (Build{Program: "reeve-scanner", OS: "linux", Arch: runtime.GOARCH, Version: "1.2.3"}).Make(t.Context(), small); err != nil {
		t.Fatal(err)
	}
	return Release{
		Version: "1.3.0-rc.1", Revision: "c0ffee", Time: time.Unix(1_700_000_000, 0), Registry: "registry.example/", URL: "https://dl.example/1.3/", Builder: "https://ci.example",
		Root: filepath.Join("..", ".."), Dir: t.TempDir(), Platforms: []string{"linux/" + runtime.GOARCH, "darwin/arm64"},
		build: func(_ context.Context, _ Build, to string) error { return os.Link(small, to) },
		pages: func(context.Context, string, time.Time) ([]file, error) {
			return []file{{Name: "share/man/man1/reeve.1", Mode: 0o644, Body: []byte(".TH reeve 1\n")}}, nil
		},
	}
}

func TestRelease_Make(t *testing.T) {
	r := newRelease(t)
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	r.KeyFile = filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(r.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := contents(t, r.Dir)
	arch := runtime.GOARCH
	want := []string{
		"SHA256SUMS", "provenance.json", "provenance.json.dsse",
		"reeve-agent-1.3.0-rc.1.tgz", "reeve-agent_1.3.0-rc.1_image.tar", "reeve-agent_1.3.0~rc.1_" + arch + ".deb",
		"reeve-hub-1.3.0-rc.1.tgz", "reeve-scanner_1.3.0-rc.1_image.tar",
		"reeve_1.3.0-rc.1_darwin_arm64.cdx.json", "reeve_1.3.0-rc.1_darwin_arm64.tar.gz", "reeve_1.3.0-rc.1_image.tar", "reeve_1.3.0-rc.1_krew.yaml",
		"reeve_1.3.0-rc.1_linux_" + arch + ".cdx.json", "reeve_1.3.0-rc.1_linux_" + arch + ".tar.gz", "reeve_1.3.0~rc.1_" + arch + ".deb",
	}
	var got []string
	for name := range first {
		got = append(got, name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}

	t.Run("again the same", func(t *testing.T) {
		again := r
		again.Dir = t.TempDir()
		if err := again.Make(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, body := range contents(t, again.Dir) {
			if !bytes.Equal(first[name], body) {
				t.Errorf("%s differs", name)
			}
		}
	})
	t.Run("sums", func(t *testing.T) {
		for line := range strings.Lines(string(first["SHA256SUMS"])) {
			sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
			if got := fmt.Sprintf("%x", sha256.Sum256(first[name])); got != sum {
				t.Errorf("%s: %s, not %s", name, got, sum)
			}
		}
		if n := strings.Count(string(first["SHA256SUMS"]), "\n"); n != len(first)-3 {
			t.Errorf("%d sums of %d files", n, len(first))
		}
	})
	t.Run("provenance", func(t *testing.T) { provenanceOf(t, first, public) })
	t.Run("by everybody's tools", func(t *testing.T) { verified(t, r.Dir, public) })
	t.Run("krew", func(t *testing.T) { krewOf(t, first) })
	t.Run("archive", func(t *testing.T) {
		got := untar(t, first["reeve_1.3.0-rc.1_linux_"+arch+".tar.gz"])
		for name, mode := range map[string]int64{
			"reeve-1.3.0-rc.1/reeve": 0o755, "reeve-1.3.0-rc.1/reeve-agent": 0o755, "reeve-1.3.0-rc.1/LICENSE": 0o644,
			"reeve-1.3.0-rc.1/systemd/reeve-hub.service": 0o644, "reeve-1.3.0-rc.1/share/man/man1/reeve.1": 0o644, "reeve-1.3.0-rc.1/examples/hub.yaml": 0o644,
		} {
			if h, ok := got[name]; !ok || h.Mode != mode || h.Uid != 0 || !h.ModTime.Equal(r.Time) {
				t.Errorf("%s: %+v", name, h)
			}
		}
	})
	t.Run("chart", func(t *testing.T) {
		got := untar(t, first["reeve-agent-1.3.0-rc.1.tgz"])
		if c := string(got["reeve-agent/Chart.yaml"].body); !strings.Contains(c, "\nversion: \"1.3.0-rc.1\"\nappVersion: \"1.3.0-rc.1\"\n") {
			t.Errorf("Chart.yaml: %s", c)
		}
		v := string(got["reeve-agent/values.yaml"].body)
		for _, image := range []string{"  repository: registry.example/reeve-agent\n", "    repository: registry.example/reeve-scanner\n"} {
			if !strings.Contains(v, image) {
				t.Errorf("values.yaml has no %q", image)
			}
		}
		if len(got["reeve-agent/crds/scans.yaml"].body) == 0 || len(got["reeve-agent/values.schema.json"].body) == 0 {
			t.Error("CRDs or the schema are missing")
		}
	})
	t.Run("SBOM", func(t *testing.T) {
		var bom cdx.BOM
		if err := json.Unmarshal(first["reeve_1.3.0-rc.1_linux_"+arch+".cdx.json"], &bom); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, c := range *bom.Components {
			names = append(names, string(c.Type)+" "+c.Name)
		}
		for _, want := range []string{"application reeve", "application reeve-agent", "library golang.org/x/sys", "library stdlib"} {
			if !slices.Contains(names, want) {
				t.Errorf("%s isn't in %q", want, names)
			}
		}
	})
	t.Run("deb", func(t *testing.T) { debOf(t, filepath.Join(r.Dir, "reeve_1.3.0~rc.1_"+arch+".deb")) })
}

func TestRelease_refuses(t *testing.T) {
	for version, r := range map[string]Release{"v1.2.3": {}, "latest": {}, "": {}, "1.2.3": {Platforms: []string{"linux"}}} {
		r.Version, r.Dir = version, t.TempDir()
		if err := r.Make(t.Context()); err == nil {
			t.Errorf("%q %v was taken", version, r.Platforms)
		}
	}
	for _, url := range []string{"https://dl.example/1.2.3", "dl.example/"} {
		if err := (Release{Version: "1.2.3", URL: url, Dir: t.TempDir()}).Make(t.Context()); err == nil || !strings.Contains(err.Error(), "end with /") {
			t.Errorf("URL %s: %v", url, err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "of another release"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (Release{Version: "1.2.3", Dir: dir}).Make(t.Context()); err == nil || !strings.Contains(err.Error(), "isn't empty") {
		t.Errorf("a folder with something in it: %v", err)
	}
	bad := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(bad, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sign(t.Context(), nil, bad); err == nil || !strings.Contains(err.Error(), "openssl genpkey") {
		t.Error(err)
	}
}

func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, d := range names {
		if all[d.Name()], err = os.ReadFile(filepath.Join(dir, d.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

type entry struct {
	*tar.Header
	body []byte
}

func untar(t *testing.T, archive []byte) map[string]entry {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]entry{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = entry{h, body}
	}
}

type verifier ed25519.PublicKey

func (v verifier) Verify(_ context.Context, data, sig []byte) error {
	return ed25519.VerifyWithOptions(ed25519.PublicKey(v), data, sig, &ed25519.Options{Hash: crypto.Hash(0)})
}

func (v verifier) KeyID() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(v))
	return fmt.Sprintf("%x", sha256.Sum256(der)), err
}
func (v verifier) Public() crypto.PublicKey { return ed25519.PublicKey(v) }

// provenanceOf verifies the envelope as a stranger would, and what it says.
func provenanceOf(t *testing.T, files map[string][]byte, public ed25519.PublicKey) {
	var e dsse.Envelope
	if err := json.Unmarshal(files["provenance.json.dsse"], &e); err != nil {
		t.Fatal(err)
	}
	v, err := dsse.NewEnvelopeVerifier(verifier(public))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(t.Context(), &e); err != nil {
		t.Error(err)
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil || !bytes.Equal(payload, files["provenance.json"]) {
		t.Errorf("another payload: %v", err)
	}
	e.Payload = base64.StdEncoding.EncodeToString(append(payload, ' '))
	if _, err := v.Verify(t.Context(), &e); err == nil {
		t.Error("what was changed is verified")
	}
	var s statement
	if err := json.Unmarshal(payload, &s); err != nil {
		t.Fatal(err)
	}
	if s.Type != "https://in-toto.io/Statement/v1" || s.PredicateType != "https://slsa.dev/provenance/v1" || len(s.Subject) != len(files)-3 ||
		s.Predicate.RunDetails.Builder.ID != "https://ci.example" || s.Predicate.BuildDefinition.ExternalParameters["version"] != "1.3.0-rc.1" {
		t.Errorf("%+v", s)
	}
}

// verified holds a release against its sums, and the provenance against the
// publisher's key, as docs/install.md says.
func verified(t *testing.T, dir string, public ed25519.PublicKey) {
	for _, tool := range []string{"bash", "jq", "openssl", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s here (apt-get install jq openssl coreutils)", tool)
		}
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "install.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n### Is it the one\n")
	_, rest, _ = strings.Cut(rest, "```sh")
	_, rest, _ = strings.Cut(rest, "\n")
	script, _, ok := strings.Cut(rest, "```")
	if !ok || !strings.Contains(script, "openssl") {
		t.Fatalf("docs/install.md has no commands that verify a release: %q", script)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "release.pub")
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func() ([]byte, error) {
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
		cmd.Dir = filepath.Dir(dir)
		cmd.Env = append(os.Environ(), "DIST="+dir)
		return cmd.CombinedOutput()
	}
	if out, err := run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	for name, at := range map[string]string{"reeve_1.3.0-rc.1_krew.yaml": "apiVersion", "provenance.json.dsse": `"payload": "`} {
		path := filepath.Join(dir, name)
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Replace(was, []byte(at), []byte(at+"AAAA"), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := run(); err == nil {
			t.Errorf("a changed %s is taken: %s", name, out)
		}
		if err := os.WriteFile(path, was, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// krewOf reads the manifest as krew does, and the archives that it names: krew
// unpacks no links, and looks for the files that are moved.
func krewOf(t *testing.T, files map[string][]byte) {
	var m krewManifest
	if err := yaml.UnmarshalStrict(files["reeve_1.3.0-rc.1_krew.yaml"], &m); err != nil {
		t.Fatal(err)
	}
	if m.Kind != "Plugin" || m.Metadata["name"] != "reeve" || m.Spec.Version != "v1.3.0-rc.1" || strings.Contains(m.Spec.ShortDescription, "\n") || len(m.Spec.Platforms) != 2 {
		t.Errorf("%+v", m)
	}
	for _, p := range m.Spec.Platforms {
		name, ok := strings.CutPrefix(p.URI, "https://dl.example/1.3/")
		if l := p.Selector.MatchLabels; !ok || name != "reeve_1.3.0-rc.1_"+l["os"]+"_"+l["arch"]+".tar.gz" {
			t.Errorf("%+v", p)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(files[name])); got != p.SHA256 {
			t.Errorf("%s: %s, not %s", name, got, p.SHA256)
		}
		archive := untar(t, files[name])
		for path, e := range archive {
			if e.Typeflag != tar.TypeReg && e.Typeflag != tar.TypeDir {
				t.Errorf("%s: krew refuses %s, which is of type %c", name, path, e.Typeflag)
			}
		}
		to := map[string]bool{}
		for _, f := range p.Files {
			to[f.To] = true
			if _, ok := archive[f.From]; !ok {
				t.Errorf("%s has no %s", name, f.From)
			}
		}
		if !to[p.Bin] {
			t.Errorf("%s: nothing is moved to %s", name, p.Bin)
		}
	}
}

// debOf has dpkg read the package, and systemd its unit.
func debOf(t *testing.T, path string) {
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("no dpkg-deb here (apt-get install dpkg)")
	}
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	for field, want := range map[string]string{"Package": "reeve", "Version": "1.3.0~rc.1", "Architecture": runtime.GOARCH} {
		if got := strings.TrimSpace(run("dpkg-deb", "--field", path, field)); got != want {
			t.Errorf("%s: %q, not %q", field, got, want)
		}
	}
	dir := t.TempDir()
	run("dpkg-deb", "--raw-extract", path, dir)
	for name, mode := range map[string]os.FileMode{
		"DEBIAN/postinst": 0o755, "DEBIAN/conffiles": 0o644, "usr/bin/reeve": 0o755, "etc/reeve/hub.yaml": 0o644, "usr/lib/systemd/system/reeve-hub.service": 0o644,
		"usr/share/man/man1/reeve.1": 0o644,
	} {
		about, err := os.Stat(filepath.Join(dir, name))
		if err != nil || about.Mode() != mode {
			t.Errorf("%s: %v, %v", name, about, err)
		}
	}
	for _, name := range plugin {
		if to, err := os.Readlink(filepath.Join(dir, "usr/bin", name)); err != nil || to != "reeve" {
			t.Errorf("%s: %q, %v", name, to, err)
		}
	}
	run("sh", "-n", filepath.Join(dir, "DEBIAN/postinst"))
	cmd := exec.Command("md5sum", "--check", "--quiet", "DEBIAN/md5sums")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("md5sums: %v\n%s", err, out)
	}
}

// The units are such as systemd takes, and as closed as they can be.
func TestUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("no systemd-analyze here (apt-get install systemd)")
	}
	for _, unit := range []string{"reeve-hub.service", "reeve-agent.service"} {
		path := filepath.Join("..", "..", "deploy", "systemd", unit)
		out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--threshold=20", path).CombinedOutput()
		if err != nil || strings.Contains(string(out), "Unknown") || strings.Contains(string(out), "Failed to parse") {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}
