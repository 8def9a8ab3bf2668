package sbom

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"reeve.dev/reeve/inspec/target"
)

// maxWhole is the most bytes of a file that is read as a whole.
const maxWhole = target.MaxOutput

// tree is a target's files for extractors: an fs.FS that answers what it can
// from the list, for each question to the target may be a long way.
type tree struct {
	ctx   context.Context // of the Read that it is for
	t     target.Target
	runs  bool // t runs commands
	files map[string]*file
	dirs  map[string][]fs.DirEntry
	held  map[string][]byte // what was read ahead
}

func newTree(ctx context.Context, t target.Target, files []*file, runs bool) *tree {
	tr := &tree{ctx: ctx, t: t, runs: runs, files: map[string]*file{}, dirs: map[string][]fs.DirEntry{".": nil}}
	for _, f := range files {
		tr.files[f.path] = f
		tr.enter(path.Dir(f.path), f)
	}
	return tr
}

// enter notes an entry of dir, and dir in the one above it.
func (tr *tree) enter(dir string, e fs.DirEntry) {
	_, known := tr.dirs[dir]
	tr.dirs[dir] = append(tr.dirs[dir], e)
	if !known {
		tr.enter(path.Dir(dir), directory(path.Base(dir)))
	}
}

// directory is one of a tree.
type directory string

func (d directory) Name() string               { return string(d) }
func (d directory) IsDir() bool                { return true }
func (d directory) Type() fs.FileMode          { return fs.ModeDir }
func (d directory) Info() (fs.FileInfo, error) { return dirInfo{&file{path: string(d)}}, nil }

type dirInfo struct{ *file }

func (dirInfo) IsDir() bool       { return true }
func (dirInfo) Mode() fs.FileMode { return fs.ModeDir | 0o755 }

func (tr *tree) Stat(name string) (fs.FileInfo, error) {
	if f := tr.files[name]; f != nil {
		return f, nil
	}
	if _, ok := tr.dirs[name]; ok {
		return dirInfo{&file{path: name}}, nil
	}
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrInvalid}
	}
	info, err := tr.t.Stat(tr.ctx, "/"+name, true) // it may be a link
	if err != nil {
		return nil, err
	}
	f := &file{path: name, mode: fs.FileMode(info.Mode & 0o777), size: info.Size}
	if info.Type == target.Directory {
		return dirInfo{f}, nil
	}
	return f, nil
}

func (tr *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, ok := tr.dirs[name]
	if !ok {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// Open opens a regular file that an extractor asks for besides its own, links
// followed.
func (tr *tree) Open(name string) (fs.File, error) {
	f, err := tr.open(name)
	if err != nil {
		return nil, err
	}
	if f.Size() > maxText {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("it has %d bytes; at most %d are read", f.Size(), int64(maxText))}
	}
	return f, nil
}

func (tr *tree) open(name string) (*opened, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if data, ok := tr.held[name]; ok {
		return newOpened(name, nopCloser{bytes.NewReader(data)}, int64(len(data))), nil
	}
	if o, ok := tr.t.(target.Opener); ok {
		r, size, err := o.OpenFile(tr.ctx, "/"+name)
		if err != nil {
			return nil, err
		}
		return newOpened(name, r, size), nil
	}
	f := tr.files[name]
	if f != nil && f.size > largeFile && tr.runs {
		return newOpened(name, newPieces(tr.ctx, tr.t, "/"+name, f.size), f.size), nil
	}
	if f != nil && f.size > maxWhole {
		return nil, fmt.Errorf("it has %d bytes; over this way into the target files of at most %d can be read", f.size, int64(maxWhole))
	}
	data, err := tr.t.ReadFile(tr.ctx, "/"+name, maxWhole)
	if err != nil {
		return nil, err
	}
	return newOpened(name, nopCloser{bytes.NewReader(data)}, int64(len(data))), nil
}

// cost is how many bytes of memory the file takes while it is read.
func (tr *tree) cost(f *file) int64 {
	if _, near := tr.t.(target.Opener); near || f.size > largeFile && tr.runs {
		return min(f.size, maxPieces*pieceSize)
	}
	return min(f.size, maxWhole)
}

type nopCloser struct{ io.ReaderAt }

func (nopCloser) Close() error { return nil }

// opened is an open file. It can be read in any order, as scalibr's extractors
// need it.
type opened struct {
	*io.SectionReader
	from *noting
	info *file
}

func newOpened(name string, r target.ReaderAtCloser, size int64) *opened {
	from := &noting{ReaderAtCloser: r, left: maxRead}
	return &opened{io.NewSectionReader(from, 0, size), from, &file{path: name, size: size, mode: 0o644}}
}

// noting remembers what went wrong: some extractors take it for a file that they
// aren't for. It gives so many bytes, and is for one goroutine.
type noting struct {
	target.ReaderAtCloser
	left int64
	err  error
}

func (n *noting) ReadAt(b []byte, at int64) (int, error) {
	if n.left -= int64(len(b)); n.left < 0 {
		n.err = fmt.Errorf("more than %d bytes of it would have to be read", int64(maxRead))
		return 0, n.err
	}
	got, err := n.ReaderAtCloser.ReadAt(b, at)
	if err != nil && !errors.Is(err, io.EOF) {
		n.err = err
	}
	return got, err
}

func (o *opened) Stat() (fs.FileInfo, error) { return o.info, nil }
func (o *opened) Close() error               { return o.from.Close() }
