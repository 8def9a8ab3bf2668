package resource

import (
	"path"
	"strconv"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

type processesRes struct {
	title string
	rows  []*ruby.Hash
}

type portRes struct {
	ip   string
	port ruby.Value // nil for all
	rows []*ruby.Hash
	read bool
}

func defineProcess(s *Set) {
	k := s.define("processes", "Processes", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		return s.processes(c)
	})
	text(k, func(p *processesRes) string {
		if p == nil {
			return "Processes"
		}
		return "Processes " + p.title
	}, nil)
	def(k, "exists?", func(c *ruby.Call, p *processesRes) (ruby.Value, error) { return len(p.rows) > 0, nil })
	def(k, "running?", func(c *ruby.Call, p *processesRes) (ruby.Value, error) {
		if len(p.rows) == 0 {
			return false, nil
		}
		state, _ := p.rows[0].GetSym("stat")
		text := c.In.ToS(state)
		return text != "" && strings.ContainsRune("RDS", rune(text[0])), nil
	})
	def(k, "list", func(c *ruby.Call, p *processesRes) (ruby.Value, error) {
		return nil, s.in.Raise(s.in.Class("RuntimeError"), "DEPRECATION: The processes `list` property is deprecated. Please use `entries` instead. This property was removed in InSpec 4.0. (used at %s:%d)", c.File, c.Line)
	})
	var cols []column
	for _, f := range [][2]string{
		{"labels", "label"},
		{"pids", "pid"},
		{"cpus", "cpu"},
		{"mem", "mem"},
		{"vsz", "vsz"},
		{"rss", "rss"},
		{"tty", "tty"},
		{"states", "stat"},
		{"start", "start"},
		{"time", "time"},
		{"users", "user"},
		{"commands", "command"},
		{"process_name", "process_name"},
	} {
		cols = append(cols, column{name: f[0], field: ruby.Symbol(f[1])})
	}
	filterTable(s, k, cols, func(p *processesRes) ([]*ruby.Hash, error) { return p.rows, nil })
	definePort(s)
}

// processes lists those whose command matches: a text is the name of the
// program, with or without its directory.
func (s *Set) processes(c *ruby.Call) (*processesRes, error) {
	var pattern ruby.Value
	p := &processesRes{}
	switch arg := c.Arg(0).(type) {
	case nil:
		p.title = "/.*/"
	case *ruby.String:
		p.title = arg.String()
		grep := arg.String()
		if !strings.HasPrefix(grep, "/") {
			grep = "(/[^/]*)*" + grep
		}
		re, err := c.In.Call(c.In.Class("Regexp"), "new", []ruby.Value{str("^" + grep + `(\s|$)`)}, nil)
		if err != nil {
			return nil, err
		}
		pattern = re
	default:
		p.title, pattern = c.In.Inspect(arg), arg
	}
	all, err := s.ps()
	if err != nil {
		return nil, err
	}
	for _, proc := range all {
		if pattern != nil {
			match, err := c.In.Call(pattern, "=~", []ruby.Value{str(proc.command)}, nil)
			if err != nil {
				return nil, err
			}
			if !ruby.Truthy(match) {
				continue
			}
		}
		p.rows = append(p.rows, proc.row())
	}
	return p, nil
}

func (p process) row() *ruby.Hash {
	h := ruby.NewHash()
	set := func(name, value string) {
		if value != "" {
			h.Set(ruby.Symbol(name), str(value))
		}
	}
	if p.hasLabel {
		set("label", p.label)
	}
	h.Set(ruby.Symbol("pid"), p.pid)
	set("cpu", p.cpu)
	set("mem", p.mem)
	h.Set(ruby.Symbol("vsz"), p.vsz)
	h.Set(ruby.Symbol("rss"), p.rss)
	set("tty", p.tty)
	set("stat", p.stat)
	set("start", p.start)
	set("time", p.time)
	set("user", p.user)
	h.Set(ruby.Symbol("command"), str(p.command))
	return h
}

// psScript lists processes without ps, by builtins and cat: for each its
// directory, owner, status line and command, NUL-separated words.
const psScript = `for d in /proc/[0-9]*; do
s=; while read -r k v x; do case $k in State:) s=$v;; Uid:) u=$v;; VmSize:) z=$v;; VmRSS:) r=$v;; Name:) n=$v;; esac; done <$d/status 2>/dev/null || continue
printf '%s\t%s\t%s\t%s\t%s\t%s\t' "${d#/proc/}" "$u" "$s" "${z:-0}" "${r:-0}" "$n"; z= r=
cat $d/cmdline 2>/dev/null; printf '\n\0'
done`

// ps asks the target's ps, or reads /proc through its shell where it has none:
// an image without ps has processes all the same.
func (s *Set) ps() ([]process, error) {
	help, err := s.run("ps --help")
	if err != nil {
		return nil, err
	}
	if help.ExitStatus == 127 {
		return s.psFromProc()
	}
	if strings.Contains(string(help.Stderr)+string(help.Stdout), "BusyBox") {
		out, err := s.run("ps -o pid,vsz,rss,tty,stat,time,ruser,args")
		return parseBusyPS(string(out.Stdout)), err
	}
	out, err := s.run("ps wwaxo label,pid,pcpu,pmem,vsz,rss,tty,stat,start,time,user:32,command")
	if err == nil && out.ExitStatus != 0 {
		err = s.fail("ps failed: %s", strings.TrimSpace(string(out.Stderr)))
	}
	return parsePS(string(out.Stdout)), err
}

func (s *Set) psFromProc() ([]process, error) {
	out, err := s.run("%s", psScript)
	if err != nil {
		return nil, err
	}
	accounts, err := s.accountLines("/etc/passwd")
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, w := range accounts {
		if len(w) > 2 && names[w[2]] == "" {
			names[w[2]] = w[0]
		}
	}
	list := parseProcList(string(out.Stdout))
	for i, p := range list {
		if n := names[p.user]; n != "" {
			list[i].user = n
		}
	}
	if len(list) == 0 {
		return nil, s.fail("the target has neither ps nor a readable /proc, so its processes can't be listed")
	}
	return list, nil
}

// parseProcList reads what psScript prints; users are still numbers.
func parseProcList(text string) []process {
	var out []process
	for _, rec := range strings.Split(text, "\n\x00") {
		w := strings.SplitN(rec, "\t", 7)
		if len(w) < 7 {
			continue
		}
		p := process{
			pid: leadingInt(w[0]), user: w[1], stat: w[2], vsz: leadingInt(w[3]), rss: leadingInt(w[4]),
			command: strings.TrimSpace(strings.ReplaceAll(w[6], "\x00", " ")),
		}
		if p.command == "" {
			p.command = "[" + w[5] + "]" // a kernel thread, as ps shows it
		}
		out = append(out, p)
	}
	return out
}

func definePort(s *Set) {
	k := s.define("port", "Port", nil, func(c *ruby.Call) (any, error) {
		p := &portRes{}
		number := c.Arg(0)
		if len(c.Args) > 1 {
			p.ip, _ = argString(c, 0)
			number = c.Args[1]
		}
		if number != nil {
			p.port = leadingInt(c.In.ToS(number))
		}
		return p, s.arity(c, 0, 2)
	})
	text(k, func(p *portRes) string {
		if p == nil || p.port == nil {
			return "Port "
		}
		return "Port " + strconv.FormatInt(p.port.(int64), 10)
	}, nil)
	cols := []column{{name: "listening?", native: func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) { return len(r.data) > 0, nil }}}
	for _, f := range [][2]string{{"ports", "port"}, {"addresses", "address"}, {"protocols", "protocol"}, {"processes", "process"}, {"pids", "pid"}} {
		cols = append(cols, column{name: f[0], field: str(f[1]), simple: true})
	}
	filterTable(s, k, cols, func(p *portRes) ([]*ruby.Hash, error) {
		if p.read {
			return p.rows, nil
		}
		all, err := s.sockets()
		if err != nil {
			return nil, err
		}
		for _, sock := range all {
			if p.port != nil && sock.port != p.port || p.ip != "" && sock.address != p.ip {
				continue
			}
			h := ruby.NewHash(str("port"), sock.port, str("address"), str(sock.address), str("protocol"), str(sock.protocol))
			h.Set(str("process"), nil)
			h.Set(str("pid"), nil)
			if sock.hasProcess {
				h.Set(str("process"), str(sock.process))
				h.Set(str("pid"), sock.pid)
			}
			p.rows = append(p.rows, h)
		}
		p.read = true
		return p.rows, nil
	})
}

// sockets asks ss, else netstat, else the kernel's own files, which name no
// process.
func (s *Set) sockets() ([]socket, error) {
	out, err := s.run("ss -tulpen")
	if err != nil {
		return nil, err
	}
	if out.ExitStatus == 0 {
		return parseSS(string(out.Stdout)), nil
	}
	if out, err = s.run("netstat -tulpen"); err != nil {
		return nil, err
	}
	if out.ExitStatus == 0 {
		return parseNetstat(string(out.Stdout)), nil
	}
	var all []socket
	found := false
	for _, protocol := range []string{"tcp", "tcp6", "udp", "udp6"} {
		text, ok, err := s.readOptional(path.Join("/proc/net", protocol))
		if err != nil {
			return nil, err
		}
		found = found || ok
		all = append(all, parseProcNet(text, protocol)...)
	}
	if !found {
		return nil, s.fail("the target has neither ss nor netstat nor /proc/net, so its ports can't be listed")
	}
	return all, nil
}
