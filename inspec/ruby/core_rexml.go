package ruby

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/antchfx/xpath"
)

// Bounds on what REXML is given.
const (
	xmlDepth  = 1000
	xpathSize = 2000
)

type xmlKind uint8

const (
	xmlDocument xmlKind = iota
	xmlElement
	xmlText
	xmlCData
	xmlComment
	xmlInstruction
)

// xmlNode is a node of a REXML document; attributes are nodes of their own.
type xmlNode struct {
	kind     xmlKind
	prefix   string
	name     string
	text     string
	attrs    []*xmlAttr
	children []*xmlNode
	parent   *xmlNode // nil for a document
	index    int      // among the parent's children
	object   *Object
}

type xmlAttr struct {
	prefix, name, value string
	of                  *xmlNode
	object              *Object
}

func expanded(prefix, name string) string {
	if prefix == "" {
		return name
	}
	return prefix + ":" + name
}

func (n *xmlNode) root() *xmlNode {
	for n.parent != nil {
		n = n.parent
	}
	return n
}

func (n *xmlNode) elements() []*xmlNode {
	var out []*xmlNode
	for _, c := range n.children {
		if c.kind == xmlElement {
			out = append(out, c)
		}
	}
	return out
}

func (n *xmlNode) isText() bool { return n.kind == xmlText || n.kind == xmlCData }

// firstText is the first text directly in n, nil when there is none.
func (n *xmlNode) firstText() *xmlNode {
	for _, c := range n.children {
		if c.isText() {
			return c
		}
	}
	return nil
}

func (n *xmlNode) attr(name string) *xmlAttr {
	for _, a := range n.attrs {
		if expanded(a.prefix, a.name) == name {
			return a
		}
	}
	return nil
}

// namespace is the URI that prefix stands for at n.
func (n *xmlNode) namespace(prefix string) string {
	name := "xmlns"
	if prefix != "" {
		name = "xmlns:" + prefix
	}
	for ; n != nil; n = n.parent {
		if a := n.attr(name); a != nil {
			return a.value
		}
	}
	return ""
}

// inner is all the text in n.
func (n *xmlNode) inner(b *strings.Builder) {
	if n.isText() {
		b.WriteString(n.text)
	}
	for _, c := range n.children {
		c.inner(b)
	}
}

var (
	xmlTextEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	xmlAttrEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;")
)

func (a *xmlAttr) source() string {
	return expanded(a.prefix, a.name) + "='" + xmlAttrEscapes.Replace(a.value) + "'"
}

func (n *xmlNode) head(b *strings.Builder) {
	if n.kind == xmlDocument {
		b.WriteString("<UNDEFINED")
		return
	}
	b.WriteString("<" + expanded(n.prefix, n.name))
	for _, a := range n.attrs {
		b.WriteString(" " + a.source())
	}
}

func (n *xmlNode) write(b *strings.Builder) {
	switch n.kind {
	case xmlText:
		b.WriteString(xmlTextEscapes.Replace(n.text))
	case xmlCData:
		b.WriteString("<![CDATA[" + n.text + "]]>")
	case xmlComment:
		b.WriteString("<!--" + n.text + "-->")
	case xmlInstruction:
		b.WriteString("<?" + n.name + " " + n.text + "?>")
	case xmlElement:
		n.head(b)
		if len(n.children) == 0 {
			b.WriteString("/>")
			return
		}
		b.WriteByte('>')
	}
	for _, c := range n.children {
		c.write(b)
	}
	if n.kind == xmlElement {
		b.WriteString("</" + expanded(n.prefix, n.name) + ">")
	}
}

// parseXML reads a document. Entities other than XML's own five stay as they
// are written; nothing outside the text is ever read.
func (in *Interp) parseXML(src string) (*xmlNode, error) {
	doc := &xmlNode{kind: xmlDocument}
	d := xml.NewDecoder(strings.NewReader(src))
	d.Strict = false
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	refuse := func(format string, args ...any) error {
		at := int(d.InputOffset())
		rest := src[min(at, len(src)):]
		return in.Raise(in.Class("REXML::ParseException"), "%s\nLine: %d\nPosition: %d\nLast 80 unconsumed characters:\n%s",
			fmt.Sprintf(format, args...), 1+strings.Count(src[:min(at, len(src))], "\n"), at, rest[:min(80, len(rest))])
	}
	cur, depth := doc, 0
	add := func(n *xmlNode) {
		n.parent, n.index = cur, len(cur.children)
		cur.children = append(cur.children, n)
	}
	for {
		begin := int(d.InputOffset())
		tok, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		var syntax *xml.SyntaxError
		if errors.As(err, &syntax) {
			return nil, refuse("%s", syntax.Msg)
		}
		if err != nil {
			return nil, refuse("%s", err)
		}
		if err := in.step(); err != nil {
			return nil, err
		}
		if err := in.charge(200 + int(d.InputOffset()) - begin); err != nil {
			return nil, err
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if depth++; depth > xmlDepth {
				return nil, refuse("elements are nested more than %d deep", xmlDepth)
			}
			if cur == doc && len(doc.elements()) > 0 {
				return nil, refuse("attempted adding second root element to document")
			}
			n := &xmlNode{kind: xmlElement, prefix: t.Name.Space, name: t.Name.Local}
			for _, a := range t.Attr {
				if n.attr(expanded(a.Name.Space, a.Name.Local)) != nil {
					return nil, refuse("Duplicate attribute %q", a.Name.Local)
				}
				n.attrs = append(n.attrs, &xmlAttr{prefix: a.Name.Space, name: a.Name.Local, value: a.Value, of: n})
			}
			add(n)
			cur = n
		case xml.EndElement:
			name := expanded(t.Name.Space, t.Name.Local)
			if cur == doc {
				return nil, refuse("Unexpected top-level end tag (got '%s')", name)
			}
			if have := expanded(cur.prefix, cur.name); have != name {
				return nil, refuse("Missing end tag for '%s' (got '%s')", have, name)
			}
			cur, depth = cur.parent, depth-1
		case xml.CharData:
			n := &xmlNode{kind: xmlText, text: string(t)}
			if strings.HasPrefix(src[begin:], "<![CDATA[") {
				n.kind = xmlCData
			}
			if cur != doc || strings.TrimSpace(n.text) != "" {
				add(n)
			}
		case xml.Comment:
			add(&xmlNode{kind: xmlComment, text: string(t)})
		case xml.ProcInst:
			if t.Target != "xml" {
				add(&xmlNode{kind: xmlInstruction, name: t.Target, text: string(t.Inst)})
			}
		}
	}
	if cur != doc {
		return nil, refuse("No close tag for /%s", expanded(cur.prefix, cur.name))
	}
	return doc, nil
}

// xmlNavigator walks a document for XPath. Each move is a step of the
// interpreter; one that passes a limit panics with the *LimitError.
type xmlNavigator struct {
	in   *Interp
	cur  *xmlNode
	attr int // -1: the node itself
}

func (x *xmlNavigator) moved(n *xmlNode) bool {
	if err := x.in.step(); err != nil {
		panic(err)
	}
	x.cur = n
	return true
}

func (x *xmlNavigator) NodeType() xpath.NodeType {
	switch {
	case x.attr >= 0:
		return xpath.AttributeNode
	case x.cur.kind == xmlDocument:
		return xpath.RootNode
	case x.cur.kind == xmlElement:
		return xpath.ElementNode
	case x.cur.isText():
		return xpath.TextNode
	}
	return xpath.CommentNode
}

func (x *xmlNavigator) LocalName() string {
	if x.attr >= 0 {
		return x.cur.attrs[x.attr].name
	}
	return x.cur.name
}

func (x *xmlNavigator) Prefix() string {
	if x.attr >= 0 {
		return x.cur.attrs[x.attr].prefix
	}
	return x.cur.prefix
}

func (x *xmlNavigator) NamespaceURL() string {
	switch {
	case x.attr < 0:
		return x.cur.namespace(x.cur.prefix)
	case x.Prefix() == "":
		return ""
	}
	return x.cur.namespace(x.Prefix())
}

func (x *xmlNavigator) Value() string {
	if x.attr >= 0 {
		return x.cur.attrs[x.attr].value
	}
	if x.cur.kind > xmlElement {
		return x.cur.text
	}
	var b strings.Builder
	x.cur.inner(&b)
	if err := x.in.charge(b.Len()); err != nil {
		panic(err)
	}
	return b.String()
}

func (x *xmlNavigator) Copy() xpath.NodeNavigator { c := *x; return &c }
func (x *xmlNavigator) MoveToRoot()               { x.attr = -1; x.moved(x.cur.root()) }

func (x *xmlNavigator) MoveToParent() bool {
	if x.attr >= 0 {
		x.attr = -1
		return true
	}
	return x.cur.parent != nil && x.moved(x.cur.parent)
}

func (x *xmlNavigator) MoveToNextAttribute() bool {
	if x.attr+1 >= len(x.cur.attrs) {
		return false
	}
	x.attr++
	return x.moved(x.cur)
}

func (x *xmlNavigator) MoveToChild() bool {
	return x.attr < 0 && len(x.cur.children) > 0 && x.moved(x.cur.children[0])
}

func (x *xmlNavigator) sibling(i int) bool {
	p := x.cur.parent
	return x.attr < 0 && p != nil && i >= 0 && i < len(p.children) && i != x.cur.index && x.moved(p.children[i])
}

func (x *xmlNavigator) MoveToFirst() bool    { return x.sibling(0) }
func (x *xmlNavigator) MoveToNext() bool     { return x.sibling(x.cur.index + 1) }
func (x *xmlNavigator) MoveToPrevious() bool { return x.sibling(x.cur.index - 1) }

func (x *xmlNavigator) MoveTo(other xpath.NodeNavigator) bool {
	o, ok := other.(*xmlNavigator)
	if ok {
		x.cur, x.attr = o.cur, o.attr
	}
	return ok
}

// XPath is the expression without a slash at its end, which REXML passes over.
func XPath(expr string) string {
	trimmed, ended := strings.CutSuffix(strings.TrimSpace(expr), "/")
	if !ended || trimmed == "" || strings.HasSuffix(trimmed, "/") {
		return expr
	}
	return trimmed
}

// xpath is what an expression finds from n: nodes, attributes, or one number,
// text or truth value.
func (in *Interp) xpath(n *xmlNode, expr string, names map[string]string) (found []Value, err error) {
	if len(expr) > xpathSize {
		return nil, in.Raise(in.eArgument, "XPath is longer than %d bytes", xpathSize)
	}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *LimitError:
			found, err = nil, r
		default:
			found, err = nil, in.Raise(in.Class("REXML::ParseException"), "XPath %.200q can't be evaluated: %s", expr, fmt.Sprint(r))
		}
	}()
	e, err := xpath.CompileWithNS(XPath(expr), names)
	if err != nil {
		return nil, in.Raise(in.Class("REXML::ParseException"), "XPath %.200q: %s", expr, err.Error())
	}
	switch r := e.Evaluate(&xmlNavigator{in, n, -1}).(type) {
	case *xpath.NodeIterator:
		for r.MoveNext() {
			at := r.Current().(*xmlNavigator)
			if err := in.charge(64); err != nil {
				return nil, err
			}
			if at.attr >= 0 {
				found = append(found, in.xmlAttribute(at.cur.attrs[at.attr]))
			} else {
				found = append(found, in.xmlValue(at.cur))
			}
		}
	case float64:
		if strings.HasPrefix(expr, "count(") || strings.HasPrefix(expr, "string-length(") {
			return []Value{int64(r)}, nil
		}
		return []Value{r}, nil
	case string:
		return []Value{NewString(r)}, nil
	case bool:
		return []Value{r}, nil
	}
	return found, nil
}

func (in *Interp) xmlValue(n *xmlNode) Value {
	if n == nil {
		return nil
	}
	if n.object == nil {
		names := [...]string{"Document", "Element", "Text", "CData", "Comment", "Instruction"}
		n.object = &Object{Class: in.Class("REXML::" + names[n.kind]), Data: n}
	}
	return n.object
}

func (in *Interp) xmlAttribute(a *xmlAttr) Value {
	if a == nil {
		return nil
	}
	if a.object == nil {
		a.object = &Object{Class: in.Class("REXML::Attribute"), Data: a}
	}
	return a.object
}

func (in *Interp) xmlValues(nodes []*xmlNode) *Array {
	a := &Array{Elems: make([]Value, len(nodes))}
	for i, n := range nodes {
		a.Elems[i] = in.xmlValue(n)
	}
	return a
}

// The payloads of REXML::Elements and REXML::Attributes.
type (
	xmlElements   struct{ of *xmlNode }
	xmlAttributes struct{ of *xmlNode }
)

func (in *Interp) bootREXML() {
	m := in.DefineModule(nil, "REXML")
	in.DefineClass(m, "ParseException", in.eRuntime)
	class := func(name string, super *Class) *Class { return in.DefineClass(m, name, super) }
	node := class("Node", nil)
	element := class("Element", node)
	document := class("Document", element)
	text := class("Text", node)
	attribute, attributes, elements := class("Attribute", node), class("Attributes", nil), class("Elements", nil)
	elements.Include(in.cEnumerable)
	attributes.Include(in.cEnumerable)
	for _, k := range []*Class{
		node, element, text, attribute, attributes, elements,
		class("CData", text), class("Comment", node), class("Instruction", node),
	} {
		k.noAlloc = true
	}

	document.DefN("initialize", 0, 2, func(c *Call) (Value, error) {
		doc := &xmlNode{kind: xmlDocument}
		if c.Arg(0) != nil {
			src, err := c.strArg(0)
			if err != nil {
				return nil, err
			}
			if doc, err = c.In.parseXML(src); err != nil {
				return nil, err
			}
		}
		o := c.Self.(*Object)
		o.Data, doc.object = doc, o
		return nil, nil
	})
	in.bootXMLNodes(node, element, text, attribute)
	in.bootXMLLists(elements, attributes)
	in.bootXPath(class("XPath", nil))
}

func (in *Interp) bootXMLNodes(node, element, text, attribute *Class) {
	// Each method is given the node, which a subclass's object may lack.
	def := func(k *Class, name string, most int, fn func(c *Call, n *xmlNode) (Value, error)) {
		k.DefN(name, 0, most, func(c *Call) (Value, error) {
			n, ok := c.Self.(*Object).Data.(*xmlNode)
			if !ok {
				n = &xmlNode{kind: xmlDocument}
			}
			return fn(c, n)
		})
	}
	def(node, "parent", 0, func(c *Call, n *xmlNode) (Value, error) { return c.In.xmlValue(n.parent), nil })
	def(node, "document", 0, func(c *Call, n *xmlNode) (Value, error) { return c.In.xmlValue(n.root()), nil })
	def(node, "to_s", -1, func(c *Call, n *xmlNode) (Value, error) {
		var b strings.Builder
		if n.kind == xmlCData || n.kind == xmlComment {
			b.WriteString(n.text)
		} else {
			n.write(&b)
		}
		return c.In.newString(b.String())
	})
	def(node, "node_type", 0, func(_ *Call, n *xmlNode) (Value, error) {
		return [...]Symbol{"document", "element", "text", "text", "comment", "processing_instruction"}[n.kind], nil
	})
	// beside is the next sibling in a direction that wanted takes.
	beside := func(step int, wanted func(n *xmlNode) bool) func(c *Call, n *xmlNode) (Value, error) {
		return func(c *Call, n *xmlNode) (Value, error) {
			if n.parent == nil {
				return nil, nil
			}
			for i := n.index + step; i >= 0 && i < len(n.parent.children); i += step {
				if k := n.parent.children[i]; wanted(k) {
					return c.In.xmlValue(k), nil
				}
			}
			return nil, nil
		}
	}
	anyNode := func(*xmlNode) bool { return true }
	isElement := func(n *xmlNode) bool { return n.kind == xmlElement }
	def(node, "next_sibling", 0, beside(1, anyNode))
	def(node, "previous_sibling", 0, beside(-1, anyNode))
	def(text, "value", 0, func(c *Call, n *xmlNode) (Value, error) { return c.In.newString(n.text) })
	def(text, "empty?", 0, func(_ *Call, n *xmlNode) (Value, error) { return n.text == "", nil })
	def(text, "inspect", 0, func(_ *Call, n *xmlNode) (Value, error) {
		if n.kind == xmlText {
			return NewString(inspectString(xmlTextEscapes.Replace(n.text))), nil
		}
		return NewString(inspectString(n.text)), nil
	})

	e := element
	def(e, "name", 0, func(_ *Call, n *xmlNode) (Value, error) {
		if n.kind == xmlDocument {
			return NewString(""), nil
		}
		return NewString(n.name), nil
	})
	def(e, "expanded_name", 0, func(_ *Call, n *xmlNode) (Value, error) { return NewString(expanded(n.prefix, n.name)), nil })
	def(e, "prefix", 0, func(_ *Call, n *xmlNode) (Value, error) { return NewString(n.prefix), nil })
	def(e, "namespace", 1, func(c *Call, n *xmlNode) (Value, error) {
		prefix := n.prefix
		if c.Arg(0) != nil {
			prefix = strings.TrimPrefix(strings.TrimPrefix(c.In.ToS(c.Arg(0)), "xmlns"), ":")
		}
		return NewString(n.namespace(prefix)), nil
	})
	def(e, "inspect", 0, func(_ *Call, n *xmlNode) (Value, error) {
		var b strings.Builder
		n.head(&b)
		if len(n.children) == 0 {
			return NewString(b.String() + "/>"), nil
		}
		return NewString(b.String() + "> ... </>"), nil
	})
	def(e, "root", 0, func(c *Call, n *xmlNode) (Value, error) {
		if all := n.root().elements(); len(all) > 0 {
			return c.In.xmlValue(all[0]), nil
		}
		return nil, nil
	})
	def(e, "root_node", 0, func(c *Call, n *xmlNode) (Value, error) { return c.In.xmlValue(n.root()), nil })
	def(e, "children", 0, func(c *Call, n *xmlNode) (Value, error) { return c.In.xmlValues(n.children), nil })
	e.alias("children", "to_a")
	def(e, "each", 0, func(c *Call, n *xmlNode) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		for _, k := range n.children {
			if _, err := c.yield(c.In.xmlValue(k)); err != nil {
				return nil, err
			}
		}
		return c.Self, nil
	})
	e.alias("each", "each_child")
	def(e, "elements", 0, func(c *Call, n *xmlNode) (Value, error) {
		return &Object{Class: c.In.Class("REXML::Elements"), Data: xmlElements{n}}, nil
	})
	def(e, "attributes", 0, func(c *Call, n *xmlNode) (Value, error) {
		return &Object{Class: c.In.Class("REXML::Attributes"), Data: xmlAttributes{n}}, nil
	})
	def(e, "attribute", 2, func(c *Call, n *xmlNode) (Value, error) { return c.In.xmlAttribute(n.attr(c.In.ToS(c.Arg(0)))), nil })
	def(e, "has_elements?", 0, func(_ *Call, n *xmlNode) (Value, error) { return len(n.elements()) > 0, nil })
	def(e, "has_attributes?", 0, func(_ *Call, n *xmlNode) (Value, error) { return len(n.attrs) > 0, nil })
	def(e, "has_text?", 0, func(_ *Call, n *xmlNode) (Value, error) { return n.firstText() != nil, nil })
	// at is the element that a path leads to, n itself without one.
	at := func(c *Call, n *xmlNode) (*xmlNode, error) {
		if c.Arg(0) == nil {
			return n, nil
		}
		found, err := c.In.xpath(n, c.In.ToS(c.Args[0]), nil)
		if err != nil || len(found) == 0 {
			return nil, err
		}
		o, _ := found[0].(*Object)
		if o == nil {
			return nil, nil
		}
		k, _ := o.Data.(*xmlNode)
		return k, nil
	}
	def(e, "text", 1, func(c *Call, n *xmlNode) (Value, error) {
		n, err := at(c, n)
		if err != nil || n == nil || n.firstText() == nil {
			return nil, err
		}
		return c.In.newString(n.firstText().text)
	})
	def(e, "get_text", 1, func(c *Call, n *xmlNode) (Value, error) {
		n, err := at(c, n)
		if err != nil || n == nil {
			return nil, err
		}
		return c.In.xmlValue(n.firstText()), nil
	})
	def(e, "texts", 0, func(c *Call, n *xmlNode) (Value, error) {
		a := &Array{}
		for _, k := range n.children {
			if k.isText() {
				a.Elems = append(a.Elems, c.In.xmlValue(k))
			}
		}
		return a, nil
	})
	def(e, "[]", 2, func(c *Call, n *xmlNode) (Value, error) {
		if i, ok := c.Arg(0).(int64); ok {
			if i < 0 {
				i += int64(len(n.children))
			}
			if i < 0 || i >= int64(len(n.children)) {
				return nil, nil
			}
			return c.In.xmlValue(n.children[i]), nil
		}
		if a := n.attr(c.In.ToS(c.Arg(0))); a != nil {
			return NewString(a.value), nil
		}
		return nil, nil
	})
	def(e, "next_element", 0, beside(1, isElement))
	def(e, "previous_element", 0, beside(-1, isElement))
	list := func(c *Call, n *xmlNode) (Value, error) {
		all := &Object{Class: c.In.Class("REXML::Elements"), Data: xmlElements{n}}
		if c.Name == "get_elements" {
			return c.In.send(c.fr, all, "to_a", c.Args, nil, false)
		}
		return c.In.send(c.fr, all, "each", c.Args, c.Block, false)
	}
	def(e, "each_element", 1, list)
	def(e, "get_elements", 1, list)

	a := attribute
	attr := func(name string, fn func(c *Call, a *xmlAttr) (Value, error)) {
		a.DefN(name, 0, 0, func(c *Call) (Value, error) { return fn(c, c.Self.(*Object).Data.(*xmlAttr)) })
	}
	attr("name", func(_ *Call, a *xmlAttr) (Value, error) { return NewString(a.name), nil })
	attr("expanded_name", func(_ *Call, a *xmlAttr) (Value, error) { return NewString(expanded(a.prefix, a.name)), nil })
	attr("prefix", func(_ *Call, a *xmlAttr) (Value, error) { return NewString(a.prefix), nil })
	attr("value", func(_ *Call, a *xmlAttr) (Value, error) { return NewString(a.value), nil })
	attr("to_s", func(_ *Call, a *xmlAttr) (Value, error) { return NewString(xmlAttrEscapes.Replace(a.value)), nil })
	attr("inspect", func(_ *Call, a *xmlAttr) (Value, error) { return NewString(a.source()), nil })
	attr("element", func(c *Call, a *xmlAttr) (Value, error) { return c.In.xmlValue(a.of), nil })
	attr("node_type", func(*Call, *xmlAttr) (Value, error) { return Symbol("attribute"), nil })
}

func (in *Interp) bootXMLLists(elements, attributes *Class) {
	// found are the elements of a path, all children without one.
	found := func(c *Call) (*Array, error) {
		n := c.Self.(*Object).Data.(xmlElements).of
		if c.Arg(0) == nil {
			return c.In.xmlValues(n.elements()), nil
		}
		all, err := c.In.xpath(n, c.In.ToS(c.Args[0]), nil)
		if err != nil {
			return nil, err
		}
		a := &Array{}
		for _, v := range all {
			if o, ok := v.(*Object); ok {
				if k, ok := o.Data.(*xmlNode); ok && k.kind == xmlElement {
					a.Elems = append(a.Elems, v)
				}
			}
		}
		return a, nil
	}
	elements.DefN("to_a", 0, 1, func(c *Call) (Value, error) { return found(c) })
	elements.DefN("each", 0, 1, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		a, err := found(c)
		if err != nil {
			return nil, err
		}
		for _, v := range a.Elems {
			if _, err := c.yield(v); err != nil {
				return nil, err
			}
		}
		return a, nil
	})
	elements.DefN("collect", 0, 1, func(c *Call) (Value, error) {
		a, err := found(c)
		if err != nil {
			return nil, err
		}
		return c.In.send(c.fr, a, "map", nil, c.Block, false)
	})
	elements.alias("collect", "map")
	elements.DefN("[]", 1, 2, func(c *Call) (Value, error) {
		n := c.Self.(*Object).Data.(xmlElements).of
		if i, ok := c.Args[0].(int64); ok {
			if i < 1 {
				return nil, c.In.Raise(nil, "index (%d) must be >= 1", i)
			}
			if all := n.elements(); i <= int64(len(all)) {
				return c.In.xmlValue(all[i-1]), nil
			}
			return nil, nil
		}
		all, err := c.In.xpath(n, c.In.ToS(c.Args[0]), nil)
		if err != nil || len(all) == 0 {
			return nil, err
		}
		return all[0], nil
	})
	elements.DefN("size", 0, 0, func(c *Call) (Value, error) {
		return int64(len(c.Self.(*Object).Data.(xmlElements).of.elements())), nil
	})
	elements.DefN("empty?", 0, 0, func(c *Call) (Value, error) {
		return len(c.Self.(*Object).Data.(xmlElements).of.elements()) == 0, nil
	})

	of := func(c *Call) *xmlNode { return c.Self.(*Object).Data.(xmlAttributes).of }
	attributes.DefN("[]", 1, 1, func(c *Call) (Value, error) {
		if a := of(c).attr(c.In.ToS(c.Args[0])); a != nil {
			return NewString(a.value), nil
		}
		return nil, nil
	})
	attributes.DefN("get_attribute", 1, 1, func(c *Call) (Value, error) {
		return c.In.xmlAttribute(of(c).attr(c.In.ToS(c.Args[0]))), nil
	})
	attributes.DefN("key?", 1, 1, func(c *Call) (Value, error) { return of(c).attr(c.In.ToS(c.Args[0])) != nil, nil })
	attributes.alias("key?", "has_key?", "include?", "member?")
	attributes.DefN("length", 0, 0, func(c *Call) (Value, error) { return int64(len(of(c).attrs)), nil })
	attributes.alias("length", "size")
	attributes.DefN("empty?", 0, 0, func(c *Call) (Value, error) { return len(of(c).attrs) == 0, nil })
	attributes.DefN("keys", 0, 0, func(c *Call) (Value, error) {
		a := &Array{}
		for _, k := range of(c).attrs {
			a.Elems = append(a.Elems, NewString(expanded(k.prefix, k.name)))
		}
		return a, nil
	})
	attributes.DefN("to_a", 0, 0, func(c *Call) (Value, error) {
		a := &Array{}
		for _, k := range of(c).attrs {
			a.Elems = append(a.Elems, c.In.xmlAttribute(k))
		}
		return a, nil
	})
	attributes.alias("to_a", "values")
	attributes.DefN("each", 0, 0, func(c *Call) (Value, error) {
		if c.Block == nil {
			return c.enum()
		}
		for _, k := range of(c).attrs {
			if _, err := c.yield(NewArray(NewString(expanded(k.prefix, k.name)), NewString(k.value))); err != nil {
				return nil, err
			}
		}
		return c.Self, nil
	})
	attributes.DefN("each_attribute", 0, 0, func(c *Call) (Value, error) {
		for _, k := range of(c).attrs {
			if _, err := c.yield(c.In.xmlAttribute(k)); err != nil {
				return nil, err
			}
		}
		return c.Self, nil
	})
	attributes.DefN("inspect", 0, 0, func(c *Call) (Value, error) {
		var parts []string
		for _, k := range of(c).attrs {
			parts = append(parts, inspectString(expanded(k.prefix, k.name))+"=>"+k.source())
		}
		return NewString("{" + strings.Join(parts, ", ") + "}"), nil
	})
	attributes.alias("inspect", "to_s")
}

func (in *Interp) bootXPath(k *Class) {
	match := func(c *Call) (*Array, error) {
		o, _ := c.Arg(0).(*Object)
		if o == nil {
			return &Array{}, nil
		}
		n, ok := o.Data.(*xmlNode)
		if !ok {
			return nil, c.In.Raise(c.In.eArgument, "XPath is asked of a %s, not of an XML node", c.In.className(o.Class))
		}
		path := "*"
		if c.Arg(1) != nil {
			path = c.In.ToS(c.Args[1])
		}
		var names map[string]string
		if h, ok := c.Arg(2).(*Hash); ok {
			names = map[string]string{}
			_ = h.Each(func(k, v Value) error { names[c.In.ToS(k)] = c.In.ToS(v); return nil })
		}
		found, err := c.In.xpath(n, path, names)
		return &Array{Elems: found}, err
	}
	m := in.singletonClass(k)
	m.DefN("match", 1, 5, func(c *Call) (Value, error) { return match(c) })
	m.DefN("first", 1, 5, func(c *Call) (Value, error) {
		a, err := match(c)
		if err != nil || len(a.Elems) == 0 {
			return nil, err
		}
		return a.Elems[0], nil
	})
	m.DefN("each", 1, 5, func(c *Call) (Value, error) {
		a, err := match(c)
		if err != nil {
			return nil, err
		}
		for _, v := range a.Elems {
			if c.Block != nil {
				if _, err := c.yield(v); err != nil {
					return nil, err
				}
			}
		}
		return a, nil
	})
}
