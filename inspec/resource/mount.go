package resource

import (
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

type mountRes struct{ path string }

type fstabRes struct{ rows []*ruby.Hash }

func defineMount(s *Set) {
	k := s.define("mount", "Mount", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		path, _ := argString(c, 0)
		return &mountRes{path}, nil
	})
	text(k, func(m *mountRes) string { return "Mount " + m.path }, func(m *mountRes) string { return m.path })
	def(k, "mounted?", func(c *ruby.Call, m *mountRes) (ruby.Value, error) {
		list, err := s.mountsOn(m.path)
		return len(list) > 0, err
	})
	def(k, "count", func(c *ruby.Call, m *mountRes) (ruby.Value, error) {
		list, err := s.mountsOn(m.path)
		return int64(len(list)), err
	})
	get := func(name string, of func(e mountEntry) ruby.Value) {
		def(k, name, func(c *ruby.Call, m *mountRes) (ruby.Value, error) {
			list, err := s.mountsOn(m.path)
			if err != nil || len(list) == 0 {
				return nil, err
			}
			return of(list[len(list)-1]), nil
		})
	}
	// InSpec's own way to the mount: what it asks by itself is at hand there.
	file := s.in.DefineClass(s.spec, "MountFile", s.class("file"))
	def(file, "mounted", func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
		return s.New(c, "command", []ruby.Value{str("mount | grep -- ' on " + f.path + " '")})
	})
	def(k, "file", func(_ *ruby.Call, m *mountRes) (ruby.Value, error) {
		return s.in.NewObject(file, &fileRes{s, m.path}), nil
	})
	get("device", func(e mountEntry) ruby.Value { return str(e.device) })
	get("type", func(e mountEntry) ruby.Value { return str(e.kind) })
	get("options", func(e mountEntry) ruby.Value { return ruby.Strings(e.options) })
	k.DefMissing(func(c *ruby.Call, name string) (ruby.Value, error) { return nil, nil }, nil)

	fstab := s.define("etc_fstab", "EtcFstab", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		path := "/etc/fstab"
		if given, ok := argString(c, 0); ok {
			path = given
		}
		text, err := s.readFile(path, false)
		if err != nil {
			return nil, err
		}
		d := &fstabRes{}
		for _, e := range parseFstab(text) {
			d.rows = append(d.rows, ruby.NewHash(
				str("device_name"), str(e.device), str("mount_point"), str(e.mountPoint), str("file_system_type"), str(e.kind),
				str("mount_options"), ruby.Strings(e.options), str("dump_options"), e.dump, str("file_system_options"), e.pass))
		}
		return d, nil
	})
	fixed(fstab, "File System Table File (fstab)")
	cols := textColumns("device_name", "device_name", "mount_point", "mount_point", "file_system_type", "file_system_type",
		"mount_options", "mount_options", "dump_options", "dump_options", "file_system_options", "file_system_options")
	cols = append(cols, column{name: "configured?", native: func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) { return len(r.data) > 0, nil }})
	filterTable(s, fstab, cols, func(d *fstabRes) ([]*ruby.Hash, error) { return d.rows, nil })
	def(fstab, "params", func(c *ruby.Call, d *fstabRes) (ruby.Value, error) { return hashList(d.rows), nil })
	def(fstab, "home_mount_options", func(c *ruby.Call, d *fstabRes) (ruby.Value, error) {
		for _, r := range d.rows {
			if v, _ := r.Get(str("mount_point")); c.In.Equal(v, str("/home")) {
				o, _ := r.Get(str("mount_options"))
				return o, nil
			}
		}
		return nil, nil
	})
	def(fstab, "nfs_file_systems", func(c *ruby.Call, d *fstabRes) (ruby.Value, error) {
		re, err := c.In.Call(c.In.Class("Regexp"), "new", []ruby.Value{str("nfs")}, nil)
		if err != nil {
			return nil, err
		}
		return c.In.Call(c.Self, "where", []ruby.Value{ruby.NewHash(str("file_system_type"), re)}, nil)
	})
	defineFilesystem(s)
}

// mountsOn lists what is mounted on path, by mount(8), or by the kernel's file
// where the target has no mount.
func (s *Set) mountsOn(path string) ([]mountEntry, error) {
	out, err := s.run("mount")
	if err != nil {
		return nil, err
	}
	parse, text := parseMount, string(out.Stdout)
	if out.ExitStatus != 0 {
		var ok bool
		if text, ok, err = s.readOptional("/proc/mounts"); err != nil || !ok {
			if err == nil {
				err = s.fail("the target has neither mount nor /proc/mounts, so its mounts can't be listed")
			}
			return nil, err
		}
		parse = parseProcMount
	}
	var list []mountEntry
	for _, line := range lines(text) {
		if e, ok := parse(line); ok && e.path == path {
			list = append(list, e)
		}
	}
	return list, nil
}

// filesystemRes is what df says of a path.
type filesystemRes struct {
	path, kind string
	size, free int64
}

func defineFilesystem(s *Set) {
	k := s.define("filesystem", "FileSystemResource", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		path, _ := argString(c, 0)
		out, err := s.run("df %s -PT", path)
		if err != nil {
			return nil, err
		}
		if out.ExitStatus != 0 {
			return nil, s.skip("Unable to get available space for partition %s", path)
		}
		list := lines(string(out.Stdout))
		w := strings.Fields(list[len(list)-1])
		if len(list) < 2 || len(w) < 7 {
			return nil, s.skip("Unable to get available space for partition %s", path)
		}
		return &filesystemRes{path: path, kind: w[1], size: leadingInt(w[2]), free: leadingInt(w[4])}, nil
	})
	text(k, func(f *filesystemRes) string {
		if f == nil {
			return "FileSystem"
		}
		return "FileSystem " + f.path
	}, nil)
	def(k, "size_kb", func(c *ruby.Call, f *filesystemRes) (ruby.Value, error) { return f.size, nil })
	def(k, "size", func(c *ruby.Call, f *filesystemRes) (ruby.Value, error) { return f.size, nil })
	def(k, "free_kb", func(c *ruby.Call, f *filesystemRes) (ruby.Value, error) { return f.free, nil })
	def(k, "percent_free", func(c *ruby.Call, f *filesystemRes) (ruby.Value, error) { return 100 * f.free / max(f.size, 1), nil })
	def(k, "type", func(c *ruby.Call, f *filesystemRes) (ruby.Value, error) { return str(f.kind), nil })
	def(k, "name", func(c *ruby.Call, f *filesystemRes) (ruby.Value, error) { return str(f.path), nil })
}
