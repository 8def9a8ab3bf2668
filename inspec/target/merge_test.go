package target

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// stubs are programs that may not be on this machine, as far as these tests
// ask them.
var stubs = map[string]string{
	"rpm": `rc=0; for p; do case $p in -qi) ;; sudo) printf 'Name        : sudo\nVersion     : 1.9\n';;
		twice) printf 'Name        : twice\nVersion     : 1\nName        : twice\nVersion     : 2\n';;
		open) printf 'Name        : open\nno end';;
		killed) kill -9 $$;;
		hangs) sleep 1000;;
		short) echo 'short is all';;
		warns) printf 'Name        : warns\nVersion     : 1\n'; echo "warning: $p" >&2;;
		*) echo "package $p is not installed"; rc=$((rc+1));; esac; done; exit $rc`,
	"systemctl": `n=; for u; do case $u in show|-*) ;; bad) echo "Failed: $u" >&2; exit 4;; silent) ;;
		*) [ -z "$n" ] || echo; n=1; [ "$u" != warns ] || echo "warning: $u" >&2; [ "$u" != dbus-org ] || u=dbus
		printf 'Type=simple\nId=%s.service\nNames=%s.service dbus-org.service\nListen=a\nListen=b\n' "$u" "$u";; esac; done`,
	"lsmod": `echo one; echo two; echo 'a.b'; echo warned >&2; exit 3`,
	"dmesg": `printf 'one\0two\n'`,
}

// inPath makes programs of stubs, and of this machine's own find, id, getent
// that log their calls, and returns how often they ran.
func inPath(t *testing.T) (runs func() int) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	write := func(name, script string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho >>"+log+"\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, script := range stubs {
		write(name, script)
	}
	for _, name := range []string{"find", "id", "getent"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("this machine has no %s", name)
		}
		write(name, "exec "+path+` "$@"`)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() int {
		data, _ := os.ReadFile(log)
		os.Remove(log)
		return strings.Count(string(data), "\n")
	}
}

// TestMerge holds that commands answered together have the very answers that
// they have alone.
func TestMerge(t *testing.T) {
	runs := inPath(t)
	tree := t.TempDir()
	for _, name := range []string{"a", "b.so", "c d", "sub/e\nf", "sub/g.so"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(tree, "a"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		commands []string
		programs int // run for all of them
	}{
		{"packages", []string{"rpm -qi sudo", "rpm -qi nope", "rpm -qi twice", "rpm -qi nope2"}, 1},
		{"accounts", []string{"id 'root'", "id 'daemon'", "getent passwd 'root'", "getent passwd 'daemon'"}, 2},
		{"an account that isn't there", []string{"id 'root'", "id 'reeve-nobody'", "id 'daemon'"}, 2},
		{"an entry that isn't there", []string{"getent passwd 'root'", "getent passwd 'reeve-nobody'", "getent passwd 'daemon'"}, 2},
		{"units", []string{"systemctl show --no-pager --all ssh", "systemctl show --no-pager --all cron"}, 1},
		{"files", []string{
			"find -L " + tree + " -type f -perm -0002 -exec ls -d {} \\;",
			"find -L " + tree + " -type f ! -perm -0002 -print 2>/dev/null",
			"find -L " + tree + " -type d -o -name '*.so'",
			"find -L " + tree + " -type d -o -name '*.so' -print",
		}, 1},
		{"places that aren't there", []string{"find " + tree + " /reeve/nowhere -type f", "find " + tree + " /reeve/nowhere -type d 2>/dev/null"}, 1},
		{"a test that find refuses", []string{"find " + tree + " -user reeve-nobody", "find " + tree + " -type d"}, 3},
		{"filters", []string{"lsmod | grep one", "lsmod | grep -v one", "lsmod 2>/dev/null | grep one", "lsmod | grep -F a.b", "lsmod | grep '^t.o$'", "lsmod | grep -i TWO", "lsmod | grep none"}, 2},
		{"filters of what isn't text", []string{"dmesg | grep one", "dmesg | grep two"}, 3},
		{"filters of no program", []string{"reeve-nothing | grep one", "reeve-nothing | grep two"}, 0},
		{"settings", []string{"/sbin/sysctl -q -n kernel.ostype", "/sbin/sysctl -q -n reeve.nothing", "/sbin/sysctl -q -n kernel.pid_max"}, 0},
	} {
		for _, uri := range []string{"shell:/bin/sh", "local:"} {
			t.Run(tt.name+" "+uri, func(t *testing.T) {
				alone, err := Open(t.Context(), uri)
				if err != nil {
					t.Fatal(err)
				}
				defer alone.Close()
				var want []CommandResult
				for _, cmd := range tt.commands {
					r, err := alone.Run(t.Context(), cmd)
					if err != nil {
						t.Fatal(err)
					}
					want = append(want, r)
				}
				runs()

				many, err := Open(t.Context(), uri)
				if err != nil {
					t.Fatal(err)
				}
				defer many.Close()
				s := NewSession(t.Context(), many, 2)
				ahead, _ := s.Ahead()
				s.Hold()
				for _, cmd := range tt.commands {
					ahead.Run(t.Context(), cmd)
				}
				s.Release()
				var got []CommandResult
				for _, cmd := range tt.commands {
					r, err := s.Target().Run(t.Context(), cmd)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, r)
				}
				for i := range want {
					if diff := cmp.Diff(texts(want[i]), texts(got[i])); diff != "" {
						t.Errorf("%s: alone (-) and with others (+):\n%s", tt.commands[i], diff)
					}
				}
				if n := runs(); n != tt.programs {
					t.Errorf("%d programs were run, want %d", n, tt.programs)
				}
			})
		}
	}
}

func texts(r CommandResult) [3]any {
	return [3]any{string(r.Stdout), string(r.Stderr), r.ExitStatus}
}

func TestFamilyOf(t *testing.T) {
	for _, cmd := range []string{
		"rpm -qi 'a b'", "rpm -qi a b", "rpm -qi $(x)", "rpm -qi --root",
		"id root", "id '-u'", "getent passwd '0'",
		"systemctl show --no-pager --all --user", "systemctl show --no-pager --all a b",
		"find / -delete", "find / -type f -exec rm {} \\;", "find / -name *.so", "find / -maxdepth 1 -type f",
		"find / -type f; rm x", "find / -type f > /x", "find $HOME -type f", "find / -nouser", "find /",
		"a | grep -c x", "a | grep -E 'x|y'", "a | grep 'x*'", "a | grep -q x", "a || grep x", "a; b | grep x",
		"a && b | grep x", "a > f | grep x", "(a) | grep x", "a $(b) | grep x", "a | grep \"$x\"", "a | grep -e x", "a |& grep x",
		"useradd x | grep y", "cat a > f | grep x", "cat a 2>/dev/nullx | grep x", "sort -o f | grep x", "dmesg -c | grep x", "awk 'BEGIN{system(\"x\")}' | grep x",
		"cat a # | grep x", "time cat a | grep x", "if | grep x", "cat a || cat b | grep x", "cat a |& grep x", "cat | tee f | grep x", "rpm -q --eval x | grep x",
		`find / \( -type f`, `find / -type f \)`, `cat a | xargs -I{} find {} -type f -exec ls -d {} \;`, "cat a | xargs -I{} find {} -name '{}'", "rm a | xargs -I{} find {} -type f", "cat a | find / -type f",
		"a | grep x > f", "while a; do b; done | grep x", "a | grep 'é'", "! a | grep x", "| grep x", "a # | grep x",
	} {
		if f, _ := familyOf(cmd); f.maker != nil {
			t.Errorf("%q is taken for one of %s", cmd, f.maker.name)
		}
	}
}

// TestMerged_Contexts shows that what one caller gives up isn't another's.
func TestMerged_Contexts(t *testing.T) {
	other, cancel := context.WithCancel(t.Context())
	defer cancel()
	var calls []*call
	for i, name := range []string{"a", "b", "c", "d"} {
		c, _ := newCall(t.Context(), question{op: opRun, what: "rpm -qi " + name})
		if i%2 == 1 {
			c.ctx = other
		}
		calls = append(calls, c)
	}
	got := merged(calls, nil)
	if len(got) != 2 || !slices.Equal(got[0].parts, []*call{calls[0], calls[2]}) || got[1].ctx != other {
		t.Errorf("%d calls, the first of %d", len(got), len(got[0].parts))
	}
	more, _ := newCall(t.Context(), question{op: opRun, what: "rpm -qi e"})
	if got = merged(append(got, more), nil); len(got) != 2 || len(got[0].parts) != 3 {
		t.Errorf("one more was not put to the others")
	}
}

// TestMerge_Hang shows that of commands that were to be answered together the
// one that hangs is blamed, and the others are answered.
func TestMerge_Hang(t *testing.T) {
	inPath(t)
	streams, err := startCommand("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	many, err := NewShell(t.Context(), streams.Stdin, streams.Stdout, streams.Stderr, ShellConfig{
		URI: "shell:/bin/sh", Timeout: time.Second, Close: streams.Close,
		More: func(context.Context) (Streams, error) { return startCommand("/bin/sh") },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer many.Close()
	s := NewSession(t.Context(), many, 2)
	ahead, _ := s.Ahead()
	s.Hold()
	names := []string{"sudo", "hangs", "twice", "nope"}
	for _, name := range names {
		ahead.Run(t.Context(), "rpm -qi "+name)
	}
	s.Release()
	for _, name := range names {
		r, err := s.Target().Run(t.Context(), "rpm -qi "+name)
		var late *TimeoutError
		switch {
		case name == "hangs" && (!errors.As(err, &late) || late.Command != "rpm -qi hangs"):
			t.Errorf("%s: got %v, want a TimeoutError", name, err)
		case name != "hangs" && (err != nil || !strings.Contains(string(r.Stdout), name)):
			t.Errorf("%s: %q, %v", name, r.Stdout, err)
		}
	}
}

// TestPool_GivenUp shows that who gives up a command that waits with others is
// not kept.
func TestPool_GivenUp(t *testing.T) {
	busy := make(chan struct{})
	p := newPool(blocked{busy}, func(ctx context.Context) (lane, error) { <-ctx.Done(); return nil, ctx.Err() })
	p.setJobs(2)
	first, _ := newCall(t.Context(), question{op: opRun, what: "sleep"})
	p.add(first)
	ctx, cancel := context.WithCancel(t.Context())
	other, done := newCall(ctx, question{op: opRun, what: "rpm -qi a"})
	p.add(other)
	cancel()
	if c := p.ask(ctx, question{op: opRun, what: "rpm -qi b"}); !errors.Is(c.err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", c.err)
	}
	if <-done; !errors.Is(other.err, context.Canceled) {
		t.Errorf("the other one: got %v, want context.Canceled", other.err)
	}
	close(busy)
	p.close()
}

// blocked is a lane that does nothing until a channel is closed.
type blocked struct{ until chan struct{} }

func (b blocked) close() error { return nil }

func (b blocked) do(calls []*call) {
	<-b.until
	for _, c := range calls {
		c.answered(c)
	}
}

func FuzzSplit(f *testing.F) {
	f.Add("reeve-1\n", "", 0)
	f.Add("Name : a\nx\npackage reeve-1 is not installed\nreeve-1\n", "", 2)
	f.Add("uid=0(root)\nuid=1(a)\n", "", 0)
	f.Add("root:x:0\n", "warned\n", 2)
	f.Add("Id=a.service\n\nId=b.service\n", "", 0)
	f.Add("a = 1\nb = 2\n", "", 0)
	f.Add("0 /a\x001 /b\x00", "find: ‘/x’: No\n", 1)
	f.Fuzz(func(t *testing.T, stdout, stderr string, status int) {
		r := CommandResult{Stdout: []byte(stdout), Stderr: []byte(stderr), ExitStatus: status}
		for _, m := range makers {
			common, own := "", []string{"a", "b"}
			switch m.name {
			case "filter":
				own = []string{" grep a", " grep -v b"}
			case "find":
				common, own = "find /x", []string{" -type f\x00\x00", " -type d\x00\x002>/dev/null"}
			}
			if n := len(m.split(common, own, "reeve-1", r)); n != 0 && n != 2 {
				t.Errorf("%s: %d answers", m.name, n)
			}
		}
	})
}

// recorder is a lane that notes what it was given.
type recorder struct{ batches chan []string }

func (r recorder) close() error { return nil }

func (r recorder) do(calls []*call) {
	var batch []string
	for _, c := range calls {
		batch = append(batch, c.what)
		c.answered(c)
	}
	r.batches <- batch
}

// TestPool_Order shows in which order the only lane that is open gets what was
// asked at once: what others wait for, then what takes longest.
func TestPool_Order(t *testing.T) {
	r := recorder{make(chan []string, 10)}
	p := newPool(r, func(ctx context.Context) (lane, error) { <-ctx.Done(); return nil, ctx.Err() })
	p.setJobs(2)
	var calls []*call
	for _, cmd := range []string{"cat /a", "find /etc/b -name x", "find /etc -name x", "find / -name x", "for f in /a/*; do x $f; done"} {
		c, _ := newCall(t.Context(), question{op: opRun, what: cmd})
		calls = append(calls, c)
	}
	p.add(calls...)
	var got [][]string
	for range 3 {
		got = append(got, <-r.batches)
	}
	want := [][]string{{"cat /a", "find /etc/b -name x"}, {"for f in /a/*; do x $f; done"}, {"find / -name x", "find /etc -name x"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	p.close()
}
