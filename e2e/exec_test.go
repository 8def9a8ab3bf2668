package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// maxTrips is how often a profile may go to a pod and back.
const maxTrips = 12

// TestExec prints, with -full, what public profiles cost by exec into a pod
// and through a shell in the same container, and has both come to the same
// verdicts. The profiles, the verdicts' folder and the target are those of
// `make parity`, found by the same variables.
func TestExec(t *testing.T) {
	if !*full {
		t.Skip("measured with -full")
	}
	golden := golden{dir: os.Getenv("PARITY_GOLDEN"), profiles: os.Getenv("PARITY_PROFILES"), root: filepath.Join(os.Getenv("PARITY_TARGETS"), "container")}
	if golden.dir == "" {
		golden.dir = "../../shared/golden"
	}
	if os.Getenv("PARITY_TARGETS") == "" {
		golden.root = filepath.Join(os.TempDir(), "reeve-parity", "container")
	}
	for what, path := range map[string]string{"PARITY_GOLDEN: verdicts": golden.dir, "PARITY_PROFILES: profiles": golden.profiles, "PARITY_TARGETS: target": golden.root} {
		if _, err := os.Stat(path); err != nil {
			t.Skipf("the %s aren't there: run `make parity` first: %v", what, err)
		}
	}
	w := newWorld(t)
	if err := w.k.Import(golden.archive(t)); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct{ system, verdicts string }{
		{"ubuntu-22.04", "mitre.canonical-ubuntu-22.04-lts-stig-baseline@ubuntu-22.04.container"},
		{"debian-12", "dev-sec.cis-dil-benchmark.container"},
		{"rhel-9.5", "mitre.redhat-enterprise-linux-9-stig-baseline@rhel-9.5.container"},
	} {
		t.Run(c.system, func(t *testing.T) {
			pod, asleep := fmt.Sprintf("golden-%d", i), strconv.Itoa(1_000_000_000+os.Getpid()*10+i)
			w.apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: shop}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: os, image: "reeve.test/golden:%s", imagePullPolicy: Never, command: [sleep, "%s"], securityContext: {privileged: true}} # as nsenter is
`, pod, c.system, asleep))
			if _, err := w.k.Kubectl(w.ctx, "", "wait", "-n", "shop", "--for=condition=Ready", "pod/"+pod, "--timeout=60s"); err != nil {
				t.Fatal(err)
			}
			shell := fmt.Sprintf("shell:nsenter --target %d --mount --uts --ipc --net --pid --cgroup --root --wd /usr/bin/env -i %s HOME=/root /bin/sh", sleeper(t, asleep), goldenPath)
			profile := golden.profile(t, c.verdicts)
			var by, through cost
			for range 7 { // in turn, and the shortest: the machine has other things to do
				by = w.cost(t, by, profile, "k8s-container://shop/"+pod+"/os", "--method", "exec", "--kubeconfig", w.k.Kubeconfig)
				through = w.cost(t, through, profile, shell)
			}
			t.Logf("%d controls: by exec %v in %d trips, through a shell %v in %d: ratio %.2f, the bar is 1.2",
				len(by.verdicts), by.wall, by.trips, through.wall, through.trips, by.wall.Seconds()/through.wall.Seconds())
			if by.trips > maxTrips {
				t.Errorf("%d round trips, want at most %d", by.trips, maxTrips)
			}
			if diff := cmp.Diff(through.verdicts, by.verdicts); diff != "" {
				t.Errorf("verdicts by exec (+) aren't those through a shell (-):\n%s", diff)
			}
		})
	}
}

// cost is what a scan took: the shortest time and the most trips of several.
type cost struct {
	wall     time.Duration
	trips    int
	verdicts map[string]string // status by control
}

var statsLine = regexp.MustCompile(`round trips (\d+), wall ([^,]+),`)

func (w *world) cost(t *testing.T, so cost, profile, target string, args ...string) cost {
	t.Helper()
	results := filepath.Join(w.dir, "results.json")
	r := w.reeve(append([]string{"scan", target, "--profile", profile, "--stats", "--reporter", "json:" + results}, args...)...)
	m := statsLine.FindStringSubmatch(r.stderr)
	if r.code != 100 || m == nil {
		t.Fatalf("scan of %s: exit code %d\n%s", target, r.code, r.stderr)
	}
	trips, _ := strconv.Atoi(m[1])
	wall, err := time.ParseDuration(m[2])
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(results)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Profiles []struct {
			Controls []struct{ ID, Status string }
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	so.trips = max(so.trips, trips)
	if so.wall == 0 || wall < so.wall {
		so.wall = wall
	}
	so.verdicts = map[string]string{}
	for _, p := range doc.Profiles {
		for _, c := range p.Controls {
			so.verdicts[c.ID] = c.Status
		}
	}
	return so
}

// sleeper is the process that sleeps for so many seconds.
func sleeper(t *testing.T, seconds string) int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if line, _ := os.ReadFile(f); string(line) == "sleep\x00"+seconds+"\x00" {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("no process sleeps for %s seconds", seconds)
	return 0
}

// golden is where the verdicts of InSpec are, its profiles and its target.
type golden struct{ dir, profiles, root string }

const goldenPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func (g golden) profile(t *testing.T, verdicts string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, verdicts+".json"))
	if err != nil {
		t.Skip(err)
	}
	var of struct{ Source, Path, Ref string }
	if err := json.Unmarshal(text, &of); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(g.profiles, of.Source+"@"+of.Ref[:12], of.Path)
	if _, err := os.Stat(filepath.Join(dir, "inspec.yml")); err != nil {
		t.Skip(err)
	}
	return dir
}

// archive makes one archive of three images: the target as it is, and with the
// files laid over it by which it poses as another system.
func (g golden) archive(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	base := filepath.Join(dir, "base.tar")
	run(t, exec.Command("tar", "-C", g.root, "--exclude=./proc/*", "--exclude=./sys/*", "--exclude=./dev/*", "-cf", base, "."))
	type manifest struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var all []manifest
	files := []string{"base.tar"}
	for _, system := range []string{"debian-12", "ubuntu-22.04", "rhel-9.5"} {
		layers := []string{"base.tar"}
		if system != "debian-12" {
			layers = append(layers, system+".tar")
			files = append(files, system+".tar")
			g.layer(t, system, filepath.Join(dir, system+".tar"))
		}
		var diffs []string
		for _, l := range layers {
			diffs = append(diffs, "sha256:"+fileSum(t, filepath.Join(dir, l)))
		}
		config, err := json.Marshal(map[string]any{
			"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Env": []string{goldenPath}},
			"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
		})
		if err != nil {
			t.Fatal(err)
		}
		name := system + ".json"
		if err := os.WriteFile(filepath.Join(dir, name), config, 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
		all = append(all, manifest{Config: name, RepoTags: []string{"reeve.test/golden:" + system}, Layers: layers})
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "golden.tar")
	run(t, exec.Command("tar", append([]string{"-C", dir, "-cf", out, "manifest.json"}, files...)...))
	return out
}

// layer writes the files of a system, with a whiteout for each that it lacks.
func (g golden) layer(t *testing.T, system, to string) {
	t.Helper()
	from := filepath.Join(g.dir, "os", system)
	var buf bytes.Buffer
	out := tar.NewWriter(&buf)
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(from, path)
		if err != nil || d.IsDir() || name == ".absent" {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h := &tar.Header{Name: name, Mode: int64(info.Mode().Perm()), Typeflag: tar.TypeReg}
		if d.Type()&fs.ModeSymlink != 0 {
			h.Typeflag = tar.TypeSymlink
			if h.Linkname, err = os.Readlink(path); err != nil {
				return err
			}
			return out.WriteHeader(h)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		h.Size = int64(len(text))
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		_, err = out.Write(text)
		return err
	})
	absent, missing := os.ReadFile(filepath.Join(from, ".absent"))
	if missing != nil && !errors.Is(missing, fs.ErrNotExist) {
		t.Fatal(missing)
	}
	for _, name := range strings.Fields(string(absent)) {
		dir, base := filepath.Split(name)
		err = errors.Join(err, out.WriteHeader(&tar.Header{Name: dir + ".wh." + base, Mode: 0o644, Typeflag: tar.TypeReg}))
	}
	if err := errors.Join(err, out.Close(), os.WriteFile(to, buf.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

func fileSum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
