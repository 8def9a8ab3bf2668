package inspec_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/target"
	"reeve.dev/reeve/profiles"
)

func baseline(t *testing.T) *inspec.Profile {
	t.Helper()
	p, err := inspec.Load("../profiles/container-baseline")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A root filesystem as a slim image has it; modes are made explicit, since a
// checkout and a umask change them.
func cleanRoot() fstest.MapFS {
	file := func(mode os.FileMode, text string) *fstest.MapFile {
		return &fstest.MapFile{Mode: mode, Data: []byte(text)}
	}
	dir := func(mode os.FileMode) *fstest.MapFile { return &fstest.MapFile{Mode: os.ModeDir | mode} }
	return fstest.MapFS{
		"etc/os-release":     file(0o644, "ID=debian\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n"),
		"etc/debian_version": file(0o644, "12.15\n"),
		"etc/passwd": file(0o644, "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"+
			"sync:x:4:65534:sync:/bin:/bin/sync\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\napp:x:1000:1000::/app:/bin/sh\n"),
		"etc/group":                          file(0o644, "root:x:0:\ndaemon:x:1:\nshadow:x:42:\napp:x:1000:\n"),
		"etc/shadow":                         file(0o640, "root:*:20000:0:99999:7:::\ndaemon:*:20000:0:99999:7:::\napp:!:20000:0:99999:7:::\n"),
		"etc/environment":                    file(0o644, "PATH=/usr/bin:/bin\n"),
		"etc/apt/sources.list":               file(0o644, "deb http://mirror.example/debian bookworm main\n"),
		"usr/bin":                            dir(0o755),
		"usr/sbin":                           dir(0o755),
		"usr/bin/find":                       file(0o755, "ELF"),
		"usr/bin/passwd":                     file(os.ModeSetuid|0o755, "ELF"),
		"root":                               dir(0o700),
		"root/.profile":                      file(0o644, "umask 077\n"),
		"tmp":                                dir(os.ModeSticky | 0o777),
		"proc/sys/kernel/randomize_va_space": file(0o644, "2\n"),
	}
}

func badRoot() fstest.MapFS {
	root := cleanRoot()
	text := func(name string, mode os.FileMode, s string) {
		root[name] = &fstest.MapFile{Mode: mode, Data: []byte(s)}
	}
	text("etc/passwd", 0o666, "root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/root:/bin/sh\nguest::1001:1001::/home/guest:/bin/sh\n"+
		"svc:x:33:33::/srv:/bin/bash\nsvc2:x:33:33::/srv:/usr/sbin/nologin\n")
	text("etc/shadow", 0o644, "root::20000:0:99999:7:::\n")
	text("etc/ld.so.preload", 0o644, "/usr/lib/evil.so\n")
	text("etc/environment", 0o666, "DB_PASSWORD=hunter2\n")
	text("etc/apt/sources.list", 0o644, "deb [trusted=yes] http://mirror.example/debian bookworm main\n")
	text("usr/bin/find", os.ModeSetuid|0o755, "ELF")
	text("usr/bin/sudo", os.ModeSetuid|0o755, "ELF")
	text("usr/bin/gcc", 0o755, "ELF")
	text("usr/sbin/sshd", 0o755, "ELF")
	text("root/.ssh/id_rsa", 0o600, "KEY")
	text("run/docker.sock", 0o660, "")
	text("var/run/secrets/kubernetes.io/serviceaccount/token", 0o644, "TOKEN")
	text("proc/sys/kernel/randomize_va_space", 0o644, "0\n")
	root["root"] = &fstest.MapFile{Mode: os.ModeDir | 0o755}
	root["tmp"] = &fstest.MapFile{Mode: os.ModeDir | 0o777}
	root["usr/sbin"] = &fstest.MapFile{Mode: os.ModeDir | 0o777}
	return root
}

// rootDir lays files in a folder and opens it; what belongs to the user of
// the test is shown as root's.
func rootDir(t *testing.T, files fstest.MapFS) target.Target {
	t.Helper()
	root := t.TempDir()
	for name, f := range files {
		full := filepath.Join(root, name)
		dir := full
		if !f.Mode.IsDir() {
			dir = filepath.Dir(full)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if !f.Mode.IsDir() {
			if err := os.WriteFile(full, f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, f := range files {
		if err := os.Chmod(filepath.Join(root, name), f.Mode); err != nil {
			t.Fatal(err)
		}
	}
	tgt, err := target.Open(t.Context(), "dir:"+root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tgt.Close() })
	return ownedByRoot{tgt}
}

type ownedByRoot struct{ target.Target }

func (o ownedByRoot) Stat(ctx context.Context, path string, follow bool) (target.FileInfo, error) {
	info, err := o.Target.Stat(ctx, path, follow)
	if info.UID == os.Getuid() {
		info.UID, info.Owner = 0, "root"
	}
	if info.GID == os.Getgid() {
		info.GID, info.Group = 0, "root"
	}
	return info, err
}

func TestContainerBaseline_cleanImage(t *testing.T) {
	doc, err := inspec.Run(t.Context(), baseline(t), rootDir(t, cleanRoot()), inspec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range doc.Profiles[0].Controls {
		if c.Status == hdf.Failed || c.Status == hdf.Error {
			t.Errorf("%s (%s) is %s: %+v", c.ID, c.Title, c.Status, c.Results)
		}
	}
	if n := doc.Counts(); n.Passed < 15 {
		t.Errorf("only %d controls could be judged of files alone", n.Passed)
	}
}

func TestContainerBaseline_badImage(t *testing.T) {
	doc, err := inspec.Run(t.Context(), baseline(t), rootDir(t, badRoot()), inspec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]hdf.Status{}
	for _, c := range doc.Profiles[0].Controls {
		got[c.ID] = c.Status
		for _, r := range c.Results {
			if strings.Contains(r.CodeDesc+r.Message, "hunter2") {
				t.Errorf("%s reports a secret: %s %s", c.ID, r.CodeDesc, r.Message)
			}
		}
	}
	want := map[string]hdf.Status{
		"accounts-01": hdf.Failed, "accounts-02": hdf.Failed, "accounts-03": hdf.Failed, "accounts-04": hdf.Failed, "accounts-05": hdf.Failed,
		"files-01": hdf.Failed, "files-02": hdf.Failed, "files-03": hdf.Failed, "files-04": hdf.Failed, "files-05": hdf.Failed,
		"files-06": hdf.Failed, "files-07": hdf.Failed, "files-08": hdf.Skipped, "files-09": hdf.Skipped,
		"software-01": hdf.Failed, "software-02": hdf.Failed, "software-03": hdf.Failed, "software-04": hdf.Failed,
		"secrets-01": hdf.Failed, "secrets-02": hdf.Failed, "secrets-03": hdf.Failed, "secrets-04": hdf.Failed,
		"runtime-01": hdf.Skipped, "runtime-02": hdf.Skipped, "runtime-03": hdf.Skipped, "runtime-04": hdf.Skipped, "runtime-05": hdf.Skipped,
		"runtime-06": hdf.Failed,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
}

func TestContainerBaseline_saysWhatToDo(t *testing.T) {
	doc, err := inspec.Run(t.Context(), baseline(t), rootDir(t, cleanRoot()), inspec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range doc.Profiles[0].Controls {
		labels := map[string]bool{}
		for _, d := range c.Descriptions {
			labels[d.Label] = d.Data != ""
		}
		if c.Title == "" || !labels["default"] || !labels["check"] || !labels["fix"] || c.Tags["severity"] == nil || c.Tags["nist"] == nil {
			t.Errorf("%s lacks a title, a text or a tag", c.ID)
		}
	}
}

func TestContainerBaseline_embedded(t *testing.T) {
	disk := baseline(t)
	if !slices.Contains(profiles.Names, "container-baseline") {
		t.Errorf("%v doesn't name it", profiles.Names)
	}
	fsys, err := fs.Sub(profiles.FS, "container-baseline")
	if err != nil {
		t.Fatal(err)
	}
	p, err := inspec.LoadFS(fsys)
	if err != nil {
		t.Fatal(err)
	}
	if p.Digest() != disk.Digest() {
		t.Error("the embedded profile isn't the one on disk")
	}
}

// The whole of a machine's own root is judged in well under two seconds; the
// bound is wide, since a test machine may be busy.
func TestContainerBaseline_ownRoot(t *testing.T) {
	tgt, err := target.Open(t.Context(), "dir:/")
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	start := time.Now()
	doc, err := inspec.Run(t.Context(), baseline(t), tgt, inspec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("it took %v", d)
	}
	for _, c := range doc.Profiles[0].Controls {
		if c.Status == hdf.Error {
			t.Errorf("%s is an error: %+v", c.ID, c.Results)
		}
	}
}
