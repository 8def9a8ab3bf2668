package resource

import (
	"regexp"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

type auditdRes struct {
	lines []string
	rows  []*ruby.Hash
}

func defineAuditd(s *Set) {
	k := s.define("auditd", "AuditDaemon", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 0); err != nil {
			return nil, err
		}
		tool := s.auditctl()
		out, err := s.run("%s -l", tool)
		if err != nil {
			return nil, err
		}
		switch {
		case out.ExitStatus == 127:
			return nil, s.fail("Command `%s` does not exist", tool)
		case out.ExitStatus != 0:
			return nil, s.fail("Command `%s -l` failed with error: %s", tool, out.Stderr)
		case strings.HasPrefix(string(out.Stdout), "LIST_RULES:"):
			return nil, s.fail("The version of audit is outdated.The `auditd` resource supports versions of audit >= 2.3.")
		}
		d := &auditdRes{lines: lines(string(out.Stdout))}
		for _, line := range d.lines {
			d.rows = append(d.rows, auditRows(line)...)
		}
		return d, nil
	})
	fixed(k, "Auditd Rules")
	var cols []column
	for _, f := range []string{"file", "list", "action", "fields", "fields_nokey", "syscall", "key", "arch", "path", "permissions", "exit"} {
		cols = append(cols, column{name: f, field: str(f)})
	}
	filterTable(s, k, cols, func(d *auditdRes) ([]*ruby.Hash, error) { return d.rows, nil })
	def(k, "lines", func(c *ruby.Call, d *auditdRes) (ruby.Value, error) { return ruby.Strings(d.lines), nil })
	def(k, "params", func(c *ruby.Call, d *auditdRes) (ruby.Value, error) { return hashList(d.rows), nil })
	def(k, "status", func(c *ruby.Call, d *auditdRes) (ruby.Value, error) {
		out, err := s.run("%s -s", s.auditctl())
		if err != nil {
			return nil, err
		}
		status := ruby.NewHash()
		for _, line := range lines(string(out.Stdout)) {
			if key, value, ok := strings.Cut(line, " "); ok {
				status.Set(str(key), str(value))
			}
		}
		if name, ok := argString(c, 0); ok {
			v, _ := status.Get(str(name))
			return v, nil
		}
		return status, nil
	})
}

func (s *Set) auditctl() string {
	if s.platform.Name == "alpine" {
		return "/usr/sbin/auditctl"
	}
	return "/sbin/auditctl"
}

var (
	auditPath    = regexp.MustCompile(`-F path=(\S+)`)
	auditSyscall = regexp.MustCompile(`-S ([^ ]+)`)
	auditAction  = regexp.MustCompile(`-a ([^,\s]+),([^,\s]+)(?:\s|$)`)
	auditStrip   = regexp.MustCompile(`-[aS] [^ ]+ `)
	auditWatch   = regexp.MustCompile(`-w ([^ ]+)`)
	auditPerm    = regexp.MustCompile(`-p ([^ ]+)`)
	auditKey     = regexp.MustCompile(`-k ([^ ]+)`)
)

// auditRows reads a rule as auditctl -l lists it: a row for a watched file, and
// one for each system call.
func auditRows(line string) []*ruby.Hash {
	var out []*ruby.Hash
	first := func(re *regexp.Regexp) ruby.Value {
		if m := re.FindStringSubmatch(line); m != nil {
			return str(m[1])
		}
		return nil
	}
	rule := func() *ruby.Hash {
		h := ruby.NewHash()
		h.Set(str("action"), nil)
		h.Set(str("list"), nil)
		if m := auditAction.FindStringSubmatch(line); m != nil {
			for _, word := range m[1:] {
				if word == "never" || word == "always" {
					h.Set(str("action"), str(word))
				} else {
					h.Set(str("list"), str(word))
				}
			}
		}
		all, rest := ruby.NewArray(), ruby.NewArray()
		for _, name := range []string{"key", "arch", "path", "permissions", "exit"} {
			h.Set(str(name), nil)
		}
		for _, part := range strings.Split(auditStrip.ReplaceAllString(line, ""), "-F ") {
			for _, word := range strings.Fields(part) {
				all.Elems = append(all.Elems, str(word))
				name, value, _ := strings.Cut(word, "=")
				switch name {
				case "arch", "path", "exit":
					h.Set(str(name), str(value))
				case "perm":
					h.Set(str("permissions"), letters(value))
				}
				if strings.HasPrefix(word, "key") {
					h.Set(str("key"), str(value))
				} else {
					rest.Elems = append(rest.Elems, str(word))
				}
			}
		}
		h.Set(str("fields"), all)
		h.Set(str("fields_nokey"), rest)
		return h
	}
	if path := first(auditPath); path != nil {
		h := rule()
		h.Set(str("file"), path)
		out = append(out, h)
	}
	if m := auditSyscall.FindStringSubmatch(line); m != nil {
		for _, call := range strings.Split(m[1], ",") {
			h := rule()
			h.Set(str("syscall"), str(call))
			out = append(out, h)
		}
	} else if file := first(auditWatch); file != nil {
		h := ruby.NewHash(str("file"), file, str("key"), first(auditKey))
		h.Set(str("permissions"), nil)
		if m := auditPerm.FindStringSubmatch(line); m != nil {
			h.Set(str("permissions"), letters(m[1]))
		}
		out = append(out, h)
	}
	return out
}

func letters(text string) *ruby.Array {
	list := ruby.NewArray()
	for _, r := range text {
		list.Elems = append(list.Elems, str(string(r)))
	}
	return list
}
