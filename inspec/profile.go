package inspec

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"

	"reeve.dev/reeve/inspec/dsl"
	"reeve.dev/reeve/inspec/ruby"
)

// The most that a profile may hold. An archive that unpacks to more is
// refused before it is unpacked further.
const (
	MaxFiles     = 10_000
	MaxFileBytes = 16 << 20
	MaxBytes     = 64 << 20
)

// ErrNotProfile is what Load wraps when the path holds no inspec.yml.
var ErrNotProfile = errors.New("not a profile: it holds no inspec.yml")

// A ProfileError says what is wrong with a profile, where, and what to do.
type ProfileError struct {
	Profile string // its name, or the path that it was loaded from
	File    string // slash path inside the profile
	Line    int    // from 1; 0 when the whole file is meant
	Msg     string
}

func (e *ProfileError) Error() string {
	at := e.File
	if e.Line > 0 {
		at = fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	return fmt.Sprintf("profile %s: %s: %s", e.Profile, at, e.Msg)
}

// Profile is one loaded profile with the profiles that it depends on by
// path. It is read-only and may be run by several goroutines at once.
type Profile struct {
	meta  Metadata
	files map[string]string // by slash path below the profile's root
	names []string          // the keys of files, sorted
	deps  []*Profile        // in the order of meta.Depends

	patterns ruby.Patterns // of its runs

	// What takes a while goes on after Load has returned, while a caller
	// makes its target ready.
	code   func() *code
	digest func() string
}

// code is a profile's Ruby files, parsed.
type code struct {
	programs     map[string]*ruby.Program
	unread       []dsl.Broken             // controls that can't be read
	badLibraries map[string]*ProfileError // libraries that can't be read
}

// Metadata is what inspec.yml says.
type Metadata struct {
	Name, Version, Title, Summary, Maintainer string
	License, Copyright, CopyrightEmail        string
	Supports                                  []map[string]any
	Depends                                   []Dependency
	Inputs                                    []Input
}

// Dependency is another profile: a folder or an archive, found by its path
// from this one's root, or else below vendor/ by its name. One by URL or git is
// fetched if it isn't there, where the caller of LoadFetching allows it.
type Dependency struct {
	Name, Path, URL, Git string
	Branch, Tag, Ref     string // of Git; none of them: the newest
	RelativePath         string // of the profile in what URL or Git give
	SHA256               string // of the archive; "": any

	other string // a kind of source that isn't known here
	line  int
}

// Input is one value that a profile asks for.
type Input struct {
	Name, Title, Description string
	// Type is String, Numeric, Regexp, Array, Hash, Boolean, Any or empty.
	Type      string
	Required  bool
	Sensitive bool
	Pattern   string
	Value     any
	HasValue  bool
	Priority  int
	// Profile is the name of a profile that this one depends on, when it is
	// there that the value is set.
	Profile string
	Line    int

	written any // Value, with its hashes as dsl.Map
}

// Load reads the profile at p: a folder, or a .tar.gz, .tgz, .tar or .zip
// archive of one. Symbolic links are followed inside a folder and refused
// where they lead out of it.
func Load(p string) (*Profile, error) { return new(loader).load(p) }

func (l *loader) load(p string) (*Profile, error) {
	st, err := os.Stat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("profile %s does not exist: name a folder or an archive that holds an inspec.yml", p)
	}
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if st.IsDir() {
		return l.dir(p, 0)
	}
	return l.file(p, 0)
}

// Fetch gets the archive of a profile that another one depends on by URL or
// git.
type Fetch func(ctx context.Context, d Dependency) ([]byte, error)

// LoadFetching is Load, for a caller who lets profiles that are depended on be
// fetched. What inspec.lock says of them holds: their revision, and the digest
// of their archive.
func LoadFetching(ctx context.Context, p string, fetch Fetch) (*Profile, error) {
	return (&loader{fetch: func(d Dependency) ([]byte, error) { return fetch(ctx, d) }}).load(p)
}

// Read reads the archive of a profile: tar, compressed or not, or zip, told
// by its first bytes. Name stands for it in errors.
func Read(r io.Reader, name string) (*Profile, error) {
	return new(loader).archive(r, name, 0)
}

// LoadFS reads the profile whose root is the root of fsys. Dependencies by
// path are looked for inside fsys.
func LoadFS(fsys fs.FS) (*Profile, error) { return new(loader).fs(fsys, ".", "given", 0) }

// The most that profiles may depend on each other.
const (
	maxDepth        = 8
	maxDependencies = 64
)

// A loader reads a profile and what it depends on.
type loader struct {
	profiles int
	bytes    int                                // unpacked from archives
	fetch    func(d Dependency) ([]byte, error) // nil: nothing is
}

// enter counts one more profile, depth profiles below the first.
func (l *loader) enter(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("more than %d profiles depend on each other: is there a circle?", maxDepth)
	}
	if l.profiles++; l.profiles > maxDependencies {
		return fmt.Errorf("more than %d profiles: is there a circle?", maxDependencies)
	}
	return nil
}

func (l *loader) file(name string, depth int) (*Profile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	defer f.Close()
	return l.archive(f, name, depth)
}

func (l *loader) archive(r io.Reader, name string, depth int) (*Profile, error) {
	if err := l.enter(depth); err != nil {
		return nil, err
	}
	data, err := readLimited(r, MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", name, err)
	}
	files, err := l.unpack(data)
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", name, err)
	}
	return l.profile(files, name, depth, nil)
}

// unpack takes the files out of an archive.
func (l *loader) unpack(data []byte) (*fileSet, error) {
	files := newFileSet()
	files.bytes = l.bytes
	var err error
	switch {
	case bytes.HasPrefix(data, []byte("PK\x03\x04")):
		err = files.zip(data)
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		var gz *gzip.Reader
		if gz, err = gzip.NewReader(bytes.NewReader(data)); err == nil {
			err = files.tar(gz)
		}
	case len(data) > 262 && string(data[257:262]) == "ustar":
		err = files.tar(bytes.NewReader(data))
	default:
		err = errors.New("not an archive that is known here: give a folder, .tar.gz or .zip")
	}
	l.bytes = files.bytes
	return files, err
}

func (l *loader) dir(dir string, depth int) (*Profile, error) {
	if err := l.enter(depth); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	defer root.Close()
	files := newFileSet()
	if err := files.folder(root.FS(), ".", dir); err != nil {
		return nil, err
	}
	return l.profile(files, dir, depth, func(rel string) (*Profile, error) {
		if !path.IsAbs(rel) {
			rel = dir + "/" + rel
		}
		st, err := os.Stat(rel)
		if err != nil {
			return nil, err
		}
		if st.IsDir() {
			return l.dir(rel, depth+1)
		}
		return l.file(rel, depth+1)
	})
}

func (l *loader) fs(fsys fs.FS, dir, name string, depth int) (*Profile, error) {
	if err := l.enter(depth); err != nil {
		return nil, err
	}
	files := newFileSet()
	if err := files.folder(fsys, dir, name); err != nil {
		return nil, err
	}
	return l.profile(files, name, depth, func(rel string) (*Profile, error) {
		return l.fs(fsys, path.Join(dir, rel), rel, depth+1)
	})
}

// A fileSet gathers a profile's files under the limits.
type fileSet struct {
	mu    sync.Mutex // guards files and bytes while files are added
	files map[string]string
	bytes int
	meta  func() (Metadata, error) // of the inspec.yml at the root; nil: not looked at yet
}

func newFileSet() *fileSet { return &fileSet{files: map[string]string{}} }

var errTooManyFiles = fmt.Errorf("more than %d files", MaxFiles)

// add takes a file; size is what is said of its length.
func (s *fileSet) add(name string, r io.Reader, size int64) error {
	clean := path.Clean(strings.TrimPrefix(name, "./"))
	if path.IsAbs(name) || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsRune(name, '\\') {
		return fmt.Errorf("%q leads out of the archive", name)
	}
	if hidden(clean) {
		return nil
	}
	s.mu.Lock()
	room := MaxBytes - s.bytes
	s.mu.Unlock()
	text, err := textLimited(r, min(MaxFileBytes, room), size)
	if err != nil {
		return fmt.Errorf("%s: %w", clean, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) >= MaxFiles {
		return errTooManyFiles
	}
	if s.bytes += len(text); s.bytes > MaxBytes {
		return fmt.Errorf("%s: with it the profile is larger than %d bytes", clean, MaxBytes)
	}
	s.files[clean] = text
	return nil
}

// hidden reports whether a part of the path begins with a dot: version
// control and editors keep their things there, and no profile does.
func hidden(p string) bool {
	for part := range strings.SplitSeq(p, "/") {
		if len(part) > 1 && part[0] == '.' {
			return true
		}
	}
	return false
}

// folder gathers the files of a folder, which must have an inspec.yml: a
// folder that hasn't, such as / by mistake, isn't searched.
func (s *fileSet) folder(fsys fs.FS, dir, name string) error {
	if _, err := fs.Stat(fsys, path.Join(dir, "inspec.yml")); err != nil {
		return notProfile(name)
	}
	if err := s.read(fsys, path.Join(dir, "inspec.yml"), "inspec.yml"); err != nil {
		return fmt.Errorf("profile %s: %w", name, err)
	}
	// What it says takes as long to read as the way to some hundred files.
	text := s.files["inspec.yml"]
	s.meta = sync.OnceValues(func() (Metadata, error) { return parseMetadata(name, []byte(text)) })
	go s.meta()
	if err := s.walk(fsys, dir); err != nil {
		return fmt.Errorf("profile %s: %w", name, err)
	}
	return nil
}

func notProfile(name string) error {
	return fmt.Errorf("profile %s: %w (an inspec.yml with at least `name: …` makes a folder a profile)", name, ErrNotProfile)
}

// walk reads the files of a folder, several side by side: the way to one costs
// more than its bytes.
func (s *fileSet) walk(fsys fs.FS, dir string) error {
	var files []string
	err := fs.WalkDir(fsys, dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(p, dir), "/")
		switch {
		case p == dir, rel == "inspec.yml": // which was read first
			return nil
		case d.IsDir() && hidden(d.Name()):
			return fs.SkipDir
		case d.IsDir() || hidden(d.Name()):
			return nil
		}
		if d.Type()&fs.ModeSymlink != 0 {
			st, err := fs.Stat(fsys, p)
			if err != nil {
				return fmt.Errorf("%s is a link that leads nowhere or out of the profile: replace it by the file", rel)
			}
			if st.IsDir() {
				return nil
			}
		} else if !d.Type().IsRegular() {
			return nil
		}
		if len(files) == MaxFiles {
			return errTooManyFiles
		}
		files = append(files, p)
		return nil
	})
	if err != nil {
		return err
	}
	var g errgroup.Group
	var next atomic.Int64
	for range min(4, len(files)) {
		g.Go(func() error {
			for i := int(next.Add(1)) - 1; i < len(files); i = int(next.Add(1)) - 1 {
				rel := strings.TrimPrefix(strings.TrimPrefix(files[i], dir), "/")
				if err := s.read(fsys, files[i], rel); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func (s *fileSet) read(fsys fs.FS, p, rel string) error {
	f, err := fsys.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.add(rel, f, 0)
}

func (s *fileSet) tar(r io.Reader) error {
	// The reader is bounded as a whole, too: headers and skipped entries count.
	tr := tar.NewReader(io.LimitReader(r, 2*MaxBytes))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the archive is damaged or unpacks to more than %d MiB: %w", 2*MaxBytes>>20, err)
		}
		switch h.Typeflag {
		case tar.TypeReg:
			if err := s.add(h.Name, tr, h.Size); err != nil {
				return err
			}
		case tar.TypeSymlink, tar.TypeLink:
			return fmt.Errorf("%s is a link; archives of profiles hold files only: make it again with `tar -h`", h.Name)
		}
	}
}

func (s *fileSet) zip(data []byte) error {
	zr, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return fmt.Errorf("the archive is damaged: %w", err)
	}
	for _, e := range zr.File {
		if e.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("%s is a link; archives of profiles hold files only", e.Name)
		}
		if !e.Mode().IsRegular() {
			continue
		}
		r, err := e.Open()
		if err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
		err = s.add(e.Name, r, int64(e.UncompressedSize64))
		r.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// textLimited is readLimited for a text, in no more memory than that takes.
// size is what to expect; since an archive may say anything, memory for much
// comes as it is read.
func textLimited(r io.Reader, limit int, size int64) (string, error) {
	buf := copies.Get().(*[]byte)
	defer copies.Put(buf)
	var b strings.Builder
	b.Grow(int(min(max(size, 0), 1<<20)))
	if _, err := io.CopyBuffer(&b, io.LimitReader(r, int64(limit)+1), *buf); err != nil {
		return "", err
	}
	if b.Len() > limit {
		return "", fmt.Errorf("larger than %d bytes", limit)
	}
	return b.String(), nil
}

var copies = sync.Pool{New: func() any {
	buf := make([]byte, 16<<10)
	return &buf
}}

// readLimited reads all of r, up to limit bytes.
func readLimited(r io.Reader, limit int) ([]byte, error) {
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(r, int64(limit)+1)); err != nil {
		return nil, err
	}
	if b.Len() > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return b.Bytes(), nil
}

// profile makes the Profile of the files: its root is the folder of the
// inspec.yml nearest to the top, since archives often wrap all in one folder.
// Outside finds a profile by its path from the root, where there is an
// outside.
func (l *loader) profile(s *fileSet, name string, depth int, outside func(rel string) (*Profile, error)) (*Profile, error) {
	root, found := "", false
	for f := range s.files {
		if path.Base(f) != "inspec.yml" {
			continue
		}
		dir := path.Dir(f)
		better := strings.Count(dir, "/") < strings.Count(root, "/") || (strings.Count(dir, "/") == strings.Count(root, "/") && dir < root)
		if dir == "." {
			root, found = ".", true
			break
		}
		if !found || better {
			root, found = dir, true
		}
	}
	if !found {
		return nil, notProfile(name)
	}
	p := &Profile{files: s.below(root).files}
	for f := range p.files {
		p.names = append(p.names, f)
	}
	slices.Sort(p.names)
	var err error
	if s.meta != nil && root == "." {
		p.meta, err = s.meta()
	} else {
		p.meta, err = parseMetadata(name, []byte(p.files["inspec.yml"]))
	}
	if err != nil {
		return nil, err
	}
	if len(p.sources("controls/")) == 0 && len(p.meta.Depends) == 0 && len(p.sources("libraries/")) == 0 {
		return nil, &ProfileError{Profile: p.meta.Name, File: "controls/", Msg: "there is no file controls/*.rb: a profile holds its controls there"}
	}
	for _, d := range p.meta.Depends {
		dp, err := l.dependency(p, d, depth, outside)
		if err != nil {
			return nil, &ProfileError{Profile: p.meta.Name, File: "inspec.yml", Line: d.line, Msg: fmt.Sprintf("depends on %s: %v", d, err)}
		}
		p.deps = append(p.deps, dp)
	}
	p.code, p.digest = sync.OnceValue(p.parse), sync.OnceValue(p.sum)
	go func() {
		p.code()
		p.digest()
	}()
	return p, nil
}

// String names the dependency for errors.
func (d Dependency) String() string {
	if d.Name != "" {
		return d.Name
	}
	return d.Path
}

// below is the files in the folder dir, by their paths from there.
func (s *fileSet) below(dir string) *fileSet {
	if dir == "." {
		return s
	}
	sub := newFileSet()
	for f, data := range s.files {
		if rest, ok := strings.CutPrefix(f, dir+"/"); ok {
			sub.files[rest] = data
		}
	}
	return sub
}

const vendored = "vendor"

// archives are how the names of a folder and of archives end.
var archives = []string{"", ".tar.gz", ".tgz", ".zip"}

// vendored is where the dependency is, below vendor/, unless it is at its
// path.
func (d Dependency) vendored() string {
	name := d.Name
	if name == "" {
		name = path.Base(d.Path)
		for _, end := range archives {
			name = strings.TrimSuffix(name, end)
		}
	}
	return path.Join(vendored, path.Join("/", name))
}

// dependency reads a profile that p depends on. An archive carries it inside
// itself: at its path, or below vendor/.
func (l *loader) dependency(p *Profile, d Dependency, depth int, outside func(rel string) (*Profile, error)) (*Profile, error) {
	own := &fileSet{files: p.files}
	inside := func(at string) (*Profile, error) {
		at = path.Clean(at)
		if data, ok := p.files[at]; ok {
			return l.archive(strings.NewReader(data), at, depth+1)
		}
		if _, ok := p.files[at+"/inspec.yml"]; !ok || at == "." {
			return nil, nil
		}
		if err := l.enter(depth + 1); err != nil {
			return nil, err
		}
		return l.profile(own.below(at), at, depth+1, nil)
	}
	if d.Path != "" {
		if dp, err := inside(d.Path); dp != nil || err != nil {
			return dp, err
		}
	}
	for _, end := range archives {
		if dp, err := inside(d.vendored() + end); dp != nil || err != nil {
			return dp, err
		}
	}
	if d.Name != "" {
		for _, f := range p.names {
			// as `inspec vendor` names them, by a digest
			at := path.Dir(f)
			if path.Base(f) != "inspec.yml" || path.Dir(at) != vendored {
				continue
			}
			if meta, err := parseMetadata(at, []byte(p.files[f])); err == nil && meta.Name == d.Name {
				return inside(at)
			}
		}
	}
	if d.Path != "" && outside != nil {
		return outside(d.Path)
	}
	if l.fetch != nil && (d.Git != "" || d.URL != "") {
		return l.fetched(p, d, depth)
	}
	at := d.vendored()
	switch {
	case d.Git != "":
		return nil, fmt.Errorf("nothing is fetched here: put it into the profile with `git clone %s %s`, or as %s.tar.gz", d.Git, at, at)
	case d.URL != "":
		return nil, fmt.Errorf("nothing is fetched here: put it into the profile by unpacking %s into %s, or as %s.tar.gz", d.URL, at, at)
	case d.other != "":
		return nil, fmt.Errorf("depends by %s is not supported: put the profile into %s, or there as %s.tar.gz", d.other, at, at)
	case d.Path != "":
		return nil, fmt.Errorf("it isn't there: %s", d.Path)
	}
	return nil, fmt.Errorf("it has neither path, git nor url, and there is no %s", at)
}

// fetched reads a profile that p depends on from where it says that it is.
func (l *loader) fetched(p *Profile, d Dependency, depth int) (*Profile, error) {
	locked, err := p.locked(d)
	if err != nil {
		return nil, err
	}
	data, err := l.fetch(locked)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); locked.SHA256 != "" && !strings.EqualFold(hex.EncodeToString(sum[:]), locked.SHA256) {
		return nil, fmt.Errorf("what was fetched has the SHA-256 %x, but it must be %s: if the change is meant, take it out of inspec.lock", sum, locked.SHA256)
	}
	name := first(d.Name, d.URL, d.Git)
	if d.RelativePath == "" {
		return l.archive(bytes.NewReader(data), name, depth+1)
	}
	if err := l.enter(depth + 1); err != nil {
		return nil, err
	}
	files, err := l.unpack(data)
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", name, err)
	}
	want := path.Join(path.Join("/", d.RelativePath), "inspec.yml")
	for _, f := range sortedKeys(files.files) {
		// Forges wrap all in a folder.
		if _, rest, _ := strings.Cut(f, "/"); "/"+rest == want || "/"+f == want {
			return l.profile(files.below(path.Dir(f)), name, depth+1, nil)
		}
	}
	return nil, fmt.Errorf("there is no %s in it: see relative_path", strings.TrimPrefix(want, "/"))
}

func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// locked is the dependency as inspec.lock pins it.
func (p *Profile) locked(d Dependency) (Dependency, error) {
	text, ok := p.files["inspec.lock"]
	if !ok {
		return d, nil
	}
	var lock struct {
		Depends []struct {
			Name     string `yaml:"name"`
			Resolved struct {
				URL    string `yaml:"url"`
				SHA256 string `yaml:"sha256"`
				Git    string `yaml:"git"`
				Ref    string `yaml:"ref"`
			} `yaml:"resolved_source"`
		} `yaml:"depends"`
	}
	if err := yaml.Unmarshal([]byte(text), &lock); err != nil {
		return d, fmt.Errorf("inspec.lock: not YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	for _, e := range lock.Depends {
		if e.Name == "" || e.Name != d.Name {
			continue
		}
		r := e.Resolved
		switch {
		case r.Git != "" && r.Ref != "":
			d.URL, d.Git, d.Ref = "", r.Git, r.Ref
		case r.URL != "":
			d.URL, d.Git, d.SHA256 = r.URL, "", r.SHA256
		}
	}
	return d, nil
}

// sum is the SHA-256 over the names and contents of the files.
func (p *Profile) sum() string {
	files := p.contents()
	h := sha256.New()
	w := bufio.NewWriter(h) // or a copy would be made of each text
	for _, n := range sortedKeys(files) {
		fmt.Fprintf(w, "%s\x00%d\x00", n, len(files[n]))
		w.WriteString(files[n])
	}
	w.Flush()
	return hex.EncodeToString(h.Sum(nil))
}

// Metadata is what the profile says of itself.
func (p *Profile) Metadata() Metadata { return p.meta }

// Name is the profile's name, as in inspec.yml.
func (p *Profile) Name() string { return p.meta.Name }

// Digest is the SHA-256, in hexadecimal digits, over the names and contents
// of the profile's files and of those that it depends on; it is the same for a folder and its archive.
func (p *Profile) Digest() string { return p.digest() }

// File returns the content of one file of the profile.
func (p *Profile) File(name string) ([]byte, bool) {
	data, ok := p.files[path.Clean(name)]
	return []byte(data), ok
}

// Archive writes the profile, with what it depends on, as a .tar.gz that is
// the same byte for byte each time.
func (p *Profile) Archive(w io.Writer) error {
	gz := gzip.NewWriter(w)
	tw := tar.NewWriter(gz)
	files := p.contents()
	for _, n := range sortedKeys(files) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: n, Mode: 0o644, Size: int64(len(files[n])), ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("archive of profile %s: %w", p.meta.Name, err)
		}
		if _, err := io.WriteString(tw, files[n]); err != nil {
			return fmt.Errorf("archive of profile %s: %w", p.meta.Name, err)
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("archive of profile %s: %w", p.meta.Name, err)
	}
	return gz.Close()
}

// contents are the files of the profile and of those that it depends on, by
// their paths in its archive: what lies outside of its folder comes below
// vendor/.
func (p *Profile) contents() map[string]string {
	out := maps.Clone(p.files)
	for i, d := range p.meta.Depends {
		at := path.Clean(d.Path)
		if d.Path == "" || path.IsAbs(at) || at == ".." || strings.HasPrefix(at, "../") {
			at = d.vendored()
		}
		here := func(end string) bool {
			_, archived := p.files[at+end]
			_, unpacked := p.files[at+end+"/inspec.yml"]
			return archived || unpacked
		}
		if p.vendors(d) || slices.ContainsFunc(archives, here) {
			continue
		}
		for n, data := range p.deps[i].contents() {
			out[path.Join(at, n)] = data
		}
	}
	return out
}

// vendors reports whether the dependency is below vendor/ under a name of its
// own.
func (p *Profile) vendors(d Dependency) bool {
	return slices.ContainsFunc(p.names, func(f string) bool {
		if path.Base(f) != "inspec.yml" || path.Dir(path.Dir(f)) != vendored {
			return false
		}
		meta, err := parseMetadata(f, []byte(p.files[f]))
		return err == nil && meta.Name == d.Name
	})
}

// sources lists the Ruby files below a folder, in order.
func (p *Profile) sources(under string) []string {
	var out []string
	for _, n := range p.names {
		if strings.HasPrefix(n, under) && strings.HasSuffix(n, ".rb") {
			out = append(out, n)
		}
	}
	return out
}
