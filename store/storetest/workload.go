package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/store"
)

func workloads(t *testing.T, s *store.Store) {
	all := func(insight.Component) bool { return true }
	sbom := func(cluster fleet.AgentName, namespace, service, image string, at time.Time, components ...insight.Component) {
		t.Helper()
		it := insight.Item{
			ID: insight.ItemID(fmt.Sprint(namespace, service, image, at)), Cluster: cluster,
			Environment: insight.Environment{Namespace: namespace}, Content: insight.Document{Kind: insight.KindSBOM, Service: service},
		}
		p := &insight.Parsed{Digest: insight.Digest("sha256:" + it.ID), SBOM: &insight.SBOM{ImageDigest: image, Components: components}}
		if _, err := s.ApplyInsight(t.Context(), it, p, at); err != nil {
			t.Fatal(err)
		}
	}
	w := func(namespace, name, digest, service string) insight.Workload {
		return insight.Workload{Namespace: namespace, Kind: "Deployment", Name: name, Container: "c", Image: name + ":1", Digest: digest, Service: service, Pods: 2}
	}
	put := func(cluster fleet.AgentName, at time.Time, list ...insight.Workload) {
		t.Helper()
		if err := s.PutInventory(t.Context(), cluster, insight.Inventory{Workloads: list, Backlog: insight.Backlog{Items: 3, Bytes: 30, Since: epoch, Broker: "blocked"}}, at); err != nil {
			t.Fatal(err)
		}
	}
	runs := func(q insight.Query) (got []string) {
		t.Helper()
		found, err := s.WhoRuns(t.Context(), q, all)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range found {
			name := "-"
			if r.Workload != nil {
				name = r.Workload.Kind + "/" + r.Workload.Name
			}
			if r.Elsewhere {
				name += " elsewhere"
			}
			got = append(got, fmt.Sprintf("%s %s %s/%s %s", r.Component.Key(), r.Cluster, r.Environment.Namespace, r.Service, name))
		}
		return got
	}
	expect := func(got []string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	log4j := func(v string) insight.Component {
		return insight.Component{PURL: "pkg:maven/org/log4j-core@" + v, Name: "log4j-core", Version: v}
	}
	other := insight.Component{PURL: "pkg:maven/org/log4j-core-extra@1", Name: "log4j-core-extra", Version: "1"}
	sbom("edge", "shop", "web", "sha256:i1", epoch, log4j("2.14"), other)
	sbom("edge", "blog", "cli", "", epoch, log4j("2.16"))
	put("edge", epoch, w("shop", "web", "sha256:i1", ""), w("shop", "db", "sha256:i2", ""), w("blog", "cli", "sha256:i3", "cli"))
	put("far", epoch, w("copy", "web", "sha256:i1", ""))

	expect(runs(insight.Query{Q: "pkg:maven/org/log4j-core"}),
		"pkg:maven/org/log4j-core@2.14 edge shop/web Deployment/web",
		"pkg:maven/org/log4j-core@2.16 edge blog/cli Deployment/cli",
		"pkg:maven/org/log4j-core@2.14 far copy/ Deployment/web elsewhere")
	expect(runs(insight.Query{Q: "LOG4J-core", Namespace: "blog"}), "pkg:maven/org/log4j-core@2.16 edge blog/cli Deployment/cli")
	expect(runs(insight.Query{Q: "pkg:maven/org/log4j-core@2.16"}), "pkg:maven/org/log4j-core@2.16 edge blog/cli Deployment/cli")
	expect(runs(insight.Query{Q: "log4j-core", Within: []fleet.Scope{{Agents: []string{"far"}}}}), "pkg:maven/org/log4j-core@2.14 far copy/ Deployment/web elsewhere")
	expect(runs(insight.Query{Q: "log4j"}))
	expect(runs(insight.Query{Q: "log4j-core", Since: epoch.Add(time.Hour)}))

	list := func(q insight.Query, unknown bool) (got []string) {
		t.Helper()
		found, err := s.Workloads(t.Context(), q, unknown)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range found {
			got = append(got, fmt.Sprintf("%s %s/%s %s", w.Cluster, w.Namespace, w.Name, w.FirstSeen.Sub(epoch)))
		}
		return got
	}
	expect(list(insight.Query{}, true), "edge shop/db 0s", "far copy/web 0s") // which has what others say of its image
	reports, err := s.Inventories(t.Context(), insight.Query{Cluster: "edge"})
	if err != nil {
		t.Fatal(err)
	}
	want := []insight.InventoryRecord{{Cluster: "edge", Reported: epoch, Workloads: 3, Unknown: 1, Backlog: insight.Backlog{Items: 3, Bytes: 30, Since: epoch, Broker: "blocked"}}}
	if diff := cmp.Diff(want, reports); diff != "" {
		t.Error(diff)
	}

	// The next report is the whole truth; what stays keeps its age.
	put("edge", epoch.Add(time.Hour), w("shop", "web", "sha256:i1", ""), w("shop", "web", "sha256:i4", ""), w("shop", "web", "sha256:i4", ""))
	expect(list(insight.Query{Cluster: "edge"}, false), "edge shop/web 0s", "edge shop/web 1h0m0s")
	expect(list(insight.Query{Since: epoch.Add(time.Minute)}, false), "edge shop/web 1h0m0s")
	// A new build is the current SBOM, but the old image still runs.
	sbom("edge", "shop", "web", "sha256:i4", epoch.Add(time.Hour), log4j("2.17"))
	expect(runs(insight.Query{Q: "log4j-core", Namespace: "shop"}),
		"pkg:maven/org/log4j-core@2.17 edge shop/web Deployment/web",
		"pkg:maven/org/log4j-core@2.14 edge shop/ Deployment/web elsewhere")
}
