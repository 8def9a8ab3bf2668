package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/store"
)

func testInsights(t *testing.T, open func(t *testing.T) *store.Store) {
	at := time.UnixMicro(1_700_000_000_000_000).UTC()
	main := insight.Environment{ID: 3, Project: "shop", Name: "main"}
	apply := func(t *testing.T, s *store.Store, id insight.ItemID, cluster fleet.AgentName, env insight.Environment, c insight.Content) bool {
		t.Helper()
		fresh, err := s.ApplyInsight(t.Context(), insight.Item{ID: id, Cluster: cluster, Environment: env, Content: c}, nil, at)
		if err != nil {
			t.Fatal(err)
		}
		return fresh
	}
	facts := func(t *testing.T, s *store.Store, q insight.Query) (got []string) {
		t.Helper()
		found, err := s.Facts(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			got = append(got, string(f.Cluster)+" "+f.Environment.Name+" "+f.Source+"/"+f.Service+" "+f.Name+"="+f.Value)
		}
		return got
	}
	expect := func(t *testing.T, got []string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}

	t.Run("facts replace those of their source and service", func(t *testing.T) {
		s := open(t)
		apply(t, s, "1", "edge", main, insight.Facts{
			{Source: "s", Service: "cli", Name: "php", Value: "8.0"},
			{Source: "s", Service: "cli", Name: "drupal", Value: "9"},
			{Source: "s", Service: "web", Name: "php", Value: "8.0"},
			{Source: "t", Service: "cli", Name: "php", Value: "8.0"},
		})
		apply(t, s, "2", "edge", insight.Environment{ID: 4, Name: "dev"}, insight.Facts{{Source: "s", Service: "cli", Name: "php", Value: "8.0"}})
		apply(t, s, "2", "far", main, insight.Facts{{Source: "s", Service: "cli", Name: "php", Value: "8.0"}})
		apply(t, s, "3", "edge", main, insight.Facts{
			{Source: "s", Service: "cli", Name: "php", Value: "8.1"}, {Source: "s", Service: "cli", Name: "php", Value: "8.2"},
		})
		expect(t, facts(t, s, insight.Query{}),
			"edge main s/cli php=8.2", "edge main s/web php=8.0", "edge main t/cli php=8.0",
			"edge dev s/cli php=8.0", "far main s/cli php=8.0")
		expect(t, facts(t, s, insight.Query{Cluster: "edge", EnvironmentID: 3, Service: "cli", Source: "t"}), "edge main t/cli php=8.0")
		expect(t, facts(t, s, insight.Query{Project: "shop", Environment: "main", Limit: 2, Offset: 3}), "far main s/cli php=8.0")
	})
	t.Run("an item that comes again changes nothing", func(t *testing.T) {
		s := open(t)
		one := insight.Facts{{Source: "s", Name: "a", Value: "1"}}
		if !apply(t, s, "1", "edge", main, one) {
			t.Error("the first is called a repeat")
		}
		apply(t, s, "2", "edge", main, insight.Deletion{Of: insight.KindFacts, Source: "s"})
		if apply(t, s, "1", "edge", main, one) {
			t.Error("the repeat is called fresh")
		}
		expect(t, facts(t, s, insight.Query{}))
		fresh, err := s.QuarantineInsight(t.Context(), insight.QuarantineRecord{Item: "1", Cluster: "edge", Received: at})
		if err != nil || fresh {
			t.Errorf("quarantine of what was taken: %v, %v", fresh, err)
		}
	})
	t.Run("deletions clear a source, of one service or of all", func(t *testing.T) {
		s := open(t)
		apply(t, s, "1", "edge", main, insight.Facts{
			{Source: "s", Service: "cli", Name: "a"}, {Source: "s", Service: "web", Name: "a"}, {Source: "s", Name: "a"}, {Source: "t", Name: "a"},
		})
		apply(t, s, "2", "edge", main, insight.Problems{{Source: "s", Identifier: "CVE-1"}})
		apply(t, s, "3", "edge", insight.Environment{ID: 3}, insight.Deletion{Of: insight.KindFacts, Source: "s", Service: "cli"})
		expect(t, facts(t, s, insight.Query{}), "edge main s/ a=", "edge main s/web a=", "edge main t/ a=")
		apply(t, s, "4", "far", insight.Environment{ID: 3}, insight.Deletion{Of: insight.KindFacts, Source: "s"})
		apply(t, s, "5", "edge", insight.Environment{ID: 3}, insight.Deletion{Of: insight.KindFacts, Source: "s"})
		expect(t, facts(t, s, insight.Query{}), "edge main t/ a=")
		found, err := s.Problems(t.Context(), insight.Query{})
		if err != nil || len(found) != 1 {
			t.Errorf("problems %+v, %v", found, err)
		}
	})
	t.Run("problems keep all that was said of them", func(t *testing.T) {
		s := open(t)
		high := insight.Problem{
			Identifier: "CVE-1", Version: "1", FixedVersion: "2", Source: "s", Service: "cli", Severity: "HIGH", SeverityScore: 0.75,
			AssociatedPackage: "openssl", Description: "d", Links: "https://example.org", Data: "{}",
		}
		low := insight.Problem{Identifier: "CVE-0", Source: "s", Service: "cli", SeverityScore: 0.1}
		apply(t, s, "1", "edge", main, insight.Problems{{Identifier: "CVE-old", Source: "s", Service: "cli"}})
		apply(t, s, "2", "edge", main, insight.Problems{low, high})
		got, err := s.Problems(t.Context(), insight.Query{Service: "cli"})
		if err != nil {
			t.Fatal(err)
		}
		record := insight.ProblemRecord{Cluster: "edge", Environment: main, Received: at}
		want := []insight.ProblemRecord{record, record}
		want[0].Problem, want[1].Problem = high, low
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a document of many components is stored whole", func(t *testing.T) {
		s := open(t)
		bom := &insight.SBOM{SpecVersion: "1.5"}
		for i := range 1001 {
			bom.Components = append(bom.Components, insight.Component{Type: "library", Name: "n", Version: time.Duration(i).String()})
		}
		for i, digest := range []insight.Digest{"sha256:1", "sha256:2"} {
			it := insight.Item{ID: insight.ItemID(digest), Cluster: "edge", Environment: main, Content: insight.Document{Kind: insight.KindSBOM, Service: "web"}}
			if _, err := s.ApplyInsight(t.Context(), it, &insight.Parsed{Digest: digest, SBOM: bom}, at.Add(time.Duration(i)*time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		for offset, want := range map[int]int{0: 1000, 1000: 1} {
			got, err := s.Components(t.Context(), insight.Query{Q: "N", Limit: 5000, Offset: offset})
			if err != nil || len(got) != want {
				t.Fatalf("%d components from %d on, %v; want %d", len(got), offset, err, want)
			}
			if got[0].Digest != "sha256:2" || got[0].PURL != "" {
				t.Errorf("component %+v", got[0])
			}
		}
	})
	t.Run("components are found in the documents of a segment and after it", func(t *testing.T) {
		s := open(t)
		const documents = 300 // a segment has 256
		for i := range documents {
			bom := &insight.SBOM{SpecVersion: "1.5", Components: []insight.Component{
				{Type: "library", Name: "everywhere", Version: "1"},
				{Type: "library", Name: "sixth", Version: fmt.Sprint(i % 6)},
				{Type: "library", Name: "one", Version: fmt.Sprint(i)},
			}}
			it := insight.Item{
				ID: insight.ItemID(fmt.Sprint(i)), Cluster: "edge",
				Environment: insight.Environment{Namespace: fmt.Sprintf("ns-%03d", i)}, Content: insight.Document{Kind: insight.KindSBOM, Service: "web"},
			}
			if _, err := s.ApplyInsight(t.Context(), it, &insight.Parsed{Digest: insight.Digest(fmt.Sprint("sha256:", i)), SBOM: bom}, at); err != nil {
				t.Fatal(err)
			}
		}
		find := func(q insight.Query) (got []string) {
			t.Helper()
			found, err := s.Components(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range found {
				got = append(got, c.Environment.Namespace+" "+c.Name+" "+c.Version)
			}
			return got
		}
		if got := find(insight.Query{Q: "everywhere", Limit: 1000}); len(got) != documents || got[0] != "ns-000 everywhere 1" || got[299] != "ns-299 everywhere 1" {
			t.Errorf("everywhere is in %d places: %q", len(got), got)
		}
		expect(t, find(insight.Query{Q: "everywhere", Limit: 2, Offset: 255}), "ns-255 everywhere 1", "ns-256 everywhere 1")
		if got := find(insight.Query{Q: "sixth", Limit: 1000}); len(got) != documents || got[0] != "ns-000 sixth 0" || got[50] != "ns-001 sixth 1" {
			t.Errorf("sixth is in %d places: %q", len(got), got)
		}
		expect(t, find(insight.Query{Q: "one", Namespace: "ns-256"}), "ns-256 one 256")
		expect(t, find(insight.Query{Digest: "sha256:3"}), "ns-003 everywhere 1", "ns-003 one 3", "ns-003 sixth 3")
		expect(t, find(insight.Query{Q: "one", Within: []fleet.Scope{{Agents: []string{"edge"}, Namespaces: []string{"ns-299"}}}}), "ns-299 one 299")
	})
	t.Run("a digest that names no insight isn't found", func(t *testing.T) {
		s := open(t)
		if _, err := s.InsightDocument(t.Context(), "sha256:../../x"); !errors.Is(err, insight.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	})
}
