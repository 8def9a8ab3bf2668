package target_test

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// counting is a target that counts what it is asked.
type counting struct {
	target.Target
	asked int
	err   error
}

func (c *counting) Run(ctx context.Context, cmd string) (target.CommandResult, error) {
	c.asked++
	return target.CommandResult{Stdout: []byte(cmd)}, c.err
}

func (c *counting) Stat(ctx context.Context, path string, follow bool) (target.FileInfo, error) {
	c.asked++
	return target.FileInfo{}, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
}

func TestCache_AsksOnce(t *testing.T) {
	c := &counting{}
	cached := target.Cache(c)
	if target.Cache(cached) != cached {
		t.Error("a cache was put on a cache")
	}
	for range 2 {
		if got, err := cached.Run(t.Context(), "a"); err != nil || string(got.Stdout) != "a" {
			t.Errorf("got %q, %v", got.Stdout, err)
		}
		if _, err := cached.Stat(t.Context(), "/x", true); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want fs.ErrNotExist", err)
		}
	}
	if c.asked != 2 {
		t.Errorf("asked %d times, want twice", c.asked)
	}
	cached.Stat(t.Context(), "/x", false)
	cached.Run(t.Context(), "b")
	if c.asked != 4 {
		t.Errorf("asked %d times, want four: another question has another answer", c.asked)
	}
}

func TestCache_ForgetsWhatWasCutShort(t *testing.T) {
	for _, err := range []error{context.Canceled, &target.TimeoutError{}, &target.OutputError{}, &target.LostError{}} {
		c := &counting{err: err}
		cached := target.Cache(c)
		cached.Run(t.Context(), "a")
		cached.Run(t.Context(), "a")
		if c.asked != 2 {
			t.Errorf("%T was kept", err)
		}
	}
}

func TestSession_Ahead(t *testing.T) {
	for _, uri := range []string{"local:", "shell:/bin/sh"} {
		t.Run(uri, func(t *testing.T) {
			s := target.NewSession(t.Context(), open(t, uri), 3)
			ahead, ok := s.Ahead()
			if !ok {
				t.Fatal("nothing can be asked ahead")
			}
			log := filepath.Join(t.TempDir(), "log")
			cmd := func(i int) string { return fmt.Sprintf("echo %d | tee -a %s; echo oops >&2; exit %[1]d", i, log) }
			s.Hold()
			for i := range 9 {
				for range 2 {
					if _, err := ahead.Run(t.Context(), cmd(i)); !errors.Is(err, target.ErrPending) {
						t.Fatalf("ahead: %v, want ErrPending", err)
					}
				}
			}
			if _, err := os.Stat(log); err == nil {
				t.Error("something was run that should have been collected")
			}
			if !s.Release() {
				t.Error("nothing is on its way")
			}
			for i := range 9 {
				got, err := s.Target().Run(t.Context(), cmd(i))
				want := target.CommandResult{Stdout: fmt.Appendln(nil, i), Stderr: []byte("oops\n"), ExitStatus: i}
				if diff := cmp.Diff(want, got); diff != "" || err != nil {
					t.Errorf("command %d: %v (-want +got):\n%s", i, err, diff)
				}
				if again, err := ahead.Run(t.Context(), cmd(i)); err != nil || !cmp.Equal(got, again) {
					t.Errorf("ahead, now that the answer is there: %v, %v", again, err)
				}
			}
			text, err := os.ReadFile(log)
			if n := strings.Count(string(text), "\n"); n != 9 || err != nil {
				t.Errorf("%d commands were run, want 9: %v", n, err)
			}
			if got := s.Stats().Commands; got != 9 {
				t.Errorf("stats count %d commands, want 9", got)
			}
		})
	}
}

func TestSession_Guess(t *testing.T) {
	s := target.NewSession(t.Context(), open(t, "shell:/bin/sh"), 2)
	ahead, _ := s.Ahead()
	dir := t.TempDir()
	touch := "touch " + dir + "/touched"
	read := "cat /dev/null | wc -l"
	s.Hold()
	stretch := s.Begin(target.GuessLooks)
	if _, err := ahead.Stat(t.Context(), dir, true); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("guessed %v, want fs.ErrNotExist", err)
	}
	for _, cmd := range []string{touch, read} {
		if got, err := ahead.Run(t.Context(), cmd); got.ExitStatus != 1 || err != nil {
			t.Errorf("guessed %+v, %v, want a command that failed", got, err)
		}
	}
	if stretch.News() {
		t.Error("there is an answer before anything was sent")
	}
	if !stretch.End() {
		t.Error("the stretch doesn't know that it guessed")
	}
	if _, err := ahead.Run(t.Context(), "echo outside"); !errors.Is(err, target.ErrPending) {
		t.Errorf("outside a stretch: %v, want ErrPending", err)
	}
	s.Release()
	if _, err := s.Target().Stat(t.Context(), dir, true); err != nil {
		t.Error(err)
	}
	if _, err := s.Target().Run(t.Context(), read); err != nil {
		t.Error(err)
	}
	if !stretch.News() {
		t.Error("answers are no news")
	}
	if out, err := s.Target().Run(t.Context(), "ls "+dir); err != nil || len(out.Stdout) > 0 {
		t.Errorf("a guess led to a command that writes: %s, %v", out.Stdout, err)
	}
	if got := s.Stats().Commands; got != 3 { // the one that looks, echo, ls
		t.Errorf("%d commands, want 3", got)
	}
}

// TestSession_Next goes on by what is answered while what takes long is under
// way, and sends together what follows from it.
func TestSession_Next(t *testing.T) {
	dir := t.TempDir()
	s := target.NewSession(t.Context(), open(t, "shell:/bin/sh"), 3)
	ahead, _ := s.Ahead()
	ask := func(cmd string) bool {
		_, err := ahead.Run(t.Context(), cmd)
		if err != nil && !errors.Is(err, target.ErrPending) {
			t.Fatal(err)
		}
		return err == nil
	}
	s.Hold()
	slow := "for i in 1; do while ! test -e " + dir + "/go; do sleep 0.01; done; done"
	ask(slow)
	for i := range 5 {
		ask(fmt.Sprintf("echo %d", i))
	}
	select {
	case <-s.Begun():
		t.Error("something was sent that should have been collected")
	default:
	}
	s.Next(t.Context())
	<-s.Begun()
	for i := range 5 {
		if !ask(fmt.Sprintf("echo %d", i)) {
			t.Errorf("echo %d has no answer", i)
		}
	}
	if ask(slow) {
		t.Error("the slow command has an answer")
	}
	before := s.Stats().RoundTrips
	for i := range 5 {
		ask(fmt.Sprintf("echo again %d", i))
	}
	if got := s.Stats().RoundTrips; got != before {
		t.Errorf("%d round trips where %d were made: a question wasn't collected", got, before)
	}
	s.Next(t.Context())
	if !ask("echo again 4") {
		t.Error("echo again has no answer")
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.Next(t.Context())
	if !ask(slow) {
		t.Error("the slow command has no answer")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Next(ctx) // nothing is to come
	s.Release()
	for i := range 2 { // the first answer comes when nobody waits in Next any more
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := s.Target().Run(ctx, fmt.Sprintf("echo at last %d", i)); err != nil {
			t.Errorf("after Next was given up: %v", err)
		}
	}
}

func TestSession_GivenUp(t *testing.T) {
	s := target.NewSession(t.Context(), open(t, "shell:/bin/sh"), 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Target().Run(ctx, "echo x"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the context ended", err)
	}
	if got, err := s.Target().Run(t.Context(), "echo x"); err != nil || string(got.Stdout) != "x\n" {
		t.Errorf("asked again: %q, %v", got.Stdout, err)
	}
}

// TestPool_Kinds has commands that would notice when they run side by side
// with those that they mustn't.
func TestPool_Kinds(t *testing.T) {
	for _, uri := range []string{"local:", "shell:/bin/sh"} {
		t.Run(uri, func(t *testing.T) {
			dir := t.TempDir()
			tgt := open(t, uri)
			target.NewSession(t.Context(), tgt, 4)
			var wg sync.WaitGroup
			run := func(cmd string) {
				wg.Go(func() {
					out, err := tgt.Run(t.Context(), cmd)
					if err != nil || len(out.Stdout) > 0 {
						t.Errorf("%s\nsaw another command: %s, %v", cmd, out.Stdout, err)
					}
				})
			}
			for i := range 12 {
				run(fmt.Sprintf("cd %s; touch busy.%d; ls / >/dev/null; rm busy.%[2]d", dir, i))
				if i%3 == 0 {
					run(fmt.Sprintf("cd %s; ls | grep busy # as ps -e would %d", dir, i))
					run(fmt.Sprintf("cd %s; mkdir lock 2>/dev/null || echo taken; ls / >/dev/null; rmdir lock # as iptables -S would %d", dir, i))
				}
			}
			wg.Wait()
		})
	}
}

// cut is a stream to a shell that ends when it is written to once more.
type cut struct {
	io.WriteCloser
	writes int
}

func (c *cut) Write(p []byte) (int, error) {
	if c.writes++; c.writes > 1 {
		c.Close()
		return len(p), nil
	}
	return c.WriteCloser.Write(p)
}

func TestShell_MoreThatIsLost(t *testing.T) {
	for name, fails := range map[string]bool{"can't be opened": true, "ends": false} {
		t.Run(name, func(t *testing.T) {
			tgt := stream(t, []string{"/bin/sh"}, target.ShellConfig{URI: "shell:test", More: func(context.Context) (target.Streams, error) {
				if fails {
					return target.Streams{}, errors.New("no more")
				}
				cmd := exec.Command("/bin/sh")
				stdin, _ := cmd.StdinPipe()
				stdout, _ := cmd.StdoutPipe()
				stderr, _ := cmd.StderrPipe()
				return target.Streams{Stdin: &cut{WriteCloser: stdin}, Stdout: stdout, Stderr: stderr, Close: func() error { stdin.Close(); return cmd.Wait() }}, cmd.Start()
			}})
			target.NewSession(t.Context(), tgt, 3)
			var wg sync.WaitGroup
			for i := range 60 {
				wg.Go(func() {
					out, err := tgt.Run(t.Context(), fmt.Sprintf("echo %d", i))
					if want := fmt.Sprintln(i); err != nil || string(out.Stdout) != want {
						t.Errorf("got %q, %v, want %q", out.Stdout, err, want)
					}
				})
			}
			wg.Wait()
		})
	}
}

// TestShell_StatTogether compares what one batch says of many files with what
// each says by itself.
func TestShell_StatTogether(t *testing.T) {
	dir := t.TempDir()
	paths := []string{"/", "/etc/passwd", "/dev/null", dir + "/none", dir + "/dangling", dir + "/to passwd", dir + "/it's", "/etc/passwd/below"}
	os.Symlink("nowhere", dir+"/dangling")
	os.Symlink("/etc/passwd", dir+"/to passwd")
	os.WriteFile(dir+"/it's", nil, 0o640)
	for i := range 80 {
		paths = append(paths, fmt.Sprintf("%s/%d", dir, i))
		if i%3 > 0 {
			os.WriteFile(paths[len(paths)-1], make([]byte, i), 0o600)
		}
	}
	s := target.NewSession(t.Context(), open(t, "shell:/bin/sh"), 1)
	ahead, _ := s.Ahead()
	s.Hold()
	for _, p := range paths {
		ahead.Stat(t.Context(), p, true)
		ahead.Stat(t.Context(), p, false)
	}
	s.Release()
	local := open(t, "local:")
	for _, p := range paths {
		for _, follow := range []bool{true, false} {
			got, err := s.Target().Stat(t.Context(), p, follow)
			want, wantErr := local.Stat(t.Context(), p, follow)
			got.ModTime, want.ModTime = want.ModTime.Truncate(0), want.ModTime.Truncate(0)
			if diff := cmp.Diff(want, got); diff != "" || kind(err) != kind(wantErr) {
				t.Errorf("%s, follow %v: %v, want %v (-want +got):\n%s", p, follow, err, wantErr, diff)
			}
		}
	}
	if trips := s.Stats().RoundTrips; trips > 6 {
		t.Errorf("%d round trips for %d questions", trips, 2*len(paths))
	}
}

func TestShell_ReadTogether(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	paths := []string{
		write("a", "one\ntwo"), write("b", ""), write("binary", "\x00\xff\n\n"), write("to long", "x"),
		write("liar", "==> "+dir+"/b <==\n\n==> /dev/null <==\n"), write("big", strings.Repeat("x", 200)),
		dir, dir + "/none", dir + "/a/below", "/proc/version", "/etc/passwd", "/dev/null", dir + "/dangling", dir + "/link",
	}
	os.Symlink("nowhere", dir+"/dangling")
	os.Symlink("a", dir+"/link")
	for i := range 40 {
		paths = append(paths, write(fmt.Sprint(i), strings.Repeat("line\n", i)))
	}
	s := target.NewSession(t.Context(), open(t, "shell:/bin/sh"), 1)
	ahead, _ := s.Ahead()
	s.Hold()
	limit := func(path string) int64 {
		if strings.HasSuffix(path, "/big") {
			return 100
		}
		return 1 << 20
	}
	for _, p := range paths {
		ahead.ReadFile(t.Context(), p, limit(p))
	}
	s.Release()
	local := open(t, "local:")
	for _, p := range paths {
		got, err := s.Target().ReadFile(t.Context(), p, limit(p))
		want, wantErr := local.ReadFile(t.Context(), p, limit(p))
		if string(got) != string(want) || kind(err) != kind(wantErr) {
			t.Errorf("%s: %q, %v, want %q, %v", p, got, err, want, wantErr)
		}
	}
	if trips := s.Stats().RoundTrips; trips > 3 {
		t.Errorf("%d round trips for %d files", trips, len(paths))
	}
}
