package resource

import (
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// configRes is a file of settings: what was read, by name.
type configRes struct {
	path    string
	content string
	params  ruby.Value
}

func defineConfig(s *Set) {
	defineSettings(s)
	defineSSH(s)
	defineParseConfig(s)
	defineDocuments(s)
}

// settings says how a resource reads "NAME VALUE" lines and calls itself.
type settings struct {
	name, class, path, title string
	config                   simpleConfig
}

// defineSettings makes the resources that are one file whose settings are
// methods: login_defs.UMASK. A name that isn't set is nil.
func defineSettings(s *Set) {
	for _, r := range []settings{
		{"login_defs", "LoginDefs", "/etc/login.defs", "login.defs", simpleConfig{assign: goPattern(`^\s*(\S+)\s+(\S*)\s*$`)}},
		{
			"limits_conf", "LimitsConf", "/etc/security/limits.conf", "limits.conf",
			simpleConfig{assign: goPattern(`^\s*(\S+?)\s+(.*?)\s+(.*?)\s+(.*?)\s*$`), values: 3, multiple: true},
		},
		{
			"inetd_conf", "InetdConf", "/etc/inetd.conf", "inetd.conf",
			simpleConfig{assign: goPattern(`^\s*(\S+?)\s+(.*?)\s+(.*?)\s+(.*?)\s+(.*?)\s+(.*?)\s+(.*?)\s*$`), values: 6},
		},
		{"chrony_conf", "ChronyConf", "/etc/chrony.conf", "chrony.conf", simpleConfig{assign: goPattern(`^\s*(\S+)\s+(.*)\s*$`), multiple: true, single: true}},
		{"auditd_conf", "AuditDaemonConf", "/etc/audit/auditd.conf", "Audit Daemon Config", simpleConfig{}},
		{"ntp_conf", "NtpConf", "/etc/ntp.conf", "ntp.conf", simpleConfig{assign: goPattern(`^\s*(\S+)\s+(.*)\s*$`), multiple: true, single: true}},
	} {
		k := s.define(r.name, r.class, nil, func(c *ruby.Call) (any, error) {
			if err := s.arity(c, 0, 1); err != nil {
				return nil, err
			}
			d := &configRes{path: r.path}
			if given, ok := argString(c, 0); ok {
				d.path = given
			}
			var err error
			if d.content, err = s.readFile(d.path, false); err != nil {
				return nil, err
			}
			d.params, err = r.config.parse(s, d.content)
			return d, err
		})
		text(k, func(*configRes) string { return r.title }, func(d *configRes) string {
			if d == nil {
				return ""
			}
			return d.path
		})
		for _, method := range []string{"params", "read_params"} {
			def(k, method, func(c *ruby.Call, d *configRes) (ruby.Value, error) { return d.params, nil })
		}
		def(k, "content", func(c *ruby.Call, d *configRes) (ruby.Value, error) { return str(d.content), nil })
		def(k, "conf_path", func(c *ruby.Call, d *configRes) (ruby.Value, error) { return str(d.path), nil })
		missing(k, func(c *ruby.Call, d *configRes, name string) (ruby.Value, error) {
			v, err := lookup(c, d.params, str(name))
			if list, ok := v.(*ruby.Array); ok && r.config.single && len(list.Elems) == 1 {
				return list.Elems[0], err
			}
			return v, err
		})
	}
}

// missing makes any other method name a question to the payload T.
func missing[T any](k *ruby.Class, fn func(c *ruby.Call, d T, name string) (ruby.Value, error)) {
	k.DefMissing(func(c *ruby.Call, name string) (ruby.Value, error) {
		if d, ok := c.Self.(*ruby.Object).Data.(T); ok {
			return fn(c, d, name)
		}
		return nil, nil
	}, nil)
}

// lookup is hash[key] for a hash of any class; nil for everything else.
func lookup(c *ruby.Call, v, key ruby.Value) (ruby.Value, error) {
	if _, ok := v.(*ruby.Hash); !ok {
		return nil, nil
	}
	return c.In.Call(v, "[]", []ruby.Value{key}, nil)
}

// dig is params(a, b, …): one level of hashes for each key.
func dig(c *ruby.Call, v ruby.Value) (ruby.Value, error) {
	var err error
	for _, key := range c.Args {
		if v, err = lookup(c, v, key); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// defineSSH makes the configurations of OpenSSH, whose names count in any
// case; a setting that is given once is its value, else all its values.
func defineSSH(s *Set) {
	open := func(path string) func(c *ruby.Call) (any, error) {
		return func(c *ruby.Call) (any, error) {
			if err := s.arity(c, 0, 2); err != nil {
				return nil, err
			}
			d := &configRes{path: path}
			if given, ok := argString(c, 0); ok {
				d.path = given
			}
			content, err := s.readFile(d.path, false)
			if err != nil {
				return nil, err
			}
			d.content = content
			all, err := simpleConfig{assign: spaceAssign, multiple: true}.parse(s, content)
			if err != nil {
				return nil, err
			}
			lower := ruby.NewHash()
			all.Each(func(k, v ruby.Value) error {
				key := str(strings.ToLower(s.in.ToS(k)))
				if _, there := lower.Get(key); !there {
					lower.Set(key, v)
				}
				return nil
			})
			d.params = lower
			return d, nil
		}
	}
	client := s.define("ssh_config", "SshConfig", nil, open("/etc/ssh/ssh_config"))
	fixed(client, "SSH Configuration")
	def(client, "resource_id", func(c *ruby.Call, d *configRes) (ruby.Value, error) { return str(d.path), nil })
	def(client, "content", func(c *ruby.Call, d *configRes) (ruby.Value, error) { return str(d.content), nil })
	def(client, "params", func(c *ruby.Call, d *configRes) (ruby.Value, error) { return dig(c, d.params) })
	def(client, "read_params", func(c *ruby.Call, d *configRes) (ruby.Value, error) { return d.params, nil })
	missing(client, func(c *ruby.Call, d *configRes, name string) (ruby.Value, error) {
		v, err := lookup(c, d.params, str(strings.ToLower(name)))
		if list, ok := v.(*ruby.Array); ok && len(list.Elems) == 1 {
			return list.Elems[0], err
		}
		return v, err
	})
	server := s.define("sshd_config", "SshdConfig", client, open("/etc/ssh/sshd_config"))
	fixed(server, "SSHD Configuration")
}

// parsedRes is parse_config's: settings from a text or a file.
type parsedRes struct {
	content, path string
	params        ruby.Value
}

func defineParseConfig(s *Set) {
	k := s.define("parse_config", "PConfig", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 2); err != nil {
			return nil, err
		}
		d := &parsedRes{params: ruby.NewHash()}
		content, ok := argString(c, 0)
		if !ok {
			return d, nil
		}
		d.content = content
		var err error
		d.params, err = s.parseConfig(content, options(c))
		return d, err
	})
	text(k, func(*parsedRes) string { return "Parse Config " }, func(d *parsedRes) string { return d.content })
	def(k, "content", func(c *ruby.Call, d *parsedRes) (ruby.Value, error) { return str(d.content), nil })
	for _, method := range []string{"params", "read_params"} {
		k.Def(method, func(c *ruby.Call) (ruby.Value, error) {
			if d, ok := c.Self.(*ruby.Object).Data.(*parsedRes); ok {
				return dig(c, d.params)
			}
			return dig(c, ruby.NewHash()) // nothing was read
		})
	}
	def(k, "[]", func(c *ruby.Call, d *parsedRes) (ruby.Value, error) {
		name, _ := argString(c, 0)
		return lookup(c, d.params, str(name))
	})
	missing(k, func(c *ruby.Call, d *parsedRes, name string) (ruby.Value, error) {
		return lookup(c, d.params, str(name))
	})

	file := s.define("parse_config_file", "PConfigFile", k, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		d := &parsedRes{}
		d.path, _ = argString(c, 0)
		// A file that is missing still names itself in the report.
		c.Self.(*ruby.Object).SetIVar("@conf_path", str(d.path))
		var err error
		if d.content, err = s.readFile(d.path, false); err != nil {
			return nil, err
		}
		d.params, err = s.parseConfig(d.content, options(c))
		return d, err
	})
	path := func(c *ruby.Call) string { return c.In.ToS(c.Self.(*ruby.Object).IVar("@conf_path")) }
	file.Def("to_s", func(c *ruby.Call) (ruby.Value, error) { return str("Parse Config File " + path(c)), nil })
	file.Def("resource_id", func(c *ruby.Call) (ruby.Value, error) { return str(path(c)), nil })
}

// parseConfig reads a text with the options that a profile gave.
func (s *Set) parseConfig(content string, opts *ruby.Hash) (*ruby.Hash, error) {
	cfg := simpleConfig{values: 1}
	get := func(name string) (ruby.Value, bool) { return opts.GetSym(name) }
	if v, ok := get("assignment_regex"); ok && v != nil {
		cfg.assign = s.rubyPattern(v)
	}
	if v, ok := get("assignment_re"); ok && v != nil {
		cfg.assign = s.rubyPattern(v)
	}
	if v, ok := get("group_re"); ok {
		cfg.group = s.rubyPattern(v)
		cfg.groupless = v == nil
	}
	if v, ok := get("multiple_values"); ok {
		cfg.multiple = ruby.Truthy(v)
	}
	if v, ok := get("multiple_value_regex"); ok && v != nil {
		cfg.split = v
	}
	if v, ok := get("standalone_comments"); ok {
		cfg.standalone = ruby.Truthy(v)
	}
	if v, ok := get("comment_char"); ok {
		cfg.comment = s.in.ToS(v)
		cfg.commentless = cfg.comment == ""
	}
	if v, ok := get("key_values"); ok {
		cfg.values = int(leadingInt(s.in.ToS(v)))
	}
	if v, ok := get("line_separator"); ok && v != nil {
		content = strings.ReplaceAll(content, s.in.ToS(v), "\n")
	}
	return cfg.parse(s, content)
}
