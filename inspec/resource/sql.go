package resource

import (
	"encoding/json"
	"errors"
	"regexp"
	"strconv"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// defineSessions makes the databases that are asked by a client of theirs on
// the target, and the settings that are asked the same way.
func defineSessions(s *Set) {
	s.later("mssql_session", s.defineMSSQL)
	s.later("mssql_sys_conf", s.defineMSSQLSysConf)
	s.later("oracledb_session", s.defineOracle)
	s.later("oracledb_conf", s.defineOracleConf)
	s.later("sybase_session", s.defineSybase)
	s.later("sybase_conf", s.defineSybaseConf)
	s.later("ibmdb2_session", s.defineDB2)
	s.later("ibmdb2_conf", s.defineDB2Conf)
	s.later("cassandradb_session", s.defineCassandra)
	s.later("mongodb_session", s.defineMongo)
}

// sqlResult is what a query gave; a row is nil where its line was empty.
type sqlResult struct {
	status int
	rows   []ruby.Value
}

// sqlRow and sqlColumn are parts of it; row is nil when there is none.
type (
	sqlRow    struct{ row ruby.Value }
	sqlColumn struct {
		row  ruby.Value
		name string
	}
)

// sqlClasses makes the class of results, with those of their parts.
func (s *Set) sqlClasses() *ruby.Class {
	helper := s.in.DefineModule(nil, "DatabaseHelper")
	if k, ok := helper.Const("SQLQueryResult"); ok {
		return k.(*ruby.Class)
	}
	col := s.in.DefineClass(helper, "SQLColumn", nil)
	fixed(col, "SQL Column")
	def(col, "value", func(c *ruby.Call, d sqlColumn) (ruby.Value, error) {
		if d.row == nil {
			return str(""), nil
		}
		return c.In.Call(d.row, "[]", []ruby.Value{str(strings.ToLower(d.name))}, nil)
	})
	row := s.in.DefineClass(helper, "SQLRow", nil)
	fixed(row, "SQL Row")
	def(row, "column", func(c *ruby.Call, d sqlRow) (ruby.Value, error) {
		name, _ := argString(c, 0)
		return s.in.NewObject(col, sqlColumn{d.row, name}), s.arity(c, 1, 1)
	})
	k := s.in.DefineClass(helper, "SQLQueryResult", nil)
	fixed(k, "SQL ResultSet")
	k.Def("inspect", func(c *ruby.Call) (ruby.Value, error) { return str("SQL ResultSet"), nil })
	k.Def("error", func(c *ruby.Call) (ruby.Value, error) { return nil, nil })
	def(k, "empty?", func(_ *ruby.Call, d *sqlResult) (ruby.Value, error) { return len(d.rows) == 0, nil })
	def(k, "successful?", func(_ *ruby.Call, d *sqlResult) (ruby.Value, error) { return d.status == 0, nil })
	def(k, "size", func(_ *ruby.Call, d *sqlResult) (ruby.Value, error) { return int64(len(d.rows)), nil })
	def(k, "rows", func(_ *ruby.Call, d *sqlResult) (ruby.Value, error) { return ruby.NewArray(d.rows...), nil })
	def(k, "row", func(c *ruby.Call, d *sqlResult) (ruby.Value, error) {
		found, err := c.In.Call(ruby.NewArray(d.rows...), "[]", c.Args, nil)
		return s.in.NewObject(row, sqlRow{found}), err
	})
	def(k, "column", func(c *ruby.Call, d *sqlResult) (ruby.Value, error) {
		list := ruby.NewArray()
		for _, r := range d.rows {
			v, err := c.In.Call(r, "[]", c.Args, nil)
			if err != nil {
				return nil, err
			}
			list.Elems = append(list.Elems, v)
		}
		return list, nil
	})
	return k
}

// errCSV says where a text is no CSV, in the words of Ruby's.
func errCSV(line int, why string) error {
	return errors.New(why + " in line " + strconv.Itoa(line) + ".")
}

// csvRecords reads CSV as Ruby's library does: a field without anything is
// nil, an empty line an empty record, and quotes stand around whole fields.
func csvRecords(text string, sep byte) ([][]ruby.Value, error) {
	var out [][]ruby.Value
	for line := 1; text != ""; line++ {
		record := []ruby.Value{}
		for first := true; ; first = false {
			if strings.HasPrefix(text, `"`) {
				var b strings.Builder
				for text = text[1:]; ; {
					i := strings.IndexByte(text, '"')
					if i < 0 {
						return nil, errCSV(line, "Unclosed quoted field")
					}
					b.WriteString(text[:i])
					if text = text[i+1:]; !strings.HasPrefix(text, `"`) {
						break
					}
					b.WriteByte('"')
					text = text[1:]
				}
				record = append(record, str(b.String()))
				if text != "" && text[0] != sep && text[0] != '\n' {
					return nil, errCSV(line, "Any value after quoted field isn't allowed")
				}
			} else {
				end := strings.IndexAny(text, string(sep)+"\n")
				if end < 0 {
					end = len(text)
				}
				field := text[:end]
				text = text[end:]
				switch {
				case strings.Contains(field, `"`):
					return nil, errCSV(line, "Illegal quoting")
				case field != "":
					record = append(record, str(field))
				case !first || text != "" && text[0] == sep:
					record = append(record, nil)
				}
			}
			if text == "" {
				break
			}
			mark := text[0]
			text = text[1:]
			if mark == '\n' {
				break
			}
			if text == "" { // a separator ends the text: one more field
				record = append(record, nil)
				break
			}
		}
		out = append(out, record)
	}
	return out, nil
}

// csvTable reads CSV whose first record names the columns. name is the name of
// a column in a row, nil for one without any.
func (s *Set) csvTable(text string, sep byte, name func(header string) string, field func(v ruby.Value) ruby.Value) ([]ruby.Value, error) {
	records, err := csvRecords(text, sep)
	if err != nil || len(records) == 0 {
		return nil, err
	}
	headers := make([]ruby.Value, len(records[0]))
	for i, h := range records[0] {
		if h != nil {
			headers[i] = str(name(s.in.ToS(h)))
		}
	}
	var rows []ruby.Value
	for _, r := range records[1:] {
		if len(r) == 0 {
			rows = append(rows, nil)
			continue
		}
		h := ruby.NewHash()
		for i, key := range headers {
			var v ruby.Value
			if i < len(r) {
				v = field(r[i])
			}
			if _, there := h.Get(key); !there {
				h.Set(key, v)
			}
		}
		m, err := s.mash(h)
		if err != nil {
			return nil, err
		}
		rows = append(rows, m)
	}
	return rows, nil
}

func asItIs(v ruby.Value) ruby.Value { return v }

// client is a session with a database: what it was called with.
type client struct {
	given
	id string
}

// defineClient makes the resource of a session. Its options are methods.
func (s *Set) defineClient(name, class, title string, id func(g given) string, readers map[string]func(g given) ruby.Value, check func(c *ruby.Call, d *client) error) *ruby.Class {
	k := s.define(name, class, nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		d := &client{given: s.given(c, 0)}
		d.id = id(d.given)
		// The session knows its options also where it can't be used.
		c.Self.(*ruby.Object).Data = d
		return d, check(c, d)
	})
	text(k, func(*client) string { return title }, func(d *client) string { return d.id })
	for method, get := range readers {
		def(k, method, func(_ *ruby.Call, d *client) (ruby.Value, error) { return get(d.given), nil })
	}
	return k
}

// options are readers that give back what was given, or a default.
func readers(names ...string) map[string]func(g given) ruby.Value {
	all := map[string]func(g given) ruby.Value{}
	for _, n := range names {
		name, otherwise, hasDefault := strings.Cut(n, "=")
		all[name] = func(g given) ruby.Value {
			if v := g.value(name); v != nil || !hasDefault {
				return v
			}
			return str(otherwise)
		}
	}
	return all
}

// unusable is the error of asking a session that can't be used.
func (s *Set) unusable(self ruby.Value) error {
	if why, skipped := Skipped(self); skipped {
		return s.skip("%s", why)
	}
	if why, failed := Failed(self); failed {
		return s.fail("%s", why)
	}
	return nil
}

// inQuery escapes a query that stands between double quotes in a command; a
// backslash stays as it is, as InSpec has it.
var inQuery = strings.NewReplacer(`"`, `\"`, "$", `\$`)

func password(g given) (string, bool) {
	if v, ok := g.text("password"); ok {
		return v, true
	}
	return g.text("pass")
}

func (s *Set) defineMSSQL() {
	var results *ruby.Class
	query := func(d *client, q string) (*sqlResult, error) {
		cmd := `sqlcmd -Q "set nocount on; ` + strings.NewReplacer(`"`, `""`, "$", `\$`).Replace(q) + `" -W -w 1024 -s ','`
		if d.truthy("trust_server_certificate") {
			cmd += " -C"
		}
		user, hasUser := d.text("user")
		if pass, ok := password(d.given); ok && hasUser {
			cmd += " -U '" + user + "' -P '" + pass + "'"
		}
		if db, ok := d.text("db_name"); ok {
			cmd += " -d '" + db + "'"
		}
		if !d.truthy("local_mode") {
			cmd += " -S '" + d.or("host", "localhost")
			if port, ok := d.text("port"); ok {
				cmd += "," + port
			}
			if instance, ok := d.text("instance"); ok {
				cmd += `\` + instance
			}
			cmd += "'"
		}
		out, err := s.ask("sqlcmd", cmd)
		if err != nil {
			return nil, err
		}
		if text := both(out.Stdout, out.Stderr); out.ExitStatus != 0 || strings.Contains(text, "Sqlcmd: Error") {
			return nil, s.fail("Could not execute the sql query %s", text)
		}
		text := strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(string(out.Stdout), "\n", "\r"), "\r\r", "\r"), "\r", "\n")
		rows, err := s.csvTable(text, ',', strings.ToLower, asItIs)
		if err != nil {
			return nil, s.in.Raise(s.in.Class("StandardError"), "%s", err)
		}
		if len(rows) > 0 {
			rows = rows[1:] // the line below the names
		}
		return &sqlResult{out.ExitStatus, rows}, nil
	}
	mine := readers("user", "host=localhost", "port", "instance", "local_mode", "db_name")
	mine["password"] = func(g given) ruby.Value {
		if v, ok := password(g); ok {
			return str(v)
		}
		return nil
	}
	mine["trust_server_certificate"] = func(g given) ruby.Value { return g.truthy("trust_server_certificate") }
	k := s.defineClient("mssql_session", "MssqlSession", "MSSQL session", func(g given) string {
		host := g.or("host", "localhost")
		if g.truthy("local_mode") {
			host = ""
		}
		return "mssql_session:User:" + g.or("user", "") + ":Host:" + host + ":Database:" + g.or("db_name", "") + ":Instance:" + g.or("instance", "")
	}, mine, func(c *ruby.Call, d *client) error {
		there, err := s.commandExists("sqlcmd")
		if err != nil {
			return err
		}
		if !there {
			return s.skip("sqlcmd is missing")
		}
		r, err := query(d, "select getdate()")
		if err == nil && len(r.rows) == 0 {
			err = s.skip("Can't connect to the MS SQL Server.")
		}
		return err
	})
	results = s.sqlClasses()
	def(k, "query", func(c *ruby.Call, d *client) (ruby.Value, error) {
		q, _ := argString(c, 0)
		r, err := query(d, q)
		if err != nil {
			return nil, err
		}
		return s.in.NewObject(results, r), s.arity(c, 1, 1)
	})
	only := ruby.NewHash
	for _, p := range []string{"windows", "darwin", "debian", "redhat", "suse"} {
		s.supports["mssql_session"] = append(s.supports["mssql_session"], only(ruby.Symbol("platform"), str(p)))
	}
}

// setting is one setting that a database is asked for.
type setting struct {
	name, user string
	answer     ruby.Value
}

// column reads a column of the first row of an answer.
func (s *Set) column(answer ruby.Value, name string) (ruby.Value, error) {
	row, err := s.in.Call(answer, "row", []ruby.Value{int64(0)}, nil)
	if err != nil {
		return nil, err
	}
	col, err := s.in.Call(row, "column", []ruby.Value{str(name)}, nil)
	if err != nil {
		return nil, err
	}
	return s.in.Call(col, "value", nil, nil)
}

// withDefaults is a resource's options with what they lack.
func withDefaults(g given, pairs ...string) *ruby.Hash {
	for i := 0; i < len(pairs); i += 2 {
		if v, _ := g.opts.GetSym(pairs[i]); v == nil {
			g.opts.Set(ruby.Symbol(pairs[i]), str(pairs[i+1]))
		}
	}
	return g.opts
}

func (s *Set) defineMSSQLSysConf() {
	k := s.define("mssql_sys_conf", "MssqlSysConf", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		g := s.given(c, 1)
		d := &setting{user: g.or("username", "SA")}
		d.name, _ = argString(c, 0)
		c.Self.(*ruby.Object).Data = d
		session, err := s.New(c, "mssql_session", []ruby.Value{withDefaults(g, "username", "SA")})
		if err != nil {
			return d, err
		}
		words := strings.Fields(strings.ReplaceAll(d.name, "_", " "))
		for i, w := range words {
			words[i] = strings.ToUpper(w[:1]) + strings.ToLower(w[1:])
		}
		d.answer, err = s.in.Call(session, "query", []ruby.Value{str("SELECT name, CAST(value as int) as value_configured, CAST(value_in_use as int) as value_in_use FROM sys.configurations WHERE name = '" + strings.Join(words, " ") + "'")}, nil)
		return d, s.wrapped(err, "Errors fetching database system configurations for Mssql database: ")
	})
	text(k, func(*setting) string { return "MsSql DB Configuration" }, func(d *setting) string { return d.name + "-" + d.user })
	for _, name := range []string{"value_in_use", "value_configured"} {
		def(k, name, func(_ *ruby.Call, d *setting) (ruby.Value, error) { return s.column(d.answer, name) })
	}
	for _, p := range []string{"windows", "debian", "redhat", "suse"} {
		s.supports["mssql_sys_conf"] = append(s.supports["mssql_sys_conf"], ruby.NewHash(ruby.Symbol("platform"), str(p)))
	}
}

// wrapped is a profile's error as a failure of the resource, with words before
// its own.
func (s *Set) wrapped(err error, words string) error {
	var raised *ruby.Exception
	if errors.As(err, &raised) {
		return s.fail("%s%s", words, raised.Message)
	}
	return err
}

var errorLine = regexp.MustCompile(`(?im)^error`)

func (s *Set) defineOracle() {
	results := s.sqlClasses()
	mine := readers("db_role", "host=localhost", "port=1521", "service", "user", "tns_alias")
	mine["password"] = func(g given) ruby.Value {
		if v, ok := password(g); ok {
			return str(v)
		}
		return nil
	}
	mine["su_user"] = func(g given) ruby.Value { return g.value("as_os_user") }
	mine["db_role"] = func(g given) ruby.Value { return g.value("as_db_role") }
	mine["bin"] = func(given) ruby.Value { return str("sqlplus") }
	mine["env_vars"] = func(g given) ruby.Value {
		if v := g.value("env"); v != nil {
			return v
		}
		return ruby.NewHash()
	}
	k := s.defineClient("oracledb_session", "OracledbSession", "Oracle Session", func(g given) string {
		at := g.or("host", "localhost") + "-" + g.or("port", "1521") + "-"
		user, ok := g.text("user")
		switch su, other := g.text("as_os_user"); {
		case g.or("tns_alias", "") != "":
			return g.or("tns_alias", "") + "-" + user
		case ok:
			return at + user
		case other:
			return at + su
		}
		return ""
	}, mine, func(c *ruby.Call, d *client) error {
		_, su := d.text("as_os_user")
		_, user := d.text("user")
		_, pass := password(d.given)
		if !su && !user && !pass {
			return s.fail("Can't run Oracle checks without authentication")
		}
		return nil
	})
	def(k, "query", func(c *ruby.Call, d *client) (ruby.Value, error) {
		if err := s.unusable(c.Self); err != nil {
			return nil, err
		}
		sql, _ := argString(c, 0)
		bin, format := d.or("sqlplus_bin", "sqlplus")+" -S", "SET PAGESIZE 32000\nSET FEEDBACK OFF\nSET UNDERLINE OFF"
		if sqlcl, ok := d.text("sqlcl_bin"); ok {
			there, err := s.commandExists(sqlcl)
			if err != nil {
				return nil, err
			}
			if there {
				bin, format = sqlcl, "set sqlformat csv\nSET FEEDBACK OFF"
			}
		}
		out, err := s.ask("the Oracle client", oracleCommand(d, bin, format, sql))
		if err != nil {
			return nil, err
		}
		if text := both(out.Stdout, out.Stderr); out.ExitStatus != 0 || errorLine.MatchString(text) {
			return nil, s.fail("Oracle query with errors: %s", text)
		}
		if len(out.Stdout) == 0 {
			return str(""), s.arity(c, 1, 1)
		}
		rows, err := s.oracleRows(string(out.Stdout))
		if err != nil {
			return nil, s.fail("Oracle query with exception: %s", err)
		}
		return s.in.NewObject(results, &sqlResult{out.ExitStatus, rows}), s.arity(c, 1, 1)
	})
}

// oracleCommand is the command line of a query. A string that it prints first
// tells where the answer begins, whatever a login shell says before.
func oracleCommand(d *client, bin, format, query string) string {
	su, asOther := d.text("as_os_user")
	role, hasRole := d.text("as_db_role")
	if asOther && hasRole {
		query = strings.ReplaceAll(strings.ReplaceAll(query, `\\`, `\`), `"`, `\"`)
		if !strings.Contains(query, `\$`) {
			query = strings.ReplaceAll(query, "$", `\$`)
		}
	}
	if !strings.HasSuffix(strings.TrimSpace(query), ";") {
		query += ";"
	}
	const echo = "echo 'oracle_query_string';"
	user, pass := d.or("user", ""), ""
	pass, _ = password(d.given)
	here := " <<'EOC'\n" + format + "\n" + query + "\nEXIT\nEOC"
	if alias := d.or("tns_alias", ""); alias != "" {
		var env []string
		if vars, ok := d.value("env").(*ruby.Hash); ok {
			vars.Each(func(k, v ruby.Value) error {
				env = append(env, d.s.in.ToS(k)+"='"+d.s.in.ToS(v)+"'")
				return nil
			})
		}
		connect := user + "/" + pass + "@" + alias
		if hasRole && !asOther {
			connect += " as " + role
		}
		run := bin + " -s /nolog <<'INSPECSQL'\nconnect " + connect + "\n" + format + "\n" + query + "\nEXIT\nINSPECSQL"
		set := strings.Join(env, " ")
		switch {
		case asOther:
			return "su - " + su + ` -c "` + echo + " " + set + " " + run + `"`
		case set != "":
			return set + " " + echo + run
		}
		return echo + run
	}
	at := bin + " " + user + "/" + pass + "@" + d.or("host", "localhost") + ":" + d.or("port", "1521") + "/" + d.or("service", "")
	switch {
	case !hasRole:
		return echo + at + here
	case !asOther:
		return echo + at + " as " + role + here
	}
	return "su - " + su + ` -c "` + echo + " env ORACLE_SID=" + d.or("service", "") + " " + bin + " / as " + role + here + `"`
}

// oracleRows reads what stands after the string that the command prints. A
// comma is part of a value, but for sqlcl's, which InSpec reads the same way.
func (s *Set) oracleRows(stdout string) ([]ruby.Value, error) {
	if i := strings.LastIndex(stdout, "oracle_query_string"); i >= 0 {
		stdout = stdout[i+len("oracle_query_string"):]
	}
	out := strings.TrimSpace(strings.Replace(stdout, "\r", "", 1))
	const comma = "comma_query_sub"
	rows, err := s.csvTable(strings.ReplaceAll(strings.ReplaceAll(out, "\r\n", "\n"), ",", comma), ',', strings.ToLower, asItIs)
	if err != nil {
		return nil, err
	}
	for i, row := range rows {
		from, ok := row.(*ruby.Hash)
		if !ok {
			continue
		}
		h := ruby.NewHash()
		from.Each(func(k, v ruby.Value) error {
			if v != nil {
				v = str(strings.ReplaceAll(s.in.ToS(v), comma, ","))
			}
			h.Set(str(strings.ReplaceAll(s.in.ToS(k), comma, ",")), v)
			return nil
		})
		if rows[i], err = s.mash(h); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func (s *Set) defineOracleConf() {
	type conf struct {
		session ruby.Value
		user    string
	}
	k := s.define("oracledb_conf", "OracledbConf", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		g := s.given(c, 0)
		session, err := s.New(c, "oracledb_session", []ruby.Value{g.opts})
		return conf{session, g.or("user", "")}, err
	})
	text(k, func(conf) string { return "Oracle DB Configuration" }, func(d conf) string { return d.user })
	missing(k, func(c *ruby.Call, d conf, name string) (ruby.Value, error) {
		answer, err := c.In.Call(d.session, "query", []ruby.Value{str("SELECT UPPER(VALUE) AS UPPER_VALUE FROM V$SYSTEM_PARAMETER WHERE UPPER(NAME) = '" + strings.ToUpper(name) + "'")}, nil)
		if err == nil {
			var v ruby.Value
			if v, err = s.column(answer, "UPPER_VALUE"); err == nil {
				return v, nil
			}
		}
		return nil, s.wrapped(err, "Errors fetching database settings for Oracle database: ")
	})
}

var (
	sybaseMessage = regexp.MustCompile(`Msg\s\d+,\sLevel\s\d+,\sState\s\d+`)
	sybaseDefault = regexp.MustCompile(`^Default\s+$`)
)

func (s *Set) defineSybase() {
	results := s.sqlClasses()
	mine := readers("username", "password", "server", "database", "sybase_home=/opt/sap", "bin=isql")
	mine["col_sep"] = func(given) ruby.Value { return str("|") }
	k := s.defineClient("sybase_session", "SybaseSession", "Sybase Session", func(g given) string { return g.or("database", "Sybase Session") }, mine,
		func(c *ruby.Call, d *client) error {
			has := func(name string) bool { _, ok := d.text(name); return ok }
			there, err := s.commandExists(d.or("bin", "isql"))
			switch { // the last word is InSpec's
			case err != nil:
				return err
			case !there:
				return s.fail("Cannot find %s CLI tool", d.or("bin", "isql"))
			case !has("database"):
				return s.fail("You must provide a database name for the session")
			case !has("server"):
				return s.fail("You must provide a server name for the session")
			case !has("username") || !has("password"):
				return s.fail("Can't run Sybase checks without authentication")
			}
			return nil
		})
	def(k, "query", func(c *ruby.Call, d *client) (ruby.Value, error) {
		sql, _ := argString(c, 0)
		// InSpec leaves a file with the query on the target and removes it;
		// here nothing is written.
		out, err := s.ask("isql", "LANG=en_US.UTF-8 SYBASE="+d.or("sybase_home", "/opt/sap")+" "+d.or("bin", "isql")+` -s"|" -w80000 -S `+d.or("server", "")+" -U "+d.or("username", "")+
			" -D "+d.or("database", "")+` -P "`+d.or("password", "")+"\" <<'REEVE_EOF'\n"+sql+"\ngo\nREEVE_EOF")
		switch {
		case err != nil:
			return nil, err
		case out.ExitStatus != 0:
			return nil, s.fail("isql exited with code %d and stderr '%s', stdout '%s'", out.ExitStatus, out.Stderr, out.Stdout)
		case len(out.Stderr) > 0:
			return nil, s.fail("isql exited with error '%s', stdout '%s'", out.Stderr, out.Stdout)
		case sybaseMessage.Match(out.Stdout):
			return nil, s.fail("isql exited with error %s", out.Stdout)
		}
		rows, err := s.sybaseRows(string(out.Stdout))
		if err != nil {
			return nil, s.in.Raise(s.in.Class("StandardError"), "%s", err)
		}
		return s.in.NewObject(results, &sqlResult{out.ExitStatus, rows}), s.arity(c, 1, 1)
	})
	s.supports["sybase_session"] = unixOnly()
}

func unixOnly() []*ruby.Hash {
	return []*ruby.Hash{ruby.NewHash(ruby.Symbol("platform"), str("unix"))}
}

// sybaseRows reads isql's table: names, a line below them, rows, and two lines
// that count them.
func (s *Set) sybaseRows(stdout string) ([]ruby.Value, error) {
	all := strings.SplitAfter(strings.TrimSpace(strings.ReplaceAll(stdout, "\r", "")), "\n")
	text := all[0]
	if len(all) > 4 {
		text += strings.Join(all[2:len(all)-2], "")
	}
	return s.csvTable(text, '|', func(h string) string {
		if sybaseDefault.MatchString(h) {
			return "default_value"
		}
		return strings.TrimSpace(strings.ToLower(h))
	}, func(v ruby.Value) ruby.Value {
		if v == nil {
			return nil
		}
		return str(strings.TrimSpace(s.in.ToS(v)))
	})
}

func (s *Set) defineSybaseConf() {
	k := s.define("sybase_conf", "SybaseConf", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		d := &setting{}
		d.name, _ = argString(c, 0)
		c.Self.(*ruby.Object).Data = d
		session, err := s.New(c, "sybase_session", []ruby.Value{withDefaults(s.given(c, 1), "username", "sa", "database", "master")})
		if err == nil {
			err = s.unusable(session)
		}
		if err != nil {
			return d, err
		}
		d.answer, err = s.in.Call(session, "query", []ruby.Value{str(`sp_configure "` + d.name + `"`)}, nil)
		return d, err
	})
	text(k, func(d *setting) string { return "Sybase Conf " + d.name }, func(d *setting) string { return d.name })
	for method, col := range map[string]string{"run_value": "Run Value", "config_value": "Config Value"} {
		def(k, method, func(_ *ruby.Call, d *setting) (ruby.Value, error) { return s.column(d.answer, col) })
	}
	def(k, "conf_param", func(_ *ruby.Call, d *setting) (ruby.Value, error) { return str(d.name), nil })
	s.supports["sybase_conf"] = unixOnly()
}

var db2Profile = `SQL10007N Message "-1390" could not be retrieved.  Reason code: "3"`

var errorColon = regexp.MustCompile(`(?im)^error:`)

// db2 runs a command of DB2's, once more with its profile where it asks for
// that.
func (s *Set) db2(first, again, refused, words string) (*answer, error) {
	out, err := s.ask("db2", first)
	if err == nil && out.ExitStatus != 0 && strings.Contains(both(out.Stdout, out.Stderr), db2Profile) {
		out, err = s.ask("db2", ". ~/sqllib/db2profile; "+again)
	}
	if err != nil {
		return nil, err
	}
	if text := both(out.Stdout, out.Stderr); out.ExitStatus != 0 || strings.Contains(text, refused) || errorColon.MatchString(text) {
		return nil, s.fail("%s%s", words, text)
	}
	return &answer{output: string(out.Stdout), status: out.ExitStatus}, nil
}

func (s *Set) defineDB2() {
	lines := s.outputClass()
	k := s.defineClient("ibmdb2_session", "Ibmdb2Session", "IBM Db2 Session", func(g given) string {
		return "ibmdb2_session:DatabaseInstance:" + g.or("db_instance", "") + ":DatabaseName" + g.or("db_name", "")
	}, nil, func(c *ruby.Call, d *client) error {
		for _, name := range []string{"db2_executable_file_path", "db_instance", "db_name"} {
			if _, ok := d.text(name); !ok {
				return s.fail("Can't run IBM DB2 queries without db2_executable_file_path, db_instance, db_name options provided.")
			}
		}
		return nil
	})
	def(k, "query", func(c *ruby.Call, d *client) (ruby.Value, error) {
		if err := s.unusable(c.Self); err != nil {
			return nil, err
		}
		q, _ := argString(c, 0)
		bin := d.or("db2_executable_file_path", "")
		connect := bin + " attach to " + d.or("db_instance", "") + "; " + bin + " connect to " + d.or("db_name", "") + "; " + bin
		a, err := s.db2(connect+" "+q+";", connect+` "`+q+`";`, "Can't connect to IBM Db2 ", "IBM Db2 connection error: ")
		if err != nil {
			return nil, err
		}
		return s.in.NewObject(lines, &answer{strings.TrimSpace(a.output), "IBM Db2 Query: " + q, a.status}), s.arity(c, 1, 1)
	})
}

func (s *Set) defineDB2Conf() {
	k := s.define("ibmdb2_conf", "Ibmdb2Conf", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		g := s.given(c, 0)
		bin, hasBin := g.text("db2_executable_file_path")
		instance, hasInstance := g.text("db_instance")
		c.Self.(*ruby.Object).SetIVar("@resource_id", str("ibmdb2_conf:DatabaseInstance:"+instance))
		if !hasBin || !hasInstance {
			return nil, s.fail("Can't connect to IBM DB2 without db2_executable_file_path, db_instance options provided.")
		}
		cmd := bin + " attach to " + instance + "; " + bin + " get database manager configuration"
		a, err := s.db2(cmd, cmd, "Can't connect to IBM Db2 server", "IBM Db2 query with error: ")
		if err != nil {
			return nil, err
		}
		list := ruby.NewArray()
		for _, part := range strings.FieldsFunc(a.output, func(r rune) bool { return r == '\n' || r == '\r' || r == ',' }) {
			part = strings.TrimSpace(part)
			var v ruby.Value // InSpec's is nil where there is no space to squeeze
			if squeezed := strings.Join(strings.Fields(part), " "); strings.ContainsAny(part, " \t") {
				v = str(squeezed)
			}
			list.Elems = append(list.Elems, v)
		}
		return list, nil
	})
	fixed(k, "IBM Db2 Conf")
	def(k, "output", func(_ *ruby.Call, list *ruby.Array) (ruby.Value, error) { return list, nil })
}

// outputClass makes the class of answers that are a text.
func (s *Set) outputClass() *ruby.Class {
	k := s.answerClass()
	def(k, "exit_status", func(_ *ruby.Call, a *answer) (ruby.Value, error) { return int64(a.status), nil })
	return k
}

func (s *Set) defineCassandra() {
	lines := s.outputClass()
	k := s.defineClient("cassandradb_session", "CassandradbSession", "Cassandra DB Session", func(g given) string {
		return "cassandradb_session:User:" + g.or("user", "cassandra") + ":Host:" + g.or("host", "")
	}, readers("user=cassandra", "password=cassandra", "host", "port"), func(*ruby.Call, *client) error { return nil })
	def(k, "query", func(c *ruby.Call, d *client) (ruby.Value, error) {
		q, _ := argString(c, 0)
		cmd := "cqlsh"
		for _, name := range []string{"host", "port"} {
			if v, ok := d.text(name); ok {
				cmd += " " + v
			}
		}
		out, err := s.ask("cqlsh", cmd+" -u "+d.or("user", "cassandra")+" -p "+d.or("password", "cassandra")+" --execute '"+inQuery.Replace(q)+"'")
		if err != nil {
			return nil, err
		}
		if text := both(out.Stdout, out.Stderr); out.ExitStatus != 0 || strings.Contains(text, "Unable to connect to any servers") || errorColon.MatchString(text) {
			return nil, s.fail("Cassandra query with errors: %s", text)
		}
		return s.in.NewObject(lines, &answer{strings.TrimSpace(string(out.Stdout)), "Cassandra query: " + q, out.ExitStatus}), s.arity(c, 1, 1)
	})
}

// mongoAuth are mongosh's names of what Ruby's driver calls so.
var mongoAuth = map[string]string{
	"scram": "", "scram256": "SCRAM-SHA-256", "mongodb_cr": "MONGODB-CR", "mongodb_x509": "MONGODB-X509", "plain": "PLAIN", "gssapi": "GSSAPI", "aws": "MONGODB-AWS",
}

// defineMongo asks by the target's mongosh. InSpec asks by Ruby's driver, from
// the machine that it runs on; a scan reaches nothing but its target.
func (s *Set) defineMongo() {
	type document struct {
		params ruby.Value
		title  string
	}
	lines := s.in.NewClass(s.in.Class("Object"))
	text(lines, func(d document) string { return d.title }, nil)
	def(lines, "params", func(_ *ruby.Call, d document) (ruby.Value, error) { return d.params, nil })
	k := s.defineClient("mongodb_session", "MongodbSession", "mongodb_session", func(g given) string {
		return "mongodb_session:User:" + g.or("user", "") + ":Host:" + g.or("host", "127.0.0.1") + ":Database:" + g.or("database", "")
	}, readers("user", "host=127.0.0.1", "port=27017", "database", "params"), func(c *ruby.Call, d *client) error {
		_, user := d.text("user")
		_, pass := d.text("password")
		_, db := d.text("database")
		_, known := mongoAuth[d.or("auth_mech", "scram")]
		switch {
		case !db:
			return s.fail("Can't run MongoDB command. Error: You must provide a database name for the session.")
		case !user || !pass:
			return s.fail("Can't run MongoDB command. Error: Can't run MongoDB checks without authentication.")
		case !known:
			return s.fail("Can't run MongoDB command. Error: :%s is an invalid auth mechanism. Please use one of mongodb_cr, plain, scram, scram256, gssapi, aws or mongodb_x509", d.or("auth_mech", ""))
		}
		return nil
	})
	def(k, "query", func(c *ruby.Call, d *client) (ruby.Value, error) {
		if err := s.unusable(c.Self); err != nil {
			return nil, s.wrapped(err, "Can't run MongoDB command Error: ")
		}
		command, err := s.in.Call(c.Arg(0), "to_json", nil, nil)
		if err != nil {
			return nil, s.wrapped(err, "Can't run MongoDB command Error: ")
		}
		there, err := s.commandExists("mongosh")
		if err != nil {
			return nil, err
		}
		if !there {
			return nil, s.fail("Can't run MongoDB command Error: the target has no mongosh program, by which Reeve asks a MongoDB")
		}
		args := []string{
			"mongosh", "--quiet", "--norc", "--host", d.or("host", "127.0.0.1"), "--port", d.or("port", "27017"), "--username", d.or("user", ""), "--password", d.or("password", ""),
			"--authenticationDatabase", d.or("auth_source", d.or("database", "")),
		}
		if mech := mongoAuth[d.or("auth_mech", "scram")]; mech != "" {
			args = append(args, "--authenticationMechanism", mech)
		}
		if d.truthy("ssl") {
			args = append(args, "--tls")
		}
		for option, flag := range map[string]string{"ssl_cert": "--tlsCertificateKeyFile", "ssl_ca_cert": "--tlsCAFile"} {
			if v, ok := d.text(option); ok {
				args = append(args, flag, v)
			}
		}
		args = append(args, d.or("database", ""), "--eval", "EJSON.stringify(db.runCommand("+s.in.ToS(command)+"))")
		for i, a := range args {
			args[i] = shellEscape(a)
		}
		out, err := s.ask("mongosh", strings.Join(args, " "))
		if err != nil {
			return nil, err
		}
		var head struct {
			OK       float64 `json:"ok"`
			ErrMsg   string  `json:"errmsg"`
			CodeName string  `json:"codeName"`
			Code     int     `json:"code"`
		}
		answer := strings.TrimSpace(string(out.Stdout))
		if out.ExitStatus != 0 || json.Unmarshal([]byte(answer), &head) != nil {
			return nil, s.fail("Can't run MongoDB command Error: %s", strings.TrimSpace(both(out.Stdout, out.Stderr)))
		}
		if head.OK != 1 {
			return nil, s.fail("Can't run MongoDB command Error: [%d:%s]: %s", head.Code, head.CodeName, head.ErrMsg)
		}
		params, err := s.parseJSON(answer)
		if err != nil {
			return nil, err
		}
		return s.in.NewObject(lines, document{params, "MongoDB query: " + s.in.Inspect(c.Arg(0))}), s.arity(c, 1, 1)
	})
}
