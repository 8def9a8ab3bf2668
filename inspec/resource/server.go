package resource

import (
	"errors"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// maxIncludes bounds the files that one configuration may draw in.
const maxIncludes = 1000

// serverConf is a server's configuration with all the files that it includes.
type serverConf struct {
	path    string
	content string
	params  *ruby.Hash
}

func defineServers(s *Set) {
	defineApache(s)
	definePostgres(s)
	defineMySQL(s)
}

// includes walks the files of a configuration, each once and in order. read is
// called with each text and returns the files that it draws in.
func (s *Set) includes(first string, allowEmpty bool, read func(name, text string) ([]string, error)) error {
	pending, seen := []string{first}, map[string]bool{}
	for len(pending) > 0 {
		name := pending[0]
		pending = pending[1:]
		if seen[name] {
			continue
		}
		if seen[name] = true; len(seen) > maxIncludes {
			return s.fail("%s includes more than %d files", first, maxIncludes)
		}
		text, err := s.readFile(name, allowEmpty)
		if err != nil {
			return err
		}
		more, err := read(name, text)
		if err != nil {
			return err
		}
		pending = append(pending, more...)
	}
	return nil
}

// glob lists the files that a pattern matches, a directory standing for the
// files in it.
func (s *Set) glob(pattern string) ([]string, error) {
	found, err := s.expand(pattern)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range found {
		info, ok, err := (&fileRes{s, name}).stat(true)
		if err != nil {
			return nil, err
		}
		switch {
		case ok && info.Type == target.File:
			out = append(out, name)
		case ok && info.Type == target.Directory && name == pattern:
			more, err := s.glob(path.Join(name, "*"))
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		}
	}
	return out, nil
}

// expand lists what a pattern could match, element by element; names that
// begin with a dot are matched only by one.
func (s *Set) expand(pattern string) ([]string, error) {
	if !strings.ContainsAny(pattern, "*?[") {
		return []string{pattern}, nil
	}
	dirs, err := s.expand(path.Dir(pattern))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, dir := range dirs {
		names, err := s.t.ReadDir(s.in.Context(), dir)
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) && !errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, s.problem(err)
		}
		last := path.Base(pattern)
		for _, n := range names {
			if ok, err := path.Match(last, n); err == nil && ok && strings.HasPrefix(n, ".") == strings.HasPrefix(last, ".") {
				out = append(out, path.Join(dir, n))
			}
		}
	}
	return out, nil
}

// serverResource makes a resource of a configuration; load reads it into d.
func (s *Set) serverResource(name, class string, title func(path string) string, paths []string, load func(d *serverConf) error) *ruby.Class {
	k := s.define(name, class, nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		d := &serverConf{params: ruby.NewHash()}
		if given, ok := argString(c, 0); ok {
			d.path = given
		} else {
			for _, p := range paths {
				found, err := s.glob(p)
				if err != nil {
					return nil, err
				}
				if len(found) > 0 {
					d.path = found[len(found)-1]
					break
				}
			}
			if d.path == "" {
				d.path = paths[0]
			}
		}
		c.Self.(*ruby.Object).SetIVar("@conf_path", str(d.path))
		if err := load(d); err != nil {
			return nil, err
		}
		return d, nil
	})
	k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) {
		return str(title(c.In.ToS(c.Self.(*ruby.Object).IVar("@conf_path")))), nil
	})
	for _, method := range []string{"resource_id", "conf_path"} {
		k.Def(method, func(c *ruby.Call) (ruby.Value, error) { return c.Self.(*ruby.Object).IVar("@conf_path"), nil })
	}
	def(k, "content", func(c *ruby.Call, d *serverConf) (ruby.Value, error) { return str(d.content), nil })
	def(k, "params", func(c *ruby.Call, d *serverConf) (ruby.Value, error) { return dig(c, d.params) })
	missing(k, func(c *ruby.Call, d *serverConf, name string) (ruby.Value, error) {
		return lookup(c, d.params, str(name))
	})
	return k
}

var (
	apacheComment = regexp.MustCompile(`(?m)^\s*#.*\n?`)
	apacheQuoted  = regexp.MustCompile(`["']((?:\\.|[^"'\\])*)["']`)
)

// apacheLine reads a directive; a value that isn't ended by white space loses
// the quotes around it.
func apacheLine(line string) ([]ruby.Value, error) {
	name, value, ok := strings.Cut(strings.TrimLeft(line, " \t"), " ")
	if i := strings.IndexAny(name, "\t"); i >= 0 {
		name, value, ok = name[:i], name[i+1:]+" "+value, true
	}
	if !ok {
		return nil, nil
	}
	value = strings.Trim(strings.TrimSpace(value), `'"`)
	return []ruby.Value{str(line), str(name), str(value)}, nil
}

func defineApache(s *Set) {
	s.serverResource("apache_conf", "ApacheConf", func(p string) string { return "Apache Config " + p },
		[]string{"/etc/apache2/apache2.conf", "/etc/httpd/conf/httpd.conf"}, func(d *serverConf) error {
			root := ""
			err := s.includes(d.path, true, func(_, text string) ([]string, error) {
				d.content += text
				params, err := simpleConfig{assign: apacheLine, multiple: true}.parse(s, text)
				if err != nil {
					return nil, err
				}
				params.Each(func(k, v ruby.Value) error {
					list, ok := v.(*ruby.Array)
					if !ok {
						return nil
					}
					for i, e := range list.Elems {
						if m := apacheQuoted.FindStringSubmatch(s.in.ToS(e)); m != nil {
							list.Elems[i] = str(m[1])
						}
					}
					if old, ok := d.params.Get(k); ok {
						old.(*ruby.Array).Elems = append(old.(*ruby.Array).Elems, list.Elems...)
					} else {
						d.params.Set(k, list)
					}
					return nil
				})
				if list, ok := d.params.Get(str("ServerRoot")); ok {
					root = s.in.ToS(list.(*ruby.Array).Elems[0])
				}
				var files []string
				for _, key := range []string{"Include", "IncludeOptional"} {
					list, _ := params.Get(str(key))
					if a, ok := list.(*ruby.Array); ok && root != "" {
						for _, e := range a.Elems {
							more, err := s.relative(root, s.in.ToS(e))
							if err != nil {
								return nil, err
							}
							files = append(files, more...)
						}
					}
				}
				return files, nil
			})
			d.content = apacheComment.ReplaceAllString(d.content, "")
			return err
		})
}

// relative is glob of a pattern that may be relative to dir.
func (s *Set) relative(dir, pattern string) ([]string, error) {
	if !strings.HasPrefix(pattern, "/") {
		pattern = path.Join(dir, pattern)
	}
	return s.glob(pattern)
}

func definePostgres(s *Set) {
	k := s.serverResource("postgres_conf", "PostgresConf", func(string) string { return "PostgreSQL Configuration" },
		[]string{"/etc/postgresql/*/main/postgresql.conf", "/var/lib/pgsql/data/postgresql.conf", "/var/lib/pgsql/*/data/postgresql.conf", "/var/lib/postgresql/data/postgresql.conf"},
		func(d *serverConf) error {
			return s.includes(d.path, false, func(name, text string) ([]string, error) {
				d.content += text
				params, err := simpleConfig{assign: quotedAssign}.parse(s, text)
				if err != nil {
					return nil, err
				}
				var files []string
				params.Each(func(k, v ruby.Value) error {
					d.params.Set(k, v)
					return nil
				})
				for _, key := range []string{"include", "include_if_exists", "include_dir"} {
					if v, ok := params.Get(str(key)); ok {
						more, err := s.relative(path.Dir(name), s.in.ToS(v))
						if err != nil {
							return nil, err
						}
						files = append(files, more...)
					}
				}
				return files, nil
			})
		})
	def(k, "[]", func(c *ruby.Call, d *serverConf) (ruby.Value, error) { return s.traverse(d.params, c.Args) })
}

// mysqlEntry is one section of a MySQL configuration.
type mysqlEntry struct {
	path   []string
	params ruby.Value
}

var (
	mysqlInclude = regexp.MustCompile(`(?m)^!include\s+(.*?)\s*$`)
	mysqlDir     = regexp.MustCompile(`(?m)^!includedir\s+(.*?)\s*$`)
)

func defineMySQL(s *Set) {
	entry := s.in.DefineClass(s.spec, "MysqlConfEntry", nil)
	text(entry, func(e *mysqlEntry) string { return "MySQL Config entry [" + strings.Join(e.path, " ") + "]" }, nil)
	missing(entry, func(c *ruby.Call, e *mysqlEntry, name string) (ruby.Value, error) {
		return lookup(c, e.params, str(name))
	})
	def(entry, "[]", func(c *ruby.Call, e *mysqlEntry) (ruby.Value, error) {
		name, _ := argString(c, 0)
		return lookup(c, e.params, str(name))
	})
	k := s.serverResource("mysql_conf", "MysqlConf", func(string) string { return "MySQL Configuration" },
		[]string{"/etc/mysql/my.cnf", "/etc/my.cnf"}, func(d *serverConf) error {
			return s.includes(d.path, false, func(name, text string) ([]string, error) {
				d.content += text
				params, err := simpleConfig{}.parse(s, text)
				if err != nil {
					return nil, err
				}
				if err := s.mergeSections(d.params, params); err != nil {
					return nil, err
				}
				var files []string
				for _, re := range []*regexp.Regexp{mysqlInclude, mysqlDir} {
					for _, m := range re.FindAllStringSubmatch(text, -1) {
						more, err := s.relative(path.Dir(name), m[1])
						if err != nil {
							return nil, err
						}
						files = append(files, more...)
					}
				}
				return files, nil
			})
		})
	def(k, "params", func(c *ruby.Call, d *serverConf) (ruby.Value, error) {
		v, err := dig(c, d.params)
		e := &mysqlEntry{params: v}
		for _, a := range c.Args {
			e.path = append(e.path, c.In.ToS(a))
		}
		return s.in.NewObject(entry, e), err
	})
}

// mergeSections adds from to into, section by section.
func (s *Set) mergeSections(into, from *ruby.Hash) error {
	return from.Each(func(k, v ruby.Value) error {
		old, _ := into.Get(k)
		section, isHash := old.(*ruby.Hash)
		more, moreHash := v.(*ruby.Hash)
		if !isHash || !moreHash {
			into.Set(k, v)
			return nil
		}
		return more.Each(func(key, value ruby.Value) error {
			_, err := s.in.Call(section, "[]=", []ruby.Value{key, value}, nil)
			return err
		})
	})
}

// defineNetwork makes interface and host.
func defineNetwork(s *Set) {
	type iface struct {
		name       string
		there, up  bool
		speed      ruby.Value
		ipv4, ipv6 []string
	}
	k := s.define("interface", "NetworkInterface", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		name, _ := argString(c, 0)
		d := &iface{name: name}
		out, err := s.run("cd /sys/class/net/%s/ && cat operstate && cat speed 2>/dev/null; for v in 4 6; do echo; /sbin/ip -br -$v address show dev %[1]s 2>/dev/null; done", target.Quote(name))
		if err != nil {
			return nil, err
		}
		list := strings.Split(string(out.Stdout), "\n")
		if len(list) == 0 || list[0] == "" {
			return d, nil
		}
		d.there, d.up = true, list[0] == "up"
		if len(list) > 1 && list[1] != "" {
			d.speed = intOrText(list[1])
		}
		for _, line := range list[1:] {
			if w := strings.Fields(line); len(w) > 2 {
				for _, cidr := range w[2:] {
					if strings.Contains(cidr, ":") {
						d.ipv6 = append(d.ipv6, cidr)
					} else if strings.Contains(cidr, ".") {
						d.ipv4 = append(d.ipv4, cidr)
					}
				}
			}
		}
		return d, nil
	})
	text(k, func(d *iface) string { return "Interface " + d.name }, func(d *iface) string { return d.name })
	def(k, "exists?", func(c *ruby.Call, d *iface) (ruby.Value, error) { return d.there, nil })
	def(k, "up?", func(c *ruby.Call, d *iface) (ruby.Value, error) { return d.up, nil })
	def(k, "name", func(c *ruby.Call, d *iface) (ruby.Value, error) { return str(d.name), nil })
	def(k, "speed", func(c *ruby.Call, d *iface) (ruby.Value, error) { return d.speed, nil })
	addresses := func(cidrs []string) []string {
		var out []string
		for _, c := range cidrs {
			a, _, _ := strings.Cut(c, "/")
			out = append(out, a)
		}
		return out
	}
	for version, of := range map[string]func(d *iface) []string{"ipv4": func(d *iface) []string { return d.ipv4 }, "ipv6": func(d *iface) []string { return d.ipv6 }} {
		def(k, version+"_cidrs", func(c *ruby.Call, d *iface) (ruby.Value, error) { return ruby.Strings(of(d)), nil })
		def(k, version+"_addresses", func(c *ruby.Call, d *iface) (ruby.Value, error) { return ruby.Strings(addresses(of(d))), nil })
		def(k, version+"_address?", func(c *ruby.Call, d *iface) (ruby.Value, error) { return len(of(d)) > 0, nil })
		def(k, version+"_address", func(c *ruby.Call, d *iface) (ruby.Value, error) { return strOrNil(addresses(of(d)), 0), nil })
	}

	type hostRes struct {
		name           string
		port, protocol ruby.Value
	}
	host := s.define("host", "Host", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		d := &hostRes{protocol: str("icmp")}
		d.name, _ = argString(c, 0)
		d.port, _ = options(c).GetSym("port")
		for _, key := range []string{"protocol", "proto"} {
			if v, ok := options(c).GetSym(key); ok {
				d.protocol = v
			}
		}
		return d, nil
	})
	text(host, func(d *hostRes) string {
		if d.port != nil {
			return "Host " + d.name + " port " + s.in.ToS(d.port) + " proto " + s.in.ToS(d.protocol)
		}
		return "Host " + d.name
	}, func(d *hostRes) string { return d.name })
	resolve := func(d *hostRes) ([]string, error) {
		out, ok, err := s.stdout("getent ahosts %s", target.Quote(d.name))
		if err != nil || !ok {
			return nil, err
		}
		var list []string
		for _, line := range lines(out) {
			if w := strings.Fields(line); len(w) > 0 && !slices.Contains(list, w[0]) {
				list = append(list, w[0])
			}
		}
		return list, nil
	}
	def(host, "resolvable?", func(c *ruby.Call, d *hostRes) (ruby.Value, error) {
		list, err := resolve(d)
		return len(list) > 0, err
	})
	def(host, "ipaddress", func(c *ruby.Call, d *hostRes) (ruby.Value, error) {
		list, err := resolve(d)
		if err != nil || len(list) == 0 {
			return nil, err
		}
		return ruby.Strings(list), nil
	})
	def(host, "hostname", func(c *ruby.Call, d *hostRes) (ruby.Value, error) { return str(d.name), nil })
	def(host, "port", func(c *ruby.Call, d *hostRes) (ruby.Value, error) { return d.port, nil })
	def(host, "protocol", func(c *ruby.Call, d *hostRes) (ruby.Value, error) { return d.protocol, nil })
	def(host, "reachable?", func(c *ruby.Call, d *hostRes) (ruby.Value, error) {
		if d.port == nil {
			_, ok, err := s.stdout("ping -w 1 -c 1 %s", target.Quote(d.name))
			return ok, err
		}
		cmd := "nc -vz -w 1 "
		if s.in.ToS(d.protocol) == "udp" {
			cmd = "nc -vzu -w 1 "
		}
		out, err := s.run("%s%s %s", cmd, target.Quote(d.name), s.in.ToS(d.port))
		if err == nil && out.ExitStatus == 127 {
			err = s.fail("the target has no nc program, which is needed to reach a port")
		}
		return out.ExitStatus == 0, err
	})
}
