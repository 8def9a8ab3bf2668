package github

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
)

// GitHub's archives leave out, or change, what a .gitattributes says
// (export-ignore, export-subst, working-tree-encoding), which is the
// repository's own to write. So an archive is compared with git's tree, and what
// isn't in it as it is there is read by itself.

const (
	// maxTrees is how many requests a tree may take that is too large for one.
	maxTrees = 300
	// maxListedFiles bounds a commit's files that are compared.
	maxListedFiles = 500_000
	// maxBlobs is how many files are read by themselves.
	maxBlobs = 300
	// Modes of git's entries.
	symlinkMode = "120000"
	blobEntry   = "blob"
	treeEntry   = "tree"
)

// blob is a file of a commit.
type blob struct {
	sha  string
	size int64
}

// errTree means that a commit's files can't be told.
var errTree = errors.New("it has more files than GitHub lists")

// blobs are the files of a commit by their paths, without those that are empty.
func (a *account) blobs(ctx context.Context, owner, repo, ref string) (map[string]blob, error) {
	ctx = remembering(ctx, nil) // what comes of it is remembered
	out := map[string]blob{}
	type part struct{ sha, path string }
	for todo, n := []part{{url.PathEscape(ref), ""}}, 0; len(todo) > 0; n++ {
		at := todo[0]
		todo = todo[1:]
		if n >= maxTrees {
			return nil, errTree
		}
		whole := true
		tree, _, err := a.client.Git.GetTree(ctx, owner, repo, at.sha, true)
		if err == nil && tree.GetTruncated() {
			// One level, and each folder by itself.
			whole, n = false, n+1
			tree, _, err = a.client.Git.GetTree(ctx, owner, repo, at.sha, false)
			if err == nil && tree.GetTruncated() {
				err = errTree
			}
		}
		if err != nil {
			return nil, plain(err)
		}
		for _, e := range tree.Entries {
			switch name := at.path + e.GetPath(); {
			case e.GetType() == treeEntry && !whole:
				todo = append(todo, part{e.GetSHA(), name + "/"})
			case e.GetType() == blobEntry && e.GetMode() != symlinkMode && e.GetSize() > 0:
				if len(out) == maxListedFiles {
					return nil, errTree
				}
				out[name] = blob{e.GetSHA(), int64(e.GetSize())}
			}
		}
	}
	return out, nil
}

// head is the beginning of a file.
func (a *account) head(ctx context.Context, owner, repo, sha string) ([]byte, error) {
	req, err := a.client.NewRequest(remembering(ctx, nil), http.MethodGet, fmt.Sprintf("repos/%s/%s/git/blobs/%s", owner, repo, url.PathEscape(sha)), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/vnd.github.raw+json")
	resp, err := a.client.BareDo(req)
	if err != nil {
		return nil, plain(err)
	}
	defer resp.Body.Close() // and nothing more of it is read
	head := make([]byte, sniffed)
	n, err := io.ReadFull(resp.Body, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return head[:n], nil
}

// readBlobs judges files by themselves, each content once. left is how many it
// didn't read since they are too many.
func (a *account) readBlobs(ctx context.Context, owner, repo string, files map[string]blob) (found []string, left int, err error) {
	known := map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		b := files[name]
		head, ok := known[b.sha]
		if !ok {
			if len(known) == maxBlobs {
				left++
				continue
			}
			if head, err = a.head(ctx, owner, repo, b.sha); err != nil {
				return nil, 0, err
			}
			known[b.sha] = head
		}
		if isBinary(name, head) {
			found = append(found, name)
		}
	}
	return found, left, nil
}

// content tells whether what is written to it is a blob's content: as it is or,
// where an archive has made it longer, with line ends of Windows in place of LF.
type content struct {
	want   blob
	sum    hash.Hash
	size   int64
	head   []byte // the beginning
	unwind bool   // line ends
	cr     bool   // it ended with one, which isn't written yet
}

func newContent(want blob, size int64) *content {
	c := &content{want: want, sum: sha1.New(), unwind: size > want.size}
	fmt.Fprintf(c.sum, "blob %d\x00", want.size)
	return c
}

func (c *content) Write(p []byte) (int, error) {
	if !c.unwind {
		c.add(p)
		return len(p), nil
	}
	for rest := p; len(rest) > 0; {
		if c.cr && rest[0] != '\n' {
			c.add([]byte{'\r'})
		}
		before, after, found := bytes.Cut(rest, []byte{'\r'})
		c.add(before)
		rest, c.cr = after, found
	}
	return len(p), nil
}

func (c *content) add(p []byte) {
	c.head = append(c.head, p[:min(len(p), sniffed-len(c.head))]...)
	c.sum.Write(p)
	c.size += int64(len(p))
}

// same reports whether it was that.
func (c *content) same() bool {
	if c.cr {
		c.add([]byte{'\r'})
	}
	return c.size == c.want.size && hex.EncodeToString(c.sum.Sum(nil)) == c.want.sha
}
