package resource

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// nftRes is a chain or a set of nftables, whose program prints differently in
// each version.
type nftRes struct {
	nft                          string
	family, table, chain, set    string
	ignoreComments               bool
	asJSON, stateless, asNumbers string
}

var (
	nftVersion = regexp.MustCompile(`^nftables v(\S+) `)
	nftChain   = regexp.MustCompile(`type (\S+) hook (\S+) priority (\S+); policy (\S+);`)
	nftSetType = regexp.MustCompile(`(?m)^\s*type (.*?)\s*$`)
	nftFlags   = regexp.MustCompile(`(?m)^\s*flags (.*?)\s*$`)
	nftSize    = regexp.MustCompile(`(?m)^\s*size (\d+)`)
	nftHead    = regexp.MustCompile(`^(table|chain)|^}$`)
	nftSetHead = regexp.MustCompile(`^(table|set|type|size|flags|typeof|auto-merge)|^}$`)
	nftComment = regexp.MustCompile(` comment "([^"]*)"`)
)

func defineNFTables(s *Set) {
	k := s.define("nftables", "NfTables", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		d := &nftRes{}
		for name, to := range map[string]*string{"family": &d.family, "table": &d.table, "chain": &d.chain, "set": &d.set} {
			v, _ := options(c).GetSym(name)
			*to = c.In.ToS(v)
		}
		v, _ := options(c).GetSym("ignore_comments")
		d.ignoreComments = ruby.Truthy(v)
		word := func(name, value string) string {
			if value == "" {
				return ""
			}
			return name + ": " + value
		}
		title := fmt.Sprintf("nftables (%s %s %s %s)", word("family", d.family), word("table", d.table), word("chain", d.chain), word("set", d.set))
		c.Self.(*ruby.Object).SetIVar("@title", str(title))
		var err error
		if d.nft, err = s.tool("nft", "Could not find `nft`"); err != nil {
			return nil, err
		}
		switch {
		case d.family == "" || d.table == "":
			return nil, s.fail("nftables family and table are mandatory.")
		case d.chain == "" && d.set == "":
			return nil, s.fail("You must specify either a chain or a set name.")
		case d.chain != "" && d.set != "":
			return nil, s.fail("You must specify either a chain or a set name, not both.")
		}
		out, _, err := s.stdout("%s --version", d.nft)
		if err != nil {
			return nil, err
		}
		m := nftVersion.FindStringSubmatch(out)
		if m == nil {
			return nil, s.fail("%s doesn't say its version", d.nft)
		}
		d.flagsOf(m[1])
		return d, nil
	})
	k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) { return c.Self.(*ruby.Object).IVar("@title"), nil })
	list := func(d *nftRes, flags ...string) (string, bool, error) {
		kind, name := "chain", d.chain
		if d.set != "" {
			kind, name = "set", d.set
		}
		cmd := []string{d.nft}
		for _, f := range flags {
			if f != "" {
				cmd = append(cmd, f)
			}
		}
		return s.stdout("%s list %s %s %s %s", strings.Join(cmd, " "), kind, d.family, d.table, name)
	}
	has := func(c *ruby.Call, all []string) bool {
		want, _ := argString(c, 0)
		return slices.ContainsFunc(all, func(one string) bool { return strings.EqualFold(one, want) })
	}
	def(k, "has_rule?", func(c *ruby.Call, d *nftRes) (ruby.Value, error) {
		out, ok, err := list(d, d.stateless, d.asNumbers)
		if err != nil || !ok {
			return false, err
		}
		var rules []string
		for _, line := range lines(strings.ReplaceAll(out, "\t", "")) {
			if nftHead.MatchString(line) {
				continue
			}
			if d.ignoreComments {
				line = nftComment.ReplaceAllString(line, "")
			}
			rules = append(rules, strings.TrimSpace(line))
		}
		return has(c, rules), nil
	})
	def(k, "has_element?", func(c *ruby.Call, d *nftRes) (ruby.Value, error) {
		out, ok, err := list(d, d.stateless)
		if err != nil || !ok {
			return false, err
		}
		var elements []string
		for _, line := range lines(strings.ReplaceAll(out, "\t", "")) {
			if nftSetHead.MatchString(line) {
				continue
			}
			for _, e := range strings.Split(strings.NewReplacer("elements = {", "", "}", "").Replace(line), ",") {
				if e = strings.TrimSpace(e); e != "" {
					elements = append(elements, e)
				}
			}
		}
		return has(c, elements), nil
	})
	for _, name := range []string{"flags", "hook", "policy", "prio", "size", "type"} {
		def(k, name, func(_ *ruby.Call, d *nftRes) (ruby.Value, error) {
			kind, valid := "chains", []string{"hook", "policy", "prio", "type"}
			if d.set != "" {
				kind, valid = "sets", []string{"flags", "size", "type"}
			}
			if !slices.Contains(valid, name) {
				return nil, s.skip("`%s` attribute is not valid for %s", name, kind)
			}
			out, ok, err := list(d, d.stateless, d.asJSON)
			if err != nil {
				return nil, err
			}
			var attrs map[string]ruby.Value
			switch {
			case !ok:
			case d.asJSON != "":
				if attrs, err = s.nftJSON(out, kind); err != nil {
					return nil, err
				}
			default:
				attrs = nftText(out, kind)
			}
			if v, ok := attrs[name]; ok {
				return v, nil
			}
			if name == "flags" {
				return ruby.NewArray(), nil
			}
			return str(""), nil
		})
	}
}

// flagsOf chooses the flags that a version of nft understands.
func (d *nftRes) flagsOf(version string) {
	var v [3]int
	for i, part := range strings.SplitN(version, ".", 3) {
		v[i] = int(leadingInt(part))
	}
	before := func(major, minor, patch int) bool { return slices.Compare(v[:], []int{major, minor, patch}) < 0 }
	d.asNumbers = "-nn"
	if before(0, 8, 0) {
		return
	}
	d.stateless = "-s"
	if before(0, 9, 0) {
		return
	}
	d.asJSON = "-j"
	if !before(0, 9, 3) {
		d.asNumbers = "-y"
	}
}

func nftText(out, kind string) map[string]ruby.Value {
	attrs := map[string]ruby.Value{}
	if kind == "chains" {
		if m := nftChain.FindStringSubmatch(out); m != nil {
			attrs["type"], attrs["hook"], attrs["policy"] = str(m[1]), str(m[2]), str(m[4])
			attrs["prio"] = leadingInt(m[3])
		}
		return attrs
	}
	if m := nftSetType.FindStringSubmatch(out); m != nil {
		attrs["type"] = str(m[1])
	}
	if m := nftFlags.FindStringSubmatch(out); m != nil {
		attrs["flags"] = ruby.Strings(strings.Split(m[1], ","))
	}
	if m := nftSize.FindStringSubmatch(out); m != nil {
		n, _ := strconv.ParseInt(m[1], 10, 64)
		attrs["size"] = n
	}
	return attrs
}

func (s *Set) nftJSON(out, kind string) (map[string]ruby.Value, error) {
	var doc struct {
		Nftables []map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		return nil, s.fail("nft printed no JSON: %s", err)
	}
	attrs := map[string]ruby.Value{}
	for _, o := range doc.Nftables {
		for name, v := range o[strings.TrimSuffix(kind, "s")] {
			switch v := v.(type) {
			case string:
				attrs[name] = str(v)
			case float64:
				attrs[name] = int64(v)
			case []any:
				list := ruby.NewArray()
				var words []string
				for _, e := range v {
					if text, ok := e.(string); ok {
						list.Elems = append(list.Elems, str(text))
						words = append(words, text)
					}
				}
				attrs[name] = list
				if name == "type" { // of a set of several fields
					attrs[name] = str(strings.Join(words, " . "))
				}
			}
		}
	}
	return attrs, nil
}
