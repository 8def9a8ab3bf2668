package threshold

import (
	"bytes"
	"strconv"

	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/hdf"
)

// GenerateOptions say how tight a generated threshold is.
type GenerateOptions struct {
	// Exact asks for the same counts; else as many passes or more, and as
	// many of everything else or fewer.
	Exact bool
	// Controls lists the ids, so that each control must stay what it is.
	Controls bool
	// SAF makes what SAF makes: the first profile alone counts, and the bounds
	// are in SAF's order.
	SAF bool
}

// Generate makes the threshold that results meet as they are, as SAF's
// "generate threshold" does. Threshold.Check and SAF.Check both read it; they
// agree on the counts unless a document has several profiles.
func Generate(doc *hdf.Results, opt GenerateOptions) ([]byte, error) {
	if opt.SAF {
		return generateSAF(doc, opt)
	}
	c := tally(doc, false)
	root := mapping()
	compliance := mapping()
	compliance.put("min", integer(c.compliance()))
	if opt.Exact {
		compliance.put("max", integer(c.compliance()))
	}
	root.put("compliance", compliance.node())
	for _, st := range statuses {
		status := mapping()
		for _, sev := range append([]Severity{"total"}, severities...) {
			if sev == None && st != NoImpact {
				continue // the format has no bound for it
			}
			ids := c.ids[st][sev]
			bounds := mapping()
			if opt.Exact || st == Passed {
				bounds.put("min", integer(len(ids)))
			}
			if opt.Exact || st != Passed {
				bounds.put("max", integer(len(ids)))
			}
			if opt.Controls && sev != "total" && len(ids) > 0 {
				var list yaml.Node
				if err := list.Encode(ids); err != nil {
					return nil, err
				}
				bounds.put("controls", &list)
			}
			status.put(string(sev), bounds.node())
		}
		root.put(string(st), status.node())
	}
	return root.text()
}

// generateSAF sets bounds in SAF's order: by severity, then the totals, which
// are never exact, then the controls, of severities that have no bound, too.
func generateSAF(doc *hdf.Results, opt GenerateOptions) ([]byte, error) {
	c := tally(doc, true)
	root := mapping()
	root.path("compliance").put("min", integer(c.compliance()))
	if opt.Exact {
		root.path("compliance").put("max", integer(c.compliance()))
	}
	for _, sev := range severities {
		for _, st := range statuses {
			if sev == None && st != NoImpact {
				continue
			}
			n := integer(len(c.ids[st][sev]))
			if opt.Exact || st == Passed {
				root.path(string(st), string(sev)).put("min", n)
			}
			if opt.Exact || st != Passed {
				root.path(string(st), string(sev)).put("max", n)
			}
		}
	}
	for _, st := range statuses {
		last := "max"
		if st == Passed {
			last = "min"
		}
		root.path(string(st), "total").put(last, integer(len(c.ids[st]["total"])))
	}
	if opt.Controls {
		for _, n := range leaves(doc, true) {
			list := root.path(string(StatusOf(*n)), string(SeverityOf(*n)), "controls")
			list.Kind = yaml.SequenceNode
			var id yaml.Node
			if err := id.Encode(n.ID); err != nil {
				return nil, err
			}
			list.Content = append(list.Content, &id)
		}
	}
	return root.text()
}

// ordered is a YAML mapping whose keys stay in order.
type ordered yaml.Node

func mapping() *ordered { return &ordered{Kind: yaml.MappingNode} }

func (m *ordered) put(key string, value *yaml.Node) {
	m.Content = append(m.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, value)
}

// path is the node at these keys, made where it isn't there.
func (m *ordered) path(keys ...string) *ordered {
next:
	for _, key := range keys {
		for i := 0; i < len(m.Content); i += 2 {
			if m.Content[i].Value == key {
				m = (*ordered)(m.Content[i+1])
				continue next
			}
		}
		inner := mapping()
		m.put(key, inner.node())
		m = inner
	}
	return m
}

func (m *ordered) node() *yaml.Node { return (*yaml.Node)(m) }

func (m *ordered) text() ([]byte, error) {
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(m.node()); err != nil {
		return nil, err
	}
	return out.Bytes(), e.Close()
}

func integer(n int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(n)}
}
