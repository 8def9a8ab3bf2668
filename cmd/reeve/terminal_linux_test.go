package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

func TestColour(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	_, tty := newTerminal(t, 80)
	file, err := os.Create(t.TempDir() + "/file")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if !colour(tty) {
		t.Error("no colour on a terminal")
	}
	if colour(file) {
		t.Error("colour in a file")
	}
	if !colour(painted{file, true}) || colour(painted{tty, false}) {
		t.Error("--color isn't heeded")
	}
	t.Setenv("NO_COLOR", "1")
	if colour(tty) {
		t.Error("colour in spite of NO_COLOR")
	}
	if !colour(painted{tty, true}) {
		t.Error("NO_COLOR wins over --color")
	}
}

// newTerminal is a pseudo-terminal: the side of a person, and the one that
// programs write to.
func newTerminal(t *testing.T, columns uint16) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals: %v; mount devpts", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	return master, tty
}

// onTerminal runs reeve as a person does who sits at a terminal, and answers
// what is seen. Once that has when, keys are typed; empty: none are.
func onTerminal(t *testing.T, columns uint16, env []string, when, keys string, args ...string) (code int, seen string) {
	t.Helper()
	master, tty := newTerminal(t, columns)
	cmd := exec.CommandContext(t.Context(), "reeve", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.Env = append(append(os.Environ(), "TERM=xterm", "NO_COLOR="), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close() // so that reading ends when the program does
	var all bytes.Buffer
	buf := make([]byte, 4096)
	for {
		n, err := master.Read(buf)
		all.Write(buf[:n])
		if keys != "" && strings.Contains(all.String(), when) {
			if _, err := io.WriteString(master, keys); err != nil {
				t.Fatal(err)
			}
			keys = ""
		}
		if err != nil { // EIO: nobody has the terminal any more
			break
		}
	}
	err := cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if keys != "" {
		t.Errorf("never seen: %q", when)
	}
	return cmd.ProcessState.ExitCode(), all.String()
}

var sequences = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")

// screen is what is left of a terminal's lines when all is written: a line that
// is written over counts by what it ends as.
func screen(seen string) (lines []string) {
	for line := range strings.SplitSeq(strings.ReplaceAll(seen, "\r\n", "\n"), "\n") {
		if i := strings.LastIndex(line, "\x1b[K"); i >= 0 {
			line = line[i:]
		}
		if i := strings.LastIndex(line, "\r"); i >= 0 {
			line = line[i+1:]
		}
		lines = append(lines, sequences.ReplaceAllString(line, ""))
	}
	return lines
}

// TestTerminal sees what a person sees, and what a pipe gets.
func TestTerminal(t *testing.T) {
	dir := t.TempDir()
	results := func(name, verdict string) string {
		profile := filepath.Join(dir, name)
		text := fmt.Sprintf("control 'a-control-with-a-name' do\n  title 'A title that is so long that it fits on no terminal of a sensible width'\n  describe file('/etc/passwd') do\n    it { %s exist }\n  end\nend\n", verdict)
		for path, text := range map[string]string{"inspec.yml": "name: mine\nversion: 1.0.0\n", "controls/a.rb": text} {
			path = filepath.Join(profile, path)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(dir, name+".json")
		if code := run(t.Context(), []string{"scan", "dir:" + dir, "--profile", profile, "--reporter", "json:" + file}, nil, io.Discard, io.Discard); code == exitBroken {
			t.Fatal("no results")
		}
		return file
	}
	if err := root(dir); err != nil {
		t.Fatal(err)
	}
	good, bad := results("good", "should"), results("bad", "should_not")

	t.Run("a table fits", func(t *testing.T) {
		code, seen := onTerminal(t, 90, nil, "", "", "compare", good, bad)
		if code != 0 || !strings.Contains(seen, "\x1b["+red+"mnew\x1b[0m") || !strings.Contains(seen, "…") || !strings.Contains(seen, "a-control") {
			t.Errorf("exit code %d: %q", code, seen)
		}
		for _, line := range screen(seen)[:2] {
			if n := utf8.RuneCountInString(line); n > 90 {
				t.Errorf("%d columns: %q", n, line)
			}
		}
		_, seen = onTerminal(t, 70, nil, "", "", "compare", good, bad, "-o", "wide")
		if !strings.Contains(seen, "of a sensible width") {
			t.Errorf("-o wide cuts: %q", seen)
		}
	})
	t.Run("no colours", func(t *testing.T) {
		for name, env := range map[string][]string{"NO_COLOR": {"NO_COLOR=1"}, "a dumb terminal": {"TERM=dumb"}} {
			if _, seen := onTerminal(t, 80, env, "", "", "compare", good, bad); strings.Contains(seen, "\x1b[") {
				t.Errorf("%s: %q", name, seen)
			}
		}
		if _, seen := onTerminal(t, 80, nil, "", "", "compare", good, bad, "--color", "never"); strings.Contains(seen, "\x1b[") {
			t.Errorf("--color never: %q", seen)
		}
	})
	t.Run("a pipe", func(t *testing.T) {
		var out, errs bytes.Buffer
		code := run(t.Context(), []string{"scan", "dir:" + dir, "--profile", "container-baseline"}, nil, &out, &errs)
		if code == exitBroken || strings.Contains(out.String()+errs.String(), "\x1b") || strings.Contains(errs.String(), "░") {
			t.Errorf("exit code %d: %q %q", code, out.String(), errs.String())
		}
		out.Reset()
		if run(t.Context(), []string{"compare", good, bad, "--color", "always", "-o", "table"}, nil, &out, &errs); !strings.Contains(out.String(), "\x1b["+red+"m") {
			t.Errorf("--color always: %q", out.String())
		}
	})
	t.Run("progress", func(t *testing.T) {
		code, seen := onTerminal(t, 40, nil, "", "", "scan", "dir:"+dir, "--profile", "container-baseline", "--reporter", "json:"+filepath.Join(dir, "out.json"))
		if code == exitBroken || !strings.Contains(seen, "█") {
			t.Fatalf("exit code %d: %q", code, seen)
		}
		for part := range strings.SplitSeq(seen, "\r") {
			if n := utf8.RuneCountInString(sequences.ReplaceAllString(part, "")); n >= 40 {
				t.Errorf("%d columns of 40: %q", n, part)
			}
		}
		if left := strings.Join(screen(seen), ""); strings.ContainsAny(left, "█░") {
			t.Errorf("progress is left: %q", left)
		}
	})
	t.Run("Ctrl-C", func(t *testing.T) {
		profile := filepath.Join(dir, "slow")
		fifo := filepath.Join(dir, "fifo")
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Skipf("needs named pipes: %v", err)
		}
		text := "control 'quick' do\n  describe command('true') do\n    its('exit_status') { should eq 0 }\n  end\nend\n" +
			"control 'slow' do\n  describe command('read x < " + fifo + "') do\n    its('exit_status') { should eq 0 }\n  end\nend\n"
		for path, text := range map[string]string{"inspec.yml": "name: slow\nversion: 1.0.0\n", "controls/a.rb": text} {
			path = filepath.Join(profile, path)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		code, seen := onTerminal(t, 80, nil, "█", "\x03", "scan", "shell:sh", "--profile", profile)
		lines := screen(strings.TrimRight(seen, "\r\n"))
		if last := lines[len(lines)-1]; code != exitBroken || last != "reeve: interrupted" {
			t.Errorf("exit code %d: %q", code, seen)
		}
	})
}

// Columns that don't fit are cut, the first last; what others wrote can't command
// the terminal.
func TestLayOut(t *testing.T) {
	var rows bytes.Buffer
	row(&rows, "NAME", "STATE", "WHAT")
	row(&rows, "a\x1b[2J", "failed", strings.Repeat("x", 50))
	row(&rows, "b", "passed", "short")
	got := layOut(rows.String(), 30, true)
	want := "NAME   STATE   WHAT\na [2J  \x1b[31mfailed\x1b[0m  xxxxxxxxxxxxxx…\nb      \x1b[32mpassed\x1b[0m  short\n"
	if got != want {
		t.Errorf("%q", got)
	}
}
