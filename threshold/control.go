package threshold

import (
	"math"
	"strings"

	"reeve.dev/reeve/hdf"
)

// Status is SAF's judgement of a control, under the name that threshold
// files have for it.
type Status string

// The statuses of a control.
const (
	Passed   Status = "passed"
	Failed   Status = "failed"
	Skipped  Status = "skipped"   // SAF: Not Reviewed
	Error    Status = "error"     // SAF: Profile Error
	NoImpact Status = "no_impact" // SAF: Not Applicable
)

// did is the status as the verb of a sentence about controls.
func (s Status) did() string {
	switch s {
	case Skipped:
		return "skipped"
	case Error:
		return "could not be judged"
	case NoImpact:
		return "did not apply"
	}
	return string(s)
}

// Severity is how grave a control is.
type Severity string

// The severities of a control.
const (
	Critical Severity = "critical"
	High     Severity = "high"
	Medium   Severity = "medium"
	Low      Severity = "low"
	None     Severity = "none"
)

// StatusOf judges a control as inspecjs does: a result in error, or with a
// backtrace (an empty one too), makes it an error; then a waiver or an impact
// of 0 makes it not applicable; then the worst of its results counts, and one
// without results is an error. The status that the document gives the
// control doesn't matter.
func StatusOf(c hdf.Control) Status {
	has := map[hdf.Status]bool{}
	for _, r := range c.Results {
		if r.Backtrace != nil {
			r.Status = hdf.Error
		}
		has[r.Status] = true
	}
	switch {
	case has[hdf.Error]:
		return Error
	case truthy(c.WaiverData["skipped_due_to_waiver"]) || c.Impact == 0:
		return NoImpact
	case has[hdf.Failed]:
		return Failed
	case has[hdf.Passed]:
		return Passed
	case has[hdf.Skipped]:
		return Skipped
	}
	return Error
}

// SeverityOf is the control's tag severityoverride or severity, if it is one
// of the severities in whatever case, and else comes from its impact. As in
// inspecjs a tag is kept as it is written, so that "High" isn't High.
func SeverityOf(c hdf.Control) Severity {
	for _, tag := range []string{"severityoverride", "severity"} {
		s, _ := c.Tags[tag].(string)
		switch Severity(strings.ToLower(s)) {
		case Critical, High, Medium, Low, None:
			return Severity(s)
		}
	}
	return Severity(hdf.SeverityOf(&c))
}

// truthy is JavaScript's notion of true for a value from JSON.
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case float64:
		return v != 0 && !math.IsNaN(v)
	case int:
		return v != 0
	}
	return true
}

// counts are the ids of the controls by status and severity; the severity
// "total" has all of a status.
type counts struct {
	ids map[Status]map[Severity][]string
}

// tally counts the controls of a document, those of the first profile only
// or of all. A control that overlays change counts once, as it is in the
// profile at the root.
func tally(doc *hdf.Results, firstOnly bool) counts {
	c := counts{ids: map[Status]map[Severity][]string{}}
	for _, s := range statuses {
		c.ids[s] = map[Severity][]string{}
	}
	for _, n := range leaves(doc, firstOnly) {
		st, sev := StatusOf(*n), SeverityOf(*n)
		c.ids[st][sev] = append(c.ids[st][sev], n.ID)
		c.ids[st]["total"] = append(c.ids[st]["total"], n.ID)
	}
	return c
}

// compliance is the rounded percentage of the controls that passed among
// those that apply; 0 where none does.
func (c counts) compliance() int {
	n := func(s Status) int { return len(c.ids[s]["total"]) }
	all := n(Passed) + n(Failed) + n(Skipped) + n(Error)
	if all == 0 {
		return 0
	}
	return int(math.Floor(100*float64(n(Passed))/float64(all) + 0.5))
}

// whereIs says what became of a control.
func (c counts) whereIs(id string) string {
	for _, st := range statuses {
		for sev, ids := range c.ids[st] {
			for _, x := range ids {
				if x == id && sev != "total" {
					return "(" + st.did() + ", severity " + string(sev) + ")"
				}
			}
		}
	}
	return "(not in the results)"
}

// node is a control in the web of overlays.
type node struct {
	control  *hdf.Control
	extended bool  // another control extends it
	extends  *node // the control that it extends
}

func (n *node) root() *hdf.Control {
	for n.extends != nil {
		n = n.extends
	}
	return n.control
}

// leaves are the controls that nothing extends, each taken at its root, as
// inspecjs links them: a profile's parent_profile names the overlay on it,
// whose controls extend those of the same id; without overlays a repeated id
// extends the first one that has results.
func leaves(doc *hdf.Results, firstOnly bool) []*hdf.Control {
	nodes := make([][]*node, len(doc.Profiles))
	for i := range doc.Profiles {
		for j := range doc.Profiles[i].Controls {
			nodes[i] = append(nodes[i], &node{control: &doc.Profiles[i].Controls[j]})
		}
	}
	bases, overlaid := overlays(doc)
	alone := firstOfEach(nodes)
	ids := byID(nodes)
	for i := range nodes {
		for _, n := range nodes[i] {
			if len(bases[i]) > 0 {
				n.extend(ancestor(ids, bases[i], n.control.ID))
			} else if !overlaid[i] {
				n.extend(alone[n.control.ID])
			}
		}
	}
	var out []*hdf.Control
	for i := range nodes {
		if firstOnly && i > 0 {
			break
		}
		for _, n := range nodes[i] {
			if !n.extended {
				out = append(out, n.root())
			}
		}
	}
	return out
}

func (n *node) extend(base *node) {
	// A circle of overlays, which only a forged document has, is cut.
	for b := base; b != nil; b = b.extends {
		if b == n {
			return
		}
	}
	if base != nil {
		base.extended, n.extends = true, base
	}
}

// overlays gives for each profile those that it is an overlay on, and
// whether it has an overlay itself.
func overlays(doc *hdf.Results) (bases [][]int, overlaid []bool) {
	bases, overlaid = make([][]int, len(doc.Profiles)), make([]bool, len(doc.Profiles))
	byName := map[string]int{}
	for i, p := range doc.Profiles {
		if _, ok := byName[p.Name]; !ok {
			byName[p.Name] = i
		}
	}
	for i, p := range doc.Profiles {
		if over, ok := byName[p.ParentProfile]; ok && p.ParentProfile != "" && over != i {
			bases[over] = append(bases[over], i)
			overlaid[i] = true
		}
	}
	return bases, overlaid
}

// byID finds each profile's first control of an id.
func byID(nodes [][]*node) []map[string]*node {
	out := make([]map[string]*node, len(nodes))
	for i, profile := range nodes {
		out[i] = make(map[string]*node, len(profile))
		for _, n := range profile {
			if out[i][n.control.ID] == nil {
				out[i][n.control.ID] = n
			}
		}
	}
	return out
}

func ancestor(ids []map[string]*node, bases []int, id string) *node {
	for _, b := range bases {
		if n := ids[b][id]; n != nil {
			return n
		}
	}
	return nil
}

// firstOfEach gives for each id the first control with results, or else the
// first one.
func firstOfEach(nodes [][]*node) map[string]*node {
	out := map[string]*node{}
	for _, profile := range nodes {
		for _, n := range profile {
			have, ok := out[n.control.ID]
			if !ok || len(have.control.Results) == 0 && len(n.control.Results) > 0 {
				out[n.control.ID] = n
			}
		}
	}
	return out
}
