package store

import (
	"context"
	"fmt"
	"time"

	"reeve.dev/reeve/store/blob"
)

// SweepAge is how old a document must be before SweepBlobs may remove it:
// far older than any transaction that is about to name it.
const SweepAge = 24 * time.Hour

// SweepBlobs removes the documents older than SweepAge that no row names,
// such as a crash between document and transaction leaves, and returns how
// many it removed.
func (s *Store) SweepBlobs(ctx context.Context, now time.Time) (int, error) {
	n, err := s.blobs.Sweep(now.Add(-SweepAge), func(d blob.Digest) (bool, error) {
		var names int
		err := s.view(ctx, func(tx *Tx) error {
			return tx.QueryRow(ctx, `
				SELECT COUNT(*) FROM (
					SELECT 1 FROM scans WHERE result_digest = ?
					UNION ALL SELECT 1 FROM scans WHERE profile_digest = ?
					UNION ALL SELECT 1 FROM scans WHERE threshold_digest = ?
					UNION ALL SELECT 1 FROM profiles WHERE digest = ?
					UNION ALL SELECT 1 FROM insight_documents WHERE digest = ?
					UNION ALL SELECT 1 FROM insight_quarantine WHERE digest = ?
					UNION ALL SELECT 1 FROM recordings WHERE digest = ?
				) AS named`, d, d, d, d, d, d, d).Scan(&names)
		})
		return names > 0, err
	})
	if err != nil {
		return n, fmt.Errorf("sweep documents: %w", err)
	}
	return n, nil
}
