package resource

import (
	"errors"
	"io/fs"
	"net/url"
	"path"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// defineRest makes what few profiles use.
func defineRest(s *Set) {
	s.later("lxc", s.defineLXC)
	s.later("opa_cli", s.defineOPACli)
	s.later("opa_api", s.defineOPAAPI)
	s.later("cassandra", func() {
		s.defineHome("cassandra", "Cassandra", "CassandraDB", "CASSANDRA_HOME", "cassandra.yaml", "Errors reading cassandra conf file: ")
	})
	s.later("oracle", func() {
		s.defineHome("oracle", "Oracle", "OracleDB", "ORACLE_HOME", "network/admin/listener.ora", "Errors reading listener settings: ")
	})
	s.later("cassandradb_conf", s.defineCassandraConf)
	s.later("oracledb_listener_conf", s.defineListenerConf)
	s.later("elasticsearch", s.defineElasticsearch)
	s.later("xinetd_conf", s.defineXinetd)
	for _, name := range []string{"rabbitmq_conf", "rabbitmq_config"} {
		s.later(name, func() { s.defineRabbitMQ(name) })
	}
	s.later("script", func() { s.define("script", "LegacyPowershell", s.class("powershell"), nil) })
}

// lxcRes is what lxc says of a container, empty of one that isn't there.
type lxcRes struct {
	name string
	info *ruby.Hash
}

func (s *Set) defineLXC() {
	k := s.define("lxc", "Lxc", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		d := &lxcRes{info: ruby.NewHash()}
		d.name, _ = argString(c, 0)
		c.Self.(*ruby.Object).Data = d
		bin, err := s.findProgram("/usr/sbin/lxc", "/sbin/lxc", "lxc")
		if err != nil {
			return d, err
		}
		out, err := s.run("%s info %s", bin, d.name)
		switch {
		case err != nil:
			return d, err
		case out.ExitStatus == 0:
			v, err := s.parseYAML(string(out.Stdout))
			if err != nil {
				return d, s.fail("Could not parse the command output.\n%s", err)
			}
			if h, ok := v.(*ruby.Hash); ok {
				d.info = h
			}
		case !strings.Contains(string(out.Stderr), "Error: Instance not found"):
			return d, s.fail("Unable to retrieve information for %s.\n%s", d.name, out.Stderr)
		}
		return d, nil
	})
	text(k, func(d *lxcRes) string { return "lxc " + d.name }, func(d *lxcRes) string { return d.name })
	def(k, "exists?", func(_ *ruby.Call, d *lxcRes) (ruby.Value, error) { return d.info.Len() > 0, nil })
	def(k, "running?", func(_ *ruby.Call, d *lxcRes) (ruby.Value, error) {
		v, ok := d.info.Get(str("Status"))
		return ok && strings.EqualFold(s.in.ToS(v), "Running"), nil
	})
	for method, key := range map[string]string{
		"name": "Name", "status": "Status", "type": "Type", "architecture": "Architecture", "pid": "PID", "created_at": "Created", "last_used_at": "Last Used", "resources": "Resources",
	} {
		def(k, method, func(_ *ruby.Call, d *lxcRes) (ruby.Value, error) {
			v, _ := d.info.Get(str(key))
			return v, nil
		})
	}
	s.supports["lxc"] = []*ruby.Hash{ruby.NewHash(ruby.Symbol("platform"), str("linux"))}
}

// findProgram is the first of the names that is a command of the target's.
func (s *Set) findProgram(names ...string) (string, error) {
	for _, name := range names {
		if ok, err := s.commandExists(name); err != nil || ok {
			return name, err
		}
	}
	return "", s.fail("Could not find `%s`", names[len(names)-1])
}

// defineOPA makes a resource that is the answer of an Open Policy Agent.
func (s *Set) defineOPA(name, class, title string, id func(g given) string, ask func(g given) (string, error), allow func(answer ruby.Value) (ruby.Value, error)) {
	k := s.define(name, class, s.class("json"), func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		g := s.given(c, 0)
		c.Self.(*ruby.Object).SetIVar("@resource_id", str(id(g)))
		cmd, err := ask(g)
		if err != nil {
			return nil, err
		}
		out, err := s.run("%s", cmd)
		if err != nil {
			return nil, err
		}
		if out.ExitStatus != 0 {
			return nil, s.fail("Error while executing OPA query: %s", both(out.Stdout, out.Stderr))
		}
		raw := strings.ReplaceAll(string(out.Stdout), "\n", "")
		params, err := s.parseYAML(raw)
		if err != nil {
			return nil, s.fail("Unable to parse OPA query output: %s", err)
		}
		return &documentRes{title, raw, params}, nil
	})
	fixed(k, title)
	k.Def("resource_id", func(c *ruby.Call) (ruby.Value, error) { return c.Self.(*ruby.Object).IVar("@resource_id"), nil })
	def(k, "allow", func(_ *ruby.Call, d *documentRes) (ruby.Value, error) { return allow(d.params) })
	def(k, "result", func(c *ruby.Call, d *documentRes) (ruby.Value, error) {
		if h, ok := d.params.(*ruby.Hash); ok && h.Len() == 0 {
			return nil, nil
		}
		v, err := c.In.Call(d.params, "[]", []ruby.Value{str("result")}, nil)
		if err == nil {
			v, err = c.In.Call(v, "empty?", nil, nil)
		}
		if err != nil || ruby.Truthy(v) {
			return nil, err
		}
		return d.params, nil
	})
}

func (s *Set) defineOPACli() {
	s.defineOPA("opa_cli", "OpaCli", "OPA cli", func(g given) string {
		policy, query := g.or("policy", ""), g.or("query", "")
		if policy == "" && query == "" {
			return "opa_cli"
		}
		return policy + ":" + query
	}, func(g given) (string, error) {
		policy, data, query := g.or("policy", ""), g.or("data", ""), g.or("query", "")
		if policy == "" || data == "" || query == "" {
			return "", s.fail("OPA policy, data and query are mandatory.")
		}
		return g.or("opa_executable_path", "opa") + " eval -i '" + data + "' -d '" + policy + "' '" + query + "'", nil
	}, func(answer ruby.Value) (ruby.Value, error) {
		at := func(keys ...ruby.Value) (ruby.Value, error) {
			v := answer
			for _, k := range append([]ruby.Value{str("result"), int64(0), str("expressions"), int64(0)}, keys...) {
				var err error
				if v, err = s.in.Call(v, "[]", []ruby.Value{k}, nil); err != nil {
					return nil, err
				}
			}
			return v, nil
		}
		text, err := at(str("text"))
		if err != nil || !strings.Contains(s.in.ToS(text), "allow") {
			return nil, err
		}
		return at(str("value"))
	})
}

func (s *Set) defineOPAAPI() {
	s.defineOPA("opa_api", "OpaApi", "OPA api", func(g given) string { return g.or("url", "opa_api") }, func(g given) (string, error) {
		at, data := g.or("url", ""), g.or("data", "")
		if at == "" || data == "" {
			return "", s.fail("OPA url and data are mandatory.")
		}
		return "curl -X POST " + at + " -d @" + data + " -H 'Content-Type: application/json'", nil
	}, func(answer ruby.Value) (ruby.Value, error) {
		return s.in.Call(answer, "[]", []ruby.Value{str("result")}, nil)
	})
}

// homeRes finds a file below the folder that a variable of the target's
// environment names; path is empty when there is none.
type homeRes struct{ path string }

func (s *Set) defineHome(name, class, title, variable, file, words string) {
	k := s.define(name, class, nil, func(c *ruby.Call) (any, error) {
		d := &homeRes{}
		c.Self.(*ruby.Object).Data = d
		switch s.platform.Family {
		case "debian", "redhat", "linux", "suse":
		default:
			return d, s.arity(c, 0, 0)
		}
		env, err := s.New(c, "os_env", []ruby.Value{str(variable)})
		if err == nil {
			var home ruby.Value
			if home, err = c.In.Call(env, "content", nil, nil); err == nil && home != nil && s.in.ToS(home) != "" {
				p := s.in.ToS(home) + "/" + file
				var ok bool
				if _, ok, err = (&fileRes{s, p}).stat(true); ok {
					d.path = p
				}
			}
		}
		return d, s.wrapped(err, words)
	})
	fixed(k, title)
	def(k, "conf_path", func(_ *ruby.Call, d *homeRes) (ruby.Value, error) { return textOrNil(d.path), nil })
}

// foundBy is the path that was given, or that a resource of defineHome's
// finds.
func (s *Set) foundBy(c *ruby.Call, finder, absent string) (string, error) {
	if given, ok := argString(c, 0); ok {
		return given, nil
	}
	found, err := s.New(c, finder, nil)
	if err != nil {
		return "", err
	}
	if why, failed := Failed(found); failed {
		return "", s.in.Raise(s.in.Class("RuntimeError"), "%s", why)
	}
	if d, ok := found.(*ruby.Object).Data.(*homeRes); ok && d.path != "" {
		return d.path, nil
	}
	return "", s.skip("%s", absent)
}

func (s *Set) defineCassandraConf() {
	const title = "Cassandra Configuration"
	k := s.define("cassandradb_conf", "CassandradbConf", s.class("json"), func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		name, err := s.foundBy(c, "cassandra", "Cassandra db conf path is not set")
		if err != nil {
			return nil, err
		}
		c.Self.(*ruby.Object).SetIVar("@resource_name_supplement", str(name))
		raw, err := s.readFile(name, false)
		if err != nil {
			return nil, err
		}
		params, err := s.parseYAML(raw)
		if err != nil {
			err = s.fail("Unable to parse `cassandra.yaml` file: %s", err)
		}
		return &documentRes{title, raw, params}, err
	})
	named := func(prefix, otherwise string) func(c *ruby.Call) (ruby.Value, error) {
		return func(c *ruby.Call) (ruby.Value, error) {
			if v := c.Self.(*ruby.Object).IVar("@resource_name_supplement"); v != nil {
				return str(prefix + c.In.ToS(v)), nil
			}
			return str(otherwise), nil
		}
	}
	k.Def("to_s", named(title+" ", title+" content"))
	k.Def("resource_id", named("", "cassandradb_conf"))
}

func (s *Set) defineListenerConf() {
	k := s.define("oracledb_listener_conf", "OracledbListenerConf", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		d := &configRes{}
		var err error
		if d.path, err = s.foundBy(c, "oracle", "Oracle Listener conf path is not set"); err != nil {
			return nil, err
		}
		c.Self.(*ruby.Object).SetIVar("@resource_id", str(d.path))
		if d.content, err = s.readFile(d.path, false); err != nil {
			return nil, err
		}
		d.params, err = simpleConfig{assign: quotedAssign}.parse(s, d.content)
		return d, err
	})
	fixed(k, "Oracle Listener Configuration")
	def(k, "content", func(_ *ruby.Call, d *configRes) (ruby.Value, error) { return str(d.content), nil })
	def(k, "params", func(c *ruby.Call, d *configRes) (ruby.Value, error) { return dig(c, d.params) })
	def(k, "[]", func(c *ruby.Call, d *configRes) (ruby.Value, error) { return s.traverse(d.params, c.Args) })
	missing(k, func(_ *ruby.Call, d *configRes, name string) (ruby.Value, error) {
		return s.traverse(d.params, []ruby.Value{str(name)})
	})
}

// elasticRes is the nodes of a cluster.
type elasticRes struct {
	url   string
	nodes []*ruby.Hash
}

func (s *Set) defineElasticsearch() {
	k := s.define("elasticsearch", "Elasticsearch", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		g := s.given(c, 0)
		d := &elasticRes{}
		c.Self.(*ruby.Object).Data = d
		there, err := s.commandExists("curl")
		switch {
		case err != nil:
			return d, err
		case !there:
			return d, s.skip("Package `curl` not avaiable on the host") // InSpec's spelling
		}
		d.url = g.or("url", "http://localhost:9200")
		d.nodes, err = s.elasticNodes(d.url, g)
		return d, err
	})
	text(k, func(d *elasticRes) string { return "Elasticsearch Cluster " + d.url }, nil)
	def(k, "url", func(_ *ruby.Call, d *elasticRes) (ruby.Value, error) { return str(d.url), nil })
	def(k, "nodes", func(_ *ruby.Call, d *elasticRes) (ruby.Value, error) { return hashList(d.nodes), nil })
	cols := []column{
		{name: "exists?", native: func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) { return len(r.data) > 0, nil }},
		{name: "node_count", native: func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) { return int64(len(r.data)), nil }},
		{name: "node_name", field: str("name")},
	}
	for _, f := range []string{
		"cluster_name", "transport_address", "host", "ip", "version", "build_hash", "total_indexing_buffer", "roles", "settings", "os", "process", "jvm", "transport", "http",
		"plugins", "plugin_list", "modules", "module_list", "node_id", "ingest",
	} {
		cols = append(cols, column{name: f, field: str(f)})
	}
	filterTable(s, k, cols, func(d *elasticRes) ([]*ruby.Hash, error) { return d.nodes, nil })
	s.supports["elasticsearch"] = unixOnly()
}

func (s *Set) elasticNodes(at string, g given) ([]*ruby.Hash, error) {
	base, err := url.Parse(at)
	if err != nil {
		return nil, s.in.Raise(s.in.Class("StandardError"), "bad URI(is not URI?): %q", at)
	}
	cmd := "curl"
	if v, given := g.opts.GetSym("ssl_verify"); given && !ruby.Truthy(v) {
		cmd += " -k"
	}
	cmd += " -H 'Content-Type: application/json'"
	user, hasUser := g.text("username")
	if pass, ok := g.text("password"); ok && hasUser {
		cmd += "  -u " + user + ":" + pass
	}
	out, err := s.ask("curl", cmd+" "+base.ResolveReference(&url.URL{Path: "_nodes"}).String())
	said := string(out.Stderr)
	switch {
	case err != nil:
		return nil, err
	case strings.Contains(said, "Failed to connect"):
		return nil, s.skip("Connection refused - please check the URL %s for accuracy", at)
	case strings.Contains(said, "Peer's Certificate issuer is not recognized"):
		return nil, s.skip("Connection refused - peer certificate issuer is not recognized")
	case out.ExitStatus != 0:
		return nil, s.skip("Error fetching Elastcsearch data from curl %s: %s", at, said) // InSpec's spelling
	}
	v, err := s.parseJSON(string(out.Stdout))
	var raised *ruby.Exception
	if errors.As(err, &raised) {
		return nil, s.skip("Couldn't parse the Elasticsearch response: %s", raised.Message)
	}
	if err != nil {
		return nil, err
	}
	get := func(keys ...string) ruby.Value {
		v := v
		for _, k := range keys {
			h, ok := v.(*ruby.Hash)
			if !ok {
				return nil
			}
			v, _ = h.Get(str(k))
		}
		return v
	}
	if get("error") != nil {
		return nil, s.skip("%s: %s", s.in.ToS(get("error", "type")), s.in.ToS(get("error", "reason")))
	}
	if n, ok := get("_nodes", "successful").(int64); ok && n == 0 {
		return nil, s.skip("No successful nodes available in cluster")
	}
	nodes, ok := get("nodes").(*ruby.Hash)
	if !ok {
		return nil, nil
	}
	empty, err := s.mash(ruby.NewHash())
	if err != nil {
		return nil, err
	}
	var list []*ruby.Hash
	err = nodes.Each(func(id, data ruby.Value) error {
		from, ok := data.(*ruby.Hash)
		if !ok {
			return nil
		}
		from = s.withoutCollisions(empty, from)
		names := func(key string) ruby.Value {
			all := ruby.NewArray()
			items, _ := from.Get(str(key))
			if items, ok := items.(*ruby.Array); ok {
				for _, item := range items.Elems {
					if h, ok := item.(*ruby.Hash); ok {
						name, _ := h.Get(str("name"))
						all.Elems = append(all.Elems, name)
					}
				}
			}
			return all
		}
		cluster, err := s.traverse(from, []ruby.Value{str("settings"), str("cluster"), str("name")})
		if err != nil {
			return err
		}
		from.Set(str("node_id"), id)
		from.Set(str("plugin_list"), names("plugins"))
		from.Set(str("module_list"), names("modules"))
		from.Set(str("cluster_name"), cluster)
		m, err := s.mash(from)
		if h, ok := m.(*ruby.Hash); ok {
			list = append(list, h)
		}
		return err
	})
	return list, err
}

// withoutCollisions renames the keys that are methods of a Mash, as InSpec
// does.
func (s *Set) withoutCollisions(mash ruby.Value, h *ruby.Hash) *ruby.Hash {
	out := ruby.NewHash()
	h.Each(func(k, v ruby.Value) error {
		key := s.in.ToS(k)
		if s.in.RespondTo(mash, key) {
			key = "es_" + key
		}
		if in, ok := v.(*ruby.Hash); ok {
			v = s.withoutCollisions(mash, in)
		}
		out.Set(str(key), v)
		return nil
	})
	return out
}

// xinetdRes is the services that xinetd is to listen for.
type xinetdRes struct {
	path string
	rows []*ruby.Hash
}

func (s *Set) defineXinetd() {
	k := s.define("xinetd_conf", "XinetdConf", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		d := &xinetdRes{path: "/etc/xinetd.conf"}
		if given, ok := argString(c, 0); ok {
			d.path = given
		}
		c.Self.(*ruby.Object).Data = d
		groups, err := s.parseXinetd(d.path, map[string]bool{})
		for _, g := range groups {
			name, ok := strings.CutPrefix(g.name, "service ")
			if !ok {
				continue
			}
			g.params.Set(str("service"), str(name))
			if v, _ := g.params.Get(str("protocol")); v == nil {
				kind, _ := g.params.Get(str("socket_type"))
				protocol := map[string]string{"stream": "tcp", "dgram": "udp"}[s.in.ToS(kind)]
				g.params.Set(str("protocol"), str(firstText(protocol, "unknown")))
			}
			d.rows = append(d.rows, g.params)
		}
		return d, err
	})
	text(k, func(d *xinetdRes) string { return "Xinetd config " + d.path }, nil)
	none := func(value string) func(c *ruby.Call, t *ruby.Object, r *rows) (ruby.Value, error) {
		return func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) {
			for _, row := range r.data {
				if v, _ := row.Get(str("disable")); v != nil && s.in.ToS(v) == value {
					return false, nil
				}
			}
			return true, nil
		}
	}
	filterTable(s, k, append(textColumns("services", "service", "ids", "id", "socket_types", "socket_type", "types", "type", "protocols", "protocol", "wait", "wait"),
		column{name: "disabled?", native: none("no")}, column{name: "enabled?", native: none("yes")},
	), func(d *xinetdRes) ([]*ruby.Hash, error) { return d.rows, nil })
	s.supports["xinetd_conf"] = unixOnly()
}

// xinetdGroup is a group of settings, such as "service ftp".
type xinetdGroup struct {
	name   string
	params *ruby.Hash
}

// parseXinetd reads xinetd.conf(5), with the folders that it includes. seen
// are the files that were read.
func (s *Set) parseXinetd(name string, seen map[string]bool) ([]xinetdGroup, error) {
	if seen[name] = true; len(seen) > maxIncludes {
		return nil, s.fail("%s: more than %d files are included", name, maxIncludes)
	}
	text, err := s.readFile(name, false)
	if err != nil {
		return nil, err
	}
	var all []xinetdGroup
	var group string
	var settings []string
	for rest := text + "\n"; rest != ""; {
		line, after, _ := strings.Cut(rest, "\n")
		rest = after
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		switch {
		case line == "}":
			params, err := simpleConfig{}.parse(s, strings.Join(settings, "\n"))
			if err != nil {
				return nil, err
			}
			all = append(all, xinetdGroup{group, params})
			group = ""
		case strings.HasPrefix(strings.TrimLeft(rest, " \t\r\n"), "{"):
			group, settings = line, nil
			_, rest, _ = strings.Cut(rest, "\n")
		case group != "":
			settings = append(settings, line)
		default:
			dir, ok := strings.CutPrefix(line, "includedir ")
			if !ok {
				continue
			}
			files, err := s.filesBelow(strings.TrimSpace(dir))
			if err != nil {
				return nil, err
			}
			for _, f := range files {
				if seen[f] {
					continue
				}
				more, err := s.parseXinetd(f, seen)
				if err != nil {
					return nil, err
				}
				all = append(all, more...)
			}
		}
	}
	return all, nil
}

// filesBelow lists the regular files below a folder.
func (s *Set) filesBelow(dir string) ([]string, error) {
	is, err := s.isDir(dir)
	if err != nil {
		return nil, err
	}
	if !is {
		return nil, s.skip("Can't find folder: %s", dir)
	}
	out, err := s.t.Run(s.in.Context(), "find "+dir+" -type f")
	if err == nil {
		return lines(string(out.Stdout)), nil
	}
	if !errors.Is(err, target.ErrNoCommands) {
		return nil, s.problem(err)
	}
	names, err := s.t.ReadDir(s.in.Context(), dir)
	var pathErr *fs.PathError
	if err != nil && !errors.As(err, &pathErr) {
		return nil, s.problem(err)
	}
	var found []string
	for _, n := range names {
		p := path.Join(dir, n)
		info, ok, err := (&fileRes{s, p}).stat(false)
		switch {
		case err != nil:
			return nil, err
		case ok && info.Type == target.File:
			found = append(found, p)
		case ok && info.Type == target.Directory:
			more, err := s.filesBelow(p)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		}
	}
	return found, nil
}

func (s *Set) defineRabbitMQ(name string) {
	k := s.define(name, "RabbitmqConfig", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		d := &configRes{path: "/etc/rabbitmq/rabbitmq.config"}
		if given, ok := argString(c, 0); ok {
			d.path = given
		}
		c.Self.(*ruby.Object).SetIVar("@conf_path", str(d.path))
		var err error
		d.content, err = s.readFile(d.path, true)
		return d, err
	})
	k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) {
		return str("rabbitmq_config " + c.In.ToS(c.Self.(*ruby.Object).IVar("@conf_path"))), nil
	})
	k.Def("resource_id", func(c *ruby.Call) (ruby.Value, error) { return c.Self.(*ruby.Object).IVar("@conf_path"), nil })
	def(k, "params", func(c *ruby.Call, d *configRes) (ruby.Value, error) {
		if d.params == nil {
			v, err := parseErlang(d.content)
			if err != nil {
				return nil, s.in.Raise(s.in.Class("RuntimeError"), "Cannot parse RabbitMQ config: %q", d.content)
			}
			d.params = v
		}
		v := d.params
		for _, key := range c.Args {
			h, ok := v.(*ruby.Hash)
			if !ok {
				return nil, nil
			}
			v, _ = h.Get(str(c.In.ToS(key)))
		}
		return v, nil
	})
	s.supports[name] = unixOnly()
}
