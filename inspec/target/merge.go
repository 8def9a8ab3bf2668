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
	split func(common string, own []string, mark string, r CommandResult) []*CommandResult
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
			if g == nil || f.maker == nil || len(g.calls) == mergeMost || slices.Contains(g.own, own) {
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
				copy(answers, f.maker.split(f.common, own, mark, g.result))
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

// notFound is all that a shell says of a program that there isn't.
var notFound = regexp.MustCompile(`^[^\n]*: [^\n]+\n$`)

// absent reports whether the shell didn't find the program, which it says of
// each command in the same words.
func absent(own []string, r CommandResult) bool {
	return r.ExitStatus == 127 && len(r.Stdout) == 0 && notFound.Match(r.Stderr) &&
		!slices.ContainsFunc(own, func(o string) bool { return bytes.Contains(r.Stderr, []byte(o)) })
}

// ended reports whether a command that complains of what isn't there, and of
// nothing else, ended as it should.
func ended(r CommandResult, complains bool) bool {
	return r.ExitStatus == 0 && !complains || complains && r.ExitStatus > 0 && r.ExitStatus < 126
}

func printed(text string) *CommandResult { return &CommandResult{Stdout: []byte(text)} }

// rpmMake asks for a package that there isn't after each one: what rpm says
// of it divides its output.
func rpmMake(_ string, names []string, mark string) string {
	return "rpm -qi " + strings.Join(names, " "+mark+" ") + " " + mark
}

// rpmSplit goes by the lines that hold mark, which are all alike. rpm fails for
// a package about which it has but one line to say, in whatever language.
func rpmSplit(_ string, names []string, mark string, r CommandResult) []*CommandResult {
	if absent(names, r) {
		return all(len(names), r)
	}
	out := make([]*CommandResult, len(names))
	missing, divider, text := len(names), "", ""
	i := 0
	for line := range strings.Lines(string(r.Stdout)) {
		if !strings.Contains(line, mark) {
			text += line
			continue
		}
		if divider == "" {
			divider = line
		}
		if i == len(names) || line != divider {
			return nil
		}
		switch n := strings.Count(text, "\n"); {
		case n == 1 && strings.Contains(text, names[i]):
			out[i] = printed(text)
			out[i].ExitStatus = 1
			missing++
		case n > 1:
			out[i] = printed(text)
		}
		i, text = i+1, ""
	}
	if i < len(names) || text != "" || len(r.Stderr) > 0 || r.ExitStatus != 1 && r.ExitStatus != min(missing, 254) {
		return nil
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
func idSplit(_ string, names []string, _ string, r CommandResult) []*CommandResult {
	if absent(names, r) {
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
	missing := len(names) - len(there)
	if strings.Count(text, "\n") != len(there) || strings.Count(complaints, "\n") != missing || !ended(r, missing > 0) {
		return nil
	}
	at := 0
	for line := range strings.Lines(text) {
		if at == len(there) || !strings.HasPrefix(line, "uid=") {
			return nil
		}
		out[there[at]] = printed(line)
		at++
	}
	return out
}

// getentSplit takes the lines that begin with the account's name.
func getentSplit(_ string, names []string, _ string, r CommandResult) []*CommandResult {
	if absent(names, r) {
		return all(len(names), r)
	}
	out := make([]*CommandResult, len(names))
	there := 0
	for line := range strings.Lines(string(r.Stdout)) {
		name, _, ok := strings.Cut(line, ":")
		i := slices.Index(names, name)
		if !ok || i < 0 || out[i] != nil || !strings.HasSuffix(line, "\n") {
			return nil
		}
		out[i] = printed(line)
		there++
	}
	if len(r.Stderr) > 0 || !ended(r, there < len(names)) {
		return nil
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
func systemctlSplit(_ string, units []string, _ string, r CommandResult) []*CommandResult {
	out := make([]*CommandResult, len(units))
	switch {
	case absent(units, r), r.ExitStatus != 0 && len(r.Stdout) == 0 && noManager.Match(r.Stderr):
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

// sysctlSplit leaves a key of several lines, and one that sysctl complains of,
// to be asked alone. A key that is a folder is answered by what is in it.
func sysctlSplit(_ string, keys []string, _ string, r CommandResult) []*CommandResult {
	if absent(keys, r) {
		return all(len(keys), r)
	}
	out := make([]*CommandResult, len(keys))
	alone := make([]bool, len(keys))
	for line := range strings.Lines(string(r.Stdout)) {
		key, value, ok := strings.Cut(line, " = ")
		i := slices.Index(keys, key)
		if !ok || i < 0 || !strings.HasSuffix(value, "\n") {
			return nil
		}
		alone[i] = out[i] != nil
		out[i] = printed(value)
	}
	for line := range strings.Lines(string(r.Stderr)) {
		known := false
		for i, key := range keys {
			if strings.Contains(strings.ReplaceAll(line, "/", "."), key) {
				known, alone[i] = true, true
			}
		}
		if !known {
			return nil
		}
	}
	if !ended(r, len(r.Stderr) > 0) {
		return nil
	}
	for i, key := range keys {
		if alone[i] || slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(k, key+".") }) {
			out[i] = nil
		}
	}
	return out
}

// What stands before a pipe's last command runs once for all of a family, so it
// must be what changes nothing: programs that read, by name, and filters.
var reads = func() *regexp.Regexp {
	const words = `(?: +(?:[^;&|<>$()#'"\s` + "`" + `]|'[^']*'|"[^"$\\` + "`" + `]*")+)*`
	return regexp.MustCompile(`^ *(?:LC_ALL=C +|LANG=C +)?(?:sudo +)?(?:/[\w./-]*/)?(?:` + strings.Join([]string{
		`(?:cat|cut|df|egrep|fgrep|findmnt|getent|grep|head|ls|lsblk|lscpu|lspci|readlink|stat|tail|tr|wc|dpkg-query|sestatus)` + words,
		`(?:aa-status|apparmor_status|crontab +-l|dmesg|getenforce|lsmod|mount|sshd +-T|sysctl +-a)`,
		`auditctl +-[ls]`,
		`awk(?: +-F *(?:[:,;]|'[^']'))? +'[^'|>]*'` + words,
		`dpkg +(?:-[lLsS]|--list|--get-selections)` + words,
		`ip6?tables +-[LS](?: +-[nv]+)*`,
		`ip +(?:link|addr|address|route)(?: +show)?`,
		`modprobe +(?:-c|--showconfig)`,
		`nft +list +ruleset`,
		`(?:resolvectl|timedatectl)(?: +(?:status|show))?`,
		`rpm +-(?:q\w*|V\w*)(?: +[\w.+][\w.+-]*)*`,
		`sort(?: +-[bdfghinrsuV]+)*`,
		`systemctl +(?:list-[\w-]+|show|status|cat|is-\w+|get-default)` + words,
		`systemd-sysctl +--cat-config`,
		`uniq(?: +-[cdiu]+)*`,
	}, "|") + `)(?: +2> ?/dev/null)? *$`)
}()

// awkActs is what lets awk run programs.
var awkActs = regexp.MustCompile(`\bawk\b.*\b(?:system|getline)\b`)

// onlyReads reports whether each of a pipe's commands is one of reads.
func onlyReads(pipe []string) bool {
	for _, element := range pipe {
		if !reads.MatchString(element) || awkActs.MatchString(element) {
			return false
		}
	}
	return true
}

// pipeOf divides a command at each | that isn't quoted.
func pipeOf(cmd string) (elements []string) {
	from := 0
	for i := 0; i < len(cmd); i++ {
		switch c := cmd[i]; c {
		case '\\':
			i++
		case '\'', '"':
			end := strings.IndexByte(cmd[i+1:], c)
			if end < 0 || c == '"' && strings.Contains(cmd[i+1:i+1+end], `\`) {
				return nil
			}
			i += 1 + end
		case '|':
			elements = append(elements, cmd[from:i])
			from = i + 1
		}
	}
	return append(elements, cmd[from:])
}

// A find that tests files and prints the names of some: where it looks, the
// tests, and what it does. The tests are those that have no effect and no limit
// on where to look.
var finds = func() *regexp.Regexp {
	const value = `(?:'[^']*'|"[^"$\\` + "`" + `]*"|[\w./+-]+)`
	const tests = `(?: +(?:!|-not|\\\(|\\\)|-o|-a|-(?:type|perm|user|group|uid|gid|i?name) +` + value + `))*`
	return regexp.MustCompile(`^ *((?:xargs -I *'?\{\}'? +)?find(?: +-[LHP])?((?: +(?:[\w/.][\w./-]*|'\{\}'))+)(?: +-xdev)?)(` + tests + `)( +-print| +-exec +ls -d \{\} \\;)? *(2> ?/dev/null)? *$`)
}()

// findTake leaves out a find for each of several places, of which each could
// do something else with {}.
func findTake(cmd string) (common, own string, ok bool) {
	pipe := pipeOf(cmd)
	if pipe == nil || !onlyReads(pipe[:len(pipe)-1]) {
		return "", "", false
	}
	m := finds.FindStringSubmatch(pipe[len(pipe)-1])
	if m == nil || strings.TrimSpace(m[3]) == "" || !balanced(m[3]) {
		return "", "", false
	}
	each := strings.HasPrefix(m[1], "xargs")
	if each != strings.Contains(m[2], "{}") || each != (len(pipe) > 1) || each && (strings.Contains(m[3], "{}") || strings.Contains(m[4], "{}")) {
		return "", "", false
	}
	before := cmd[:len(cmd)-len(pipe[len(pipe)-1])]
	return before + m[1], strings.Join([]string{m[3], m[4], m[5]}, "\x00"), true
}

// balanced reports whether each parenthesis has its other one.
func balanced(tests string) bool {
	depth := 0
	for _, word := range strings.Fields(tests) {
		switch word {
		case `\(`:
			depth++
		case `\)`:
			depth--
		}
		if depth < 0 {
			return false
		}
	}
	return depth == 0
}

// exitUnlike is how a merged command says that here it wouldn't do what its
// parts do.
const exitUnlike = "exit 125; "

// findMake has find look everywhere once and tell with each name whose it is.
func findMake(common string, own []string, _ string) string {
	var b strings.Builder
	if strings.Contains(strings.Join(own, ""), "-exec") {
		// ls prints a name as it is.
		b.WriteString(`{ [ -z "${QUOTING_STYLE+x}" ] && command -v ls >/dev/null; } || ` + exitUnlike)
	}
	b.WriteString(common)
	for i, o := range own {
		f := strings.Split(o, "\x00")
		tests := f[0]
		if f[1] == "" {
			tests = ` \(` + tests + ` \)`
		}
		if i > 0 {
			b.WriteString(" ,")
		}
		fmt.Fprintf(&b, ` \(%s -printf '%d %%p\0' \)`, tests, i)
	}
	return b.String()
}

// cantLook is what find says of a place.
var cantLook = regexp.MustCompile("^(?:\\S*/)?find: (?:‘([^’]*)’|'([^']*)'|`([^']*)'): [^\n]*\n$")

// findSplit takes what find says of a place that it was told, for every find of
// the family says it. What it says of a file depends on the tests.
func findSplit(common string, own []string, _ string, r CommandResult) []*CommandResult {
	out := all(len(own), CommandResult{Stderr: r.Stderr, ExitStatus: r.ExitStatus})
	for i, o := range own {
		if !strings.HasSuffix(o, "\x00") {
			out[i].Stderr = nil // thrown away
		}
	}
	if absent(nil, r) {
		return out
	}
	pipe := pipeOf(common)
	places := strings.Fields(finds.FindStringSubmatch(pipe[len(pipe)-1])[2])
	for line := range strings.Lines(string(r.Stderr)) {
		m := cantLook.FindStringSubmatch(line)
		if m == nil || !slices.Contains(places, m[1]+m[2]+m[3]) {
			return nil
		}
	}
	if !ended(r, len(r.Stderr) > 0) || len(r.Stdout) > 0 && r.Stdout[len(r.Stdout)-1] != 0 {
		return nil
	}
	for name := range bytes.SplitSeq(bytes.TrimSuffix(r.Stdout, []byte{0}), []byte{0}) {
		n, name, ok := bytes.Cut(name, []byte(" "))
		i, err := strconv.Atoi(string(n))
		switch {
		case !ok && len(r.Stdout) == 0:
		case !ok || err != nil || i < 0 || i >= len(out):
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

// filterTake divides a pipe before its last command.
func filterTake(cmd string) (common, own string, ok bool) {
	pipe := pipeOf(cmd)
	if len(pipe) < 2 || !onlyReads(pipe[:len(pipe)-1]) {
		return "", "", false
	}
	own = pipe[len(pipe)-1]
	if _, err := grepOf(own); err != nil {
		return "", "", false
	}
	return strings.TrimRight(cmd[:len(cmd)-len(own)-1], " "), own, true
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
// has a grep at all and nothing tells it to be another one.
func filterMake(common string, _ []string, _ string) string {
	return `{ [ -z "${GREP_OPTIONS+x}" ] && command -v grep >/dev/null; } || ` + exitUnlike + common
}

// filterSplit does what grep does with text of ASCII; other text it takes for
// binary, or not, by the locale.
func filterSplit(_ string, own []string, _ string, r CommandResult) []*CommandResult {
	if r.ExitStatus >= 125 || bytes.ContainsFunc(r.Stdout, func(c rune) bool { return c == 0 || c > 126 }) {
		return nil
	}
	out := make([]*CommandResult, len(own))
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
