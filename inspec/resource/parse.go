package resource

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The parsers here read what an untrusted target gave; none of them fails, a
// line that makes no sense is taken as InSpec takes it.

// lines splits as Ruby's split("\n") does: trailing empty lines go away.
func lines(text string) []string {
	text = strings.TrimRight(text, "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// fields splits as Ruby's split(sep) does: trailing empty fields go away.
func fields(line, sep string) []string {
	parts := strings.Split(line, sep)
	for len(parts) > 0 && parts[len(parts)-1] == "" {
		parts = parts[:len(parts)-1]
	}
	return parts
}

// uncomment cuts a line at its first comment character, as InSpec's
// CommentParser does. With standalone a comment counts only where nothing but
// white space precedes it.
func uncomment(line, mark string, standalone bool) string {
	if mark == "" {
		return line
	}
	i := strings.Index(line, mark)
	switch {
	case i < 0:
		return line
	case standalone && strings.TrimSpace(line[:i]) != "":
		return line
	}
	return line[:i]
}

// uncommented returns the lines of text without comments, the empty ones left
// out.
func uncommented(text, mark string) []string {
	var out []string
	for _, line := range lines(text) {
		if line = uncomment(line, mark, false); strings.TrimSpace(line) != "" {
			out = append(out, line)
		}
	}
	return out
}

// pairs reads lines of "key : value", as dpkg, rpm, chage and others print what
// they know.
func pairs(text string) map[string]string {
	const space = " \t\n\f\r"
	out := map[string]string{}
	for _, line := range lines(text) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			out[strings.Trim(key, space)] = strings.Trim(value, space)
		}
	}
	return out
}

// mountEntry is one mounted file system.
type mountEntry struct {
	device, path, kind string
	options            []string
}

// parseMount reads a line of mount(8): DEVICE on PATH type KIND (OPTIONS).
func parseMount(line string) (mountEntry, bool) {
	left, right, ok := strings.Cut(line, " type ")
	if !ok {
		return mountEntry{}, false
	}
	device, path, ok := strings.Cut(left, " on ")
	if !ok {
		return mountEntry{}, false
	}
	e := mountEntry{device: device, path: path}
	words := strings.Fields(right)
	if len(words) == 0 {
		return mountEntry{}, false
	}
	e.kind = words[0]
	if len(words) > 1 {
		e.options = fields(strings.Map(func(r rune) rune {
			if r == '(' || r == ')' {
				return -1
			}
			return r
		}, words[1]), ",")
	}
	return e, true
}

// parseProcMount reads a line of /proc/mounts (proc(5)).
func parseProcMount(line string) (mountEntry, bool) {
	w := strings.Fields(line)
	if len(w) < 4 {
		return mountEntry{}, false
	}
	return mountEntry{device: unoctal(w[0]), path: unoctal(w[1]), kind: w[2], options: fields(w[3], ",")}, true
}

var octal = regexp.MustCompile(`\\[0-7]{3}`)

// unoctal decodes the \040 that stands for a space in /proc/mounts and fstab.
func unoctal(s string) string {
	return octal.ReplaceAllStringFunc(s, func(o string) string {
		n, _ := strconv.ParseUint(o[1:], 8, 8)
		return string([]byte{byte(n)})
	})
}

// fstabEntry is one line of fstab(5); dump and pass are zero when absent.
type fstabEntry struct {
	device, mountPoint, kind string
	options                  []string
	dump, pass               int64
}

// parseFstab reads fstab(5). A line without options can't be used.
func parseFstab(text string) []fstabEntry {
	var out []fstabEntry
	for _, line := range uncommented(text, "#") {
		w := strings.Fields(line)
		if len(w) < 4 {
			continue
		}
		e := fstabEntry{device: w[0], mountPoint: w[1], kind: w[2], options: fields(w[3], ",")}
		if len(w) > 4 {
			e.dump = leadingInt(w[4])
		}
		if len(w) > 5 {
			e.pass = leadingInt(w[5])
		}
		out = append(out, e)
	}
	return out
}

// leadingInt is Ruby's to_i: the number that text begins with, or 0.
func leadingInt(text string) int64 {
	text = strings.TrimSpace(text)
	end := 0
	for end < len(text) && (text[end] >= '0' && text[end] <= '9' || end == 0 && (text[0] == '-' || text[0] == '+')) {
		end++
	}
	n, _ := strconv.ParseInt(text[:end], 10, 64)
	return n
}

var (
	whole   = regexp.MustCompile(`\A[-+]?\d+\z`)
	numeric = regexp.MustCompile(`\A[-+]?(\d+\.?\d*|\.\d+)\z`)
)

func wholeNumber(text string) (int64, bool) {
	if !whole.MatchString(text) {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(text, "+"), 10, 64)
	return n, err == nil
}

func decimal(text string) (float64, bool) {
	if !numeric.MatchString(text) {
		return 0, false
	}
	f, err := strconv.ParseFloat(text, 64)
	return f, err == nil
}

// packageInfo is what a package database says of one package.
type packageInfo struct {
	name, version, arch string
	installed, held     bool
}

// parseDpkgStatus reads dpkg's database: stanzas of fields (deb-status(5)).
func parseDpkgStatus(text string) []packageInfo {
	var out []packageInfo
	var p packageInfo
	flush := func() {
		if p.name != "" {
			out = append(out, p)
		}
		p = packageInfo{}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			flush()
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok || line[0] == ' ' || line[0] == '\t' {
			continue
		}
		value = strings.TrimSpace(value)
		switch key {
		case "Package":
			p.name = value
		case "Version":
			p.version = value
		case "Architecture":
			p.arch = value
		case "Status":
			words := strings.Fields(value)
			p.held = len(words) > 0 && words[0] == "hold"
			p.installed = len(words) > 2 && words[2] == "installed"
		}
	}
	flush()
	return out
}

// parseApkInstalled reads apk's database, /lib/apk/db/installed: stanzas of
// one-letter fields.
func parseApkInstalled(text string) []packageInfo {
	var out []packageInfo
	var p packageInfo
	flush := func() {
		if p.name != "" {
			p.installed = true
			out = append(out, p)
		}
		p = packageInfo{}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case line == "":
			flush()
		case strings.HasPrefix(line, "P:"):
			p.name = line[2:]
		case strings.HasPrefix(line, "V:"):
			p.version = line[2:]
		case strings.HasPrefix(line, "A:"):
			p.arch = line[2:]
		}
	}
	flush()
	return out
}

// idInfo is what id(1) says of a user.
type idInfo struct {
	uid, gid    string
	user, group string
	groups      []string
	hasUID      bool
}

var idPart = regexp.MustCompile(`([0-9]+)(?:\(([^)]*)\))?`)

// parseID reads id's line: uid=0(root) gid=0(root) groups=0(root),1(daemon).
func parseID(line string) idInfo {
	var id idInfo
	for _, word := range strings.Split(strings.TrimSpace(line), " ") {
		key, value, _ := strings.Cut(word, "=")
		parts := idPart.FindAllStringSubmatch(value, -1)
		if len(parts) == 0 {
			continue
		}
		switch key {
		case "uid":
			id.uid, id.user, id.hasUID = parts[0][1], parts[0][2], true
		case "gid":
			id.gid, id.group = parts[0][1], parts[0][2]
		case "groups":
			for _, p := range parts {
				id.groups = append(id.groups, p[2])
			}
		}
	}
	return id
}

// process is one line of ps.
type process struct {
	label, cpu, mem, tty, stat, start, time, user, command string
	pid, vsz, rss                                          int64
	hasLabel                                               bool
}

var (
	psLine = regexp.MustCompile(`^(.+?)\s+(\d+)\s+([^ ]+)\s+([^ ]+)\s+([^ ]+)\s+([^ ]+)\s+([^ ]+)\s+([^ ]+)\s+(\w{3} \d{2}|\d{2}:\d{2}:\d{2})\s+([^ ]+)\s+([^ ]+)\s+(.*)$`)
	psBusy = regexp.MustCompile(`^\s*(\d+)\s+(\d+(?:\.\d+)?[gm]?)\s+(\d+(?:\.\d+)?[gm]?)\s+(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+(.*)$`)
)

// parsePS reads ps wwaxo label,pid,pcpu,pmem,vsz,rss,tty,stat,start,time,user:32,command.
func parsePS(text string) []process {
	var out []process
	for _, line := range afterFirst(lines(text)) {
		if m := psLine.FindStringSubmatch(line); m != nil {
			out = append(out, process{
				label: m[1], pid: leadingInt(m[2]), cpu: m[3], mem: m[4], vsz: leadingInt(m[5]), rss: leadingInt(m[6]),
				tty: m[7], stat: m[8], start: m[9], time: m[10], user: m[11], command: strings.TrimSpace(m[12]), hasLabel: true,
			})
		}
	}
	return out
}

// parseBusyPS reads busybox's ps -o pid,vsz,rss,tty,stat,time,ruser,args.
func parseBusyPS(text string) []process {
	var out []process
	for _, line := range afterFirst(lines(text)) {
		if m := psBusy.FindStringSubmatch(line); m != nil {
			out = append(out, process{
				pid: leadingInt(m[1]), vsz: kilobytes(m[2]), rss: kilobytes(m[3]), tty: m[4], stat: m[5], time: m[6], user: m[7],
				command: strings.TrimSpace(m[8]),
			})
		}
	}
	return out
}

func afterFirst(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list[1:]
}

// kilobytes reads busybox's sizes, such as 1.2g.
func kilobytes(text string) int64 {
	unit := 1.0
	switch {
	case strings.HasSuffix(text, "g"):
		unit = 1 << 20
	case strings.HasSuffix(text, "m"):
		unit = 1 << 10
	default:
		return leadingInt(text)
	}
	f, _ := strconv.ParseFloat(text[:len(text)-1], 64)
	return int64(f * unit)
}

// socket is one listening port.
type socket struct {
	port              int64
	address, protocol string
	process           string
	pid               int64
	hasProcess        bool
}

var (
	ssAddress = regexp.MustCompile(`(\S+):(\*|\d+)$`)
	ssUsers   = regexp.MustCompile(`users:\(\((.+)\)\)`)
	ssName    = regexp.MustCompile(`^"(\S+)"`)
	ssPID     = regexp.MustCompile(`pid=(\d+)`)
	digitsAll = regexp.MustCompile(`^\d+$`)
	blanks    = regexp.MustCompile(`\s+`)
)

// parseSS reads ss -tulpen.
func parseSS(text string) []socket {
	var out []socket
	for _, line := range lines(text) {
		words := blanks.Split(line, 7)
		if len(words) < 6 {
			continue
		}
		local, info := "", ""
		if digitsAll.MatchString(words[1]) {
			local, info = words[3], words[5]
		} else if len(words) == 7 {
			local, info = words[4], words[6]
		} else {
			local = words[4]
		}
		protocol := words[0]
		if strings.Contains(info, "v6only:1") {
			protocol += "6"
		}
		addr := ssAddress.FindStringSubmatch(local)
		if addr == nil || !slices.Contains([]string{"tcp", "tcp6", "udp", "udp6"}, protocol) {
			continue
		}
		s := socket{port: leadingInt(addr[2]), address: ssHost(addr[1]), protocol: protocol}
		if m := ssUsers.FindStringSubmatch(info); m != nil {
			owners := strings.Split(m[1], "),(")
			last := owners[len(owners)-1]
			if n := ssName.FindStringSubmatch(last); n != nil {
				s.process, s.hasProcess = n[1], true
			}
			if p := ssPID.FindStringSubmatch(last); p != nil {
				s.pid = leadingInt(p[1])
			}
		}
		out = append(out, s)
	}
	return out
}

func ssHost(host string) string {
	if strings.HasPrefix(host, "::ffff:") {
		host = strings.NewReplacer(":", "", "f", "").Replace(host)
	}
	host = strings.NewReplacer("[", "", "]", "").Replace(host)
	host, _, _ = strings.Cut(host, "%")
	if host == "*" {
		return "0.0.0.0"
	}
	return host
}

// parseNetstat reads netstat -tulpen.
func parseNetstat(text string) []socket {
	var out []socket
	for _, line := range lines(text) {
		w := strings.Fields(line)
		if len(w) < 6 || !strings.HasPrefix(w[0], "tcp") && !strings.HasPrefix(w[0], "udp") {
			continue
		}
		i := strings.LastIndexByte(w[3], ':')
		if i < 0 {
			continue
		}
		s := socket{port: leadingInt(w[3][i+1:]), address: w[3][:i], protocol: w[0]}
		if strings.Count(w[3], ":") > 1 && len(w[0]) == 3 {
			s.protocol += "6"
		}
		if s.address == "::" || s.address == ":::" {
			s.address = "::"
		}
		if pid, name, ok := strings.Cut(w[len(w)-1], "/"); ok {
			s.pid, s.process, s.hasProcess = leadingInt(pid), name, true
		}
		out = append(out, s)
	}
	return out
}

// parseProcNet reads /proc/net/tcp and its kin (proc_net(5)): the sockets that
// listen, or for udp are bound to no peer.
func parseProcNet(text, protocol string) []socket {
	var out []socket
	for _, line := range afterFirst(lines(text)) {
		w := strings.Fields(line)
		if len(w) < 4 {
			continue
		}
		if state := w[3]; strings.HasPrefix(protocol, "tcp") && state != "0A" || strings.HasPrefix(protocol, "udp") && state != "07" {
			continue
		}
		addr, port, ok := strings.Cut(w[1], ":")
		n, err := strconv.ParseUint(port, 16, 16)
		if !ok || err != nil {
			continue
		}
		if host, ok := procAddress(addr); ok {
			out = append(out, socket{port: int64(n), address: host, protocol: protocol})
		}
	}
	return out
}
