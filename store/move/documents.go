package move

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"golang.org/x/sync/errgroup"

	"reeve.dev/reeve/store/blob"
	"reeve.dev/reeve/store/postgres"
)

// copiers are at work at a time: most of it is waiting for disk or bucket.
const copiers = 8

// copyDocuments copies those that rows name and that aren't in the target.
func copyDocuments(ctx context.Context, cfg Config, from *source) (done Documents, err error) {
	named, err := from.named(ctx)
	if err != nil {
		return done, err
	}
	to, err := postgres.OpenDocuments(ctx, cfg.To)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	var (
		mu    sync.Mutex // guards done, lost and calls of cfg.Progress
		lost  []blob.Digest
		tasks errgroup.Group
	)
	tasks.SetLimit(copiers)
	for _, d := range named {
		if ctx.Err() != nil {
			break
		}
		tasks.Go(func() error {
			there, err := copyDocument(from.documents, to, d)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, blob.ErrNotFound), errors.Is(err, blob.ErrCorrupt):
				done.Missing++
				lost = append(lost, d)
			case err != nil:
				return fmt.Errorf("document %s: %w", d, err)
			case there:
				done.There++
			default:
				done.Copied++
			}
			cfg.Progress("documents", done.Copied+done.There+done.Missing, len(named))
			return nil
		})
	}
	if err := errors.Join(tasks.Wait(), context.Cause(ctx)); err != nil {
		return done, err
	}
	if done.Missing > 0 && !cfg.WithoutMissing {
		return done, fmt.Errorf("%d of the %d documents that rows name aren't in %s, such as %s: nothing was moved; put them back from a backup, or move without them",
			done.Missing, len(named), from.dir, lost[0])
	}
	return done, nil
}

func copyDocument(from *blob.Folder, to blob.Documents, d blob.Digest) (there bool, err error) {
	if there, err = to.Has(d); there || err != nil {
		return there, err
	}
	r, err := from.Get(d)
	if err != nil {
		return false, err
	}
	defer r.Close()
	_, _, err = to.Put(r, math.MaxInt64-1) // as long as it was let be
	return false, err
}
