package resource

import (
	"encoding/csv"
	"errors"
	"io"
	"regexp"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// tableRes is a resource that is a table and nothing else.
type tableRes struct {
	title string
	rows  []*ruby.Hash
}

func defineTables(s *Set) {
	for _, r := range []struct {
		name, class, title, path string
		fields                   []string
		parse                    func(text string) []*ruby.Hash
	}{
		{"etc_hosts", "EtcHosts", "Hosts File", "/etc/hosts", []string{"ip_address", "primary_name", "all_host_names"}, hostsRows},
		{"etc_hosts_allow", "EtcHostsAllow", "hosts.allow Configuration", "/etc/hosts.allow", []string{"daemon", "client_list", "options"}, wrapperRows},
		{"etc_hosts_deny", "EtcHostsDeny", "hosts.deny Configuration", "/etc/hosts.deny", []string{"daemon", "client_list", "options"}, wrapperRows},
		{"postgres_hba_conf", "PostgresHbaConf", "Postgres Hba Config ", "", []string{"type", "database", "user", "address", "auth_method", "auth_params"}, hbaRows},
		{"postgres_ident_conf", "PostgresIdentConf", "PostgreSQL Ident Config ", "", []string{"map_name", "system_username", "pg_username"}, identRows},
	} {
		k := s.define(r.name, r.class, nil, func(c *ruby.Call) (any, error) {
			if err := s.arity(c, 0, 1); err != nil {
				return nil, err
			}
			path := r.path
			if given, ok := argString(c, 0); ok {
				path = given
			}
			if path == "" {
				found, err := s.findPostgres()
				if err != nil {
					return nil, err
				}
				if found.confDir == "" {
					return nil, s.skip("Seems like PostgreSQL is not installed on your system")
				}
				path = found.confDir + "/" + strings.Replace(strings.TrimPrefix(r.name, "postgres"), "_", "pg_", 1)
				path = strings.TrimSuffix(path, "_conf") + ".conf"
			}
			content, err := s.readFile(path, false)
			if err != nil {
				return nil, err
			}
			d := &tableRes{title: r.title, rows: r.parse(content)}
			if r.path == "" {
				d.title += path
			}
			return d, nil
		})
		k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) {
			if d, ok := c.Self.(*ruby.Object).Data.(*tableRes); ok {
				return str(d.title), nil
			}
			return str(r.title), nil
		})
		var cols []column
		for _, f := range r.fields {
			cols = append(cols, column{name: f, field: str(f)})
		}
		filterTable(s, k, cols, func(d *tableRes) ([]*ruby.Hash, error) { return d.rows, nil })
		def(k, "params", func(c *ruby.Call, d *tableRes) (ruby.Value, error) { return hashList(d.rows), nil })
	}
	defineCrontab(s)
	definePackages(s)
	defineCSV(s)
	defineAuditd(s)
}

// hostsRows reads hosts(5).
func hostsRows(text string) []*ruby.Hash {
	var out []*ruby.Hash
	for _, line := range lines(text) {
		if uncomment(line, "#", false) == "" {
			continue
		}
		w := strings.Fields(line)
		h := textRow([]string{"ip_address", "primary_name"}, w)
		h.Set(str("all_host_names"), nil)
		if len(w) > 0 {
			h.Set(str("all_host_names"), ruby.Strings(w[1:]))
		}
		out = append(out, h)
	}
	return out
}

var (
	wrapperColon  = regexp.MustCompile(`:\s+`)
	wrapperOption = regexp.MustCompile(`\s+:\s+`)
)

// wrapperRows reads hosts.allow and hosts.deny (hosts_access(5)): a row for
// each daemon of a line.
func wrapperRows(text string) []*ruby.Hash {
	var out []*ruby.Hash
	for _, line := range uncommented(text, "#") {
		daemons, rest, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		parts := wrapperOption.Split(strings.TrimLeft(rest, " \t"), 2)
		clients, options := ruby.NewArray(), ruby.NewArray()
		for _, c := range fields(parts[0], ",") {
			clients.Elems = append(clients.Elems, str(strings.TrimSpace(c)))
		}
		if len(parts) > 1 {
			for _, o := range wrapperColon.Split(parts[1], -1) {
				options.Elems = append(options.Elems, str(strings.TrimSpace(o)))
			}
		}
		for _, daemon := range strings.Split(daemons, ",") {
			out = append(out, ruby.NewHash(str("daemon"), str(strings.TrimSpace(daemon)), str("client_list"), clients, str("options"), options))
		}
	}
	return out
}

// hbaRows reads pg_hba.conf; a local line has no address.
func hbaRows(text string) []*ruby.Hash {
	var out []*ruby.Hash
	for _, line := range lines(text) {
		if t := strings.TrimSpace(line); t == "" || t[0] == '#' {
			continue
		}
		w := fields(blanks.ReplaceAllString(line, " "), " ")
		h := textRow([]string{"type", "database", "user", "address", "auth_method"}, w)
		rest := ""
		if len(w) > 5 {
			rest = strings.Join(w[5:], " ")
		}
		h.Set(str("auth_params"), str(rest))
		if len(w) > 0 && w[0] == "local" {
			h.Set(str("auth_method"), strOrNil(w, 3))
			h.Set(str("address"), str(""))
		}
		out = append(out, h)
	}
	return out
}

// identRows reads pg_ident.conf.
func identRows(text string) []*ruby.Hash {
	var out []*ruby.Hash
	for _, line := range lines(text) {
		if t := strings.TrimSpace(line); line == "" || strings.HasPrefix(t, "#") {
			continue
		}
		out = append(out, textRow([]string{"map_name", "system_username", "pg_username"}, fields(blanks.ReplaceAllString(line, " "), " ")))
	}
	return out
}

var cronTimes = []string{"minute", "hour", "day", "month", "weekday"}

// cronWords are what the words such as @daily stand for.
var cronWords = map[string][]string{
	"@hourly": {"0", "*", "*", "*", "*"}, "@midnight": {"0", "0", "*", "*", "*"}, "@daily": {"0", "0", "*", "*", "*"},
	"@weekly": {"0", "*", "*", "*", "0"}, "@monthly": {"0", "0", "1", "*", "*"}, "@annually": {"0", "0", "1", "1", "*"},
	"@yearly": {"0", "0", "1", "1", "*"}, "@reboot": {"-1", "-1", "-1", "-1", "-1"},
}

// cronRow reads a line of crontab(5); in a system's crontab it names the user.
func cronRow(line string, system bool, user ruby.Value) *ruby.Hash {
	names := slicesOf(cronTimes, "command")
	if system {
		names = slicesOf(cronTimes, "user", "command")
	}
	word, _, _ := strings.Cut(line, " ")
	var w []string
	if times, ok := cronWords[word]; ok {
		w = append(slicesOf(times), blanks.Split(line, len(names)-len(cronTimes)+1)[1:]...)
	} else {
		w = blanks.Split(line, len(names))
	}
	h := textRow(names, w)
	if !system {
		h.Set(str("user"), user)
	}
	return h
}

func slicesOf(list []string, more ...string) []string {
	return append(append([]string(nil), list...), more...)
}

func defineCrontab(s *Set) {
	k := s.define("crontab", "Crontab", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		var user, path ruby.Value
		if opts, ok := c.Arg(0).(*ruby.Hash); ok {
			user, _ = opts.GetSym("user")
			path, _ = opts.GetSym("path")
			if (user == nil) == (path == nil) {
				if user == nil {
					return nil, s.fail("A user or path must be supplied.")
				}
				return nil, s.fail("Either user or path must be supplied, not both!")
			}
		} else {
			user = c.Arg(0)
		}
		d := &tableRes{title: "crontab for current user"}
		var content string
		if path != nil {
			name := s.in.ToS(path)
			d.title = "crontab for path " + name
			var ok bool
			var err error
			if content, ok, err = s.readOptional(name); err != nil || !ok {
				if err == nil {
					err = s.fail("Supplied crontab path '%s' must exist!", name)
				}
				return nil, err
			}
		} else {
			cmd := "crontab -l"
			if user != nil {
				d.title = "crontab for user " + s.in.ToS(user)
				cmd += " -u " + s.in.ToS(user)
			}
			out, err := s.run("%s", cmd)
			if err != nil {
				return nil, err
			}
			content = string(out.Stdout)
		}
		for _, line := range lines(content) {
			if line = uncomment(line, "#", false); line != "" {
				d.rows = append(d.rows, cronRow(line, path != nil, user))
			}
		}
		return d, nil
	})
	text(k, func(d *tableRes) string {
		if d == nil {
			return "crontab"
		}
		return d.title
	}, nil)
	names := slicesOf(cronTimes, "user", "command")
	filterTable(s, k, append(textColumns("minutes", "minute", "hours", "hour", "days", "day", "months", "month", "weekdays", "weekday",
		"user", "user", "commands", "command"), column{name: "content", native: func(c *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) {
		var out []string
		for _, row := range r.data {
			var parts []string
			for _, n := range names {
				if v, _ := row.Get(str(n)); v != nil {
					parts = append(parts, c.In.ToS(v))
				}
			}
			out = append(out, strings.Join(parts, " "))
		}
		return str(strings.Join(out, "\n")), nil
	}}), func(d *tableRes) ([]*ruby.Hash, error) { return d.rows, nil })
	def(k, "params", func(c *ruby.Call, d *tableRes) (ruby.Value, error) { return hashList(d.rows), nil })
}

// definePackages lists the packages whose name holds a text or matches a
// regular expression.
func definePackages(s *Set) {
	k := s.define("packages", "Packages", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		pattern := c.Args[0]
		switch p := pattern.(type) {
		case *ruby.Regexp:
		case *ruby.String:
			re, err := c.In.Call(c.In.Class("Regexp"), "new", []ruby.Value{str(regexp.QuoteMeta(p.String()))}, nil)
			if err != nil {
				return nil, err
			}
			pattern = re
		default:
			return nil, s.in.Raise(s.in.Class("RuntimeError"), `Invalid name argument to packages resource, please use a "string" or /regexp/`)
		}
		d := &tableRes{title: "Packages " + c.In.Inspect(pattern)}
		all, err := s.allPackages()
		if err != nil {
			return nil, err
		}
		for _, p := range all {
			match, err := c.In.CaseEq(pattern, str(p.name))
			if err != nil {
				return nil, err
			}
			if match {
				status := "not-installed"
				if p.installed {
					status = "installed"
				}
				d.rows = append(d.rows, ruby.NewHash(ruby.Symbol("status"), str(status), ruby.Symbol("name"), str(p.name),
					ruby.Symbol("version"), str(p.version), ruby.Symbol("architecture"), str(p.arch)))
			}
		}
		return d, nil
	})
	text(k, func(d *tableRes) string {
		if d == nil {
			return "Packages"
		}
		return d.title
	}, nil)
	filterTable(s, k, []column{
		{name: "statuses", field: ruby.Symbol("status"), simple: true},
		{name: "names", field: ruby.Symbol("name")},
		{name: "versions", field: ruby.Symbol("version")},
		{name: "architectures", field: ruby.Symbol("architecture")},
	}, func(d *tableRes) ([]*ruby.Hash, error) { return d.rows, nil })
}

func (s *Set) allPackages() ([]packageInfo, error) {
	switch p := s.platform; {
	case p.Is("debian"):
		all, err := s.dpkgAll()
		for i := range all {
			// dpkg-query's version is cut at the epoch here, as InSpec cuts it.
			if _, rest, ok := strings.Cut(all[i].version, ":"); ok {
				all[i].version = rest
			}
		}
		return all, err
	case p.Is("redhat"), p.Family == "suse", p.Family == "fedora":
		out, err := s.t.Run(s.in.Context(), `rpm -qa --queryformat '%{NAME}  %{VERSION}-%{RELEASE}  %{ARCH}\n'`)
		switch {
		case errors.Is(err, target.ErrNoCommands):
			return s.rpmAll("")
		case err != nil:
			err = s.problem(err)
		case out.ExitStatus != 0:
			err = s.fail("rpm can't list the packages of the target")
		}
		var all []packageInfo
		for _, line := range lines(string(out.Stdout)) {
			if w := strings.Split(line, "  "); len(w) == 3 {
				all = append(all, packageInfo{name: w[0], version: w[1], arch: w[2], installed: true})
			}
		}
		return all, err
	case p.Name == "alpine":
		text, _, err := s.readOptional("/lib/apk/db/installed")
		return parseApkInstalled(text), err
	}
	return nil, s.skip("The packages resource is not yet supported on OS %s", s.platform.Name)
}

// defineCSV makes csv: json's kin whose rows are hashes by the first line.
func defineCSV(s *Set) {
	k := s.define("csv", "CsvConfig", s.spec.Interp().Class("Inspec::Resources::JsonConfig"), func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		raw, title, err := s.rawDocument(c.Args[0])
		c.Self.(*ruby.Object).SetIVar("@resource_name_supplement", title)
		if err != nil {
			return nil, err
		}
		params, err := parseCSV(raw, len(c.Args) < 2 || ruby.Truthy(c.Args[1]))
		if err != nil {
			return nil, s.fail("Unable to parse CSV: %s", err)
		}
		return &documentRes{"CSV", raw, params}, nil
	})
	k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) {
		if v := c.Self.(*ruby.Object).IVar("@resource_name_supplement"); v != nil {
			return str("CSV " + c.In.ToS(v)), nil
		}
		return str("CSV content"), nil
	})
	missing(k, func(c *ruby.Call, d *documentRes, name string) (ruby.Value, error) {
		rows, _ := d.params.(*ruby.Array)
		list := ruby.NewArray()
		for _, r := range rows.Elems {
			h, ok := r.(*ruby.Hash)
			if !ok {
				return d.params, nil
			}
			if v, _ := h.Get(str(name)); v != nil {
				list.Elems = append(list.Elems, v)
			}
		}
		return list, nil
	})
}

func parseCSV(text string, headers bool) (*ruby.Array, error) {
	r := csv.NewReader(strings.NewReader(text))
	r.FieldsPerRecord = -1
	out := ruby.NewArray()
	var names []string
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if headers && names == nil {
			names = record
			continue
		}
		row, list := ruby.NewHash(), ruby.NewArray()
		for i, field := range record {
			v := csvValue(field)
			list.Elems = append(list.Elems, v)
			if i < len(names) {
				row.Set(str(names[i]), v)
			}
		}
		if headers {
			out.Elems = append(out.Elems, row)
		} else {
			out.Elems = append(out.Elems, list)
		}
	}
}

// csvValue is a field as Ruby's CSV converts it: numbers, and nil for nothing.
func csvValue(field string) ruby.Value {
	if n, ok := wholeNumber(field); ok {
		return n
	}
	if f, ok := decimal(field); ok {
		return f
	}
	if field == "" {
		return nil
	}
	return str(field)
}
