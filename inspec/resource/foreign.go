package resource

import "reeve.dev/reeve/inspec/ruby"

// foreign are InSpec's resources of other operating systems. Asked for on
// Linux they end the control with InSpec's own words.
var foreign = []string{
	"audit_policy", "chocolatey_package", "iis_app", "iis_app_pool", "iis_site", "iis_website", "ipfilter", "ipnat", "oneget", "registry_key",
	"security_identifier", "security_policy", "vbscript", "windows_feature", "windows_firewall", "windows_firewall_rule",
	"windows_hotfix", "windows_registry_key", "windows_task", "wmi",
}

func defineForeign(s *Set) {
	platform := map[string]string{"ipfilter": "bsd", "ipnat": "bsd"}
	for _, name := range foreign {
		s.register(name, s.in.NewClass(s.base))
		only := platform[name]
		if only == "" {
			only = "windows"
		}
		s.supports[name] = []*ruby.Hash{ruby.NewHash(ruby.Symbol("platform"), str(only))}
	}
}
