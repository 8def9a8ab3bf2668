package resource

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// dockerList is a list that docker prints: its words for each property and
// the table's columns over them.
type dockerList struct {
	name, class string
	command     string
	fields      []string // docker's names; a column's field is the name in lower case
	columns     []column
}

var dockerLists = []dockerList{
	{
		"containers", "DockerContainerFilter", "ps -a --no-trunc",
		[]string{"Command", "CreatedAt", "ID", "Image", "Labels", "Mounts", "Names", "Ports", "RunningFor", "Size", "Status", "Networks", "LocalVolumes"},
		textColumns("commands", "command", "ids", "id", "images", "image", "labels", "labels", "local_volumes", "localvolumes", "mounts", "mounts",
			"names", "names", "networks", "networks", "ports", "ports", "running_for", "runningfor", "sizes", "size", "status", "status"),
	},
	{
		"images", "DockerImageFilter", "images -a --no-trunc",
		[]string{"ID", "Repository", "Tag", "Size", "Digest", "CreatedAt", "CreatedSince"},
		textColumns("ids", "id", "repositories", "repository", "tags", "tag", "sizes", "size", "digests", "digest", "created", "createdat", "created_since", "createdsize"),
	},
	{
		"plugins", "DockerPluginFilter", "plugin ls",
		[]string{"ID", "Name", "Enabled"},
		textColumns("ids", "id", "names", "name", "versions", "version", "enabled", "enabled"),
	},
	{
		"services", "DockerServiceFilter", "service ls",
		[]string{"ID", "Name", "Mode", "Replicas", "Image", "Ports"},
		textColumns("ids", "id", "names", "name", "modes", "mode", "replicas", "replicas", "images", "image", "ports", "ports"),
	},
}

type dockerRes struct {
	asked map[string][]*ruby.Hash
}

func defineDocker(s *Set) {
	k := s.define("docker", "Docker", nil, func(c *ruby.Call) (any, error) {
		return &dockerRes{asked: map[string][]*ruby.Hash{}}, s.arity(c, 0, 0)
	})
	fixed(k, "Docker Host")
	for _, l := range dockerLists {
		table := s.in.DefineClass(s.spec, l.class, nil)
		cols := slices.Clone(l.columns) // of all runs
		for i := range cols {
			cols[i].simple = cols[i].simple || cols[i].name == "labels"
		}
		cols = append(cols, column{name: "exists?", native: func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) { return len(r.data) > 0, nil }})
		filterTable(s, table, cols, func(list []*ruby.Hash) ([]*ruby.Hash, error) { return list, nil })
		def(k, l.name, func(_ *ruby.Call, d *dockerRes) (ruby.Value, error) {
			list, err := s.dockerRows(d, l)
			return s.in.NewObject(table, list), err
		})
	}
	for name, cmd := range map[string]string{"version": "version --format '{{ json . }}'", "info": "info --format '{{ json . }}'"} {
		def(k, name, func(*ruby.Call, *dockerRes) (ruby.Value, error) { return s.dockerDocument(cmd) })
	}
	def(k, "object", func(c *ruby.Call, _ *dockerRes) (ruby.Value, error) {
		id, _ := argString(c, 0)
		return s.dockerDocument("inspect " + shellEscape(id))
	})
	defineDockerObjects(s)
}

// dockerDocument is a JSON document as a Hashie::Mash; an empty one where
// docker has none.
func (s *Set) dockerDocument(cmd string) (ruby.Value, error) {
	out, err := s.docker(cmd)
	if err != nil {
		return nil, err
	}
	var arg ruby.Value = ruby.NewHash()
	if strings.TrimSpace(out) != "" {
		v, err := s.parseJSON(out)
		var raised *ruby.Exception
		if err != nil && !errors.As(err, &raised) {
			return nil, err
		}
		if list, ok := v.(*ruby.Array); ok && len(list.Elems) > 0 {
			v = list.Elems[0]
		}
		if h, ok := v.(*ruby.Hash); ok {
			arg = h
		}
	}
	return s.in.Call(s.in.Class("Hashie::Mash"), "new", []ruby.Value{arg}, nil)
}

// docker runs the client. Where there is none nothing is known of containers;
// InSpec takes that for none.
func (s *Set) docker(cmd string) (string, error) {
	out, err := s.run("docker %s", cmd)
	if err == nil && out.ExitStatus == 127 {
		err = s.fail("the target has no docker program, which is needed to look at containers")
	}
	return string(out.Stdout), err
}

func (s *Set) dockerRows(d *dockerRes, l dockerList) ([]*ruby.Hash, error) {
	if list, ok := d.asked[l.name]; ok {
		return list, nil
	}
	words := make([]string, len(l.fields))
	for i, f := range l.fields {
		words[i] = `"` + strings.ToLower(f) + `": {{json .` + f + `}}`
	}
	out, err := s.docker(l.command + " --format '{" + strings.Join(words, ", ") + "}'")
	if err != nil {
		return nil, err
	}
	list := []*ruby.Hash{}
	for _, line := range lines(out) {
		var row map[string]any
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			list = list[:0] // as InSpec, which warns and knows of none
			break
		}
		list = append(list, dockerRow(l, row))
	}
	d.asked[l.name] = list
	return list, nil
}

func dockerRow(l dockerList, row map[string]any) *ruby.Hash {
	h := ruby.NewHash()
	for _, f := range l.fields {
		key := strings.ToLower(f)
		v, _ := row[key].(string)
		switch {
		case key == "names":
			h.Set(str(key), nil)
			for _, n := range strings.Split(v, ",") {
				if !strings.Contains(n, "/") {
					h.Set(str(key), str(n))
					break
				}
			}
		case key == "labels":
			var labels []string
			if v != "" {
				labels = strings.Split(v, ",")
			}
			h.Set(str(key), ruby.Strings(labels))
		case key == "createdsince":
			h.Set(str("createdsize"), str(v)) // InSpec's name for it
		case key == "enabled":
			on, _ := row[key].(bool)
			h.Set(str(key), on)
		case key == "name" && l.name == "plugins":
			name, version, _ := strings.Cut(v, ":")
			h.Set(str("name"), str(name))
			h.Set(str("version"), str(version))
		case row[key] == nil:
			h.Set(str(key), nil)
		default:
			h.Set(str(key), str(v))
		}
	}
	return h
}

// dockerObject is one container, image, service or plugin: the rows that its
// name or id fits.
type dockerObject struct {
	name, id string
	image    imageName
	found    []*ruby.Hash
}

func (d *dockerObject) get(key string) ruby.Value {
	if len(d.found) != 1 {
		return nil
	}
	v, _ := d.found[0].Get(str(key))
	return v
}

// imageName is an image's reference, taken apart.
type imageName struct{ repo, name, tag string }

func parseImage(ref string) imageName {
	path := func(repo string) string {
		_, rest, _ := strings.Cut(repo, "/")
		return strings.ReplaceAll(rest, "/", "")
	}
	colon, slash := strings.Index(ref, ":"), strings.Index(ref, "/")
	switch n := strings.Count(ref, ":"); {
	case ref == "":
		return imageName{}
	case n == 2:
		i := strings.LastIndex(ref, ":")
		return imageName{ref[:i], path(ref[:i]), ref[i+1:]}
	case n == 1 && colon < slash:
		return imageName{ref, path(ref), ""}
	}
	repo, tag, _ := strings.Cut(ref, ":")
	return imageName{repo, repo, tag}
}

func defineDockerObjects(s *Set) {
	for _, o := range []struct {
		name, class, title string
		list               dockerList
		by                 string // the option that a text stands for
		fits               func(d *dockerObject, row func(string) string) bool
		get                map[string]string
	}{
		{
			"docker_container", "DockerContainer", "Docker Container ", dockerLists[0], "name",
			func(d *dockerObject, row func(string) string) bool { return d.name != "" && row("names") == d.name },
			map[string]string{"status": "status", "ports": "ports", "image": "image"},
		},
		{
			"docker_image", "DockerImage", "Docker Image ", dockerLists[1], "image",
			func(d *dockerObject, row func(string) string) bool {
				return d.image.repo != "" && row("repository") == d.image.repo && row("tag") == d.image.tag
			},
			map[string]string{"repo": "repository", "tag": "tag"},
		},
		{
			"docker_service", "DockerService", "Docker Service ", dockerLists[3], "name",
			func(d *dockerObject, row func(string) string) bool {
				return d.name != "" && row("name") == d.name || d.image.repo != "" && row("image") == d.image.ref()
			},
			map[string]string{"name": "name", "image": "image", "mode": "mode", "replicas": "replicas", "ports": "ports"},
		},
		{
			"docker_plugin", "DockerPlugin", "Docker plugin ", dockerLists[2], "name",
			func(d *dockerObject, row func(string) string) bool { return d.name != "" && row("name") == d.name },
			map[string]string{"version": "version"},
		},
	} {
		k := s.define(o.name, o.class, nil, func(c *ruby.Call) (any, error) {
			if err := s.arity(c, 0, 1); err != nil {
				return nil, err
			}
			d := &dockerObject{}
			given := map[string]string{}
			if opts, ok := c.Arg(0).(*ruby.Hash); ok {
				for _, key := range []string{"name", "id", "image", "repo", "tag"} {
					if v, _ := opts.GetSym(key); v != nil {
						given[key] = c.In.ToS(v)
					}
				}
			} else if text, ok := argString(c, 0); ok {
				given[o.by] = text
			}
			d.name, d.id, d.image = given["name"], given["id"], parseImage(given["image"])
			if o.by == "image" {
				for key, to := range map[string]*string{"repo": &d.image.repo, "tag": &d.image.tag} {
					if v := given[key]; v != "" && given["image"] == "" {
						*to = v
					}
				}
				if d.image.tag == "" {
					d.image.tag = "latest"
				}
				if d.id != "" && !strings.Contains(d.id, ":") {
					d.id = "sha256:" + d.id
				}
				if d.image.repo != "" {
					d.name = d.image.ref()
				}
			}
			c.Self.(*ruby.Object).SetIVar("@title", str(o.title+firstText(d.name, d.id)))
			all, err := s.dockerRows(&dockerRes{asked: map[string][]*ruby.Hash{}}, o.list)
			for _, row := range all {
				text := func(key string) string {
					v, _ := row.Get(str(key))
					return s.in.ToS(v)
				}
				id := text("id")
				whole := o.name == "docker_plugin"
				if o.fits(d, text) || d.id != "" && (id == d.id || !whole && strings.HasPrefix(id, d.id)) {
					d.found = append(d.found, row)
				}
			}
			return d, err
		})
		k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) { return c.Self.(*ruby.Object).IVar("@title"), nil })
		def(k, "resource_id", func(_ *ruby.Call, d *dockerObject) (ruby.Value, error) {
			if len(d.found) > 0 {
				v, _ := d.found[0].Get(str("id"))
				return v, nil
			}
			return str(firstText(d.id, d.name)), nil
		})
		def(k, "exist?", func(_ *ruby.Call, d *dockerObject) (ruby.Value, error) {
			if o.name == "docker_plugin" {
				return len(d.found) == 1, nil
			}
			return len(d.found) > 0, nil
		})
		def(k, "id", func(_ *ruby.Call, d *dockerObject) (ruby.Value, error) { return d.get("id"), nil })
		for method, key := range o.get {
			def(k, method, func(_ *ruby.Call, d *dockerObject) (ruby.Value, error) { return d.get(key), nil })
		}
	}
	defineDockerContainer(s, s.registry["docker_container"])
	defineDockerImage(s, s.registry["docker_image"])
	ofImage(s, s.registry["docker_container"])
	ofImage(s, s.registry["docker_service"])
	def(s.registry["docker_plugin"], "enabled?", func(_ *ruby.Call, d *dockerObject) (ruby.Value, error) {
		if len(d.found) == 0 {
			return nil, nil
		}
		v, _ := d.found[0].Get(str("enabled"))
		return v, nil
	})
}

func (i imageName) ref() string { return i.repo + ":" + i.tag }

func firstText(all ...string) string {
	for _, t := range all {
		if t != "" {
			return t
		}
	}
	return ""
}

// ofImage gives what runs an image the parts of the image's name.
func ofImage(s *Set, k *ruby.Class) {
	for method, part := range map[string]func(imageName) string{
		"repo": func(i imageName) string { return i.repo }, "tag": func(i imageName) string { return i.tag },
		"image_name": func(i imageName) string { return i.name },
	} {
		def(k, method, func(_ *ruby.Call, d *dockerObject) (ruby.Value, error) {
			ref := d.get("image")
			if ref == nil {
				return nil, nil
			}
			return textOrNil(part(parseImage(s.in.ToS(ref)))), nil
		})
	}
}

func defineDockerContainer(s *Set, k *ruby.Class) {
	def(k, "running?", func(_ *ruby.Call, d *dockerObject) (ruby.Value, error) {
		if len(d.found) != 1 {
			return nil, nil
		}
		return strings.HasPrefix(strings.ToLower(s.in.ToS(d.get("status"))), "up"), nil
	})
	def(k, "labels", func(_ *ruby.Call, d *dockerObject) (ruby.Value, error) {
		all := ruby.NewArray()
		for _, row := range d.found {
			if v, _ := row.Get(str("labels")); v != nil {
				all.Elems = append(all.Elems, v.(*ruby.Array).Elems...)
			}
		}
		return all, nil
	})
	def(k, "command", func(_ *ruby.Call, d *dockerObject) (ruby.Value, error) {
		text := s.in.ToS(d.get("command")) // in quotes
		if len(text) < 2 {
			return nil, nil
		}
		return str(text[1 : len(text)-1]), nil
	})
	def(k, "has_volume?", func(c *ruby.Call, d *dockerObject) (ruby.Value, error) {
		destination, _ := argString(c, 0)
		source, _ := argString(c, 1)
		out, err := s.docker("inspect " + shellEscape(firstText(d.name, d.id)))
		if err != nil {
			return nil, err
		}
		var found []struct {
			Mounts []struct{ Destination, Source string }
		}
		if err := json.Unmarshal([]byte(out), &found); err != nil || len(found) == 0 || len(found[0].Mounts) == 0 {
			return nil, s.fail("Could not find any mounted volumes for your container")
		}
		for _, m := range found[0].Mounts {
			if m.Destination == destination && m.Source == source {
				return true, nil
			}
		}
		return false, nil
	})
}

func defineDockerImage(s *Set, k *ruby.Class) {
	inspection := func(d *dockerObject) (ruby.Value, error) {
		return s.dockerDocument("inspect " + shellEscape(firstText(d.name, d.id)))
	}
	def(k, "image", func(_ *ruby.Call, d *dockerObject) (ruby.Value, error) {
		if len(d.found) != 1 {
			return nil, nil
		}
		return str(s.in.ToS(d.get("repository")) + ":" + s.in.ToS(d.get("tag"))), nil
	})
	def(k, "inspection", func(_ *ruby.Call, d *dockerObject) (ruby.Value, error) { return inspection(d) })
	dig := func(d *dockerObject, keys []ruby.Value) (ruby.Value, error) {
		v, err := inspection(d)
		if err != nil {
			return nil, err
		}
		var names []string
		for _, k := range keys {
			names = append(names, strings.Split(s.in.ToS(k), ".")...)
		}
		for _, n := range names {
			if v, err = s.traverse(v, []ruby.Value{str(n)}); err != nil {
				return nil, err
			}
		}
		if v == nil {
			return nil, s.fail("%s is not a valid key for your image or has nil value.", strings.Join(names, "."))
		}
		return v, nil
	}
	def(k, "[]", func(c *ruby.Call, d *dockerObject) (ruby.Value, error) { return dig(d, c.Args) })
	missing(k, func(c *ruby.Call, d *dockerObject, name string) (ruby.Value, error) {
		return dig(d, append([]ruby.Value{str(name)}, c.Args...))
	})
}
