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
	// SAF counts the first profile alone, as SAF does.
	SAF bool
}

// Generate makes the threshold that results meet as they are, as SAF's
// "generate threshold" does. Threshold.Check and SAF.Check both read it; they
// agree on the counts unless a document has several profiles.
func Generate(doc *hdf.Results, opt GenerateOptions) ([]byte, error) {
	c := tally(doc, opt.SAF)
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
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(2)
	if err := e.Encode(root.node()); err != nil {
		return nil, err
	}
	return out.Bytes(), e.Close()
}

// ordered is a YAML mapping whose keys stay in order.
type ordered struct{ n yaml.Node }

func mapping() *ordered { return &ordered{yaml.Node{Kind: yaml.MappingNode}} }

func (m *ordered) put(key string, value *yaml.Node) {
	m.n.Content = append(m.n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, value)
}

func (m *ordered) node() *yaml.Node { return &m.n }

func integer(n int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(n)}
}
