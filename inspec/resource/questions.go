package resource

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"

	"reeve.dev/reeve/inspec/ruby"
)

// defineQuestions makes resources that put one question to a program of the
// target, and a few that hardly ask anything.
func defineQuestions(s *Set) {
	defineShells(s)
	defineTimezone(s)
	defineMailAlias(s)
	defineAuditSystem(s)
	defineKernelParameters(s)
	defineCron(s)
	defineYum(s)
	definePHP(s)
	defineCgroup(s)
	defineZFS(s)
	defineLocations(s)
}

// defineShells makes the commands that run in a shell of their own.
func defineShells(s *Set) {
	cmd := s.in.Class("Inspec::Resources::Cmd")
	ksh := s.define("ksh", "Ksh", cmd, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		script, _ := argString(c, 0)
		path, flags := "ksh", "-c"
		if v, ok := options(c).GetSym("path"); ok && v != nil {
			path = c.In.ToS(v)
		}
		if v, ok := options(c).GetSym("args"); ok && v != nil {
			flags = c.In.ToS(v)
		}
		d, err := s.newCommand(c, path+" "+flags+" "+shellEscape(script))
		if err == nil {
			d.shown = script
		}
		return d, err
	})
	text(ksh, func(d *command) string {
		if d == nil {
			return "KornShell command"
		}
		return "KornShell command " + d.shown
	}, func(d *command) string { return d.shown })

	power := s.define("powershell", "Powershell", cmd, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		there, err := s.commandExists("pwsh")
		if err == nil && !there {
			err = s.skip("Can not find `pwsh` command")
		}
		if err != nil {
			return nil, err
		}
		script, _ := argString(c, 0)
		var wide []byte
		for _, u := range utf16.Encode([]rune("$ProgressPreference='SilentlyContinue';" + script)) {
			wide = append(wide, byte(u), byte(u>>8))
		}
		return s.newCommand(c, "pwsh -encodedCommand '"+base64.StdEncoding.EncodeToString(wide)+"'")
	})
	fixed(power, "Powershell")
	power.Def("resource_id", func(*ruby.Call) (ruby.Value, error) { return str("Powershell"), nil })
	power.Def("exist?", func(*ruby.Call) (ruby.Value, error) { return nil, nil })
	def(power, "strip", func(_ *ruby.Call, d *command) (ruby.Value, error) {
		if err := d.run(); err != nil {
			return nil, err
		}
		return str(strings.TrimSpace(string(d.result.Stdout))), nil
	})

	noop := s.define("noop", "Noop", nil, func(c *ruby.Call) (any, error) { return nil, s.arity(c, 0, 0) })
	fixed(noop, "No-op")
}

func defineTimezone(s *Set) {
	k := s.define("timezone", "TimeZone", nil, func(c *ruby.Call) (any, error) {
		out, err := s.run("timedatectl status | grep -i 'Time zone'")
		if err != nil {
			return nil, err
		}
		if out.ExitStatus != 0 {
			return nil, s.fail("Time Zone resource with error: %s", out.Stderr)
		}
		parts := strings.Split(strings.TrimRight(string(out.Stdout), ":"), ":")
		return strings.Fields(strings.NewReplacer("(", "", ")", "", ",", "", "^", "").Replace(parts[len(parts)-1])), s.arity(c, 0, 0)
	})
	fixed(k, "Time Zone resource")
	for i, name := range []string{"identifier", "name", "time_offset"} {
		def(k, name, func(_ *ruby.Call, w []string) (ruby.Value, error) { return strOrNil(w, i), nil })
	}
}

func defineMailAlias(s *Set) {
	k := s.define("mail_alias", "Mailalias", nil, func(c *ruby.Call) (any, error) {
		name, _ := argString(c, 0)
		return name, s.arity(c, 1, 1)
	})
	text(k, func(name string) string { return "mail_alias " + name }, func(name string) string { return name })
	def(k, "aliased_to?", func(c *ruby.Call, name string) (ruby.Value, error) {
		want, _ := argString(c, 0)
		file, _, err := s.readOptional("/etc/aliases")
		if err != nil {
			return nil, err
		}
		for _, line := range lines(file) {
			if list, ok := strings.CutPrefix(line, name+":"); ok {
				list, _, _ = strings.Cut(list, ":")
				for _, to := range strings.Split(list, ",") {
					if strings.TrimSpace(to) == want {
						return true, nil
					}
				}
				return false, nil
			}
		}
		return nil, s.fail("%s is not a valid key in the aliases", name)
	})
}

func defineAuditSystem(s *Set) {
	k := s.define("linux_audit_system", "LinuxAuditSystem", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 0); err != nil {
			return nil, err
		}
		return s.tool("auditctl", "Could not find `auditctl`. This resource requires `auditctl` utility to be available on the system.")
	})
	fixed(k, "linux_audit_system")
	status := func(auditctl, word string) ([]string, error) {
		out, ok, err := s.stdout("%s -s | grep %s", auditctl, word)
		if err == nil && !ok {
			err = s.fail("Executing %s -s | grep enabled failed: %s", auditctl, out)
		}
		return strings.Fields(out), err
	}
	def(k, "auditctl_utility", func(_ *ruby.Call, auditctl string) (ruby.Value, error) { return str(auditctl), nil })
	def(k, "enabled?", func(_ *ruby.Call, auditctl string) (ruby.Value, error) {
		w, err := status(auditctl, "enabled")
		return err == nil && len(w) > 1 && leadingInt(w[1]) == 1, err
	})
	def(k, "running?", func(_ *ruby.Call, auditctl string) (ruby.Value, error) {
		w, err := status(auditctl, "pid")
		return err == nil && len(w) > 1 && leadingInt(w[1]) != 0, err
	})
	def(k, "rules", func(_ *ruby.Call, auditctl string) (ruby.Value, error) {
		out, err := s.run("%s -l", auditctl)
		if err != nil {
			return nil, err
		}
		if out.ExitStatus != 0 {
			return nil, s.fail("Executing %s -l: %s", auditctl, out.Stderr)
		}
		return ruby.Strings(lines(strings.TrimSpace(string(out.Stdout)))), nil
	})
}

func defineKernelParameters(s *Set) {
	type parameters struct{}
	k := s.define("kernel_parameters", "KernelParameters", nil, func(c *ruby.Call) (any, error) { return parameters{}, s.arity(c, 0, 0) })
	fixed(k, "Kernel Parameters")
	exists := column{name: "exists?", native: func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) { return len(r.data) > 0, nil }}
	filterTable(s, k, append(textColumns("parameters", "parameter", "values", "value"), exists), func(parameters) ([]*ruby.Hash, error) {
		out, ok, err := s.stdout("/sbin/sysctl -a")
		if err != nil || !ok {
			return nil, err
		}
		var rows []*ruby.Hash
		for _, line := range lines(out) {
			w := strings.Split(line, "=")
			if len(w) < 2 {
				w = append(w, "")
			}
			rows = append(rows, ruby.NewHash(str("parameter"), str(strings.TrimSpace(w[0])), str("value"), leadingInt(strings.TrimSpace(w[1]))))
		}
		return rows, nil
	})
}

// cronTab is a user's crontab, line by line.
type cronTab struct {
	title, id string
	lines     []string
}

func defineCron(s *Set) {
	k := s.define("cron", "Cron", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		user := c.Arg(0)
		if opts, ok := user.(*ruby.Hash); ok {
			user, _ = opts.GetSym("user")
		}
		d := &cronTab{title: "cron for current user", id: "cron current user"}
		cmd := "crontab -l"
		if user != nil {
			name := s.in.ToS(user)
			d.title, d.id = "cron for user "+name, "cron "+name
			cmd += " -u " + shellEscape(name)
		}
		out, err := s.run("%s", cmd)
		if err != nil {
			return nil, err
		}
		if out.ExitStatus != 0 {
			return nil, s.fail("Error while executing %s command: %s\n%s", cmd, out.Stdout, out.Stderr)
		}
		for _, line := range lines(string(out.Stdout)) {
			d.lines = append(d.lines, strings.TrimSpace(uncomment(line, "#", false)))
		}
		return d, nil
	})
	text(k, func(d *cronTab) string {
		if d == nil {
			return "cron for current user"
		}
		return d.title
	}, func(d *cronTab) string {
		if d == nil {
			return ""
		}
		return d.id
	})
	def(k, "table", func(_ *ruby.Call, d *cronTab) (ruby.Value, error) {
		return str(strings.Join(slices.DeleteFunc(slices.Clone(d.lines), func(l string) bool { return l == "" }), "\n")), nil
	})
	def(k, "has_entry?", func(c *ruby.Call, d *cronTab) (ruby.Value, error) {
		rule, _ := argString(c, 0)
		return slices.Contains(d.lines, rule), nil
	})
	def(k, "params", func(_ *ruby.Call, d *cronTab) (ruby.Value, error) { return ruby.Strings(d.lines), nil })
}

var (
	yumFirst = regexp.MustCompile(`^\s*Repo-id\s*:`)
	yumLine  = regexp.MustCompile(`^\s*([^:]*?)\s*:\s*(.*?)\s*$`)
)

// parseYum reads yum -v repolist all: one table of settings a repository.
func parseYum(text string) []map[string]string {
	var list []map[string]string
	var repo map[string]string
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case yumFirst.MatchString(line):
			if repo != nil {
				list = append(list, repo)
			}
			repo = map[string]string{}
		case repo != nil && (line == "" || strings.Contains(line, "Total packages:")):
			list, repo = append(list, repo), nil
		}
		if m := yumLine.FindStringSubmatch(line); m != nil && repo != nil {
			repo[strings.ToLower(strings.ReplaceAll(m[1], "Repo-", ""))] = m[2]
		}
	}
	if repo != nil {
		list = append(list, repo)
	}
	return list
}

// yumRes lists the repositories; they are asked for once.
type yumRes struct {
	asked bool
	list  []map[string]string
}

type yumRepo struct {
	yum  *yumRes
	name string
}

func defineYum(s *Set) {
	k := s.define("yum", "Yum", nil, func(c *ruby.Call) (any, error) { return &yumRes{}, s.arity(c, 0, 0) })
	fixed(k, "Yum Repository")
	k.Def("resource_id", func(*ruby.Call) (ruby.Value, error) { return str("Yum repository"), nil })
	list := func(d *yumRes) ([]map[string]string, error) {
		if d.asked {
			return d.list, nil
		}
		out, err := s.run("yum -v repolist all")
		if err == nil && out.ExitStatus == 127 {
			err = s.fail("the target has no yum program, which is needed to list repositories")
		}
		if err != nil {
			return nil, err
		}
		d.asked, d.list = true, parseYum(string(out.Stdout))
		return d.list, nil
	}
	repo := s.in.DefineClass(s.spec, "YumRepo", nil)
	text(repo, func(r *yumRepo) string { return "YumRepo " + r.name }, nil)
	info := func(r *yumRepo) (map[string]string, error) {
		all, err := list(r.yum)
		for _, e := range all {
			short, _, slash := strings.Cut(e["id"], "/")
			if e["id"] == r.name || slash && strings.TrimSpace(short) == r.name {
				return e, nil
			}
		}
		return nil, err
	}
	def(repo, "exist?", func(_ *ruby.Call, r *yumRepo) (ruby.Value, error) {
		e, err := info(r)
		return len(e) > 0, err
	})
	def(repo, "enabled?", func(_ *ruby.Call, r *yumRepo) (ruby.Value, error) {
		e, err := info(r)
		return e["status"] == "enabled", err
	})
	hash := func(e map[string]string) *ruby.Hash {
		h := ruby.NewHash()
		for _, key := range sortedKeys(e) {
			h.Set(str(key), str(e[key]))
		}
		return h
	}
	def(repo, "info", func(_ *ruby.Call, r *yumRepo) (ruby.Value, error) {
		e, err := info(r)
		return hash(e), err
	})
	for _, key := range []string{"baseurl", "expire", "filename", "mirrors", "pkgs", "size", "status", "updated"} {
		def(repo, key, func(_ *ruby.Call, r *yumRepo) (ruby.Value, error) {
			e, err := info(r)
			if v, ok := e[key]; ok {
				return str(v), err
			}
			return nil, err
		})
	}
	def(k, "repositories", func(_ *ruby.Call, d *yumRes) (ruby.Value, error) {
		all, err := list(d)
		var rows []*ruby.Hash
		for _, e := range all {
			rows = append(rows, hash(e))
		}
		return hashList(rows), err
	})
	def(k, "repos", func(_ *ruby.Call, d *yumRes) (ruby.Value, error) {
		all, err := list(d)
		ids := ruby.NewArray()
		for _, e := range all {
			ids.Elems = append(ids.Elems, str(e["id"]))
		}
		return ids, err
	})
	def(k, "repo", func(c *ruby.Call, d *yumRes) (ruby.Value, error) {
		name, _ := argString(c, 0)
		return s.in.NewObject(repo, &yumRepo{d, name}), nil
	})
	missing(k, func(_ *ruby.Call, d *yumRes, name string) (ruby.Value, error) {
		return s.in.NewObject(repo, &yumRepo{d, name}), nil
	})
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func definePHP(s *Set) {
	type phpRes struct{ param, ini string }
	k := s.define("php_config", "PhpConfig", nil, func(c *ruby.Call) (any, error) {
		d := &phpRes{}
		d.param, _ = argString(c, 0)
		if v, ok := options(c).GetSym("ini"); ok && v != nil {
			d.ini = "-c " + shellEscape(s.in.ToS(v))
		}
		return d, s.arity(c, 1, 2)
	})
	text(k, func(d *phpRes) string { return "php_config " + d.param }, func(d *phpRes) string { return d.param })
	def(k, "value", func(_ *ruby.Call, d *phpRes) (ruby.Value, error) {
		php, err := s.tool("php", "Could not find `php` on your system.")
		if err != nil {
			return nil, err
		}
		cmd := php + " " + d.ini + " -r 'echo get_cfg_var(\"" + d.param + "\");'"
		out, err := s.run("%s", cmd)
		if err != nil {
			return nil, err
		}
		if out.ExitStatus != 0 {
			return nil, s.fail("Executing %s failed: %s", cmd, out.Stderr)
		}
		return intOrText(strings.TrimSpace(string(out.Stdout))), nil
	})
}

// defineCgroup makes cgroup, whose settings are chains: cgroup('x').cpuset.cpus.
func defineCgroup(s *Set) {
	type cgroup struct {
		name  string
		cgget string
		valid []string
		asked []string
	}
	k := s.define("cgroup", "Cgroup", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		d := &cgroup{}
		d.name, _ = argString(c, 0)
		var err error
		if d.cgget, err = s.tool("cgget", "Could not find `cgget`"); err != nil {
			return nil, err
		}
		out, err := s.run("%s -n -a %s", d.cgget, d.name)
		if err != nil {
			return nil, err
		}
		if out.ExitStatus != 0 {
			return nil, s.fail("Executing cgget failed: %s", out.Stderr)
		}
		for _, line := range lines(string(out.Stdout)) {
			if name, _, ok := strings.Cut(line, ":"); ok && name != "" && name == strings.TrimLeft(name, " \t") {
				d.valid = append(d.valid, name)
			}
		}
		return d, nil
	})
	text(k, func(d *cgroup) string { return "cgroup " + d.name }, func(d *cgroup) string { return d.name })
	missing(k, func(c *ruby.Call, d *cgroup, name string) (ruby.Value, error) {
		d.asked = append(d.asked, name)
		query := strings.Join(d.asked, ".")
		switch {
		case slices.Contains(d.valid, query):
			d.asked = nil
			out, err := s.run("%s -n -r %s %s", d.cgget, query, d.name)
			if err != nil {
				return nil, err
			}
			if out.ExitStatus != 0 {
				return nil, s.fail("Executing cgget failed: %s", out.Stderr)
			}
			_, value, ok := strings.Cut(string(out.Stdout), ":")
			if !ok {
				return nil, nil
			}
			return intOrText(strings.ReplaceAll(strings.TrimSpace(value), "\t", "")), nil
		case slices.ContainsFunc(d.valid, func(v string) bool { return strings.HasPrefix(v, query+".") }):
			return c.Self, nil
		}
		d.asked = nil
		return nil, s.fail("The query %s does not appear to be valid.", query)
	})
}

// zfsRes is a pool or a data set and its properties.
type zfsRes struct {
	name   string
	there  bool
	params map[string]string
}

func defineZFS(s *Set) {
	define := func(resource, class, title, program string, super *ruby.Class) *ruby.Class {
		k := s.define(resource, class, super, func(c *ruby.Call) (any, error) {
			if err := s.arity(c, 1, 1); err != nil {
				return nil, err
			}
			d := &zfsRes{params: map[string]string{}}
			d.name, _ = argString(c, 0)
			c.Self.(*ruby.Object).SetIVar("@zfs_name", str(d.name))
			found, ok, err := s.stdout("which %s", program)
			if err == nil && !ok {
				err = s.skip("zfs is not installed")
			}
			if err != nil {
				return nil, err
			}
			out, ok, err := s.stdout("%s get -Hp all %s", strings.TrimSpace(found), shellEscape(d.name))
			d.there = ok
			for _, line := range lines(out) {
				if w := strings.Split(line, "\t"); ok && len(w) > 2 {
					d.params[w[1]] = w[2]
				}
			}
			return d, err
		})
		name := func(c *ruby.Call) string { return c.In.ToS(c.Self.(*ruby.Object).IVar("@zfs_name")) }
		k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) { return str(title + " " + name(c)), nil })
		k.Def("resource_id", func(c *ruby.Call) (ruby.Value, error) { return str(name(c)), nil })
		return k
	}
	pool := define("zfs_pool", "ZfsPool", "ZFS Pool", "zpool", nil)
	zfs := define("zfs", "Zfs", "zfs", "zpool", pool)
	dataset := define("zfs_dataset", "ZfsDataset", "ZFS Dataset", "zfs", nil)
	for _, k := range []*ruby.Class{pool, dataset} {
		def(k, "exists?", func(_ *ruby.Call, d *zfsRes) (ruby.Value, error) { return d.there, nil })
		missing(k, func(_ *ruby.Call, d *zfsRes, name string) (ruby.Value, error) {
			if v, ok := d.params[name]; ok {
				return str(v), nil
			}
			if d.there {
				return int64(0), nil // the default of InSpec's table
			}
			return nil, s.in.Raise(s.in.Class("NoMethodError"), "undefined method `[]' for nil:NilClass")
		})
	}
	def(zfs, "has_property?", func(c *ruby.Call, d *zfsRes) (ruby.Value, error) {
		want := options(c)
		if want.Len() == 0 {
			return nil, s.skip("Provide a valid key-value pair of the zfs properties.")
		}
		all := true
		want.Each(func(k, v ruby.Value) error {
			have, ok := d.params[c.In.ToS(k)]
			all = all && ok && have == c.In.ToS(v)
			return nil
		})
		return all, nil
	})
	def(dataset, "exec", func(_ *ruby.Call, d *zfsRes) (ruby.Value, error) { return str(d.params["exec"]), nil })
	def(dataset, "mounted?", func(c *ruby.Call, d *zfsRes) (ruby.Value, error) {
		if !d.there {
			return false, nil
		}
		m, err := s.New(c, "mount", []ruby.Value{str(d.params["mountpoint"])})
		if err != nil {
			return nil, err
		}
		return c.In.Call(m, "mounted?", nil, nil)
	})
}

// defineLocations makes the resources that only know where things are.
func defineLocations(s *Set) {
	mongo := s.define("mongodb", "Mongodb", nil, func(c *ruby.Call) (any, error) { return struct{}{}, s.arity(c, 0, 0) })
	fixed(mongo, "MongoDB")
	for _, method := range []string{"conf_path", "resource_id"} {
		def(mongo, method, func(*ruby.Call, struct{}) (ruby.Value, error) { return str("/etc/mongod.conf"), nil })
	}
	apache := s.define("apache", "Apache", nil, func(c *ruby.Call) (any, error) {
		d := map[string]string{"service": "httpd", "conf_dir": "/etc/httpd/", "conf_path": "/etc/httpd/conf/httpd.conf", "user": "apache"}
		if s.platform.Is("debian") {
			d = map[string]string{"service": "apache2", "conf_dir": "/etc/apache2/", "conf_path": "/etc/apache2/apache2.conf", "user": "www-data"}
		}
		return d, s.arity(c, 0, 0)
	})
	text(apache, func(map[string]string) string { return "Apache Environment" }, func(d map[string]string) string { return d["conf_path"] })
	for _, name := range []string{"service", "conf_dir", "conf_path", "user"} {
		def(apache, name, func(_ *ruby.Call, d map[string]string) (ruby.Value, error) { return str(d[name]), nil })
	}
}
