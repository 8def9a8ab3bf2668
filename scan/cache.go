package scan

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	maxArchive = 64 << 20
	// maxCached is how many archives are kept: more than one agent's scans
	// are likely to use in turn.
	maxCached = 32
)

var errWrongContent = errors.New("its content isn't what its digest names")

// cache keeps archives of profiles in a folder, each under its digest, which
// is checked whenever one comes and whenever one is used.
type cache struct {
	dir   string
	fetch func(ctx context.Context, digest string) (io.ReadCloser, error)

	mu   sync.Mutex
	busy map[string]chan struct{} // guarded by mu; by digest, closed when its get is over
}

func openCache(dir string, fetch func(context.Context, string) (io.ReadCloser, error)) (*cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &cache{dir: dir, fetch: fetch, busy: map[string]chan struct{}{}}, nil
}

// get returns the path of the archive. Who asks for one that is being fetched
// waits for that.
func (c *cache) get(ctx context.Context, digest string) (string, error) {
	h, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || len(h) != 2*sha256.Size || strings.Trim(h, "0123456789abcdef") != "" {
		return "", fmt.Errorf("digest %q is malformed", digest)
	}
	leave, err := c.enter(ctx, h)
	if err != nil {
		return "", err
	}
	defer leave()
	path := filepath.Join(c.dir, h+".tar.gz")
	err = check(path, h)
	if err == nil {
		now := time.Now()
		return path, os.Chtimes(path, now, now)
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errWrongContent) {
		return "", err
	}
	if err := c.trim(); err != nil {
		return "", err
	}
	return path, c.load(ctx, digest, h, path)
}

// enter waits until nobody else is at the archive, and keeps others away
// until leave is called.
func (c *cache) enter(ctx context.Context, h string) (leave func(), err error) {
	for {
		c.mu.Lock()
		other, busy := c.busy[h]
		if !busy {
			done := make(chan struct{})
			c.busy[h] = done
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				delete(c.busy, h)
				close(done)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func check(path, want string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != want {
		return errWrongContent
	}
	return nil
}

func (c *cache) load(ctx context.Context, digest, want, path string) error {
	r, err := c.fetch(ctx, digest)
	if err != nil {
		return err
	}
	defer r.Close()
	tmp, err := os.CreateTemp(c.dir, "tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // does nothing after the rename
	defer tmp.Close()
	if _, err := io.Copy(tmp, io.LimitReader(r, maxArchive)); err != nil {
		return err
	}
	if err := check(tmp.Name(), want); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// trim makes room for one more by removing the archives that were used the
// longest ago. A run that is still reading one isn't disturbed, for it holds
// the file open or has read it.
func (c *cache) trim() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for len(entries) >= maxCached {
		oldest := 0
		var age time.Time
		for i, e := range entries {
			info, err := e.Info()
			if err != nil {
				return err
			}
			if i == 0 || info.ModTime().Before(age) {
				oldest, age = i, info.ModTime()
			}
		}
		if err := os.Remove(filepath.Join(c.dir, entries[oldest].Name())); err != nil {
			return err
		}
		entries = append(entries[:oldest], entries[oldest+1:]...)
	}
	return nil
}
