package resource

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

func defineAccounts(s *Set) {
	definePasswd(s)
	defineShadow(s)
	defineEtcGroup(s)
	defineUsers(s)
	defineGroups(s)
}

// passwdRes is passwd(5), or a text in its form.
type passwdRes struct {
	content string
	rows    []*ruby.Hash
}

var passwdFields = []string{"user", "password", "uid", "gid", "desc", "home", "shell"}

// textRow is a row of strings; a field that a line lacks is nil.
func textRow(names, values []string) *ruby.Hash {
	h := ruby.NewHash()
	h.Grow(len(names) + 2)
	for i, n := range names {
		h.SetText(n, strOrNil(values, i))
	}
	return h
}

// textColumns are columns named by their field's plural: users of user.
func textColumns(pairs ...string) []column {
	var cols []column
	for i := 0; i < len(pairs); i += 2 {
		cols = append(cols, column{name: pairs[i], field: str(pairs[i+1])})
	}
	return cols
}

// joined is a table's content: the named fields of each row with colons.
func joined(names []string, compact bool) column {
	return column{name: "content", native: func(c *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) {
		var out []string
		for _, row := range r.data {
			var parts []string
			for _, n := range names {
				if v, _ := row.Get(str(n)); v != nil || !compact {
					parts = append(parts, c.In.ToS(v))
				}
			}
			out = append(out, strings.Join(parts, ":"))
		}
		return str(strings.Join(out, "\n")), nil
	}}
}

func definePasswd(s *Set) {
	k := s.define("passwd", "Passwd", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 2); err != nil {
			return nil, err
		}
		p := &passwdRes{}
		if v, ok := options(c).GetSym("content"); ok && v != nil {
			p.content = c.In.ToS(v)
		} else {
			name := "/etc/passwd"
			if given, ok := c.Arg(0).(*ruby.String); ok {
				name = given.String()
			}
			var err error
			if p.content, err = s.readFile(name, true); err != nil {
				return nil, err
			}
		}
		for _, line := range lines(p.content) {
			if !strings.HasPrefix(line, "#") {
				p.rows = append(p.rows, textRow(passwdFields, fields(line, ":")))
			}
		}
		return p, nil
	})
	filterTable(s, k, append(textColumns("users", "user", "passwords", "password", "uids", "uid", "gids", "gid",
		"descs", "desc", "homes", "home", "shells", "shell"), joined(passwdFields, false)),
		func(p *passwdRes) ([]*ruby.Hash, error) { return p.rows, nil })
	def(k, "lines", func(c *ruby.Call, p *passwdRes) (ruby.Value, error) { return ruby.Strings(lines(p.content)), nil })
	def(k, "params", func(c *ruby.Call, p *passwdRes) (ruby.Value, error) { return hashList(p.rows), nil })
	fixed(k, "/etc/passwd")
}

func hashList(rows []*ruby.Hash) ruby.Value {
	list := ruby.NewArray()
	for _, r := range rows {
		list.Elems = append(list.Elems, r)
	}
	return list
}

// shadowRes is shadow(5); it is read when it is asked.
type shadowRes struct{ path string }

var shadowFields = []string{"user", "password", "last_change", "min_days", "max_days", "warn_days", "inactive_days", "expiry_date", "reserved"}

func (s *Set) shadowRows(path string) ([]*ruby.Hash, error) {
	text, err := s.readFile(path, true)
	if err != nil {
		return nil, err
	}
	var out []*ruby.Hash
	for _, line := range lines(text) {
		out = append(out, textRow(shadowFields, fields(line, ":")))
	}
	return out, nil
}

func defineShadow(s *Set) {
	k := s.define("shadow", "Shadow", nil, func(c *ruby.Call) (any, error) {
		path := "/etc/shadow"
		if given, ok := c.Arg(0).(*ruby.String); ok {
			path = given.String()
		}
		return &shadowRes{path}, s.arity(c, 0, 2)
	})
	filterTable(s, k, append(textColumns("users", "user", "passwords", "password", "last_changes", "last_change", "min_days", "min_days",
		"max_days", "max_days", "warn_days", "warn_days", "inactive_days", "inactive_days", "expiry_dates", "expiry_date", "reserved", "reserved"),
		joined(shadowFields[:8], true)),
		func(d *shadowRes) ([]*ruby.Hash, error) { return s.shadowRows(d.path) })
	// The names of old are singular.
	for old, now := range map[string]string{"user": "users", "password": "passwords", "last_change": "last_changes", "expiry_date": "expiry_dates"} {
		def(k, old, func(c *ruby.Call, d *shadowRes) (ruby.Value, error) { return c.In.Call(c.Self, now, c.Args, c.Block) })
	}
	def(k, "params", func(c *ruby.Call, d *shadowRes) (ruby.Value, error) {
		rows, err := s.shadowRows(d.path)
		return hashList(rows), err
	})
	text(k, func(d *shadowRes) string {
		if d == nil {
			return "/etc/shadow"
		}
		return d.path
	}, nil)
}

// groupFile is group(5), whole or what where has left of it.
type groupFile struct {
	path string
	rows []*ruby.Hash
}

func (s *Set) groupRows(path string) ([]*ruby.Hash, error) {
	text, err := s.readFile(path, true)
	if err != nil {
		return nil, err
	}
	var out []*ruby.Hash
	for _, line := range lines(text) {
		if w := fields(uncomment(line, "#", false), ":"); len(w) > 0 {
			out = append(out, groupRow(w))
		}
	}
	return out, nil
}

// groupRow is one line of group(5); the gid is a number.
func groupRow(w []string) *ruby.Hash {
	h := textRow([]string{"name", "password"}, w)
	var gid ruby.Value
	if len(w) > 2 {
		gid = intOrText(w[2])
	}
	h.SetText("gid", gid)
	h.SetText("members", strOrNil(w, 3))
	return h
}

func defineEtcGroup(s *Set) {
	k := s.define("etc_group", "EtcGroup", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		path := "/etc/group"
		if given, ok := argString(c, 0); ok {
			path = given
		}
		rows, err := s.groupRows(path)
		return &groupFile{path, rows}, err
	})
	text(k, func(*groupFile) string { return "/etc/group" }, func(g *groupFile) string { return g.path })
	view := s.in.DefineClass(s.spec, "EtcGroupView", nil)
	criteria := map[string]string{"name": "name", "group_name": "name", "password": "password", "gid": "gid", "group_id": "gid", "users": "members", "members": "members"}
	for _, class := range []*ruby.Class{k, view} {
		def(class, "entries", func(c *ruby.Call, g *groupFile) (ruby.Value, error) { return hashList(g.rows), nil })
		for method, field := range map[string]string{"groups": "name", "gids": "gid"} {
			def(class, method, func(c *ruby.Call, g *groupFile) (ruby.Value, error) {
				list := ruby.NewArray()
				for _, r := range g.rows {
					v, _ := r.Get(str(field))
					list.Elems = append(list.Elems, v)
				}
				return list, nil
			})
		}
		def(class, "users", func(c *ruby.Call, g *groupFile) (ruby.Value, error) {
			list := ruby.NewArray()
			for _, r := range g.rows {
				v, _ := r.Get(str("members"))
				for _, name := range strings.Split(c.In.ToS(v), ",") {
					if name != "" {
						list.Elems = append(list.Elems, str(name))
					}
				}
			}
			return list, nil
		})
	}
	def(k, "where", func(c *ruby.Call, g *groupFile) (ruby.Value, error) {
		conditions := options(c)
		if conditions.Len() == 0 {
			return nil, nil
		}
		left := &groupFile{path: g.path, rows: g.rows}
		err := conditions.Each(func(key, want ruby.Value) error {
			field, ok := criteria[c.In.ToS(key)]
			if !ok {
				return nil
			}
			left.rows = slices.DeleteFunc(slices.Clone(left.rows), func(r *ruby.Hash) bool {
				v, _ := r.Get(str(field))
				return c.In.ToS(v) != c.In.ToS(want)
			})
			return nil
		})
		return s.in.NewObject(view, left), err
	})
}

// userInfo is one account; values that weren't found are nil.
type userInfo struct {
	username, uid, gid, groupname, groups ruby.Value
	home, shell                           ruby.Value
	mindays, maxdays, warndays            ruby.Value
	found                                 bool
}

type userRes struct {
	name string
	info *userInfo
}

// user finds out about an account as InSpec does, by id, getent and chage, or
// from the account files where nothing can be run.
func (s *Set) user(name string) (*userInfo, error) {
	u := &userInfo{}
	var out [3]target.CommandResult
	for i, cmd := range userCommands(name) {
		var err error
		out[i], err = s.t.Run(s.in.Context(), cmd)
		if errors.Is(err, target.ErrNoCommands) || i < 2 && out[i].ExitStatus == 127 {
			return s.userFromFiles(name)
		}
		if err != nil {
			return nil, s.problem(err)
		}
	}
	id, passwd, chage := out[0], out[1], out[2]
	if id.ExitStatus == 0 {
		i := parseID(string(id.Stdout))
		u.found = i.hasUID
		u.username, u.uid, u.gid, u.groupname = str(i.user), intOrText(i.uid), intOrText(i.gid), str(i.group)
		u.groups = ruby.Strings(i.groups)
	}
	if passwd.ExitStatus == 0 {
		w := fields(strings.TrimSuffix(string(passwd.Stdout), "\n"), ":")
		u.home, u.shell = strOrNil(w, 5), strOrNil(w, 6)
	}
	if chage.ExitStatus == 0 {
		p := pairs(string(chage.Stdout))
		u.mindays = intOrText(p["Minimum number of days between password change"])
		u.maxdays = intOrText(p["Maximum number of days between password change"])
		u.warndays = intOrText(p["Number of days of warning before password expires"])
	}
	return u, nil
}

// userFromFiles says what id, getent and chage would say if passwd, group and
// shadow are all that the target knows of accounts.
func (s *Set) userFromFiles(name string) (*userInfo, error) {
	u := &userInfo{}
	accounts, err := s.accountLines("/etc/passwd")
	if err != nil {
		return nil, err
	}
	groups, err := s.accountLines("/etc/group")
	if err != nil {
		return nil, err
	}
	var me []string
	for _, w := range accounts {
		if len(w) > 3 && w[0] == name {
			me = w
			break
		}
	}
	if me == nil {
		return u, nil
	}
	u.found = true
	u.uid, u.gid, u.username, u.groupname = intOrText(me[2]), intOrText(me[3]), str(name), str("")
	for _, w := range accounts {
		if len(w) > 2 && w[2] == me[2] {
			u.username = str(w[0]) // id names the first account of that uid
			break
		}
	}
	primary, others := "", []string(nil)
	for _, w := range groups {
		switch {
		case len(w) > 2 && w[2] == me[3]:
			if primary == "" {
				primary = w[0]
			}
		case len(w) > 3 && slices.Contains(strings.Split(w[3], ","), name):
			others = append(others, w[0])
		}
	}
	u.groupname, u.groups = str(primary), ruby.Strings(append([]string{primary}, others...))
	u.home, u.shell = strOrNil(me, 5), strOrNil(me, 6)

	shadow, err := s.accountLines("/etc/shadow")
	if err != nil {
		return nil, err
	}
	for _, w := range shadow {
		if len(w) > 5 && w[0] == name {
			u.mindays, u.maxdays, u.warndays = daysOrUnset(w[3]), daysOrUnset(w[4]), daysOrUnset(w[5])
		}
	}
	return u, nil
}

// daysOrUnset is a field of shadow as chage shows it: -1 when it is empty.
func daysOrUnset(text string) ruby.Value {
	if text == "" {
		return str("-1")
	}
	return intOrText(text)
}

// accountLines splits an account file that may be missing at its colons.
func (s *Set) accountLines(name string) ([][]string, error) {
	text, _, err := s.readOptional(name)
	if err != nil {
		return nil, err
	}
	var out [][]string
	for _, line := range lines(text) {
		if !strings.HasPrefix(line, "#") {
			out = append(out, strings.Split(line, ":"))
		}
	}
	return out, nil
}

func defineUsers(s *Set) {
	k := s.define("user", "User", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		name, _ := argString(c, 0)
		return &userRes{name: name}, nil
	})
	text(k, func(u *userRes) string { return "User " + u.name }, func(u *userRes) string { return u.name })
	get := func(name string, of func(u *userInfo) ruby.Value) {
		def(k, name, func(c *ruby.Call, u *userRes) (ruby.Value, error) {
			if u.info == nil {
				info, err := s.user(u.name)
				if err != nil {
					return nil, err
				}
				u.info = info
			}
			return of(u.info), nil
		})
	}
	get("exists?", func(u *userInfo) ruby.Value { return u.found })
	get("username", func(u *userInfo) ruby.Value { return u.username })
	get("uid", func(u *userInfo) ruby.Value { return u.uid })
	get("gid", func(u *userInfo) ruby.Value { return u.gid })
	get("groupname", func(u *userInfo) ruby.Value { return u.groupname })
	get("group", func(u *userInfo) ruby.Value { return u.groupname })
	get("groups", func(u *userInfo) ruby.Value { return u.groups })
	get("home", func(u *userInfo) ruby.Value { return u.home })
	get("shell", func(u *userInfo) ruby.Value { return u.shell })
	get("mindays", func(u *userInfo) ruby.Value { return u.mindays })
	get("maxdays", func(u *userInfo) ruby.Value { return u.maxdays })
	get("warndays", func(u *userInfo) ruby.Value { return u.warndays })
	get("minimum_days_between_password_change", func(u *userInfo) ruby.Value { return u.mindays })
	get("maximum_days_between_password_change", func(u *userInfo) ruby.Value { return u.maxdays })
	// Linux accounts have none of these.
	for _, name := range []string{"domain", "userflags", "lastlogin", "maxbadpasswords", "disabled?", "enabled?"} {
		get(name, func(u *userInfo) ruby.Value {
			if strings.HasSuffix(name, "?") && u.found {
				return false
			}
			return nil
		})
	}
	for name, of := range map[string]string{
		"has_uid?": "uid", "has_home_directory?": "home", "has_login_shell?": "shell", "belongs_to_primary_group?": "groupname",
	} {
		k.DefN(name, 1, 1, func(c *ruby.Call) (ruby.Value, error) {
			v, err := c.In.Call(c.Self, of, nil, nil)
			return err == nil && c.In.Equal(v, c.Args[0]), err
		})
	}
	k.DefN("belongs_to_group?", 1, 1, func(c *ruby.Call) (ruby.Value, error) {
		v, err := c.In.Call(c.Self, "groups", nil, nil)
		list, ok := v.(*ruby.Array)
		return ok && slices.ContainsFunc(list.Elems, func(e ruby.Value) bool { return c.In.Equal(e, c.Args[0]) }), err
	})
	def(k, "encrypted_password", func(c *ruby.Call, u *userRes) (ruby.Value, error) {
		lines, err := s.accountLines("/etc/shadow")
		if err != nil {
			return nil, err
		}
		for _, w := range lines {
			if w[0] == u.name {
				return strOrNil(w, 1), nil
			}
		}
		return nil, s.fail("user %s has no entry in /etc/shadow", u.name)
	})

	type usersRes struct{ rows []*ruby.Hash }
	users := s.define("users", "Users", nil, func(c *ruby.Call) (any, error) { return &usersRes{}, s.arity(c, 0, 0) })
	fixed(users, "Users")
	cols := []column{{name: "exists?", native: func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) { return len(r.data) > 0, nil }}}
	for _, f := range [][2]string{
		{"usernames", "username"},
		{"uids", "uid"},
		{"gids", "gid"},
		{"groupnames", "groupname"},
		{"groups", "groups"},
		{"homes", "home"},
		{"shells", "shell"},
		{"mindays", "mindays"},
		{"maxdays", "maxdays"},
		{"warndays", "warndays"},
		{"disabled", "disabled"},
	} {
		cols = append(cols, column{name: f[0], field: ruby.Symbol(f[1])})
	}
	filterTable(s, users, cols, func(d *usersRes) ([]*ruby.Hash, error) {
		if d.rows != nil {
			return d.rows, nil
		}
		rows, err := s.allUsers()
		d.rows = rows
		return rows, err
	})
}

// userCommands are what says who an account is.
func userCommands(name string) []string {
	quoted := target.Quote(name)
	return []string{"id " + quoted, "getent passwd " + quoted, "LC_ALL=C chage -l " + quoted}
}

// allUsers finds out about all accounts of /etc/passwd. What it runs for them
// it runs beforehand, many at a time; the answers are then in the cache.
func (s *Set) allUsers() ([]*ruby.Hash, error) {
	accounts, err := s.accountLines("/etc/passwd")
	if err != nil {
		return nil, err
	}
	ctx := s.in.Context()
	var g errgroup.Group
	g.SetLimit(32)
	for _, w := range accounts {
		for _, cmd := range userCommands(w[0]) {
			g.Go(func() error { _, err := s.t.Run(ctx, cmd); return err })
		}
	}
	if err := g.Wait(); err != nil && !errors.Is(err, target.ErrNoCommands) {
		return nil, s.problem(err)
	}
	var out []*ruby.Hash
	for _, w := range accounts {
		u, err := s.user(w[0])
		if err != nil {
			return nil, err
		}
		h := ruby.NewHash()
		if u.found {
			h.Set(ruby.Symbol("uid"), u.uid)
			h.Set(ruby.Symbol("username"), u.username)
			h.Set(ruby.Symbol("gid"), u.gid)
			h.Set(ruby.Symbol("groupname"), u.groupname)
			h.Set(ruby.Symbol("groups"), u.groups)
		}
		h.Set(ruby.Symbol("home"), u.home)
		h.Set(ruby.Symbol("shell"), u.shell)
		if u.maxdays != nil {
			h.Set(ruby.Symbol("mindays"), u.mindays)
			h.Set(ruby.Symbol("maxdays"), u.maxdays)
			h.Set(ruby.Symbol("warndays"), u.warndays)
		}
		out = append(out, h)
	}
	return out, nil
}

func defineGroups(s *Set) {
	type groupsRes struct{}
	k := s.define("groups", "Groups", nil, func(c *ruby.Call) (any, error) { return groupsRes{}, s.arity(c, 0, 0) })
	fixed(k, "Groups")
	cols := []column{{name: "exists?", native: func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) { return len(r.data) > 0, nil }}}
	cols = append(cols, textColumns("names", "name", "gids", "gid", "domains", "domain")...)
	cols = append(cols, column{name: "members", field: str("members"), simple: true}, column{name: "members_array", field: str("members_array"), simple: true})
	filterTable(s, k, cols, func(groupsRes) ([]*ruby.Hash, error) { return s.groups() })

	type groupRes struct{ name string }
	one := s.define("group", "Group", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		name, _ := argString(c, 0)
		return &groupRes{name}, nil
	})
	find := func(g *groupRes) (*ruby.Hash, error) {
		all, err := s.groups()
		if err != nil {
			return nil, err
		}
		var found *ruby.Hash
		for _, h := range all {
			if v, _ := h.Get(str("name")); s.in.Equal(v, str(g.name)) {
				if found != nil {
					return nil, s.in.Raise(s.in.Class("RuntimeError"), "found more than one group with the same name, please use `groups` resource")
				}
				found = h
			}
		}
		return found, nil
	}
	get := func(name, field string, empty func() ruby.Value) {
		def(one, name, func(c *ruby.Call, g *groupRes) (ruby.Value, error) {
			h, err := find(g)
			if err != nil || h == nil {
				return empty(), err
			}
			v, _ := h.Get(str(field))
			if v == nil {
				v = empty()
			}
			return v, nil
		})
	}
	get("gid", "gid", func() ruby.Value { return nil })
	get("members", "members", func() ruby.Value { return str("") })
	get("members_array", "members_array", func() ruby.Value { return ruby.NewArray() })
	def(one, "exists?", func(c *ruby.Call, g *groupRes) (ruby.Value, error) {
		h, err := find(g)
		return h != nil, err
	})
	def(one, "local", func(c *ruby.Call, g *groupRes) (ruby.Value, error) { return true, nil })
	one.DefN("has_gid?", 1, 1, func(c *ruby.Call) (ruby.Value, error) {
		v, err := c.In.Call(c.Self, "gid", nil, nil)
		return err == nil && c.In.Equal(v, c.Args[0]), err
	})
	text(one, func(g *groupRes) string { return "Group " + g.name }, nil)
	def(one, "resource_id", func(c *ruby.Call, g *groupRes) (ruby.Value, error) {
		h, err := find(g)
		if err != nil || h == nil {
			return str(""), err
		}
		gid, _ := h.Get(str("gid"))
		return str(g.name + "-" + c.In.ToS(gid)), nil
	})
}

// groups lists the groups that getent knows, or else those of /etc/group.
func (s *Set) groups() ([]*ruby.Hash, error) {
	var all []*ruby.Hash
	out, err := s.t.Run(s.in.Context(), "getent group")
	switch {
	case err == nil && out.ExitStatus == 0:
		for _, line := range lines(strings.TrimSpace(string(out.Stdout))) {
			all = append(all, groupRow(fields(line, ":")))
		}
	case err != nil && !errors.Is(err, target.ErrNoCommands):
		return nil, s.problem(err)
	}
	if len(all) == 0 {
		if all, err = s.groupRows("/etc/group"); err != nil {
			return nil, err
		}
	}
	for _, h := range all {
		var members ruby.Value
		if v, _ := h.Get(str("members")); v != nil {
			members = ruby.Strings(fields(s.in.ToS(v), ","))
		}
		h.Set(str("members_array"), members)
	}
	return all, nil
}
