package scan

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/internal/near"
)

var (
	// ErrNoProfile says that there is no such profile, or version of it.
	ErrNoProfile = errors.New("there is no such profile")
	// ErrNoThreshold says that there is no threshold of that name.
	ErrNoThreshold = errors.New("there is no such threshold")
	// ErrVersionUsed says that the version of a profile is there already with
	// another content: what a version names never changes.
	ErrVersionUsed = errors.New("this version is there already with another content")
	// ErrHubsOwn says that a name is that of a profile or threshold of the hub's
	// own files, which can't be changed from outside.
	ErrHubsOwn = errors.New("is the hub's own, shipped or from its folder")
	// ErrCatalogueFull says that MaxStored is reached.
	ErrCatalogueFull = errors.New("the catalogue is full")
)

// The most that a Catalogue takes.
const (
	// MaxUpload is the most bytes of an archive as it is sent.
	MaxUpload = 16 << 20
	// MaxThreshold is the most bytes of a threshold's text.
	MaxThreshold = 1 << 20
	// MaxStored is how many versions of profiles are stored, and how many
	// thresholds.
	MaxStored = 20_000
	// namesSought is how many names are looked through for those that a wrong one
	// is like.
	namesSought = 500

	// readers is how many archives are unpacked at a time.
	readers = 1
)

// Profile is a profile that scans can ask for. Digest is that of Archive.
type Profile struct {
	Name     string
	Version  string
	Title    string
	Summary  string
	Controls []ProfileControl
	Digest   string
	// Archive is there only of profiles that aren't stored.
	Archive []byte
	// Created and CreatedBy say when and by whom it was stored; zero of the
	// hub's own.
	Created   time.Time
	CreatedBy string
}

// ProfileControl is what a profile says of a control.
type ProfileControl struct {
	ID          string
	Title       string
	Description string
	Impact      float64
}

// Threshold is a threshold that scans can ask for. Digest is that of Text.
type Threshold struct {
	Name      string
	Text      []byte
	Digest    string
	Created   time.Time
	CreatedBy string
}

// CatalogueStore keeps what was uploaded. Each method is one transaction.
type CatalogueStore interface {
	// SaveProfile keeps a version, whose archive is a document already. It
	// is ErrVersionUsed if the version is there with another digest, and
	// ErrCatalogueFull where there are most already. For the same digest it
	// changes nothing; created says which.
	SaveProfile(ctx context.Context, p Profile, most int) (created bool, err error)
	// StoredProfiles lists the versions of a profile, the one stored last first.
	StoredProfiles(ctx context.Context, name string) ([]Profile, error)
	// LastProfiles lists the version stored last of each profile whose name
	// begins with prefix and comes after one, by name.
	LastProfiles(ctx context.Context, prefix, after string, limit int) ([]Profile, error)
	// DeleteProfile removes a version, or with an empty one all;
	// ErrNoProfile if there is none.
	DeleteProfile(ctx context.Context, name, version string) error
	// SaveThreshold keeps or replaces a threshold. Unless was is empty it is
	// ErrChanged if the one that is there has another digest, or with NoDigest if
	// there is one. It is ErrCatalogueFull where there are most already.
	SaveThreshold(ctx context.Context, t Threshold, was string, most int) (created bool, err error)
	// StoredThreshold is ErrNoThreshold if there is none of that name.
	StoredThreshold(ctx context.Context, name string) (Threshold, error)
	// StoredThresholds lists those that come after a name, by name.
	StoredThresholds(ctx context.Context, after string, limit int) ([]Threshold, error)
	DeleteThreshold(ctx context.Context, name string) error

	PutDocument(r io.Reader, limit int64) (digest string, size int64, err error)
	HasDocument(digest string) (bool, error)
	Document(digest string) (io.ReadCloser, error)
}

// NoDigest is in place of the digest of a threshold that isn't there.
const NoDigest = "none"

// ErrChanged says that what a change builds on isn't there any more.
var ErrChanged = errors.New("it has been changed since")

// CatalogueConfig is what a Catalogue works with; all of it is needed.
type CatalogueConfig struct {
	Store CatalogueStore
	// Profiles and Thresholds are the hub's own, with their archives.
	Profiles   []Profile
	Thresholds []Threshold
	// ReadProfile reads an uploaded archive within limits, and answers with
	// the profile and its archive as agents are to have it. An error is
	// about the archive.
	ReadProfile func(ctx context.Context, archive io.Reader) (Profile, error)
	// ReadThreshold reads a threshold's text. What it returns gives a sentence for
	// each bound that results don't meet.
	ReadThreshold func(text []byte) (func(*hdf.Results) []string, error)
}

// Catalogue is the profiles and thresholds that scans can ask for: the hub's
// own, which come from its files, and those that were uploaded, which are
// rows. An uploaded one can't take the name of the hub's own; if a newer hub
// ships one of its name, the uploaded one stays the one that the name means.
//
// A profile is named NAME, which means the version stored last, NAME@VERSION,
// or NAME@sha256:DIGEST. A version never changes. A threshold may: a scan is
// judged by the text that was there when it was asked for.
type Catalogue struct {
	cfg     CatalogueConfig
	reading chan struct{} // has room for as many as may be read at a time

	mu   sync.Mutex
	kept map[string]time.Time // guarded by mu; when keep looked last, by digest
}

// keptFor is how long keep trusts that a document is there: far less than what
// the store lets one lie that nothing names yet.
const keptFor = time.Minute

// NewCatalogue returns a catalogue on cfg's store.
func NewCatalogue(cfg CatalogueConfig) *Catalogue {
	byName := func(a, b Profile) int { return strings.Compare(a.Name, b.Name) }
	cfg.Profiles = slices.SortedFunc(slices.Values(cfg.Profiles), byName)
	cfg.Thresholds = slices.Clone(cfg.Thresholds)
	for i := range cfg.Thresholds {
		cfg.Thresholds[i].Digest = digestOf(cfg.Thresholds[i].Text)
	}
	return &Catalogue{cfg: cfg, reading: make(chan struct{}, readers), kept: map[string]time.Time{}}
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Profile finds the profile that ref names, or ErrNoProfile.
func (c *Catalogue) Profile(ctx context.Context, ref string) (Profile, error) {
	versions, err := c.Versions(ctx, ref)
	if err != nil {
		return Profile{}, err
	}
	return versions[0], nil
}

// Versions lists the versions that ref names, the one that was stored last
// first; at least one, or ErrNoProfile.
func (c *Catalogue) Versions(ctx context.Context, ref string) ([]Profile, error) {
	name, version, _ := strings.Cut(ref, "@")
	found, err := c.cfg.Store.StoredProfiles(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", name, err)
	}
	for _, p := range c.cfg.Profiles {
		if p.Name == name {
			found = append(found, p)
		}
	}
	there := len(found)
	if version != "" {
		found = slices.DeleteFunc(found, func(p Profile) bool { return p.Version != version && p.Digest != version })
	}
	switch {
	case len(found) > 0:
		return found, nil
	case there > 0:
		return nil, fmt.Errorf("%w: %q; there are other versions of it", ErrNoProfile, ref)
	}
	all, err := c.Profiles(ctx, "", namesSought)
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %q; %s", ErrNoProfile, ref, instead(name, all, func(p Profile) string { return p.Name }))
}

// instead says which names of a list there are instead of a wrong one.
func instead[T any](wrong string, list []T, name func(T) string) string {
	names := make([]string, len(list))
	for i, v := range list {
		names[i] = name(v)
	}
	return near.Instead(wrong, names)
}

// Profiles lists the last version of each profile, by name, after one, without
// archives.
func (c *Catalogue) Profiles(ctx context.Context, after string, limit int) ([]Profile, error) {
	out, err := c.cfg.Store.LastProfiles(ctx, "", after, limit)
	if err != nil {
		return nil, fmt.Errorf("list profiles: %w", err)
	}
	return withOwn(out, c.cfg.Profiles, after, limit, func(p Profile) string { return p.Name }, func(p *Profile) { p.Archive = nil }), nil
}

// withOwn is a page of what is stored together with the hub's own, but for those
// whose names are taken.
func withOwn[T any](stored, own []T, after string, limit int, name func(T) string, trim func(*T)) []T {
	full := len(stored) == limit
	for _, v := range own {
		n := name(v)
		beyond := full && n > name(stored[limit-1])
		if n <= after || beyond || slices.ContainsFunc(stored, func(o T) bool { return name(o) == n }) {
			continue
		}
		trim(&v)
		stored = append(stored, v)
	}
	slices.SortFunc(stored, func(a, b T) int { return strings.Compare(name(a), name(b)) })
	return stored[:min(len(stored), limit)]
}

// Archive gives the archive of a profile; the caller closes it.
func (c *Catalogue) Archive(p Profile) (io.ReadCloser, error) {
	if p.Archive != nil {
		return io.NopCloser(bytes.NewReader(p.Archive)), nil
	}
	return c.cfg.Store.Document(p.Digest)
}

// What a version is made of: what a reference and a path can hold.
var versionText = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+_-]{0,99}$`)

// What a stored thing is named: what a reference and a path can hold.
var catalogueName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]{0,127}$`)

// Upload stores the profile in an archive. What is wrong with the archive is
// an *InvalidError. The same archive again is no error; created is false then.
func (c *Catalogue) Upload(ctx context.Context, archive io.Reader, by string) (p Profile, created bool, err error) {
	select {
	case c.reading <- struct{}{}:
		defer func() { <-c.reading }()
	case <-ctx.Done():
		return Profile{}, false, context.Cause(ctx)
	}
	if p, err = c.cfg.ReadProfile(ctx, archive); err != nil {
		return Profile{}, false, invalid("", "%s", cut(err.Error()))
	}
	switch {
	case !catalogueName.MatchString(p.Name):
		return Profile{}, false, invalid("", "inspec.yml: the name %q must be of letters, digits, '.', '_' and '-', at most 128", p.Name)
	case !versionText.MatchString(p.Version):
		return Profile{}, false, invalid("", "inspec.yml: the version %q must be one such as 1.2.3; each upload of another content needs another", p.Version)
	case len(p.Archive) > maxArchive:
		return Profile{}, false, invalid("", "the profile has %d bytes; at most %d", len(p.Archive), maxArchive)
	case slices.ContainsFunc(c.cfg.Profiles, func(o Profile) bool { return o.Name == p.Name }):
		return Profile{}, false, fmt.Errorf("profile %q %w: choose another name", p.Name, ErrHubsOwn)
	}
	if err := c.keep(p.Digest, p.Archive); err != nil {
		return Profile{}, false, fmt.Errorf("store profile %s: %w", p.Name, err)
	}
	p.Archive, p.Created, p.CreatedBy = nil, storeTime(), by
	if created, err = c.cfg.Store.SaveProfile(ctx, p, MaxStored); err != nil {
		return Profile{}, false, fmt.Errorf("store profile %s %s: %w", p.Name, p.Version, err)
	}
	return p, created, nil
}

// storeTime is now as any store keeps it.
func storeTime() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// keep makes sure that a document is there as it is now. Of many who need one
// at the same time the first alone goes to the disk.
func (c *Catalogue) keep(digest string, content []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.kept[digest]) < keptFor {
		return nil
	}
	there, err := c.cfg.Store.HasDocument(digest)
	if err == nil && !there {
		var got string
		got, _, err = c.cfg.Store.PutDocument(bytes.NewReader(content), int64(len(content)))
		if err == nil && got != digest {
			err = fmt.Errorf("its digest is %s, not %s", got, digest)
		}
	}
	if err == nil {
		maps.DeleteFunc(c.kept, func(_ string, at time.Time) bool { return now.Sub(at) >= keptFor })
		c.kept[digest] = now
	}
	return err
}

// DeleteProfile removes what ref names of the stored profiles: a version, or
// all. Scans that wait for their run still have it.
func (c *Catalogue) DeleteProfile(ctx context.Context, ref string) error {
	name, version, _ := strings.Cut(ref, "@")
	err := c.cfg.Store.DeleteProfile(ctx, name, version)
	if errors.Is(err, ErrNoProfile) && slices.ContainsFunc(c.cfg.Profiles, func(p Profile) bool { return p.Name == name }) {
		return fmt.Errorf("profile %q %w", name, ErrHubsOwn)
	}
	if err != nil {
		return fmt.Errorf("delete profile %s: %w", ref, err)
	}
	return nil
}

// Threshold finds a threshold by its name, or ErrNoThreshold.
func (c *Catalogue) Threshold(ctx context.Context, name string) (Threshold, error) {
	t, err := c.cfg.Store.StoredThreshold(ctx, name)
	if err == nil || !errors.Is(err, ErrNoThreshold) {
		return t, err
	}
	if i := slices.IndexFunc(c.cfg.Thresholds, func(t Threshold) bool { return t.Name == name }); i >= 0 {
		return c.cfg.Thresholds[i], nil
	}
	all, err := c.Thresholds(ctx, "", namesSought)
	if err != nil {
		return Threshold{}, err
	}
	return Threshold{}, fmt.Errorf("%w: %q; %s", ErrNoThreshold, name, instead(name, all, func(t Threshold) string { return t.Name }))
}

// Thresholds lists all, by name, after one.
func (c *Catalogue) Thresholds(ctx context.Context, after string, limit int) ([]Threshold, error) {
	out, err := c.cfg.Store.StoredThresholds(ctx, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list thresholds: %w", err)
	}
	return withOwn(out, c.cfg.Thresholds, after, limit, func(t Threshold) string { return t.Name }, func(*Threshold) {}), nil
}

// SaveThreshold stores or replaces a threshold. What is wrong with its text is
// an *InvalidError. Unless was is empty, it is the digest of the text that this one replaces, or
// NoDigest, and another one in its place is ErrChanged.
func (c *Catalogue) SaveThreshold(ctx context.Context, name string, text []byte, was, by string) (t Threshold, created bool, err error) {
	if !catalogueName.MatchString(name) {
		return t, false, invalid("name", "%q must be of letters, digits, '.', '_' and '-', at most 128", cut(name))
	}
	if len(text) > MaxThreshold {
		return t, false, invalid("text", "has %d bytes; at most %d", len(text), MaxThreshold)
	}
	if _, err := c.cfg.ReadThreshold(text); err != nil {
		return t, false, invalid("text", "%s", cut(err.Error()))
	}
	if slices.ContainsFunc(c.cfg.Thresholds, func(o Threshold) bool { return o.Name == name }) {
		return t, false, fmt.Errorf("threshold %q %w: choose another name", name, ErrHubsOwn)
	}
	t = Threshold{Name: name, Text: text, Digest: digestOf(text), Created: storeTime(), CreatedBy: by}
	if created, err = c.cfg.Store.SaveThreshold(ctx, t, was, MaxStored); err != nil {
		return t, false, fmt.Errorf("store threshold %s: %w", name, err)
	}
	return t, created, nil
}

// DeleteThreshold removes a stored threshold. Scans that wait for their run
// are still judged by it.
func (c *Catalogue) DeleteThreshold(ctx context.Context, name string) error {
	err := c.cfg.Store.DeleteThreshold(ctx, name)
	if errors.Is(err, ErrNoThreshold) && slices.ContainsFunc(c.cfg.Thresholds, func(t Threshold) bool { return t.Name == name }) {
		return fmt.Errorf("threshold %q %w", name, ErrHubsOwn)
	}
	if err != nil {
		return fmt.Errorf("delete threshold %s: %w", name, err)
	}
	return nil
}

// check holds results against the threshold that a scan was asked for with: its
// text as it was then or, for a scan of before texts were kept, as it is now. A
// threshold that can't be had any more is ErrBadResult: nothing judges them.
func (c *Catalogue) check(ctx context.Context, name, digest string, doc *hdf.Results) ([]string, error) {
	text, err := c.thresholdText(ctx, name, digest)
	if errors.Is(err, ErrNoThreshold) {
		err = fmt.Errorf("%w: %w", ErrBadResult, err)
	}
	if err != nil {
		return nil, fmt.Errorf("threshold %s: %w", name, err)
	}
	check, err := c.cfg.ReadThreshold(text)
	if err != nil {
		return nil, fmt.Errorf("%w: threshold %s: %w", ErrBadResult, name, err)
	}
	return check(doc), nil
}

func (c *Catalogue) thresholdText(ctx context.Context, name, digest string) ([]byte, error) {
	if digest == "" {
		t, err := c.Threshold(ctx, name)
		return t.Text, err
	}
	r, err := c.cfg.Store.Document(digest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, MaxThreshold))
}
