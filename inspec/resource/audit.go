package resource

import (
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

// aideGroups are AIDE's own names for several rules.
var aideGroups = map[string][]string{
	"R": {"p", "i", "l", "n", "u", "g", "s", "m", "c", "md5"},
	"L": {"p", "i", "l", "n", "u", "g"},
	">": {"p", "l", "u", "g", "i", "n", "S"},
}

// aideLine is what AIDE watches and by which rules.
type aideLine struct {
	path  string
	rules []string
}

// parseAide reads aide.conf(5): named groups of rules, and the selection lines
// that use them.
func parseAide(text string) []aideLine {
	groups := map[string][]string{}
	expand := func(words string) []string {
		var out []string
		for _, w := range strings.Split(words, "+") {
			if known, ok := groups[w]; ok {
				out = append(out, known...)
			} else if known, ok := aideGroups[w]; ok {
				out = append(out, known...)
			} else {
				out = append(out, w)
			}
			if len(out) > 1000 {
				return out
			}
		}
		return out
	}
	var out []aideLine
	for _, line := range uncommented(text, "#") {
		switch w := strings.Fields(line); {
		case strings.Contains(line, " = "):
			parts := strings.Split(strings.Join(w, ""), "=")
			groups[parts[0]] = expand(parts[len(parts)-1])
		case strings.ContainsRune("/!=", rune(line[0])):
			out = append(out, aideLine{strings.TrimSuffix(w[0], "/"), expand(w[len(w)-1])})
		}
	}
	return out
}

func defineAide(s *Set) {
	type aideRes struct {
		path  string
		lines []aideLine
	}
	k := s.define("aide_conf", "AideConf", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		d := &aideRes{path: "/etc/aide.conf"}
		if given, ok := argString(c, 0); ok {
			d.path = given
		}
		text, err := s.readFile(d.path, false)
		d.lines = parseAide(text)
		return d, err
	})
	fixed(k, "AIDE Config")
	def(k, "resource_id", func(_ *ruby.Call, d *aideRes) (ruby.Value, error) { return str(d.path), nil })
	def(k, "all_have_rule", func(c *ruby.Call, d *aideRes) (ruby.Value, error) {
		rule, _ := argString(c, 0)
		return !slices.ContainsFunc(d.lines, func(l aideLine) bool { return !slices.Contains(l.rules, rule) }), nil
	})
	filterTable(s, k, textColumns("selection_lines", "selection_line", "rules", "rules"), func(d *aideRes) ([]*ruby.Hash, error) {
		var rows []*ruby.Hash
		for _, l := range d.lines {
			rows = append(rows, ruby.NewHash(str("selection_line"), str(l.path), str("rules"), ruby.Strings(l.rules)))
		}
		return rows, nil
	})
}

// firewalld asks firewall-cmd. Its zones can't be listed where that isn't
// there; InSpec takes the shell's complaint for a zone.
type firewalld struct{ s *Set }

func (f firewalld) ask(args string) (string, error) {
	out, err := f.s.run("firewall-cmd %s", args)
	if err != nil {
		return "", err
	}
	if len(out.Stderr) > 0 {
		return "", f.s.fail("Error on command firewall-cmd %s: %s", args, out.Stderr)
	}
	return strings.TrimSpace(string(out.Stdout)), nil
}

// listed are the properties of a zone that are lists, by firewall-cmd's words.
var listed = []string{"services", "sources", "ports", "protocols", "forward-ports", "source-ports", "icmp-blocks", "rich-rules"}

func (f firewalld) zones() ([]*ruby.Hash, error) {
	active, err := f.ask("--get-active-zones")
	if err != nil {
		return nil, err
	}
	var rows []*ruby.Hash
	text := lines(active)
	for i := 0; i+1 < len(text); i += 2 {
		zone := text[i]
		_, interfaces, _ := strings.Cut(text[i+1], ":")
		h := ruby.NewHash(str("zone"), str(zone), str("interfaces"), ruby.Strings(strings.Fields(interfaces)))
		for _, what := range listed {
			out, err := f.ask("--permanent --zone=" + zone + " --list-" + what)
			if err != nil {
				return nil, err
			}
			words := strings.Fields(out)
			if what == "forward-ports" || what == "rich-rules" {
				words = lines(out)
			}
			h.Set(str(strings.ReplaceAll(what, "-", "_")), ruby.Strings(words))
		}
		target, err := f.ask("--permanent --zone=" + zone + " --get-target")
		if err != nil {
			return nil, err
		}
		h.Set(str("target"), str(target))
		for _, what := range []string{"icmp-block-inversion", "masquerade"} {
			out, err := f.ask("--permanent --zone=" + zone + " --query-" + what)
			if err != nil {
				return nil, err
			}
			h.Set(str(strings.ReplaceAll(what, "-", "_")), out == "yes")
		}
		rows = append(rows, h)
	}
	return rows, nil
}

func defineFirewalld(s *Set) {
	k := s.define("firewalld", "FirewallD", nil, func(c *ruby.Call) (any, error) { return firewalld{s}, s.arity(c, 0, 0) })
	fixed(k, "Firewall Rules")
	cols := textColumns("zone", "zone", "interfaces", "interfaces", "target", "target")
	for _, what := range listed {
		field := strings.ReplaceAll(what, "-", "_")
		cols = append(cols, column{name: field, field: str(field)})
	}
	for name, field := range map[string]string{
		"icmp_block_inversion?": "icmp_block_inversion", "has_icmp_block_inversion_enabled?": "icmp_block_inversion",
		"masquerade?": "masquerade", "has_masquerade_enabled?": "masquerade",
	} {
		cols = append(cols, column{name: name, native: func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) {
			if len(r.data) == 0 {
				return nil, nil
			}
			v, _ := r.data[0].Get(str(field))
			return v, nil
		}})
	}
	filterTable(s, k, cols, firewalld.zones)
	def(k, "installed?", func(*ruby.Call, firewalld) (ruby.Value, error) { return s.commandExists("firewall-cmd") })
	def(k, "running?", func(_ *ruby.Call, f firewalld) (ruby.Value, error) {
		out, ok, err := s.stdout("firewall-cmd --state")
		return ok && strings.HasPrefix(out, "running"), err
	})
	def(k, "default_zone", func(_ *ruby.Call, f firewalld) (ruby.Value, error) {
		zone, err := f.ask("--get-default-zone")
		return str(zone), err
	})
	def(k, "has_zone?", func(c *ruby.Call, f firewalld) (ruby.Value, error) {
		want, _ := argString(c, 0)
		out, ok, err := s.stdout("firewall-cmd --get-zones")
		return ok && slices.Contains(strings.Fields(out), want), err
	})
	for name, query := range map[string]string{"has_service_enabled_in_zone?": "service", "has_port_enabled_in_zone?": "port", "has_rule_enabled?": "rich-rule"} {
		def(k, name, func(c *ruby.Call, f firewalld) (ruby.Value, error) {
			what, _ := argString(c, 0)
			zone, given := argString(c, 1)
			var err error
			if !given {
				if zone, err = f.ask("--get-default-zone"); err != nil {
					return nil, err
				}
			}
			if query == "rich-rule" {
				if !strings.HasPrefix(what, "rule") {
					what = "rule " + what
				}
				what = "'" + what + "'"
			}
			out, err := f.ask("--permanent --zone=" + zone + " --query-" + query + "=" + what)
			return out == "yes", err
		})
	}
}
