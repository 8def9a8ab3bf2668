package agent

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/insight"
	scankube "reeve.dev/reeve/scan/kube"
)

func TestWorkloads(t *testing.T) {
	web := scankube.Deployment{
		Namespace: "shop", Pod: "web-1", Container: "php", Kind: "Deployment", Workload: "web", Image: "web:1", Digest: "sha256:1",
		Labels: map[string]string{"lagoon.sh/service": "nginx", "pod-template-hash": "5f"},
	}
	alone := scankube.Deployment{Namespace: "blog", Pod: "once", Container: "c", Image: "once:1", Digest: "sha256:2"}
	got := workloads(map[string]scankube.Deployment{web.Key(): web, alone.Key(): alone}, map[string]int{web.Key(): 3, alone.Key(): 1})
	want := []insight.Workload{
		{Namespace: "blog", Kind: "Pod", Name: "once", Container: "c", Image: "once:1", Digest: "sha256:2", Pods: 1},
		{Namespace: "shop", Kind: "Deployment", Name: "web", Container: "php", Image: "web:1", Digest: "sha256:1", Service: "nginx", Pods: 3, Labels: map[string]string{"lagoon.sh/service": "nginx"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
