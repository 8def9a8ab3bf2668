package resource

import (
	"strconv"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// httpRes is a request that the target's own curl makes, as InSpec does from a
// remote target; so a profile reaches nothing that its target doesn't reach.
// It is made once, when something is first asked of it.
type httpRes struct {
	url  string
	opts *ruby.Hash

	made    bool
	status  ruby.Value
	body    ruby.Value
	headers ruby.Value
}

func defineHTTP(s *Set) {
	k := s.define("http", "Http", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		d := &httpRes{opts: options(c)}
		d.url, _ = argString(c, 0)
		o := c.Self.(*ruby.Object)
		o.SetIVar("@title", str("HTTP "+s.httpOption(d, "method", "GET")+" on "+d.url))
		there, err := s.commandExists("curl")
		if err == nil && !there {
			err = s.skip("curl is not available on the target machine")
		}
		return d, err
	})
	k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) {
		if v := c.Self.(*ruby.Object).IVar("@title"); v != nil {
			return v, nil
		}
		return str("HTTP Resource"), nil
	})
	headers := s.in.DefineClass(k, "Headers", s.in.Class("Hash"))
	header := func(c *ruby.Call, name string) (ruby.Value, error) {
		v, _ := c.Self.(*ruby.Hash).Get(str(strings.ToLower(name)))
		return v, nil
	}
	headers.Def("[]", func(c *ruby.Call) (ruby.Value, error) { return header(c, c.In.ToS(c.Arg(0))) })
	headers.DefMissing(header, nil)
	ask := func(name string, get func(d *httpRes) ruby.Value) {
		def(k, name, func(_ *ruby.Call, d *httpRes) (ruby.Value, error) {
			if err := s.request(d, headers); err != nil {
				return nil, err
			}
			return get(d), nil
		})
	}
	ask("status", func(d *httpRes) ruby.Value { return d.status })
	ask("body", func(d *httpRes) ruby.Value { return d.body })
	ask("headers", func(d *httpRes) ruby.Value { return d.headers })
	def(k, "http_method", func(_ *ruby.Call, d *httpRes) (ruby.Value, error) { return str(s.httpOption(d, "method", "GET")), nil })
	def(k, "resource_id", func(_ *ruby.Call, d *httpRes) (ruby.Value, error) { return str(d.url), nil })
}

func (s *Set) httpOption(d *httpRes, name, otherwise string) string {
	if v, ok := d.opts.GetSym(name); ok && v != nil {
		return s.in.ToS(v)
	}
	return otherwise
}

// request runs curl. An answer that didn't come leaves everything nil, as in
// InSpec.
func (s *Set) request(d *httpRes, headers *ruby.Class) error {
	if d.made {
		return nil
	}
	empty, err := s.in.Call(headers, "new", nil, nil)
	if err != nil {
		return err
	}
	h := empty.(*ruby.Hash)
	out, err := s.ask("curl", s.curl(d))
	if err != nil {
		return err
	}
	d.made, d.headers = true, h
	if out.ExitStatus != 0 {
		return nil
	}
	prelude, body, _ := strings.Cut(strings.ReplaceAll(string(out.Stdout), "\r", ""), "\n\n")
	for strings.HasPrefix(body, "HTTP/") { // of a redirect, or 100 Continue
		prelude, body, _ = strings.Cut(body, "\n\n")
	}
	first, rest, _ := strings.Cut(prelude, "\n")
	if w := strings.SplitN(first, " ", 3); len(w) > 1 {
		d.status = leadingInt(w[1])
	}
	d.body = str(strings.TrimSpace(body))
	for line := range strings.SplitSeq(rest, "\n") {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			h.Set(str(strings.ToLower(name)), str(strings.TrimSpace(value)))
		}
	}
	return nil
}

func (s *Set) curl(d *httpRes) string {
	get := func(h *ruby.Hash, name string) ruby.Value {
		v, _ := h.GetSym(name)
		return v
	}
	cmd := "curl -i"
	if method := s.httpOption(d, "method", "GET"); strings.EqualFold(method, "HEAD") {
		cmd += " --head"
	} else {
		cmd += " -X " + target.Quote(method)
	}
	switch proxy := get(d.opts, "proxy").(type) {
	case nil:
	case *ruby.Hash:
		cmd += " --proxy " + target.Quote(s.in.ToS(get(proxy, "uri"))) +
			" --proxy-user " + target.Quote(s.in.ToS(get(proxy, "user"))+":"+s.in.ToS(get(proxy, "password")))
	default:
		if name := s.in.ToS(proxy); name == "disable" {
			cmd += " --noproxy '*'"
		} else {
			cmd += " --proxy " + target.Quote(name)
		}
	}
	connect, read := leadingInt(s.httpOption(d, "open_timeout", "60")), leadingInt(s.httpOption(d, "read_timeout", "60"))
	cmd += " --connect-timeout " + strconv.FormatInt(connect, 10) + " --max-time " + strconv.FormatInt(connect+read, 10)
	if auth, ok := get(d.opts, "auth").(*ruby.Hash); ok && get(auth, "user") != nil && get(auth, "pass") != nil {
		cmd += " --user " + target.Quote(s.in.ToS(get(auth, "user"))+":"+s.in.ToS(get(auth, "pass")))
	}
	if v, ok := d.opts.GetSym("ssl_verify"); ok && !ruby.Truthy(v) {
		cmd += " --insecure"
	}
	if v := get(d.opts, "data"); v != nil {
		cmd += " --data " + target.Quote(s.in.ToS(v))
	}
	if v := get(d.opts, "max_redirects"); v != nil {
		cmd += " --location --max-redirs " + target.Quote(s.in.ToS(v))
	}
	if list, ok := get(d.opts, "headers").(*ruby.Hash); ok {
		list.Each(func(k, v ruby.Value) error {
			cmd += " -H " + target.Quote(s.in.ToS(k)+": "+s.in.ToS(v))
			return nil
		})
	}
	url := d.url
	if params, ok := get(d.opts, "params").(*ruby.Hash); ok {
		var parts []string
		params.Each(func(k, v ruby.Value) error {
			parts = append(parts, s.in.ToS(k)+"="+s.in.ToS(v))
			return nil
		})
		url += "?" + strings.Join(parts, "&")
	}
	return cmd + " " + target.Quote(url)
}
