package resource

import (
	"errors"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// defineDatabases makes the resources that find a database on the target and
// ask it by its own client.
func defineDatabases(s *Set) {
	definePostgresInstallation(s)
	definePostgresSession(s)
	defineMySQLInstallation(s)
	defineMySQLSession(s)
}

// postgresRes is where a PostgreSQL keeps its things; what isn't known is
// empty.
type postgresRes struct{ service, dataDir, confDir, confPath, version, cluster string }

func definePostgresInstallation(s *Set) {
	k := s.define("postgres", "Postgres", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 0); err != nil {
			return nil, err
		}
		d, err := s.findPostgres()
		if err == nil && d.confPath == "" {
			// What was found out so far can still be asked for.
			setSkipped(c.Self.(*ruby.Object), "Seems like PostgreSQL is not installed on your system")
		}
		return d, err
	})
	fixed(k, "PostgreSQL")
	for name, get := range map[string]func(d *postgresRes) string{
		"service": func(d *postgresRes) string { return d.service }, "data_dir": func(d *postgresRes) string { return d.dataDir },
		"conf_dir": func(d *postgresRes) string { return d.confDir }, "conf_path": func(d *postgresRes) string { return d.confPath },
		"version": func(d *postgresRes) string { return d.version }, "cluster": func(d *postgresRes) string { return d.cluster },
	} {
		def(k, name, func(_ *ruby.Call, d *postgresRes) (ruby.Value, error) { return textOrNil(get(d)), nil })
	}
}

func textOrNil(text string) ruby.Value {
	if text == "" {
		return nil
	}
	return str(text)
}

func (s *Set) findPostgres() (*postgresRes, error) {
	d := &postgresRes{}
	var err error
	if d.version, err = s.psqlVersion(); err != nil {
		return nil, err
	}
	if s.platform.Is("debian") {
		if d.version == "" {
			if d.version, err = s.firstDir("/etc/postgresql"); err != nil {
				return nil, err
			}
		}
		if d.version != "" {
			base := "/etc/postgresql/" + d.version
			d.cluster = "main"
			if there, err := s.isDir(base + "/main"); err != nil {
				return nil, err
			} else if !there {
				if d.cluster, err = s.firstDir(base); err != nil {
					return nil, err
				}
			}
			d.confDir = base + "/" + d.cluster
			d.dataDir = "/var/lib/postgresql/" + d.version + "/" + d.cluster
		}
	} else {
		if d.version == "" {
			unversioned, err := s.isDir("/var/lib/pgsql/data")
			if err == nil && !unversioned {
				d.version, err = s.firstDir("/var/lib/pgsql")
			}
			if err != nil {
				return nil, err
			}
		}
		major := strconv.FormatInt(leadingInt(d.version), 10)
		for _, dir := range []string{
			"/var/lib/pgsql/" + d.version + "/data", "/var/lib/pgsql/" + major + "/data", "/var/lib/pgsql/data",
			"/var/lib/postgres/data", "/var/lib/postgresql/data",
		} {
			there, err := s.isDir(dir)
			if err != nil {
				return nil, err
			}
			if there {
				d.dataDir, d.confDir = path.Clean(dir), path.Clean(dir)
				break
			}
		}
	}
	d.service = "postgresql"
	if major := leadingInt(d.version); major >= 10 {
		d.service += "-" + strconv.FormatInt(major, 10)
	} else if v, err := strconv.ParseFloat(d.version, 64); err == nil && v >= 9.4 {
		d.service += "-" + d.version
	}
	if d.version != "" && d.confDir != "" {
		d.confPath = d.confDir + "/postgresql.conf"
	}
	return d, nil
}

// psqlVersion is what the client says, "15" or "9.6"; empty without one.
func (s *Set) psqlVersion() (string, error) {
	there, err := s.commandExists("psql")
	var unable *ruby.Exception
	if err != nil || !there {
		if errors.As(err, &unable) {
			err = nil
		}
		return "", err
	}
	out, _, err := s.stdout("psql --version")
	w := strings.Fields(out)
	if err != nil || len(w) < 3 {
		return "", err
	}
	v := strings.Split(w[2], ".")
	if leadingInt(v[0]) >= 10 || len(v) < 2 {
		return v[0], nil
	}
	return v[0] + "." + v[1], nil
}

func (s *Set) isDir(name string) (bool, error) {
	info, ok, err := (&fileRes{s, name}).stat(true)
	return ok && info.Type == target.Directory, err
}

// firstDir is the first name of the folders in dir, or empty.
func (s *Set) firstDir(dir string) (string, error) {
	found, err := s.expand(dir + "/*")
	if err != nil {
		return "", err
	}
	for _, name := range found {
		if is, err := s.isDir(name); err != nil || is {
			return path.Base(name), err
		}
	}
	return "", nil
}

// answer is what a database's client printed.
type answer struct {
	output, title string
	status        int
}

// answerClass makes the class of a session's answers.
func (s *Set) answerClass() *ruby.Class {
	k := s.in.NewClass(s.in.Class("Object"))
	text(k, func(a *answer) string { return a.title }, nil)
	def(k, "output", func(_ *ruby.Call, a *answer) (ruby.Value, error) { return str(a.output), nil })
	return k
}

// ask runs a client. Its command line holds a password, so an error doesn't
// show it.
func (s *Set) ask(client, cmd string) (target.CommandResult, error) {
	out, err := s.t.Run(s.in.Context(), cmd)
	var late *target.TimeoutError
	if errors.As(err, &late) {
		return out, s.fail("%s did not answer within %v", client, late.After)
	}
	var large *target.OutputError
	if errors.As(err, &large) {
		return out, s.fail("%s gave more than the %d bytes that are allowed", client, large.Limit)
	}
	if err != nil {
		return out, s.problem(err)
	}
	return out, nil
}

// session is how a database is reached.
type session struct{ user, password, host, port, socket string }

var (
	psqlRefused = regexp.MustCompile(`could not connect to|password authentication failed`)
	psqlGrave   = regexp.MustCompile(`(?i)error:|fatal:`)
	psqlError   = regexp.MustCompile(`(?i)error:`)
)

func definePostgresSession(s *Set) {
	k := s.define("postgres_session", "PostgresSession", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 2, 5); err != nil {
			return nil, err
		}
		d := &session{user: "postgres", host: "localhost", port: "5432"}
		for i, to := range []*string{&d.user, &d.password, &d.host, &d.port, &d.socket} {
			if given, ok := argString(c, i); ok {
				*to = given
			}
		}
		if c.Args[1] == nil {
			return nil, s.fail("Can't run PostgreSQL SQL checks without authentication.")
		}
		return d, nil
	})
	text(k, func(*session) string { return "postgres_session" }, func(d *session) string {
		if d == nil {
			return ""
		}
		return "postgress_session:User:" + d.user + ":Host:" + d.host // InSpec's spelling
	})
	lines := s.answerClass()
	def(lines, "lines", func(_ *ruby.Call, a *answer) (ruby.Value, error) {
		list := ruby.NewArray()
		for _, line := range strings.Split(strings.TrimRight(a.output, "\n"), "\n") {
			list.Elems = append(list.Elems, str(strings.TrimSpace(line)))
		}
		return list, nil
	})
	def(lines, "exit_status", func(*ruby.Call, *answer) (ruby.Value, error) { return nil, nil })
	k.Def("query", func(c *ruby.Call) (ruby.Value, error) {
		d, ok := c.Self.(*ruby.Object).Data.(*session)
		if !ok {
			why, _ := Failed(c.Self)
			return nil, s.fail("%s", why)
		}
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		query, _ := argString(c, 0)
		db := ""
		if c.Arg(1) != nil {
			names, ok := c.Args[1].(*ruby.Array)
			if !ok {
				return nil, s.argumentError("the database of a query is a list: query(%q, ['NAME'])", query)
			}
			for i, n := range names.Elems {
				if i > 0 {
					db += " "
				}
				db += s.in.ToS(n)
			}
		}
		out, err := s.ask("psql", d.psql(query, db))
		if err != nil {
			return nil, err
		}
		both := string(out.Stdout) + "\n" + string(out.Stderr)
		switch {
		case out.ExitStatus != 0 && psqlRefused.MatchString(both) && psqlGrave.MatchString(both):
			return nil, s.fail("PostgreSQL connection error: %s", both)
		case out.ExitStatus != 0 && psqlError.MatchString(both):
			return s.in.NewObject(lines, &answer{both, "PostgreSQL query with error: " + query, out.ExitStatus}), nil
		}
		return s.in.NewObject(lines, &answer{strings.TrimSpace(string(out.Stdout)), "PostgreSQL query: " + query, out.ExitStatus}), nil
	})
}

func (d *session) psql(query, db string) string {
	at := "postgresql://" + d.user + ":" + url.QueryEscape(d.password) + "@"
	if d.socket != "" {
		return "psql -d " + at + "/" + db + "?host=" + d.socket + " -p " + d.port + " -A -t -w -c " + shellEscape(query)
	}
	return "psql -d " + at + d.host + ":" + d.port + "/" + db + " -A -t -w -c " + shellEscape(query)
}

// defineMySQLInstallation makes mysql: where a platform's packages put it.
func defineMySQLInstallation(s *Set) {
	k := s.define("mysql", "Mysql", nil, func(c *ruby.Call) (any, error) {
		d := map[string]string{
			"service": "mysqld", "conf_path": "/etc/my.cnf", "conf_dir": "/etc/", "data_dir": "/var/lib/mysql/",
			"log_dir": "/var/log/", "log_path": "/var/log/mysqld.log", "log_group": "mysql", "log_dir_group": "root",
		}
		set := func(more map[string]string) {
			for key, v := range more {
				d[key] = v
			}
		}
		switch s.platform.Family {
		case "debian":
			set(map[string]string{
				"package": "mysql-server", "service": "mysql", "conf_path": "/etc/mysql/my.cnf", "conf_dir": "/etc/mysql/",
				"log_path": "/var/log/mysql.log", "log_group": "adm",
			})
			if s.platform.Release == "14.04" {
				d["log_dir_group"] = "syslog"
			}
		case "redhat", "fedora":
			d["package"] = "mysql-server"
		case "arch":
			set(map[string]string{
				"package": "mariadb", "service": "mysql", "conf_path": "/etc/mysql/my.cnf", "conf_dir": "/etc/mysql/", "log_path": "/var/log/mysql.log",
			})
		}
		return d, s.arity(c, 0, 0)
	})
	fixed(k, "MySQL")
	for _, name := range []string{"package", "service", "conf_dir", "conf_path", "data_dir", "log_dir", "log_path", "log_group", "log_dir_group"} {
		def(k, name, func(_ *ruby.Call, d map[string]string) (ruby.Value, error) { return textOrNil(d[name]), nil })
	}
}

var (
	mysqlRefused = regexp.MustCompile(`Can't connect to .* MySQL server|(?im)^error:`)
	debianUser   = regexp.MustCompile(`(?m)^\s*user\s*=\s*([^ \n]*)\s*$`)
	debianPass   = regexp.MustCompile(`(?m)^\s*password\s*=\s*([^ \n]*)\s*$`)
)

func defineMySQLSession(s *Set) {
	k := s.define("mysql_session", "MysqlSession", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 5); err != nil {
			return nil, err
		}
		d := &session{host: "localhost"}
		for i, to := range []*string{&d.user, &d.password, &d.host, &d.port, &d.socket} {
			if given, ok := argString(c, i); ok {
				*to = given
			}
		}
		if c.Arg(0) == nil || c.Arg(1) == nil {
			found, err := s.debianLogin(d)
			if err != nil {
				return nil, err
			}
			if !found {
				return nil, s.fail("Can't run MySQL SQL checks without authentication.")
			}
		}
		_, err := s.mysql(d, "select now()", "")
		return d, err
	})
	fixed(k, "MySQL Session")
	lines := s.answerClass()
	for _, name := range []string{"stdout", "stderr"} {
		def(lines, name, func(_ *ruby.Call, a *answer) (ruby.Value, error) { return str(a.output), nil })
	}
	def(lines, "exit_status", func(_ *ruby.Call, a *answer) (ruby.Value, error) { return int64(a.status), nil })
	def(lines, "lines", func(_ *ruby.Call, a *answer) (ruby.Value, error) {
		return ruby.Strings(strings.Split(strings.TrimRight(a.output, "\n"), "\n")), nil
	})
	k.Def("query", func(c *ruby.Call) (ruby.Value, error) {
		d, ok := c.Self.(*ruby.Object).Data.(*session)
		if !ok {
			why, _ := Failed(c.Self)
			return nil, s.fail("%s", why)
		}
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		query, _ := argString(c, 0)
		db, _ := argString(c, 1)
		a, err := s.mysql(d, query, db)
		if err != nil {
			return nil, err
		}
		return s.in.NewObject(lines, a), nil
	})
}

// debianLogin takes the login that Debian's packages keep for themselves.
func (s *Set) debianLogin(d *session) (bool, error) {
	text, _, err := s.readOptional("/etc/mysql/debian.cnf")
	user, password := debianUser.FindStringSubmatch(text), debianPass.FindStringSubmatch(text)
	if err != nil || user == nil || password == nil {
		return false, err
	}
	d.user, d.password = user[1], password[1]
	return true, nil
}

func (s *Set) mysql(d *session, query, db string) (*answer, error) {
	cmd := "mysql -u" + shellEscape(d.user) + " -p" + shellEscape(d.password)
	if d.socket != "" {
		cmd += " -S " + d.socket
	} else {
		cmd += " -h " + d.host
	}
	if d.port != "" {
		cmd += " --port " + d.port
	}
	if db != "" {
		cmd += " " + db
	}
	out, err := s.ask("mysql", cmd+` -s -e "`+strings.NewReplacer(`"`, `\"`, "$", `\$`).Replace(query)+`"`)
	if err != nil {
		return nil, err
	}
	both := string(out.Stdout) + "\n" + string(out.Stderr)
	if out.ExitStatus != 0 || mysqlRefused.MatchString(both) {
		return nil, s.fail("MySQL query with errors: %s", both)
	}
	return &answer{strings.TrimSpace(string(out.Stdout)), "MySQL query: " + query, out.ExitStatus}, nil
}
