package sbom

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"reeve.dev/reeve/inspec/target"
)

// A file of more than largeFile bytes is sent for in pieces where the target runs
// commands: of most, only a little is looked at.
const (
	largeFile = 4 << 20
	pieceSize = 1 << 20
	maxPieces = 8 // that are held
)

// pieces is a large file of a target at a distance. It may be read by several
// goroutines.
type pieces struct {
	ctx  context.Context
	t    target.Target
	path string
	size int64

	mu    sync.Mutex
	held  map[int64][]byte // guarded by mu, by their numbers
	order []int64          // guarded by mu: of held, the one used last at the end
}

func newPieces(ctx context.Context, t target.Target, path string, size int64) *pieces {
	return &pieces{ctx: ctx, t: t, path: path, size: size, held: map[int64][]byte{}}
}

// ReadAt implements io.ReaderAt.
func (p *pieces) ReadAt(b []byte, at int64) (n int, err error) {
	for n < len(b) && at < p.size {
		piece, err := p.piece(at / pieceSize)
		if err != nil {
			return n, err
		}
		got := copy(b[n:], piece[at%pieceSize:])
		n, at = n+got, at+int64(got)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (p *pieces) Close() error { return nil }

func (p *pieces) piece(number int64) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if piece, ok := p.held[number]; ok {
		i := slices.Index(p.order, number)
		p.order = append(slices.Delete(p.order, i, i+1), number)
		return piece, nil
	}
	got, err := p.t.Run(p.ctx, fmt.Sprintf("dd if=%s bs=%d skip=%d count=1", target.Quote(p.path), pieceSize, number))
	if err != nil {
		return nil, err
	}
	if want := min(pieceSize, p.size-number*pieceSize); int64(len(got.Stdout)) != want {
		return nil, fmt.Errorf("%s: the target's dd ended with status %d after %d bytes of %d", p.path, got.ExitStatus, len(got.Stdout), want)
	}
	if len(p.order) == maxPieces {
		delete(p.held, p.order[0])
		p.order = slices.Delete(p.order, 0, 1)
	}
	p.held[number], p.order = got.Stdout, append(p.order, number)
	return got.Stdout, nil
}
