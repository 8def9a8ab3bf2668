package insight_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
)

func open(t testing.TB, dir string, limits insight.Limits) (*insight.Service, *store.Store) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(dir, "reeve.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return insight.NewService(s, limits, slog.New(slog.DiscardHandler)), s
}

func zip(t testing.TB, doc string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, doc); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var web = insight.Environment{Namespace: "shop-main", Project: "shop", Name: "main"}

func sbom(t testing.TB, id, build, doc string) insight.Item {
	return insight.Item{
		ID: insight.ItemID(id), Cluster: "edge", Environment: web,
		Content: insight.Document{Kind: insight.KindSBOM, Service: "nginx", Build: build, Data: zip(t, doc)},
	}
}

var ignoreReceived = cmp.Options{
	cmpopts.IgnoreFields(insight.DocumentRecord{}, "Received"),
	cmpopts.IgnoreFields(insight.ComponentRecord{}, "Received"),
}

func TestService_Accept(t *testing.T) {
	t.Run("an SBOM can be listed, searched and read", func(t *testing.T) {
		svc, db := open(t, t.TempDir(), insight.Limits{})
		for range 2 { // the second changes nothing
			if err := svc.Accept(t.Context(), sbom(t, "1", "b1", smallBOM)); err != nil {
				t.Fatal(err)
			}
		}
		docs, err := db.InsightDocuments(t.Context(), insight.Query{History: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(docs) != 1 {
			t.Fatalf("%d documents, want 1", len(docs))
		}
		want := insight.DocumentRecord{
			Item: "1", Cluster: "edge", Environment: web, Kind: insight.KindSBOM, Service: "nginx", Build: "b1",
			Digest: docs[0].Digest, Size: int64(len(smallBOM)), Current: true, Components: 4,
			SBOM: &insight.SBOM{SpecVersion: "1.6", SerialNumber: "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79", SubjectName: "nginx", SubjectVersion: "sha256:1"},
		}
		if diff := cmp.Diff(want, docs[0], ignoreReceived); diff != "" {
			t.Error(diff)
		}
		for _, q := range []string{"OPENs", "pkg:deb/debian/openssl", "pkg:deb/debian/openssl@3.0.1?distro=debian-12&arch=amd64"} {
			found, err := db.Components(t.Context(), insight.Query{Q: q})
			if err != nil {
				t.Fatal(err)
			}
			want := []insight.ComponentRecord{{
				Component: insight.Component{PURL: "pkg:deb/debian/openssl@3.0.1?arch=amd64&distro=debian-12", Type: "library", Name: "openssl", Version: "3.0.1"},
				Cluster:   "edge", Environment: web, Service: "nginx", Build: "b1", Digest: docs[0].Digest,
			}}
			if diff := cmp.Diff(want, found, ignoreReceived); diff != "" {
				t.Errorf("%q: %s", q, diff)
			}
		}
		r, err := db.InsightDocument(t.Context(), string(docs[0].Digest))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if b, err := io.ReadAll(r); err != nil || string(b) != smallBOM {
			t.Errorf("read %d bytes, %v", len(b), err)
		}
	})
	t.Run("a message to Lagoon's own handler is taken as it is", func(t *testing.T) {
		svc, db := open(t, t.TempDir(), insight.Limits{})
		for file, kind := range map[string]insight.Kind{"testSbom.gz.json": insight.KindSBOM, "testImageInspect.gz.json": insight.KindImage} {
			message, err := os.ReadFile(filepath.Join("../../shared/data/lagoon", file))
			if err != nil {
				t.Skipf("needs the test documents in ../shared/data beside the checkout: %v", err)
			}
			it, err := lagoon.Decode(message)
			if err != nil {
				t.Fatal(err)
			}
			it.ID, it.Cluster = insight.ItemID(file), "edge"
			if err := svc.Accept(t.Context(), it); err != nil {
				t.Fatal(err)
			}
			docs, err := db.InsightDocuments(t.Context(), insight.Query{Kind: kind, Project: "lagoon-demo-org", Service: "cli"})
			if err != nil {
				t.Fatal(err)
			}
			if len(docs) != 1 {
				t.Fatalf("%s: %d documents, want 1", file, len(docs))
			}
			switch d := docs[0]; {
			case kind == insight.KindSBOM && (d.Components < 600 || d.Components > 616):
				t.Errorf("%d components, want about the 616 that the document lists", d.Components)
			case kind == insight.KindImage && d.Image.Name != "docker.io/library/drupal-example-3":
				t.Errorf("image %+v", d.Image)
			}
		}
	})
	t.Run("a service's latest document is current, with what it shares kept once", func(t *testing.T) {
		svc, db := open(t, t.TempDir(), insight.Limits{})
		second := strings.Replace(smallBOM, `"openssl", "version": "3.0.1", "purl": "pkg:deb/debian/openssl@3.0.1`, `"openssl", "version": "3.0.2", "purl": "pkg:deb/debian/openssl@3.0.2`, 2)
		for _, it := range []insight.Item{sbom(t, "1", "b1", smallBOM), sbom(t, "2", "b2", second), sbom(t, "3", "b3", smallBOM)} {
			if err := svc.Accept(t.Context(), it); err != nil {
				t.Fatal(err)
			}
		}
		docs, err := db.InsightDocuments(t.Context(), insight.Query{History: true, Service: "nginx"})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range docs {
			state := "old"
			if d.Current {
				state = "current"
			}
			got = append(got, d.Build+" "+state)
		}
		if diff := cmp.Diff([]string{"b3 current", "b2 old", "b1 old"}, got); diff != "" {
			t.Error(diff)
		}
		found, err := db.Components(t.Context(), insight.Query{Q: "openssl"})
		if err != nil {
			t.Fatal(err)
		}
		if len(found) != 1 || found[0].Version != "3.0.1" || found[0].Build != "b3" {
			t.Errorf("openssl is found as %+v, want the one of b3", found)
		}
	})
}

func TestService_Accept_invalid(t *testing.T) {
	bomb := zip(t, strings.Repeat(" ", 1<<20))
	cut := zip(t, smallBOM)[:200]
	doc := func(service string, data []byte) insight.Content {
		return insight.Document{Kind: insight.KindSBOM, Service: service, Data: data}
	}
	for name, tc := range map[string]struct {
		content insight.Content
		env     insight.Environment
		want    string
	}{
		"not gzip":               {doc("nginx", []byte("hello")), web, "isn't JSON"},
		"gzip's first bytes":     {doc("nginx", []byte{0x1f, 0x8b, 9, 9}), web, "isn't gzip"},
		"gzip, cut":              {doc("nginx", cut), web, "damaged gzip"},
		"a bomb":                 {doc("nginx", bomb), web, "more than 100000 bytes when inflated"},
		"SBOM, cut":              {doc("nginx", zip(t, smallBOM[:500])), web, "sbom: is cut off"},
		"an image inspect":       {doc("nginx", zip(t, `{"Name":"x","Os":"linux"}`)), web, "bomFormat"},
		"no service":             {doc("", zip(t, smallBOM)), web, "service is missing"},
		"no place":               {doc("nginx", zip(t, smallBOM)), insight.Environment{Project: "p"}, "needs a namespace"},
		"SBOM for an image":      {insight.Document{Kind: insight.KindImage, Service: "nginx", Data: []byte(smallBOM)}, web, "Name, Digest and Os are missing"},
		"image label, number":    {insight.Document{Kind: insight.KindImage, Service: "nginx", Data: []byte(`{"Os":"linux","Labels":{"a":1}}`)}, web, "Labels"},
		"facts, no environment":  {insight.Facts{{Name: "a", Source: "s"}}, insight.Environment{}, "environment id 0"},
		"fact without source":    {insight.Facts{{Name: "a", Source: "s"}, {Name: "b"}}, insight.Environment{ID: 3}, "facts[1].source: is missing"},
		"problem without name":   {insight.Problems{{Source: "s"}}, insight.Environment{ID: 3}, "problems[0].identifier: is missing"},
		"deletion of everything": {insight.Deletion{Of: insight.KindFacts}, insight.Environment{ID: 3}, "source is missing"},
		"deletion of an SBOM":    {insight.Deletion{Of: insight.KindSBOM, Source: "s"}, insight.Environment{ID: 3}, `deletion of "sbom"`},
		"nothing":                {nil, web, "no content"},
	} {
		t.Run(name, func(t *testing.T) {
			svc, db := open(t, t.TempDir(), insight.Limits{Document: 100_000})
			err := svc.Accept(t.Context(), insight.Item{ID: "1", Cluster: "edge", Environment: tc.env, Content: tc.content})
			var invalid *insight.InvalidError
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want an InvalidError with %q", err, tc.want)
			}
			if known, err := db.InsightReceived(t.Context(), "edge", "1"); known || err != nil {
				t.Errorf("has a receipt: %v, %v", known, err)
			}
		})
	}
}

func TestService_Quarantine(t *testing.T) {
	svc, db := open(t, t.TempDir(), insight.Limits{})
	p := insight.Poison{Item: "1", Cluster: "edge", Reason: "sbom: is cut off", Message: []byte("half")}
	for range 2 {
		if err := svc.Quarantine(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	got, err := db.Quarantined(t.Context(), insight.Query{Cluster: "edge"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Reason != p.Reason || got[0].Item != "1" {
		t.Fatalf("quarantine holds %+v", got)
	}
	r, err := db.Document(string(got[0].Digest))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "half" {
		t.Errorf("the message is %q, %v", b, err)
	}
}

func TestService_Requeue(t *testing.T) {
	svc, db := open(t, t.TempDir(), insight.Limits{})
	poison := insight.Poison{Item: "1", Cluster: "edge", Reason: "a field that the hub didn't know then", Message: []byte("message")}
	if err := svc.Quarantine(t.Context(), poison); err != nil {
		t.Fatal(err)
	}
	later := strings.Replace(smallBOM, "3.0.1", "3.0.2", 4)
	if err := svc.Accept(t.Context(), sbom(t, "2", "b2", later)); err != nil {
		t.Fatal(err)
	}
	var invalid *insight.InvalidError
	err := svc.Requeue(t.Context(), "edge", "1", func([]byte) (insight.Item, error) { return insight.Item{}, insight.Invalidf("still no good") })
	if !errors.As(err, &invalid) {
		t.Errorf("what still can't be taken: %v", err)
	}
	if got, err := db.Quarantined(t.Context(), insight.Query{}); err != nil || len(got) != 1 || got[0].Reason != "still no good" {
		t.Fatalf("quarantine holds %+v, %v", got, err)
	}
	known := func(message []byte) (insight.Item, error) {
		if string(message) != "message" {
			t.Errorf("the message is %q", message)
		}
		return sbom(t, "", "b1", smallBOM), nil
	}
	if err := svc.Requeue(t.Context(), "edge", "1", known); err != nil {
		t.Fatal(err)
	}
	if got, err := db.Quarantined(t.Context(), insight.Query{}); err != nil || len(got) != 0 {
		t.Errorf("quarantine holds %+v, %v", got, err)
	}
	docs, err := db.InsightDocuments(t.Context(), insight.Query{History: true})
	if err != nil || len(docs) != 2 || docs[0].Build != "b2" || !docs[0].Current || docs[1].Current {
		t.Errorf("the one that came later isn't the current one: %+v, %v", docs, err)
	}
	if err := svc.Requeue(t.Context(), "edge", "1", known); !errors.Is(err, insight.ErrNotFound) {
		t.Errorf("again: %v, want ErrNotFound", err)
	}
}

// What an agent makes anew of the same image is kept once: it differs in its number
// and its time alone. What others hand in is kept as it is, and no cluster is given
// another's.
func TestService_Accept_sameSBOM(t *testing.T) {
	svc, db := open(t, t.TempDir(), insight.Limits{})
	made := func(serial, at, version string) string {
		return `{"bomFormat":"CycloneDX","specVersion":"1.6","serialNumber":"urn:uuid:` + serial + `","version":1,"metadata":{"timestamp":"` + at + `"},` +
			`"components":[{"type":"library","name":"openssl","version":"` + version + `","purl":"pkg:deb/debian/openssl@` + version + `"}]}`
	}
	n := 0
	accept := func(cluster fleet.AgentName, scanned bool, text string) {
		t.Helper()
		n++
		it := sbom(t, fmt.Sprint("sbom/", n), "b", text)
		it.Cluster, it.Scanned = cluster, scanned
		if err := svc.Accept(t.Context(), it); err != nil {
			t.Fatal(err)
		}
	}
	digests := func(cluster fleet.AgentName) (out []insight.Digest) {
		t.Helper()
		docs, err := db.InsightDocuments(t.Context(), insight.Query{Cluster: cluster, History: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range docs {
			out = append(out, d.Digest)
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	accept("edge", true, made("1", "2026-01-01T00:00:00Z", "3.0.1"))
	accept("edge", true, made("2", "2026-01-02T00:00:00Z", "3.0.1"))
	if got := digests("edge"); len(got) != 1 {
		t.Errorf("one SBOM is kept as %v", got)
	}
	if docs, err := db.InsightDocuments(t.Context(), insight.Query{Cluster: "edge"}); err != nil || len(docs) != 1 || docs[0].Item != "sbom/2" || docs[0].Components != 1 {
		t.Errorf("current is %+v, %v", docs, err)
	}
	accept("edge", true, made("3", "2026-01-03T00:00:00Z", "3.0.2"))
	if got := digests("edge"); len(got) != 2 {
		t.Errorf("another is taken for the same: %v", got)
	}
	accept("edge", false, made("4", "2026-01-04T00:00:00Z", "3.0.1"))
	if got := digests("edge"); len(got) != 3 {
		t.Errorf("what was handed in isn't kept: %v", got)
	}
	accept("far", true, made("5", "2026-01-05T00:00:00Z", "3.0.1"))
	for _, d := range digests("far") {
		if slices.Contains(digests("edge"), d) {
			t.Errorf("far is given edge's %s", d)
		}
	}
}

// A hub that dies after the document is on its disk and before the commit
// has acknowledged nothing; the repeat stores it once.
func TestService_Accept_afterACrashBeforeTheCommit(t *testing.T) {
	dir := t.TempDir()
	_, db := open(t, dir, insight.Limits{})
	if _, _, err := db.PutDocument(strings.NewReader(smallBOM), 1<<20); err != nil {
		t.Fatal(err)
	}
	db.Close()
	svc, db := open(t, dir, insight.Limits{})
	if err := svc.Accept(t.Context(), sbom(t, "1", "b1", smallBOM)); err != nil {
		t.Fatal(err)
	}
	docs, err := db.InsightDocuments(t.Context(), insight.Query{History: true})
	if err != nil || len(docs) != 1 {
		t.Errorf("documents %+v, %v", docs, err)
	}
}

// What can't be stored isn't acknowledged.
func TestService_Accept_withTheDatabaseGone(t *testing.T) {
	svc, db := open(t, t.TempDir(), insight.Limits{})
	db.Close()
	err := svc.Accept(t.Context(), sbom(t, "1", "b1", smallBOM))
	var invalid *insight.InvalidError
	if err == nil || errors.As(err, &invalid) {
		t.Errorf("got %v, want the database's error", err)
	}
}

func BenchmarkService_Accept(b *testing.B) {
	svc, _ := open(b, b.TempDir(), insight.Limits{})
	n := 0
	for b.Loop() {
		n++
		var doc strings.Builder
		doc.WriteString(`{"bomFormat":"CycloneDX","specVersion":"1.5","serialNumber":"`)
		doc.WriteString(strings.Repeat("x", n%7) + string(rune('a'+n%26)))
		doc.WriteString(`","components":[`)
		for i := range 600 {
			if i > 0 {
				doc.WriteString(",")
			}
			v := string(rune('0' + (n+i)%10))
			doc.WriteString(`{"type":"library","name":"pkg` + string(rune('a'+i%26)) + strings.Repeat("y", i/26) + `","version":"` + v + `","purl":"pkg:deb/debian/pkg` + string(rune('a'+i%26)) + strings.Repeat("y", i/26) + `@` + v + `"}`)
		}
		doc.WriteString("]}")
		if err := svc.Accept(b.Context(), sbom(b, strings.Repeat("i", n%200)+string(rune(n)), "b", doc.String())); err != nil {
			b.Fatal(err)
		}
	}
}
