package storetest

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
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
	t.Run("what the database can't hold is refused for good", func(t *testing.T) {
		s := open(t)
		long := make([]byte, 16<<10)
		rand.Read(long)
		name := hex.EncodeToString(long)
		bom := &insight.SBOM{SpecVersion: "1.6", Components: []insight.Component{{PURL: "pkg:npm/" + name + "@1", Type: "library", Name: name, Version: "1"}}}
		for id, it := range map[insight.ItemID]struct {
			insight.Content
			parsed *insight.Parsed
		}{
			"fact":    {insight.Facts{{Source: "s", Name: name}}, nil},
			"problem": {insight.Problems{{Source: "s", Identifier: name}}, nil},
			"service": {insight.Document{Kind: insight.KindSBOM, Service: name}, &insight.Parsed{Digest: "sha256:1", SBOM: &insight.SBOM{}}},
			"purl":    {insight.Document{Kind: insight.KindSBOM, Service: "web"}, &insight.Parsed{Digest: "sha256:2", SBOM: bom}},
		} {
			_, err := s.ApplyInsight(t.Context(), insight.Item{ID: id, Cluster: "edge", Environment: main, Content: it.Content}, it.parsed, at)
			if invalid := (*insight.InvalidError)(nil); err != nil && !errors.As(err, &invalid) {
				t.Errorf("%s: %.200v", id, err)
			}
		}
		apply(t, s, "last", "edge", main, insight.Facts{{Source: "last", Name: "a", Value: "1"}})
		if got := facts(t, s, insight.Query{Source: "last"}); len(got) != 1 {
			t.Error(got)
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
		record := insight.ProblemRecord{Cluster: "edge", Environment: main, Since: at, Received: at}
		want := []insight.ProblemRecord{record, record}
		want[0].Problem, want[1].Problem = high, low
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("what was told has a past", func(t *testing.T) {
		s := open(t)
		when := func(n int) time.Time { return at.Add(time.Duration(n) * time.Hour) }
		tell := func(n int, c insight.Content) {
			t.Helper()
			it := insight.Item{ID: insight.ItemID(fmt.Sprint(n)), Cluster: "edge", Environment: main, Content: c}
			if _, err := s.ApplyInsight(t.Context(), it, nil, when(n)); err != nil {
				t.Fatal(err)
			}
		}
		tell(1, insight.Facts{{Source: "s", Name: "php", Value: "8.1"}, {Source: "s", Name: "drupal", Value: "9"}})
		tell(2, insight.Problems{{Source: "s", Identifier: "CVE-1"}, {Source: "s", Identifier: "CVE-2", Severity: "LOW"}})
		tell(3, insight.Facts{{Source: "s", Name: "php", Value: "8.2"}, {Source: "s", Name: "drupal", Value: "9"}})
		tell(4, insight.Problems{{Source: "s", Identifier: "CVE-2", Severity: "HIGH"}})
		tell(5, insight.Deletion{Of: insight.KindFacts, Source: "s"})
		tell(6, insight.Deletion{Of: insight.KindProblems, Source: "s"})
		list := func(q insight.Query) (got []string) {
			t.Helper()
			span := func(since, until, received time.Time) string {
				end := "on"
				if !until.IsZero() {
					end = fmt.Sprint(until.Sub(at).Hours())
				}
				return fmt.Sprintf(" %v-%s, last said %v", since.Sub(at).Hours(), end, received.Sub(at).Hours())
			}
			facts, err := s.Facts(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range facts {
				got = append(got, f.Name+"="+f.Value+span(f.Since, f.Until, f.Received))
			}
			problems, err := s.Problems(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range problems {
				got = append(got, p.Identifier+" "+p.Severity+span(p.Since, p.Until, p.Received))
			}
			return got
		}
		expect(t, list(insight.Query{}))
		expect(t, list(insight.Query{At: when(0)}))
		expect(t, list(insight.Query{At: when(2)}), "drupal=9 1-5, last said 3", "php=8.1 1-3, last said 1", "CVE-1  2-4, last said 2", "CVE-2 LOW 2-4, last said 2")
		expect(t, list(insight.Query{At: when(4)}), "drupal=9 1-5, last said 3", "php=8.2 3-5, last said 3", "CVE-2 HIGH 4-6, last said 4")
		expect(t, list(insight.Query{History: true, Since: when(4)}), "drupal=9 1-5, last said 3", "php=8.2 3-5, last said 3",
			"CVE-1  2-4, last said 2", "CVE-2 HIGH 4-6, last said 4", "CVE-2 LOW 2-4, last said 2")
		if err := s.RemovePastInsights(t.Context(), when(5)); err != nil {
			t.Fatal(err)
		}
		expect(t, list(insight.Query{History: true}), "drupal=9 1-5, last said 3", "php=8.2 3-5, last said 3", "CVE-2 HIGH 4-6, last said 4")
	})
	t.Run("what was in quarantine doesn't replace what came later", func(t *testing.T) {
		s := open(t)
		when := func(n int) time.Time { return at.Add(time.Duration(n) * time.Hour) }
		tell := func(id insight.ItemID, n, came int, c insight.Content) {
			t.Helper()
			it := insight.Item{ID: id, Cluster: "edge", Environment: main, Content: c}
			if came > 0 {
				it.Came = when(came)
			}
			if fresh, err := s.ApplyInsight(t.Context(), it, nil, when(n)); err != nil || !fresh {
				t.Fatal(fresh, err)
			}
		}
		one := func(source, value string) insight.Facts {
			return insight.Facts{{Source: source, Name: "php", Value: value}}
		}
		bad := func(source, id string) insight.Problems { return insight.Problems{{Source: source, Identifier: id}} }
		tell("1", 5, 0, one("said anew", "8.2"))
		tell("2", 4, 0, one("deleted", "8.2"))
		tell("3", 5, 0, insight.Deletion{Of: insight.KindFacts, Source: "deleted"})
		tell("4", 5, 0, bad("said anew", "CVE-2"))
		tell("5", 2, 0, one("earlier", "8.0"))
		tell("6", 5, 0, one("stays", "8.2"))
		tell("7", 2, 0, one("goes", "8.0"))
		// Out of quarantine, where they were since the third hour.
		tell("q1", 9, 3, one("said anew", "8.1"))
		tell("q2", 9, 3, one("deleted", "8.1"))
		tell("q4", 9, 3, bad("said anew", "CVE-1"))
		tell("q5", 9, 3, one("earlier", "8.1"))
		tell("q6", 9, 3, insight.Deletion{Of: insight.KindFacts, Source: "stays"})
		tell("q7", 9, 3, insight.Deletion{Of: insight.KindFacts, Source: "goes"})
		tell("q8", 9, 3, one("alone", "8.1"))
		expect(t, facts(t, s, insight.Query{}), "edge main alone/ php=8.1", "edge main earlier/ php=8.1", "edge main said anew/ php=8.2", "edge main stays/ php=8.2")
		found, err := s.Problems(t.Context(), insight.Query{})
		if err != nil || len(found) != 1 || found[0].Identifier != "CVE-2" {
			t.Errorf("problems %+v, %v", found, err)
		}
		// The receipt is of now: it is known for as long as any.
		if err := s.RemoveReceipts(t.Context(), when(6)); err != nil {
			t.Fatal(err)
		}
		if known, err := s.InsightReceived(t.Context(), "edge", "q8"); err != nil || !known {
			t.Errorf("the receipt: %v, %v", known, err)
		}
	})
	t.Run("a name that not every database takes is refused by all", func(t *testing.T) {
		s := open(t)
		text := make([]byte, 1<<12)
		rand.Read(text)
		long := hex.EncodeToString(text)
		document := insight.Document{Kind: insight.KindSBOM, Service: "web"}
		for name, tc := range map[string]struct {
			content insight.Content
			sbom    *insight.SBOM
		}{
			"fact":      {content: insight.Facts{{Source: "s", Name: long}}},
			"problem":   {content: insight.Problems{{Source: "s", Identifier: "i", Version: long}}},
			"service":   {insight.Document{Kind: insight.KindSBOM, Service: long}, &insight.SBOM{}},
			"component": {document, &insight.SBOM{Components: []insight.Component{{Name: "n", Version: long}}}},
			"purl":      {document, &insight.SBOM{Components: []insight.Component{{PURL: "pkg:npm/" + long, Name: "n"}}}},
		} {
			it := insight.Item{ID: insight.ItemID(name), Cluster: "edge", Environment: main, Content: tc.content}
			var parsed *insight.Parsed
			if tc.sbom != nil {
				parsed = &insight.Parsed{Digest: insight.Digest(name), SBOM: tc.sbom}
			}
			var invalid *insight.InvalidError
			if _, err := s.ApplyInsight(t.Context(), it, parsed, at); !errors.As(err, &invalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("a document whose receipt was forgotten is taken again", func(t *testing.T) {
		s := open(t)
		for n := range 2 {
			it := insight.Item{
				ID: "1", Cluster: "edge", Environment: insight.Environment{Namespace: "shop"}, Came: at,
				Content: insight.Document{Kind: insight.KindSBOM, Service: "web"},
			}
			if _, err := s.ApplyInsight(t.Context(), it, &insight.Parsed{Digest: "sha256:1", SBOM: &insight.SBOM{}}, at.Add(time.Hour)); err != nil {
				t.Fatal(n, err)
			}
			if err := s.ForgetReceipt(t.Context(), "edge", "1"); err != nil {
				t.Fatal(err)
			}
		}
		docs, err := s.InsightDocuments(t.Context(), insight.Query{History: true})
		if err != nil || len(docs) != 1 || !docs[0].Current {
			t.Errorf("%+v, %v", docs, err)
		}
	})
	t.Run("documents of the past are forgotten, unless their image runs", func(t *testing.T) {
		s := open(t)
		when := func(n int) time.Time { return at.Add(time.Duration(n) * time.Hour) }
		receive := func(n int, service, digest, image string, export bool) {
			t.Helper()
			it := insight.Item{
				ID: insight.ItemID(fmt.Sprint(service, n)), Cluster: "edge", Environment: insight.Environment{Namespace: "shop"},
				Content: insight.Document{Kind: insight.KindSBOM, Service: service},
			}
			p := &insight.Parsed{
				Digest: insight.Digest(digest),
				SBOM:   &insight.SBOM{ImageDigest: image, Components: []insight.Component{{PURL: "pkg:npm/" + digest + "@1", Name: digest}, {PURL: "pkg:npm/shared@1", Name: "shared"}}},
				Statements: []insight.Statement{{
					Names: []string{"CVE-" + digest}, Subject: insight.InDocument(insight.Digest(digest)), Status: insight.NotAffected,
				}},
			}
			if export {
				p.Export = &insight.Destination{Project: service, Version: digest}
			}
			if _, err := s.ApplyInsight(t.Context(), it, p, when(n)); err != nil {
				t.Fatal(err)
			}
		}
		receive(1, "web", "a", "", true)
		receive(2, "web", "b", "", true)
		receive(3, "web", "c", "", true)    // waits for its export
		receive(4, "web", "d", "i1", false) // its image runs
		receive(5, "web", "e", "", false)
		receive(6, "api", "a", "", false) // again
		receive(7, "api", "f", "", false)
		receive(9, "web", "b", "", false) // again
		running := insight.Workload{Namespace: "mill", Kind: "Deployment", Name: "old", Container: "c", Digest: "i1", Pods: 1}
		if err := s.PutInventory(t.Context(), "far", insight.Inventory{Workloads: []insight.Workload{running}}, when(9)); err != nil {
			t.Fatal(err)
		}
		due, err := s.DueExports(t.Context(), when(9), 10)
		if err != nil || len(due) != 3 {
			t.Fatal(due, err)
		}
		for _, e := range due {
			if e.Version != "c" {
				e.State, e.Ended = insight.ExportSent, when(2)
				if err := s.PutExport(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
		}
		list := func() (got []string) {
			t.Helper()
			docs, err := s.InsightDocuments(t.Context(), insight.Query{History: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range docs {
				got = append(got, fmt.Sprint(d.Service, " ", d.Digest))
			}
			return got
		}
		if err := s.RemovePastInsights(t.Context(), when(5)); err != nil {
			t.Fatal(err)
		}
		expect(t, list(), "web b", "api f", "api a", "web e", "web d", "web c")
		if err := s.RemovePastInsights(t.Context(), when(20)); err != nil {
			t.Fatal(err)
		}
		expect(t, list(), "web b", "api f", "web d", "web c")
		said, err := s.Statements(t.Context(), insight.Query{})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, st := range said {
			names = append(names, string(st.Document))
		}
		slices.Sort(names)
		expect(t, names, "b", "c", "d", "f")
		exports, err := s.Exports(t.Context(), insight.Query{}, "")
		if err != nil || len(exports) != 2 {
			t.Errorf("exports %+v, %v", exports, err) // b is current, c waits
		}
		// A number isn't given twice: no new document is taken for one of the past.
		receive(21, "web", "g", "", false)
		holds, err := s.Components(t.Context(), insight.Query{Q: "pkg:npm/"})
		if err != nil {
			t.Fatal(err)
		}
		var components []string
		for _, c := range holds {
			components = append(components, c.Service+" "+c.PURL)
		}
		slices.Sort(components)
		expect(t, components, "api pkg:npm/f@1", "api pkg:npm/shared@1", "web pkg:npm/g@1", "web pkg:npm/shared@1")
		// One that was forgotten comes anew.
		receive(22, "web", "a", "", false)
		if docs, err := s.InsightDocuments(t.Context(), insight.Query{Service: "web"}); err != nil || len(docs) != 1 || docs[0].Digest != "a" || docs[0].Components != 2 {
			t.Errorf("%+v, %v", docs, err)
		}
	})
	t.Run("an SBOM is found by its content, among those that the cluster's agent made", func(t *testing.T) {
		s := open(t)
		receive := func(cluster fleet.AgentName, digest, content string, scanned bool) {
			t.Helper()
			it := insight.Item{
				ID: insight.ItemID(digest), Cluster: cluster, Environment: insight.Environment{Namespace: "shop"}, Scanned: scanned,
				Content: insight.Document{Kind: insight.KindSBOM, Service: "web"},
			}
			p := &insight.Parsed{Digest: insight.Digest(digest), Size: 7, Content: content, SBOM: &insight.SBOM{}}
			if _, err := s.ApplyInsight(t.Context(), it, p, at); err != nil {
				t.Fatal(err)
			}
		}
		receive("edge", "sha256:1", "one", true)
		receive("edge", "sha256:2", "one", true)
		receive("edge", "sha256:3", "two", false)
		receive("edge", "sha256:4", "", true)
		for name, tc := range map[string]struct {
			cluster fleet.AgentName
			content string
			want    insight.Digest
		}{
			"the first":                   {"edge", "one", "sha256:1"},
			"another cluster's":           {"far", "one", ""},
			"what somebody handed in":     {"edge", "two", ""},
			"what has none":               {"edge", "", ""},
			"what nobody has said so far": {"edge", "three", ""},
		} {
			digest, size, err := s.SameSBOM(t.Context(), tc.cluster, tc.content)
			if digest != tc.want || (err == nil) != (tc.want != "") || err == nil && size != 7 || err != nil && !errors.Is(err, insight.ErrNotFound) {
				t.Errorf("%s: %q, %d, %v", name, digest, size, err)
			}
		}
	})
	t.Run("facts are derived from a service's current document", func(t *testing.T) {
		s := open(t)
		env := insight.Environment{Namespace: "shop-main", Project: "shop", Name: "main"}
		var came time.Time
		receive := func(n int, service, build string, facts ...insight.Fact) {
			t.Helper()
			it := insight.Item{
				ID: insight.ItemID(fmt.Sprint(service, n)), Cluster: "edge", Environment: env, Came: came,
				Content: insight.Document{Kind: insight.KindSBOM, Service: service, Build: build},
			}
			parsed := &insight.Parsed{Digest: insight.Digest(fmt.Sprint("sha256:", service, n)), SBOM: &insight.SBOM{}, Facts: facts}
			if _, err := s.ApplyInsight(t.Context(), it, parsed, at.Add(time.Duration(n)*time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		fact := func(service, source, name, value string) insight.Fact {
			return insight.Fact{Source: source, Service: service, Name: name, Value: value}
		}
		receive(1, "cli", "b1", fact("cli", "derived", "php", "8.1"), fact("cli", "elsewhere", "drupal", "9"))
		receive(1, "web", "b1", fact("web", "derived", "nginx", "1"))
		apply(t, s, "told", "edge", main, insight.Facts{{Source: "derived", Service: "cli", Name: "php", Value: "told"}})
		receive(3, "cli", "b3", fact("cli", "derived", "php", "8.3"), fact("cli", "derived", "drush", "12"))
		came = at.Add(2 * time.Hour)
		receive(4, "cli", "b2", fact("cli", "derived", "php", "8.2")) // late: out of quarantine
		list := func(q insight.Query) (got []string) {
			t.Helper()
			found, err := s.Facts(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				got = append(got, fmt.Sprint(f.Environment.Namespace, " ", f.Environment.ID, " ", f.Service, " ", f.Name, "=", f.Value, " ", f.Build))
			}
			return got
		}
		expect(t, list(insight.Query{}), "shop-main 3 cli drush=12 b3", "shop-main 3 cli php=8.3 b3", "shop-main 3 web nginx=1 b1", "shop-main 3 cli php=told ")
		expect(t, list(insight.Query{At: at.Add(time.Hour), Service: "cli"}), "shop-main 3 cli php=8.1 b1", "shop-main 3 cli drupal=9 b1", "shop-main 3 cli php=told ")
		expect(t, list(insight.Query{EnvironmentID: 3, Q: "nginx"}), "shop-main 3 web nginx=1 b1")
		expect(t, list(insight.Query{EnvironmentID: 4}))
	})
	t.Run("an environment's namespace is known once any message tells it", func(t *testing.T) {
		s := open(t)
		at := func(namespace string, env insight.Environment) insight.Environment {
			env.Namespace = namespace
			return env
		}
		namespaces := func() (got []string) {
			t.Helper()
			found, err := s.Facts(t.Context(), insight.Query{History: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				got = append(got, fmt.Sprint(f.Cluster, " ", f.Environment.ID, " ", f.Environment.Namespace, " ", f.Value))
			}
			return got
		}
		one := func(value string) insight.Facts { return insight.Facts{{Source: "s", Name: "n", Value: value}} }
		apply(t, s, "1", "edge", main, one("first"))
		apply(t, s, "2", "edge", main, one("second"))
		apply(t, s, "3", "far", main, one("first"))
		expect(t, namespaces(), "edge 3  second", "edge 3  first", "far 3  first")
		apply(t, s, "4", "edge", at("shop-main", main), insight.Facts{{Source: "t", Name: "n", Value: "third"}})
		expect(t, namespaces(), "edge 3 shop-main second", "edge 3 shop-main first", "edge 3 shop-main third", "far 3  first")
		apply(t, s, "5", "edge", main, one("fourth"))
		expect(t, namespaces()[:1], "edge 3 shop-main fourth")
		// The namespace is made anew, as another environment.
		apply(t, s, "6", "edge", at("shop-main", insight.Environment{ID: 9, Project: "blog", Name: "main"}), one("ninth"))
		apply(t, s, "7", "edge", main, one("fifth"))
		expect(t, namespaces()[:1], "edge 3  fifth")
		// By the names alone, where only one namespace has them.
		document := func(id insight.ItemID, namespace string) {
			t.Helper()
			it := insight.Item{ID: id, Cluster: "far", Environment: insight.Environment{Namespace: namespace, Project: "shop", Name: "main"}, Content: insight.Document{Kind: insight.KindSBOM, Service: "web"}}
			if _, err := s.ApplyInsight(t.Context(), it, &insight.Parsed{Digest: "sha256:" + insight.Digest(id), SBOM: &insight.SBOM{}}, epoch); err != nil {
				t.Fatal(err)
			}
		}
		document("8", "shop-main")
		last := namespaces()
		expect(t, last[len(last)-1:], "far 3 shop-main first")
		document("9", "shop-other")
		apply(t, s, "10", "far", insight.Environment{ID: 5, Project: "shop", Name: "main"}, one("other"))
		last = namespaces()
		expect(t, last[len(last)-1:], "far 5  other")
		if got, err := s.Problems(t.Context(), insight.Query{EnvironmentID: 3, Source: insight.SourceOSV}); err != nil || len(got) != 0 {
			t.Errorf("problems found in an environment without any: %v, %v", got, err)
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
