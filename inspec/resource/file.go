package resource

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// maxFile bounds a file that a profile reads.
const maxFile = 32 << 20

// fileRes is one file; path is as the profile wrote it.
type fileRes struct {
	s    *Set
	path string
}

func defineFile(s *Set) {
	file := s.define("file", "FileResource", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		name, _ := argString(c, 0)
		return &fileRes{s, name}, nil
	})
	text(file, func(f *fileRes) string { return "File " + f.path }, func(f *fileRes) string { return f.path })
	defineFileMethods(s, file)
	dir := s.define("directory", "Directory", file, nil)
	text(dir, func(f *fileRes) string { return "Directory " + f.path }, func(f *fileRes) string { return f.path })
	def(dir, "exist?", func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
		info, ok, err := f.stat(true)
		return ok && info.Type == target.Directory, err
	})
}

// full is the path from the root; InSpec's own is relative to where it runs,
// which in a target is the root.
func (f *fileRes) full() string {
	if strings.HasPrefix(f.path, "/") {
		return f.path
	}
	return "/" + f.path
}

// stat says whether the file is there. What can't be looked at is an error.
func (f *fileRes) stat(follow bool) (target.FileInfo, bool, error) {
	if f.path == "" {
		return target.FileInfo{}, false, nil
	}
	info, err := f.s.t.Stat(f.s.in.Context(), f.full(), follow)
	switch {
	case err == nil:
		return info, true, nil
	case errors.Is(err, fs.ErrNotExist):
		return target.FileInfo{}, false, nil
	}
	return target.FileInfo{}, false, f.s.problem(err)
}

// content returns the bytes of the file; ok is false when there is nothing to
// read: no file, or a directory.
func (f *fileRes) content() (data []byte, ok bool, err error) {
	if f.path == "" {
		return nil, false, nil
	}
	data, err = f.s.t.ReadFile(f.s.in.Context(), f.full(), maxFile)
	switch {
	case err == nil:
		return data, true, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.EISDIR):
		return nil, false, nil
	}
	if info, there, statErr := f.stat(true); statErr == nil && there && info.Type == target.CharacterDevice && f.full() == "/dev/null" {
		return nil, true, nil
	}
	return nil, false, f.s.problem(err)
}

// readFile is InSpec's FileReader: a resource that needs the content of a file
// is skipped when there is none.
func (s *Set) readFile(name string, allowEmpty bool) (string, error) {
	f := &fileRes{s, name}
	// Asked before it is known whether there is a file, for so both questions
	// are on their way together where the profile is evaluated ahead.
	data, readable, readErr := f.content()
	info, ok, err := f.stat(true)
	if err != nil {
		return "", err
	}
	if !ok || info.Type != target.File {
		return "", s.skip("Can't find file: %s", name)
	}
	ok, err = readable, readErr
	switch {
	case err != nil:
		return "", err
	case !ok:
		return "", s.skip("Can't read file: %s", name)
	case len(data) == 0 && !allowEmpty:
		return "", s.skip("File is empty: %s", name)
	}
	return s.text(data), nil
}

// text is data, which the target answered. It is one text in the whole run: a
// profile may ask for the same file in each of its controls.
func (s *Set) text(data []byte) string {
	if len(data) == 0 || len(data) > maxText {
		return string(data)
	}
	t, known := s.texts[&data[0]]
	if !known || len(t) != len(data) {
		t = string(data)
		s.texts[&data[0]] = t
	}
	return t
}

// maxText is the size of a text that is kept for the next one who asks.
const maxText = 1 << 20

// readOptional returns the content of a file, empty when there is none.
func (s *Set) readOptional(name string) (string, bool, error) {
	data, ok, err := (&fileRes{s, name}).content()
	return s.text(data), ok, err
}

// real is the path behind all links, as readlink -f prints it; empty for a
// loop.
func (f *fileRes) real() (string, error) {
	out, ok, err := f.s.stdout("readlink -f -n %s", target.Quote(f.full()))
	if err == nil && ok {
		return out, nil
	}
	pending, cur, links := strings.Split(f.full(), "/"), "/", 0
	for len(pending) > 0 {
		elem := pending[0]
		pending = pending[1:]
		next := path.Join(cur, elem)
		link, err := f.s.t.Readlink(f.s.in.Context(), next)
		if err != nil || elem == "" || elem == "." || elem == ".." {
			cur = next
			continue
		}
		if links++; links > 40 {
			return "", nil
		}
		if strings.HasPrefix(link, "/") {
			cur = "/"
		}
		pending = append(strings.Split(link, "/"), pending...)
	}
	return cur, nil
}

func (f *fileRes) isLink() (bool, error) {
	info, ok, err := f.stat(false)
	return ok && info.Type == target.Symlink, err
}

func defineFileMethods(s *Set, k *ruby.Class) {
	def(k, "exist?", func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
		_, ok, err := f.stat(true)
		return ok, err
	})
	property := func(name string, get func(target.FileInfo) ruby.Value) {
		def(k, name, func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
			info, ok, err := f.stat(true)
			if err != nil || !ok {
				return nil, err
			}
			return get(info), nil
		})
	}
	property("type", func(i target.FileInfo) ruby.Value { return ruby.Symbol(i.Type) })
	property("mode", func(i target.FileInfo) ruby.Value { return int64(i.Mode) })
	property("size", func(i target.FileInfo) ruby.Value { return i.Size })
	property("uid", func(i target.FileInfo) ruby.Value { return int64(i.UID) })
	property("gid", func(i target.FileInfo) ruby.Value { return int64(i.GID) })
	property("owner", func(i target.FileInfo) ruby.Value { return str(i.Owner) })
	property("group", func(i target.FileInfo) ruby.Value { return str(i.Group) })
	property("mtime", func(i target.FileInfo) ruby.Value { return i.ModTime.Unix() })
	for _, name := range []string{"selinux_label", "product_version", "file_version"} {
		property(name, func(target.FileInfo) ruby.Value { return nil })
	}
	for name, kind := range map[string]target.FileType{
		"file?": target.File, "directory?": target.Directory, "block_device?": target.BlockDevice,
		"character_device?": target.CharacterDevice, "socket?": target.Socket, "pipe?": target.Pipe,
	} {
		def(k, name, func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
			info, ok, err := f.stat(true)
			return ok && info.Type == kind, err
		})
	}
	def(k, "symlink?", func(c *ruby.Call, f *fileRes) (ruby.Value, error) { return f.isLink() })
	for name, of := range map[string]string{"mode?": "mode", "owned_by?": "owner", "grouped_into?": "group", "linked_to?": "link_path", "version?": "product_version"} {
		k.DefN(name, 1, 1, func(c *ruby.Call) (ruby.Value, error) {
			v, err := c.In.Call(c.Self, of, nil, nil)
			return err == nil && c.In.Equal(v, c.Args[0]), err
		})
	}
	for name, bit := range map[string]uint32{"suid": 0o4000, "setuid?": 0o4000, "sgid": 0o2000, "setgid?": 0o2000, "sticky": 0o1000, "sticky?": 0o1000} {
		def(k, name, func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
			info, ok, err := f.stat(true)
			if err == nil && !ok {
				err = s.in.Raise(s.in.Class("NoMethodError"), "undefined method `&' for nil:NilClass")
			}
			return info.Mode&bit != 0, err
		})
	}
	def(k, "content", func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
		data, ok, err := f.content()
		if err != nil || !ok {
			return nil, err
		}
		return str(s.text(data)), nil
	})
	def(k, "link_path", func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
		if link, err := f.isLink(); err != nil || !link {
			return nil, err
		}
		p, err := f.real()
		return str(p), err
	})
	def(k, "shallow_link_path", func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
		if link, err := f.isLink(); err != nil || !link {
			return nil, err
		}
		p, err := s.t.Readlink(s.in.Context(), f.full())
		if err != nil {
			return nil, s.problem(err)
		}
		return str(p), nil
	})
	def(k, "path", func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
		link, err := f.isLink()
		if err != nil || !link {
			return str(f.path), err
		}
		p, err := f.real()
		return str(p), err
	})
	def(k, "source_path", func(c *ruby.Call, f *fileRes) (ruby.Value, error) { return str(f.path), nil })
	def(k, "basename", func(c *ruby.Call, f *fileRes) (ruby.Value, error) { return str(path.Base(f.path)), nil })
	sum := func(name string, of func([]byte) string) {
		def(k, name, func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
			data, ok, err := f.content()
			if err != nil || !ok {
				return nil, err
			}
			return str(of(data)), nil
		})
	}
	sum("md5sum", func(b []byte) string { h := md5.Sum(b); return hex.EncodeToString(h[:]) })
	sum("sha256sum", func(b []byte) string { h := sha256.Sum256(b); return hex.EncodeToString(h[:]) })
	for name, access := range map[string]string{"readable?": "read", "writable?": "write", "executable?": "execute"} {
		def(k, name, func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
			by, _ := argString(c, 0)
			user, named := argString(c, 1)
			return f.allowed(access, by, user, named)
		})
	}
	def(k, "allowed?", func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
		access, _ := argString(c, 0)
		opt := func(name string) (string, bool) {
			v, _ := options(c).GetSym(name)
			if v == nil {
				return "", false
			}
			return c.In.ToS(v), true
		}
		by, _ := opt("by")
		user, named := opt("by_user")
		return f.allowed(access, by, user, named)
	})
	def(k, "more_permissive_than?", morePermissive)
	def(k, "immutable?", func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
		out, ok, err := s.stdout("lsattr -d %s", target.Quote(f.full()))
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, s.fail("Executing lsattr %s failed", f.path)
		}
		return len(out) > 4 && out[4] == 'i', nil
	})
	def(k, "mounted?", func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
		list, err := s.mountsOn(f.path)
		return len(list) > 0, err
	})
	def(k, "contain", func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
		return nil, s.in.Raise(s.in.Class("RuntimeError"), "Contain is not supported. Please use standard RSpec matchers.")
	})
}

var fileMode = regexp.MustCompile(`(0)?([0-7])([0-7])([0-7])`)

func morePermissive(c *ruby.Call, f *fileRes) (ruby.Value, error) {
	info, ok, err := f.stat(true)
	if err != nil || !ok {
		return nil, err
	}
	if c.Arg(0) == nil {
		return nil, f.s.argumentError("You must provide a value for the `maximum allowable permission` for the file.")
	}
	limit, isText := c.Args[0].(*ruby.String)
	if !isText {
		class, _ := c.In.Call(c.Args[0], "class", nil, nil)
		return nil, f.s.argumentError("You must provide the `maximum permission target` as a `String`, you provided: %s", c.In.ToS(class))
	}
	if !fileMode.MatchString(limit.String()) {
		return nil, f.s.argumentError("The value of the `maximum permission target` should be a valid file mode in 4-digit octal format: for example, `0644` or `0777`")
	}
	n, err := strconv.ParseUint(limit.String(), 8, 32)
	if err != nil {
		return nil, f.s.argumentError("The value of the `maximum permission target` should be a valid file mode in 4-digit octal format: for example, `0644` or `0777`")
	}
	return (0o777^uint32(n))&info.Mode != 0, nil
}

// allowed says whether the mode allows an access to the owner, the group or
// others, or with no by to any of them; or whether a user, who is tried, may.
func (f *fileRes) allowed(access, by, user string, named bool) (ruby.Value, error) {
	s := f.s
	info, ok, err := f.stat(true)
	if err != nil || !ok {
		return false, err
	}
	flags := map[string]struct {
		letter string
		bits   uint32
	}{"read": {"r", 0o444}, "write": {"w", 0o222}, "execute": {"x", 0o111}}
	flag, ok := flags[access]
	if !ok {
		return nil, s.in.Raise(s.in.Class("RuntimeError"), "Invalid access_type provided")
	}
	if user != "" {
		out, err := s.run("su -s /bin/sh -c %s %s", target.Quote("test -"+flag.letter+" "+target.Quote(f.path)), target.Quote(user))
		if err != nil {
			return nil, err
		}
		if out.ExitStatus == 127 {
			return nil, s.fail("the target has no su program, which is needed to try what user %s may do", user)
		}
		return out.ExitStatus == 0, nil
	}
	masks := map[string]uint32{"owner": 0o700, "group": 0o070, "other": 0o007, "others": 0o007, "all": 0o777}
	mask, ok := masks[by]
	if by == "" && !named {
		mask, ok = 0o777, true
	}
	if !ok {
		return nil, s.in.Raise(s.in.Class("RuntimeError"), "Invalid usergroup/owner provided")
	}
	return info.Mode&mask&flag.bits != 0, nil
}
