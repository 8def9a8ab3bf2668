package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The scripts that read files through a shell use builtins but for stat,
// readlink and head, and end with these statuses.
const (
	statusMissing = 90 + iota
	statusForbidden
	statusNoTool
	statusDirectory
	statusNotRegular
	statusNotDirectory
)

// locate ends the script when $p isn't there: with statusForbidden when the
// nearest directory above it may not be searched.
const locate = `if [ ! -e "$p" ] && [ ! -L "$p" ]; then
d=$p
while d=${d%/*}; [ -n "$d" ]; do
if [ -d "$d" ]; then [ -x "$d" ] || exit 91; break; fi
done
exit 90
fi
`

const statFormat = `'%f %u %g %s %Y %U %G'`

func (s *shell) Stat(ctx context.Context, name string, follow bool) (FileInfo, error) {
	flag := ""
	check := ""
	if follow {
		flag = "-L "
		check = "[ -e \"$p\" ] || exit 90\n"
	}
	out, err := s.fileScript(ctx, "stat", name, check+"command -v stat >/dev/null || exit 92\nstat "+flag+"-c "+statFormat+` "$p"`)
	if err != nil {
		return FileInfo{}, err
	}
	info, err := parseStat(string(out))
	if err != nil {
		return FileInfo{}, pathError("stat", name, err)
	}
	return info, nil
}

func (s *shell) ReadFile(ctx context.Context, name string, limit int64) ([]byte, error) {
	script := fmt.Sprintf(`[ -e "$p" ] || exit 90
[ ! -d "$p" ] || exit 93
[ -f "$p" ] || exit 94
[ -r "$p" ] || exit 91
if command -v head >/dev/null; then exec head -c %d "$p"; fi
command -v cat >/dev/null || exit 92
exec cat "$p"`, limit+1)
	data, err := s.fileScript(ctx, "read", name, script)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, &OutputError{What: "file " + name, Limit: limit}
	}
	return data, nil
}

func (s *shell) ReadDir(ctx context.Context, name string) ([]string, error) {
	data, err := s.fileScript(ctx, "list", name, `[ -d "$p" ] || exit 95
[ -r "$p" ] || exit 91
cd "$p" || exit 91
for f in * .*; do
case $f in .|..) continue;; esac
if [ -e "$f" ] || [ -L "$f" ]; then printf '%s\0' "$f"; fi
done`)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range bytes.SplitSeq(data, []byte{0}) {
		if len(name) > 0 {
			names = append(names, string(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (s *shell) Readlink(ctx context.Context, name string) (string, error) {
	data, err := s.fileScript(ctx, "readlink", name, `[ -L "$p" ] || exit 94
command -v readlink >/dev/null || exit 92
exec readlink "$p"`)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(data), "\n"), nil
}

// fileScript runs script with the path as $p and turns its status into an
// error.
func (s *shell) fileScript(ctx context.Context, op, name, script string) ([]byte, error) {
	if !strings.HasPrefix(name, "/") {
		return nil, pathError(op, name, errors.New("a path in a target must begin with /"))
	}
	out, err := s.Run(ctx, "p="+Quote(name)+"\n"+locate+script)
	if err != nil {
		return nil, err
	}
	switch out.ExitStatus {
	case 0:
		return out.Stdout, nil
	case statusMissing:
		err = fs.ErrNotExist
	case statusForbidden:
		err = fs.ErrPermission
	case statusNoTool:
		err = fmt.Errorf("the target has no %s program, which is needed for this", map[string]string{"stat": "stat", "readlink": "readlink", "read": "cat"}[op])
	case statusDirectory:
		err = syscall.EISDIR
	case statusNotRegular:
		err = notRegular(false)
	case statusNotDirectory:
		err = syscall.ENOTDIR
	default:
		err = fmt.Errorf("status %d: %s", out.ExitStatus, short(strings.TrimSpace(string(out.Stderr))))
	}
	return nil, pathError(op, name, err)
}

// parseStat reads one line in statFormat.
func parseStat(line string) (FileInfo, error) {
	f := strings.Fields(line)
	if len(f) < 5 {
		return FileInfo{}, fmt.Errorf("stat printed %q", short(line))
	}
	mode, err1 := strconv.ParseUint(f[0], 16, 32)
	uid, err2 := strconv.Atoi(f[1])
	gid, err3 := strconv.Atoi(f[2])
	size, err4 := strconv.ParseInt(f[3], 10, 64)
	mtime, err5 := strconv.ParseInt(f[4], 10, 64)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return FileInfo{}, fmt.Errorf("stat printed %q: %w", short(line), err)
	}
	info := FileInfo{
		Type: typeOf(uint32(mode)), Mode: uint32(mode) & 0o7777, Size: size,
		UID: uid, GID: gid, Owner: "UNKNOWN", Group: "UNKNOWN", ModTime: time.Unix(mtime, 0),
	}
	if len(f) == 7 {
		info.Owner, info.Group = f[5], f[6]
	}
	return info, nil
}
