package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// machine is this machine, or a directory of it with commands run by chroot.
// Each command is a process of its own, so several may run side by side.
type machine struct {
	*files
	*pool
	uri      string
	chroot   string
	env      []string
	platform func() (Platform, error)
}

func openLocal(uri string) (Target, error) {
	f, err := openFiles("/")
	if err != nil {
		return nil, fmt.Errorf("target %q: %w", uri, err)
	}
	return newMachine(&machine{files: f, uri: uri, env: os.Environ()}), nil
}

// openChroot shows at once whether the commands in name can be run, rather
// than in each control.
func openChroot(uri, name string) (Target, error) {
	f, err := openTargetDir(uri, name)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		f.root.Close()
		return nil, fmt.Errorf("target %q: %w", uri, err)
	}
	m := newMachine(&machine{files: f, uri: uri, chroot: abs, env: []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
	}})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := m.Run(ctx, ":"); err != nil {
		m.Close()
		switch {
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("target %q: running commands in it needs root; run as root, or use dir:%s, which only reads files", uri, name)
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("target %q: it has no /bin/sh that runs here; use dir:%s, which only reads files", uri, name)
		}
		return nil, fmt.Errorf("target %q: %w", uri, err)
	}
	return m, nil
}

func newMachine(m *machine) *machine {
	m.pool = newPool(&processes{m}, func(context.Context) (lane, error) { return &processes{m}, nil })
	m.platform = sync.OnceValues(func() (Platform, error) { return detect(context.Background(), m) })
	return m
}

func (m *machine) URI() string                                { return m.uri }
func (m *machine) Platform(context.Context) (Platform, error) { return m.platform() }
func (m *machine) Close() error                               { return errors.Join(m.pool.close(), m.root.Close()) }

func (m *machine) Run(ctx context.Context, command string) (CommandResult, error) {
	q := question{op: opRun, what: command}
	if err := m.refuse(q); err != nil {
		return CommandResult{}, err
	}
	c := m.ask(ctx, q)
	return c.result, c.err
}

// takes reports that files are looked at without the pool.
func (m *machine) takes(q question) bool { return q.op == opRun }

func (m *machine) refuse(q question) error {
	if strings.ContainsRune(q.what, 0) {
		return errNUL(q.what)
	}
	return nil
}

func (m *machine) answer(c *call) (any, error) { return c.result, c.err }

// roundTrips is none: what is run is a process of this machine.
func (m *machine) roundTrips() int { return 0 }

// processes runs one process after another.
type processes struct{ m *machine }

func (p *processes) close() error { return nil }

func (p *processes) do(calls []*call) {
	for _, c := range calls {
		c.result, c.err = p.m.process(c.ctx, c.what)
		c.answered(c)
	}
}

func (m *machine) process(ctx context.Context, command string) (CommandResult, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, CommandTimeout, &TimeoutError{Command: command, After: CommandTimeout})
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Dir, cmd.Env = "/", m.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Chroot: m.chroot}
	// A process that the command left behind may hold its pipes.
	cmd.WaitDelay = 2 * time.Second
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	stdout, stderr := &capped{stop: cancel}, &capped{stop: cancel}
	cmd.Stdout, cmd.Stderr = stdout, stderr

	err := cmd.Run()
	result := CommandResult{Stdout: stdout.Bytes(), Stderr: stderr.Bytes()}
	var exit *exec.ExitError
	switch {
	case stdout.over || stderr.over:
		return result, &OutputError{What: fmt.Sprintf("command %q", short(command)), Limit: MaxOutput}
	case ctx.Err() != nil:
		return result, context.Cause(ctx)
	case errors.As(err, &exit):
		result.ExitStatus = exitStatus(exit.Sys())
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return result, fmt.Errorf("run %q: %w", short(command), err)
	}
	return result, nil
}

func exitStatus(sys any) int {
	ws := sys.(syscall.WaitStatus)
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

func errNUL(command string) error {
	return fmt.Errorf("command %q holds a NUL byte, which no shell takes", short(command))
}

// capped keeps up to MaxOutput bytes and stops the command at more.
type capped struct {
	bytes.Buffer
	over bool
	stop func()
}

func (c *capped) Write(p []byte) (int, error) {
	if room := MaxOutput - c.Len(); len(p) > room {
		c.Buffer.Write(p[:room])
		c.over = true
		c.stop()
		return len(p), nil
	}
	return c.Buffer.Write(p)
}
