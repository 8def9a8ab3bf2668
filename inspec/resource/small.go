package resource

import (
	"regexp"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// defineSmall makes resources that are one question each.
func defineSmall(s *Set) {
	defineSysInfo(s)
	defineSELinux(s)
	defineApt(s)
	defineSSHDActive(s)
}

func defineSysInfo(s *Set) {
	type sysInfo struct{}
	k := s.define("sys_info", "System", nil, func(c *ruby.Call) (any, error) { return sysInfo{}, s.arity(c, 0, 0) })
	fixed(k, "System Information")
	flags := map[string]string{
		"": "", "f": " -f", "long": " -f", "fqdn": " -f", "full": " -f", "d": " -d", "domain": " -d", "i": " -I", "ip_address": " -I", "s": " -s", "short": " -s",
	}
	hostname := func(opt string) (ruby.Value, error) {
		flag, ok := flags[opt]
		if !ok {
			return nil, s.skip("The `sys_info.hostname` resource is not supported with that option on your OS.")
		}
		out, err := s.run("hostname%s", flag)
		return str(strings.TrimSuffix(string(out.Stdout), "\n")), err
	}
	for _, opt := range []string{"domain", "fqdn", "ip_address", "short"} {
		def(k, opt, func(*ruby.Call, sysInfo) (ruby.Value, error) { return hostname(opt) })
	}
	def(k, "hostname", func(c *ruby.Call, _ sysInfo) (ruby.Value, error) {
		opt, _ := argString(c, 0)
		return hostname(opt)
	})
	for name, file := range map[string]string{"manufacturer": "sys_vendor", "model": "product_name"} {
		def(k, name, func(*ruby.Call, sysInfo) (ruby.Value, error) {
			text, _, err := s.readOptional("/sys/class/dmi/id/" + file)
			return str(strings.TrimSuffix(text, "\n")), err
		})
	}
}

// seLinux is what sestatus says, by its words in lower case without spaces.
type seLinux struct {
	path string
	data map[string]string
}

func defineSELinux(s *Set) {
	k := s.define("selinux", "Selinux", nil, func(c *ruby.Call) (any, error) {
		d := &seLinux{path: "/etc/selinux/config", data: map[string]string{}}
		if given, ok := argString(c, 0); ok {
			d.path = given
		}
		out, err := s.run("sestatus")
		if err != nil {
			return nil, err
		}
		if out.ExitStatus != 0 {
			return nil, s.skip("Skipping resource: %s\n%s", out.Stdout, out.Stderr)
		}
		for _, line := range lines(strings.ToLower(string(out.Stdout))) {
			if key, value, ok := strings.Cut(strings.ReplaceAll(line, " ", ""), ":"); ok {
				d.data[key] = value
			}
		}
		return d, s.arity(c, 0, 1)
	})
	fixed(k, "SELinux")
	def(k, "installed?", func(_ *ruby.Call, d *seLinux) (ruby.Value, error) {
		_, ok, err := (&fileRes{s, d.path}).stat(true)
		return ok, err
	})
	for name, want := range map[string][2]string{
		"disabled?": {"selinuxstatus", "disabled"}, "enforcing?": {"currentmode", "enforcing"}, "permissive?": {"currentmode", "permissive"},
	} {
		def(k, name, func(_ *ruby.Call, d *seLinux) (ruby.Value, error) { return d.data[want[0]] == want[1], nil })
	}
	def(k, "policy", func(_ *ruby.Call, d *seLinux) (ruby.Value, error) {
		if v, ok := d.data["loadedpolicyname"]; ok {
			return str(v), nil
		}
		return nil, nil
	})
}

// aptRes is a repository of packages, by its URL.
type aptRes struct{ url string }

var (
	aptHash    = regexp.MustCompile(`^(#\s*)*`)
	aptOptions = regexp.MustCompile(`^(deb|deb-src)\s+\[.+?\]`)
)

// aptRepository is one line of sources.list(5).
type aptRepository struct {
	kind, url string
	active    bool
}

func parseAptSources(text string) []aptRepository {
	var out []aptRepository
	for _, raw := range lines(text) {
		line := aptHash.ReplaceAllString(raw, "")
		w := strings.Fields(aptOptions.ReplaceAllString(line, "$1"))
		if len(w) < 4 || w[0] != "deb" && w[0] != "deb-src" {
			continue
		}
		url := strings.ReplaceAll(w[1], `"`, "")
		if strings.HasPrefix(url, "http://") || strings.HasPrefix(url, "https://") {
			out = append(out, aptRepository{w[0], url, line == raw})
		}
	}
	return out
}

func defineApt(s *Set) {
	k := s.define("apt", "AptRepository", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		if !s.platform.Is("debian") {
			return nil, s.skip("The `apt` resource is not supported on your OS yet.")
		}
		name, _ := argString(c, 0)
		if !strings.HasPrefix(name, "http://") && !strings.HasPrefix(name, "https://") {
			owner, repo, ok := strings.Cut(strings.TrimPrefix(name, "ppa:"), "/")
			if !ok {
				repo = "ppa"
			}
			name = "http://ppa.launchpad.net/" + owner + "/" + repo + "/ubuntu"
		}
		return &aptRes{name}, nil
	})
	text(k, func(d *aptRes) string {
		if d == nil {
			return "Apt Repository"
		}
		return "Apt Repository " + d.url
	}, nil)
	def(k, "resource_id", func(_ *ruby.Call, d *aptRes) (ruby.Value, error) { return str(d.url), nil })
	s.define("ppa", "PpaRepository", k, nil)
	find := func(d *aptRes) (found, active bool, err error) {
		var files []string
		for _, pattern := range []string{"/etc/apt/sources.list", "/etc/apt/sources.list.d/*.list"} {
			more, err := s.glob(pattern)
			if err != nil {
				return false, false, err
			}
			files = append(files, more...)
		}
		active = true
		for _, name := range files {
			text, _, err := s.readOptional(name)
			if err != nil {
				return false, false, err
			}
			for _, r := range parseAptSources(text) {
				if r.url == d.url && r.kind == "deb" {
					found, active = true, active && r.active
				}
			}
		}
		return found, found && active, nil
	}
	def(k, "exists?", func(_ *ruby.Call, d *aptRes) (ruby.Value, error) {
		found, _, err := find(d)
		return found, err
	})
	def(k, "enabled?", func(_ *ruby.Call, d *aptRes) (ruby.Value, error) {
		_, active, err := find(d)
		return active, err
	})
}

// defineSSHDActive makes sshd_active_config: the configuration that sshd says
// it reads.
func defineSSHDActive(s *Set) {
	server := s.in.Class("Inspec::Resources::SshdConfig")
	k := s.define("sshd_active_config", "SshdActiveConfig", server, nil)
	k.Def("initialize", func(c *ruby.Call) (ruby.Value, error) {
		path := "/etc/ssh/sshd_config"
		out, err := s.run("sudo /usr/sbin/sshd -dd 2>&1")
		if err != nil {
			return nil, err
		}
		for _, line := range lines(string(out.Stdout)) {
			if _, name, ok := strings.Cut(line, "filename"); ok {
				path = strings.TrimSpace(name)
				break
			}
		}
		o := c.Self.(*ruby.Object)
		o.SetIVar("@active_path", str(path))
		made, err := s.New(c, "sshd_config", []ruby.Value{str(path)})
		if err != nil {
			return nil, err
		}
		if why, skipped := Skipped(made); skipped {
			return nil, s.skip("%s", why)
		}
		o.Data = made.(*ruby.Object).Data
		return nil, nil
	})
	k.Def("active_path", func(c *ruby.Call) (ruby.Value, error) { return c.Self.(*ruby.Object).IVar("@active_path"), nil })
	k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) {
		return str("SSHD Active Configuration (active path: " + c.In.ToS(c.Self.(*ruby.Object).IVar("@active_path")) + ")"), nil
	})
}
