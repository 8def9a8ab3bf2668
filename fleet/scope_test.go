package fleet

import "testing"

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
