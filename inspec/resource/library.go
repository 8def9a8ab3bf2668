package resource

import (
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// defineLibrary defines what the libraries of profiles use of InSpec's own
// helpers: FileReader, FindFiles, SimpleConfig, CommentParser, PasswdParser,
// Converter and ObjectTraverser; and Ruby's Forwardable.
func defineLibrary(s *Set) {
	in := s.in
	utils := in.DefineModule(in.Class("Inspec"), "Utils")

	reader := in.DefineModule(nil, "FileReader")
	reader.Def("read_file_content", func(c *ruby.Call) (ruby.Value, error) {
		path, _ := argString(c, 0)
		allowEmpty := false
		for _, a := range c.Args[min(1, len(c.Args)):] {
			allowEmpty = allowEmpty || ruby.Truthy(a)
		}
		text, err := s.readFile(path, allowEmpty)
		if err != nil {
			return nil, err
		}
		return str(text), nil
	})

	find := in.DefineModule(nil, "FindFiles")
	find.Def("find_files", func(c *ruby.Call) (ruby.Value, error) {
		files, ok, err := s.findFiles(c)
		if err != nil || !ok {
			return ruby.NewArray(), err
		}
		return ruby.Strings(files), nil
	})
	find.Def("find_files_or_warn", func(c *ruby.Call) (ruby.Value, error) {
		files, ok, err := s.findFiles(c)
		if err != nil || !ok {
			return nil, err
		}
		return ruby.Strings(files), nil
	})
	// Of train there are the names that libraries refer to.
	train := in.DefineModule(nil, "Train")
	in.DefineModule(train, "Extras")
	transports := in.DefineModule(train, "Transports")
	in.DefineClass(transports, "SSHFailed", in.Class("StandardError"))
	for _, name := range []string{"Local", "WinRM"} {
		in.DefineClass(in.DefineModule(transports, name), "Connection", nil)
	}
	defineForwardable(in)

	config := in.DefineClass(nil, "SimpleConfig", nil)
	config.Def("initialize", func(c *ruby.Call) (ruby.Value, error) {
		text, _ := argString(c, 0)
		params, err := s.parseConfig(text, options(c))
		c.Self.(*ruby.Object).SetIVar("@params", params)
		return nil, err
	})
	config.Def("params", func(c *ruby.Call) (ruby.Value, error) { return c.Self.(*ruby.Object).IVar("@params"), nil })
	config.Def("groups", func(c *ruby.Call) (ruby.Value, error) {
		names := ruby.NewArray()
		if params, ok := c.Self.(*ruby.Object).IVar("@params").(*ruby.Hash); ok {
			params.Each(func(k, v ruby.Value) error {
				if _, ok := v.(*ruby.Hash); ok {
					names.Elems = append(names.Elems, k)
				}
				return nil
			})
		}
		return names, nil
	})

	comments := in.DefineModule(utils, "CommentParser")
	comments.Def("parse_comment_line", func(c *ruby.Call) (ruby.Value, error) {
		raw, _ := argString(c, 0)
		mark, standalone := "#", false
		if v, ok := options(c).GetSym("comment_char"); ok && v != nil {
			mark = c.In.ToS(v)
		}
		if v, ok := options(c).GetSym("standalone_comments"); ok {
			standalone = ruby.Truthy(v)
		}
		line, _, _ := strings.Cut(raw, "\n")
		return ruby.NewArray(str(uncomment(line, mark, standalone)), int64(len([]rune(line)))), nil
	})

	passwd := in.DefineModule(utils, "PasswdParser")
	passwd.Def("parse_passwd_line", func(c *ruby.Call) (ruby.Value, error) {
		line, _ := argString(c, 0)
		return textRow(passwdFields, fields(line, ":")), nil
	})
	passwd.Def("parse_passwd", func(c *ruby.Call) (ruby.Value, error) {
		text, _ := argString(c, 0)
		list := ruby.NewArray()
		for _, line := range lines(text) {
			if !strings.HasPrefix(line, "#") {
				list.Elems = append(list.Elems, textRow(passwdFields, fields(line, ":")))
			}
		}
		return list, nil
	})

	converter := in.DefineModule(nil, "Converter")
	converter.Def("convert_to_i", func(c *ruby.Call) (ruby.Value, error) {
		if text, ok := c.Arg(0).(*ruby.String); ok {
			return intOrText(text.String()), nil
		}
		return c.Arg(0), nil
	})

	traverser := in.DefineModule(nil, "ObjectTraverser")
	traverser.Def("extract_value", func(c *ruby.Call) (ruby.Value, error) {
		keys, ok := c.Arg(0).(*ruby.Array)
		if !ok {
			return nil, nil
		}
		return s.traverse(c.Arg(1), keys.Elems)
	})
}

var findTypes = map[string]string{
	"block": "b", "character": "c", "directory": "d", "pipe": "p", "file": "f", "link": "l", "socket": "s", "door": "D",
}

// findFiles runs find with a path that the target's shell expands.
func (s *Set) findFiles(c *ruby.Call) ([]string, bool, error) {
	path, _ := argString(c, 0)
	cmd := "find " + path
	if v, _ := options(c).GetSym("type"); v != nil {
		cmd += " -type " + findTypes[c.In.ToS(v)]
	}
	if v, _ := options(c).GetSym("depth"); v != nil && leadingInt(c.In.ToS(v)) > 0 {
		cmd += " -maxdepth " + c.In.ToS(v)
	}
	quote := "'"
	if strings.Contains(path, "'") {
		quote = `"`
	}
	out, ok, err := s.stdout("sh -c %s%s%[1]s", quote, cmd)
	var files []string
	for _, line := range lines(out) {
		if line = strings.TrimSpace(line); line != "" {
			files = append(files, line)
		}
	}
	return files, ok, err
}

// defineForwardable makes the module whose def_delegators hands calls on to
// what another method, or an instance variable, gives.
func defineForwardable(in *ruby.Interp) {
	k := in.DefineModule(nil, "Forwardable")
	forward := func(c *ruby.Call, to, method, as string) {
		class, ok := c.Self.(*ruby.Class)
		if !ok {
			return
		}
		class.Def(as, func(c *ruby.Call) (ruby.Value, error) {
			var v ruby.Value
			if o, ok := c.Self.(*ruby.Object); ok && strings.HasPrefix(to, "@") {
				v = o.IVar(to)
			} else {
				var err error
				if v, err = c.In.Call(c.Self, to, nil, nil); err != nil {
					return nil, err
				}
			}
			return c.In.Call(v, method, c.Args, c.Block)
		})
	}
	one := func(c *ruby.Call) (ruby.Value, error) {
		to, _ := argString(c, 0)
		method, _ := argString(c, 1)
		as, renamed := argString(c, 2)
		if !renamed {
			as = method
		}
		forward(c, to, method, as)
		return ruby.Symbol(as), nil
	}
	several := func(c *ruby.Call) (ruby.Value, error) {
		to, _ := argString(c, 0)
		for _, m := range c.Args[min(1, len(c.Args)):] {
			forward(c, to, c.In.ToS(m), c.In.ToS(m))
		}
		return nil, nil
	}
	k.Def("def_delegator", one)
	k.Def("def_instance_delegator", one)
	k.Def("def_delegators", several)
	k.Def("def_instance_delegators", several)
}
