package hub

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/scan"
)

// profiles is scan.Profiles in memory. It doesn't change.
type profileSet map[string]scan.Profile

// openProfiles loads each folder of shipped, and each folder and archive of
// dir unless that is empty, which take precedence. One that isn't a profile is
// an error that names it.
func openProfiles(shipped fs.FS, dir string) (profileSet, error) {
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
		if err := set.add(p, err); err != nil {
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
		if err := set.add(p, err); err != nil {
			return nil, fmt.Errorf("profiles: %w", err)
		}
	}
	return set, nil
}

func (set profileSet) add(p *inspec.Profile, err error) error {
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := p.Archive(&b); err != nil {
		return err
	}
	sum := sha256.Sum256(b.Bytes())
	m := p.Metadata()
	set[m.Name] = scan.Profile{
		Name: m.Name, Version: m.Version, Title: m.Title, Summary: m.Summary,
		Digest: "sha256:" + hex.EncodeToString(sum[:]), Archive: b.Bytes(),
	}
	return nil
}

// Profile implements scan.Profiles.
func (set profileSet) Profile(name string) (scan.Profile, bool) {
	p, ok := set[name]
	return p, ok
}

// Profiles implements scan.Profiles.
func (set profileSet) Profiles() []scan.Profile {
	var out []scan.Profile
	for _, p := range set {
		p.Archive = nil
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b scan.Profile) int { return strings.Compare(a.Name, b.Name) })
	return out
}
