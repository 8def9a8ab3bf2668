package resource

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// nginxRes is nginx's configuration: a hash for each block, in which every
// directive is a list of its uses, each a list of words or the hash of a block.
// A block's own words are its "_".
type nginxRes struct {
	path     string
	contents *ruby.Hash // the text of each file that was read
	params   *ruby.Hash
}

// nginxPart is one block of it, as profiles walk them.
type nginxPart struct {
	params *ruby.Hash
	title  string
	file   string
}

var errNginx = errors.New("unexpected text")

// maxNginxDepth bounds blocks in blocks, and files that include files.
const maxNginxDepth = 64

// parseNginx reads a configuration file.
func parseNginx(text string) (*ruby.Hash, error) {
	p := nginxParser{text: text}
	h, err := p.block(0)
	if err != nil {
		return nil, fmt.Errorf("line %d: %w", 1+strings.Count(text[:p.pos], "\n"), err)
	}
	return h, nil
}

type nginxParser struct {
	text string
	pos  int
}

// block reads directives up to the brace that ends it, at depth 0 the file's
// end.
func (p *nginxParser) block(depth int) (*ruby.Hash, error) {
	if depth > maxNginxDepth {
		return nil, fmt.Errorf("blocks are nested more than %d deep", maxNginxDepth)
	}
	h := ruby.NewHash()
	add := func(name string, v ruby.Value) {
		if list, ok := h.Get(str(name)); ok {
			a := list.(*ruby.Array)
			a.Elems = append(a.Elems, v)
			return
		}
		h.Set(str(name), ruby.NewArray(v))
	}
	for {
		p.blank()
		switch {
		case p.pos == len(p.text) && depth == 0:
			return h, nil
		case p.pos == len(p.text):
			return nil, errors.New("a block isn't ended")
		case p.text[p.pos] == '}' && depth > 0:
			p.pos++
			return h, nil
		}
		words, end, err := p.words()
		if err != nil || len(words) == 0 {
			return nil, errors.Join(err, errNginx)
		}
		if end == ';' {
			add(words[0], ruby.Strings(words[1:]))
			continue
		}
		inner, err := p.block(depth + 1)
		if err != nil {
			return nil, err
		}
		if len(words) > 1 {
			inner.Set(str("_"), ruby.Strings(words[1:]))
		}
		add(words[0], inner)
	}
}

// blank skips white space and comments.
func (p *nginxParser) blank() {
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			p.pos++
		case c == '#':
			if i := strings.IndexByte(p.text[p.pos:], '\n'); i >= 0 {
				p.pos += i
			} else {
				p.pos = len(p.text)
			}
		default:
			return
		}
	}
}

// words reads a directive up to its ; or {, which it returns.
func (p *nginxParser) words() (words []string, end byte, err error) {
	for {
		p.blank()
		if p.pos == len(p.text) {
			return nil, 0, errors.New("a directive isn't ended")
		}
		switch c := p.text[p.pos]; c {
		case ';', '{':
			p.pos++
			return words, c, nil
		case '}':
			return nil, 0, errNginx
		case '"', '\'':
			word, err := p.quoted(c)
			if err != nil {
				return nil, 0, err
			}
			words = append(words, word)
		default:
			start := p.pos
			for p.pos < len(p.text) && strings.IndexByte(" \t\r\n;{", p.text[p.pos]) < 0 {
				if p.text[p.pos] == '\\' && p.pos+1 < len(p.text) {
					p.pos++
				}
				// ${name} is part of a word.
				if strings.HasPrefix(p.text[p.pos:], "${") {
					p.pos++
				}
				p.pos++
			}
			p.pos = min(p.pos, len(p.text))
			words = append(words, p.text[start:p.pos])
		}
	}
}

// quoted reads a word in quotes; a backslash in it stays, as InSpec leaves it.
func (p *nginxParser) quoted(quote byte) (string, error) {
	start := p.pos + 1
	for i := start; i < len(p.text); i++ {
		switch p.text[i] {
		case '\\':
			i++
		case quote:
			p.pos = i + 1
			return p.text[start:i], nil
		}
	}
	p.pos = len(p.text)
	return "", errors.New("a quoted text isn't ended")
}

// read reads a file and what it includes, which is merged in its place.
func (d *nginxRes) read(s *Set, name string, depth int) (*ruby.Hash, error) {
	text, err := s.readFile(name, true)
	if err != nil {
		return nil, err
	}
	d.contents.Set(str(name), str(text))
	h, err := parseNginx(text)
	if err != nil || depth > maxNginxDepth {
		return nil, s.in.Raise(s.in.Class("RuntimeError"), "Cannot parse NginX config in %s.", name)
	}
	return h, d.resolve(s, h, path.Dir(name), depth)
}

func (d *nginxRes) resolve(s *Set, h *ruby.Hash, dir string, depth int) error {
	if list, ok := h.Delete(str("include")); ok {
		for _, words := range list.(*ruby.Array).Elems {
			a, ok := words.(*ruby.Array)
			if !ok {
				continue
			}
			for _, w := range a.Elems {
				files, err := s.relative(dir, s.in.ToS(w))
				if err != nil {
					return err
				}
				for _, f := range files {
					more, err := d.read(s, f, depth+1)
					if err != nil {
						return err
					}
					more.Each(func(k, v ruby.Value) error {
						old, _ := h.Get(k)
						a, isList := old.(*ruby.Array)
						b, moreList := v.(*ruby.Array)
						if isList && moreList {
							h.Set(k, ruby.NewArray(append(append([]ruby.Value(nil), a.Elems...), b.Elems...)...))
						} else {
							h.Set(k, v)
						}
						return nil
					})
				}
			}
		}
	}
	return h.Each(func(_, v ruby.Value) error {
		list, ok := v.(*ruby.Array)
		if !ok {
			return nil
		}
		for _, e := range list.Elems {
			if inner, ok := e.(*ruby.Hash); ok {
				if err := d.resolve(s, inner, dir, depth); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func defineNginx(s *Set) {
	defineNginxBuild(s)
	root := s.define("nginx_conf", "NginxConf", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		d := &nginxRes{path: "/etc/nginx/nginx.conf", contents: ruby.NewHash()}
		if given, ok := argString(c, 0); ok {
			d.path = given
		}
		c.Self.(*ruby.Object).SetIVar("@conf_path", str(d.path))
		params, err := d.read(s, d.path, 0)
		var raised *ruby.Exception
		if errors.As(err, &raised) && !raised.Class.Inherits(s.skipped) && !raised.Class.Inherits(s.failed) {
			return nil, s.skip("%s", raised.Message)
		}
		d.params = params
		return d, err
	})
	path := func(c *ruby.Call) string { return c.In.ToS(c.Self.(*ruby.Object).IVar("@conf_path")) }
	root.Def("to_s", func(c *ruby.Call) (ruby.Value, error) { return str("nginx_conf " + path(c)), nil })
	root.Def("resource_id", func(c *ruby.Call) (ruby.Value, error) { return str(path(c)), nil })
	def(root, "contents", func(c *ruby.Call, d *nginxRes) (ruby.Value, error) { return d.contents, nil })
	def(root, "params", func(c *ruby.Call, d *nginxRes) (ruby.Value, error) { return d.params, nil })

	class := func(name string) *ruby.Class {
		k := s.in.DefineClass(s.spec, name, nil)
		for _, method := range []string{"to_s", "inspect"} {
			def(k, method, func(c *ruby.Call, d *nginxPart) (ruby.Value, error) { return str(d.title), nil })
		}
		def(k, "params", func(c *ruby.Call, d *nginxPart) (ruby.Value, error) { return d.params, nil })
		return k
	}
	http, entry := s.in.DefineClass(s.spec, "NginxConfHttp", nil), class("NginxConfHttpEntry")
	server, location := class("NginxConfServer"), class("NginxConfLocation")
	parts := func(d *nginxPart, name string, k *ruby.Class, title func(h *ruby.Hash) string) []ruby.Value {
		var out []ruby.Value
		v, _ := d.params.Get(str(name))
		if list, ok := v.(*ruby.Array); ok {
			for _, e := range list.Elems {
				if h, ok := e.(*ruby.Hash); ok {
					out = append(out, s.in.NewObject(k, &nginxPart{h, title(h), d.file}))
				}
			}
		}
		return out
	}
	first := func(h *ruby.Hash, name string) string {
		v, _ := h.Get(str(name))
		for {
			list, ok := v.(*ruby.Array)
			if !ok {
				return s.in.ToS(v)
			}
			if len(list.Elems) == 0 {
				return ""
			}
			v = list.Elems[0]
		}
	}
	servers := func(d *nginxPart) []ruby.Value {
		return parts(d, "server", server, func(h *ruby.Hash) string {
			name := first(h, "server_name")
			if listen := first(h, "listen"); name != "" && listen != "" {
				name += ":" + listen
			}
			return d.file + ", http entry, server " + name
		})
	}
	locations := func(d *nginxPart) []ruby.Value {
		return parts(d, "location", location, func(h *ruby.Hash) string {
			v, _ := h.Get(str("_"))
			words := ""
			if list, ok := v.(*ruby.Array); ok {
				for i, w := range list.Elems {
					if i > 0 {
						words += " "
					}
					words += s.in.ToS(w)
				}
			}
			return d.file + ", http entry, location " + s.in.Inspect(str(words))
		})
	}
	rowsOf := func(field string, list []ruby.Value) []*ruby.Hash {
		var out []*ruby.Hash
		for _, v := range list {
			out = append(out, ruby.NewHash(str(field), v))
		}
		return out
	}
	filterTable(s, entry, []column{{name: "servers", field: str("server")}}, func(d *nginxPart) ([]*ruby.Hash, error) { return rowsOf("server", servers(d)), nil })
	filterTable(s, server, []column{{name: "locations", field: str("location")}}, func(d *nginxPart) ([]*ruby.Hash, error) { return rowsOf("location", locations(d)), nil })
	flat := func(c *ruby.Call, params *ruby.Hash, name string, absent ruby.Value) (ruby.Value, error) {
		if v, ok := params.Get(str(name)); ok {
			return c.In.Call(v, "flatten", nil, nil)
		}
		return absent, nil
	}
	for _, k := range []*ruby.Class{entry, server} {
		missing(k, func(c *ruby.Call, d *nginxPart, name string) (ruby.Value, error) {
			return flat(c, d.params, name, ruby.NewArray())
		})
	}
	below := func(list []ruby.Value, of func(d *nginxPart) []ruby.Value) []ruby.Value {
		var out []ruby.Value
		for _, v := range list {
			out = append(out, of(v.(*ruby.Object).Data.(*nginxPart))...)
		}
		return out
	}
	def(entry, "locations", func(c *ruby.Call, d *nginxPart) (ruby.Value, error) {
		return ruby.NewArray(below(servers(d), locations)...), nil
	})

	type httpRes struct {
		file    string
		entries []ruby.Value
	}
	httpOf := func(d *nginxRes) *httpRes {
		file := "nginx_conf " + d.path
		top := &nginxPart{params: d.params, file: file}
		return &httpRes{file, parts(top, "http", entry, func(*ruby.Hash) string { return file + ", http entry" })}
	}
	for _, method := range []string{"to_s", "inspect"} {
		def(http, method, func(c *ruby.Call, d *httpRes) (ruby.Value, error) { return str(d.file + ", http entries"), nil })
	}
	def(http, "entries", func(c *ruby.Call, d *httpRes) (ruby.Value, error) { return ruby.NewArray(d.entries...), nil })
	def(http, "servers", func(c *ruby.Call, d *httpRes) (ruby.Value, error) {
		return ruby.NewArray(below(d.entries, servers)...), nil
	})
	def(http, "locations", func(c *ruby.Call, d *httpRes) (ruby.Value, error) {
		return ruby.NewArray(below(below(d.entries, servers), locations)...), nil
	})
	def(root, "http", func(c *ruby.Call, d *nginxRes) (ruby.Value, error) { return s.in.NewObject(http, httpOf(d)), nil })
	def(root, "servers", func(c *ruby.Call, d *nginxRes) (ruby.Value, error) {
		return ruby.NewArray(below(httpOf(d).entries, servers)...), nil
	})
	def(root, "locations", func(c *ruby.Call, d *nginxRes) (ruby.Value, error) {
		return ruby.NewArray(below(below(httpOf(d).entries, servers), locations)...), nil
	})
	missing(root, func(c *ruby.Call, d *nginxRes, name string) (ruby.Value, error) { return flat(c, d.params, name, nil) })
}

// nginxBuild is what nginx -V says of how it was built.
type nginxBuild struct {
	path, data string
}

var (
	nginxOpenSSL  = regexp.MustCompile(`built with OpenSSL\s(\S+)\s(\d+\s\S+\s\d{4})`)
	nginxCompiler = regexp.MustCompile(`built by (\S+)\s(\S+)\s(\S+)`)
	nginxSupport  = regexp.MustCompile(`(.*\S+) support enabled`)
	nginxModule   = regexp.MustCompile(`--with-(\S+)_module`)
	nginxVersion  = regexp.MustCompile(`nginx version: nginx/(\S+)\s`)
)

func defineNginxBuild(s *Set) {
	k := s.define("nginx", "Nginx", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		d := &nginxBuild{path: "/usr/sbin/nginx"}
		if given, ok := argString(c, 0); ok {
			d.path = given
		}
		if there, err := s.commandExists(d.path); err != nil || !there {
			if err == nil {
				err = s.skip("The `nginx` binary not found in the path provided.")
			}
			return nil, err
		}
		out, ok, err := s.stdout("%s -V 2>&1", d.path)
		if err == nil && !ok {
			err = s.skip("Error using the command nginx -V")
		}
		d.data = out
		return d, err
	})
	fixed(k, "Nginx Environment")
	def(k, "resource_id", func(_ *ruby.Call, d *nginxBuild) (ruby.Value, error) { return str(d.path), nil })
	get := func(name string, of func(data string) (ruby.Value, error)) {
		def(k, name, func(_ *ruby.Call, d *nginxBuild) (ruby.Value, error) { return of(d.data) })
	}
	find := func(re *regexp.Regexp, data string) ruby.Value {
		if m := re.FindStringSubmatch(data); m != nil {
			return str(m[1])
		}
		return nil
	}
	mash := func(re *regexp.Regexp, data string, names ...string) (ruby.Value, error) {
		m := re.FindStringSubmatch(data)
		h := ruby.NewHash()
		for i, n := range names {
			h.Set(str(n), strOrNil(m, i+1))
		}
		return s.in.Call(s.in.Class("Hashie::Mash"), "new", []ruby.Value{h}, nil)
	}
	get("version", func(data string) (ruby.Value, error) { return find(nginxVersion, data), nil })
	get("service", func(string) (ruby.Value, error) { return str("nginx"), nil })
	for _, name := range []string{
		"prefix", "sbin_path", "modules_path", "error_log_path", "http_log_path", "lock_path", "http_client_body_temp_path", "http_proxy_temp_path",
		"http_fastcgi_temp_path", "http_uwsgi_temp_path", "http_scgi_temp_path",
	} {
		option := regexp.MustCompile(`--` + strings.ReplaceAll(name, "_", "-") + `=(\S+)\s`)
		get(name, func(data string) (ruby.Value, error) { return find(option, data), nil })
	}
	get("openssl_version", func(data string) (ruby.Value, error) { return mash(nginxOpenSSL, data, "version", "date") })
	get("compiler_info", func(data string) (ruby.Value, error) { return mash(nginxCompiler, data, "compiler", "version", "date") })
	get("support_info", func(data string) (ruby.Value, error) {
		var words []string
		for _, m := range nginxSupport.FindAllStringSubmatch(data, -1) {
			words = append(words, m[1])
		}
		if words == nil {
			return nil, nil
		}
		return str(strings.Join(words, " ")), nil
	})
	get("modules", func(data string) (ruby.Value, error) {
		list := ruby.NewArray()
		for _, m := range nginxModule.FindAllStringSubmatch(data, -1) {
			list.Elems = append(list.Elems, str(m[1]))
		}
		return list, nil
	})
}
