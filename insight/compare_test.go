package insight_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/insight"
)

func TestCompareComponents(t *testing.T) {
	c := func(purl, name, version string) insight.Component {
		return insight.Component{PURL: purl, Name: name, Version: version}
	}
	before := []insight.Component{
		c("pkg:npm/a@1", "a", "1"), c("pkg:npm/b@1", "b", "1"), c("pkg:npm/c@1", "c", "1"), c("pkg:npm/c@2", "c", "2"),
		c("", "plain", "1"), c("pkg:deb/debian/d@1?arch=amd64", "d", "1"),
	}
	after := []insight.Component{
		c("pkg:npm/a@2", "a", "2"), c("pkg:npm/c@2", "c", "2"), c("pkg:npm/c@3", "c", "3"), c("pkg:npm/c@4", "c", "4"),
		c("", "plain", "2"), c("pkg:deb/debian/d@1?arch=amd64", "d", "1"), c("pkg:npm/new@1", "new", "1"),
	}
	var got []string
	for _, ch := range insight.CompareComponents(before, after) {
		got = append(got, string(ch.Change)+" "+ch.Name+" "+ch.Before+" → "+ch.Version)
	}
	want := []string{
		"updated a 1 → 2", "removed b 1 → 1", "removed c 1 → 1", "added c  → 3", "added c  → 4", "added new  → 1", "updated plain 1 → 2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCompareFacts(t *testing.T) {
	f := func(name, value string) insight.Fact { return insight.Fact{Source: "s", Name: name, Value: value} }
	got := insight.CompareFacts([]insight.Fact{f("php", "8.1"), f("gone", "1"), f("same", "1")}, []insight.Fact{f("same", "1"), f("php", "8.2"), f("new", "1")})
	want := []insight.FactChange{{insight.Removed, f("gone", "1"), "1"}, {insight.Added, f("new", "1"), ""}, {insight.Updated, f("php", "8.2"), "8.1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCompareProblems(t *testing.T) {
	p := func(id string, score float64) insight.Problem {
		return insight.Problem{Identifier: id, SeverityScore: score}
	}
	got := insight.CompareProblems([]insight.Problem{p("CVE-1", 0.5), p("CVE-2", 0.5)}, []insight.Problem{p("CVE-2", 0.5), p("CVE-3", 0.9), p("CVE-3", 0.9)})
	want := []insight.ProblemChange{{insight.Added, p("CVE-3", 0.9)}, {insight.Removed, p("CVE-1", 0.5)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
