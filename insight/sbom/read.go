package sbom

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/google/osv-scalibr/annotator"
	apkfiles "github.com/google/osv-scalibr/annotator/osduplicate/apk"
	dpkgfiles "github.com/google/osv-scalibr/annotator/osduplicate/dpkg"
	rpmfiles "github.com/google/osv-scalibr/annotator/osduplicate/rpm"
	scalibrconfig "github.com/google/osv-scalibr/binary/proto/config_go_proto"
	"github.com/google/osv-scalibr/extractor"
	"github.com/google/osv-scalibr/extractor/filesystem"
	"github.com/google/osv-scalibr/extractor/filesystem/language/dotnet/depsjson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/golang/gobinary"
	javaarchive "github.com/google/osv-scalibr/extractor/filesystem/language/java/archive"
	"github.com/google/osv-scalibr/extractor/filesystem/language/javascript/packagejson"
	"github.com/google/osv-scalibr/extractor/filesystem/language/php/composerlock"
	"github.com/google/osv-scalibr/extractor/filesystem/language/python/wheelegg"
	"github.com/google/osv-scalibr/extractor/filesystem/language/ruby/gemspec"
	"github.com/google/osv-scalibr/extractor/filesystem/language/rust/cargoauditable"
	"github.com/google/osv-scalibr/extractor/filesystem/os/apk"
	"github.com/google/osv-scalibr/extractor/filesystem/os/dpkg"
	"github.com/google/osv-scalibr/extractor/filesystem/os/osrelease"
	"github.com/google/osv-scalibr/extractor/filesystem/os/pacman"
	"github.com/google/osv-scalibr/extractor/filesystem/os/rpm"
	scalibrfs "github.com/google/osv-scalibr/fs"
	"github.com/google/osv-scalibr/inventory"
	scalibrlog "github.com/google/osv-scalibr/log"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"reeve.dev/reeve/inspec/target"
)

// Inventory is what software a target holds.
type Inventory struct {
	System System
	// Packages are in the order of their purls, each once.
	Packages []Package
	// Unread is what might hold more and couldn't be looked at.
	Unread []Unread
}

// System is the operating system, by os-release(5); the zero value where the
// target has none.
type System struct{ ID, Name, Version string }

// Package is one piece of software.
type Package struct {
	PURL string
	// Group is Maven's group or npm's scope.
	Group, Name, Version string
	Licences             []string
	// Paths are where it was found.
	Paths []string
}

// Unread is a file or directory that couldn't be looked at.
type Unread struct{ Path, Why string }

// Limits of one archive: what is read of it, with those in it, and how deep they
// may lie.
const (
	maxArchive = 512 << 20
	maxDepth   = 8
)

// extractors are those of artifacts. What only asks for software, such as a lock
// file of another kind than composer's, isn't what is installed.
var extractors = sync.OnceValues(func() (out []filesystem.Extractor, err error) {
	// Its log is the process's standard error.
	scalibrlog.SetLogger(silent{})
	cfg := &scalibrconfig.PluginConfig{PluginSpecific: []*scalibrconfig.PluginSpecificConfig{
		{Config: &scalibrconfig.PluginSpecificConfig_JavaArchive{JavaArchive: &scalibrconfig.JavaArchiveConfig{MaxOpenedBytes: maxArchive, MaxZipDepth: maxDepth}}},
	}}
	for _, make := range []func(*scalibrconfig.PluginConfig) (filesystem.Extractor, error){
		dpkg.New, apk.New, rpm.New, pacman.New, gobinary.New, cargoauditable.New, javaarchive.New,
		packagejson.New, wheelegg.New, gemspec.New, composerlock.New, depsjson.New,
	} {
		e, err := make(cfg)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
})

// binaries are the extractors that want every executable, and what those that
// they find something in have in them.
var binaries = map[string]string{gobinary.Name: " Go buildinf:", cargoauditable.Name: ".dep-v0"}

// silent is scalibr's log.
type silent struct{}

func (silent) Errorf(string, ...any) {}
func (silent) Error(...any)          {}
func (silent) Warnf(string, ...any)  {}
func (silent) Warn(...any)           {}
func (silent) Infof(string, ...any)  {}
func (silent) Info(...any)           {}
func (silent) Debugf(string, ...any) {}
func (silent) Debug(...any)          {}

// wanted is a file and the extractors that want it.
type wanted struct {
	*file
	by []filesystem.Extractor
}

// inMemory bounds the bytes of files that are in memory at once.
const inMemory = maxWhole

// Read finds what software t holds. An error says that it couldn't be looked at
// at all.
func Read(ctx context.Context, t target.Target) (*Inventory, error) {
	all, err := extractors()
	if err != nil {
		return nil, err
	}
	missed := &unread{}
	files, runs, err := list(ctx, t, missed)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("not one file of the target can be looked at")
	}
	r := &reader{tree: newTree(ctx, t, files, runs), missed: missed, room: semaphore.NewWeighted(1)}
	want, err := r.choose(ctx, files, all)
	if err != nil {
		return nil, err
	}
	if err := r.extract(ctx, want); err != nil {
		return nil, err
	}
	if err := r.annotate(ctx); err != nil {
		return nil, err
	}
	out := &Inventory{Unread: missed.list}
	// One without os-release has no name.
	if release, err := osrelease.GetOSRelease(r.tree); err == nil {
		out.System = System{ID: release["ID"], Name: cmp.Or(release["NAME"], release["ID"]), Version: release["VERSION_ID"]}
	}
	out.Packages = packages(r.found.Packages, out.System)
	return out, nil
}

// reader is one Read under way.
type reader struct {
	tree *tree

	mu     sync.Mutex // guards what follows
	missed *unread
	found  inventory.Inventory

	room *semaphore.Weighted // for one file that takes much memory
}

func (r *reader) miss(path string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.missed.add("/"+path, err)
}

// choose finds which extractors want which files.
func (r *reader) choose(ctx context.Context, files []*file, all []filesystem.Extractor) ([]wanted, error) {
	var want []wanted
	var executables []string
	for _, f := range files {
		if f.size == 0 {
			continue
		}
		w := wanted{file: f}
		small := *f // some want no large ones, and don't tell
		small.size = 1
		binary := false
		for _, e := range all {
			switch {
			case !e.FileRequired(&small):
			case f.size > largest(e):
				r.miss(f.path, fmt.Errorf("%s: it has %d bytes; at most %d are read", e.Name(), f.size, largest(e)))
			default:
				w.by = append(w.by, e)
				binary = binary || binaries[e.Name()] != ""
			}
		}
		if len(w.by) > 0 {
			want = append(want, w)
		}
		if binary {
			executables = append(executables, "/"+f.path)
		}
	}
	if _, near := r.tree.t.(target.Opener); near || len(executables) == 0 {
		return want, nil
	}
	marked, ok, err := grep(ctx, r.tree.t, executables)
	if err != nil || !ok {
		return want, err
	}
	return slices.DeleteFunc(want, func(w wanted) bool {
		return !marked["/"+w.path] && !slices.ContainsFunc(w.by, func(e filesystem.Extractor) bool { return binaries[e.Name()] == "" })
	}), nil
}

// grepAtOnce is how many bytes of names one grep is given.
const grepAtOnce = 64 << 10

// grep finds those of paths that have in them what a binary with packages has,
// and those that it can't read. It isn't ok where the target has no grep.
func grep(ctx context.Context, t target.Target, paths []string) (marked map[string]bool, ok bool, err error) {
	marks := ""
	for _, mark := range binaries {
		marks += " -e " + target.Quote(mark)
	}
	begin, end := "", ""
	got, err := t.Run(ctx, howToGrep)
	switch how := strings.TrimSpace(string(got.Stdout)); {
	case errors.Is(err, target.ErrNoCommands):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("search for binaries: %w", err)
	case how == "files":
		begin = "LC_ALL=C grep -lF" + marks + " --"
	case how == "lines":
		begin = "for f in"
		end = `; do if [ ! -r "$f" ] || tr '\000' '\n' <"$f" | LC_ALL=C grep -qF` + marks + `; then printf '%s\n' "$f"; fi; done`
	default:
		return nil, false, nil
	}
	marked = map[string]bool{}
	for len(paths) > 0 {
		cmd := begin
		for len(paths) > 0 && (len(cmd) == len(begin) || len(cmd)+len(paths[0]) < grepAtOnce) {
			cmd += " " + target.Quote(paths[0])
			paths = paths[1:]
		}
		got, err := t.Run(ctx, cmd+end)
		switch {
		case errors.Is(err, target.ErrNoCommands):
			return nil, false, nil
		case err != nil:
			return nil, false, fmt.Errorf("search for binaries: %w", err)
		case got.ExitStatus > 2: // 1 is none found, 2 that one can't be read
			return nil, false, nil
		}
		for line := range strings.Lines(string(got.Stdout)) {
			marked[strings.TrimSuffix(line, "\n")] = true
		}
		for line := range strings.Lines(string(got.Stderr)) { // grep: PATH: WHY
			line = strings.TrimPrefix(line, "grep: ")
			if i := strings.LastIndex(line, ": "); i > 0 {
				marked[line[:i]] = true
			}
		}
	}
	return marked, true, nil
}

// howToGrep finds whether the target's grep finds what comes after a NUL in a
// line. busybox's doesn't, for which they are made line breaks.
const howToGrep = `if printf 'a\000 b\n' | LC_ALL=C grep -qF ' b'; then echo files
elif printf 'a\000 b\n' | tr '\000' '\n' | LC_ALL=C grep -qF ' b'; then echo lines; fi`

// extract has the extractors read what they want.
func (r *reader) extract(ctx context.Context, want []wanted) error {
	memory := semaphore.NewWeighted(inMemory)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.jobs())
	for _, w := range want {
		cost := r.tree.cost(w.file)
		if err := memory.Acquire(ctx, cost); err != nil {
			break // ctx's, which Wait or the caller answers
		}
		group.Go(func() error {
			defer memory.Release(cost)
			r.extractOne(ctx, w)
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if ctx := r.tree.ctx; ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// jobs is how many files are read at once.
func (r *reader) jobs() int {
	if _, near := r.tree.t.(target.Opener); near {
		return 2
	}
	return atOnce
}

func (r *reader) extractOne(ctx context.Context, w wanted) {
	f, err := r.tree.open(w.path)
	if err != nil {
		r.miss(w.path, err)
		return
	}
	defer f.Close()
	for _, e := range w.by {
		f.from.left = maxRead
		got, err := r.ask(ctx, e, w, f)
		if unread := f.from.err; unread != nil {
			err = unread
		}
		if err != nil {
			r.miss(w.path, fmt.Errorf("%s: %w", e.Name(), err))
		}
		for _, p := range got.Packages {
			p.Plugins = []string{e.Name()}
		}
		r.mu.Lock()
		r.found.Append(got)
		r.mu.Unlock()
	}
}

// ask has one extractor read an open file.
func (r *reader) ask(ctx context.Context, e filesystem.Extractor, w wanted, f *opened) (out inventory.Inventory, err error) {
	idle, heavy, err := weigh(e, f.from, w.path, f.Size())
	if err != nil || idle {
		return out, err
	}
	if heavy {
		if err := r.room.Acquire(ctx, 1); err != nil {
			return out, err
		}
		defer r.room.Release(1)
		depth := map[string]int{javaarchive.Name: 0, wheelegg.Name: maxDepth}
		if at, archive := depth[e.Name()]; archive {
			if err := new(inflation).of(f.from, f.Size(), at); err != nil {
				return out, err
			}
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return out, err
	}
	return run(ctx, e, &filesystem.ScanInput{FS: r.tree, Path: w.path, Info: w.file, Reader: f})
}

// run is e.Extract. A file that makes it panic is one that it can't read.
func run(ctx context.Context, e filesystem.Extractor, in *filesystem.ScanInput) (out inventory.Inventory, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the extractor failed inside: %v (%.500s)", p, debug.Stack())
		}
	}()
	return e.Extract(ctx, in)
}

// annotate drops the packages of languages whose files are a package's of the
// distribution, which has its own version of them.
func (r *reader) annotate(ctx context.Context) error {
	languages := slices.ContainsFunc(r.found.Packages, func(p *extractor.Package) bool { return !ofSystem(p) })
	if !languages {
		return nil
	}
	r.hold(ctx)
	for _, make := range []func(*scalibrconfig.PluginConfig) (annotator.Annotator, error){dpkgfiles.New, apkfiles.New, rpmfiles.New} {
		a, err := make(&scalibrconfig.PluginConfig{})
		if err != nil {
			return err
		}
		// What can't be told apart stays.
		if err := a.Annotate(ctx, &annotator.ScanInput{ScanRoot: &scalibrfs.ScanRoot{FS: r.tree}}, &r.found); err != nil && ctx.Err() == nil {
			r.miss("", fmt.Errorf("files of the distribution's packages: %w", err))
		}
	}
	r.found.Packages = slices.DeleteFunc(r.found.Packages, func(p *extractor.Package) bool {
		return !ofSystem(p) && len(p.ExploitabilitySignals) > 0
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func ofSystem(p *extractor.Package) bool {
	return slices.ContainsFunc(p.Plugins, func(name string) bool { return strings.HasPrefix(name, "os/") })
}

// maxHeld bounds the bytes of what is read ahead.
const maxHeld = 32 << 20

// hold reads ahead dpkg's lists of files, which are many and small, where each
// would be a round trip.
func (r *reader) hold(ctx context.Context) {
	if _, near := r.tree.t.(target.Opener); near {
		return
	}
	var paths []string
	bytes := int64(0)
	for _, e := range r.tree.dirs["var/lib/dpkg/info"] {
		f, ok := e.(*file)
		if ok && strings.HasSuffix(f.path, ".list") && bytes+f.size <= maxHeld {
			paths = append(paths, f.path)
			bytes += f.size
		}
	}
	// One that fails is asked for again when it is needed.
	data, errs := ask(ctx, paths, func(ctx context.Context, path string) ([]byte, error) {
		return r.tree.t.ReadFile(ctx, "/"+path, maxHeld)
	})
	r.tree.held = map[string][]byte{}
	for i, path := range paths {
		if errs[i] == nil {
			r.tree.held[path] = data[i]
		}
	}
}
