// Package zipdir opens zip files of others: package archive/zip reads the whole
// directory of one into memory, several times as much as it has bytes.
package zipdir

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"math"
)

// ErrLarge is returned for an archive whose directory is too large.
var ErrLarge = errors.New("its directory is too large")

// Open opens an archive of that size; ErrLarge where more than limit bytes would
// be read of its directory, whatever that says of itself.
func Open(r io.ReaderAt, size, limit int64) (*zip.Reader, error) {
	b := &bounded{r: r, left: limit + end}
	z, err := zip.NewReader(b, size)
	if b.left < 0 {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrLarge, limit)
	}
	b.left = math.MaxInt64 // what is in it is the caller's to bound
	return z, err
}

// end is what is read to find the directory.
const end = 80 << 10

// bounded gives that many bytes more.
type bounded struct {
	r    io.ReaderAt
	left int64
}

func (b *bounded) ReadAt(p []byte, at int64) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, ErrLarge
	}
	return b.r.ReadAt(p, at)
}
