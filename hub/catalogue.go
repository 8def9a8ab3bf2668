package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/store"
	"reeve.dev/reeve/threshold"
)

// listTime bounds the listing of one profile's controls.
const listTime = 30 * time.Second

// profileSet is the hub's own profiles, by name.
type profileSet map[string]scan.Profile

// openProfiles loads each folder of shipped, and each folder and archive of
// dir unless that is empty, which take precedence. One that isn't a profile is
// an error that names it.
func openProfiles(ctx context.Context, shipped fs.FS, dir string) (profileSet, error) {
	set := profileSet{}
	entries, err := fs.ReadDir(shipped, ".")
	if err != nil {
		return nil, fmt.Errorf("profiles: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		sub, err := fs.Sub(shipped, e.Name())
		if err != nil {
			return nil, fmt.Errorf("profiles: %w", err)
		}
		p, err := inspec.LoadFS(sub)
		if err := set.add(ctx, p, err); err != nil {
			return nil, fmt.Errorf("profiles: %s: %w", e.Name(), err)
		}
	}
	if dir == "" {
		return set, nil
	}
	if entries, err = os.ReadDir(dir); err != nil {
		return nil, fmt.Errorf("profiles: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		p, err := inspec.Load(filepath.Join(dir, e.Name()))
		if err := set.add(ctx, p, err); err != nil {
			return nil, fmt.Errorf("profiles: %w", err)
		}
	}
	return set, nil
}

func (set profileSet) add(ctx context.Context, p *inspec.Profile, err error) error {
	if err != nil {
		return err
	}
	read, err := readProfile(ctx, p)
	if err == nil {
		set[read.Name] = read
	}
	return err
}

// readProfile is p as scans ask for it, with an archive that is always the
// same for the same content.
func readProfile(ctx context.Context, p *inspec.Profile) (scan.Profile, error) {
	var b bytes.Buffer
	if err := p.Archive(&b); err != nil {
		return scan.Profile{}, err
	}
	sum := sha256.Sum256(b.Bytes())
	ctx, cancel := context.WithTimeoutCause(ctx, listTime, fmt.Errorf("profile %s: its controls aren't listed after %v", p.Name(), listTime))
	defer cancel()
	controls, err := p.Controls(ctx)
	if err != nil {
		return scan.Profile{}, fmt.Errorf("list the controls of %s: %w", p.Name(), err)
	}
	m := p.Metadata()
	list := make([]scan.ProfileControl, len(controls))
	for i, c := range controls {
		list[i] = scan.ProfileControl{ID: c.ID, Title: c.Title, Description: c.Desc, Impact: c.Impact}
	}
	return scan.Profile{
		Name: m.Name, Version: m.Version, Title: m.Title, Summary: m.Summary,
		Controls: list, Digest: "sha256:" + hex.EncodeToString(sum[:]), Archive: b.Bytes(),
	}, nil
}

// readArchive is readProfile of an uploaded archive.
func readArchive(ctx context.Context, archive io.Reader) (scan.Profile, error) {
	p, err := inspec.Read(archive, "uploaded")
	if err != nil {
		return scan.Profile{}, err
	}
	return readProfile(ctx, p)
}

// readThreshold implements scan.CatalogueConfig's.
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

// newCatalogue has what the configuration names, and what is stored in s.
func newCatalogue(s *store.Store, profiles profileSet, thresholds *threshold.Set) (*scan.Catalogue, error) {
	cfg := scan.CatalogueConfig{
		Store: s, Profiles: slices.Collect(maps.Values(profiles)), ReadProfile: readArchive, ReadThreshold: readThreshold,
	}
	for _, name := range thresholds.Names() {
		t, err := thresholds.Get(name)
		if err != nil {
			return nil, err
		}
		cfg.Thresholds = append(cfg.Thresholds, scan.Threshold{Name: name, Text: t.Text})
	}
	return scan.NewCatalogue(cfg), nil
}
