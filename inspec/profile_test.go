package inspec_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"reeve.dev/reeve/inspec"
)

// write lays files below a new folder and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
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

func small() map[string]string {
	return map[string]string{
		"inspec.yml":    "name: small\nversion: 1.2.3\ntitle: A small one\n",
		"controls/a.rb": "control('a') { describe(1) { it { should eq 1 } } }\n",
	}
}

func TestLoad_archiveIsTheSameProfile(t *testing.T) {
	p, err := inspec.Load(write(t, small()))
	if err != nil {
		t.Fatal(err)
	}
	var one, two bytes.Buffer
	if err := p.Archive(&one); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "p.tar.gz")
	if err := os.WriteFile(file, one.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	q, err := inspec.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if p.Digest() != q.Digest() || q.Name() != "small" || q.Metadata().Version != "1.2.3" {
		t.Errorf("loaded %s %s %s, want small 1.2.3 %s", q.Name(), q.Metadata().Version, q.Digest(), p.Digest())
	}
	if err := q.Archive(&two); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("the archive of an archive differs from it")
	}
}

func TestLoad_digestDependsOnContent(t *testing.T) {
	p, err := inspec.Load(write(t, small()))
	if err != nil {
		t.Fatal(err)
	}
	files := small()
	files["controls/a.rb"] += "# more\n"
	q, err := inspec.Load(write(t, files))
	if err != nil {
		t.Fatal(err)
	}
	if p.Digest() == q.Digest() {
		t.Error("another content has the same digest")
	}
}

// TestLoad_symbolKeys loads an inspec.yml whose keys are Ruby's symbols.
func TestLoad_symbolKeys(t *testing.T) {
	p, err := inspec.LoadFS(fstest.MapFS{"inspec.yml": {Data: []byte(":name: demo\n:version: 1.2.0\ninputs:\n- :name: port\n  :value: 80\n")}, "controls/a.rb": {}})
	if err != nil {
		t.Fatal(err)
	}
	m := p.Metadata()
	if m.Name != "demo" || m.Version != "1.2.0" || len(m.Inputs) != 1 || m.Inputs[0].Name != "port" {
		t.Errorf("metadata %+v, want the name demo, version 1.2.0 and an input port", m)
	}
}

func TestLoadFS(t *testing.T) {
	fsys := fstest.MapFS{}
	for name, text := range small() {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	p, err := inspec.LoadFS(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name() != "small" {
		t.Errorf("name %q, want small", p.Name())
	}
}

func TestLoad_zipWithAFolderAround(t *testing.T) {
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	for name, text := range small() {
		w, err := zw.Create("small-1.2.3/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := inspec.Read(&b, "small.zip")
	if err != nil {
		t.Fatal(err)
	}
	if p.Name() != "small" {
		t.Errorf("name %q, want small", p.Name())
	}
}

func TestLoad_malformed(t *testing.T) {
	with := func(name, text string) map[string]string {
		files := small()
		files[name] = text
		return files
	}
	for name, tc := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"no inspec.yml":      {map[string]string{"controls/a.rb": ""}, []string{"no inspec.yml", "name:"}},
		"no controls":        {map[string]string{"inspec.yml": "name: x\n"}, []string{"controls/*.rb"}},
		"not YAML":           {with("inspec.yml", "name: [x\n"), []string{"inspec.yml", "YAML"}},
		"no name":            {with("inspec.yml", "title: x\n"), []string{"inspec.yml", "name is missing"}},
		"unknown type":       {with("inspec.yml", "name: x\ninputs:\n  - name: a\n    type: Strang\n"), []string{"inspec.yml:4", "Strang", "Numeric"}},
		"value of no type":   {with("inspec.yml", "name: x\ninputs:\n  - name: a\n    type: Numeric\n    value: many\n"), []string{"inspec.yml:3", "input a", "Numeric"}},
		"depends by git":     {with("inspec.yml", "name: x\ndepends:\n  - name: y\n    git: https://example.com/y\n"), []string{"inspec.yml:3", "git clone https://example.com/y vendor/y", "vendor/y.tar.gz"}},
		"missing dependency": {with("inspec.yml", "name: x\ndepends:\n  - name: y\n    path: nowhere\n"), []string{"depends on y", "nowhere"}},
		"a circle":           {with("inspec.yml", "name: x\ndepends:\n  - name: y\n    path: .\n"), []string{"depends on y", "circle"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := inspec.Load(write(t, tc.files))
			if err == nil {
				t.Fatal("the profile was loaded")
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q doesn't say %q", err, w)
				}
			}
		})
	}
}

func TestLoad_linkOutOfTheFolder(t *testing.T) {
	dir := write(t, small())
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "controls", "b.rb")); err != nil {
		t.Fatal(err)
	}
	if _, err := inspec.Load(dir); err == nil || !strings.Contains(err.Error(), "controls/b.rb is a link") {
		t.Errorf("error %v, want one about the link", err)
	}
}

func tarball(t *testing.T, headers []tar.Header, body func(i int) io.Reader) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	for i := range headers {
		if err := tw.WriteHeader(&headers[i]); err != nil {
			t.Fatal(err)
		}
		if headers[i].Size > 0 {
			if _, err := io.Copy(tw, body(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestRead_hostileArchives(t *testing.T) {
	for name, tc := range map[string]struct {
		headers []tar.Header
		want    string
	}{
		"leads out": {[]tar.Header{{Typeflag: tar.TypeReg, Name: "../../etc/cron.d/x"}}, "leads out"},
		"absolute":  {[]tar.Header{{Typeflag: tar.TypeReg, Name: "/etc/cron.d/x"}}, "leads out"},
		"link":      {[]tar.Header{{Typeflag: tar.TypeSymlink, Name: "controls/a.rb", Linkname: "/etc/shadow"}}, "is a link"},
		"bomb":      {[]tar.Header{{Typeflag: tar.TypeReg, Name: "files/zeros", Size: inspec.MaxFileBytes + 1}}, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			data := tarball(t, tc.headers, func(i int) io.Reader { return io.LimitReader(zeros{}, tc.headers[i].Size) })
			_, err := inspec.Read(bytes.NewReader(data), "p.tar.gz")
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one that says %q", err, tc.want)
			}
		})
	}
	t.Run("no archive", func(t *testing.T) {
		_, err := inspec.Read(strings.NewReader("hello"), "p")
		if err == nil || !strings.Contains(err.Error(), "not an archive") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("truncated", func(t *testing.T) {
		data := tarball(t, []tar.Header{{Typeflag: tar.TypeReg, Name: "files/zeros", Size: 1 << 20}}, func(int) io.Reader { return io.LimitReader(zeros{}, 1<<20) })
		if _, err := inspec.Read(bytes.NewReader(data[:len(data)/2]), "p.tar.gz"); err == nil {
			t.Error("half an archive was loaded")
		}
	})
}
