// Package pipelines takes the steps out of the examples' files and runs them as
// their systems would, against a hub and an agent: on a target that meets its
// threshold and on one that doesn't.
package pipelines

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"reeve.dev/reeve/agent"
	"reeve.dev/reeve/hub"
	"reeve.dev/reeve/pki"
)

// world is where the steps run. With REEVE_TEST_PIPELINES it is one that is
// there already: that variable is a world in JSON.
type world struct {
	// Reeve is the program.
	Reeve string
	// Vars are what a system's settings and secrets hold.
	Vars map[string]string
	// Good and Bad are the variables that name a target. Spotless says that
	// not one control fails on the good one.
	Good, Bad map[string]string
	Spotless  bool
}

const image = "registry.example/reeve:1"

// The threshold that decides here: a folder has no process, so that most of the
// profile's controls are skipped, which the shipped ones don't let pass.
const (
	thresholdName = "severe"
	threshold     = "failed:\n  critical: {max: 0}\n  high: {max: 0}\n"
)

func newWorld(t *testing.T) *world {
	t.Helper()
	for _, tool := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: apt-get install %[1]s", tool)
		}
	}
	w := &world{}
	if text := os.Getenv("REEVE_TEST_PIPELINES"); text != "" {
		if err := json.Unmarshal([]byte(text), w); err != nil {
			t.Fatal(err)
		}
	} else {
		w.start(t)
	}
	w.Vars["REEVE_URL"], w.Vars["REEVE_IMAGE"] = "file://"+w.Reeve, image
	return w
}

// built is the folder of what build makes.
var built string

func TestMain(m *testing.M) {
	var err error
	if built, err = os.MkdirTemp("", "reeve-pipelines-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(built)
	os.Exit(code)
}

// build makes the program.
var build = sync.OnceValue(func() error {
	out, err := exec.Command("go", "build", "-o", built, "reeve.dev/reeve/cmd/reeve").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build reeve: %w\n%s", err, out)
	}
	return nil
})

// start builds reeve, and starts a hub and an agent that may scan folders.
func (w *world) start(t *testing.T) {
	dir := t.TempDir()
	w.Reeve = filepath.Join(built, "reeve")
	if err := build(); err != nil {
		t.Fatal(err)
	}
	cfg := hub.Defaults()
	cfg.DataDir, cfg.CADir = filepath.Join(dir, "hub"), filepath.Join(dir, "ca")
	cfg.Listen = hub.ListenConfig{API: "127.0.0.1:0", Services: "127.0.0.1:0", Metrics: "127.0.0.1:0"}
	cfg.Thresholds.Dir = filepath.Join(dir, "thresholds")
	write(t, filepath.Join(cfg.Thresholds.Dir, thresholdName+".yaml"), threshold)
	if _, err := pki.Init(cfg.CADir, "test"); err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	h, err := hub.New(cfg, "test", quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- h.Run(ctx) }()
	join, text, err := h.CA().NewJoinToken("prod", time.Hour)
	if err == nil {
		err = h.Tokens().CreateToken(ctx, join)
	}
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "join-token")
	write(t, file, text)
	beside := agent.Defaults()
	beside.Hub.URL, beside.Hub.JoinTokenFile, beside.DataDir, beside.Metrics = h.URL(), file, filepath.Join(dir, "agent"), ""
	beside.Scan.Targets = []string{"dir"}
	a, err := agent.New(beside, "test", quiet)
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
	token, text, err := pki.NewToken(pki.API, "ci", pki.Scanner.Everywhere(), 0)
	if err == nil {
		err = h.Tokens().CreateToken(ctx, token)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.Vars = map[string]string{
		"TARGET_NAMESPACE": "default", "TARGET_POD": "web-app", "TARGET_CONTAINER": "web-container",
		"KUBECONFIG_CONTENT": "current-context: kubeconfig-secret",
		"REEVE_HUB":          h.URL(), "REEVE_CA": filepath.Join(cfg.CADir, "ca.pem"), "REEVE_AGENT": "prod", "REEVE_TOKEN": text,
	}
	w.Spotless = true
	w.Good = map[string]string{"THRESHOLD": thresholdName, "TARGET": "dir:" + root(t, dir, "good", "root:x:0:0:root:/root:/bin/sh\n")}
	w.Bad = map[string]string{"THRESHOLD": thresholdName, "TARGET": "dir:" + root(t, dir, "bad", "root:x:0:0:root:/root:/bin/sh\ntoor::0:0::/:/bin/sh\n")}
	w.await(t)
}

// await waits until the agent has joined.
func (w *world) await(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		cmd := exec.CommandContext(ctx, w.Reeve, "get", "agents", "-o", "json")
		cmd.Env = append(os.Environ(), "REEVE_HUB="+w.Vars["REEVE_HUB"], "REEVE_CA="+w.Vars["REEVE_CA"], "REEVE_TOKEN="+w.Vars["REEVE_TOKEN"])
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("the agent never joined: %v", err)
		}
		if bytes.Contains(out, []byte(`"connected": true`)) {
			return
		}
	}
}

// root is a small root file system with these accounts.
func root(t *testing.T, dir, name, passwd string) string {
	t.Helper()
	dir = filepath.Join(dir, name)
	for path, text := range map[string]string{
		"etc/passwd": passwd, "etc/group": "root:x:0:\n",
		"etc/os-release": "ID=debian\nVERSION_ID=\"13\"\nPRETTY_NAME=\"test\"\n",
	} {
		write(t, filepath.Join(dir, path), text)
		if err := os.Chmod(filepath.Join(dir, path), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// docker stands in for a container engine: it runs reeve with what an image of
// it would see, its arguments, the folder and the variables that it is given.
const docker = `#!/bin/sh
set -eu
[ "$1" = run ] || { echo "docker: unknown command $1" >&2; exit 125; }
shift
kubeconfig=
while :; do
  case $1 in
  --rm) shift ;;
  --user) shift 2 ;;
  --volume) host=${2%%:*} inside=${2#*:}; shift 2 ;;
  --workdir) [ "$2" = "$inside" ]; shift 2 ;;
  --env) case $2 in KUBECONFIG=$inside/*) kubeconfig=$host/${2#KUBECONFIG=$inside/} ;; *) exit 125 ;; esac; shift 2 ;;
  -*) echo "docker: unknown flag $1" >&2; exit 125 ;;
  *) break ;;
  esac
done
[ "$1" = ` + image + ` ] || { echo "docker: no image $1" >&2; exit 125; }
shift
cd "$host"
exec env -i KUBECONFIG="$kubeconfig" HOME=/nonexistent "$REEVE" "$@"
`

// job is what a system runs on one machine.
type job struct {
	name  string
	form  string // direct, container or hub
	env   map[string]string
	steps []step
}

type step struct {
	shell  []string // what is given the script as its last argument
	script string
	args   []string // instead of a script
	env    map[string]string
	always bool // also after a step that failed
}

var (
	bash   = []string{"bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"}
	sh     = []string{"sh", "-c"}
	shFail = []string{"sh", "-xec"}
)

// outcome is how a job ended: the exit code of the first step that failed, and
// all that was printed.
type outcome struct {
	code int
	log  string
}

// run runs a job in a checkout of its own, where nothing but what the job has
// is in the environment.
func (w *world) run(t *testing.T, j job, target map[string]string) (o outcome, dir string) {
	t.Helper()
	dir = t.TempDir()
	work, tmp, bin := filepath.Join(dir, "work"), filepath.Join(dir, "tmp"), filepath.Join(dir, "bin")
	for _, d := range []string{tmp, bin} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(work, "ci"), os.DirFS("ci")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(work, thresholdName), threshold)
	write(t, filepath.Join(bin, "docker"), docker)
	if err := os.Chmod(filepath.Join(bin, "docker"), 0o755); err != nil {
		t.Fatal(err)
	}
	if j.form == "direct" {
		if err := os.Symlink(w.Reeve, filepath.Join(bin, "reeve")); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{
		"PATH": bin + ":/usr/bin:/bin", "HOME": filepath.Join(dir, "home"), "TMPDIR": tmp, "REEVE": w.Reeve, "POLL": "0.05",
		"GITHUB_PATH": filepath.Join(dir, "path"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary.md"),
	}
	maps.Copy(env, j.env)
	for _, s := range j.steps {
		if o.code != 0 && !s.always {
			continue
		}
		args := append(slices.Clone(s.shell), s.script)
		if s.args != nil {
			args = s.args
		}
		all := maps.Clone(env)
		maps.Copy(all, s.env)
		for k, v := range target {
			all[k], all["bamboo_"+strings.ToLower(k)] = v, v
		}
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = work
		for k, v := range all {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
		out, err := cmd.CombinedOutput()
		o.log += fmt.Sprintf("$ %s\n%s", args[len(args)-1], out)
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
			t.Fatalf("%s: %v", j.name, err)
		}
		if code := cmd.ProcessState.ExitCode(); code != 0 && o.code == 0 {
			o.code = code
		}
		for line := range strings.Lines(string(out)) {
			if path, ok := strings.CutPrefix(strings.TrimSpace(line), "##vso[task.prependpath]"); ok {
				env["PATH"] = path + ":" + env["PATH"]
			}
		}
		if path, err := os.ReadFile(env["GITHUB_PATH"]); err == nil {
			env["PATH"] = strings.TrimSpace(string(path)) + ":" + env["PATH"]
		}
	}
	return o, dir
}

func TestPipelines(t *testing.T) {
	w := newWorld(t)
	for _, system := range systems {
		t.Run(system.name, func(t *testing.T) {
			t.Parallel()
			jobs := system.jobs(t, w)
			forms := map[string]bool{}
			for _, j := range jobs {
				forms[j.form] = true
				t.Run(j.name, func(t *testing.T) {
					t.Parallel()
					w.try(t, j)
				})
			}
			if got := slices.Sorted(maps.Keys(forms)); !slices.Equal(got, system.forms) {
				t.Errorf("forms %q, want %q", got, system.forms)
			}
		})
	}
}

// try runs a job on the good and on the bad target, and looks at what it leaves.
func (w *world) try(t *testing.T, j job) {
	for _, tc := range []struct {
		name   string
		target map[string]string
		code   int
	}{{"good", w.Good, 0}, {"bad", w.Bad, 1}} {
		o, dir := w.run(t, j, tc.target)
		if o.code != tc.code {
			t.Errorf("on a %s target: exit code %d, want %d\n%s", tc.name, o.code, tc.code, o.log)
		}
		for _, name := range []string{"KUBECONFIG_CONTENT", "REEVE_TOKEN"} {
			if secret := w.Vars[name]; strings.Contains(o.log, secret) || holds(t, dir, secret) {
				t.Errorf("on a %s target: %s is printed, or left in a file\n%s", tc.name, name, o.log)
			}
		}
		results := filepath.Join(dir, "work", "reeve-results")
		if _, err := os.Stat(results); err != nil && j.form != "container" || t.Failed() {
			t.Fatalf("on a %s target: %v", tc.name, err)
		} else if err != nil {
			return // a container that leaves nothing but its exit code
		}
		if tc.code == 0 && !w.Spotless {
			continue
		}
		// Gates that tolerate nothing.
		for _, gate := range []string{
			`jq -e '.failure_count == 0' summary.json`,
			`jq -e '.failure_count == 0' results.json`,
			`! jq -e '.profiles[0].controls[] | select(.status == "failed")' results.json`,
		} {
			cmd := exec.CommandContext(t.Context(), "bash", "-c", gate)
			cmd.Dir = results
			if err := cmd.Run(); (err == nil) != (tc.code == 0) {
				t.Errorf("on a %s target: %s: %v", tc.name, gate, err)
			}
		}
		if text, err := os.ReadFile(filepath.Join(results, "junit.xml")); err != nil || bytes.Contains(text, []byte("<failure")) != (tc.code != 0) {
			t.Errorf("on a %s target: junit.xml: %v\n%s", tc.name, err, text)
		}
	}
}

// holds reports whether a file below dir has the text.
func holds(t *testing.T, dir, text string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		body, err := os.ReadFile(path)
		found = found || bytes.Contains(body, []byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestScripts_sayWhatIsWrong: what can't be done is neither a pass nor a missed
// threshold, and says why.
func TestScripts_sayWhatIsWrong(t *testing.T) {
	w := newWorld(t)
	for name, tc := range map[string]struct {
		script string
		env    map[string]string
		code   int
		says   string
	}{
		"no target":              {"ci/reeve-scan.sh", map[string]string{"TARGET": ""}, 2, "TARGET_NAMESPACE"},
		"no such target":         {"ci/reeve-scan.sh", map[string]string{"TARGET": "dir:/no/such/folder"}, 2, "/no/such/folder"},
		"no such profile":        {"ci/reeve-scan.sh", map[string]string{"PROFILE_PATH": "nope"}, 2, "nope"},
		"no image":               {"ci/reeve-container.sh", map[string]string{"REEVE_IMAGE": "registry.example/other:1"}, 125, "no image"},
		"no token":               {"ci/reeve-hub.sh", map[string]string{"REEVE_TOKEN": "reeve_nonesuch"}, 2, "401"},
		"no such profile, hub":   {"ci/reeve-hub.sh", map[string]string{"PROFILE_PATH": "nope"}, 2, "scan.profile"},
		"no such threshold, hub": {"ci/reeve-hub.sh", map[string]string{"THRESHOLD": "nope"}, 2, "scan.threshold"},
		"a scan in error":        {"ci/reeve-hub.sh", map[string]string{"TARGET": "dir:/no/such/folder"}, 2, "/no/such/folder"},
		"no hub":                 {"ci/reeve-hub.sh", map[string]string{"REEVE_HUB": ""}, 2, "REEVE_HUB"},
	} {
		t.Run(name, func(t *testing.T) {
			if os.Getenv("REEVE_TEST_PIPELINES") != "" && strings.Contains(tc.says, "/no/such") {
				t.Skip("the agent scans no folders there")
			}
			target := maps.Clone(w.Good)
			maps.Copy(target, tc.env)
			if tc.env["TARGET"] == "" && tc.says == "TARGET_NAMESPACE" {
				target["TARGET_NAMESPACE"] = ""
			}
			form := map[string]string{"ci/reeve-scan.sh": "direct"}[tc.script]
			o, _ := w.run(t, job{name: name, form: form, env: w.Vars, steps: []step{{shell: sh, script: "sh " + tc.script}}}, target)
			if o.code != tc.code || !strings.Contains(o.log, tc.says) {
				t.Errorf("exit code %d, want %d and %q\n%s", o.code, tc.code, tc.says, o.log)
			}
		})
	}
}

// Systems keep variables, not files: the CA may be its text. What is printed says
// which controls failed, and where the scan is.
func TestScripts_tell(t *testing.T) {
	w := newWorld(t)
	vars := maps.Clone(w.Vars)
	ca, err := os.ReadFile(vars["REEVE_CA"])
	if err != nil {
		t.Fatal(err)
	}
	vars["REEVE_CA"] = string(ca)
	o, dir := w.run(t, job{form: "hub", env: vars, steps: []step{{shell: sh, script: "sh ci/reeve-hub.sh"}}}, w.Bad)
	if o.code != 1 {
		t.Fatalf("exit code %d, want 1\n%s", o.code, o.log)
	}
	for _, want := range []string{"\nfailed accounts-01: Only root has the user id 0\n", "\n" + vars["REEVE_HUB"] + "/scans/"} {
		if !strings.Contains(o.log, want) {
			t.Errorf("want %q in\n%s", want, o.log)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("%v is left: %v", left, err)
	}
}

// A step that a system repeats has the scan that there is already.
func TestScripts_repeat(t *testing.T) {
	w := newWorld(t)
	ids := map[string]bool{}
	for range 2 {
		j := job{form: "hub", env: w.Vars, steps: []step{{shell: sh, script: "BUILD_KEY=b7 sh ci/reeve-hub.sh"}}}
		o, dir := w.run(t, j, w.Good)
		if o.code != 0 {
			t.Fatal(o.log)
		}
		text, err := os.ReadFile(filepath.Join(dir, "work", "reeve-results", "scan.json"))
		var scan struct{ ID string }
		if err := errors.Join(err, json.Unmarshal(text, &scan)); err != nil {
			t.Fatal(err)
		}
		ids[scan.ID] = true
	}
	if len(ids) != 1 {
		t.Errorf("scans %v", ids)
	}
}
