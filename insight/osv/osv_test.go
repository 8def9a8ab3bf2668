package osv_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/osv"
	"reeve.dev/reeve/insight/vex"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
)

const log4shell = `{
  "schema_version": "1.6.0", "id": "GHSA-jfh8-c2jp-5v3q", "modified": "2024-01-01T00:00:00Z",
  "aliases": ["CVE-2021-44228"], "summary": "Remote code injection in Log4j",
  "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H"}],
  "database_specific": {"severity": "CRITICAL", "cwe_ids": []},
  "affected": [{
    "package": {"ecosystem": "Maven", "name": "org.apache.logging.log4j:log4j-core"},
    "ranges": [
      {"type": "ECOSYSTEM", "events": [{"introduced": "2.13.0"}, {"fixed": "2.15.0"}]},
      {"type": "ECOSYSTEM", "events": [{"introduced": "2.0-beta9"}, {"fixed": "2.12.2"}]},
      {"type": "GIT", "repo": "https://example.org", "events": [{"introduced": "0"}]}
    ]
  }]
}`

func TestParse(t *testing.T) {
	got, err := osv.Parse([]byte(log4shell))
	if err != nil {
		t.Fatal(err)
	}
	want := osv.Entry{
		ID: "GHSA-jfh8-c2jp-5v3q", Modified: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), Aliases: []string{"CVE-2021-44228"}, CVE: "CVE-2021-44228",
		Summary: "Remote code injection in Log4j", Severity: "critical", Score: 10,
		Affected: []osv.Affected{{
			Ecosystem: "Maven", Package: "Maven/org.apache.logging.log4j:log4j-core", Versions: osv.Versions{Ranges: []osv.Range{
				{{Introduced: "2.13.0"}, {Fixed: "2.15.0"}}, {{Introduced: "2.0-beta9"}, {Fixed: "2.12.2"}},
			}},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		`{`:          "isn't an OSV entry",
		`{"id":1}`:   "isn't an OSV entry",
		`{"id":""}`:  "id: must have",
		`{"id":"X"}`: "modified: is missing",
	} {
		if _, err := osv.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestFind(t *testing.T) {
	candidate := func(ecosystem, name string, v osv.Versions) []osv.Candidate {
		return []osv.Candidate{{Entry: "E", Affected: osv.Affected{Ecosystem: ecosystem, Package: insight.NewPackage(ecosystem, name).Key(), Versions: v}}}
	}
	between := func(introduced, fixed string) osv.Versions {
		return osv.Versions{Ranges: []osv.Range{{{Introduced: introduced}, {Fixed: fixed}}}}
	}
	log4j := candidate("Maven", "org.apache.logging.log4j:log4j-core", between("2.13.0", "2.15.0"))
	openssl := candidate("Debian:12", "openssl", between("0", "3.0.11-1~deb12u2"))
	two := candidate("npm", "a", osv.Versions{Ranges: []osv.Range{{{Introduced: "0"}, {Fixed: "1.5.0"}, {Introduced: "2.0.0"}, {Fixed: "2.3.0"}}}})
	mixed := candidate("npm", "a", osv.Versions{Ranges: []osv.Range{{{Introduced: "2.0.0"}, {Fixed: "2.3.0"}, {Fixed: "1.5.0"}, {Introduced: "0"}}}})
	turned := candidate("npm", "a", osv.Versions{Ranges: []osv.Range{{{Fixed: "1.5.0"}, {Introduced: "1.0.0"}}}})
	last := candidate("PyPI", "Zope.Interface", osv.Versions{Ranges: []osv.Range{{{Introduced: "0"}, {LastAffected: "5.0"}}}})
	listed := candidate("Go", "example.org/m", osv.Versions{Listed: []string{"1.0.0"}})
	for name, tc := range map[string]struct {
		purl       string
		candidates []osv.Candidate
		want       []osv.Finding
	}{
		"in the range":                      {"pkg:maven/org.apache.logging.log4j/log4j-core@2.14.1", log4j, []osv.Finding{{"E", "2.15.0"}}},
		"the first of the range":            {"pkg:maven/org.apache.logging.log4j/log4j-core@2.13.0", log4j, []osv.Finding{{"E", "2.15.0"}}},
		"a release candidate of the fix":    {"pkg:maven/org.apache.logging.log4j/log4j-core@2.15.0-rc1", log4j, []osv.Finding{{"E", "2.15.0"}}},
		"fixed":                             {"pkg:maven/org.apache.logging.log4j/log4j-core@2.15.0", log4j, nil},
		"10 is after 9":                     {"pkg:maven/org.apache.logging.log4j/log4j-core@2.100.0", log4j, nil},
		"before it was introduced":          {"pkg:maven/org.apache.logging.log4j/log4j-core@2.12.9", log4j, nil},
		"the source of a Debian package":    {"pkg:deb/debian/libssl3@3.0.11-1~deb12u1?upstream=openssl&distro=debian-12", openssl, []osv.Finding{{"E", "3.0.11-1~deb12u2"}}},
		"fixed in Debian":                   {"pkg:deb/debian/libssl3@3.0.11-1~deb12u2?upstream=openssl&distro=debian-12", openssl, nil},
		"another release of Debian":         {"pkg:deb/debian/openssl@1.0?distro=debian-11", openssl, nil},
		"a Debian whose release isn't told": {"pkg:deb/debian/openssl@1.0", openssl, nil},
		"the second branch":                 {"pkg:npm/a@2.1.0", two, []osv.Finding{{"E", "2.3.0"}}},
		"the first branch":                  {"pkg:npm/a@1.4.9", two, []osv.Finding{{"E", "1.5.0"}}},
		"between the branches":              {"pkg:npm/a@1.9.0", two, nil},
		"the second branch, unsorted":       {"pkg:npm/a@2.1.0", mixed, []osv.Finding{{"E", "2.3.0"}}},
		"the first branch, unsorted":        {"pkg:npm/a@1.4.9", mixed, []osv.Finding{{"E", "1.5.0"}}},
		"between the branches, unsorted":    {"pkg:npm/a@1.9.0", mixed, nil},
		"after the branches, unsorted":      {"pkg:npm/a@10.0.0", mixed, nil},
		"fixed, told first":                 {"pkg:npm/a@1.6.0", turned, nil},
		"affected, its end told first":      {"pkg:npm/a@1.4.0", turned, []osv.Finding{{"E", "1.5.0"}}},
		"the last one affected":             {"pkg:pypi/zope-interface@5.0", last, []osv.Finding{{"E", ""}}},
		"after the last one":                {"pkg:pypi/zope-interface@5.0.post1", last, nil},
		"listed":                            {"pkg:golang/example.org/m@v1.0.0", listed, []osv.Finding{{"E", ""}}},
		"not listed":                        {"pkg:golang/example.org/m@v1.0.1", listed, nil},
		"no purl":                           {"", listed, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, osv.Find(tc.purl, tc.candidates)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func archive(t testing.TB, files map[string]string) *bytes.Reader {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(b.Bytes())
}

type world struct {
	*store.Store
	t       testing.TB
	service *insight.Service
	matcher osv.Matcher
	items   int
}

func newWorld(t testing.TB) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "reeve.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &world{Store: s, t: t, service: insight.NewService(s, insight.Limits{}, log), matcher: osv.Matcher{Store: s, Logger: log}}
}

func (w *world) load(files map[string]string) osv.Imported {
	w.t.Helper()
	r := archive(w.t, files)
	got, err := osv.Import(w.t.Context(), w, r, r.Size())
	if err != nil {
		w.t.Fatal(err)
	}
	w.match()
	return got
}

func (w *world) match() {
	w.t.Helper()
	if err := w.matcher.Match(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) sbom(namespace string, purls ...string) {
	w.t.Helper()
	doc := `{"bomFormat":"CycloneDX","specVersion":"1.6","components":[`
	for i, p := range purls {
		if i > 0 {
			doc += ","
		}
		doc += fmt.Sprintf(`{"type":"library","name":%q,"version":"1","purl":%q}`, p[strings.LastIndex(p, "/")+1:strings.LastIndex(p, "@")], p)
	}
	w.items++
	err := w.service.Accept(w.t.Context(), insight.Item{
		ID: insight.ItemID(fmt.Sprint(w.items)), Cluster: "edge", Environment: insight.Environment{Namespace: namespace},
		Content: insight.Document{Kind: insight.KindSBOM, Service: "web", Data: []byte(doc + "]}")},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// problems are those that were found.
func (w *world) problems(q insight.Query) (out []string) {
	w.t.Helper()
	found, err := w.Problems(w.t.Context(), q)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range found {
		out = append(out, fmt.Sprintf("%s/%s %s %s %s fixed in %s", p.Environment.Namespace, p.Service, p.Identifier, p.Severity, p.AssociatedPackage, p.FixedVersion))
	}
	return out
}

func (w *world) expect(q insight.Query, want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.problems(q)); diff != "" {
		w.t.Error(diff)
	}
}

const core = "pkg:maven/org.apache.logging.log4j/log4j-core@"

func TestMatcher(t *testing.T) {
	w := newWorld(t)
	w.sbom("shop", core+"2.14.1", "pkg:npm/left-pad@1.0.0")
	got := w.load(map[string]string{"a/GHSA-jfh8-c2jp-5v3q.json": log4shell, "README": "not an entry", "broken.json": "{"})
	want := osv.Imported{Entries: 1, Changed: 1, Invalid: 1, Reasons: []string{`"broken.json": isn't an OSV entry: unexpected end of JSON input`}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	w.expect(insight.Query{}, "shop/web CVE-2021-44228 CRITICAL log4j-core fixed in 2.15.0")

	t.Run("what comes after the database is matched, too", func(t *testing.T) {
		w.sbom("blog", core+"2.13.2")
		w.sbom("fine", core+"2.17.1")
		w.match()
		w.expect(insight.Query{Q: "CVE-2021-44228"},
			"blog/web CVE-2021-44228 CRITICAL log4j-core fixed in 2.15.0", "shop/web CVE-2021-44228 CRITICAL log4j-core fixed in 2.15.0")
		w.expect(insight.Query{Q: "GHSA-jfh8-c2jp-5v3q", Namespace: "blog"}, "blog/web CVE-2021-44228 CRITICAL log4j-core fixed in 2.15.0")
		w.expect(insight.Query{Limit: 1, Offset: 1}, "shop/web CVE-2021-44228 CRITICAL log4j-core fixed in 2.15.0")
		w.expect(insight.Query{Source: "trivy"})
		w.expect(insight.Query{Since: time.Now().Add(time.Hour)})
	})
	t.Run("the same database again changes nothing", func(t *testing.T) {
		if got := w.load(map[string]string{"e.json": log4shell}); got.Changed != 0 {
			t.Errorf("imported %+v", got)
		}
	})
	t.Run("a later SBOM of the service without it ends the problem", func(t *testing.T) {
		w.sbom("shop", core+"2.17.1")
		w.match()
		w.expect(insight.Query{}, "blog/web CVE-2021-44228 CRITICAL log4j-core fixed in 2.15.0")
	})
	t.Run("an entry that was changed is matched anew", func(t *testing.T) {
		later := strings.NewReplacer("2024-01-01", "2024-02-01", `{"fixed": "2.15.0"}`, `{"fixed": "2.17.2"}`).Replace(log4shell)
		w.load(map[string]string{"e.json": later})
		var want []string
		for _, ns := range []string{"blog", "fine", "shop"} {
			want = append(want, ns+"/web CVE-2021-44228 CRITICAL log4j-core fixed in 2.17.2")
		}
		w.expect(insight.Query{}, want...)
	})
	t.Run("a withdrawn entry has no findings", func(t *testing.T) {
		w.load(map[string]string{"e.json": strings.Replace(log4shell, `"modified": "2024-01-01`, `"withdrawn": "2024-03-01T00:00:00Z", "modified": "2024-03-01`, 1)})
		w.expect(insight.Query{})
	})
}

func TestMatcher_heedsStatements(t *testing.T) {
	w := newWorld(t)
	w.service.ReadStatements(vex.Parse)
	w.sbom("shop", core+"2.14.1")
	w.sbom("blog", core+"2.14.1")
	w.load(map[string]string{"e.json": log4shell})
	all := []string{
		"blog/web CVE-2021-44228 CRITICAL log4j-core fixed in 2.15.0", "shop/web CVE-2021-44228 CRITICAL log4j-core fixed in 2.15.0",
	}
	say := func(digest insight.Digest, status, component string, made int) {
		t.Helper()
		text := fmt.Sprintf(`{"@context":"https://openvex.dev/ns","timestamp":"2024-01-0%dT00:00:00Z","statements":[
			{"vulnerability":{"name":"CVE-2021-44228"},"products":[{"@id":%q}],"status":%q}]}`, made, component, status)
		statements, err := vex.Parse(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.PutStatements(t.Context(), digest, statements, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	w.expect(insight.Query{}, all...)
	say("sha256:1", "under_investigation", core[:len(core)-1], 1)
	w.expect(insight.Query{}, all...)
	say("sha256:2", "not_affected", core[:len(core)-1], 2)
	w.expect(insight.Query{})
	w.expect(insight.Query{Cleared: true}, all...)
	found, err := w.Problems(t.Context(), insight.Query{Cleared: true, Limit: 1})
	if err != nil || found[0].Said == nil || found[0].Said.Status != insight.NotAffected || found[0].Said.Document != "sha256:2" {
		t.Errorf("what was said of it: %+v, %v", found, err)
	}
	say("sha256:3", "affected", core+"2.14.1", 3) // the latest holds
	w.expect(insight.Query{}, all...)
	for _, d := range []insight.Digest{"sha256:1", "sha256:2", "sha256:3"} {
		if err := w.RemoveStatements(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}

	// What an SBOM says of itself holds for it alone, whatever it claims to speak of.
	const others, own = "0d2fe4e7-6bcd-4b0a-9b1f-4a4a1b6b0f0a", "3e671687-395b-41f5-a30f-a58921a69b79"
	speak := func(namespace, serial, about string) {
		t.Helper()
		w.items++
		err := w.service.Accept(t.Context(), insight.Item{
			ID: insight.ItemID(fmt.Sprint(w.items)), Cluster: "edge", Environment: insight.Environment{Namespace: namespace},
			Content: insight.Document{Kind: insight.KindSBOM, Service: "web", Data: []byte(`{"bomFormat":"CycloneDX","specVersion":"1.6","serialNumber":"urn:uuid:` + serial + `",
				"components":[{"bom-ref":"l","type":"library","name":"log4j-core","version":"2.14.1","purl":"` + core + `2.14.1"}],
				"vulnerabilities":[{"id":"GHSA-jfh8-c2jp-5v3q","analysis":{"state":"not_affected","justification":"code_not_reachable"},"affects":[{"ref":"` + about + `"}]}]}`)},
		})
		if err != nil {
			t.Fatal(err)
		}
		w.match()
	}
	speak("blog", others, "pkg:npm/another@1")
	speak("shop", own, "urn:cdx:"+others+"/1#l")
	w.expect(insight.Query{}, all...)
	speak("shop", own, "l")
	w.expect(insight.Query{}, all[0])
	speak("shop", own, "urn:cdx:"+own+"/1#l")
	w.expect(insight.Query{}, all[0])
}

func TestImport_refuses(t *testing.T) {
	w := newWorld(t)
	text := strings.NewReader("no zip file")
	if _, err := osv.Import(t.Context(), w, text, text.Size()); !errors.Is(err, osv.ErrNotZip) {
		t.Errorf("text: %v", err)
	}
	empty := archive(t, map[string]string{"a.txt": ""})
	if _, err := osv.Import(t.Context(), w, empty, empty.Size()); !errors.Is(err, osv.ErrNotZip) {
		t.Errorf("no entries: %v", err)
	}
	bomb := archive(t, map[string]string{"bomb.json": strings.Repeat(" ", 33<<20), "e.json": log4shell})
	got, err := osv.Import(t.Context(), w, bomb, bomb.Size())
	if err != nil || got.Entries != 1 || got.Invalid != 1 || !strings.Contains(got.Reasons[0], "more than 33554432 bytes") {
		t.Errorf("a bomb among entries: %+v, %v", got, err)
	}
	names := `"a"` + strings.Repeat(`,"b"`, 1000)
	many := archive(t, map[string]string{"many.json": `{"id":"a","modified":"2024-01-01T00:00:00Z","aliases":[` + names + `]}`, "e.json": log4shell})
	got, err = osv.Import(t.Context(), w, many, many.Size())
	if err != nil || got.Entries != 1 || got.Invalid != 1 || !strings.Contains(got.Reasons[0], "at most 1000") {
		t.Errorf("a great many aliases: %+v, %v", got, err)
	}
}

// Large entries aren't gathered until there are many: what is in memory is bounded.
func TestImport_inParts(t *testing.T) {
	files := map[string]string{}
	for n := range 12 {
		files[fmt.Sprint(n, ".json")] = fmt.Sprintf(`{"id":"%d","modified":"2024-01-01T00:00:00Z","details":"%s"}`, n, strings.Repeat("x", 8<<20))
	}
	large := archive(t, files)
	var most int
	got, err := osv.Import(t.Context(), putter(func(entries []osv.Entry) { most = max(most, len(entries)) }), large, large.Size())
	if err != nil || got.Entries != len(files) || most > 5 {
		t.Errorf("%+v, %v; %d at once", got, err, most)
	}
}

type putter func([]osv.Entry)

func (p putter) PutOSV(_ context.Context, entries []osv.Entry, _ time.Time) (int, error) {
	p(entries)
	return len(entries), nil
}

func (putter) MatchOSV(context.Context, int, osv.Judge, time.Time) (int, error) { return 0, nil }
func (putter) OSVNoted() <-chan struct{}                                        { return nil }

func FuzzParse(f *testing.F) {
	f.Add(log4shell, "2.14.1")
	f.Add(`{"id":"a","modified":"2024-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"Debian:12","name":"a"},"versions":["1"]}],"severity":[{"score":"AV:N/AC:L/Au:N/C:P/I:P/A:P"}]}`, "1:1-1~x")
	f.Fuzz(func(t *testing.T, text, version string) {
		e, err := osv.Parse([]byte(text))
		if err != nil {
			return
		}
		for _, a := range e.Affected {
			p := insight.NewPackage(a.Ecosystem, "")
			_, p.Name, _ = strings.Cut(a.Package, "/")
			p.Version = version
			a.Match(p)
		}
	})
}
