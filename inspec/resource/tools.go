package resource

import (
	"encoding/json"
	"regexp"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// toolPackage is a package of a language's own package manager.
type toolPackage struct {
	name string
	info packageInfo
}

func defineTools(s *Set) {
	s.defineTool("npm", "NpmPackage", "Npm Package ", s.npm)
	s.defineTool("pip", "PipPackage", "Pip Package ", s.pip)
	s.defineTool("gem", "GemPackage", "gem package ", s.gem)
	s.defineTool("cpan", "CpanPackage", "Perl Module ", s.cpan)
	s.defineTool("cran", "CranPackage", "R Module ", s.cran)
	defineIptables(s)
}

func (s *Set) defineTool(name, class, title string, find func(c *ruby.Call, name string) (packageInfo, error)) {
	k := s.define(name, class, nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		d := &toolPackage{}
		d.name, _ = argString(c, 0)
		// A report names the package also when its manager isn't there.
		c.Self.(*ruby.Object).SetIVar("@package_name", str(d.name))
		var err error
		d.info, err = find(c, d.name)
		return d, err
	})
	k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) {
		return str(title + c.In.ToS(c.Self.(*ruby.Object).IVar("@package_name"))), nil
	})
	k.Def("resource_id", func(c *ruby.Call) (ruby.Value, error) { return c.Self.(*ruby.Object).IVar("@package_name"), nil })
	def(k, "installed?", func(c *ruby.Call, d *toolPackage) (ruby.Value, error) { return d.info.installed, nil })
	def(k, "version", func(c *ruby.Call, d *toolPackage) (ruby.Value, error) {
		if d.info.version == "" {
			return nil, nil
		}
		return str(d.info.version), nil
	})
}

func (s *Set) npm(c *ruby.Call, name string) (packageInfo, error) {
	cmd := "npm -g ls --json " + name
	if v, ok := options(c).GetSym("path"); ok && v != nil {
		cmd = "cd " + target.Quote(c.In.ToS(v)) + " && npm ls --json " + name
	}
	out, ok, err := s.stdout("%s", cmd)
	if err != nil || !ok {
		return packageInfo{}, err
	}
	var listed struct {
		Dependencies map[string]struct{ Version string }
	}
	if err := json.Unmarshal([]byte(out), &listed); err != nil {
		return packageInfo{}, s.fail("npm printed no JSON: %s", err)
	}
	return packageInfo{name: name, installed: true, version: listed.Dependencies[name].Version}, nil
}

func (s *Set) pip(c *ruby.Call, name string) (packageInfo, error) {
	tool := "pip"
	if given, ok := argString(c, 1); ok {
		tool = given
	}
	out, ok, err := s.stdout("%s show %s", tool, name)
	if err != nil || !ok {
		return packageInfo{}, err
	}
	f := pairs(out)
	return packageInfo{name: f["Name"], installed: true, version: f["Version"]}, nil
}

var gemLine = regexp.MustCompile(`(?m)^\s*([^(]*?)\s*\((.*?)\)\s*$`)

func (s *Set) gem(c *ruby.Call, name string) (packageInfo, error) {
	tool := "gem"
	switch arg := c.Arg(1).(type) {
	case ruby.Symbol:
		tool = map[ruby.Symbol]string{"chef": "/opt/chef/embedded/bin/gem", "chef_server": "/opt/opscode/embedded/bin/gem"}[arg]
	case *ruby.String:
		tool = arg.String()
	}
	out, ok, err := s.stdout(`%s list --local -a -q ^%s$`, tool, name)
	if err != nil {
		return packageInfo{}, err
	}
	if !ok {
		return packageInfo{}, s.skip("Unable to retrieve gem information")
	}
	m := gemLine.FindStringSubmatch(out)
	if m == nil {
		return packageInfo{}, nil
	}
	version, _, _ := strings.Cut(m[2], ",")
	return packageInfo{name: m[1], installed: true, version: strings.TrimSpace(version)}, nil
}

// needs skips a resource whose program the target doesn't have.
func (s *Set) needs(program string) error {
	there, err := s.commandExists(program)
	if err == nil && !there {
		err = s.skip("%s not found", program)
	}
	return err
}

func (s *Set) cpan(c *ruby.Call, name string) (packageInfo, error) {
	if err := s.needs("perl"); err != nil {
		return packageInfo{}, err
	}
	lib := ""
	if given, ok := argString(c, 1); ok {
		lib = "PERL5LIB=" + given + " "
	}
	out, ok, err := s.stdout("%sperl -le 'eval \"require $ARGV[0]\" and print $ARGV[0]->VERSION or exit 1' %s", lib, name)
	return packageInfo{name: name, installed: ok, version: strings.TrimSpace(out)}, err
}

var cranVersion = regexp.MustCompile(`(?m)^\[\d+\]\s+['\p{Pi}](.+)['\p{Pf}]$`)

func (s *Set) cran(_ *ruby.Call, name string) (packageInfo, error) {
	if err := s.needs("Rscript"); err != nil {
		return packageInfo{}, err
	}
	out, ok, err := s.stdout(`Rscript -e 'packageVersion("%s")'`, name)
	m := cranVersion.FindStringSubmatch(out)
	if err != nil || !ok || m == nil {
		return packageInfo{}, err
	}
	return packageInfo{name: name, installed: true, version: m[1]}, nil
}

// iptablesRes is the rules of the target's packet filter.
type iptablesRes struct {
	tool, table, chain string
	ignoreComments     bool
}

var iptablesComment = regexp.MustCompile(` -m comment --comment "([^"]*)"`)

func defineIptables(s *Set) {
	for _, r := range [][3]string{{"iptables", "IpTables", "Iptables"}, {"ip6tables", "Ip6Tables", "Ip6tables"}} {
		k := s.define(r[0], r[1], nil, func(c *ruby.Call) (any, error) {
			opts := options(c)
			get := func(name string) string {
				v, _ := opts.GetSym(name)
				return c.In.ToS(v)
			}
			v, _ := opts.GetSym("ignore_comments")
			return &iptablesRes{r[0], get("table"), get("chain"), ruby.Truthy(v)}, s.arity(c, 0, 1)
		})
		title := func(d *iptablesRes) string {
			words := []string{r[2]}
			if d != nil && d.table != "" {
				words = append(words, "table: "+d.table)
			}
			if d != nil && d.chain != "" {
				words = append(words, "chain: "+d.chain)
			}
			return strings.Join(words, " ")
		}
		text(k, title, title)
		def(k, "retrieve_rules", func(c *ruby.Call, d *iptablesRes) (ruby.Value, error) {
			rules, err := s.rules(d)
			return ruby.Strings(rules), err
		})
		def(k, "has_rule?", func(c *ruby.Call, d *iptablesRes) (ruby.Value, error) {
			want, _ := argString(c, 0)
			rules, err := s.rules(d)
			for _, rule := range rules {
				if strings.EqualFold(rule, want) {
					return true, nil
				}
			}
			return false, err
		})
	}
}

func (s *Set) rules(d *iptablesRes) ([]string, error) {
	exists, err := s.commandExists(d.tool)
	if err != nil {
		return nil, err
	}
	cmd := d.tool
	if !exists {
		cmd = "/usr/sbin/" + d.tool
		if exists, err = s.commandExists(cmd); err != nil || !exists {
			if err == nil {
				err = s.fail("Could not find `%s`", d.tool)
			}
			return nil, err
		}
	}
	if d.table != "" {
		cmd += " -t " + d.table
	}
	out, ok, err := s.stdout("%s", strings.TrimSpace(cmd+" -S "+d.chain))
	if err != nil || !ok {
		return nil, err
	}
	if d.ignoreComments {
		out = iptablesComment.ReplaceAllString(out, "")
	}
	var rules []string
	for _, line := range lines(out) {
		rules = append(rules, strings.TrimSpace(line))
	}
	return rules, nil
}
