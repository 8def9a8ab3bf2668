package transform_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/insight"
	"reeve.dev/reeve/insight/lagoon"
	"reeve.dev/reeve/insight/transform"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/store/sqlite"
)

func parse(t *testing.T, text string) *transform.Set {
	t.Helper()
	s, err := transform.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSet_Of(t *testing.T) {
	set := parse(t, `
transforms:
  - type: Package
    lookupvalue: [{name: Name, value: drupal/core, exactMatch: true}]
    transformations: [{name: Name, value: Drupal}, {name: Category, value: Application}]
    keyfact: true
  - type: cyclonedx.Component
    lookupvalue: [{name: Name, value: drush}]
    keyfact: true
  - type: Package
    lookupvalue: [{name: Version, value: "^9\\."}, {name: Name, value: drupal/core, exactMatch: true}]
    transformations: [{name: Name, value: Old Drupal}, {name: Type, value: SEMVER}]
  - type: Package
    lookupvalue: [{name: Name, value: Drupal, exactMatch: true}]
    transformations: [{name: Name, value: by what another made of it}]
  - type: Package
    lookupvalue: [{name: Name, value: unkept, exactMatch: true}]
    transformations: [{name: Name, value: Unkept}]
  - type: EnvironmentVariable
    lookupvalue: [{name: Key, value: ^PHP_(VERSION|LDFLAGS)$}]
    transformations: [{name: Name, value: PHP}]
    keyfact: true
  - type: handler.InsightsInspectLabel
    lookupvalue: [{name: Key, value: version}, {name: Value, value: 1}]
    transformations: [{name: Source, value: labels}, {name: Value, value: one}]
    keyfact: true
  - lookupvalue: [{name: Key, value: HOME, exactMatch: true}]
    keyfact: true
`)
	t.Run("packages", func(t *testing.T) {
		d := set.Of(insight.KindSBOM, "cli")
		for _, c := range []insight.Attributes{
			{Name: "drupal/core", Version: "9.2.4", PackageURL: "pkg:composer/drupal/core@9.2.4"},
			{Name: "drupal/core", Version: "8.0.0"},
			{Name: "drush/drush", Version: "10"},
			{Name: "unkept", Version: "1"},
			{Name: "HOME", Version: "1"},
			{Name: "Drupal", Version: "7"},
		} {
			d.Component(c)
		}
		want := []insight.Fact{
			{Source: "insights:sbom:cli", Service: "cli", Name: "Old Drupal", Value: "9.2.4", Description: "pkg:composer/drupal/core@9.2.4", Category: "Application", Type: "SEMVER"},
			{Source: "insights:sbom:cli", Service: "cli", Name: "drush/drush", Value: "10", Type: "TEXT"},
		}
		if diff := cmp.Diff(want, d.Facts()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("an image", func(t *testing.T) {
		d := set.Of(insight.KindImage, "cli")
		d.Image(&insight.ImageInspect{
			Env:    []string{"PHP_VERSION=8.1", "PHP_VERSION=8.2", "PHP_LDFLAGS=-Wl,-O1=x -pie", "HOME=/home", "ALONE"},
			Labels: map[string]string{"version": "1.2", "other.version": "2"},
		})
		fact := func(source, name, value, description string) insight.Fact {
			return insight.Fact{Source: source, Service: "cli", Name: name, Value: value, Description: description, Type: "TEXT"}
		}
		want := []insight.Fact{
			fact("insights:image:cli", "PHP", "-Wl,-O1=x -pie", "Environment variable"),
			fact("insights:image:cli", "HOME", "/home", "Environment variable"),
			fact("labels", "version", "one", "Label of the image"),
		}
		if diff := cmp.Diff(want, d.Facts()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a transform of everything comes to no more than people read", func(t *testing.T) {
		d := parse(t, `transforms: [{keyfact: true}]`).Of(insight.KindSBOM, "cli")
		for i := range 5000 {
			d.Component(insight.Attributes{Name: strings.Repeat("x", i+1)})
		}
		got := d.Facts()
		want := insight.Fact{
			Source: "insights:sbom:cli", Service: "cli", Name: transform.LeftOut, Value: "4000", Type: "TEXT",
			Description: "The transforms make more than 1000 facts of it: let them choose less",
		}
		if len(got) != 1001 || got[1000] != want {
			t.Errorf("%d facts, the last is %+v", len(got), got[len(got)-1])
		}
	})
}

func TestParse(t *testing.T) {
	json := "{\n\t\"transforms\": [{\"type\": \"InspectLabel\", \"lookupvalue\": [{\"name\": \"Key\", \"value\": \"a\", \"exactMatch\": true}], \"keyfact\": true}]\n}"
	d := parse(t, json).Of(insight.KindImage, "cli")
	d.Image(&insight.ImageInspect{Labels: map[string]string{"a": "1", "b": "2"}})
	if len(d.Facts()) != 1 {
		t.Errorf("by JSON: %+v", d.Facts())
	}
	for text, want := range map[string]string{
		``:                                    "the file is empty",
		`transforms: 1`:                       "line 1",
		"transforms:\n  - typ: Package":       "line 2: field typ not found",
		"{\"transforms\":[{\"lookups\":[]}]}": `unknown field "lookups"`,
		`transforms: [{}, {type: package}]`:   `transforms[1].type: is "package", must be Package`,
		`transforms: [{type: Package, lookupvalue: [{name: Key}]}]`: `transforms[0].lookupvalue[0].name: is "Key", must be one of BOMRef`,
		`transforms: [{lookupvalue: [{name: Name, value: "("}]}]`:   `transforms[0].lookupvalue[0].value: error parsing regexp`,
		`transforms: [{transformations: [{name: KeyFact}]}]`:        `transforms[0].transformations[0].name: is "KeyFact"`,
	} {
		if _, err := transform.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	set, err := transform.Load([]string{
		write("a.yaml", `transforms: [{type: Package, lookupvalue: [{name: Name, value: a}], keyfact: true}]`),
		write("b.json", `{"transforms": [{"lookupvalue": [{"name": "Name", "value": "a"}], "transformations": [{"name": "Name", "value": "A"}]}]}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	d := set.Of(insight.KindSBOM, "cli")
	d.Component(insight.Attributes{Name: "a"})
	if got := d.Facts(); len(got) != 1 || got[0].Name != "A" {
		t.Errorf("by two files: %+v", got)
	}
	bad := write("bad.yaml", "transforms: [{type: X}]")
	if _, err := transform.Load([]string{bad}); err == nil || !strings.Contains(err.Error(), bad+": transforms[0].type") {
		t.Errorf("a wrong file: %v", err)
	}
}

// Real documents come to the facts that a Lagoon user knows.
func TestDefault(t *testing.T) {
	svc, db := service(t)
	var files []string
	for _, file := range []string{"compressed.json", "testImageInspect.gz.json"} {
		message, err := os.ReadFile(filepath.Join("../../../shared/data/lagoon", file))
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
		files = append(files, file)
	}
	found, err := db.Facts(t.Context(), insight.Query{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range found {
		got[f.Category+" "+f.Name] = f.Value
	}
	want := map[string]string{
		"OS Alpine Linux": "3.17.3", "Application Drupal": "9.2.4", "Helper Drush": "10.6.0",
		"Language PHP": "7.4.28", "Lagoon Image Version": "22.2.0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%v: %s", files, diff)
	}
}

func service(t *testing.T) (*insight.Service, *store.Store) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "reeve.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	svc := insight.NewService(db, insight.Limits{}, log)
	svc.DeriveFacts(transform.Default().Of)
	return svc, db
}

func TestService_Rederive(t *testing.T) {
	svc, db := service(t)
	bom, err := json.Marshal(map[string]any{
		"bomFormat": "CycloneDX", "specVersion": "1.6",
		"components": []map[string]string{{"type": "library", "name": "rails", "version": "7.1"}, {"type": "library", "name": "varnish", "version": "6"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	accept := func(id insight.ItemID) insight.DocumentRecord {
		t.Helper()
		err := svc.Accept(t.Context(), insight.Item{
			ID: id, Cluster: "edge", Environment: insight.Environment{Namespace: "shop"},
			Content: insight.Document{Kind: insight.KindSBOM, Service: "web", Data: bom},
		})
		if err != nil {
			t.Fatal(err)
		}
		docs, err := db.InsightDocuments(t.Context(), insight.Query{})
		if err != nil || len(docs) != 1 {
			t.Fatalf("documents %+v, %v", docs, err)
		}
		return docs[0]
	}
	names := func() (out []string) {
		t.Helper()
		found, err := db.Facts(t.Context(), insight.Query{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			out = append(out, f.Name)
		}
		return out
	}
	replaced := accept("1")
	doc := accept("2")
	other := parse(t, `transforms: [{type: Package, lookupvalue: [{name: Name, value: rails}], transformations: [{name: Name, value: Rails}], keyfact: true}]`).Of
	want := []insight.FactChange{
		{Change: insight.Added, Fact: insight.Fact{Source: "insights:sbom:web", Service: "web", Name: "Rails", Value: "7.1", Type: "TEXT"}},
		{Change: insight.Removed, Fact: insight.Fact{Source: "insights:sbom:web", Service: "web", Name: "Ruby on Rails", Value: "7.1", Type: "TEXT", Category: "Application", Description: "Version of Ruby on Rails"}, Before: "7.1"},
		{Change: insight.Removed, Fact: insight.Fact{Source: "insights:sbom:web", Service: "web", Name: "Varnish", Value: "6", Type: "TEXT", Category: "Service", Description: "Version of Varnish"}, Before: "6"},
	}
	for _, c := range []struct {
		of     insight.DocumentRecord
		store  bool
		stored []string
	}{
		{doc, false, []string{"Ruby on Rails", "Varnish"}},
		{replaced, true, []string{"Ruby on Rails", "Varnish"}},
		{doc, true, []string{"Rails"}},
	} {
		got, err := svc.Rederive(t.Context(), c.of, other, c.store)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.Changes) + cmp.Diff(c.stored, names()); diff != "" {
			t.Errorf("%s, store %v: %s", c.of.Item, c.store, diff)
		}
	}
	if _, err := svc.Rederive(t.Context(), doc, nil, true); err != nil || len(names()) != 2 {
		t.Errorf("as of what comes now: %v, %v", names(), err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("transforms: [{type: Package, lookupvalue: [{name: Name, value: a}], transformations: [{name: Name, value: b}], keyfact: true}]"))
	f.Add([]byte(`{"transforms":[{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := transform.Parse(text)
		if err != nil {
			return
		}
		d := set.Of(insight.KindSBOM, "s")
		d.Component(insight.Attributes{Name: "a"})
		d.Image(&insight.ImageInspect{Env: []string{"A=b"}, Labels: map[string]string{"a": "b"}})
		if len(d.Facts()) > 3 {
			t.Errorf("%d facts of three things", len(d.Facts()))
		}
	})
}
