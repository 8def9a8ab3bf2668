package target

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A world is a target whose /bin/sh and tools are of one make.
type world struct {
	sh, tools string
}

var worlds = []world{
	{"dash", "own"},
	{"bash", "own"},
	{"busybox", "busybox"},
	{"dash", "toybox"},
}

// wild are names that a tool, a shell or a division could trip over.
var wild = []string{"a", "b.so", "c d", "it's", "*", "-n", "e\nf", "ä", "\xff", "100%s", "x,y", "a:b", "{}", "$HOME", "`x`", "\\", "0 sub"}

// lay makes files to look at, and programs that ask no system, in dir.
func (w world) lay(t testing.TB, dir string) {
	t.Helper()
	write := func(name, text string, mode os.FileMode) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range wild {
		write("tree/"+name, "", []os.FileMode{0o600, 0o644, 0o755}[i%3])
		write("tree/sub/deep/"+name, "", 0o640)
	}
	for link, to := range map[string]string{"tree/dangling": "nowhere", "tree/loop": "loop", "link": "tree", "tree/sub/up": ".."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range contents {
		write("text/"+name, text, 0o644)
	}
	write("places", dir+"/tree\n"+dir+"/nowhere\n"+dir+"/text\n", 0o644)
	for name, script := range stubs {
		write("bin/"+name, "#!/bin/sh\n"+script+"\n", 0o755)
	}
	if w.tools == "own" {
		return
	}
	// The applets alone are in the path.
	program, err := exec.LookPath(w.tools)
	if err != nil {
		t.Skipf("%s is not installed; apt-get install it", w.tools)
	}
	list := []string{w.tools}
	if w.tools == "busybox" {
		list = append(list, "--list")
	}
	out, err := exec.Command(list[0], list[1:]...).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, applet := range strings.Fields(string(out)) {
		if err := os.Symlink(program, filepath.Join(dir, "bin", applet)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
}

var contents = map[string]string{
	"lines":   "one\ntwo\nthree one\n\n^x\na.b\na+b\nONE\n tab\there \n",
	"no-end":  "one\ntwo",
	"empty":   "",
	"newline": "\n\n",
	"nul":     "one\x00two\none\n",
	"latin":   "one\xe9\ntwo\n",
	"utf8":    "öne\ntwo\n",
	"crlf":    "one\r\ntwo\r\n",
}

// uri of the world whose files are in dir.
func (w world) uri(t testing.TB, dir string) string {
	t.Helper()
	path := dir + "/bin"
	if w.tools == "own" {
		path += ":" + os.Getenv("PATH")
	}
	if w.sh == "dash" && w.tools == "own" {
		return "shell:PATH=" + Quote(path) + " exec /bin/sh"
	}
	sh, err := exec.LookPath(w.sh)
	if err != nil {
		t.Skipf("%s is not installed; apt-get install it", w.sh)
	}
	if exec.Command("unshare", "-m", "true").Run() != nil {
		t.Skip("needs root and unshare (apt-get install util-linux), to put another shell at /bin/sh")
	}
	mounts := "mount --bind " + sh + " $(readlink -f /bin/sh)"
	if w.tools != "own" {
		mounts += "; mount --bind " + sh + " $(readlink -f /sbin/sysctl)"
		if w.tools != w.sh {
			mounts = "mount --bind $(readlink -f $(command -v " + w.tools + ")) $(readlink -f /sbin/sysctl)"
		}
	}
	return "shell:exec unshare -m sh -c " + Quote(mounts+"; PATH="+Quote(path)+" exec /bin/sh")
}

// generate makes commands that could be merged, and some that must not be.
func generate(r *rand.Rand, dir string) []string {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	names := []string{"root", "daemon", "bin", "reeve-nobody", "no", "user", "a", "id", "0", "-u", "a b", "it's", "*", "", "root\n"}
	packages := []string{"sudo", "nope", "twice", "open", "short", "warns", "killed", "rpm", "not", "a+b", "-v", "a b", "'*'", "''"}
	keys := []string{
		"kernel.ostype", "kernel.osrelease", "kernel.nope", "vm.nope", "net.ipv4.ip_local_port_range", "kernel/ostype", "fs.binfmt_misc", "fs.nope.file-max",
		"kernel.pid_max", "net.ipv4.conf.lo.forwarding", "'kernel.ostype'", "--no", "kernel.o*", "vm.swappiness", "fs.inotify", "fs.inotify.max_user_watches", "net.core.rmem_max",
	}
	words := func(like []string) string { return Quote(like[r.IntN(len(like))]) }
	var tests func(depth int) string
	tests = func(depth int) string {
		s := pick("", "", "! ", "-not ") + pick("-type f", "-type d", "-type l", "-type x", "-perm -0100", "-perm /022", "-perm 644", "-perm 09", "-user root", "-user reeve-nobody", "-group root", "-uid 0", "-gid +5",
			"-name "+words(append(wild, "*.so", "?", "[ab]*", "a/b")), `-iname "A"`, "-name a")
		if depth > 0 && r.IntN(3) == 0 {
			s = pick(`\( `, `\( `, `! \( `) + tests(depth-1) + pick(` \)`, ` \)`, ` \)`, "")
		}
		if depth > 0 && r.IntN(2) == 0 {
			s += pick(" ", " -o ", " -a ", " -or ", " , ") + tests(depth-1)
		}
		return s
	}
	t := dir + "/tree"
	places := pick(t, t+"/sub", dir+"/link", dir+"/link/", t+" "+t+"/sub", dir+"/nowhere "+t, t+" "+dir+"/nowhere", dir+"/nowhere", t+"/a "+t+"/dangling")
	mode := pick("", " -L", " -P", " -H")
	find := func(where string) string {
		return "find" + where + " " + tests(2) + pick("", " -print", " -exec ls -d {} \\;", " -maxdepth 1", " -prune -o -print") + pick("", "", " 2>/dev/null", " 2> /dev/null ")
	}
	where := mode + " " + places + pick("", " -xdev")
	pipe := pick("cat %s", "cat %s "+dir+"/nowhere", "cat %s "+dir+"/nowhere 2>/dev/null", "cat %s | sort", "grep -v two %s", "ls "+t, "ls -1 "+t+" | head -4", "lsmod", "lsmod 2>/dev/null", "dmesg", "mount-nope", "awk '{ print $1 }' %s", "LC_ALL=C cat %s", "echo one", "sort -o /dev/null")
	files := []string{}
	for name := range contents {
		files = append(files, name)
	}
	slices.Sort(files)
	if strings.Contains(pipe, "%s") {
		pipe = fmt.Sprintf(pipe, dir+"/text/"+files[r.IntN(len(files))])
	}
	family := r.IntN(8)
	var out []string
	for range 2 + r.IntN(7) {
		f := family
		if r.IntN(8) == 0 {
			f = r.IntN(8)
		}
		switch f {
		case 0:
			out = append(out, "rpm -qi "+packages[r.IntN(len(packages))])
		case 1:
			out = append(out, "id "+words(names))
		case 2:
			out = append(out, "getent passwd "+words(names))
		case 3:
			out = append(out, "systemctl show --no-pager --all "+pick("ssh", "cron", "dbus", "dbus-org", "bad", "warns", "silent", "a b", "'*'", "x@y.service"))
		case 4:
			out = append(out, "/sbin/sysctl -q -n "+keys[r.IntN(len(keys))])
		case 5:
			out = append(out, find(where))
		case 6:
			out = append(out, "cat "+dir+"/places | xargs -I "+pick("{}", "'{}'")+" "+find(" "+pick("{}", "'{}'", "'{}'")+pick("", " -xdev")))
		default:
			out = append(out, pipe+" | grep"+pick("", " -F", " -i", " -v", " -E", " -iv", " -c", " -F -i")+" "+
				pick("one", "'one'", `"two"`, "'^one'", "'e$'", "'^$'", "''", "'.'", "'a.b'", "a+b", "'a*'", "'^x'", "ONE", "'-n'", "'three one'", "'ö'", "'$HOME'", `"$HOME"`, "'one' x"))
		}
	}
	return out
}

// companies are the two ways to ask of one world: each command alone, and
// several together.
type companies struct {
	dir   string
	alone Target
	many  Target
}

func openWorld(t testing.TB, w world) *companies {
	t.Helper()
	dir := t.TempDir()
	w.lay(t, dir)
	c := &companies{dir: dir}
	for _, to := range []*Target{&c.alone, &c.many} {
		var err error
		if *to, err = Open(context.Background(), w.uri(t, dir)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*to).Close() })
	}
	return c
}

// compare asks commands both ways.
func (c *companies) compare(t *testing.T, commands []string) {
	t.Helper()
	s := NewSession(t.Context(), c.many, 2)
	ahead, _ := s.Ahead()
	s.Hold()
	for _, cmd := range commands {
		ahead.Run(t.Context(), cmd)
	}
	s.Release()
	for _, cmd := range commands {
		got, err := s.Target().Run(t.Context(), cmd)
		if err != nil {
			t.Fatalf("%q: %v", cmd, err)
		}
		piped := strings.Contains(cmd, "|")
		if piped {
			// Programs of a pipe complain at the same time, some of them piece by piece.
			got.Stderr = slices.Sorted(slices.Values(got.Stderr))
		}
		var want CommandResult
		for range 20 {
			if want, err = c.alone.Run(t.Context(), cmd); err != nil {
				t.Fatalf("%q: %v", cmd, err)
			}
			if piped {
				want.Stderr = slices.Sorted(slices.Values(want.Stderr))
			}
			// One whose output isn't read may end before it has complained.
			if !piped || cmp.Equal(texts(want), texts(got)) {
				break
			}
		}
		if diff := cmp.Diff(texts(want), texts(got)); diff != "" {
			t.Errorf("%q\nof %q\nalone (-) and with others (+):\n%s", cmd, commands, diff)
		}
	}
}

// TestMerge_AsAlone asks for generated commands together and alone, where the
// shells and tools are of several makes.
func TestMerge_AsAlone(t *testing.T) {
	for _, w := range worlds {
		t.Run(w.sh+" with tools of "+w.tools, func(t *testing.T) {
			t.Parallel()
			c := openWorld(t, w)
			for seed := range uint64(40) {
				c.compare(t, generate(rand.New(rand.NewPCG(seed, 1)), c.dir))
			}
		})
	}
}

func FuzzMerge_AsAlone(f *testing.F) {
	f.Add(uint64(0))
	c := openWorld(f, worlds[0])
	f.Fuzz(func(t *testing.T, seed uint64) {
		c.compare(t, generate(rand.New(rand.NewPCG(seed, 2)), c.dir))
	})
}
