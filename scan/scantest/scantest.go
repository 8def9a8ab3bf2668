// Package scantest helps tests of what asks for scans.
package scantest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/threshold"
)

// Profile is a profile whose archive holds no more than that text, with one
// control.
func Profile(name, archive string) scan.Profile {
	return scan.Profile{
		Name: name, Version: "1.0.0", Controls: []scan.ProfileControl{{ID: "one", Impact: 1}},
		Digest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(archive))), Archive: []byte(archive),
	}
}

// Catalogue has the given profiles, the shipped thresholds and what is stored
// in s. An archive that is uploaded is {"name": …, "version": …} in JSON.
func Catalogue(t testing.TB, s scan.CatalogueStore, profiles ...scan.Profile) *scan.Catalogue {
	t.Helper()
	shipped, err := threshold.Open("")
	if err != nil {
		t.Fatal(err)
	}
	cfg := scan.CatalogueConfig{Store: s, Profiles: profiles, ReadProfile: read, ReadThreshold: readThreshold}
	for _, name := range shipped.Names() {
		named, err := shipped.Get(name)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Thresholds = append(cfg.Thresholds, scan.Threshold{Name: name, Text: named.Text})
	}
	return scan.NewCatalogue(cfg)
}

func read(_ context.Context, archive io.Reader) (scan.Profile, error) {
	text, err := io.ReadAll(archive)
	if err != nil {
		return scan.Profile{}, err
	}
	var what struct{ Name, Version string }
	if json.Unmarshal(text, &what) != nil {
		return scan.Profile{}, errors.New("not an archive")
	}
	p := Profile(what.Name, string(text))
	p.Version = what.Version
	return p, nil
}

func readThreshold(text []byte) (func(*hdf.Results) []string, error) {
	t, err := threshold.Parse(text)
	if err != nil {
		return nil, err
	}
	return func(doc *hdf.Results) (out []string) {
		for _, f := range t.Check(doc) {
			out = append(out, f.Message)
		}
		return out
	}, nil
}
