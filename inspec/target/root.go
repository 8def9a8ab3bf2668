package target

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxLinks bounds how many symbolic links one path may lead through, as
// Linux does.
const maxLinks = 40

// files reads a root filesystem that this process can see. Links are followed
// by hand, an absolute one from the root of the filesystem: os.Root alone
// refuses those. Each final access still goes through os.Root, so that a link
// that is put in between cannot lead outside either.
type files struct {
	root   *os.Root
	owners owners
	self   int // the process that /proc/self leads to; zero: this one
}

func openFiles(dir string) (*files, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &files{root: root}, nil
}

// resolve returns name relative to the root without any link in it; the last
// element may be one when follow is false.
func (f *files) resolve(op, name string, follow bool) (string, error) {
	if !strings.HasPrefix(name, "/") {
		return "", pathError(op, name, errors.New("a path in a target must begin with /"))
	}
	pending := strings.Split(name, "/")
	cur, links := "", 0
	for len(pending) > 0 {
		elem := pending[0]
		pending = pending[1:]
		switch elem {
		case "", ".":
			continue
		case "..":
			cur = strings.TrimSuffix(path.Dir("/"+cur), "/")
			cur = strings.TrimPrefix(cur, "/")
			continue
		}
		next := path.Join(cur, elem)
		info, err := f.root.Lstat(next)
		if err != nil {
			return "", pathError(op, name, plain(err))
		}
		last := !slices.ContainsFunc(pending, func(s string) bool { return s != "" })
		if info.Mode()&fs.ModeSymlink == 0 || last && !follow {
			cur = next
			continue
		}
		if links++; links > maxLinks {
			return "", pathError(op, name, fs.ErrNotExist)
		}
		text, err := f.readlink(next)
		if err != nil {
			return "", pathError(op, name, plain(err))
		}
		if strings.HasPrefix(text, "/") {
			cur = ""
		}
		pending = append(strings.Split(text, "/"), pending...)
	}
	if cur == "" {
		return ".", nil
	}
	return cur, nil
}

// plain reduces an error of the operating system to what test -e sees: a path
// that leads through something that is no directory isn't there.
func plain(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
		return fs.ErrNotExist
	}
	return err
}

func (f *files) Stat(ctx context.Context, name string, follow bool) (FileInfo, error) {
	rel, err := f.resolve("stat", name, follow)
	if err != nil {
		return FileInfo{}, err
	}
	info, err := f.root.Lstat(rel)
	if err != nil {
		return FileInfo{}, pathError("stat", name, plain(err))
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return FileInfo{}, pathError("stat", name, errors.ErrUnsupported)
	}
	out := FileInfo{
		Type:    typeOf(uint32(st.Mode)), // 16 bits on a Mac
		Mode:    uint32(st.Mode) & 0o7777,
		Size:    info.Size(),
		UID:     int(st.Uid),
		GID:     int(st.Gid),
		ModTime: info.ModTime(),
	}
	f.owners.name(f, &out)
	return out, nil
}

func (f *files) ReadFile(ctx context.Context, name string, limit int64) ([]byte, error) {
	rel, err := f.resolve("read", name, true)
	if err != nil {
		return nil, err
	}
	// Without O_NONBLOCK the open of a named pipe would wait for a writer.
	file, err := f.root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, pathError("read", name, plain(err))
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, pathError("read", name, plain(err))
	}
	if !info.Mode().IsRegular() {
		return nil, pathError("read", name, notRegular(info.IsDir()))
	}
	// Files such as /proc/kmsg block although they are regular.
	stop := context.AfterFunc(ctx, func() { file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	switch {
	case ctx.Err() != nil:
		return nil, pathError("read", name, context.Cause(ctx))
	case err != nil:
		return nil, pathError("read", name, plain(err))
	case int64(len(data)) > limit:
		return nil, &OutputError{What: "file " + name, Limit: limit}
	}
	return data, nil
}

func notRegular(dir bool) error {
	if dir {
		return syscall.EISDIR
	}
	return errors.New("not a regular file")
}

func (f *files) ReadDir(ctx context.Context, name string) ([]string, error) {
	rel, err := f.resolve("list", name, true)
	if err != nil {
		return nil, err
	}
	dir, err := f.root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, pathError("list", name, plain(err))
	}
	defer dir.Close()
	var names []string
	for size := 0; ; {
		some, err := dir.Readdirnames(1024)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, pathError("list", name, plain(err))
		}
		for _, n := range some {
			size += len(n) + 1
		}
		if size > MaxOutput {
			return nil, &OutputError{What: "list of " + name, Limit: MaxOutput}
		}
		names = append(names, some...)
	}
	slices.Sort(names)
	return names, nil
}

func (f *files) Readlink(ctx context.Context, name string) (string, error) {
	rel, err := f.resolve("readlink", name, false)
	if err != nil {
		return "", err
	}
	text, err := f.readlink(rel)
	if err != nil {
		return "", pathError("readlink", name, plain(err))
	}
	return text, nil
}

// readlink reads the link at rel. Of /proc/self the kernel says who reads.
func (f *files) readlink(rel string) (string, error) {
	if f.self != 0 {
		switch self := strconv.Itoa(f.self); rel {
		case "proc/self":
			return self, nil
		case "proc/thread-self":
			return self + "/task/" + self, nil
		}
	}
	return f.root.Readlink(rel)
}

// owners are the target's own names of users and groups, as stat run inside
// would say them.
type owners struct {
	once          sync.Once
	users, groups map[int]string
}

// name sets the names in info. They are read once from f.
func (o *owners) name(f Files, info *FileInfo) {
	o.once.Do(func() {
		const limit = 16 << 20
		read := func(file string) map[int]string {
			data, err := f.ReadFile(context.Background(), file, limit)
			if err != nil {
				return nil
			}
			return idNames(data)
		}
		o.users, o.groups = read("/etc/passwd"), read("/etc/group")
	})
	info.Owner, info.Group = nameOf(o.users, info.UID), nameOf(o.groups, info.GID)
}

// idNames reads the names by id from the text of passwd(5) or group(5); the
// first entry of an id counts.
func idNames(data []byte) map[int]string {
	names := map[int]string{}
	sc := bufio.NewScanner(bytes.NewReader(data))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		fields := strings.Split(sc.Text(), ":")
		if len(fields) < 3 {
			continue
		}
		id, err := strconv.Atoi(fields[2])
		if err != nil {
			continue
		}
		if _, there := names[id]; !there {
			names[id] = fields[0]
		}
	}
	return names
}

func nameOf(names map[int]string, id int) string {
	if n, ok := names[id]; ok {
		return n
	}
	return "UNKNOWN"
}

// typeOf reads the kind of a file from st_mode (inode(7)).
func typeOf(mode uint32) FileType {
	switch mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		return File
	case syscall.S_IFDIR:
		return Directory
	case syscall.S_IFLNK:
		return Symlink
	case syscall.S_IFCHR:
		return CharacterDevice
	case syscall.S_IFBLK:
		return BlockDevice
	case syscall.S_IFSOCK:
		return Socket
	case syscall.S_IFIFO:
		return Pipe
	}
	return Unknown
}

// static is a root filesystem of which nothing is run.
type static struct {
	Files
	uri      string
	owners   owners
	platform func() (Platform, error)
}

// NewFiles makes a target of files of which nothing is run. The target's Close
// closes them. Stat may leave Owner and Group empty: they are named by f's
// passwd and group, then.
func NewFiles(uri string, f Files) Target {
	t := &static{Files: f, uri: uri}
	t.platform = sync.OnceValues(func() (Platform, error) { return detect(context.Background(), t) })
	if o, ok := f.(Opener); ok {
		return staticOpener{t, o}
	}
	return t
}

func (t *static) Stat(ctx context.Context, path string, follow bool) (FileInfo, error) {
	info, err := t.Files.Stat(ctx, path, follow)
	if err == nil && info.Owner == "" {
		t.owners.name(t.Files, &info)
	}
	return info, err
}

func (t *static) URI() string { return t.uri }
func (t *static) Run(context.Context, string) (CommandResult, error) {
	return CommandResult{}, ErrNoCommands
}
func (t *static) Platform(context.Context) (Platform, error) { return t.platform() }

func openDir(uri, name string) (Target, error) {
	f, err := openTargetDir(uri, name)
	if err != nil {
		return nil, err
	}
	return NewFiles(uri, f), nil
}

func openTargetDir(uri, name string) (*files, error) {
	if name == "" {
		return nil, fmt.Errorf("target %q: the directory is missing; write %s/ for the root of this machine, or the path of an unpacked root filesystem", uri, uri)
	}
	f, err := openFiles(name)
	if err != nil {
		return nil, fmt.Errorf("target %q: %w; name the directory of a root filesystem that you may read", uri, err)
	}
	return f, nil
}

func (f *files) Close() error { return f.root.Close() }
