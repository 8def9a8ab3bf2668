package cinc_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec/cinc"
)

// program puts a stand-in on the PATH: the real one is a Ruby installation of
// its own. It writes down its arguments and what the input file holds.
func program(t *testing.T, name, script string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	text := "#!/bin/sh\nprintf '%s\\n' \"$@\" >" + dir + "/arguments\nprintf %s \"$KUBECONFIG\" >" + dir + "/kubeconfig\n" +
		"out=; last=; for a; do case $a in json:*) out=${a#json:};; esac; [ \"$last\" = --input-file ] && cat \"$a\" >" + dir + "/inputs; last=$a; done\n" + script
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	t.Setenv("TMPDIR", t.TempDir())
	return dir
}

const doc = `{"platform":{"name":"debian","release":"12"},"profiles":[{"name":"p","sha256":"","supports":[],"attributes":[],"groups":[],"controls":[` +
	`{"id":"a","impact":1,"refs":[],"tags":{},"source_location":{"line":null,"ref":null},"title":null,"results":[{"status":"failed","code_desc":"x","run_time":0.1,"start_time":"2026-01-02T03:04:05+00:00","backtrace":["p.rb:1"]}]}]}],"statistics":{"duration":0.1},"version":"6.8.1"}`

func run(t *testing.T, r cinc.Request) (*hdf.Results, error) {
	t.Helper()
	e, err := cinc.Find()
	if err != nil {
		t.Fatal(err)
	}
	return e.Run(t.Context(), r)
}

func TestEngine_Run(t *testing.T) {
	dir := program(t, "cinc-auditor", "echo noise; echo '"+doc+"' >$out; exit 100\n")
	got, err := run(t, cinc.Request{
		Profile: "some profile; $(x)", Target: "k8s-container://ns/pod/c", Inputs: map[string]any{"secret": "hush", "n": 3},
		Controls: []string{"a", "/b.*/"}, Waivers: []string{"w.yaml"}, Kubeconfig: "/etc/kc",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Version != "6.8.1" || got.FailureCount != 1 || got.Profiles[0].Controls[0].Status != hdf.Error {
		t.Errorf("results %+v", got)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(read(t, dir, "arguments")), "\n")
	for i, l := range lines { // the folder is random
		if before, _, ok := strings.Cut(l, os.TempDir()+"/reeve-cinc-"); ok {
			lines[i] = before + filepath.Base(l)
		}
	}
	want := []string{
		"exec", here + "/some profile; $(x)", "--no-color", "--no-create-lockfile", "--reporter", "json:results.json",
		"--target", "k8s-container://ns/pod/c", "--input-file", "inputs.yml", "--controls", "a", "/b.*/", "--waiver-file", "w.yaml",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
	if got := read(t, dir, "inputs"); got != "\"n\": 3\nsecret: hush\n" {
		t.Errorf("inputs %q", got)
	}
	if got := read(t, dir, "kubeconfig"); got != "/etc/kc" {
		t.Errorf("KUBECONFIG %q", got)
	}
	if left, _ := filepath.Glob(os.TempDir() + "/reeve-cinc-*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestEngine_Run_whatIsNoVerdict(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		code   int // of the ExitError, 0 for another error
		want   string
	}{
		"a usage error":      {"printf 'bad \\033[31mprofile'; exit 1\n", 1, "cinc-auditor ended with code 1: bad [31mprofile"},
		"no licence":         {"exit 172\n", 172, "cinc-auditor ended with code 172: its licence isn't accepted"},
		"killed":             {"kill -9 $$\n", -1, "cinc-auditor ended with code -1"},
		"no results":         {"echo why; exit 0\n", 0, "cinc-auditor wrote no results: why"},
		"half results":       {"echo '{\"version\":' >$out; exit 100\n", 0, "cinc-auditor: results are not HDF"},
		"results of another": {"echo '{}' >$out; exit 0\n", 0, "cinc-auditor: results are not HDF: version or profiles is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			program(t, "cinc-auditor", test.script)
			_, err := run(t, cinc.Request{Profile: "p", Target: "local:"})
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			var exit *cinc.ExitError
			if errors.As(err, &exit) != (test.code != 0) || exit != nil && exit.Code != test.code {
				t.Errorf("exit %+v", exit)
			}
		})
	}
}

func TestEngine_Run_refusesBeforeItStarts(t *testing.T) {
	dir := program(t, "inspec", "exit 0\n")
	if _, err := run(t, cinc.Request{Profile: "p", Target: "dir:/"}); !errors.Is(err, cinc.ErrTarget) {
		t.Errorf("dir: %v", err)
	}
	if _, err := run(t, cinc.Request{Profile: "p", Target: "local:", Controls: []string{"--sudo"}}); err == nil {
		t.Error("a control that is an option was taken")
	}
	if _, err := os.Stat(filepath.Join(dir, "arguments")); err == nil {
		t.Error("the program was started")
	}
}

func TestEngine_Run_endsWithItsContext(t *testing.T) {
	dir := program(t, "inspec", "exec cat \"$0.pipe\"\n")
	pipe := filepath.Join(dir, "inspec.pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := cinc.Find()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	opened := make(chan *os.File, 1)
	go func() {
		f, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits until the program reads
		if err != nil {
			t.Error(err)
		}
		opened <- f
		cancel(enough)
	}()
	if _, err := e.Run(ctx, cinc.Request{Profile: "p", Target: "local:"}); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	(<-opened).Close()
}

func TestFind(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := cinc.Find(); !errors.Is(err, cinc.ErrMissing) {
		t.Errorf("got %v", err)
	}
	program(t, "inspec", "")
	if e, err := cinc.Find(); err != nil || e.Name() != "inspec" {
		t.Errorf("got %v, %v", e, err)
	}
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
