package target

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// What a profile asks of a target comes in families: thirty times rpm -qi of
// another package, thirty times another line of what one program lists. A
// family's commands that wait at the same time are run as one. Its output is
// divided only where it shows beyond doubt whose each part is, and each command
// then has the very answer that it would have had alone; else each is run by
// itself.

// family is what commands have in common that one command can answer.
type family struct {
	maker  *maker
	common string
}

// maker makes one command of several.
type maker struct {
	name string
	// take finds the family's common part in a command and the command's own,
	// which split gets back.
	take func(cmd string) (common, own string, ok bool)
	// make writes the command that answers for all of own.
	make func(common string, own []string, mark string) string
	// split returns an answer for each of own, nil for what must be asked
	// alone.
	split func(own []string, mark string, r CommandResult) []*CommandResult
}

// mergeMost bounds how many commands become one.
const mergeMost = 200

var makers = []*maker{
	{name: "rpm", take: takes(`^rpm -qi ([A-Za-z0-9][\w.+-]*)$`), make: rpmMake, split: rpmSplit},
	{name: "id", take: takes(`^id '([A-Za-z_][\w.-]*)'$`), make: listMake("id"), split: idSplit},
	{name: "getent", take: takes(`^getent passwd '([A-Za-z_][\w.-]*)'$`), make: listMake("getent passwd"), split: getentSplit},
	{name: "systemctl", take: takes(`^systemctl show --no-pager --all (\w[\w.@-]*)$`), make: systemctlMake, split: systemctlSplit},
	{name: "sysctl", take: takes(`^/sbin/sysctl -q -n (\w[\w.-]*)$`), make: sysctlMake, split: sysctlSplit},
	{name: "find", take: findTake, make: findMake, split: findSplit},
	{name: "filter", take: filterTake, make: filterMake, split: filterSplit},
}

// familyOf says which family cmd belongs to; its maker is nil for none.
func familyOf(cmd string) (f family, own string) {
	for _, m := range makers {
		if common, own, ok := m.take(cmd); ok {
			return family{m, common}, own
		}
	}
	return family{}, ""
}

// takes reads a command that is one pattern; its group is what is the
// command's own.
func takes(pattern string) func(string) (string, string, bool) {
	re := regexp.MustCompile(pattern)
	return func(cmd string) (string, string, bool) {
		m := re.FindStringSubmatch(cmd)
		if m == nil {
			return "", "", false
		}
		return "", m[1], true
	}
}

// merged puts those of calls together that belong to one family and end with
// the same context. Those whose answer can't be divided are handed to again,
// and aren't merged any more.
func merged(calls []*call, again func([]*call)) []*call {
	type key struct {
		family
		ctx context.Context
	}
	type group struct {
		family family
		calls  []*call
		own    []string
	}
	open := map[key]*group{}
	var groups []*group
	for _, c := range calls {
		parts := c.parts
		if parts == nil {
			parts = []*call{c}
		}
		for _, c := range parts {
			var f family
			var own string
			if c.op == opRun && !c.apart {
				f, own = familyOf(c.what)
			}
			k := key{f, c.ctx}
			g := open[k]
			if g == nil || f.maker == nil || len(g.calls) == mergeMost {
				g = &group{family: f}
				open[k] = g
				groups = append(groups, g)
			}
			g.calls, g.own = append(g.calls, c), append(g.own, own)
		}
	}
	out := make([]*call, 0, len(groups))
	for _, g := range groups {
		if len(g.calls) == 1 {
			out = append(out, g.calls...)
		} else {
			out = append(out, g.family.merge(g.calls, g.own, again))
		}
	}
	return out
}

// merge makes one call of several.
func (f family) merge(calls []*call, own []string, again func([]*call)) *call {
	var random [8]byte
	rand.Read(random[:])
	mark := "reeve-" + hex.EncodeToString(random[:])
	return &call{
		question: question{op: opRun, what: f.maker.make(f.common, own, mark)},
		ctx:      calls[0].ctx,
		kind:     calls[0].kind,
		parts:    calls,
		answered: func(g *call) {
			var alone []*call
			answers := make([]*CommandResult, len(calls))
			if g.err == nil {
				copy(answers, f.maker.split(own, mark, g.result))
			}
			for i, c := range calls {
				switch {
				case answers[i] != nil:
					c.result = *answers[i]
					c.answered(c)
				case g.err != nil && !ownLimit(g.err):
					c.err = g.err
					c.answered(c)
				default:
					c.apart = true
					alone = append(alone, c)
				}
			}
			if len(alone) > 0 {
				again(alone)
			}
		},
	}
}

// ownLimit reports whether err is one command's and needn't be another's.
func ownLimit(err error) bool {
	var late *TimeoutError
	var much *OutputError
	return errors.As(err, &late) || errors.As(err, &much)
}

// all gives n commands the same answer.
func all(n int, r CommandResult) []*CommandResult {
	out := make([]*CommandResult, n)
	for i := range out {
		out[i] = &CommandResult{Stdout: bytes.Clone(r.Stdout), Stderr: bytes.Clone(r.Stderr), ExitStatus: r.ExitStatus}
	}
	return out
}

// absent reports whether the shell didn't find the program, which it says of
// each command in the same words.
func absent(r CommandResult) bool { return r.ExitStatus == 127 && len(r.Stdout) == 0 }

func printed(text string) *CommandResult { return &CommandResult{Stdout: []byte(text)} }

// rpmMake asks for a package that there isn't after each one: what rpm says
// of it divides its output.
func rpmMake(_ string, names []string, mark string) string {
	return "rpm -qi " + strings.Join(names, " "+mark+" ") + " " + mark
}

// rpmSplit goes by the lines that hold mark. rpm fails for a package about
// which it has but one line to say, in whatever language.
func rpmSplit(names []string, mark string, r CommandResult) []*CommandResult {
	if absent(r) {
		return all(len(names), r)
	}
	out := make([]*CommandResult, len(names))
	if len(r.Stderr) > 0 {
		return out
	}
	i, text := 0, ""
	for line := range strings.Lines(string(r.Stdout)) {
		if !strings.Contains(line, mark) {
			text += line
			continue
		}
		if i == len(names) {
			return make([]*CommandResult, len(names))
		}
		switch n := strings.Count(text, "\n"); {
		case n == 1 && strings.Contains(text, names[i]):
			out[i] = printed(text)
			out[i].ExitStatus = 1
		case n > 1:
			out[i] = printed(text)
		}
		i, text = i+1, ""
	}
	if i < len(names) || text != "" {
		return make([]*CommandResult, len(names))
	}
	return out
}

// listMake is for programs that take several names.
func listMake(program string) func(string, []string, string) string {
	return func(_ string, names []string, _ string) string {
		return program + " '" + strings.Join(names, "' '") + "'"
	}
}

// idSplit takes a line for each account, in order, but for those that id
// complains of by name.
func idSplit(names []string, _ string, r CommandResult) []*CommandResult {
	if absent(r) {
		return all(len(names), r)
	}
	out := make([]*CommandResult, len(names))
	text, complaints := string(r.Stdout), string(r.Stderr)
	var there []int
	for i, name := range names {
		if !strings.Contains(complaints, "‘"+name+"’") && !strings.Contains(complaints, "'"+name+"'") {
			there = append(there, i)
		}
	}
	if strings.Count(text, "\n") != len(there) || strings.Count(complaints, "\n") != len(names)-len(there) {
		return out
	}
	at := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "uid=") {
			return make([]*CommandResult, len(names))
		}
		out[there[at]] = printed(line)
		at++
	}
	return out
}

// getentSplit takes the lines that begin with the account's name.
func getentSplit(names []string, _ string, r CommandResult) []*CommandResult {
	if absent(r) {
		return all(len(names), r)
	}
	out := make([]*CommandResult, len(names))
	for line := range strings.Lines(string(r.Stdout)) {
		name, _, ok := strings.Cut(line, ":")
		i := slices.Index(names, name)
		if !ok || i < 0 || out[i] != nil || !strings.HasSuffix(line, "\n") {
			return make([]*CommandResult, len(names))
		}
		out[i] = printed(line)
	}
	return out
}

func systemctlMake(_ string, units []string, _ string) string {
	return "systemctl show --no-pager --all " + strings.Join(units, " ")
}

// noManager is what systemctl says of any unit where systemd doesn't run.
var noManager = regexp.MustCompile(`^(System has not been booted with systemd|Failed to connect to bus|Failed to get D-Bus connection)`)

// systemctlSplit divides at empty lines or, where there is none, where the
// first property comes again; each part must name its unit.
func systemctlSplit(units []string, _ string, r CommandResult) []*CommandResult {
	out := make([]*CommandResult, len(units))
	switch {
	case absent(r), r.ExitStatus != 0 && len(r.Stdout) == 0 && noManager.Match(r.Stderr):
		return all(len(units), r)
	case r.ExitStatus != 0 || len(r.Stderr) > 0 || !bytes.HasSuffix(r.Stdout, []byte("\n")):
		return out
	}
	text := string(r.Stdout)
	blocks := strings.Split(strings.TrimSuffix(text, "\n"), "\n\n")
	if first, _, ok := strings.Cut(text, "="); ok && len(blocks) == 1 {
		blocks = strings.Split(strings.TrimSuffix(text, "\n"), "\n"+first+"=")
		for i := range blocks[1:] {
			blocks[i+1] = first + "=" + blocks[i+1]
		}
	}
	if len(blocks) != len(units) {
		return out
	}
	for i, b := range blocks {
		names := regexp.MustCompile(`(?m)^(?:Names|Id)=(.*)$`).FindAllStringSubmatch(b, -1)
		if !slices.ContainsFunc(names, func(m []string) bool {
			all := strings.Fields(m[1])
			return slices.Contains(all, units[i]) || slices.Contains(all, units[i]+".service")
		}) {
			return make([]*CommandResult, len(units))
		}
		out[i] = printed(b + "\n")
	}
	return out
}

// sysctlMake leaves out -n, so that sysctl says whose each value is.
func sysctlMake(_ string, keys []string, _ string) string {
	return "/sbin/sysctl -q " + strings.Join(keys, " ")
}

func sysctlSplit(keys []string, _ string, r CommandResult) []*CommandResult {
	if absent(r) {
		return all(len(keys), r)
	}
	out := make([]*CommandResult, len(keys))
	for line := range strings.Lines(string(r.Stdout)) {
		key, value, ok := strings.Cut(line, " = ")
		i := slices.Index(keys, key)
		switch {
		case !ok || i < 0:
			return make([]*CommandResult, len(keys))
		case out[i] == nil:
			out[i] = &CommandResult{}
		}
		out[i].Stdout = append(out[i].Stdout, value...)
	}
	for i, key := range keys {
		if complaint := strings.ReplaceAll(string(r.Stderr), "/", "."); strings.Contains(complaint, key) {
			out[i] = nil
		}
	}
	return out
}

// A find that tests files and prints the names of some: where it looks, the
// tests, and what it does. The tests are those that have no effect, no limit
// on where to look, and no complaint of their own.
var finds = func() *regexp.Regexp {
	const value = `(?:'[^']*'|"[^"$\\` + "`" + `]*"|[\w./+-]+)`
	const tests = `(?: +(?:!|-not|\\\(|\\\)|-o|-a|-(?:type|perm|user|group|uid|gid|i?name) +` + value + `))*`
	return regexp.MustCompile(`^((?:[^;&<>\n]*\| *xargs -I *'?\{\}'? +)?find(?: +-[LHP])?(?: +(?:[\w/.][\w./-]*|'\{\}'))+(?: +-xdev)?)(` + tests + `)( +-print| +-exec +ls -d \{\} \\;)? *(2> ?/dev/null)? *$`)
}()

func findTake(cmd string) (common, own string, ok bool) {
	m := finds.FindStringSubmatch(cmd)
	if m == nil || strings.TrimSpace(m[2]) == "" {
		return "", "", false
	}
	tests := m[2]
	if m[3] == "" {
		tests = ` \(` + tests + ` \)`
	}
	return m[1], tests + "\x00" + m[4], true
}

// findMake has find look everywhere once and tell with each name whose it is.
func findMake(common string, own []string, _ string) string {
	var b strings.Builder
	b.WriteString(common)
	for i, o := range own {
		tests, _, _ := strings.Cut(o, "\x00")
		if i > 0 {
			b.WriteString(" ,")
		}
		fmt.Fprintf(&b, ` \(%s -printf '%d %%p\0' \)`, tests, i)
	}
	return b.String()
}

// cantSearch is what find says of a place; every find of the family says it.
var cantSearch = regexp.MustCompile("^(?:(?:\\S*/)?find: (?:‘[^’]*’|'[^']*'|`[^']*'): [^\n]*\n)*$")

func findSplit(own []string, _ string, r CommandResult) []*CommandResult {
	if absent(r) {
		return all(len(own), r)
	}
	if !cantSearch.Match(r.Stderr) || len(r.Stdout) > 0 && r.Stdout[len(r.Stdout)-1] != 0 {
		return nil
	}
	out := all(len(own), CommandResult{Stderr: r.Stderr, ExitStatus: r.ExitStatus})
	for i, o := range own {
		if !strings.HasSuffix(o, "\x00") {
			out[i].Stderr = nil
		}
	}
	for name := range bytes.SplitSeq(bytes.TrimSuffix(r.Stdout, []byte{0}), []byte{0}) {
		n, name, ok := bytes.Cut(name, []byte(" "))
		i, err := strconv.Atoi(string(n))
		switch {
		case !ok && len(r.Stdout) == 0:
		case !ok || err != nil || i >= len(out):
			return nil
		default:
			out[i].Stdout = append(append(out[i].Stdout, name...), '\n')
		}
	}
	return out
}

// A grep at the end of a pipe that any matcher does the same way: for a fixed
// string, or an expression in which nothing but . ^ and $ is special.
var (
	greps   = regexp.MustCompile(`^ *grep((?: +-[FiEv]+)*) +([\w./:=,@%+][\w./:=,@%+-]*|'[^'\n]*'|"[^"\n$\\` + "`" + `]*") *$`)
	plainRe = regexp.MustCompile(`^\^?[\w ./:=,@%-]*\$?$`)
)

// filterTake divides a pipe before its last command. What has other commands
// beside the pipe isn't one.
func filterTake(cmd string) (common, own string, ok bool) {
	i := lastPipe(cmd)
	if i < 0 {
		return "", "", false
	}
	common, own = strings.TrimRight(cmd[:i], " "), cmd[i+1:]
	if _, err := grepOf(own); err != nil || common == "" {
		return "", "", false
	}
	return common, own, true
}

// lastPipe is the index of the last | of a command that is one pipe; -1 for
// any other command.
func lastPipe(cmd string) int {
	last := -1
	for i := 0; i < len(cmd); i++ {
		switch c := cmd[i]; c {
		case '\\':
			i++
		case '\'', '"':
			end := strings.IndexByte(cmd[i+1:], c)
			if end < 0 || c == '"' && strings.ContainsAny(cmd[i+1:i+1+end], "\\`$") {
				return -1
			}
			i += 1 + end
		case '|':
			if i+1 < len(cmd) && (cmd[i+1] == '|' || cmd[i+1] == '&') {
				return -1
			}
			last = i
		case '>':
			if !strings.HasSuffix(cmd[:i], " 2") || !strings.HasPrefix(strings.TrimLeft(cmd[i+1:], " "), "/dev/null") {
				return -1
			}
		case ';', '&', '<', '(', ')', '`', '\n', '#', '!':
			return -1
		case '$':
			if i+1 < len(cmd) && (cmd[i+1] == '(' || cmd[i+1] == '{') {
				return -1
			}
		}
	}
	return last
}

// grepOf reads a grep.
func grepOf(text string) (match func(line string) bool, err error) {
	m := greps.FindStringSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("not a plain grep: %s", text)
	}
	flags, word := m[1], m[2]
	if c := word[0]; c == '\'' || c == '"' {
		word = word[1 : len(word)-1]
	}
	expr := word
	switch {
	case strings.HasPrefix(word, "-") || strings.ContainsFunc(word, func(r rune) bool { return r > 126 || r < ' ' }):
		return nil, fmt.Errorf("not a plain grep: %s", text)
	case strings.Contains(flags, "F"):
		expr = regexp.QuoteMeta(word)
	case !plainRe.MatchString(word):
		return nil, fmt.Errorf("not a plain grep: %s", text)
	}
	if strings.Contains(flags, "i") {
		expr = "(?i)" + expr
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	invert := strings.Contains(flags, "v")
	return func(line string) bool { return re.MatchString(line) != invert }, nil
}

// filterMake leaves the last command of the pipe to filterSplit, if the target
// has a grep at all.
func filterMake(common string, _ []string, _ string) string {
	return "command -v grep >/dev/null || exit 127; " + common
}

// filterSplit does what grep does with text of ASCII; other text it takes for
// binary, or not, by the locale.
func filterSplit(own []string, _ string, r CommandResult) []*CommandResult {
	out := make([]*CommandResult, len(own))
	if absent(r) || bytes.ContainsFunc(r.Stdout, func(c rune) bool { return c == 0 || c > 126 }) {
		return out
	}
	for i, o := range own {
		match, err := grepOf(o)
		if err != nil {
			continue
		}
		a := &CommandResult{Stderr: bytes.Clone(r.Stderr), ExitStatus: 1}
		for line := range strings.Lines(string(r.Stdout)) {
			line = strings.TrimSuffix(line, "\n")
			if match(line) {
				a.Stdout, a.ExitStatus = append(append(a.Stdout, line...), '\n'), 0
			}
		}
		out[i] = a
	}
	return out
}
