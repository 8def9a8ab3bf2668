package api_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/osv"
)

// Two builds of a service in one environment, one in another; what runs of
// them, what is wrong with them, and what people say of that.
func TestInsights_acrossBuilds(t *testing.T) {
	w := newWorld(t, "edge")
	const core = "pkg:maven/org.apache.logging.log4j/log4j-core@"
	at := time.Now().Add(-time.Hour)
	sbom := func(namespace, build, image string, purls ...string) {
		t.Helper()
		doc := `{"bomFormat":"CycloneDX","specVersion":"1.6","metadata":{"component":{"type":"container","name":"web","version":"` + image + `"}},"components":[`
		for i, p := range purls {
			if i > 0 {
				doc += ","
			}
			doc += fmt.Sprintf(`{"type":"library","name":"log4j-core","version":%q,"purl":%q}`, p, core+p)
		}
		bom, err := insight.ParseSBOM(strings.NewReader(doc+"]}"), 10)
		if err != nil {
			t.Fatal(err)
		}
		it := insight.Item{
			ID: insight.ItemID(namespace + build), Cluster: "edge", Environment: insight.Environment{Namespace: namespace, Project: "shop", Name: namespace},
			Content: insight.Document{Kind: insight.KindSBOM, Service: "web", Build: build},
		}
		at = at.Add(time.Minute)
		if _, err := w.store.ApplyInsight(t.Context(), it, &insight.Parsed{Digest: insight.Digest("sha256:" + it.ID), SBOM: bom}, at); err != nil {
			t.Fatal(err)
		}
	}
	image := func(n int) string { return fmt.Sprintf("sha256:%064d", n) }
	sbom("main", "b1", image(1), "2.17.1")
	between := at.Add(time.Second)
	sbom("main", "b2", image(2), "2.14.1")
	sbom("dev", "b1", image(3), "2.17.1")
	err := w.store.PutInventory(t.Context(), "edge", insight.Inventory{Workloads: []insight.Workload{
		{Namespace: "main", Kind: "Deployment", Name: "web", Container: "java", Image: "web:2", Digest: image(2), Pods: 3},
		{Namespace: "main", Kind: "Deployment", Name: "db", Container: "db", Image: "db:1", Digest: image(9), Pods: 1},
	}, Backlog: insight.Backlog{Broker: "blocked"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.store.PutOSV(t.Context(), []osv.Entry{{
		ID: "GHSA-1", Modified: time.Now(), CVE: "CVE-1", Aliases: []string{"CVE-1"}, Severity: "critical", Score: 10,
		Affected: []osv.Affected{{Ecosystem: "Maven", Package: "Maven/org.apache.logging.log4j:log4j-core", Versions: osv.Versions{Ranges: []osv.Range{{{Introduced: "0"}, {Fixed: "2.15.0"}}}}}},
	}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	matcher := osv.Matcher{Store: w.store, Logger: slog.New(slog.DiscardHandler)}
	if err := matcher.Match(t.Context()); err != nil {
		t.Fatal(err)
	}

	for _, of := range []string{"log4j-core&below=2.17", "CVE-1", "GHSA-1", url.QueryEscape(core + "2.14.1"), "log4j-core&namespace=main"} {
		runs := decode[page[api.Run]](t, w.do(t, "GET", "/api/v1/who-runs?of="+of, ""), http.StatusOK).Items
		if len(runs) != 1 || runs[0].Namespace != "main" || runs[0].Workload != "web" || runs[0].Pods != 3 || runs[0].Version != "2.14.1" {
			t.Errorf("%s: %+v", of, runs)
		}
	}
	missing := decode[page[api.Workload]](t, w.do(t, "GET", "/api/v1/workloads?sbom=missing", ""), http.StatusOK).Items
	if len(missing) != 1 || missing[0].Name != "db" {
		t.Errorf("images without an SBOM: %+v", missing)
	}
	agents := decode[page[api.Agent]](t, w.do(t, "GET", "/api/v1/agents", ""), http.StatusOK).Items
	if len(agents) != 1 || agents[0].Report == nil || agents[0].Report.Workloads != 2 || agents[0].Report.Backlog.Broker != "blocked" {
		t.Errorf("agents: %+v", agents)
	}
	inventories := decode[page[api.Inventory]](t, w.do(t, "GET", "/api/v1/inventories", ""), http.StatusOK).Items
	if len(inventories) != 1 || inventories[0].Workloads != 2 || inventories[0].Unknown != 1 {
		t.Errorf("inventories: %+v", inventories)
	}

	for _, refs := range []string{"from=edge/main/web@b1&to=edge/main/web@b2", "from=edge/dev&to=edge/main"} {
		d := decode[api.Difference](t, w.do(t, "GET", "/api/v1/insights/diff?"+refs, ""), http.StatusOK)
		wantComponents := []api.ComponentChange{{Change: insight.Updated, PURL: core + "2.14.1", Name: "log4j-core", From: "2.17.1", To: "2.14.1"}}
		wantProblems := []api.ProblemChange{{Change: insight.Added, Source: "osv", Identifier: "CVE-1", Severity: "CRITICAL", AssociatedPackage: "log4j-core", Version: "2.14.1"}}
		if diff := cmp.Diff(wantComponents, d.Components) + cmp.Diff(wantProblems, d.Problems); diff != "" {
			t.Errorf("%s: %s", refs, diff)
		}
	}
	fresh := decode[page[api.NewBuild]](t, w.do(t, "GET", "/api/v1/insights/new?namespace=main&since="+url.QueryEscape(between.Format(time.RFC3339Nano)), ""), http.StatusOK).Items
	if len(fresh) != 1 || fresh[0].Build != "b2" || len(fresh[0].Components) != 1 || len(fresh[0].Problems) != 1 {
		t.Errorf("what is new: %+v", fresh)
	}

	// Facts were derived, and others told, while the first build stood.
	for _, d := range []struct {
		build string
		since time.Time
		facts []insight.Fact
	}{
		{"b3", at.Add(time.Minute), []insight.Fact{{Source: "insights:sbom:api", Service: "api", Name: "Java", Value: "17"}}},
		{"b4", at.Add(10 * time.Minute), []insight.Fact{{Source: "insights:sbom:api", Service: "api", Name: "Java", Value: "21"}}},
	} {
		env := insight.Environment{Namespace: "main", Project: "shop", Name: "main"}
		doc := insight.Item{ID: insight.ItemID(d.build), Cluster: "edge", Environment: env, Content: insight.Document{Kind: insight.KindSBOM, Service: "api", Build: d.build}}
		if _, err := w.store.ApplyInsight(t.Context(), doc, &insight.Parsed{Digest: insight.Digest("sha256:" + d.build), SBOM: &insight.SBOM{}, Facts: d.facts}, d.since); err != nil {
			t.Fatal(err)
		}
		env.ID = 3
		told := insight.Item{ID: insight.ItemID(d.build + " told"), Cluster: "edge", Environment: env, Content: insight.Facts{{Source: "drush", Name: "core", Value: d.build}}}
		if _, err := w.store.ApplyInsight(t.Context(), told, nil, d.since.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	wantFacts := []api.FactChange{
		{Change: insight.Updated, Source: "drush", Name: "core", From: "b3", To: "b4"},
		{Change: insight.Updated, Source: "insights:sbom:api", Service: "api", Name: "Java", From: "17", To: "21"},
	}
	then := url.QueryEscape(at.Add(5 * time.Minute).Format(time.RFC3339Nano))
	for _, refs := range []string{"from=edge/main@b3&to=edge/main@b4", "from=edge/main&fromAt=" + then + "&to=edge/main"} {
		d := decode[api.Difference](t, w.do(t, "GET", "/api/v1/insights/diff?"+refs, ""), http.StatusOK)
		if diff := cmp.Diff(wantFacts, d.Facts); diff != "" {
			t.Errorf("%s: %s", refs, diff)
		}
	}
	if a := w.do(t, "GET", "/api/v1/insights/diff?from=edge/main@b3&to=edge/main&fromAt="+then, ""); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.text, "a build is the same at all times") {
		t.Errorf("a build at a time: %d %s", a.status, a.text)
	}
	for query, want := range map[string]int{
		"name=Java": 1, "name=Java&history=true": 2, "name=Java&environmentId=3": 1, "build=b3&history=true": 1, "build=b4": 1,
		"namespace=main&at=" + then: 2, "namespace=dev": 0, "history=true&since=" + then: 4,
	} {
		if got := decode[page[api.Fact]](t, w.do(t, "GET", "/api/v1/insights/facts?"+query, ""), http.StatusOK).Items; len(got) != want {
			t.Errorf("facts by %s: %+v, want %d", query, got, want)
		}
	}
	for query, want := range map[string]int{"build=b2": 1, "build=b4": 0, "at=2100-01-01T00:00:00Z": 1, "at=2000-01-01T00:00:00Z": 0, "environmentId=3": 1, "environmentId=3&build=b2": 1, "environmentId=4&build=b2": 0} {
		got := decode[page[api.Problem]](t, w.do(t, "GET", "/api/v1/insights/problems?"+query, ""), http.StatusOK).Items
		if len(got) != want || want == 1 && (got[0].EnvironmentID != 3 || got[0].Namespace != "main") {
			t.Errorf("problems by %s: %+v, want %d", query, got, want)
		}
	}

	said := decode[api.Statements](t, w.do(t, "POST", "/api/v1/vex", `{"statements":[{"vulnerability":{"name":"CVE-1"},"products":[{"@id":"pkg:oci/web@`+image(2)+`"}],"status":"not_affected"}]}`), http.StatusOK)
	if problems := decode[page[api.Problem]](t, w.do(t, "GET", "/api/v1/insights/problems", ""), http.StatusOK).Items; len(problems) != 0 {
		t.Errorf("problems that are none: %+v", problems)
	}
	problems := decode[page[api.Problem]](t, w.do(t, "GET", "/api/v1/insights/problems?cleared=true", ""), http.StatusOK).Items
	if len(problems) != 1 || problems[0].Statement == nil || problems[0].Statement.Document != said.Document {
		t.Errorf("cleared: %+v", problems)
	}
	if a := w.do(t, "DELETE", "/api/v1/vex/"+string(said.Document), ""); a.status != http.StatusNoContent {
		t.Errorf("forgotten: %d %s", a.status, a.text)
	}

	service := insight.NewService(w.store, insight.Limits{}, slog.New(slog.DiscardHandler))
	if err := service.Quarantine(t.Context(), insight.Poison{Item: "p", Cluster: "edge", Reason: "?", Message: []byte(`{"type":"direct.delete.facts","environment":3,"source":"s"}`)}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{http.StatusNoContent, http.StatusNotFound} {
		if a := w.do(t, "POST", "/api/v1/insights/quarantine/requeue", `{"agent":"edge","item":"p"}`); a.status != want {
			t.Errorf("requeue: %d %s, want %d", a.status, a.text, want)
		}
	}
}
