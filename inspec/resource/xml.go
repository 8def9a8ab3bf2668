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
		if xmlDepth(doc) > maxXMLDepth {
			return nil, s.fail("Unable to parse XML: more than %d elements within each other", maxXMLDepth)
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

// maxXMLDepth bounds how deep elements lie within each other: their text is
// gathered by recursion.
const maxXMLDepth = 10_000

func xmlDepth(doc *xmlquery.Node) (deepest int) {
	depth := 0
	for n := doc; n != nil; {
		deepest = max(deepest, depth)
		if n.FirstChild != nil {
			n, depth = n.FirstChild, depth+1
			continue
		}
		for n != nil && n.NextSibling == nil {
			n, depth = n.Parent, depth-1
		}
		if n != nil {
			n = n.NextSibling
		}
	}
	return deepest
}

// xpath lists what an XPath finds: the texts of elements, nil for one without,
// and of attributes, or one number, text or truth value.
func (s *Set) xpath(d *xmlRes, path string) (_ ruby.Value, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *ruby.LimitError:
			err = r
		default:
			err = s.argumentError("XPath %.200q can't be evaluated: %v", path, r)
		}
	}()
	expr, err := xpath.Compile(ruby.XPath(path))
	if err != nil {
		return nil, s.argumentError("XPath %q: %s", path, err)
	}
	list := ruby.NewArray()
	switch found := expr.Evaluate(&xmlSteps{xmlquery.CreateXPathNavigator(d.doc), s.in}).(type) {
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
// xmlSteps walks a document for XPath. Each move is a step of the interpreter;
// one that passes a limit panics with the *ruby.LimitError.
type xmlSteps struct {
	*xmlquery.NodeNavigator
	in *ruby.Interp
}

func (x *xmlSteps) step(err error) {
	if err != nil {
		panic(err)
	}
}

func (x *xmlSteps) MoveToParent() bool {
	x.step(x.in.Step())
	return x.NodeNavigator.MoveToParent()
}

func (x *xmlSteps) MoveToNextAttribute() bool {
	x.step(x.in.Step())
	return x.NodeNavigator.MoveToNextAttribute()
}

func (x *xmlSteps) MoveToChild() bool {
	x.step(x.in.Step())
	return x.NodeNavigator.MoveToChild()
}

func (x *xmlSteps) MoveToNext() bool {
	x.step(x.in.Step())
	return x.NodeNavigator.MoveToNext()
}

func (x *xmlSteps) MoveToPrevious() bool {
	x.step(x.in.Step())
	return x.NodeNavigator.MoveToPrevious()
}

func (x *xmlSteps) Value() string {
	text := x.NodeNavigator.Value()
	x.step(x.in.Charge(len(text)))
	return text
}

func (x *xmlSteps) Copy() xpath.NodeNavigator {
	return &xmlSteps{x.NodeNavigator.Copy().(*xmlquery.NodeNavigator), x.in}
}

func (x *xmlSteps) MoveTo(other xpath.NodeNavigator) bool {
	o, ok := other.(*xmlSteps)
	return ok && x.NodeNavigator.MoveTo(o.NodeNavigator)
}

func elementText(node xpath.NodeNavigator) ruby.Value {
	for more := node.MoveToChild(); more; more = node.MoveToNext() {
		if node.NodeType() == xpath.TextNode {
			return str(node.Value())
		}
	}
	return nil
}
