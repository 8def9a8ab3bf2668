package target_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/inspec/target"
)

// eachShell runs f on a stream of every shell that is installed.
func eachShell(t *testing.T, f func(t *testing.T, s target.Target)) {
	for _, shell := range []string{"dash", "bash --posix", "bash", "busybox sh"} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(strings.Fields(shell)[0]); err != nil {
				t.Skipf("%s is not installed; apt-get install it", shell)
			}
			f(t, open(t, "shell:exec "+shell))
		})
	}
	t.Run("gathered", func(t *testing.T) {
		f(t, stream(t, []string{"/bin/sh", "-c", target.Gathering}, target.ShellConfig{URI: "shell:gathered", Gathered: true}))
	})
}

func open(t *testing.T, uri string) target.Target {
	t.Helper()
	s, err := target.Open(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestShell_Run(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	tests := []struct {
		name, cmd      string
		stdout, stderr string
		status         int
	}{
		{"nothing", ":", "", "", 0},
		{"both streams and a status", "echo out; echo err >&2; exit 3", "out\n", "err\n", 3},
		{"no newline", "printf 'a b'", "a b", "", 0},
		{"newlines only", `printf '\n\n\n'`, "\n\n\n", "", 0},
		{"binary", `printf '\000\001\377\n\000'`, "\x00\x01\xff\n\x00", "", 0},
		{"quotes", `printf %s 'it'"'"'s "so" '`, `it's "so" `, "", 0},
		{"dollars and backticks", "x=5; printf %s \"$x`printf y`$(printf z)\"", "5yz", "", 0},
		{"several lines", "printf 1\nprintf 2\n\n", "12", "", 0},
		{"here document", "cat <<'E'\na $b `c`\nE\n", "a $b `c`\n", "", 0},
		{"its own name", "echo $0", "/bin/sh\n", "", 0},
		{"empty input", "cat; read x || printf none", "none", "", 0},
		{"exit", "exit 7", "", "", 7},
		{"kills its shell", "kill -9 $$", "", "", 137},
		{"descriptor 3", "{ printf x >&3; } 2>/dev/null || printf closed", "closed", "", 2},
		{"megabytes on stderr", "head -c 1048576 /dev/zero | tr '\\0' x >&2", "", big, 0},
		{"megabytes on stdout", "head -c 1048576 /dev/zero | tr '\\0' x", big, "", 0},
		{"no new line at the end of a comment", "echo a # comment", "a\n", "", 0},
		{"looks like a frame", "printf '\\n00000000000000000000000000000000 0 0\\n'", "\n00000000000000000000000000000000 0 0\n", "", 0},
	}
	eachShell(t, func(t *testing.T, s target.Target) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				got, err := s.Run(t.Context(), tt.cmd)
				if err != nil {
					t.Fatal(err)
				}
				if tt.name == "descriptor 3" {
					tt.status = got.ExitStatus // differs between shells; that it is closed is the point
				}
				want := target.CommandResult{Stdout: []byte(tt.stdout), Stderr: []byte(tt.stderr), ExitStatus: tt.status}
				opt := cmp.Transformer("text", func(b []byte) string { return string(b) })
				if d := cmp.Diff(want, got, opt); d != "" {
					t.Errorf("(-want +got)\n%.2000s", d)
				}
			})
		}
	})
}

func TestShell_RunIsTheSameAsAProcess(t *testing.T) {
	local, shell := open(t, "local:"), open(t, "shell:/bin/sh")
	for _, cmd := range []string{"nope-not-here", "kill -9 $$", "syntax error (", "ls /nowhere", "exit 300", "sh -c 'kill -11 $$'"} {
		want, err := local.Run(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		got, err := shell.Run(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmp.Transformer("text", func(b []byte) string { return string(b) })); d != "" {
			t.Errorf("%s: (-process +shell)\n%s", cmd, d)
		}
	}
}

func TestShell_ManyAtOnce(t *testing.T) {
	eachShell(t, func(t *testing.T, s target.Target) {
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				want := strings.Repeat("y", i)
				got, err := s.Run(context.Background(), "printf %s "+target.Quote(want))
				if err != nil || string(got.Stdout) != want {
					t.Errorf("command %d: %q, %v", i, got.Stdout, err)
				}
			})
		}
		wg.Wait()
	})
}

// TestShell_TooLong ends a command, with all that it started, and shows that
// those beside and after it are answered.
func TestShell_TooLong(t *testing.T) {
	for _, shell := range []string{"dash", "bash", "busybox sh", "gathered"} {
		t.Run(shell, func(t *testing.T) {
			words, gathered := strings.Fields(shell), shell == "gathered"
			if gathered {
				words = []string{"/bin/sh", "-c", target.Gathering}
			}
			if _, err := exec.LookPath(words[0]); err != nil {
				t.Skipf("%s is not installed; apt-get install it", shell)
			}
			s := stream(t, words, target.ShellConfig{URI: "shell:" + shell, Timeout: 300 * time.Millisecond, Gathered: gathered})
			var wg sync.WaitGroup
			for i, cmd := range []string{"echo before", "echo $$; (sleep 1000; echo x) | cat", "echo after"} {
				wg.Go(func() {
					got, err := s.Run(context.Background(), cmd)
					var late *target.TimeoutError
					if i == 1 && !errors.As(err, &late) {
						t.Errorf("%s: got %v, want a TimeoutError", cmd, err)
					}
					if i != 1 && (err != nil || !strings.HasPrefix("echo "+string(got.Stdout), cmd)) {
						t.Errorf("%s: %q, %v", cmd, got.Stdout, err)
					}
				})
			}
			wg.Wait()
			ps, err := s.Run(t.Context(), "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(ps.Stdout), "sleep 1000 ") {
				t.Error("the command that was ended left a process behind")
			}
		})
	}
}

// TestShell_GatheredMeanwhile shows that what is done is answered while another
// command of the same batch goes on, and that what is filled in to have it come
// is no part of any output.
func TestShell_GatheredMeanwhile(t *testing.T) {
	for _, shell := range []string{"dash", "bash", "busybox sh"} {
		t.Run(shell, func(t *testing.T) {
			words := strings.Fields(shell)
			if _, err := exec.LookPath(words[0]); err != nil {
				t.Skipf("%s is not installed; apt-get install it", shell)
			}
			gathering := strings.ReplaceAll(target.Gathering, "/bin/sh", shell)
			s := stream(t, append(words, "-c", gathering), target.ShellConfig{URI: "shell:" + shell, Gathered: true})
			fifo := filepath.Join(t.TempDir(), "go")
			if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			session := target.NewSession(t.Context(), s, 1)
			ahead, _ := session.Ahead()
			session.Hold()
			// The last one goes on writing until the first one's answer is here.
			slow := "while :; do printf 0123456789; printf abcdefghij >&2; [ -p " + fifo + " ] || break; done"
			for _, cmd := range []string{"echo one", slow} {
				ahead.Run(t.Context(), cmd)
			}
			session.Release()
			if got, err := session.Target().Run(t.Context(), "echo one"); err != nil || string(got.Stdout) != "one\n" {
				t.Errorf("%q, %v", got.Stdout, err)
			}
			if err := os.Remove(fifo); err != nil {
				t.Fatal(err)
			}
			got, err := session.Target().Run(t.Context(), slow)
			out, rest := strings.ReplaceAll(string(got.Stdout), "0123456789", ""), strings.ReplaceAll(string(got.Stderr), "abcdefghij", "")
			if err != nil || out != "" || rest != "" || len(got.Stdout) != len(got.Stderr) {
				t.Errorf("%d and %d bytes, %.80q, %.80q, %v", len(got.Stdout), len(got.Stderr), out, rest, err)
			}
		})
	}
}

func TestShell_Cancelled(t *testing.T) {
	s := open(t, "shell:/bin/sh")
	ctx, cancel := context.WithCancel(t.Context())
	fifo := filepath.Join(t.TempDir(), "started")
	if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	go func() {
		os.ReadFile(fifo)
		cancel()
	}()
	if _, err := s.Run(ctx, "echo >"+fifo+"; sleep 1000"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if got, err := s.Run(t.Context(), "echo on"); err != nil || string(got.Stdout) != "on\n" {
		t.Errorf("the next command: %.80q, %v", got.Stdout, err)
	}
}

// TestShell_CloseEndsTheCommand shows it for a shell that doesn't die with the
// command that leads to it, such as one in a container.
func TestShell_CloseEndsTheCommand(t *testing.T) {
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("setsid is not installed; apt-get install util-linux")
	}
	s := open(t, "shell:setsid -w /bin/sh")
	fifo := filepath.Join(t.TempDir(), "started")
	if out, err := exec.Command("mkfifo", fifo).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	failed := make(chan error)
	go func() {
		_, err := s.Run(context.Background(), "echo $$ >"+fifo+"; sleep 1000; true")
		failed <- err
	}()
	pid, err := os.ReadFile(fifo)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, target.ErrClosed) {
		t.Errorf("the command: got %v, want ErrClosed", err)
	}
	stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
	if err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("the command goes on after Close: %s", stat)
	}
}

func TestShell_EndlessOutput(t *testing.T) {
	s := open(t, "shell:/bin/sh")
	_, err := s.Run(t.Context(), "cat /dev/zero")
	var over *target.OutputError
	if !errors.As(err, &over) {
		t.Errorf("got %v, want an OutputError", err)
	}
	if got, err := s.Run(t.Context(), "echo on"); err != nil || string(got.Stdout) != "on\n" {
		t.Errorf("the next command: %.80q, %v", got.Stdout, err)
	}
}

// TestShell_KillsItsParent ends the batch's own shell, which costs the command
// its time limit but nothing else.
func TestShell_KillsItsParent(t *testing.T) {
	s := stream(t, []string{"dash"}, target.ShellConfig{URI: "shell:dash", Timeout: 300 * time.Millisecond})
	if got, err := s.Run(t.Context(), "kill -9 $PPID; sleep 0.1"); err == nil {
		t.Errorf("got %+v, want an error", got)
	}
	if got, err := s.Run(t.Context(), "echo on"); err != nil || string(got.Stdout) != "on\n" {
		t.Errorf("the next command: %.80q, %v", got.Stdout, err)
	}
}

func TestShell_StreamEnds(t *testing.T) {
	cmd := exec.Command("/bin/sh")
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	stderr, _ := cmd.StderrPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s, err := target.NewShell(t.Context(), stdin, stdout, stderr, target.ShellConfig{URI: "shell:x"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cmd.Process.Kill()
	var lost *target.LostError
	if _, err := s.Run(t.Context(), "sleep 1000 & echo on; wait"); !errors.As(err, &lost) {
		t.Errorf("got %v, want a LostError", err)
	}
}

func stream(t *testing.T, words []string, cfg target.ShellConfig) target.Target {
	t.Helper()
	cmd := exec.Command(words[0], words[1:]...)
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	stderr, _ := cmd.StderrPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cfg.Close = func() error { cmd.Process.Kill(); cmd.Wait(); return nil }
	s, err := target.NewShell(t.Context(), stdin, stdout, stderr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestFiles asks the same of every maker: a directory that is read directly
// and the same directory seen by a shell.
func TestFiles(t *testing.T) {
	root := filepath.Join(t.TempDir(), "one", "two") // ../.. is ours too
	write := func(name, text string, mode fs.FileMode) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("etc/it's a file", "text\n", 0o640)
	write("etc/binary", "a\x00\xff", 0o644)
	write("etc/empty", "", 0o600)
	write("bin/su", "x", 0o755|fs.ModeSetuid)
	for link, to := range map[string]string{"abs": "etc/empty", "dangling": "nothing", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	type answer struct {
		Info    target.FileInfo
		Link    target.FileInfo
		Content string
		Err     string
		Names   []string
		Text    string
	}
	ask := func(s target.Target, prefix, name string) answer {
		var a answer
		var err error
		path := prefix + "/" + name
		a.Info, err = s.Stat(t.Context(), path, true)
		a.Err = kind(err)
		a.Link, _ = s.Stat(t.Context(), path, false)
		data, _ := s.ReadFile(t.Context(), path, 1000)
		a.Content = string(data)
		a.Names, _ = s.ReadDir(t.Context(), path)
		a.Text, _ = s.Readlink(t.Context(), path)
		a.Info.ModTime, a.Link.ModTime = a.Info.ModTime.Truncate(time.Second), a.Link.ModTime.Truncate(time.Second)
		return a
	}
	shells := map[string]string{"shell": "shell:/bin/sh"}
	if busybox, err := exec.LookPath("busybox"); err == nil {
		// Only busybox's own stat, readlink and head are in the path.
		applets := t.TempDir()
		if out, err := exec.Command(busybox, "--install", "-s", applets).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		shells["busybox"] = "shell:PATH=" + applets + " exec busybox sh"
	}
	local := open(t, "local:")
	for _, name := range []string{"etc/it's a file", "etc/binary", "etc/empty", "bin/su", "etc", "abs", "dangling", "loop", "nothing", "etc/empty/x", "", "../.."} {
		want := ask(local, root, name)
		for shell, uri := range shells {
			t.Run(shell+"/"+name, func(t *testing.T) {
				if d := cmp.Diff(want, ask(open(t, uri), root, name)); d != "" {
					t.Errorf("(-local +shell)\n%s", d)
				}
			})
		}
	}
	got := ask(local, root, "etc/it's a file")
	if got.Content != "text\n" || got.Info.Mode != 0o640 || got.Info.Type != target.File || got.Info.Size != 5 {
		t.Errorf("got %+v", got)
	}
	if got := ask(local, root, "bin/su"); got.Info.Mode != 0o4755 {
		t.Errorf("setuid: mode %o", got.Info.Mode)
	}
	if got := ask(local, root, "dangling"); got.Err != "missing" || got.Link.Type != target.Symlink || got.Text != "nothing" {
		t.Errorf("dangling: %+v", got)
	}
}

func kind(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, fs.ErrNotExist):
		return "missing"
	case errors.Is(err, fs.ErrPermission):
		return "forbidden"
	}
	return err.Error()
}

func TestFiles_Forbidden(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to become somebody who may not read")
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("setpriv is not installed; apt-get install util-linux")
	}
	root := t.TempDir()
	for _, dir := range []string{root, filepath.Dir(root)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(root, "secret")
	if err := os.Mkdir(secret, 0o700); err != nil {
		t.Fatal(err)
	}
	s := open(t, "shell:exec setpriv --reuid 65534 --clear-groups /bin/sh")
	if _, err := s.Stat(t.Context(), secret+"/below/x", true); kind(err) != "forbidden" {
		t.Errorf("below a closed directory: got %v, want fs.ErrPermission", err)
	}
	if _, err := s.Stat(t.Context(), root+"/below/x", true); kind(err) != "missing" {
		t.Errorf("below no directory: got %v, want fs.ErrNotExist", err)
	}
}

// TestDir_StaysInside lays links that lead out of the directory by every way.
func TestDir_StaysInside(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("outside"), 0o644); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/inside"), []byte("inside"), 0o644); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{
		"up": "../../../../../../../../" + outside, "abs": outside, "in": "/etc", "etc/in": "/in/../in/inside", "file": filepath.Join(outside, "secret"),
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	d := open(t, "dir:"+root)
	for _, name := range []string{"/up/secret", "/abs/secret", "/file", "/in/../../.." + outside + "/secret"} {
		if data, err := d.ReadFile(t.Context(), name, 100); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %q, %v, want fs.ErrNotExist", name, data, err)
		}
	}
	for _, name := range []string{"/in/inside", "/etc/in", "/../etc/./inside", "//in//inside"} {
		if data, err := d.ReadFile(t.Context(), name, 100); string(data) != "inside" {
			t.Errorf("%s: got %q, %v, want the file inside", name, data, err)
		}
	}
	if _, err := d.Run(t.Context(), "true"); !errors.Is(err, target.ErrNoCommands) {
		t.Errorf("run: got %v, want ErrNoCommands", err)
	}
}

func TestDir_PipeDoesNotBlock(t *testing.T) {
	root := t.TempDir()
	if out, err := exec.Command("mkfifo", filepath.Join(root, "p")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := open(t, "dir:"+root).ReadFile(t.Context(), "/p", 10); err == nil {
		t.Error("a pipe was read as a file")
	}
}

func TestOpen_Bad(t *testing.T) {
	tests := []struct{ uri, want string }{
		{"nonsense", "has no scheme"},
		{"ssh://host", `unknown kind "ssh"`},
		{"local:/x", "write dir:/x"},
		{"dir:", "the directory is missing"},
		{"dir:/nowhere", "no such file or directory"},
		{"dir:/etc/passwd", "not a directory"},
		{"chroot:/nowhere", "no such file or directory"},
		{"chroot:" + t.TempDir(), "use dir:"},
		{"shell:", "the command is missing"},
		{"shell:echo no such container >&2; exit 1", "ended before it gave a shell"},
		{"shell:echo no such container >&2; exit 1", "no such container"},
		{"shell:true", "ended before it gave a shell"},
		{"shell:cat", "writes back what it is sent"},
	}
	for _, tt := range tests {
		s, err := target.Open(t.Context(), tt.uri)
		if err == nil {
			s.Close()
			t.Errorf("%s: no error", tt.uri)
		} else if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %q, want %q in it", tt.uri, err, tt.want)
		}
	}
}

func TestPlatform(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  target.Platform
	}{
		{
			"debian",
			map[string]string{"debian_version": "12.5\n"},
			target.Platform{Name: "debian", Title: "Debian Linux", Family: "debian", Families: []string{"debian", "linux", "unix", "os"}, Release: "12.5"},
		},
		{
			"ubuntu",
			map[string]string{"debian_version": "bookworm/sid\n", "lsb-release": "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=22.04\n"},
			target.Platform{Name: "ubuntu", Title: "Ubuntu Linux", Family: "debian", Families: []string{"debian", "linux", "unix", "os"}, Release: "22.04"},
		},
		{
			"red hat",
			map[string]string{"redhat-release": "Red Hat Enterprise Linux release 9.5 (Plow)\n", "os-release": "NAME=\"Red Hat Enterprise Linux\"\n"},
			target.Platform{Name: "redhat", Title: "Red Hat Linux", Family: "redhat", Families: []string{"redhat", "linux", "unix", "os"}, Release: "9.5"},
		},
		{
			"rocky",
			map[string]string{"redhat-release": "Rocky Linux release 9.3 (Blue Onyx)\n"},
			target.Platform{Name: "rocky", Title: "Red Hat Linux", Family: "redhat", Families: []string{"redhat", "linux", "unix", "os"}, Release: "9.3"},
		},
		{
			"fedora",
			map[string]string{"os-release": "NAME=\"Fedora Linux\"\nVERSION_ID=41\n", "redhat-release": "Fedora release 41"},
			target.Platform{Name: "fedora", Title: "Fedora", Family: "fedora", Families: []string{"fedora", "linux", "unix", "os"}, Release: "41"},
		},
		{
			"amazon",
			map[string]string{"system-release": "Amazon Linux release 2023.6.20241212 (Amazon Linux)\n"},
			target.Platform{Name: "amazon", Title: "Amazon Linux", Family: "redhat", Families: []string{"redhat", "linux", "unix", "os"}, Release: "2023.6.20241212"},
		},
		{
			"alpine",
			map[string]string{"alpine-release": "3.20.3\n", "os-release": "NAME=\"Alpine Linux\"\nID=alpine\n"},
			target.Platform{Name: "alpine", Title: "Alpine Linux", Family: "linux", Families: []string{"linux", "unix", "os"}, Release: "3.20.3"},
		},
		{
			"opensuse",
			map[string]string{"os-release": "NAME=\"openSUSE Leap\"\nID_LIKE=\"suse opensuse\"\nVERSION=\"15.6\"\n"},
			target.Platform{Name: "opensuse", Title: "OpenSUSE Linux", Family: "suse", Families: []string{"suse", "linux", "unix", "os"}, Release: "15.6"},
		},
		{
			"wolfi",
			map[string]string{"os-release": "ID=wolfi\nNAME=\"Wolfi\"\nVERSION_ID=\"20230201\"\n"},
			target.Platform{Name: "wolfi", Title: "Wolfi Linux", Family: "chainguard", Families: []string{"chainguard", "linux", "unix", "os"}, Release: "20230201"},
		},
		{
			"nothing known", nil,
			target.Platform{Name: "linux", Title: "Generic Linux", Family: "linux", Families: []string{"linux", "unix", "os"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
				t.Fatal(err)
			}
			for name, text := range tt.files {
				if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := open(t, "dir:"+root).Platform(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func TestPlatform_SameByEveryWay(t *testing.T) {
	want, err := open(t, "local:").Platform(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := open(t, "shell:/bin/sh").Platform(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-local +shell)\n%s", d)
	}
	if want.Arch == "" || want.Name == "" {
		t.Errorf("got %+v", want)
	}
}

func TestChroot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, for chroot")
	}
	busybox, err := os.ReadFile("/usr/bin/busybox")
	if err != nil {
		t.Skip("busybox is not installed; apt-get install busybox-static")
	}
	root := t.TempDir()
	os.MkdirAll(filepath.Join(root, "bin"), 0o755)
	if err := os.WriteFile(filepath.Join(root, "bin/sh"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := target.Open(t.Context(), "chroot:"+root)
	if err != nil {
		t.Skipf("busybox needs libraries here; apt-get install busybox-static: %v", err)
	}
	defer c.Close()
	got, err := c.Run(t.Context(), "echo /*; exit 4")
	if err != nil || !bytes.Equal(got.Stdout, []byte("/bin\n")) || got.ExitStatus != 4 {
		t.Errorf("got %q, status %d, %v", got.Stdout, got.ExitStatus, err)
	}
}
