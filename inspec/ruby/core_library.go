package ruby

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// pathname is the payload of a Pathname.
type pathname string

func (p pathname) hashKey() string { return string(p) }

type ipaddr struct{ p netip.Prefix }

func (p ipaddr) hashKey() string { return p.p.String() }

type version struct{ s string }

func (v version) hashKey() string { return v.s }

// fileBasename, fileDirname and fileExtname are those of Ruby's File.
func fileBasename(s, suffix string) string {
	if s == "" {
		return ""
	}
	b := path.Base(s)
	switch {
	case suffix == ".*":
		b = strings.TrimSuffix(b, fileExtname(b))
	case b != suffix:
		b = strings.TrimSuffix(b, suffix)
	}
	return b
}

func fileDirname(s string) string {
	t := strings.TrimRight(s, "/")
	i := strings.LastIndexByte(t, '/')
	switch {
	case t == "" && s != "":
		return "/"
	case i < 0:
		return "."
	case strings.TrimRight(t[:i], "/") == "":
		return "/"
	}
	return strings.TrimRight(t[:i], "/")
}

func fileExtname(s string) string {
	b := path.Base(s)
	i := strings.LastIndexByte(b, '.')
	if i <= 0 || i == len(b)-1 || strings.Trim(b[:i], ".") == "" {
		return ""
	}
	return b[i:]
}

func fileJoin(parts []string) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			had := strings.HasSuffix(b.String(), "/")
			switch {
			case had:
				p = strings.TrimLeft(p, "/")
			case !strings.HasPrefix(p, "/"):
				p = "/" + p
			}
		}
		b.WriteString(p)
	}
	return b.String()
}

func expandPath(s, dir string) string {
	if !strings.HasPrefix(s, "/") {
		s = dir + "/" + s
	}
	return path.Clean("/" + s)
}

func (in *Interp) bootLibrary() {
	in.bootFile()
	in.bootIPAddr()
	in.bootVersion()
	in.bootData()
	in.bootMash()
	in.bootPreludes()
	in.bootREXML()
	in.bootShellwords()
	in.bootURI()
}

func (in *Interp) bootFile() {
	f := in.DefineClass(nil, "File", in.Class("IO"))
	f.SetConst("SEPARATOR", NewString("/"))
	m := in.singletonClass(f)
	pure := func(name string, least, most int, fn func(c *Call, s string) (Value, error)) {
		m.DefN(name, least, most, func(c *Call) (Value, error) {
			s, err := c.strArg(0)
			if err != nil {
				return nil, err
			}
			return fn(c, s)
		})
	}
	m.Def("join", func(c *Call) (Value, error) {
		var flat []Value
		if err := c.In.flatten(c.Args, -1, &flat); err != nil {
			return nil, err
		}
		var parts []string
		for _, v := range flat {
			s, err := c.In.str(v)
			if err != nil {
				return nil, err
			}
			if err := c.In.charge(len(s)); err != nil {
				return nil, err
			}
			parts = append(parts, s)
		}
		return NewString(fileJoin(parts)), nil
	})
	pure("basename", 1, 2, func(c *Call, s string) (Value, error) {
		suffix := ""
		if len(c.Args) > 1 {
			var err error
			if suffix, err = c.strArg(1); err != nil {
				return nil, err
			}
		}
		return NewString(fileBasename(s, suffix)), nil
	})
	pure("dirname", 1, 1, func(c *Call, s string) (Value, error) { return NewString(fileDirname(s)), nil })
	pure("extname", 1, 1, func(c *Call, s string) (Value, error) { return NewString(fileExtname(s)), nil })
	pure("split", 1, 1, func(c *Call, s string) (Value, error) {
		return NewArray(NewString(fileDirname(s)), NewString(fileBasename(s, ""))), nil
	})
	pure("expand_path", 1, 2, func(c *Call, s string) (Value, error) {
		dir := "/"
		if len(c.Args) > 1 {
			var err error
			if dir, err = c.strArg(1); err != nil {
				return nil, err
			}
		}
		return NewString(expandPath(s, dir)), nil
	})
	pure("absolute_path?", 1, 1, func(c *Call, s string) (Value, error) { return strings.HasPrefix(s, "/"), nil })
	for i, n := range []string{"FNM_NOESCAPE", "FNM_PATHNAME", "FNM_DOTMATCH", "FNM_CASEFOLD", "FNM_EXTGLOB"} {
		f.SetConst(n, int64(1<<i))
	}
	pure("fnmatch", 2, 3, func(c *Call, s string) (Value, error) {
		name, err := c.strArg(1)
		if err != nil {
			return nil, err
		}
		flags, err := c.intArg(2, 0)
		if err != nil {
			return nil, err
		}
		return c.In.fnmatch(s, name, flags)
	})
	m.alias("fnmatch", "fnmatch?")
	// The host's files don't exist to a profile: asking whether one is there
	// is answered no, so that guards take their other branch; reading one is
	// refused.
	dir := in.singletonClass(in.DefineClass(nil, "Dir", nil))
	for _, n := range []string{"exist?", "file?", "directory?", "readable?", "symlink?", "executable?", "writable?", "zero?"} {
		pure(n, 1, 1, func(c *Call, s string) (Value, error) { return false, nil })
		dir.DefN(n, 1, 1, func(c *Call) (Value, error) { return false, nil })
	}
	refuse := func(c *Call) (Value, error) {
		return nil, c.In.Raise(c.In.eSecurity, "%s.%s is not available to a profile; use the file resource", c.In.className(c.Self.(*Class)), c.Name)
	}
	for _, n := range []string{"read", "open", "readlines", "write", "foreach", "new", "stat", "lstat", "delete", "rename", "chmod", "readlink", "size", "mtime", "binread", "unlink"} {
		m.Def(n, refuse)
	}
	for _, n := range []string{"glob", "entries", "[]", "children", "mkdir", "pwd", "home", "chdir", "tmpdir", "each_child", "foreach", "open"} {
		dir.Def(n, refuse)
	}

	in.cPathname = in.DefineClass(nil, "Pathname", nil)
	p := in.cPathname
	p.Include(in.cComparable)
	self := func(c *Call) string { s, _ := c.Self.(*Object).Data.(pathname); return string(s) }
	wrap := func(s string) Value { return &Object{Class: p, Data: pathname(s)} }
	p.DefN("initialize", 1, 1, func(c *Call) (Value, error) {
		s, err := c.strArg(0)
		c.Self.(*Object).Data = pathname(s)
		return nil, err
	})
	in.DefKernel("Pathname", func(c *Call) (Value, error) { return c.In.Call(p, "new", c.Args, nil) })
	join := func(c *Call) (Value, error) {
		s := self(c)
		for i := range c.Args {
			t, err := c.strArg(i)
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(t, "/") {
				s = t
			} else {
				s = path.Join(s, t)
			}
		}
		return wrap(s), nil
	}
	p.Def("join", join)
	p.DefN("+", 1, 1, join)
	p.DefN("/", 1, 1, join)
	text := func(name string, fn func(string) Value) {
		p.DefN(name, 0, 1, func(c *Call) (Value, error) { return fn(self(c)), nil })
	}
	for _, n := range []string{"to_s", "to_str", "to_path"} {
		text(n, func(s string) Value { return NewString(s) })
	}
	text("inspect", func(s string) Value { return NewString("#<Pathname:" + s + ">") })
	p.DefN("basename", 0, 1, func(c *Call) (Value, error) {
		suffix := ""
		if len(c.Args) > 0 {
			var err error
			if suffix, err = c.strArg(0); err != nil {
				return nil, err
			}
		}
		return wrap(fileBasename(self(c), suffix)), nil
	})
	p.DefN("relative_path_from", 1, 1, func(c *Call) (Value, error) {
		base, err := c.In.toS(c.Args[0])
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(base, self(c))
		if err != nil {
			return nil, c.In.Raise(c.In.eArgument, "different prefix: %q and %q", self(c), base)
		}
		return wrap(rel), nil
	})
	// above lists the path and those above it, the longest first.
	above := func(s string) []Value {
		list := []Value{wrap(s)}
		for s = path.Clean(s); s != "/" && strings.Contains(s, "/"); {
			s = fileDirname(s)
			list = append(list, wrap(s))
		}
		return list
	}
	for _, n := range []string{"ascend", "descend"} {
		p.DefN(n, 0, 0, func(c *Call) (Value, error) {
			list := above(self(c))
			if n == "descend" {
				slices.Reverse(list)
			}
			return c.In.send(c.fr, NewArray(list...), "each", nil, c.Block, false)
		})
	}
	p.DefN("sub", 1, 2, func(c *Call) (Value, error) {
		v, err := c.In.send(c.fr, NewString(self(c)), "sub", c.Args, c.Block, false)
		if err != nil {
			return nil, err
		}
		return wrap(c.In.ToS(v)), nil
	})
	p.DefN("sub_ext", 1, 1, func(c *Call) (Value, error) {
		ext, err := c.strArg(0)
		return wrap(strings.TrimSuffix(self(c), fileExtname(self(c))) + ext), err
	})
	text("dirname", func(s string) Value { return wrap(fileDirname(s)) })
	text("parent", func(s string) Value { return wrap(fileDirname(s)) })
	text("extname", func(s string) Value { return NewString(fileExtname(s)) })
	text("cleanpath", func(s string) Value { return wrap(path.Clean(s)) })
	text("absolute?", func(s string) Value { return strings.HasPrefix(s, "/") })
	text("relative?", func(s string) Value { return !strings.HasPrefix(s, "/") })
	text("root?", func(s string) Value { return s == "/" })
	text("each_filename", func(s string) Value { return Strings(strings.FieldsFunc(s, func(r rune) bool { return r == '/' })) })
	for _, n := range []string{"exist?", "file?", "directory?"} {
		text(n, func(string) Value { return false })
	}
	p.DefN("<=>", 1, 1, func(c *Call) (Value, error) {
		if o, ok := c.Args[0].(*Object); ok {
			if q, ok := o.Data.(pathname); ok {
				return int64(strings.Compare(self(c), string(q))), nil
			}
		}
		return nil, nil
	})
}

func (in *Interp) bootIPAddr() {
	in.cIPAddr = in.DefineClass(nil, "IPAddr", nil)
	k := in.cIPAddr
	k.Include(in.cComparable)
	e := in.DefineClass(k, "Error", in.eArgument)
	for _, n := range []string{"InvalidAddressError", "AddressFamilyError", "InvalidPrefixError"} {
		in.DefineClass(k, n, e)
	}
	parse := func(s string) (ipaddr, error) {
		addr, mask, has := strings.Cut(strings.Trim(s, "[]"), "/")
		a, err := netip.ParseAddr(addr)
		if err != nil {
			return ipaddr{}, in.Raise(in.Class("IPAddr::InvalidAddressError"), "invalid address: %s", addr)
		}
		n := a.BitLen()
		if has {
			if m, merr := netip.ParseAddr(mask); merr == nil {
				n = 0
				for _, b := range m.AsSlice() {
					for ; b&0x80 != 0; b <<= 1 {
						n++
					}
				}
			} else if n, err = strconv.Atoi(mask); err != nil || n < 0 || n > a.BitLen() {
				return ipaddr{}, in.Raise(in.Class("IPAddr::InvalidPrefixError"), "invalid length: %s", s)
			}
		}
		p, _ := a.Prefix(n)
		return ipaddr{p}, nil
	}
	of := func(v Value) (ipaddr, error) {
		switch v := v.(type) {
		case *Object:
			if p, ok := v.Data.(ipaddr); ok {
				return p, nil
			}
		case *String:
			return parse(v.s)
		}
		return ipaddr{}, in.noConversion(v, "IPAddr")
	}
	self := func(c *Call) netip.Prefix { p, _ := c.Self.(*Object).Data.(ipaddr); return p.p }
	k.DefN("initialize", 0, 2, func(c *Call) (Value, error) {
		s := "::"
		if b := bigOf(c.Arg(0)); b != nil {
			raw := make([]byte, 16)
			switch c.Arg(1) {
			case int64(2):
				raw = raw[:4]
			case int64(10):
			default:
				return nil, c.In.Raise(c.In.Class("IPAddr::AddressFamilyError"), "%s", "unsupported address family: "+c.In.ToS(c.Arg(1)))
			}
			if b.Sign() < 0 || b.BitLen() > 8*len(raw) {
				return nil, c.In.Raise(c.In.Class("IPAddr::InvalidAddressError"), "%s", "invalid address: "+b.String())
			}
			a, _ := netip.AddrFromSlice(b.FillBytes(raw))
			c.Self.(*Object).Data = ipaddr{netip.PrefixFrom(a, a.BitLen())}
			return nil, nil
		}
		if len(c.Args) > 0 {
			var err error
			if s, err = c.strArg(0); err != nil {
				return nil, err
			}
		}
		p, err := parse(s)
		c.Self.(*Object).Data = p
		return nil, err
	})
	k.DefN("include?", 1, 1, func(c *Call) (Value, error) {
		o, err := of(c.Args[0])
		if err != nil {
			return nil, err
		}
		return self(c).Contains(o.p.Addr()) && o.p.Bits() >= self(c).Bits(), nil
	})
	k.alias("include?", "===", "member?")
	k.DefN("ipv4?", 0, 0, func(c *Call) (Value, error) { return self(c).Addr().Is4(), nil })
	k.DefN("ipv6?", 0, 0, func(c *Call) (Value, error) { return self(c).Addr().Is6(), nil })
	k.DefN("loopback?", 0, 0, func(c *Call) (Value, error) { return self(c).Addr().IsLoopback(), nil })
	k.DefN("private?", 0, 0, func(c *Call) (Value, error) { return self(c).Addr().IsPrivate(), nil })
	k.DefN("link_local?", 0, 0, func(c *Call) (Value, error) { return self(c).Addr().IsLinkLocalUnicast(), nil })
	k.DefN("prefix", 0, 0, func(c *Call) (Value, error) { return int64(self(c).Bits()), nil })
	k.DefN("to_s", 0, 0, func(c *Call) (Value, error) { return NewString(self(c).Addr().String()), nil })
	k.DefN("to_i", 0, 0, func(c *Call) (Value, error) {
		return normBig(new(big.Int).SetBytes(self(c).Addr().AsSlice())), nil
	})
	k.DefN("mask", 1, 1, func(c *Call) (Value, error) {
		p, err := parse(self(c).Addr().String() + "/" + c.In.ToS(c.Args[0]))
		return &Object{Class: k, Data: p}, err
	})
	whole := func(a netip.Addr) Value { return &Object{Class: k, Data: ipaddr{netip.PrefixFrom(a, a.BitLen())}} }
	// like is an address with the mask of another.
	like := func(p netip.Prefix, a netip.Addr) Value {
		return &Object{Class: k, Data: ipaddr{netip.PrefixFrom(a, p.Bits())}}
	}
	// bits combines the addresses byte by byte.
	bits := func(a netip.Addr, fn func(i int, b byte) byte) netip.Addr {
		raw := a.AsSlice()
		for i, b := range raw {
			raw[i] = fn(i, b)
		}
		out, _ := netip.AddrFromSlice(raw)
		return out
	}
	netmask := func(p netip.Prefix) netip.Addr {
		return bits(p.Addr(), func(i int, _ byte) byte { return ^byte(0xff >> uint(max(min(p.Bits()-8*i, 8), 0))) })
	}
	// operand is the address in the first argument, which may be a number.
	operand := func(c *Call) ([]byte, error) {
		raw := make([]byte, self(c).Addr().BitLen()/8)
		if b := bigOf(c.Args[0]); b != nil {
			if b.Sign() < 0 || b.BitLen() > 8*len(raw) {
				return nil, c.In.Raise(c.In.Class("IPAddr::InvalidAddressError"), "invalid address: %s", c.In.ToS(c.Args[0]))
			}
			return b.FillBytes(raw), nil
		}
		o, err := of(c.Args[0])
		if err != nil {
			return nil, err
		}
		if o.p.Addr().BitLen() != self(c).Addr().BitLen() {
			return nil, c.In.Raise(c.In.Class("IPAddr::AddressFamilyError"), "address family is different")
		}
		return o.p.Addr().AsSlice(), nil
	}
	combine := func(fn func(a, b byte) byte) native {
		return func(c *Call) (Value, error) {
			o, err := operand(c)
			if err != nil {
				return nil, err
			}
			return like(self(c), bits(self(c).Addr(), func(i int, b byte) byte { return fn(b, o[i]) })), nil
		}
	}
	k.DefN("&", 1, 1, combine(func(a, b byte) byte { return a & b }))
	k.DefN("|", 1, 1, combine(func(a, b byte) byte { return a | b }))
	k.DefN("~", 0, 0, func(c *Call) (Value, error) {
		return like(self(c), bits(self(c).Addr(), func(_ int, b byte) byte { return ^b })), nil
	})
	k.DefN("succ", 0, 0, func(c *Call) (Value, error) {
		next := self(c).Addr().Next()
		if !next.IsValid() {
			return nil, c.In.Raise(c.In.Class("IPAddr::InvalidAddressError"), "invalid address: %s", self(c).Addr())
		}
		return like(self(c), next), nil
	})
	k.DefN("to_range", 0, 0, func(c *Call) (Value, error) {
		mask := netmask(self(c)).AsSlice()
		last := bits(self(c).Addr(), func(i int, b byte) byte { return b | ^mask[i] })
		return &Range{Lo: whole(self(c).Addr()), Hi: whole(last)}, nil
	})
	k.DefN("netmask", 0, 0, func(c *Call) (Value, error) { return NewString(netmask(self(c)).StringExpanded()), nil })
	k.DefN("to_string", 0, 0, func(c *Call) (Value, error) { return NewString(self(c).Addr().StringExpanded()), nil })
	k.DefN("hton", 0, 0, func(c *Call) (Value, error) { return NewString(string(self(c).Addr().AsSlice())), nil })
	k.DefN("family", 0, 0, func(c *Call) (Value, error) {
		if self(c).Addr().Is4() {
			return int64(2), nil
		}
		return int64(10), nil
	})
	k.DefN("native", 0, 0, func(c *Call) (Value, error) {
		if a := self(c).Addr(); a.Is4In6() {
			return whole(a.Unmap()), nil
		}
		return c.Self, nil
	})
	k.DefN("ipv4_mapped", 0, 0, func(c *Call) (Value, error) {
		a := self(c).Addr()
		if !a.Is4() {
			return nil, c.In.Raise(c.In.Class("IPAddr::InvalidAddressError"), "%s", "not an IPv4 address: "+a.String())
		}
		return &Object{Class: k, Data: ipaddr{netip.PrefixFrom(netip.AddrFrom16(a.As16()), 96+self(c).Bits())}}, nil
	})
	k.DefN("ipv4_mapped?", 0, 0, func(c *Call) (Value, error) { return self(c).Addr().Is4In6(), nil })
	k.DefN("reverse", 0, 0, func(c *Call) (Value, error) {
		var b strings.Builder
		raw := self(c).Addr().AsSlice()
		for i := len(raw) - 1; i >= 0; i-- {
			if len(raw) == 4 {
				fmt.Fprintf(&b, "%d.", raw[i])
			} else {
				fmt.Fprintf(&b, "%x.%x.", raw[i]&15, raw[i]>>4)
			}
		}
		if len(raw) == 4 {
			return NewString(b.String() + "in-addr.arpa"), nil
		}
		return NewString(b.String() + "ip6.arpa"), nil
	})
	k.DefN("<=>", 1, 1, func(c *Call) (Value, error) {
		o, err := of(c.Args[0])
		if err != nil {
			return nil, nil
		}
		return int64(self(c).Addr().Compare(o.p.Addr())), nil
	})
	k.DefN("==", 1, 1, func(c *Call) (Value, error) {
		o, err := of(c.Args[0])
		return err == nil && o.p.Addr() == self(c).Addr(), nil
	})
	k.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		p := self(c)
		family := "IPv4"
		if p.Addr().Is6() {
			family = "IPv6"
		}
		return NewString("#<IPAddr: " + family + ":" + p.Addr().StringExpanded() + "/" + netmask(p).StringExpanded() + ">"), nil
	})
}

// compareVersions is Gem::Version's order: numbers by value, letters before
// numbers, missing parts zero.
func compareVersions(a, b string) int {
	x, y := versionParts(a), versionParts(b)
	for i := 0; i < max(len(x), len(y)); i++ {
		p, q := "0", "0"
		if i < len(x) {
			p = x[i]
		}
		if i < len(y) {
			q = y[i]
		}
		pd, qd := isDigit(p[0]), isDigit(q[0])
		switch {
		case pd && qd:
			p, q = strings.TrimLeft(p, "0"), strings.TrimLeft(q, "0")
			if len(p) != len(q) {
				return compareOrdered(len(p), len(q))
			}
			if n := strings.Compare(p, q); n != 0 {
				return n
			}
		case pd != qd:
			if pd {
				return 1
			}
			return -1
		default:
			if n := strings.Compare(p, q); n != 0 {
				return n
			}
		}
	}
	return 0
}

func versionParts(s string) []string {
	s = strings.ReplaceAll(s, "-", ".pre.")
	var parts []string
	for i := 0; i < len(s); {
		j := i
		switch {
		case isDigit(s[i]):
			for j < len(s) && isDigit(s[j]) {
				j++
			}
		case isIdentStart(s[i]):
			for j < len(s) && isIdentStart(s[j]) {
				j++
			}
		default:
			i++
			continue
		}
		parts = append(parts, s[i:j])
		i = j
	}
	return parts
}

func validVersion(s string) bool {
	s = strings.TrimSpace(s)
	if s == "" {
		return true
	}
	if !isDigit(s[0]) {
		return false
	}
	main, pre, dash := strings.Cut(s, "-")
	if dash && pre == "" {
		return false
	}
	for _, half := range []string{main, strings.ReplaceAll(pre, "-", ".")} {
		for _, part := range strings.Split(half, ".") {
			if part == "" && !(half == "" && !dash) {
				return false
			}
			for i := range len(part) {
				if !isDigit(part[i]) && (part[i] >= 0x80 || !isIdentStart(part[i]) || part[i] == '_') {
					return false
				}
			}
		}
	}
	return true
}

func (in *Interp) bootVersion() {
	gem := in.DefineModule(nil, "Gem")
	in.cVersion = in.DefineClass(gem, "Version", nil)
	k := in.cVersion
	k.Include(in.cComparable)
	self := func(c *Call) string { v, _ := c.Self.(*Object).Data.(version); return v.s }
	check := func(v Value) (string, error) {
		if o, ok := v.(*Object); ok {
			if d, ok := o.Data.(version); ok {
				return d.s, nil
			}
		}
		s, err := in.toS(v)
		if err != nil {
			return "", err
		}
		if !validVersion(s) || len(s) > 10000 {
			return "", in.Raise(in.eArgument, "%s", "Malformed version number string "+s)
		}
		if s = strings.TrimSpace(s); s == "" {
			s = "0"
		}
		return s, nil
	}
	k.DefN("initialize", 1, 1, func(c *Call) (Value, error) {
		s, err := check(c.Args[0])
		c.Self.(*Object).Data = version{s}
		return nil, err
	})
	in.singletonClass(k).DefN("create", 1, 1, func(c *Call) (Value, error) { return c.In.Call(c.Self, "new", c.Args, nil) })
	in.singletonClass(k).DefN("correct?", 1, 1, func(c *Call) (Value, error) { return validVersion(c.In.ToS(c.Args[0])), nil })
	k.DefN("<=>", 1, 1, func(c *Call) (Value, error) {
		if o, ok := c.Args[0].(*Object); ok {
			if v, ok := o.Data.(version); ok {
				return int64(compareVersions(self(c), v.s)), nil
			}
		}
		if s, ok := c.Args[0].(*String); ok && validVersion(s.s) {
			return int64(compareVersions(self(c), s.s)), nil
		}
		return nil, nil
	})
	k.DefN("to_s", 0, 0, func(c *Call) (Value, error) { return NewString(self(c)), nil })
	k.alias("to_s", "version")
	k.DefN("segments", 0, 0, func(c *Call) (Value, error) {
		a := &Array{}
		for _, p := range versionParts(self(c)) {
			if isDigit(p[0]) {
				a.Elems = append(a.Elems, leadingInt(p, 10))
			} else {
				a.Elems = append(a.Elems, NewString(p))
			}
		}
		return a, nil
	})
	k.DefN("prerelease?", 0, 0, func(c *Call) (Value, error) {
		for _, p := range versionParts(self(c)) {
			if !isDigit(p[0]) {
				return true, nil
			}
		}
		return false, nil
	})
	k.DefN("inspect", 0, 0, func(c *Call) (Value, error) { return NewString(`#<Gem::Version "` + self(c) + `">`), nil })
	k.DefN("release", 0, 0, func(c *Call) (Value, error) {
		p := versionParts(self(c))
		if i := slices.IndexFunc(p, func(s string) bool { return !isDigit(s[0]) }); i >= 0 {
			p = p[:i]
		}
		return &Object{Class: k, Data: version{strings.Join(p, ".")}}, nil
	})
	k.DefN("bump", 0, 0, func(c *Call) (Value, error) {
		p := versionParts(self(c))
		if i := slices.IndexFunc(p, func(s string) bool { return !isDigit(s[0]) }); i >= 0 {
			p = p[:i]
		}
		if len(p) > 1 {
			p = p[:len(p)-1]
		}
		if len(p) == 0 {
			p = []string{"0"}
		}
		last := bigOf(leadingInt(p[len(p)-1], 10))
		p = append(slices.Clone(p[:len(p)-1]), new(big.Int).Add(last, big.NewInt(1)).String())
		return &Object{Class: k, Data: version{strings.Join(p, ".")}}, nil
	})

	// Dependency.new(name, requirements).match?(name, version) and
	// Requirement.new(…).satisfied_by?(version).
	satisfied := func(reqs []Value, v string) (bool, error) {
		for _, r := range reqs {
			s, err := in.str(r)
			if err != nil {
				return false, err
			}
			op := strings.TrimSpace(s[:len(s)-len(strings.TrimLeft(s, "<>=!~ "))])
			want, err := check(NewString(strings.TrimSpace(strings.TrimLeft(s, "<>=!~ "))))
			if err != nil {
				return false, err
			}
			n := compareVersions(v, want)
			ok := false
			switch op {
			case "", "=":
				ok = n == 0
			case "!=":
				ok = n != 0
			case ">":
				ok = n > 0
			case "<":
				ok = n < 0
			case ">=":
				ok = n >= 0
			case "<=":
				ok = n <= 0
			case "~>":
				p := versionParts(want)
				if len(p) > 1 {
					p = p[:len(p)-1]
				}
				ok = n >= 0 && compareVersions(strings.Join(versionParts(v)[:min(len(p), len(versionParts(v)))], "."), strings.Join(p, ".")) == 0
			default:
				return false, in.Raise(in.eArgument, "Illformed requirement [%q]", s)
			}
			if !ok {
				return false, nil
			}
		}
		return true, nil
	}
	for _, name := range []string{"Requirement", "Dependency"} {
		k := in.DefineClass(gem, name, nil)
		k.DefN("initialize", 0, -1, func(c *Call) (Value, error) {
			args := c.Args
			if name == "Dependency" && len(args) > 0 {
				args = args[1:]
			}
			var flat []Value
			err := c.In.flatten(args, -1, &flat)
			c.Self.(*Object).Data = flat
			return nil, err
		})
		match := func(c *Call) (Value, error) {
			v, err := check(c.Args[len(c.Args)-1])
			if err != nil {
				return nil, err
			}
			reqs, _ := c.Self.(*Object).Data.([]Value)
			return satisfied(reqs, v)
		}
		k.DefN("satisfied_by?", 1, 1, match)
		k.DefN("match?", 1, 3, match)
		k.DefN("===", 1, 1, match)
		k.DefN("requirements", 0, 0, func(c *Call) (Value, error) {
			out := &Array{}
			reqs, _ := c.Self.(*Object).Data.([]Value)
			for _, r := range reqs {
				s, err := c.In.str(r)
				if err != nil {
					return nil, err
				}
				op := strings.TrimSpace(s[:len(s)-len(strings.TrimLeft(s, "<>=!~ "))])
				if op == "" {
					op = "="
				}
				v, err := c.In.Call(c.In.cVersion, "new", []Value{NewString(strings.TrimSpace(strings.TrimLeft(s, "<>=!~ ")))}, nil)
				if err != nil {
					return nil, err
				}
				out.Elems = append(out.Elems, NewArray(NewString(op), v))
			}
			return out, nil
		})
	}
}

func (in *Interp) bootData() {
	j := in.DefineModule(nil, "JSON")
	in.DefineClass(j, "NestingError", in.DefineClass(j, "ParserError", in.DefineClass(j, "JSONError", in.eStandard)))
	m := in.singletonClass(j)
	m.DefN("parse", 1, 2, func(c *Call) (Value, error) {
		s, err := c.strArg(0)
		if err != nil {
			return nil, err
		}
		var sym, nan Value
		if h, ok := c.Arg(1).(*Hash); ok {
			sym, _ = h.Get(Symbol("symbolize_names"))
			nan, _ = h.Get(Symbol("allow_nan"))
		}
		return c.In.parseJSON(s, Truthy(sym), Truthy(nan))
	})
	m.alias("parse", "load", "parse!")
	generate := func(c *Call) (Value, error) {
		var b bytes.Buffer
		if err := c.In.encodeJSON(&b, c.Args[0]); err != nil {
			return nil, err
		}
		if c.Name == "pretty_generate" {
			var p bytes.Buffer
			if err := json.Indent(&p, b.Bytes(), "", "  "); err != nil {
				return nil, err
			}
			b = p
		}
		return NewString(b.String()), nil
	}
	for _, n := range []string{"generate", "dump", "pretty_generate"} {
		m.DefN(n, 1, 3, generate)
	}
	in.cKernel.DefN("to_json", 0, -1, func(c *Call) (Value, error) {
		c.Args = []Value{c.Self}
		return generate(c)
	})

	y := in.DefineModule(nil, "Psych")
	in.cObject.SetConst("YAML", y)
	perr := in.DefineClass(y, "Exception", in.eStandard)
	in.DefineClass(y, "BadAlias", perr)
	in.DefineClass(y, "DisallowedClass", perr)
	serr := in.DefineClass(y, "SyntaxError", perr)
	ym := in.singletonClass(y)
	load := func(c *Call) (Value, error) {
		s, err := c.strArg(0)
		if err != nil {
			return nil, err
		}
		if err := c.In.charge(16 * len(s)); err != nil {
			return nil, err
		}
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(s), &doc); err != nil {
			return nil, c.In.Raise(serr, "%s", err.Error())
		}
		if len(doc.Content) == 0 {
			return nil, nil
		}
		return c.In.decodeYAML(doc.Content[0], c.Name == "unsafe_load", 0)
	}
	for _, n := range []string{"load", "safe_load", "unsafe_load"} {
		ym.DefN(n, 1, -1, load)
	}
}

func (in *Interp) encodeJSON(b *bytes.Buffer, v Value) error {
	text := func(s string) error {
		var e bytes.Buffer
		enc := json.NewEncoder(&e)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(s); err != nil {
			return err
		}
		b.Write(bytes.TrimRight(e.Bytes(), "\n"))
		return in.charge(e.Len())
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("null")
	case bool, int64, *big.Int, float64:
		b.WriteString(in.Inspect(v))
	case *String:
		return text(v.s)
	case *Array:
		return in.deeper(func() error {
			b.WriteByte('[')
			for i, e := range v.Elems {
				if i > 0 {
					b.WriteByte(',')
				}
				if err := in.encodeJSON(b, e); err != nil {
					return err
				}
			}
			b.WriteByte(']')
			return nil
		})
	case *Hash:
		return in.deeper(func() error {
			b.WriteByte('{')
			first := true
			err := v.Each(func(k, x Value) error {
				if !first {
					b.WriteByte(',')
				}
				first = false
				if err := text(in.ToS(k)); err != nil {
					return err
				}
				b.WriteByte(':')
				return in.encodeJSON(b, x)
			})
			b.WriteByte('}')
			return err
		})
	default:
		if m := in.dispatchClass(v).find("to_h"); m != nil {
			if h, err := in.Call(v, "to_h", nil, nil); err == nil {
				if h, ok := h.(*Hash); ok {
					return in.encodeJSON(b, h)
				}
			}
		}
		s, err := in.toS(v)
		if err != nil {
			return err
		}
		return text(s)
	}
	return nil
}

func (in *Interp) decodeYAML(n *yaml.Node, unsafe bool, depth int) (Value, error) {
	if depth > 100 {
		return nil, in.Raise(in.eArgument, "YAML is nested too deeply")
	}
	if err := in.charge(48 + len(n.Value)); err != nil {
		return nil, err
	}
	switch n.Kind {
	case yaml.AliasNode:
		return nil, in.Raise(in.Class("Psych::BadAlias"), "Unknown alias: %s", n.Value)
	case yaml.SequenceNode:
		a := &Array{}
		for _, c := range n.Content {
			v, err := in.decodeYAML(c, unsafe, depth+1)
			if err != nil {
				return nil, err
			}
			a.Elems = append(a.Elems, v)
		}
		return a, nil
	case yaml.MappingNode:
		h := &Hash{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, err := in.decodeYAML(n.Content[i], unsafe, depth+1)
			if err != nil {
				return nil, err
			}
			v, err := in.decodeYAML(n.Content[i+1], unsafe, depth+1)
			if err != nil {
				return nil, err
			}
			h.Set(k, v)
		}
		return h, nil
	}
	v := in.yamlScalar(n)
	if d, ok := v.(*Object); ok && !unsafe {
		return nil, in.Raise(in.Class("Psych::DisallowedClass"), "Tried to load unspecified class: %s", d.Class.Name)
	}
	return v, nil
}

// yamlScalar resolves a plain scalar by YAML 1.1, as Psych does: yes and no
// are booleans and 0644 is octal.
func (in *Interp) yamlScalar(n *yaml.Node) Value {
	s := n.Value
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 || n.Tag == "!!str" && n.Style&yaml.TaggedStyle != 0 {
		return NewString(s)
	}
	switch strings.ToLower(s) {
	case "", "~", "null":
		return nil
	case "true", "yes", "on":
		return true
	case "false", "no", "off":
		return false
	}
	if s[0] == ':' && len(s) > 1 && isIdentStart(s[1]) {
		return Symbol(s[1:])
	}
	if strings.Trim(s, "0123456789+-_,xoabcdefABCDEF") == "" && strings.ContainsAny(s, "0123456789") {
		clean := strings.NewReplacer("_", "", ",", "").Replace(s)
		if b, ok := new(big.Int).SetString(clean, 0); ok && len(clean) < 1000 {
			return normBig(b)
		}
	}
	if strings.Trim(s, "0123456789+-._eE") == "" && strings.ContainsAny(s, "0123456789") && strings.Contains(s, ".") {
		if f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64); err == nil {
			return f
		}
	}
	if len(s) == 10 && s[4] == '-' && s[7] == '-' {
		if t, err := time.Parse("2006-01-02", s); err == nil {
			return in.newDate(t)
		}
	}
	return NewString(s)
}

// bootMash defines Hashie::Mash: a hash whose string keys are methods too.
func (in *Interp) bootMash() {
	in.cMash = in.DefineClass(in.DefineModule(nil, "Hashie"), "Mash", in.cHash)
	k := in.cMash
	in.singletonClass(k).Def("disable_warnings", func(c *Call) (Value, error) { return nil, nil })
	key := func(v Value) Value {
		if s, ok := v.(Symbol); ok {
			return NewString(string(s))
		}
		return v
	}
	var wrap func(v Value) Value
	fill := func(m, from *Hash) {
		_ = from.Each(func(k, v Value) error { m.Set(key(k), wrap(v)); return nil })
	}
	wrap = func(v Value) Value {
		switch v := v.(type) {
		case *Hash:
			if v.ext != nil && v.class != nil && v.class.Inherits(k) {
				return v
			}
			m := &Hash{ext: &ext{class: k}}
			in.Nested(func() { fill(m, v) })
			return m
		case *Array:
			a := &Array{Elems: make([]Value, len(v.Elems))}
			in.Nested(func() {
				for i, e := range v.Elems {
					a.Elems[i] = wrap(e)
				}
			})
			return a
		}
		return v
	}
	self := func(c *Call) *Hash { return c.Self.(*Hash) }
	k.DefN("initialize", 0, 2, func(c *Call) (Value, error) {
		if h, ok := c.Arg(0).(*Hash); ok {
			if err := c.In.charge(160 * h.Len()); err != nil {
				return nil, err
			}
			return nil, c.In.deeper(func() error { fill(self(c), h); return nil })
		}
		return nil, nil
	})
	byKey := func(name string, least, most int) {
		m := in.cHash.find(name)
		k.DefN(name, least, most, func(c *Call) (Value, error) {
			d := *c
			d.Args = append([]Value(nil), c.Args...)
			d.Args[0] = key(d.Args[0])
			if name == "[]=" || name == "store" {
				d.Args[1] = wrap(d.Args[1])
			}
			return m.native(&d)
		})
	}
	byKey("[]", 1, 1)
	byKey("[]=", 2, 2)
	byKey("store", 2, 2)
	byKey("fetch", 1, 2)
	byKey("delete", 1, 1)
	for _, n := range []string{"key?", "has_key?", "include?", "member?"} {
		byKey(n, 1, 1)
	}
	merge := func(c *Call) (Value, error) {
		h := self(c)
		if !strings.HasSuffix(c.Name, "!") && c.Name != "update" {
			d, err := c.In.dup(h)
			if err != nil {
				return nil, err
			}
			h = d.(*Hash)
		}
		for _, a := range c.Args {
			o, err := c.In.hsh(a)
			if err != nil {
				return nil, err
			}
			fill(h, o)
		}
		return h, nil
	}
	for _, n := range []string{"merge", "merge!", "update", "deep_merge", "deep_merge!", "deep_update"} {
		k.Def(n, merge)
	}
	k.DefN("to_hash", 0, 1, func(c *Call) (Value, error) {
		h := &Hash{}
		h.copyEntries(self(c))
		return h, nil
	})
	k.alias("to_hash", "to_h")
	k.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		var b strings.Builder
		b.WriteString("#<Hashie::Mash")
		type pair struct {
			key   string
			value Value
		}
		var pairs []pair
		_ = self(c).Each(func(k, v Value) error {
			pairs = append(pairs, pair{c.In.ToS(k), v})
			return nil
		})
		slices.SortStableFunc(pairs, func(x, y pair) int { return strings.Compare(x.key, y.key) })
		err := c.In.guarded(c.Self, func() error {
			for _, p := range pairs {
				s, err := c.In.inspect(p.value)
				if err != nil {
					return err
				}
				b.WriteString(" " + p.key + "=" + s)
			}
			return nil
		})
		return NewString(b.String() + ">"), err
	})
	k.alias("inspect", "to_s")
	k.DefMissing(func(c *Call, name string) (Value, error) {
		switch {
		case strings.HasSuffix(name, "=") && len(c.Args) == 1:
			return c.Args[0], c.In.hashSet(self(c), NewString(strings.TrimSuffix(name, "=")), wrap(c.Args[0]))
		case strings.HasSuffix(name, "?"):
			v, _ := self(c).Get(NewString(strings.TrimSuffix(name, "?")))
			return Truthy(v), nil
		}
		v, _ := self(c).Get(NewString(strings.TrimSuffix(name, "!")))
		return v, nil
	}, func(v Value, name string) bool {
		_, ok := v.(*Hash).Get(NewString(strings.TrimRight(name, "=?!")))
		return ok || strings.HasSuffix(name, "=")
	})
}

// shellSplit splits a line into words as a Bourne shell does; false when a
// quote isn't closed.
func shellSplit(line string) (words []string, ok bool) {
	var word strings.Builder
	began, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote == '\'' && c != quote, quote == '"' && c != quote && c != '\\':
			word.WriteByte(c)
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && i+1 < len(line):
			i++
			if quote == '"' && strings.IndexByte("$`\"\\\n", line[i]) < 0 {
				word.WriteByte('\\')
			}
			word.WriteByte(line[i])
			began = true
		case c == '\'' || c == '"':
			quote, began = c, true
		case isSpace(c) || c == '\n':
			if began {
				words = append(words, word.String())
				word.Reset()
			}
			began = false
		default:
			word.WriteByte(c)
			began = true
		}
	}
	if began {
		words = append(words, word.String())
	}
	return words, quote == 0
}

func shellEscape(s string) string {
	if s == "" {
		return "''"
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString("'\n'")
			continue
		case r >= 0x80 || !isIdent(byte(r)) && !strings.ContainsRune("-.,:+/@", r):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (in *Interp) bootShellwords() {
	split := func(c *Call, s string) (Value, error) {
		words, ok := shellSplit(s)
		if !ok {
			return nil, c.In.Raise(c.In.eArgument, "%s", "Unmatched quote: "+inspectString(s))
		}
		if err := c.In.charge(64*len(words) + len(s)); err != nil {
			return nil, err
		}
		return Strings(words), nil
	}
	join := func(c *Call, v Value) (Value, error) {
		words, err := c.In.elements(v)
		if err != nil {
			return nil, err
		}
		out := make([]string, len(words))
		for i, w := range words {
			out[i] = shellEscape(c.In.ToS(w))
		}
		return c.In.newString(strings.Join(out, " "))
	}
	k := in.cString
	k.DefN("shellsplit", 0, 0, func(c *Call) (Value, error) { return split(c, c.Self.(*String).s) })
	k.DefN("shellescape", 0, 0, func(c *Call) (Value, error) { return c.In.newString(shellEscape(c.Self.(*String).s)) })
	in.cArray.DefN("shelljoin", 0, 0, func(c *Call) (Value, error) { return join(c, c.Self) })
	m := in.singletonClass(in.DefineModule(nil, "Shellwords"))
	m.DefN("split", 1, 1, func(c *Call) (Value, error) {
		s, err := c.strArg(0)
		if err != nil {
			return nil, err
		}
		return split(c, s)
	})
	m.alias("split", "shellsplit", "shellwords")
	m.DefN("escape", 1, 1, func(c *Call) (Value, error) { return c.In.newString(shellEscape(c.In.ToS(c.Args[0]))) })
	m.alias("escape", "shellescape")
	m.DefN("join", 1, 1, func(c *Call) (Value, error) { return join(c, c.Args[0]) })
	m.alias("join", "shelljoin")
}

// bootURI defines what URI.parse gives: an address in its parts.
func (in *Interp) bootURI() {
	m := in.DefineModule(nil, "URI")
	invalid := in.DefineClass(m, "InvalidURIError", in.DefineClass(m, "Error", in.eStandard))
	generic := in.DefineClass(m, "Generic", nil)
	generic.noAlloc = true
	ports := map[string]int64{"http": 80, "https": 443, "ftp": 21, "ldap": 389, "ldaps": 636, "ws": 80, "wss": 443}
	class := map[string]*Class{}
	for _, n := range []string{"HTTP", "FTP", "LDAP", "WS", "File"} {
		class[strings.ToLower(n)] = in.DefineClass(m, n, generic)
	}
	class["https"] = in.DefineClass(m, "HTTPS", class["http"])
	parse := func(c *Call) (Value, error) {
		s, err := c.strArg(0)
		if err != nil {
			return nil, err
		}
		u, err := url.Parse(s)
		if err != nil || strings.ContainsAny(s, " <>{}|\\^`\"") {
			return nil, c.In.Raise(invalid, "%s", "bad URI(is not URI?): "+inspectString(s))
		}
		k := class[strings.ToLower(u.Scheme)]
		if k == nil {
			k = generic
		}
		return &Object{Class: k, Data: u}, nil
	}
	in.singletonClass(m).DefN("parse", 1, 1, parse)
	in.DefKernel("URI", parse)
	part := func(name string, fn func(u *url.URL) Value) {
		generic.DefN(name, 0, 0, func(c *Call) (Value, error) {
			u, _ := c.Self.(*Object).Data.(*url.URL)
			return fn(u), nil
		})
	}
	text := func(s string) Value {
		if s == "" {
			return nil
		}
		return NewString(s)
	}
	part("scheme", func(u *url.URL) Value { return text(u.Scheme) })
	part("host", func(u *url.URL) Value {
		h := u.Hostname()
		if strings.Contains(h, ":") {
			h = "[" + h + "]"
		}
		return text(h)
	})
	part("hostname", func(u *url.URL) Value { return text(u.Hostname()) })
	part("port", func(u *url.URL) Value {
		if n, err := strconv.ParseInt(u.Port(), 10, 64); err == nil {
			return n
		}
		if n, ok := ports[u.Scheme]; ok {
			return n
		}
		return nil
	})
	part("path", func(u *url.URL) Value { return NewString(u.EscapedPath()) })
	part("query", func(u *url.URL) Value { return text(u.RawQuery) })
	part("fragment", func(u *url.URL) Value { return text(u.EscapedFragment()) })
	part("userinfo", func(u *url.URL) Value { return text(u.User.String()) })
	part("user", func(u *url.URL) Value { return text(u.User.Username()) })
	part("to_s", func(u *url.URL) Value { return NewString(u.String()) })
	generic.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		return NewString("#<" + c.Self.(*Object).Class.Name + " " + c.In.ToS(c.Self) + ">"), nil
	})
	generic.DefN("==", 1, 1, func(c *Call) (Value, error) {
		return c.In.IsA(c.Args[0], generic) && c.In.ToS(c.Self) == c.In.ToS(c.Args[0]), nil
	})
}
