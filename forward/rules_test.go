package forward

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/fleet"
)

func TestParseKube(t *testing.T) {
	type k = kubeRequest
	for _, tt := range []struct {
		request string
		want    kubeRequest
	}{
		{"GET /api/v1/pods", k{verb: "list", resource: "pods"}},
		{"GET /api/v1/pods?watch=1", k{verb: "watch", resource: "pods"}},
		{"GET /api/v1/pods?watch", k{verb: "watch", resource: "pods"}},
		{"GET /api/v1/pods?watch=False", k{verb: "list", resource: "pods"}},
		{"GET /api/v1/namespaces/a/pods/", k{verb: "list", namespace: "a", resource: "pods"}},
		{"HEAD /api/v1/namespaces/a/pods/p", k{verb: "get", namespace: "a", resource: "pods", name: "p"}},
		{"GET /api/v1/namespaces/a/pods/p?watch=1", k{verb: "get", namespace: "a", resource: "pods", name: "p"}},
		{"GET /api/v1/namespaces/a/pods/p/log?follow=1", k{verb: "get", namespace: "a", resource: "pods", subresource: "log", name: "p"}},
		{"GET /api/v1/namespaces/a/pods/p/exec?command=sh", k{verb: "create", namespace: "a", resource: "pods", subresource: "exec", name: "p"}},
		{"POST /api/v1/namespaces/a/pods/p/portforward", k{verb: "create", namespace: "a", resource: "pods", subresource: "portforward", name: "p"}},
		{"GET /api/v1/namespaces/a/services/s/proxy/x//../y", k{verb: "get", namespace: "a", resource: "services", subresource: "proxy", name: "s"}},
		{"POST /apis/apps/v1/namespaces/a/deployments", k{verb: "create", group: "apps", namespace: "a", resource: "deployments"}},
		{"PUT /apis/apps/v1/namespaces/a/deployments/d/scale", k{verb: "update", group: "apps", namespace: "a", resource: "deployments", subresource: "scale", name: "d"}},
		{"PATCH /apis/apps/v1/namespaces/a/deployments/d", k{verb: "patch", group: "apps", namespace: "a", resource: "deployments", name: "d"}},
		{"DELETE /api/v1/namespaces/a/pods", k{verb: "deletecollection", namespace: "a", resource: "pods"}},
		{"DELETE /api/v1/namespaces/a", k{verb: "delete", namespace: "a", resource: "namespaces", name: "a"}},
		{"PUT /api/v1/namespaces/a/finalize", k{verb: "update", namespace: "a", resource: "namespaces", subresource: "finalize", name: "a"}},
		{"GET /api/v1/namespaces", k{verb: "list", resource: "namespaces"}},
		{"GET /api/v1/watch/namespaces/a/pods", k{verb: "watch", namespace: "a", resource: "pods"}},
		{"GET /api/v1/proxy/namespaces/a/pods/p/x", k{verb: "proxy", namespace: "a", resource: "pods", name: "p"}},
		{"GET /apis/rbac.authorization.k8s.io/v1/clusterroles", k{verb: "list", group: "rbac.authorization.k8s.io", resource: "clusterroles"}},
		{"GET /apis/apps/v1", k{verb: "get", discovery: true}},
		{"GET /openapi/v3/apis/apps/v1", k{verb: "get", discovery: true}},
		{"GET /version", k{verb: "get", discovery: true}},
		{"POST /version", k{verb: "create"}},
		{"GET /metrics", k{verb: "get"}},
		{"GET /", k{verb: "get"}},
		{"GET //api/v1/pods", k{verb: "list", resource: "pods"}},
		{"GET /api//v1/pods", k{verb: "get", resource: "v1", name: "pods", odd: true}},
		{"GET /api/v1//namespaces/a/pods", k{verb: "get", resource: "", subresource: "a", name: "namespaces", odd: true}},
		{"GET /api/v1/namespaces/a%3bx/pods", k{verb: "list", namespace: "a;x", resource: "pods", odd: true}},
		{`GET /api/v1/namespaces/a%5cb/pods`, k{verb: "list", namespace: `a\b`, resource: "pods", odd: true}},
		{"GET /api/v1/namespaces/a%2Fsecrets", k{verb: "list", namespace: "a", resource: "secrets"}},
		{"GET /apis/../api/v1", k{verb: "list", group: "..", resource: "v1", odd: true}},
	} {
		method, target, _ := strings.Cut(tt.request, " ")
		u, err := url.ParseRequestURI(target)
		if err != nil {
			t.Fatal(err)
		}
		if got := parseKube(method, u.Path, u.Query); got != tt.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.request, got, tt.want)
		}
	}
}

func FuzzParseKube(f *testing.F) {
	f.Add("GET", "/api/v1/namespaces/a/pods/p/exec", "watch=1")
	f.Add("DELETE", "/apis/apps/v1//", "")
	f.Add("", "", "&&")
	rs := rules(f, "[{effect: allow, namespaces: [a]}]")
	f.Fuzz(func(t *testing.T, method, path, query string) {
		q := question{caller: Caller{Type: fleet.Kubernetes}, paths: []string{path}}
		k := parseKube(method, path, func() url.Values { v, _ := url.ParseQuery(query); return v })
		q.kube, q.verb = &k, k.verb
		if rs.decide(q, false).allowed && !k.discovery && (k.odd || !strings.Contains("/"+path+"/", "/namespaces/a/")) {
			t.Errorf("%s %q is allowed, as %+v", method, path, k)
		}
	})
}

func rules(t testing.TB, text string) *Rules {
	t.Helper()
	var list []Rule
	if err := yaml.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	rs, err := NewRules(list)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func TestRules(t *testing.T) {
	kube := Caller{Name: "spiffe://reeve/service/prod/kubernetes/main", ID: "token/j1", Holder: "alice", Agent: "prod", Type: fleet.Kubernetes, Service: "main"}
	web := Caller{Name: "spiffe://reeve/service/prod/x-web/wiki", ID: "certificate/ab", Agent: "prod", Type: "x-web", Service: "wiki"}
	nobody := web
	nobody.Name, nobody.ID = Anonymous, ""
	for _, tt := range []struct {
		name, rules string
		caller      Caller
		own         bool // the credential is for the service
		allowed     []string
		denied      []string
	}{
		{
			name: "no rule", caller: web, own: true, rules: `[]`, allowed: []string{"GET /"},
		},
		{
			name: "no rule, another's service", caller: web, rules: `[]`, denied: []string{"GET /"},
		},
		{
			name: "one namespace", caller: kube, rules: `[{effect: allow, who: {holders: [alice]}, namespaces: [team-a, "team-b-*"]}]`,
			allowed: []string{"GET /api/v1/namespaces/team-a/pods", "DELETE /apis/apps/v1/namespaces/team-b-x/deployments/d", "GET /apis", "GET /openapi/v3"},
			denied: []string{
				"GET /api/v1/pods", "GET /api/v1/namespaces/team-c/pods", "GET /api/v1/nodes", "GET /metrics", "POST /version",
				"GET /api/v1//namespaces/team-a/pods", "GET /api/v1/namespaces/team-a%3b/pods", "GET /api/v1/namespaces/team-a%2F/pods",
			},
		},
		{
			name: "another holder", caller: kube, rules: `[{effect: allow, who: {holders: [bob]}}]`, denied: []string{"GET /api/v1/pods"},
		},
		{
			name: "read only", caller: kube, own: true,
			rules:   `[{effect: allow, verbs: [get, list, watch], resources: ["*"]}, {effect: deny}]`,
			allowed: []string{"GET /api/v1/pods?watch=1", "GET /api/v1/nodes/n", "GET /api/v1/namespaces/a/pods/p/log", "GET /version"},
			denied:  []string{"POST /api/v1/namespaces/a/pods", "GET /api/v1/namespaces/a/pods/p/exec", "GET /metrics"},
		},
		{
			name: "resources", caller: kube,
			rules:   `[{effect: allow, resources: [pods, deployments.apps, "*/scale"]}]`,
			allowed: []string{"GET /api/v1/pods", "GET /apis/apps/v1/deployments", "PUT /apis/x/v1/namespaces/a/things/t/scale"},
			denied:  []string{"GET /api/v1/namespaces/a/pods/p/exec", "GET /apis/extensions/v1beta1/deployments", "GET /api/v1/secrets"},
		},
		{
			name: "what denies stands before the service that the credential is for", caller: kube, own: true,
			rules:   `[{effect: deny, resources: [secrets]}, {effect: deny, namespaces: [kube-system]}]`,
			allowed: []string{"GET /api/v1/namespaces/a/pods", "GET /version"},
			denied:  []string{"GET /api/v1/secrets", "GET /api/v1/namespaces/kube-system/pods", "GET /api/v1//secrets", "GET /api/v1/namespaces/kube-system"},
		},
		{
			name: "what denies in a namespace denies lists of all", caller: kube, own: true,
			rules: `[{effect: deny, namespaces: [kube-system]}]`,
			allowed: []string{
				"GET /api/v1/nodes", "GET /api/v1/namespaces?watch=1", "GET /apis/rbac.authorization.k8s.io/v1/clusterroles", "GET /api/v1/nodes/n",
				"GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions", "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
			},
			denied: []string{
				"GET /api/v1/pods", "GET /api/v1/secrets?watch=1", "GET /api/v1/watch/pods", "DELETE /apis/apps/v1/deployments",
				"GET /apis/rbac.authorization.k8s.io/v1/rolebindings", "GET /apis/example.com/v1/things", "GET /api/v1/nodes/n/proxy/containerLogs/kube-system/p/c",
			},
		},
		{
			name: "paths", caller: web, own: true,
			rules:   `[{effect: deny, paths: [/admin/**]}, {effect: allow, paths: ["/v*/x", /pub/**], verbs: [get]}, {effect: deny}]`,
			allowed: []string{"GET /v1/x", "GET /pub", "GET /pub/a/b"},
			denied: []string{
				"GET /admin", "GET /admin/x", "GET //admin/x", "GET /%61dmin/x", "GET /./admin", "GET /admin;a=b/x", `GET /%5cadmin`,
				"POST /pub", "GET /v1/y/x", "GET /v1/x/", "GET /pub;/../x", "GET /publish", "GET /a;/..;/pub",
			},
		},
		{
			name: "in doubt a path isn't allowed", caller: web, rules: `[{effect: allow, paths: [/pub/**]}]`,
			allowed: []string{"GET /pub/x"}, denied: []string{"GET /pub;x/y", "GET //pub/x"},
		},
		{
			name: "which service", caller: web, rules: `[{effect: allow, agents: ["pr*"], types: [x-web], services: [wiki]}]`, allowed: []string{"GET /"},
		},
		{
			name: "another service", caller: web, rules: `[{effect: allow, services: [wik]}, {effect: allow, agents: [rod]}, {effect: allow, namespaces: ["*"]}]`, denied: []string{"GET /"},
		},
		{
			name: "names and ids", caller: web, rules: `[{effect: allow, who: {names: ["spiffe://reeve/service/prod/*"], ids: [certificate/ab]}}]`, allowed: []string{"GET /"},
		},
		{
			name: "anonymous isn't everybody", caller: web, rules: `[{effect: allow, who: {anonymous: true}}]`, denied: []string{"GET /"},
		},
		{
			name: "everybody isn't anonymous", caller: nobody, rules: `[{effect: allow}, {effect: allow, who: {names: ["*"]}}]`, denied: []string{"GET /"},
		},
		{
			name: "anonymous", caller: nobody, rules: `[{effect: allow, who: {anonymous: true}, services: [wiki]}]`, allowed: []string{"GET /"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rs := rules(t, tt.rules)
			for want, list := range map[bool][]string{true: tt.allowed, false: tt.denied} {
				for _, request := range list {
					method, target, _ := strings.Cut(request, " ")
					q := ask(tt.caller, httptest.NewRequest(method, "http://x"+target, nil))
					if d := rs.decide(q, tt.own); d.allowed != want {
						t.Errorf("%s: allowed is %v, by %q", request, d.allowed, d.ruleName())
					}
				}
			}
			if rs.reaches(tt.caller, tt.own) != (len(tt.allowed) > 0) {
				t.Errorf("reaches is %v", len(tt.allowed) == 0)
			}
		})
	}
}

func TestNewRules_names_what_is_wrong(t *testing.T) {
	for text, want := range map[string]string{
		`[{effect: deny}, {}]`:                                            `rules[1].effect ""`,
		`[{effect: allow, paths: [admin]}]`:                               `rules[0].paths[0] "admin"`,
		`[{effect: allow, verbs: [""]}]`:                                  `rules[0].verbs[0]`,
		`[{effect: deny, impersonate: {user: a}}]`:                        `rules[0]: impersonate`,
		`[{effect: allow, impersonate: {groups: [a]}}]`:                   `rules[0].impersonate.user`,
		`[{effect: allow, impersonate: {user: a}, mayImpersonate: true}]`: `rules[0].mayImpersonate`,
		`[{effect: allow, answerWithin: -1s}]`:                            `rules[0].answerWithin`,
		`[{effect: allow, who: {anonymous: true, names: [a]}}]`:           `rules[0].who.anonymous`,
	} {
		var list []Rule
		if err := yaml.Unmarshal([]byte(text), &list); err != nil {
			t.Fatal(err)
		}
		if _, err := NewRules(list); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v; want %s…", text, err, want)
		}
	}
}
