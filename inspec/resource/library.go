package resource

import (
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// defineLibrary defines what the libraries of profiles use of InSpec's own
// helpers: FileReader, SimpleConfig, CommentParser, PasswdParser, Converter
// and ObjectTraverser.
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
