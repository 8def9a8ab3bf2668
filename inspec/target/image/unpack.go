package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"reeve.dev/reeve/inspec/target"
)

// limits bound what one image may take.
type limits struct {
	bytes   int64 // of all layers, decompressed
	entries int64 // files of all layers
	name    int   // of one path
	file    int64 // larger files are known by their size alone: no target gives as much
	layers  int
}

func defaultLimits() limits {
	return limits{bytes: 64 << 30, entries: 2 << 20, name: 4096, file: target.MaxOutput, layers: 1024}
}

func tooMuch(what string, limit int64) error {
	return fmt.Errorf("the image has more than the %d %s that are allowed", limit, what)
}

// parallel bounds how many layers are fetched and unpacked side by side.
const parallel = 4

// unpack reads the layers, the lowest first, into one tree.
func unpack(ctx context.Context, layers []layer, lim limits) (*tree, error) {
	if len(layers) > lim.layers {
		return nil, tooMuch("layers", int64(lim.layers))
	}
	u := &unpacker{lim: lim}
	read := make([]*content, len(layers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, l := range layers {
		g.Go(func() error {
			var err error
			if read[i], err = u.read(ctx, l); err != nil {
				return fmt.Errorf("layer %s: %w", l.name, err)
			}
			return nil
		})
	}
	t := newTree()
	err := g.Wait()
	for i, c := range read {
		if c == nil {
			continue
		}
		t.files = append(t.files, c.file)
		if err == nil {
			if err = t.apply(c.entries); err != nil {
				err = fmt.Errorf("layer %s: %w", layers[i].name, err)
			}
		}
		read[i] = nil // its entries are in the tree now
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

type unpacker struct {
	lim            limits
	bytes, entries atomic.Int64
}

// content is what one layer holds: its entries in order, and the contents of
// its files one behind the other.
type content struct {
	entries []entry
	file    *os.File
}

// entry is one file of a layer; path has no slash at either end.
type entry struct {
	path string
	link string // of a hard link, the path of the other name
	node node
}

func (u *unpacker) read(ctx context.Context, l layer) (_ *content, err error) {
	stored, err := l.open()
	if err != nil {
		return nil, err
	}
	defer stored.Close()
	plain, _, err := decompress(&cancelled{ctx, stored})
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	file, err := spoolFile()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	sum := sha256.New()
	counted := io.TeeReader(&budget{plain, u}, sum)
	c := &content{file: file}
	spool := bufio.NewWriterSize(file, 256<<10)
	tr := tar.NewReader(counted)
	var offset int64
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		e, ok, err := u.entry(h)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		if n := &e.node; n.kind == target.File && h.Typeflag != tar.TypeLink && n.size <= u.lim.file {
			if err := u.spend(h); err != nil {
				return nil, err
			}
			n.content, n.offset = file, offset
			written, err := io.Copy(spool, tr)
			offset += written
			if err != nil {
				return nil, fmt.Errorf("%s: %w", h.Name, err)
			}
		}
		c.entries = append(c.entries, e)
	}
	// What follows the end of the tar file belongs to the digest, too.
	if _, err := io.Copy(io.Discard, counted); err != nil {
		return nil, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); l.diffID.Algorithm != "sha256" || got != l.diffID.Hex {
		return nil, fmt.Errorf("its content has the digest sha256:%s, the image's configuration says %s: the image is damaged", got, l.diffID)
	}
	return c, spool.Flush()
}

// spend counts a sparse file, which takes more room than it took in the layer.
func (u *unpacker) spend(h *tar.Header) error {
	if h.Typeflag != tar.TypeGNUSparse && !sparse(h) {
		return nil
	}
	if u.bytes.Add(h.Size) > u.lim.bytes {
		return tooMuch("bytes", u.lim.bytes)
	}
	return nil
}

func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// entry reads a header; false is what makes no file.
func (u *unpacker) entry(h *tar.Header) (entry, bool, error) {
	name, err := u.clean(h.Name)
	if err != nil {
		return entry{}, false, err
	}
	e := entry{path: name, node: node{
		mode: uint32(h.Mode) & 0o7777, uid: h.Uid, gid: h.Gid, modified: h.ModTime,
	}}
	n := &e.node
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		n.kind, n.size = target.File, h.Size
	case tar.TypeLink:
		n.kind = target.File
		e.link, err = u.clean(h.Linkname)
	case tar.TypeSymlink:
		n.kind, n.link, n.size = target.Symlink, h.Linkname, int64(len(h.Linkname))
		n.mode = 0o777
		_, err = u.clean(h.Linkname)
	case tar.TypeDir:
		n.kind, n.children = target.Directory, map[string]*node{}
	case tar.TypeChar:
		n.kind = target.CharacterDevice
	case tar.TypeBlock:
		n.kind = target.BlockDevice
	case tar.TypeFifo:
		n.kind = target.Pipe
	case tar.TypeXGlobalHeader:
		return entry{}, false, nil
	default:
		return entry{}, false, fmt.Errorf("%s is of the kind %q, which no layer has", short(h.Name), h.Typeflag)
	}
	if err != nil {
		return entry{}, false, err
	}
	if u.entries.Add(1) > u.lim.entries {
		return entry{}, false, tooMuch("files", u.lim.entries)
	}
	return e, true, nil
}

// clean is a path from the image's root.
func (u *unpacker) clean(name string) (string, error) {
	switch {
	case len(name) > u.lim.name:
		return "", fmt.Errorf("the path %s is longer than %d bytes", short(name), u.lim.name)
	case strings.ContainsRune(name, 0):
		return "", fmt.Errorf("the path %s holds a NUL byte", short(name))
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/"), nil
}

func short(s string) string {
	if len(s) > 120 {
		s = s[:120] + "…"
	}
	return fmt.Sprintf("%q", s)
}

// budget counts what all layers give together.
type budget struct {
	r io.Reader
	u *unpacker
}

func (b *budget) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.u.bytes.Add(int64(n)) > b.u.lim.bytes {
		return 0, tooMuch("bytes", b.u.lim.bytes)
	}
	return n, err
}

// cancelled ends reading with the context.
type cancelled struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelled) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// maxWindow bounds the memory that decompressing zstd takes.
const maxWindow = 128 << 20

// decompress finds out by the first bytes how r is compressed.
func decompress(r io.Reader) (_ io.ReadCloser, compressed bool, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	magic, err := in.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		return z, true, err
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, true, err
		}
		return z.IOReadCloser(), true, nil
	case bytes.HasPrefix(magic, []byte("BZh")), bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		return nil, true, errors.New("it is compressed by bzip2 or xz; container images use gzip and zstd, to which it must be converted")
	}
	return io.NopCloser(in), false, nil
}

// spoolFile makes a file without a name. It may become as large as the image,
// so that it lies in /var/tmp, as /tmp is often memory; TMPDIR wins.
func spoolFile() (*os.File, error) {
	dir := os.Getenv("TMPDIR")
	if info, err := os.Stat("/var/tmp"); dir == "" && err == nil && info.IsDir() {
		dir = "/var/tmp"
	}
	f, err := os.CreateTemp(dir, "reeve-image-*")
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		f, err = os.CreateTemp("", "reeve-image-*")
	}
	if err != nil {
		return nil, fmt.Errorf("%w; name a folder for temporary files with TMPDIR", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
