# What profiles ask of REXML; rexml.out holds the answers of Ruby 3.1's.
require "rexml/document"
out=[]
["<a><b></a>","", "<a/>","</a>", "<a><b></b>"].each{|s| begin; d=REXML::Document.new(s); out << [s, d.root, d.to_s]; rescue => e; out << [s, e.class, e.message]; end}
d=REXML::Document.new(%q(<?xml version="1.0"?><!-- c --><r x="1&amp;2" y="&quot;q"><a>t1<![CDATA[c&d]]>t2</a><b xmlns:n="u" n:z="1">  <n:c/></b>&lt;tail</r>))
out << d
out << d.root
out << d.root.to_s
out << d.root.attributes << d.root.attributes["x"] << d.root.attributes.get_attribute("x") << d.root.attributes.get_attribute("x").to_s << d.root.elements["a"].text
out << d.root.elements["a"].texts << d.root.children.map(&:class) << d.root.elements.to_a << d.elements.size << d.root.elements["b"].children.inspect
out << d.root.elements["b"].elements[1].name << d.root.elements["b"].elements[1].expanded_name << d.root.elements["b"].elements[1].namespace << d.root.text << d.root.elements["zz"] << d.elements["//a/@q"] << d.elements["/r/@x"]
out << REXML::XPath.match(d,"count(//a)") << REXML::XPath.match(d,"//@*").size << REXML::XPath.first(d,"//text()") << REXML::XPath.match(d, "string(//a)") << REXML::XPath.first(d.root,"/r/b") << REXML::XPath.match(d,"//*").size << d.root.attributes.map{|x| x} << d.root.attributes.to_a << d.root.attributes.length << d.root.attributes.keys
out << d.root["x"] << d.root[0] << d.root.elements.collect{|e| e.name} << d.root.elements.first << d.root.has_text? << d.root.parent.class << d.root.root.name << d.document.equal?(d) << d.root.elements["a"].next_element.name << d.root.elements["a"].get_text.class << d.root.get_text << d.root.elements["b"].attributes.to_a.size
out << d.root.node_type << d.root.attribute("x").value << (d.root.elements["a"] == d.root.elements["a"]) << d.name << d.root.elements.empty? << d.root.elements["a"].text.class << d.root.get_elements("a") << REXML::XPath.each(d,"//a"){|x|}
x=[]; d.root.attributes.each{|k,v| x << [k,v]}; out << x
x=[]; d.root.elements.each("a"){|k| x << k.text}; out << x
x=[]; d.root.each_element{|k| x << k.name}; out << x
x=[]; d.elements.each("r/b/*"){|k| x << k.name}; out << x
doc=REXML::Document.new("<c><g name='a'><i v='1'/><i v='2'>two</i></g><g name='b'><s>x y</s></g><g name='b'><s>View 2</s></g></c>")
["/c/g[@name='b']", "/c/g[@name = 'b']/s", "//g/i[@v='2']", "/c/g/s[contains(., 'View')]/../@name", "//i[2]", "//g[last()]", "//i[text()='two']", "//*[local-name()='s']", "//i/@v", ".//s", "//s | //i", "//g[not(@name='a')]", "//g[i]", "/c/g[2]/s/text()", "//i/following-sibling::i", "//i[position()=1]", "//s[starts-with(.,'x')]", "//g[@name='b' and s='x y']", "sum(//i/@v)", "//nothing"].each{|q| out << [q, REXML::XPath.match(doc,q)]}
out
