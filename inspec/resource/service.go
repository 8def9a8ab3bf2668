package resource

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// serviceRes is a unit of the target's service manager; info is asked once.
type serviceRes struct {
	name, ctl string
	manager   func(d *serviceRes) (*serviceInfo, error)
	asked     bool
	info      *serviceInfo // nil when there is no such service
}

func (d *serviceRes) ask() error {
	if d.asked {
		return nil
	}
	info, err := d.manager(d)
	if err == nil {
		d.info, d.asked = info, true
	}
	return err
}

type serviceInfo struct {
	description                 ruby.Value
	installed, enabled, running bool
	ask                         func() (enabled bool, err error) // where enabled isn't known yet
	kind                        string
	runlevels                   map[int64]bool // of sysv alone: whether it starts in each
	params                      map[string]string
	order                       []string
}

func defineService(s *Set) {
	svc := s.define("service", "Service", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		d := &serviceRes{}
		d.name, _ = argString(c, 0)
		d.ctl, _ = argString(c, 1)
		switch name, release := s.platform.Name, leadingInt(s.platform.Release); {
		case name == "alpine", name == "wrlinux", name == "debian" && release > 0 && release <= 7,
			s.platform.Is("redhat") && release < 7 && name != "amazon", s.platform.Is("suse") && release < 12:
			d.manager = s.sysv
		case s.platform.Is("linux"):
			d.manager = s.systemd
		default:
			return nil, s.skip("The `service` resource is not supported on your OS yet.")
		}
		return d, nil
	})
	defineServiceMethods(s, svc)
	s.define("systemd_service", "SystemdService", svc, func(c *ruby.Call) (any, error) {
		d := &serviceRes{manager: s.systemd}
		d.name, _ = argString(c, 0)
		d.ctl, _ = argString(c, 1)
		return d, s.arity(c, 1, 2)
	})
	s.define("sysv_service", "SysVService", svc, func(c *ruby.Call) (any, error) {
		d := &serviceRes{manager: s.sysv}
		d.name, _ = argString(c, 0)
		return d, s.arity(c, 1, 2)
	})
	for _, r := range []struct {
		name, class string
		manager     func(*serviceRes) (*serviceInfo, error)
	}{
		{"upstart_service", "UpstartService", s.upstart},
		{"runit_service", "RunitService", s.runit},
		{"bsd_service", "BSDService", s.bsdInit},
		{"launchd_service", "LaunchdService", s.launchd},
	} {
		s.later(r.name, func() {
			s.define(r.name, r.class, s.class("service"), func(c *ruby.Call) (any, error) {
				d := &serviceRes{manager: r.manager}
				d.name, _ = argString(c, 0)
				d.ctl, _ = argString(c, 1)
				return d, s.arity(c, 1, 2)
			})
		})
	}
	defineKernelModule(s)
}

var upstartStart = regexp.MustCompile(`(?m)^\s*start on`)

// upstart asks initctl; what it doesn't know may be sysv's.
func (s *Set) upstart(d *serviceRes) (*serviceInfo, error) {
	ctl := d.ctl
	if ctl == "" {
		ctl = "initctl"
	}
	out, ok, err := s.stdout("%s status %s", ctl, d.name)
	if err != nil {
		return nil, err
	}
	if !ok || out == "" {
		return s.sysv(d)
	}
	conf, _, err := s.readOptional("/etc/init/" + d.name + ".conf")
	return &serviceInfo{kind: "upstart", installed: true, running: strings.Contains(out, "start/running"), enabled: upstartStart.MatchString(conf)}, err
}

// runit asks sv.
func (s *Set) runit(d *serviceRes) (*serviceInfo, error) {
	ctl := d.ctl
	if ctl == "" {
		ctl = "sv"
	}
	out, ok, err := s.stdout("%s status %s", ctl, d.name)
	running := ok && strings.HasPrefix(out, "run:")
	enabled := ok && (running || strings.Contains(out, "normally up") || strings.Contains(out, "want up"))
	return &serviceInfo{kind: "runit", installed: ok, running: running, enabled: enabled}, err
}

// bsdInit asks service, as on FreeBSD.
func (s *Set) bsdInit(d *serviceRes) (*serviceInfo, error) {
	ctl := d.ctl
	if ctl == "" {
		ctl = "service"
	}
	enabledOnly := leadingInt(s.platform.Release) < 10
	flag := "-l"
	if enabledOnly {
		flag = "-e"
	}
	list, ok, err := s.stdout("%s %s", ctl, flag)
	if err != nil || !ok {
		return nil, err
	}
	found := slices.ContainsFunc(lines(list), func(line string) bool {
		return line == d.name || enabledOnly && strings.HasSuffix(line, "/"+d.name)
	})
	if !found {
		return nil, nil
	}
	info := &serviceInfo{kind: "bsd-init", installed: true, enabled: true}
	if !enabledOnly {
		if _, info.enabled, err = s.stdout("%s %s enabled", ctl, d.name); err != nil {
			return nil, err
		}
	}
	_, info.running, err = s.stdout("%s %s onestatus", ctl, d.name)
	return info, err
}

// launchd asks launchctl, as on macOS: the first line with the name in it.
func (s *Set) launchd(d *serviceRes) (*serviceInfo, error) {
	ctl := d.ctl
	if ctl == "" {
		ctl = "launchctl"
	}
	list, ok, err := s.stdout("%s list", ctl)
	if err != nil || !ok {
		return nil, err
	}
	for _, line := range lines(list) {
		if w := strings.Split(line, "\t"); strings.Contains(line, d.name) && len(w) == 3 {
			return &serviceInfo{kind: "darwin", installed: true, enabled: true, running: w[0] != "-"}, nil
		}
	}
	return nil, nil
}

func defineServiceMethods(s *Set, k *ruby.Class) {
	text(k, func(d *serviceRes) string {
		if d == nil {
			return "Service"
		}
		return "Service " + d.name
	}, func(d *serviceRes) string { return d.name })
	get := func(name string, absent ruby.Value, of func(i *serviceInfo) ruby.Value) {
		def(k, name, func(c *ruby.Call, d *serviceRes) (ruby.Value, error) {
			if err := d.ask(); err != nil {
				return nil, err
			}
			if d.info == nil {
				return absent, nil
			}
			return of(d.info), nil
		})
	}
	get("installed?", false, func(i *serviceInfo) ruby.Value { return i.installed })
	def(k, "enabled?", func(_ *ruby.Call, d *serviceRes) (ruby.Value, error) {
		if err := d.ask(); err != nil || d.info == nil {
			return false, err
		}
		if d.info.ask != nil {
			return d.info.ask()
		}
		return d.info.enabled, nil
	})
	get("running?", false, func(i *serviceInfo) ruby.Value { return i.running })
	get("type", nil, func(i *serviceInfo) ruby.Value { return str(i.kind) })
	get("description", nil, func(i *serviceInfo) ruby.Value { return i.description })
	get("startmode", nil, func(i *serviceInfo) ruby.Value { return nil })
	get("startname", nil, func(i *serviceInfo) ruby.Value {
		if v, ok := i.params["User"]; ok {
			return str(v)
		}
		return nil
	})
	def(k, "name", func(c *ruby.Call, d *serviceRes) (ruby.Value, error) { return str(d.name), nil })
	defineRunlevels(s, k)
	def(k, "params", func(c *ruby.Call, d *serviceRes) (ruby.Value, error) {
		if err := d.ask(); err != nil {
			return nil, err
		}
		h := ruby.NewHash()
		if d.info != nil {
			for _, key := range d.info.order {
				h.Set(str(key), str(d.info.params[key]))
			}
		}
		return c.In.Call(c.In.Class("Hashie::Mash"), "new", []ruby.Value{h}, nil)
	})
}

// runlevels are the levels of a sysv service, or some of them, and whether it
// starts in each. Other services have none.
type runlevels struct {
	owner  *ruby.Object
	levels []int64
	starts map[int64]bool
}

func defineRunlevels(s *Set, service *ruby.Class) {
	k := s.in.DefineClass(s.spec, "Runlevels", nil)
	def(service, "runlevels", func(c *ruby.Call, d *serviceRes) (ruby.Value, error) {
		if err := d.ask(); err != nil {
			return nil, err
		}
		r := &runlevels{owner: c.Self.(*ruby.Object)}
		if d.info != nil {
			r.starts = d.info.runlevels
		}
		for level := range int64(len(r.starts)) {
			if len(c.Args) == 0 || slices.ContainsFunc(c.Args, func(want ruby.Value) bool {
				match, err := c.In.CaseEq(want, level)
				_, isPattern := want.(*ruby.Regexp)
				if isPattern {
					match, err = c.In.CaseEq(want, str(strconv.FormatInt(level, 10)))
				}
				return err == nil && match
			}) {
				r.levels = append(r.levels, level)
			}
		}
		return s.in.NewObject(k, r), nil
	})
	all := func(want bool) func(*ruby.Call, *runlevels) (ruby.Value, error) {
		return func(_ *ruby.Call, r *runlevels) (ruby.Value, error) {
			return !slices.ContainsFunc(r.levels, func(l int64) bool { return r.starts[l] != want }), nil
		}
	}
	def(k, "enabled?", all(true))
	def(k, "disabled?", all(false))
	def(k, "keys", func(_ *ruby.Call, r *runlevels) (ruby.Value, error) {
		list := ruby.NewArray()
		for _, l := range r.levels {
			list.Elems = append(list.Elems, l)
		}
		return list, nil
	})
	def(k, "to_s", func(c *ruby.Call, r *runlevels) (ruby.Value, error) {
		var words []string
		for _, l := range r.levels {
			words = append(words, strconv.FormatInt(l, 10))
		}
		return str(c.In.ToS(r.owner) + " runlevels " + strings.Join(words, ", ")), nil
	})
}

// systemd asks systemctl. Where there is no systemctl there is no service.
func (s *Set) systemd(d *serviceRes) (*serviceInfo, error) {
	ctl := d.ctl
	if ctl == "" {
		ctl = "systemctl"
	}
	out, err := s.t.Run(s.in.Context(), ctl+" show --no-pager --all "+d.name)
	if errors.Is(err, target.ErrNoCommands) {
		// Most images have no systemctl; what its units would be doing isn't
		// in the files.
		if there, missing := s.commandExists(ctl); missing != nil || !there {
			return nil, missing
		}
	}
	if err != nil {
		return nil, s.problem(err)
	}
	if out.ExitStatus != 0 {
		return nil, nil
	}
	show := string(out.Stdout)
	info := &serviceInfo{kind: "systemd", params: map[string]string{}}
	for _, line := range lines(show) {
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		key = strings.TrimSpace(key)
		if _, there := info.params[key]; !there {
			info.order = append(info.order, key)
		}
		info.params[key] = strings.TrimSpace(value)
	}
	info.installed = info.params["LoadState"] == "loaded"
	info.description = str(info.params["Description"])
	switch info.params["ActiveState"] { // by which is-active goes
	case "active", "reloading", "refreshing":
		info.running = true
	case "":
		if _, info.running, err = s.stdout("%s is-active %s --quiet", ctl, d.name); err != nil {
			return nil, err
		}
	}
	info.ask = func() (bool, error) {
		out, err := s.run("%s is-enabled %s --quiet", ctl, d.name)
		if err != nil || out.ExitStatus == 0 || !noUnitFile.Match(out.Stderr) {
			return err == nil && out.ExitStatus == 0, err
		}
		old, err := s.sysv(d)
		return old != nil && old.enabled, err
	}
	return info, nil
}

var noUnitFile = regexp.MustCompile(`Failed to get.*No such file or directory`)

var startLink = regexp.MustCompile(`rc([0-6])\.d/S[^/]*?$`)

// sysv looks at /etc/init.d and asks service for the state.
func (s *Set) sysv(d *serviceRes) (*serviceInfo, error) {
	out, err := s.t.Run(s.in.Context(), "ls -1 /etc/init.d/")
	if errors.Is(err, target.ErrNoCommands) {
		_, there, missing := (&fileRes{s, "/etc/init.d/" + d.name}).stat(true)
		if missing != nil || !there {
			return nil, missing
		}
	}
	if err != nil {
		return nil, s.problem(err)
	}
	if out.ExitStatus != 0 || !slices.Contains(lines(string(out.Stdout)), d.name) {
		return nil, nil
	}
	links, err := s.run(`find /etc/rc*.d /etc/init.d/rc*.d -name "S*"`)
	if err != nil {
		return nil, err
	}
	info := &serviceInfo{installed: true, kind: "sysv", params: map[string]string{}, runlevels: map[int64]bool{}}
	for level := range int64(7) {
		info.runlevels[level] = false
	}
	for _, link := range lines(string(links.Stdout)) {
		if m := startLink.FindStringSubmatch(link); m != nil && strings.HasSuffix(link, d.name) {
			info.enabled = true
			info.runlevels[leadingInt(m[1])] = true
		}
	}
	ctl := d.ctl
	if ctl == "" {
		ctl = "service"
	}
	_, info.running, err = s.stdout("%s %s status", ctl, d.name)
	return info, err
}

type kernelModule struct{ name string }

func defineKernelModule(s *Set) {
	k := s.define("kernel_module", "KernelModule", nil, func(c *ruby.Call) (any, error) {
		name, _ := argString(c, 0)
		if !s.platform.Is("linux") {
			return nil, s.skip("The `kernel_parameter` resource is not supported on your OS.")
		}
		return kernelModule{name}, s.arity(c, 0, 1)
	})
	text(k, func(m kernelModule) string { return "Kernel Module " + m.name }, func(m kernelModule) string { return m.name })
	tool := func(name string) string {
		if s.platform.Is("redhat") || s.platform.Name == "fedora" {
			return "/sbin/" + name
		}
		return name
	}
	def(k, "loaded?", func(c *ruby.Call, m kernelModule) (ruby.Value, error) {
		out, err := s.t.Run(s.in.Context(), tool("lsmod"))
		list := string(out.Stdout)
		switch {
		case errors.Is(err, target.ErrNoCommands) || err == nil && out.ExitStatus != 0:
			if list, _, err = s.readOptional("/proc/modules"); err != nil {
				return nil, err
			}
		case err != nil:
			return nil, s.problem(err)
		}
		return strings.Contains("\n"+list, "\n"+m.name+" ") || strings.Contains("\n"+list, "\n"+m.name+"\t"), nil
	})
	config := func(m kernelModule, expr string) (bool, error) {
		out, err := s.run("%s --showconfig", tool("modprobe"))
		if err != nil {
			return false, err
		}
		re, err := regexp.Compile(`(?m)` + strings.ReplaceAll(expr, "MODULE", regexp.QuoteMeta(m.name)))
		return err == nil && re.Match(out.Stdout), nil
	}
	match := func(name, expr string) {
		def(k, name, func(c *ruby.Call, m kernelModule) (ruby.Value, error) { return config(m, expr) })
	}
	match("disabled?", `^install\s+MODULE\s+/(s?)bin/(true|false)`)
	match("disabled_via_bin_true?", `^install\s+MODULE\s+/(s?)bin/true`)
	match("disabled_via_bin_false?", `^install\s+MODULE\s+/(s?)bin/false`)
	match("blacklisted?", `^blacklist\s+MODULE|^install\s+MODULE\s+/(s?)bin/(true|false)`)
	def(k, "version", func(c *ruby.Call, m kernelModule) (ruby.Value, error) {
		out, ok, err := s.stdout("%s -F version %s", tool("modinfo"), m.name)
		if err != nil || !ok {
			return nil, err
		}
		return str(strings.ReplaceAll(out, "\n", "")), nil
	})
}
