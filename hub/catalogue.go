package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/scan"
)

// listTime bounds the listing of one profile's controls.
const listTime = 30 * time.Second

// profileSet is scan.Profiles in memory. It doesn't change.
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
	var b bytes.Buffer
	if err := p.Archive(&b); err != nil {
		return err
	}
	sum := sha256.Sum256(b.Bytes())
	ctx, cancel := context.WithTimeoutCause(ctx, listTime, fmt.Errorf("profile %s: its controls aren't listed after %v", p.Name(), listTime))
	defer cancel()
	controls, err := p.Controls(ctx)
	if err != nil {
		return fmt.Errorf("list the controls of %s: %w", p.Name(), err)
	}
	m := p.Metadata()
	list := make([]scan.ProfileControl, len(controls))
	for i, c := range controls {
		list[i] = scan.ProfileControl{ID: c.ID, Title: c.Title, Impact: c.Impact}
	}
	set[m.Name] = scan.Profile{
		Name: m.Name, Version: m.Version, Title: m.Title, Summary: m.Summary,
		Controls: list, Digest: "sha256:" + hex.EncodeToString(sum[:]), Archive: b.Bytes(),
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
