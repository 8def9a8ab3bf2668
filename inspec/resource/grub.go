package resource

import (
	"regexp"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// grubRes is the configuration of the boot loader: its own settings and those
// of one kernel.
type grubRes struct{ path, kernel, defaults, content string }

const grubEnv = "/boot/grub2/grubenv"

func defineGrub(s *Set) {
	k := s.define("grub_conf", "GrubConfig", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 2); err != nil {
			return nil, err
		}
		d := &grubRes{kernel: "default"}
		switch p := s.platform; {
		case p.Is("redhat") || p.Name == "fedora":
			if release, _ := decimal(p.Release); release < 7 {
				d.path = "/etc/grub.conf"
			} else {
				d.path, d.defaults = "/boot/grub2/grub.cfg", "/etc/default/grub"
			}
		case p.Is("debian"):
			d.path, d.defaults = "/boot/grub/grub.cfg", "/etc/default/grub"
		case p.Name == "amazon":
			d.path = "/etc/grub.conf"
		default:
			return nil, s.skip("The `grub_conf` resource is not yet supported on the target OS %s.", p.Name)
		}
		for i, to := range []*string{&d.path, &d.kernel} {
			if given, ok := argString(c, i); ok {
				*to = given
			}
		}
		var err error
		d.content, err = s.readFile(d.path, false)
		return d, err
	})
	fixed(k, "Grub Config")
	def(k, "resource_id", func(_ *ruby.Call, d *grubRes) (ruby.Value, error) { return str(d.path), nil })
	missing(k, func(c *ruby.Call, d *grubRes, name string) (ruby.Value, error) {
		params, err := s.grub(d)
		if err != nil {
			return nil, err
		}
		return lookup(c, params, str(name))
	})
}

func (s *Set) grub(d *grubRes) (*ruby.Hash, error) {
	text := d.content
	if d.defaults != "" {
		var err error
		if text, err = s.readFile(d.defaults, false); err != nil {
			return nil, err
		}
	}
	params, err := simpleConfig{multiple: true}.parse(s, text)
	if err != nil {
		return nil, err
	}
	single := ruby.NewHash()
	params.Each(func(k, v ruby.Value) error {
		if list, ok := v.(*ruby.Array); ok && len(list.Elems) == 1 {
			v = str(s.in.ToS(list.Elems[0]))
		}
		single.Set(k, v)
		return nil
	})
	setting := func(name string) string {
		v, _ := single.Get(str(name))
		return s.in.ToS(v)
	}
	var kernel *ruby.Hash
	if d.defaults == "" {
		kernel = legacyKernel(d.content, d.kernel, leadingInt(setting("default")))
	} else if kernel, err = s.grubEntry(d, setting("GRUB_DEFAULT")); err != nil {
		return nil, err
	}
	kernel.Each(func(k, v ruby.Value) error {
		single.Set(k, v)
		return nil
	})
	return single, nil
}

var (
	grubTitle = regexp.MustCompile(`(?:^|\s+).*menuentry\s*['|"](.*)['|"]\s*--`)
	grubStart = regexp.MustCompile(`^menuentry\s+`)
	grubEnd   = regexp.MustCompile(`^\s*}\s*$`)
)

// grubEntry is the menu entry of the kernel that is asked for.
func (s *Set) grubEntry(d *grubRes, byDefault string) (*ruby.Hash, error) {
	var entries []*ruby.Hash
	names := map[string]*ruby.Hash{}
	all := strings.Split(d.content, "\n")
	for i, line := range all {
		if !grubStart.MatchString(line) {
			continue
		}
		m := grubTitle.FindStringSubmatch(line)
		if m == nil {
			return nil, s.fail("Failed to extract menuentry name from %s", line)
		}
		e := grubMenuEntry(m[1], all[i+1:])
		entries = append(entries, e)
		if names[m[1]] == nil {
			names[m[1]] = e
		}
	}
	if len(entries) == 0 {
		return ruby.NewHash(), nil
	}
	if d.kernel != "default" {
		if e := names[d.kernel]; e != nil {
			return e, nil
		}
		return nil, s.in.Raise(s.in.Class("TypeError"), "no implicit conversion of nil into Hash")
	}
	if byDefault != "saved" {
		if n := leadingInt(byDefault); n >= 0 && n < int64(len(entries)) {
			return entries[n], nil
		}
		return nil, s.in.Raise(s.in.Class("TypeError"), "no implicit conversion of nil into Hash")
	}
	env, _, err := s.readOptional(grubEnv)
	if err != nil {
		return nil, err
	}
	saved, err := simpleConfig{}.parse(s, env)
	if err != nil {
		return nil, err
	}
	name, _ := saved.Get(str("saved_entry"))
	if e := names[s.in.ToS(name)]; e != nil && name != nil {
		return e, nil
	}
	return entries[0], nil
}

// grubMenuEntry reads the lines after a menu entry's first.
func grubMenuEntry(name string, lines []string) *ruby.Hash {
	e := ruby.NewHash(str("insmod"), ruby.NewArray(), str("name"), str(name))
	modules, _ := e.Get(str("insmod"))
	for _, line := range lines {
		if grubEnd.MatchString(line) {
			break
		}
		w := strings.Fields(line)
		switch {
		case strings.Contains(line, "initrd"):
			e.Set(str("initrd"), strOrNil(w, 1))
		case strings.Contains(line, "linux"):
			e.Set(str("kernel"), ruby.Strings(w))
		case strings.Contains(line, "set root="):
			e.Set(str("root"), str(strings.ReplaceAll(strings.Split(line, "=")[1], "'", "")))
		case strings.Contains(line, "insmod"):
			list := modules.(*ruby.Array)
			list.Elems = append(list.Elems, strOrNil(w, 1))
		}
	}
	return e
}

// legacyKernel reads GRUB 0.97's titles.
func legacyKernel(content, kernel string, byDefault int64) *ruby.Hash {
	out := ruby.NewHash()
	entry := int64(-1)
	current := false
	for line := range strings.SplitSeq(content, "\n") {
		w := strings.Fields(line)
		if strings.HasPrefix(line, "title") {
			entry++
			_, name, _ := strings.Cut(strings.TrimSpace(line), " ")
			current = kernel == "default" && entry == byDefault || strings.TrimSpace(name) == kernel
			continue
		}
		if !current || len(w) == 0 {
			continue
		}
		if w[0] == "kernel" {
			out.Set(str("kernel"), ruby.Strings(w[1:]))
		} else {
			out.Set(str(w[0]), strOrNil(w, 1))
		}
	}
	return out
}
