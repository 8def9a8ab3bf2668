package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The functions that look at files end with these statuses.
const (
	statusMissing = 90 + iota
	statusForbidden
	statusNoTool
	statusDirectory
	statusNotRegular
	statusNotDirectory
)

// fileFunctions look at $p, or at their arguments, by builtins as far as they
// can. reeve_at says whether the path is there: forbidden when the nearest
// directory above it may not be searched. reeve_stats prints a status for each
// of its arguments, and then what stat says of those that are there.
// reeve_reads prints the status of each, then the sizes of those that can be
// read, then what head gives of them, which puts each one's name before it.
const fileFunctions = `reeve_at() {
if [ -e "$p" ] || [ -L "$p" ]; then return 0; fi
reeve_d=$p
while reeve_d=${reeve_d%/*}; [ -n "$reeve_d" ]; do
if [ -d "$reeve_d" ]; then [ -x "$reeve_d" ] || return 91; break; fi
done
return 90
}
reeve_stats() {
command -v stat >/dev/null || return 92
reeve_l=$1
shift
reeve_n=$#
for p do
if reeve_at; then
if [ -z "$reeve_l" ] || [ -e "$p" ]; then echo 0; set -- "$@" "$p"; else echo 90; fi
else echo $?
fi
done
shift $reeve_n
[ $# -eq 0 ] || stat $reeve_l -c '%f %u %g %s %Y %U %G' "$@"
}
reeve_able() {
reeve_at || return
[ -e "$p" ] || return 90
[ ! -d "$p" ] || return 93
[ -f "$p" ] || return 94
[ -r "$p" ] || return 91
}
reeve_reads() {
command -v stat >/dev/null && command -v head >/dev/null || return 92
reeve_l=$1
shift
reeve_n=$#
for p do
if reeve_able; then echo 0; set -- "$@" "$p"; else echo $?; fi
done
shift $reeve_n
[ $# -eq 0 ] || { stat -L -c %s "$@" && head -c $reeve_l "$@" /dev/null; }
}
reeve_read() {
reeve_able || return
if command -v head >/dev/null; then head -c $1 "$p"; return; fi
command -v cat >/dev/null || return 92
cat "$p"
}
reeve_list() {
reeve_at || return
[ -d "$p" ] || return 95
[ -r "$p" ] || return 91
(cd "$p" || exit 91
for f in * .*; do
case $f in .|..) continue;; esac
if [ -e "$f" ] || [ -L "$f" ]; then printf '%s\0' "$f"; fi
done)
}
reeve_readlink() {
reeve_at || return
[ -L "$p" ] || return 94
command -v readlink >/dev/null || return 92
readlink "$p"
}
`

// function is the call of one of fileFunctions that answers c.
func (c *call) function() string {
	switch c.op {
	case opStat, opLstat:
		flag, words := "-L", []string{}
		if c.op == opLstat {
			flag = ""
		}
		for _, m := range append(c.members, c) {
			if m.what != "" {
				words = append(words, Quote(m.what))
			}
		}
		return "reeve_stats '" + flag + "' " + strings.Join(words, " ")
	case opRead:
		if c.members != nil {
			words := make([]string, len(c.members))
			for i, m := range c.members {
				words[i] = Quote(m.what)
			}
			return fmt.Sprintf("reeve_reads %d %s", c.limit+1, strings.Join(words, " "))
		}
		return fmt.Sprintf("p=%s; reeve_read %d", Quote(c.what), c.limit+1)
	case opList:
		return "p=" + Quote(c.what) + "; reeve_list"
	}
	return "p=" + Quote(c.what) + "; reeve_readlink"
}

// together makes one question of all looks at files by stat, since one process
// can answer them, and one of all files to read.
func together(calls []*call) []*call {
	var out []*call
	groups := map[question]*call{}
	for _, c := range calls {
		alone := c.apart || c.members != nil
		switch c.op {
		case opStat, opLstat:
		case opRead:
			alone = alone || !readTogether.MatchString(c.what) || strings.HasPrefix(c.what, "/proc/") || strings.HasPrefix(c.what, "/sys/")
		default:
			alone = true
		}
		if alone {
			out = append(out, c)
			continue
		}
		k := question{op: c.op, limit: c.limit}
		g := groups[k]
		if g == nil {
			g = &call{question: k, ctx: c.ctx}
			groups[k] = g
			out = append(out, g)
		}
		g.members = append(g.members, c)
	}
	return out
}

// readTogether are the names that every head prints as they are. What is below
// /proc and /sys doesn't have the size that stat says.
var readTogether = regexp.MustCompile(`^/[!-~]+$`)

// resolve gives the members of a group their answers and returns those that
// must be asked by themselves: all of them when what stat printed doesn't tell
// which line is whose, or when it hung.
func (c *call) resolve(err error) (apart []*call) {
	if c.op == opRead {
		if err != nil || !c.resolveReads() {
			for _, m := range c.members {
				m.apart = true
			}
			return c.members
		}
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(string(c.result.Stdout), "\n"), "\n")
	n := len(c.members)
	there := 0
	for i := 0; i < n && i < len(lines); i++ {
		if lines[i] == "0" {
			there++
		}
	}
	if err != nil || c.result.ExitStatus != 0 || len(lines) != n+there {
		for _, m := range c.members {
			m.apart = true
		}
		return c.members
	}
	rest := lines[n:]
	for i, m := range c.members {
		if lines[i] == "0" {
			m.result.Stdout = []byte("0\n" + rest[0])
			rest = rest[1:]
		} else {
			m.result.Stdout = []byte(lines[i])
		}
		m.answered(m)
	}
	return nil
}

// resolveReads gives the members of a group their contents if each lies where
// the sizes say, between the headings; otherwise it does nothing.
func (c *call) resolveReads() bool {
	if c.result.ExitStatus != 0 {
		return false
	}
	rest := c.result.Stdout
	number := func() (int, bool) {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		n, err := strconv.Atoi(string(line))
		rest = after
		return n, ok && err == nil && n >= 0
	}
	results := make([]CommandResult, len(c.members))
	var there []int
	for i := range c.members {
		status, ok := number()
		if !ok {
			return false
		}
		results[i].ExitStatus = status
		if status == 0 {
			there = append(there, i)
		}
	}
	sizes := make([]int, len(there))
	for i := range there {
		var ok bool
		if sizes[i], ok = number(); !ok || int64(sizes[i]) > c.limit {
			return false
		}
	}
	sep := ""
	for i, at := range there {
		after, ok := bytes.CutPrefix(rest, []byte(sep+"==> "+c.members[at].what+" <==\n"))
		if !ok || len(after) < sizes[i] {
			return false
		}
		results[at].Stdout, rest, sep = after[:sizes[i]:sizes[i]], after[sizes[i]:], "\n"
	}
	if len(there) > 0 && string(rest) != "\n==> /dev/null <==\n" || len(there) == 0 && len(rest) > 0 {
		return false
	}
	for i, m := range c.members {
		m.result = results[i]
		m.answered(m)
	}
	return true
}

func (t *shells) Stat(ctx context.Context, name string, follow bool) (FileInfo, error) {
	op := opLstat
	if follow {
		op = opStat
	}
	return answerOf[FileInfo](t, ctx, question{op: op, what: name})
}

func (t *shells) ReadFile(ctx context.Context, name string, limit int64) ([]byte, error) {
	return answerOf[[]byte](t, ctx, question{op: opRead, what: name, limit: limit})
}

func (t *shells) ReadDir(ctx context.Context, name string) ([]string, error) {
	return answerOf[[]string](t, ctx, question{op: opList, what: name})
}

func (t *shells) Readlink(ctx context.Context, name string) (string, error) {
	return answerOf[string](t, ctx, question{op: opReadlink, what: name})
}

// takes reports that every question goes through the shells.
func (t *shells) takes(question) bool { return true }

// refuse says why q can't be asked, if it can't.
func (t *shells) refuse(q question) error {
	if t.refusal != nil {
		if err := t.refusal(q.what); err != nil {
			return err
		}
	}
	switch {
	case q.op == opRun && strings.ContainsRune(q.what, 0):
		return errNUL(q.what)
	case q.op == opRun:
		return nil
	case !strings.HasPrefix(q.what, "/"):
		return pathError(q.verb(), q.what, errors.New("a path in a target must begin with /"))
	case strings.ContainsRune(q.what, 0):
		return pathError(q.verb(), q.what, syscall.EINVAL)
	}
	return nil
}

// verb is what errors call a question about a file.
func (q question) verb() string {
	if q.op == opLstat {
		return opStat
	}
	return q.op
}

// answer reads what a shell said to c.
func (t *shells) answer(c *call) (any, error) {
	if c.err != nil {
		return c.result, c.err
	}
	out, status := c.result, c.result.ExitStatus
	if c.op == opRun {
		return out, nil
	}
	text := strings.TrimSuffix(string(out.Stdout), "\n")
	if c.op == opStat || c.op == opLstat {
		first, rest, _ := strings.Cut(text, "\n")
		if n, err := strconv.Atoi(first); err == nil && n != 0 {
			status = n
		}
		text = rest
	}
	if status == 0 {
		switch c.op {
		case opRead:
			if int64(len(out.Stdout)) > c.limit {
				return nil, &OutputError{What: "file " + c.what, Limit: c.limit}
			}
			return out.Stdout, nil
		case opList:
			return listed(out.Stdout), nil
		case opReadlink:
			return text, nil
		}
		info, err := parseStat(text)
		if err != nil {
			return nil, pathError(c.verb(), c.what, err)
		}
		return info, nil
	}
	var err error
	switch status {
	case statusMissing:
		err = fs.ErrNotExist
	case statusForbidden:
		err = fs.ErrPermission
	case statusNoTool:
		err = fmt.Errorf("the target has no %s program, which is needed for this", map[string]string{opStat: "stat", opLstat: "stat", opReadlink: "readlink", opRead: "cat"}[c.op])
	case statusDirectory:
		err = syscall.EISDIR
	case statusNotRegular:
		err = notRegular(false)
	case statusNotDirectory:
		err = syscall.ENOTDIR
	default:
		err = fmt.Errorf("the target's own program failed with status %d", status)
	}
	return nil, pathError(c.verb(), c.what, err)
}

// listed splits names that end with a NUL each.
func listed(data []byte) []string {
	var names []string
	for name := range bytes.SplitSeq(data, []byte{0}) {
		if len(name) > 0 {
			names = append(names, string(name))
		}
	}
	slices.Sort(names)
	return names
}

// parseStat reads one line of stat.
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
