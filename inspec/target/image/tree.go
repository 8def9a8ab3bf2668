package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"reeve.dev/reeve/inspec/target"
)

// maxLinks bounds how many symbolic links one path may lead through, as Linux
// does.
const maxLinks = 40

// node is one file. Two names of a hard link share theirs.
type node struct {
	kind     target.FileType
	mode     uint32
	uid, gid int
	size     int64
	modified time.Time
	link     string           // of a symbolic link
	children map[string]*node // of a directory
	content  *os.File         // of a file; nil if it is too large to be kept
	offset   int64
}

// tree is the file system of an image. Once its layers are applied it isn't
// changed, and may be read concurrently.
type tree struct {
	root  *node
	files []*os.File
	close sync.Once
}

func newTree() *tree { return &tree{root: newDirectory()} }

// newDirectory is one that no layer describes.
func newDirectory() *node {
	return &node{kind: target.Directory, mode: 0o755, modified: time.Unix(0, 0), children: map[string]*node{}}
}

// What aufs called them, and layers since.
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// apply lays a layer over the tree. Its whiteouts come first, wherever they
// stand: they never concern the layer itself.
func (t *tree) apply(entries []entry) error {
	for i := range entries {
		dir, name := split(entries[i].path)
		if !strings.HasPrefix(name, whiteoutPrefix) {
			continue
		}
		parent, err := t.directory(dir, false)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case name == whiteoutOpaque:
			clear(parent.children)
		case !strings.HasPrefix(name, whiteoutMeta):
			delete(parent.children, strings.TrimPrefix(name, whiteoutPrefix))
		}
	}
	for i := range entries {
		if _, name := split(entries[i].path); strings.HasPrefix(name, whiteoutPrefix) {
			continue
		}
		if err := t.add(&entries[i]); err != nil {
			return fmt.Errorf("%s: %w", short(entries[i].path), err)
		}
	}
	return nil
}

func (t *tree) add(e *entry) error {
	n := &e.node
	if e.path == "" {
		if n.kind != target.Directory {
			return errors.New("the root of an image is a directory")
		}
		n.children = t.root.children
		t.root = n
		return nil
	}
	dir, name := split(e.path)
	parent, err := t.directory(dir, true)
	if err != nil {
		return errors.New("a part of its path is no directory")
	}
	if e.link != "" {
		dir, base := split(e.link)
		n = nil
		if from, err := t.directory(dir, false); err == nil {
			n = from.children[base]
		}
		if n == nil || n.kind == target.Directory {
			return fmt.Errorf("link to %s, which is no file", short(e.link))
		}
	}
	if old := parent.children[name]; old != nil && old.kind == target.Directory && n.kind == target.Directory {
		n.children = old.children
	}
	parent.children[name] = n
	return nil
}

func split(name string) (dir, base string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], name[i+1:]
}

// directory finds the directory at path, links followed; one that isn't there
// is made if create is set.
func (t *tree) directory(path string, create bool) (*node, error) {
	n, err := t.walk(path, true, create)
	if err == nil && n.kind != target.Directory {
		err = fmt.Errorf("%s is no directory: %w", short(path), fs.ErrNotExist)
	}
	return n, err
}

// walk finds the file at path. The last element may be a link if follow isn't
// set. What would lead outside of the root stays in it, as in a container.
func (t *tree) walk(path string, follow, create bool) (*node, error) {
	pending := strings.Split(path, "/")
	above := []*node{} // of cur
	cur, links := t.root, 0
	for len(pending) > 0 {
		elem := pending[0]
		pending = pending[1:]
		switch elem {
		case "", ".":
			continue
		case "..":
			if len(above) > 0 {
				cur, above = above[len(above)-1], above[:len(above)-1]
			}
			continue
		}
		if cur.kind != target.Directory {
			return nil, fs.ErrNotExist
		}
		next := cur.children[elem]
		if next == nil {
			if !create {
				return nil, fs.ErrNotExist
			}
			next = newDirectory()
			cur.children[elem] = next
		}
		last := !slices.ContainsFunc(pending, func(s string) bool { return s != "" })
		if next.kind != target.Symlink || last && !follow {
			above, cur = append(above, cur), next
			continue
		}
		if links++; links > maxLinks {
			return nil, fs.ErrNotExist
		}
		if strings.HasPrefix(next.link, "/") {
			cur, above = t.root, above[:0]
		}
		pending = append(strings.Split(next.link, "/"), pending...)
	}
	return cur, nil
}

func (t *tree) find(op, path string, follow bool) (*node, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, pathError(op, path, errors.New("a path in a target must begin with /"))
	}
	n, err := t.walk(path, follow, false)
	if err != nil {
		return nil, pathError(op, path, err)
	}
	return n, nil
}

func pathError(op, path string, err error) error {
	return &fs.PathError{Op: op, Path: path, Err: err}
}

func (t *tree) Stat(_ context.Context, path string, follow bool) (target.FileInfo, error) {
	n, err := t.find("stat", path, follow)
	if err != nil {
		return target.FileInfo{}, err
	}
	return target.FileInfo{Type: n.kind, Mode: n.mode, Size: n.size, UID: n.uid, GID: n.gid, ModTime: n.modified}, nil
}

// file finds the regular file at path, whose content there is.
func (t *tree) file(op, path string) (*node, error) {
	n, err := t.find(op, path, true)
	switch {
	case err != nil:
		return nil, err
	case n.kind == target.Directory:
		return nil, pathError(op, path, syscall.EISDIR)
	case n.kind != target.File:
		return nil, pathError(op, path, errors.New("not a regular file"))
	case n.content == nil:
		return nil, &target.OutputError{What: "file " + path, Limit: target.MaxOutput}
	}
	return n, nil
}

// OpenFile implements target.Opener.
func (t *tree) OpenFile(_ context.Context, path string) (target.ReaderAtCloser, int64, error) {
	n, err := t.file("open", path)
	if err != nil {
		return nil, 0, err
	}
	return part{io.NewSectionReader(n.content, n.offset, n.size)}, n.size, nil
}

// part is a file of the tree, which holds all of them until it is closed.
type part struct{ *io.SectionReader }

func (part) Close() error { return nil }

func (t *tree) ReadFile(_ context.Context, path string, limit int64) ([]byte, error) {
	n, err := t.file("read", path)
	if err != nil {
		return nil, err
	}
	if n.size > limit {
		return nil, &target.OutputError{What: "file " + path, Limit: limit}
	}
	data := make([]byte, n.size)
	if _, err := n.content.ReadAt(data, n.offset); err != nil {
		return nil, pathError("read", path, err)
	}
	return data, nil
}

func (t *tree) ReadDir(_ context.Context, path string) ([]string, error) {
	n, err := t.find("list", path, true)
	if err != nil {
		return nil, err
	}
	if n.kind != target.Directory {
		return nil, pathError("list", path, fs.ErrNotExist)
	}
	names := make([]string, 0, len(n.children))
	for name := range n.children {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

func (t *tree) Readlink(_ context.Context, path string) (string, error) {
	n, err := t.find("readlink", path, false)
	if err != nil {
		return "", err
	}
	if n.kind != target.Symlink {
		return "", pathError("readlink", path, syscall.EINVAL)
	}
	return n.link, nil
}

func (t *tree) Close() error {
	var err error
	t.close.Do(func() {
		for _, f := range t.files {
			err = errors.Join(err, f.Close())
		}
	})
	return err
}
