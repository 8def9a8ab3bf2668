package resource

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// osRes is the platform; it needs no state.
type osRes struct{}

// virtualRes is what kind of machine the target runs in; system and role are
// nil on real hardware.
type virtualRes struct{ system, role ruby.Value }

type kernelParameter struct{ name string }

type osEnv struct{ name ruby.Value }

func defineSystem(s *Set) {
	var platform, system *ruby.Class
	platform = s.define("platform", "PlatformResource", nil, func(c *ruby.Call) (any, error) {
		// What a profile derives from these refers to it.
		if o, ok := c.Self.(*ruby.Object); ok && o.Class != platform && o.Class != system {
			o.SetIVar("@platform", s.train())
		}
		return osRes{}, s.arity(c, 0, 0)
	})
	definePlatform(s, platform)
	fixed(platform, "Platform Detection")
	system = s.define("os", "OSResource", platform, nil)
	for _, family := range []string{"aix", "redhat", "debian", "suse", "bsd", "solaris", "linux", "unix", "windows", "hpux", "darwin"} {
		def(system, family+"?", func(c *ruby.Call, _ osRes) (ruby.Value, error) { return s.platform.Is(family), nil })
	}
	fixed(system, "Operating System Detection")

	virtual := s.define("virtualization", "Virtualization", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 0); err != nil {
			return nil, err
		}
		return s.detectVirtual()
	})
	def(virtual, "system", func(c *ruby.Call, v virtualRes) (ruby.Value, error) { return v.system, nil })
	def(virtual, "role", func(c *ruby.Call, v virtualRes) (ruby.Value, error) { return v.role, nil })
	def(virtual, "virtual_system?", func(c *ruby.Call, v virtualRes) (ruby.Value, error) { return c.In.Equal(v.role, str("guest")), nil })
	def(virtual, "physical_system?", func(c *ruby.Call, v virtualRes) (ruby.Value, error) { return v.system == nil, nil })
	def(virtual, "params", func(c *ruby.Call, v virtualRes) (ruby.Value, error) { return nil, nil })
	virtual.Def("resource_id", func(c *ruby.Call) (ruby.Value, error) {
		if v, ok := c.Self.(*ruby.Object).Data.(virtualRes); ok && v.system != nil {
			return v.system, nil
		}
		return str("virtualization"), nil
	})
	fixed(virtual, "Virtualization Detection")

	kernel := s.define("kernel_parameter", "KernelParameter", nil, func(c *ruby.Call) (any, error) {
		name, _ := argString(c, 0)
		if !s.platform.Is("linux") {
			return nil, s.skip("The `kernel_parameter` resource is not supported on your OS.")
		}
		return kernelParameter{name}, s.arity(c, 0, 1)
	})
	text(kernel, func(k kernelParameter) string { return "Kernel Parameter " + k.name }, func(k kernelParameter) string { return k.name })
	def(kernel, "value", func(c *ruby.Call, k kernelParameter) (ruby.Value, error) { return s.kernelValue(k.name) })

	s.define("linux_kernel_parameter", "LinuxKernelParameter", kernel, nil)
	env := s.define("os_env", "OsEnv", nil, func(c *ruby.Call) (any, error) { return osEnv{c.Arg(0)}, s.arity(c, 0, 2) })
	env.Def("to_s", func(c *ruby.Call) (ruby.Value, error) {
		if e, ok := c.Self.(*ruby.Object).Data.(osEnv); ok && e.name != nil {
			return str("Environment variable " + c.In.ToS(e.name)), nil
		}
		return str("Environment variables"), nil
	})
	def(env, "resource_id", func(c *ruby.Call, e osEnv) (ruby.Value, error) { return str(c.In.ToS(e.name)), nil })
	def(env, "content", func(c *ruby.Call, e osEnv) (ruby.Value, error) { return s.environment(e) })
	def(env, "split", func(c *ruby.Call, e osEnv) (ruby.Value, error) {
		v, err := s.environment(e)
		text, ok := v.(*ruby.String)
		if err != nil || !ok {
			return ruby.NewArray(), err
		}
		return ruby.Strings(strings.Split(text.String(), ":")), nil
	})
}

// platformValues are what is known of the target's platform.
func (s *Set) platformValues() map[string]func() ruby.Value {
	p := s.platform
	return map[string]func() ruby.Value{
		"name":     func() ruby.Value { return str(p.Name) },
		"family":   func() ruby.Value { return str(p.Family) },
		"release":  func() ruby.Value { return str(p.Release) },
		"arch":     func() ruby.Value { return str(p.Arch) },
		"families": func() ruby.Value { return ruby.Strings(p.Families) },
	}
}

// train is the platform as the library beneath InSpec has it, which answers
// linux? and the like for any name of a family or platform.
func (s *Set) train() *ruby.Object {
	if s.trained != nil {
		return s.trained
	}
	p := s.platform
	k := s.in.DefineClass(s.backend.Class, "Platform", nil)
	values := s.platformValues()
	values["family_hierarchy"] = values["families"]
	values["title"] = func() ruby.Value { return str(p.Title) }
	for name, get := range values {
		k.Def(name, func(*ruby.Call) (ruby.Value, error) { return get(), nil })
	}
	k.Def("[]", func(c *ruby.Call) (ruby.Value, error) {
		name, _ := argString(c, 0)
		if get, ok := values[name]; ok {
			return get(), nil
		}
		return strings.HasSuffix(name, "?") && p.Is(strings.TrimSuffix(name, "?")), nil
	})
	k.DefMissing(func(c *ruby.Call, name string) (ruby.Value, error) {
		return p.Is(strings.TrimSuffix(name, "?")), nil
	}, func(_ ruby.Value, name string) bool { return strings.HasSuffix(name, "?") })
	s.trained = s.in.NewObject(k, nil)
	return s.trained
}

func definePlatform(s *Set, k *ruby.Class) {
	p := s.platform
	values := s.platformValues()
	for name, get := range values {
		def(k, name, func(c *ruby.Call, _ osRes) (ruby.Value, error) { return get(), nil })
	}
	values["family_hierarchy"] = values["families"]
	values["title"] = func() ruby.Value { return str(p.Title) }
	def(k, "[]", func(c *ruby.Call, _ osRes) (ruby.Value, error) {
		name, _ := argString(c, 0)
		if get, ok := values[name]; ok && name != "families" {
			return get(), nil
		}
		return nil, nil
	})
	def(k, "platform?", func(c *ruby.Call, _ osRes) (ruby.Value, error) {
		name, _ := argString(c, 0)
		return p.Is(name), nil
	})
	def(k, "in_family?", func(c *ruby.Call, _ osRes) (ruby.Value, error) {
		name, _ := argString(c, 0)
		return slices.Contains(p.Families, name), nil
	})
	def(k, "params", func(c *ruby.Call, _ osRes) (ruby.Value, error) {
		h := ruby.NewHash()
		for _, name := range []string{"name", "families", "release", "arch"} {
			h.Set(ruby.Symbol(name), values[name]())
		}
		return h, nil
	})
	def(k, "supported?", func(c *ruby.Call, _ osRes) (ruby.Value, error) {
		list, ok := c.Arg(0).(*ruby.Array)
		if !ok {
			return nil, s.argumentError("`supports` is nil.")
		}
		return len(list.Elems) == 0 || slices.ContainsFunc(list.Elems, func(v ruby.Value) bool {
			h, ok := v.(*ruby.Hash)
			return ok && s.Supports(h)
		}), nil
	})
	def(k, "resource_id", func(c *ruby.Call, _ osRes) (ruby.Value, error) { return str(p.Name), nil })
}

// kernelValue asks sysctl, as InSpec does. On files alone, and where there is
// no sysctl, the kernel's own file says the same.
func (s *Set) kernelValue(name string) (ruby.Value, error) {
	out, err := s.t.Run(s.in.Context(), "/sbin/sysctl -q -n "+name)
	switch {
	case err == nil && out.ExitStatus == 0:
		return intOrText(strings.TrimSpace(string(out.Stdout))), nil
	case err == nil && out.ExitStatus != 127:
		return nil, nil
	case err != nil && !errors.Is(err, target.ErrNoCommands):
		return nil, s.problem(err)
	}
	if _, there, err := (&fileRes{s, "/proc/sys/kernel"}).stat(true); err != nil || !there {
		if err == nil {
			err = s.fail("the target has neither sysctl nor /proc/sys, so its kernel parameters can't be read")
		}
		return nil, err
	}
	value, ok, err := s.readOptional("/proc/sys/" + strings.NewReplacer(".", "/", "/", ".").Replace(name))
	if err != nil || !ok {
		return nil, err
	}
	return intOrText(strings.TrimSpace(value)), nil
}

var environmentLine = regexp.MustCompile(`^\s*([^=]*?)\s*=\s*(.*?)\s*$`)

func (s *Set) environment(e osEnv) (ruby.Value, error) {
	if e.name == nil {
		return nil, nil
	}
	out, err := s.run("env")
	if err != nil {
		return nil, err
	}
	if out.ExitStatus != 0 {
		return nil, s.skip("Can't read environment variables on %s. Tried `env` which returned %d", s.platform.Name, out.ExitStatus)
	}
	vars := map[string]string{}
	for _, line := range uncommented(string(out.Stdout), "#") {
		if m := environmentLine.FindStringSubmatch(line); m != nil {
			vars[m[1]] = m[2]
		}
	}
	if v, ok := vars[s.in.ToS(e.name)]; ok {
		return str(v), nil
	}
	return nil, nil
}

var (
	cgroupDocker = regexp.MustCompile(`(?m)^\d+:[^:]+:/(lxc|docker)/.+$`)
	cgroupScope  = regexp.MustCompile(`(?m)^\d+:[^:]+:/[^/]+/(lxc|docker)-.+$`)
	cgroupPods   = regexp.MustCompile(`(?m)^\d+:[^:]+:/(kubepods)/.+$`)
	cgroupRoot   = regexp.MustCompile(`(?m)\d:[^:]+:/$`)
	vserver      = regexp.MustCompile(`(?m)^(s_context|VxID):\s*(\d+)$`)
	kvmCPU       = regexp.MustCompile(`QEMU Virtual CPU|Common KVM processor|Common 32-bit KVM processor`)
)

// detectVirtual looks for the marks of each kind of virtual machine and
// container in InSpec's order; the first counts.
func (s *Set) detectVirtual() (virtualRes, error) {
	var failed error
	read := func(name string) (string, bool) {
		text, ok, err := s.readOptional(name)
		if err != nil && failed == nil {
			failed = err
		}
		return text, ok
	}
	exists := func(name string) bool {
		_, ok, err := (&fileRes{s, name}).stat(true)
		if err != nil && failed == nil {
			failed = err
		}
		return ok
	}
	runs := func(name string) bool {
		ok, err := s.commandExists(name)
		if err != nil && failed == nil {
			failed = err
		}
		return ok
	}
	is := func(system, role string) (virtualRes, error) { return virtualRes{str(system), str(role)}, failed }

	if !s.platform.Is("linux") {
		return virtualRes{}, nil
	}
	if exists("/proc/xen/capabilities") {
		if text, _ := read("/proc/xen/capabilities"); strings.Contains(strings.ToLower(text), "control_d") {
			return is("xen", "host")
		}
		return is("xen", "guest")
	}
	if exists("/.dockerenv") || exists("/.dockerinit") {
		return is("docker", "guest")
	}
	modules, _ := read("/proc/modules")
	modules = "\n" + modules
	switch {
	case strings.Contains(modules, "\nvboxdrv"):
		return is("vbox", "host")
	case strings.Contains(modules, "\nvboxguest"):
		return is("vbox", "guest")
	case exists("/dev/lxd/sock"):
		return is("lxd", "guest")
	case exists("/var/lib/lxd/devlxd"):
		return is("lxd", "host")
	}
	if cgroup, ok := read("/proc/self/cgroup"); ok {
		for _, re := range []*regexp.Regexp{cgroupDocker, cgroupScope, cgroupPods} {
			if m := re.FindStringSubmatch(cgroup); m != nil {
				return is(m[1], "guest")
			}
		}
		// Only a guest's own process 1 may be looked at by everybody.
		if environ, _, err := s.readOptional("/proc/1/environ"); err == nil && strings.Contains(environ, "container=podman") {
			return is("podman", "guest")
		}
		if runs("lxc-version") && cgroupRoot.MatchString(cgroup) {
			return is("lxc", "host")
		}
	}
	if status, ok := read("/proc/self/status"); ok {
		if m := vserver.FindStringSubmatch(status); m != nil {
			if m[2] == "0" {
				return is("linux-vserver", "host")
			}
			return is("linux-vserver", "guest")
		}
	}
	cpu, _ := read("/proc/cpuinfo")
	switch {
	case kvmCPU.MatchString(cpu):
		return is("kvm", "guest")
	case exists("/sys/devices/virtual/misc/kvm"):
		if strings.Contains(cpu, "hypervisor") {
			return is("kvm", "guest")
		}
		return is("kvm", "host")
	case exists("/proc/bc/0"):
		return is("openvz", "host")
	case exists("/proc/vz"):
		return is("openvz", "guest")
	case runs("nova"):
		return is("openstack", "host")
	}
	if devices, _ := read("/proc/bus/pci/devices"); strings.Contains(devices, "1ab84000") {
		return is("parallels", "guest")
	}
	switch product, _ := read("/sys/devices/virtual/dmi/id/product_name"); {
	case strings.HasPrefix(product, "VMware"):
		return is("vmware", "guest")
	case strings.TrimRight(product, " \n") == "Virtual Machine":
		return is("hyper-v", "guest")
	}
	return virtualRes{}, failed
}
