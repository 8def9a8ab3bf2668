package inside

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"reeve.dev/reeve/inspec/target"
)

const procDir = "/proc"

// Enter enters the container and speaks on in and out, which are this process'
// own standard streams: a shell takes its place. It returns when there is no
// shell and in has ended, or with an error that out has been told.
func Enter(ctx context.Context, c Container, in io.Reader, out io.Writer) error {
	fail := func(err error) error {
		return errors.Join(err, json.NewEncoder(out).Encode(Hello{Reeve: version, Failed: true, Why: err.Error()}))
	}
	pid, err := c.find(procDir, os.Getpid())
	if err != nil {
		return fail(err)
	}
	process, err := os.Open(filepath.Join(procDir, strconv.Itoa(pid)))
	if err != nil {
		return fail(err)
	}
	defer process.Close()
	// From here on nothing is of another process that has got the number since.
	at := opened(process)
	if pid != 1 && !c.owns(at, byGroup) && !c.owns(at, byMount) {
		return fail(fmt.Errorf("the first process of the container %s has ended", c.Name))
	}
	root, err := openRoot(filepath.Join(at, "root"))
	if err != nil {
		return fail(err)
	}
	defer root.Close()
	noShell := shell(ctx, c, at, root)
	dir := opened(root)
	if err := json.NewEncoder(out).Encode(Hello{Reeve: version, Mounts: true, Why: noShell.Error()}); err != nil {
		return err
	}
	return target.ServeFiles(ctx, dir, pid, in, out)
}

// opened is the path of what f is, whatever has its name now.
func opened(f *os.File) string {
	return filepath.Join(procDir, "self", "fd", strconv.Itoa(int(f.Fd())))
}

// openRoot opens the root directory of the container, which must be another
// than this process' own.
func openRoot(dir string) (*os.File, error) {
	root, err := os.Open(dir)
	switch {
	case errors.Is(err, os.ErrPermission):
		return nil, errors.New("the scanner may not look into the container's processes: give its own container the container's user, and at least its capabilities, or SYS_PTRACE")
	case err != nil:
		return nil, err
	}
	own, err := os.Stat("/")
	if err == nil {
		var info os.FileInfo
		if info, err = root.Stat(); err == nil && os.SameFile(info, own) {
			err = errors.New("the root file system that was found is the scanner's own, not the container's")
		}
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
}

// shell becomes a shell of the container, whose first process proc shows in dir,
// and says why it couldn't.
func shell(ctx context.Context, c Container, dir string, root *os.File) error {
	if err := hasShell(ctx, root); err != nil {
		return err
	}
	st, err := readStatus(filepath.Join(dir, "status"))
	if err == nil {
		err = st.become(c.User)
	}
	if err != nil {
		return err
	}
	env, err := os.ReadFile(filepath.Join(dir, "environ"))
	if err != nil {
		return err
	}
	cwd, err := os.Readlink(filepath.Join(dir, "cwd"))
	if err != nil {
		return err
	}
	mounts, err := os.Open(filepath.Join(dir, "ns", "mnt"))
	if err != nil {
		return err
	}
	// What follows is of one thread alone, and what it gives up never comes
	// back: if no shell starts, the thread ends with its goroutine, and files
	// are served by others.
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		failed <- become(st, mounts, root, cwd, strings.Split(strings.TrimSuffix(string(env), "\x00"), "\x00"))
	}()
	return <-failed
}

func hasShell(ctx context.Context, root *os.File) error {
	t, err := target.Open(ctx, "dir:"+opened(root))
	if err != nil {
		return err
	}
	defer t.Close()
	if info, err := t.Stat(ctx, "/bin/sh", true); err != nil || info.Type != target.File || info.Mode&0o111 == 0 {
		return errors.New("the container has no /bin/sh")
	}
	return nil
}

func become(st status, mounts, root *os.File, cwd string, env []string) error {
	may := func(what string, err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("the scanner may not start the container's shell: %s: %w", what, err)
	}
	if err := may("unshare", unix.Unshare(unix.CLONE_FS)); err != nil {
		return err
	}
	hello := Hello{Reeve: version, Shell: true, Mounts: true}
	if err := unix.Setns(int(mounts.Fd()), unix.CLONE_NEWNS); err != nil {
		hello.Mounts = false
		if err := errors.Join(unix.Fchdir(int(root.Fd())), unix.Chroot(".")); err != nil {
			return may("chroot (the capability SYS_CHROOT)", err)
		}
	}
	if unix.Chdir(cwd) != nil {
		if err := unix.Chdir("/"); err != nil {
			return err
		}
	}
	for capability := range 64 {
		if st.bounding&(1<<capability) != 0 {
			continue
		}
		if had, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(capability), 0, 0, 0); err != nil || had == 0 {
			continue
		}
		if err := may("give up a capability", unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0)); err != nil {
			return err
		}
	}
	if err := credentials(st); err != nil {
		return may("become the container's user", err)
	}
	if !st.privileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	text, err := json.Marshal(hello)
	if err != nil {
		return err
	}
	return may("exec", syscall.Exec("/bin/sh", []string{"/bin/sh", "-c", `printf '%s\n' "$1"; ` + target.Gathering, "sh", string(text)}, env))
}

// credentials makes this thread's those of st.
func credentials(st status) error {
	same := os.Getuid() == st.uid && os.Getgid() == st.gid
	if own, err := os.Getgroups(); same && err == nil && slices.Equal(own, st.groups) {
		return nil
	}
	// Those of package syscall would change all threads.
	if err := unix.Setgroups(st.groups); err != nil {
		return err
	}
	if err := unix.Setresgid(st.gid, st.gid, st.gid); err != nil {
		return err
	}
	return unix.Setresuid(st.uid, st.uid, st.uid)
}

// Wait returns when its time is over, or when the sessions that were started
// beside it have ended. They are the other processes of its control group.
func Wait(ctx context.Context, lives Lives) error {
	if lives.All > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lives.All)
		defer cancel()
	}
	if lives.Idle == 0 {
		<-ctx.Done()
		return nil
	}
	own, err := os.ReadFile(filepath.Join(procDir, "self", "cgroup"))
	if err != nil {
		return err
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	idle := time.NewTimer(lives.Idle)
	defer idle.Stop()
	for seen := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-idle.C:
			if !seen {
				return nil
			}
		case <-tick.C:
			more, err := company(procDir, own)
			if err != nil {
				return err
			}
			if seen && !more {
				return nil
			}
			seen = seen || more
		}
	}
}

const watchEvery = 200 * time.Millisecond

// company reports whether there is another process of the control group.
func company(proc string, group []byte) (bool, error) {
	all, err := processes(proc)
	if err != nil {
		return false, err
	}
	for _, p := range all {
		if p.pid == os.Getpid() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(p.pid), "cgroup"))
		if err == nil && bytes.Equal(text, group) {
			return true, nil
		}
	}
	return false, nil
}
