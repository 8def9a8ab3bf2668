package fleet

import (
	"reflect"
	"testing"
)

func TestScope_Has(t *testing.T) {
	limited := Scope{Agents: []string{"prod-*", "stage"}, Namespaces: []string{"shop", "team-*-x"}}
	for _, c := range []struct {
		scope     Scope
		agent     AgentName
		namespace string
		want      bool
	}{
		{Scope{}, "any", "any", true},
		{Scope{}, "any", "", true},
		{Scope{Agents: []string{"*"}, Namespaces: []string{"*"}}, "any", "", true},
		{limited, "prod-eu", "shop", true},
		{limited, "prod-", "shop", true},
		{limited, "prod", "shop", false},
		{limited, "my-prod-eu", "shop", false},
		{limited, "stage", "team-a-x", true},
		{limited, "stage", "team--x", true},
		{limited, "stage", "team-x", false},
		{limited, "stage", "shops", false},
		{limited, "stage", "", false},
		{limited, "stage-2", "shop", false},
		{Scope{Agents: []string{"a*a"}}, "a", "", false},
		{Scope{Agents: []string{"a*b*c"}}, "a-b-b-c", "", true},
		{Scope{Agents: []string{"a*b*c"}}, "a-c-b", "", false},
	} {
		if got := c.scope.Has(c.agent, c.namespace); got != c.want {
			t.Errorf("%v has %s/%s: %v, want %v", c.scope, c.agent, c.namespace, got, c.want)
		}
	}
	if limited.Whole() || !(Scope{}).Whole() || (Scope{Namespaces: []string{"a"}}).Whole() {
		t.Error("Whole is wrong")
	}
}

func TestScope_Meets(t *testing.T) {
	for _, c := range []struct {
		p, q string
		want bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"*", "b", true},
		{"team-*", "*-eu", true},
		{"team-*", "ops-*", false},
		{"a*c", "ab*", true},
		{"a*c", "ab", false},
		{"a*b*c", "*x*", true},
		{"a*a", "a", false},
		{"**", "*", true},
		{"prod-*-x", "prod-x", false},
		{"prod-*", "prod-", true},
	} {
		for _, pair := range [][2]string{{c.p, c.q}, {c.q, c.p}} {
			if got := (Scope{Agents: pair[:1]}).Meets(Scope{Agents: pair[1:]}); got != c.want {
				t.Errorf("%q meets %q: %v, want %v", pair[0], pair[1], got, c.want)
			}
		}
	}
	shop := []Scope{{Namespaces: []string{"shop"}}, {Agents: []string{"lab"}, Namespaces: []string{"try-*"}}}
	for _, c := range []struct {
		scope, want Scope
		any         bool
	}{
		{Scope{}, Scope{}, true},
		{Scope{Agents: []string{"prod-*", "lab"}, Namespaces: []string{"shop", "bank"}}, Scope{Agents: []string{"prod-*", "lab"}, Namespaces: []string{"shop"}}, true},
		{Scope{Agents: []string{"prod", "lab"}, Namespaces: []string{"try-1", "bank"}}, Scope{Agents: []string{"lab"}, Namespaces: []string{"try-1"}}, true},
		{Scope{Agents: []string{"prod"}, Namespaces: []string{"try-1"}}, Scope{}, false},
	} {
		got, any := c.scope.Within(shop)
		if any != c.any || any && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v within %v: %v, %v", c.scope, shop, got, any)
		}
	}
}

func TestScope_Validate(t *testing.T) {
	for _, p := range []string{"prod", "*", "prod-*", "*-eu", "a.b"} {
		if err := (Scope{Agents: []string{p}}).Validate(); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
	for _, p := range []string{"", "Prod", "a_b", "a%", "a b", "-a", "a?", "[a]"} {
		if err := (Scope{Namespaces: []string{p}}).Validate(); err == nil {
			t.Errorf("%q was taken", p)
		}
	}
}
