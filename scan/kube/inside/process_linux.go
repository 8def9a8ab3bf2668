package inside

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// process is one that is seen in a proc file system.
type process struct {
	pid    int
	parent int
	start  uint64 // in ticks since the machine's start
}

// processes lists those that the file system at proc shows.
func processes(proc string) ([]process, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	var all []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(proc, e.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		// The name of the program, in parentheses, may hold anything.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 20 {
			continue
		}
		p := process{pid: pid}
		p.parent, _ = strconv.Atoi(string(fields[1]))
		p.start, _ = strconv.ParseUint(string(fields[19]), 10, 64)
		all = append(all, p)
	}
	return all, nil
}

// find returns the first process of the container: of those that belong to it,
// the oldest. In a process namespace of the container's own, which an ephemeral
// container shares by targetContainerName, that is process 1.
func (c Container) find(proc string, self int) (int, error) {
	all, err := processes(proc)
	if err != nil {
		return 0, err
	}
	slices.SortFunc(all, func(a, b process) int {
		return cmp.Or(cmp.Compare(a.start, b.start), a.pid-b.pid)
	})
	// What another container's process can give itself counts last.
	for _, by := range []evidence{byGroup, byMount} {
		for _, p := range all {
			if p.pid != self && c.owns(filepath.Join(proc, strconv.Itoa(p.pid)), by) {
				return p.pid, nil
			}
		}
	}
	var first *process
	if i := slices.IndexFunc(all, func(p process) bool { return p.pid == 1 }); i >= 0 {
		first = &all[i]
	}
	switch {
	case first == nil:
		return 0, fmt.Errorf("no process of the container %s is to be seen: the pod's containers don't share their processes (shareProcessNamespace)", c.Name)
	case first.pid != self && c.First:
		return 1, nil
	case first.pid == self:
		return 0, fmt.Errorf("the scanner sees no processes but its own: the cluster's container runtime doesn't support targetContainerName, or the pod lacks shareProcessNamespace")
	}
	return 0, fmt.Errorf("none of the %d processes that the pod's containers share belongs to the container %s", len(all), c.Name)
}

// evidence is what tells that a process belongs to a container.
type evidence int

const (
	// byGroup is its control group, whose path names the container's id.
	byGroup evidence = iota
	// byMount is where the kubelet has the file that the container's
	// /dev/termination-log is. With a user namespace a process can mount what
	// looks like it.
	byMount
)

// owns reports whether the process that proc shows in dir belongs to the
// container.
func (c Container) owns(dir string, by evidence) bool {
	if by == byGroup {
		text, err := os.ReadFile(filepath.Join(dir, "cgroup"))
		return err == nil && c.ID != "" && bytes.Contains(text, []byte(c.ID))
	}
	text, err := os.ReadFile(filepath.Join(dir, "mountinfo"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 4 && strings.Contains(f[3], "/pods/") && strings.Contains(f[3], "/containers/"+c.Name+"/") {
			return true
		}
	}
	return false
}

// status is what a process may do, as proc tells it.
type status struct {
	uid, gid   int
	groups     []int
	bounding   uint64
	privileges bool // may gain some
}

func readStatus(path string) (status, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return status{}, err
	}
	st := status{uid: -1, gid: -1}
	var errs []error
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		errs = append(errs, err)
		return n
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), ":")
		f := strings.Fields(value)
		switch {
		case key == "Groups":
			for _, g := range f {
				st.groups = append(st.groups, number(g))
			}
		case len(f) == 0:
		case key == "Uid" && len(f) > 1:
			st.uid = number(f[1])
		case key == "Gid" && len(f) > 1:
			st.gid = number(f[1])
		case key == "CapBnd":
			st.bounding, err = strconv.ParseUint(f[0], 16, 64)
			errs = append(errs, err)
		case key == "NoNewPrivs":
			st.privileges = f[0] == "0"
		}
	}
	if st.uid < 0 || st.gid < 0 {
		errs = append(errs, errors.New("it names no user"))
	}
	if err := errors.Join(errs...); err != nil {
		return status{}, fmt.Errorf("%s: %w", path, err)
	}
	return st, nil
}

// become makes st that of another user, written UID or UID:GID.
func (st *status) become(user string) error {
	if user == "" {
		return nil
	}
	u, g, both := strings.Cut(user, ":")
	uid, err := strconv.ParseUint(u, 10, 31)
	gid := uint64(st.gid)
	if both && err == nil {
		gid, err = strconv.ParseUint(g, 10, 31)
	}
	if err != nil {
		return fmt.Errorf("user %q: it must be UID or UID:GID", user)
	}
	st.uid, st.gid = int(uid), int(gid)
	return nil
}
