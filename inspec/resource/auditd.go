package resource

import (
	"regexp"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

type auditdRes struct {
	lines []string
	rules [][]auditField
	kinds []int        // a rule of each set of fields
	made  []*ruby.Hash // of the rules that were asked for
}

// rows are the rules as values of the profile, which may change them: they are
// made for each resource anew. Most controls ask for the few rules of one
// system call, so that others are left out where field says so. If that leaves
// none, one stays of each kind, since what may be asked next is told by them.
func (d *auditdRes) rows(field, value string) []*ruby.Hash {
	if d.made == nil {
		d.made = make([]*ruby.Hash, len(d.rules))
	}
	row := func(i int) *ruby.Hash {
		if d.made[i] == nil {
			d.made[i] = auditHash(d.rules[i])
		}
		return d.made[i]
	}
	var out []*ruby.Hash
	for i, fields := range d.rules {
		if field == "" || slices.ContainsFunc(fields, func(f auditField) bool { return f.name == field && f.value == value }) {
			out = append(out, row(i))
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, i := range d.kinds {
		out = append(out, row(i))
	}
	return out
}

// auditKinds finds the first rule of each set of fields.
func auditKinds(rules [][]auditField) (first []int) {
	known := map[string]bool{}
	for i, fields := range rules {
		var names strings.Builder
		for _, f := range fields {
			names.WriteString(f.name + " ")
		}
		if kind := names.String(); !known[kind] {
			known[kind] = true
			first = append(first, i)
		}
	}
	return first
}

func auditHash(fields []auditField) *ruby.Hash {
	h := ruby.NewHash()
	h.Grow(len(fields))
	for _, f := range fields {
		switch v := f.value.(type) {
		case string:
			h.SetText(f.name, str(v))
		case []string:
			h.SetText(f.name, ruby.Strings(v))
		default:
			h.SetText(f.name, nil)
		}
	}
	return h
}

func defineAuditd(s *Set) {
	var listed string // by auditctl -l
	var rules [][]auditField
	var kinds []int
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
		if text := string(out.Stdout); text != listed {
			listed, rules = text, nil
			for _, line := range d.lines {
				rules = append(rules, auditRows(line)...)
			}
			kinds = auditKinds(rules)
		}
		d.rules, d.kinds = rules, kinds
		return d, nil
	})
	fixed(k, "Auditd Rules")
	var cols []column
	for _, f := range []string{"file", "list", "action", "fields", "fields_nokey", "syscall", "key", "arch", "path", "permissions", "exit"} {
		cols = append(cols, column{name: f, field: str(f)})
	}
	filterTableBy(s, k, cols, func(d *auditdRes, field, value string) ([]*ruby.Hash, error) { return d.rows(field, value), nil })
	def(k, "lines", func(c *ruby.Call, d *auditdRes) (ruby.Value, error) { return ruby.Strings(d.lines), nil })
	def(k, "params", func(c *ruby.Call, d *auditdRes) (ruby.Value, error) { return hashList(d.rows("", "")), nil })
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

// auditField is one field of a row: a text, a list of texts, or nil.
type auditField struct {
	name  string
	value any
}

// auditRows reads a rule as auditctl -l lists it: a row for a watched file, and
// one for each system call.
func auditRows(line string) [][]auditField {
	var out [][]auditField
	path, call := auditPath.FindStringSubmatch(line), auditSyscall.FindStringSubmatch(line)
	if path != nil || call != nil {
		rule := auditRule(line)
		row := func(name, value string) {
			out = append(out, append(rule[:len(rule):len(rule)], auditField{name, value}))
		}
		if path != nil {
			row("file", path[1])
		}
		if call != nil {
			for _, name := range strings.Split(call[1], ",") {
				row("syscall", name)
			}
			return out
		}
	}
	if file := auditWatch.FindStringSubmatch(line); file != nil {
		row := []auditField{{"file", file[1]}, {"key", nil}, {"permissions", nil}}
		if key := auditKey.FindStringSubmatch(line); key != nil {
			row[1].value = key[1]
		}
		if perm := auditPerm.FindStringSubmatch(line); perm != nil {
			row[2].value = letters(perm[1])
		}
		out = append(out, row)
	}
	return out
}

// auditRule is what all rows of a rule share.
func auditRule(line string) []auditField {
	rule := make([]auditField, 0, 9)
	set := func(name string, value any) {
		if i := slices.IndexFunc(rule, func(f auditField) bool { return f.name == name }); i >= 0 {
			rule[i].value = value
			return
		}
		rule = append(rule, auditField{name, value})
	}
	for _, name := range []string{"action", "list"} {
		set(name, nil)
	}
	if m := auditAction.FindStringSubmatch(line); m != nil {
		for _, word := range m[1:] {
			if word == "never" || word == "always" {
				set("action", word)
			} else {
				set("list", word)
			}
		}
	}
	for _, name := range []string{"key", "arch", "path", "permissions", "exit"} {
		set(name, nil)
	}
	var all, rest []string
	for _, part := range strings.Split(auditStrip.ReplaceAllString(line, ""), "-F ") {
		for _, word := range strings.Fields(part) {
			all = append(all, word)
			name, value, _ := strings.Cut(word, "=")
			switch name {
			case "arch", "path", "exit":
				set(name, value)
			case "perm":
				set("permissions", letters(value))
			}
			if strings.HasPrefix(word, "key") {
				set("key", value)
			} else {
				rest = append(rest, word)
			}
		}
	}
	set("fields", all)
	set("fields_nokey", rest)
	return rule
}

func letters(text string) []string {
	var list []string
	for _, r := range text {
		list = append(list, string(r))
	}
	return list
}
