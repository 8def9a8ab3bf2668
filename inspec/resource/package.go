package resource

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// packageRes is one package; it is looked up when something is asked of it.
type packageRes struct {
	name, dbpath string
	db           packageDB
}

// packageDB is how a platform's package manager is asked.
type packageDB func(p *packageRes) (packageInfo, error)

func definePackage(s *Set) {
	k := s.define("package", "Package", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		name, _ := argString(c, 0)
		p := &packageRes{name: name}
		switch pf := s.platform; {
		case pf.Is("debian"):
			p.db = s.dpkg
		case pf.Is("redhat"), slices.Contains([]string{"suse", "amazon", "fedora"}, pf.Family):
			if v, ok := options(c).GetSym("rpm_dbpath"); ok && v != nil {
				p.dbpath = c.In.ToS(v)
				if _, there, err := (&fileRes{s, p.dbpath}).stat(true); err != nil || !there {
					if err == nil {
						err = s.skip("The following requirements are not met for this resource: RPMDB %s does not exist", p.dbpath)
					}
					return nil, err
				}
			}
			p.db = s.rpm
		case pf.Name == "alpine", pf.Is("chainguard"):
			p.db = s.apk
		case pf.Name == "arch":
			p.db = s.pacman
		default:
			return nil, s.skip("The `package` resource is not supported on your OS yet.")
		}
		return p, nil
	})
	text(k, func(p *packageRes) string {
		if p == nil {
			return "System Package"
		}
		return "System Package " + p.name
	}, func(p *packageRes) string {
		if p == nil {
			return ""
		}
		return p.name
	})
	def(k, "installed?", func(c *ruby.Call, p *packageRes) (ruby.Value, error) {
		info, err := p.db(p)
		return info.installed, err
	})
	def(k, "held?", func(c *ruby.Call, p *packageRes) (ruby.Value, error) {
		info, err := p.db(p)
		return info.held, err
	})
	def(k, "version", func(c *ruby.Call, p *packageRes) (ruby.Value, error) {
		info, err := p.db(p)
		if err != nil || info.name == "" {
			return nil, err
		}
		return str(info.version), nil
	})
	def(k, "info", func(c *ruby.Call, p *packageRes) (ruby.Value, error) {
		info, err := p.db(p)
		h := ruby.NewHash()
		if err == nil && info.name != "" {
			for _, kv := range []struct {
				key   string
				value ruby.Value
			}{{"name", str(info.name)}, {"installed", info.installed}, {"held", info.held}, {"version", str(info.version)}} {
				h.Set(ruby.Symbol(kv.key), kv.value)
			}
		}
		return h, err
	})
}

// dpkg reads dpkg's database: one file, or on images built without dpkg a
// file for each package in status.d.
func (s *Set) dpkg(p *packageRes) (packageInfo, error) {
	all, err := s.dpkgAll()
	if err != nil {
		return packageInfo{}, err
	}
	name, arch, _ := strings.Cut(p.name, ":")
	for _, info := range all {
		if info.name == name && (arch == "" || info.arch == arch) {
			return info, nil
		}
	}
	return packageInfo{}, nil
}

// dpkgAll lists all of dpkg's packages; they are read once.
func (s *Set) dpkgAll() ([]packageInfo, error) {
	if s.debs == nil {
		all, err := s.readDpkg()
		if err != nil {
			return nil, err
		}
		s.debs = all
	}
	return slices.Clone(s.debs), nil
}

func (s *Set) readDpkg() ([]packageInfo, error) {
	const dir = "/var/lib/dpkg/"
	text, _, err := s.readOptional(dir + "status")
	if err != nil {
		return nil, err
	}
	all := parseDpkgStatus(text)
	names, err := s.t.ReadDir(s.in.Context(), dir+"status.d")
	var pathErr *fs.PathError
	if err != nil && !errors.As(err, &pathErr) {
		return nil, s.problem(err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, ".md5sums") {
			continue
		}
		text, _, err := s.readOptional(dir + "status.d/" + n)
		if err != nil {
			return nil, err
		}
		for _, info := range parseDpkgStatus(text) {
			info.installed = true // these stanzas carry no status
			all = append(all, info)
		}
	}
	return all, nil
}

func (s *Set) apk(p *packageRes) (packageInfo, error) {
	for _, db := range []string{"/lib/apk/db/installed", "/usr/lib/apk/db/installed"} {
		text, ok, err := s.readOptional(db)
		if err != nil {
			return packageInfo{}, err
		}
		for _, info := range parseApkInstalled(text) {
			if info.name == p.name {
				return info, nil
			}
		}
		if ok {
			break
		}
	}
	return packageInfo{}, nil
}

func (s *Set) rpm(p *packageRes) (packageInfo, error) {
	cmd := "rpm -qi "
	if p.dbpath != "" {
		cmd += "--dbpath " + p.dbpath + " "
	}
	return s.query(cmd+p.name, "rpm", func() (packageInfo, error) { return s.rpmNative(p) })
}

func (s *Set) pacman(p *packageRes) (packageInfo, error) {
	return s.query("pacman -Qi "+p.name, "pacman", func() (packageInfo, error) { return s.pacmanNative(p) })
}

// query asks a package manager that prints "Name : value" lines, and native
// where nothing can be run. Where there is none, nothing can be said of
// packages.
func (s *Set) query(cmd, tool string, native func() (packageInfo, error)) (packageInfo, error) {
	out, err := s.t.Run(s.in.Context(), cmd)
	if errors.Is(err, target.ErrNoCommands) {
		return native()
	}
	if err != nil {
		return packageInfo{}, s.problem(err)
	}
	if out.ExitStatus == 127 {
		return packageInfo{}, s.fail("the target has no %s program, which is needed to look up packages", tool)
	}
	text := strings.TrimSuffix(string(out.Stdout), "\n")
	if out.ExitStatus != 0 || text == "" {
		return packageInfo{}, nil
	}
	f := pairs(text)
	first := func(value, mark string) string {
		if strings.Contains(value, mark) {
			value, _, _ = strings.Cut(value, " ")
		}
		return value
	}
	info := packageInfo{name: f["Name"], installed: true, version: f["Version"]}
	if tool == "rpm" {
		info.version = first(f["Version"], "Vendor:") + "-" + first(f["Release"], "Build Date:")
	}
	return info, nil
}
