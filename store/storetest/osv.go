package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/osv"
	"reeve.dev/reeve/store"
)

func vulnerabilities(t *testing.T, s *store.Store) {
	bom := &insight.SBOM{Components: []insight.Component{{PURL: "pkg:npm/a@1.0.0", Name: "a", Version: "1.0.0"}, {PURL: "pkg:npm/b@1.0.0", Name: "b", Version: "1.0.0"}}}
	it := insight.Item{ID: "1", Cluster: "edge", Environment: insight.Environment{Namespace: "shop"}, Content: insight.Document{Kind: insight.KindSBOM, Service: "web"}}
	if _, err := s.ApplyInsight(t.Context(), it, &insight.Parsed{Digest: "sha256:1", SBOM: bom}, epoch); err != nil {
		t.Fatal(err)
	}
	entry := func(id, name, fixed string, modified time.Duration) osv.Entry {
		return osv.Entry{
			ID: id, Modified: epoch.Add(modified), CVE: "CVE-" + id, Aliases: []string{"CVE-" + id}, Severity: "high", Score: 7.5,
			Affected: []osv.Affected{{Ecosystem: "npm", Package: "npm/" + name, Versions: osv.Versions{Ranges: []osv.Range{{{Introduced: "0"}, {Fixed: fixed}}}}}},
		}
	}
	put := func(want int, entries ...osv.Entry) {
		t.Helper()
		if n, err := s.PutOSV(t.Context(), entries, epoch); err != nil || n != want {
			t.Fatalf("%d entries changed, %v; want %d", n, err, want)
		}
		for {
			if n, err := s.MatchOSV(t.Context(), 1, osv.Find, epoch); err != nil {
				t.Fatal(err)
			} else if n == 0 {
				return
			}
		}
	}
	expect := func(want ...string) {
		t.Helper()
		found, err := s.Problems(t.Context(), insight.Query{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range found {
			got = append(got, p.Identifier+" "+p.AssociatedPackage+" "+p.FixedVersion)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	noted := s.OSVNoted()
	put(2, entry("1", "a", "2.0.0", 0), entry("2", "b", "1.0.0", 0), entry("2", "b", "1.0.0", 0))
	select {
	case <-noted:
	default:
		t.Error("nobody is told that there are packages to match")
	}
	expect("CVE-1 a 2.0.0")
	put(0, entry("1", "a", "2.0.0", 0))
	put(2, entry("1", "b", "3.0.0", time.Second), entry("3", "a", "1.5.0", time.Second))
	expect("CVE-3 a 1.5.0", "CVE-1 b 3.0.0")
	withdrawn := entry("1", "b", "3.0.0", 2*time.Second)
	withdrawn.Withdrawn = true
	put(1, withdrawn)
	expect("CVE-3 a 1.5.0")

	// Of very many the pages are found in another way.
	var many []osv.Entry
	for i := range 5001 {
		many = append(many, entry(fmt.Sprintf("M%04d", i), "b", "2.0.0", 0))
	}
	put(len(many), many...)
	found, err := s.Problems(t.Context(), insight.Query{Limit: 2, Offset: 5000})
	if err != nil || len(found) != 2 || found[0].Identifier != "CVE-M4999" || found[1].Identifier != "CVE-M5000" {
		t.Errorf("the last page: %+v, %v", found, err)
	}
	if found, err := s.Problems(t.Context(), insight.Query{Cluster: "far"}); err != nil || len(found) != 0 {
		t.Errorf("another cluster's: %+v, %v", found, err)
	}
}
