package docs

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// root is the checkout.
const root = "../.."

func TestMain(m *testing.M) {
	// In a session's network this program is what leads to the API of a cluster.
	if to := os.Getenv("REEVE_DOCS_RELAY"); to != "" {
		l, err := net.Listen("tcp", os.Getenv("REEVE_DOCS_LISTEN"))
		if err == nil {
			err = relay(l, "unix", to)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if own != "" {
		os.RemoveAll(own)
	}
	os.Exit(code)
}

// documents are those that this package looks after.
func documents(t *testing.T) []*Document {
	t.Helper()
	paths := []string{"README.md", "CONTRIBUTING.md"}
	for _, dir := range []string{"docs", "examples", "profiles"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, e fs.DirEntry, err error) error {
			if err == nil && filepath.Ext(path) == ".md" {
				path, err = filepath.Rel(root, path)
				paths = append(paths, filepath.ToSlash(path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	all := make([]*Document, len(paths))
	for i, p := range paths {
		d, err := Read(root, p)
		if err != nil {
			t.Fatal(err)
		}
		all[i] = d
	}
	return all
}

// made reports whether the code makes the document; its examples are those of
// commands, which have a test of their own.
func (d *Document) made() bool { return strings.HasPrefix(d.Path, "docs/reference/") }

var built = flag.String("bin", "", "a `folder` with reeve, reeve-agent and whoami, to run these and not what is built of the checkout")

// own is the folder that build has made.
var own string

// build makes the programs of the checkout once.
var build = sync.OnceValues(func() (string, error) {
	if *built != "" {
		return filepath.Abs(*built)
	}
	dir, err := os.MkdirTemp("", "reeve-docs-")
	if err != nil {
		return "", err
	}
	own = dir
	cmd := exec.Command("go", "build", "-o", dir, "./cmd/reeve", "./cmd/reeve-agent", "./examples/local-deploy/whoami", "./examples/migrate/allstar/standin", "./examples/migrate/allstar/sink")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("build reeve: %w\n%s", err, out)
	}
	return dir, nil
})

func TestCommands(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("documents' commands run in namespaces of their own, on a copy of the file system: needs root")
	}
	for _, d := range documents(t) {
		if d.made() || !slices.ContainsFunc(d.Blocks, func(b Block) bool { return b.Language == "sh" }) {
			continue
		}
		t.Run(d.Path, func(t *testing.T) {
			t.Parallel()
			kubeconfig := ""
			if slices.ContainsFunc(d.Blocks, func(b Block) bool { return b.Language == "sh" && b.Is("cluster") }) {
				if kubeconfig = os.Getenv("REEVE_TEST_KUBECONFIG"); kubeconfig == "" {
					t.Skip("needs a Kubernetes that may be written to: set REEVE_TEST_KUBECONFIG to its kubeconfig (cd e2e && go run ./cmd/cluster starts one; make test-docs does)")
				}
			}
			bin, err := build()
			if err != nil {
				t.Fatal(err)
			}
			for _, problem := range newSession(t, d, bin, kubeconfig).run() {
				t.Error(problem)
			}
		})
	}
}

// A session tells of everything in a document that isn't so.
func TestSession(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("documents' commands run in namespaces of their own, on a copy of the file system: needs root")
	}
	for name, tc := range map[string]struct{ text, want string }{
		"good":                                {"```sh\nx=1\n```\n\n```sh\necho $x a  b; touch /etc/written /new\n```\n\n```console\n1 a …\n```\n", ""},
		"a command fails":                     {"```sh\ntrue\nfalse | cat\ntrue\n```\n", `x.md:3: ended with exit code 1:`},
		"in a function":                       {"```sh\nf() {\n  false\n  true\n}\nf\n```\n", `x.md:\d: ended with exit code 1:`},
		"with an unset variable":              {"```sh\ntrue $TOKEN\n```\n", `x.md:2: the session ended here`},
		"a hidden command fails":              {"# x\n\n<!-- sh\nexit 3\n-->\n", `x.md:4: the session ended here`},
		"with another code than said":         {"```sh exit=100\nfalse\n```\n", `x.md:2: ended with exit code 1`},
		"with the code that is said":          {"```sh exit=100,101\n(exit 101)\ntrue\n```\n", ""},
		"none with the code that is said":     {"```sh exit=100\ntrue\n```\n", `x.md:2: none of its commands ended with 100`},
		"with a code that may be":             {"```sh exit=0,100\ntrue\n```\n", ""},
		"says something else":                 {"```sh\necho good\n```\n\n```text output\nbad\n```\n", `x.md:6: the commands don't say, or not here: bad`},
		"says it in another order":            {"```sh\necho a; echo b\n```\n\n```console\nb\na\n```\n", `x.md:6: .* not here: a`},
		"a server's port is waited for":       {"```sh server\nsleep 0.2; exec whoami\n```\n\n```sh\ncurl -sf http://localhost:8300/\n```\n", ""},
		"a server never opens a port":         {"```sh server\nfalse\n```\n", `x.md:2: isn't ready, or ended`},
		"a server ends before the document":   {"```sh server until=\"true\"\nread -r < /tmp/go\n```\n\n```sh\necho go > /tmp/go; wait -n || true\n```\n", `x.md:2: isn't ready, or ended`},
		"a condition is waited for":           {"```sh server until=\"test -e /tmp/ready\"\ntouch /tmp/ready; exec whoami\n```\n\n```sh\ntest -e /tmp/ready\n```\n", ""},
		"a file is there":                     {"```yaml plain file=a/b.yaml\nk: v\n```\n\n```sh\ngrep k a/b.yaml\n```\n", ""},
		"the network is its own":              {"```sh\ncurl -sf https://reeve.example.com/ && exit 1 || [ $? = 7 ]\n```\n", ""},
		"a foreign program knows its options": {"```sh\nskopeo kopy a b\n```\n", `x.md:2: ended with exit code 64`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := Parse([]byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			d.Path = "x.md"
			bin, err := build()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(tc.text, "/tmp/go") {
				d.Blocks = append([]Block{{Language: "sh", Text: "mkfifo /tmp/go\n"}}, d.Blocks...)
			}
			got := strings.Join(newSession(t, d, bin, "").run(), "\n")
			if tc.want == "" && got != "" || !regexp.MustCompile(tc.want).MatchString(got) {
				t.Errorf("%s\nwant %q", got, tc.want)
			}
			for _, path := range []string{"/etc/written", "/new"} {
				if _, err := os.Stat(path); err == nil {
					t.Errorf("%s is on this machine now", path)
				}
			}
		})
	}
}

// session runs a document's blocks.
type session struct {
	t      *testing.T
	d      *Document
	dir    string // that it shares with what runs
	bin    string
	relays []string
}

func newSession(t *testing.T, d *Document, bin, kubeconfig string) *session {
	// Sockets have short names, so it isn't below t.TempDir.
	dir, err := os.MkdirTemp("", "reeve-docs-session-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &session{t: t, d: d, dir: dir, bin: bin}
	if err := os.Mkdir(filepath.Join(dir, "clients"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("binds", "")
	if kubeconfig != "" {
		s.cluster(kubeconfig)
	}
	s.write("hosts", "127.0.0.1 localhost "+strings.Join(hosts(d), " ")+"\n::1 localhost\n")
	return s
}

// cluster leads the session to the API of a cluster.
func (s *session) cluster(kubeconfig string) {
	s.t.Helper()
	config, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		s.t.Fatal(err)
	}
	server, err := url.Parse(config.Clusters[config.Contexts[config.CurrentContext].Cluster].Server)
	if err != nil {
		s.t.Fatal(err)
	}
	socket := filepath.Join(s.dir, "api.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { l.Close() })
	go relay(l, "tcp", server.Host)
	if err := clientcmdapi.FlattenConfig(config); err != nil {
		s.t.Fatal(err)
	}
	if err := clientcmd.WriteToFile(*config, filepath.Join(s.dir, "kubeconfig")); err != nil {
		s.t.Fatal(err)
	}
	// What the session's own file system hides is bound to where it sees it.
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	binds := self + " relay\n"
	clients, err := filepath.Glob(filepath.Join(filepath.Dir(kubeconfig), "bin", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range clients {
		real, err := filepath.EvalSymlinks(c)
		if err != nil {
			s.t.Fatal(err)
		}
		binds += real + " clients/" + filepath.Base(c) + "\n"
	}
	s.write("binds", binds)
	s.relays = []string{
		fmt.Sprintf("REEVE_DOCS_RELAY=%s REEVE_DOCS_LISTEN=%s %s/relay &", socket, server.Host, s.dir),
		"__await 1 || { echo 'the relay to the cluster did not start' >&2; exit 1; }",
		fmt.Sprintf("mkdir -p ~/.kube && cp %s/kubeconfig ~/.kube/config && export KUBECONFIG=$HOME/.kube/config", s.dir),
	}
}

// relay leads each connection to an address, until l is closed.
func relay(l net.Listener, network, address string) error {
	for {
		from, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer from.Close()
			to, err := net.Dial(network, address)
			if err != nil {
				return
			}
			defer to.Close()
			go func() {
				io.Copy(to, from)
				to.(interface{ CloseWrite() error }).CloseWrite()
			}()
			io.Copy(from, to)
		}()
	}
}

var (
	host     = regexp.MustCompile(`\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.example(?:\.com|\.org)?\b`)
	captured = regexp.MustCompile(`^[0-9]+ [0-9]+ [0-9]+$`)
)

// hosts are those that the document's commands and files call hosts by.
func hosts(d *Document) (all []string) {
	for _, b := range d.Blocks {
		all = append(all, host.FindAllString(b.Text, -1)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (s *session) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// sandbox makes a session's surroundings and runs its script in them. $1 is
// the folder that is shared, $2 the checkout, $3 the programs, $4 where in the
// checkout it works.
const sandbox = `set -eu
ip link set lo up
mkdir -p $1/cow
mount -t tmpfs tmpfs $1/cow
mkdir $1/cow/upper $1/cow/work $1/cow/upper2 $1/cow/work2 $1/cow/root
r=$1/cow/root
mount -t overlay overlay -o lowerdir=/,upperdir=$1/cow/upper,workdir=$1/cow/work $r
mkdir -p $r/reeve
mount -t overlay overlay -o lowerdir=$2,upperdir=$1/cow/upper2,workdir=$1/cow/work2 $r/reeve
mount --rbind /dev $r/dev
mount --rbind /sys $r/sys
mount -t proc proc $r/proc
mount -t tmpfs tmpfs $r/root
mount -t tmpfs tmpfs $r/tmp
for d in /etc/reeve /var/lib/reeve-hub /var/lib/reeve-agent; do rm -rf $r$d; done
mkdir -p $r$1 $r$3
mount --bind $1 $r$1
mount --bind $3 $r$3
while read -r from to; do touch $1/$to; mount --bind $from $r$1/$to; done <$1/binds
mount --bind $1/hosts $r/etc/hosts
cd $r
exec chroot $r env -i HOME=/root USER=root LANG=C.UTF-8 TERM=dumb PATH=/reeve/internal/docs/testdata/bin:$3:$1/clients:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin bash -c 'cd /reeve/"$1" && exec bash "$2"' - "$4" $1/script
`

// prelude is what a session's script begins with. A command that fails, where
// it counts, writes what is told of it to failed and ends the session.
const prelude = `set -Eeuo pipefail
__failed() {
  local code=$1 line=$2
  case " $__ok " in *" $code "*) __hit=1; return 0;; esac
  [ -e "$__dir/failed" ] || echo "$__block $line $code" >"$__dir/failed"
  exit "$code"
}
__ports() { cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == "0A"' | wc -l; }
__await() { # until there are $1 ports, and no process $2 has ended
  for ((i = 0; i < 1200; i++)); do
    [ "$(__ports)" -lt "$1" ] || return 0
    [ $# -lt 2 ] || kill -0 "$2" 2>/dev/null || return 1
    sleep 0.05
  done
  return 1
}
__until() { # $1 succeeds, while process $2 is there
  for ((i = 0; i < 1200; i++)); do
    ! (set +eE; trap - ERR; eval "$1") >"$__dir/until.out" 2>&1 || return 0
    kill -0 "$2" 2>/dev/null || return 1
    sleep 0.05
  done
  return 1
}
__dir=%[1]s __ok=0 __hit= __block=0
trap '__failed $? $LINENO' ERR
`

// script is what bash runs: each block from a file of its own, so that line
// numbers are those in the block.
func (s *session) script() string {
	var b strings.Builder
	fmt.Fprintf(&b, prelude, s.dir)
	for _, line := range s.relays {
		b.WriteString(line + "\n")
	}
	var servers []int
	for i, block := range s.d.Blocks {
		file := fmt.Sprintf("%s/%d", s.dir, i)
		if path, ok := block.Value("file"); ok {
			s.write(fmt.Sprint(i), block.Text)
			fmt.Fprintf(&b, "mkdir -p \"$(dirname %[1]s)\" && cp %[2]s %[1]s\n", path, file)
			continue
		}
		if block.Language != "sh" {
			continue
		}
		s.write(fmt.Sprint(i), block.Text)
		fmt.Fprintf(&b, "__block=%d; echo %[1]d >$__dir/at\n", i)
		switch codes, ok := block.Value("exit"); {
		case block.Is("server"):
			until, ok := block.Value("until")
			wait := fmt.Sprintf("__await $((__before + 1)) $__pid%d", i)
			if ok {
				wait = fmt.Sprintf("__until %s $__pid%d", quote(until), i)
			}
			fmt.Fprintf(&b, "__before=$(__ports)\n( . %[2]s ) >%[2]s.out 2>&1 &\n__pid%[1]d=$!\n%[3]s || { echo \"$__block 0 0\" >$__dir/failed; exit 1; }\n", i, file, wait)
			servers = append(servers, i)
		case ok:
			any := ""
			if slices.Contains(strings.Split(codes, ","), "0") {
				any = "1"
			}
			fmt.Fprintf(&b, "__ok=%s __hit="+any+"; set +e\n. %s >%[2]s.out 2>&1\n__ok=0; set -e\n", quote(strings.ReplaceAll(codes, ",", " ")), file)
			fmt.Fprintf(&b, "[ -n \"$__hit\" ] || { echo \"$__block 0 0\" >$__dir/failed; exit 1; }\n")
		default:
			fmt.Fprintf(&b, ". %s >%[1]s.out 2>&1\n", file)
		}
	}
	for _, i := range servers {
		fmt.Fprintf(&b, "kill -0 $__pid%[1]d || { echo \"%[1]d 0 0\" >$__dir/failed; exit 1; }\n", i)
	}
	b.WriteString("echo done >$__dir/done\nexit 0\n")
	return b.String()
}

// isOutput reports whether it is what the block before has to say.
func (b Block) isOutput() bool {
	return b.Language == "console" || b.Language == "text" && b.Is("output")
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// run tells what went wrong, by the document's lines.
func (s *session) run() (problems []string) {
	s.write("script", s.script())
	checkout, err := filepath.Abs(root)
	if err != nil {
		s.t.Fatal(err)
	}
	folder := "."
	if strings.HasPrefix(s.d.Path, "examples/") {
		folder = path.Dir(s.d.Path)
	}
	ctx, cancel := context.WithTimeoutCause(s.t.Context(), 2*time.Minute, errors.New("a session ends after two minutes"))
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
		"bash", "-c", sandbox, "-", s.dir, checkout, s.bin, folder)
	out, err := cmd.CombinedOutput()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return s.judge(string(out), err)
}

func (s *session) judge(out string, err error) (problems []string) {
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if text, readErr := os.ReadFile(filepath.Join(s.dir, "failed")); readErr == nil && captured.MatchString(strings.TrimSpace(string(text))) {
		at := strings.Fields(string(text))
		i, _ := strconv.Atoi(at[0])
		line, _ := strconv.Atoi(at[1])
		block := s.d.Blocks[i]
		what := "ended with exit code " + at[2]
		switch codes, ok := block.Value("exit"); {
		case block.Is("server"):
			what = "isn't ready, or ended before the document does"
		case line == 0 && ok:
			what = "none of its commands ended with " + codes
		}
		wrong("%s:%d: %s:\n%s\n%s%s", s.d.Path, block.Line+max(line, 1)-1, what, indent(block.Text), s.output(i), s.servers(i))
	} else if _, statErr := os.Stat(filepath.Join(s.dir, "done")); statErr != nil {
		text, _ := os.ReadFile(filepath.Join(s.dir, "at"))
		i, convErr := strconv.Atoi(strings.TrimSpace(string(text)))
		if convErr != nil {
			wrong("%s: the session didn't begin: %v\n%s", s.d.Path, err, out)
			return problems
		}
		block := s.d.Blocks[i]
		wrong("%s:%d: the session ended here: %v\n%s\n%s%s%s", s.d.Path, block.Line, err, indent(block.Text), s.output(i), out, s.servers(i))
	}
	for i, block := range s.d.Blocks {
		if !block.isOutput() || i == 0 || s.d.Blocks[i-1].Language != "sh" { // TestFiles has told
			continue
		}
		if missing := lacks(s.output(i-1), block.Text); missing != "" {
			wrong("%s:%d: the commands don't say, or not here: %s\n%s", s.d.Path, block.Line, missing, s.output(i-1))
		}
	}
	return problems
}

func (s *session) output(i int) string {
	out, _ := os.ReadFile(filepath.Join(s.dir, fmt.Sprintf("%d.out", i)))
	if len(out) > 20_000 {
		out = append(out[:10_000], out[len(out)-10_000:]...)
	}
	return string(out)
}

// servers is what those said that were left running.
func (s *session) servers(but int) string {
	var b strings.Builder
	for i, block := range s.d.Blocks {
		if i != but && block.Is("server") {
			fmt.Fprintf(&b, "-- %s", indent(block.Text)+"\n"+s.output(i))
		}
	}
	return b.String()
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n    ")
}

// lacks is the first line of want that got doesn't have behind the ones
// before it.
func lacks(got, want string) string {
	for line := range strings.Lines(want) {
		line = strings.TrimSpace(line)
		if line == "" || line == "…" {
			continue
		}
		parts := strings.Split(line, "…")
		for i, p := range parts {
			parts[i] = strings.ReplaceAll(regexp.QuoteMeta(strings.Join(strings.Fields(p), " ")), " ", `\s+`)
		}
		at := regexp.MustCompile(strings.Join(parts, `.*`)).FindStringIndex(got)
		if at == nil {
			return line
		}
		got = got[at[1]:]
	}
	return ""
}
