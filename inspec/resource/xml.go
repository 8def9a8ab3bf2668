package resource

import (
	"errors"
	"strings"

	"github.com/antchfx/xmlquery"
	"github.com/antchfx/xpath"

	"reeve.dev/reeve/inspec/ruby"
)

// xmlRes is an XML document that XPath asks.
type xmlRes struct{ doc *xmlquery.Node }

func defineXML(s *Set) {
	k := s.define("xml", "XmlConfig", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		raw, title, err := s.rawDocument(c.Args[0])
		c.Self.(*ruby.Object).SetIVar("@resource_name_supplement", title)
		if err != nil {
			return nil, err
		}
		doc, err := xmlquery.ParseWithOptions(strings.NewReader(raw), xmlquery.ParserOptions{})
		if err != nil {
			return nil, s.fail("Unable to parse XML: %s", err)
		}
		return &xmlRes{doc}, nil
	})
	k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) {
		if v := c.Self.(*ruby.Object).IVar("@resource_name_supplement"); v != nil {
			return str("XML " + c.In.ToS(v)), nil
		}
		return str("XML content"), nil
	})
	k.Def("resource_id", func(c *ruby.Call) (ruby.Value, error) {
		return c.Self.(*ruby.Object).IVar("@resource_name_supplement"), nil
	})
	def(k, "[]", func(c *ruby.Call, d *xmlRes) (ruby.Value, error) {
		path, _ := argString(c, 0)
		return s.xpath(d, path)
	})
	missing(k, func(c *ruby.Call, d *xmlRes, name string) (ruby.Value, error) { return s.xpath(d, name) })
}

// query lists what an XPath finds: the texts of elements, nil for one without,
// and of attributes, or one number, text or truth value.
func (s *Set) xpath(d *xmlRes, path string) (ruby.Value, error) {
	expr, err := xpath.Compile(path)
	if err != nil {
		return nil, s.argumentError("XPath %q: %s", path, err)
	}
	list := ruby.NewArray()
	switch found := expr.Evaluate(xmlquery.CreateXPathNavigator(d.doc)).(type) {
	case *xpath.NodeIterator:
		for found.MoveNext() {
			node := found.Current()
			switch node.NodeType() {
			case xpath.ElementNode:
				list.Elems = append(list.Elems, elementText(node.Copy()))
			default:
				list.Elems = append(list.Elems, str(node.Value()))
			}
		}
	case float64:
		if n := int64(found); float64(n) == found {
			list.Elems = append(list.Elems, n)
			break
		}
		list.Elems = append(list.Elems, found)
	case string:
		list.Elems = append(list.Elems, str(found))
	case bool:
		list.Elems = append(list.Elems, found)
	default:
		return nil, errors.New("xpath gave an unknown kind of value")
	}
	return list, nil
}

// elementText is the first text directly in an element, as REXML's text.
func elementText(node xpath.NodeNavigator) ruby.Value {
	for more := node.MoveToChild(); more; more = node.MoveToNext() {
		if node.NodeType() == xpath.TextNode {
			return str(node.Value())
		}
	}
	return nil
}
