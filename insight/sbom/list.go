package sbom

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"reeve.dev/reeve/inspec/target"
)

// maxFiles bounds what a target's list of files takes of memory.
const maxFiles = 2_000_000

// file is a regular file of a target; its path is without the first slash, as
// package io/fs has it. It is its own fs.FileInfo and fs.DirEntry.
type file struct {
	path string
	mode fs.FileMode
	size int64
}

func (f *file) Name() string               { return path.Base(f.path) }
func (f *file) Size() int64                { return f.size }
func (f *file) Mode() fs.FileMode          { return f.mode }
func (f *file) ModTime() time.Time         { return time.Time{} }
func (f *file) IsDir() bool                { return false }
func (f *file) Sys() any                   { return nil }
func (f *file) Type() fs.FileMode          { return 0 }
func (f *file) Info() (fs.FileInfo, error) { return f, nil }

// Path and Stat make it what extractors choose by.
func (f *file) Path() string               { return f.path }
func (f *file) Stat() (fs.FileInfo, error) { return f, nil }

// unread collects what couldn't be looked at.
type unread struct{ list []Unread }

// maxUnread bounds how many of them are told one by one.
const maxUnread = 100

func (u *unread) add(path string, why error) {
	switch {
	case len(u.list) < maxUnread:
		u.list = append(u.list, Unread{Path: path, Why: why.Error()})
	case len(u.list) == maxUnread:
		u.list = append(u.list, Unread{Path: "…", Why: "and more"})
	}
}

// list finds the regular files of t, in the order of their paths, and whether
// its own programs did.
func list(ctx context.Context, t target.Target, missed *unread) (files []*file, runs bool, err error) {
	skip := foreign(ctx, t)
	files, err = find(ctx, t, skip, missed)
	runs = err == nil
	if errors.Is(err, errNoFind) {
		files, err = walk(ctx, t, skip, missed)
	}
	if err != nil {
		return nil, false, err
	}
	slices.SortFunc(files, func(a, b *file) int { return strings.Compare(a.path, b.path) })
	return slices.CompactFunc(files, func(a, b *file) bool { return a.path == b.path }), runs, nil
}

// Beneath these are the files of other containers.
var stores = []string{
	"/var/lib/docker", "/var/lib/containerd", "/var/lib/containers/storage", "/var/lib/kubelet/pods", "/var/lib/rancher/k3s/agent/containerd",
}

// virtual are the file systems that a machine has on no disk of its own.
var virtual = map[string]bool{
	"proc": true, "sysfs": true, "devtmpfs": true, "devpts": true, "tmpfs": true, "ramfs": true, "cgroup": true, "cgroup2": true,
	"mqueue": true, "hugetlbfs": true, "debugfs": true, "tracefs": true, "securityfs": true, "pstore": true, "bpf": true,
	"configfs": true, "fusectl": true, "binfmt_misc": true, "autofs": true, "efivarfs": true, "rpc_pipefs": true, "nsfs": true,
	"nfs": true, "nfs4": true, "cifs": true, "smb3": true, "ceph": true, "overlay": true, "squashfs": true,
}

// foreign are the directories that aren't the target's own.
func foreign(ctx context.Context, t target.Target) map[string]bool {
	skip := map[string]bool{"/proc": true, "/sys": true, "/dev": true}
	for _, dir := range stores {
		skip[dir] = true
	}
	// A root that is only a directory here has no mounts.
	text, err := t.ReadFile(ctx, "/proc/self/mounts", 16<<20)
	if err != nil {
		return skip
	}
	container := strings.HasPrefix(t.URI(), "k8s-container:")
	mounts := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 {
			mounts[unescape(f[1])] = f[2]
		}
	}
	container = container || mounts["/"] == "overlay"
	for at, kind := range mounts {
		if at != "/" && (container || virtual[kind] || strings.HasPrefix(kind, "fuse.")) {
			skip[at] = true
		}
	}
	return skip
}

// unescape reads a path as /proc/self/mounts writes it (proc(5)).
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// errNoFind says that the target can't list its files by itself.
var errNoFind = errors.New("the target has no find or no stat")

// find lists the files by the target's own programs: one round trip. The names
// are the target's word, as all that it answers; one with a line break in it is
// left out.
func find(ctx context.Context, t target.Target, skip map[string]bool, missed *unread) ([]*file, error) {
	var prune []string
	for dir := range skip {
		prune = append(prune, "-path "+target.Quote(pattern(dir)))
	}
	slices.Sort(prune)
	cmd := `LC_ALL=C find / \( ` + strings.Join(prune, " -o ") + ` \) -prune -o -type f -exec stat -c '%f %s %n' {} +`
	got, err := t.Run(ctx, cmd)
	switch {
	case errors.Is(err, target.ErrNoCommands):
		return nil, errNoFind
	case err != nil:
		return nil, fmt.Errorf("list of files: %w", err)
	}
	var files []*file
	for line := range bytes.Lines(got.Stdout) {
		if f := parse(string(bytes.TrimSuffix(line, []byte("\n")))); f != nil {
			files = append(files, f)
		}
	}
	if len(files) == 0 {
		return nil, errNoFind
	}
	if len(files) > maxFiles {
		return nil, errTooMany
	}
	if got.ExitStatus > 1 { // 1 is for what it tells below
		missed.add("/", fmt.Errorf("the target's find ended with status %d before it had listed all", got.ExitStatus))
	}
	for line := range strings.Lines(string(got.Stderr)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasSuffix(line, "No such file or directory") { // gone meanwhile
			missed.add("/", errors.New(line))
		}
	}
	return files, nil
}

var errTooMany = fmt.Errorf("the target has more than %d files", maxFiles)

// pattern is a path as find's -path matches it alone.
func pattern(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// parse reads one line of stat; nil if it is none.
func parse(line string) *file {
	mode, rest, _ := strings.Cut(line, " ")
	size, name, _ := strings.Cut(rest, " ")
	m, err1 := strconv.ParseUint(mode, 16, 32)
	n, err2 := strconv.ParseInt(size, 10, 64)
	if err1 != nil || err2 != nil || n < 0 || !strings.HasPrefix(name, "/") || !fs.ValidPath(name[1:]) {
		return nil
	}
	return &file{path: name[1:], mode: fs.FileMode(m & 0o777), size: n}
}

// atOnce is how many questions about files are under way, which a target at the
// end of a stream answers together.
const atOnce = 256

// walk lists the files directory by directory, all of one depth at once.
func walk(ctx context.Context, t target.Files, skip map[string]bool, missed *unread) ([]*file, error) {
	var files []*file
	for level := []string{"/"}; len(level) > 0; {
		names, errs := ask(ctx, level, func(ctx context.Context, dir string) ([]string, error) { return t.ReadDir(ctx, dir) })
		var entries []string
		for i, dir := range level {
			if errs[i] != nil {
				missed.add(dir, errs[i])
			}
			for _, name := range names[i] {
				if at := path.Join(dir, name); !skip[at] {
					entries = append(entries, at)
				}
			}
		}
		if len(files)+len(entries) > maxFiles {
			return nil, errTooMany
		}
		infos, errs := ask(ctx, entries, func(ctx context.Context, at string) (target.FileInfo, error) { return t.Stat(ctx, at, false) })
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		level = nil
		for i, at := range entries {
			switch {
			case errors.Is(errs[i], fs.ErrNotExist): // gone meanwhile
			case errs[i] != nil:
				missed.add(at, errs[i])
			case infos[i].Type == target.Directory:
				level = append(level, at)
			case infos[i].Type == target.File && fs.ValidPath(at[1:]):
				files = append(files, &file{path: at[1:], mode: fs.FileMode(infos[i].Mode & 0o777), size: infos[i].Size})
			}
		}
	}
	return files, nil
}

// ask asks one question about each of paths.
func ask[T any](ctx context.Context, paths []string, question func(context.Context, string) (T, error)) ([]T, []error) {
	answers, errs := make([]T, len(paths)), make([]error, len(paths))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, path := range paths {
		group.Go(func() error {
			answers[i], errs[i] = question(ctx, path)
			return nil
		})
	}
	group.Wait()
	return answers, errs
}
