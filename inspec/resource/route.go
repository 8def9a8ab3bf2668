package resource

import (
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// route is one line of netstat -rn.
type route struct{ destination, gateway, iface string }

func defineRoutes(s *Set) {
	table := s.define("routing_table", "Routingtable", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 0); err != nil {
			return nil, err
		}
		return s.routes()
	})
	fixed(table, "routing_table")
	def(table, "has_entry?", func(c *ruby.Call, list []route) (ruby.Value, error) {
		h := options(c)
		destination, ok1 := h.GetSym("destination")
		gateway, ok2 := h.GetSym("gateway")
		iface, ok3 := h.GetSym("interface")
		if !ok1 || !ok2 || !ok3 {
			return nil, s.skip("One or more missing key, have_entry? matcher expects a hash with 3 keys: destination, gateway and interface")
		}
		want := route{c.In.ToS(destination), c.In.ToS(gateway), c.In.ToS(iface)}
		return slices.Contains(list, want), nil
	})
	gateway := s.define("default_gateway", "Defaultgateway", table, nil)
	fixed(gateway, "default_gateway")
	for name, get := range map[string]func(r route) string{
		"ipaddress": func(r route) string { return r.gateway }, "interface": func(r route) string { return r.iface },
	} {
		def(gateway, name, func(_ *ruby.Call, list []route) (ruby.Value, error) {
			for _, destination := range []string{"default", "0.0.0.0"} {
				if i := slices.IndexFunc(list, func(r route) bool { return r.destination == destination }); i >= 0 {
					return str(get(list[i])), nil
				}
			}
			return nil, s.fail("No routing found as part of default gateway")
		})
	}
	defineInterfaces(s)
	defineBond(s)
	defineBridge(s)
}

func (s *Set) routes() ([]route, error) {
	netstat, err := s.firstCommand("/usr/sbin/netstat", "/sbin/netstat", "/usr/bin/netstat", "/bin/netstat", "netstat")
	if err == nil && netstat == "" {
		err = s.fail("Could not find `netstat` utility to view routing table information")
	}
	if err != nil {
		return nil, err
	}
	out, err := s.run("%s -rn", netstat)
	if err != nil {
		return nil, err
	}
	if out.ExitStatus != 0 {
		return nil, s.fail("Executing netstat failed: %s", out.Stderr)
	}
	return parseRoutes(string(out.Stdout)), nil
}

func parseRoutes(text string) []route {
	var list []route
	var at []int // of destination, gateway and interface
	for _, line := range lines(text) {
		w := strings.Fields(line)
		if at == nil {
			index := func(names ...string) int {
				return slices.IndexFunc(w, func(h string) bool {
					return slices.ContainsFunc(names, func(n string) bool { return strings.Contains(strings.ToLower(h), n) })
				})
			}
			if found := []int{index("destination"), index("gateway"), index("iface", "netif", "interface")}; !slices.Contains(found, -1) {
				at = found
			}
			continue
		}
		if len(w) > slices.Max(at) {
			list = append(list, route{w[at[0]], w[at[1]], w[at[2]]})
		}
	}
	return list
}

// privateRanges in the order in which InSpec passes their addresses over.
var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("10.0.0.0/8"),
}

func defineInterfaces(s *Set) {
	type interfaces struct{}
	names := func() ([]string, error) {
		list, err := s.t.ReadDir(s.in.Context(), "/sys/class/net")
		var pathErr *fs.PathError
		if err != nil && !errors.As(err, &pathErr) {
			return nil, s.problem(err)
		}
		return list, nil
	}
	k := s.define("interfaces", "Interfaces", nil, func(c *ruby.Call) (any, error) { return interfaces{}, s.arity(c, 0, 0) })
	fixed(k, "Interfaces")
	filterTable(s, k, textColumns("names", "name"), func(interfaces) ([]*ruby.Hash, error) {
		list, err := names()
		var rows []*ruby.Hash
		for _, name := range list {
			rows = append(rows, ruby.NewHash(str("name"), str(name)))
		}
		return rows, err
	})
	def(k, "ipv4_address", func(c *ruby.Call, _ interfaces) (ruby.Value, error) {
		list, err := names()
		if err != nil {
			return nil, err
		}
		var found []netip.Addr
		for _, name := range list {
			i, err := s.New(c, "interface", []ruby.Value{str(name)})
			if err != nil {
				return nil, err
			}
			up, err := c.In.Call(i, "up?", nil, nil)
			if err != nil {
				return nil, err
			}
			if up != true {
				continue
			}
			all, err := c.In.Call(i, "ipv4_addresses", nil, nil)
			if err != nil {
				return nil, err
			}
			if a, ok := all.(*ruby.Array); ok {
				for _, e := range a.Elems {
					if addr, err := netip.ParseAddr(c.In.ToS(e)); err == nil {
						found = append(found, addr)
					}
				}
			}
		}
		for _, private := range privateRanges {
			rest := slices.DeleteFunc(slices.Clone(found), private.Contains)
			if len(rest) == 0 {
				break
			}
			found = rest
		}
		if len(found) == 0 {
			return str(""), nil
		}
		return str(found[0].String()), nil
	})
}

var bondLine = goPattern(`^\s*([^:]*?)\s*:\s*(.*?)\s*$`)

func defineBond(s *Set) {
	k := s.define("bond", "Bond", s.in.Class("Inspec::Resources::FileResource"), func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		name, _ := argString(c, 0)
		c.Self.(*ruby.Object).SetIVar("@bond", str(name))
		path := "/proc/net/bonding/" + name
		_, err := s.readFile(path, true)
		return &fileRes{s, path}, err
	})
	k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) {
		return str("Bond " + c.In.ToS(c.Self.(*ruby.Object).IVar("@bond"))), nil
	})
	params := func(f *fileRes) (*ruby.Hash, error) {
		data, _, err := f.content()
		if err != nil {
			return nil, err
		}
		return simpleConfig{assign: bondLine, multiple: true}.parse(s, string(data))
	}
	list := func(f *fileRes, name string) (*ruby.Array, error) {
		p, err := params(f)
		if err != nil {
			return nil, err
		}
		v, _ := p.Get(str(name))
		a, _ := v.(*ruby.Array)
		return a, nil
	}
	def(k, "params", func(_ *ruby.Call, f *fileRes) (ruby.Value, error) { return params(f) })
	def(k, "interfaces", func(_ *ruby.Call, f *fileRes) (ruby.Value, error) {
		a, err := list(f, "Slave Interface")
		if a == nil {
			return nil, err
		}
		return a, err
	})
	def(k, "has_interface?", func(c *ruby.Call, f *fileRes) (ruby.Value, error) {
		a, err := list(f, "Slave Interface")
		if err != nil || a == nil {
			return false, err
		}
		want, _ := argString(c, 0)
		return slices.ContainsFunc(a.Elems, func(e ruby.Value) bool { return s.in.ToS(e) == want }), nil
	})
	def(k, "mode", func(_ *ruby.Call, f *fileRes) (ruby.Value, error) {
		a, err := list(f, "Bonding Mode")
		if err != nil || a == nil || len(a.Elems) == 0 {
			return nil, err
		}
		return a.Elems[0], nil
	})
}

func defineBridge(s *Set) {
	type bridge struct {
		name  string
		there bool
		ports []string
	}
	k := s.define("bridge", "Bridge", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		d := &bridge{}
		d.name, _ = argString(c, 0)
		var err error
		if d.there, err = s.isDir("/sys/class/net/" + d.name + "/bridge"); err != nil || !d.there {
			return d, err
		}
		if d.ports, err = s.t.ReadDir(s.in.Context(), "/sys/class/net/"+d.name+"/brif"); err != nil {
			return nil, s.problem(err)
		}
		return d, nil
	})
	text(k, func(d *bridge) string { return "Bridge " + d.name }, func(d *bridge) string { return d.name })
	def(k, "exists?", func(_ *ruby.Call, d *bridge) (ruby.Value, error) { return d.there, nil })
	def(k, "interfaces", func(_ *ruby.Call, d *bridge) (ruby.Value, error) {
		if !d.there {
			return nil, nil
		}
		return ruby.Strings(d.ports), nil
	})
	def(k, "has_interface?", func(c *ruby.Call, d *bridge) (ruby.Value, error) {
		want, _ := argString(c, 0)
		return slices.Contains(d.ports, want), nil
	})
}
