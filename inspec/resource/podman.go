package resource

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// podmanList is a list that podman prints.
type podmanList struct {
	name, class, title string
	command            string
	fields             []string // of rows that are printed by a template; the names in lower case are the keys
	columns            []column
}

// podmanLists are in InSpec's words; a column whose field no row has is nil
// there, too.
var podmanLists = []podmanList{
	{
		"containers", "PodmanContainerFilter", "Podman Containers", "ps -a --no-trunc --size",
		[]string{"ID", "Image", "ImageID", "Command", "CreatedAt", "RunningFor", "Status", "Pod", "Ports", "Size", "Names", "Networks", "Labels", "Mounts"},
		textColumns("commands", "command", "ids", "id", "created_at", "createdat", "images", "image", "names", "names", "status", "status", "image_ids", "image_id",
			"labels", "labels", "mounts", "mounts", "networks", "networks", "pods", "pod", "ports", "ports", "sizes", "size", "running_for", "running_for"),
	},
	{
		"images", "PodmanImageFilter", "Podman Images", "images -a --no-trunc",
		[]string{"ID", "Repository", "Tag", "Size", "Digest", "CreatedAt", "CreatedSince", "History"},
		textColumns("ids", "id", "repositories", "repository", "tags", "tag", "sizes", "size", "digests", "digest", "created_at", "createdat", "created_since", "createdsince", "history", "history"),
	},
	{
		"networks", "PodmanNetworkFilter", "Podman Networks", "network ls --no-trunc",
		[]string{"ID", "Name", "Driver", "Labels", "Options", "IPAMOptions", "Created", "Internal", "IPv6Enabled", "DNSEnabled", "NetworkInterface", "Subnets"},
		textColumns("ids", "id", "names", "name", "drivers", "driver", "network_interfaces", "networkinterface", "created", "created", "subnets", "subnets",
			"ipv6_enabled", "ipv6enabled", "internal", "internal", "dns_enabled", "dnsenabled", "ipam_options", "ipamoptions", "options", "options", "labels", "labels"),
	},
	{
		"pods", "PodmanPodFilter", "Podman Pods", "pod ps --no-trunc", nil,
		textColumns("ids", "id", "cgroups", "cgroup", "containers", "containers", "created", "created", "infraids", "infraid", "names", "name", "namespaces", "namespace",
			"networks", "networks", "status", "status", "labels", "labels"),
	},
	{
		"volumes", "PodmanVolumeFilter", "Podman Volumes", "volume ls", nil,
		textColumns("names", "name", "drivers", "driver", "mountpoints", "mountpoint", "createdat", "createdat", "labels", "labels", "scopes", "scope", "options", "options",
			"mountcount", "mountcount", "needscopyup", "needscopyup", "needschown", "needschown"),
	},
}

func definePodman(s *Set) {
	s.later("podman", s.definePodmanHost)
	s.later("podman_container", s.definePodmanContainer)
	for _, o := range podmanObjects {
		s.later(o.name, func() { s.definePodmanObject(o) })
	}
}

type podmanRes struct{}

func (s *Set) definePodmanHost() {
	k := s.define("podman", "Podman", nil, func(c *ruby.Call) (any, error) { return podmanRes{}, s.arity(c, 0, 0) })
	fixed(k, "Podman")
	for _, l := range podmanLists {
		table := s.in.DefineClass(s.spec, l.class, nil)
		fixed(table, l.title)
		cols := slices.Clone(l.columns)
		for i := range cols {
			cols[i].simple = cols[i].simple || l.name == "containers" && cols[i].name == "labels"
		}
		cols = append(cols, column{name: "exists?", native: func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) { return len(r.data) > 0, nil }})
		if l.name == "containers" {
			cols = append(cols, column{name: "running?", native: func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) {
				return slices.ContainsFunc(r.data, func(h *ruby.Hash) bool { return s.podmanUp(h) }), nil
			}})
		}
		filterTable(s, table, cols, func(list []*ruby.Hash) ([]*ruby.Hash, error) { return list, nil })
		def(k, l.name, func(*ruby.Call, podmanRes) (ruby.Value, error) {
			list, err := s.podmanRows(l)
			return s.in.NewObject(table, list), err
		})
	}
	for _, name := range []string{"version", "info"} {
		def(k, name, func(*ruby.Call, podmanRes) (ruby.Value, error) { return s.podmanDocument(name + " --format json") })
	}
	def(k, "object", func(c *ruby.Call, _ podmanRes) (ruby.Value, error) {
		id, _ := argString(c, 0)
		return s.podmanDocument("inspect " + id + " --format json")
	})
	s.supports["podman"] = unixOnly()
}

func (s *Set) podmanUp(row *ruby.Hash) bool {
	v, _ := row.Get(str("status"))
	return strings.HasPrefix(strings.ToLower(s.in.ToS(v)), "up")
}

// podman runs the client. Where there is none nothing is known of containers.
func (s *Set) podman(cmd string) (stdout, stderr string, ok bool, err error) {
	out, err := s.run("podman %s", cmd)
	if err == nil && out.ExitStatus == 127 {
		err = s.fail("the target has no podman program, which is needed to look at containers")
	}
	return string(out.Stdout), string(out.Stderr), out.ExitStatus == 0, err
}

// podmanText is what podman prints when it says nothing else.
func (s *Set) podmanText(cmd string) (string, error) {
	out, said, _, err := s.podman(cmd)
	if err == nil && said != "" {
		err = s.in.Raise(s.in.Class("RuntimeError"), "Error while running command 'podman %s' : %s", cmd, said)
	}
	return out, err
}

// podmanDocument is a document as a Hashie::Mash, an empty one where podman
// printed none.
func (s *Set) podmanDocument(cmd string) (ruby.Value, error) {
	out, err := s.podmanText(cmd)
	if err != nil {
		return nil, err
	}
	v, err := s.parseJSON(out)
	var raised *ruby.Exception
	if err != nil && !errors.As(err, &raised) {
		return nil, err
	}
	if list, ok := v.(*ruby.Array); ok && len(list.Elems) > 0 {
		v = list.Elems[0]
	}
	h, ok := v.(*ruby.Hash)
	if !ok {
		h = ruby.NewHash()
	}
	return s.mash(h)
}

func (s *Set) podmanRows(l podmanList) ([]*ruby.Hash, error) {
	if l.fields == nil {
		out, err := s.podmanText(l.command + " --format json")
		if err != nil {
			return nil, err
		}
		v, err := s.parseJSON(out)
		list, ok := v.(*ruby.Array)
		if err != nil || !ok {
			if err == nil {
				err = errors.New("it is no list")
			}
			return nil, s.fail("Unable to parse command JSON output: %s", err)
		}
		var rows []*ruby.Hash
		for _, e := range list.Elems {
			if h, ok := e.(*ruby.Hash); ok {
				rows = append(rows, s.lowerKeys(h))
			}
		}
		return rows, nil
	}
	words := make([]string, len(l.fields))
	for i, f := range l.fields {
		words[i] = `"` + f + `": {{json .` + f + `}}`
	}
	out, _, _, err := s.podman(l.command + " --format '{" + strings.Join(words, ", ") + "}'")
	if err != nil {
		return nil, err
	}
	rows := []*ruby.Hash{}
	for _, line := range lines(out) {
		v, err := s.parseJSON(line)
		h, ok := v.(*ruby.Hash)
		if err != nil || !ok {
			return nil, nil // as InSpec, which warns and knows of none
		}
		row := s.lowerKeys(h)
		for _, f := range l.fields {
			if _, ok := row.Get(str(strings.ToLower(f))); !ok {
				row.Set(str(strings.ToLower(f)), nil)
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (s *Set) lowerKeys(h *ruby.Hash) *ruby.Hash {
	out := ruby.NewHash()
	h.Each(func(k, v ruby.Value) error {
		out.Set(str(strings.ToLower(s.in.ToS(k))), v)
		return nil
	})
	return out
}

func (s *Set) definePodmanContainer() {
	k := s.define("podman_container", "PodmanContainer", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		d := &dockerObject{}
		if opts, ok := c.Arg(0).(*ruby.Hash); ok {
			g := given{s, opts}
			d.name, d.id = g.or("name", ""), g.or("id", "")
		} else {
			d.name, _ = argString(c, 0)
		}
		c.Self.(*ruby.Object).Data = d
		all, err := s.podmanRows(podmanLists[0])
		for _, row := range all {
			id, _ := row.Get(str("id"))
			name, _ := row.Get(str("names"))
			if d.name != "" && s.in.ToS(name) == d.name || d.id != "" && id != nil && strings.HasPrefix(s.in.ToS(id), d.id) {
				d.found = append(d.found, row)
			}
		}
		return d, err
	})
	text(k, func(d *dockerObject) string { return "Podman Container " + firstText(d.name, d.id) }, nil)
	def(k, "resource_id", func(_ *ruby.Call, d *dockerObject) (ruby.Value, error) {
		if len(d.found) > 0 {
			v, _ := d.found[0].Get(str("id"))
			return v, nil
		}
		return str(firstText(d.id, d.name)), nil
	})
	def(k, "exist?", func(_ *ruby.Call, d *dockerObject) (ruby.Value, error) { return len(d.found) > 0, nil })
	def(k, "running?", func(_ *ruby.Call, d *dockerObject) (ruby.Value, error) {
		if len(d.found) != 1 {
			return nil, nil
		}
		return s.podmanUp(d.found[0]), nil
	})
	for _, name := range []string{"id", "status", "ports", "command", "image"} {
		def(k, name, func(_ *ruby.Call, d *dockerObject) (ruby.Value, error) { return d.get(name), nil })
	}
	def(k, "labels", func(c *ruby.Call, d *dockerObject) (ruby.Value, error) {
		all := ruby.NewArray()
		for _, row := range d.found {
			if v, _ := row.Get(str("labels")); v != nil {
				all.Elems = append(all.Elems, v)
			}
		}
		flat, err := c.In.Call(all, "flatten", nil, nil)
		if err != nil {
			return nil, err
		}
		return c.In.Call(flat, "uniq", nil, nil)
	})
	s.supports["podman_container"] = unixOnly()
}

// podmanObject is what podman says of one image, network, pod or volume.
type podmanObject struct {
	name, class, title string
	command, absent    string   // absent: what podman says of one that isn't there
	labels             []string // a method's name and podman's name for it
}

var podmanObjects = []podmanObject{
	{"podman_image", "PodmanImage", "podman_image ", "image", "failed to find image", []string{
		"id", "ID", "repo_tags", "RepoTags", "size", "Size", "digest", "Digest", "created_at", "Created", "version", "Version", "names_history", "NamesHistory",
		"repo_digests", "RepoDigests", "architecture", "Architecture", "os", "Os", "virtual_size", "VirtualSize",
	}},
	{"podman_network", "PodmanNetwork", "podman_network ", "network", "network not found", []string{
		"id", "ID", "name", "Name", "driver", "Driver", "labels", "Labels", "options", "Options", "ipam_options", "IPAMOptions", "internal", "Internal", "created", "Created",
		"ipv6_enabled", "IPv6Enabled", "dns_enabled", "DNSEnabled", "network_interface", "NetworkInterface", "subnets", "Subnets",
	}},
	{"podman_pod", "PodmanPod", "Podman Pod ", "pod", "no pod with name or ID", []string{
		"id", "ID", "name", "Name", "created_at", "Created", "create_command", "CreateCommand", "state", "State", "hostname", "Hostname", "create_cgroup", "CreateCgroup",
		"cgroup_parent", "CgroupParent", "cgroup_path", "CgroupPath", "create_infra", "CreateInfra", "infra_container_id", "InfraContainerID", "infra_config", "InfraConfig",
		"shared_namespaces", "SharedNamespaces", "num_containers", "NumContainers", "containers", "Containers",
	}},
	{"podman_volume", "PodmanVolume", "Podman Volume ", "volume", "inspecting object: no such", []string{
		"name", "Name", "driver", "Driver", "mountpoint", "Mountpoint", "created_at", "CreatedAt", "labels", "Labels", "scope", "Scope", "options", "Options",
		"mount_count", "MountCount", "needs_copy_up", "NeedsCopyUp", "needs_chown", "NeedsChown",
	}},
}

type podmanFound struct {
	name string
	info *ruby.Hash
}

func (s *Set) definePodmanObject(o podmanObject) {
	k := s.define(o.name, o.class, nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		d := &podmanFound{info: ruby.NewHash()}
		d.name, _ = argString(c, 0)
		if o.command == "image" {
			d.name = s.podmanImageName(c)
		}
		c.Self.(*ruby.Object).Data = d
		_, _, running, err := s.podman("version")
		if err != nil {
			return d, err
		}
		if !running {
			return d, s.fail("Podman is not running. Please make sure it is installed and running.")
		}
		words := make([]string, 0, len(o.labels)/2)
		for i := 0; i < len(o.labels); i += 2 {
			words = append(words, `"`+o.labels[i]+`": {{json .`+o.labels[i+1]+`}}`)
		}
		out, said, ok, err := s.podman(o.command + " inspect " + d.name + " --format '{" + strings.Join(words, ", ") + "}'")
		switch {
		case err != nil:
		case ok && json.Valid([]byte(out)):
			v, err := s.parseJSON(out)
			if h, ok := v.(*ruby.Hash); ok {
				d.info = h
			}
			return d, err
		case ok || strings.Contains(said, o.absent):
		default:
			err = s.fail("Unable to retrieve podman %s information for %s.\nError message: %s", o.command, d.name, said)
		}
		return d, err
	})
	id := func(d *podmanFound) string {
		if v, _ := d.info.Get(str("id")); v != nil && o.command == "network" {
			return s.in.ToS(v)
		}
		return d.name
	}
	text(k, func(d *podmanFound) string { return o.title + id(d) }, id)
	def(k, "exist?", func(_ *ruby.Call, d *podmanFound) (ruby.Value, error) { return d.info.Len() > 0, nil })
	for i := 0; i < len(o.labels); i += 2 {
		def(k, o.labels[i], func(_ *ruby.Call, d *podmanFound) (ruby.Value, error) {
			v, _ := d.info.Get(str(o.labels[i]))
			return v, nil
		})
	}
	s.supports[o.name] = unixOnly()
}

// podmanImageName is what an image is asked for by: its id, or its name with a
// tag.
func (s *Set) podmanImageName(c *ruby.Call) string {
	opts, ok := c.Arg(0).(*ruby.Hash)
	if !ok {
		ref, _ := argString(c, 0)
		return tagged(parseImage(ref))
	}
	g := given{s, opts}
	if id, ok := g.text("id"); ok {
		return id
	}
	i := parseImage(g.or("image", ""))
	if i.repo == "" {
		i = imageName{repo: g.or("repo", ""), tag: g.or("tag", "")}
	}
	return tagged(i)
}

func tagged(i imageName) string {
	if i.tag == "" {
		i.tag = "latest"
	}
	return i.ref()
}
