package resource_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reeve.dev/reeve/inspec/resource"
	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// root lays a root filesystem: each file of testdata/root.txt, after a line with its name.
func root(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("testdata/root.txt")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, file := range strings.Split(string(data), "\n-- ")[1:] {
		name, text, _ := strings.Cut(file, " --")
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if text = strings.TrimPrefix(text, "\n"); text != "" {
			text = strings.TrimSuffix(text, "\n") + "\n"
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"etc/shadow": 0o640, "usr/bin/su": 0o755 | os.ModeSetuid, "tmp/x": 0o666} {
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"etc/link": "passwd", "etc/abs": "/etc/passwd", "etc/dangling": "/nowhere"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// world is an interpreter with the resources of one target, as inspec.NAME.
type world struct {
	in  *ruby.Interp
	set *resource.Set
}

func newWorld(t *testing.T, uri string) *world {
	t.Helper()
	to, err := target.Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { to.Close() })
	in := ruby.New(ruby.Limits{})
	set, err := resource.Install(in, to, resource.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in.DefKernel("inspec", func(*ruby.Call) (ruby.Value, error) { return set.Backend(), nil })
	return &world{in, set}
}

func (w *world) eval(t *testing.T, src string) (ruby.Value, error) {
	t.Helper()
	p, err := ruby.Parse("test.rb", []byte(src))
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return w.in.Run(t.Context(), p, nil)
}

// says is what an expression gives: its inspect, or ! and the error.
func (w *world) says(t *testing.T, src string) string {
	t.Helper()
	v, err := w.eval(t, src)
	var raised *ruby.Exception
	if errors.As(err, &raised) {
		return "!" + raised.Message
	}
	if err != nil {
		t.Fatalf("%s: %v", src, err)
	}
	return w.in.Inspect(v)
}

// TestResources asks a root filesystem. Each case of testdata/*.cases is an
// expression and, after =>, what it gives.
func TestResources(t *testing.T) {
	w := newWorld(t, "dir:"+root(t))
	files, err := filepath.Glob("testdata/*.cases")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) { w.check(t, name) })
	}
}

func (w *world) check(t *testing.T, name string) {
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for n, line := range strings.Split(string(data), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		src, want, ok := strings.Cut(line, "  => ")
		if !ok {
			t.Fatalf("%s:%d: no =>", name, n+1)
		}
		if got := strings.ReplaceAll(w.says(t, strings.TrimSpace(src)), "\n", `\n`); got != want {
			t.Errorf("%s:%d: %s\n got %s\nwant %s", name, n+1, src, got, want)
		}
	}
}

// TestResources_SkippedOrFailed shows that a resource that can't be made says
// why, and is a resource all the same.
func TestResources_SkippedOrFailed(t *testing.T) {
	w := newWorld(t, "dir:"+root(t))
	skipped := map[string]string{
		"inspec.sshd_config('/nowhere')":       "Can't find file: /nowhere",
		"inspec.parse_config_file('/nowhere')": "Can't find file: /nowhere",
		"inspec.json('/nowhere.json')":         "Can't find file: /nowhere.json",
		"inspec.login_defs('/etc/empty')":      "File is empty: /etc/empty",
	}
	for src, want := range skipped {
		v, err := w.eval(t, src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if got, ok := resource.Skipped(v); !ok || got != want {
			t.Errorf("%s: skipped %v, %q, want %q", src, ok, got, want)
		}
		if _, ok := resource.Failed(v); ok {
			t.Errorf("%s: also failed", src)
		}
	}
	for _, src := range []string{"inspec.yaml('/etc/app/broken.yaml')", "inspec.yaml('/etc/app/alias.yaml')", "inspec.yaml('/etc/app/date.yaml')"} {
		v, err := w.eval(t, src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if got, ok := resource.Failed(v); !ok || !strings.HasPrefix(got, "Unable to parse YAML: ") {
			t.Errorf("%s: failed %v, %q", src, ok, got)
		}
	}
}

// TestResources_NeedCommands shows that what files can't tell is never
// answered.
func TestResources_NeedCommands(t *testing.T) {
	w := newWorld(t, "dir:"+root(t))
	for _, src := range []string{
		"inspec.command('true').exit_status", "inspec.bash('true').stdout", "inspec.mount('/tmp').mounted?",
		"inspec.port(22).listening?", "inspec.os_env('PATH').content", "inspec.file('/etc/passwd').readable?(nil, 'alice')",
	} {
		if got := w.says(t, src); !strings.Contains(got, "this target is files alone") {
			t.Errorf("%s: %s", src, got)
		}
	}
	v, err := w.eval(t, "inspec.processes('sshd')")
	if err != nil {
		t.Fatal(err)
	}
	if msg, ok := resource.Failed(v); !ok || !strings.Contains(msg, "no command can be run") {
		t.Errorf("processes: failed %v, %q", ok, msg)
	}
}

// TestResources_Commands asks this machine, by processes and through a shell.
func TestResources_Commands(t *testing.T) {
	for _, uri := range []string{"local:", "shell:/bin/sh"} {
		t.Run(uri, func(t *testing.T) { newWorld(t, uri).check(t, "testdata/commands.local") })
	}
}

// TestResources_Tools asks programs that print what the real ones do.
func TestResources_Tools(t *testing.T) {
	data, err := os.ReadFile("testdata/tools.txt")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, tool := range strings.Split(string(data), "\n-- ")[1:] {
		name, script, _ := strings.Cut(tool, " --\n")
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	newWorld(t, "shell:env PATH="+dir+":/usr/bin:/bin sh").check(t, "testdata/tools.expect")
}

// TestResources_Library runs a resource that a profile's library defines.
func TestResources_Library(t *testing.T) {
	w := newWorld(t, "dir:"+root(t))
	src, err := os.ReadFile("testdata/library.rb")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.eval(t, string(src)); err != nil {
		t.Fatal(err)
	}
	w.check(t, "testdata/library.expect")
	v, err := w.eval(t, "inspec.things(0)")
	if err != nil {
		t.Fatal(err)
	}
	if msg, ok := resource.Skipped(v); !ok || msg != "things: none" {
		t.Errorf("skipped %v, %q", ok, msg)
	}
	if name := resource.ClassName(v); name != "things" {
		t.Errorf("class name %q", name)
	}
}
